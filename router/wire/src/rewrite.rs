//! Edits in place of packets that are forwarded. Checksums follow the edit, and so does [`Packet`].
//!
//! ```text
//! edit             IPv4 header  TCP, UDP        ICMPv6      SCTP        CRC or sum read again
//! address          edited       edited          edited      -           never
//! port             -            edited          -           edited      never
//! TTL              edited       -               -           -           never
//! in an ICMP error edited       left as it was              left        never
//! ```
//!
//! Every update is incremental (RFC 1624; for SCTP by the linearity of the CRC), so that a packet damaged on
//! its way to us is still seen to be damaged by its receiver.
//!
//! All functions take the bytes and the [`Packet`] parsed from them, and panic if they do not belong
//! together or an address is of the other family.

use crate::checksum::{self, Edit};
use crate::field::{array, get16, put16};
use crate::{Address, Packet, icmp, ipv4, ipv6, sctp, tcp, udp};

/// What the checksum field of TCP or UDP holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4Sum {
    /// The checksum.
    Complete,
    /// The uncomplemented sum of the pseudo-header; whoever sends the packet on a wire completes it (virtio's
    /// NEEDS_CSUM). Ports are not part of it. An SCTP checksum is not valid at all then.
    Partial,
}

/// Which end of the packet is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// Rewrites the source address, and the source port if the packet has ports.
#[inline(always)]
pub fn source(ip: &mut [u8], packet: &mut Packet, addr: Address, port: u16, sum: L4Sum) {
    if sum == L4Sum::Complete && rewrite_plain(ip, packet, End::Source, addr, port) {
        packet.src = addr;
        packet.src_port = port;
        return;
    }
    rewrite(ip, packet, End::Source, addr, port, sum);
    packet.src = addr;
    if packet.has_ports() {
        packet.src_port = port;
    }
}

/// Rewrites the destination address, and the destination port if the packet has ports.
#[inline(always)]
pub fn destination(ip: &mut [u8], packet: &mut Packet, addr: Address, port: u16, sum: L4Sum) {
    if sum == L4Sum::Complete && rewrite_plain(ip, packet, End::Destination, addr, port) {
        packet.dst = addr;
        packet.dst_port = port;
        return;
    }
    rewrite(ip, packet, End::Destination, addr, port, sum);
    packet.dst = addr;
    if packet.has_ports() {
        packet.dst_port = port;
    }
}

/// What [`rewrite`] does, to what nearly all packets are: whole TCP with a complete checksum, and neither options nor
/// extension headers in front, so that all fields stand where they always do. False, and nothing done: it is another.
#[inline(always)]
fn rewrite_plain(ip: &mut [u8], packet: &Packet, end: End, addr: Address, port: u16) -> bool {
    const V4: usize = ipv4::HEADER_LEN;
    const V6: usize = ipv6::HEADER_LEN;
    const TCP: usize = tcp::HEADER_LEN;
    if packet.protocol != tcp::PROTOCOL || packet.is_fragment() || addr.is_v4() != packet.is_v4() {
        return false;
    }
    let is_source = end == End::Source;
    let (old, old_port) =
        if is_source { (packet.src, packet.src_port) } else { (packet.dst, packet.dst_port) };
    let edit = Edit::new().address(old, addr);
    let port_at = if is_source { 0 } else { 2 };
    if usize::from(packet.header_len) == V4
        && let Some(bytes) = ip.first_chunk_mut::<{ V4 + TCP }>()
    {
        let at = if is_source { ipv4::at::SRC } else { ipv4::at::DST };
        bytes[at..at + 4].copy_from_slice(&addr.v4_octets());
        apply(bytes, ipv4::at::CHECKSUM, edit, L4Sum::Complete);
        put16(bytes, V4 + port_at, port);
        apply(bytes, V4 + tcp::at::CHECKSUM, edit.word(old_port, port), L4Sum::Complete);
        return true;
    }
    if usize::from(packet.header_len) == V6
        && !addr.is_v4()
        && let Some(bytes) = ip.first_chunk_mut::<{ V6 + TCP }>()
    {
        let at = if is_source { ipv6::at::SRC } else { ipv6::at::DST };
        bytes[at..at + 16].copy_from_slice(&addr.octets());
        put16(bytes, V6 + port_at, port);
        apply(bytes, V6 + tcp::at::CHECKSUM, edit.word(old_port, port), L4Sum::Complete);
        return true;
    }
    false
}

