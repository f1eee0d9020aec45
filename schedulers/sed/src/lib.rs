//! Shortest expected delay (kernel `sed`): the eligible destination that would have the fewest active connections
//! for its weight with this one more, the first in list order among equals. Inactive connections do not count.
//!
//! Unlike wlc it leaves a slow destination alone while a faster one is just as idle: with weights 1 and 3 the first
//! three of four connections go to the latter.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destination, Destinations, Entry, Flags, Flow, Host, Scheduler, Tournament};

/// Shortest expected delay.
#[derive(Debug, Default)]
pub struct Sed(Tournament);

impl Scheduler for Sed {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("sed", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        self.0.rebuild(table, rule);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        self.0.refresh(table, rule);
        self.0.winner()
    }
}

/// Active connections and the one to come, by weight.
fn rule(destination: &Destination) -> Option<Entry> {
    destination.is_eligible().then(|| Entry { load: destination.active + 1, weight: destination.weight })
}

uvs_sdk::export!(Sed);
