//! Placing connections in the flow cache, once their request has been forwarded.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use uvs_wire::{Address, Packet, ethernet, tcp};

use crate::base::frame::Frame;
use crate::base::ids::{PortId, SHARDS};
use crate::base::spec::{Forwarding, Tunnel};
use crate::base::time::{Duration, Instant};
use crate::flow_cache::{Act, Direction, Flow, FlowKey, NextHop, NotPlaced};
use crate::flows::Flows;
use crate::net::lane::Lane;
use crate::net::neighbor::Resolved;
use crate::net::network::Hop;
use crate::path::target::Target;
use crate::scene::Scene;
use crate::track::bypass::Bypass;
use crate::track::cached::Cached;
use crate::track::connection::{ReplyKey, RequestKey};

/// How many parts of the table, of how many places, are looked at for who may leave a full cache, and how many
/// connections of the cache that are there: each of these is a read from its maps.
const LOOKS: usize = SHARDS;
const PLACES: u32 = 16;
const CANDIDATES: usize = 8;
/// A connection on which a packet passed so lately stays in a full cache.
const IDLE: Duration = Duration::from_secs(1);

/// Places a connection whose request has just been forwarded to that target. Its shard is locked once more, now that it
/// is known how packets of both directions leave: meanwhile another worker may have changed or placed it.
#[cold]
pub(crate) fn place_flow(scene: &Scene<'_>, lane: &mut Lane, key: &RequestKey, target: &Target) {
    let Some(flows) = &scene.tables.flows else { return };
    let epoch = flows.epoch.load(Acquire);
    // What is decided by an older state might outlive its withdrawal.
    if !scene.tables.snapshot.is_current(scene.snapshot) {
        return;
    }
    let Target { addr, port, forwarding, is_first, .. } = *target;
    let directions = directions_of(scene, lane, key, (addr, port), (forwarding, is_first));
    let mut shard = scene.tables.table.shard(key.protocol, key.client, key.client_port);
    let Some(id) = shard.request(key) else { return };
    let answers = shard.answers(id);
    let connection = shard.get_mut(id);
    // Replies that look alike are those of the newer connection.
    if !answers {
        return flows.refuse(connection, epoch);
    }
    let is_same = (connection.destination_addr, connection.destination_port) == (addr, port);
    if flows.holds_off(connection) {
        return;
    }
    if !is_same || connection.forwarding_now() != forwarding || !flows.wants(connection, scene.now) {
        return;
    }
    let (request, reply) = match directions {
        Ok(directions) => directions,
        Err(NoDirections::Yet) => return,
        Err(NoDirections::Ever) => return flows.refuse(connection, epoch),
    };
    let flow = Flow {
        request,
        reply,
        destination: connection.destination.id,
        addr: connection.destination_addr,
        tally: &connection.destination.tally,
        is_embryonic: connection.is_embryonic(),
    };
    let open = [!request.waits, reply.is_some_and(|reply| !reply.waits)];
    match flows.cache.place(&flow) {
        Ok(()) if flows.epoch.load(Acquire) == epoch => connection.cached = Cached::placed(epoch, open),
        Ok(()) => flows.remove(connection),
        Err(NotPlaced::Elsewhere) => flows.refuse(connection, epoch),
        Err(NotPlaced::Full) => {
            let is_embryonic = flow.is_embryonic;
            flows.note_full(is_embryonic, scene.now);
            drop(shard);
            // What may never be established takes nobody's place.
            if !is_embryonic {
                make_room(scene, flows);
            }
        }
        Err(NotPlaced::Failed) => flows.note_full(flow.is_embryonic, scene.now),
    }
}

/// Has a connection leave a full cache that has been idle: of a few in it, the next in the table each time, the one
/// that has been so for longest. Its next packet comes to the director.
#[cold]
fn make_room(scene: &Scene<'_>, flows: &Flows) {
    let Ok(mut hand) = flows.hand.try_lock() else { return };
    let table = &scene.tables.table;
    let mut idlest: Option<(Instant, RequestKey)> = None;
    let mut candidates = 0;
    for _ in 0..LOOKS {
        *hand = table.some_from(*hand, PLACES, |connection| {
            if !connection.cached.is_placed() || candidates == CANDIDATES {
                return;
            }
            candidates += 1;
            let seen = flows.last_seen(connection).unwrap_or(Instant::ZERO);
            if idlest.is_none_or(|(than, _)| seen < than) {
                idlest = Some((seen, connection.request));
            }
        });
        if candidates == CANDIDATES {
            break;
        }
    }
    let Some((_, key)) = idlest.filter(|(seen, _)| *seen + IDLE <= scene.now) else { return };
    let mut shard = table.shard(key.protocol, key.client, key.client_port);
    if let Some(id) = shard.request(&key) {
        flows.take_out(shard.get_mut(id));
        flows.evicted.fetch_add(1, Relaxed);
    }
}

