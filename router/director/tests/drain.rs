//! Destinations that drain, and UDP, which has no end at which a flow would leave them; and NAT between neighbours.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use common::*;
use uvs_director::scheduler::{Candidate, Flow, Load, Scheduler, SchedulerFactory};
use uvs_director::spec::*;
use uvs_director::{Duration, Instant};

/// Picks the first destination that takes something.
#[derive(Default)]
struct First(Vec<u32>);

impl Scheduler for First {
    fn update(&mut self, candidates: &[Candidate]) {
        self.0 = candidates.iter().map(|candidate| candidate.weight).collect();
    }
    fn schedule(&mut self, _: &Flow, _: &[(u32, Load)], _: Instant) -> Option<u32> {
        self.0.iter().position(|weight| *weight > 0).map(|at| u32::try_from(at).unwrap())
    }
}

struct Factory;

impl SchedulerFactory for Factory {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        Ok(Box::new(First::default()))
    }
}

struct World {
    bench: Bench,
    key: ServiceKey,
}

impl World {
    fn new(options: Options, persistence: Option<Persistence>) -> Self {
        let bench = Bench::with_schedulers(Limits::default(), Arc::new(Factory));
        bench.apply(Change::SetOptions(options));
        let key = ServiceKey::new(Protocol::Udp, "10.0.0.100:53".parse().unwrap());
        let spec = ServiceSpec { persistence, ..ServiceSpec::new(key, SchedulerSpec::named("first")) };
        bench.apply(Change::AddService(spec));
        let world = Self { bench, key };
        // The one added last comes first.
        for server in [RS2, RS1] {
            world.bench.apply(Change::AddDestination(key, world.spec(server, 1)));
        }
        world
    }

    fn spec(&self, server: Ipv4Addr, weight: u32) -> DestinationSpec {
        let spec = DestinationSpec::new((IpAddr::from(server), 53).into(), Forwarding::Nat);
        DestinationSpec { weight, ..spec }
    }

    fn weigh(&self, server: Ipv4Addr, weight: u32) {
        self.bench.apply(Change::EditDestination(self.key, self.spec(server, weight)));
    }

    /// Where the client's next datagram goes.
    fn asks(&self) -> IpAddr {
        let (_, frame) = self.bench.pass(CLIENT_SIDE, &udp((CLIENT, 5000), (VIP, 53), b"?"));
        read(&frame).to.0
    }
}

#[test]
fn a_flow_leaves_a_destination_that_drains_when_another_is_there() {
    let world = World::new(Options::default(), None);
    assert_eq!(world.asks(), RS1);
    world.weigh(RS1, 0);
    assert_eq!(world.asks(), RS2);
    assert_eq!(world.bench.connections().len(), 1);
    assert_eq!(world.bench.load("192.168.10.11:53"), (0, 0), "it has drained");
    // Both drain: the flow stays where it is rather than nowhere, until one comes back.
    world.weigh(RS2, 0);
    assert_eq!((world.asks(), world.asks()), (RS2.into(), RS2.into()));
    world.weigh(RS1, 1);
    assert_eq!(world.asks(), RS1);
}

#[test]
fn in_compatibility_and_by_persistence_it_stays() {
    let persistence = Persistence { timeout: Duration::from_secs(300), prefix_len: 32, engine: None };
    for (options, persistence) in
        [(Options { compat_ipvs: true, ..Options::default() }, None), (Options::default(), Some(persistence))]
    {
        let world = World::new(options, persistence);
        assert_eq!(world.asks(), RS1);
        world.weigh(RS1, 0);
        assert_eq!(world.asks(), RS1);
    }
}

#[test]
fn nat_between_stations_of_one_subnet_is_counted() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    bench.send(CLIENT_SIDE, &tcp((CLIENT, 1000), (VIP, 80), "S", b""));
    assert_eq!(bench.director.hairpins(), 0);
    for client in [RS1, RS2] {
        bench.send(SERVER_SIDE, &tcp((client, 1000), (VIP, 80), "S", b""));
        bench.send(SERVER_SIDE, &tcp((client, 1000), (VIP, 80), "S", b""));
    }
    assert_eq!(bench.director.status().hairpins, 2, "once for each connection");
    let direct = Bench::new();
    direct.service(Protocol::Tcp, Forwarding::Direct, &["192.168.10.11:80"]);
    direct.send(SERVER_SIDE, &tcp((RS2, 1000), (VIP, 80), "S", b""));
    assert_eq!(direct.director.hairpins(), 0);
}

