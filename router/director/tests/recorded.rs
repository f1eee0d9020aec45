//! Recordings of the kernel's IPVS that need more of the engine than its forwarding: every frame out, and the
//! connection list after each.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::*;
use uvs_director::view::{ConnectionProtocol, ConnectionView};
use uvs_director::{Director, Duration, Frame, Instant, Outbox, PortId, Verdict};

const CLIENT_SIDE: PortId = PortId(0);
const SERVER_SIDE: PortId = PortId(1);

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn hex(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => format!("{:08X}", addr.to_bits()),
        IpAddr::V6(addr) => format!("{:032X}", addr.to_bits()),
    }
}

/// A line of `/proc/net/ip_vs_conn` without the seconds left, and these.
fn line(view: &ConnectionView) -> (String, u64) {
    let protocol = match view.protocol {
        ConnectionProtocol::Transport(Protocol::Tcp) => "TCP",
        ConnectionProtocol::Transport(Protocol::Udp) => "UDP",
        ConnectionProtocol::Transport(Protocol::Sctp) => "SCTP",
        ConnectionProtocol::Ip => "IP",
    };
    let [from, to, destination] = [view.client, view.virtual_addr, view.destination]
        .map(|a| format!("{} {:04X}", hex(a.ip()), a.port()));
    (format!("{protocol} {from} {to} {destination} {}", view.state), view.expires_in.as_secs())
}

fn director() -> Director {
    let director = Director::new(Limits::default(), 1, Arc::new(NativeOnly));
    let interface = |port, name: &str, mac, addresses: &[&str]| InterfaceSpec {
        port,
        name: name.into(),
        link: Link::Ethernet(MacAddr(mac)),
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        source_check: SourceCheck::Loose,
    };
    let change = Change::SetNetwork {
        interfaces: vec![
            interface(CLIENT_SIDE, "ethc", [2, 0, 0, 0, 0, 1], &["10.0.0.1/24", "10.0.0.100/32"]),
            interface(SERVER_SIDE, "ethr", [2, 0, 0, 0, 1, 1], &["192.168.10.1/24"]),
        ],
        routes: vec![RouteSpec {
            to: "10.1.0.0/16".parse().unwrap(),
            via: Some("10.0.0.254".parse().unwrap()),
            port: CLIENT_SIDE,
        }],
    };
    let neighbor = |port, addr: &str, mac| Change::SetNeighbor { port, addr: addr.parse().unwrap(), mac };
    let changes = [
        change,
        neighbor(CLIENT_SIDE, "10.0.0.254", MacAddr([2, 0, 0, 0, 0, 0xfe])),
        neighbor(SERVER_SIDE, "192.168.10.11", MacAddr([2, 0, 0, 0, 1, 0x11])),
        Change::SetOptions(Options { compat_ipvs: true, ftp: true, ..Options::default() }),
    ];
    for change in changes {
        director.apply(change, Instant::from_secs(0)).unwrap();
    }
    director
}

/// Adds a service with one destination by NAT.
fn serve(director: &Director, service: ServiceSpec, destination: &str) {
    let key = service.key;
    let destination = DestinationSpec::new(destination.parse().unwrap(), Forwarding::Nat);
    for change in [Change::AddService(service), Change::AddDestination(key, destination)] {
        director.apply(change, Instant::from_secs(0)).unwrap();
    }
}

/// Plays the packets of a recording and compares all that comes of each.
fn replay(director: &Director, name: &str) -> usize {
    let path = format!("{}/../../tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recording is there");
    let json: Value = serde_json::from_str(&text).unwrap();
    let mut packets = 0;
    for step in json["steps"].as_array().unwrap().iter().filter(|step| step["in"].is_object()) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds since the start")]
        let now = Instant::from_millis((step["t"].as_f64().unwrap() * 1000.0) as u64);
        let mut out = Outbox::new();
        director.handle_timeout(now, &mut out);
        let note = &step["in"]["note"];
        let port = if step["in"]["side"] == "client" { CLIENT_SIDE } else { SERVER_SIDE };
        let mut frame = Frame::from_bytes(&bytes(step["in"]["hex"].as_str().unwrap()));
        let verdict = director.handle(port, &mut frame, now, &mut out);
        let mut sent = Vec::new();
        if let Verdict::Transmit(port) = verdict {
            sent.push((port, frame.bytes().to_vec()));
        }
        sent.extend(out.drain().map(|(port, frame)| (port, frame.bytes().to_vec())));
        let wanted = step["out"].as_array().unwrap().iter().map(|out| {
            let port = if out["side"] == "client" { CLIENT_SIDE } else { SERVER_SIDE };
            (port, bytes(out["hex"].as_str().unwrap()))
        });
        assert_eq!(sent, wanted.collect::<Vec<_>>(), "{name}, {note}: verdict {verdict:?}");

        let mut lines: Vec<_> = director.connections(now).iter().map(line).collect();
        lines.sort();
        let mut wanted: Vec<_> = step["conns"].as_array().unwrap().iter().map(recorded_line).collect();
        wanted.sort();
        assert_eq!(lines.len(), wanted.len(), "{name}, {note}: {lines:?}");
        for ((got, left), (want, want_left)) in lines.iter().zip(&wanted) {
            assert_eq!(got, want, "{name}, {note}");
            assert!(left.abs_diff(*want_left) <= 2, "{name}, {note}: {got} for {left}, not {want_left} s");
        }
        packets += 1;
    }
    packets
}

fn recorded_line(value: &Value) -> (String, u64) {
    let mut words: Vec<&str> = value.as_str().unwrap().split_whitespace().collect();
    let left = words.pop().unwrap().parse().unwrap();
    (words.join(" "), left)
}

#[test]
fn sctp_through_nat() {
    let director = director();
    let key = ServiceKey::new(Protocol::Sctp, "10.0.0.100:9".parse().unwrap());
    serve(&director, ServiceSpec::new(key, SchedulerSpec::named("wlc")), "192.168.10.11:99");
    assert_eq!(replay(&director, "sctp_nat"), 12);
    let destination = &director.services()[0].destinations[0];
    assert_eq!((destination.active, destination.inactive), (0, 1));
}

#[test]
fn ftp_through_nat() {
    let director = director();
    let key = ServiceKey::new(Protocol::Tcp, "10.0.0.100:21".parse().unwrap());
    let persistence = Persistence { timeout: Duration::from_secs(300), prefix_len: 32, engine: None };
    let spec =
        ServiceSpec { persistence: Some(persistence), ..ServiceSpec::new(key, SchedulerSpec::named("wlc")) };
    serve(&director, spec, "192.168.10.11:21");
    assert_eq!(replay(&director, "ftp_nat"), 10);
    let destination = &director.services()[0].destinations[0];
    assert_eq!((destination.active, destination.inactive, destination.persistent), (2, 1, 1));
}
