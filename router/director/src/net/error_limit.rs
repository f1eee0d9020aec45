//! How many ICMP errors the director originates (RFC 1812 section 4.3.2.8).

use core::hash::BuildHasher;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::FixedState;
use uvs_wire::Address;

use crate::base::time::Instant;

/// Sources are told apart by so many buckets; a power of two.
const SOURCES: usize = 256;
/// A source has this part of all errors.
const SHARE: u64 = 8;

/// A token bucket: the moment when it would have been empty, which runs ahead of `now` as tokens are taken.
#[derive(Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a token, of which there are so many a second and so many at once.
    fn take(&self, per_second: u64, at_once: u64, now: Instant) -> bool {
        let cost = 1_000_000_000 / per_second;
        let now = now.as_nanos();
        let spend = |horizon: u64| {
            let next = horizon.max(now) + cost;
            (next <= now + at_once * cost).then_some(next)
        };
        self.0.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}

/// Limits errors, so that no source takes those of the others, and nothing those that path MTU discovery needs (which
/// Linux does not limit at all).
pub(crate) struct ErrorLimit {
    per_second: u64,
    all: Bucket,
    too_big: Bucket,
    sources: Box<[Bucket]>,
    hasher: FixedState,
}

impl ErrorLimit {
    pub(crate) fn new(per_second: u32, seed: u64) -> Self {
        Self {
            per_second: u64::from(per_second),
            all: Bucket::default(),
            too_big: Bucket::default(),
            sources: (0..SOURCES).map(|_| Bucket::default()).collect(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Whether `source` may be told. `too_big`: of the size that fits.
    pub(crate) fn allow(&self, source: Address, too_big: bool, now: Instant) -> bool {
        let (rate, burst) = (self.per_second, (self.per_second / 20).max(1));
        if rate == 0 {
            return true;
        }
        if too_big {
            return self.too_big.take(rate, burst, now);
        }
        #[allow(clippy::cast_possible_truncation, reason = "eight bits")]
        let place = (self.hasher.hash_one(source) >> 32) as usize % SOURCES;
        let share = |of: u64| (of / SHARE).max(1);
        self.sources[place].take(share(rate), share(burst), now) && self.all.take(rate, burst, now)
    }
}
