//! Destinations that are to be rid of their connections. All of it goes beside the traffic: through the table in
//! slices, between which packets get their turn.

use core::net::SocketAddr;
use std::collections::HashMap;

use crate::base::ids::{DestinationId, SHARDS};
use crate::base::lock::lock;
use crate::base::spec::{Protocol, ServiceKey};
use crate::base::time::Instant;
use crate::base::view::Left;
use crate::director::Director;
use crate::path::ending::{Ends, ask};
use crate::scene::Scene;
use crate::scene::outbox::Outbox;
use crate::track::connection::Connection;
use crate::track::destination::{Destination, Standing};
use crate::track::table::Spot;

/// Entries that one call of [`Director::ask_some`] looks at.
const SLICE: u32 = 256;

/// Where in the table of connections [`Director::ask_some`] goes on. The default is its begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(Spot);

/// Which connections a destination is rid of without a word to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Flows of UDP, whose next datagram begins another with another destination.
    Datagrams,
    /// All. (Templates of persistence stay.)
    All,
}

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

    /// From now on, or no longer, a destination is rid of its connections by TCP with their next segment: both ends get
    /// a reset, with numbers that they take (RFC 5961, 3.2). Meanwhile no new ones go there, whatever it weighs. False:
    /// there is none of that name.
    pub fn end_connections(&self, service: &ServiceKey, destination: SocketAddr, end: bool) -> bool {
        let snapshot = self.tables.snapshot.load();
        let Some(found) = snapshot.services.get(service).and_then(|service| service.find(destination)) else {
            return false;
        };
        // Whoever removes it at the same moment comes before or after.
        let control = lock(&self.control);
        match (end, found.is_removed()) {
            (_, true) => return false,
            (true, false) => found.stand(Standing::Ending),
            (false, false) => found.stand(Standing::Available),
        }
        drop(control);
        if end {
            // All come here from the next segment on.
            self.tables.withdraw_flows(Some(found.id));
        }
        true
    }

    /// Asks the ends of connections with these destinations for a segment, in one slice of the table. What is sent is
    /// in `out`. Where to go on, if there is more: see [`Self::end_connections`].
    pub fn ask_some(
        &self,
        destinations: &[DestinationId],
        from: Place,
        now: Instant,
        out: &mut Outbox,
    ) -> Option<Place> {
        let mut found = Vec::new();
        let next = self.tables.table.some_from(from.0, SLICE, |connection| {
            if is_of(&connection.destination, destinations) {
                found.extend(Ends::of(connection));
            }
        });
        if !found.is_empty() {
            let snapshot = self.tables.snapshot.load();
            for ends in &found {
                if let Some(hop) = ends.way(&snapshot.network) {
                    ask(&Scene::new(&self.tables, &snapshot, hop.port, now), &mut out.lane, ends);
                }
            }
        }
        (next != Spot::default()).then_some(Place(next))
    }

    /// Rids destinations of connections, without a word to their ends. How many those were. It looks at the whole
    /// table: not for a thread that others wait for.
    pub fn forget(&self, destinations: &[DestinationId], which: Forgotten) -> usize {
        let mut count = 0;
        let gone = |connection: &Connection| {
            let is_datagram = Protocol::from_number(connection.request.protocol) == Some(Protocol::Udp);
            !connection.request.template
                && (which == Forgotten::All || is_datagram)
                && is_of(&connection.destination, destinations)
        };
        self.tables.table.remove_where(gone, |connection| {
            connection.release();
            count += 1;
        });
        count
    }
}

fn is_of(destination: &Destination, ids: &[DestinationId]) -> bool {
    ids.iter().any(|id| id.0 == destination.id)
}
