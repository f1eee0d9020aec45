//! The control socket and those who should not disturb it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use uvs_lab::Process;
use uvs_lab::topology::{Method, Plan};

use crate::adm::{Said, say};
use crate::removal::{ENOUGH, Load};
use crate::stage::{SOON, Stage, eventually, topology, turn, uvs};

/// Neither root nor the director's user, and in none of its groups.
const STRANGER: u32 = 54_321;
/// The group that a director lets in.
const GROUP: u32 = 54_322;

#[test]
fn strangers_are_refused_and_the_group_is_let_in() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    let config = format!("[control]\ngroup = \"{GROUP}\"\n\n{}", topology.config);
    let mut stage = Stage::on(topology, &config);
    let socket = stage.director().get().socket().to_owned();
    let found = fs::metadata(&socket).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o660, 0, GROUP));

    // Where everybody may run it.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("uvs");
    fs::copy(uvs(), &copy).unwrap();
    let ask = |uid: u32, gid: u32, groups: &str| -> Said {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
        command.args(match groups {
            "" => vec!["--clear-groups"],
            groups => vec!["--groups", groups],
        });
        command.arg("--").arg(&copy).args(["adm", "--socket"]).arg(&socket).args(["-S", "-n"]);
        say(command, "")
    };
    let stranger = ask(STRANGER, STRANGER, "");
    assert_eq!(stranger.code, Some(1));
    assert!(stranger.err.contains("may not be used"), "by the file's mode: {stranger:?}");
    for (gid, groups) in [(GROUP, String::new()), (STRANGER, format!("{STRANGER},{GROUP}"))] {
        let member = ask(STRANGER, gid, &groups);
        assert_eq!(member.code, Some(0), "group {gid}, groups {groups:?}: {member:?}");
        assert!(member.out.starts_with("-A "), "{member:?}");
    }
    // A member of the group has no file opened that the configuration does not name, and does not hear whether it is
    // there.
    let member = |words: &[&str]| -> Said {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            &STRANGER.to_string(),
            "--regid",
            &GROUP.to_string(),
            "--clear-groups",
            "--",
        ]);
        command.arg(&copy).args(words).env("UVS_SOCKET", &socket);
        say(command, "")
    };
    let hidden = folder.path().join("hidden.wasm");
    fs::write(&hidden, "secret").unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).unwrap();
    let hidden = hidden.to_str().unwrap();
    for file in [hidden, "/nowhere/hidden.wasm"] {
        let said = member(&["adm", "-A", "-t", "192.0.2.99:80", "-s", file]);
        let want = format!("the director opens {file} for root only");
        assert!(said.code != Some(0) && said.err.contains(&want), "{said:?}");
        let said = member(&["sched", "load", "tcp/192.0.2.10:80", file]);
        assert!(said.code != Some(0) && said.err.contains(&format!("cannot read {file}")), "{said:?}");
    }
    // What it may read itself it can hand over.
    let own = folder.path().join("own.wasm");
    let shipped = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == "sh").unwrap().1;
    fs::write(&own, shipped).unwrap();
    let said = member(&["sched", "load", &format!("tcp/{}", stage.topology.service), own.to_str().unwrap()]);
    assert!(said.code == Some(0) && said.out.contains(own.to_str().unwrap()), "{said:?}");
    // Somebody has opened the file to all: the director looks for itself.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let stranger = ask(STRANGER, STRANGER, "");
    assert_eq!((stranger.code, stranger.out.as_str()), (Some(1), ""));
    assert!(stranger.err.contains("user 54321 may not control this director"), "{stranger:?}");
    assert_eq!(ask(STRANGER, GROUP, "").code, Some(0));
}

/// Sends bytes and returns what comes back until the director closes.
fn exchange(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON * 2)).unwrap();
    // It may close before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn garbage_giants_and_sleepers_disturb_nobody() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let director = stage.director().get();
    let (socket, pid) = (director.socket().to_owned(), director.id());
    let service = stage.topology.service;
    let mut load = Load::start(stage.client(), service);
    load.go_on(ENOUGH);
    stage.director().adm("-Ln");
    let quiet = open_files(pid);

    // More than are served at one time: they hold what they can, and lose it when their time is over.
    let began = Instant::now();
    let sleepers: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(b"{\"version\":1,\"requ").unwrap();
            stream
        })
        .collect::<Vec<_>>();
    let sleepers = thread::spawn(move || {
        sleepers
            .into_iter()
            .filter_map(|stream| {
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).ok().map(|_| line)
            })
            .collect::<Vec<_>>()
    });
    let listed = stage.director().adm("-Ln");
    assert!(listed.contains(&service.to_string()));
    assert!(began.elapsed() < Duration::from_secs(45), "each is cut short: {:?}", began.elapsed());
    for line in sleepers.join().unwrap() {
        assert!(line.contains("\"kind\":\"timeout\""), "{line}");
    }

    let cases: &[(&[u8], &str, &str)] = &[
        (b"hello\n", "\"malformed\"", "another language"),
        (b"\n", "\"malformed\"", "an empty line"),
        (b"\xff\xfe\x00\n", "\"malformed\"", "no text at all"),
        (b"{\"version\":9,\"request\":{}}\n", "\"version\"", "another version"),
        (b"{\"version\":1,\"request\":{\"shutdown\":{}}}\n", "unknown variant", "an unknown request"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", "\"malformed\"", "HTTP"),
        (b"no end", "", "half a line"),
        (b"", "", "nothing"),
    ];
    for (bytes, part, why) in cases {
        let answer = exchange(&socket, bytes);
        assert!(answer.contains(part) && part.is_empty() == answer.is_empty(), "{why}: {answer:?}");
    }
    let deep = [vec![b'['; 1 << 20], b"\n".to_vec()].concat();
    assert!(exchange(&socket, &deep).contains("\"malformed\""), "as deep as it is long");
    let giant = vec![b'x'; (24 << 20) + 1];
    assert!(exchange(&socket, &giant).contains("\"too_long\""));
    // A client that asks and asks and never reads: its answers fill its buffer, and there it stays.
    let mut deaf = UnixStream::connect(&socket).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let line = b"{\"version\":1,\"request\":{\"status\":{}}}\n";
    while deaf.write_all(line).is_ok() {}
    for _ in 0..500 {
        drop(UnixStream::connect(&socket).unwrap());
    }
    stage.director().adm(&format!("-e -t {service} -r 192.168.10.11:8080 -m -w 2"));
    drop(deaf);
    load.go_on(ENOUGH);
    let tries = load.end();
    assert!(tries.iter().all(|one| one.result.is_ok()), "no client of the service noticed");
    let files = eventually("all clients are gone", || {
        let files = open_files(pid);
        (files <= quiet + 4).then_some(files)
    });
    stage.director().adm("-Ln");
    assert!(open_files(pid) <= files + 1);
}

