//! `cargo xtask wasm`: builds the shipped schedulers as components.
//!
//! What is built depends on the sources, `Cargo.lock`, the compiler and the linker, on nothing else: paths of the
//! checkout, of cargo's home and of the compiler are mapped away, and settings in the environment are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::toolchain::{self, TARGET, Toolchain};

const USAGE: &str = "\
usage: cargo xtask wasm [--check] [--out DIR]

Builds the shipped schedulers and writes them with SHA256SUMS and TOOLCHAIN (what built them)
to schedulers/prebuilt, or to DIR.

  --check    compares what is built with schedulers/prebuilt, byte for byte, and writes nothing there
  --out DIR  where the result goes

exit status: 0 done, or the same, or not compared because another compiler built them (it says so);
             1 they differ, or the build failed; 2 wrong usage; 3 there is no compiler for wasm32
";

/// The folder of the committed modules, from the root.
const PREBUILT: &str = "schedulers/prebuilt";
const SUMS: &str = "SHA256SUMS";
const RECORD: &str = "TOOLCHAIN";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    check: bool,
    out: Option<PathBuf>,
}

impl Options {
    /// `None`: the usage is wanted.
    fn parse(args: &[String]) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--check" => options.check = true,
                "--out" => {
                    options.out = Some(args.next().ok_or("--out needs a folder")?.into());
                }
                "-h" | "--help" => return Ok(None),
                other => return Err(format!("{other:?} is not known")),
            }
        }
        Ok(Some(options))
    }
}

