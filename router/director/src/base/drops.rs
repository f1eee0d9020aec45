//! How many frames were dropped, by reason.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::base::verdict::DropReason;

/// A counter for each reason there is.
pub(crate) struct Drops(Box<[AtomicU64]>);

impl Drops {
    pub(crate) fn new() -> Self {
        Self(DropReason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts a drop.
    pub(crate) fn count(&self, reason: DropReason) {
        self.0[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts so many drops.
    pub(crate) fn add(&self, reason: DropReason, frames: usize) {
        self.0[reason as usize].fetch_add(frames as u64, Relaxed);
    }

    /// Drops so far, of every reason.
    pub(crate) fn list(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL.iter().map(|&reason| (reason, self.0[reason as usize].load(Relaxed))).collect()
    }
}
