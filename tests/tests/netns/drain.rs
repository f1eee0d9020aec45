//! Servers that people take out of service on a running director, and give back.

mod bounded;
mod restart;
mod ways;

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uvs_lab::Host;

use crate::checks::field::Load;
use crate::layer3::{Hosts, config, hosts};
use crate::peer::{Peer, Talk, ask_datagram, kind_of};
use crate::stage::{NAT_PORT, Running, eventually, turn, uvs};

const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)), 80);
const ONE: &str = "tcp/10.0.0.100:80/192.168.20.11:8080";

struct Scene {
    running: Running,
    hosts: Hosts,
    /// `None`: others serve.
    peers: Option<[Peer; 2]>,
}

fn listens(host: &Host, last: u8) -> Peer {
    Peer::start(host, SocketAddr::from(([192, 168, 20, last], NAT_PORT)))
}

impl Scene {
    fn new() -> Self {
        Self::with(&config())
    }

    fn with(config: &str) -> Self {
        let hosts = hosts();
        let peers = Some([listens(&hosts.servers[0], 11), listens(&hosts.servers[1], 12)]);
        let running = Running::start(&hosts.director, config);
        Self { running, hosts, peers }
    }

    fn peers(&self) -> &[Peer; 2] {
        self.peers.as_ref().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(uvs());
        command.args(words).arg("--socket").arg(self.running.get().socket());
        command
    }

    fn uvs(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What it prints, of a command that works.
    fn says(&self, words: &[&str]) -> String {
        let output = self.uvs(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit status, and what it complains of.
    fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.uvs(words);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn weighs(&self, weight: u64) {
        let labels = [("service", "tcp 10.0.0.100:80"), ("destination", "192.168.20.11:8080")];
        eventually(&format!("rs1 weighs {weight}"), || {
            (self.running.metric("uvs_destination_weight", &labels) == weight).then_some(())
        });
    }

    /// Established connections of the service, as the kernel of rs1 sees them.
    fn of_one(&self) -> usize {
        let table = || std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        let table = self.hosts.servers[0].run(table).unwrap();
        let local = format!(":{NAT_PORT:04X}");
        let is_ours = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|it| it.ends_with(&local)) && fields.nth(1) == Some("01")
        };
        table.lines().filter(is_ours).count()
    }

    fn talk(&self) -> Talk {
        self.hosts.client.run(|| Talk::open(SERVICE).unwrap()).unwrap()
    }

    /// Connections that rs1 has got.
    fn shares(&self) -> usize {
        self.peers()[0].clients().len()
    }

    /// A connection with rs1.
    fn talk_with_one(&self) -> Talk {
        let before = self.shares();
        loop {
            let mut talk = self.talk();
            talk.say(b"hello").unwrap();
            if self.shares() > before {
                return talk;
            }
        }
    }

    /// Clients that come now do not get to rs1.
    fn avoids_one(&self) {
        let before = self.shares();
        for number in 0..6 {
            self.talk().say(&[number]).unwrap();
        }
        assert_eq!(self.shares(), before);
    }
}

#[test]
fn a_drain_ends_with_the_last_connection() {
    let Some(_turn) = turn() else { return };
    let scene = Scene::new();
    let mut talk = scene.talk_with_one();
    let drain = scene.start(&["drain", ONE]);
    scene.weighs(0);
    scene.avoids_one();
    let (code, error) = scene.fails(&["wait", ONE, "--drained", "--timeout", "1s"]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("drain") && error.contains("connections left"), "{error}");
    talk.say(b"it goes on").unwrap();
    drop(talk);
    let output = drain.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.ends_with("drained\n"), "{text}");
    scene.says(&["wait", ONE, "--drained", "--timeout", "10s"]);

    assert!(scene.says(&["status"]).contains("drain"));
    assert_eq!(scene.says(&["undrain", ONE]), format!("{ONE}: ready\n"));
    scene.says(&["wait", ONE, "--up", "--timeout", "10s"]);
    drop(scene.talk_with_one());
}

