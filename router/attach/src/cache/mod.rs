//! The flow cache: the maps of `bpf/flows.h`, kept as the director says.
//!
//! ```text
//!   flows4, flows6   key of a packet > what becomes of it: numbers of its next hop and its destination, and their
//!                    generations
//!   next_hops        where frames go; closed while nobody knows their address, or the link has gone
//!   destinations     generations: a new one withdraws all flows of a destination at once
//!   events           packets that move states, in order
//! ```

mod destinations;
mod layout;
mod next_hops;
mod places;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use uvs_director::flow_cache::{
    Direction, Flow, FlowCache, FlowEvent, FlowKey, Method, NextHop, NotPlaced, Orphan, Passed, Progress,
};
use uvs_director::spec::MacAddr;
use uvs_director::{Instant, PortId};
use uvs_wire::Address;

use destinations::Destinations;
use layout::{CensusBytes, Entry, Event, Found, Key, Value4, Value6};
pub(crate) use next_hops::Link;
use next_hops::NextHops;

/// Next hops and ends of tunnels.
const NEXT_HOPS: u32 = 4096;
/// Destinations that have flows.
const DESTINATIONS: u32 = 4096;
/// Of `bpf(2)`: the key must not be there.
const NOT_THERE: u64 = 1;
/// It must be.
const THERE: u64 = 2;

/// How large a flow cache is, and whose time it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePlan {
    /// Connections that have room in it, of each IP version.
    pub connections: u32,
    /// `CLOCK_MONOTONIC` when the director's clock was zero.
    pub zero: Duration,
    /// A folder in bpffs where flows outlive the director, for the next one.
    pub pin: Option<PathBuf>,
}

impl CachePlan {
    /// Of so many connections, where the director's clock shows `now`.
    pub fn new(connections: u32, now: Instant) -> Self {
        Self { connections, pin: None, zero: monotonic().saturating_sub(now.since(Instant::ZERO)) }
    }

    /// The sizes of the maps, as the loader is told.
    pub(crate) fn sizes(&self) -> [(&'static str, u32); 7] {
        let directions = self.connections.saturating_mul(2).max(1);
        [
            ("flows4", directions),
            ("flows6", directions),
            ("next_hops", NEXT_HOPS),
            ("destinations", DESTINATIONS),
            ("tallies", DESTINATIONS),
            ("gates", layout::GATES),
            ("events", layout::EVENTS),
        ]
    }
}

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// The number of a duration's nanoseconds.
fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happened in the cache so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Flows in it now; two of a NAT connection, one of others.
    pub flows: usize,
    /// How many it holds at most, of each IP version.
    pub flows_max: usize,
    /// Next hops it sends to.
    pub next_hops: usize,
    /// Connections that were placed.
    pub placed: u64,
    /// Those for which there was no room.
    pub refused: u64,
    /// Packets that passed in the kernel.
    pub packets: u64,
    /// Packets that came to the director because it could not be told of them in time.
    pub unreported: u64,
    /// Packets of flows that the programs dropped: the kernel did not let them be rewritten.
    pub dropped: u64,
    /// Operations on the maps that the kernel refused, or for which there was no room among next hops or destinations.
    pub failed: u64,
}

/// The flows of one IP version.
struct Flows<K: aya::Pod, V: aya::Pod> {
    map: Mutex<HashMap<MapData, K, V>>,
    len: AtomicUsize,
}

impl<K: aya::Pod, V: aya::Pod> Flows<K, V> {
    fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { map: Mutex::new(HashMap::try_from(map)?), len: AtomicUsize::new(0) })
    }

    /// Enters a flow, in place of what is known of it: `anew` is what it says then.
    fn insert(&self, key: &K, value: &V, anew: impl FnOnce(&V) -> V) -> Result<(), NotPlaced> {
        let mut map = lock(&self.map);
        match map.insert(key, value, NOT_THERE) {
            Ok(()) => {
                self.len.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(error) if is_there(&error) => {
                let value = map.get(key, 0).map_or(*value, |old| anew(&old));
                map.insert(key, value, 0).map_err(|_| NotPlaced::Failed)
            }
            Err(error) if is_full(&error) => Err(NotPlaced::Full),
            Err(_) => Err(NotPlaced::Failed),
        }
    }

    /// Changes what is known of a flow, if anything is.
    fn change(&self, key: &K, anew: impl FnOnce(V) -> V) {
        let mut map = lock(&self.map);
        if let Ok(value) = map.get(key, 0) {
            // One that is not there any more is as good.
            let _ = map.insert(key, anew(value), THERE);
        }
    }

    fn remove(&self, key: &K) {
        // One that is not there was withdrawn by hand, or not placed in the end.
        if lock(&self.map).remove(key).is_ok() {
            self.len.fetch_sub(1, Relaxed);
        }
    }

    fn get(&self, key: &K) -> Option<V> {
        lock(&self.map).get(key, 0).ok()
    }
}

