//! `uvs probe`: from the director's own addresses, straight and the way that clients' packets take.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use uvs_control::probe::{Kind, Request, Verdict};
use uvs_control::{Answer, Client};
use uvs_lab::Host;
use uvs_lab::topology::Method;

use crate::peer::Peer;
use crate::stage::{Running, SOON, Stage, turn};

/// What [`Peer`] takes for a connection that is echoed: it says its name then.
pub(crate) const ECHO: &str = "\u{1}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A probe and what came of it.
pub(crate) fn ask(running: &Running, request: Request) -> (Verdict, String) {
    let mut client = Client::connect(running.get().socket(), Duration::from_secs(10)).unwrap();
    match client.ask(&uvs_control::Request::Probe(request)).unwrap() {
        Answer::Probe(answer) => (answer.verdict, answer.text),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn request(kind: Kind, target: SocketAddr, via: Option<SocketAddr>) -> Request {
    let (send, expect) = match kind {
        // The server has to answer, with its name.
        Kind::Tcp => (Some(ECHO.to_owned()), Some("rs".to_owned())),
        Kind::Udp => (Some("who is there?".to_owned()), None),
        _ => (None, None),
    };
    Request { via, send, expect, ..Request::new(kind, target, 3000) }
}

/// Probes that pass: by way of the service's destination over TCP and UDP, with data both ways. `straight`: what the
/// real server's own address answers on, if anything.
pub(crate) fn passes(running: &Running, vip: SocketAddr, via: SocketAddr, straight: Option<SocketAddr>) {
    let before = running.metric("uvs_packets_total", &[]);
    let entries = running.metric("uvs_connection_entries", &[]);
    for kind in [Kind::Tcp, Kind::Udp] {
        let (verdict, text) = ask(running, request(kind, vip, Some(via)));
        assert_eq!(verdict, Verdict::Pass, "{kind:?} {vip} via {via}: {text}");
        if let Some(straight) = straight {
            let (verdict, text) = ask(running, request(kind, straight, None));
            assert_eq!(verdict, Verdict::Pass, "{kind:?} {straight}: {text}");
        }
    }
    pings(running, via.ip());
    // Neither counted nor kept as a connection of a client.
    assert_eq!(running.metric("uvs_packets_total", &[]), before);
    assert!(running.metric("uvs_connection_entries", &[]) <= entries);
    assert_eq!(running.metric("uvs_host_sockets", &[]), 0, "all ports were given back");
}

/// A probe that passes while the service is busy.
pub(crate) fn passes_beside(running: &Running, vip: SocketAddr, via: SocketAddr) {
    for kind in [Kind::Tcp, Kind::Udp] {
        let (verdict, text) = ask(running, request(kind, vip, Some(via)));
        assert_eq!(verdict, Verdict::Pass, "{kind:?} {vip} via {via} beside a stream: {text}");
    }
}

fn pings(running: &Running, to: IpAddr) {
    let (verdict, text) = ask(running, request(Kind::Ping, SocketAddr::new(to, 0), None));
    assert_eq!(verdict, Verdict::Pass, "ping {to}: {text}");
}

fn without_vip(host: &Host, vip: IpAddr) {
    let mut command = Command::new("ip");
    command.args(["address", "del", &format!("{vip}/32"), "dev", "lo"]);
    let status = host.exec(command).unwrap().wait(SOON).unwrap();
    assert!(status.success(), "{status}");
}

/// A real server that has lost the VIP on its lo answers for itself and not for its clients: only what goes their way
/// sees it.
#[test]
fn a_server_that_lost_its_vip_is_found_by_way_of_the_service_alone() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Direct);
    let server = stage.topology.real_servers[0].host.clone();
    let (vip, rip) = (stage.topology.service, stage.topology.real_servers[0].address);
    let straight = SocketAddr::from((rip, vip.port()));
    let _own = Peer::start(&server, straight);
    let tcp = |running: &Running, via| {
        let target = if via { vip } else { straight };
        ask(running, Request { timeout_ms: 800, ..request(Kind::Tcp, target, via.then_some(straight)) })
    };
    for via in [false, true] {
        let (verdict, text) = tcp(stage.director(), via);
        assert_eq!(verdict, Verdict::Pass, "{text}");
    }
    without_vip(&server, vip.ip());
    let (verdict, text) = tcp(stage.director(), false);
    assert_eq!(verdict, Verdict::Pass, "it answers for itself: {text}");
    let (verdict, text) = tcp(stage.director(), true);
    assert_eq!(verdict, Verdict::Fail, "{text}");
    // The others are as they were.
    let other = SocketAddr::from((stage.topology.real_servers[1].address, vip.port()));
    let (verdict, text) = ask(stage.director(), request(Kind::Tcp, vip, Some(other)));
    assert_eq!(verdict, Verdict::Pass, "{text}");
}

/// So is one behind a tunnel whose decapsulator has died.
#[test]
fn a_server_without_its_decapsulator_is_found_by_way_of_the_service() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Tunnel);
    let (vip, rip) = (stage.topology.service, stage.topology.real_servers[0].address);
    let via = Some(SocketAddr::from((rip, vip.port())));
    let tcp = |running: &Running| ask(running, Request { timeout_ms: 800, ..request(Kind::Tcp, vip, via) });
    let (verdict, text) = tcp(stage.director());
    assert_eq!(verdict, Verdict::Pass, "{text}");
    drop(stage.decapsulators.remove(0));
    let (verdict, text) = tcp(stage.director());
    assert_eq!(verdict, Verdict::Fail, "{text}");
    pings(stage.director(), rip.into());
}

/// What is wrong is said at once where somebody says it: a refusal, no route, no host, no such destination.
#[test]
fn a_probe_says_what_is_wrong() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let vip = stage.topology.service;
    let rip = stage.topology.real_servers[0].address;
    let running = stage.director();
    let cases = [
        (SocketAddr::from((rip, 9)), None, Verdict::Fail, "refused"),
        ("192.168.10.77:80".parse().unwrap(), None, Verdict::Fail, "host unreachable"),
        ("203.0.113.9:80".parse().unwrap(), None, Verdict::Unmade, "no route"),
        (vip, None, Verdict::Unmade, "address of the director itself"),
        (vip, Some("192.168.10.99:8080".parse().unwrap()), Verdict::Unmade, "no destination"),
    ];
    for (target, via, want, part) in cases {
        let request = Request { timeout_ms: 10_000, ..request(Kind::Tcp, target, via) };
        let (verdict, text) = ask(running, request);
        assert_eq!(verdict, want, "{target} via {via:?}: {text}");
        assert!(text.contains(part), "{target} via {via:?}: {text}");
    }
}
