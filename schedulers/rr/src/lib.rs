//! Round robin (kernel `rr`): each eligible destination in turn, whatever its weight.
//!
//! The list is walked from the destination that was picked last. Destinations come in at the front, so a new
//! service starts with the one added last, and one added later waits for the walk to come round.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Destinations, Flags, Flow, Host, Scheduler};

/// What a saved state starts with.
const MAGIC: &[u8] = b"rr1";

/// Round robin.
#[derive(Debug, Default)]
pub struct Rr {
    /// The ids of the destinations in list order.
    order: Vec<u32>,
    /// Where in `order` the last pick is; `None` is before the first.
    last: Option<usize>,
}

impl Scheduler for Rr {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("rr", options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        // When the last pick is gone, the walk goes on from the one before it.
        self.last = self.last.and_then(|last| {
            self.order[..=last]
                .iter()
                .rev()
                .find_map(|&id| table.position_of(id))
                .map(|position| position as usize)
        });
        self.order.clear();
        self.order.extend(table.iter().map(|(_, destination)| destination.id));
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        let next = self.last.map_or(0, |last| last + 1);
        let (position, _) = table.iter_from(next).find(|(_, destination)| destination.is_eligible())?;
        self.last = Some(position as usize);
        Some(position)
    }

    fn save(&self) -> Vec<u8> {
        let mut state = MAGIC.to_vec();
        if let Some(last) = self.last {
            state.extend(self.order[last].to_le_bytes());
        }
        state
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let last = match state.strip_prefix(MAGIC) {
            Some([]) => None,
            Some(&[a, b, c, d]) => {
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
        true
    }
}

uvs_sdk::export!(Rr);