#[inline(never)]
fn rewrite(ip: &mut [u8], packet: &Packet, end: End, addr: Address, port: u16, sum: L4Sum) {
    let address = put_address(ip, packet, end, addr);
    let start = usize::from(packet.header_len);
    if packet.fragment_offset != 0 {
        return;
    }
    if !packet.has_ports() {
        let is_icmp_v6 = packet.protocol == icmp::PROTOCOL_V6 && !packet.is_v4();
        if is_icmp_v6 && packet.transport_len() >= icmp::CHECKSUM + 2 {
            apply(ip, start + icmp::CHECKSUM, address, sum);
        }
        return;
    }
    let at = start + if end == End::Source { 0 } else { 2 };
    let old = get16(ip, at);
    put16(ip, at, port);
    match packet.protocol {
        tcp::PROTOCOL => {
            let edit = if sum == L4Sum::Complete { address.word(old, port) } else { address };
            apply(ip, start + tcp::at::CHECKSUM, edit, sum);
        }
        udp::PROTOCOL => {
            let at = start + udp::at::CHECKSUM;
            if sum == L4Sum::Partial {
                apply(ip, at, address, sum);
                return;
            }
            // 0 means "not computed" and stays (RFC 768; for IPv6 RFC 6935).
            let checksum = get16(ip, at);
            if checksum != 0 {
                let checksum = address.word(old, port).apply(checksum);
                put16(ip, at, if checksum == 0 { 0xffff } else { checksum });
            }
        }
        // The CRC does not cover addresses. That of a fragment covers bytes that are not here: such a
        // packet has to be reassembled before its port is changed.
        _ => {
            if old != port && sum == L4Sum::Complete && !packet.is_fragment() {
                let after = packet.transport_len() - if end == End::Source { 2 } else { 4 };
                let crc = start + sctp::CHECKSUM;
                let stored = u32::from_le_bytes(array(ip, crc));
                let edited = checksum::crc32c_edit(stored, &old.to_be_bytes(), &port.to_be_bytes(), after);
                ip[crc..crc + 4].copy_from_slice(&edited.to_le_bytes());
            }
        }
    }
}

/// Writes an address and edits the IPv4 header checksum. Returns the difference to sums that cover the
/// address, which for IPv4 is that of a pseudo-header.
#[inline]
fn put_address(ip: &mut [u8], packet: &Packet, end: End, addr: Address) -> Edit {
    assert_eq!(addr.is_v4(), packet.is_v4(), "an address is replaced by one of its family");
    let old = if end == End::Source { packet.src } else { packet.dst };
    let edit = Edit::new().address(old, addr);
    if addr.is_v4() {
        let at = if end == End::Source { ipv4::at::SRC } else { ipv4::at::DST };
        ip[at..at + 4].copy_from_slice(&addr.v4_octets());
        apply(ip, ipv4::at::CHECKSUM, edit, L4Sum::Complete);
    } else {
        let at = if end == End::Source { ipv6::at::SRC } else { ipv6::at::DST };
        ip[at..at + 16].copy_from_slice(&addr.octets());
    }
    edit
}

#[inline]
fn apply(bytes: &mut [u8], at: usize, edit: Edit, sum: L4Sum) {
    let old = get16(bytes, at);
    let new = if sum == L4Sum::Complete { edit.apply(old) } else { edit.apply_partial(old) };
    put16(bytes, at, new);
}

