//! Connections in the flow cache: who is placed there, and what comes back.
//!
//! ```text
//!   request > forward > place ---> cache: the next packets pass by the director
//!   catch_up <--- events           their states move as if they had come here
//!   expire   <--- last_seen        so do their deadlines
//!   Table::remove, state > closing ---> remove
//! ```
//! A connection remembers the epoch it was placed in. Each change of what a flow was made of (network, options, a
//! destination) begins an epoch before the cache is told to withdraw, so that whatever is placed meanwhile is found out, and
//! each connection is placed anew when its next packet comes here.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use uvs_wire::{Address, tcp};

use crate::base::frame::Outbox;
use crate::base::spec::{Forwarding, MacAddr, Protocol, Tunnel};
use crate::base::time::{Duration, Instant};
use crate::base::verdict::Verdict;
use crate::choose::feedback;
use crate::choose::schedule::Placement;
use crate::choose::service::{Counted, Destination, lock};
use crate::director::{Director, Scene};
use crate::flow_cache::{
    Act, Flow, FlowCache, FlowEvent, FlowKey, Leg, Method, NotPlaced, Orphan, Passed, Way,
};
use crate::net::neighbor::Resolved;
use crate::net::network::Hop;
use crate::path::balance::new_connection;
use crate::track::connection::{Connection, ReplyKey, RequestKey};
use crate::track::state::{advance_tcp, advance_udp};
use crate::track::table::{EntryId, Shard, USED};
use crate::track::tcp::{Seen, TcpState};

/// A connection that has ended leaves the cache that long after, when its last acknowledgements have passed.
const LINGER: Duration = Duration::from_millis(20);
/// How often neighbours of ways in use are looked after, when nothing is known to have changed.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Where a connection stands: an epoch, and whether it was placed in it or found to be none for the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cached(u8);

impl Cached {
    const PLACED: u8 = 1 << 7;
    const NO: Self = Self(0);

    pub(crate) fn placed(epoch: u8) -> Self {
        Self(epoch | Self::PLACED)
    }

    fn refused(epoch: u8) -> Self {
        Self(epoch)
    }

    fn is_of(self, epoch: u8) -> bool {
        self.0 & !Self::PLACED == epoch
    }

    /// The cache may have it.
    #[inline]
    pub(crate) fn is_placed(self) -> bool {
        self.0 & Self::PLACED != 0
    }
}

/// What the director keeps about its cache.
pub(crate) struct Flows {
    pub(crate) cache: Arc<dyn FlowCache>,
    /// 1 to 127, around and around: a connection of 127 changes ago is not placed anew, and passes the director.
    epoch: AtomicU8,
    /// Connections that are over, and since when.
    closing: Mutex<VecDeque<(Instant, RequestKey)>>,
    /// Whoever holds it tends.
    tending: Mutex<()>,
    tend_at: AtomicU64,
    /// Version of the neighbour table when they were tended last.
    tended: AtomicU64,
}

