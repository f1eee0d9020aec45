//! IPv4 header (RFC 791).
//!
//! ```text
//! 0               1               2               3               4
//! +-------+-------+---------------+-------------------------------+
//! |   4   |  IHL  |      TOS      |         total length          |  0
//! +-------+-------+---------------+-----+-------------------------+
//! |        identification         |.DM  |  fragment offset / 8    |  4
//! +---------------+---------------+-----+-------------------------+
//! |      TTL      |   protocol    |        header checksum        |  8
//! +---------------+---------------+-------------------------------+
//! |                         source address                        | 12
//! +---------------------------------------------------------------+
//! |                      destination address                      | 16
//! +---------------------------------------------------------------+
//! |                      options, to IHL * 4                      | 20
//! ```

use core::net::Ipv4Addr;

use crate::ParseError;
use crate::checksum::Sum;
use crate::field::{array, get16, length16, put16};

/// Length of the header without options.
pub const HEADER_LEN: usize = 20;
/// Protocol number of IP in IP (RFC 2003).
pub const PROTOCOL_IPIP: u8 = 4;
/// The flag "don't fragment", in the 16-bit field it shares with the offset.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The flag "more fragments", in the same field.
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// Option: the list ends here, the rest is padding.
const END_OF_OPTIONS: u8 = 0;
/// Option: one byte that aligns the next.
const NO_OPERATION: u8 = 1;

/// Where the fields are.
pub(crate) mod at {
    pub(crate) const TOTAL_LEN: usize = 2;
    pub(crate) const ID: usize = 4;
    pub(crate) const FRAGMENT: usize = 6;
    pub(crate) const TTL: usize = 8;
    pub(crate) const CHECKSUM: usize = 10;
    pub(crate) const SRC: usize = 12;
    pub(crate) const DST: usize = 16;
}

/// A view of an IPv4 header with its options.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Header<'a> {
    bytes: &'a [u8],
}

impl<'a> Ipv4Header<'a> {
    /// Views the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] if the header is not all there, [`ParseError::Malformed`] for another
    /// version or a header length below 20.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let first = *bytes.first().ok_or(ParseError::Truncated)?;
        let length = usize::from(first & 0xf) * 4;
        if first >> 4 != 4 || length < HEADER_LEN {
            return Err(ParseError::Malformed);
        }
        Ok(Self { bytes: bytes.get(..length).ok_or(ParseError::Truncated)? })
    }

    /// Length of the header in bytes, options included.
    pub const fn header_len(&self) -> usize {
        self.bytes.len()
    }

    /// TOS: DSCP and ECN.
    pub const fn tos(&self) -> u8 {
        self.bytes[1]
    }

    /// Length of the whole packet in bytes.
    pub fn total_len(&self) -> u16 {
        get16(self.bytes, at::TOTAL_LEN)
    }

    /// Identification.
    pub fn id(&self) -> u16 {
        get16(self.bytes, at::ID)
    }

    /// The packet must not be fragmented.
    pub fn dont_fragment(&self) -> bool {
        get16(self.bytes, at::FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// More fragments follow.
    pub fn more_fragments(&self) -> bool {
        get16(self.bytes, at::FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Where in the original payload this one starts, in bytes.
    pub fn fragment_offset(&self) -> u16 {
        (get16(self.bytes, at::FRAGMENT) & 0x1fff) << 3
    }

    /// Time to live.
    pub const fn ttl(&self) -> u8 {
        self.bytes[at::TTL]
    }

    /// Upper protocol.
    pub const fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// The header checksum as it stands.
    pub fn checksum(&self) -> u16 {
        get16(self.bytes, at::CHECKSUM)
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        array(self.bytes, at::SRC).into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        array(self.bytes, at::DST).into()
    }

    /// The options.
    pub fn options(&self) -> Options<'a> {
        Options { bytes: &self.bytes[HEADER_LEN..] }
    }
}

/// One option: its type octet and all of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Option<'a> {
    /// Copy flag, class and number.
    pub kind: u8,
    /// The option, type and length octets included.
    pub bytes: &'a [u8],
}

impl Ipv4Option<'_> {
    /// Whether every fragment carries it, not the first alone.
    pub const fn is_copied(&self) -> bool {
        self.kind & 0x80 != 0
    }
}