#[test]
fn a_second_director_is_refused_and_a_dead_ones_socket_replaced() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    let folder = tempfile::tempdir().unwrap();
    let (socket, file) = (folder.path().join("uvs.sock"), folder.path().join("uvs.toml"));
    fs::write(&file, format!("[control]\nsocket = \"{}\"\n\n{}", socket.display(), topology.config)).unwrap();
    let start = || -> Process {
        let mut command = Command::new(uvs());
        command.arg0("uvs").args(["run", "--config"]).arg(&file);
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        topology.director.exec(command).unwrap()
    };
    let list = || {
        let mut command = Command::new(uvs());
        command.args(["adm", "-S", "-n"]).env("UVS_SOCKET", &socket);
        say(command, "")
    };
    let mut first = start();
    first.wait_for_line("ready", SOON).unwrap();
    let rules = list();
    assert_eq!(rules.code, Some(0), "{rules:?}");
    let mut second = start();
    let status = second.wait(SOON).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(second.log().contains("another director runs: it answers at"), "{}", second.log());
    assert_eq!(list(), rules, "the first goes on");

    first.signal(Signal::SIGKILL).unwrap();
    first.wait(SOON).unwrap();
    assert!(socket.exists(), "it had no time to remove it");
    let gone = list();
    assert!(gone.code == Some(1) && gone.err.contains("no director answers at"), "{gone:?}");
    let mut third = start();
    third.wait_for_line("ready", SOON).unwrap();
    assert_eq!(list(), rules);
    third.signal(Signal::SIGTERM).unwrap();
    assert!(third.wait(SOON).unwrap().success());
    assert!(!socket.exists(), "and one that ends takes it along");
}

/// However many connections there are, neither side holds all of them, and who has seen enough leaves.
#[test]
fn a_long_list_of_connections_comes_in_parts() {
    const CONNECTIONS: usize = 33_000;
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::with(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    let vip = SocketAddr::new(stage.topology.service.ip(), 9000);
    let server = stage.topology.real_servers[0].listen;
    stage.director().adm(&format!("-A -u {vip} -s rr"));
    stage.director().adm(&format!("-a -u {vip} -r {server} -m"));
    let send = move || {
        for port in 2000..40_000 {
            if let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
                let _ = socket.send_to(b"x", vip);
            }
        }
    };
    let there = |stage: &mut Stage| {
        stage.client().run(send).unwrap();
        stage.director().metric("uvs_connection_entries", &[])
    };
    eventually("there are many connections", || (there(&mut stage) >= CONNECTIONS as u64).then_some(()));
    let mut stream = UnixStream::connect(stage.director().get().socket()).unwrap();
    stream
        .write_all(b"{\"version\":1,\"request\":{\"adm\":{\"arguments\":[\"-Lnc\"],\"stream\":true}}}\n")
        .unwrap();
    let lines: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
    let (last, parts) = lines.split_last().unwrap();
    assert!(!last.contains("\"more\"") && last.contains("\"code\":0"), "{last}");
    assert!(parts.iter().all(|it| it.ends_with("\"more\":true}}}") && it.len() < 100_000), "{}", parts[0]);
    let listed: usize = parts.iter().map(|part| part.matches("\\nUDP ").count()).sum();
    assert!(listed + parts.len() >= CONNECTIONS, "{listed} in {} parts", parts.len());

    let mut command = Command::new(uvs());
    command.args(["adm", "-Lnc", "--socket"]).arg(stage.director().get().socket());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut head = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut head).unwrap();
    assert_eq!(head, "IPVS connection entries\n");
    assert!(child.wait().unwrap().success(), "the reader has seen enough");
    assert!(stage.director().adm("-Lnc").lines().count() >= CONNECTIONS);
}
