//! `uvs realserver` in each way of unpacking: both families in both, whole GSO packets, right checksums, and what it
//! does where programs in the kernel are refused.
//!
//! ```text
//!   client 10.0.0.2, fd00::2 ---.
//!   director (TAP) ------------ switch --- rs1 10.0.0.11, fd00::11: `uvs realserver`, VIPs on its device
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use uvs_control::probe::{Kind, Request, Verdict};
use uvs_director::spec::Prefix;
use uvs_lab::capture::Capture;
use uvs_lab::director::Decapsulator;
use uvs_lab::net::{End, connect};
use uvs_lab::offload::{merge_received, tx_checksum_off};
use uvs_lab::topology::{METRICS, mac};
use uvs_lab::{Host, Process};

use crate::attach::with_capabilities;
use crate::peer::{PATIENCE, Peer, stream_both_ways};
use crate::probe::{ask, request};
use crate::stage::{Running, eventually, turn, uvs};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
const BULK: u64 = 30 << 20;

struct Network {
    client: Host,
    director: Host,
    server: Host,
    switch: Host,
}

/// The services: in what each is tunnelled.
fn services() -> [(SocketAddr, &'static str); 4] {
    [
        (SocketAddr::from((VIP, 82)), "10.0.0.11"),
        (SocketAddr::from((VIP_V6, 82)), "fd00::11"),
        (SocketAddr::from((VIP, 83)), "fd00::11"),
        (SocketAddr::from((VIP_V6, 83)), "10.0.0.11"),
    ]
}

impl Network {
    fn new() -> Self {
        let [client, director, server, switch] =
            ["client", "director", "rs1", "switch"].map(|name| Host::new(name).unwrap());
        switch.net().add_bridge("br0", mac(1, 200)).unwrap();
        for (host, last) in [(&client, 2), (&director, 101), (&server, 11)] {
            for which in ["all", "default"] {
                host.set_sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "0").unwrap();
                host.set_sysctl(&format!("net.ipv6.conf.{which}.accept_dad"), "0").unwrap();
            }
            let port = format!("port{last}");
            let end = |host, name, last| End { host, name, mac: mac(1, last) };
            connect(end(host, "eth0", last), end(&switch, &port, last ^ 0x80)).unwrap();
            switch.net().plug(&port, "br0").unwrap();
        }
        for (host, last) in [(&client, 2), (&server, 11)] {
            for address in [format!("10.0.0.{last}/24"), format!("fd00::{last}/64")] {
                host.net().add_address("eth0", address.parse().unwrap()).unwrap();
            }
        }
        server.set_sysctl("net.ipv4.conf.all.arp_ignore", "1").unwrap();
        server.set_sysctl("net.ipv4.conf.all.arp_announce", "2").unwrap();
        Self { client, director, server, switch }
    }

    fn direct(&self) -> Running {
        let mut config = format!(
            "[metrics]\nlisten = \"{METRICS}\"\n\
             [[interface]]\nname = \"c0\"\ndevice = \"tap\"\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n\
             bridge = {{ name = \"br-c0\", ports = [\"eth0\"] }}\n"
        );
        for (service, to) in services() {
            for protocol in ["tcp", "udp"] {
                config += &format!(
                    "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{service}\"\nforward = \"tun\"\n\
                     destination = [{{ address = \"{to}\" }}]\n"
                );
            }
        }
        Running::start(&self.director, &config)
    }

    fn decapsulate(&self, uvs: &Path, how: &[&str]) -> Process {
        let mut command = Command::new(uvs);
        command
            .env("NO_COLOR", "1")
            .args(["realserver", "--vip", &format!("{VIP},{VIP_V6}"), "--bind", "10.0.0.11,fd00::11"])
            .args(how)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // An IPv6 address is tentative until the link is ready.
        eventually("the real server has its addresses", || {
            self.server.run(|| UdpSocket::bind("[fd00::11]:0").ok()).unwrap()
        });
        let mut process = self.server.exec(command).unwrap();
        process.wait_for_line(Decapsulator::READY, PATIENCE).unwrap();
        process
    }

    /// Streams and datagrams through every service, each byte compared.
    fn exercise(&self, bulk: u64) {
        for (service, outer) in services() {
            let what = format!("{service} in {outer}");
            let peer = Peer::start(&self.server, service);
            let streamed = self.client.run(|| stream_both_ways(service, 7, bulk, || ())).unwrap();
            streamed.unwrap_or_else(|error| panic!("{what}: {error:#}"));
            let compared = eventually("the real server has compared all", || {
                Some(peer.streams()).filter(|streams| !streams.is_empty())
            });
            assert_eq!(compared, [Ok(())], "{what}");
            self.client.run(|| echoes(service, &[1, 64, 1300])).unwrap();
        }
    }
}

