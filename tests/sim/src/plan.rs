//! Who is where.
//!
//! ```text
//!   clients 0 to 3: 10.0.0.2 to .5, fd00:c::2 to ::5 --.
//!   clients 4, 5:   172.16.0.6, .7 -- router 10.0.0.254 +-- [director] --- servers 0 to 3: 192.168.10.11 to .14
//!                   VIPs 10.0.0.100 to .104            10.0.0.1   192.168.10.1            fd00:5::11 to ::14
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use uvs_director::PortId;
use uvs_director::spec::{
    Family, Forwarding, InterfaceSpec, Link, MacAddr, MarkRule, Prefix, Protocol, RouteSpec, ServiceKey,
    SourceCheck, Tunnel, TunnelChecksum,
};

use crate::event::{Method, Side};

/// Clients.
pub(crate) const CLIENTS: u32 = 6;
/// Those behind the router are the ones from here on.
const REMOTE: u32 = 4;
/// Real servers.
pub(crate) const SERVERS: u32 = 4;
/// The mark of the service without an address.
const MARK: u32 = 7;
/// Where servers take GUE.
pub(crate) const GUE_PORT: u16 = 6080;

/// A service that may be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// Its family.
    pub(crate) family: Family,
    /// The number of its VIP.
    pub(crate) vip: u8,
    /// Its port; 0: all.
    pub(crate) port: u16,
    /// It goes by a mark, not by its address.
    pub(crate) marked: bool,
}

const fn slot(protocol: Protocol, family: Family, vip: u8, port: u16) -> Slot {
    Slot { protocol, family, vip, port, marked: false }
}

/// All services there may be.
pub(crate) const SLOTS: [Slot; 11] = [
    slot(Protocol::Tcp, Family::V4, 0, 80),
    slot(Protocol::Tcp, Family::V4, 1, 80),
    slot(Protocol::Udp, Family::V4, 0, 53),
    slot(Protocol::Udp, Family::V4, 1, 53),
    slot(Protocol::Tcp, Family::V4, 2, 65_535),
    slot(Protocol::Tcp, Family::V4, 3, 0),
    slot(Protocol::Tcp, Family::V6, 0, 80),
    slot(Protocol::Udp, Family::V6, 0, 53),
    slot(Protocol::Tcp, Family::V6, 1, 80),
    Slot { marked: true, ..slot(Protocol::Tcp, Family::V4, 4, 0) },
    slot(Protocol::Udp, Family::V4, 2, 65_535),
];

impl Slot {
    /// The slot of that number.
    pub(crate) fn of(number: u32) -> (usize, Self) {
        let index = number as usize % SLOTS.len();
        (index, SLOTS[index])
    }

    /// What names the service.
    pub(crate) fn key(&self) -> ServiceKey {
        if self.marked {
            ServiceKey::Mark { mark: MARK, family: self.family }
        } else {
            ServiceKey::new(self.protocol, SocketAddr::new(vip(self.vip, self.family), self.port))
        }
    }

    /// What a client on its local port of that number asks for.
    pub(crate) fn target(&self, port: u32) -> SocketAddr {
        let asked = if self.port == 0 { 80 + u16::try_from(port % 3).expect("below 3") } else { self.port };
        SocketAddr::new(vip(self.vip, self.family), asked)
    }

    /// Whether it can be there without persistence.
    pub(crate) const fn needs_persistence(&self) -> bool {
        self.port == 0 && !self.marked
    }

    /// A destination's address; one of an even number has another port than the service, if that has one.
    pub(crate) fn destination(&self, server: u32) -> SocketAddr {
        let port = match (self.port, server % 2, self.protocol) {
            (0, ..) => 0,
            (port, 1, _) => port,
            (_, _, Protocol::Udp) => 5353,
            _ => 8080,
        };
        SocketAddr::new(server_addr(server, self.family), port)
    }

    /// How packets get there, if that can be: only NAT maps ports.
    pub(crate) fn forwarding(&self, server: u32, method: Method) -> Forwarding {
        match method {
            _ if self.destination(server).port() != self.port => Forwarding::Nat,
            Method::Nat => Forwarding::Nat,
            Method::Dr => Forwarding::Direct,
            Method::Ipip => Forwarding::Tunnel(Tunnel::Ipip),
            Method::Gue => Forwarding::Tunnel(Tunnel::Gue { port: GUE_PORT, checksum: TunnelChecksum::None }),
            Method::Gre => Forwarding::Tunnel(Tunnel::Gre { checksum: false }),
        }
    }
}

fn v4(a: u8, b: u8, c: u8, d: u32) -> IpAddr {
    Ipv4Addr::new(a, b, c, u8::try_from(d).expect("a small number")).into()
}

fn v6(net: u16, host: u32) -> IpAddr {
    Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, u16::try_from(host).expect("a small number")).into()
}

/// A VIP.
pub(crate) fn vip(number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => v4(10, 0, 0, 100 + u32::from(number)),
        Family::V6 => v6(0xc, 0x100 + u32::from(number)),
    }
}

