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
    each: impl FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    cut_v4(ip, mtu, &[], id_override, false, buffer, each)
}

/// Cuts an IPv4 packet that came in as fragments into the same ones again: pieces of `lengths` bytes of data. Where
/// these are not the packet's, or one of them does not fit, pieces are cut as [`split_v4`] does. The fragments
/// carry "don't fragment" if `dont_fragment`: those the packet came in as did.
///
/// # Errors
/// See [`FragmentError`]. Nothing has been handed over then.
pub fn refragment_v4(
    ip: &[u8],
    mtu: usize,
    lengths: &[u16],
    dont_fragment: bool,
    buffer: &mut [u8],
    each: impl FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    cut_v4(ip, mtu, lengths, None, dont_fragment, buffer, each)
}

/// Whether data of `total` bytes can be cut so, with `room` for data in each fragment.
fn can_cut(lengths: &[u16], total: usize, room: usize) -> bool {
    let Some((last, others)) = lengths.split_last() else { return false };
    let fits = |length: u16| length > 0 && usize::from(length) <= room;
    fits(*last)
        && !others.is_empty()
        && others.iter().all(|&length| fits(length) && length % 8 == 0)
        && lengths.iter().map(|&length| usize::from(length)).sum::<usize>() == total
}

fn cut_v4(
    ip: &[u8],
    mtu: usize,
    lengths: &[u16],
    id_override: Option<u16>,
    dont_fragment: bool,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    let header = Ipv4Header::parse(ip)?;
    let (header_len, total_len) = (header.header_len(), usize::from(header.total_len()));
    if total_len < header_len {
        return Err(ParseError::Malformed.into());
    }
    let ip = ip.get(..total_len).ok_or(ParseError::Truncated)?;
    let data = &ip[header_len..];
    let as_before = can_cut(lengths, data.len(), mtu.saturating_sub(header_len));
    if total_len <= mtu && !as_before {
        each(ip);
        return Ok(1);
    }
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
        let length = if as_before { usize::from(lengths[count]) } else { room };
        let piece = &data[done..data.len().min(done + length)];
        let end = fragment_header + piece.len();
        let more = header.more_fragments() || done + piece.len() < data.len();
        let mut field = length16((base + done) >> 3);
        if more {
            field |= ipv4::MORE_FRAGMENTS;
        }
        if dont_fragment {
            field |= ipv4::DONT_FRAGMENT;
        }
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
    each: impl FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    refragment_v6(ip, mtu, &[], id, buffer, each)
}

/// Cuts an IPv6 packet that came in as fragments into the same ones again: pieces of `lengths` bytes of data. Where
/// these are not the packet's, or one of them does not fit, pieces are cut as [`split_v6`] does. One length, that of
/// all data, makes one fragment that is the whole packet (RFC 6946).
///
/// # Errors
/// As for [`split_v6`].
pub fn refragment_v6(
    ip: &[u8],
    mtu: usize,
    lengths: &[u16],
    id: u32,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<usize, FragmentError> {
    let packet = Packet::parse(ip)?;
    if packet.is_v4() || packet.fragment_header != 0 {
        return Err(ParseError::Malformed.into());
    }
    let ip = &ip[..packet.total_len as usize];
    let (next_header_at, header_len) = unfragmentable(ip);
    let data = &ip[header_len..];
    let start = header_len + ipv6::FRAGMENT_HEADER_LEN;
    let one = matches!(lengths, [one] if usize::from(*one) == data.len()) && start + data.len() <= mtu;
    let as_before = one || can_cut(lengths, data.len(), mtu.saturating_sub(start));
    if ip.len() <= mtu && !as_before {
        each(ip);
        return Ok(1);
    }
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
        let length = if as_before { usize::from(lengths[count]) } else { room };
        let piece = &data[done..data.len().min(done + length)];
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

/// Where the data of a fragment starts: behind its IP header, and for IPv6 behind the fragment header. What the
/// [`Packet`] of a first fragment says is the header may be more than that.
pub fn data_start(packet: &Packet) -> usize {
    if packet.fragment_header == 0 {
        usize::from(packet.header_len)
    } else {
        usize::from(packet.fragment_header) + ipv6::FRAGMENT_HEADER_LEN
    }
}

/// Writes the header of the whole packet whose first fragment `first` is, and returns its length. `first` need hold
/// no more than [`data_start`] bytes, and `packet` is what it was parsed to; `data_len` bytes of data follow.
/// `tos` and, over IPv4, `dont_fragment` are what the fragments together say.
///
/// # Errors
/// [`ParseError::Malformed`] if the packet is longer than 65535 bytes (IPv6: with a payload longer than that).
///
/// # Panics
/// If `buffer` is shorter than `first`'s header, or `packet` is not what it was parsed to.
pub fn emit_whole_header(
    first: &[u8],
    packet: &Packet,
    tos: u8,
    dont_fragment: bool,
    data_len: usize,
    buffer: &mut [u8],
) -> Result<usize, ParseError> {
    if packet.fragment_header == 0 {
        let header_len = usize::from(packet.header_len);
        let total = u16::try_from(header_len + data_len).map_err(|_| ParseError::Malformed)?;
        buffer[..header_len].copy_from_slice(&first[..header_len]);
        buffer[1] = tos;
        put16(buffer, ipv4::at::TOTAL_LEN, total);
        put16(buffer, ipv4::at::FRAGMENT, if dont_fragment { ipv4::DONT_FRAGMENT } else { 0 });
        ipv4::fill_checksum(buffer);
        return Ok(header_len);
    }
    let header_len = usize::from(packet.fragment_header);
    let payload =
        u16::try_from(header_len - ipv6::HEADER_LEN + data_len).map_err(|_| ParseError::Malformed)?;
    buffer[..header_len].copy_from_slice(&first[..header_len]);
    buffer[0] = 0x60 | tos >> 4;
    buffer[1] = tos << 4 | buffer[1] & 0xf;
    put16(buffer, ipv6::at::PAYLOAD_LEN, payload);
    buffer[before_fragment_header(first, header_len)] = first[header_len];
    Ok(header_len)
}

/// Where the next-header field is that announces the fragment header at `fragment_header`.
fn before_fragment_header(ip: &[u8], fragment_header: usize) -> usize {
    let (mut at, mut end) = (ipv6::at::NEXT_HEADER, ipv6::HEADER_LEN);
    while end < fragment_header {
        let length = match ip[at] {
            ipv6::AUTHENTICATION => (usize::from(ip[end + 1]) + 2) * 4,
            _ => (usize::from(ip[end + 1]) + 1) * 8,
        };
        (at, end) = (end, end + length);
    }
    at
}

#[cfg(test)]
mod tests;
