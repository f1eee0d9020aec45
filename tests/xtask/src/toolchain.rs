//! Finds a compiler for `wasm32-unknown-unknown`.
//!
//! 1. The Rust toolchain in use, when it has the target (`rustup target add wasm32-unknown-unknown`).
//! 2. On Debian and what comes from it, its package `rustc-web` with the sources of the standard library, unpacked
//!    into a private folder of the cache: nothing is installed and no root is needed. Its compiler knows the
//!    target; `core` and `alloc` are built from source.
//!
//! Both link with `wasm-component-ld` and `wasm-ld` of the Rust toolchain in use.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The target of guests.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// What to do where no compiler is found.
pub(crate) const ADVICE: &str = "run `rustup target add wasm32-unknown-unknown`";

/// A compiler for guests.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// What cargo is to call.
    pub(crate) rustc: PathBuf,
    /// Its version, that of the package it came in, and that of the linker: what the bytes depend on.
    pub(crate) identity: String,
    /// Whether `core` and `alloc` have to be built from source.
    pub(crate) build_std: bool,
    /// Folders that must not show in what is built, and what stands in their place.
    pub(crate) remap: Vec<(PathBuf, String)>,
    /// `wasm-component-ld`.
    pub(crate) linker: PathBuf,
    /// `wasm-ld`.
    pub(crate) wasm_ld: PathBuf,
}

/// The compiler to use; `Err` says why there is none and what to do. `recorded` is the identity of the one that built
/// the committed modules: of several unpacked packages that one is preferred.
pub(crate) fn find(cache: &Path, recorded: Option<&str>) -> Result<Toolchain> {
    let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let version = Version::of(&rustc)?;
    let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?);
    let tools = sysroot.join("lib/rustlib").join(&version.host).join("bin");
    let (linker, wasm_ld) = (tools.join("wasm-component-ld"), tools.join("gcc-ld/wasm-ld"));
    for tool in [&linker, &wasm_ld] {
        ensure!(
            tool.exists(),
            "{} is missing: the Rust toolchain in use is not one of rustup's, which bring it along",
            tool.display()
        );
    }
    let linker_version = output(Command::new(&linker).arg("--version"))?;
    let linker_version = format!("{linker_version}, wasm-ld of {}", version.line);

    let libdir = output(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
    if has_core(Path::new(&libdir)) {
        return Ok(Toolchain {
            rustc,
            identity: identity(&version, "the Rust toolchain in use", &linker_version),
            build_std: false,
            remap: vec![(sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{}", version.commit))],
            linker,
            wasm_ld,
        });
    }

    let (package, unpacked) = debian(cache, recorded)
        .context("the Rust toolchain in use has no such target, and Debian's rustc-web is not to be had")?;
    let rustc = unpacked.join("rustc");
    let version = Version::of(&rustc).context(
        "the unpacked compiler does not start; `apt-get install --no-install-recommends rustc-web` brings \
         the libraries that it may lack",
    )?;
    Ok(Toolchain {
        rustc,
        identity: identity(&version, &package, &linker_version),
        build_std: true,
        remap: vec![(unpacked, "/rustc".to_owned())],
        linker,
        wasm_ld,
    })
}

fn identity(version: &Version, source: &str, linker: &str) -> String {
    format!("compiler: {}, LLVM {}\nsource: {source}\nlinker: {linker}\n", version.line, version.llvm)
}

fn has_core(libdir: &Path) -> bool {
    fs::read_dir(libdir).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// What `rustc -vV` says.
struct Version {
    line: String,
    host: String,
    commit: String,
    llvm: String,
}

impl Version {
    fn of(rustc: &Path) -> Result<Self> {
        let text = output(Command::new(rustc).arg("-vV"))?;
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(str::to_owned)
                .with_context(|| format!("`{} -vV` says nothing of {name:?}", rustc.display()))
        };
        Ok(Self {
            line: text.lines().next().unwrap_or_default().to_owned(),
            host: field("host")?,
            commit: field("commit-hash")?,
            llvm: field("LLVM version")?,
        })
    }
}

/// Debian's compiler: name and version of the package, and the folder it is unpacked in.
fn debian(cache: &Path, recorded: Option<&str>) -> Result<(String, PathBuf)> {
    let recorded = recorded
        .and_then(|identity| identity.lines().find_map(|line| line.strip_prefix("source: rustc-web ")));
    let folder = |version: &str| cache.join(format!("rustc-web-{version}"));
    let source = |version: &str| format!("rustc-web {version}");
    if let Some(version) = recorded
        && folder(version).exists()
    {
        return Ok((source(version), folder(version)));
    }

    let packages = match Package::closure() {
        Ok(packages) => packages,
        Err(error) => {
            // Without package lists an earlier download still serves.
            let found = fs::read_dir(cache).ok().into_iter().flatten().flatten().find_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some((source(name.strip_prefix("rustc-web-")?), entry.path()))
            });
            return found.ok_or(error);
        }
    };
    let version = &packages.first().context("rustc-web is one of the packages")?.version;
    if !folder(version).exists() {
        unpack(cache, &packages, &folder(version))?;
    }
    Ok((source(version), folder(version)))
}

