//! The first stage: from a frame to what it is about.
//!
//! ```text
//!   Ethernet > ARP?  > IP header, options > ND? > source, target > fragments > marks > Class
//!              `-------------------------------`- end here; so do pings, and what nobody takes
//! ```

use uvs_wire::{Packet, ethernet, icmp, ipv4, ipv6};

use crate::base::frame::{FRAME_MAX, Frame};
use crate::base::spec::{Family, Link, MacAddr, Protocol};
use crate::base::verdict::{DropReason, Verdict};
use crate::flow_cache::{FlowKey, Passed};
use crate::net::lane::Lane;
use crate::net::network::{Owner, is_impossible_source};
use crate::path::adverts::{group_input, heard};
use crate::path::discovery::{arp_input, discovery_input, is_discovery};
use crate::path::gather::gather;
use crate::path::icmp::is_icmp;
use crate::path::ip_options::{self, Options};
use crate::path::local_in::from_own_address;
use crate::path::marks::mark_of;
use crate::path::node::{icmp_to_us, to_host};
use crate::path::report::{Report, report};
use crate::scene::Scene;

/// What a packet is about.
pub(crate) enum Class {
    /// A request: of a balanced protocol, to an address of ours or by its mark.
    Request(Protocol),
    /// It goes where a connection does, and is no part of it: an ICMP error to an address of ours, or a request that
    /// ends within its transport header.
    Aside,
    /// A packet for somebody else: a destination's reply, an ICMP error about a request, or plain routing.
    Transit,
}

/// Says what a frame is about, which holds an IP packet from then on, and finishes the scene: who sent it, and its
/// mark.
///
/// # Errors
/// It goes no further: it was dropped, or it was for the director itself.
#[inline(always)]
pub(crate) fn classify(
    scene: &mut Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
) -> Result<Class, Verdict> {
    let snapshot = scene.snapshot;
    let network = &*snapshot.network;
    let Some(interface) = network.interface(scene.port) else {
        return Err(Verdict::Drop(DropReason::UnknownPort));
    };
    if frame.len() > FRAME_MAX {
        return Err(Verdict::Drop(DropReason::Oversized));
    }
    let is_group = match interface.link {
        Link::Ethernet(mac) => strip_ethernet(scene, lane, mac, frame)?,
        Link::Ip => false,
    };
    parse(scene, lane, frame, packet)?;
    if is_impossible_source(packet.src)
        || network.owner(packet.src, scene.port) != Owner::Other
        || !packet.dst.is_ordinary() && (packet.dst.is_loopback() || packet.dst.is_unspecified())
    {
        return Err(from_own_address(scene, lane, frame, *packet, is_group));
    }
    if !network.admits(packet.src, scene.port) {
        return Err(spoofed(scene, lane, frame, *packet));
    }
    let owner = network.owner(packet.dst, scene.port);
    if is_group || owner == Owner::Broadcast || !packet.dst.is_ordinary() && packet.dst.is_multicast() {
        return Err(group_input(scene, frame, packet));
    }
    if packet.is_fragment() {
        *packet = gather(scene, lane, frame, *packet)?;
    }
    if !snapshot.marks.is_empty() {
        scene.mark = mark_of(&snapshot.marks, scene.port, scene.source_mac, packet);
    }
    if owner == Owner::Local || scene.mark != 0 && snapshot.services.has_mark(scene.mark, family_of(packet)) {
        to_us(scene, lane, frame, packet)
    } else {
        Ok(Class::Transit)
    }
}

/// A packet whose source belongs to another link, unless that is a VIP that another director answers for: a real server
/// answers our checks from it by direct routing or a tunnel.
#[cold]
fn spoofed(scene: &Scene<'_>, lane: &mut Lane, frame: &mut Frame, packet: Packet) -> Verdict {
    match from_own_address(scene, lane, frame, packet, false) {
        Verdict::Drop(DropReason::Martian) => Verdict::Drop(DropReason::SpoofedSource),
        verdict => verdict,
    }
}

