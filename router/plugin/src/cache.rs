//! Compiled modules on disk, so that a large one is compiled once and not at every start.
//!
//! ```text
//! DIR/key                        32 random bytes, readable to its owner only
//! DIR/MODULE-ENGINE.compiled     "uvs code" | HMAC-SHA256 over the name and the code | the code
//! ```
//! MODULE is the SHA-256 of the component, ENGINE a digest of wasmtime's version, its settings and the machine's
//! features. Loading machine code means to run it, so nothing is taken on trust: the folder and the files have to
//! belong to the user uvs runs as, nobody else may be able to write them, no link is followed, and code whose tag
//! does not fit (another key, a damaged file, a renamed one) is compiled anew.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, faccessat, geteuid, unlinkat};
use sha2::{Digest, Sha256};
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::base::{PART, hex, is_left_over};
use crate::code::Code;

const MAGIC: &[u8; 8] = b"uvs code";
const TAG: usize = 32;
/// A larger entry is neither written nor read: 256 MiB, several times what the largest interpreter takes.
const BYTES_MAX: u64 = 256 << 20;
/// Entries that are kept; the oldest go.
const ENTRIES_MAX: usize = 64;
const SUFFIX: &str = ".compiled";

/// A folder of compiled modules.
#[derive(Debug)]
pub struct CodeCache {
    path: PathBuf,
    dir: OwnedFd,
    key: [u8; 32],
}

