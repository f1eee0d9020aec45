//! Segmentation in software: what TSO and USO would do to a GSO packet.
//!
//! ```text
//! GSO packet    | IP | TCP         | data 1 | data 2 | data 3 |
//!          +----+-------------+--------+--------+--------+
//!  1st     | IP | TCP, seq    | data 1 |   no FIN, PSH; CWR if the GSO packet has it
//!          +----+-------------+--------+
//!  2nd     | IP | TCP, seq+n  | data 2 |   no FIN, PSH, CWR
//!          +----+-------------+--------+
//!  last    | IP | TCP, seq+2n | data 3 |   FIN and PSH if the GSO packet has them
//! ```

use core::fmt;
use core::ops::Range;

use crate::checksum::{Sum, pseudo_header};
use crate::field::{get16, get32, length16, put16, put32};
use crate::rewrite::L4Sum;
use crate::{Packet, ipv4, ipv6, tcp, udp};

/// Why a packet was not segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// Neither TCP nor UDP, or a fragment: such a packet is not a GSO packet.
    NotATrain,
    /// A segment size of 0.
    ZeroSize,
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotATrain => "only whole TCP and UDP packets can be segmented",
            Self::ZeroSize => "the segment size is 0",
        })
    }
}

impl core::error::Error for SegmentError {}

/// A GSO packet that is being cut.
///
/// ```
/// # use uvs_wire::{Packet, segment::Segments};
/// # let long = [0x45, 0, 0, 34, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
/// #     0, 7, 0, 9, 0, 14, 0, 0, b'u', b'v', b's', b'u', b'v', b's'];
/// let packet = Packet::parse(&long).expect("a UDP packet");
/// let mut buffer = [0; 1500];
/// let mut segments = Segments::new(&long, &packet, 3).expect("a GSO packet");
/// assert_eq!(segments.count(), 2);
/// while let Some(length) = segments.write_next(&mut buffer) {
///     assert!(buffer[..length].ends_with(b"uvs"));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    ip: &'a [u8],
    packet: Packet,
    /// Length of all headers.
    headers: usize,
    size: usize,
    /// Bytes of data already cut off.
    done: usize,
    index: u16,
}