/// Sends datagrams of these sizes and compares what comes back.
fn echoes(service: SocketAddr, sizes: &[usize]) {
    let any: IpAddr =
        if service.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect(service).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = vec![0; 65_536];
    for &size in sizes {
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        socket.send(&bytes).unwrap();
        let length =
            socket.recv(&mut answer).unwrap_or_else(|error| panic!("{service}, {size} bytes: {error}"));
        let want: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        assert_eq!(answer[..length], want, "{service}, {size} bytes");
    }
}

/// What it says at its end.
fn end(mut process: Process) -> String {
    process.signal(Signal::SIGTERM).unwrap();
    let status = process.wait(Duration::from_secs(5)).unwrap();
    assert!(status.success(), "{status}: {}", process.log());
    process.log()
}

/// How many packets it says it unpacked, and how many of them in the kernel.
fn unpacked(log: &str) -> (u64, u64) {
    let line = log.lines().find(|line| line.contains("decapsulated; dropped")).expect("its last words");
    let before = |words: &str| {
        let text = line.split(words).next().unwrap_or_default();
        text.rsplit(' ').next().unwrap_or_default().parse().unwrap_or(0)
    };
    (
        before(" decapsulated; dropped"),
        if line.contains("in the kernel") { before(" decapsulated in") } else { 0 },
    )
}

/// Packets that the host's IPv4 got from below, a GSO packet as one.
fn received(host: &Host) -> u64 {
    let text = host.run(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap()).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
    let at = lines.next().unwrap().split(' ').position(|name| name == "InReceives").unwrap();
    lines.next().unwrap().split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn the_kernel_unpacks_all_families_with_complete_checksums_and_partial_ones() {
    let Some(_turn) = turn() else { return };
    for complete in [true, false] {
        let network = Network::new();
        if complete {
            // A veth hands partial checksums on and its other end takes them as right.
            tx_checksum_off(&network.director, "eth0").unwrap();
        }
        let process = network.decapsulate(&uvs(), &["--decapsulate", "tcx"]);
        let running = network.direct();
        network.exercise(BULK);
        assert_eq!(running.metric("uvs_interface_errors_total", &[]), 0);
        let said = end(process);
        let (all, in_kernel) = unpacked(&said);
        assert!(in_kernel > 10_000 && all == in_kernel, "{said}");
        assert!(said.contains("dropped: 0 not for a VIP, 0 malformed, 0 congested"), "{said}");
    }
}

/// Has a link wait a moment for more of a GSO packet, since here its packets come one by one.
fn wait_for_more(host: &Host, link: &str) {
    let folder = format!("/sys/class/net/{link}");
    let script = format!(
        "mount -t sysfs sysfs /sys && echo 100 > {folder}/napi_defer_hard_irqs && echo 500000 > {folder}/gro_flush_timeout"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = host.exec(command).unwrap();
    assert!(process.wait(PATIENCE).unwrap().success(), "{}", process.log());
}

#[test]
fn gso_packets_stay_whole() {
    let Some(_turn) = turn() else { return };
    let network = Network::new();
    // As a network card with GRO: what comes in a row is put together before anybody sees it.
    merge_received(&network.server, "eth0").unwrap();
    // A veth does so with what comes from one that sends no GSO packets itself.
    tx_checksum_off(&network.switch, "port11").unwrap();
    wait_for_more(&network.server, "eth0");
    let process = network.decapsulate(&uvs(), &["--decapsulate", "tcx"]);
    let _running = network.direct();
    let capture = Capture::start(&network.server).unwrap();
    let (service, _) = services()[0];
    let before = received(&network.server);
    let peer = Peer::start(&network.server, service);
    network.client.run(|| stream_both_ways(service, 7, BULK, || ())).unwrap().unwrap();
    eventually("it has compared all", || (peer.streams() == [Ok(())]).then_some(()));
    let heard = capture.take().unwrap();
    let longest = heard.iter().filter(|frame| !frame.sent).map(|frame| frame.bytes.len()).max();
    assert!(longest > Some(3000), "no GSO packet came in: {longest:?}");
    let to_the_stack = received(&network.server) - before;
    let (_, packets) = unpacked(&end(process));
    // What comes of replies' acknowledgements alone goes there, too.
    assert!(to_the_stack < packets * 3 / 4, "{packets} packets reached the stack in {to_the_stack} pieces");
    drop(peer);
    // And all families, with GSO packets.
    let process = network.decapsulate(&uvs(), &["--decapsulate", "tcx"]);
    network.exercise(BULK);
    end(process);
}

#[test]
fn userspace_unpacks_all_families_too() {
    let Some(_turn) = turn() else { return };
    let network = Network::new();
    tx_checksum_off(&network.director, "eth0").unwrap();
    let process = network.decapsulate(&uvs(), &["--decapsulate", "userspace"]);
    let _running = network.direct();
    network.exercise(4 << 20);
    let said = end(process);
    let (all, in_kernel) = unpacked(&said);
    assert!(all > 1000 && in_kernel == 0, "{said}");
}

/// By way of the service a check goes through the tunnel as a client's packets do, in each pair of families: half a
/// handshake, and a conversation. Without the decapsulator it fails.
#[test]
fn checks_go_through_each_kind_of_tunnel() {
    let Some(_turn) = turn() else { return };
    let network = Network::new();
    let process = network.decapsulate(&uvs(), &[]);
    let running = network.direct();
    let _peers = services().map(|(service, _)| Peer::start(&network.server, service));
    let verdicts = |timeout_ms| {
        services().map(|(service, outer)| {
            let via = SocketAddr::new(outer.parse().unwrap(), service.port());
            let words = Request { timeout_ms, ..request(Kind::Tcp, service, Some(via)) };
            let half = Request { send: None, expect: None, ..words.clone() };
            [half, words].map(|request| ask(&running, request))
        })
    };
    for (verdict, text) in verdicts(10_000).into_iter().flatten() {
        assert_eq!(verdict, Verdict::Pass, "{text}");
    }
    end(process);
    for (verdict, text) in verdicts(500).into_iter().flatten() {
        assert_eq!(verdict, Verdict::Fail, "{text}");
    }
}

/// Fragments of the outer packet are put together by the kernel and go through userspace.
#[test]
fn fragments_arrive_too() {
    let Some(_turn) = turn() else { return };
    let network = Network::new();
    let process = network.decapsulate(&uvs(), &[]);
    let _running = network.direct();
    let (service, _) = services()[0];
    let _peer = Peer::start(&network.server, service);
    // Without "don't fragment": what does not fit is cut on the way into the tunnel.
    network.client.set_sysctl("net.ipv4.ip_no_pmtu_disc", "1").unwrap();
    network
        .client
        .run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            for size in [1472, 1460, 4000] {
                let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
                socket.send_to(&bytes, service).unwrap();
                let mut answer = vec![0; 65_536];
                let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{size}: {error}"));
                assert!(answer[..length].iter().zip(&bytes).all(|(got, sent)| *got == !sent), "{size}");
                assert_eq!(length, size);
            }
        })
        .unwrap();
    let (all, in_kernel) = unpacked(&end(process));
    assert!(all > in_kernel, "{all}, {in_kernel} in the kernel: some were fragments");
}

