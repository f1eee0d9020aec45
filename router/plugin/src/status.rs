//! What is to be said about the scheduler of a running service.

use core::fmt;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::lock;
use crate::load::{By, LoadReport, Refusal, Step};
use crate::module::Module;
use crate::running::Running;
use crate::stats::{SchedulerStats, Snapshot};
use crate::trial::{Mode, Trial};

/// The scheduler of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The service: `tcp 192.0.2.10:443`.
    pub service: String,
    /// The scheduler by the name the configuration gives it.
    pub scheduler: String,
    /// What is really loaded.
    pub module: ModuleStatus,
    /// When it took over, in seconds since 1970.
    pub since: u64,
    /// Who wanted it.
    pub by: By,
    /// Who picks when it fails.
    pub fallback: String,
    /// Its figures.
    pub work: Work,
    /// What the latest attempt to load a module came to.
    pub latest_load: Option<AttemptStatus>,
    /// Modules that took over since the service came.
    pub loaded: u64,
    /// Modules that were refused, by step; those without any are left out.
    pub refused: BTreeMap<String, u64>,
    /// What `rollback` goes back to.
    pub previous: Option<ModuleStatus>,
    /// The module on trial.
    pub trial: Option<TrialStatus>,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Its file, or the name of a shipped scheduler.
    pub origin: String,
    /// SHA-256 of the component, in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// What `init` was given.
    pub options: String,
}

/// What a module did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// module, ejected or given_up.
    pub serving: String,
    /// Connections it was asked for.
    pub picks: u64,
    /// Of them, those it answered with "none".
    pub none: u64,
    /// Of them, those the fallback placed.
    pub fallbacks: u64,
    /// Failures by cause; causes without any are left out.
    pub failures: BTreeMap<String, u64>,
    /// Instances made in place of one that died.
    pub rebuilds: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// Picks whose time was taken.
    #[serde(default)]
    pub timed: u64,
    /// How long these took together, in nanoseconds.
    #[serde(default)]
    pub timed_ns: u64,
    /// Upper bounds of what half, and 99 of 100, of its picks took, in nanoseconds.
    pub p50_ns: Option<u64>,
    /// See `p50_ns`.
    pub p99_ns: Option<u64>,
    /// The last failure.
    pub last_failure: Option<String>,
    /// The latest line that the module wrote to the log, at whatever level.
    #[serde(default)]
    pub said: Option<String>,
}

/// An attempt to load a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStatus {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Who wanted it.
    pub by: By,
    /// What took over.
    pub done: Option<LoadReport>,
    /// Or why nothing did.
    pub refused: Option<Refusal>,
}

/// A module on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// shadow or canary.
    pub mode: String,
    /// The share of a canary.
    pub percent: Option<u8>,
    /// The module.
    pub module: ModuleStatus,
    /// Its figures.
    pub work: Work,
    /// Of a shadow: answers that were those of the module that serves.
    pub same: u64,
    /// Of a shadow: other answers.
    pub different: u64,
    /// Of a canary: connections it placed.
    pub placed: u64,
    /// Of a canary: connections of its share that the module that serves placed.
    pub passed_on: u64,
}

impl ModuleStatus {
    fn new(module: &Module, options: &str) -> Self {
        Self {
            origin: module.name().to_owned(),
            sha256: module.sha256(),
            bytes: module.bytes() as u64,
            options: options.to_owned(),
        }
    }
}

impl Work {
    fn new(stats: &SchedulerStats) -> Self {
        let Snapshot { picks, refused, fallbacks, failures, rebuilds, ejections, serving, latency, .. } =
            stats.snapshot();
        let failures = failures.into_iter().filter(|(_, n)| *n > 0);
        Self {
            serving: serving.label().to_owned(),
            picks,
            none: refused,
            fallbacks,
            failures: failures.map(|(cause, n)| (cause.label().to_owned(), n)).collect(),
            rebuilds,
            ejections,
            timed: latency.count(),
            timed_ns: latency.sum_ns,
            p50_ns: latency.quantile_ns(0.5),
            p99_ns: latency.quantile_ns(0.99),
            last_failure: stats.last_failure().map(|f| format!("{} in {}: {}", f.cause, f.call, f.message)),
            said: stats.said(),
        }
    }
}

