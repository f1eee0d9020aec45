//! Never queue (kernel `nq`): the first eligible destination in list order without active connections, whatever its
//! weight; where all have some, as sed: the fewest active connections for its weight with this one more.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destination, Destinations, Entry, Flags, Flow, Host, Scheduler, Tournament};

/// Never queue.
#[derive(Debug, Default)]
pub struct Nq(Tournament);

impl Scheduler for Nq {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("nq", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        self.0.rebuild(table, rule);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        self.0.refresh(table, rule);
        self.0.winner()
    }
}

/// As sed, but who is idle has no load at all.
fn rule(destination: &Destination) -> Option<Entry> {
    let load = if destination.active == 0 { 0 } else { destination.active + 1 };
    destination.is_eligible().then_some(Entry { load, weight: destination.weight })
}

uvs_sdk::export!(Nq);
