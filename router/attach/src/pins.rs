//! What outlives the process in a folder of bpffs, for the director that comes next: the maps of flows, and the programs on links.
//!
//! ```text
//!   FOLDER/flows4-1-131072, flows6-1-131072     version of the layout, entries
//!   FOLDER/link_ingress-eth0, link_egress-eth0  links of BPF
//! ```

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS: i64 = 0xcafe_4a11;
/// To be raised whenever what is pinned means something else.
const LAYOUT: u32 = 1;

/// See the head of this file.
pub(crate) struct Pins {
    folder: PathBuf,
    used: HashSet<String>,
}

impl Pins {
    /// Opens a folder, or makes it. The error says what to do.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let what = |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", folder.display());
        if let Err(error) = fs::create_dir(folder)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(what(&error));
        }
        let is_bpffs = statfs(folder).map_err(|error| what(&error))?.filesystem_type().0 == BPF_FS;
        if !is_bpffs {
            // Only if it was made here is it empty for sure.
            let _ = fs::remove_dir(folder);
            return Err(what(
                &"it is not in a bpffs; mount one (mount -t bpf bpf /sys/fs/bpf) and name a folder in it",
            ));
        }
        Ok(Self { folder: folder.to_owned(), used: HashSet::new() })
    }

    fn take(&mut self, name: String) -> PathBuf {
        let path = self.folder.join(&name);
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

    /// Lets go of what a director before has left and this one has no use for: of other links, other sizes.
    pub(crate) fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.filter_map(Result::ok) {
            if !self.used.contains(entry.file_name().to_string_lossy().as_ref()) {
                let done = fs::remove_file(entry.path());
                tracing::info!(file = %entry.path().display(), ?done, "a pin of an earlier director goes");
            }
        }
    }
}
