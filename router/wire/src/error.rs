//! What parsing says of bytes that are no packet.

use core::fmt;

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The bytes, or the packet by its own length field, end before a header does; or the bytes end before
    /// the packet does.
    Truncated,
    /// Fields contradict each other or the standard: version, header length, data offset, ...
    Malformed,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the packet is truncated",
            Self::Malformed => "the packet is malformed",
        })
    }
}

impl core::error::Error for ParseError {}
