//! What neighbours say: ARP (RFC 826), and neighbour discovery (RFC 4861), which is to IPv6 what ARP is to IPv4.
//!
//! ```text
//!   solicitation for an address of ours   --> advertisement, to who asked
//!   probe (source ::) for one of ours     --> advertisement, to all nodes: that address is taken
//!   advertisement                         --> the neighbour table; from our own addresses: a conflict
//! ```
//!
//! It works over multicast groups, which snooping switches carry to those only who said that they listen (MLD, RFC
//! 3810): that is said at the start and when somebody asks. Nothing else is taken from groups. Routers are not looked
//! for and no address is made up from their advertisements: the config says both.

use core::net::Ipv6Addr;

use uvs_wire::arp::{ArpRepr, Operation};
use uvs_wire::icmp::{self, v6};
use uvs_wire::mld::{self, MldQuery};
use uvs_wire::ndp::{ALL_NODES, NdpRepr, multicast_mac, solicited_node};
use uvs_wire::{Address, Packet, ethernet};

use crate::base::frame::Frame;
use crate::base::spec::MacAddr;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::messages::{ALL_VRRP, advertisement, arp_frame, discovery_frame, groups_on, report_groups};
use crate::net::neighbor::Claim;
use crate::net::network::is_impossible_source;
use crate::path::placing::place_released;
use crate::scene::Scene;

/// Whether the packet is a solicitation or an advertisement of a neighbour, or asks who listens to groups; well
/// formed or not.
#[inline]
pub(crate) fn is_discovery(ip: &[u8], packet: &Packet) -> bool {
    packet.protocol == icmp::PROTOCOL_V6
        && !packet.is_v4()
        && !packet.is_fragment()
        && matches!(
            ip[usize::from(packet.header_len)],
            v6::NEIGHBOR_SOLICITATION | v6::NEIGHBOR_ADVERTISEMENT | mld::QUERY
        )
}

/// Takes note of a neighbour's address: frames that waited for it leave.
fn learn(scene: &Scene<'_>, lane: &mut Lane, addr: Address, claim: Claim) {
    let (before, key) = (lane.frames().len(), (scene.port, addr));
    scene.tables.neighbors.learn(&scene.snapshot.network, key, claim, scene.now, lane);
    if lane.frames().len() > before {
        place_released(scene, lane, before);
    }
}

/// An ARP message. Answers for our addresses and for nothing else; learns from answers to our questions and from those
/// who ask for us.
#[cold]
pub(crate) fn arp_input(scene: &Scene<'_>, lane: &mut Lane, own: MacAddr, frame: &[u8]) -> Verdict {
    let arp = match ArpRepr::parse(&frame[ethernet::HEADER_LEN..]) {
        Ok(arp) => arp,
        Err(error) => return Verdict::Drop(error.into()),
    };
    let network = &scene.snapshot.network;
    let (sender, target) = (Address::v4(arp.sender_ip), Address::v4(arp.target_ip));
    let sender_mac = MacAddr(arp.sender_mac);
    if network.is_local(sender) {
        // Somebody else claims an address of ours: in direct routing usually a real server that holds the VIP
        // without ARP suppression.
        if sender_mac != own {
            scene.tables.conflicts.note(sender, sender_mac, scene.port);
        }
        return Verdict::Drop(DropReason::ArpIgnored);
    }
    let for_us = network.is_local_on(target, scene.port);
    if !is_impossible_source(sender) {
        let is_request = arp.operation == Operation::Request;
        // Who announces itself is believed at once, as in Linux.
        let announces = sender == target && (is_request || arp.target_mac == arp.sender_mac);
        let claim = Claim { mac: sender_mac, asks_for_us: for_us && is_request, overrides: announces };
        learn(scene, lane, sender, claim);
    }
    match arp.operation {
        Operation::Request if for_us => {
            let reply = ArpRepr {
                operation: Operation::Reply,
                sender_mac: own.0,
                sender_ip: arp.target_ip,
                target_mac: arp.sender_mac,
                target_ip: arp.sender_ip,
            };
            lane.push(scene.port, arp_frame(&reply, sender_mac, own));
            Verdict::Consume
        }
        Operation::Reply if for_us => Verdict::Consume,
        _ => Verdict::Drop(DropReason::ArpIgnored),
    }
}

