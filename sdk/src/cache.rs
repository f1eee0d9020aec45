//! Remembers something about addresses, within bounds.

use alloc::vec::Vec;

use crate::{Address, Host, siphash13};

/// Where a chain ends.
const END: u32 = u32::MAX;

/// Entries come in blocks, so that growth copies nothing.
const BLOCK: usize = 256;

/// Entries that are looked at when one has to go.
const SAMPLE: usize = 16;

/// The largest state [`AddressCache::save`] makes; a module may hand over 1 MiB.
const STATE_MAX: usize = 1 << 20;

/// A bounded map from addresses to `T`, whose entries are forgotten when nobody asks for them.
///
/// As in the kernel's lblc, entries are checked from time to time, and a check takes away those that were idle for
/// long; between checks even an older one is good. When the map is full a new entry takes the place of the least
/// recently used one of a few.
///
/// Time is that of the host and starts with the first [`tick`](Self::tick); a [`restore`](Self::restore) does not
/// stop it. Clients cannot choose addresses that collide: hashes are keyed by the host's random
/// numbers.
#[derive(Clone, Debug)]
pub struct AddressCache<T> {
    capacity: usize,
    idle_ms: u64,
    check_ms: u64,
    /// The clock of the cache, and what the host's showed at the last tick.
    clock_ms: u64,
    host_ms: u64,
    key: [u64; 2],
    /// The first entry of each chain; a power of two of them.
    heads: Vec<u32>,
    blocks: Vec<Vec<Entry<T>>>,
    len: usize,
    /// Where the next sample begins.
    rover: usize,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    address: Address,
    used_ms: u64,
    next: u32,
    value: T,
}

impl<T> AddressCache<T> {
    /// An empty map of at most `capacity` entries (1 to 2^31), which is checked every `check_ms` for entries nobody
    /// asked for in `idle_ms`.
    pub fn new(capacity: usize, idle_ms: u64, check_ms: u64) -> Self {
        Self {
            capacity: capacity.max(1),
            idle_ms,
            check_ms: check_ms.max(1),
            clock_ms: 0,
            host_ms: 0,
            key: [0; 2],
            heads: Vec::new(),
            blocks: Vec::new(),
            len: 0,
            rover: 0,
        }
    }

    /// Sets the clock; to be called at the beginning of each pick. The first call of all takes random numbers.
    pub fn tick(&mut self, host: &mut dyn Host) {
        let now = host.now_ms();
        if self.heads.is_empty() {
            self.key = [host.random(), host.random()];
            self.make_chains();
            self.host_ms = now;
        }
        // Another host's clock, after a restore, may be behind: ours stands still then.
        self.clock_ms = self.clock_ms.saturating_add(now.saturating_sub(self.host_ms));
        self.host_ms = now;
    }

    /// Milliseconds since the first tick.
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// How many entries there are, those included that the last check would have taken away.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is known about an address. Counts as a use.
    pub fn get(&mut self, address: Address) -> Option<&mut T> {
        let at = self.find(address)?;
        let (clock, last_check) = (self.clock_ms, self.clock_ms / self.check_ms * self.check_ms);
        let idle = self.idle_ms;
        let entry = self.entry_mut(at);
        if last_check >= entry.used_ms.saturating_add(idle) {
            return None;
        }
        entry.used_ms = clock;
        Some(&mut entry.value)
    }

    /// Remembers `value` about an address, in place of what was known.
    pub fn insert(&mut self, address: Address, value: T) {
        self.insert_used(address, value, self.clock_ms);
    }

    /// The state, for [`Scheduler::save`](crate::Scheduler::save): it begins with `magic`, and `write` appends a value.
    /// Entries beyond 1 MiB, the most a module may hand over, are left out.
    pub fn save(&self, magic: &[u8], mut write: impl FnMut(&T, &mut Vec<u8>)) -> Vec<u8> {
        let mut state = magic.to_vec();
        for word in [self.clock_ms, self.host_ms, self.key[0], self.key[1]] {
            state.extend(word.to_le_bytes());
        }
        for entry in self.blocks.iter().flatten() {
            let end = state.len();
            for word in [entry.address.hi, entry.address.lo, entry.used_ms] {
                state.extend(word.to_le_bytes());
            }
            write(&entry.value, &mut state);
            if state.len() > STATE_MAX {
                state.truncate(end);
                break;
            }
        }
        state
    }

