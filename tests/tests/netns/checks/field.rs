//! What operators do, and what goes wrong with real servers, while clients come: nobody of them may notice.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fs};

use nix::sys::signal::Signal;
use uvs_control::probe::{Kind, Request, Verdict};
use uvs_lab::Host;
use uvs_lab::topology::{Method, Plan};

use super::{ONE, SERVICE, Scene, TWO, checked, listens};
use crate::peer::{Peer, Talk, kind_of, stream_both_ways};
use crate::probe::{ECHO, ask, request};
use crate::stage::{Running, Stage, eventually, topology, turn};

/// Where agents answer.
const AGENT: u16 = 9999;
/// Who asks.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 20, 0, 2));
/// Bytes of a transfer, each way.
const TRANSFER: u64 = 2 << 20;

/// As [`checked`], but with a deadline that a busy machine keeps: a refusal ends a probe at once anyway.
fn patient(more: &str) -> String {
    checked(more).replace("timeout = \"90ms\"", "timeout = \"3s\"")
}

/// As [`patient`], and each server is asked for a line of its agent.
fn with_agents(weight: u32) -> String {
    let agent = format!(
        "\n[[check]]\nname = \"agent\"\ntype = \"agent\"\nport = {AGENT}\ninterval = \"100ms\"\ntimeout = \"3s\"\n"
    );
    let tcp = patient("").replace("checks = [\"web\"]", "checks = [\"web\", \"agent\"]");
    let weighed = |address: &str| format!("{{ address = \"{address}\", weight = {weight} }}");
    [ONE, TWO]
        .iter()
        .fold(tcp, |text, it| text.replacen(&format!("{{ address = \"{it}\" }}"), &weighed(it), 1))
        + &agent
}

/// A server's agent, which says one line to whoever connects.
struct Agent {
    line: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn start(host: &Host, last: u8, line: &str) -> Self {
        let address = SocketAddr::from(([192, 168, 20, last], AGENT));
        let listener = host.run(|| TcpListener::bind(address).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let line = Arc::new(Mutex::new(line.to_owned()));
        let stop = Arc::new(AtomicBool::new(false));
        let (said, until) = (Arc::clone(&line), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                match listener.accept() {
                    // Who hangs up does not want to hear it.
                    Ok((mut stream, _)) => drop(writeln!(stream, "{}", said.lock().unwrap())),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { line, stop, thread: Some(thread) }
    }

    fn says(&self, line: &str) {
        line.clone_into(&mut self.line.lock().unwrap());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Clients that never stop: short requests, and transfers that take a while.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<[AtomicU64; 2]>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(client: &Host) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new([0, 0].map(AtomicU64::new)));
        let failed = Arc::<Mutex<Vec<String>>>::default();
        let threads = (0..4_u64)
            .map(|seed| {
                let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
                let is_long = seed < 2;
                let work = move || {
                    while !stop.load(Ordering::Relaxed) {
                        let outcome = match is_long {
                            true => stream_both_ways(SERVICE, seed, TRANSFER, || ()).map(drop),
                            false => Talk::open(SERVICE).and_then(|mut talk| talk.say(b"hello")),
                        };
                        match outcome {
                            Ok(()) => drop(done[usize::from(is_long)].fetch_add(1, Ordering::Relaxed)),
                            Err(error) => failed.lock().unwrap().push(format!("{error:#}")),
                        }
                        // About 1000 connections a second would be all that a machine of CI has.
                        thread::sleep(Duration::from_millis(3));
                    }
                };
                client.spawn(work).unwrap()
            })
            .collect();
        Self { stop, done, failed, threads }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.done[0].load(Ordering::Relaxed)
    }

    /// Ends it, once there was enough of it. Nothing of it has failed.
    pub(crate) fn ends_unharmed(self) {
        let done = |at: usize| self.done[at].load(Ordering::Relaxed);
        eventually("there was a load, or some of it failed", || {
            (done(0) > 20 && done(1) > 0 || !self.failed.lock().unwrap().is_empty()).then_some(())
        });
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let requests = self.done[0].load(Ordering::Relaxed);
        assert_eq!(*self.failed.lock().unwrap(), Vec::<String>::new(), "beside {requests} requests");
    }
}

impl Scene {
    /// Nothing more is under way with a destination.
    fn is_drained(&self, destination: &str) {
        let labels = [("service", "tcp 10.0.0.100:80"), ("destination", destination)];
        eventually(&format!("{destination} has no connection"), || {
            let active = self.running.metric("uvs_destination_active_connections", &labels);
            (active == 0).then_some(())
        });
    }
}

#[test]
fn all_servers_are_restarted_in_turn_and_no_request_fails() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new(&with_agents(1));
    let agents =
        [11, 12].map(|last| Agent::start(&scene.hosts.servers[usize::from(last - 11)], last, "ready"));
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    let load = Load::start(&scene.hosts.client);
    for (at, destination) in [(0, ONE), (1, TWO), (0, ONE), (1, TWO)] {
        let before = load.requests();
        agents[at].says("drain");
        scene.weighs(destination, 0);
        scene.is_drained(destination);
        scene.peers[at] = None;
        eventually("requests go on without it", || (load.requests() > before + 5).then_some(()));
        scene.peers[at] = listens(&scene.hosts.servers[at], if at == 0 { 11 } else { 12 });
        agents[at].says("ready");
        scene.weighs(destination, 1);
    }
    eventually("both serve again", || {
        let serves = |peer: &Option<Peer>| !peer.as_ref().unwrap().clients().is_empty();
        scene.peers.iter().all(serves).then_some(())
    });
    load.ends_unharmed();
}

/// Its process goes on with the clients it has, but takes no others: what a check finds.
#[test]
fn connections_of_a_server_that_goes_down_are_reset_at_the_deadline() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new(&patient(", on_down = \"reset\", deadline = \"300ms\""));
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    let mut talks: Vec<Talk> =
        (0..4).map(|_| scene.hosts.client.run(|| Talk::open(SERVICE).unwrap()).unwrap()).collect();
    scene.peers[0] = None;
    scene.weighs(ONE, 0);
    for talk in &mut talks {
        match talk.server.as_str() {
            "rs1" => {
                let error = talk.hear(b"?", Duration::from_secs(20)).unwrap_err();
                assert_eq!(kind_of(&error), Some(std::io::ErrorKind::ConnectionReset), "{error:#}");
            }
            _ => talk.say(b"still there").unwrap(),
        }
    }
    assert_eq!(talks.iter().filter(|talk| talk.server == "rs1").count(), 2);
    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    scene.weighs(ONE, 1);
}

