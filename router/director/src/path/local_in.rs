//! What comes for the director's own sockets, and why what they sent does not arrive.
//!
//! ```text
//!   receive   to us, taken by nobody else > live socket? from its peer? > checksum > queue
//!             from the VIP (DR, TUN): the one packet with an address of ours as its source that is right
//!             by NAT: from the VIP from here on
//!   failed    an ICMP error about what a socket has sent, or no answer to ARP > queue
//! ```

use uvs_wire::icmp::{self, v4, v6};
use uvs_wire::{Packet, tcp, udp};

use crate::base::frame::Frame;
use crate::base::local::{Failure, Received, Transport};
use crate::base::spec::{Family, Forwarding};
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::local::Socket;
use crate::net::network::Owner;
use crate::path::gather::gather;
use crate::path::icmp::is_icmp;
use crate::path::translate;
use crate::path::tunnel::unwrap_quote;
use crate::scene::Scene;

/// What a packet of a socket is known by, in what the director sends.
pub(crate) fn own_port(ip: &[u8], packet: &Packet) -> Option<(Transport, u16)> {
    match packet.protocol {
        tcp::PROTOCOL => Some((Transport::Tcp, packet.src_port)),
        udp::PROTOCOL => Some((Transport::Udp, packet.src_port)),
        _ => echo_id(ip, packet).map(|id| (Transport::Echo, id)),
    }
}

/// The identifier of an ICMP echo.
fn echo_id(ip: &[u8], packet: &Packet) -> Option<u16> {
    let message = ip.get(usize::from(packet.header_len)..).filter(|_| is_icmp(packet))?;
    let kind = *message.first()?;
    let is_echo = match packet.is_v4() {
        true => matches!(kind, v4::ECHO_REQUEST | v4::ECHO_REPLY),
        false => matches!(kind, v6::ECHO_REQUEST | v6::ECHO_REPLY),
    };
    is_echo.then_some(u16::from_be_bytes([*message.get(4)?, *message.get(5)?]))
}

/// Takes a packet to an address of ours in, if a live socket hears its sender. `None`: it is nobody's.
#[cold]
pub(crate) fn receive(scene: &Scene<'_>, frame: &mut Frame, packet: &mut Packet) -> Option<Verdict> {
    let local = &scene.tables.local;
    let (transport, port) = match packet.protocol {
        tcp::PROTOCOL => (Transport::Tcp, packet.dst_port),
        udp::PROTOCOL => (Transport::Udp, packet.dst_port),
        _ => (Transport::Echo, echo_id(frame.bytes(), packet)?),
    };
    let socket = local.socket(transport, port)?;
    let peer = if transport == Transport::Echo {
        (packet.src, socket.remote.1)
    } else {
        (packet.src, packet.src_port)
    };
    let peer_port = if transport == Transport::Echo { peer.1 } else { socket.answers().1 };
    if socket.local.0 != packet.dst || (socket.answers().0, peer_port) != peer {
        return None;
    }
    if transport == Transport::Echo {
        let kind = frame.bytes()[usize::from(packet.header_len)];
        if kind != if packet.is_v4() { v4::ECHO_REPLY } else { v6::ECHO_REPLY } {
            return None;
        }
        if !icmp::checksum_ok(frame.bytes(), packet) {
            return Some(Verdict::Drop(DropReason::BadChecksum));
        }
    } else if has_wrong_checksum(frame, packet) {
        return Some(Verdict::Drop(DropReason::BadChecksum));
    }
    if socket.answers() != socket.remote {
        translate::source(frame, packet, socket.remote.0, socket.remote.1);
    }
    local.count_in(frame.len());
    if frame.offload.gso_type == 0 {
        return Some(push(scene, (transport, port), frame.bytes()));
    }
    // Its packets, one by one.
    let Ok(mut cut) = frame.cut(0, false) else { return Some(Verdict::Drop(DropReason::Malformed)) };
    let mut bytes = Vec::new();
    while let Some(piece) = cut.next() {
        bytes.clear();
        bytes.extend_from_slice(piece.headers);
        bytes.extend_from_slice(piece.data);
        let verdict = push(scene, (transport, port), &bytes);
        if verdict != Verdict::Consume {
            return Some(verdict);
        }
    }
    Some(Verdict::Consume)
}

