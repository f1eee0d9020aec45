//! The engine seen from outside: listings, totals, conflicts. Nothing here changes anything.

use core::net::SocketAddr;
use std::sync::Arc;

use crate::base::ids::SHARDS;
use crate::base::spec::{InterfaceSpec, MarkRule, Options, Protocol, ServiceKey, Timeouts};
use crate::base::time::Instant;
use crate::base::view::{
    AddressConflict, ConnectionProtocol, ConnectionView, NeighborView, Observations, ServiceView, Status,
};
use crate::choose::service::Services;
use crate::director::Director;
use crate::track::connection::{Connection, PROTOCOL_IP, Tallied};
use crate::track::destination::Counted;
use crate::track::table::Table;

/// The services at one time.
#[derive(Clone)]
pub struct ServiceSet(Arc<Services>);

impl ServiceSet {
    /// Whether none came or went between the two.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.version() == other.0.version()
    }

    /// Whether there is a service of that key.
    pub fn contains(&self, key: &ServiceKey) -> bool {
        self.0.get(key).is_some()
    }

    /// The keys of all, in no order.
    pub fn keys(&self) -> impl Iterator<Item = ServiceKey> + '_ {
        self.0.iter().map(|service| service.key)
    }
}

impl Director {
    /// All services, sorted by key, with destinations in list order.
    pub fn services(&self) -> Vec<ServiceView> {
        self.count_flows();
        let snapshot = self.tables.snapshot.load();
        let mut services: Vec<_> = snapshot.services.iter().collect();
        services.sort_by_key(|service| service.key);
        services.into_iter().map(|service| service.view()).collect()
    }

    /// The weight of each destination of each service, in no order, and nothing of what they count: for whoever asks
    /// often.
    pub fn weights(&self, mut each: impl FnMut(ServiceKey, SocketAddr, u32)) {
        for service in self.tables.snapshot.load().services.iter() {
            for destination in service.destinations() {
                let addr = SocketAddr::new(destination.addr.into(), destination.port);
                each(service.key, addr, destination.weight());
            }
        }
    }

    /// How each destination of a service takes connections, if there is that service. They are watched from now on,
    /// which costs something at each handshake and nothing else, until [`Self::unwatch`].
    pub fn watch(&self, key: &ServiceKey, mut each: impl FnMut(SocketAddr, Observations)) {
        let snapshot = self.tables.snapshot.load();
        let Some(service) = snapshot.services.get(key) else { return };
        for destination in service.destinations() {
            destination.observed.watch(true);
            each(SocketAddr::new(destination.addr.into(), destination.port), destination.observed.read());
        }
    }

    /// Nobody wants to know any more how destinations of a service take connections.
    pub fn unwatch(&self, key: &ServiceKey) {
        if let Some(service) = self.tables.snapshot.load().services.get(key) {
            service.destinations().iter().for_each(|destination| destination.observed.watch(false));
        }
    }

    /// Whether a destination of a service has a weight above 0; `None`: there is no such service.
    pub fn serves(&self, key: &ServiceKey) -> Option<bool> {
        let snapshot = self.tables.snapshot.load();
        let service = snapshot.services.get(key)?;
        Some(service.destinations().iter().any(|destination| destination.weight() > 0))
    }

    /// One service, if there is one of that key.
    pub fn service_view(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.count_flows();
        self.tables.snapshot.load().services.get(key).map(|service| service.view())
    }

    /// The name of the scheduler of a service, if there is that service.
    pub fn scheduler_of(&self, key: &ServiceKey) -> Option<String> {
        let snapshot = self.tables.snapshot.load();
        snapshot.services.get(key).map(|service| service.with_spec(|spec| spec.scheduler.name.clone()))
    }

    /// Whether a service has [`sloppy_tcp`](crate::spec::ServiceSpec::sloppy_tcp) of its own; false where there is no
    /// such service.
    pub fn is_sloppy(&self, key: &ServiceKey) -> bool {
        let snapshot = self.tables.snapshot.load();
        snapshot.services.get(key).is_some_and(|service| service.with_spec(|spec| spec.sloppy_tcp))
    }

    /// Which services there are now, and nothing of what they count. Costs nothing, however many there are.
    pub fn service_set(&self) -> ServiceSet {
        ServiceSet(Arc::clone(&self.tables.snapshot.load().services))
    }

    /// How many connections and templates there are, expired ones that are still in the table included.
    pub fn connection_count(&self) -> usize {
        self.tables.table.len()
    }

    /// All connections and templates, in no order.
    pub fn connections(&self, now: Instant) -> Vec<ConnectionView> {
        let mut views = Vec::with_capacity(self.tables.table.len());
        self.connections_in_parts(now, |part| {
            views.extend(part);
            true
        });
        views
    }

