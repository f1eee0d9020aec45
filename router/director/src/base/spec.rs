//! What the director is told to be: interfaces, routes, services, destinations, options; and the
//! changes that get it there.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::base::ids::PortId;
use crate::base::time::Duration;

mod address;
pub use address::{Family, MacAddr, Prefix};

/// A transport protocol that can be balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with that number in the IP header.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// What kind of link an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Layer 2 (TAP): frames are Ethernet, and the director answers ARP and ND with this address.
    Ethernet(MacAddr),
    /// Layer 3 (TUN): frames are IP packets.
    Ip,
}

/// One interface of the director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Its index.
    pub port: PortId,
    /// The device's name, for messages.
    pub name: String,
    /// Layer 2 or 3.
    pub link: Link,
    /// Largest IP packet in bytes, 68 to 65535 (1280 at least for IPv6).
    pub mtu: u32,
    /// The director's own addresses (DIP) with their connected subnets. A VIP that lies in no subnet is given
    /// here as a /32 or /128.
    pub addresses: Vec<Prefix>,
    /// Which sources are believed on it.
    pub source_check: SourceCheck,
}

/// Which sources of packets are believed on an interface; others are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// Those that the best route back to leads through this interface (RFC 3704 section 2.2).
    Strict,
    /// All but those in a subnet that is connected to another interface: what nobody can have here. A way back is not
    /// asked for, since direct routing needs none.
    #[default]
    Loose,
    /// All.
    Off,
}

/// What passes through the director that is neither for it nor of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transit {
    /// What real servers, and other machines in their connected subnets, send to others, and what answers that.
    #[default]
    Servers,
    /// Everything that has a route, as the kernel with `ip_forward`.
    Any,
    /// Nothing.
    None,
}

/// A route; connected subnets need none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Where to.
    pub to: Prefix,
    /// Next hop; `None`: the target is on the link.
    pub via: Option<IpAddr>,
    /// Out of which interface.
    pub port: PortId,
}

/// What names a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// Protocol, VIP and port. Port 0 stands for all ports and needs persistence.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP and port.
        addr: SocketAddr,
    },
    /// A firewall mark.
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// Of which family.
        family: Family,
    },
}

impl ServiceKey {
    /// The service on this protocol, VIP and port.
    pub const fn new(protocol: Protocol, addr: SocketAddr) -> Self {
        Self::Address { protocol, addr }
    }

    /// Its address family.
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { addr, .. } => Family::of(addr.ip()),
            Self::Mark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, addr } => write!(f, "{protocol} {addr}"),
            Self::Mark { mark, family: Family::V4 } => write!(f, "fwmark {mark}"),
            Self::Mark { mark, family: Family::V6 } => write!(f, "fwmark {mark} IPv6"),
        }
    }
}

/// Which scheduler, and the text it is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchedulerSpec {
    /// A shipped scheduler (`rr`), a name from the config, or a path to a component.
    pub name: String,
    /// Passed to the scheduler as it is; empty is none.
    pub options: String,
}

impl SchedulerSpec {
    /// The scheduler `name` without options.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), options: String::new() }
    }
}

/// Clients stick to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// How long a template lives after its last new connection.
    pub timeout: Duration,
    /// Clients in one prefix of this length share a template (32 or 128: each alone).
    pub prefix_len: u8,
    /// `--pe sip`: the template's key comes from the packet. Not built yet.
    pub engine: Option<PersistenceEngine>,
}

/// What else than the client's address makes a template's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceEngine {
    /// The Call-ID of SIP over UDP.
    Sip,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub key: ServiceKey,
    /// Who picks.
    pub scheduler: SchedulerSpec,
    /// Whether clients stick.
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled alone (`--ops`; UDP).
    pub one_packet: bool,
    /// As [`Options::sloppy_tcp`], for this service alone: a packet in the middle of a flow that nobody here knows is
    /// placed by the scheduler. Either of the two is enough.
    pub sloppy_tcp: bool,
}

