//! `status`: the running director in figures.

use std::path::Path;
use std::sync::PoisonError;

use uvs_attach::CacheStatus;
use uvs_control::plan::Change;
use uvs_control::status::{
    Answer, Drops, Flow, FlowCache, Interface, Limit, Losses, NotAccelerated, Request, Scheduler, Service,
};
use uvs_director::PortId;
use uvs_director::view::{DestinationView, ServiceView, Status};

use crate::accelerate::Missing;
use crate::keeper::DeviceLosses;
use crate::pages::Live;
use crate::reload;
use crate::traffic::{self, FlowCounts};
use crate::version::Build;

/// So many changes by hand are told.
const BY_HAND_MAX: usize = 100;

/// The answer at this moment.
pub(super) fn answer(_: Request, live: &Live, config_file: &Path) -> Answer {
    let status = live.director.status();
    let (health, stuck) = super::health::health(live);
    let by_hand = live.with_parts(|parts| reload::by_hand(&live.config(), parts));
    Answer {
        version: Build::current().version.to_owned(),
        pid: std::process::id(),
        uptime_s: live.clock.now().since(uvs_director::Instant::ZERO).as_secs_f64(),
        config: config_file.display().to_string(),
        interfaces: interfaces(live),
        services: live.director.services().iter().map(service).collect(),
        schedulers: schedulers(live),
        flow_cache: live.cache.as_ref().map(|cache| flow_cache(cache.status())),
        not_accelerated: not_accelerated(live),
        limits: limits(live, &status),
        limits_lowered: live.lowered.clone(),
        drops: drops(&status),
        reload: live.reload.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        by_hand: by_hand.iter().take(BY_HAND_MAX).map(Change::line).collect(),
        by_hand_total: by_hand.len() as u64,
        notices: live.health.notices().into_iter().chain(stuck).collect(),
        health,
    }
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
    let limit = |name: &str, used: usize, max: usize| Limit {
        name: name.to_owned(),
        used: used as u64,
        max: max as u64,
    };
    vec![
        limit("connections", status.connections, status.connections_max),
        limit("neighbors", status.neighbors, live.limits.neighbors),
    ]
}
