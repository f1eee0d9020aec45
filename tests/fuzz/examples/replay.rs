//! Replays inputs without a fuzzer, here one that panics: `cargo run --example replay -- TARGET FILE-OR-FOLDER...`.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use uvs_fuzz::TARGETS;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((_, run)) = TARGETS.iter().find(|(target, _)| *target == name) else {
        eprintln!(
            "error: {name:?} is no target\n  fix:   use one of {}",
            TARGETS.map(|(name, _)| name).join(", ")
        );
        return ExitCode::from(2);
    };
    let (mut failed, mut seen) = (0, 0);
    for path in arguments.flat_map(|argument| files(Path::new(&argument))) {
        match fs::read(&path) {
            Ok(bytes) => {
                seen += 1;
                if catch_unwind(|| run(&bytes)).is_err() {
                    failed += 1;
                    println!("fails: {}", path.display());
                }
            }
            Err(error) => {
                eprintln!("error: {} cannot be read: {error}", path.display());
                failed += 1;
            }
        }
    }
    println!("{seen} inputs, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The files of a folder, or the one.
fn files(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => {
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect()
        }
        Err(_) => vec![path.to_owned()],
    }
}
