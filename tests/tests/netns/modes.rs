//! The core of forwarding in every mode: TAP and TUN devices, TAPs in bridges and attached directly, one queue and
//! several, with offload and without.
//!
//! ```text
//!                        .-- rs1 10.0.0.11, fd00::11, VIPs on lo, `uvs realserver`      DR :81, TUN :82 (IPv4)
//!   client 10.0.0.2 -- br-c0 [ director ] br-r0 -- rs2 192.168.10.12, fd01::12          NAT :80
//!          fd00::2           VIP 10.0.0.100, fd00::100
//! ```
//! On a TUN device the director's kernel routes between the two, and rs1 is in a subnet of its own behind it.
//!
//! A veth hides wrong checksums: it hands partial ones on, and its other end takes them as right. So the cards of the
//! director are told to complete checksums and to cut GSO packets (`ethtool -K eth0 tx off`): with what the director
//! left in the field, a wrong sum is then wrong on the wire, and the receiver drops the packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use uvs_lab::director::{Decapsulator, Director};
use uvs_lab::net::{End, connect};
use uvs_lab::offload::tx_checksum_off;
use uvs_lab::topology::{METRICS, RealServer, mac};
use uvs_lab::{Host, topology};
use uvs_wire::{Packet, gue, ipv4};

use crate::attach::{without_bridge, without_cache};
use crate::peer::{PATIENCE, Peer, stream_both_ways};
use crate::probe;
use crate::stage::{Running, SOON, eventually, turn, uvs};

/// What is sent each way where GSO packets pass, and where single packets do.
const BULK: u64 = 100 << 20;
const BULK_WITHOUT_OFFLOAD: u64 = 12 << 20;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
const NAT: u16 = 80;
const DIRECT: u16 = 81;
const TUNNEL: u16 = 82;

/// Whose cards complete checksums before a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completes {
    Nobody,
    /// Client and real servers: what the director gets is complete, and single packets.
    Ends,
    /// The director's host: what it sends is completed from what the director wrote.
    Director,
}

struct Network {
    client: Host,
    director: Host,
    direct: Host,
    nat: Host,
    _switches: Vec<Host>,
    /// The keys of the director's interfaces but the mode's.
    tap: bool,
    /// Whether the cards are attached directly, without bridges.
    attached: bool,
    /// Whether established flows are forwarded in the kernel.
    accelerated: bool,
}

fn end<'a>(host: &'a Host, name: &'a str, segment: u8, last: u8) -> End<'a> {
    End { host, name, mac: mac(segment, last) }
}

fn give(host: &Host, name: &str, addresses: &[&str]) {
    for address in addresses {
        host.net().add_address(name, address.parse().unwrap()).unwrap();
    }
}

