//! What is known of each service, to be shown.

use core::net::SocketAddr;
use std::sync::Arc;

use uvs_director::spec::ServiceKey;
use uvs_director::{Duration, Instant};

use super::Core;
use super::event::State;
use super::table::{Last, Outcomes, Phase, Service};
use crate::spec::ProbeSpec;
use crate::weight::{Slots, Writer};

/// A service.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// Its name.
    pub key: ServiceKey,
    /// Whether it has a quorum at all; else nothing but weights is known of it.
    pub judged: bool,
    /// Whether it has its quorum; `None` until its first results have come.
    pub quorum: Option<bool>,
    /// Whether its backups serve.
    pub backup: bool,
    /// Its destinations, in the order of the configuration.
    pub destinations: Vec<DestinationView>,
}

/// A destination.
#[derive(Clone, Debug)]
pub struct DestinationView {
    /// Its name.
    pub addr: SocketAddr,
    /// Whether it is a backup.
    pub backup: bool,
    /// Whether all of its checks are up and it is not held for its flaps.
    pub in_service: bool,
    /// When that changed last.
    pub since: Instant,
    /// How often it went out of service.
    pub flaps: u64,
    /// Until when it is held out of service for its flaps, if it is.
    pub held_until: Option<Instant>,
    /// What each writer said of its weight.
    pub slots: Slots,
    /// What it weighs.
    pub weight: u32,
    /// Who had the last word on that.
    pub by: Writer,
    /// Its checks.
    pub checks: Vec<CheckView>,
}

/// A check.
#[derive(Clone, Debug)]
pub struct CheckView {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub probe: Arc<ProbeSpec>,
    /// What it says.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// How many results in a row speak against that...
    pub against: u32,
    /// ...and how many change it.
    pub needed: u32,
    /// The last result.
    pub last: Option<Last>,
    /// How often it came to which end.
    pub outcomes: Outcomes,
    /// How often it went down.
    pub flaps: u64,
    /// How many checks share its probe, this one included.
    pub shared: usize,
    /// When the next result has to be there at the latest; `None`: it is not wanted.
    pub expected: Option<Instant>,
    /// By how much the last probe started late.
    pub late: Duration,
    /// When the server's certificate expires, in seconds since 1970.
    pub expires: Option<i64>,
}

impl CheckView {
    /// Whether its result should long have come: whoever drives the checks is stuck, or has too many of them.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.expected.is_some_and(|expected| now > expected)
    }
}

impl Core {
    /// All services, in the order of the plan.
    pub fn view(&self) -> Vec<ServiceView> {
        self.services.iter().map(|service| self.view_of(service)).collect()
    }

    /// One service, if there is one of that key in the plan. Costs what that one does, however many there are.
    pub fn service_view(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.services.iter().find(|service| service.key == *key).map(|service| self.view_of(service))
    }

    fn view_of(&self, service: &Service) -> ServiceView {
        ServiceView {
            key: service.key,
            judged: service.judged,
            quorum: service.held,
            backup: service.backup,
            destinations: service.destinations.iter().map(|at| self.destination_view(*at)).collect(),
        }
    }

    fn destination_view(&self, at: usize) -> DestinationView {
        let destination = &self.destinations[at];
        let (weight, by) = destination.slots.effective();
        DestinationView {
            addr: destination.addr,
            backup: destination.backup,
            in_service: destination.in_service,
            since: destination.since,
            flaps: destination.flaps,
            held_until: destination.held_until,
            slots: destination.slots,
            weight,
            by,
            checks: destination.checks.iter().map(|at| self.check_view(*at)).collect(),
        }
    }

    fn check_view(&self, at: usize) -> CheckView {
        let check = &self.checks[at];
        let probe = &self.probes[check.probe];
        let schedule = &probe.spec.schedule;
        let expected = match probe.phase {
            Phase::Idle => None,
            Phase::Due(at) | Phase::Waiting(at) => Some(at + schedule.timeout + schedule.interval),
            Phase::Running(_, end) => Some(end),
        };
        CheckView {
            name: check.name.clone(),
            probe: probe.spec.clone(),
            state: check.state(),
            since: check.since,
            against: check.streak.against(),
            needed: match check.state() {
                State::Unchecked => 1,
                State::Up => check.fall,
                State::Down | State::Unmade => check.rise,
            },
            last: check.last.clone(),
            outcomes: check.outcomes,
            flaps: check.flaps,
            shared: probe.checks.len(),
            expected,
            late: probe.late,
            expires: check.expires,
        }
    }
}
