//! `uvs sched` as an author meets it: the binary, its answers, its exit status. No rights, no network.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps, helpers included")]

#[path = "../../plugin/tests/it/guest.rs"]
#[allow(dead_code, reason = "the host's tests use all of it")]
mod guest;
mod judge;
mod projects;
mod runs;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a command came to.
#[derive(Debug)]
struct Told {
    status: i32,
    out: String,
    err: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `uvs sched ...` in a folder.
fn sched_in(folder: &Path, arguments: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_uvs"))
        .arg("sched")
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    Told {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn sched(arguments: &[&str]) -> Told {
    sched_in(Path::new("."), arguments)
}
