//! The neighbour table under pressure: it makes room, and frames wait within bounds.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::Ipv4Addr;

use common::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration, Verdict};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 1);

/// One link with many clients, one with servers.
fn bench(limits: Limits) -> Bench {
    let bench = Bench::bare(limits);
    let interface = |port, mac, address: &str| InterfaceSpec {
        port,
        name: format!("eth{}", port.0),
        link: Link::Ethernet(MacAddr(mac)),
        mtu: 1500,
        addresses: vec![address.parse().unwrap()],
        source_check: SourceCheck::Loose,
    };
    let mut clients = interface(CLIENT_SIDE, C0_MAC, "10.0.0.1/8");
    clients.addresses.push("10.0.0.100/32".parse().unwrap());
    let interfaces = vec![clients, interface(SERVER_SIDE, R0_MAC, "192.168.10.1/16")];
    bench.apply(Change::SetNetwork { interfaces, routes: vec![] });
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    bench
}

fn client(n: u16) -> (Ipv4Addr, [u8; 6]) {
    let [hi, lo] = n.to_be_bytes();
    (Ipv4Addr::new(10, 9, hi, lo), [2, 0, 9, 0, hi, lo])
}

fn asks(addr: Ipv4Addr, mac: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    arp(1, (mac, addr), ([0; 6], target), [0xff; 6])
}

fn answers(addr: Ipv4Addr, mac: [u8; 6], to: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    arp(2, (mac, addr), to, to.0)
}

/// The server answers whenever it is asked for.
fn server_answers(bench: &Bench, sent: &Sent) -> Sent {
    let question = asks(GATEWAY, R0_MAC, RS1);
    match sent.iter().any(|(port, frame)| *port == SERVER_SIDE && frame[..42] == question[..]) {
        true => bench.send(SERVER_SIDE, &answers(RS1, RS1_MAC, (R0_MAC, GATEWAY))).1,
        false => Sent::new(),
    }
}

/// Whether a client gets through and its answer comes back to its own MAC address.
fn is_served(bench: &Bench, n: u16, port: u16) -> bool {
    let (addr, mac) = client(n);
    let (_, mut sent) = bench.send(CLIENT_SIDE, &tcp((addr, port), (VIP, 80), "S", b""));
    sent.extend(server_answers(bench, &sent));
    if !sent.iter().any(|(port, frame)| *port == SERVER_SIDE && frame[12..14] == [8, 0]) {
        return false;
    }
    let (_, mut sent) = bench.send(SERVER_SIDE, &tcp((RS1, 80), (addr, port), "SA", b""));
    if sent.iter().any(|(port, frame)| *port == CLIENT_SIDE && frame[12..14] == [8, 6]) {
        sent.extend(bench.send(CLIENT_SIDE, &answers(addr, mac, (C0_MAC, DIP))).1);
    }
    sent.iter().any(|(port, frame)| *port == CLIENT_SIDE && frame[12..14] == [8, 0] && frame[..6] == mac)
}

fn knows(bench: &Bench, addr: Ipv4Addr) -> bool {
    bench.director.neighbors().iter().any(|neighbor| neighbor.addr == addr && neighbor.mac.is_some())
}

#[test]
fn strangers_that_ask_for_us_lock_nobody_out() {
    let bench = bench(Limits { neighbors: 1024, ..Limits::default() });
    assert!(is_served(&bench, 1, 1000));
    for n in 100..1200 {
        let (addr, mac) = client(n);
        bench.send(CLIENT_SIDE, &asks(addr, mac, DIP));
    }
    assert!(is_served(&bench, 2, 1000), "a new client");
    assert!(knows(&bench, RS1) && knows(&bench, client(1).0), "what is in use stays");
    let status = bench.director.status();
    assert_eq!((status.neighbors, status.neighbors_evicted), (1024, 1100 + 3 - 1024));
    assert_eq!(bench.dropped(DropReason::NeighborLimit), 0);
}

#[test]
fn more_clients_than_entries_are_all_served() {
    let mut bench = bench(Limits { neighbors: 1024, ..Limits::default() });
    for round in 0..3 {
        let served = (0..1500).filter(|n| is_served(&bench, *n, 1000 + round)).count();
        assert_eq!(served, 1500, "in round {round}");
        bench.advance(Duration::from_millis(300));
    }
    assert_eq!(bench.director.status().neighbors, 1024);
    assert!(knows(&bench, RS1), "the server has never left");
}

