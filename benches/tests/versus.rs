//! `uvs-bench versus` from end to end. What it measures is nobody's business here: figures are not asserted.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use uvs_lab::privilege;

/// How long whatever should happen soon may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Whether what a network needs is there. Where it must be, a lack of it fails the test.
fn may_run() -> bool {
    let missing = if privilege::has_capabilities().unwrap() {
        privilege::check_tun().err().map(|error| error.to_string())
    } else {
        Some("root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW)".to_owned())
    };
    if let Some(missing) = &missing {
        assert!(
            std::env::var_os("UVS_REQUIRE_ROOT_TESTS").is_none(),
            "UVS_REQUIRE_ROOT_TESTS is set; missing: {missing}"
        );
        println!("skipped: needs {missing}");
    }
    missing.is_none()
}

/// A copy of uvs, by which its processes are known, and files beside it.
struct Stage {
    folder: TempDir,
    uvs: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let uvs = folder.path().join("uvs");
        fs::copy(uvs_lab::build_uvs(env!("CARGO")).unwrap(), &uvs).unwrap();
        Self { folder, uvs }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn versus(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uvs-bench"));
        command.arg("versus").args(arguments).env("UVS_BIN", &self.uvs);
        command.arg("--svg").arg(self.file("plot.svg"));
        command
    }

    /// Waits until no process of it is left, and no network namespace that was not there before.
    fn is_left_clean(&self, before: &BTreeSet<String>) {
        let deadline = Instant::now() + SOON;
        loop {
            let processes = processes_of(&self.uvs);
            let namespaces: Vec<_> = namespaces().difference(before).cloned().collect();
            if processes == 0 && namespaces.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left: {processes} processes, namespaces {namespaces:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn processes_of(program: &Path) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|it| it == program)).count()
}

/// Network namespaces of processes that `uvs-bench` and `uvs` of this test may have made: those that some thread of
/// theirs is in.
fn namespaces() -> BTreeSet<String> {
    let bench = Path::new(env!("CARGO_BIN_EXE_uvs-bench"));
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|process| {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            name.trim_end() == "haproxy"
                || fs::read_link(process.join("exe")).is_ok_and(|it| it == bench || it.ends_with("uvs"))
        })
        .flat_map(|process| fs::read_dir(process.join("task")).into_iter().flatten().flatten())
        .filter_map(|thread| fs::read_link(thread.path().join("ns/net")).ok())
        .map(|namespace| namespace.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_quick_run_says_what_it_should_and_leaves_nothing() {
    if !may_run() {
        return;
    }
    let stage = Stage::new();
    let before = namespaces();
    let (json, metrics) = (stage.file("result.json"), "tcp1,udp1,cps,lat1_p50,lat16_p99");
    let output = stage
        .versus(&["--quick", "--rounds", "1", "--seconds", "0.2", "--attach", "bridge", "--metrics", metrics])
        .args(["--peers", "nft,haproxy,route", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    stage.is_left_clean(&before);
    assert!(
        said.contains(
            "data arrives unharmed with nft, haproxy, route, nat tap bridge, nat tun, dr tap bridge, tun tap bridge, \
             tun tun"
        ),
        "{said}"
    );

    let document: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let rows = document["rows"].as_array().unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}")).to_owned();
    let got: BTreeSet<_> =
        rows.iter().map(|row| ["method", "device", "attach", "metric"].map(|key| text(row, key))).collect();
    let mut want = BTreeSet::new();
    for (method, device) in [("nat", "tap"), ("nat", "tun"), ("dr", "tap"), ("tun", "tap"), ("tun", "tun")] {
        for metric in metrics.split(',') {
            want.insert([method, device, "bridge", metric].map(str::to_owned));
        }
    }
    assert_eq!(got, want);
    for row in rows {
        let peers = row["peers"].as_object().unwrap();
        let of_udp = text(row, "metric") == "udp1";
        let names: Vec<_> = peers.keys().map(String::as_str).collect();
        assert_eq!(names, if of_udp { vec!["nft", "route"] } else { vec!["haproxy", "nft", "route"] }, "{row}");
        let uvs = row["uvs"].as_f64().unwrap();
        assert!(uvs > 0.0, "{row}");
        for (peer, value) in peers {
            let (value, ratio) = (value.as_f64().unwrap(), row["ratio"][peer].as_f64().unwrap());
            assert!(value > 0.0 && (ratio - uvs / value).abs() < 1e-9 * ratio, "{peer} in {row}");
        }
        assert!(!text(row, "unit").is_empty(), "{row}");
    }

    let table = String::from_utf8_lossy(&output.stdout);
    for line in ["peers ", "nat tap bridge ", "dr tap bridge ", "tun tun ", "cps, connections/s "] {
        assert!(table.contains(&format!("\n{line}")), "{line:?} is not in\n{table}");
    }
    assert!(fs::read_to_string(stage.file("plot.svg")).unwrap().ends_with("</svg>\n"));
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    if !may_run() {
        return;
    }
    let stage = Stage::new();
    let before = namespaces();
    let mut bench = stage
        .versus(&["--no-peers", "--methods", "nat", "--attach", "bridge", "--metrics", "tcp1", "--seconds", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = bench.stderr.take().unwrap();
    let mut said = String::new();
    let mut part = [0; 1024];
    while !said.contains("data arrives unharmed") {
        let length = stderr.read(&mut part).unwrap();
        assert!(length > 0, "it ended: {said}");
        said.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    assert!(processes_of(&stage.uvs) > 0, "uvs runs");
    kill(Pid::from_raw(i32::try_from(bench.id()).unwrap()), Signal::SIGINT).unwrap();
    assert!(!bench.wait().unwrap().success());
    stage.is_left_clean(&before);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_made() {
    let cases: &[(&[&str], &str)] = &[
        (&["--metrics", "tcp2"], "tcp2"),
        (&["--peers", "ipvs"], "ipvs"),
        (&["--rounds", "0"], "0"),
        (&["--seconds", "0.01"], "use 0.1 to 600"),
        (&["--seconds", "soon"], "no number of seconds"),
        (&["--no-peers", "--peers", "nft"], "cannot be used with"),
        (&["--no-peers", "--methods", "dr", "--devices", "tun"], "a tun device carries nat and tun"),
    ];
    for (arguments, want) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uvs-bench"));
        let output = command.arg("versus").args(*arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(want), "{arguments:?}: {said}");
    }
}

#[test]
fn a_peer_that_is_not_installed_is_named_with_its_package() {
    if !may_run() {
        return;
    }
    if ["/usr/sbin/haproxy", "/sbin/haproxy"].iter().any(|file| Path::new(file).is_file()) {
        // Found wherever the path leads; the unit test of the search has the other half.
        println!("skipped: needs a system without haproxy");
        return;
    }
    let stage = Stage::new();
    let output = stage.versus(&["--peers", "haproxy"]).env("PATH", "/nowhere").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("apt-get install haproxy"), "{said}");
}