/// Answers for our addresses and for nothing else; learns from answers to our questions and from those who
/// ask for us.
pub(crate) fn discovery_input(scene: &Scene<'_>, lane: &mut Lane, ip: &[u8], packet: &Packet) -> Verdict {
    let network = &scene.snapshot.network;
    let (Some(own), Some(frame_source)) = (network.mac(scene.port), scene.source_mac) else {
        return Verdict::Drop(DropReason::ArpIgnored);
    };
    if ip[usize::from(packet.header_len)] == mld::QUERY {
        return match MldQuery::parse(ip, packet) {
            Ok(query) => asked_for_groups(scene, lane, own, query),
            Err(error) => Verdict::Drop(error.into()),
        };
    }
    let message = match NdpRepr::parse(ip, packet) {
        Ok(message) => message,
        Err(error) => return Verdict::Drop(error.into()),
    };
    if !packet.src.is_unspecified() && is_impossible_source(packet.src) {
        return Verdict::Drop(DropReason::Martian);
    }
    let (NdpRepr::Solicitation { target, .. } | NdpRepr::Advertisement { target, .. }) = message;
    let to = packet.dst.to_v6();
    let to_us = network.is_local_on(packet.dst, scene.port);
    if !to_us && to != ALL_NODES && to != solicited_node(target) {
        return Verdict::Drop(DropReason::ArpIgnored);
    }
    match message {
        NdpRepr::Solicitation { target, source_mac } => {
            let sender = (packet.src, source_mac.map(MacAddr), frame_source);
            solicited(scene, lane, own, sender, target)
        }
        NdpRepr::Advertisement { target, target_mac, solicited, overrides, .. } => {
            let target = Address::v6(target);
            let claimed = target_mac.map(MacAddr);
            if network.is_local_on(target, scene.port) {
                let claimant = claimed.unwrap_or(frame_source);
                if claimant != own {
                    scene.tables.conflicts.note(target, claimant, scene.port);
                }
                return Verdict::Drop(DropReason::ArpIgnored);
            }
            // Without an address in it, it confirms the one that is known, to who had asked; and without
            // the override flag it replaces none (RFC 4861, 7.2.5).
            let known = scene.tables.neighbors.mac(scene.port, target);
            let mac = match (claimed, known) {
                (Some(claimed), Some(known)) if claimed != known && !overrides => None,
                (None, known) => known.filter(|_| solicited),
                (claimed, _) => claimed,
            };
            if let Some(mac) = mac {
                let claim = Claim { mac, asks_for_us: false, overrides: true };
                learn(scene, lane, target, claim);
            }
            if to_us { Verdict::Consume } else { Verdict::Drop(DropReason::ArpIgnored) }
        }
    }
}

/// A router or switch asks who listens. The answer comes at once: one station's few reports storm nobody.
fn asked_for_groups(scene: &Scene<'_>, lane: &mut Lane, own: MacAddr, query: MldQuery) -> Verdict {
    let network = &scene.snapshot.network;
    let mut groups = groups_on(network, scene.port);
    if scene.tables.adverts.is_heard() {
        groups.push(ALL_VRRP);
    }
    groups.retain(|group| query.group.is_none_or(|asked| asked == *group));
    if groups.is_empty() {
        return Verdict::Drop(DropReason::Multicast);
    }
    if query.is_v1 {
        let Some(&source) = network.link_local(scene.port).first() else {
            return Verdict::Drop(DropReason::Multicast);
        };
        for group in groups {
            let mut bytes = [0; ethernet::HEADER_LEN + mld::REPORT_V1_LEN];
            ethernet::write(&mut bytes, multicast_mac(group), own.0, ethernet::ETHERTYPE_IPV6);
            mld::emit_report_v1(&mut bytes[ethernet::HEADER_LEN..], source.to_v6(), group);
            lane.push(scene.port, Frame::from_bytes(&bytes));
        }
    } else {
        report_groups(network, scene.port, &groups, false, lane);
    }
    Verdict::Consume
}

/// Somebody asks for `target`. `sender`: its address, its MAC address as it says, and as the frame says.
fn solicited(
    scene: &Scene<'_>,
    lane: &mut Lane,
    own: MacAddr,
    (sender, said, frame_source): (Address, Option<MacAddr>, MacAddr),
    target: Ipv6Addr,
) -> Verdict {
    let network = &scene.snapshot.network;
    if network.is_local_on(sender, scene.port) || network.is_local(sender) {
        // In direct routing usually a real server that holds the VIP and asks for others with it.
        let claimant = said.unwrap_or(frame_source);
        if claimant != own {
            scene.tables.conflicts.note(sender, claimant, scene.port);
        }
        return Verdict::Drop(DropReason::ArpIgnored);
    }
    let for_us = network.is_local_on(Address::v6(target), scene.port);
    if let Some(mac) = said {
        let claim = Claim { mac, asks_for_us: for_us, overrides: true };
        learn(scene, lane, sender, claim);
    }
    if !for_us {
        return Verdict::Drop(DropReason::ArpIgnored);
    }
    let probe = sender.is_unspecified();
    let answer = advertisement(target, own, !probe);
    let to = if probe { ALL_NODES } else { sender.to_v6() };
    let to_mac = if probe { MacAddr(multicast_mac(ALL_NODES)) } else { said.unwrap_or(frame_source) };
    lane.push(scene.port, discovery_frame(&answer, (target, own), (to, to_mac)));
    Verdict::Consume
}
