//! The connection table: sharded, shared by all workers, bounded.
//!
//! A shard is chosen by protocol and client (address and port), which both directions of a connection
//! carry, so one lock covers all there is to a connection:
//!
//! ```text
//!   request  CIP:cport -> VIP:vport   --shard(client)--+--> index of requests --+
//!                                                      |                        +--> slab entry, wheel
//!   reply    RIP:rport -> CIP:cport   --shard(client)--+--> index of replies ---+
//! ```
//!
//! Invariants: an entry is in the index of requests, in that of replies exactly when it translates replies,
//! and on the wheel; all three leave together. Its destination counts it once.

use core::hash::{BuildHasher, Hash};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use uvs_wire::Address;

use crate::connection::{Connection, ReplyKey, RequestKey};
use crate::service::lock;
use crate::time::{Duration, Instant};
use crate::wheel::{Linked, Links, Wheel};

const SHARDS: usize = 64;
/// Entries that one call of [`Table::expire`] looks at in one shard while it holds the lock.
const EXPIRE_SLICE: usize = 256;

enum Slot {
    Used { links: Links, connection: Connection },
    Free { next: u32 },
}

struct Slab {
    slots: Vec<Slot>,
    free: u32,
}

impl Linked for Slab {
    fn links(&mut self, index: u32) -> &mut Links {
        match &mut self.slots[index as usize] {
            Slot::Used { links, .. } => links,
            Slot::Free { .. } => unreachable!("only used slots are linked"),
        }
    }
}

impl Slab {
    const END: u32 = u32::MAX;

    fn insert(&mut self, connection: Connection) -> u32 {
        let used = Slot::Used { links: Links::default(), connection };
        if self.free == Self::END {
            self.slots.push(used);
            u32::try_from(self.slots.len() - 1).expect("the connection limit is below 2^32")
        } else {
            let index = self.free;
            match core::mem::replace(&mut self.slots[index as usize], used) {
                Slot::Free { next } => self.free = next,
                Slot::Used { .. } => unreachable!("the free list holds free slots"),
            }
            index
        }
    }

    fn remove(&mut self, index: u32) -> Connection {
        match core::mem::replace(&mut self.slots[index as usize], Slot::Free { next: self.free }) {
            Slot::Used { connection, .. } => {
                self.free = index;
                connection
            }
            Slot::Free { .. } => unreachable!("an index leads to a used slot"),
        }
    }

    fn get(&self, index: u32) -> &Connection {
        match &self.slots[index as usize] {
            Slot::Used { connection, .. } => connection,
            Slot::Free { .. } => unreachable!("an index leads to a used slot"),
        }
    }

    fn get_mut(&mut self, index: u32) -> &mut Connection {
        match &mut self.slots[index as usize] {
            Slot::Used { connection, .. } => connection,
            Slot::Free { .. } => unreachable!("an index leads to a used slot"),
        }
    }
}

/// One shard, locked.
pub(crate) struct Shard {
    hasher: FixedState,
    slab: Slab,
    requests: HashTable<u32>,
    replies: HashTable<u32>,
    wheel: Wheel,
    /// When the wheel's next slot comes up, in nanoseconds; `u64::MAX`: nothing is armed. Read without the lock.
    due: Arc<AtomicU64>,
}

/// Names an entry for as long as its shard is locked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryId(u32);

