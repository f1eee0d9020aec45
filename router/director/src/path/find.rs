//! The second stage: which connection a packet belongs to, or which one begins with it.
//!
//! ```text
//!   Request   index of requests > meet: use it, or it makes room for a new one
//!                `-- none > claimed? > begin: service, place, entered > its entry
//!   Aside     the packet that an error quotes > where that one's connection goes
//!   Transit   route, scope, TTL, MTU > index of replies > the entry, or none: plain routing
//! ```
//! The shard of the entry stays locked: the next stage moves the connection under the same lock.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::MutexGuard;

use uvs_wire::{Packet, icmp, rewrite, sctp, tcp};

use crate::base::frame::Frame;
use crate::base::spec::Protocol;
use crate::base::verdict::{DropReason, Verdict};
use crate::choose::schedule::Placement;
use crate::net::lane::Lane;
use crate::net::network::Hop;
use crate::net::talks::Talk;
use crate::path::begin::{enter, find_place, note_hairpin};
use crate::path::classify::Class;
use crate::path::ending;
use crate::path::heading::Heading;
use crate::path::icmp::is_icmp;
use crate::path::node::{refuse, to_host};
use crate::path::related;
use crate::path::report::{Report, check_mtu, check_scope, check_ttl, report};
use crate::path::short::target_of_short;
use crate::path::target::Target;
use crate::path::transit::{may_pass, servers_are_reached};
use crate::scene::Scene;
use crate::track::connection::{Connection, ReplyKey, RequestKey};
use crate::track::sctp::{SctpState, first_chunk};
use crate::track::table::{EntryId, Inserted, Locked, Shard};
use crate::track::tcp::TcpState;

/// How often a packet looks for its connection. The second time finds the one that the first has claimed, unless other
/// workers take it out in between because the table is at its limit.
const ADMIT_ROUNDS: usize = 4;

/// An entry of the connection table, with its shard locked.
pub(crate) struct Entry<'a> {
    pub(crate) shard: MutexGuard<'a, Shard>,
    pub(crate) id: EntryId,
    pub(crate) protocol: Protocol,
}

/// What a packet belongs to.
pub(crate) enum Found<'a> {
    /// It is a request of this connection.
    Request(Entry<'a>),
    /// It is a reply on this connection, and its next hop is known.
    Reply(Entry<'a>),
    /// It goes where a connection would, and moves none: an ICMP error, a packet that is too short to, or the
    /// only one of its connection. Its target is known.
    Target,
    /// Nothing: it goes on to a hop that is known.
    Nothing,
}

/// What a packet finds when it meets a connection that is there.
enum Meeting {
    Use,
    /// It ends now, and the packet starts another.
    Replace,
    /// The same if there is another destination.
    Leave,
    /// Its destination is to be rid of it: see [`ending`].
    End,
    Drop,
}

/// Finds what a packet belongs to.
///
/// # Errors
/// It goes no further: it was dropped, or answered.
#[inline(always)]
pub(crate) fn find<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
    class: Class,
) -> Result<Found<'a>, Verdict> {
    match class {
        Class::Request(protocol) => request(scene, lane, frame, packet, heading, protocol),
        Class::Aside => {
            heading.target = aside(scene, lane, frame, packet)?;
            Ok(Found::Target)
        }
        Class::Transit => transit(scene, lane, frame, packet, heading),
    }
}

/// Where an ICMP error goes, or a request that ends within its transport header.
#[cold]
fn aside(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
) -> Result<Target, Verdict> {
    if is_icmp(packet) {
        return related::to_request(scene, lane, frame, packet);
    }
    target_of_short(scene, packet).ok_or(Verdict::Drop(DropReason::Truncated))
}

/// A TCP, UDP or SCTP packet to an address of ours.
#[inline(always)]
fn request<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
    protocol: Protocol,
) -> Result<Found<'a>, Verdict> {
    if !scene.snapshot.services.balance(packet) {
        return Err(to_host(scene, lane, frame, packet));
    }
    let key = RequestKey::of(packet);
    let mut shard = scene.shard(key.protocol, key.client, key.client_port);
    let met = meet_at(scene, &mut shard, &key, packet, frame, protocol);
    if let Some((id, Meeting::Use)) = met {
        return Ok(Found::Request(Entry { shard: shard.into_shard(), id, protocol }));
    }
    match admit(scene, lane, frame, packet, heading, (key, protocol), (shard, met)) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => unwanted(scene, lane, frame, packet, heading),
        Err(reason) => Err(Verdict::Drop(reason)),
    }
}