/// Takes the Ethernet header off an IP packet. Whether its frame went to a group of stations.
#[inline(always)]
fn strip_ethernet(
    scene: &mut Scene<'_>,
    lane: &mut Lane,
    own: MacAddr,
    frame: &mut Frame,
) -> Result<bool, Verdict> {
    if frame.len() < ethernet::HEADER_LEN {
        return Err(Verdict::Drop(DropReason::Truncated));
    }
    let to = MacAddr(ethernet::destination(frame.bytes()));
    if to != own && !to.is_multicast() {
        return Err(Verdict::Drop(DropReason::NotForUs));
    }
    scene.source_mac = Some(MacAddr(ethernet::source(frame.bytes())));
    if scene.tables.flows.is_some() {
        scene.ticket = frame.take_tag();
    }
    match ethernet::ethertype(frame.bytes()) {
        ethernet::ETHERTYPE_IPV4 | ethernet::ETHERTYPE_IPV6 => {
            frame.strip_front(ethernet::HEADER_LEN);
            Ok(to.is_multicast())
        }
        ethernet::ETHERTYPE_ARP => Err(arp_input(scene, lane, own, frame.bytes())),
        _ => Err(Verdict::Drop(DropReason::UnknownEtherType)),
    }
}

/// Parses an IP packet, once for all that follows, and checks its header. Neighbour discovery ends here.
#[inline(always)]
fn parse(
    scene: &mut Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
) -> Result<(), Verdict> {
    let ip = frame.bytes();
    packet.read(ip).map_err(|error| Verdict::Drop(error.into()))?;
    let is_sound = !packet.is_v4() || ipv4::header_checksum_ok(ip);
    frame.truncate(packet.total_len as usize);
    if let Some(ticket) = scene.ticket {
        scene.passed = Some(Passed {
            key: FlowKey {
                protocol: packet.protocol,
                source: (packet.src, packet.src_port),
                destination: (packet.dst, packet.dst_port),
            },
            ticket,
            frames: 1,
            is_whole: frame.offload.gso_type != 0,
        });
    }
    if !is_sound {
        return Err(Verdict::Drop(DropReason::BadChecksum));
    }
    if packet.has_options() {
        check_options(scene, lane, frame, packet)?;
    }
    if packet.protocol == icmp::PROTOCOL_V6 && is_discovery(frame.bytes(), packet) {
        return Err(discovery_input(scene, lane, frame.bytes(), packet));
    }
    Ok(())
}

/// Looks through the options of IPv4.
#[cold]
fn check_options(scene: &Scene<'_>, lane: &mut Lane, frame: &Frame, packet: &Packet) -> Result<(), Verdict> {
    match ip_options::check(frame.bytes(), packet) {
        Options::Fine => Ok(()),
        Options::SourceRoute => Err(Verdict::Drop(DropReason::SourceRoute)),
        Options::Bad(pointer) => {
            report(scene, lane, frame.bytes(), packet, Report::BadOption(pointer));
            Err(Verdict::Drop(DropReason::Malformed))
        }
    }
}

fn family_of(packet: &Packet) -> Family {
    if packet.is_v4() { Family::V4 } else { Family::V6 }
}

/// A packet to an address of ours: an ICMP error, a request, or one for the director as a host, whose answer ends it.
#[inline(always)]
fn to_us(scene: &Scene<'_>, lane: &mut Lane, frame: &mut Frame, packet: &Packet) -> Result<Class, Verdict> {
    if packet.has_options()
        && !packet.is_v4()
        && let Some(field) = ipv6::waypoint_field(frame.bytes(), packet)
    {
        report(scene, lane, frame.bytes(), packet, Report::NoWaypoint { field });
        return Err(Verdict::Drop(DropReason::NotHandled));
    }
    if packet.is_fragment() {
        // By its mark, but nobody was there to gather it.
        return Err(Verdict::Drop(DropReason::Fragment));
    }
    if packet.has_options() {
        ip_options::record_route(frame.bytes_mut(), packet, packet.dst);
    }
    match Protocol::from_number(packet.protocol) {
        Some(protocol) => Ok(Class::Request(protocol)),
        None => other_to_us(scene, lane, frame, packet),
    }
}

/// The same of a protocol that is not balanced.
#[cold]
fn other_to_us(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &Packet,
) -> Result<Class, Verdict> {
    if let Some(verdict) = heard(scene, frame, packet) {
        return Err(verdict);
    }
    if !is_icmp(packet) {
        return Err(to_host(scene, lane, frame, packet));
    }
    if icmp::is_error(packet.protocol, frame.bytes()[usize::from(packet.header_len)]) {
        return Ok(Class::Aside);
    }
    Err(icmp_to_us(scene, lane, frame, packet))
}
