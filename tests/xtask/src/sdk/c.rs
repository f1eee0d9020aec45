//! C, with clang and wasi-libc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use super::{Place, read, scratch};
use crate::component::{component, contract};
use crate::test::succeeds;
use crate::toolchain::output;

/// What a C build needs beside clang, on Debian and its kin.
const LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";

/// What to do where the compiler is missing.
const ADVICE: &str = "on Debian and its kin: apt-get install clang lld wasi-libc";

/// Where the generated bindings are, from the root.
const BINDINGS: &str = "sdk/c/generated";

/// A scheduler in one C file.
pub(super) fn build(place: &Place, source: &Path) -> Result<Vec<u8>> {
    let folder = scratch()?;
    let core = folder.path().join("core.wasm");
    let mut clang = clang(&["-Wall", "-Wextra", "-Werror"])?;
    clang.arg(source);
    link(place, &mut clang, &core)?;
    component(&read(&core)?)
}

/// What this machine lacks for C.
pub(super) fn missing() -> Option<String> {
    let lacks = |what: &str| Some(format!("there is no {what}; {ADVICE}"));
    if !succeeds(Command::new("clang").arg("--version")) {
        return lacks("clang");
    }
    if !succeeds(Command::new("wasm-ld").arg("--version")) {
        return lacks("wasm-ld");
    }
    if Path::new(LIBC).exists() { None } else { lacks(LIBC) }
}

/// The compiler with what every file is compiled with.
pub(super) fn clang(warnings: &[&str]) -> Result<Command> {
    ensure!(Path::new(LIBC).exists(), "there is no {LIBC}\n  fix:   {ADVICE}");
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "--sysroot=/usr", "-O2"]).args(warnings);
    Ok(clang)
}

/// Adds the SDK to what is compiled, and links all to a core module.
pub(super) fn link(place: &Place, clang: &mut Command, core: &Path) -> Result<()> {
    let c = place.sdk.join("c");
    clang.arg("-I").arg(&c);
    for file in ["uvs_scheduler.c", "uvs_affinity.c", "generated/scheduler.c"] {
        clang.arg(c.join(file));
    }
    clang.args(["-mexec-model=reactor", "-nostdlib", "-Wl,--no-entry", "-Wl,--export=cabi_realloc"]);
    clang.args(["-Wl,--strip-all", "-L/usr/lib/wasm32-wasi", "-lc", "-o"]).arg(core);
    output(clang).with_context(|| format!("clang does not build it\n  fix:   {ADVICE}")).map(drop)
}

/// Writes the bindings that wit-bindgen makes for C, or compares them with those that are there.
pub(super) fn bindings(root: &Path, check: bool) -> Result<ExitCode> {
    let (mut resolve, world) = contract()?;
    let mut files = wit_bindgen_core::Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    // The object that describes the world is left out: `component` does that.
    let files: Vec<_> = files.iter().filter(|(name, _)| !name.ends_with(".o")).collect();
    let folder = root.join(BINDINGS);
    let path = |name: &str| -> PathBuf { folder.join(name) };
    if check {
        let stale: Vec<_> = files
            .iter()
            .filter(|&&(name, made)| fs::read(path(name)).ok().as_deref() != Some(made))
            .collect();
        if stale.is_empty() {
            println!("{BINDINGS} is what wit/scheduler.wit gives");
            return Ok(ExitCode::SUCCESS);
        }
        let names: Vec<_> = stale.iter().map(|&&(name, _)| name).collect();
        eprintln!("error: the committed bindings are not what wit/scheduler.wit gives");
        eprintln!("  where: {BINDINGS}: {}", names.join(", "));
        eprintln!("  fix:   run `cargo xtask sdk --bindings` and commit what it writes");
        return Ok(ExitCode::FAILURE);
    }
    fs::create_dir_all(&folder)?;
    for (name, made) in files {
        fs::write(path(name), made).with_context(|| format!("cannot write {}", path(name).display()))?;
        println!("{}", path(name).display());
    }
    Ok(ExitCode::SUCCESS)
}
