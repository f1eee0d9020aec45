//! TCP header (RFC 9293).
//!
//! ```text
//! 0               1               2               3               4
//! +-------------------------------+-------------------------------+
//! |          source port          |       destination port        |  0
//! +-------------------------------+-------------------------------+
//! |                        sequence number                        |  4
//! +---------------------------------------------------------------+
//! |                     acknowledgment number                     |  8
//! +-------+-------+---------------+-------------------------------+
//! |offset |       |CEUA PRSF flags|            window             | 12
//! +-------+-------+---------------+-------------------------------+
//! |           checksum            |        urgent pointer         | 16
//! +-------------------------------+-------------------------------+
//! |                    options, to offset * 4                     | 20
//! ```

use crate::checksum::{self, pseudo_header};
use crate::field::{get16, get32, put16, put32};
use crate::ipv4::{self, Ipv4Repr};
use crate::ipv6::{self, Ipv6Repr};
use crate::{Packet, ParseError, protocol};

/// Protocol number.
pub const PROTOCOL: u8 = protocol::TCP;
/// Length of the header without options.
pub const HEADER_LEN: usize = protocol::TCP_HEADER_LEN;
/// The sender has no more to send.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgment number counts.
pub const ACK: u8 = 0x10;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;
/// ECN echo (RFC 3168).
pub const ECE: u8 = 0x40;
/// Congestion window reduced (RFC 3168).
pub const CWR: u8 = 0x80;

/// The bits of the type of service that belong to ECN (RFC 3168).
const ECN: u8 = 0x03;

/// Where the fields are.
pub(crate) mod at {
    pub(crate) const SEQ: usize = 4;
    pub(crate) const ACK: usize = 8;
    pub(crate) const OFFSET: usize = 12;
    pub(crate) const FLAGS: usize = 13;
    pub(crate) const CHECKSUM: usize = 16;
}

/// A view of a TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    bytes: &'a [u8],
    header_len: usize,
}

impl<'a> TcpSegment<'a> {
    /// Views the segment, header and payload.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 20 bytes, [`ParseError::Malformed`] for a data offset below 5 or
    /// behind the end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        let header_len = usize::from(bytes[at::OFFSET] >> 4) * 4;
        if header_len < HEADER_LEN || header_len > bytes.len() {
            return Err(ParseError::Malformed);
        }
        Ok(Self { bytes, header_len })
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        get16(self.bytes, 0)
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        get16(self.bytes, 2)
    }

    /// Sequence number of the first byte.
    pub fn seq(&self) -> u32 {
        get32(self.bytes, at::SEQ)
    }

    /// Acknowledgment number, if the flag [`ACK`] is set.
    pub fn ack(&self) -> u32 {
        get32(self.bytes, at::ACK)
    }

    /// Length of the header in bytes, options included (the data offset).
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// The flags.
    pub const fn flags(&self) -> u8 {
        self.bytes[at::FLAGS]
    }

    /// The window as it stands, without scaling.
    pub fn window(&self) -> u16 {
        get16(self.bytes, 14)
    }

    /// The checksum as it stands.
    pub fn checksum(&self) -> u16 {
        get16(self.bytes, at::CHECKSUM)
    }

    /// The options, padding included.
    pub fn options(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..self.header_len]
    }

    /// The data.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len..]
    }
}

