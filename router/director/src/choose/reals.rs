//! The destinations of all services by their address, for packets that come from one or speak of one.
//!
//! A destination stands under its address and the port that tells it apart from there: by NAT its own, in GUE the
//! tunnel's, in other tunnels none. Those by direct routing do not: nothing of theirs comes back.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::FixedState;
use uvs_wire::Address;

use crate::base::spec::{Forwarding, Protocol, ServiceKey, Tunnel};
use crate::base::time::Instant;
use crate::choose::removed::Removed;
use crate::track::destination::Destination;

/// A destination, and the transport protocol of its service; a firewall mark's takes any.
struct Real {
    destination: Arc<Destination>,
    protocol: Option<Protocol>,
}

/// Keyed by address and port, in the order they came.
type ByAddress = HashMap<(Address, u16), Vec<Real>, FixedState>;

/// The destinations that services have now, and where late answers come from.
pub(crate) struct Reals {
    by_address: RwLock<ByAddress>,
    removed: RwLock<Removed>,
}

/// The port under which packets of that method come back. `None`: they do not.
fn port_of(destination: &Destination, forwarding: Forwarding) -> Option<u16> {
    match forwarding {
        Forwarding::Nat => Some(destination.port),
        Forwarding::Direct => None,
        Forwarding::Tunnel(Tunnel::Gue { port, .. }) => Some(port),
        Forwarding::Tunnel(Tunnel::Ipip | Tunnel::Gre { .. }) => Some(0),
    }
}

/// The transport protocol of a service's packets; with a firewall mark any.
fn protocol_of(service: ServiceKey) -> Option<Protocol> {
    match service {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    }
}

/// Whether the kernel's table keeps the place of a destination that is edited so: checksums do not matter.
fn is_same_place(a: Forwarding, b: Forwarding) -> bool {
    match (a, b) {
        (
            Forwarding::Tunnel(Tunnel::Gue { port: a, .. }),
            Forwarding::Tunnel(Tunnel::Gue { port: b, .. }),
        ) => a == b,
        (Forwarding::Tunnel(Tunnel::Gre { .. }), Forwarding::Tunnel(Tunnel::Gre { .. })) => true,
        (a, b) => a == b,
    }
}