impl<const K: usize, const V: usize> Flows<[u8; K], [u8; V]>
where
    [u8; K]: aya::Pod,
    [u8; V]: aya::Pod,
{
    /// Takes all entries out.
    fn drain(&self) -> Vec<(FlowKey, Found)> {
        let mut map = lock(&self.map);
        let entries: Vec<_> = map.iter().filter_map(Result::ok).collect();
        for (key, _) in &entries {
            // Nobody else has the map.
            let _ = map.remove(key);
        }
        self.len.store(0, Relaxed);
        entries.iter().map(|(key, value)| (layout::flow_key(key), Found::read(value))).collect()
    }
}

fn is_there(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(call) if call.io_error.kind() == io::ErrorKind::AlreadyExists)
}

fn is_full(error: &MapError) -> bool {
    let full = Errno::E2BIG as i32;
    matches!(error, MapError::SyscallError(call) if call.io_error.raw_os_error() == Some(full))
}

/// A [`FlowCache`] in the kernel.
pub struct Cache {
    zero: u64,
    flows4: Flows<[u8; 16], Value4>,
    flows6: Flows<[u8; 40], Value6>,
    flows_max: usize,
    next_hops: Mutex<NextHops>,
    destinations: Mutex<Destinations>,
    gates: Mutex<Array<MapData, u64>>,
    /// Which gate is a flow's.
    gate_of: RandomState,
    events: Mutex<RingBuf<MapData>>,
    censuses: PerCpuArray<MapData, CensusBytes>,
    placed: AtomicU64,
    refused: AtomicU64,
    /// Next hops and destinations that gave their place to another, or were given up.
    displaced: Arc<AtomicU64>,
    /// Operations on maps that failed.
    failed: AtomicU64,
}

impl Cache {
    /// Takes the maps of a loaded object whose sizes are those of the plan.
    pub(crate) fn new(object: &mut Ebpf, plan: &CachePlan) -> Result<Self, MapError> {
        let mut take = |name| object.take_map(name).expect("the object has this map");
        let flows_max = plan.connections.saturating_mul(2) as usize;
        let displaced = Arc::<AtomicU64>::default();
        Ok(Self {
            zero: nanos(plan.zero),
            flows4: Flows::new(take("flows4"))?,
            flows6: Flows::new(take("flows6"))?,
            flows_max,
            next_hops: Mutex::new(NextHops::new(take("next_hops").try_into()?, Arc::clone(&displaced))),
            destinations: Mutex::new(Destinations::new(
                take("destinations").try_into()?,
                take("tallies").try_into()?,
                Arc::clone(&displaced),
            )),
            gates: Mutex::new(take("gates").try_into()?),
            gate_of: RandomState::new(),
            events: Mutex::new(take("events").try_into()?),
            censuses: take("censuses").try_into()?,
            placed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            displaced,
            failed: AtomicU64::new(0),
        })
    }

    fn tick(&self) -> u32 {
        layout::tick(nanos(monotonic()))
    }

    fn instant(&self, nanos: u64) -> Instant {
        Instant::from_nanos(nanos.saturating_sub(self.zero))
    }

    /// An interface of the director is attached to that link, or to none. True: that was otherwise before.
    pub(crate) fn set_link(&self, port: PortId, link: Option<Link>) -> bool {
        lock(&self.next_hops).set_link(port, link, self.tick())
    }

