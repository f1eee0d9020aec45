//! What the core keeps: services, destinations, checks and probes, each in a list and known by its index.

use core::net::SocketAddr;
use std::sync::Arc;

use uvs_director::spec::ServiceKey;
use uvs_director::view::Observations;
use uvs_director::{Duration, Instant};

use super::damping::Damping;
use super::event::State;
use super::streak::{Health, Streak};
use crate::outcome::Text;
use crate::spec::{CheckPlan, Kind, OnDown, Passive, Policy, ProbeSpec, Quorum, Unmade};
use crate::weight::{Share, Slots};

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) key: ServiceKey,
    pub(crate) quorum: Quorum,
    pub(crate) policy: Policy,
    /// Whether it has a quorum at all.
    pub(crate) judged: bool,
    /// Its destinations, in the order of the plan.
    pub(crate) destinations: Vec<usize>,
    /// Whether it has its quorum; `None` until that is known.
    pub(crate) held: Option<bool>,
    /// Whether the backups serve.
    pub(crate) backup: bool,
    /// When that was looked at last.
    pub(crate) settled: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) addr: SocketAddr,
    pub(crate) service: usize,
    pub(crate) backup: bool,
    pub(crate) checks: Vec<usize>,
    pub(crate) slots: Slots,
    pub(crate) damping: Damping,
    /// Whether all of its checks are up, as far as is known.
    pub(crate) up: bool,
    /// Whether it may serve where no other does: all but passive checks are up, and no probe of these has failed.
    pub(crate) spare: bool,
    /// Until when it is held out of service for its flaps.
    pub(crate) held_until: Option<Instant>,
    /// Whether it counts for the quorum: up and not held.
    pub(crate) in_service: bool,
    /// When that changed last.
    pub(crate) since: Instant,
    /// How often it went out of service.
    pub(crate) flaps: u64,
    /// When its slow start began.
    pub(crate) slow_start: Option<Instant>,
    /// Whether a check was down since it was last in service: to come back from that is a recovery.
    pub(crate) was_down: bool,
    /// What the director was last told, if anything.
    pub(crate) told: Option<(u32, Option<OnDown>)>,
    /// Whether it had no weight whatever its health, when that was last told.
    pub(crate) quiesced: Option<bool>,
    /// What its service knew of it when it was last settled.
    pub(crate) settled: Option<([bool; 4], Slots)>,
    /// Of its timer.
    pub(crate) stamp: u64,
}

/// How often a check came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Successes.
    pub passed: u64,
    /// Failures.
    pub failed: u64,
    /// Probes that could not be made.
    pub unmade: u64,
    /// Probes without a result in time.
    pub overdue: u64,
}

/// The last result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// When it came.
    pub at: Instant,
    /// How long the probe took.
    pub took: Duration,
    /// What it found, fit to be shown.
    pub text: Text,
}

#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: Arc<str>,
    pub(crate) destination: usize,
    pub(crate) probe: usize,
    pub(crate) rise: u32,
    pub(crate) fall: u32,
    pub(crate) unmade: Unmade,
    /// What it counts for until its first result.
    pub(crate) presumed: bool,
    /// Since when results count: what was asked before says nothing of the server that is there now.
    pub(crate) renewed: Instant,
    pub(crate) streak: Streak,
    /// Why its probe cannot be made, if it cannot.
    pub(crate) cannot: Option<Text>,
    /// When its state changed last.
    pub(crate) since: Instant,
    pub(crate) last: Option<Last>,
    pub(crate) outcomes: Outcomes,
    pub(crate) flaps: u64,
    /// The weight that it says, where it says one.
    pub(crate) script: Option<Share>,
    /// When the server's certificate expires, in seconds since 1970.
    pub(crate) expires: Option<i64>,
    /// Of which such moment it was told that it is near.
    pub(crate) told_expires: Option<i64>,
    /// Of passive checks.
    pub(crate) inhibition: Inhibition,
}

/// How a passive check keeps its destination out of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inhibition {
    /// What was seen of connections when they were counted last...
    pub(crate) seen: Option<Observations>,
    /// ...and when that was counted anew.
    pub(crate) from: Observations,
    /// Whether its probe is to tell now whether what is doubtful has failed.
    pub(crate) asked: bool,
    /// Whether its probe has failed since it went down.
    pub(crate) confirmed: bool,
    /// How long the last one was to be; zero: there was none.
    pub(crate) length: Duration,
    /// Until when nothing is tried, or, while it is up, asked.
    pub(crate) until: Instant,
    /// When the last one ended.
    pub(crate) ended: Instant,
}

impl Inhibition {
    /// The next one: twice as long as the last one if that is not over for long.
    pub(crate) fn begin(&mut self, spec: &Passive, again: bool, now: Instant) {
        let soon = again || (!self.length.is_zero() && now.since(self.ended) < self.length * 2);
        let length = if soon { self.length * 2 } else { spec.inhibit };
        self.length = length.clamp(spec.inhibit, spec.inhibit_max.max(spec.inhibit));
        self.until = now + self.length;
        self.forget();
    }

