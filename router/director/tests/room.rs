//! At the limit of the connection table every class of entries makes room, and no service takes the room of another.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use common::*;
use uvs_director::spec::*;
use uvs_director::{Director, DropReason, Duration};

const SERVER: &str = "192.168.10.11:80";
const LIMIT: usize = 2000;

fn bench() -> Bench {
    Bench::with_limits(Limits { connections: LIMIT, ..Limits::default() })
}

fn tcp_service(bench: &Bench, port: u16, forwarding: Forwarding, persistence: Option<Persistence>) {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), port));
    let spec = ServiceSpec { persistence, ..ServiceSpec::new(key, SchedulerSpec::named("wlc")) };
    bench.apply(Change::AddService(spec));
    let server = format!("192.168.10.11:{port}").parse().unwrap();
    bench.apply(Change::AddDestination(key, DestinationSpec::new(server, forwarding)));
}

/// The `n`th of many clients on the client's link.
fn neighbour(n: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from_bits(0x0a00_0065 + n % 150), 1000 + u16::try_from(n / 150).unwrap())
}

/// The `n`th of many clients that nobody knows.
fn stranger(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a10_0000 + n)
}

fn says(bench: &Bench, client: (Ipv4Addr, u16), service: u16, flags: &str) {
    bench.pass(CLIENT_SIDE, &tcp(client, (VIP, service), flags, b""));
}

/// A connection of the known client that both ends take part in.
fn establish(bench: &Bench, client: u16, service: u16) {
    says(bench, (CLIENT, client), service, "S");
    bench.pass(SERVER_SIDE, &tcp((RS1, service), (CLIENT, client), "SA", b""));
    says(bench, (CLIENT, client), service, "A");
}

fn established(bench: &Bench) -> usize {
    bench.connections().iter().filter(|c| c.state == "ESTABLISHED" && !c.template).count()
}

fn evicted(bench: &Bench) -> BTreeMap<&'static str, u64> {
    bench.director.status().evicted.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Entries of the service on that port, templates included.
fn entries(bench: &Bench, service: u16) -> usize {
    bench.connections().iter().filter(|c| c.virtual_addr.port() == service).count()
}

#[test]
fn templates_of_a_flood_make_room_and_those_in_use_stay() {
    let bench = bench();
    tcp_service(
        &bench,
        80,
        Forwarding::Nat,
        Some(Persistence { timeout: Duration::from_secs(300), prefix_len: 32, engine: None }),
    );
    for client in 1000..1100 {
        establish(&bench, client, 80);
    }
    for n in 0..20_000 {
        says(&bench, (stranger(n), 1000), 80, "S");
        if n % 1000 == 0 {
            establish(&bench, 1100 + u16::try_from(n / 1000).unwrap(), 80);
        }
    }
    assert_eq!(established(&bench), 120);
    let held = bench.connections().iter().any(|c| c.template && c.client.ip() == CLIENT);
    assert!(held, "the template of connections that are there");
    let evicted = evicted(&bench);
    assert!(evicted["template"] > 8000 && evicted["half_open"] > 8000, "{evicted:?}");
    assert_eq!(evicted.len(), 2, "{evicted:?}");
    assert!(bench.director.status().connections <= LIMIT);
    assert_eq!(bench.dropped(DropReason::ConnectionLimit), 0);
}

