use super::*;
use crate::testing::{Shape, Upper, naive_checksum, naive_pseudo_header, plain, whole};
use proptest::prelude::*;
use std::vec::Vec;

fn segments(ip: &[u8], size: u16) -> Result<Vec<Vec<u8>>, SegmentError> {
    let packet = Packet::parse(ip).unwrap();
    let mut buffer = std::vec![0xaa; Segments::new(ip, &packet, size)?.max_len()];
    let mut list = Vec::new();
    let count = split(ip, &packet, size, &mut buffer, |segment| list.push(segment.to_vec()))?;
    assert_eq!(count, list.len());
    Ok(list)
}

fn headers_of(shape: &Shape) -> usize {
    shape.header_len()
        + match &shape.upper {
            Upper::Tcp { options, .. } => 20 + options.len(),
            _ => 8,
        }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn segments_make_the_gso_packet_again(shape in whole(), size in 1..120u16, partial: bool) {
        if !matches!(shape.upper, Upper::Tcp { .. } | Upper::Udp { .. }) {
            return Ok(());
        }
        let shape = Shape { partial, ..shape };
        let mut ip = shape.build();
        ip.extend([0xee; 5]);
        let headers = headers_of(&shape);
        let list = segments(&ip, size).unwrap();
        prop_assert_eq!(list.len(), shape.payload.len().div_ceil(usize::from(size)).max(1));
        let mut data: Vec<u8> = Vec::new();
        for (index, bytes) in list.iter().enumerate() {
            let last = index + 1 == list.len();
            prop_assert!(last || bytes.len() == headers + usize::from(size));
            // Exactly the packet that a sender without offload would have built.
            let mut upper = shape.upper.clone();
            if let Upper::Tcp { seq, flags, .. } = &mut upper {
                *seq = seq.wrapping_add(u32::try_from(data.len()).unwrap());
                if !last { *flags &= !(tcp::FIN | tcp::PSH); }
                if index > 0 { *flags &= !tcp::CWR; }
            }
            let want = Shape {
                upper,
                id: shape.id.wrapping_add(u32::try_from(index).unwrap()),
                payload: bytes[headers..].to_vec(),
                partial: false,
                ..shape.clone()
            };
            prop_assert_eq!(bytes, &want.build());
            data.extend(&bytes[headers..]);
        }
        prop_assert_eq!(data, shape.payload);
    }
}

#[test]
fn a_full_gso_packet_is_cut() {
    for v4 in [true, false] {
        let upper = Upper::Tcp { seq: u32::MAX - 1000, ack: 1, flags: 0x99, options: std::vec![1; 12] };
        let shape = Shape { id: 0xfff0, partial: true, ..plain(v4, upper, &std::vec![0x5a; 65000]) };
        let ip = shape.build();
        let list = segments(&ip, 1448).unwrap();
        assert_eq!(list.len(), 45);
        let packets: Vec<_> = list.iter().map(|bytes| Packet::parse(bytes).unwrap()).collect();
        let flags: Vec<_> = packets.iter().map(|packet| packet.tcp_flags).collect();
        assert_eq!(flags[0], tcp::CWR | tcp::ACK, "CWR on the first only");
        assert!(flags[1..44].iter().all(|flags| *flags == tcp::ACK));
        assert_eq!(flags[44], tcp::ACK | tcp::PSH | tcp::FIN, "FIN and PSH on the last only");
        assert_eq!(packets[44].id, if v4 { 0xfff0 + 44 - 0x1_0000 } else { 0 }, "the id wraps");
        for (packet, bytes) in packets.iter().zip(&list) {
            let transport = packet.transport(bytes);
            let mut covered = naive_pseudo_header(packet.src, packet.dst, 6, transport.len());
            covered.extend(transport);
            assert_eq!(naive_checksum(&covered), 0);
        }
    }
}

#[test]
fn what_is_no_gso_packet_is_refused() {
    let tcp = Upper::Tcp { seq: 1, ack: 1, flags: 0x10, options: Vec::new() };
    let cases = [
        (plain(true, tcp.clone(), b"abc"), 0, SegmentError::ZeroSize, "size 0"),
        (plain(true, Upper::Sctp { tag: 1 }, b"abc"), 1, SegmentError::NotATrain, "SCTP"),
        (plain(true, Upper::Other(47), b"abc"), 1, SegmentError::NotATrain, "GRE"),
        (plain(true, Upper::Icmp { kind: 8, code: 0, rest: 0 }, b"abc"), 1, SegmentError::NotATrain, "ICMP"),
        (
            Shape { fragment: Some((0, true)), ..plain(true, tcp.clone(), b"") },
            1,
            SegmentError::NotATrain,
            "first fragment",
        ),
        (
            Shape { fragment: Some((8, false)), ..plain(false, tcp.clone(), b"") },
            1,
            SegmentError::NotATrain,
            "later fragment",
        ),
    ];
    for (shape, size, want, why) in cases {
        assert_eq!(segments(&shape.build(), size), Err(want), "{why}");
    }
    let empty = plain(true, tcp, b"").build();
    assert_eq!(segments(&empty, 1000), Ok(std::vec![empty.clone()]), "no data: the packet itself");
}
