//! What the director asks of a flow cache, and what it makes of what the cache tells.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "../common/mod.rs"]
mod common;
mod fake;
mod order;
mod room;

use common::*;
use fake::*;
use uvs_director::flow_cache::{Act, Method, NotPlaced, Orphan, Progress};
use uvs_director::spec::*;
use uvs_director::trace::{End, Filter};
use uvs_director::{Duration, Frame, Outbox};

#[test]
fn a_connection_is_placed_before_its_first_packet_leaves() {
    for (forwarding, act, answers) in [
        (Forwarding::Nat, Act::NewDestination(RS1.into_addr(), 8080), true),
        (Forwarding::Direct, Act::AsIs, false),
        (
            Forwarding::Tunnel(Tunnel::Ipip),
            Act::Tunnel {
                source: std::net::Ipv4Addr::new(192, 168, 10, 1).into_addr(),
                destination: RS1.into_addr(),
            },
            false,
        ),
    ] {
        let (bench, fake) = bench();
        let to = if forwarding == Forwarding::Nat { "192.168.10.11:8080" } else { "192.168.10.11:80" };
        bench.service(Protocol::Tcp, forwarding, &[to]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        let inner = fake.inner();
        let (request, reply, is_embryonic) = inner.placed[&key(CLIENT_AT, SERVICE)];
        assert!(is_embryonic);
        assert_eq!(request.act, act);
        let next_hop = request.next_hop;
        assert_eq!(
            (next_hop.port, next_hop.to, next_hop.from, next_hop.mtu),
            (SERVER_SIDE, MacAddr(RS1_MAC), MacAddr(R0_MAC), 1500)
        );
        assert_eq!(reply.is_some(), answers);
        if let Some(reply) = reply {
            assert_eq!(reply.key, key((RS1, 8080), CLIENT_AT));
            assert_eq!(reply.act, Act::NewSource(VIP.into_addr(), 80));
            assert_eq!((reply.next_hop.port, reply.next_hop.to), (CLIENT_SIDE, MacAddr(CLIENT_MAC)));
        }
    }
}

#[test]
fn what_cannot_pass_by_is_not_placed() {
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None };
    for forwarding in [Forwarding::Tunnel(gue), Forwarding::Tunnel(Tunnel::Gre { checksum: false })] {
        let (bench, fake) = bench();
        bench.service(Protocol::Tcp, forwarding, &["192.168.10.11:80"]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
        assert_eq!(fake.inner().times, 0, "{forwarding:?}");
    }
    // A datagram alone is no flow.
    let (bench, fake) = bench();
    let service = ServiceKey::new(Protocol::Udp, "10.0.0.100:53".parse().unwrap());
    let spec = ServiceSpec { one_packet: true, ..ServiceSpec::new(service, SchedulerSpec::named("wlc")) };
    bench.apply(Change::AddService(spec));
    let to = DestinationSpec::new("192.168.10.11:53".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::AddDestination(service, to));
    bench.pass(CLIENT_SIDE, &udp((CLIENT, 5000), (VIP, 53), b"x"));
    assert_eq!(fake.inner().times, 0);
}

#[test]
fn what_somebody_wants_to_see_leaves_the_cache_and_stays_out_of_it() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let other = (CLIENT, 4001);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    bench.pass(CLIENT_SIDE, &tcp(other, SERVICE, "S", b""));
    assert_eq!(fake.len(), 2);
    let client = End { net: Prefix::host(CLIENT.into()), port: Some(CLIENT_AT.1) };
    let filter = Filter { client: Some(client), ..Filter::default() };
    assert_eq!(bench.director.take_out_of_cache(&filter, 0), (0, 1), "no more than asked for");
    bench.director.hold_off_cache(vec![filter]);
    assert_eq!(bench.director.take_out_of_cache(&filter, 10), (1, 0));
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"y"));
    assert!(!fake.inner().placed.contains_key(&key(CLIENT_AT, SERVICE)), "its packets go on to come here");
    assert_eq!(fake.len(), 1, "the other one stays");
    bench.director.hold_off_cache(Vec::new());
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"z"));
    assert_eq!(fake.len(), 2, "and goes back in when nobody looks any more");
}

