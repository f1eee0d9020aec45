//! `sample`: what changes from second to second.

use uvs_control::sample::{Answer, Counters, Destination, Module, Request, Scheduler, Service, State, Trial};
use uvs_director::spec::ServiceKey;
use uvs_director::view;
use uvs_plugin::{ModuleStatus, TrialStatus, Work};

use super::{health, status};
use crate::alive::key_of;
use crate::pages::Live;
use crate::version::Build;
use crate::{events, words};

/// The answer at this moment. It reads counters; nothing that a packet waits for is held for longer than one of them
/// takes.
pub(super) fn answer(request: &Request, live: &Live, config: String) -> Answer {
    let now = live.director.status();
    let wanted = Wanted::of(request);
    let (health, stuck) = match (&wanted, request.checks) {
        (_, false) | (Wanted::Nothing, true) => (Vec::new(), None),
        (Wanted::All, true) => health::health(live),
        (Wanted::One(key), true) => health::of_one(*key, live),
    };
    let views = match &wanted {
        Wanted::All => live.director.services(),
        Wanted::One(key) => live.director.service_view(key).into_iter().collect(),
        Wanted::Nothing => Vec::new(),
    };
    Answer {
        version: Build::current().version.to_owned(),
        pid: std::process::id(),
        uptime_s: live.clock.now().since(uvs_director::Instant::ZERO).as_secs_f64(),
        time: events::now(),
        config,
        total: counters(&now.total),
        states: now.connections_by_state.iter().map(state).collect(),
        limits: status::limits(live, &now),
        drops: status::drops(&now),
        interfaces: status::interfaces(live),
        flow_cache: live.cache.as_ref().map(|cache| status::flow_cache(cache.status())),
        not_accelerated: status::not_accelerated(live),
        services: views.iter().map(|view| service(view, request.destinations)).collect(),
        health,
        schedulers: if request.schedulers { schedulers(&wanted, live) } else { Vec::new() },
        notices: live
            .health
            .notices()
            .into_iter()
            .chain(stuck)
            .chain(status::full_table(live, &now))
            .collect(),
    }
}

/// Of which services is to be told.
enum Wanted {
    All,
    One(ServiceKey),
    /// One that there cannot be.
    Nothing,
}

impl Wanted {
    fn of(request: &Request) -> Self {
        match &request.service {
            None => Self::All,
            Some(name) => key_of(name).map_or(Self::Nothing, Self::One),
        }
    }
}

fn counters(it: &view::Counters) -> Counters {
    Counters {
        connections: it.connections,
        packets_in: it.packets_in,
        packets_out: it.packets_out,
        bytes_in: it.bytes_in,
        bytes_out: it.bytes_out,
    }
}

fn state((protocol, state, count): &(uvs_director::spec::Protocol, &'static str, usize)) -> State {
    State { protocol: protocol.to_string(), state: (*state).to_owned(), connections: *count as u64 }
}

fn service(view: &view::ServiceView, with_destinations: bool) -> Service {
    let sums = status::service(view);
    Service {
        name: sums.name,
        scheduler: sums.scheduler,
        available: sums.available,
        destinations_total: sums.destinations,
        active: sums.active,
        inactive: sums.inactive,
        counters: counters(&view.counters),
        destinations: match with_destinations {
            true => view.destinations.iter().map(destination).collect(),
            false => Vec::new(),
        },
    }
}

fn destination(view: &view::DestinationView) -> Destination {
    Destination {
        name: view.spec.addr.to_string(),
        forwarding: words::method(view.spec.forwarding).to_owned(),
        weight: view.spec.weight,
        active: view.active,
        inactive: view.inactive,
        persistent: view.persistent,
        overloaded: view.overloaded,
        counters: counters(&view.counters),
    }
}

fn schedulers(wanted: &Wanted, live: &Live) -> Vec<Scheduler> {
    let mut list = match wanted {
        Wanted::All => live.schedulers.status(),
        Wanted::One(key) => live.schedulers.status_of(&key.to_string()).into_iter().collect(),
        Wanted::Nothing => Vec::new(),
    };
    list.sort_by(|a, b| a.service.cmp(&b.service));
    list.into_iter().map(scheduler).collect()
}

fn scheduler(it: uvs_plugin::Status) -> Scheduler {
    Scheduler {
        service: it.service,
        scheduler: it.scheduler,
        fallback: it.fallback,
        since: it.since,
        loaded: it.loaded,
        module: module(it.module, it.work),
        trial: it.trial.map(trial),
    }
}

fn module(it: ModuleStatus, work: Work) -> Module {
    Module {
        origin: it.origin,
        sha256: it.sha256,
        serving: work.serving,
        picks: work.picks,
        none: work.none,
        fallbacks: work.fallbacks,
        timed: work.timed,
        timed_ns: work.timed_ns,
        p99_ns: work.p99_ns,
        failures: work.failures,
        ejections: work.ejections,
        last_failure: work.last_failure,
    }
}

fn trial(it: TrialStatus) -> Trial {
    Trial {
        mode: it.mode,
        percent: it.percent,
        module: module(it.module, it.work),
        same: it.same,
        different: it.different,
        placed: it.placed,
        passed_on: it.passed_on,
    }
}
