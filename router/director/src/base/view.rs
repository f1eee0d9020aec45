//! What can be seen of the engine's state: snapshots for listings, metrics and tests.

use core::net::{IpAddr, SocketAddr};

use crate::base::scheduler::Picked;
use crate::base::spec::{DestinationSpec, Forwarding, Protocol, ServiceKey, ServiceSpec};
use crate::base::time::Duration;
use crate::base::verdict::DropReason;

/// Packet and byte counts. Of outgoing ones direct routing and tunnelling, where replies pass by, see only ICMP errors
/// about a connection: a real server's, and those that the director sends itself (as IPVS counts them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets from destinations.
    pub packets_out: u64,
    /// Bytes from clients, IP header included.
    pub bytes_in: u64,
    /// Bytes from destinations, IP header included.
    pub bytes_out: u64,
}

/// Rates over the last seconds, smoothed as the kernel's estimator does (2 s steps, weight 1/4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Connections per second.
    pub connections: u64,
    /// Packets per second from clients.
    pub packets_in: u64,
    /// Packets per second from destinations.
    pub packets_out: u64,
    /// Bytes per second from clients.
    pub bytes_in: u64,
    /// Bytes per second from destinations.
    pub bytes_out: u64,
}

/// What is left of the connections of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Connections, and flows of UDP.
    pub open: usize,
    /// Connections that are over, and only wait for their last packets.
    pub ended: usize,
    /// Templates of persistence.
    pub templates: usize,
}

/// One service with its destinations.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// As it was told to be.
    pub spec: ServiceSpec,
    /// Its counters.
    pub counters: Counters,
    /// Its rates.
    pub rates: Rates,
    /// In list order: the one added last comes first.
    pub destinations: Vec<DestinationView>,
    /// Events that its scheduler should have heard of and did not, because no pick came in time: only the latest are
    /// kept.
    pub feedback_lost: u64,
}

/// One destination.
#[derive(Clone, Copy, Debug)]
pub struct DestinationView {
    /// As it was told to be.
    pub spec: DestinationSpec,
    /// The RIP is an address of the director's own.
    pub local: bool,
    /// Connections in an active state.
    pub active: u32,
    /// Connections in any other.
    pub inactive: u32,
    /// Templates that name it.
    pub persistent: u32,
    /// Over its upper threshold and not yet below the lower.
    pub overloaded: bool,
    /// Its counters.
    pub counters: Counters,
    /// Its rates.
    pub rates: Rates,
}

/// How a destination that is watched takes connections: handshakes, and answers to UDP, as far as they are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// Connections that it answered. Where its answers pass by: those on which the client went on.
    pub answered: u64,
    /// Those that failed for sure: reset, or silent for a second and more where answers pass here, or the neighbour
    /// does not resolve. One that a client tries again and again counts again.
    pub failed: u64,
    /// Those that may have failed: the client sends its SYN again where answers pass by, or an ICMP error said that it
    /// is unreachable, which anybody may send.
    pub doubtful: u64,
    /// So many failed in a row, since one was answered...
    pub failed_in_a_row: u32,
    /// ...and so many are doubtful.
    pub doubtful_in_a_row: u32,
}

/// The transport of a connection entry, as listings print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionProtocol {
    /// A balanced protocol.
    Transport(Protocol),
    /// A template of a firewall-mark service (`IP`).
    Ip,
}

/// How an entry of the connection table came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The service's scheduler picked its destination.
    Scheduled,
    /// The scheduler's module had failed, and its native fallback picked.
    Fallback,
    /// A module on trial as a canary picked.
    Canary,
    /// A persistence template of its client names the destination.
    Template,
    /// The FTP helper read about it on a control connection.
    Announced,
    /// The flow cache had kept it for a director that ended.
    Adopted,
}

impl Origin {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Fallback, Self::Canary, Self::Template, Self::Announced, Self::Adopted];

    /// A name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Fallback => "fallback",
            Self::Canary => "canary",
            Self::Template => "template",
            Self::Announced => "ftp",
            Self::Adopted => "adopted",
        }
    }
}

