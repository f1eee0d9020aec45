//! The destination with the fewest active connections for its weight; a client that comes back within 30 seconds goes
//! where it went before.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use uvs_sdk::{AddressCache, Destination, Destinations, Flow, Host, Scheduler};

/// What a saved state begins with: another version of this policy should not take it for its own.
const MAGIC: &[u8] = b"{{name}} 1";

/// Clients that are remembered at a time.
const CLIENTS: usize = 16_384;

/// The policy and what it remembers.
pub struct {{type}} {
    /// Where each client went last, by the id of the destination.
    sticky: AddressCache<u32>,
}

impl Scheduler for {{type}} {
    /// `options` is the text from the configuration: nothing, or seconds that a client sticks.
    fn init(_service: &str, options: &str) -> Result<Self, String> {
        let seconds: u64 = match options {
            "" => 30,
            text => text.parse().map_err(|_| "give the seconds that a client sticks, such as 30".to_string())?,
        };
        Ok(Self { sticky: AddressCache::new(CLIENTS, seconds.saturating_mul(1000), 1000) })
    }

    /// One pick: a position in the table, or `None` when nothing can take the connection.
    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        self.sticky.tick(host);
        let known = self.sticky.get(flow.client).and_then(|id| table.position_of(*id));
        if let Some(position) = known.filter(|&position| table.eligible(position)) {
            return Some(position);
        }
        let eligible = table.iter().filter(|(_, destination)| destination.is_eligible());
        let (position, best) = eligible.reduce(|best, next| if lighter(next.1, best.1) { next } else { best })?;
        self.sticky.insert(flow.client, best.id);
        Some(position)
    }

    /// What a later instance needs to go on from here, carried over a reload.
    fn save(&self) -> Vec<u8> {
        self.sticky.save(MAGIC, |id, state| state.extend(id.to_le_bytes()))
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        self.sticky.restore(MAGIC, state, |bytes| {
            let (id, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(u32::from_le_bytes(*id))
        })
    }
}

/// Whether `a` has fewer active connections for its weight than `b`.
fn lighter(a: &Destination, b: &Destination) -> bool {
    u64::from(a.active) * u64::from(b.weight) < u64::from(b.active) * u64::from(a.weight)
}

uvs_sdk::export!({{type}});

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use uvs_sdk::{Protocol, testing::Lab};

    fn client(n: u8) -> Flow {
        Flow {
            protocol: Protocol::Tcp,
            client: Ipv4Addr::new(198, 51, 100, n).into(),
            client_port: 40_000,
            virtual_addr: Ipv4Addr::new(192, 0, 2, 10).into(),
            virtual_port: 443,
            mark: 0,
        }
    }

    #[test]
    fn a_client_sticks_until_its_destination_is_quiesced() {
        let mut lab = Lab::<{{type}}>::new("");
        lab.add(1, 1).add(2, 1);
        let first = lab.connect_by(&client(7)).expect("both are free");
        assert_eq!(lab.connect_by(&client(8)), Some(3 - first), "another client, the one with fewer connections");
        assert_eq!(lab.connect_by(&client(7)), Some(first), "the same client");
        lab.edit(first, 0);
        assert_eq!(lab.connect_by(&client(7)), Some(3 - first), "the only one left");
    }

    #[test]
    fn a_client_that_stays_away_is_forgotten() {
        let mut lab = Lab::<{{type}}>::new("30");
        lab.add(1, 1).add(2, 1);
        let first = lab.connect_by(&client(7)).expect("both are free");
        lab.host.now_ms += 40_000;
        assert_eq!(lab.connect_by(&client(7)), Some(3 - first), "the one with fewer connections");
    }

    #[test]
    fn options_are_seconds_or_nothing() {
        assert!({{type}}::init("", "5").is_ok());
        assert!({{type}}::init("", "soon").is_err());
    }
}
