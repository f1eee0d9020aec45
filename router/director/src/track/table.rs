//! The connection table: sharded, shared by all workers, bounded.
//!
//! A shard is chosen by protocol and client (address and port), which both directions of a connection
//! carry, so one lock covers all there is to a connection:
//!
//! ```text
//!   request  CIP:cport -> VIP:vport   --shard(client)--+--> index of requests --+
//!                                                      |                        +--> slab entry, wheel,
//!   reply    RIP:rport -> CIP:cport   --shard(client)--+--> index of replies ---+    queue of its class
//! ```
//!
//! Invariants: an entry is in the index of requests unless it is a template that is invalid, in that of replies exactly
//! when it translates replies, on the wheel, and in the queue exactly when it is embryonic; all leave together. Its
//! destination counts it once.
//!
//! Nothing in it is ever moved or copied whole: indexes grow and shrink segment by segment, the slab chunk by chunk,
//! and whoever goes through a shard does so in slices between which it lets go of the lock.

mod follow;
mod index;
mod keys;
mod queue;
mod room;
mod shard;
mod slab;
#[cfg(test)]
mod tests;

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use uvs_wire::Address;

use crate::base::ids::SHARDS;
use crate::base::lock::lock;
use crate::base::spec::Evict;
use crate::base::time::{Duration, Instant};
use crate::track::bypass::Bypass;
use crate::track::class::Class;
use crate::track::connection::{Connection, ReplyKey, RequestKey, Tallied};
use crate::track::control::Control;
pub(crate) use follow::{Drained, Told};
use keys::{Hashes, Keys, shard_of};
use shard::Lens;
pub(crate) use shard::{EntryId, Shard};

/// Entries that one call of [`Table::expire`] takes out of one shard while it holds the lock.
const EXPIRE_SLICE: usize = 32;
/// Entries that are looked at while a lock is held.
const LOOK_SLICE: u32 = 256;

/// A shard, locked for one client.
pub(crate) struct Locked<'a> {
    keys: &'a Keys,
    client: u64,
    shard: MutexGuard<'a, Shard>,
}

impl Deref for Locked<'_> {
    type Target = Shard;
    #[inline]
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl<'a> Locked<'a> {
    /// The entry that a request of that client belongs to.
    #[inline]
    pub(crate) fn request(&self, key: &RequestKey) -> Option<EntryId> {
        self.shard.find_request(self.keys.request(self.client, key), key)
    }

    /// The entry that a reply to that client belongs to.
    #[inline]
    pub(crate) fn reply(&self, key: &ReplyKey) -> Option<EntryId> {
        self.shard.find_reply(self.keys.reply(self.client, key), key)
    }

    /// The shard alone, which is all that an entry that was found needs.
    #[inline]
    pub(crate) fn into_shard(self) -> MutexGuard<'a, Shard> {
        self.shard
    }

    /// Whether replies of that entry are found to be its own: with the same destination for two addresses that a client
    /// asked for from one port, the newest entry has them. True where there are none.
    pub(crate) fn answers(&self, id: EntryId) -> bool {
        let connection = self.shard.get(id);
        !connection.translates_replies()
            || self.reply(&connection.reply_key()).is_none_or(|found| found == id)
    }

    /// Takes a template out of the index, so that no packet finds it. It stays in the table until its time is up.
    pub(crate) fn invalidate(&mut self, id: EntryId) {
        self.shard.invalidate(self.keys, id);
    }
}

/// What happens to an entry whose time is up.
pub(crate) enum Expiry {
    Remove,
    /// It lives on for that long.
    Renew(Duration),
    /// It lives until the deadline that it has now: a packet of it was seen elsewhere.
    Keep,
}

/// On cache lines of its own, so that workers in different shards do not meet.
#[repr(align(128))]
struct Apart<T>(T);

/// The whole table.
pub(crate) struct Table {
    keys: Keys,
    shards: Box<[Apart<Mutex<Shard>>]>,
    due: Box<[Arc<AtomicU64>]>,
    len: AtomicUsize,
    limit: usize,
    evict: Evict,
    /// Of what made room so far, by class.
    evicted: [AtomicU64; Class::COUNT],
    /// How many entries of each class the shards have.
    lens: Box<[Arc<Lens>]>,
    /// In which order classes make room, a byte each, and how often that was asked.
    order: AtomicU64,
    turns: AtomicU64,
    /// Where room is looked for next.
    next_shard: AtomicUsize,
    /// Entries that a service may have whatever others do, and what of that is not in use, over all services.
    share: AtomicUsize,
    reserved: AtomicUsize,
    /// Entries whose client port is 0: it is not known yet.
    open: AtomicUsize,
    /// How many [`Control`]s and logs there were so far.
    numbers: AtomicU64,
    /// What leaves the table leaves the flow cache.
    flows: Option<Arc<dyn Bypass>>,
}