impl CodeCache {
    /// Opens a folder, and makes it where there is none.
    ///
    /// # Errors
    /// A sentence: it cannot be made or read, or others could write to it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let fail = |what: &str| format!("the cache of compiled modules {} {what}", path.display());
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| fail(&format!("cannot be made: {error}")))?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            nix::errno::Errno::ENOTDIR | nix::errno::Errno::ELOOP => {
                fail("is a link or no folder; give the folder itself")
            }
            other => fail(&format!("cannot be opened: {other}")),
        })?;
        let meta = File::from(dir.try_clone().map_err(|error| fail(&error.to_string()))?)
            .metadata()
            .map_err(|error| fail(&format!("cannot be looked at: {error}")))?;
        if let Some(fault) = fault(&meta) {
            return Err(fail(&format!(
                "{fault}; code in it would not be safe to run: chown and chmod 0700 it"
            )));
        }
        let key = read_or_make_key(&dir).map_err(|error| fail(&format!("has no usable key: {error}")))?;
        Ok(Self { path: path.to_owned(), dir, key })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The compiled form of a component, if it is there and nobody has touched it.
    pub(crate) fn load(&self, engine: &Engine, module: &[u8; 32]) -> Option<Component> {
        let name = entry_name(engine, module);
        let code = match self.read(&name) {
            Ok(code) => Code::of_our_compiler(code?),
            Err(error) => {
                warn!(cache = %self.path.display(), entry = name, "compiled code is not used: {error}");
                return None;
            }
        };
        code.load(engine)
            .inspect_err(|error| warn!(entry = name, "compiled code is not used: {error:#}"))
            .ok()
    }

    /// Keeps the compiled form of a component. What cannot be written is only slower the next time.
    pub(crate) fn store(&self, engine: &Engine, module: &[u8; 32], code: &Code) {
        let name = entry_name(engine, module);
        match self.write(&name, code.bytes()) {
            Ok(()) => debug!(entry = name, "compiled code is kept"),
            Err(error) => warn!(cache = %self.path.display(), "compiled code cannot be kept: {error}"),
        }
    }

    fn tag(&self, name: &str, code: &[u8]) -> [u8; TAG] {
        hmac(&self.key, &[name.as_bytes(), code])
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut bytes) = read_own(&self.dir, name, BYTES_MAX)? else { return Ok(None) };
        let damaged = || io::Error::other("it is damaged, or somebody else wrote it");
        if bytes.len() < MAGIC.len() + TAG || !bytes.starts_with(MAGIC) {
            return Err(damaged());
        }
        let code = bytes.split_off(MAGIC.len() + TAG);
        // Whoever could measure how long this takes cannot write to the folder.
        if self.tag(name, &code) != bytes[MAGIC.len()..] {
            return Err(damaged());
        }
        Ok(Some(code))
    }

    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        if code.len() as u64 > BYTES_MAX - 1024 {
            return Err(io::Error::other(format!("{} bytes are too many", code.len())));
        }
        self.make_room()?;
        let tag = self.tag(name, code);
        write_own(&self.dir, name, &[MAGIC, &tag, code])
    }

    /// Removes the oldest entries, so that one more has room.
    fn make_room(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.contains(SUFFIX) && is_left_over(&entry) {
                unlinkat(&self.dir, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
                continue;
            }
            if name.ends_with(SUFFIX) {
                let age = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push((age, name));
            }
        }
        entries.sort();
        let excess = (entries.len() + 1).saturating_sub(ENTRIES_MAX);
        for (_, name) in &entries[..excess] {
            unlinkat(&self.dir, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(())
    }
}

/// HMAC-SHA256 (RFC 2104) over the parts one after the other. (The crate of that name has another `sha2` built, and
/// with it wasmtime's compiler.)
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; TAG] {
    const BLOCK: usize = 64;
    let pad = |with: u8| -> [u8; BLOCK] { core::array::from_fn(|i| with ^ key.get(i).copied().unwrap_or(0)) };
    let mut inner = Sha256::new_with_prefix(pad(0x36));
    parts.iter().for_each(|part| inner.update(part));
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

/// Why a folder or a file is not ours alone.
fn fault(meta: &std::fs::Metadata) -> Option<String> {
    let me = geteuid().as_raw();
    if meta.uid() != me {
        return Some(format!("belongs to user {}, and uvs runs as {me}", meta.uid()));
    }
    (meta.mode() & 0o022 != 0)
        .then(|| format!("can be written by others (mode {:04o})", meta.mode() & 0o7777))
}

/// A file of ours in the folder; `None` where there is none.
fn read_own(dir: &OwnedFd, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(nix::errno::Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > limit {
        return Err(io::Error::other("it is no file, or too large"));
    }
    if let Some(fault) = fault(&meta) {
        return Err(io::Error::other(format!("it {fault}")));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a file of ours whole, or not at all.
fn write_own(dir: &OwnedFd, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let part = format!("{name}.{}{PART}", std::process::id());
    if faccessat(dir.as_fd(), part.as_str(), nix::unistd::AccessFlags::F_OK, AtFlags::empty()).is_ok() {
        unlinkat(dir, part.as_str(), UnlinkatFlags::NoRemoveDir)?; // of a process that died here
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(dir, part.as_str(), flags, Mode::from_bits_truncate(0o600))?);
    let done = parts
        .iter()
        .try_for_each(|bytes| file.write_all(bytes))
        .and_then(|()| Ok(renameat(dir, part.as_str(), dir, name)?));
    if done.is_err() {
        let _ = unlinkat(dir, part.as_str(), UnlinkatFlags::NoRemoveDir); // the disk is full, most likely
    }
    done
}

fn read_or_make_key(dir: &OwnedFd) -> io::Result<[u8; 32]> {
    let short = |_| io::Error::other("the file `key` is not 32 bytes long; remove it");
    if let Some(key) = read_own(dir, "key", 1024)? {
        return key.try_into().map_err(|_| short(()));
    }
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    write_own(dir, "key", &[&key])?;
    // Another process may have been faster: whatever is there now holds.
    read_own(dir, "key", 1024)?.and_then(|key| key.try_into().ok()).ok_or_else(|| short(()))
}

fn entry_name(engine: &Engine, module: &[u8; 32]) -> String {
    let mut digest = Digester(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut digest);
    let engine: [u8; 32] = digest.0.finalize().into();
    format!("{}-{}{SUFFIX}", hex(module), hex(&engine[..16]))
}

/// A digest that is the same in each process, unlike those of the standard library.
struct Digester(Sha256);

impl Hasher for Digester {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // never asked: the digest is taken from the inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_that_of_the_standard() {
        // RFC 4231, test cases 1 and 2, whose keys end in zeros when padded to 32 bytes.
        let key = |text: &[u8]| -> [u8; 32] { core::array::from_fn(|i| text.get(i).copied().unwrap_or(0)) };
        type Case<'a> = (&'a [u8], &'a [&'a [u8]], &'a str);
        let cases: [Case<'_>; 2] = [
            (&[0x0b; 20], &[b"Hi There"], "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                &[b"what do ya want ", b"for nothing?"],
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
        ];
        for (text, parts, want) in cases {
            assert_eq!(hex(&hmac(&key(text), parts)), want);
        }
    }
}
