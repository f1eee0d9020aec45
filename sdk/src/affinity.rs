//! Remembers where clients were sent lately, within bounds.

use alloc::vec::Vec;

use crate::{Address, Host, siphash13};

/// Where a chain or the list ends.
const END: u32 = u32::MAX;

/// What a saved state starts with; `sdk/README.md` tells what follows.
const MAGIC: &[u8; 8] = b"UVSAFF01";
/// How many clients there is room for from the beginning.
const ROOM: usize = 1 << 16;
/// Bytes of a client in a saved state.
const SAVED: usize = 28;

/// The destinations of the clients that came lately: at most `capacity` of them, each for `ttl_ms` after it came last.
///
/// When it is full, the client that stayed away longest makes room. The SDKs of all languages have it, with one
/// layout of the saved state, so that clients stay where they are even when a module in another language takes over.
/// Unlike [`AddressCache`](crate::AddressCache) it forgets to the millisecond and in the order of use.
///
/// ```
/// use uvs_sdk::{Address, Affinity, testing::TestHost};
/// # use core::net::Ipv4Addr;
/// let client: Address = Ipv4Addr::new(192, 0, 2, 7).into();
/// let mut clients = Affinity::new(10_000, 30_000);
/// clients.tick(&mut TestHost { now_ms: 1_000, ..TestHost::default() });
/// clients.put(client, 3);
/// clients.tick(&mut TestHost { now_ms: 30_999, ..TestHost::default() });
/// assert_eq!(clients.get(client), Some(3));
/// clients.tick(&mut TestHost { now_ms: 31_000, ..TestHost::default() });
/// assert_eq!(clients.get(client), None);
/// ```
#[derive(Clone, Debug)]
pub struct Affinity {
    capacity: usize,
    ttl_ms: u64,
    now_ms: u64,
    /// Keys the hash, so that clients cannot choose addresses that collide; `None` while nobody is remembered.
    key: Option<[u64; 2]>,
    /// The first entry of each chain; a power of two of them.
    heads: Vec<u32>,
    entries: Vec<Entry>,
    len: usize,
    /// The ends of the list by use, and the first of the entries that hold nothing.
    oldest: u32,
    newest: u32,
    free: u32,
}

#[derive(Clone, Debug)]
struct Entry {
    client: Address,
    used_ms: u64,
    id: u32,
    /// In its chain, or among the free ones.
    next: u32,
    older: u32,
    newer: u32,
}

impl Affinity {
    /// Remembers nobody yet; `capacity` is 1 to 2^31.
    pub fn new(capacity: usize, ttl_ms: u64) -> Self {
        Self {
            capacity: capacity.max(1),
            ttl_ms,
            now_ms: 0,
            key: None,
            heads: Vec::new(),
            entries: Vec::new(),
            len: 0,
            oldest: END,
            newest: END,
            free: END,
        }
    }

    /// Sets the clock and forgets up to two clients whose time is over; to be called at the beginning of each pick.
    /// The first call of all takes random numbers.
    pub fn tick(&mut self, host: &mut dyn Host) {
        self.now_ms = host.now_ms();
        if self.key.is_none() {
            self.key = Some([host.random(), host.random()]);
            self.make_chains();
        }
        // A pick remembers one client at most: to forget two keeps up, and no pick has to forget them all.
        for _ in 0..2 {
            match self.entries.get(self.oldest as usize) {
                Some(entry) if !self.is_fresh(entry) => self.remove_oldest(),
                _ => break,
            }
        }
    }

    /// How many clients there are, those included that are about to be forgotten.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The destination id of a client, if its time is not over. Does not count as a use.
    pub fn get(&self, client: Address) -> Option<u32> {
        let entry = &self.entries[self.find(client)? as usize];
        self.is_fresh(entry).then_some(entry.id)
    }

    /// Remembers that the client goes to destination `id`; its time starts anew.
    pub fn put(&mut self, client: Address, id: u32) {
        self.insert(client, id, self.now_ms);
    }

    /// The state, for [`Scheduler::save`](crate::Scheduler::save).
    pub fn save(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(MAGIC.len() + self.len * SAVED);
        state.extend(MAGIC);
        let mut at = self.oldest;
        while let Some(entry) = self.entries.get(at as usize) {
            for word in [entry.client.hi, entry.client.lo, entry.used_ms] {
                state.extend(word.to_le_bytes());
            }
            state.extend(entry.id.to_le_bytes());
            at = entry.newer;
        }
        state
    }

