//! What one change costs with so many services there, a VIP each: a weight, a service that comes and goes, a VIP that
//! comes and goes; and how long it takes to restore them all.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant as Clock;

use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::{
    Change, DestinationSpec, Forwarding, InterfaceSpec, Limits, Link, MacAddr, Prefix, Protocol,
    SchedulerSpec, ServiceKey, ServiceSpec, SourceCheck,
};
use uvs_director::{Director, Instant, PortId};

fn vip(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0100 + n).into()
}

fn key(n: u32) -> ServiceKey {
    ServiceKey::new(Protocol::Tcp, SocketAddr::new(vip(n), 80))
}

fn server(weight: u32) -> DestinationSpec {
    let addr = SocketAddr::new(Ipv4Addr::new(192, 168, 10, 11).into(), 80);
    DestinationSpec { weight, ..DestinationSpec::new(addr, Forwarding::Nat) }
}

fn interfaces(vips: u32) -> Vec<InterfaceSpec> {
    let mut addresses: Vec<Prefix> = vec!["10.0.0.1/8".parse().expect("a prefix")];
    addresses.extend((0..vips).map(|n| Prefix::host(vip(n))));
    vec![InterfaceSpec {
        port: PortId(0),
        name: "c0".into(),
        link: Link::Ethernet(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        addresses,
        source_check: SourceCheck::Loose,
    }]
}

fn apply(director: &Director, change: Change) {
    director.apply(change, Instant::ZERO).expect("a valid change");
}

fn add(director: &Director, n: u32) {
    apply(director, Change::AddService(ServiceSpec::new(key(n), SchedulerSpec::named("wlc"))));
    apply(director, Change::AddDestination(key(n), server(1)));
}

/// Microseconds of one call, on average.
fn tell(what: &str, services: u32, times: u32, mut each: impl FnMut(u32)) {
    let start = Clock::now();
    (0..times).for_each(&mut each);
    let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(times);
    println!("changes/{what}/{services}: {micros:.1} us");
}

fn main() {
    let (sizes, times): (&[u32], u32) = if std::env::args().any(|arg| arg == "--bench") {
        (&[1, 100, 2700, 10_000], 200)
    } else {
        (&[10], 1)
    };
    for &services in sizes {
        let director = Director::new(Limits::default(), 1, Arc::new(NativeOnly));
        apply(&director, Change::SetNetwork { interfaces: interfaces(services), routes: Vec::new() });
        tell("restore all", services, 1, |_| (0..services).for_each(|n| add(&director, n)));
        tell("weight", services, times, |n| {
            apply(&director, Change::EditDestination(key(n % services), server(n % 7)));
        });
        tell("service", services, times, |_| {
            add(&director, services);
            apply(&director, Change::RemoveService(key(services)));
        });
        tell("vip", services, times, |n| {
            apply(&director, Change::SetAddresses(interfaces(services + n % 2)));
        });
        tell("flush", services, 1, |_| apply(&director, Change::Flush));
    }
}
