use super::*;
use crate::testing::{Shape, Upper, any_packet, plain, whole};
use proptest::prelude::*;
use std::vec::Vec;

fn fragments_v4(ip: &[u8], mtu: usize, id: Option<u16>) -> Result<Vec<Vec<u8>>, FragmentError> {
    let (mut list, mut buffer) = (Vec::new(), std::vec![0xaa; mtu]);
    let count = split_v4(ip, mtu, id, &mut buffer, |fragment| list.push(fragment.to_vec()))?;
    assert_eq!(count, list.len());
    Ok(list)
}

fn fragments_v6(ip: &[u8], mtu: usize, id: u32) -> Result<Vec<Vec<u8>>, FragmentError> {
    let (mut list, mut buffer) = (Vec::new(), std::vec![0xaa; mtu]);
    let count = split_v6(ip, mtu, id, &mut buffer, |fragment| list.push(fragment.to_vec()))?;
    assert_eq!(count, list.len());
    Ok(list)
}

/// Puts the data of fragments together as a receiver does, and says whether more must follow.
fn reassemble(fragments: &[Vec<u8>]) -> (usize, Vec<u8>, bool) {
    let packets: Vec<_> = fragments.iter().map(|bytes| Packet::parse(bytes).unwrap()).collect();
    let start = usize::from(packets[0].fragment_offset);
    let mut data: Vec<u8> = Vec::new();
    for (packet, bytes) in packets.iter().zip(fragments) {
        assert_eq!(usize::from(packet.fragment_offset), start + data.len(), "no hole, no overlap");
        data.extend(packet.transport(bytes));
    }
    let (last, others) = packets.split_last().unwrap();
    assert!(others.iter().all(|packet| packet.more_fragments && packet.transport_len() % 8 == 0));
    (start, data, last.more_fragments)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn fragments_of_ipv4_make_the_packet_again(
        shape in any_packet(), mtu in 68..300usize, id in proptest::option::of(any::<u16>()),
    ) {
        if !shape.src.is_v4() {
            return Ok(());
        }
        let mut ip = shape.build();
        let whole_len = ip.len();
        ip.resize(whole_len + 6, 0);
        let packet = Packet::parse(&ip).unwrap();
        let list = fragments_v4(&ip, mtu, id).unwrap();
        if whole_len <= mtu {
            prop_assert_eq!(&list, &[ip[..whole_len].to_vec()]);
            return Ok(());
        }
        prop_assert!(list.len() > 1);
        let (start, data, more) = reassemble(&list);
        prop_assert_eq!(start, usize::from(packet.fragment_offset));
        prop_assert_eq!(data, packet.transport(&ip));
        prop_assert_eq!(more, packet.more_fragments);
        for bytes in &list {
            prop_assert!(bytes.len() <= mtu && ipv4::header_checksum_ok(bytes));
            let fragment = Packet::parse(bytes).unwrap();
            prop_assert_eq!(fragment.total_len as usize, bytes.len());
            prop_assert_eq!((fragment.src, fragment.dst), (packet.src, packet.dst));
            prop_assert_eq!((fragment.ttl, fragment.tos, fragment.protocol), (packet.ttl, packet.tos, packet.protocol));
            prop_assert_eq!(fragment.id, id.map_or(packet.id, u32::from));
            prop_assert!(!fragment.dont_fragment);
        }
        prop_assert_eq!(&list[0][20..usize::from(packet.header_len)], &ip[20..usize::from(packet.header_len)]);
        let original = Ipv4Header::parse(&ip).unwrap();
        let copied: Vec<_> = original.options().filter(ipv4::Ipv4Option::is_copied).collect();
        for bytes in &list[1..] {
            let header = Ipv4Header::parse(bytes).unwrap();
            prop_assert_eq!(&header.options().collect::<Vec<_>>(), &copied);
        }
    }

    #[test]
    fn fragments_of_fragments_make_the_packet_again(shape in whole(), first in 100..300usize, second in 68..100usize) {
        if !shape.src.is_v4() {
            return Ok(());
        }
        let ip = shape.build();
        let list = fragments_v4(&ip, first, None).unwrap();
        let again: Vec<_> =
            list.iter().flat_map(|bytes| fragments_v4(bytes, second, None).unwrap()).collect();
        if again.len() > 1 {
            let (start, data, more) = reassemble(&again);
            prop_assert_eq!((start, more), (0, false));
            prop_assert_eq!(data, &ip[shape.header_len()..]);
        } else {
            prop_assert_eq!(&again[0], &ip);
        }
    }

    #[test]
    fn fragments_of_ipv6_make_the_packet_again(shape in whole(), mtu in 160..400usize, id: u32) {
        if shape.src.is_v4() {
            return Ok(());
        }
        let ip = shape.build();
        let list = fragments_v6(&ip, mtu, id).unwrap();
        if ip.len() <= mtu {
            prop_assert_eq!(&list, &[ip]);
            return Ok(());
        }
        // What each fragment repeats: up to the last hop-by-hop or routing header.
        let repeated = shape
            .extensions
            .iter()
            .take_while(|(kind, _)| *kind != 51)
            .scan((0, 0), |(end, last), (kind, bytes)| {
                *end += 1 + bytes.len();
                if *kind != 60 { *last = *end; }
                Some(*last)
            })
            .last()
            .unwrap_or(0);
        let mut data: Vec<u8> = Vec::new();
        for (index, bytes) in list.iter().enumerate() {
            prop_assert!(bytes.len() <= mtu);
            let fragment = Packet::parse(bytes).unwrap();
            let at = usize::from(fragment.fragment_header);
            prop_assert_eq!(at, 40 + repeated);
            prop_assert_eq!(fragment.id, id);
            prop_assert_eq!(usize::from(fragment.fragment_offset), data.len());
            prop_assert_eq!(fragment.more_fragments, index + 1 < list.len());
            prop_assert_eq!(fragment.ttl, shape.ttl);
            data.extend(&bytes[at + 8..]);
            // Taking the fragment header out again gives the original headers.
            let mut headers = bytes[..at].to_vec();
            headers[4..6].copy_from_slice(&ip[4..6]);
            let link = (0..at).find(|link| headers[*link] != ip[*link]).unwrap();
            prop_assert_eq!((headers[link], bytes[at]), (ipv6::FRAGMENT, ip[link]));
            headers[link] = ip[link];
            prop_assert_eq!(&headers, &ip[..at]);
        }
        prop_assert_eq!(data, &ip[40 + repeated..]);
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let udp = Upper::Udp { checksum: true };
    let v4 = plain(true, udp.clone(), &[7; 100]).build();
    let v6 = plain(false, udp.clone(), &[7; 100]).build();
    assert_eq!(fragments_v4(&v4, 27, None), Err(FragmentError::MtuTooSmall), "20 + 7");
    assert_eq!(fragments_v4(&v4, 28, None).map(|list| list.len()), Ok(14), "20 + 8");
    assert_eq!(fragments_v6(&v6, 55, 1), Err(FragmentError::MtuTooSmall), "40 + 8 + 7");
    assert_eq!(fragments_v6(&v6, 56, 1).map(|list| list.len()), Ok(14), "40 + 8 + 8");
    let mut small = [0; 67];
    let none = |_: &[u8]| panic!("nothing may be handed over");
    assert_eq!(split_v4(&v4, 68, None, &mut small, none), Err(FragmentError::BufferTooSmall));
    assert_eq!(split_v6(&v6, 80, 1, &mut small, none), Err(FragmentError::BufferTooSmall));
    assert_eq!(fragments_v4(&v4[..60], 68, None), Err(ParseError::Truncated.into()));
    assert_eq!(fragments_v4(&v6, 68, None), Err(ParseError::Malformed.into()));
    assert_eq!(fragments_v6(&v4, 100, 1), Err(ParseError::Malformed.into()));
    let already = Shape { fragment: Some((0, true)), ..plain(false, udp, &[7; 100]) };
    assert_eq!(fragments_v6(&already.build(), 100, 1), Err(ParseError::Malformed.into()));
}

#[test]
fn the_longest_packet_is_cut() {
    let ip = plain(true, Upper::Udp { checksum: true }, &std::vec![9; 65535 - 28]).build();
    let list = fragments_v4(&ip, 1500, Some(0)).unwrap();
    assert_eq!(list.len(), 65515usize.div_ceil(1480));
    assert_eq!(reassemble(&list).1, ip[20..]);
}

/// The whole packet again, from all of its fragments in order.
fn join(fragments: &[Vec<u8>], dont_fragment: bool) -> Vec<u8> {
    let first = Packet::parse(&fragments[0]).unwrap();
    let mut data: Vec<u8> = Vec::new();
    for bytes in fragments {
        data.extend(&bytes[data_start(&Packet::parse(bytes).unwrap())..]);
    }
    let mut whole = std::vec![0xaa; data_start(&first)];
    let length =
        emit_whole_header(&fragments[0], &first, first.tos, dont_fragment, data.len(), &mut whole).unwrap();
    whole.truncate(length);
    whole.extend(data);
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_header_of_the_whole_is_the_original(shape in whole(), mtu in 100..300usize) {
        let shape = Shape { dont_fragment: shape.dont_fragment && shape.src.is_v4(), ..shape };
        let bytes = shape.build();
        let list = if shape.src.is_v4() {
            fragments_v4(&bytes, mtu, None)
        } else {
            fragments_v6(&bytes, mtu, 7)
        };
        let Ok(list) = list else { return Ok(()) };
        // A first fragment that cuts the chain of extension headers is refused (RFC 7112).
        let parse = list.iter().all(|bytes| Packet::parse(bytes).is_ok());
        prop_assert!(parse || !shape.extensions.is_empty(), "{:?}", shape);
        if list.len() > 1 && parse {
            prop_assert_eq!(join(&list, shape.dont_fragment), bytes);
        }
    }

    #[test]
    fn refragmenting_gives_the_fragments_again(
        v4: bool, dont_fragment: bool, words in proptest::collection::vec(1..20u16, 1..6), rest in 1..100u16,
    ) {
        let mut lengths: Vec<u16> = words.iter().map(|words| words * 8).collect();
        lengths.push(rest);
        let total: usize = lengths.iter().map(|&length| usize::from(length)).sum();
        let bytes = plain(v4, Upper::Other(99), &std::vec![7; total]).build();
        let (mut list, mut buffer) = (Vec::new(), std::vec![0; 1500]);
        let each = |fragment: &[u8]| list.push(fragment.to_vec());
        if v4 {
            refragment_v4(&bytes, 1500, &lengths, dont_fragment, &mut buffer, each).unwrap();
        } else {
            refragment_v6(&bytes, 1500, &lengths, 9, &mut buffer, each).unwrap();
        }
        let packets: Vec<_> = list.iter().map(|bytes| Packet::parse(bytes).unwrap()).collect();
        let found: Vec<_> = packets.iter().zip(&list).map(|(packet, bytes)| bytes.len() - data_start(packet)).collect();
        let want: Vec<_> = lengths.iter().map(|&length| usize::from(length)).collect();
        prop_assert_eq!(found, want);
        prop_assert!(packets.iter().all(|packet| packet.dont_fragment == (dont_fragment || !v4)));
        if !v4 || dont_fragment {
            // The built packet has "don't fragment" as `plain` sets it; compare what is behind the header.
            prop_assert_eq!(&join(&list, false)[if v4 { 20 } else { 40 }..], &bytes[if v4 { 20 } else { 40 }..]);
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_not_used(mtu in 68..200usize, lengths in proptest::collection::vec(any::<u16>(), 0..5)) {
        let bytes = plain(true, Upper::Other(99), &[7; 400]).build();
        let (mut list, mut buffer) = (Vec::new(), std::vec![0; mtu]);
        let each = |fragment: &[u8]| list.push(fragment.to_vec());
        refragment_v4(&bytes, mtu, &lengths, false, &mut buffer, each).unwrap();
        prop_assert!(list.iter().all(|bytes| bytes.len() <= mtu));
        prop_assert_eq!(reassemble(&list).1, &bytes[20..]);
    }
}

#[test]
fn a_whole_longer_than_any_packet_is_refused() {
    let bytes = plain(true, Upper::Other(99), &[7; 100]).build();
    let packet = Packet::parse(&bytes).unwrap();
    let mut buffer = [0; 60];
    for (data_len, want) in [(65515, Ok(20)), (65516, Err(ParseError::Malformed))] {
        assert_eq!(emit_whole_header(&bytes, &packet, 0, false, data_len, &mut buffer), want);
    }
}
