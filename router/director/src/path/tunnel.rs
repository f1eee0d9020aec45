//! Tunnelling: a request goes to its destination inside another packet.
//!
//! ```text
//!   IPIP  | IPv4 or IPv6 |                               | packet to the VIP |
//!   GUE   | IPv4 or IPv6 | UDP | GUE, remote checksum     | packet to the VIP |
//!   GRE   | IPv4 or IPv6 | GRE, checksum                  | packet to the VIP |
//! ```
//!
//! TTL and TOS (but for ECN) of the outer header are those of the inner one, and so is "don't fragment" where both are
//! IPv4. An ICMP error about such a packet comes to the director, and the client is told in the words of what it sent.

use core::hash::BuildHasher;
use core::sync::atomic::Ordering::Relaxed;

use foldhash::fast::FixedState;
use uvs_wire::icmp::{self, v4, v6};
use uvs_wire::ipv4::{self, Ipv4Repr};
use uvs_wire::ipv6::{self, Ipv6Repr};
use uvs_wire::{Address, Packet, ethernet, gre, gue, tcp, udp, vnet};

use crate::base::frame::{Frame, Offload};
use crate::base::spec::{Forwarding, Tunnel, TunnelChecksum};
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::network::Hop;
use crate::path::output::{Sender, output, output_each, wire_len};
use crate::path::report::{Report, check_mtu, count_report, report_quoted, see_error};
use crate::scene::Scene;
use crate::track::connection::RequestKey;

/// No link has a smaller MTU (RFC 791).
const SMALLEST_MTU: u32 = 68;
/// An IPv6 packet of this size is never refused: the tunnel packet is fragmented instead (RFC 2473 section 7.1).
const SMALLEST_MTU_V6: u32 = 1280;
/// UDP source ports of GUE tell flows apart (RFC 7510 section 3.1 for the idea); the range is Linux's for local ports.
const SOURCE_PORTS: core::ops::RangeInclusive<u16> = 32768..=60999;

/// One way into a tunnel.
struct Way<'a> {
    tunnel: Tunnel,
    src: Address,
    dst: Address,
    hop: &'a Hop,
}

impl Way<'_> {
    fn outer_len(&self) -> usize {
        if self.dst.is_v4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN }
    }
}

/// What an ICMP error says about a packet that we put into a tunnel.
pub(crate) struct Tunnelled {
    /// Where in the quote the client's packet is.
    pub(crate) offset: usize,
    pub(crate) inner: Packet,
    /// Whether a packet went to the destination since it was edited last.
    has_route: bool,
}

/// Length of what stands between the outer IP header and the packet.
fn shim_len(tunnel: Tunnel, remote_checksum: bool) -> usize {
    match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gue { .. } => {
            let option = if remote_checksum { gue::REMOTE_CHECKSUM_LEN } else { 0 };
            udp::HEADER_LEN + gue::HEADER_LEN + option
        }
        Tunnel::Gre { checksum } => gre::header_len(checksum),
    }
}

/// For remote checksum offload: where the sum of an incomplete checksum starts, and where it goes to.
fn remote_checksum(tunnel: Tunnel, frame: &Frame, packet: &Packet) -> Option<(u16, u16)> {
    let Tunnel::Gue { checksum: TunnelChecksum::Remote, .. } = tunnel else { return None };
    let field = match packet.protocol {
        tcp::PROTOCOL => 16,
        udp::PROTOCOL => 6,
        _ => return None,
    };
    let asked = frame.offload.needs_checksum && frame.offload.gso_type == 0 && packet.has_ports();
    asked.then_some((packet.header_len, packet.header_len + field))
}

/// The IP protocol number of a packet in a packet.
fn protocol_of(packet: &Packet) -> u8 {
    if packet.is_v4() { ipv4::PROTOCOL_IPIP } else { ipv6::PROTOCOL_IPV6 }
}

/// TOS of the outer header: of a packet that met congestion, that none was met yet on this way (RFC 3168 section
/// 9.1.1, "full functionality").
fn outer_tos(tos: u8) -> u8 {
    if tos & 3 == 3 { tos & !1 } else { tos }
}

