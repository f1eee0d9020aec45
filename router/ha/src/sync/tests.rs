use proptest::prelude::*;
use uvs_wire::Packet;
use uvs_wire::udp::UdpDatagram;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

fn all(bytes: &[u8]) -> Result<Vec<Record>, SyncError> {
    Message::parse(bytes)?.records().collect()
}

fn encode(sync_id: u8, len_max: usize, records: &[Record]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(sync_id, len_max);
    let mut messages: Vec<Vec<u8>> = records.iter().filter_map(|record| encoder.push(record)).collect();
    messages.extend(encoder.finish());
    messages
}

fn tcp() -> Record {
    Record {
        protocol: 6,
        flags: 0,
        state: 1,
        client_port: 1,
        virtual_port: 80,
        destination_port: 80,
        fwmark: 0,
        timeout: 900,
        client: ip("10.1.0.2"),
        virtual_addr: ip("10.0.0.100"),
        destination: ip("192.168.10.12"),
        sequences: None,
        engine_data: None,
        engine_name: None,
    }
}

/// The datagrams of the sync daemon in the recording of a kernel.
fn recorded() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/sync_master.json");
    let text = std::fs::read_to_string(path).expect("the recording is there");
    let recording: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let outs = |step: &serde_json::Value| step["out"].as_array().cloned().unwrap_or_default();
    let steps = recording["steps"].as_array().expect("it has steps");
    let frames = steps.iter().flat_map(outs).map(|out| {
        let hex = out["hex"].as_str().expect("a frame is in hex");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("it is hex");
        (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>()
    });
    frames
        .filter_map(|frame| {
            let packet = Packet::parse(frame.get(14..)?).ok()?;
            let is_sync = packet.protocol == 17 && packet.dst_port == PORT;
            let datagram = UdpDatagram::parse(packet.transport(&frame[14..])).ok()?;
            is_sync.then(|| {
                assert_eq!((packet.dst.to_ip(), packet.ttl), (IpAddr::V4(GROUP_V4), 1));
                datagram.payload().to_vec()
            })
        })
        .collect()
}

#[test]
fn what_a_kernel_sent_is_read_field_by_field_and_written_byte_for_byte() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 1);
    let message = Message::parse(&recorded[0]).expect("a kernel sent it");
    assert_eq!(message.sync_id(), 5);
    assert_eq!([0, 5, 6].map(|id| message.is_for(id)), [true, true, false]);
    let records = all(&recorded[0]).expect("a kernel sent them");

    // Three connections, one after the other, of a service with persistence: SYN, ACK, four segments, FIN. With
    // sync_threshold 1 2 the third and the fifth packet of each say that it is established, and the seventh that the
    // client closes; each of them says the template.
    let mut wanted = Vec::new();
    for (client, port, destination) in
        [("10.1.0.2", 1, "192.168.10.12"), ("10.1.0.3", 2, "192.168.10.11"), ("10.1.0.4", 3, "192.168.10.12")]
    {
        let established =
            Record { client_port: port, client: ip(client), destination: ip(destination), ..tcp() };
        let closing = Record { flags: flags::INACTIVE, state: 7, timeout: 60, ..established.clone() };
        let template = |state| Record {
            flags: flags::TEMPLATE | flags::INACTIVE,
            state,
            client_port: 0,
            timeout: 60,
            ..established.clone()
        };
        wanted.extend([template(0), template(1)]);
        for connection in [Some(established.clone()), None, Some(established.clone()), None, Some(closing)] {
            wanted.extend(connection);
            wanted.push(template(1));
        }
    }
    assert_eq!(records, wanted);
    assert_eq!(encode(5, 1472, &records), recorded);
}

#[test]
fn as_many_records_fit_as_into_a_kernels_message() {
    let v6 = Record {
        client: ip("2001:db8::1"),
        virtual_addr: ip("2001:db8::100"),
        destination: ip("2001:db8::2"),
        ..tcp()
    };
    let counts = |record: &Record, len_max| -> Vec<u8> {
        encode(1, len_max, &vec![record.clone(); 600]).iter().map(|message| message[4]).collect()
    };
    assert_eq!(counts(&tcp(), 1472)[..2], [40, 40]);
    assert_eq!(counts(&v6, 1472)[..2], [20, 20]);
    assert_eq!(counts(&tcp(), 65_507), [255, 255, 90], "the count is a byte");
    assert_eq!(counts(&tcp(), 1)[0], 10, "what one record may need fits always");
    assert_eq!(Encoder::new(1, 1472).finish(), None);
}

