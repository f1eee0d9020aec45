//! AssemblyScript, whose compiler npm has.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Place, read, scratch};
use crate::component::component;
use crate::toolchain::output;

/// A scheduler in one AssemblyScript file.
pub(super) fn build(place: &Place, source: &Path) -> Result<Vec<u8>> {
    let sdk = place.sdk.join("assemblyscript");
    let manifests = ["package.json", "package-lock.json"].map(|name| sdk.join(name));
    let tools = place.prepared("npm", &manifests, |folder| {
        for manifest in &manifests {
            fs::copy(manifest, folder.join(manifest.file_name().context("a manifest has a name")?))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        output(npm.current_dir(folder)).context("npm does not install the compiler").map(drop)
    })?;
    // The compiler looks for what is imported beside the source: both go into one folder, as in an author's project.
    let folder = scratch()?;
    fs::copy(sdk.join("uvs-scheduler.ts"), folder.path().join("uvs-scheduler.ts"))?;
    fs::copy(sdk.join("component.ts"), folder.path().join("component.ts"))?;
    fs::copy(source, folder.path().join("policy.ts"))?;
    let core = folder.path().join("core.wasm");
    let mut compiler = Command::new("node");
    compiler.arg(tools.join("node_modules/assemblyscript/bin/asc.js"));
    compiler.args(["component.ts", "-O3", "--noAssert", "--runtime", "incremental", "--exportRuntime"]);
    compiler.args(["--use", "abort=uvs-scheduler/abort", "--outFile"]).arg(&core);
    output(compiler.current_dir(folder.path())).context("asc does not build it")?;
    component(&read(&core)?)
}
