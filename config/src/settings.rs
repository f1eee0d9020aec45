//! The single tables: `[metrics]`, `[limits]`, `[timeouts]`, `[options]`.

use core::net::SocketAddr;

use uvs_director::Duration;
use uvs_director::spec::{Limits, Options, Timeouts};

use crate::read::{Integer, Keys, Table};

pub(crate) const METRICS: Keys = &["listen"];
pub(crate) const LIMITS: Keys = &["connections", "neighbors", "neighbor_queue", "icmp_errors_per_second"];
pub(crate) const TIMEOUTS: Keys = &["tcp", "tcp_fin", "udp"];
pub(crate) const OPTIONS: Keys = &["conn_reuse_mode", "expire_nodest_conn", "pmtu_disc"];

/// The largest timeout in seconds: the kernel keeps it in milliseconds in an `int`.
const TIMEOUT_MAX: u64 = 2_147_483;

pub(crate) fn metrics(root: &Table<'_>) -> Option<SocketAddr> {
    let table = root.section("metrics", METRICS)?;
    table.require("listen", "\"127.0.0.1:9100\"");
    // The kernel's own sockets serve metrics, so both families are fine here.
    let listen = table.parsed("listen", "127.0.0.1:9100", |text| {
        text.parse().map_err(|_| format!("metrics address {text:?} is not an IP address and a port"))
    });
    listen.map(|listen| listen.value)
}

pub(crate) fn limits(root: &Table<'_>) -> Limits {
    let defaults = Limits::default();
    let Some(table) = root.section("limits", LIMITS) else { return defaults };
    let limit = |key, label, max, default| {
        let found = table.integer(&Integer { key, label, min: 1, max, note: "" });
        found.and_then(|found| usize::try_from(found.value).ok()).unwrap_or(default)
    };
    let connections = limit("connections", "limit of connections", u32::MAX.into(), defaults.connections);
    let neighbors = limit("neighbors", "limit of neighbors", 1_000_000, defaults.neighbors);
    let neighbor_queue = limit("neighbor_queue", "limit of neighbor_queue", 10_000, defaults.neighbor_queue);
    let icmp_errors = table.integer(&Integer {
        key: "icmp_errors_per_second",
        label: "limit of icmp_errors_per_second",
        min: 0,
        max: u32::MAX.into(),
        note: " (0 is no limit)",
    });
    let icmp_errors = icmp_errors.and_then(|found| u32::try_from(found.value).ok());
    Limits {
        connections,
        neighbors,
        neighbor_queue,
        icmp_errors_per_second: icmp_errors.unwrap_or(defaults.icmp_errors_per_second),
    }
}

pub(crate) fn timeouts(root: &Table<'_>) -> Timeouts {
    let defaults = Timeouts::default();
    let Some(table) = root.section("timeouts", TIMEOUTS) else { return defaults };
    let timeout = |key, label, default| {
        let found = table.integer(&Integer { key, label, min: 1, max: TIMEOUT_MAX, note: " seconds" });
        found.map_or(default, |found| Duration::from_secs(found.value))
    };
    Timeouts {
        tcp: timeout("tcp", "timeout tcp", defaults.tcp),
        tcp_fin: timeout("tcp_fin", "timeout tcp_fin", defaults.tcp_fin),
        udp: timeout("udp", "timeout udp", defaults.udp),
    }
}

pub(crate) fn options(root: &Table<'_>) -> Options {
    let defaults = Options::default();
    let Some(table) = root.section("options", OPTIONS) else { return defaults };
    let reuse = Integer {
        key: "conn_reuse_mode",
        label: "conn_reuse_mode",
        min: 0,
        max: 3,
        note: " (bit 0: a SYN on a closing connection is scheduled anew, bit 1: in DR and TUN also in FIN_WAIT)",
    };
    let reuse = table.integer(&reuse).and_then(|found| u8::try_from(found.value).ok());
    Options {
        conn_reuse_mode: reuse.unwrap_or(defaults.conn_reuse_mode),
        expire_nodest_conn: table.boolean("expire_nodest_conn").unwrap_or(defaults.expire_nodest_conn),
        pmtu_disc: table.boolean("pmtu_disc").unwrap_or(defaults.pmtu_disc),
        ..defaults
    }
}
