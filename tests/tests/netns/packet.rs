//! Frames made by hand, with right checksums unless a test breaks them.

use std::net::Ipv4Addr;

use uvs_director::spec::MacAddr;
use uvs_wire::arp::{ArpRepr, LEN, Operation};
use uvs_wire::ethernet::{self, ETHERTYPE_ARP, HEADER_LEN};

/// An Ethernet frame.
pub(crate) fn frame(to: MacAddr, from: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    ethernet::write(&mut bytes, to.0, from.0, ethertype);
    bytes.extend_from_slice(payload);
    bytes
}

/// A frame that asks who has `target`.
pub(crate) fn arp_request(to: MacAddr, from: (MacAddr, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    arp(Operation::Request, to, from, (MacAddr([0; 6]), target))
}

/// A frame that says: `from` is here.
pub(crate) fn arp_reply(from: (MacAddr, Ipv4Addr), to: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    arp(Operation::Reply, to.0, from, to)
}

fn arp(operation: Operation, to: MacAddr, from: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let repr = ArpRepr {
        operation,
        sender_mac: from.0.0,
        sender_ip: from.1,
        target_mac: target.0.0,
        target_ip: target.1,
    };
    let mut bytes = [0; LEN];
    repr.emit(&mut bytes);
    frame(to, from.0, ETHERTYPE_ARP, &bytes)
}

/// The ARP message in a frame, if there is one.
pub(crate) fn arp_in(frame: &[u8]) -> Option<ArpRepr> {
    if frame.len() < HEADER_LEN || ethernet::ethertype(frame) != ETHERTYPE_ARP {
        return None;
    }
    ArpRepr::parse(&frame[HEADER_LEN..]).ok()
}

/// An IPv4 packet with a right header checksum.
pub(crate) fn ipv4(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0];
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A UDP datagram without a checksum.
pub(crate) fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut bytes: Vec<u8> = [src, dst, length, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    bytes.extend_from_slice(payload);
    bytes
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
