//! The scheduler of a running service, and how another module takes its place.
//!
//! ```text
//!   off the packet path                                       under the service's lock
//!   read, pin, compile, contract  (schedulers.rs)
//!   survey <------------------------------------------------- save, copy of the set and of the latest picks
//!   rehearse: init, update, restore, the latest picks again, newcomer and incumbent side by side
//!   prepare:  init, update, restore
//!        `--------------------------------------------------> swap, unless the set changed: then again
//! ```
//! Whatever fails on the way leaves the incumbent where it is.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Clock, SystemTime};

use serde::{Deserialize, Serialize};
use tracing::info;
use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Event, Flow, Load, Scheduler};
use uvs_director::spec::Protocol;

use crate::dump::Role;
use crate::error::{LoadError, LoadReason, StartError};
use crate::history::Pick;
use crate::host::Module;
use crate::plugin::{Plugin, Survey};
use crate::policy::Limits;
use crate::schedulers::lock;
use crate::seat::{Post, Seat};
use crate::stats::SchedulerStats;
use crate::translate::unword;
use crate::trial::{Mode, Trial};

/// A module is prepared again when the set of destinations changes meanwhile, so often.
const ATTEMPTS: usize = 5;

/// Where on its way in a module was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// There is no such service, file, previous module or trial.
    Find,
    /// The file cannot be read, or is too large.
    Read,
    /// Its SHA-256 is not the one that was pinned.
    Pin,
    /// It is no WebAssembly that compiles.
    Compile,
    /// It is not of the contract, or of another version of it.
    Contract,
    /// It does not start, or refuses its options.
    Start,
    /// It fails when it is told the destinations.
    Update,
    /// It fails when it is handed the state of the one before.
    Restore,
    /// It fails or answers nonsense when the latest picks are put to it.
    Replay,
    /// The destinations changed again and again.
    Swap,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Find,
        Self::Read,
        Self::Pin,
        Self::Compile,
        Self::Contract,
        Self::Start,
        Self::Update,
        Self::Restore,
        Self::Replay,
        Self::Swap,
    ];

    /// Its name in metrics and status.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Find => "find",
            Self::Read => "read",
            Self::Pin => "pin",
            Self::Compile => "compile",
            Self::Contract => "contract",
            Self::Start => "start",
            Self::Update => "update",
            Self::Restore => "restore",
            Self::Replay => "replay",
            Self::Swap => "swap",
        }
    }
}

/// Why a module did not take over. The one before serves on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("refused at the step `{}`: {reason}", .step.label())]
pub struct Refusal {
    /// How far it came.
    pub step: Step,
    /// What is wrong and how to fix it.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn new(step: Step, reason: impl Into<String>) -> Self {
        Self { step, reason: reason.into() }
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        let step = match &error.reason {
            LoadReason::Unreadable(_) | LoadReason::TooLarge { .. } => Step::Read,
            LoadReason::NotWasm { .. } | LoadReason::UnknownLayer { .. } | LoadReason::Invalid(_) => {
                Step::Compile
            }
            LoadReason::CoreModule
            | LoadReason::ForeignImport { .. }
            | LoadReason::ContractVersion { .. }
            | LoadReason::MissingExport { .. }
            | LoadReason::Mismatch(_) => Step::Contract,
            LoadReason::Start { .. } => Step::Start,
        };
        Self::new(step, error.sentence())
    }
}

/// Who wanted a module to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The configuration: the start, or a reload of it.
    Configuration,
    /// Its file changed.
    Watch,
    /// `uvs sched load`.
    Load,
    /// `uvs sched rollback`.
    Rollback,
    /// `uvs sched promote`.
    Promote,
}

/// A module that took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Where it came from.
    pub origin: String,
    /// SHA-256 of the component, in hex.
    pub sha256: String,
    /// Whether its compiled code came out of the cache.
    pub cached: bool,
    /// Whether it took over the state of the one before.
    pub restored: bool,
    /// Picks it was tried with.
    pub replayed: u64,
    /// Of them, those where it answered as the one before.
    pub same: u64,
    /// All of it, in microseconds.
    pub took_us: u64,
    /// How long connections waited for the exchange, in nanoseconds.
    pub swap_ns: u64,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, sha256, restored, replayed, same, .. } = self;
        let state = if *restored { "goes on with the state of the one before" } else { "starts afresh" };
        write!(f, "{origin} (sha256 {sha256}) {state}; {same} of {replayed} picks were the same")
    }
}

