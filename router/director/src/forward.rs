//! Forwarding to a destination by NAT, direct routing or tunnelling, and out of the director.

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::ipv4::{self, Ipv4Repr};
use uvs_wire::{Address, Packet, fragment, rewrite};

use crate::balance::{Hit, add_missing_checksum, sum_of};
use crate::director::{Director, Scene};
use crate::frame::Frame;
use crate::neighbor::{Resolved, Waiting, write_ethernet};
use crate::network::Hop;
use crate::report::Report;
use crate::spec::{Forwarding, Link, Tunnel};
use crate::verdict::{DropReason, Verdict};

/// IP in IP (RFC 2003).
pub(crate) const IPIP: u8 = 4;
const IPV4_HEADER: u32 = 20;
/// No link has a smaller MTU (RFC 791).
const SMALLEST_MTU: u32 = 68;

impl Director {
    /// Sends a request to its destination.
    pub(crate) fn forward(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        mut packet: Packet,
        hit: Hit,
    ) -> Verdict {
        let network = &scene.snapshot.network;
        let Some(hop) = network.route(hit.destination) else {
            self.report(scene, frame.bytes(), &packet, Report::HostUnreachable);
            return Verdict::Drop(DropReason::NoRoute);
        };
        if let Err(verdict) = self.check_scope(scene, frame, &packet, Some(hop.port)) {
            return verdict;
        }
        if let Err(verdict) = self.check_ttl(scene, frame, &packet) {
            return verdict;
        }
        rewrite::decrement_ttl(frame.bytes_mut(), &mut packet);
        match hit.forwarding {
            Forwarding::Nat => {
                if let Err(verdict) = self.check_mtu(scene, frame, &packet, hop.mtu) {
                    return verdict;
                }
                let asked_for = (packet.dst, packet.dst_port);
                let sum = sum_of(frame.offload.needs_checksum);
                rewrite::destination(frame.bytes_mut(), &mut packet, hit.destination, hit.port, sum);
                add_missing_checksum(frame, &packet);
                self.output(scene, frame, hop, Some(asked_for))
            }
            Forwarding::Direct => {
                if network.interface(hop.port).is_none_or(|interface| interface.link == Link::Ip) {
                    return Verdict::Drop(DropReason::WrongLink);
                }
                if let Err(verdict) = self.check_mtu(scene, frame, &packet, hop.mtu) {
                    return verdict;
                }
                self.output(scene, frame, hop, None)
            }
            Forwarding::Tunnel(tunnel) => {
                self.encapsulate(scene, frame, packet, hit.destination, hop, tunnel)
            }
        }
    }

    /// Puts the packet into another one to the destination.
    fn encapsulate(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        packet: Packet,
        to: Address,
        hop: Hop,
        tunnel: Tunnel,
    ) -> Verdict {
        if tunnel != Tunnel::Ipip {
            return Verdict::Drop(DropReason::NotHandled);
        }
        let network = &scene.snapshot.network;
        let source = network.source_for(hop.port, to).and_then(Address::to_v4);
        let (Some(source), Some(to)) = (source, to.to_v4()) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        let Some(room) = hop.mtu.checked_sub(IPV4_HEADER).filter(|room| *room >= SMALLEST_MTU) else {
            return Verdict::Drop(DropReason::FragmentationNeeded);
        };
        // A train cannot go into a tunnel whole; the devices hand out none while there are tunnels.
        if frame.offload.gso_type != 0 {
            return Verdict::Drop(DropReason::Oversized);
        }
        let honour_df = scene.snapshot.options.pmtu_disc;
        if honour_df && let Err(verdict) = self.check_mtu(scene, frame, &packet, room) {
            return verdict;
        }
        if frame.offload.needs_checksum {
            rewrite::complete_checksum(frame.bytes_mut(), &packet);
            frame.offload = Default::default();
        }
        let dont_fragment = packet.dont_fragment && honour_df;
        let (Ok(payload_len), true) = (u16::try_from(packet.total_len), frame.grow_front(ipv4::HEADER_LEN))
        else {
            return Verdict::Drop(DropReason::Oversized);
        };
        #[allow(clippy::cast_possible_truncation, reason = "the id wraps around")]
        let id = if dont_fragment { 0 } else { self.next_ip_id.fetch_add(1, Relaxed) as u16 };
        let outer = Ipv4Repr {
            src: source,
            dst: to,
            protocol: IPIP,
            ttl: packet.ttl,
            tos: packet.tos,
            id,
            dont_fragment,
            payload_len,
        };
        outer.emit(frame.bytes_mut());
        self.output(scene, frame, hop, None)
    }

    /// Hands an IP packet to its next hop, in fragments where it does not fit. `asked_for`: what a translated
    /// request had asked for.
    pub(crate) fn output(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        hop: Hop,
        asked_for: Option<(Address, u16)>,
    ) -> Verdict {
        if frame.len() > hop.mtu as usize && frame.offload.gso_type == 0 {
            return self.output_fragments(scene, frame, hop, asked_for);
        }
        let Some(own) = scene.snapshot.network.mac(hop.port) else { return Verdict::Transmit(hop.port) };
        match self.neighbors.resolve(&scene.snapshot.network, hop.port, hop.addr, scene.now, scene.out) {
            Resolved::Known(mac) if write_ethernet(frame, mac, own) => Verdict::Transmit(hop.port),
            Resolved::Known(_) => Verdict::Drop(DropReason::Oversized),
            Resolved::Drop(reason) => Verdict::Drop(reason),
            Resolved::Wait => {
                let mut copy = Frame::from_bytes(frame.bytes());
                copy.offload = frame.offload;
                let waiting = Waiting { frame: copy, asked_for };
                // The answer may have come in between, on another worker.
                if let Some((mac, mut waiting)) = self.neighbors.queue(hop.port, hop.addr, waiting)
                    && write_ethernet(&mut waiting.frame, mac, own)
                {
                    scene.out.push(hop.port, waiting.frame);
                }
                Verdict::Consume
            }
        }
    }

    fn output_fragments(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        hop: Hop,
        asked_for: Option<(Address, u16)>,
    ) -> Verdict {
        let Ok(packet) = Packet::parse(frame.bytes()) else { return Verdict::Drop(DropReason::Malformed) };
        if frame.offload.needs_checksum {
            rewrite::complete_checksum(frame.bytes_mut(), &packet);
            frame.offload = Default::default();
        }
        let mut fragments = Vec::new();
        let mut buffer = vec![0; hop.mtu as usize];
        let each = |fragment: &[u8]| fragments.push(Frame::from_bytes(fragment));
        if !packet.is_v4()
            || fragment::split_v4(frame.bytes(), hop.mtu as usize, None, &mut buffer, each).is_err()
        {
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
