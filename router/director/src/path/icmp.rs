//! Which packets are ICMP.

use uvs_wire::{Packet, icmp};

/// Whether the packet is ICMP of its own IP version; that of the other is a protocol nobody knows.
#[inline]
pub(crate) fn is_icmp(packet: &Packet) -> bool {
    packet.protocol == if packet.is_v4() { icmp::PROTOCOL_V4 } else { icmp::PROTOCOL_V6 }
}
