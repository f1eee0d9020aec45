//! Neighbour discovery (RFC 4861): what ARP is to IPv4, for IPv6.
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

use uvs_wire::icmp::v6;
use uvs_wire::mld::{self, MldQuery};
use uvs_wire::ndp::{self, ALL_NODES, NdpRepr, multicast_mac, solicited_node};
use uvs_wire::{Address, Packet, ethernet};

use crate::base::frame::{Frame, Outbox, PortId};
use crate::base::spec::MacAddr;
use crate::base::verdict::{DropReason, Verdict};
use crate::director::{Director, Scene};
use crate::net::neighbor::Claim;
use crate::net::network::{Network, is_impossible_source};
use crate::path::input::ICMPV6;

/// Whether the packet is a solicitation or an advertisement of a neighbour, or asks who listens to groups; well
/// formed or not.
#[inline]
pub(crate) fn is_discovery(ip: &[u8], packet: &Packet) -> bool {
    packet.protocol == ICMPV6
        && !packet.is_v4()
        && !packet.is_fragment()
        && matches!(
            ip[usize::from(packet.header_len)],
            v6::NEIGHBOR_SOLICITATION | v6::NEIGHBOR_ADVERTISEMENT | mld::QUERY
        )
}

impl Director {
    /// Answers for our addresses and for nothing else; learns from answers to our questions and from those who
    /// ask for us.
    pub(crate) fn discovery_input(&self, scene: &mut Scene<'_>, ip: &[u8], packet: &Packet) -> Verdict {
        let network = &scene.snapshot.network;
        let (Some(own), Some(frame_source)) = (network.mac(scene.port), scene.source_mac) else {
            return Verdict::Drop(DropReason::ArpIgnored);
        };
        if ip[usize::from(packet.header_len)] == mld::QUERY {
            return match MldQuery::parse(ip, packet) {
                Ok(query) => self.asked_for_groups(scene, own, query),
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
                self.solicited(scene, own, sender, target)
            }
            NdpRepr::Advertisement { target, target_mac, solicited, overrides, .. } => {
                let target = Address::v6(target);
                let claimed = target_mac.map(MacAddr);
                if network.is_local_on(target, scene.port) {
                    let claimant = claimed.unwrap_or(frame_source);
                    if claimant != own {
                        self.note_conflict(scene, target, claimant);
                    }
                    return Verdict::Drop(DropReason::ArpIgnored);
                }
                // Without an address in it, it confirms the one that is known, to who had asked; and without
                // the override flag it replaces none (RFC 4861, 7.2.5).
                let known = self.neighbors.mac(scene.port, target);
                let mac = match (claimed, known) {
                    (Some(claimed), Some(known)) if claimed != known && !overrides => None,
                    (None, known) => known.filter(|_| solicited),
                    (claimed, _) => claimed,
                };
                if let Some(mac) = mac {
                    let claim = Claim { mac, asks_for_us: false, overrides: true };
                    self.neighbors.learn(network, (scene.port, target), claim, scene.now, scene.out);
                }
                if to_us { Verdict::Consume } else { Verdict::Drop(DropReason::ArpIgnored) }
            }
        }
    }

    /// A router or switch asks who listens. The answer comes at once: one station's few reports storm nobody.
    fn asked_for_groups(&self, scene: &mut Scene<'_>, own: MacAddr, query: MldQuery) -> Verdict {
        let network = &scene.snapshot.network;
        let mut groups = groups_on(network, scene.port);
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
                scene.out.push(scene.port, Frame::from_bytes(&bytes));
            }
        } else {
            report_groups(network, scene.port, &groups, false, scene.out);
        }
        Verdict::Consume
    }

    /// Somebody asks for `target`. `sender`: its address, its MAC address as it says, and as the frame says.
    fn solicited(
        &self,
        scene: &mut Scene<'_>,
        own: MacAddr,
        (sender, said, frame_source): (Address, Option<MacAddr>, MacAddr),
        target: Ipv6Addr,
    ) -> Verdict {
        let network = &scene.snapshot.network;
        if network.is_local_on(sender, scene.port) || network.is_local(sender) {
            // In direct routing usually a real server that holds the VIP and asks for others with it.
            let claimant = said.unwrap_or(frame_source);
            if claimant != own {
                self.note_conflict(scene, sender, claimant);
            }
            return Verdict::Drop(DropReason::ArpIgnored);
        }
        let for_us = network.is_local_on(Address::v6(target), scene.port);
        if let Some(mac) = said {
            let claim = Claim { mac, asks_for_us: for_us, overrides: true };
            self.neighbors.learn(network, (scene.port, sender), claim, scene.now, scene.out);
        }
        if !for_us {
            return Verdict::Drop(DropReason::ArpIgnored);
        }
        let probe = sender.is_unspecified();
        let answer = advertisement(target, own, !probe);
        let to = if probe { ALL_NODES } else { sender.to_v6() };
        let to_mac = if probe { MacAddr(multicast_mac(ALL_NODES)) } else { said.unwrap_or(frame_source) };
        scene.out.push(scene.port, discovery_frame(&answer, (target, own), (to, to_mac)));
        Verdict::Consume
    }
}

/// The groups that questions for our addresses on that link go to.
fn groups_on(network: &Network, port: PortId) -> Vec<Ipv6Addr> {
    let own = network.addresses_on(port).filter(|addr| !addr.is_v4());
    let mut groups: Vec<Ipv6Addr> = own.map(|addr| solicited_node(addr.to_v6())).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Says that we listen to those groups. `changed`: from now on.
fn report_groups(network: &Network, port: PortId, groups: &[Ipv6Addr], changed: bool, out: &mut Outbox) {
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
pub(crate) fn join_groups(network: &Network, port: PortId, out: &mut Outbox) {
    report_groups(network, port, &groups_on(network, port), true, out);
}

/// Tells everybody on the link that `addr` is at `own` (RFC 4861, 7.2.6).
pub(crate) fn announce_v6(port: PortId, addr: Ipv6Addr, own: MacAddr, out: &mut Outbox) {
    let message = advertisement(addr, own, false);
    let to = (ALL_NODES, MacAddr(multicast_mac(ALL_NODES)));
    out.push(port, discovery_frame(&message, (addr, own), to));
}

/// Asks for `target`: at `known` if its MAC address was known, else everybody it may be.
pub(crate) fn solicit(
    network: &Network,
    port: PortId,
    target: Ipv6Addr,
    known: Option<MacAddr>,
    out: &mut Outbox,
) {
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
fn advertisement(target: Ipv6Addr, own: MacAddr, solicited: bool) -> NdpRepr {
    NdpRepr::Advertisement { target, target_mac: Some(own.0), router: true, solicited, overrides: true }
}

/// A whole frame.
fn discovery_frame(message: &NdpRepr, from: (Ipv6Addr, MacAddr), to: (Ipv6Addr, MacAddr)) -> Frame {
    let mut bytes = [0; ethernet::HEADER_LEN + ndp::LEN];
    ethernet::write(&mut bytes, to.1.0, from.1.0, ethernet::ETHERTYPE_IPV6);
    let len = message.emit(&mut bytes[ethernet::HEADER_LEN..], from.0, to.0);
    Frame::from_bytes(&bytes[..ethernet::HEADER_LEN + len])
}