/// Where a module comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It is built into uvs.
    Shipped(String),
    /// A file, what its SHA-256 has to be, and what it is granted beyond what others are.
    File { path: PathBuf, pin: Option<[u8; 32]>, limits: Limits },
}

/// A module that is to come in.
pub(crate) struct Newcomer {
    pub(crate) module: Module,
    pub(crate) options: Arc<str>,
    pub(crate) source: Source,
    /// To be tried when the state of the incumbent is of no use to it.
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) seed: u64,
    pub(crate) by: By,
}

/// The one that served before.
#[derive(Clone)]
pub(crate) struct Previous {
    pub(crate) module: Module,
    pub(crate) options: Arc<str>,
    pub(crate) source: Source,
    pub(crate) state: Option<Vec<u8>>,
}

/// What the latest attempt to load came to.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) at: SystemTime,
    pub(crate) by: By,
    pub(crate) outcome: Result<LoadReport, Refusal>,
}

/// What is remembered of the modules of a service.
pub(crate) struct Record {
    pub(crate) source: Source,
    pub(crate) since: SystemTime,
    pub(crate) by: By,
    pub(crate) previous: Option<Previous>,
    pub(crate) latest: Option<Attempt>,
    pub(crate) loaded: u64,
    pub(crate) refused: [u64; Step::ALL.len()],
    /// What the file held that was refused last: it is not tried again before it changes.
    pub(crate) rejected: Option<[u8; 32]>,
    /// What the configuration wants tried, and where its module comes from.
    pub(crate) wanted: Option<TrialSpec>,
    pub(crate) trial_source: Option<Source>,
}

/// A trial that the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialSpec {
    /// The name of a scheduler, shipped or defined, or the path of a component.
    pub scheduler: String,
    /// How it is tried.
    pub mode: Mode,
}

/// The scheduler of a running service. The engine has one handle, those who look after it have others.
pub(crate) struct Running {
    pub(crate) service: String,
    /// As the configuration names it.
    pub(crate) scheduler: String,
    pub(crate) fallback: String,
    plugin: Mutex<Plugin>,
    pub(crate) stats: Arc<SchedulerStats>,
    /// One change at a time, however long a module takes to compile.
    pub(crate) turn: Mutex<()>,
    /// Never held for long.
    pub(crate) record: Mutex<Record>,
}

/// What the engine holds of a [`Running`].
pub(crate) struct Handle {
    running: Arc<Running>,
    /// Whether the plugin wants to hear of events, as of the last call: another module may be in it since.
    wants_feedback: bool,
}

impl Handle {
    pub(crate) fn new(running: Arc<Running>) -> Self {
        Self { running, wants_feedback: false }
    }
}

impl Scheduler for Handle {
    fn update(&mut self, candidates: &[Candidate]) {
        let mut plugin = lock(&self.running.plugin);
        plugin.update(candidates);
        self.wants_feedback = plugin.wants_feedback();
    }

    fn schedule(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<u32> {
        let mut plugin = lock(&self.running.plugin);
        let pick = plugin.schedule(flow, changed, now);
        self.wants_feedback = plugin.wants_feedback();
        pick
    }

    fn wants_feedback(&self) -> bool {
        self.wants_feedback
    }

    fn observe(&mut self, events: &[Event], now: Instant) {
        lock(&self.running.plugin).observe(events, now);
    }
}

impl Running {
    pub(crate) fn new(
        service: &str,
        scheduler: &str,
        fallback: &str,
        plugin: Plugin,
        source: Source,
    ) -> Self {
        Self {
            service: service.to_owned(),
            scheduler: scheduler.to_owned(),
            fallback: fallback.to_owned(),
            stats: Arc::clone(plugin.stats()),
            plugin: Mutex::new(plugin),
            turn: Mutex::new(()),
            record: Mutex::new(Record {
                source,
                since: SystemTime::now(),
                by: By::Configuration,
                previous: None,
                latest: None,
                loaded: 0,
                refused: [0; Step::ALL.len()],
                rejected: None,
                wanted: None,
                trial_source: None,
            }),
        }
    }

    /// Looks at what is remembered, or changes it.
    pub(crate) fn remember<R>(&self, look: impl FnOnce(&mut Record) -> R) -> R {
        look(&mut lock(&self.record))
    }

    /// Looks at the plugin, or changes it. Connections wait meanwhile.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Plugin) -> R) -> R {
        look(&mut lock(&self.plugin))
    }

