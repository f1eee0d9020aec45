//! Health checks of destinations.
//!
//! ```text
//!   core     when to probe and what a result means, in virtual time; weight: one slot for each writer
//!   spec     what is to be checked; outcome: what came of a probe; text: what servers say, made fit to be shown
//!   runner   drives core and probes on the runtime of their network; workers: the tasks that make them
//!   probe    the probes themselves, each within one deadline
//!   program  runs a program, which ends with its run
//!   net      what probes are made over: TCP, UDP and pings to a target (trait Network; System: the host's own sockets)
//! ```

#![forbid(unsafe_code)]

pub mod core;
pub mod net;
pub mod outcome;
pub mod probe;
pub mod program;
pub mod runner;
pub mod spec;
pub mod text;
pub mod weight;
mod workers;
