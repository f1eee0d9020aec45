//! Health checks that a running director makes: servers die and come back, and clients do not notice.

pub(crate) mod field;
mod head;
mod passive;
mod real;
mod told;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uvs_lab::Host;

use crate::layer3::{Hosts, config, hosts};
use crate::peer::{Peer, Talk};
use crate::stage::{NAT_PORT, Running, eventually, turn, uvs};

const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)), 80);
const ONE: &str = "192.168.20.11:8080";
const TWO: &str = "192.168.20.12:8080";

/// The TCP service with that check, of which `more` says more.
fn checked(more: &str) -> String {
    let check = "[[check]]\nname = \"web\"\ntype = \"tcp\"\ninterval = \"100ms\"\ntimeout = \"90ms\"\nrise = 2\nfall = 2\n";
    let service = "protocol = \"tcp\"\n";
    let checked = format!("{service}checks = [\"web\"]\nhealth = {{ damping = 0{more} }}\n");
    format!("{}\n{check}", config().replacen(service, &checked, 1))
}

struct Scene {
    running: Running,
    hosts: Hosts,
    peers: [Option<Peer>; 2],
}

fn listens(host: &Host, last: u8) -> Option<Peer> {
    Some(Peer::start(host, SocketAddr::from(([192, 168, 20, last], NAT_PORT))))
}

impl Scene {
    fn new(config: &str) -> Self {
        let hosts = hosts();
        let peers = [listens(&hosts.servers[0], 11), listens(&hosts.servers[1], 12)];
        let running = Running::start(&hosts.director, config);
        Self { running, hosts, peers }
    }

    fn weight(&self, destination: &str) -> u64 {
        let labels = [("service", "tcp 10.0.0.100:80"), ("destination", destination)];
        self.running.metric("uvs_destination_weight", &labels)
    }

    fn weighs(&self, destination: &str, weight: u64) {
        eventually(&format!("{destination} weighs {weight}"), || {
            (self.weight(destination) == weight).then_some(())
        });
    }

    /// That many clients are all served.
    fn all_served(&self, clients: u8) {
        for number in 0..clients {
            self.hosts.client.run(|| Talk::open(SERVICE).unwrap().say(&[number]).unwrap()).unwrap();
        }
    }

