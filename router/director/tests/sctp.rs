//! SCTP through the engine: what starts an association, what reuses one, and its CRC.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::*;
use etherparse::{IpNumber, PacketBuilder};
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration};
use uvs_wire::sctp;

const SERVICE: (Ipv4Addr, u16) = (VIP, 9);

fn bench(forwarding: Forwarding, options: Options, destinations: &[&str]) -> Bench {
    let bench = Bench::new();
    bench.apply(Change::SetOptions(options));
    let key = ServiceKey::new(Protocol::Sctp, SocketAddr::new(VIP.into(), 9));
    bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
    for destination in destinations {
        bench.apply(Change::AddDestination(
            key,
            DestinationSpec::new(destination.parse().unwrap(), forwarding),
        ));
    }
    bench
}

/// A packet of one chunk, which has no value.
fn packet(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), chunk: u8) -> Vec<u8> {
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    let mut bytes = [&ports[..], &[0, 0, 0, 7], &[0; 4], &[chunk, 0, 0, 8, 1, 2, 3, 4]].concat();
    sctp::fill_checksum(&mut bytes);
    let macs = if from.0 == CLIENT { (CLIENT_MAC, C0_MAC) } else { (RS1_MAC, R0_MAC) };
    let builder = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from.0.octets(), to.0.octets(), 64);
    let mut frame = Vec::new();
    builder.write(&mut frame, IpNumber::SCTP, &bytes).unwrap();
    frame
}

fn request(client_port: u16, chunk: u8) -> Vec<u8> {
    packet((CLIENT, client_port), SERVICE, chunk)
}

fn states(bench: &Bench) -> Vec<&'static str> {
    bench.connections().iter().map(|connection| connection.state).collect()
}

#[test]
fn an_init_starts_an_association_and_anything_but_an_abort_when_sloppy() {
    type Case = (u8, Option<&'static str>, Option<&'static str>);
    let cases: [Case; 6] = [
        (sctp::INIT, Some("INIT1"), Some("INIT1")),
        (sctp::DATA, None, Some("ESTABLISHED")),
        (sctp::COOKIE_ECHO, None, Some("C-REPLIED")),
        (sctp::SHUTDOWN, None, Some("S-RECEIVED")),
        (sctp::SHUTDOWN_COMPLETE, None, Some("CLOSED")),
        (sctp::ABORT, None, None),
    ];
    for (chunk, strict, sloppy) in cases {
        for (sloppy_sctp, want) in [(false, strict), (true, sloppy)] {
            let options = Options { sloppy_sctp, ..Options::default() };
            let bench = bench(Forwarding::Nat, options, &["192.168.10.11:99"]);
            bench.send(CLIENT_SIDE, &request(4000, chunk));
            assert_eq!(states(&bench), Vec::from_iter(want), "chunk {chunk}, sloppy {sloppy_sctp}");
        }
    }
}

#[test]
fn the_crc_follows_the_port_and_damage_stays_visible() {
    let bench = bench(Forwarding::Nat, Options::default(), &["192.168.10.11:99"]);
    let mut frame = request(4000, sctp::INIT);
    let (_, sent) = bench.pass(CLIENT_SIDE, &frame);
    let view = sctp::SctpPacket::parse(&sent[34..]).unwrap();
    assert_eq!((view.dst_port(), view.checksum_ok()), (99, true));
    *frame.last_mut().unwrap() ^= 1;
    let (_, sent) = bench.pass(CLIENT_SIDE, &frame);
    let view = sctp::SctpPacket::parse(&sent[34..]).unwrap();
    assert_eq!((view.dst_port(), view.checksum_ok()), (99, false));
}

