//! Taking over connections that another director has told of ([`Director::follow`] there).
//!
//! ```text
//!   Record::Connection > service and destination by name > the entry: none: entered; there: brought up to date;
//!                                                          another life of it: replaced
//!   Record::Gone       > the entry goes
//! ```
//! No scheduler is asked, and no counter of packets moves: what passed was counted elsewhere.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::Relaxed;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use thiserror::Error;
use uvs_wire::Address;

use crate::base::lock::lock;
use crate::base::record::{ConnectionId, ConnectionRecord, FtpRecord, Group, Record};
use crate::base::spec::{DestinationSpec, Family, Forwarding, Protocol, ServiceKey};
use crate::base::time::{Duration, Instant};
use crate::director::Director;
use crate::track::connection::{Connection, PROTOCOL_IP, RequestKey};
use crate::track::control::Control;
use crate::track::destination::{Counted, Destination, Shared, Standing};
use crate::track::feedback::AskedAt;
use crate::track::ftp::Ftp;
use crate::track::past::Past;
use crate::track::stats::Estimator;
use crate::track::table::{Full, Table};

/// Nobody is waited for longer; what is said of longer waits is not believed.
const WAITED_MAX: Duration = Duration::from_secs(30 * 60);
/// Groups are looked through for those that are gone once there are twice as many as were left the last time, and this.
const GROUPS_SLACK: usize = 1024;

/// What a director remembers of one that tells it of connections. One for each that tells, from its first record on.
#[derive(Debug, Default)]
pub struct Taker {
    groups: HashMap<u64, Arc<Control>, FixedState>,
    /// How many groups were left when they were last looked through.
    kept: usize,
    destinations: HashMap<(ServiceKey, SocketAddr), Arc<Destination>, FixedState>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There is an entry more.
    Entered,
    /// The entry that was there is up to date.
    Updated,
    /// The entry was taken out.
    Removed,
    /// What is said to be gone was not there.
    Unknown,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no such destination here.
    #[error("there is no destination {1} of service {0} here")]
    NoDestination(ServiceKey, SocketAddr),
    /// The table is full.
    #[error("the connection table is full")]
    Full,
    /// No connection is like that.
    #[error("no connection is like that: {0}")]
    Invalid(&'static str),
}

impl Director {
    /// Takes one record, as it is at `now`.
    ///
    /// # Errors
    /// See [`Refusal`]; what the table has is as it was, but for an earlier connection of that name, which is gone.
    pub fn take(&self, taker: &mut Taker, record: &Record, now: Instant) -> Result<Taken, Refusal> {
        match record {
            Record::Connection(record) => self.take_connection(taker, record, now),
            Record::Gone(id) => Ok(self.take_out(id)),
        }
    }

    /// Takes all connections and templates out, without a word to their ends: before another snapshot is taken.
    pub fn forget_connections(&self) {
        self.tables.table.remove_where(|_| true, Connection::release);
    }

    fn take_out(&self, id: &ConnectionId) -> Taken {
        let key = RequestKey::from(id);
        let mut shard = self.tables.table.shard(key.protocol, key.client, key.client_port);
        let Some(id) = shard.request(&key) else { return Taken::Unknown };
        let gone = self.tables.table.remove(&mut shard, id);
        drop(shard);
        gone.release();
        Taken::Removed
    }

