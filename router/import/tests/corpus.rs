//! Files as people write them: what comes out passes the check, and Debian's keepalived judges what is valid.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Disk, judge};
use uvs_import::{Done, Kind, Wish, keepalived};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let all = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut all: Vec<PathBuf> = all.filter(|path| path.is_file()).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn import(path: &Path) -> Done {
    let imported = keepalived(path, "lb1", &Disk, &Wish::default()).expect("it is there");
    imported.judged(&mut judge).unwrap_or_else(|faults| panic!("{}: {faults:?}", path.display()))
}

/// The lines of a file that keepalived complains about; `None`: there is none, or it is too old to be told to test.
fn complaints(path: &Path) -> Option<BTreeSet<usize>> {
    let output =
        Command::new("keepalived").arg("-t").arg("-f").arg(path).args(["-i", "lb1"]).output().ok()?;
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let marker = format!("({}: Line ", path.display());
    // The interfaces of the file are those of another machine, and old words still do what they did.
    let about = text.lines().filter(|line| !line.contains("interface") && !line.contains("deprecated"));
    let number = |line: &str| line.split_once(&marker)?.1.split_once(')')?.0.parse().ok();
    Some(about.filter_map(number).collect())
}

fn source_lines(done: &Done, path: &Path) -> BTreeSet<usize> {
    let file = path.display().to_string();
    let of_file =
        done.remarks.iter().filter(|remark| remark.kind == Kind::Source && *remark.at.file == *file);
    of_file.map(|remark| remark.at.line).collect()
}

#[test]
fn good_files_come_over_as_written() {
    for path in files("keepalived") {
        let done = import(&path);
        let said = source_lines(&done, &path);
        assert!(done.services > 0 && done.destinations > 0, "{}", path.display());
        assert_eq!(done.refused, 0, "{}: {:#?}", path.display(), done.remarks);
        if let Some(complaints) = complaints(&path) {
            assert_eq!(complaints, said, "{}: keepalived, and the import", path.display());
        }
    }
}

#[test]
fn what_keepalived_complains_about_is_told() {
    for path in files("bad") {
        let done = import(&path);
        let said = source_lines(&done, &path);
        assert!(!said.is_empty(), "{}", path.display());
        if let Some(complaints) = complaints(&path) {
            let untold: Vec<_> = complaints.difference(&said).collect();
            assert!(untold.is_empty(), "{}: nothing is said of lines {untold:?}", path.display());
        }
    }
}
