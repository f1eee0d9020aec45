//! Frames with right checksums out of a few bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_director::PortId;
use uvs_wire::icmp::{self, v4, v6};
use uvs_wire::ipv4::Ipv4Repr;
use uvs_wire::ipv6::Ipv6Repr;
use uvs_wire::{Packet, arp, ethernet, ipv4, ipv6, mld, ndp, sctp, tcp, udp};

use super::world::{MACS, PORTS, STATION};
use crate::check;
use crate::script::Script;

const CLIENTS: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 7)),
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 8)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc, 0, 0, 0, 0, 0, 7)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)),
];
const TARGETS: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 10, 11)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x11)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
];
/// Ports of services and destinations.
pub(crate) const SERVICE_PORTS: [u16; 6] = [80, 53, 21, 8080, 0, 20];

/// A packet from a client: kind, addresses, ports, flags, length.
pub(crate) fn built(script: &mut Script<'_>) -> (PortId, Vec<u8>) {
    let [kind, who, ports, flags, extra] = [(); 5].map(|()| script.byte());
    let length = usize::from(script.word() % 1700);
    let client = CLIENTS[usize::from(who & 15) % CLIENTS.len()];
    let target = TARGETS[usize::from(who >> 4) % TARGETS.len()];
    let port = PortId(u16::from(kind >> 5) % PORTS);
    let client_port = 1024 + u16::from(ports >> 4);
    let service_port = SERVICE_PORTS[usize::from(ports & 15) % SERVICE_PORTS.len()];
    let mut payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
    let protocol = match kind & 7 {
        0 | 1 => tcp::PROTOCOL,
        2 | 3 => udp::PROTOCOL,
        4 => sctp::PROTOCOL,
        5 if client.is_ipv4() => icmp::PROTOCOL_V4,
        5 => icmp::PROTOCOL_V6,
        6 => {
            let lines = [
                "PORT 10,0,0,2,4,1\r\n",
                "PASV\r\n",
                "EPRT |2|fd00:1::2|1025|\r\n",
                "227 (192,168,10,11,4,1)\r\n",
            ];
            payload = lines[usize::from(extra) % lines.len()].into();
            tcp::PROTOCOL
        }
        _ => extra,
    };
    let mut transport = vec![0; 20];
    transport[..2].copy_from_slice(&client_port.to_be_bytes());
    transport[2..4].copy_from_slice(&service_port.to_be_bytes());
    match protocol {
        tcp::PROTOCOL => {
            transport[4..8].copy_from_slice(&1000u32.to_be_bytes());
            transport[12] = 5 << 4;
            transport[13] = flags;
        }
        udp::PROTOCOL => transport.truncate(8),
        sctp::PROTOCOL => transport[12..16].copy_from_slice(&[flags, extra, 0, 8]),
        _ => {
            transport.truncate(8);
            let echo = if client.is_ipv4() { v4::ECHO_REQUEST } else { v6::ECHO_REQUEST };
            transport[..2].copy_from_slice(&[if flags == 0 { echo } else { flags }, extra]);
        }
    }
    transport.extend(payload);
    if protocol == udp::PROTOCOL {
        let length = u16::try_from(transport.len()).expect("it was made short");
        transport[4..6].copy_from_slice(&length.to_be_bytes());
    }
    let ttl = if extra == 1 { 1 } else { 64 };
    (port, frame(port, &ip(client, target, protocol, ttl, extra & 1 == 0, &transport)))
}

/// An IP packet with its checksums; the target is brought into the source's family.
fn ip(src: IpAddr, dst: IpAddr, protocol: u8, ttl: u8, dont_fragment: bool, transport: &[u8]) -> Vec<u8> {
    let payload_len = u16::try_from(transport.len()).expect("it was made short");
    let mut bytes = match (src, dst) {
        (IpAddr::V4(src), dst) => {
            let dst = if let IpAddr::V4(dst) = dst { dst } else { Ipv4Addr::new(10, 0, 0, 100) };
            let repr = Ipv4Repr { src, dst, protocol, ttl, tos: 0, id: 77, dont_fragment, payload_len };
            let mut header = vec![0; ipv4::HEADER_LEN];
            repr.emit(&mut header);
            header
        }
        (IpAddr::V6(src), dst) => {
            let vip = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100);
            let dst = if let IpAddr::V6(dst) = dst { dst } else { vip };
            let repr =
                Ipv6Repr { src, dst, next_header: protocol, hop_limit: ttl, traffic_class: 0, payload_len };
            let mut header = vec![0; ipv6::HEADER_LEN];
            repr.emit(&mut header);
            header
        }
    };
    bytes.extend(transport);
    repair(&mut bytes);
    bytes
}

