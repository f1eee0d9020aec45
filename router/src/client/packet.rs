//! A packet in words, as `tcp 10.0.0.1:4000 > 10.0.0.100:80 SYN, ttl 64, 60 bytes`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{
    ArpOperation, IpNumber, LaxIpPayloadSlice, LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice,
};

/// So many packets in packets are told of.
const DEPTH: usize = 3;

/// What the first bytes of a frame say; of an interface whose frames are IP packets, `is_ethernet` is false.
pub(super) fn in_words(bytes: &[u8], is_ethernet: bool) -> String {
    let sliced = match is_ethernet {
        true => LaxSlicedPacket::from_ethernet(bytes).ok(),
        false => LaxSlicedPacket::from_ip(bytes).ok(),
    };
    sliced.map_or_else(|| format!("{} bytes that make no sense", bytes.len()), |it| packet(&it, DEPTH))
}

fn packet(sliced: &LaxSlicedPacket<'_>, depth: usize) -> String {
    match &sliced.net {
        Some(LaxNetSlice::Arp(arp)) => arp_words(arp),
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let ends = (header.source_addr().into(), header.destination_addr().into());
            let mut text = ip_words(ends, sliced.transport.as_ref(), ip.payload(), depth);
            if header.more_fragments() || header.fragments_offset().value() > 0 {
                let at = usize::from(header.fragments_offset().value()) * 8;
                let more = if header.more_fragments() { ", and more follow" } else { ", the last" };
                text.push_str(&format!(", a fragment from byte {at} on{more}"));
            }
            format!("{text}, ttl {}, {} bytes", header.ttl(), header.total_len())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let ends = (header.source_addr().into(), header.destination_addr().into());
            let text = ip_words(ends, sliced.transport.as_ref(), ip.payload(), depth);
            format!(
                "{text}, hop limit {}, {} bytes",
                header.hop_limit(),
                usize::from(header.payload_length()) + 40
            )
        }
        None => match &sliced.link {
            Some(etherparse::LinkSlice::Ethernet2(link)) => {
                format!("a frame of type 0x{:04x}", link.ether_type().0)
            }
            _ => "no packet that is known".to_owned(),
        },
    }
}

fn arp_words(arp: &etherparse::ArpPacketSlice<'_>) -> String {
    let addr = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).ok();
    match (addr(arp.sender_protocol_addr()), addr(arp.target_protocol_addr())) {
        (Some(sender), Some(target)) if arp.operation() == ArpOperation::REPLY => {
            let mac: Vec<String> = arp.sender_hw_addr().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("ARP: {sender} is at {}, to {target}", mac.join(":"))
        }
        (Some(sender), Some(target)) => format!("ARP: who has {target}? {sender} asks"),
        _ => "ARP of other addresses".to_owned(),
    }
}

fn ip_words(
    (from, to): (IpAddr, IpAddr),
    transport: Option<&TransportSlice<'_>>,
    payload: &LaxIpPayloadSlice<'_>,
    depth: usize,
) -> String {
    let between = |name: &str, ports: (u16, u16)| {
        format!("{name} {} > {}", SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1))
    };
    let hosts = |name: &str| format!("{name} {from} > {to}");
    let quoted = |bytes: &[u8]| {
        let inner = LaxSlicedPacket::from_ip(bytes).ok().filter(|_| depth > 1);
        inner.map(|inner| format!(" [{}]", packet(&inner, depth - 1))).unwrap_or_default()
    };
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let ports = (tcp.source_port(), tcp.destination_port());
            format!("{} {}", between("tcp", ports), tcp_words(tcp))
        }
        Some(TransportSlice::Udp(udp)) => between("udp", (udp.source_port(), udp.destination_port())),
        Some(TransportSlice::Icmpv4(icmp)) => {
            let (kind, code) = (icmp.type_u8(), icmp.code_u8());
            let rest = u16::from_be_bytes([icmp.bytes5to8()[2], icmp.bytes5to8()[3]]);
            let what = match (kind, code) {
                (0, _) => "echo reply".to_owned(),
                (8, _) => "echo request".to_owned(),
                (3, 0) => "network unreachable".to_owned(),
                (3, 1) => "host unreachable".to_owned(),
                (3, 2) => "protocol unreachable".to_owned(),
                (3, 3) => "port unreachable".to_owned(),
                (3, 4) => format!("too big: no more than {rest} bytes pass"),
                (3, _) => format!("unreachable, code {code}"),
                (11, 0) => "TTL exceeded".to_owned(),
                (11, _) => "fragments are missing".to_owned(),
                _ => format!("type {kind} code {code}"),
            };
            let inner =
                if matches!(kind, 3 | 4 | 5 | 11 | 12) { quoted(icmp.payload()) } else { String::new() };
            format!("{} {what}{inner}", hosts("icmp"))
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (kind, code) = (icmp.type_u8(), icmp.code_u8());
            let rest = u32::from_be_bytes(icmp.bytes5to8());
            let what = match (kind, code) {
                (128, _) => "echo request".to_owned(),
                (129, _) => "echo reply".to_owned(),
                (1, 0) => "no route".to_owned(),
                (1, 3) => "address unreachable".to_owned(),
                (1, 4) => "port unreachable".to_owned(),
                (1, _) => format!("unreachable, code {code}"),
                (2, _) => format!("too big: no more than {rest} bytes pass"),
                (3, 0) => "hop limit exceeded".to_owned(),
                (135, _) => "who has? (neighbour solicitation)".to_owned(),
                (136, _) => "neighbour advertisement".to_owned(),
                _ => format!("type {kind} code {code}"),
            };
            let inner = if kind < 128 { quoted(icmp.payload()) } else { String::new() };
            format!("{} {what}{inner}", hosts("icmpv6"))
        }
        Some(TransportSlice::Igmp(_)) | None => match payload.ip_number {
            IpNumber::IPV4 | IpNumber::IPV6 => {
                format!("{}{}", hosts("tunnel"), quoted(payload.payload))
            }
            // As SCTP, whose first words are its ports.
            IpNumber::SCTP => match payload.payload {
                [a, b, c, d, ..] => {
                    between("sctp", (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
                }
                _ => hosts("sctp"),
            },
            IpNumber::TCP => hosts("tcp"),
            IpNumber::UDP => hosts("udp"),
            IpNumber::GRE => hosts("gre"),
            other => hosts(&format!("protocol {}", other.0)),
        },
    }
}

