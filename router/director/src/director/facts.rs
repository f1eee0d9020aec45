//! All that is known of a connection, in words and figures for people.

use core::net::SocketAddr;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use uvs_wire::Address;

use crate::base::ids::{PortId, SHARDS};
use crate::base::spec::{Forwarding, Protocol};
use crate::base::time::Instant;
use crate::base::trace::Filter;
use crate::base::view::{Caching, ConnectionFacts, ConnectionView, Prospect, Way};
use crate::director::Director;
use crate::director::inspect::view;
use crate::flows::{is_meant, obstacle};
use crate::path::dry_run::{Question, dry_run};
use crate::scene::snapshot::Snapshot;
use crate::scene::{Scene, Tables};
use crate::track::connection::Connection;

impl Director {
    /// The connections and templates that a filter means, no more than `most`, and how many there are. With the port of
    /// a client it looks at a few parts of the table, else at all of it, in slices beside the traffic.
    pub fn explain(
        &self,
        filter: &Filter,
        protocol: Option<Protocol>,
        most: usize,
        now: Instant,
    ) -> (Vec<ConnectionFacts>, usize) {
        let (tables, snapshot) = (&self.tables, self.tables.snapshot.load());
        let client = filter.client.and_then(|end| Some((Address::from(end.host()?), end.port?)));
        let shards: Vec<usize> = match client {
            Some((addr, port)) => {
                let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
                let shard = |it: Protocol| tables.table.shard(it.number(), addr, port).number();
                let mut shards: Vec<usize> = protocols.into_iter().map(shard).collect();
                shards.sort_unstable();
                shards.dedup();
                shards
            }
            None => (0..SHARDS).collect(),
        };
        let (mut found, mut total) = (Vec::new(), 0);
        for shard in shards {
            tables.table.for_each_in(shard, |connection| {
                let is_its = protocol.is_none_or(|it| it.number() == connection.request.protocol);
                if is_its && is_meant(filter, connection) && tables.deadline(connection) > now {
                    total += 1;
                    if found.len() < most {
                        found.push(facts(tables, &snapshot, connection, now));
                    }
                }
            });
        }
        (found, total)
    }

    /// Which way packets of a connection leave now: to the destination, and to the client where answers pass here.
    pub fn ways_of(&self, facts: &ConnectionFacts, now: Instant) -> (Option<Way>, Option<Way>) {
        let (tables, snapshot) = (&self.tables, self.tables.snapshot.load());
        let way = |addr: SocketAddr| snapshot.network.route(addr.ip().into()).map(|hop| tables.way(&hop));
        let mut there = way(facts.view.destination);
        if let (Some(there), Forwarding::Tunnel(_)) = (&mut there, facts.forwarding) {
            // As an ICMP error has said.
            there.mtu = tables.path_mtus.of(facts.view.destination.ip().into(), there.mtu, now);
        }
        (there, way(facts.view.client).filter(|_| facts.sees_answers))
    }

    /// What would become of the first packet of a client that has no connection yet, were it to come in now: on that
    /// interface, or else on the one where the way to the client leads. Nothing is changed, and nobody is asked.
    pub fn prospect(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        asked_for: SocketAddr,
        port: Option<PortId>,
        now: Instant,
    ) -> Prospect {
        let snapshot = self.tables.snapshot.load();
        let scene = Scene::new(&self.tables, &snapshot, PortId(0), now);
        dry_run(scene, &Question { protocol, client, asked_for, port })
    }
}

/// All that is known of an entry. Whoever calls holds the lock of its shard.
pub(crate) fn facts(
    tables: &Tables,
    snapshot: &Snapshot,
    connection: &Connection,
    now: Instant,
) -> ConnectionFacts {
    let destination = &connection.destination;
    let deadline = tables.deadline(connection);
    ConnectionFacts {
        view: ConnectionView { expires_in: deadline.since(now), ..view(connection, now) },
        service: snapshot.service_of(connection).map(|service| service.key),
        origin: connection.past.origin(),
        forwarding: connection.forwarding_now(),
        timeout: (Instant::ZERO + connection.timeout).since(Instant::ZERO),
        packets_in: connection.in_packets,
        answered: !connection.no_output,
        sees_answers: connection.translates_replies(),
        class: connection.class_now().name(),
        is_ftp: connection.ftp.is_some(),
        controlled: connection.control.as_ref().map(|it| it.controlled.load(Relaxed)),
        weight: destination.weight(),
        standing: if destination.is_available() {
            "available"
        } else if destination.is_ending() {
            "ending"
        } else {
            "removed"
        },
        caching: caching(tables, connection),
        is_invalid: connection.past.is_invalid(),
    }
}

fn caching(tables: &Tables, connection: &Connection) -> Caching {
    let Some(flows) = &tables.flows else { return Caching::Off };
    if connection.cached.is_placed() && connection.cached.is_of(flows.epoch.load(Acquire)) {
        return Caching::Placed;
    }
    if let Some(why) = obstacle(connection) {
        return Caching::Not(why);
    }
    if flows.holds_off(connection) {
        return Caching::Not("a trace wants to see its packets");
    }
    if connection.cached.is_of(flows.epoch.load(Acquire)) {
        return Caching::Not(
            "it cannot be: its packets do not pass where the cache is, or a newer connection gets its answers",
        );
    }
    Caching::Next
}
