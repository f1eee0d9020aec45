//! `uvs adm` on a running director, as somebody uses it who knows ipvsadm.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use uvs_lab::topology::{Method, Plan, Topology};

use crate::peer::{Talk, ask_datagram};
use crate::removal::{ENOUGH, Load};
use crate::stage::{Running, Stage, eventually, topology, turn, uvs};

/// Nothing heard for this long is silence.
const SILENCE: Duration = Duration::from_millis(700);

/// What a command printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
    }
}

/// Runs it to its end, with that on its standard input.
pub(crate) fn say(mut command: Command, input: &str) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("NO_COLOR", "1");
    let mut child = command.spawn().unwrap();
    // One that does not read has ended, which is seen below.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

impl Running {
    /// `uvs adm LINE <INPUT` of this director.
    pub(crate) fn adm_with(&self, line: &str, input: &str) -> Said {
        let mut command = Command::new(uvs());
        command.arg("adm").arg("--socket").arg(self.get().socket()).args(line.split_whitespace());
        say(command, input)
    }

    /// `uvs adm LINE`, which has to work.
    pub(crate) fn adm(&self, line: &str) -> String {
        let said = self.adm_with(line, "");
        assert_eq!((said.err.as_str(), said.code), ("", Some(0)), "uvs adm {line}");
        said.out
    }
}

/// The config without services: what is left for somebody who makes them by hand.
fn without_services(topology: &Topology) -> String {
    let (network, _) = topology.config.split_once("\n[[service]]").expect("there are services");
    network.to_owned()
}

fn bare_stage(method: Method) -> Stage {
    let topology = topology(method, &Plan::default());
    let config = without_services(&topology);
    Stage::on(topology, &config)
}

const fn letter(method: Method) -> &'static str {
    match method {
        Method::Nat => "-m",
        Method::Direct => "-g",
        Method::Tunnel => "-i",
    }
}

/// The lines that make the service with its three real servers, as `-R` reads them and `-S -n` prints them.
fn rules(stage: &Stage, protocol: &str) -> String {
    let service = stage.topology.service;
    let mut text = format!("-A {protocol} {service} -s rr\n");
    for server in &stage.topology.real_servers {
        let (address, port) = (server.address, server.listen.port());
        let method = letter(stage.topology.method);
        let tunnel = if method == "-i" { " --tun-type ipip" } else { "" };
        text.push_str(&format!("-a {protocol} {service} -r {address}:{port} {method} -w 1{tunnel}\n"));
    }
    text
}

/// Whether somebody answers there within a moment.
fn answers(stage: &Stage, to: SocketAddr) -> bool {
    stage.client().run(|| TcpStream::connect_timeout(&to, SILENCE).is_ok()).unwrap()
}

/// The same lines in any order, for listings have one of their own.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn services_that_are_made_by_hand_alone_serve() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let mut stage = bare_stage(method);
        let (service, tcp, udp) = (stage.topology.service, rules(&stage, "-t"), rules(&stage, "-u"));
        let servers: Vec<_> = stage.topology.real_servers.iter().map(|server| server.address).collect();
        let port = stage.topology.real_servers[0].listen.port();
        let director = stage.director();
        let head = "IP Virtual Server version 1.2.1 (size=4096)\n\
             Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n";
        assert_eq!(director.adm("-L -n"), head, "{method}: nothing is there");
        for line in tcp.lines().chain(udp.lines()) {
            assert_eq!(director.adm(line), "", "{method}: {line}");
        }
        let word = match method {
            Method::Nat => "Masq   ",
            Method::Direct => "Route  ",
            Method::Tunnel => "Tunnel ",
        };
        let mut want = head.to_owned();
        for protocol in ["TCP", "UDP"] {
            want.push_str(&format!("{protocol}  {service} rr\n"));
            for server in &servers {
                let server = format!("{server}:{port}");
                want.push_str(&format!("  -> {server:<28} {word} 1      0          0         \n"));
            }
        }
        assert_eq!(sorted(&director.adm("-Ln")), sorted(&want), "{method}");
        assert_eq!(sorted(&director.adm("-S -n")), sorted(&(tcp + &udp)), "{method}");

        stage
            .client()
            .run(|| {
                for _ in 0..6 {
                    Talk::open(service).unwrap().say(b"by hand").unwrap();
                }
                (0..6).for_each(|_| {
                    ask_datagram(service, 100).unwrap();
                });
            })
            .unwrap();
        assert_eq!(stage.shares(), [2, 2, 2], "{method}");
        let director = stage.director();
        let stats = director.adm(&format!("-L -n --stats -t {service}"));
        assert!(
            stats.lines().any(|line| line.starts_with(&format!("TCP  {service}")) && line.contains(" 6 ")),
            "{method}: six connections are counted:\n{stats}"
        );
        let connections = director.adm("-Lnc");
        assert_eq!(connections.lines().filter(|line| line.starts_with("TCP")).count(), 6, "{connections}");

        // What ipvsadm would say.
        let again = director.adm_with(&format!("-A -t {service}"), "");
        assert_eq!((again.err.as_str(), again.code), ("Service already exists\n", Some(255)), "{method}");
        let unknown = director.adm_with(&format!("-E -t {service} -s nosuch"), "");
        assert_eq!(unknown.err, "Scheduler or persistence engine not found\n");
        let usage = director.adm_with("-A -t nonsense:80:80", "");
        assert_eq!(
            (usage.err.as_str(), usage.code),
            ("illegal virtual server address[:port] specified\n", Some(2))
        );
    }
}

