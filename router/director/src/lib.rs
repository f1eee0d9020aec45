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
//!
//! # Layers
//! A module imports from its own layer and from those below, never from one above, and no modules import each other in
//! a circle. `tests/layers.rs` reads this table and the sources, and fails otherwise.
//!
//! | layer | what it is | imports |
//! | --- | --- | --- |
//! | `director` | frames, changes, timers | `path` `scene` `choose` `flows` `flow_cache` `track` `net` `base` |
//! | `path` | a frame, in five stages | `scene` `choose` `flows` `flow_cache` `track` `net` `base` |
//! | `scene` | what handles a frame: snapshot, tables, outbox | `choose` `flows` `flow_cache` `track` `net` `base` |
//! | `choose` | where a new connection goes: services, templates, FTP; drop_entry | `track` `base` |
//! | `flows` | which connections are in the flow cache | `flow_cache` `track` `base` |
//! | `flow_cache` | what a flow cache does for the director | `track` `base` |
//! | `track` | connections: states, timers, the table, counters | `base` |
//! | `net` | interfaces, routes, neighbours, fragments, what a worker remembers of them | `base` |
//! | `base` | time, identities, specifications, frames, verdicts | |

#![forbid(unsafe_code)]

mod base;
mod choose;
mod director;
pub mod flow_cache;
mod flows;
mod net;
mod path;
mod scene;
mod track;

pub use base::cut::{Cut, HEADERS_MAX, Piece};
pub use base::frame::{FRAME_MAX, Frame, HEADROOM, Offload};
pub use base::ids::{DestinationId, PortId, hash_of_name};
pub use base::random::splitmix64;
pub use base::time::{Duration, Instant};
pub use base::verdict::{DropReason, Verdict};
pub use base::{local, record, scheduler, spec, trace, view};
pub use director::drain::{Forgotten, Place};
pub use director::follow::{Followed, Follower};
pub use director::inspect::ServiceSet;
pub use director::take::{Refusal, Taken, Taker};
pub use director::{ApplyError, Director};
pub use path::ahead::Ahead;
pub use scene::outbox::Outbox;
