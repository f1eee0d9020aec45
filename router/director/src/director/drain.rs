//! Destinations that are to be rid of their connections. All of it goes beside the traffic: through the table in
//! slices, between which packets get their turn.

use core::net::SocketAddr;
use std::collections::HashMap;

use crate::base::ids::{DestinationId, SHARDS};
use crate::base::spec::ServiceKey;
use crate::base::view::Left;
use crate::director::Director;

impl Director {
    /// Which destination is meant by a name, now: another one may have it once this one was removed.
    pub fn destination_id(&self, service: &ServiceKey, destination: SocketAddr) -> Option<DestinationId> {
        let snapshot = self.tables.snapshot.load();
        let found = snapshot.services.get(service)?.find(destination)?;
        Some(DestinationId(found.id))
    }

    /// What is left of the connections of destinations, be they removed or not, in their order. It looks at the whole
    /// table, once: not for a thread that others wait for.
    pub fn left(&self, destinations: &[DestinationId]) -> Vec<Left> {
        let mut left = vec![Left::default(); destinations.len()];
        let places: HashMap<u32, usize> =
            destinations.iter().enumerate().map(|(place, id)| (id.0, place)).collect();
        for shard in 0..SHARDS {
            self.tables.table.for_each_in(shard, |connection| {
                let Some(place) = places.get(&connection.destination.id) else { return };
                let left = &mut left[*place];
                if connection.request.template {
                    left.templates += 1;
                } else if connection.is_over() {
                    left.ended += 1;
                } else {
                    left.open += 1;
                }
            });
        }
        left
    }
}
