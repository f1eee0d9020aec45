//! What is wrong in a lab, found by `uvs trace` and `uvs explain` as somebody at the keyboard would.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uvs_director::spec::MacAddr;
use uvs_lab::topology::{Method, Plan, mac};
use uvs_wire::ethernet::ETHERTYPE_IPV4;

use crate::attach::{without_bridge, without_cache};
use crate::broken::module;
use crate::packet::{frame, ipv4, udp};
use crate::peer::{Talk, stream_both_ways};
use crate::stage::{Running, Stage, eventually, topology, turn, uvs, with_keys, with_weight};
use crate::station::Station;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const CLIENT: &str = "10.0.0.2";
const STRANGER: MacAddr = MacAddr([2, 0, 0, 1, 0, 0x77]);

/// A trace that runs, and the file that it writes into.
struct Trace {
    child: Child,
    file: PathBuf,
}

impl Trace {
    /// Starts one; it sees packets from here on.
    fn start(running: &Running, words: &[&str]) -> Self {
        let file = running.file().with_file_name("trace.txt");
        let mut command = asks(running, &[&["trace"], words].concat());
        let mut child = command.stdout(File::create(&file).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
        // It says so once the director has heard of it.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("tracing") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "{words:?}: it ended");
        }
        Self { child, file }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    /// Waits until one packet was told of with all of these words.
    fn says(&self, words: &[&str]) -> String {
        eventually(&format!("the trace tells of a packet with {words:?}, in:\n{}", self.text()), || {
            let text = self.text();
            let found = packets(&text).into_iter().find(|packet| words.iter().all(|it| packet.contains(it)));
            found.map(str::to_owned)
        })
    }

    /// Ctrl-C ends it with status 0.
    fn end(mut self) -> String {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.text()
    }
}

/// What is told of each packet.
fn packets(text: &str) -> Vec<&str> {
    let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let is_head = |at: &usize| text[*at..].starts_with(|first: char| first.is_ascii_digit());
    let mut heads: Vec<usize> = std::iter::once(0).chain(starts).filter(is_head).collect();
    heads.push(text.len());
    heads.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

fn asks(running: &Running, words: &[&str]) -> Command {
    let mut command = Command::new(uvs());
    command.args(words).arg("--socket").arg(running.get().socket());
    command
}

/// What `uvs explain` prints, and its exit status.
fn explain(running: &Running, words: &[&str]) -> (String, Option<i32>) {
    let Output { stdout, stderr, status } = asks(running, &[&["explain"], words].concat()).output().unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (text, status.code())
}

/// Waits until `uvs explain` prints all of these words.
fn explains(running: &Running, what: &[&str], words: &[&str]) -> String {
    eventually(&format!("{what:?} is explained with {words:?}; now:\n{}", explain(running, what).0), || {
        Some(explain(running, what).0).filter(|text| words.iter().all(|word| text.contains(word)))
    })
}

/// A client's try that comes to nothing, in whatever way: what becomes of it is seen elsewhere.
fn try_to_connect(stage: &Stage, to: SocketAddr) {
    let tries = || drop(TcpStream::connect_timeout(&to, Duration::from_millis(1500)));
    stage.client().run(tries).unwrap();
}

#[test]
fn faults_of_nat_are_found_by_trace_and_explain() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 2, ..Plan::default() });
    for host in topology.switches.iter().chain([&topology.director]) {
        host.plain_bridges().unwrap();
    }
    // A trace of everything leaves the flow cache alone, and does not see what passes there.
    let config = without_cache(&topology.config);
    let mut stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    let station = Station::plug_in(&stage.topology.switches[0], STRANGER);
    let trace = Trace::start(stage.director(), &[]);
    let other_port = SocketAddr::from((VIP, 81));

    // Nothing is wrong: a packet each way.
    stage.client().run(|| Talk::open(service).unwrap().say(b"hello").unwrap()).unwrap();
    trace.says(&["begins a connection", "picked by rr", "forwarded by nat out of r0", "NONE > SYN_RECV"]);
    trace.says(&["answer on a connection to tcp 10.0.0.100:80", "SYN ACK", "forwarded out of c0"]);

    // No service on that port.
    try_to_connect(&stage, other_port);
    trace.says(&["DROPPED at find: no_connection", "on 10.0.0.100 there are: tcp 10.0.0.100:80", "RST"]);
    let (text, status) = explain(stage.director(), &["tcp/10.0.0.2:5/10.0.0.100:81"]);
    assert!(text.contains("would be refused") && text.contains("tcp 10.0.0.100:80"), "{text}");
    assert_eq!(status, Some(4), "{text}");

    // A checksum that is broken, a TTL that is over, a source of another link, a way past the services.
    let send = |ip: &[u8]| station.send(&frame(mac(1, 1), STRANGER, ETHERTYPE_IPV4, ip));
    let datagram = udp(4000, 80, b"hello");
    let stranger = Ipv4Addr::new(10, 0, 0, 77);
    let mut broken = ipv4(17, stranger, VIP, 64, &datagram);
    broken[10] ^= 0x55;
    send(&broken);
    trace.says(&["DROPPED at classify: bad_checksum", "10.0.0.77"]);
    send(&ipv4(17, stranger, Ipv4Addr::new(192, 168, 10, 11), 1, &datagram));
    trace.says(&["DROPPED at find: ttl_exceeded", "TTL ran out here"]);
    send(&ipv4(17, Ipv4Addr::new(192, 168, 10, 12), VIP, 64, &datagram));
    trace.says(&["DROPPED at classify: spoofed_source", "source_check"]);
    send(&ipv4(17, stranger, Ipv4Addr::new(192, 168, 10, 11), 64, &datagram));
    trace.says(&["DROPPED at find: transit", "10.0.0.77:4000 > 192.168.10.11:80"]);

    // All weights are 0.
    let quiet = with_weight(&with_weight(&config, "192.168.10.11", 0), "192.168.10.12", 0);
    stage.director().reload(&quiet);
    try_to_connect(&stage, service);
    trace.says(&["DROPPED at find: no_destination", "2 destinations, 2 with weight 0", "by file"]);
    let (text, status) = explain(stage.director(), &["10.0.0.2:9/10.0.0.100:80"]);
    assert!(text.contains("would be DROPPED: no_destination") && status == Some(4), "{text}");

    // All are down by their checks.
    let check = "\n[[check]]\nname = \"nobody\"\ntype = \"tcp\"\nport = 9\ninterval = \"300ms\"\n";
    let checked = config.replace("[[service]]\n", "[[service]]\nchecks = [\"nobody\"]\n") + check;
    stage.director().reload(&checked);
    explains(
        stage.director(),
        &["10.0.0.2:9/10.0.0.100:80"],
        &["would be DROPPED: no_destination", "by health"],
    );

    // The next hop does not answer.
    let elsewhere =
        config.replace("192.168.10.11", "192.168.10.98").replace("192.168.10.12", "192.168.10.99");
    stage.director().reload(&elsewhere);
    try_to_connect(&stage, service);
    trace.says(&["it waits until 192.168.10.9", "ARP: who has 192.168.10.9"]);
    trace.says(&["given up, having waited: unreachable", CLIENT]);
    explains(stage.director(), &[CLIENT], &["the next hop to the destination on r0, is not known"]);

    // Answers that go another way than they came.
    stage.director().reload(&config);
    for server in &stage.topology.real_servers {
        let host = &server.host;
        host.net().add_address("eth0", "10.0.0.200/8".parse().unwrap()).unwrap();
    }
    try_to_connect(&stage, service);
    explains(
        stage.director(),
        &[CLIENT],
        &["no packet from 192.168.10.1", "its default route has to lead to the director", "SYN_RECV"],
    );
    let text = trace.end();
    assert!(text.lines().count() > 30, "{text}");
}

