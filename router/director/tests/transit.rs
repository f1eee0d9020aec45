//! What passes through the director that is neither for it nor of a connection, and whose sources are believed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::Ipv4Addr;

use common::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration, PortId, Verdict};

/// In the servers' subnet, and no destination.
const SPARE: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 99);
/// Behind the clients' router.
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

fn bench(transit: Transit) -> Bench {
    let bench = Bench::bare(Limits::default());
    let interface = |port: PortId, mac, addresses: &[&str]| InterfaceSpec {
        port,
        name: format!("eth{}", port.0),
        link: Link::Ethernet(MacAddr(mac)),
        mtu: 1500,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        source_check: SourceCheck::Loose,
    };
    bench.apply(Change::SetNetwork {
        interfaces: vec![
            interface(CLIENT_SIDE, C0_MAC, &["10.0.0.1/24", "10.0.0.100/32"]),
            interface(SERVER_SIDE, R0_MAC, &["192.168.10.1/24"]),
        ],
        routes: vec![RouteSpec {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some(CLIENT.into()),
            port: CLIENT_SIDE,
        }],
    });
    for (port, addr, mac) in [
        (CLIENT_SIDE, CLIENT, CLIENT_MAC),
        (SERVER_SIDE, RS1, RS1_MAC),
        (SERVER_SIDE, RS2, RS2_MAC),
        (SERVER_SIDE, SPARE, RS2_MAC),
    ] {
        bench.apply(Change::SetNeighbor { port, addr: addr.into(), mac: MacAddr(mac) });
    }
    bench.apply(Change::SetOptions(Options { transit, ..Options::default() }));
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    bench
}

/// Puts a frame onto the other wire: its MAC addresses are those of the sender's side.
fn on(port: PortId, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(if port == CLIENT_SIDE { &C0_MAC } else { &R0_MAC });
    frame
}

fn passes(bench: &Bench, port: PortId, frame: Vec<u8>) -> bool {
    let before = bench.dropped(DropReason::Transit);
    let (verdict, _) = bench.send(port, &on(port, frame));
    let passed = matches!(verdict, Verdict::Transmit(_));
    assert!(passed || bench.dropped(DropReason::Transit) == before + 1, "{verdict:?}");
    passed
}

#[test]
fn clients_reach_services_and_not_the_servers_behind_them() {
    let bench = bench(Transit::Servers);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 80), "S", b""));
    bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 4000), "SA", b""));
    for client in [CLIENT, FAR] {
        for server in [RS1, RS2, SPARE] {
            for flags in ["S", "A", "R"] {
                assert!(!passes(&bench, CLIENT_SIDE, tcp((client, 4000), (server, 22), flags, b"")));
            }
            assert!(!passes(&bench, CLIENT_SIDE, tcp((client, 4000), (server, 80), "S", b"")));
            assert!(!passes(&bench, CLIENT_SIDE, udp((client, 4000), (server, 53), b"?")));
            assert!(!passes(&bench, CLIENT_SIDE, ping(client, server)));
        }
        assert!(!passes(
            &bench,
            CLIENT_SIDE,
            udp((client, 4000), (Ipv4Addr::new(198, 51, 100, 1), 53), b"?")
        ));
    }
}

