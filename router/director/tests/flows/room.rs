//! Whom a cache has no room for, and who makes room.

use crate::common::*;
use crate::fake::*;
use uvs_director::flow_cache::{NotPlaced, Progress};
use uvs_director::spec::*;
use uvs_director::{Duration, Instant, Outbox};

#[test]
fn a_cache_without_room_is_asked_again_and_one_elsewhere_is_not() {
    for (answer, at_once, want) in [(NotPlaced::Full, 2, 4), (NotPlaced::Elsewhere, 1, 1)] {
        let (mut bench, fake) = bench();
        fake.inner().answer = Some(answer);
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
        for flags in ["S", "A", "A"] {
            bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, flags, b""));
        }
        assert_eq!(
            fake.inner().times,
            at_once,
            "{answer:?}: as an embryonic connection, then as one that is established"
        );
        for _ in 0..2 {
            bench.advance(Duration::from_millis(25));
            for _ in 0..10 {
                bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
            }
        }
        assert_eq!(fake.inner().times, want, "{answer:?}: now and then");
    }
}

#[test]
fn what_had_to_leave_its_place_in_the_cache_has_flows_placed_anew() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let more = || {
        bench.director.catch_up(bench.now, &mut Outbox::new());
        bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
        fake.inner().times
    };
    assert_eq!(more(), 1);
    fake.inner().displaced = 1;
    assert_eq!((more(), more()), (2, 2), "once for each time");
    fake.inner().displaced = 3;
    assert_eq!((more(), more()), (3, 3));
    assert!(fake.inner().withdrawn.is_empty(), "others go on to pass");
}

#[test]
fn what_was_placed_before_leaves_when_it_may_not_be_placed_again() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    assert_eq!(fake.len(), 1);
    fake.inner().answer = Some(NotPlaced::Elsewhere);
    bench.director.links_moved();
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "A", b""));
    assert_eq!(fake.len(), 0, "nobody else would take it out");
}

#[test]
fn neighbours_of_ways_are_looked_after() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    bench.pass(CLIENT_SIDE, &tcp(CLIENT_AT, SERVICE, "S", b""));
    let moved = MacAddr([2, 0, 0, 0, 9, 9]);
    bench.apply(Change::SetNeighbor { port: SERVER_SIDE, addr: RS1.into(), mac: moved });
    bench.director.catch_up(bench.now, &mut Outbox::new());
    assert_eq!(fake.inner().refreshed, [Some(moved)]);
}

#[test]
fn ways_are_tended_some_at_a_time_and_the_timer_goes_on_at_once() {
    let (mut bench, fake) = bench();
    fake.inner().next_hops = 150;
    bench.now = bench.now + Duration::from_secs(2);
    let mut out = Outbox::new();
    bench.director.catch_up(bench.now, &mut out);
    assert_eq!(fake.inner().slices, [0]);
    assert_eq!(bench.director.poll_at(), Some(Instant::ZERO), "there are more");
    bench.director.catch_up(bench.now, &mut out);
    bench.director.handle_timeout(bench.now, &mut out);
    bench.director.catch_up(bench.now, &mut out);
    assert_eq!(fake.inner().slices, [0, 64, 128], "and then no more for a second");
    assert_ne!(bench.director.poll_at(), Some(Instant::ZERO));
}

#[test]
fn who_is_idle_leaves_a_full_cache_for_who_is_not() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    fake.inner().room = Some(2);
    let open = |port: u16| {
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, "S", b""));
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, "A", b""));
    };
    let has = |port: u16| fake.inner().placed.contains_key(&key((CLIENT, port), SERVICE));
    open(40_000);
    open(40_001);
    // Of those that are there a packet has just passed.
    fake.inner().seen = Some(bench.now);
    open(40_002);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", b"x"));
    assert_eq!((has(40_000), has(40_001), has(40_002)), (true, true, false));
    let mut bench = bench;
    bench.advance(Duration::from_secs(2));
    let more = |payload| bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", payload));
    // The first makes room, the second takes it.
    more(b"xx");
    assert_eq!(fake.len(), 1);
    more(b"xxx");
    assert_eq!((has(40_002), fake.len()), (true, 2));
}

#[test]
fn who_leaves_the_cache_has_the_time_that_its_last_packet_there_gave_it() {
    let (mut bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    fake.inner().room = Some(1);
    let open = |bench: &Bench, port: u16| {
        for flags in ["S", "A"] {
            bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, flags, b""));
        }
    };
    open(&bench, 40_000);
    bench.advance(Duration::from_secs(100));
    fake.inner().seen = Some(bench.now);
    bench.advance(Duration::from_secs(2));
    open(&bench, 40_001);
    assert_eq!(fake.len(), 0, "the other one has made room");
    let left = bench.connections().iter().find(|it| it.client.port() == 40_000).unwrap().expires_in;
    assert!(left > Duration::from_secs(890), "{left:?} of 900 s, 2 s after its last packet");
}

#[test]
fn a_full_cache_is_asked_again_when_room_was_made_and_by_those_it_still_takes() {
    let (bench, fake) = bench();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let open = |port: u16| bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), SERVICE, "S", b""));
    open(40_000);
    fake.inner().answer = Some(NotPlaced::Full);
    // Nobody is idle.
    fake.inner().seen = Some(bench.now);
    open(40_001);
    open(40_002);
    assert_eq!(fake.inner().times, 2, "one was placed, one refused, one not tried");
    // What is established has more room than what is not.
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_001), SERVICE, "A", b""));
    assert_eq!(fake.inner().times, 3);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", b""));
    assert_eq!(fake.inner().times, 3, "now that is full, too");
    fake.inner().answer = None;
    // A connection that is over makes room for the next one between the same ends.
    passed(&bench, &fake, false, ACK, Duration::from_millis(1));
    passed(&bench, &fake, false, RST, Duration::from_millis(1));
    fake.inner().progress = Progress { has_passed: true, is_shut: true, ticket: 1 };
    bench.pass(CLIENT_SIDE, &numbered(&tcp(CLIENT_AT, SERVICE, "S", b""), 1));
    assert_eq!(fake.inner().times, 4);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40_002), SERVICE, "A", b""));
    assert_eq!(fake.inner().times, 5);
}
