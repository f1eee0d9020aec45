//! The third stage: the packet counts, moves the state of its connection and its deadline, and lets go of the lock.

use uvs_wire::{Address, Packet, tcp};

use crate::base::frame::Frame;
use crate::base::spec::Protocol;
use crate::base::verdict::{DropReason, Verdict};
use crate::choose::ftp::{self, Context};
use crate::path::find::{Entry, Found};
use crate::path::heading::Heading;
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
    Forward,
    /// A destination's reply gets the virtual address as its source, and goes on.
    Translate { addr: Address, port: u16 },
    /// It goes on as it is.
    Pass,
}

/// Moves the connection that was found by this packet.
#[inline(always)]
pub(crate) fn advance(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &mut Packet,
    heading: &mut Heading,
    found: Found<'_>,
) -> Result<Act, Verdict> {
    match found {
        Found::Request(entry) => request(scene, frame, packet, heading, entry),
        Found::Reply(entry) => reply(scene, frame, packet, entry),
        Found::Target => Ok(Act::Forward),
        Found::Nothing => Ok(Act::Pass),
    }
}

#[inline(always)]
fn request(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &Packet,
    heading: &mut Heading,
    Entry { mut shard, id, protocol }: Entry<'_>,
) -> Result<Act, Verdict> {
    check_order(scene, frame, &mut shard, id, false)?;
    let lane = shard.number();
    let connection = shard.get_mut(id);
    connection.destination.count_in(lane, u64::from(packet.total_len));
    connection.in_packets = connection.in_packets.saturating_add(1);
    let is_used = connection.in_packets == USED;
    let seen = if connection.is_one_way() { Seen::InputOnly } else { Seen::Input };
    let rules = scene.snapshot.rules();
    let moved = move_state(connection, rules, protocol, seen, packet, || frame.bytes());
    if moved || connection.asked_at.is_some() {
        response::segment(connection, scene.now, (seen, packet.tcp_flags), moved);
    }
    let target = &mut heading.target;
    *target = Target::of(connection);
    let is_helped = connection.ftp.is_some();
    let nearer = connection.touch(scene.now);
    if moved || is_used {
        shard.settle(id);
    }
    if let Some(before) = nearer {
        shard.nearer(id, before);
    }
    if moved && !scene.snapshot.options.compat_ipvs {
        let connection = shard.get(id);
        if connection.in_packets > 1 && connection.is_embryonic() {
            scene.tables.table.answer_first(&mut shard, id);
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
    Ok(Act::Forward)
}

#[inline(always)]
fn reply(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &mut Packet,
    Entry { mut shard, id, protocol }: Entry<'_>,
) -> Result<Act, Verdict> {
    check_order(scene, frame, &mut shard, id, true)?;
    let lane = shard.number();
    let connection = shard.get_mut(id);
    connection.destination.count_out(lane, u64::from(packet.total_len));
    let is_first = core::mem::replace(&mut connection.no_output, false);
    let helped = connection.ftp.is_some().then(|| TcpState::from_number(connection.state));
    let rules = scene.snapshot.rules();
    let moved = move_state(connection, rules, protocol, Seen::Output, packet, || frame.bytes());
    if moved || connection.asked_at.is_some() {
        response::segment(connection, scene.now, (Seen::Output, packet.tcp_flags), moved);
    }
    let (addr, port) = (connection.request.virtual_addr, connection.request.virtual_port);
    let nearer = connection.touch(scene.now);
    if moved || is_first {
        shard.settle(id);
    }
    if let Some(before) = nearer {
        shard.nearer(id, before);
    }
    if let Some(flows) = scene.tables.flows.as_ref().filter(|_| moved) {
        flows.settle(&mut shard, id, scene.now);
    }
    drop(shard);
    if let Some(was) = helped {
        ftp::reply(&helper(scene), frame, packet, was).map_err(Verdict::Drop)?;
    }
    Ok(Act::Translate { addr, port })
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
                && flows.is_overtaken(connection, is_reply, scene.ticket) =>
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
