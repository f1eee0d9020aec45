//! ICMP errors that the director originates, and the checks that lead to them.

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::icmp::{self, v4, v6};
use uvs_wire::{Packet, ipv4, ipv6};

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::spec::Family;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::network::is_impossible_source;
use crate::path::icmp::is_icmp;
use crate::path::ip_options::{Echo, before_recording};
use crate::path::output::{originate, wire_len};
use crate::scene::Scene;
use crate::track::connection::{Connection, RequestKey};
use crate::track::response;

/// Hop limit of what the director originates.
const HOP_LIMIT: u8 = 64;

/// The bits of the type of service that an error takes over.
const TOS_BITS: u8 = 0x1e;

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    NetUnreachable,
    HostUnreachable,
    ProtocolUnreachable,
    PortUnreachable,
    TtlExceeded,
    /// Fragments of the packet are missing.
    ReassemblyTimeout,
    /// A link-local source wants to another link; of IPv6 only.
    BeyondScope,
    /// A routing header has segments left, and we forward no such packets; of IPv6 only.
    NoWaypoint {
        /// Where the type of the routing header stands.
        field: usize,
    },
    /// The packet does not fit; the MTU it has to fit into.
    TooBig(u32),
    /// An IPv4 option at that offset of the header makes no sense.
    BadOption(u8),
    /// An error that came in about the same packet on its way further on.
    Relay {
        kind: u8,
        code: u8,
        rest: u32,
    },
}

/// Tells the sender of `ip` what became of it. Nothing is said about ICMP errors, later fragments, and packets
/// whose sender cannot be told (RFC 1122 section 3.2.2).
#[cold]
pub(crate) fn report(scene: &Scene<'_>, lane: &mut Lane, ip: &[u8], packet: &Packet, report: Report) {
    let echoes = !matches!(report, Report::BadOption(_));
    report_with(scene, lane, ip, packet, report, echoes);
}

/// The same about a packet that came in inside another one, whose options are not given back.
#[cold]
pub(crate) fn report_quoted(scene: &Scene<'_>, lane: &mut Lane, ip: &[u8], packet: &Packet, report: Report) {
    report_with(scene, lane, ip, packet, report, false);
}

fn report_with(scene: &Scene<'_>, lane: &mut Lane, ip: &[u8], packet: &Packet, report: Report, echoes: bool) {
    let about_icmp = is_icmp(packet)
        && ip.get(usize::from(packet.header_len)).is_none_or(|&kind| icmp::is_error(packet.protocol, kind));
    if about_icmp
        || packet.is_fragment() && !packet.is_first_fragment()
        || is_impossible_source(packet.src)
        || packet.dst.is_multicast()
    {
        return;
    }
    let network = &scene.snapshot.network;
    if network.is_local_seen_from(packet.src, scene.port) {
        return;
    }
    let Some(hop) = network.route_back(packet.src, scene.port) else { return };
    let family = if packet.is_v4() { Family::V4 } else { Family::V6 };
    let marked = scene.mark != 0 && scene.snapshot.services.has_mark(scene.mark, family);
    let source = if marked || network.is_local_seen_from(packet.dst, scene.port) {
        Some(packet.dst)
    } else {
        network.source_for(hop.port, packet.src)
    };
    let Some(source) = source else { return };
    if !scene.tables.icmp_limit.allow(packet.src, matches!(report, Report::TooBig(_)), scene.now) {
        scene.tables.drops.count(DropReason::IcmpRateLimited);
        return;
    }
    let mut frame = Frame::with_capacity(icmp::MAX_ERROR_V6);
    let buffer = frame.reset();
    let len = match (source.to_v4(), packet.src.to_v4()) {
        (Some(from), Some(to)) => {
            let (kind, code, rest) = report.v4();
            #[allow(clippy::cast_possible_truncation, reason = "the id wraps around")]
            let id = scene.tables.next_ip_id.fetch_add(1, Relaxed) as u16;
            // What came to us has our address already.
            let times = if source == packet.dst { 1 } else { 2 };
            let echo = if echoes { Echo::of(ip, packet, source, times) } else { Echo::NONE };
            let room = icmp::MAX_ERROR_V4 - ipv4::HEADER_LEN - icmp::HEADER_LEN - echo.len();
            let quoted = &ip[..ip.len().min(room)];
            let compat = scene.snapshot.options.compat_ipvs && echoes && source == packet.dst;
            let stale = compat.then(|| before_recording(quoted, packet, source)).flatten();
            let quoted = stale.as_deref().unwrap_or(quoted);
            let len = icmp::emit_error_v4(buffer, from, to, kind, code, rest, id, quoted);
            let len = echo.insert(buffer, len);
            // Internetwork control, and what the sender asked for (RFC 1812 section 4.3.2.5).
            buffer[1] |= packet.tos & TOS_BITS;
            ipv4::fill_checksum(&mut buffer[..len]);
            len
        }
        _ => {
            let (kind, code, rest) = report.v6(ip, packet);
            let (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) = (source.to_ip(), packet.src.to_ip())
            else {
                return;
            };
            icmp::emit_error_v6(buffer, from, to, kind, code, rest, HOP_LIMIT, ip)
        }
    };
    frame.set_len(len);
    if !matches!(report, Report::BadOption(_)) {
        count_report(scene, packet, len as u64);
    }
    originate(scene, lane, frame, &hop);
}

