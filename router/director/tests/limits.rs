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
    assert_eq!(status.evicted, 30_000 + 50 - 100);
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
    establish(&bench, 3);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 3), (VIP, 80), "FA", b""));
    bench.refused(CLIENT_SIDE, &tcp((CLIENT, 4), (VIP, 80), "S", b""), DropReason::ConnectionLimit);
    assert_eq!(connections(&bench).iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(bench.director.entries_evicted(), 0);
    bench.advance(Duration::from_secs(301));
    syn(&bench, 4);
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
