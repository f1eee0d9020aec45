//! Never queue (kernel `nq`): the first eligible destination in list order without active connections, whatever its
//! weight; where all have some, as sed: the fewest active connections for its weight with this one more.

#![cfg_attr(target_arch = "wasm32", no_std)]

use uvs_sdk::{Destination, Entry, Ranked, Ranking};

/// Never queue.
pub type Nq = Ranked<NeverQueue>;

/// As sed, but who is idle has no load at all.
#[derive(Debug, Default)]
pub struct NeverQueue;

impl Ranking for NeverQueue {
    const NAME: &'static str = "nq";

    fn entry(destination: &Destination) -> Option<Entry> {
        let load = if destination.active == 0 { 0 } else { destination.active + 1 };
        destination.is_eligible().then_some(Entry { load, weight: destination.weight })
    }
}

uvs_sdk::export!(Nq);
