//! Health checks that a running director makes: servers die and come back, and clients do not notice.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

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
