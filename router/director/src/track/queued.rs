//! The place of an entry in the queue of embryonic ones of its shard.

/// Instead of a neighbour, of an entry that is in no queue.
const OUT: u32 = u32::MAX - 1;

/// The links of one entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbours {
    pub(super) older: u32,
    pub(super) newer: u32,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self { older: OUT, newer: OUT }
    }
}
