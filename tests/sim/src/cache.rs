//! A flow cache that does what the programs in the kernel do (`router/attach/bpf`), and that fails when the world wants
//! it to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uvs_director::flow_cache::{
    Act, Direction, Flow, FlowCache, FlowEvent, FlowKey, NextHop, NotPlaced, Passed, Progress, Tally,
};
use uvs_director::spec::MacAddr;
use uvs_director::view::Counters;
use uvs_director::{Instant, PortId};
use uvs_wire::rewrite::{self, L4Sum};
use uvs_wire::{Address, Packet, ethernet, ipv4, ipv6, tcp, udp};

use crate::event::Fault;
use crate::packet::encapsulate;

/// The time of a flow's last packet is known to that many nanoseconds.
const TICK: u64 = 1 << 24;
/// A next hop that nothing took for so long is not looked after.
const QUIET: u64 = 3_000_000_000;
/// A direction that is shut waits that long, in nanoseconds, for a moment at which none of its packets is with the
/// director.
const PATIENCE: u64 = 60 * TICK;
/// Of a tag of 802.1ad, which carries a ticket.
const TAG: [u8; 2] = [0x88, 0xa8];
/// Next hops that have room.
const NEXT_HOPS: usize = 5;
/// One that was in use so lately, in nanoseconds, keeps its place.
const LATELY: u128 = 60 * TICK as u128;
/// Events that have room in the ring.
const RING: usize = 64;

/// A [`FlowKey`] with an order.
type Key = (u8, Address, u16, Address, u16);

fn key_of(key: &FlowKey) -> Key {
    (key.protocol, key.source.0, key.source.1, key.destination.0, key.destination.1)
}

/// One direction in the cache.
#[derive(Clone, Copy, Debug)]
struct Placed {
    key: FlowKey,
    act: Act,
    /// Its place, and the generation that is meant.
    next_hop: (usize, u64),
    destination: u32,
    generation: (u64, u64),
    addr: Address,
    seen: Instant,
    watched: bool,
    /// A packet has passed.
    passed: bool,
    /// Packets are on their way through the director: those that come meanwhile go there, too, with a ticket.
    shut: bool,
    ticket: u16,
    shut_at: Instant,
}

/// A next hop.
#[derive(Clone, Copy, Debug)]
struct Known {
    next_hop: NextHop,
    tunnel: Option<(Address, Address)>,
    open: bool,
    seen: Instant,
    /// How many had its place before.
    generation: u64,
}

/// What the cache holds of one direction, for who checks it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Its protocol.
    pub(crate) protocol: u8,
    /// Which packets.
    pub(crate) ends: (SocketAddr, SocketAddr),
    /// What becomes of them.
    pub(crate) act: Act,
    /// The destination's address.
    pub(crate) addr: Address,
    /// It holds: what was withdrawn does not.
    pub(crate) holds: bool,
}

/// How often a connection was asked for while there was no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusals {
    /// Its client and what it asked for.
    pub(crate) ends: (SocketAddr, SocketAddr),
    /// How often since the first time.
    pub(crate) times: u32,
    /// When that was.
    pub(crate) since: Instant,
}

#[derive(Default)]
struct Inner {
    flows: BTreeMap<Key, Placed>,
    next_hops: Vec<Known>,
    /// Of each destination, and of all.
    generations: BTreeMap<u32, u64>,
    generation: u64,
    tallies: BTreeMap<u32, (Arc<Tally>, Counters)>,
    events: Vec<FlowEvent>,
    refusals: BTreeMap<Key, Refusals>,
    /// The last ticket of each direction that has left the director, and in how many frames it came.
    gates: BTreeMap<Key, (u16, u16)>,
    /// Next hops that gave their place to another.
    displaced: u64,
    now: Instant,
    limit: usize,
    fault: Option<Fault>,
    placed: u64,
    passed: u64,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Inner>);

impl Cache {
    /// One with room for so many flows.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Mutex::new(Inner { limit, ..Inner::default() }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is.
    pub(crate) fn set_now(&self, now: Instant) {
        self.inner().now = now;
    }

    /// From now on so many flows have room.
    pub(crate) fn set_limit(&self, limit: usize) {
        let inner = &mut *self.inner();
        inner.limit = limit;
        inner.refusals.clear();
    }

    /// From now on it fails that way.
    pub(crate) fn set_fault(&self, fault: Fault) {
        let inner = &mut *self.inner();
        inner.fault = Some(fault).filter(|fault| *fault != Fault::None);
        inner.refusals.clear();
    }

