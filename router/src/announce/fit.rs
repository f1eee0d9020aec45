//! Whether a VIP is fit to be announced.

use std::collections::BTreeMap;
use std::net::IpAddr;

use uvs_config::{Announce, AnnounceWhile, Config};
use uvs_device::net::VipRoute;
use uvs_director::spec::{Link, ServiceKey};

use crate::alive;
use crate::event_loop::threads;
use crate::keeper::State;
use crate::pages::Live;

/// What is to be had of one VIP.
pub(super) struct Wish {
    /// The device that its packets come in by.
    pub(super) device: String,
    /// The route that announces it, or why it is not to be announced.
    pub(super) fit: Result<VipRoute, String>,
}

/// All VIPs that are to be announced while they are fit. `stop`: why none of them is.
pub(super) fn wishes(live: &Live, config: &Config, stop: Option<&str>) -> BTreeMap<IpAddr, Wish> {
    let Some(announce) = &config.announce else { return BTreeMap::new() };
    let mut services: BTreeMap<IpAddr, Vec<ServiceKey>> = BTreeMap::new();
    for key in live.director.service_set().keys() {
        if let ServiceKey::Address { addr, .. } = key
            && announce.has(addr.ip())
        {
            services.entry(addr.ip()).or_default().push(key);
        }
    }
    let beats = threads(&live.lanes).iter().map(|lane| &lane.beat);
    let stuck = alive::stuck(beats, &live.pulse, live.clock.now()).into_iter().next();
    let stop = stop.map(str::to_owned).or(stuck);
    let wish = |(vip, keys): (IpAddr, Vec<ServiceKey>)| {
        let Some((interface, via)) = config.entrance(vip) else {
            let fit = Err("no interface has it, or an address of its own that it is reached by".to_owned());
            return (vip, Wish { device: String::new(), fit });
        };
        let mac = match interface.spec.link {
            Link::Ethernet(mac) => Some(mac),
            Link::Ip => None,
        };
        let device = interface.spec.name.clone();
        let place = config.interfaces.iter().position(|it| it.spec.name == device);
        let route = VipRoute {
            vip,
            device: device.clone(),
            via: via.zip(mac),
            protocol: announce.protocol,
            table: announce.table,
            metric: announce.metric,
        };
        let fit = match &stop {
            Some(reason) => Err(reason.clone()),
            None => place_is_up(live, place).and_then(|()| are_fit(live, announce, keys)),
        };
        (vip, Wish { device, fit: fit.map(|()| route) })
    };
    services.into_iter().map(wish).collect()
}

fn place_is_up(live: &Live, place: Option<usize>) -> Result<(), String> {
    let interfaces = live.health.interfaces();
    match place.and_then(|place| interfaces.get(place)) {
        Some(health) if health.state == State::Down => {
            Err(format!("its interface is down: {}", health.reasons.join("; ")))
        }
        _ => Ok(()),
    }
}

/// Whether the services of one VIP are such that it is announced.
fn are_fit(live: &Live, announce: &Announce, mut keys: Vec<ServiceKey>) -> Result<(), String> {
    keys.sort_unstable();
    let mut judged = keys.iter().map(|key| serves(live, key));
    match announce.keeps {
        AnnounceWhile::Always => Ok(()),
        AnnounceWhile::All => judged.find(Result::is_err).unwrap_or(Ok(())),
        AnnounceWhile::Any => {
            let mut reasons = Vec::new();
            for judgement in judged {
                match judgement {
                    Ok(()) => return Ok(()),
                    Err(reason) => reasons.push(reason),
                }
            }
            Err(reasons.join("; "))
        }
    }
}

/// Whether a service takes new connections. What checks said last stays in force in the weights while they do not
/// answer.
fn serves(live: &Live, key: &ServiceKey) -> Result<(), String> {
    if live.director.serves(key) != Some(true) {
        return Err(format!("{key}: no destination takes new connections"));
    }
    match live.checks.view_of(*key) {
        Some(Some(checked)) if checked.judged && checked.quorum == Some(false) && !checked.backup => {
            Err(format!("{key}: quorum lost"))
        }
        _ => Ok(()),
    }
}
