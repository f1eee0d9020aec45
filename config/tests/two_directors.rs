//! `examples/two-directors.toml` does what it says: what the other director sends is not balanced again.

use std::path::Path;
use std::sync::Arc;

use etherparse::{PacketBuilder, SlicedPacket};
use uvs_config::Config;
use uvs_director::scheduler::{Scheduler, SchedulerFactory, Wlc};
use uvs_director::spec::{Change, SchedulerSpec};
use uvs_director::{Director, Frame, Instant, Outbox, PortId, Verdict};

const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0x0a, 1];
const OTHER_DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0x0a, 2];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const REALSERVER: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

struct Native;

impl SchedulerFactory for Native {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        Ok(Box::new(Wlc::default()))
    }
}

fn director(rule: impl Fn(String) -> String) -> Director {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/two-directors.toml");
    let text = rule(std::fs::read_to_string(&path).expect("the example is there"));
    let config = Config::parse(&text, &path).unwrap_or_else(|problems| panic!("{problems}"));
    let director = Director::new(config.limits, 1, Arc::new(Native));
    let port = PortId(0);
    let neighbor = |addr: &str, mac| Change::SetNeighbor {
        port,
        addr: addr.parse().expect("an address"),
        mac: uvs_director::spec::MacAddr(mac),
    };
    let known = [
        neighbor("192.168.10.11", REALSERVER),
        neighbor("192.168.10.2", OTHER_DIRECTOR),
        neighbor("192.168.10.254", ROUTER),
    ];
    for change in Config::diff(None, &config).into_iter().chain(known) {
        director.apply(change, Instant::ZERO).expect("taken");
    }
    director
}

/// The station that a client's SYN to the VIP goes on to.
fn next_station(director: &Director, from: [u8; 6], client_port: u16, port: u16) -> [u8; 6] {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(from, DIRECTOR)
        .ipv4([203, 0, 113, 5], [10, 9, 9, 9], 64)
        .tcp(client_port, port, 1000, 64000)
        .syn()
        .write(&mut bytes, &[])
        .expect("written");
    let mut frame = Frame::from_bytes(&bytes);
    let verdict = director.handle(PortId(0), &mut frame, Instant::ZERO, &mut Outbox::new());
    assert_eq!(verdict, Verdict::Transmit(PortId(0)));
    let packet = SlicedPacket::from_ethernet(frame.bytes()).expect("a packet");
    let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet") };
    assert_eq!(ethernet.source(), DIRECTOR);
    ethernet.destination()
}

#[test]
fn clients_are_balanced_and_the_other_directors_share_goes_to_the_realserver() {
    let director = director(|text| text);
    let stations: Vec<[u8; 6]> =
        (5000..5004).map(|client_port| next_station(&director, ROUTER, client_port, 80)).collect();
    for station in [REALSERVER, OTHER_DIRECTOR] {
        assert_eq!(stations.iter().filter(|it| **it == station).count(), 2, "{stations:?}");
    }
    for client_port in 6000..6010 {
        assert_eq!(next_station(&director, OTHER_DIRECTOR, client_port, 80), REALSERVER, "{client_port}");
    }
    assert_eq!(director.connections(Instant::ZERO).len(), 4, "the other director's are no connections here");
    assert_eq!(next_station(&director, ROUTER, 7000, 81), REALSERVER, "a port that has no mark is routed");
}

#[test]
fn without_the_source_mac_packets_go_back_to_where_they_came_from() {
    let rule = "source_mac = \"!02:00:00:00:0a:02\"";
    let director = director(|text| {
        assert!(text.contains(rule));
        text.replace(rule, "")
    });
    let stations: Vec<[u8; 6]> =
        (6000..6004).map(|client_port| next_station(&director, OTHER_DIRECTOR, client_port, 80)).collect();
    assert!(stations.contains(&OTHER_DIRECTOR), "{stations:?}");
}
