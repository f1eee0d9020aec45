//! `uvs realserver` on a host, fed with hand-made packets.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendmsg, socket,
};
use uvs_lab::capture::{Capture, Packet};
use uvs_lab::director::Decapsulator;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::mac;
use uvs_lab::{Host, Process};

use common::{build_uvs, root};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const RIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SHORT: Duration = Duration::from_secs(2);

/// A real server and the gateway through which it reaches everybody.
fn hosts() -> (Host, Host) {
    let (gateway, server) = (Host::new("gateway").unwrap(), Host::new("rs1").unwrap());
    connect(
        End { host: &gateway, name: "eth0", mac: mac(3, 254) },
        End { host: &server, name: "eth0", mac: mac(3, 11) },
    )
    .unwrap();
    gateway.net().add_address("eth0", "10.1.0.254/24".parse().unwrap()).unwrap();
    server.net().add_address("eth0", "10.1.0.11/24".parse().unwrap()).unwrap();
    server.net().add_default_route("10.1.0.254".parse().unwrap()).unwrap();
    (gateway, server)
}

fn start(server: &Host, uvs: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(uvs);
    command.arg("realserver").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    server.exec(command).unwrap()
}

/// An IPv4 packet with a right header checksum.
fn ipv4(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    bytes.extend_from_slice(&src.octets());
    bytes.extend_from_slice(&dst.octets());
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    bytes[2..4].copy_from_slice(&length);
    let sum: u32 = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A UDP datagram without a checksum, from the client's port 4000 to port 80.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x0f, 0xa0, 0, 80];
    bytes.extend_from_slice(&u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Sends a whole IP packet; the kernel puts nothing in front of it.
fn inject(from: &Host, packet: &[u8], to: Ipv4Addr) {
    from.run(|| {
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        sendmsg(raw.as_raw_fd(), &[IoSlice::new(packet)], &[], MsgFlags::empty(), Some(&to)).unwrap();
    })
    .unwrap();
}

fn tunnel(from: &Host, inner: &[u8]) {
    inject(from, &ipv4(4, Ipv4Addr::new(10, 1, 0, 254), RIP, inner), RIP);
}

#[test]
fn a_tunnelled_packet_for_the_vip_arrives_and_is_answered_directly() {
    if !root() {
        return;
    }
    let uvs = build_uvs();
    let (gateway, server) = hosts();
    // As on a system that filters by reverse path: the strictest that works.
    server.set_sysctl("net.ipv4.conf.all.rp_filter", "1").unwrap();
    let mut process = start(&server, &uvs, &["--vip", "10.0.0.100", "--bind", "10.1.0.11"]);
    process.wait_for_line(Decapsulator::READY, Duration::from_secs(10)).unwrap();

    let service = server.run(|| UdpSocket::bind((VIP, 80))).unwrap().expect("it gave the device the VIP");
    service.set_read_timeout(Some(SHORT)).unwrap();
    let mut buffer = [0; 100];

    tunnel(&gateway, &ipv4(17, CLIENT, RIP, &udp(b"to the RIP, not the VIP")));
    tunnel(&gateway, &ipv4(17, CLIENT, VIP, &udp(b"cut"))[..24]);
    tunnel(&gateway, &ipv4(17, CLIENT, VIP, &udp(b"hello")));
    let (length, from) = service.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (b"hello".as_slice(), "10.0.0.2:4000".parse().unwrap()));

    let capture = Capture::start(&gateway).unwrap();
    service.send_to(b"welcome", from).unwrap();
    let deadline = std::time::Instant::now() + SHORT;
    let reply = loop {
        let found =
            capture.take().unwrap().iter().filter_map(Packet::parse).find(|packet| packet.payload == 7);
        if let Some(packet) = found {
            break packet;
        }
        assert!(std::time::Instant::now() < deadline, "no reply was heard");
    };
    assert_eq!(reply.macs, Some((mac(3, 11), mac(3, 254))), "by the default route, not by the tunnel");
    assert_eq!(reply.src(), "10.0.0.100:80".parse().unwrap());
    assert_eq!(reply.outer, None);

    process.signal(Signal::SIGTERM).unwrap();
    let status = process.wait(SHORT).unwrap();
    assert!(status.success(), "{status}: {}", process.log());
    let said = process.log();
    assert!(said.contains("1 decapsulated; dropped: 1 not for a VIP, 1 malformed"), "{said}");
    let left = server.net().links().unwrap();
    assert!(left.iter().all(|link| link.name != "uvs-rs0"), "{left:?}");
    assert!(
        server.net().addresses().unwrap().iter().all(|(_, prefix)| prefix.addr() != VIP),
        "the VIP is gone"
    );
}

#[test]
fn packets_to_another_address_than_the_bound_one_are_left_alone() {
    if !root() {
        return;
    }
    let uvs = build_uvs();
    let (gateway, server) = hosts();
    server.net().add_address("eth0", "10.1.0.12/24".parse().unwrap()).unwrap();
    let mut process = start(&server, &uvs, &["--vip", "10.0.0.100", "--bind", "10.1.0.12"]);
    process.wait_for_line(Decapsulator::READY, Duration::from_secs(10)).unwrap();
    tunnel(&gateway, &ipv4(17, CLIENT, VIP, &udp(b"hello")));
    process.signal(Signal::SIGINT).unwrap();
    assert!(process.wait(SHORT).unwrap().success());
    assert!(
        process.log().contains(" 0 decapsulated; dropped: 0 not for a VIP, 0 malformed"),
        "{}",
        process.log()
    );
}

#[test]
fn what_is_in_the_way_is_told() {
    if !root() {
        return;
    }
    let uvs = build_uvs();
    let cases: [(&[&str], &str); 4] = [
        (&["--vip", "10.0.0.100", "--bind", "10.9.9.9"], "is it an address of this host?"),
        (&["--vip", "10.0.0.100", "--device", "eth0"], "eth0"),
        (&["--vip", "10.0.0.100", "--device", "a-name-that-is-too-long"], "longer than 15"),
        (&["--vip", "not-an-address"], "not-an-address"),
    ];
    let (_gateway, server) = hosts();
    for (arguments, want) in cases {
        let mut process = start(&server, &uvs, arguments);
        let status = process.wait(SHORT).unwrap();
        assert!(!status.success(), "{arguments:?}");
        assert!(process.log().contains(want), "{arguments:?}: {}", process.log());
    }
    // Nothing is left by those that failed.
    let error = server.run(|| UdpSocket::bind((VIP, 80))).unwrap().expect_err("the VIP is not here");
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
}
