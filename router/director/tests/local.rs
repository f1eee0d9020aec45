//! The director as a host: sockets of its own, whose packets go by the way of clients' packets or straight.
//!
//! ```text
//!   VIP (c0) [director] r0 192.168.10.1, fd00:2::1 --- real server 192.168.10.11, fd00:2::11
//! ```

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{Bench, C0_MAC, CLIENT_SIDE, R0_MAC, RS1_MAC, SERVER_SIDE};
use etherparse::{IcmpEchoHeader, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice};
use uvs_director::local::{Failure, LocalLimits, OpenError, Received, SocketSpec, Transport, Way};
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::*;
use uvs_director::{Director, DropReason, Duration, Frame, Instant, Outbox, PortId, Verdict};

const FAMILIES: [Names; 2] = [
    Names { vip: "10.0.0.100", own: "192.168.10.1", server: "192.168.10.11", router: "192.168.10.254" },
    Names { vip: "fd00:1::100", own: "fd00:2::1", server: "fd00:2::11", router: "fd00:2::fe" },
];

/// Who is who, of one family.
#[derive(Clone, Copy)]
struct Names {
    vip: &'static str,
    own: &'static str,
    server: &'static str,
    router: &'static str,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Host {
    bench: Bench,
    wakes: Arc<AtomicUsize>,
}

impl Host {
    fn new(limits: LocalLimits) -> Self {
        Self::on(Link::Ethernet(MacAddr(R0_MAC)), limits)
    }

    fn on(servers: Link, limits: LocalLimits) -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let director = Director::new(Limits::default(), 7, Arc::new(NativeOnly));
        let director = director.with_local(limits, move || {
            counted.fetch_add(1, Relaxed);
        });
        let bench = Bench { director, now: Instant::from_secs(1) };
        let interface = |port, name: &str, link, addresses: &[&str]| InterfaceSpec {
            port,
            name: name.into(),
            link,
            mtu: 1500,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            source_check: SourceCheck::Loose,
        };
        let vips = ["10.0.0.1/24", "10.0.0.100/32", "fd00:1::1/64", "fd00:1::100/128"];
        bench.apply(Change::SetNetwork {
            interfaces: vec![
                interface(CLIENT_SIDE, "c0", Link::Ethernet(MacAddr(C0_MAC)), &vips),
                interface(SERVER_SIDE, "r0", servers, &["192.168.10.1/24", "fd00:2::1/64"]),
            ],
            routes: vec![],
        });
        Self { bench, wakes }
    }

    /// The server's MAC address is known.
    fn knows_servers(self) -> Self {
        for Names { server, .. } in FAMILIES {
            let mac = MacAddr(RS1_MAC);
            self.bench.apply(Change::SetNeighbor { port: SERVER_SIDE, addr: ip(server), mac });
        }
        self
    }

    fn open(&self, transport: Transport, remote: (&str, u16), way: Way) -> (IpAddr, u16, u32) {
        let it = self.director().open_local(&spec(transport, remote, way), self.bench.now).unwrap();
        assert_eq!(it.transport, transport);
        (it.addr, it.port, it.mtu)
    }

    fn director(&self) -> &Director {
        &self.bench.director
    }

    /// Sends a packet of a socket: the verdict, and what leaves.
    fn send(&self, packet: &[u8]) -> (Verdict, Vec<(PortId, Vec<u8>)>) {
        let mut frame = Frame::from_bytes(packet);
        let mut out = Outbox::new();
        let verdict = self.director().send_local(&mut frame, self.bench.now, &mut out);
        let mut sent = Vec::new();
        if let Verdict::Transmit(port) = verdict {
            sent.push((port, frame.bytes().to_vec()));
        }
        sent.extend(out.drain().map(|(port, frame)| (port, frame.bytes().to_vec())));
        (verdict, sent)
    }

    /// The one frame that leaves to the server, without its Ethernet header.
    fn leaves(&self, packet: &[u8]) -> Vec<u8> {
        let (verdict, sent) = self.send(packet);
        assert_eq!((verdict, sent.len()), (Verdict::Transmit(SERVER_SIDE), 1));
        let frame = &sent[0].1;
        assert_eq!((&frame[..6], &frame[6..12]), (&RS1_MAC[..], &R0_MAC[..]));
        frame[14..].to_vec()
    }

    /// An IP packet comes in from the servers.
    fn comes(&self, packet: &[u8]) -> Verdict {
        self.bench.send(SERVER_SIDE, &framed(packet)).0
    }

    fn takes(&self) -> Vec<u8> {
        match self.director().receive_local() {
            Some(Received::Packet(frame)) => frame.bytes().to_vec(),
            other => panic!("a packet expected, not {other:?}"),
        }
    }

    fn is_told(&self, want: (Transport, u16), why: Failure) {
        match self.director().receive_local() {
            Some(Received::Failed { transport, port, failure }) => {
                assert_eq!(((transport, port), failure), (want, why));
            }
            other => panic!("{why:?} expected, not {other:?}"),
        }
    }

    /// Nobody but the sockets noticed anything.
    fn left_no_trace(&self) {
        assert!(self.bench.connections().is_empty());
        let status = self.director().status();
        assert_eq!((status.connections, status.total.connections, status.total.packets_in), (0, 0, 0));
        assert!(self.director().receive_local().is_none());
    }
}

