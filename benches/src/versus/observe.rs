//! What is read at the two ends of a measurement: counters, the time, the CPUs.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

use super::args::Timing;
use super::contestant::Contestant;

/// A moment of a measurement.
#[derive(Debug)]
struct Moment {
    at: Instant,
    count: u64,
    sent: u64,
    busy: f64,
    own: Option<f64>,
}

/// What happened while it was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Bytes, datagrams or connections that arrived.
    pub(crate) count: u64,
    /// Datagrams that were sent.
    pub(crate) sent: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// CPU time of the whole machine, in seconds.
    pub(crate) busy: f64,
    /// CPU time of the contestant's program, in seconds; `None`: it is a part of the kernel.
    pub(crate) own: Option<f64>,
}

impl Span {
    /// What arrived in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// What was sent in a second.
    pub(crate) fn sent_rate(&self) -> f64 {
        self.sent as f64 / self.seconds
    }

    /// CPU time for each that arrived, of the machine and of the program, in units of a second divided by `scale`.
    pub(crate) fn cpu(&self, scale: f64) -> (f64, Option<f64>) {
        let each = |seconds: f64| seconds * scale / (self.count.max(1)) as f64;
        (each(self.busy), self.own.map(each))
    }
}

/// A measurement that has begun.
#[derive(Debug)]
pub(crate) struct Begun(Moment);

impl Begun {
    /// Begins to measure.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(crate) fn now(contestant: &Contestant, count: u64, sent: u64) -> Result<Self> {
        Ok(Self(look(contestant, count, sent)?))
    }

    /// Ends it.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(crate) fn end(self, contestant: &Contestant, count: u64, sent: u64) -> Result<Span> {
        let (from, to) = (self.0, look(contestant, count, sent)?);
        Ok(Span {
            count: to.count - from.count,
            sent: to.sent - from.sent,
            seconds: (to.at - from.at).as_secs_f64(),
            busy: to.busy - from.busy,
            own: from.own.zip(to.own).map(|(from, to)| to - from),
        })
    }
}

/// Waits for the load to warm up, and looks at `count` (arrived, sent) at both ends of what is measured. It ends early
/// when `stop` is set, by whoever failed.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn observe(
    contestant: &Contestant,
    timing: Timing,
    stop: &AtomicBool,
    count: impl Fn() -> (u64, u64),
) -> Result<Span> {
    sleep(timing.warm_up, stop);
    let (arrived, sent) = count();
    let begun = Begun::now(contestant, arrived, sent)?;
    sleep(timing.window, stop);
    let (arrived, sent) = count();
    begun.end(contestant, arrived, sent)
}

fn sleep(time: Duration, stop: &AtomicBool) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn look(contestant: &Contestant, count: u64, sent: u64) -> Result<Moment> {
    Ok(Moment { at: Instant::now(), count, sent, busy: busy()?, own: contestant.own_cpu() })
}

/// Seconds that the machine's CPUs have worked since it was started: all but idle, waiting and stolen time.
fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().context("there is no CLK_TCK")?;
    let ticks = busy_ticks(&stat).context("/proc/stat has no line of all CPUs")?;
    Ok(ticks as f64 / per_second as f64)
}

/// Of the first line of `/proc/stat`: user, nice, system, irq and softirq (proc_stat(5)); guests are in user.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, irq, softirq, ..] = *fields.as_slice() else { return None };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_no_work() {
        let stat = "cpu  10 20 30 4000 500 6 7 800 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(10 + 20 + 30 + 6 + 7));
        assert_eq!(busy_ticks("intr 1 2 3\n"), None);
    }
}
