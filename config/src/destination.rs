//! `[[service.destination]]`.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;

use uvs_director::spec::{DestinationSpec, Family, Forwarding, Link};

use crate::address::{check_host, edge_name, is_edge};
use crate::health;
use crate::model::{Check, Interface, Override};
use crate::network::Network;
use crate::problem::Location;
use crate::read::{At, Doc, Integer, Keys, Table};
use crate::tunnel::{Method, Way};

pub(crate) const DESTINATION: Keys =
    &["address", "weight", "forward", "tunnel", "upper_threshold", "lower_threshold", "check", "checks"];

/// What destinations have to know of their service.
#[derive(Clone, Copy)]
pub(crate) enum Front {
    Address(SocketAddr),
    Mark(Family),
}

impl Front {
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Address(addr) => Family::of(addr.ip()),
            Self::Mark(family) => family,
        }
    }

    /// The one port; `None`: packets keep the port they ask for.
    fn port(self) -> Option<u16> {
        match self {
            Self::Address(addr) => Some(addr.port()).filter(|port| *port != 0),
            Self::Mark(_) => None,
        }
    }
}

/// Reads the destinations of one service.
pub(crate) struct Destinations<'r> {
    /// Of the service.
    pub(crate) table: &'r Table<'r>,
    pub(crate) network: &'r Network,
    /// Of all services.
    pub(crate) vips: &'r [IpAddr],
    /// `None`: it could not be read.
    pub(crate) front: Option<Front>,
    /// For destinations without their own.
    pub(crate) way: Way,
    /// Of the whole file.
    pub(crate) checks: &'r [Check],
}

/// What was read of them.
pub(crate) struct Read {
    /// All of them, the backups last.
    pub(crate) destinations: Vec<DestinationSpec>,
    pub(crate) backups: Vec<SocketAddr>,
    pub(crate) overrides: HashMap<SocketAddr, Override>,
}

