//! The vocabulary of the engine: time, identities, specifications, frames and verdicts.

pub(crate) mod cut;
pub(crate) mod drops;
pub(crate) mod frame;
pub(crate) mod ids;
pub mod local;
pub(crate) mod lock;
pub(crate) mod random;
pub mod record;
pub mod scheduler;
pub mod spec;
pub(crate) mod time;
pub mod trace;
pub(crate) mod verdict;
pub mod view;