#[test]
fn servers_talk_to_whom_they_want_and_hear_the_answers() {
    let mut bench = bench(Transit::Servers);
    for server in [RS1, SPARE] {
        for peer in [CLIENT, FAR] {
            let to_peer = |flags| tcp((server, 40000), (peer, 443), flags, b"");
            let to_server = |flags| tcp((peer, 443), (server, 40000), flags, b"");
            assert!(!passes(&bench, CLIENT_SIDE, to_server("SA")), "before anything was asked");
            assert!(passes(&bench, SERVER_SIDE, to_peer("S")));
            assert!(passes(&bench, CLIENT_SIDE, to_server("SA")));
            assert!(passes(&bench, SERVER_SIDE, to_peer("A")));
            assert!(
                !passes(&bench, CLIENT_SIDE, tcp((peer, 444), (server, 40000), "SA", b"")),
                "another port"
            );
            assert!(passes(&bench, SERVER_SIDE, udp((server, 5000), (peer, 53), b"?")));
            assert!(passes(&bench, CLIENT_SIDE, udp((peer, 53), (server, 5000), b"!")));
            assert!(passes(&bench, SERVER_SIDE, ping(server, peer)));
            let mut reply = ping(peer, server);
            // Echo reply, its checksum along.
            let sum = u16::from_be_bytes([reply[36], reply[37]]);
            reply[34] = 0;
            reply[36..38].copy_from_slice(&(sum + 0x800).to_be_bytes());
            assert!(passes(&bench, CLIENT_SIDE, reply.clone()));
            reply[39] += 1;
            assert!(!passes(&bench, CLIENT_SIDE, reply), "another echo");
        }
    }
    let answer = udp((FAR, 53), (RS1, 5000), b"!");
    bench.advance(Duration::from_secs(299));
    assert!(passes(&bench, CLIENT_SIDE, answer.clone()));
    bench.advance(Duration::from_secs(299));
    assert!(passes(&bench, CLIENT_SIDE, answer.clone()), "the answer has renewed it");
    bench.advance(Duration::from_secs(301));
    assert!(!passes(&bench, CLIENT_SIDE, answer));
    assert!(passes(&bench, CLIENT_SIDE, tcp((FAR, 443), (RS1, 40000), "A", b"")), "TCP may be silent longer");
}

/// An ICMP error (host unreachable) from `from`, about `frame`.
fn error_about(from: Ipv4Addr, frame: &[u8]) -> Vec<u8> {
    let to: [u8; 4] = frame[26..30].try_into().unwrap();
    let mut ip = vec![0; 600];
    let (to, code) = (Ipv4Addr::from(to), 1);
    let len = uvs_wire::icmp::emit_error_v4(&mut ip, from, to, 3, code, 0, 7, &frame[14..]);
    [&C0_MAC[..], &CLIENT_MAC, &[8, 0], &ip[..len]].concat()
}

#[test]
fn icmp_errors_reach_servers_about_what_they_said_only() {
    let bench = bench(Transit::Servers);
    let said = tcp((RS1, 40000), (FAR, 443), "S", b"");
    assert!(!passes(&bench, CLIENT_SIDE, error_about(CLIENT, &said)));
    assert!(passes(&bench, SERVER_SIDE, said.clone()));
    assert!(passes(&bench, CLIENT_SIDE, error_about(CLIENT, &said)));
    let not_said = tcp((RS1, 40001), (FAR, 443), "S", b"");
    assert!(!passes(&bench, CLIENT_SIDE, error_about(CLIENT, &not_said)));
}

#[test]
fn a_router_says_so_and_one_that_is_none_too() {
    for (transit, want) in [(Transit::Any, true), (Transit::None, false)] {
        let bench = bench(transit);
        assert_eq!(
            passes(&bench, CLIENT_SIDE, tcp((CLIENT, 4000), (RS1, 22), "S", b"")),
            want,
            "{transit:?}"
        );
        assert_eq!(passes(&bench, SERVER_SIDE, udp((RS1, 4000), (FAR, 53), b"?")), want, "{transit:?}");
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 80), "S", b""));
        bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 4000), "SA", b""));
    }
}

#[test]
fn what_a_removed_destination_says_still_passes_and_others_do_not() {
    let bench = bench(Transit::Servers);
    let key = ServiceKey::new(Protocol::Tcp, (VIP, 80).into());
    bench.apply(Change::RemoveDestination(key, "192.168.10.11:80".parse().unwrap()));
    assert!(passes(&bench, SERVER_SIDE, udp((RS1, 5000), (FAR, 53), b"?")));
    assert!(passes(&bench, CLIENT_SIDE, udp((FAR, 53), (RS1, 5000), b"!")));
    bench.apply(Change::RemoveService(key));
    assert!(passes(&bench, SERVER_SIDE, udp((RS1, 5001), (FAR, 53), b"?")));
    assert!(!passes(&bench, CLIENT_SIDE, udp((FAR, 5000), (CLIENT, 53), b"?")));
}

