//! Requests that end within their transport header. The kernel needs no more of a packet than its ports to find its
//! connection, and direct routing and tunnels look no further; translation does, and so does a new connection.

use uvs_wire::{Packet, ethernet, ipv4, udp};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, MacAddr};
use crate::base::verdict::{DropReason, Verdict};
use crate::net::network::{Owner, is_impossible_source};
use crate::path::classify::Class;
use crate::path::target::Target;
use crate::scene::Scene;
use crate::track::connection::RequestKey;
use crate::track::state::advance_udp;
use crate::track::tcp::Seen;

/// The class of a frame that ended in the first stage. Under `compat` it may hold a request that is too short for its
/// header.
///
/// # Errors
/// It ends there, as nearly all do.
#[cold]
pub(crate) fn class_of_short(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &mut Packet,
    verdict: Verdict,
) -> Result<Class, Verdict> {
    if verdict != Verdict::Drop(DropReason::Truncated) || !scene.snapshot.options.compat_ipvs {
        return Err(verdict);
    }
    let Ok(short) = Packet::parse_short(frame.bytes()) else { return Err(verdict) };
    *packet = short;
    let is_group = scene.source_mac.is_some() && went_to_group(frame);
    frame.truncate(packet.total_len as usize);
    if packet.is_v4() && !ipv4::header_checksum_ok(frame.bytes()) {
        return Err(Verdict::Drop(DropReason::BadChecksum));
    }
    let network = &scene.snapshot.network;
    let is_request = !is_group
        && !packet.has_options()
        && !packet.is_fragment()
        && !is_impossible_source(packet.src)
        && network.owner(packet.src, scene.port) == Owner::Other
        && network.owner(packet.dst, scene.port) == Owner::Local
        && scene.snapshot.services.balance(packet);
    if is_request { Ok(Class::Aside) } else { Err(verdict) }
}

/// Whether a frame whose Ethernet header was taken off went to a group of stations.
fn went_to_group(frame: &mut Frame) -> bool {
    let is_back = frame.grow_front(ethernet::HEADER_LEN);
    let is_group = is_back && MacAddr(ethernet::destination(frame.bytes())).is_multicast();
    if is_back {
        frame.strip_front(ethernet::HEADER_LEN);
    }
    is_group
}

/// Where the connection of such a packet goes, if it has one that is not translated. The packet counts there and moves
/// nothing, but its time begins anew.
#[cold]
pub(crate) fn target_of_short(scene: &Scene<'_>, packet: &Packet) -> Option<Target> {
    let key = RequestKey::of(packet);
    let mut shard = scene.shard(key.protocol, key.client, key.client_port);
    let id = shard.request(&key)?;
    let number = shard.number();
    let connection = shard.get_mut(id);
    if scene.tables.has_expired(connection, scene.now)
        || !connection.destination.is_available()
        || connection.forwarding_now() == Forwarding::Nat
    {
        return None;
    }
    connection.destination.count_in(number, u64::from(packet.total_len));
    connection.in_packets = connection.in_packets.saturating_add(1);
    if packet.protocol == udp::PROTOCOL {
        advance_udp(connection, scene.snapshot.rules(), Seen::InputOnly);
    }
    let target = Target::of(connection);
    shard.follow(id, false, scene.now);
    Some(target)
}
