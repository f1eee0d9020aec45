//! `connections`: some entries of the table of connections.

use serde::{Deserialize, Serialize};

/// Which are wanted. What is left out may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The client: an address, a subnet (`192.0.2.0/24`), or an address and a port (`192.0.2.7:40000`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What it connected to, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The real server, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// `ESTABLISHED`, `TIME_WAIT`..., as `uvs adm -Lnc` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// At most so many; 100 without it, and 1000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Some of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// How many there are that were asked for.
    pub found: u64,
    /// In no order.
    pub connections: Vec<Connection>,
}

/// An entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// `tcp`, `udp`, `sctp`; of a template of persistence what `uvs adm -Lnc` says.
    pub protocol: String,
    /// Address and port.
    pub client: String,
    /// What the client connected to.
    pub service: String,
    /// Its real server.
    pub destination: String,
    /// `nat`, `dr` or `tun`.
    pub forwarding: String,
    /// As `uvs adm -Lnc` names it.
    pub state: String,
    /// Seconds until it is forgotten.
    pub expires_s: f64,
    /// Whether it is a template of persistence.
    #[serde(default)]
    pub template: bool,
    /// Whether it counts as active.
    #[serde(default)]
    pub active: bool,
}
