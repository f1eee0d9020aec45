//! What one director tells another of its connections, so that the other can go on with them: plain values, no bytes.
//!
//! Services and destinations are named by what they are (protocol, VIP and port; RIP and port), never by where they lie
//! in a table, and times are what is left of them, for no two directors share a clock.

use core::net::SocketAddr;

use uvs_wire::Address;

use crate::base::spec::{Forwarding, ServiceKey};
use crate::base::time::Duration;
use crate::base::view::{Counters, Origin};

/// What names a connection or a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// TCP, UDP or SCTP, as the IP header has it; 0: a template of a firewall mark's service.
    pub protocol: u8,
    /// CIP and port; of a template the client's network and port 0.
    pub client: (Address, u16),
    /// VIP and port; of a firewall mark's template the mark, written as an address.
    pub asked_for: (Address, u16),
    /// A persistence template.
    pub template: bool,
    /// FTP has announced it, and the client's port, here 0, is not known before its first packet.
    pub announced: bool,
}

/// A template and the connections that it placed, or an FTP control connection and its data connections: none of them
/// ends before those that hang on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Names it within what one director tells. Never 0.
    pub number: u64,
    /// A connection of it was established once.
    pub is_assured: bool,
    /// It is a template of a one-packet service.
    pub is_one_packet: bool,
}

/// How the client of an FTP control connection wants its next data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passive {
    /// `PASV`.
    Pasv,
    /// `EPSV`.
    Epsv,
}

/// What the helper remembers of an FTP control connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FtpRecord {
    /// The client's last word about its next data connection.
    pub passive: Option<Passive>,
    /// What is added to the server's sequence numbers before the replaced bytes, modulo 2^32.
    pub shift: u32,
    /// The bytes that were replaced last.
    pub replaced: Option<Replaced>,
}

/// Bytes of a stream in place of which the client got others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The first replaced byte, as the server numbers it.
    pub seq: u32,
    /// How many they were.
    pub old_len: u32,
    /// What the client got.
    pub new: Box<[u8]>,
}

/// A connection or a template, as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Its name.
    pub id: ConnectionId,
    /// The service that placed it.
    pub service: ServiceKey,
    /// Its destination, as that service names it.
    pub server: SocketAddr,
    /// The destination was removed from its service.
    pub is_removed: bool,
    /// Where its packets go.
    pub destination: (Address, u16),
    /// How they get there.
    pub forwarding: Forwarding,
    /// As the kernel's IPVS numbers the states of TCP and SCTP; of UDP 1 once a destination has answered.
    pub state: u8,
    /// It counts as active at its destination.
    pub is_active: bool,
    /// A packet from the destination was seen.
    pub is_answered: bool,
    /// A newer connection gets the replies, which look the same.
    pub is_outdone: bool,
    /// How it came to be.
    pub origin: Origin,
    /// Packets from the client; 255: as many or more.
    pub packets_in: u8,
    /// From a packet to silence; to the millisecond.
    pub timeout: Duration,
    /// Until it expires, unless another packet comes.
    pub remaining: Duration,
    /// For how long its destination has been waited for, where somebody wants to know.
    pub waited: Option<Duration>,
    /// What it hangs on.
    pub hangs_on: Option<Group>,
    /// What hangs on it: of templates and FTP control connections.
    pub leads: Option<Group>,
    /// Of an FTP control connection.
    pub ftp: Option<FtpRecord>,
    /// Its packets passed in the flow cache.
    pub is_cached: bool,
}

/// Whose packets and connections were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Those of a destination.
    Destination(ServiceKey, SocketAddr),
    /// Those of a service, of destinations that it has no more.
    Service(ServiceKey),
    /// Those of services that are gone.
    Total,
}

/// What was counted, in parts that are nobody else's: their sum is the director's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountsRecord {
    /// Of whom.
    pub of: Counted,
    /// How much.
    pub counters: Counters,
}

/// One thing that a director tells of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "most are the large one, and all are gone soon")]
pub enum Record {
    /// It is so from now on, whatever it was before, if it was.
    Connection(ConnectionRecord),
    /// It is gone.
    Gone(ConnectionId),
}