impl<'a> Segments<'a> {
    /// Prepares to cut the GSO packet `ip`, which `packet` was parsed from, into packets with `size` bytes of data
    /// each, the last with the rest.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn new(ip: &'a [u8], packet: &Packet, size: u16) -> Result<Self, SegmentError> {
        if size == 0 {
            return Err(SegmentError::ZeroSize);
        }
        if packet.is_fragment() || !packet.has_ports() {
            return Err(SegmentError::NotATrain);
        }
        let start = usize::from(packet.header_len);
        let headers = start
            + match packet.protocol {
                tcp::PROTOCOL => usize::from(ip[start + tcp::at::OFFSET] >> 4) * 4,
                udp::PROTOCOL => udp::HEADER_LEN,
                _ => return Err(SegmentError::NotATrain),
            };
        let ip = &ip[..packet.total_len as usize];
        Ok(Self { ip, packet: *packet, headers, size: usize::from(size), done: 0, index: 0 })
    }

    /// The number of packets the whole GSO packet makes: at least one, though it carry no data.
    pub fn count(&self) -> usize {
        (self.ip.len() - self.headers).div_ceil(self.size).max(1)
    }

    /// The length of the longest of them, IP header included: what the buffer has to hold.
    pub fn max_len(&self) -> usize {
        self.ip.len().min(self.headers + self.size)
    }

    /// Writes the next packet to the start of `buffer`, all checksums complete, and returns its length; `None`
    /// after the last.
    ///
    /// A UDP checksum of 0, "not computed", stays 0.
    ///
    /// # Panics
    /// If the buffer is shorter than the packet.
    pub fn write_next(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let data = self.next_headers(buffer, L4Sum::Complete)?;
        let length = self.headers + data.len();
        buffer[self.headers..length].copy_from_slice(&self.ip[data]);
        Some(length)
    }

    /// Writes only the headers of the next packet to the start of `buffer`, [`Self::headers_len`] bytes, and returns
    /// where in the GSO packet its data is; `None` after the last. For whoever can write a packet in two pieces.
    ///
    /// A UDP checksum of 0, "not computed", stays 0.
    ///
    /// # Panics
    /// If the buffer is shorter than the headers.
    pub fn next_headers(&mut self, buffer: &mut [u8], sum: L4Sum) -> Option<Range<usize>> {
        let end = self.ip.len();
        let start = self.headers + self.done;
        if start >= end && self.index > 0 {
            return None;
        }
        let data = start..end.min(start + self.size);
        let headers = &mut buffer[..self.headers];
        headers.copy_from_slice(&self.ip[..self.headers]);
        self.put_ip(headers, self.headers + data.len());
        let transport = &mut headers[usize::from(self.packet.header_len)..];
        self.put_transport(transport, &self.ip[data.clone()], data.end == end, sum);
        self.done += data.len();
        self.index = self.index.wrapping_add(1);
        Some(data)
    }

    /// Length of all headers, IP to TCP or UDP.
    pub fn headers_len(&self) -> usize {
        self.headers
    }

    /// How many packets were cut off so far, modulo 65536.
    pub fn index(&self) -> u16 {
        self.index
    }

    fn put_ip(&self, packet: &mut [u8], length: usize) {
        if self.packet.is_v4() {
            put16(packet, ipv4::at::TOTAL_LEN, length16(length));
            let id = get16(self.ip, ipv4::at::ID).wrapping_add(self.index);
            put16(packet, ipv4::at::ID, id);
            ipv4::fill_checksum(packet);
        } else {
            put16(packet, ipv6::at::PAYLOAD_LEN, length16(length - ipv6::HEADER_LEN));
        }
    }

    fn put_transport(&self, transport: &mut [u8], data: &[u8], last: bool, sum: L4Sum) {
        let is_tcp = self.packet.protocol == tcp::PROTOCOL;
        let field = if is_tcp { tcp::at::CHECKSUM } else { udp::at::CHECKSUM };
        let length = length16(transport.len() + data.len());
        if is_tcp {
            let done = u32::try_from(self.done).expect("an IP payload is at most 65535 bytes");
            let seq = get32(transport, tcp::at::SEQ).wrapping_add(done);
            put32(transport, tcp::at::SEQ, seq);
            if !last {
                transport[tcp::at::FLAGS] &= !(tcp::FIN | tcp::PSH);
            }
            if self.index > 0 {
                transport[tcp::at::FLAGS] &= !tcp::CWR;
            }
        } else {
            put16(transport, udp::at::LENGTH, length);
            if get16(transport, field) == 0 {
                return;
            }
        }
        put16(transport, field, 0);
        let (src, dst) = (self.packet.src, self.packet.dst);
        let pseudo = pseudo_header(src, dst, self.packet.protocol, u32::from(length));
        let value = match sum {
            L4Sum::Partial => pseudo.fold(),
            L4Sum::Complete => match Sum::new().add_bytes(transport).add_bytes(data).add(pseudo).finish() {
                0 if !is_tcp => 0xffff,
                sum => sum,
            },
        };
        put16(transport, field, value);
    }
}

/// Cuts a GSO packet as [`Segments`] does, hands each packet to `each`, and returns their number.
///
/// # Errors
/// See [`SegmentError`].
///
/// # Panics
/// If `buffer` is shorter than [`Segments::max_len`].
pub fn split(
    ip: &[u8],
    packet: &Packet,
    size: u16,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<usize, SegmentError> {
    let mut segments = Segments::new(ip, packet, size)?;
    while let Some(length) = segments.write_next(buffer) {
        each(&buffer[..length]);
    }
    Ok(segments.count())
}

#[cfg(test)]
mod tests;
