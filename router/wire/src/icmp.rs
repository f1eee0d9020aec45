//! ICMP (RFC 792) and ICMPv6 (RFC 4443).
//!
//! ```text
//! 0       1       2               4                               8
//! +-------+-------+---------------+-------------------------------+--------
//! | type  | code  |   checksum    | rest: unused, MTU, id and seq | payload: of an error, the
//! +-------+-------+---------------+-------------------------------+ packet it is about
//! ```
//!
//! The checksum of ICMPv6 covers the pseudo-header, that of ICMP does not.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::{Edit, Sum, pseudo_header};
use crate::field::{get16, get32, length16, put16, put32};
use crate::ipv4::{self, Ipv4Repr};
use crate::ipv6::{self, Ipv6Repr};
use crate::{Address, Packet, ParseError, protocol};

/// Protocol number of ICMP.
pub const PROTOCOL_V4: u8 = protocol::ICMP;
/// Protocol number of ICMPv6.
pub const PROTOCOL_V6: u8 = protocol::ICMPV6;
/// Length of the header that all messages share here.
pub const HEADER_LEN: usize = protocol::ICMP_HEADER_LEN;
/// An ICMP error, IP header included, is at most this long (RFC 1812, 4.3.2.3).
pub const MAX_ERROR_V4: usize = 576;
/// An ICMPv6 error, IP header included, is at most this long (RFC 4443, 2.4).
pub const MAX_ERROR_V6: usize = ipv6::MIN_MTU;

/// Where the checksum is.
pub(crate) const CHECKSUM: usize = 2;

/// Types of ICMP, and codes of its errors.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Source quench (deprecated by RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// Code of destination unreachable: no route.
    pub const NET_UNREACHABLE: u8 = 0;
    /// Code of destination unreachable: the host does not answer.
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Code of destination unreachable: no such protocol.
    pub const PROTOCOL_UNREACHABLE: u8 = 2;
    /// Code of destination unreachable: nobody listens.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Code of destination unreachable: too big and must not be fragmented (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Code of destination unreachable: administratively prohibited (RFC 1812).
    pub const PROHIBITED: u8 = 13;
    /// Code of time exceeded: TTL ran out.
    pub const TTL_EXCEEDED: u8 = 0;
    /// Code of time exceeded: fragments are missing.
    pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;
}

/// Types of ICMPv6, and codes of its errors.
pub mod v6 {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation (RFC 4861).
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861).
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;

    /// Code of destination unreachable: no route.
    pub const NO_ROUTE: u8 = 0;
    /// Code of destination unreachable: administratively prohibited.
    pub const PROHIBITED: u8 = 1;
    /// Code of destination unreachable: a link-local source wants to another link.
    pub const BEYOND_SCOPE: u8 = 2;
    /// Code of destination unreachable: the host does not answer.
    pub const ADDRESS_UNREACHABLE: u8 = 3;
    /// Code of destination unreachable: nobody listens.
    pub const PORT_UNREACHABLE: u8 = 4;
    /// Code of parameter problem: a header field is wrong.
    pub const ERRONEOUS_FIELD: u8 = 0;
    /// Code of parameter problem: a next header nobody knows.
    pub const UNKNOWN_NEXT_HEADER: u8 = 1;
    /// Code of time exceeded: the hop limit ran out.
    pub const HOP_LIMIT_EXCEEDED: u8 = 0;
    /// Code of time exceeded: fragments are missing.
    pub const REASSEMBLY_TIME_EXCEEDED: u8 = 1;
}

/// A view of a message of either protocol.
#[derive(Clone, Copy, Debug)]
pub struct IcmpMessage<'a> {
    bytes: &'a [u8],
}

