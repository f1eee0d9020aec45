//! `uvs demo` leaves the system as it found it, and needs no root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{eventually, skip, turn, uvs};

/// It takes some seconds; this is for a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a demo might leave in the system.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Links of this very namespace.
    links: BTreeSet<String>,
    /// Network namespaces that some thread is in.
    namespaces: BTreeSet<String>,
    /// Those with a name.
    named: BTreeSet<String>,
    /// Mounts of this very namespace.
    mounts: BTreeSet<String>,
}

impl Traces {
    fn look() -> Self {
        let names = |folder: &str| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let threads = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .flat_map(|process| fs::read_dir(process.path().join("task")).into_iter().flatten().flatten());
        let links = fs::read_to_string("/proc/net/dev").unwrap();
        Self {
            links: links.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect(),
            namespaces: threads
                .filter_map(|thread| fs::read_link(thread.path().join("ns/net")).ok())
                .map(|namespace| namespace.to_string_lossy().into_owned())
                .collect(),
            named: names("/run/netns"),
            mounts: fs::read_to_string("/proc/self/mounts").unwrap().lines().map(str::to_owned).collect(),
        }
    }
}

/// Command lines of the processes that run this very file.
fn processes_of(program: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    entries
        .filter(|process| fs::read_link(process.join("exe")).is_ok_and(|running| running == program))
        .map(|process| fs::read_to_string(process.join("cmdline")).unwrap_or_default().replace('\0', " "))
        .collect()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        panic!("{error}: {}\n{}", text(&output.stdout), text(&output.stderr))
    })
}

#[test]
fn the_demo_in_json_answers_everything_and_leaves_nothing() {
    let Some(_turn) = turn() else { return };
    // A copy, by which its processes are known.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("uvs");
    fs::copy(uvs(), &program).unwrap();
    let before = Traces::look();
    let began = Instant::now();
    let output = Command::new(&program).args(["demo", "--json"]).output().unwrap();
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    let document = document(&output);
    assert_eq!(output.status.code(), Some(0), "{document:#}\n{}", String::from_utf8_lossy(&output.stderr));
    let counts = json!({"requests": 12, "answered": 12, "by": {"rs1": 4, "rs2": 4, "rs3": 4}});
    let method = |name: &str| json!({"method": name, "ok": true, "tcp": counts, "udp": counts});
    assert_eq!(document, json!({"ok": true, "methods": [method("nat"), method("dr"), method("tun")]}));
    // The kernel takes a namespace away some time after its last process.
    eventually("no process of it is left", || processes_of(&program).is_empty().then_some(()));
    let left = Traces::look();
    let new = |left: &BTreeSet<String>, before: &BTreeSet<String>| {
        left.difference(before).cloned().collect::<Vec<_>>()
    };
    assert_eq!(new(&left.links, &before.links), [""; 0], "links");
    assert_eq!(new(&left.named, &before.named), [""; 0], "named namespaces");
    assert_eq!(new(&left.mounts, &before.mounts), [""; 0], "mounts");
    eventually("no namespace of it is left", || {
        let left = Traces::look().namespaces;
        new(&left, &before.namespaces).is_empty().then_some(())
    });
}

/// As nobody, in a user namespace. /dev/net/tun is mode 0600 on some systems, so the test brings a node of its own,
/// seen by nobody else: it is mounted over the system's in a private mount namespace.
#[test]
fn the_demo_needs_no_root() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("uvs");
    fs::copy(uvs(), &program).unwrap();
    let script = r#"mknod "$1" c 10 200 && chmod 0666 "$1" && mount --bind "$1" /dev/net/tun || exit 77
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$2" demo --method nat --json"#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .args([folder.path().join("tun").as_os_str(), program.as_os_str()])
        .current_dir("/")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        return skip(&format!("a kernel that lets root make and mount a tun node: {}", errors.trim()));
    }
    if errors.contains("user namespace") {
        assert!(errors.contains("fix: "), "{errors}");
        // The choice of some systems, which being root does not change. Where it is not theirs, it is a fault of ours.
        let chosen = [
            ("kernel/unprivileged_userns_clone", "0"),
            ("kernel/apparmor_restrict_unprivileged_userns", "1"),
            ("user/max_user_namespaces", "0"),
        ];
        let is_chosen = |(name, value): (&str, &str)| {
            fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|now| now.trim() == value)
        };
        assert!(chosen.into_iter().any(is_chosen), "this system lets users make user namespaces: {errors}");
        println!("skipped: needs user namespaces: {errors}");
        return;
    }
    let document = document(&output);
    assert_eq!(output.status.code(), Some(0), "{document:#}\n{errors}");
    let counts = json!({"requests": 12, "answered": 12, "by": {"rs1": 4, "rs2": 4, "rs3": 4}});
    assert_eq!(
        document,
        json!({"ok": true, "methods": [{"method": "nat", "ok": true, "tcp": counts, "udp": counts}]})
    );
    eventually("no process of it is left", || processes_of(&program).is_empty().then_some(()));
}
