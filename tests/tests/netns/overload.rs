//! More than somebody can take is lost in silence.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use uvs_lab::Host;
use uvs_lab::director::Decapsulator;
use uvs_lab::topology::{Method, Plan};

use crate::stage::{Stage, eventually, turn, uvs};

/// Datagrams at a time, fewer than the queue of a TAP holds.
const BURST: usize = 100;

#[test]
fn a_realserver_that_is_behind_refuses_nothing() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::with(Method::Tunnel, &Plan { real_servers: 1, ..Plan::default() });
    // In the kernel nobody can be behind.
    stage.decapsulators.clear();
    let in_userspace = ["--decapsulate", "userspace"];
    let behind = Decapsulator::start_with(&stage.topology.real_servers[0], &uvs(), &in_userspace).unwrap();
    stage.decapsulators.push(behind);
    stage.decapsulators[0].process().signal(Signal::SIGSTOP).unwrap();
    let (service, server) = (stage.topology.service, stage.topology.real_servers[0].host.clone());
    let socket = stage.client().run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.connect(service).unwrap();
    // A connected socket hears of ICMP errors with what it does next.
    let burst = || {
        for _ in 0..BURST {
            socket.send(&[0; 1000]).expect("nobody refuses a datagram");
        }
        thread::sleep(Duration::from_millis(5));
    };
    eventually("the receive buffer of `uvs realserver` is full", || {
        burst();
        (drops(&server) > 0).then_some(())
    });
    for _ in 0..10 {
        burst();
    }
    assert_eq!(socket.take_error().unwrap().map(|error| error.to_string()), None);
    stage.decapsulators[0].process().signal(Signal::SIGCONT).unwrap();
}

/// Packets that raw sockets of a host had no room for: the last column of /proc/net/raw.
fn drops(host: &Host) -> u64 {
    let table = host.run(|| fs::read_to_string("/proc/thread-self/net/raw")).unwrap().unwrap();
    table.lines().skip(1).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
