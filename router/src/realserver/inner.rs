//! What is inside a tunnelled packet, and whether it may come in.

use std::net::IpAddr;

use uvs_director::Offload;
use uvs_wire::checksum::{Edit, pseudo_header};
use uvs_wire::ipv4::Ipv4Header;
use uvs_wire::ipv6::{self, Ipv6Header};
use uvs_wire::{Packet, tcp, udp};

/// Why a packet is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drop {
    NotForVip,
    Malformed,
    /// The tunnel met congestion and the inner packet cannot say so (RFC 6040 section 4.2).
    Congested,
}

/// The two bits of TOS and of the traffic class that tell of congestion (RFC 3168), and the value that says there was.
const ECN: u8 = 0b11;
pub(super) const CONGESTION_EXPERIENCED: u8 = 0b11;

/// What is behind the header of `outer`, an IPv4 packet as a raw socket hands it out, and its bits about congestion.
pub(super) fn behind_ipv4(outer: &mut [u8]) -> Result<(&mut [u8], u8), Drop> {
    let header = Ipv4Header::parse(outer).map_err(|_| Drop::Malformed)?;
    let (outer_len, congestion) = (header.header_len(), header.tos() & ECN);
    Ok((outer.get_mut(outer_len..).ok_or(Drop::Malformed)?, congestion))
}

/// The packet that `inner` begins with, of either family, if it is for one of `vips`. `congestion`: what the outer
/// header says, which it has to say from now on.
pub(super) fn unpack<'p>(inner: &'p mut [u8], congestion: u8, vips: &[IpAddr]) -> Result<&'p [u8], Drop> {
    let congested = congestion & ECN == CONGESTION_EXPERIENCED;
    let length = match inner.first().ok_or(Drop::Malformed)? >> 4 {
        4 => check_ipv4(inner, congested, vips)?,
        6 => check_ipv6(inner, congested, vips)?,
        _ => return Err(Drop::Malformed),
    };
    // Beyond the length there may be padding.
    inner.get(..length).ok_or(Drop::Malformed)
}

/// Its length.
fn check_ipv4(inner: &mut [u8], congested: bool, vips: &[IpAddr]) -> Result<usize, Drop> {
    let header = Ipv4Header::parse(inner).map_err(|_| Drop::Malformed)?;
    let length = usize::from(header.total_len());
    if length < header.header_len() || length > inner.len() {
        return Err(Drop::Malformed);
    }
    if !vips.contains(&header.dst().into()) {
        return Err(Drop::NotForVip);
    }
    if congested {
        let (tos, checksum) = (header.tos(), header.checksum());
        if tos & ECN == 0 {
            return Err(Drop::Congested);
        }
        let first = inner.first().copied().ok_or(Drop::Malformed)?;
        let marked = tos | CONGESTION_EXPERIENCED;
        let checksum = Edit::new()
            .word(u16::from_be_bytes([first, tos]), u16::from_be_bytes([first, marked]))
            .apply(checksum)
            .to_be_bytes();
        for (at, byte) in [(1, marked), (10, checksum[0]), (11, checksum[1])] {
            *inner.get_mut(at).ok_or(Drop::Malformed)? = byte;
        }
    }
    Ok(length)
}

/// Its length. No checksum has to follow the mark.
fn check_ipv6(inner: &mut [u8], congested: bool, vips: &[IpAddr]) -> Result<usize, Drop> {
    let header = Ipv6Header::parse(inner).map_err(|_| Drop::Malformed)?;
    let length = ipv6::HEADER_LEN + usize::from(header.payload_len());
    if length > inner.len() {
        return Err(Drop::Malformed);
    }
    if !vips.contains(&header.dst().into()) {
        return Err(Drop::NotForVip);
    }
    if congested {
        // The class lies across the first two bytes, its lowest bits in the middle of the second.
        let second = inner.get_mut(1).ok_or(Drop::Malformed)?;
        if *second >> 4 & ECN == 0 {
            return Err(Drop::Congested);
        }
        *second |= CONGESTION_EXPERIENCED << 4;
    }
    Ok(length)
}