/// RFC 6583: a scan of a connected subnet.
#[test]
fn a_scan_takes_a_quarter_of_the_table_and_pushes_no_server_out() {
    let mut bench = bench(Limits { neighbors: 64, ..Limits::default() });
    for n in 0..40 {
        assert!(is_served(&bench, n, 1000));
    }
    let asked_before = bench.dropped(DropReason::NeighborLimit);
    for n in 0..3000_u16 {
        let [hi, lo] = n.to_be_bytes();
        // From the servers' side, which may talk to anybody.
        let target = Ipv4Addr::new(10, 77, hi, lo);
        let (_, sent) = bench.send(SERVER_SIDE, &udp((RS1, 9), (target, 9), b"scan"));
        assert_eq!(sent, [(CLIENT_SIDE, asks(DIP, C0_MAC, target))], "it is asked for all the same");
        assert!(bench.director.status().neighbors <= 64);
    }
    assert!(bench.dropped(DropReason::NeighborLimit) > asked_before, "what waited for them is counted");
    assert!(knows(&bench, RS1));
    assert_eq!(
        (0..40).filter(|n| knows(&bench, client(*n).0)).count(),
        40,
        "nor clients, while there is room"
    );
    assert!(is_served(&bench, 200, 1000), "and a new one is served while it lasts");
    bench.advance(Duration::from_secs(10));
    assert_eq!(bench.director.status().neighbors, 42, "nobody is asked for ever");
}

#[test]
fn a_burst_of_newcomers_finds_a_full_table_and_is_served() {
    let bench = bench(Limits { neighbors: 64, ..Limits::default() });
    for n in 0..100 {
        assert!(is_served(&bench, n, 1000));
    }
    // Ten at once, before the first has answered.
    let newcomers = 500..510;
    for n in newcomers.clone() {
        bench.send(CLIENT_SIDE, &tcp((client(n).0, 1), (VIP, 80), "S", b""));
        bench.send(SERVER_SIDE, &tcp((RS1, 80), (client(n).0, 1), "SA", b""));
    }
    for n in newcomers {
        let (addr, mac) = client(n);
        let (_, sent) = bench.send(CLIENT_SIDE, &answers(addr, mac, (C0_MAC, DIP)));
        assert_eq!(sent.len(), 1, "the answer that waited for {addr}");
    }
}

#[test]
fn a_server_that_was_given_up_comes_back_into_a_full_table() {
    let mut bench = bench(Limits { neighbors: 16, ..Limits::default() });
    assert!(is_served(&bench, 1, 1000));
    bench.advance(Duration::from_secs(31));
    for _ in 0..5 {
        bench.send(CLIENT_SIDE, &tcp((client(1).0, 1000), (VIP, 80), "A", b""));
        bench.advance(Duration::from_secs(1));
    }
    bench.advance(Duration::from_secs(5));
    assert!(!knows(&bench, RS1), "three questions in vain");
    for n in 100..200 {
        let (addr, mac) = client(n);
        bench.send(CLIENT_SIDE, &asks(addr, mac, DIP));
    }
    assert!(is_served(&bench, 1, 1001));
}

#[test]
fn an_answer_that_nobody_asked_for_creates_nothing() {
    let bench = bench(Limits::default());
    bench.send(SERVER_SIDE, &answers(RS1, RS1_MAC, (R0_MAC, GATEWAY)));
    bench.send(SERVER_SIDE, &arp(2, (RS1_MAC, RS1), (RS1_MAC, RS1), [0xff; 6]));
    assert_eq!(bench.director.neighbors().len(), 0);
    bench.send(SERVER_SIDE, &asks(RS1, RS1_MAC, GATEWAY));
    assert_eq!(bench.director.neighbors().len(), 1, "who asks for us is about to talk to us");
}

/// As in the kernel, whose `unres_qlen_bytes` are as many.
#[test]
fn a_hundred_datagrams_at_once_and_the_largest_one_wait_for_a_server() {
    let bench = bench(Limits::default());
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    for n in 0..100_u8 {
        let (verdict, _) = bench.send(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), &[n; 400]));
        assert_eq!(verdict, Verdict::Consume);
    }
    let (_, sent) = bench.send(SERVER_SIDE, &answers(RS1, RS1_MAC, (R0_MAC, GATEWAY)));
    let first: Vec<u8> = sent.iter().map(|(_, frame)| read(frame).payload[0]).collect();
    assert_eq!(first, (0..100).collect::<Vec<u8>>());

    let bench = self::bench(Limits::default());
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    // One datagram of 60 KB, as a device with offloads hands it over: it leaves in fragments.
    let mut big = udp((CLIENT, 4000), (VIP, 53), &vec![7; 61_000]);
    big[20] &= !0x40;
    uvs_wire::ipv4::fill_checksum(&mut big[14..34]);
    assert_eq!(bench.send(CLIENT_SIDE, &big).0, Verdict::Consume);
    let (_, sent) = bench.send(SERVER_SIDE, &answers(RS1, RS1_MAC, (R0_MAC, GATEWAY)));
    let bytes: usize = sent.iter().map(|(_, frame)| frame.len() - 14 - 20).sum();
    assert_eq!((sent.len(), bytes), (42, 61_008));
}

#[test]
fn the_oldest_go_where_too_much_waits() {
    let bench = bench(Limits { neighbor_queue_bytes: 3000, ..Limits::default() });
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    for n in 0..10 {
        bench.send(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), &[n; 700]));
    }
    assert_eq!(bench.dropped(DropReason::NeighborQueueFull), 7);
    let (_, sent) = bench.send(SERVER_SIDE, &answers(RS1, RS1_MAC, (R0_MAC, GATEWAY)));
    let left: Vec<u8> = sent.iter().map(|(_, frame)| read(frame).payload[0]).collect();
    assert_eq!(left, [7, 8, 9]);
}