impl Shard {
    fn new(seed: u64, due: Arc<AtomicU64>) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            slab: Slab { slots: Vec::new(), free: Slab::END },
            requests: HashTable::new(),
            replies: HashTable::new(),
            wheel: Wheel::new(),
            due,
        }
    }

    /// The entry that a request belongs to.
    pub(crate) fn request(&self, key: &RequestKey) -> Option<EntryId> {
        let hash = hash(&self.hasher, key);
        self.requests.find(hash, |&index| self.slab.get(index).request == *key).copied().map(EntryId)
    }

    /// The entry that a reply belongs to.
    pub(crate) fn reply(&self, key: &ReplyKey) -> Option<EntryId> {
        let hash = hash(&self.hasher, key);
        self.replies.find(hash, |&index| self.slab.get(index).reply_key() == *key).copied().map(EntryId)
    }

    pub(crate) fn get(&self, id: EntryId) -> &Connection {
        self.slab.get(id.0)
    }

    /// The entry, to change anything but its keys and its deadline.
    pub(crate) fn get_mut(&mut self, id: EntryId) -> &mut Connection {
        self.slab.get_mut(id.0)
    }

    /// Moves the deadline.
    pub(crate) fn expire_at(&mut self, id: EntryId, deadline: Instant) {
        let connection = self.slab.get_mut(id.0);
        let before = core::mem::replace(&mut connection.expires_at, deadline);
        self.wheel.nearer(&mut self.slab, id.0, before, deadline);
        if deadline < before {
            self.due.fetch_min(deadline.as_nanos(), Relaxed);
        }
    }

    /// Moves the deadline to a timeout after `now`.
    pub(crate) fn touch(&mut self, id: EntryId, now: Instant) {
        let timeout = self.slab.get(id.0).timeout;
        self.expire_at(id, now + timeout);
    }

    /// Makes a template unfit to be found: its ports become 0xffff, as listings of the kernel show it. It stays
    /// until its time is up.
    pub(crate) fn invalidate(&mut self, id: EntryId) {
        let before = hash(&self.hasher, &self.slab.get(id.0).request);
        let indexed = self.requests.find_entry(before, |&index| index == id.0);
        indexed.expect("an entry is in the index of requests").remove();
        let template = self.slab.get_mut(id.0);
        (template.request.virtual_port, template.destination_port) = (0xffff, 0xffff);
        let (slab, hasher) = (&self.slab, &self.hasher);
        let after = hash(hasher, &slab.get(id.0).request);
        self.requests.insert_unique(after, id.0, |&i| hash(hasher, &slab.get(i).request));
    }

    fn insert(&mut self, connection: Connection) {
        let deadline = connection.expires_at;
        let request = hash(&self.hasher, &connection.request);
        let reply = connection.translates_replies().then(|| hash(&self.hasher, &connection.reply_key()));
        let index = self.slab.insert(connection);
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.requests.insert_unique(request, index, |&i| hash(hasher, &slab.get(i).request));
        if let Some(reply) = reply {
            self.replies.insert_unique(reply, index, |&i| hash(hasher, &slab.get(i).reply_key()));
        }
        self.wheel.arm(&mut self.slab, index, deadline);
        self.due.fetch_min(deadline.as_nanos(), Relaxed);
    }

    fn remove(&mut self, id: EntryId) -> Connection {
        self.wheel.disarm(&mut self.slab, id.0);
        let connection = self.slab.remove(id.0);
        let hash_of_request = hash(&self.hasher, &connection.request);
        let indexed = self.requests.find_entry(hash_of_request, |&index| index == id.0);
        indexed.expect("an entry is in the index of requests").remove();
        if connection.translates_replies() {
            let hash_of_reply = hash(&self.hasher, &connection.reply_key());
            let indexed = self.replies.find_entry(hash_of_reply, |&index| index == id.0);
            indexed.expect("a translated entry is in the index of replies").remove();
        }
        connection
    }

    fn used(&self) -> impl Iterator<Item = (EntryId, &Connection)> {
        (0u32..).zip(&self.slab.slots).filter_map(|(index, slot)| match slot {
            Slot::Used { connection, .. } => Some((EntryId(index), connection)),
            Slot::Free { .. } => None,
        })
    }
}

/// Whether an entry waits for any port of its client.
fn is_open(request: &RequestKey) -> bool {
    request.client_port == 0 && !request.template
}

fn hash(hasher: &FixedState, key: &impl Hash) -> u64 {
    hasher.hash_one(key)
}

/// What happens to an entry whose time is up.
pub(crate) enum Expiry {
    Remove,
    /// It lives on for that long.
    Renew(Duration),
}

/// The whole table.
pub(crate) struct Table {
    hasher: FixedState,
    shards: Box<[Mutex<Shard>]>,
    due: Box<[Arc<AtomicU64>]>,
    len: AtomicUsize,
    limit: usize,
    /// Entries whose client port is 0: it is not known yet.
    open: AtomicUsize,
}

