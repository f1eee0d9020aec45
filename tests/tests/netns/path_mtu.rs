//! Links on the way to a real server that are narrower than the client's: TCP finds out and goes on.
//!
//! ```text
//!   client --- director --- near --- far --- rs1
//!     1500        |    first   second  1500
//!                 c0
//! ```
//! Client and real server agree on segments for 1500 bytes. What does not fit is a matter of ICMP fragmentation needed:
//! the director's own where the first link is narrow, a router's, translated by the director, where the second is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{Icmpv4Type, SlicedPacket, TransportSlice, icmpv4};
use uvs_director::spec::{MacAddr, Prefix};
use uvs_lab::Host;
use uvs_lab::capture::{Capture, Heard};
use uvs_lab::net::{End, connect};
use uvs_lab::topology::{METRICS, Method, Plan, mac};

use crate::peer::{Peer, stream_both_ways};
use crate::stage::{NAT_PORT, Running, Stage, eventually, topology, turn};

const LENGTH: u64 = 1 << 20;
const NARROW: u32 = 1300;

struct Way {
    client: Host,
    director: Host,
    real_server: Host,
    /// What the way goes over; they are there as long as this is.
    _routers: [Host; 2],
}

fn cable(one: (&Host, &str), other: (&Host, &str), segment: u8, mtu: u32) {
    let end = |(host, name), last| End { host, name, mac: mac(segment, last) };
    // The director's card stands behind a bridge, where its TAP has the address that ends in 1.
    connect(end(one, 101), end(other, 2)).unwrap();
    for (host, name) in [one, other] {
        host.net().set_mtu(name, mtu).unwrap();
    }
}

fn address(host: &Host, name: &str, address: &str) {
    host.net().add_address(name, address.parse().unwrap()).unwrap();
}

fn route(host: &Host, to: &str, via: &str) {
    host.net().add_route(to.parse::<Prefix>().unwrap(), via.parse::<IpAddr>().unwrap()).unwrap();
}

impl Way {
    fn new(first: u32, second: u32) -> Self {
        let [client, director, near, far, real_server] =
            ["client", "director", "near", "far", "rs1"].map(|name| Host::new(name).unwrap());
        cable((&director, "eth0"), (&client, "eth0"), 1, 1500);
        cable((&director, "eth1"), (&near, "eth0"), 2, first);
        cable((&near, "eth1"), (&far, "eth0"), 3, second);
        cable((&far, "eth1"), (&real_server, "eth0"), 4, 1500);
        address(&client, "eth0", "10.0.0.2/24");
        address(&near, "eth0", "192.168.10.2/24");
        address(&near, "eth1", "192.168.20.1/24");
        address(&far, "eth0", "192.168.20.2/24");
        address(&far, "eth1", "192.168.30.1/24");
        address(&real_server, "eth0", "192.168.30.11/24");
        route(&near, "0.0.0.0/0", "192.168.10.1");
        route(&near, "192.168.30.0/24", "192.168.20.2");
        route(&far, "0.0.0.0/0", "192.168.20.1");
        route(&real_server, "0.0.0.0/0", "192.168.30.1");
        for router in [&near, &far] {
            router.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
        }
        Self { client, director, real_server, _routers: [near, far] }
    }
}

fn config(first: u32) -> String {
    let interface = |name: &str, mac: MacAddr, address: &str, mtu: u32, port: &str| {
        format!(
            "[[interface]]\nname = \"{name}\"\ndevice = \"tap\"\nmac = \"{mac}\"\nmtu = {mtu}\n\
             addresses = [\"{address}\"]\nbridge = {{ name = \"br-{name}\", ports = [\"{port}\"] }}\n\n"
        )
    };
    format!(
        "[metrics]\nlisten = \"{METRICS}\"\n\n{}{}\
         [[route]]\nto = \"192.168.0.0/16\"\nvia = \"192.168.10.2\"\n\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"10.0.0.100:80\"\nscheduler = \"rr\"\nforward = \"nat\"\n\
         destination = [{{ address = \"192.168.30.11:{NAT_PORT}\" }}]\n",
        interface("c0", mac(1, 1), "10.0.0.1/24", 1500, "eth0"),
        interface("r0", mac(2, 1), "192.168.10.1/24", first, "eth1"),
    )
}

