//! What programs that are told what happens came to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With exit status 0.
    Passed,
    /// With another one, or by a signal.
    Failed,
    /// At its deadline.
    Overdue,
    /// The program could not be run.
    Unmade,
}

/// What one of them came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Runs, as [`Outcome`] has them.
    pub runs: [u64; 4],
    /// Replaced by what happened after it while it waited.
    pub merged: u64,
    /// Left out, for too much waited.
    pub dropped: u64,
}

impl Sample {
    /// The names of outcomes, in the order of [`Self::runs`].
    pub(crate) const OUTCOMES: [&'static str; 4] = ["passed", "failed", "overdue", "unmade"];
}

/// What all of them came to, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were over before they were read.
    pub lost: u64,
    /// Programs that run.
    pub running: u64,
    /// What waits.
    pub waiting: u64,
    /// By name.
    pub samples: Vec<(Arc<str>, Sample)>,
}

/// What all of them come to.
#[derive(Debug, Default)]
pub struct Stats {
    by_name: Mutex<BTreeMap<Arc<str>, Sample>>,
    lost: AtomicU64,
    running: AtomicU64,
    waiting: AtomicU64,
}

impl Stats {
    fn with(&self, name: &Arc<str>, change: impl FnOnce(&mut Sample)) {
        let mut all = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(Arc::clone(name)).or_default());
    }

    pub(super) fn ran(&self, name: &Arc<str>, outcome: Outcome) {
        self.with(name, |sample| sample.runs[outcome as usize] += 1);
    }

    pub(super) fn merged(&self, name: &Arc<str>) {
        self.with(name, |sample| sample.merged += 1);
    }

    pub(super) fn dropped(&self, name: &Arc<str>) {
        self.with(name, |sample| sample.dropped += 1);
    }

    pub(super) fn lost(&self, events: u64) {
        self.lost.fetch_add(events, Relaxed);
    }

    pub(super) fn now(&self, running: usize, waiting: usize) {
        self.running.store(running as u64, Relaxed);
        self.waiting.store(waiting as u64, Relaxed);
    }

    /// All of it.
    pub(crate) fn report(&self) -> Report {
        let all = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        Report {
            lost: self.lost.load(Relaxed),
            running: self.running.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            samples: all.iter().map(|(name, sample)| (Arc::clone(name), *sample)).collect(),
        }
    }
}
