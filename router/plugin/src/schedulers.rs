//! Schedulers by name: the shipped ones, those the configuration names, files.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sha2::{Digest, Sha256};
use uvs_director::scheduler::{Scheduler, SchedulerFactory};
use uvs_director::spec::SchedulerSpec;

use crate::error::LoadError;
use crate::host::{Host, Module};
use crate::instance::splitmix64;
use crate::native::native;
use crate::plugin::Plugin;
use crate::policy::Limits;
use crate::stats::SchedulerStats;

/// The components that are built into uvs.
pub const SHIPPED: [(&str, &[u8]); 17] = [
    ("chbl", include_bytes!("../../../schedulers/prebuilt/chbl.wasm")),
    ("dh", include_bytes!("../../../schedulers/prebuilt/dh.wasm")),
    ("fo", include_bytes!("../../../schedulers/prebuilt/fo.wasm")),
    ("lblc", include_bytes!("../../../schedulers/prebuilt/lblc.wasm")),
    ("lblcr", include_bytes!("../../../schedulers/prebuilt/lblcr.wasm")),
    ("lc", include_bytes!("../../../schedulers/prebuilt/lc.wasm")),
    ("mh", include_bytes!("../../../schedulers/prebuilt/mh.wasm")),
    ("nq", include_bytes!("../../../schedulers/prebuilt/nq.wasm")),
    ("ovf", include_bytes!("../../../schedulers/prebuilt/ovf.wasm")),
    ("p2c", include_bytes!("../../../schedulers/prebuilt/p2c.wasm")),
    ("rr", include_bytes!("../../../schedulers/prebuilt/rr.wasm")),
    ("sed", include_bytes!("../../../schedulers/prebuilt/sed.wasm")),
    ("sh", include_bytes!("../../../schedulers/prebuilt/sh.wasm")),
    ("swrr", include_bytes!("../../../schedulers/prebuilt/swrr.wasm")),
    ("twos", include_bytes!("../../../schedulers/prebuilt/twos.wasm")),
    ("wlc", include_bytes!("../../../schedulers/prebuilt/wlc.wasm")),
    ("wrr", include_bytes!("../../../schedulers/prebuilt/wrr.wasm")),
];

/// What tells lblc to pick past an upper threshold.
const PAST_THRESHOLD: &str = "past-threshold";

/// What stands in for a module unless the configuration says otherwise.
pub const FALLBACK: &str = "wlc";

/// A scheduler that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The component's file.
    pub path: PathBuf,
    /// Passed to `init` where the service gives no options of its own.
    pub options: String,
    /// The native scheduler that stands in ([`NATIVE`](crate::NATIVE)).
    pub fallback: String,
    /// What it is granted beyond what others are.
    pub limits: Limits,
}

impl Definition {
    /// The component in `path` without options, with [`FALLBACK`] behind it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            options: String::new(),
            fallback: FALLBACK.to_owned(),
            limits: Limits::default(),
        }
    }
}

/// What a running service's module does: service, scheduler's name, figures.
pub type LiveStats = (String, String, Arc<SchedulerStats>);

/// Makes the scheduler of each service.
#[derive(Debug)]
pub struct Schedulers {
    host: Host,
    seed: u64,
    compat_ipvs: AtomicBool,
    defined: Mutex<BTreeMap<String, Definition>>,
    /// The latest module of each origin.
    compiled: Mutex<HashMap<String, Module>>,
    live: Mutex<Vec<(String, String, Weak<SchedulerStats>)>>,
}

impl Schedulers {
    /// The shipped schedulers and files; random numbers differ in each process.
    pub fn new(host: Host) -> Self {
        Self::with_seed(host, RandomState::new().hash_one("uvs"))
    }

    /// The same with random numbers that repeat, for simulation and tests.
    pub fn with_seed(host: Host, seed: u64) -> Self {
        Self {
            host,
            seed,
            compat_ipvs: AtomicBool::new(false),
            defined: Mutex::default(),
            compiled: Mutex::default(),
            live: Mutex::default(),
        }
    }

    /// Replaces what the configuration names. Services that run keep their modules.
    ///
    /// # Errors
    /// A sentence: a fallback that does not exist. Nothing is replaced then.
    pub fn define(&self, definitions: BTreeMap<String, Definition>) -> Result<(), String> {
        for (name, definition) in &definitions {
            native(&definition.fallback, "", "", 0)
                .map_err(|error| format!("fallback of scheduler {name:?}: {error}"))?;
        }
        *lock(&self.defined) = definitions;
        Ok(())
    }

    /// Whether schedulers made from now on pick as the kernel's do to the letter: lblc goes on to use a destination over
    /// its upper threshold for an address it knows. False at first.
    pub fn set_compat_ipvs(&self, compat_ipvs: bool) {
        self.compat_ipvs.store(compat_ipvs, Relaxed);
    }

