//! Whether the network namespace of the director still has its name.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Where `ip netns` gives namespaces their names.
const NAMES: &str = "/run/netns";

/// A name of this thread's network namespace, as `ip netns` gives it.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    id: (u64, u64),
}

impl Name {
    /// The name, if there is one.
    pub(super) fn find() -> Option<Self> {
        let id_of = |path: &PathBuf| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
        let id = id_of(&PathBuf::from("/proc/thread-self/ns/net"))?;
        let entries = fs::read_dir(NAMES).ok()?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| id_of(path) == Some(id)).map(|path| Self { path, id })
    }

    /// The name itself.
    pub(super) fn text(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it still stands for that namespace.
    pub(super) fn holds(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|it| (it.dev(), it.ino()) == self.id)
    }
}