/// The table is at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Table {
    /// `seed` keys the hashes, so that no remote can choose collisions.
    pub(crate) fn new(limit: usize, seed: u64) -> Self {
        // Bits that choose the shard must not choose the bucket in it as well.
        let inner = seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15;
        let due: Box<[_]> = (0..SHARDS).map(|_| Arc::new(AtomicU64::new(u64::MAX))).collect();
        Self {
            hasher: FixedState::with_seed(seed),
            shards: due.iter().map(|due| Mutex::new(Shard::new(inner, Arc::clone(due)))).collect(),
            due,
            len: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            limit: limit.min(u32::MAX as usize - 1),
        }
    }

    fn shard_of(&self, protocol: u8, client: Address, client_port: u16) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "the remainder is below 64")]
        let shard = (hash(&self.hasher, &(protocol, client, client_port)) % SHARDS as u64) as usize;
        shard
    }

    /// Locks the shard of a client.
    pub(crate) fn shard(&self, protocol: u8, client: Address, client_port: u16) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.shard_of(protocol, client, client_port)])
    }

    /// Inserts an entry, unless another worker was faster: then that one stays, and `connection` is dropped.
    /// True: this one went in.
    pub(crate) fn insert(&self, connection: Connection) -> Result<bool, Full> {
        let request = connection.request;
        let index = self.shard_of(request.protocol, request.client, request.client_port);
        let mut shard = lock(&self.shards[index]);
        if shard.request(&request).is_some() {
            return Ok(false);
        }
        if self.len.fetch_add(1, Relaxed) >= self.limit {
            self.len.fetch_sub(1, Relaxed);
            return Err(Full);
        }
        connection.destination.attach(connection.counted);
        self.open.fetch_add(usize::from(is_open(&request)), Relaxed);
        shard.insert(connection);
        Ok(true)
    }

    /// Takes an entry out and returns it; its destination still counts it. `shard` must be the entry's, locked
    /// through this table.
    pub(crate) fn remove(&self, shard: &mut Shard, id: EntryId) -> Connection {
        let connection = shard.remove(id);
        self.len.fetch_sub(1, Relaxed);
        self.open.fetch_sub(usize::from(is_open(&connection.request)), Relaxed);
        connection
    }

    /// When [`Self::expire`] has work.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = self.due.iter().map(|due| due.load(Relaxed)).min()?;
        (due != u64::MAX).then(|| Instant::from_nanos(due))
    }

    /// Takes out what expired by `now`, in bounded slices between which other workers get the locks. `decide` says
    /// what becomes of each; `removed` sees what went.
    pub(crate) fn expire(
        &self,
        now: Instant,
        mut decide: impl FnMut(&mut Connection) -> Expiry,
        mut removed: impl FnMut(Connection),
    ) {
        for (index, due) in self.due.iter().enumerate() {
            while due.load(Relaxed) <= now.as_nanos() {
                let mut shard = lock(&self.shards[index]);
                let shard = &mut *shard;
                let mut exhausted = false;
                for _ in 0..EXPIRE_SLICE {
                    let Some(popped) = shard.wheel.pop(&mut shard.slab, now) else {
                        exhausted = true;
                        break;
                    };
                    let connection = shard.slab.get_mut(popped);
                    if connection.expires_at <= now {
                        match decide(connection) {
                            Expiry::Remove => {
                                removed(self.remove(shard, EntryId(popped)));
                                continue;
                            }
                            Expiry::Renew(timeout) => {
                                connection.timeout = timeout;
                                connection.expires_at = now + timeout;
                            }
                        }
                    }
                    let deadline = shard.slab.get(popped).expires_at;
                    shard.wheel.arm(&mut shard.slab, popped, deadline);
                }
                if exhausted {
                    let next = shard.wheel.next_due().map_or(u64::MAX, Instant::as_nanos);
                    due.store(next, Relaxed);
                    break;
                }
            }
        }
    }

    /// Takes out every entry that `gone` names; `removed` sees what went.
    pub(crate) fn remove_where(
        &self,
        gone: impl Fn(&Connection) -> bool,
        mut removed: impl FnMut(Connection),
    ) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let ids: Vec<EntryId> = shard.used().filter(|(_, c)| gone(c)).map(|(id, _)| id).collect();
            for id in ids {
                removed(self.remove(&mut shard, id));
            }
        }
    }

    /// Gives an entry that was made before its client's port was known to this one. False: there is none.
    pub(crate) fn claim(&self, key: &RequestKey, now: Instant) -> bool {
        let open = RequestKey { client_port: 0, ..*key };
        if self.open.load(Relaxed) == 0 || open == *key {
            return false;
        }
        let source = self.shard_of(open.protocol, open.client, 0);
        let target = self.shard_of(key.protocol, key.client, key.client_port);
        // Two workers that claim at once must not wait for each other.
        let mut low = lock(&self.shards[source.min(target)]);
        let mut high = (source != target).then(|| lock(&self.shards[source.max(target)]));
        let from = match &mut high {
            Some(high) if source > target => &mut **high,
            _ => &mut *low,
        };
        let Some(id) = from.request(&open).filter(|id| from.get(*id).expires_at > now) else { return false };
        let mut connection = from.remove(id);
        connection.request.client_port = key.client_port;
        let to = match &mut high {
            Some(high) if target > source => &mut **high,
            _ => &mut *low,
        };
        // Another worker may have placed the packet before this one meanwhile; the entry that was announced wins.
        let placed = to.request(key).map(|id| to.remove(id));
        to.insert(connection);
        self.open.fetch_sub(1, Relaxed);
        if let Some(placed) = placed {
            placed.destination.detach(placed.counted);
            self.len.fetch_sub(1, Relaxed);
            placed.release_control();
        }
        true
    }

    /// Takes out every entry that `gone` names of one part of the table, which has `parts`; `removed` sees what went.
    pub(crate) fn sweep(
        &self,
        part: usize,
        parts: usize,
        mut gone: impl FnMut(&Connection) -> bool,
        mut removed: impl FnMut(Connection),
    ) {
        for shard in self.shards.iter().skip(part).step_by(parts) {
            let mut shard = lock(shard);
            let ids: Vec<EntryId> = shard.used().filter(|(_, c)| gone(c)).map(|(id, _)| id).collect();
            for id in ids {
                removed(self.remove(&mut shard, id));
            }
        }
    }

    /// Shows every entry.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Connection)) {
        for shard in &self.shards {
            lock(shard).used().for_each(|(_, connection)| each(connection));
        }
    }

    /// Entries, templates included.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}
