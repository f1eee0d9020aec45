//! When to stop trusting a module: a pure machine over failures and time.
//!
//! ```text
//!            failures in a window        back-off over
//!   serving ---------------------> ejected ----------> serving, on probation (one failure ejects again)
//!                                     |                    `-- a good spell --> serving
//!                                     `-- too many in a row --> given up
//! ```

use uvs_director::{Duration, Instant};

use crate::policy::Policy;

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Go on; if the instance died, make a new one.
    Retry,
    /// Do without the module for this long.
    Eject(Duration),
    /// Do without it for good.
    GiveUp,
}

/// The record of one service's module.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    window_start: Instant,
    /// Ejections since the last good spell.
    ejections: u32,
    /// The end of the last ejection.
    returned_at: Instant,
}

impl Health {
    /// Takes note of a failure at `now`.
    pub(crate) fn fail(&mut self, policy: &Policy, now: Instant) -> Consequence {
        if self.ejections > 0 && now - self.returned_at >= policy.forgive {
            self.ejections = 0;
        }
        if self.failures == 0 || now - self.window_start >= policy.window {
            self.window_start = now;
            self.failures = 0;
        }
        self.failures += 1;
        let probation = self.ejections > 0 && now - self.returned_at < policy.window;
        if self.failures < policy.failures && !probation {
            return Consequence::Retry;
        }
        self.failures = 0;
        self.ejections += 1;
        if self.ejections >= policy.ejections {
            return Consequence::GiveUp;
        }
        let doublings = (self.ejections - 1).min(31);
        let backoff = policy.backoff.saturating_mul(1 << doublings).min(policy.backoff_max);
        self.returned_at = now + backoff;
        Consequence::Eject(backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn scattered_failures_are_retried_for_ever() {
        let mut health = Health::default();
        for i in 0..100 {
            // Four in each window of ten seconds.
            assert_eq!(health.fail(&Policy::default(), Instant::from_millis(i * 3_334)), Consequence::Retry);
        }
    }

    #[test]
    fn back_off_doubles_up_to_its_bound_and_ends_in_giving_up() {
        let policy = Policy::default();
        let mut health = Health::default();
        let mut now = at(100);
        for _ in 1..policy.failures {
            assert_eq!(health.fail(&policy, now), Consequence::Retry);
        }
        for n in 1..policy.ejections {
            let want = Duration::from_secs(1 << (n - 1)).min(policy.backoff_max);
            assert_eq!(health.fail(&policy, now), Consequence::Eject(want), "ejection {n}");
            now = now + want;
        }
        assert_eq!(health.fail(&policy, now), Consequence::GiveUp);
    }

    #[test]
    fn a_good_spell_wipes_the_slate() {
        let policy = Policy::default();
        let mut health = Health::default();
        for _ in 1..policy.failures {
            health.fail(&policy, at(1));
        }
        assert_eq!(health.fail(&policy, at(1)), Consequence::Eject(policy.backoff));
        assert_eq!(health.fail(&policy, at(2)), Consequence::Eject(policy.backoff * 2), "on probation");
        // Past probation, before forgiveness: a full budget, but the doubling goes on.
        for _ in 1..policy.failures {
            assert_eq!(health.fail(&policy, at(60)), Consequence::Retry);
        }
        assert_eq!(health.fail(&policy, at(60)), Consequence::Eject(policy.backoff * 4));
        let later = at(60) + policy.backoff * 4 + policy.forgive;
        for _ in 1..policy.failures {
            assert_eq!(health.fail(&policy, later), Consequence::Retry);
        }
        assert_eq!(health.fail(&policy, later), Consequence::Eject(policy.backoff), "from the start again");
    }
}
