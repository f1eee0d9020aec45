//! The scheduler of each service: made by its name, looked after while it runs.
//!
//! ```text
//!   Schedulers --- Catalogue   names -> where the module is, its options, its fallback
//!              |-- Store       module files and shipped modules, compiled
//!              `-- Live        the services that run
//! ```

use core::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tracing::warn;
use uvs_director::scheduler::{Scheduler, SchedulerFactory};
use uvs_director::spec::SchedulerSpec;
use uvs_director::{hash_of_name, splitmix64};

use crate::base::lock;
use crate::catalogue::{Catalogue, Resolved, Source, TrialSpec, fallback};
use crate::dry_run::Replacement;
use crate::dump::DumpSink;
use crate::error::LoadReason;
use crate::host::Host;
use crate::live::Live;
use crate::load::{By, LoadReport, Refusal, Step};
use crate::module::Module;
use crate::plugin::Plugin;
use crate::policy::Limits;
use crate::running::{Attempt, Handle, Previous, Running};
use crate::stats::SchedulerStats;
use crate::status::Status;
use crate::store::Store;

/// What a running service's module does: service, scheduler's name, figures.
pub type LiveStats = (String, String, Arc<SchedulerStats>);

/// What became of a file that changed: the service, and what took over or why not.
pub type Change = (String, Result<LoadReport, Refusal>);

/// Makes the scheduler of each service, and looks after those that run.
pub struct Schedulers {
    catalogue: Mutex<Arc<Catalogue>>,
    store: Store,
    live: Live,
    seed: u64,
    seeds: AtomicU64,
    dumps: OnceLock<DumpSink>,
}

impl fmt::Debug for Schedulers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedulers")
            .field("host", self.host())
            .field("names", &self.names())
            .finish_non_exhaustive()
    }
}

impl Schedulers {
    /// The shipped schedulers and files; random numbers differ in each process.
    pub fn new(host: Host) -> Self {
        Self::with_seed(host, RandomState::new().hash_one("uvs"))
    }

    /// The same with random numbers that repeat, for simulation and tests.
    pub fn with_seed(host: Host, seed: u64) -> Self {
        Self {
            catalogue: Mutex::default(),
            store: Store::new(host),
            live: Live::default(),
            seed,
            seeds: AtomicU64::new(seed),
            dumps: OnceLock::new(),
        }
    }

    /// Writes calls that fail to files in `dir`, for services that come from now on. Once is for good.
    ///
    /// # Errors
    /// The thread that writes them cannot be started.
    pub fn dump_to(&self, dir: PathBuf) -> std::io::Result<()> {
        let sink = DumpSink::start(dir)?;
        let _ = self.dumps.set(sink); // a second one ends at once
        Ok(())
    }

    /// Replaces what the configuration says of schedulers. Services that run keep their modules and their trials until
    /// [`Schedulers::exchange`] is called.
    pub fn accept(&self, catalogue: Catalogue) {
        *lock(&self.catalogue) = Arc::new(catalogue);
    }

