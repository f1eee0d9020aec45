//! A frame on its way through the director.

use core::fmt;

use uvs_wire::checksum::Sum;
use uvs_wire::ethernet;

/// Bytes kept free in front of a frame, so that an outer header fits without moving it (an IPv6 header
/// of 40 bytes and GUE's UDP and its own header with room to spare).
pub const HEADROOM: usize = 128;

/// The largest frame: a GSO packet of 65,535 bytes of IP behind an Ethernet header with a VLAN tag.
pub const FRAME_MAX: usize = 65_535 + 18;

/// Of a tag of 802.1Q or 802.1ad: where it stands, and how long it is.
const TAG_AT: usize = 12;
const TAG_LEN: usize = 4;

/// What the virtio-net header says beside a frame (`struct virtio_net_hdr`, virtio 1.2 section 5.1.6).
///
/// The default is a plain frame: complete checksums, one packet. Offsets count from the start of the
/// frame (of the IP header on TUN) and move with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The L4 checksum field holds the sum of the pseudo-header only, not complemented (`NEEDS_CSUM`).
    pub needs_checksum: bool,
    /// `gso_type`; 0 is none.
    pub gso_type: u8,
    /// Length of all headers in front of the payload of a GSO packet.
    pub header_len: u16,
    /// Payload bytes in each segment of a GSO packet.
    pub segment_size: u16,
    /// Where checksumming starts.
    pub checksum_start: u16,
    /// Where the sum is stored, counted from `checksum_start`.
    pub checksum_offset: u16,
    /// Of a GSO packet inside a tunnel: where the IP header of the GSO packet itself starts, behind those of the
    /// tunnel; 0 of any other. Few devices know such GSO packets, and then only some tunnels: see [`Frame::cut`].
    pub inner_start: u16,
}

impl Offload {
    /// Whether no offset of it means anything: it is of a plain frame, as nearly all are.
    #[inline]
    fn is_plain(&self) -> bool {
        u16::from(self.needs_checksum) | u16::from(self.gso_type) | self.inner_start == 0
    }

    /// Moves the offsets when `n` bytes come or go in front.
    #[inline(never)]
    fn shift(&mut self, n: usize, by: impl Fn(u16, u16) -> u16) {
        let n = u16::try_from(n).expect("headers are shorter than 64 KiB");
        if self.needs_checksum {
            self.checksum_start = by(self.checksum_start, n);
        }
        if self.gso_type != 0 {
            self.header_len = by(self.header_len, n);
        }
        if self.inner_start != 0 {
            self.inner_start = by(self.inner_start, n);
        }
    }
}

/// The fragments that a packet came in as. It leaves as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragments {
    /// Bytes of data in each, first to last.
    pub(crate) lengths: Vec<u16>,
    /// Length of the largest, headers included.
    pub(crate) largest: u32,
    /// They were not to be fragmented further (IPv4).
    pub(crate) dont_fragment: bool,
}

impl Fragments {
    /// As the kernel does with IPv6: where the first would not end at a multiple of 8 any more, what fits leaves as one
    /// fragment that is the whole packet (RFC 6946).
    pub(crate) fn join_uneven(&mut self) {
        let sum = self.lengths.iter().map(|&length| u32::from(length)).sum::<u32>();
        if let ([first, _, ..], Ok(sum)) = (&self.lengths[..], u16::try_from(sum))
            && !first.is_multiple_of(8)
        {
            self.lengths = vec![sum];
        }
    }
}

/// One frame, or a GSO packet of segments, in a buffer that is used again and again.
///
/// The bytes are an Ethernet frame on a TAP device and an IP packet on a TUN device.
#[derive(Clone)]
pub struct Frame {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The virtio header that came with the frame, and that goes with it.
    pub offload: Offload,
    /// Of a packet that was put together here.
    pub(crate) fragments: Option<Box<Fragments>>,
}

impl Frame {
    /// An empty frame with room for the largest.
    pub fn new() -> Self {
        Self::with_capacity(FRAME_MAX)
    }