#[test]
fn states_follow_what_passed_and_what_is_over_leaves_the_cache() {
    let (mut bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let ms = Duration::from_millis;
    for (is_reply, flags, want) in [
        (true, SYN | ACK, "SYN_RECV"),
        (false, ACK, "ESTABLISHED"),
        (true, FIN | ACK, "FIN_WAIT"),
        (false, FIN | ACK, "TIME_WAIT"),
    ] {
        passed(&bench, &fake, is_reply, flags, ms(1));
        assert_eq!(state(&bench), want, "after {flags:02x}");
        assert_eq!(fake.len(), 1, "it is still there for the last acknowledgements");
    }
    assert_eq!(bench.load("192.168.10.11:8080"), (0, 1));
    bench.advance(ms(200));
    assert_eq!((fake.len(), state(&bench)), (0, "TIME_WAIT"));
    // What comes late is handled here, and does not bring it back.
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
    assert_eq!(fake.len(), 0);
    // Another connection of the same client does.
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!((fake.len(), state(&bench)), (1, "SYN_RECV"));
}

#[test]
fn a_handshake_that_stays_open_comes_back_to_the_director() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    // The kernel's table leaves the state where it was, and the cache tells of one segment only.
    passed(&bench, &fake, false, RST, Duration::from_millis(1));
    let waits = || fake.inner().placed[&key(CLIENT_AT, SERVICE)].0.waits;
    assert_eq!((state(&bench), waits()), ("SYN_RECV", true));
    fake.inner().progress = Progress { has_passed: true, is_shut: true, ticket: 1 };
    bench.pass(CLIENT_SIDE, &numbered(&tcp(CLIENT_AT, SERVICE, "A", b""), 1));
    assert_eq!((state(&bench), fake.len()), ("ESTABLISHED", 1));
}

#[test]
fn a_connection_lives_as_long_as_its_packets_pass() {
    let (mut bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    passed(&bench, &fake, false, ACK, Duration::from_millis(1));
    let last = bench.now + Duration::from_secs(800);
    fake.inner().seen = Some(last);
    bench.advance(Duration::from_secs(850));
    assert_eq!(bench.connections()[0].expires_in, Duration::from_secs(850), "900 s from the last packet");
    bench.advance(Duration::from_secs(100));
    assert_eq!(bench.connections().len(), 1, "it had a packet 150 s ago");
    bench.advance(Duration::from_secs(751));
    assert_eq!((bench.connections().len(), fake.len()), (0, 0));
}

#[test]
fn a_packet_that_meets_an_old_deadline_asks_the_cache_first() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    passed(&bench, &fake, false, ACK, Duration::from_millis(1));
    // The timer has not looked yet; the packet did not pass in the cache for some reason of its own.
    fake.inner().seen = Some(bench.now + Duration::from_secs(900));
    let late = bench.now + Duration::from_secs(950);
    let mut frame = Frame::from_bytes(&tcp(CLIENT_AT, SERVICE, "A", b"x"));
    let verdict = bench.director.handle(CLIENT_SIDE, &mut frame, late, &mut Outbox::new());
    assert_eq!(verdict, uvs_director::Verdict::Transmit(SERVER_SIDE), "no other connection, no refusal");
}

