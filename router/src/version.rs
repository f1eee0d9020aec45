//! What this build is.

use std::fmt;

/// The contract between the director and scheduler components.
pub const CONTRACT: &str = "uvs:scheduler@0.1.0";

/// The parts of a build that matter in a bug report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Release of uvs.
    pub version: &'static str,
    /// The git commit it was built from, or `unknown`.
    pub commit: &'static str,
    /// Version of the scheduler contract.
    pub contract: &'static str,
    /// Release of wasmtime, or `unknown`.
    pub wasmtime: &'static str,
}

impl Build {
    /// This build.
    pub const fn current() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("UVS_GIT_COMMIT"),
            contract: CONTRACT,
            wasmtime: env!("UVS_WASMTIME_VERSION"),
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "uvs       {}", self.version)?;
        writeln!(f, "commit    {}", self.commit)?;
        writeln!(f, "contract  {}", self.contract)?;
        write!(f, "wasmtime  {}", self.wasmtime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_the_one_in_the_wit_file() {
        let wit = include_str!("../../wit/scheduler.wit");
        assert!(wit.contains(&format!("package {CONTRACT};")), "wit/scheduler.wit names another contract");
    }

    #[test]
    fn the_version_names_every_part() {
        let text = Build::current().to_string();
        for part in ["uvs ", "commit ", "contract ", "wasmtime "] {
            assert!(text.lines().any(|line| line.starts_with(part)), "{part:?} is missing in {text}");
        }
        assert_ne!(Build::current().wasmtime, "unknown", "the lock file was not read");
    }
}