fn spec(transport: Transport, (remote, remote_port): (&str, u16), way: Way) -> SocketSpec {
    let may_fragment = transport == Transport::Udp;
    SocketSpec { transport, remote: ip(remote), remote_port, way, source: None, may_fragment }
}

fn framed(packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&R0_MAC[..], &RS1_MAC, &kind, packet].concat()
}

fn from_to(from: IpAddr, to: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => panic!("two families"),
    }
}

/// A TCP or UDP packet.
fn packet(transport: Transport, from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = from_to(from.0, to.0);
    match transport {
        Transport::Tcp => ip.tcp(from.1, to.1, 7, 64000).ack(9).write(&mut bytes, payload).unwrap(),
        Transport::Udp => ip.udp(from.1, to.1).write(&mut bytes, payload).unwrap(),
        Transport::Echo => panic!("no ports"),
    }
    bytes
}

fn echo(is_reply: bool, from: IpAddr, to: IpAddr, id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = from_to(from, to);
    let it = IcmpEchoHeader { id, seq: 3 };
    match (from.is_ipv4(), is_reply) {
        (true, false) => ip.icmpv4_echo_request(it.id, it.seq).write(&mut bytes, b"abc").unwrap(),
        (true, true) => ip.icmpv4_echo_reply(it.id, it.seq).write(&mut bytes, b"abc").unwrap(),
        (false, false) => ip.icmpv6_echo_request(it.id, it.seq).write(&mut bytes, b"abc").unwrap(),
        (false, true) => ip.icmpv6_echo_reply(it.id, it.seq).write(&mut bytes, b"abc").unwrap(),
    }
    bytes
}

/// Who sent a packet and to whom, and what; by another parser, its checksum computed anew.
fn read(packet: &[u8]) -> ((IpAddr, u16), (IpAddr, u16), Vec<u8>) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let transport = sliced.transport.unwrap();
    let (from, to): (IpAddr, IpAddr) = match sliced.net.unwrap() {
        NetSlice::Ipv4(it) => (it.header().source_addr().into(), it.header().destination_addr().into()),
        NetSlice::Ipv6(it) => (it.header().source_addr().into(), it.header().destination_addr().into()),
        NetSlice::Arp(_) => panic!("no ARP"),
    };
    let (ports, payload) = match transport {
        TransportSlice::Tcp(it) => {
            let header = it.to_header();
            let sum = match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), it.payload())
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), it.payload())
                }
                _ => panic!("two families"),
            };
            assert_eq!(sum.unwrap(), it.checksum(), "TCP checksum");
            ((it.source_port(), it.destination_port()), it.payload().to_vec())
        }
        TransportSlice::Udp(it) => ((it.source_port(), it.destination_port()), it.payload().to_vec()),
        other => panic!("TCP or UDP expected, not {other:?}"),
    };
    ((from, ports.0), (to, ports.1), payload)
}

