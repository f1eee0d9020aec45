//! What the director sends as a host: which way a socket speaks, and its packets.
//!
//! ```text
//!   open   a way to the peer or to the destination > an address of ours > a port of ours
//!   send   direct: route > MTU > emit         by way of a destination: route, as a client's request > emit
//! ```

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::{Address, Packet, ipv4};

use crate::base::frame::Frame;
use crate::base::local::{Binding, OpenError, SocketSpec, Transport, Way};
use crate::base::spec::{Forwarding, Link, Protocol};
use crate::base::time::Instant;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::network::Hop;
use crate::path::advance::Act;
use crate::path::emit::emit;
use crate::path::heading::Heading;
use crate::path::local_in::own_port;
use crate::path::route::route;
use crate::path::target::Target;
use crate::path::tunnel::room_in_tunnel;
use crate::scene::snapshot::Snapshot;
use crate::scene::{Scene, Tables};

/// Finds a socket its way, address and port.
///
/// # Errors
/// Why it has none.
pub(crate) fn open(
    tables: &Tables,
    snapshot: &Snapshot,
    spec: &SocketSpec,
    now: Instant,
) -> Result<Binding, OpenError> {
    let remote = Address::from(spec.remote);
    let (hop, via) = way(snapshot, spec)?;
    let network = &snapshot.network;
    let source = match spec.source {
        Some(source) if !network.is_local(source.into()) => return Err(OpenError::NotOurs(source)),
        Some(source) => Some(Address::from(source)),
        None if hop.addr.is_v4() == remote.is_v4() => hop.source,
        // A tunnel of the other family: its address there says nothing about ours.
        None => network.source_for(hop.port, unspecified(remote)),
    };
    // Of an answer from the VIP to itself nobody could say whose it is.
    let source = source.filter(|source| *source != remote && source.is_v4() == remote.is_v4());
    let source = source.ok_or(OpenError::NoAddress(spec.remote))?;
    let mtu = mtu(tables, snapshot, (hop, via), remote, now);
    let protocol = match spec.transport {
        Transport::Tcp => Some(Protocol::Tcp),
        Transport::Udp => Some(Protocol::Udp),
        Transport::Echo => None,
    };
    let is_free = |port| protocol.is_none_or(|it| snapshot.services.find(it, source, port, 0).is_none());
    let port = tables.local.open(spec, source, is_free)?;
    Ok(Binding { transport: spec.transport, addr: source.to_ip(), port, mtu })
}

fn unspecified(like: Address) -> Address {
    if like.is_v4() {
        Address::v4(core::net::Ipv4Addr::UNSPECIFIED)
    } else {
        Address::v6(core::net::Ipv6Addr::UNSPECIFIED)
    }
}

type Via = Option<(Address, Forwarding)>;

/// The next hop of a socket to be, and by what method.
fn way(snapshot: &Snapshot, spec: &SocketSpec) -> Result<(Hop, Via), OpenError> {
    let network = &snapshot.network;
    let (to, via) = match spec.way {
        Way::Direct => (spec.remote, None),
        Way::Destination { addr, forwarding, .. } => (addr, Some((Address::from(addr), forwarding))),
    };
    let hop = network.route(to.into()).ok_or(OpenError::NoRoute(to))?;
    if hop.local {
        return Err(OpenError::OwnAddress(to));
    }
    let no_way = |forwarding, reason| Err(OpenError::NoWay { addr: to, forwarding, reason });
    let is_of_family = to.is_ipv4() == spec.remote.is_ipv4();
    match via {
        Some((_, Forwarding::Nat)) if spec.transport == Transport::Echo => {
            no_way("nat", "ICMP echo is not translated")
        }
        Some((_, Forwarding::Nat)) if !is_of_family => no_way("nat", "the VIP is of the other family"),
        Some((_, Forwarding::Direct)) if !is_of_family => no_way("dr", "the VIP is of the other family"),
        Some((_, Forwarding::Direct))
            if network.interface(hop.port).is_none_or(|interface| interface.link == Link::Ip) =>
        {
            no_way("dr", "it is behind a TUN device, which has no MAC addresses")
        }
        _ => Ok((hop, via)),
    }
}

/// The longest packet of a socket that takes its way whole.
fn mtu(tables: &Tables, snapshot: &Snapshot, (hop, via): (Hop, Via), remote: Address, now: Instant) -> u32 {
    match via {
        Some((addr, Forwarding::Tunnel(tunnel))) => {
            let scene = Scene::new(tables, snapshot, hop.port, now);
            room_in_tunnel(&scene, addr, &hop, tunnel, remote.is_v4())
        }
        _ => hop.mtu,
    }
}

/// The longest packet of a live socket that takes its way whole, as is known by now.
pub(crate) fn mtu_of(
    tables: &Tables,
    snapshot: &Snapshot,
    (transport, port): (Transport, u16),
    now: Instant,
) -> Option<u32> {
    let socket = tables.local.socket(transport, port)?;
    let via = socket.via.map(|(addr, _, forwarding)| (addr, forwarding));
    let hop = snapshot.network.route(via.map_or(socket.remote.0, |(addr, _)| addr))?;
    Some(mtu(tables, snapshot, (hop, via), socket.remote.0, now))
}

/// Sends an IP packet of a live socket.
///
/// # Errors
/// It was dropped, or its packets have left one by one.
pub(crate) fn send(
    tables: &Tables,
    snapshot: &Snapshot,
    lane: &mut Lane,
    frame: &mut Frame,
    now: Instant,
) -> Result<Verdict, Verdict> {
    let mut packet = Packet::parse(frame.bytes()).map_err(|error| Verdict::Drop(error.into()))?;
    let own = own_port(frame.bytes(), &packet);
    let socket = own.and_then(|(transport, port)| tables.local.socket(transport, port));
    let Some(socket) = socket.filter(|it| it.local.0 == packet.src && it.remote.0 == packet.dst) else {
        return Err(Verdict::Drop(DropReason::NotHandled));
    };
    let to = socket.via.map_or(packet.dst, |(addr, ..)| addr);
    let Some(hop) = snapshot.network.route(to) else { return Err(Verdict::Drop(DropReason::NoRoute)) };
    if hop.local {
        return Err(Verdict::Drop(DropReason::NotHandled));
    }
    if socket.may_fragment && packet.is_v4() && packet.dont_fragment {
        #[allow(clippy::cast_possible_truncation, reason = "the id wraps around")]
        let id = tables.next_ip_id.fetch_add(1, Relaxed) as u16;
        let ip = frame.bytes_mut();
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        ip[6] &= !0x40;
        ipv4::fill_checksum(&mut ip[..usize::from(packet.header_len)]);
        packet = Packet::parse(ip).map_err(|error| Verdict::Drop(error.into()))?;
    }
    tables.local.count_out(frame.len());
    // It comes in nowhere; what is said about the way in is that of the way out.
    let scene = Scene::new(tables, snapshot, hop.port, now);
    let mut heading = Heading { hop, ..Heading::UNKNOWN };
    match socket.via {
        Some((addr, port, forwarding)) => {
            heading.target = Target { addr, port, forwarding, uncached: false, is_first: false };
            route(&scene, lane, frame, &mut packet, &mut heading, Act::Forward)?;
        }
        None => {
            let is_too_long = frame.len() > hop.mtu as usize;
            let is_cut = socket.may_fragment || packet.is_v4() && !packet.dont_fragment;
            if is_too_long && !is_cut {
                return Err(Verdict::Drop(DropReason::FragmentationNeeded));
            }
        }
    }
    Ok(emit(&scene, lane, frame, &packet, &heading))
}