impl Network {
    fn new(tap: bool) -> Self {
        let [client, director, direct, nat, one, two] =
            ["client", "director", "rs1", "rs2", "switch1", "switch2"].map(|name| Host::new(name).unwrap());
        for host in [&client, &director, &direct, &nat] {
            for which in ["all", "default"] {
                host.set_sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "0").unwrap();
                host.set_sysctl(&format!("net.ipv6.conf.{which}.accept_dad"), "0").unwrap();
                host.set_sysctl(&format!("net.ipv4.conf.{which}.rp_filter"), "0").unwrap();
            }
        }
        let mut network = Self {
            client,
            director,
            direct,
            nat,
            _switches: Vec::new(),
            tap,
            attached: false,
            accelerated: false,
        };
        if tap {
            network.lay_segments(one, two);
        } else {
            network.lay_routes();
        }
        network
    }

    /// Two segments, with the director's cards in bridges.
    fn lay_segments(&mut self, one: Host, two: Host) {
        for (switch, segment, hosts) in
            [(&one, 1, vec![(&self.client, 2), (&self.direct, 11)]), (&two, 2, vec![(&self.nat, 12)])]
        {
            switch.net().add_bridge("br0", mac(segment, 200)).unwrap();
            let card = if segment == 1 { "eth0" } else { "eth1" };
            connect(end(&self.director, card, segment, 101), end(switch, "port1", segment, 201)).unwrap();
            switch.net().plug("port1", "br0").unwrap();
            for (host, last) in hosts {
                let port = format!("port{last}");
                connect(end(host, "eth0", segment, last), end(switch, &port, segment, last + 201)).unwrap();
                switch.net().plug(&port, "br0").unwrap();
            }
        }
        give(&self.client, "eth0", &["10.0.0.2/24", "fd00::2/64"]);
        give(&self.direct, "eth0", &["10.0.0.11/24", "fd00::11/64"]);
        give(&self.nat, "eth0", &["192.168.10.12/24", "fd01::12/64"]);
        for gateway in ["192.168.10.1", "fd01::1"] {
            self.nat.net().add_default_route(gateway.parse().unwrap()).unwrap();
        }
        self.direct.set_sysctl("net.ipv4.conf.all.arp_ignore", "1").unwrap();
        self.direct.set_sysctl("net.ipv4.conf.all.arp_announce", "2").unwrap();
        give(&self.direct, "lo", &["10.0.0.100/32", "fd00::100/128"]);
        self._switches = vec![one, two];
    }

    /// Three cables to the director's host, which routes.
    fn lay_routes(&self) {
        for (host, card, segment) in
            [(&self.client, "eth0", 1), (&self.nat, "eth1", 2), (&self.direct, "eth2", 3)]
        {
            connect(end(host, "eth0", segment, 2), end(&self.director, card, segment, 1)).unwrap();
        }
        give(&self.director, "eth0", &["172.20.0.1/24", "fd02::1/64"]);
        give(&self.director, "eth1", &["192.168.10.1/24", "fd01::1/64"]);
        give(&self.director, "eth2", &["10.1.0.1/24"]);
        give(&self.client, "eth0", &["172.20.0.2/24", "fd02::2/64"]);
        give(&self.nat, "eth0", &["192.168.10.12/24", "fd01::12/64"]);
        give(&self.direct, "eth0", &["10.1.0.11/24"]);
        give(&self.direct, "lo", &["10.0.0.100/32"]);
        for (host, gateways) in [
            (&self.client, &["172.20.0.1", "fd02::1"][..]),
            (&self.nat, &["192.168.10.1", "fd01::1"]),
            (&self.direct, &["10.1.0.1"]),
        ] {
            for gateway in gateways {
                host.net().add_default_route(gateway.parse().unwrap()).unwrap();
            }
        }
    }

    /// The config with the keys of a mode for the clients' interface and the other one.
    fn config(&self, [client_side, server_side]: [&str; 2]) -> String {
        let mut config = format!("[metrics]\nlisten = \"{METRICS}\"\n");
        let tunnel_to = if self.tap { "10.0.0.11" } else { "10.1.0.11" };
        let accelerate = if self.accelerated { "on" } else { "off" };
        let [client_side, server_side] = match self.tap {
            true => [client_side, server_side].map(|keys| format!("accelerate = \"{accelerate}\"\n{keys}")),
            false => [client_side, server_side].map(str::to_owned),
        };
        if self.tap {
            config += &format!(
                "[[interface]]\nname = \"c0\"\ndevice = \"tap\"\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n\
                 bridge = {{ name = \"br-c0\", ports = [\"eth0\"] }}\n{client_side}\n\
                 [[interface]]\nname = \"r0\"\ndevice = \"tap\"\naddresses = [\"192.168.10.1/24\", \"fd01::1/64\"]\n\
                 bridge = {{ name = \"br-r0\", ports = [\"eth1\"] }}\n{server_side}\n"
            );
        } else {
            config += &format!(
                "[[interface]]\nname = \"t0\"\ndevice = \"tun\"\n\
                 addresses = [\"10.255.0.2/30\", \"{VIP}/32\", \"fdff::2/64\", \"{VIP_V6}/128\"]\n{client_side}\n\
                 [interface.host]\naddresses = [\"10.255.0.1/30\", \"fdff::1/64\"]\n\
                 routes = [\"{VIP}/32\", \"{VIP_V6}/128\"]\nreplies_from = [\"eth1\"]\nforwarding = true\n\
                 [[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.255.0.1\"\n\
                 [[route]]\nto = \"::/0\"\nvia = \"fdff::1\"\n"
            );
        }
        for (vip, port, forward, to) in self.services(tunnel_to) {
            let service = SocketAddr::from((vip, port));
            for protocol in ["tcp", "udp"] {
                config += &format!(
                    "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{service}\"\nforward = \"{forward}\"\n\
                     destination = [{{ address = \"{to}\" }}]\n"
                );
            }
        }
        if self.attached { without_cache(&without_bridge(&config)) } else { config }
    }

    /// Address, port, method and real server of each service.
    fn services(&self, tunnel_to: &'static str) -> Vec<(IpAddr, u16, &'static str, &'static str)> {
        let mut services = vec![
            (VIP.into(), NAT, "nat", "192.168.10.12:8080"),
            (VIP_V6.into(), NAT, "nat", "[fd01::12]:8080"),
            (VIP.into(), TUNNEL, "tun", tunnel_to),
        ];
        if self.tap {
            services.push((VIP.into(), DIRECT, "dr", "10.0.0.11"));
            services.push((VIP_V6.into(), DIRECT, "dr", "fd00::11"));
        }
        services
    }
}

