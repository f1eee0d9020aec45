//! Chance enough to spread probes in time.

use uvs_director::{Duration, splitmix64};

/// The distance of two neighbours in [`Even`]: a whole by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        splitmix64(&mut self.0)
    }

    /// From zero to below `max`.
    pub(crate) fn below(&mut self, max: Duration) -> Duration {
        share(max, self.next())
    }

    /// `duration`, longer or shorter by up to `percent`.
    pub(crate) fn around(&mut self, duration: Duration, percent: u8) -> Duration {
        let range = duration.saturating_mul(u32::from(percent)) / 100;
        duration.saturating_sub(range) + self.below(range.saturating_mul(2))
    }
}

/// Moments that fill a span evenly, however many there are, and of which neighbours are far from each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Even(u64);

impl Even {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self(random.next())
    }

    /// From zero to below `max`.
    pub(crate) fn below(&mut self, max: Duration) -> Duration {
        self.0 = self.0.wrapping_add(GOLDEN);
        share(max, self.0)
    }
}

/// So many 2^64ths of it.
fn share(max: Duration, of: u64) -> Duration {
    let nanos = (max.as_nanos() * u128::from(of)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
