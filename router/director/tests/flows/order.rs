//! Packets that come to the director while others of their flow may pass in the cache.

use crate::common::*;
use crate::fake::*;
use uvs_director::flow_cache::{FlowKey, Passed, Progress};
use uvs_director::spec::*;
use uvs_director::{DropReason, Frame, Outbox};

#[test]
fn what_leaves_the_director_with_a_ticket_is_told_once_it_is_sent() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let mut out = Outbox::new();
    let mut handle = |bytes: &[u8]| {
        let mut frame = Frame::from_bytes(bytes);
        let verdict = bench.director.handle(CLIENT_SIDE, &mut frame, bench.now, &mut out);
        assert_eq!(verdict, uvs_director::Verdict::Transmit(SERVER_SIDE));
        assert_eq!(frame.bytes()[12..14], [8, 0], "it leaves without");
    };
    let other = (CLIENT, 40_001);
    handle(&numbered(&tcp(other, SERVICE, "S", b""), 7));
    handle(&numbered(&tcp(CLIENT_AT, SERVICE, "A", b"x"), 8));
    handle(&numbered(&tcp(CLIENT_AT, SERVICE, "A", b"xx"), 9));
    handle(&numbered(&tcp(CLIENT_AT, SERVICE, "A", b"xxx"), 9));
    let told = |source, ticket, frames| Passed { key: key(source, SERVICE), ticket, frames, is_whole: false };
    assert_eq!(fake.inner().through, [told(other, 7, 1)], "of another flow, for that was sent before");
    bench.director.sent(&mut out);
    bench.director.sent(&mut out);
    assert_eq!(fake.inner().through[1..], [told(CLIENT_AT, 9, 2)], "once, and the last one alone");
}

#[test]
fn a_direction_of_which_packets_may_be_here_waits() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let waits = |key| {
        let (request, reply, _) = fake.inner().placed[&key];
        (request.waits, reply.unwrap().waits)
    };
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!(waits(key(CLIENT_AT, SERVICE)), (false, false), "the client waits for an answer by itself");
    bench.director.links_moved();
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
    assert_eq!(waits(key(CLIENT_AT, SERVICE)), (true, true), "both have had packets before");
    let datagrams = ServiceKey::new(Protocol::Udp, "10.0.0.100:80".parse().unwrap());
    bench.apply(Change::AddService(ServiceSpec::new(datagrams, SchedulerSpec::named("wlc"))));
    let to = DestinationSpec::new("192.168.10.11:8080".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::AddDestination(datagrams, to));
    bench.pass(CLIENT_SIDE, &udp(CLIENT_AT, SERVICE, b"x"));
    let of = FlowKey { protocol: 17, ..key(CLIENT_AT, SERVICE) };
    assert_eq!(waits(of), (true, false), "the next datagrams may be here already");
}

#[test]
fn a_connection_whose_first_packet_waited_for_a_neighbour_is_placed_with_it() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.99:8080"]);
    let (_, sent) = bench.send(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!((sent.len(), fake.len()), (1, 0), "a question goes out");
    let rip = std::net::Ipv4Addr::new(192, 168, 10, 99);
    let answer = arp(2, (RS1_MAC, rip), (R0_MAC, std::net::Ipv4Addr::new(192, 168, 10, 1)), R0_MAC);
    let (_, sent) = bench.send(SERVER_SIDE, &answer);
    assert_eq!(sent.len(), 1, "the SYN leaves");
    let (request, reply, _) = fake.inner().placed[&key(CLIENT_AT, SERVICE)];
    assert_eq!((request.waits, reply.unwrap().waits), (false, false));
}

#[test]
fn what_waited_while_later_packets_passed_is_not_sent_on() {
    let (request, answer) = (tcp(CLIENT_AT, SERVICE, "S", b""), tcp((RS1, 8080), CLIENT_AT, "FA", b""));
    let [passed, shut, both] = [(true, false), (false, true), (true, true)]
        .map(|(has_passed, is_shut)| Progress { has_passed, is_shut, ticket: 9 });
    // What came with a ticket came after the connection was placed, and has shut the direction, or was of one before.
    for (port, late, ticket, progress, sent, waits) in [
        (CLIENT_SIDE, &request, None, Progress::default(), true, true),
        (CLIENT_SIDE, &request, None, passed, false, false),
        (CLIENT_SIDE, &request, None, both, false, false),
        (CLIENT_SIDE, &request, Some(7), both, true, false),
        (CLIENT_SIDE, &request, Some(7), shut, true, false),
        (CLIENT_SIDE, &request, Some(7), passed, false, false),
        (CLIENT_SIDE, &request, Some(10), both, false, false),
        (SERVER_SIDE, &answer, None, Progress::default(), true, true),
        (SERVER_SIDE, &answer, None, passed, false, false),
        (SERVER_SIDE, &answer, Some(7), passed, false, false),
        (SERVER_SIDE, &answer, Some(7), both, true, false),
    ] {
        let (bench, fake) = bench();
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        fake.inner().progress = progress;
        let late = ticket.map_or(late.clone(), |ticket| numbered(late, ticket));
        if sent {
            bench.pass(port, &late);
        } else {
            bench.refused(port, &late, DropReason::Overtaken);
        }
        let placed = fake.inner().placed.get(&key(CLIENT_AT, SERVICE)).copied();
        assert_eq!(placed.map(|(request, ..)| request.waits), Some(waits), "{ticket:?} {progress:?}");
    }
}