impl ServiceSpec {
    /// A plain service.
    pub fn new(key: ServiceKey, scheduler: SchedulerSpec) -> Self {
        Self { key, scheduler, persistence: None, one_packet: false, sloppy_tcp: false }
    }
}

/// How a packet reaches a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// Addresses and ports are rewritten, both ways.
    Nat,
    /// Direct routing: only the MAC addresses change.
    Direct,
    /// IP tunnelling: the packet goes inside another.
    Tunnel(Tunnel),
}

/// The outer header of a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473).
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// The receiver's UDP port.
        port: u16,
        /// What the outer UDP checksum is.
        checksum: TunnelChecksum,
    },
    /// GRE (RFC 2784).
    Gre {
        /// Whether the GRE header carries a checksum.
        checksum: bool,
    },
}

impl Tunnel {
    /// The same in a word that can be replaced at once: kind, checksum, and the port in the upper half.
    pub(crate) fn to_bits(self) -> u32 {
        match self {
            Self::Ipip => 0,
            Self::Gue { port, checksum } => {
                let checksum = match checksum {
                    TunnelChecksum::None => 0,
                    TunnelChecksum::Full => 1 << 2,
                    TunnelChecksum::Remote => 2 << 2,
                };
                u32::from(port) << 16 | checksum | 1
            }
            Self::Gre { checksum } => u32::from(checksum) << 2 | 2,
        }
    }

    /// What [`Self::to_bits`] made the word of.
    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            1 => {
                let [high, low, ..] = bits.to_be_bytes();
                let checksum = match bits >> 2 & 3 {
                    0 => TunnelChecksum::None,
                    1 => TunnelChecksum::Full,
                    _ => TunnelChecksum::Remote,
                };
                Self::Gue { port: u16::from_be_bytes([high, low]), checksum }
            }
            2 => Self::Gre { checksum: bits >> 2 & 1 == 1 },
            _ => Self::Ipip,
        }
    }
}

/// The outer checksum of GUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelChecksum {
    /// Zero (the default of ipvsadm).
    None,
    /// Complete.
    Full,
    /// Remote checksum offload.
    Remote,
}

/// One destination of a service, named within it by address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationSpec {
    /// RIP and port. Port 0 (firewall mark and all-port services): the client's port is kept.
    pub addr: SocketAddr,
    /// How packets get there.
    pub forwarding: Forwarding,
    /// 0 quiesces; at most [`DestinationSpec::WEIGHT_MAX`].
    pub weight: u32,
    /// At this many connections it is overloaded; 0 is no limit.
    pub upper_threshold: u32,
    /// Below this many it is available again; 0: below three quarters of the upper.
    pub lower_threshold: u32,
}

impl DestinationSpec {
    /// The largest weight (IPVS keeps it in an `int`).
    pub const WEIGHT_MAX: u32 = i32::MAX as u32;

    /// A destination of weight 1 without thresholds.
    pub const fn new(addr: SocketAddr, forwarding: Forwarding) -> Self {
        Self { addr, forwarding, weight: 1, upper_threshold: 0, lower_threshold: 0 }
    }
}

/// `ipvsadm --set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP in ESTABLISHED.
    pub tcp: Duration,
    /// TCP in FIN_WAIT.
    pub tcp_fin: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}

