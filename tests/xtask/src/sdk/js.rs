//! JavaScript, with QuickJS as its engine, which the C SDK ties to the contract.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Place, c, read, scratch};
use crate::component::component;
use crate::toolchain::output;

/// The files of QuickJS that make the engine; the rest is its shell.
const ENGINE: [&str; 4] = ["quickjs", "libregexp", "libunicode", "dtoa"];

/// The crate that brings the sources of QuickJS.
const SOURCES: &str = "rquickjs-sys";

/// A scheduler in one JavaScript module.
pub(super) fn build(place: &Place, source: &Path) -> Result<Vec<u8>> {
    let (include, objects) = quickjs(place)?;
    let folder = scratch()?;
    let script = folder.path().join("script.c");
    fs::write(&script, embedded(&read(source)?))?;
    let core = folder.path().join("core.wasm");
    let mut clang = c::clang(&["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"])?;
    clang.arg("-isystem").arg(include).arg("-Wl,-z,stack-size=262144").arg(script);
    for file in ["engine.c", "host.c", "wasi.c"] {
        clang.arg(place.sdk.join("js/engine").join(file));
    }
    for file in ENGINE {
        clang.arg(objects.join(file).with_extension("o"));
    }
    c::link(place, &mut clang, &core)?;
    component(&read(&core)?)
}

/// Where the headers of QuickJS are, and its compiled objects.
fn quickjs(place: &Place) -> Result<(PathBuf, PathBuf)> {
    let manifest = place.sdk.join("js/quickjs/Cargo.toml");
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--quiet", "--locked", "--format-version", "1", "--manifest-path"]);
    let metadata: Value = serde_json::from_str(&output(metadata.arg(&manifest))?)?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == SOURCES))
        .and_then(|package| package["manifest_path"].as_str())
        .with_context(|| format!("{SOURCES} is one of the packages of {}", manifest.display()))?;
    let sources = Path::new(package).with_file_name("quickjs");
    let version = output(c::clang(&[])?.arg("--version"))?;
    let version = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let name = format!("quickjs-clang{}", version.unwrap_or("-unknown").replace(['/', ':'], "_"));
    let lock = manifest.with_file_name("Cargo.lock");
    let objects = place.prepared(&name, &[lock], |folder| {
        for file in ENGINE {
            let mut clang = c::clang(&["-w"])?;
            clang.args(["-DNDEBUG", "-D_GNU_SOURCE", "-D_WASI_EMULATED_SIGNAL", "-c"]);
            clang.arg(sources.join(file).with_extension("c"));
            output(clang.arg("-o").arg(folder.join(file).with_extension("o")))
                .with_context(|| format!("clang does not build {file}.c of QuickJS"))?;
        }
        Ok(())
    })?;
    Ok((sources, objects))
}

/// The text as a C file.
fn embedded(script: &[u8]) -> String {
    let bytes: String = script.iter().map(|byte| format!("{byte}, ")).collect();
    // QuickJS wants a zero after the text, and not counted.
    format!(
        "const char uvs_script[] = {{{bytes}0}};\nconst unsigned long uvs_script_len = sizeof uvs_script - 1;\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_ends_in_a_zero_that_does_not_count() {
        assert_eq!(
            embedded(b"a\n"),
            "const char uvs_script[] = {97, 10, 0};\nconst unsigned long uvs_script_len = sizeof uvs_script - 1;\n"
        );
    }
}
