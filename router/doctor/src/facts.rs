//! What is known of a host and its director. Findings are made of it and of nothing else.

use std::collections::{BTreeMap, BTreeSet};

use uvs_control::event::Event;
use uvs_control::inspect;
use uvs_control::sample::Answer as Sample;
use uvs_control::status::Answer as Status;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What the running director says; `None`: there is none that could be asked.
    pub director: Option<Director>,
    /// The network, by the director or else by the configuration.
    pub network: inspect::Answer,
    /// The host.
    pub host: Host,
}

/// A director that was asked.
#[derive(Clone, Debug, Default)]
pub struct Director {
    /// How it does.
    pub status: Status,
    /// The counters of its services and destinations.
    pub sample: Sample,
    /// Its oldest event that is kept.
    pub first_event: Option<Event>,
}

/// The host, or the part of it that this network namespace is.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Why `/dev/net/tun` cannot be opened.
    pub tun: Option<String>,
    /// Which capabilities whoever runs the director has, as bits; `None`: not known.
    pub capabilities: Option<u64>,
    /// Whether these are the running director's, not those of whoever looks.
    pub capabilities_of_director: bool,
    /// Values of sysctls that there are, such as `net.ipv4.ip_forward`.
    pub sysctls: BTreeMap<String, String>,
    /// The MTU of each device.
    pub mtus: BTreeMap<String, u32>,
    /// Devices that take frames to any address: one end of a veth pair, and what is promiscuous.
    pub take_all: BTreeSet<String>,
    /// Chains of the firewall that may drop packets.
    pub drops: Vec<FirewallDrop>,
    /// Why the firewall's rules cannot be seen.
    pub firewall_unseen: Option<String>,
    /// Offloads that merge packets for good, by device (`large-receive-offload`).
    pub offloads: BTreeMap<String, Vec<String>>,
    /// How many files the director may have open.
    pub open_files_max: Option<u64>,
    /// How many it has open.
    pub open_files: Option<u64>,
    /// A limit of its address space, in bytes.
    pub address_space_max: Option<u64>,
    /// Why the folder for compiled modules cannot be used.
    pub module_cache: Option<String>,
    /// Programs that set the clock, of those that run; `None`: not looked for.
    pub clock_daemons: Option<Vec<String>>,
    /// Whether `br_netfilter` shows frames of bridges to the firewall.
    pub bridges: bool,
}

/// Something in the firewall that may drop packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallDrop {
    /// `bridge`, `inet`, `ip`, `ip6`, `netdev` or `arp`.
    pub family: String,
    /// The table and the chain.
    pub chain: String,
    /// `forward`, `ingress`, ...
    pub hook: String,
    /// Of `netdev`: on which device.
    pub device: String,
    /// `policy drop`, or how many rules drop or reject.
    pub what: String,
}