/// What the kernel has under `/proc/sys/net/ipv4/vs`, by the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What a SYN on a known connection does; bit 0: rescheduled when that one is closing, bit 1: in DR and TUN
    /// also in FIN_WAIT.
    pub conn_reuse_mode: u8,
    /// A connection whose destination is gone ends at its next packet (else the packet is dropped in silence).
    pub expire_nodest_conn: bool,
    /// A template whose destination is quiesced is not used.
    pub expire_quiescent_template: bool,
    /// Any TCP packet but RST starts a connection.
    pub sloppy_tcp: bool,
    /// Any SCTP packet but ABORT starts a connection.
    pub sloppy_sctp: bool,
    /// 0 to 3; 3 uses the TCP table that resists SYN floods. As in the kernel, 1 and 2 guard only while memory is
    /// short, which the director never is: its table is bounded.
    pub secure_tcp: u8,
    /// 0 to 3; not 0 drops half-open connections when memory is short (3: always).
    pub drop_entry: u8,
    /// 0 to 3; not 0 drops new packets when memory is short (3: always one in `am_droprate`).
    pub drop_packet: u8,
    /// One in how many packets `drop_packet = 3` drops.
    pub am_droprate: u32,
    /// A destination that sends for an unknown connection gets ICMP port unreachable.
    pub nat_icmp_send: bool,
    /// ICMP errors about no connection are scheduled.
    pub schedule_icmp: bool,
    /// A firewall-mark service without destination forwards to the address the client asked for.
    pub cache_bypass: bool,
    /// Kept for the kernel's settings files: what the kernel avoids with it (balancing the inside of a tunnel that ends
    /// on the director) cannot happen here.
    pub ignore_tunneled: bool,
    /// Data connections of FTP services on port 21 work through NAT (what the kernel does once `ip_vs_ftp` is loaded).
    /// For control connections that begin from now on.
    pub ftp: bool,
    /// What is routed beside the connections.
    pub transit: Transit,
    /// DF is honoured and fragmentation needed is sent; false: it is cleared and tunnelled packets are fragmented.
    pub pmtu_disc: bool,
    /// To the letter as the recorded kernel does, also where that hurts (`compat = "ipvs"`). Without it a new
    /// connection or UDP flow never sticks to a destination that was removed, and a closing connection never
    /// hands its port to a destination that drains.
    pub compat_ipvs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            sloppy_tcp: false,
            sloppy_sctp: false,
            secure_tcp: 0,
            drop_entry: 0,
            drop_packet: 0,
            am_droprate: 10,
            nat_icmp_send: false,
            schedule_icmp: false,
            cache_bypass: false,
            ignore_tunneled: false,
            ftp: false,
            transit: Transit::Servers,
            pmtu_disc: true,
            compat_ipvs: false,
        }
    }
}

/// What makes room for a new entry when the connection table is at its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evict {
    /// Whatever nobody would miss much, of the kind that there is most of: connections that are over, whose handshake
    /// is not done, that only their client speaks of, templates without connections. What is established and heard from
    /// both ends stays.
    #[default]
    Any,
    /// The oldest connection of those whose handshake is not done (TCP in SYN_RECV and the like, SCTP before the
    /// client's cookie), and nothing else.
    Embryonic,
    /// Nothing does: what is new is refused.
    None,
}

/// Bounds on what the director keeps. At a bound something makes room or is refused, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connection entries.
    pub connections: usize,
    /// What goes when there are so many.
    pub evict: Evict,
    /// Entries of the neighbour (ARP, ND) table; at the bound one makes room for another. Static ones do not count.
    pub neighbors: usize,
    /// Bytes of frames that wait for one unresolved neighbour, each counted with 256 more: at the bound the oldest
    /// are dropped (Linux: `unres_qlen_bytes`).
    pub neighbor_queue_bytes: usize,
    /// The same for all neighbours together.
    pub neighbor_queues_bytes: usize,
    /// ICMP errors that the director originates each second, an eighth of them to one source; a burst of a twentieth of
    /// it is let through at once. As many more may tell the size that fits. 0 is no limit.
    pub icmp_errors_per_second: u32,
    /// Memory, in bytes, for fragments that wait for the rest of their packet (Linux: `ipfrag_high_thresh`).
    pub fragment_bytes: usize,
    /// Packets of which fragments wait.
    pub fragmented_packets: usize,
    /// Fragments of one packet; one with more is dropped.
    pub fragments_per_packet: usize,
    /// Conversations that real servers began and that answers are let through to (see [`Transit::Servers`]): what is
    /// used least makes room.
    pub transit_flows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            evict: Evict::Any,
            neighbors: 8192,
            neighbor_queue_bytes: 212_992,
            neighbor_queues_bytes: 16 << 20,
            icmp_errors_per_second: 1000,
            fragment_bytes: 4 << 20,
            fragmented_packets: 4096,
            fragments_per_packet: 128,
            transit_flows: 65_536,
        }
    }
}

