//! From the hash of a key to the entries that may have it: extendible hashing, which grows a little at a time.
//!
//! ```text
//!   top bits of the hash --> directory --> segment of 384 slots, each hash and entry number, in one cache line mostly
//! ```
//!
//! A segment that is full is split in two, and nothing else moves: an insertion moves 336 slots at the most, however
//! large the table is, and never looks at an entry. The directory, 4 bytes for each segment, is copied when it doubles.
//!
//! Of entries with the same hash the one added last is found first, as in the kernel, whose chains grow at the head.

/// Slots of one segment. No power of two: so that tables of 2^n entries are not all at the point of splitting.
const SLOTS: usize = 384;
/// A segment with so many is split.
const USED_MAX: u16 = 336;
const EMPTY: u64 = u64::MAX;
/// With that many bits of the hash for the directory there are billions of entries.
const DEPTH_MAX: u32 = 16;

struct Segment {
    slots: Box<[u64; SLOTS]>,
    used: u16,
    /// How many top bits all hashes in it share.
    depth: u8,
}

/// Entry numbers by hash.
pub(super) struct Index {
    /// Which segment, by the top `depth` bits of the hash.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
}

fn pack(hash: u32, entry: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(entry)
}

#[allow(clippy::cast_possible_truncation, reason = "the upper and the lower half")]
fn unpack(slot: u64) -> (u32, u32) {
    ((slot >> 32) as u32, slot as u32)
}

/// Where in a segment the search for a hash starts: by its lower bits, since the upper ones chose the segment.
#[inline]
fn home(hash: u32) -> usize {
    ((hash & 0xffff) as usize * SLOTS) >> 16
}

#[inline]
fn after(at: usize) -> usize {
    if at + 1 == SLOTS { 0 } else { at + 1 }
}

impl Segment {
    fn new(depth: u8) -> Self {
        Self { slots: Box::new([EMPTY; SLOTS]), used: 0, depth }
    }

    /// Adds a slot ahead of those with the same hash, which each move to the place of the next of them.
    fn insert(&mut self, slot: u64) {
        let (hash, _) = unpack(slot);
        let (mut at, mut carried) = (home(hash), slot);
        while self.slots[at] != EMPTY {
            if unpack(self.slots[at]).0 == hash {
                core::mem::swap(&mut self.slots[at], &mut carried);
            }
            at = after(at);
        }
        self.slots[at] = carried;
        self.used += 1;
    }

    /// Adds a slot behind those with the same hash.
    fn append(&mut self, slot: u64) {
        let mut at = home(unpack(slot).0);
        while self.slots[at] != EMPTY {
            at = after(at);
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    /// All slots that hold something; those with the same hash in the order in which a search meets them.
    fn in_order(&self) -> impl Iterator<Item = u64> {
        // No run of used slots goes on past an empty one.
        let gap = self.slots.iter().position(|slot| *slot == EMPTY).expect("a segment is never full");
        let (before, behind) = self.slots.split_at(gap);
        behind.iter().chain(before).copied().filter(|slot| *slot != EMPTY)
    }

    fn remove(&mut self, slot: u64) {
        let mut hole = home(unpack(slot).0);
        while self.slots[hole] != slot {
            assert_ne!(self.slots[hole], EMPTY, "an entry is in the index");
            hole = after(hole);
        }
        // What had to go on past the hole comes back, so that searches may stop at the first empty slot.
        let mut at = hole;
        loop {
            at = after(at);
            let moved = self.slots[at];
            if moved == EMPTY {
                break;
            }
            let distance = |from: usize| (at + SLOTS - from) % SLOTS;
            if distance(home(unpack(moved).0)) >= distance(hole) {
                self.slots[hole] = moved;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
        self.used -= 1;
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Self { directory: vec![0], depth: 0, segments: vec![Segment::new(0)] }
    }

    #[inline]
    fn place(&self, hash: u32) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "at most 16 bits")]
        let place = (u64::from(hash) >> (32 - self.depth)) as usize;
        place
    }

    /// The slot that the search for a hash starts at.
    #[inline]
    pub(super) fn home(&self, hash: u32) -> &u64 {
        &self.segments[self.directory[self.place(hash)] as usize].slots[home(hash)]
    }

    /// The entry added last of those with that hash that `is_it` names.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = &self.segments[self.directory[self.place(hash)] as usize];
        let mut at = home(hash);
        loop {
            let slot = segment.slots[at];
            if slot == EMPTY {
                return None;
            }
            let (found, entry) = unpack(slot);
            if found == hash && is_it(entry) {
                return Some(entry);
            }
            at = after(at);
        }
    }