#[test]
fn a_route_over_a_destination_is_meant() {
    let bench = bench(Transit::Servers);
    let network = |via: Ipv4Addr| {
        let mut interfaces = bench.director.interfaces();
        interfaces.iter_mut().for_each(|interface| interface.source_check = SourceCheck::Off);
        let to = "10.9.9.9/32".parse().unwrap();
        bench.apply(Change::SetNetwork {
            interfaces,
            routes: vec![RouteSpec { to, via: Some(via.into()), port: SERVER_SIDE }],
        });
        for (addr, mac) in [(RS1, RS1_MAC), (SPARE, RS2_MAC)] {
            bench.apply(Change::SetNeighbor { port: SERVER_SIDE, addr: addr.into(), mac: MacAddr(mac) });
        }
    };
    let asks = || tcp((CLIENT, 4000), (Ipv4Addr::new(10, 9, 9, 9), 80), "S", b"");
    network(RS1);
    assert!(passes(&bench, CLIENT_SIDE, asks()));
    network(SPARE);
    assert!(!passes(&bench, CLIENT_SIDE, asks()), "not over any machine");
}

/// With `replies_from` the kernel hands over all that comes in from the servers' side, whoever has sent it.
#[test]
fn what_the_hosts_kernel_hands_to_a_tun_device_goes_back_to_it() {
    let bench = Bench::bare(Limits::default());
    bench.apply(Change::SetNetwork {
        interfaces: vec![InterfaceSpec {
            port: CLIENT_SIDE,
            name: "t0".into(),
            link: Link::Ip,
            mtu: 1500,
            addresses: vec!["10.255.0.2/30".parse().unwrap(), "10.0.0.100/32".parse().unwrap()],
            source_check: SourceCheck::Loose,
        }],
        routes: vec![RouteSpec {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some(Ipv4Addr::new(10, 255, 0, 1).into()),
            port: CLIENT_SIDE,
        }],
    });
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    for from in [RS1, SPARE] {
        let (verdict, _) = bench.send(CLIENT_SIDE, &udp((from, 5000), (FAR, 53), b"?")[14..]);
        assert_eq!(verdict, Verdict::Transmit(CLIENT_SIDE));
    }
    // A client whose request went to the server by the host alone.
    let (verdict, _) = bench.send(CLIENT_SIDE, &tcp((RS1, 80), (FAR, 4000), "SA", b"")[14..]);
    assert_eq!(verdict, Verdict::Transmit(CLIENT_SIDE));
}

#[test]
fn what_servers_talk_about_is_bounded_and_the_latest_is_known() {
    let bench = Bench::with_limits(Limits { transit_flows: 320, ..Limits::default() });
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    let known = |port| passes(&bench, CLIENT_SIDE, udp((CLIENT, 53), (RS1, port), b"!"));
    for port in 1000..5000 {
        assert!(passes(&bench, SERVER_SIDE, udp((RS1, port), (CLIENT, 53), b"?")));
        assert!(known(port));
    }
    let left = (1000..5000).filter(|port| known(*port)).count();
    assert!((1..=320).contains(&left), "{left}");
}

#[test]
fn a_source_of_another_interfaces_subnet_is_not_believed() {
    let bench = bench(Transit::Any);
    let spoofed = on(CLIENT_SIDE, tcp((RS1, 40000), (VIP, 80), "S", b""));
    bench.refused(CLIENT_SIDE, &spoofed, DropReason::SpoofedSource);
    let spoofed = on(SERVER_SIDE, udp((CLIENT, 40000), (RS2, 53), b""));
    bench.refused(SERVER_SIDE, &spoofed, DropReason::SpoofedSource);
    // From afar over the servers' link: a way back is not asked for.
    assert!(passes(&bench, SERVER_SIDE, udp((FAR, 40000), (CLIENT, 53), b"")));
}

/// After a restart, say: the server still has connections that the director does not know.
#[test]
fn an_answer_that_nobody_knows_is_not_routed_with_the_servers_address() {
    let bench = bench(Transit::Servers);
    for flags in ["A", "PA", "FA", "SA"] {
        let answer = tcp((RS1, 80), (FAR, 4000), flags, b"");
        let told = bench.refused(SERVER_SIDE, &answer, DropReason::UnknownAnswer);
        assert_eq!(told.len(), 1, "{flags}: a reset for the server");
        let reset = read(&told[0].1);
        assert_eq!((told[0].0, reset.from, reset.to), (SERVER_SIDE, (FAR.into(), 4000), (RS1.into(), 80)));
        assert_ne!(told[0].1[14 + 20 + 13] & 4, 0, "RST");
    }
    let told = bench.refused(SERVER_SIDE, &tcp((RS1, 80), (FAR, 4000), "R", b""), DropReason::UnknownAnswer);
    assert!(told.is_empty(), "nothing is said about a reset");
    // What it begins itself from that port is its own.
    assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 80), (FAR, 25), "S", b"")));
    assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 80), (FAR, 25), "A", b"")));
    // Another port, another host.
    assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 81), (FAR, 4000), "A", b"")));
    assert!(passes(&bench, SERVER_SIDE, tcp((RS2, 80), (FAR, 4000), "A", b"")));
}