impl Flows {
    pub(crate) fn new(cache: Arc<dyn FlowCache>) -> Self {
        Self {
            cache,
            epoch: AtomicU8::new(1),
            closing: Mutex::default(),
            tending: Mutex::default(),
            tend_at: AtomicU64::new(0),
            tended: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether a connection belongs into the cache and nobody has tried.
    #[inline]
    pub(crate) fn wants(&self, connection: &Connection) -> bool {
        !connection.cached.is_of(self.epoch.load(Relaxed)) && is_eligible(connection)
    }

    /// What was placed, of one destination or at all, holds no more.
    pub(crate) fn withdraw(&self, destination: Option<u32>) {
        let next = |epoch| Some(if epoch == 127 { 1 } else { epoch + 1 });
        // First the epoch: see the head of this file.
        let _ = self.epoch.fetch_update(AcqRel, Acquire, next);
        self.cache.withdraw(destination);
    }

    /// Takes a connection out of the cache, if it is there, and has it placed anew with its next packet.
    pub(crate) fn take_out(&self, connection: &mut Connection) {
        if connection.cached.is_placed() {
            self.remove(connection);
            connection.cached = Cached::NO;
        }
    }

    /// Takes a connection out of the cache.
    pub(crate) fn remove(&self, connection: &Connection) {
        let (request, reply) = keys(connection);
        self.cache.remove(&request, reply.as_ref());
    }

    /// The packets of a connection do not pass by in this epoch.
    fn refuse(&self, connection: &mut Connection, epoch: u8) {
        // What was placed in an earlier one holds no more, and takes room.
        if connection.cached.is_placed() {
            self.remove(connection);
        }
        connection.cached = Cached::refused(epoch);
    }

    /// When the time of a connection is up, as its last packet says wherever that passed. (A change of timeouts has the next
    /// packet come here.)
    pub(crate) fn deadline(&self, connection: &Connection) -> Instant {
        let (request, reply) = keys(connection);
        match self.cache.last_seen(&request, reply.as_ref()) {
            Some(seen) => connection.expires_at.max(seen + connection.timeout),
            None => connection.expires_at,
        }
    }

    /// A frame with a ticket was handled. The cache is told when the worker has sent it: with the first frame of another flow, or
    /// at the end of the batch.
    #[cold]
    pub(crate) fn note_passed(&self, passed: Passed, verdict: Verdict, out: &mut Outbox) {
        // It may wait for a neighbour: the next packet will tell.
        if verdict == Verdict::Consume {
            return;
        }
        match &mut out.memo.passed {
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
            // Its next packet comes here, and places it so that the one after is told of.
            self.remove(connection);
            connection.cached = Cached::NO;
        }
    }
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
    let request = &connection.request;
    let goes_on = match Protocol::from_number(request.protocol) {
        Some(Protocol::Tcp) => !TcpState::from_number(connection.state).is_over(),
        Some(Protocol::Udp) => true,
        Some(Protocol::Sctp) | None => false,
    };
    let is_simple = match connection.forwarding {
        Forwarding::Nat | Forwarding::Direct | Forwarding::Tunnel(Tunnel::Ipip) => true,
        Forwarding::Tunnel(_) => false,
    };
    goes_on
        && is_simple
        && !request.template
        && request.client_port != 0
        && connection.ftp.is_none()
        && connection.destination.is_available()
        && !connection.destination.local.load(Relaxed)
}

/// Whether any segment moves it: the cache tells of the next one only.
fn is_watched(state: TcpState) -> bool {
    state.is_embryonic() || state == TcpState::Listen
}

impl Director {
    /// The same director with a cache of flows.
    #[must_use]
    pub fn with_flow_cache(mut self, cache: Arc<dyn FlowCache>) -> Self {
        let flows = Arc::new(Flows::new(cache));
        self.table.use_flows(Arc::clone(&flows));
        self.flows = Some(flows);
        self
    }

    /// Takes note of what passed by in the flow cache, if there is one: to be called before frames that came in later are
    /// handled. What the director has to ask of neighbours goes to `out`.
    #[inline]
    pub fn catch_up(&self, now: Instant, out: &mut Outbox) {
        if let Some(flows) = &self.flows {
            flows.cache.events(&mut |event| self.observe(flows, &event));
            if flows.tend_at.load(Relaxed) <= now.as_nanos()
                || flows.tended.load(Relaxed) != self.neighbors.version()
            {
                self.tend(flows, now, out);
            }
        }
    }

    /// To be called whenever all that [`Self::handle`] gave out so far was sent, and no more frames wait; and now and then while more
    /// do: packets that the flow cache holds on to only for the sake of order pass there from then on.
    #[inline]
    pub fn sent(&self, out: &mut Outbox) {
        if let (Some(flows), Some((last, told @ false))) = (&self.flows, &mut out.memo.passed) {
            flows.cache.through(last);
            *told = true;
        }
    }

    /// Places a connection whose request has just been forwarded.
    #[cold]
    pub(crate) fn place_flow(&self, scene: &mut Scene<'_>, flows: &Flows, key: &RequestKey, is_first: bool) {
        let epoch = flows.epoch.load(Acquire);
        // What is decided by an older state might outlive its withdrawal.
        if !scene.out.memo.is_current(&self.snapshot) {
            return;
        }
        let found = {
            let shard = self.table.shard(key.protocol, key.client, key.client_port);
            shard.request(key).map(|id| shard.get(id)).filter(|connection| flows.wants(connection)).map(
                |connection| {
                    (connection.destination_addr, connection.destination_port, connection.forwarding)
                },
            )
        };
        let Some((addr, port, forwarding)) = found else { return };
        let legs = self.legs(scene, key, (addr, port), forwarding, is_first);
        let mut shard = self.table.shard(key.protocol, key.client, key.client_port);
        let Some(id) = shard.request(key) else { return };
        let answers = shard.answers(id);
        let connection = shard.get_mut(id);
        // Replies that look alike are those of the newer connection.
        if !answers {
            return flows.refuse(connection, epoch);
        }
        let is_same = (connection.destination_addr, connection.destination_port) == (addr, port);
        if !is_same || connection.forwarding != forwarding || !flows.wants(connection) {
            return;
        }
        let (request, reply) = match legs {
            Ok(legs) => legs,
            Err(NoLegs::Yet) => return,
            Err(NoLegs::Ever) => return flows.refuse(connection, epoch),
        };
        let flow = Flow {
            request,
            reply,
            destination: connection.destination.id,
            addr: connection.destination_addr,
            tally: &connection.destination.tally,
            is_embryonic: connection.is_embryonic(),
        };
        match flows.cache.place(&flow) {
            Ok(()) if flows.epoch.load(Acquire) == epoch => connection.cached = Cached::placed(epoch),
            Ok(()) => flows.remove(connection),
            Err(NotPlaced::Elsewhere) => flows.refuse(connection, epoch),
            Err(NotPlaced::Full) => {}
        }
    }

    /// How packets of a connection leave. `is_first`: it has seen none but the one at hand.
    fn legs(
        &self,
        scene: &mut Scene<'_>,
        key: &RequestKey,
        (addr, port): (Address, u16),
        forwarding: Forwarding,
        is_first: bool,
    ) -> Result<(Leg, Option<Leg>), NoLegs> {
        let snapshot = scene.snapshot;
        let network = &snapshot.network;
        if [key.client, key.virtual_addr, addr].iter().any(|addr| addr.is_v6_link_local()) {
            return Err(NoLegs::Ever);
        }
        let Some(hop) = network.route(addr) else { return Err(NoLegs::Yet) };
        let hop = Hop { essential: true, ..hop };
        let (act, hop) = match forwarding {
            Forwarding::Nat => (Act::NewDestination(addr, port), hop),
            Forwarding::Direct => (Act::AsIs, hop),
            Forwarding::Tunnel(Tunnel::Ipip) if snapshot.options.pmtu_disc => {
                let Some(source) = hop.source else { return Err(NoLegs::Ever) };
                let mtu = self.path_mtus.of(addr, hop.mtu, scene.now);
                (Act::Tunnel { source, destination: addr }, Hop { mtu, ..hop })
            }
            Forwarding::Tunnel(_) => return Err(NoLegs::Ever),
        };
        let way = self.way(scene, &hop)?;
        let client = (key.client, key.client_port);
        let asked_for = (key.virtual_addr, key.virtual_port);
        let protocol = key.protocol;
        // After the SYN of a connection its client waits for an answer.
        let waits = !(is_first && protocol == tcp::PROTOCOL);
        let request =
            Leg { key: FlowKey { protocol, source: client, destination: asked_for }, act, way, waits };
        if forwarding != Forwarding::Nat {
            return Ok((request, None));
        }
        let Some(back) = network.route(key.client) else { return Err(NoLegs::Yet) };
        let way = self.way(scene, &back)?;
        let key = FlowKey { protocol, source: (addr, port), destination: client };
        let act = Act::NewSource(asked_for.0, asked_for.1);
        Ok((request, Some(Leg { key, act, way, waits: !is_first })))
    }

    fn way(&self, scene: &mut Scene<'_>, hop: &Hop) -> Result<Way, NoLegs> {
        let network = &scene.snapshot.network;
        let Some(from) = network.mac(hop.port) else { return Err(NoLegs::Ever) };
        let key = (hop.port, hop.addr);
        match self.neighbors.resolve(network, key, hop.essential, scene.now, scene.out, || None) {
            Resolved::Known(to) => Ok(Way { port: hop.port, next_hop: hop.addr, to, from, mtu: hop.mtu }),
            Resolved::Waits(_) | Resolved::Drop(..) => Err(NoLegs::Yet),
        }
    }

    /// A packet passed in the cache.
    fn observe(&self, flows: &Flows, event: &FlowEvent) {
        let FlowKey { protocol, source, destination } = event.key;
        let (client, other) = if event.is_reply { (destination, source) } else { (source, destination) };
        let mut shard = self.table.shard(protocol, client.0, client.1);
        let id = if event.is_reply {
            shard.reply(&ReplyKey {
                destination: other.0,
                client: client.0,
                destination_port: other.1,
                client_port: client.1,
                protocol,
            })
        } else {
            shard.request(&RequestKey {
                client: client.0,
                virtual_addr: other.0,
                client_port: client.1,
                virtual_port: other.1,
                protocol,
                template: false,
            })
        };
        let Some(id) = id else { return };
        let snapshot = self.snapshot.load();
        let connection = shard.get_mut(id);
        let is_noted;
        let seen = if event.is_reply {
            is_noted = core::mem::replace(&mut connection.no_output, false);
            Seen::Output
        } else {
            connection.in_packets = connection.in_packets.saturating_add(1);
            is_noted = connection.in_packets == USED;
            if connection.is_one_way() { Seen::InputOnly } else { Seen::Input }
        };
        let moved = if protocol == tcp::PROTOCOL {
            let moved = advance_tcp(connection, &snapshot, seen, event.tcp_flags);
            feedback::segment(connection, event.at, (seen, event.tcp_flags), moved);
            moved
        } else {
            advance_udp(connection, &snapshot, seen)
        };
        // The deadline does not move back: another packet may have come here meanwhile.
        if moved || is_noted || event.at + connection.timeout > connection.expires_at {
            shard.follow(id, moved || is_noted, event.at);
        }
        // What follows a segment other than SYN is not told of, whether it moved anything or not.
        if moved || event.tcp_flags & tcp::SYN == 0 {
            flows.settle(&mut shard, id, event.at);
        }
    }

    /// Moves the deadline of a connection that seems to be over to where the packets that passed in the cache put it.
    #[inline]
    pub(crate) fn refresh(&self, shard: &mut Shard, id: EntryId, now: Instant) {
        let connection = shard.get_mut(id);
        if connection.expires_at <= now && connection.cached.is_placed() {
            connection.take_over(self.deadline(connection));
        }
    }

    /// When the time of a connection is up: a timeout after its last packet, wherever that passed. The only place that knows
    /// both of table and cache; its own deadline, `expires_at`, is no later.
    #[inline]
    pub(crate) fn deadline(&self, connection: &Connection) -> Instant {
        match &self.flows {
            Some(flows) if connection.cached.is_placed() => flows.deadline(connection),
            _ => connection.expires_at,
        }
    }

    /// Takes over a connection that a cache has kept for a director that ended. False: nothing here would forward it so.
    ///
    /// Its state is what the packets that passed in the cache say; persistence does not know it.
    pub fn adopt(&self, orphan: &Orphan, now: Instant) -> bool {
        let Orphan { request: FlowKey { protocol, source, destination: asked_for }, destination, .. } =
            *orphan;
        let Some(transport) = Protocol::from_number(protocol) else { return false };
        let snapshot = self.snapshot.load();
        let Some(service) = snapshot.services.find(transport, asked_for.0, asked_for.1, 0) else {
            return false;
        };
        let same = |it: &Arc<Destination>| {
            it.addr == destination.0
                && (it.port == 0 || it.port == destination.1)
                && match it.forwarding() {
                    Forwarding::Nat => orphan.method == Method::Nat,
                    Forwarding::Direct => orphan.method == Method::Direct,
                    Forwarding::Tunnel(tunnel) => tunnel == Tunnel::Ipip && orphan.method == Method::Tunnel,
                }
        };
        let Some(found) = service.destinations().into_iter().find(same) else { return false };
        let key = RequestKey {
            client: source.0,
            virtual_addr: asked_for.0,
            client_port: source.1,
            virtual_port: asked_for.1,
            protocol,
            template: false,
        };
        let mut connection =
            new_connection(key, Placement { destination: found, port: destination.1, control: None }, now);
        if transport == Protocol::Tcp {
            let nat = orphan.method == Method::Nat;
            let state = match (orphan.is_reset, orphan.finished, orphan.is_established) {
                (true, ..) => TcpState::Close,
                (_, [true, true], _) => TcpState::TimeWait,
                (_, [true, false], _) if nat => TcpState::CloseWait,
                (_, [true, false] | [false, true], _) => TcpState::FinWait,
                (_, [false, false], true) => TcpState::Established,
                (_, [false, false], false) => TcpState::SynRecv,
            };
            connection.state = state.number();
            // An answer was forwarded, or it would not be established; without NAT none passes here.
            connection.no_output = !nat || !orphan.is_established;
            connection.counted = if state.is_active() { Counted::Active } else { Counted::Inactive };
            connection.timeout = snapshot.timers.tcp(state);
        } else {
            connection.timeout = snapshot.timers.udp();
        }
        let deadline = now + connection.timeout;
        if deadline.since(now) <= orphan.idle {
            return false;
        }
        connection.expires_at = now + (deadline.since(now) - orphan.idle);
        // Its next packet is not the first.
        connection.in_packets = 1;
        self.insert(connection) == Ok(true)
    }

    /// Takes what has ended a moment ago out of the cache.
    pub(crate) fn uncache_closed(&self, now: Instant) {
        let Some(flows) = &self.flows else { return };
        loop {
            let key = {
                let mut closing = lock(&flows.closing);
                match closing.front() {
                    Some((since, _)) if *since + LINGER <= now => closing.pop_front().map(|(_, key)| key),
                    _ => None,
                }
            };
            let Some(key) = key else { return };
            let mut shard = self.table.shard(key.protocol, key.client, key.client_port);
            let Some(id) = shard.request(&key) else { continue };
            let connection = shard.get_mut(id);
            if connection.cached.is_placed() && TcpState::from_number(connection.state).is_over() {
                flows.remove(connection);
                connection.cached = Cached::NO;
            }
        }
    }

    /// Keeps the addresses of the neighbours that the cache sends to.
    #[cold]
    fn tend(&self, flows: &Flows, now: Instant, out: &mut Outbox) {
        let Ok(_tending) = flows.tending.try_lock() else { return };
        let snapshot = self.snapshot.load();
        flows.tended.store(self.neighbors.version(), Relaxed);
        flows.tend_at.store((now + TEND_EVERY).as_nanos(), Relaxed);
        let mut address_of = |way: &Way| -> Option<MacAddr> {
            let key = (way.port, way.next_hop);
            match self.neighbors.resolve(&snapshot.network, key, false, now, out, || None) {
                Resolved::Known(mac) => Some(mac),
                Resolved::Waits(_) | Resolved::Drop(..) => None,
            }
        };
        flows.cache.tend(&mut address_of);
    }

    /// Something that flows were made of has changed.
    pub(crate) fn withdraw_flows(&self, destination: Option<u32>) {
        if let Some(flows) = &self.flows {
            flows.withdraw(destination);
        }
    }

    /// An interface has another link under it, or none: what was placed is placed anew where it can be.
    pub fn links_moved(&self) {
        self.withdraw_flows(None);
    }

    /// Brings counters up to date with what passed in the cache.
    pub(crate) fn count_flows(&self) {
        if let Some(flows) = &self.flows {
            flows.cache.count();
        }
    }
}

/// Why nobody can say how a connection's packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoLegs {
    /// Not yet: a neighbour has still to be asked, or there is no route.
    Yet,
    Ever,
}
