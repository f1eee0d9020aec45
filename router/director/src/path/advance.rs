//! The third stage: the packet counts, moves the state of its connection and its deadline, and lets go of the lock.

use uvs_wire::{Address, Packet, tcp};

use crate::base::frame::Frame;
use crate::base::spec::Protocol;
use crate::base::verdict::{DropReason, Verdict};
use crate::choose::ftp::{self, Context};
use crate::net::network::Hop;
use crate::path::find::{Entry, Found};
use crate::path::target::Target;
use crate::scene::Scene;
use crate::scene::snapshot::Snapshot;
use crate::track::class::USED;
use crate::track::response;
use crate::track::state::advance as move_state;
use crate::track::table::{EntryId, Shard};
use crate::track::tcp::{Seen, TcpState};

/// What becomes of a packet.
pub(crate) enum Act {
    /// A request goes to its destination.
    Forward(Target),
    /// A destination's reply gets the virtual address as its source, and goes to that hop.
    Translate { addr: Address, port: u16, hop: Hop },
    /// It goes to that hop as it is.
    Pass(Hop),
}

/// Moves the connection that was found by this packet.
#[inline(always)]
pub(crate) fn advance(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &mut Packet,
    found: Found<'_>,
) -> Result<Act, Verdict> {
    match found {
        Found::Request(entry, protocol) => request(scene, frame, packet, entry, protocol),
        Found::Reply(entry, protocol, hop) => reply(scene, frame, packet, entry, protocol, hop),
        Found::Target(target) => Ok(Act::Forward(target)),
        Found::Nothing(hop) => Ok(Act::Pass(hop)),
    }
}

#[inline(always)]
fn request(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &Packet,
    Entry { mut shard, id }: Entry<'_>,
    protocol: Protocol,
) -> Result<Act, Verdict> {
    check_order(scene, frame, &mut shard, id, false)?;
    let lane = shard.number();
    let connection = shard.get_mut(id);
    connection.destination.count_in(lane, u64::from(packet.total_len));
    connection.in_packets = connection.in_packets.saturating_add(1);
    let is_used = connection.in_packets == USED;
    let seen = if connection.is_one_way() { Seen::InputOnly } else { Seen::Input };
    let rules = scene.snapshot.rules();
    let moved = move_state(connection, rules, protocol, seen, packet, frame.bytes());
    response::segment(connection, scene.now, (seen, packet.tcp_flags), moved);
    let mut target = Target::of(connection);
    let is_helped = connection.ftp.is_some();
    shard.follow(id, moved || is_used, scene.now);
    if moved && !scene.snapshot.options.compat_ipvs {
        let connection = shard.get(id);
        if connection.in_packets > 1 && connection.is_embryonic() {
            shard.answer_first(id);
        }
    }
    if let Some(flows) = &scene.tables.flows {
        if moved {
            flows.settle(&mut shard, id, scene.now);
        }
        let connection = shard.get(id);
        target.uncached = flows.wants(connection, scene.now);
        target.is_first = connection.in_packets == 1
            && scene.ticket.is_none()
            && (protocol != Protocol::Tcp || packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN);
    }
    drop(shard);
    if is_helped {
        ftp::request(&helper(scene), frame, packet).map_err(Verdict::Drop)?;
    }
    Ok(Act::Forward(target))
}

#[inline(always)]
fn reply(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &mut Packet,
    Entry { mut shard, id }: Entry<'_>,
    protocol: Protocol,
    hop: Hop,
) -> Result<Act, Verdict> {
    check_order(scene, frame, &mut shard, id, true)?;
    let lane = shard.number();
    let connection = shard.get_mut(id);
    connection.destination.count_out(lane, u64::from(packet.total_len));
    let is_first = core::mem::replace(&mut connection.no_output, false);
    let helped = connection.ftp.is_some().then(|| TcpState::from_number(connection.state));
    let rules = scene.snapshot.rules();
    let moved = move_state(connection, rules, protocol, Seen::Output, packet, frame.bytes());
    response::segment(connection, scene.now, (Seen::Output, packet.tcp_flags), moved);
    let (addr, port) = (connection.request.virtual_addr, connection.request.virtual_port);
    shard.follow(id, moved || is_first, scene.now);
    if let Some(flows) = scene.tables.flows.as_ref().filter(|_| moved) {
        flows.settle(&mut shard, id, scene.now);
    }
    drop(shard);
    if let Some(was) = helped {
        ftp::reply(&helper(scene), frame, packet, was).map_err(Verdict::Drop)?;
    }
    Ok(Act::Translate { addr, port, hop })
}

/// Of a direction that was placed in the flow cache open: a packet that those which passed there have overtaken is not
/// sent on, and before one that they have not none passes. (Of fragments only the first is known to the cache: what was
/// gathered goes on as it is.)
#[inline(always)]
fn check_order(
    scene: &Scene<'_>,
    frame: &Frame,
    shard: &mut Shard,
    id: EntryId,
    is_reply: bool,
) -> Result<(), Verdict> {
    let connection = shard.get_mut(id);
    match &scene.tables.flows {
        Some(flows)
            if connection.cached.is_open(is_reply)
                && frame.fragments.is_none()
                && flows.is_overtaken(connection, is_reply, scene.ticket.is_some()) =>
        {
            Err(Verdict::Drop(DropReason::Overtaken))
        }
        _ => Ok(()),
    }
}

/// What the FTP helper works with.
fn helper<'a>(scene: &Scene<'a>) -> Context<'a> {
    let Snapshot { timeouts, options, .. } = scene.snapshot;
    Context { table: &scene.tables.table, timeouts, options, now: scene.now }
}