/// Sends and compares through all services in this mode: streams both ways, and GSO packets of datagrams.
fn everything_passes(network: &Network, keys: [&str; 2], bulk: u64) -> Running {
    let decapsulator = RealServer {
        host: network.direct.clone(),
        address: if network.tap { Ipv4Addr::new(10, 0, 0, 11) } else { Ipv4Addr::new(10, 1, 0, 11) },
        listen: (topology::VIP, TUNNEL).into(),
    };
    let _decapsulator = Decapsulator::start(&decapsulator, &uvs()).unwrap();
    let running = Running::start(&network.director, &network.config(keys));
    let tunnel_to = if network.tap { "10.0.0.11" } else { "10.1.0.11" };
    for (vip, port, method, to) in network.services(tunnel_to) {
        let listen = match (port, vip.is_ipv4()) {
            (NAT, true) => "192.168.10.12:8080".parse().unwrap(),
            (NAT, false) => "[fd01::12]:8080".parse().unwrap(),
            _ => SocketAddr::from((vip, port)),
        };
        let host = if port == NAT { &network.nat } else { &network.direct };
        let peer = Peer::start(host, listen);
        let service = SocketAddr::from((vip, port));
        let what = format!("{method} {service}, {keys:?}");
        let via = SocketAddr::new(
            to.parse::<SocketAddr>().map_or_else(|_| to.parse().unwrap(), |to| to.ip()),
            listen.port(),
        );
        probe::passes(&running, service, via, (port == NAT).then_some(listen));
        let streamed = network
            .client
            .run(|| stream_both_ways(service, 7, bulk, || probe::passes_beside(&running, service, via)))
            .unwrap();
        streamed.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        let compared = eventually("the real server has compared all", || {
            Some(peer.streams()).filter(|streams| !streams.is_empty())
        });
        assert_eq!(compared, [Ok(())], "{what}");
        // Into a tunnel, 40 bytes of headers less: datagrams are not made to fit by anybody.
        network
            .client
            .run(|| {
                for size in [1, 999, 1400] {
                    gso_packets_of_datagrams(service, size)
                        .unwrap_or_else(|error| panic!("{what}: {error:#}"));
                }
            })
            .unwrap();
    }
    assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0, "{keys:?}");
    running
}

