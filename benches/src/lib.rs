//! Scenarios that benches share: a director with a service of each method, and the packets that hit it.

pub mod scenario;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use uvs_director::scheduler::{Flow, NativeOnly, SchedulerFactory};
use uvs_director::spec::{
    Change, DestinationSpec, Family, Forwarding, InterfaceSpec, Limits, Link, MacAddr, Prefix, Protocol,
    SchedulerSpec, ServiceKey, ServiceSpec, SourceCheck, Tunnel,
};
use uvs_director::{Director, Frame, Instant, Outbox, PortId, Verdict};
use uvs_wire::ipv4::Ipv4Repr;
use uvs_wire::ipv6::Ipv6Repr;
use uvs_wire::{Packet, ethernet, ipv4, ipv6, tcp};

/// Where clients are.
pub const CLIENT_SIDE: PortId = PortId(0);
/// Where real servers are.
pub const SERVER_SIDE: PortId = PortId(1);

const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const C0_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const R0_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const RS_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 0x11]);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const RIP: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 11);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
const RIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0x10, 0, 0, 0, 0x11);

/// Both families with the name that benches print.
pub const FAMILIES: [(&str, Family); 2] = [("v4", Family::V4), ("v6", Family::V6)];

/// A forwarding method with the name that benches print.
pub const METHODS: [(&str, Forwarding); 3] =
    [("nat", Forwarding::Nat), ("dr", Forwarding::Direct), ("tun", Forwarding::Tunnel(Tunnel::Ipip))];

fn of_family<T>(family: Family, v4: impl Into<T>, v6: impl Into<T>) -> T {
    match family {
        Family::V4 => v4.into(),
        Family::V6 => v6.into(),
    }
}

/// A director with one TCP service on VIP:80 and one destination of IPv4, reached by `forwarding`.
///
/// # Panics
/// When the director refuses its own configuration.
pub fn director(forwarding: Forwarding, connections: usize) -> Director {
    director_with(Family::V4, forwarding, connections, Arc::new(NativeOnly))
}

/// The same of either family, whose scheduler `schedulers` makes.
///
/// # Panics
/// When the director refuses its own configuration.
pub fn director_with(
    family: Family,
    forwarding: Forwarding,
    connections: usize,
    schedulers: Arc<dyn SchedulerFactory>,
) -> Director {
    director_with_vips(family, forwarding, connections, schedulers, 0)
}

/// The same with so many VIPs more, at most 65,536.
pub fn director_with_vips(
    family: Family,
    forwarding: Forwarding,
    connections: usize,
    schedulers: Arc<dyn SchedulerFactory>,
    vips: usize,
) -> Director {
    let limits = Limits { connections, ..Limits::default() };
    let director = Director::new(limits, 1, schedulers);
    let interface = |port, name: &str, mac, addresses: &[&str]| InterfaceSpec {
        port,
        name: name.into(),
        link: Link::Ethernet(mac),
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().expect("an address")).collect(),
        source_check: SourceCheck::Loose,
    };
    let route = |to: &str, via: IpAddr| uvs_director::spec::RouteSpec {
        to: to.parse().expect("a prefix"),
        via: Some(via),
        port: CLIENT_SIDE,
    };
    let (vip, rip): (IpAddr, IpAddr) = (of_family(family, VIP, VIP_V6), of_family(family, RIP, RIP_V6));
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(vip, 80));
    let client_side = ["10.0.0.1/24", "10.0.0.100/32", "2001:db8::1/64", "2001:db8::100/128"];
    let mut clients = interface(CLIENT_SIDE, "c0", C0_MAC, &client_side);
    clients.addresses.extend((0..vips).map(|n| {
        let [.., hi, lo] = n.to_be_bytes();
        let (v4, v6) =
            (Ipv4Addr::new(10, 9, hi, lo), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, hi.into(), lo.into()));
        let vip: IpAddr = of_family(family, v4, v6);
        Prefix::host(vip)
    }));
    let changes = [
        Change::SetNetwork {
            interfaces: vec![
                clients,
                interface(SERVER_SIDE, "r0", R0_MAC, &["192.168.10.1/24", "2001:db8:0:10::1/64"]),
            ],
            routes: vec![route("0.0.0.0/0", GATEWAY.into()), route("::/0", GATEWAY_V6.into())],
        },
        Change::SetNeighbor { port: CLIENT_SIDE, addr: GATEWAY.into(), mac: CLIENT_MAC },
        Change::SetNeighbor { port: CLIENT_SIDE, addr: GATEWAY_V6.into(), mac: CLIENT_MAC },
        Change::SetNeighbor { port: SERVER_SIDE, addr: rip, mac: RS_MAC },
        Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))),
        Change::AddDestination(key, DestinationSpec::new(SocketAddr::new(rip, 80), forwarding)),
    ];
    for change in changes {
        director.apply(change, Instant::ZERO).expect("a valid change");
    }
    director
}

