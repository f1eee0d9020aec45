//! IPv6 as its user sees it: neighbour discovery, the three methods, ICMPv6.
//!
//! ```text
//!   client fd00:1::2 --- c0 fd00:1::1, VIP fd00:1::100 [director] r0 fd00:2::1 --- rs fd00:2::11, ::12
//! ```

#![allow(clippy::unwrap_used, reason = "a test harness")]

#[path = "../common/mod.rs"]
mod common;
mod discovery;
mod forwarding;
mod icmp_errors;
mod link_local;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use common::{Bench, C0_MAC, CLIENT_MAC, CLIENT_SIDE, R0_MAC, RS1_MAC, RS2_MAC, Read, SERVER_SIDE, Sent};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::*;
use uvs_director::{Director, DropReason, Duration, Instant, Outbox, PortId, Verdict};

const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
const DIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
const VIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100);
const RIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1);
const RS1: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x11);
const RS2: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x12);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// What follows from the MAC addresses of c0 and r0.
const C0_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const R0_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x101);
const CLIENT_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ROUTER_SOLICITED_OVERRIDE: u32 = 0xe000_0000;
const ROUTER_OVERRIDE: u32 = 0xa000_0000;

/// Both links.
fn network() -> Change {
    let interface = |port: PortId, name: &str, mac, addresses: &[&str]| InterfaceSpec {
        port,
        name: name.into(),
        link: Link::Ethernet(MacAddr(mac)),
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        source_check: SourceCheck::Loose,
    };
    Change::SetNetwork {
        interfaces: vec![
            interface(CLIENT_SIDE, "c0", C0_MAC, &["fd00:1::1/64", "fd00:1::100/128"]),
            interface(SERVER_SIDE, "r0", R0_MAC, &["fd00:2::1/64"]),
        ],
        routes: vec![],
    }
}

/// Without known neighbours.
fn bare(limits: Limits) -> Bench {
    let director = Director::new(limits, 7, std::sync::Arc::new(NativeOnly));
    let bench = Bench { director, now: Instant::from_secs(1) };
    bench.apply(network());
    bench
}

fn bench() -> Bench {
    let bench = bare(Limits::default());
    for (port, addr, mac) in
        [(CLIENT_SIDE, CLIENT, CLIENT_MAC), (SERVER_SIDE, RS1, RS1_MAC), (SERVER_SIDE, RS2, RS2_MAC)]
    {
        bench.apply(Change::SetNeighbor { port, addr: addr.into(), mac: MacAddr(mac) });
    }
    bench
}

/// A service on VIP:80 (TCP) or VIP:53 (UDP) with these destinations, all by one method.
fn service(bench: &Bench, protocol: Protocol, forwarding: Forwarding, destinations: &[&str]) {
    let port = if protocol == Protocol::Tcp { 80 } else { 53 };
    let key = ServiceKey::new(protocol, SocketAddr::new(VIP.into(), port));
    bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
    for destination in destinations {
        let spec = DestinationSpec::new(destination.parse().unwrap(), forwarding);
        bench.apply(Change::AddDestination(key, spec));
    }
}

/// An IPv6 packet in Ethernet; of ICMPv6, with the checksum set.
fn raw(
    macs: ([u8; 6], [u8; 6]),
    from: Ipv6Addr,
    to: Ipv6Addr,
    hops: u8,
    next: u8,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut bytes = [&macs.1[..], &macs.0, &[0x86, 0xdd, 0x60, 0, 0, 0], &length.to_be_bytes()].concat();
    bytes.extend([next, hops]);
    bytes.extend([&from.octets()[..], &to.octets(), payload].concat());
    if next == 58 && payload.len() >= 4 {
        bytes[56..58].fill(0);
        let sum = !icmp_sum(&bytes);
        bytes[56..58].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// The sum over pseudo-header and message of an ICMPv6 packet without extension headers: 0xffff when it is right.
fn icmp_sum(frame: &[u8]) -> u16 {
    let message = &frame[54..];
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let all = [&frame[22..54], &length, &[0, 0, 0, 58], message].concat();
    let sum = all.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0))
    });
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

