//! What fuzzing found, and inputs that came close, replayed through what the fuzz targets do (tests/fuzz).
//!
//! A file of `regressions/TARGET/` is one input. It is named for what it shows; what it once broke is fixed.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use uvs_fuzz::TARGETS;

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
    let entries = std::fs::read_dir(&folder).expect("every target has a folder of inputs");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_input_of_a_finding_holds_what_its_target_promises() {
    let mut broken = Vec::new();
    for (target, run) in TARGETS {
        let paths = inputs(target);
        assert!(!paths.is_empty(), "{target} has inputs");
        for path in paths {
            let bytes = std::fs::read(&path).expect("a readable input");
            if catch_unwind(|| run(&bytes)).is_err() {
                broken.push(format!("{target}/{}", path.file_name().unwrap_or_default().display()));
            }
        }
    }
    assert!(broken.is_empty(), "these fail again (the panics above say how): {broken:?}");
}

#[test]
fn every_folder_of_inputs_belongs_to_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for entry in std::fs::read_dir(root).expect("the folder of findings") {
        let name = entry.expect("a readable folder").file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "{} is no target", name.display());
    }
}
