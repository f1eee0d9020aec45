//! A director between a client wire and a server wire, driven frame by frame.
//!
//! ```text
//!   client 10.0.0.2 --- c0 10.0.0.1, VIP 10.0.0.100 [director] r0 192.168.10.1 --- rs 192.168.10.11, .12
//! ```

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, reason = "a test harness")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use uvs_director::scheduler::{NativeOnly, SchedulerFactory};
use uvs_director::spec::*;
use uvs_director::view::ConnectionView;
use uvs_director::{Director, DropReason, Duration, Frame, Instant, Outbox, PortId, Verdict};

pub const CLIENT_SIDE: PortId = PortId(0);
pub const SERVER_SIDE: PortId = PortId(1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const DIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
pub const RS1: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 11);
pub const RS2: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 12);
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const C0_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const R0_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const RS1_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0x11];
pub const RS2_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0x12];

pub struct Bench {
    pub director: Director,
    pub now: Instant,
}

/// What came out: the interface and the bytes.
pub type Sent = Vec<(PortId, Vec<u8>)>;

impl Bench {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self::with_schedulers(limits, Arc::new(NativeOnly))
    }

    pub fn with_schedulers(limits: Limits, schedulers: Arc<dyn SchedulerFactory>) -> Self {
        let bench = Self::over(Director::new(limits, 7, schedulers));
        for (port, addr, mac) in
            [(CLIENT_SIDE, CLIENT, CLIENT_MAC), (SERVER_SIDE, RS1, RS1_MAC), (SERVER_SIDE, RS2, RS2_MAC)]
        {
            bench.apply(Change::SetNeighbor { port, addr: addr.into(), mac: MacAddr(mac) });
        }
        bench
    }

    /// Without known neighbours.
    pub fn bare(limits: Limits) -> Self {
        Self::over(Director::new(limits, 7, Arc::new(NativeOnly)))
    }

    fn over(director: Director) -> Self {
        let bench = Self { director, now: Instant::from_secs(1) };
        let interface = |port: PortId, name: &str, mac, addresses: &[&str]| InterfaceSpec {
            port,
            name: name.into(),
            link: Link::Ethernet(MacAddr(mac)),
            mtu: 1500,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            source_check: SourceCheck::Loose,
        };
        bench.apply(Change::SetNetwork {
            interfaces: vec![
                interface(CLIENT_SIDE, "c0", C0_MAC, &["10.0.0.1/24", "10.0.0.100/32"]),
                interface(SERVER_SIDE, "r0", R0_MAC, &["192.168.10.1/24"]),
            ],
            routes: vec![],
        });
        bench
    }

    pub fn apply(&self, change: Change) {
        self.director.apply(change, self.now).unwrap();
    }

    /// A service on VIP:80 (TCP) or VIP:53 (UDP) with these destinations, all by one method.
    pub fn service(&self, protocol: Protocol, forwarding: Forwarding, destinations: &[&str]) -> ServiceKey {
        let port = if protocol == Protocol::Tcp { 80 } else { 53 };
        let key = ServiceKey::new(protocol, SocketAddr::new(VIP.into(), port));
        self.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
        for destination in destinations {
            let spec = DestinationSpec::new(destination.parse().unwrap(), forwarding);
            self.apply(Change::AddDestination(key, spec));
        }
        key
    }

    pub fn send(&self, port: PortId, bytes: &[u8]) -> (Verdict, Sent) {
        let mut frame = Frame::from_bytes(bytes);
        let mut out = Outbox::new();
        let verdict = self.director.handle(port, &mut frame, self.now, &mut out);
        let mut sent = Sent::new();
        if let Verdict::Transmit(port) = verdict {
            sent.push((port, frame.bytes().to_vec()));
        }
        sent.extend(out.drain().map(|(port, frame)| (port, frame.bytes().to_vec())));
        (verdict, sent)
    }

    /// Sends and expects exactly one frame out.
    pub fn pass(&self, port: PortId, bytes: &[u8]) -> (PortId, Vec<u8>) {
        let (verdict, mut sent) = self.send(port, bytes);
        assert_eq!(sent.len(), 1, "one frame out, verdict {verdict:?}");
        sent.remove(0)
    }

    /// Sends and expects it to be dropped for that reason; returns what was said instead.
    pub fn refused(&self, port: PortId, bytes: &[u8], want: DropReason) -> Sent {
        let before = self.dropped(want);
        let (verdict, sent) = self.send(port, bytes);
        assert_eq!(verdict, Verdict::Drop(want));
        assert_eq!(self.dropped(want), before + 1, "the drop is counted");
        sent
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        let drops = self.director.status().drops;
        drops.into_iter().find(|(r, _)| *r == reason).map_or(0, |(_, count)| count)
    }

    pub fn advance(&mut self, by: Duration) -> Sent {
        let until = self.now + by;
        let mut out = Outbox::new();
        while let Some(at) = self.director.poll_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.director.handle_timeout(self.now, &mut out);
        }
        self.now = until;
        self.director.handle_timeout(self.now, &mut out);
        out.drain().map(|(port, frame)| (port, frame.bytes().to_vec())).collect()
    }

    pub fn connections(&self) -> Vec<ConnectionView> {
        self.director.connections(self.now)
    }

    /// Active and inactive connections of a destination.
    pub fn load(&self, destination: &str) -> (u32, u32) {
        let addr: SocketAddr = destination.parse().unwrap();
        let services = self.director.services();
        let mut destinations = services.iter().flat_map(|service| &service.destinations);
        let found = destinations.find(|d| d.spec.addr == addr).expect("there is such a destination");
        (found.active, found.inactive)
    }
}