/// Clients may reach real servers by a router of theirs, then, and hear them as they are.
#[test]
fn who_routes_everything_routes_answers_to_those_who_asked_directly() {
    let answer = tcp((RS1, 80), (FAR, 4000), "SA", b"");
    assert!(passes(&bench(Transit::Any), SERVER_SIDE, answer));
}

#[test]
fn datagrams_that_nobody_knows_go_only_between_equal_ports() {
    let bench = bench(Transit::Servers);
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:123"]);
    let told = bench.refused(SERVER_SIDE, &udp((RS1, 123), (FAR, 4000), b"!"), DropReason::UnknownAnswer);
    assert!(told.is_empty());
    assert!(passes(&bench, SERVER_SIDE, udp((RS1, 123), (FAR, 123), b"time?")));
    assert!(passes(&bench, CLIENT_SIDE, udp((FAR, 123), (RS1, 123), b"time!")));
}

#[test]
fn under_compat_unknown_answers_are_routed_as_the_kernel_does() {
    let bench = bench(Transit::Any);
    bench.apply(Change::SetOptions(Options {
        compat_ipvs: true,
        transit: Transit::Any,
        ..Options::default()
    }));
    assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 80), (FAR, 4000), "A", b"")));
}

/// A destination counts as often as services have it, and as it is now.
#[test]
fn destinations_that_are_edited_and_shared_count_as_they_are() {
    let mut bench = bench(Transit::Servers);
    let key = ServiceKey::new(Protocol::Tcp, (VIP, 80).into());
    let second = ServiceKey::new(Protocol::Tcp, (DIP, 80).into());
    let spec = |forwarding| DestinationSpec::new("192.168.10.11:80".parse().unwrap(), forwarding);
    bench.apply(Change::AddService(ServiceSpec::new(second, SchedulerSpec::named("wlc"))));
    bench.apply(Change::AddDestination(second, spec(Forwarding::Nat)));
    let leaks = |bench: &Bench, port| {
        bench.send(SERVER_SIDE, &tcp((RS1, 80), (FAR, port), "A", b"")).0 == Verdict::Transmit(CLIENT_SIDE)
    };
    assert!(!leaks(&bench, 4000));
    bench.apply(Change::EditDestination(key, spec(Forwarding::Direct)));
    assert!(!leaks(&bench, 4001), "the other service translates");
    bench.apply(Change::RemoveService(second));
    assert!(!leaks(&bench, 4002), "what it was asked by NAT may still be answered");
    bench.advance(ANSWERS_END);
    assert!(leaks(&bench, 4003), "who is reached directly answers for itself");
    bench.apply(Change::EditDestination(key, spec(Forwarding::Nat)));
    assert!(!leaks(&bench, 4004));
}

/// For as long answers of a destination may come after it was removed.
const ANSWERS_END: Duration = Duration::from_secs(7440);

/// Sends what a server says late, in both families of protocols, and expects it not to pass.
fn says_late(bench: &Bench, client_port: u16) {
    let told = bench.refused(
        SERVER_SIDE,
        &tcp((RS1, 80), (FAR, client_port), "A", b"late"),
        DropReason::UnknownAnswer,
    );
    assert_eq!(told.len(), 1, "a reset for the server");
    assert_ne!(told[0].1[14 + 20 + 13] & 4, 0, "RST");
    bench.refused(SERVER_SIDE, &udp((RS1, 53), (FAR, client_port), b"late"), DropReason::UnknownAnswer);
}