/// Puts an IP packet into the frame of a port: from a station to the director.
pub(crate) fn frame(port: PortId, ip: &[u8]) -> Vec<u8> {
    let Some(mac) = MACS[usize::from(port.0)] else { return ip.to_vec() };
    let kind = if ip.first().is_some_and(|first| first >> 4 == 6) {
        ethernet::ETHERTYPE_IPV6
    } else {
        ethernet::ETHERTYPE_IPV4
    };
    let mut bytes = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut bytes, mac, STATION, kind);
    bytes.extend(ip);
    bytes
}

/// The IP packet in a frame of a port.
pub(crate) fn ip_of(port: PortId, frame: &[u8]) -> Option<&[u8]> {
    match MACS[usize::from(port.0)] {
        None => Some(frame),
        Some(_) if frame.len() < ethernet::HEADER_LEN => None,
        Some(_) => matches!(ethernet::ethertype(frame), ethernet::ETHERTYPE_IPV4 | ethernet::ETHERTYPE_IPV6)
            .then(|| &frame[ethernet::HEADER_LEN..]),
    }
}

/// Makes all checksums of an IP packet right, where it parses.
pub(crate) fn repair(ip: &mut [u8]) {
    let Ok(packet) = Packet::parse(ip) else { return };
    if packet.is_v4() {
        ipv4::fill_checksum(ip);
    }
    let Some(at) = check::field(&packet) else { return };
    let start = usize::from(packet.header_len);
    if packet.protocol == sctp::PROTOCOL {
        sctp::fill_checksum(&mut ip[start..packet.total_len as usize]);
        return;
    }
    ip[start + at..start + at + 2].fill(0);
    let covered = check::covered(ip, &packet);
    let pseudo = if packet.protocol == icmp::PROTOCOL_V4 { 0 } else { check::pseudo(&packet, covered.len()) };
    let sum = !check::fold(check::sum(covered) + pseudo);
    let sum = if sum == 0 && packet.protocol == udp::PROTOCOL { 0xffff } else { sum };
    ip[start + at..start + at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What a host answers a packet with: ends swapped, `flags` of TCP or chunk of SCTP, the same payload.
pub(crate) fn reply(ip: &[u8], flags: u8) -> Option<Vec<u8>> {
    let packet = Packet::parse(ip).ok()?;
    let mut bytes = ip[..packet.total_len as usize].to_vec();
    if packet.is_v4() {
        let (src, dst) = bytes[12..20].split_at_mut(4);
        src.swap_with_slice(dst);
        bytes[8] = 64;
    } else {
        let (src, dst) = bytes[8..40].split_at_mut(16);
        src.swap_with_slice(dst);
        bytes[7] = 64;
    }
    if packet.has_ports() {
        let start = usize::from(packet.header_len);
        let (src, dst) = bytes[start..start + 4].split_at_mut(2);
        src.swap_with_slice(dst);
        match packet.protocol {
            tcp::PROTOCOL => bytes[start + 13] = flags,
            sctp::PROTOCOL if bytes.len() > start + 12 => bytes[start + 12] = flags,
            _ => {}
        }
    }
    repair(&mut bytes);
    Some(bytes)
}

/// An ICMP error to the sender of `ip`, from its target or from a router.
pub(crate) fn error(ip: &[u8], kind: u8, quote: usize) -> Option<Vec<u8>> {
    let packet = Packet::parse(ip).ok()?;
    let quoted = &ip[..quote.min(packet.total_len as usize)];
    let mut buffer = vec![0; icmp::MAX_ERROR_V6];
    let routed = kind & 1 == 0;
    let mtu = [1400, 1280, 600, 0][usize::from(kind >> 6)];
    let length = match (packet.src.to_v4(), packet.dst.to_v4()) {
        (Some(to), Some(from)) => {
            let from = if routed { Ipv4Addr::new(192, 168, 10, 99) } else { from };
            let kinds = [(3, 3), (3, 4), (3, 1), (11, 0), (12, 0), (5, 1), (4, 0), (3, 13)];
            let (kind, code) = kinds[usize::from(kind >> 1 & 7)];
            icmp::emit_error_v4(&mut buffer, from, to, kind, code, mtu, 9, quoted)
        }
        _ => {
            let from =
                if routed { Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x99) } else { packet.dst.to_v6() };
            let kinds = [(1, 4), (2, 0), (1, 0), (3, 0), (4, 1), (1, 3), (3, 1), (2, 7)];
            let (kind, code) = kinds[usize::from(kind >> 1 & 7)];
            icmp::emit_error_v6(&mut buffer, from, packet.src.to_v6(), kind, code, mtu, 64, quoted)
        }
    };
    buffer.truncate(length);
    Some(buffer)
}

/// A router asks which groups are listened to (MLD): all, or the one of an address of ours; version 1 or 2.
fn group_query(who: u8) -> Vec<u8> {
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(who));
    let mut message = vec![0; if who & 1 == 0 { 24 } else { 28 }];
    message[0] = mld::QUERY;
    if who & 2 != 0 {
        let group = ndp::solicited_node(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1));
        message[8..24].copy_from_slice(&group.octets());
    }
    ip(router.into(), ndp::ALL_NODES.into(), icmp::PROTOCOL_V6, 1, true, &message)
}