fn source_port(packet: &Packet) -> u16 {
    let flow = (packet.src, packet.dst, packet.src_port, packet.dst_port, packet.protocol);
    let span = u64::from(SOURCE_PORTS.end() - SOURCE_PORTS.start()) + 1;
    let offset = FixedState::default().hash_one(flow) % span;
    SOURCE_PORTS.start() + u16::try_from(offset).expect("less than the number of ports")
}

/// Puts a packet into another one to the destination, to go to that hop then, whose MTU becomes that of the path.
///
/// # Errors
/// It was dropped, or it was a GSO packet whose packets have left one by one.
pub(crate) fn encapsulate(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &Packet,
    to: Address,
    hop: &mut Hop,
    tunnel: Tunnel,
) -> Result<(), Verdict> {
    let Some(src) = hop.source else {
        return Err(Verdict::Drop(DropReason::NoRoute));
    };
    hop.mtu = scene.tables.path_mtus.of(to, hop.mtu, scene.now);
    let way = &Way { tunnel, src, dst: to, hop };
    let options = &scene.snapshot.options;
    let remote = remote_checksum(tunnel, frame, packet);
    let overhead = way.outer_len() + shim_len(tunnel, remote.is_some());
    let overhead = u32::try_from(overhead).expect("headers are short");
    let least = if options.compat_ipvs && !to.is_v4() { SMALLEST_MTU_V6 } else { SMALLEST_MTU };
    let Some(mut room) = hop.mtu.checked_sub(overhead).filter(|room| *room >= least) else {
        return Err(Verdict::Drop(DropReason::FragmentationNeeded));
    };
    if !packet.is_v4() && !options.compat_ipvs {
        room = room.max(SMALLEST_MTU_V6);
    }
    let honour_df = options.pmtu_disc;
    if honour_df || !packet.is_v4() {
        check_mtu(scene, lane, frame, packet, room)?;
    }
    match frame.offload.gso_type & !vnet::GSO_ECN {
        vnet::GSO_NONE => encapsulate_one(scene, frame, packet, way, remote)?,
        // One datagram, to be fragmented by IP.
        vnet::GSO_UDP => {
            frame.offload.gso_type = vnet::GSO_NONE;
            encapsulate_one(scene, frame, packet, way, None)?
        }
        _ if frame.offload.inner_start == 0 && wire_len(frame, packet) + overhead <= hop.mtu => {
            encapsulate_whole(scene, frame, packet, way)?
        }
        _ => return Err(encapsulate_each(scene, lane, frame, way)),
    }
    Ok(())
}

/// The longest packet that fits into that tunnel, as [`encapsulate`] sees it.
pub(crate) fn room_in_tunnel(scene: &Scene<'_>, to: Address, hop: &Hop, tunnel: Tunnel, is_v4: bool) -> u32 {
    let mtu = scene.tables.path_mtus.of(to, hop.mtu, scene.now);
    let outer = if to.is_v4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    let overhead = u32::try_from(outer + shim_len(tunnel, false)).expect("headers are short");
    let room = mtu.saturating_sub(overhead);
    if is_v4 || scene.snapshot.options.compat_ipvs { room } else { room.max(SMALLEST_MTU_V6) }
}

/// Puts the headers of the tunnel in front of a GSO packet, once for all its packets: whoever cuts it gives them to
/// each (see [`Frame::cut`]), with lengths and checksums of its own.
fn encapsulate_whole(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &Packet,
    way: &Way<'_>,
) -> Result<(), Verdict> {
    let count = u32::try_from(frame.packets()).unwrap_or(u32::MAX);
    let (outer_len, shim_len) = (way.outer_len(), shim_len(way.tunnel, false));
    if !frame.grow_front(outer_len + shim_len) {
        return Err(Verdict::Drop(DropReason::Oversized));
    }
    let inner_start = u16::try_from(outer_len + shim_len).expect("headers are short");
    frame.offload.inner_start = inner_start;
    let shim = &mut frame.bytes_mut()[outer_len..outer_len + shim_len];
    let protocol = emit_shim(shim, packet, way, None);
    let dont_fragment = outer_dont_fragment(scene, packet);
    let id = if dont_fragment { 0 } else { scene.tables.next_ip_id.fetch_add(count, Relaxed) };
    // The lengths of the whole, for a device that takes such a packet. There may be more than they can say.
    let told = u16::try_from(frame.len() - outer_len).ok();
    let told =
        told.filter(|told| usize::from(*told) + ipv4::HEADER_LEN <= usize::from(u16::MAX)).unwrap_or(0);
    if protocol == udp::PROTOCOL {
        frame.bytes_mut()[outer_len + 4..outer_len + 6].copy_from_slice(&told.to_be_bytes());
    }
    emit_outer(frame.bytes_mut(), packet, way, (protocol, told), (id, dont_fragment));
    Ok(())
}

