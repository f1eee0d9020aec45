//! `inspect`: the network as the director sees it, for `uvs doctor`.

use serde::{Deserialize, Serialize};

/// Asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// First ask the links who else has the director's addresses (ARP probes, RFC 5227), which takes a second.
    #[serde(skip_serializing_if = "is_false")]
    pub probe: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_false(it: &bool) -> bool {
    !*it
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// In the order of the configuration.
    pub interfaces: Vec<Interface>,
    /// Other stations that claimed an address of the director's; the latest last.
    pub conflicts: Vec<Conflict>,
    /// Destinations, and routers on the way to them, whose MAC address nobody tells though it is asked for.
    pub unresolved: Vec<String>,
    /// MAC addresses of destinations that are neighbours.
    pub servers: Vec<Server>,
    /// New connections by NAT, so far, whose client and destination are in one subnet: answers pass the director by.
    pub hairpins: u64,
    /// Where compiled modules are kept, if anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_cache: Option<String>,
}

/// An interface, and what the host has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// The device.
    pub name: String,
    /// `tap` or `tun`.
    pub device: String,
    /// Addresses with their subnets, VIPs that lie in none included.
    pub addresses: Vec<String>,
    /// The largest IP packet, as configured.
    pub mtu: u32,
    /// The bridge that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Links that are put into that bridge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// The link that it is attached to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Whether the host's kernel has to forward for it (TUN).
    #[serde(skip_serializing_if = "is_false")]
    pub forwarding: bool,
}

/// Somebody else with an address of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conflict {
    /// The address.
    pub address: String,
    /// Who claims it.
    pub mac: String,
    /// On which interface.
    pub interface: String,
    /// How often so far.
    pub count: u64,
    /// With `probe`: whether it answered just now.
    #[serde(skip_serializing_if = "is_false")]
    pub now: bool,
}

/// A destination on one of our links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Its address.
    pub address: String,
    /// Its MAC address.
    pub mac: String,
}
