//! What was counted, told to another director, which goes on from there.

use core::net::SocketAddr;

use crate::base::record::{Counted, CountsRecord};
use crate::base::view::Counters;
use crate::director::Director;
use crate::track::stats::{minus, plus};

impl Director {
    /// All that was counted of destinations, services and altogether since it was last set to zero, in parts of which
    /// none is in another.
    pub fn counts(&self) -> Vec<CountsRecord> {
        self.count_flows();
        let snapshot = self.tables.snapshot.load();
        let (mut records, mut of_services) = (Vec::new(), Counters::default());
        for service in snapshot.services.iter() {
            let counters = service.shared.stats.counters();
            of_services = plus(of_services, counters);
            let mut of_destinations = Counters::default();
            for destination in service.destinations() {
                let counters = destination.stats.counters();
                of_destinations = plus(of_destinations, counters);
                let addr = SocketAddr::new(destination.addr.to_ip(), destination.port);
                records.push(CountsRecord { of: Counted::Destination(service.key, addr), counters });
            }
            let counters = minus(counters, of_destinations);
            records.push(CountsRecord { of: Counted::Service(service.key), counters });
        }
        let counters = minus(self.total.counters(), of_services);
        records.push(CountsRecord { of: Counted::Total, counters });
        records.retain(|record| record.counters != Counters::default());
        records
    }

    /// Goes on from what another director has counted. False: there is no such service or destination here.
    pub fn add_counts(&self, CountsRecord { of, counters }: &CountsRecord) -> bool {
        let snapshot = self.tables.snapshot.load();
        let service = |key| snapshot.services.get(key);
        match of {
            Counted::Destination(key, addr) => {
                let Some((service, found)) = service(key).and_then(|it| Some((it, it.find(*addr)?))) else {
                    return false;
                };
                found.add_counts(counters);
                service.shared.stats.estimate_from_here();
            }
            Counted::Service(key) => {
                let Some(service) = service(key) else { return false };
                service.shared.stats.add(counters);
                service.shared.stats.estimate_from_here();
                self.total.add(counters);
            }
            Counted::Total => self.total.add(counters),
        }
        self.total.estimate_from_here();
        true
    }
}
