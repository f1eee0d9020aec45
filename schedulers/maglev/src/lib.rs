//! Consistent hashing by a lookup table (Maglev; Eisenbud et al., NSDI 2016) on which directors agree without a word:
//! the table follows from the destinations, their weights and the options alone, in whatever order and by whatever way
//! they came to be.
//!
//! ```text
//!   client --hash--> slot --> destination        65537 slots, or another prime by `size=`
//! ```
//!
//! Each destination has a permutation of the slots, which its address and port decide. They take turns, as often as
//! their weights ask for and in the order of their addresses, and in each turn one takes the next slot of its
//! permutation that is free, until none is. A destination of weight 0 has no slots, as if it were not there: what its
//! weight was before, a director that comes later could not know. That is where this is not the kernel's `mh`.
//!
//! A client whose destination is overloaded goes on with further hashes of its address. With `port` the client's port
//! is part of the key. The first pick from a new table writes the table's hash to the log: two directors whose hashes
//! are equal place every client alike.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::collections::BinaryHeap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use uvs_sdk::{
    Address, Destination, Destinations, Flow, Host, Level, Scheduler, refuse_option, siphash13, words,
};

/// The slots of a table where the options do not say: a hundred for each of 655 destinations.
const SLOTS: u32 = 65_537;

/// What `size` may be. A larger table would take much of an update's fuel.
const SLOTS_MIN: u32 = 251;
const SLOTS_MAX: u32 = 65_537;

/// A slot that nobody has taken. So many destinations no table has; the last by address have no slots.
const FREE: u16 = u16::MAX;

/// Hashes of a client that are tried before its destinations are gone through.
const TRIES: u64 = 64;

/// The heaviest destination has a turn each so many units of time.
const TURN: u64 = 1 << 12;

/// A turn is its time, and below that the rank of whose it is.
const RANK_BITS: u32 = 16;
const RANK: u64 = (1 << RANK_BITS) - 1;

/// The hash functions have fixed keys, so that all directors agree.
const OFFSET_KEY: [u64; 2] = [0x0075_7673_6d61_676c, 1];
const SKIP_KEY: [u64; 2] = [0x0075_7673_6d61_676c, 2];
const CLIENT_KEY: [u64; 2] = [0x0075_7673_6d61_676c, 3];
const TABLE_KEY: [u64; 2] = [0x0075_7673_6d61_676c, 4];

/// Maglev hashing.
#[derive(Debug)]
pub struct Maglev {
    size: u32,
    port: bool,
    /// Positions; empty where no destination has a weight.
    slots: Vec<u16>,
    /// Of what is in `slots`.
    hash: u64,
    /// The positions of those that have slots, in the order of their addresses.
    ranks: Vec<u16>,
    /// Tables this instance has filled.
    generation: u32,
    /// The hash that the log has, if it has one.
    told: Option<u64>,
}

/// A destination as the table's filling sees it.
#[derive(Clone, Copy, Debug)]
struct Player {
    address: Address,
    port: u16,
    position: u16,
    weight: u32,
    /// The next slot of its permutation.
    at: u32,
    /// From one slot of its permutation to the next.
    skip: u32,
}

impl Player {
    fn new(position: u16, destination: &Destination, size: u32) -> Self {
        let Destination { address, port, weight, .. } = *destination;
        let hash = |key| siphash13(key, &[address.hi, address.lo], port.into(), 2);
        let at = below(hash(OFFSET_KEY), size);
        Self { address, port, position, weight, at, skip: below(hash(SKIP_KEY), size - 1) + 1 }
    }
}

