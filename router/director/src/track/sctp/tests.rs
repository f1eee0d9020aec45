use super::*;
use SctpEvent as Event;
use Seen::{Input, InputOnly, Output};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn recorded_packets() -> Vec<serde_json::Value> {
    let path = format!("{}/../../tests/golden/sctp_nat.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recording is there");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["steps"].as_array().unwrap().iter().filter(|step| step["in"].is_object()).cloned().collect()
}

/// Every cell that the recorded kernel was led through, and what its host said of packets that met no cell.
#[test]
fn every_recorded_packet_is_followed() {
    let (mut current, mut cells, mut strays) = (SctpState::None, 0, 0);
    for step in recorded_packets() {
        let frame = bytes(step["in"]["hex"].as_str().unwrap());
        let ip = &frame[14..];
        let packet = Packet::parse(ip).unwrap();
        if step["in"]["note"].as_str().unwrap().starts_with("no connection") {
            let mut answer = [0; ANSWER_MAX];
            let len = answer_out_of_the_blue(&mut answer, ip, &packet, false);
            let recorded = step["out"][0]["hex"].as_str().map(bytes).unwrap_or_default();
            assert_eq!(&answer[..len], recorded.get(14..).unwrap_or_default(), "{}", step["in"]["note"]);
            strays += 1;
            continue;
        }
        let seen = if step["in"]["side"] == "client" { Input } else { Output };
        let event = Event::of(packet.transport(ip)).unwrap();
        let next = current.next(seen, event);
        let row: Vec<&str> = step["conns"][0].as_str().unwrap().split_whitespace().collect();
        assert_eq!(next.name(), row[7], "{current:?} {seen:?} {event:?}");
        let left: u64 = row[8].parse().unwrap();
        assert_eq!(next.timeout().as_secs(), left + 1, "seconds left are rounded down");
        current = next;
        cells += 1;
    }
    assert_eq!((cells, strays), (9, 3));
}

#[test]
fn an_association_goes_its_ways() {
    use SctpState::*;
    type Walk = (&'static str, &'static [(Seen, Event, SctpState)]);
    let walks: [Walk; 9] = [
        (
            "the server opens",
            &[
                (Output, Event::Init, CookieWait),
                (Input, Event::InitAck, Cookie),
                (Output, Event::CookieEcho, CookieEchoed),
                (Input, Event::CookieAck, Established),
            ],
        ),
        (
            "the client repeats its INIT, the server refuses",
            &[(Input, Event::Init, Init1), (Input, Event::Init, Init), (Output, Event::Abort, Closed)],
        ),
        (
            "the server refuses at once",
            &[
                (Input, Event::Init, Init1),
                (Output, Event::Abort, Rejected),
                (Input, Event::Data, Rejected),
                (Input, Event::Init, Init),
            ],
        ),
        (
            "the server closes",
            &[
                (Input, Event::CookieAck, Established),
                (Output, Event::Shutdown, ShutdownSent),
                (Input, Event::ShutdownAck, Closed),
                (Output, Event::ShutdownComplete, Closed),
            ],
        ),
        (
            "a restart of the client's does not move an association that is up",
            &[
                (Input, Event::Data, Established),
                (Input, Event::Init, Established),
                (Output, Event::InitAck, Established),
                (Input, Event::CookieEcho, Established),
                (Output, Event::CookieAck, Established),
            ],
        ),
        (
            "an abort ends it, whoever sends it",
            &[(Output, Event::Data, Established), (Input, Event::Abort, Closed), (Input, Event::Init, Init)],
        ),
        (
            "a stale cookie",
            &[
                (Input, Event::Init, Init1),
                (Output, Event::InitAck, CookieSent),
                (Input, Event::CookieEcho, CookieReplied),
                (Output, Event::Error, Closed),
            ],
        ),
        (
            "direct routing: only the client is heard, its COOKIE ECHO must do",
            &[
                (InputOnly, Event::Init, Init1),
                (InputOnly, Event::CookieEcho, Established),
                (InputOnly, Event::Data, Established),
                (InputOnly, Event::Shutdown, ShutdownReceived),
                (InputOnly, Event::ShutdownComplete, Closed),
            ],
        ),
        (
            "direct routing: the server closes",
            &[
                (InputOnly, Event::Init, Init1),
                (InputOnly, Event::Init, Init),
                (InputOnly, Event::CookieEcho, Established),
                (InputOnly, Event::ShutdownAck, Closed),
            ],
        ),
    ];
    for (why, walk) in walks {
        let mut current = None;
        for &(seen, event, want) in walk {
            let next = current.next(seen, event);
            assert_eq!(next, want, "{why}: {current:?} {seen:?} {event:?}");
            current = next;
        }
    }
}

