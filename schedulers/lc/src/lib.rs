//! Least connection (kernel `lc`): the eligible destination with the least overhead, the first in list order
//! among equals. Weights do not count, but 0 quiesces.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destination, Destinations, Entry, Flags, Flow, Host, Scheduler, Tournament};

/// Least connection.
#[derive(Debug, Default)]
pub struct Lc(Tournament);

impl Scheduler for Lc {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("lc", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        self.0.rebuild(table, rule);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        self.0.refresh(table, rule);
        self.0.winner()
    }
}

/// All weigh the same.
fn rule(destination: &Destination) -> Option<Entry> {
    destination.is_eligible().then(|| Entry { load: destination.overhead(), weight: 1 })
}

uvs_sdk::export!(Lc);
