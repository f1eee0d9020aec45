//! What a trace wants to see, and what it is told of a frame: data that a caller hands in, and the walk fills.

use core::net::{IpAddr, SocketAddr};

use uvs_wire::{Packet, icmp, ipv4, ipv6};

use crate::base::spec::{Forwarding, Prefix, ServiceKey};
use crate::base::view::{ConnectionFacts, Way};

/// One end, as people name it: an address or a subnet, and a port if that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// The address, or those that it may have.
    pub net: Prefix,
    /// The port; without one any will do.
    pub port: Option<u16>,
}

impl End {
    /// Whether an address and port are this end. A packet that shows no port (a later fragment, ICMP) may be its.
    fn is(&self, addr: IpAddr, port: Option<u16>) -> bool {
        self.net.contains(addr) && (self.port.is_none() || port.is_none() || self.port == port)
    }

    /// Its address, if it can have but one.
    pub fn host(&self) -> Option<IpAddr> {
        let addr = self.net.addr();
        (self.net == Prefix::host(addr)).then_some(addr)
    }

    /// Whether a socket address is this end.
    pub fn matches(&self, addr: SocketAddr) -> bool {
        self.is(addr.ip(), Some(addr.port()))
    }
}

/// Which packets and connections: those that have all of the ends that are named. Without any, all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// CIP.
    pub client: Option<End>,
    /// VIP.
    pub virtual_addr: Option<End>,
    /// RIP.
    pub destination: Option<End>,
}

impl Filter {
    /// Whether everything is meant.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a connection of these ends is meant.
    pub fn matches(&self, client: SocketAddr, virtual_addr: SocketAddr, destination: SocketAddr) -> bool {
        self.client.is_none_or(|it| it.matches(client))
            && self.virtual_addr.is_none_or(|it| it.matches(virtual_addr))
            && self.destination.is_none_or(|it| it.matches(destination))
    }

    /// Whether an IP packet is meant, by the addresses that it has and, of ICMP errors and tunnels, those of the packet
    /// in it. One of no connection and with other addresses than all those named is not.
    pub fn matches_packet(&self, ip: &[u8]) -> bool {
        let named = [self.client, self.virtual_addr, self.destination];
        let mut missing: Vec<End> = named.into_iter().flatten().collect();
        ends_of(ip, |addr, port| missing.retain(|end| !end.is(addr, port)));
        missing.is_empty()
    }
}

/// So many packets in packets are looked into.
const DEPTH: usize = 3;

/// Shows the ends of an IP packet, and of those in it.
fn ends_of(ip: &[u8], mut each: impl FnMut(IpAddr, Option<u16>)) {
    let mut rest = ip;
    for depth in 0..DEPTH {
        let parsed = if depth == 0 { Packet::parse(rest) } else { Packet::parse_quoted(rest) };
        let Ok(packet) = parsed else { return };
        let has_ports = packet.has_ports();
        each(packet.src.to_ip(), has_ports.then_some(packet.src_port));
        each(packet.dst.to_ip(), has_ports.then_some(packet.dst_port));
        let start = usize::from(packet.header_len);
        let inner = match packet.protocol {
            ipv4::PROTOCOL_IPIP | ipv6::PROTOCOL_IPV6 => start,
            icmp::PROTOCOL_V4 | icmp::PROTOCOL_V6
                if rest.get(start).is_some_and(|&kind| icmp::is_error(packet.protocol, kind)) =>
            {
                start + icmp::HEADER_LEN
            }
            _ => return,
        };
        match rest.get(inner..) {
            Some(more) if !more.is_empty() => rest = more,
            _ => return,
        }
    }
}

/// How far a frame came: the stages of `ARCHITECTURE.md`, "Life of a packet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What it is about.
    #[default]
    Classify,
    /// Which connection it belongs to, or which one begins with it.
    Find,
    /// Counters, state, deadline.
    Advance,
    /// Which way it leaves, and as what.
    Route,
    /// Out, or into the queue of a neighbour.
    Emit,
}

impl Stage {
    /// A name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Find => "find",
            Self::Advance => "advance",
            Self::Route => "route",
            Self::Emit => "emit",
        }
    }
}

/// What a packet was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To an address of the director's, or by its mark.
    Request,
    /// An ICMP error to an address of the director's.
    IcmpError,
    /// To somebody else: an answer, or what passes through.
    Transit,
}

