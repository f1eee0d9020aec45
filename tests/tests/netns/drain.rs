//! Servers that people take out of service on a running director, and give back.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layer3::{Hosts, config, hosts};
use crate::peer::{Peer, Talk};
use crate::stage::{NAT_PORT, Running, eventually, turn, uvs};

const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)), 80);
const ONE: &str = "tcp/10.0.0.100:80/192.168.20.11:8080";

struct Scene {
    running: Running,
    hosts: Hosts,
    peers: [Peer; 2],
}

impl Scene {
    fn new() -> Self {
        let hosts = hosts();
        let listens = |host, last| Peer::start(host, SocketAddr::from(([192, 168, 20, last], NAT_PORT)));
        let peers = [listens(&hosts.servers[0], 11), listens(&hosts.servers[1], 12)];
        let running = Running::start(&hosts.director, &config());
        Self { running, hosts, peers }
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

    fn talk(&self) -> Talk {
        self.hosts.client.run(|| Talk::open(SERVICE).unwrap()).unwrap()
    }

    /// Connections that rs1 has got.
    fn shares(&self) -> usize {
        self.peers[0].clients().len()
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
