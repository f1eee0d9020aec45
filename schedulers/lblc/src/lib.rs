//! Locality-based least connection (kernel `lblc`): connections to one address go to one destination, as long as that
//! can carry them. For caches behind a firewall mark; behind a single VIP one destination gets everything.
//!
//! An address that is not known goes where wlc would send it, and is remembered. It moves, in the same way, when its
//! destination is gone, quiesced or overloaded: that is when it has more active connections than its weight (so
//! `weight + 1` are accepted) while another one has less than half of its own weight.
//!
//! An entry that was idle for 24 h goes at one of the checks made every 30 min. The kernel's table grows beyond 16384
//! entries while all are in use; here an old one makes room.
//!
//! An upper threshold (`ipvsadm -x`) holds here: the kernel looks at it in new choices only and goes on to send an
//! address it knows where it belongs. So does this one with the option `past-threshold`, which uvs passes on its own
//! under `compat = "ipvs"`; elsewhere the host would refuse such a pick.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

#[path = "../../locality.rs"]
mod locality;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{AddressCache, Destinations, Flags, Flow, Host, Scheduler};

use locality::{Pool, Server, take_u64};

/// What a saved state starts with.
const MAGIC: &[u8] = b"lblc1";

/// Locality-based least connection.
#[derive(Debug)]
pub struct Lblc {
    pool: Pool,
    cache: AddressCache<Server>,
    past_threshold: bool,
}

impl Scheduler for Lblc {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        let flags = options.strip_prefix("past-threshold");
        let past_threshold = flags.is_some();
        let flags = flags.map_or(options, |flags| flags.strip_prefix(',').unwrap_or(flags));
        Flags::parse("lblc", flags)?;
        Ok(Self { pool: Pool::default(), cache: locality::cache(), past_threshold })
    }

    fn update(&mut self, table: &Destinations) {
        self.pool.update(table);
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        self.pool.refresh(table);
        self.cache.tick(host);
        let address = flow.virtual_addr;
        if let Some(position) = self.cache.get(address).and_then(|server| self.pool.position(*server))
            && let Some(destination) = table.get(position)
            && (destination.is_eligible() || self.past_threshold && destination.weight > 0)
            && !self.pool.is_overloaded(destination)
        {
            return Some(position);
        }
        let position = self.pool.least()?;
        self.cache.insert(address, self.pool.server(position));
        Some(position)
    }

    fn save(&self) -> Vec<u8> {
        self.cache.save(MAGIC, |server, state| state.extend(server.to_le_bytes()))
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        self.cache.restore(MAGIC, state, take_u64)
    }
}

uvs_sdk::export!(Lblc);