impl Kind {
    /// A name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::IcmpError => "icmp_error",
            Self::Transit => "transit",
        }
    }
}

/// What it was found to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// No connection was there that it could use, and one begins.
    New,
    /// A request of a connection.
    Request,
    /// A reply on a connection.
    Reply,
    /// It goes where a connection's requests go: an ICMP error about it, or the only packet of its connection.
    Target,
    /// No connection: it passes through.
    Nothing,
}

impl Hit {
    /// A name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Request => "hit",
            Self::Reply => "reply",
            Self::Target => "target",
            Self::Nothing => "none",
        }
    }
}

/// What became of one frame, stage by stage. What a stage says that it did not come to is `None`.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The last stage that it came to: where it ended, or was dropped.
    pub stage: Stage,
    /// Its firewall mark; 0 is none.
    pub mark: u32,
    /// The flow cache holds its connection, and had it come to the director all the same.
    pub is_from_cache: bool,
    /// By `classify`.
    pub kind: Option<Kind>,
    /// By `find`.
    pub hit: Option<Hit>,
    /// Of a request: the service that it asks for, if there is one.
    pub service: Option<ServiceKey>,
    /// By `find`: its connection as the packet met it.
    pub connection: Option<ConnectionFacts>,
    /// By `advance`: the state that it left the connection in.
    pub state: Option<&'static str>,
    /// By `advance`: where a request goes, and how.
    pub target: Option<(SocketAddr, Forwarding)>,
    /// By `route`: which way it leaves.
    pub way: Option<Way>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Option<End> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Some(End { net: Prefix::host(addr.ip()), port: Some(addr.port()) });
        }
        let net = text.parse().ok().map(Prefix::host).or_else(|| text.parse().ok());
        net.map(|net| End { net, port: None })
    }

    /// An IPv4 header in front of something.
    fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        bytes.extend(src.iter().chain(&dst).chain(payload));
        let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes[2..4].copy_from_slice(&len);
        bytes
    }

    #[test]
    fn a_packet_is_meant_if_it_has_all_ends_that_are_named() {
        let (client, vip, server) = ([10, 0, 0, 1], [10, 0, 0, 100], [192, 168, 0, 2]);
        let udp = |from: u16, to: u16| [from.to_be_bytes(), to.to_be_bytes(), [0, 8], [0, 0]].concat();
        let request = ipv4(client, vip, 17, &udp(4000, 53));
        let reply = ipv4(server, client, 17, &udp(53, 4000));
        let error = ipv4([10, 0, 0, 7], server, 1, &[&[3u8, 1, 0, 0, 0, 0, 0, 0][..], &reply].concat());
        let tunnelled = ipv4([10, 0, 0, 5], server, 4, &request);
        let all = Filter::default();
        let of = |client: &str, vip: &str, destination: &str| Filter {
            client: end(client),
            virtual_addr: end(vip),
            destination: end(destination),
        };
        let cases: &[(&str, Filter, &[u8], bool)] = &[
            ("everything", all, &request, true),
            ("what is no packet has no ends", of("10.0.0.1", "", ""), &[1, 2, 3], false),
            ("by its client", of("10.0.0.1", "", ""), &request, true),
            ("and port", of("10.0.0.1:4000", "", ""), &request, true),
            ("another port", of("10.0.0.1:4001", "", ""), &request, false),
            ("both", of("10.0.0.1", "10.0.0.100:53", ""), &request, true),
            ("one of two", of("10.0.0.1", "10.0.0.101", ""), &request, false),
            ("a reply", of("10.0.0.1:4000", "", "192.168.0.2"), &reply, true),
            ("the quote of an error", of("10.0.0.1:4000", "", "192.168.0.2:53"), &error, true),
            ("in a tunnel", of("10.0.0.1:4000", "10.0.0.100", "192.168.0.2"), &tunnelled, true),
            ("by its subnet", of("10.0.0.0/29", "", "192.168.0.0/16"), &tunnelled, true),
            ("of another", of("10.0.0.8/29", "", ""), &request, false),
            ("someone else's", of("10.0.0.2", "", ""), &tunnelled, false),
        ];
        for (name, filter, packet, want) in cases {
            assert_eq!(filter.matches_packet(packet), *want, "{name}");
        }
        assert!(all.is_all() && !of("10.0.0.1", "", "").is_all());
    }
}
