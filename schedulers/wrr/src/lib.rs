//! Weighted round robin (kernel `wrr`): turns in proportion to weights, the heavy ones in bursts.
//!
//! The list is walked in passes. A pass has a bar, and takes the destinations whose weight reaches it; each pass
//! sets the bar lower by the greatest common divisor of the weights, and below 1 it starts from the top again.
//! Weights 1, 2, 3 (A, B, C; C was added last and stands first) give `C | C B | C B A`.
//!
//! Any change of the set starts the walk at the front again but keeps the bar. That is why a new service, whose
//! bar was set when it had one destination, does not begin at the top.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Destination, Destinations, Flags, Flow, Host, Scheduler};

/// What a saved state starts with.
const MAGIC: &[u8] = b"wrr1";

/// Weighted round robin.
#[derive(Debug)]
pub struct Wrr {
    /// The ids of the destinations in list order.
    order: Vec<u32>,
    /// Where in `order` the last pick is; `None` is before the first.
    last: Option<usize>,
    /// The least weight this pass takes.
    bar: u32,
    /// The bar of the topmost pass; 0 when all weights are 0.
    top: u32,
    /// How much lower each pass is: the greatest common divisor of the weights, 1 when all are 0.
    step: u32,
}

impl Scheduler for Wrr {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("wrr", options)?;
        Ok(Self { order: Vec::new(), last: None, bar: 0, top: 0, step: 1 })
    }

    fn update(&mut self, table: &Destinations) {
        self.order.clear();
        self.order.extend(table.iter().map(|(_, destination)| destination.id));
        self.last = None;

        let weights = || table.iter().map(|(_, destination)| destination.weight);
        let divisor = weights().fold(0, gcd);
        self.step = divisor.max(1);
        // The lowest bar is then 1, which takes every weight but 0.
        self.top = weights().max().unwrap_or(0).saturating_sub(self.step - 1);
        self.bar = self.clip(self.bar);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        let heaviest = table.iter().filter(|(_, d)| d.available).map(|(_, d)| d.weight).max().unwrap_or(0);
        if heaviest == 0 {
            // A walk in vain ends where it began: at the front with the bar at the top, else in the lowest pass.
            if self.top > 0 {
                self.bar = if self.last.is_none() { self.top } else { (self.top - 1) % self.step + 1 };
            }
            return None;
        }
        let bar = self.bar;
        let takes = |d: &Destination, bar| d.available && d.weight >= bar;
        let rest = table.iter().skip(self.last.map_or(0, |last| last + 1)).find(|(_, d)| takes(d, bar));
        let (position, _) = match rest {
            Some(found) => found,
            None => {
                self.bar = self.lower(self.bar);
                if self.bar > heaviest {
                    // Passes that would take nobody are left out at once: there may be two thousand millions.
                    self.bar -= (self.bar - heaviest).div_ceil(self.step) * self.step;
                }
                let bar = self.bar;
                table.iter().find(|(_, d)| takes(d, bar))?
            }
        };
        self.last = Some(position as usize);
        Some(position)
    }

    fn save(&self) -> Vec<u8> {
        let mut state = MAGIC.to_vec();
        state.extend(self.bar.to_le_bytes());
        if let Some(last) = self.last {
            state.extend(self.order[last].to_le_bytes());
        }
        state
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let Some((bar, id)) = state.strip_prefix(MAGIC).and_then(|state| state.split_first_chunk()) else {
            return false;
        };
        let last = match *id {
            [] => None,
            [a, b, c, d] => {
                let id = u32::from_le_bytes([a, b, c, d]);
                let position = self.order.iter().position(|&known| known == id);
                if position.is_none() {
                    return false;
                }
                position
            }
            _ => return false,
        };
        self.last = last;
        self.bar = self.clip(u32::from_le_bytes(*bar));
        true
    }
}

impl Wrr {
    /// The bar of the next pass.
    fn lower(&self, bar: u32) -> u32 {
        if bar > self.step { bar - self.step } else { self.top }
    }

    /// The bar nearest below `bar` that a walk from the top comes to.
    fn clip(&self, bar: u32) -> u32 {
        if bar == 0 || bar > self.top {
            self.top
        } else if self.step > 1 {
            bar / self.step * self.step + 1
        } else {
            bar
        }
    }
}

/// The greatest common divisor; that of 0 and a number is the number.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

uvs_sdk::export!(Wrr);
