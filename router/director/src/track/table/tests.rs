//! What only several workers at once can bring about, put together by hand.

use core::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use super::*;
use crate::base::lock::lock;
use crate::base::spec::{DestinationSpec, Forwarding, Protocol, ServiceKey};
use crate::track::cached::Cached;
use crate::track::destination::{Destination, Shared};

/// Notes what is removed.
#[derive(Default)]
struct Removed(Mutex<Vec<RequestKey>>);

impl Bypass for Removed {
    fn remove(&self, connection: &Connection) {
        lock(&self.0).push(connection.request);
    }

    fn deadline(&self, connection: &Connection) -> Instant {
        connection.expires_at
    }

    fn take_out(&self, connection: &mut Connection) {
        connection.cached = Cached::default();
    }
}

/// A worker placed the first packet of an FTP data connection as one of its own, and into the flow cache, before
/// another has it take the entry that was announced.
#[test]
fn what_a_claimed_entry_replaces_leaves_the_flow_cache() {
    let cache = Arc::new(Removed::default());
    let mut table = Table::new(100, Evict::Embryonic, 1);
    table.use_flows(Arc::<Removed>::clone(&cache));
    let spec = DestinationSpec::new("192.0.2.9:5000".parse().unwrap(), Forwarding::Nat);
    let service = ServiceKey::new(Protocol::Tcp, "192.0.2.2:5000".parse().unwrap());
    let destination = Arc::new(Destination::new(0, spec, Arc::new(Shared::new(service, Arc::default()))));
    let key = RequestKey {
        client: Address::v4(Ipv4Addr::new(192, 0, 2, 1)),
        virtual_addr: Address::v4(Ipv4Addr::new(192, 0, 2, 2)),
        client_port: 4000,
        virtual_port: 5000,
        protocol: 6,
        template: false,
        announced: false,
    };
    let enter = |key: RequestKey, cached: Cached| {
        let destination = Arc::clone(&destination);
        let mut connection = Connection::new(key, destination, 5000, None, Instant::ZERO);
        connection.cached = cached;
        assert!(table.insert(connection, true, |_| ()).is_ok_and(|it| it.is_new));
    };
    enter(RequestKey { client_port: 0, announced: true, ..key }, Cached::default());
    enter(key, Cached::placed(1, [true; 2]));
    assert!(table.claim(&key, Instant::ZERO));
    assert_eq!(*lock(&cache.0), [key]);
    assert_eq!((table.len(), destination.references()), (1, 1));
}
