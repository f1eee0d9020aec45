//! GRE (RFC 2784): a packet in a packet, with a checksum of its own if one is asked for.
//!
//! ```text
//! 0               2               4               6               8
//! +-+-------+-----+---------------+---------------+---------------+--------
//! |C|   0   | ver |  ether type   |   checksum    |       0       | payload
//! +-+-------+-----+---------------+---------------+---------------+--------
//!                                 only if C is set
//! ```

use crate::ParseError;
use crate::checksum::Sum;
use crate::field::{get16, put16};

/// Protocol number.
pub const PROTOCOL: u8 = 47;

/// The flag "checksum present".
const CHECKSUM: u16 = 0x8000;

/// Length of the header.
pub const fn header_len(checksum: bool) -> usize {
    if checksum { 8 } else { 4 }
}

/// Writes the header in front of the payload that stands behind it in `buffer` already. All of `buffer` is the
/// GRE packet. `ether_type` says what the payload is.
///
/// # Panics
/// If the buffer is shorter than the header.
pub fn emit(buffer: &mut [u8], ether_type: u16, checksum: bool) {
    put16(buffer, 0, if checksum { CHECKSUM } else { 0 });
    put16(buffer, 2, ether_type);
    if checksum {
        buffer[4..8].fill(0);
        let sum = Sum::new().add_bytes(buffer).finish();
        put16(buffer, 4, sum);
    }
}

/// The ether type of the payload, and the length of the header in front of it. `bytes` may be cut off behind the
/// header, as what an ICMP error quotes is.
///
/// # Errors
/// [`ParseError::Truncated`] if the header is not all there, [`ParseError::Malformed`] for another version and for
/// flags that [`emit`] does not set.
pub fn parse(bytes: &[u8]) -> Result<(u16, usize), ParseError> {
    let head: &[u8; 4] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
    let checksum = match get16(head, 0) {
        0 => false,
        CHECKSUM => true,
        _ => return Err(ParseError::Malformed),
    };
    let length = header_len(checksum);
    if bytes.len() < length { Err(ParseError::Truncated) } else { Ok((get16(head, 2), length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::naive_checksum;
    use proptest::prelude::*;

    #[test]
    fn only_what_we_send_is_understood() {
        let cases: [(&[u8], _, &str); 6] = [
            (&[0, 0, 8, 0], Ok((0x800, 4)), "plain"),
            (&[0x80, 0, 0x86, 0xdd, 0, 0, 0, 0, 1], Ok((0x86dd, 8)), "with a checksum"),
            (&[0x80, 0, 8, 0, 0, 0, 0], Err(ParseError::Truncated), "cut off in the checksum"),
            (&[0, 0, 8], Err(ParseError::Truncated), "cut off"),
            (&[0x20, 0, 8, 0, 0, 0, 0, 0], Err(ParseError::Malformed), "a key"),
            (&[0, 1, 8, 0], Err(ParseError::Malformed), "version 1"),
        ];
        for (bytes, want, why) in cases {
            assert_eq!(parse(bytes), want, "{why}");
        }
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_same(
            ether_type: u16, checksum: bool, payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut buffer = std::vec![0xaa; header_len(checksum)];
            buffer.extend(&payload);
            emit(&mut buffer, ether_type, checksum);
            prop_assert_eq!(parse(&buffer), Ok((ether_type, header_len(checksum))));
            prop_assert_eq!(&buffer[header_len(checksum)..], &payload);
            prop_assert!(!checksum || naive_checksum(&buffer) == 0);
        }
    }
}
