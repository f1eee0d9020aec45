//! VRRP as the director hears and speaks it: its packets go by the director's own links, and who is Active is for the
//! caller to find out.
//!
//! ```text
//!   heard   to a group, or to us, protocol 112 > somebody hears them? > queue
//!   send    to a group: the group's MAC address        to a peer: route > neighbour
//! ```

use uvs_wire::{Address, Packet, ndp};

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::spec::MacAddr;
use crate::base::time::Instant;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::neighbor::write_ethernet;
use crate::path::output::{Sender, output};
use crate::scene::snapshot::Snapshot;
use crate::scene::{Scene, Tables};

/// Protocol number and next header of VRRP.
const VRRP: u8 = 112;

/// Takes an advertisement in, if somebody hears them. `None`: it is none, or nobody does.
#[cold]
pub(crate) fn heard(scene: &Scene<'_>, frame: &Frame, packet: &Packet) -> Option<Verdict> {
    let adverts = &scene.tables.adverts;
    if packet.protocol != VRRP || packet.is_fragment() || !adverts.is_heard() {
        return None;
    }
    Some(match adverts.push(scene.port, packet.src, frame.bytes()) {
        true => Verdict::Consume,
        false => Verdict::Drop(DropReason::LocalQueueFull),
    })
}

/// What went to a group of stations, or to all.
#[cold]
pub(crate) fn group_input(scene: &Scene<'_>, frame: &Frame, packet: &Packet) -> Verdict {
    heard(scene, frame, packet).unwrap_or(Verdict::Drop(DropReason::Multicast))
}

/// Sends an advertisement, a whole IP packet: to a group out of `port`, to a peer by the way that leads there.
///
/// # Errors
/// It was dropped.
pub(crate) fn send(
    (tables, snapshot): (&Tables, &Snapshot),
    lane: &mut Lane,
    port: PortId,
    frame: &mut Frame,
    now: Instant,
) -> Result<Verdict, Verdict> {
    let packet = Packet::parse(frame.bytes()).map_err(|error| Verdict::Drop(error.into()))?;
    let network = &snapshot.network;
    if packet.dst.is_multicast() {
        let own = network.mac(port).ok_or(Verdict::Drop(DropReason::WrongLink))?;
        return match write_ethernet(frame, group_mac(packet.dst), own) {
            true => Ok(Verdict::Transmit(port)),
            false => Err(Verdict::Drop(DropReason::Oversized)),
        };
    }
    let hop = network.route_back(packet.dst, port).ok_or(Verdict::Drop(DropReason::NoRoute))?;
    if hop.local {
        return Err(Verdict::Drop(DropReason::NotHandled));
    }
    let scene = Scene::new(tables, snapshot, hop.port, now);
    Ok(output(&scene, lane, frame, &hop, Sender::Director))
}

/// The MAC address of a group (RFC 1112, 6.4; RFC 2464, 7).
fn group_mac(group: Address) -> MacAddr {
    match group.to_v4() {
        Some(ip) => {
            let [_, b, c, d] = ip.octets();
            MacAddr([1, 0, 0x5e, b & 0x7f, c, d])
        }
        None => MacAddr(ndp::multicast_mac(group.to_v6())),
    }
}
