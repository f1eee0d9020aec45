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

mod ahead;
mod apply;
mod balance;
mod connection;
mod cut;
mod defence;
mod director;
mod discovery;
mod feedback;
pub mod flow_cache;
mod flows;
mod forward;
mod frame;
mod ftp;
mod input;
mod inspect;
mod ip_options;
mod marks;
mod memo;
mod neighbor;
mod network;
mod node;
mod path_mtu;
mod reassembly;
mod related;
mod report;
mod schedule;
pub mod scheduler;
mod sctp;
mod service;
pub mod spec;
mod state;
mod stats;
mod table;
mod tcp;
mod time;
mod tunnel;
mod verdict;
pub mod view;
mod wheel;

pub use ahead::Ahead;
pub use cut::{Cut, HEADERS_MAX, Piece};
pub use director::{ApplyError, Director};
pub use frame::{FRAME_MAX, Frame, HEADROOM, Offload, Outbox, PortId};
pub use inspect::ServiceSet;
pub use time::{Duration, Instant};
pub use verdict::{DropReason, Verdict};