#[test]
fn what_is_saved_is_restored() {
    let Some(_turn) = turn() else { return };
    let mut stage = bare_stage(Method::Nat);
    let service = stage.topology.service;
    let rules = format!(
        "{}-A -f 7 -s wlc -p 60 -M 255.255.255.0\n-A -u 10.0.0.101:53 -s wrr --ops\n\
         -a -u 10.0.0.101:53 -r 192.168.10.11:53 -m -w 5 -x 100 -y 10\n",
        rules(&stage, "-t")
    );
    let talk = |stage: &Stage| stage.client().run(|| Talk::open(service).map(|talk| talk.server)).unwrap();
    let director = stage.director();
    let restored = director.adm_with("-R", &rules);
    assert_eq!((restored.err.as_str(), restored.code), ("", Some(0)));
    let saved = director.adm("-S -n");
    talk(&stage).unwrap();

    let director = stage.director();
    director.adm("-C");
    assert_eq!(director.adm("-S -n"), "");
    assert!(!answers(&stage, service), "nobody has the VIP");

    let director = stage.director();
    assert_eq!(director.adm_with("-R", &saved).code, Some(0));
    assert_eq!(director.adm("-S -n"), saved, "there and back");
    talk(&stage).unwrap();
    // A line that is refused is told and does not end it; the last one's exit status counts, as in ipvsadm.
    let director = stage.director();
    let twice =
        director.adm_with("-R", &format!("# comment\n\n-A -t {service}\n-A -t 10.0.0.102:80 -s rr\n"));
    assert_eq!((twice.err.as_str(), twice.code), ("Service already exists\n", Some(0)));
    assert!(director.adm("-Ln").contains("TCP  10.0.0.102:80 rr"));
}

#[test]
fn changes_under_traffic_lose_nothing() {
    let Some(_turn) = turn() else { return };
    let mut stage = bare_stage(Method::Nat);
    let (service, rules) = (stage.topology.service, rules(&stage, "-t"));
    assert_eq!(stage.director().adm_with("-R", &rules).code, Some(0));
    let mut load = Load::start(stage.client(), service);
    load.go_on(ENOUGH);
    let server = format!("{}:8080", stage.topology.real_servers[1].address);
    for round in 0..10 {
        let director = stage.director();
        // As one takes a server out gently, and puts it back.
        director.adm(&format!("-e -t {service} -r {server} -m -w 0"));
        director.adm(&format!("-E -t {service} -s {}", ["wlc", "sh", "rr"][round % 3]));
        director.adm(&format!("-A -t 10.0.0.{}:80 -s rr", 110 + round));
        director.adm(&format!("-e -t {service} -r {server} -m -w 3"));
        director.adm(&format!("-D -t 10.0.0.{}:80", 110 + round));
        director.adm("-Z");
    }
    load.go_on(ENOUGH);
    let tries = load.end();
    let failed: Vec<_> = tries.iter().filter_map(|one| one.result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), tries.len());
}

