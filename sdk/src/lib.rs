//! What the author of a scheduler depends on.
//!
//! A scheduler picks the destination of each *new* connection of one virtual service. It is a type that
//! implements [`Scheduler`], made into a component by [`export!`]:
//!
//! ```
//! #![cfg_attr(target_arch = "wasm32", no_std)]
//! extern crate alloc;
//!
//! use alloc::string::String;
//! use uvs_sdk::{Destinations, Flow, Host, Scheduler};
//!
//! /// Any destination, each as likely as the others.
//! struct Random;
//!
//! impl Scheduler for Random {
//!     fn init(_service: &str, options: &str) -> Result<Self, String> {
//!         if options.is_empty() { Ok(Self) } else { Err("random takes no options".into()) }
//!     }
//!
//!     fn schedule(&mut self, _: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
//!         let eligible = table.iter().filter(|(_, destination)| destination.is_eligible());
//!         let count = eligible.clone().count() as u64;
//!         let skip = host.random().checked_rem(count)?;
//!         eligible.map(|(position, _)| position).nth(skip as usize)
//!     }
//! }
//!
//! uvs_sdk::export!(Random);
//! # fn main() {}
//! ```
//!
//! What most schedulers need is here, too: [`Tournament`] finds the least loaded of many destinations without looking
//! at them all, [`Affinity`] and [`AddressCache`] remember addresses within bounds. `examples/sticky` uses the first
//! two.
//!
//! Built for `wasm32-unknown-unknown` as a `cdylib`, that is a component of the world in `wit/scheduler.wit`.
//! Built for the machine at hand, [`export!`] adds nothing, and the very same type is tested with
//! [`Runner`] or, with less to write, with [`testing::Lab`].

#![no_std]

extern crate alloc;

mod affinity;
mod cache;
mod feedback;
mod flags;
mod hash;
mod options;
mod ranked;
mod runner;
mod slow_start;
mod table;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod tournament;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wasm;

use alloc::string::String;
use alloc::vec::Vec;

pub use affinity::Affinity;
pub use cache::AddressCache;
pub use feedback::{Event, EventWord, Feedback, Response};
pub use flags::Flags;
pub use hash::{hash_32, siphash13};
pub use options::{refuse_option, words};
pub use ranked::{Ranked, Ranking};
pub use runner::Runner;
pub use slow_start::SlowStart;
pub use table::{Address, Destination, Destinations, LoadWord};
pub use tournament::{Entry, Tournament};

/// A balancing policy for one virtual service.
///
/// The director calls it once for each new connection, one call at a time, and never per packet. A panic
/// ends the instance: the director picks by its own scheduler meanwhile and starts a fresh one.
pub trait Scheduler: Sized {
    /// Whether it wants to hear of events ([`observe`](Self::observe)). To be exported by [`export_observing!`] then,
    /// and by [`export!`] otherwise; to build the other way fails.
    const OBSERVES: bool = false;

    /// Bound to a service. `service` names it (text for logs, such as `tcp 192.0.2.10:443`); `options` is the
    /// text from the configuration, empty where there is none.
    ///
    /// # Errors
    /// A sentence for the operator: what is wrong with `options` and what would be right.
    fn init(service: &str, options: &str) -> Result<Self, String>;

    /// The set of destinations changed: one was added (at the front), removed or edited. All loads read zero
    /// until the next [`schedule`](Self::schedule).
    fn update(&mut self, table: &Destinations) {
        let _ = table;
    }

    /// One pick: a position in `table`, or `None` when nothing can take the connection.
    ///
    /// A position that is not [eligible](Destinations::eligible) is refused by the director and counts as a
    /// failure.
    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32>;

    /// What became of connections that were placed, right before the next pick. Comes only where
    /// [`OBSERVES`](Self::OBSERVES) is true, and only from services whose director sees the answers (TCP by NAT).
    fn observe(&mut self, events: Feedback<'_>, table: &Destinations, host: &mut dyn Host) {
        let _ = (events, table, host);
    }

    /// What a later instance needs to go on from here (a cursor, a sticky map), carried over a reload.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over what [`save`](Self::save) of an earlier instance returned; comes after
    /// [`update`](Self::update). `false`: could not use it, and nothing has changed.
    fn restore(&mut self, state: &[u8]) -> bool {
        let _ = state;
        false
    }
}

/// A new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// CIP.
    pub client: Address,
    /// The client's port.
    pub client_port: u16,
    /// The address the client asked for: the VIP.
    pub virtual_addr: Address,
    /// The port the client asked for.
    pub virtual_port: u16,
    /// The firewall mark; 0 is none.
    pub mark: u32,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

/// What the director lends a scheduler; there is no other way to the outside.
pub trait Host {
    /// 64 random bits.
    fn random(&mut self) -> u64;

    /// Milliseconds since some moment in the past; never runs backwards.
    fn now_ms(&mut self) -> u64;

    /// Writes a line to the director's log.
    fn log(&mut self, level: Level, message: &str);
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    Error = 0,
    /// Something is odd.
    Warn = 1,
    /// Worth knowing.
    Info = 2,
    /// For whoever debugs the scheduler.
    Debug = 3,
}

/// Makes a [`Scheduler`] the component that this crate builds to.
///
/// To be called once in a crate, at its root. On anything but `wasm32` it only checks that the type is a scheduler.
#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! export {
    ($scheduler:ty) => {
        const _: () = $crate::assert_scheduler::<$scheduler>(false);
    };
}

/// As [`export!`], for a scheduler that wants to hear of events ([`Scheduler::OBSERVES`]): a component of the world
/// `observing-scheduler`.
#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! export_observing {
    ($scheduler:ty) => {
        const _: () = $crate::assert_scheduler::<$scheduler>(true);
    };
}

#[doc(hidden)]
pub const fn assert_scheduler<S: Scheduler>(observing: bool) {
    assert!(S::OBSERVES || !observing, "a scheduler without OBSERVES = true is exported by export!");
    assert!(!S::OBSERVES || observing, "a scheduler with OBSERVES = true is exported by export_observing!");
}
