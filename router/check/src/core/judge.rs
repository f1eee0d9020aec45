//! From checks to destinations, from destinations to the service, and from all of that to weights.

use uvs_director::{Duration, Instant};

use super::Core;
use super::event::{Event, Order, State, What};
use super::timers::Owner;
use crate::spec::{Kind, Policy};
use crate::weight::{Admin, Writer, put, replace};

/// A service is not settled again before so much time has passed for each of its destinations.
const PAUSE: Duration = Duration::from_micros(1);
/// A slow start grows in so many steps.
const STEPS: u32 = 20;

impl Core {
    /// Tells that a check changed its state, if it did.
    pub(super) fn tell_of(&mut self, at: usize, before: State, reason: &str, now: Instant) {
        let check = &mut self.checks[at];
        let to = check.state();
        if before == to {
            return;
        }
        check.since = now;
        let destination = &self.destinations[check.destination];
        self.events.push(Event {
            at: now,
            service: self.services[destination.service].key,
            what: What::Check {
                destination: destination.addr,
                check: check.name.clone(),
                from: before,
                to,
                reason: reason.to_owned(),
            },
        });
    }

    /// Says anew whether a destination is in service, and what that means for its service.
    pub(super) fn judge(&mut self, index: usize, now: Instant) {
        let destination = &self.destinations[index];
        let policy = self.services[destination.service].policy;
        let serves = |at: &usize| {
            let check = &self.checks[*at];
            check.serves(&self.probes[check.probe].spec.kind)
        };
        let up = destination.checks.iter().all(serves);
        let spare = destination.checks.iter().all(|at| {
            let check = &self.checks[*at];
            check.is_spare(&self.probes[check.probe].spec.kind)
        });
        let is_down = destination.checks.iter().any(|at| self.checks[*at].state() == State::Down);
        let reason = if destination.up == up { String::new() } else { self.reason(index, up) };

        // To know nothing of it any more is no fall.
        let fell =
            destination.checks.iter().any(|at| !serves(at) && self.checks[*at].state() != State::Unchecked);
        let destination = &mut self.destinations[index];
        if destination.up && !up && fell {
            destination.damping.fall(policy.damping, now);
        }
        (destination.up, destination.spare) = (up, spare);
        let held = destination.damping.held_until(policy.damping, now).filter(|_| up);
        if let Some(until) = held.filter(|_| destination.held_until.is_none()) {
            let what = What::Held { destination: destination.addr, until };
            self.events.push(Event { at: now, service: self.services[destination.service].key, what });
        }
        destination.held_until = held;
        let in_service = up && held.is_none();
        let news = destination.in_service != in_service;
        if news {
            destination.in_service = in_service;
            destination.since = now;
            destination.flaps += u64::from(!in_service && (up || fell));
            let recovered = in_service && destination.was_down && !policy.slow_start.is_zero();
            destination.slow_start = recovered.then_some(now);
            let reason =
                if reason.is_empty() { "it was held for its flaps until now".into() } else { reason };
            let (service, addr) = (destination.service, destination.addr);
            self.events.push(Event {
                at: now,
                service: self.services[service].key,
                what: What::Destination { destination: addr, in_service, reason },
            });
        }
        destination.was_down = !in_service && (destination.was_down || is_down);
        self.grow(index, now);
        let known = self.is_known(index);
        let destination = &mut self.destinations[index];
        let settled = Some(([up, spare, in_service, known], destination.slots));
        if destination.settled != settled {
            destination.settled = settled;
            self.dirty.push(destination.service);
        }
    }

    /// Settles the services of which something has changed: those of many destinations not at every result.
    pub(super) fn settle_all(&mut self, now: Instant) {
        let mut dirty = core::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for service in dirty {
            if now < self.settles_at(service) {
                self.dirty.push(service);
            } else {
                self.settle(service, now);
            }
        }
    }

    /// When a service may be settled again.
    pub(super) fn settles_at(&self, index: usize) -> Instant {
        let service = &self.services[index];
        let pause = PAUSE * u32::try_from(service.destinations.len()).unwrap_or(u32::MAX);
        service.settled.map_or(Instant::ZERO, |settled| settled + pause)
    }