fn to_director(from: Ipv6Addr) -> ([u8; 6], [u8; 6]) {
    match from {
        RS1 => (RS1_MAC, R0_MAC),
        RS2 => (RS2_MAC, R0_MAC),
        _ => (CLIENT_MAC, C0_MAC),
    }
}

fn icmp(from: Ipv6Addr, to: Ipv6Addr, kind: u8, code: u8, rest: u32, payload: &[u8]) -> Vec<u8> {
    let message = [&[kind, code, 0, 0][..], &rest.to_be_bytes(), payload].concat();
    raw(to_director(from), from, to, 64, 58, &message)
}

fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let octets = group.octets();
    [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
}

fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = addr.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// One message of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Discovery {
    macs: ([u8; 6], [u8; 6]),
    from: Ipv6Addr,
    to: Ipv6Addr,
    kind: u8,
    flags: u32,
    target: Ipv6Addr,
    /// The MAC address in its option.
    mac: Option<[u8; 6]>,
}

impl Discovery {
    /// A question to the group of `target`.
    fn ask(from: Ipv6Addr, mac: [u8; 6], target: Ipv6Addr) -> Self {
        let to = solicited_node(target);
        let macs = (mac, group_mac(to));
        Self { macs, from, to, kind: SOLICITATION, flags: 0, target, mac: Some(mac) }
    }

    /// An answer.
    fn tell(target: Ipv6Addr, mac: [u8; 6], to: (Ipv6Addr, [u8; 6]), flags: u32) -> Self {
        let macs = (mac, to.1);
        Self { macs, from: target, to: to.0, kind: ADVERTISEMENT, flags, target, mac: Some(mac) }
    }

    fn frame(&self) -> Vec<u8> {
        self.frame_with(255, &[])
    }

    fn frame_with(&self, hops: u8, more: &[u8]) -> Vec<u8> {
        let mut message =
            [&[self.kind, 0, 0, 0][..], &self.flags.to_be_bytes(), &self.target.octets()].concat();
        if let Some(mac) = self.mac {
            message.extend([if self.kind == SOLICITATION { 1 } else { 2 }, 1]);
            message.extend(mac);
        }
        message.extend(more);
        raw(self.macs, self.from, self.to, hops, 58, &message)
    }

    fn read(frame: &[u8]) -> Self {
        assert_eq!(&frame[12..14], [0x86, 0xdd], "IPv6");
        assert_eq!((frame[20], frame[21]), (58, 255), "ICMPv6, hop limit 255");
        assert_eq!(icmp_sum(frame), 0xffff, "ICMPv6 checksum");
        let addr = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let mac = |at: usize| <[u8; 6]>::try_from(&frame[at..at + 6]).unwrap();
        let kind = frame[54];
        let option = if kind == SOLICITATION { [1, 1] } else { [2, 1] };
        Self {
            macs: (mac(6), mac(0)),
            from: addr(22),
            to: addr(38),
            kind,
            flags: u32::from_be_bytes(frame[58..62].try_into().unwrap()),
            target: addr(62),
            mac: frame.get(78..80).is_some_and(|bytes| bytes == option).then(|| mac(80)),
        }
    }
}

fn segment(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), flags: &str, hops: u8, payload: &[u8]) -> Vec<u8> {
    let macs = to_director(from.0);
    let mut builder = PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(from.0.octets(), to.0.octets(), hops)
        .tcp(from.1, to.1, 1000, 64000);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(2000),
            'F' => builder.fin(),
            other => panic!("flag {other}"),
        };
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn tcp(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), flags: &str) -> Vec<u8> {
    segment(from, to, flags, 64, b"")
}

