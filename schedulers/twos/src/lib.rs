//! Power of two choices (kernel `twos`; Mitzenmacher 1996): of two destinations drawn at random, each as likely as its
//! weight says, the one with the least overhead for its weight; the first drawn when they are equal.
//!
//! As in the kernel a number is drawn from 0 up to and with the sum of the weights, so that the first eligible
//! destination of the list is a little likelier than its weight says. There is no recording of `twos`.
//!
//! A tree of sums finds a draw's destination:
//!
//! ```text
//!            [1] sum of all          [0] is not used
//!        [2]         [3]
//!      [4] [5]     [6] [7]           the leaves: weights of the eligible destinations, in list order
//! ```

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Destinations, Flags, Flow, Host, Scheduler};

/// Power of two choices.
#[derive(Debug, Default)]
pub struct Twos {
    /// As many leaves as inner nodes, a power of two.
    sums: Vec<u64>,
}

impl Scheduler for Twos {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("twos", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        let leaves = table.len().next_power_of_two();
        self.sums.clear();
        self.sums.resize(leaves, 0);
        self.sums.extend(table.iter().map(|(position, _)| weight(table, position)));
        self.sums.resize(2 * leaves, 0);
        for node in (1..leaves).rev() {
            self.add(node);
        }
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        // So many walks to the root cost more than all nodes do.
        if table.changed().len() > table.len() / 8 {
            self.update(table);
        } else {
            self.refresh(table);
        }
        let total = *self.sums.get(1).filter(|&&total| total > 0)?;
        let first = self.drawn(below(total + 1, host));
        let second = self.drawn(below(total + 1, host));
        let (a, b) = (table.get(first)?, table.get(second)?);
        let worse =
            u64::from(a.overhead()) * u64::from(b.weight) > u64::from(b.overhead()) * u64::from(a.weight);
        Some(if worse { second } else { first })
    }
}

impl Twos {
    /// Takes in the loads that came with a pick.
    fn refresh(&mut self, table: &Destinations) {
        for &position in table.changed() {
            let mut node = self.sums.len() / 2 + position as usize;
            self.sums[node] = weight(table, position);
            while node > 1 {
                node /= 2;
                self.add(node);
            }
        }
    }

    /// The first destination at which the weights so far reach `draw`, which is at most their sum.
    fn drawn(&self, draw: u64) -> u32 {
        let leaves = self.sums.len() / 2;
        // A draw of 0 is reached by the first weight that is not 0.
        let mut draw = draw.max(1);
        let mut node = 1;
        while node < leaves {
            node *= 2;
            if draw > self.sums[node] {
                draw -= self.sums[node];
                node += 1;
            }
        }
        u32::try_from(node - leaves).expect("the contract has 65536 positions")
    }

    fn add(&mut self, node: usize) {
        self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1];
    }
}

/// The weight a destination takes part with.
fn weight(table: &Destinations, position: u32) -> u64 {
    table.get(position).filter(|destination| destination.is_eligible()).map_or(0, |d| u64::from(d.weight))
}

/// A random number below `end` (Lemire 2019, without the step against a bias, which stays below 2^-16).
fn below(end: u64, host: &mut dyn Host) -> u64 {
    ((u128::from(host.random()) * u128::from(end)) >> 64) as u64
}

uvs_sdk::export!(Twos);
