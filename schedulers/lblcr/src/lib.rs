//! Locality-based least connection with replication (kernel `lblcr`): connections to one address go to a set of
//! destinations, which grows when they are overloaded.
//!
//! Of the set the destination with the least overhead for its weight takes the connection. When that has more active
//! connections than its weight while some destination of the service has less than half of its own, or when none of
//! the set can take it, the one goes there that wlc would pick, and joins the set. A set that did not change for 24 h
//! loses the member with the most overhead for its weight with the next connection; one that is gone goes first (the
//! kernel goes by the load it had).
//!
//! An entry that was idle for 24 h goes at one of the checks made every 30 min. The kernel's table grows beyond 16384
//! entries while all are in use; here an old one makes room. A set has at most 64 members; a further one takes the
//! place of the oldest.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

#[path = "../../locality.rs"]
mod locality;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{AddressCache, Destination, Destinations, Flags, Flow, Host, Scheduler};

use locality::{IDLE_MS, Pool, Server, take_u64};

/// What a saved state starts with.
const MAGIC: &[u8] = b"lblcr1";

/// How many destinations may serve one address.
const MEMBERS: usize = 64;

/// Locality-based least connection with replication.
#[derive(Debug)]
pub struct Lblcr {
    pool: Pool,
    cache: AddressCache<Set>,
}

/// The destinations of one address.
#[derive(Debug, Default)]
struct Set {
    /// The one that joined last comes last.
    members: Vec<Server>,
    /// When one joined or left, by the cache's clock.
    changed_ms: u64,
}

impl Scheduler for Lblcr {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse("lblcr", options)?;
        Ok(Self { pool: Pool::default(), cache: locality::cache() })
    }

    fn update(&mut self, table: &Destinations) {
        self.pool.update(table);
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        self.pool.refresh(table);
        self.cache.tick(host);
        let now = self.cache.clock_ms();
        let Some(set) = self.cache.get(flow.virtual_addr) else {
            let position = self.pool.least()?;
            let members = [self.pool.server(position)].into();
            self.cache.insert(flow.virtual_addr, Set { members, changed_ms: now });
            return Some(position);
        };
        let least = set.least(&self.pool, table);
        if set.members.len() > 1 && now > set.changed_ms.saturating_add(IDLE_MS) {
            set.shrink(&self.pool, table, now);
        }
        if let Some((position, destination)) = least
            && !self.pool.is_overloaded(destination)
        {
            return Some(position);
        }
        let position = self.pool.least()?;
        set.join(self.pool.server(position), now);
        Some(position)
    }

    fn save(&self) -> Vec<u8> {
        self.cache.save(MAGIC, |set, state| {
            state.extend(set.changed_ms.to_le_bytes());
            state.push(u8::try_from(set.members.len()).expect("a set has at most 64 members"));
            for server in &set.members {
                state.extend(server.to_le_bytes());
            }
        })
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        self.cache.restore(MAGIC, state, |bytes| {
            let changed_ms = take_u64(bytes)?;
            let (&count, rest) = bytes.split_first()?;
            *bytes = rest;
            let members = (0..count).map(|_| take_u64(bytes)).collect::<Option<Vec<Server>>>()?;
            (members.len() <= MEMBERS).then_some(Set { members, changed_ms })
        })
    }
}

impl Set {
    /// Those that belong to the service now, the one that joined last first.
    fn present<'a>(
        &self,
        pool: &Pool,
        table: &'a Destinations,
    ) -> impl Iterator<Item = (u32, &'a Destination)> {
        let positions = self.members.iter().rev().filter_map(|&server| pool.position(server));
        positions.filter_map(|position| Some((position, table.get(position)?)))
    }

    fn least<'a>(&self, pool: &Pool, table: &'a Destinations) -> Option<(u32, &'a Destination)> {
        self.present(pool, table)
            .filter(|(_, destination)| destination.is_eligible())
            .reduce(|least, next| if is_less(next.1, least.1) { next } else { least })
    }

    /// Drops a member that is gone, or else the one with the most overhead for its weight.
    fn shrink(&mut self, pool: &Pool, table: &Destinations, now: u64) {
        let gone = self.members.iter().rposition(|&server| pool.position(server).is_none());
        let most = || {
            let weighty = self.present(pool, table).filter(|(_, destination)| destination.weight > 0);
            let (most, _) = weighty.reduce(|most, next| if is_less(most.1, next.1) { next } else { most })?;
            let server = pool.server(most);
            self.members.iter().position(|&member| member == server)
        };
        if let Some(member) = gone.or_else(most) {
            self.members.remove(member);
            self.changed_ms = now;
        }
    }

    fn join(&mut self, server: Server, now: u64) {
        if self.members.contains(&server) {
            return;
        }
        if self.members.len() == MEMBERS {
            self.members.remove(0);
        }
        self.members.push(server);
        self.changed_ms = now;
    }
}

/// Whether `a` has less overhead for its weight than `b`.
fn is_less(a: &Destination, b: &Destination) -> bool {
    u64::from(a.overhead()) * u64::from(b.weight) < u64::from(b.overhead()) * u64::from(a.weight)
}

uvs_sdk::export!(Lblcr);