/// A packet to an address of ours that no service wants. One with a mark may be on its way to anybody.
#[inline(never)]
fn unwanted<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
) -> Result<Found<'a>, Verdict> {
    if scene.snapshot.network.is_local(packet.dst) {
        return Err(to_host(scene, lane, frame, packet));
    }
    transit(scene, lane, frame, packet, heading)
}

/// A request that finds no connection it may use: what it meets makes room, or one is made for it. `None`: no service
/// wants the packet.
#[inline(never)]
fn admit<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
    (key, protocol): (RequestKey, Protocol),
    (mut shard, mut met): (Locked<'a>, Option<(EntryId, Meeting)>),
) -> Result<Option<Found<'a>>, DropReason> {
    let mut replaces = false;
    for _ in 0..ADMIT_ROUNDS {
        match met {
            Some((_, Meeting::Leave)) if takes_new(scene, packet, protocol) => {
                drop(shard);
                replaces = true;
            }
            Some((id, Meeting::Use | Meeting::Leave)) => {
                return Ok(Some(Found::Request(Entry { shard: shard.into_shard(), id, protocol })));
            }
            Some((id, Meeting::End)) => {
                shard = ending::end(scene, lane, frame, packet, shard, id)?;
                let id = shard.request(&key).ok_or(DropReason::NoConnection)?;
                return Ok(Some(Found::Request(Entry { shard: shard.into_shard(), id, protocol })));
            }
            Some((_, Meeting::Drop)) => return Err(DropReason::DestinationGone),
            Some((_, Meeting::Replace)) => {
                // As in the kernel, whose timers run later, it is there until the new one is placed.
                drop(shard);
                replaces = true;
            }
            None => {
                drop(shard);
                if scene.tables.table.claim(&key, scene.now) {
                    shard = scene.shard(key.protocol, key.client, key.client_port);
                    met = meet_at(scene, &mut shard, &key, packet, frame, protocol);
                    continue;
                }
            }
        }
        let placed = find_place(scene, lane, frame, packet, protocol);
        let retired = if replaces { retire(scene, &key, (packet, frame), protocol) } else { None };
        let found = match placed {
            Ok(Some(placed)) => begin(scene, key, placed, packet, heading, protocol).map(Some),
            Ok(None) => Ok(None),
            Err(reason) => Err(reason),
        };
        // As in the kernel, both count for a moment: what reaches its upper threshold by that is overloaded.
        if let Some(retired) = retired {
            retired.release();
        }
        return found;
    }
    Err(DropReason::ConnectionLimit)
}

/// Enters a connection whose place was found, or counts the one packet that is all of it.
#[inline(always)]
fn begin<'a>(
    scene: &Scene<'a>,
    key: RequestKey,
    (placement, one_packet): (Placement, bool),
    packet: &Packet,
    heading: &mut Heading,
    protocol: Protocol,
) -> Result<Found<'a>, DropReason> {
    if one_packet {
        let connection = placement.connection(key, scene.now);
        connection.destination.tally.count_connection();
        connection.destination.tally.count_in_alone(u64::from(packet.total_len));
        connection.release_control();
        heading.target = Target::of(&connection);
        return Ok(Found::Target);
    }
    note_hairpin(scene, &key, &placement.destination);
    let Inserted { shard, id, .. } = enter(scene, key, placement)?;
    Ok(Found::Request(Entry { shard: shard.into_shard(), id, protocol }))
}

/// Takes out a connection whose place a new one takes, unless another worker has done so. Its destination still counts
/// it: [`Connection::release`] follows.
#[inline(never)]
fn retire(
    scene: &Scene<'_>,
    key: &RequestKey,
    (packet, frame): (&Packet, &Frame),
    protocol: Protocol,
) -> Option<Connection> {
    let mut shard = scene.shard(key.protocol, key.client, key.client_port);
    let id = shard.request(key)?;
    let meeting = meet(scene, shard.get_mut(id), packet, frame, protocol);
    matches!(meeting, Meeting::Replace | Meeting::Leave).then(|| scene.tables.table.remove(&mut shard, id))
}

