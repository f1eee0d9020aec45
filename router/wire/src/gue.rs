//! Generic UDP encapsulation, variant 0 (draft-ietf-intarea-gue), with remote checksum offload as Linux has it.
//!
//! ```text
//! 0               1               2               4               8              10              12
//! +-+-+-----------+---------------+---------------+---------------+---------------+---------------+--------
//! |0|C| hlen / 4  |   protocol    |     flags     | private flags |  sum starts   |  sum goes to  | payload
//! +-+-+-----------+---------------+---------------+---------------+---------------+---------------+--------
//!                                                 only with remote checksum offload
//! ```
//!
//! Remote checksum offload: the transport checksum of the payload is not complete; the receiver completes it,
//! as a network card would have done. Both offsets count from the start of the payload.

use crate::ParseError;
use crate::field::{get16, put16, put32};

/// Length of the header without remote checksum offload.
pub const HEADER_LEN: usize = 4;
/// How much longer it is with that.
pub const REMOTE_CHECKSUM_LEN: usize = 8;

/// The flag "private flags follow".
const PRIVATE: u16 = 1;
/// The private flag "remote checksum offload".
const REMOTE_CHECKSUM: u32 = 1 << 31;

/// Writes the header: what the payload is, and for remote checksum offload where its sum starts and where it goes
/// to. Returns the header's length.
///
/// # Panics
/// If the buffer is shorter than the header.
pub fn emit(buffer: &mut [u8], protocol: u8, remote_checksum: Option<(u16, u16)>) -> usize {
    buffer[0] = 0;
    buffer[1] = protocol;
    put16(buffer, 2, 0);
    let Some((start, offset)) = remote_checksum else { return HEADER_LEN };
    buffer[0] = 2;
    put16(buffer, 2, PRIVATE);
    put32(buffer, 4, REMOTE_CHECKSUM);
    put16(buffer, 8, start);
    put16(buffer, 10, offset);
    HEADER_LEN + REMOTE_CHECKSUM_LEN
}

/// What the payload is (an IP protocol number), and the length of the header in front of it. `bytes` may be cut off
/// behind the header, as what an ICMP error quotes is.
///
/// # Errors
/// [`ParseError::Truncated`] if the header is not all there, [`ParseError::Malformed`] for another variant and for
/// control messages.
pub fn parse(bytes: &[u8]) -> Result<(u8, usize), ParseError> {
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
    if head[0] >> 5 != 0 {
        return Err(ParseError::Malformed);
    }
    let length = HEADER_LEN + usize::from(head[0] & 0x1f) * 4;
    if bytes.len() < length { Err(ParseError::Truncated) } else { Ok((head[1], length)) }
}

/// Where the sum starts and where it goes to, if the header that starts `bytes` asks for remote checksum offload.
pub fn remote_checksum(bytes: &[u8]) -> Option<(u16, u16)> {
    let header: &[u8; HEADER_LEN + REMOTE_CHECKSUM_LEN] = bytes.first_chunk()?;
    let asked = header[0] == 2 && get16(header, 2) == PRIVATE && header[4] & 0x80 != 0;
    asked.then(|| (get16(header, 8), get16(header, 10)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_data_of_variant_0_is_understood() {
        let cases: [(&[u8], _, &str); 5] = [
            (&[0, 4, 0, 0], Ok((4, 4)), "plain"),
            (&[1, 41, 0, 0, 9, 9, 9, 9], Ok((41, 8)), "an option"),
            (&[1, 41, 0, 0, 9, 9, 9], Err(ParseError::Truncated), "cut off in the option"),
            (&[0x20, 4, 0, 0], Err(ParseError::Malformed), "control"),
            (&[0x45, 0, 0, 20], Err(ParseError::Malformed), "IPv4 without a header, variant 1"),
        ];
        for (bytes, want, why) in cases {
            assert_eq!(parse(bytes), want, "{why}");
        }
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_same(protocol: u8, remote in proptest::option::of(any::<(u16, u16)>())) {
            let mut buffer = [0xaa; 14];
            let length = emit(&mut buffer, protocol, remote);
            prop_assert_eq!(length, if remote.is_some() { 12 } else { 4 });
            prop_assert_eq!(parse(&buffer), Ok((protocol, length)));
            prop_assert_eq!(remote_checksum(&buffer), remote);
            prop_assert!(buffer[length..].iter().all(|&byte| byte == 0xaa));
        }
    }
}