    /// Brings a compiled module in.
    pub(crate) fn bring_in(&self, newcomer: Newcomer) -> Result<LoadReport, Refusal> {
        let start = Clock::now();
        for _ in 0..ATTEMPTS {
            let survey = self.with(|plugin| plugin.survey(true));
            let post = Post {
                module: newcomer.module.clone(),
                options: Arc::clone(&newcomer.options),
                ..survey.post.clone()
            };
            let (replayed, same) = audition(&post, &survey, &newcomer)?;
            let (seat, restored) = prepare(post, &survey, &newcomer)?;
            let (taken, swap) = self.with(|plugin| {
                let start = Clock::now();
                let taken = plugin.take_over(seat, survey.generation);
                (taken, start.elapsed())
            });
            // What is not needed any more is dropped here, when nobody waits.
            let Ok(old) = taken else { continue };
            let Newcomer { module, source, by, .. } = newcomer;
            let Post { module: gone, options, .. } = &old.post;
            let mut record = lock(&self.record);
            record.previous = Some(Previous {
                module: gone.clone(),
                options: Arc::clone(options),
                source: core::mem::replace(&mut record.source, source),
                state: survey.state,
            });
            (record.since, record.by) = (SystemTime::now(), by);
            drop(record);
            drop(old);
            let report = LoadReport {
                origin: module.name().to_owned(),
                sha256: module.sha256(),
                cached: module.was_cached(),
                restored,
                replayed,
                same,
                took_us: micros(start.elapsed()),
                swap_ns: u64::try_from(swap.as_nanos()).unwrap_or(u64::MAX),
            };
            info!(
                service = self.service,
                took_us = report.took_us,
                swap_ns = report.swap_ns,
                "scheduler loaded: {report}"
            );
            return Ok(report);
        }
        let reason =
            format!("the destinations changed {ATTEMPTS} times while the module was prepared; try again");
        Err(Refusal::new(Step::Swap, reason))
    }

    /// Begins a trial.
    pub(crate) fn try_out(&self, mode: Mode, newcomer: &Newcomer, key: u64) -> Result<(), Refusal> {
        let role = match mode {
            Mode::Shadow => Role::Shadow,
            Mode::Canary { .. } => Role::Canary,
        };
        for _ in 0..ATTEMPTS {
            let survey = self.with(|plugin| plugin.survey(true));
            let post = Post {
                module: newcomer.module.clone(),
                options: Arc::clone(&newcomer.options),
                role,
                ..survey.post.clone()
            };
            audition(&post, &survey, newcomer)?;
            let (seat, _) = prepare(post, &survey, newcomer)?;
            let trial = Box::new(Trial::new(mode, seat, key));
            match self.with(|plugin| plugin.try_out(trial, survey.generation)) {
                Ok(_) => {
                    info!(
                        service = self.service,
                        module = newcomer.module.name(),
                        "on trial as {}",
                        mode.label()
                    );
                    return Ok(());
                }
                Err(_) => continue,
            }
        }
        Err(Refusal::new(Step::Swap, "the destinations changed again and again; try again"))
    }