/// Whether the service that a packet asks for has a destination for something new.
fn takes_new(scene: &Scene<'_>, packet: &Packet, protocol: Protocol) -> bool {
    let service = scene.snapshot.services.find(protocol, packet.dst, packet.dst_port, scene.mark);
    service.is_some_and(|service| service.takes_new())
}

/// A packet for somebody else: a reply from a destination, or plain routing. As in the kernel, TTL and MTU come first.
#[inline(always)]
fn transit<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
) -> Result<Found<'a>, Verdict> {
    let Some(hop) = scene.snapshot.network.route(packet.dst) else {
        report(scene, lane, frame.bytes(), packet, Report::NetUnreachable);
        return Err(Verdict::Drop(DropReason::NoRoute));
    };
    heading.hop = hop;
    let hop = &heading.hop;
    check_scope(scene, lane, frame, packet, None)?;
    check_ttl(scene, lane, frame, packet)?;
    check_mtu(scene, lane, frame, packet, hop.mtu)?;
    rewrite::decrement_ttl(frame.bytes_mut(), packet);
    let is_whole = !packet.is_fragment();
    if is_whole && let Some(protocol) = Protocol::from_number(packet.protocol) {
        if let Some(entry) = reply(scene, lane, frame, packet, protocol, hop).map_err(Verdict::Drop)? {
            return Ok(Found::Reply(entry));
        }
    } else if is_whole && is_icmp(packet) {
        let is_error = icmp::is_error(packet.protocol, frame.bytes()[usize::from(packet.header_len)]);
        if is_error && related::to_reply(scene, frame, packet, hop).map_err(Verdict::Drop)? {
            return Ok(Found::Nothing);
        }
    }
    if !may_pass(scene, frame.bytes(), packet, hop) {
        return Err(Verdict::Drop(DropReason::Transit));
    }
    Ok(Found::Nothing)
}

/// A packet for somebody else that may be a destination's answer on a translated connection.
#[inline(always)]
fn reply<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    protocol: Protocol,
    hop: &Hop,
) -> Result<Option<Entry<'a>>, DropReason> {
    // The kernel's hooks go with the last service. Otherwise what is left of connections is still theirs.
    if scene.snapshot.options.compat_ipvs && !scene.snapshot.services.balance(packet) {
        return Ok(None);
    }
    let key = ReplyKey::of(packet);
    let mut shard = scene.shard(key.protocol, key.client, key.client_port);
    if let Some(id) = shard.reply(&key)
        && !scene.tables.has_expired(shard.get_mut(id), scene.now)
    {
        if shard.get(id).destination.is_ending() && ending::ends(shard.get(id), packet) {
            return ending_reply(scene, lane, frame, packet, (shard, id), protocol).map(Some);
        }
        return Ok(Some(Entry { shard: shard.into_shard(), id, protocol }));
    }
    drop(shard);
    unknown_reply(scene, lane, frame, packet, protocol, hop)?;
    Ok(None)
}

/// A segment from a destination that is to be rid of its connections.
#[cold]
fn ending_reply<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    (shard, id): (Locked<'a>, EntryId),
    protocol: Protocol,
) -> Result<Entry<'a>, DropReason> {
    let shard = ending::end(scene, lane, frame, packet, shard, id)?;
    let id = shard.reply(&ReplyKey::of(packet)).ok_or(DropReason::NoConnection)?;
    Ok(Entry { shard: shard.into_shard(), id, protocol })
}

