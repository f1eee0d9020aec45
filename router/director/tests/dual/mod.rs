//! Both families on both wires, for what is the same in both: fragments, tunnels, MTU.
//!
//! ```text
//!   client 10.0.0.2     --- c0 10.0.0.1, VIP 10.0.0.100   [director] r0 192.168.10.1 --- rs 192.168.10.11
//!          fd00:1::2            fd00:1::1,   fd00:1::100                fd00:2::1           fd00:2::11
//! ```

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, reason = "a test harness")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::*;
use uvs_director::{Director, Instant};
use uvs_wire::{Packet, fragment, ipv4};

use crate::common::*;

pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100);
pub const DIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1);
pub const RS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x11);
pub const DIP_R: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 10, 1);

/// The client's, the VIP's, the director's server-side and the server's address.
pub fn addresses(v4: bool) -> [IpAddr; 4] {
    if v4 {
        [CLIENT.into(), VIP.into(), DIP_R.into(), RS1.into()]
    } else {
        [CLIENT6.into(), VIP6.into(), DIP6.into(), RS6.into()]
    }
}

pub fn lab(limits: Limits, options: Options, server_mtu: u32) -> Bench {
    let bench =
        Bench { director: Director::new(limits, 7, Arc::new(NativeOnly)), now: Instant::from_secs(1) };
    let interface = |port, mac, mtu, addresses: &[&str]| InterfaceSpec {
        port,
        name: format!("port{}", port.0),
        link: Link::Ethernet(MacAddr(mac)),
        mtu,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        source_check: SourceCheck::Loose,
    };
    let client_side = ["10.0.0.1/24", "10.0.0.100/32", "fd00:1::1/64", "fd00:1::100/128"];
    bench.apply(Change::SetNetwork {
        interfaces: vec![
            interface(CLIENT_SIDE, C0_MAC, 1500, &client_side),
            interface(SERVER_SIDE, R0_MAC, server_mtu, &["192.168.10.1/24", "fd00:2::1/64"]),
        ],
        routes: vec![],
    });
    for v4 in [true, false] {
        let [client, _, _, server] = addresses(v4);
        for (port, addr, mac) in [(CLIENT_SIDE, client, CLIENT_MAC), (SERVER_SIDE, server, RS1_MAC)] {
            bench.apply(Change::SetNeighbor { port, addr, mac: MacAddr(mac) });
        }
    }
    bench.apply(Change::SetOptions(options));
    bench
}

/// A service on the VIP, port 53 of UDP and 80 of TCP, with one destination.
pub fn serve(bench: &Bench, v4: bool, forwarding: Forwarding, destination: IpAddr) {
    for (protocol, port) in [(Protocol::Udp, 53), (Protocol::Tcp, 80)] {
        let key = ServiceKey::new(protocol, SocketAddr::new(addresses(v4)[1], port));
        bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
        let port = if forwarding == Forwarding::Nat { 5353 } else { port };
        let spec = DestinationSpec::new(SocketAddr::new(destination, port), forwarding);
        bench.apply(Change::AddDestination(key, spec));
    }
}

/// An IP packet with a UDP datagram of so much data. `df` counts for IPv4.
pub fn datagram(from: (IpAddr, u16), to: (IpAddr, u16), len: usize, df: bool) -> Vec<u8> {
    let data: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let mut bytes = Vec::new();
    match (from.0, to.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let builder = PacketBuilder::ipv4(src.octets(), dst.octets(), 64).udp(from.1, to.1);
            builder.write(&mut bytes, &data).unwrap();
            bytes[4..8].copy_from_slice(&[0x12, 0x34, if df { 0x40 } else { 0 }, 0]);
            ipv4::fill_checksum(&mut bytes);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let builder = PacketBuilder::ipv6(src.octets(), dst.octets(), 64).udp(from.1, to.1);
            builder.write(&mut bytes, &data).unwrap();
        }
        _ => panic!("two families"),
    }
    bytes
}

/// The client's request to the UDP service.
pub fn request(v4: bool, len: usize, df: bool) -> Vec<u8> {
    let [client, vip, ..] = addresses(v4);
    datagram((client, 4000), (vip, 53), len, df)
}

/// In Ethernet, to the director.
pub fn to_director(ip: &[u8]) -> Vec<u8> {
    let packet = Packet::parse(ip).unwrap();
    let servers = [addresses(true)[3], addresses(false)[3]];
    let (from, to) = if servers.contains(&packet.src.to_ip()) || packet.src.to_ip() == IpAddr::from(RS2) {
        (RS1_MAC, R0_MAC)
    } else {
        (CLIENT_MAC, C0_MAC)
    };
    let kind = if packet.is_v4() { [8, 0] } else { [0x86, 0xdd] };
    [&to[..], &from, &kind, ip].concat()
}

/// Fragments with so many bytes of data, and the rest in a last one.
pub fn cut(ip: &[u8], lengths: &[u16]) -> Vec<Vec<u8>> {
    let header = if ip[0] >> 4 == 4 { 20 } else { 40 };
    let rest = ip.len() - header - lengths.iter().map(|&length| usize::from(length)).sum::<usize>();
    let lengths = [lengths, &[u16::try_from(rest).unwrap()]].concat();
    if lengths.len() == 1 {
        return vec![ip.to_vec()];
    }
    let (mut list, mut buffer) = (Vec::new(), vec![0; 70_000]);
    let each = |bytes: &[u8]| list.push(bytes.to_vec());
    if header == 20 {
        fragment::refragment_v4(ip, 65_535, &lengths, ip[6] & 0x40 != 0, &mut buffer, each).unwrap();
    } else {
        fragment::refragment_v6(ip, 65_535, &lengths, 99, &mut buffer, each).unwrap();
    }
    list
}

/// The packet that these frames are the fragments of, in order; and the length of each.
pub fn join(frames: &Sent) -> (Vec<u8>, Vec<usize>) {
    let parts: Vec<_> = frames.iter().map(|(_, frame)| &frame[14..]).collect();
    if parts.len() == 1 {
        return (parts[0].to_vec(), vec![parts[0].len()]);
    }
    let packets: Vec<_> = parts.iter().map(|ip| Packet::parse(ip).unwrap()).collect();
    let mut data = Vec::new();
    for (packet, ip) in packets.iter().zip(&parts) {
        assert_eq!(usize::from(packet.fragment_offset), data.len(), "in order, without a hole");
        assert_eq!(packet.id, packets[0].id, "one id");
        data.extend_from_slice(&ip[fragment::data_start(packet)..]);
    }
    assert!(packets.iter().rev().skip(1).all(|packet| packet.more_fragments));
    assert!(!packets.last().unwrap().more_fragments);
    let mut whole = vec![0; 128];
    let (tos, df) = (packets[0].tos, packets[0].is_v4() && packets[0].dont_fragment);
    let length = fragment::emit_whole_header(parts[0], &packets[0], tos, df, data.len(), &mut whole).unwrap();
    whole.truncate(length);
    whole.extend(data);
    (whole, parts.iter().map(|part| part.len()).collect())
}
