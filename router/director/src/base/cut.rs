//! GSO packets and partial checksums for devices that do not take them.
//!
//! ```text
//!   GSO packet     | Ethernet | IP | TCP | data 1 | data 2 | data 3 |
//!   pieces    | Ethernet | IP | TCP |  + data 1      headers are written anew for each piece,
//!             | Ethernet | IP | TCP |  + data 2      data stays where it is: a device that gathers
//!             | Ethernet | IP | TCP |  + data 3      (writev) needs no copy of it
//! ```
//! A GSO packet in a tunnel has one more set of headers in front, which each piece gets as well. Where the outer header
//! has a checksum over everything (GUE, GRE), it follows from the headers alone: from the transport header on, a packet
//! with a right checksum sums up to the complement of its pseudo-header, whatever its data is.

use uvs_wire::checksum::{Sum, pseudo_header};
use uvs_wire::rewrite::L4Sum;
use uvs_wire::segment::{SegmentError, Segments};
use uvs_wire::{Packet, gre, ipv4, ipv6, tcp, udp, vnet};

use crate::base::frame::{Frame, Offload};

/// The most bytes of headers that a piece may have.
pub const HEADERS_MAX: usize = 1024;

/// One frame of those that a GSO packet makes: `headers`, then `data`.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'p> {
    /// Its headers, Ethernet to TCP or UDP.
    pub headers: &'p [u8],
    /// What stands behind them, in the GSO packet's own memory.
    pub data: &'p [u8],
    /// Its own virtio header: that of one packet, at most with a partial checksum.
    pub offload: Offload,
}

/// A GSO packet that is being cut. See [`Frame::cut`].
#[derive(Debug)]
pub struct Cut<'f> {
    /// The GSO packet from its own IP header on, not that of a tunnel.
    ip: &'f [u8],
    packet: Packet,
    segments: Segments<'f>,
    headers: [u8; HEADERS_MAX],
    /// Where in `headers` the outermost IP header starts.
    link_len: usize,
    /// Where the GSO packet's own does.
    start: usize,
    outer_id: u16,
    partial: bool,
}

impl Frame {
    /// Cuts a GSO packet into the frames that it makes on a wire. `link_len`: bytes in front of the outermost IP
    /// header, 14 on TAP and 0 on TUN. `partial`: whoever takes the pieces completes checksums himself; otherwise they
    /// are computed here.
    ///
    /// # Errors
    /// The frame is no GSO packet of TCP or UDP packets, or not one whose headers fit into [`HEADERS_MAX`].
    pub fn cut(&self, link_len: usize, partial: bool) -> Result<Cut<'_>, SegmentError> {
        let bytes = self.bytes();
        let start = match usize::from(self.offload.inner_start) {
            0 => link_len,
            inner => inner,
        };
        let ip = bytes.get(start..).ok_or(SegmentError::NotATrain)?;
        let packet = Packet::parse(ip).map_err(|_| SegmentError::NotATrain)?;
        if !is_gso(&self.offload) {
            return Err(SegmentError::NotATrain);
        }
        let segments = Segments::new(ip, &packet, self.offload.segment_size)?;
        let outer_len = match bytes.get(link_len).map(|first| first >> 4) {
            Some(4) => ipv4::HEADER_LEN,
            _ => ipv6::HEADER_LEN,
        };
        if start + segments.headers_len() > HEADERS_MAX || start != link_len && start < link_len + outer_len {
            return Err(SegmentError::NotATrain);
        }
        let mut headers = [0; HEADERS_MAX];
        headers[..start].copy_from_slice(&bytes[..start]);
        let outer_id = if outer_len == ipv4::HEADER_LEN {
            u16::from_be_bytes([ip_byte(bytes, link_len, 4), ip_byte(bytes, link_len, 5)])
        } else {
            0
        };
        Ok(Cut { ip, packet, segments, headers, link_len, start, outer_id, partial })
    }

    /// How many packets the frame stands for: those of a GSO packet, or one.
    pub fn packets(&self) -> usize {
        let offload = &self.offload;
        if !is_gso(offload) || offload.segment_size == 0 {
            return 1;
        }
        // The kernel gives no GSO packet without a partial checksum, which tells where the transport header starts.
        let transport = usize::from(offload.checksum_start);
        let header = match offload.gso_type & !vnet::GSO_ECN {
            vnet::GSO_UDP_L4 => udp::HEADER_LEN,
            _ => self.bytes().get(transport + 12).map_or(20, |offset| usize::from(offset >> 4) * 4),
        };
        self.len().saturating_sub(transport + header).div_ceil(usize::from(offload.segment_size)).max(1)
    }
}

fn ip_byte(bytes: &[u8], link_len: usize, at: usize) -> u8 {
    bytes.get(link_len + at).copied().unwrap_or_default()
}

/// Whether it is cut into packets, and not into fragments of one.
fn is_gso(offload: &Offload) -> bool {
    !matches!(offload.gso_type & !vnet::GSO_ECN, vnet::GSO_NONE | vnet::GSO_UDP)
}