#[test]
fn a_drain_outlives_its_command_reloads_and_what_adm_sets() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new();
    let talk = scene.talk_with_one();
    let mut drain = scene.start(&["drain", ONE]);
    scene.weighs(0);
    // It has told what is left, so it waits.
    let mut first = [0];
    drain.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    kill(Pid::from_raw(drain.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = drain.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains(&format!("uvs undrain {ONE}")), "{error}");
    scene.avoids_one();

    scene.running.reload(&format!("{}# again\n", config()));
    scene.avoids_one();
    scene.running.adm(&format!("-e -t {SERVICE} -r 192.168.20.11:8080 -m -w 7"));
    scene.weighs(0);
    scene.avoids_one();
    let explained = scene.says(&["explain", "destination", ONE]);
    let line = |name: &str| explained.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert!(explained.contains("weight 0, by administrative state"), "{explained}");
    assert!(line("file").contains(" 1 ") && line("adm").contains(" 7 "), "{explained}");
    assert!(line("administrative state").contains("<-- has the last word"), "{explained}");
    let json = scene.says(&["explain", "destination", ONE, "--json"]);
    assert!(json.contains("\"admin\": \"drain\""), "{json}");
    scene.says(&["undrain", ONE]);
    scene.weighs(7);
    scene.running.reload(&config());
    scene.weighs(1);
    drop(talk);
}

#[test]
fn destinations_without_checks_and_those_of_adm_are_drained_too() {
    let Some(_turn) = turn() else { return };
    let scene = Scene::new();
    scene.running.adm("-A -t 10.0.0.100:81 -s rr");
    scene.running.adm("-a -t 10.0.0.100:81 -r 192.168.20.11:8080 -m -w 3");
    let by_adm = "tcp/10.0.0.100:81/192.168.20.11:8080";
    assert!(scene.says(&["drain", by_adm]).contains("drained"));
    let explained = scene.says(&["explain", "destination", by_adm]);
    assert!(explained.contains("weight 0, by administrative state"), "{explained}");
    assert!(explained.lines().any(|line| line.trim() == format!("{:22} -", "file")), "{explained}");
    scene.says(&["undrain", "10.0.0.100:81/192.168.20.11"]);
    scene.says(&["wait", by_adm, "--up", "--timeout", "10s"]);
    let listing = scene.running.adm("-Ln");
    assert!(listing.contains("Masq    3"), "{listing}");

    let (code, error) = scene.fails(&["drain", "192.168.20.11"]);
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("may be any of these") && error.contains(ONE) && error.contains(by_adm),
        "{error}"
    );
    let (code, error) = scene.fails(&["undrain", "tcp/10.0.0.100:80/192.168.20.13"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("there is no destination") && error.contains(ONE), "{error}");
    let (code, error) = scene.fails(&["wait", ONE]);
    assert_eq!(code, 2, "{error}");
    scene.running.adm("-d -t 10.0.0.100:81 -r 192.168.20.11:8080");
    assert_eq!(scene.fails(&["explain", "destination", by_adm]).0, 1);
}

/// Neither end says anything by itself: each is asked, and gets a reset that it takes.
#[test]
fn at_the_deadline_both_ends_of_what_is_left_are_reset() {
    let Some(_turn) = turn() else { return };
    let scene = Scene::new();
    let mut talks: Vec<Talk> = (0..3).map(|_| scene.talk_with_one()).collect();
    assert!(scene.of_one() >= 3);
    let terms = ["--deadline", "500ms", "--reset", "--then", "maint"];
    let text = scene.says(&[&["drain", ONE][..], &terms].concat());
    assert!(text.contains("by a reset, then maint"), "{text}");
    assert!(text.ends_with("drained, and in maintenance\n"), "{text}");
    for talk in &mut talks {
        let error = talk.hear(b"?", Duration::from_secs(20)).unwrap_err();
        assert_eq!(kind_of(&error), Some(std::io::ErrorKind::ConnectionReset), "{error:#}");
    }
    eventually("the server has lost them, too", || (scene.of_one() == 0).then_some(()));
    assert!(scene.says(&["status"]).contains("maint"));
    scene.avoids_one();
    assert_eq!(scene.says(&["undrain", ONE]), format!("{ONE}: ready\n"));
    scene.says(&["wait", ONE, "--up", "--timeout", "10s"]);
    scene.talk_with_one().say(b"as before").unwrap();
}

