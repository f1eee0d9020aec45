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

use crate::field::{array, get16, get32, put16, put32};
use crate::{Packet, ParseError};

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
    #[inline]
    pub fn emit(&self, buffer: &mut [u8]) {
        let buffer = buffer.first_chunk_mut::<HEADER_LEN>().expect("there is room for the header");
        put32(buffer, 0, 6 << 28 | u32::from(self.traffic_class) << 20);
        put16(buffer, at::PAYLOAD_LEN, self.payload_len);
        buffer[at::NEXT_HEADER] = self.next_header;
        buffer[at::HOP_LIMIT] = self.hop_limit;
        buffer[at::SRC..at::DST].copy_from_slice(&self.src.octets());
        buffer[at::DST..HEADER_LEN].copy_from_slice(&self.dst.octets());
    }
}

/// One extension header of a packet, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extension {
    kind: u8,
    /// Where it starts.
    start: usize,
}

/// The extension headers of a parsed packet, in order, and where the number of what follows them stands.
fn extensions(ip: &[u8], packet: &Packet, mut each: impl FnMut(Extension)) -> usize {
    let end = usize::from(packet.header_len);
    let (mut field, mut start) = (at::NEXT_HEADER, HEADER_LEN);
    while start < end {
        let kind = ip[field];
        each(Extension { kind, start });
        field = start;
        start += match kind {
            FRAGMENT => FRAGMENT_HEADER_LEN,
            AUTHENTICATION => (usize::from(ip[start + 1]) + 2) * 4,
            _ => (usize::from(ip[start + 1]) + 1) * 8,
        };
    }
    field
}

/// Where the number of the upper protocol stands: in the fixed header, or in the last extension header. A
/// parameter problem about an unknown protocol points there (RFC 4443, 3.4). `packet` must be what `ip` was
/// parsed to.
pub fn protocol_field(ip: &[u8], packet: &Packet) -> usize {
    extensions(ip, packet, |_| {})
}

/// Where the type of a routing header stands that has segments left: whoever the packet is addressed to is then
/// not its target but a waypoint (RFC 8200, 4.4). `packet` must be what `ip` was parsed to.
pub fn waypoint_field(ip: &[u8], packet: &Packet) -> Option<usize> {
    let mut found = None;
    extensions(ip, packet, |extension| {
        if extension.kind == ROUTING && ip[extension.start + 3] != 0 {
            found = found.or(Some(extension.start + 2));
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::any_packet;
    use proptest::prelude::*;

    #[test]
    fn extension_headers_are_found_where_they_are() {
        // Each: kind and its whole bytes; the first byte, the next header, is filled in.
        let hop_by_hop = (HOP_BY_HOP, std::vec![0, 0, 1, 4, 0, 0, 0, 0]);
        let options = (DESTINATION_OPTIONS, std::vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let authentication = (
            AUTHENTICATION,
            std::vec![0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        );
        let routing = |left| (ROUTING, std::vec![0, 0, 4, left, 0, 0, 0, 0]);
        let cases = [
            ("none", std::vec![], 6, None),
            ("hop-by-hop", std::vec![hop_by_hop.clone()], 40, None),
            ("two", std::vec![hop_by_hop.clone(), options.clone()], 48, None),
            ("authentication counts in words", std::vec![authentication.clone(), options.clone()], 64, None),
            ("a finished route", std::vec![routing(0)], 40, None),
            ("a waypoint", std::vec![hop_by_hop, routing(1), options], 56, Some(50)),
        ];
        for (name, chain, protocol, waypoint) in cases {
            let mut ip = std::vec![0; HEADER_LEN];
            let payload_len = chain.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + 8;
            let mut field = 6;
            let [src, dst] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
            let header = Ipv6Repr {
                src,
                dst,
                next_header: 0,
                hop_limit: 64,
                traffic_class: 0,
                payload_len: u16::try_from(payload_len).unwrap(),
            };
            header.emit(&mut ip);
            for (kind, bytes) in chain {
                ip[field] = kind;
                field = ip.len();
                ip.extend(bytes);
            }
            ip[field] = 200;
            ip.extend([0; 8]);
            let packet = Packet::parse(&ip).unwrap();
            assert_eq!(packet.protocol, 200, "{name}");
            assert_eq!(
                (protocol_field(&ip, &packet), waypoint_field(&ip, &packet)),
                (protocol, waypoint),
                "{name}"
            );
        }
    }

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