    /// Adds an entry that is not in it. False: so many hashes are alike that there is no room, which a keyed hash
    /// rules out.
    #[must_use]
    pub(super) fn insert(&mut self, hash: u32, entry: u32) -> bool {
        loop {
            let number = self.directory[self.place(hash)] as usize;
            if self.segments[number].used < USED_MAX {
                self.segments[number].insert(pack(hash, entry));
                return true;
            }
            if !self.split(number) {
                return false;
            }
        }
    }

    /// Takes out an entry that is in it.
    pub(super) fn remove(&mut self, hash: u32, entry: u32) {
        let number = self.directory[self.place(hash)] as usize;
        self.segments[number].remove(pack(hash, entry));
    }

    fn split(&mut self, number: usize) -> bool {
        let depth = u32::from(self.segments[number].depth);
        if depth == DEPTH_MAX {
            return false;
        }
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth += 1;
        }
        let deeper = self.segments[number].depth + 1;
        let whole = core::mem::replace(&mut self.segments[number], Segment::new(deeper));
        let mut second = Segment::new(deeper);
        for slot in whole.in_order() {
            let is_second = unpack(slot).0 >> (31 - depth) & 1 == 1;
            if is_second { &mut second } else { &mut self.segments[number] }.append(slot);
        }
        let new = u32::try_from(self.segments.len()).expect("there are fewer segments than entries");
        self.segments.push(second);
        // The directory's places of a segment lie side by side; the second half is the new one's.
        let any = whole.slots.iter().find(|slot| **slot != EMPTY).expect("a full segment holds something");
        let width = 1 << (self.depth - depth);
        let first = self.place(unpack(*any).0) & !(width - 1);
        self.directory[first + width / 2..first + width].fill(new);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Hashes of which many are alike, in the upper bits and in the lower.
    fn hashes() -> impl Strategy<Value = u32> {
        (any::<u32>(), 0u8..4).prop_map(|(hash, kind)| match kind {
            0 => hash,
            1 => hash & 0xffff_0007,
            2 => hash & 0x0003_ffff,
            _ => hash % 50,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What was inserted and not removed is found, and nothing else.
        #[test]
        fn it_holds_what_a_set_holds(ops in prop::collection::vec((hashes(), 0u32..3, any::<bool>()), 1..3000)) {
            let (mut index, mut set) = (Index::new(), HashSet::new());
            for (hash, entry, add) in ops {
                if add && set.insert((hash, entry)) {
                    prop_assert!(index.insert(hash, entry));
                } else if !add && set.remove(&(hash, entry)) {
                    index.remove(hash, entry);
                }
            }
            for hash in set.iter().map(|(hash, _)| *hash).chain(0..50) {
                for entry in 0..3 {
                    let found = index.find(hash, |found| found == entry).is_some();
                    prop_assert_eq!(found, set.contains(&(hash, entry)), "{} {}", hash, entry);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever was added, removed and split in between: of equal hashes the newest comes first.
        #[test]
        fn the_newest_of_equal_hashes_is_found_first(
            ops in prop::collection::vec((hashes(), any::<bool>(), any::<prop::sample::Index>()), 1..2000),
        ) {
            let (mut index, mut list) = (Index::new(), Vec::new());
            for (entry, (hash, add, which)) in (0u32..).zip(ops) {
                let alike = list.iter().filter(|(known, _)| *known == hash).count();
                if add && alike < 40 && index.insert(hash, entry) {
                    list.push((hash, entry));
                } else if !list.is_empty() {
                    let (hash, entry) = list.remove(which.index(list.len()));
                    index.remove(hash, entry);
                }
            }
            let hashes: HashSet<u32> = list.iter().map(|(hash, _)| *hash).collect();
            for hash in hashes {
                let mut found = Vec::new();
                index.find(hash, |entry| {
                    found.push(entry);
                    false
                });
                let want: Vec<u32> = list.iter().rev().filter(|it| it.0 == hash).map(|it| it.1).collect();
                prop_assert_eq!(found, want, "hash {}", hash);
            }
        }
    }

    #[test]
    fn it_grows_and_forgets() {
        let hash = |n: u32| n.wrapping_mul(0x9e37_79b9);
        let mut index = Index::new();
        for n in 0..200_000 {
            assert!(index.insert(hash(n), n));
        }
        assert!((0..200_000).all(|n| index.find(hash(n), |found| found == n) == Some(n)));
        for n in (0..200_000).step_by(2) {
            index.remove(hash(n), n);
        }
        assert!((0..200_000).all(|n| index.find(hash(n), |found| found == n).is_some() == (n % 2 == 1)));
    }

    #[test]
    fn hashes_that_are_all_alike_are_refused_in_the_end() {
        let mut index = Index::new();
        let stored = (0..1000).take_while(|&entry| index.insert(7, entry)).count();
        assert_eq!(stored, usize::from(USED_MAX));
        assert!(index.insert(u32::MAX, 1), "others have room");
    }
}