#[test]
fn settings_take_effect_on_traffic_at_once() {
    let Some(_turn) = turn() else { return };
    let mut stage = bare_stage(Method::Nat);
    let service = stage.topology.service;
    let rules = rules(&stage, "-t").replacen("-s rr", "-s rr -p 600", 1);
    let director = stage.director();
    assert_eq!(director.adm_with("-R", &rules).code, Some(0));
    let defaults = director.adm("--sysctl");
    assert!(defaults.contains("net.ipv4.vs.conn_reuse_mode = 1\n"), "{defaults}");
    assert!(defaults.contains("net.ipv4.vs.expire_quiescent_template = 1\n"), "{defaults}");
    let who = |stage: &Stage| stage.client().run(|| Talk::open(service).unwrap().server).unwrap();

    // A client that sticks to a real server which is quiesced then leaves it, unless it is told otherwise.
    let first = who(&stage);
    let number = stage.topology.real_servers.iter().position(|server| server.host.name() == first).unwrap();
    let address = format!("{}:8080", stage.topology.real_servers[number].address);
    let kernel = stage.director().adm("--sysctl net.ipv4.vs.expire_quiescent_template=0");
    assert_eq!(kernel, "net.ipv4.vs.expire_quiescent_template = 0\n");
    stage.director().adm(&format!("-e -t {service} -r {address} -m -w 0"));
    assert_eq!(who(&stage), first, "as IPVS does by default");
    let set = stage.director().adm("--sysctl net.ipv4.vs.expire_quiescent_template=1");
    assert_eq!(set, "net.ipv4.vs.expire_quiescent_template = 1\n");
    assert_ne!(who(&stage), first, "with the setting it is placed anew");

    // One of them is wrong: none is changed.
    let director = stage.director();
    let wrong = director.adm_with("--sysctl expire_quiescent_template=0 sloppy_tcp=7", "");
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
    assert!(wrong.err.contains("sloppy_tcp: it takes 0 to 1"), "{}", wrong.err);
    assert_eq!(
        director.adm("--sysctl expire_quiescent_template sloppy_tcp"),
        "net.ipv4.vs.expire_quiescent_template = 1\nnet.ipv4.vs.sloppy_tcp = 0\n"
    );
    director.adm("--set 100 0 50");
    assert_eq!(director.adm("-L --timeout"), "Timeout (tcp tcpfin udp): 100 120 50\n");
    assert!(director.adm("--sysctl timeout_udp").ends_with("timeout_udp = 50\n"));
}

/// The file is the desired state: whatever was done by hand, a reload brings the director back to it.
#[test]
fn a_reload_reconciles_to_the_file() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let (service, config) = (stage.topology.service, stage.topology.config.clone());
    let director = stage.director();
    let (saved, settings) = (director.adm("-S -n"), director.adm("--sysctl"));
    let addresses = |director: &Running| director.metric("uvs_config_reloads_total", &[("result", "done")]);
    let reloads = addresses(director);

    director.adm(&format!("-D -t {service}"));
    director.adm("-A -t 10.0.0.120:80 -s wlc");
    director.adm("-a -t 10.0.0.120:80 -r 192.168.10.11:8080 -m");
    director.adm("--sysctl sloppy_tcp=1 drop_entry=2");
    director.adm("--set 10 20 30");
    let own = "10.0.0.120:80".parse().unwrap();
    stage.client().run(|| Talk::open(own).unwrap().say(b"by hand").unwrap()).unwrap();
    stage.director().reload(&config);
    let director = stage.director();
    assert_eq!(addresses(director), reloads + 1);
    assert_eq!(sorted(&director.adm("-S -n")), sorted(&saved));
    assert_eq!(director.adm("--sysctl"), settings);
    let talk = |stage: &Stage, to| stage.client().run(|| Talk::open(to).map(drop)).unwrap();
    talk(&stage, service).unwrap();
    assert!(!answers(&stage, own), "the VIP that was made by hand is nobody's");

    // A destination, the scheduler, and everything at once.
    let director = stage.director();
    director.adm(&format!("-d -t {service} -r {}:8080", "192.168.10.11"));
    director.adm(&format!("-E -t {service} -s sh"));
    stage.director().reload(&config);
    let director = stage.director();
    assert_eq!(sorted(&director.adm("-S -n")), sorted(&saved));
    director.adm("-C");
    stage.director().reload(&config);
    assert_eq!(sorted(&stage.director().adm("-S -n")), sorted(&saved));
    talk(&stage, service).unwrap();

    // Seen before it is done, by the commands for it.
    let director = stage.director();
    let socket = director.get().socket().to_owned();
    let uvs = |line: &str, input: &str| {
        let mut command = Command::new(uvs());
        command.args(line.split_whitespace()).env("UVS_SOCKET", &socket);
        say(command, input)
    };
    let nothing = uvs("plan", "");
    assert!(nothing.code == Some(0) && nothing.out.starts_with("Nothing to change"), "{nothing:?}");
    director.adm(&format!("-E -t {service} -s sh -p 60"));
    director.adm("-A -f 9 -s wlc -p");
    director.adm("-a -f 9 -r 192.168.10.11 -m -w 7");
    let exported = director.adm("--export");
    let same = uvs("plan -", &exported);
    assert_eq!(same.code, Some(0), "what was exported is what runs: {same:?}\n{exported}");
    assert_eq!(same.out, "Nothing to change: what runs is what standard input says.\n");
    let planned = uvs("plan --json", "");
    assert_eq!(planned.code, Some(1), "{planned:?}");
    let status = uvs("status", "").out;
    assert!(status.contains("2 by hand, which a reload undoes"), "{status}");
    let done = uvs("reload --json", "");
    assert_eq!((done.code, &done.out), (Some(0), &planned.out), "{done:?}");
    assert_eq!(sorted(&director.adm("-S -n")), sorted(&saved));
    let status = uvs("status", "").out;
    assert!(status.contains("UTC by uid 0 pid ") && status.contains(": 2 changes"), "{status}");
    let wrong = uvs("plan -", "no = TOML");
    assert!(wrong.code == Some(2) && wrong.err.contains("standard input:1:"), "{wrong:?}");
    let restart = uvs("plan -", &exported.replace("[timeouts]", "[limits]\nneighbors = 77\n\n[timeouts]"));
    assert!(restart.code == Some(2) && restart.err.contains("[limits] cannot change"), "{restart:?}");
    let nobody = uvs("plan --socket /nowhere.sock", "");
    assert_eq!((nobody.code, nobody.err.matches("No such file").count()), (Some(2), 1), "{nobody:?}");
}

