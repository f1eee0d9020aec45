use super::*;
use crate::testing::{Shape, Upper, naive_checksum, naive_pseudo_header, plain};
use proptest::prelude::*;

#[test]
fn errors_are_told_from_other_messages() {
    let cases: [(u8, &[u8], &[u8]); 2] = [
        (PROTOCOL_V4, &[3, 4, 5, 11, 12], &[0, 8, 9, 10, 13, 14, 17, 255]),
        (PROTOCOL_V6, &[1, 2, 3, 4, 100, 127], &[128, 129, 135, 136, 255]),
    ];
    for (protocol, errors, others) in cases {
        assert!(errors.iter().all(|kind| is_error(protocol, *kind)), "{protocol}");
        assert!(!others.iter().any(|kind| is_error(protocol, *kind)), "{protocol}");
    }
    assert!(!is_error(6, 3));
}

#[test]
fn an_error_quotes_as_much_as_its_family_allows() {
    let offender = [0x45; 3000];
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let (src6, dst6) = (src.to_ipv6_compatible(), dst.to_ipv6_compatible());
    let mut buffer = [0xaa; 1500];
    // Length of the offender; of the error over IPv4; over IPv6.
    for (quoted, v4, v6) in
        [(0, 28, 48), (28, 56, 76), (548, 576, 596), (549, 576, 597), (1233, 576, 1280), (3000, 576, 1280)]
    {
        let offender = &offender[..quoted];
        assert_eq!(emit_error_v4(&mut buffer, src, dst, 3, 1, 0, 0, offender), v4, "{quoted}");
        assert_eq!(Packet::parse(&buffer[..v4]).unwrap().total_len as usize, v4);
        assert_eq!(buffer[28..v4], offender[..v4 - 28]);
        assert_eq!(emit_error_v6(&mut buffer, src6, dst6, 1, 3, 0, 64, offender), v6, "{quoted}");
        assert_eq!(Packet::parse(&buffer[..v6]).unwrap().total_len as usize, v6);
        assert_eq!(buffer[48..v6], offender[..v6 - 48]);
    }
}

