//! What outlives the process in a folder of bpffs, for the director that comes next: the maps of flows, and the
//! programs on links.
//!
//! ```text
//!   FOLDER/flows4-2-131072, flows6-2-131072     version of the layout, entries
//!   FOLDER/link_ingress-eth0, link_egress-eth0  links of BPF
//! ```
//! Until [`Pins::keep`] nothing new outlives it: a start that fails leaves no program behind that leads nowhere.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS: i64 = 0xcafe_4a11;
/// To be raised whenever what is pinned means something else.
const LAYOUT: u32 = 2;
/// How names of ours begin; the folder may hold others.
const OURS: [&str; 4] = ["flows4-", "flows6-", "link_ingress-", "link_egress-"];

/// See the head of this file.
pub(crate) struct Pins {
    folder: PathBuf,
    used: HashSet<String>,
    /// Those that this process is about to make; `None` once they are to stay.
    new: Option<Vec<PathBuf>>,
}

impl Pins {
    /// Opens a folder, or makes it. The error says what to do.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let what = |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", folder.display());
        let is_new = match fs::create_dir(folder) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(what(&error)),
        };
        let is_bpffs = statfs(folder).map_err(|error| what(&error))?.filesystem_type().0 == BPF_FS;
        if !is_bpffs {
            if is_new {
                // It is empty; if it stays nonetheless it does no harm.
                let _ = fs::remove_dir(folder);
            }
            return Err(what(
                &"it is not in a bpffs; mount one (mount -t bpf bpf /sys/fs/bpf) and name a folder in it",
            ));
        }
        Ok(Self { folder: folder.to_owned(), used: HashSet::new(), new: Some(Vec::new()) })
    }

    fn take(&mut self, name: String) -> PathBuf {
        let path = self.folder.join(&name);
        if let Some(new) = self.new.as_mut().filter(|_| !path.exists()) {
            new.push(path.clone());
        }
        self.used.insert(name);
        path
    }

    /// Where a map of so many entries is.
    pub(crate) fn map(&mut self, name: &str, entries: u32) -> PathBuf {
        self.take(format!("{name}-{LAYOUT}-{entries}"))
    }

    /// Where a program's place on a link is.
    pub(crate) fn link(&mut self, program: &str, link: &str) -> PathBuf {
        // bpffs keeps names with dots for itself.
        self.take(format!("{program}-{}", link.replace('.', "%2e")))
    }

    /// All that was asked for stays from now on. What a director before has left and this one has no use for goes: of
    /// other links, other sizes.
    pub(crate) fn keep(&mut self) {
        self.new = None;
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if OURS.iter().any(|ours| name.starts_with(ours)) && !self.used.contains(name.as_ref()) {
                let done = fs::remove_file(entry.path());
                tracing::info!(file = %entry.path().display(), ?done, "a pin of an earlier director goes");
            }
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for path in self.new.iter().flatten() {
            // One that was not made in the end need not go.
            let _ = fs::remove_file(path);
        }
    }
}