impl From<Picked> for Origin {
    fn from(picked: Picked) -> Self {
        match picked {
            Picked::Own => Self::Scheduled,
            Picked::Fallback => Self::Fallback,
            Picked::Canary => Self::Canary,
        }
    }
}

/// One entry of the connection table.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionView {
    /// Transport.
    pub protocol: ConnectionProtocol,
    /// CIP and port.
    pub client: SocketAddr,
    /// VIP and port; of a firewall-mark template: the mark, written as an address.
    pub virtual_addr: SocketAddr,
    /// RIP and port.
    pub destination: SocketAddr,
    /// The forwarding method it began with.
    pub forwarding: Forwarding,
    /// The state's name, as ipvsadm prints it (`ESTABLISHED`, `UDP`, `NONE`...).
    pub state: &'static str,
    /// Time until it expires.
    pub expires_in: Duration,
    /// Whether it is a persistence template.
    pub template: bool,
    /// Whether it counts as active.
    pub active: bool,
}

/// Whether packets of a connection pass in the flow cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// There is no flow cache.
    Off,
    /// They do.
    Placed,
    /// Its next packet tries to place it: nobody has since it began, or since something of it changed.
    Next,
    /// They do not, for that reason.
    Not(&'static str),
}

/// What is known of one entry of the connection table: all that it keeps.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts {
    /// As listings have it.
    pub view: ConnectionView,
    /// The service that its destination belongs to; none: it was removed.
    pub service: Option<ServiceKey>,
    /// How it came to be.
    pub origin: Origin,
    /// How its packets get to the destination now: of a tunnel, by the kind that the destination has now.
    pub forwarding: Forwarding,
    /// From a packet to silence.
    pub timeout: Duration,
    /// Packets from the client that were counted in the entry: no more than 255, and those of the flow cache are not
    /// among them.
    pub packets_in: u8,
    /// A packet from the destination was seen.
    pub answered: bool,
    /// Whether the director sees packets from the destination at all: those of NAT.
    pub sees_answers: bool,
    /// Its class, as `evict` in the limits goes by it.
    pub class: &'static str,
    /// An FTP control connection.
    pub is_ftp: bool,
    /// It hangs on a template, or on an FTP control connection; of a template: connections that hang on it.
    pub controlled: Option<u32>,
    /// The weight of its destination now.
    pub weight: u32,
    /// Whether its destination is a part of its service (`available`), is being rid of its connections (`ending`), or
    /// was removed from the service (`removed`).
    pub standing: &'static str,
    /// The flow cache.
    pub caching: Caching,
    /// It is an invalid template, which places nothing any more.
    pub is_invalid: bool,
}

/// A way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Through this interface.
    pub port: crate::base::ids::PortId,
    /// To this neighbour,
    pub next_hop: IpAddr,
    /// whose MAC address is this, as far as it is known.
    pub mac: Option<crate::base::spec::MacAddr>,
    /// The longest packet that passes, in bytes.
    pub mtu: u32,
    /// The director's own address on that way.
    pub source: Option<IpAddr>,
    /// It leads to the director itself.
    pub is_local: bool,
}

/// By what a service caught a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaughtBy {
    /// The packet's firewall mark.
    Mark,
    /// Address and port.
    Address,
    /// Its address, and a port of FTP's data.
    FtpData,
    /// Its address: the service has port 0, which is all that no other has.
    AllPorts,
}

impl CaughtBy {
    /// A name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Address => "address",
            Self::FtpData => "ftp_data",
            Self::AllPorts => "all_ports",
        }
    }
}

/// A destination that a new connection might get.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// RIP and port.
    pub addr: SocketAddr,
    /// The forwarding method.
    pub forwarding: Forwarding,
    /// Its weight; 0 also where it belongs to no service any more.
    pub weight: u32,
    /// Over its upper threshold and not yet below the lower.
    pub overloaded: bool,
    /// Connections in an active state.
    pub active: u32,
    /// Connections in any other.
    pub inactive: u32,
    /// Which way a packet would leave, or why it would not.
    pub way: Result<Way, DropReason>,
}

