//! A frame that is looked at on its way takes the same way, and what is told of it is so.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::*;
use uvs_director::spec::*;
use uvs_director::trace::{Hit, Kind, Stage, Told};
use uvs_director::view::{Caching, Origin};
use uvs_director::{DropReason, Duration, Frame, Outbox, PortId, Verdict};

/// Two directors that are told the same: one is looked at.
struct Twins {
    plain: Bench,
    looked_at: Bench,
}

impl Twins {
    fn new(set_up: impl Fn(&Bench)) -> Self {
        let twins = Self { plain: Bench::new(), looked_at: Bench::new() };
        set_up(&twins.plain);
        set_up(&twins.looked_at);
        twins
    }

    /// Both get a frame; they do the same, and one tells.
    fn send(&self, port: PortId, bytes: &[u8]) -> (Verdict, Told) {
        let want = self.plain.send(port, bytes);
        let mut frame = Frame::from_bytes(bytes);
        let (mut out, mut told) = (Outbox::new(), Told::default());
        let director = &self.looked_at.director;
        let verdict = director.handle_told(port, &mut frame, self.looked_at.now, &mut out, &mut told);
        let mut sent = Sent::new();
        if let Verdict::Transmit(port) = verdict {
            sent.push((port, frame.bytes().to_vec()));
        }
        assert_eq!(out.frames().len(), out.len());
        sent.extend(out.drain().map(|(port, frame)| (port, frame.bytes().to_vec())));
        assert_eq!((verdict, sent), want, "the same as of a frame that nobody looks at");
        assert_eq!(director.status().drops, self.plain.director.status().drops);
        assert_eq!(director.status().total, self.plain.director.status().total);
        (verdict, told)
    }
}

const REQUEST: ((Ipv4Addr, u16), (Ipv4Addr, u16)) = ((CLIENT, 4000), (VIP, 80));
const REPLY: ((Ipv4Addr, u16), (Ipv4Addr, u16)) = ((RS1, 8080), (CLIENT, 4000));

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_connection_by_nat_is_told_packet_by_packet() {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), 80));
    let twins = Twins::new(|bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    });
    let (verdict, told) = twins.send(CLIENT_SIDE, &tcp(REQUEST.0, REQUEST.1, "S", b""));
    assert_eq!(verdict, Verdict::Transmit(SERVER_SIDE));
    assert_eq!((told.stage, told.kind, told.hit), (Stage::Emit, Some(Kind::Request), Some(Hit::New)));
    assert_eq!((told.service, told.state), (Some(key), Some("SYN_RECV")));
    assert_eq!(told.target, Some((addr("192.168.10.11:8080"), Forwarding::Nat)));
    let facts = told.connection.unwrap();
    assert_eq!((facts.service, facts.origin, facts.view.state), (Some(key), Origin::Scheduled, "NONE"));
    assert_eq!(facts.view.client, addr("10.0.0.2:4000"));
    assert_eq!((facts.caching, facts.answered, facts.sees_answers), (Caching::Off, false, true));
    let way = told.way.unwrap();
    assert_eq!((way.port, way.mac, way.mtu), (SERVER_SIDE, Some(MacAddr(RS1_MAC)), 1500));

    let (_, told) = twins.send(SERVER_SIDE, &tcp(REPLY.0, REPLY.1, "SA", b""));
    assert_eq!((told.kind, told.hit), (Some(Kind::Transit), Some(Hit::Reply)));
    assert_eq!(told.state, Some("SYN_RECV"));
    assert_eq!((told.target, told.way.unwrap().port), (None, CLIENT_SIDE));

    let (_, told) = twins.send(CLIENT_SIDE, &tcp(REQUEST.0, REQUEST.1, "A", b"hello"));
    assert_eq!((told.hit, told.state), (Some(Hit::Request), Some("ESTABLISHED")));
    assert!(told.connection.unwrap().answered);
}

#[test]
fn a_drop_is_told_with_the_stage_that_it_came_to() {
    let twins = Twins::new(|bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &[]);
        bench.service(Protocol::Udp, Forwarding::Direct, &["192.168.10.11:53"]);
    });
    let drop = |bytes: &[u8]| match twins.send(CLIENT_SIDE, bytes) {
        (Verdict::Drop(reason), told) => (told.stage, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(drop(&[0; 5]), (Stage::Classify, DropReason::Truncated));
    let mut broken = tcp(REQUEST.0, REQUEST.1, "S", b"");
    broken[24] ^= 1;
    assert_eq!(drop(&broken), (Stage::Classify, DropReason::BadChecksum));
    let martian = tcp((Ipv4Addr::LOCALHOST, 1), REQUEST.1, "S", b"");
    assert_eq!(drop(&martian), (Stage::Classify, DropReason::Martian));
    assert_eq!(drop(&tcp(REQUEST.0, REQUEST.1, "S", b"")), (Stage::Find, DropReason::NoDestination));
    assert_eq!(drop(&tcp(REQUEST.0, (VIP, 81), "S", b"")), (Stage::Find, DropReason::NoConnection));
    assert_eq!(drop(&tcp(REQUEST.0, (RS1, 80), "S", b"")), (Stage::Find, DropReason::Transit));
    let mut last_hop = udp((CLIENT, 9), (VIP, 53), b"?");
    last_hop[22] = 1;
    last_hop[24..26].copy_from_slice(&[0, 0]);
    let sum: u32 = last_hop[14..34].chunks(2).map(|it| u32::from(it[0]) * 256 + u32::from(it[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    last_hop[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(drop(&last_hop), (Stage::Route, DropReason::TtlExceeded));
}

#[test]
fn what_waits_for_a_neighbour_in_vain_is_told_with_its_reason() {
    let mut bench = Bench::bare(Limits::default());
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let mut frame = Frame::from_bytes(&tcp(REQUEST.0, REQUEST.1, "S", b""));
    let (mut out, mut told) = (Outbox::new(), Told::default());
    let verdict = bench.director.handle_told(CLIENT_SIDE, &mut frame, bench.now, &mut out, &mut told);
    assert_eq!((verdict, told.stage), (Verdict::Consume, Stage::Emit));
    assert_eq!(told.way.map(|way| way.mac), Some(None), "nobody knows it yet");
    let mut lost = Vec::new();
    for _ in 0..20 {
        bench.now = bench.now + Duration::from_secs(1);
        let see = |port, ip: &[u8], reason| lost.push((port, ip.to_vec(), reason));
        bench.director.handle_timeout_told(bench.now, &mut out, see);
    }
    let [(SERVER_SIDE, ip, DropReason::Unreachable), ..] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!(ip[16..20], RS1.octets(), "as it would have left");
}