    fn insert(
        &self,
        direction: &Direction,
        addr: Address,
        next_hop: u32,
        (destination, generation): (u32, u32),
    ) -> Result<(), NotPlaced> {
        #[allow(clippy::cast_possible_truncation, reason = "any number that was not in use a moment ago")]
        let ticket = (self.placed.load(Relaxed) as u16).wrapping_mul(0x1357);
        let entry = Entry {
            next_hop,
            destination,
            generation,
            seen: self.tick(),
            is_shut: direction.waits,
            gate: self.gate(&direction.key),
            ticket,
            act: direction.act,
            addr,
        };
        // Packets with tickets of the old entry may still be on their way.
        let anew = |old: &[u8]| Entry { ticket: layout::ticket(old).wrapping_add(0x8000), ..entry };
        match layout::key(&direction.key) {
            Key::V4(key) => self.flows4.insert(&key, &entry.value4(), |old| anew(old).value4()),
            Key::V6(key) => self.flows6.insert(&key, &entry.value6(), |old| anew(old).value6()),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "half of a hash is one, too")]
    fn gate(&self, key: &FlowKey) -> u32 {
        self.gate_of.hash_one(key) as u32
    }

    fn remove_one(&self, key: &FlowKey) {
        match layout::key(key) {
            Key::V4(key) => self.flows4.remove(&key),
            Key::V6(key) => self.flows6.remove(&key),
        }
    }

    fn try_place(&self, flow: &Flow<'_>) -> Result<(), NotPlaced> {
        let is_v4 = flow.request.key.source.0.is_v4();
        let len = if is_v4 { &self.flows4.len } else { &self.flows6.len };
        // What may never be established leaves a quarter to what was.
        if flow.is_embryonic && len.load(Relaxed) > self.flows_max / 4 * 3 {
            return Err(NotPlaced::Full);
        }
        let tick = self.tick();
        let (request, reply) = {
            let mut next_hops = lock(&self.next_hops);
            let request = next_hops.number(&flow.request, tick)?;
            let reply = flow
                .reply
                .as_ref()
                .map(|direction| Ok((direction, next_hops.number(direction, tick)?)))
                .transpose()?;
            (request, reply)
        };
        let destination = lock(&self.destinations).number(flow.destination, flow.tally, tick)?;
        if let Some((direction, next_hop)) = reply {
            self.insert(direction, flow.addr, next_hop, destination)?;
        }
        let placed = self.insert(&flow.request, flow.addr, request, destination);
        if let (Err(_), Some((direction, _))) = (placed, reply) {
            self.remove_one(&direction.key);
        }
        placed
    }

    /// Takes out what a director before has left, to be taken over.
    pub fn orphans(&self) -> Vec<Orphan> {
        let now = nanos(monotonic());
        let mut found = self.flows4.drain();
        found.extend(self.flows6.drain());
        let mut answers = std::collections::HashMap::new();
        for (key, entry) in found.iter().filter(|(_, entry)| entry.act == layout::NEW_SOURCE) {
            let FlowKey { protocol, source, destination } = *key;
            let request = FlowKey { protocol, source: destination, destination: (entry.addr, entry.port) };
            answers.insert((request, source), *entry);
        }
        let orphan = |(request, entry): (FlowKey, Found)| {
            let method = match entry.act {
                layout::NEW_DESTINATION => Method::Nat,
                layout::AS_IS => Method::Direct,
                layout::IN_IPV4 | layout::IN_IPV6 if !entry.addr.is_unspecified() => Method::Tunnel,
                _ => return None,
            };
            let port = if method == Method::Nat { entry.port } else { request.destination.1 };
            let answer = answers.get(&(request, (entry.addr, port)));
            let seen = |entry: &Found| now - layout::end_of_tick(entry.seen, now);
            let idle = answer.map_or(u64::MAX, seen).min(seen(&entry));
            Some(Orphan {
                request,
                destination: (entry.addr, port),
                method,
                idle: Duration::from_nanos(idle),
                is_established: !entry.is_watched,
                finished: [entry.is_finished, answer.is_some_and(|answer| answer.is_finished)],
                is_reset: entry.is_reset || answer.is_some_and(|answer| answer.is_reset),
            })
        };
        found.into_iter().filter_map(orphan).collect()
    }