#[test]
fn what_waits_is_bounded_for_all_neighbours_together_and_each_has_room() {
    let mut bench =
        bench(Limits { neighbor_queue_bytes: 20_000, neighbor_queues_bytes: 60_000, ..Limits::default() });
    let target = |n: u8| Ipv4Addr::new(10, 77, 0, n);
    for _ in 0..20 {
        for n in 0..20 {
            bench.send(SERVER_SIDE, &udp((RS1, 9), (target(n), 9), &[n; 600]));
        }
    }
    let mut bytes = 0;
    for n in 0..20 {
        let (_, sent) = bench.send(CLIENT_SIDE, &answers(target(n), client(n.into()).1, (C0_MAC, DIP)));
        assert!(!sent.is_empty(), "something waits for each");
        bytes += sent.iter().map(|(_, frame)| frame.len() - 14 + 256).sum::<usize>();
    }
    assert!((30_000..=60_000).contains(&bytes), "{bytes}");
    // What has left makes room again.
    let target = Ipv4Addr::new(10, 78, 0, 1);
    (0..20).for_each(|_| drop(bench.send(SERVER_SIDE, &udp((RS1, 9), (target, 9), &[1; 600]))));
    let (_, sent) = bench.send(CLIENT_SIDE, &answers(target, client(1).1, (C0_MAC, DIP)));
    assert_eq!(sent.len(), 20);
    let before = bench.dropped(DropReason::Unreachable);
    bench.send(SERVER_SIDE, &udp((RS1, 9), (Ipv4Addr::new(10, 78, 0, 2), 9), b""));
    bench.advance(Duration::from_secs(5));
    assert_eq!(bench.dropped(DropReason::Unreachable), before + 1);
}

/// As Linux with its `locktime`.
#[test]
fn another_mac_is_not_believed_right_after_the_first() {
    let mut bench = bench(Limits::default());
    assert!(is_served(&bench, 1, 1000));
    let (addr, mac) = client(1);
    let mac_of = |bench: &Bench| {
        let known = bench.director.neighbors();
        known.iter().find(|neighbor| neighbor.addr == addr).and_then(|neighbor| neighbor.mac)
    };
    let thief = [2, 6, 6, 6, 6, 6];
    bench.advance(Duration::from_millis(999));
    bench.send(CLIENT_SIDE, &answers(addr, thief, (C0_MAC, DIP)));
    bench.send(CLIENT_SIDE, &asks(addr, thief, DIP));
    assert_eq!(mac_of(&bench), Some(MacAddr(mac)));
    // Who contradicts has the one that is known asked.
    bench.advance(Duration::from_millis(1));
    let (_, sent) = bench.send(SERVER_SIDE, &tcp((RS1, 80), (addr, 1000), "A", b""));
    let question = arp(1, (C0_MAC, DIP), ([0; 6], addr), mac);
    assert!(sent.contains(&(CLIENT_SIDE, question)), "{sent:?}");
    bench.send(CLIENT_SIDE, &answers(addr, mac, (C0_MAC, DIP)));
    bench.send(CLIENT_SIDE, &answers(addr, thief, (C0_MAC, DIP)));
    assert_eq!(mac_of(&bench), Some(MacAddr(mac)));
    // A machine that was replaced says so.
    bench.send(CLIENT_SIDE, &asks(addr, thief, addr));
    assert_eq!(mac_of(&bench), Some(MacAddr(thief)), "an announcement");
    bench.advance(Duration::from_secs(1));
    bench.send(CLIENT_SIDE, &asks(addr, mac, DIP));
    assert_eq!(mac_of(&bench), Some(MacAddr(mac)), "after a second");
}

#[test]
fn work_on_many_entries_is_done_in_slices() {
    let mut bench = bench(Limits { neighbors: 8192, ..Limits::default() });
    bench.apply(Change::SetNeighbor { port: SERVER_SIDE, addr: RS1.into(), mac: MacAddr(RS1_MAC) });
    for n in 0..2000_u16 {
        let [hi, lo] = n.to_be_bytes();
        bench.send(SERVER_SIDE, &udp((RS1, 9), (Ipv4Addr::new(10, 77, hi, lo), 9), b""));
    }
    bench.now = bench.now + Duration::from_secs(1);
    let mut out = uvs_director::Outbox::new();
    bench.director.handle_timeout(bench.now, &mut out);
    assert!(out.len() <= 256, "{} questions at once", out.len());
    assert!(bench.director.poll_at().is_some_and(|at| at <= bench.now), "the rest is still due");
    bench.advance(Duration::from_secs(9));
    assert_eq!(bench.director.status().neighbors, 1, "the static one");
    assert_eq!(bench.dropped(DropReason::Unreachable), 2000);
}
