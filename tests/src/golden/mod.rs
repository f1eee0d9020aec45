//! Replays scenarios recorded from a kernel IPVS and compares what the director answers.
//!
//! ```text
//!   scenario (JSON) --> replay: packets, commands, time --> Director
//!                          |                                  |
//!                       lab, shell, matrix        frames, connections, listings
//!                          `------------ compare <------------'
//!                                          |
//!                            normal (what cannot be the same)
//! ```
//!
//! Nothing sleeps and nothing needs root: time is the recording's, frames are the recording's bytes.

mod compare;
mod decode;
mod explain;
mod lab;
mod matrix;
mod normal;
mod replay;
mod scenario;
mod shell;
mod wires;

pub use decode::summary;
pub use replay::{Failure, Outcome, replay, replay_over};
pub use scenario::{
    Action, Cell, Input, Scenario, Sent, Setting, Side, Snapshot, Step, load, scenarios_under,
};
pub use wires::{Passed, Wires};
