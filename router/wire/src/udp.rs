//! UDP header (RFC 768).
//!
//! ```text
//! 0               2               4               6               8
//! +---------------+---------------+---------------+---------------+
//! |  source port  |   dest port   |    length     |   checksum    |
//! +---------------+---------------+---------------+---------------+
//! ```

use crate::Address;
use crate::ParseError;
use crate::checksum::{Sum, pseudo_header};
use crate::field::{get16, length16, put16};

/// Protocol number.
pub const PROTOCOL: u8 = 17;
/// Length of the header.
pub const HEADER_LEN: usize = 8;

/// Where the fields are.
pub(crate) mod at {
    pub(crate) const LENGTH: usize = 4;
    pub(crate) const CHECKSUM: usize = 6;
}

/// A view of a UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
    bytes: &'a [u8],
}

impl<'a> UdpDatagram<'a> {
    /// Views the datagram; bytes behind its own length are left out.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 8 bytes, [`ParseError::Malformed`] for a length below 8 or behind
    /// the end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        let length = usize::from(get16(bytes, at::LENGTH));
        match bytes.get(..length) {
            Some(bytes) if length >= HEADER_LEN => Ok(Self { bytes }),
            _ => Err(ParseError::Malformed),
        }
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        get16(self.bytes, 0)
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        get16(self.bytes, 2)
    }

    /// Length of header and payload in bytes.
    pub fn length(&self) -> u16 {
        get16(self.bytes, at::LENGTH)
    }

    /// The checksum as it stands; 0 means that there is none.
    pub fn checksum(&self) -> u16 {
        get16(self.bytes, at::CHECKSUM)
    }

    /// The data.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

/// Writes the 8 bytes of the header in front of the payload of `buffer`, without a checksum, and returns the length
/// of the datagram. All of `buffer` is the datagram. Over IPv6 this is for tunnels only (RFC 6935).
///
/// # Panics
/// If the buffer is shorter than the header or longer than 65535 bytes.
pub fn emit_without_checksum(buffer: &mut [u8], src_port: u16, dst_port: u16) -> usize {
    let length = length16(buffer.len());
    put16(buffer, 0, src_port);
    put16(buffer, 2, dst_port);
    put16(buffer, at::LENGTH, length);
    put16(buffer, at::CHECKSUM, 0);
    buffer.len()
}

/// Writes the 8 bytes of the header in front of the payload that stands behind them in `buffer` already, with
/// the checksum, and returns the length of the datagram. All of `buffer` is the datagram.
///
/// # Panics
/// If the buffer is shorter than the header or longer than 65535 bytes.
pub fn emit(buffer: &mut [u8], src: Address, dst: Address, src_port: u16, dst_port: u16) -> usize {
    emit_without_checksum(buffer, src_port, dst_port);
    let sum = pseudo_header(src, dst, PROTOCOL, u32::from(length16(buffer.len())));
    let sum = Sum::new().add_bytes(buffer).add(sum).finish();
    put16(buffer, at::CHECKSUM, if sum == 0 { 0xffff } else { sum });
    buffer.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Upper, naive_checksum, plain};
    use proptest::prelude::*;

    #[test]
    fn a_datagram_must_hold_its_length() {
        let cases = [
            (7, 7, Some(ParseError::Truncated), "7 bytes"),
            (8, 7, Some(ParseError::Malformed), "length 7"),
            (8, 9, Some(ParseError::Malformed), "length behind the end"),
            (8, 8, None, "empty"),
            (12, 9, None, "padding"),
        ];
        for (size, length, want, why) in cases {
            let mut bytes = [0; 12];
            bytes[5] = length;
            assert_eq!(UdpDatagram::parse(&bytes[..size]).err(), want, "{why}");
        }
        let mut padded = [0; 12];
        padded[5] = 9;
        assert_eq!(UdpDatagram::parse(&padded).unwrap().payload(), [0]);
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_what_a_sender_builds(
            v4: bool, ports: (u16, u16), payload in proptest::collection::vec(any::<u8>(), 2..40), zero: bool,
        ) {
            let mut shape = plain(v4, Upper::Udp { checksum: true }, &payload);
            shape.ports = ports;
            if zero {
                shape.force_zero_checksum();
            }
            let bytes = shape.build();
            let want = &bytes[shape.header_len()..];
            let mut buffer = std::vec![0xaa; 8 + payload.len()];
            buffer[8..].copy_from_slice(&shape.payload);
            prop_assert_eq!(emit(&mut buffer, shape.src, shape.dst, ports.0, ports.1), want.len());
            prop_assert_eq!(&buffer, want);
            let udp = UdpDatagram::parse(&buffer).unwrap();
            prop_assert_eq!((udp.src_port(), udp.dst_port()), ports);
            prop_assert_eq!(usize::from(udp.length()), want.len());
            prop_assert_eq!(udp.payload(), &shape.payload);
            prop_assert!(udp.checksum() != 0 && (!zero || udp.checksum() == 0xffff));
            prop_assert!(naive_checksum(&buffer) != 1 || v4);
            emit_without_checksum(&mut buffer, ports.0, ports.1);
            prop_assert_eq!(&buffer[..6], &want[..6]);
            prop_assert_eq!(UdpDatagram::parse(&buffer).unwrap().checksum(), 0);
        }
    }
}
