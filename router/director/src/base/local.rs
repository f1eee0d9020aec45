//! The director as a host: what its own sockets are to the engine.
//!
//! ```text
//!   open_local(SocketSpec) --> Binding      an address and a port of the director's own, while it lives
//!   send_local(packet)     --> Verdict      routed, resolved, encapsulated like any other
//!   receive_local()        --> Received     what came to a live socket, or why something cannot
//! ```

use core::fmt;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use crate::base::frame::Frame;
use crate::base::spec::Forwarding;

/// What a socket of the director speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo, of the family of its address; the port is the identifier.
    Echo,
}

/// Which way the packets of a socket go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// To the address they bear.
    Direct,
    /// To a destination by its forwarding method, as a client's would: the address that they bear is the VIP.
    Destination {
        /// RIP.
        addr: IpAddr,
        /// Its port, which NAT translates to.
        port: u16,
        /// How it is reached.
        forwarding: Forwarding,
    },
}

/// A socket to be: each has one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketSpec {
    /// What it speaks.
    pub transport: Transport,
    /// Whom it speaks to: a host, or a VIP if it goes by way of a destination.
    pub remote: IpAddr,
    /// The port there; of echo it says nothing.
    pub remote_port: u16,
    /// Which way.
    pub way: Way,
    /// The address of the director that it speaks from; `None`: the one that routes say.
    pub source: Option<IpAddr>,
    /// What is longer than the link takes leaves in fragments.
    pub may_fragment: bool,
}

/// What a socket was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What it speaks.
    pub transport: Transport,
    /// The address of the director that it speaks from.
    pub addr: IpAddr,
    /// The port, which no other socket of that transport has. Of echo the identifier.
    pub port: u16,
    /// The longest packet that takes that way whole.
    pub mtu: u32,
}

/// How sockets are bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalLimits {
    /// The ports they may have: as many sockets of one transport there are at most.
    pub ports: RangeInclusive<u16>,
    /// Packets that wait to be taken out. No socket has more of them than are free: what comes for it then is dropped,
    /// and counted.
    pub packets: usize,
}

impl Default for LocalLimits {
    /// The ports are IANA's dynamic ones (RFC 6335 section 6).
    fn default() -> Self {
        Self { ports: 49152..=65535, packets: 4096 }
    }
}

/// Why there is no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The director has no ports for itself.
    #[error("the director has no ports of its own to speak from")]
    NoPorts,
    /// All of them are in use.
    #[error("all {0} ports that the director may speak from are in use, or belong to services")]
    PortsInUse(usize),
    /// Nothing leads there.
    #[error("no route to {0}")]
    NoRoute(IpAddr),
    /// It is the director itself.
    #[error("{0} is an address of the director itself")]
    OwnAddress(IpAddr),
    /// It is to speak from an address that is not the director's.
    #[error("{0} is no address of the director")]
    NotOurs(IpAddr),
    /// There is no address of that family, other than the VIP, to speak from.
    #[error("the director has no address to speak to {0} from")]
    NoAddress(IpAddr),
    /// The forwarding method cannot carry it that way.
    #[error("{forwarding} does not lead to {addr}: {reason}")]
    NoWay {
        /// RIP.
        addr: IpAddr,
        /// The method.
        forwarding: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

/// What came for a socket.
#[derive(Debug)]
pub enum Received {
    /// A packet from its peer, as the peer sent it to a client: from the VIP where it goes by way of a destination. Its
    /// checksums are right, or were never computed: they need not be looked at.
    Packet(Frame),
    /// Something that it sent does not arrive.
    Failed {
        /// Of the socket.
        transport: Transport,
        /// Of the socket.
        port: u16,
        /// Why.
        failure: Failure,
    },
}

/// Why a packet of a socket does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No answer to ARP or neighbour discovery.
    NoNeighbor,
    /// A router knows no way.
    NetUnreachable,
    /// A router does not reach the host.
    HostUnreachable,
    /// The host does not speak that protocol.
    ProtocolUnreachable,
    /// Nobody listens there.
    PortUnreachable,
    /// It is forbidden.
    Prohibited,
    /// It went round and round.
    TtlExceeded,
    /// It is longer than what passes.
    TooBig {
        /// The longest packet of the socket that passes, headers of a tunnel not counted.
        mtu: u32,
    },
}

impl Failure {
    /// As a condition, for logs and results.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoNeighbor => "the next hop does not answer ARP or neighbour discovery",
            Self::NetUnreachable => "network unreachable",
            Self::HostUnreachable => "host unreachable",
            Self::ProtocolUnreachable => "protocol unreachable",
            Self::PortUnreachable => "port unreachable",
            Self::Prohibited => "administratively prohibited",
            Self::TtlExceeded => "time to live exceeded",
            Self::TooBig { .. } => "packet too big",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooBig { mtu } => write!(f, "packets longer than {mtu} bytes do not pass"),
            other => f.write_str(other.text()),
        }
    }
}
