//! Connections in the flow cache: who is placed there, and what comes back.
//!
//! ```text
//!   request > forward > place ---> cache: the next packets pass by the director
//!   catch_up <--- events           their states move as if they had come here
//!   expire   <--- last_seen        so do their deadlines
//!   Table::remove, state > closing ---> remove
//! ```
//! A connection remembers the epoch it was placed in. Each change of what a flow was made of (network, options, a
//! destination) begins an epoch before the cache is told to withdraw, so that whatever is placed meanwhile is found
//! out, and each connection is placed anew when its next packet comes here.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use uvs_wire::{Address, tcp};

use crate::base::lock::lock;
use crate::base::spec::{Forwarding, Protocol, Tunnel};
use crate::base::time::{Duration, Instant};
use crate::base::trace::Filter;
use crate::base::verdict::Verdict;
use crate::flow_cache::{FlowCache, FlowKey, Passed};
use crate::track::bypass::Bypass;
use crate::track::cached::{Cached, EPOCHS};
use crate::track::connection::{Connection, RequestKey};
use crate::track::table::{EntryId, Shard, Spot};
use crate::track::tcp::TcpState;

/// A cache that was found full is left alone for that long, or until something is taken out.
const BACK_OFF: Duration = Duration::from_millis(20);

/// Of so many packets with tickets the first has left a worker's queue: it has no room for more.
const TICKETS: u16 = 1024;

/// What the director keeps about its cache.
pub(crate) struct Flows {
    pub(crate) cache: Arc<dyn FlowCache>,
    /// 1 to [`EPOCHS`], around and around: a connection of so many changes ago is not placed anew, and passes the
    /// director.
    pub(crate) epoch: AtomicU8,
    /// Until when the cache is not asked again, in nanoseconds: for any connection, for embryonic ones.
    full_until: [AtomicU64; 2],
    /// Connections that are over, and since when.
    pub(crate) closing: Mutex<VecDeque<(Instant, RequestKey)>>,
    /// Whoever holds it refreshes next hops: where to go on.
    pub(crate) tending: Mutex<usize>,
    /// When next hops are refreshed again; 0: at once.
    pub(crate) tend_at: AtomicU64,
    /// Version of the neighbour table when the last round began.
    pub(crate) refreshed: AtomicU64,
    /// Where in the table the next connection is looked for that may leave a full cache.
    pub(crate) hand: Mutex<Spot>,
    /// Connections that left it so.
    pub(crate) evicted: AtomicU64,
    /// What the cache had displaced when the latest epoch for that reason began.
    displaced: AtomicU64,
    /// Connections that are kept out of it, for somebody wants to see their packets.
    held_off: ArcSwap<Vec<Filter>>,
}

impl Flows {
    pub(crate) fn new(cache: Arc<dyn FlowCache>) -> Self {
        Self {
            cache,
            epoch: AtomicU8::new(1),
            full_until: Default::default(),
            closing: Mutex::default(),
            tending: Mutex::default(),
            tend_at: AtomicU64::new(0),
            refreshed: AtomicU64::new(u64::MAX),
            hand: Mutex::default(),
            evicted: AtomicU64::new(0),
            displaced: AtomicU64::new(0),
            held_off: ArcSwap::default(),
        }
    }

    /// Whether a connection belongs into the cache, nobody has tried, and there may be room.
    #[inline]
    pub(crate) fn wants(&self, connection: &Connection, now: Instant) -> bool {
        !connection.cached.is_of(self.epoch.load(Relaxed))
            && self.has_room(connection, now)
            && is_eligible(connection)
    }

    /// Keeps these connections out of the cache from now on; none of those that are in it leaves it by that.
    pub(crate) fn hold_off(&self, filters: Vec<Filter>) {
        self.held_off.store(Arc::new(filters));
    }

    /// Whether a connection is kept out of it.
    pub(crate) fn holds_off(&self, connection: &Connection) -> bool {
        self.held_off.load().iter().any(|filter| is_meant(filter, connection))
    }