    /// Takes over a state; `read` takes a value off the front of the bytes. False: it was not such a state, and
    /// nothing has changed.
    pub fn restore(
        &mut self,
        magic: &[u8],
        state: &[u8],
        mut read: impl FnMut(&mut &[u8]) -> Option<T>,
    ) -> bool {
        let Some(mut state) = state.strip_prefix(magic) else { return false };
        let mut fresh = Self::new(self.capacity, self.idle_ms, self.check_ms);
        let mut take = || {
            let rest = &mut state;
            fresh.clock_ms = take_u64(rest)?;
            fresh.host_ms = take_u64(rest)?;
            fresh.key = [take_u64(rest)?, take_u64(rest)?];
            fresh.make_chains();
            while !rest.is_empty() {
                let address = Address { hi: take_u64(rest)?, lo: take_u64(rest)? };
                let used_ms = take_u64(rest)?;
                let value = read(rest)?;
                if used_ms > fresh.clock_ms {
                    return None;
                }
                fresh.insert_used(address, value, used_ms);
            }
            Some(())
        };
        if take().is_none() {
            return false;
        }
        *self = fresh;
        true
    }

    fn make_chains(&mut self) {
        self.heads.resize((self.capacity / 4).next_power_of_two(), END);
    }

    fn insert_used(&mut self, address: Address, value: T, used_ms: u64) {
        if let Some(at) = self.find(address) {
            let entry = self.entry_mut(at);
            (entry.value, entry.used_ms) = (value, used_ms);
            return;
        }
        let chain = self.chain(address);
        if self.len < self.capacity {
            if self.len.is_multiple_of(BLOCK) {
                self.blocks.push(Vec::with_capacity(BLOCK));
            }
            let next = self.heads[chain];
            let block = self.blocks.last_mut().expect("there is room in the last block");
            block.push(Entry { address, used_ms, next, value });
            self.heads[chain] = to_index(self.len);
            self.len += 1;
        } else {
            let victim = self.victim();
            self.unlink(victim);
            let next = self.heads[chain];
            *self.entry_mut(victim) = Entry { address, used_ms, next, value };
            self.heads[chain] = victim;
        }
    }

    /// The least recently used one of the sample.
    fn victim(&mut self) -> u32 {
        let sample = (0..SAMPLE.min(self.len)).map(|step| to_index((self.rover + step) % self.len));
        let victim = sample.min_by_key(|&at| self.entry(at).used_ms).expect("a full map is not empty");
        self.rover = (self.rover + SAMPLE) % self.len;
        victim
    }

    fn unlink(&mut self, victim: u32) {
        let next = self.entry(victim).next;
        let chain = self.chain(self.entry(victim).address);
        let mut at = self.heads[chain];
        if at == victim {
            self.heads[chain] = next;
            return;
        }
        while self.entry(at).next != victim {
            at = self.entry(at).next;
        }
        self.entry_mut(at).next = next;
    }