fn by(names: Names, port: u16, forwarding: Forwarding) -> Way {
    Way::Destination { addr: ip(names.server), port, forwarding }
}

const TUNNELS: [Tunnel; 4] = [
    Tunnel::Ipip,
    Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None },
    Tunnel::Gre { checksum: false },
    Tunnel::Gre { checksum: true },
];

#[test]
fn a_socket_speaks_straight_to_its_peer() {
    let host = Host::new(LocalLimits::default()).knows_servers();
    for names in FAMILIES {
        for transport in [Transport::Tcp, Transport::Udp] {
            let (own, port, mtu) = host.open(transport, (names.server, 80), Way::Direct);
            assert_eq!((own, mtu), (ip(names.own), 1500));
            let (here, there) = ((own, port), (ip(names.server), 80));
            let said = packet(transport, here, there, b"hello");
            let sent = host.leaves(&said);
            assert_eq!(read(&sent), (here, there, b"hello".to_vec()));
            assert!(transport == Transport::Udp || sent == said, "as it is");
            let answer = packet(transport, there, here, b"world");
            let wakes = host.wakes.load(Relaxed);
            assert_eq!(host.comes(&answer), Verdict::Consume);
            assert_eq!(host.wakes.load(Relaxed), wakes + 1);
            assert_eq!(host.takes(), answer);
            // Nobody else is heard, and nobody's wrong sums.
            let others = [((ip(names.router), 80), here), ((there.0, 81), here), (there, (here.0, port + 1))];
            for (from, to) in others {
                let verdict = host.comes(&packet(transport, from, to, b"psst"));
                assert!(matches!(verdict, Verdict::Drop(_)), "{from:?} to {to:?}: {verdict:?}");
            }
            let mut wrong = answer.clone();
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(host.comes(&wrong), Verdict::Drop(DropReason::BadChecksum));
            host.director().close_local(transport, port);
            let verdict = host.comes(&answer);
            assert_eq!(verdict, Verdict::Drop(DropReason::LocalClosed), "it comes late, and is no client's");
            let stray = host.comes(&packet(transport, there, (here.0, 8080), b"world"));
            assert!(matches!(stray, Verdict::Drop(DropReason::NoConnection | DropReason::NotHandled)));
            assert_eq!(
                host.send(&said),
                (Verdict::Drop(DropReason::NotHandled), vec![]),
                "it is no socket's"
            );
        }
    }
    host.left_no_trace();
    let counted = host.director().status().local;
    assert_eq!(
        (counted.sockets, counted.sockets_max, counted.in_packets, counted.out_packets),
        (0, 16384, 4, 4)
    );
}

#[test]
fn by_nat_it_is_translated_as_a_client_and_hears_the_vip() {
    let host = Host::new(LocalLimits::default()).knows_servers();
    for names in FAMILIES {
        for transport in [Transport::Tcp, Transport::Udp] {
            let way = by(names, 8080, Forwarding::Nat);
            let (own, port, _) = host.open(transport, (names.vip, 80), way);
            assert_eq!(own, ip(names.own));
            let (here, vip, server) = ((own, port), (ip(names.vip), 80), (ip(names.server), 8080));
            let sent = host.leaves(&packet(transport, here, vip, b"hello"));
            assert_eq!(read(&sent), (here, server, b"hello".to_vec()));
            assert_eq!(host.comes(&packet(transport, server, here, b"world")), Verdict::Consume);
            assert_eq!(read(&host.takes()), (vip, here, b"world".to_vec()));
            let from_vip = host.comes(&packet(transport, vip, here, b"not he"));
            assert_eq!(from_vip, Verdict::Drop(DropReason::Martian), "by NAT no answer comes from the VIP");
            host.director().close_local(transport, port);
        }
    }
    host.left_no_trace();
}

