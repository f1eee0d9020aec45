//! Entries in the order in which they came: which one of a class is the oldest in a shard.

use super::slab::Slab;
use crate::track::queued::Neighbours;

const NONE: u32 = u32::MAX;
/// A doubly linked list through entries of a slab.
pub(super) struct Queue {
    oldest: u32,
    newest: u32,
    len: u32,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { oldest: NONE, newest: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Adds an entry that is in no queue, as the newest.
    pub(super) fn push(&mut self, slab: &mut Slab, index: u32) {
        slab.get_mut(index).queued = Neighbours { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = index,
            newest => slab.get_mut(newest).queued.newer = index,
        }
        self.newest = index;
        self.len += 1;
    }

    /// Takes out an entry that is in it.
    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) {
        let Neighbours { older, newer } = core::mem::take(&mut slab.get_mut(index).queued);
        self.len -= 1;
        match older {
            NONE => self.oldest = newer,
            older => slab.get_mut(older).queued.newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => slab.get_mut(newer).queued.older = older,
        }
    }
}