    fn take_connection(
        &self,
        taker: &mut Taker,
        record: &ConnectionRecord,
        now: Instant,
    ) -> Result<Taken, Refusal> {
        check(record)?;
        let destination = self.destination_of(taker, record, now)?;
        let table = &self.tables.table;
        let wanted = entry(taker, table, record, destination, now);
        let key = wanted.request;
        {
            let mut shard = table.shard(key.protocol, key.client, key.client_port);
            if let Some(id) = shard.request(&key) {
                if is_same_life(shard.get(id), &wanted) {
                    let known = shard.get_mut(id);
                    let before = known.expires_at;
                    let deadline = wanted.expires_at;
                    update(known, wanted);
                    shard.settle(id);
                    if deadline < before {
                        shard.nearer(id, before);
                    }
                    if !record.is_outdone {
                        table.answer_first(&mut shard, id);
                    }
                    return Ok(Taken::Updated);
                }
                let gone = table.remove(&mut shard, id);
                drop(shard);
                gone.release();
            }
        }
        let answers = if record.is_outdone { table.who_answers(&wanted) } else { None };
        if let Some(control) = wanted.control.as_ref().filter(|_| !key.template) {
            control.controlled.fetch_add(1, Relaxed);
        }
        let inserted = table.insert(wanted, false, Connection::release);
        let mut inserted = inserted.map_err(|Full| Refusal::Full)?;
        // The newest answers first, but for one that an older one has outdone by beginning again.
        if let Some(key) = answers {
            inserted.shard.let_answer(table, &key);
        }
        Ok(Taken::Entered)
    }

    /// The destination that a record names, as it is here.
    fn destination_of(
        &self,
        taker: &mut Taker,
        record: &ConnectionRecord,
        now: Instant,
    ) -> Result<Arc<Destination>, Refusal> {
        let name = (record.service, record.server);
        if let Some(known) =
            taker.destinations.get(&name).filter(|known| known.is_removed() == record.is_removed)
        {
            return Ok(Arc::clone(known));
        }
        let snapshot = self.tables.snapshot.load();
        let found = snapshot.services.get(&record.service).and_then(|service| service.find(record.server));
        let destination = match found {
            Some(found) => found,
            None if record.is_removed => self.removed_destination(name, record.forwarding, now),
            None => return Err(Refusal::NoDestination(record.service, record.server)),
        };
        taker.destinations.insert(name, Arc::clone(&destination));
        Ok(destination)
    }