/// Whether a frame is ICMP fragmentation needed about a packet to `target`; the MTU it tells.
fn told_mtu(heard: &Heard, target: Ipv4Addr) -> Option<u16> {
    let packet = SlicedPacket::from_ethernet(&heard.bytes).ok()?;
    let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { return None };
    let Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
        next_hop_mtu,
    }) = icmp.icmp_type()
    else {
        return None;
    };
    (icmp.payload().get(16..20)? == target.octets()).then_some(next_hop_mtu)
}

#[test]
fn a_narrow_link_on_the_way_through_nat() {
    let Some(_turn) = turn() else { return };
    for (first, second, what) in
        [(NARROW, 1500, "the director's own link"), (1500, NARROW, "a link further on")]
    {
        let way = Way::new(first, second);
        let listen: SocketAddr = (Ipv4Addr::new(192, 168, 30, 11), NAT_PORT).into();
        let peer = Peer::start(&way.real_server, listen);
        let director = Running::start(&way.director, &config(first));
        let capture = Capture::start(&way.client).unwrap();
        let vip = Ipv4Addr::new(10, 0, 0, 100);
        way.client
            .run(|| {
                stream_both_ways((vip, 80).into(), 3, LENGTH, || ())
                    .unwrap_or_else(|error| panic!("{what}: {error:#}"))
            })
            .unwrap();
        let streams = eventually("the real server has compared all", || {
            Some(peer.streams()).filter(|streams| !streams.is_empty())
        });
        assert_eq!(streams, [Ok(())], "{what}");
        let told: Vec<u16> = capture
            .take()
            .unwrap()
            .iter()
            .filter(|heard| !heard.sent)
            .filter_map(|heard| told_mtu(heard, vip))
            .collect();
        assert!(!told.is_empty(), "{what}: the client was told of it");
        assert!(told.iter().all(|mtu| u32::from(*mtu) == NARROW), "{what}: {told:?}");
        drop(director);
    }
}

#[test]
fn a_narrow_link_on_the_way_through_a_tunnel() {
    let Some(_turn) = turn() else { return };
    for (narrow, mtu, what) in [
        (false, 1480, "the outer header needs room"),
        (true, NARROW - 20, "a link behind the router is narrow"),
    ] {
        let topology = topology(Method::Tunnel, &Plan { real_servers: 1, ..Plan::default() });
        if narrow {
            // The client learns the real server's limit from its MSS, but not that a tunnel leads there.
            topology.router.as_ref().unwrap().net().set_mtu("eth1", NARROW).unwrap();
            topology.real_servers[0].host.net().set_mtu("eth0", NARROW).unwrap();
        }
        let (service, config) = (topology.service, topology.config.clone());
        let stage = Stage::on(topology, &config);
        let capture = Capture::start(stage.client()).unwrap();
        let client = stage
            .client()
            .run(|| {
                stream_both_ways(service, 5, LENGTH, || ())
                    .unwrap_or_else(|error| panic!("{what}: {error:#}"))
            })
            .unwrap();
        let peer = &stage.peers[stage.server_of(client)];
        let streams = eventually("the real server has compared all", || {
            Some(peer.streams()).filter(|streams| !streams.is_empty())
        });
        assert_eq!(streams, [Ok(())], "{what}");
        let IpAddr::V4(vip) = service.ip() else { panic!("the VIP is IPv4") };
        let told: Vec<u16> = capture
            .take()
            .unwrap()
            .iter()
            .filter(|heard| !heard.sent)
            .filter_map(|heard| told_mtu(heard, vip))
            .collect();
        assert_eq!(told.last().copied().map(u32::from), Some(mtu), "{what}: the client was told {told:?}");
    }
}
