//! ICMP errors that the director originates, at a limited rate (RFC 1812 section 4.3.2.8).

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use uvs_wire::icmp::{self, v4, v6};
use uvs_wire::{Packet, ipv6, vnet};

use crate::base::frame::{Frame, PortId};
use crate::base::spec::{Family, Protocol};
use crate::base::time::Instant;
use crate::base::verdict::{DropReason, Verdict};
use crate::director::{Director, Scene};
use crate::net::neighbor::Waiting;
use crate::net::network::is_impossible_source;
use crate::path::balance::count_out;
use crate::path::input::is_icmp;
use crate::track::connection::RequestKey;

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

/// A token bucket for errors.
pub(crate) struct ErrorLimit {
    per_second: u64,
    /// When the bucket would have been empty: a moment that runs ahead of `now` as errors are sent.
    horizon: AtomicU64,
}

impl ErrorLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second: u64::from(per_second), horizon: AtomicU64::new(0) }
    }

    fn allow(&self, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let cost = 1_000_000_000 / self.per_second;
        let burst = (self.per_second / 20).max(1) * cost;
        let now = now.as_nanos();
        let spend = |horizon: u64| {
            let next = horizon.max(now) + cost;
            (next <= now + burst).then_some(next)
        };
        self.horizon.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}

impl Director {
    /// Tells the sender of `ip` what became of it. Nothing is said about ICMP errors, later fragments, and packets
    /// whose sender cannot be told (RFC 1122 section 3.2.2).
    #[cold]
    pub(crate) fn report(&self, scene: &mut Scene<'_>, ip: &[u8], packet: &Packet, report: Report) {
        let about_icmp = is_icmp(packet)
            && ip
                .get(usize::from(packet.header_len))
                .is_none_or(|&kind| icmp::is_error(packet.protocol, kind));
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
        if !self.icmp_limit.allow(scene.now) {
            self.count_drop(DropReason::IcmpRateLimited);
            return;
        }
        let mut frame = Frame::with_capacity(icmp::MAX_ERROR_V6);
        let buffer = frame.reset();
        let len = match (source.to_v4(), packet.src.to_v4()) {
            (Some(from), Some(to)) => {
                let (kind, code, rest) = report.v4();
                #[allow(clippy::cast_possible_truncation, reason = "the id wraps around")]
                let id = self.next_ip_id.fetch_add(1, Relaxed) as u16;
                let len = icmp::emit_error_v4(buffer, from, to, kind, code, rest, id, ip);
                // Internetwork control, and what the sender asked for (RFC 1812 section 4.3.2.5).
                buffer[1] |= packet.tos & TOS_BITS;
                uvs_wire::ipv4::fill_checksum(&mut buffer[..len]);
                len
            }
            _ => {
                let (kind, code, rest) = report.v6(ip, packet);
                let (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) =
                    (source.to_ip(), packet.src.to_ip())
                else {
                    return;
                };
                icmp::emit_error_v6(buffer, from, to, kind, code, rest, HOP_LIMIT, ip)
            }
        };
        frame.set_len(len);
        if !matches!(report, Report::BadOption(_)) {
            self.count_report(packet, len as u64);
        }
        if let Verdict::Transmit(port) = self.output(scene, &mut frame, &hop, None) {
            scene.out.push(port, frame);
        }
    }

    /// As in the kernel, an error about a request that is not translated counts as a packet from its destination.
    pub(crate) fn count_report(&self, packet: &Packet, bytes: u64) {
        let key = RequestKey::of(packet);
        let shard = self.table.shard(key.protocol, key.client, key.client_port);
        if let Some(id) = shard.request(&key)
            && shard.get(id).no_output_expected()
        {
            count_out(shard.number(), &shard.get(id).destination, bytes);
        }
    }

    /// A frame waited for a neighbour in vain: its sender hears of it, in the words of what it sent.
    pub(crate) fn report_unreachable(&self, scene: &mut Scene<'_>, waiting: Waiting) {
        let Waiting { mut frame, asked_for } = waiting;
        let Ok(mut packet) = Packet::parse(frame.bytes()) else { return };
        if let Some((addr, port)) = asked_for {
            let sum = crate::path::balance::sum_of(&frame, &packet);
            uvs_wire::rewrite::destination(frame.bytes_mut(), &mut packet, addr, port, sum);
        }
        // What we had put into a tunnel comes from us: who sent what is inside is told.
        if let Some((offset, inner)) = self.quoted_tunnel(scene, frame.bytes(), &packet) {
            return self.report(scene, &frame.bytes()[offset..], &inner, Report::HostUnreachable);
        }
        self.report(scene, frame.bytes(), &packet, Report::HostUnreachable);
    }

    /// Refuses a packet that has no hop left, with time exceeded.
    #[inline]
    pub(crate) fn check_ttl(
        &self,
        scene: &mut Scene<'_>,
        frame: &Frame,
        packet: &Packet,
    ) -> Result<(), Verdict> {
        if packet.ttl > 1 {
            return Ok(());
        }
        self.report(scene, frame.bytes(), packet, Report::TtlExceeded);
        Err(Verdict::Drop(DropReason::TtlExceeded))
    }

    /// Refuses to forward a packet from a link-local source to another link (RFC 4291, 2.5.6). `out`: the link it
    /// would leave through; plain routing takes it to none.
    #[inline]
    pub(crate) fn check_scope(
        &self,
        scene: &mut Scene<'_>,
        frame: &Frame,
        packet: &Packet,
        out: Option<PortId>,
    ) -> Result<(), Verdict> {
        if !packet.src.is_v6_link_local() || out == Some(scene.port) {
            return Ok(());
        }
        self.report(scene, frame.bytes(), packet, Report::BeyondScope);
        Err(Verdict::Drop(DropReason::NoRoute))
    }

    /// Refuses a packet that must not be fragmented and does not fit into `mtu`, with fragmentation needed.
    #[inline]
    pub(crate) fn check_mtu(
        &self,
        scene: &mut Scene<'_>,
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
        self.report(scene, frame.bytes(), packet, Report::TooBig(mtu));
        Err(Verdict::Drop(DropReason::FragmentationNeeded))
    }
}

/// How long the largest IP packet is that this frame puts on a wire: of a train, one segment.
#[inline]
pub(crate) fn wire_len(frame: &Frame, packet: &Packet) -> u32 {
    if frame.offload.gso_type == 0 {
        return packet.total_len;
    }
    if frame.offload.inner_start != 0 {
        // In a tunnel: in front of the data there is everything up to the inner transport header's end.
        let transport = u32::from(frame.offload.checksum_start);
        let at = usize::from(frame.offload.checksum_start) + 12;
        let header = match frame.offload.gso_type & !vnet::GSO_ECN {
            vnet::GSO_UDP_L4 => 8,
            _ => frame.bytes().get(at).map_or(20, |byte| u32::from(byte >> 4) * 4),
        };
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        return (transport + header + u32::from(frame.offload.segment_size)).min(len);
    }
    let transport_header = match Protocol::from_number(packet.protocol) {
        Some(Protocol::Tcp) => {
            let offset = usize::from(packet.header_len) + 12;
            frame.bytes().get(offset).map_or(20, |byte| u32::from(byte >> 4) * 4)
        }
        _ => 8,
    };
    let headers = u32::from(packet.header_len) + transport_header;
    (headers + u32::from(frame.offload.segment_size)).min(packet.total_len)
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
