//! `status`: how the director does, in figures.

use serde::{Deserialize, Serialize};

use crate::plan::LastReload;

/// Asks for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {}

/// The director at one moment. Counters begin at its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The version of uvs.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since its start, in seconds.
    pub uptime_s: f64,
    /// The configuration file, as it was given.
    pub config: String,
    /// In the order of the file.
    pub interfaces: Vec<Interface>,
    /// Sorted by name.
    pub services: Vec<Service>,
    /// The modules that serve, one for each service.
    pub schedulers: Vec<Scheduler>,
    /// The flow cache in the kernel, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_cache: Option<FlowCache>,
    /// Interfaces that are not accelerated though they should be where that can be (`accelerate = "auto"`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_accelerated: Vec<NotAccelerated>,
    /// What is bounded, and how much of it is used.
    pub limits: Vec<Limit>,
    /// Which limits follow the memory that there is, to what, and how much that was; none where the configuration sets
    /// them, or there is enough for the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_lowered: Option<String>,
    /// Frames dropped, by reason; reasons that have not occurred are left out.
    pub drops: Vec<Drops>,
    /// Services whose destinations are checked, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<Health>,
    /// The latest reload, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<LastReload>,
    /// What differs from the configuration since it was changed by hand, a line each: the next reload undoes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<String>,
    /// How many these are; the first 100 are in `by_hand`.
    #[serde(default)]
    pub by_hand_total: u64,
    /// What is wrong with the director as a whole, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The device.
    pub name: String,
    /// Frames and bytes that came in.
    pub received: Flow,
    /// Frames and bytes that went out.
    pub transmitted: Flow,
    /// How its frames pass: `flow_cache`, `tcx`, `bridge`, `tap` or `tun`.
    #[serde(default)]
    pub datapath: String,
    /// What to do for a faster one, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faster: Option<String>,
    /// `up`; `degraded` while something is missing that it needs of the host; `down` without a device.
    #[serde(default)]
    pub state: String,
    /// What is missing, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The MTU in force, in bytes: the configured one, or the link's where that is smaller.
    #[serde(default)]
    pub mtu: u32,
    /// How often something of the host that it needs was set up again.
    #[serde(default)]
    pub repairs: u64,
    /// What was lost on the devices of the host that its frames pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Losses>,
}

/// Packets that a device of the host lost since the director's start, by the kernel's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Its name.
    pub device: String,
    /// What it is to the interface: its `device`, its `bridge`, a `port` of that, or its `link`.
    pub role: String,
    /// Dropped on the way to the director.
    pub received_dropped: u64,
    /// Broken on the way to the director.
    pub received_errors: u64,
    /// Dropped on the way from the director.
    pub transmitted_dropped: u64,
    /// Failed on the way from the director.
    pub transmitted_errors: u64,
}

impl Losses {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.received_dropped + self.received_errors + self.transmitted_dropped + self.transmitted_errors
    }
}

/// One direction of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Frames; a GSO packet of segments counts as one.
    pub frames: u64,
    /// Bytes, Ethernet headers included.
    pub bytes: u64,
    /// Reads or writes that failed.
    pub errors: u64,
}

/// One virtual service. Rates are smoothed over some seconds, as ipvsadm's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// As in messages: `tcp 192.0.2.10:80`, `fwmark 1`.
    pub name: String,
    /// The name of its scheduler.
    pub scheduler: String,
    /// Destinations that take new connections.
    pub available: u32,
    /// All of them.
    pub destinations: u32,
    /// Active connections.
    pub active: u64,
    /// Other connections.
    pub inactive: u64,
    /// Scheduled so far.
    pub connections: u64,
    /// New connections in a second.
    pub connections_per_s: u64,
    /// Bytes from clients in a second.
    pub bytes_in_per_s: u64,
    /// Bytes from destinations in a second, where they pass the director.
    pub bytes_out_per_s: u64,
}

