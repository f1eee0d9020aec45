//! Who may enter at the limit, and what makes room.
//!
//! Half of the table is shared out among the services in equal parts. A service with fewer entries than its share
//! enters as long as there is room at all; one with more, as long as what is left is more than others' shares still
//! want. Who may not enter has something else make room: an entry of a service that is above its share, or one of its
//! own.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use super::{EntryId, SHARDS, Shard, Table};
use crate::base::lock::lock;
use crate::base::spec::Evict;
use crate::base::time::Instant;
use crate::track::class::Class;
use crate::track::connection::Connection;
use crate::track::destination::Shared;

/// Entries of a class that are looked at for one that makes room, in one shard.
const CANDIDATES: usize = 8;
/// Shards that are locked for one of a class, beside the one that the newcomer belongs to.
const OTHER_SHARDS: usize = 4;
/// In a table with more entries the classes are counted anew for every so many that make room only.
const RECOUNT: u64 = 16;
const RECOUNT_ABOVE: usize = 4096;

impl Table {
    /// How many services share the table.
    pub(crate) fn share_among(&self, services: usize) {
        self.share.store(self.limit / 2 / services.max(1), Relaxed);
    }

    /// Sees how much of their shares services do not use.
    pub(crate) fn allot<'a>(&self, services: impl Iterator<Item = &'a Shared>) {
        let share = self.share.load(Relaxed);
        let unused = |service: &Shared| {
            let unused = share.saturating_sub(service.entries());
            service.unused.store(unused, Relaxed);
            unused
        };
        self.reserved.store(services.map(unused).sum(), Relaxed);
    }

    /// How many entries there may be when one more of that service comes.
    fn limit_for(&self, service: &Shared) -> usize {
        if service.entries() < self.share.load(Relaxed) {
            return self.limit;
        }
        let of_others = self.reserved.load(Relaxed).saturating_sub(service.unused.load(Relaxed));
        self.limit.saturating_sub(of_others)
    }

    /// How much is kept for services that have less than their shares.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Relaxed)
    }

    /// Whether seven eighths of the table are taken, or all that services may take beyond their shares.
    pub(crate) fn is_nearly_full(&self) -> bool {
        let common = self.limit.saturating_sub(self.reserved());
        self.len() >= common.min(self.limit - self.limit / 8)
    }

    /// Whether an entry of that service needs another to make room.
    pub(super) fn is_full_for(&self, service: &Shared, len: usize) -> bool {
        len >= self.limit_for(service)
    }

    /// Whether a new entry of that service is refused now, for there is no room and nothing may make any.
    pub(crate) fn refuses(&self, service: &Shared) -> bool {
        self.evict == Evict::None && self.is_full_for(service, self.len())
    }

    /// Entries that made room so far, by class.
    pub(crate) fn evicted(&self) -> impl Iterator<Item = (Class, u64)> + '_ {
        Class::ALL.into_iter().map(|class| (class, self.evicted[class.index()].load(Relaxed)))
    }

    /// Takes out an entry for one of that service, out of the shard of the newcomer if it can be.
    pub(super) fn make_room(&self, own: &mut Shard, service: &Arc<Shared>) -> Option<Connection> {
        let classes = self.classes();
        let found = classes
            .into_iter()
            .flatten()
            .find_map(|class| self.victim(own, class, service).map(|id| (class, self.remove(own, id))));
        found.map(|(class, gone)| self.count_evicted(class, gone))
    }

    /// The same out of any other shard.
    pub(super) fn make_room_elsewhere(&self, service: &Arc<Shared>) -> Option<Connection> {
        let first = self.next_shard.fetch_add(1, Relaxed);
        for class in self.classes().into_iter().flatten() {
            let others = (0..SHARDS).map(|n| (first + n) % SHARDS);
            let has_some = |number: &usize| self.lens[*number][class.index()].load(Relaxed) > 0;
            for number in others.filter(has_some).take(OTHER_SHARDS) {
                let shard = &mut *lock(&self.shards[number].0);
                if let Some(id) = self.victim(shard, class, service) {
                    let gone = self.remove(shard, id);
                    return Some(self.count_evicted(class, gone));
                }
            }
        }
        None
    }

    fn count_evicted(&self, class: Class, gone: Connection) -> Connection {
        self.evicted[class.index()].fetch_add(1, Relaxed);
        gone
    }

    /// The classes that have entries, those that make room first first.
    fn classes(&self) -> [Option<Class>; Class::COUNT - 1] {
        match self.evict {
            Evict::None => [None; Class::COUNT - 1],
            Evict::Embryonic => {
                let mut only = [None; Class::COUNT - 1];
                only[0] = Some(Class::HalfOpen);
                only
            }
            Evict::Any => {
                let turn = self.turns.fetch_add(1, Relaxed);
                if self.limit <= RECOUNT_ABOVE || turn.is_multiple_of(RECOUNT) {
                    self.order.store(self.count_classes(), Relaxed);
                }
                unpack(self.order.load(Relaxed))
            }
        }
    }

    /// Counts the classes, and says in which order they make room; see [`unpack`].
    fn count_classes(&self) -> u64 {
        let len = |class: Class| {
            self.lens.iter().map(|lens| u64::from(lens[class.index()].load(Relaxed))).sum::<u64>()
        };
        let mut scores = Class::ALL.map(|class| (len(class) * class.weight(), class));
        // Stable: of equals the one that goes first comes first.
        scores.sort_by_key(|(score, _)| core::cmp::Reverse(*score));
        let used = scores.into_iter().filter(|(score, _)| *score > 0);
        used.fold((0, 0), |(packed, at), (_, class)| (packed | (class.index() as u64) << at, at + 8)).0
    }

    /// An entry of a class that may make room for one of that service.
    fn victim(&self, shard: &mut Shard, class: Class, service: &Arc<Shared>) -> Option<EntryId> {
        let share = self.share.load(Relaxed);
        let mut best: Option<(Instant, EntryId)> = None;
        for _ in 0..CANDIDATES {
            let Some(id) = shard.oldest(class) else { break };
            if best.is_some_and(|(_, best)| best == id) {
                break;
            }
            let connection = shard.get_mut(id);
            let owner = &connection.destination.shared;
            let gives = Arc::ptr_eq(owner, service) || owner.entries() > share;
            let is_held = connection.controls().is_some_and(|control| control.controlled.load(Relaxed) > 0);
            if class.is_told_late()
                && let Some(flows) = self.flows.as_ref().filter(|_| connection.cached.is_placed())
            {
                connection.take_over(flows.deadline(connection));
            }
            let seen = connection.expires_at - connection.timeout;
            // It may be of another class since; the others get their turn.
            shard.renew(id);
            if !gives || is_held || shard.get(id).class != class {
                continue;
            }
            if !class.goes_by_silence() {
                return Some(id);
            }
            if best.is_none_or(|(silent_since, _)| seen < silent_since) {
                best = Some((seen, id));
            }
        }
        best.map(|(_, id)| id)
    }
}

/// Classes in order, a byte each; 0 is none.
fn unpack(order: u64) -> [Option<Class>; Class::COUNT - 1] {
    let bytes = order.to_le_bytes();
    core::array::from_fn(|at| Class::ALL.into_iter().find(|class| class.index() == usize::from(bytes[at])))
}