    fn find(&self, address: Address) -> Option<u32> {
        let mut at = *self.heads.get(self.chain(address))?;
        while at != END {
            let entry = self.entry(at);
            if entry.address == address {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    #[expect(clippy::cast_possible_truncation, reason = "the number of chains is a usize")]
    fn chain(&self, address: Address) -> usize {
        let hash = siphash13(self.key, &[address.hi, address.lo], 0, 0);
        hash as usize & self.heads.len().wrapping_sub(1)
    }

    fn entry(&self, at: u32) -> &Entry<T> {
        &self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }

    fn entry_mut(&mut self, at: u32) -> &mut Entry<T> {
        &mut self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the capacity is at most 2^31")]
fn to_index(at: usize) -> u32 {
    at as u32
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;

    const MAGIC: &[u8] = b"test";

    fn address(n: u64) -> Address {
        Address { hi: n / 7, lo: n }
    }

    fn at(cache: &mut AddressCache<u64>, now_ms: u64) {
        cache.tick(&mut TestHost { now_ms, ..TestHost::default() });
    }

    fn write(value: &u64, state: &mut Vec<u8>) {
        state.extend(value.to_le_bytes());
    }

    #[test]
    fn it_remembers_what_was_said_last() {
        let mut cache = AddressCache::new(1000, 100, 10);
        assert!(cache.get(address(1)).is_none(), "before the first tick");
        at(&mut cache, 5_000);
        for n in 0..1000 {
            cache.insert(address(n), n);
        }
        cache.insert(address(7), 70);
        assert_eq!(cache.len(), 1000);
        for n in 0..1000 {
            assert_eq!(cache.get(address(n)).copied(), Some(if n == 7 { 70 } else { n }));
        }
        assert!(cache.get(address(1000)).is_none());
    }

    #[test]
    fn idle_entries_go_at_a_check_and_not_before() {
        let mut cache = AddressCache::new(4, 100, 30);
        at(&mut cache, 1_000);
        cache.insert(address(1), 1);
        cache.insert(address(2), 2);
        at(&mut cache, 1_080);
        assert!(cache.get(address(2)).is_some());
        at(&mut cache, 1_119);
        assert_eq!(
            cache.clone().get(address(1)),
            Some(&mut 1),
            "idle for long enough, but the last check was at 90"
        );
        at(&mut cache, 1_120);
        assert!(cache.get(address(1)).is_none());
        assert!(cache.get(address(2)).is_some(), "used at 80");
    }

    #[test]
    fn a_full_map_forgets_old_entries_for_new_ones() {
        let mut cache = AddressCache::new(500, u64::MAX, 1);
        for n in 0..20_000 {
            at(&mut cache, n);
            cache.insert(address(n), n);
            assert_eq!(cache.get(address(n)), Some(&mut { n }));
            cache.get(address(0));
        }
        assert_eq!(cache.len(), 500);
        assert_eq!(cache.get(address(0)), Some(&mut 0), "used all the time");
        let young = (18_000..20_000).filter(|&n| cache.get(address(n)).is_some()).count();
        assert_eq!(young, 499, "the others are from the last tenth");
    }

    #[test]
    fn a_state_carries_entries_and_their_ages() {
        let mut old = AddressCache::new(100, 100, 30);
        at(&mut old, 777_000);
        old.insert(address(1), 1);
        at(&mut old, 777_070);
        old.insert(address(2), 2);
        let state = old.save(MAGIC, write);

        let mut new = AddressCache::new(100, 100, 30);
        assert!(new.restore(MAGIC, &state, take_u64));
        let mut elsewhere = new.clone();
        at(&mut new, 777_125);
        assert_eq!((new.clock_ms(), new.len()), (125, 2));
        assert!(new.get(address(1)).is_none(), "120 had passed since its use at the last check");
        assert_eq!(new.get(address(2)), Some(&mut 2));
        at(&mut elsewhere, 5);
        assert_eq!(
            (elsewhere.clock_ms(), elsewhere.len()),
            (70, 2),
            "another host's clock: it goes on at 70"
        );
        at(&mut elsewhere, 60);
        assert_eq!(elsewhere.clock_ms(), 125);
    }

    #[test]
    fn a_state_it_cannot_use_changes_nothing() {
        let mut cache = AddressCache::new(100, 100, 30);
        at(&mut cache, 1);
        cache.insert(address(1), 1);
        let state = cache.save(MAGIC, write);
        let mut from_the_future = state.clone();
        let used = state.len() - 16;
        from_the_future[used] = 9;
        let cases: [(&[u8], &str); 5] = [
            (b"", "nothing"),
            (b"lblc", "another magic"),
            (&state[..10], "cut in the head"),
            (&state[..state.len() - 1], "cut in an entry"),
            (&from_the_future, "used after it was saved"),
        ];
        for (bad, why) in cases {
            assert!(!cache.restore(MAGIC, bad, take_u64), "{why}");
            assert_eq!(cache.get(address(1)), Some(&mut 1), "{why}");
        }
    }

    #[test]
    fn a_large_state_is_cut_at_a_mebibyte() {
        let mut cache = AddressCache::new(60_000, u64::MAX, 1);
        at(&mut cache, 0);
        for n in 0..60_000 {
            cache.insert(address(n), n);
        }
        let state = cache.save(MAGIC, write);
        assert!(state.len() <= STATE_MAX && state.len() > STATE_MAX - 32, "{}", state.len());
        let mut small = AddressCache::new(100, u64::MAX, 1);
        assert!(small.restore(MAGIC, &state, take_u64), "a smaller map keeps what fits");
        assert_eq!(small.len(), 100);
    }
}
