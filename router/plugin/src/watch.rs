//! Notices files that changed, by looking at them from time to time.
//!
//! Looking is enough for a handful of files, and it sees what a notification about one file misses: a link somewhere
//! on the way that is turned to another folder (as Kubernetes does with `..data`), a network file system. A change
//! counts once two looks in a row have seen the same, so that a file is not read while it is written.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    /// Of the file at the end of all links; `None` where there is none.
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

#[derive(Debug, Default)]
struct Seen {
    reported: Option<Signature>,
    last: Option<Signature>,
}

/// Files and what they looked like.
#[derive(Debug, Default)]
pub struct Watch {
    files: HashMap<PathBuf, Seen>,
}

impl Watch {
    /// Looks at `files`. Returns those that changed since they were returned last, and that look as at the last
    /// look; at first that is each of them. A file that is gone is not returned until it is back.
    pub fn look(&mut self, files: &[PathBuf]) -> Vec<PathBuf> {
        self.files.retain(|known, _| files.contains(known));
        let mut changed = Vec::new();
        for path in files {
            let seen = self.files.entry(path.clone()).or_default();
            let now = Signature::of(path);
            if now.is_some() && now == seen.last && now != seen.reported && !changed.contains(path) {
                seen.reported = now;
                changed.push(path.clone());
            }
            seen.last = now;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_reported_once_and_when_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.wasm");
        let files = [path.clone()];
        let mut watch = Watch::default();
        let mut look = || !watch.look(&files).is_empty();
        assert!(!look() && !look(), "there is no file");
        fs::write(&path, "one").unwrap();
        assert_eq!([look(), look(), look()], [false, true, false], "a new file");

        fs::write(&path, "two!").unwrap();
        assert!(!look());
        fs::write(&path, "two! and more").unwrap();
        assert_eq!([look(), look(), look()], [false, true, false], "written in place, in two steps");

        let part = dir.path().join("part");
        fs::write(&part, "one").unwrap();
        fs::rename(&part, &path).unwrap();
        assert_eq!([look(), look(), look()], [false, true, false], "another file renamed over it");

        fs::remove_file(&path).unwrap();
        assert_eq!([look(), look(), look()], [false; 3], "gone");
        fs::write(&path, "back").unwrap();
        assert_eq!([look(), look(), look()], [false, true, false], "and back");
    }

    #[test]
    fn a_link_that_is_turned_on_the_way_to_the_file_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("mine.wasm"), version).unwrap();
        }
        symlink("v1", dir.path().join("..data")).unwrap();
        symlink("..data/mine.wasm", dir.path().join("mine.wasm")).unwrap();
        let files = [dir.path().join("mine.wasm")];
        let mut watch = Watch::default();
        let mut look = || watch.look(&files).len();
        assert_eq!([look(), look(), look()], [0, 1, 0]);
        symlink("v2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert_eq!([look(), look(), look()], [0, 1, 0]);
    }
}