    /// A destination that no service has any more, remembered for as long as connections name it.
    fn removed_destination(
        &self,
        (service, addr): (ServiceKey, SocketAddr),
        forwarding: Forwarding,
        now: Instant,
    ) -> Arc<Destination> {
        let control = &mut *lock(&self.control);
        if let Some(known) = control.trash.get(service, addr) {
            return known;
        }
        let snapshot = self.tables.snapshot.load();
        let shared = snapshot.services.get(&service).map(|it| Arc::clone(&it.shared));
        let shared = shared
            .or_else(|| control.trash.shared(service))
            .unwrap_or_else(|| Arc::new(Shared::new(service, Arc::clone(&self.total))));
        let spec = DestinationSpec { weight: 0, ..DestinationSpec::new(addr, forwarding) };
        let id = control.next_destination_id;
        control.next_destination_id = id.wrapping_add(1);
        let destination = Arc::new(Destination::new(id, spec, shared));
        destination.stand(Standing::Removed);
        control.trash.put(service, Arc::clone(&destination), now);
        // The trash is looked through with each step of the estimator.
        let step = now + Duration::from_secs(Estimator::PERIOD_SECS);
        self.estimate_at.fetch_min(step.as_nanos(), Relaxed);
        destination
    }
}

/// Whether a record can be a connection of this engine.
fn check(record: &ConnectionRecord) -> Result<(), Refusal> {
    let ConnectionRecord { id, destination, forwarding, .. } = record;
    let family = |addr: Address| Family::of(addr.to_ip());
    let invalid = |why| Err(Refusal::Invalid(why));
    let is_transport = Protocol::from_number(id.protocol).is_some();
    let is_of_a_mark = id.template && id.protocol == PROTOCOL_IP;
    if !(is_transport || is_of_a_mark) {
        return invalid("its protocol is none that is balanced");
    }
    if family(id.client.0) != family(id.asked_for.0) {
        return invalid("its client and the address it asked for are of different IP versions");
    }
    if family(destination.0) != family(id.client.0) && !matches!(forwarding, Forwarding::Tunnel(_)) {
        return invalid("only tunnelling crosses IP versions");
    }
    if id.template && (id.client.1 != 0 || id.announced || record.leads.is_none()) {
        return invalid("it is not made as a template");
    }
    if id.announced && (id.client.1 != 0 || id.protocol != Protocol::Tcp.number()) {
        return invalid("it is not made as a connection that FTP announces");
    }
    let is_helped = id.protocol == Protocol::Tcp.number() && !id.template && *forwarding == Forwarding::Nat;
    match &record.ftp {
        Some(_) if !is_helped || record.leads.is_none() => invalid("it is none that the FTP helper reads"),
        // As long as what a segment can carry.
        Some(FtpRecord { replaced: Some(it), .. }) if it.new.len() > usize::from(u16::MAX) => {
            invalid("what the FTP helper wrote does not fit a segment")
        }
        _ => Ok(()),
    }
}

/// The entry that a record describes.
fn entry(
    taker: &mut Taker,
    table: &Table,
    record: &ConnectionRecord,
    destination: Arc<Destination>,
    now: Instant,
) -> Connection {
    let (addr, port) = record.destination;
    let leads = record.leads.map(|group| taker.group(table, group));
    let hangs_on = record.hangs_on.map(|group| taker.group(table, group));
    let (control, ftp) = if record.id.template {
        (leads, None)
    } else {
        let ftp = record.ftp.as_ref().zip(leads);
        (hangs_on, ftp.map(|(ftp, control)| Box::new(Ftp::from_record(ftp, control))))
    };
    Connection {
        destination_addr: addr,
        forwarding: record.forwarding,
        state: record.state,
        no_output: !record.is_answered,
        counted: match (record.id.template, record.is_active) {
            (true, _) => Counted::Persistent,
            (false, true) => Counted::Active,
            (false, false) => Counted::Inactive,
        },
        past: Past::new(record.origin),
        in_packets: record.packets_in,
        timeout: record.timeout.into(),
        expires_at: now + record.remaining,
        asked_at: record.waited.map(|waited| {
            let waited = waited.min(WAITED_MAX);
            AskedAt::new(Instant::from_nanos(now.as_nanos().saturating_sub(nanos(waited))))
        }),
        ftp,
        ..Connection::new((&record.id).into(), destination, port, control, now)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether two entries of one key are the same connection, and not one before and one after.
fn is_same_life(known: &Connection, wanted: &Connection) -> bool {
    let control = |it: &Connection| it.control.as_ref().map(Arc::as_ptr);
    let leads = |it: &Connection| it.ftp.as_ref().map(|ftp| Arc::as_ptr(&ftp.control));
    Arc::ptr_eq(&known.destination, &wanted.destination)
        && (known.destination_addr, known.destination_port)
            == (wanted.destination_addr, wanted.destination_port)
        && known.forwarding == wanted.forwarding
        && control(known) == control(wanted)
        && leads(known) == leads(wanted)
}

/// Brings an entry up to date, but for its places in the table.
fn update(known: &mut Connection, wanted: Connection) {
    if known.counted != wanted.counted {
        known.destination.recount(known.counted, wanted.counted);
        known.counted = wanted.counted;
    }
    known.state = wanted.state;
    known.no_output = wanted.no_output;
    known.past = wanted.past;
    known.in_packets = wanted.in_packets;
    known.timeout = wanted.timeout;
    known.expires_at = wanted.expires_at;
    known.asked_at = wanted.asked_at;
    known.ftp = wanted.ftp;
}

impl Taker {
    /// A taker that was told nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What members of a group share here. Whichever is told of first brings it about.
    fn group(&mut self, table: &Table, group: Group) -> Arc<Control> {
        let Group { number, is_assured, is_one_packet } = group;
        if self.groups.len() > 2 * self.kept + GROUPS_SLACK {
            self.groups.retain(|_, control| Arc::strong_count(control) > 1);
            self.kept = self.groups.len();
        }
        let control = self.groups.entry(number).or_insert_with(|| table.control(is_one_packet));
        if is_assured {
            control.assured.store(true, Relaxed);
        }
        Arc::clone(control)
    }
}
