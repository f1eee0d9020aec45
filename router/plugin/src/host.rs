//! The process-wide part: the engine and the imports.

use core::fmt;
use std::sync::{Arc, OnceLock};

use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::cache::CodeCache;
use crate::compiler::Compiler;
use crate::engine::{engine, is_address_space_short};
use crate::guest::Guest;
use crate::policy::{Limits, Policy};

/// The wasm engine with the imports a scheduler is given. One per process; a clone is another handle.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    linker: Linker<Guest>,
    policy: Policy,
    /// `None`: this process compiles itself.
    compiler: Option<Compiler>,
    cache: Arc<OnceLock<CodeCache>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}

impl Host {
    /// An engine that keeps modules to `policy`.
    ///
    /// # Errors
    /// A sentence: the machine cannot run compiled wasm, or the policy's stack size makes no sense.
    pub fn new(policy: Policy) -> Result<Self, String> {
        let guard_pages = policy.guard_pages && !is_address_space_short();
        let policy = Policy { guard_pages, ..policy };
        let engine = engine(&policy)?;
        let mut linker = Linker::new(&engine);
        crate::guest::grant(&mut linker, &policy)
            .map_err(|error| format!("the wasm engine does not start: {error:#}"))?;
        let compiler = Compiler::installed();
        Ok(Self { shared: Arc::new(Shared { engine, linker, policy, compiler, cache: Arc::default() }) })
    }

    /// The same, compiling with `compiler`.
    #[must_use]
    pub fn compiling_with(self, compiler: Compiler) -> Self {
        let Shared { engine, linker, policy, cache, .. } = &*self.shared;
        let (engine, linker, policy) = (engine.clone(), linker.clone(), *policy);
        let (compiler, cache) = (Some(compiler), Arc::clone(cache));
        Self { shared: Arc::new(Shared { engine, linker, policy, compiler, cache }) }
    }

    /// Keeps compiled modules in `cache` from now on. Once is for good: a later call changes nothing.
    pub fn use_cache(&self, cache: CodeCache) {
        let _ = self.shared.cache.set(cache);
    }

    /// The same engine with `limits` on modules.
    pub fn limited(&self, limits: Limits) -> Self {
        let Shared { engine, linker, policy, compiler, cache } = &*self.shared;
        let (engine, linker, policy) = (engine.clone(), linker.clone(), policy.with(limits));
        let (compiler, cache) = (compiler.clone(), Arc::clone(cache));
        Self { shared: Arc::new(Shared { engine, linker, policy, compiler, cache }) }
    }

    /// The bounds on modules.
    pub fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    pub(crate) fn linker(&self) -> &Linker<Guest> {
        &self.shared.linker
    }

    pub(crate) fn compiler(&self) -> Option<&Compiler> {
        self.shared.compiler.as_ref()
    }

    pub(crate) fn cache(&self) -> Option<&CodeCache> {
        self.shared.cache.get()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }
}
