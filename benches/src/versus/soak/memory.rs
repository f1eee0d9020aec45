//! What the director takes of the machine's memory while it works.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::versus::contestant::Contestant;

/// So many samples, one a second, are needed to tell growth from a beginning.
const ENOUGH: usize = 30;
/// What the last third may have more than the first: pages that some path touches for the first time.
const SLACK_PERCENT: u64 = 3;
const SLACK_KIB: u64 = 1024;

/// Resident memory (RSS) in KiB, each second.
pub(super) struct Memory(Vec<u64>);

impl Memory {
    /// Reads until the deadline, or `stop`.
    pub(super) fn watch(contestant: &Contestant, deadline: Instant, stop: &AtomicBool) -> Result<Self> {
        let id = contestant.process_id().context("a peer in the kernel has no memory of its own")?;
        let mut samples = Vec::new();
        let mut next = Instant::now();
        while next < deadline && !stop.load(Ordering::Relaxed) {
            let status = fs::read_to_string(format!("/proc/{id}/status")).context("the director is gone")?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
            samples.push(kib.context("the director's memory cannot be read")?);
            next += Duration::from_secs(1);
            thread::sleep(next.min(deadline).saturating_duration_since(Instant::now()));
        }
        Ok(Self(samples))
    }

    /// Medians of the first and of the last third.
    fn thirds(&self) -> (u64, u64) {
        let third = self.0.len().div_ceil(3);
        let median = |part: &[u64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or_default()
        };
        let (first, last) = (self.0.get(..third), self.0.get(self.0.len().saturating_sub(third)..));
        (median(first.unwrap_or_default()), median(last.unwrap_or_default()))
    }

    /// In words, if it was watched for long enough and the last third is above the first.
    pub(super) fn has_grown(&self) -> Option<String> {
        let (first, last) = self.thirds();
        let allowed = first + first * SLACK_PERCENT / 100 + SLACK_KIB;
        (self.0.len() >= ENOUGH && last > allowed).then(|| format!("from {first} KiB to {last} KiB"))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.thirds();
        let most = self.0.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "{first} KiB in the first third, {last} KiB in the last, at most {most} KiB ({} samples)",
            self.0.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_a_beginning() {
        let flat = || vec![50_000; 60];
        let mut start = flat();
        start[..3].copy_from_slice(&[20_000, 30_000, 45_000]);
        let cases = [
            (flat(), false, "flat"),
            (start, false, "a table that fills at first"),
            ((0..60).map(|second| 50_000 + 200 * second).collect(), true, "200 KiB a second"),
            ((0..20).map(|second| 50_000 + 200 * second).collect(), false, "too short to tell"),
            (vec![], false, "nothing at all"),
        ];
        for (samples, grows, why) in cases {
            assert_eq!(Memory(samples).has_grown().is_some(), grows, "{why}");
        }
    }
}