/// A Debian package as the package lists describe it.
struct Package {
    name: String,
    version: String,
}

impl Package {
    /// `rustc-web`, the sources, and the libraries of the compiler; `rustc-web` comes first.
    fn closure() -> Result<Vec<Self>> {
        let mut wanted = vec!["rust-web-src".to_owned(), "rustc-web".to_owned()];
        let mut packages: Vec<Self> = Vec::new();
        while let Some(name) = wanted.pop() {
            if packages.iter().any(|package| package.name == name) {
                continue;
            }
            let about = output(Command::new("apt-cache").args(["show", "--no-all-versions", &name]))
                .with_context(|| {
                    format!(
                        "package {name} is not in the package lists (as root, `apt-get update` fetches them)"
                    )
                })?;
            let field = |key: &str| about.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            for dependency in field("Depends: ").split(", ") {
                let dependency = dependency.split([' ', ':']).next().unwrap_or_default();
                if dependency.starts_with("libstd-rust-web") || dependency.starts_with("libllvm") {
                    wanted.push(dependency.to_owned());
                }
            }
            packages.push(Self { name, version: field("Version: ").to_owned() });
        }
        packages.sort_by_key(|package| package.name != "rustc-web");
        let version = &packages[0].version;
        ensure!(
            release(version) >= release(env!("CARGO_PKG_RUST_VERSION")),
            "it is {version}, older than {}, which this project needs",
            env!("CARGO_PKG_RUST_VERSION")
        );
        Ok(packages)
    }
}

/// Major and minor number of a version such as `1.96.0+dfsg1-1`.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '+', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Downloads the packages and unpacks them into `folder`, which appears when all went well.
fn unpack(cache: &Path, packages: &[Package], folder: &Path) -> Result<()> {
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let partial = tempfile::Builder::new().prefix("partial-").tempdir_in(cache)?;
    let names: Vec<String> = packages.iter().map(|p| format!("{}={}", p.name, p.version)).collect();
    eprintln!("unpacking {} into {} (once)", names.join(", "), folder.display());
    // As root apt would hand the download to its own user, who may not write here.
    output(
        Command::new("apt-get")
            .args(["--quiet", "-o", "APT::Sandbox::User=root", "download"])
            .args(&names)
            .current_dir(partial.path()),
    )
    .context("the download failed (as root, `apt-get update` refreshes the package lists)")?;

    let mut unpacked = 0;
    for entry in fs::read_dir(partial.path())? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            output(Command::new("dpkg-deb").arg("-x").arg(&path).arg(partial.path()))?;
            fs::remove_file(&path)?;
            unpacked += 1;
        }
    }
    ensure!(unpacked == packages.len(), "{unpacked} of {} packages came", packages.len());
    write_wrapper(partial.path())?;
    fs::rename(partial.path(), folder)
        .with_context(|| format!("cannot rename {} to {}", partial.path().display(), folder.display()))?;
    // Its place is empty now.
    let _ = partial.keep();
    Ok(())
}

/// Writes the script that starts the unpacked compiler with its own libraries, wherever the folder is moved.
fn write_wrapper(folder: &Path) -> Result<()> {
    let lib = folder.join("usr/lib");
    let multiarch = fs::read_dir(&lib)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|name| name.ends_with("-linux-gnu"))
        .with_context(|| format!("no library folder in {}", lib.display()))?;
    let path = folder.join("rustc");
    let script = format!(
        "#!/bin/sh\nW=$(dirname \"$0\")\nLD_LIBRARY_PATH=\"$W/usr/lib/{multiarch}:$W/usr/lib\" \
         exec \"$W/usr/bin/rustc\" \"$@\"\n"
    );
    fs::write(&path, script)?;
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    // mkdtemp gives 0700; the cache is as open as its parent.
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// What a command prints, without the last line end; a failure tells what it said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("{program} prints no UTF-8"))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let cases = [
            ("1.96.0+dfsg1-1~deb12u2", (1, 96), "Debian's"),
            ("1.95", (1, 95), "cargo's rust-version"),
            ("1.100.1", (1, 100), "three digits"),
            ("", (0, 0), "nothing"),
        ];
        for (version, want, what) in cases {
            assert_eq!(release(version), want, "{what}");
        }
        assert!(release("1.100.0") > release("1.95"));
    }

    #[test]
    fn a_failing_command_is_told_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("because"), "{text}");
        assert_eq!(output(Command::new("echo").arg("yes")).unwrap(), "yes");
    }
}
