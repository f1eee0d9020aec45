//! Out of the director: an IP packet to its next hop, in fragments where it has to be, or into the queue of a
//! neighbour.

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::{Address, Packet, fragment, vnet};

use crate::base::frame::{Fragments, Frame};
use crate::base::spec::Protocol;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::neighbor::{Lost, Resolved, Waiting, write_ethernet};
use crate::net::network::Hop;
use crate::scene::Scene;

/// Fragments of IPv6 are not made smaller than this.
const SMALLEST_MTU_V6: u32 = 1280;

/// Who hears of it when a packet waits for a neighbour in vain.
#[derive(Clone, Copy)]
pub(crate) enum Sender<'a> {
    /// Whom its source address names.
    Source,
    /// The source of a translated request, which had asked for this address and port.
    Translated(&'a (Address, u16)),
    /// Nobody: the director made the packet, maybe in the name of somebody else (a reset for the client).
    Director,
}

/// Hands an IP packet to its next hop, in fragments where it does not fit.
#[inline(always)]
pub(crate) fn output(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    hop: &Hop,
    sender: Sender<'_>,
) -> Verdict {
    if frame.offload.gso_type == 0 {
        if leaves_in_fragments(frame, hop) {
            return output_fragments(scene, lane, frame, hop, sender);
        }
    } else if frame.len() > hop.mtu as usize && !fits_cut(frame, hop) {
        return output_cut(scene, lane, frame, hop, sender);
    }
    let Some(own) = scene.snapshot.network.mac(hop.port) else { return Verdict::Transmit(hop.port) };
    let wait = || {
        let mut copy = Frame::from_bytes(frame.bytes());
        copy.offload = frame.offload;
        let (asked_for, own) = match sender {
            Sender::Source => (None, false),
            Sender::Translated(asked_for) => (Some(*asked_for), false),
            Sender::Director => (None, true),
        };
        Some(Waiting { frame: copy, asked_for, own })
    };
    let (network, to) = (&scene.snapshot.network, (hop.port, hop.addr));
    match scene.tables.neighbors.resolve(network, to, hop.essential, scene.now, lane, wait) {
        Resolved::Known(mac) if write_ethernet(frame, mac, own) => Verdict::Transmit(hop.port),
        Resolved::Known(_) => Verdict::Drop(DropReason::Oversized),
        Resolved::Waits(lost) => {
            count_lost(scene, lost);
            Verdict::Consume
        }
        Resolved::Drop(reason, lost) => {
            count_lost(scene, lost);
            Verdict::Drop(reason)
        }
    }
}

/// The same of what is not the packet at hand, but made of it or about it.
#[inline(never)]
fn output_other(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    hop: &Hop,
    sender: Sender<'_>,
) -> Verdict {
    output(scene, lane, frame, hop, sender)
}

/// Counts frames that waited for a neighbour and had to make room.
fn count_lost(scene: &Scene<'_>, lost: Lost) {
    scene.tables.drops.add(DropReason::NeighborQueueFull, lost.queue_full);
    scene.tables.drops.add(DropReason::NeighborLimit, lost.evicted);
}

/// A GSO packet whose packets are too big for the link: they leave one by one, in fragments. (Where they must not be
/// fragmented, `check_mtu` has refused them.)
#[cold]
fn output_cut(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    hop: &Hop,
    sender: Sender<'_>,
) -> Verdict {
    // One datagram, to be cut by IP.
    if frame.offload.gso_type & !vnet::GSO_ECN == vnet::GSO_UDP {
        frame.offload.gso_type = vnet::GSO_NONE;
        return output_other(scene, lane, frame, hop, sender);
    }
    output_each(lane, frame, |lane, packet| output_other(scene, lane, packet, hop, sender))
}

/// Cuts a GSO packet, and sends what it makes as `each` says. The first that is dropped ends it.
pub(crate) fn output_each(
    lane: &mut Lane,
    frame: &Frame,
    mut each: impl FnMut(&mut Lane, &mut Frame) -> Verdict,
) -> Verdict {
    let Ok(mut cut) = frame.cut(0, false) else { return Verdict::Drop(DropReason::Malformed) };
    while let Some(piece) = cut.next() {
        let mut packet = Frame::from_bytes(piece.headers);
        packet.append(piece.data);
        let verdict = each(lane, &mut packet);
        if let Err(reason) = lane.follow(verdict, packet) {
            return Verdict::Drop(reason);
        }
    }
    Verdict::Consume
}

