//! The way of a frame, from what came in to what goes out.

pub(crate) mod ahead;
pub(crate) mod balance;
pub(crate) mod forward;
pub(crate) mod input;
pub(crate) mod ip_options;
pub(crate) mod marks;
pub(crate) mod memo;
pub(crate) mod node;
pub(crate) mod reassembly;
pub(crate) mod related;
pub(crate) mod report;
pub(crate) mod tunnel;