#[test]
fn a_real_server_without_the_vip_is_found_by_explain() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::with(Method::Direct, &Plan { real_servers: 1, ..Plan::default() });
    let service = stage.topology.service;
    let server = &stage.topology.real_servers[0].host;
    server
        .exec(command(&["ip", "address", "del", "10.0.0.100/32", "dev", "lo"]))
        .unwrap()
        .wait(SOON)
        .unwrap();
    try_to_connect(&stage, service);
    let text = explains(
        stage.director(),
        &[CLIENT],
        &["does 10.0.0.11 hold the VIP 10.0.0.100", "pass the director by"],
    );
    assert!(text.contains("dr: as they are, to the MAC address of the destination; out of c0"), "{text}");
}

#[test]
fn a_tunnel_that_is_too_narrow_is_found_by_trace() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::with(Method::Tunnel, &Plan { real_servers: 1, ..Plan::default() });
    let service = stage.topology.service;
    let trace = Trace::start(stage.director(), &["--vip", "10.0.0.100:80"]);
    stage.client().run(|| stream_both_ways(service, 3, 1 << 20, || ()).unwrap()).unwrap();
    trace.says(&["DROPPED at route: fragmentation_needed", "too big: no more than 1480 bytes pass"]);
    trace.says(&["forwarded by tun", "tunnel 10.0.0.1 > 10.1.0.11 [tcp 10.0.0.2"]);
    trace.end();
}

