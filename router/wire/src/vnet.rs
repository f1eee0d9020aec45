//! The virtio-net header that TUN and TAP put in front of a frame (IFF_VNET_HDR; virtio 1.2, 5.1.6).
//!
//! ```text
//! 0       1       2               4               6               8              10
//! +-------+-------+---------------+---------------+---------------+---------------+
//! | flags |gso typ|    hdr len    |   gso size    |  csum start   |  csum offset  |
//! +-------+-------+---------------+---------------+---------------+---------------+
//! ```
//!
//! A TUN or TAP device speaks the byte order of the machine unless told otherwise (TUNSETVNETLE), so does
//! this module. Offsets count from the start of the frame behind the header: the Ethernet header on a TAP,
//! the IP header on a TUN.

use crate::ParseError;
use crate::checksum;
use crate::field::array;

/// Length of the header.
pub const LEN: usize = 10;

/// Flag: the checksum has to be completed, from `csum_start` to the end.
pub const NEEDS_CSUM: u8 = 1;
/// Flag: the checksum was found right.
pub const DATA_VALID: u8 = 2;

/// Not a GSO packet.
pub const GSO_NONE: u8 = 0;
/// A GSO packet of TCP segments over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// A UDP datagram to be cut into IP fragments (deprecated).
pub const GSO_UDP: u8 = 3;
/// A GSO packet of TCP segments over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// A GSO packet of UDP datagrams.
pub const GSO_UDP_L4: u8 = 5;
/// Added to a TCP type if the GSO packet carries CWR.
pub const GSO_ECN: u8 = 0x80;

/// The header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_` constants.
    pub gso_type: u8,
    /// Length of all headers, Ethernet to TCP; a hint.
    pub hdr_len: u16,
    /// Bytes of payload in each segment of the GSO packet.
    pub gso_size: u16,
    /// Where the checksummed bytes start.
    pub csum_start: u16,
    /// Where the checksum is, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Reads the header in front of a frame.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 10 bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let bytes: &[u8; LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let word = |at| u16::from_ne_bytes(array(bytes, at));
        Ok(Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// Writes the 10 bytes of the header.
    ///
    /// # Panics
    /// If the buffer is shorter.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[0] = self.flags;
        buffer[1] = self.gso_type;
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset];
        for (bytes, word) in buffer[2..LEN].chunks_exact_mut(2).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
    }

    /// Whether the checksum field holds the sum of the pseudo-header only.
    #[inline]
    pub const fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    /// Whether the frame is a GSO packet of segments.
    #[inline]
    pub const fn is_gso(&self) -> bool {
        self.gso_type & !GSO_ECN != GSO_NONE
    }

    /// Moves the offsets by a change of what is in front: positive if bytes were put before the frame.
    ///
    /// Returns `None` if an offset leaves its range.
    #[must_use]
    pub fn shifted(mut self, by: i16) -> Option<Self> {
        if self.needs_checksum() {
            self.csum_start = self.csum_start.checked_add_signed(by)?;
        }
        if self.hdr_len != 0 {
            self.hdr_len = self.hdr_len.checked_add_signed(by)?;
        }
        Some(self)
    }

    /// Does what [`NEEDS_CSUM`] asks, in a frame that is not a GSO packet and has no padding behind the packet, and
    /// clears the flag. A checksum of 0 is written as 0xffff, which is right for UDP and equal for TCP.
    ///
    /// # Errors
    /// [`ParseError::Malformed`] if the field is not inside the frame.
    pub fn complete_checksum(&mut self, frame: &mut [u8]) -> Result<(), ParseError> {
        if self.needs_checksum() {
            let (start, offset) = (usize::from(self.csum_start), usize::from(self.csum_offset));
            if !checksum::complete(frame, start, offset, true) {
                return Err(ParseError::Malformed);
            }
            (self.flags, self.csum_start, self.csum_offset) = (self.flags & !NEEDS_CSUM, 0, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Packet;
    use crate::testing::{Shape, whole};
    use proptest::prelude::*;

    #[test]
    fn gso_packets_are_told_by_their_type() {
        for (gso_type, gso_packet) in [
            (GSO_NONE, false),
            (GSO_ECN, false),
            (GSO_TCPV4, true),
            (GSO_TCPV6 | GSO_ECN, true),
            (GSO_UDP_L4, true),
            (GSO_UDP, true),
        ] {
            assert_eq!(
                VnetHeader { gso_type, ..VnetHeader::default() }.is_gso(),
                gso_packet,
                "{gso_type:#x}"
            );
        }
    }

    #[test]
    fn offsets_move_with_what_is_in_front() {
        let tap = VnetHeader {
            flags: NEEDS_CSUM,
            hdr_len: 54,
            csum_start: 34,
            csum_offset: 16,
            ..Default::default()
        };
        let tun = VnetHeader { hdr_len: 40, csum_start: 20, ..tap };
        assert_eq!(tap.shifted(-14), Some(tun));
        assert_eq!(tun.shifted(14), Some(tap));
        assert_eq!(tun.shifted(-21), None);
        assert_eq!(VnetHeader::default().shifted(-14), Some(VnetHeader::default()), "nothing to move");
    }

    #[test]
    fn a_checksum_outside_the_frame_is_malformed() {
        for (csum_start, csum_offset) in [(60, 0), (59, 0), (20, 39), (u16::MAX, u16::MAX)] {
            let mut header = VnetHeader { flags: NEEDS_CSUM, csum_start, csum_offset, ..Default::default() };
            let (mut frame, before) = ([7; 60], header);
            assert_eq!(header.complete_checksum(&mut frame), Err(ParseError::Malformed));
            assert_eq!((frame, header), ([7; 60], before));
        }
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_same(bytes: [u8; 2], words: [u16; 4]) {
            let header = VnetHeader {
                flags: bytes[0],
                gso_type: bytes[1],
                hdr_len: words[0],
                gso_size: words[1],
                csum_start: words[2],
                csum_offset: words[3],
            };
            let mut buffer = [0xaa; 12];
            header.emit(&mut buffer);
            prop_assert_eq!(VnetHeader::parse(&buffer), Ok(header));
            prop_assert_eq!(&buffer[..2], &bytes);
            prop_assert_eq!(&buffer[4..6], &words[1].to_ne_bytes());
            prop_assert_eq!(&buffer[10..], &[0xaa; 2]);
            prop_assert_eq!(VnetHeader::parse(&buffer[..9]), Err(ParseError::Truncated));
        }

        #[test]
        fn a_completed_checksum_is_that_of_the_sender(shape in whole()) {
            let Some(at) = shape.checksum_at().filter(|_| matches!(shape.protocol(), 6 | 17)) else {
                return Ok(());
            };
            let shape = Shape { partial: true, ..shape };
            let mut bytes = shape.build();
            let start = shape.header_len();
            let mut header = VnetHeader {
                flags: NEEDS_CSUM | DATA_VALID,
                csum_start: u16::try_from(start).unwrap(),
                csum_offset: u16::try_from(at).unwrap(),
                ..VnetHeader::default()
            };
            header.complete_checksum(&mut bytes).unwrap();
            prop_assert!(!header.needs_checksum());
            prop_assert_eq!(header.flags, DATA_VALID);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.transport_sum(&bytes).finish(), 0);
            let completed = bytes.clone();
            header.complete_checksum(&mut bytes).unwrap();
            prop_assert_eq!(bytes, completed, "without the flag nothing is done");
        }
    }
}
