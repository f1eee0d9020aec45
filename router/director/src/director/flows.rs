//! The flow cache, as the director keeps it: what has passed there, what has ended, whose neighbours it needs, and what
//! it has kept for a director that ended.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::tcp;

use crate::base::lock::lock;
use crate::base::spec::{Forwarding, MacAddr, Protocol, Tunnel};
use crate::base::time::{Duration, Instant};
use crate::base::view::Origin;
use crate::director::Director;
use crate::flow_cache::{FlowCache, FlowEvent, FlowKey, Method, NextHop, Orphan};
use crate::flows::Flows;
use crate::net::lane::Lane;
use crate::net::neighbor::Resolved;
use crate::path::marks::marks_of_flow;
use crate::scene::outbox::Outbox;
use crate::track::bypass::Bypass;
use crate::track::class::USED;
use crate::track::connection::{Connection, ReplyKey, RequestKey};
use crate::track::destination::{Counted, Destination};
use crate::track::past::Past;
use crate::track::response;
use crate::track::state::{advance_tcp, advance_udp};
use crate::track::tcp::{Seen, TcpState};

/// A connection that has ended leaves the cache that long after, when its last acknowledgements have passed.
const LINGER: Duration = Duration::from_millis(20);
/// How often next hops in use are refreshed when nothing is known to have changed.
const TEND_EVERY: Duration = Duration::from_secs(1);

impl Director {
    /// The same director with a cache of flows.
    #[must_use]
    pub fn with_flow_cache(mut self, cache: Arc<dyn FlowCache>) -> Self {
        let flows = Arc::new(Flows::new(cache));
        self.tables.table.use_flows(Arc::<Flows>::clone(&flows));
        self.tables.flows = Some(flows);
        self
    }

    /// Takes note of what passed by in the flow cache, if there is one: to be called before frames that came in later
    /// are handled. What the director has to ask of neighbours goes to `out`.
    #[inline]
    pub fn catch_up(&self, now: Instant, out: &mut Outbox) {
        if let Some(flows) = &self.tables.flows {
            flows.cache.events(&mut |event| self.observe(flows, &event));
            flows.replace_displaced();
            if flows.tend_at.load(Relaxed) <= now.as_nanos()
                || flows.refreshed.load(Relaxed) != self.tables.neighbors.version()
            {
                self.refresh_next_hops(flows, now, &mut out.lane);
            }
        }
    }

    /// To be called whenever all that [`Self::handle`] gave out so far was sent, and no more frames wait; and now and
    /// then while more do: packets that the flow cache holds on to only for the sake of order pass there from then on.
    #[inline]
    pub fn sent(&self, out: &mut Outbox) {
        if let (Some(flows), Some((last, told @ false))) = (&self.tables.flows, &mut out.passed) {
            flows.cache.through(last);
            *told = true;
        }
    }

    /// A packet passed in the cache.
    fn observe(&self, flows: &Flows, event: &FlowEvent) {
        let FlowKey { protocol, source, destination } = event.key;
        let (client, other) = if event.is_reply { (destination, source) } else { (source, destination) };
        let mut shard = self.tables.table.shard(protocol, client.0, client.1);
        let id = if event.is_reply {
            shard.reply(&ReplyKey::between(other, client, protocol))
        } else {
            shard.request(&RequestKey::between(client, other, protocol))
        };
        let Some(id) = id else { return };
        let snapshot = self.tables.snapshot.load();
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
            let moved = advance_tcp(connection, snapshot.rules(), seen, event.tcp_flags);
            response::segment(connection, event.at, (seen, event.tcp_flags), moved);
            moved
        } else {
            advance_udp(connection, snapshot.rules(), seen)
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

    /// Takes over a connection that a cache has kept for a director that ended. False: nothing here would forward it
    /// so.
    ///
    /// Its state is what the packets that passed in the cache say; persistence does not know it.
    pub fn adopt(&self, orphan: &Orphan, now: Instant) -> bool {
        let Orphan { request: FlowKey { protocol, source, destination: asked_for }, destination, .. } =
            *orphan;
        let Some(transport) = Protocol::from_number(protocol) else { return false };
        let snapshot = self.tables.snapshot.load();
        let same = |it: &Arc<Destination>| {
            it.addr == destination.0
                && (it.port == 0 || it.port == destination.1)
                && match it.forwarding() {
                    Forwarding::Nat => orphan.method == Method::Nat,
                    Forwarding::Direct => orphan.method == Method::Direct,
                    Forwarding::Tunnel(tunnel) => tunnel == Tunnel::Ipip && orphan.method == Method::Tunnel,
                }
        };
        let mut services = marks_of_flow(&snapshot.marks, &orphan.request)
            .filter_map(|mark| snapshot.services.find(transport, asked_for.0, asked_for.1, mark));
        let Some(found) = services.find_map(|service| service.destinations().into_iter().find(same)) else {
            return false;
        };
        let key = RequestKey::between(source, asked_for, protocol);
        let mut connection = Connection::new(key, found, destination.1, None, now);
        connection.past = Past::new(Origin::Adopted);
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
        let ends_older = !snapshot.options.compat_ipvs;
        let inserted = self.tables.table.insert(connection, ends_older, Connection::release);
        inserted.is_ok_and(|it| it.is_new)
    }

    /// Takes what has ended a moment ago out of the cache.
    pub(crate) fn uncache_closed(&self, now: Instant) {
        let Some(flows) = &self.tables.flows else { return };
        loop {
            let key = {
                let mut closing = lock(&flows.closing);
                match closing.front() {
                    Some((since, _)) if *since + LINGER <= now => closing.pop_front().map(|(_, key)| key),
                    _ => None,
                }
            };
            let Some(key) = key else { return };
            let mut shard = self.tables.table.shard(key.protocol, key.client, key.client_port);
            let Some(id) = shard.request(&key) else { continue };
            let connection = shard.get_mut(id);
            if connection.cached.is_placed() && TcpState::from_number(connection.state).is_over() {
                flows.take_out(connection);
            }
        }
    }

    /// Keeps the addresses of the neighbours that the cache sends to.
    #[cold]
    fn refresh_next_hops(&self, flows: &Flows, now: Instant, out: &mut Lane) {
        let Ok(mut next) = flows.tending.try_lock() else { return };
        let snapshot = self.tables.snapshot.load();
        if *next == 0 {
            flows.refreshed.store(self.tables.neighbors.version(), Relaxed);
        }
        let mut address_of = |next_hop: &NextHop| -> Option<MacAddr> {
            let key = (next_hop.port, next_hop.addr);
            match self.tables.neighbors.resolve(&snapshot.network, key, false, now, out, || None) {
                Resolved::Known(mac) => Some(mac),
                Resolved::Waits(_) | Resolved::Drop(..) => None,
            }
        };
        // Some at a time, before each batch of frames, until all had their turn.
        *next = flows.cache.refresh_next_hops(*next, &mut address_of).unwrap_or(0);
        let due = if *next == 0 { (now + TEND_EVERY).as_nanos() } else { 0 };
        flows.tend_at.store(due, Relaxed);
    }

    /// An interface has another link under it, or none: what was placed is placed anew where it can be.
    pub fn links_moved(&self) {
        self.tables.withdraw_flows(None);
    }

    /// Brings counters up to date with what passed in the cache.
    pub(crate) fn count_flows(&self) {
        if let Some(flows) = &self.tables.flows {
            flows.cache.count();
        }
    }
}