#[test]
fn what_an_agent_says_is_followed() {
    let Some(_turn) = turn() else { return };
    let scene = Scene::new(&with_agents(40));
    let agents =
        [11, 12].map(|last| Agent::start(&scene.hosts.servers[usize::from(last - 11)], last, "ready 100%"));
    scene.weighs(ONE, 40);
    scene.weighs(TWO, 40);
    for (line, weight) in
        [("50%", 20), ("maint", 0), ("ready", 20), ("75%", 30), ("down # disk", 0), ("up 100%", 40)]
    {
        agents[0].says(line);
        scene.weighs(ONE, weight);
        scene.all_served(3);
        assert_eq!(scene.weight(TWO), 40, "{line}");
    }
    agents[0].says("drain");
    scene.weighs(ONE, 0);
    let served = scene.peers[0].as_ref().unwrap().clients().len();
    scene.all_served(10);
    // The check that connects is no client, and says nothing.
    let clients = scene.peers[0].as_ref().unwrap().clients();
    let more = clients.iter().skip(served).filter(|seen| seen.ip() == CLIENT).count();
    assert_eq!(more, 0, "{clients:?}");
}

/// A sample of what `UVS_TEST_RELOADS=500` does.
#[test]
fn reloads_under_load_lose_no_connection_and_forget_no_check() {
    let Some(_turn) = turn() else { return };
    let reloads = env::var("UVS_TEST_RELOADS").map_or(50, |text| text.parse().unwrap());
    let config = patient("");
    let mut scene = Scene::new(&config);
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    scene.peers[0] = None;
    scene.weighs(ONE, 0);
    let load = Load::start(&scene.hosts.client);
    let labels = [("service", "tcp 10.0.0.100:80"), ("destination", TWO)];
    let passed = [("destination", TWO), ("outcome", "passed")];
    let before = scene.running.metric("uvs_check_results_total", &passed);
    for round in 0..reloads {
        let requests = load.requests();
        eventually("requests go on", || (load.requests() > requests).then_some(()));
        scene.running.reload(&format!("{config}# {round}\n"));
        assert_eq!((scene.weight(ONE), scene.weight(TWO)), (0, 1), "in round {round}");
    }
    load.ends_unharmed();
    assert_eq!(scene.running.metric("uvs_destination_flaps_total", &labels), 0);
    eventually("its check goes on", || {
        (scene.running.metric("uvs_check_results_total", &passed) > before).then_some(())
    });
}

#[test]
fn a_quorum_is_lost_and_regained() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new(&patient(", quorum = 2"));
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    let says =
        |scene: &Scene, words: &str| eventually(words, || scene.status().contains(words).then_some(()));
    says(&scene, "quorum held");
    scene.peers[0] = None;
    scene.weighs(ONE, 0);
    says(&scene, "quorum lost");
    // There is nobody else to send clients to.
    scene.all_served(5);
    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    scene.weighs(ONE, 1);
    says(&scene, "quorum held");
    let log = scene.running.get().log();
    let order = ["quorum lost", "quorum regained"]
        .map(|words| log.rfind(words).unwrap_or_else(|| panic!("{words}: {log}")));
    assert!(order[0] < order[1], "{log}");
}

