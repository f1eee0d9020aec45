//! Interfaces, addresses and routes: where the director is, and which way a packet leaves.

mod owners;
mod ranges;
mod sources;

use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::HashSet;
use std::sync::Arc;

use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::base::spec::{InterfaceSpec, Link, MacAddr, Prefix, RouteSpec};
use owners::{Known, Owners};
use ranges::Ranges;
pub(crate) use ranges::Span;
use sources::Sources;

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) port: PortId,
    /// The address to resolve on that link.
    pub(crate) addr: Address,
    pub(crate) mtu: u32,
    /// The director's own address to talk from on that way.
    pub(crate) source: Option<Address>,
    /// It is a router or a destination: not one of those that may come in any number.
    pub(crate) essential: bool,
    /// It leads nowhere: the address is one of the director's own.
    pub(crate) local: bool,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    span: Span,
    is_v6: bool,
    via: Option<Address>,
    port: PortId,
    mtu: u32,
    source: Option<Address>,
}

/// An immutable picture of the network, replaced whole by each change.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Without the addresses that are withheld.
    interfaces: Vec<InterfaceSpec>,
    /// As they were given, with them.
    told: Vec<InterfaceSpec>,
    withheld: Withheld,
    /// Routes beside those of subnets, as they were given.
    given: Vec<RouteSpec>,
    /// The largest packet that a link takes, by port, as far as it was told.
    link_mtus: Vec<u32>,
    /// Longest prefix first; all but those to addresses of ours alone, which are in `owners`.
    routes: Vec<Route>,
    /// Which route leads to an address, where there are more than a few.
    ranges: Option<Ranges>,
    /// Connected subnets, but those of addresses of ours alone.
    subnets: Vec<(Span, PortId)>,
    /// By port: what sources may come in there.
    sources: Vec<Sources>,
    owners: Owners,
    /// Own IPv6 link-local addresses, by port. The same one may stand on several links.
    link_local: Vec<Vec<Address>>,
}

/// Addresses that interfaces are given and that are not the director's for now: another director has them, or nobody.
pub(crate) type Withheld = Arc<HashSet<Address>>;

/// What an address is to the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An address of ours: our own ones and VIPs.
    Local,
    /// All hosts of a link.
    Broadcast,
    Other,
}

/// So many routes are gone through one by one.
const FEW_ROUTES: usize = 8;
/// Where IPv4 lies among all addresses.
const V4: Span = Span::new(0xffff << 32, u128::MAX << 32);

fn address(bits: u128) -> Address {
    Address::from_octets(bits.to_be_bytes())
}

fn bits(addr: Address) -> u128 {
    let (hi, lo) = addr.halves();
    u128::from(hi) << 64 | u128::from(lo)
}

impl Network {
    /// Checks and builds the picture, while some of its addresses are withheld: what is wrong does not depend on which.
    ///
    /// # Errors
    /// A sentence: ports with gaps, an address given twice, a route through an interface or a next hop that does
    /// not exist.
    pub(crate) fn without(
        mut told: Vec<InterfaceSpec>,
        routes: &[RouteSpec],
        withheld: Withheld,
    ) -> Result<Self, String> {
        told.sort_by_key(|interface| interface.port);
        let mut seen = HashSet::new();
        for prefix in told.iter().flat_map(|interface| &interface.addresses) {
            // Each link may have the same one.
            if !Address::from(prefix.addr()).is_v6_link_local() && !seen.insert(prefix.addr()) {
                return Err(format!("address {} is given to two interfaces", prefix.addr()));
            }
        }
        let mut interfaces = told.clone();
        if !withheld.is_empty() {
            for interface in &mut interfaces {
                interface.addresses.retain(|prefix| !withheld.contains(&prefix.addr().into()));
            }
        }
        let mut network = Self { told, withheld, ..Self::default() };
        network.owners.insert(Ipv4Addr::BROADCAST.into(), Known::Broadcast);
        for (index, interface) in interfaces.iter().enumerate() {
            if usize::from(interface.port.0) != index {
                return Err(format!("interface {}: ports are numbered from 0 without gaps", interface.name));
            }
            let link_local = link_local_addresses(interface);
            for addr in &link_local {
                network.owners.insert(*addr, Known::LinkLocal);
            }
            network.link_local.push(link_local);
            for prefix in &interface.addresses {
                // Neither unique nor reachable from elsewhere: link-local addresses have no route.
                if Address::from(prefix.addr()).is_v6_link_local() {
                    continue;
                }
                network.owners.insert(prefix.addr().into(), Known::Local(interface.port));
                if let Some(broadcast) = prefix.broadcast() {
                    network.owners.insert(broadcast.into(), Known::Broadcast);
                }
                if !is_host(prefix) {
                    let route = Route::new(*prefix, None, interface);
                    network.subnets.push((route.span, interface.port));
                    network.routes.push(route);
                }
            }
        }
        for route in routes {
            let interface = interfaces
                .get(usize::from(route.port.0))
                .ok_or_else(|| format!("route to {}: no interface {}", route.to, route.port))?;
            network.routes.push(Route::new(route.to, route.via.map(Address::from), interface));
        }
        network.routes.sort_by_key(|route| route.span.size());
        let sources = interfaces.iter().map(|interface| Sources::of(interface, &network.subnets));
        network.sources = sources.collect();
        network.interfaces = interfaces;
        network.given = routes.to_vec();
        for index in 0..network.routes.len() {
            let Route { port, via, span, .. } = network.routes[index];
            let towards = via.unwrap_or_else(|| address(span.first));
            network.routes[index].source = network.source_for(port, towards);
        }
        if network.routes.len() > FEW_ROUTES {
            let spans = network.routes.iter().zip(0..).map(|(route, index)| (route.span, Some(index)));
            // No route of IPv6 leads to IPv4, which lies in the midst of it.
            network.ranges = Some(Ranges::new(spans.chain([(V4, None)]).collect()));
        }
        Ok(network)
    }

