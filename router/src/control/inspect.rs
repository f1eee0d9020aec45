//! `inspect`: the network as the director sees it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uvs_config::Config;
use uvs_control::Error;
use uvs_control::inspect::{Answer, Conflict, Interface, Request, Server};
use uvs_director::spec::Link;
use uvs_director::view::{AddressConflict, NeighborView};

use super::blocking;
use crate::pages::Live;

/// How long answers to a probe are waited for.
const PROBE: Duration = Duration::from_secs(1);
/// More neighbours than these are not told of.
const NEIGHBORS_MAX: usize = 1000;

/// The answer at this moment, or after a second of probing.
pub(super) async fn answer(request: Request, live: Arc<Live>) -> Result<Answer, Error> {
    let before = live.director.conflicts();
    if request.probe {
        live.ask_links.notify_one();
        tokio::time::sleep(PROBE).await;
    }
    blocking(move || look(&live, &before)).await
}

fn look(live: &Live, before: &[AddressConflict]) -> Answer {
    let config = live.config();
    let mut interfaces = of_config(&config);
    for (interface, now) in interfaces.iter_mut().zip(live.director.interfaces()) {
        interface.addresses = now.addresses.iter().map(ToString::to_string).collect();
    }
    let name = |port: usize| live.interfaces.get(port).cloned().unwrap_or_default();
    let known: HashMap<_, u64> = before.iter().map(|it| ((it.addr, it.mac, it.port), it.count)).collect();
    let conflict = |it: &AddressConflict| Conflict {
        address: it.addr.to_string(),
        mac: it.mac.to_string(),
        interface: name(usize::from(it.port.0)),
        count: it.count,
        now: known.get(&(it.addr, it.mac, it.port)).copied().unwrap_or_default() < it.count,
    };
    let mut servers = HashSet::new();
    live.director.weights(|_, destination, _| {
        servers.insert(destination.ip());
    });
    let routers: HashSet<IpAddr> = config.routes.iter().filter_map(|route| route.via).collect();
    let neighbors = live.director.neighbors();
    let wanted = neighbors.iter().filter(|it| servers.contains(&it.addr) || routers.contains(&it.addr));
    let (resolved, unresolved): (Vec<&NeighborView>, Vec<&NeighborView>) =
        wanted.partition(|it| it.mac.is_some());
    Answer {
        conflicts: live.director.conflicts().iter().map(conflict).collect(),
        unresolved: unresolved
            .iter()
            .take(NEIGHBORS_MAX)
            .map(|it| format!("{} on {}", it.addr, name(usize::from(it.port.0))))
            .collect(),
        servers: resolved
            .iter()
            .take(NEIGHBORS_MAX)
            .filter_map(|it| Some(Server { address: it.addr.to_string(), mac: it.mac?.to_string() }))
            .collect(),
        hairpins: live.director.hairpins(),
        ..of_host(&config, interfaces)
    }
}

/// What a configuration says of the network, without a director.
pub fn network_of(config: &Config) -> Answer {
    of_host(config, of_config(config))
}

fn of_host(config: &Config, interfaces: Vec<Interface>) -> Answer {
    let cache = config.modules.cache.resolve(std::env::var_os("CACHE_DIRECTORY").map(Into::into));
    Answer { interfaces, module_cache: cache.map(|path| path.display().to_string()), ..Answer::default() }
}

/// The interfaces that a configuration has.
fn of_config(config: &Config) -> Vec<Interface> {
    let of = |it: &uvs_config::Interface| Interface {
        name: it.spec.name.clone(),
        device: if matches!(it.spec.link, Link::Ethernet(_)) { "tap".into() } else { "tun".into() },
        addresses: it.spec.addresses.iter().map(ToString::to_string).collect(),
        mtu: it.spec.mtu,
        bridge: it.bridge.as_ref().map(|bridge| bridge.name.clone()),
        ports: it.bridge.as_ref().map(|bridge| bridge.ports.clone()).unwrap_or_default(),
        link: it.direct.as_ref().map(|direct| direct.link.clone()),
        forwarding: it.host.as_ref().is_some_and(|host| host.forwarding),
    };
    config.interfaces.iter().map(of).collect()
}
