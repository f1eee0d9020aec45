//! `cargo xtask sdk`: builds the example of each SDK and tests that they are one policy.

mod assemblyscript;
mod c;
mod js;
mod python;
mod zig;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::test::{target, tell};
use crate::toolchain::output;
use crate::wasm;

const USAGE: &str = "\
usage: cargo xtask sdk [--lang LIST | --all] [--out DIR] [--figures | --no-test]
       cargo xtask sdk --bindings [--check]

Builds the example `sticky` of the SDKs as components and tests that all of them are one policy.

  --lang LIST   rust, c, js, zig, assemblyscript, python; several with commas between them (rust,c,js)
  --all         all of them
  --out DIR     where the components go, and those in other languages that lie there are tested, too
                (the target folder, emptied first)
  --figures     prints size, compile time and ns per pick of each
  --no-test     only builds
  --bindings    writes the bindings that the C SDK has from wit/scheduler.wit; with --check, compares them

exit status: 0 done, 1 a build or a test failed, 2 wrong usage
";

/// Names the folder of the components for the tests.
pub(crate) const MODULES: &str = "UVS_SDK_MODULES";
/// What CI builds; the others need large toolchains.
pub(crate) const IN_CI: &str = "rust,c,js";

/// A language with an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    C,
    Js,
    Zig,
    AssemblyScript,
    Python,
}

impl Language {
    const ALL: [Self; 6] = [Self::Rust, Self::C, Self::Js, Self::Zig, Self::AssemblyScript, Self::Python];

    fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Js => "js",
            Self::Zig => "zig",
            Self::AssemblyScript => "assemblyscript",
            Self::Python => "python",
        }
    }

    fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|language| language.name() == name)
            .ok_or_else(|| format!("there is no SDK {name:?}, but {known}"))
    }

    /// By the ending of a file; Rust is built by cargo.
    pub(crate) fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "c" => Some(Self::C),
            "js" | "mjs" => Some(Self::Js),
            "zig" => Some(Self::Zig),
            "ts" => Some(Self::AssemblyScript),
            "py" => Some(Self::Python),
            _ => None,
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Rust => "sdk/examples/sticky",
            Self::C => "sdk/c/examples/sticky.c",
            Self::Js => "sdk/js/examples/sticky.js",
            Self::Zig => "sdk/zig/examples/sticky.zig",
            Self::AssemblyScript => "sdk/assemblyscript/examples/sticky.ts",
            Self::Python => "sdk/python/examples/sticky.py",
        }
    }
}

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    languages: Vec<Language>,
    out: Option<PathBuf>,
    figures: bool,
    no_test: bool,
    bindings: bool,
    check: bool,
}