#[test]
fn what_only_clients_call_established_makes_room() {
    for forwarding in [Forwarding::Direct, Forwarding::Tunnel(Tunnel::Ipip), Forwarding::Nat] {
        let mut bench = bench();
        tcp_service(&bench, 80, forwarding, None);
        // These go on, and the director sees one direction of them or both.
        for client in 1000..1100 {
            match forwarding {
                Forwarding::Nat => establish(&bench, client, 80),
                _ => ["S", "A", "A"].iter().for_each(|flags| says(&bench, (CLIENT, client), 80, flags)),
            }
        }
        for n in 0..20_000 {
            says(&bench, (stranger(n), 1000), 80, "S");
            says(&bench, (stranger(n), 1000), 80, "A");
            if n % 1000 == 0 {
                bench.advance(Duration::from_millis(100));
                (1000..1100).for_each(|client| says(&bench, (CLIENT, client), 80, "A"));
            }
        }
        let there = bench.connections().iter().filter(|c| c.client.ip() == CLIENT).count();
        assert_eq!(there, 100, "{forwarding:?}");
        assert!(evicted(&bench)["claimed"] > 17_000, "{forwarding:?}: {:?}", evicted(&bench));
        assert_eq!(bench.dropped(DropReason::ConnectionLimit), 0);
    }
}

#[test]
fn datagrams_that_are_answered_make_room_by_age() {
    let bench = bench();
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    tcp_service(&bench, 80, Forwarding::Nat, None);
    for _ in 0..4 {
        for client in 1000..1100 {
            bench.pass(CLIENT_SIDE, &udp((CLIENT, client), (VIP, 53), b"?"));
            bench.pass(SERVER_SIDE, &udp((RS1, 53), (CLIENT, client), b"!"));
        }
    }
    for n in 0..20_000 {
        bench.pass(CLIENT_SIDE, &udp(neighbour(n), (VIP, 53), b"?"));
        bench.send(SERVER_SIDE, &udp((RS1, 53), neighbour(n), b"!"));
    }
    establish(&bench, 1000, 80);
    let there = bench.connections().iter().filter(|c| c.client.ip() == CLIENT).count();
    assert_eq!(there, 101, "who went on stays, and who is new comes in");
    assert!(evicted(&bench)["claimed"] > 17_000);
    assert_eq!(bench.dropped(DropReason::ConnectionLimit), 0);
}

/// Floods that take more trouble: many packets of each connection, and a FIN at the end.
#[test]
fn what_went_on_once_makes_room_by_silence() {
    for (last, class) in [("A", "one_sided"), ("FA", "closing")] {
        let mut bench = bench();
        tcp_service(&bench, 80, Forwarding::Direct, None);
        let user = |bench: &Bench, flags: &str| says(bench, (CLIENT, 1000), 80, flags);
        ["S", "A", "A", "A"].iter().for_each(|flags| user(&bench, flags));
        for n in 0..10_000 {
            for flags in ["S", "A", "A", last] {
                says(&bench, (stranger(n), 1000), 80, flags);
            }
            if n % 100 == 0 {
                bench.advance(Duration::from_millis(10));
                user(&bench, "A");
            }
        }
        assert!(bench.connections().iter().any(|c| c.client.ip() == CLIENT), "{class}: it was never silent");
        assert!(evicted(&bench)[class] > 6000, "{:?}", evicted(&bench));
        establish(&bench, 1001, 80);
        assert_eq!(bench.dropped(DropReason::ConnectionLimit), 0);
    }
}

#[test]
fn connections_that_both_ends_speak_on_never_make_room() {
    let bench = bench();
    tcp_service(&bench, 80, Forwarding::Nat, None);
    for client in 1000..1000 + u16::try_from(LIMIT).unwrap() {
        establish(&bench, client, 80);
    }
    for n in 0..100 {
        bench.refused(
            CLIENT_SIDE,
            &tcp((stranger(n), 1000), (VIP, 80), "S", b""),
            DropReason::ConnectionLimit,
        );
    }
    assert_eq!(established(&bench), LIMIT);
    // One that has ended is enough for one that is new.
    bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1000), "R", b""));
    says(&bench, (stranger(0), 1000), 80, "S");
    assert_eq!(evicted(&bench), BTreeMap::from([("ended", 1)]));
}

