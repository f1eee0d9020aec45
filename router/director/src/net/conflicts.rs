//! Stations that claimed an address of the director's.

use std::sync::Mutex;

use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::base::lock::lock;
use crate::base::spec::MacAddr;
use crate::base::view::AddressConflict;

/// How many claimants of our addresses are remembered.
const CONFLICTS_MAX: usize = 64;

/// Who claimed an address of ours; the latest last.
#[derive(Default)]
pub(crate) struct Conflicts(Mutex<Vec<AddressConflict>>);

impl Conflicts {
    /// Remembers that another station claimed an address of ours.
    pub(crate) fn note(&self, addr: Address, mac: MacAddr, port: PortId) {
        let addr = addr.to_ip();
        let mut conflicts = lock(&self.0);
        let known = conflicts.iter().position(|c| c.addr == addr && c.mac == mac && c.port == port);
        let count = match known {
            Some(at) => conflicts.remove(at).count,
            None => 0,
        };
        // Whoever claimed longest ago makes room: made-up stations hide no true one for long.
        if conflicts.len() >= CONFLICTS_MAX {
            conflicts.remove(0);
        }
        conflicts.push(AddressConflict { addr, mac, port, count: count + 1 });
    }

    /// All that are remembered.
    pub(crate) fn list(&self) -> Vec<AddressConflict> {
        lock(&self.0).clone()
    }
}