#[test]
fn names_of_hosts_help_and_the_name_of_ipvsadm() {
    let Some(_turn) = turn() else { return };
    let mut stage = bare_stage(Method::Nat);
    let director = stage.director();
    let added = director.adm_with("-A -t localhost:http -s rr", "");
    assert_eq!(added.code, Some(0), "{added:?}");
    // Whoever typed it is told that nobody finds it by ARP.
    assert!(
        added.err.contains("VIP 127.0.0.1 lies in no subnet") && added.err.contains("\"127.0.0.1/32\""),
        "{added:?}"
    );
    director.adm_with("-R", "-a -t localhost:http -r localhost:81 -m\n");
    assert_eq!(
        director.adm("-S -n"),
        "-A -t 127.0.0.1:80 -s rr\n-a -t 127.0.0.1:80 -r 127.0.0.1:81 -m -w 1\n"
    );
    let nobody = director.adm_with("-A -t nobody.invalid:80", "");
    assert_eq!(nobody.err, "illegal virtual server address[:port] specified\n");

    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ipvsadm");
    std::os::unix::fs::symlink(uvs(), &link).unwrap();
    let ipvsadm = |line: &str, socket: &std::path::Path| {
        let mut command = Command::new(&link);
        command.args(line.split_whitespace()).env("UVS_SOCKET", socket);
        say(command, "")
    };
    let socket = director.get().socket();
    assert_eq!(ipvsadm("-S -n", socket).out, director.adm("-S -n"));
    assert_eq!(ipvsadm("-D -t localhost:80", socket).code, Some(0));
    assert_eq!(director.adm("-S -n"), "");
    let refused = director.adm_with("--start-daemon master --mcast-interface eth0", "");
    assert!(refused.err.contains("no master sync daemon") && refused.code != Some(0), "{refused:?}");

    // Help and version need no director; all else says what is missing.
    let nowhere = folder.path().join("nowhere.sock");
    let help = ipvsadm("--help", &nowhere);
    assert!(help.code == Some(0) && help.out.contains("ipvsadm -A|E"), "{help:?}");
    assert!(!help.out.contains("--sysctl"), "to the letter");
    assert_eq!(ipvsadm("-v", &nowhere).code, Some(0));
    let missing = ipvsadm("-L", &nowhere);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("no director answers at") && missing.err.contains("uvs run"), "{missing:?}");
    let mut command = Command::new(uvs());
    command.arg0("uvs").args(["adm", "-h"]);
    assert!(say(command, "").out.contains("--sysctl"), "of uvs, and said there");
}

#[test]
fn status_is_one_page() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let service = stage.topology.service;
    let talk = stage.client().run(|| Talk::open(service).unwrap()).unwrap();
    stage.director().adm(&format!("-e -t {service} -r 192.168.10.11:8080 -m -w 0"));
    let socket = stage.director().get().socket().to_owned();
    let status = |more: &[&str]| {
        let mut command = Command::new(uvs());
        command.arg("status").arg("--socket").arg(&socket).args(more);
        say(command, "")
    };
    let page = status(&[]).out;
    for part in ["up 00:00:", "connections  ", "c0 ", &format!("tcp {service}"), " 2/3 "] {
        assert!(page.contains(part), "{part:?} is in\n{page}");
    }
    let json: serde_json::Value = serde_json::from_str(&status(&["--json"]).out).unwrap();
    let tcp = json["services"].as_array().unwrap().iter().find(|one| one["name"] == format!("tcp {service}"));
    let tcp = tcp.unwrap();
    assert_eq!((&tcp["available"], &tcp["destinations"]), (&2.into(), &3.into()));
    assert_eq!(tcp["active"], 1, "{tcp}");
    assert_eq!(json["pid"], stage.director().get().id());
    assert!(json["interfaces"][0]["received"]["frames"].as_u64().unwrap() > 0);
    drop(talk);
    eventually("the connection is not active any more", || {
        let json: serde_json::Value = serde_json::from_str(&status(&["--json"]).out).unwrap();
        let active = json["services"].as_array().unwrap().iter().map(|one| one["active"].as_u64().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        (active.sum::<u64>() == 0).then_some(())
    });
}
