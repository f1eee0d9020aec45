//! NAT of a packet that stands in a frame: addresses, ports and checksums.

use uvs_wire::rewrite::{self, L4Sum};
use uvs_wire::{Address, Packet};

use crate::base::frame::Frame;
use crate::base::spec::Protocol;

/// Makes a request one to its destination.
#[inline(always)]
pub(crate) fn destination(frame: &mut Frame, packet: &mut Packet, addr: Address, port: u16) {
    let sum = sum_of(frame, packet);
    rewrite::destination(frame.bytes_mut(), packet, addr, port, sum);
    if packet.protocol == Protocol::Udp.number() {
        add_missing_checksum(frame, packet);
    }
}

/// Makes a destination's reply one from the virtual address.
#[inline(always)]
pub(crate) fn source(frame: &mut Frame, packet: &mut Packet, addr: Address, port: u16) {
    let sum = sum_of(frame, packet);
    rewrite::source(frame.bytes_mut(), packet, addr, port, sum);
    if packet.protocol == Protocol::Udp.number() {
        add_missing_checksum(frame, packet);
    }
}

/// Makes a translated request what it was when its client sent it.
pub(crate) fn back(frame: &mut Frame, packet: &mut Packet, addr: Address, port: u16) {
    let sum = sum_of(frame, packet);
    rewrite::destination(frame.bytes_mut(), packet, addr, port, sum);
}

/// What the L4 checksum field of a packet holds. (Of a packet in a packet the inner one's may be what is partial.)
#[inline]
fn sum_of(frame: &Frame, packet: &Packet) -> L4Sum {
    let offload = &frame.offload;
    if offload.needs_checksum && offload.checksum_start == packet.header_len {
        L4Sum::Partial
    } else {
        L4Sum::Complete
    }
}

/// Computes the checksum of a translated UDP packet that came without one, as the recorded kernel does.
#[inline(never)]
fn add_missing_checksum(frame: &mut Frame, packet: &Packet) {
    let at = usize::from(packet.header_len) + 6;
    if !packet.has_ports() || frame.offload.needs_checksum || frame.bytes()[at..at + 2] != [0, 0] {
        return;
    }
    let sum = match packet.transport_sum(frame.bytes()).finish() {
        0 => 0xffff,
        sum => sum,
    };
    frame.bytes_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