    /// Why a destination is, or is not, up.
    fn reason(&self, index: usize, up: bool) -> String {
        let destination = &self.destinations[index];
        if up {
            let agents =
                |at: &&usize| !matches!(self.probes[self.checks[**at].probe].spec.kind, Kind::Agent { .. });
            return match destination.checks.iter().filter(agents).count() {
                0 => "it has no check".into(),
                1 => "its check is up".into(),
                many => format!("its {many} checks are up"),
            };
        }
        let against = destination
            .checks
            .iter()
            .map(|at| &self.checks[*at])
            .find(|check| !check.serves(&self.probes[check.probe].spec.kind));
        against.map_or_else(String::new, |check| {
            let last = check.last.as_ref().filter(|_| check.state() != State::Unchecked);
            match check.cannot.as_deref().or(last.map(|last| &*last.text)) {
                Some(text) => format!("check {} is {}: {text}", check.name, check.state()),
                None => format!("check {} is {}", check.name, check.state()),
            }
        })
    }

    /// A slow start goes on, and the timer for that and for the end of damping is set.
    fn grow(&mut self, index: usize, now: Instant) {
        let destination = &mut self.destinations[index];
        let whole = self.services[destination.service].policy.slow_start;
        let mut next = destination.held_until;
        let mut percent = None;
        if let Some(began) = destination.slow_start {
            let passed = now.since(began);
            if passed >= whole {
                destination.slow_start = None;
            } else {
                let share = passed.as_nanos() * 100 / whole.as_nanos().max(1);
                percent = Some(u32::try_from(share).unwrap_or(100).max(1));
                next = Some(now + whole / STEPS);
            }
        }
        put(&mut destination.slots.slow_start, percent, now);
        destination.stamp = next.map_or(0, |at| self.timers.set(at, Owner::Destination(index)));
        self.compact();
    }

    /// Quorum, pools and weights of a service.
    fn settle(&mut self, index: usize, now: Instant) {
        self.services[index].settled = Some(now);
        let service = &self.services[index];
        let (quorum, key) = (service.quorum, service.key);
        let Policy { on_down, drain, .. } = service.policy;
        let (mut weight, mut total, mut backup_ready, mut rescue) = (0_u64, 0_u64, false, true);
        for at in &service.destinations {
            let destination = &self.destinations[*at];
            let wanted = u64::from(destination.slots.wanted().0);
            let serves = destination.in_service && destination.slots.admin() == Admin::Ready;
            match destination.backup {
                true => backup_ready |= serves && wanted > 0,
                false => {
                    total += wanted;
                    weight += if serves { wanted } else { 0 };
                }
            }
            rescue &= !(serves && wanted > 0);
        }
        let known = service.destinations.iter().all(|at| self.is_known(*at));
        let held = if weight == 0 {
            false
        } else {
            // To ask for more than there is would be to ask for what never comes.
            let (least, hysteresis) = (quorum.least.of(total).min(total), quorum.hysteresis.of(total));
            match service.held {
                Some(false) => weight >= least.saturating_add(hysteresis).min(total),
                Some(true) => weight >= least.saturating_sub(hysteresis),
                None => weight >= least,
            }
        };
        let service = &mut self.services[index];
        let before = service.held;
        // While first results are still to come, nothing is lost yet.
        let told = if service.judged && (held || known || before.is_some()) { Some(held) } else { None };
        service.held = told;
        if told != before {
            let what = What::Quorum { held, first: before.is_none(), weight, of: total };
            self.events.push(Event { at: now, service: key, what });
        }
        let backup = told == Some(false) && backup_ready;
        if backup != service.backup {
            service.backup = backup;
            self.events.push(Event { at: now, service: key, what: What::Backup { serves: backup } });
        }
        for at in service.destinations.clone() {
            let destination = &mut self.destinations[at];
            // A destination that flaps, or whose clients fail while nothing else is known, is better than none.
            let able = destination.in_service || (rescue && destination.spare);
            let health = able && destination.backup == backup;
            replace(&mut destination.slots.health, health, now);
            let (weight, by) = destination.slots.effective();
            let down = (by == Writer::Health && !destination.up).then_some(on_down);
            let is_quiesced = destination.slots.wanted().0 == 0 || destination.slots.admin() != Admin::Ready;
            let before = destination.quiesced.replace(is_quiesced);
            let quiesced = before.is_some_and(|before| before != is_quiesced).then_some(is_quiesced);
            if destination.told != Some((weight, down)) || quiesced.is_some() {
                destination.told = Some((weight, down));
                let destination = destination.addr;
                self.orders.push(Order { service: key, destination, weight, by, down, quiesced, drain });
            }
        }
    }

    /// Whether all checks of a destination have had a result, or cannot have one.
    fn is_known(&self, index: usize) -> bool {
        self.destinations[index].checks.iter().all(|at| {
            let check = &self.checks[*at];
            check.state() != State::Unchecked
                || matches!(self.probes[check.probe].spec.kind, Kind::Agent { .. })
        })
    }
}
