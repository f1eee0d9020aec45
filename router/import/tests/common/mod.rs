//! The disk as [`Files`], and the check of a configuration.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use uvs_import::{Done, Fault, Files, Wish, alternatives, keepalived};

pub(crate) struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn matching(&self, pattern: &str) -> Vec<PathBuf> {
        let one = |pattern: String| glob::glob(&pattern).into_iter().flatten().flatten();
        alternatives(pattern).into_iter().flat_map(one).filter(|path| path.is_file()).collect()
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

/// Files that are only in memory.
pub(crate) struct Memory(pub(crate) Vec<(&'static str, String)>);

impl Files for Memory {
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        let (_, text) = found.ok_or(io::ErrorKind::NotFound)?;
        if text.len() > max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text.clone().into_bytes()) }
    }

    fn matching(&self, pattern: &str) -> Vec<PathBuf> {
        let matches = |name: &str| match pattern.split_once('*') {
            Some((head, tail)) => name.starts_with(head) && name.ends_with(tail),
            None => name == pattern,
        };
        self.0.iter().filter(|(name, _)| matches(name)).map(|(name, _)| PathBuf::from(name)).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "SITE").then(|| "berlin".to_owned())
    }
}

/// What `uvs check` says of a configuration.
pub(crate) fn judge(toml: &str) -> Vec<Fault> {
    match uvs_config::Config::parse(toml, "imported.toml") {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .filter(|problem| problem.severity == uvs_config::Severity::Error)
            .map(|problem| Fault { line: problem.line.unwrap_or(0), what: problem.what.clone() })
            .collect(),
    }
}

/// Imports a text that stands in a file of its own.
pub(crate) fn import(text: &str) -> Done {
    import_of(vec![("/etc/a.conf", text.to_owned())])
}

pub(crate) fn import_of(files: Vec<(&'static str, String)>) -> Done {
    let path = files[0].0;
    let imported = keepalived(Path::new(path), "lb1", &Memory(files), &Wish::default()).expect("it is there");
    imported.judged(&mut judge).expect("the network is right")
}

pub(crate) fn config(done: &Done) -> uvs_config::Config {
    uvs_config::Config::parse(&done.toml, "imported.toml").expect("it passes the check")
}

/// The lines of remarks of one kind.
pub(crate) fn lines(done: &Done, kind: uvs_import::Kind) -> Vec<usize> {
    let mut lines: Vec<usize> =
        done.remarks.iter().filter(|remark| remark.kind == kind).map(|remark| remark.at.line).collect();
    lines.dedup();
    lines
}
