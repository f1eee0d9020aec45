//! Smooth weighted round robin (as nginx has it): turns in proportion to weights, evenly spread, where the kernel's
//! `wrr` serves the heavy ones in bursts. Weights 5, 1, 1 (A, B, C in list order) give `A A B A C A A`.
//!
//! Each destination has credit. A pick gives every eligible one its weight, takes the one with the most, the first in
//! list order among equals, and takes the sum of all those weights off its credit. Who cannot take a connection gains
//! nothing meanwhile. Each pick looks at every destination.
//!
//! With `slow-start=SECONDS` new destinations warm up ([`SlowStart`]).

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Destinations, Flags, Flow, Host, Scheduler, SlowStart};

/// What a saved state starts with.
const MAGIC: &[u8] = b"swrr1";

/// Smooth weighted round robin.
#[derive(Debug, Default)]
pub struct Swrr {
    /// Id and credit of each destination, in list order.
    credits: Vec<(u32, i64)>,
}

impl Scheduler for Swrr {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("swrr", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        let before = core::mem::take(&mut self.credits);
        let mut last = 0;
        self.credits.extend(table.iter().map(|(_, destination)| {
            // Lists hardly change their order, so that the next one is nearly always where the search begins.
            let known =
                before[last..].iter().chain(&before[..last]).position(|(id, _)| *id == destination.id);
            let credit = known.map_or(0, |steps| {
                let at = (last + steps) % before.len();
                last = (at + 1) % before.len();
                before[at].1
            });
            (destination.id, credit)
        }));
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        let mut total = 0;
        let mut best: Option<(u32, i64)> = None;
        for ((position, destination), (_, credit)) in table.iter().zip(&mut self.credits) {
            if !destination.is_eligible() {
                continue;
            }
            let weight = i64::from(destination.weight);
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((position, *credit));
            }
        }
        let (position, _) = best?;
        self.credits[position as usize].1 -= total;
        Some(position)
    }

    fn save(&self) -> Vec<u8> {
        let mut state = MAGIC.to_vec();
        for (id, credit) in &self.credits {
            state.extend(id.to_le_bytes());
            state.extend(credit.to_le_bytes());
        }
        state
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let Some((entries, [])) = state.strip_prefix(MAGIC).map(<[u8]>::as_chunks::<12>) else {
            return false;
        };
        for &[a, b, c, d, credit @ ..] in entries {
            let (id, credit) = (u32::from_le_bytes([a, b, c, d]), i64::from_le_bytes(credit));
            if let Some(known) = self.credits.iter_mut().find(|(known, _)| *known == id) {
                // Far from any sum of weights: a state that was made up cannot overflow it.
                known.1 = credit.clamp(-(1 << 48), 1 << 48);
            }
        }
        true
    }
}

uvs_sdk::export!(SlowStart<Swrr>);
