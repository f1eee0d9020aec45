//! What happens at the limit of the connection table.

mod common;

use common::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration};

const SERVER: &str = "192.168.10.11:80";

fn bench(connections: usize, evict: Evict) -> Bench {
    let bench = Bench::with_limits(Limits { connections, evict, ..Limits::default() });
    bench.service(Protocol::Tcp, Forwarding::Nat, &[SERVER]);
    bench
}

fn syn(bench: &Bench, port: u16) {
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b""));
}

fn establish(bench: &Bench, port: u16) {
    syn(bench, port);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "A", b""));
}

/// Client ports and states, sorted.
fn connections(bench: &Bench) -> Vec<(u16, &'static str)> {
    let mut all: Vec<_> =
        bench.director.connections(bench.now).iter().map(|c| (c.client.port(), c.state)).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_flood_of_syns_keeps_nobody_out_and_throws_nobody_out() {
    let bench = bench(100, Evict::Embryonic);
    for port in 101..=120 {
        establish(&bench, port);
    }
    for port in 1000..31_000 {
        syn(&bench, port);
        if port % 1000 == 0 {
            let established = 121 + (port - 1000) / 1000;
            establish(&bench, established);
            bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, established), "A", b""));
        }
    }
    for port in 101..=150 {
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "A", b""));
        bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, port), "A", b""));
    }
    let status = bench.director.status();
    assert_eq!(status.connections, 100);
    let established = connections(&bench).iter().filter(|(_, state)| *state == "ESTABLISHED").count();
    assert_eq!(established, 50);
    // Each SYN but those that found room evicted one.
    assert_eq!(bench.director.entries_evicted(), 30_000 + 50 - 100);
    assert_eq!(bench.load(SERVER), (100, 0), "what was evicted counts at no destination");
    let limit = status.drops.iter().find(|(reason, _)| *reason == DropReason::ConnectionLimit);
    assert_eq!(limit.map(|(_, count)| *count), Some(0));
}

#[test]
fn what_is_not_embryonic_stays() {
    let mut bench = bench(3, Evict::Embryonic);
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    establish(&bench, 1);
    bench.pass(CLIENT_SIDE, &udp((CLIENT, 2), (VIP, 53), b"?"));
    bench.pass(SERVER_SIDE, &udp((RS1, 53), (CLIENT, 2), b"!"));
    establish(&bench, 3);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 3), (VIP, 80), "FA", b""));
    bench.refused(CLIENT_SIDE, &tcp((CLIENT, 4), (VIP, 80), "S", b""), DropReason::ConnectionLimit);
    assert_eq!(connections(&bench).iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(bench.director.entries_evicted(), 0);
    bench.advance(Duration::from_secs(301));
    syn(&bench, 4);
}

#[test]
fn datagrams_that_nobody_answered_make_room_oldest_first() {
    let bench = bench(100, Evict::Embryonic);
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    let ask = |port| bench.pass(CLIENT_SIDE, &udp((CLIENT, port), (VIP, 53), b"?"));
    for port in 101..=150 {
        ask(port);
        bench.pass(SERVER_SIDE, &udp((RS1, 53), (CLIENT, port), b"!"));
    }
    (1000..4000).for_each(|port| drop(ask(port)));
    let left = connections(&bench);
    assert_eq!(left.len(), 100);
    assert!((101..=150).all(|port| left.contains(&(port, "UDP"))), "what was answered stays: {left:?}");
    assert_eq!(bench.director.entries_evicted(), 3000 - 50);
    // One more question does not make an answered one new again.
    ask(101);
    (4000..4100).for_each(|port| drop(ask(port)));
    assert!(connections(&bench).contains(&(101, "UDP")));
}

/// Without NAT answers do not pass the director, so that it cannot tell.
#[test]
fn datagrams_that_are_not_translated_stay() {
    let bench = bench(2, Evict::Embryonic);
    bench.service(Protocol::Udp, Forwarding::Direct, &["192.168.10.11:53"]);
    for port in [1, 2] {
        bench.pass(CLIENT_SIDE, &udp((CLIENT, port), (VIP, 53), b"?"));
    }
    bench.refused(CLIENT_SIDE, &udp((CLIENT, 3), (VIP, 53), b"?"), DropReason::ConnectionLimit);
}

/// The totals are kept, the listing is read entry by entry.
#[test]
fn totals_by_state_are_those_of_the_listing() {
    let mut bench = bench(100, Evict::Embryonic);
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    let agree = |bench: &Bench, when: &str| {
        let mut listed = std::collections::BTreeMap::new();
        for connection in bench.director.connections(bench.now) {
            *listed.entry((format!("{:?}", connection.protocol), connection.state)).or_insert(0) += 1;
        }
        let status = bench.director.status();
        let told: std::collections::BTreeMap<_, _> = status
            .connections_by_state
            .iter()
            .map(|&(p, state, n)| ((format!("Transport({p:?})"), state), n))
            .collect();
        assert_eq!(told, listed, "{when}");
        assert_eq!(told.values().sum::<usize>(), status.connections, "{when}");
    };
    agree(&bench, "empty");
    for port in 1000..1080 {
        let tcp = |flags: &str| tcp((CLIENT, port), (VIP, 80), flags, b"");
        bench.pass(CLIENT_SIDE, &tcp("S"));
        if port % 2 == 0 {
            bench.pass(CLIENT_SIDE, &tcp("A"));
        }
        if port % 4 == 0 {
            bench.pass(CLIENT_SIDE, &tcp("FA"));
        }
        if port % 8 == 0 {
            bench.pass(SERVER_SIDE, &common::tcp((RS1, 80), (CLIENT, port), "R", b""));
        }
        bench.send(CLIENT_SIDE, &udp((CLIENT, port), (VIP, 53), b"?"));
        if port % 3 == 0 {
            bench.send(SERVER_SIDE, &udp((RS1, 53), (CLIENT, port), b"!"));
        }
        agree(&bench, &format!("after port {port}"));
    }
    for seconds in [11, 60, 300, 1000] {
        bench.advance(Duration::from_secs(seconds));
        agree(&bench, &format!("{seconds} s later"));
    }
    assert_eq!(bench.director.status().connections, 0);
}

#[test]
fn a_handshake_that_is_done_takes_a_connection_out_of_danger() {
    let bench = bench(2, Evict::Embryonic);
    syn(&bench, 1);
    syn(&bench, 2);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1), (VIP, 80), "A", b""));
    syn(&bench, 3);
    assert_eq!(connections(&bench), [(1, "ESTABLISHED"), (3, "SYN_RECV")]);
    // As new as its last handshake: a connection that starts again is embryonic again.
    bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1), "R", b""));
    syn(&bench, 1);
    syn(&bench, 4);
    syn(&bench, 5);
    assert_eq!(connections(&bench).len(), 2);
    assert!(connections(&bench).iter().all(|(_, state)| *state == "SYN_RECV"));
}

#[test]
fn without_eviction_what_is_new_is_refused() {
    let bench = bench(2, Evict::None);
    syn(&bench, 1);
    syn(&bench, 2);
    bench.refused(CLIENT_SIDE, &tcp((CLIENT, 3), (VIP, 80), "S", b""), DropReason::ConnectionLimit);
    assert_eq!(connections(&bench), [(1, "SYN_RECV"), (2, "SYN_RECV")]);
}