/// Within one machine a packet may travel with the sum of its pseudo-header in place of a checksum: the sender's
/// kernel leaves the rest to a network card, and on a veth there is none. Where a packet goes through the stack the
/// kernel knows; a raw socket is not told, so such a packet is known by the sum. (A right checksum that happens to look
/// so is computed once more, to the same.)
pub(super) fn left_to_the_receiver(inner: &[u8]) -> Offload {
    let Ok(packet) = Packet::parse(inner) else { return Offload::default() };
    let checksum_offset = match packet.protocol {
        tcp::PROTOCOL => 16,
        udp::PROTOCOL => 6,
        _ => return Offload::default(),
    };
    if packet.is_fragment() || !packet.has_ports() {
        return Offload::default();
    }
    let length = u32::try_from(packet.transport_len()).unwrap_or(u32::MAX);
    let pseudo = pseudo_header(packet.src, packet.dst, packet.protocol, length).fold().to_be_bytes();
    let field = usize::from(packet.header_len + checksum_offset);
    if inner.get(field..field + 2) != Some(&pseudo[..]) {
        return Offload::default();
    }
    Offload { needs_checksum: true, checksum_start: packet.header_len, checksum_offset, ..Offload::default() }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use uvs_director::Frame;
    use uvs_wire::ipv4::header_checksum_ok;

    use super::*;
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);

    fn decapsulate<'p>(outer: &'p mut [u8], vips: &[Ipv4Addr]) -> Result<&'p [u8], Drop> {
        let vips: Vec<IpAddr> = vips.iter().copied().map(IpAddr::V4).collect();
        let (inner, congestion) = behind_ipv4(outer)?;
        unpack(inner, congestion, &vips)
    }

    /// An IPv6 packet with this traffic class.
    fn packet_v6(class: u8, dst: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60 | class >> 4;
        bytes[1] = class << 4;
        bytes[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        (bytes[6], bytes[7]) = (17, 64);
        bytes[24..].copy_from_slice(&dst.octets());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// A header with a right checksum in front of `payload`.
    fn packet(tos: u8, protocol: u8, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[0] = 0x45;
        bytes[1] = tos;
        bytes[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
        bytes[8] = 64;
        bytes[9] = protocol;
        bytes[12..16].copy_from_slice(&[10, 0, 0, 2]);
        bytes[16..20].copy_from_slice(&dst.octets());
        uvs_wire::ipv4::fill_checksum(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn tunnelled(outer_tos: u8, inner: &[u8]) -> Vec<u8> {
        packet(outer_tos, 4, Ipv4Addr::new(10, 1, 0, 11), inner)
    }

    #[test]
    fn packets_for_a_vip_come_out_as_they_went_in() {
        let inner = packet(0, 17, VIP, b"hello");
        assert_eq!(decapsulate(&mut tunnelled(0, &inner), &[VIP]), Ok(inner.as_slice()));
        let mut padded = inner.clone();
        padded.extend_from_slice(&[0; 7]);
        assert_eq!(decapsulate(&mut tunnelled(0, &padded), &[VIP]), Ok(inner.as_slice()), "padding is cut");
    }

    #[test]
    fn a_checksum_that_was_left_to_the_receiver_is_known_by_its_sum() {
        let datagram = |checksum: u16| {
            let mut bytes = vec![0, 7, 0, 9, 0, 12, 0, 0, b'd', b'a', b't', b'a'];
            bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
            packet(0, 17, VIP, &bytes)
        };
        let whole = datagram(0);
        let parsed = Packet::parse(&whole).unwrap();
        let partial = pseudo_header(parsed.src, parsed.dst, 17, 12).fold();
        let complete = parsed.transport_sum(&whole).finish();
        let left = left_to_the_receiver(&datagram(partial));
        assert_eq!((left.needs_checksum, left.checksum_start, left.checksum_offset), (true, 20, 6));
        let mut frame = Frame::from_bytes(&datagram(partial));
        frame.offload = left;
        frame.complete_checksum();
        assert_eq!(frame.bytes(), datagram(complete), "what is completed is right");
        for (bytes, why) in [(datagram(complete), "complete"), (datagram(0), "none"), (datagram(1), "wrong")]
        {
            assert_eq!(left_to_the_receiver(&bytes), Offload::default(), "{why}");
        }
    }

    #[test]
    fn everything_else_is_dropped() {
        let inner = packet(0, 17, VIP, b"hello");
        let other = packet(0, 17, Ipv4Addr::new(10, 0, 0, 1), b"hello");
        let mut version_6 = inner.clone();
        version_6[0] = 0x75;
        let mut too_long = inner.clone();
        too_long[3] += 1;
        let mut too_short = inner.clone();
        too_short[3] = 19;
        let cases: [(&[u8], Drop, &str); 6] = [
            (&other, Drop::NotForVip, "for another address of this host"),
            (&version_6, Drop::Malformed, "no IP at all"),
            (&too_long, Drop::Malformed, "longer than the outer packet"),
            (&too_short, Drop::Malformed, "shorter than its header"),
            (&inner[..19], Drop::Malformed, "cut in the header"),
            (&[], Drop::Malformed, "nothing inside"),
        ];
        for (inner, want, why) in cases {
            assert_eq!(decapsulate(&mut tunnelled(0, inner), &[VIP]), Err(want), "{why}");
        }
        assert_eq!(decapsulate(&mut [0x45; 12], &[VIP]), Err(Drop::Malformed), "cut outer header");
    }

    #[test]
    fn congestion_in_the_tunnel_reaches_the_inner_packet() {
        // (inner ECN, outer ECN, inner ECN afterwards): RFC 6040, figure 4, as far as CE goes.
        let cases = [
            (0b00, 0b00, Ok(0b00)),
            (0b00, 0b11, Err(Drop::Congested)),
            (0b10, 0b11, Ok(0b11)),
            (0b01, 0b11, Ok(0b11)),
            (0b11, 0b11, Ok(0b11)),
            (0b10, 0b10, Ok(0b10)),
        ];
        for (inner, outer, want) in cases {
            let mut bytes = tunnelled(outer, &packet(0x20 | inner, 6, VIP, b"data"));
            let got = decapsulate(&mut bytes, &[VIP]).map(|inner| {
                assert!(header_checksum_ok(&inner[..20]), "the checksum follows");
                assert_eq!(inner[1] & !ECN, 0x20, "DSCP stays");
                inner[1] & ECN
            });
            assert_eq!(got, want, "inner {inner:02b}, outer {outer:02b}");
        }
    }

    #[test]
    fn ipv6_inside_is_checked_and_marked_alike() {
        type Case<'p> = (&'p [u8], u8, Result<&'p [u8], Drop>, &'static str);
        let inner = packet_v6(0x20, VIP_V6, b"hello");
        let mut padded = inner.clone();
        padded.extend_from_slice(&[0; 7]);
        let mut too_long = inner.clone();
        too_long[5] += 1;
        let other = packet_v6(0, Ipv6Addr::LOCALHOST, b"hello");
        let marked = packet_v6(0x23, VIP_V6, b"hello");
        let capable = packet_v6(0x22, VIP_V6, b"hello");
        let cases: [Case<'_>; 8] = [
            (&inner, 0, Ok(&inner), "for a VIP"),
            (&padded, 0, Ok(&inner), "padding is cut"),
            (&too_long, 0, Err(Drop::Malformed), "longer than the outer packet"),
            (&inner[..39], 0, Err(Drop::Malformed), "cut in the header"),
            (&other, 0, Err(Drop::NotForVip), "for another address"),
            (&capable, 3, Ok(&marked), "congestion is told"),
            (&inner, 3, Err(Drop::Congested), "nobody to tell it to"),
            (&capable, 2, Ok(&capable), "no congestion"),
        ];
        for (bytes, congestion, want, why) in cases {
            assert_eq!(unpack(&mut bytes.to_vec(), congestion, &[VIP_V6.into()]), want, "{why}");
        }
        let mut outer = tunnelled(0, &inner);
        let (inside, congestion) = behind_ipv4(&mut outer).unwrap();
        assert_eq!(unpack(inside, congestion, &[VIP_V6.into()]), Ok(inner.as_slice()), "IPv6 in IPv4");
    }
}
