//! Records to bytes and back, also between versions, cut off, and broken.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{counts, id, record};

use proptest::prelude::*;
use uvs_director::record::{ConnectionId, ConnectionRecord, FtpRecord, Group, Replaced};
use uvs_director::spec::{Family, Forwarding, Protocol, ServiceKey, Tunnel};
use uvs_director::view::Origin;
use uvs_state::{Hello, MESSAGE_MAX, Message, Read, Stream, VERSION, read};
use uvs_wire::Address;

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        8 => record().prop_map(Message::Connection),
        2 => id().prop_map(Message::Gone),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(version, needs)| Message::Hello(Hello { version, needs })),
        1 => any::<[u64; 2]>().prop_map(|[generation, at_millis]| Message::Begin { generation, at_millis }),
        1 => any::<u64>().prop_map(|entries| Message::Commit { entries }),
        2 => counts().prop_map(Message::Counts),
    ]
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

/// All messages of a stream, and what is left of it.
fn read_all(mut bytes: &[u8]) -> (Vec<Read>, usize) {
    let mut all = Vec::new();
    while let Some((read, len)) = read(bytes) {
        all.push(read);
        bytes = &bytes[len..];
    }
    (all, bytes.len())
}

/// The same message with another length and body.
fn with_body(bytes: &[u8], body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&bytes[..2], &len, body].concat()
}

