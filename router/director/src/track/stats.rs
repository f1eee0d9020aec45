//! Counters and the rates drawn from them.
//!
//! ```text
//!   Tally of a destination: one lane for each shard of the table, and one for all else
//!        |         |
//!   Sum of its   Sum of      each adds its tallies up when it is read, and keeps what those counted that are gone
//!   service      all
//! ```
//!
//! A packet of a connection is counted once, in the lane of its shard and under the shard's lock: no other worker
//! writes there, so it costs two plain additions.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::base::ids::SHARDS;
use crate::base::lock::lock;
use crate::base::view::{Counters, Rates};

/// What was counted of packets; of connections only in the lane that all share. On a cache line of its own: workers in
/// different shards do not meet.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane {
    packets_in: AtomicU64,
    bytes_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
}

const _: () = assert!(size_of::<Lane>() == 64, "one cache line for each shard");

/// Adds to a counter that nobody else writes to meanwhile.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// What one destination counts, from its beginning on.
#[derive(Debug)]
pub struct Tally {
    lanes: Box<[Lane; SHARDS]>,
    /// For what is counted without the lock of a shard.
    shared: Lane,
    /// What passed in the flow cache.
    flown: Lane,
    connections: AtomicU64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let lanes = Box::new(core::array::from_fn(|_| Lane::default()));
        Self { lanes, shared: Lane::default(), flown: Lane::default(), connections: AtomicU64::new(0) }
    }

    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A packet from a client, of a connection in the shard of that number, which is locked.
    #[inline]
    pub(crate) fn count_in(&self, shard: usize, bytes: u64) {
        let lane = &self.lanes[shard];
        add(&lane.packets_in, 1);
        add(&lane.bytes_in, bytes);
    }

    /// A packet from the destination, of a connection in the shard of that number, which is locked.
    #[inline]
    pub(crate) fn count_out(&self, shard: usize, bytes: u64) {
        let lane = &self.lanes[shard];
        add(&lane.packets_out, 1);
        add(&lane.bytes_out, bytes);
    }

    /// A packet from a client, of no connection in the table.
    pub(crate) fn count_in_alone(&self, bytes: u64) {
        self.shared.packets_in.fetch_add(1, Relaxed);
        self.shared.bytes_in.fetch_add(bytes, Relaxed);
    }

    /// What another director has counted.
    pub(crate) fn add(&self, counters: &Counters) {
        self.connections.fetch_add(counters.connections, Relaxed);
        self.shared.packets_in.fetch_add(counters.packets_in, Relaxed);
        self.shared.bytes_in.fetch_add(counters.bytes_in, Relaxed);
        self.shared.packets_out.fetch_add(counters.packets_out, Relaxed);
        self.shared.bytes_out.fetch_add(counters.bytes_out, Relaxed);
    }

    /// Says what passed in the flow cache from the beginning on, connections left out. One cache at a time.
    pub fn set_flown(&self, counters: &Counters) {
        self.flown.packets_in.store(counters.packets_in, Relaxed);
        self.flown.bytes_in.store(counters.bytes_in, Relaxed);
        self.flown.packets_out.store(counters.packets_out, Relaxed);
        self.flown.bytes_out.store(counters.bytes_out, Relaxed);
    }

    /// What passed in the flow cache from the beginning on, as it was said last.
    pub fn flown(&self) -> Counters {
        Counters {
            connections: 0,
            packets_in: self.flown.packets_in.load(Relaxed),
            packets_out: self.flown.packets_out.load(Relaxed),
            bytes_in: self.flown.bytes_in.load(Relaxed),
            bytes_out: self.flown.bytes_out.load(Relaxed),
        }
    }

    /// Packets from clients, from the beginning on.
    pub(crate) fn packets_in(&self) -> u64 {
        self.counters().packets_in
    }

    fn counters(&self) -> Counters {
        let mut sum = Counters { connections: self.connections.load(Relaxed), ..Counters::default() };
        for lane in self.lanes.iter().chain([&self.shared, &self.flown]) {
            sum.packets_in += lane.packets_in.load(Relaxed);
            sum.bytes_in += lane.bytes_in.load(Relaxed);
            sum.packets_out += lane.packets_out.load(Relaxed);
            sum.bytes_out += lane.bytes_out.load(Relaxed);
        }
        sum
    }
}

pub(crate) fn plus(a: Counters, b: Counters) -> Counters {
    Counters {
        connections: a.connections + b.connections,
        packets_in: a.packets_in + b.packets_in,
        packets_out: a.packets_out + b.packets_out,
        bytes_in: a.bytes_in + b.bytes_in,
        bytes_out: a.bytes_out + b.bytes_out,
    }
}