#[test]
fn by_direct_routing_the_vip_may_answer_a_live_socket_and_nobody_else() {
    let host = Host::new(LocalLimits::default()).knows_servers();
    for names in FAMILIES {
        for transport in [Transport::Tcp, Transport::Udp] {
            let (own, port, mtu) = host.open(transport, (names.vip, 80), by(names, 80, Forwarding::Direct));
            assert_eq!((own, mtu), (ip(names.own), 1500));
            let (here, vip) = ((own, port), (ip(names.vip), 80));
            let sent = host.leaves(&packet(transport, here, vip, b"hello"));
            assert_eq!(read(&sent), (here, vip, b"hello".to_vec()), "nothing but the MAC address");
            let answer = packet(transport, vip, here, b"world");
            assert_eq!(host.comes(&answer), Verdict::Consume);
            assert_eq!(host.takes(), answer);
            let other = (ip(FAMILIES[usize::from(own.is_ipv6())].own), port);
            let wrong = [((vip.0, 81), here), (vip, (other.0, port + 1)), (vip, (vip.0, port)), (here, here)];
            for (from, to) in wrong {
                let verdict = host.comes(&packet(transport, from, to, b"psst"));
                assert_eq!(verdict, Verdict::Drop(DropReason::Martian), "{from:?} to {to:?}");
            }
            host.director().close_local(transport, port);
            assert_eq!(host.comes(&answer), Verdict::Drop(DropReason::Martian), "nobody is there any more");
        }
    }
    host.left_no_trace();
}

#[test]
fn through_a_tunnel_it_stands_in_the_tunnels_headers() {
    let host = Host::new(LocalLimits::default()).knows_servers();
    for names in FAMILIES {
        for ends in FAMILIES {
            for tunnel in TUNNELS {
                let way = by(ends, 80, Forwarding::Tunnel(tunnel));
                let (own, port, mtu) = host.open(Transport::Tcp, (names.vip, 80), way);
                assert_eq!(own.is_ipv4(), ip(names.vip).is_ipv4());
                let (here, vip) = ((own, port), (ip(names.vip), 80));
                let payload = vec![5; mtu as usize - if own.is_ipv4() { 40 } else { 60 }];
                let said = packet(Transport::Tcp, here, vip, &payload);
                let sent = host.leaves(&said);
                assert_eq!(sent.len(), 1500, "the mtu says exactly what fits");
                let outer = SlicedPacket::from_ip(&sent).unwrap().net.unwrap();
                let to: IpAddr = match outer {
                    NetSlice::Ipv4(it) => it.header().destination_addr().into(),
                    NetSlice::Ipv6(it) => it.header().destination_addr().into(),
                    NetSlice::Arp(_) => panic!("no ARP"),
                };
                assert_eq!(to, ip(ends.server));
                let inner = &sent[sent.len() - said.len()..];
                assert_eq!(read(inner), (here, vip, payload));
                let answer = packet(Transport::Tcp, vip, here, b"world");
                assert_eq!(host.comes(&answer), Verdict::Consume);
                assert_eq!(host.takes(), answer);
                host.director().close_local(Transport::Tcp, port);
            }
        }
    }
    host.left_no_trace();
}

#[test]
fn pings_come_back_from_a_host_and_from_a_vip() {
    let host = Host::new(LocalLimits::default()).knows_servers();
    for names in FAMILIES {
        let direct = (names.server, Way::Direct);
        let by_dr = (names.vip, by(names, 0, Forwarding::Direct));
        for (remote, way) in [direct, by_dr] {
            let (own, id, _) = host.open(Transport::Echo, (remote, 0), way);
            let request = echo(false, own, ip(remote), id);
            let sent = host.leaves(&request);
            assert_eq!(
                sent[20..],
                if way == Way::Direct { request[20..].to_vec() } else { sent[20..].to_vec() }
            );
            let reply = echo(true, ip(remote), own, id);
            assert_eq!(host.comes(&reply), Verdict::Consume);
            assert_eq!(host.takes(), reply);
            assert!(matches!(host.comes(&echo(true, ip(remote), own, id + 1)), Verdict::Drop(_)));
            let mut wrong = reply;
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(host.comes(&wrong), Verdict::Drop(DropReason::BadChecksum));
            host.director().close_local(Transport::Echo, id);
        }
    }
    host.left_no_trace();
}

