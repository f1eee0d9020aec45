//! Random flows through the flow cache and through a director without one, side by side: the frames are the same, and
//! so are in the end the connections, their states and the counters.
//!
//! ```text
//!   [ station (TAP) -- br0 -- port ]--[ eth0 .. c0 (TAP) director r0 (TAP) .. eth1 ]--[ port -- br0 -- station (TAP) ]
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uvs_attach::{Attachments, CachePlan, OBJECT, Pair};
use uvs_device::{Device, DeviceSpec, Kind, Poller, StopHandle};
use uvs_director::flow_cache::FlowCache;
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::{
    Change, DestinationSpec, Forwarding, InterfaceSpec, Limits, Link, MacAddr, Protocol, SchedulerSpec,
    ServiceKey, ServiceSpec, SourceCheck, Tunnel,
};
use uvs_director::view::ConnectionView;
use uvs_director::{Director, Frame, Outbox, PortId, Verdict};
use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_wire::{Packet, checksum, tcp, udp};

use crate::lab::{SOON, alone, object};

const SIDES: [PortId; 2] = [PortId(0), PortId(1)];
const CARDS: [&str; 2] = ["eth0", "eth1"];
const TAPS: [&str; 2] = ["c0", "r0"];
const DIRECTOR: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 1, 1])];
const STATION: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 0x57]), MacAddr([2, 0, 0, 0, 1, 0x57])];
const VIPS: [&str; 2] = ["10.0.0.100", "fd00::100"];
/// Ports of services, and how they forward to which port.
const SERVICES: [(u16, Forwarding, u16); 4] = [
    (80, Forwarding::Nat, 8080),
    (81, Forwarding::Nat, 81),
    (82, Forwarding::Direct, 82),
    (83, Forwarding::Tunnel(Tunnel::Ipip), 83),
];
/// Tunnelled to the real servers' addresses of the other family.
const ACROSS: u16 = 84;
const FLOWS: usize = 48;
const PACKETS: usize = 1500;
const SEEDS: std::ops::Range<u64> = 0..6;

/// A small generator of the same numbers for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Both directors, and the wires of the one with a cache.
struct Pairing {
    _hosts: [Host; 3],
    stations: Vec<Device>,
    taps: Vec<Device>,
    attachments: Attachments,
    cached: Director,
    plain: Director,
    zero: Instant,
    stop: StopHandle,
}

impl Pairing {
    async fn new(hosts: [Host; 3]) -> Self {
        let open = |name: &str, mac| {
            let kind = Kind::Tap { mac };
            let spec = DeviceSpec {
                name: name.to_owned(),
                kind,
                mtu: 1500,
                queues: 1,
                offload: false,
                tunnel_gso: false,
            };
            Device::open(&spec).unwrap()
        };
        let [_, west, east] = &hosts;
        let stations = [west, east]
            .into_iter()
            .zip(STATION)
            .map(|(wire, mac)| {
                let station = wire.run(|| open("station", mac)).unwrap();
                wire.net().plug("station", "br0").unwrap();
                station
            })
            .collect();
        let taps: Vec<Device> = TAPS.iter().zip(DIRECTOR).map(|(name, mac)| open(name, mac)).collect();
        let pair = |side: usize| Pair {
            device: TAPS[side].to_owned(),
            mac: DIRECTOR[side],
            mtu: 1500,
            link: CARDS[side].to_owned(),
            port: SIDES[side],
            cached: true,
        };
        let (zero, plan) = (Instant::now(), CachePlan::new(1000, uvs_director::Instant::ZERO));
        let attachments =
            Attachments::with_object(vec![pair(0), pair(1)], Some(plan), &object("attach.bpf.o", OBJECT))
                .await
                .unwrap();
        let cache = Arc::clone(attachments.cache().unwrap()) as Arc<dyn FlowCache>;
        let director = || Director::new(Limits::default(), 7, Arc::new(NativeOnly));
        let (cached, plain) = (director().with_flow_cache(cache), director());
        let stop = StopHandle::new().unwrap();
        let pairing = Self { _hosts: hosts, stations, taps, attachments, cached, plain, zero, stop };
        pairing.configure();
        pairing
    }