/// Sends GSO packets of datagrams of that size (UDP_SEGMENT) and compares what comes back, each for itself.
fn gso_packets_of_datagrams(service: SocketAddr, size: u16) -> anyhow::Result<()> {
    let any: IpAddr =
        if service.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(service)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(size))?;
    let size = usize::from(size);
    for round in 0..4u8 {
        // The last is shorter, where that is possible.
        let gso_packet: Vec<u8> = (0..20u8)
            .flat_map(|n| vec![n ^ round << 5; if n == 19 { size.div_ceil(2) } else { size }])
            .collect();
        match socket.send(&gso_packet) {
            // Linux before 6.11 sends no GSO packets by a card that completes no checksums.
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => {
                setsockopt(&socket, sockopt::UdpGsoSegment, &0)?;
                for piece in gso_packet.chunks(size) {
                    socket.send(piece)?;
                }
            }
            sent => drop(sent?),
        }
        let mut expected: Vec<Vec<u8>> =
            gso_packet.chunks(size).map(|piece| piece.iter().map(|byte| !byte).collect()).collect();
        let mut answer = vec![0; 65_536];
        while !expected.is_empty() {
            let length = socket.recv(&mut answer).map_err(|error| {
                anyhow::anyhow!("{} of 20 datagrams of {size} bytes unanswered: {error}", expected.len())
            })?;
            let found = expected.iter().position(|piece| piece[..] == answer[..length]);
            let found = found
                .ok_or_else(|| anyhow::anyhow!("an answer of {length} bytes to nothing that was sent"))?;
            expected.remove(found);
        }
    }
    Ok(())
}

fn keys(queues: u16, offload: &str) -> String {
    format!("queues = {queues}\noffload = \"{offload}\"")
}

fn mode(tap: bool, queues: u16, offload: [&str; 2], completes: Completes) {
    let Some(_turn) = turn() else { return };
    mode_on(&Network::new(tap), queues, offload, completes);
}

fn mode_without_bridge(queues: u16, offload: [&str; 2], completes: Completes) {
    let Some(_turn) = turn() else { return };
    mode_on(&Network { attached: true, ..Network::new(true) }, queues, offload, completes);
}

fn mode_accelerated(queues: u16, offload: [&str; 2], completes: Completes) {
    let Some(_turn) = turn() else { return };
    let network = Network { attached: true, accelerated: true, ..Network::new(true) };
    mode_on(&network, queues, offload, completes);
}

fn mode_on(network: &Network, queues: u16, [client_side, server_side]: [&str; 2], completes: Completes) {
    let tap = network.tap;
    let cards: &[(&Host, &str)] = match completes {
        Completes::Nobody => &[],
        Completes::Ends => &[(&network.client, "eth0"), (&network.nat, "eth0"), (&network.direct, "eth0")],
        Completes::Director if tap => &[(&network.director, "eth0"), (&network.director, "eth1")],
        Completes::Director => {
            &[(&network.director, "eth0"), (&network.director, "eth1"), (&network.director, "eth2")]
        }
    };
    for (host, card) in cards {
        tx_checksum_off(host, card).unwrap();
    }
    let gso_packets_come = client_side == "on" && completes != Completes::Ends;
    let bulk = if gso_packets_come && server_side == "on" { BULK } else { BULK_WITHOUT_OFFLOAD };
    let [one, two] = [keys(queues, client_side), keys(queues, server_side)];
    let running = everything_passes(network, [&one, &two], bulk);
    if network.accelerated {
        // What passes is in no queue of the director.
        let passed = running.metric("uvs_flow_cache_packets_total", &[]);
        assert!(passed > 500, "{passed} packets passed in the kernel");
        assert_eq!(running.metric("uvs_flow_cache_refused_total", &[]), 0);
        return;
    }
    let count = |name: &str, interface: &str, direction: &str| {
        running.metric(name, &[("interface", interface), ("direction", direction)])
    };
    let (near, far) = if tap { ("c0", "r0") } else { ("t0", "t0") };
    let gso_packets = |direction| count("uvs_interface_gso_packets_total", near, direction);
    assert_eq!(gso_packets("receive") > 0, gso_packets_come, "GSO packets come in");
    let [cut_near, cut_far] =
        [near, far].map(|it| count("uvs_interface_split_gso_packets_total", it, "transmit"));
    // To tunnels all GSO packets are cut, and on a TUN device all ways lead through one.
    assert_eq!(
        cut_near > 0,
        gso_packets_come || server_side == "on" && client_side == "off",
        "GSO packets into tunnels"
    );
    if tap {
        assert_eq!(
            cut_far > 0,
            gso_packets_come && server_side == "off",
            "GSO packets for a device without offload"
        );
    }
}

#[test]
fn tap_with_one_queue() {
    mode(true, 1, ["on", "on"], Completes::Director);
}

#[test]
fn tap_with_two_queues() {
    mode(true, 2, ["on", "on"], Completes::Director);
}

