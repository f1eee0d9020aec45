//! What happened in a second, between two samples.

use std::collections::HashMap;

use uvs_control::sample::{Answer, Counters, Module};
use uvs_control::status::Interface;

/// Counted in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// New connections.
    pub connections: f64,
    /// Packets from clients.
    pub packets_in: f64,
    /// Packets from destinations.
    pub packets_out: f64,
    /// Bits from clients.
    pub bits_in: f64,
    /// Bits from destinations.
    pub bits_out: f64,
}

impl Rates {
    /// What was counted in so many seconds.
    pub fn between(before: &Counters, now: &Counters, seconds: f64) -> Self {
        let per_second = |before, now| per_second(before, now, seconds);
        Self {
            connections: per_second(before.connections, now.connections),
            packets_in: per_second(before.packets_in, now.packets_in),
            packets_out: per_second(before.packets_out, now.packets_out),
            bits_in: 8.0 * per_second(before.bytes_in, now.bytes_in),
            bits_out: 8.0 * per_second(before.bytes_out, now.bytes_out),
        }
    }
}

/// A counter that went back was set to zero: what it has counted since.
#[allow(clippy::cast_precision_loss, reason = "three digits of a rate are shown")]
pub fn per_second(before: u64, now: u64, seconds: f64) -> f64 {
    now.checked_sub(before).unwrap_or(now) as f64 / seconds
}

/// Two samples of one director, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    before: &'a Answer,
    /// The later one.
    pub now: &'a Answer,
    /// Between them.
    pub seconds: f64,
}

impl<'a> Pair<'a> {
    /// `None`: they are of two directors, or of one moment.
    pub fn of(before: &'a Answer, now: &'a Answer) -> Option<Self> {
        let seconds = now.uptime_s - before.uptime_s;
        let same = before.pid == now.pid && seconds > 0.001;
        same.then_some(Self { before, now, seconds })
    }

    /// All services together.
    pub fn total(&self) -> Rates {
        Rates::between(&self.before.total, &self.now.total, self.seconds)
    }

    /// Drops of all reasons.
    pub fn drops(&self) -> f64 {
        let sum = |of: &Answer| of.drops.iter().map(|it| it.frames).sum();
        per_second(sum(self.before), sum(self.now), self.seconds)
    }

    /// Drops of each reason.
    pub fn by_reason(&self) -> HashMap<&'a str, f64> {
        let before: HashMap<&str, u64> =
            self.before.drops.iter().map(|it| (it.reason.as_str(), it.frames)).collect();
        let rate = |reason: &str, frames| {
            per_second(before.get(reason).copied().unwrap_or_default(), frames, self.seconds)
        };
        self.now.drops.iter().map(|it| (it.reason.as_str(), rate(&it.reason, it.frames))).collect()
    }

    /// Of each service that is in both.
    pub fn services(&self) -> HashMap<&'a str, Rates> {
        let before: HashMap<&str, &Counters> =
            self.before.services.iter().map(|it| (it.name.as_str(), &it.counters)).collect();
        let rates = self.now.services.iter().filter_map(|it| {
            let before = before.get(it.name.as_str())?;
            Some((it.name.as_str(), Rates::between(before, &it.counters, self.seconds)))
        });
        rates.collect()
    }

    /// Of each destination, by service and name, that is in both.
    pub fn destinations(&self) -> HashMap<(&'a str, &'a str), Rates> {
        let all = |of: &'a Answer| {
            of.services.iter().flat_map(|service| {
                let name = service.name.as_str();
                service.destinations.iter().map(move |it| ((name, it.name.as_str()), &it.counters))
            })
        };
        let before: HashMap<_, _> = all(self.before).collect();
        let rates = all(self.now).filter_map(|(key, counters)| {
            Some((key, Rates::between(before.get(&key)?, counters, self.seconds)))
        });
        rates.collect()
    }

    /// Picks of each service's scheduler in a second, and how long one took meanwhile in nanoseconds, where one was
    /// timed.
    pub fn picks(&self) -> HashMap<&'a str, (f64, Option<f64>)> {
        let before: HashMap<&str, &Module> =
            self.before.schedulers.iter().map(|it| (it.service.as_str(), &it.module)).collect();
        let rates = self.now.schedulers.iter().filter_map(|it| {
            let (before, now) = (before.get(it.service.as_str())?, &it.module);
            let picks = per_second(before.picks, now.picks, self.seconds);
            let timed = per_second(before.timed, now.timed, self.seconds);
            let took = per_second(before.timed_ns, now.timed_ns, self.seconds);
            Some((it.service.as_str(), (picks, (timed > 0.0).then(|| took / timed))))
        });
        rates.collect()
    }

    /// Frames and bits of each interface, in and out.
    pub fn interfaces(&self) -> HashMap<&'a str, [f64; 4]> {
        let before: HashMap<&str, &Interface> =
            self.before.interfaces.iter().map(|it| (it.name.as_str(), it)).collect();
        let rates = self.now.interfaces.iter().filter_map(|it| {
            let before = before.get(it.name.as_str())?;
            let per_second = |before, now| per_second(before, now, self.seconds);
            let of = [
                per_second(before.received.frames, it.received.frames),
                8.0 * per_second(before.received.bytes, it.received.bytes),
                per_second(before.transmitted.frames, it.transmitted.frames),
                8.0 * per_second(before.transmitted.bytes, it.transmitted.bytes),
            ];
            Some((it.name.as_str(), of))
        });
        rates.collect()
    }

    /// Packets that pass in the flow cache.
    pub fn cached(&self) -> Option<f64> {
        let now = self.now.flow_cache.as_ref()?;
        let before = self.before.flow_cache.as_ref()?;
        Some(per_second(before.packets, now.packets, self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uptime_s: f64, pid: u32, connections: u64) -> Answer {
        let total =
            Counters { connections, packets_in: 2 * connections, bytes_in: 100, ..Counters::default() };
        Answer { uptime_s, pid, total, ..Answer::default() }
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let (before, now) = (at(10.0, 7, 100), at(12.0, 7, 160));
        let pair = Pair::of(&before, &now).unwrap();
        let want = Rates { connections: 30.0, packets_in: 60.0, ..Rates::default() };
        assert_eq!(pair.total(), want);
        assert!((pair.seconds - 2.0).abs() < 1e-9);
    }

    #[test]
    fn another_director_has_no_rates_yet() {
        let before = at(10.0, 7, 100);
        for (now, why) in [(at(12.0, 8, 0), "another process"), (at(10.0, 7, 100), "the same moment")] {
            assert!(Pair::of(&before, &now).is_none(), "{why}");
        }
    }

    #[test]
    fn a_counter_that_was_set_to_zero_counts_from_there() {
        assert!((per_second(1000, 50, 2.0) - 25.0).abs() < 1e-9);
        assert!((per_second(50, 50, 2.0)).abs() < 1e-9);
    }
}
