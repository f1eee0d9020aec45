//! Failover (kernel `fo`): all to the eligible destination with the highest weight, the first in list order among
//! equals; when that one is quiesced, overloaded or gone, to the next. Connections do not count.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destination, Destinations, Entry, Flags, Flow, Host, Scheduler, Tournament};

/// Failover.
#[derive(Debug, Default)]
pub struct Fo(Tournament);

impl Scheduler for Fo {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("fo", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        self.0.rebuild(table, rule);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        self.0.refresh(table, rule);
        self.0.winner()
    }
}

/// The highest weight has the least load for it.
fn rule(destination: &Destination) -> Option<Entry> {
    destination.is_eligible().then_some(Entry { load: 1, weight: destination.weight })
}

uvs_sdk::export!(Fo);