    /// Takes over a state. False: it was not such a state or has more clients than fit, and nothing has changed.
    pub fn restore(&mut self, state: &[u8]) -> bool {
        let Some(body) = state.strip_prefix(MAGIC) else { return false };
        let (clients, rest) = body.as_chunks::<SAVED>();
        if !rest.is_empty() || clients.len() > self.capacity {
            return false;
        }
        let word = |client: &[u8; SAVED], at: usize| {
            u64::from_le_bytes(client[at..at + 8].try_into().expect("eight bytes"))
        };
        // Before the first tick there are no random numbers, and a pick has no time to put all into other chains: who
        // came when is what clients do not know.
        let key = self.key.or_else(|| {
            (!clients.is_empty()).then(|| {
                clients.iter().fold([0, 1], |key, client| {
                    let hash = siphash13(key, &[word(client, 0), word(client, 8), word(client, 16)], 0, 0);
                    [key[1], hash]
                })
            })
        });
        let mut fresh = Self { key, now_ms: self.now_ms, ..Self::new(self.capacity, self.ttl_ms) };
        fresh.make_chains();
        for client in clients {
            let id = u32::from_le_bytes(client[24..].try_into().expect("four bytes"));
            fresh.insert(Address { hi: word(client, 0), lo: word(client, 8) }, id, word(client, 16));
        }
        *self = fresh;
        true
    }

    /// A time that is still to come was another director's: it says nothing.
    fn is_fresh(&self, entry: &Entry) -> bool {
        self.now_ms.checked_sub(entry.used_ms).is_some_and(|age| age < self.ttl_ms)
    }

    fn insert(&mut self, client: Address, id: u32, used_ms: u64) {
        let at = match self.find(client) {
            Some(at) => {
                self.unlink(at);
                at
            }
            None => self.add(client),
        };
        let newest = self.newest;
        let entry = &mut self.entries[at as usize];
        (entry.id, entry.used_ms, entry.older, entry.newer) = (id, used_ms, newest, END);
        self.newest = at;
        match self.entries.get_mut(newest as usize) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
    }

    /// A new entry, in its chain but not in the list.
    fn add(&mut self, client: Address) -> u32 {
        if self.len == self.capacity {
            self.remove_oldest();
        }
        if self.heads.is_empty() {
            self.make_chains();
        }
        let chain = self.chain(client);
        let next = self.heads[chain];
        let entry = Entry { client, used_ms: 0, id: 0, next, older: END, newer: END };
        let at = if self.free == END {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("the capacity is at most 2^31")
        } else {
            let at = self.free;
            self.free = self.entries[at as usize].next;
            self.entries[at as usize] = entry;
            at
        };
        self.heads[chain] = at;
        self.len += 1;
        at
    }

    fn remove_oldest(&mut self) {
        let victim = self.oldest;
        self.unlink(victim);
        let Entry { client, next, .. } = self.entries[victim as usize];
        let chain = self.chain(client);
        if self.heads[chain] == victim {
            self.heads[chain] = next;
        } else {
            let mut at = self.heads[chain];
            while self.entries[at as usize].next != victim {
                at = self.entries[at as usize].next;
            }
            self.entries[at as usize].next = next;
        }
        self.entries[victim as usize].next = self.free;
        self.free = victim;
        self.len -= 1;
    }