#[test]
fn late_answers_of_what_was_removed_are_not_routed_with_the_servers_address() {
    type Removal = fn(&Bench, ServiceKey);
    let removals: [(&str, Removal); 3] = [
        ("destination", |bench, key| {
            let destination =
                bench.director.services().iter().find(|s| s.spec.key == key).unwrap().destinations[0]
                    .spec
                    .addr;
            bench.apply(Change::RemoveDestination(key, destination));
        }),
        ("service", |bench, key| bench.apply(Change::RemoveService(key))),
        ("all", |bench, _| bench.apply(Change::Flush)),
    ];
    for (what, remove) in removals {
        let mut bench = bench(Transit::Servers);
        let web = ServiceKey::new(Protocol::Tcp, (VIP, 80).into());
        let names = bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
        bench.pass(CLIENT_SIDE, &on(CLIENT_SIDE, tcp((CLIENT, 4000), (VIP, 80), "S", b"")));
        bench.pass(CLIENT_SIDE, &on(CLIENT_SIDE, udp((CLIENT, 4000), (VIP, 53), b"?")));
        remove(&bench, web);
        remove(&bench, names);
        let (_, answer) = bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 4000), "SA", b""));
        assert_eq!(read(&answer).from, (VIP.into(), 80), "{what}: of a connection that is still known");
        let (_, answer) = bench.pass(SERVER_SIDE, &udp((RS1, 53), (CLIENT, 4000), b"!"));
        assert_eq!(read(&answer).from, (VIP.into(), 53), "{what}");
        says_late(&bench, 4001);
        bench.advance(ANSWERS_END - Duration::from_secs(1));
        says_late(&bench, 4000);
        // What it begins itself is its own, from other ports as from these.
        assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 80), (FAR, 25), "S", b"")));
        assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 80), (FAR, 25), "A", b"")));
        assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 81), (FAR, 4000), "A", b"")));
        assert!(passes(&bench, SERVER_SIDE, udp((RS1, 53), (FAR, 53), b"?")));
        assert!(passes(&bench, SERVER_SIDE, tcp((RS2, 80), (FAR, 4000), "A", b"")));
        bench.advance(Duration::from_secs(1));
        assert!(
            passes(&bench, SERVER_SIDE, tcp((RS1, 80), (FAR, 4000), "A", b"")),
            "{what}: a host like others"
        );
        assert!(passes(&bench, SERVER_SIDE, udp((RS1, 53), (FAR, 4000), b"!")));
    }
}

#[test]
fn errors_about_what_nobody_knows_do_not_name_the_server() {
    let bench = bench(Transit::Servers);
    // The server, or a router before it, about a request that was translated.
    let error = |from, client_port| {
        let request = on(SERVER_SIDE, tcp((FAR, client_port), (RS1, 80), "S", b""));
        on(SERVER_SIDE, error_about(from, &request))
    };
    bench.refused(SERVER_SIDE, &error(RS1, 4000), DropReason::UnknownAnswer);
    bench.refused(SERVER_SIDE, &error(SPARE, 4000), DropReason::UnknownAnswer);
    // About what it has begun itself.
    assert!(passes(&bench, SERVER_SIDE, tcp((RS1, 80), (FAR, 25), "S", b"")));
    assert!(passes(&bench, SERVER_SIDE, error(RS1, 25)));
    bench.apply(Change::Flush);
    bench.refused(SERVER_SIDE, &error(RS1, 4000), DropReason::UnknownAnswer);
    assert!(passes(&bench, SERVER_SIDE, error(RS1, 25)));
}

#[test]
fn errors_of_every_kind_are_told_in_the_clients_words() {
    for kind in [3, 4, 11, 12] {
        let bench = bench(Transit::Servers);
        let (_, request) = bench.pass(CLIENT_SIDE, &on(CLIENT_SIDE, tcp((FAR, 4000), (VIP, 80), "S", b"")));
        let mut ip = vec![0; 600];
        let len = uvs_wire::icmp::emit_error_v4(&mut ip, RS1, FAR, kind, 0, 0, 7, &request[14..]);
        let error = [&R0_MAC[..], &RS1_MAC, &[8, 0], &ip[..len]].concat();
        let (_, told) = bench.pass(SERVER_SIDE, &error);
        assert_eq!(told[26..30], VIP.octets(), "{kind}: from");
        assert_eq!(told[14 + 20 + 8 + 16..][..4], VIP.octets(), "{kind}: what it is about");
    }
}