    /// A full cache costs packets that it does not take nothing but this.
    fn has_room(&self, connection: &Connection, now: Instant) -> bool {
        let until = &self.full_until;
        until[0].load(Relaxed) <= now.as_nanos()
            && (until[1].load(Relaxed) <= now.as_nanos() || !connection.is_embryonic())
    }

    /// There was no room. What may never be established is refused first, and that says nothing about others.
    pub(crate) fn note_full(&self, is_embryonic: bool, now: Instant) {
        self.full_until[usize::from(is_embryonic)].store((now + BACK_OFF).as_nanos(), Relaxed);
    }

    /// When the last packet of a connection in the cache passed there.
    pub(crate) fn last_seen(&self, connection: &Connection) -> Option<Instant> {
        let (request, reply) = keys(connection);
        self.cache.last_seen(&request, reply.as_ref())
    }

    /// Connections that left a full cache so far.
    pub(crate) fn evictions(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// There are more next hops to refresh.
    pub(crate) fn is_tending(&self) -> bool {
        self.tend_at.load(Relaxed) == 0
    }

    /// What was placed, of one destination or at all, holds no more.
    pub(crate) fn withdraw(&self, destination: Option<u32>) {
        // First the epoch: see the head of this file.
        self.begin_epoch();
        self.cache.withdraw(destination);
    }

    fn begin_epoch(&self) {
        let next = |epoch| Some(if epoch == EPOCHS { 1 } else { epoch + 1 });
        let _ = self.epoch.fetch_update(AcqRel, Acquire, next);
    }

    /// Has flows placed anew, with their next packets that come here, once what some of them name has left the cache.
    #[inline]
    pub(crate) fn replace_displaced(&self) {
        let displaced = self.cache.displaced();
        if displaced != self.displaced.load(Relaxed) {
            self.displaced.store(displaced, Relaxed);
            self.begin_epoch();
        }
    }

    /// The packets of a connection do not pass by in this epoch.
    pub(crate) fn refuse(&self, connection: &mut Connection, epoch: u8) {
        // What was placed in an earlier one holds no more, and takes room.
        self.take_out(connection);
        connection.cached = Cached::refused(epoch);
    }

    /// A frame with a ticket was handled. The cache is told when the worker has sent it: with the first frame of
    /// another flow, or at the end of the batch. `noted`: what was noted before, and whether the cache was told.
    #[cold]
    pub(crate) fn note_passed(&self, passed: Passed, verdict: Verdict, noted: &mut Option<(Passed, bool)>) {
        // It may wait for a neighbour: the next packet will tell.
        if verdict == Verdict::Consume {
            return;
        }
        match noted {
            Some((last, told)) if (last.key, last.ticket) == (passed.key, passed.ticket) => {
                last.frames = last.frames.saturating_add(1);
                *told = false;
            }
            Some((last, told)) => {
                if last.key != passed.key && !*told {
                    self.cache.through(last);
                }
                (*last, *told) = (passed, false);
            }
            none => *none = Some((passed, false)),
        }
    }

    /// A packet of a direction that was placed open has come to the director, although none should be on its way.
    /// `ticket`: what the cache gave it.
    ///
    /// One without came before the connection was placed, a repeated SYN, say, and waited; one with a ticket has shut
    /// the direction, if it is of this connection and not of one before between the same ends. Whatever has waited
    /// while others passed is too late; while none did, none does before it has left.
    #[cold]
    pub(crate) fn is_overtaken(
        &self,
        connection: &mut Connection,
        is_reply: bool,
        ticket: Option<u16>,
    ) -> bool {
        let (request, reply) = keys(connection);
        let key = if is_reply { reply } else { Some(request) };
        let progress = key.map(|key| self.cache.progress(&key)).unwrap_or_default();
        let is_recent = |ticket| progress.ticket.wrapping_sub(ticket) < TICKETS;
        if progress.is_shut && ticket.is_some_and(is_recent) {
            connection.cached.close(is_reply);
            return false;
        }
        if !progress.has_passed {
            self.cache.shut(&request, reply.as_ref());
        }
        progress.has_passed
    }

    /// What the cache has to do with a connection whose state has moved.
    pub(crate) fn settle(&self, shard: &mut Shard, id: EntryId, now: Instant) {
        let connection = shard.get_mut(id);
        if !connection.cached.is_placed() {
            return;
        }
        if connection.request.protocol != tcp::PROTOCOL {
            return;
        }
        let state = TcpState::from_number(connection.state);
        if state.is_over() {
            lock(&self.closing).push_back((now, connection.request));
        } else if is_watched(state) {
            // The cache is to tell of its next packet again.
            let (request, reply) = keys(connection);
            self.cache.shut(&request, reply.as_ref());
        }
    }
}

impl Bypass for Flows {
    /// Takes a connection out of the cache, if it is there, and has it placed anew with its next packet.
    fn take_out(&self, connection: &mut Connection) {
        if connection.cached.is_placed() {
            // Nobody can say any more when its last packet passed.
            connection.take_over(self.deadline(connection));
            self.remove(connection);
            connection.cached = Cached::NO;
        }
    }

