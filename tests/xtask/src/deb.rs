//! `cargo xtask deb`: the package for Debian and what comes from it, by cargo-deb.
//!
//! What it holds is said in `router/Cargo.toml`; man pages and completions are made by the program that is packed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::test::{cargo, root, succeeds, target, tell};
use crate::toolchain::output;

const VERSION: &str = "3.8.0";

/// What to do where there is none.
pub(crate) const ADVICE: &str = "install it with `cargo install cargo-deb --locked`";

const USAGE: &str = "\
usage: cargo xtask deb [--out DIR] [--check]

Builds uvs and packs it as a .deb, in target/debian or DIR; with --check it looks at what is in it instead. Needs
cargo-deb (`cargo install cargo-deb --locked`), and dpkg-dev for the versions of libraries.
";

/// The chore.
///
/// # Errors
/// Wrong usage, or something does not build.
pub(crate) fn run(args: &[String]) -> Result<std::process::ExitCode> {
    let (mut out, mut checks) = (None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.as_slice().first()) {
            ("--out", Some(folder)) => {
                out = Some(PathBuf::from(folder));
                args.next();
            }
            ("--check", _) => checks = true,
            ("--help" | "-h", _) => {
                print!("{USAGE}");
                return Ok(std::process::ExitCode::SUCCESS);
            }
            _ => {
                eprint!("{USAGE}");
                return Ok(std::process::ExitCode::from(2));
            }
        }
    }
    let root = root()?;
    let target = target(&root)?;
    let Some(program) = program(&target, false)? else { bail!("there is no cargo-deb; {ADVICE}") };
    let mut build = cargo(&["build", "--release", "--locked", "--workspace", "--bins"]);
    tell(&build);
    ensure!(build.status().context("cannot start cargo")?.success(), "uvs does not build");
    if checks {
        for note in check(&program, &root, &target)? {
            println!("{note}");
        }
        return Ok(std::process::ExitCode::SUCCESS);
    }
    println!("{}", pack(&program, &target, out.as_deref())?.display());
    Ok(std::process::ExitCode::SUCCESS)
}

/// The program: what is installed, or in CI what is built into the target folder. `None`: there is none.
pub(crate) fn program(target: &Path, in_ci: bool) -> Result<Option<PathBuf>> {
    if succeeds(Command::new("cargo-deb").arg("--version")) {
        return Ok(Some("cargo-deb".into()));
    }
    let folder = target.join(format!("tools/cargo-deb-{VERSION}"));
    let program = folder.join("bin/cargo-deb");
    if !program.is_file() {
        if !in_ci {
            return Ok(None);
        }
        let mut install =
            cargo(&["install", "cargo-deb", "--locked", "--debug", "--quiet", "--version", VERSION]);
        install.arg("--root").arg(&folder).arg("--target-dir").arg(target.join("tools/build"));
        tell(&install);
        ensure!(install.status().context("cannot start cargo")?.success(), "cargo-deb does not build");
    }
    Ok(Some(program))
}

