//! `cargo xtask test`: all that has to hold for a commit to be good, what is cheap to find out first.
//!
//! ```text
//!   packages > fmt > dependencies > light crates, dev profile > wasm --check > bpf --check > sdk > clippy
//!   > everything, release > namespaces in other modes > doc tests
//! ```
//! The steps after `wasm` build the whole workspace in the release profile, so that wasmtime is compiled
//! once for all of them (clippy reads it once more).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::tally::{Reader, Tally};
use crate::{book, bpf, browser, deb, deny, packages, sdk, toolchain};

const USAGE: &str = "\
usage: cargo xtask test

Checks formatting and lints, rebuilds the shipped schedulers and the programs for the kernel and compares
them, and runs every test.
As root on Debian and its kin it installs the packages it needs and finds missing.

environment:
  CI                        set: nothing may be missing, and a failing step does not stop the rest
  UVS_REQUIRE_ROOT_TESTS    0: tests that may not make network namespaces are skipped even as root;
                            1 (set for root, and in CI): they fail instead

exit status: 0 all passed, 1 something failed, 2 wrong usage
";

/// Makes tests fail that would otherwise be skipped for want of rights.
const REQUIRE_ROOT: &str = "UVS_REQUIRE_ROOT_TESTS";
/// Names the folder of rebuilt schedulers that the tests of the plug-in host run in place of the committed ones.
const REBUILT: &str = "UVS_TEST_MODULES";
/// Names the folder with the programs for the kernel that their tests load in place of the committed ones.
const REBUILT_OBJECTS: &str = "UVS_TEST_BPF";

/// Gives the directors of the namespace tests other keys of interfaces than the defaults.
const MODE: &str = "UVS_TEST_MODE";
/// What the step is called, the mode, and which tests.
const OTHER_MODES: [(&str, &str, &str); 2] = [
    (
        "namespace tests, one queue and no offload",
        "queues=1,offload=off",
        "package(uvs-tests) and binary(netns) and not test(/^(documents|golden|monitoring|page)::/)",
    ),
    (
        "namespace tests, flows in the kernel",
        "attach=tcx,accelerate=auto",
        // These choose for themselves, or are about bridges, and what comes through them.
        "package(uvs-tests) and binary(netns) and not test(/^(accelerate|attach|decapsulate|demo|documents|golden|lifecycle|modes|monitoring|page)::|each_bad_frame/)",
    ),
];

/// The one step that is never nextest's.
const DOC_TESTS: &str = "doc tests";

/// The crates without wasmtime and devices. The dev profile has assertions on overflow, which the release profile,
/// where all crates are tested, has not.
const LIGHT: [&str; 10] = [
    "uvs-wire",
    "uvs-director",
    "uvs-ha",
    "uvs-state",
    "uvs-config",
    "uvs-adm",
    "uvs-sdk",
    "uvs-sim",
    "uvs-scheduler-*",
    "uvs-example-*",
];

