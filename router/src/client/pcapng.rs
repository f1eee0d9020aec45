//! Captures in the format pcapng (draft-ietf-opsawg-pcapng): what Wireshark reads, with a comment on each packet.

use std::io::{self, Write};

/// Block types.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// What tells the byte order.
const MAGIC: u32 = 0x1a2b_3c4d;
/// Options: of all blocks, of sections, of interfaces, of packets.
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
/// Times are in nanoseconds: 10 to the minus 9.
const NANOSECONDS: u8 = 9;
/// An option has no more bytes than that.
const OPTION_MAX: usize = 65_000;

/// Frames of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    Ip,
}

impl Link {
    /// As in the list of link types (LINKTYPE_ETHERNET, LINKTYPE_RAW).
    fn number(self) -> u16 {
        match self {
            Self::Ethernet => 1,
            Self::Ip => 101,
        }
    }
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The number of its interface, in the order in which they were named.
    pub(super) interface: u32,
    /// In nanoseconds since 1970.
    pub(super) time: u64,
    /// How long it was; its first bytes.
    pub(super) length: u32,
    pub(super) bytes: &'a [u8],
    /// It left; else it came in.
    pub(super) is_outbound: bool,
    /// What Wireshark shows with it.
    pub(super) comment: &'a str,
}

/// A capture that is being written.
#[derive(Debug)]
pub(super) struct Capture<W> {
    out: W,
}

impl<W: Write> Capture<W> {
    /// Begins a capture of these interfaces.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn new<'a>(
        out: W,
        application: &str,
        interfaces: impl Iterator<Item = (&'a str, Link)>,
    ) -> io::Result<Self> {
        let mut capture = Self { out };
        let mut body = Vec::new();
        body.extend(MAGIC.to_le_bytes());
        // Version 1.0, of any length.
        body.extend([1, 0, 0, 0]);
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, APPLICATION, application.as_bytes());
        capture.block(SECTION_HEADER, body)?;
        for (name, link) in interfaces {
            let mut body = Vec::new();
            body.extend(link.number().to_le_bytes());
            // Reserved, and no bound on bytes of a packet.
            body.extend([0; 6]);
            option(&mut body, NAME, name.as_bytes());
            option(&mut body, RESOLUTION, &[NANOSECONDS]);
            capture.block(INTERFACE_DESCRIPTION, body)?;
        }
        capture.out.flush()?;
        Ok(capture)
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let captured = u32::try_from(packet.bytes.len()).map_err(io::Error::other)?;
        let mut body = Vec::new();
        body.extend(packet.interface.to_le_bytes());
        let [low, high] = [packet.time & u64::from(u32::MAX), packet.time >> 32];
        body.extend(u32::try_from(high).unwrap_or_default().to_le_bytes());
        body.extend(u32::try_from(low).unwrap_or_default().to_le_bytes());
        body.extend(captured.to_le_bytes());
        body.extend(packet.length.max(captured).to_le_bytes());
        body.extend(packet.bytes);
        pad(&mut body);
        option(&mut body, COMMENT, packet.comment.as_bytes());
        let direction: u32 = if packet.is_outbound { 2 } else { 1 };
        option(&mut body, FLAGS, &direction.to_le_bytes());
        self.block(ENHANCED_PACKET, body)
    }

    /// Has all be in the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Ends the options, and writes a block.
    fn block(&mut self, kind: u32, mut body: Vec<u8>) -> io::Result<()> {
        body.extend([0; 4]);
        let length = u32::try_from(body.len() + 12).map_err(io::Error::other)?;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&body)?;
        self.out.write_all(&length.to_le_bytes())
    }
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(OPTION_MAX)];
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    body.extend(value);
    pad(body);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    /// Type and body of each block; both lengths are checked.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert!(length.is_multiple_of(4) && word(length - 4) as usize == length, "both lengths agree");
            found.push((word(0), bytes[8..length - 4].to_vec()));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn a_capture_is_a_section_its_interfaces_and_packets() {
        let mut bytes = Vec::new();
        let interfaces = [("uvs0", Link::Ethernet), ("tun-1", Link::Ip)];
        let mut capture = Capture::new(&mut bytes, "uvs", interfaces.into_iter()).unwrap();
        let packet = Packet {
            interface: 1,
            time: 0x1_0000_0002,
            length: 9,
            bytes: &[1, 2, 3, 4, 5],
            is_outbound: true,
            comment: "dropped",
        };
        capture.packet(&packet).unwrap();
        capture.flush().unwrap();
        let blocks = blocks(&bytes);
        assert_eq!(blocks.iter().map(|it| it.0).collect::<Vec<_>>(), [SECTION_HEADER, 1, 1, 6]);
        assert_eq!(blocks[0].1[..4], MAGIC.to_le_bytes());
        assert_eq!((blocks[1].1[0], blocks[2].1[0]), (1, 101), "link types");
        let body = &blocks[3].1;
        assert_eq!(body[..4], [1, 0, 0, 0], "the interface");
        assert_eq!(body[4..12], [1, 0, 0, 0, 2, 0, 0, 0], "the time, its upper half first");
        assert_eq!(body[12..20], [5, 0, 0, 0, 9, 0, 0, 0], "so much of so much");
        assert_eq!(body[20..28], [1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(body[28..40], *b"\x01\0\x07\0dropped\0");
        assert_eq!(body[40..], [2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    }
}
