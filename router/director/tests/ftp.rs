//! FTP through NAT, seen from its client and its server.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use common::*;
use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use proptest::prelude::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration, Frame, Outbox, Verdict};

const FTP: u16 = 21;
const PORT: u16 = 4021;
/// Initial sequence numbers.
const CLIENT_ISN: u32 = 0xffff_fff0;
const SERVER_ISN: u32 = 0xffff_ffe0;
const OFFER: &[u8] = b"227 Entering Passive Mode (192,168,10,11,195,80).\r\n";
const TRANSLATED: &[u8] = b"227 Entering Passive Mode (10,0,0,100,195,80).\r\n";
/// Where 195,80 is.
const DATA: u16 = 195 * 256 + 80;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    flags: &'static str,
    seq: u32,
    ack: u32,
    sack: Option<(u32, u32)>,
    payload: Vec<u8>,
}

impl Segment {
    fn client(flags: &'static str, seq: u32, ack: u32, payload: &[u8]) -> Self {
        let (from, to) = ((CLIENT.into(), PORT), (VIP.into(), FTP));
        Self { from, to, flags, seq, ack, sack: None, payload: payload.to_vec() }
    }

    fn server(flags: &'static str, seq: u32, ack: u32, payload: &[u8]) -> Self {
        let (from, to) = ((RS1.into(), FTP), (CLIENT.into(), PORT));
        Self { from, to, flags, seq, ack, sack: None, payload: payload.to_vec() }
    }

    fn frame(&self) -> Vec<u8> {
        let macs = if self.from.0 == IpAddr::from(CLIENT) { (CLIENT_MAC, C0_MAC) } else { (RS1_MAC, R0_MAC) };
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from.0, self.to.0) else { panic!("IPv4") };
        let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from.octets(), to.octets(), 64);
        let mut builder = builder.tcp(self.from.1, self.to.1, self.seq, 64000);
        for flag in self.flags.chars() {
            builder = match flag {
                'S' => builder.syn(),
                'A' => builder.ack(self.ack),
                'F' => builder.fin(),
                'R' => builder.rst(),
                other => panic!("flag {other}"),
            };
        }
        if let Some(block) = self.sack {
            let elements =
                [TcpOptionElement::Noop, TcpOptionElement::SelectiveAcknowledgement(block, [None; 3])];
            builder = builder.options(&elements).unwrap();
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &self.payload).unwrap();
        bytes
    }

    /// Reads it back; checksums and lengths are verified.
    fn read(bytes: &[u8]) -> Self {
        let plain = read(bytes);
        let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("TCP expected") };
        let sack = tcp.options_iterator().find_map(|element| match element.unwrap() {
            TcpOptionElement::SelectiveAcknowledgement(block, _) => Some(block),
            _ => None,
        });
        let flags = match (tcp.syn(), tcp.ack(), tcp.fin()) {
            (true, true, _) => "SA",
            (true, false, _) => "S",
            (_, true, true) => "FA",
            _ => "A",
        };
        Self {
            from: plain.from,
            to: plain.to,
            flags,
            seq: tcp.sequence_number(),
            ack: if tcp.ack() { tcp.acknowledgment_number() } else { 0 },
            sack,
            payload: plain.payload,
        }
    }
}

struct Session {
    bench: Bench,
}

impl Session {
    /// An established control connection.
    fn new() -> Self {
        Self::with(Forwarding::Nat, Options { ftp: true, ..Options::default() }, Limits::default())
    }