impl Cut<'_> {
    /// How many pieces there are in all.
    pub fn count(&self) -> usize {
        self.segments.count()
    }

    /// The next piece; `None` after the last.
    #[expect(
        clippy::should_implement_trait,
        reason = "a piece borrows the headers, as no iterator's item can"
    )]
    pub fn next(&mut self) -> Option<Piece<'_>> {
        let index = self.segments.index();
        let sum = if self.partial { L4Sum::Partial } else { L4Sum::Complete };
        let data = self.segments.next_headers(&mut self.headers[self.start..], sum)?;
        let data = &self.ip[data];
        let len = self.start + self.segments.headers_len();
        if self.start != self.link_len {
            self.put_outer(index, len, data);
        }
        let transport = self.start + usize::from(self.packet.header_len);
        let mut offload = Offload::default();
        let field = self.sum_field();
        // Of UDP no checksum at all stays none.
        if self.partial && self.headers[transport + field..transport + field + 2] != [0, 0] {
            offload.needs_checksum = true;
            offload.checksum_start = u16::try_from(transport).expect("headers fit into HEADERS_MAX");
            offload.checksum_offset = u16::try_from(field).expect("a field of a header");
        }
        Some(Piece { headers: &self.headers[..len], data, offload })
    }

    /// Where in the transport header the checksum is.
    fn sum_field(&self) -> usize {
        if self.packet.protocol == tcp::PROTOCOL { 16 } else { 6 }
    }

    /// Makes the headers of the tunnel those of one piece: lengths, id, checksums.
    fn put_outer(&mut self, index: u16, len: usize, data: &[u8]) {
        let inner_sum = self.inner_sum(len, data);
        let (outer, inner) = self.headers[..len].split_at_mut(self.start);
        let outer = &mut outer[self.link_len..];
        let inner_len = inner.len() + data.len();
        let told =
            |len: usize| u16::try_from(len).expect("one packet of a GSO packet fits its link").to_be_bytes();
        let is_v4 = outer[0] >> 4 == 4;
        let (outer_len, protocol) =
            if is_v4 { (ipv4::HEADER_LEN, outer[9]) } else { (ipv6::HEADER_LEN, outer[6]) };
        let total = outer.len() + inner_len;
        let shim = &mut outer[outer_len..];
        let shim_total = shim.len() + inner_len;
        match protocol {
            udp::PROTOCOL => {
                shim[4..6].copy_from_slice(&told(shim_total));
                if shim[6..8] != [0, 0] {
                    shim[6..8].fill(0);
                    let shim_sum = Sum::new().add_bytes(shim);
                    let addresses = addresses_sum(outer, is_v4, shim_total);
                    let sum = match inner_sum.add(shim_sum).add(addresses).finish() {
                        0 => 0xffff,
                        sum => sum,
                    };
                    outer[outer_len + 6..outer_len + 8].copy_from_slice(&sum.to_be_bytes());
                }
            }
            gre::PROTOCOL if shim.len() == gre::header_len(true) => {
                shim[4..8].fill(0);
                let sum = inner_sum.add_bytes(shim).finish();
                shim[4..6].copy_from_slice(&sum.to_be_bytes());
            }
            _ => {}
        }
        if is_v4 {
            outer[2..4].copy_from_slice(&told(total));
            // An id of 0 with "don't fragment": there will be no fragments to tell apart (RFC 6864).
            let id = if outer[6] & 0x40 != 0 && self.outer_id == 0 {
                0
            } else {
                self.outer_id.wrapping_add(index)
            };
            outer[4..6].copy_from_slice(&id.to_be_bytes());
            ipv4::fill_checksum(outer);
        } else {
            outer[4..6].copy_from_slice(&told(total - ipv6::HEADER_LEN));
        }
    }

    /// The sum over the inner packet as it will be on the wire.
    fn inner_sum(&self, len: usize, data: &[u8]) -> Sum {
        let transport = self.start + usize::from(self.packet.header_len);
        let ip = Sum::new().add_bytes(&self.headers[self.start..transport]);
        let field = transport + self.sum_field();
        if self.headers[field..field + 2] == [0, 0] {
            return ip.add(Sum::new().add_bytes(&self.headers[transport..len]).add_bytes(data));
        }
        let length = u32::try_from(len - transport + data.len()).expect("one packet of a GSO packet");
        let pseudo = pseudo_header(self.packet.src, self.packet.dst, self.packet.protocol, length);
        ip.add_u16(pseudo.finish())
    }
}

/// The sum of the pseudo-header of a tunnel's UDP header.
fn addresses_sum(outer: &[u8], is_v4: bool, length: usize) -> Sum {
    let addresses = if is_v4 { &outer[12..20] } else { &outer[8..40] };
    let length = u16::try_from(length).expect("one packet of a GSO packet fits its link");
    Sum::new().add_bytes(addresses).add_u16(u16::from(udp::PROTOCOL)).add_u16(length)
}
