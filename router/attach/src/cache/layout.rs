//! Bytes of the maps of the flow cache, as `bpf/flows.h` lays them out: numbers as the machine has them, addresses and
//! ports as the network does. The tests hold them against what the compiled programs say of their structures (BTF).

use uvs_director::flow_cache::{Act, FlowKey, Progress};
use uvs_director::spec::MacAddr;
use uvs_wire::Address;

/// `struct key4`, `struct key6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    V4([u8; 16]),
    V6([u8; 40]),
}

/// `struct flow4`, `struct flow6`.
pub(super) type Value4 = [u8; 40];
pub(super) type Value6 = [u8; 52];
/// `struct next_hop`.
pub(super) type NextHopBytes = [u8; 64];
/// `struct tally`.
pub(super) type TallyBytes = [u8; 32];
/// `struct census`.
pub(super) type CensusBytes = [u8; 16];

/// `TICK_SHIFT`.
const TICK_SHIFT: u32 = 24;

/// A tick of the programs' coarse clock, from nanoseconds of `CLOCK_MONOTONIC`. It wraps around.
#[allow(clippy::cast_possible_truncation, reason = "as the programs do")]
pub(super) fn tick(nanos: u64) -> u32 {
    (nanos >> TICK_SHIFT) as u32
}

/// The last nanosecond of a tick that is not after `now`.
pub(super) fn end_of_tick(tick_then: u32, now: u64) -> u64 {
    let age = u64::from(tick(now).wrapping_sub(tick_then));
    if age == 0 || age > u64::from(u32::MAX / 2) {
        return now;
    }
    (((now >> TICK_SHIFT) - age + 1) << TICK_SHIFT) - 1
}

/// Fills a structure from its beginning to its end.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn word(self, word: u32) -> Self {
        self.put(&word.to_ne_bytes())
    }

    /// In the room for an IPv6 address; of IPv4 in the first word.
    fn address(self, address: Address) -> Self {
        match address.is_v4() {
            true => self.put(&address.v4_octets()).put(&[0; 12]),
            false => self.put(&address.octets()),
        }
    }

    fn done(self) -> [u8; N] {
        assert_eq!(self.at, N, "all of it is filled");
        self.bytes
    }
}

/// How packets of a flow are found.
pub(super) fn key(of: &FlowKey) -> Key {
    let (source, source_port) = of.source;
    let (destination, destination_port) = of.destination;
    let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
    let protocol = u32::from(of.protocol);
    if source.is_v4() {
        let addresses = Writer::new().put(&source.v4_octets()).put(&destination.v4_octets());
        Key::V4(addresses.put(&ports).word(protocol).done())
    } else {
        let addresses = Writer::new().put(&source.octets()).put(&destination.octets());
        Key::V6(addresses.put(&ports).word(protocol).done())
    }
}

/// What a flow's entry says beside the address.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) next_hop: u32,
    pub(super) destination: u32,
    pub(super) generation: u32,
    /// Tick of the last packet: now.
    pub(super) seen: u32,
    /// Packets of it may be on their way through the director.
    pub(super) is_shut: bool,
    /// Where it is told that they are through.
    pub(super) gate: u32,
    /// None of the flow's that was in use a moment ago.
    pub(super) ticket: u16,
    pub(super) act: Act,
    /// The destination's, for the next director.
    pub(super) addr: Address,
}

/// `enum act`.
pub(super) const NEW_DESTINATION: u8 = 1;
pub(super) const NEW_SOURCE: u8 = 2;
pub(super) const AS_IS: u8 = 3;
pub(super) const IN_IPV4: u8 = 4;
pub(super) const IN_IPV6: u8 = 5;

