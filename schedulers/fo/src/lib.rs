//! Failover (kernel `fo`): all to the eligible destination with the highest weight, the first in list order among
//! equals; when that one is quiesced, overloaded or gone, to the next. Connections do not count.

#![cfg_attr(target_arch = "wasm32", no_std)]

use uvs_sdk::{Destination, Entry, Ranked, Ranking};

/// Failover.
pub type Fo = Ranked<WeightedFailover>;

/// The highest weight has the least load for it.
#[derive(Debug, Default)]
pub struct WeightedFailover;

impl Ranking for WeightedFailover {
    const NAME: &'static str = "fo";

    fn entry(destination: &Destination) -> Option<Entry> {
        destination.is_eligible().then_some(Entry { load: 1, weight: destination.weight })
    }
}

uvs_sdk::export!(Fo);
