//! What the fuzz targets do with their bytes. tests/tests/regressions.rs replays findings through the same functions.
//!
//! ```text
//!   fuzz_targets/NAME.rs --.
//!                           >-- run(bytes): panics when something that always holds does not
//!   regressions/NAME/*  ---'
//! ```
//!
//! Nothing here is random: the same bytes always do the same.

pub mod adm;
pub mod config;
pub mod handle;
pub mod wire;

mod check;
mod schedulers;
mod script;

pub use script::Script;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 4] =
    [("wire", wire::run), ("handle", handle::run), ("adm", adm::run), ("config", config::run)];
