//! How many ICMP errors the director originates (RFC 1812 section 4.3.2.8).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::base::time::Instant;

/// A token bucket for errors.
pub(crate) struct ErrorLimit {
    per_second: u64,
    /// When the bucket would have been empty: a moment that runs ahead of `now` as errors are sent.
    horizon: AtomicU64,
}

impl ErrorLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: u64::from(per_second), horizon: AtomicU64::new(0) }
    }

    pub(crate) fn allow(&self, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let cost = 1_000_000_000 / self.per_second;
        let burst = (self.per_second / 20).max(1) * cost;
        let now = now.as_nanos();
        let spend = |horizon: u64| {
            let next = horizon.max(now) + cost;
            (next <= now + burst).then_some(next)
        };
        self.horizon.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}