    /// Forgets all flows.
    pub(crate) fn forget(&self) {
        let inner = &mut *self.inner();
        inner.flows.clear();
        inner.refusals.clear();
    }

    /// Connections that were placed, and packets that passed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.placed, inner.passed)
    }

    /// All it holds.
    pub(crate) fn held(&self) -> Vec<Held> {
        let inner = self.inner();
        let at = |(addr, port): (Address, u16)| SocketAddr::new(addr.to_ip(), port);
        let held = |it: &Placed| Held {
            protocol: it.key.protocol,
            ends: (at(it.key.source), at(it.key.destination)),
            act: it.act,
            addr: it.addr,
            holds: inner.holds(it),
        };
        inner.flows.values().map(held).collect()
    }

    /// The connection that was refused most often while there was no room.
    pub(crate) fn most_refused(&self) -> Option<Refusals> {
        self.inner().refusals.values().max_by_key(|refusals| refusals.times).copied()
    }

    /// Sends a frame on as the program does, and says where; `None`: it is the director's.
    pub(crate) fn pass(&self, frame: &mut Vec<u8>) -> Option<PortId> {
        self.inner().pass(frame)
    }
}

impl Inner {
    fn generation_of(&self, destination: u32) -> (u64, u64) {
        (self.generation, self.generations.get(&destination).copied().unwrap_or(0))
    }

    fn holds(&self, flow: &Placed) -> bool {
        flow.generation == self.generation_of(flow.destination)
    }

    fn next_hop(&mut self, direction: &Direction) -> Result<(usize, u64), NotPlaced> {
        let tunnel = match direction.act {
            Act::Tunnel { source, destination } => Some((source, destination)),
            Act::NewDestination(..) | Act::NewSource(..) | Act::AsIs => None,
        };
        let name = |next_hop: &NextHop| (next_hop.port, next_hop.addr, next_hop.from, next_hop.mtu);
        let mut next_hop =
            Known { next_hop: direction.next_hop, tunnel, open: true, seen: self.now, generation: 0 };
        let same = |it: &Known| name(&it.next_hop) == name(&direction.next_hop) && it.tunnel == tunnel;
        if let Some(index) = self.next_hops.iter().position(same) {
            next_hop.generation = self.next_hops[index].generation;
            self.next_hops[index] = next_hop;
            return Ok((index, next_hop.generation));
        }
        if self.next_hops.len() < NEXT_HOPS {
            self.next_hops.push(next_hop);
            return Ok((self.next_hops.len() - 1, 0));
        }
        let idlest = (0..NEXT_HOPS).min_by_key(|index| self.next_hops[*index].seen).expect("there are some");
        let known = &mut self.next_hops[idlest];
        if self.now.since(known.seen).as_nanos() < LATELY {
            return Err(NotPlaced::Failed);
        }
        next_hop.generation = known.generation + 1;
        *known = next_hop;
        self.displaced += 1;
        Ok((idlest, next_hop.generation))
    }

    fn place(&mut self, flow: &Flow<'_>) -> Result<(), NotPlaced> {
        let room = if flow.is_embryonic { self.limit / 4 * 3 } else { self.limit };
        let directions: Vec<&Direction> = std::iter::once(&flow.request).chain(flow.reply.as_ref()).collect();
        let new =
            directions.iter().filter(|direction| !self.flows.contains_key(&key_of(&direction.key))).count();
        if self.fault == Some(Fault::Elsewhere) {
            return Err(NotPlaced::Elsewhere);
        }
        if self.fault == Some(Fault::Full) {
            return Err(NotPlaced::Failed);
        }
        if self.flows.len() + new > room {
            return Err(NotPlaced::Full);
        }
        let mut next_hops = Vec::new();
        for direction in &directions {
            next_hops.push(self.next_hop(direction)?);
        }
        self.tallies.entry(flow.destination).or_insert_with(|| (Arc::clone(flow.tally), Counters::default()));
        for (direction, next_hop) in directions.into_iter().zip(next_hops) {
            #[allow(clippy::cast_possible_truncation, reason = "any number that was not in use a moment ago")]
            let fresh = (self.placed as u16).wrapping_mul(0x1357);
            // Packets with tickets of the old entry may still be on their way.
            let old = self.flows.get(&key_of(&direction.key));
            let ticket = old.map_or(fresh, |old| old.ticket.wrapping_add(0x8000));
            let placed = Placed {
                key: direction.key,
                act: direction.act,
                next_hop,
                destination: flow.destination,
                generation: self.generation_of(flow.destination),
                addr: flow.addr,
                seen: self.now,
                watched: true,
                passed: false,
                shut: direction.waits,
                ticket,
                shut_at: self.now,
            };
            self.flows.insert(key_of(&direction.key), placed);
        }
        Ok(())
    }