#[test]
fn datagrams_leave_and_come_in_fragments() {
    let host = Host::new(LocalLimits::default()).knows_servers();
    for names in FAMILIES {
        let (own, port, _) = host.open(Transport::Udp, (names.server, 53), Way::Direct);
        let (here, there) = ((own, port), (ip(names.server), 53));
        let (verdict, fragments) = host.send(&packet(Transport::Udp, here, there, &[7; 4000]));
        assert_eq!((verdict, fragments.len()), (Verdict::Consume, 3));
        assert!(fragments.iter().all(|(port, frame)| *port == SERVER_SIDE && frame.len() <= 1514));
        host.director().close_local(Transport::Udp, port);
    }
    // As the answer of the VIP comes by direct routing.
    let names = FAMILIES[0];
    let (own, port, _) = host.open(Transport::Udp, (names.vip, 53), by(names, 53, Forwarding::Direct));
    let answer = packet(Transport::Udp, (ip(names.vip), 53), (own, port), &[9; 2000]);
    for (at, end, more) in [(0, 1480, 0x20), (1480, answer.len() - 20, 0)] {
        let mut header = answer[..20].to_vec();
        let len = u16::try_from(20 + end - at).unwrap();
        header[2..4].copy_from_slice(&len.to_be_bytes());
        header[6..8].copy_from_slice(&[more, u8::try_from(at / 8).unwrap()]);
        uvs_wire::ipv4::fill_checksum(&mut header);
        let fragment = [&header, &answer[20 + at..20 + end]].concat();
        assert_eq!(host.comes(&fragment), Verdict::Consume);
    }
    let whole = host.takes();
    assert_eq!(read(&whole), ((ip(names.vip), 53), (own, port), vec![9; 2000]));
    host.left_no_trace();
}

/// An ICMP error from a router about a packet.
fn error(names: Names, kind: (u8, u8), rest: u32, quote: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = from_to(ip(names.router), ip(names.own));
    let rest = rest.to_be_bytes();
    if self::ip(names.own).is_ipv4() {
        ip.icmpv4_raw(kind.0, kind.1, rest).write(&mut bytes, &quote[..quote.len().min(100)]).unwrap();
    } else {
        ip.icmpv6_raw(kind.0, kind.1, rest).write(&mut bytes, &quote[..quote.len().min(200)]).unwrap();
    }
    bytes
}

