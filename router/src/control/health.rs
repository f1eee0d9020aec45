//! `status`: what health checks say.

use uvs_check::core::{CheckView, DestinationView, ServiceView};
use uvs_check::weight::Admin;
use uvs_control::destination::Drain;
use uvs_control::status::{Check, Destination, Health};
use uvs_director::Instant;
use uvs_director::spec::ServiceKey;

use crate::pages::Live;

/// The services that are checked, or why that cannot be said.
pub(super) fn health(live: &Live) -> (Vec<Health>, Option<String>) {
    match live.checks.view() {
        Some(services) => {
            let now = live.clock.now();
            let shown = services.iter().filter(|service| is_shown(service));
            (shown.map(|service| of_service(service, live, now)).collect(), None)
        }
        None => (Vec::new(), Some(STUCK.into())),
    }
}

/// The same of one service.
pub(super) fn of_one(key: ServiceKey, live: &Live) -> (Vec<Health>, Option<String>) {
    match live.checks.view_of(key) {
        Some(view) => {
            let now = live.clock.now();
            let shown = view.iter().filter(|service| is_shown(service));
            (shown.map(|service| of_service(service, live, now)).collect(), None)
        }
        None => (Vec::new(), Some(STUCK.into())),
    }
}

const STUCK: &str = "health checks do not answer: what they said last stays in force";

/// Of a service that nobody judges there is something to say only while people keep a destination out of service.
fn is_shown(view: &ServiceView) -> bool {
    view.judged || view.destinations.iter().any(|it| it.slots.admin() != Admin::Ready)
}

fn of_service(view: &ServiceView, live: &Live, now: Instant) -> Health {
    let of = |it: &DestinationView| of_destination(it, live.drains.shown(&view.key, it.addr, now), now);
    Health {
        service: view.key.to_string(),
        judged: view.judged,
        quorum: view.quorum,
        backup: view.backup,
        destinations: view.destinations.iter().map(of).collect(),
    }
}

fn of_destination(view: &DestinationView, drain: Option<Drain>, now: Instant) -> Destination {
    Destination {
        destination: view.addr.to_string(),
        backup: view.backup,
        in_service: view.in_service,
        since_s: now.since(view.since).as_secs_f64(),
        weight: view.weight,
        weight_by: view.by.to_string(),
        admin: view.slots.admin().to_string(),
        drain,
        flaps: view.flaps,
        held_s: view.held_until.map(|until| until.since(now).as_secs_f64()),
        checks: view.checks.iter().map(|check| of_check(check, now)).collect(),
    }
}

fn of_check(view: &CheckView, now: Instant) -> Check {
    let last = view.last.as_ref();
    Check {
        name: view.name.to_string(),
        probe: format!("{} {}", view.probe.kind.word(), view.probe.target),
        state: view.state.to_string(),
        since_s: now.since(view.since).as_secs_f64(),
        against: view.against,
        needed: view.needed,
        last: last.map(|last| last.text.clone().into_owned()),
        last_age_s: last.map(|last| now.since(last.at).as_secs_f64()),
        took_s: last.map(|last| last.took.as_secs_f64()),
        overdue: view.is_overdue(now),
        shared: view.shared as u64,
        passed: view.outcomes.passed,
        failed: view.outcomes.failed,
        unmade: view.outcomes.unmade,
        certificate_expires: view.expires,
    }
}