    /// The same in parts, about a 64th of all at a time: for whoever has no room for all. Nothing is locked while
    /// `each` has one, and once it returns false there are no more. What comes or goes meanwhile may be left out.
    pub fn connections_in_parts(&self, now: Instant, mut each: impl FnMut(Vec<ConnectionView>) -> bool) {
        for shard in 0..SHARDS {
            let mut views = Vec::new();
            self.tables.table.for_each_in(shard, |connection| {
                let expires_at = self.tables.deadline(connection);
                if expires_at > now {
                    views.push(ConnectionView { expires_in: expires_at.since(now), ..view(connection, now) });
                }
            });
            if !each(views) {
                return;
            }
        }
    }

    /// The neighbour table.
    pub fn neighbors(&self) -> Vec<NeighborView> {
        self.tables.neighbors.view()
    }

    /// Entries of the neighbour table that made room for others at its limit, so far.
    pub fn neighbors_evicted(&self) -> u64 {
        self.tables.neighbors.evicted()
    }

    /// See [`Status::hairpins`].
    pub fn hairpins(&self) -> u64 {
        self.tables.hairpins.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Totals, table sizes, drops.
    pub fn status(&self) -> Status {
        self.count_flows();
        let states = self.tables.table.states();
        let mut connections_by_state: Vec<_> = Tallied::all()
            .map(|(tallied, protocol, name)| (protocol, name, states[tallied.index()]))
            .filter(|(.., count)| *count > 0)
            .collect();
        connections_by_state.sort_unstable();
        Status {
            total: self.total.counters(),
            rates: self.total.rates(),
            connections: self.tables.table.len(),
            connections_max: self.tables.limits.connections,
            connections_reserved: self.tables.table.reserved(),
            connections_by_state,
            drops: self.tables.drops.list(),
            evicted: self.tables.table.evicted().map(|(class, count)| (class.name(), count)).collect(),
            hairpins: self.hairpins(),
            flow_evictions: self.tables.flows.as_ref().map_or(0, |flows| flows.evictions()),
            local: self.tables.local.view(),
            entries_dropped: self.entries_dropped(),
            neighbors: self.tables.neighbors.len(),
            neighbors_evicted: self.neighbors_evicted(),
            conflicts: self.tables.conflicts.list(),
        }
    }

    /// Bytes that the connection table takes: entries, what is free beside them, and indexes. Memory of connections
    /// that are gone is given back, so that it is at most [`Self::TABLE_BYTES_WHEN_EMPTY`] once all are.
    pub fn table_bytes(&self) -> usize {
        self.tables.table.bytes()
    }

    /// What an empty table takes at most, in bytes.
    pub const TABLE_BYTES_WHEN_EMPTY: usize = Table::BYTES_WHEN_EMPTY;

    /// Stations that claimed an address of the director's, so far.
    pub fn conflicts(&self) -> Vec<AddressConflict> {
        self.tables.conflicts.list()
    }

    /// Connections that made room for new ones while the table was at its limit; see [`Evict`](crate::spec::Evict).
    pub fn entries_evicted(&self) -> u64 {
        self.tables.table.evicted().map(|(_, count)| count).sum()
    }

    /// Connections and templates that `drop_entry` took out of the table so far.
    pub fn entries_dropped(&self) -> u64 {
        self.tables.defence.dropped()
    }

    /// The timeouts in force.
    pub fn timeouts(&self) -> Timeouts {
        self.tables.snapshot.load().timeouts
    }

    /// The interfaces with all addresses of the director: its own and VIPs.
    pub fn interfaces(&self) -> Vec<InterfaceSpec> {
        self.tables.snapshot.load().network.told().to_vec()
    }

    /// The mark rules in force.
    pub fn marks(&self) -> Vec<MarkRule> {
        self.tables.snapshot.load().marks.to_vec()
    }

    /// The options in force.
    pub fn options(&self) -> Options {
        self.tables.snapshot.load().options
    }
}

/// What listings show as the ports of a template that is invalid.
const INVALID_PORT: u16 = 0xffff;

pub(crate) fn view(connection: &Connection, now: Instant) -> ConnectionView {
    let request = &connection.request;
    let protocol = match Protocol::from_number(request.protocol) {
        Some(protocol) => ConnectionProtocol::Transport(protocol),
        None => {
            debug_assert_eq!(request.protocol, PROTOCOL_IP);
            ConnectionProtocol::Ip
        }
    };
    // The kernel takes an invalid template out of its hash by giving it this port, unless it has it anyway.
    let (virtual_port, destination_port) = match request.virtual_port {
        port if !connection.past.is_invalid() || port == INVALID_PORT => (port, connection.destination_port),
        _ => (INVALID_PORT, INVALID_PORT),
    };
    ConnectionView {
        protocol,
        client: SocketAddr::new(request.client.to_ip(), request.client_port),
        virtual_addr: SocketAddr::new(request.virtual_addr.to_ip(), virtual_port),
        destination: SocketAddr::new(connection.destination_addr.to_ip(), destination_port),
        forwarding: connection.forwarding,
        state: connection.state_name(),
        expires_in: connection.expires_at.since(now),
        template: request.template,
        active: connection.counted == Counted::Active,
    }
}