impl Destinations<'_> {
    /// Those of the service, and the backups that its health names.
    pub(crate) fn read(&self, health: Option<&Table<'_>>) -> Read {
        let table = self.table;
        let doc = table.doc;
        let tables = table
            .tables("destination", DESTINATION, |entries| Table::peek(entries, "address").map(str::to_owned));
        let spare = health.map_or_else(Vec::new, |health| {
            health.tables("backup", DESTINATION, |entries| Table::peek(entries, "address").map(str::to_owned))
        });
        if !table.has("destination") {
            doc.warn(
                &table.at,
                "the service has no destination: nothing answers its clients",
                "add [[service.destination]] with its address below it",
            );
        }
        let mut seen: HashMap<SocketAddr, Location> = HashMap::new();
        let (mut destinations, mut backups, mut overrides) = (Vec::new(), Vec::new(), HashMap::new());
        for (number, entry) in tables.iter().chain(&spare).enumerate() {
            let Some(spec) = self.destination(entry) else { continue };
            if let Some(there) = seen.insert(spec.addr, entry.at.clone()) {
                let what = format!("a second destination {} of the service", spec.addr);
                let fix = format!("remove it or the one in {}", doc.refer(&entry.at, &there));
                doc.error(&entry.at, what, fix);
            }
            if number >= tables.len() {
                backups.push(spec.addr);
            }
            if let Some(own) = health::overrides(entry, self.checks) {
                overrides.insert(spec.addr, own);
            }
            destinations.push(spec);
        }
        let tunnels = |spec: &DestinationSpec| matches!(spec.forwarding, Forwarding::Tunnel(_));
        if table.has("tunnel") && self.way.method != Some(Method::Tunnel) && !destinations.iter().any(tunnels)
        {
            let fix = "use forward = \"tun\", or remove tunnel";
            doc.warn(&table.place("tunnel"), "no destination of the service is reached by a tunnel", fix);
        }
        Read { destinations, backups, overrides }
    }

    fn destination(&self, entry: &Table<'_>) -> Option<DestinationSpec> {
        let doc = entry.doc;
        entry.require("address", "\"192.0.2.21:8080\"");
        let address = entry.parsed("address", "192.0.2.21:8080", |text| {
            let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().map(IpAddr::V6).ok();
            let alone = || Some((text.parse().ok().or_else(bracketed)?, None));
            let with_port = text.parse::<SocketAddr>().ok().map(|addr| (addr.ip(), Some(addr.port())));
            with_port
                .or_else(alone)
                .ok_or_else(|| format!("destination address {text:?} is not an IP address and a port"))
        });
        let weight = entry.integer(&Integer {
            key: "weight",
            label: "destination weight",
            min: 0,
            max: DestinationSpec::WEIGHT_MAX.into(),
            note: " (0 quiesces the destination)",
        });
        let (upper_threshold, lower_threshold) = read_thresholds(entry);
        let way = self.way(entry);
        let At { value: (rip, port), at } = address?;
        if let Some(front) = self.front
            && front.family() != Family::of(rip)
            && way.method != Some(Method::Tunnel)
        {
            let (other, fix) = match front {
                Front::Address(addr) => {
                    (format!("VIP {}", addr.ip()), "or give the destination an address of the VIP's family")
                }
                Front::Mark(_) => ("the service".to_owned(), "or correct the family of the service"),
            };
            doc.error(
                &at,
                format!("destination {rip} and {other} are of two address families"),
                format!("use forward = \"tun\", which crosses them, {fix}"),
            );
            return None;
        }
        if !check_host(doc, "destination", rip, &at) {
            return None;
        }
        self.check_reach(doc, rip, way.method, &at);
        let front = self.front?;
        let port = check_port(doc, front, port, way.method, &at);
        let mut spec = DestinationSpec::new(SocketAddr::new(rip, port), way.forwarding()?);
        if let Some(weight) = weight.and_then(|weight| u32::try_from(weight.value).ok()) {
            spec.weight = weight;
        }
        Some(DestinationSpec { upper_threshold, lower_threshold, ..spec })
    }

    /// Its own way, or else the service's.
    fn way(&self, entry: &Table<'_>) -> Way {
        let own = Way::read(entry);
        if !own.is_given(self.way) {
            entry.doc.error(
                &entry.at,
                "the destination has no forwarding method",
                "add forward = \"nat\", \"dr\" or \"tun\" to it or to its service",
            );
        }
        let way = own.or(self.way);
        if entry.has("tunnel") && matches!(way.method, Some(Method::Nat | Method::Direct)) {
            let fix = "use forward = \"tun\", or remove tunnel";
            entry.doc.error(&entry.place("tunnel"), "the destination is not reached by a tunnel", fix);
        }
        way
    }

    /// Whether packets for `rip` can get there by that method.
    fn check_reach(&self, doc: &Doc<'_>, rip: IpAddr, method: Option<Method>, at: &Location) {
        let network = self.network;
        let ours = if network.owner(rip).is_some() {
            Some("an address of the director itself")
        } else {
            self.vips.contains(&rip).then_some("a VIP, which is the director's")
        };
        if let Some(ours) = ours {
            doc.error(at, format!("destination {rip} is {ours}"), "give the realserver's own address (RIP)");
            return;
        }
        if let Some(interface) = network.host_owner(rip) {
            check_local_node(doc, rip, method, interface, at);
        }
        let Some(hop) = network.hop(rip) else {
            if network.complete {
                doc.error(
                    at,
                    format!("no route to destination {rip}"),
                    "add an address in its subnet to an interface, or a [[route]] to it",
                );
            }
            return;
        };
        if hop.via.is_none()
            && let Some((_, subnet)) = network.connected(rip)
            && is_edge(subnet, rip)
        {
            let what = format!("destination {rip} is the {} address of {subnet}", edge_name(subnet, rip));
            doc.error(at, what, "give the realserver's own address (RIP)");
        }
        if method != Some(Method::Direct) {
            return;
        }
        let interface = network.interface(hop.port);
        if interface.spec.link == Link::Ip {
            doc.error(
                at,
                format!(
                    "direct routing over {}: a layer 3 device (TUN) has no MAC address to rewrite",
                    interface.spec.name
                ),
                "use forward = \"nat\" or \"tun\", or make the interface device = \"tap\"",
            );
        } else if let Some(via) = hop.via {
            doc.error(
                at,
                format!(
                    "destination {rip} is behind gateway {via}: direct routing ends at the director's link"
                ),
                "use forward = \"tun\" or \"nat\", or put the destination on a link of the director",
            );
        }
    }
}

