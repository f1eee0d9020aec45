//! The settings of the wasm engine.

use wasmtime::{Config, Engine, OperatorCost, OptLevel};

use crate::policy::Policy;

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
