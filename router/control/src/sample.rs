//! `sample`: what changes from second to second, cheap enough to be asked for every second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::status::{Drops, FlowCache, Health, Interface, Limit, NotAccelerated};

/// Which parts are wanted. Without any: the services, without their destinations, and the director as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Of services, destinations, checks and schedulers only those of this service (`tcp 192.0.2.10:80`, as `status`
    /// names it); of one that there is not, nothing is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The destinations of each service.
    #[serde(skip_serializing_if = "is_false")]
    pub destinations: bool,
    /// What health checks say.
    #[serde(skip_serializing_if = "is_false")]
    pub checks: bool,
    /// The schedulers of services.
    #[serde(skip_serializing_if = "is_false")]
    pub schedulers: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_false(it: &bool) -> bool {
    !*it
}

/// The director at one moment. Counters begin at its start, or where they were set to zero since (`uvs adm -Z`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The version of uvs.
    pub version: String,
    /// Its process: another one, and counters have begun anew.
    pub pid: u32,
    /// When it was taken, in seconds since the director's start: what rates between two samples are made of.
    pub uptime_s: f64,
    /// When it was taken, in RFC 3339 and UTC, with milliseconds.
    pub time: String,
    /// The configuration file, as it was given.
    pub config: String,
    /// All services together, with those that were removed.
    pub total: Counters,
    /// Connections in the table by protocol and state, as `uvs adm -Lnc` names them.
    pub states: Vec<State>,
    /// What is bounded, and how much of it is used.
    pub limits: Vec<Limit>,
    /// Frames dropped, by reason; reasons that have not occurred are left out.
    pub drops: Vec<Drops>,
    /// In the order of the file.
    pub interfaces: Vec<Interface>,
    /// The flow cache in the kernel, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_cache: Option<FlowCache>,
    /// Interfaces that are not accelerated though they should be where that can be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_accelerated: Vec<NotAccelerated>,
    /// Sorted by name.
    pub services: Vec<Service>,
    /// Services whose destinations are checked, if they are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<Health>,
    /// The schedulers, one for each service, if they are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedulers: Vec<Scheduler>,
    /// What is wrong with the director as a whole, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// What was counted. Of outgoing packets those that pass the director: by direct routing and tunnelling none do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets from destinations.
    pub packets_out: u64,
    /// Bytes from clients, IP headers included.
    pub bytes_in: u64,
    /// Bytes from destinations, IP headers included.
    pub bytes_out: u64,
}

/// Connections in one state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `ESTABLISHED`, `TIME_WAIT`...
    pub state: String,
    /// How many.
    pub connections: u64,
}

/// One virtual service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// As in messages: `tcp 192.0.2.10:80`, `fwmark 1`.
    pub name: String,
    /// The name of its scheduler.
    pub scheduler: String,
    /// Destinations that take new connections.
    pub available: u32,
    /// All of them.
    pub destinations_total: u32,
    /// Active connections.
    pub active: u64,
    /// Other connections.
    pub inactive: u64,
    /// What it counted.
    pub counters: Counters,
    /// If they are asked for, in the order in which `uvs adm -L` lists them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
}

/// One destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// Address and port.
    pub name: String,
    /// `nat`, `dr` or `tun`.
    pub forwarding: String,
    /// What it weighs now.
    pub weight: u32,
    /// Active connections.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Whether it is over its upper threshold, and not yet below the lower.
    #[serde(skip_serializing_if = "is_false")]
    pub overloaded: bool,
    /// What it counted.
    pub counters: Counters,
}

/// The scheduler of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// Of which service.
    pub service: String,
    /// Its name.
    pub scheduler: String,
    /// Who picks when the module fails.
    pub fallback: String,
    /// When the module took over, in seconds since 1970.
    pub since: u64,
    /// Modules that took over since the service came.
    pub loaded: u64,
    /// The module that is loaded, and what it did.
    pub module: Module,
    /// The module on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// A module, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Module {
    /// Its file, or the name of a shipped scheduler.
    pub origin: String,
    /// SHA-256 of the component, in hex.
    pub sha256: String,
    /// `module`; `ejected` or `given_up` while the fallback picks.
    pub serving: String,
    /// Connections it was asked for.
    pub picks: u64,
    /// Of them, those it answered with "none".
    pub none: u64,
    /// Of them, those the fallback placed.
    pub fallbacks: u64,
    /// Of them, those whose time was taken...
    pub timed: u64,
    /// ...and how long these took together, in nanoseconds.
    pub timed_ns: u64,
    /// An upper bound of what 99 of 100 picks took, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// Failures by cause (`trap`, `fuel`, ...); causes without any are left out.
    pub failures: BTreeMap<String, u64>,
    /// How often it was ejected.
    pub ejections: u64,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// A module on trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trial {
    /// `shadow` or `canary`.
    pub mode: String,
    /// The share of a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The module, and what it did.
    pub module: Module,
    /// Of a shadow: answers that were those of the module that serves.
    pub same: u64,
    /// Of a shadow: other answers.
    pub different: u64,
    /// Of a canary: connections it placed.
    pub placed: u64,
    /// Of a canary: connections of its share that the module that serves placed.
    pub passed_on: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_said() {
        let request = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(request("{}").unwrap(), Request::default());
        let of =
            Request { service: Some("tcp 192.0.2.10:80".into()), destinations: true, ..Request::default() };
        let text = r#"{"service":"tcp 192.0.2.10:80","destinations":true}"#;
        assert_eq!(serde_json::to_string(&of).unwrap(), text);
        assert_eq!(request(text).unwrap(), of);
        assert!(request(r#"{"destination":true}"#).is_err(), "a misspelt field is no request for less");
        let empty = serde_json::to_string(&Answer::default()).unwrap();
        for part in ["health", "schedulers", "flow_cache", "notices"] {
            assert!(!empty.contains(part), "{part} in {empty}");
        }
    }

    /// A director of another version may say more, and less.
    #[test]
    fn other_directors_are_understood() {
        let text = r#"{"pid":7,"services":[{"name":"tcp 192.0.2.10:80","colour":"red"}],"moon":1}"#;
        let answer: Answer = serde_json::from_str(text).unwrap();
        assert_eq!((answer.pid, answer.services[0].name.as_str()), (7, "tcp 192.0.2.10:80"));
    }
}
