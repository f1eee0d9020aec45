//! Destination hashing (kernel `dh`): the address that the client asked for decides. For services with many addresses
//! (a firewall mark in front of caches or firewalls); behind a single VIP one destination gets everything.
//!
//! A table of 256 slots holds all destinations in turn, in list order and whatever their weight. An address whose
//! destination is quiesced or overloaded gets none.
//!
//! The hash is that of the recorded kernel, the upper bits of a product. Kernels before 4.7 took the lower bits and
//! another factor.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use uvs_sdk::{Destinations, Flags, Flow, Host, Scheduler, hash_32};

/// The table has 2 to this many slots.
const TABLE_BITS: u32 = 8;

/// Destination hashing. The table need not be kept: it repeats the list.
#[derive(Debug)]
pub struct Dh;

impl Scheduler for Dh {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("dh", options).map(|_| Self)
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        let slot = hash_32(flow.virtual_addr.fold(), TABLE_BITS) as usize;
        let position = u32::try_from(slot.checked_rem(table.len())?).ok()?;
        table.eligible(position).then_some(position)
    }
}

uvs_sdk::export!(Dh);
