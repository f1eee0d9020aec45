//! Time that never goes back, whatever the caller's clock does.

use core::time::Duration;

use uvs_director::Instant;

/// Adds up what the caller's clock moves forward. It should be a monotonic one; if it is not, and is set back, time
/// stands still for that moment and goes on from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The caller's clock at the last call.
    theirs: Instant,
    /// Time passed since the start.
    ours: Instant,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        Self { theirs: now, ours: Instant::ZERO }
    }

    /// The moment, and how much time has passed since the last call.
    pub(crate) fn advance(&mut self, now: Instant) -> (Instant, Duration) {
        let passed = now.since(self.theirs);
        self.theirs = now;
        self.ours = self.ours + passed;
        (self.ours, passed)
    }

    /// The moment of the last call.
    pub(crate) fn now(&self) -> Instant {
        self.ours
    }

    /// What the caller's clock will say then.
    pub(crate) fn theirs(&self, at: Instant) -> Instant {
        self.theirs + at.since(self.ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_time() {
        let mut clock = Clock::new(Instant::from_secs(1000));
        let second = Duration::from_secs(1);
        assert_eq!(clock.advance(Instant::from_secs(1001)), (Instant::from_secs(1), second));
        assert_eq!(clock.advance(Instant::from_secs(5)), (Instant::from_secs(1), Duration::ZERO));
        assert_eq!(clock.advance(Instant::from_secs(6)), (Instant::from_secs(2), second));
        assert_eq!(clock.theirs(Instant::from_secs(12)), Instant::from_secs(16));
        assert_eq!(clock.theirs(Instant::ZERO), Instant::from_secs(6), "what is due already is due now");
        assert_eq!(clock.now(), Instant::from_secs(2));
    }
}