impl<'a> IcmpMessage<'a> {
    /// Views the message.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 8 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() < HEADER_LEN { Err(ParseError::Truncated) } else { Ok(Self { bytes }) }
    }

    /// The type, of [`v4`] or [`v6`] by the protocol.
    pub const fn kind(&self) -> u8 {
        self.bytes[0]
    }

    /// The code.
    pub const fn code(&self) -> u8 {
        self.bytes[1]
    }

    /// The checksum as it stands.
    pub fn checksum(&self) -> u16 {
        get16(self.bytes, CHECKSUM)
    }

    /// The second word of the header. In fragmentation needed its low half is the MTU, in packet too big all
    /// of it is.
    pub fn rest(&self) -> u32 {
        get32(self.bytes, 4)
    }

    /// Identifier of an echo.
    pub fn echo_id(&self) -> u16 {
        get16(self.bytes, 4)
    }

    /// What follows the header: in an error, the packet it is about, usually cut off.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

/// Whether this type of message is an error, which quotes a packet. False for protocols that are not ICMP.
pub const fn is_error(protocol: u8, kind: u8) -> bool {
    match protocol {
        PROTOCOL_V4 => matches!(
            kind,
            v4::DESTINATION_UNREACHABLE
                | v4::SOURCE_QUENCH
                | v4::REDIRECT
                | v4::TIME_EXCEEDED
                | v4::PARAMETER_PROBLEM
        ),
        PROTOCOL_V6 => kind < 128,
        _ => false,
    }
}

/// Whether the checksum of an unfragmented ICMP or ICMPv6 packet is right. `packet` must be what `ip` was
/// parsed to.
pub fn checksum_ok(ip: &[u8], packet: &Packet) -> bool {
    packet.transport_sum(ip).finish() == 0
}

/// Computes the checksum of an unfragmented ICMP or ICMPv6 packet anew. `packet` must be what `ip` was parsed
/// to.
///
/// # Panics
/// If there is no ICMP header behind the IP header.
pub fn fill_checksum(ip: &mut [u8], packet: &Packet) {
    let field = usize::from(packet.header_len) + CHECKSUM;
    put16(ip, field, 0);
    let checksum = packet.transport_sum(ip).finish();
    put16(ip, field, checksum);
}

/// Writes the whole IPv4 packet of an ICMP error and returns its length, at most [`MAX_ERROR_V4`].
///
/// `quoted` is the packet it is about, from its IP header on and without Ethernet padding; what does not fit
/// is left out. `rest` is the second word of the ICMP header: the MTU, for
/// [`FRAGMENTATION_NEEDED`](v4::FRAGMENTATION_NEEDED). TTL is 64. TOS has the
/// precedence 6 (RFC 1812, 4.3.2.5) and, as in Linux, the type of service of the quoted packet.
///
/// # Panics
/// If the buffer is shorter than the packet to write.
#[expect(clippy::too_many_arguments, reason = "one call per field reads better than a struct used once")]
pub fn emit_error_v4(
    buffer: &mut [u8],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    kind: u8,
    code: u8,
    rest: u32,
    id: u16,
    quoted: &[u8],
) -> usize {
    let quoted = &quoted[..quoted.len().min(MAX_ERROR_V4 - ipv4::HEADER_LEN - HEADER_LEN)];
    let length = HEADER_LEN + quoted.len();
    let header = Ipv4Repr {
        src,
        dst,
        protocol: PROTOCOL_V4,
        ttl: 64,
        tos: 0xc0 | quoted.get(1).map_or(0, |tos| tos & 0x1e),
        id,
        dont_fragment: false,
        payload_len: length16(length),
    };
    header.emit(buffer);
    let message = &mut buffer[ipv4::HEADER_LEN..ipv4::HEADER_LEN + length];
    emit_message(message, kind, code, rest, quoted, Sum::new());
    ipv4::HEADER_LEN + length
}

