//! `uvs-bench versus` from end to end. What it measures is nobody's business here: figures are not asserted.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::ffi::OsString;
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

/// Copies of the programs, by which their processes are known, and files beside them.
struct Stage {
    folder: TempDir,
    /// Links and mounts of this very namespace.
    before: (BTreeSet<String>, BTreeSet<String>),
}

impl Stage {
    fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap(), before: (links(), mounts()) };
        fs::copy(uvs_lab::build_uvs(env!("CARGO")).unwrap(), stage.file("uvs")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_uvs-bench"), stage.file("uvs-bench")).unwrap();
        for folder in ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"] {
            if Path::new(folder).join("haproxy").is_file() {
                fs::copy(Path::new(folder).join("haproxy"), stage.file("haproxy")).unwrap();
            }
        }
        stage
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn versus(&self, arguments: &[&str]) -> Command {
        let mut path = OsString::from(self.folder.path());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(self.file("uvs-bench"));
        command.arg("versus").args(arguments).env("UVS_BIN", self.file("uvs")).env("PATH", path);
        command.arg("--svg").arg(self.file("plot.svg"));
        command
    }

    /// Names of the processes that run a program of this stage.
    fn processes(&self) -> Vec<String> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let programs = processes.filter_map(|process| fs::read_link(process.path().join("exe")).ok());
        let ours = programs.filter(|program| program.starts_with(self.folder.path()));
        ours.map(|program| program.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    /// Waits until nothing is left: no process, without which there is no namespace either, unless it is mounted
    /// somewhere; and no link out here.
    fn is_left_clean(&self) {
        let deadline = Instant::now() + SOON;
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "left: {:?}", self.processes());
            thread::sleep(Duration::from_millis(20));
        }
        let (links_before, mounts_before) = &self.before;
        assert_eq!(links().difference(links_before).collect::<Vec<_>>(), [""; 0], "links");
        assert_eq!(mounts().difference(mounts_before).collect::<Vec<_>>(), [""; 0], "mounts");
    }
}

fn links() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    text.lines().filter(|line| line.contains("nsfs") || line.contains("/netns")).map(str::to_owned).collect()
}

#[test]
fn a_quick_run_says_what_it_should_and_leaves_nothing() {
    if !may_run() {
        return;
    }
    let stage = Stage::new();
    let (json, metrics) = (stage.file("result.json"), "tcp1,udp1,cps,lat1_p50,lat16_p99");
    let output = stage
        .versus(&["--quick", "--rounds", "1", "--seconds", "0.2", "--attach", "bridge", "--metrics", metrics])
        .args(["--peers", "nft,haproxy,route", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    stage.is_left_clean();
    assert!(
        said.contains(
            "data arrives unharmed with nft, haproxy, route, nat tap bridge, nat tun, dr tap bridge, tun tap bridge, \
             tun tun"
        ),
        "{said}"
    );

    let document: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let rows = document["rows"].as_array().unwrap();
    let text =
        |row: &Value, key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}")).to_owned();
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
        assert_eq!(
            names,
            if of_udp { vec!["nft", "route"] } else { vec!["haproxy", "nft", "route"] },
            "{row}"
        );
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
    let mut bench = stage
        .versus(&[
            "--peers",
            "nft,haproxy",
            "--methods",
            "tun",
            "--attach",
            "bridge",
            "--metrics",
            "tcp1",
            "--seconds",
            "60",
        ])
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
    let processes = stage.processes();
    for program in ["uvs", "haproxy"] {
        assert!(processes.iter().any(|it| it == program), "{program} runs: {processes:?}");
    }
    kill(Pid::from_raw(i32::try_from(bench.id()).unwrap()), Signal::SIGINT).unwrap();
    assert!(!bench.wait().unwrap().success());
    stage.is_left_clean();
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
fn a_short_soak_loses_nothing_and_leaves_nothing() {
    if !may_run() {
        return;
    }
    let stage = Stage::new();
    for arguments in [&["--method", "nat"][..], &["--method", "tun", "--device", "tun"]] {
        let mut command = Command::new(stage.file("uvs-bench"));
        command.args(["soak", "--seconds", "2"]).args(arguments).env("UVS_BIN", stage.file("uvs"));
        let output = command.output().unwrap();
        let (said, failed) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}{failed}");
        for words in ["streams, each compared", "datagrams answered", "none failed", "nothing was lost"] {
            assert!(said.contains(words), "{arguments:?}: {words:?} is not in\n{said}");
        }
        stage.is_left_clean();
    }
}

#[test]
fn a_quick_run_of_checks_says_what_it_should_and_leaves_nothing() {
    if !may_run() {
        return;
    }
    let stage = Stage::new();
    let json = stage.file("checks.json");
    let mut command = Command::new(stage.file("uvs-bench"));
    command.args(["checks", "--quick", "--json"]).arg(&json).env("UVS_BIN", stage.file("uvs"));
    let output = command.output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{failed}");
    stage.is_left_clean();
    for words in
        ["200 destinations", "CPU of the director", "lateness of probes", "deaths noticed after", "reload: "]
    {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    let document: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(document["deaths_ms"].as_array().unwrap().len(), 3, "{document}");
    assert_eq!(document["exchanges"].as_array().unwrap().len(), 3, "{document}");
    assert_eq!(document["failures"].as_array().unwrap().len(), 0, "{document}");
    for key in ["probes_per_second", "reloads_ms"] {
        assert!(document[key][0].as_f64().unwrap() > 0.0, "{key} in {document}");
    }
}
