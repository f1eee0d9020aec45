//! The director: an L4 balancer without I/O and without a clock.
//!
//! ```text
//!   frame, now --> Director::handle --> Verdict   (the frame, rewritten in place)
//!                        |         `--> Outbox    (frames the director originates)
//!   Change ----> Director::apply
//!   now -------> Director::handle_timeout
//! ```
//!
//! Every method takes `&self`: several workers call one director at once, and the two directions of a
//! connection may come in on different ones.

#![forbid(unsafe_code)]

mod director;
mod frame;
pub mod scheduler;
pub mod spec;
mod time;
mod verdict;
pub mod view;

pub use director::{ApplyError, Director};
pub use frame::{FRAME_MAX, Frame, HEADROOM, Offload, Outbox, PortId};
pub use time::{Duration, Instant};
pub use verdict::{DropReason, Verdict};