pub(crate) fn minus(a: Counters, b: Counters) -> Counters {
    Counters {
        connections: a.connections.saturating_sub(b.connections),
        packets_in: a.packets_in.saturating_sub(b.packets_in),
        packets_out: a.packets_out.saturating_sub(b.packets_out),
        bytes_in: a.bytes_in.saturating_sub(b.bytes_in),
        bytes_out: a.bytes_out.saturating_sub(b.bytes_out),
    }
}

#[derive(Debug, Default)]
struct Members {
    tallies: Vec<Arc<Tally>>,
    /// What tallies had counted when they left.
    gone: Counters,
    /// What was counted when it was last set to zero.
    zero: Counters,
    estimator: Estimator,
}

impl Members {
    fn sum(&self) -> Counters {
        self.tallies.iter().fold(self.gone, |sum, tally| plus(sum, tally.counters()))
    }

    fn counters(&self) -> Counters {
        minus(self.sum(), self.zero)
    }
}

/// The sum of some tallies since it was last set to zero, with its rates.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    members: Mutex<Members>,
}

impl Stats {
    /// Those of one tally.
    pub(crate) fn of(tally: &Arc<Tally>) -> Self {
        let stats = Self::default();
        stats.join(tally);
        stats
    }

    /// From now on what `tally` counts is part of the sum.
    pub(crate) fn join(&self, tally: &Arc<Tally>) {
        lock(&self.members).tallies.push(Arc::clone(tally));
    }

    /// Nobody counts in `tally` any more. What it counted stays.
    pub(crate) fn leave(&self, tally: &Arc<Tally>) {
        let mut members = lock(&self.members);
        if let Some(position) = members.tallies.iter().position(|member| Arc::ptr_eq(member, tally)) {
            members.tallies.swap_remove(position);
            members.gone = plus(members.gone, tally.counters());
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        lock(&self.members).counters()
    }

    /// What another director has counted is part of the sum.
    pub(crate) fn add(&self, counters: &Counters) {
        let mut members = lock(&self.members);
        members.gone = plus(members.gone, *counters);
    }

    /// What was counted so far was counted long ago: it is in no rate.
    pub(crate) fn estimate_from_here(&self) {
        let mut members = lock(&self.members);
        members.estimator.last = members.counters();
    }

    pub(crate) fn zero(&self) {
        let mut members = lock(&self.members);
        members.zero = members.sum();
        members.estimator = Estimator::default();
    }

    /// As the kernel sets to zero: from what the last step of the estimator has seen on.
    pub(crate) fn zero_at_estimate(&self) {
        let mut members = lock(&self.members);
        members.zero = plus(members.zero, members.estimator.last);
        members.estimator = Estimator::default();
    }

    /// One step of the rate estimator, to be called every [`Estimator::PERIOD_SECS`].
    pub(crate) fn estimate(&self) {
        let mut members = lock(&self.members);
        let now = members.counters();
        members.estimator.step(now);
    }

    pub(crate) fn rates(&self) -> Rates {
        lock(&self.members).estimator.rates()
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
        let tally = Arc::new(Tally::new());
        let stats = Stats::of(&tally);
        for (step, want) in [(1, 25), (2, 44), (3, 58)] {
            (0..200).for_each(|_| tally.count_in_alone(100));
            stats.estimate();
            let rates = stats.rates();
            assert_eq!(rates.packets_in, want, "after {step} steps of 100 packets per second");
        }
    }

    #[test]
    fn a_sum_keeps_what_left_and_forgets_what_was_zeroed() {
        let (first, second) = (Arc::new(Tally::new()), Arc::new(Tally::new()));
        let (one, all) = (Stats::of(&first), Stats::of(&first));
        all.join(&second);
        first.count_in_alone(10);
        second.count_in_alone(20);
        second.count_connection();
        one.zero();
        assert_eq!((one.counters().bytes_in, all.counters().bytes_in), (0, 30));
        all.leave(&second);
        first.count_in_alone(1);
        let sum = all.counters();
        assert_eq!((sum.connections, sum.packets_in, sum.bytes_in), (1, 3, 31));
        assert_eq!(one.counters().bytes_in, 1);
        all.zero();
        assert_eq!(all.counters(), Counters::default());
    }

    #[test]
    fn the_kernel_counts_from_its_last_estimate_on() {
        let tally = Arc::new(Tally::new());
        let stats = Stats::of(&tally);
        tally.count_in_alone(1);
        stats.zero_at_estimate();
        assert_eq!(stats.counters().bytes_in, 1, "there was no estimate yet");
        stats.estimate();
        tally.count_in_alone(20);
        stats.zero_at_estimate();
        assert_eq!(stats.counters().bytes_in, 20);
        stats.estimate();
        stats.zero_at_estimate();
        tally.count_in_alone(300);
        assert_eq!(stats.counters().bytes_in, 300);
    }
}
