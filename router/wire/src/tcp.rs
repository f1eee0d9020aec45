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
use crate::{Address, Packet, ParseError, protocol};

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
    let ends = [(packet.dst, packet.dst_port), (packet.src, packet.src_port)];
    emit_bare(buffer, &Bare { ends, seq, ack, flags, ttl: 64, tos: packet.tos & !ECN })
}

/// Writes the whole IP packet that resets, in the name of its sender and in its place, the connection `packet` belongs
/// to, and returns its length: 40 bytes for IPv4, 60 for IPv6.
///
/// Its number is that of the packet, which is just what the receiver waits for where nothing got lost (RFC 5961, 3.2);
/// so is its time to live. Returns 0, having written nothing, for a packet that acknowledges nothing, for another reset
/// and where there is no whole TCP header.
///
/// # Panics
/// If the buffer is shorter than the packet to write.
pub fn emit_reset_onward(buffer: &mut [u8], ip: &[u8], packet: &Packet) -> usize {
    if packet.protocol != PROTOCOL || packet.is_fragment() || packet.tcp_flags & (RST | ACK) != ACK {
        return 0;
    }
    let Ok(segment) = TcpSegment::parse(packet.transport(ip)) else { return 0 };
    let ends = [(packet.src, packet.src_port), (packet.dst, packet.dst_port)];
    let (seq, ack) = (segment.seq(), segment.ack());
    emit_bare(buffer, &Bare { ends, seq, ack, flags: RST | ACK, ttl: packet.ttl, tos: packet.tos & !ECN })
}

/// Writes the whole IP packet of an acknowledgment without data or window, from the first end to the second, and
/// returns its length: 40 bytes for IPv4, 60 for IPv6. Who has a connection between these ends answers a number that he
/// does not expect with those that he does (RFC 9293, 3.10.7.4).
///
/// # Panics
/// If the buffer is shorter than the packet to write.
pub fn emit_ack(buffer: &mut [u8], ends: [(Address, u16); 2], seq: u32, ack: u32) -> usize {
    emit_bare(buffer, &Bare { ends, seq, ack, flags: ACK, ttl: 64, tos: 0 })
}

/// A segment without options and data.
struct Bare {
    ends: [(Address, u16); 2],
    seq: u32,
    ack: u32,
    flags: u8,
    ttl: u8,
    tos: u8,
}

fn emit_bare(buffer: &mut [u8], bare: &Bare) -> usize {
    let [from, to] = bare.ends;
    let start = match (from.0.to_v4(), to.0.to_v4()) {
        (Some(src), Some(dst)) => {
            let header = Ipv4Repr {
                src,
                dst,
                protocol: PROTOCOL,
                ttl: bare.ttl,
                tos: bare.tos,
                id: 0,
                dont_fragment: true,
                payload_len: 20,
            };
            header.emit(buffer);
            ipv4::HEADER_LEN
        }
        _ => {
            let header = Ipv6Repr {
                src: from.0.to_v6(),
                dst: to.0.to_v6(),
                next_header: PROTOCOL,
                hop_limit: bare.ttl,
                traffic_class: bare.tos,
                payload_len: 20,
            };
            header.emit(buffer);
            ipv6::HEADER_LEN
        }
    };
    let segment = &mut buffer[start..start + HEADER_LEN];
    segment.fill(0);
    put16(segment, 0, from.1);
    put16(segment, 2, to.1);
    put32(segment, at::SEQ, bare.seq);
    put32(segment, at::ACK, bare.ack);
    segment[at::OFFSET] = 5 << 4;
    segment[at::FLAGS] = bare.flags;
    let pseudo = pseudo_header(from.0, to.0, PROTOCOL, 20);
    let sum = checksum::Sum::new().add_bytes(segment).add(pseudo).finish();
    put16(segment, at::CHECKSUM, sum);
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
    fn a_reset_onward_has_the_number_that_its_receiver_waits_for() {
        for v4 in [true, false] {
            for (flags, payload) in [(ACK, &b""[..]), (ACK | PSH | FIN, b"abc"), (SYN | ACK, b"")] {
                let mut shape = plain(v4, segment(1000, 77, flags), payload);
                shape.tos = 0x2b;
                let ip = shape.build();
                let packet = Packet::parse(&ip).unwrap();
                let mut buffer = [0xaa; 64];
                let length = emit_reset_onward(&mut buffer, &ip, &packet);
                assert_eq!(length, if v4 { 40 } else { 60 });
                let reset = Packet::parse(&buffer[..length]).unwrap();
                assert_eq!((reset.src, reset.src_port), (packet.src, packet.src_port));
                assert_eq!((reset.dst, reset.dst_port), (packet.dst, packet.dst_port));
                assert_eq!((reset.ttl, reset.tos), (packet.ttl, 0x28));
                let tcp = TcpSegment::parse(reset.transport(&buffer)).unwrap();
                assert_eq!((tcp.seq(), tcp.ack(), tcp.flags()), (1000, 77, RST | ACK));
                assert_eq!(reset.transport_sum(&buffer[..length]).finish(), 0);
            }
            for flags in [SYN, RST, RST | ACK, FIN, 0] {
                let ip = plain(v4, segment(1000, 77, flags), b"").build();
                let mut buffer = [0xaa; 64];
                assert_eq!(emit_reset_onward(&mut buffer, &ip, &Packet::parse(&ip).unwrap()), 0);
                assert_eq!(buffer, [0xaa; 64], "nothing was written");
            }
            let ends = [("192.0.2.1", 80), ("192.0.2.2", 5000)];
            let ends = ends.map(|(addr, port)| {
                let addr: core::net::Ipv4Addr = addr.parse().unwrap();
                let addr = if v4 { Address::v4(addr) } else { Address::v6(addr.to_ipv6_compatible()) };
                (addr, port)
            });
            let mut buffer = [0xaa; 64];
            let length = emit_ack(&mut buffer, ends, 5, 6);
            let ack = Packet::parse(&buffer[..length]).unwrap();
            assert_eq!([(ack.src, ack.src_port), (ack.dst, ack.dst_port)], ends);
            let tcp = TcpSegment::parse(ack.transport(&buffer)).unwrap();
            assert_eq!((tcp.seq(), tcp.ack(), tcp.flags(), tcp.window()), (5, 6, ACK, 0));
            assert_eq!(ack.transport_sum(&buffer[..length]).finish(), 0);
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