fn push(scene: &Scene<'_>, socket: (Transport, u16), bytes: &[u8]) -> Verdict {
    match scene.tables.local.push(socket, Received::Packet(Frame::from_bytes(bytes))) {
        true => Verdict::Consume,
        false => Verdict::Drop(DropReason::LocalQueueFull),
    }
}

fn has_wrong_checksum(frame: &Frame, packet: &Packet) -> bool {
    if frame.offload.needs_checksum {
        return false;
    }
    let at = usize::from(packet.header_len) + 6;
    let is_absent = packet.protocol == udp::PROTOCOL && frame.bytes().get(at..at + 2) == Some(&[0, 0]);
    !is_absent && packet.transport_sum(frame.bytes()).finish() != 0
}

/// A packet whose source cannot be: unless it is the VIP that answers a live socket by direct routing or a tunnel.
#[cold]
pub(crate) fn from_own_address(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    mut packet: Packet,
    is_group: bool,
) -> Verdict {
    let network = &scene.snapshot.network;
    let is_ours = |addr| network.owner(addr, scene.port) == Owner::Local;
    let is_vip = |addr| is_ours(addr) || network.withheld().contains(&addr);
    if is_group || !scene.tables.local.hears(packet.src) || !is_vip(packet.src) || !is_ours(packet.dst) {
        return Verdict::Drop(DropReason::Martian);
    }
    if packet.is_fragment() {
        packet = match gather(scene, lane, frame, packet) {
            Ok(whole) => whole,
            Err(verdict) => return verdict,
        };
    }
    receive(scene, frame, &mut packet).unwrap_or(Verdict::Drop(DropReason::Martian))
}

/// Whether an ICMP error to us is about a packet of a live socket, which hears of it. `None`: about none.
#[cold]
pub(crate) fn error(scene: &Scene<'_>, frame: &Frame, packet: &Packet) -> Option<Verdict> {
    let ip = frame.bytes();
    let start = usize::from(packet.header_len);
    let message = ip.get(start..).filter(|message| message.len() >= icmp::HEADER_LEN)?;
    let quote = &message[icmp::HEADER_LEN..];
    let outer = Packet::parse_quoted(quote).ok()?;
    let (socket, tunnel) = sender(scene, quote, &outer)?;
    if !icmp::checksum_ok(ip, packet) {
        return Some(Verdict::Drop(DropReason::BadChecksum));
    }
    let rest = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    let mut failure = failure_of(packet.is_v4(), message[0], message[1], rest)?;
    if let Failure::TooBig { mtu } = &mut failure
        && let Some(overhead) = tunnel
    {
        let hop = scene.snapshot.network.route(outer.dst)?;
        let learned = scene.tables.path_mtus.learn(outer.dst, *mtu, hop.mtu, scene.now);
        *mtu = learned.mtu.saturating_sub(overhead);
    }
    Some(tell(scene, &socket, failure))
}

/// Whether a packet that waited for a neighbour in vain is of a live socket, which hears of it. `packet`: as it was
/// before it was translated, or in the tunnel.
pub(crate) fn unreachable(scene: &Scene<'_>, ip: &[u8], packet: &Packet) -> bool {
    let Some((socket, _)) = sender(scene, ip, packet) else { return false };
    tell(scene, &socket, Failure::NoNeighbor);
    true
}

fn tell(scene: &Scene<'_>, socket: &Socket, failure: Failure) -> Verdict {
    let (transport, port) = (socket.transport, socket.local.1);
    match scene.tables.local.push((transport, port), Received::Failed { transport, port, failure }) {
        true => Verdict::Consume,
        false => Verdict::Drop(DropReason::LocalQueueFull),
    }
}

