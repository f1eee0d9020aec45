//! Forwarding to a destination by NAT, direct routing or tunnelling, and out of the director.

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::{Address, Packet, fragment, rewrite, vnet};

use crate::base::frame::{Fragments, Frame};
use crate::base::spec::{Forwarding, Link};
use crate::base::verdict::{DropReason, Verdict};
use crate::director::{Director, Scene};
use crate::net::neighbor::{Lost, Resolved, Waiting, write_ethernet};
use crate::net::network::Hop;
use crate::path::balance::{Hit, add_missing_checksum, sum_of};
use crate::path::report::{Report, wire_len};

/// Fragments of IPv6 are not made smaller than this.
const SMALLEST_MTU_V6: u32 = 1280;

impl Director {
    /// Sends a request to its destination.
    pub(crate) fn forward(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        packet: &mut Packet,
        hit: Hit,
    ) -> Verdict {
        let network = &scene.snapshot.network;
        let Some(hop) = scene.out.memo.route(network, hit.destination) else {
            self.report(scene, frame.bytes(), packet, Report::HostUnreachable);
            return Verdict::Drop(DropReason::NoRoute);
        };
        if let Err(verdict) = self.check_scope(scene, frame, packet, Some(hop.port)) {
            return verdict;
        }
        if let Err(verdict) = self.check_ttl(scene, frame, packet) {
            return verdict;
        }
        rewrite::decrement_ttl(frame.bytes_mut(), packet);
        match hit.forwarding {
            Forwarding::Nat => {
                if let Err(verdict) = self.check_mtu(scene, frame, packet, hop.mtu) {
                    return verdict;
                }
                let asked_for = (packet.dst, packet.dst_port);
                let sum = sum_of(frame, packet);
                rewrite::destination(frame.bytes_mut(), packet, hit.destination, hit.port, sum);
                add_missing_checksum(frame, packet);
                self.output(scene, frame, &hop, Some(asked_for))
            }
            Forwarding::Direct => {
                if network.interface(hop.port).is_none_or(|interface| interface.link == Link::Ip) {
                    return Verdict::Drop(DropReason::WrongLink);
                }
                if let Err(verdict) = self.check_mtu(scene, frame, packet, hop.mtu) {
                    return verdict;
                }
                self.output(scene, frame, &hop, None)
            }
            Forwarding::Tunnel(tunnel) => {
                self.encapsulate(scene, frame, packet, hit.destination, hop, tunnel)
            }
        }
    }

    /// Hands an IP packet to its next hop, in fragments where it does not fit. `asked_for`: what a translated
    /// request had asked for.
    pub(crate) fn output(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        hop: &Hop,
        asked_for: Option<(Address, u16)>,
    ) -> Verdict {
        if frame.offload.gso_type == 0 {
            if leaves_in_fragments(frame, hop) {
                return self.output_fragments(scene, frame, hop, asked_for);
            }
        } else if frame.len() > hop.mtu as usize && !fits_cut(frame, hop) {
            return self.output_cut(scene, frame, hop, asked_for);
        }
        let Some(own) = scene.snapshot.network.mac(hop.port) else { return Verdict::Transmit(hop.port) };
        let wait = || {
            let mut copy = Frame::from_bytes(frame.bytes());
            copy.offload = frame.offload;
            Some(Waiting { frame: copy, asked_for })
        };
        let (network, to) = (&scene.snapshot.network, (hop.port, hop.addr));
        match self.neighbors.resolve(network, to, hop.essential, scene.now, scene.out, wait) {
            Resolved::Known(mac) if write_ethernet(frame, mac, own) => Verdict::Transmit(hop.port),
            Resolved::Known(_) => Verdict::Drop(DropReason::Oversized),
            Resolved::Waits(lost) => {
                self.count_lost(lost);
                Verdict::Consume
            }
            Resolved::Drop(reason, lost) => {
                self.count_lost(lost);
                Verdict::Drop(reason)
            }
        }
    }

    /// Counts frames that waited for a neighbour and had to make room.
    fn count_lost(&self, lost: Lost) {
        self.count_drops(DropReason::NeighborQueueFull, lost.queue_full);
        self.count_drops(DropReason::NeighborLimit, lost.evicted);
    }

    /// A train whose packets are too big for the link: they leave one by one, in fragments. (Where they must not be
    /// fragmented, `check_mtu` has refused them.)
    #[cold]
    fn output_cut(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        hop: &Hop,
        asked_for: Option<(Address, u16)>,
    ) -> Verdict {
        // One datagram, to be cut by IP.
        if frame.offload.gso_type & !vnet::GSO_ECN == vnet::GSO_UDP {
            frame.offload.gso_type = vnet::GSO_NONE;
            return self.output(scene, frame, hop, asked_for);
        }
        let Ok(mut cut) = frame.cut(0, false) else { return Verdict::Drop(DropReason::Malformed) };
        while let Some(piece) = cut.next() {
            let mut packet = Frame::from_bytes(piece.headers);
            packet.append(piece.data);
            match self.output(scene, &mut packet, hop, asked_for) {
                Verdict::Transmit(port) => scene.out.push(port, packet),
                Verdict::Consume => {}
                Verdict::Drop(reason) => return Verdict::Drop(reason),
            }
        }
        Verdict::Consume
    }

    #[cold]
    fn output_fragments(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        hop: &Hop,
        asked_for: Option<(Address, u16)>,
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
            let id = self.next_ip_id.fetch_add(1, Relaxed);
            fragment::refragment_v6(frame.bytes(), mtu, lengths, id, &mut buffer, each)
        };
        if cut.is_err() {
            return Verdict::Drop(DropReason::FragmentationNeeded);
        }
        for mut fragment in fragments {
            match self.output(scene, &mut fragment, hop, asked_for) {
                Verdict::Transmit(port) => scene.out.push(port, fragment),
                Verdict::Consume => {}
                Verdict::Drop(reason) => return Verdict::Drop(reason),
            }
        }
        Verdict::Consume
    }
}

/// Whether each packet that a train makes fits the link.
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