fn outer_dont_fragment(scene: &Scene<'_>, packet: &Packet) -> bool {
    packet.is_v4() && packet.dont_fragment && scene.snapshot.options.pmtu_disc
}

/// The packets of a GSO packet, one by one: where they have to go in fragments, and where they are in a tunnel already.
fn encapsulate_each(scene: &Scene<'_>, lane: &mut Lane, frame: &Frame, way: &Way<'_>) -> Verdict {
    output_each(lane, frame, |lane, segment| {
        let Ok(packet) = Packet::parse(segment.bytes()) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        match encapsulate_one(scene, segment, &packet, way, None) {
            Ok(()) => output(scene, lane, segment, way.hop, Sender::Source),
            Err(verdict) => verdict,
        }
    })
}

#[inline(always)]
fn encapsulate_one(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &Packet,
    way: &Way<'_>,
    remote: Option<(u16, u16)>,
) -> Result<(), Verdict> {
    if remote.is_some() {
        frame.offload = Offload::default();
    } else if has_checksum(way.tunnel) {
        frame.complete_checksum();
    }
    let (outer_len, shim_len) = (way.outer_len(), shim_len(way.tunnel, remote.is_some()));
    // The length that the outer header tells: of IPv6 without that header itself.
    let told = frame.len() + shim_len + if way.dst.is_v4() { outer_len } else { 0 };
    if told > usize::from(u16::MAX) || !frame.grow_front(outer_len + shim_len) {
        return Err(Verdict::Drop(DropReason::Oversized));
    }
    match &mut frame.fragments {
        // The first of them takes the new headers.
        Some(fragments) if packet.is_v4() == way.dst.is_v4() => {
            let data: usize = fragments.lengths.iter().map(|&length| usize::from(length)).sum();
            let grown = shim_len + (packet.total_len as usize).saturating_sub(data);
            if let Some(first) = fragments.lengths.first_mut() {
                *first = first.saturating_add(u16::try_from(grown).unwrap_or(u16::MAX));
            }
            if scene.snapshot.options.compat_ipvs && !way.dst.is_v4() {
                fragments.join_uneven();
            }
        }
        other => *other = None,
    }
    let fits = frame.len() <= way.hop.mtu as usize && frame.fragments.is_none();
    let protocol = emit_shim(&mut frame.bytes_mut()[outer_len..], packet, way, remote);
    let payload_len = u16::try_from(frame.len() - outer_len).expect("no longer than what is told");
    let dont_fragment = outer_dont_fragment(scene, packet);
    let id = if dont_fragment && fits || !way.dst.is_v4() {
        0
    } else {
        scene.tables.next_ip_id.fetch_add(1, Relaxed)
    };
    emit_outer(frame.bytes_mut(), packet, way, (protocol, payload_len), (id, dont_fragment));
    Ok(())
}