/// A packet of no connection from where a translated destination answers, or has until lately: its client does not know
/// that address. As in the kernel it is routed as it is under `compat`, and with `nat_icmp_send` the destination is
/// told.
#[inline(never)]
fn unknown_reply(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    protocol: Protocol,
    hop: &Hop,
) -> Result<(), DropReason> {
    let options = &scene.snapshot.options;
    let tables = scene.tables;
    let is_server = tables.reals.has_nat(protocol, packet.src, packet.src_port);
    let may_answer = if options.compat_ipvs {
        options.nat_icmp_send && is_server
    } else {
        is_server || tables.reals.answers_late(protocol, packet.src, packet.src_port, scene.now)
    };
    if !may_answer {
        return Ok(());
    }
    let (is_reset, begins) = match protocol {
        Protocol::Tcp => {
            let flags = packet.tcp_flags;
            (flags & tcp::RST != 0, flags & (tcp::SYN | tcp::ACK) == tcp::SYN)
        }
        // Servers that talk to each other from the port they serve, as those of time do.
        Protocol::Udp => (false, packet.src_port == packet.dst_port),
        Protocol::Sctp => {
            let chunk = first_chunk(packet.transport(frame.bytes()));
            (chunk == Some(sctp::ABORT), chunk == Some(sctp::INIT))
        }
    };
    if options.nat_icmp_send && is_server && !is_reset {
        report(scene, lane, frame.bytes(), packet, Report::PortUnreachable);
        return Err(DropReason::NoConnection);
    }
    if options.compat_ipvs || servers_are_reached(scene, hop) {
        return Ok(());
    }
    let talk = Talk::from_server(frame.bytes(), packet);
    if begins {
        tables.talks.remember(talk, scene.now);
        return Ok(());
    }
    if tables.talks.knows(&talk, scene.now) {
        return Ok(());
    }
    // The connection is lost, by a restart perhaps: who holds it at the destination need not wait for its end.
    if protocol != Protocol::Udp {
        refuse(scene, lane, frame, packet);
    }
    Err(DropReason::UnknownAnswer)
}

/// The connection of a request, if there is one, and what becomes of it. (No closure: of that there would be one copy
/// for all who ask, which none of them inlines.)
#[inline(always)]
fn meet_at(
    scene: &Scene<'_>,
    shard: &mut Locked<'_>,
    key: &RequestKey,
    packet: &Packet,
    frame: &Frame,
    protocol: Protocol,
) -> Option<(EntryId, Meeting)> {
    let id = shard.request(key)?;
    Some((id, meet(scene, shard.get_mut(id), packet, frame, protocol)))
}

/// What becomes of a connection that a request meets.
#[inline(always)]
fn meet(
    scene: &Scene<'_>,
    connection: &mut Connection,
    packet: &Packet,
    frame: &Frame,
    protocol: Protocol,
) -> Meeting {
    if scene.tables.has_expired(connection, scene.now) {
        return Meeting::Replace;
    }
    let options = &scene.snapshot.options;
    let destination = &connection.destination;
    let starts = match protocol {
        Protocol::Tcp => packet.tcp_flags & tcp::SYN != 0,
        Protocol::Udp => false,
        Protocol::Sctp => first_chunk(packet.transport(frame.bytes())) == Some(sctp::INIT),
    };
    if starts {
        let drained = destination.weight() == 0;
        let (closing, winding_down) = if protocol == Protocol::Sctp {
            let state = SctpState::from_number(connection.state);
            (state == SctpState::Closed, state.is_closing())
        } else {
            let state = TcpState::from_number(connection.state);
            let closing = matches!(state, TcpState::TimeWait | TcpState::Close)
                || state == TcpState::FinWait && connection.is_one_way() && options.conn_reuse_mode & 2 != 0;
            (closing, matches!(state, TcpState::FinWait | TcpState::CloseWait | TcpState::LastAck))
        };
        let is_held = connection.controls().is_some_and(|control| control.controlled.load(Relaxed) > 0);
        let drained_and_closing = !options.compat_ipvs && drained && (winding_down || closing);
        if options.expire_nodest_conn && drained
            || options.conn_reuse_mode != 0 && connection.control.is_none() && closing && !is_held
            || drained_and_closing
        {
            return Meeting::Replace;
        }
    }
    if destination.is_available() {
        // Datagrams have no end at which the flow would leave a destination that drains; persistence goes before.
        let drains = protocol == Protocol::Udp && destination.weight() == 0 && connection.control.is_none();
        if drains && !options.compat_ipvs { Meeting::Leave } else { Meeting::Use }
    } else if destination.is_ending() {
        match protocol {
            _ if starts => Meeting::Replace,
            Protocol::Tcp if ending::ends(connection, packet) => Meeting::End,
            Protocol::Tcp | Protocol::Sctp => Meeting::Use,
            Protocol::Udp => Meeting::Replace,
        }
    } else if options.expire_nodest_conn || !options.compat_ipvs && (starts || protocol == Protocol::Udp) {
        Meeting::Replace
    } else {
        Meeting::Drop
    }
}
