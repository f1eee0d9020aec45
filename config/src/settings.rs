//! The single tables: `[metrics]`, `[limits]`, `[timeouts]`, `[options]` with `compat`.

use core::net::SocketAddr;
use std::path::{Path, PathBuf};

use uvs_director::Duration;
use uvs_director::spec::{Evict, Limits, Options, Timeouts, Transit};

use crate::duration::Span;
use crate::model::{Kept, Service, Unset};
use crate::modules::{self, Folder};
use crate::read::{Doc, Integer, Keys, Scalar, Table};

pub(crate) const METRICS: Keys = &["listen", "destinations"];
pub(crate) const LIMITS: Keys = &[
    "connections",
    "evict",
    "flows",
    "neighbors",
    "neighbor_queue_bytes",
    "neighbor_queues_bytes",
    "icmp_errors_per_second",
    "fragment_bytes",
    "fragmented_packets",
    "fragments_per_packet",
    "transit_flows",
];
pub(crate) const FLOW_CACHE: Keys = &["pin"];
pub(crate) const HOST: Keys = &["record"];
pub(crate) const RESTART: Keys = &["connections", "every"];
pub(crate) const TIMEOUTS: Keys = &["tcp", "tcp_fin", "udp", "drain"];
pub(crate) const OPTIONS: Keys = &[
    "conn_reuse_mode",
    "expire_nodest_conn",
    "expire_quiescent_template",
    "sloppy_tcp",
    "sloppy_sctp",
    "secure_tcp",
    "drop_entry",
    "drop_packet",
    "am_droprate",
    "nat_icmp_send",
    "schedule_icmp",
    "cache_bypass",
    "ignore_tunneled",
    "pmtu_disc",
    "ftp",
];

/// Of how many destinations there are metrics where nobody says: some 10 MB with one check of each.
pub(crate) const METRICS_DESTINATIONS: u32 = 4096;
const METRICS_DESTINATIONS_MAX: u64 = 1_000_000;
/// The largest timeout in seconds: the kernel keeps it in milliseconds in an `int`.
const TIMEOUT_MAX: u64 = 2_147_483;
/// Less could not hold the fragments of one packet of the largest size and what is remembered about them.
const FRAGMENT_BYTES_MIN: u64 = 131_072;
/// Less could not hold the largest frame and what is remembered about it.
const QUEUE_BYTES_MIN: u64 = 66_000;
/// What a flow cache holds that nobody has asked more of: some 32 MiB of the kernel's memory.
const FLOWS_DEFAULT: u32 = 65_536;
/// A map of the kernel has two entries for each.
const FLOWS_MAX: u64 = 1 << 26;
/// A packet of 64 KiB cannot be in more: all but the last have 8 bytes at least.
const FRAGMENTS_MAX: u64 = 8192;

/// What `[metrics]` says: the address, and of how many destinations there are series, if that is said.
pub(crate) fn metrics(root: &Table<'_>) -> (Option<SocketAddr>, Option<u32>) {
    let Some(table) = root.section("metrics", METRICS) else { return (None, None) };
    let destinations = table.integer(&Integer {
        key: "destinations",
        label: "number of destinations with metrics",
        min: 0,
        max: METRICS_DESTINATIONS_MAX,
        note: " (0: metrics of services alone)",
    });
    let destinations = destinations.and_then(|found| u32::try_from(found.value).ok());
    // Metrics are at the address of [http], too.
    if destinations.is_none() {
        table.require("listen", "\"127.0.0.1:9100\"");
    }
    // The kernel's own sockets serve metrics, so both families are fine here.
    let listen = table.parsed("listen", "127.0.0.1:9100", |text| {
        text.parse().map_err(|_| format!("metrics address {text:?} is not an IP address and a port"))
    });
    (listen.map(|listen| listen.value), destinations)
}

/// Tells who has more destinations than there are series of, and has not said that this is meant.
pub(crate) fn warn_of_many(doc: &Doc<'_>, said: Option<u32>, services: &[Service]) {
    let count: usize = services.iter().map(|service| service.destinations.len()).sum();
    let Some(last) = services.last().filter(|_| said.is_none() && count > METRICS_DESTINATIONS as usize)
    else {
        return;
    };
    doc.warn(
        &last.location,
        format!("metrics are of {METRICS_DESTINATIONS} of the {count} destinations, those in trouble first"),
        format!(
            "write destinations = {count} under [metrics] for all of them, or a smaller number to mean it"
        ),
    );
}

/// What `[limits]` says.
pub(crate) struct Bounds {
    pub(crate) limits: Limits,
    pub(crate) flows: u32,
    pub(crate) unset: Unset,
}

