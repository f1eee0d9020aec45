//! `[workers]`, and the keys of `[[interface]]` about how frames pass between a device and its workers.

use uvs_director::Duration;

use crate::model::{DeviceIo, OffloadWish, Workers};
use crate::read::{Integer, Keys, Table};

pub(crate) const WORKERS: Keys = &["busy_poll_us", "cpus"];

/// As many queues as the kernel gives one device.
const QUEUES_MAX: u64 = 256;
/// Longer than this, and a worker that sleeps would not be later.
const BUSY_POLL_MAX_US: u64 = 10_000;
/// The largest number of a CPU that Linux can be built for.
const CPU_MAX: u64 = 8191;

pub(crate) fn workers(root: &Table<'_>) -> Workers {
    let Some(table) = root.section("workers", WORKERS) else { return Workers::default() };
    let busy_poll = table.integer(&Integer {
        key: "busy_poll_us",
        label: "busy_poll_us",
        min: 0,
        max: BUSY_POLL_MAX_US,
        note: " microseconds (0: sleep at once)",
    });
    let cpus = table.integers(&Integer {
        key: "cpus",
        label: "CPU",
        min: 0,
        max: CPU_MAX,
        note: ", the numbers that lscpu shows",
    });
    if cpus.as_ref().is_some_and(Vec::is_empty) {
        let fix = "write cpus = [0, 1], or remove the key: then the system places the workers";
        table.doc.error(&table.place("cpus"), "cpus names no CPU", fix);
    }
    let mut seen = Vec::new();
    for cpu in cpus.unwrap_or_default() {
        if seen.contains(&cpu.value) {
            let what = format!("CPU {} is given twice", cpu.value);
            table.doc.error(&cpu.at, what, "name each CPU once");
        }
        seen.push(cpu.value);
    }
    Workers {
        busy_poll: Duration::from_micros(busy_poll.map_or(0, |found| found.value)),
        cpus: seen.into_iter().filter_map(|cpu| u16::try_from(cpu).ok()).collect(),
    }
}

/// `offload` and `queues` of an interface.
pub(crate) fn device_io(table: &Table<'_>) -> DeviceIo {
    let words = [("auto", OffloadWish::Auto), ("on", OffloadWish::On), ("off", OffloadWish::Off)];
    let offload = table.choice("offload", &words, &[("true", "on"), ("false", "off")]);
    let queues = table.integer(&Integer {
        key: "queues",
        label: "number of queues",
        min: 1,
        max: QUEUES_MAX,
        note: "",
    });
    DeviceIo {
        offload: offload.map_or(OffloadWish::Auto, |found| found.value),
        queues: queues.and_then(|found| u16::try_from(found.value).ok()),
    }
}