    /// What happened so far.
    pub fn status(&self) -> CacheStatus {
        let (mut unreported, mut dropped) = (0, 0);
        for census in self.censuses.get(&0, 0).iter().flat_map(|values| values.iter()) {
            let [one, other] = layout::census(census);
            (unreported, dropped) = (unreported + one, dropped + other);
        }
        let (next_hops, failed) = {
            let next_hops = lock(&self.next_hops);
            (next_hops.len(), next_hops.failed())
        };
        let destinations = lock(&self.destinations);
        let (packets, failed) = (destinations.packets(), failed + destinations.failed());
        CacheStatus {
            flows: self.flows4.len.load(Relaxed) + self.flows6.len.load(Relaxed),
            flows_max: self.flows_max,
            next_hops,
            placed: self.placed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            packets,
            unreported,
            dropped,
            failed: failed + self.failed.load(Relaxed),
        }
    }
}

impl FlowCache for Cache {
    fn place(&self, flow: &Flow<'_>) -> Result<(), NotPlaced> {
        let placed = self.try_place(flow);
        let count = match placed {
            Ok(()) => &self.placed,
            Err(NotPlaced::Full) => &self.refused,
            Err(NotPlaced::Failed) => &self.failed,
            Err(NotPlaced::Elsewhere) => return placed,
        };
        count.fetch_add(1, Relaxed);
        placed
    }

    fn shut(&self, request: &FlowKey, reply: Option<&FlowKey>) {
        let tick = self.tick();
        for key in std::iter::once(request).chain(reply) {
            match layout::key(key) {
                Key::V4(key) => self.flows4.change(&key, |value| layout::shut(value, tick)),
                Key::V6(key) => self.flows6.change(&key, |value| layout::shut(value, tick)),
            }
        }
    }

    fn remove(&self, request: &FlowKey, reply: Option<&FlowKey>) {
        self.remove_one(request);
        if let Some(reply) = reply {
            self.remove_one(reply);
        }
    }

    fn progress(&self, key: &FlowKey) -> Progress {
        let progress = match layout::key(key) {
            Key::V4(key) => self.flows4.get(&key).map(|value| layout::progress(&value)),
            Key::V6(key) => self.flows6.get(&key).map(|value| layout::progress(&value)),
        };
        progress.unwrap_or_default()
    }

    fn last_seen(&self, request: &FlowKey, reply: Option<&FlowKey>) -> Option<Instant> {
        let now = nanos(monotonic());
        let seen = |key: &FlowKey| {
            let tick = match layout::key(key) {
                Key::V4(key) => layout::seen(&self.flows4.get(&key)?),
                Key::V6(key) => layout::seen(&self.flows6.get(&key)?),
            };
            Some(self.instant(layout::end_of_tick(tick, now)))
        };
        seen(request).max(reply.and_then(seen))
    }

    fn events(&self, each: &mut dyn FnMut(FlowEvent)) {
        // Who comes while another worker is at it waits: what it handles afterwards came later.
        let mut events = lock(&self.events);
        for _ in 0..layout::EVENTS_MAX {
            let Some(item) = events.next() else { return };
            if let Some(Event { at, key, tcp_flags, is_reply }) = Event::read(&item) {
                each(FlowEvent { key, is_reply, tcp_flags, at: self.instant(at) });
            }
        }
    }

    fn through(&self, last: &Passed) {
        let gate = self.gate(&last.key);
        let frames = if last.is_whole { layout::WHOLE } else { last.frames };
        let set = lock(&self.gates).set(gate % layout::GATES, layout::through(gate, last.ticket, frames), 0);
        if set.is_err() {
            // The flow stays shut until the next packet is through.
            self.failed.fetch_add(1, Relaxed);
        }
    }

    fn withdraw(&self, destination: Option<u32>) {
        lock(&self.destinations).withdraw(destination);
    }

    fn displaced(&self) -> u64 {
        self.displaced.load(Relaxed)
    }

    fn count(&self) {
        lock(&self.destinations).count();
    }

    fn refresh_next_hops(
        &self,
        from: usize,
        address_of: &mut dyn FnMut(&NextHop) -> Option<MacAddr>,
    ) -> Option<usize> {
        lock(&self.next_hops).refresh_next_hops(from, self.tick(), address_of)
    }
}