    /// Takes a connection out of the cache.
    fn remove(&self, connection: &Connection) {
        let (request, reply) = keys(connection);
        self.cache.remove(&request, reply.as_ref());
        for until in &self.full_until {
            until.store(0, Relaxed);
        }
    }

    /// When the time of a connection is up, as its last packet says wherever that passed. (A change of timeouts has the
    /// next packet come here.)
    fn deadline(&self, connection: &Connection) -> Instant {
        let (request, reply) = keys(connection);
        match self.cache.last_seen(&request, reply.as_ref()) {
            Some(seen) => connection.expires_at.max(seen + connection.timeout),
            None => connection.expires_at,
        }
    }
}

/// Whether a filter means a connection.
pub(crate) fn is_meant(filter: &Filter, connection: &Connection) -> bool {
    let request = &connection.request;
    let addr = |addr: Address, port| SocketAddr::new(addr.to_ip(), port);
    filter.matches(
        addr(request.client, request.client_port),
        addr(request.virtual_addr, request.virtual_port),
        addr(connection.destination_addr, connection.destination_port),
    )
}

fn keys(connection: &Connection) -> (FlowKey, Option<FlowKey>) {
    let RequestKey { client, virtual_addr, client_port, virtual_port, protocol, .. } = connection.request;
    let destination = (connection.destination_addr, connection.destination_port);
    let client = (client, client_port);
    let request = FlowKey { protocol, source: client, destination: (virtual_addr, virtual_port) };
    let reply = FlowKey { protocol, source: destination, destination: client };
    (request, connection.translates_replies().then_some(reply))
}

/// Whether packets of this connection may pass by the director.
fn is_eligible(connection: &Connection) -> bool {
    obstacle(connection).is_none()
}

/// Why packets of this connection may not pass by the director, if they may not.
pub(crate) fn obstacle(connection: &Connection) -> Option<&'static str> {
    let request = &connection.request;
    match Protocol::from_number(request.protocol) {
        Some(Protocol::Tcp) if TcpState::from_number(connection.state).is_over() => {
            return Some("it is over");
        }
        // One of a destination that drains leaves it with a packet that comes here.
        Some(Protocol::Udp) if connection.destination.weight() == 0 => {
            return Some("its destination drains, and its next datagram may go elsewhere");
        }
        Some(Protocol::Tcp | Protocol::Udp) => {}
        Some(Protocol::Sctp) | None => return Some("the cache knows TCP and UDP only"),
    }
    match connection.forwarding_now() {
        Forwarding::Nat | Forwarding::Direct | Forwarding::Tunnel(Tunnel::Ipip) => {}
        Forwarding::Tunnel(_) => return Some("of tunnels the cache knows IPIP only"),
    }
    let obstacles = [
        (request.template, "it is a template"),
        (request.client_port == 0, "its client has not come yet"),
        (connection.ftp.is_some(), "the FTP helper reads it"),
        (!connection.destination.is_available(), "its destination was removed, or is being rid of it"),
        (connection.destination.local.load(Relaxed), "its destination is the director's own host"),
    ];
    obstacles.into_iter().find(|(is_so, _)| *is_so).map(|(_, why)| why)
}

/// Whether any segment moves it: the cache tells of the next one only.
fn is_watched(state: TcpState) -> bool {
    state.is_embryonic() || state == TcpState::Listen
}
