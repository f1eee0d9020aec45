//! Fragments wait here until their packet is whole (RFC 791 section 3.2, RFC 8200 section 4.5).
//!
//! ```text
//!   fragment --> add --> waits                    (first in 30 s, IPv6 60 s, or the sender hears of it)
//!                  |---> whole packet             --> the way of any packet --> fragments of the same sizes
//!                  `---> overlap, impossible end  --> nothing: the whole packet is lost (RFC 5722)
//! ```
//!
//! What is here is bounded in packets, bytes and fragments of one packet. At a bound the oldest packet goes, since
//! an honest one is whole within milliseconds: a flood of fragments then cannot keep others out.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use foldhash::fast::FixedState;
use uvs_wire::{Address, Packet, fragment};

use crate::base::frame::Fragments;
use crate::base::ids::PortId;
use crate::base::lock::lock;
use crate::base::spec::Limits;
use crate::base::time::{Duration, Instant};
use crate::base::verdict::DropReason;

/// As in Linux (`ipfrag_time`, `ip6frag_time`), counted from the fragment that came first.
const TIMEOUT_V4: Duration = Duration::from_secs(30);
const TIMEOUT_V6: Duration = Duration::from_secs(60);
/// What a fragment and a packet cost beside their bytes.
const FRAGMENT_COST: usize = 64;
const PACKET_COST: usize = 320;
/// So many packets are given up in one hold of the lock.
const EXPIRE_SLICE: usize = 64;
/// Congestion was experienced (RFC 3168).
const ECN_CE: u8 = 3;

/// What fragments of one packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: Address,
    dst: Address,
    id: u32,
    /// 0 for IPv6, whose fragments need not all tell.
    protocol: u8,
}

struct Piece {
    offset: usize,
    data: Box<[u8]>,
    /// Of the piece that begins a run, where the run ends: pieces that came one after another without a hole. Of the
    /// others 0.
    run_end: usize,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.data.len()
    }
}

/// A packet that is not whole yet.
struct Partial {
    /// Which comes next in `State::order`.
    order: (Instant, u64),
    port: PortId,
    /// The header of the fragment at offset 0, fragment header included, and what it was parsed to.
    first: Option<(Box<[u8]>, Packet)>,
    /// In order of their offsets, without overlaps.
    pieces: Vec<Piece>,
    received: usize,
    /// Where the data end, as far as is known.
    end: usize,
    last_seen: bool,
    /// The largest fragment, and the largest with "don't fragment", headers included.
    largest: u32,
    largest_df: u32,
    /// A bit for each value of the ECN field that was seen.
    ecn: u8,
    cost: usize,
}

/// Why a fragment was not kept.
enum Refusal {
    /// It was there already.
    Duplicate,
    /// It contradicts what is there: the packet is lost.
    Corrupt,
    /// One fragment too many.
    TooMany,
}

/// What became of a fragment.
pub(crate) enum Added {
    Waits,
    Whole(Vec<u8>, Fragments),
    Refused(DropReason),
}

/// A packet that was not whole in time.
pub(crate) struct Expired {
    pub(crate) port: PortId,
    /// Its first fragment, if that came.
    pub(crate) first: Option<Vec<u8>>,
}

#[derive(Default)]
struct State {
    packets: HashMap<Key, Partial, FixedState>,
    /// The oldest first; the number tells apart what came in one moment.
    order: BTreeMap<(Instant, u64), Key>,
    serial: u64,
    cost: usize,
}

/// All packets that are not whole yet.
pub(crate) struct Reassembly {
    bytes_max: usize,
    packets_max: usize,
    fragments_max: usize,
    state: Mutex<State>,
    /// When the oldest expires, in nanoseconds.
    due: AtomicU64,
}

impl Partial {
    fn new(order: (Instant, u64), port: PortId) -> Self {
        Self {
            order,
            port,
            first: None,
            pieces: Vec::new(),
            received: 0,
            end: 0,
            last_seen: false,
            largest: 0,
            largest_df: 0,
            ecn: 0,
            cost: PACKET_COST,
        }
    }

