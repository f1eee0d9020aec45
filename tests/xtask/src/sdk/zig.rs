//! Zig, whose compiler PyPI has.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Place, read, scratch};
use crate::component::component;
use crate::toolchain::output;

/// A scheduler in one Zig file.
pub(super) fn build(place: &Place, source: &Path) -> Result<Vec<u8>> {
    let zig = place.sdk.join("zig");
    let python = place.python(&zig.join("requirements.txt"))?;
    let folder = scratch()?;
    let core = folder.path().join("core.wasm");
    let mut compiler = Command::new(python);
    compiler.args(["-m", "ziglang", "build-exe", "-target", "wasm32-freestanding", "-O", "ReleaseFast"]);
    compiler.args(["-fno-entry", "-rdynamic", "-fstrip", "--dep", "uvs"]);
    compiler.arg(named("-Mroot=", source)).arg(named("-Muvs=", &zig.join("uvs_scheduler.zig")));
    compiler.arg(named("-femit-bin=", &core));
    // Its caches, too, belong to the folder of this build.
    compiler.env("ZIG_LOCAL_CACHE_DIR", folder.path()).env("ZIG_GLOBAL_CACHE_DIR", place.cache.join("zig"));
    fs::create_dir_all(place.cache.join("zig"))?;
    output(&mut compiler).context("zig does not build it")?;
    component(&read(&core)?)
}

fn named(option: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(option);
    argument.push(path);
    argument
}
