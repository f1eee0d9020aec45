use proptest::prelude::*;
use uvs_wire::ipv4::Ipv4Repr;
use uvs_wire::ipv6::Ipv6Repr;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

fn centis(centis: u16) -> Interval {
    Interval::from_centis(centis).expect("it is an interval")
}

fn advertisement(version: Version, addresses: &[&str]) -> Advertisement {
    Advertisement {
        version,
        vrid: 51,
        priority: 100,
        interval: Interval::DEFAULT,
        password: None,
        addresses: addresses.iter().map(|text| ip(text)).collect(),
    }
}

const SRC: &str = "192.0.2.1";
const SRC6: &str = "fe80::1";

fn parse(payload: &[u8], src: &str, dst: IpAddr) -> Result<(Advertisement, ChecksumForm), Refusal> {
    Datagram { src: ip(src), dst, ttl: 255, payload }.parse(255)
}

/// Sets the checksum of a message without a pseudo-header.
fn fill(message: &mut [u8]) {
    message[6..8].fill(0);
    let sum = Sum::new().add_bytes(message).finish();
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn messages_are_those_of_the_rfcs_byte_for_byte() {
    let group = Family::V4.group();
    // Sums worked out by hand: 0x2133 + 0x6401 + 0x0001 + 0x0a00 + 0x0064 = 0x8f99.
    let v2 = [0x21, 51, 100, 1, 0, 1, 0x70, 0x66, 10, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(advertisement(Version::V2, &["10.0.0.100"]).emit(ip(SRC), group, ChecksumForm::Rfc5798), v2);
    // 0x3133 + 0x6401 + 0x0064 + 0x0a00 + 0x0064 = 0x9ffc.
    let v3 = [0x31, 51, 100, 1, 0, 100, 0x60, 0x03, 10, 0, 0, 100];
    assert_eq!(advertisement(Version::V3, &["10.0.0.100"]).emit(ip(SRC), group, ChecksumForm::Rfc9568), v3);
    // And the pseudo-header: 0xc000 + 0x0201 + 0xe000 + 0x0012 + 0x0070 + 0x000c gives 0x1a28f, in all 0x2428b.
    let with_pseudo = [0x31, 51, 100, 1, 0, 100, 0xbd, 0x72, 10, 0, 0, 100];
    let emitted = advertisement(Version::V3, &["10.0.0.100"]).emit(ip(SRC), group, ChecksumForm::Rfc5798);
    assert_eq!(emitted, with_pseudo);
    let password = Some(Password::new(b"secretive"));
    let message = Advertisement { password, ..advertisement(Version::V2, &["10.0.0.100"]) };
    let bytes = message.emit(ip(SRC), group, ChecksumForm::Rfc5798);
    assert_eq!((bytes[4], &bytes[12..]), (1, &b"secretiv"[..]), "type 1, and 8 bytes of it");
}

#[test]
fn each_reason_not_to_take_a_message() {
    let group = Family::V4.group();
    let good = advertisement(Version::V3, &["10.0.0.100", "10.0.0.101"]);
    let good = good.emit(ip(SRC), group, ChecksumForm::Rfc9568);
    let v2 = advertisement(Version::V2, &["10.0.0.100"]).emit(ip(SRC), group, ChecksumForm::Rfc9568);
    let edited = |bytes: &[u8], edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.to_vec();
        edit(&mut bytes);
        fill(&mut bytes);
        parse(&bytes, SRC, group).map(|_| ())
    };
    type Case<'a> = (&'a [u8], &'a dyn Fn(&mut Vec<u8>), Result<(), Refusal>, &'a str);
    let cases: [Case<'_>; 17] = [
        (&good, &|_| {}, Ok(()), "a good one"),
        (&good, &|bytes| bytes[4] |= 0xf0, Ok(()), "reserved bits are not looked at"),
        (&good, &|bytes| bytes.truncate(12), Err(Refusal::Length), "cut off"),
        (&good, &|bytes| bytes.push(0), Err(Refusal::Length), "a byte too many"),
        (&good, &|bytes| bytes[3] = 3, Err(Refusal::Length), "more addresses than there are"),
        (&good, &|bytes| bytes[3] = 1, Err(Refusal::Length), "fewer addresses than there are"),
        (&good, &|bytes| bytes[0] = 0x41, Err(Refusal::Version), "version 4"),
        (&good, &|bytes| bytes[0] = 0x11, Err(Refusal::Version), "version 1"),
        (&good, &|bytes| bytes[0] = 0x32, Err(Refusal::Type), "type 2"),
        (&good, &|bytes| bytes[1] = 0, Err(Refusal::Vrid), "VRID 0"),
        (&good, &|bytes| bytes[4..6].fill(0), Err(Refusal::Interval), "interval 0"),
        (&good, &|bytes| *bytes = vec![0x31, 51, 100, 0, 0, 100, 0, 0], Err(Refusal::Count), "no address"),
        (&v2, &|_| {}, Ok(()), "a good one of version 2"),
        (&v2, &|bytes| bytes[4] = 2, Err(Refusal::AuthType), "IPsec's authentication header"),
        (&v2, &|bytes| bytes[5] = 0, Err(Refusal::Interval), "interval 0"),
        (&v2, &|bytes| bytes.truncate(12), Err(Refusal::Length), "no room for a password"),
        (&v2, &|bytes| bytes[0] = 0x31, Err(Refusal::Length), "version 3 has none"),
    ];
    for (bytes, edit, want, why) in cases {
        assert_eq!(edited(bytes, edit), want, "{why}");
    }
    for (ttl, least, want) in [(254, 255, Err(Refusal::Ttl)), (254, 254, Ok(())), (0, 1, Err(Refusal::Ttl))] {
        let datagram = Datagram { src: ip(SRC), dst: group, ttl, payload: &good };
        assert_eq!(datagram.parse(least).map(|_| ()), want, "TTL {ttl} where {least} is asked for");
    }
    for len in 0..8 {
        assert_eq!(parse(&good[..len], SRC, group).map(|_| ()), Err(Refusal::Length));
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x08;
        // The byte that tells the length is checked first.
        let want = if at == 3 || at == 0 { None } else { Some(Refusal::Checksum) };
        let refusal = parse(&bytes, SRC, group).map(|_| ()).unwrap_err();
        assert!(want.is_none_or(|want| want == refusal), "byte {at}: {refusal}");
    }
    let mut v2_over_v6 = advertisement(Version::V2, &["2001:db8::1"]);
    v2_over_v6.version = Version::V3;
    let mut bytes = v2_over_v6.emit(ip(SRC6), Family::V6.group(), ChecksumForm::Rfc9568);
    bytes[0] = 0x21;
    assert_eq!(
        parse(&bytes, SRC6, Family::V6.group()).map(|_| ()),
        Err(Refusal::Version),
        "version 2 over IPv6"
    );
    assert_eq!(
        parse(&good, SRC, Family::V6.group()).map(|_| ()),
        Err(Refusal::NotVrrp),
        "families that differ"
    );
}

