//! What a worker remembers from one packet to the next, so that it need not ask again: the state that
//! [`apply`](crate::Director::apply) replaces, ways to destinations, and the neighbours it sent to last.
//!
//! A memo belongs to one worker (it travels in its [`Outbox`](crate::Outbox)), so reading it takes neither a lock nor
//! an atomic write. Whether it still holds is told by numbers that change with what is remembered.

use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::Arc;

use arc_swap::ArcSwap;
use uvs_wire::Address;

use crate::base::frame::PortId;
use crate::base::spec::MacAddr;
use crate::base::time::{Duration, Instant};
use crate::director::Snapshot;
use crate::flow_cache::Passed;
use crate::net::network::{Hop, Network};

/// For how long a neighbour is sent to without asking the neighbour table, which wants to know who is in use.
const NEIGHBOR_LIFETIME: Duration = Duration::from_secs(1);
/// A power of two.
const PLACES: usize = 64;

/// The snapshot, and a number that changes with it.
#[derive(Default)]
pub(crate) struct Published {
    snapshot: ArcSwap<Snapshot>,
    /// Shared with memos, which tell by it whose snapshot they hold.
    version: Arc<AtomicU64>,
}

impl Published {
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    pub(crate) fn store(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
        self.version.fetch_add(1, Release);
    }
}

#[derive(Clone, Copy)]
struct Neighbor {
    addr: Address,
    mac: MacAddr,
    port: PortId,
    /// Of the neighbour table when it was asked.
    version: u64,
    until: Instant,
}

/// A snapshot, and what tells whether it is still the one in force.
pub(crate) struct Held {
    cell: Arc<AtomicU64>,
    version: u64,
    pub(crate) snapshot: Arc<Snapshot>,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Memo {
    held: Option<Held>,
    /// Of the snapshot that was taken last.
    version: u64,
    neighbors: Vec<Neighbor>,
    /// Of the snapshot.
    routes: Vec<Option<(Address, Hop)>>,
    /// Of the flow cache: what was handled last that it has numbered, and whether it was told.
    pub(crate) passed: Option<(Passed, bool)>,
}

impl Memo {
    /// Takes the snapshot in force out of the memo; [`Self::put_back`] follows.
    #[inline]
    pub(crate) fn take(&mut self, published: &Published) -> Held {
        match self.held.take() {
            Some(held)
                if Arc::ptr_eq(&held.cell, &published.version) && held.cell.load(Acquire) == held.version =>
            {
                held
            }
            _ => self.renew(published),
        }
    }

    /// Whether the snapshot that was taken last is still the one in force.
    pub(crate) fn is_current(&self, published: &Published) -> bool {
        published.version.load(Acquire) == self.version
    }

    #[inline]
    pub(crate) fn put_back(&mut self, held: Held) {
        self.held = Some(held);
    }

    #[cold]
    fn renew(&mut self, published: &Published) -> Held {
        // Another network may be behind the same port numbers.
        self.neighbors.clear();
        self.routes.clear();
        // First the number: if a snapshot comes in between, the next packet asks again.
        let version = published.version.load(Acquire);
        self.version = version;
        Held { cell: Arc::clone(&published.version), version, snapshot: published.snapshot.load_full() }
    }

    /// The way to a destination.
    #[inline]
    pub(crate) fn route(&mut self, network: &Network, to: Address) -> Option<Hop> {
        let place = Self::place(PortId(0), to);
        match self.routes.get(place) {
            Some(Some((known, hop))) if *known == to => Some(*hop),
            _ => self.find_route(network, to),
        }
    }

    #[cold]
    fn find_route(&mut self, network: &Network, to: Address) -> Option<Hop> {
        let hop = Hop { essential: true, ..network.route(to)? };
        self.routes.resize(PLACES, None);
        self.routes[Self::place(PortId(0), to)] = Some((to, hop));
        Some(hop)
    }

    #[inline]
    fn place(port: PortId, addr: Address) -> usize {
        let (hi, lo) = addr.halves();
        let spread = (hi ^ lo ^ u64::from(port.0) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[allow(clippy::cast_possible_truncation, reason = "six bits")]
        let place = (spread >> (u64::BITS - PLACES.trailing_zeros())) as usize;
        place
    }

    /// The MAC address of a neighbour that was sent to a moment ago. `version`: of the neighbour table now.
    #[inline]
    pub(crate) fn neighbor(
        &self,
        port: PortId,
        addr: Address,
        version: u64,
        now: Instant,
    ) -> Option<MacAddr> {
        let known = self.neighbors.get(Self::place(port, addr))?;
        let holds = known.addr == addr && known.port == port && known.version == version && known.until > now;
        holds.then_some(known.mac)
    }

    /// Remembers a neighbour that is fresh until `fresh_until`.
    pub(crate) fn remember(
        &mut self,
        (port, addr): (PortId, Address),
        mac: MacAddr,
        version: u64,
        fresh_until: Instant,
        now: Instant,
    ) {
        let until = fresh_until.min(now + NEIGHBOR_LIFETIME);
        let none = Neighbor { addr, mac, port, version, until: Instant::ZERO };
        self.neighbors.resize(PLACES, none);
        self.neighbors[Self::place(port, addr)] = Neighbor { until, ..none };
    }
}