impl Reals {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            by_address: RwLock::new(HashMap::with_hasher(FixedState::with_seed(seed))),
            removed: RwLock::new(Removed::new(Removed::MAX, seed)),
        }
    }

    /// A service has this destination from now on.
    pub(crate) fn add(&self, service: ServiceKey, destination: &Arc<Destination>) {
        let Some(port) = port_of(destination, destination.forwarding()) else { return };
        let real = Real { destination: Arc::clone(destination), protocol: protocol_of(service) };
        let mut by_address = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        by_address.entry((destination.addr, port)).or_default().push(real);
    }

    /// A destination's method was another until now.
    pub(crate) fn edited(
        &self,
        service: ServiceKey,
        destination: &Arc<Destination>,
        before: Forwarding,
        now: Instant,
    ) {
        if !is_same_place(before, destination.forwarding()) {
            self.remove_from(service, destination, before, now);
            self.add(service, destination);
        }
    }

    /// The destination's service has it no more.
    pub(crate) fn remove(&self, service: ServiceKey, destination: &Destination, now: Instant) {
        self.remove_from(service, destination, destination.forwarding(), now);
    }

    fn remove_from(
        &self,
        service: ServiceKey,
        destination: &Destination,
        forwarding: Forwarding,
        now: Instant,
    ) {
        let Some(port) = port_of(destination, forwarding) else { return };
        let key = (destination.addr, port);
        if forwarding == Forwarding::Nat {
            // First, so that at no time it is in neither.
            let mut removed = self.removed.write().unwrap_or_else(PoisonError::into_inner);
            removed.put((destination.addr, port, protocol_of(service)), now);
        }
        let mut by_address = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = by_address.get_mut(&key) {
            list.retain(|real| !core::ptr::eq(Arc::as_ptr(&real.destination), destination));
            if list.is_empty() {
                by_address.remove(&key);
            }
        }
    }

    /// Whether a destination by NAT was removed from there so lately that a packet may be an answer of it.
    pub(crate) fn answers_late(&self, protocol: Protocol, addr: Address, port: u16, now: Instant) -> bool {
        self.removed.read().unwrap_or_else(PoisonError::into_inner).may_answer(protocol, addr, port, now)
    }

    /// Whether some destination by NAT was removed lately.
    pub(crate) fn has_removed(&self) -> bool {
        !self.removed.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether a packet from there comes from a destination of some service, one reached by NAT: others answer
    /// their clients themselves.
    pub(crate) fn has_nat(&self, protocol: Protocol, addr: Address, port: u16) -> bool {
        self.find(addr, port, |real| {
            let is_asked = real.protocol.is_none_or(|own| own == protocol);
            (is_asked && real.destination.forwarding() == Forwarding::Nat).then_some(())
        })
        .is_some()
    }

    /// The tunnel that ends there, at this UDP port or at 0, which is none.
    pub(crate) fn tunnel(&self, addr: Address, port: u16) -> Option<Tunnel> {
        self.find(addr, port, |real| match real.destination.forwarding() {
            Forwarding::Tunnel(tunnel) => Some(tunnel),
            Forwarding::Nat | Forwarding::Direct => None,
        })
    }

    /// As in the kernel's table the one that came last is found first.
    fn find<T>(&self, addr: Address, port: u16, take: impl Fn(&Real) -> Option<T>) -> Option<T> {
        let by_address = self.by_address.read().unwrap_or_else(PoisonError::into_inner);
        by_address.get(&(addr, port))?.iter().rev().find_map(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::spec::{DestinationSpec, TunnelChecksum};
    use crate::track::destination::Shared;

    const NOW: Instant = Instant::from_secs(1);

    fn destination(id: u32, addr: &str, forwarding: Forwarding) -> Arc<Destination> {
        let spec = DestinationSpec::new(addr.parse().expect("an address"), forwarding);
        let shared = Arc::new(Shared::new(service(Protocol::Tcp), Arc::default()));
        Arc::new(Destination::new(id, spec, shared))
    }

    fn service(protocol: Protocol) -> ServiceKey {
        ServiceKey::new(protocol, "10.0.0.100:80".parse().expect("an address"))
    }

    #[test]
    fn a_destination_is_found_by_what_comes_back_from_it() {
        let reals = Reals::new(1);
        let addr = Address::v4([192, 168, 10, 11].into());
        let nat = destination(1, "192.168.10.11:8080", Forwarding::Nat);
        reals.add(service(Protocol::Tcp), &nat);
        assert!(reals.has_nat(Protocol::Tcp, addr, 8080));
        assert!(!reals.has_nat(Protocol::Udp, addr, 8080), "another protocol");
        assert!(!reals.has_nat(Protocol::Tcp, addr, 80), "another port");
        reals.add(service(Protocol::Tcp), &destination(2, "192.168.10.11:80", Forwarding::Direct));
        assert!(!reals.has_nat(Protocol::Tcp, addr, 80) && reals.tunnel(addr, 0).is_none());

        let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None };
        reals.add(service(Protocol::Udp), &destination(3, "192.168.10.11:80", Forwarding::Tunnel(gue)));
        assert_eq!((reals.tunnel(addr, 6080), reals.tunnel(addr, 0)), (Some(gue), None));
        reals.remove(service(Protocol::Tcp), &nat, NOW);
        assert!(!reals.has_nat(Protocol::Tcp, addr, 8080));
    }

    #[test]
    fn the_tunnel_that_came_last_is_found_first() {
        let reals = Reals::new(1);
        let addr = Address::v4([192, 168, 10, 11].into());
        let gre = Tunnel::Gre { checksum: false };
        let first = destination(1, "192.168.10.11:80", Forwarding::Tunnel(gre));
        reals.add(service(Protocol::Tcp), &first);
        let second = destination(2, "192.168.10.11:81", Forwarding::Tunnel(Tunnel::Ipip));
        reals.add(service(Protocol::Tcp), &second);
        assert_eq!(reals.tunnel(addr, 0), Some(Tunnel::Ipip));
        first.edit(DestinationSpec { weight: 5, ..first.spec() }, true);
        reals.edited(service(Protocol::Tcp), &first, Forwarding::Tunnel(gre), NOW);
        assert_eq!(reals.tunnel(addr, 0), Some(Tunnel::Ipip), "an edit of the weight changes nothing");
        first.edit(DestinationSpec { forwarding: Forwarding::Nat, ..first.spec() }, true);
        reals.edited(service(Protocol::Tcp), &first, Forwarding::Tunnel(gre), NOW);
        first.edit(DestinationSpec { forwarding: Forwarding::Tunnel(gre), ..first.spec() }, true);
        reals.edited(service(Protocol::Tcp), &first, Forwarding::Nat, NOW);
        assert_eq!(reals.tunnel(addr, 0), Some(gre), "there and back again it came last");
        reals.remove(service(Protocol::Tcp), &first, NOW);
        assert_eq!(reals.tunnel(addr, 0), Some(Tunnel::Ipip));
    }
}