/// Writes the whole IP packet that resets the connection `packet` speaks of (RFC 9293, 3.10.7.1), and
/// returns its length: 40 bytes for IPv4, 60 for IPv6.
///
/// If the packet acknowledges something, the reset takes its number from there; otherwise it acknowledges
/// all the packet occupies. Its type of service is the packet's without the ECN bits, as in Linux. Returns 0, having
/// written nothing, for what must not be answered: another reset, or a packet without a whole TCP header (a
/// fragment).
///
/// # Panics
/// If the buffer is shorter than the packet to write.
pub fn emit_reset(buffer: &mut [u8], ip: &[u8], packet: &Packet) -> usize {
    if packet.protocol != PROTOCOL || packet.is_fragment() || packet.tcp_flags & RST != 0 {
        return 0;
    }
    let Ok(segment) = TcpSegment::parse(packet.transport(ip)) else { return 0 };
    let (seq, ack, flags) = if segment.flags() & ACK != 0 {
        (segment.ack(), 0, RST)
    } else {
        let length = u32::try_from(segment.payload().len()).expect("an IP payload is at most 65535 bytes");
        let occupied = length + u32::from(segment.flags() & SYN != 0) + u32::from(segment.flags() & FIN != 0);
        (0, segment.seq().wrapping_add(occupied), RST | ACK)
    };
    let start = match (packet.dst.to_v4(), packet.src.to_v4()) {
        (Some(src), Some(dst)) => {
            let header = Ipv4Repr {
                src,
                dst,
                protocol: PROTOCOL,
                ttl: 64,
                tos: packet.tos & !ECN,
                id: 0,
                dont_fragment: true,
                payload_len: 20,
            };
            header.emit(buffer);
            ipv4::HEADER_LEN
        }
        _ => {
            let header = Ipv6Repr {
                src: packet.dst.to_v6(),
                dst: packet.src.to_v6(),
                next_header: PROTOCOL,
                hop_limit: 64,
                traffic_class: packet.tos & !ECN,
                payload_len: 20,
            };
            header.emit(buffer);
            ipv6::HEADER_LEN
        }
    };
    let reset = &mut buffer[start..start + HEADER_LEN];
    reset.fill(0);
    put16(reset, 0, packet.dst_port);
    put16(reset, 2, packet.src_port);
    put32(reset, at::SEQ, seq);
    put32(reset, at::ACK, ack);
    reset[at::OFFSET] = 5 << 4;
    reset[at::FLAGS] = flags;
    let pseudo = pseudo_header(packet.dst, packet.src, PROTOCOL, 20);
    let sum = checksum::Sum::new().add_bytes(reset).add(pseudo).finish();
    put16(reset, at::CHECKSUM, sum);
    start + HEADER_LEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Shape, Upper, naive_checksum, naive_pseudo_header, plain};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn segment(seq: u32, ack: u32, flags: u8) -> Upper {
        Upper::Tcp { seq, ack, flags, options: std::vec![2, 4, 5, 0xb4] }
    }

    #[test]
    fn a_reset_is_acceptable_to_its_receiver() {
        type Case = (u8, &'static [u8], u32, u32, u8, &'static str);
        let cases: [Case; 7] = [
            (SYN, b"", 0, 1001, RST | ACK, "a SYN occupies a number"),
            (FIN, b"", 0, 1001, RST | ACK, "a FIN as well"),
            (SYN | FIN, b"abc", 0, 1005, RST | ACK, "SYN, FIN and data"),
            (0, b"abc", 0, 1003, RST | ACK, "data alone"),
            (ACK, b"", 77, 0, RST, "an acknowledgment tells the number"),
            (SYN | ACK, b"", 77, 0, RST, "in a SYN too"),
            (ACK | PSH | FIN, b"abc", 77, 0, RST, "and with data"),
        ];
        for (flags, payload, seq, ack, reset_flags, why) in cases {
            for v4 in [true, false] {
                let mut shape = plain(v4, segment(1000, 77, flags), payload);
                shape.tos = 0x2b;
                let ip = shape.build();
                let packet = Packet::parse(&ip).unwrap();
                let mut buffer = [0xaa; 64];
                let length = emit_reset(&mut buffer, &ip, &packet);
                assert_eq!(length, if v4 { 40 } else { 60 }, "{why}");
                let reset = Packet::parse(&buffer[..length]).unwrap();
                assert_eq!((reset.src, reset.dst), (packet.dst, packet.src), "{why}");
                assert_eq!((reset.src_port, reset.dst_port), (packet.dst_port, packet.src_port), "{why}");
                assert_eq!((reset.ttl, reset.id, reset.dont_fragment), (64, 0, true), "{why}");
                assert_eq!(reset.tos, 0x28, "{why}");
                let tcp = TcpSegment::parse(reset.transport(&buffer)).unwrap();
                assert_eq!(
                    (tcp.seq(), tcp.ack(), tcp.flags(), tcp.window()),
                    (seq, ack, reset_flags, 0),
                    "{why}"
                );
                let mut covered = naive_pseudo_header(reset.src, reset.dst, PROTOCOL, 20);
                covered.extend(reset.transport(&buffer));
                assert_eq!(naive_checksum(&covered), 0, "{why}");
                assert!(!v4 || crate::ipv4::header_checksum_ok(&buffer), "{why}");
            }
        }
    }

    #[test]
    fn sequence_numbers_wrap() {
        let ip = plain(true, segment(u32::MAX, 0, SYN), b"ab").build();
        let mut buffer = [0; 40];
        assert_eq!(emit_reset(&mut buffer, &ip, &Packet::parse(&ip).unwrap()), 40);
        assert_eq!(TcpSegment::parse(&buffer[20..]).unwrap().ack(), 2);
    }

    #[test]
    fn what_must_not_be_reset_is_not() {
        let cases = [
            (plain(true, segment(1, 2, RST), b""), "a reset"),
            (plain(true, segment(1, 2, RST | ACK), b""), "a reset with ACK"),
            (plain(true, Upper::Udp { checksum: true }, b""), "UDP"),
            (Shape { fragment: Some((0, true)), ..plain(true, segment(1, 2, ACK), b"") }, "a first fragment"),
            (
                Shape { fragment: Some((8, false)), ..plain(true, segment(1, 2, ACK), b"") },
                "a later fragment",
            ),
        ];
        for (shape, why) in cases {
            let ip = shape.build();
            assert_eq!(emit_reset(&mut [0; 64], &ip, &Packet::parse(&ip).unwrap()), 0, "{why}");
        }
    }

    #[test]
    fn a_segment_must_hold_its_header() {
        let cases: [(usize, u8, Option<ParseError>, &str); 5] = [
            (19, 5, Some(ParseError::Truncated), "19 bytes"),
            (20, 4, Some(ParseError::Malformed), "offset 4"),
            (20, 6, Some(ParseError::Malformed), "offset behind the end"),
            (20, 5, None, "no options"),
            (24, 6, None, "options"),
        ];
        for (length, offset, want, why) in cases {
            let mut bytes: Vec<u8> = std::vec![0; length];
            bytes[12] = offset << 4;
            assert_eq!(TcpSegment::parse(&bytes).err(), want, "{why}");
        }
    }

    proptest! {
        #[test]
        fn the_view_reads_what_was_built(
            numbers: (u32, u32, u8), options: [u8; 8], payload in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let (seq, ack, flags) = numbers;
            let upper = Upper::Tcp { seq, ack, flags, options: options.to_vec() };
            let shape = plain(false, upper, &payload);
            let bytes = shape.build();
            let tcp = TcpSegment::parse(&bytes[40..]).unwrap();
            prop_assert_eq!((tcp.src_port(), tcp.dst_port()), shape.ports);
            prop_assert_eq!((tcp.seq(), tcp.ack(), tcp.flags(), tcp.window()), (seq, ack, flags, 0x1234));
            prop_assert_eq!(tcp.header_len(), 28);
            prop_assert_eq!(tcp.options(), &options);
            prop_assert_eq!(tcp.payload(), &payload);
            prop_assert_eq!(tcp.checksum(), get16(&bytes, 40 + at::CHECKSUM));
        }
    }
}
