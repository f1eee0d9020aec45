//! `status`: the running director in figures.

use std::path::Path;
use std::sync::PoisonError;

use uvs_attach::CacheStatus;
use uvs_control::plan::Change;
use uvs_control::status::{
    Answer, Drops, Flow, FlowCache, Interface, Limit, Losses, NotAccelerated, Request, Scheduler, Service,
};
use uvs_director::view::{DestinationView, ServiceView, Status};
use uvs_director::{DropReason, PortId};

use crate::accelerate::Missing;
use crate::keeper::DeviceLosses;
use crate::pages::Live;
use crate::reload::ByHand;
use crate::traffic::{self, FlowCounts};
use crate::version::Build;

/// So many changes by hand are told.
const BY_HAND_MAX: usize = 100;

/// The answer at this moment.
pub(super) fn answer(_: Request, live: &Live, by_hand: &ByHand, config_file: &Path) -> Answer {
    let status = live.director.status();
    let (health, stuck) = super::health::health(live);
    let (by_hand, services) = live.with_parts(|parts| by_hand.look(&live.config(), parts));
    Answer {
        version: Build::current().version.to_owned(),
        pid: std::process::id(),
        uptime_s: live.clock.now().since(uvs_director::Instant::ZERO).as_secs_f64(),
        config: config_file.display().to_string(),
        interfaces: interfaces(live),
        services: services.iter().map(service).collect(),
        schedulers: schedulers(live),
        flow_cache: live.cache.as_ref().map(|cache| flow_cache(cache.status())),
        not_accelerated: not_accelerated(live),
        limits: limits(live, &status),
        limits_lowered: live.lowered.clone(),
        drops: drops(&status),
        reload: live.reload.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        by_hand: by_hand.iter().take(BY_HAND_MAX).map(Change::line).collect(),
        by_hand_total: by_hand.len() as u64,
        notices: live.health.notices().into_iter().chain(stuck).chain(full_table(live, &status)).collect(),
        health,
    }
}

/// What the connection table at its limit costs, while it is there or nearly.
pub(super) fn full_table(live: &Live, status: &Status) -> Option<String> {
    limits(live, status).first().and_then(full)
}

fn full(connections: &Limit) -> Option<String> {
    if !connections.is_nearly_full() {
        return None;
    }
    let Limit { made_room, refused, .. } = *connections;
    let came = match (made_room, refused) {
        (0, 0) => "none had to make room yet".to_owned(),
        _ => format!(
            "so far {made_room} made room for new ones, and their packets belong to no connection any more; {refused} packets \
             of new ones were refused"
        ),
    };
    Some(format!(
        "the connection table is full ({}): {came}; raise connections under [limits], or find out who has so many (uvs \
         adm -Lnc)",
        connections.shown()
    ))
}

/// The reasons that have occurred.
pub(super) fn drops(status: &Status) -> Vec<Drops> {
    let occurred = status.drops.iter().filter(|(_, frames)| *frames > 0);
    occurred.map(|(reason, frames)| Drops { reason: reason.label().to_owned(), frames: *frames }).collect()
}

pub(super) fn not_accelerated(live: &Live) -> Vec<NotAccelerated> {
    let of = |it: &Missing| NotAccelerated { interface: it.interface.clone(), why: it.why.clone() };
    live.unaccelerated.iter().map(of).collect()
}

pub(super) fn flow_cache(status: CacheStatus) -> FlowCache {
    FlowCache {
        flows: status.flows as u64,
        flows_max: status.flows_max as u64,
        connections: status.placed,
        refused: status.refused,
        packets: status.packets,
    }
}