/// The options of a header, without the padding. Stops at the end of the list, and at an option whose length
/// makes no sense.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Ipv4Option<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = core::mem::take(&mut self.bytes);
        let kind = *bytes.first()?;
        let length = match kind {
            END_OF_OPTIONS => return None,
            NO_OPERATION => 1,
            _ => usize::from(*bytes.get(1)?),
        };
        if length == 0 || (length == 1 && kind != NO_OPERATION) {
            return None;
        }
        let (option, rest) = bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(Ipv4Option { kind, bytes: option })
    }
}

/// A header without options, of a packet that is no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Upper protocol.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// TOS: DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// The packet must not be fragmented.
    pub dont_fragment: bool,
    /// Bytes that follow the header, at most 65515.
    pub payload_len: u16,
}

impl Ipv4Repr {
    /// Reads what the struct holds of a header; options and fragment offset are passed over.
    ///
    /// # Errors
    /// Those of [`Ipv4Header::parse`], and [`ParseError::Malformed`] for a total length below the header's.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let header = Ipv4Header::parse(bytes)?;
        let payload_len =
            header.total_len().checked_sub(length16(header.header_len())).ok_or(ParseError::Malformed)?;
        Ok(Self {
            src: header.src(),
            dst: header.dst(),
            protocol: header.protocol(),
            ttl: header.ttl(),
            tos: header.tos(),
            id: header.id(),
            dont_fragment: header.dont_fragment(),
            payload_len,
        })
    }

    /// Writes the 20 bytes of the header, checksum included.
    ///
    /// # Panics
    /// If the buffer is shorter, or the packet longer than 65535 bytes.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let buffer = buffer.first_chunk_mut::<HEADER_LEN>().expect("there is room for the header");
        buffer[0] = 0x45;
        buffer[1] = self.tos;
        put16(buffer, at::TOTAL_LEN, length16(HEADER_LEN + usize::from(self.payload_len)));
        put16(buffer, at::ID, self.id);
        put16(buffer, at::FRAGMENT, if self.dont_fragment { DONT_FRAGMENT } else { 0 });
        buffer[at::TTL] = self.ttl;
        buffer[9] = self.protocol;
        buffer[at::SRC..at::DST].copy_from_slice(&self.src.octets());
        buffer[at::DST..HEADER_LEN].copy_from_slice(&self.dst.octets());
        put16(buffer, at::CHECKSUM, 0);
        let checksum = Sum::new().add_bytes(buffer).finish();
        put16(buffer, at::CHECKSUM, checksum);
    }
}

/// Whether the header checksum of the IPv4 packet is right. False for what is not a whole IPv4 header.
#[inline]
pub fn header_checksum_ok(ip: &[u8]) -> bool {
    // Nearly all have no options, and then their length is known.
    if let Some(header) = ip.first_chunk::<HEADER_LEN>()
        && header[0] == 0x45
    {
        return Sum::new().add_bytes(header).finish() == 0;
    }
    match ip.first() {
        Some(first @ 0x45..=0x4f) => ip
            .get(..usize::from(first & 0xf) * 4)
            .is_some_and(|header| Sum::new().add_bytes(header).finish() == 0),
        _ => false,
    }
}

