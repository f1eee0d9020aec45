//! A destination that is an address of the director's own, where nothing listens.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use common::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Verdict};

/// Flags of a TCP segment in an Ethernet frame without IP options.
fn flags(frame: &[u8]) -> u8 {
    frame[14 + 20 + 13]
}

const RST: u8 = 4;

#[test]
fn a_syn_is_refused_at_once_and_closes_the_connection() {
    for (forwarding, destination) in [
        (Forwarding::Direct, "10.0.0.1:80"),
        (Forwarding::Tunnel(Tunnel::Ipip), "10.0.0.1:80"),
        (Forwarding::Nat, "10.0.0.1:8080"),
        (Forwarding::Direct, "127.0.0.1:80"),
    ] {
        let bench = Bench::new();
        bench.service(Protocol::Tcp, forwarding, &[destination]);
        let (port, answer) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1024), (VIP, 80), "S", b""));
        assert_eq!(port, CLIENT_SIDE, "{destination}");
        let it = read(&answer);
        assert_eq!((it.from, it.to), ((VIP.into(), 80), (CLIENT.into(), 1024)), "{destination}");
        assert_ne!(flags(&answer) & RST, 0, "{destination}");
        let connection = &bench.connections()[0];
        assert_eq!((connection.state, connection.expires_in.as_secs()), ("CLOSE", 10), "{destination}");
        assert_eq!(bench.load(destination), (0, 1), "{destination}");
    }
}

#[test]
fn a_datagram_is_refused_and_a_ping_about_it_is_not_answered() {
    let bench = Bench::new();
    bench.service(Protocol::Udp, Forwarding::Direct, &["10.0.0.1:53"]);
    let (port, answer) = bench.pass(CLIENT_SIDE, &udp((CLIENT, 1024), (VIP, 53), b"?"));
    let (from, to, kind, code, _, _) = read_icmp(&answer);
    assert_eq!((port, from, to, kind, code), (CLIENT_SIDE, VIP, CLIENT, 3, 3));
}

#[test]
fn nobody_is_translated_to_a_loopback_address_as_in_the_kernel() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["127.0.0.1:80"]);
    let syn = tcp((CLIENT, 1024), (VIP, 80), "S", b"");
    assert_eq!(flags(&bench.pass(CLIENT_SIDE, &syn).1) & RST, RST, "without compat the client is told");
    bench.apply(Change::SetOptions(Options { compat_ipvs: true, ..Options::default() }));
    let syn = tcp((CLIENT, 1025), (VIP, 80), "S", b"");
    assert_eq!(bench.send(CLIENT_SIDE, &syn), (Verdict::Drop(DropReason::NotHandled), vec![]));
    assert_eq!(bench.connections().len(), 2);
}
