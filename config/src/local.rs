//! `[local]`: the director as a host, which checks speak from.

use core::ops::RangeInclusive;

use uvs_director::local::LocalLimits;

use crate::model::Local;
use crate::read::{Integer, Keys, Table};

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