/// Where a value has the tick of the last packet, marks, the last ticket, the tick since when it is shut, port, what
/// becomes of packets, and the address.
const SEEN: usize = 12;
const MARKS: usize = 16;
const TICKET: usize = 24;
const SHUT_AT: usize = 28;
const PORT: usize = 32;
const ACT: usize = 34;
const ADDRESS: usize = 36;
/// The director wants to know of the next packet.
const WATCH: u32 = 1;
const FINISHED: u32 = 2;
const RESET: u32 = 4;
const SHUT: u32 = 8;
const PASSED: u32 = 16;
/// `GATES`.
pub(super) const GATES: u32 = 1 << 16;
/// `WHOLE`.
pub(super) const WHOLE: u16 = 0xffff;

/// `struct gate`.
pub(super) fn through(gate: u32, ticket: u16, frames: u16) -> u64 {
    u64::from(gate) << 32 | u64::from(ticket) << 16 | u64::from(frames)
}

impl Entry {
    fn head<const N: usize>(&self) -> Writer<N> {
        let (act, port) = match self.act {
            Act::NewDestination(_, port) => (NEW_DESTINATION, port),
            Act::NewSource(_, port) => (NEW_SOURCE, port),
            Act::AsIs => (AS_IS, 0),
            Act::Tunnel { destination, .. } => (if destination.is_v4() { IN_IPV4 } else { IN_IPV6 }, 0),
        };
        Writer::new()
            .word(self.next_hop)
            .word(self.destination)
            .word(self.generation)
            .word(self.seen)
            .word(if self.is_shut { WATCH | SHUT } else { WATCH })
            .word(self.gate)
            .word(u32::from(self.ticket) << 16)
            .word(self.seen)
            .put(&port.to_be_bytes())
            .put(&[act, 0])
    }

    fn address(&self) -> Address {
        match self.act {
            Act::NewDestination(address, _) | Act::NewSource(address, _) => address,
            Act::AsIs | Act::Tunnel { .. } => self.addr,
        }
    }

    pub(super) fn value4(&self) -> Value4 {
        // Into a tunnel of the other family no director takes over.
        let address = self.address();
        self.head().put(&if address.is_v4() { address.v4_octets() } else { [0; 4] }).done()
    }

    pub(super) fn value6(&self) -> Value6 {
        let address = self.address();
        self.head().put(&if address.is_v4() { [0; 16] } else { address.octets() }).done()
    }
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The tick of the last packet, of a value.
pub(super) fn seen(value: &[u8]) -> u32 {
    word_at(value, SEEN)
}

/// The last ticket, of a value.
pub(super) fn ticket(value: &[u8]) -> u16 {
    (word_at(value, TICKET) >> 16).try_into().expect("sixteen bits")
}

/// The same flow, shut: no packet has the last ticket of it, and so nothing opens it but one that comes now.
pub(super) fn shut<const N: usize>(mut value: [u8; N], tick: u32) -> [u8; N] {
    let (marks, ticket) = (word_at(&value, MARKS) | WATCH | SHUT, ticket(&value).wrapping_add(1));
    value[MARKS..MARKS + 4].copy_from_slice(&marks.to_ne_bytes());
    value[TICKET..TICKET + 4].copy_from_slice(&(u32::from(ticket) << 16).to_ne_bytes());
    value[SHUT_AT..SHUT_AT + 4].copy_from_slice(&tick.to_ne_bytes());
    value
}

/// Whether a packet has passed, whether the flow is shut, and the last ticket, of a value.
pub(super) fn progress(value: &[u8]) -> Progress {
    let marks = word_at(value, MARKS);
    Progress { has_passed: marks & PASSED != 0, is_shut: marks & SHUT != 0, ticket: ticket(value) }
}

/// What an entry says to a director that finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) act: u8,
    pub(super) is_watched: bool,
    pub(super) is_finished: bool,
    pub(super) is_reset: bool,
    pub(super) seen: u32,
    pub(super) addr: Address,
    pub(super) port: u16,
}