/// ARP, ND or MLD from a neighbour.
pub(crate) fn neighbor(script: &mut Script<'_>) -> (PortId, Vec<u8>) {
    let [kind, who] = [(); 2].map(|()| script.byte());
    let port = PortId(u16::from(kind >> 5) % PORTS);
    let mac = MACS[usize::from(port.0)].unwrap_or(STATION);
    let (v4, v6) = match port.0 {
        0 => (Ipv4Addr::new(10, 0, 0, who), Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(who))),
        _ => (Ipv4Addr::new(192, 168, 10, who), Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, u16::from(who))),
    };
    let own = (if port.0 == 0 { Ipv4Addr::new(10, 0, 0, 1) } else { Ipv4Addr::new(192, 168, 10, 1) }, {
        let subnet = if port.0 == 0 { 1 } else { 2 };
        Ipv6Addr::new(0xfd00, subnet, 0, 0, 0, 0, 0, 1)
    });
    let sender_mac = [2, 0, 0, 0, 9, who];
    if kind & 1 == 0 {
        let operation = if kind & 2 == 0 { arp::Operation::Request } else { arp::Operation::Reply };
        let repr = arp::ArpRepr { operation, sender_mac, sender_ip: v4, target_mac: mac, target_ip: own.0 };
        let mut bytes = vec![0; ethernet::HEADER_LEN + arp::LEN];
        ethernet::write(&mut bytes, mac, sender_mac, ethernet::ETHERTYPE_ARP);
        repr.emit(&mut bytes[ethernet::HEADER_LEN..]);
        return (port, bytes);
    }
    if kind & 15 == 15 {
        return (port, frame(port, &group_query(who)));
    }
    let (repr, to) = if kind & 2 == 0 {
        let unspecified = kind & 4 != 0;
        let repr =
            ndp::NdpRepr::Solicitation { target: own.1, source_mac: (!unspecified).then_some(sender_mac) };
        (repr, ndp::solicited_node(own.1))
    } else {
        let repr = ndp::NdpRepr::Advertisement {
            target: v6,
            target_mac: Some(sender_mac),
            router: kind & 16 != 0,
            solicited: kind & 4 != 0,
            overrides: kind & 8 != 0,
        };
        (repr, own.1)
    };
    let mut ip = vec![0; ndp::LEN];
    let length = repr.emit(&mut ip, if kind & 6 == 4 { Ipv6Addr::UNSPECIFIED } else { v6 }, to);
    ip.truncate(length);
    (port, frame(port, &ip))
}