proptest! {
    #[test]
    fn what_is_written_is_read(messages in prop::collection::vec(message(), 0..20)) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        let want: Vec<Read> = messages.into_iter().map(Read::Message).collect();
        prop_assert_eq!(read_all(&bytes), (want, 0));
    }

    /// A stream that ends anywhere is whole up to its last whole message.
    #[test]
    fn a_stream_that_was_cut_off_is_read_as_far_as_it_goes(
        messages in prop::collection::vec(message(), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for message in &messages {
            message.encode(&mut bytes);
            ends.push(bytes.len());
        }
        let cut = cut.index(bytes.len());
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let (read, left) = read_all(&bytes[..cut]);
        let want: Vec<Read> = messages.into_iter().take(whole).map(Read::Message).collect();
        prop_assert_eq!(read, want);
        prop_assert_eq!(left, cut - if whole > 0 { ends[whole - 1] } else { 0 });
    }

    /// However the bytes are cut into pieces, the same comes of them.
    #[test]
    fn a_stream_may_come_in_pieces(messages in prop::collection::vec(message(), 1..10), piece in 1usize..200) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        let (mut stream, mut got) = (Stream::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            stream.feed(piece);
            while let Some(read) = stream.next() {
                got.push(read);
            }
        }
        let want: Vec<Read> = messages.into_iter().map(Read::Message).collect();
        prop_assert_eq!(got, want);
    }

    /// An older reader, a newer writer: fields that were appended are passed over.
    #[test]
    fn fields_that_a_later_version_appends_are_passed_over(
        message in message(),
        appended in prop::collection::vec(any::<u8>(), 1..50),
    ) {
        let bytes = encoded(&message);
        let longer = with_body(&bytes, &[&bytes[4..], &appended].concat());
        prop_assert_eq!(read_all(&longer), (vec![Read::Message(message)], 0));
    }

    /// The same with kinds.
    #[test]
    fn kinds_that_are_not_known_are_passed_over(
        before in message(),
        kind in 100u16..,
        body in prop::collection::vec(any::<u8>(), 0..300),
        after in message(),
    ) {
        let unknown = [&kind.to_be_bytes()[..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
        let bytes = [encoded(&before), unknown, encoded(&after)].concat();
        let want = vec![Read::Message(before), Read::Unknown(kind), Read::Message(after)];
        prop_assert_eq!(read_all(&bytes), (want, 0));
    }

    /// A message whose fields end too soon is broken, and those behind it are read.
    #[test]
    fn a_message_that_is_too_short_costs_no_other(message in message(), after in message(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&message);
        let short = with_body(&bytes, &bytes[4..4 + cut.index(bytes.len() - 4)]);
        let (read, left) = read_all(&[short, encoded(&after)].concat());
        let kind = u16::from_be_bytes([bytes[0], bytes[1]]);
        prop_assert_eq!(read, vec![Read::Broken(kind), Read::Message(after)]);
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn no_bytes_are_a_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u16..8) {
        read_all(&bytes);
        // The same as the body of each kind.
        let head = [&kind.to_be_bytes()[..], &u16::try_from(bytes.len()).unwrap().to_be_bytes()].concat();
        let (read, left) = read_all(&[head, bytes].concat());
        prop_assert_eq!((read.len(), left), (1, 0));
    }

    /// Bytes of a record changed here and there: read as something else, or broken.
    #[test]
    fn bytes_that_were_changed_are_no_reason_to_panic(
        record in record(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = encoded(&Message::Connection(record));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (_, left) = read_all(&bytes);
        prop_assert!(left <= bytes.len());
    }
}

/// The bytes of the first version, as they will be read for ever.
#[test]
fn the_first_version_stays_as_it_was() {
    let record = ConnectionRecord {
        id: ConnectionId {
            protocol: 6,
            client: ("198.51.100.7".parse::<IpAddr>().unwrap().into(), 40_000),
            asked_for: ("192.0.2.10".parse::<IpAddr>().unwrap().into(), 80),
            template: false,
            announced: false,
        },
        service: ServiceKey::new(Protocol::Tcp, "192.0.2.10:80".parse().unwrap()),
        server: "10.0.0.11:8080".parse().unwrap(),
        is_removed: false,
        destination: ("10.0.0.11".parse::<IpAddr>().unwrap().into(), 8080),
        forwarding: Forwarding::Nat,
        state: 1,
        is_active: true,
        is_answered: true,
        is_outdone: false,
        origin: Origin::Template,
        packets_in: 9,
        timeout: Duration::from_secs(900),
        remaining: Duration::from_secs(600),
        waited: None,
        hangs_on: Some(Group { number: 5, is_assured: true, is_one_packet: false }),
        leads: None,
        ftp: None,
        is_cached: false,
    };
    let bytes = encoded(&Message::Connection(record.clone()));
    let want: Vec<u8> = [
        &[0, 3, 0, 50][..],
        &[0, 0, 0x0c, 0x0c, 6, 1, 3, 9],
        &[4, 198, 51, 100, 7, 0x9c, 0x40],
        &[4, 192, 0, 2, 10, 0, 80],
        &[4, 10, 0, 0, 11, 0x1f, 0x90],
        &[0],
        &900_000u32.to_be_bytes(),
        &600_000_000_000u64.to_be_bytes(),
        &5u64.to_be_bytes(),
    ]
    .concat();
    assert_eq!(bytes, want);
    assert_eq!(read_all(&want), (vec![Read::Message(Message::Connection(record))], 0));
    let hello = Message::Hello(Hello::HERE);
    assert_eq!(encoded(&hello), [0, 1, 0, 8, b'u', b'v', b's', b's', 0, 1, 0, 1]);
}

#[test]
fn a_stream_that_needs_a_later_version_is_not_understood() {
    assert!(Hello::HERE.is_understood());
    assert!(Hello { version: VERSION + 9, needs: VERSION }.is_understood(), "fields were appended only");
    assert!(!Hello { version: VERSION + 9, needs: VERSION + 1 }.is_understood());
}

#[test]
fn no_message_is_longer_than_a_reader_takes() {
    let long = FtpRecord {
        passive: None,
        shift: 0,
        replaced: Some(Replaced { seq: 0, old_len: 0, new: vec![0; MESSAGE_MAX].into() }),
    };
    let Message::Connection(record) = sample() else { unreachable!() };
    let mut bytes = encoded(&sample());
    let before = bytes.len();
    Message::Connection(ConnectionRecord { ftp: Some(long), ..record }).encode(&mut bytes);
    assert_eq!(bytes.len(), before, "it is left out whole");
    assert_eq!(read_all(&bytes).0, [Read::Message(sample())]);
}

fn sample() -> Message {
    Message::Connection(ConnectionRecord {
        id: ConnectionId {
            protocol: 17,
            client: (Address::default(), 1),
            asked_for: (Address::default(), 2),
            template: false,
            announced: false,
        },
        service: ServiceKey::Mark { mark: 7, family: Family::V6 },
        server: "[2001:db8::1]:0".parse().unwrap(),
        is_removed: true,
        destination: (Address::default(), 3),
        forwarding: Forwarding::Tunnel(Tunnel::Gre { checksum: true }),
        state: 1,
        is_active: false,
        is_answered: false,
        is_outdone: true,
        origin: Origin::Adopted,
        packets_in: 255,
        timeout: Duration::ZERO,
        remaining: Duration::MAX.min(Duration::from_nanos(u64::MAX)),
        waited: Some(Duration::from_nanos(1)),
        hangs_on: None,
        leads: None,
        ftp: None,
        is_cached: true,
    })
}
