//! A TCP packet in the middle of a flow that the director does not know: another director had the flow, or this one
//! has begun anew.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::net::SocketAddr;

use common::*;
use uvs_director::spec::*;

const SERVICE: (std::net::Ipv4Addr, u16) = (VIP, 80);

fn bench(forwarding: Forwarding, sloppy_tcp: bool) -> Bench {
    let bench = Bench::new();
    let key = bench.service(Protocol::Tcp, forwarding, &["192.168.10.11:80"]);
    let spec = ServiceSpec { sloppy_tcp, ..ServiceSpec::new(key, SchedulerSpec::named("wlc")) };
    bench.apply(Change::EditService(spec));
    bench
}

fn states(bench: &Bench) -> Vec<&'static str> {
    bench.connections().iter().map(|connection| connection.state).collect()
}

fn is_reset(frame: &[u8]) -> bool {
    // Ethernet, IPv4 without options, then the flags of TCP.
    frame[14 + 20 + 13] & 0x04 != 0
}

#[test]
fn it_is_reset_and_with_sloppy_tcp_placed_but_for_a_reset() {
    for forwarding in [Forwarding::Nat, Forwarding::Direct, Forwarding::Tunnel(Tunnel::Ipip)] {
        // Flags, and the state that the entry begins in.
        for (flags, state) in [
            ("S", "SYN_RECV"),
            ("A", "ESTABLISHED"),
            ("PA", "ESTABLISHED"),
            ("FA", "CLOSE"),
            ("R", ""),
            ("RA", ""),
        ] {
            for sloppy in [false, true] {
                let bench = bench(forwarding, sloppy);
                let frame = tcp((CLIENT, 4000), SERVICE, flags, b"");
                let (_, sent) = bench.send(CLIENT_SIDE, &frame);
                let case = format!("{flags} by {forwarding:?}, sloppy {sloppy}");
                if state.is_empty() {
                    assert!(sent.is_empty() && states(&bench).is_empty(), "{case}");
                } else if sloppy || flags == "S" {
                    assert_eq!((sent.len(), sent[0].0), (1, SERVER_SIDE), "{case}");
                    assert_eq!(states(&bench), [state], "{case}");
                } else {
                    assert_eq!((sent.len(), sent[0].0), (1, CLIENT_SIDE), "{case}");
                    assert!(is_reset(&sent[0].1) && states(&bench).is_empty(), "{case}");
                }
            }
        }
    }
}

#[test]
fn it_is_of_the_service_alone() {
    let bench = bench(Forwarding::Direct, true);
    let other = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), 81));
    bench.apply(Change::AddService(ServiceSpec::new(other, SchedulerSpec::named("wlc"))));
    let spec = DestinationSpec::new("192.168.10.11:81".parse().unwrap(), Forwarding::Direct);
    bench.apply(Change::AddDestination(other, spec));
    let (_, sent) = bench.send(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 81), "A", b""));
    assert!(is_reset(&sent[0].1), "the other service's");
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4000), SERVICE, "A", b""));
    bench.apply(Change::SetOptions(Options { sloppy_tcp: true, ..Options::default() }));
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 81), "A", b""));
    assert_eq!(states(&bench), ["ESTABLISHED", "ESTABLISHED"], "and by the option of all");
}

#[test]
fn a_flow_that_was_adopted_goes_on_both_ways_by_nat() {
    let bench = bench(Forwarding::Nat, true);
    let (_, sent) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4000), SERVICE, "PA", b"on"));
    assert_eq!(read(&sent).to, (RS1.into(), 80));
    let (_, back) = bench.pass(SERVER_SIDE, &tcp((RS1, 80), (CLIENT, 4000), "A", b"and on"));
    assert_eq!((read(&back).from, read(&back).to), ((VIP.into(), 80), (CLIENT.into(), 4000)));
    assert_eq!(states(&bench), ["ESTABLISHED"]);
}

#[test]
fn nobody_to_place_it_on_is_no_destination() {
    let bench = bench(Forwarding::Direct, true);
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), 80));
    let spec = DestinationSpec {
        weight: 0,
        ..DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Direct)
    };
    bench.apply(Change::EditDestination(key, spec));
    let frame = tcp((CLIENT, 4000), SERVICE, "A", b"");
    bench.refused(CLIENT_SIDE, &frame, uvs_director::DropReason::NoDestination);
}
