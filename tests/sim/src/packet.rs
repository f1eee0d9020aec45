//! Packets of the world: written, stamped and read.
//!
//! Each packet of a client or server carries a stamp that nothing on its way changes: in the timestamp option of TCP
//! (RFC 7323), in the first bytes of a datagram. It is put in where the packet comes to the director.

use std::net::{IpAddr, SocketAddr};

use uvs_wire::arp::{ArpRepr, Operation};
use uvs_wire::ipv4::Ipv4Repr;
use uvs_wire::ipv6::Ipv6Repr;
use uvs_wire::ndp::NdpRepr;
use uvs_wire::{Address, Packet, ethernet, gre, gue, icmp, ipv4, ipv6, tcp, udp};

use crate::plan::GUE_PORT;

/// Of TCP, with the timestamp option and its padding.
const TCP_HEADER: usize = tcp::HEADER_LEN + 12;
/// The same, as the header says it: in words of four bytes, in the upper half.
const DATA_OFFSET: u8 = 8 << 4;

/// What a TCP segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its flags.
    pub(crate) flags: u8,
    /// Sequence number.
    pub(crate) seq: u32,
    /// Acknowledgement.
    pub(crate) ack: u32,
    /// Bytes of data.
    pub(crate) len: u16,
}

/// What is in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A segment of TCP.
    Tcp(Segment),
    /// A datagram with so many bytes of data, at least four.
    Udp(u16),
}

fn length16(length: usize) -> u16 {
    u16::try_from(length).expect("a short packet")
}

/// Writes an IP packet.
pub(crate) fn write(from: SocketAddr, to: SocketAddr, content: Content) -> Vec<u8> {
    let (protocol, length) = match content {
        Content::Tcp(segment) => (tcp::PROTOCOL, TCP_HEADER + usize::from(segment.len)),
        Content::Udp(length) => (udp::PROTOCOL, udp::HEADER_LEN + usize::from(length)),
    };
    let mut bytes = ip_header(from.ip(), to.ip(), protocol, length);
    let start = bytes.len();
    bytes.resize(start + length, 0x55);
    let transport = &mut bytes[start..];
    transport[..2].copy_from_slice(&from.port().to_be_bytes());
    transport[2..4].copy_from_slice(&to.port().to_be_bytes());
    match content {
        Content::Tcp(Segment { flags, seq, ack, .. }) => {
            transport[4..8].copy_from_slice(&seq.to_be_bytes());
            transport[8..12].copy_from_slice(&ack.to_be_bytes());
            transport[12..20].copy_from_slice(&[DATA_OFFSET, flags, 0xff, 0, 0, 0, 0, 0]);
            transport[20..TCP_HEADER].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        Content::Udp(_) => {
            transport[4..6].copy_from_slice(&length16(length).to_be_bytes());
            transport[6..12].fill(0);
        }
    }
    let packet = Packet::parse(&bytes).expect("a packet of our own");
    fill_checksum(&mut bytes, &packet);
    bytes
}

fn ip_header(from: IpAddr, to: IpAddr, protocol: u8, payload: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = vec![0; ipv4::HEADER_LEN];
            let dont_fragment = protocol == tcp::PROTOCOL;
            let payload_len = length16(payload);
            Ipv4Repr { src, dst, protocol, ttl: 64, tos: 0, id: 1, dont_fragment, payload_len }
                .emit(&mut bytes);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = vec![0; ipv6::HEADER_LEN];
            let payload_len = length16(payload);
            Ipv6Repr { src, dst, next_header: protocol, hop_limit: 64, traffic_class: 0, payload_len }
                .emit(&mut bytes);
            bytes
        }
        _ => unreachable!("both ends of a packet are of one family"),
    }
}

fn fill_checksum(ip: &mut [u8], packet: &Packet) {
    let at = usize::from(packet.header_len) + if packet.protocol == tcp::PROTOCOL { 16 } else { 6 };
    ip[at..at + 2].fill(0);
    let sum = match packet.transport_sum(ip).finish() {
        0 if packet.protocol == udp::PROTOCOL => 0xffff,
        sum => sum,
    };
    ip[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Where the stamp of a packet is.
fn stamp_at(ip: &[u8], packet: &Packet) -> Option<usize> {
    let start = usize::from(packet.header_len);
    let (at, length) = match packet.protocol {
        tcp::PROTOCOL if ip.get(start + 22) == Some(&8) => (start + 24, TCP_HEADER),
        udp::PROTOCOL => (start + udp::HEADER_LEN, udp::HEADER_LEN + 4),
        _ => return None,
    };
    (packet.fragment_offset == 0 && ip.len() >= start + length).then_some(at)
}

/// Puts a stamp into a packet of [`write`].
pub(crate) fn set_stamp(ip: &mut [u8], packet: &Packet, stamp: u32) {
    if let Some(at) = stamp_at(ip, packet) {
        ip[at..at + 4].copy_from_slice(&stamp.to_be_bytes());
        fill_checksum(ip, packet);
    }
}

/// The stamp of a packet, if it has one.
pub(crate) fn stamp(ip: &[u8], packet: &Packet) -> Option<u32> {
    let at = stamp_at(ip, packet)?;
    let bytes = ip.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes)).filter(|stamp| *stamp != 0)
}

