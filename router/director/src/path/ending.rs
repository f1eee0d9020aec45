//! Connections of a destination that is to be rid of them: TCP gets a reset at both ends, with numbers that each takes.
//!
//! ```text
//!   a segment of the one end > reset to him, by what he has acknowledged > in its place a reset to the other end, of
//!   the number that comes next > on its way as the segment would have gone
//! ```
//! Where it does not come of itself, [`ask`] makes an end send one.

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::{Address, Packet, tcp};

use crate::base::frame::Frame;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::network::{Hop, Network};
use crate::path::node::refuse;
use crate::path::output::originate;
use crate::scene::Scene;
use crate::track::bypass::Bypass;
use crate::track::connection::{Connection, RequestKey};
use crate::track::table::{EntryId, Locked};
use crate::track::tcp::TcpState;

/// A reset, or an acknowledgment without data.
const SEGMENT_MAX: usize = 60;

/// Whether this segment ends its connection, whose destination is to be rid of it. One that has ended by itself is left
/// to its last segments.
pub(crate) fn ends(connection: &Connection, packet: &Packet) -> bool {
    packet.protocol == tcp::PROTOCOL
        && packet.tcp_flags & (tcp::ACK | tcp::RST) == tcp::ACK
        && !matches!(TcpState::from_number(connection.state), TcpState::TimeWait | TcpState::LastAck)
}

/// Resets the sender of a segment, and makes a reset of the segment. Meanwhile the shard is not locked: the entry may
/// be another afterwards.
///
/// # Errors
/// The segment is not to be believed.
#[cold]
pub(crate) fn end<'a>(
    scene: &Scene<'a>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &mut Packet,
    mut shard: Locked<'a>,
    id: EntryId,
) -> Result<Locked<'a>, DropReason> {
    let connection = shard.get_mut(id);
    if let Some(flows) = &scene.tables.flows {
        // What passed there says nothing about the order of what follows.
        flows.take_out(connection);
    }
    let RequestKey { protocol, client, client_port, .. } = connection.request;
    drop(shard);
    if let Verdict::Drop(reason @ DropReason::BadChecksum) = refuse(scene, lane, frame, packet) {
        return Err(reason);
    }
    let mut reset = [0; SEGMENT_MAX];
    let len = tcp::emit_reset_onward(&mut reset, frame.bytes(), packet);
    frame.reset()[..len].copy_from_slice(&reset[..len]);
    frame.set_len(len);
    *packet = Packet::parse(frame.bytes())?;
    Ok(scene.shard(protocol, client, client_port))
}

/// The ends of a connection whose segments say which numbers they wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    client: (Address, u16),
    asked_for: (Address, u16),
    /// Where replies are translated: the destination, which sees the client's address, too.
    destination: Option<(Address, u16)>,
}

impl Ends {
    /// `None`: there is nobody to ask, or nothing to end.
    pub(crate) fn of(connection: &Connection) -> Option<Self> {
        let RequestKey { client, client_port, virtual_addr, virtual_port, protocol, .. } = connection.request;
        let is_open = protocol == tcp::PROTOCOL
            && !connection.request.template
            && !connection.request.announced
            && !connection.is_over();
        let is_translated = connection.translates_replies() && !connection.destination.local.load(Relaxed);
        is_open.then_some(Self {
            client: (client, client_port),
            asked_for: (virtual_addr, virtual_port),
            destination: is_translated.then_some((connection.destination_addr, connection.destination_port)),
        })
    }

    /// The way to its client.
    pub(crate) fn way(&self, network: &Network) -> Option<Hop> {
        network.route(self.client.0)
    }
}

/// Sends both ends of a connection an acknowledgment, as from the other, of a number that nobody expects. Who is still
/// there answers with those that he does (RFC 9293, 3.10.7.4), and that ends it.
pub(crate) fn ask(scene: &Scene<'_>, lane: &mut Lane, ends: &Ends) {
    let Ends { client, asked_for, destination } = *ends;
    send(scene, lane, [asked_for, client]);
    if let Some(destination) = destination {
        send(scene, lane, [client, destination]);
    }
}

fn send(scene: &Scene<'_>, lane: &mut Lane, ends: [(Address, u16); 2]) {
    /// Spreads a counter over all numbers (2^32 by the golden ratio).
    const SPREAD: u32 = 0x9e37_79b9;
    let Some(hop) = scene.snapshot.network.route(ends[1].0).filter(|hop| !hop.local) else { return };
    // Any number is outside of a window but by rare chance, and then the next one is not.
    let number = scene.tables.next_ip_id.fetch_add(1, Relaxed).wrapping_mul(SPREAD);
    let mut frame = Frame::with_capacity(SEGMENT_MAX);
    let len = tcp::emit_ack(frame.reset(), ends, number, number ^ SPREAD);
    frame.set_len(len);
    originate(scene, lane, frame, &hop);
}
