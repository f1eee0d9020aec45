//! `explain`: connections, and why they are as they are; what would become of one that is not there.

use serde::{Deserialize, Serialize};

/// Which connections: those that have all that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// An address, or address and port (`[2001:db8::1]:443` of IPv6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The same of the VIP. With it and the client's port, and no such connection, the answer has a `prospect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<String>,
    /// The same of the real server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// `tcp`, `udp` or `sctp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Of a prospect: the interface that the packet comes in on; without it the one that the way to the client leads
    /// to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// No more connections than that; 20 without it, and 1000 at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// So many connections there are.
    pub total: u64,
    /// Them, or the first of them.
    pub connections: Vec<Connection>,
    /// Where there is none: what would become of the client's next packet, for each service that it may ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prospects: Vec<Prospect>,
    /// What concerns all connections: the table of them is full.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// One connection, or a persistence template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// `tcp`, `udp`, `sctp`; `ip` of a template of a service with a mark.
    pub protocol: String,
    /// CIP and port.
    pub client: String,
    /// VIP and port.
    pub vip: String,
    /// RIP and port.
    pub destination: String,
    /// It is a template.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// The service whose destination it has; none, if that was removed from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// How it came to be: `scheduled`, `fallback`, `canary`, `template`, `ftp`, `adopted`.
    pub origin: String,
    /// The same in words.
    pub why: String,
    /// `nat`, `dr`, `tun`, with the kind of the tunnel.
    pub forward: String,
    /// As `ipvsadm -Lnc` names it.
    pub state: String,
    /// It counts as active at its destination.
    pub active: bool,
    /// So long until it ends if no more packets come, and how long that is from a packet on.
    pub expires_s: f64,
    /// See above.
    pub timeout_s: f64,
    /// Packets from the client that its entry has counted: no more than 255, and none of the flow cache.
    pub packets_in: u8,
    /// A packet from the destination was seen.
    pub answered: bool,
    /// The director sees answers (NAT), or they pass it by.
    pub sees_answers: bool,
    /// `available`; `ending`: the destination is being rid of its connections; `removed`: from its service.
    pub standing: String,
    /// The weight of the destination now.
    pub weight: u32,
    /// What all connections of the destination have counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// How packets of the client leave; none: there is no route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_there: Option<Way>,
    /// How answers leave, where they pass here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_back: Option<Way>,
    /// `off`: there is no flow cache; `placed`: packets pass there; `next`: the next packet places it; `not`.
    pub cache: String,
    /// Of `not`: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_why: Option<String>,
    /// Connections that hang on the same template, or FTP control connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controlled: Option<u32>,
    /// Its class, as `evict` of the limits goes by it.
    pub class: String,
    /// What looks wrong, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// Packets and bytes of a destination, since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// From clients.
    pub packets_in: u64,
    /// See above.
    pub bytes_in: u64,
    /// From the destination, as far as they pass here.
    pub packets_out: u64,
    /// See above.
    pub bytes_out: u64,
}

/// A service, and who picks for it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// As `uvs status` names it.
    pub name: String,
    /// The scheduler that is configured.
    pub scheduler: String,
    /// Its module: where it comes from, and its SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// See above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Since when it serves, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<f64>,
    /// `module`; `ejected` or `given_up` while the fallback picks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
    /// The fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What a pick has to go by now: each destination. What it was when the connection began is not kept.
    pub inputs_now: Vec<Choice>,
}

/// A destination that a new connection may get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// RIP and port.
    pub destination: String,
    /// The forwarding method.
    pub forward: String,
    /// Its weight now.
    pub weight: u32,
    /// Who set it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_by: Option<String>,
    /// Over its upper threshold.
    pub overloaded: bool,
    /// Connections in an active state, and in others.
    pub active: u32,
    /// See above.
    pub inactive: u32,
    /// Which way a packet would leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Or why it would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<String>,
}

/// A way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Way {
    /// Through this interface.
    pub interface: String,
    /// To this neighbour,
    pub next_hop: String,
    /// whose MAC address is this; none: it is not known, or there is none on that interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The longest packet, in bytes.
    pub mtu: u32,
    /// The director's own address there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// It leads to the director's own host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
}

/// What would become of a client's first packet. Nothing was asked and nothing has moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prospect {
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// What it asks for.
    pub vip: String,
    /// Where it would come in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Its firewall mark, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// The service that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// By what: `mark`, `address`, `ftp_data`, `all_ports`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caught_by: Option<String>,
    /// `scheduled`: the scheduler is asked; `template`, `known`: it goes to `destination`; `refused`: its sender is
    /// told that nobody takes it; `dropped`; `passes`: it is to somebody else.
    pub outcome: String,
    /// Where it goes, where that is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Why it is dropped, as in metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// All of it in words, and what may be done about it.
    pub why: String,
}
