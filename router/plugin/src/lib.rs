//! Runs schedulers that are WebAssembly components, and never lets one of them lose a connection.
//!
//! ```text
//!   Schedulers --create--> Plugin --pick--> Instance --> the module's `schedule`
//!       |  (names, files)    |  `--failure--> native fallback picks for that very connection
//!       `-- Host, Module     `-- Health: ejection and back-off; SchedulerStats: what happened
//! ```
//!
//! Invariants:
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

mod error;
mod health;
mod host;
mod instance;
mod native;
mod plugin;
mod policy;
mod schedulers;
mod stats;

pub use error::{LoadError, LoadReason, StartError};
pub use host::{CONTRACT, Host, Module};
pub use native::{NATIVE, native};
pub use plugin::{MAX_DESTINATIONS, Plugin};
pub use policy::{Limits, Policy};
pub use schedulers::{Definition, FALLBACK, LiveStats, SHIPPED, Schedulers};
pub use stats::{
    Cause, Failure, LATENCY_BOUNDS_NS, LATENCY_SAMPLE, Latency, SchedulerStats, Serving, Snapshot,
};