/// Packs the program that is in the target folder. Where the package is.
pub(crate) fn pack(program: &Path, target: &Path, out: Option<&Path>) -> Result<PathBuf> {
    let release = target.join("release");
    let extra = release.join("package");
    // Nothing of another version stays in it.
    if extra.exists() {
        fs::remove_dir_all(&extra).with_context(|| format!("cannot empty {}", extra.display()))?;
    }
    let pages = extra.join("man");
    fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
    let uvs = release.join("uvs");
    output(Command::new(&uvs).arg("man").arg(&pages))?;
    for (shell, name) in [("bash", "uvs"), ("zsh", "_uvs"), ("fish", "uvs.fish")] {
        let text = output(Command::new(&uvs).args(["completions", shell]))?;
        let file = extra.join(name);
        fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let folder = out.map_or_else(|| target.join("debian"), Path::to_owned);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut deb = Command::new(program);
    deb.args(["--package", "uvs", "--no-build", "--quiet", "--locked", "--output"])
        .arg(folder.join("uvs.deb"));
    deb.env("CARGO_TARGET_DIR", target);
    tell(&deb);
    ensure!(deb.status().context("cannot start cargo-deb")?.success(), "cargo-deb does not pack uvs");
    Ok(folder.join("uvs.deb"))
}

/// Packs, unpacks, and holds what is there against what a person who installs it expects. What could not be looked at.
pub(crate) fn check(program: &Path, root: &Path, target: &Path) -> Result<Vec<String>> {
    let folder = tempfile::Builder::new().prefix("uvs-deb-").tempdir()?;
    let package = pack(program, target, Some(folder.path()))?;
    let unpacked = folder.path().join("unpacked");
    output(Command::new("dpkg-deb").arg("--raw-extract").args([&package, &unpacked]))?;
    for (file, part) in HOLDS {
        let path = unpacked.join(file);
        let content = fs::read(&path).with_context(|| format!("the package has no /{file}"))?;
        let text = String::from_utf8_lossy(&content);
        ensure!(text.contains(part), "{part:?} is not in /{file} of the package");
    }
    let uvs = unpacked.join("usr/bin/uvs");
    let version = output(Command::new(&uvs).arg("version"))?;
    let control = fs::read_to_string(unpacked.join("DEBIAN/control"))?;
    let depends = control.lines().find(|line| line.starts_with("Depends: ")).unwrap_or_default();
    ensure!(depends.contains("libc6 (>= "), "the package does not say which libc it needs:\n{control}");
    let stripped = fs::metadata(&uvs)?.len() < fs::metadata(target.join("release/uvs"))?.len();
    ensure!(stripped, "the program of the package still has its symbols");
    println!("{} of {version}", package.file_name().unwrap_or_default().to_string_lossy());

    // The example in the configuration is right once it is uncommented.
    let shipped = fs::read_to_string(unpacked.join("etc/uvs/uvs.toml"))?;
    let lines = shipped.lines().map(|line| match line.strip_prefix('#') {
        Some(code) if !code.starts_with(' ') => code,
        _ => line,
    });
    fs::create_dir(folder.path().join("conf.d"))?;
    let example = folder.path().join("uvs.toml");
    fs::write(&example, lines.collect::<Vec<_>>().join("\n"))?;
    output(Command::new(&uvs).arg("check").arg(&example))?;

    if !succeeds(Command::new("systemd-analyze").arg("--version")) {
        return Ok(vec!["skipped: the unit of the Debian package; there is no systemd-analyze".into()]);
    }
    // It looks for the program where the unit says, which is not where the package was unpacked.
    let unit = fs::read_to_string(root.join("config/package/uvs.service"))?;
    let unit = unit.replace("/usr/bin/uvs", &uvs.to_string_lossy());
    let file = folder.path().join("uvs.service");
    fs::write(&file, unit)?;
    let judged = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&judged.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("uvs.service")).collect();
    ensure!(ours.is_empty(), "systemd does not like the unit: {}", ours.join("\n"));
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE_MAX}")]);
    let judged = security.arg(&file).output()?;
    let said = String::from_utf8_lossy(&judged.stdout);
    ensure!(judged.status.success(), "the unit is less hardened than it was:\n{said}");
    Ok(Vec::new())
}

/// How much a unit may be exposed at most, in tenths, as `systemd-analyze security` counts. It is at 2.8: what is left
/// is the network, the device and machine code that is made as it runs.
const EXPOSURE_MAX: u32 = 30;

/// Files of the package, and what is in them.
const HOLDS: [(&str, &str); 13] = [
    ("etc/uvs/uvs.toml", "[[service.destination]]"),
    ("etc/uvs/uvs.toml", "\ninclude = [\"conf.d/*.toml\"]"),
    ("etc/uvs/conf.d/README", "uvs check"),
    ("usr/lib/systemd/system/uvs.service", "ExecStart=/usr/bin/uvs run"),
    ("usr/share/bash-completion/completions/uvs", "complete"),
    ("usr/share/zsh/vendor-completions/_uvs", "#compdef uvs"),
    ("usr/share/fish/vendor_completions.d/uvs.fish", "complete -c uvs"),
    ("usr/share/doc/uvs/examples/nat.toml", "[[service]]"),
    ("usr/share/man/man1/uvs-run.1", "SIGHUP"),
    ("DEBIAN/conffiles", "/etc/uvs/uvs.toml"),
    ("DEBIAN/control", "adduser"),
    // The user of the unit; and what systemd has to be told of it.
    ("DEBIAN/postinst", "adduser --system --group --quiet --home /var/lib/uvs --no-create-home uvs"),
    ("DEBIAN/postinst", "deb-systemd-helper"),
];