    /// With the addresses that they have now.
    pub(crate) fn interfaces(&self) -> &[InterfaceSpec] {
        &self.interfaces
    }

    /// As they were given: with those that are withheld.
    pub(crate) fn told(&self) -> &[InterfaceSpec] {
        &self.told
    }

    /// Addresses that are not the director's for now, although an interface may be given them.
    pub(crate) fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    /// The same network with other addresses withheld.
    ///
    /// # Errors
    /// None that this network itself has not.
    pub(crate) fn withholding(&self, withheld: Withheld) -> Result<Self, String> {
        let network = Self::without(self.told.clone(), &self.given, withheld)?;
        Ok(network.within_links(self.link_mtus.clone()))
    }

    /// The same network with other addresses.
    ///
    /// # Errors
    /// A sentence: something else of an interface is another, or what [`Self::without`] says.
    pub(crate) fn with_addresses(&self, interfaces: Vec<InterfaceSpec>) -> Result<Self, String> {
        let network = Self::without(interfaces, &self.given, Arc::clone(&self.withheld))?;
        let network = network.within_links(self.link_mtus.clone());
        let all_but_addresses = |interface: &InterfaceSpec| {
            let InterfaceSpec { port, name, link, mtu, source_check, .. } = interface;
            (*port, name.clone(), *link, *mtu, *source_check)
        };
        if network.interfaces.iter().map(all_but_addresses).ne(self.interfaces.iter().map(all_but_addresses))
        {
            return Err("an interface is not as it was: only its addresses can change so".into());
        }
        Ok(network)
    }

    /// The same network with links that take packets of these lengths.
    pub(crate) fn within_links(mut self, link_mtus: Vec<u32>) -> Self {
        self.link_mtus = link_mtus;
        for index in 0..self.routes.len() {
            self.routes[index].mtu = self.mtu(self.routes[index].port);
        }
        self
    }

    /// The largest packet that each link takes, by port, as far as it was told.
    pub(crate) fn link_mtus(&self) -> &[u32] {
        &self.link_mtus
    }

    /// The largest packet that leaves through an interface: its own MTU or its link's.
    fn mtu(&self, port: PortId) -> u32 {
        let own = self.interface(port).map_or(u32::MAX, |interface| interface.mtu);
        self.link_mtus.get(usize::from(port.0)).map_or(own, |&link| own.min(link))
    }

    /// Whether packets to others than addresses of the director leave as they did in the network before: subnets, and
    /// what the director calls itself, are the same. (`before` has the same interfaces and routes.)
    pub(crate) fn forwards_as(&self, before: &Self) -> bool {
        let names = |network: &Self, port: PortId| {
            [Address::v4(Ipv4Addr::UNSPECIFIED), Address::v6(Ipv6Addr::UNSPECIFIED)]
                .map(|to| network.source_for(port, to))
        };
        let subnets = |interface: &InterfaceSpec| -> Vec<Prefix> {
            interface.addresses.iter().filter(|prefix| !is_host(prefix)).copied().collect()
        };
        self.interfaces.iter().zip(&before.interfaces).all(|(now, then)| {
            subnets(now) == subnets(then) && names(self, now.port) == names(before, then.port)
        })
    }

