//! What is written down of a walk that somebody looks at, in between its stages.

use core::net::SocketAddr;

use uvs_wire::Packet;

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::time::Instant;
use crate::base::trace::{Filter, Hit, Kind, Stage, Told};
use crate::base::verdict::Verdict;
use crate::base::view::{ConnectionProtocol, ConnectionView, Way};
use crate::director::Director;
use crate::director::facts::facts;
use crate::director::look::Look;
use crate::flows::is_meant;
use crate::path::advance::Act;
use crate::path::classify::Class;
use crate::path::find::{Entry, Found};
use crate::path::heading::Heading;
use crate::path::icmp::is_icmp;
use crate::scene::Scene;
use crate::scene::outbox::Outbox;
use crate::track::bypass::Bypass;
use crate::track::connection::RequestKey;

impl Director {
    /// As [`Self::handle`], and writes down in `told` what each stage found. It takes longer.
    #[cold]
    pub fn handle_told(
        &self,
        port: PortId,
        frame: &mut Frame,
        now: Instant,
        out: &mut Outbox,
        told: &mut Told,
    ) -> Verdict {
        *told = Told::default();
        self.walk(port, frame, now, out, told)
    }

    /// Keeps connections that these filters mean out of the flow cache, for somebody wants to see their packets; none
    /// lets all in again. Those that are in it stay: see [`Self::take_out_of_cache`].
    pub fn hold_off_cache(&self, filters: Vec<Filter>) {
        if let Some(flows) = &self.tables.flows {
            flows.hold_off(filters);
        }
    }

    /// Takes connections that a filter means out of the flow cache, no more than `most`: how many were, and how many
    /// stay in it.
    pub fn take_out_of_cache(&self, filter: &Filter, most: usize) -> (usize, usize) {
        let Some(flows) = &self.tables.flows else { return (0, 0) };
        let (mut taken, mut left) = (0, 0);
        for shard in 0..crate::base::ids::SHARDS {
            let mut keys: Vec<RequestKey> = Vec::new();
            self.tables.table.for_each_in(shard, |connection| {
                if connection.cached.is_placed() && is_meant(filter, connection) {
                    if taken + keys.len() < most { keys.push(connection.request) } else { left += 1 }
                }
            });
            for key in keys {
                let mut shard = self.tables.table.shard(key.protocol, key.client, key.client_port);
                if let Some(id) = shard.request(&key) {
                    flows.take_out(shard.get_mut(id));
                    taken += 1;
                }
            }
        }
        (taken, left)
    }
}

impl Look for &mut Told {
    fn classified(&mut self, scene: &Scene<'_>, packet: &Packet, class: &Result<Class, Verdict>) {
        (self.mark, self.is_from_cache) = (scene.mark, scene.ticket.is_some());
        let (kind, protocol) = match class {
            Ok(Class::Request(protocol)) => (Kind::Request, Some(*protocol)),
            Ok(Class::Aside) if is_icmp(packet) => (Kind::IcmpError, None),
            Ok(Class::Aside) => (Kind::Request, None),
            Ok(Class::Transit) => (Kind::Transit, None),
            Err(_) => return,
        };
        (self.stage, self.kind) = (Stage::Find, Some(kind));
        if let Some(protocol) = protocol {
            let service = scene.snapshot.services.find(protocol, packet.dst, packet.dst_port, scene.mark);
            self.service = service.map(|service| service.key);
        }
    }

    fn found(&mut self, scene: &Scene<'_>, found: &Found<'_>) {
        let (hit, entry) = match found {
            Found::Request(entry) => (Hit::Request, Some(entry)),
            Found::Reply(entry) => (Hit::Reply, Some(entry)),
            Found::Target => (Hit::Target, None),
            Found::Nothing => (Hit::Nothing, None),
        };
        (self.stage, self.hit) = (Stage::Advance, Some(hit));
        let Some(Entry { shard, id, .. }) = entry else { return };
        let connection = shard.get(*id);
        if hit == Hit::Request && connection.in_packets == 0 {
            self.hit = Some(Hit::New);
        }
        self.connection = Some(facts(scene.tables, scene.snapshot, connection, scene.now));
    }

    fn advanced(&mut self, scene: &Scene<'_>, heading: &Heading, act: &Act) {
        self.stage = Stage::Route;
        if let Some(ConnectionView {
            protocol: ConnectionProtocol::Transport(protocol),
            client,
            virtual_addr,
            ..
        }) = self.connection.map(|facts| facts.view)
        {
            let end = |addr: SocketAddr| (addr.ip().into(), addr.port());
            let key = RequestKey::between(end(client), end(virtual_addr), protocol.number());
            let shard = scene.shard(key.protocol, key.client, key.client_port);
            self.state = shard.request(&key).map(|id| shard.get(id).state_name());
        }
        if matches!(act, Act::Forward) {
            let target = &heading.target;
            self.target = Some((SocketAddr::new(target.addr.to_ip(), target.port), target.forwarding));
        }
    }

    fn emitted(&mut self, scene: &Scene<'_>, heading: &Heading, verdict: Verdict) {
        self.stage = Stage::Emit;
        let way = scene.tables.way(&heading.hop);
        // Of one that waits it is not known, or too old.
        let mac = way.mac.filter(|_| matches!(verdict, Verdict::Transmit(_)));
        self.way = Some(Way { mac, ..way });
    }
}
