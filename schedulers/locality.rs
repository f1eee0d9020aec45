//! What lblc and lblcr have in common: destinations by what identifies them, the least loaded one, and whether one is
//! overloaded.

use alloc::vec::Vec;

use uvs_sdk::{AddressCache, Destination, Destinations, Entry, Tournament, siphash13};

/// Entries a cache holds: the kernel's limit, above which it begins to clear out.
const CAPACITY: usize = 16_384;

/// A check takes away entries that were idle this long (the kernel's `lblc_expiration` and `lblcr_expiration`: 24 h).
pub(crate) const IDLE_MS: u64 = 24 * 60 * 60 * 1000;

/// From one check to the next: 30 min.
const CHECK_MS: u64 = 30 * 60 * 1000;

/// A cache of what the addresses that clients ask for are served by.
pub(crate) fn cache<T>() -> AddressCache<T> {
    AddressCache::new(CAPACITY, IDLE_MS, CHECK_MS)
}

/// Stands for a destination's address and port, also while it does not belong to the service: one that comes back has
/// its entries again, as in the kernel.
pub(crate) type Server = u64;

/// The destinations by list order, by load and by what they are.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    servers: Vec<Server>,
    /// A hash table of positions and 1; at least half of it is empty (0).
    slots: Vec<u32>,
    /// By overhead and weight, as in wlc.
    tournament: Tournament,
    /// Whether each has less than half as many active connections as its weight.
    spare: Vec<bool>,
    /// How many have.
    spares: usize,
}

impl Pool {
    pub(crate) fn update(&mut self, table: &Destinations) {
        self.tournament.rebuild(table, rule);
        self.spare = table.iter().map(|(_, destination)| has_spare(destination)).collect();
        self.spares = self.spare.iter().filter(|&&spare| spare).count();

        let identity = |d: &Destination| siphash13([0; 2], &[d.address.hi, d.address.lo], d.port.into(), 2);
        self.servers = table.iter().map(|(_, destination)| identity(destination)).collect();
        self.slots.clear();
        self.slots.resize(2 * table.len().next_power_of_two(), 0);
        for (position, &server) in (0..).zip(&self.servers) {
            let mut slot = self.slot(server);
            while self.slots[slot] != 0 {
                slot = (slot + 1) % self.slots.len();
            }
            self.slots[slot] = position + 1;
        }
    }

    /// Takes in the loads that came with a pick.
    pub(crate) fn refresh(&mut self, table: &Destinations) {
        self.tournament.refresh(table, rule);
        for &position in table.changed() {
            let Some(destination) = table.get(position) else { continue };
            let spare = &mut self.spare[position as usize];
            self.spares -= usize::from(*spare);
            *spare = has_spare(destination);
            self.spares += usize::from(*spare);
        }
    }

    /// The one wlc would pick.
    pub(crate) fn least(&self) -> Option<u32> {
        self.tournament.winner()
    }

    /// What stands for the destination at `position`.
    pub(crate) fn server(&self, position: u32) -> Server {
        self.servers[position as usize]
    }

    /// Where the destination is, if it belongs to the service now.
    pub(crate) fn position(&self, server: Server) -> Option<u32> {
        let mut slot = self.slot(server);
        loop {
            let position = self.slots.get(slot)?.checked_sub(1)?;
            if self.servers[position as usize] == server {
                return Some(position);
            }
            slot = (slot + 1) % self.slots.len();
        }
    }

    /// Whether it has more active connections than its weight while another has less than half of its own.
    pub(crate) fn is_overloaded(&self, destination: &Destination) -> bool {
        destination.active > destination.weight && self.spares > 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the table is a power of two, and its size a usize")]
    fn slot(&self, server: Server) -> usize {
        server as usize & self.slots.len().wrapping_sub(1)
    }
}

fn rule(destination: &Destination) -> Option<Entry> {
    destination.is_eligible().then(|| Entry { load: destination.overhead(), weight: destination.weight })
}

fn has_spare(destination: &Destination) -> bool {
    u64::from(destination.active) * 2 < u64::from(destination.weight)
}

/// Takes a word off the front of a state.
pub(crate) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*word))
}
