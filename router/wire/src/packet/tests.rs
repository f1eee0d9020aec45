use super::*;
use crate::ethernet;
use crate::testing::{Shape, Upper, any_packet, plain, whole};
use crate::{icmp, tcp};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use std::string::{String, ToString};
use std::vec::Vec;

const TCP: Upper = Upper::Tcp { seq: 1, ack: 2, flags: 0x12, options: Vec::new() };

fn set16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_packet_is_what_it_was_built_from(shape in any_packet(), padding in 0..50usize) {
        let mut bytes = shape.build();
        let length = bytes.len();
        bytes.resize(length + padding, 0xee);
        let packet = Packet::parse(&bytes).unwrap();
        let v4 = shape.src.is_v4();
        let (offset, more) = shape.fragment.unwrap_or((0, false));
        let has_ports = matches!(shape.upper, Upper::Tcp { .. } | Upper::Udp { .. } | Upper::Sctp { .. });
        let ports = if has_ports && offset == 0 { shape.ports } else { (0, 0) };
        let flags = match shape.upper {
            Upper::Tcp { flags, .. } if offset == 0 => flags,
            _ => 0,
        };
        let extension_len: usize = shape.extensions.iter().map(|(_, bytes)| 1 + bytes.len()).sum();
        let want = Packet {
            src: shape.src,
            dst: shape.dst,
            protocol: shape.protocol(),
            ttl: shape.ttl,
            tos: shape.tos,
            header_len: u16::try_from(shape.header_len()).unwrap(),
            total_len: u32::try_from(length).unwrap(),
            src_port: ports.0,
            dst_port: ports.1,
            tcp_flags: flags,
            fragment_offset: offset,
            more_fragments: more,
            dont_fragment: !v4 || shape.dont_fragment,
            id: if v4 { shape.id & 0xffff } else if shape.fragment.is_some() { shape.id } else { 0 },
            fragment_header: match shape.fragment {
                Some(_) if !v4 => u16::try_from(40 + extension_len).unwrap(),
                _ => 0,
            },
        };
        prop_assert_eq!(packet, want);
        prop_assert_eq!(packet.is_v4(), v4);
        prop_assert_eq!(packet.is_fragment(), offset > 0 || more);
        prop_assert_eq!(packet.is_first_fragment(), offset == 0 && more);
        prop_assert_eq!(packet.transport(&bytes), &bytes[shape.header_len()..length]);
        prop_assert_eq!(packet.transport_len(), length - shape.header_len());
        prop_assert_eq!(packet.has_ports(), has_ports && offset == 0);
        prop_assert_eq!(Packet::parse_quoted(&bytes), Ok(want));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), v4: bool) {
        exercise(&bytes);
        if !bytes.is_empty() {
            bytes[0] = if v4 { 0x45 } else { 0x60 };
            exercise(&bytes);
        }
    }

    #[test]
    fn a_truncated_packet_is_refused(shape in any_packet(), cut: proptest::sample::Index) {
        let bytes = shape.build();
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert_eq!(Packet::parse(cut), Err(ParseError::Truncated));
        exercise(cut);
    }

    #[test]
    fn damage_never_makes_the_parser_panic(
        shape in any_packet(), flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = shape.build();
        for (at, value) in flips {
            let at = at.index(bytes.len().min(80));
            bytes[at] = value;
            exercise(&bytes);
            if let Err(difference) = agrees_with_etherparse(&bytes) {
                return Err(TestCaseError::fail(difference));
            }
        }
    }

    #[test]
    fn etherparse_reads_the_same(shape in any_packet(), padding in 0..20usize) {
        let mut bytes = shape.build();
        bytes.resize(bytes.len() + padding, 0);
        prop_assert!(Packet::parse(&bytes).is_ok());
        prop_assert_eq!(agrees_with_etherparse(&bytes), Ok(()));
    }

    #[test]
    fn a_quoted_packet_needs_its_ports_and_no_more(shape in whole()) {
        let bytes = shape.build();
        let start = shape.header_len();
        let needed = match shape.upper {
            Upper::Icmp { .. } => 8,
            Upper::Other(_) => 0,
            _ => 4,
        };
        let whole = Packet::parse(&bytes).unwrap();
        for end in 0..bytes.len().min(start + 40) {
            let quoted = Packet::parse_quoted(&bytes[..end]);
            if end < start + needed {
                prop_assert_eq!(quoted, Err(ParseError::Truncated), "{} of {} + {}", end, start, needed);
            } else {
                let flags = if end >= start + 14 { whole.tcp_flags } else { 0 };
                prop_assert_eq!(quoted, Ok(Packet { tcp_flags: flags, ..whole }));
                prop_assert_eq!(whole.transport(&bytes[..end]).len(), end - start);
            }
        }
    }
}

