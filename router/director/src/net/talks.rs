//! What real servers talk about with others than clients of services, so that the answers can be told from the rest.
//!
//! It is remembered in two generations of bounded maps: what is not used while a generation fills up is forgotten, and
//! remembered again with the server's next packet.

use core::hash::BuildHasher;
use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::FixedState;
use uvs_wire::icmp::{self, v4, v6};
use uvs_wire::{Address, Packet, tcp};

use crate::base::lock::lock;
use crate::base::spec::Limits;
use crate::base::time::{Duration, Instant};

/// For how long an answer may come after the last packet (RFC 5382 section 5 for TCP, RFC 4787 section 4.3 for UDP).
const LIFETIME_TCP: Duration = Duration::from_secs(7440);
const LIFETIME: Duration = Duration::from_secs(300);
/// A power of two.
const SHARDS: usize = 16;

/// A conversation that a real server began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Talk {
    server: Address,
    peer: Address,
    /// The server's port, or the identifier of an ICMP echo; the peer's port.
    ports: (u16, u16),
    protocol: u8,
}

impl Talk {
    /// The conversation of a packet from a server.
    pub(crate) fn from_server(ip: &[u8], packet: &Packet) -> Self {
        let (own, peer) = ports(ip, packet);
        Self { server: packet.src, peer: packet.dst, ports: (own, peer), protocol: packet.protocol }
    }

    /// The conversation of a packet to a server.
    pub(crate) fn to_server(ip: &[u8], packet: &Packet) -> Self {
        let (peer, own) = match ports(ip, packet) {
            // An echo has one identifier.
            (id, _) if is_icmp(packet) => (0, id),
            ports => ports,
        };
        Self { server: packet.dst, peer: packet.src, ports: (own, peer), protocol: packet.protocol }
    }

    fn lifetime(&self) -> Duration {
        if self.protocol == tcp::PROTOCOL { LIFETIME_TCP } else { LIFETIME }
    }
}

fn is_icmp(packet: &Packet) -> bool {
    packet.protocol == if packet.is_v4() { icmp::PROTOCOL_V4 } else { icmp::PROTOCOL_V6 }
}

/// Ports, or of an ICMP echo its identifier; 0 where there are none.
fn ports(ip: &[u8], packet: &Packet) -> (u16, u16) {
    let start = usize::from(packet.header_len);
    if !is_icmp(packet) {
        return if packet.has_ports() { (packet.src_port, packet.dst_port) } else { (0, 0) };
    }
    match ip.get(start..start + icmp::HEADER_LEN) {
        Some(&[v4::ECHO_REQUEST | v4::ECHO_REPLY, _, _, _, hi, lo, ..]) if packet.is_v4() => {
            (u16::from_be_bytes([hi, lo]), 0)
        }
        Some(&[v6::ECHO_REQUEST | v6::ECHO_REPLY, _, _, _, hi, lo, ..]) if !packet.is_v4() => {
            (u16::from_be_bytes([hi, lo]), 0)
        }
        _ => (0, 0),
    }
}

#[derive(Default)]
struct Generations {
    young: HashMap<Talk, Instant, FixedState>,
    old: HashMap<Talk, Instant, FixedState>,
}

/// What real servers talk about.
pub(crate) struct Talks {
    shards: Box<[Mutex<Generations>]>,
    hasher: FixedState,
    /// Entries in one generation of one shard.
    generation_max: usize,
}

impl Talks {
    pub(crate) fn new(limits: &Limits, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        let map = || HashMap::with_hasher(hasher.clone());
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Generations { young: map(), old: map() })).collect(),
            generation_max: (limits.transit_flows / (2 * SHARDS)).max(1),
            hasher,
        }
    }

    fn with<T>(&self, talk: &Talk, work: impl FnOnce(&mut Generations) -> T) -> T {
        #[allow(clippy::cast_possible_truncation, reason = "four bits")]
        let shard = (self.hasher.hash_one(talk) >> 32) as usize % SHARDS;
        work(&mut lock(&self.shards[shard]))
    }

    /// A real server says something.
    pub(crate) fn remember(&self, talk: Talk, now: Instant) {
        self.with(&talk, |Generations { young, old }| {
            if let Some(at) = young.get_mut(&talk) {
                *at = now;
                return;
            }
            if young.len() >= self.generation_max {
                core::mem::swap(young, old);
                young.clear();
            }
            old.remove(&talk);
            young.insert(talk, now);
        });
    }

    /// Whether a packet belongs to what a server talks about.
    pub(crate) fn knows(&self, talk: &Talk, now: Instant) -> bool {
        let known =
            self.with(talk, |Generations { young, old }| young.get(talk).or_else(|| old.get(talk)).copied());
        let known = known.is_some_and(|at| now.since(at) < talk.lifetime());
        if known {
            self.remember(*talk, now);
        }
        known
    }
}
