//! Weighted least connection (kernel `wlc`, what ipvsadm takes where none is named): the eligible destination with the
//! least overhead for its weight, the first in list order among equals. With `slow-start=SECONDS`, which the kernel's
//! has not, new destinations warm up ([`SlowStart`]).

#![cfg_attr(target_arch = "wasm32", no_std)]

use uvs_sdk::{Destination, Entry, Ranked, Ranking, SlowStart};

/// Weighted least connection.
pub type Wlc = Ranked<WeightedLeastConnection>;

/// What is compared is overhead by weight.
#[derive(Debug, Default)]
pub struct WeightedLeastConnection;

impl Ranking for WeightedLeastConnection {
    const NAME: &'static str = "wlc";

    fn entry(destination: &Destination) -> Option<Entry> {
        destination.is_eligible().then(|| Entry { load: destination.overhead(), weight: destination.weight })
    }
}

uvs_sdk::export!(SlowStart<Wlc>);