/// The `n`th client: an address of 16.0.0.0/4 and a port.
pub fn client(n: usize) -> (Ipv4Addr, u16) {
    let n = u32::try_from(n).expect("fewer clients than addresses");
    (Ipv4Addr::from_bits(0x1000_0000 + n / 60_000), u16::try_from(1024 + n % 60_000).expect("a port"))
}

fn client_of(family: Family, n: usize) -> (IpAddr, u16) {
    let (addr, port) = client(n);
    // 2001:db8:1::/48, each client in a network of its own.
    let v6 = 0x2001_0db8_0001 << 80 | u128::from(addr.to_bits()) << 48 | 1;
    (of_family(family, addr, Ipv6Addr::from_bits(v6)), port)
}

/// An Ethernet frame with a TCP segment from the `n`th client to VIP:80, `len` bytes of payload.
pub fn request(n: usize, flags: u8, len: usize) -> Vec<u8> {
    request_of(Family::V4, n, flags, len)
}

/// The same of either family.
pub fn request_of(family: Family, n: usize, flags: u8, len: usize) -> Vec<u8> {
    let to = (of_family(family, VIP, VIP_V6), 80);
    segment(client_of(family, n), to, flags, len, (C0_MAC, CLIENT_MAC))
}

/// An Ethernet frame with the destination's answer to the `n`th client.
pub fn reply(n: usize, flags: u8, len: usize) -> Vec<u8> {
    reply_of(Family::V4, n, flags, len)
}

/// The same of either family.
pub fn reply_of(family: Family, n: usize, flags: u8, len: usize) -> Vec<u8> {
    let from = (of_family(family, RIP, RIP_V6), 80);
    segment(from, client_of(family, n), flags, len, (R0_MAC, RS_MAC))
}

fn segment(
    (src, sport): (IpAddr, u16),
    (dst, dport): (IpAddr, u16),
    flags: u8,
    len: usize,
    (to, from): (MacAddr, MacAddr),
) -> Vec<u8> {
    const IP: usize = ethernet::HEADER_LEN;
    let payload_len = u16::try_from(tcp::HEADER_LEN + len).expect("fits into a packet");
    let mut frame = vec![0; IP + ipv6::HEADER_LEN + tcp::HEADER_LEN + len];
    let header_len = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ethernet::write(&mut frame, to.0, from.0, ethernet::ETHERTYPE_IPV4);
            let dont_fragment = true;
            let header =
                Ipv4Repr { src, dst, protocol: 6, ttl: 64, tos: 0, id: 1, dont_fragment, payload_len };
            header.emit(&mut frame[IP..]);
            ipv4::HEADER_LEN
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ethernet::write(&mut frame, to.0, from.0, ethernet::ETHERTYPE_IPV6);
            let header = Ipv6Repr { src, dst, next_header: 6, hop_limit: 64, traffic_class: 0, payload_len };
            header.emit(&mut frame[IP..]);
            ipv6::HEADER_LEN
        }
        _ => unreachable!("both ends are of one family"),
    };
    let at = IP + header_len;
    frame.truncate(at + tcp::HEADER_LEN + len);
    frame[at..at + 2].copy_from_slice(&sport.to_be_bytes());
    frame[at + 2..at + 4].copy_from_slice(&dport.to_be_bytes());
    frame[at + 12] = 5 << 4;
    frame[at + 13] = flags;
    let packet = Packet::parse(&frame[IP..]).expect("a valid packet");
    let sum = packet.transport_sum(&frame[IP..]).finish();
    frame[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Clients below `n` in an order that no cache can guess, one after the other.
pub fn shuffled(n: usize) -> impl Iterator<Item = usize> {
    // A prime, and no divisor of any table's size.
    (0..n).map(move |i| i * 611_953 % n)
}

/// Establishes connections of clients `0..n`.
///
/// # Panics
/// When one is refused.
pub fn establish(director: &Director, n: usize) {
    establish_of(Family::V4, director, n);
}

/// The same of either family.
///
/// # Panics
/// When one is refused.
pub fn establish_of(family: Family, director: &Director, n: usize) {
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    for client in 0..n {
        for flags in [tcp::SYN, tcp::ACK] {
            frame.fill(&request_of(family, client, flags, 0));
            let verdict = director.handle(CLIENT_SIDE, &mut frame, Instant::ZERO, &mut out);
            assert_eq!(verdict, Verdict::Transmit(SERVER_SIDE), "client {client}");
        }
    }
}

/// The flow of the `n`th client, as a scheduler sees it.
pub fn flow(n: usize) -> Flow {
    let (addr, port) = client(n);
    Flow {
        protocol: Protocol::Tcp,
        client: IpAddr::V4(addr),
        client_port: port,
        virtual_addr: IpAddr::V4(VIP),
        virtual_port: 80,
        mark: 0,
    }
}