/// Gives packets that match all of its conditions a mark; an absent condition matches everything.
///
/// A packet that carries the mark of a firewall-mark service is balanced by it, whatever address it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// The mark, not 0.
    pub mark: u32,
    /// The interface it came in on.
    pub port: Option<PortId>,
    /// The MAC address of the station that sent the frame. On a layer 3 interface no packet has one.
    pub source_mac: Option<MacAddr>,
    /// `source_mac` must be any other than that: so that two directors which are also real servers do not toss
    /// packets to each other for ever.
    pub not_source_mac: bool,
    /// Transport protocol.
    pub protocol: Option<Protocol>,
    /// CIP.
    pub source: Option<Prefix>,
    /// The address asked for.
    pub destination: Option<Prefix>,
    /// The client's port, both ends included.
    pub source_ports: Option<(u16, u16)>,
    /// The port asked for, both ends included.
    pub destination_ports: Option<(u16, u16)>,
}

impl MarkRule {
    /// A rule that gives everything this mark.
    pub const fn new(mark: u32) -> Self {
        Self {
            mark,
            port: None,
            source_mac: None,
            not_source_mac: false,
            protocol: None,
            source: None,
            destination: None,
            source_ports: None,
            destination_ports: None,
        }
    }
}

/// One step towards the desired state; [`crate::Director::apply`] takes it whole or refuses it whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replaces the interfaces and routes. Neighbours that were set are forgotten: set them again.
    SetNetwork {
        /// All interfaces; ports 0, 1, 2...
        interfaces: Vec<InterfaceSpec>,
        /// All routes beside the connected subnets.
        routes: Vec<RouteSpec>,
    },
    /// Gives the interfaces other addresses, such as the VIPs of new services. Routes and neighbours stay as they are,
    /// and so do flows in the cache, unless a subnet comes or goes. All else of the interfaces has to be as it is.
    SetAddresses(Vec<InterfaceSpec>),
    /// Says how long packets the link of an interface takes at this moment. The smaller of this and the interface's own
    /// MTU counts. It outlives [`Self::SetNetwork`].
    SetLinkMtu {
        /// Of which interface.
        port: PortId,
        /// Largest IP packet in bytes, 68 at least.
        mtu: u32,
    },
    /// Adds or replaces a neighbour that is never asked for and never expires.
    SetNeighbor {
        /// On which interface.
        port: PortId,
        /// Its IP address.
        addr: IpAddr,
        /// Its MAC address.
        mac: MacAddr,
    },
    /// Replaces the rules that give packets marks; the first that matches counts.
    SetMarks(Vec<MarkRule>),
    /// Adds a service.
    AddService(ServiceSpec),
    /// Changes a service's scheduler, persistence or flags.
    EditService(ServiceSpec),
    /// Makes a service's scheduler anew: the module behind its name has changed.
    RenewScheduler(ServiceKey),
    /// Removes a service with its destinations. Its connections follow `expire_nodest_conn`.
    RemoveService(ServiceKey),
    /// Removes all services (`ipvsadm -C`).
    Flush,
    /// Adds a destination.
    AddDestination(ServiceKey, DestinationSpec),
    /// Changes weight, forwarding or thresholds of a destination.
    EditDestination(ServiceKey, DestinationSpec),
    /// Changes the weight of a destination, and nothing else of it.
    SetWeight(ServiceKey, SocketAddr, u32),
    /// Removes a destination. Its connections follow `expire_nodest_conn`.
    RemoveDestination(ServiceKey, SocketAddr),
    /// Sets counters to zero, of one service and its destinations or of everything (`ipvsadm -Z`).
    ZeroCounters(Option<ServiceKey>),
    /// Sets timeouts (a running timer changes at its next packet).
    SetTimeouts(Timeouts),
    /// Sets all options.
    SetOptions(Options),
}
