//! Neighbours: which MAC address an IP address has on a link (ARP, RFC 826; neighbour discovery, RFC 4861).
//!
//! ```text
//!            frame for it                 reply               30 s
//!   (none) --------------> incomplete ----------> reachable ---------> probing --+
//!      ^                     | 3 asked in vain        ^                          | 3 asked in vain
//!      `---------------------'                        `------ reply -------------+--> incomplete
//! ```
//!
//! Frames wait in a queue, bounded in bytes, while the address is asked for: at the bound the oldest go. Only addresses
//! that somebody here wanted, or that asked for one of ours, get an entry: an unsolicited reply changes nothing that
//! is not there.
//!
//! When the table is full an entry makes room for a new one (RFC 6583): of those that only asked for us, then of those
//! that do not answer, then of the others the one used longest ago, and destinations and routers last. What does not
//! answer has a quarter of the table, so that a scan of a connected subnet does not fill it.

mod order;

use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use uvs_wire::Address;
use uvs_wire::ethernet;

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::spec::{Limits, MacAddr};
use crate::base::time::{Duration, Instant};
use crate::base::verdict::DropReason;
use crate::base::view::NeighborView;
use crate::net::lane::Lane;
use crate::net::messages::ask;
use crate::net::network::Network;
use order::{Class, Due, Key, Order, Place, Rank, Room, UNUSED};

const REACHABLE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u8 = 3;
/// For so long after an address was learned no other one is believed, as in Linux (`locktime`): of several answers
/// the first counts.
const LOCKTIME: Duration = Duration::from_secs(1);
/// What a waiting frame costs beside its bytes.
const WAITING_COST: usize = 256;
/// Entries that are looked at for one that may go: those in use are passed over, but not for ever.
const EVICT_STEPS: usize = 32;
/// Entries that one call of [`Neighbors::expire`] works on.
const EXPIRE_SLICE: usize = 256;

/// A frame that waits: its IP packet, and what to put back when it could not be delivered and the sender is told.
pub(crate) struct Waiting {
    pub(crate) frame: Frame,
    /// Of a translated request: the address and port it had asked for.
    pub(crate) asked_for: Option<(Address, u16)>,
    /// Whether the director made it: then nobody is told.
    pub(crate) own: bool,
}

impl Waiting {
    fn cost(&self) -> usize {
        self.frame.len() + WAITING_COST
    }
}

struct Neighbor {
    mac: Option<MacAddr>,
    permanent: bool,
    /// Until when the address counts as confirmed.
    reachable_until: Instant,
    /// Since when the address is what it is, and confirmed.
    learned_at: Instant,
    /// Questions so far that nobody answered.
    asked: u8,
    ask_at: Instant,
    used_at: AtomicU64,
    queue: VecDeque<Waiting>,
    /// What the queue costs.
    queued: usize,
    /// Of those that are not permanent.
    place: Place,
}

/// The neighbour table of all interfaces.
pub(crate) struct Neighbors {
    table: DashMap<Key, Neighbor, foldhash::fast::FixedState>,
    order: Order,
    /// Bytes that may wait for one neighbour, and for all.
    queue_max: usize,
    queues_max: usize,
    queued: AtomicUsize,
    /// Changes when what memos remember may not hold any more.
    version: AtomicU64,
    evicted: AtomicU64,
}

/// What became of a frame whose next hop was looked up.
pub(crate) enum Resolved {
    Known(MacAddr),
    /// The frame is kept and waits for the answer; others were lost for it.
    Waits(Lost),
    Drop(DropReason, Lost),
}

/// How many frames that waited had to make room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lost {
    /// At the bound of a queue.
    pub(crate) queue_full: usize,
    /// With the neighbour they waited for.
    pub(crate) evicted: usize,
}

/// What somebody says about an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) mac: MacAddr,
    /// It asks for an address of ours: it is remembered although nobody here has asked for it.
    pub(crate) asks_for_us: bool,
    /// It is believed also right after something else was learned.
    pub(crate) overrides: bool,
}

impl Neighbor {
    fn new(place: Place, now: Instant) -> Self {
        Self {
            mac: None,
            permanent: false,
            reachable_until: Instant::ZERO,
            learned_at: Instant::ZERO,
            asked: 0,
            ask_at: now,
            used_at: AtomicU64::new(now.as_nanos()),
            queue: VecDeque::new(),
            queued: 0,
            place,
        }
    }

    /// Where it belongs as it is now.
    fn place_now(&self, class: Class) -> Place {
        Place {
            class,
            rank: (self.used_at.load(Relaxed), self.place.rank.1),
            asked_at: (self.asked > 0).then_some(self.ask_at.as_nanos()),
        }
    }
}