    /// The names that [`SchedulerFactory::create`] knows, in alphabetical order; beside them it takes paths.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = lock(&self.defined).keys().cloned().collect();
        names.extend(SHIPPED.iter().map(|(name, _)| (*name).to_owned()));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The engine behind it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The compiled module of a shipped or defined name or a path; it is compiled once and again when the file's
    /// content has changed.
    ///
    /// # Errors
    /// A sentence: an unknown name, or what is wrong with the module.
    pub fn module(&self, name: &str) -> Result<Module, String> {
        match self.resolve(name)? {
            Source::Shipped(bytes) => self.compile(&self.host, name, bytes),
            Source::File(definition) => self.load(&definition),
        }
        .map_err(|error| error.sentence())
    }

    /// Does all that [`SchedulerFactory::create`] does but keeps nothing: for checking a configuration.
    ///
    /// # Errors
    /// The same sentences.
    pub fn check(&self, spec: &SchedulerSpec) -> Result<(), String> {
        self.make(spec, "check").map(drop)
    }

    /// Figures of all modules that serve now.
    pub fn stats(&self) -> Vec<LiveStats> {
        let mut live = lock(&self.live);
        live.retain(|(.., stats)| stats.strong_count() > 0);
        live.iter()
            .filter_map(|(service, name, stats)| Some((service.clone(), name.clone(), stats.upgrade()?)))
            .collect()
    }

    fn resolve(&self, name: &str) -> Result<Source, String> {
        if let Some(definition) = lock(&self.defined).get(name) {
            return Ok(Source::File(definition.clone()));
        }
        if let Some((_, bytes)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Ok(Source::Shipped(bytes));
        }
        if Path::new(name).extension().is_some_and(|extension| extension == "wasm") {
            return Ok(Source::File(Definition::new(name)));
        }
        Err(format!(
            "unknown scheduler {name:?}; there are {}, or give the path of a component, which ends in .wasm",
            self.names().join(", ")
        ))
    }

    fn make(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<Plugin>, String> {
        let seed = self.seed_of(service);
        let source = self.resolve(&spec.name)?;
        let shipped = matches!(source, Source::Shipped(_));
        let (module, options, fallback) = match source {
            Source::Shipped(bytes) => {
                (self.compile(&self.host, &spec.name, bytes), String::new(), FALLBACK.to_owned())
            }
            Source::File(definition) => (self.load(&definition), definition.options, definition.fallback),
        };
        let module = module.map_err(|error| format!("scheduler {:?}: {}", spec.name, error.sentence()))?;
        let mut options = if spec.options.is_empty() { options } else { spec.options.clone() };
        let past_threshold = shipped && spec.name == "lblc" && self.compat_ipvs.load(Relaxed);
        if past_threshold {
            let more = if options.is_empty() { "" } else { "," };
            options.insert_str(0, more);
            options.insert_str(0, PAST_THRESHOLD);
        }
        let fallback = native(&fallback, service, "", seed)?;
        let mut plugin = Plugin::new(&module, service, &options, fallback, seed)
            .map_err(|error| format!("scheduler {:?} {error}", spec.name))?;
        if past_threshold {
            plugin.take_overloaded();
        }
        Ok(Box::new(plugin))
    }

    fn load(&self, definition: &Definition) -> Result<Module, LoadError> {
        let (path, host) = (&definition.path, self.host.limited(definition.limits));
        let origin = path.display().to_string();
        let bytes = host.read(path).map_err(|reason| LoadError { origin: origin.clone(), reason })?;
        self.compile(&host, &origin, &bytes)
    }

    fn compile(&self, host: &Host, origin: &str, bytes: &[u8]) -> Result<Module, LoadError> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        // The lock is held while compiling, so that many services with one module compile it once.
        let mut compiled = lock(&self.compiled);
        if let Some(module) = compiled
            .get(origin)
            .filter(|module| module.digest() == digest && module.host().policy() == host.policy())
        {
            return Ok(module.clone());
        }
        let module = host.compile(origin, bytes)?;
        compiled.insert(origin.to_owned(), module.clone());
        Ok(module)
    }

    /// Differs from service to service (FNV-1a over the name).
    fn seed_of(&self, service: &str) -> u64 {
        let name = service
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        splitmix64(&mut (self.seed ^ name))
    }
}

impl SchedulerFactory for Schedulers {
    fn create(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<dyn Scheduler>, String> {
        let plugin = self.make(spec, service)?;
        let mut live = lock(&self.live);
        live.retain(|(.., stats)| stats.strong_count() > 0);
        live.push((service.to_owned(), spec.name.clone(), Arc::downgrade(plugin.stats())));
        Ok(plugin)
    }
}

enum Source {
    Shipped(&'static [u8]),
    File(Definition),
}

/// Whoever panicked while it held one of these locks left a whole map behind.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