    /// Addresses that are the director's own here and were not there.
    pub(crate) fn new_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (Address, PortId)> + 'a {
        self.owners.local().filter(|(addr, port)| before.local(*addr) != Some(*port))
    }

    pub(crate) fn interface(&self, port: PortId) -> Option<&InterfaceSpec> {
        self.interfaces.get(usize::from(port.0))
    }

    /// The MAC address of an Ethernet interface.
    pub(crate) fn mac(&self, port: PortId) -> Option<MacAddr> {
        match self.interface(port)?.link {
            Link::Ethernet(mac) => Some(mac),
            Link::Ip => None,
        }
    }

    /// Whether the director owns the address: its own ones and VIPs, but for link-local ones.
    #[inline]
    pub(crate) fn is_local(&self, addr: Address) -> bool {
        self.local(addr).is_some()
    }

    /// The interface that an address of the director's own was given to; none of link-local ones.
    #[inline]
    fn local(&self, addr: Address) -> Option<PortId> {
        match self.owners.find(addr)? {
            Known::Local(port) => Some(port),
            Known::LinkLocal | Known::Broadcast => None,
        }
    }

    /// Whether the director owns the address on that interface.
    pub(crate) fn is_local_on(&self, addr: Address, port: PortId) -> bool {
        if addr.is_v6_link_local() {
            return self.link_local(port).contains(&addr);
        }
        self.local(addr) == Some(port)
    }

    /// What an address means in a packet on that link.
    #[inline]
    pub(crate) fn owner(&self, addr: Address, port: PortId) -> Owner {
        match self.owners.find(addr) {
            None => Owner::Other,
            Some(Known::Local(_)) => Owner::Local,
            Some(Known::Broadcast) => Owner::Broadcast,
            Some(Known::LinkLocal) if self.is_local_on(addr, port) => Owner::Local,
            Some(Known::LinkLocal) => Owner::Other,
        }
    }

    /// Whether a packet on that link means the director by the address: any of its own, but of link-local ones
    /// those of that link.
    pub(crate) fn is_local_seen_from(&self, addr: Address, port: PortId) -> bool {
        if addr.is_v6_link_local() { self.is_local_on(addr, port) } else { self.is_local(addr) }
    }

    /// The director's own link-local addresses there; none without IPv6.
    pub(crate) fn link_local(&self, port: PortId) -> &[Address] {
        self.link_local.get(usize::from(port.0)).map_or(&[], Vec::as_slice)
    }

    /// Whether two addresses are in one subnet of an Ethernet interface: what they say to each other does not pass
    /// here.
    pub(crate) fn share_subnet(&self, port: PortId, one: Address, other: Address) -> bool {
        let is_v4 = one.is_v4();
        let holds_both =
            |subnet: &Span| subnet.is_v4() == is_v4 && subnet.contains(one) && subnet.contains(other);
        self.mac(port).is_some()
            && self.subnets.iter().any(|(subnet, link)| *link == port && holds_both(subnet))
    }

    /// All addresses that neighbours on that link may ask for.
    pub(crate) fn addresses_on(&self, port: PortId) -> impl Iterator<Item = Address> + '_ {
        let given = self.interface(port).map_or(&[][..], |interface| &interface.addresses);
        let given = given.iter().map(|prefix| Address::from(prefix.addr()));
        given.filter(|addr| !addr.is_v6_link_local()).chain(self.link_local(port).iter().copied())
    }

    /// The way back to the sender of a packet that came in on that link: a link-local sender is there.
    pub(crate) fn route_back(&self, to: Address, port: PortId) -> Option<Hop> {
        if !to.is_v6_link_local() {
            return self.route(to);
        }
        if self.link_local(port).is_empty() {
            return None;
        }
        let (mtu, source) = (self.mtu(port), self.source_for(port, to));
        Some(Hop { port, addr: to, mtu, source, essential: false, local: false })
    }

    /// Whether a packet from `source` is believed to come in on that link.
    #[inline(always)]
    pub(crate) fn admits(&self, source: Address, port: PortId) -> bool {
        match self.sources.get(usize::from(port.0)) {
            None | Some(Sources::All) => true,
            Some(Sources::AllBut(others)) => !others.contain(source) || self.is_connected(source, port),
            Some(Sources::Routed) => self.is_routed(source, port),
        }
    }

    #[cold]
    #[inline(never)]
    fn is_connected(&self, addr: Address, port: PortId) -> bool {
        self.subnet(addr).is_some_and(|subnet| self.subnets.contains(&(subnet, port)))
    }

    #[inline(never)]
    fn is_routed(&self, source: Address, port: PortId) -> bool {
        source.is_v6_link_local() || self.route(source).is_some_and(|hop| hop.port == port)
    }

    /// The longest connected subnet that holds an address.
    pub(crate) fn subnet(&self, addr: Address) -> Option<Span> {
        self.subnets().filter(|subnet| subnet.contains(addr)).min_by_key(|subnet| subnet.size())
    }

    /// All connected subnets.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = Span> + '_ {
        self.subnets.iter().map(|(subnet, _)| *subnet)
    }

    /// Longest prefix match. No route leads to a link-local address, since it does not say on which link.
    pub(crate) fn route(&self, to: Address) -> Option<Hop> {
        if to.is_v6_link_local() {
            return None;
        }
        if let Some(port) = self.local(to) {
            let mtu = self.mtu(port);
            let source = self.source_for(port, to);
            return Some(Hop { port, addr: to, mtu, source, essential: false, local: true });
        }
        let wanted = bits(to);
        let route = match &self.ranges {
            Some(ranges) => self.routes.get(ranges.find(wanted)? as usize)?,
            None => {
                let is_v6 = !to.is_v4();
                let leads = |route: &&Route| route.span.holds(wanted) && is_v6 == route.is_v6;
                self.routes.iter().find(leads)?
            }
        };
        let Route { port, via, mtu, source, .. } = *route;
        Some(Hop { port, addr: via.unwrap_or(to), mtu, source, essential: via.is_some(), local: false })
    }

    /// The director's own address to talk from through an interface to `to`: one whose subnet holds it, else the
    /// interface's first of that family, else any of that family. Link-local addresses talk to each other.
    pub(crate) fn source_for(&self, port: PortId, to: Address) -> Option<Address> {
        if to.is_v6_link_local() {
            return self.link_local(port).first().copied();
        }
        let target = to.to_ip();
        let of_family = |prefix: &&Prefix| {
            prefix.addr().is_ipv4() == target.is_ipv4() && !Address::from(prefix.addr()).is_v6_link_local()
        };
        let own = &self.interface(port)?.addresses;
        let own = own.iter().filter(of_family);
        own.clone()
            .find(|prefix| prefix.contains(target))
            .or_else(|| own.clone().find(|prefix| !is_host(prefix)))
            .or_else(|| own.clone().next())
            .or_else(|| self.interfaces.iter().flat_map(|i| &i.addresses).find(of_family))
            .map(|prefix| prefix.addr().into())
    }
}

