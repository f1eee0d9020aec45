//! The director under test: two wires as in the recordings and a layer 3 device, and changes to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use uvs_director::spec::{
    Change, DestinationSpec, Evict, Family, Forwarding, InterfaceSpec, Limits, Link, MacAddr, MarkRule,
    Options, Persistence, Protocol, RouteSpec, SchedulerSpec, ServiceKey, ServiceSpec, SourceCheck, Timeouts,
    Transit, Tunnel, TunnelChecksum,
};
use uvs_director::{Director, Duration, Instant, PortId};

use super::packet::SERVICE_PORTS;
use crate::schedulers::Shipped;
use crate::script::Script;

/// Interfaces 0 and 1 are layer 2, 2 is layer 3.
pub(crate) const PORTS: u16 = 3;
pub(crate) const MACS: [Option<[u8; 6]>; PORTS as usize] =
    [Some([2, 0, 0, 0, 0, 1]), Some([2, 0, 0, 0, 1, 1]), None];
/// Where frames come from.
pub(crate) const STATION: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// Real servers that have a static neighbour.
const REAL_SERVERS: u8 = 8;
/// Neighbours that are set, and which no limit counts.
pub(crate) const STATIC_NEIGHBORS: usize = 2 + 2 * REAL_SERVERS as usize + 256;

/// A director with these limits and settings.
pub(crate) fn director(limits: Limits, options: Options, mtu: u32) -> Director {
    let director = Director::new(limits, 1, Arc::new(Shipped));
    network(&director, mtu, Instant::ZERO);
    director.apply(Change::SetOptions(options), Instant::ZERO).expect("options are taken");
    director
}

/// Bounds small enough to be met, or the usual ones.
pub(crate) fn limits(byte: u8) -> Limits {
    let usual = Limits::default();
    let small = |bit: u8, small: usize, usual: usize| if byte >> bit & 1 == 1 { small } else { usual };
    Limits {
        connections: small(0, 6, usual.connections),
        evict: [Evict::Any, Evict::Embryonic, Evict::Any, Evict::None][usize::from(byte >> 6)],
        neighbors: small(1, 20, usual.neighbors),
        neighbor_queue_bytes: small(2, 1000, usual.neighbor_queue_bytes),
        neighbor_queues_bytes: small(2, 3000, usual.neighbor_queues_bytes),
        icmp_errors_per_second: if byte >> 3 & 1 == 1 { 20 } else { 0 },
        fragment_bytes: small(4, 4000, usual.fragment_bytes),
        fragmented_packets: small(5, 2, usual.fragmented_packets),
        fragments_per_packet: small(6, 4, usual.fragments_per_packet),
        transit_flows: small(6, 8, usual.transit_flows),
    }
}

/// All zeros are the defaults.
pub(crate) fn options(bits: u16) -> Options {
    let bit = |at: u8| bits >> at & 1 == 1;
    let level = |at: u8| (bits >> at & 3).to_be_bytes()[1];
    Options {
        conn_reuse_mode: 1 ^ level(0),
        expire_nodest_conn: bit(2),
        expire_quiescent_template: bit(3),
        sloppy_tcp: bit(4),
        sloppy_sctp: bit(4),
        secure_tcp: level(5),
        drop_entry: level(7),
        drop_packet: if bit(9) { 3 } else { 0 },
        nat_icmp_send: bit(10),
        schedule_icmp: bit(11),
        cache_bypass: bit(12),
        ftp: bit(13),
        pmtu_disc: !bit(14),
        compat_ipvs: bit(15),
        transit: if bit(15) { Transit::Any } else { Transit::Servers },
        ..Options::default()
    }
}

