//! What is seen of how destinations that are watched take connections.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps, helpers included")]

mod common;

use common::*;
use uvs_director::Duration;
use uvs_director::spec::*;
use uvs_director::view::Observations;

const REAL: &str = "192.168.10.11:80";

struct Scene {
    bench: Bench,
    key: ServiceKey,
}

impl Scene {
    fn new(protocol: Protocol, forwarding: Forwarding) -> Self {
        let bench = Bench::new();
        let key = bench.service(protocol, forwarding, &[REAL]);
        Self { bench, key }
    }

    fn client(&self, port: u16, flags: &str) {
        self.bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), flags, b""));
    }

    fn server(&self, port: u16, flags: &str) {
        self.bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, port), flags, b""));
    }

    fn wait(&mut self, millis: u64) {
        self.bench.advance(Duration::from_millis(millis));
    }

    fn seen(&self) -> Observations {
        let mut all = Vec::new();
        self.bench.director.watch(&self.key, |addr, seen| all.push((addr, seen)));
        let [(addr, seen)] = all[..] else { panic!("{all:?}") };
        assert_eq!(addr, REAL.parse().unwrap());
        seen
    }

    /// Answered, failed, doubtful; failed and doubtful in a row.
    fn counts(&self) -> ([u64; 3], [u32; 2]) {
        let Observations { answered, failed, doubtful, failed_in_a_row, doubtful_in_a_row } = self.seen();
        ([answered, failed, doubtful], [failed_in_a_row, doubtful_in_a_row])
    }
}

#[test]
fn handshakes_by_nat_tell_who_answers() {
    let mut scene = Scene::new(Protocol::Tcp, Forwarding::Nat);
    scene.client(4000, "S");
    scene.server(4000, "RA");
    assert_eq!(scene.counts(), ([0, 0, 0], [0, 0]), "nobody watched");
    scene.client(4001, "S");
    scene.server(4001, "RA");
    scene.client(4002, "S");
    scene.wait(1000);
    scene.client(4002, "S");
    assert_eq!(scene.counts(), ([0, 2, 0], [2, 0]), "a reset, and silence");
    scene.server(4002, "SA");
    assert_eq!(scene.counts(), ([1, 2, 0], [0, 0]), "it answers in the end");
    scene.client(4002, "A");
    scene.server(4002, "R");
    assert_eq!(scene.counts(), ([1, 2, 0], [0, 0]), "a reset later on is none of the handshake");
    scene.client(4003, "S");
    scene.client(4003, "R");
    scene.wait(120_000);
    assert_eq!(scene.counts(), ([1, 2, 0], [0, 0]), "a client that gives up says nothing");
    scene.client(4004, "S");
    scene.wait(120_000);
    assert_eq!(scene.counts(), ([1, 3, 0], [1, 0]), "silence to the end");
    scene.bench.director.unwatch(&scene.key);
    scene.client(4005, "S");
    scene.server(4005, "SA");
    assert_eq!(scene.counts(), ([1, 3, 0], [1, 0]), "nobody watches any more");
}

#[test]
fn by_direct_routing_clients_tell_and_their_silence_is_doubtful() {
    let mut scene = Scene::new(Protocol::Tcp, Forwarding::Direct);
    scene.counts();
    scene.client(4001, "S");
    scene.wait(1000);
    scene.client(4001, "S");
    assert_eq!(scene.counts(), ([0, 0, 1], [0, 1]));
    scene.client(4002, "S");
    scene.client(4002, "A");
    scene.client(4002, "A");
    assert_eq!(scene.counts(), ([1, 0, 1], [0, 0]));
    scene.client(4003, "S");
    scene.wait(120_000);
    assert_eq!(scene.counts(), ([1, 0, 3], [0, 2]), "the first one as well, to the end");
}

/// An ICMP error of that type about a packet that went to the real server.
fn error_about(forwarded: &[u8], kind: u8, code: u8) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(&forwarded[14..]);
    let sum = message.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0))
    });
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut error = Vec::new();
    etherparse::PacketBuilder::ethernet2(RS1_MAC, R0_MAC)
        .ipv4(RS1.octets(), CLIENT.octets(), 64)
        .write(&mut error, etherparse::IpNumber::ICMP, &message)
        .unwrap();
    error
}

#[test]
fn icmp_errors_about_a_handshake_are_doubtful_and_others_say_nothing() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let scene = Scene::new(protocol, Forwarding::Nat);
        scene.counts();
        let is_tcp = protocol == Protocol::Tcp;
        let ask = |port| match is_tcp {
            true => scene.bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b"")).1,
            false => scene.bench.pass(CLIENT_SIDE, &udp((CLIENT, port), (VIP, 53), b"?")).1,
        };
        let asked = ask(4001);
        for (kind, code, doubtful) in [(3, 3, 1), (3, 1, 2), (3, 4, 2), (11, 0, 2)] {
            scene.bench.pass(SERVER_SIDE, &error_about(&asked, kind, code));
            assert_eq!(scene.counts().0, [0, 0, doubtful], "{protocol:?} {kind} {code}");
        }
        match is_tcp {
            true => scene.server(4001, "SA"),
            false => drop(scene.bench.pass(SERVER_SIDE, &udp((RS1, 80), (CLIENT, 4001), b"!"))),
        }
        assert_eq!(scene.counts(), ([1, 0, 2], [0, 0]), "{protocol:?}");
        scene.bench.pass(SERVER_SIDE, &error_about(&asked, 3, 3));
        assert_eq!(scene.counts(), ([1, 0, 2], [0, 0]), "{protocol:?}: it was answered");
    }
}

#[test]
fn a_neighbour_that_does_not_resolve_fails_what_waits_for_it() {
    for (protocol, forwarding) in [
        (Protocol::Tcp, Forwarding::Nat),
        (Protocol::Tcp, Forwarding::Direct),
        (Protocol::Udp, Forwarding::Nat),
    ] {
        let bench = Bench::bare(Limits::default());
        bench.apply(Change::SetNeighbor { port: CLIENT_SIDE, addr: CLIENT.into(), mac: MacAddr(CLIENT_MAC) });
        let key = bench.service(protocol, forwarding, &[REAL]);
        let mut scene = Scene { bench, key };
        scene.counts();
        let request = match protocol {
            Protocol::Tcp => tcp((CLIENT, 4001), (VIP, 80), "S", b""),
            _ => udp((CLIENT, 4001), (VIP, 53), b"?"),
        };
        scene.bench.send(CLIENT_SIDE, &request);
        scene.wait(5000);
        assert_eq!(scene.counts(), ([0, 1, 0], [1, 0]), "{protocol:?} {forwarding:?}");
        scene.wait(200_000);
        assert_eq!(scene.counts().0, [0, 1, 0], "{protocol:?} {forwarding:?}: it is told once");
    }
}