#[test]
fn a_packet_that_ends_within_its_transport_header_has_ports_if_they_are_there() {
    for (protocol, len, want) in [
        (6, 4, Ok((0x1234, 80))),
        (6, 19, Ok((0x1234, 80))),
        (17, 4, Ok((0x1234, 80))),
        (17, 7, Ok((0x1234, 80))),
        (6, 3, Err(ParseError::Truncated)),
        (1, 7, Err(ParseError::Truncated)),
    ] {
        let mut bytes = [0; 64];
        let repr = ipv4::Ipv4Repr {
            src: [10, 0, 0, 2].into(),
            dst: [10, 0, 0, 100].into(),
            protocol,
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: false,
            payload_len: len,
        };
        repr.emit(&mut bytes);
        bytes[20..24].copy_from_slice(&[0x12, 0x34, 0, 80]);
        let short = Packet::parse_short(&bytes);
        assert_eq!(short.map(|it| (it.src_port, it.dst_port)), want, "protocol {protocol}, {len} bytes");
        assert!(short.is_err() || !short.unwrap().has_ports());
        let end = 20 + usize::from(len);
        assert_eq!(Packet::parse_short(&bytes[..end - 1]), Err(ParseError::Truncated), "cut off");
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Truncated));
    }
}

/// Calls everything that takes bytes from the wire.
fn exercise(bytes: &[u8]) {
    let _ = Packet::parse_quoted(bytes);
    let _ = Packet::parse_short(bytes);
    let _ = crate::arp::ArpRepr::parse(bytes);
    let _ = ipv4::header_checksum_ok(bytes);
    let _ = ipv4::Ipv4Header::parse(bytes).map(|header| header.options().count());
    let _ = ipv6::Ipv6Repr::parse(bytes);
    let _ = tcp::TcpSegment::parse(bytes).map(|segment| segment.payload().len());
    let _ = udp::UdpDatagram::parse(bytes).map(|datagram| datagram.payload().len());
    let _ = sctp::SctpPacket::parse(bytes).map(|packet| (packet.checksum_ok(), packet.chunks().count()));
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert!(packet.total_len as usize <= bytes.len() && packet.transport_len() <= packet.total_len as usize);
    let mut buffer = [0; 1600];
    let _ = icmp::checksum_ok(bytes, &packet);
    let _ = crate::ndp::NdpRepr::parse(bytes, &packet);
    let _ = tcp::emit_reset(&mut buffer, bytes, &packet);
    let _ = crate::segment::split(bytes, &packet, 100, &mut buffer, |_| {});
    let _ = crate::fragment::split_v4(bytes, 68, None, &mut buffer, |_| {});
    let _ = crate::fragment::split_v6(bytes, 100, 1, &mut buffer, |_| {});
    let mut copy = bytes.to_vec();
    let mut edited = packet;
    let (src, dst) = (packet.src, packet.dst);
    crate::rewrite::source(&mut copy, &mut edited, dst, 1, crate::rewrite::L4Sum::Complete);
    crate::rewrite::destination(&mut copy, &mut edited, src, 2, crate::rewrite::L4Sum::Complete);
    crate::rewrite::decrement_ttl(&mut copy, &mut edited);
    crate::rewrite::complete_checksum(&mut copy, &edited);
    assert_eq!(Packet::parse(&copy), Ok(edited));
    let _ = icmp::reply_echo_in_place(&mut copy, &edited);
}