fn network(director: &Director, mtu: u32, now: Instant) {
    let interface = |port: u16, mtu, addresses: &[&str]| InterfaceSpec {
        port: PortId(port),
        name: format!("uvs{port}"),
        link: MACS[usize::from(port)].map_or(Link::Ip, |mac| Link::Ethernet(MacAddr(mac))),
        mtu,
        addresses: addresses.iter().map(|text| text.parse().expect("a prefix")).collect(),
        source_check: SourceCheck::Loose,
    };
    let route = |to: &str, via: Option<IpAddr>, port| RouteSpec {
        to: to.parse().expect("a prefix"),
        via,
        port: PortId(port),
    };
    // IPv6 has no link with less (RFC 8200 section 5); the config refuses it.
    let servers: &[&str] =
        if mtu < 1280 { &["192.168.10.1/24"] } else { &["192.168.10.1/24", "fd00:2::1/64"] };
    let gateways: [IpAddr; 2] =
        [Ipv4Addr::new(10, 0, 0, 254).into(), Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xfe).into()];
    let change = Change::SetNetwork {
        interfaces: vec![
            interface(0, 1500, &["10.0.0.1/24", "10.0.0.100/32", "fd00:1::1/64", "fd00:1::100/128"]),
            interface(1, mtu, servers),
            interface(2, 1400, &["10.255.0.1/24", "fd00:3::1/64"]),
        ],
        routes: vec![
            route("10.1.0.0/16", Some(gateways[0]), 0),
            route("fd00:c::/64", Some(gateways[1]), 0),
            route("192.168.30.0/24", None, 2),
        ],
    };
    director.apply(change, now).expect("a sound network");
    let set = |port, addr: IpAddr, mac| {
        let change = Change::SetNeighbor { port: PortId(port), addr, mac: MacAddr(mac) };
        director.apply(change, now).expect("a sound neighbour");
    };
    gateways.into_iter().for_each(|gateway| set(0, gateway, STATION));
    for index in 1..=REAL_SERVERS {
        let mac = [2, 0, 0, 0, 1, 0x10 + index];
        set(1, Ipv4Addr::new(192, 168, 10, 10 + index).into(), mac);
        set(1, Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x10 + u16::from(index)).into(), mac);
    }
}

/// The MTU of the real servers' wire.
pub(crate) fn mtu(byte: u8) -> u32 {
    [1500, 1280, 1400, 576, 9000, 68, 1300, 65_521][usize::from(byte & 7)]
}

/// What a change took away or brought that the counts cannot be told for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Effect {
    /// Something was removed: its connections may still be there, though no listing counts them.
    pub(crate) removed: bool,
    /// The new MTU of the real servers' wire.
    pub(crate) mtu: Option<u32>,
}

/// One change out of a palette; one that is refused changes nothing.
pub(crate) fn change(director: &Director, script: &mut Script<'_>, now: Instant) -> Effect {
    let [which, a, b] = [(); 3].map(|()| script.byte());
    let mut effect = Effect::default();
    let change = match which % 14 {
        0 => Change::SetOptions(options(u16::from_be_bytes([a, b]))),
        1 => Change::SetMarks(marks(a, b)),
        2 => {
            effect.mtu = Some(mtu(a));
            network(director, mtu(a), now);
            return effect;
        }
        3 => {
            let addr = Ipv4Addr::new(192, 168, 10, b).into();
            Change::SetNeighbor { port: PortId(1), addr, mac: MacAddr([2, 0, 0, 0, 7, b]) }
        }
        4 => Change::AddService(service(a, b)),
        5 => Change::AddDestination(key(a), destination(b, script.byte())),
        6 => Change::EditDestination(key(a), destination(b, script.byte())),
        7 => Change::RemoveDestination(key(a), destination(b, script.byte()).addr),
        8 => Change::RemoveService(key(a)),
        9 => Change::EditService(service(a, b)),
        10 => Change::Flush,
        11 => Change::ZeroCounters((a != 0).then(|| key(a))),
        12 => Change::SetTimeouts(Timeouts {
            tcp: Duration::from_secs(u64::from(a)),
            tcp_fin: Duration::from_secs(u64::from(b)),
            udp: Duration::from_secs(1),
        }),
        _ => Change::RenewScheduler(key(a)),
    };
    effect.removed =
        matches!(change, Change::RemoveDestination(..) | Change::RemoveService(_) | Change::Flush);
    let _ = director.apply(change, now);
    effect
}