#[test]
fn a_full_table_is_found_by_trace_explain_status_and_doctor() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan::default());
    topology.director.plain_bridges().unwrap();
    let config =
        format!("limits = {{ connections = 2, evict = \"none\" }}\n{}", without_cache(&topology.config));
    let mut stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    let _talks: Vec<Talk> =
        (0..2).map(|_| stage.client().run(|| Talk::open(service).unwrap()).unwrap()).collect();
    let trace = Trace::start(stage.director(), &["--client", CLIENT]);
    try_to_connect(&stage, service);
    trace.says(&["DROPPED at find: connection_limit", "the connection table is full"]);
    trace.end();
    let (text, status) = explain(stage.director(), &["tcp/10.0.0.2:5/10.0.0.100:80"]);
    assert!(
        text.contains("the connection table is full (2 of 2)") && text.contains("would be DROPPED"),
        "{text}"
    );
    assert_eq!(status, Some(4), "{text}");
    for words in [&["status"][..], &["doctor", "--json"]] {
        let text = String::from_utf8(asks(stage.director(), words).output().unwrap().stdout).unwrap();
        assert!(text.contains("packets of new ones were refused"), "{words:?}: {text}");
    }
}

/// A part of the table is kept for services with few connections: one that has many is at the end of its room before.
#[test]
fn a_service_that_has_all_it_may_have_is_told_by_status_and_doctor() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan::default());
    topology.director.plain_bridges().unwrap();
    let config = format!("limits = {{ connections = 40 }}\n{}", without_cache(&topology.config));
    let mut stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    stage
        .client()
        .run(|| {
            for _ in 0..60 {
                UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"and another", service).unwrap();
            }
        })
        .unwrap();
    for words in [&["status"][..], &["doctor", "--json"]] {
        eventually("it is told", || {
            let text = String::from_utf8(asks(stage.director(), words).output().unwrap().stdout).unwrap();
            let is_told = text.contains("of 40, 10 of which are kept for services with few");
            (is_told && text.contains("made room for new ones")).then_some(())
        });
    }
}

#[test]
fn a_module_that_traps_is_found_by_trace_and_explain() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.wasm");
    std::fs::write(&file, module("unreachable")).unwrap();
    let plan = Plan { scheduler: file.to_str().unwrap().to_owned(), ..Plan::default() };
    let mut stage = Stage::with(Method::Nat, &plan);
    let service = stage.topology.service;
    let trace = Trace::start(stage.director(), &["--client", "10.0.0.2"]);
    let talk = stage.client().run(|| Talk::open(service).unwrap()).unwrap();
    trace.says(&["begins a connection", "picked by the fallback, for the module of"]);
    trace.end();
    let (text, status) = explain(stage.director(), &[&talk.client.to_string()]);
    assert!(text.contains("the fallback picked the destination, for the module of"), "{text}");
    assert_eq!(status, Some(0), "{text}");
}