    fn status(&self) -> String {
        let mut command = Command::new(uvs());
        let socket = self.running.get().socket().display().to_string();
        let output = command.args(["status", "--socket", &socket]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_server_that_dies_gets_no_connections_until_it_is_back() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new(&checked(""));
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    scene.all_served(10);

    scene.peers[0] = None;
    scene.weighs(ONE, 0);
    assert_eq!(scene.weight(TWO), 1);
    scene.all_served(20);
    let labels = [("destination", ONE), ("check", "web"), ("state", "down")];
    assert_eq!(scene.running.metric("uvs_check_state", &labels), 1);
    let status = scene.status();
    assert!(status.contains("1 of 2 in service, quorum held") && status.contains("web: down"), "{status}");
    assert!(status.contains("refused"), "{status}");

    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    scene.weighs(ONE, 1);
    scene.all_served(10);

    // A host that is gone says nothing.
    scene.hosts.servers[1].net().down("eth0").unwrap();
    scene.weighs(TWO, 0);
    scene.all_served(20);
}

#[test]
fn reloads_forget_nothing_and_what_adm_sets_counts_while_it_is_up() {
    let Some(_turn) = turn() else { return };
    let config = checked("");
    let mut scene = Scene::new(&config);
    scene.peers[0] = None;
    scene.weighs(TWO, 1);
    scene.weighs(ONE, 0);
    let passed = |scene: &Scene| {
        scene.running.metric("uvs_check_results_total", &[("destination", TWO), ("outcome", "passed")])
    };
    let before = passed(&scene);
    for round in 0..20 {
        let text = if round % 2 == 0 { format!("{config}# again\n") } else { config.clone() };
        scene.running.reload(&text);
        assert_eq!((scene.weight(ONE), scene.weight(TWO)), (0, 1), "in round {round}");
        scene.all_served(2);
    }
    assert!(passed(&scene) > before, "they went on");

    for destination in [ONE, TWO] {
        scene.running.adm(&format!("-e -t {SERVICE} -r {destination} -m -w 7"));
    }
    scene.weighs(TWO, 7);
    scene.weighs(ONE, 0);
    scene.all_served(5);
    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    scene.weighs(ONE, 7);
    scene.running.reload(&format!("{config}# the file wins\n"));
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);

    // Without checks everything is as the file says.
    scene.peers[0] = None;
    scene.weighs(ONE, 0);
    scene.running.reload(&crate::layer3::config());
    assert_eq!((scene.weight(ONE), scene.weight(TWO)), (1, 1));

    // What serves goes on until the checks that are new to it have failed.
    scene.running.reload(&config);
    scene.weighs(ONE, 0);
    let log = scene.running.get().log();
    let told = log.rsplit_once("reloaded").map(|(_, since)| since.to_owned()).unwrap_or_default();
    assert!(!told.contains("192.168.20.12:8080 weight=0"), "{told}");
}

#[test]
fn backups_serve_while_all_else_is_dead() {
    let Some(_turn) = turn() else { return };
    let config = checked(&format!(", backup = [{{ address = \"{TWO}\" }}]")).replacen(
        &format!(", {{ address = \"{TWO}\" }}]\n"),
        "]\n",
        1,
    );
    let mut scene = Scene::new(&config);
    scene.weighs(ONE, 1);
    assert_eq!(scene.weight(TWO), 0);
    scene.all_served(5);
    scene.peers[0] = None;
    scene.weighs(TWO, 1);
    scene.weighs(ONE, 0);
    scene.all_served(10);
    assert!(scene.status().contains("quorum lost, the backups serve"), "{}", scene.status());
    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 0);
    scene.all_served(5);
}

/// A server that dies while it is not in the director, and is added again with the weight that it had, gets nothing.
#[test]
fn a_weight_that_could_not_be_set_is_mended() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new(&checked(""));
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    scene.running.adm(&format!("-d -t {SERVICE} -r {ONE}"));
    scene.peers[0] = None;
    let log = |scene: &Scene| scene.running.get().log();
    eventually("the check is down, or not made any more", || {
        let text = log(&scene);
        let (down, gone) = (
            text.contains("check is down"),
            scene.running.metric("uvs_check_state", &[("destination", ONE)]) == 0,
        );
        (down || gone).then_some(())
    });
    scene.running.adm(&format!("-a -t {SERVICE} -r {ONE} -m -w 1"));
    scene.weighs(ONE, 0);
    scene.all_served(10);
    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    scene.weighs(ONE, 1);
    scene.all_served(4);
}

