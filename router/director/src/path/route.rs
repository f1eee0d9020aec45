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
use crate::path::emit::Leaving;
use crate::path::ip_options;
use crate::path::node::deliver_here;
use crate::path::report::{Report, check_mtu, check_scope, check_ttl, report};
use crate::path::target::Target;
use crate::path::translate;
use crate::path::tunnel::encapsulate;
use crate::scene::Scene;

/// Finds the way out and makes the packet what it leaves as.
#[inline(always)]
pub(crate) fn route(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    act: Act,
) -> Result<Leaving, Verdict> {
    match act {
        Act::Forward(target) => forward(scene, lane, frame, packet, target),
        Act::Translate { addr, port, hop } => {
            translate::source(frame, packet, addr, port);
            Ok(pass(scene, frame, packet, hop))
        }
        Act::Pass(hop) => Ok(pass(scene, frame, packet, hop)),
    }
}

/// A request goes to its destination.
#[inline(always)]
fn forward(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    target: Target,
) -> Result<Leaving, Verdict> {
    let network = &scene.snapshot.network;
    let hop = match lane.memo.route(network, target.addr) {
        Some(hop) if !hop.local => hop,
        None if !target.addr.is_loopback() => {
            report(scene, lane, frame.bytes(), packet, Report::HostUnreachable);
            return Err(Verdict::Drop(DropReason::NoRoute));
        }
        _ => return Err(deliver_here(scene, lane, frame, packet, target)),
    };
    check_scope(scene, lane, frame, packet, Some(hop.port))?;
    check_ttl(scene, lane, frame, packet)?;
    rewrite::decrement_ttl(frame.bytes_mut(), packet);
    let uncached = target.uncached.then_some(target.is_first);
    match target.forwarding {
        Forwarding::Nat => {
            check_mtu(scene, lane, frame, packet, hop.mtu)?;
            let asked_for = Some((packet.dst, packet.dst_port));
            translate::destination(frame, packet, target.addr, target.port);
            Ok(Leaving { hop, asked_for, uncached })
        }
        Forwarding::Direct => {
            if network.interface(hop.port).is_none_or(|interface| interface.link == Link::Ip) {
                return Err(Verdict::Drop(DropReason::WrongLink));
            }
            check_mtu(scene, lane, frame, packet, hop.mtu)?;
            Ok(Leaving { hop, asked_for: None, uncached })
        }
        Forwarding::Tunnel(tunnel) => {
            let hop = encapsulate(scene, lane, frame, packet, target.addr, hop, tunnel)?;
            Ok(Leaving { hop, asked_for: None, uncached })
        }
    }
}

/// A packet goes through: it records, if it asks for that, the address we have on that way: the VIP if it was
/// translated.
#[inline(always)]
fn pass(scene: &Scene<'_>, frame: &mut Frame, packet: &Packet, hop: Hop) -> Leaving {
    if ip_options::present(packet) {
        let own = Some(packet.src).filter(|src| scene.snapshot.network.is_local(*src));
        if let Some(own) = own.or(hop.source) {
            ip_options::record_route(frame.bytes_mut(), packet, own);
        }
    }
    Leaving::to(hop)
}