/// One TCP segment in Ethernet.
pub fn tcp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: &str, payload: &[u8]) -> Vec<u8> {
    tcp_ttl(from, to, flags, payload, 64)
}

pub fn tcp_ttl(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: &str, payload: &[u8], ttl: u8) -> Vec<u8> {
    let mut builder =
        ethernet(from.0).ipv4(from.0.octets(), to.0.octets(), ttl).tcp(from.1, to.1, 1000, 64000);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'A' => builder.ack(2000),
            'F' => builder.fin(),
            'R' => builder.rst(),
            'P' => builder.psh(),
            other => panic!("flag {other}"),
        };
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = ethernet(from.0).ipv4(from.0.octets(), to.0.octets(), 64).udp(from.1, to.1);
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

pub fn ping(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = ethernet(from).ipv4(from.octets(), to.octets(), 64).icmpv4_echo_request(7, 1);
    builder.write(&mut bytes, b"0123456789").unwrap();
    bytes
}

fn ethernet(from: Ipv4Addr) -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    if matches!(from.octets()[0], 10 | 127) {
        PacketBuilder::ethernet2(CLIENT_MAC, C0_MAC)
    } else {
        PacketBuilder::ethernet2(if from == RS2 { RS2_MAC } else { RS1_MAC }, R0_MAC)
    }
}

/// An Ethernet ARP frame.
pub fn arp(operation: u8, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr), to: [u8; 6]) -> Vec<u8> {
    let mut bytes = [&to[..], &sender.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    bytes.extend([&sender.0[..], &sender.1.octets(), &target.0, &target.1.octets()].concat());
    bytes
}

/// A frame, read back by another parser; all checksums verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    pub macs: ([u8; 6], [u8; 6]),
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub ttl: u8,
    pub payload: Vec<u8>,
}

/// Reads a TCP or UDP packet, and checks the sums of IP and transport by recomputing them whole.
pub fn read(frame: &[u8]) -> Read {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a valid frame");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("IPv4 expected") };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
    let (sport, dport, payload) = match sliced.transport.expect("a transport") {
        TransportSlice::Tcp(tcp) => {
            let want = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).unwrap();
            assert_eq!(tcp.checksum(), want, "TCP checksum");
            (tcp.source_port(), tcp.destination_port(), tcp.payload().to_vec())
        }
        TransportSlice::Udp(udp) => {
            let want = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
            assert_eq!(udp.checksum(), want, "UDP checksum");
            (udp.source_port(), udp.destination_port(), udp.payload().to_vec())
        }
        other => panic!("TCP or UDP expected, not {other:?}"),
    };
    Read {
        macs: (frame[0..6].try_into().unwrap(), frame[6..12].try_into().unwrap()),
        from: (header.source.into(), sport),
        to: (header.destination.into(), dport),
        ttl: header.time_to_live,
        payload,
    }
}

/// Type, code, the word behind the checksum and the quoted packet of an ICMP message, checksum verified.
pub fn read_icmp(frame: &[u8]) -> (Ipv4Addr, Ipv4Addr, u8, u8, u32, Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a valid frame");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("IPv4 expected") };
    let message = &frame[14 + ip.header().slice().len()..14 + usize::from(ip.header().total_len())];
    let sum = message.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0))
    });
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "ICMP checksum");
    let rest = u32::from_be_bytes(message[4..8].try_into().unwrap());
    let header = ip.header();
    (header.source_addr(), header.destination_addr(), message[0], message[1], rest, message[8..].to_vec())
}