    /// A packet of a flow goes to the director, with a ticket, so that none overtakes it. `shuts`: it would have to go
    /// there even if the flow were open.
    fn miss(&mut self, key: &FlowKey, frame: &mut Vec<u8>, shuts: bool) {
        let Some(flow) = self.flows.get_mut(&key_of(key)) else { return };
        flow.shut |= shuts;
        // From the last packet on: that a flow which is never quiet opens after a second all the same is left out.
        flow.shut_at = self.now;
        flow.ticket = flow.ticket.wrapping_add(1);
        let [high, low] = flow.ticket.to_be_bytes();
        frame.splice(12..12, [TAG[0], TAG[1], high, low]);
    }

    fn pass(&mut self, frame: &mut Vec<u8>) -> Option<PortId> {
        let is_ip = matches!(ethernet::ethertype(frame), ethernet::ETHERTYPE_IPV4 | ethernet::ETHERTYPE_IPV6);
        let ip = frame.get(ethernet::HEADER_LEN..).filter(|_| is_ip)?;
        let mut packet = Packet::parse(ip).ok()?;
        let plain = if packet.is_v4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        let flags = packet.tcp_flags;
        let means_something =
            packet.protocol != tcp::PROTOCOL || flags & (tcp::ACK | tcp::FIN | tcp::RST) != 0;
        if !matches!(packet.protocol, tcp::PROTOCOL | udp::PROTOCOL)
            || packet.is_fragment() && !packet.is_first_fragment()
            || packet.is_v4() && !ipv4::header_checksum_ok(ip)
        {
            return None;
        }
        let key = FlowKey {
            protocol: packet.protocol,
            source: (packet.src, packet.src_port),
            destination: (packet.dst, packet.dst_port),
        };
        let flow = *self.flows.get(&key_of(&key))?;
        let (index, generation) = flow.next_hop;
        let hop = self.next_hops[index];
        let outer = match flow.act {
            Act::Tunnel { source, .. } if source.is_v4() => ipv4::HEADER_LEN,
            Act::Tunnel { .. } => ipv6::HEADER_LEN,
            Act::NewDestination(..) | Act::NewSource(..) | Act::AsIs => 0,
        };
        let is_reply = matches!(flow.act, Act::NewSource(..));
        let passes = self.holds(&flow)
            && means_something
            && packet.ttl > 1
            && usize::from(packet.header_len) == plain
            && !packet.is_fragment()
            && hop.open
            && hop.generation == generation
            && packet.total_len as usize + outer <= hop.next_hop.mtu as usize
            && (flags & tcp::SYN == 0 || is_reply && flags & tcp::ACK != 0);
        let told = flow.watched || flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0;
        let opens = self.gates.get(&key_of(&key)) == Some(&(flow.ticket, 1))
            || self.now.since(flow.shut_at).as_nanos() > u128::from(PATIENCE);
        let has_room = self.events.len() < RING && self.fault != Some(Fault::Silent);
        if !passes || flow.shut && !opens || told && !has_room {
            self.miss(&key, frame, !passes || !flow.shut || opens);
            return None;
        }
        if told {
            self.events.push(FlowEvent { key, is_reply, tcp_flags: flags, at: self.now });
        }
        let now = self.now;
        let entry = self.flows.get_mut(&key_of(&key)).expect("it was found above");
        if told && flags & tcp::SYN == 0 {
            entry.watched = false;
        }
        (entry.seen, entry.shut, entry.passed) = (now, false, true);
        self.next_hops[index].seen = now;
        self.passed += 1;
        if let Some((_, counters)) = self.tallies.get_mut(&flow.destination) {
            let bytes = u64::from(packet.total_len);
            let (packets, sum) = if is_reply {
                (&mut counters.packets_out, &mut counters.bytes_out)
            } else {
                (&mut counters.packets_in, &mut counters.bytes_in)
            };
            *packets += 1;
            *sum += bytes;
        }
        let ip = &mut frame[ethernet::HEADER_LEN..];
        rewrite::decrement_ttl(ip, &mut packet);
        match flow.act {
            Act::NewDestination(addr, port) => {
                rewrite::destination(ip, &mut packet, addr, port, L4Sum::Complete);
            }
            Act::NewSource(addr, port) => rewrite::source(ip, &mut packet, addr, port, L4Sum::Complete),
            Act::AsIs => {}
            Act::Tunnel { source, destination } => {
                let outer = encapsulate(source, destination, ip);
                frame.truncate(ethernet::HEADER_LEN);
                frame.extend(outer);
            }
        }
        let ether_type = match frame[ethernet::HEADER_LEN] >> 4 {
            4 => ethernet::ETHERTYPE_IPV4,
            _ => ethernet::ETHERTYPE_IPV6,
        };
        ethernet::write(frame, hop.next_hop.to.0, hop.next_hop.from.0, ether_type);
        Some(hop.next_hop.port)
    }
}