#[test]
fn a_change_withdraws_and_the_next_packet_places_anew() {
    let (bench, fake) = bench();
    let service = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    fake.inner().progress = Progress { has_passed: true, is_shut: true, ticket: 1 };
    bench.pass(CLIENT_SIDE, &numbered(&tcp(CLIENT_AT, SERVICE, "A", b""), 1));
    assert_eq!(fake.inner().times, 1, "once is enough");
    fake.inner().withdrawn.clear();
    let spec = DestinationSpec::new("192.168.10.11:8080".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::EditDestination(service, DestinationSpec { weight: 5, upper_threshold: 9, ..spec }));
    assert_eq!(fake.inner().withdrawn, [], "flows go on as they are");
    let edit = Change::EditDestination(service, DestinationSpec { weight: 0, ..spec });
    let remove = Change::RemoveDestination(service, "192.168.10.11:8080".parse().unwrap());
    let add = Change::AddDestination(service, spec);
    for (change, withdrawn, placed) in [(edit, 1, 2), (remove, 2, 2), (add, 2, 3)] {
        bench.apply(change);
        assert_eq!(fake.inner().withdrawn.len(), withdrawn);
        bench.send(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
        assert_eq!(fake.inner().times, placed);
    }
    bench.apply(Change::SetOptions(Options { nat_icmp_send: true, ..bench.director.options() }));
    assert_eq!(fake.inner().withdrawn.last(), Some(&None), "of all");
    fake.inner().withdrawn.clear();
    bench.apply(Change::SetTimeouts(bench.director.timeouts()));
    assert_eq!(fake.inner().withdrawn, [None], "the next packet of each takes the new ones");
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b"x"));
    assert_eq!(fake.inner().times, 4);
}

#[test]
fn a_removed_connection_leaves_the_cache_with_it() {
    let (bench, fake) = bench();
    let service = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.apply(Change::SetOptions(Options { expire_nodest_conn: true, ..bench.director.options() }));
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!(fake.len(), 1);
    bench.apply(Change::RemoveDestination(service, "192.168.10.11:8080".parse().unwrap()));
    assert_eq!((bench.connections().len(), fake.len()), (0, 0));
}

#[test]
fn of_two_connections_with_one_reply_only_the_newer_is_in_the_cache() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let other = ServiceKey::new(Protocol::Tcp, "10.0.0.100:81".parse().unwrap());
    bench.apply(Change::AddService(ServiceSpec::new(other, SchedulerSpec::named("wlc"))));
    let to = DestinationSpec::new("192.168.10.11:8080".parse().unwrap(), Forwarding::Nat);
    bench.apply(Change::AddDestination(other, to));
    let newer = key(CLIENT_AT, (VIP, 81));
    let placed = |fake: &Fake| {
        let mut keys: Vec<u16> = fake.inner().placed.keys().map(|key| key.destination.1).collect();
        keys.sort_unstable();
        keys
    };
    for (flags, service) in [("S", 80), ("A", 80)] {
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, (VIP, service), flags, b""));
    }
    assert_eq!(placed(&fake), [80]);
    // The older one is out of the way even if the newer one finds no room.
    fake.inner().answer = Some(NotPlaced::Full);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, (VIP, 81), "S", b""));
    assert!(placed(&fake).is_empty());
    fake.inner().answer = None;
    for (service, want) in [(80, vec![]), (81, vec![81]), (80, vec![81])] {
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, (VIP, service), "A", b"x"));
        assert_eq!(placed(&fake), want, "after a packet to {service}");
    }
    let reply = fake.inner().placed[&newer].1.unwrap();
    assert_eq!(reply.act, Act::NewSource(VIP.into_addr(), 81));
}

#[test]
fn drop_entry_leaves_alone_what_passes_in_the_cache_and_takes_what_is_silent_there_too() {
    for (passes_on, want) in [(true, 1), (false, 0)] {
        let (mut bench, fake) = bench();
        bench.apply(Change::SetOptions(Options { drop_entry: 3, ..Options::default() }));
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
        for (is_reply, flags) in [(true, SYN | ACK), (false, ACK)] {
            passed(&bench, &fake, is_reply, flags, Duration::from_millis(1));
        }
        // The cache's clock is coarse.
        fake.inner().seen = Some(bench.now + Duration::from_millis(21));
        for _ in 0..600 {
            bench.advance(Duration::from_secs(1));
            if passes_on {
                fake.inner().seen = Some(bench.now);
            }
        }
        assert_eq!(bench.connections().len(), want, "packets pass: {passes_on}");
        // Having said much it may rest, as if its packets had come here.
        bench.advance(Duration::from_secs(600));
        assert_eq!(bench.connections().len(), want, "packets passed: {passes_on}");
        bench.advance(Duration::from_secs(301));
        assert_eq!(bench.connections().len(), 0);
    }
}