/// Runs the command.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let options = match Options::parse(args) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            eprint!("error: {error}\n\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let root = root()?;
    let committed = Files::read(&root.join(PREBUILT))?;
    if options.check
        && let Err(error) = committed.verify_sums()
    {
        eprintln!(
            "error: {error}\n  where: {PREBUILT}\n  fix:   run `cargo xtask wasm` and commit what it writes"
        );
        return Ok(ExitCode::FAILURE);
    }

    let cache = cache_folder("wasm-toolchain")?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // One run at a time: they share the unpacked compiler and the target folder.
    let lock = fs::File::create(cache.join("lock"))?;
    lock.lock()?;

    let recorded = committed.text(RECORD);
    let toolchain = match toolchain::find(&cache, recorded.as_deref()) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            eprintln!("error: there is no compiler for {TARGET}");
            eprintln!("  where: {error:#}");
            eprintln!("  fix:   {}", toolchain::ADVICE);
            return Ok(ExitCode::from(3));
        }
    };
    let built = build(&root, &cache, &toolchain)?;

    if options.check {
        return check(&committed, &built, &toolchain.identity, options.out.as_deref());
    }
    let out = options.out.unwrap_or_else(|| root.join(PREBUILT));
    built.write(&out)?;
    print!("built {} with\n{}", out.display(), built.text(RECORD).unwrap_or_default());
    for (name, bytes) in built.modules() {
        println!("{name:>12} {:>6} bytes", bytes.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells whether what was built is what is committed.
fn check(committed: &Files, built: &Files, identity: &str, out: Option<&Path>) -> Result<ExitCode> {
    let recorded = committed.text(RECORD).unwrap_or_default();
    if !recorded.starts_with(identity) {
        let out = match out {
            Some(out) => out.to_owned(),
            None => tempfile::Builder::new().prefix("uvs-wasm-").tempdir()?.keep(),
        };
        built.write(&out)?;
        println!("built by\n{}recorded\n{}not compared", indent(identity), indent(&recorded));
        println!("rebuilt modules: {}", out.display());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(out) = out {
        built.write(out)?;
    }
    let differences = committed.differences(built);
    if differences.is_empty() {
        println!("{PREBUILT} is what the sources give ({} modules)", built.modules().count());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: the committed modules are not what the sources give");
    eprintln!("  where: {PREBUILT}: {}", differences.join(", "));
    eprintln!("  fix:   run `cargo xtask wasm` and commit what it writes");
    Ok(ExitCode::FAILURE)
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + "  " + line + "\n")
}

/// The files of `schedulers/prebuilt` by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Modules with their sums and the record of what built them.
    fn new(modules: BTreeMap<String, Vec<u8>>, record: String) -> Self {
        let mut files = Self(modules);
        let sums = files.sums();
        files.0.insert(SUMS.to_owned(), sums.into_bytes());
        files.0.insert(RECORD.to_owned(), record.into_bytes());
        files
    }

    /// What is in a folder; nothing when it does not exist.
    fn read(folder: &Path) -> Result<Self> {
        let mut files = Self::default();
        if !folder.exists() {
            return Ok(files);
        }
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(OsStr::to_str).context("names are UTF-8")?.to_owned();
            files.0.insert(name, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        Ok(files)
    }

    /// Writes all into a folder, each file whole or not at all, and removes modules that are not among them.
    fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, bytes) in &self.0 {
            let path = folder.join(name);
            let partial = folder.join(format!(".{name}.partial"));
            fs::write(&partial, bytes)
                .and_then(|()| fs::rename(&partial, &path))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        for (name, _) in Self::read(folder)?.modules() {
            if !self.0.contains_key(name) {
                fs::remove_file(folder.join(name))?;
            }
        }
        Ok(())
    }

    fn modules(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .filter(|(name, _)| name.ends_with(".wasm"))
            .map(|(name, bytes)| (name.as_str(), &bytes[..]))
    }

    fn text(&self, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(self.0.get(name)?).into_owned())
    }

    /// As `sha256sum *.wasm` prints it.
    fn sums(&self) -> String {
        self.modules().fold(String::new(), |all, (name, bytes)| {
            let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            all + &hex + "  " + name + "\n"
        })
    }

    fn verify_sums(&self) -> Result<()> {
        ensure!(self.modules().next().is_some(), "there are no prebuilt modules");
        ensure!(self.text(SUMS).as_deref() == Some(&self.sums()), "{SUMS} does not fit the modules");
        Ok(())
    }

    /// What differs, in words.
    fn differences(&self, built: &Self) -> Vec<String> {
        let names: BTreeSet<_> = self.0.keys().chain(built.0.keys()).collect();
        let describe = |name: &String| match (self.0.get(name), built.0.get(name)) {
            (Some(_), None) => Some(format!("{name} should not be there")),
            (None, _) => Some(format!("{name} is missing")),
            (Some(a), Some(b)) => (a != b).then(|| format!("{name} differs")),
        };
        names.into_iter().filter_map(describe).collect()
    }
}

/// Builds every scheduler of the workspace.
fn build(root: &Path, cache: &Path, toolchain: &Toolchain) -> Result<Files> {
    let workspace = Workspace::read(root)?;
    let packages: Vec<&str> = workspace.schedulers.iter().map(|(_, package)| package.as_str()).collect();
    let built = compile(root, cache, toolchain, &workspace, &packages)?;
    let mut modules = BTreeMap::new();
    for ((name, _), bytes) in workspace.schedulers.iter().zip(built) {
        modules.insert(format!("{name}.wasm"), bytes);
    }
    Ok(Files::new(modules, format!("{}wit-bindgen: {}\n", toolchain.identity, workspace.wit_bindgen)))
}

/// Why there is no compiler for wasm32, if there is none.
pub(crate) fn missing() -> Option<anyhow::Error> {
    cache_folder("wasm-toolchain").and_then(|cache| toolchain::find(&cache, None)).err()
}

/// The package in a folder of the workspace as a component.
pub(crate) fn build_example(folder: &Path) -> Result<Vec<u8>> {
    let name = folder.file_name().and_then(OsStr::to_str).context("an example has a name")?;
    let (root, cache) = (root()?, cache_folder("wasm-toolchain")?);
    let lock = fs::File::create(cache.join("lock"))?;
    lock.lock()?;
    let recorded = fs::read_to_string(root.join(PREBUILT).join(RECORD)).ok();
    let toolchain = toolchain::find(&cache, recorded.as_deref())
        .with_context(|| format!("there is no compiler for {TARGET}\n  fix:   {}", toolchain::ADVICE))?;
    let package = format!("uvs-example-{name}");
    let mut built = compile(&root, &cache, &toolchain, &Workspace::read(&root)?, &[&package])?;
    built.pop().context("one package gives one component")
}

/// Builds packages of the workspace as components.
fn compile(
    root: &Path,
    cache: &Path,
    toolchain: &Toolchain,
    workspace: &Workspace,
    packages: &[&str],
) -> Result<Vec<Vec<u8>>> {
    let compiler =
        Sha256::digest(&toolchain.identity).iter().take(4).fold(0u32, |id, &b| id << 8 | u32::from(b));
    let target = cache.join(format!("target-{compiler:08x}"));

    let mut remap = toolchain.remap.clone();
    remap.extend(workspace.crates.iter().map(|folder| (folder.clone(), "/crates".to_owned())));
    remap.push((root.to_owned(), "/uvs".to_owned()));
    let mut flags = vec![
        OsString::from("-Clinker-flavor=wasm-ld"),
        join(["-Clink-arg=--wasm-ld-path=".as_ref(), toolchain.wasm_ld.as_os_str()]),
    ];
    for (from, to) in &remap {
        flags.push(join(["--remap-path-prefix=".as_ref(), from.as_os_str(), "=".as_ref(), to.as_ref()]));
    }

    let cargo = |command: &str| {
        let mut cargo = clean_cargo(root);
        cargo.arg(command).args(["--locked", "--quiet", "--profile", "guest", "--target", TARGET]);
        cargo.arg("--target-dir").arg(&target);
        cargo.env("RUSTC", &toolchain.rustc);
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &toolchain.linker);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")));
        if toolchain.build_std {
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    };
    // Another checkout may have left its crates in the target folder: ours are built anew, in seconds, while `core`
    // and `alloc` stay.
    let mut clean = cargo("clean");
    clean.args(["-p", "uvs-sdk"]);
    let mut build = cargo("build");
    if toolchain.build_std {
        build.arg("-Zbuild-std=core,alloc,panic_abort");
    }
    for package in packages {
        clean.args(["-p", package]);
        build.args(["-p", package]);
    }
    for command in [&mut clean, &mut build] {
        let status = command.status().context("cannot start cargo")?;
        ensure!(status.success(), "the build of the schedulers failed ({status})");
    }

    let mut built = Vec::new();
    for package in packages {
        let path = target.join(TARGET).join("guest").join(package.replace('-', "_")).with_extension("wasm");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // The layer field of the header: 0 is a core module, 1 a component.
        ensure!(bytes.get(..8) == Some(b"\0asm\x0d\0\x01\0"), "{} is not a component", path.display());
        built.push(bytes);
    }
    Ok(built)
}

fn join<const N: usize>(parts: [&OsStr; N]) -> OsString {
    parts.iter().fold(OsString::new(), |mut all, part| {
        all.push(part);
        all
    })
}

/// What cargo knows of the workspace.
struct Workspace {
    /// Name and package of each scheduler.
    schedulers: Vec<(String, String)>,
    /// The folders that crates from elsewhere lie in.
    crates: BTreeSet<PathBuf>,
    /// Version of wit-bindgen.
    wit_bindgen: String,
}

impl Workspace {
    fn read(root: &Path) -> Result<Self> {
        let mut cargo = clean_cargo(root);
        cargo.args(["metadata", "--locked", "--quiet", "--format-version", "1", "--filter-platform", TARGET]);
        let metadata: Value = serde_json::from_str(&toolchain::output(&mut cargo)?)?;
        let mut workspace =
            Self { schedulers: Vec::new(), crates: BTreeSet::new(), wit_bindgen: String::new() };
        let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
        for package in metadata["packages"].as_array().context("cargo metadata lists packages")? {
            let manifest = PathBuf::from(text(package, "manifest_path"));
            let name = text(package, "name");
            if package["source"].is_null() {
                if let Some(scheduler) = name.strip_prefix("uvs-scheduler-") {
                    workspace.schedulers.push((scheduler.to_owned(), name.clone()));
                }
            } else {
                workspace.crates.extend(manifest.ancestors().nth(2).map(Path::to_owned));
            }
            if name == "wit-bindgen" {
                workspace.wit_bindgen = text(package, "version");
            }
        }
        ensure!(!workspace.schedulers.is_empty(), "there is no package uvs-scheduler-* in the workspace");
        ensure!(!workspace.wit_bindgen.is_empty(), "wit-bindgen is not in the workspace");
        Ok(workspace)
    }
}

/// Cargo without what the environment would change of its settings.
fn clean_cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let settings = ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_", "CARGO_UNSTABLE_"];
        let alone = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL", "RUSTC_WRAPPER"];
        if settings.iter().any(|prefix| name.starts_with(prefix))
            || alone.contains(&&*name)
            || name == "RUSTC_WORKSPACE_WRAPPER"
        {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// The root of the checkout.
pub(crate) fn root() -> Result<PathBuf> {
    // cargo tells where this package is now; a program started by hand knows where it was built.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = PathBuf::from(package).join("../..");
    fs::canonicalize(&root).with_context(|| format!("there is no {}", root.display()))
}

/// A folder for compilers and what they make: in `$UVS_CACHE`, else the user's cache.
pub(crate) fn cache_folder(name: &str) -> Result<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = path("UVS_CACHE")
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("uvs")))
        .or_else(|| Some(path("HOME")?.join(".cache/uvs")));
    let Some(base) = base else {
        bail!("no place for the cache\n  fix:   set HOME, XDG_CACHE_HOME or UVS_CACHE");
    };
    let cache = std::path::absolute(base)?.join(name);
    // Its real path is what the compiler knows of, and what has to be taken out of the modules: homes are
    // often behind a link.
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    Ok(cache.canonicalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(modules: &[(&str, &str)], record: &str) -> Files {
        let modules = modules.iter().map(|&(name, bytes)| (name.to_owned(), bytes.into())).collect();
        Files::new(modules, record.to_owned())
    }

    #[test]
    fn options() {
        let parse =
            |line: &str| Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let check = Options { check: true, out: None };
        let out = |check| Options { check, out: Some("x".into()) };
        assert_eq!(parse(""), Ok(Some(Options::default())));
        assert_eq!(parse("--check"), Ok(Some(check)));
        assert_eq!(parse("--out x --check"), Ok(Some(out(true))));
        assert_eq!(parse("--out x"), Ok(Some(out(false))));
        assert_eq!(parse("--check --help"), Ok(None));
        assert!(parse("--out").is_err());
        assert!(parse("--chekc").unwrap_err().contains("--chekc"));
    }

    #[test]
    fn sums_are_those_of_sha256sum() {
        let files = files(&[("b.wasm", ""), ("a.wasm", "abc")], "");
        let want = "\
            ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a.wasm\n\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b.wasm\n";
        assert_eq!(files.text(SUMS).as_deref(), Some(want));
        files.verify_sums().unwrap();
    }

    #[test]
    fn a_module_that_was_tampered_with_is_noticed() {
        let mut files = files(&[("a.wasm", "abc")], "");
        files.0.insert("a.wasm".to_owned(), b"abd".to_vec());
        assert!(files.verify_sums().is_err());
        assert!(Files::default().verify_sums().is_err(), "no modules at all");
    }

    #[test]
    fn differences_are_named() {
        let committed = files(&[("a.wasm", "1"), ("b.wasm", "2"), ("c.wasm", "3")], "r");
        let built = files(&[("a.wasm", "1"), ("b.wasm", "x"), ("d.wasm", "4")], "r");
        assert_eq!(
            committed.differences(&built),
            ["SHA256SUMS differs", "b.wasm differs", "c.wasm should not be there", "d.wasm is missing"]
        );
        assert!(committed.differences(&committed).is_empty());
    }

    #[test]
    fn the_same_compiler_must_give_the_same_bytes_and_another_need_not() {
        let out = tempfile::tempdir().unwrap();
        let committed = files(&[("a.wasm", "1")], "compiler: 1\nwit-bindgen: 1\n");
        let other = files(&[("a.wasm", "2")], "compiler: 1\nwit-bindgen: 1\n");
        let exit = |built: &Files, identity: &str| {
            format!("{:?}", check(&committed, built, identity, Some(out.path())).unwrap())
        };
        let (success, failure) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(exit(&committed, "compiler: 1\n"), success, "same compiler, same bytes");
        assert_eq!(exit(&other, "compiler: 1\n"), failure, "same compiler, other bytes");
        assert_eq!(exit(&other, "compiler: 2\n"), success, "another compiler");
        assert_eq!(Files::read(out.path()).unwrap(), other, "what was rebuilt is there to be tested");
    }

    #[test]
    fn writing_removes_modules_of_schedulers_that_are_gone() {
        let out = tempfile::tempdir().unwrap();
        files(&[("a.wasm", "1"), ("b.wasm", "2")], "r").write(out.path()).unwrap();
        let fewer = files(&[("a.wasm", "1")], "r");
        fewer.write(out.path()).unwrap();
        assert_eq!(Files::read(out.path()).unwrap(), fewer);
    }
}
