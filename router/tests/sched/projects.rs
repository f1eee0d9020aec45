//! `new`: each template is made, built with the command it prints, and put to the test. Where its compiler is missing,
//! a test says that it was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sched_in;

/// The command that `new` prints, made to run here.
fn build_command(told: &str) -> String {
    let line = told.lines().find_map(|line| line.strip_prefix("Build:")).unwrap();
    line.trim().to_owned()
}

/// Runs a shell command with `uvs` on the path; what it said, where it failed.
fn shell(folder: &Path, command: &str, environment: &[(String, String)]) -> Result<(), String> {
    let uvs = Path::new(env!("CARGO_BIN_EXE_uvs")).parent().unwrap();
    let path = format!("{}:{}", uvs.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).env("PATH", path);
    // What cargo tells its tests is not for another project's cargo.
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO_") && name != "CARGO_HOME" {
            shell.env_remove(name);
        }
    }
    let output = shell.envs(environment.iter().map(|(name, value)| (name, value))).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// What makes cargo build for wasm: nothing where the target is installed, else the compiler that `cargo xtask wasm`
/// has unpacked. `Err`: why neither is there.
fn wasm_environment() -> Result<Vec<(String, String)>, &'static str> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let libdir =
        output("rustc", &["--print", "target-libdir", "--target", TARGET]).ok_or("there is no rustc")?;
    if Path::new(&libdir).is_dir() {
        return Ok(Vec::new());
    }
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = path("UVS_CACHE")
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("uvs")))
        .or_else(|| Some(path("HOME")?.join(".cache/uvs")))
        .ok_or("no target wasm32-unknown-unknown, and no cache")?;
    let unpacked = std::fs::read_dir(cache.join("wasm-toolchain"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("rustc"))
        .find(|rustc| rustc.is_file())
        .ok_or("no target wasm32-unknown-unknown, and `cargo xtask wasm` has not unpacked a compiler")?;
    let sysroot = output("rustc", &["--print", "sysroot"]).ok_or("there is no rustc")?;
    let host = output("rustc", &["--print", "host-tuple"]).ok_or("there is no rustc")?;
    let linker = format!("{sysroot}/lib/rustlib/{host}/bin/rust-lld");
    Ok([
        ("RUSTC", unpacked.display().to_string()),
        ("RUSTC_BOOTSTRAP", "1".into()),
        ("CARGO_UNSTABLE_BUILD_STD", "core,alloc,panic_abort".into()),
        ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into())
}

/// Makes the project, builds it, and puts it to every test; the folder of the project. `target` becomes its folder of
/// that name.
fn make(language: &str, folder: &Path, environment: &[(String, String)], target: Option<&Path>) -> PathBuf {
    let made = sched_in(folder, &["new", "--lang", language, "my-policy"]);
    assert_eq!(made.status, 0, "{made:?}");
    let project = folder.join("my-policy");
    assert!(project.join("wit/scheduler.wit").is_file() && project.join(".gitignore").is_file());
    if let Some(target) = target {
        std::os::unix::fs::symlink(target, project.join("target")).unwrap();
    }
    shell(folder, &build_command(&made.out), environment).unwrap();

    let told = sched_in(&project, &["test", "my-policy.wasm"]);
    assert_eq!(told.status, 0, "{language}:\n{}", told.out);
    assert!(!told.out.contains("NOTE"), "{language}:\n{}", told.out);
    // It balances where no client comes twice, and keeps to 30 s where they do.
    let run = ["simulate", "my-policy.wasm", "rr", "--weights", "1,2", "--clients", "1000000", "--json"];
    let report = sched_in(&project, &run).json();
    let imbalance = |n: usize| report["policies"][n]["imbalance_mean"].as_f64().unwrap();
    assert!(imbalance(0) < imbalance(1) / 2.0, "{language}: {} and {}", imbalance(0), imbalance(1));
    let few = ["simulate", "my-policy.wasm", "--clients", "20", "--json"];
    assert_eq!(sched_in(&project, &few).json()["policies"][0]["calm_moves"], 0.0, "{language}: they stick");
    project
}

/// Says why a test is skipped. In CI, where nothing may be missing, it fails.
fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci.is_empty() || ci == "false"),
        "missing in CI: {reason}"
    );
    println!("skipped: {reason}");
}

