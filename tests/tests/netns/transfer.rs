//! The three methods on real TCP and UDP.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use uvs_lab::topology::Method;

use crate::peer::{Talk, ask_datagram, stream_both_ways};
use crate::stage::{Stage, eventually, turn};

const LENGTH: u64 = 10 << 20;
const CONNECTIONS: usize = 200;

#[test]
fn ten_mebibytes_both_ways_through_nat() {
    ten_mebibytes_both_ways(Method::Nat);
}

#[test]
fn ten_mebibytes_both_ways_through_dr() {
    ten_mebibytes_both_ways(Method::Direct);
}

#[test]
fn ten_mebibytes_both_ways_through_tun() {
    ten_mebibytes_both_ways(Method::Tunnel);
}

#[test]
fn two_hundred_connections_at_once_through_nat() {
    two_hundred_connections_at_once(Method::Nat);
}

#[test]
fn two_hundred_connections_at_once_through_dr() {
    two_hundred_connections_at_once(Method::Direct);
}

#[test]
fn two_hundred_connections_at_once_through_tun() {
    two_hundred_connections_at_once(Method::Tunnel);
}

#[test]
fn datagrams_of_all_sizes_through_nat() {
    datagrams_of_all_sizes(Method::Nat);
}

#[test]
fn datagrams_of_all_sizes_through_dr() {
    datagrams_of_all_sizes(Method::Direct);
}

#[test]
fn datagrams_of_all_sizes_through_tun() {
    datagrams_of_all_sizes(Method::Tunnel);
}

fn ten_mebibytes_both_ways(method: Method) {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(method);
    let service = stage.topology.service;
    let client = stage.client().run(|| stream_both_ways(service, 7, LENGTH, || ()).unwrap()).unwrap();
    let server = stage.server_of(client);
    let streams = eventually("the server has compared all", || {
        Some(stage.peers[server].streams()).filter(|streams| !streams.is_empty())
    });
    assert_eq!(streams, [Ok(())], "the server compares what it gets");
    assert!(
        stage.director().metric("uvs_bytes_total", &[("direction", "in")]) > LENGTH,
        "what clients send passes the director"
    );
    let out = stage.director().metric("uvs_bytes_total", &[("direction", "out")]);
    match method {
        Method::Nat => assert!(out > LENGTH, "answers pass the director: {out} bytes"),
        // What it says itself (a tunnel needs room: fragmentation needed) is counted, as the kernel does.
        Method::Direct | Method::Tunnel => assert!(out < LENGTH / 100, "answers do not pass it: {out} bytes"),
    }
}

fn two_hundred_connections_at_once(method: Method) {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(method);
    let (service, cip) = (stage.topology.service, IpAddr::from(stage.topology.clients[0].address));
    let mut talks =
        stage.client().run(|| at_once((0..CONNECTIONS).collect(), |_| Talk::open(service).unwrap())).unwrap();
    let active = |stage: &mut Stage| {
        stage
            .director()
            .metric("uvs_destination_active_connections", &[("service", &format!("tcp {service}"))])
    };
    eventually("the director counts all of them as active", || {
        (active(&mut stage) == CONNECTIONS as u64).then_some(())
    });
    // Each has bytes of its own, of its own length, so that mixing any two up shows.
    talks = at_once(talks.into_iter().enumerate().collect(), |(number, mut talk)| {
        let bytes: Vec<u8> = number.to_be_bytes().repeat(1 + number);
        for _ in 0..3 {
            talk.say(&bytes).unwrap();
        }
        talk
    });
    let shares = stage.shares();
    assert_eq!(shares.iter().sum::<usize>(), CONNECTIONS);
    assert!(shares.iter().all(|share| [66, 67].contains(share)), "rr gives equal shares: {shares:?}");
    for talk in &talks {
        assert_eq!(talk.client.ip(), cip);
        let seen_by = |name: &str| {
            stage.peers[name.strip_prefix("rs").unwrap().parse::<usize>().unwrap() - 1].clients()
        };
        assert!(seen_by(&talk.server).contains(&talk.client), "{} sees the client itself", talk.server);
    }
    drop(talks);
    eventually("closed connections are not active", || (active(&mut stage) == 0).then_some(()));
}

/// Does `work` on each item, all on threads of their own, and in the end all at once.
fn at_once<T: Send, U: Send>(items: Vec<T>, work: impl Fn(T) -> U + Sync) -> Vec<U> {
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    })
}

fn datagrams_of_all_sizes(method: Method) {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(method);
    let service = stage.topology.service;
    // What fits into 1500 bytes with an IP and a UDP header, and with a second IP header in a tunnel.
    let largest = if method == Method::Tunnel { 1452 } else { 1472 };
    let sizes = [0, 1, 2, 17, 100, 511, 1024, largest - 1, largest];
    let clients: Vec<SocketAddr> = stage
        .client()
        .run(|| sizes.iter().map(|&size| ask_datagram(service, size).unwrap()).collect())
        .unwrap();
    let seen: Vec<Vec<SocketAddr>> = stage.peers.iter().map(|peer| peer.datagrams()).collect();
    // One after the other they went from one server to the next, round and round.
    let at = |client| {
        seen.iter().position(|clients| clients.contains(client)).expect("a server sees the client itself")
    };
    let order: Vec<usize> = clients.iter().map(at).collect();
    assert_eq!(order[..3].iter().collect::<BTreeSet<_>>().len(), 3, "rr leaves nobody out: {order:?}");
    assert_eq!(order[3..], order[..order.len() - 3], "rr keeps its order");
    assert!(seen.iter().all(|clients| clients.len() == sizes.len() / 3), "each request came once: {seen:?}");
    let sent = stage
        .director()
        .metric("uvs_service_packets_total", &[("service", &format!("udp {service}")), ("direction", "in")]);
    assert_eq!(sent, sizes.len() as u64);
}