    /// The module on trial takes over.
    pub(crate) fn promote(&self) -> Result<LoadReport, Refusal> {
        let start = Clock::now();
        let (result, swap) = self.with(|plugin| {
            let start = Clock::now();
            let live = plugin.trial().map(|trial| trial.seat.is_live());
            let result = match live {
                None => Err("there is no module on trial; give the service `shadow` or `canary` first"),
                Some(false) => Err("the module on trial is not alive: it failed and waits for its next try"),
                Some(true) => plugin.promote().ok_or("there is no module on trial"),
            };
            (result, start.elapsed())
        });
        let old = result.map_err(|reason| Refusal::new(Step::Find, reason))?;
        let module = self.with(|plugin| plugin.module().clone());
        let mut record = lock(&self.record);
        let source = record.trial_source.take().unwrap_or_else(|| Source::Shipped(module.name().to_owned()));
        record.previous = Some(Previous {
            module: old.post.module.clone(),
            options: Arc::clone(&old.post.options),
            source: core::mem::replace(&mut record.source, source),
            state: None,
        });
        (record.since, record.by) = (SystemTime::now(), By::Promote);
        drop(record);
        drop(old);
        Ok(LoadReport {
            origin: module.name().to_owned(),
            sha256: module.sha256(),
            cached: module.was_cached(),
            restored: true,
            replayed: 0,
            same: 0,
            took_us: micros(start.elapsed()),
            swap_ns: u64::try_from(swap.as_nanos()).unwrap_or(u64::MAX),
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// An instance that is ready to serve, and whether it goes on from an earlier one's state.
fn prepare(post: Post, survey: &Survey, newcomer: &Newcomer) -> Result<(Seat, bool), Refusal> {
    let stats = Arc::<SchedulerStats>::default();
    let name = post.module.name().to_owned();
    let failed = |step: Step| match stats.last_failure() {
        Some(failure) => Err(Refusal::new(
            step,
            format!("{name} fails in {} ({}): {}", failure.call, failure.cause, failure.message),
        )),
        None => Ok(()),
    };
    let mut seat =
        Seat::start(post, newcomer.seed, Arc::clone(&stats)).map_err(|error| start_refusal(&name, &error))?;
    if let Some(before) = &survey.before {
        seat.update(before, survey.now);
        failed(Step::Update)?;
    }
    seat.update(&survey.candidates, survey.now);
    failed(Step::Update)?;
    let states = [&survey.state, &newcomer.state];
    let restored = states.into_iter().flatten().any(|state| {
        // After a crash nobody is there to be asked again.
        seat.is_live() && seat.restore(state, &survey.candidates, survey.now)
    });
    failed(Step::Restore)?;
    Ok((seat, restored))
}

fn start_refusal(name: &str, error: &StartError) -> Refusal {
    Refusal::new(Step::Start, format!("{name} {error}"))
}

/// Tries a newcomer on instances that are thrown away: the latest picks, or some made up where there were none. How many there
/// were, and in how many the incumbent answers the same from the same start.
fn audition(post: &Post, survey: &Survey, newcomer: &Newcomer) -> Result<(u64, u64), Refusal> {
    let made_up;
    let picks = if survey.picks.is_empty() {
        // Without destinations there is nothing to pick.
        made_up = if survey.candidates.is_empty() { Vec::new() } else { imagined(survey.now) };
        &made_up
    } else {
        &survey.picks
    };
    let quiet = |post: &Post| Post { role: Role::Rehearsal, dumps: None, ..post.clone() };
    let (seat, _) = prepare(quiet(post), survey, newcomer)?;
    let answers = rehearse(seat, survey, picks).map_err(|reason| Refusal::new(Step::Replay, reason))?;
    let incumbent = prepare(quiet(&survey.post), survey, newcomer)
        .ok()
        .and_then(|(seat, _)| rehearse(seat, survey, picks).ok())
        .unwrap_or_default();
    let same = answers.iter().zip(&incumbent).filter(|(new, old)| new == old).count();
    Ok((answers.len() as u64, same as u64))
}

/// Puts picks to an instance; its answers, or how it failed.
fn rehearse(mut seat: Seat, survey: &Survey, picks: &[Pick]) -> Result<Vec<Option<u32>>, String> {
    let mut candidates = survey.candidates.clone();
    let mut answers = Vec::with_capacity(picks.len());
    for (number, pick) in (1..).zip(picks) {
        let changed: Vec<_> = pick.words.iter().map(|&word| unword(word)).collect();
        for &(position, load) in &changed {
            if let Some(candidate) = candidates.get_mut(position as usize) {
                candidate.load = load;
            }
        }
        seat.repeat(&pick.events, &candidates, pick.now);
        let Some(answer) = seat.ask(&pick.flow, &changed, &candidates, pick.now) else {
            let of = picks.len();
            let why = seat.stats.last_failure().map_or_else(
                || "it is not alive".to_owned(),
                |failure| format!("{}: {}", failure.cause, failure.message),
            );
            return Err(format!(
                "{} fails at pick {number} of the latest {of}: {why}",
                seat.post.module.name()
            ));
        };
        answers.push(answer);
    }
    Ok(answers)
}

/// Picks for a service that has had none: clients of the documentation's networks (RFC 5737).
fn imagined(now: Instant) -> Vec<Pick> {
    let pick = |n: u8| Pick {
        flow: Flow {
            protocol: Protocol::Tcp,
            client: [192, 0, 2, n].into(),
            client_port: 40_000 + u16::from(n),
            virtual_addr: [198, 51, 100, 1].into(),
            virtual_port: 80,
            mark: 0,
        },
        now,
        random: 0,
        events: Vec::new(),
        words: Vec::new(),
        answer: None,
    };
    (1..=8).map(pick).collect()
}
