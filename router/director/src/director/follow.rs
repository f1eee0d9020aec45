//! Telling somebody of all connections, beside the traffic: a snapshot, and then what changes.
//!
//! ```text
//!   follow > follow_some: snapshot, slice by slice > follow_some: the log, until it is quiet
//!          > begin_refresh > refresh_some: packets move deadlines only, and no log tells of that
//!          > unfollow
//! ```
//! Whoever takes the records in order ([`Director::take`]) has the same table, but for deadlines and counts of packets
//! since the last refresh. Where nobody follows none of it costs a packet anything.

use uvs_wire::Address;

use crate::base::ids::SHARDS;
use crate::base::record::{ConnectionRecord, Group, Record};
use crate::base::time::{Duration, Instant};
use crate::director::Director;
use crate::scene::Tables;
use crate::track::connection::Connection;
use crate::track::control::Control;
use crate::track::destination::Counted;
use crate::track::table::{Drained, Spot, Told};

use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;

/// Changes that are read from a log at a time.
const LOG_SLICE: usize = 256;
/// A worker reads its clock once for a batch of packets, and may be interrupted before it is done with them.
const SKEW: Duration = Duration::from_secs(1);

/// Who is told of connections, and how far that has come. [`Director::unfollow`] it, or its logs stay, bounded, for as
/// long as the director lives.
#[derive(Debug)]
#[must_use]
pub struct Follower {
    log: (u64, usize),
    /// Where the snapshot goes on; `None`: it is done.
    snapshot: Option<Spot>,
    /// Whose log is read next.
    shard: usize,
    /// Since when packets are told by the next refresh, and where the one under way goes on.
    since: Instant,
    refresh: Option<(Instant, Spot)>,
    records: Vec<Record>,
}

/// How far a [`Follower`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// There is more of the snapshot.
    Snapshot,
    /// There is more in the log.
    Log,
    /// Nothing is left to be told at this moment.
    Quiet,
    /// More has changed than the log holds: forget all, and begin anew.
    Lost,
}

impl Director {
    /// Somebody is to be told of all connections. At most `limit` changes wait for the next
    /// [`Self::follow_some`]; there may be several followers.
    pub fn follow(&self, limit: usize, now: Instant) -> Follower {
        Follower {
            log: (self.tables.table.number(), limit.div_ceil(SHARDS)),
            snapshot: Some(Spot::default()),
            shard: 0,
            since: now,
            refresh: None,
            records: Vec::new(),
        }
    }

    /// Tells some more, in a bounded time, and without a lock while `each` has a record.
    pub fn follow_some(
        &self,
        follower: &mut Follower,
        now: Instant,
        mut each: impl FnMut(Record),
    ) -> Followed {
        let Follower { log, snapshot, shard, records, .. } = follower;
        let tables = &self.tables;
        let mut tell = |told: Told<'_>| records.extend(record(tables, told, now));
        let mut followed = Followed::Quiet;
        if let Some(spot) = *snapshot {
            let next = tables.table.snapshot_slice(spot, *log, &mut tell);
            *snapshot = Some(next).filter(|next| *next != Spot::default());
            followed = Followed::Snapshot;
        }
        for _ in 0..SHARDS {
            match tables.table.drain(*shard, log.0, LOG_SLICE, &mut tell) {
                Drained::Empty => *shard = (*shard + 1) % SHARDS,
                Drained::More => {
                    if followed == Followed::Quiet {
                        followed = Followed::Log;
                    }
                    break;
                }
                Drained::Lost => {
                    records.clear();
                    return Followed::Lost;
                }
            }
        }
        records.drain(..).for_each(&mut each);
        followed
    }

    /// Begins to tell of connections on which packets have passed since the last refresh, or since the snapshot began:
    /// [`Self::refresh_some`] follows.
    pub fn begin_refresh(&self, follower: &mut Follower, now: Instant) {
        follower.refresh = Some((follower.since, Spot::default()));
        follower.since = now;
    }

    /// Goes on with a refresh, in a bounded time. False: it is done.
    pub fn refresh_some(&self, follower: &mut Follower, now: Instant, mut each: impl FnMut(Record)) -> bool {
        let Some((since, spot)) = follower.refresh else { return false };
        let (tables, records) = (&self.tables, &mut follower.records);
        let is_wanted = |connection: &Connection| {
            let last_packet = tables.deadline(connection) - connection.timeout;
            last_packet + SKEW >= since
        };
        let tell = |told: Told<'_>| records.extend(record(tables, told, now));
        let next = tables.table.look_slice(spot, is_wanted, tell);
        follower.refresh = (next != Spot::default()).then_some((since, next));
        records.drain(..).for_each(&mut each);
        follower.refresh.is_some()
    }

    /// Nobody is to be told any more.
    #[allow(clippy::needless_pass_by_value, reason = "nothing is to be done with it afterwards")]
    pub fn unfollow(&self, follower: Follower) {
        self.tables.table.end_logs(follower.log.0);
    }
}

/// What is said of an entry. `None`: its time is up.
fn record(tables: &Tables, told: Told<'_>, now: Instant) -> Option<Record> {
    let (connection, is_outdone) = match told {
        Told::Gone(key) => return Some(Record::Gone(key.into())),
        Told::Entry(connection, is_outdone) => (connection, is_outdone),
    };
    let deadline = tables.deadline(connection);
    if deadline <= now {
        return None;
    }
    let destination = &connection.destination;
    let is_cached = connection.cached.is_placed();
    let has_passed = is_cached && connection.went_on(deadline);
    let template = connection.request.template;
    let control = connection.control.as_deref();
    Some(Record::Connection(ConnectionRecord {
        id: (&connection.request).into(),
        service: destination.shared.key,
        server: socket_addr(destination.addr, destination.port),
        is_removed: destination.is_removed(),
        destination: (connection.destination_addr, connection.destination_port),
        forwarding: connection.forwarding,
        state: connection.state,
        is_active: connection.counted == Counted::Active,
        is_answered: !connection.no_output,
        is_outdone,
        origin: connection.past.origin(),
        packets_in: if has_passed { u8::MAX } else { connection.in_packets },
        timeout: (Instant::ZERO + connection.timeout).since(Instant::ZERO),
        remaining: deadline.since(now),
        waited: connection.asked_at.map(|asked_at| asked_at.elapsed(now)),
        hangs_on: control.filter(|_| !template).map(group),
        leads: connection.controls().map(group),
        ftp: connection.ftp.as_ref().map(|ftp| ftp.record()),
        is_cached,
    }))
}

fn group(control: &Control) -> Group {
    Group {
        number: control.number,
        is_assured: control.assured.load(Relaxed),
        is_one_packet: control.one_packet,
    }
}

fn socket_addr(addr: Address, port: u16) -> SocketAddr {
    SocketAddr::new(addr.to_ip(), port)
}