#[test]
fn a_server_that_flaps_is_held_out_of_service() {
    let Some(_turn) = turn() else { return };
    let config = patient("").replace("damping = 0", "damping = \"60s\"");
    let mut scene = Scene::new(&config);
    scene.weighs(TWO, 1);
    for fall in 1..=3 {
        scene.weighs(ONE, 1);
        scene.peers[0] = None;
        scene.weighs(ONE, 0);
        scene.peers[0] = listens(&scene.hosts.servers[0], 11);
        let flaps = [("service", "tcp 10.0.0.100:80"), ("destination", ONE)];
        assert_eq!(scene.running.metric("uvs_destination_flaps_total", &flaps), fall);
    }
    let up = [("service", "tcp 10.0.0.100:80"), ("destination", ONE), ("check", "web"), ("state", "up")];
    eventually("its check is up", || (scene.running.metric("uvs_check_state", &up) == 1).then_some(()));
    eventually("it is said why", || {
        scene.running.get().log().contains("it flaps: held out of service").then_some(())
    });
    let results = [("destination", ONE), ("check", "web"), ("outcome", "passed")];
    let before = scene.running.metric("uvs_check_results_total", &results);
    eventually("it passes again and again", || {
        (scene.running.metric("uvs_check_results_total", &results) > before + 5).then_some(())
    });
    assert_eq!(scene.weight(ONE), 0, "and is held");
    scene.all_served(10);
    // Nobody is held where nothing is damped.
    scene.running.reload(&config.replace("damping = \"60s\"", "damping = 0"));
    scene.weighs(ONE, 1);
}

/// Processes that run `sleep` for that long, whose number nobody else has.
fn sleepers(seconds: &str) -> usize {
    let lines = fs::read_dir("/proc").unwrap().flatten().map(|it| fs::read(it.path().join("cmdline")));
    let wanted = format!("sleep\0{seconds}\0");
    lines.flatten().filter(|line| *line == wanted.as_bytes()).count()
}

#[test]
fn children_of_a_program_that_ignores_its_end_are_killed_with_it() {
    let Some(_turn) = turn() else { return };
    let seconds = format!("9{:08}", std::process::id());
    let script = format!("trap '' TERM; sleep {seconds} & sleep {seconds} & wait");
    let exec = format!(
        "[[check]]\nname = \"stuck\"\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n\
         interval = \"400ms\"\ntimeout = \"200ms\"\nfall = 1\n"
    );
    let config = checked("").replace("checks = [\"web\"]", "checks = [\"stuck\"]") + &exec;
    let mut scene = Scene::new(&config);
    let failed = [("destination", ONE), ("check", "stuck"), ("outcome", "failed")];
    for round in 1..=5 {
        eventually("it was killed again", || {
            (scene.running.metric("uvs_check_results_total", &failed) >= round).then_some(())
        });
        // Two of each run that is under way, for two destinations.
        let left = sleepers(&seconds);
        assert!(left <= 4, "{left} are left of {round} runs");
    }
    assert!(scene.running.stop(Signal::SIGTERM).success());
    eventually("none of them is left", || (sleepers(&seconds) == 0).then_some(()));
}

/// A real server whose link takes 1492 bytes says so in its SYN-ACK, and all is well, but in a tunnel: that makes 20
/// more of them, which vanish. Only what is long and goes the clients' way finds it.
#[test]
fn an_mtu_hole_in_the_tunnel_is_found_by_way_of_the_service_alone() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Tunnel, &Plan::default());
    let long = format!("{ECHO}{}y", "x".repeat(3000));
    let sent: String =
        long.chars().map(|c| if c < ' ' { format!("\\u{:04x}", u32::from(c)) } else { c.into() }).collect();
    let check = format!(
        "\n[[check]]\nname = \"long\"\ntype = \"tcp\"\nsend = \"{sent}\"\nexpect = \"y\"\ninterval = \"300ms\"\n\
         timeout = \"2s\"\nrise = 1\nfall = 2\n"
    );
    let service = "protocol = \"tcp\"\n";
    let health = "checks = [\"long\"]\nhealth = { damping = 0, via = \"service\" }\n";
    let config = topology.config.replacen(service, &format!("{service}{health}"), 1) + &check;
    let mut stage = Stage::on(topology, &config);
    let (vip, server) = (stage.topology.service, &stage.topology.real_servers[0]);
    let (host, straight) = (server.host.clone(), SocketAddr::from((server.address, vip.port())));
    let _own = Peer::start(&host, straight);
    let weighs = |running: &Running, weight: u64| {
        let (service, destination) = (format!("tcp {vip}"), straight.to_string());
        let labels = [("service", &*service), ("destination", &*destination)];
        eventually(&format!("it weighs {weight}"), || {
            (running.metric("uvs_destination_weight", &labels) == weight).then_some(())
        });
    };
    weighs(stage.director(), 1);
    host.net().set_mtu("eth0", 1492).unwrap();
    weighs(stage.director(), 0);
    let (verdict, text) = ask(stage.director(), request(Kind::Tcp, vip, Some(straight)));
    assert_eq!(verdict, Verdict::Pass, "what is short gets there: {text}");
    let direct = request(Kind::Tcp, straight, None);
    let direct = Request { send: Some(long), expect: Some("y".to_owned()), ..direct };
    let (verdict, text) = ask(stage.director(), direct);
    assert_eq!(verdict, Verdict::Pass, "what is long gets there straight: {text}");
    host.net().set_mtu("eth0", 1500).unwrap();
    weighs(stage.director(), 1);
}
