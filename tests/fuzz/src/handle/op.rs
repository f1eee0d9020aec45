//! How a script is written.
//!
//! ```text
//!   | limits | options (2) | interfaces | op, arguments | op, arguments | ...
//! ```
//!
//! An op is a byte, taken modulo [`COUNT`].

/// Length of what stands in front of the ops.
pub const HEADER_LEN: usize = 4;

/// A header: no bound is small, no option but these two is set.
pub const fn header(ftp: bool, compat_ipvs: bool) -> [u8; HEADER_LEN] {
    [0, (ftp as u8) << 5 | (compat_ipvs as u8) << 7, 0, 0]
}

/// A frame as it is: port, length (2), bytes.
pub const FRAME: u8 = 0;
/// A command line of ipvsadm: length (1), text.
pub const COMMAND: u8 = 1;
/// Time passes: unit (2 bits: ms, 100 ms, s, 16 s), number (14 bits).
pub const ADVANCE: u8 = 2;
/// A packet with right checksums, built from a few bytes; see `packet`.
pub const PACKET: u8 = 3;
/// What a frame that was sent is answered with: which, port, kind.
pub const REPLY: u8 = 4;
/// An ICMP error about a frame that was sent or received: which, kind, bytes to quote.
pub const ERROR: u8 = 5;
/// The latest frame again, changed: place (2), byte, whether checksums are made right.
pub const MUTATE: u8 = 6;
/// The latest frame in fragments: size of each, order.
pub const FRAGMENTS: u8 = 7;
/// A change out of a palette: which, arguments.
pub const CHANGE: u8 = 8;
/// The latest frame as a GSO packet: what the virtio header says (4).
pub const TRAIN: u8 = 9;
/// `handle_timeout` now, whatever is due.
pub const TICK: u8 = 10;
/// A neighbour speaks: ARP, ND or MLD, who, where.
pub const NEIGHBOR: u8 = 11;
/// Number of ops.
pub const COUNT: u8 = 12;

/// Writes [`FRAME`].
pub fn frame(script: &mut Vec<u8>, port: u8, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a frame of a recording is small");
    script.extend([FRAME, port]);
    script.extend(length.to_be_bytes());
    script.extend(bytes);
}

/// Writes [`COMMAND`]; one that is too long is left out.
pub fn command(script: &mut Vec<u8>, line: &str) {
    if let Ok(length) = u8::try_from(line.len()) {
        script.extend([COMMAND, length]);
        script.extend(line.as_bytes());
    }
}

/// Writes [`ADVANCE`].
pub fn advance(script: &mut Vec<u8>, seconds: f64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "recordings last minutes")]
    let seconds = seconds.round().clamp(0.0, 16_383.0) as u16;
    script.push(ADVANCE);
    script.extend((2 << 14 | seconds).to_be_bytes());
}