    fn add(&mut self, ip: &[u8], packet: &Packet, fragments_max: usize) -> Result<(), Refusal> {
        let start = fragment::data_start(packet);
        let data = &ip[start..packet.total_len as usize];
        // All but the last are multiples of 8; Linux takes what is one of an IPv4 fragment that is not.
        let data = match data.len() % 8 {
            odd if odd != 0 && packet.more_fragments && packet.is_v4() => &data[..data.len() - odd],
            odd if odd != 0 && packet.more_fragments => return Err(Refusal::Corrupt),
            _ => data,
        };
        let offset = usize::from(packet.fragment_offset);
        let end = offset + data.len();
        let contradicts = if packet.more_fragments {
            self.last_seen && end > self.end
        } else {
            end < self.end || self.last_seen && end != self.end
        };
        if contradicts || data.is_empty() {
            return Err(Refusal::Corrupt);
        }
        self.insert(offset, data, fragments_max)?;
        self.last_seen |= !packet.more_fragments;
        self.end = self.end.max(end);
        self.received += data.len();
        self.ecn |= 1 << (packet.tos & 3);
        self.largest = self.largest.max(packet.total_len);
        if packet.dont_fragment {
            self.largest_df = self.largest_df.max(packet.total_len);
        }
        if offset == 0 {
            self.first = Some((ip[..start].into(), *packet));
        }
        Ok(())
    }

    /// Puts data where they belong. As in Linux, what lies wholly inside one run is a duplicate.
    fn insert(&mut self, offset: usize, data: &[u8], fragments_max: usize) -> Result<(), Refusal> {
        let end = offset + data.len();
        let at = self.pieces.partition_point(|piece| piece.offset <= offset);
        let run = self.pieces[..at].iter().rposition(|piece| piece.run_end != 0);
        let inside = run.is_some_and(|run| end <= self.pieces[run].run_end);
        if inside {
            return Err(Refusal::Duplicate);
        }
        let before = at.checked_sub(1).map_or(0, |before| self.pieces[before].end());
        if offset < before || self.pieces.get(at).is_some_and(|next| next.offset < end) {
            return Err(Refusal::Corrupt);
        }
        if self.pieces.len() >= fragments_max {
            return Err(Refusal::TooMany);
        }
        let appends = at == self.pieces.len() && at > 0 && offset == before;
        let run_end = match run.filter(|_| appends) {
            Some(run) => {
                self.pieces[run].run_end = end;
                0
            }
            None => end,
        };
        self.pieces.insert(at, Piece { offset, data: data.into(), run_end });
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.last_seen && self.received == self.end && self.first.is_some()
    }

    /// The whole packet. `None`: its parts do not belong together, or make no packet.
    fn join(&self) -> Option<(Vec<u8>, Fragments)> {
        let (head, packet) = self.first.as_ref()?;
        let ecn = match self.ecn {
            one if one.is_power_of_two() => 0,
            // Packets that take part in ECN and such that do not (RFC 3168 section 5.3).
            mixed if mixed & 1 != 0 => return None,
            mixed if mixed & 1 << ECN_CE != 0 => ECN_CE,
            _ => 0,
        };
        let dont_fragment = packet.is_v4() && self.largest_df == self.largest;
        let mut bytes = vec![0; head.len()];
        let header =
            fragment::emit_whole_header(head, packet, packet.tos | ecn, dont_fragment, self.end, &mut bytes)
                .ok()?;
        bytes.truncate(header);
        bytes.reserve_exact(self.end);
        let mut lengths = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            bytes.extend_from_slice(&piece.data);
            lengths.push(u16::try_from(piece.data.len()).ok()?);
        }
        Some((bytes, Fragments { lengths, largest: self.largest, dont_fragment }))
    }

    /// The fragment at offset 0, as it came in.
    fn first_fragment(&self) -> Option<Vec<u8>> {
        let (head, _) = self.first.as_ref()?;
        let data = &self.pieces.first().filter(|piece| piece.offset == 0)?.data;
        Some([&head[..], data].concat())
    }
}

impl State {
    fn remove(&mut self, key: &Key) -> Option<Partial> {
        let partial = self.packets.remove(key)?;
        self.order.remove(&partial.order);
        self.cost -= partial.cost;
        Some(partial)
    }