#[test]
fn without_a_reset_tcp_goes_on_and_whoever_drains_hears_of_it() {
    let Some(_turn) = turn() else { return };
    let scene = Scene::new();
    let mut talk = scene.talk_with_one();
    let (code, error) = scene.fails(&["drain", ONE, "--deadline", "300ms"]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("the deadline is over, 1 connection left"), "{error}");
    assert!(scene.says(&["status"]).contains("the deadline is over"));
    talk.say(b"it goes on").unwrap();
    let explained = scene.says(&["explain", "destination", ONE]);
    assert!(explained.contains("drained for") && explained.contains("1 connection left"), "{explained}");
    scene.says(&["undrain", ONE]);
    scene.says(&["wait", ONE, "--up", "--timeout", "10s"]);

    // A deadline that is taken back does not come.
    let terms = ["--deadline", "1s", "--reset", "--no-wait", "--json"];
    let json = scene.says(&[&["drain", ONE][..], &terms].concat());
    assert!(json.contains("\"phase\":\"waiting\"") && json.contains("\"reset\":true"), "{json}");
    scene.says(&["undrain", ONE]);
    std::thread::sleep(Duration::from_secs(3));
    talk.say(b"it goes on").unwrap();

    // What follows is done by the director.
    let (code, error) = scene.fails(&["drain", ONE, "--reset"]);
    assert_eq!(code, 2, "{error}");
    scene.says(&["drain", ONE, "--then", "remove", "--no-wait"]);
    drop(talk);
    eventually("it is removed", || (scene.fails(&["explain", "destination", ONE]).0 == 1).then_some(()));
    assert!(!scene.running.adm("-Ln -t 10.0.0.100:80").contains("192.168.20.11"));
    scene.says(&["wait", "tcp/10.0.0.100:80/192.168.20.12:8080", "--up", "--timeout", "10s"]);
}

#[test]
fn datagrams_go_elsewhere_when_their_server_is_drained() {
    let Some(_turn) = turn() else { return };
    let scene = Scene::new();
    let ask = || scene.hosts.client.run(|| ask_datagram(SERVICE, 100).unwrap()).unwrap();
    for _ in 0..4 {
        ask();
    }
    let flows = "udp/10.0.0.100:80/192.168.20.11:8080";
    assert!(scene.says(&["drain", flows, "--deadline", "0s"]).ends_with("drained\n"));
    let before = scene.peers()[0].datagrams().len();
    for _ in 0..4 {
        ask();
    }
    assert_eq!(scene.peers()[0].datagrams().len(), before);
}

/// As docs/drain.md has it.
#[test]
fn all_servers_are_restarted_in_turn_by_drain_and_no_request_fails() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new();
    let load = Load::start(&scene.hosts.client);
    for (at, last) in [(0, 11), (1, 12), (0, 11), (1, 12)] {
        let name = format!("tcp/10.0.0.100:80/192.168.20.{last}:8080");
        scene.says(&["drain", &name, "--deadline", "60s", "--then", "maint"]);
        let before = load.requests();
        eventually("requests go on without it", || (load.requests() > before + 5).then_some(()));
        // The address is free once nobody listens there.
        let host = &scene.hosts.servers[at];
        let gone = Peer::start(host, SocketAddr::from(([192, 168, 20, last], NAT_PORT + 1)));
        let peers = scene.peers.as_mut().unwrap();
        drop(std::mem::replace(&mut peers[at], gone));
        peers[at] = listens(host, last);
        scene.says(&["undrain", &name]);
        scene.says(&["wait", &name, "--up", "--timeout", "20s"]);
    }
    let before = scene.peers().each_ref().map(|peer| peer.clients().len());
    eventually("both serve again", || {
        let now = scene.peers().each_ref().map(|peer| peer.clients().len());
        (now[0] > before[0] && now[1] > before[1]).then_some(())
    });
    load.ends_unharmed();
}