    /// What was accepted last.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&lock(&self.catalogue))
    }

    /// The names that [`SchedulerFactory::create`] knows, in alphabetical order; beside them it takes paths.
    pub fn names(&self) -> Vec<String> {
        self.catalogue().names()
    }

    /// The engine behind it.
    pub fn host(&self) -> &Host {
        self.store.host()
    }

    /// The compiled module of a shipped or defined name or a path; it is compiled once and again when the file's
    /// content has changed.
    ///
    /// # Errors
    /// A sentence: an unknown name, or what is wrong with the module.
    pub fn module(&self, name: &str) -> Result<Module, String> {
        self.store.fetch(&self.catalogue().resolve(name)?.source).map_err(|refusal| refusal.reason)
    }

    /// Does all that [`SchedulerFactory::create`] would do under `catalogue`, but keeps nothing: for checking a
    /// configuration.
    ///
    /// # Errors
    /// The same sentences, and what is wrong with a module by itself.
    pub fn check(&self, catalogue: &Catalogue, spec: &SchedulerSpec) -> Result<(), Refusal> {
        self.make(catalogue, spec, "check").map(drop)
    }

    /// Figures of all modules that serve now.
    pub fn stats(&self) -> Vec<LiveStats> {
        let row = |it: Arc<Running>| (it.service.clone(), it.scheduler.clone(), Arc::clone(&it.stats));
        self.live.list().into_iter().map(row).collect()
    }

    /// What is to be said about the scheduler of each service.
    pub fn status(&self) -> Vec<Status> {
        self.live.list().iter().map(|running| Status::new(running)).collect()
    }

    /// The same of one service.
    ///
    /// # Errors
    /// There is no such service.
    pub fn status_of(&self, service: &str) -> Result<Status, Refusal> {
        Ok(Status::new(&*self.live.find(service)?))
    }

    /// Puts the component in a file in place of the module that a service runs. Takes as long as the module takes to
    /// compile; not for a thread that has frames to serve.
    ///
    /// # Errors
    /// Why the one that runs goes on. It is in the service's status, too.
    pub fn load(&self, service: &str, file: &Path, pin: Option<[u8; 32]>) -> Result<LoadReport, Refusal> {
        let running = self.live.find(service)?;
        let _turn = lock(&running.turn);
        let limits = self.catalogue().limits_of(&running.scheduler);
        let source = Source::File { path: file.to_owned(), pin, limits };
        self.bring_in(&running, source, By::Load)
    }

    /// The same with the bytes of a component; `origin` is what to call it. As there is no file to look at, the
    /// service keeps it until another is loaded or the configuration names another.
    ///
    /// # Errors
    /// As [`Schedulers::load`].
    pub fn load_bytes(
        &self,
        service: &str,
        (origin, bytes): (&str, &[u8]),
        pin: Option<[u8; 32]>,
    ) -> Result<LoadReport, Refusal> {
        let running = self.live.find(service)?;
        let _turn = lock(&running.turn);
        let limits = self.catalogue().limits_of(&running.scheduler);
        let module = self.store.take(limits, origin, bytes, pin);
        let source = Source::HandedOver { origin: origin.to_owned() };
        let outcome = module.and_then(|module| self.replace(&running, module, source, None, By::Load));
        note(&running, By::Load, outcome)
    }

    /// Goes back to the module that a service ran before.
    ///
    /// # Errors
    /// As [`Schedulers::load`]; there may be none.
    pub fn rollback(&self, service: &str) -> Result<LoadReport, Refusal> {
        let running = self.live.find(service)?;
        let _turn = lock(&running.turn);
        let outcome = match running.remember(|record| record.previous.clone()) {
            None => {
                let reason = match running.remember(|record| record.by) {
                    By::Rollback => {
                        format!(
                            "{} was rolled back already; load the module that it shall run",
                            running.service
                        )
                    }
                    _ => format!("{} has run no other module yet", running.service),
                };
                Err(Refusal::new(Step::Find, reason))
            }
            Some(Previous { module, options, source, state }) => {
                let seed = self.fresh_seed(service);
                running.bring_in(Replacement { module, options, source, state, seed, by: By::Rollback })
            }
        };
        if outcome.is_ok() {
            // Its file may hold the module that was just left: that is not to come back by itself.
            running.remember(|record| {
                record.rejected = record.previous.take().map(|previous| previous.module.digest());
            });
        }
        note(&running, By::Rollback, outcome)
    }

    /// Lets the module on trial take over.
    ///
    /// # Errors
    /// There is none, or it is not alive.
    pub fn promote(&self, service: &str) -> Result<LoadReport, Refusal> {
        let running = self.live.find(service)?;
        let _turn = lock(&running.turn);
        let outcome = running.promote();
        note(&running, By::Promote, outcome)
    }

    /// Loads again what has changed in its file, for services that run; what was refused is tried again only if it
    /// is another content by now, unless `retry`.
    pub fn refresh(&self, by: By, retry: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for running in self.live.list() {
            let _turn = lock(&running.turn);
            let (source, trial, rejected) = running
                .remember(|record| (record.source.clone(), record.trial_source.clone(), record.rejected));
            let is_new = |new: &[u8; 32], runs: [u8; 32]| *new != runs && (retry || Some(*new) != rejected);
            if let Source::File { path, pin, .. } = source {
                let pin = self.catalogue().pin_of(&running.scheduler, &path, pin);
                let limits = self.catalogue().limits_of(&running.scheduler);
                let runs = running.with(|plugin| plugin.module().digest());
                if let Some(new) = self.digest_of(&path, limits, by).filter(|new| is_new(new, runs)) {
                    let outcome = self.bring_in(&running, Source::File { path, pin, limits }, by);
                    running.remember(|record| record.rejected = outcome.is_err().then_some(new));
                    changes.push((running.service.clone(), outcome));
                }
            }
            let on_trial =
                running.with(|plugin| plugin.trial().map(|trial| trial.slot.binding.module.digest()));
            if let (Some(Source::File { path, limits, .. }), Some(runs)) = (trial, on_trial)
                && let Some(new) = self.digest_of(&path, limits, By::Watch).filter(|new| is_new(new, runs))
            {
                let wanted = running.remember(|record| record.wanted.clone());
                if let Err(refusal) = self.begin_trial(&running, wanted) {
                    running.remember(|record| record.rejected = Some(new));
                    changes.push((running.service.clone(), Err(refusal)));
                }
            }
        }
        changes
    }

    /// Writes down which of the running modules could not be loaded from their files as these are now. For whoever
    /// refuses a configuration because of them.
    pub fn note_broken_files(&self, by: By) {
        for running in self.live.list() {
            let _turn = lock(&running.turn);
            let source = running.remember(|record| record.source.clone());
            if matches!(source, Source::HandedOver { .. }) {
                continue;
            }
            if let Err(refusal) = self.store.fetch(&source) {
                let _ = note(&running, by, Err(refusal)); // said and counted there
            }
        }
    }

    /// What a file holds now. One that is not there is no change as long as nobody asks for it: it is about to be
    /// replaced, or not needed any more.
    pub(crate) fn digest_of(&self, path: &Path, limits: Limits, by: By) -> Option<[u8; 32]> {
        match self.host().limited(limits).read(path) {
            Ok(bytes) => Some(Sha256::digest(&bytes).into()),
            Err(LoadReason::Unreadable(_)) if by == By::Watch => None,
            Err(_) => Some([0; 32]),
        }
    }

    /// The files of all modules that run or are on trial.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self
            .live
            .list()
            .iter()
            .flat_map(|running| {
                running.remember(|record| [Some(record.source.clone()), record.trial_source.clone()])
            })
            .flatten()
            .filter_map(|source| match source {
                Source::File { path, .. } => Some(path),
                Source::Shipped(_) | Source::HandedOver { .. } => None,
            })
            .collect();
        files.sort();
        files.dedup();
        files
    }

    /// Services that run.
    pub(crate) fn running(&self) -> Vec<Arc<Running>> {
        self.live.list()
    }

    /// The compiled module that a source names.
    pub(crate) fn fetch(&self, source: &Source) -> Result<Module, Refusal> {
        self.store.fetch(source)
    }

    pub(crate) fn begin_trial(&self, running: &Running, wanted: Option<TrialSpec>) -> Result<(), Refusal> {
        let Some(spec) = wanted else { return Ok(()) };
        let made =
            self.catalogue().resolve(&spec.scheduler).map_err(|reason| Refusal::new(Step::Find, reason));
        let outcome = made.and_then(|made| {
            let replacement = Replacement {
                module: self.store.fetch(&made.source)?,
                options: made.options.into(),
                source: made.source,
                state: None,
                seed: self.fresh_seed(&running.service),
                by: By::Configuration,
            };
            running.try_out(spec.mode, &replacement, self.fresh_seed(&running.service))?;
            Ok(replacement.source)
        });
        running.remember(|record| match outcome {
            Ok(source) => {
                (record.wanted, record.trial_source) = (Some(spec), Some(source));
                Ok(())
            }
            Err(refusal) => {
                warn!(service = running.service, "no trial of {}: {refusal}", spec.scheduler);
                record.refused[refusal.step as usize] += 1;
                let outcome = Err(refusal.clone());
                record.latest = Some(Attempt { at: SystemTime::now(), by: By::Configuration, outcome });
                Err(refusal)
            }
        })
    }

    fn bring_in(&self, running: &Running, source: Source, by: By) -> Result<LoadReport, Refusal> {
        let module = self.store.fetch(&source);
        let outcome = module.and_then(|module| self.replace(running, module, source, None, by));
        note(running, by, outcome)
    }

    /// With the options that it has, unless there are others.
    pub(crate) fn replace(
        &self,
        running: &Running,
        module: Module,
        source: Source,
        options: Option<Arc<str>>,
        by: By,
    ) -> Result<LoadReport, Refusal> {
        let options = options.unwrap_or_else(|| running.with(|plugin| Arc::clone(&plugin.binding().options)));
        let seed = self.fresh_seed(&running.service);
        running.bring_in(Replacement { module, options, source, state: None, seed, by })
    }

    fn make(
        &self,
        catalogue: &Catalogue,
        spec: &SchedulerSpec,
        service: &str,
    ) -> Result<(Box<Plugin>, Resolved), Refusal> {
        let seed = self.seed_of(service);
        let not_found = |reason: String| Refusal::new(Step::Find, reason);
        let mut made = catalogue.resolve(&spec.name).map_err(not_found)?;
        let module = self.store.fetch(&made.source).map_err(|refusal| Refusal {
            reason: format!("scheduler {:?}: {}", spec.name, refusal.reason),
            ..refusal
        })?;
        made.options = catalogue.options_of(spec, &made);
        let fallback = fallback(&made.fallback, service, seed).map_err(not_found)?;
        let dumps = self.dumps.get().cloned();
        let mut plugin = Plugin::with_dumps(&module, service, &made.options, fallback, seed, dumps)
            .map_err(|error| Refusal::new(Step::Start, format!("scheduler {:?} {error}", spec.name)))?;
        if catalogue.is_past_threshold(spec, &made) {
            plugin.take_overloaded();
        }
        Ok((Box::new(plugin), made))
    }

    /// Differs from service to service.
    fn seed_of(&self, service: &str) -> u64 {
        splitmix64(&mut (self.seed ^ hash_of_name(service)))
    }

    /// Another one each time, for instances that come later.
    fn fresh_seed(&self, service: &str) -> u64 {
        let mut turn = self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        splitmix64(&mut turn) ^ self.seed_of(service)
    }
}

/// Writes down what an attempt came to.
pub(crate) fn note(
    running: &Running,
    by: By,
    outcome: Result<LoadReport, Refusal>,
) -> Result<LoadReport, Refusal> {
    if let Err(refusal) = &outcome {
        warn!(service = running.service, "the module that serves goes on, the new one is {refusal}");
    }
    running.remember(|record| {
        match &outcome {
            Ok(_) => record.loaded += 1,
            Err(refusal) => record.refused[refusal.step as usize] += 1,
        }
        record.latest = Some(Attempt { at: SystemTime::now(), by, outcome: outcome.clone() });
    });
    outcome
}

impl SchedulerFactory for Schedulers {
    fn create(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<dyn Scheduler>, String> {
        let catalogue = self.catalogue();
        let (plugin, made) = self.make(&catalogue, spec, service).map_err(|refusal| refusal.reason)?;
        let running = Arc::new(Running::new(service, &spec.name, &made.fallback, *plugin, made.source));
        let wanted = catalogue.trial_of(service);
        self.begin_trial(&running, wanted)
            .map_err(|refusal| format!("the trial for {service} is {refusal}"))?;
        self.live.add(&running);
        Ok(Box::new(Handle::new(running)))
    }
}
