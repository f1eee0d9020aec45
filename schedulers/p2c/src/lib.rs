//! Power of two choices (Mitzenmacher 2001): of a few destinations drawn at random, all different, the one with the
//! fewest active connections for its weight. Several directors that share real servers do not all run to the same least
//! loaded one, as they do with `lc` and `wlc`.
//!
//! Of `choices=N` (2 to 8, 2 at first) draws each eligible destination is as likely to be drawn as any other, whatever
//! its weight: the weight counts when loads are compared. (The kernel's `twos` draws by weight, and may draw one
//! destination twice.) A connection that is being placed counts, as in `sed`: of two idle ones the heavier wins. UDP
//! has no active connections; its flows are compared by all there are. With `slow-start=SECONDS` new destinations warm
//! up ([`SlowStart`]).

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Destination, Destinations, Flow, Host, Protocol, Scheduler, SlowStart, refuse_option, words};

/// The most draws a pick may have.
const CHOICES_MAX: usize = 8;

/// Power of two choices.
#[derive(Debug)]
pub struct P2c {
    choices: usize,
    /// The positions of eligible destinations, in list order.
    eligible: Vec<u32>,
    /// Whether each is among them.
    known: Vec<bool>,
}

impl Scheduler for P2c {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        let mut choices = 2;
        for (key, value) in words(options) {
            match (key, value.map(str::parse)) {
                ("choices", Some(Ok(number @ 2..=CHOICES_MAX))) => choices = number,
                _ => return Err(refuse_option("p2c", key, value, "choices=2 to choices=8")),
            }
        }
        Ok(Self { choices, eligible: Vec::new(), known: Vec::new() })
    }

    fn update(&mut self, table: &Destinations) {
        self.known.clear();
        self.known.extend(table.iter().map(|(_, destination)| destination.is_eligible()));
        self.eligible.clear();
        self.eligible
            .extend((0..).zip(&self.known).filter(|(_, known)| **known).map(|(position, _)| position));
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        // Loads change with each pick, who is eligible hardly ever.
        if table.changed().iter().any(|&position| table.eligible(position) != self.known[position as usize]) {
            self.update(table);
        }
        let mut best: Option<(u32, &Destination)> = None;
        let mut drawn = [usize::MAX; CHOICES_MAX];
        for draws in 0..self.choices.min(self.eligible.len()) {
            // A draw among those that are left: counted past the ones that were drawn, which are kept in order.
            let mut place = below((self.eligible.len() - draws) as u64, host);
            let mut rank = 0;
            while rank < draws && drawn[rank] <= place {
                place += 1;
                rank += 1;
            }
            drawn.copy_within(rank..draws, rank + 1);
            drawn[rank] = place;
            let position = self.eligible[place];
            let Some(destination) = table.get(position) else { continue };
            if best.is_none_or(|(_, least)| is_less(flow.protocol, destination, least)) {
                best = Some((position, destination));
            }
        }
        best.map(|(position, _)| position)
    }
}

/// Whether `a` has less to carry for its weight than `b`, with the new connection on it.
fn is_less(protocol: Protocol, a: &Destination, b: &Destination) -> bool {
    let load = |d: &Destination| match protocol {
        Protocol::Udp => u64::from(d.active) + u64::from(d.inactive) + 1,
        _ => u64::from(d.active) + 1,
    };
    load(a) * u64::from(b.weight) < load(b) * u64::from(a.weight)
}

/// A random number below `end` (Lemire 2019, without the step against a bias, which stays below 2^-47).
fn below(end: u64, host: &mut dyn Host) -> usize {
    let number = (u128::from(host.random()) * u128::from(end)) >> 64;
    usize::try_from(number).expect("it is below a length")
}

uvs_sdk::export!(SlowStart<P2c>);
