//! Frames that waited for a neighbour in vain.

use uvs_wire::Packet;

use crate::net::lane::Lane;
use crate::net::neighbor::Waiting;
use crate::path::local_in;
use crate::path::report::{Report, report, report_quoted};
use crate::path::translate;
use crate::path::tunnel::{Tunnelled, quoted_tunnel};
use crate::scene::Scene;
use crate::track::connection::RequestKey;
use crate::track::response;

/// Whoever watches the destination of its connection, if it is of one, hears of it.
fn see(scene: &Scene<'_>, request: &Packet) {
    let key = RequestKey::of(request);
    let mut shard = scene.shard(key.protocol, key.client, key.client_port);
    if let Some(id) = shard.request(&key) {
        response::no_neighbour(shard.get_mut(id), scene.now);
    }
}

/// A frame waited for a neighbour in vain: its sender hears of it, in the words of what it sent.
pub(crate) fn report_unreachable(scene: &Scene<'_>, lane: &mut Lane, waiting: Waiting) {
    let Waiting { mut frame, asked_for, own } = waiting;
    if own {
        return;
    }
    let Ok(mut packet) = Packet::parse(frame.bytes()) else { return };
    if let Some((addr, port)) = asked_for {
        translate::back(&mut frame, &mut packet, addr, port);
    }
    if local_in::unreachable(scene, frame.bytes(), &packet) {
        return;
    }
    let tunnelled = quoted_tunnel(scene, frame.bytes(), &packet);
    see(scene, tunnelled.as_ref().map_or(&packet, |tunnelled| &tunnelled.inner));
    // What we had put into a tunnel comes from us: who sent what is inside is told.
    if let Some(Tunnelled { offset, inner, .. }) = tunnelled {
        return report_quoted(scene, lane, &frame.bytes()[offset..], &inner, Report::HostUnreachable);
    }
    report(scene, lane, frame.bytes(), &packet, Report::HostUnreachable);
}
