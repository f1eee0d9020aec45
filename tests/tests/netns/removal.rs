//! Taking a real server out and putting it back while connections come and go.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use uvs_lab::Host;
use uvs_lab::topology::Method;

use crate::peer::{PATIENCE, Talk, kind_of, stream_both_ways};
use crate::stage::{Stage, eventually, turn, with_weight, without};

/// Between two new connections of a load.
const PACE: Duration = Duration::from_millis(20);
/// Connections of a load in each phase of a test.
pub(crate) const ENOUGH: usize = 40;
/// Nothing heard for this long, while the client's kernel sends again and again, is silence.
const SILENCE: Duration = Duration::from_millis(1500);

/// Clients that come one after the other, each with a connection of its own, until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    results: mpsc::Receiver<Try>,
    all: Vec<Try>,
}

/// One connection of a load.
pub(crate) struct Try {
    began: Instant,
    ended: Instant,
    pub(crate) result: Result<String>,
}

impl Load {
    pub(crate) fn start(client: &Host, service: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (sender, results) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        client
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let sender = sender.clone();
                    thread::spawn(move || {
                        let began = Instant::now();
                        let result = Talk::open(service).and_then(|mut talk| {
                            talk.say(format!("since {began:?}").as_bytes())?;
                            Ok(talk.server)
                        });
                        // Nobody listens once the test is over.
                        let _ = sender.send(Try { began, ended: Instant::now(), result });
                    });
                    thread::sleep(PACE);
                }
            })
            .unwrap();
        Self { stop, results, all: Vec::new() }
    }

    /// Waits until so many more have ended that began from now on, well or not.
    pub(crate) fn go_on(&mut self, count: usize) {
        let now = Instant::now();
        let mut more = 0;
        while more < count {
            let next = self.results.recv_timeout(PATIENCE * 2).expect("the load goes on");
            more += usize::from(next.began >= now);
            self.all.push(next);
        }
    }

    /// Ends it, and returns all.
    pub(crate) fn end(mut self) -> Vec<Try> {
        self.stop.store(true, Ordering::Relaxed);
        // It ends with the last of the threads that send.
        self.all.extend(self.results.iter());
        std::mem::take(&mut self.all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Connections opened in [`from`, `to`]: each has to be right. Returns who answered them.
fn all_right(tries: &[Try], from: Instant, to: Instant) -> Vec<&str> {
    let within: Vec<&Try> = tries.iter().filter(|one| one.began >= from && one.began <= to).collect();
    assert!(within.len() >= ENOUGH, "only {} connections", within.len());
    let failed: Vec<String> = within
        .iter()
        .filter_map(|one| {
            one.result.as_ref().err().map(|error| {
                format!("{:?} after the change, for {:?}: {error:#}", one.began - from, one.ended - one.began)
            })
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), within.len(), failed.join("\n"));
    within.iter().map(|one| one.result.as_ref().unwrap().as_str()).collect()
}

/// Opens connections until one lands on that real server, which it returns.
fn open_on(stage: &Stage, name: &str) -> Talk {
    let service = stage.topology.service;
    stage
        .client()
        .run(|| {
            (0..stage.peers.len())
                .map(|_| Talk::open(service).unwrap())
                .find(|talk| talk.server == name)
                .unwrap()
        })
        .unwrap()
}

fn address_of(stage: &Stage, number: usize) -> String {
    stage.topology.real_servers[number].address.to_string()
}

#[test]
fn removal_under_load_through_nat() {
    removal_under_load(Method::Nat);
}

#[test]
fn removal_under_load_through_dr() {
    removal_under_load(Method::Direct);
}

#[test]
fn removal_under_load_through_tun() {
    removal_under_load(Method::Tunnel);
}

fn removal_under_load(method: Method) {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(method);
    let (service, config) = (stage.topology.service, stage.topology.config.clone());
    let gone = address_of(&stage, 1);
    // With expire_nodest_conn = false, as it is unless configured.
    let mut talk = open_on(&stage, "rs2");
    talk.say(b"before").unwrap();
    let mut load = Load::start(stage.client(), service);
    load.go_on(ENOUGH);

    stage.director().reload(&without(&config, &gone));
    let removed = Instant::now();
    talk.send(b"while it is gone").unwrap();
    load.go_on(ENOUGH);
    let error = talk.hear(b"while it is gone", SILENCE).expect_err("its real server is gone");
    assert!(
        matches!(kind_of(&error), Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "silence, no reset: {error:#}"
    );
    assert!(stage.director().drops("destination_gone") > 0, "the drops have a name");

    let returning = Instant::now();
    stage.director().reload(&config);
    let returned = Instant::now();
    // The client's kernel has kept what was not acknowledged.
    talk.hear(b"while it is gone", PATIENCE).unwrap();
    talk.say(b"and after").unwrap();
    load.go_on(ENOUGH);
    let tries = load.end();

    let without_it = all_right(&tries, removed, returning);
    assert!(!without_it.contains(&"rs2"), "nothing new goes to a removed real server");
    assert!(["rs1", "rs3"].iter().all(|name| without_it.contains(name)), "{without_it:?}");
    let with_it = all_right(&tries, returned, Instant::now());
    assert!(["rs1", "rs2", "rs3"].iter().all(|name| with_it.contains(name)), "{with_it:?}");
}

#[test]
fn with_expire_nodest_conn_a_connection_of_a_removed_real_server_is_reset() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let topology = crate::stage::topology(method, &uvs_lab::topology::Plan::default());
        let config = format!("{}\n[options]\nexpire_nodest_conn = true\n", topology.config);
        let mut stage = Stage::on(topology, &config);
        let (service, gone) = (stage.topology.service, address_of(&stage, 1));
        let mut talk = open_on(&stage, "rs2");
        talk.say(b"before").unwrap();
        let mut load = Load::start(stage.client(), service);
        load.go_on(ENOUGH);
        stage.director().reload(&without(&config, &gone));
        let removed = Instant::now();
        let error = talk.say(b"after").expect_err("its real server is gone");
        assert_eq!(kind_of(&error), Some(ErrorKind::ConnectionReset), "{method}: {error:#}");
        assert!(removed.elapsed() < SILENCE, "{method}: at once, not after a timeout");
        load.go_on(ENOUGH);
        let tries = load.end();
        assert!(!all_right(&tries, removed, Instant::now()).contains(&"rs2"), "{method}");
    }
}

#[test]
fn weight_0_lets_connections_end_and_takes_no_new_ones() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let (service, config) = (stage.topology.service, stage.topology.config.clone());
    let mut load = Load::start(stage.client(), service);
    load.go_on(ENOUGH);

    // Three transfers, one on each real server, that wait for us in the middle.
    let (arrived, at_halfway) = mpsc::channel();
    let transfers: Vec<_> = (0..3)
        .map(|number| {
            let (arrived, (go_on, may_go_on)) = (arrived.clone(), mpsc::channel::<()>());
            let transfer = stage
                .client()
                .spawn(move || {
                    stream_both_ways(service, number, 4 << 20, move || {
                        arrived.send(()).unwrap();
                        // An error: the test has failed, and nobody will ever say so.
                        let _ = may_go_on.recv_timeout(PATIENCE);
                    })
                })
                .unwrap();
            (transfer, go_on)
        })
        .collect();
    for _ in 0..3 {
        at_halfway.recv_timeout(PATIENCE).unwrap();
    }
    let drained = address_of(&stage, 2);
    stage.director().reload(&with_weight(&config, &drained, 0));
    let quiesced = Instant::now();
    load.go_on(ENOUGH);
    let weight = [("destination", format!("{drained}:8080")), ("service", format!("tcp {service}"))];
    let labels = weight.each_ref().map(|(key, value)| (*key, value.as_str()));
    assert_eq!(stage.director().metric("uvs_destination_weight", &labels), 0);
    for (transfer, go_on) in transfers {
        go_on.send(()).unwrap();
        let client = transfer.join().unwrap().unwrap();
        assert_eq!(client.ip(), IpAddr::from(stage.topology.clients[0].address));
    }
    eventually("the drained real server compares its stream", || {
        let streams: Vec<_> = stage.peers.iter().flat_map(|peer| peer.streams()).collect();
        assert!(streams.iter().all(Result::is_ok), "{streams:?}");
        (streams.len() == 3).then_some(())
    });
    let again = Instant::now();
    stage.director().reload(&config);
    let returned = Instant::now();
    load.go_on(ENOUGH);
    let tries = load.end();
    let during = all_right(&tries, quiesced, again);
    assert!(!during.contains(&"rs3"), "nothing new goes to a quiesced real server");
    assert!(all_right(&tries, returned, Instant::now()).contains(&"rs3"), "it takes part again");
    // Nobody noticed a thing, not even in between.
    assert!(tries.iter().all(|one| one.result.is_ok()));
}