/// A client's address.
pub(crate) fn client_addr(client: u32, family: Family) -> IpAddr {
    let client = client % CLIENTS;
    match family {
        Family::V4 if client >= REMOTE => v4(172, 16, 0, client + 2),
        Family::V4 => v4(10, 0, 0, client + 2),
        Family::V6 if client >= REMOTE => v6(0xf, client + 2),
        Family::V6 => v6(0xc, client + 2),
    }
}

/// The address of a source that no client has: behind the router.
pub(crate) fn stranger_addr(number: u32, family: Family) -> IpAddr {
    match family {
        Family::V4 => v4(172, 16, 1 + u8::try_from(number / 200 % 200).expect("below 200"), 1 + number % 200),
        Family::V6 => v6(0xf, 0x1000 + number % 0x1000),
    }
}

/// A server's address.
pub(crate) fn server_addr(server: u32, family: Family) -> IpAddr {
    match family {
        Family::V4 => v4(192, 168, 10, 11 + server % SERVERS),
        Family::V6 => v6(5, 0x11 + server % SERVERS),
    }
}

/// The router's address.
pub(crate) fn router_addr(family: Family) -> IpAddr {
    match family {
        Family::V4 => v4(10, 0, 0, 254),
        Family::V6 => v6(0xc, 0xfe),
    }
}

/// Which client has that address.
pub(crate) fn client_of(addr: IpAddr) -> Option<u32> {
    (0..CLIENTS).find(|client| client_addr(*client, Family::of(addr)) == addr)
}

/// Which server has that address.
pub(crate) fn server_of(addr: IpAddr) -> Option<u32> {
    (0..SERVERS).find(|server| server_addr(*server, Family::of(addr)) == addr)
}

/// Whether it is a VIP.
pub(crate) fn is_vip(addr: IpAddr) -> bool {
    (0..5).any(|number| vip(number, Family::of(addr)) == addr)
}

/// Whether it is an address of the director.
pub(crate) fn is_director(addr: IpAddr) -> bool {
    is_vip(addr) || [v4(10, 0, 0, 1), v4(192, 168, 10, 1), v6(0xc, 1), v6(5, 1)].contains(&addr)
}

/// The director's port on a side.
pub(crate) const fn port_of(side: Side) -> PortId {
    match side {
        Side::Client => PortId(0),
        Side::Server => PortId(1),
    }
}

/// The side of a port.
pub(crate) const fn side_of(port: PortId) -> Side {
    if port.0 == 0 { Side::Client } else { Side::Server }
}

/// The director's MAC address on a side.
pub(crate) const fn director_mac(side: Side) -> [u8; 6] {
    match side {
        Side::Client => [2, 0, 0, 0, 0, 1],
        Side::Server => [2, 0, 0, 0, 1, 1],
    }
}

/// Of a client that is on the link, or of the router.
pub(crate) fn client_mac(client: u32) -> [u8; 6] {
    match client % CLIENTS {
        REMOTE.. => [2, 0, 0, 0, 0x30, 1],
        client => [2, 0, 0, 0, 0x10, u8::try_from(client).expect("few clients")],
    }
}

/// A server's MAC address; it may have had others before.
pub(crate) fn server_mac(server: u32, generation: u8) -> [u8; 6] {
    [2, 0, 0, generation, 0x20, u8::try_from(server).expect("few servers")]
}

/// The director's interfaces and routes.
pub(crate) fn network(mtu: [u32; 2]) -> (Vec<InterfaceSpec>, Vec<RouteSpec>) {
    let prefix = |addr, len| Prefix::new(addr, len).expect("a valid length");
    let interface = |side: Side, name: &str, addresses: Vec<Prefix>| InterfaceSpec {
        port: port_of(side),
        name: name.into(),
        link: Link::Ethernet(MacAddr(director_mac(side))),
        mtu: mtu[usize::from(port_of(side).0)],
        addresses,
        source_check: SourceCheck::Loose,
    };
    let mut front = vec![prefix(v4(10, 0, 0, 1), 24), prefix(v6(0xc, 1), 64)];
    for family in [Family::V4, Family::V6] {
        front.extend((0..5).map(|number| Prefix::host(vip(number, family))));
    }
    let back = vec![prefix(v4(192, 168, 10, 1), 24), prefix(v6(5, 1), 64)];
    let route = |to, family| RouteSpec { to, via: Some(router_addr(family)), port: port_of(Side::Client) };
    let routes =
        vec![route(prefix(v4(172, 16, 0, 0), 16), Family::V4), route(prefix(v6(0xf, 0), 64), Family::V6)];
    (vec![interface(Side::Client, "front", front), interface(Side::Server, "back", back)], routes)
}

/// What marks packets for the service without an address.
pub(crate) fn marks() -> Vec<MarkRule> {
    vec![MarkRule { destination: Some(Prefix::host(vip(4, Family::V4))), ..MarkRule::new(MARK) }]
}