#[test]
fn tap_with_nobody_who_completes_checksums() {
    mode(true, 1, ["on", "on"], Completes::Nobody);
}

#[test]
fn tap_with_complete_checksums_from_both_ends() {
    mode(true, 1, ["on", "on"], Completes::Ends);
}

#[test]
fn tap_without_offload() {
    mode(true, 1, ["off", "off"], Completes::Director);
}

#[test]
fn tap_without_offload_with_two_queues() {
    mode(true, 2, ["off", "off"], Completes::Nobody);
}

#[test]
fn tap_with_offload_to_clients_only() {
    mode(true, 1, ["on", "off"], Completes::Director);
}

#[test]
fn tap_with_offload_to_real_servers_only() {
    mode(true, 2, ["off", "on"], Completes::Director);
}

#[test]
fn attached_with_one_queue() {
    mode_without_bridge(1, ["on", "on"], Completes::Director);
}

#[test]
fn attached_with_two_queues() {
    mode_without_bridge(2, ["on", "on"], Completes::Nobody);
}

#[test]
fn attached_with_complete_checksums_from_both_ends() {
    mode_without_bridge(1, ["on", "on"], Completes::Ends);
}

#[test]
fn attached_without_offload() {
    mode_without_bridge(1, ["off", "off"], Completes::Director);
}

#[test]
fn attached_with_offload_to_clients_only() {
    mode_without_bridge(2, ["on", "off"], Completes::Director);
}

#[test]
fn accelerated_with_one_queue() {
    mode_accelerated(1, ["on", "on"], Completes::Director);
}

#[test]
fn accelerated_with_two_queues() {
    mode_accelerated(2, ["on", "on"], Completes::Nobody);
}

#[test]
fn accelerated_with_complete_checksums_from_both_ends() {
    mode_accelerated(1, ["on", "on"], Completes::Ends);
}

#[test]
fn accelerated_without_offload() {
    mode_accelerated(2, ["off", "off"], Completes::Director);
}

#[test]
fn tun_with_one_queue() {
    mode(false, 1, ["on", "on"], Completes::Director);
}

#[test]
fn tun_with_two_queues() {
    mode(false, 2, ["on", "on"], Completes::Director);
}

#[test]
fn tun_without_offload() {
    mode(false, 1, ["off", "off"], Completes::Director);
}

#[test]
fn tun_without_offload_with_two_queues() {
    mode(false, 2, ["off", "off"], Completes::Nobody);
}

/// A GSO packet into a GUE tunnel, as the real server's UDP socket gets it: packet by packet, each with headers and
/// checksums of its own, whether the kernel cut it (Linux 6.17, TAP) or the director.
#[test]
fn gso_packets_go_into_a_udp_tunnel() {
    let Some(_turn) = turn() else { return };
    for (sum, may_stay_whole) in [("none", true), ("full", false)] {
        let network = Network::new(true);
        for card in ["eth0", "eth1"] {
            tx_checksum_off(&network.director, card).unwrap();
        }
        let service = SocketAddr::from((VIP, 83));
        let config = network.config([&keys(1, "on"), &keys(1, "on")])
            + &format!(
                "[[service]]\nprotocol = \"udp\"\naddress = \"{service}\"\nforward = \"tun\"\n\
                 tunnel = {{ type = \"gue\", port = 6080, checksum = \"{sum}\" }}\n\
                 destination = [{{ address = \"10.0.0.11\" }}]\n"
            );
        let running = Running::start(&network.director, &config);
        let tunnel = network.direct.run(|| UdpSocket::bind("10.0.0.11:6080").unwrap()).unwrap();
        tunnel.set_read_timeout(Some(PATIENCE)).unwrap();
        let gso_packet: Vec<u8> = (0..30u8).flat_map(|n| vec![n; if n == 29 { 500 } else { 1300 }]).collect();
        network
            .client
            .run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                setsockopt(&socket, sockopt::UdpGsoSegment, &1300).unwrap();
                socket.send_to(&gso_packet, service).unwrap();
            })
            .unwrap();
        let mut buffer = vec![0; 65_536];
        for (n, want) in gso_packet.chunks(1300).enumerate() {
            let length =
                tunnel.recv(&mut buffer).unwrap_or_else(|error| panic!("{sum}, packet {n}: {error}"));
            let (protocol, header) = gue::parse(&buffer[..length]).unwrap();
            assert_eq!(protocol, 4);
            let inner = &buffer[header..length];
            let packet = Packet::parse(inner).unwrap();
            assert!(ipv4::header_checksum_ok(inner), "{sum}, packet {n}");
            assert_eq!(packet.transport_sum(inner).finish(), 0, "{sum}, packet {n}: UDP checksum");
            assert_eq!((packet.dst.to_ip(), packet.dst_port), (service.ip(), service.port()));
            assert_eq!(&inner[usize::from(packet.header_len) + 8..], want, "{sum}, packet {n}");
        }
        let whole = running.get().log().contains("tunnel_gso=true") && may_stay_whole;
        let cut = || running.metric("uvs_interface_split_gso_packets_total", &[("interface", "c0")]);
        if whole {
            assert_eq!(cut(), 0, "{sum}: GSO packets were cut");
        } else {
            // It is counted after the last packet is written, which may have arrived by then.
            eventually(&format!("{sum}: the GSO packets count as cut"), || (cut() > 0).then_some(()));
        }
        assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0);
    }
}