/// Compares our reading with etherparse's. Where the two differ on purpose, the reason stands beside it.
fn agrees_with_etherparse(bytes: &[u8]) -> Result<(), String> {
    let ours = Packet::parse(bytes);
    let theirs = SlicedPacket::from_ip(bytes);
    let (packet, sliced) = match (&ours, &theirs) {
        (Err(_), Err(_)) => return Ok(()),
        (Ok(packet), Ok(sliced)) => (packet, sliced),
        (Ok(packet), Err(error)) => {
            // In IPv4 we take an authentication header for the upper protocol and never look inside. A later
            // fragment's data begin where its fragment header ends; they take them for headers still.
            // Neither ICMP over IPv6, ICMPv6 over IPv4 nor IGMP is of interest to us.
            let excused = (packet.is_v4() && matches!(packet.protocol, 51 | 58))
                || (!packet.is_v4() && packet.fragment_offset > 0)
                || (!packet.is_v4() && packet.protocol == 1)
                || packet.protocol == 2
                // Timestamp messages have more than the 8 bytes all messages have.
                || (packet.is_v4() && packet.protocol == 1 && matches!(bytes[usize::from(packet.header_len)], 13 | 14));
            return if excused { Ok(()) } else { Err(std::format!("we read {packet:?}, they say {error}")) };
        }
        (Err(error), Ok(sliced)) => {
            let excused = match sliced.net.as_ref() {
                Some(NetSlice::Ipv4(ip)) => {
                    let header = ip.header();
                    let end = usize::from(header.fragments_offset().value()) * 8 + ip.payload().payload.len();
                    // A fragment behind the largest packet; a first fragment that contradicts itself, and
                    // SCTP, whose inside they do not read; a UDP length below 8, of which they take 0 for
                    // "to the end".
                    end > 0xffff || transport_is_malformed(ip.payload().payload, header.protocol().0)
                }
                Some(NetSlice::Ipv6(ip)) => {
                    let header = ip.header();
                    let mapped = |octets| Address::from_octets(octets).is_v4();
                    mapped(header.source())
                        || mapped(header.destination())
                        // They take a length of 0 for "to the end of the bytes".
                        || header.payload_length() == 0
                        || chain_is_refused(bytes)
                        || transport_is_malformed(ip.payload().payload, ip.payload().ip_number.0)
                }
                _ => false,
            };
            return if excused { Ok(()) } else { Err(std::format!("we say {error}, they read {sliced:?}")) };
        }
    };
    let same = |what: &str, ours: u64, theirs: u64| {
        if ours == theirs { Ok(()) } else { Err(std::format!("{what}: we read {ours}, they {theirs}")) }
    };
    let payload = match sliced.net.as_ref().expect("an IP layer") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            same("src", packet.src.v4_bits().into(), header.source_addr().to_bits().into())?;
            same("dst", packet.dst.v4_bits().into(), header.destination_addr().to_bits().into())?;
            same("protocol", packet.protocol.into(), header.protocol().0.into())?;
            same("ttl", packet.ttl.into(), header.ttl().into())?;
            same("tos", packet.tos.into(), (header.dcp().value() << 2 | header.ecn().value()).into())?;
            same("total length", packet.total_len.into(), header.total_len().into())?;
            same("header length", packet.header_len.into(), (header.ihl() * 4).into())?;
            same("id", packet.id.into(), header.identification().into())?;
            same("DF", packet.dont_fragment.into(), header.dont_fragment().into())?;
            same("MF", packet.more_fragments.into(), header.more_fragments().into())?;
            let offset = u64::from(header.fragments_offset().value()) * 8;
            same("offset", packet.fragment_offset.into(), offset)?;
            if packet.protocol == 51 {
                return Ok(());
            }
            ip.payload()
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            same("src", packet.src.halves().1, u64::from_be_bytes(array(&header.source(), 8)))?;
            same("dst", packet.dst.halves().0, u64::from_be_bytes(array(&header.destination(), 0)))?;
            same("ttl", packet.ttl.into(), header.hop_limit().into())?;
            same("tos", packet.tos.into(), header.traffic_class().into())?;
            if header.payload_length() == 0 || packet.fragment_offset > 0 {
                return Ok(());
            }
            same("total length", packet.total_len.into(), u64::from(header.payload_length()) + 40)?;
            same("protocol", packet.protocol.into(), ip.payload().ip_number.0.into())?;
            let header_len = bytes.len() - packet.transport(bytes).len();
            let padding = bytes.len() - packet.total_len as usize;
            same("header length", packet.header_len.into(), (header_len - padding) as u64)?;
            ip.payload()
        }
        NetSlice::Arp(_) => return Err("ARP is no IP packet".to_string()),
    };
    same("fragment", packet.is_fragment().into(), payload.fragmented.into())?;
    if packet.transport(bytes) != payload.payload {
        return Err("the payloads differ".to_string());
    }
    let (ports, flags) = match sliced.transport.as_ref() {
        Some(TransportSlice::Tcp(tcp)) => ((tcp.source_port(), tcp.destination_port()), tcp.slice()[13]),
        Some(TransportSlice::Udp(udp)) => ((udp.source_port(), udp.destination_port()), 0),
        // They read no ports of fragments, and none of SCTP.
        _ => return Ok(()),
    };
    same("source port", packet.src_port.into(), ports.0.into())?;
    same("destination port", packet.dst_port.into(), ports.1.into())?;
    same("flags", packet.tcp_flags.into(), flags.into())
}

