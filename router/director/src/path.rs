//! The way of a frame, stage by stage, from what came in to what goes out. Each stage hands the next one what it found,
//! and says in the [`Heading`](heading::Heading) where the packet goes:
//!
//! ```text
//!   classify --Class--> find --Found--> advance --Act--> route ---> emit --> Verdict
//! ```
//! A stage ends the walk with the verdict as its error, so that [`handle`](crate::Director::handle) is one line a
//! stage.

pub(crate) mod advance;
pub(crate) mod adverts;
pub(crate) mod ahead;
pub(crate) mod begin;
pub(crate) mod classify;
pub(crate) mod discovery;
pub(crate) mod dry_run;
pub(crate) mod emit;
pub(crate) mod ending;
pub(crate) mod find;
pub(crate) mod gather;
pub(crate) mod heading;
pub(crate) mod icmp;
pub(crate) mod ip_options;
pub(crate) mod local_in;
pub(crate) mod local_out;
pub(crate) mod marks;
pub(crate) mod node;
pub(crate) mod output;
pub(crate) mod placing;
pub(crate) mod related;
pub(crate) mod report;
pub(crate) mod route;
pub(crate) mod short;
pub(crate) mod target;
pub(crate) mod transit;
pub(crate) mod translate;
pub(crate) mod tunnel;
pub(crate) mod unreachable;
