//! Placing connections in the flow cache, once their request has been forwarded.

use core::sync::atomic::Ordering::Acquire;

use uvs_wire::{Address, tcp};

use crate::base::spec::{Forwarding, Tunnel};
use crate::flow_cache::{Act, Flow, FlowKey, Leg, NotPlaced, Way};
use crate::net::lane::Lane;
use crate::net::neighbor::Resolved;
use crate::net::network::Hop;
use crate::path::target::Target;
use crate::scene::Scene;
use crate::track::bypass::Bypass;
use crate::track::cached::Cached;
use crate::track::connection::RequestKey;

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
    let legs = legs_of(scene, lane, key, (addr, port), (forwarding, is_first));
    let mut shard = scene.tables.table.shard(key.protocol, key.client, key.client_port);
    let Some(id) = shard.request(key) else { return };
    let answers = shard.answers(id);
    let connection = shard.get_mut(id);
    // Replies that look alike are those of the newer connection.
    if !answers {
        return flows.refuse(connection, epoch);
    }
    let is_same = (connection.destination_addr, connection.destination_port) == (addr, port);
    if !is_same || connection.forwarding_now() != forwarding || !flows.wants(connection, scene.now) {
        return;
    }
    let (request, reply) = match legs {
        Ok(legs) => legs,
        Err(NoLegs::Yet) => return,
        Err(NoLegs::Ever) => return flows.refuse(connection, epoch),
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
        Err(NotPlaced::Full) => flows.note_full(flow.is_embryonic, scene.now),
    }
}

/// How packets of a connection leave. `is_first`: it has seen none but the one at hand.
fn legs_of(
    scene: &Scene<'_>,
    lane: &mut Lane,
    key: &RequestKey,
    (addr, port): (Address, u16),
    (forwarding, is_first): (Forwarding, bool),
) -> Result<(Leg, Option<Leg>), NoLegs> {
    let snapshot = scene.snapshot;
    let network = &snapshot.network;
    if [key.client, key.virtual_addr, addr].iter().any(|addr| addr.is_v6_link_local()) {
        return Err(NoLegs::Ever);
    }
    let Some(hop) = network.route(addr) else { return Err(NoLegs::Yet) };
    let hop = Hop { essential: true, ..hop };
    let (act, hop) = match forwarding {
        Forwarding::Nat => (Act::NewDestination(addr, port), hop),
        Forwarding::Direct => (Act::AsIs, hop),
        Forwarding::Tunnel(Tunnel::Ipip) if snapshot.options.pmtu_disc => {
            let Some(source) = hop.source else { return Err(NoLegs::Ever) };
            let mtu = scene.tables.path_mtus.of(addr, hop.mtu, scene.now);
            (Act::Tunnel { source, destination: addr }, Hop { mtu, ..hop })
        }
        Forwarding::Tunnel(_) => return Err(NoLegs::Ever),
    };
    let way = way_out(scene, lane, &hop)?;
    let client = (key.client, key.client_port);
    let asked_for = (key.virtual_addr, key.virtual_port);
    let protocol = key.protocol;
    // After the SYN of a connection its client waits for an answer.
    let waits = !(is_first && protocol == tcp::PROTOCOL);
    let request = Leg { key: FlowKey { protocol, source: client, destination: asked_for }, act, way, waits };
    if forwarding != Forwarding::Nat {
        return Ok((request, None));
    }
    let Some(back) = network.route(key.client) else { return Err(NoLegs::Yet) };
    let way = way_out(scene, lane, &back)?;
    let key = FlowKey { protocol, source: (addr, port), destination: client };
    let act = Act::NewSource(asked_for.0, asked_for.1);
    Ok((request, Some(Leg { key, act, way, waits: !is_first })))
}

fn way_out(scene: &Scene<'_>, lane: &mut Lane, hop: &Hop) -> Result<Way, NoLegs> {
    let network = &scene.snapshot.network;
    let Some(from) = network.mac(hop.port) else { return Err(NoLegs::Ever) };
    let key = (hop.port, hop.addr);
    match scene.tables.neighbors.resolve(network, key, hop.essential, scene.now, lane, || None) {
        Resolved::Known(to) => Ok(Way { port: hop.port, next_hop: hop.addr, to, from, mtu: hop.mtu }),
        Resolved::Waits(_) | Resolved::Drop(..) => Err(NoLegs::Yet),
    }
}

/// Why nobody can say how a connection's packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoLegs {
    /// Not yet: a neighbour has still to be asked, or there is no route.
    Yet,
    Ever,
}
