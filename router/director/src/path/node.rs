//! The director as a host: it answers ping, and refuses what nothing here takes.

use uvs_wire::{Packet, icmp, ipv6, tcp};

use crate::base::frame::Frame;
use crate::base::spec::Protocol;
use crate::base::verdict::{DropReason, Verdict};
use crate::director::{Director, Scene};
use crate::path::report::Report;
use crate::track::sctp;

/// Room for a reset: IPv6 and TCP header.
const RESET_MAX: usize = 40 + 20;

impl Director {
    /// An ICMP message to us that is not an error.
    pub(crate) fn icmp_to_us(&self, scene: &mut Scene<'_>, frame: &mut Frame, packet: &Packet) -> Verdict {
        if !icmp::checksum_ok(frame.bytes(), packet) {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        if !icmp::reply_echo_in_place(frame.bytes_mut(), packet) {
            return Verdict::Drop(DropReason::NotHandled);
        }
        frame.fragments = None;
        let Some(hop) = scene.snapshot.network.route_back(packet.src, scene.port) else {
            return Verdict::Drop(DropReason::NoRoute);
        };
        self.output(scene, frame, &hop, None)
    }

    /// A packet to us that belongs to nobody: a reset for TCP (RFC 9293 section 3.5.2), port unreachable for UDP,
    /// an abort for SCTP (RFC 9260 section 8.4), protocol unreachable for the rest (RFC 1122 section 3.2.2.1).
    pub(crate) fn refuse(&self, scene: &mut Scene<'_>, frame: &Frame, packet: &Packet) -> Verdict {
        let ip = frame.bytes();
        let protocol = Protocol::from_number(packet.protocol);
        let has_sum = match protocol {
            Some(Protocol::Tcp) => true,
            Some(Protocol::Udp) => {
                let offset = usize::from(packet.header_len) + 6;
                ip[offset..offset + 2] != [0, 0]
            }
            _ => false,
        };
        if has_sum && !frame.offload.needs_checksum && packet.transport_sum(ip).finish() != 0 {
            return Verdict::Drop(DropReason::BadChecksum);
        }
        match protocol {
            Some(Protocol::Tcp) => {
                if packet.tcp_flags & tcp::RST == 0 {
                    self.reset(scene, ip, packet);
                }
                Verdict::Drop(DropReason::NoConnection)
            }
            Some(Protocol::Udp) => {
                self.report(scene, ip, packet, Report::PortUnreachable);
                Verdict::Drop(DropReason::NotHandled)
            }
            // Nothing follows, so there is nothing to complain of (RFC 8200, 4.7).
            None if !packet.is_v4() && packet.protocol == ipv6::NO_NEXT_HEADER => {
                Verdict::Drop(DropReason::NotHandled)
            }
            Some(Protocol::Sctp) => {
                let mut answer = Frame::with_capacity(sctp::ANSWER_MAX);
                let len =
                    sctp::answer_out_of_the_blue(answer.reset(), ip, packet, frame.offload.needs_checksum);
                self.answer(scene, packet, answer, len);
                Verdict::Drop(DropReason::NoConnection)
            }
            None => {
                self.report(scene, ip, packet, Report::ProtocolUnreachable);
                Verdict::Drop(DropReason::NotHandled)
            }
        }
    }

    fn reset(&self, scene: &mut Scene<'_>, ip: &[u8], packet: &Packet) {
        let mut frame = Frame::with_capacity(RESET_MAX);
        let len = tcp::emit_reset(frame.reset(), ip, packet);
        self.answer(scene, packet, frame, len);
    }

    /// Sends the first `len` bytes of a packet back to where `packet` came from; none if there are none.
    fn answer(&self, scene: &mut Scene<'_>, packet: &Packet, mut frame: Frame, len: usize) {
        frame.set_len(len);
        let hop = scene.snapshot.network.route_back(packet.src, scene.port);
        let Some(hop) = hop.filter(|_| len > 0) else { return };
        if let Verdict::Transmit(port) = self.output(scene, &mut frame, &hop, None) {
            scene.out.push(port, frame);
        }
    }
}
