//! ICMP errors about a known connection: the packet they quote is looked up, and they are translated and
//! forwarded as packets of that connection would be.
//!
//! ```text
//!   about a reply (VIP -> CIP), to the VIP:        goes on to the destination, quoting RIP -> CIP
//!   about a request (CIP -> RIP), to the client:   goes on from the VIP, quoting CIP -> VIP
//!   about our own tunnel packet, to the DIP:       the client is told, quoting what was inside
//! ```

use uvs_wire::icmp::{self, v4};
use uvs_wire::{Packet, rewrite};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, Options, Protocol};
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::network::Hop;
use crate::net::talks::Talk;
use crate::path::report::see_error;
use crate::path::target::Target;
use crate::path::transit::servers_are_reached;
use crate::path::tunnel::{quoted_tunnel, relay_about_tunnel};
use crate::path::{begin, local_in};
use crate::scene::Scene;
use crate::track::connection::{ReplyKey, RequestKey};

/// Whether errors of this type are followed: all but redirects. The kernel's IPVS leaves problems of IPv4 headers as
/// they are, too.
fn is_followed(options: &Options, packet: &Packet, message: &[u8]) -> bool {
    packet.protocol != icmp::PROTOCOL_V4
        || match message[0] {
            v4::DESTINATION_UNREACHABLE | v4::SOURCE_QUENCH | v4::TIME_EXCEEDED => true,
            v4::PARAMETER_PROBLEM => !options.compat_ipvs,
            _ => false,
        }
}

/// An ICMP error to an address of ours: where it goes, quoting what went there.
///
/// # Errors
/// It is about nothing we know, or who had sent that was told.
pub(crate) fn to_request(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &Packet,
) -> Result<Target, Verdict> {
    about_connection(scene, lane, frame, packet).map_err(|verdict| match verdict {
        Verdict::Drop(DropReason::IcmpUnrelated) => local_in::error(scene, frame, packet).unwrap_or(verdict),
        other => other,
    })
}

fn about_connection(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &Packet,
) -> Result<Target, Verdict> {
    const UNRELATED: Verdict = Verdict::Drop(DropReason::IcmpUnrelated);
    let start = usize::from(packet.header_len);
    let quoted = start + icmp::HEADER_LEN;
    let message = &frame.bytes()[start..];
    if message.len() < icmp::HEADER_LEN || !is_followed(&scene.snapshot.options, packet, message) {
        return Err(UNRELATED);
    }
    let mut inner = Packet::parse_quoted(&frame.bytes()[quoted..]).map_err(|_| UNRELATED)?;
    if let Some(tunnelled) = quoted_tunnel(scene, &frame.bytes()[quoted..], &inner) {
        return Err(relay_about_tunnel(scene, lane, frame, packet, &inner, tunnelled));
    }
    // No honest error quotes a packet of the other IP version, and none could be translated.
    if inner.is_v4() != packet.is_v4() || !scene.snapshot.services.balance(packet) {
        return Err(UNRELATED);
    }
    let key = RequestKey::answered_by(&inner);
    if scene.snapshot.options.schedule_icmp && !begin::by_quote(scene, &key, &inner) {
        return Err(UNRELATED);
    }
    let target = {
        let shard = scene.shard(key.protocol, key.client, key.client_port);
        let connection = shard.request(&key).map(|id| shard.get(id)).ok_or(UNRELATED)?;
        connection.destination.count_in(shard.number(), u64::from(packet.total_len));
        Target::of(connection)
    };
    if target.forwarding == Forwarding::Nat {
        if !icmp::checksum_ok(frame.bytes(), packet) {
            return Err(Verdict::Drop(DropReason::BadChecksum));
        }
        let bytes = frame.bytes_mut();
        let edit = rewrite::quoted_source(&mut bytes[quoted..], &mut inner, target.addr, target.port);
        rewrite::icmp_message(bytes, packet, edit);
    }
    Ok(target)
}

/// Whether an error is about a request of no connection, to where a destination answers by NAT or has until lately:
/// its client does not know that address.
fn names_server(scene: &Scene<'_>, quoted: usize, (frame, inner): (&Frame, &Packet), hop: &Hop) -> bool {
    let (tables, now) = (scene.tables, scene.now);
    let Some(protocol) = Protocol::from_number(inner.protocol) else { return false };
    (tables.reals.has_nat(protocol, inner.dst, inner.dst_port)
        || tables.reals.answers_late(protocol, inner.dst, inner.dst_port, now))
        && !servers_are_reached(scene, hop)
        && !tables.talks.knows(&Talk::to_server(&frame.bytes()[quoted..], inner), now)
}

/// An ICMP error to somebody else: if it is about a request that was translated, it says so in the client's words.
/// Returns whether it is about a request of a connection.
///
/// # Errors
/// It must not go on.
pub(crate) fn to_reply(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &mut Packet,
    hop: &Hop,
) -> Result<bool, DropReason> {
    let options = &scene.snapshot.options;
    if options.compat_ipvs && !scene.snapshot.services.balance(packet) {
        return Ok(false);
    }
    let start = usize::from(packet.header_len);
    let quoted = start + icmp::HEADER_LEN;
    let message = &frame.bytes()[start..];
    if message.len() < icmp::HEADER_LEN || !is_followed(&scene.snapshot.options, packet, message) {
        return Ok(false);
    }
    let inner = Packet::parse_quoted(&frame.bytes()[quoted..]).ok();
    let Some(mut inner) = inner.filter(|inner| inner.is_v4() == packet.is_v4()) else { return Ok(false) };
    let key = ReplyKey::answering(&inner);
    let (addr, port) = {
        let shard = scene.shard(key.protocol, key.client, key.client_port);
        let Some(id) = shard.reply(&key) else {
            // About a request that was not translated: nothing to change, but it counts.
            let direct = shard.request(&RequestKey::of(&inner)).map(|id| shard.get(id));
            if let Some(connection) = direct {
                see_error(packet, message, connection);
                if connection.no_output_expected() {
                    connection.destination.count_out(shard.number(), u64::from(packet.total_len));
                }
                return Ok(true);
            }
            drop(shard);
            let names_server = !options.compat_ipvs && names_server(scene, quoted, (frame, &inner), hop);
            return if names_server { Err(DropReason::UnknownAnswer) } else { Ok(false) };
        };
        let connection = shard.get(id);
        if !icmp::checksum_ok(frame.bytes(), packet) {
            return Err(DropReason::BadChecksum);
        }
        see_error(packet, message, connection);
        connection.destination.count_out(shard.number(), u64::from(packet.total_len));
        (connection.request.virtual_addr, connection.request.virtual_port)
    };
    let bytes = frame.bytes_mut();
    let edit = rewrite::quoted_destination(&mut bytes[quoted..], &mut inner, addr, port);
    rewrite::icmp_message(bytes, packet, edit);
    rewrite::source(bytes, packet, addr, 0, rewrite::L4Sum::Complete);
    Ok(true)
}
