//! Least connection (kernel `lc`): the eligible destination with the least overhead, the first in list order
//! among equals. Weights do not count, but 0 quiesces.

#![cfg_attr(target_arch = "wasm32", no_std)]

use uvs_sdk::{Destination, Entry, Ranked, Ranking};

/// Least connection.
pub type Lc = Ranked<LeastConnection>;

/// All weigh the same.
#[derive(Debug, Default)]
pub struct LeastConnection;

impl Ranking for LeastConnection {
    const NAME: &'static str = "lc";

    fn entry(destination: &Destination) -> Option<Entry> {
        destination.is_eligible().then(|| Entry { load: destination.overhead(), weight: 1 })
    }
}

uvs_sdk::export!(Lc);
