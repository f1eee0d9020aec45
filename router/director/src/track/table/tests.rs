//! What only several workers at once can bring about, put together by hand.

use core::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use super::*;
use crate::base::spec::{DestinationSpec, Forwarding, MacAddr};
use crate::choose::schedule::Placement;
use crate::choose::service::{Destination, Shared};
use crate::flow_cache::{Flow, FlowCache, FlowEvent, FlowKey, NotPlaced, Way};
use crate::flows::{Cached, Flows};
use crate::path::balance::new_connection;

/// Notes what is removed.
#[derive(Default)]
struct Removed(Mutex<Vec<FlowKey>>);

impl FlowCache for Removed {
    fn place(&self, _: &Flow<'_>) -> Result<(), NotPlaced> {
        Ok(())
    }
    fn remove(&self, request: &FlowKey, _: Option<&FlowKey>) {
        self.0.lock().unwrap().push(*request);
    }
    fn last_seen(&self, _: &FlowKey, _: Option<&FlowKey>) -> Option<Instant> {
        None
    }
    fn events(&self, _: &mut dyn FnMut(FlowEvent)) {}
    fn through(&self, _: &crate::flow_cache::Passed) {}

    fn withdraw(&self, _: Option<u32>) {}
    fn count(&self) {}
    fn tend(&self, _: &mut dyn FnMut(&Way) -> Option<MacAddr>) {}
}

/// A worker placed the first packet of an FTP data connection as one of its own, and into the flow cache, before another
/// has it take the entry that was announced.
#[test]
fn what_a_claimed_entry_replaces_leaves_the_flow_cache() {
    let cache = Arc::new(Removed::default());
    let mut table = Table::new(100, Evict::Embryonic, 1);
    table.use_flows(Arc::new(Flows::new(Arc::clone(&cache) as Arc<dyn FlowCache>)));
    let spec = DestinationSpec::new("192.0.2.9:5000".parse().unwrap(), Forwarding::Nat);
    let destination = Arc::new(Destination::new(0, spec, Arc::new(Shared::new(Arc::default()))));
    let key = RequestKey {
        client: Address::v4(Ipv4Addr::new(192, 0, 2, 1)),
        virtual_addr: Address::v4(Ipv4Addr::new(192, 0, 2, 2)),
        client_port: 4000,
        virtual_port: 5000,
        protocol: 6,
        template: false,
    };
    let enter = |key: RequestKey, cached: Cached| {
        let placement = Placement { destination: Arc::clone(&destination), port: 5000, control: None };
        let mut connection = new_connection(key, placement, Instant::ZERO);
        connection.cached = cached;
        assert_eq!(table.insert(connection, true, |_| ()), Ok(true));
    };
    enter(RequestKey { client_port: 0, ..key }, Cached::default());
    enter(key, Cached::placed(1));
    assert!(table.claim(&key, Instant::ZERO));
    let removed = cache.0.lock().unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].source, (key.client, 4000));
    assert_eq!((table.len(), destination.references()), (1, 1));
}