/// A connection that both ends have agreed on.
fn established(forwarding: Forwarding) -> (Bench, ServiceKey) {
    let bench = Bench::new();
    let key = bench.service(Protocol::Tcp, forwarding, &["192.168.10.11:80"]);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 5000), (VIP, 80), "S", b""));
    if forwarding == Forwarding::Nat {
        bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 5000), "SA", b""));
    }
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 5000), (VIP, 80), "A", b""));
    assert_eq!(state(&bench), ["ESTABLISHED"]);
    (bench, key)
}

fn state(bench: &Bench) -> Vec<String> {
    bench.connections().iter().map(|connection| connection.state.to_string()).collect()
}

/// Flags, sequence and acknowledgment number of the TCP segment in an Ethernet frame with an IPv4 packet.
fn numbers(frame: &[u8]) -> (u8, u32, u32) {
    let packet = uvs_wire::Packet::parse(&frame[14..]).unwrap();
    assert_eq!(packet.transport_sum(&frame[14..]).finish(), 0, "the checksum is right");
    let segment = uvs_wire::tcp::TcpSegment::parse(packet.transport(&frame[14..])).unwrap();
    assert!(segment.payload().is_empty());
    (segment.flags(), segment.seq(), segment.ack())
}

/// The same of a segment with these numbers.
fn numbered(mut frame: Vec<u8>, seq: u32, ack: u32) -> Vec<u8> {
    let packet = uvs_wire::Packet::parse(&frame[14..]).unwrap();
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame[42..46].copy_from_slice(&ack.to_be_bytes());
    frame[50..52].fill(0);
    let sum = packet.transport_sum(&frame[14..]).finish();
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

const SERVER: &str = "192.168.10.11:80";
const RESET: u8 = uvs_wire::tcp::RST;
const ACK: u8 = uvs_wire::tcp::ACK;

#[test]
fn the_next_segment_resets_both_ends_with_numbers_that_they_take() {
    for forwarding in [Forwarding::Nat, Forwarding::Direct] {
        let (bench, key) = established(forwarding);
        assert!(bench.director.end_connections(&key, SERVER.parse().unwrap(), true));
        let data = numbered(tcp((CLIENT, 5000), (VIP, 80), "PA", b"more"), 1000, 77);
        let (verdict, sent) = bench.send(CLIENT_SIDE, &data);
        let uvs_director::Verdict::Transmit(SERVER_SIDE) = verdict else { panic!("{verdict:?}") };
        let [onward, (CLIENT_SIDE, back)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(onward.0, SERVER_SIDE);
        assert_eq!(numbers(&onward.1), (RESET | ACK, 1000, 77), "{forwarding:?}");
        let to = if forwarding == Forwarding::Nat { RS1 } else { VIP };
        assert_eq!(read(&onward.1).to, (to.into(), 80));
        assert_eq!(numbers(back), (RESET, 77, 0), "{forwarding:?}");
        assert_eq!((read(back).from, read(back).to), ((VIP.into(), 80), (CLIENT.into(), 5000)));
        assert_eq!(state(&bench), ["CLOSE"]);
    }
}

#[test]
fn what_the_destination_sends_resets_both_ends_too() {
    let (bench, key) = established(Forwarding::Nat);
    assert!(bench.director.end_connections(&key, SERVER.parse().unwrap(), true));
    let data = numbered(tcp((RS1, 80), (CLIENT, 5000), "PA", b"news"), 500, 99);
    let (_, sent) = bench.send(SERVER_SIDE, &data);
    let [(CLIENT_SIDE, onward), (SERVER_SIDE, back)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(numbers(onward), (RESET | ACK, 500, 99));
    assert_eq!(read(onward).from, (VIP.into(), 80));
    assert_eq!(numbers(back), (RESET, 99, 0));
    assert_eq!(read(back).from, (CLIENT.into(), 5000), "who it is in the destination's eyes");
    // The server does not take that number, and says which it takes.
    let again = numbered(tcp((RS1, 80), (CLIENT, 5000), "A", b""), 510, 90);
    let (_, sent) = bench.send(SERVER_SIDE, &again);
    assert_eq!(numbers(&sent[1].1), (RESET, 90, 0));
    // A reset of its own goes through.
    let (_, sent) = bench.send(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 5000), "RA", b""));
    assert_eq!(sent.len(), 1);
}

#[test]
fn a_segment_that_is_broken_ends_nothing() {
    let (bench, key) = established(Forwarding::Nat);
    bench.director.end_connections(&key, SERVER.parse().unwrap(), true);
    let mut broken = tcp((CLIENT, 5000), (VIP, 80), "PA", b"more");
    broken[50] ^= 1;
    bench.refused(CLIENT_SIDE, &broken, uvs_director::DropReason::BadChecksum);
    assert_eq!(state(&bench), ["ESTABLISHED"]);
}

#[test]
fn who_says_nothing_is_asked_and_answers_by_his_numbers() {
    let (bench, key) = established(Forwarding::Nat);
    let id = bench.director.destination_id(&key, SERVER.parse().unwrap()).unwrap();
    bench.director.end_connections(&key, SERVER.parse().unwrap(), true);
    let mut out = uvs_director::Outbox::new();
    let (mut place, mut slices) = (Some(uvs_director::Place::default()), 0);
    while let Some(from) = place {
        place = bench.director.ask_some(&[id], from, Instant::from_secs(1), &mut out);
        slices += 1;
    }
    assert!((64..1000).contains(&slices), "{slices}: some at a time, and an end");
    let sent: Vec<_> = out.drain().map(|(port, frame)| (port, frame.bytes().to_vec())).collect();
    let [(CLIENT_SIDE, client), (SERVER_SIDE, server)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((read(client).from, read(client).to), ((VIP.into(), 80), (CLIENT.into(), 5000)));
    assert_eq!((read(server).from, read(server).to), ((CLIENT.into(), 5000), (RS1.into(), 80)));
    assert_eq!((numbers(client).0, numbers(server).0), (ACK, ACK));
    assert_ne!(numbers(client).1, numbers(server).1);
    // One that has ended is asked no more.
    bench.send(CLIENT_SIDE, &tcp((CLIENT, 5000), (VIP, 80), "A", b""));
    let mut place = Some(uvs_director::Place::default());
    while let Some(from) = place {
        place = bench.director.ask_some(&[id], from, Instant::from_secs(1), &mut out);
    }
    assert!(out.is_empty());
}

#[test]
fn meanwhile_nothing_new_goes_there_and_afterwards_it_does() {
    let (bench, key) = established(Forwarding::Nat);
    let server = SERVER.parse().unwrap();
    let id = bench.director.destination_id(&key, server).unwrap();
    bench.director.end_connections(&key, server, true);
    bench.refused(
        CLIENT_SIDE,
        &tcp((CLIENT, 5001), (VIP, 80), "S", b""),
        uvs_director::DropReason::NoDestination,
    );
    assert_eq!(bench.director.left(&[id])[0].open, 1);
    assert_eq!(bench.director.forget(&[id], uvs_director::Forgotten::Datagrams), 0, "it is none");
    assert_eq!(bench.director.forget(&[id], uvs_director::Forgotten::All), 1);
    assert_eq!(bench.director.left(&[id])[0].open, 0);
    assert_eq!(bench.load(SERVER), (0, 0));
    assert!(bench.director.end_connections(&key, server, false));
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 5001), (VIP, 80), "S", b""));
    // Removed meanwhile and back, it is as any other.
    bench.director.end_connections(&key, server, true);
    bench.apply(Change::RemoveDestination(key, server));
    assert!(!bench.director.end_connections(&key, server, false));
    bench.apply(Change::AddDestination(key, DestinationSpec::new(server, Forwarding::Nat)));
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 5002), (VIP, 80), "S", b""));
}

#[test]
fn datagrams_are_forgotten_and_go_elsewhere() {
    let world = World::new(Options::default(), None);
    assert_eq!(world.asks(), RS1);
    let id = world.bench.director.destination_id(&world.key, "192.168.10.11:53".parse().unwrap()).unwrap();
    world.weigh(RS1, 0);
    assert_eq!(world.bench.director.forget(&[id], uvs_director::Forgotten::Datagrams), 1);
    assert_eq!(world.bench.connections().len(), 0);
    assert_eq!(world.asks(), RS2);
}
