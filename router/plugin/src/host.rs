//! The process-wide part: the engine and the imports.

use core::fmt;
use std::sync::{Arc, OnceLock};

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OperatorCost, OptLevel};

use crate::cache::CodeCache;
use crate::compiler::Compiler;
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
        let fail = |error: wasmtime::Error| format!("the wasm engine does not start: {error:#}");
        let engine = engine(&policy)?;
        let mut linker = Linker::new(&engine);
        crate::guest::grant(&mut linker, &policy).map_err(fail)?;
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

/// The engine with its settings: that of a host, and that of the compiler's process.
///
/// # Errors
/// A sentence: the machine cannot run compiled wasm, or the policy's stack size makes no sense.
pub(crate) fn engine(policy: &Policy) -> Result<Engine, String> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // The bookkeeping of concurrent tasks would triple the cost of a call.
        .concurrency_support(false)
        .consume_fuel(true)
        // Growing calls into the host, refused or not; at a cost of one, a loop of it ran for 8 ms.
        .operator_cost(OperatorCost { MemoryGrow: 250, TableGrow: 250, ..OperatorCost::new() })
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(policy.stack_bytes)
        // 64-bit memories need bounds checks; nobody schedules out of more than 4 GiB.
        .wasm_memory64(false)
        // The same picks on every machine.
        .relaxed_simd_deterministic(true);
    // Memories are made on demand: a start takes 21 us, from a pool 18 us, and it happens only after a failure;
    // in return there is no pool to run out of. The default reservation of 4 GiB of address space stays, for
    // a smaller one brings back bounds checks.
    Engine::new(&config).map_err(|error| format!("the wasm engine does not start: {error:#}"))
}