#[test]
fn both_checksums_of_version_3_over_ipv4_are_taken_and_told_apart() {
    let (group, peer) = (Family::V4.group(), ip("192.0.2.2"));
    let message = advertisement(Version::V3, &["10.0.0.100"]);
    let form = |bytes: &[u8], dst| parse(bytes, SRC, dst).map(|(_, form)| form);
    for dst in [group, peer] {
        for form_sent in [ChecksumForm::Rfc9568, ChecksumForm::Rfc5798] {
            assert_eq!(form(&message.emit(ip(SRC), dst, form_sent), dst), Ok(form_sent));
        }
    }
    let to_group = message.emit(ip(SRC), group, ChecksumForm::Rfc5798);
    assert_eq!(form(&to_group, peer), Ok(ChecksumForm::Rfc5798Group), "old versions of keepalived");
    // The pseudo-header is no part of it in version 2, and always one over IPv6.
    let v2 = advertisement(Version::V2, &["10.0.0.100"]);
    let [one, two] = [ChecksumForm::Rfc9568, ChecksumForm::Rfc5798].map(|form| v2.emit(ip(SRC), group, form));
    assert_eq!(one, two);
    let v6 = advertisement(Version::V3, &["fe80::100", "2001:db8::100"]);
    let [one, two] = [ChecksumForm::Rfc9568, ChecksumForm::Rfc5798]
        .map(|form| v6.emit(ip(SRC6), Family::V6.group(), form));
    assert_eq!(one, two);
    let mut bare = one.clone();
    fill(&mut bare);
    assert_eq!(parse(&bare, SRC6, Family::V6.group()).map(|_| ()), Err(Refusal::Checksum));
}

#[test]
fn intervals_are_those_that_a_version_can_say() {
    for (value, v2, v3) in [(1, false, true), (100, true, true), (150, false, true), (4095, false, true)] {
        assert_eq!((centis(value).fits(Version::V2), centis(value).fits(Version::V3)), (v2, v3), "{value}");
    }
    assert_eq!((centis(4100).fits(Version::V2), centis(4100).fits(Version::V3)), (true, false));
    assert_eq!([0, 25_501].map(Interval::from_centis), [None; 2]);
    assert_eq!(centis(10).duration(), Duration::from_millis(100));
}

