//! Counters and the rates drawn from them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

use crate::view::{Counters, Rates};

/// Counters that several workers add to at once.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    connections: AtomicU64,
    packets_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    estimator: Mutex<Estimator>,
}

impl Stats {
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_in(&self, packets: u64, bytes: u64) {
        self.packets_in.fetch_add(packets, Relaxed);
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn count_out(&self, packets: u64, bytes: u64) {
        self.packets_out.fetch_add(packets, Relaxed);
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            connections: self.connections.load(Relaxed),
            packets_in: self.packets_in.load(Relaxed),
            packets_out: self.packets_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }

    pub(crate) fn zero(&self) {
        for counter in
            [&self.connections, &self.packets_in, &self.packets_out, &self.bytes_in, &self.bytes_out]
        {
            counter.store(0, Relaxed);
        }
        *self.estimator.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Estimator::default();
    }

    /// One step of the rate estimator, to be called every [`Estimator::PERIOD_SECS`].
    pub(crate) fn estimate(&self) {
        let now = self.counters();
        self.estimator.lock().unwrap_or_else(std::sync::PoisonError::into_inner).step(now);
    }

    pub(crate) fn rates(&self) -> Rates {
        self.estimator.lock().unwrap_or_else(std::sync::PoisonError::into_inner).rates()
    }
}

/// The kernel's estimator: every 2 s each average moves a quarter of the way to the newest rate, in fixed
/// point (2^10 for connections and packets, 2^5 for bytes).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Estimator {
    last: Counters,
    averages: [i64; 5],
}

impl Estimator {
    pub(crate) const PERIOD_SECS: u64 = 2;

    fn step(&mut self, now: Counters) {
        let pairs = [
            (now.connections, self.last.connections, 9),
            (now.packets_in, self.last.packets_in, 9),
            (now.packets_out, self.last.packets_out, 9),
            (now.bytes_in, self.last.bytes_in, 4),
            (now.bytes_out, self.last.bytes_out, 4),
        ];
        for (average, (new, old, shift)) in self.averages.iter_mut().zip(pairs) {
            // Half of 2^10 and 2^5, since the difference spans two seconds.
            let rate = i64::try_from(new.saturating_sub(old)).unwrap_or(i64::MAX >> 10) << shift;
            *average += (rate - *average) >> 2;
        }
        self.last = now;
    }

    fn rates(&self) -> Rates {
        let round = |value: i64, add: i64, shift: u32| u64::try_from((value + add) >> shift).unwrap_or(0);
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = self.averages;
        Rates {
            connections: round(connections, 0x1ff, 10),
            packets_in: round(packets_in, 0x1ff, 10),
            packets_out: round(packets_out, 0x1ff, 10),
            bytes_in: round(bytes_in, 0xf, 5),
            bytes_out: round(bytes_out, 0xf, 5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_approached_by_quarters() {
        let stats = Stats::default();
        for (step, want) in [(1, 25), (2, 44), (3, 58)] {
            stats.count_in(200, 20_000);
            stats.estimate();
            let rates = stats.rates();
            assert_eq!(rates.packets_in, want, "after {step} steps of 100 packets per second");
        }
    }
}