    fn with(forwarding: Forwarding, options: Options, limits: Limits) -> Self {
        let bench = Bench::with_limits(limits);
        bench.apply(Change::SetOptions(options));
        let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), FTP));
        bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
        let destination = DestinationSpec::new("192.168.10.11:21".parse().unwrap(), forwarding);
        bench.apply(Change::AddDestination(key, destination));
        let session = Self { bench };
        session.to_server(&Segment::client("S", CLIENT_ISN, 0, b""));
        if forwarding == Forwarding::Nat {
            session.to_client(&Segment::server("SA", SERVER_ISN, CLIENT_ISN.wrapping_add(1), b""));
        }
        let ack = SERVER_ISN.wrapping_add(1);
        session.to_server(&Segment::client("A", CLIENT_ISN.wrapping_add(1), ack, b""));
        session
    }

    fn to_server(&self, segment: &Segment) -> Segment {
        let (port, bytes) = self.bench.pass(CLIENT_SIDE, &segment.frame());
        assert_eq!(port, SERVER_SIDE);
        Segment::read(&bytes)
    }

    fn to_client(&self, segment: &Segment) -> Segment {
        let (port, bytes) = self.bench.pass(SERVER_SIDE, &segment.frame());
        assert_eq!(port, CLIENT_SIDE);
        Segment::read(&bytes)
    }

    /// The client says it, and the server gets the very bytes.
    fn says(&self, text: &[u8]) {
        let segment = Segment::client("A", CLIENT_ISN.wrapping_add(1), SERVER_ISN.wrapping_add(1), text);
        assert_eq!(self.to_server(&segment).payload, text);
    }

    /// What the client reads of it.
    fn answers(&self, text: &[u8]) -> Vec<u8> {
        self.to_client(&Segment::server("A", SERVER_ISN.wrapping_add(1), CLIENT_ISN.wrapping_add(7), text))
            .payload
    }

    /// Entries beside the control connection: client port, virtual port, destination, state.
    fn data(&self) -> Vec<(u16, u16, String, &'static str)> {
        let mut entries: Vec<_> = self
            .bench
            .connections()
            .into_iter()
            .filter(|c| c.virtual_addr.port() != FTP)
            .map(|c| (c.client.port(), c.virtual_addr.port(), c.destination.to_string(), c.state))
            .collect();
        entries.sort();
        entries
    }
}

fn data_segment(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: &'static str) -> Segment {
    let (from, to) = ((from.0.into(), from.1), (to.0.into(), to.1));
    Segment { from, to, flags, seq: 1, ack: 1, sack: None, payload: vec![] }
}

#[test]
fn passive_the_client_reaches_the_server_through_the_vip() {
    let session = Session::new();
    session.says(b"PASV\r\n");
    assert_eq!(session.answers(OFFER), TRANSLATED);
    assert_eq!(session.data(), [(0, DATA, format!("192.168.10.11:{DATA}"), "LISTEN")]);

    let syn = session.to_server(&data_segment((CLIENT, 5000), (VIP, DATA), "S"));
    assert_eq!(syn.to, (RS1.into(), DATA));
    assert_eq!(session.data(), [(5000, DATA, format!("192.168.10.11:{DATA}"), "SYN_RECV")]);
    let answer = session.to_client(&data_segment((RS1, DATA), (CLIENT, 5000), "SA"));
    assert_eq!(answer.from, (VIP.into(), DATA));
    session.to_server(&data_segment((CLIENT, 5000), (VIP, DATA), "A"));
    assert_eq!(session.bench.load("192.168.10.11:21"), (2, 0), "both are established");

    // One announcement, one connection.
    let second = data_segment((CLIENT, 5001), (VIP, DATA), "S").frame();
    session.bench.refused(CLIENT_SIDE, &second, DropReason::NoConnection);
}

#[test]
fn extended_passive_keeps_the_text_and_makes_the_entry() {
    let session = Session::new();
    session.says(b"EPSV 1\r\n");
    let offer = b"229 Entering Extended Passive Mode (|||50000|)\r\n";
    assert_eq!(session.answers(offer), offer);
    assert_eq!(session.data(), [(0, DATA, format!("192.168.10.11:{DATA}"), "LISTEN")]);
}

#[test]
fn active_the_server_reaches_the_client_as_the_vip() {
    for text in [&b"PORT 10,0,0,2,117,55\r\n"[..], b"EPRT |1|10.0.0.2|30007|\r\n"] {
        let session = Session::new();
        session.says(text);
        assert_eq!(session.data(), [(30007, 20, "192.168.10.11:20".into(), "LISTEN")]);
        let syn = session.to_client(&data_segment((RS1, 20), (CLIENT, 30007), "S"));
        assert_eq!((syn.from, syn.to), ((VIP.into(), 20), (CLIENT.into(), 30007)));
        let answer = session.to_server(&data_segment((CLIENT, 30007), (VIP, 20), "SA"));
        assert_eq!(answer.to, (RS1.into(), 20));
    }
}