#[test]
fn options_are_where_a_kernel_puts_them() {
    let sequence = |from| Sequence { from, delta: 2, previous_delta: 3 };
    let record = Record {
        sequences: Some([sequence(1), sequence(4)]),
        engine_data: Some(b"call".to_vec()),
        engine_name: Some(b"sip".to_vec()),
        ..tcp()
    };
    let [message] = &encode(9, 1472, &[record.clone(), tcp()])[..] else { panic!("they fit") };
    let options = [
        &[1, 24, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 3][..],
        &[2, 4],
        b"call",
        &[3, 3],
        b"sip",
    ]
    .concat();
    assert_eq!(message[8 + 36..8 + 36 + options.len()], options);
    let length = 36 + options.len();
    assert_eq!(usize::from(message[11]), length, "73 without padding");
    assert_eq!(message.len(), 8 + length.next_multiple_of(4) + 36);
    assert_eq!(all(message), Ok(vec![record, tcp()]));
}

#[test]
fn each_reason_not_to_take_a_message_or_a_record() {
    let [good] = &encode(1, 1472, &[tcp(), tcp()])[..] else { panic!("they fit") };
    let results = |bytes: &[u8]| -> Result<Vec<Option<SyncError>>, SyncError> {
        Ok(Message::parse(bytes)?.records().map(Result::err).collect())
    };
    type Edit = fn(&mut Vec<u8>);
    type Want = Result<Vec<Option<SyncError>>, SyncError>;
    let cases: [(Edit, Want, &str); 16] = [
        (|_| {}, Ok(vec![None, None]), "a good one"),
        (|bytes| bytes.truncate(7), Err(SyncError::Truncated), "no header"),
        (|bytes| bytes.truncate(79), Err(SyncError::Length), "cut off"),
        (|bytes| bytes.push(0), Err(SyncError::Length), "a byte too many"),
        (|bytes| bytes[0] = 2, Err(SyncError::Version), "version 0, two connections"),
        (|bytes| bytes[5] = 2, Err(SyncError::Version), "version 2"),
        (|bytes| bytes[7] = 1, Err(SyncError::Version), "what should be 0"),
        (|bytes| bytes[4] = 3, Ok(vec![None, None, Some(SyncError::RecordLength)]), "a record too many"),
        (|bytes| bytes[4] = 1, Ok(vec![None]), "what follows the last is not looked at"),
        (
            |bytes| bytes[10] = 0x10,
            Ok(vec![Some(SyncError::RecordVersion)]),
            "another version: the rest goes, too",
        ),
        (|bytes| bytes[8] = 2, Ok(vec![Some(SyncError::RecordType)]), "another type"),
        (|bytes| bytes[8] = 1, Ok(vec![Some(SyncError::RecordLength)]), "too short for IPv6"),
        (|bytes| bytes[11] = 35, Ok(vec![Some(SyncError::RecordLength)]), "too short for IPv4"),
        (|bytes| bytes[11] = 255, Ok(vec![Some(SyncError::RecordLength)]), "beyond the message"),
        (|bytes| bytes[9] = 47, Ok(vec![Some(SyncError::Protocol), None]), "GRE: this one alone"),
        (|bytes| bytes[17] = 11, Ok(vec![Some(SyncError::State), None]), "a state of TCP's that is none"),
    ];
    for (edit, want, why) in cases {
        let mut bytes = good.clone();
        edit(&mut bytes);
        assert_eq!(results(&bytes), want, "{why}");
    }
}

#[test]
fn states_are_those_of_their_protocol() {
    let of = |protocol, flags, state| {
        let [message] = &encode(1, 1472, &[Record { protocol, flags, state, ..tcp() }])[..] else { panic!() };
        all(message).map(|_| ())
    };
    for (protocol, flags, states) in [(6, 0, 11), (17, 0, 1), (132, 0, 14), (0, flags::TEMPLATE, 2)] {
        assert_eq!(of(protocol, flags, states - 1), Ok(()), "protocol {protocol}");
        assert_eq!(of(protocol, flags, states), Err(SyncError::State), "protocol {protocol}");
    }
}

