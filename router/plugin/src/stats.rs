//! What a scheduler did, for metrics.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use uvs_director::Instant;
use uvs_director::scheduler::Flow;

/// Why a module did not give a usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It trapped: `unreachable` (a panic), a division by zero, an access out of bounds, ...
    Trap,
    /// It used up its fuel.
    Fuel,
    /// It trapped after it had been refused memory or table space.
    Memory,
    /// It used up its stack.
    Stack,
    /// What it passed breaks the canonical ABI: a bad pointer, text that is not UTF-8, too much data.
    Abi,
    /// It picked a position that does not exist.
    OutOfRange,
    /// It picked a destination of weight 0.
    Quiesced,
    /// It picked an overloaded destination.
    Unavailable,
    /// A new instance refused the options that an earlier one had taken.
    Init,
    /// The host could not make a new instance.
    Instantiate,
    /// More destinations than a position has bits for.
    TooMany,
}

impl Cause {
    /// All, in the order of [`Snapshot::failures`].
    pub const ALL: [Self; 11] = [
        Self::Trap,
        Self::Fuel,
        Self::Memory,
        Self::Stack,
        Self::Abi,
        Self::OutOfRange,
        Self::Quiesced,
        Self::Unavailable,
        Self::Init,
        Self::Instantiate,
        Self::TooMany,
    ];

    /// Its name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Abi => "abi",
            Self::OutOfRange => "out_of_range",
            Self::Quiesced => "quiesced",
            Self::Unavailable => "unavailable",
            Self::Init => "init",
            Self::Instantiate => "instantiate",
            Self::TooMany => "too_many_destinations",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Fuel => "out of fuel",
            Self::Memory => "out of memory",
            Self::Stack => "stack overflow",
            Self::Abi => "broken ABI",
            Self::OutOfRange => "pick out of range",
            Self::Quiesced => "pick of a quiesced destination",
            Self::Unavailable => "pick of an unavailable destination",
            Self::Init => "init refused",
            Self::Instantiate => "no new instance",
            Self::TooMany => "too many destinations",
        })
    }
}

/// Who picks at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// The module.
    Module,
    /// The native fallback, until the back-off is over.
    Ejected,
    /// The native fallback, until the service is configured anew.
    GivenUp,
}

impl Serving {
    /// Its name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Ejected => "ejected",
            Self::GivenUp => "given_up",
        }
    }
}

/// The latency of one pick in this many is taken: reading the clock twice costs a good part of a pick.
pub const LATENCY_SAMPLE: u64 = 8;

/// Upper bounds of the latency buckets in nanoseconds; a last bucket takes what is over.
pub const LATENCY_BOUNDS_NS: [u64; 12] =
    [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 102_400, 1_000_000, 10_000_000];

/// The last failure, with what it takes to repeat it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// In which call.
    pub call: &'static str,
    /// Details: the trap, the innermost functions.
    pub message: String,
    /// When, by the director's clock.
    pub at: Instant,
    /// The connection that was to be placed, for a failed pick.
    pub flow: Option<Flow>,
    /// The words that went with it.
    pub changed: Vec<u64>,
    /// How many destinations there were.
    pub destinations: usize,
}

/// A counter with one writer at a time (a scheduler is called under its service's lock), so that adding is
/// a plain load and store.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one service's scheduler did. Written by its [`crate::Plugin`], read by anybody.
#[derive(Debug, Default)]
pub struct SchedulerStats {
    picks: Counter,
    refused: Counter,
    fallbacks: Counter,
    failures: [Counter; Cause::ALL.len()],
    rebuilds: Counter,
    ejections: Counter,
    log_suppressed: Counter,
    events: Counter,
    serving: AtomicU8,
    latency: [Counter; LATENCY_BOUNDS_NS.len() + 1],
    latency_sum_ns: Counter,
    last_failure: Mutex<Option<Failure>>,
    said: Mutex<Option<String>>,
}