    /// An empty frame with room for `capacity` bytes behind the headroom.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: vec![0; HEADROOM + capacity],
            start: HEADROOM,
            end: HEADROOM,
            offload: Offload::default(),
            fragments: None,
        }
    }

    /// A frame that holds a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::with_capacity(bytes.len());
        frame.fill(bytes);
        frame
    }

    /// Empties the frame and returns the room behind the headroom, to be read into; see [`Self::set_len`].
    #[inline]
    pub fn reset(&mut self) -> &mut [u8] {
        self.start = HEADROOM;
        self.end = HEADROOM;
        self.offload = Offload::default();
        self.fragments = None;
        &mut self.buffer[HEADROOM..]
    }

    /// Says how many bytes were put into the room that [`Self::reset`] returned.
    ///
    /// # Panics
    /// When `len` is larger than that room.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(self.start + len <= self.buffer.len(), "a frame cannot be longer than its buffer");
        self.end = self.start + len;
    }

    /// Replaces the content by a copy of `bytes`, growing the buffer when needed.
    #[inline]
    pub fn fill(&mut self, bytes: &[u8]) {
        if self.buffer.len() < HEADROOM + bytes.len() {
            self.buffer.resize(HEADROOM + bytes.len(), 0);
        }
        self.reset()[..bytes.len()].copy_from_slice(bytes);
        self.set_len(bytes.len());
    }

    /// The frame's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The frame's bytes, to be rewritten in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is nothing in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Cuts bytes off the end, so that `len` remain; a longer `len` changes nothing.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Takes `n` bytes off the front; they become headroom.
    ///
    /// # Panics
    /// When the frame is shorter than `n`.
    #[inline]
    pub fn strip_front(&mut self, n: usize) {
        assert!(n <= self.len(), "more bytes stripped than there are");
        self.start += n;
        if !self.offload.is_plain() {
            self.offload.shift(n, u16::wrapping_sub);
        }
    }

    /// Takes the tag of an Ethernet frame out, if it has one of 802.1ad, and returns what it says. The kernel, which
    /// puts it between addresses and type on the way to userspace, has counted it in where the checksum starts, and not
    /// in `header_len`.
    #[inline]
    pub(crate) fn take_tag(&mut self) -> Option<u16> {
        let bytes = self.bytes_mut();
        if bytes.len() < ethernet::HEADER_LEN + TAG_LEN
            || ethernet::ethertype(bytes) != ethernet::ETHERTYPE_SERVICE_VLAN
        {
            return None;
        }
        let tag = u16::from_be_bytes([bytes[ethernet::HEADER_LEN], bytes[ethernet::HEADER_LEN + 1]]);
        bytes.copy_within(..TAG_AT, TAG_LEN);
        let header_len = self.offload.header_len;
        self.strip_front(TAG_LEN);
        self.offload.header_len = header_len;
        Some(tag)
    }

    /// Adds `n` bytes to the front, out of the headroom; their content is whatever was there.
    /// False, and nothing done, when there is not that much headroom.
    #[must_use]
    #[inline]
    pub fn grow_front(&mut self, n: usize) -> bool {
        match self.start.checked_sub(n) {
            Some(start) => {
                self.start = start;
                if !self.offload.is_plain() {
                    self.offload.shift(n, u16::wrapping_add);
                }
                true
            }
            None => false,
        }
    }
}

impl Frame {
    /// The checksum that the frame still needs, and where it goes: over all of the frame from where it starts. Not for
    /// GSO packets, whose packets have a checksum each. `None`: it needs none, or at a place where it has no bytes.
    pub fn missing_checksum(&self) -> Option<(usize, [u8; 2])> {
        if !self.offload.needs_checksum {
            return None;
        }
        let start = usize::from(self.offload.checksum_start);
        let at = start + usize::from(self.offload.checksum_offset);
        self.bytes().get(at..at + 2)?;
        let sum = match Sum::new().add_bytes(&self.bytes()[start..]).finish() {
            0 => 0xffff,
            sum => sum,
        };
        Some((at, sum.to_be_bytes()))
    }

    /// Puts [`Self::missing_checksum`] in; from then on the frame needs nothing.
    pub fn complete_checksum(&mut self) {
        if let Some((at, sum)) = self.missing_checksum() {
            self.bytes_mut()[at..at + 2].copy_from_slice(&sum);
        }
        self.offload = Offload::default();
    }

    /// Adds bytes to the end, growing the buffer when needed.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.end);
        self.buffer.extend_from_slice(bytes);
        self.end = self.buffer.len();
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("len", &self.len())
            .field("offload", &self.offload)
            .finish_non_exhaustive()
    }
}
