//! What a worker remembers of the network from one packet to the next, so that it need not ask again: the next hops of
//! destinations, and the neighbours it sent to last.
//!
//! A memo belongs to one worker (it travels in its [`Lane`](crate::net::lane::Lane)), so reading it takes neither a
//! lock nor an atomic write. It is cleared with each snapshot; whether a neighbour still holds is told by a number.

use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::base::spec::MacAddr;
use crate::base::time::{Duration, Instant};
use crate::net::network::{Hop, Network};

/// For how long a neighbour is sent to without asking the neighbour table, which wants to know who is in use.
const NEIGHBOR_LIFETIME: Duration = Duration::from_secs(1);
/// A power of two.
const PLACES: usize = 64;

#[derive(Clone, Copy)]
struct Neighbor {
    addr: Address,
    mac: MacAddr,
    port: PortId,
    /// Of the neighbour table when it was asked.
    version: u64,
    until: Instant,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Memo {
    neighbors: Vec<Neighbor>,
    /// Of the snapshot.
    routes: Vec<Option<(Address, Hop)>>,
}

impl Memo {
    /// Forgets everything: another network may be behind the same port numbers.
    pub(crate) fn clear(&mut self) {
        self.neighbors.clear();
        self.routes.clear();
    }

    /// The way to a destination.
    #[inline]
    pub(crate) fn route(&mut self, network: &Network, to: Address) -> Option<&Hop> {
        let place = Self::place(PortId(0), to);
        let is_known = matches!(self.routes.get(place), Some(Some((known, _))) if *known == to);
        if !is_known {
            self.find_route(network, to, place)?;
        }
        self.routes.get(place)?.as_ref().map(|(_, hop)| hop)
    }

    #[cold]
    #[inline(never)]
    fn find_route(&mut self, network: &Network, to: Address, place: usize) -> Option<()> {
        let hop = Hop { essential: true, ..network.route(to)? };
        self.routes.resize(PLACES, None);
        self.routes[place] = Some((to, hop));
        Some(())
    }

    #[inline]
    fn place(port: PortId, addr: Address) -> usize {
        // The ports of one address lie side by side.
        let spread = addr.spread().wrapping_add(u64::from(port.0) << (u64::BITS - PLACES.trailing_zeros()));
        #[allow(clippy::cast_possible_truncation, reason = "six bits")]
        let place = (spread >> (u64::BITS - PLACES.trailing_zeros())) as usize;
        place
    }

    /// The MAC address of a neighbour that was sent to a moment ago. `version`: of the neighbour table now.
    #[inline(always)]
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
