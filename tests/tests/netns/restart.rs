//! Connections outlive a restart of their director.

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use uvs_lab::topology::{Method, Plan};

use crate::peer::{Peer, Talk, stream_both_ways};
use crate::stage::{Running, eventually, topology, turn};

/// Idle connections that are there all the while.
const IDLE: usize = 100;
const RESTARTS: u8 = 3;
const LENGTH: u64 = 64 << 20;

#[test]
fn connections_go_on_through_restarts() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan { real_servers: 2, ..Plan::default() });
    let peers: Vec<Peer> =
        topology.real_servers.iter().map(|server| Peer::start(&server.host, server.listen)).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("connections");
    let config = format!("{}\n[restart]\nconnections = \"{}\"\n", topology.config, file.display());
    let mut director = Running::start(&topology.director, &config);
    let (client, service) = (topology.clients[0].host.clone(), topology.service);
    let mut talks: Vec<Talk> =
        client.run(|| (0..IDLE).map(|_| Talk::open(service).unwrap()).collect()).unwrap();
    let bulk = client.spawn(move || stream_both_ways(service, 7, LENGTH, || ())).unwrap();
    for round in 0..RESTARTS {
        let began = Instant::now();
        assert!(director.stop(Signal::SIGTERM).success(), "round {round}");
        assert!(file.exists(), "round {round}: they are kept");
        director.start_again();
        println!("round {round}: without a director for {:?} at most", began.elapsed());
        assert!(!file.exists(), "round {round}: they were taken over");
        for talk in &mut talks {
            talk.say(&[round; 100]).unwrap_or_else(|error| panic!("round {round}: {error:#}"));
        }
    }
    bulk.join().unwrap().unwrap();
    let seen: usize = peers.iter().map(|peer| peer.clients().len()).sum();
    assert_eq!(seen, IDLE + 1, "nobody had to come again");
    // A director that is killed keeps nothing but what it has written while it ran.
    director.reload(&format!("{config}every = \"1s\"\n"));
    eventually("they are written while it runs", || file.exists().then_some(()));
    director.signal(Signal::SIGKILL);
    let _ = director.wait();
    director.start_again();
    for talk in &mut talks {
        talk.say(b"found again").unwrap_or_else(|error| panic!("after SIGKILL: {error:#}"));
    }
    director.reload(&config);
    let _ = fs::remove_file(&file);
    director.signal(Signal::SIGKILL);
    let _ = director.wait();
    director.start_again();
    let error = client.run(|| talks[0].say(b"lost")).unwrap().unwrap_err();
    println!("after another, with nothing written: {error:#}");
    let stream = client.run(|| TcpStream::connect_timeout(&service, Duration::from_secs(10))).unwrap();
    drop(stream.expect("new connections are taken"));
    // What makes no sense ends no start, and stands in nobody's way.
    director.stop(Signal::SIGTERM);
    fs::write(&file, "nonsense").unwrap();
    director.start_again();
    let log = director.get().log();
    assert!(log.contains("connections of the director before"), "{log}");
    assert!(!file.exists());
}
