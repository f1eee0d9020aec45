//! The director as a host: it answers ping, and refuses what nothing here takes.

use uvs_wire::{Packet, icmp, ipv6, tcp};

use crate::base::frame::Frame;
use crate::base::spec::Protocol;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::path::output::{originate, output};
use crate::path::report::{Report, report};
use crate::scene::Scene;
use crate::track::sctp;

/// Room for a reset: IPv6 and TCP header.
const RESET_MAX: usize = 40 + 20;

/// An ICMP message to us that is not an error.
pub(crate) fn icmp_to_us(scene: &Scene<'_>, lane: &mut Lane, frame: &mut Frame, packet: &Packet) -> Verdict {
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
    output(scene, lane, frame, &hop, None)
}

/// A packet to us that belongs to nobody: a reset for TCP (RFC 9293 section 3.5.2), port unreachable for UDP,
/// an abort for SCTP (RFC 9260 section 8.4), protocol unreachable for the rest (RFC 1122 section 3.2.2.1).
pub(crate) fn refuse(scene: &Scene<'_>, lane: &mut Lane, frame: &Frame, packet: &Packet) -> Verdict {
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
                reset(scene, lane, ip, packet);
            }
            Verdict::Drop(DropReason::NoConnection)
        }
        Some(Protocol::Udp) => {
            report(scene, lane, ip, packet, Report::PortUnreachable);
            Verdict::Drop(DropReason::NotHandled)
        }
        // Nothing follows, so there is nothing to complain of (RFC 8200, 4.7).
        None if !packet.is_v4() && packet.protocol == ipv6::NO_NEXT_HEADER => {
            Verdict::Drop(DropReason::NotHandled)
        }
        Some(Protocol::Sctp) => {
            let mut reply = Frame::with_capacity(sctp::ANSWER_MAX);
            let len = sctp::answer_out_of_the_blue(reply.reset(), ip, packet, frame.offload.needs_checksum);
            answer(scene, lane, packet, reply, len);
            Verdict::Drop(DropReason::NoConnection)
        }
        None => {
            report(scene, lane, ip, packet, Report::ProtocolUnreachable);
            Verdict::Drop(DropReason::NotHandled)
        }
    }
}

fn reset(scene: &Scene<'_>, lane: &mut Lane, ip: &[u8], packet: &Packet) {
    let mut frame = Frame::with_capacity(RESET_MAX);
    let len = tcp::emit_reset(frame.reset(), ip, packet);
    answer(scene, lane, packet, frame, len);
}

/// Sends the first `len` bytes of a packet back to where `packet` came from; none if there are none.
fn answer(scene: &Scene<'_>, lane: &mut Lane, packet: &Packet, mut frame: Frame, len: usize) {
    frame.set_len(len);
    let hop = scene.snapshot.network.route_back(packet.src, scene.port);
    if let Some(hop) = hop.filter(|_| len > 0) {
        originate(scene, lane, frame, &hop);
    }
}