#[test]
fn the_event_is_that_of_the_first_chunk_but_for_an_abort_behind_a_cookie() {
    type Case = (&'static [u8], Option<Event>, &'static str);
    let cases: [Case; 12] = [
        (&[], None, "no chunk at all"),
        (&[1, 0, 0], None, "half a header"),
        (&[1, 0, 0, 20], Some(Event::Init), "the header is enough"),
        (&[0, 3, 0, 16], Some(Event::Data), "DATA"),
        (&[192, 0, 0, 4], Some(Event::Data), "FORWARD TSN counts as data"),
        (&[12, 0, 0, 8], Some(Event::Data), "ECNE counts as data"),
        (&[10, 0, 0, 5, 9, 0, 0, 0, 6, 0, 0, 4], Some(Event::Abort), "ABORT behind a padded COOKIE ECHO"),
        (&[11, 0, 0, 4, 6, 0, 0, 4], Some(Event::Abort), "ABORT behind COOKIE ACK"),
        (&[11, 0, 0, 0, 6, 0, 0, 4], Some(Event::CookieAck), "a length that makes no sense"),
        (&[10, 0, 0, 4, 0, 3, 0, 4], Some(Event::CookieEcho), "DATA behind COOKIE ECHO"),
        (&[3, 0, 0, 4, 6, 0, 0, 4], Some(Event::Data), "ABORT behind SACK is not looked for"),
        (&[14, 1, 0, 4], Some(Event::ShutdownComplete), "flags do not matter"),
    ];
    for (chunks, want, why) in cases {
        let transport = [&[0; sctp::HEADER_LEN], chunks].concat();
        assert_eq!(Event::of(&transport), want, "{why}");
    }
}

fn packet(v4: bool, tag: u32, chunks: &[u8]) -> Vec<u8> {
    let payload_len = u16::try_from(sctp::HEADER_LEN + chunks.len()).unwrap();
    let mut bytes = vec![0; if v4 { 20 } else { 40 }];
    if v4 {
        let (src, dst) = ([10, 1, 0, 2].into(), [10, 0, 0, 100].into());
        let header = Ipv4Repr {
            src,
            dst,
            protocol: sctp::PROTOCOL,
            ttl: 9,
            tos: 0,
            id: 5,
            dont_fragment: true,
            payload_len,
        };
        header.emit(&mut bytes);
    } else {
        let (src, dst) = ("fd00::2".parse().unwrap(), "fd00::100".parse().unwrap());
        let header =
            Ipv6Repr { src, dst, next_header: sctp::PROTOCOL, hop_limit: 9, traffic_class: 0, payload_len };
        header.emit(&mut bytes);
    }
    let mut transport = [&[1, 2, 3, 4], &tag.to_be_bytes()[..], &[0; 4], chunks].concat();
    sctp::fill_checksum(&mut transport);
    bytes.extend(transport);
    bytes
}

#[test]
fn packets_out_of_the_blue_are_answered_as_the_standard_says() {
    const TAG: u32 = 0x0102_0304;
    type Case = (&'static [u8], Option<(u8, u8, u32)>, &'static str);
    let cases: [Case; 8] = [
        (&[0, 3, 0, 4], Some((sctp::ABORT, 1, TAG)), "DATA: abort with its own tag"),
        (&[10, 0, 0, 4], Some((sctp::ABORT, 1, TAG)), "a cookie that nobody gave out"),
        (
            &[1, 0, 0, 8, 9, 8, 7, 6],
            Some((sctp::ABORT, 0, 0x0908_0706)),
            "INIT: abort with the tag it asks for",
        ),
        (&[8, 0, 0, 4], Some((sctp::SHUTDOWN_COMPLETE, 1, TAG)), "SHUTDOWN ACK"),
        (&[14, 0, 0, 4], None, "SHUTDOWN COMPLETE"),
        (&[11, 0, 0, 4], None, "COOKIE ACK"),
        (&[0, 3, 0, 4, 6, 0, 0, 4], None, "an ABORT anywhere"),
        (&[1, 0, 0, 4], None, "an INIT without a tag"),
    ];
    for v4 in [true, false] {
        for (chunks, want, why) in cases {
            let ip = packet(v4, TAG, chunks);
            let parsed = Packet::parse(&ip).unwrap();
            let mut answer = [0; ANSWER_MAX];
            let len = answer_out_of_the_blue(&mut answer, &ip, &parsed, false);
            let got = (len > 0).then(|| {
                let answered = Packet::parse(&answer[..len]).unwrap();
                assert_eq!((answered.src, answered.dst, answered.ttl), (parsed.dst, parsed.src, 64));
                assert_eq!((answered.src_port, answered.dst_port), (parsed.dst_port, parsed.src_port));
                let view = sctp::SctpPacket::parse(answered.transport(&answer)).unwrap();
                assert!(view.checksum_ok(), "{why}");
                let chunk = view.chunks().next().unwrap();
                (chunk.kind, chunk.flags, view.verification_tag())
            });
            assert_eq!(got, want, "{why}");
        }
        let mut damaged = packet(v4, TAG, &[0, 3, 0, 4]);
        let flags = damaged.len() - 3;
        damaged[flags] ^= 4;
        let parsed = Packet::parse(&damaged).unwrap();
        let mut answer = [0; ANSWER_MAX];
        assert_eq!(answer_out_of_the_blue(&mut answer, &damaged, &parsed, false), 0, "a bad CRC");
        assert_ne!(answer_out_of_the_blue(&mut answer, &damaged, &parsed, true), 0, "a CRC still to come");
    }
}