#[test]
fn nothing_is_touched_where_the_helper_does_not_help() {
    let on = Options { ftp: true, ..Options::default() };
    let session = Session::with(Forwarding::Nat, Options::default(), Limits::default());
    session.says(b"PASV\r\n");
    assert_eq!(session.answers(OFFER), OFFER, "switched off");
    assert_eq!(session.data(), []);

    let session = Session::with(Forwarding::Direct, on, Limits::default());
    session.bench.pass(CLIENT_SIDE, &Segment::client("A", 1, 1, b"PORT 10,0,0,2,117,55\r\n").frame());
    assert_eq!(session.data(), [], "direct routing");

    let session = Session::new();
    assert_eq!(session.answers(OFFER), OFFER, "nobody asked");
    session.says(b"PASV\r\n");
    session.says(b"PORT 10,0,0,2,117,55\r\n");
    assert_eq!(session.answers(OFFER), OFFER, "the client changed its mind");
    session.says(b"EPSV\r\n");
    assert_eq!(session.answers(OFFER), OFFER, "the answer to another question");

    let session = Session::new();
    session.says(b"PASV\r\n");
    let (head, tail) = OFFER.split_at(40);
    assert_eq!(session.answers(head), head, "split over two segments");
    let rest = Segment::server("A", SERVER_ISN.wrapping_add(41), 0, tail);
    assert_eq!(session.to_client(&rest).payload, tail);
    session.says(b"PORT 10,0,0,2,11");
    session.says(b"7,55\r\n");
    assert_eq!(session.data(), []);
}

#[test]
fn a_damaged_offer_is_passed_on_damaged() {
    let session = Session::new();
    session.says(b"PASV\r\n");
    let mut damaged = Segment::server("A", SERVER_ISN.wrapping_add(1), 0, OFFER).frame();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let (_, bytes) = session.bench.pass(SERVER_SIDE, &damaged);
    assert_eq!(bytes.len(), damaged.len());
    assert!(std::panic::catch_unwind(|| read(&bytes)).is_err(), "its checksum is still wrong");
    assert_eq!(session.data(), []);
    assert_eq!(session.answers(OFFER), TRANSLATED, "sent again in one piece");
}

#[test]
fn a_checksum_left_to_the_hardware_is_still_left_to_it() {
    let session = Session::new();
    session.says(b"PASV\r\n");
    let mut bytes = Segment::server("A", SERVER_ISN.wrapping_add(1), 0, OFFER).frame();
    let pseudo = |from: Ipv4Addr, to: Ipv4Addr, payload: usize| {
        let words = [from.octets(), to.octets()].concat();
        let sum: u32 = words.chunks(2).map(|w| u32::from(w[0]) * 256 + u32::from(w[1])).sum();
        let sum = sum + 6 + 20 + u32::try_from(payload).unwrap();
        u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    };
    bytes[50..52].copy_from_slice(&pseudo(RS1, CLIENT, OFFER.len()).to_be_bytes());
    let mut frame = Frame::from_bytes(&bytes);
    frame.offload.needs_checksum = true;
    (frame.offload.checksum_start, frame.offload.checksum_offset) = (34, 16);
    let verdict =
        session.bench.director.handle(SERVER_SIDE, &mut frame, session.bench.now, &mut Outbox::new());
    assert_eq!(verdict, Verdict::Transmit(CLIENT_SIDE));
    assert!(frame.offload.needs_checksum);
    assert_eq!((frame.offload.checksum_start, frame.offload.checksum_offset), (34, 16));
    assert_eq!(&frame.bytes()[54..], TRANSLATED);
    assert_eq!(frame.bytes()[50..52], pseudo(VIP, CLIENT, TRANSLATED.len()).to_be_bytes());
}

#[test]
fn selective_acknowledgments_follow_as_well() {
    let session = Session::new();
    session.says(b"PASV\r\n");
    assert_eq!(session.answers(OFFER).len(), OFFER.len() - 3);
    // The client misses the offer and has what came behind it.
    let first = SERVER_ISN.wrapping_add(1);
    let end = first.wrapping_add(u32::try_from(TRANSLATED.len()).unwrap());
    let mut segment = Segment::client("A", CLIENT_ISN.wrapping_add(7), first, b"");
    segment.sack = Some((end, end.wrapping_add(10)));
    let got = session.to_server(&segment);
    assert_eq!(got.ack, first);
    assert_eq!(got.sack, Some((end.wrapping_add(3), end.wrapping_add(13))));
}