/// A destination that is a process of the director's own host, on an address that its kernel has on a TUN.
fn check_local_node(
    doc: &Doc<'_>,
    rip: IpAddr,
    method: Option<Method>,
    interface: &Interface,
    at: &Location,
) {
    let name = &interface.spec.name;
    if method == Some(Method::Tunnel) {
        let what = format!("tunnelling to {rip}, which is the host kernel's address on {name}");
        let fix =
            "use forward = \"nat\": were the VIP the kernel's too, its packets would not get to the director";
        doc.error(at, what, fix);
    } else if interface.host.as_ref().is_some_and(|host| !host.local_servers) {
        doc.error(
            at,
            format!(
                "destination {rip} is the host kernel's address on {name}: its answers would not come back"
            ),
            format!("add local_servers = true to the host of interface {name}"),
        );
    }
}

/// The port that packets have when they get there; 0: the one they come with.
fn check_port(doc: &Doc<'_>, front: Front, port: Option<u16>, method: Option<Method>, at: &Location) -> u16 {
    let (what, fix) = match (front.port(), port) {
        (own, None) => return own.unwrap_or(0),
        (None, Some(0)) => return 0,
        (Some(_), Some(0)) => {
            ("destination port 0 is no port".to_owned(), "use 1 to 65535, or leave the port out".to_owned())
        }
        (None, Some(port)) if matches!(front, Front::Address(_)) => (
            format!("destination port {port} of a service on all ports: packets keep the port they ask for"),
            "leave the port out".to_owned(),
        ),
        (own, Some(port)) => {
            let method = match method {
                Some(Method::Direct) => "direct routing",
                Some(Method::Tunnel) => "tunnelling",
                _ => return port,
            };
            match own {
                Some(own) if own == port => return port,
                Some(own) => (
                    format!(
                        "destination port {port} differs from the service's, {own}: {method} leaves ports alone"
                    ),
                    format!("use port {own}, or forward = \"nat\""),
                ),
                None => (
                    format!(
                        "destination port {port} of a firewall-mark service: {method} leaves ports alone"
                    ),
                    "leave the port out, or use forward = \"nat\"".to_owned(),
                ),
            }
        }
    };
    doc.error(at, what, fix);
    port.unwrap_or(0)
}

/// Upper and lower.
fn read_thresholds(entry: &Table<'_>) -> (u32, u32) {
    let threshold = |key, note| {
        let max = i32::MAX.unsigned_abs().into();
        let found = entry.integer(&Integer { key, label: key, min: 0, max, note })?;
        u32::try_from(found.value).ok()
    };
    let upper = threshold("upper_threshold", " connections (0 is no limit)");
    let lower = threshold("lower_threshold", " connections (0 is three quarters of upper_threshold)");
    // What is there and could not be read has been told already.
    let good = entry.has("upper_threshold") == upper.is_some();
    let (upper, lower) = (upper.unwrap_or(0), lower.unwrap_or(0));
    let place = || entry.place("lower_threshold");
    if good && upper == 0 && lower > 0 {
        let what =
            format!("lower_threshold {lower} without an upper one: the destination is never overloaded");
        entry.doc.error(&place(), what, "add upper_threshold, or remove lower_threshold");
    } else if good && lower > upper {
        let what = format!("lower_threshold {lower} is above upper_threshold {upper}");
        let fix = format!("use 0 to {upper} (0 is three quarters of upper_threshold)");
        entry.doc.error(&place(), what, fix);
    }
    (upper, lower)
}