#[test]
fn an_association_counts_as_active_while_it_is_established_and_expires() {
    let mut bench = bench(Forwarding::Direct, Options::default(), &["192.168.10.11:9"]);
    bench.pass(CLIENT_SIDE, &request(4000, sctp::INIT));
    assert_eq!((states(&bench), bench.load("192.168.10.11:9")), (vec!["INIT1"], (0, 1)));
    bench.pass(CLIENT_SIDE, &request(4000, sctp::COOKIE_ECHO));
    assert_eq!((states(&bench), bench.load("192.168.10.11:9")), (vec!["ESTABLISHED"], (1, 0)));
    bench.advance(Duration::from_secs(899));
    bench.pass(CLIENT_SIDE, &request(4000, sctp::SHUTDOWN));
    assert_eq!((states(&bench), bench.load("192.168.10.11:9")), (vec!["S-RECEIVED"], (0, 1)));
    bench.advance(Duration::from_secs(60));
    assert_eq!(states(&bench).len(), 1);
    bench.advance(Duration::from_secs(1));
    assert_eq!(states(&bench).len(), 0);
}

#[test]
fn an_init_on_a_closed_association_is_scheduled_anew_and_on_another_is_not() {
    for (conn_reuse_mode, closed, anew) in [(1, true, true), (1, false, false), (0, true, false)] {
        let options = Options { conn_reuse_mode, ..Options::default() };
        let bench = bench(Forwarding::Direct, options, &["192.168.10.11:9"]);
        bench.pass(CLIENT_SIDE, &request(4000, sctp::INIT));
        bench.pass(CLIENT_SIDE, &request(4000, sctp::COOKIE_ECHO));
        if closed {
            bench.pass(CLIENT_SIDE, &request(4000, sctp::ABORT));
        }
        let first = bench.director.services()[0].destinations[0].counters.connections;
        bench.pass(CLIENT_SIDE, &request(4000, sctp::INIT));
        let both = bench.director.services()[0].destinations[0].counters.connections;
        assert_eq!(both - first, u64::from(anew), "mode {conn_reuse_mode}, closed {closed}");
    }
}

#[test]
fn a_packet_of_no_association_is_answered_by_an_abort() {
    let bench = bench(Forwarding::Nat, Options::default(), &["192.168.10.11:99"]);
    let sent = bench.refused(CLIENT_SIDE, &request(4000, sctp::DATA), DropReason::NoConnection);
    assert_eq!(sent.len(), 1);
    let view = sctp::SctpPacket::parse(&sent[0].1[34..]).unwrap();
    assert_eq!((view.src_port(), view.dst_port(), view.first_chunk_type()), (9, 4000, Some(sctp::ABORT)));
    for silent in [sctp::ABORT, sctp::SHUTDOWN_COMPLETE] {
        let sent = bench.refused(CLIENT_SIDE, &request(4000, silent), DropReason::NoConnection);
        assert_eq!(sent, [], "chunk {silent}");
    }
}

#[test]
fn a_server_that_speaks_on_no_association_is_told_so_unless_it_aborts() {
    let options = Options { nat_icmp_send: true, ..Options::default() };
    let bench = bench(Forwarding::Nat, options, &["192.168.10.11:99"]);
    let reply = |chunk| packet((RS1, 99), (CLIENT, 4000), chunk);
    let sent = bench.refused(SERVER_SIDE, &reply(sctp::DATA), DropReason::NoConnection);
    assert_eq!(read_icmp(&sent[0].1).2, 3, "destination unreachable");
    assert_eq!(bench.refused(SERVER_SIDE, &reply(sctp::ABORT), DropReason::UnknownAnswer), []);
    bench.apply(Change::SetOptions(Options { compat_ipvs: true, transit: Transit::Any, ..options }));
    let (_, sent) = bench.send(SERVER_SIDE, &reply(sctp::ABORT));
    assert_eq!(sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [CLIENT_SIDE], "routed on as it is");
}

