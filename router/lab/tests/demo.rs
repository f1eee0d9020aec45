//! `uvs demo` as a user starts it: as root, without root, kept, and killed.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use common::{build_uvs, require, root};

fn demo(arguments: &[&str]) -> Output {
    Command::new(build_uvs()).arg("demo").args(arguments).output().unwrap()
}

fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// Every method was shown, each request answered, and rr gave equal shares.
fn assert_all_right(output: &Output) {
    let document = document(output);
    assert!(output.status.success(), "{}: {document:#}", output.status);
    assert_eq!(document["ok"], true);
    let methods: Vec<_> = document["methods"].as_array().unwrap().iter().map(|m| &m["method"]).collect();
    assert_eq!(methods, ["nat", "dr", "tun"]);
    for method in document["methods"].as_array().unwrap() {
        let counts =
            serde_json::json!({"requests": 12, "answered": 12, "by": {"rs1": 4, "rs2": 4, "rs3": 4}});
        assert_eq!((&method["tcp"], &method["udp"], &method["ok"]), (&counts, &counts, &Value::Bool(true)));
    }
}

/// Processes that run a program in `folder`.
fn processes_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|process| fs::read_link(process.join("exe")).is_ok_and(|program| program.starts_with(folder)))
        .map(|process| fs::read_to_string(process.join("cmdline")).unwrap_or_default().replace('\0', " "))
        .collect()
}

/// A copy of the binary in `folder`, by which its processes are found, for everybody to run.
fn own_copy(folder: &Path) -> PathBuf {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("uvs");
    fs::copy(build_uvs(), &copy).unwrap();
    copy
}

/// Waits until what is true of them holds for the processes of `folder`.
fn wait_for_processes(folder: &Path, what: impl Fn(&[String]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what(&processes_of(folder)) {
        assert!(Instant::now() < deadline, "there are {:?}", processes_of(folder));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_method_answers_every_request() {
    if !root() {
        return;
    }
    assert_all_right(&demo(&["--json"]));
}

#[test]
fn the_report_shows_the_way_of_a_packet() {
    if !root() {
        return;
    }
    let output = demo(&["--requests", "3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for want in [
        // NAT, both ways
        "director rewrites the destination: 10.0.0.100:80 becomes 192.168.10.1",
        "02:00:00:01:00:02 > 02:00:00:01:00:01  10.0.0.2:",
        "director rewrites the source: 192.168.10.1",
        // DR
        "director changes the MAC addresses and no IP address",
        // TUN
        "director puts it inside a packet of its own, 10.0.0.1 > 10.",
        "router routes it on: outer ttl",
        "takes it out of the packet around it",
        "The answer did not pass the director",
        "pro expire state       source             virtual            destination",
    ] {
        assert!(text.contains(want), "{want:?} is not in\n{text}");
    }
    assert!(text.ends_with("\nuvs demo: nat ok, dr ok, tun ok\n"), "{text}");
    assert!(!text.contains('\x1b'), "no colours into a pipe");
    assert!(output.status.success());
}

#[test]
fn what_cannot_be_shown_is_an_error_that_says_why() {
    if !root() {
        return;
    }
    let output = demo(&["--json", "--method", "nat", "--scheduler", "no-such"]);
    let document = document(&output);
    assert_eq!((output.status.code(), &document["ok"]), (Some(1), &Value::Bool(false)));
    let problem = document["methods"][0]["problems"][0].as_str().unwrap();
    assert!(problem.contains("unknown scheduler \"no-such\""), "{problem}");
    assert_eq!(demo(&["--method", "fullnat"]).status.code(), Some(2), "wrong usage");
    let output = demo(&["--scheduler", "./no-such.wasm"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no such file"));
}

#[test]
fn a_kept_lab_can_be_entered_and_taken_down() {
    if !root() {
        return;
    }
    let output = demo(&["--json", "--method", "dr", "--requests", "1", "--keep"]);
    let document = document(&output);
    assert!(output.status.success(), "{document:#}");
    let hosts = document["kept"]["hosts"].as_array().unwrap();
    let client = hosts.iter().find(|host| host["host"] == "client").unwrap();
    let enter = format!("{} cat /proc/net/fib_trie", client["enter"].as_str().unwrap());
    let entered = Command::new("sh").args(["-c", &enter]).output().unwrap();
    assert!(String::from_utf8_lossy(&entered.stdout).contains("10.0.0.2"), "{enter}: {entered:?}");
    let down = document["kept"]["down"].as_str().unwrap();
    assert!(Command::new("sh").args(["-c", down]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(2);
    while Command::new("sh").args(["-c", &enter]).output().unwrap().status.success() {
        assert!(Instant::now() < deadline, "{down} has not taken it down");
    }
}

#[test]
fn nothing_is_left_by_a_demo_that_is_killed() {
    if !root() {
        return;
    }
    let cases: [(Signal, &[&str]); 3] =
        [(Signal::SIGTERM, &[]), (Signal::SIGKILL, &[]), (Signal::SIGKILL, &["--keep"])];
    for (signal, arguments) in cases {
        let folder = tempfile::tempdir().unwrap();
        let uvs = own_copy(folder.path());
        let mut child = Command::new(&uvs)
            .args(["demo", "--method", "tun", "--requests", "500"])
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The director comes last; there are `uvs realserver`s as well by then.
        wait_for_processes(folder.path(), |lines| lines.iter().any(|line| line.contains("run --config")));
        assert!(processes_of(folder.path()).len() >= 5, "{:?}", processes_of(folder.path()));
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap();
        wait_for_processes(folder.path(), <[String]>::is_empty);
    }
}

/// Runs the demo as nobody, with a /dev/net/tun of that mode. `None`: this system does not let us set that up.
fn demo_as_nobody(mode: &str) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let uvs = own_copy(folder.path());
    let node = folder.path().join("tun");
    let script = r#"mknod "$1" c 10 200 && chmod "$2" "$1" && mount --bind "$1" /dev/net/tun || exit 77
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$3" demo --json"#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .args([node.as_os_str(), mode.as_ref(), uvs.as_os_str()])
        .current_dir("/")
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        require(&format!("a tun node of our own: {}", String::from_utf8_lossy(&output.stderr).trim()));
        return None;
    }
    Some(output)
}

#[test]
fn it_works_without_root() {
    if !root() {
        return;
    }
    let Some(output) = demo_as_nobody("0666") else { return };
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("user namespace") {
        // A system's choice, and no matter of being root: then it has to say what to do.
        assert!(errors.contains("fix: "), "{errors}");
        eprintln!("skipped: {errors}");
        return;
    }
    assert_all_right(&output);
}

#[test]
fn without_root_and_tun_it_says_what_to_do() {
    if !root() {
        return;
    }
    let Some(output) = demo_as_nobody("0600") else { return };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("sudo chmod 0666 /dev/net/tun") || errors.contains("user namespace"), "{errors}");
}