#[test]
fn the_control_connection_outlives_its_data_connections() {
    let mut session = Session::new();
    session.says(b"PASV\r\n");
    session.answers(OFFER);
    // The control connection is reset: 10 seconds are left to it, 120 to the data connection.
    session.bench.pass(CLIENT_SIDE, &Segment::client("R", CLIENT_ISN.wrapping_add(7), 0, b"").frame());
    session.bench.advance(Duration::from_secs(11));
    assert_eq!(session.bench.connections().len(), 2, "renewed for 60 seconds");
    // Its port is not given to another connection meanwhile.
    let syn = Segment::client("S", 77, 0, b"");
    assert_eq!(session.to_server(&syn).to, (RS1.into(), FTP));
    assert_eq!(session.data().len(), 1);
    session.bench.advance(Duration::from_secs(200));
    assert_eq!(session.bench.connections().len(), 0);
}

#[test]
fn without_room_for_the_data_connection_the_server_has_to_say_it_again() {
    let options = Options { ftp: true, ..Options::default() };
    let mut session = Session::with(
        Forwarding::Nat,
        options,
        Limits { connections: 2, evict: Evict::None, ..Limits::default() },
    );
    let filler = Segment { from: (CLIENT.into(), 9), ..Segment::client("S", 1, 0, b"") };
    session.to_server(&filler);
    session.says(b"PASV\r\n");
    let offer = Segment::server("A", SERVER_ISN.wrapping_add(1), 0, OFFER).frame();
    session.bench.refused(SERVER_SIDE, &offer, DropReason::ConnectionLimit);
    session.bench.advance(Duration::from_secs(61));
    assert_eq!(session.answers(OFFER), TRANSLATED);
    assert_eq!(session.data().len(), 1);
}

#[test]
fn a_client_cannot_move_the_connection_of_another() {
    let session = Session::new();
    session.says(b"PORT 10,0,0,2,117,55\r\n");
    session.to_client(&data_segment((RS1, 20), (CLIENT, 30007), "S"));
    session.to_server(&data_segment((CLIENT, 30007), (VIP, 20), "SA"));
    session.to_client(&data_segment((RS1, 20), (CLIENT, 30007), "A"));
    let established = session.data();
    assert_eq!(established[0].3, "ESTABLISHED");
    // The neighbour, on a control connection of its own, names the first client's address.
    let neighbor = Ipv4Addr::new(10, 0, 0, 3);
    let mac = MacAddr(CLIENT_MAC);
    session.bench.apply(Change::SetNeighbor { port: CLIENT_SIDE, addr: neighbor.into(), mac });
    let client = |flags, payload: &[u8]| {
        let segment = Segment { from: (neighbor.into(), 9), ..Segment::client(flags, 1, 1, payload) };
        let mut frame = segment.frame();
        frame[0..6].copy_from_slice(&C0_MAC);
        frame[6..12].copy_from_slice(&CLIENT_MAC);
        session.bench.pass(CLIENT_SIDE, &frame)
    };
    client("S", b"");
    client("A", b"");
    client("A", b"PORT 10,0,0,2,117,55\r\n");
    assert_eq!(session.data(), established);
}

/// What a client made of what it got.
#[derive(Default)]
struct Received(Vec<Option<u8>>);