#[test]
fn an_association_that_is_lost_is_aborted_at_the_server() {
    let bench = bench(Forwarding::Nat, Options::default(), &["192.168.10.11:99"]);
    let told =
        bench.refused(SERVER_SIDE, &packet((RS1, 99), (CLIENT, 4000), sctp::DATA), DropReason::UnknownAnswer);
    assert_eq!(told.len(), 1);
    let view = sctp::SctpPacket::parse(&told[0].1[34..]).unwrap();
    assert_eq!((view.src_port(), view.dst_port(), view.first_chunk_type()), (4000, 99, Some(sctp::ABORT)));
}

/// What whoever watches sees: answered, failed, doubtful.
fn seen(bench: &Bench) -> [u64; 3] {
    let key = ServiceKey::new(Protocol::Sctp, SocketAddr::new(VIP.into(), 9));
    let mut all = Vec::new();
    bench.director.watch(&key, |_, it| all.push([it.answered, it.failed, it.doubtful]));
    all[0]
}

fn answer(client_port: u16, chunk: u8) -> Vec<u8> {
    packet((RS1, 99), (CLIENT, client_port), chunk)
}

#[test]
fn who_watches_sees_how_associations_are_taken() {
    let mut bench = bench(Forwarding::Nat, Options::default(), &["192.168.10.11:99"]);
    let ask = |bench: &Bench, port, chunk| bench.pass(CLIENT_SIDE, &request(port, chunk)).1;
    assert_eq!(seen(&bench), [0, 0, 0]);
    ask(&bench, 4000, sctp::INIT);
    bench.pass(SERVER_SIDE, &answer(4000, sctp::INIT_ACK));
    assert_eq!(seen(&bench), [1, 0, 0], "an answer");
    ask(&bench, 4000, sctp::COOKIE_ECHO);
    bench.pass(SERVER_SIDE, &answer(4000, sctp::ABORT));
    assert_eq!(seen(&bench), [1, 0, 0], "what comes later is none of the handshake");
    ask(&bench, 4001, sctp::INIT);
    bench.pass(SERVER_SIDE, &answer(4001, sctp::ABORT));
    assert_eq!(seen(&bench), [1, 1, 0], "refused");
    ask(&bench, 4002, sctp::INIT);
    ask(&bench, 4002, sctp::INIT);
    assert_eq!(seen(&bench), [1, 1, 0], "who repeats at once says nothing");
    bench.advance(Duration::from_secs(3));
    ask(&bench, 4002, sctp::INIT);
    assert_eq!(seen(&bench), [1, 2, 0], "not answered");
    bench.pass(SERVER_SIDE, &answer(4002, sctp::INIT_ACK));
    assert_eq!(seen(&bench), [2, 2, 0], "but in the end");
    ask(&bench, 4003, sctp::INIT);
    ask(&bench, 4003, sctp::ABORT);
    bench.advance(Duration::from_secs(600));
    assert_eq!(seen(&bench), [2, 2, 0], "a client that gives up says nothing");
    ask(&bench, 4004, sctp::INIT);
    bench.advance(Duration::from_secs(600));
    assert_eq!(seen(&bench), [2, 3, 0], "silence to the end");
}

#[test]
fn by_direct_routing_clients_tell_how_associations_are_taken() {
    let mut bench = bench(Forwarding::Direct, Options::default(), &["192.168.10.11:9"]);
    assert_eq!(seen(&bench), [0, 0, 0]);
    bench.pass(CLIENT_SIDE, &request(4000, sctp::INIT));
    bench.pass(CLIENT_SIDE, &request(4000, sctp::COOKIE_ECHO));
    assert_eq!(seen(&bench), [1, 0, 0]);
    bench.pass(CLIENT_SIDE, &request(4001, sctp::INIT));
    bench.advance(Duration::from_secs(3));
    bench.pass(CLIENT_SIDE, &request(4001, sctp::INIT));
    assert_eq!(seen(&bench), [1, 0, 1]);
    bench.advance(Duration::from_secs(600));
    assert_eq!(seen(&bench), [1, 0, 2]);
}
