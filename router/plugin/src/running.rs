//! The scheduler of a running service, and how another module takes its place.
//!
//! ```text
//!   off the packet path                                       under the service's lock
//!   read, pin, compile, contract  (store.rs)
//!   handover <----------------------------------------------- save, copy of the set and of the latest picks
//!   dry run:  init, update, restore, the latest picks again, replacement and incumbent side by side (dry_run.rs)
//!   prepare:  init, update, restore
//!        `--------------------------------------------------> swap, unless the set changed: then again
//! ```
//! Whatever fails on the way leaves the incumbent where it is.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant as Clock, SystemTime};

use tracing::info;
use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Event, Flow, Load, Picked, Scheduler};

use crate::base::lock;
use crate::binding::Binding;
use crate::catalogue::{Source, TrialSpec};
use crate::dry_run::{Replacement, dry_run, prepare};
use crate::dump::Role;
use crate::load::{By, LoadReport, Refusal, Step};
use crate::module::Module;
use crate::plugin::Plugin;
use crate::stats::SchedulerStats;
use crate::trial::{Mode, Trial};

/// A module is prepared again when the set of destinations changes meanwhile, so often.
const ATTEMPTS: usize = 5;

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
    picked: Picked,
}

impl Handle {
    pub(crate) fn new(running: Arc<Running>) -> Self {
        Self { running, wants_feedback: false, picked: Picked::Own }
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
        self.picked = plugin.picked();
        pick
    }

    fn picked(&self) -> Picked {
        self.picked
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

    /// Waits until nobody else changes its module.
    pub(crate) fn take_turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
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
    pub(crate) fn bring_in(&self, replacement: Replacement) -> Result<LoadReport, Refusal> {
        let start = Clock::now();
        for _ in 0..ATTEMPTS {
            let handover = self.with(|plugin| plugin.handover(true));
            let binding = Binding {
                module: replacement.module.clone(),
                options: Arc::clone(&replacement.options),
                ..handover.binding.clone()
            };
            let (replayed, same) = dry_run(&binding, &handover, &replacement)?;
            let (slot, restored) = prepare(binding, &handover, &replacement)?;
            let (taken, swap) = self.with(|plugin| {
                let start = Clock::now();
                let taken = plugin.take_over(slot, handover.generation);
                (taken, start.elapsed())
            });
            // What is not needed any more is dropped here, when nobody waits.
            let Ok(old) = taken else { continue };
            let Replacement { module, source, by, .. } = replacement;
            let Binding { module: gone, options, .. } = &old.binding;
            let mut record = lock(&self.record);
            record.previous = Some(Previous {
                module: gone.clone(),
                options: Arc::clone(options),
                source: core::mem::replace(&mut record.source, source),
                state: handover.state,
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
    pub(crate) fn try_out(&self, mode: Mode, replacement: &Replacement, key: u64) -> Result<(), Refusal> {
        let role = match mode {
            Mode::Shadow => Role::Shadow,
            Mode::Canary { .. } => Role::Canary,
        };
        for _ in 0..ATTEMPTS {
            let handover = self.with(|plugin| plugin.handover(true));
            let binding = Binding {
                module: replacement.module.clone(),
                options: Arc::clone(&replacement.options),
                role,
                ..handover.binding.clone()
            };
            dry_run(&binding, &handover, replacement)?;
            let (slot, _) = prepare(binding, &handover, replacement)?;
            let trial = Box::new(Trial::new(mode, slot, key));
            match self.with(|plugin| plugin.try_out(trial, handover.generation)) {
                Ok(_) => {
                    info!(
                        service = self.service,
                        module = replacement.module.name(),
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
            let live = plugin.trial().map(|trial| trial.slot.is_live());
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
            module: old.binding.module.clone(),
            options: Arc::clone(&old.binding.options),
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
