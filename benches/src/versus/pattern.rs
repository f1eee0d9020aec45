//! Bytes by which a receiver knows that data arrived unharmed.

use std::sync::LazyLock;

/// The payload of every small message: a datagram, a request, an answer.
pub(crate) const MESSAGE: usize = 64;
/// The most that is written and read at once.
pub(crate) const CHUNK: usize = 128 * 1024;
/// Bytes after which a bulk stream repeats. A prime, so that data which is lost, doubled or misplaced by whole
/// segments, pages or buffers is out of step.
const PERIOD: usize = 131_101;
/// Of this many bytes of a bulk stream...
const STRIDE: usize = 1024;
/// ...this many are compared while it is measured; to compare all of them would be measured as well.
const SAMPLE: usize = 32;

/// Bytes that no two seeds, and no two places in a stream, have in common (xorshift64*).
#[derive(Debug)]
pub(crate) struct Bytes(u64);

impl Bytes {
    /// The stream of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next bytes. Only a buffer whose length is a multiple of 8 may be followed by another.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_mut(8) {
            // 0 would stay 0.
            let mut x = self.0 | 1 << 63;
            x ^= x >> 12;
            x ^= x << 25;
            x ^= x >> 27;
            self.0 = x;
            let bytes = x.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
            for (to, from) in word.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

/// The period of a bulk stream, and as much again as is written at once.
static BULK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; PERIOD];
    Bytes::new(1).fill(&mut bytes);
    bytes.extend_from_within(..CHUNK);
    bytes
});

/// The bytes of a bulk stream from `position` on, as many as are written at once.
pub(crate) fn bulk(position: u64) -> &'static [u8] {
    let start = usize::try_from(position % PERIOD as u64).expect("less than PERIOD");
    BULK.get(start..start + CHUNK).expect("the period is followed by a chunk of the next")
}

/// The place of the first byte that is seen to be wrong in a part of a bulk stream; some of each KiB are looked at.
pub(crate) fn sampled_difference(position: u64, part: &[u8]) -> Option<u64> {
    let want = bulk(position);
    let at = part
        .chunks(STRIDE)
        .zip(want.chunks(STRIDE))
        .position(|(got, want)| got.iter().zip(want).take(SAMPLE).any(|(got, want)| got != want))?;
    Some(position + (at * STRIDE) as u64)
}

/// The same, with every byte looked at; the place is that in the part.
pub(crate) fn difference(position: u64, part: &[u8]) -> Option<u64> {
    let want = bulk(position).get(..part.len())?;
    if part == want {
        return None;
    }
    part.iter().zip(want).position(|(got, want)| got != want).map(|at| at as u64)
}

/// The `number`th message of a flow.
pub(crate) fn message(flow: u32, number: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let (head, tail) = message.split_at_mut(16);
    let (numbers, kind) = head.split_at_mut(8);
    numbers.copy_from_slice(&number.to_be_bytes());
    kind.copy_from_slice(&u64::from(flow).to_be_bytes());
    for (at, byte) in (0_u8..).zip(tail) {
        *byte = numbers.last().map_or(at, |last| last.wrapping_add(at));
    }
    message
}

/// The flow and the number of a message, if it is whole.
pub(crate) fn identify(bytes: &[u8]) -> Option<(u32, u64)> {
    let (numbers, rest) = bytes.split_first_chunk::<8>()?;
    let (flow, _) = rest.split_first_chunk::<8>()?;
    let (flow, number) = (u32::try_from(u64::from_be_bytes(*flow)).ok()?, u64::from_be_bytes(*numbers));
    (bytes == message(flow, number)).then_some((flow, number))
}

/// What a server answers to a message.
pub(crate) fn answer(message: &[u8]) -> Vec<u8> {
    message.iter().map(|byte| !byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_stream_out_of_step_is_noticed() {
        let part = |from: u64, len: usize| bulk(from)[..len].to_vec();
        assert_eq!(sampled_difference(7, &part(7, CHUNK)), None, "in step");
        assert_eq!(sampled_difference(PERIOD as u64 + 7, &part(7, 5000)), None, "it repeats");
        for lost in [1, 1448, 4096, 65536, 1 << 20] {
            assert_eq!(sampled_difference(0, &part(lost, 100)), Some(0), "{lost} bytes are missing");
        }
        let mut wrong = part(100, 5000);
        wrong[2050] ^= 1;
        assert_eq!(sampled_difference(100, &wrong), Some(100 + 2048), "one bit in the sample");
        assert_eq!(difference(100, &wrong), Some(2050), "by its place");
        for at in [0, 777, 4999] {
            let mut wrong = part(100, 5000);
            wrong[at] ^= 0x80;
            assert_eq!(difference(100, &wrong), Some(at as u64), "one bit anywhere");
        }
        assert_eq!(difference(7, &part(7, CHUNK)), None, "in step");
    }

    #[test]
    fn a_message_is_whole_or_unknown() {
        let whole = message(3, 77);
        assert_eq!(identify(&whole), Some((3, 77)));
        for at in 0..MESSAGE {
            let mut wrong = whole;
            wrong[at] ^= 0x10;
            assert_ne!(identify(&wrong), Some((3, 77)), "byte {at}");
        }
        assert_eq!(identify(&whole[..63]), None, "cut short");
        assert_eq!(identify(&[]), None);
    }

    #[test]
    fn streams_go_on_where_they_were() {
        let (mut whole, mut parts) = ([0; 64], [0; 64]);
        Bytes::new(5).fill(&mut whole);
        let mut bytes = Bytes::new(5);
        let (head, tail) = parts.split_at_mut(24);
        bytes.fill(head);
        bytes.fill(tail);
        assert_eq!(whole, parts);
    }
}
