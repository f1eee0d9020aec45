//! Source hashing (kernel `sh`): the client's address decides, with `sh-port` its port as well.
//!
//! A table of 256 slots holds the destinations in list order, each with as many slots in a row as its weight, again
//! and again until the table is full. A quiesced one has one slot. Where a client's slot names a destination that is
//! quiesced or overloaded the client gets none; with `sh-fallback` the search goes on with other hashes of its
//! address.
//!
//! ```text
//! weights 2, 1, 3:   c c c b a a c c c b a a c c c ..      a was added first and comes last in the list
//! ```
//!
//! The hash is that of the recorded kernel, the upper bits of a product, with the offset of a further attempt added to
//! it. Kernels before 4.7 took the lower bits and another factor.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destinations, Flags, Flow, Host, Scheduler, hash_32};

/// The table has 2 to this many slots.
const TABLE_BITS: u32 = 8;
const SLOTS: usize = 1 << TABLE_BITS;

/// Where there is no destination: no service has so many.
const NOBODY: u32 = u32::MAX;

/// Source hashing.
#[derive(Debug)]
pub struct Sh {
    flags: Flags,
    /// Positions.
    slots: [u32; SLOTS],
}

impl Scheduler for Sh {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Ok(Self { flags: Flags::parse("sh", options)?, slots: [NOBODY; SLOTS] })
    }

    fn update(&mut self, table: &Destinations) {
        self.slots.fill(NOBODY);
        if table.is_empty() {
            return;
        }
        let mut slots = self.slots.iter_mut();
        for (position, destination) in table.iter().cycle() {
            for _ in 0..destination.weight.max(1) {
                let Some(slot) = slots.next() else { return };
                *slot = position;
            }
        }
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        let port = if self.flags.port { flow.client_port } else { 0 };
        let hash = hash_32(flow.client.fold().wrapping_add(u32::from(port)), TABLE_BITS);
        let first = hash as usize;
        let takes = |&slot: &usize| table.eligible(self.slots[slot]);
        // A further hash is the first one and an offset, and offsets begin at the first hash: the search goes through
        // the table once, from the slot that is as far from the first as that is from 0.
        let further = (0..if self.flags.fallback { SLOTS } else { 0 }).map(|step| (2 * first + step) % SLOTS);
        core::iter::once(first).chain(further).find(takes).map(|slot| self.slots[slot])
    }
}

uvs_sdk::export!(Sh);