/// As in the kernel, an error about a request that is not translated counts as a packet from its destination.
pub(crate) fn count_report(scene: &Scene<'_>, packet: &Packet, bytes: u64) {
    let key = RequestKey::of(packet);
    let shard = scene.tables.table.shard(key.protocol, key.client, key.client_port);
    if let Some(id) = shard.request(&key)
        && shard.get(id).no_output_expected()
    {
        shard.get(id).destination.count_out(shard.number(), bytes);
    }
}

/// Whoever watches the destination of a connection hears that a request did not reach it, or nobody there. `message` is
/// the ICMP error in `packet`, about the request, or about what that was sent in.
pub(crate) fn see_error(packet: &Packet, message: &[u8], connection: &Connection) {
    let (kind, code) = (message[0], message[1]);
    let is_unreachable = match packet.is_v4() {
        true => kind == v4::DESTINATION_UNREACHABLE && code != v4::FRAGMENTATION_NEEDED,
        // The second is what IPv4 has as protocol unreachable.
        false => {
            kind == v6::DESTINATION_UNREACHABLE
                || (kind, code) == (v6::PARAMETER_PROBLEM, v6::UNKNOWN_NEXT_HEADER)
        }
    };
    if is_unreachable {
        response::unreachable(connection);
    }
}

/// Refuses a packet that has no hop left, with time exceeded.
#[inline]
pub(crate) fn check_ttl(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
) -> Result<(), Verdict> {
    if packet.ttl > 1 {
        return Ok(());
    }
    Err(refuse(scene, lane, frame, packet, (Report::TtlExceeded, DropReason::TtlExceeded)))
}

/// Refuses to forward a packet from a link-local source to another link (RFC 4291, 2.5.6). `out`: the link it
/// would leave through; plain routing takes it to none.
#[inline]
pub(crate) fn check_scope(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    out: Option<PortId>,
) -> Result<(), Verdict> {
    if !packet.src.is_v6_link_local() || out == Some(scene.port) {
        return Ok(());
    }
    Err(refuse(scene, lane, frame, packet, (Report::BeyondScope, DropReason::NoRoute)))
}

/// Refuses a packet that must not be fragmented and does not fit into `mtu`, with fragmentation needed.
#[inline]
pub(crate) fn check_mtu(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    mtu: u32,
) -> Result<(), Verdict> {
    // Of nearly all packets this is all there is to it.
    if frame.fragments.is_none() && packet.total_len <= mtu {
        return Ok(());
    }
    check_large(scene, lane, frame, packet, mtu)
}