/// Sends a packet of the director's own.
pub(crate) fn originate(scene: &Scene<'_>, lane: &mut Lane, mut frame: Frame, hop: &Hop) {
    let verdict = output_other(scene, lane, &mut frame, hop, Sender::Director);
    // Nobody waits for it, and why it cannot leave is counted for the packet that it answers.
    let _ = lane.follow(verdict, frame);
}

#[cold]
fn output_fragments(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    hop: &Hop,
    sender: Sender<'_>,
) -> Verdict {
    let Ok(packet) = Packet::parse(frame.bytes()) else { return Verdict::Drop(DropReason::Malformed) };
    frame.complete_checksum();
    let before = frame.fragments.take();
    let (mtu, lengths, dont_fragment) = match before.as_deref() {
        Some(Fragments { lengths, largest, dont_fragment }) => {
            let largest = if packet.is_v4() { *largest } else { (*largest).max(SMALLEST_MTU_V6) };
            (largest.min(hop.mtu) as usize, &lengths[..], *dont_fragment)
        }
        None => (hop.mtu as usize, &[][..], false),
    };
    let mut fragments = Vec::new();
    let mut buffer = vec![0; mtu];
    let each = |fragment: &[u8]| fragments.push(Frame::from_bytes(fragment));
    let cut = if packet.is_v4() {
        fragment::refragment_v4(frame.bytes(), mtu, lengths, dont_fragment, &mut buffer, each)
    } else {
        // What is too big and not ours was refused before: this came in as fragments, or is a tunnel packet.
        let id = scene.tables.next_ip_id.fetch_add(1, Relaxed);
        // A fragment that is the whole packet is no use to anybody; the kernel makes it.
        let lengths = if scene.snapshot.options.compat_ipvs || lengths.len() > 1 { lengths } else { &[] };
        fragment::refragment_v6(frame.bytes(), mtu, lengths, id, &mut buffer, each)
    };
    if cut.is_err() {
        return Verdict::Drop(DropReason::FragmentationNeeded);
    }
    for mut fragment in fragments {
        let verdict = output_other(scene, lane, &mut fragment, hop, sender);
        if let Err(reason) = lane.follow(verdict, fragment) {
            return Verdict::Drop(reason);
        }
    }
    Verdict::Consume
}

/// Whether each packet that a GSO packet makes fits the link.
fn fits_cut(frame: &Frame, hop: &Hop) -> bool {
    Packet::parse(frame.bytes()).is_ok_and(|packet| wire_len(frame, &packet) <= hop.mtu)
}

/// Whether a packet is too big for the link, or came in as fragments and leaves as such.
#[inline]
fn leaves_in_fragments(frame: &Frame, hop: &Hop) -> bool {
    let len = frame.len();
    len > hop.mtu as usize
        || frame.fragments.as_ref().is_some_and(|fragments| {
            // Of IPv6, as in the kernel, only what is longer than the largest of them.
            let is_v4 = frame.bytes().first().is_some_and(|first| first >> 4 == 4);
            is_v4 || len > fragments.largest as usize
        })
}

/// How long the largest IP packet is that this frame puts on a wire: of a GSO packet, one segment.
#[inline]
pub(crate) fn wire_len(frame: &Frame, packet: &Packet) -> u32 {
    if frame.offload.gso_type == 0 {
        return packet.total_len;
    }
    if frame.offload.inner_start != 0 {
        // In a tunnel: in front of the data there is everything up to the inner transport header's end.
        let transport = u32::from(frame.offload.checksum_start);
        let at = usize::from(frame.offload.checksum_start) + 12;
        let header = match frame.offload.gso_type & !vnet::GSO_ECN {
            vnet::GSO_UDP_L4 => 8,
            _ => frame.bytes().get(at).map_or(20, |byte| u32::from(byte >> 4) * 4),
        };
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        return (transport + header + u32::from(frame.offload.segment_size)).min(len);
    }
    let transport_header = match Protocol::from_number(packet.protocol) {
        Some(Protocol::Tcp) => {
            let offset = usize::from(packet.header_len) + 12;
            frame.bytes().get(offset).map_or(20, |byte| u32::from(byte >> 4) * 4)
        }
        _ => 8,
    };
    let headers = u32::from(packet.header_len) + transport_header;
    (headers + u32::from(frame.offload.segment_size)).min(packet.total_len)
}
