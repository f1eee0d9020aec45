//! Reading a file without waiting for ever and without a bound.

use std::fs::{File, FileType, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

/// The longest config in bytes: 16 MiB, which is that of some 200,000 destinations.
pub(crate) const CONFIG_MAX: u64 = 16 << 20;

/// Opens a regular file. A FIFO, a device or a folder is an error, and never makes the caller wait.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    // To open a device may do something already.
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() {
        return Err(not_regular(kind));
    }
    // It may be another by now: to open a FIFO without this waits for somebody who opens its other end.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(not_regular(kind)) }
}

/// The bytes of a regular file, at most `max` of them.
///
/// # Errors
/// As [`open_regular`]; it is longer; it cannot be read.
pub(crate) fn read_regular(path: &Path, max: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let len = file.metadata()?.len();
    if len > max { Err(too_long(max)) } else { read(file, max) }
}

/// The bytes of a file or a pipe, at most `max` of them. For callers whom nobody waits for: a pipe lasts until all who
/// write to it have closed it.
///
/// # Errors
/// It is longer, or cannot be read.
pub(crate) fn read_file_or_pipe(path: &Path, max: u64) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if meta.is_file() && meta.len() > max { Err(too_long(max)) } else { read(file, max) }
}

/// The bytes of an open file, at most `max` of them.
///
/// # Errors
/// `FileTooLarge`; it cannot be read.
pub(crate) fn read(file: File, max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(too_long(max)) } else { Ok(bytes) }
}

/// What standard input has, at most `max` bytes of it; this waits for whoever writes to it.
///
/// # Errors
/// As [`read_file_or_pipe`].
pub(crate) fn read_standard_input(max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(too_long(max)) } else { Ok(bytes) }
}

fn not_regular(kind: FileType) -> Error {
    let what = match kind {
        kind if kind.is_dir() => "it is a folder",
        kind if kind.is_fifo() => "it is a FIFO",
        kind if kind.is_char_device() || kind.is_block_device() => "it is a device",
        _ => "it is not a regular file",
    };
    Error::other(what)
}

fn too_long(max: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("it is longer than {max} bytes"))
}