#[test]
fn a_service_keeps_its_share_whatever_comes_in_on_others() {
    let mut bench = bench();
    for port in [80, 81, 82, 83] {
        tcp_service(&bench, port, Forwarding::Nat, None);
    }
    // Half of the table by four.
    let share = LIMIT / 2 / 4;
    for client in 1000..1100 {
        says(&bench, (CLIENT, client), 81, "S");
    }
    let others_full = |bench: &Bench, from: u32| {
        for n in from..from + 10_000 {
            // Some flood with what never makes room.
            if n % 4 == 0 {
                let client = (CLIENT, 2000 + u16::try_from(n / 4).unwrap());
                bench.send(CLIENT_SIDE, &tcp(client, (VIP, 80), "S", b""));
                bench.send(SERVER_SIDE, &tcp((RS1, 80), client, "SA", b""));
                bench.send(CLIENT_SIDE, &tcp(client, (VIP, 80), "A", b""));
            }
            bench.send(CLIENT_SIDE, &tcp((stranger(n), 1000), (VIP, 80), "S", b""));
        }
    };
    bench.advance(Duration::from_secs(2));
    others_full(&bench, 0);
    assert_eq!(entries(&bench, 81), 100, "half open, and nobody throws them out");
    assert!(entries(&bench, 80) >= LIMIT - 3 * share, "the flood has what is left");
    assert!(entries(&bench, 80) <= LIMIT - 3 * share + 100);
    for port in [81, 82, 83] {
        for client in 5000..5000 + u16::try_from(share).unwrap() {
            says(&bench, (CLIENT, client), port, "S");
        }
        assert!(entries(&bench, port) >= share, "{port}");
    }
    assert!(bench.director.status().connections <= LIMIT);
    // What is not used any more is everybody's.
    bench.advance(Duration::from_secs(70));
    for port in [81, 82, 83] {
        bench.apply(Change::RemoveService(ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), port))));
    }
    bench.advance(Duration::from_secs(4));
    for n in 0..20_000 {
        bench.send(CLIENT_SIDE, &tcp((stranger(n), 1000), (VIP, 80), "S", b""));
    }
    assert_eq!(entries(&bench, 80), LIMIT);
}

#[test]
fn a_service_of_its_own_share_makes_room_for_itself() {
    let bench = bench();
    for port in [80, 81] {
        tcp_service(&bench, port, Forwarding::Nat, None);
    }
    assert_eq!(bench.load(SERVER), (0, 0));
    for n in 0..10_000 {
        says(&bench, (stranger(n), 1000), 80 + u16::try_from(n % 2).unwrap(), "S");
    }
    let (one, other) = (entries(&bench, 80), entries(&bench, 81));
    assert_eq!(one + other, LIMIT);
    assert!(one.abs_diff(other) < LIMIT / 4, "{one} and {other}");
}

#[test]
fn memory_of_connections_that_are_gone_is_given_back() {
    const MANY: u32 = 60_000;
    let mut bench = Bench::with_limits(Limits { connections: 100_000, ..Limits::default() });
    tcp_service(&bench, 80, Forwarding::Nat, None);
    let empty = bench.director.table_bytes();
    assert!(empty <= Director::TABLE_BYTES_WHEN_EMPTY);
    for _ in 0..2 {
        (0..MANY).for_each(|n| says(&bench, (stranger(n), 1000), 80, "S"));
        for client in 1000..1060 {
            establish(&bench, client, 80);
        }
        let full = bench.director.table_bytes();
        assert!(full > MANY as usize * 128, "{full}");
        // A flood that nobody answers is over after a minute, and who stays keeps little more than his own.
        bench.advance(Duration::from_secs(120));
        assert_eq!(bench.director.status().connections, 60);
        let left = bench.director.table_bytes();
        assert!(left < full / 3, "{left} of {full}");
        bench.advance(Duration::from_secs(900));
        assert_eq!(bench.director.status().connections, 0);
        let left = bench.director.table_bytes();
        assert!(left <= Director::TABLE_BYTES_WHEN_EMPTY, "{left}, and {empty} before");
    }
}
