//! Schedulers by name: the shipped ones, those that the configuration names, files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uvs_director::scheduler::Scheduler;
use uvs_director::spec::SchedulerSpec;

use crate::native::{Refuse, native};
use crate::policy::Limits;
use crate::shipped::SHIPPED;
use crate::trial::Mode;

/// What tells lblc to pick past an upper threshold.
const PAST_THRESHOLD: &str = "past-threshold";

/// What stands in for a module unless the configuration says otherwise.
pub const FALLBACK: &str = "wlc";

/// The fallback that is none: without the module, connections are refused.
pub const REFUSE: &str = "refuse";

/// A scheduler that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The component's file.
    pub path: PathBuf,
    /// Passed to `init` where the service gives no options of its own.
    pub options: String,
    /// The native scheduler that stands in ([`NATIVE`](crate::NATIVE)), or [`REFUSE`].
    pub fallback: String,
    /// What it is granted beyond what others are.
    pub limits: Limits,
    /// What the SHA-256 of the file has to be.
    pub sha256: Option<[u8; 32]>,
}

impl Definition {
    /// The component in `path` without options, with [`FALLBACK`] behind it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            options: String::new(),
            fallback: FALLBACK.to_owned(),
            limits: Limits::default(),
            sha256: None,
        }
    }

    fn source(&self) -> Source {
        Source::File { path: self.path.clone(), pin: self.sha256, limits: self.limits }
    }
}

/// Where a module comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It is built into uvs.
    Shipped(String),
    /// Bytes that somebody handed over, who said that they come from there. They cannot be had again.
    HandedOver { origin: String },
    /// A file, what its SHA-256 has to be, and what it is granted beyond what others are.
    File { path: PathBuf, pin: Option<[u8; 32]>, limits: Limits },
}

impl Source {
    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Shipped(name) => name.clone(),
            Self::HandedOver { origin } => format!("{origin} (handed over)"),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// Whether it names the same, whatever is there now. What was handed over is nowhere.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shipped(one), Self::Shipped(other)) => one == other,
            (Self::File { path: one, .. }, Self::File { path: other, .. }) => one == other,
            _ => false,
        }
    }
}

/// A trial that the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialSpec {
    /// The name of a scheduler, shipped or defined, or the path of a component.
    pub scheduler: String,
    /// How it is tried.
    pub mode: Mode,
}

/// A module, what it is told, and who stands in for it.
pub(crate) struct Resolved {
    pub(crate) source: Source,
    pub(crate) options: String,
    pub(crate) fallback: String,
}

/// What a configuration says of schedulers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    definitions: BTreeMap<String, Definition>,
    /// By service.
    trials: BTreeMap<String, TrialSpec>,
    compat_ipvs: bool,
}

impl Catalogue {
    /// The schedulers that have a name, and nothing else.
    ///
    /// # Errors
    /// A sentence: a fallback that does not exist.
    pub fn new(definitions: BTreeMap<String, Definition>) -> Result<Self, String> {
        for (name, definition) in &definitions {
            fallback(&definition.fallback, "", 0)
                .map_err(|error| format!("fallback of scheduler {name:?}: {error}"))?;
        }
        Ok(Self { definitions, ..Self::default() })
    }

    /// With these trials, by service.
    #[must_use]
    pub fn with_trials(self, trials: BTreeMap<String, TrialSpec>) -> Self {
        Self { trials, ..self }
    }

    /// Whether schedulers pick as the kernel's do to the letter: lblc goes on to use a destination over its upper
    /// threshold for an address it knows. False at first.
    #[must_use]
    pub fn with_compat_ipvs(self, compat_ipvs: bool) -> Self {
        Self { compat_ipvs, ..self }
    }

    /// Whether it names this file.
    pub fn names_file(&self, file: &Path) -> bool {
        self.definitions.values().any(|definition| definition.path == file)
            || self.trials.values().any(|trial| Path::new(&trial.scheduler) == file)
    }

    /// What is to be tried beside the scheduler of this service.
    pub(crate) fn trial_of(&self, service: &str) -> Option<TrialSpec> {
        self.trials.get(service).cloned()
    }

    /// All names, in alphabetical order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.definitions.keys().cloned().collect();
        names.extend(SHIPPED.iter().map(|(name, _)| (*name).to_owned()));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What is behind a name, or a path that ends in .wasm.
    ///
    /// # Errors
    /// A sentence: there is no such name.
    pub(crate) fn resolve(&self, name: &str) -> Result<Resolved, String> {
        if let Some(definition) = self.definitions.get(name) {
            return Ok(Resolved {
                source: definition.source(),
                options: definition.options.clone(),
                fallback: definition.fallback.clone(),
            });
        }
        let plain = |source| Resolved { source, options: String::new(), fallback: FALLBACK.to_owned() };
        if SHIPPED.iter().any(|(shipped, _)| *shipped == name) {
            return Ok(plain(Source::Shipped(name.to_owned())));
        }
        if Path::new(name).extension().is_some_and(|extension| extension == "wasm") {
            return Ok(plain(Source::File { path: name.into(), pin: None, limits: Limits::default() }));
        }
        Err(format!(
            "unknown scheduler {name:?}; there are {}, or give the path of a component, which ends in .wasm",
            self.names().join(", ")
        ))
    }

    /// What `init` is given: the service's options, or else those of the scheduler.
    pub(crate) fn options_of(&self, spec: &SchedulerSpec, made: &Resolved) -> String {
        let options = if spec.options.is_empty() { &made.options } else { &spec.options };
        match self.is_past_threshold(spec, made) {
            true if options.is_empty() => PAST_THRESHOLD.to_owned(),
            true => format!("{PAST_THRESHOLD},{options}"),
            false => options.clone(),
        }
    }

    /// Whether it picks destinations past their upper thresholds, as the kernel's lblc does.
    pub(crate) fn is_past_threshold(&self, spec: &SchedulerSpec, made: &Resolved) -> bool {
        matches!(made.source, Source::Shipped(_)) && spec.name == "lblc" && self.compat_ipvs
    }

    /// What the configuration grants modules of this name.
    pub(crate) fn limits_of(&self, scheduler: &str) -> Limits {
        self.definitions.get(scheduler).map_or_else(Limits::default, |definition| definition.limits)
    }

    /// The pin that the configuration has for this file now.
    pub(crate) fn pin_of(&self, scheduler: &str, path: &Path, pin: Option<[u8; 32]>) -> Option<[u8; 32]> {
        match self.definitions.get(scheduler) {
            Some(definition) if definition.path == path => definition.sha256,
            _ => pin,
        }
    }
}

/// The scheduler that stands in for a module.
pub(crate) fn fallback(name: &str, service: &str, seed: u64) -> Result<Box<dyn Scheduler>, String> {
    if name == REFUSE { Ok(Box::new(Refuse)) } else { native(name, service, "", seed) }
}
