//! `trace`: packets, as they pass the director.

use serde::{Deserialize, Serialize};

/// Which packets are wanted. Answers follow on the connection until it is closed, which ends the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Those of this client: an address, a subnet (`192.0.2.0/24`), or address and port (`[2001:db8::1]:443` of IPv6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// To this VIP, and of its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<String>,
    /// Of this real server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// So many bytes of each frame are wanted; 128 without it, and 65553 at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u32>,
}

/// Some packets, in the order in which they were handled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// So many before these are lost: they were read too late.
    #[serde(default)]
    pub lost: u64,
    /// What the trace cannot see, or has done so as to see it; in the first answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The interfaces, in the first answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Them.
    pub packets: Vec<Packet>,
}

/// An interface of the director.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its frames are `ethernet`, or `ip` packets.
    pub link: String,
}

/// One frame, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Packet {
    /// Ascending from 1 in a trace.
    pub number: u64,
    /// When, in seconds since 1970.
    pub time: f64,
    /// As it came in; none of what the director sends by itself, or gives up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Frame>,
    /// The last stage that it came to: `classify`, `find`, `advance`, `route`, `emit`; `timer`: it had waited.
    pub stage: String,
    /// What it was taken for: `request`, `icmp_error` (to the director), `transit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What it was found to belong to: `new`, `hit`, `reply`, `target` (it goes where a connection does), `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Its firewall mark, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// Its connection is in the flow cache, which left it to the director all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_cache: bool,
    /// The service that it asks for, or that its connection is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The scheduler of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Where a request goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// By which forwarding method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// Which way it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<super::explain::Way>,
    /// `forwarded`, `answered` (what leaves is the director's answer), `waits` (for a neighbour, or fragments),
    /// `split` (it leaves in several packets), `taken` (by the director itself), `dropped`.
    pub verdict: String,
    /// Why it was dropped, as in metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same, and what it waits for, in words; what may be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What leaves: the packet as it was made to be, and what the director says besides (ARP, ICMP, resets).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Frame>,
}

/// The connection of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// CIP and port.
    pub client: String,
    /// VIP and port.
    pub vip: String,
    /// RIP and port.
    pub destination: String,
    /// How it came to be: `scheduled`, `fallback`, `canary`, `template`, `ftp`, `adopted`.
    pub origin: String,
    /// Its state before the packet, and after it.
    pub state: String,
    /// See above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_after: Option<String>,
}

/// Bytes on an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// Which.
    pub interface: String,
    /// So long it is, in bytes.
    pub length: u32,
    /// Of a GSO packet: so many packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// Its first bytes, in base64.
    pub bytes: String,
    /// It has not its final checksum: the device fills it in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial_checksum: bool,
}