impl Received {
    fn take(&mut self, segment: &Segment) {
        let start = segment.seq.wrapping_sub(SERVER_ISN.wrapping_add(1)) as usize;
        for (at, &byte) in (start..).zip(&segment.payload) {
            self.0.resize(self.0.len().max(at + 1), None);
            let known = self.0[at].replace(byte);
            assert!(known.is_none_or(|known| known == byte), "byte {at} came twice, and differs");
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().map_while(|byte| *byte).collect()
    }

    fn ack(&self) -> u32 {
        SERVER_ISN.wrapping_add(1).wrapping_add(u32::try_from(self.bytes().len()).unwrap())
    }
}

proptest! {
    /// A session of commands and answers of which each segment may be lost, come again, be cut otherwise and come
    /// together with its neighbours: both ends see one stream, and agree on what has arrived.
    #[test]
    fn both_ends_see_one_stream(
        answers in proptest::collection::vec((0..4usize, any::<bool>()), 1..8),
        again in proptest::collection::vec((any::<prop::sample::Index>(), 1..70usize), 0..12),
    ) {
        let session = Session::new();
        let (mut sent, mut wanted) = (Vec::<u8>::new(), Vec::<u8>::new());
        let mut client = Received::default();
        let mut commands = 0u32;
        let first = SERVER_ISN.wrapping_add(1);
        let server_seq = |at: usize| first.wrapping_add(u32::try_from(at).unwrap());
        for (kind, lost) in answers {
            let (asked, answer, read): (&[u8], &[u8], &[u8]) = match kind {
                0 => (b"PASV\r\n", OFFER, TRANSLATED),
                1 => (b"PASV\r\n", b"227 ok =192,168,10,11,9,9 \r\n", b"227 ok =10,0,0,100,9,9 \r\n"),
                2 => (b"EPSV\r\n", b"229 (!1!192.168.10.11!3000!)\r\n", b"229 (|||3000|)\r\n"),
                _ => (b"NOOP\r\n", b"200 Fine (1,2,3,4,5,6)\r\n", b"200 Fine (1,2,3,4,5,6)\r\n"),
            };
            let seq = CLIENT_ISN.wrapping_add(1 + commands);
            let command = Segment::client("A", seq, client.ack(), asked);
            let got = session.to_server(&command);
            prop_assert_eq!((&got.payload[..], got.seq), (asked, seq), "the client's stream is as it was");
            prop_assert_eq!(got.ack, server_seq(sent.len()), "all is acknowledged");
            commands += 6;

            let at = sent.len();
            sent.extend(answer);
            wanted.extend(read);
            let ack = CLIENT_ISN.wrapping_add(1 + commands);
            let got = session.to_client(&Segment::server("A", server_seq(at), ack, answer));
            prop_assert_eq!(got.ack, ack);
            if !lost {
                client.take(&got);
            }
            // Again, however cut. Only what is not acknowledged yet comes again.
            for (index, len) in &again {
                let from = at + index.index(answer.len());
                let to = (from + len).min(sent.len());
                let got = session.to_client(&Segment::server("A", server_seq(from), ack, &sent[from..to]));
                client.take(&got);
                let got = session.to_server(&Segment::client("A", seq.wrapping_add(6), client.ack(), b""));
                let arrived = got.ack.wrapping_sub(first) as usize;
                prop_assert!(arrived >= at && arrived <= sent.len(), "{arrived} of {}", sent.len());
            }
            let whole = session.to_client(&Segment::server("A", server_seq(at), ack, answer));
            client.take(&whole);
            prop_assert_eq!(client.bytes(), wanted.clone());
        }
        let end = session.to_client(&Segment::server("FA", server_seq(sent.len()), 0, b""));
        prop_assert_eq!(end.seq, client.ack());
    }
}

#[test]
fn extended_commands_work_over_ipv6() {
    let bench = Bench::bare(Limits::default());
    let addr = |text: &str| -> std::net::Ipv6Addr { text.parse().unwrap() };
    let (client, vip, server) = (addr("fd00:1::2"), addr("fd00:1::100"), addr("fd00:2::11"));
    let interface = |port, name: &str, mac, addresses: &[&str]| InterfaceSpec {
        port,
        name: name.into(),
        link: Link::Ethernet(MacAddr(mac)),
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        source_check: SourceCheck::Loose,
    };
    bench.apply(Change::SetNetwork {
        interfaces: vec![
            interface(CLIENT_SIDE, "c0", C0_MAC, &["fd00:1::1/64", "fd00:1::100/128"]),
            interface(SERVER_SIDE, "r0", R0_MAC, &["fd00:2::1/64"]),
        ],
        routes: vec![],
    });
    for (port, addr, mac) in [(CLIENT_SIDE, client, CLIENT_MAC), (SERVER_SIDE, server, RS1_MAC)] {
        bench.apply(Change::SetNeighbor { port, addr: addr.into(), mac: MacAddr(mac) });
    }
    bench.apply(Change::SetOptions(Options { ftp: true, ..Options::default() }));
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(vip.into(), FTP));
    bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
    let spec = DestinationSpec::new(SocketAddr::new(server.into(), FTP), Forwarding::Nat);
    bench.apply(Change::AddDestination(key, spec));

