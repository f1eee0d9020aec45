//! IPv4 and IPv6 side by side: what one family's services do does not touch the other's.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;
mod dual;

use std::net::SocketAddr;

use common::*;
use dual::*;
use uvs_director::DropReason;
use uvs_director::spec::*;

/// As in the kernel, whose hooks go with the last service of a family (random_210).
#[test]
fn under_compat_a_family_without_services_is_not_balanced() {
    without_services(true, (RS1, 80));
}

/// Their clients never hear the servers' own addresses.
#[test]
fn connections_that_outlive_the_services_of_their_family_are_answered_by_the_vip() {
    without_services(false, (VIP, 80));
}

fn without_services(compat_ipvs: bool, answers: (std::net::Ipv4Addr, u16)) {
    let bench = lab(Limits::default(), Options { compat_ipvs, ..Options::default() }, 1500);
    let v4 = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    let v6 = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP6.into(), 80));
    bench.apply(Change::AddService(ServiceSpec::new(v6, SchedulerSpec::named("wlc"))));
    let (port, _) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1024), (VIP, 80), "S", b""));
    assert_eq!(port, SERVER_SIDE);
    bench.apply(Change::RemoveService(v4));

    let sent =
        bench.refused(CLIENT_SIDE, &tcp((CLIENT, 1024), (VIP, 80), "F", b""), DropReason::NoConnection);
    assert_eq!(sent.len(), 1, "the director refuses as a host");
    assert_eq!(read(&sent[0].1).to, (CLIENT.into(), 1024));
    let (port, reply) = bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1024), "A", b""));
    assert_eq!(port, CLIENT_SIDE);
    assert_eq!(read(&reply).from, (answers.0.into(), answers.1), "what a server sends");
    assert_eq!(bench.connections().len(), 1, "the connection lingers");

    bench.apply(Change::AddService(ServiceSpec::new(v4, SchedulerSpec::named("wlc"))));
    let (_, reply) = bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 1024), "A", b""));
    assert_eq!(read(&reply).from, (VIP.into(), 80), "with a service it is translated again");
}