#[test]
fn rust() {
    let environment = match wasm_environment() {
        Ok(environment) => environment,
        Err(reason) => return skip(reason),
    };
    let folder = tempfile::tempdir().unwrap();
    // The standard library takes its time: what was built before serves again.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-rust");
    std::fs::create_dir_all(&target).unwrap();
    let project = make("rust", folder.path(), &environment, Some(&target));
    shell(&project, "cargo test --quiet", &[]).unwrap();
}

#[test]
fn c() {
    let targets = output("clang", &["-print-targets"]).unwrap_or_default();
    let libc = Path::new("/usr/lib/wasm32-wasi/libc.a").is_file();
    if !targets.contains("wasm32") || output("wasm-ld", &["--version"]).is_none() || !libc {
        return skip("clang for wasm32, wasm-ld and wasi-libc are not all there");
    }
    let folder = tempfile::tempdir().unwrap();
    let project = make("c", folder.path(), &[], None);

    // One that forgets at a reload is found out.
    let policy = project.join("src/policy.c");
    let source = std::fs::read_to_string(&policy).unwrap();
    let forgetful =
        source.replace("return uvs_affinity_restore(clients, state, len)", "return state == 0 && len");
    assert_ne!(source, forgetful);
    std::fs::write(&policy, forgetful).unwrap();
    let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
    let build = readme.lines().find(|line| line.starts_with("clang ")).unwrap();
    shell(&project, build, &[]).unwrap();
    let told = sched_in(&project, &["test", "my-policy.wasm", "--only", "save-restore"]);
    assert!(told.status == 1 && told.out.contains("restore said it could not use the state"), "{told:?}");

    // One that hears of answers goes where they come soonest, once it has heard of twenty.
    std::fs::write(&policy, QUICKEST).unwrap();
    shell(&project, build, &[]).unwrap();
    let told = sched_in(&project, &["inspect", "my-policy.wasm"]);
    assert!(told.status == 0 && told.out.contains("(optional: it hears"), "{told:?}");
    let told = sched_in(&project, &["test", "my-policy.wasm", "--only", "picks"]);
    assert_eq!(told.status, 0, "{told:?}");
    let run = ["simulate", "my-policy.wasm", "--destinations", "3", "--answers", "9ms,1ms,9ms", "--json"];
    let report = sched_in(&project, &run).json();
    let share = report["policies"][0]["destinations"][1]["share"].as_f64().unwrap();
    assert!(share > 0.98, "{share}");
}

const QUICKEST: &str = r#"
#include "uvs_scheduler.h"

static uint64_t sum[65536];
static uint32_t heard, best;

const char *uvs_init(const char *service, const char *options) {
    (void)service;
    return options[0] == 0 ? NULL : "it takes no options";
}

void uvs_update(const uvs_table *table) {
    for (uint32_t i = 0; i < table->len; i++) {
        sum[i] = 0;
    }
    heard = 0;
    best = 0;
}

void uvs_observe(const uvs_event *event, const uvs_table *table) {
    if (heard == 20) {
        return;
    }
    heard++;
    sum[event->position] += event->response == UVS_ANSWERED ? event->micros : 1000000;
    for (uint32_t i = 0; i < table->len; i++) {
        if (sum[i] > 0 && sum[i] < sum[best]) {
            best = i;
        }
    }
}

UVS_EXPORT_OBSERVE

static uint32_t all(const uvs_destination *destination) { return destination->active + destination->inactive; }

uint32_t uvs_schedule(const uvs_flow *flow, const uvs_table *table) {
    (void)flow;
    if (heard == 20 && best < table->len && uvs_eligible(&table->list[best])) {
        return best;
    }
    return uvs_least(table, all);
}
"#;

#[test]
fn new_touches_nothing_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    let told = sched_in(folder.path(), &["new", "mine"]);
    assert!(told.status == 1 && told.err.contains("is there already"), "{told:?}");
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["mine"], "nothing half made stays");
    for bad in ["../x", "A", "std"] {
        assert_eq!(sched_in(folder.path(), &["new", bad]).status, 2, "{bad}");
    }
    assert_eq!(sched_in(folder.path(), &["new", "--lang", "cobol", "x"]).status, 2);
}
