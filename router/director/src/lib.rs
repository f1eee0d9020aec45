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

mod base;
mod choose;
mod director;
pub mod flow_cache;
mod flows;
mod net;
mod path;
mod track;

pub use base::cut::{Cut, HEADERS_MAX, Piece};
pub use base::frame::{FRAME_MAX, Frame, HEADROOM, Offload, Outbox, PortId};
pub use base::time::{Duration, Instant};
pub use base::verdict::{DropReason, Verdict};
pub use base::{spec, view};
pub use choose::scheduler;
pub use director::{ApplyError, Director, ServiceSet};
pub use path::ahead::Ahead;
