//! IPv6 header (RFC 8200).
//!
//! ```text
//! 0               1               2               3               4
//! +-------+---------------+---------------------------------------+
//! |   6   | traffic class |              flow label               |  0
//! +-------+-----------------------+---------------+---------------+
//! |        payload length         |  next header  |   hop limit   |  4
//! +-------------------------------+---------------+---------------+
//! |                         source address                        |  8
//! +---------------------------------------------------------------+
//! |                      destination address                      | 24
//! +---------------------------------------------------------------+
//! |              extension headers, upper protocol                | 40
//! ```

use core::net::Ipv6Addr;

use crate::ParseError;
use crate::field::{array, get16, get32, put16, put32};

/// Length of the fixed header.
pub const HEADER_LEN: usize = 40;
/// The least MTU of a link: a packet of this size always arrives.
pub const MIN_MTU: usize = 1280;
/// Length of a fragment header.
pub const FRAGMENT_HEADER_LEN: usize = 8;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: IPv6 in IP (RFC 2473).
pub const PROTOCOL_IPV6: u8 = 41;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: authentication (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next header: ICMPv6.
pub const PROTOCOL_ICMP: u8 = 58;
/// Next header: nothing follows.
pub const NO_NEXT_HEADER: u8 = 59;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Where the fields are.
pub(crate) mod at {
    pub(crate) const PAYLOAD_LEN: usize = 4;
    pub(crate) const NEXT_HEADER: usize = 6;
    pub(crate) const HOP_LIMIT: usize = 7;
    pub(crate) const SRC: usize = 8;
    pub(crate) const DST: usize = 24;
}

/// A view of the fixed IPv6 header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Header<'a> {
    bytes: &'a [u8; HEADER_LEN],
}

impl<'a> Ipv6Header<'a> {
    /// Views the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 40 bytes, [`ParseError::Malformed`] for another version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let bytes = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        if bytes[0] >> 4 == 6 { Ok(Self { bytes }) } else { Err(ParseError::Malformed) }
    }

    /// Traffic class: DSCP and ECN.
    pub const fn traffic_class(&self) -> u8 {
        self.bytes[0] << 4 | self.bytes[1] >> 4
    }

    /// Flow label, 20 bits.
    pub fn flow_label(&self) -> u32 {
        get32(self.bytes, 0) & 0xf_ffff
    }

    /// Bytes that follow the fixed header.
    pub fn payload_len(&self) -> u16 {
        get16(self.bytes, at::PAYLOAD_LEN)
    }

    /// What follows: an extension header or the upper protocol.
    pub const fn next_header(&self) -> u8 {
        self.bytes[at::NEXT_HEADER]
    }

    /// Hop limit.
    pub const fn hop_limit(&self) -> u8 {
        self.bytes[at::HOP_LIMIT]
    }

    /// Source address.
    pub fn src(&self) -> Ipv6Addr {
        array(self.bytes, at::SRC).into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv6Addr {
        array(self.bytes, at::DST).into()
    }
}

/// A fixed header with flow label 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// What follows: an extension header or the upper protocol.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes that follow the fixed header.
    pub payload_len: u16,
}

impl Ipv6Repr {
    /// Reads what the struct holds of a header; the flow label is passed over.
    ///
    /// # Errors
    /// Those of [`Ipv6Header::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let header = Ipv6Header::parse(bytes)?;
        Ok(Self {
            src: header.src(),
            dst: header.dst(),
            next_header: header.next_header(),
            hop_limit: header.hop_limit(),
            traffic_class: header.traffic_class(),
            payload_len: header.payload_len(),
        })
    }

    /// Writes the 40 bytes of the header.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn emit(&self, buffer: &mut [u8]) {
        put32(buffer, 0, 6 << 28 | u32::from(self.traffic_class) << 20);
        put16(buffer, at::PAYLOAD_LEN, self.payload_len);
        buffer[at::NEXT_HEADER] = self.next_header;
        buffer[at::HOP_LIMIT] = self.hop_limit;
        buffer[at::SRC..at::DST].copy_from_slice(&self.src.octets());
        buffer[at::DST..HEADER_LEN].copy_from_slice(&self.dst.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::any_packet;
    use proptest::prelude::*;

    #[test]
    fn a_header_of_another_kind_is_refused() {
        assert_eq!(Ipv6Header::parse(&[0x60; 39]).map(|_| ()), Err(ParseError::Truncated));
        assert_eq!(Ipv6Header::parse(&[0x45; 40]).map(|_| ()), Err(ParseError::Malformed));
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_same(src: [u8; 16], dst: [u8; 16], numbers: (u8, u8, u8, u16)) {
            let (next_header, hop_limit, traffic_class, payload_len) = numbers;
            let (src, dst) = (src.into(), dst.into());
            let header = Ipv6Repr { src, dst, next_header, hop_limit, traffic_class, payload_len };
            let mut buffer = [0xaa; 44];
            header.emit(&mut buffer);
            prop_assert_eq!(Ipv6Repr::parse(&buffer), Ok(header));
            prop_assert_eq!(Ipv6Header::parse(&buffer).map(|header| header.flow_label()), Ok(0));
            prop_assert_eq!(&buffer[40..], &[0xaa; 4]);
        }

        #[test]
        fn the_view_reads_what_was_built(shape in any_packet()) {
            if shape.src.is_v4() {
                return Ok(());
            }
            let bytes = shape.build();
            let header = Ipv6Header::parse(&bytes).unwrap();
            prop_assert_eq!(header.traffic_class(), shape.tos);
            prop_assert_eq!(header.flow_label(), 0x56789);
            prop_assert_eq!(usize::from(header.payload_len()), bytes.len() - 40);
            prop_assert_eq!(header.hop_limit(), shape.ttl);
            prop_assert_eq!(header.src(), shape.src.to_v6());
            prop_assert_eq!(header.dst(), shape.dst.to_v6());
        }
    }
}
