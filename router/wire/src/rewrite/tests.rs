use super::*;
use crate::testing::{Shape, Upper, address, any_packet, naive_checksum, plain, whole};
use proptest::prelude::*;
use std::vec::Vec;

/// A packet and the end that it is rewritten to.
fn with_target(shapes: impl Strategy<Value = Shape>) -> impl Strategy<Value = (Shape, Address, u16, bool)> {
    shapes.prop_flat_map(|shape| {
        let v4 = shape.src.is_v4();
        (Just(shape), address(v4), any::<u16>(), any::<bool>())
    })
}

fn retarget(shape: &Shape, addr: Address, port: u16, at_source: bool) -> Shape {
    let mut shape = shape.clone();
    if at_source {
        (shape.src, shape.ports.0) = (addr, port);
    } else {
        (shape.dst, shape.ports.1) = (addr, port);
    }
    shape
}

fn edit(bytes: &mut [u8], packet: &mut Packet, addr: Address, port: u16, at_source: bool, sum: L4Sum) {
    if at_source {
        source(bytes, packet, addr, port, sum);
    } else {
        destination(bytes, packet, addr, port, sum);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_edited_packet_is_the_one_built_that_way(
        (shape, addr, port, at_source) in with_target(whole()), zero in 0..4u8,
    ) {
        let mut shape = shape;
        let mut want = retarget(&shape, addr, port, at_source);
        // In half of the cases the checksum before or after is the one with two forms.
        if zero == 1 {
            shape.force_zero_checksum();
            want.payload = shape.payload.clone();
        } else if zero == 2 {
            want.force_zero_checksum();
            shape.payload = want.payload.clone();
        }
        let mut bytes = shape.build();
        let mut packet = Packet::parse(&bytes).unwrap();
        edit(&mut bytes, &mut packet, addr, port, at_source, L4Sum::Complete);
        prop_assert_eq!(&bytes, &want.build());
        prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
    }

    #[test]
    fn a_partial_sum_follows_the_addresses_alone(
        (shape, addr, port, at_source) in with_target(whole()), zero: bool,
    ) {
        if !matches!(shape.upper, Upper::Tcp { .. } | Upper::Udp { checksum: true } | Upper::Sctp { .. }) {
            return Ok(());
        }
        let mut shape = shape;
        if zero {
            let mut want = retarget(&shape, addr, port, at_source);
            want.force_zero_checksum();
            shape.payload = want.payload;
        }
        let shape = Shape { partial: true, ..shape };
        let mut bytes = shape.build();
        let mut packet = Packet::parse(&bytes).unwrap();
        edit(&mut bytes, &mut packet, addr, port, at_source, L4Sum::Partial);
        let want = retarget(&shape, addr, port, at_source);
        prop_assert_eq!(&bytes, &want.build());
        complete_checksum(&mut bytes, &packet);
        let want = Shape { partial: false, ..want };
        prop_assert_eq!(&bytes, &want.build());
    }

    #[test]
    fn nat_there_and_back_is_the_identity(
        (shape, addr, port, at_source) in with_target(any_packet()), fault: u16, crc_fault: u32, partial: bool,
    ) {
        let mut bytes = shape.build();
        let start = shape.header_len();
        // Damaged packets too: the fault must survive. 0xffff is no checksum that a sender of TCP writes,
        // and a UDP checksum of 0 means none.
        let field = shape.checksum_at().map(|at| start + at);
        if let Some(at) = field.filter(|at| bytes.len() >= at + 2) {
            let damaged = get16(&bytes, at) ^ fault;
            if damaged != 0 && damaged != 0xffff {
                put16(&mut bytes, at, damaged);
            }
        }
        if matches!(shape.upper, Upper::Sctp { .. }) {
            for (byte, fault) in bytes[start + 8..].iter_mut().zip(crc_fault.to_be_bytes()) {
                *byte ^= fault;
            }
        }
        let sum = if partial && shape.upper != (Upper::Udp { checksum: false }) { L4Sum::Partial } else { L4Sum::Complete };
        let original = bytes.clone();
        let before = Packet::parse(&bytes).unwrap();
        let mut packet = before;
        let (old_addr, old_port) =
            if at_source { (packet.src, packet.src_port) } else { (packet.dst, packet.dst_port) };
        edit(&mut bytes, &mut packet, addr, port, at_source, sum);
        prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        edit(&mut bytes, &mut packet, old_addr, old_port, at_source, sum);
        prop_assert_eq!(packet, before);
        prop_assert_eq!(bytes, original);
    }

    #[test]
    fn a_bad_checksum_stays_bad(
        (shape, addr, port, at_source) in with_target(whole()), fault in 1..0xffffu16,
    ) {
        let mut bytes = shape.build();
        let start = shape.header_len();
        let is_sctp = matches!(shape.upper, Upper::Sctp { .. });
        let at = if is_sctp { Some(8) } else { shape.checksum_at() };
        let Some(at) = at else { return Ok(()) };
        let damaged = get16(&bytes, start + at) ^ fault;
        prop_assume!(damaged % 0xffff != get16(&bytes, start + at) % 0xffff && damaged != 0);
        put16(&mut bytes, start + at, damaged);
        let mut packet = Packet::parse(&bytes).unwrap();
        edit(&mut bytes, &mut packet, addr, port, at_source, L4Sum::Complete);
        if is_sctp {
            prop_assert!(!sctp::SctpPacket::parse(&bytes[start..]).unwrap().checksum_ok());
        } else {
            prop_assert_ne!(packet.transport_sum(&bytes).finish(), 0);
        }
    }

    #[test]
    fn a_bad_ipv4_header_stays_bad(
        (shape, addr, port, at_source) in with_target(any_packet()), fault in 1..0xffffu16,
    ) {
        if !shape.src.is_v4() {
            return Ok(());
        }
        let mut bytes = shape.build();
        let damaged = get16(&bytes, 10) ^ fault;
        prop_assume!(damaged % 0xffff != get16(&bytes, 10) % 0xffff);
        put16(&mut bytes, 10, damaged);
        let mut packet = Packet::parse(&bytes).unwrap();
        edit(&mut bytes, &mut packet, addr, port, at_source, L4Sum::Complete);
        decrement_ttl(&mut bytes, &mut packet);
        prop_assert!(!ipv4::header_checksum_ok(&bytes));
    }

    #[test]
    fn a_later_fragment_keeps_its_bytes(
        (shape, addr, port, at_source) in with_target(whole()), offset in 1..8000u16, more: bool,
    ) {
        let shape = Shape { fragment: Some((offset * 8, more)), ..shape };
        let mut bytes = shape.build();
        let data = bytes[shape.header_len()..].to_vec();
        let mut packet = Packet::parse(&bytes).unwrap();
        edit(&mut bytes, &mut packet, addr, port, at_source, L4Sum::Complete);
        prop_assert_eq!(&bytes[shape.header_len()..], &data);
        prop_assert_eq!(if at_source { packet.src } else { packet.dst }, addr);
        prop_assert_eq!((packet.src_port, packet.dst_port), (0, 0));
        prop_assert!(packet.src.is_v6_or_checksum_ok(&bytes));
        prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
    }

    #[test]
    fn a_first_fragment_is_edited_as_the_whole_is(
        (shape, addr, port, at_source) in with_target(whole()),
    ) {
        // The CRC of SCTP covers what is not here.
        if matches!(shape.upper, Upper::Sctp { .. }) {
            return Ok(());
        }
        let shape = Shape { fragment: Some((0, true)), ..shape };
        let mut bytes = shape.build();
        let mut packet = Packet::parse(&bytes).unwrap();
        edit(&mut bytes, &mut packet, addr, port, at_source, L4Sum::Complete);
        prop_assert_eq!(bytes, retarget(&shape, addr, port, at_source).build());
    }

    #[test]
    fn the_ttl_counts_down_to_zero_and_stays(shape in any_packet()) {
        let mut bytes = shape.build();
        let mut packet = Packet::parse(&bytes).unwrap();
        decrement_ttl(&mut bytes, &mut packet);
        let want = Shape { ttl: shape.ttl.saturating_sub(1), ..shape };
        prop_assert_eq!(&bytes, &want.build());
        prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
    }

    #[test]
    fn the_packet_in_an_icmp_error_is_edited(
        (shape, addr, port, at_source) in with_target(any_packet()), cut: proptest::sample::Index,
    ) {
        let inner = shape.build();
        let least = (shape.header_len() + 8).min(inner.len());
        let quoted = &inner[..least + cut.index(inner.len() - least + 1)];
        prop_assume!(Packet::parse_quoted(quoted).is_ok());
        let v4 = shape.src.is_v4();
        let kind = if v4 { icmp::v4::DESTINATION_UNREACHABLE } else { icmp::v6::DESTINATION_UNREACHABLE };
        let error = plain(v4, Upper::Icmp { kind, code: 1, rest: 0 }, quoted);
        let mut bytes = error.build();
        let outer = Packet::parse(&bytes).unwrap();
        let start = error.header_len() + 8;
        let mut packet = Packet::parse_quoted(&bytes[start..]).unwrap();
        let change = if at_source {
            quoted_source(&mut bytes[start..], &mut packet, addr, port)
        } else {
            quoted_destination(&mut bytes[start..], &mut packet, addr, port)
        };
        prop_assert_eq!(Packet::parse_quoted(&bytes[start..]), Ok(packet));
        // Nothing but the address, the port and the IPv4 header checksum differs.
        let mut want = inner[..quoted.len()].to_vec();
        let changed = retarget(&shape, addr, port, at_source).build();
        let header = if v4 { 20 } else { 40 };
        want[..header].copy_from_slice(&changed[..header]);
        if packet.has_ports() {
            let at = shape.header_len();
            want[at..at + 4].copy_from_slice(&changed[at..at + 4]);
        }
        prop_assert_eq!(&bytes[start..], &want);
        // An untouched outer checksum is wrong now, unless nothing changed in sum.
        icmp_message(&mut bytes, &outer, change);
        prop_assert_eq!(bytes, plain(v4, Upper::Icmp { kind, code: 1, rest: 0 }, &want).build());
    }
}

impl Address {
    /// For assertions about either family.
    fn is_v6_or_checksum_ok(self, bytes: &[u8]) -> bool {
        !self.is_v4()
            || (ipv4::header_checksum_ok(bytes)
                && naive_checksum(&bytes[..usize::from(bytes[0] & 15) * 4]) == 0)
    }
}

#[test]
fn a_udp_packet_without_checksum_keeps_none() {
    for v4 in [true, false] {
        let shape = plain(v4, Upper::Udp { checksum: false }, b"hello");
        let mut bytes = shape.build();
        let mut packet = Packet::parse(&bytes).unwrap();
        let dst = shape.dst;
        source(&mut bytes, &mut packet, dst, 1234, L4Sum::Complete);
        assert_eq!(get16(&bytes, shape.header_len() + 6), 0);
        assert_eq!((packet.src, packet.src_port), (dst, 1234));
    }
}

#[test]
fn a_first_fragment_too_small_for_its_header_keeps_its_bytes() {
    let upper = Upper::Tcp { seq: 1, ack: 2, flags: 2, options: Vec::new() };
    let shape = Shape { fragment: Some((0, true)), ..plain(true, upper, b"") };
    let mut bytes = shape.build();
    bytes.truncate(28);
    bytes[3] = 28;
    ipv4::fill_checksum(&mut bytes);
    let data = bytes[20..].to_vec();
    let mut packet = Packet::parse(&bytes).unwrap();
    assert!(!packet.has_ports());
    destination(&mut bytes, &mut packet, Address::v4([10, 0, 0, 1].into()), 8080, L4Sum::Complete);
    assert_eq!(bytes[20..], data);
    assert_eq!(bytes[16..20], [10, 0, 0, 1]);
    assert!(ipv4::header_checksum_ok(&bytes));
}

#[test]
#[should_panic(expected = "one of its family")]
fn an_address_of_the_other_family_is_a_mistake() {
    let shape = plain(true, Upper::Udp { checksum: true }, b"");
    let mut bytes = shape.build();
    let mut packet = Packet::parse(&bytes).unwrap();
    source(&mut bytes, &mut packet, Address::default(), 1, L4Sum::Complete);
}