impl Options {
    /// `None`: the usage is wanted.
    fn parse(args: &[String]) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--lang" => {
                    let list = args.next().ok_or("--lang needs a list")?;
                    options.languages =
                        list.split(',').map(|name| Language::parse(name.trim())).collect::<Result<_, _>>()?;
                }
                "--all" => options.languages = Language::ALL.to_vec(),
                "--out" => options.out = Some(args.next().ok_or("--out needs a folder")?.into()),
                "--figures" => options.figures = true,
                "--no-test" => options.no_test = true,
                "--bindings" => options.bindings = true,
                "--check" => options.check = true,
                "-h" | "--help" => return Ok(None),
                other => return Err(format!("{other:?} is not known")),
            }
        }
        if options.check && !options.bindings {
            return Err("--check goes with --bindings".into());
        }
        if options.languages.is_empty() {
            options.languages = IN_CI.split(',').map(Language::parse).collect::<Result<_, _>>()?;
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
    let root = wasm::root()?;
    if options.bindings {
        return c::bindings(&root, options.check);
    }
    let out = match &options.out {
        Some(out) => out.clone(),
        None => {
            let out = target(&root)?.join("sdk");
            if out.exists() {
                fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
            }
            out
        }
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let out = out.canonicalize()?;
    for &language in &options.languages {
        let name = language.name();
        let example = root.join(language.example());
        let made =
            build(language, &example).with_context(|| format!("the example in {name} is not built"))?;
        fs::write(out.join(name).with_extension("wasm"), &made)?;
        println!("{name:>14} {:>9} bytes", made.len());
    }
    if options.no_test {
        return Ok(ExitCode::SUCCESS);
    }
    let mut tests = Command::new("cargo");
    // With all packages, as in `cargo xtask test`: of one alone, cargo would choose other features and build wasmtime
    // anew.
    if options.figures {
        tests.args(["run", "--release", "-p", "uvs-tests", "--example", "sdk_figures"]);
    } else {
        tests.args(["test", "--release", "--workspace", "--test", "sdk", "--", "--nocapture"]);
    }
    tests.current_dir(&root).env(MODULES, &out);
    tell(&tests);
    let status = tests.status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What this machine lacks for the examples that CI builds.
pub(crate) fn missing() -> Option<String> {
    c::missing().or_else(|| wasm::missing().map(|error| format!("{error:#}")))
}

/// A scheduler as a component. Of Rust the source is the folder of its package in the workspace.
pub(crate) fn build(language: Language, source: &Path) -> Result<Vec<u8>> {
    ensure!(source.exists(), "there is no {}", source.display());
    let source = source.canonicalize()?;
    let cache = wasm::cache_folder("sdk")?;
    // One run at a time: they share the toolchains.
    let lock = fs::File::create(cache.join("lock"))?;
    lock.lock()?;
    let place = Place { sdk: wasm::root()?.join("sdk"), cache };
    match language {
        Language::Rust => wasm::build_example(&source),
        Language::C => c::build(&place, &source),
        Language::Js => js::build(&place, &source),
        Language::Zig => zig::build(&place, &source),
        Language::AssemblyScript => assemblyscript::build(&place, &source),
        Language::Python => python::build(&place, &source),
    }
}

/// Where things are.
struct Place {
    /// The SDKs.
    sdk: PathBuf,
    /// Toolchains from package registries.
    cache: PathBuf,
}

impl Place {
    /// A folder of the cache that belongs to the content of these files: `make` fills it, once. What else it depends on
    /// is in `name`.
    fn prepared(
        &self,
        name: &str,
        of: &[PathBuf],
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let mut digest = Sha256::new();
        for file in of {
            digest.update(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        let id: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let folder = self.cache.join(format!("{name}-{id}"));
        // Tools know their own path, so that the folder is filled where it stays; the mark says that it is whole.
        let mark = folder.join(".whole");
        if mark.exists() {
            return Ok(folder);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        eprintln!("preparing {} (once)", folder.display());
        make(&folder)?;
        fs::write(mark, "")?;
        Ok(folder)
    }

    /// The Python of a virtual environment with the packages of a requirements file.
    fn python(&self, requirements: &Path) -> Result<PathBuf> {
        let folder = self.prepared("venv", &[requirements.to_owned()], |folder| {
            output(Command::new("python3").args(["-m", "venv"]).arg(folder)).context(
                "no virtual environment (Debian's package python3-venv has what python3 needs for them)",
            )?;
            let mut pip = Command::new(folder.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
            output(pip.arg(requirements)).map(drop)
        })?;
        Ok(folder.join("bin/python"))
    }
}

/// A folder for what a build leaves.
fn scratch() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("uvs-sdk-").tempdir()?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let parse =
            |line: &str| Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let languages = |line: &str| parse(line).unwrap().unwrap().languages;
        assert_eq!(languages(""), [Language::Rust, Language::C, Language::Js]);
        assert_eq!(languages("--lang zig,c"), [Language::Zig, Language::C]);
        assert_eq!(languages("--all"), Language::ALL);
        assert!(parse("--lang cobol").unwrap_err().contains("rust, c, js"));
        assert!(parse("--check").is_err(), "of what?");
        assert!(parse("--bindings --check").unwrap().unwrap().check);
        assert_eq!(parse("--help"), Ok(None));
    }

    #[test]
    fn each_language_is_known_by_the_ending_of_its_example() {
        for language in Language::ALL {
            let extension = Path::new(language.example()).extension().and_then(|it| it.to_str());
            assert_eq!(
                extension.and_then(Language::of_extension),
                (language != Language::Rust).then_some(language)
            );
        }
    }

    #[test]
    fn a_prepared_folder_is_made_once_and_again_when_it_is_not_whole() {
        let cache = tempfile::tempdir().unwrap();
        let place = Place { sdk: PathBuf::new(), cache: cache.path().into() };
        let of = cache.path().join("versions");
        fs::write(&of, "1").unwrap();
        let prepare = |make: fn(&Path) -> Result<()>| place.prepared("tool", std::slice::from_ref(&of), make);
        prepare(|folder| Ok(fs::write(folder.join("half"), "")?).and(Err(anyhow::anyhow!("no net"))))
            .unwrap_err();
        let folder = prepare(|folder| match folder.join("half").exists() {
            true => Err(anyhow::anyhow!("what was half is still there")),
            false => Ok(()),
        })
        .unwrap();
        assert_eq!(prepare(|_| panic!("it is there")).unwrap(), folder);
        fs::write(&of, "2").unwrap();
        assert_ne!(prepare(|_| Ok(())).unwrap(), folder, "another version");
    }
}
