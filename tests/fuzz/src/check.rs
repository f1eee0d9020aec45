//! Checksums by the plainest sum there is, to judge those of uvs-wire.

use uvs_wire::{Packet, checksum, icmp, sctp, tcp, udp};

/// The ones' complement sum of the bytes as 16-bit words; an odd last byte is padded with 0.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) * 256 + u64::from(pair.get(1).copied().unwrap_or(0))).sum()
}

/// Folds a sum to 16 bits.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).expect("it was folded")
}

/// Whether the checksum of an IPv4 header is right.
pub(crate) fn header_ok(ip: &[u8]) -> bool {
    fold(sum(&ip[..usize::from(ip[0] & 0xf) * 4])) == 0xffff
}

/// The sum of the pseudo-header.
pub(crate) fn pseudo(packet: &Packet, length: usize) -> u64 {
    let octets = |address: uvs_wire::Address| match address.to_v4() {
        Some(v4) => sum(&v4.octets()),
        None => sum(&address.octets()),
    };
    octets(packet.src) + octets(packet.dst) + u64::from(packet.protocol) + length as u64
}

/// The transport's bytes that a checksum covers.
pub(crate) fn covered<'a>(ip: &'a [u8], packet: &Packet) -> &'a [u8] {
    let transport = packet.transport(ip);
    if packet.protocol == udp::PROTOCOL && packet.has_ports() {
        let length = usize::from(u16::from_be_bytes([transport[4], transport[5]]));
        return &transport[..length];
    }
    transport
}

/// Where the checksum is in the transport header, for whole packets of the protocols that have one.
pub(crate) fn field(packet: &Packet) -> Option<usize> {
    if packet.is_fragment() {
        return None;
    }
    match packet.protocol {
        tcp::PROTOCOL => Some(16),
        udp::PROTOCOL => Some(6),
        sctp::PROTOCOL => Some(8),
        icmp::PROTOCOL_V4 if packet.is_v4() => Some(2),
        icmp::PROTOCOL_V6 if !packet.is_v4() => Some(2),
        _ => None,
    }
}

/// Whether the transport checksum of a whole packet is right; `None` if it has none.
pub(crate) fn transport_ok(ip: &[u8], packet: &Packet) -> Option<bool> {
    let at = field(packet)?;
    let covered = covered(ip, packet);
    match packet.protocol {
        sctp::PROTOCOL => {
            let stored = u32::from_le_bytes([covered[8], covered[9], covered[10], covered[11]]);
            let zeroed = [&covered[..8], &[0; 4], &covered[12..]].concat();
            Some(stored == checksum::crc32c(&zeroed))
        }
        udp::PROTOCOL if covered[at..at + 2] == [0, 0] => None,
        icmp::PROTOCOL_V4 => Some(fold(sum(covered)) == 0xffff),
        _ => Some(fold(sum(covered) + pseudo(packet, covered.len())) == 0xffff),
    }
}