proptest! {
    #[test]
    fn an_error_is_a_right_packet_that_reads_back(
        addresses: ([u8; 4], [u8; 4]), numbers: (u8, u8, u32, u16, u8),
        quoted in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let (kind, code, rest, id, hop_limit) = numbers;
        let (src, dst) = (Ipv4Addr::from(addresses.0), Ipv4Addr::from(addresses.1));
        let mut buffer = [0xaa; 1280];
        let length = emit_error_v4(&mut buffer, src, dst, kind, code, rest, id, &quoted);
        let ip = &buffer[..length];
        let packet = Packet::parse(ip).unwrap();
        prop_assert!(ipv4::header_checksum_ok(ip) && checksum_ok(ip, &packet));
        prop_assert_eq!(naive_checksum(&ip[20..]), 0);
        prop_assert_eq!((packet.src, packet.dst), (src.into(), dst.into()));
        let tos = 0xc0 | quoted.get(1).map_or(0, |tos| tos & 0x1e);
        prop_assert_eq!((packet.tos, packet.ttl, packet.dont_fragment), (tos, 64, false));
        prop_assert_eq!((packet.protocol, packet.id), (1, u32::from(id)));
        let message = IcmpMessage::parse(packet.transport(ip)).unwrap();
        prop_assert_eq!((message.kind(), message.code(), message.rest()), (kind, code, rest));
        prop_assert_eq!(u32::from(message.echo_id()), rest >> 16);
        prop_assert_eq!(message.payload(), &quoted[..quoted.len().min(548)]);

        let mut octets = [0x20; 16];
        octets[..4].copy_from_slice(&addresses.0);
        octets[4] = 1;
        let (src, dst) = (Ipv6Addr::from(octets), Ipv6Addr::from([0xfd; 16]));
        let length = emit_error_v6(&mut buffer, src, dst, kind, code, rest, hop_limit, &quoted);
        let ip = &buffer[..length];
        let packet = Packet::parse(ip).unwrap();
        prop_assert!(checksum_ok(ip, &packet));
        let mut covered = naive_pseudo_header(src.into(), dst.into(), 58, length - 40);
        covered.extend(&ip[40..]);
        prop_assert_eq!(naive_checksum(&covered), 0);
        prop_assert_eq!((packet.src, packet.dst), (src.into(), dst.into()));
        prop_assert_eq!((packet.ttl, packet.protocol), (hop_limit, 58));
        let message = IcmpMessage::parse(packet.transport(ip)).unwrap();
        prop_assert_eq!((message.kind(), message.code(), message.rest()), (kind, code, rest));
        prop_assert_eq!(message.payload(), &quoted);
    }

    #[test]
    fn an_echo_comes_back_as_it_was(
        v4: bool, rest: u32, ttl: u8, tos: u8, payload in proptest::collection::vec(any::<u8>(), 0..100), damage: bool,
    ) {
        let (request, reply) = if v4 { (8, 0) } else { (128, 129) };
        let asked = Shape { ttl, tos, ..plain(v4, Upper::Icmp { kind: request, code: 0, rest }, &payload) };
        let mut bytes = asked.build();
        let start = asked.header_len();
        bytes[start + 4] ^= u8::from(damage);
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(checksum_ok(&bytes, &packet), !damage);
        prop_assert!(reply_echo_in_place(&mut bytes, &packet));
        let upper = Upper::Icmp { kind: reply, code: 0, rest };
        let answer = Shape { src: asked.dst, dst: asked.src, ttl: 64, upper, ..asked };
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(checksum_ok(&bytes, &packet), !damage);
        bytes[start + 4] ^= u8::from(damage);
        prop_assert_eq!(&bytes, &answer.build());
        bytes[start + 2..start + 4].fill(0x55);
        fill_checksum(&mut bytes, &packet);
        prop_assert_eq!(bytes, answer.build());
    }
}

#[test]
fn an_echo_of_nothing_but_zeros_comes_back_with_its_checksum() {
    for payload in [&b""[..], &[0; 3]] {
        let mut bytes = plain(true, Upper::Icmp { kind: 8, code: 0, rest: 0 }, payload).build();
        let packet = Packet::parse(&bytes).unwrap();
        assert!(reply_echo_in_place(&mut bytes, &packet));
        let packet = Packet::parse(&bytes).unwrap();
        assert!(checksum_ok(&bytes, &packet), "{} bytes of data", payload.len());
    }
}

#[test]
fn nothing_else_is_echoed() {
    let request = Upper::Icmp { kind: 8, code: 0, rest: 0 };
    let cases = [
        (plain(true, Upper::Icmp { kind: 0, code: 0, rest: 0 }, b""), "a reply"),
        (plain(true, Upper::Icmp { kind: 3, code: 1, rest: 0 }, b""), "an error"),
        (plain(false, Upper::Icmp { kind: 8, code: 0, rest: 0 }, b""), "a request of the other family"),
        (plain(true, Upper::Udp { checksum: true }, b""), "UDP"),
        (plain(true, Upper::Other(58), &[128; 8]), "ICMPv6 over IPv4"),
        (Shape { fragment: Some((0, true)), ..plain(true, request.clone(), b"") }, "a first fragment"),
        (Shape { fragment: Some((8, false)), ..plain(true, request, b"") }, "a later fragment"),
    ];
    for (shape, why) in cases {
        let before = shape.build();
        let mut bytes = before.clone();
        assert!(!reply_echo_in_place(&mut bytes, &Packet::parse(&before).unwrap()), "{why}");
        assert_eq!(bytes, before, "{why}");
    }
}

#[test]
fn a_message_of_seven_bytes_is_none() {
    assert_eq!(IcmpMessage::parse(&[0; 7]).map(|_| ()), Err(ParseError::Truncated));
}