#[test]
fn where_programs_are_refused_userspace_does_it() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new();
    let _running = network.direct();

    let uvs = with_capabilities(&folder, "-all,+net_admin,+net_raw");
    let process = network.decapsulate(&uvs, &[]);
    network.exercise(1 << 20);
    let said = end(process);
    assert!(said.contains("unpacked in userspace") && said.contains("CAP_BPF is missing"), "{said}");
    assert_eq!(unpacked(&said).1, 0, "{said}");

    // Who insists is told, and nothing is left.
    let mut command = Command::new(&uvs);
    command
        .args(["realserver", "--vip", "10.0.0.100", "--decapsulate", "tcx"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = network.server.exec(command).unwrap();
    assert!(!process.wait(PATIENCE).unwrap().success());
    assert!(process.log().contains("CAP_BPF is missing"), "{}", process.log());
    assert!(network.server.net().links().unwrap().iter().all(|link| link.name != "uvs-rs0"));
}

#[test]
fn cap_bpf_and_cap_net_admin_are_enough_to_unpack() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let uvs = with_capabilities(&folder, "-all,+net_admin,+bpf");
    let network = Network::new();
    let _running = network.direct();
    let process = network.decapsulate(&uvs, &[]);
    network.exercise(4 << 20);
    let said = end(process);
    assert!(said.contains("fragments and odd packets are refused") && said.contains("CAP_NET_RAW"), "{said}");
    assert!(unpacked(&said).1 > 1000, "{said}");
}

#[test]
fn without_its_device_it_ends_so_that_it_is_started_again() {
    let Some(_turn) = turn() else { return };
    let network = Network::new();
    let mut process = network.decapsulate(&uvs(), &[]);
    network.server.net().delete("uvs-rs0").unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert!(!status.success(), "{status}");
    assert!(process.log().contains("uvs-rs0 is gone"), "{}", process.log());
}

#[test]
fn a_vip_that_is_taken_away_is_added_again() {
    let Some(_turn) = turn() else { return };
    let network = Network::new();
    let process = network.decapsulate(&uvs(), &[]);
    let holds = |vip: IpAddr| {
        network.server.net().addresses().unwrap().iter().any(|(_, prefix)| prefix.addr() == vip)
    };
    for vip in [IpAddr::from(VIP), IpAddr::from(VIP_V6)] {
        network.server.net().remove_address("uvs-rs0", Prefix::host(vip)).unwrap();
        assert!(!holds(vip), "{vip}");
        eventually("the VIP is back", || holds(vip).then_some(()));
    }
    let _running = network.direct();
    network.exercise(1 << 20);
    let said = end(process);
    assert_eq!(said.matches("added it again").count(), 2, "{said}");
}
