//! Shortest expected delay (kernel `sed`): the eligible destination that would have the fewest active connections
//! for its weight with this one more, the first in list order among equals. Inactive connections do not count.
//!
//! Unlike wlc it leaves a slow destination alone while a faster one is just as idle: with weights 1 and 3 the first
//! three of four connections go to the latter.

#![cfg_attr(target_arch = "wasm32", no_std)]

use uvs_sdk::{Destination, Entry, Ranked, Ranking};

/// Shortest expected delay.
pub type Sed = Ranked<ShortestExpectedDelay>;

/// Active connections and the one to come, by weight.
#[derive(Debug, Default)]
pub struct ShortestExpectedDelay;

impl Ranking for ShortestExpectedDelay {
    const NAME: &'static str = "sed";

    fn entry(destination: &Destination) -> Option<Entry> {
        destination.is_eligible().then(|| Entry { load: destination.active + 1, weight: destination.weight })
    }
}

uvs_sdk::export!(Sed);