/// Frames that waited for a neighbour were let go, those in `lane` from `from` on: connections that begin with one of
/// them are placed before it leaves, as others are.
#[cold]
pub(crate) fn place_released(scene: &Scene<'_>, lane: &mut Lane, from: usize) {
    if scene.tables.flows.is_none() {
        return;
    }
    let begun = |(_, frame): &(PortId, Frame)| begun_by(scene, frame.bytes().get(ethernet::HEADER_LEN..)?);
    let begun: Vec<(RequestKey, Target)> = lane.frames().iter().skip(from).filter_map(begun).collect();
    for (key, target) in begun {
        place_flow(scene, lane, &key, &target);
    }
}

/// The connection that begins with a packet as it leaves, if it belongs into the cache.
fn begun_by(scene: &Scene<'_>, ip: &[u8]) -> Option<(RequestKey, Target)> {
    let flows = scene.tables.flows.as_ref()?;
    let packet = Packet::parse(ip).ok()?;
    let begins = packet.protocol != tcp::PROTOCOL || packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
    if packet.is_fragment() || !begins {
        return None;
    }
    let shard = scene.shard(packet.protocol, packet.src, packet.src_port);
    let translated = shard.reply(&ReplyKey::answering(&packet));
    let connection = shard.get(translated.or_else(|| shard.request(&RequestKey::of(&packet)))?);
    let target = Target { uncached: true, is_first: true, ..Target::of(connection) };
    (connection.in_packets == 1 && flows.wants(connection, scene.now)).then_some((connection.request, target))
}

/// How packets of a connection leave. `is_first`: it has seen none but the one at hand.
fn directions_of(
    scene: &Scene<'_>,
    lane: &mut Lane,
    key: &RequestKey,
    (addr, port): (Address, u16),
    (forwarding, is_first): (Forwarding, bool),
) -> Result<(Direction, Option<Direction>), NoDirections> {
    let snapshot = scene.snapshot;
    let network = &snapshot.network;
    if [key.client, key.virtual_addr, addr].iter().any(|addr| addr.is_v6_link_local()) {
        return Err(NoDirections::Ever);
    }
    let Some(hop) = network.route(addr) else { return Err(NoDirections::Yet) };
    let hop = Hop { essential: true, ..hop };
    let (act, hop) = match forwarding {
        Forwarding::Nat => (Act::NewDestination(addr, port), hop),
        Forwarding::Direct => (Act::AsIs, hop),
        Forwarding::Tunnel(Tunnel::Ipip) if snapshot.options.pmtu_disc => {
            let Some(source) = hop.source else { return Err(NoDirections::Ever) };
            let mtu = scene.tables.path_mtus.of(addr, hop.mtu, scene.now);
            (Act::Tunnel { source, destination: addr }, Hop { mtu, ..hop })
        }
        Forwarding::Tunnel(_) => return Err(NoDirections::Ever),
    };
    let next_hop = next_hop_of(scene, lane, &hop)?;
    let client = (key.client, key.client_port);
    let asked_for = (key.virtual_addr, key.virtual_port);
    let protocol = key.protocol;
    // After the SYN of a connection its client waits for an answer.
    let waits = !(is_first && protocol == tcp::PROTOCOL);
    let request =
        Direction { key: FlowKey { protocol, source: client, destination: asked_for }, act, next_hop, waits };
    if forwarding != Forwarding::Nat {
        return Ok((request, None));
    }
    let Some(back) = network.route(key.client) else { return Err(NoDirections::Yet) };
    let next_hop = next_hop_of(scene, lane, &back)?;
    let key = FlowKey { protocol, source: (addr, port), destination: client };
    let act = Act::NewSource(asked_for.0, asked_for.1);
    Ok((request, Some(Direction { key, act, next_hop, waits: !is_first })))
}

fn next_hop_of(scene: &Scene<'_>, lane: &mut Lane, hop: &Hop) -> Result<NextHop, NoDirections> {
    let network = &scene.snapshot.network;
    let Some(from) = network.mac(hop.port) else { return Err(NoDirections::Ever) };
    let key = (hop.port, hop.addr);
    match scene.tables.neighbors.resolve(network, key, hop.essential, scene.now, lane, || None) {
        Resolved::Known(to) => Ok(NextHop { port: hop.port, addr: hop.addr, to, from, mtu: hop.mtu }),
        Resolved::Waits(_) | Resolved::Drop(..) => Err(NoDirections::Yet),
    }
}

/// Why nobody can say how a connection's packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoDirections {
    /// Not yet: a neighbour has still to be asked, or there is no route.
    Yet,
    Ever,
}
