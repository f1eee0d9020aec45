//! The `[[interface]]` and `[[route]]` of what comes out: neither keepalived.conf nor rules of ipvsadm have them, since
//! there the kernel does the routing.

use core::net::IpAddr;
use std::collections::{BTreeSet, HashMap, HashSet};

use uvs_director::spec::{Forwarding, Prefix, ServiceKey};

use crate::model::Hint;
use crate::output::{Arm, Attached, Network, Service};

/// What whoever runs the import says of the network.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The director's own addresses with the lengths of their subnets.
    pub addresses: Vec<Prefix>,
    /// Of each family the router to all else.
    pub gateways: Vec<IpAddr>,
    /// What the interfaces are connected to: one of all networks, or one of each.
    pub arms: Vec<ArmWish>,
}

/// One of the director's interfaces.
#[derive(Clone, Debug)]
pub struct ArmWish {
    /// The network card or the bridge.
    pub attached: Attached,
    /// The network behind it; without one the first has the clients', the last the real servers'.
    pub subnet: Option<Prefix>,
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
pub(crate) fn plan(services: &[Service], wish: &Wish, hints: &[Hint]) -> (Network, bool) {
    let vips: BTreeSet<IpAddr> = services.iter().filter_map(|service| vip(service.spec.key)).collect();
    let targets: BTreeSet<(IpAddr, Forwarded)> = services
        .iter()
        .flat_map(|service| {
            let backups = service.health.iter().flat_map(|health| &health.backups);
            service.destinations.iter().map(|destination| &destination.spec).chain(backups)
        })
        .map(|spec| (spec.addr.ip(), Forwarded::of(spec.forwarding)))
        .collect();
    let mut own = Own::default();
    for prefix in &wish.addresses {
        own.add(*prefix);
    }
    let known = !own.all.is_empty();
    if !known {
        for Hint { address, len, device } in hints {
            let Some(prefix) = Prefix::new(*address, *len) else { continue };
            let sensible = *len > 0 && !is_no_host(*address) && !is_edge(prefix, *address);
            let needed = || {
                vips.iter().chain(targets.iter().map(|(address, _)| address)).any(|it| prefix.contains(*it))
            };
            // A real server is none of the director's addresses.
            let taken = targets.iter().any(|(target, _)| target == address);
            if sensible && !taken && (vips.contains(address) || needed()) {
                own.add(prefix);
                if let Some(device) = device {
                    own.devices.entry(*address).or_insert_with(|| device.clone());
                }
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
    for (address, forwarded) in &targets {
        let routed = *forwarded != Forwarded::Direct
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
    let on_link: Vec<Prefix> =
        on_link.into_iter().filter_map(|(address, len)| Prefix::new(address, len)).collect();
    let back = |prefix: Prefix| {
        let behind_nat =
            |(address, how): &(IpAddr, Forwarded)| *how == Forwarded::Nat && prefix.contains(*address);
        let in_front = vips.iter().chain(&gateways).any(|address| prefix.contains(*address))
            || targets.iter().any(|(address, how)| *how != Forwarded::Nat && prefix.contains(*address));
        !in_front && targets.iter().any(behind_nat)
    };
    let arms = arms(own, on_link, wish, &back);
    (Network { arms, gateways }, complete)
}

/// How a real server is reached, as far as it says where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Forwarded {
    /// It is a station on the link.
    Direct,
    /// Its answers come back.
    Nat,
    /// It may be anywhere.
    Tunnel,
}

impl Forwarded {
    const fn of(forwarding: Forwarding) -> Self {
        match forwarding {
            Forwarding::Direct => Self::Direct,
            Forwarding::Nat => Self::Nat,
            Forwarding::Tunnel(_) => Self::Tunnel,
        }
    }
}

/// The interfaces with their addresses: as many as are named, or else one, or one for clients and one for real servers
/// where these are in subnets of their own. `back`: whether only real servers are in a subnet, and answer by the
/// director.
fn arms(own: Own, on_link: Vec<Prefix>, wish: &Wish, back: &dyn Fn(Prefix) -> bool) -> Vec<Arm> {
    if own.all.is_empty() {
        return Vec::new();
    }
    let devices: BTreeSet<&String> = own.devices.values().collect();
    let behind = own.subnets.iter().filter(|subnet| back(**subnet)).count();
    let count = match wish.arms.len() {
        // Those that one device has are on one network.
        0 if behind > 0 && behind < own.subnets.len() && devices.len() != 1 => 2,
        0 => 1,
        count => count,
    };
    let mut arms: Vec<Arm> = (0..count)
        .map(|number| {
            let attached = wish.arms.get(number).map(|arm| arm.attached.clone());
            Arm { attached, ..Arm::default() }
        })
        .collect();
    let place = |prefix: Prefix, device: Option<&String>| {
        let says = |arm: &ArmWish| arm.subnet.is_some_and(|subnet| subnet.contains(prefix.addr()));
        let is_its = |arm: &ArmWish| device.is_some_and(|device| device == arm.attached.name());
        let named = wish.arms.iter().position(says).or_else(|| wish.arms.iter().position(is_its));
        named.unwrap_or(if back(prefix) { count - 1 } else { 0 })
    };
    for prefix in &own.all {
        arms[place(*prefix, own.devices.get(&prefix.addr()))].addresses.push(*prefix);
    }
    for prefix in on_link {
        arms[place(prefix, None)].on_link.push(prefix);
    }
    // An interface without an address speaks to nobody: what seems to be there is sought on the first.
    let (mut arms, idle): (Vec<Arm>, Vec<Arm>) = arms.into_iter().partition(|arm| !arm.addresses.is_empty());
    arms[0].on_link.extend(idle.into_iter().flat_map(|arm| arm.on_link));
    arms
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
    /// Where they are, of those of which it is said.
    devices: HashMap<IpAddr, String>,
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
