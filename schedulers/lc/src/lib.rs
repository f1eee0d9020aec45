//! Least connection (kernel `lc`): the eligible destination with the least overhead, the first in list order
//! among equals. Weights do not count, but 0 quiesces.
//!
//! A tournament finds the least: each inner node holds the smaller of its two children, so a load that changed
//! costs one walk to the root, and a pick reads the root.
//!
//! ```text
//!            [1] min                 [0] is not used
//!        [2]         [3]
//!      [4] [5]     [6] [7]           the leaves: the destinations in list order
//! ```

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use uvs_sdk::{Destinations, Flow, Host, Scheduler};

/// Where no destination is, or none that may take a connection: more than any key.
const NOBODY: u64 = u64::MAX;

/// The part of a key that is the position.
const POSITION: u64 = 0xffff_ffff;

/// Least connection.
#[derive(Debug, Default)]
pub struct Lc {
    /// The tournament: keys of destinations.
    keys: Vec<u64>,
}

impl Scheduler for Lc {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        if options.is_empty() { Ok(Self::default()) } else { Err("lc takes no options".into()) }
    }

    fn update(&mut self, table: &Destinations) {
        let leaves = table.len().next_power_of_two();
        self.keys = vec![NOBODY; 2 * leaves];
        for (position, _) in table.iter() {
            self.keys[leaves + position as usize] = key(table, position);
        }
        for node in (1..leaves).rev() {
            self.keys[node] = self.keys[2 * node].min(self.keys[2 * node + 1]);
        }
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        for &position in table.changed() {
            let mut node = self.keys.len() / 2 + position as usize;
            self.keys[node] = key(table, position);
            while node > 1 {
                node /= 2;
                self.keys[node] = self.keys[2 * node].min(self.keys[2 * node + 1]);
            }
        }
        self.keys.get(1).filter(|&&key| key != NOBODY).map(|&key| (key & POSITION) as u32)
    }
}

/// Orders destinations by overhead, then by position. The overhead of a load word stays below 2^32.
fn key(table: &Destinations, position: u32) -> u64 {
    match table.get(position) {
        Some(destination) if destination.is_eligible() => destination.overhead() << 32 | u64::from(position),
        _ => NOBODY,
    }
}

uvs_sdk::export!(Lc);