fn tcp_words(tcp: &TcpSlice<'_>) -> String {
    let flags = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
    ];
    let names: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    if names.is_empty() { "without flags".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use etherparse::PacketBuilder;

    use super::*;

    fn bytes(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        build(&mut bytes);
        bytes
    }

    #[test]
    fn packets_are_told_in_words() {
        let syn = bytes(|out| {
            let ip = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 100], 64);
            ip.tcp(4000, 80, 1, 1000).syn().write(out, b"").unwrap();
        });
        let in_ethernet = bytes(|out| {
            let link = PacketBuilder::ethernet2([2; 6], [3; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 100], 9);
            link.udp(4000, 53).write(out, b"hello").unwrap();
        });
        let mut reset = bytes(|out| {
            let addr = |last| std::net::Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]).octets();
            let ip = PacketBuilder::ipv6(addr(1), addr(2), 7);
            ip.tcp(1, 2, 3, 4).rst().ack(5).write(out, b"").unwrap();
        });
        let too_big = bytes(|out| {
            let ip = PacketBuilder::ipv4([10, 0, 0, 5], [10, 0, 0, 1], 64);
            let header =
                etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
            ip.icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(header)).write(out, &syn).unwrap();
        });
        let tunnel = bytes(|out| {
            let ip = PacketBuilder::ipv4([10, 0, 0, 5], [192, 168, 0, 2], 64);
            ip.write(out, IpNumber::IPV4, &syn).unwrap();
        });
        let cases: &[(&[u8], bool, &str)] = &[
            (&syn, false, "tcp 10.0.0.1:4000 > 10.0.0.100:80 SYN, ttl 64, 40 bytes"),
            (&in_ethernet, true, "udp 10.0.0.1:4000 > 10.0.0.100:53, ttl 9, 33 bytes"),
            (&reset, false, "tcp [2001:db8::1]:1 > [2001:db8::2]:2 RST ACK, hop limit 7, 60 bytes"),
            (
                &too_big,
                false,
                "icmp 10.0.0.5 > 10.0.0.1 too big: no more than 1400 bytes pass \
                 [tcp 10.0.0.1:4000 > 10.0.0.100:80 SYN, ttl 64, 40 bytes], ttl 64, 68 bytes",
            ),
            (
                &tunnel,
                false,
                "tunnel 10.0.0.5 > 192.168.0.2 [tcp 10.0.0.1:4000 > 10.0.0.100:80 SYN, ttl 64, 40 bytes], \
                 ttl 64, 60 bytes",
            ),
            (&[], true, "0 bytes that make no sense"),
        ];
        for (packet, is_ethernet, want) in cases {
            assert_eq!(in_words(packet, *is_ethernet), *want);
        }
        // Whatever is cut off, something is said.
        for len in 0..reset.len() {
            assert!(!in_words(&reset[..len], len % 2 == 0).is_empty());
        }
        reset.clear();
    }

    #[test]
    fn arp_is_told_in_words() {
        let ask = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 1],
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &[2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2],
        ]
        .concat();
        assert_eq!(in_words(&ask, true), "ARP: who has 10.0.0.2? 10.0.0.1 asks");
    }
}