#[test]
fn options_that_cannot_be_are_refused_and_those_that_need_not_be_known_are_passed_over() {
    let with = |options: &[u8]| {
        let [message] = &encode(1, 1472, &[tcp()])[..] else { panic!("it fits") };
        let mut bytes = [message, options].concat();
        let length = u8::try_from(bytes.len()).expect("it is short");
        (bytes[3], bytes[11]) = (length, length - 8);
        all(&bytes).map(|mut records| records.remove(0))
    };
    let sequences = [&[1, 24][..], &[7; 24]].concat();
    let twice = [&sequences[..], &sequences].concat();
    let passed = [&[0x49, 2, 1, 1][..], &[2, 1, 5]].concat();
    type Want = Result<Option<Vec<u8>>, SyncError>;
    let cases: [(&[u8], Want, &str); 11] = [
        (&[], Ok(None), "none"),
        (&[2], Err(SyncError::Option), "no length"),
        (&[2, 0], Err(SyncError::Option), "empty"),
        (&[2, 3, 1, 1], Err(SyncError::Option), "beyond its record"),
        (&twice, Err(SyncError::Option), "twice"),
        (&[1, 4, 0, 0, 0, 0], Err(SyncError::Option), "sequence numbers of another length"),
        (&[3, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Err(SyncError::Option), "a long name"),
        (&[9, 1, 1], Err(SyncError::UnknownOption), "unknown"),
        (&[0x49, 1, 1], Ok(None), "unknown, and says that it need not be known"),
        (&passed, Ok(Some(vec![5])), "one that is known after that"),
        (&[0x42, 1, 6], Ok(Some(vec![6])), "a known one that says so"),
    ];
    for (options, want, why) in cases {
        assert_eq!(with(options).map(|record| record.engine_data), want, "{why}");
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let v4 = any::<[[u8; 4]; 3]>().prop_map(|ips| ips.map(IpAddr::from));
    let v6 = any::<[[u8; 16]; 3]>().prop_map(|ips| ips.map(IpAddr::from));
    let kind = prop_oneof![
        (Just(6), Just(0), 0..11_u16),
        (Just(17), Just(0), Just(0_u16)),
        (Just(132), Just(0), 0..14_u16),
        (any::<u8>(), Just(flags::TEMPLATE), 0..2_u16),
    ];
    let sequence =
        any::<[u32; 3]>().prop_map(|[from, delta, previous_delta]| Sequence { from, delta, previous_delta });
    let sequences = prop::option::of([sequence.clone(), sequence]);
    let data = prop::option::of(prop::collection::vec(any::<u8>(), 1..=ENGINE_DATA_MAX));
    let name = prop::option::of(prop::collection::vec(any::<u8>(), 1..=ENGINE_NAME_MAX));
    let numbers = any::<([u16; 3], u32, u32, u32)>();
    (prop_oneof![v4, v6], kind, sequences, data, name, numbers).prop_map(
        |([client, virtual_addr, destination], kind, sequences, engine_data, engine_name, numbers)| {
            let (protocol, template, state) = kind;
            let (ports, fwmark, timeout, flags) = numbers;
            let [client_port, virtual_port, destination_port] = ports;
            Record {
                protocol,
                flags: flags & !flags::HASHED & !flags::TEMPLATE | template,
                state,
                client_port,
                virtual_port,
                destination_port,
                fwmark,
                timeout,
                client,
                virtual_addr,
                destination,
                sequences,
                engine_data,
                engine_name,
            }
        },
    )
}

proptest! {
    #[test]
    fn encode_then_decode_is_the_same(
        records in prop::collection::vec(any_record(), 0..60),
        len_max in 0..3000_usize,
        sync_id: u8,
    ) {
        let messages = encode(sync_id, len_max, &records);
        let mut decoded = Vec::new();
        for message in &messages {
            prop_assert!(message.len() <= len_max.max(8 + RECORD_MAX));
            prop_assert_eq!(Message::parse(message).map(|message| message.sync_id()), Ok(sync_id));
            decoded.extend(all(message).expect("it was encoded"));
        }
        prop_assert_eq!(decoded, records);
    }

    #[test]
    fn what_was_cut_off_gives_what_came_before(
        records in prop::collection::vec(any_record(), 1..5),
        cut in 1..2000_usize,
    ) {
        let [message] = &encode(1, 65_507, &records)[..] else { panic!("they fit") };
        let mut cut_off = message[..message.len().saturating_sub(cut).max(8)].to_vec();
        prop_assert_eq!(Message::parse(&cut_off).err(), Some(SyncError::Length));
        // And if the length in the header was that of what is left.
        let length = u16::try_from(cut_off.len()).expect("it is short");
        cut_off[2..4].copy_from_slice(&length.to_be_bytes());
        let decoded: Vec<_> = Message::parse(&cut_off).expect("its header is right").records().collect();
        let good = decoded.iter().take_while(|record| record.is_ok()).count();
        prop_assert!(decoded[..good].iter().zip(&records).all(|(one, other)| one.as_ref() == Ok(other)));
        prop_assert!(decoded.len() <= good + 1);
    }

    #[test]
    fn garbage_is_no_reason_to_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        whole: bool,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        records in prop::collection::vec(any_record(), 1..6),
    ) {
        if whole {
            bytes = encode(1, 65_507, &records).remove(0);
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        if bytes.len() >= 8 {
            let [high, low] = u16::try_from(bytes.len()).expect("it is short").to_be_bytes();
            let header = [0, 1, high, low, bytes[4], 1, 0, 0];
            bytes[..8].copy_from_slice(&header);
        }
        if let Ok(message) = Message::parse(&bytes) {
            prop_assert!(message.records().count() <= 255);
        }
    }
}
