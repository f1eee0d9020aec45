//! The settings of the wasm engine.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use wasmtime::{Config, Engine, OperatorCost, OptLevel};

use crate::policy::Policy;

/// Address space that a memory without guard pages has beyond what it uses: 1 MiB. One that needs more is copied.
const MEMORY_STEP: u64 = 1 << 20;

/// The limit of this process's address space in bytes, if there is one.
pub(crate) fn address_space_max() -> Option<u64> {
    getrlimit(Resource::RLIMIT_AS).ok().map(|(soft, _)| soft).filter(|soft| *soft != RLIM_INFINITY)
}

/// Whether the address space of this process, or memory that is set aside but not used, is limited (setrlimit(2),
/// `vm.overcommit_memory` = 2).
pub(crate) fn is_address_space_short() -> bool {
    address_space_max().is_some()
        || std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|text| text.trim() == "2")
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
    // Memories are made on demand: a start takes 21 us, from a pool 18 us, and it happens only after a failure; in
    // return there is no pool to run out of. They have 4 GiB of address space each, as is the default, or what they
    // use.
    if !policy.guard_pages {
        config
            .memory_reservation(MEMORY_STEP)
            .memory_reservation_for_growth(MEMORY_STEP)
            .memory_guard_size(1 << 16)
            .guard_before_linear_memory(false);
    }
    Engine::new(&config).map_err(|error| format!("the wasm engine does not start: {error:#}"))
}