/// Writes the whole IPv6 packet of an ICMPv6 error and returns its length, at most [`MAX_ERROR_V6`].
///
/// `quoted` and `rest` are as in [`emit_error_v4`]; the MTU of [`PACKET_TOO_BIG`](v6::PACKET_TOO_BIG) takes all
/// of `rest`. `hop_limit` is usually 64.
///
/// # Panics
/// If the buffer is shorter than the packet to write.
#[expect(clippy::too_many_arguments, reason = "one call per field reads better than a struct used once")]
pub fn emit_error_v6(
    buffer: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: u8,
    code: u8,
    rest: u32,
    hop_limit: u8,
    quoted: &[u8],
) -> usize {
    let quoted = &quoted[..quoted.len().min(MAX_ERROR_V6 - ipv6::HEADER_LEN - HEADER_LEN)];
    let length = length16(HEADER_LEN + quoted.len());
    let header =
        Ipv6Repr { src, dst, next_header: PROTOCOL_V6, hop_limit, traffic_class: 0, payload_len: length };
    header.emit(buffer);
    let end = ipv6::HEADER_LEN + usize::from(length);
    let pseudo = pseudo_header(Address::v6(src), Address::v6(dst), PROTOCOL_V6, u32::from(length));
    emit_message(&mut buffer[ipv6::HEADER_LEN..end], kind, code, rest, quoted, pseudo);
    end
}

/// Writes a message that fills `message`, with its checksum.
pub(crate) fn emit_message(message: &mut [u8], kind: u8, code: u8, rest: u32, payload: &[u8], pseudo: Sum) {
    message[0] = kind;
    message[1] = code;
    put16(message, CHECKSUM, 0);
    put32(message, 4, rest);
    message[HEADER_LEN..].copy_from_slice(payload);
    let checksum = Sum::new().add_bytes(message).add(pseudo).finish();
    put16(message, CHECKSUM, checksum);
}

/// Turns an echo request into its reply: addresses swapped, type changed, TTL 64, fragmentation allowed (what came
/// may be larger than what the way back takes). Checksums follow the edit,
/// so damaged data stay detectable.
///
/// Returns false, and changes nothing, for what is not an unfragmented echo request. `packet` must be
/// what `ip` was parsed to, and no longer describes it afterwards.
pub fn reply_echo_in_place(ip: &mut [u8], packet: &Packet) -> bool {
    let start = usize::from(packet.header_len);
    let (request, reply) = match packet.protocol {
        PROTOCOL_V4 if packet.is_v4() => (v4::ECHO_REQUEST, v4::ECHO_REPLY),
        PROTOCOL_V6 if !packet.is_v4() => (v6::ECHO_REQUEST, v6::ECHO_REPLY),
        _ => return false,
    };
    if packet.is_fragment() || ip[start] != request {
        return false;
    }
    if packet.is_v4() {
        let (src, dst) = ip[ipv4::at::SRC..ipv4::HEADER_LEN].split_at_mut(4);
        src.swap_with_slice(dst);
        let (old, flags) = (get16(ip, ipv4::at::TTL), get16(ip, ipv4::at::FRAGMENT));
        ip[ipv4::at::TTL] = 64;
        put16(ip, ipv4::at::FRAGMENT, flags & !ipv4::DONT_FRAGMENT);
        let edit = Edit::new().word(old, get16(ip, ipv4::at::TTL)).word(flags, get16(ip, ipv4::at::FRAGMENT));
        let checksum = edit.apply(get16(ip, ipv4::at::CHECKSUM));
        put16(ip, ipv4::at::CHECKSUM, checksum);
    } else {
        let (src, dst) = ip[ipv6::at::SRC..ipv6::HEADER_LEN].split_at_mut(16);
        src.swap_with_slice(dst);
        ip[ipv6::at::HOP_LIMIT] = 64;
    }
    let old = get16(ip, start);
    ip[start] = reply;
    let edit = Edit::new().word(old, get16(ip, start));
    let checksum = edit.apply(get16(ip, start + CHECKSUM));
    put16(ip, start + CHECKSUM, checksum);
    // Of nothing but zeros the checksum is 0xffff, of everything else that sums to it 0: an edit cannot tell them
    // apart, and an IPv4 echo without identifier, number and data ends here.
    if checksum == 0 && packet.is_v4() && packet.transport(ip).iter().all(|&byte| byte == 0) {
        put16(ip, start + CHECKSUM, 0xffff);
    }
    true
}

#[cfg(test)]
mod tests;