fn udp(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), payload: &[u8]) -> Vec<u8> {
    let macs = to_director(from.0);
    let mut bytes = Vec::new();
    let builder =
        PacketBuilder::ethernet2(macs.0, macs.1).ipv6(from.0.octets(), to.0.octets(), 64).udp(from.1, to.1);
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// Reads a TCP or UDP packet, and checks the sum of the transport by recomputing it whole.
fn read(frame: &[u8]) -> Read {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a valid frame");
    let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("IPv6 expected") };
    let header = ip.header().to_header();
    let (sport, dport, payload) = match sliced.transport.expect("a transport") {
        TransportSlice::Tcp(tcp) => {
            let want = tcp.to_header().calc_checksum_ipv6(&header, tcp.payload()).unwrap();
            assert_eq!(tcp.checksum(), want, "TCP checksum");
            (tcp.source_port(), tcp.destination_port(), tcp.payload().to_vec())
        }
        TransportSlice::Udp(udp) => {
            let want = udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap();
            assert_eq!(udp.checksum(), want, "UDP checksum");
            (udp.source_port(), udp.destination_port(), udp.payload().to_vec())
        }
        other => panic!("TCP or UDP expected, not {other:?}"),
    };
    Read {
        macs: (frame[0..6].try_into().unwrap(), frame[6..12].try_into().unwrap()),
        from: (IpAddr::from(header.source), sport),
        to: (IpAddr::from(header.destination), dport),
        ttl: header.hop_limit,
        payload,
    }
}

/// An ICMPv6 message, checksum verified.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    from: Ipv6Addr,
    to: Ipv6Addr,
    hops: u8,
    kind: u8,
    code: u8,
    rest: u32,
    payload: Vec<u8>,
}

fn read_icmp(frame: &[u8]) -> Message {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a valid frame");
    let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("IPv6 expected") };
    let header = ip.header();
    assert_eq!(usize::from(header.payload_length()), frame.len() - 54, "payload length");
    assert_eq!(icmp_sum(frame), 0xffff, "ICMPv6 checksum");
    Message {
        from: header.source_addr(),
        to: header.destination_addr(),
        hops: header.hop_limit(),
        kind: frame[54],
        code: frame[55],
        rest: u32::from_be_bytes(frame[58..62].try_into().unwrap()),
        payload: frame[62..].to_vec(),
    }
}

/// What a quoted packet says: addresses, ports, hop limit.
fn quoted(payload: &[u8]) -> ((Ipv6Addr, u16), (Ipv6Addr, u16), u8) {
    let addr = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&payload[at..at + 16]).unwrap());
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    ((addr(8), port(40)), (addr(24), port(42)), payload[7])
}

proptest! {
    /// Any bytes behind an Ethernet and IPv6 header, and a few that come close to what is understood.
    #[test]
    fn noise_never_panics(
        group: bool, next in prop_oneof![Just(58u8), Just(6), Just(17), Just(44), Just(43), Just(0), Just(1), any::<u8>()],
        kind in prop_oneof![Just(135u8), Just(136), 0u8..5, any::<u8>()],
        source in prop_oneof![Just(Ipv6Addr::UNSPECIFIED), Just(CLIENT), Just(CLIENT_LINK_LOCAL), Just(VIP)],
        target in prop_oneof![Just(VIP), Just(C0_LINK_LOCAL), Just(ALL_NODES), Just(RS1), Just(solicited_node(VIP))],
        hops in prop_oneof![Just(255u8), Just(1), any::<u8>()],
        mut body in proptest::collection::vec(any::<u8>(), 0..120),
        cut in 0usize..200,
    ) {
        let bench = bench();
        service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S"));
        if let Some(first) = body.first_mut() {
            *first = kind;
        }
        let macs = (CLIENT_MAC, if group { ALL_NODES_MAC } else { C0_MAC });
        let frame = raw(macs, source, target, hops, next, &body);
        bench.send(CLIENT_SIDE, &frame);
        bench.send(SERVER_SIDE, &frame);
        bench.send(CLIENT_SIDE, &frame[..frame.len().min(cut)]);
        prop_assert!(bench.director.neighbors().len() <= 5);
    }
}