pub(super) fn interfaces(live: &Live) -> Vec<Interface> {
    let flow = |counts: &FlowCounts| Flow {
        frames: counts.frames,
        bytes: counts.bytes,
        errors: counts.errors.iter().sum(),
    };
    let losses = |it: &DeviceLosses| Losses {
        device: it.device.clone(),
        role: it.role.label().to_owned(),
        received_dropped: it.receive.0,
        received_errors: it.receive.1,
        transmitted_dropped: it.transmit.0,
        transmitted_errors: it.transmit.1,
    };
    let health = live.health.interfaces();
    (0u16..)
        .map(PortId)
        .zip(&live.interfaces)
        .zip(&live.datapaths)
        .map(|((port, name), datapath)| {
            let counts = traffic::sum(live.lanes.iter(), port);
            let health = health.get(usize::from(port.0)).cloned().unwrap_or_default();
            Interface {
                name: name.clone(),
                received: flow(&counts.received),
                transmitted: flow(&counts.transmitted),
                state: health.state.label().to_owned(),
                mtu: health.mtu,
                repairs: health.repairs,
                losses: health.losses.iter().map(losses).collect(),
                reasons: health.reasons,
                datapath: datapath.label.to_owned(),
                faster: datapath.faster.clone(),
            }
        })
        .collect()
}

pub(super) fn service(view: &ServiceView) -> Service {
    let available = |destination: &&DestinationView| destination.spec.weight > 0 && !destination.overloaded;
    let destinations = &view.destinations;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Service {
        name: view.spec.key.to_string(),
        scheduler: view.spec.scheduler.name.clone(),
        available: number(destinations.iter().filter(available).count()),
        destinations: number(destinations.len()),
        active: destinations.iter().map(|destination| u64::from(destination.active)).sum(),
        inactive: destinations.iter().map(|destination| u64::from(destination.inactive)).sum(),
        connections: view.counters.connections,
        connections_per_s: view.rates.connections,
        bytes_in_per_s: view.rates.bytes_in,
        bytes_out_per_s: view.rates.bytes_out,
    }
}

fn schedulers(live: &Live) -> Vec<Scheduler> {
    live.scheduler_samples()
        .into_iter()
        .map(|sample| Scheduler {
            service: sample.service,
            scheduler: sample.scheduler,
            serving: sample.serving.to_owned(),
            picks: sample.picks,
            failures: sample.failures.iter().map(|(_, count)| count).sum(),
            ejections: sample.ejections,
        })
        .collect()
}

pub(super) fn limits(live: &Live, status: &Status) -> Vec<Limit> {
    let dropped = |of: DropReason| {
        status.drops.iter().find(|(reason, _)| *reason == of).map_or(0, |(_, packets)| *packets)
    };
    let limit = |name: &str, (used, max): (usize, usize), made_room: u64, refused| Limit {
        name: name.to_owned(),
        used: used as u64,
        max: max as u64,
        reserved: 0,
        made_room,
        refused: dropped(refused),
    };
    let evicted = status.evicted.iter().map(|(_, count)| count).sum();
    let connections = (status.connections, status.connections_max);
    let neighbors = (status.neighbors, live.limits.neighbors);
    vec![
        Limit {
            reserved: status.connections_reserved as u64,
            ..limit("connections", connections, evicted, DropReason::ConnectionLimit)
        },
        limit("neighbors", neighbors, status.neighbors_evicted, DropReason::NeighborLimit),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_is_told_with_what_it_costs() {
        let limit =
            |used, made_room, refused| Limit { used, max: 100, made_room, refused, ..Limit::default() };
        assert_eq!(full(&limit(89, 5, 5)), None);
        assert_eq!(full(&Limit::default()), None);
        let cases = [
            (limit(90, 0, 0), "full (90 of 100): none had to make room"),
            (limit(100, 7, 0), "so far 7 made room"),
            (limit(100, 0, 3), "3 packets of new ones were refused"),
        ];
        // What others do not use is kept for them: at that a service is at the end of its room.
        let kept = Limit { reserved: 25, ..limit(68, 3, 0) };
        assert!(full(&kept).unwrap().contains("(68 of 100, 25 of which are kept for services with few)"));
        assert_eq!(full(&Limit { used: 67, ..kept }), None);
        for (limit, part) in cases {
            let said = full(&limit).unwrap();
            assert!(said.contains(part) && said.contains("connections under [limits]"), "{said}");
        }
    }
}
