//! Captures of both sides (the pcap format, nanosecond times).

use std::io;
use std::path::Path;

use uvs_director::Instant;

use crate::event::Side;

/// Frames as they came to the director and left it.
#[derive(Default)]
pub struct Capture {
    frames: [Vec<(Instant, Vec<u8>)>; 2],
}

impl Capture {
    /// Notes a frame.
    pub(crate) fn note(&mut self, side: Side, now: Instant, frame: &[u8]) {
        self.frames[side as usize].push((now, frame.to_vec()));
    }

    /// The frames of the client side, then those of the server side, with their times.
    pub fn frames(&self) -> Vec<(Instant, Vec<u8>)> {
        self.frames.concat()
    }

    /// Writes `NAME.client.pcap` and `NAME.server.pcap` into a folder, and says where they are.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<Vec<std::path::PathBuf>> {
        Side::ALL
            .iter()
            .map(|side| {
                let path = folder.join(format!("{name}.{side}.pcap"));
                std::fs::write(&path, file(&self.frames[*side as usize]))?;
                Ok(path)
            })
            .collect()
    }
}

fn file(frames: &[(Instant, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
    // Magic of nanosecond times, version 2.4, no correction, whole frames, Ethernet.
    for value in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 0x4_0000, 1] {
        word(&mut bytes, value);
    }
    for (at, frame) in frames {
        let (seconds, nanos) = (at.as_nanos() / 1_000_000_000, at.as_nanos() % 1_000_000_000);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let low = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        for value in [low(seconds), low(nanos), length, length] {
            word(&mut bytes, value);
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}