impl Scheduler for Maglev {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        let (mut size, mut port) = (SLOTS, false);
        for (key, value) in words(options) {
            match (key, value.map(str::parse)) {
                ("size", Some(Ok(slots))) if (SLOTS_MIN..=SLOTS_MAX).contains(&slots) && is_prime(slots) => {
                    size = slots;
                }
                ("port", None) => port = true,
                _ => {
                    let takes = "size= with a prime from 251 to 65537 (such as 4093, 16381, 32749) and port";
                    return Err(refuse_option("maglev", key, value, takes));
                }
            }
        }
        let slots = Vec::new();
        Ok(Self { size, port, slots, hash: 0, ranks: Vec::new(), generation: 0, told: None })
    }

    fn update(&mut self, table: &Destinations) {
        let with_weight = table.iter().filter(|(_, destination)| destination.weight > 0);
        let mut players: Vec<Player> = with_weight
            .filter_map(|(position, destination)| {
                Some(Player::new(u16::try_from(position).ok()?, destination, self.size))
            })
            .collect();
        players.sort_unstable_by_key(|player| (player.address, player.port));
        players.truncate(usize::from(FREE));
        self.fill(&mut players);
        self.generation = self.generation.wrapping_add(1);
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        if self.told != Some(self.hash) {
            self.told = Some(self.hash);
            self.tell(host);
        }
        if self.slots.is_empty() {
            return None;
        }
        let port = if self.port { u64::from(flow.client_port) } else { 0 };
        let slot = |attempt: u64| {
            let key = [flow.client.hi, flow.client.lo, attempt << 16 | port];
            below(siphash13(CLIENT_KEY, &key, 0, 0), self.size) as usize
        };
        let first = slot(0);
        let position = u32::from(self.slots[first]);
        if table.eligible(position) {
            return Some(position);
        }
        // It is overloaded. In the end whoever is not has to be found; slots are more than a pick has fuel for.
        let further = (1..=TRIES).map(|attempt| self.slots[slot(attempt)]);
        let (before, after) = self.ranks.split_at(first % self.ranks.len());
        let mut chosen = further.chain(after.iter().chain(before).copied()).map(u32::from);
        chosen.find(|&position| table.eligible(position))
    }
}

impl Maglev {
    /// Lets the players, who stand in the order of their addresses, take turns until the table is full.
    fn fill(&mut self, players: &mut [Player]) {
        self.slots.clear();
        self.ranks.clear();
        self.ranks.extend(players.iter().map(|player| player.position));
        // What is hashed are ranks by address, for positions have a history.
        self.hash = siphash13(TABLE_KEY, &[self.size.into(), self.port.into()], 0, 0);
        for player in &*players {
            let what = [self.hash, player.address.hi, player.address.lo, player.port.into()];
            self.hash = siphash13(TABLE_KEY, &what, 0, 0);
        }
        let Some(heaviest) = players.iter().map(|player| player.weight).max() else { return };
        // At most 2^43, and times at most 2^29 more: both fit into the 48 bits above a rank.
        let pauses: Vec<u64> =
            players.iter().map(|player| (u64::from(heaviest) * TURN) / u64::from(player.weight)).collect();
        // Everybody has a first turn, so that the lightest has a slot, too. At one time the first by address is first.
        // Time and rank are one number: to compare pairs takes a module several times as long.
        let mut turns: BinaryHeap<Reverse<u64>> = (0..).map(Reverse).take(players.len()).collect();
        self.slots.resize(self.size as usize, FREE);
        for _ in 0..self.size {
            let Some(mut turn) = turns.peek_mut() else { return };
            let rank = turn.0 & RANK;
            let player = &mut players[rank as usize];
            while self.slots[player.at as usize] != FREE {
                player.step(self.size);
            }
            self.slots[player.at as usize] = player.position;
            self.hash = (self.hash ^ u64::from(player.at) << 16 ^ rank).wrapping_mul(0x0000_0100_0000_01b3);
            turn.0 += pauses[rank as usize] << RANK_BITS;
        }
    }

    /// Writes down which table this is.
    fn tell(&self, host: &mut dyn Host) {
        let mut line = String::from("table ");
        push_hex(&mut line, self.hash);
        line.push_str(": ");
        push_decimal(&mut line, self.size);
        line.push_str(" slots, ");
        push_decimal(&mut line, u32::try_from(self.ranks.len()).unwrap_or(u32::MAX));
        line.push_str(" destinations, generation ");
        push_decimal(&mut line, self.generation);
        host.log(Level::Debug, &line);
    }
}

impl Player {
    /// To the next slot of its permutation.
    fn step(&mut self, size: u32) {
        self.at += self.skip;
        if self.at >= size {
            self.at -= size;
        }
    }
}

/// Appends a number. What formats text would be a fifth of a component.
fn push_decimal(line: &mut String, number: u32) {
    if number >= 10 {
        push_decimal(line, number / 10);
    }
    line.push(char::from_digit(number % 10, 10).unwrap_or('?'));
}

/// Appends 16 digits.
fn push_hex(line: &mut String, number: u64) {
    for byte in number.to_be_bytes() {
        for digit in [byte >> 4, byte & 15] {
            line.push(char::from_digit(digit.into(), 16).unwrap_or('?'));
        }
    }
}

/// A hash brought into 0 to `size` - 1.
#[expect(clippy::cast_possible_truncation, reason = "less than `size`")]
fn below(hash: u64, size: u32) -> u32 {
    (hash % u64::from(size)) as u32
}

fn is_prime(number: u32) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

uvs_sdk::export!(Maglev);
