//! Fragmentation (RFC 791, 3.2; RFC 8200, 4.5).
//!
//! ```text
//! IPv4  | header, all options    | data           |      IPv6  | unfragmentable part | data        |
//!       +------------------------+------+         |            +---------------------+-+------+    |
//!  1st  | header, all options    | 8 n  |         |            | unfragmentable part |F| 8 n  |    |
//!       +------------------------+------+--+      |            +---------------------+-+------+----+
//!  last | header, copied options | 8 n     |      |            | unfragmentable part |F| rest      |
//! ```

use core::fmt;

use crate::field::{length16, put16, put32};
use crate::ipv4::Ipv4Header;
use crate::{Packet, ParseError, ipv4, ipv6};

/// Why a packet was not fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentError {
    /// The packet did not parse.
    Parse(ParseError),
    /// Header and 8 bytes of data do not fit into the MTU.
    MtuTooSmall,
    /// The caller's buffer does not hold a fragment.
    BufferTooSmall,
}

impl fmt::Display for FragmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => error.fmt(f),
            Self::MtuTooSmall => f.write_str("the MTU does not hold a header and 8 bytes"),
            Self::BufferTooSmall => f.write_str("the buffer does not hold a fragment"),
        }
    }
}

impl core::error::Error for FragmentError {}

impl From<ParseError> for FragmentError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

/// Cuts an IPv4 packet into fragments of at most `mtu` bytes, hands each to `each`, and returns their number.
///
/// Each is built in `buffer`, which must hold `mtu` bytes. A packet that fits is handed over as it is. The
/// packet may itself be a fragment. "Don't fragment" is not looked at and not set in the result. All
/// fragments carry the packet's identification, or `id_override`: a packet with "don't fragment" need not
/// have a useful one (RFC 6864). Checksums of the payload must be complete.
///
/// # Errors
/// See [`FragmentError`]. Nothing has been handed over then.
pub fn split_v4(
    ip: &[u8],
    mtu: usize,
    id_override: Option<u16>,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    let header = Ipv4Header::parse(ip)?;
    let (header_len, total_len) = (header.header_len(), usize::from(header.total_len()));
    if total_len < header_len {
        return Err(ParseError::Malformed.into());
    }
    let ip = ip.get(..total_len).ok_or(ParseError::Truncated)?;
    if total_len <= mtu {
        each(ip);
        return Ok(1);
    }
    let data = &ip[header_len..];
    let base = usize::from(header.fragment_offset());
    if base + data.len() > 0xffff {
        return Err(ParseError::Malformed.into());
    }
    let room = mtu.saturating_sub(header_len) & !7;
    if room == 0 {
        return Err(FragmentError::MtuTooSmall);
    }
    if buffer.len() < header_len + room {
        return Err(FragmentError::BufferTooSmall);
    }
    let (mut done, mut count) = (0, 0);
    let mut fragment_header = header_len;
    buffer[..header_len].copy_from_slice(&ip[..header_len]);
    if let Some(id) = id_override {
        put16(buffer, ipv4::at::ID, id);
    }
    while done < data.len() {
        if done > 0 && count == 1 {
            fragment_header =
                ipv4::HEADER_LEN + copy_options(&header, &mut buffer[ipv4::HEADER_LEN..header_len]);
            buffer[0] = 0x40 | (length16(fragment_header) / 4).to_be_bytes()[1];
        }
        // Later headers may be shorter; the room stays that of the first, which RFC 791 allows and which
        // keeps the arithmetic plain.
        let piece = &data[done..data.len().min(done + room)];
        let end = fragment_header + piece.len();
        let more = header.more_fragments() || done + piece.len() < data.len();
        let field = length16((base + done) >> 3) | if more { ipv4::MORE_FRAGMENTS } else { 0 };
        put16(buffer, ipv4::at::TOTAL_LEN, length16(end));
        put16(buffer, ipv4::at::FRAGMENT, field);
        buffer[fragment_header..end].copy_from_slice(piece);
        ipv4::fill_checksum(buffer);
        each(&buffer[..end]);
        done += piece.len();
        count += 1;
    }
    Ok(count)
}

/// Writes the options that every fragment carries, padded to words, and returns their length.
fn copy_options(header: &Ipv4Header<'_>, buffer: &mut [u8]) -> usize {
    let mut length = 0;
    for option in header.options().filter(ipv4::Ipv4Option::is_copied) {
        buffer[length..length + option.bytes.len()].copy_from_slice(option.bytes);
        length += option.bytes.len();
    }
    let padded = length.next_multiple_of(4);
    buffer[length..padded].fill(0);
    padded
}

/// Cuts an IPv6 packet into fragments of at most `mtu` bytes with the identification `id`, hands each to
/// `each`, and returns their number.
///
/// For packets that the director itself sends or encapsulates: routers do not fragment IPv6. Each fragment is built in
/// `buffer`, which must hold `mtu` bytes. A packet that fits is handed over as it is.
/// Hop-by-hop options and a routing header, with what is in front of it, are repeated in each
/// fragment; everything else is data.
///
/// # Errors
/// See [`FragmentError`]; a packet with a fragment header is [`ParseError::Malformed`] here. Nothing has
/// been handed over then.
pub fn split_v6(
    ip: &[u8],
    mtu: usize,
    id: u32,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    let packet = Packet::parse(ip)?;
    if packet.is_v4() || packet.fragment_header != 0 {
        return Err(ParseError::Malformed.into());
    }
    let ip = &ip[..packet.total_len as usize];
    if ip.len() <= mtu {
        each(ip);
        return Ok(1);
    }
    let (next_header_at, header_len) = unfragmentable(ip);
    let data = &ip[header_len..];
    let start = header_len + ipv6::FRAGMENT_HEADER_LEN;
    let room = mtu.saturating_sub(start) & !7;
    if room == 0 {
        return Err(FragmentError::MtuTooSmall);
    }
    if buffer.len() < start + room {
        return Err(FragmentError::BufferTooSmall);
    }
    buffer[..header_len].copy_from_slice(&ip[..header_len]);
    buffer[next_header_at] = ipv6::FRAGMENT;
    buffer[header_len] = ip[next_header_at];
    buffer[header_len + 1] = 0;
    put32(buffer, header_len + 4, id);
    let (mut done, mut count) = (0, 0);
    while done < data.len() {
        let piece = &data[done..data.len().min(done + room)];
        let end = start + piece.len();
        let more = done + piece.len() < data.len();
        put16(buffer, ipv6::at::PAYLOAD_LEN, length16(end - ipv6::HEADER_LEN));
        put16(buffer, header_len + 2, length16(done) | u16::from(more));
        buffer[start..end].copy_from_slice(piece);
        each(&buffer[..end]);
        done += piece.len();
        count += 1;
    }
    Ok(count)
}

/// Where the next-header field of the last unfragmentable header is, and where that header ends. The chain has
/// been walked before, so every header is there.
fn unfragmentable(ip: &[u8]) -> (usize, usize) {
    let mut last = (ipv6::at::NEXT_HEADER, ipv6::HEADER_LEN);
    let (mut at, mut end) = last;
    loop {
        let kind = ip[at];
        if !matches!(kind, ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS) {
            return last;
        }
        at = end;
        end += (usize::from(ip[at + 1]) + 1) * 8;
        // Destination options in front of a routing header are for the hops it names.
        if kind != ipv6::DESTINATION_OPTIONS {
            last = (at, end);
        }
    }
}

#[cfg(test)]
mod tests;