impl FlowCache for Cache {
    fn place(&self, flow: &Flow<'_>) -> Result<(), NotPlaced> {
        let inner = &mut *self.inner();
        let placed = inner.place(flow);
        let key = flow.request.key;
        match placed {
            Ok(()) => {
                inner.placed += 1;
                inner.refusals.remove(&key_of(&key));
            }
            Err(NotPlaced::Full | NotPlaced::Failed) => {
                let at = |(addr, port): (Address, u16)| SocketAddr::new(addr.to_ip(), port);
                let ends = (at(key.source), at(key.destination));
                let first = Refusals { ends, times: 0, since: inner.now };
                let refusals = inner.refusals.entry(key_of(&key)).or_insert(first);
                if inner.now.since(refusals.since).as_secs() > 0 {
                    *refusals = first;
                }
                refusals.times += 1;
            }
            Err(NotPlaced::Elsewhere) => {}
        }
        placed
    }

    fn shut(&self, request: &FlowKey, reply: Option<&FlowKey>) {
        let inner = &mut *self.inner();
        for key in std::iter::once(request).chain(reply) {
            let now = inner.now;
            if let Some(flow) = inner.flows.get_mut(&key_of(key)) {
                (flow.watched, flow.shut, flow.shut_at) = (true, true, now);
                flow.ticket = flow.ticket.wrapping_add(1);
            }
        }
    }

    fn remove(&self, request: &FlowKey, reply: Option<&FlowKey>) {
        let inner = &mut *self.inner();
        for key in std::iter::once(request).chain(reply) {
            inner.flows.remove(&key_of(key));
        }
        inner.refusals.clear();
    }

    fn progress(&self, key: &FlowKey) -> Progress {
        let flow = self.inner().flows.get(&key_of(key)).copied();
        flow.map_or_else(Progress::default, |flow| Progress {
            has_passed: flow.passed,
            is_shut: flow.shut,
            ticket: flow.ticket,
        })
    }

    fn last_seen(&self, request: &FlowKey, reply: Option<&FlowKey>) -> Option<Instant> {
        let inner = self.inner();
        let seen = |key: &FlowKey| {
            let seen = inner.flows.get(&key_of(key))?.seen.as_nanos();
            Some(Instant::from_nanos((seen / TICK + 1) * TICK).min(inner.now))
        };
        seen(request).max(reply.and_then(seen))
    }

    fn events(&self, each: &mut dyn FnMut(FlowEvent)) {
        let events = std::mem::take(&mut self.inner().events);
        events.into_iter().for_each(each);
    }

    fn through(&self, last: &Passed) {
        let frames = if last.is_whole { 1 } else { last.frames };
        self.inner().gates.insert(key_of(&last.key), (last.ticket, frames));
    }

    fn withdraw(&self, destination: Option<u32>) {
        let inner = &mut *self.inner();
        match destination {
            Some(destination) => *inner.generations.entry(destination).or_default() += 1,
            None => inner.generation += 1,
        }
        inner.refusals.clear();
        bring_tallies(inner);
    }

    fn displaced(&self) -> u64 {
        self.inner().displaced
    }

    fn count(&self) {
        bring_tallies(&mut self.inner());
    }

    fn refresh_next_hops(
        &self,
        _: usize,
        address_of: &mut dyn FnMut(&NextHop) -> Option<MacAddr>,
    ) -> Option<usize> {
        let (next_hops, now) = {
            let inner = self.inner();
            (inner.next_hops.clone(), inner.now)
        };
        for (index, hop) in next_hops.iter().enumerate() {
            if hop.open && now.since(hop.seen).as_nanos() > u128::from(QUIET) {
                continue;
            }
            let answer = address_of(&hop.next_hop);
            let known = &mut self.inner().next_hops[index];
            known.open = answer.is_some();
            known.next_hop.to = answer.unwrap_or(hop.next_hop.to);
        }
        None
    }
}

/// Brings all tallies up to date.
fn bring_tallies(inner: &mut Inner) {
    for (tally, counters) in inner.tallies.values() {
        tally.set_flown(counters);
    }
}
