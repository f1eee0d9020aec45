//! Interfaces attached to network cards directly (`attach = "tcx"`), without a bridge.
//!
//! ```text
//!   client --- eth0 [ the host, with addresses of its own ] eth1 --- rs1
//!               |                                            |
//!              c0 -------------- [ the director ] --------- r0
//! ```

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use uvs_director::spec::{Family, Prefix};
use uvs_lab::Host;
use uvs_lab::director::Director;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::{METRICS, Method, Plan, mac};

use crate::lifecycle::Shape;
use crate::local::has_its_addresses;
use crate::peer::{Peer, Talk, ask_datagram, stream_both_ways};
use crate::stage::{NAT_PORT, Running, Stage, eventually, topology, turn, uvs, with_keys};

const LENGTH: u64 = 10 << 20;
/// Where the host itself serves.
const HOST_PORT: u16 = 9000;

/// A config whose packets all pass the director.
pub(crate) fn without_cache(config: &str) -> String {
    with_keys(config, "accelerate=off")
}

/// A config of the lab with each bridge's card attached directly.
pub(crate) fn without_bridge(config: &str) -> String {
    let line = |line: &str| match line.strip_prefix("bridge = ") {
        Some(bridge) => {
            let card = bridge.split('"').nth(3).expect("a bridge of the lab has one port");
            format!("attach = \"tcx\"\nlink = \"{card}\"\n")
        }
        None => format!("{line}\n"),
    };
    let edited: String = config.lines().map(line).collect();
    assert_ne!(edited, config);
    edited
}

#[test]
fn every_method_works_without_a_bridge() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let topology = topology(method, &Plan::default());
        let config = without_cache(&without_bridge(&topology.config));
        let mut stage = Stage::on(topology, &config);
        let service = stage.topology.service;
        stage.client().run(|| stream_both_ways(service, 7, LENGTH, || ()).unwrap()).unwrap();
        let streams = eventually("the real server has compared all", || {
            let streams: Vec<_> = stage.peers.iter().flat_map(Peer::streams).collect();
            (!streams.is_empty()).then_some(streams)
        });
        assert_eq!(streams, [Ok(())], "{method}");
        for number in 0..29_u8 {
            stage.client().run(|| Talk::open(service).unwrap().say(&[number]).unwrap()).unwrap();
        }
        assert_eq!(stage.shares(), [10, 10, 10], "{method}: rr gives equal shares");
        for size in [0, 1, 1400] {
            stage.client().run(|| ask_datagram(service, size).unwrap()).unwrap();
        }
        let datagrams: Vec<usize> = stage.peers.iter().map(|peer| peer.datagrams().len()).collect();
        assert_eq!(datagrams, [1, 1, 1], "{method}");
        assert!(!stage.topology.director.net().links().unwrap().iter().any(|link| link.is_bridge));
        assert_eq!(stage.director().metric("uvs_interface_errors_total", &[]), 0, "{method}");
        assert_eq!(stage.director().metric("uvs_interface_attached", &[("link", "eth0")]), 1, "{method}");
    }
}

