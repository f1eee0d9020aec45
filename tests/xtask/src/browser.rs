//! What drives Chromium through the page in a test: playwright-core, from npm. The browser itself is Debian's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::test::tell;

/// Names the folder to the test.
pub(crate) const VARIABLE: &str = "UVS_PLAYWRIGHT";

const VERSION: &str = "1.64.1";
/// SHA-512 of the package, as npm writes it.
const INTEGRITY: &str =
    "sha512-BC4s8y6SEVA6Q1rSxZTto8hI1KUI3xXlHGZgvGqP4IqPdI/a6FX9H29IDNz7vKo9l21b6LfYosScPL6M3xxyDQ==";

/// The folder with it, where npm puts it in CI. `None`: it is not there.
pub(crate) fn find(target: &Path, in_ci: bool) -> Result<Option<PathBuf>> {
    if let Some(folder) = std::env::var_os(VARIABLE) {
        return Ok(Some(folder.into()));
    }
    let folder = target.join(format!("tools/playwright-core-{VERSION}"));
    let is_there = || folder.join("node_modules/playwright-core/package.json").is_file();
    if !is_there() {
        if !in_ci {
            return Ok(None);
        }
        install(&folder)?;
        ensure!(is_there(), "npm has not put playwright-core into {}", folder.display());
    }
    Ok(Some(folder))
}

/// npm takes no other bytes than those of the lock file.
fn install(folder: &Path) -> Result<()> {
    let package = format!(r#"{{"private":true,"dependencies":{{"playwright-core":"{VERSION}"}}}}"#);
    let lock = format!(
        r#"{{"lockfileVersion":3,"requires":true,"packages":{{"":{{"dependencies":{{"playwright-core":"{VERSION}"}}}},"node_modules/playwright-core":{{"version":"{VERSION}","integrity":"{INTEGRITY}"}}}}}}"#
    );
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in [("package.json", package), ("package-lock.json", lock)] {
        std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(folder);
    tell(&npm);
    let status = npm.status().context("cannot start npm, which brings playwright-core")?;
    ensure!(status.success(), "npm does not install playwright-core ({status})");
    Ok(())
}
