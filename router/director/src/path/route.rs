//! The fourth stage: which way a packet leaves, whether it may, and as what: translated, as it is, or in a tunnel.
//!
//! ```text
//!   Act::Forward     route > scope, TTL > NAT: MTU, rewritten | DR: MTU | TUN: encapsulated
//!   Act::Translate   a destination's reply: from the virtual address from now on
//!   Act::Pass        as it is
//! ```

use uvs_wire::{Packet, rewrite};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, Link};
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::network::Hop;
use crate::path::advance::Act;
use crate::path::heading::Heading;
use crate::path::ip_options;
use crate::path::node::deliver_here;
use crate::path::report::{Report, check_mtu, check_scope, check_ttl, report};
use crate::path::translate;
use crate::path::tunnel::encapsulate;
use crate::scene::Scene;

/// Finds the way out and makes the packet what it leaves as.
///
/// # Errors
/// It goes no further: it was dropped, or delivered here.
#[inline(always)]
pub(crate) fn route(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
    act: Act,
) -> Result<(), Verdict> {
    match act {
        Act::Forward => return forward(scene, lane, frame, packet, heading),
        Act::Translate { addr, port } => translate::source(frame, packet, addr, port),
        Act::Pass => {}
    }
    if packet.has_options() {
        record_route(scene, frame, packet, &heading.hop);
    }
    Ok(())
}

/// A request goes to its destination.
#[inline(always)]
fn forward(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
) -> Result<(), Verdict> {
    let network = &scene.snapshot.network;
    let Heading { target, hop, asked_for } = heading;
    match lane.memo.route(network, target.addr) {
        Some(known) if !known.local => *hop = *known,
        None if !target.addr.is_loopback() => {
            report(scene, lane, frame.bytes(), packet, Report::HostUnreachable);
            return Err(Verdict::Drop(DropReason::NoRoute));
        }
        _ => return Err(deliver_here(scene, lane, frame, packet, *target)),
    }
    check_scope(scene, lane, frame, packet, Some(hop.port))?;
    check_ttl(scene, lane, frame, packet)?;
    rewrite::decrement_ttl(frame.bytes_mut(), packet);
    match target.forwarding {
        Forwarding::Nat => {
            check_mtu(scene, lane, frame, packet, hop.mtu)?;
            *asked_for = Some((packet.dst, packet.dst_port));
            translate::destination(frame, packet, target.addr, target.port);
        }
        Forwarding::Direct => {
            if network.interface(hop.port).is_none_or(|interface| interface.link == Link::Ip) {
                return Err(Verdict::Drop(DropReason::WrongLink));
            }
            check_mtu(scene, lane, frame, packet, hop.mtu)?;
        }
        Forwarding::Tunnel(tunnel) => {
            encapsulate(scene, lane, frame, packet, target.addr, hop, tunnel)?;
        }
    }
    Ok(())
}

/// A packet goes through: it records, if it asks for that, the address we have on that way: the VIP if it was
/// translated.
#[cold]
fn record_route(scene: &Scene<'_>, frame: &mut Frame, packet: &Packet, hop: &Hop) {
    let own = Some(packet.src).filter(|src| scene.snapshot.network.is_local(*src));
    if let Some(own) = own.or(hop.source) {
        ip_options::record_route(frame.bytes_mut(), packet, own);
    }
}
