//! Passive checks: what is seen of the connections of clients makes a destination go out of service for a while, which
//! grows, and a probe ends that.
//!
//! ```text
//!   so many failed in a row for sure -----------------------------> down > [inhibit, doubled each time] > probe
//!   so many, the doubtful ones among them --> probe -- fails ----->  ^ \-------------- fails ------------/ |
//!                                              `-- passes: forget           up <------- passes ------------'
//! ```
//! Doubtful is what anybody could feign who floods a service or sends ICMP errors: it only has the probe made at once.

use uvs_director::Instant;
use uvs_director::view::Observations;

use super::Core;
use super::streak::Health;
use super::table::{Check, Inhibition, Last};
use crate::spec::{Kind, Passive};

impl Inhibition {
    /// Its probe could not be made.
    pub(super) fn unmade(&mut self, spec: &Passive, now: Instant) {
        self.asked = false;
        self.until = now + self.length.max(spec.inhibit);
    }
}

impl Check {
    /// Its probe has told.
    pub(super) fn judge_passive(&mut self, spec: &Passive, passed: bool, now: Instant) {
        let inhibition = &mut self.inhibition;
        let asked = core::mem::take(&mut inhibition.asked);
        match (self.streak.health(), passed) {
            (Health::Down, true) => {
                self.streak.decide(Health::Up);
                inhibition.ended = now;
                inhibition.confirmed = false;
                inhibition.forget();
            }
            (Health::Down, false) => {
                inhibition.confirmed = true;
                inhibition.begin(spec, true, now);
            }
            (_, false) if asked => {
                self.streak.decide(Health::Down);
                inhibition.confirmed = true;
                inhibition.begin(spec, false, now);
            }
            (_, true) if asked => {
                inhibition.forget();
                inhibition.until = now + spec.inhibit;
            }
            // It was made for another check.
            _ => {}
        }
    }
}

impl Core {
    /// What the data path has seen of connections to a destination, from the beginning on.
    pub fn observe(&mut self, destination: usize, seen: &Observations, now: Instant) {
        let Some(count) = self.destinations.get(destination).map(|known| known.checks.len()) else { return };
        for number in 0..count {
            let at = self.destinations[destination].checks[number];
            let probe = self.checks[at].probe;
            let Kind::Passive(spec) = &self.probes[probe].spec.kind else { continue };
            let check = &mut self.checks[at];
            if check.inhibition.seen.as_ref() == Some(seen) {
                continue;
            }
            let (failed, doubtful) = check.inhibition.see(*seen);
            let least = u64::from(spec.failures);
            if check.streak.health() == Health::Down {
                // Clients that were there before try on.
                check.inhibition.forget();
            } else if failed >= least {
                let before = check.state();
                check.streak.decide(Health::Down);
                check.cannot = None;
                check.flaps += 1;
                check.inhibition.confirmed = false;
                check.inhibition.asked = false;
                check.inhibition.begin(spec, false, now);
                let length = check.inhibition.length;
                let reason = format!("{failed} connections in a row failed; tried again in {length:?}");
                check.last = Some(Last { at: now, took: Default::default(), text: reason.clone().into() });
                self.tell_of(at, before, &reason, now);
                self.judge(destination, now);
                self.plan(probe, now);
            } else if failed + doubtful >= least && !check.inhibition.asked && now >= check.inhibition.until {
                check.inhibition.asked = true;
                check.inhibition.until = now;
                self.plan(probe, now);
            }
        }
    }
}
