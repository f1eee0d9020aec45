//! ARP, neighbour discovery and group membership: the frames that the director sends.

use core::net::{IpAddr, Ipv6Addr};

use uvs_wire::arp::{ArpRepr, Operation};
use uvs_wire::mld;
use uvs_wire::ndp::{self, ALL_NODES, NdpRepr, multicast_mac, solicited_node};
use uvs_wire::{Address, ethernet};

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::spec::{Link, MacAddr};
use crate::net::lane::Lane;
use crate::net::network::Network;

/// The group of all VRRP routers (RFC 9568, 5.1.2.2).
pub(crate) const ALL_VRRP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// Announces our addresses and VIPs (gratuitous ARP, RFC 5227; unsolicited advertisements, RFC 4861) on every layer 2
/// interface, so that caches that hold another owner's MAC address are corrected.
pub(crate) fn announce(network: &Network, out: &mut Lane) {
    for interface in network.interfaces() {
        let Link::Ethernet(own) = interface.link else { continue };
        join_groups(network, interface.port, out);
        for addr in network.addresses_on(interface.port) {
            announce_one(interface.port, addr, own, out);
        }
    }
}

/// The same of these addresses alone, as far as they are ours.
pub(crate) fn announce_some(network: &Network, addresses: &[IpAddr], out: &mut Lane) {
    for interface in network.interfaces() {
        let Link::Ethernet(own) = interface.link else { continue };
        let is_wanted = |addr: &Address| addresses.contains(&addr.to_ip());
        let wanted: Vec<Address> = network.addresses_on(interface.port).filter(is_wanted).collect();
        if wanted.iter().any(|addr| !addr.is_v4()) {
            join_groups(network, interface.port, out);
        }
        wanted.into_iter().for_each(|addr| announce_one(interface.port, addr, own, out));
    }
}

fn announce_one(port: PortId, addr: Address, own: MacAddr, out: &mut Lane) {
    let Some(addr) = addr.to_v4() else { return announce_v6(port, addr.to_v6(), own, out) };
    let repr = ArpRepr {
        operation: Operation::Request,
        sender_mac: own.0,
        sender_ip: addr,
        target_mac: [0; 6],
        target_ip: addr,
    };
    out.push(port, arp_frame(&repr, MacAddr::BROADCAST, own));
}

/// A whole ARP frame.
pub(crate) fn arp_frame(repr: &ArpRepr, to: MacAddr, from: MacAddr) -> Frame {
    let mut bytes = [0; ethernet::HEADER_LEN + 28];
    ethernet::write(&mut bytes, to.0, from.0, ethernet::ETHERTYPE_ARP);
    repr.emit(&mut bytes[ethernet::HEADER_LEN..]);
    Frame::from_bytes(&bytes)
}

/// Asks who has `addr` on that link: at `known` if its MAC address was known, else everybody.
pub(crate) fn ask(
    network: &Network,
    (port, addr): (PortId, Address),
    known: Option<MacAddr>,
    out: &mut Lane,
) {
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

/// The groups that questions for our addresses on that link go to.
pub(crate) fn groups_on(network: &Network, port: PortId) -> Vec<Ipv6Addr> {
    let own = network.addresses_on(port).filter(|addr| !addr.is_v4());
    let mut groups: Vec<Ipv6Addr> = own.map(|addr| solicited_node(addr.to_v6())).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Says that we listen to those groups. `changed`: from now on.
pub(crate) fn report_groups(
    network: &Network,
    port: PortId,
    groups: &[Ipv6Addr],
    changed: bool,
    out: &mut Lane,
) {
    let (Some(own), Some(source)) = (network.mac(port), network.link_local(port).first()) else { return };
    for groups in groups.chunks(mld::RECORDS_MAX) {
        let mut bytes = [0; ethernet::HEADER_LEN + mld::REPORT_V2_LEN];
        let to = multicast_mac(mld::ALL_MLD_V2_ROUTERS);
        ethernet::write(&mut bytes, to, own.0, ethernet::ETHERTYPE_IPV6);
        let packet = &mut bytes[ethernet::HEADER_LEN..];
        let len = mld::emit_report_v2(packet, source.to_v6(), groups, changed);
        out.push(port, Frame::from_bytes(&bytes[..ethernet::HEADER_LEN + len]));
    }
}

/// Says that we listen for questions about our addresses on that link.
fn join_groups(network: &Network, port: PortId, out: &mut Lane) {
    report_groups(network, port, &groups_on(network, port), true, out);
}

/// Says that we listen to other VRRP routers, on each link with IPv6.
pub(crate) fn join_vrrp(network: &Network, out: &mut Lane) {
    for interface in network.interfaces() {
        report_groups(network, interface.port, &[ALL_VRRP], true, out);
    }
}

/// Tells everybody on the link that `addr` is at `own` (RFC 4861, 7.2.6).
fn announce_v6(port: PortId, addr: Ipv6Addr, own: MacAddr, out: &mut Lane) {
    let message = advertisement(addr, own, false);
    let to = (ALL_NODES, MacAddr(multicast_mac(ALL_NODES)));
    out.push(port, discovery_frame(&message, (addr, own), to));
}

/// Asks for `target`: at `known` if its MAC address was known, else everybody it may be.
fn solicit(network: &Network, port: PortId, target: Ipv6Addr, known: Option<MacAddr>, out: &mut Lane) {
    // From a link-local address, as the kernel does: the answer then comes over this link, whatever routes its
    // sender has.
    let source = network.link_local(port).first().copied();
    let source = source.or_else(|| network.source_for(port, Address::v6(target)));
    let (Some(own), Some(source)) = (network.mac(port), source) else { return };
    let message = NdpRepr::Solicitation { target, source_mac: Some(own.0) };
    let to = match known {
        Some(mac) => (target, mac),
        None => {
            let group = solicited_node(target);
            (group, MacAddr(multicast_mac(group)))
        }
    };
    out.push(port, discovery_frame(&message, (source.to_v6(), own), to));
}

/// What we say of an address of ours. A director forwards packets of others: it is a router.
pub(crate) fn advertisement(target: Ipv6Addr, own: MacAddr, solicited: bool) -> NdpRepr {
    NdpRepr::Advertisement { target, target_mac: Some(own.0), router: true, solicited, overrides: true }
}

/// A whole frame of neighbour discovery.
pub(crate) fn discovery_frame(
    message: &NdpRepr,
    from: (Ipv6Addr, MacAddr),
    to: (Ipv6Addr, MacAddr),
) -> Frame {
    let mut bytes = [0; ethernet::HEADER_LEN + ndp::LEN];
    ethernet::write(&mut bytes, to.1.0, from.1.0, ethernet::ETHERTYPE_IPV6);
    let len = message.emit(&mut bytes[ethernet::HEADER_LEN..], from.0, to.0);
    Frame::from_bytes(&bytes[..ethernet::HEADER_LEN + len])
}
