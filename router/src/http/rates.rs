//! What happened in a second.

use serde::Serialize;
use uvs_control::sample::Counters;

/// What happened in a second, between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Connections scheduled.
    pub(super) connections_per_s: f64,
    /// Packets from clients.
    pub(super) packets_in_per_s: f64,
    /// Packets from destinations.
    pub(super) packets_out_per_s: f64,
    /// Bytes from clients.
    pub(super) bytes_in_per_s: f64,
    /// Bytes from destinations.
    pub(super) bytes_out_per_s: f64,
}

impl Rates {
    /// Between two counts, `seconds` apart. Counters that were set to zero meanwhile begin anew.
    pub(super) fn between(before: &Counters, now: &Counters, seconds: f64) -> Self {
        let rate = |before, now| rate(before, now, seconds);
        Self {
            connections_per_s: rate(before.connections, now.connections),
            packets_in_per_s: rate(before.packets_in, now.packets_in),
            packets_out_per_s: rate(before.packets_out, now.packets_out),
            bytes_in_per_s: rate(before.bytes_in, now.bytes_in),
            bytes_out_per_s: rate(before.bytes_out, now.bytes_out),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.connections_per_s += other.connections_per_s;
        self.packets_in_per_s += other.packets_in_per_s;
        self.packets_out_per_s += other.packets_out_per_s;
        self.bytes_in_per_s += other.bytes_in_per_s;
        self.bytes_out_per_s += other.bytes_out_per_s;
    }
}

/// With one decimal, as more would be noise.
#[allow(clippy::cast_precision_loss, reason = "a rate is no exact number")]
pub(super) fn rate(before: u64, now: u64, seconds: f64) -> f64 {
    let count = now.checked_sub(before).unwrap_or(now);
    if seconds > 0.0 { (count as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
}
