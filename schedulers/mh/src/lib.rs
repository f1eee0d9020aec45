//! Maglev hashing (kernel `mh`; Eisenbud et al., NSDI 2016): the client's address decides, with `mh-port` its port as
//! well, and a change of the set moves few clients beside those it has to.
//!
//! Each destination has a permutation of the table's slots. They take turns, as many in a row as their weight asks
//! for, and in each turn one takes the next slot of its permutation that is free, until none is.
//!
//! ```text
//!   client --hash--> slot --> destination        4093 slots, as in the recorded kernel (CONFIG_IP_VS_MH_TAB_INDEX 12)
//! ```
//!
//! A destination that is quiesced keeps the slots of its last weight, so that the others' clients stay where they are.
//! Its own clients, and those of an overloaded one, get none; with `mh-fallback` the search goes on with other hashes
//! of their address. One that was added with weight 0 has no slots.
//!
//! The last weight of a destination is what this instance and those before it (a reload) have seen; uvs tells a new
//! one of weights from before the service was given this scheduler. Of an IPv6 destination of an IPv4 service
//! all of the address counts; in the kernel its first 32 bits.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Destination, Destinations, Flags, Flow, Host, Scheduler, siphash13};

/// What a saved state starts with.
const MAGIC: &[u8] = b"mh1";

/// The slots of the table, a prime.
const SLOTS: u32 = 4093;

/// A slot that nobody has taken: no service has so many destinations.
const FREE: u32 = u32::MAX;

/// Weights are scaled down to this many bits.
const WEIGHT_BITS: u32 = 6;

/// The keys of the two hash functions. The first places clients and the beginning of a permutation, the second tells
/// its step.
const KEYS: [[u64; 2]; 2] = [[2_654_435_761; 2], [2_654_446_892; 2]];

/// Maglev hashing.
#[derive(Debug)]
pub struct Mh {
    flags: Flags,
    /// The destinations in list order.
    players: Vec<Player>,
    /// Positions; empty where there is no destination that ever had a weight.
    slots: Vec<u32>,
}

/// A destination as the table's filling sees it.
#[derive(Clone, Copy, Debug)]
struct Player {
    id: u32,
    /// The last weight above 0; 0 where it never had one.
    weight: u32,
    /// The first slot of its permutation.
    offset: u32,
    /// From one slot of its permutation to the next.
    skip: u32,
}

impl Player {
    fn new(destination: &Destination, weight: u32) -> Self {
        let value = destination.address.fold().wrapping_add(u32::from(destination.port));
        let (offset, skip) = (hash(0, value) % SLOTS, hash(1, value) % (SLOTS - 1) + 1);
        Self { id: destination.id, weight, offset, skip }
    }
}

impl Scheduler for Mh {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Ok(Self { flags: Flags::parse("mh", options)?, players: Vec::new(), slots: Vec::new() })
    }

    fn update(&mut self, table: &Destinations) {
        let known = core::mem::take(&mut self.players);
        let mut memory = Memory { known: known.iter().map(|player| (player.id, player.weight)), last: 0 };
        let players = table.iter().map(|(_, destination)| {
            let weight = if destination.weight > 0 { destination.weight } else { memory.of(destination.id) };
            Player::new(destination, weight)
        });
        self.players = players.collect();
        self.fill();
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        let port = if self.flags.port { flow.client_port } else { 0 };
        let value = flow.client.fold().wrapping_add(u32::from(port));
        let slot = |offset: u32| hash(0, value.wrapping_add(offset)) % SLOTS;
        let first = slot(0);
        let position = *self.slots.get(first as usize)?;
        if table.eligible(position) {
            return Some(position);
        }
        if !self.flags.fallback {
            return None;
        }
        // Without this look the search below would be in vain for 4093 hashes.
        self.slots.iter().find(|&&position| table.eligible(position))?;
        (0..SLOTS)
            .map(|offset| self.slots[slot((offset + first) % SLOTS) as usize])
            .find(|&position| table.eligible(position))
    }

    fn save(&self) -> Vec<u8> {
        let mut state = MAGIC.to_vec();
        for player in &self.players {
            state.extend(player.id.to_le_bytes());
            state.extend(player.weight.to_le_bytes());
        }
        state
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let Some((pairs, [])) = state.strip_prefix(MAGIC).map(<[u8]>::as_chunks::<8>) else { return false };
        let known = pairs.iter().map(|&[a, b, c, d, e, f, g, h]| {
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
        });
        let mut memory = Memory { known, last: 0 };
        for player in self.players.iter_mut().filter(|player| player.weight == 0) {
            player.weight = memory.of(player.id);
        }
        self.fill();
        true
    }
}

impl Mh {
    /// Lets the destinations take turns until the table is full.
    fn fill(&mut self) {
        self.slots.clear();
        let weights = || self.players.iter().map(|player| player.weight);
        let divisor = weights().fold(0, gcd);
        if divisor == 0 {
            return;
        }
        let heaviest = weights().max().unwrap_or(0) / divisor;
        let shift = (u32::BITS - heaviest.leading_zeros()).saturating_sub(WEIGHT_BITS);

        let mut next: Vec<u32> = self.players.iter().map(|player| player.offset).collect();
        self.slots.resize(SLOTS as usize, FREE);
        let mut left = SLOTS;
        for (position, player) in (0..).zip(&self.players).cycle() {
            if player.weight == 0 {
                continue;
            }
            let at = &mut next[position as usize];
            for _ in 0..((player.weight / divisor) >> shift).max(1) {
                while self.slots[*at as usize] != FREE {
                    *at += player.skip;
                    if *at >= SLOTS {
                        *at -= SLOTS;
                    }
                }
                self.slots[*at as usize] = position;
                left -= 1;
                if left == 0 {
                    return;
                }
            }
        }
    }
}

/// Ids and weights of an earlier list, to be asked in the order of a later one that is much the same.
struct Memory<I> {
    known: I,
    /// Where the last answer was.
    last: usize,
}

impl<I: ExactSizeIterator<Item = (u32, u32)> + Clone> Memory<I> {
    /// The weight of the destination with this id; 0 if it is not known.
    fn of(&mut self, id: u32) -> u32 {
        let order = self.known.clone().enumerate().skip(self.last).chain(self.known.clone().enumerate());
        let found = order.take(self.known.len()).find(|&(_, (known, _))| known == id);
        let Some((index, (_, weight))) = found else { return 0 };
        self.last = index;
        weight
    }
}

/// The hash of the kernel on 64-bit machines: the lower half of SipHash-1-3 over the four bytes of `value`.
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn hash(key: usize, value: u32) -> u32 {
    siphash13(KEYS[key], &[], u64::from(value), 4) as u32
}

/// The greatest common divisor; that of 0 and a number is the number.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

uvs_sdk::export!(Mh);
