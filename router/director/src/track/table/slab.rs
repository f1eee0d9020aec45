//! Where entries lie: in chunks that never move, each entry on two cache lines of its own.

use crate::track::connection::Connection;
use crate::track::wheel::{Linked, Links};

/// Entries of a chunk. A new chunk costs the time to write it: 16 KiB.
const PER_CHUNK: u32 = 128;
const CHUNK: usize = PER_CHUNK as usize;
/// No slot, and no chunk.
const END: u32 = u32::MAX;

#[repr(align(64))]
#[allow(clippy::large_enum_variant, reason = "fixed-size entries are what a slab is made of")]
enum Slot {
    Used(Connection),
    Free { next: u32 },
}

const _: () = assert!(size_of::<Slot>() == 128, "an entry fills two cache lines");

/// What is free of a chunk.
struct Room {
    /// The slot that is used next; the others hang on it.
    free: u32,
    used: u32,
    /// Its neighbours in the list of chunks with a free slot; of a chunk without memory, what follows in that list.
    previous: u32,
    next: u32,
}

/// Entries by number; numbers of entries that are gone are used again. A chunk without an entry is given back, but for
/// one: a table that is used a little does not ask for memory all the time.
pub(super) struct Slab {
    chunks: Vec<Option<Box<[Slot; CHUNK]>>>,
    /// Of each chunk.
    rooms: Vec<Room>,
    /// The first chunk with a free slot. One that was full comes first, so that those with few entries empty.
    open: u32,
    /// The first chunk that has no memory.
    vacant: u32,
    /// A chunk that was without an entry when it was seen last, and is kept if it still is.
    spare: u32,
}

impl Linked for Slab {
    #[inline]
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self.get_mut(index).links
    }
}

impl Slab {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), rooms: Vec::new(), open: END, vacant: END, spare: END }
    }

    #[inline]
    fn slot(&self, index: u32) -> &Slot {
        let chunk = self.chunks[index as usize / CHUNK].as_ref();
        &chunk.expect("an index leads to a used slot")[index as usize % CHUNK]
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        let chunk = self.chunks[index as usize / CHUNK].as_mut();
        &mut chunk.expect("an index leads to a used slot")[index as usize % CHUNK]
    }

    /// Adds a chunk to those with a free slot, of which there is none.
    #[cold]
    fn grow(&mut self) {
        let number = match self.vacant {
            END => {
                self.chunks.push(None);
                self.rooms.push(Room { free: END, used: 0, previous: END, next: END });
                u32::try_from(self.chunks.len() - 1).expect("the connection limit is below 2^32")
            }
            vacant => {
                self.vacant = self.rooms[vacant as usize].next;
                vacant
            }
        };
        let first = number * PER_CHUNK;
        let slot = |next: u32| Slot::Free { next };
        // Of its size from the start, so that it is written once and not moved.
        let mut chunk = Vec::with_capacity(CHUNK);
        chunk.extend((first + 1..).take(CHUNK - 1).map(slot));
        chunk.push(slot(END));
        let chunk = chunk.into_boxed_slice().try_into().unwrap_or_else(|_| unreachable!("it has that many"));
        self.chunks[number as usize] = Some(chunk);
        self.rooms[number as usize] = Room { free: first, used: 0, previous: END, next: END };
        self.open = number;
    }

    #[inline(always)]
    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        if self.open == END {
            self.grow();
        }
        let index = self.rooms[self.open as usize].free;
        let slot = self.slot_mut(index);
        let Slot::Free { next } = *slot else { unreachable!("the free list holds free slots") };
        *slot = Slot::Used(connection);
        let room = &mut self.rooms[self.open as usize];
        room.free = next;
        room.used += 1;
        if next == END {
            self.close(self.open);
        }
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Connection {
        let number = index / PER_CHUNK;
        let room = &mut self.rooms[number as usize];
        let free = Slot::Free { next: room.free };
        let was_full = room.free == END;
        room.free = index;
        room.used -= 1;
        let is_empty = room.used == 0;
        let slot = core::mem::replace(self.slot_mut(index), free);
        if was_full {
            self.reopen(number);
        }
        if is_empty {
            self.give_back(number);
        }
        match slot {
            Slot::Used(connection) => connection,
            Slot::Free { .. } => unreachable!("an index leads to a used slot"),
        }
    }

    /// Takes a chunk out of the list of those with a free slot.
    fn close(&mut self, number: u32) {
        let Room { previous, next, .. } = self.rooms[number as usize];
        match previous {
            END => self.open = next,
            previous => self.rooms[previous as usize].next = next,
        }
        if next != END {
            self.rooms[next as usize].previous = previous;
        }
    }

    /// Puts a chunk at the head of that list.
    fn reopen(&mut self, number: u32) {
        if self.open != END {
            self.rooms[self.open as usize].previous = number;
        }
        let room = &mut self.rooms[number as usize];
        (room.previous, room.next) = (END, self.open);
        self.open = number;
    }

    /// A chunk has no entry any more.
    #[cold]
    fn give_back(&mut self, number: u32) {
        let has_spare = self.spare != number
            && self.spare != END
            && self.chunks[self.spare as usize].is_some()
            && self.rooms[self.spare as usize].used == 0;
        if !has_spare {
            self.spare = number;
            return;
        }
        self.close(number);
        self.chunks[number as usize] = None;
        self.rooms[number as usize].next = self.vacant;
        self.vacant = number;
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
        match &self.chunks[index as usize / CHUNK].as_ref()?[index as usize % CHUNK] {
            Slot::Used(connection) => Some(connection),
            Slot::Free { .. } => None,
        }
    }

    /// What one without entries takes at most.
    pub(super) const BYTES_WHEN_EMPTY: usize = size_of::<[Slot; CHUNK]>();

    /// Bytes that entries take, and what is free beside them.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().flatten().count() * size_of::<[Slot; CHUNK]>()
    }
}