/// What passes in the kernel comes to the director while somebody wants to see it.
#[test]
fn a_trace_takes_its_connections_out_of_the_flow_cache() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan::default());
    let config = with_keys(&without_bridge(&topology.config), "accelerate=on");
    let mut stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    let mut talk = stage.client().run(|| Talk::open(service).unwrap()).unwrap();
    let client = talk.client.to_string();
    let host = stage.client().clone();
    let mut say = |what: &[u8]| host.run(|| talk.say(what).unwrap()).unwrap();
    say(b"one");
    let running = stage.director();
    explains(running, &[&client], &["its packets pass there"]);
    let trace = Trace::start(running, &["--client", &client]);
    explains(running, &[&client], &["not used: a trace wants to see its packets"]);
    say(b"two");
    trace.says(&["of a known connection", "PSH ACK"]);
    trace.says(&["answer on a connection", "PSH ACK"]);
    trace.end();
    say(b"three");
    say(b"four");
    explains(running, &[&client], &["its packets pass there"]);
}

#[test]
fn a_trace_is_bounded_told_as_json_and_captured() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::with(Method::Nat, &Plan { real_servers: 1, ..Plan::default() });
    let service = stage.topology.service;
    // From here on the neighbours are known.
    stage.client().run(|| Talk::open(service).unwrap().say(b"hello").unwrap()).unwrap();
    let running = stage.director();
    let capture = running.file().with_file_name("web.pcapng");
    let path = capture.to_str().unwrap().to_owned();
    let run =
        |running: &Running, words: &[&str]| asks(running, words).stdout(Stdio::piped()).spawn().unwrap();
    let json = run(running, &["trace", "--vip", "10.0.0.100", "--count", "3", "--json"]);
    let pcap = run(running, &["trace", "--vip", "10.0.0.100", "--count", "3", "--pcap", &path]);
    let brief = run(running, &["trace", "--client", "203.0.113.1", "--for", "1s"]);
    // Both see the same packets once they have begun.
    eventually("both traces run", || {
        let log = running.get().log();
        (log.matches("a trace begins").count() >= 3).then_some(())
    });
    stage.client().run(|| Talk::open(service).unwrap().say(b"hello").unwrap()).unwrap();
    let lines = json.wait_with_output().unwrap();
    assert!(lines.status.success());
    let lines = String::from_utf8(lines.stdout).unwrap();
    let packets: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(packets.len(), 3, "{lines}");
    assert_eq!(
        (packets[0]["found"].as_str(), packets[0]["verdict"].as_str(), packets[1]["found"].as_str()),
        (Some("new"), Some("forwarded"), Some("reply"))
    );
    assert!(pcap.wait_with_output().unwrap().status.success());
    assert!(brief.wait_with_output().unwrap().status.success());
    let bytes = std::fs::read(&capture).unwrap();
    assert!(bytes.windows(20).any(|it| it == b"begins a connection;"), "the comment is in the capture");
    tshark_shows(&capture);
    let wrong = asks(stage.director(), &["trace", "--client", "web"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("client: \"web\" is no address"));
}

/// What Wireshark's own reader says of a capture, where it is installed.
fn tshark_shows(capture: &Path) {
    let mut tshark = Command::new("tshark");
    tshark.args(["-T", "fields", "-e", "frame.comment", "-e", "tcp.flags.syn", "-r"]).arg(capture);
    let Ok(output) = tshark.output() else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("#1: request to tcp 10.0.0.100:80"), "{text}");
}

const SOON: Duration = Duration::from_secs(20);

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}
