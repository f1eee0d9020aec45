//! Python, with componentize-py, which PyPI has.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Place, read, scratch};
use crate::component::WIT;
use crate::toolchain::output;

/// A scheduler in one Python file.
pub(super) fn build(place: &Place, source: &Path) -> Result<Vec<u8>> {
    let sdk = place.sdk.join("python");
    let python = place.python(&sdk.join("requirements.txt"))?;
    let folder = scratch()?;
    let path = folder.path();
    fs::create_dir(path.join("wit"))?;
    fs::write(path.join("wit/scheduler.wit"), WIT)?;
    fs::copy(sdk.join("uvs_scheduler.py"), path.join("uvs_scheduler.py"))?;
    fs::copy(sdk.join("component.py"), path.join("component.py"))?;
    fs::copy(source, path.join("policy.py"))?;
    let mut componentize = Command::new(python.with_file_name("componentize-py"));
    componentize.args(["-d", "wit", "-w", "scheduler", "componentize", "--stub-wasi", "component"]);
    componentize.args(["-p", ".", "-o", "scheduler.wasm"]);
    output(componentize.current_dir(path)).context("componentize-py does not build it")?;
    read(&path.join("scheduler.wasm"))
}
