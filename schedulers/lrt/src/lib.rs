//! Least response time: the destination that is likely to answer a new connection first. What counts is how long it
//! took lately from a SYN to its answer, times its connections (with the new one; inactive ones count as in `wlc`), by
//! weight.
//!
//! The time is a moving average, of which each answer makes up a quarter. A refusal, or no answer, counts as an answer
//! after `penalty=MILLISECONDS` (1 to 60000, 1000 at first), or after as long as it was waited for. An average that
//! nothing is added to halves every `decay=SECONDS` (1 to 3600, 10 at first), down to half of the best there is: so one
//! that was slow gets a connection again after a while, and what that brings counts. One of which nothing is known yet
//! is tried in the same way.
//!
//! Only TCP by NAT is measured: the director does not see answers that go another way. Where nothing is known,
//! connections are spread by their number for the weight (UDP: by all there are). With `slow-start=SECONDS` new
//! destinations warm up ([`SlowStart`]).

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{
    Destination, Destinations, Entry, Feedback, Flow, Host, Protocol, Response, Scheduler, SlowStart,
    Tournament, refuse_option, words,
};

/// What a saved state starts with.
const MAGIC: &[u8] = b"lrt1";
/// The longest time that counts, in microseconds.
const MICROS_MAX: u64 = 60_000_000;
/// Times are compared in steps of so many microseconds: a second and some thousand connections fit in 32 bits.
const STEP: u64 = 16;
/// What an active connection counts, where an inactive one counts a 256th of it.
const ACTIVE: u64 = 16;
/// How often in a half-life the averages are looked at again.
const LOOKS: u64 = 8;
/// Bytes of a destination in a saved state.
const SAVED: usize = 16;

/// Least response time.
#[derive(Debug)]
pub struct Lrt {
    half_life_ms: u64,
    penalty: u64,
    tournament: Tournament,
    /// In list order.
    known: Vec<Known>,
    /// The positions of destinations that something was heard of since the last pick.
    heard: Vec<u32>,
    /// The averages are as of this moment, in eighths of the half-life.
    look: u64,
    /// The best average at that moment, in microseconds; 0: nothing is known.
    best: u64,
    /// The last flow was one of UDP.
    udp: bool,
    /// The tournament has to be played anew.
    stale: bool,
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: u32,
    /// In microseconds; 0: nothing is known.
    average: u64,
    /// When it was last heard of.
    at_ms: u64,
}

impl Scheduler for Lrt {
    const OBSERVES: bool = true;

    fn init(_: &str, options: &str) -> Result<Self, String> {
        let (mut half_life_ms, mut penalty) = (10_000, 1_000_000);
        for (key, value) in words(options) {
            match (key, value.map(str::parse::<u64>)) {
                ("decay", Some(Ok(seconds @ 1..=3600))) => half_life_ms = seconds * 1000,
                ("penalty", Some(Ok(millis @ 1..=60_000))) => penalty = millis * 1000,
                _ => {
                    let takes =
                        "decay=1 to decay=3600 (seconds) and penalty=1 to penalty=60000 (milliseconds)";
                    return Err(refuse_option("lrt", key, value, takes));
                }
            }
        }
        Ok(Self {
            half_life_ms,
            penalty,
            tournament: Tournament::default(),
            known: Vec::new(),
            heard: Vec::new(),
            look: 0,
            best: 0,
            udp: false,
            stale: true,
        })
    }

    fn update(&mut self, table: &Destinations) {
        let mut before = core::mem::take(&mut self.known);
        before.sort_unstable_by_key(|known| known.id);
        self.known.extend(table.iter().map(|(_, destination)| {
            let was = before.binary_search_by_key(&destination.id, |known| known.id);
            was.map_or(Known { id: destination.id, average: 0, at_ms: 0 }, |at| before[at])
        }));
        self.heard.clear();
        self.stale = true;
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        let udp = flow.protocol == Protocol::Udp;
        self.stale |= core::mem::replace(&mut self.udp, udp) != udp;
        // Without anything known there is nothing that could grow old.
        if self.best > 0 {
            self.look_again(host.now_ms());
        }
        let now_ms = self.looked_at_ms();
        let Self { half_life_ms, tournament, known, heard, best, stale, .. } = self;
        let rule = |position: u32, destination: &Destination| {
            destination.is_eligible().then(|| {
                let micros = known[position as usize].now(now_ms, *half_life_ms).max(*best / 2);
                Entry { load: load(micros, destination, udp), weight: destination.weight }
            })
        };
        if core::mem::take(stale) {
            tournament.rebuild_by(table, rule);
        } else {
            heard.extend_from_slice(table.changed());
            tournament.renew(table, heard, rule);
        }
        heard.clear();
        tournament.winner()
    }