/// What we refuse in a transport header that they pass: SCTP without its header, a UDP length of 0, and
/// first fragments, which they do not look into.
fn transport_is_malformed(payload: &[u8], protocol: u8) -> bool {
    match protocol {
        6 => payload.len() < 20 || payload[12] >> 4 < 5,
        17 => payload.len() < 8 || get16(payload, 4) < 8,
        132 => payload.len() < 12,
        1 | 58 => payload.len() < 8,
        _ => false,
    }
}

/// Whether the chain of extension headers has a second fragment header, is longer than ours may be, or puts
/// the fragment behind the largest packet.
fn chain_is_refused(bytes: &[u8]) -> bool {
    let (mut kind, mut at, mut links, mut fragments) = (bytes[6], 40, 0, 0);
    while let (true, Some(header)) = (matches!(kind, 0 | 43 | 44 | 51 | 60), bytes.get(at..at + 8)) {
        let units = usize::from(header[1]);
        at += match kind {
            44 => 8,
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        if kind == 44 {
            fragments += 1;
            let end = usize::from(get16(header, 2) & 0xfff8) + 40 + usize::from(get16(bytes, 4));
            if end > 0xffff + at {
                return true;
            }
        }
        (kind, links) = (header[0], links + 1);
    }
    fragments > 1 || links > MAX_EXTENSION_HEADERS
}

/// The frames of the recordings, all of them, as etherparse and we read them.
#[test]
fn recorded_frames_are_read_as_etherparse_reads_them() {
    let golden = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"));
    let (mut packets, mut frames) = (0, 0);
    for folder in [golden.to_path_buf(), golden.join("random")] {
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("the recordings are missing: {}: {error}", folder.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let recording: serde_json::Value = serde_json::from_str(&text).unwrap();
            let Some(steps) = recording["steps"].as_array() else { continue };
            for (number, step) in steps.iter().enumerate() {
                let out: Vec<_> = step["out"].as_array().into_iter().flatten().collect();
                for side in out.iter().copied().chain([&step["in"]]) {
                    let Some(hex) = side["hex"].as_str() else { continue };
                    let place = std::format!("{} step {number}", path.display());
                    frames += 1;
                    packets += usize::from(check_frame(&unhex(hex), !out.is_empty(), &place));
                }
            }
        }
    }
    std::println!("{frames} frames, {packets} IP packets");
    assert!(packets > 5000, "only {packets} IP packets in {frames} frames");
}

/// Returns whether the frame holds an IP packet. A header checksum may be wrong and a quoted packet unreadable
/// only if the kernel made nothing of them either.
fn check_frame(frame: &[u8], answered: bool, place: &str) -> bool {
    assert!(frame.len() > ethernet::HEADER_LEN, "{place}");
    let ip = &frame[ethernet::HEADER_LEN..];
    match ethernet::ethertype(frame) {
        ethernet::ETHERTYPE_IPV4 | ethernet::ETHERTYPE_IPV6 => {
            assert_eq!(agrees_with_etherparse(ip), Ok(()), "{place}");
            let packet = match Packet::parse(ip) {
                Ok(packet) => packet,
                Err(error) => {
                    // A request that ends within its transport header follows its connection.
                    assert!(!answered || Packet::parse_short(ip).is_ok(), "{place}: {error}");
                    return false;
                }
            };
            assert_eq!(packet.is_v4(), ethernet::ethertype(frame) == ethernet::ETHERTYPE_IPV4, "{place}");
            if packet.is_v4() {
                assert!(ipv4::header_checksum_ok(ip) || !answered, "{place}");
            }
            let is_icmp = matches!(packet.protocol, icmp::PROTOCOL_V4 | icmp::PROTOCOL_V6);
            if is_icmp
                && packet.fragment_offset == 0
                && icmp::is_error(packet.protocol, packet.transport(ip)[0])
            {
                let start = usize::from(packet.header_len) + icmp::HEADER_LEN;
                let quoted = Packet::parse_quoted(&ip[start..packet.total_len as usize]);
                let same_family = quoted.is_ok_and(|quoted| quoted.is_v4() == packet.is_v4());
                assert!(same_family || !answered, "{place}: {quoted:?}");
            }
            exercise(ip);
            true
        }
        ethernet::ETHERTYPE_ARP => {
            assert!(crate::arp::ArpRepr::parse(ip).is_ok(), "{place}");
            false
        }
        other => panic!("{place}: EtherType {other:#06x}"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().map(|digit| u8::try_from((digit as char).to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn what_contradicts_itself_is_refused() {
    use ParseError::{Malformed, Truncated};
    type Damage = fn(&mut Vec<u8>);
    let udp = Upper::Udp { checksum: true };
    let sctp = Upper::Sctp { tag: 1 };
    let icmp = Upper::Icmp { kind: 8, code: 0, rest: 0 };
    let cases: [(bool, Upper, Damage, ParseError, &str); 33] = [
        (true, TCP, |b| b.clear(), Truncated, "nothing"),
        (true, TCP, |b| b[0] = 0x55, Malformed, "version 5"),
        (true, TCP, |b| b[0] = 0x44, Malformed, "header of 16 bytes"),
        (true, TCP, |b| b[0] = 0x40, Malformed, "header of 0 bytes"),
        (true, TCP, |b| b.truncate(19), Truncated, "19 bytes"),
        (true, TCP, |b| b.truncate(39), Truncated, "cut off by one byte"),
        (true, TCP, |b| set16(b, 2, 19), Malformed, "total length below the header"),
        (true, TCP, |b| set16(b, 2, 0), Malformed, "total length 0"),
        (true, TCP, |b| set16(b, 2, 60), Truncated, "total length behind the end"),
        (true, TCP, |b| set16(b, 2, 39), Truncated, "no room for a TCP header"),
        (true, TCP, |b| b[0] = 0x4f, Malformed, "options behind the end"),
        (true, TCP, |b| b[32] = 0x40, Malformed, "data offset 4"),
        (true, TCP, |b| b[32] = 0x60, Malformed, "data offset behind the end"),
        (true, TCP, |b| set16(b, 6, 0x1fff), Malformed, "fragment behind the largest packet"),
        (true, udp.clone(), |b| set16(b, 2, 27), Truncated, "no room for a UDP header"),
        (true, udp.clone(), |b| set16(b, 24, 7), Malformed, "UDP length 7"),
        (true, udp.clone(), |b| set16(b, 24, 0), Malformed, "UDP length 0"),
        (true, udp.clone(), |b| set16(b, 24, 9), Malformed, "UDP length behind the end"),
        (true, sctp.clone(), |b| set16(b, 2, 31), Truncated, "no room for an SCTP header"),
        (true, icmp.clone(), |b| set16(b, 2, 27), Truncated, "no room for an ICMP header"),
        (false, TCP, |b| b.truncate(39), Truncated, "39 bytes of IPv6"),
        (false, TCP, |b| b.truncate(59), Truncated, "IPv6 cut off by one byte"),
        (false, TCP, |b| set16(b, 4, 0), Truncated, "payload length 0"),
        (false, TCP, |b| (b[6], b[4], b[5]) = (0, 0, 0), Malformed, "a jumbogram"),
        (
            false,
            TCP,
            |b| b[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            Malformed,
            "mapped source",
        ),
        (
            false,
            TCP,
            |b| b[24..36].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            Malformed,
            "mapped destination",
        ),
        (false, TCP, |b| (b[6], b[41]) = (60, 200), Truncated, "extension header behind the end"),
        (false, TCP, |b| (b[6], b[40], b[41]) = (60, 0, 0), Malformed, "hop-by-hop options in second place"),
        (false, TCP, |b| (b[6], b[40], b[42], b[43]) = (44, 44, 0, 0), Malformed, "two fragment headers"),
        (
            false,
            TCP,
            |b| (b[6], b[40], b[42], b[43]) = (44, 6, 0, 0),
            Truncated,
            "no room behind the fragment header",
        ),
        (
            false,
            TCP,
            |b| (b[6], b[40], b[42], b[43]) = (44, 6, 0xff, 0xf8),
            Malformed,
            "IPv6 fragment behind the largest packet",
        ),
        (false, TCP, |b| (b[6], b[40], b[41]) = (51, 6, 0), Malformed, "authentication header of 8 bytes"),
        (false, icmp, |b| set16(b, 4, 7), Truncated, "no room for an ICMPv6 header"),
    ];
    for (v4, upper, damage, want, why) in cases {
        let mut bytes = plain(v4, upper, b"").build();
        assert!(Packet::parse(&bytes).is_ok(), "{why}: intact");
        damage(&mut bytes);
        assert_eq!(Packet::parse(&bytes), Err(want), "{why}");
    }
}

#[test]
fn a_chain_of_extension_headers_is_bounded() {
    for (links, ok) in [(8, true), (9, false), (40, false)] {
        let shape = Shape { extensions: std::vec![(60, std::vec![0; 7]); links], ..plain(false, TCP, b"") };
        assert_eq!(Packet::parse(&shape.build()).is_ok(), ok, "{links} headers");
    }
}

#[test]
fn ports_are_filled_exactly_where_there_are_some() {
    // A quoted packet that by its own length has no room for its header: nothing is read of it, and nothing
    // would be edited.
    for (total_len, more, want) in
        [(40, false, Ok((40000, 80))), (32, true, Ok((0, 0))), (32, false, Err(()))]
    {
        let mut bytes = plain(true, TCP, b"").build();
        set16(&mut bytes, 2, total_len);
        set16(&mut bytes, 6, if more { 0x2000 } else { 0 });
        let quoted = Packet::parse_quoted(&bytes[..28]);
        assert_eq!(quoted.map(|quoted| (quoted.src_port, quoted.dst_port)).map_err(|_| ()), want);
        assert!(quoted.is_err() || quoted.unwrap().has_ports() == (want != Ok((0, 0))));
    }
}

#[test]
fn unusual_packets_are_read() {
    let shape = Shape { fragment: Some((0, false)), ..plain(false, TCP, b"") };
    let atomic = Packet::parse(&shape.build()).unwrap();
    assert!(!atomic.is_fragment() && atomic.has_ports());
    assert_eq!((atomic.fragment_header, atomic.header_len), (40, 48));

    let nothing = Packet::parse(&plain(false, Upper::Other(ipv6::NO_NEXT_HEADER), b"").build()).unwrap();
    assert_eq!((nothing.protocol, nothing.transport_len()), (59, 0));

    let mut tiny = Shape { fragment: Some((0, true)), ..plain(true, TCP, b"") }.build();
    set16(&mut tiny, 2, 28);
    let tiny = Packet::parse(&tiny[..28]).unwrap();
    assert!(tiny.is_first_fragment() && !tiny.has_ports());
    assert_eq!((tiny.src_port, tiny.dst_port, tiny.tcp_flags), (0, 0, 0));

    let gso_packet = plain(true, TCP, &std::vec![7; 65535 - 40]);
    assert_eq!(Packet::parse(&gso_packet.build()).unwrap().total_len, 65535);
    let gso_packet = plain(false, TCP, &std::vec![7; 65535 - 20]);
    assert_eq!(Packet::parse(&gso_packet.build()).unwrap().total_len, 65575);
    assert!(core::mem::size_of::<Packet>() <= 72);
}

#[test]
fn an_error_says_what_is_wrong() {
    assert_eq!(ParseError::Truncated.to_string(), "the packet is truncated");
    assert_eq!(ParseError::Malformed.to_string(), "the packet is malformed");
}