/// Runs the command.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    match args {
        [] => {}
        [help] if help == "-h" || help == "--help" => {
            print!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        [other, ..] => {
            eprint!("error: {other:?} is not known\n\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    let mut session = Session::new()?;
    session.take_steps();
    session.summarize();
    let passed = session.steps.iter().all(|step| step.failure.is_none());
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A step that was taken.
struct Step {
    name: &'static str,
    took: Duration,
    tally: Tally,
    failure: Option<String>,
}

struct Session {
    root: PathBuf,
    /// The target folder.
    target: PathBuf,
    in_ci: bool,
    nextest: bool,
    /// The value of [`REQUIRE_ROOT`] for the tests, if any.
    require_root: Option<&'static str>,
    /// Schedulers that another compiler than the recorded one built.
    rebuilt: Option<TempDir>,
    /// The object of the direct attach that another compiler than the recorded one compiled.
    rebuilt_object: Option<TempDir>,
    /// The examples of the SDKs.
    examples: Option<TempDir>,
    /// What drives a browser.
    playwright: Option<PathBuf>,
    steps: Vec<Step>,
    notes: Vec<String>,
}

/// Whether the next step is to be taken.
type GoOn = bool;

impl Session {
    fn new() -> Result<Self> {
        let in_ci = std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
        let is_root = packages::is_root()?;
        let mut notes = Vec::new();
        let require_root = match std::env::var(REQUIRE_ROOT).as_deref() {
            Ok("0") => None,
            Ok(_) => Some("1"),
            Err(_) => (is_root || in_ci).then_some("1"),
        };
        if !is_root {
            notes.push(
                "not root: what makes network namespaces or devices was skipped where it says so".into(),
            );
        }
        let nextest = succeeds(Command::new("cargo").args(["nextest", "--version"]));
        if !nextest {
            notes.push("no cargo-nextest: `cargo test` ran the tests, with no limit on their time".into());
        }
        let root = root()?;
        let target = target(&root)?;
        Ok(Self {
            root,
            target,
            in_ci,
            nextest,
            require_root,
            rebuilt: None,
            rebuilt_object: None,
            examples: None,
            playwright: None,
            steps: Vec::new(),
            notes,
        })
    }

    /// Takes the steps; not in CI, the first that fails is the last.
    fn take_steps(&mut self) -> GoOn {
        self.install_packages()
            && self.plain("formatting", cargo(&["fmt", "--all", "--check"]))
            && self.dependencies()
            && self.light_crates()
            && self.shipped_schedulers()
            && self.kernel_programs()
            && self.sdk_examples()
            && self.lints()
            && self.everything()
            && self.package()
            && self.book()
            && self.other_modes()
            && self.rebuilt_schedulers()
            && self.rebuilt_programs()
            && self.counted(DOC_TESTS, self.locked(&["test", "--release", "--workspace", "--doc"]))
    }

    fn install_packages(&mut self) -> GoOn {
        let started = Instant::now();
        let installed = packages::install_missing(self.in_ci)
            .and_then(|note| Ok((note, browser::find(&self.target, self.in_ci)?)));
        let failure = match installed {
            Ok((note, playwright)) => {
                self.notes.extend(note);
                self.playwright = playwright;
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        self.end("packages", started, Tally::default(), failure)
    }

    /// Licences, versions and sources of the crates that uvs depends on.
    fn dependencies(&mut self) -> GoOn {
        let name = "dependencies";
        match deny::PROGRAM.find(&self.target, self.in_ci) {
            Ok(Some(program)) => self.plain(name, deny::check(&program)),
            Ok(None) => {
                self.notes.push(format!("skipped: cargo-deny, which is not there; {}", deny::ADVICE));
                true
            }
            Err(error) => self.end(name, Instant::now(), Tally::default(), Some(format!("{error:#}"))),
        }
    }

    fn light_crates(&mut self) -> GoOn {
        let mut tests = self.tests(&[]);
        for package in LIGHT {
            tests.args(["--package", package]);
        }
        self.counted("light crates, dev profile", tests)
    }

    fn everything(&mut self) -> GoOn {
        let tests = self.release_tests();
        self.counted("everything, release profile", tests)
    }

    /// Packs what was built, and looks at what came of it.
    fn package(&mut self) -> GoOn {
        let started = Instant::now();
        let failure = match deb::program(&self.target, self.in_ci).and_then(|program| match program {
            Some(program) => deb::check(&program, &self.root, &self.target),
            None => {
                self.notes
                    .push(format!("skipped: the Debian package; there is no cargo-deb, {}", deb::ADVICE));
                Ok(Vec::new())
            }
        }) {
            Ok(notes) => {
                self.notes.extend(notes);
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        self.end("package", started, Tally::default(), failure)
    }

    /// Makes a book of the documents, and follows its links.
    fn book(&mut self) -> GoOn {
        let started = Instant::now();
        let failure = match book::PROGRAM.find(&self.target, self.in_ci).and_then(|program| match program {
            Some(program) => {
                let folder = tempfile::Builder::new().prefix("uvs-book-").tempdir()?;
                book::make(&program, &self.root, folder.path())
                    .map(|pages| format!("a book of {pages} pages"))
            }
            None => Ok(format!("skipped: the book of the documents; there is no mdbook, {}", book::ADVICE)),
        }) {
            Ok(note) => {
                self.notes.push(note);
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        self.end("book", started, Tally::default(), failure)
    }

    fn lints(&mut self) -> GoOn {
        let mut clippy = self.locked(&["clippy", "--workspace", "--all-targets", "--release"]);
        clippy.args(["--", "-D", "warnings"]);
        self.plain("lints", clippy)
    }

    /// Rebuilds the shipped schedulers and compares them with the committed ones.
    fn shipped_schedulers(&mut self) -> GoOn {
        let started = Instant::now();
        let failure = self.check_modules().unwrap_or_else(|error| Some(format!("{error:#}")));
        self.end("shipped schedulers", started, Tally::default(), failure)
    }

    /// What is wrong with the committed modules, if anything.
    fn check_modules(&mut self) -> Result<Option<String>> {
        let (failure, rebuilt) = self.check_built("wasm", "the shipped schedulers", toolchain::ADVICE)?;
        self.rebuilt = rebuilt;
        Ok(failure)
    }

    /// Compiles the programs of the direct attach and compares them with the committed ones.
    fn kernel_programs(&mut self) -> GoOn {
        let started = Instant::now();
        let failure = match self.check_built("bpf", "the programs of the direct attach", bpf::ADVICE) {
            Ok((failure, rebuilt)) => {
                self.rebuilt_object = rebuilt;
                failure
            }
            Err(error) => Some(format!("{error:#}")),
        };
        self.end("programs for the kernel", started, Tally::default(), failure)
    }

    /// Has a chore build and compare what is committed. What is wrong with that, if anything, and the folder of what
    /// was built where another compiler than the recorded one did it.
    fn check_built(
        &mut self,
        chore: &str,
        what: &str,
        advice: &str,
    ) -> Result<(Option<String>, Option<TempDir>)> {
        let folder = tempfile::Builder::new().prefix("uvs-rebuilt-").tempdir()?;
        let mut check = cargo(&["xtask", chore, "--check", "--out"]);
        check.arg(folder.path());
        let mut compared = true;
        let status = self.piped(check, |line| {
            compared &= line != "not compared";
            true
        })?;
        match status {
            Some(0) => Ok((None, (!compared).then_some(folder))),
            // No such compiler: what is committed serves.
            Some(3) if !self.in_ci => {
                self.notes.push(format!("skipped: rebuilding {what}; {advice}"));
                Ok((None, None))
            }
            code => Ok((Some(exit_text(code)), None)),
        }
    }

    /// Builds the examples of the SDKs whose toolchains are at hand, for the tests.
    fn sdk_examples(&mut self) -> GoOn {
        self.notes.push(format!(
            "skipped: the examples of other SDKs than {}, whose toolchains come from npm and PyPI; `cargo xtask sdk --all` builds \
             and tests them",
            sdk::IN_CI
        ));
        if let Some(missing) = sdk::missing().filter(|_| !self.in_ci) {
            self.notes.push(format!("skipped: the examples of the SDKs: {missing}"));
            return true;
        }
        let started = Instant::now();
        let failure = self.build_examples().unwrap_or_else(|error| Some(format!("{error:#}")));
        self.end("examples of the SDKs", started, Tally::default(), failure)
    }

    /// What is wrong with them, if anything.
    fn build_examples(&mut self) -> Result<Option<String>> {
        let folder = tempfile::Builder::new().prefix("uvs-sdk-").tempdir()?;
        let check = cargo(&["xtask", "sdk", "--bindings", "--check"]);
        let mut build = cargo(&["xtask", "sdk", "--no-test", "--out"]);
        build.arg(folder.path());
        for command in [check, build] {
            match self.piped(command, |_| true)? {
                Some(0) => {}
                code => return Ok(Some(exit_text(code))),
            }
        }
        self.examples = Some(folder);
        Ok(None)
    }

    /// In CI, the namespace tests once more in the modes that are furthest from the default: what `modes` does not
    /// exercise in every mode anyway.
    fn other_modes(&mut self) -> GoOn {
        if !self.in_ci || !self.nextest {
            return true;
        }
        OTHER_MODES.iter().all(|(name, mode, filter)| {
            let mut tests = self.release_tests();
            tests.args(["--filterset", filter]).env(MODE, mode);
            self.counted(name, tests)
        })
    }

    /// Where another compiler than the recorded one rebuilt the schedulers, their bytes say nothing: the tests of the
    /// plug-in host are run with them.
    fn rebuilt_schedulers(&mut self) -> GoOn {
        let Some(folder) = self.rebuilt.take() else { return true };
        self.notes.push(
            "another compiler than the recorded one rebuilt the shipped schedulers: not compared byte for byte, \
             but run through the tests of the plug-in host"
                .into(),
        );
        let mut tests = self.release_tests();
        if self.nextest {
            tests.args(["--filterset", "package(uvs-plugin)"]);
        }
        tests.env(REBUILT, folder.path());
        self.counted("plug-in host, rebuilt schedulers", tests)
    }

    /// The same with the programs of the direct attach: the kernel has to take them, and they have to work.
    fn rebuilt_programs(&mut self) -> GoOn {
        let Some(folder) = self.rebuilt_object.take() else { return true };
        self.notes.push(
            "another compiler than the recorded one compiled the programs of the direct attach: not compared byte \
             for byte, but loaded and run through their tests"
                .into(),
        );
        let mut tests = self.release_tests();
        if self.nextest {
            tests.args(["--filterset", "package(uvs-attach)"]);
        }
        tests.env(REBUILT_OBJECTS, folder.path());
        self.counted("direct attach, rebuilt programs", tests)
    }

    /// `cargo`, in CI with a lock file that has to be up to date.
    fn locked(&self, args: &[&str]) -> Command {
        let mut cargo = cargo(args);
        if self.in_ci {
            cargo.arg("--locked");
        }
        cargo
    }

    /// The tests of some packages, doc tests left out.
    fn tests(&self, args: &[&str]) -> Command {
        let (command, how) = if self.nextest {
            (["nextest", "run"], &["--success-output", "immediate"][..])
        } else {
            (["test", "--lib"], &["--bins", "--tests"][..])
        };
        let mut tests = self.locked(&command);
        tests.args(how).args(args);
        if self.in_ci {
            tests.arg("--no-fail-fast");
        }
        tests
    }

    /// The tests of all packages. (Of one alone, cargo would choose other features and build wasmtime anew.)
    fn release_tests(&self) -> Command {
        let mut tests = self.tests(&["--release", "--workspace"]);
        // It is built together with them. A test that had cargo build it alone would wait for wasmtime, too.
        tests.env("UVS_BIN", self.target.join("release/uvs"));
        if let Some(playwright) = &self.playwright {
            tests.env(browser::VARIABLE, playwright);
        }
        if let Some(examples) = &self.examples {
            tests.env(sdk::MODULES, examples.path());
        }
        tests
    }

    /// Runs a command whose exit status says it all.
    fn plain(&mut self, name: &'static str, command: Command) -> GoOn {
        let started = Instant::now();
        let failure = match self.prepared(command).status() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(exit_text(status.code())),
            Err(error) => Some(format!("cannot start it: {error}")),
        };
        self.end(name, started, Tally::default(), failure)
    }

    /// Runs tests and counts them.
    fn counted(&mut self, name: &'static str, mut command: Command) -> GoOn {
        let started = Instant::now();
        if !self.nextest || name == DOC_TESTS {
            command.args(["--", "--show-output"]);
        }
        let mut reader = Reader::default();
        let status = self.piped(command, |line| reader.shows(line));
        let tally = reader.finish();
        let failure = match status {
            Ok(Some(0)) if tally.summaries.is_empty() => Some("it ran no tests".to_owned()),
            Ok(Some(0)) => None,
            Ok(code) => Some(exit_text(code)),
            Err(error) => Some(format!("{error:#}")),
        };
        self.end(name, started, tally, failure)
    }

    /// Runs a command and hands each line it prints to `shows`, which says whether to print it. Its exit code.
    fn piped(&self, command: Command, mut shows: impl FnMut(&str) -> bool) -> Result<Option<i32>> {
        let mut command = self.prepared(command);
        let (output, input) = std::io::pipe()?;
        command.stdout(input.try_clone()?).stderr(input);
        let mut child = command.spawn().context("cannot start it")?;
        // It holds writing ends of the pipe, which has to end with the child's.
        drop(command);
        let mut out = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if shows(&line) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(child.wait()?.code())
    }

    /// The command, told, in the checkout's root and with what the tests have to know.
    fn prepared(&self, mut command: Command) -> Command {
        command.current_dir(&self.root);
        match self.require_root {
            Some(value) => command.env(REQUIRE_ROOT, value),
            None => command.env_remove(REQUIRE_ROOT),
        };
        tell(&command);
        command
    }

    fn end(&mut self, name: &'static str, started: Instant, tally: Tally, failure: Option<String>) -> GoOn {
        if let Some(failure) = &failure {
            println!("failed: {name}: {failure}");
        }
        let go_on = failure.is_none() || self.in_ci;
        self.steps.push(Step { name, took: started.elapsed(), tally, failure });
        go_on
    }

    /// Says what ran, what was skipped and why, and how it came out.
    fn summarize(&self) {
        println!("\n== summary ==");
        let mut total = Tally::default();
        let mut failed_without_test = 0;
        for Step { name, took, tally, failure } in &self.steps {
            let outcome = failure.as_deref().unwrap_or("ok");
            println!("{:>7.1} s  {name:<33} {outcome}", took.as_secs_f64());
            for summary in &tally.summaries {
                println!("{:11}{summary}", "");
            }
            if failure.is_some() && tally.failed == 0 {
                failed_without_test += 1;
            }
            total.add(tally);
        }
        for (reason, times) in &total.skipped {
            println!("skipped, {times} times: {reason}");
        }
        for note in &self.notes {
            println!("{note}");
        }
        // A step that failed without a test counts as one, or the last line would look good.
        total.failed += failed_without_test;
        println!("\n{}", total.line());
    }
}

/// Says what is run, as it would be typed.
pub(crate) fn tell(command: &Command) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    println!("$ {}", words.join(" "));
}

/// Whether a command starts and succeeds. What it prints is lost.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn exit_text(code: Option<i32>) -> String {
    code.map_or_else(|| "killed by a signal".to_owned(), |code| format!("exit status {code}"))
}

pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(args);
    cargo
}

/// The root of the checkout.
pub(crate) fn root() -> Result<PathBuf> {
    // cargo tells where this package is now; a program started by hand knows where it was built.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = PathBuf::from(package).join("../..");
    root.canonicalize().with_context(|| format!("there is no {}", root.display()))
}

/// Where cargo builds.
pub(crate) fn target(root: &Path) -> Result<PathBuf> {
    let mut metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&toolchain::output(metadata.current_dir(root))?)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names the target folder")?;
    Ok(target.into())
}
