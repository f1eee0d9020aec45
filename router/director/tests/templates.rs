//! Persistence templates whose destination is gone or quiesced.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::net::SocketAddr;
use std::sync::mpsc;

use common::*;
use uvs_director::spec::*;
use uvs_director::{Duration, Verdict};

fn persistent(bench: &Bench, port: u16, destinations: &[&str]) -> ServiceKey {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), port));
    let persistence = Persistence { timeout: Duration::from_secs(360), prefix_len: 32, engine: None };
    let spec = ServiceSpec::new(key, SchedulerSpec::named("wlc"));
    bench.apply(Change::AddService(ServiceSpec { persistence: Some(persistence), ..spec }));
    for destination in destinations {
        let spec = DestinationSpec::new(destination.parse().unwrap(), Forwarding::Nat);
        bench.apply(Change::AddDestination(key, spec));
    }
    key
}

/// The templates as listings show them: VIP's port, and the destination.
fn templates(bench: &Bench) -> Vec<(u16, SocketAddr)> {
    let all = bench.connections().into_iter().filter(|connection| connection.template);
    all.map(|template| (template.virtual_addr.port(), template.destination)).collect()
}

/// Ends the test where the director does not answer, which would hang it otherwise.
fn within_seconds(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let test = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    match ended.recv_timeout(std::time::Duration::from_secs(20)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a packet is still being handled"),
        _ => test.join().unwrap(),
    }
}

#[test]
fn a_template_whose_destination_went_is_given_up_whatever_port_the_service_has() {
    for port in [80, 65535] {
        within_seconds(move || {
            let bench = Bench::new();
            let key = persistent(&bench, port, &["192.168.10.11:8080", "192.168.10.12:8080"]);
            let syn = |from: u16| tcp((CLIENT, from), (VIP, port), "S", b"");
            let (_, first) = bench.pass(CLIENT_SIDE, &syn(1000));
            let gone = SocketAddr::new(read(&first).to.0, 8080);
            bench.apply(Change::RemoveDestination(key, gone));
            let (_, second) = bench.pass(CLIENT_SIDE, &syn(1001));
            assert_ne!(read(&second).to.0, read(&first).to.0, "port {port}");
            let (_, third) = bench.pass(CLIENT_SIDE, &syn(1002));
            assert_eq!(read(&third).to.0, read(&second).to.0, "the new template places, port {port}");
        });
    }
}

#[test]
fn listings_show_an_invalid_template_as_the_kernel_does() {
    for port in [80, 65535] {
        let bench = Bench::new();
        let key = persistent(&bench, port, &["192.168.10.11:8080"]);
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1000), (VIP, port), "S", b""));
        bench.apply(Change::RemoveDestination(key, "192.168.10.11:8080".parse().unwrap()));
        bench.send(CLIENT_SIDE, &tcp((CLIENT, 1001), (VIP, port), "S", b""));
        let destination_port = if port == 65535 { 8080 } else { 65535 };
        assert_eq!(templates(&bench), [(65535, SocketAddr::new(RS1.into(), destination_port))]);
    }
}

#[test]
fn a_flapping_destination_leaves_any_number_of_invalid_templates_and_serves_on() {
    let bench = Bench::new();
    bench.apply(Change::SetOptions(Options { expire_quiescent_template: true, ..Options::default() }));
    let key = persistent(&bench, 80, &["192.168.10.11:8080", "192.168.10.12:8080"]);
    let mut previous = None;
    // One segment of the index has room for 336 entries of one key.
    for n in 0..400_u16 {
        let (_, frame) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1000 + n), (VIP, 80), "S", b""));
        let now = SocketAddr::new(read(&frame).to.0, 8080);
        assert_ne!(Some(now), previous, "the quiesced one gets nothing");
        let weigh = |addr, weight| {
            let spec = DestinationSpec { weight, ..DestinationSpec::new(addr, Forwarding::Nat) };
            bench.apply(Change::EditDestination(key, spec));
        };
        if let Some(previous) = previous {
            weigh(previous, 1);
        }
        weigh(now, 0);
        previous = Some(now);
    }
    assert_eq!(templates(&bench).len(), 400);
    let (verdict, _) = bench.send(CLIENT_SIDE, &tcp((CLIENT, 1000), (VIP, 80), "A", b""));
    assert!(matches!(verdict, Verdict::Transmit(_)));
}
