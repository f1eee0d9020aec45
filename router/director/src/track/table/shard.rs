//! One shard of the table: all there is to the connections of some clients, under one lock.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use super::index::Index;
use super::keys::{Hashes, Keys};
use super::queue::Queue;
use super::slab::Slab;
use crate::base::time::Instant;
use crate::track::class::Class;
use crate::track::connection::{Connection, ReplyKey, RequestKey, Tallied};
use crate::track::log::{Log, Noted};
use crate::track::wheel::Wheel;

/// One shard, locked.
pub(crate) struct Shard {
    number: usize,
    slab: Slab,
    requests: Index,
    replies: Index,
    wheel: Wheel,
    /// By class; there is none of the class that never makes room.
    queues: [Queue; Class::COUNT],
    /// How long they are. Read without the lock.
    lens: Arc<Lens>,
    /// Connections by protocol and state.
    states: [u32; Tallied::COUNT],
    /// When the wheel's next slot comes up, in nanoseconds; `u64::MAX`: nothing is armed. Read without the lock.
    due: Arc<AtomicU64>,
    /// Of those who follow what changes; none, mostly.
    pub(super) logs: Vec<Log>,
}

/// How many entries of each class a shard has.
pub(super) type Lens = [AtomicU32; Class::COUNT];

/// Names an entry for as long as its shard is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId(u32);

impl Shard {
    pub(super) fn new(number: usize, due: Arc<AtomicU64>, lens: Arc<Lens>) -> Self {
        Self {
            number,
            slab: Slab::new(),
            requests: Index::new(),
            replies: Index::new(),
            wheel: Wheel::new(),
            queues: core::array::from_fn(|_| Queue::new()),
            lens,
            states: [0; Tallied::COUNT],
            due,
            logs: Vec::new(),
        }
    }

    /// Which of the [`SHARDS`](crate::base::ids::SHARDS) it is.
    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    #[inline]
    pub(super) fn find_request(&self, hash: u32, key: &RequestKey) -> Option<EntryId> {
        self.requests.find(hash, |index| self.slab.get(index).request == *key).map(EntryId)
    }

    #[inline]
    pub(super) fn find_reply(&self, hash: u32, key: &ReplyKey) -> Option<EntryId> {
        self.replies.find(hash, |index| self.slab.get(index).reply_key() == *key).map(EntryId)
    }

    /// Of the entries that would answer for the same replies the one that came first, which the others have outdone.
    pub(super) fn outdone(&self, hash: u32, key: &ReplyKey) -> Option<EntryId> {
        let mut first = None;
        self.replies.find(hash, |index| {
            if self.slab.get(index).reply_key() == *key {
                first = Some(EntryId(index));
            }
            false
        });
        first
    }

    /// Where the search for a hash begins in memory.
    #[inline]
    pub(crate) fn home(&self, hash: u32, is_reply: bool) -> &u64 {
        if is_reply { self.replies.home(hash) } else { self.requests.home(hash) }
    }

    /// Where the first entry of that hash lies, which most likely is the one that is meant.
    #[inline]
    pub(crate) fn likely(&self, hash: u32, is_reply: bool) -> Option<*const u8> {
        let index = if is_reply { &self.replies } else { &self.requests };
        index.find(hash, |_| true).map(|entry| self.slab.place(entry))
    }

    #[inline]
    pub(crate) fn get(&self, id: EntryId) -> &Connection {
        self.slab.get(id.0)
    }