/// What would become of the first packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It belongs to a connection that is there, with that destination.
    Known(SocketAddr),
    /// Its client's persistence template names that destination.
    Template(SocketAddr),
    /// The service's scheduler is asked.
    Scheduled,
    /// No service takes it, and nothing else on the director: its sender is told so, and it is dropped.
    Refused(DropReason),
    /// It is dropped.
    Dropped(DropReason),
    /// It is to somebody else, and passes through.
    Passes,
}

/// What would become of the first packet of a client, and by what.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// Where it would come in; none: nobody knows a way to the client.
    pub port: Option<crate::base::ids::PortId>,
    /// Its firewall mark, as far as that does not go by MAC addresses; 0 is none.
    pub mark: u32,
    /// The service that would take it.
    pub service: Option<ServiceKey>,
    /// By what.
    pub caught_by: Option<CaughtBy>,
    /// The destinations of the service.
    pub choices: Vec<Choice>,
    /// What would become of it.
    pub outlook: Outlook,
}

/// One neighbour, as ARP or ND found it.
#[derive(Clone, Copy, Debug)]
pub struct NeighborView {
    /// Its address.
    pub addr: IpAddr,
    /// On which interface.
    pub port: crate::base::ids::PortId,
    /// Its MAC address; none yet while it is being asked for.
    pub mac: Option<crate::base::spec::MacAddr>,
}

/// The director as a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalView {
    /// Sockets that are open.
    pub sockets: usize,
    /// How many of one transport there can be; 0 when it is none.
    pub sockets_max: usize,
    /// Packets that came for them, and their bytes.
    pub in_packets: u64,
    /// See above.
    pub in_bytes: u64,
    /// Packets that they sent, and their bytes, headers of tunnels not counted.
    pub out_packets: u64,
    /// See above.
    pub out_bytes: u64,
}

/// Everything that metrics report about the engine as a whole.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Sum over all services, removed ones included.
    pub total: Counters,
    /// Rates of that sum.
    pub rates: Rates,
    /// Entries in the connection table, templates included.
    pub connections: usize,
    /// How many fit.
    pub connections_max: usize,
    /// How many of these are kept for services that have less than their shares.
    pub connections_reserved: usize,
    /// Connections by (protocol, state); the names are those of listings.
    pub connections_by_state: Vec<(Protocol, &'static str, usize)>,
    /// Packets dropped so far, by every reason there is.
    pub drops: Vec<(crate::base::verdict::DropReason, u64)>,
    /// Entries that made room for new ones at the table's limit, so far, by their class.
    pub evicted: Vec<(&'static str, u64)>,
    /// New connections by NAT, so far, whose client and destination are in one subnet: answers pass
    /// the director by, and such connections hang.
    pub hairpins: u64,
    /// Connections that left a full flow cache for others, having been idle.
    pub flow_evictions: u64,
    /// Entries that `drop_entry` took out of the table so far.
    pub entries_dropped: u64,
    /// Entries of the neighbour table.
    pub neighbors: usize,
    /// Entries of it that made room for others at its limit, so far.
    pub neighbors_evicted: u64,
    /// The director's own sockets.
    pub local: LocalView,
    /// Stations that claimed an address of the director's.
    pub conflicts: Vec<AddressConflict>,
}

/// Another station answered or announced an address of the director's: two owners on one segment. In direct routing
/// this is usually a real server that holds the VIP without `arp_ignore` and `arp_announce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressConflict {
    /// The address.
    pub addr: IpAddr,
    /// Who claims it.
    pub mac: crate::base::spec::MacAddr,
    /// On which interface.
    pub port: crate::base::ids::PortId,
    /// How often so far.
    pub count: u64,
}