/// The limits of the director, and that of the flow cache.
pub(crate) fn limits(root: &Table<'_>) -> Bounds {
    let defaults = Limits::default();
    let Some(table) = root.section("limits", LIMITS) else {
        let unset = Unset { connections: true, flows: true, fragment_bytes: true, lowered: None };
        return Bounds { limits: defaults, flows: FLOWS_DEFAULT, unset };
    };
    let flows = table.integer(&Integer {
        key: "flows",
        label: "limit of flows",
        min: 1,
        max: FLOWS_MAX,
        note: " connections (some 200 bytes of the kernel's memory each with IPv4, 300 with IPv6, from the start)",
    });
    let flows = flows.and_then(|found| u32::try_from(found.value).ok());
    let given = |key, label, max| {
        let found = table.integer(&Integer { key, label, min: 1, max, note: "" });
        found.and_then(|found| usize::try_from(found.value).ok())
    };
    let limit = |key, label, max, default| given(key, label, max).unwrap_or(default);
    let connections = given("connections", "limit of connections", u32::MAX.into());
    let icmp_errors = table.integer(&Integer {
        key: "icmp_errors_per_second",
        label: "limit of icmp_errors_per_second",
        min: 0,
        max: u32::MAX.into(),
        note: " (0 is no limit)",
    });
    let icmp_errors = icmp_errors.and_then(|found| u32::try_from(found.value).ok());
    let fragment_bytes = table.integer(&Integer {
        key: "fragment_bytes",
        label: "limit of fragment_bytes",
        min: FRAGMENT_BYTES_MIN,
        max: u32::MAX.into(),
        note: " bytes (the largest packet has to fit in)",
    });
    let fragment_bytes = fragment_bytes.and_then(|found| usize::try_from(found.value).ok());
    let queue_bytes = |key, label| {
        let note = " bytes (the largest frame has to fit in)";
        let found = table.integer(&Integer { key, label, min: QUEUE_BYTES_MIN, max: u32::MAX.into(), note });
        found.and_then(|found| usize::try_from(found.value).ok())
    };
    let evict = table.choice(
        "evict",
        &[("any", Evict::Any), ("embryonic", Evict::Embryonic), ("none", Evict::None)],
        &[],
    );
    let limits = Limits {
        evict: evict.map_or(defaults.evict, |evict| evict.value),
        connections: connections.unwrap_or(defaults.connections),
        neighbors: limit("neighbors", "limit of neighbors", 1_000_000, defaults.neighbors),
        neighbor_queue_bytes: queue_bytes("neighbor_queue_bytes", "limit of neighbor_queue_bytes")
            .unwrap_or(defaults.neighbor_queue_bytes),
        neighbor_queues_bytes: queue_bytes("neighbor_queues_bytes", "limit of neighbor_queues_bytes")
            .unwrap_or(defaults.neighbor_queues_bytes),
        icmp_errors_per_second: icmp_errors.unwrap_or(defaults.icmp_errors_per_second),
        fragment_bytes: fragment_bytes.unwrap_or(defaults.fragment_bytes),
        fragmented_packets: limit(
            "fragmented_packets",
            "limit of fragmented_packets",
            1_000_000,
            defaults.fragmented_packets,
        ),
        fragments_per_packet: limit(
            "fragments_per_packet",
            "limit of fragments_per_packet",
            FRAGMENTS_MAX,
            defaults.fragments_per_packet,
        ),
        transit_flows: limit("transit_flows", "limit of transit_flows", 10_000_000, defaults.transit_flows),
    };
    let unset = Unset {
        connections: connections.is_none(),
        flows: flows.is_none(),
        fragment_bytes: fragment_bytes.is_none(),
        lowered: None,
    };
    Bounds { limits, flows: flows.unwrap_or(FLOWS_DEFAULT), unset }
}

/// Where established flows outlive the director.
pub(crate) fn flow_pin(root: &Table<'_>) -> Option<PathBuf> {
    let table = root.section("flow_cache", FLOW_CACHE)?;
    let pin = table.parsed("pin", "/sys/fs/bpf/uvs", |text| match Path::new(text) {
        path if path.is_absolute() => Ok(path.to_owned()),
        _ => Err(format!("folder {text:?} is not an absolute path")),
    });
    pin.map(|pin| pin.value)
}

/// Where it is noted what is done to the host.
pub(crate) fn host_record(root: &Table<'_>) -> Folder {
    let table = root.section("host", HOST);
    table.map(|table| modules::folder(&table, "record", "/run/uvs")).unwrap_or_default()
}

/// Where connections outlive the director.
pub(crate) fn kept_connections(root: &Table<'_>) -> Option<Kept> {
    let table = root.section("restart", RESTART)?;
    let file = table.parsed("connections", "/var/lib/uvs/connections", |text| match Path::new(text) {
        path if path.is_absolute() && path.file_name().is_some() && !text.ends_with('/') => {
            Ok(path.to_owned())
        }
        _ => Err(format!("{text:?} is not the absolute path of a file")),
    });
    let every = table.duration(&EVERY);
    if let (Some(every), None) = (&every, table.scalar("connections")) {
        let fix = "add connections = \"/var/lib/uvs/connections\", or remove every";
        table.doc.error(&every.at, "every without connections", fix);
    }
    file.map(|file| Kept { file: file.value, every: every.map(|every| every.value) })
}

