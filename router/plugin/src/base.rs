//! What several modules need and none of them owns.

use std::fs::DirEntry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whoever panicked while it held one of these locks left a whole map behind.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Lower-case hexadecimal digits, two a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

/// The end of the names of files that are being written.
pub(crate) const PART: &str = ".part";
/// A file that is being written and has not changed for so long is one of a process that died.
const PART_AGE: Duration = Duration::from_secs(60);

/// Whether a file in a folder of ours was left half-written by a process that died.
pub(crate) fn is_left_over(entry: &DirEntry) -> bool {
    let age = || entry.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok();
    entry.file_name().to_str().is_some_and(|name| name.ends_with(PART))
        && age().is_some_and(|age| age > PART_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        // First outputs for seed 0, as published with the reference implementation.
        let mut state = 0;
        assert_eq!(splitmix64(&mut state), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(&mut state), 0x6e78_9e6a_a1b9_65f4);
    }
}
