//! The table seen by somebody who wants to have the same: a snapshot in slices, and what changes from then on.
//!
//! ```text
//!   shard 0   [ slice | slice | slice ]  log . . . . >      each slice, and each part of a log, under the shard's lock
//!   shard 1          ... not begun: nothing is noted
//! ```
//! The changes of a shard are noted from its first slice on. Whatever a slice shows is as it is then, and so is what
//! the log names; who takes both in the order in which they are shown has what the table has.

use super::keys::Hashes;
use super::{EntryId, LOOK_SLICE, Locked, Shard, Spot, Table, shard_of};
use crate::base::ids::SHARDS;
use crate::base::lock::lock;
use crate::track::connection::{Connection, RequestKey};
use crate::track::log::{Log, Lost, Noted};

/// What a follower is shown.
pub(crate) enum Told<'a> {
    /// An entry as it is now; whether a newer one gets its replies.
    Entry(&'a Connection, bool),
    /// The entry of that key was taken out.
    Gone(&'a RequestKey),
}

/// What became of reading a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// There is nothing more at this moment.
    Empty,
    /// There may be more.
    More,
    /// There were more changes than it holds: only another snapshot helps.
    Lost,
}

impl Table {
    /// Shows one slice of the table from a spot on; where to go on, which is the default after the last. From the first
    /// slice of a shard on what changes in it is noted in a log of that number, `limit` changes at the most.
    pub(crate) fn snapshot_slice(
        &self,
        spot: Spot,
        (number, limit): (u64, usize),
        mut each: impl FnMut(Told<'_>),
    ) -> Spot {
        let mut shard = lock(&self.shards[spot.shard % SHARDS].0);
        if spot.number == 0 && !shard.logs.iter().any(|log| log.number == number) {
            shard.logs.push(Log::new(number, limit));
        }
        self.show_slice(&shard, spot, &mut |_: &Connection| true, &mut each)
    }

    /// Shows those entries of one slice that `is_wanted` names. Where to go on, as [`Self::snapshot_slice`].
    pub(crate) fn look_slice(
        &self,
        spot: Spot,
        mut is_wanted: impl FnMut(&Connection) -> bool,
        mut each: impl FnMut(Told<'_>),
    ) -> Spot {
        let shard = lock(&self.shards[spot.shard % SHARDS].0);
        self.show_slice(&shard, spot, &mut is_wanted, &mut each)
    }

    fn show_slice(
        &self,
        shard: &Shard,
        spot: Spot,
        is_wanted: &mut impl FnMut(&Connection) -> bool,
        each: &mut impl FnMut(Told<'_>),
    ) -> Spot {
        let end = shard.capacity().min(spot.number.saturating_add(LOOK_SLICE));
        for id in (spot.number..end).filter_map(|number| shard.entry(number)) {
            if is_wanted(shard.get(id)) {
                self.show(shard, id, each);
            }
        }
        if end == shard.capacity() {
            Spot { shard: (spot.shard + 1) % SHARDS, number: 0 }
        } else {
            Spot { number: end, ..spot }
        }
    }

    /// A template that is invalid places nothing any more, and is nobody's concern.
    fn show(&self, shard: &Shard, id: EntryId, each: &mut impl FnMut(Told<'_>)) {
        let connection = shard.get(id);
        if connection.past.is_invalid() {
            return;
        }
        let reply = Hashes::of(&self.keys, connection).reply;
        let first = reply.and_then(|hash| shard.find_reply(hash, &connection.reply_key()));
        each(Told::Entry(connection, first.is_some_and(|first| first != id)));
    }

    /// Shows what has changed in a shard, `most` changes at the most.
    pub(crate) fn drain(
        &self,
        shard: usize,
        number: u64,
        most: usize,
        mut each: impl FnMut(Told<'_>),
    ) -> Drained {
        let mut shard = lock(&self.shards[shard % SHARDS].0);
        let Some(at) = shard.logs.iter().position(|log| log.number == number) else { return Drained::Empty };
        for _ in 0..most {
            match shard.logs[at].next() {
                Err(Lost) => return Drained::Lost,
                Ok(None) => return Drained::Empty,
                Ok(Some(Noted::Gone(key))) => each(Told::Gone(&key)),
                Ok(Some(Noted::Changed(entry))) => {
                    if let Some(id) = shard.entry(entry) {
                        self.show(&shard, id, &mut each);
                    }
                }
            }
        }
        if shard.logs[at].is_empty() { Drained::Empty } else { Drained::More }
    }

    /// Nothing is noted any more in logs of that number.
    pub(crate) fn end_logs(&self, number: u64) {
        for shard in &self.shards {
            lock(&shard.0).logs.retain(|log| log.number != number);
        }
    }

    /// The key of the entry that gets the replies which a connection would answer for, if one does.
    pub(crate) fn who_answers(&self, connection: &Connection) -> Option<RequestKey> {
        let hashes = Hashes::of(&self.keys, connection);
        let shard = lock(&self.shards[shard_of(hashes.client)].0);
        let first = shard.find_reply(hashes.reply?, &connection.reply_key())?;
        Some(shard.get(first).request)
    }
}

impl Locked<'_> {
    /// Has the entry of that key, which is of the same client, answer first for the replies that others share with it.
    pub(crate) fn let_answer(&mut self, table: &Table, key: &RequestKey) {
        if let Some(id) = self.request(key) {
            table.answer_first(&mut self.shard, id);
        }
    }
}