#[test]
fn a_socket_hears_of_icmp_errors_about_what_it_sent() {
    let host = Host::new(LocalLimits::default()).knows_servers();
    for names in FAMILIES {
        let is_v4 = ip(names.own).is_ipv4();
        let ways = [
            (names.server, Way::Direct),
            (names.vip, by(names, 80, Forwarding::Nat)),
            (names.vip, by(names, 80, Forwarding::Direct)),
            (names.vip, by(names, 80, Forwarding::Tunnel(Tunnel::Ipip))),
            (names.vip, by(names, 80, Forwarding::Tunnel(TUNNELS[1]))),
            (names.vip, by(names, 80, Forwarding::Tunnel(TUNNELS[3]))),
        ];
        let kinds = match is_v4 {
            true => [
                ((3, 1), Failure::HostUnreachable),
                ((3, 0), Failure::NetUnreachable),
                ((3, 3), Failure::PortUnreachable),
                ((3, 13), Failure::Prohibited),
                ((11, 0), Failure::TtlExceeded),
            ],
            false => [
                ((1, 3), Failure::HostUnreachable),
                ((1, 0), Failure::NetUnreachable),
                ((1, 4), Failure::PortUnreachable),
                ((1, 1), Failure::Prohibited),
                ((3, 0), Failure::TtlExceeded),
            ],
        };
        for (remote, way) in ways {
            let (own, port, mtu) = host.open(Transport::Tcp, (remote, 80), way);
            let sent = host.leaves(&packet(Transport::Tcp, (own, port), (ip(remote), 80), b"hello"));
            for (kind, failure) in kinds {
                assert_eq!(
                    host.comes(&error(names, kind, 0, &sent)),
                    Verdict::Consume,
                    "{way:?} {failure:?}"
                );
                host.is_told((Transport::Tcp, port), failure);
            }
            let too_big = if is_v4 { (3, 4) } else { (2, 0) };
            assert_eq!(host.comes(&error(names, too_big, 1400, &sent)), Verdict::Consume);
            let known = host.director().local_mtu(Transport::Tcp, port, host.bench.now).unwrap();
            let is_tunnel = matches!(way, Way::Destination { forwarding: Forwarding::Tunnel(_), .. });
            // What is learned about a tunnel's end is known to all; else it is the socket's own.
            let want = if is_tunnel { mtu.min(known) } else { 1400 };
            host.is_told((Transport::Tcp, port), Failure::TooBig { mtu: want });
            if is_tunnel {
                assert!(known < 1400 && known > 1300, "{known}");
            }
            let mut wrong = error(names, kinds[0].0, 0, &sent);
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(host.comes(&wrong), Verdict::Drop(DropReason::BadChecksum));
            host.director().close_local(Transport::Tcp, port);
            let late = host.comes(&error(names, kinds[0].0, 0, &sent));
            assert_eq!(late, Verdict::Drop(DropReason::IcmpUnrelated), "nobody is there any more");
        }
    }
    host.left_no_trace();
}