    fn now(&self) -> uvs_director::Instant {
        uvs_director::Instant::ZERO + self.zero.elapsed()
    }

    fn apply(&self, change: &Change) {
        for director in [&self.cached, &self.plain] {
            director.apply(change.clone(), self.now()).unwrap();
        }
    }

    fn configure(&self) {
        let interface = |side: usize, addresses: [&str; 2], vips: &[&str]| InterfaceSpec {
            port: SIDES[side],
            name: TAPS[side].to_owned(),
            link: Link::Ethernet(DIRECTOR[side]),
            mtu: 1500,
            addresses: addresses.iter().chain(vips).map(|text| text.parse().unwrap()).collect(),
            source_check: SourceCheck::Loose,
        };
        self.apply(&Change::SetNetwork {
            interfaces: vec![
                interface(0, ["10.0.0.1/24", "fd00::1/64"], &["10.0.0.100/32", "fd00::100/128"]),
                interface(1, ["192.168.10.1/24", "fd01::1/64"], &[]),
            ],
            routes: vec![],
        });
        for host in 2..10 {
            for (side, addr) in [(0, format!("10.0.0.{host}")), (0, format!("fd00::{host}"))] {
                self.neighbor(side, &addr);
            }
        }
        for server in ["192.168.10.11", "192.168.10.12", "fd01::11", "fd01::12"] {
            self.neighbor(1, server);
        }
        for (family, vip) in VIPS.iter().enumerate() {
            let servers = [["192.168.10.11", "192.168.10.12"], ["fd01::11", "fd01::12"]];
            for (port, forwarding, real_port) in SERVICES {
                self.service(vip, port, forwarding, &servers[family], real_port);
            }
            self.service(vip, ACROSS, Forwarding::Tunnel(Tunnel::Ipip), &servers[1 - family], ACROSS);
        }
    }

    fn neighbor(&self, side: usize, addr: &str) {
        let (port, addr, mac) = (SIDES[side], addr.parse().unwrap(), STATION[side]);
        self.apply(&Change::SetNeighbor { port, addr, mac });
    }

    fn service(&self, vip: &str, port: u16, forwarding: Forwarding, servers: &[&str], real_port: u16) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let key = ServiceKey::new(protocol, SocketAddr::new(vip.parse().unwrap(), port));
            self.apply(&Change::AddService(ServiceSpec::new(key, SchedulerSpec::named("wlc"))));
            for server in servers {
                let addr = SocketAddr::new(server.parse().unwrap(), real_port);
                self.apply(&Change::AddDestination(key, DestinationSpec::new(addr, forwarding)));
            }
        }
    }

    /// Sends a frame over the wire of a side, and compares what comes out with what the plain director makes of it.
    fn pass(&self, side: usize, bytes: &[u8], what: &str) {
        let now = self.now();
        let mut frame = Frame::from_bytes(bytes);
        let mut out = Outbox::new();
        let verdict = self.plain.handle(SIDES[side], &mut frame, now, &mut out);
        let mut want: Vec<(PortId, Vec<u8>)> = Vec::new();
        if let Verdict::Transmit(port) = verdict {
            want.push((port, masked(frame.bytes())));
        }
        want.extend(out.drain().map(|(port, frame)| (port, masked(frame.bytes()))));
        want.sort();
        self.stations[side].queues()[0].send(&Frame::from_bytes(bytes)).unwrap();
        let (mut got, mut handled) = (Vec::new(), 0);
        let deadline = Instant::now() + SOON;
        let queues = || self.stations.iter().chain(&self.taps).map(|device| &device.queues()[0]);
        let mut poller = Poller::new(queues(), &self.stop).unwrap();
        while got.len() < want.len() || want.is_empty() && handled == 0 {
            handled += self.serve();
            let before = got.len();
            self.hear(&mut got);
            if got.len() == before && handled == 0 || got.len() < want.len() {
                poller.wait(Some(Duration::from_millis(5))).unwrap();
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {verdict:?}\nwant {want:02x?}\ngot  {got:02x?}\nsent {bytes:02x?}"
            );
        }
        got.sort();
        assert_eq!(got, want, "{what}: {verdict:?}\nsent {bytes:02x?}");
    }

    /// Has the director with the cache handle what came to it; how many frames that were.
    fn serve(&self) -> usize {
        let mut handled = 0;
        let (mut frame, mut out) = (Frame::new(), Outbox::new());
        for (side, tap) in self.taps.iter().enumerate() {
            while tap.queues()[0].receive(&mut frame).unwrap() {
                let is_ours = frame.bytes().get(6..12) == Some(&STATION[side].0);
                self.cached.catch_up(self.now(), &mut out);
                if let Verdict::Transmit(port) =
                    self.cached.handle(SIDES[side], &mut frame, self.now(), &mut out)
                {
                    self.taps[usize::from(port.0)].queues()[0].send(&frame).unwrap();
                }
                for (port, frame) in out.drain() {
                    self.taps[usize::from(port.0)].queues()[0].send(&frame).unwrap();
                }
                handled += usize::from(is_ours);
            }
            self.cached.sent(&mut out);
        }
        handled
    }

    /// What the director sent to the stations.
    fn hear(&self, got: &mut Vec<(PortId, Vec<u8>)>) {
        let mut frame = Frame::new();
        for (side, station) in self.stations.iter().enumerate() {
            while station.queues()[0].receive(&mut frame).unwrap() {
                if frame.bytes().get(6..12) == Some(&DIRECTOR[side].0) {
                    got.push((SIDES[side], masked(frame.bytes())));
                }
            }
        }
    }

    /// Where the connection of a client goes.
    fn destination_of(&self, flow: &Flow) -> Option<SocketAddr> {
        let connections = self.plain.connections(self.now());
        connections
            .iter()
            .find(|it| it.client == flow.client && it.virtual_addr == flow.service)
            .map(|it| it.destination)
    }
}

