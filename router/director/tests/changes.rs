//! What a change leaves alone: neighbours, flows and connections that it does not concern.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use common::*;
use uvs_director::flow_cache::{Flow, FlowCache, FlowEvent, FlowKey, NextHop, NotPlaced, Progress};
use uvs_director::spec::*;
use uvs_director::{ApplyError, Instant};

/// A cache that keeps nothing but what it was told to withdraw.
#[derive(Default)]
struct Withdrawn(Mutex<Vec<Option<u32>>>);

impl FlowCache for Withdrawn {
    fn place(&self, _: &Flow<'_>) -> Result<(), NotPlaced> {
        Ok(())
    }
    fn shut(&self, _: &FlowKey, _: Option<&FlowKey>) {}
    fn remove(&self, _: &FlowKey, _: Option<&FlowKey>) {}
    fn progress(&self, _: &FlowKey) -> Progress {
        Progress::default()
    }
    fn last_seen(&self, _: &FlowKey, _: Option<&FlowKey>) -> Option<Instant> {
        None
    }
    fn events(&self, _: &mut dyn FnMut(FlowEvent)) {}
    fn through(&self, _: &uvs_director::flow_cache::Passed) {}

    fn withdraw(&self, destination: Option<u32>) {
        self.0.lock().unwrap().push(destination);
    }
    fn count(&self) {}

    fn displaced(&self) -> u64 {
        0
    }
    fn refresh_next_hops(&self, _: usize, _: &mut dyn FnMut(&NextHop) -> Option<MacAddr>) -> Option<usize> {
        None
    }
}

fn bench() -> (Bench, Arc<Withdrawn>) {
    let cache = Arc::new(Withdrawn::default());
    let mut bench = Bench::new();
    bench.director = bench.director.with_flow_cache(Arc::clone(&cache) as Arc<dyn FlowCache>);
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80", "192.168.10.12:80"]);
    cache.0.lock().unwrap().clear();
    (bench, cache)
}

/// The interfaces with other addresses on the first.
fn with(bench: &Bench, addresses: &[&str]) -> Vec<InterfaceSpec> {
    let mut interfaces = bench.director.interfaces();
    interfaces[0].addresses = addresses.iter().map(|addr| addr.parse().unwrap()).collect();
    interfaces
}

fn local(bench: &Bench, rip: &str) -> bool {
    let rip: SocketAddr = rip.parse().unwrap();
    let services = bench.director.services();
    services[0].destinations.iter().find(|it| it.spec.addr == rip).unwrap().local
}

#[test]
fn a_vip_that_comes_or_goes_leaves_neighbours_and_flows_alone() {
    let (bench, cache) = bench();
    let vips = ["10.0.0.1/24", "10.0.0.100/32", "10.0.0.101/32"];
    for addresses in [&vips[..], &vips[..2]] {
        bench.apply(Change::SetAddresses(with(&bench, addresses)));
        assert!(cache.0.lock().unwrap().is_empty(), "{addresses:?}");
    }
    bench.apply(Change::SetAddresses(with(&bench, &vips)));
    // Static neighbours are there: nobody is asked.
    let (port, _) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1000), (VIP, 80), "S", b""));
    assert_eq!(port, SERVER_SIDE);
    let (port, _) = bench.pass(CLIENT_SIDE, &ping(CLIENT, "10.0.0.101".parse().unwrap()));
    assert_eq!(port, CLIENT_SIDE, "the new one answers");
}

#[test]
fn another_subnet_withdraws_all_flows() {
    let (bench, cache) = bench();
    bench.apply(Change::SetAddresses(with(&bench, &["10.0.0.1/25", "10.0.0.100/32"])));
    assert_eq!(*cache.0.lock().unwrap(), [None]);
}

#[test]
fn more_than_addresses_is_refused_whole() {
    let (bench, _) = bench();
    let mut interfaces = with(&bench, &["10.0.0.9/24"]);
    interfaces[1].mtu = 1400;
    let before = bench.director.interfaces();
    let refused = bench.director.apply(Change::SetAddresses(interfaces), bench.now);
    assert!(matches!(refused, Err(ApplyError::Invalid(_))), "{refused:?}");
    assert_eq!(bench.director.interfaces(), before);
}

/// Whether a destination is the director's own host is asked again whenever addresses change.
#[test]
fn a_destination_is_local_as_long_as_its_address_is_the_directors() {
    let (bench, cache) = bench();
    for addresses_only in [true, false] {
        for (own, want) in [(true, true), (false, false)] {
            let mut addresses = vec!["10.0.0.1/24", "10.0.0.100/32"];
            addresses.extend(own.then_some("192.168.10.11/32"));
            let interfaces = with(&bench, &addresses);
            bench.apply(if addresses_only {
                Change::SetAddresses(interfaces)
            } else {
                Change::SetNetwork { interfaces, routes: vec![] }
            });
            assert_eq!(local(&bench, "192.168.10.11:80"), want, "by addresses alone: {addresses_only}");
            assert!(!local(&bench, "192.168.10.12:80"));
            let withdrawn = std::mem::take(&mut *cache.0.lock().unwrap());
            assert!(!withdrawn.is_empty(), "its flows went another next_hop");
        }
    }
}

/// With `nat_icmp_send`, who is a real server is told from who is not, whatever was changed in between.
#[test]
fn real_servers_are_known_as_they_come_and_go() {
    let bench = Bench::new();
    bench.apply(Change::SetOptions(Options { nat_icmp_send: true, ..Options::default() }));
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    let other = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), 81));
    let spec = DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Nat);
    let is_told = |bench: &Bench| {
        let (verdict, _) = bench.send(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 9), "A", b""));
        matches!(verdict, uvs_director::Verdict::Drop(uvs_director::DropReason::NoConnection))
    };
    assert!(is_told(&bench));
    bench.apply(Change::AddService(ServiceSpec::new(other, SchedulerSpec::named("wlc"))));
    bench.apply(Change::AddDestination(other, spec));
    bench.apply(Change::RemoveDestination(key, spec.addr));
    assert!(is_told(&bench), "the other service has it");
    bench.apply(Change::EditDestination(other, DestinationSpec { weight: 0, ..spec }));
    assert!(is_told(&bench));
    bench.apply(Change::RemoveService(other));
    bench.apply(Change::AddDestination(key, DestinationSpec { forwarding: Forwarding::Direct, ..spec }));
    assert!(!is_told(&bench), "it answers by itself");
    bench.apply(Change::EditDestination(key, spec));
    assert!(is_told(&bench));
    bench.apply(Change::Flush);
    bench.apply(Change::AddService(ServiceSpec::new(other, SchedulerSpec::named("wlc"))));
    assert!(!is_told(&bench));
}
