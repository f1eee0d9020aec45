use super::*;
use proptest::prelude::*;
use uvs_wire::ipv4::Ipv4Repr;
use uvs_wire::ipv6::Ipv6Repr;

const PORT: PortId = PortId(0);

/// A packet of a protocol without a header of its own, with data that tell where they were.
fn packet(v4: bool, len: usize, id: u16, tos: u8, dont_fragment: bool) -> Vec<u8> {
    let data = (0..len).map(|at| u8::try_from(at / 8 % 251).unwrap());
    let payload_len = u16::try_from(len).unwrap();
    let mut bytes = vec![0; if v4 { 20 } else { 40 }];
    if v4 {
        let (src, dst) = ([192, 0, 2, 1].into(), [10, 0, 0, 100].into());
        Ipv4Repr { src, dst, protocol: 99, ttl: 60, tos, id, dont_fragment, payload_len }.emit(&mut bytes);
    } else {
        let (src, dst) = ("2001:db8::1".parse().unwrap(), "fd00::100".parse().unwrap());
        let header = Ipv6Repr { src, dst, next_header: 99, hop_limit: 60, traffic_class: tos, payload_len };
        header.emit(&mut bytes);
    }
    bytes.extend(data);
    bytes
}

fn split(ip: &[u8], lengths: &[u16], id: u32) -> Vec<Vec<u8>> {
    let (mut list, mut buffer) = (Vec::new(), vec![0; 70_000]);
    let each = |bytes: &[u8]| list.push(bytes.to_vec());
    if ip[0] >> 4 == 4 {
        fragment::refragment_v4(ip, 65_535, lengths, ip[6] & 0x40 != 0, &mut buffer, each).unwrap();
    } else {
        fragment::refragment_v6(ip, 65_535, lengths, id, &mut buffer, each).unwrap();
    }
    list
}

/// One fragment: where it starts, how long it is, whether more follow.
fn piece(v4: bool, offset: u16, len: usize, more: bool) -> Vec<u8> {
    let mut bytes = packet(v4, len + if v4 { 0 } else { 8 }, 7, 0, false);
    if v4 {
        let field = (offset / 8) | if more { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&field.to_be_bytes());
        uvs_wire::ipv4::fill_checksum(&mut bytes);
    } else {
        bytes[6] = 44;
        let [high, low] = (offset | u16::from(more)).to_be_bytes();
        bytes[40..48].copy_from_slice(&[99, 0, high, low, 0, 0, 0, 7]);
    }
    bytes
}

fn add_at(reassembly: &Reassembly, bytes: &[u8], now: Instant) -> (Added, usize) {
    reassembly.add(bytes, &Packet::parse(bytes).unwrap(), PORT, now)
}

fn add(reassembly: &Reassembly, bytes: &[u8]) -> Added {
    add_at(reassembly, bytes, Instant::ZERO).0
}

fn with(limits: Limits) -> Reassembly {
    Reassembly::new(&limits, 1)
}

fn is_empty(reassembly: &Reassembly) -> bool {
    let state = lock(&reassembly.state);
    state.packets.is_empty() && state.order.is_empty() && state.cost == 0
}

/// What a fragment does, as a word.
fn word(added: &Added) -> &'static str {
    match added {
        Added::Waits => "waits",
        Added::Whole(..) => "whole",
        Added::Refused(reason) => reason.label(),
    }
}