    /// What was seen until now counts no more.
    pub(crate) fn forget(&mut self) {
        self.from = self.seen.unwrap_or_default();
    }

    /// Takes what is seen now: how many connections have failed in a row for sure, and maybe, since it counts.
    pub(crate) fn see(&mut self, seen: Observations) -> (u64, u64) {
        let known = self.seen.replace(seen);
        // What was there before it looked is nothing to it; and one that was added again has seen nothing.
        if known.is_none_or(|known| known.failed > seen.failed || known.doubtful > seen.doubtful) {
            self.from = if known.is_none() { seen } else { Observations::default() };
        }
        let since = |in_a_row: u32, all: u64, from: u64| u64::from(in_a_row).min(all.saturating_sub(from));
        (
            since(seen.failed_in_a_row, seen.failed, self.from.failed),
            since(seen.doubtful_in_a_row, seen.doubtful, self.from.doubtful),
        )
    }
}

impl Check {
    pub(crate) fn new(
        plan: &CheckPlan,
        destination: usize,
        probe: usize,
        presumed: bool,
        now: Instant,
    ) -> Self {
        let mut streak = Streak::default();
        if matches!(plan.probe.kind, Kind::Passive(_)) {
            streak.decide(Health::Up);
        }
        Self {
            name: Arc::clone(&plan.name),
            destination,
            probe,
            rise: plan.rise.max(1),
            fall: plan.fall.max(1),
            unmade: plan.unmade,
            presumed,
            renewed: Instant::ZERO,
            streak,
            cannot: None,
            since: now,
            last: None,
            outcomes: Outcomes::default(),
            flaps: 0,
            script: None,
            expires: None,
            told_expires: None,
            inhibition: Inhibition::default(),
        }
    }

    /// What it held counts no more: it is unchecked again, and counts for what `start_up` says until its next result.
    /// What an agent has said only the agent takes back.
    pub(crate) fn renew(&mut self, kind: &Kind, start_up: bool, now: Instant) {
        self.renewed = now;
        match kind {
            Kind::Agent { .. } => {}
            // Nothing is seen of clients before it serves: where it was down, its probe says whether it may.
            Kind::Passive(_) => {
                self.cannot = None;
                self.inhibition.until = now;
                self.inhibition.forget();
                if start_up && self.streak.health() == Health::Down {
                    self.streak.decide(Health::Up);
                    self.inhibition.asked = true;
                }
            }
            _ => {
                (self.streak, self.cannot, self.script) = (Streak::default(), None, None);
                self.presumed = start_up;
            }
        }
    }

    pub(crate) fn state(&self) -> State {
        if self.cannot.is_some() { State::Unmade } else { self.streak.health().into() }
    }

    /// Whether its destination may serve, as far as it goes.
    pub(crate) fn serves(&self, kind: &Kind) -> bool {
        if self.cannot.is_some() && self.unmade == Unmade::Down {
            return false;
        }
        match self.streak.health() {
            Health::Up => true,
            Health::Down => false,
            // An agent that has said nothing keeps nobody from anything.
            Health::Unchecked => self.presumed || matches!(kind, Kind::Agent { .. }),
        }
    }

    /// Whether its destination is better than none, as far as it goes: it is passive, and no probe has failed yet.
    pub(crate) fn is_spare(&self, kind: &Kind) -> bool {
        let is_unconfirmed = matches!(kind, Kind::Passive(_)) && !self.inhibition.confirmed;
        is_unconfirmed && self.cannot.is_none() || self.serves(kind)
    }

    /// Whether the next result may change its mind, so that it is wanted soon.
    pub(crate) fn in_transition(&self) -> bool {
        self.streak.against() > 0 || (self.streak.health() == Health::Unchecked && self.cannot.is_none())
    }
}

#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) spec: Arc<ProbeSpec>,
    /// Who is told of its results.
    pub(crate) checks: Vec<usize>,
    /// What it is doing.
    pub(crate) phase: Phase,
    /// Of its timer.
    pub(crate) stamp: u64,
    /// When it was started last.
    pub(crate) started: Option<Instant>,
    /// How often in a row it could not be made.
    pub(crate) unmade: u32,
    /// By how much its last start was late.
    pub(crate) late: Duration,
}

/// What a probe is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing, and nobody wants it to.
    Idle,
    /// It waits for this moment.
    Due(Instant),
    /// It is due since then, and waits for a place among those that run.
    Waiting(Instant),
    /// It runs, under this number, and has to be over by then.
    Running(u64, Instant),
}

impl Probe {
    pub(crate) fn new(spec: Arc<ProbeSpec>) -> Self {
        Self {
            spec,
            checks: Vec::new(),
            phase: Phase::Idle,
            stamp: 0,
            started: None,
            unmade: 0,
            late: Duration::ZERO,
        }
    }

    /// Whether it is a process on this host, of which fewer may run.
    pub(crate) fn is_process(&self) -> bool {
        match &self.spec.kind {
            Kind::Exec(_) => true,
            Kind::Passive(passive) => matches!(*passive.confirm, Kind::Exec(_)),
            _ => false,
        }
    }
}
