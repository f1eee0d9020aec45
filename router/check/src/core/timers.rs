//! Deadlines in a heap. One that was moved stays in it until it comes up, and is then seen to be old by its stamp.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use uvs_director::Instant;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The probe of that index: it is due, or its result is.
    Probe(usize),
    /// The destination of that index: a slow start, or the end of damping.
    Destination(usize),
}

/// One deadline for each owner.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64, Owner)>>,
    stamp: u64,
}

impl Timers {
    /// Sets a deadline and returns its stamp, by which its owner knows it again.
    pub(crate) fn set(&mut self, at: Instant, owner: Owner) -> u64 {
        self.stamp += 1;
        self.heap.push(Reverse((at, self.stamp, owner)));
        self.stamp
    }

    /// The earliest, moved ones included: who comes for nothing comes again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next one that is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(u64, Owner)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, stamp, owner))| (stamp, owner))
    }

    /// How many are there, moved ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops those that `current` does not know.
    pub(crate) fn retain(&mut self, mut current: impl FnMut(u64, Owner) -> bool) {
        self.heap.retain(|Reverse((_, stamp, owner))| current(*stamp, *owner));
    }

    /// Drops all. Stamps go on, so that none comes twice.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }
}
