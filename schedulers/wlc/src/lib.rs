//! Weighted least connection (kernel `wlc`, what ipvsadm takes where none is named): the eligible destination with the
//! least overhead for its weight, the first in list order among equals. With `slow-start=SECONDS`, which the kernel's
//! has not, new destinations warm up ([`SlowStart`]).

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destination, Destinations, Entry, Flags, Flow, Host, Scheduler, SlowStart, Tournament};

/// Weighted least connection.
#[derive(Debug, Default)]
pub struct Wlc(Tournament);

impl Scheduler for Wlc {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("wlc", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        self.0.rebuild(table, rule);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        self.0.refresh(table, rule);
        self.0.winner()
    }
}

/// What is compared is overhead by weight.
fn rule(destination: &Destination) -> Option<Entry> {
    destination.is_eligible().then(|| Entry { load: destination.overhead(), weight: destination.weight })
}

uvs_sdk::export!(SlowStart<Wlc>);