#[test]
fn overlaps_and_contradictions_lose_the_packet() {
    type Piece = (u16, usize, bool);
    let (last, more) = (false, true);
    let cases: [(&[Piece], &[&str], &str); 15] = [
        (&[(0, 16, more), (16, 4, last)], &["waits", "whole"], "in order"),
        (&[(16, 4, last), (0, 16, more)], &["waits", "whole"], "reversed"),
        (&[(0, 16, more), (0, 16, more), (16, 4, last)], &["waits", "fragment", "whole"], "a duplicate"),
        (&[(0, 16, more), (8, 8, more), (16, 4, last)], &["waits", "fragment", "whole"], "inside another"),
        (
            &[(0, 16, more), (16, 16, more), (8, 16, more), (32, 4, last)],
            &["waits", "waits", "fragment", "whole"],
            "inside two that came one after the other",
        ),
        (&[(0, 16, more), (8, 16, more), (16, 4, last)], &["waits", "fragment", "waits"], "overlaps the end"),
        (
            &[(16, 16, more), (8, 16, more), (0, 8, more)],
            &["waits", "fragment", "waits"],
            "overlaps the start",
        ),
        (&[(8, 8, more), (0, 24, more), (24, 4, last)], &["waits", "fragment", "waits"], "covers another"),
        (&[(16, 8, last), (0, 32, more)], &["waits", "fragment"], "more behind the last"),
        (
            &[(24, 8, more), (16, 4, last), (0, 16, more)],
            &["waits", "fragment", "waits"],
            "last before another",
        ),
        (&[(16, 8, last), (16, 4, last)], &["waits", "fragment"], "two ends"),
        (&[(0, 16, more), (16, 0, last)], &["waits", "fragment"], "no data"),
        (&[(0, 0, more)], &["fragment"], "no data at the start"),
        (&[(8, 16, more), (24, 4, last), (0, 8, more)], &["waits", "waits", "whole"], "the first comes last"),
        (&[(16, 8, last), (0, 8, more), (8, 8, more)], &["waits", "waits", "whole"], "a hole is filled"),
    ];
    for v4 in [true, false] {
        for (pieces, want, why) in &cases {
            let reassembly = with(Limits::default());
            let found: Vec<_> = pieces
                .iter()
                .map(|&(offset, len, more)| word(&add(&reassembly, &piece(v4, offset, len, more))))
                .collect();
            assert_eq!(&found, want, "{why}, IPv4: {v4}");
        }
    }
    let reassembly = with(Limits::default());
    assert_eq!(word(&add(&reassembly, &piece(false, 0, 13, true))), "fragment", "IPv6 has no odd lengths");
    assert_eq!(word(&add(&reassembly, &piece(true, 0, 13, true))), "waits");
    assert_eq!(word(&add(&reassembly, &piece(true, 8, 4, false))), "whole", "of IPv4 they are cut");
}

#[test]
fn congestion_is_remembered_and_mixtures_are_refused() {
    // ECN of each fragment, and of the whole (RFC 3168 section 5.3); None: dropped.
    let cases: [(&[u8], Option<u8>); 8] = [
        (&[0, 0], Some(0)),
        (&[2, 2], Some(2)),
        (&[3, 3], Some(3)),
        (&[2, 3], Some(3)),
        (&[1, 3], Some(3)),
        (&[2, 1], Some(2)),
        (&[0, 3], None),
        (&[2, 0], None),
    ];
    for v4 in [true, false] {
        for (ecn, want) in cases {
            let lengths = vec![16; ecn.len()];
            let list: Vec<_> = (0..ecn.len())
                .map(|n| split(&packet(v4, 16 * ecn.len(), 7, 0xb8 | ecn[n], false), &lengths, 9)[n].clone())
                .collect();
            let reassembly = with(Limits::default());
            let mut last = Added::Waits;
            for bytes in &list {
                last = add(&reassembly, bytes);
            }
            let found = match last {
                Added::Whole(bytes, _) => Some(Packet::parse(&bytes).unwrap().tos),
                _ => None,
            };
            assert_eq!(found, want.map(|ecn| 0xb8 | ecn), "{ecn:?}, IPv4: {v4}");
            assert!(is_empty(&reassembly));
        }
    }
}

