//! What a dry run says of a client's first packet is what then becomes of it, and it moves nothing.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::*;
use uvs_director::spec::*;
use uvs_director::trace::{End, Filter};
use uvs_director::view::{Caching, CaughtBy, Origin, Outlook};
use uvs_director::{DropReason, Duration, Verdict};

/// How a bench is set up.
type SetUp = fn(&Bench);
/// An address and a port.
type At = (Ipv4Addr, u16);

fn mark_service(bench: &Bench) {
    let key = ServiceKey::Mark { mark: 7, family: Family::V4 };
    bench.apply(Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
    let spec = DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Direct);
    bench.apply(Change::AddDestination(key, spec));
    bench.apply(Change::SetMarks(vec![MarkRule {
        destination: Some("10.0.0.100/32".parse().unwrap()),
        ..MarkRule::new(7)
    }]));
}

fn weightless(bench: &Bench) {
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    bench.apply(Change::SetWeight(key, "192.168.10.11:80".parse().unwrap(), 0));
}

fn overloaded(bench: &Bench) {
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &[]);
    let addr = "192.168.10.11:80".parse().unwrap();
    let spec = DestinationSpec { upper_threshold: 1, ..DestinationSpec::new(addr, Forwarding::Nat) };
    bench.apply(Change::AddDestination(key, spec));
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1), (VIP, 80), "S", b""));
}

fn persistent(bench: &Bench) {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIP.into(), 80));
    let persistence = Persistence { timeout: Duration::from_secs(300), prefix_len: 24, engine: None };
    let spec =
        ServiceSpec { persistence: Some(persistence), ..ServiceSpec::new(key, SchedulerSpec::named("wlc")) };
    bench.apply(Change::AddService(spec));
    for server in ["192.168.10.11:80", "192.168.10.12:80"] {
        bench.apply(Change::AddDestination(
            key,
            DestinationSpec::new(server.parse().unwrap(), Forwarding::Nat),
        ));
    }
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1), (VIP, 80), "S", b""));
}

#[test]
fn what_is_foreseen_is_what_happens() {
    let tcp_service: SetUp = |bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    };
    let known: SetUp = |bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 80), "S", b""));
    };
    let local: SetUp = |bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.1:80"]);
    };
    let unreachable: SetUp = |bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &["172.16.0.1:80"]);
    };
    let tunnel: SetUp = |bench| {
        bench.service(Protocol::Tcp, Forwarding::Tunnel(Tunnel::Ipip), &["192.168.10.11:80"]);
    };
    let no_transit: SetUp = |bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
        bench.apply(Change::SetOptions(Options { transit: Transit::None, ..Options::default() }));
    };
    let nothing: SetUp = |_| {};
    let client = (CLIENT, 4000);
    let cases: &[(&str, SetUp, At, At)] = &[
        ("a service takes it", tcp_service, client, (VIP, 80)),
        ("in a tunnel", tunnel, client, (VIP, 80)),
        ("no service on that port", tcp_service, client, (VIP, 81)),
        ("no service at all", nothing, client, (VIP, 80)),
        ("by a mark", mark_service, client, (VIP, 8080)),
        ("all weights are 0", weightless, client, (VIP, 80)),
        ("all are overloaded", overloaded, client, (VIP, 80)),
        ("a template", persistent, client, (VIP, 80)),
        ("a template of its network", persistent, (Ipv4Addr::new(10, 0, 0, 77), 5), (VIP, 80)),
        ("a connection that is there", known, client, (VIP, 80)),
        ("a destination of our own", local, client, (VIP, 80)),
        ("no route to the destination", unreachable, client, (VIP, 80)),
        ("to a server", tcp_service, client, (RS1, 80)),
        ("to nobody", tcp_service, client, (Ipv4Addr::new(9, 9, 9, 9), 80)),
        ("to a station of the link", no_transit, client, (Ipv4Addr::new(10, 0, 0, 9), 80)),
        ("to all", tcp_service, client, (Ipv4Addr::new(10, 0, 0, 255), 80)),
        ("to a group", tcp_service, client, (Ipv4Addr::new(224, 0, 0, 1), 80)),
        ("from ourselves", tcp_service, (DIP, 4000), (VIP, 80)),
    ];
    for (name, set_up, from, to) in cases {
        let bench = Bench::new();
        set_up(&bench);
        foretold(name, bench, *from, *to);
    }
}

#[test]
fn a_full_table_that_nothing_leaves_is_foreseen() {
    let full = |set_up: SetUp, connections| {
        let limits = Limits { connections, evict: Evict::None, ..Limits::default() };
        let bench = Bench::with_limits(limits);
        set_up(&bench);
        bench
    };
    let one: SetUp = |bench| {
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 1), (VIP, 80), "S", b""));
    };
    let client = (CLIENT, 4000);
    for (name, bench, dropped) in [
        ("there is room for one more", full(one, 2), false),
        ("there is none", full(one, 1), true),
        ("there is none for what a template places", full(persistent, 2), true),
    ] {
        let outlook = foretold(name, bench, client, (VIP, 80));
        assert_eq!(outlook == Outlook::Dropped(DropReason::ConnectionLimit), dropped, "{name}: {outlook:?}");
    }
}