#[test]
fn a_packet_loses_its_header_and_ethernets_padding() {
    let message = advertisement(Version::V3, &["10.0.0.100"]);
    let payload = message.emit(ip(SRC), Family::V4.group(), ChecksumForm::Rfc9568);
    let header = Ipv4Repr {
        src: "192.0.2.1".parse().unwrap(),
        dst: GROUP_V4,
        protocol: PROTOCOL,
        ttl: TTL,
        tos: 0xc0,
        id: 7,
        dont_fragment: false,
        payload_len: u16::try_from(payload.len()).unwrap(),
    };
    let mut packet = vec![0; 46];
    header.emit(&mut packet);
    packet[20..20 + payload.len()].copy_from_slice(&payload);
    let datagram = Datagram::of_packet(&packet).expect("it is VRRP");
    assert_eq!((datagram.ttl, datagram.vrid()), (255, Some(51)));
    assert_eq!(datagram.parse(255), Ok((message, ChecksumForm::Rfc9568)));
    for (at, value, why) in [(9, 17, "UDP"), (6, 0x20, "a fragment"), (0, 0x55, "no packet")] {
        let mut other = packet.clone();
        other[at] = value;
        assert_eq!(Datagram::of_packet(&other).map(|_| ()), Err(Refusal::NotVrrp), "{why}");
    }

    let message = advertisement(Version::V3, &["fe80::100"]);
    let payload = message.emit(ip(SRC6), Family::V6.group(), ChecksumForm::Rfc9568);
    let header = Ipv6Repr {
        src: "fe80::1".parse().unwrap(),
        dst: GROUP_V6,
        next_header: PROTOCOL,
        hop_limit: TTL,
        traffic_class: 0xc0,
        payload_len: u16::try_from(payload.len()).unwrap(),
    };
    let mut packet = vec![0; 40];
    header.emit(&mut packet);
    packet.extend(&payload);
    let datagram = Datagram::of_packet(&packet).expect("it is VRRP");
    assert_eq!(datagram.parse(255).map(|(message, _)| message), Ok(message));
}

fn any_advertisement() -> impl Strategy<Value = (Advertisement, IpAddr, IpAddr, ChecksumForm)> {
    let v4 = prop::collection::vec(any::<[u8; 4]>().prop_map(IpAddr::from), 1..=255);
    let v6 = prop::collection::vec(any::<[u8; 16]>().prop_map(IpAddr::from), 1..=90);
    let of_v4 = (v4, any::<[u8; 4]>(), prop_oneof![Just(Family::V4.group()), Just(ip("192.0.2.9"))])
        .prop_map(|(addresses, src, dst)| (addresses, IpAddr::from(src), dst));
    let of_v6 = (v6, 1_u8..9).prop_map(|(addresses, host)| {
        (addresses, IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host.into())), Family::V6.group())
    });
    let form = prop_oneof![Just(ChecksumForm::Rfc9568), Just(ChecksumForm::Rfc5798)];
    let password = prop::option::of(any::<[u8; 8]>().prop_map(Password));
    (prop_oneof![of_v4, of_v6], any::<bool>(), 1..=255_u8, any::<u8>(), 1..=4095_u16, password, form)
        .prop_map(|((addresses, src, dst), v2, vrid, priority, interval, password, form)| {
            let v2 = v2 && src.is_ipv4();
            let version = if v2 { Version::V2 } else { Version::V3 };
            let interval = centis(if v2 { interval % 255 * 100 + 100 } else { interval });
            let password = password.filter(|_| v2);
            (Advertisement { version, vrid, priority, interval, password, addresses }, src, dst, form)
        })
}

proptest! {
    #[test]
    fn emit_then_parse_is_the_same((message, src, dst, form) in any_advertisement()) {
        let payload = message.emit(src, dst, form);
        let parsed = Datagram { src, dst, ttl: 255, payload: &payload }.parse(255);
        prop_assert_eq!(parsed.map(|(message, _)| message), Ok(message));
    }

    #[test]
    fn a_message_that_lost_its_end_is_refused((message, src, dst, form) in any_advertisement(), cut in 0.0..1.0) {
        let payload = message.emit(src, dst, form);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let len = (payload.len() as f64 * cut) as usize;
        let parsed = Datagram { src, dst, ttl: 255, payload: &payload[..len] }.parse(255);
        prop_assert_eq!(parsed.map(|_| ()), Err(Refusal::Length));
    }

    #[test]
    fn garbage_is_no_reason_to_panic(
        src in prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)],
        dst in prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)],
        ttl: u8,
        mut payload in prop::collection::vec(any::<u8>(), 0..80),
        version in 0_u8..8,
        seal: bool,
    ) {
        if let Some(first) = payload.first_mut() {
            *first = version << 4 | 1;
        }
        if seal && payload.len() >= 8 {
            fill(&mut payload);
        }
        let _ = Datagram { src, dst, ttl, payload: &payload }.parse(0);
        let _ = Datagram::of_packet(&payload);
    }

    #[test]
    fn what_is_sent_can_always_be_parsed_or_has_no_address(
        addresses in prop::collection::vec(prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ], 0..600),
        interval in 1..=25_500_u16,
        v2: bool,
    ) {
        let version = if v2 { Version::V2 } else { Version::V3 };
        let message = Advertisement { interval: centis(interval), addresses, ..advertisement(version, &[]) };
        let payload = message.emit(ip(SRC), Family::V4.group(), ChecksumForm::Rfc9568);
        let parsed = parse(&payload, SRC, Family::V4.group());
        let count = message.addresses.iter().filter(|ip| ip.is_ipv4()).count().min(255);
        match parsed {
            Ok((parsed, _)) => {
                prop_assert_eq!(parsed.addresses.len(), count);
                prop_assert!(parsed.interval >= message.interval || parsed.interval.centis() == 4095);
            }
            Err(refusal) => prop_assert_eq!((refusal, count), (Refusal::Count, 0)),
        }
    }
}
