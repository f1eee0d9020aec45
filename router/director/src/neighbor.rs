//! Neighbours: which MAC address an IP address has on a link (ARP, RFC 826; neighbour discovery, RFC 4861).
//!
//! ```text
//!            frame for it                 reply               30 s
//!   (none) --------------> incomplete ----------> reachable ---------> probing --+
//!      ^                     | 3 asked in vain        ^                          | 3 asked in vain
//!      `---------------------'                        `------ reply -------------+--> incomplete
//! ```
//!
//! Frames wait in a bounded queue while the address is asked for. Only addresses that somebody here wanted, or
//! that asked for one of ours, get an entry: an unsolicited reply changes nothing that is not there.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use dashmap::DashMap;
use uvs_wire::Address;
use uvs_wire::arp::{ArpRepr, Operation};
use uvs_wire::ethernet;

use crate::discovery::solicit;
use crate::frame::{Frame, Outbox, PortId};
use crate::network::Network;
use crate::spec::{Limits, MacAddr};
use crate::time::{Duration, Instant};
use crate::verdict::DropReason;
use crate::view::NeighborView;

const REACHABLE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u8 = 3;
/// An entry that nothing has used for this long goes.
const UNUSED: Duration = Duration::from_secs(600);

type Key = (PortId, Address);

/// A frame that waits: its IP packet, and what to put back when it could not be delivered and the sender is told.
pub(crate) struct Waiting {
    pub(crate) frame: Frame,
    /// Of a translated request: the address and port it had asked for.
    pub(crate) asked_for: Option<(Address, u16)>,
}

struct Neighbor {
    mac: Option<MacAddr>,
    permanent: bool,
    /// Until when the address counts as confirmed.
    reachable_until: Instant,
    asked: u8,
    ask_at: Instant,
    used_at: AtomicU64,
    queue: Vec<Waiting>,
}

/// The neighbour table of all interfaces.
pub(crate) struct Neighbors {
    table: DashMap<Key, Neighbor, foldhash::fast::FixedState>,
    entries_max: usize,
    queue_max: usize,
    /// Changes when what memos remember may not hold any more.
    version: AtomicU64,
    /// When the next question is due, in nanoseconds.
    due: AtomicU64,
}

/// What became of a frame whose next hop was looked up.
pub(crate) enum Resolved {
    Known(MacAddr),
    /// The frame is wanted: it waits for the answer.
    Wait,
    Drop(DropReason),
}

impl Neighbors {
    pub(crate) fn new(limits: &Limits, seed: u64) -> Self {
        Self {
            table: DashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            entries_max: limits.neighbors,
            queue_max: limits.neighbor_queue,
            version: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
        }
    }

