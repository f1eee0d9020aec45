//! What is seen of how a destination takes connections, for whoever watches it (passive health checks).
//!
//! Counted at handshakes and their failures alone, and only of destinations that are watched: no packet of an
//! established connection comes here.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::base::view::Observations;

/// How a destination took a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It answered; without replies to be seen, the client went on as if it had.
    Answered,
    /// It did not, for sure: a reset, silence where its answers pass here, no neighbour of that address.
    Failed,
    /// Maybe it did not: silence of a client whose answers pass by, or an ICMP error that anybody may have sent.
    Doubtful,
}

/// Counts of one destination, from when it was first watched.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    watched: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    doubtful: AtomicU64,
    failed_in_a_row: AtomicU32,
    doubtful_in_a_row: AtomicU32,
}

impl Observed {
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Relaxed)
    }

    pub(crate) fn watch(&self, watched: bool) {
        self.watched.store(watched, Relaxed);
    }

    pub(crate) fn see(&self, sight: Sight) {
        if !self.is_watched() {
            return;
        }
        match sight {
            Sight::Answered => {
                self.answered.fetch_add(1, Relaxed);
                self.failed_in_a_row.store(0, Relaxed);
                self.doubtful_in_a_row.store(0, Relaxed);
            }
            Sight::Failed => {
                self.failed.fetch_add(1, Relaxed);
                self.failed_in_a_row.fetch_add(1, Relaxed);
            }
            Sight::Doubtful => {
                self.doubtful.fetch_add(1, Relaxed);
                self.doubtful_in_a_row.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn read(&self) -> Observations {
        Observations {
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            doubtful: self.doubtful.load(Relaxed),
            failed_in_a_row: self.failed_in_a_row.load(Relaxed),
            doubtful_in_a_row: self.doubtful_in_a_row.load(Relaxed),
        }
    }
}