impl Neighbors {
    pub(crate) fn new(limits: &Limits, seed: u64) -> Self {
        Self {
            table: DashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            order: Order::new(limits.neighbors),
            queue_max: limits.neighbor_queue_bytes,
            queues_max: limits.neighbor_queues_bytes,
            queued: AtomicUsize::new(0),
            version: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// Changes when an address may be another one.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    pub(crate) fn outdate_memos(&self) {
        self.version.fetch_add(1, Release);
    }

    /// Entries that made room for others so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// The MAC address of a neighbour if it is known and fresh and of that class at least, and until when it is.
    fn fresh(&self, key: Key, class: Class, now: Instant) -> Option<(MacAddr, Instant)> {
        let neighbor = self.table.get(&key)?;
        if !neighbor.permanent {
            if neighbor.reachable_until <= now || neighbor.place.class < class {
                return None;
            }
            neighbor.used_at.store(now.as_nanos(), Relaxed);
        }
        Some((neighbor.mac?, neighbor.reachable_until))
    }

    /// The MAC address of `addr` as it is known, fresh or not.
    pub(crate) fn mac(&self, port: PortId, addr: Address) -> Option<MacAddr> {
        self.table.get(&(port, addr))?.mac
    }

    /// Looks a next hop up and asks for it where needed. If it is not known, the frame, if there is one, waits.
    /// `essential`: it is a destination or a router, and goes last when the table is full.
    #[inline(always)]
    pub(crate) fn resolve(
        &self,
        network: &Network,
        key: Key,
        essential: bool,
        now: Instant,
        out: &mut Lane,
        frame: impl FnOnce() -> Option<Waiting>,
    ) -> Resolved {
        let version = self.version.load(Acquire);
        if let Some(mac) = out.memo.neighbor(key.0, key.1, version, now) {
            return Resolved::Known(mac);
        }
        self.look_up(network, key, (essential, version), now, out, frame)
    }

    /// The same of one that is not remembered.
    #[inline(never)]
    fn look_up(
        &self,
        network: &Network,
        key: Key,
        (essential, version): (bool, u64),
        now: Instant,
        out: &mut Lane,
        frame: impl FnOnce() -> Option<Waiting>,
    ) -> Resolved {
        let class = if essential { Class::Essential } else { Class::Used };
        if let Some((mac, until)) = self.fresh(key, class, now) {
            out.memo.remember(key, mac, version, until, now);
            return Resolved::Known(mac);
        }
        self.resolve_slowly(network, key, class, now, out, frame)
    }

    #[cold]
    fn resolve_slowly(
        &self,
        network: &Network,
        key: Key,
        class: Class,
        now: Instant,
        out: &mut Lane,
        frame: impl FnOnce() -> Option<Waiting>,
    ) -> Resolved {
        let mut lost = Lost::default();
        if !self.table.contains_key(&key) {
            match self.make_room(if class == Class::Used { Class::Sought } else { class }) {
                Some(frames) => lost.evicted = frames,
                None => return Resolved::Drop(DropReason::NeighborLimit, lost),
            }
        }
        let enter = || Neighbor::new(self.order.enter(key, Class::Heard, now), now);
        let mut entry = self.table.entry(key).or_insert_with(enter);
        let neighbor = entry.value_mut();
        if neighbor.permanent
            && let Some(mac) = neighbor.mac
        {
            return Resolved::Known(mac);
        }
        neighbor.used_at.store(now.as_nanos(), Relaxed);
        if neighbor.ask_at <= now && neighbor.asked < TRIES {
            neighbor.asked += 1;
            neighbor.ask_at = now + RETRY;
            // One that was known is asked directly, so that a moved address does not storm the segment.
            ask(network, key, neighbor.mac, out);
        }
        let class = match (class, neighbor.mac) {
            _ if neighbor.place.class == Class::Essential => Class::Essential,
            (Class::Used, None) => Class::Sought,
            (class, _) => class,
        };
        let place = neighbor.place_now(class);
        self.order.move_to(key, &mut neighbor.place, place);
        match neighbor.mac {
            Some(mac) => Resolved::Known(mac),
            None => match frame().map(|waiting| self.queue(neighbor, waiting)) {
                Some(Some(queue_full)) => Resolved::Waits(Lost { queue_full, ..lost }),
                Some(None) => Resolved::Drop(DropReason::NeighborQueueFull, lost),
                None => Resolved::Waits(lost),
            },
        }
    }

    /// Lets a frame wait, in place of older ones if need be; returns how many. `None`: there is no room for it.
    ///
    /// All queues together have a bound as well. None may grow over what of that is free, so that each has room for
    /// some frames however many there are. (A. Choudhury and E. Hahne, "Dynamic queue length thresholds", 1998.)
    fn queue(&self, neighbor: &mut Neighbor, waiting: Waiting) -> Option<usize> {
        let cost = waiting.cost();
        let mut lost = 0;
        loop {
            let free = self.queues_max.saturating_sub(self.queued.load(Relaxed));
            if neighbor.queued + cost <= self.queue_max.min(free) {
                break;
            }
            let Some(oldest) = neighbor.queue.pop_front() else {
                if cost > free {
                    return None;
                }
                // One may wait, whatever its size.
                break;
            };
            neighbor.queued -= oldest.cost();
            self.queued.fetch_sub(oldest.cost(), AcqRel);
            lost += 1;
        }
        neighbor.queued += cost;
        self.queued.fetch_add(cost, AcqRel);
        neighbor.queue.push_back(waiting);
        Some(lost)
    }

    fn take_queue(&self, neighbor: &mut Neighbor) -> VecDeque<Waiting> {
        self.queued.fetch_sub(core::mem::take(&mut neighbor.queued), AcqRel);
        core::mem::take(&mut neighbor.queue)
    }

    /// Makes room for an entry of that class; returns how many frames waited for what had to go. `None`: what is there
    /// is worth more.
    fn make_room(&self, newcomer: Class) -> Option<usize> {
        let mut lost = 0;
        for step in 1..=EVICT_STEPS {
            match self.order.room(newcomer) {
                Room::After(key, class, rank) => lost += self.evict((key, class, rank), step == EVICT_STEPS),
                Room::Free => break,
                Room::None => return None,
            }
        }
        Some(lost)
    }

    /// Removes an entry, unless it was used since it took its place and is not to go all the same. Returns how many
    /// frames waited for it.
    fn evict(&self, (key, class, rank): (Key, Class, Rank), all_the_same: bool) -> usize {
        let Entry::Occupied(mut entry) = self.table.entry(key) else { return 0 };
        let neighbor = entry.get_mut();
        if neighbor.permanent || (neighbor.place.class, neighbor.place.rank) != (class, rank) {
            return 0;
        }
        if !all_the_same && neighbor.used_at.load(Relaxed) > rank.0 {
            let place = neighbor.place_now(if class == Class::Heard { Class::Used } else { class });
            self.order.move_to(key, &mut neighbor.place, place);
            return 0;
        }
        let frames = self.take_queue(neighbor).len();
        self.order.leave(neighbor.place);
        entry.remove();
        self.evicted.fetch_add(1, Relaxed);
        frames
    }

    /// Learns what somebody says about an address; frames that waited for it leave.
    pub(crate) fn learn(&self, network: &Network, key: Key, claim: Claim, now: Instant, out: &mut Lane) {
        let ((port, addr), mac) = (key, claim.mac);
        let nobody = addr.is_unspecified() || network.is_local_seen_from(addr, port);
        if mac.is_multicast() || nobody {
            return;
        }
        if !self.table.contains_key(&key) && (!claim.asks_for_us || self.make_room(Class::Heard).is_none()) {
            return;
        }
        let enter = || Neighbor::new(self.order.enter(key, Class::Heard, now), now);
        let mut entry = self.table.entry(key).or_insert_with(enter);
        let neighbor = entry.value_mut();
        if neighbor.permanent {
            return;
        }
        let moved = neighbor.mac.is_some_and(|known| known != mac);
        if moved && !claim.overrides && now.since(neighbor.learned_at) < LOCKTIME {
            // Who is right is asked for, once that is over.
            let until = neighbor.learned_at + LOCKTIME;
            neighbor.reachable_until = neighbor.reachable_until.min(until);
            neighbor.ask_at = neighbor.ask_at.min(until);
            return;
        }
        if neighbor.mac != Some(mac) || neighbor.reachable_until <= now {
            neighbor.learned_at = now;
        }
        neighbor.mac = Some(mac);
        neighbor.reachable_until = now + REACHABLE;
        neighbor.asked = 0;
        neighbor.ask_at = now + REACHABLE;
        let class = if neighbor.place.class == Class::Sought { Class::Used } else { neighbor.place.class };
        let place = neighbor.place_now(class);
        if place != neighbor.place {
            self.order.move_to(key, &mut neighbor.place, place);
        }
        let queue = self.take_queue(neighbor);
        drop(entry);
        if moved {
            self.outdate_memos();
        }
        let Some(own) = network.mac(port) else { return };
        for Waiting { mut frame, .. } in queue {
            if write_ethernet(&mut frame, mac, own) {
                out.push(port, frame);
            }
        }
    }

    /// Adds or replaces one that is never asked for and never expires.
    /// Returns how many frames waited for it: they are lost.
    pub(crate) fn set(&self, port: PortId, addr: Address, mac: MacAddr) -> usize {
        let key = (port, addr);
        let mut entry = self.table.entry(key).or_insert_with(|| {
            Neighbor::new(self.order.enter(key, Class::Essential, Instant::ZERO), Instant::ZERO)
        });
        let neighbor = entry.value_mut();
        if !neighbor.permanent {
            self.order.leave(neighbor.place);
        }
        neighbor.mac = Some(mac);
        neighbor.permanent = true;
        neighbor.reachable_until = Instant::MAX;
        let lost = self.take_queue(neighbor).len();
        drop(entry);
        self.outdate_memos();
        lost
    }

    /// Forgets what was set by hand, and everything about interfaces that are not there any more. Returns how many
    /// frames waited for that.
    pub(crate) fn retain_ports(&self, network: &Network) -> usize {
        let mut lost = 0;
        self.table.retain(|(port, _), neighbor| {
            let stays = !neighbor.permanent && network.mac(*port).is_some();
            if !stays {
                lost += self.take_queue(neighbor).len();
                self.order.leave(neighbor.place);
            }
            stays
        });
        self.outdate_memos();
        lost
    }

    /// Whether there is a neighbour of that address, or one is asked for.
    pub(crate) fn knows(&self, port: PortId, addr: Address) -> bool {
        self.table.contains_key(&(port, addr))
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.order.due() {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// Asks again where nobody answered, and gives up on those asked often enough. Returns the frames that waited
    /// in vain, with the interface they should have left through. Does no more than a slice of the work at once:
    /// while something is due, [`Self::next_due`] says so.
    pub(crate) fn expire(&self, network: &Network, now: Instant, out: &mut Lane) -> Vec<(PortId, Waiting)> {
        let mut lost = Vec::new();
        for _ in 0..EXPIRE_SLICE {
            if self.order.due() > now.as_nanos() {
                break;
            }
            match self.order.next(now) {
                Some(Due::Ask(key, rank)) => self.ask_again(network, (key, rank), now, out, &mut lost),
                Some(Due::Idle(key, class, rank)) => self.expire_unused((key, class, rank), now),
                None => break,
            }
        }
        lost
    }

    fn ask_again(
        &self,
        network: &Network,
        (key, rank): (Key, Rank),
        now: Instant,
        out: &mut Lane,
        lost: &mut Vec<(PortId, Waiting)>,
    ) {
        let Entry::Occupied(mut entry) = self.table.entry(key) else { return };
        let neighbor = entry.get_mut();
        if neighbor.permanent || neighbor.place.asking() != Some(rank) {
            return;
        }
        if neighbor.asked >= TRIES {
            lost.extend(self.take_queue(neighbor).into_iter().map(|waiting| (key.0, waiting)));
            self.order.leave(neighbor.place);
            let was_known = neighbor.mac.is_some();
            entry.remove();
            if was_known {
                self.outdate_memos();
            }
            return;
        }
        neighbor.asked += 1;
        neighbor.ask_at = now + RETRY;
        let directly = neighbor.mac.filter(|_| neighbor.asked < TRIES);
        ask(network, key, directly, out);
        let place = neighbor.place_now(neighbor.place.class);
        self.order.move_to(key, &mut neighbor.place, place);
    }

    fn expire_unused(&self, (key, class, rank): (Key, Class, Rank), now: Instant) {
        let Entry::Occupied(mut entry) = self.table.entry(key) else { return };
        let neighbor = entry.get_mut();
        if neighbor.permanent || (neighbor.place.class, neighbor.place.rank) != (class, rank) {
            return;
        }
        let used_at = Instant::from_nanos(neighbor.used_at.load(Relaxed));
        if neighbor.asked > 0 {
            // It is given up soon, or used again.
            neighbor.used_at.store(now.as_nanos(), Relaxed);
        } else if now.since(used_at) >= UNUSED {
            self.order.leave(neighbor.place);
            entry.remove();
            return;
        }
        let place = neighbor.place_now(class);
        self.order.move_to(key, &mut neighbor.place, place);
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn view(&self) -> Vec<NeighborView> {
        let row = |entry: dashmap::mapref::multiple::RefMulti<'_, Key, Neighbor>| {
            let &(port, addr) = entry.key();
            NeighborView { addr: addr.to_ip(), port, mac: entry.mac }
        };
        self.table.iter().map(row).collect()
    }
}

/// Puts an Ethernet header in front of an IP packet. False when there is no room for it.
#[inline(always)]
pub(crate) fn write_ethernet(frame: &mut Frame, to: MacAddr, from: MacAddr) -> bool {
    let ethertype = match frame.bytes().first().map(|byte| byte >> 4) {
        Some(6) => ethernet::ETHERTYPE_IPV6,
        _ => ethernet::ETHERTYPE_IPV4,
    };
    if !frame.grow_front(ethernet::HEADER_LEN) {
        return false;
    }
    ethernet::write(frame.bytes_mut(), to.0, from.0, ethertype);
    true
}