/// `uvs events` with these arguments, to its end.
fn events(running: &Running, arguments: &[&str]) -> Vec<serde_json::Value> {
    let mut command = Command::new(uvs());
    let output =
        command.arg("events").args(arguments).arg("--socket").arg(running.get().socket()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_tell_what_happened_and_what_happens() {
    let Some(_turn) = turn() else { return };
    let config = checked("");
    let mut scene = Scene::new(&config);
    let socket = scene.running.get().socket().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let followed = folder.path().join("events");
    let mut command = Command::new(uvs());
    command.args(["events", "--since", "1h", "--follow", "--socket"]).arg(&socket);
    let mut follower = command.stdout(std::fs::File::create(&followed).unwrap()).spawn().unwrap();
    // One that reads nothing holds up nobody.
    let mut stalled = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stalled.write_all(b"{\"version\":1,\"request\":{\"events\":{\"follow\":true}}}\n").unwrap();
    let says = |what: &str| {
        eventually(what, || std::fs::read_to_string(&followed).unwrap().contains(what).then_some(()));
    };
    says("the director is ready");
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    says(&format!("tcp {SERVICE} {ONE} check web is up"));
    scene.peers = [None, None];
    says(&format!("tcp {SERVICE} {ONE} check web is down: "));
    says(&format!("tcp {SERVICE} {TWO} weight 0 (health)"));
    says(&format!("tcp {SERVICE} quorum lost, 0 of 2"));
    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    says(&format!("tcp {SERVICE} quorum regained, 1 of 2"));
    scene.running.adm(&format!("-e -t {SERVICE} -r {ONE} -m -w 5"));
    says(&format!("{ONE} weight 5 (adm: uid 0 pid "));
    scene.running.reload(&format!("{config}# again\n"));
    says("configuration reloaded");

    let all = events(&scene.running, &["--json", "--last", "100000"]);
    let types: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for kind in
        ["ready", "check_up", "check_down", "destination_up", "destination_down", "quorum_down", "weight"]
    {
        assert!(types.contains(&kind), "{kind}: {types:?}");
    }
    let numbers: Vec<u64> = all.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    let down = all.iter().find(|event| event["type"] == "check_down").unwrap();
    assert_eq!((&down["check"], &down["from"]), (&"web".into(), &"up".into()), "{down}");
    let time = down["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(events(&scene.running, &["--json", "--since", "1h"]).len(), all.len());
    assert_eq!(events(&scene.running, &["--json", "--last", "2"]), all[all.len() - 2..]);

    // Ctrl-C is no failure; the end of the director is one.
    kill(Pid::from_raw(i32::try_from(follower.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    let mut command = Command::new(uvs());
    command.args(["events", "--follow", "--last", "1", "--socket"]).arg(&socket);
    let again = folder.path().join("again");
    let output = std::fs::File::create(&again).unwrap();
    let mut follower = command.stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it is heard", || (std::fs::metadata(&again).unwrap().len() > 0).then_some(()));
    scene.running.stop(Signal::SIGTERM);
    assert_eq!(follower.wait().unwrap().code(), Some(1));
    let text = std::fs::read_to_string(&again).unwrap();
    assert!(text.contains("the director stops"), "{text}");
}

#[test]
fn supervisors_hear_whether_it_lives_and_serves() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new(&checked(""));
    let (tcp, udp) = (format!("tcp/{SERVICE}"), format!("udp%20{SERVICE}"));
    let becomes = |scene: &Scene, service: Option<&str>, status: u16, part: &str| {
        eventually(&format!("{service:?}: {status} {part}"), || {
            let (code, text) = scene.running.get().ready(service).unwrap();
            (code == status && text.contains(part)).then_some(())
        });
    };
    assert_eq!(scene.running.get().alive().unwrap(), "{\"ok\":true,\"reasons\":[]}\n");
    becomes(&scene, None, 200, "\"ok\":true");
    becomes(&scene, Some(&tcp), 200, "\"ok\":true");
    becomes(&scene, Some(&udp), 200, "\"ok\":true");
    becomes(&scene, Some("tcp/192.0.2.1:1"), 404, "there is no service tcp 192.0.2.1:1");
    scene.peers = [None, None];
    becomes(&scene, Some(&tcp), 503, "\"quorum lost\",\"no destination takes new connections\"");
    becomes(&scene, None, 200, "\"ok\":true");
    let flaps = |destination| scene.running.metric("uvs_check_flaps_total", &[("destination", destination)]);
    assert_eq!((flaps(ONE), flaps(TWO)), (1, 1));
    scene.peers[1] = listens(&scene.hosts.servers[1], 12);
    becomes(&scene, Some(&tcp), 200, "\"ok\":true");
    for destination in [ONE, TWO] {
        scene.running.adm(&format!("-e -u {SERVICE} -r {destination} -m -w 0"));
    }
    becomes(&scene, Some(&udp), 503, "[\"no destination takes new connections\"]");
}
