//! Flaps are damped (RFC 2439): each fall adds a penalty of 1, which halves with time. Above a threshold the
//! destination is held out of service although its checks are up, until the penalty is small again.

use uvs_director::{Duration, Instant};

/// Above it a destination is held: three falls soon after each other.
const SUPPRESS: f64 = 2.5;
/// Below it one that is held is let go.
const REUSE: f64 = 1.0;
/// It never grows beyond this, so that nothing is held for more than three half-lives after its last fall.
const CEILING: f64 = 6.0;

/// The penalty of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Damping {
    penalty: f64,
    at: Instant,
    held: bool,
}

impl Damping {
    fn decayed(&self, half_life: Duration, now: Instant) -> f64 {
        if half_life.is_zero() {
            return 0.0;
        }
        self.penalty * (-now.since(self.at).as_secs_f64() / half_life.as_secs_f64()).exp2()
    }

    /// Notes a fall.
    pub(crate) fn fall(&mut self, half_life: Duration, now: Instant) {
        if half_life.is_zero() {
            *self = Self::default();
            return;
        }
        let penalty = (self.decayed(half_life, now) + 1.0).min(CEILING);
        *self = Self { penalty, at: now, held: self.held || penalty > SUPPRESS };
    }

    /// Until when it is held, if it is.
    pub(crate) fn held_until(&mut self, half_life: Duration, now: Instant) -> Option<Instant> {
        if !self.held {
            return None;
        }
        let penalty = self.decayed(half_life, now);
        // A nanosecond's rounding is no reason to come back for a nanosecond.
        if penalty <= REUSE * 1.000_001 {
            self.held = false;
            return None;
        }
        Some(now + half_life.mul_f64((penalty / REUSE).log2()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn three_falls_in_a_minute_hold_it_for_a_bounded_time() {
        let mut damping = Damping::default();
        for secs in [0, 10] {
            damping.fall(HALF_LIFE, Instant::from_secs(secs));
            assert_eq!(damping.held_until(HALF_LIFE, Instant::from_secs(secs)), None);
        }
        let now = Instant::from_secs(20);
        damping.fall(HALF_LIFE, now);
        let until = damping.held_until(HALF_LIFE, now).expect("it is held");
        assert!((80..100).contains(&until.since(now).as_secs()), "{until:?}");
        assert_eq!(damping.held_until(HALF_LIFE, until), None, "and let go when that is over");

        for second in 1000..2000 {
            damping.fall(HALF_LIFE, Instant::from_secs(second));
        }
        let now = Instant::from_secs(2000);
        let until = damping.held_until(HALF_LIFE, now).expect("it is held");
        assert!(until.since(now) < 3 * HALF_LIFE, "however often it fell: {until:?}");
    }

    #[test]
    fn rare_falls_are_not_damped_and_without_a_half_life_none_are() {
        let mut damping = Damping::default();
        for hour in 0..100 {
            let now = Instant::from_secs(hour * 3600);
            damping.fall(HALF_LIFE, now);
            assert_eq!(damping.held_until(HALF_LIFE, now), None);
        }
        for _ in 0..100 {
            damping.fall(Duration::ZERO, Instant::from_secs(1_000_000));
        }
        assert_eq!(damping.held_until(Duration::ZERO, Instant::from_secs(1_000_000)), None);
    }
}
