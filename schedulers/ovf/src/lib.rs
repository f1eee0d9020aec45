//! Overflow (kernel `ovf`): the eligible destination with the highest weight that has no more active connections
//! than its weight, the first in list order among equals. Nobody when all have more.
//!
//! As the recorded kernel does, a destination of weight `w` takes `w + 1` connections: `w` active ones are not more
//! than its weight yet. Connections that are half open count.

#![cfg_attr(target_arch = "wasm32", no_std)]

use uvs_sdk::{Destination, Entry, Ranked, Ranking};

/// Overflow.
pub type Ovf = Ranked<Overflow>;

/// The highest weight has the least load for it; who is full stays out.
#[derive(Debug, Default)]
pub struct Overflow;

impl Ranking for Overflow {
    const NAME: &'static str = "ovf";

    fn entry(destination: &Destination) -> Option<Entry> {
        let takes = destination.is_eligible() && destination.active <= destination.weight;
        takes.then_some(Entry { load: 1, weight: destination.weight })
    }
}

uvs_sdk::export!(Ovf);