impl SchedulerStats {
    /// All figures. They are read one by one: a pick in between may show in some of them only.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            picks: self.picks.get(),
            refused: self.refused.get(),
            fallbacks: self.fallbacks.get(),
            failures: core::array::from_fn(|i| (Cause::ALL[i], self.failures[i].get())),
            rebuilds: self.rebuilds.get(),
            ejections: self.ejections.get(),
            log_suppressed: self.log_suppressed.get(),
            events: self.events.get(),
            serving: match self.serving.load(Ordering::Relaxed) {
                0 => Serving::Module,
                1 => Serving::Ejected,
                _ => Serving::GivenUp,
            },
            latency: Latency {
                buckets: core::array::from_fn(|i| self.latency[i].get()),
                sum_ns: self.latency_sum_ns.get(),
            },
        }
    }

    /// The last failure, if there was one.
    pub fn last_failure(&self) -> Option<Failure> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latest line that the module wrote to the log, at whatever level.
    pub fn said(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn say(&self, line: String) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    /// Counts a pick; true: its latency is wanted.
    pub(crate) fn pick(&self) -> bool {
        let before = self.picks.get();
        self.picks.add(1);
        before.is_multiple_of(LATENCY_SAMPLE)
    }

    pub(crate) fn refuse(&self) {
        self.refused.add(1);
    }

    pub(crate) fn fall_back(&self) {
        self.fallbacks.add(1);
    }

    pub(crate) fn rebuild(&self) {
        self.rebuilds.add(1);
    }

    pub(crate) fn suppress_log(&self, lines: u64) {
        self.log_suppressed.add(lines);
    }

    pub(crate) fn observe(&self, events: u64) {
        self.events.add(events);
    }

    pub(crate) fn serve(&self, serving: Serving) {
        let code = match serving {
            Serving::Module => 0,
            Serving::Ejected => 1,
            Serving::GivenUp => 2,
        };
        if serving != Serving::Module {
            self.ejections.add(1);
        }
        self.serving.store(code, Ordering::Relaxed);
    }

    /// Another module has taken over: what was said of the one before holds no more.
    pub(crate) fn start_over(&self) {
        self.serving.store(0, Ordering::Relaxed);
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.failures[failure.cause as usize].add(1);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    pub(crate) fn took(&self, ns: u64) {
        let bucket = LATENCY_BOUNDS_NS.iter().position(|&bound| ns <= bound);
        self.latency[bucket.unwrap_or(LATENCY_BOUNDS_NS.len())].add(1);
        self.latency_sum_ns.add(ns);
    }
}

/// What came of a module on trial, beside what its [`SchedulerStats`] say.
#[derive(Debug, Default)]
pub struct TrialStats {
    same: Counter,
    different: Counter,
    placed: Counter,
    passed_on: Counter,
}

impl TrialStats {
    pub(crate) fn compared(&self, same: bool) {
        if same { self.same.add(1) } else { self.different.add(1) }
    }

    pub(crate) fn placed(&self) {
        self.placed.add(1);
    }

    pub(crate) fn passed_on(&self) {
        self.passed_on.add(1);
    }

    /// Of a shadow: answers that were those of the module that serves.
    pub fn same(&self) -> u64 {
        self.same.get()
    }

    /// Of a shadow: answers that were others.
    pub fn different(&self) -> u64 {
        self.different.get()
    }

    /// Of a canary: connections it placed.
    pub fn connections(&self) -> u64 {
        self.placed.get()
    }

    /// Of a canary: connections of its share that the module that serves placed, for the canary failed, had no
    /// answer or was ejected.
    pub fn passed(&self) -> u64 {
        self.passed_on.get()
    }
}

/// [`SchedulerStats`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Connections that were to be placed.
    pub picks: u64,
    /// Of them, those the module refused (answered "none").
    pub refused: u64,
    /// Of them, those the native fallback placed.
    pub fallbacks: u64,
    /// Failures by cause, in the order of [`Cause::ALL`]; of picks and of other calls.
    pub failures: [(Cause, u64); Cause::ALL.len()],
    /// Instances made in place of one that died.
    pub rebuilds: u64,
    /// How often the module was ejected or given up.
    pub ejections: u64,
    /// Log lines of the module that were left out.
    pub log_suppressed: u64,
    /// Events it was told of: how destinations took connections.
    pub events: u64,
    /// Who picks now.
    pub serving: Serving,
    /// How long picks took.
    pub latency: Latency,
}

impl Snapshot {
    /// Failures by this cause.
    pub fn failed(&self, cause: Cause) -> u64 {
        self.failures[cause as usize].1
    }

    /// Failures by any cause.
    pub fn failures_total(&self) -> u64 {
        self.failures.iter().map(|(_, count)| count).sum()
    }
}

/// A latency histogram over one pick in [`LATENCY_SAMPLE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Picks per bucket (not cumulative), bounded above by [`LATENCY_BOUNDS_NS`]; the last is unbounded.
    pub buckets: [u64; LATENCY_BOUNDS_NS.len() + 1],
    /// Sum of the samples in nanoseconds.
    pub sum_ns: u64,
}

impl Latency {
    /// An upper bound of what this share of the samples took (the bound of its bucket), in nanoseconds; `None`
    /// without samples. What is above all bounds counts as ten times the last.
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let count = self.count();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let bounds =
            LATENCY_BOUNDS_NS.into_iter().chain([LATENCY_BOUNDS_NS[LATENCY_BOUNDS_NS.len() - 1] * 10]);
        let mut seen = 0;
        bounds.zip(self.buckets).find_map(|(bound, n)| {
            seen += n;
            (count > 0 && seen >= rank).then_some(bound)
        })
    }

    /// Samples taken.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_count_under_their_own_name() {
        for (i, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, i, "{cause}");
        }
        let labels: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|c| c.label()).collect();
        assert_eq!(labels.len(), Cause::ALL.len());
    }

    #[test]
    fn latencies_fall_into_their_buckets() {
        let stats = SchedulerStats::default();
        for (ns, bucket) in [(0, 0), (100, 0), (101, 1), (10_000_000, 11), (u64::from(u32::MAX), 12)] {
            let before = stats.snapshot().latency.buckets[bucket];
            stats.took(ns);
            assert_eq!(stats.snapshot().latency.buckets[bucket], before + 1, "{ns} ns");
        }
        assert_eq!(stats.snapshot().latency.count(), 5);
    }
}