/// The workers of a device that is deleted wait for the one that is made in its place, each for its queue; the host is
/// as it was when the director ends. (`host_state` has the traffic.)
#[test]
fn workers_of_a_deleted_device_go_on_with_another() {
    let Some(_turn) = turn() else { return };
    let network = Network::new(true);
    let keys = keys(2, "on");
    let mut running = Running::start(&network.director, &network.config([&keys, &keys]));
    for round in 1..=2 {
        network.director.net().delete("r0").unwrap();
        eventually("it is made again", || {
            (running.metric("uvs_interface_repairs_total", &[("interface", "r0")]) >= round).then_some(())
        });
        eventually("it is plugged in and up", || {
            let labels = [("interface", "r0"), ("state", "up")];
            (running.metric("uvs_interface_state", &labels) == 1).then_some(())
        });
    }
    let status = running.stop(Signal::SIGTERM);
    assert!(status.success(), "{status}");
    let left: Vec<String> =
        network.director.net().links().unwrap().into_iter().map(|link| link.name).collect();
    assert!(!left.iter().any(|name| ["c0", "r0", "br-c0", "br-r0"].contains(&name.as_str())), "{left:?}");
}

/// Workers run where they are told to, and where they cannot the director says so.
#[test]
fn workers_are_bound_to_cpus() {
    let Some(_turn) = turn() else { return };
    let network = Network::new(true);
    let keys = keys(2, "on");
    let config = network.config([&keys, &keys]);
    let mut running =
        Running::start(&network.director, &format!("{config}[workers]\nbusy_poll_us = 50\ncpus = [0]\n"));
    let process = running.get().id();
    let mut bound = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let folder = task.unwrap().path();
        let name = std::fs::read_to_string(folder.join("comm")).unwrap();
        let status = std::fs::read_to_string(folder.join("status")).unwrap();
        let cpus = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .unwrap()
            .trim()
            .to_owned();
        if ["c0-", "r0-"].iter().any(|prefix| name.starts_with(prefix)) {
            bound.push((name.trim().to_owned(), cpus));
        }
    }
    bound.sort();
    let want = ["c0-0", "c0-1", "r0-0", "r0-1"].map(|name| (name.to_owned(), "0".to_owned()));
    assert_eq!(bound, want);
    assert!(running.stop(nix::sys::signal::Signal::SIGTERM).success());

    // It may be ready for a moment before the worker finds out.
    let said =
        match Director::start(&network.director, &uvs(), &format!("{config}[workers]\ncpus = [0, 8191]\n")) {
            Ok(mut director) => {
                assert_eq!(director.process().wait(SOON).unwrap().code(), Some(1));
                director.log()
            }
            Err(error) => format!("{error:#}"),
        };
    assert!(said.contains("cannot run on CPU 8191") && said.contains("fix: name CPUs"), "{said}");
}