/// Takes one from TTL or hop limit; at 0 it stays 0.
#[inline]
pub fn decrement_ttl(ip: &mut [u8], packet: &mut Packet) {
    let ttl = packet.ttl.saturating_sub(1);
    if packet.is_v4() {
        let header = ip.first_chunk_mut::<{ ipv4::HEADER_LEN }>().expect("an IPv4 packet has a header");
        let old = get16(header, ipv4::at::TTL);
        header[ipv4::at::TTL] = ttl;
        let edit = Edit::new().word(old, get16(header, ipv4::at::TTL));
        apply(header, ipv4::at::CHECKSUM, edit, L4Sum::Complete);
    } else {
        ip[ipv6::at::HOP_LIMIT] = ttl;
    }
    packet.ttl = ttl;
}

/// Turns a partial checksum into a complete one: what the sender's hardware would have done. For TCP, UDP and
/// SCTP packets that are no fragments; others are left alone.
pub fn complete_checksum(ip: &mut [u8], packet: &Packet) {
    if !packet.has_ports() || packet.is_fragment() {
        return;
    }
    let (start, end) = (usize::from(packet.header_len), packet.total_len as usize);
    match packet.protocol {
        tcp::PROTOCOL => checksum::complete(&mut ip[..end], start, tcp::at::CHECKSUM, false),
        udp::PROTOCOL => {
            let end = start + usize::from(get16(ip, start + udp::at::LENGTH));
            checksum::complete(&mut ip[..end], start, udp::at::CHECKSUM, true)
        }
        _ => {
            sctp::fill_checksum(&mut ip[start..end]);
            true
        }
    };
}

/// Rewrites the source of the packet that an ICMP error quotes; `inner` starts at its IP header, and `packet`
/// comes from [`Packet::parse_quoted`].
///
/// The inner IPv4 header checksum follows; the inner transport checksum does not, as in IPVS: whoever gets
/// the error reads ports and sequence numbers, and the quote is cut off anyway. The result is the difference
/// to the checksum of the ICMP message, for [`icmp_message`].
pub fn quoted_source(inner: &mut [u8], packet: &mut Packet, addr: Address, port: u16) -> Edit {
    let edit = rewrite_quoted(inner, packet, End::Source, addr, port);
    packet.src = addr;
    if has_quoted_ports(inner, packet) {
        packet.src_port = port;
    }
    edit
}

/// Rewrites the destination of the packet that an ICMP error quotes; see [`quoted_source`].
pub fn quoted_destination(inner: &mut [u8], packet: &mut Packet, addr: Address, port: u16) -> Edit {
    let edit = rewrite_quoted(inner, packet, End::Destination, addr, port);
    packet.dst = addr;
    if has_quoted_ports(inner, packet) {
        packet.dst_port = port;
    }
    edit
}

fn has_quoted_ports(inner: &[u8], packet: &Packet) -> bool {
    packet.has_ports() && inner.len() >= usize::from(packet.header_len) + 4
}

fn rewrite_quoted(inner: &mut [u8], packet: &Packet, end: End, addr: Address, port: u16) -> Edit {
    let old_checksum = if packet.is_v4() { get16(inner, ipv4::at::CHECKSUM) } else { 0 };
    let mut edit = put_address(inner, packet, end, addr);
    if packet.is_v4() {
        edit = edit.word(old_checksum, get16(inner, ipv4::at::CHECKSUM));
    }
    if has_quoted_ports(inner, packet) {
        let at = usize::from(packet.header_len) + if end == End::Source { 0 } else { 2 };
        edit = edit.word(get16(inner, at), port);
        put16(inner, at, port);
    }
    edit
}

/// Edits the checksum of an ICMP or ICMPv6 message after its payload has been edited, which
/// [`quoted_source`] and [`quoted_destination`] do. `ip` and `packet` are those of the message.
pub fn icmp_message(ip: &mut [u8], packet: &Packet, edit: Edit) {
    apply(ip, usize::from(packet.header_len) + icmp::CHECKSUM, edit, L4Sum::Complete);
}

#[cfg(test)]
mod tests;
