//! The example `sticky` of the SDKs, as `cargo xtask sdk` built it in each language.

#![allow(clippy::unwrap_used, reason = "for tests only")]

use core::time::Duration;
use std::path::PathBuf;

use uvs_director::scheduler::{Candidate, Scheduler, Wlc};
use uvs_plugin::{Host, Module, Plugin, Policy};

/// Names the folder of the built examples.
const MODULES: &str = "UVS_SDK_MODULES";

/// What a language is granted: an interpreter needs more than the default; the READMEs of these SDKs say what to
/// configure.
pub fn policy(language: &str) -> Policy {
    let default = Policy::default();
    match language {
        "python" => Policy {
            module_bytes: 32 << 20,
            fuel_setup: 4_000_000_000,
            fuel_schedule: 400_000_000,
            ..default
        },
        _ => default,
    }
}

/// The example in one language.
pub struct Language {
    /// The file's name without `.wasm`.
    pub name: String,
    /// Compiled.
    pub module: Module,
    /// How long that took.
    pub compile: Duration,
}

/// What was built, in the order of the names; `None`: the test is skipped, which was said.
///
/// # Panics
/// A module is refused, or the folder has none.
pub fn languages() -> Option<Vec<Language>> {
    let Some(folder) = std::env::var_os(MODULES).map(PathBuf::from) else {
        println!(
            "skipped: needs the examples of the SDKs (`cargo xtask sdk` builds them and runs this test)"
        );
        return None;
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no module", folder.display());
    let compile = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let host = Host::new(policy(&name)).unwrap();
        let start = std::time::Instant::now();
        let module = host.load(file).unwrap_or_else(|error| panic!("{}", error.sentence()));
        Language { name, module, compile: start.elapsed() }
    };
    Some(files.iter().map(compile).collect())
}

impl Language {
    /// An instance with that set of destinations.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(&self, set: &[Candidate]) -> Plugin {
        let fallback = Box::new(Wlc::default());
        let mut plugin = Plugin::new(&self.module, "tcp 192.0.2.1:80", "", fallback, 1)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        plugin.update(set);
        self.check(&plugin);
        plugin
    }

    /// Everything so far was the module's, nothing the fallback's.
    ///
    /// # Panics
    /// It was not.
    pub fn check(&self, plugin: &Plugin) {
        let stats = plugin.stats().snapshot();
        let last = plugin.stats().last_failure().map(|last| (last.call, last.message));
        assert_eq!((stats.failures_total(), stats.fallbacks), (0, 0), "{}: {last:?}", self.name);
    }
}