#[test]
fn do_not_fragment_holds_if_the_largest_had_it() {
    for (lengths, df, want) in [([16, 8], [true, true], true), ([16, 8], [false, true], false)] {
        let reassembly = with(Limits::default());
        let mut whole = None;
        for (n, df) in df.into_iter().enumerate() {
            let bytes = &split(&packet(true, 24, 7, 0, df), &lengths, 0)[n];
            if let Added::Whole(bytes, fragments) = add(&reassembly, bytes) {
                whole = Some((Packet::parse(&bytes).unwrap().dont_fragment, fragments));
            }
        }
        let fragments = Fragments { lengths: lengths.to_vec(), largest: 36, dont_fragment: want };
        assert_eq!(whole, Some((want, fragments)), "{df:?}");
    }
}

#[test]
fn a_packet_longer_than_any_can_be_is_refused() {
    let reassembly = with(Limits::default());
    assert_eq!(word(&add(&reassembly, &piece(true, 65_504, 31, false))), "waits");
    // The data alone are 65535 bytes, and no header fits in front.
    let mut offset = 0;
    let mut last = "";
    while offset < 65_504 {
        let len = 8_000.min(65_504 - offset);
        last = word(&add(&reassembly, &piece(true, u16::try_from(offset).unwrap(), len, true)));
        offset += len;
    }
    assert_eq!(last, "fragment");
    assert!(is_empty(&reassembly));
}

#[test]
fn what_is_not_whole_in_time_is_given_up() {
    let at = Instant::from_secs;
    for (v4, secs) in [(true, 30), (false, 60)] {
        let reassembly = with(Limits::default());
        assert_eq!(reassembly.next_due(), None);
        add_at(&reassembly, &piece(v4, 0, 16, true), at(1));
        add_at(&reassembly, &piece(v4, 16, 16, true), at(20));
        assert_eq!(reassembly.next_due(), Some(at(1 + secs)), "counted from the first to come");
        assert!(reassembly.expire(Instant::from_millis(999 + 1000 * secs)).is_empty());
        let expired = reassembly.expire(at(1 + secs));
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].first.as_deref(), Some(&piece(v4, 0, 16, true)[..]), "as it came in");
        assert!(reassembly.next_due().is_none() && is_empty(&reassembly));

        add_at(&reassembly, &piece(v4, 16, 16, false), at(100));
        let expired = reassembly.expire(at(200));
        assert!(expired.len() == 1 && expired[0].first.is_none(), "the first never came");
    }
}

#[test]
fn many_that_are_due_at_once_are_given_up_some_at_a_time() {
    let reassembly = with(Limits::default());
    let (many, at) = (2 * EXPIRE_SLICE + 10, Instant::from_secs(40));
    for id in 0..u16::try_from(many).unwrap() {
        add_at(&reassembly, &split(&packet(true, 1600, id, 0, false), &[800, 800], 0)[0], Instant::ZERO);
    }
    for want in [EXPIRE_SLICE, EXPIRE_SLICE, 10] {
        assert!(reassembly.next_due().is_some_and(|due| due <= at), "there are more");
        assert_eq!(reassembly.expire(at).len(), want);
    }
    assert!(reassembly.next_due().is_none() && is_empty(&reassembly));
}

#[test]
fn at_a_limit_the_oldest_packet_goes() {
    let first = |id: u16| split(&packet(true, 1600, id, 0, false), &[800, 800], 0)[0].clone();
    let second = |id: u16| split(&packet(true, 1600, id, 0, false), &[800, 800], 0)[1].clone();
    let by_packets = Limits { fragmented_packets: 3, ..Limits::default() };
    let by_bytes = Limits { fragment_bytes: 3 * (820 + FRAGMENT_COST + PACKET_COST), ..Limits::default() };
    for limits in [by_packets, by_bytes] {
        let reassembly = with(limits);
        for id in 1..=3 {
            assert_eq!(add_at(&reassembly, &first(id), Instant::from_secs(id.into())).1, 0);
        }
        let (added, evicted) = add_at(&reassembly, &first(4), Instant::from_secs(4));
        assert_eq!((word(&added), evicted), ("waits", 1));
        assert_eq!(reassembly.next_due(), Some(Instant::from_secs(32)), "the second is the oldest now");
        assert_eq!(word(&add(&reassembly, &second(1))), "waits", "its first is gone, and it starts anew");
        assert_eq!(word(&add(&reassembly, &second(4))), "whole");
    }
    let reassembly = with(Limits { fragment_bytes: 1000, ..Limits::default() });
    assert_eq!(word(&add(&reassembly, &first(1))), "fragment_limit", "too big by itself");
    assert!(is_empty(&reassembly));
}