    /// Takes an entry out of the list by use.
    fn unlink(&mut self, at: u32) {
        let Entry { older, newer, .. } = self.entries[at as usize];
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    fn find(&self, client: Address) -> Option<u32> {
        let mut at = *self.heads.get(self.chain(client))?;
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.client == client {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// Puts all entries into chains by the key.
    fn make_chains(&mut self) {
        self.heads.clear();
        // Growing copies, which is more than a pick should have to pay for.
        self.entries.reserve_exact(self.capacity.min(ROOM));
        self.heads.resize((self.capacity / 2).next_power_of_two(), END);
        let mut at = self.oldest;
        while at != END {
            let chain = self.chain(self.entries[at as usize].client);
            let entry = &mut self.entries[at as usize];
            entry.next = core::mem::replace(&mut self.heads[chain], at);
            at = entry.newer;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the number of chains is a usize")]
    fn chain(&self, client: Address) -> usize {
        let hash = siphash13(self.key.unwrap_or_default(), &[client.hi, client.lo], 0, 0);
        hash as usize & self.heads.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::testing::TestHost;

    fn client(n: u64) -> Address {
        Address { hi: n / 7, lo: n }
    }

    fn at(clients: &mut Affinity, now_ms: u64) {
        clients.tick(&mut TestHost { now_ms, seed: 5, ..TestHost::default() });
    }

    #[test]
    fn a_client_is_known_until_its_time_is_over() {
        let mut clients = Affinity::new(10, 100);
        assert_eq!(clients.get(client(1)), None, "before the first tick");
        at(&mut clients, 1_000);
        clients.put(client(1), 11);
        clients.put(client(2), 22);
        at(&mut clients, 1_099);
        assert_eq!(
            (clients.get(client(1)), clients.get(client(2)), clients.get(client(3))),
            (Some(11), Some(22), None)
        );
        clients.put(client(1), 12);
        at(&mut clients, 1_100);
        assert_eq!(
            (clients.get(client(1)), clients.get(client(2))),
            (Some(12), None),
            "a use starts its time anew"
        );
        assert_eq!(clients.len(), 1);
    }

    #[test]
    fn the_one_that_stayed_away_longest_makes_room() {
        let mut clients = Affinity::new(500, 1 << 40);
        for n in 0..20_000 {
            at(&mut clients, n);
            clients.put(client(n), u32::try_from(n).unwrap());
            clients.put(client(0), 7);
        }
        assert_eq!(clients.len(), 500);
        assert_eq!(clients.get(client(0)), Some(7), "used all the time");
        for n in 1..20_000 {
            assert_eq!(clients.get(client(n)).is_some(), n > 19_500, "{n}");
        }
    }

    #[test]
    fn what_is_over_is_forgotten_bit_by_bit() {
        let mut clients = Affinity::new(100, 10);
        at(&mut clients, 0);
        for n in 0..100 {
            clients.put(client(n), 1);
        }
        for left in [98, 96, 94] {
            at(&mut clients, 10);
            assert_eq!(clients.len(), left);
            assert_eq!(clients.get(client(99)), None, "its time is over, even if it is still there");
        }
    }

    #[test]
    fn a_state_has_the_layout_that_all_languages_read() {
        let mut clients = Affinity::new(10, 100);
        at(&mut clients, 0x0102);
        clients.put(Address { hi: 0x1122_3344_5566_7788, lo: 9 }, 0xa0b0_c0d0);
        let mut want = b"UVSAFF01".to_vec();
        want.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 9, 0, 0, 0, 0, 0, 0, 0]);
        want.extend([2, 1, 0, 0, 0, 0, 0, 0, 0xd0, 0xc0, 0xb0, 0xa0]);
        assert_eq!(clients.save(), want);
    }

    #[test]
    fn a_state_carries_clients_their_times_and_their_order() {
        let mut old = Affinity::new(100, 100);
        for n in [3, 1, 2, 1] {
            at(&mut old, 50 + n);
            old.put(client(n), 1);
        }
        let mut new = Affinity::new(3, 100);
        assert!(new.restore(&old.save()), "before the first tick");
        assert_eq!(new.save(), old.save());
        at(&mut new, 60);
        assert!(new.restore(&old.save()), "and after it");
        new.put(client(4), 1);
        assert_eq!([1, 2, 3, 4].map(|n| new.get(client(n)).is_some()), [true, true, false, true]);
        at(&mut new, 10);
        assert_eq!(new.get(client(1)), None, "another director's clock");
    }

    #[test]
    fn a_state_it_cannot_use_changes_nothing() {
        let mut clients = Affinity::new(2, 100);
        at(&mut clients, 1);
        clients.put(client(1), 1);
        let state = clients.save();
        let mut large = Affinity::new(3, 100);
        at(&mut large, 1);
        (0..3).for_each(|n| large.put(client(n), 1));
        let cases = [
            (vec![], "nothing"),
            (b"UVSAFF02".to_vec(), "another magic"),
            (state[..7].to_vec(), "cut in the magic"),
            (state[..state.len() - 1].to_vec(), "cut in a client"),
            (large.save(), "more than fit"),
        ];
        for (bad, why) in cases {
            assert!(!clients.restore(&bad), "{why}");
            assert_eq!(clients.save(), state, "{why}");
        }
        assert!(clients.restore(b"UVSAFF01"));
        assert!(clients.is_empty(), "nobody is somebody's state");
    }
}
