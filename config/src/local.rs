//! `[local]`: the director as a host, which checks speak from.

use core::ops::RangeInclusive;

use uvs_check::spec::Kind;
use uvs_director::local::LocalLimits;
use uvs_director::spec::{Prefix, Protocol, ServiceKey};

use crate::model::{Check, Health, Local, Service};
use crate::network::Network;
use crate::read::{Doc, Integer, Keys, Table};

pub(crate) const LOCAL: Keys = &["ports", "packets", "buffer_mib"];

/// Below are those that services have.
const PORT_MIN: u16 = 1024;
/// Less could not hold what one round of checks hears at once.
const PACKETS_MIN: u64 = 64;
const PACKETS_MAX: u64 = 1 << 20;
const BUFFER_MIB_MAX: u64 = 16_384;

pub(crate) fn local(root: &Table<'_>) -> Local {
    let defaults = Local::default();
    let Some(table) = root.section("local", LOCAL) else { return defaults };
    let ports = table.parsed("ports", "49152-65535", ports);
    let number = |key, label, min, max, note| {
        let found = table.integer(&Integer { key, label, min, max, note })?;
        usize::try_from(found.value).ok()
    };
    let packets = number("packets", "number of packets", PACKETS_MIN, PACKETS_MAX, "");
    let buffers = number("buffer_mib", "memory for buffers", 1, BUFFER_MIB_MAX, " MiB");
    Local {
        limits: LocalLimits {
            ports: ports.map_or(defaults.limits.ports, |found| found.value),
            packets: packets.unwrap_or(defaults.limits.packets),
        },
        buffer_bytes: buffers.map_or(defaults.buffer_bytes, |mib| mib << 20),
    }
}

/// A range of ports, as the kernel's `ip_local_port_range` but with a dash.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let read = |part: &str| part.trim().parse::<u16>().ok();
    let range = text.split_once('-').and_then(|(first, last)| Some((read(first)?, read(last)?)));
    match range {
        None => Err(format!("{text:?} is no range of ports")),
        Some((first, last)) if first > last => Err(format!("the range of ports {text:?} is empty")),
        Some((first, _)) if first < PORT_MIN => {
            Err(format!("port {first} is below {PORT_MIN}: those ports are services'"))
        }
        Some((first, last)) => Ok(first..=last),
    }
}

/// Warns of interfaces from whose addresses no check can speak: services take all their ports.
pub(crate) fn warn_of_taken(doc: &Doc<'_>, network: &Network, services: &[Service], checks: &[Check]) {
    let healths = services.iter().filter_map(|service| service.health.as_ref());
    let used: Vec<&Kind> = healths.flat_map(Health::all_checks).map(|index| &checks[index].kind).collect();
    for service in services {
        let ServiceKey::Address { protocol, addr } = service.spec.key else { continue };
        if addr.port() != 0 || !used.iter().any(|kind| speaks(kind) == Some(protocol)) {
            continue;
        }
        let takes_all = |prefix: &&Prefix| {
            let of = |it: &Service| it.spec.key == ServiceKey::new(protocol, (prefix.addr(), 0).into());
            services.iter().any(of)
        };
        for interface in network.interfaces.iter().map(|interface| &interface.spec) {
            let alike = |prefix: &&Prefix| prefix.addr().is_ipv4() == addr.is_ipv4();
            let mut own = interface.addresses.iter().filter(alike).peekable();
            if own.peek().is_some_and(|first| first.addr() == addr.ip()) && own.all(|it| takes_all(&it)) {
                let what = format!(
                    "service {} takes all ports of {}, and interface {} has no other address for checks to speak from",
                    service.spec.key,
                    addr.ip(),
                    interface.name
                );
                let fix = "give the interface an address that is no VIP, or name the service's ports";
                doc.warn(&service.location, what, fix);
            }
        }
    }
}

/// What a check needs a port of.
fn speaks(kind: &Kind) -> Option<Protocol> {
    match kind {
        Kind::Exec(_) | Kind::File(_) | Kind::Ping(_) => None,
        Kind::Udp(_) | Kind::Dns(_) => Some(Protocol::Udp),
        _ => Some(Protocol::Tcp),
    }
}