/// The entry that is in the table after an insertion, its shard still locked.
pub(crate) struct Inserted<'a> {
    pub(crate) shard: Locked<'a>,
    pub(crate) id: EntryId,
    /// It is the one that was to be inserted; else another worker was faster.
    pub(crate) is_new: bool,
}

/// The table is at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Table {
    /// `seed` keys the hashes, so that no remote can choose collisions.
    pub(crate) fn new(limit: usize, evict: Evict, seed: u64) -> Self {
        let due: Box<[_]> = (0..SHARDS).map(|_| Arc::new(AtomicU64::new(u64::MAX))).collect();
        let lens: Box<[Arc<Lens>]> = (0..SHARDS).map(|_| Arc::default()).collect();
        let shard = |(number, due): (usize, &Arc<AtomicU64>)| {
            Shard::new(number, Arc::clone(due), Arc::clone(&lens[number]))
        };
        let limit = limit.min(u32::MAX as usize - 2);
        Self {
            keys: Keys::new(seed),
            shards: due.iter().enumerate().map(|it| Apart(Mutex::new(shard(it)))).collect(),
            due,
            len: AtomicUsize::new(0),
            limit,
            evict,
            evicted: Default::default(),
            lens,
            order: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            next_shard: AtomicUsize::new(0),
            share: AtomicUsize::new(limit / 2),
            reserved: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            flows: None,
        }
    }

    pub(crate) fn use_flows(&mut self, flows: Arc<dyn Bypass>) {
        self.flows = Some(flows);
    }

    /// What entries share that will hang on another one.
    pub(crate) fn control(&self, one_packet: bool) -> Arc<Control> {
        Arc::new(Control::new(self.number(), one_packet))
    }

    /// A number that was not given out before, from 1 on.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed) + 1
    }

    fn locked(&self, client: u64) -> Locked<'_> {
        Locked { keys: &self.keys, client, shard: lock(&self.shards[shard_of(client)].0) }
    }

    /// Locks the shard of a client.
    #[inline]
    pub(crate) fn shard(&self, protocol: u8, client: Address, client_port: u16) -> Locked<'_> {
        self.locked(self.keys.client(protocol, client, client_port))
    }

    /// The connection has begun again: from now on it is the newest of those whose replies look alike. `shard` must be
    /// the entry's, locked through this table.
    pub(crate) fn answer_first(&self, shard: &mut Shard, id: EntryId) {
        if let Some(hash) = Hashes::of(&self.keys, shard.get(id)).reply {
            shard.answer_first(hash, id);
        }
    }

    /// The hash of a request's client, and its own.
    pub(crate) fn hash_request(&self, key: &RequestKey) -> (u64, u32) {
        let client = self.keys.client(key.protocol, key.client, key.client_port);
        (client, self.keys.request(client, key))
    }

    /// The same of a reply.
    pub(crate) fn hash_reply(&self, key: &ReplyKey) -> (u64, u32) {
        let client = self.keys.client(key.protocol, key.client, key.client_port);
        (client, self.keys.reply(client, key))
    }

    /// Shows the shard of such a client.
    pub(crate) fn look(&self, client: u64, look: impl FnOnce(&Shard)) {
        look(&self.locked(client));
    }

    /// Inserts an entry, unless another worker was faster: then that one stays, and `connection` lets go of what it
    /// hangs on, as it does where there is no room. `removed` sees the entry that had to make room for it, if any, and,
    /// where `ends_older`, a connection that is over and whose replies would look the same.
    #[inline]
    pub(crate) fn insert(
        &self,
        connection: Connection,
        ends_older: bool,
        mut removed: impl FnMut(Connection),
    ) -> Result<Inserted<'_>, Full> {
        let request = connection.request;
        let hashes = Hashes::of(&self.keys, &connection);
        let mut shard = self.locked(hashes.client);
        if let Some(id) = shard.find_request(hashes.request, &request) {
            connection.release_control();
            return Ok(Inserted { shard, id, is_new: false });
        }
        let service = &connection.destination.shared;
        if self.is_full_for(service, self.len.fetch_add(1, Relaxed)) {
            let mut evicted = self.make_room(&mut shard, service);
            if evicted.is_none() {
                drop(shard);
                evicted = self.make_room_elsewhere(service);
                shard = self.locked(hashes.client);
            }
            let Some(evicted) = evicted else {
                self.len.fetch_sub(1, Relaxed);
                connection.release_control();
                return Err(Full);
            };
            removed(evicted);
            if let Some(id) = shard.find_request(hashes.request, &request) {
                self.len.fetch_sub(1, Relaxed);
                connection.release_control();
                return Ok(Inserted { shard, id, is_new: false });
            }
        }
        if let Some(older) = self.outdo(&mut shard, &connection, &hashes, ends_older) {
            removed(older);
        }
        connection.destination.attach(connection.counted);
        let id = match shard.insert(&hashes, connection) {
            Ok(id) => id,
            Err(refused) => match self.insert_instead(&mut shard, &hashes, refused, &mut removed) {
                Ok(id) => id,
                Err(refused) => {
                    refused.release();
                    self.len.fetch_sub(1, Relaxed);
                    return Err(Full);
                }
            },
        };
        self.open.fetch_add(usize::from(request.announced), Relaxed);
        Ok(Inserted { shard, id, is_new: true })
    }

    /// Inserts an entry that found no room among those of its hash. As many of them as there can be share its replies,
    /// which the newest gets, so the one that came first goes.
    #[cold]
    #[allow(clippy::result_large_err, reason = "the entry goes back to where it came from, and rarely")]
    fn insert_instead(
        &self,
        shard: &mut Shard,
        hashes: &Hashes,
        refused: Connection,
        removed: &mut impl FnMut(Connection),
    ) -> Result<EntryId, Connection> {
        let outdone = hashes.reply.and_then(|reply| shard.outdone(reply, &refused.reply_key()));
        let Some(id) = outdone else { return Err(refused) };
        removed(self.remove(shard, id));
        shard.insert(hashes, refused)
    }

    /// Replies that an older connection shares with a new one (a destination of two services, a client that uses its
    /// port again) are the new one's from now on. The older one is taken out where it is over and `ends`; else it
    /// leaves the flow cache, which would go on to translate them.
    fn outdo(
        &self,
        shard: &mut Shard,
        newer: &Connection,
        hashes: &Hashes,
        ends: bool,
    ) -> Option<Connection> {
        let id = shard.find_reply(hashes.reply?, &newer.reply_key())?;
        if ends && shard.get(id).is_over() {
            return Some(self.remove(shard, id));
        }
        if let Some(flows) = &self.flows {
            flows.take_out(shard.get_mut(id));
        }
        None
    }

    /// Takes an entry out and returns it; its destination still counts it. `shard` must be the entry's, locked
    /// through this table.
    pub(crate) fn remove(&self, shard: &mut Shard, id: EntryId) -> Connection {
        let connection = self.take(shard, id);
        self.len.fetch_sub(1, Relaxed);
        self.open.fetch_sub(usize::from(connection.request.announced), Relaxed);
        connection
    }

    /// Takes an entry out of a shard and out of the flow cache.
    fn take(&self, shard: &mut Shard, id: EntryId) -> Connection {
        let connection = shard.remove(&self.keys, id);
        if let Some(flows) = &self.flows
            && connection.cached.is_placed()
        {
            flows.remove(&connection);
        }
        connection
    }

    /// When [`Self::expire`] has work.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = self.due.iter().map(|due| due.load(Relaxed)).min()?;
        (due != u64::MAX).then(|| Instant::from_nanos(due))
    }

    /// Takes out what expired by `now`. `decide` says what becomes of each; `removed` sees what went.
    ///
    /// It takes a bounded slice of one shard after the other, around and around until nothing is due: a worker that
    /// waits for a shard gets it before the next slice of it.
    pub(crate) fn expire(
        &self,
        now: Instant,
        mut decide: impl FnMut(&mut Connection) -> Expiry,
        mut removed: impl FnMut(Connection),
    ) {
        loop {
            let mut left = false;
            for (shard, due) in self.shards.iter().zip(&self.due) {
                if due.load(Relaxed) <= now.as_nanos() {
                    left |= self.expire_slice(&mut lock(&shard.0), now, &mut decide, &mut removed);
                }
            }
            if !left {
                break;
            }
        }
    }

    /// One slice of one shard; whether there may be more.
    fn expire_slice(
        &self,
        shard: &mut Shard,
        now: Instant,
        decide: &mut impl FnMut(&mut Connection) -> Expiry,
        removed: &mut impl FnMut(Connection),
    ) -> bool {
        for _ in 0..EXPIRE_SLICE {
            let Some(id) = shard.pop(now) else { return false };
            let connection = shard.get_mut(id);
            if connection.expires_at <= now {
                match decide(connection) {
                    Expiry::Remove => {
                        removed(self.remove(shard, id));
                        continue;
                    }
                    Expiry::Renew(timeout) => {
                        connection.timeout = timeout.into();
                        connection.expires_at = now + timeout;
                    }
                    Expiry::Keep => {}
                }
            }
            shard.arm(id);
        }
        true
    }

    /// Takes out every entry that `gone` names; `removed` sees what went.
    pub(crate) fn remove_where(
        &self,
        mut gone: impl FnMut(&Connection) -> bool,
        mut removed: impl FnMut(Connection),
    ) {
        self.sweep(0, 1, &mut gone, &mut removed);
    }

    /// Gives an entry that was made before its client's port was known to this one. False: there is none.
    pub(crate) fn claim(&self, key: &RequestKey, now: Instant) -> bool {
        if self.open.load(Relaxed) == 0 {
            return false;
        }
        let open = RequestKey { client_port: 0, announced: true, ..*key };
        let from_client = self.keys.client(open.protocol, open.client, 0);
        let to_client = self.keys.client(key.protocol, key.client, key.client_port);
        let (source, target) = (shard_of(from_client), shard_of(to_client));
        let from_hash = self.keys.request(from_client, &open);
        let to_hash = self.keys.request(to_client, key);
        // Two workers that claim at once must not wait for each other.
        let mut low = lock(&self.shards[source.min(target)].0);
        let mut high = (source != target).then(|| lock(&self.shards[source.max(target)].0));
        let from = match &mut high {
            Some(high) if source > target => &mut **high,
            _ => &mut *low,
        };
        let found = from.find_request(from_hash, &open);
        let Some(id) = found.filter(|id| from.get(*id).expires_at > now) else { return false };
        let mut connection = from.remove(&self.keys, id);
        connection.request = *key;
        let to = match &mut high {
            Some(high) if target > source => &mut **high,
            _ => &mut *low,
        };
        // Another worker may have placed the packet before this one meanwhile; the entry that was announced wins.
        let placed = to.find_request(to_hash, key).map(|id| self.take(to, id));
        // One that is over stays here, as in the kernel: its time is up soon.
        let hashes = Hashes::of(&self.keys, &connection);
        let older = self.outdo(to, &connection, &hashes, false);
        debug_assert!(older.is_none(), "nothing was to be taken out");
        let refused = to.insert(&hashes, connection).err();
        self.open.fetch_sub(1, Relaxed);
        let claimed = refused.is_none();
        for gone in placed.into_iter().chain(refused) {
            gone.destination.detach(gone.counted);
            self.len.fetch_sub(1, Relaxed);
            gone.release_control();
        }
        claimed
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
            in_slices(&shard.0, |shard, range| {
                for number in range {
                    if let Some(id) = shard.entry(number).filter(|id| gone(shard.get(*id))) {
                        removed(self.remove(shard, id));
                    }
                }
            });
        }
    }

    /// Shows every entry of a shard; there are [`SHARDS`]. One that comes or goes meanwhile may be left out.
    pub(crate) fn for_each_in(&self, shard: usize, mut each: impl FnMut(&Connection)) {
        in_slices(&self.shards[shard].0, |shard, range| {
            range.filter_map(|number| shard.entry(number)).for_each(|id| each(shard.get(id)));
        });
    }

    /// Shows entries from a spot on, up to `places` of them, filled or not, in one shard. Where to go on.
    pub(crate) fn some_from(&self, spot: Spot, places: u32, mut each: impl FnMut(&Connection)) -> Spot {
        let shard = lock(&self.shards[spot.shard % SHARDS].0);
        let end = shard.capacity().min(spot.number.saturating_add(places));
        (spot.number..end).filter_map(|number| shard.entry(number)).for_each(|id| each(shard.get(id)));
        if end == shard.capacity() {
            Spot { shard: (spot.shard + 1) % SHARDS, number: 0 }
        } else {
            Spot { number: end, ..spot }
        }
    }

    /// Connections by protocol and state; see [`Tallied`].
    pub(crate) fn states(&self) -> [usize; Tallied::COUNT] {
        let mut sums = [0; Tallied::COUNT];
        for shard in &self.shards {
            for (sum, count) in sums.iter_mut().zip(lock(&shard.0).states()) {
                *sum += *count as usize;
            }
        }
        sums
    }

    /// What a table without entries takes at most.
    pub(crate) const BYTES_WHEN_EMPTY: usize = SHARDS * Shard::BYTES_WHEN_EMPTY;

    /// Bytes of entries, of what is free beside them, and of indexes.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(&shard.0).bytes()).sum()
    }

    /// Entries, templates included.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}

/// Somewhere in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    shard: usize,
    number: u32,
}

/// Goes through the numbers of a shard's entries, and lets go of the lock between slices.
fn in_slices(shard: &Mutex<Shard>, mut each: impl FnMut(&mut Shard, core::ops::Range<u32>)) {
    let mut next = 0;
    loop {
        let mut shard = lock(shard);
        let end = shard.capacity();
        if next >= end {
            return;
        }
        let slice = next..end.min(next + LOOK_SLICE);
        next = slice.end;
        each(&mut shard, slice);
    }
}