/// An ICMP error from the way to a real server about the tunnel packet in `frame`.
fn too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let (router, own) =
        (std::net::Ipv4Addr::new(192, 168, 10, 254), std::net::Ipv4Addr::new(192, 168, 10, 1));
    let mut buffer = vec![0; 600];
    let len = uvs_wire::icmp::emit_error_v4(&mut buffer, router, own, 3, 4, mtu, 1, &frame[14..]);
    [&R0_MAC[..], &RS1_MAC, &[8, 0], &buffer[..len]].concat()
}

#[test]
fn only_flows_whose_path_gets_narrower_are_withdrawn() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Tunnel(Tunnel::Ipip), &["192.168.10.11:80", "192.168.10.12:80"]);
    let (_, sent) = bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let mut forged = too_big(&sent, 1300);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    fake.inner().withdrawn.clear();
    for (error, want) in [
        (forged, 0),
        (too_big(&sent, 1500), 0),
        (too_big(&sent, 1400), 1),
        (too_big(&sent, 1400), 1),
        (too_big(&sent, 1450), 1),
        (too_big(&sent, 1300), 2),
    ] {
        bench.send(SERVER_SIDE, &error);
        let withdrawn = fake.inner().withdrawn.clone();
        assert_eq!(withdrawn.len(), want, "{withdrawn:?}");
        assert!(withdrawn.iter().all(Option::is_some), "those of one destination alone: {withdrawn:?}");
    }
}

#[test]
fn a_connection_of_a_service_named_by_a_mark_is_adopted() {
    let (bench, _) = bench();
    let marked = ServiceKey::Mark { mark: 7, family: Family::V4 };
    bench.apply(Change::AddService(ServiceSpec::new(marked, SchedulerSpec::named("wlc"))));
    let to = DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Direct);
    bench.apply(Change::AddDestination(marked, to));
    let rule = |mark, ports| MarkRule {
        // Where packets come in, a flow does not say.
        port: Some(CLIENT_SIDE),
        protocol: Some(Protocol::Tcp),
        destination_ports: Some(ports),
        ..MarkRule::new(mark)
    };
    bench.apply(Change::SetMarks(vec![rule(9, (80, 80)), rule(7, (80, 90)), rule(8, (0, 65_535))]));
    let orphan = |port| Orphan {
        request: key(CLIENT_AT, (VIP, port)),
        destination: (RS1.into_addr(), port),
        method: Method::Direct,
        idle: Duration::from_secs(1),
        is_established: true,
        finished: [false; 2],
        is_reset: false,
    };
    assert!(!bench.director.adopt(&orphan(91), bench.now), "nothing gives it the mark");
    assert!(!bench.director.adopt(&Orphan { method: Method::Nat, ..orphan(80) }, bench.now));
    assert!(bench.director.adopt(&Orphan { destination: (RS1.into_addr(), 80), ..orphan(80) }, bench.now));
    assert_eq!((bench.connections().len(), state(&bench)), (1, "ESTABLISHED"));
}

/// Segments of a destination that is to be rid of its connections come to the director, and what passed in the cache
/// before does not make them late.
#[test]
fn connections_that_are_ended_leave_the_cache() {
    let (bench, fake) = bench();
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    passed(&bench, &fake, true, SYN | ACK, Duration::from_millis(1));
    passed(&bench, &fake, false, ACK, Duration::from_millis(2));
    assert_eq!((state(&bench), fake.len()), ("ESTABLISHED", 1));
    fake.inner().progress = Progress { has_passed: true, ..Progress::default() };
    let withdrawn = fake.inner().withdrawn.len();
    assert!(bench.director.end_connections(&key, "192.168.10.11:8080".parse().unwrap(), true));
    assert_eq!(fake.inner().withdrawn.len(), withdrawn + 1);
    let (_, sent) = bench.send(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "PA", b"more"));
    assert_eq!(sent.len(), 2, "a reset for each end");
    assert_eq!((state(&bench), fake.len()), ("CLOSE", 0));
}
