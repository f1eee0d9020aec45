//! The director as a host: it answers ping, and refuses what nothing here takes.

use uvs_wire::{Packet, icmp, ipv6, tcp, udp};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, Protocol};
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::path::icmp::is_icmp;
use crate::path::ip_options::{self, Echo};
use crate::path::local_in;
use crate::path::output::{Sender, originate, output};
use crate::path::report::{Report, report};
use crate::path::target::Target;
use crate::scene::Scene;
use crate::track::connection::RequestKey;
use crate::track::response;
use crate::track::sctp;
use crate::track::state::advance;
use crate::track::tcp::Seen;

/// Room for a reset: IP header, with options, and TCP header.
const RESET_MAX: usize = 20 + ip_options::ROOM + 20;

/// Whose packet it was that the director refuses as a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Nobody,
    /// That of a connection whose destination is the director itself.
    Connection,
}

/// An ICMP message to us that is not an error.
pub(crate) fn icmp_to_us(scene: &Scene<'_>, lane: &mut Lane, frame: &mut Frame, packet: &Packet) -> Verdict {
    if !icmp::checksum_ok(frame.bytes(), packet) {
        return Verdict::Drop(DropReason::BadChecksum);
    }
    if !icmp::reply_echo_in_place(frame.bytes_mut(), packet) {
        let mut packet = *packet;
        return local_in::receive(scene, frame, &mut packet).unwrap_or(Verdict::Drop(DropReason::NotHandled));
    }
    frame.fragments = None;
    if ip_options::present(packet) {
        let echo = Echo::of(frame.bytes(), packet, packet.dst, 1);
        let late = echo.replace(frame.bytes_mut(), usize::from(packet.header_len));
        frame.strip_front(late);
    }
    let Some(hop) = scene.snapshot.network.route_back(packet.src, scene.port) else {
        return Verdict::Drop(DropReason::NoRoute);
    };
    output(scene, lane, frame, &hop, Sender::Director)
}

/// A request whose destination is an address of the director's own. No server listens here, so it is refused, and its
/// connection sees the refusal as an answer of the destination.
#[cold]
pub(crate) fn deliver_here(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    target: Target,
) -> Verdict {
    // As in the kernel: nobody from outside is translated to a loopback address.
    let lost = target.forwarding == Forwarding::Nat && target.addr.is_loopback();
    if is_icmp(packet) || lost && scene.snapshot.options.compat_ipvs {
        return Verdict::Drop(DropReason::NotHandled);
    }
    refuse_as(scene, lane, frame, packet, Answered::Connection)
}

/// A packet to us that no service takes: one for a socket of the director's own, or it is refused.
#[cold]
pub(crate) fn to_host(scene: &Scene<'_>, lane: &mut Lane, frame: &mut Frame, packet: &Packet) -> Verdict {
    let mut copy = *packet;
    if let Some(verdict) = local_in::receive(scene, frame, &mut copy) {
        return verdict;
    }
    let is_kept = matches!(packet.protocol, tcp::PROTOCOL | udp::PROTOCOL);
    let is_kept = is_kept && scene.tables.local.keeps(packet.dst_port);
    match refuse(scene, lane, frame, packet) {
        Verdict::Drop(DropReason::NoConnection | DropReason::NotHandled) if is_kept => {
            Verdict::Drop(DropReason::LocalClosed)
        }
        verdict => verdict,
    }
}

/// A packet to us that belongs to nobody: a reset for TCP (RFC 9293 section 3.5.2), port unreachable for UDP,
/// an abort for SCTP (RFC 9260 section 8.4), protocol unreachable for the rest (RFC 1122 section 3.2.2.1).
pub(crate) fn refuse(scene: &Scene<'_>, lane: &mut Lane, frame: &Frame, packet: &Packet) -> Verdict {
    refuse_as(scene, lane, frame, packet, Answered::Nobody)
}

fn refuse_as(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    answered: Answered,
) -> Verdict {
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
                reset(scene, lane, ip, packet, answered);
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
            let mut reply = Frame::with_capacity(sctp::ANSWER_MAX + ip_options::ROOM);
            let len = sctp::answer_out_of_the_blue(reply.reset(), ip, packet, frame.offload.needs_checksum);
            answer(scene, lane, (ip, packet), reply, len, answered);
            Verdict::Drop(DropReason::NoConnection)
        }
        None => {
            report(scene, lane, ip, packet, Report::ProtocolUnreachable);
            Verdict::Drop(DropReason::NotHandled)
        }
    }
}

fn reset(scene: &Scene<'_>, lane: &mut Lane, ip: &[u8], packet: &Packet, answered: Answered) {
    let mut frame = Frame::with_capacity(RESET_MAX);
    let len = tcp::emit_reset(frame.reset(), ip, packet);
    answer(scene, lane, (ip, packet), frame, len, answered);
}

/// Sends the first `len` bytes of a packet back to where `packet` came from; none if there are none.
fn answer(
    scene: &Scene<'_>,
    lane: &mut Lane,
    (ip, packet): (&[u8], &Packet),
    mut frame: Frame,
    len: usize,
    answered: Answered,
) {
    if len == 0 {
        return;
    }
    let echo = Echo::of(ip, packet, packet.dst, 1);
    let len = echo.insert(frame.reset(), len);
    frame.set_len(len);
    if answered == Answered::Connection {
        see_answer(scene, packet, frame.bytes());
    }
    if let Some(hop) = scene.snapshot.network.route_back(packet.src, scene.port) {
        originate(scene, lane, frame, &hop);
    }
}

/// Moves the connection of a request by our own answer to it.
fn see_answer(scene: &Scene<'_>, request: &Packet, answer: &[u8]) {
    let Some(protocol) = Protocol::from_number(request.protocol) else { return };
    let Ok(packet) = Packet::parse(answer) else { return };
    let key = RequestKey::of(request);
    let mut shard = scene.shard(key.protocol, key.client, key.client_port);
    let Some(id) = shard.request(&key) else { return };
    let number = shard.number();
    let connection = shard.get_mut(id);
    connection.destination.count_out(number, u64::from(packet.total_len));
    connection.no_output = false;
    let moved = advance(connection, scene.snapshot.rules(), protocol, Seen::Output, &packet, || answer);
    response::segment(connection, scene.now, (Seen::Output, packet.tcp_flags), moved);
    shard.follow(id, moved, scene.now);
}
