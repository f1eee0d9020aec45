//! `drop_entry`: what a flood leaves behind goes, what people use stays.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use common::*;
use uvs_director::Duration;
use uvs_director::spec::*;

/// Long enough for every entry to have been looked at.
const ROUND: Duration = Duration::from_secs(33);

fn bench(drop_entry: u8, limits: Limits) -> Bench {
    let bench = Bench::with_limits(limits);
    bench.apply(Change::SetOptions(Options { drop_entry, ..Options::default() }));
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    bench
}

fn flood(bench: &Bench, ports: std::ops::Range<u16>) {
    for port in ports {
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b""));
    }
}

/// An established connection with so many packets from the client.
fn established(bench: &Bench, port: u16, packets: usize) {
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b""));
    bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, port), "SA", b""));
    for _ in 1..packets {
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "A", b""));
    }
}

fn count(bench: &Bench, state: &str) -> usize {
    bench.connections().iter().filter(|c| c.state == state).count()
}

#[test]
fn half_open_connections_go_within_a_round_and_others_stay() {
    let mut bench = bench(3, Limits::default());
    flood(&bench, 1000..1200);
    established(&bench, 900, 2);
    established(&bench, 901, 20);
    bench.pass(CLIENT_SIDE, &udp((CLIENT, 900), (VIP, 53), b"?"));
    bench.advance(Duration::from_secs(2));
    let left = count(&bench, "SYN_RECV");
    assert!((150..200).contains(&left), "a thirty-second part each second, not all at once: {left} left");
    bench.advance(ROUND);
    assert_eq!(count(&bench, "SYN_RECV"), 0);
    assert_eq!((count(&bench, "ESTABLISHED"), count(&bench, "UDP")), (2, 1), "none is silent for a minute");
    assert_eq!(bench.director.entries_dropped(), 200);
    assert_eq!(bench.load("192.168.10.11:80"), (2, 0), "the destination counts what is there");
}

#[test]
fn the_silent_go_by_how_much_they_said() {
    let mut bench = bench(3, Limits::default());
    for port in 0..32 {
        established(&bench, 1000 + port, 2);
        established(&bench, 2000 + port, 8);
        established(&bench, 3000 + port, 9);
        bench.pass(CLIENT_SIDE, &udp((CLIENT, 4000 + port), (VIP, 53), b"?"));
    }
    bench.advance(Duration::from_secs(59));
    assert_eq!(bench.connections().len(), 128, "a minute is theirs");
    // Every entry is looked at once.
    bench.advance(Duration::from_secs(32));
    let left = |range: std::ops::Range<u16>| {
        bench.connections().iter().filter(|c| range.contains(&c.client.port())).count()
    };
    assert_eq!(left(4000..5000), 0, "one packet: all go");
    assert_eq!(left(1000..2000), 16, "two: every other");
    assert_eq!(left(2000..3000), 28, "eight: every eighth");
    assert_eq!(left(3000..4000), 32, "more than eight: none");
}

#[test]
fn nothing_goes_while_it_is_off_or_there_is_room() {
    let limits = Limits { connections: 800, ..Limits::default() };
    for (drop_entry, flooded, goes) in [(0, 750, false), (1, 500, false), (1, 750, true), (3, 10, true)] {
        let mut bench = bench(drop_entry, limits);
        flood(&bench, 1000..1000 + flooded);
        bench.advance(ROUND);
        assert_eq!(bench.director.entries_dropped() > 0, goes, "drop_entry {drop_entry}, {flooded} entries");
        if drop_entry == 1 && goes {
            assert!(bench.connections().len() > 500, "only until there is room again");
        }
        bench.apply(Change::SetOptions(Options::default()));
        let before = bench.director.entries_dropped();
        flood(&bench, 5000..5010);
        bench.advance(ROUND);
        assert_eq!(bench.director.entries_dropped(), before, "switched off again");
    }
}

#[test]
fn templates_stay_while_they_place_connections_or_once_one_was_established() {
    let mut bench = Bench::new();
    bench.apply(Change::SetOptions(Options { drop_entry: 3, ..Options::default() }));
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    let persistence = Persistence { timeout: Duration::from_secs(600), prefix_len: 32, engine: None };
    let spec =
        ServiceSpec { persistence: Some(persistence), ..ServiceSpec::new(key, SchedulerSpec::named("wlc")) };
    bench.apply(Change::EditService(spec));
    flood(&bench, 1000..1001);
    assert_eq!(bench.connections().len(), 2);
    bench.advance(ROUND + ROUND);
    assert_eq!(bench.connections().len(), 0, "the half-open connection, then its template");

    established(&bench, 1000, 20);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1000), (VIP, 80), "F", b""));
    bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1000), "F", b""));
    bench.advance(Duration::from_secs(300));
    let left = bench.connections();
    assert_eq!(left.len(), 1);
    assert!(left[0].template && left[0].state == "ASSURED");
}