const EVERY: Span =
    Span { key: "every", min: Duration::from_secs(1), max: Duration::from_secs(86_400), note: "" };

/// Those of connections, and what services have for `drain` that do not say.
pub(crate) fn timeouts(root: &Table<'_>) -> (Timeouts, Option<Duration>) {
    let defaults = Timeouts::default();
    let Some(table) = root.section("timeouts", TIMEOUTS) else { return (defaults, None) };
    let timeout = |key, label, default| {
        let found = table.integer(&Integer { key, label, min: 1, max: TIMEOUT_MAX, note: " seconds" });
        found.map_or(default, |found| Duration::from_secs(found.value))
    };
    let timeouts = Timeouts {
        tcp: timeout("tcp", "timeout tcp", defaults.tcp),
        tcp_fin: timeout("tcp_fin", "timeout tcp_fin", defaults.tcp_fin),
        udp: timeout("udp", "timeout udp", defaults.udp),
    };
    (timeouts, drain(&table, None))
}

/// How long connections of destinations that lose their weight, or are removed, go on; false: there is no such bound.
pub(crate) fn drain(table: &Table<'_>, default: Option<Duration>) -> Option<Duration> {
    match table.scalar(DRAIN.key) {
        None => default,
        Some(Scalar::Boolean(false)) => None,
        Some(_) => table.duration(&DRAIN).map(|found| found.value),
    }
}

const DRAIN: Span = Span {
    key: "drain",
    min: Duration::ZERO,
    max: Duration::from_secs(86_400),
    note: ", or false for no bound",
};

/// The behaviour, where `compat` and `transit` at the top level start it from and `[options]` changes it.
pub(crate) fn options(root: &Table<'_>) -> Options {
    let compat = root.choice("compat", &[("none", false), ("ipvs", true)], &[("IPVS", "ipvs")]);
    let compat_ipvs = compat.is_some_and(|compat| compat.value);
    let words = [("servers", Transit::Servers), ("any", Transit::Any), ("none", Transit::None)];
    let transit = root.choice("transit", &words, &[("all", "any"), ("off", "none")]);
    // The kernel is a router.
    let usual = if compat_ipvs { Transit::Any } else { Transit::Servers };
    let transit = transit.map_or(usual, |transit| transit.value);
    // Who drains a server wants it to be rid of its clients, those that stick to it among them.
    let expire_quiescent_template = !compat_ipvs;
    let defaults = Options { compat_ipvs, transit, expire_quiescent_template, ..Options::default() };
    let Some(table) = root.section("options", OPTIONS) else { return defaults };
    let switch = |key, default| table.switch(key).unwrap_or(default);
    let number = |key, min, max, note| {
        let found = table.integer(&Integer { key, label: key, min, max, note })?;
        u32::try_from(found.value).ok()
    };
    let mode = |key, note, default| {
        number(key, 0, 3, note).and_then(|mode| u8::try_from(mode).ok()).unwrap_or(default)
    };
    let defence = " (0: never, 1 and 2: when memory is short, 3: always)";
    Options {
        conn_reuse_mode: mode(
            "conn_reuse_mode",
            " (bit 0: a SYN on a closing connection is scheduled anew, bit 1: in DR and TUN also in FIN_WAIT)",
            defaults.conn_reuse_mode,
        ),
        expire_nodest_conn: switch("expire_nodest_conn", defaults.expire_nodest_conn),
        expire_quiescent_template: switch("expire_quiescent_template", defaults.expire_quiescent_template),
        sloppy_tcp: switch("sloppy_tcp", defaults.sloppy_tcp),
        sloppy_sctp: switch("sloppy_sctp", defaults.sloppy_sctp),
        secure_tcp: mode(
            "secure_tcp",
            " (3: a connection is not established before its destination says so)",
            defaults.secure_tcp,
        ),
        drop_entry: mode("drop_entry", defence, defaults.drop_entry),
        drop_packet: mode("drop_packet", defence, defaults.drop_packet),
        am_droprate: number("am_droprate", 1, i32::MAX.unsigned_abs().into(), " (one packet in so many)")
            .unwrap_or(defaults.am_droprate),
        nat_icmp_send: switch("nat_icmp_send", defaults.nat_icmp_send),
        schedule_icmp: switch("schedule_icmp", defaults.schedule_icmp),
        cache_bypass: switch("cache_bypass", defaults.cache_bypass),
        ignore_tunneled: switch("ignore_tunneled", defaults.ignore_tunneled),
        pmtu_disc: switch("pmtu_disc", defaults.pmtu_disc),
        ftp: switch("ftp", defaults.ftp),
        transit,
        compat_ipvs,
    }
}
