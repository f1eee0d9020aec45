//! What handling a frame needs to know beside the frame: the state of the director, the snapshot, where it came in,
//! now.

pub(crate) mod outbox;
pub(crate) mod snapshot;

use core::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::Arc;

use uvs_wire::Address;

use crate::base::drops::Drops;
use crate::base::ids::PortId;
use crate::base::spec::{Limits, MacAddr};
use crate::base::time::Instant;
use crate::base::view::Way;
use crate::choose::defence::Defence;
use crate::choose::reals::Reals;
use crate::flow_cache::Passed;
use crate::flows::Flows;
use crate::net::adverts::Adverts;
use crate::net::conflicts::Conflicts;
use crate::net::error_limit::ErrorLimit;
use crate::net::local::Local;
use crate::net::neighbor::Neighbors;
use crate::net::network::Hop;
use crate::net::path_mtu::PathMtus;
use crate::net::reassembly::Reassembly;
use crate::net::servers::Servers;
use crate::net::talks::Talks;
use crate::scene::snapshot::{Published, Snapshot};
use crate::track::bypass::Bypass;
use crate::track::connection::Connection;
use crate::track::table::{Full, Inserted, Locked, Table};

/// What all workers share and frames change, each part behind locks or atomics of its own.
pub(crate) struct Tables {
    pub(crate) limits: Limits,
    pub(crate) snapshot: Published,
    pub(crate) table: Table,
    pub(crate) neighbors: Neighbors,
    pub(crate) reassembly: Reassembly,
    pub(crate) path_mtus: PathMtus,
    pub(crate) drops: Drops,
    pub(crate) conflicts: Conflicts,
    pub(crate) icmp_limit: ErrorLimit,
    pub(crate) defence: Defence,
    /// The destinations that services have, by address.
    pub(crate) reals: Reals,
    /// Their addresses and subnets.
    pub(crate) servers: Servers,
    /// New connections by NAT between stations of one subnet.
    pub(crate) hairpins: AtomicU64,
    pub(crate) talks: Talks,
    /// The director's own sockets.
    pub(crate) local: Local,
    /// Of VRRP routers.
    pub(crate) adverts: Adverts,
    /// The IP id of packets the director originates.
    pub(crate) next_ip_id: AtomicU32,
    /// Where packets pass by.
    pub(crate) flows: Option<Arc<Flows>>,
}

impl Tables {
    #[allow(clippy::cast_possible_truncation, reason = "any bits will do")]
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            snapshot: Published::default(),
            table: Table::new(limits.connections, limits.evict, seed),
            neighbors: Neighbors::new(&limits, seed),
            reassembly: Reassembly::new(&limits, seed),
            path_mtus: PathMtus::new(seed),
            drops: Drops::new(),
            conflicts: Conflicts::default(),
            icmp_limit: ErrorLimit::new(limits.icmp_errors_per_second, seed),
            defence: Defence::new(),
            reals: Reals::new(seed),
            servers: Servers::default(),
            hairpins: AtomicU64::new(0),
            talks: Talks::new(&limits, seed),
            local: Local::default(),
            adverts: Adverts::default(),
            next_ip_id: AtomicU32::new(seed as u32),
            flows: None,
        }
    }

    /// Whether the time of a connection is up. The deadline of one that seems to be over moves to where the packets
    /// that passed in the flow cache put it.
    #[inline]
    pub(crate) fn has_expired(&self, connection: &mut Connection, now: Instant) -> bool {
        connection.expires_at <= now && self.has_expired_everywhere(connection, now)
    }

    #[cold]
    fn has_expired_everywhere(&self, connection: &mut Connection, now: Instant) -> bool {
        if connection.cached.is_placed() {
            connection.take_over(self.deadline(connection));
        }
        connection.expires_at <= now
    }

    /// When the time of a connection is up: a timeout after its last packet, wherever that passed. The only place that
    /// knows both of table and cache; its own deadline, `expires_at`, is no later.
    #[inline]
    pub(crate) fn deadline(&self, connection: &Connection) -> Instant {
        match &self.flows {
            Some(flows) if connection.cached.is_placed() => flows.deadline(connection),
            _ => connection.expires_at,
        }
    }

    /// A way out, as it is known now.
    pub(crate) fn way(&self, hop: &Hop) -> Way {
        Way {
            port: hop.port,
            next_hop: hop.addr.to_ip(),
            mac: self.neighbors.mac(hop.port, hop.addr),
            mtu: hop.mtu,
            source: hop.source.map(Address::to_ip),
            is_local: hop.local,
        }
    }

    /// Something that flows of the cache were made of has changed: of one destination, or of all.
    pub(crate) fn withdraw_flows(&self, destination: Option<u32>) {
        if let Some(flows) = &self.flows {
            flows.withdraw(destination);
        }
    }
}

/// What handling one frame needs to know beside the frame.
pub(crate) struct Scene<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) snapshot: &'a Snapshot,
    /// Where the frame came in.
    pub(crate) port: PortId,
    /// Who sent the frame, on a layer 2 interface.
    pub(crate) source_mac: Option<MacAddr>,
    /// The packet's firewall mark; 0 is none.
    pub(crate) mark: u32,
    pub(crate) now: Instant,
    /// What the flow cache has numbered the frame with, and of what it was once that is known.
    pub(crate) ticket: Option<u16>,
    pub(crate) passed: Option<Passed>,
}

impl<'a> Scene<'a> {
    /// The scene of a frame that just came in, or of one the director lets go of by itself.
    pub(crate) fn new(tables: &'a Tables, snapshot: &'a Snapshot, port: PortId, now: Instant) -> Self {
        Self { tables, snapshot, port, source_mac: None, mark: 0, now, ticket: None, passed: None }
    }

    /// Locks the shard of a client.
    #[inline]
    pub(crate) fn shard(&self, protocol: u8, client: Address, client_port: u16) -> Locked<'a> {
        self.tables.table.shard(protocol, client, client_port)
    }

    /// Enters a connection into the table, and lets go of those that make room for it.
    #[inline(always)]
    pub(crate) fn insert(&self, connection: Connection) -> Result<Inserted<'a>, Full> {
        // In the kernel an older connection that is over stays until its time is up, and only does not answer.
        let ends_older = !self.snapshot.options.compat_ipvs;
        self.tables.table.insert(connection, ends_older, Connection::release)
    }
}
