//! Skew_Time and Active_Down_Interval (RFC 9568, 6.1; RFC 3768, 6.1).

use core::time::Duration;

use crate::wire::{Interval, Version};

/// Advertisements that a Backup has to miss before it takes over.
pub const MISSED: u32 = 3;

/// Skew_Time: by how much a Backup of this priority waits longer than one of a higher priority.
///
/// Version 3: `(256 - priority) / 256` of the interval that the Active router keeps. Version 2: that share of a second,
/// whatever the interval.
pub fn skew(version: Version, interval: Interval, priority: u8) -> Duration {
    let of = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval.duration(),
    };
    of * (256 - u32::from(priority)) / 256
}

/// Active_Down_Interval: how long a Backup hears nothing before it takes over, `3 * interval + skew`.
pub fn active_down(version: Version, interval: Interval, priority: u8) -> Duration {
    shortest_down(interval) + skew(version, interval, priority)
}

/// No Backup that heard the Active router advertise with this interval takes over sooner after an advertisement.
pub fn shortest_down(interval: Interval) -> Duration {
    interval.duration() * MISSED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_rfcs() {
        let centis = |centis| Interval::from_centis(centis).expect("it is one");
        let cases = [
            (Version::V3, 100, 100, 0.609, 3.609, "priority 100, 1 s"),
            (Version::V3, 100, 254, 0.008, 3.008, "priority 254, 1 s"),
            (Version::V3, 10, 100, 0.061, 0.361, "priority 100, 0.1 s"),
            (Version::V3, 100, 255, 0.004, 3.004, "the owner"),
            (Version::V3, 400, 1, 3.984, 15.984, "the lowest"),
            (Version::V2, 100, 100, 0.609, 3.609, "version 2"),
            (Version::V2, 1000, 100, 0.609, 30.609, "version 2: skew does not follow the interval"),
        ];
        for (version, interval, priority, skew_secs, down_secs, why) in cases {
            let near = |got: Duration, want: f64| (got.as_secs_f64() - want).abs() < 0.001;
            assert!(near(skew(version, centis(interval), priority), skew_secs), "{why}");
            assert!(near(active_down(version, centis(interval), priority), down_secs), "{why}");
        }
    }
}
