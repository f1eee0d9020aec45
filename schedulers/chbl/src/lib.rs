//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2018): a client goes to the same destination
//! each time, as with `sh` and `mh`, but nobody gets more than its share and a quarter.
//!
//! ```text
//!   hash of the client --> ring: 2 . . 1 . 3 . 2 . 1 . . 3 .    to the next point whose destination has room
//!                                    ^------->|
//! ```
//!
//! Each destination has points on a ring, as many as its weight asks for, at places that depend on its address and port
//! only: directors that have the same destinations agree, and a change of the set moves the clients of those points
//! that come or go. A destination has room while it carries less than `load=PERCENT` (101 to 1000, 125 at first) of
//! what its weight would have it carry of all connections. Those that do not fit go to the next point, and so do the
//! clients of who is quiesced or overloaded.
//!
//! What is counted are active connections; of UDP, which has none, all. With `port` the client's port is part of the
//! key.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Destination, Destinations, Flow, Host, Protocol, Scheduler, refuse_option, siphash13, words};

/// Points for a weight of 1, as long as all fit.
const POINTS: u64 = 128;

/// The most points of all destinations together; with more weight than fits a weight of 1 has fewer of them. What it
/// takes to sort them has to fit into the fuel of an update.
const POINTS_MAX: u64 = 1 << 15;

/// But as many for each of very many destinations.
const POINTS_LEAST: u64 = 16;

/// Points that a pick looks at before it takes the first of the list that has room.
const STEPS_MAX: usize = 1024;

/// The hash functions of points and of clients have fixed keys, so that all directors agree.
const POINT_KEY: [u64; 2] = [0x7576_7320_6368_626c, 1];
const CLIENT_KEY: [u64; 2] = [0x7576_7320_6368_626c, 2];

/// Consistent hashing with bounded loads.
#[derive(Debug)]
pub struct Chbl {
    /// Percent of its fair share that a destination may carry.
    load: u64,
    port: bool,
    /// Place and position, by place.
    ring: Vec<(u64, u32)>,
    /// What each destination adds to `sum`.
    shares: Vec<Share>,
    sum: Share,
}

/// What the eligible destinations weigh and carry.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    weight: u64,
    active: u64,
    all: u64,
}

impl Share {
    fn of(destination: &Destination) -> Self {
        if !destination.is_eligible() {
            return Self::default();
        }
        let active = u64::from(destination.active);
        Self { weight: destination.weight.into(), active, all: active + u64::from(destination.inactive) }
    }

    fn carries(self, protocol: Protocol) -> u64 {
        if protocol == Protocol::Udp { self.all } else { self.active }
    }
}

impl Scheduler for Chbl {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        let (mut load, mut port) = (125, false);
        for (key, value) in words(options) {
            match (key, value.map(str::parse)) {
                ("load", Some(Ok(percent @ 101..=1000))) => load = percent,
                ("port", None) => port = true,
                _ => {
                    return Err(refuse_option(
                        "chbl",
                        key,
                        value,
                        "load=101 to load=1000 (percent) and port",
                    ));
                }
            }
        }
        Ok(Self { load, port, ring: Vec::new(), shares: Vec::new(), sum: Share::default() })
    }

    fn update(&mut self, table: &Destinations) {
        let total: u64 = table.iter().map(|(_, destination)| u64::from(destination.weight)).sum();
        let most = POINTS_MAX.max(table.len() as u64 * POINTS_LEAST);
        // Halved, not fitted exactly: as long as it holds, a change of the set leaves everybody's points alone.
        let shift = (0..).find(|shift| (total * POINTS) >> shift <= most).expect("zero fits");
        self.ring.clear();
        for (position, destination) in table.iter().filter(|(_, destination)| destination.weight > 0) {
            let points = ((u64::from(destination.weight) * POINTS) >> shift).max(1);
            let address = destination.address;
            self.ring.extend((0..points).map(|point| {
                let place = [address.hi, address.lo, u64::from(destination.port) << 32 | point];
                (siphash13(POINT_KEY, &place, 0, 0), position)
            }));
        }
        self.ring.sort_unstable();

        self.shares.clear();
        self.shares.resize(table.len(), Share::default());
        self.sum = Share::default();
        for (position, _) in table.iter() {
            self.count(table, position);
        }
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        for &position in table.changed() {
            self.count(table, position);
        }
        if self.sum.weight == 0 {
            return None;
        }
        let port = if self.port { u64::from(flow.client_port) } else { 0 };
        let place = siphash13(CLIENT_KEY, &[flow.client.hi, flow.client.lo, port], 0, 0);
        let first = self.ring.partition_point(|(point, _)| *point < place);
        let (before, after) = self.ring.split_at(first);
        let mut near = after.iter().chain(before).take(STEPS_MAX).map(|(_, position)| *position);
        near.find(|&position| self.has_room(flow.protocol, position))
            .or_else(|| table.iter().map(|(position, _)| position).find(|&p| self.has_room(flow.protocol, p)))
    }
}

impl Chbl {
    /// Takes in what a destination is and carries now.
    fn count(&mut self, table: &Destinations, position: u32) {
        let now = table.get(position).map(Share::of).unwrap_or_default();
        let before = core::mem::replace(&mut self.shares[position as usize], now);
        for (sum, before, now) in [
            (&mut self.sum.weight, before.weight, now.weight),
            (&mut self.sum.active, before.active, now.active),
            (&mut self.sum.all, before.all, now.all),
        ] {
            *sum = *sum - before + now;
        }
    }

    /// Whether one more is within the bound: at most `load` percent of the share, rounded up. All shares together are
    /// more than all connections, so that somebody always has room.
    fn has_room(&self, protocol: Protocol, position: u32) -> bool {
        let share = self.shares[position as usize];
        let fair =
            u128::from(self.sum.carries(protocol) + 1) * u128::from(share.weight) * u128::from(self.load);
        // Multiplied out, for a division of this size takes a module long.
        share.weight > 0 && u128::from(share.carries(protocol)) * u128::from(100 * self.sum.weight) < fair
    }
}

uvs_sdk::export!(Chbl);
