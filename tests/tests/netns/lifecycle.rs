//! `uvs run` comes and goes, and the host is as it was before.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::Signal;
use uvs_device::net::{LinkState, Net, RouteState};
use uvs_director::spec::{Family, Prefix};
use uvs_lab::Host;
use uvs_lab::topology::{Method, Plan};

use crate::peer::{Peer, Talk};
use crate::stage::{Running, eventually, topology, turn};

/// What of a host a director changes while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    links: Vec<LinkState>,
    addresses: Vec<(u32, Prefix)>,
    routes: Vec<RouteState>,
    rules: Vec<String>,
    /// The settings of `/proc/sys/net/ipv4`, of which forwarding changes many.
    settings: BTreeMap<String, String>,
}

impl Shape {
    pub(crate) fn of(host: &Host) -> Self {
        host.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let net = Net::new().unwrap();
                let rules = net.rules(Family::V4).await.unwrap();
                let mut routes = net.routes().await.unwrap();
                routes.sort();
                Self {
                    links: net.links().await.unwrap(),
                    addresses: net.addresses().await.unwrap(),
                    routes,
                    rules: rules.iter().map(|rule| format!("{rule:?}")).collect(),
                    settings: settings(),
                }
            })
        })
        .unwrap()
    }

    fn links(&self) -> Vec<&str> {
        self.links.iter().map(|link| link.name.as_str()).collect()
    }
}

/// The settings of the calling thread's network namespace that forwarding is about.
fn settings() -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut read = |path: String| {
        if let Ok(value) = fs::read_to_string(&path) {
            settings.insert(path, value);
        }
    };
    read("/proc/sys/net/ipv4/ip_forward".to_owned());
    for link in fs::read_dir("/proc/sys/net/ipv4/conf").unwrap() {
        for name in ["forwarding", "rp_filter", "send_redirects", "accept_redirects"] {
            read(format!("{}/{name}", link.as_ref().unwrap().path().display()));
        }
    }
    settings
}

/// A config that makes use of everything a director does to its host: TAPs in bridges, and a TUN device with
/// addresses, a route, a rule and forwarding.
fn everything(config: &str) -> String {
    let tun = "\n[[interface]]\nname = \"t0\"\ndevice = \"tun\"\naddresses = [\"10.255.0.2/30\"]\n\
        host = { addresses = [\"10.255.0.1/30\"], routes = [\"10.9.0.0/24\"], replies_from = [\"eth1\"], forwarding = true }\n";
    config.replacen("\n[[service]]", &format!("{tun}\n[[service]]"), 1)
}

#[test]
fn twenty_starts_and_stops_leave_no_trace() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    let host = &topology.director;
    let server = &topology.real_servers[0];
    let peer = Peer::start(&server.host, server.listen);
    let config = everything(&topology.config);
    let before = Shape::of(host);
    let folder_before = namespaces();

    let mut director = Running::start(host, &config);
    for round in 0..20 {
        if round > 0 {
            director.start_again();
        }
        let running = Shape::of(host);
        for name in ["c0", "r0", "t0", "br-c0", "br-r0"] {
            assert!(running.links().contains(&name), "round {round}: {name} is there: {running:?}");
        }
        assert_eq!(running.rules.len(), before.rules.len() + 1, "round {round}: replies are steered");
        assert_ne!(running.settings, before.settings, "round {round}: the host forwards");
        let client = &topology.clients[0].host;
        client.run(|| Talk::open(topology.service).unwrap().say(b"it works").unwrap()).unwrap();
        let signal = if round % 2 == 0 { Signal::SIGTERM } else { Signal::SIGINT };
        let status = director.stop(signal);
        assert!(status.success(), "round {round}: {status} after {signal}");
        assert_eq!(Shape::of(host), before, "round {round}, after {signal}");
        assert_eq!(namespaces(), folder_before, "round {round}: no namespace has a name");
    }
    assert_eq!(peer.clients().len(), 20);
}

/// Namespaces with a name, as `ip netns` makes them.
fn namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What SIGKILL leaves: the devices go with the process, and with them their addresses, routes and tables. The bridges,
/// the rule and the settings stay, and a record of them. The next start takes them over, and the last one undoes them
/// all.
#[test]
fn after_sigkill_no_device_is_left_and_the_next_start_undoes_the_rest() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    let host = &topology.director;
    let server = &topology.real_servers[0];
    let _peer = Peer::start(&server.host, server.listen);
    let config = everything(&topology.config);
    let before = Shape::of(host);
    let works = || {
        let client = &topology.clients[0].host;
        client.run(|| Talk::open(topology.service).unwrap().say(b"it works").unwrap()).unwrap();
    };

    let mut director = Running::start(host, &config);
    works();
    let status = director.stop(Signal::SIGKILL);
    assert!(!status.success());
    // The process is gone, but the kernel may still be at taking its files away.
    let killed = eventually("the devices vanish", || {
        let shape = Shape::of(host);
        (!shape.links.iter().any(|link| ["c0", "r0", "t0"].contains(&link.name.as_str()))).then_some(shape)
    });
    let mut left = killed.links();
    left.retain(|name| !before.links().contains(name));
    left.sort_unstable();
    assert_eq!(left, ["br-c0", "br-r0"], "the bridges stay");
    assert_eq!(killed.addresses, before.addresses);
    assert_eq!(killed.routes.len(), before.routes.len(), "{:?}", killed.routes);

    for _ in 0..2 {
        director.start_again();
        works();
        assert_eq!(Shape::of(host).rules.len(), before.rules.len() + 1, "none of the dead one's is left");
        director.stop(Signal::SIGKILL);
    }
    director.start_again();
    works();
    assert!(director.stop(Signal::SIGTERM).success());
    assert_eq!(Shape::of(host), before, "as before the first start");
}