#[test]
fn a_socket_hears_of_a_next_hop_that_does_not_answer() {
    for way in [Forwarding::Nat, Forwarding::Direct, Forwarding::Tunnel(Tunnel::Ipip)] {
        let mut host = Host::new(LocalLimits::default());
        for names in FAMILIES {
            let (own, port, _) = host.open(Transport::Tcp, (names.vip, 80), by(names, 80, way));
            let (verdict, sent) = host.send(&packet(Transport::Tcp, (own, port), (ip(names.vip), 80), b""));
            assert_eq!((verdict, sent.len()), (Verdict::Consume, 1), "it waits while ARP or ND asks");
            host.bench.advance(Duration::from_secs(10));
            host.is_told((Transport::Tcp, port), Failure::NoNeighbor);
        }
        host.left_no_trace();
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let limits = LocalLimits { ports: 50000..=50003, packets: 2 };
    let host = Host::new(limits.clone()).knows_servers();
    let [v4, v6] = FAMILIES;
    let open = |spec: SocketSpec| host.director().open_local(&spec, host.bench.now).err();
    let tcp = |remote, way| spec(Transport::Tcp, (remote, 80), way);
    assert_eq!(open(tcp("203.0.113.1", Way::Direct)), Some(OpenError::NoRoute(ip("203.0.113.1"))));
    assert_eq!(open(tcp(v4.vip, Way::Direct)), Some(OpenError::OwnAddress(ip(v4.vip))));
    let other = by(v6, 80, Forwarding::Nat);
    assert!(matches!(open(tcp(v4.vip, other)), Some(OpenError::NoWay { forwarding: "nat", .. })));
    let other = by(v6, 80, Forwarding::Direct);
    assert!(matches!(open(tcp(v4.vip, other)), Some(OpenError::NoWay { forwarding: "dr", .. })));
    let ping = spec(Transport::Echo, (v4.vip, 0), by(v4, 80, Forwarding::Nat));
    assert!(matches!(open(ping), Some(OpenError::NoWay { forwarding: "nat", .. })));
    let source = Some(ip("192.168.10.9"));
    let foreign = SocketSpec { source, ..tcp(v4.server, Way::Direct) };
    assert_eq!(open(foreign), Some(OpenError::NotOurs(ip("192.168.10.9"))));
    let mine = SocketSpec { source: Some(ip("10.0.0.1")), ..tcp(v4.server, Way::Direct) };
    let bound = host.director().open_local(&mine, host.bench.now).unwrap();
    assert_eq!((bound.addr, bound.port), (ip("10.0.0.1"), 50000));
    host.director().close_local(Transport::Tcp, 50000);
    // A port that a service on that address takes is none for a socket.
    let key = ServiceKey::new(Protocol::Tcp, "192.168.10.1:50002".parse().unwrap());
    host.bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
    let ports: Vec<u16> = (0..3).map(|_| host.open(Transport::Tcp, (v4.server, 80), Way::Direct).1).collect();
    assert_eq!(ports, [50001, 50003, 50000], "the one that was let go of comes last");
    assert_eq!(open(tcp(v4.server, Way::Direct)), Some(OpenError::PortsInUse(4)));
    assert_eq!(host.open(Transport::Udp, (v4.server, 53), Way::Direct).1, 50001, "UDP has its own");
    // Behind a TUN device there are no MAC addresses; a director that was given no ports has none.
    let tun = Host::on(Link::Ip, limits);
    let dr = tcp(v4.vip, by(v4, 80, Forwarding::Direct));
    let refused = tun.director().open_local(&dr, tun.bench.now);
    assert!(matches!(refused, Err(OpenError::NoWay { forwarding: "dr", .. })));
    let plain = Bench::new();
    let none = plain.director.open_local(&tcp("192.168.10.11", Way::Direct), plain.now);
    assert_eq!(none, Err(OpenError::NoPorts));
}

#[test]
fn what_nobody_takes_out_does_not_pile_up_and_who_floods_takes_nobody_elses_room() {
    let host = Host::new(LocalLimits { ports: 50000..=50009, packets: 64 }).knows_servers();
    let [v4, _] = FAMILIES;
    let open = || host.open(Transport::Udp, (v4.server, 53), Way::Direct).1;
    let (flooded, quiet) = (open(), open());
    let comes = |port| host.comes(&packet(Transport::Udp, (ip(v4.server), 53), (ip(v4.own), port), b"x"));
    let taken = |port, times: usize| (0..times).filter(|_| comes(port) == Verdict::Consume).count();
    let full = Verdict::Drop(DropReason::LocalQueueFull);
    assert_eq!((taken(flooded, 1000), comes(flooded)), (32, full), "half of the room, and no more");
    assert_eq!(host.wakes.load(Relaxed), 1, "woken once for all");
    assert_eq!((taken(quiet, 8), comes(flooded)), (8, full), "the other socket has room all the same");
    assert_eq!(taken(quiet, 1000), 8, "half of what there was");
    // What has been taken out makes room again, for those that it was of, too.
    let all = std::iter::from_fn(|| host.director().receive_local()).count();
    assert_eq!((all, taken(quiet, 1000), taken(flooded, 1000)), (48, 32, 16));
    assert_eq!(std::iter::from_fn(|| host.director().receive_local()).count(), 48);
}

#[test]
fn the_way_to_a_destination_is_that_of_its_service() {
    let host = Host::new(LocalLimits::default());
    let key = ServiceKey::new(Protocol::Tcp, "10.0.0.100:80".parse().unwrap());
    host.bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
    let addr = "192.168.10.11:8080".parse().unwrap();
    assert_eq!(host.director().way_to(key, addr), None);
    host.bench.apply(Change::AddDestination(key, DestinationSpec::new(addr, Forwarding::Nat)));
    let way = Way::Destination { addr: addr.ip(), port: 8080, forwarding: Forwarding::Nat };
    assert_eq!(host.director().way_to(key, addr), Some(way));
}
