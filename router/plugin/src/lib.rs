//! Runs schedulers that are WebAssembly components, and never lets one of them lose a connection.
//!
//! ```text
//!   Schedulers --create--> Plugin --pick--> Instance --> the module's `schedule`
//!       |  (names, files)    |  `--failure--> native fallback picks for that very connection
//!       `-- Host, Module     `-- Health: ejection and back-off; SchedulerStats: what happened
//! ```
//!
//! Invariants:
//! - what a service's destinations answered is passed on to a module that exports `feedback`, before its next pick;
//! - a module is granted nothing but `log`, `random` and `now-ms`, and each call has a budget of fuel, memory
//!   and stack ([`Policy`]);
//! - each answer is checked; whatever goes wrong, the fallback answers, and the cause is counted and logged;
//! - after a trap the instance is never entered again: a new one takes its place;
//! - nothing is compiled while a packet waits.

mod bindings {
    #![allow(missing_docs, unreachable_pub, reason = "generated from wit/scheduler.wit")]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "scheduler",
    });
    pub(crate) use uvs::scheduler::types::Protocol;
}

/// The optional part of the contract, looked for by itself.
mod optional {
    #![allow(missing_docs, unreachable_pub, reason = "generated from wit/scheduler.wit")]
    wasmtime::component::bindgen!({
        inline: "package uvs:host; world observer { export uvs:scheduler/feedback@0.1.0; }",
        path: "../../wit",
    });
}

mod base;
mod binding;
mod cache;
mod catalogue;
mod code;
mod compile;
mod compiler;
mod dry_run;
mod dump;
mod engine;
mod error;
mod exchange;
mod guest;
mod health;
mod history;
mod host;
mod instance;
mod live;
mod load;
mod module;
mod native;
mod plugin;
mod policy;
mod replay;
mod running;
mod schedulers;
mod shape;
mod shipped;
mod slot;
mod stats;
mod status;
mod store;
mod translate;
mod trial;
mod watch;

pub use cache::CodeCache;
pub use catalogue::{Catalogue, Definition, FALLBACK, REFUSE, TrialSpec};
pub use compile::CONTRACT;
pub use compiler::{Compiler, serve as serve_compiler};
pub use dump::{Dump, DumpedDestination, DumpedFuel, DumpedModule, DumpedPick, Role};
pub use error::{LoadError, LoadReason, StartError};
pub use exchange::{Exchange, Exchanged};
pub use host::Host;
pub use load::{By, Fault, LoadReport, Refusal, Step};
pub use module::Module;
pub use native::{NATIVE, native};
pub use plugin::Plugin;
pub use policy::{Limits, Policy};
pub use replay::{Replay, Replayed, format_sha256, parse_sha256, replay};
pub use schedulers::{Change, LiveStats, Schedulers};
pub use shipped::SHIPPED;
pub use stats::{
    Cause, Failure, LATENCY_BOUNDS_NS, LATENCY_SAMPLE, Latency, SchedulerStats, Serving, Snapshot, TrialStats,
};
pub use status::{AttemptStatus, ModuleStatus, Status, TrialStatus, Work};
pub use translate::MAX_DESTINATIONS;
pub use trial::Mode;
pub use watch::Watch;
