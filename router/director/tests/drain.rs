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