/// The packet in a tunnel packet that an ICMP error quotes, and where it starts.
pub(crate) fn unwrap_quote(quote: &[u8], outer: &Packet) -> Option<(usize, Packet)> {
    let start = usize::from(outer.header_len);
    let (protocol, shim) = match outer.protocol {
        ipv4::PROTOCOL_IPIP | ipv6::PROTOCOL_IPV6 => (outer.protocol, 0),
        udp::PROTOCOL => {
            let (protocol, len) = gue::parse(quote.get(start + udp::HEADER_LEN..)?).ok()?;
            (protocol, udp::HEADER_LEN + len)
        }
        gre::PROTOCOL => {
            let (ether_type, len) = gre::parse(quote.get(start..)?).ok()?;
            let is_v4 = ether_type == ethernet::ETHERTYPE_IPV4;
            (if is_v4 { ipv4::PROTOCOL_IPIP } else { ipv6::PROTOCOL_IPV6 }, len)
        }
        _ => return None,
    };
    let offset = start + shim;
    let inner = Packet::parse_quoted(quote.get(offset..)?).ok()?;
    if protocol_of(&inner) != protocol {
        return None;
    }
    Some((offset, inner))
}

/// Whether `outer`, which an ICMP error quotes as `quote`, is a packet that we put into a tunnel to the
/// destination of a connection.
pub(crate) fn quoted_tunnel(scene: &Scene<'_>, quote: &[u8], outer: &Packet) -> Option<Tunnelled> {
    if !scene.snapshot.network.is_local(outer.src) || outer.fragment_offset != 0 {
        return None;
    }
    let (offset, inner) = unwrap_quote(quote, outer)?;
    let shim = offset - usize::from(outer.header_len);
    let key = RequestKey::of(&inner);
    let shard = scene.tables.table.shard(key.protocol, key.client, key.client_port);
    let connection = shard.get(shard.request(&key)?);
    let tunnel = if scene.snapshot.options.compat_ipvs {
        // The kernel asks whether any service has a tunnel that ends there.
        let port = if outer.protocol == udp::PROTOCOL { outer.dst_port } else { 0 };
        scene.tables.reals.tunnel(outer.dst, port)?
    } else {
        let Forwarding::Tunnel(tunnel) = connection.forwarding_now() else { return None };
        if connection.destination_addr != outer.dst {
            return None;
        }
        tunnel
    };
    let is_of_it = match tunnel {
        Tunnel::Ipip => shim == 0,
        Tunnel::Gue { port, .. } => outer.protocol == udp::PROTOCOL && outer.dst_port == port,
        Tunnel::Gre { .. } => outer.protocol == gre::PROTOCOL,
    };
    is_of_it.then(|| Tunnelled { offset, inner, has_route: connection.destination.has_route() })
}

/// An error about a packet that we had put into a tunnel: the client hears of it, in the words of what it sent.
/// `outer` and `tunnelled` are what [`Self::quoted_tunnel`] was given and gave.
pub(crate) fn relay_about_tunnel(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    outer: &Packet,
    tunnelled: Tunnelled,
) -> Verdict {
    let Tunnelled { offset, inner, has_route } = tunnelled;
    // As in the kernel, before anything is believed.
    if !icmp::checksum_ok(frame.bytes(), packet) {
        return Verdict::Drop(DropReason::BadChecksum);
    }
    let compat = scene.snapshot.options.compat_ipvs;
    let both_v4 = packet.is_v4() && inner.is_v4();
    if compat && !both_v4 {
        return Verdict::Drop(DropReason::IcmpUnrelated);
    }
    let start = usize::from(packet.header_len);
    let message = &frame.bytes()[start..];
    {
        let key = RequestKey::of(&inner);
        let shard = scene.tables.table.shard(key.protocol, key.client, key.client_port);
        if let Some(id) = shard.request(&key) {
            see_error(packet, message, shard.get(id));
        }
    }
    let original = &message[icmp::HEADER_LEN + offset..];
    // The kernel counts what was inside, and then what it tells the client.
    count_report(scene, &inner, original.len() as u64);
    let (kind, code) = (message[0], message[1]);
    let rest = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    let too_big = match packet.is_v4() {
        true => (kind, code) == (v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED),
        false => kind == v6::PACKET_TOO_BIG,
    };
    if too_big {
        let Some(hop) = scene.snapshot.network.route(outer.dst) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let told = if packet.is_v4() { rest & 0xffff } else { rest };
        let learned = scene.tables.path_mtus.learn(outer.dst, told, hop.mtu, scene.now);
        if learned.has_fallen {
            withdraw_flows_to(scene, outer.dst);
        }
        if inner.is_v4() && !inner.dont_fragment {
            return Verdict::Consume;
        }
        let overhead = u32::try_from(offset).expect("headers are short");
        let room = if compat {
            let mtu = match (has_route, learned.was_used) {
                (true, true) => learned.mtu,
                // The kernel reads the MTU off a route that it looked up before it learned, if it has one.
                (true, false) => hop.mtu,
                (false, _) => told,
            };
            if mtu > SMALLEST_MTU + overhead { mtu - overhead } else { mtu }
        } else {
            learned.mtu.saturating_sub(overhead).max(if inner.is_v4() {
                SMALLEST_MTU
            } else {
                SMALLEST_MTU_V6
            })
        };
        report_quoted(scene, lane, original, &inner, Report::TooBig(room));
    } else if packet.is_v4() == inner.is_v4() {
        report_quoted(scene, lane, original, &inner, Report::Relay { kind, code, rest: 0 });
    } else {
        report_quoted(scene, lane, original, &inner, Report::HostUnreachable);
    }
    Verdict::Consume
}

