//! The `[[interface]]` and `[[route]]` of what comes out: neither keepalived.conf nor rules of ipvsadm have them, since
//! there the kernel does the routing.

use core::net::IpAddr;
use std::collections::{BTreeSet, HashSet};

use uvs_director::spec::{Forwarding, Prefix, ServiceKey};

use crate::output::{Network, Service};

/// What whoever runs the import says of the network.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The director's own addresses with the lengths of their subnets.
    pub addresses: Vec<Prefix>,
    /// Of each family the router to all else.
    pub gateways: Vec<IpAddr>,
    /// The network card that the interface is attached to.
    pub link: Option<String>,
    /// The bridge that the interface is plugged into.
    pub bridge: Option<String>,
}

/// An address that no host has.
pub(crate) fn is_no_host(address: IpAddr) -> bool {
    match address {
        _ if address.is_unspecified() || address.is_loopback() || address.is_multicast() => true,
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0 || v4.is_link_local(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some() || v6.is_unicast_link_local(),
    }
}

/// The first or the last address of its subnet, which is no host's.
fn is_edge(prefix: Prefix, address: IpAddr) -> bool {
    prefix.broadcast().is_some_and(|broadcast| address == broadcast || address == prefix.network())
}

/// The network that services need, and whether all of it was known rather than guessed.
pub(crate) fn plan(services: &[Service], wish: &Wish, hints: &[(IpAddr, u8)]) -> (Network, bool) {
    let vips: BTreeSet<IpAddr> = services.iter().filter_map(|service| vip(service.spec.key)).collect();
    let targets: BTreeSet<(IpAddr, bool)> = services
        .iter()
        .flat_map(|service| {
            let backups = service.health.iter().flat_map(|health| &health.backups);
            service.destinations.iter().map(|destination| &destination.spec).chain(backups)
        })
        .map(|spec| (spec.addr.ip(), spec.forwarding == Forwarding::Direct))
        .collect();
    let mut own = Own::default();
    for prefix in &wish.addresses {
        own.add(*prefix);
    }
    let known = !own.all.is_empty();
    if !known {
        for (address, len) in hints {
            let Some(prefix) = Prefix::new(*address, *len) else { continue };
            let sensible = *len > 0 && !is_no_host(*address) && !is_edge(prefix, *address);
            let needed = || {
                vips.iter().chain(targets.iter().map(|(address, _)| address)).any(|it| prefix.contains(*it))
            };
            // A real server is none of the director's addresses.
            let taken = targets.iter().any(|(target, _)| target == address);
            if sensible && !taken && (vips.contains(address) || needed()) {
                own.add(prefix);
            }
        }
    }
    for vip in &vips {
        if own.subnet_of(*vip).is_none_or(|subnet| is_edge(subnet, *vip)) {
            own.add(Prefix::host(*vip));
        }
    }
    let gateways = wish.gateways.clone();
    let around = |address: IpAddr| {
        let around = Prefix::new(address, if address.is_ipv4() { 24 } else { 64 });
        around.map(|around| (around.network(), around.prefix_len()))
    };
    let alone = |address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 });
    // A router is a host on the link, and so are real servers that seem to be in its subnet, or in that of a VIP.
    let near: BTreeSet<(IpAddr, u8)> =
        vips.iter().chain(&gateways).filter_map(|address| around(*address)).collect();
    let mut on_link: BTreeSet<(IpAddr, u8)> = BTreeSet::new();
    for (address, direct) in &targets {
        let routed = !direct
            && gateways.iter().any(|gateway| gateway.is_ipv4() == address.is_ipv4())
            && (known || !around(*address).is_some_and(|around| near.contains(&around)));
        match own.subnet_of(*address) {
            // Of its subnet it is no host, but one it may be all the same.
            Some(subnet) if is_edge(subnet, *address) => {
                on_link.insert(alone(*address));
            }
            Some(_) => {}
            None if routed => {}
            None => on_link.extend(around(*address)),
        }
    }
    for gateway in &gateways {
        let reached = own.subnet_of(*gateway).is_some()
            || around(*gateway).is_some_and(|around| on_link.contains(&around));
        if !reached {
            on_link.insert(alone(*gateway));
        }
    }
    let complete = known && on_link.is_empty();
    let network = Network {
        link: wish.link.clone(),
        bridge: wish.bridge.clone(),
        addresses: own.all,
        gateways,
        on_link: on_link.into_iter().filter_map(|(address, len)| Prefix::new(address, len)).collect(),
    };
    (network, complete)
}

fn vip(key: ServiceKey) -> Option<IpAddr> {
    match key {
        ServiceKey::Address { addr, .. } => Some(addr.ip()),
        ServiceKey::Mark { .. } => None,
    }
}

/// Addresses of the director, and what subnets they make.
#[derive(Default)]
struct Own {
    all: Vec<Prefix>,
    addresses: HashSet<IpAddr>,
    /// Of addresses that are not alone in theirs.
    subnets: Vec<Prefix>,
}

impl Own {
    fn add(&mut self, prefix: Prefix) {
        if self.addresses.insert(prefix.addr()) {
            self.all.push(prefix);
            let alone = if prefix.addr().is_ipv4() { 32 } else { 128 };
            if prefix.prefix_len() < alone
                && !self
                    .subnets
                    .iter()
                    .any(|it| it.network() == prefix.network() && it.prefix_len() == prefix.prefix_len())
            {
                self.subnets.push(prefix);
            }
        }
    }

    /// The smallest that an address is in.
    fn subnet_of(&self, address: IpAddr) -> Option<Prefix> {
        if self.addresses.contains(&address) && !self.subnets.iter().any(|subnet| subnet.contains(address)) {
            return Some(Prefix::host(address));
        }
        let around = self.subnets.iter().filter(|subnet| subnet.contains(address));
        around.max_by_key(|subnet| subnet.prefix_len()).copied()
    }
}
