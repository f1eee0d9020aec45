//! Overflow (kernel `ovf`): the eligible destination with the highest weight that has no more active connections
//! than its weight, the first in list order among equals. Nobody when all have more.
//!
//! As the recorded kernel does, a destination of weight `w` takes `w + 1` connections: `w` active ones are not more
//! than its weight yet. Connections that are half open count.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destination, Destinations, Entry, Flags, Flow, Host, Scheduler, Tournament};

/// Overflow.
#[derive(Debug, Default)]
pub struct Ovf(Tournament);

impl Scheduler for Ovf {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("ovf", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        self.0.rebuild(table, rule);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        self.0.refresh(table, rule);
        self.0.winner()
    }
}

/// The highest weight has the least load for it; who is full stays out.
fn rule(destination: &Destination) -> Option<Entry> {
    let takes = destination.is_eligible() && destination.active <= destination.weight;
    takes.then_some(Entry { load: 1, weight: destination.weight })
}

uvs_sdk::export!(Ovf);