    fn observe(&mut self, events: Feedback<'_>, _: &Destinations, host: &mut dyn Host) {
        let now_ms = host.now_ms();
        for event in events.iter() {
            let micros = match event.response {
                Response::Answered => event.micros,
                Response::Refused | Response::Unanswered => event.micros.max(self.penalty),
            };
            let micros = micros.clamp(1, MICROS_MAX);
            let Some(known) = self.known.get_mut(event.position as usize) else { continue };
            let was = known.now(now_ms, self.half_life_ms);
            // The first one is all there is.
            known.average = if was == 0 { micros } else { (was * 3 + micros).div_ceil(4) };
            known.at_ms = now_ms;
            let average = known.average;
            self.heard.push(event.position);
            if self.best == 0 {
                self.look_again(now_ms);
            } else if average < self.best {
                self.best = average;
                self.stale = true;
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut state = MAGIC.to_vec();
        state.push(u8::from(self.udp));
        state.extend(self.look.to_le_bytes());
        state.extend(self.best.to_le_bytes());
        for known in self.known.iter().filter(|known| known.average > 0) {
            state.extend(known.id.to_le_bytes());
            state.extend(u32::try_from(known.average).unwrap_or(u32::MAX).to_le_bytes());
            state.extend(known.at_ms.to_le_bytes());
        }
        state
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        let Some(([udp, rest @ ..], list)) =
            state.strip_prefix(MAGIC).and_then(|state| state.split_first_chunk::<17>())
        else {
            return false;
        };
        let (list, odd) = list.as_chunks::<SAVED>();
        if !odd.is_empty() {
            return false;
        }
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        self.udp = *udp != 0;
        (self.look, self.best) = (number(&rest[..8]), number(&rest[8..]).min(MICROS_MAX));
        for entry in list {
            let id = number(&entry[..4]);
            if let Some(known) = self.known.iter_mut().find(|known| u64::from(known.id) == id) {
                known.average = number(&entry[4..8]).clamp(1, MICROS_MAX);
                known.at_ms = number(&entry[8..]);
            }
        }
        self.stale = true;
        true
    }
}

impl Known {
    /// The average at a moment: what nothing was added to halves.
    fn now(&self, now_ms: u64, half_life_ms: u64) -> u64 {
        let age = now_ms.saturating_sub(self.at_ms);
        let (halvings, rest) = (age / half_life_ms, age % half_life_ms);
        let halved = self.average >> halvings.min(63);
        // Between two halvings it goes down evenly.
        (halved - (halved / 2) * rest / half_life_ms).max(u64::from(self.average > 0))
    }
}

impl Lrt {
    /// The moment that all averages are compared as of.
    fn looked_at_ms(&self) -> u64 {
        self.look.saturating_mul(self.half_life_ms / LOOKS)
    }

    fn moment(&self, now_ms: u64) -> u64 {
        now_ms / (self.half_life_ms / LOOKS)
    }

    /// Lets averages grow old, now and then.
    fn look_again(&mut self, now_ms: u64) {
        let look = self.moment(now_ms);
        if self.best == 0 || look != self.look {
            if look < self.look {
                // The state came from a director with another clock.
                self.known.iter_mut().for_each(|known| known.at_ms = known.at_ms.min(now_ms));
            }
            self.look = look;
            // What was measured lately, not what has halved since: nobody is better than the best that was seen.
            let averages = self.known.iter().map(|known| known.average);
            self.best = averages.filter(|&average| average > 0).min().unwrap_or(0);
            self.stale = true;
        }
    }
}

/// What a connection more would have to wait for.
fn load(micros: u64, destination: &Destination, udp: bool) -> u32 {
    let (active, inactive) = (u64::from(destination.active), u64::from(destination.inactive));
    let connections =
        if udp { (active + inactive + 1) * ACTIVE } else { (active + 1) * ACTIVE + inactive * ACTIVE / 256 };
    u32::try_from((micros / STEP).max(1) * connections).unwrap_or(u32::MAX)
}

uvs_sdk::export_observing!(SlowStart<Lrt>);
