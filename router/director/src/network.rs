//! Interfaces, addresses and routes: where the director is, and which way a packet leaves.

use core::net::IpAddr;
use std::collections::{HashMap, HashSet};

use uvs_wire::Address;

use crate::frame::PortId;
use crate::spec::{Family, InterfaceSpec, Link, MacAddr, Prefix, RouteSpec};

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) port: PortId,
    /// The address to resolve on that link.
    pub(crate) addr: Address,
    pub(crate) mtu: u32,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    network: u128,
    mask: u128,
    family: Family,
    via: Option<Address>,
    port: PortId,
    mtu: u32,
}

/// An immutable picture of the network, replaced whole by each change.
#[derive(Debug, Default)]
pub(crate) struct Network {
    interfaces: Vec<InterfaceSpec>,
    /// Longest prefix first.
    routes: Vec<Route>,
    local: HashMap<Address, PortId, foldhash::fast::FixedState>,
    broadcasts: HashSet<Address, foldhash::fast::FixedState>,
}

fn bits(addr: Address) -> u128 {
    let (hi, lo) = addr.halves();
    u128::from(hi) << 64 | u128::from(lo)
}

impl Network {
    /// Checks and builds the picture.
    ///
    /// # Errors
    /// A sentence: ports with gaps, an address given twice, a route through an interface or a next hop that does
    /// not exist.
    pub(crate) fn new(mut interfaces: Vec<InterfaceSpec>, routes: &[RouteSpec]) -> Result<Self, String> {
        interfaces.sort_by_key(|interface| interface.port);
        let mut network = Self::default();
        for (index, interface) in interfaces.iter().enumerate() {
            if usize::from(interface.port.0) != index {
                return Err(format!("interface {}: ports are numbered from 0 without gaps", interface.name));
            }
            for prefix in &interface.addresses {
                if network.local.insert(prefix.addr().into(), interface.port).is_some() {
                    return Err(format!("address {} is given to two interfaces", prefix.addr()));
                }
                network.broadcasts.extend(prefix.broadcast().map(Address::from));
                network.routes.push(Route::new(*prefix, None, interface));
            }
        }
        for route in routes {
            let interface = interfaces
                .get(usize::from(route.port.0))
                .ok_or_else(|| format!("route to {}: no interface {}", route.to, route.port))?;
            network.routes.push(Route::new(route.to, route.via.map(Address::from), interface));
        }
        network.routes.sort_by_key(|route| core::cmp::Reverse(route.mask.count_ones()));
        network.interfaces = interfaces;
        Ok(network)
    }

    pub(crate) fn interfaces(&self) -> &[InterfaceSpec] {
        &self.interfaces
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

    /// Whether the director owns the address: its own ones and VIPs.
    pub(crate) fn is_local(&self, addr: Address) -> bool {
        self.local.contains_key(&addr)
    }

    /// Whether the director owns the address on that interface.
    pub(crate) fn is_local_on(&self, addr: Address, port: PortId) -> bool {
        self.local.get(&addr) == Some(&port)
    }

    pub(crate) fn is_broadcast(&self, addr: Address) -> bool {
        addr.is_broadcast() || self.broadcasts.contains(&addr)
    }

    /// Longest prefix match.
    pub(crate) fn route(&self, to: Address) -> Option<Hop> {
        let wanted = bits(to);
        let family = if to.is_v4() { Family::V4 } else { Family::V6 };
        let route = self
            .routes
            .iter()
            .find(|route| route.family == family && (wanted ^ route.network) & route.mask == 0)?;
        Some(Hop { port: route.port, addr: route.via.unwrap_or(to), mtu: route.mtu })
    }

    /// The director's own address to talk from through an interface to `to`: one whose subnet holds it, else the
    /// interface's first of that family, else any of that family.
    pub(crate) fn source_for(&self, port: PortId, to: Address) -> Option<Address> {
        let target = to.to_ip();
        let of_family = |prefix: &&Prefix| prefix.addr().is_ipv4() == target.is_ipv4();
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

fn is_host(prefix: &Prefix) -> bool {
    prefix.prefix_len() == if prefix.addr().is_ipv4() { 32 } else { 128 }
}

impl Route {
    fn new(to: Prefix, via: Option<Address>, interface: &InterfaceSpec) -> Self {
        let len = u32::from(to.prefix_len()) + if to.addr().is_ipv4() { 96 } else { 0 };
        Self {
            network: bits(to.network().into()),
            mask: u128::MAX.checked_shl(128 - len).unwrap_or(0),
            family: Family::of(to.addr()),
            via,
            port: interface.port,
            mtu: interface.mtu,
        }
    }
}

/// Whether no host can have the address as its source.
pub(crate) fn is_impossible_source(addr: Address) -> bool {
    addr.is_multicast() || addr.is_unspecified() || addr.is_loopback() || addr.is_broadcast() || {
        // 0.0.0.0/8, "this network" (RFC 1122 section 3.2.1.3).
        matches!(addr.to_ip(), IpAddr::V4(v4) if v4.octets()[0] == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(port: u16, addresses: &[&str]) -> InterfaceSpec {
        InterfaceSpec {
            port: PortId(port),
            name: format!("eth{port}"),
            link: Link::Ethernet(MacAddr([2, 0, 0, 0, 0, 1])),
            mtu: 1500,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    fn addr(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let via = |to: &str, via: Option<&str>, port| RouteSpec {
            to: to.parse().unwrap(),
            via: via.map(|v| v.parse().unwrap()),
            port: PortId(port),
        };
        let network = Network::new(
            vec![interface(0, &["10.0.0.1/24", "fd00::1/64"]), interface(1, &["192.168.10.1/24"])],
            &[
                via("0.0.0.0/0", Some("10.0.0.254"), 0),
                via("172.16.0.0/12", Some("192.168.10.254"), 1),
                via("172.16.9.0/24", None, 0),
            ],
        )
        .unwrap();
        let cases = [
            ("10.0.0.7", 0, "10.0.0.7", "connected"),
            ("192.168.10.11", 1, "192.168.10.11", "connected on the other side"),
            ("8.8.8.8", 0, "10.0.0.254", "default route"),
            ("172.20.1.1", 1, "192.168.10.254", "through a gateway"),
            ("172.16.9.9", 0, "172.16.9.9", "a longer prefix on the link"),
            ("fd00::9", 0, "fd00::9", "IPv6"),
        ];
        for (to, port, hop, why) in cases {
            let found = network.route(addr(to)).unwrap();
            assert_eq!((found.port, found.addr), (PortId(port), addr(hop)), "{why}");
        }
        assert_eq!(network.route(addr("fd01::1")), None, "no IPv6 default route");
        assert!(network.is_broadcast(addr("10.0.0.255")));
        assert_eq!(network.source_for(PortId(1), addr("192.168.10.11")), Some(addr("192.168.10.1")));
    }

    #[test]
    fn an_address_cannot_be_on_two_interfaces() {
        let error = Network::new(vec![interface(0, &["10.0.0.1/24"]), interface(1, &["10.0.0.1/32"])], &[]);
        assert!(error.unwrap_err().contains("10.0.0.1"));
    }
}