impl Found {
    /// Of a whole value.
    pub(super) fn read(value: &[u8]) -> Self {
        let addr = match <[u8; 4]>::try_from(&value[ADDRESS..]) {
            Ok(octets) => Address::v4(octets.into()),
            Err(_) => Address::v6(<[u8; 16]>::try_from(&value[ADDRESS..]).expect("16 bytes").into()),
        };
        let marks = word_at(value, MARKS);
        Self {
            act: value[ACT],
            is_watched: marks & WATCH != 0,
            is_finished: marks & FINISHED != 0,
            is_reset: marks & RESET != 0,
            seen: seen(value),
            addr,
            port: u16::from_be_bytes([value[PORT], value[PORT + 1]]),
        }
    }
}

/// The key of an entry, read back.
pub(super) fn flow_key(key: &[u8]) -> FlowKey {
    let port = |at: usize| u16::from_be_bytes([key[at], key[at + 1]]);
    let (len, address): (usize, fn(&[u8]) -> Address) = match key.len() {
        16 => (4, |bytes| Address::v4(<[u8; 4]>::try_from(bytes).expect("four bytes").into())),
        _ => (16, |bytes| Address::v6(<[u8; 16]>::try_from(bytes).expect("sixteen bytes").into())),
    };
    #[allow(clippy::cast_possible_truncation, reason = "a protocol is one byte")]
    let protocol = word_at(key, 2 * len + 4) as u8;
    FlowKey {
        protocol,
        source: (address(&key[..len]), port(2 * len)),
        destination: (address(&key[len..2 * len]), port(2 * len + 2)),
    }
}

/// One next hop; `link` is 0 for one that is closed.
pub(super) struct NextHopEntry {
    pub(super) link: u32,
    pub(super) generation: u16,
    pub(super) mtu: u32,
    pub(super) seen: u32,
    pub(super) to: MacAddr,
    pub(super) from: MacAddr,
    pub(super) tunnel: Option<(Address, Address)>,
    pub(super) to_peer: bool,
}

impl NextHopEntry {
    pub(super) fn bytes(&self) -> NextHopBytes {
        let head = Writer::new()
            .word(self.link)
            .word(self.generation.into())
            .word(self.mtu)
            .word(self.seen)
            .put(&self.to.0)
            .put(&self.from.0);
        match self.tunnel {
            Some((source, destination)) => head.address(source).address(destination),
            None => head.put(&[0; 32]),
        }
        .word(self.to_peer.into())
        .done()
    }
}

/// Packets and bytes from clients, then those from destinations.
pub(super) fn tally(bytes: &TallyBytes) -> [u64; 4] {
    [0, 8, 16, 24].map(|at| long_at(bytes, at))
}

/// Misses because an event could not be told, and packets that were dropped.
pub(super) fn census(bytes: &CensusBytes) -> [u64; 2] {
    [0, 8].map(|at| long_at(bytes, at))
}

/// Bytes of the ring of events.
pub(super) const EVENTS: u32 = 1 << 20;
/// Events that the ring holds at most, each with a header of 8 bytes: who reads so many has read all that were there
/// when it began.
pub(super) const EVENTS_MAX: u32 = EVENTS / (48 + 8);

/// `struct event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) at: u64,
    pub(super) key: FlowKey,
    pub(super) tcp_flags: u8,
    pub(super) is_reply: bool,
}

impl Event {
    /// `None`: it is not one of ours.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 48] = bytes.try_into().ok()?;
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let [protocol, version, tcp_flags, act] = bytes[44..].try_into().expect("four bytes");
        let address = |at: usize| match version {
            4 => Address::v4(<[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four bytes").into()),
            _ => Address::v6(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("sixteen bytes").into()),
        };
        let key = FlowKey { protocol, source: (address(8), port(40)), destination: (address(24), port(42)) };
        Some(Self { at: long_at(bytes, 0), key, tcp_flags, is_reply: act == NEW_SOURCE })
    }
}

#[cfg(test)]
mod tests;