impl TrialStatus {
    fn new(trial: &Trial) -> Self {
        Self {
            mode: trial.mode.label().to_owned(),
            percent: match trial.mode {
                Mode::Shadow => None,
                Mode::Canary { percent } => Some(percent),
            },
            module: ModuleStatus::new(&trial.slot.binding.module, &trial.slot.binding.options),
            work: Work::new(trial.module_stats()),
            same: trial.stats.same(),
            different: trial.stats.different(),
            placed: trial.stats.connections(),
            passed_on: trial.stats.passed(),
        }
    }
}

impl Status {
    pub(crate) fn new(running: &Running) -> Self {
        let record = lock(&running.record);
        let (module, trial) = running.with(|plugin| {
            let binding = plugin.binding();
            (ModuleStatus::new(&binding.module, &binding.options), plugin.trial().map(TrialStatus::new))
        });
        let refused = Step::ALL.into_iter().zip(record.refused).filter(|(_, n)| *n > 0);
        Self {
            service: running.service.clone(),
            scheduler: running.scheduler.clone(),
            module,
            since: unix(record.since),
            by: record.by,
            fallback: running.fallback.clone(),
            work: Work::new(&running.stats),
            latest_load: record.latest.as_ref().map(|attempt| AttemptStatus {
                at: unix(attempt.at),
                by: attempt.by,
                done: attempt.outcome.clone().ok(),
                refused: attempt.outcome.clone().err(),
            }),
            loaded: record.loaded,
            refused: refused.map(|(step, n)| (step.label().to_owned(), n)).collect(),
            previous: record.previous.as_ref().map(|p| ModuleStatus::new(&p.module, &p.options)),
            trial,
        }
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time for people: 2026-11-30 22:04:05 UTC.
fn time_of(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
    time.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, scheduler, module, by, fallback, work, .. } = self;
        writeln!(f, "{service}  scheduler {scheduler}")?;
        writeln!(f, "  module    {module}, by {}", word(by))?;
        writeln!(f, "  serving   {}, fallback {fallback}", work.serving)?;
        work.write(f, "  ")?;
        if let Some(previous) = &self.previous {
            writeln!(f, "  previous  {previous}")?;
        }
        if let Some(AttemptStatus { at, by, done, refused }) = &self.latest_load {
            if let Some(report) = done {
                writeln!(f, "  load      {} by {}: {report}", time_of(*at), word(by))?;
            }
            if let Some(refusal) = refused {
                writeln!(f, "  load      {} by {}: {refusal}", time_of(*at), word(by))?;
            }
        }
        if let Some(trial) = &self.trial {
            let percent = trial.percent.map_or(String::new(), |percent| format!(" of {percent} %"));
            writeln!(f, "  {}{percent}  {}, {}", trial.mode, trial.module, trial.work.serving)?;
            if trial.mode == Mode::Shadow.label() {
                writeln!(f, "    answers {} the same, {} different", trial.same, trial.different)?;
            } else {
                writeln!(f, "    connections {} placed, {} passed on", trial.placed, trial.passed_on)?;
            }
            trial.work.write(f, "    ")?;
        }
        Ok(())
    }
}

fn word(by: &By) -> String {
    format!("{by:?}").to_lowercase()
}

impl fmt::Display for ModuleStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, sha256, bytes, .. } = self;
        write!(f, "{origin}, sha256 {sha256}, {bytes} bytes")
    }
}

impl Work {
    fn write(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        let Self { picks, none, fallbacks, rebuilds, ejections, .. } = self;
        let bound = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| ns.to_string());
        let (half, most) = (bound(self.p50_ns), bound(self.p99_ns));
        writeln!(
            f,
            "{indent}picks     {picks}, {none} none, {fallbacks} by the fallback; ns: p50 <= {half}, p99 <= {most}"
        )?;
        if !self.failures.is_empty() {
            let causes: Vec<_> = self.failures.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
            writeln!(
                f,
                "{indent}failures  {}; {rebuilds} new instances, {ejections} ejections",
                causes.join(", ")
            )?;
        }
        if let Some(failure) = &self.last_failure {
            writeln!(f, "{indent}last      {failure}")?;
        }
        match &self.said {
            Some(line) => writeln!(f, "{indent}says      {line}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_796_032_800, "2026-11-30 10:00:00 UTC"),
            (4_102_444_800, "2100-01-01 00:00:00 UTC"),
            (u64::MAX, "9999-12-30 22:00:00 UTC"),
        ];
        for (unix, want) in cases {
            assert_eq!(time_of(unix), want);
        }
    }
}