    /// Removes the oldest packet but that one.
    fn evict(&mut self, but: &Key) -> bool {
        let oldest = self.order.values().find(|key| *key != but).copied();
        oldest.is_some_and(|key| self.remove(&key).is_some())
    }
}

impl Reassembly {
    pub(crate) fn new(limits: &Limits, seed: u64) -> Self {
        let packets = HashMap::with_hasher(FixedState::with_seed(seed));
        Self {
            bytes_max: limits.fragment_bytes,
            packets_max: limits.fragmented_packets,
            fragments_max: limits.fragments_per_packet,
            state: Mutex::new(State { packets, ..State::default() }),
            due: AtomicU64::new(u64::MAX),
        }
    }

    /// Adds a fragment, which `packet` says it is. Also says how many other packets had to make room.
    pub(crate) fn add(&self, ip: &[u8], packet: &Packet, port: PortId, now: Instant) -> (Added, usize) {
        let key = Key {
            src: packet.src,
            dst: packet.dst,
            id: packet.id,
            protocol: if packet.is_v4() { packet.protocol } else { 0 },
        };
        let timeout = if packet.is_v4() { TIMEOUT_V4 } else { TIMEOUT_V6 };
        let state = &mut *lock(&self.state);
        let is_new = !state.packets.contains_key(&key);
        let cost = ip.len() + FRAGMENT_COST + if is_new { PACKET_COST } else { 0 };
        let mut evicted = 0;
        while state.cost + cost > self.bytes_max || is_new && state.packets.len() >= self.packets_max {
            if !state.evict(&key) {
                state.remove(&key);
                return (self.refuse(state, DropReason::FragmentLimit), evicted);
            }
            evicted += 1;
        }
        if is_new {
            state.serial += 1;
            let order = (now + timeout, state.serial);
            state.order.insert(order, key);
            state.packets.insert(key, Partial::new(order, port));
            state.cost += PACKET_COST;
        }
        let Some(partial) = state.packets.get_mut(&key) else {
            return (self.refuse(state, DropReason::Fragment), evicted);
        };
        let reason = match partial.add(ip, packet, self.fragments_max) {
            Ok(()) => {
                partial.port = port;
                partial.cost += ip.len() + FRAGMENT_COST;
                state.cost += ip.len() + FRAGMENT_COST;
                if !partial.is_whole() {
                    self.set_due(state);
                    return (Added::Waits, evicted);
                }
                let whole = state.remove(&key).and_then(|partial| partial.join());
                self.set_due(state);
                return match whole {
                    Some((bytes, fragments)) => (Added::Whole(bytes, fragments), evicted),
                    None => (Added::Refused(DropReason::Fragment), evicted),
                };
            }
            Err(Refusal::Duplicate) => DropReason::Fragment,
            Err(Refusal::Corrupt) => {
                state.remove(&key);
                DropReason::Fragment
            }
            Err(Refusal::TooMany) => {
                state.remove(&key);
                DropReason::FragmentLimit
            }
        };
        (self.refuse(state, reason), evicted)
    }

    fn refuse(&self, state: &State, reason: DropReason) -> Added {
        self.set_due(state);
        Added::Refused(reason)
    }

    fn set_due(&self, state: &State) {
        let due = state.order.first_key_value().map_or(u64::MAX, |((at, _), _)| at.as_nanos());
        self.due.store(due, Relaxed);
    }

    /// When the oldest packet expires.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.due.load(Relaxed) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// Gives up packets that should have been whole by now, some at a time: fragments that come in wait meanwhile.
    /// While there are more, [`Self::next_due`] says so.
    pub(crate) fn expire(&self, now: Instant) -> Vec<Expired> {
        if self.due.load(Relaxed) > now.as_nanos() {
            return Vec::new();
        }
        let mut gone = Vec::new();
        {
            let state = &mut *lock(&self.state);
            while gone.len() < EXPIRE_SLICE
                && let Some((&(at, _), &key)) = state.order.first_key_value()
                && at <= now
                && let Some(partial) = state.remove(&key)
            {
                gone.push(partial);
            }
            self.set_due(state);
        }
        // What they held is copied and freed with nobody waiting.
        gone.iter().map(|partial| Expired { port: partial.port, first: partial.first_fragment() }).collect()
    }
}

#[cfg(test)]
mod tests;
