//! What several modules need and none of them owns.

use std::fs::DirEntry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whoever panicked while it held one of these locks left a whole map behind.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