    /// The entry, to change anything but its keys and its deadline. Where the state changes, [`Self::settle`] follows.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: EntryId) -> &mut Connection {
        self.slab.get_mut(id.0)
    }

    /// Moves the deadline to a timeout after `now`.
    #[inline]
    pub(crate) fn touch(&mut self, id: EntryId, now: Instant) {
        if let Some(before) = self.slab.get_mut(id.0).touch(now) {
            self.nearer(id, before);
        }
    }

    /// The deadline of an entry has come nearer than the one before.
    #[inline(never)]
    pub(crate) fn nearer(&mut self, id: EntryId, before: Instant) {
        let deadline = self.slab.get(id.0).expires_at;
        self.wheel.nearer(&mut self.slab, id.0, before, deadline);
        self.due.fetch_min(deadline.as_nanos(), Relaxed);
    }

    /// What follows a packet: the deadline moves, and where the state did (`moved`), [`Self::settle`].
    #[inline]
    pub(crate) fn follow(&mut self, id: EntryId, moved: bool, now: Instant) {
        if moved {
            self.settle(id);
        }
        self.touch(id, now);
    }

    /// Counts the entry as its state says, and puts it into the queue of its class.
    #[inline(never)]
    pub(crate) fn settle(&mut self, id: EntryId) {
        let connection = self.slab.get_mut(id.0);
        let (before, now) = connection.retally();
        if before != Tallied::default() {
            self.states[before.index()] -= 1;
        }
        if now != Tallied::default() {
            self.states[now.index()] += 1;
        }
        let class = connection.class_now();
        if class != connection.class {
            self.leave(id);
            self.join(id, class);
        }
        self.note(|| Noted::Changed(id.0));
    }

    /// Tells those who follow, if anybody does.
    #[inline]
    fn note(&mut self, noted: impl FnOnce() -> Noted) {
        if !self.logs.is_empty() {
            self.note_in_all(noted());
        }
    }

    #[cold]
    fn note_in_all(&mut self, noted: Noted) {
        for log in &mut self.logs {
            log.note(noted);
        }
    }

    /// Takes the entry out of the queue of its class, if it is in one.
    fn leave(&mut self, id: EntryId) {
        let class = core::mem::take(&mut self.slab.get_mut(id.0).class);
        if class != Class::Established {
            self.queues[class.index()].remove(&mut self.slab, id.0);
            self.publish(class);
        }
    }

    /// Puts an entry that is in no queue into one, as the newest.
    fn join(&mut self, id: EntryId, class: Class) {
        if class != Class::Established {
            self.slab.get_mut(id.0).class = class;
            self.queues[class.index()].push(&mut self.slab, id.0);
            self.publish(class);
        }
    }

    fn publish(&self, class: Class) {
        self.lens[class.index()].store(self.queues[class.index()].len(), Relaxed);
    }

    /// The entry counts as the newest of its class, which may be another than before.
    pub(crate) fn renew(&mut self, id: EntryId) {
        self.leave(id);
        self.join(id, self.slab.get(id.0).class_now());
    }

    /// The entry of a class that has been there for longest.
    pub(super) fn oldest(&self, class: Class) -> Option<EntryId> {
        self.queues[class.index()].oldest().map(EntryId)
    }

    pub(super) fn invalidate(&mut self, keys: &Keys, id: EntryId) {
        let connection = self.slab.get_mut(id.0);
        if connection.past.invalidate() {
            let request = connection.request;
            self.requests.remove(Hashes::of(keys, connection).request, id.0);
            self.note(|| Noted::Gone(request));
        }
    }

    /// Inserts an entry; gives it back as the error when there is no room for it.
    #[inline(always)]
    #[allow(clippy::result_large_err, reason = "the entry goes back to where it came from, and rarely")]
    pub(super) fn insert(&mut self, hashes: &Hashes, connection: Connection) -> Result<EntryId, Connection> {
        debug_assert!(!connection.past.is_invalid(), "it is to be found");
        let deadline = connection.expires_at;
        let index = self.slab.insert(connection);
        if !self.requests.insert(hashes.request, index) {
            return Err(self.slab.remove(index));
        }
        if let Some(reply) = hashes.reply
            && !self.replies.insert(reply, index)
        {
            self.requests.remove(hashes.request, index);
            return Err(self.slab.remove(index));
        }
        self.wheel.arm(&mut self.slab, index, deadline);
        self.due.fetch_min(deadline.as_nanos(), Relaxed);
        self.settle(EntryId(index));
        Ok(EntryId(index))
    }

    /// Has an entry answer for replies that others of its key would answer for as well.
    pub(super) fn answer_first(&mut self, hash: u32, id: EntryId) {
        self.replies.remove(hash, id.0);
        let inserted = self.replies.insert(hash, id.0);
        assert!(inserted, "there is room where one was taken out");
    }

    pub(super) fn remove(&mut self, keys: &Keys, id: EntryId) -> Connection {
        self.wheel.disarm(&mut self.slab, id.0);
        self.leave(id);
        let mut connection = self.slab.remove(id.0);
        let tallied = core::mem::take(&mut connection.tallied);
        if tallied != Tallied::default() {
            self.states[tallied.index()] -= 1;
        }
        let hashes = Hashes::of(keys, &connection);
        if !connection.past.is_invalid() {
            self.requests.remove(hashes.request, id.0);
            self.note(|| Noted::Gone(connection.request));
        }
        if let Some(reply) = hashes.reply {
            self.replies.remove(reply, id.0);
        }
        connection
    }

    /// Takes the next entry off the wheel whose slot has come up by `now`. `None`: nothing more is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<EntryId> {
        let popped = self.wheel.pop(&mut self.slab, now);
        if popped.is_none() {
            let next = self.wheel.next_due().map_or(u64::MAX, Instant::as_nanos);
            self.due.store(next, Relaxed);
        }
        popped.map(EntryId)
    }

    /// Puts an entry that was popped back onto the wheel.
    pub(super) fn arm(&mut self, id: EntryId) {
        let deadline = self.slab.get(id.0).expires_at;
        self.wheel.arm(&mut self.slab, id.0, deadline);
    }

    /// Connections by protocol and state; see [`Tallied`].
    pub(super) fn states(&self) -> &[u32; Tallied::COUNT] {
        &self.states
    }

    /// The entry of that number, if there is one.
    pub(super) fn entry(&self, number: u32) -> Option<EntryId> {
        self.slab.entry(number).map(|_| EntryId(number))
    }

    /// What a shard without entries takes at most, beside what it always takes.
    pub(super) const BYTES_WHEN_EMPTY: usize = Slab::BYTES_WHEN_EMPTY + 2 * Index::BYTES_WHEN_EMPTY;

    /// Bytes of its entries and indexes.
    pub(super) fn bytes(&self) -> usize {
        self.slab.bytes() + self.requests.bytes() + self.replies.bytes()
    }

    /// Above all numbers of entries.
    pub(super) fn capacity(&self) -> u32 {
        self.slab.capacity()
    }
}