/// The same of a GSO packet, of one that came in as fragments, and of what does not fit.
#[inline(never)]
fn check_large(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    mtu: u32,
) -> Result<(), Verdict> {
    let len = match &frame.fragments {
        // What counts is whether its fragments fit. (The kernel asks that of the whole, of IPv4.)
        Some(fragments) if !packet.is_v4() || !scene.snapshot.options.compat_ipvs => fragments.largest,
        _ => wire_len(frame, packet),
    };
    if len <= mtu || packet.is_v4() && !packet.dont_fragment {
        return Ok(());
    }
    Err(refuse(scene, lane, frame, packet, (Report::TooBig(mtu), DropReason::FragmentationNeeded)))
}

/// Drops a packet and tells its sender why.
#[cold]
fn refuse(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &Frame,
    packet: &Packet,
    (why, reason): (Report, DropReason),
) -> Verdict {
    report(scene, lane, frame.bytes(), packet, why);
    Verdict::Drop(reason)
}

impl Report {
    /// Type, code and the word behind the checksum of ICMP (RFC 792, RFC 1191).
    fn v4(self) -> (u8, u8, u32) {
        match self {
            Self::NetUnreachable => (v4::DESTINATION_UNREACHABLE, v4::NET_UNREACHABLE, 0),
            Self::HostUnreachable | Self::BeyondScope | Self::NoWaypoint { .. } => {
                (v4::DESTINATION_UNREACHABLE, v4::HOST_UNREACHABLE, 0)
            }
            Self::ProtocolUnreachable => (v4::DESTINATION_UNREACHABLE, v4::PROTOCOL_UNREACHABLE, 0),
            Self::PortUnreachable => (v4::DESTINATION_UNREACHABLE, v4::PORT_UNREACHABLE, 0),
            Self::TtlExceeded => (v4::TIME_EXCEEDED, v4::TTL_EXCEEDED, 0),
            Self::ReassemblyTimeout => (v4::TIME_EXCEEDED, v4::REASSEMBLY_TIME_EXCEEDED, 0),
            Self::TooBig(mtu) => (v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED, mtu.min(0xffff)),
            Self::BadOption(pointer) => (v4::PARAMETER_PROBLEM, 0, u32::from(pointer) << 24),
            Self::Relay { kind, code, rest } => (kind, code, rest),
        }
    }

    /// The same in ICMPv6 (RFC 4443).
    fn v6(self, ip: &[u8], packet: &Packet) -> (u8, u8, u32) {
        let pointer = |field: usize| u32::try_from(field).unwrap_or(u32::MAX);
        match self {
            Self::NetUnreachable => (v6::DESTINATION_UNREACHABLE, v6::NO_ROUTE, 0),
            Self::HostUnreachable => (v6::DESTINATION_UNREACHABLE, v6::ADDRESS_UNREACHABLE, 0),
            Self::ProtocolUnreachable => {
                (v6::PARAMETER_PROBLEM, v6::UNKNOWN_NEXT_HEADER, pointer(ipv6::protocol_field(ip, packet)))
            }
            Self::BeyondScope => (v6::DESTINATION_UNREACHABLE, v6::BEYOND_SCOPE, 0),
            Self::NoWaypoint { field } => (v6::PARAMETER_PROBLEM, v6::ERRONEOUS_FIELD, pointer(field)),
            Self::PortUnreachable => (v6::DESTINATION_UNREACHABLE, v6::PORT_UNREACHABLE, 0),
            Self::TtlExceeded => (v6::TIME_EXCEEDED, v6::HOP_LIMIT_EXCEEDED, 0),
            Self::ReassemblyTimeout => (v6::TIME_EXCEEDED, v6::REASSEMBLY_TIME_EXCEEDED, 0),
            Self::TooBig(mtu) => (v6::PACKET_TOO_BIG, 0, mtu),
            Self::BadOption(pointer) => (v6::PARAMETER_PROBLEM, 0, u32::from(pointer)),
            Self::Relay { kind, code, rest } => (kind, code, rest),
        }
    }
}