#[test]
fn a_packet_in_too_many_fragments_is_dropped() {
    let reassembly = with(Limits { fragments_per_packet: 4, ..Limits::default() });
    let list = split(&packet(true, 40, 7, 0, false), &[8; 5], 0);
    let found: Vec<_> = list.iter().map(|bytes| word(&add(&reassembly, bytes))).collect();
    assert_eq!(found, ["waits", "waits", "waits", "waits", "fragment_limit"]);
    assert!(is_empty(&reassembly));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_with_duplicates_gives_the_packet(
        v4: bool, dont_fragment: bool, words in proptest::collection::vec(1..40u16, 1..12), rest in 1..300u16,
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..30),
    ) {
        let mut lengths: Vec<u16> = words.iter().map(|words| words * 8).collect();
        lengths.push(rest);
        let total = lengths.iter().map(|&length| usize::from(length)).sum();
        let whole = packet(v4, total, 7, 0x28, dont_fragment && v4);
        let list = split(&whole, &lengths, 77);
        let reassembly = with(Limits::default());
        let (mut missing, mut found): (Vec<usize>, _) = ((0..list.len()).collect(), None);
        // First as the indices say, with repetitions; then those that are still missing.
        let picked: Vec<_> = order.iter().map(|index| index.index(list.len())).collect();
        let rest: Vec<_> = missing.iter().copied().filter(|n| !picked.contains(n)).collect();
        for n in picked.into_iter().chain(rest) {
            if found.is_some() {
                break;
            }
            let is_new = missing.contains(&n);
            missing.retain(|&other| other != n);
            match add(&reassembly, &list[n]) {
                Added::Whole(bytes, fragments) => found = Some((bytes, fragments)),
                Added::Waits => prop_assert!(is_new),
                Added::Refused(reason) => prop_assert!(!is_new && reason == DropReason::Fragment),
            }
        }
        let (bytes, fragments) = found.unwrap();
        prop_assert!(missing.is_empty());
        prop_assert_eq!(bytes, whole);
        prop_assert_eq!(&fragments.lengths, &lengths);
        prop_assert_eq!(fragments.largest as usize, list.iter().map(Vec::len).max().unwrap());
        prop_assert_eq!(fragments.dont_fragment, dont_fragment && v4);
        prop_assert!(is_empty(&reassembly));
    }

    #[test]
    fn noise_never_panics_stays_in_bounds_and_leaves_nothing(
        pieces in proptest::collection::vec((any::<bool>(), 0..200u16, 0..100usize, any::<bool>(), 0..4u8), 0..60),
    ) {
        let limits = Limits {
            fragment_bytes: 3000, fragmented_packets: 3, fragments_per_packet: 5, ..Limits::default()
        };
        let reassembly = with(limits);
        for (v4, offset, len, more, source) in pieces {
            let mut bytes = piece(v4, offset * 8, len, more);
            bytes[if v4 { 15 } else { 23 }] = source;
            let Ok(packet) = Packet::parse(&bytes) else { continue };
            if packet.is_fragment() {
                reassembly.add(&bytes, &packet, PORT, Instant::ZERO);
            }
            let state = lock(&reassembly.state);
            prop_assert!(state.cost <= 3000 && state.packets.len() <= 3);
            prop_assert_eq!(state.packets.len(), state.order.len());
            prop_assert_eq!(state.packets.values().map(|partial| partial.cost).sum::<usize>(), state.cost);
            prop_assert!(state.packets.values().all(|partial| partial.pieces.len() <= 5));
        }
        reassembly.expire(Instant::MAX);
        prop_assert!(is_empty(&reassembly) && reassembly.next_due().is_none());
    }
}