/// Without what is arbitrary: ids of packets that the director made, with the checksum over them.
fn masked(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let is_v4 = bytes.get(12..14) == Some(&[8, 0]);
    if is_v4 && matches!(bytes.get(23), Some(1 | 4 | 41)) {
        for at in [18, 19, 24, 25] {
            bytes[at] = 0;
        }
    }
    let is_v6_fragment = bytes.get(12..14) == Some(&[0x86, 0xdd]) && bytes.get(20) == Some(&44);
    if is_v6_fragment {
        bytes[58..62].fill(0);
    }
    bytes
}

#[derive(Clone, Copy)]
struct Flow {
    protocol: u8,
    client: SocketAddr,
    service: SocketAddr,
    begun: bool,
}

/// What a packet is like beside its addresses.
#[derive(Clone, Copy)]
struct Looks {
    flags: u8,
    payload: usize,
    ttl: u8,
    tos: u8,
    dont_fragment: bool,
    fragment: bool,
    option: bool,
    bad_header_sum: bool,
    no_checksum: bool,
    /// Added to the length that a UDP header says.
    wrong_length: u16,
}

const PLAIN: Looks = Looks {
    flags: tcp::ACK,
    payload: 20,
    ttl: 64,
    tos: 0,
    dont_fragment: true,
    fragment: false,
    option: false,
    bad_header_sum: false,
    no_checksum: false,
    wrong_length: 0,
};