/// What flows to a real server were made of has changed, whatever services it is behind.
fn withdraw_flows_to(scene: &Scene<'_>, addr: Address) {
    let Some(flows) = &scene.tables.flows else { return };
    for service in scene.snapshot.services.iter() {
        for destination in service.destinations().iter().filter(|it| it.addr == addr) {
            flows.withdraw(Some(destination.id));
        }
    }
}

/// Whether the tunnel's headers have a checksum over the packet in it.
fn has_checksum(tunnel: Tunnel) -> bool {
    match tunnel {
        Tunnel::Ipip => false,
        Tunnel::Gue { checksum, .. } => checksum != TunnelChecksum::None,
        Tunnel::Gre { checksum } => checksum,
    }
}

/// Writes the outer IP header: protocol and length of what follows, id (IPv4; its lower half) and "don't fragment".
#[inline]
fn emit_outer(
    bytes: &mut [u8],
    packet: &Packet,
    way: &Way<'_>,
    (protocol, payload_len): (u8, u16),
    (id, dont_fragment): (u32, bool),
) {
    let (ttl, tos) = (packet.ttl, outer_tos(packet.tos));
    match (way.src.to_v4(), way.dst.to_v4()) {
        (Some(src), Some(dst)) => {
            #[allow(clippy::cast_possible_truncation, reason = "the id wraps around")]
            let id = id as u16;
            Ipv4Repr { src, dst, protocol, ttl, tos, id, dont_fragment, payload_len }.emit(bytes);
        }
        _ => {
            let outer = Ipv6Repr {
                src: way.src.to_v6(),
                dst: way.dst.to_v6(),
                next_header: protocol,
                hop_limit: ttl,
                traffic_class: tos,
                payload_len,
            };
            outer.emit(bytes);
        }
    }
}

/// Writes what stands between the outer IP header and the packet, which `bytes` ends with, and returns the protocol
/// number for the outer header.
#[inline]
fn emit_shim(bytes: &mut [u8], packet: &Packet, way: &Way<'_>, remote: Option<(u16, u16)>) -> u8 {
    match way.tunnel {
        Tunnel::Ipip => protocol_of(packet),
        Tunnel::Gue { port, checksum } => {
            gue::emit(&mut bytes[udp::HEADER_LEN..], protocol_of(packet), remote);
            let source_port = source_port(packet);
            match checksum {
                TunnelChecksum::None => udp::emit_without_checksum(bytes, source_port, port),
                TunnelChecksum::Full | TunnelChecksum::Remote => {
                    udp::emit(bytes, way.src, way.dst, source_port, port)
                }
            };
            udp::PROTOCOL
        }
        Tunnel::Gre { checksum } => {
            let ether_type = if packet.is_v4() { ethernet::ETHERTYPE_IPV4 } else { ethernet::ETHERTYPE_IPV6 };
            gre::emit(bytes, ether_type, checksum);
            gre::PROTOCOL
        }
    }
}
