//! From the hash of a key to the entries that may have it: extendible hashing, which grows a little at a time.
//!
//! ```text
//!   top bits of the hash --> directory --> segment of 384 slots, each hash and entry number, in one cache line mostly
//! ```
//!
//! A segment that is full is split in two, and nothing else moves: an insertion moves 336 slots at the most, however
//! large the table is, and never looks at an entry. The directory, 4 bytes for each segment, is copied when it doubles.
//! Two halves of what was split become one again when little is left in both, and the memory of one is given back.
//!
//! Of entries with the same hash the one added last is found first, as in the kernel, whose chains grow at the head.

/// Slots of one segment. No power of two: so that tables of 2^n entries are not all at the point of splitting.
const SLOTS: usize = 384;
/// A segment with so many is split.
const USED_MAX: u16 = 336;
/// Two halves of a segment that have no more than so many together become one again: half of what it takes to split it,
/// so that one connection more or less does not do both by turns.
const USED_MIN: u16 = USED_MAX / 2;
const EMPTY: u64 = u64::MAX;
/// With that many bits of the hash for the directory there are billions of entries.
const DEPTH_MAX: u32 = 16;

struct Segment {
    slots: Box<[u64; SLOTS]>,
    used: u16,
    /// How many top bits all hashes in it share.
    depth: u8,
    /// These bits, at the top.
    prefix: u32,
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
    fn new(depth: u8, prefix: u32) -> Self {
        Self { slots: Box::new([EMPTY; SLOTS]), used: 0, depth, prefix }
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
        Self { directory: vec![0], depth: 0, segments: vec![Segment::new(0, 0)] }
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
        if self.segments[number].used <= USED_MIN {
            self.merge(number);
        }
    }

    /// The directory's places of a segment, which lie side by side.
    fn places(&self, number: usize) -> core::ops::Range<usize> {
        let Segment { depth, prefix, .. } = self.segments[number];
        let first = self.place(prefix);
        first..first + (1 << (self.depth - u32::from(depth)))
    }

    fn split(&mut self, number: usize) -> bool {
        let Segment { depth, prefix, .. } = self.segments[number];
        if u32::from(depth) == DEPTH_MAX {
            return false;
        }
        if u32::from(depth) == self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth += 1;
        }
        let places = self.places(number);
        let bit = 1 << (31 - depth);
        let whole = core::mem::replace(&mut self.segments[number], Segment::new(depth + 1, prefix));
        let mut second = Segment::new(depth + 1, prefix | bit);
        for slot in whole.in_order() {
            let is_second = unpack(slot).0 & bit != 0;
            if is_second { &mut second } else { &mut self.segments[number] }.append(slot);
        }
        let new = u32::try_from(self.segments.len()).expect("there are fewer segments than entries");
        self.segments.push(second);
        self.directory[places.start + places.len() / 2..places.end].fill(new);
        true
    }

    /// Makes a segment and the other half of what it was split from one again, if little is in both; and that with its
    /// other half, and so on.
    fn merge(&mut self, mut number: usize) {
        while let Some(kept) = self.merge_once(number) {
            number = kept;
        }
    }

    fn merge_once(&mut self, number: usize) -> Option<usize> {
        let Segment { depth, prefix, used, .. } = self.segments[number];
        let bit = 1u32.checked_shl(32 - u32::from(depth))?;
        let other = self.directory[self.place(prefix ^ bit)] as usize;
        if self.segments[other].depth != depth || used + self.segments[other].used > USED_MIN {
            return None;
        }
        let (kept, gone) = (number.min(other), number.max(other));
        let places = self.places(gone);
        // The last one takes its number.
        let segment = self.segments.swap_remove(gone);
        #[allow(clippy::cast_possible_truncation, reason = "numbers of segments are of 32 bits")]
        {
            self.directory[places].fill(kept as u32);
            if gone < self.segments.len() {
                let moved = self.places(gone);
                self.directory[moved].fill(gone as u32);
            }
        }
        // The hashes of the two differ in a bit, so that what is equal stays in its order.
        for slot in segment.in_order() {
            self.segments[kept].append(slot);
        }
        self.segments[kept].depth = depth - 1;
        self.segments[kept].prefix = prefix & !bit;
        if let [_] = self.segments[..] {
            (self.directory, self.depth) = (vec![0], 0);
        }
        Some(kept)
    }

    /// What one without entries takes.
    pub(super) const BYTES_WHEN_EMPTY: usize = size_of::<[u64; SLOTS]>() + size_of::<u32>();

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.segments.len() * size_of::<[u64; SLOTS]>() + self.directory.len() * size_of::<u32>()
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Filled and emptied by turns it holds what it should, and never more segments than that takes.
        #[test]
        fn it_grows_and_shrinks(phases in prop::collection::vec((prop::collection::vec(hashes(), 0..2000), 0usize..2000), 1..6)) {
            let (mut index, mut held) = (Index::new(), Vec::new());
            for (entry, (add, keep)) in (0u32..).step_by(10_000).zip(phases) {
                for (hash, entry) in add.into_iter().zip(entry..) {
                    if held.iter().filter(|(known, _)| *known == hash).count() < 40 && index.insert(hash, entry) {
                        held.push((hash, entry));
                    }
                }
                while held.len() > keep {
                    let (hash, entry) = held.swap_remove(held.len() / 3);
                    index.remove(hash, entry);
                }
                for (hash, entry) in &held {
                    prop_assert_eq!(index.find(*hash, |found| found == *entry), Some(*entry));
                }
                let used: usize = index.segments.iter().map(|segment| usize::from(segment.used)).sum();
                prop_assert_eq!(used, held.len());
                prop_assert!(!held.is_empty() || index.segments.len() == 1);
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
    fn what_is_gone_takes_no_memory() {
        let hash = |n: u32| n.wrapping_mul(0x9e37_79b9);
        let mut index = Index::new();
        let before = index.bytes();
        let mut most = 0;
        for _ in 0..3 {
            (0..200_000).for_each(|n| assert!(index.insert(hash(n), n)));
            most = index.bytes();
            (0..198_000).for_each(|n| index.remove(hash(n), n));
            assert!(index.bytes() < most / 20, "a hundredth is left: {} of {most}", index.bytes());
            assert!((198_000..200_000).all(|n| index.find(hash(n), |found| found == n) == Some(n)));
            (198_000..200_000).for_each(|n| index.remove(hash(n), n));
            assert_eq!(index.bytes(), before);
        }
        assert!(most > before * 500);
    }

    #[test]
    fn an_entry_that_comes_and_goes_splits_and_merges_nothing() {
        let hash = |n: u32| n.wrapping_mul(0x9e37_79b9);
        let mut index = Index::new();
        (0..10_000).for_each(|n| assert!(index.insert(hash(n), n)));
        for n in 10_000..10_300 {
            assert!(index.insert(hash(n), n));
            let with = index.segments.len();
            index.remove(hash(n), n);
            assert!(index.insert(hash(n), n));
            assert_eq!(index.segments.len(), with);
            index.remove(hash(n), n);
        }
    }

    #[test]
    fn hashes_that_are_all_alike_are_refused_in_the_end() {
        let mut index = Index::new();
        let stored = (0..1000).take_while(|&entry| index.insert(7, entry)).count();
        assert_eq!(stored, usize::from(USED_MAX));
        assert!(index.insert(u32::MAX, 1), "others have room");
    }
}