/// The live socket that has sent a packet, and how many bytes a tunnel has put in front of it.
fn sender(scene: &Scene<'_>, ip: &[u8], packet: &Packet) -> Option<(Socket, Option<u32>)> {
    let network = &scene.snapshot.network;
    if !network.is_local(packet.src) {
        return None;
    }
    if let Some(socket) = sender_of(scene, ip, packet) {
        return Some((socket, None));
    }
    let (offset, inner) = unwrap_quote(ip, packet)?;
    let socket = sender_of(scene, &ip[offset..], &inner)?;
    let is_of_it = matches!(socket.via, Some((addr, _, Forwarding::Tunnel(_))) if addr == packet.dst);
    is_of_it.then(|| (socket, u32::try_from(offset).ok()))
}

fn sender_of(scene: &Scene<'_>, ip: &[u8], packet: &Packet) -> Option<Socket> {
    let (transport, port) = own_port(ip, packet)?;
    let socket = scene.tables.local.socket(transport, port)?;
    let to = if transport == Transport::Echo {
        (packet.dst, socket.remote.1)
    } else {
        (packet.dst, packet.dst_port)
    };
    let is_to_peer = to == socket.remote
        || matches!(socket.via, Some((addr, port, Forwarding::Nat)) if to == (addr, port));
    (socket.local.0 == packet.src && is_to_peer).then_some(socket)
}

/// What an ICMP error says (RFC 792, RFC 1122 section 3.2.2.1, RFC 4443).
fn failure_of(is_v4: bool, kind: u8, code: u8, rest: u32) -> Option<Failure> {
    let family = if is_v4 { Family::V4 } else { Family::V6 };
    Some(match (family, kind, code) {
        (Family::V4, v4::DESTINATION_UNREACHABLE, v4::PROTOCOL_UNREACHABLE) => Failure::ProtocolUnreachable,
        (Family::V4, v4::DESTINATION_UNREACHABLE, v4::PORT_UNREACHABLE) => Failure::PortUnreachable,
        (Family::V4, v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED) => {
            // Routers from before RFC 1191 say nothing: then it is the least that every host takes.
            let mtu = if rest & 0xffff == 0 { 576 } else { rest & 0xffff };
            Failure::TooBig { mtu }
        }
        (Family::V4, v4::DESTINATION_UNREACHABLE, 9 | 10 | 13) => Failure::Prohibited,
        (Family::V4, v4::DESTINATION_UNREACHABLE, 0 | 6 | 11) => Failure::NetUnreachable,
        (Family::V4, v4::DESTINATION_UNREACHABLE, _) => Failure::HostUnreachable,
        (Family::V4, v4::TIME_EXCEEDED, v4::TTL_EXCEEDED) => Failure::TtlExceeded,
        (Family::V6, v6::DESTINATION_UNREACHABLE, v6::PORT_UNREACHABLE) => Failure::PortUnreachable,
        (Family::V6, v6::DESTINATION_UNREACHABLE, v6::NO_ROUTE) => Failure::NetUnreachable,
        (Family::V6, v6::DESTINATION_UNREACHABLE, 1 | 5 | 6) => Failure::Prohibited,
        (Family::V6, v6::DESTINATION_UNREACHABLE, _) => Failure::HostUnreachable,
        (Family::V6, v6::PACKET_TOO_BIG, _) => Failure::TooBig { mtu: rest },
        (Family::V6, v6::TIME_EXCEEDED, v6::HOP_LIMIT_EXCEEDED) => Failure::TtlExceeded,
        (Family::V6, v6::PARAMETER_PROBLEM, v6::UNKNOWN_NEXT_HEADER) => Failure::ProtocolUnreachable,
        _ => return None,
    })
}
