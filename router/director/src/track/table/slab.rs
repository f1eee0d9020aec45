//! Where entries lie: in chunks that never move, each entry on two cache lines of its own.

use crate::track::connection::Connection;
use crate::track::wheel::{Linked, Links};

/// Entries of a chunk. A new chunk costs the time to write it: 16 KiB.
const CHUNK: usize = 128;
const END: u32 = u32::MAX;

#[repr(align(64))]
#[allow(clippy::large_enum_variant, reason = "fixed-size entries are what a slab is made of")]
enum Slot {
    Used(Connection),
    Free { next: u32 },
}

const _: () = assert!(size_of::<Slot>() == 128, "an entry fills two cache lines");

/// Entries by number; numbers of entries that are gone are used again.
pub(super) struct Slab {
    chunks: Vec<Box<[Slot; CHUNK]>>,
    free: u32,
}

impl Linked for Slab {
    #[inline]
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self.get_mut(index).links
    }
}

impl Slab {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: END }
    }

    #[inline]
    fn slot(&self, index: u32) -> &Slot {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    #[cold]
    fn grow(&mut self) {
        let first = u32::try_from(self.chunks.len() * CHUNK).expect("the connection limit is below 2^32");
        let slot = |next: u32| Slot::Free { next };
        // Of its size from the start, so that it is written once and not moved.
        let mut chunk = Vec::with_capacity(CHUNK);
        chunk.extend((first + 1..).take(CHUNK - 1).map(slot));
        chunk.push(slot(self.free));
        let chunk = chunk.into_boxed_slice().try_into().unwrap_or_else(|_| unreachable!("it has that many"));
        self.chunks.push(chunk);
        self.free = first;
    }

    #[inline(always)]
    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        if self.free == END {
            self.grow();
        }
        let index = self.free;
        let slot = self.slot_mut(index);
        let Slot::Free { next } = *slot else { unreachable!("the free list holds free slots") };
        *slot = Slot::Used(connection);
        self.free = next;
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Connection {
        let free = Slot::Free { next: self.free };
        match core::mem::replace(self.slot_mut(index), free) {
            Slot::Used(connection) => {
                self.free = index;
                connection
            }
            Slot::Free { .. } => unreachable!("an index leads to a used slot"),
        }
    }

    /// Where the entry lies; nothing of it is read.
    #[inline]
    pub(super) fn place(&self, index: u32) -> *const u8 {
        core::ptr::from_ref(self.slot(index)).cast()
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> &Connection {
        match self.slot(index) {
            Slot::Used(connection) => connection,
            Slot::Free { .. } => unreachable!("an index leads to a used slot"),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut Connection {
        match self.slot_mut(index) {
            Slot::Used(connection) => connection,
            Slot::Free { .. } => unreachable!("an index leads to a used slot"),
        }
    }

    /// How many numbers were given out so far, free ones included.
    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).expect("the connection limit is below 2^32")
    }

    /// The entry of that number, if there is one.
    pub(super) fn entry(&self, index: u32) -> Option<&Connection> {
        match self.slot(index) {
            Slot::Used(connection) => Some(connection),
            Slot::Free { .. } => None,
        }
    }
}