/// Computes the header checksum anew.
///
/// # Panics
/// If the header, with the length its first byte tells, is not all there.
pub fn fill_checksum(ip: &mut [u8]) {
    let length = usize::from(ip[0] & 0xf) * 4;
    let header = &mut ip[..length];
    put16(header, at::CHECKSUM, 0);
    let checksum = Sum::new().add_bytes(header).finish();
    put16(header, at::CHECKSUM, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{any_packet, naive_checksum};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn header_with(options: &[u8]) -> Vec<u8> {
        let mut bytes = std::vec![0; 20];
        bytes.extend(options);
        bytes[0] = 0x40 | u8::try_from(bytes.len() / 4).unwrap();
        bytes
    }

    #[test]
    fn options_are_listed_up_to_the_first_that_makes_no_sense() {
        type Case = (&'static [u8], &'static [(u8, usize)], &'static str);
        let cases: [Case; 8] = [
            (&[], &[], "none"),
            (&[1, 1, 1, 0], &[(1, 1), (1, 1), (1, 1)], "no-operations and the end"),
            (&[0x94, 4, 0, 0], &[(0x94, 4)], "router alert"),
            (&[7, 7, 4, 1, 2, 3, 4, 0], &[(7, 7)], "record route"),
            (&[7, 0, 1, 1], &[], "length 0"),
            (&[7, 1, 1, 1], &[], "length 1"),
            (&[1, 7, 4, 1], &[(1, 1)], "length behind the end"),
            (&[1, 1, 1, 7], &[(1, 1), (1, 1), (1, 1)], "no length"),
        ];
        for (options, want, why) in cases {
            let bytes = header_with(options);
            let header = Ipv4Header::parse(&bytes).unwrap();
            let found: Vec<_> = header.options().map(|option| (option.kind, option.bytes.len())).collect();
            assert_eq!(found, want, "{why}");
        }
        let copied = |kind| Ipv4Option { kind, bytes: &[] }.is_copied();
        assert!(copied(0x83) && copied(0x94) && !copied(7) && !copied(68));
    }

    #[test]
    fn only_a_whole_header_has_a_right_checksum() {
        let mut bytes = header_with(&[1, 1, 1, 0]);
        fill_checksum(&mut bytes);
        assert!(header_checksum_ok(&bytes));
        assert!(!header_checksum_ok(&bytes[..23]), "cut off");
        assert!(!header_checksum_ok(&[]), "nothing");
        for (at, value, why) in [(0, 0x65, "version 6"), (0, 0x44, "IHL 4"), (8, 1, "TTL changed")] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert!(!header_checksum_ok(&bytes), "{why}");
        }
    }

    #[test]
    fn a_header_of_another_kind_is_refused() {
        assert_eq!(Ipv4Header::parse(&[]).map(|_| ()), Err(ParseError::Truncated));
        assert_eq!(Ipv4Header::parse(&[0x45; 19]).map(|_| ()), Err(ParseError::Truncated));
        assert_eq!(Ipv4Header::parse(&[0x44; 20]).map(|_| ()), Err(ParseError::Malformed));
        assert_eq!(Ipv4Header::parse(&[0x60; 40]).map(|_| ()), Err(ParseError::Malformed));
        let mut short = header_with(&[]);
        short[3] = 19;
        assert_eq!(Ipv4Repr::parse(&short), Err(ParseError::Malformed));
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_same(
            src: [u8; 4], dst: [u8; 4], numbers: (u8, u8, u8, u16, bool), payload_len in 0..=65515u16,
        ) {
            let (protocol, ttl, tos, id, dont_fragment) = numbers;
            let (src, dst) = (src.into(), dst.into());
            let header = Ipv4Repr { src, dst, protocol, ttl, tos, id, dont_fragment, payload_len };
            let mut buffer = [0xaa; 24];
            header.emit(&mut buffer);
            prop_assert_eq!(Ipv4Repr::parse(&buffer), Ok(header));
            prop_assert_eq!(naive_checksum(&buffer[..20]), 0);
            prop_assert_eq!(&buffer[20..], &[0xaa; 4]);
        }

        #[test]
        fn the_view_reads_what_was_built(shape in any_packet()) {
            if !shape.src.is_v4() {
                return Ok(());
            }
            let bytes = shape.build();
            let header = Ipv4Header::parse(&bytes).unwrap();
            let (offset, more) = shape.fragment.unwrap_or((0, false));
            prop_assert_eq!(header.header_len(), shape.header_len());
            prop_assert_eq!(header.tos(), shape.tos);
            prop_assert_eq!(usize::from(header.total_len()), bytes.len());
            prop_assert_eq!(u32::from(header.id()), shape.id & 0xffff);
            prop_assert_eq!(header.dont_fragment(), shape.dont_fragment);
            prop_assert_eq!(header.more_fragments(), more);
            prop_assert_eq!(header.fragment_offset(), offset);
            prop_assert_eq!(header.ttl(), shape.ttl);
            prop_assert_eq!(header.protocol(), shape.protocol());
            prop_assert_eq!(Some(header.src()), shape.src.to_v4());
            prop_assert_eq!(Some(header.dst()), shape.dst.to_v4());
            prop_assert!(header_checksum_ok(&bytes));
            let mut copy = bytes.clone();
            copy[10..12].fill(0x55);
            fill_checksum(&mut copy);
            prop_assert_eq!(copy, bytes);
        }
    }
}
