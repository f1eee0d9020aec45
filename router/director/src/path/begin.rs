//! How a connection begins: a service wants its first packet, a place is found for it, and it is entered.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::{Packet, sctp, tcp};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, Protocol};
use crate::base::verdict::DropReason;
use crate::choose::ftp;
use crate::choose::schedule::{self, Placement};
use crate::choose::service::Service;
use crate::net::lane::Lane;
use crate::path::report::{Report, report};
use crate::scene::Scene;
use crate::scene::snapshot::Snapshot;
use crate::track::connection::RequestKey;
use crate::track::destination::Destination;
use crate::track::sctp::first_chunk;
use crate::track::table::{Full, Inserted};

/// Where a new connection of this packet goes, and whether the packet is all there will be of it. `None`: no service
/// wants it.
#[inline(never)]
pub(crate) fn find_place(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    protocol: Protocol,
) -> Result<Option<(Placement, bool)>, DropReason> {
    let snapshot = scene.snapshot;
    let service = snapshot.services.find(protocol, packet.dst, packet.dst_port, scene.mark);
    let starts =
        |service: &&Arc<Service>| starts_connection(snapshot, service, packet, frame.bytes(), protocol);
    let Some(service) = service.filter(starts) else { return Ok(None) };
    if scene.tables.defence.sheds(&scene.tables.table, &snapshot.options) {
        return Err(DropReason::Shed);
    }
    let flow = schedule::flow_of(packet, protocol, scene.mark);
    if let Some(placement) =
        schedule::place(&scene.tables.table, &snapshot.options, packet, &flow, service, scene.now)?
    {
        let one_packet = protocol == Protocol::Udp && service.with_spec(|spec| spec.one_packet);
        return Ok(Some((placement, one_packet)));
    }
    let is_local = || snapshot.network.is_local(packet.dst);
    if schedule::is_left_alone(service.key, packet, &snapshot.options, is_local) {
        return Ok(None);
    }
    report(scene, lane, frame.bytes(), packet, Report::PortUnreachable);
    Err(DropReason::NoDestination)
}

/// Counts a connection by NAT whose client and destination are in one subnet of the link that its first packet came
/// from: the destination, asked for by itself or by its neighbour, answers past the director, and the client does not
/// know the answer.
pub(crate) fn note_hairpin(scene: &Scene<'_>, key: &RequestKey, destination: &Destination) {
    let network = &scene.snapshot.network;
    if destination.forwarding() == Forwarding::Nat
        && network.share_subnet(scene.port, destination.addr, key.client)
    {
        scene.tables.hairpins.fetch_add(1, Relaxed);
    }
}

/// Enters a new connection into the table, unless another worker was faster. Its shard stays locked.
#[inline(never)]
pub(crate) fn enter<'a>(
    scene: &Scene<'a>,
    key: RequestKey,
    placement: Placement,
) -> Result<Inserted<'a>, DropReason> {
    let mut connection = placement.connection(key, scene.now);
    connection.ftp = ftp::helper(&scene.tables.table, &scene.snapshot.options, &key, connection.forwarding);
    let inserted = scene.insert(connection).map_err(|Full| DropReason::ConnectionLimit)?;
    if inserted.is_new {
        inserted.shard.get(inserted.id).destination.tally.count_connection();
    }
    Ok(inserted)
}

/// With `schedule_icmp`, an error about a reply that is not known places the connection it speaks of. `inner`: the
/// reply that it quotes. False: it could not.
pub(crate) fn by_quote(scene: &Scene<'_>, key: &RequestKey, inner: &Packet) -> bool {
    let Some(protocol) = Protocol::from_number(key.protocol) else { return false };
    if scene.shard(key.protocol, key.client, key.client_port).request(key).is_some() {
        return true;
    }
    let (client_port, port) = (key.client_port, key.virtual_port);
    let request = Packet { src: inner.dst, dst: inner.src, src_port: client_port, dst_port: port, ..*inner };
    let snapshot = scene.snapshot;
    let Some(service) = snapshot.services.find(protocol, request.dst, port, scene.mark) else {
        return false;
    };
    let flow = schedule::flow_of(&request, protocol, scene.mark);
    let placed = schedule::place(&scene.tables.table, &snapshot.options, &request, &flow, service, scene.now);
    placed.is_ok_and(|placement| placement.is_some_and(|it| enter(scene, *key, it).is_ok()))
}

/// Whether a packet that belongs to no connection may start one.
fn starts_connection(
    snapshot: &Snapshot,
    service: &Service,
    packet: &Packet,
    ip: &[u8],
    protocol: Protocol,
) -> bool {
    match protocol {
        Protocol::Tcp => {
            packet.tcp_flags & tcp::RST == 0
                && (packet.tcp_flags & tcp::SYN != 0
                    || snapshot.options.sloppy_tcp
                    || service.with_spec(|spec| spec.sloppy_tcp))
        }
        Protocol::Udp => true,
        Protocol::Sctp => match first_chunk(packet.transport(ip)) {
            None | Some(sctp::ABORT) => false,
            Some(chunk) => snapshot.options.sloppy_sctp || chunk == sctp::INIT,
        },
    }
}