/// The link-local addresses an interface was given. Unless one of them is its own, which has a subnet around it, on
/// Ethernet and with IPv6 at all the one that follows from its MAC address comes first.
fn link_local_addresses(interface: &InterfaceSpec) -> Vec<Address> {
    let is_link_local = |prefix: &&Prefix| Address::from(prefix.addr()).is_v6_link_local();
    let given = || interface.addresses.iter().filter(is_link_local);
    let has_own = given().any(|prefix| !is_host(prefix));
    let has_v6 = interface.addresses.iter().any(|prefix| prefix.addr().is_ipv6());
    let derived = match interface.link {
        Link::Ethernet(mac) if has_v6 && !has_own => Some(Address::v6(mac.link_local())),
        _ => None,
    };
    derived.into_iter().chain(given().map(|prefix| prefix.addr().into())).collect()
}

fn is_host(prefix: &Prefix) -> bool {
    prefix.prefix_len() == if prefix.addr().is_ipv4() { 32 } else { 128 }
}

impl Route {
    fn new(to: Prefix, via: Option<Address>, interface: &InterfaceSpec) -> Self {
        let len = u32::from(to.prefix_len()) + if to.addr().is_ipv4() { 96 } else { 0 };
        Self {
            is_v6: to.addr().is_ipv6(),
            span: Span::new(bits(to.network().into()), u128::MAX.checked_shl(128 - len).unwrap_or(0)),
            via,
            port: interface.port,
            mtu: interface.mtu,
            source: None,
        }
    }
}

/// Whether no host can have the address as its source.
#[inline]
pub(crate) fn is_impossible_source(addr: Address) -> bool {
    if addr.is_ordinary() {
        return false;
    }
    if addr.is_v4() {
        let [first, ..] = addr.v4_octets();
        // 0.0.0.0/8, "this network" (RFC 1122 section 3.2.1.3).
        return first == 0 || first == 127 || first >> 4 == 0xe || addr.is_broadcast();
    }
    addr.is_multicast() || addr.is_unspecified() || addr.is_loopback()
}

#[cfg(test)]
mod tests;