/// Compares what is foreseen of a SYN with what then becomes of it.
fn foretold(name: &str, bench: Bench, from: At, to: At) -> Outlook {
    let before = (bench.director.status().total, bench.connections().len());
    let [client, asked_for] = [from, to].map(|it| SocketAddr::new(it.0.into(), it.1));
    let port = Some(CLIENT_SIDE);
    let prospect = bench.director.prospect(Protocol::Tcp, client, asked_for, port, bench.now);
    let after = (bench.director.status().total, bench.connections().len());
    assert_eq!(before, after, "{name}: nothing has moved");
    let (verdict, sent) = bench.send(CLIENT_SIDE, &tcp(from, to, "S", b""));
    let goes_to = || {
        let all = bench.connections();
        all.iter().find(|it| it.client == client && !it.template).map(|it| it.destination)
    };
    match prospect.outlook {
        Outlook::Dropped(reason) => assert_eq!(verdict, Verdict::Drop(reason), "{name}"),
        Outlook::Refused(reason) => {
            assert_eq!(verdict, Verdict::Drop(reason), "{name}");
            assert_eq!(sent.len(), 1, "{name}: the client is told");
        }
        Outlook::Known(addr) | Outlook::Template(addr) => assert_eq!(goes_to(), Some(addr), "{name}"),
        Outlook::Scheduled => {
            let addr = goes_to().unwrap();
            let choice = prospect.choices.iter().find(|it| it.addr == addr).expect("one of them");
            match choice.way {
                Ok(way) => assert_eq!(verdict, Verdict::Transmit(way.port), "{name}"),
                Err(reason) => assert_eq!(verdict, Verdict::Drop(reason), "{name}"),
            }
        }
        Outlook::Passes => assert!(!matches!(verdict, Verdict::Drop(_)), "{name}: {verdict:?}"),
    }
    prospect.outlook
}

#[test]
fn it_is_said_what_a_service_caught_a_packet_by() {
    let bench = Bench::new();
    mark_service(&bench);
    let [client, asked_for] = ["10.0.0.2:4000", "10.0.0.100:8080"].map(|it| it.parse().unwrap());
    let prospect = bench.director.prospect(Protocol::Tcp, client, asked_for, None, bench.now);
    assert_eq!((prospect.port, prospect.mark), (Some(CLIENT_SIDE), 7), "where the way back leads");
    assert_eq!((prospect.caught_by, prospect.outlook), (Some(CaughtBy::Mark), Outlook::Scheduled));
    let stranger: SocketAddr = "203.0.113.9:1".parse().unwrap();
    let prospect = bench.director.prospect(Protocol::Tcp, stranger, asked_for, None, bench.now);
    assert_eq!(prospect.outlook, Outlook::Dropped(DropReason::NoRoute), "no way to it");
}

#[test]
fn connections_are_found_by_any_of_their_ends() {
    let bench = Bench::new();
    persistent(&bench);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 2), (VIP, 80), "S", b""));
    let end = |text: &str| match text.parse::<SocketAddr>() {
        Ok(addr) => Some(End { net: Prefix::host(addr.ip()), port: Some(addr.port()) }),
        Err(_) => text.parse().ok().map(|addr| End { net: Prefix::host(addr), port: None }),
    };
    let find = |client: &str, vip: &str, destination: &str, most| {
        let filter = Filter { client: end(client), virtual_addr: end(vip), destination: end(destination) };
        let (found, total) = bench.director.explain(&filter, None, most, bench.now);
        (found.len(), total)
    };
    assert_eq!(find("10.0.0.2:1", "", "", 10), (1, 1));
    assert_eq!(find("10.0.0.2", "", "", 10), (2, 2));
    assert_eq!(find("", "10.0.0.100:80", "", 1), (1, 3), "no more than asked for; the template is one");
    assert_eq!(find("10.0.0.2", "10.0.0.101", "", 10), (0, 0));
    let filter = Filter { client: end("10.0.0.2:1"), ..Filter::default() };
    let (found, _) = bench.director.explain(&filter, Some(Protocol::Tcp), 10, bench.now);
    let facts = found[0];
    assert_eq!((facts.origin, facts.controlled), (Origin::Template, Some(2)));
    assert_eq!((facts.caching, facts.packets_in, facts.standing), (Caching::Off, 1, "available"));
    assert!(facts.sees_answers && !facts.answered);
    let (there, back) = bench.director.ways_of(&facts, bench.now);
    assert_eq!(there.unwrap().port, SERVER_SIDE);
    assert_eq!(back.unwrap().mac, Some(MacAddr(CLIENT_MAC)));
    assert_eq!(bench.director.explain(&filter, Some(Protocol::Udp), 10, bench.now).1, 0);
}
