//! Notes what `uvs version` says about this build: the git commit and the release of wasmtime, where known.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    note("UVS_GIT_COMMIT", commit());
    note("UVS_WASMTIME_VERSION", wasmtime_version());
}

fn note(name: &str, value: Option<String>) {
    println!("cargo::rustc-env={name}={}", value.as_deref().unwrap_or("unknown"));
}

/// The commit that is checked out. A copy of the sources without git has none.
fn commit() -> Option<String> {
    // HEAD's log grows with every commit and checkout; HEAD itself only changes with the branch.
    for path in ["HEAD", "logs/HEAD"] {
        let file = git(&["rev-parse", "--git-path", path])?;
        if Path::new(&file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

/// What the lock file of the workspace says; wasmtime itself has no constant for it.
fn wasmtime_version() -> Option<String> {
    let path = "../Cargo.lock";
    let lock = std::fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={path}");
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"wasmtime\"");
    let version = lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')?;
    Some(version.to_owned())
}
