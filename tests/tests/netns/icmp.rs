//! The director as a node: it answers ping, and says when a packet's time is up.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use etherparse::{Icmpv4Type, NetSlice, SlicedPacket, TransportSlice, icmpv4};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use uvs_lab::capture::{Capture, Heard};
use uvs_lab::server::ping;
use uvs_lab::topology::{DIP, Method, VIP};

use crate::peer::{PATIENCE, Talk};
use crate::stage::{SOON, Stage, eventually, turn};

#[test]
fn the_directors_addresses_answer_ping() {
    let Some(_turn) = turn() else { return };
    let stage = Stage::of(Method::Nat);
    let gateway = Ipv4Addr::new(192, 168, 10, 1);
    let real_server = &stage.topology.real_servers[0];
    // The clients' gateway is the director as well, where they have one.
    stage.client().net().add_default_route(DIP.into()).unwrap();
    let pings = |host: &uvs_lab::Host, to| host.run(|| ping(to, SOON).unwrap()).unwrap();
    for (host, to, whose) in [
        (stage.client(), DIP, "the DIP, by a client"),
        (stage.client(), VIP, "the VIP, by a client"),
        (&real_server.host, gateway, "the gateway, by a real server"),
        (&real_server.host, VIP, "the VIP, by a real server"),
        (&real_server.host, stage.topology.clients[0].address, "a client, by a real server: it is routed"),
    ] {
        assert!(pings(host, to), "{whose}");
    }
    let nobody = Ipv4Addr::new(10, 0, 0, 50);
    assert!(!stage.client().run(|| ping(nobody, Duration::from_millis(300)).unwrap()).unwrap());
}

#[test]
fn a_probe_whose_time_is_up_is_told_so_by_the_vip() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let mut stage = Stage::of(method);
        let service = stage.topology.service;
        let capture = Capture::start(stage.client()).unwrap();
        let (udp, tcp) = stage.client().run(|| (probe_udp(service, 1), probe_tcp(service, 1))).unwrap();
        let mut heard = Vec::new();
        for (port, what) in [(udp, "UDP"), (tcp, "TCP")] {
            eventually(&format!("{method}: the VIP tells of the {what} probe"), || {
                heard.extend(capture.take().unwrap());
                heard.iter().any(|heard| tells_of(heard, port).is_some()).then_some(())
            });
        }
        assert_eq!(stage.shares().iter().sum::<usize>(), 0, "{method}: no real server has seen the probe");
        assert!(stage.director().drops("ttl_exceeded") >= 2, "{method}");
        // One hop more is enough. (In a tunnel it is not: the router on the way sees it as well.)
        if method != Method::Tunnel {
            stage.client().run(|| answer_within_hops(service, 2).unwrap()).unwrap();
        }
        stage
            .client()
            .run(|| Talk::open(service).unwrap().say(b"and the service is there").unwrap())
            .unwrap();
    }
}

/// Whether a frame is ICMP time exceeded, from the VIP, about a packet from `port` to the VIP.
fn tells_of(heard: &Heard, port: u16) -> Option<()> {
    let packet = SlicedPacket::from_ethernet(&heard.bytes).ok()?;
    let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { return None };
    let NetSlice::Ipv4(ip) = packet.net.as_ref()? else { return None };
    let exceeded = Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);
    let quoted = icmp.payload();
    (icmp.icmp_type() == exceeded
        && ip.header().source_addr() == VIP
        && quoted.get(16..20)? == VIP.octets()
        && quoted.get(20..22)? == port.to_be_bytes())
    .then_some(())
}

/// Sends a datagram that may take so many hops; returns its source port.
fn probe_udp(to: SocketAddr, ttl: u32) -> u16 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_ttl(ttl).unwrap();
    socket.send_to(b"how far is it?", to).unwrap();
    socket.local_addr().unwrap().port()
}

/// Sends a SYN that may take so many hops; returns its source port.
fn probe_tcp(to: SocketAddr, ttl: i32) -> u16 {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&probe, sockopt::Ipv4Ttl, &ttl).unwrap();
    assert_eq!(connect(probe.as_raw_fd(), &SockaddrStorage::from(to)), Err(Errno::EINPROGRESS));
    TcpStream::from(probe).local_addr().unwrap().port()
}

/// Asks with a datagram that may take so many hops.
fn answer_within_hops(service: SocketAddr, ttl: u32) -> io::Result<usize> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_ttl(ttl)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(service)?;
    socket.send(b"two hops")?;
    socket.recv(&mut [0; 64])
}
