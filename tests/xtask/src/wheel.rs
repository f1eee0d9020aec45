//! Programs that CI takes from PyPI, where they are ready: building them takes longer than all else that CI installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::test::{succeeds, tell};

/// A program, and the release of it that CI runs.
pub(crate) struct Wheel {
    pub(crate) program: &'static str,
    pub(crate) version: &'static str,
    /// What PyPI calls it.
    pub(crate) package: &'static str,
    /// SHA-256 of the wheel for Linux on x86-64.
    pub(crate) hash: &'static str,
}

impl Wheel {
    /// The program: what is installed, or in CI what is put into the target folder. `None`: there is none.
    pub(crate) fn find(&self, target: &Path, in_ci: bool) -> Result<Option<PathBuf>> {
        if succeeds(Command::new(self.program).arg("--version")) {
            return Ok(Some(self.program.into()));
        }
        let folder = target.join(format!("tools/{}-{}", self.program, self.version));
        let program = folder.join("bin").join(self.program);
        if !program.is_file() {
            if !in_ci {
                return Ok(None);
            }
            self.install(&folder)?;
            ensure!(program.is_file(), "the wheel has no {}", program.display());
        }
        Ok(Some(program))
    }

    fn install(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let requirements = folder.join("requirements.txt");
        let line = format!("{}=={} --hash=sha256:{}\n", self.package, self.version, self.hash);
        std::fs::write(&requirements, line)
            .with_context(|| format!("cannot write {}", requirements.display()))?;
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--upgrade",
        ]);
        pip.args(["--root-user-action", "ignore", "--target"]).arg(folder);
        pip.arg("--requirement").arg(requirements);
        tell(&pip);
        let status = pip
            .status()
            .with_context(|| format!("cannot start python3, whose pip brings {}", self.program))?;
        ensure!(status.success(), "pip does not install {} ({status})", self.program);
        Ok(())
    }
}