fn marks(a: u8, b: u8) -> Vec<MarkRule> {
    if a == 0 {
        return Vec::new();
    }
    let protocol = [None, Some(Protocol::Tcp), Some(Protocol::Udp), Some(Protocol::Sctp)][usize::from(a & 3)];
    vec![MarkRule {
        port: (b & 1 == 1).then_some(PortId(0)),
        source_mac: (b & 2 != 0).then_some(MacAddr(STATION)),
        not_source_mac: b & 4 != 0,
        protocol,
        destination_ports: (b & 8 != 0).then_some((53, 100)),
        source_ports: (b & 16 != 0).then_some((1024, 1030)),
        ..MarkRule::new(1 + u32::from(a >> 6))
    }]
}

fn key(a: u8) -> ServiceKey {
    let family = if a & 1 == 0 { Family::V4 } else { Family::V6 };
    let vip: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, 100).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100).into(),
    };
    let port = SERVICE_PORTS[usize::from(a >> 3 & 7) % SERVICE_PORTS.len()];
    let protocol = match a >> 1 & 3 {
        0 => Protocol::Tcp,
        1 => Protocol::Udp,
        2 => Protocol::Sctp,
        _ => return ServiceKey::Mark { mark: 1 + u32::from(a >> 6), family },
    };
    ServiceKey::new(protocol, SocketAddr::new(vip, port))
}

fn service(a: u8, b: u8) -> ServiceSpec {
    let key = key(a);
    let prefix_len = if key.family() == Family::V4 { 24 } else { 64 } + (b >> 3 & 8);
    let persistence = (b & 1 == 1).then(|| Persistence {
        timeout: Duration::from_secs(u64::from(b >> 4)),
        prefix_len,
        engine: None,
    });
    ServiceSpec { persistence, one_packet: b & 2 != 0, ..ServiceSpec::new(key, SchedulerSpec::named("wlc")) }
}

fn destination(a: u8, b: u8) -> DestinationSpec {
    let v6 = |subnet, host| IpAddr::from(Ipv6Addr::new(0xfd00, subnet, 0, 0, 0, 0, 0, host));
    let addr = match a & 15 {
        0..=3 => Ipv4Addr::new(192, 168, 10, 11 + (a & 3)).into(),
        4..=6 => v6(2, 0x11 + u16::from(a & 3)),
        7 => Ipv4Addr::new(10, 255, 0, 5).into(),
        8 => Ipv4Addr::new(192, 168, 30, 7).into(),
        9 => Ipv4Addr::new(10, 0, 0, 1).into(),
        10 => Ipv4Addr::new(172, 16, 0, 1).into(),
        11 => Ipv4Addr::new(192, 168, 10, 77).into(),
        12 => v6(2, 0x77),
        13 => v6(3, 5),
        14 => v6(1, 1),
        _ => Ipv4Addr::new(10, 0, 0, 50).into(),
    };
    let forwarding = match a >> 5 {
        0 | 1 => Forwarding::Nat,
        2 => Forwarding::Direct,
        3 => Forwarding::Tunnel(Tunnel::Ipip),
        4 => Forwarding::Tunnel(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None }),
        5 => Forwarding::Tunnel(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full }),
        6 => Forwarding::Tunnel(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote }),
        _ => Forwarding::Tunnel(Tunnel::Gre { checksum: a & 16 != 0 }),
    };
    let port = SERVICE_PORTS[usize::from(b & 7) % SERVICE_PORTS.len()];
    DestinationSpec {
        weight: u32::from(b >> 3 & 3),
        upper_threshold: u32::from(b >> 5 & 3),
        lower_threshold: u32::from(b >> 7),
        ..DestinationSpec::new(SocketAddr::new(addr, port), forwarding)
    }
}