    /// Changes when an address may be another one.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    fn outdate_memos(&self) {
        self.version.fetch_add(1, Release);
    }

    /// The MAC address of `addr` if it is known and fresh, and until when it is.
    fn fresh(&self, port: PortId, addr: Address, now: Instant) -> Option<(MacAddr, Instant)> {
        let neighbor = self.table.get(&(port, addr))?;
        if !neighbor.permanent {
            if neighbor.reachable_until <= now {
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

    /// Looks `addr` up and asks for it where needed. On [`Resolved::Wait`] the caller hands the frame to
    /// [`Self::queue`].
    pub(crate) fn resolve(
        &self,
        network: &Network,
        port: PortId,
        addr: Address,
        now: Instant,
        out: &mut Outbox,
    ) -> Resolved {
        let version = self.version.load(Acquire);
        if let Some(mac) = out.memo.neighbor(port, addr, version, now) {
            return Resolved::Known(mac);
        }
        if let Some((mac, until)) = self.fresh(port, addr, now) {
            out.memo.remember((port, addr), mac, version, until, now);
            return Resolved::Known(mac);
        }
        self.resolve_slowly(network, port, addr, now, out)
    }

    #[cold]
    fn resolve_slowly(
        &self,
        network: &Network,
        port: PortId,
        addr: Address,
        now: Instant,
        out: &mut Outbox,
    ) -> Resolved {
        if !self.table.contains_key(&(port, addr)) && self.table.len() >= self.entries_max {
            return Resolved::Drop(DropReason::NeighborLimit);
        }
        let mut neighbor = self.table.entry((port, addr)).or_insert_with(|| Neighbor {
            mac: None,
            permanent: false,
            reachable_until: Instant::ZERO,
            asked: 0,
            ask_at: now,
            used_at: AtomicU64::new(now.as_nanos()),
            queue: Vec::new(),
        });
        neighbor.used_at.store(now.as_nanos(), Relaxed);
        if neighbor.ask_at <= now && neighbor.asked < TRIES {
            neighbor.asked += 1;
            neighbor.ask_at = now + RETRY;
            self.due.fetch_min(neighbor.ask_at.as_nanos(), Relaxed);
            // One that was known is asked directly, so that a moved address does not storm the segment.
            ask(network, port, addr, neighbor.mac, out);
        }
        match neighbor.mac {
            Some(mac) => Resolved::Known(mac),
            None if neighbor.queue.len() >= self.queue_max => Resolved::Drop(DropReason::NeighborQueueFull),
            None => Resolved::Wait,
        }
    }

    /// Lets a frame wait for the answer. Returns it when the answer came in between.
    pub(crate) fn queue(&self, port: PortId, addr: Address, waiting: Waiting) -> Option<(MacAddr, Waiting)> {
        let mut neighbor = self.table.get_mut(&(port, addr))?;
        match neighbor.mac {
            Some(mac) => Some((mac, waiting)),
            None => {
                neighbor.queue.push(waiting);
                None
            }
        }
    }

    /// Learns that `addr` has `mac`; frames that waited for it leave. With `create`, also when nobody asked.
    pub(crate) fn learn(
        &self,
        network: &Network,
        (port, addr): Key,
        mac: MacAddr,
        create: bool,
        now: Instant,
        out: &mut Outbox,
    ) {
        let nobody = addr.is_unspecified() || network.is_local_seen_from(addr, port);
        if mac.is_multicast() || nobody {
            return;
        }
        let known = self.table.contains_key(&(port, addr));
        if !known && (!create || self.table.len() >= self.entries_max) {
            return;
        }
        let mut neighbor = self.table.entry((port, addr)).or_insert_with(|| Neighbor {
            mac: None,
            permanent: false,
            reachable_until: now,
            asked: 0,
            ask_at: now,
            used_at: AtomicU64::new(now.as_nanos()),
            queue: Vec::new(),
        });
        if neighbor.permanent {
            return;
        }
        let moved = neighbor.mac.replace(mac) != Some(mac);
        neighbor.reachable_until = now + REACHABLE;
        neighbor.asked = 0;
        neighbor.ask_at = now + REACHABLE;
        let queue = core::mem::take(&mut neighbor.queue);
        drop(neighbor);
        if moved {
            self.outdate_memos();
        }
        if let Some(own) = network.mac(port) {
            for waiting in queue {
                let mut frame = waiting.frame;
                if write_ethernet(&mut frame, mac, own) {
                    out.push(port, frame);
                }
            }
        }
    }

    /// Adds or replaces one that is never asked for and never expires.
    pub(crate) fn set(&self, port: PortId, addr: Address, mac: MacAddr) {
        self.table.insert(
            (port, addr),
            Neighbor {
                mac: Some(mac),
                permanent: true,
                reachable_until: Instant::MAX,
                asked: 0,
                ask_at: Instant::MAX,
                used_at: AtomicU64::new(0),
                queue: Vec::new(),
            },
        );
        self.outdate_memos();
    }

    /// Forgets what was set by hand, and everything about interfaces that are not there any more.
    pub(crate) fn retain_ports(&self, network: &Network) {
        self.table.retain(|(port, _), neighbor| !neighbor.permanent && network.mac(*port).is_some());
        self.outdate_memos();
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.due.load(Relaxed) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// Asks again where nobody answered, and gives up on those asked often enough. Returns the frames that waited
    /// in vain, with the interface they should have left through.
    pub(crate) fn expire(&self, network: &Network, now: Instant, out: &mut Outbox) -> Vec<(PortId, Waiting)> {
        if self.due.load(Relaxed) > now.as_nanos() {
            return Vec::new();
        }
        let (mut next, mut lost) = (u64::MAX, Vec::new());
        self.table.retain(|&(port, addr), neighbor| {
            if neighbor.permanent {
                return true;
            }
            let used = Instant::from_nanos(neighbor.used_at.load(Relaxed));
            if neighbor.asked > 0 && neighbor.ask_at <= now {
                if neighbor.asked >= TRIES {
                    neighbor.mac = None;
                    lost.extend(neighbor.queue.drain(..).map(|waiting| (port, waiting)));
                    return false;
                }
                neighbor.asked += 1;
                neighbor.ask_at = now + RETRY;
                let directly = neighbor.mac.filter(|_| neighbor.asked < TRIES);
                ask(network, port, addr, directly, out);
            }
            if neighbor.asked == 0 && now.since(used) >= UNUSED {
                return false;
            }
            let wake = if neighbor.asked > 0 { neighbor.ask_at } else { used + UNUSED };
            next = next.min(wake.as_nanos());
            true
        });
        self.due.store(next, Relaxed);
        self.outdate_memos();
        lost
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
#[inline]
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

/// A whole ARP frame.
pub(crate) fn arp_frame(repr: &ArpRepr, to: MacAddr, from: MacAddr) -> Frame {
    let mut bytes = [0; ethernet::HEADER_LEN + 28];
    ethernet::write(&mut bytes, to.0, from.0, ethernet::ETHERTYPE_ARP);
    repr.emit(&mut bytes[ethernet::HEADER_LEN..]);
    Frame::from_bytes(&bytes)
}

fn ask(network: &Network, port: PortId, addr: Address, known: Option<MacAddr>, out: &mut Outbox) {
    let std::net::IpAddr::V4(target_ip) = addr.to_ip() else {
        return solicit(network, port, addr.to_v6(), known, out);
    };
    let (Some(own), Some(source)) = (network.mac(port), network.source_for(port, addr)) else { return };
    if let Some(sender_ip) = source.to_v4() {
        let repr = ArpRepr {
            operation: Operation::Request,
            sender_mac: own.0,
            sender_ip,
            target_mac: [0; 6],
            target_ip,
        };
        out.push(port, arp_frame(&repr, known.unwrap_or(MacAddr::BROADCAST), own));
    }
}