/// The addresses of the drawing.
pub(crate) struct Addresses {
    family: Family,
    prefix_len: u8,
    pub(crate) client: &'static str,
    pub(crate) real_server: &'static str,
    /// The host's own, on eth0 and eth1.
    host: [&'static str; 2],
    /// The director's, on c0 and r0.
    pub(crate) director: [&'static str; 2],
    pub(crate) vip: &'static str,
}

pub(crate) const V4: Addresses = Addresses {
    family: Family::V4,
    prefix_len: 24,
    client: "10.0.0.2",
    real_server: "192.168.20.11",
    host: ["10.0.0.9", "192.168.20.9"],
    director: ["10.0.0.1", "192.168.20.1"],
    vip: "10.0.0.100",
};

const V6: Addresses = Addresses {
    family: Family::V6,
    prefix_len: 64,
    client: "2001:db8:1::2",
    real_server: "2001:db8:2::11",
    host: ["2001:db8:1::9", "2001:db8:2::9"],
    director: ["2001:db8:1::1", "2001:db8:2::1"],
    vip: "2001:db8:1::100",
};

pub(crate) struct Lab {
    addresses: &'static Addresses,
    pub(crate) client: Host,
    pub(crate) director: Host,
    pub(crate) real_server: Host,
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

impl Lab {
    pub(crate) fn new(addresses: &'static Addresses) -> Self {
        let hosts = ["client", "director", "rs1"].map(|name| Host::new(name).unwrap());
        if addresses.family == Family::V6 {
            for host in &hosts {
                for which in ["all", "default"] {
                    host.set_sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "0").unwrap();
                    // Addresses work at once.
                    host.set_sysctl(&format!("net.ipv6.conf.{which}.accept_dad"), "0").unwrap();
                }
            }
        }
        let [client, director, real_server] = hosts;
        let lab = Self { addresses, client, director, real_server };
        let end = |host, name, segment, last| End { host, name, mac: mac(segment, last) };
        connect(end(&lab.client, "eth0", 1, 2), end(&lab.director, "eth0", 1, 9)).unwrap();
        connect(end(&lab.real_server, "eth0", 2, 11), end(&lab.director, "eth1", 2, 9)).unwrap();
        lab.give(&lab.client, "eth0", addresses.client);
        lab.give(&lab.director, "eth0", addresses.host[0]);
        lab.give(&lab.director, "eth1", addresses.host[1]);
        lab.give(&lab.real_server, "eth0", addresses.real_server);
        lab.real_server.net().add_default_route(addresses.director[1].parse().unwrap()).unwrap();
        for host in [&lab.client, &lab.director, &lab.real_server] {
            eventually("the kernel has taken its addresses", || has_its_addresses(host).then_some(()));
        }
        lab
    }

    pub(crate) fn give(&self, host: &Host, name: &str, address: &str) {
        let prefix = Prefix::new(address.parse().unwrap(), self.addresses.prefix_len).unwrap();
        host.net().add_address(name, prefix).unwrap();
    }

    pub(crate) fn config(&self) -> String {
        let Addresses { prefix_len, real_server, director, vip, .. } = self.addresses;
        let interface = |name: &str, segment, address: &str, link: &str| {
            format!(
                "\n[[interface]]\nname = \"{name}\"\ndevice = \"tap\"\nmac = \"{}\"\n\
                 addresses = [\"{address}/{prefix_len}\"]\nattach = \"tcx\"\nlink = \"{link}\"\n",
                mac(segment, 1)
            )
        };
        let service = |protocol: &str| {
            format!(
                "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"{}\"\nforward = \"nat\"\n\
                 destination = [{{ address = \"{}\" }}]\n",
                at(vip, 80),
                at(real_server, NAT_PORT)
            )
        };
        [
            format!("[metrics]\nlisten = \"{METRICS}\"\n"),
            interface("c0", 1, director[0], "eth0"),
            interface("r0", 2, director[1], "eth1"),
            service("tcp"),
            service("udp"),
        ]
        .concat()
    }

    /// Takes the host's card to the clients away, and brings another one.
    pub(crate) fn replace_card(&self, running: &Running) {
        let attached = || running.metric("uvs_interface_attached", &[("link", "eth0")]);
        self.director.net().delete("eth0").unwrap();
        eventually("it is noticed", || (attached() == 0).then_some(()));
        let end = |host, last| End { host, name: "eth0", mac: mac(1, last) };
        connect(end(&self.client, 2), end(&self.director, 9)).unwrap();
        self.give(&self.client, "eth0", self.addresses.client);
        eventually("it is attached again", || (attached() == 1).then_some(()));
    }

    /// Streams, connections and datagrams by the service, which the real server sees as those of `from`.
    pub(crate) fn exercise(&self, host: &Host, from: &str, server: &Peer) {
        let (service, before) = (at(self.addresses.vip, 80), server.streams().len());
        host.run(|| stream_both_ways(service, 3, LENGTH, || ()).unwrap()).unwrap();
        let streams = eventually("the real server has compared all", || {
            Some(server.streams()).filter(|it| it.len() > before)
        });
        assert_eq!(streams.last(), Some(&Ok(())));
        host.run(|| Talk::open(service).unwrap().say(b"hello").unwrap()).unwrap();
        // A datagram's socket is of IPv4.
        if service.is_ipv4() {
            host.run(|| ask_datagram(service, 1400).unwrap()).unwrap();
        }
        let from: IpAddr = from.parse().unwrap();
        assert_eq!(server.clients().last().unwrap().ip(), from, "the client is not hidden");
    }
}

/// Clients elsewhere and on the host, and the host's own servers on both links, all at a time.
#[test]
fn the_host_keeps_its_addresses_on_the_links() {
    let Some(_turn) = turn() else { return };
    for addresses in [&V4, &V6] {
        let lab = Lab::new(addresses);
        let server = Peer::start(&lab.real_server, at(addresses.real_server, NAT_PORT));
        let own = [0, 1].map(|side| Peer::start(&lab.director, at(addresses.host[side], HOST_PORT)));
        let running = Running::start(&lab.director, &without_cache(&lab.config()));
        lab.exercise(&lab.client, addresses.client, &server);
        lab.exercise(&lab.director, addresses.host[0], &server);
        for (host, side) in [(&lab.client, 0), (&lab.real_server, 1)] {
            let service = at(addresses.host[side], HOST_PORT);
            host.run(|| stream_both_ways(service, 5, LENGTH, || ()).unwrap()).unwrap();
            eventually("the host has compared all", || (own[side].streams() == [Ok(())]).then_some(()));
        }
        // What is between the host and its neighbours is none of the director's business.
        assert_eq!(running.drops("not_for_us"), 0);
        assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0);
        lab.exercise(&lab.client, addresses.client, &server);
    }
}

/// How many programs are on the ends of a host's links: eth0, in and out, and the TAP.
fn programs(host: &Host) -> [usize; 3] {
    let count = |device, at| SchedClassifier::query_tcx(device, at).map_or(0, |(_, programs)| programs.len());
    host.run(|| {
        [("eth0", TcAttachType::Ingress), ("eth0", TcAttachType::Egress), ("c0", TcAttachType::Ingress)]
            .map(|(device, at)| count(device, at))
    })
    .unwrap()
}

#[test]
fn however_it_ends_nothing_is_left() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new(&V4);
    let server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let before = Shape::of(&lab.director);
    let mut running = Running::start(&lab.director, &without_cache(&lab.config()));
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGINT, Signal::SIGKILL, Signal::SIGTERM] {
        lab.exercise(&lab.client, V4.client, &server);
        assert_ne!(Shape::of(&lab.director), before, "the TAPs are there, and the cards promiscuous");
        assert_eq!(programs(&lab.director), [1; 3]);
        running.stop(signal);
        eventually("the kernel has taken all away", || (Shape::of(&lab.director) == before).then_some(()));
        eventually("the programs are gone", || (programs(&lab.director) == [0; 3]).then_some(()));
        running.start_again();
    }
}

