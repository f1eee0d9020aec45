//! One real server behind two services, and a client that uses one port for both: replies carry the same addresses and
//! ports, and belong to the connection that began last.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use common::*;
use uvs_director::Duration;
use uvs_director::spec::*;

const SERVER: &str = "192.168.10.11:8080";

/// Services on VIP:80 and VIP:81, with the same server.
fn bench(protocol: Protocol) -> Bench {
    let bench = Bench::new();
    for port in [80, 81] {
        let key = ServiceKey::new(protocol, std::net::SocketAddr::new(VIP.into(), port));
        bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
        let spec = DestinationSpec::new(SERVER.parse().unwrap(), Forwarding::Nat);
        bench.apply(Change::AddDestination(key, spec));
    }
    bench
}

fn compat(bench: &Bench) {
    let options = Options { compat_ipvs: true, ..bench.director.options() };
    bench.apply(Change::SetOptions(options));
}

fn from_client(bench: &Bench, client: u16, service: u16, flags: &str) {
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, client), (VIP, service), flags, b""));
}

/// Which of the two the server's segment is said to come from.
fn from_server(bench: &Bench, client: u16, flags: &str) -> u16 {
    read(&bench.pass(SERVER_SIDE, &tcp((RS1, 8080), (CLIENT, client), flags, b"")).1).from.1
}

/// A connection that both sides have closed.
fn closed(bench: &Bench, client: u16, service: u16) {
    from_client(bench, client, service, "S");
    from_server(bench, client, "SA");
    from_client(bench, client, service, "A");
    from_client(bench, client, service, "FA");
    from_server(bench, client, "FA");
    from_client(bench, client, service, "A");
}

/// The services of all connections, and their states.
fn services(bench: &Bench) -> Vec<(u16, &'static str)> {
    let mut all: Vec<_> = bench.connections().iter().map(|c| (c.virtual_addr.port(), c.state)).collect();
    all.sort_unstable();
    all
}

#[test]
fn the_newest_connection_is_answered_and_the_older_one_that_is_over_ends() {
    let bench = bench(Protocol::Tcp);
    for client in 1000..2000 {
        closed(&bench, client, 80);
        from_client(&bench, client, 81, "S");
        assert_eq!(from_server(&bench, client, "SA"), 81, "client port {client}");
    }
    assert!(services(&bench).iter().all(|it| *it == (81, "SYN_RECV")), "those that were over ended");
    assert_eq!(bench.director.status().connections, 1000);
}

#[test]
fn in_compatibility_the_older_one_stays_and_answers_again_when_the_newer_one_is_gone() {
    let mut bench = bench(Protocol::Tcp);
    compat(&bench);
    for client in 1000..1100 {
        closed(&bench, client, 80);
        from_client(&bench, client, 81, "S");
        assert_eq!(from_server(&bench, client, "SA"), 81, "client port {client}");
    }
    assert_eq!(services(&bench).len(), 200);
    for client in 1000..1100 {
        from_client(&bench, client, 81, "R");
        from_server(&bench, client, "R");
    }
    bench.advance(Duration::from_secs(15));
    assert_eq!(services(&bench).len(), 100);
    assert_eq!(from_server(&bench, 1000, "FA"), 80);
}

#[test]
fn a_live_connection_stays_when_another_takes_its_answers() {
    let bench = bench(Protocol::Tcp);
    from_client(&bench, 1000, 80, "S");
    from_server(&bench, 1000, "SA");
    from_client(&bench, 1000, 80, "A");
    from_client(&bench, 1000, 81, "S");
    assert_eq!(from_server(&bench, 1000, "SA"), 81);
    assert_eq!(services(&bench), [(80, "ESTABLISHED"), (81, "SYN_RECV")]);
}

#[test]
fn a_connection_that_begins_again_is_the_newest() {
    let bench = bench(Protocol::Tcp);
    from_client(&bench, 1000, 80, "S");
    from_server(&bench, 1000, "SA");
    from_client(&bench, 1000, 80, "A");
    // Half closed, so that it is not ended by the other.
    from_server(&bench, 1000, "FA");
    from_client(&bench, 1000, 81, "S");
    assert_eq!(from_server(&bench, 1000, "R"), 81);
    from_client(&bench, 1000, 80, "S");
    assert_eq!(from_server(&bench, 1000, "SA"), 80);
}

#[test]
fn datagrams_are_answered_by_the_newest_connection() {
    let bench = bench(Protocol::Udp);
    for client in 1000..1100 {
        for service in [80, 81] {
            bench.pass(CLIENT_SIDE, &udp((CLIENT, client), (VIP, service), b"?"));
            let reply = bench.pass(SERVER_SIDE, &udp((RS1, 8080), (CLIENT, client), b"!"));
            assert_eq!(read(&reply.1).from.1, service, "client port {client}");
        }
    }
}

/// An index holds 336 entries that share their replies.
#[test]
fn a_server_of_many_services_takes_a_client_that_asks_all_of_them_from_one_port() {
    let bench = Bench::new();
    let services = 100..500;
    for port in services.clone() {
        let key = ServiceKey::new(Protocol::Tcp, std::net::SocketAddr::new(VIP.into(), port));
        bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
        let spec = DestinationSpec::new(SERVER.parse().unwrap(), Forwarding::Nat);
        bench.apply(Change::AddDestination(key, spec));
    }
    for port in services.clone() {
        from_client(&bench, 4000, port, "S");
        assert_eq!(from_server(&bench, 4000, "SA"), port, "the newest is answered");
    }
    let left = services_of(&bench);
    assert_eq!(left, (500 - 336..500).collect::<Vec<_>>(), "those that came first have made room");
    let listed: u32 =
        bench.director.services().iter().flat_map(|s| &s.destinations).map(|d| d.active + d.inactive).sum();
    assert_eq!(listed, 336, "and are counted no more");
}

fn services_of(bench: &Bench) -> Vec<u16> {
    services(bench).into_iter().map(|(port, _)| port).collect()
}
