//! Scenarios that benches share: a director with a service of each method, and the packets that hit it.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use uvs_director::scheduler::{Flow, NativeOnly};
use uvs_director::spec::{
    Change, DestinationSpec, Forwarding, InterfaceSpec, Limits, Link, MacAddr, Protocol, SchedulerSpec,
    ServiceKey, ServiceSpec, Tunnel,
};
use uvs_director::{Director, Frame, Instant, Outbox, PortId, Verdict};
use uvs_wire::ipv4::{HEADER_LEN, Ipv4Repr};
use uvs_wire::{Packet, ethernet, tcp};

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

/// A forwarding method with the name that benches print.
pub const METHODS: [(&str, Forwarding); 3] =
    [("nat", Forwarding::Nat), ("dr", Forwarding::Direct), ("tun", Forwarding::Tunnel(Tunnel::Ipip))];

/// A director with one TCP service on VIP:80 and one destination, reached by `forwarding`.
///
/// # Panics
/// When the director refuses its own configuration.
pub fn director(forwarding: Forwarding, connections: usize) -> Director {
    let limits = Limits { connections, ..Limits::default() };
    let director = Director::new(limits, 1, Arc::new(NativeOnly));
    let interface = |port, name: &str, mac, addresses: &[&str]| InterfaceSpec {
        port,
        name: name.into(),
        link: Link::Ethernet(mac),
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().expect("an address")).collect(),
    };
    let route = uvs_director::spec::RouteSpec {
        to: "0.0.0.0/0".parse().expect("a prefix"),
        via: Some(GATEWAY.into()),
        port: CLIENT_SIDE,
    };
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), 80));
    let changes = [
        Change::SetNetwork {
            interfaces: vec![
                interface(CLIENT_SIDE, "c0", C0_MAC, &["10.0.0.1/24", "10.0.0.100/32"]),
                interface(SERVER_SIDE, "r0", R0_MAC, &["192.168.10.1/24"]),
            ],
            routes: vec![route],
        },
        Change::SetNeighbor { port: CLIENT_SIDE, addr: GATEWAY.into(), mac: CLIENT_MAC },
        Change::SetNeighbor { port: SERVER_SIDE, addr: RIP.into(), mac: RS_MAC },
        Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))),
        Change::AddDestination(key, DestinationSpec::new(SocketAddr::new(RIP.into(), 80), forwarding)),
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

/// An Ethernet frame with a TCP segment from the `n`th client to VIP:80, `len` bytes of payload.
pub fn request(n: usize, flags: u8, len: usize) -> Vec<u8> {
    segment(client(n), (VIP, 80), flags, len, (C0_MAC, CLIENT_MAC))
}

/// An Ethernet frame with the destination's answer to the `n`th client.
pub fn reply(n: usize, flags: u8, len: usize) -> Vec<u8> {
    segment((RIP, 80), client(n), flags, len, (R0_MAC, RS_MAC))
}

fn segment(
    (src, sport): (Ipv4Addr, u16),
    (dst, dport): (Ipv4Addr, u16),
    flags: u8,
    len: usize,
    (to, from): (MacAddr, MacAddr),
) -> Vec<u8> {
    const IP: usize = ethernet::HEADER_LEN;
    const TCP: usize = IP + HEADER_LEN;
    let mut frame = vec![0; TCP + tcp::HEADER_LEN + len];
    ethernet::write(&mut frame, to.0, from.0, ethernet::ETHERTYPE_IPV4);
    let payload_len = u16::try_from(tcp::HEADER_LEN + len).expect("fits into a packet");
    let header = Ipv4Repr { src, dst, protocol: 6, ttl: 64, tos: 0, id: 1, dont_fragment: true, payload_len };
    header.emit(&mut frame[IP..]);
    frame[TCP..TCP + 2].copy_from_slice(&sport.to_be_bytes());
    frame[TCP + 2..TCP + 4].copy_from_slice(&dport.to_be_bytes());
    frame[TCP + 12] = 5 << 4;
    frame[TCP + 13] = flags;
    let packet = Packet::parse(&frame[IP..]).expect("a valid packet");
    let sum = uvs_wire::checksum::transport(&frame[IP..], &packet).finish();
    frame[TCP + 16..TCP + 18].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Establishes connections of clients `0..n`.
///
/// # Panics
/// When one is refused.
pub fn establish(director: &Director, n: usize) {
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    for client in 0..n {
        for flags in [tcp::SYN, tcp::ACK] {
            frame.fill(&request(client, flags, 0));
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