#[test]
fn a_card_that_goes_is_taken_again_when_it_comes_back() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new(&V4);
    let server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let running = Running::start(&lab.director, &without_cache(&lab.config()));
    let attached = |link| running.metric("uvs_interface_attached", &[("link", link)]);
    lab.exercise(&lab.client, V4.client, &server);
    for _ in 0..3 {
        lab.replace_card(&running);
        assert_eq!(attached("eth1"), 1);
        lab.exercise(&lab.client, V4.client, &server);
    }
    let log = running.get().log();
    assert!(log.contains("the link has gone") && log.contains("attached again"), "{log}");
}

/// `uvs` with some capabilities alone: a script in its place.
pub(crate) fn with_capabilities(folder: &TempDir, bounding_set: &str) -> PathBuf {
    let script = folder.path().join("uvs");
    let text = format!("#!/bin/sh\nexec setpriv --bounding-set {bounding_set} {} \"$@\"\n", uvs().display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// A verifier that knows CAP_PERFMON forgives more, and root has it.
#[test]
fn cap_bpf_and_cap_net_admin_are_enough() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let uvs = with_capabilities(&folder, "-all,+net_admin,+bpf");
    let lab = Lab::new(&V4);
    let server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let director = Director::start(&lab.director, &uvs, &without_cache(&lab.config())).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", director.id())).unwrap();
    assert!(status.contains("CapEff:\t0000008000001000\n"), "{status}");
    lab.exercise(&lab.client, V4.client, &server);
    assert!(director.stop().unwrap().success());
}

#[test]
fn without_the_capability_it_says_so_and_leaves_the_host_alone() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new(&V4);
    let before = Shape::of(&lab.director);
    let cases =
        [("-bpf,-sys_admin", "CAP_BPF is missing"), ("-bpf,-sys_admin,-net_raw", "CAP_BPF is missing")];
    for (bounding_set, want) in cases {
        let folder = tempfile::tempdir().unwrap();
        let uvs = with_capabilities(&folder, bounding_set);
        let error = format!("{:#}", Director::start(&lab.director, &uvs, &lab.config()).unwrap_err());
        for words in ["attach = \"tcx\" is not permitted", want, "fix:", "--cap-add BPF", "bridge = { name ="]
        {
            assert!(error.contains(words), "{words:?} is not in:\n{error}");
        }
        assert_eq!(Shape::of(&lab.director), before);
    }
}