    let pass = |from_client: bool, flags: &str, payload: &[u8]| {
        let (macs, from, to) = match from_client {
            true => ((CLIENT_MAC, C0_MAC), (client, PORT), (vip, FTP)),
            false => ((RS1_MAC, R0_MAC), (server, FTP), (client, PORT)),
        };
        let builder = PacketBuilder::ethernet2(macs.0, macs.1);
        let builder = builder.ipv6(from.0.octets(), to.0.octets(), 64).tcp(from.1, to.1, 1, 64000);
        let builder = if flags.contains('S') { builder.syn() } else { builder };
        let builder = if flags.contains('A') { builder.ack(1) } else { builder };
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        let (_, sent) = bench.pass(if from_client { CLIENT_SIDE } else { SERVER_SIDE }, &bytes);
        let sliced = SlicedPacket::from_ethernet(&sent).unwrap();
        let Some(etherparse::NetSlice::Ipv6(ip)) = &sliced.net else { panic!("IPv6 expected") };
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("TCP expected") };
        let sum = tcp.to_header().calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()).unwrap();
        assert_eq!(tcp.checksum(), sum);
        assert_eq!(usize::from(ip.header().payload_length()), sent.len() - 54);
        tcp.payload().to_vec()
    };
    pass(true, "S", b"");
    pass(false, "SA", b"");
    pass(true, "A", b"");
    pass(true, "A", b"EPSV 2\r\n");
    let offer = b"229 Entering (|2|fd00:2::11|50000|)\r\n";
    assert_eq!(pass(false, "A", offer), b"229 Entering (|||50000|)\r\n");
    pass(true, "A", b"EPRT |2|fd00:1::2|30007|\r\n");
    let mut entries: Vec<_> = bench
        .connections()
        .iter()
        .filter(|c| c.state == "LISTEN")
        .map(|c| (c.client.to_string(), c.virtual_addr.to_string(), c.destination.to_string()))
        .collect();
    entries.sort();
    let entry = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    let passive = entry("[fd00:1::2]:0", "[fd00:1::100]:50000", "[fd00:2::11]:50000");
    let active = entry("[fd00:1::2]:30007", "[fd00:1::100]:20", "[fd00:2::11]:20");
    assert_eq!(entries, [passive, active]);
}

const WORDS: [&[u8]; 8] = [
    b"PASV\r\n",
    b"EPSV\r\n",
    b"PORT 10,0,0,2,4,4\r\n",
    b"EPRT |1|10.0.0.2|9|\r\n",
    OFFER,
    b"229 (|||50000|)\r\n",
    b"227 1,1,1,1,1,1 227 (2,2,2,2,2,2)\r\n",
    b"\xff\xf4 229 (\r\n",
];

proptest! {
    /// Neither words cut anywhere nor numbers that fit nothing bring the director down, and what it sends has
    /// checksums that are right.
    #[test]
    fn whatever_both_ends_say_is_survived(
        segments in proptest::collection::vec(
            (any::<bool>(), 0..WORDS.len(), 0..60usize, any::<u16>(), any::<u16>(), any::<Option<(u32, u32)>>()),
            1..40,
        ),
    ) {
        let session = Session::new();
        for (from_client, word, len, seq, ack, sack) in segments {
            let word = &WORDS[word][..len.min(WORDS[word].len())];
            let (seq, ack) = (SERVER_ISN.wrapping_add(u32::from(seq) << 15), u32::from(ack) << 16);
            let mut segment = if from_client {
                Segment::client("A", seq, ack, word)
            } else {
                Segment::server("A", seq, ack, word)
            };
            segment.sack = sack;
            let got = if from_client { session.to_server(&segment) } else { session.to_client(&segment) };
            prop_assert_eq!(got.flags, "A");
        }
    }
}