/// A frame from a station to the director.
fn frame(side: usize, protocol: u8, from: SocketAddr, to: SocketAddr, looks: &Looks) -> Vec<u8> {
    let mut l4 = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let header = if protocol == tcp::PROTOCOL { 20 } else { 8 };
    if protocol == tcp::PROTOCOL {
        l4.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, looks.flags, 0x10, 0, 0, 0, 0, 0]);
    } else {
        l4.extend(u16::try_from(header + looks.payload).unwrap().to_be_bytes());
        l4.extend([0, 0]);
    }
    l4.extend((0..looks.payload).map(|n| u8::try_from(n % 251).unwrap()));
    let mut bytes = [&DIRECTOR[side].0[..], &STATION[side].0].concat();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes.extend([8, 0]);
            let options: &[u8] = if looks.option { &[1, 1, 1, 0] } else { &[] };
            let length = u16::try_from(20 + options.len() + l4.len()).unwrap();
            let flags: u16 =
                if looks.dont_fragment { 0x4000 } else { 0 } | if looks.fragment { 0x2000 } else { 0 };
            bytes.extend([0x45 + u8::try_from(options.len() / 4).unwrap(), looks.tos]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 7]);
            bytes.extend(flags.to_be_bytes());
            bytes.extend([looks.ttl, protocol, 0, 0]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes.extend(options);
            let sum = checksum::Sum::new().add_bytes(&bytes[14..]).finish() ^ u16::from(looks.bad_header_sum);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            bytes.extend([0x86, 0xdd, 0x60 | looks.tos >> 4, looks.tos << 4, 0x12, 0x34]);
            // Destination options of nothing but padding, and a fragment header: more fragments follow.
            let options: &[u8] = if looks.option { &[0, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
            let fragment: &[u8] = if looks.fragment { &[0, 0, 0, 1, 0, 0, 0, 7] } else { &[] };
            let mut extensions = [options, fragment].concat();
            let after_options = if looks.fragment { 44 } else { protocol };
            if let Some(next) = extensions.first_mut() {
                *next = if looks.option { after_options } else { protocol };
            }
            if looks.option && looks.fragment {
                extensions[options.len()] = protocol;
            }
            let first = if looks.option { 60 } else { after_options };
            bytes.extend(u16::try_from(extensions.len() + l4.len()).unwrap().to_be_bytes());
            bytes.extend([first, looks.ttl]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes.extend(extensions);
        }
        _ => unreachable!("both are of one family"),
    }
    let at = bytes.len() + if protocol == tcp::PROTOCOL { 16 } else { 6 };
    bytes.extend(l4);
    if !(looks.no_checksum && protocol == udp::PROTOCOL) {
        // A fragment's is over what is not there: any will do.
        let packet = Packet::parse(&bytes[14..]).unwrap();
        let sum = match packet.transport_sum(&bytes[14..]).finish() {
            0 => 0xffff,
            sum => sum,
        };
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    if looks.wrong_length != 0 {
        let length = u16::try_from(header + looks.payload).unwrap().wrapping_add(looks.wrong_length);
        bytes[at - 2..at].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// Rolls what the next packet of a flow looks like; most are ordinary.
fn looks(dice: &mut Dice, protocol: u8) -> Looks {
    let payload = [0, 1, 20, 333, 1200, 1400][dice.roll(6)];
    let tos = [0, 0x10, 0x2a, 0x03][dice.roll(4)];
    let usual =
        Looks { payload, tos, dont_fragment: dice.roll(3) > 0, ttl: [64, 255, 2][dice.roll(3)], ..PLAIN };
    match dice.roll(30) {
        0 => Looks { ttl: 1, ..usual },
        1 => Looks { option: true, payload: 20, ..usual },
        2 => Looks { fragment: true, dont_fragment: false, payload: 24, ..usual },
        3 => Looks { bad_header_sum: true, ..usual },
        4 => Looks { no_checksum: true, ..usual },
        5 if protocol == tcp::PROTOCOL => Looks { flags: 0, ..usual },
        6 if protocol == tcp::PROTOCOL => Looks { flags: tcp::RST | tcp::ACK, ..usual },
        7..=9 if protocol == tcp::PROTOCOL => Looks { flags: tcp::FIN | tcp::ACK, ..usual },
        10 if protocol == tcp::PROTOCOL => Looks { flags: tcp::SYN, payload: 0, ..usual },
        11 => Looks { payload: 1440, ..usual },
        12 if protocol == udp::PROTOCOL => Looks { wrong_length: 1, ..usual },
        13 if protocol == udp::PROTOCOL => {
            Looks { wrong_length: 0_u16.wrapping_sub(1), payload: 20, ..usual }
        }
        14 if protocol == udp::PROTOCOL => {
            Looks { wrong_length: 0_u16.wrapping_sub(21), payload: 20, ..usual }
        }
        _ => usual,
    }
}

fn flow(dice: &mut Dice, number: usize) -> Flow {
    let family = dice.roll(2);
    let host = 2 + dice.roll(8);
    let client = if family == 0 { format!("10.0.0.{host}") } else { format!("fd00::{host}") };
    let port = if dice.roll(5) == 4 { ACROSS } else { SERVICES[dice.roll(4)].0 };
    Flow {
        protocol: [tcp::PROTOCOL, tcp::PROTOCOL, udp::PROTOCOL][dice.roll(3)],
        client: SocketAddr::new(client.parse().unwrap(), 40_000 + u16::try_from(number).unwrap()),
        service: SocketAddr::new(VIPS[family].parse().unwrap(), port),
        begun: false,
    }
}

#[test]
fn nothing_overtakes_a_packet_that_the_director_has_to_handle() {
    alone(|| in_pairing(overtake));
}

/// Of each kind of packet that does not pass: the next one, which would, goes the same way.
fn overtake(pairing: &Pairing) {
    let odd = |family: usize, protocol| {
        let plain = Looks { dont_fragment: false, payload: 24, ..PLAIN };
        let mut odd = vec![
            Looks { option: true, ..plain },
            Looks { fragment: true, ..plain },
            Looks { option: true, fragment: true, ..plain },
            Looks { payload: [1460, 1440][family], dont_fragment: true, ..plain },
        ];
        if protocol == tcp::PROTOCOL {
            odd.push(Looks { ttl: 1, ..plain });
            odd.extend([tcp::SYN, 0].map(|flags| Looks { flags, ..plain }));
        }
        odd
    };
    for (family, protocol) in [(0, tcp::PROTOCOL), (0, udp::PROTOCOL), (1, tcp::PROTOCOL), (1, udp::PROTOCOL)]
    {
        let client = ["10.0.0.2", "fd00::2"][family].parse().unwrap();
        for (number, odd) in (0_u16..).zip(odd(family, protocol)) {
            // Tunnelled, so that the longest fits no more.
            let client = SocketAddr::new(client, 41_000 + number);
            let service = SocketAddr::new(VIPS[family].parse().unwrap(), 83);
            let frame = |looks: &Looks| frame(0, protocol, client, service, looks);
            let what = format!("{client}, protocol {protocol}, kind {number}");
            pairing.pass(0, &frame(&Looks { flags: tcp::SYN, payload: 0, ..PLAIN }), &what);
            // The first after it has a ticket, where others might have been on their way.
            pairing.pass(0, &frame(&PLAIN), &what);
            let passed = || pairing.attachments.cache().unwrap().status().packets;
            let before = passed();
            pairing.pass(0, &frame(&PLAIN), &what);
            assert_eq!(passed(), before + 1, "{what}: it passes in the kernel");
            for looks in [&odd, &PLAIN] {
                pairing.stations[0].queues()[0].send(&Frame::from_bytes(&frame(looks))).unwrap();
            }
            let deadline = Instant::now() + SOON;
            let mut handled = 0;
            while handled < 2 {
                handled += pairing.serve();
                assert!(Instant::now() < deadline, "{what}: {handled} of 2 come to the director");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(passed(), before + 1, "{what}: none passes by");
            pairing.hear(&mut Vec::new());
        }
    }
}

#[test]
fn frames_states_and_counters_are_those_of_a_director_without_a_cache() {
    alone(|| SEEDS.for_each(with_seed));
}

fn with_seed(seed: u64) {
    in_pairing(|pairing| compare(pairing, seed));
}

fn in_pairing(body: impl FnOnce(&Pairing) + Send) {
    let hosts = ["host", "west", "east"].map(|name| Host::new(name).unwrap());
    let [host, west, east] = &hosts;
    for (side, wire) in [west, east].into_iter().enumerate() {
        let mac = |last| MacAddr([0xfe, 0, 0, 0, u8::try_from(side).unwrap(), last]);
        wire.net().add_bridge("br0", mac(0xff)).unwrap();
        connect(End { host, name: CARDS[side], mac: mac(9) }, End { host: wire, name: "port", mac: mac(8) })
            .unwrap();
        wire.net().plug("port", "br0").unwrap();
        wire.plain_bridges().unwrap();
    }
    let host = host.clone();
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { body(&Pairing::new(hosts).await) });
    })
    .unwrap();
}

fn compare(pairing: &Pairing, seed: u64) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
    let mut flows: Vec<Flow> = (0..FLOWS).map(|number| flow(&mut dice, number)).collect();
    for number in 0..PACKETS {
        let index = dice.roll(FLOWS);
        let Flow { protocol, client, service, begun } = flows[index];
        let what = |looks: &Looks, way: &str| {
            format!(
                "seed {seed}, packet {number}, flow {index} {way} {client} {service} flags {:02x}",
                looks.flags
            )
        };
        if !begun {
            flows[index].begun = true;
            let looks = Looks { flags: tcp::SYN, payload: 0, ..PLAIN };
            pairing.pass(0, &frame(0, protocol, client, service, &looks), &what(&looks, "begins"));
            continue;
        }
        let looks = looks(&mut dice, protocol);
        let is_nat = service.port() < 82;
        match pairing.destination_of(&flows[index]).filter(|_| is_nat && dice.roll(2) == 0) {
            Some(destination) => {
                let answers_syn = protocol == tcp::PROTOCOL && dice.roll(6) == 0;
                let looks = if answers_syn { Looks { flags: tcp::SYN | tcp::ACK, ..looks } } else { looks };
                pairing.pass(1, &frame(1, protocol, destination, client, &looks), &what(&looks, "answers"));
            }
            None => pairing.pass(0, &frame(0, protocol, client, service, &looks), &what(&looks, "asks")),
        }
        if number % 500 == 499 {
            // What a change withdraws is placed anew.
            let key = ServiceKey::new(Protocol::Tcp, SocketAddr::new(VIPS[0].parse().unwrap(), 80));
            let spec = DestinationSpec::new("192.168.10.11:8080".parse().unwrap(), Forwarding::Nat);
            pairing.apply(&Change::EditDestination(key, DestinationSpec { weight: 2, ..spec }));
            pairing.cached.links_moved();
        }
    }
    let mut out = Outbox::new();
    pairing.cached.catch_up(pairing.now(), &mut out);
    let (now, status) = (pairing.now(), pairing.attachments.cache().unwrap().status());
    assert!(status.packets > 500 && status.placed > 30, "the cache is in use: {status:?}");
    let view = |director: &Director| -> BTreeMap<(String, SocketAddr, SocketAddr), (SocketAddr, &'static str, bool)> {
        let row = |it: &ConnectionView| {
            ((format!("{:?}", it.protocol), it.client, it.virtual_addr), (it.destination, it.state, it.active))
        };
        director.connections(now).iter().map(row).collect()
    };
    let (with, without) = (view(&pairing.cached), view(&pairing.plain));
    assert!(with.keys().eq(without.keys()), "seed {seed}: with {with:?}\nwithout {without:?}");
    for ((whose, with), without) in with.iter().zip(without.values()) {
        assert_eq!(with, without, "seed {seed}: {whose:?}");
    }
    let left = |director: &Director| -> BTreeMap<(String, SocketAddr), f64> {
        let row =
            |it: &ConnectionView| ((format!("{:?}", it.protocol), it.client), it.expires_in.as_secs_f64());
        director.connections(now).iter().map(row).collect()
    };
    for ((whose, with), (_, without)) in left(&pairing.cached).into_iter().zip(left(&pairing.plain)) {
        assert!(
            (with - without).abs() < 1.0,
            "{whose:?} ends in {with} s with a cache, in {without} s without"
        );
    }
    for (with, without) in pairing.cached.services().into_iter().zip(pairing.plain.services()) {
        let key = with.spec.key;
        assert_eq!(with.counters, without.counters, "{key}");
        for (with, without) in with.destinations.iter().zip(&without.destinations) {
            assert_eq!(
                (with.counters, with.active, with.inactive),
                (without.counters, without.active, without.inactive),
                "{key}"
            );
        }
    }
}
