//! SCTP packet (RFC 9260).
//!
//! ```text
//! 0               2               4                               8
//! +---------------+---------------+-------------------------------+
//! |  source port  |   dest port   |        verification tag       |  0
//! +---------------+---------------+---+---+-----------------------+
//! |   CRC32c, little-endian       |typ|flg| length| value .. pad 4|  8, chunks from 12
//! +-------------------------------+---+---+-----------------------+
//! ```

use crate::ParseError;
use crate::checksum::{Crc32c, crc32c};
use crate::field::{array, get16, get32};

/// Protocol number.
pub const PROTOCOL: u8 = 132;
/// Length of the common header.
pub const HEADER_LEN: usize = 12;

/// Where the checksum is.
pub(crate) const CHECKSUM: usize = 8;

/// Chunk type: user data.
pub const DATA: u8 = 0;
/// Chunk type: initiation.
pub const INIT: u8 = 1;
/// Chunk type: initiation acknowledged.
pub const INIT_ACK: u8 = 2;
/// Chunk type: selective acknowledgment.
pub const SACK: u8 = 3;
/// Chunk type: heartbeat.
pub const HEARTBEAT: u8 = 4;
/// Chunk type: heartbeat acknowledged.
pub const HEARTBEAT_ACK: u8 = 5;
/// Chunk type: abort.
pub const ABORT: u8 = 6;
/// Chunk type: shutdown.
pub const SHUTDOWN: u8 = 7;
/// Chunk type: shutdown acknowledged.
pub const SHUTDOWN_ACK: u8 = 8;
/// Chunk type: error.
pub const ERROR: u8 = 9;
/// Chunk type: state cookie.
pub const COOKIE_ECHO: u8 = 10;
/// Chunk type: cookie acknowledged.
pub const COOKIE_ACK: u8 = 11;
/// Chunk type: congestion notification echo.
pub const ECNE: u8 = 12;
/// Chunk type: congestion window reduced.
pub const CWR: u8 = 13;
/// Chunk type: shutdown complete.
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// A view of an SCTP packet.
#[derive(Clone, Copy, Debug)]
pub struct SctpPacket<'a> {
    bytes: &'a [u8],
}

impl<'a> SctpPacket<'a> {
    /// Views the packet, common header and chunks.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 12 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() < HEADER_LEN { Err(ParseError::Truncated) } else { Ok(Self { bytes }) }
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        get16(self.bytes, 0)
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        get16(self.bytes, 2)
    }

    /// Verification tag.
    pub fn verification_tag(&self) -> u32 {
        get32(self.bytes, 4)
    }

    /// The CRC as it stands.
    pub fn checksum(&self) -> u32 {
        u32::from_le_bytes(array(self.bytes, CHECKSUM))
    }

    /// Whether the CRC is right.
    pub fn checksum_ok(&self) -> bool {
        self.checksum() == checksum(self.bytes)
    }

    /// The chunks.
    pub fn chunks(&self) -> Chunks<'a> {
        Chunks { bytes: &self.bytes[HEADER_LEN..] }
    }

    /// Type of the first chunk, which is what connection tracking goes by; chunks that matter to it may not
    /// be bundled behind others.
    pub fn first_chunk_type(&self) -> Option<u8> {
        self.chunks().next().map(|chunk| chunk.kind)
    }
}

/// One chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Type: [`DATA`], [`INIT`] and so on.
    pub kind: u8,
    /// Flags, whose meaning the type decides.
    pub flags: u8,
    /// The value, without header and padding.
    pub value: &'a [u8],
}

/// The chunks of a packet. Stops at one whose length makes no sense.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let [kind, flags, high, low] = *self.bytes.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(value) = self.bytes.get(4..length) else {
            self.bytes = &[];
            return None;
        };
        // The last chunk's padding may be missing.
        self.bytes = self.bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Chunk { kind, flags, value })
    }
}

/// The CRC32c that the packet should carry.
///
/// # Panics
/// Below 12 bytes.
pub fn checksum(bytes: &[u8]) -> u32 {
    Crc32c::new().update(&bytes[..CHECKSUM]).update(&[0; 4]).update(&bytes[HEADER_LEN..]).finish()
}

/// Computes the CRC32c anew.
///
/// # Panics
/// Below 12 bytes.
pub fn fill_checksum(bytes: &mut [u8]) {
    bytes[CHECKSUM..HEADER_LEN].fill(0);
    let crc = crc32c(bytes);
    bytes[CHECKSUM..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Upper, plain};
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn chunks_are_listed_up_to_the_first_that_makes_no_sense() {
        type Case = (&'static [u8], &'static [(u8, usize)], &'static str);
        let cases: [Case; 7] = [
            (&[], &[], "none"),
            (&[1, 0, 0, 4], &[(INIT, 0)], "an empty one"),
            (&[10, 0, 0, 5, 9, 0, 0, 0, 0, 3, 0, 4], &[(COOKIE_ECHO, 1), (DATA, 0)], "two, the first padded"),
            (&[3, 0, 0, 5, 9], &[(SACK, 1)], "the last padding is missing"),
            (&[1, 0, 0, 3], &[], "length 3"),
            (&[1, 0, 0, 9, 0, 0], &[], "length behind the end"),
            (&[14, 0, 0, 4, 1, 0, 0], &[(SHUTDOWN_COMPLETE, 0)], "half a chunk header"),
        ];
        for (chunks, want, why) in cases {
            let mut bytes = std::vec![0; HEADER_LEN];
            bytes.extend(chunks);
            let packet = SctpPacket::parse(&bytes).unwrap();
            let found: Vec<_> = packet.chunks().map(|chunk| (chunk.kind, chunk.value.len())).collect();
            assert_eq!(found, want, "{why}");
            assert_eq!(packet.first_chunk_type(), want.first().map(|(kind, _)| *kind), "{why}");
        }
        assert_eq!(SctpPacket::parse(&[0; 11]).map(|_| ()), Err(ParseError::Truncated));
    }

    proptest! {
        #[test]
        fn the_crc_is_little_endian_and_over_a_zeroed_field(
            tag: u32, payload in proptest::collection::vec(any::<u8>(), 0..80), fault in 1..=u32::MAX,
        ) {
            let shape = plain(true, Upper::Sctp { tag }, &payload);
            let mut bytes = shape.build().split_off(20);
            let packet = SctpPacket::parse(&bytes).unwrap();
            prop_assert!(packet.checksum_ok());
            prop_assert_eq!(packet.verification_tag(), tag);
            prop_assert_eq!((packet.src_port(), packet.dst_port()), shape.ports);
            let whole = bytes.clone();
            for (byte, fault) in bytes[8..12].iter_mut().zip(fault.to_be_bytes()) {
                *byte ^= fault;
            }
            prop_assert!(!SctpPacket::parse(&bytes).unwrap().checksum_ok());
            fill_checksum(&mut bytes);
            prop_assert_eq!(bytes, whole);
        }
    }
}