/// The segment in a packet of TCP.
pub(crate) fn segment(ip: &[u8], packet: &Packet) -> Option<Segment> {
    let transport = packet.transport(ip);
    let view = tcp::TcpSegment::parse(transport).ok().filter(|_| packet.protocol == tcp::PROTOCOL)?;
    let len = length16(view.payload().len());
    Some(Segment { flags: packet.tcp_flags, seq: view.seq(), ack: view.ack(), len })
}

/// Whose MAC address a frame asks for. (An announcement asks for that of its sender, and wants no answer.)
pub(crate) fn asked_for(frame: &[u8]) -> Option<IpAddr> {
    let body = frame.get(ethernet::HEADER_LEN..)?;
    if ethernet::ethertype(frame) == ethernet::ETHERTYPE_ARP {
        let arp = ArpRepr::parse(body).ok()?;
        let asks = arp.operation == Operation::Request && arp.sender_ip != arp.target_ip;
        return asks.then_some(arp.target_ip.into());
    }
    match Packet::parse(body).and_then(|packet| NdpRepr::parse(body, &packet)) {
        Ok(NdpRepr::Solicitation { target, .. }) => Some(target.into()),
        _ => None,
    }
}

/// An Ethernet frame around an IP packet.
pub(crate) fn frame(to: [u8; 6], from: [u8; 6], ip: &[u8]) -> Vec<u8> {
    let ether_type = if ip[0] >> 4 == 4 { ethernet::ETHERTYPE_IPV4 } else { ethernet::ETHERTYPE_IPV6 };
    let mut bytes = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut bytes, to, from, ether_type);
    bytes.extend_from_slice(ip);
    bytes
}

/// Addresses and ports of a packet.
pub(crate) fn ends(packet: &Packet) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(packet.src.to_ip(), packet.src_port),
        SocketAddr::new(packet.dst.to_ip(), packet.dst_port),
    )
}

/// What is wrong with the checksums of an IP packet, if anything.
pub(crate) fn bad_checksum(ip: &[u8], packet: &Packet) -> Option<&'static str> {
    if packet.is_v4() && !ipv4::header_checksum_ok(ip) {
        return Some("IP header");
    }
    if packet.is_fragment() {
        return None;
    }
    let transport = packet.transport(ip);
    let name = match packet.protocol {
        tcp::PROTOCOL => "TCP",
        udp::PROTOCOL if transport.get(6..8) == Some(&[0, 0]) => return None,
        udp::PROTOCOL => "UDP",
        icmp::PROTOCOL_V4 | icmp::PROTOCOL_V6 => "ICMP",
        _ => return None,
    };
    (packet.transport_sum(ip).finish() != 0).then_some(name)
}

/// The packet in a tunnel's packet: IPIP, GUE, GRE.
pub(crate) fn decapsulated<'a>(ip: &'a [u8], packet: &Packet) -> Option<&'a [u8]> {
    let transport = packet.transport(ip);
    match packet.protocol {
        // A part of it is nothing yet.
        _ if packet.is_fragment() => None,
        ipv4::PROTOCOL_IPIP | ipv6::PROTOCOL_IPV6 => Some(transport),
        gre::PROTOCOL => gre::parse(transport).ok().and_then(|(_, header)| transport.get(header..)),
        udp::PROTOCOL if packet.dst_port == GUE_PORT => {
            let inside = transport.get(udp::HEADER_LEN..)?;
            gue::parse(inside).ok().and_then(|(_, header)| inside.get(header..))
        }
        _ => None,
    }
}

/// Puts an IP header in front of an IP packet, as the kernel's program does.
pub(crate) fn encapsulate(source: Address, destination: Address, ip: &[u8]) -> Vec<u8> {
    let inner = if ip[0] >> 4 == 4 { ipv4::PROTOCOL_IPIP } else { ipv6::PROTOCOL_IPV6 };
    let mut bytes = ip_header(source.to_ip(), destination.to_ip(), inner, ip.len());
    bytes.extend_from_slice(ip);
    bytes
}