/// The scheduler of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// Of which service.
    pub service: String,
    /// Its name.
    pub scheduler: String,
    /// Who picks now: `module`, or `fallback` while the module is set aside.
    pub serving: String,
    /// Picks so far.
    pub picks: u64,
    /// Failures of the module so far, all causes together.
    pub failures: u64,
    /// How often the module was set aside.
    pub ejections: u64,
}

/// What the flow cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCache {
    /// Flows in it: two of a NAT connection, one of others.
    pub flows: u64,
    /// Those of each IP version that have room in it.
    pub flows_max: u64,
    /// Connections placed so far.
    pub connections: u64,
    /// Tries to place one for which there was no room.
    pub refused: u64,
    /// Packets that passed so far.
    pub packets: u64,
}

/// An interface whose flows all pass the director.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotAccelerated {
    /// The device.
    pub interface: String,
    /// What is missing.
    pub why: String,
}

/// One bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name in `[limits]`.
    pub name: String,
    /// Now.
    pub used: u64,
    /// At most.
    pub max: u64,
    /// So many of these are kept for services that have less than their shares; the others fill the rest.
    #[serde(default)]
    pub reserved: u64,
    /// So many made room for new ones at the limit, since the start.
    #[serde(default)]
    pub made_room: u64,
    /// So many packets of new ones were refused, since none made room.
    #[serde(default)]
    pub refused: u64,
}

impl Limit {
    /// Whether nine tenths are in use of what anybody may use.
    pub fn is_nearly_full(&self) -> bool {
        let room = self.max.saturating_sub(self.reserved);
        room > 0 && self.used.saturating_mul(10) >= room.saturating_mul(9)
    }

    /// How many are in use, of how many.
    pub fn shown(&self) -> String {
        let Self { used, max, reserved, .. } = self;
        match reserved {
            0 => format!("{used} of {max}"),
            _ => format!("{used} of {max}, {reserved} of which are kept for services with few"),
        }
    }
}

/// Drops of one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// The label in `uvs_drops_total`.
    pub reason: String,
    /// So far.
    pub frames: u64,
}

/// A service whose destinations are checked, or kept out of service by people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Its name.
    pub service: String,
    /// Whether it is checked at all; else it is told of for its administrative states.
    #[serde(default)]
    pub judged: bool,
    /// Whether it has its quorum; absent until the first results have come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<bool>,
    /// Whether its backups serve.
    pub backup: bool,
    /// Its destinations.
    pub destinations: Vec<Destination>,
}

/// A destination of such a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Address and port.
    pub destination: String,
    /// Whether it is a backup.
    pub backup: bool,
    /// Whether its checks are up and it is not held out of service for its flaps.
    pub in_service: bool,
    /// Since when that is so, in seconds.
    pub since_s: f64,
    /// What it weighs.
    pub weight: u32,
    /// Who had the last word on that: `file`, `adm`, `operator`, `agent`, `script`, `slow start`, `health` or
    /// `administrative state`.
    pub weight_by: String,
    /// `ready`, `drain` or `maint`.
    pub admin: String,
    /// The drain under way, or over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<crate::destination::Drain>,
    /// How often it went out of service.
    pub flaps: u64,
    /// For how many seconds more it is held out of service for its flaps, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_s: Option<f64>,
    /// Its checks.
    pub checks: Vec<Check>,
}

/// A check of a destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Its type and whom it asks, such as `tcp 192.0.2.21:80`.
    pub probe: String,
    /// `unchecked`, `up`, `down` or `cannot be made`.
    pub state: String,
    /// Since when, in seconds.
    pub since_s: f64,
    /// So many results in a row speak against that...
    pub against: u32,
    /// ...of so many that change it.
    pub needed: u32,
    /// What the last probe found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// How long ago that was, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_age_s: Option<f64>,
    /// How long that probe took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_s: Option<f64>,
    /// Whether a result should long have come.
    pub overdue: bool,
    /// How many checks share its probe, this one included.
    pub shared: u64,
    /// Probes that succeeded.
    pub passed: u64,
    /// Probes that failed.
    pub failed: u64,
    /// Probes that could not be made.
    pub unmade: u64,
    /// When the certificate of the server expires that the last probe over TLS saw, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<i64>,
}
