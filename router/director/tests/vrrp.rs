//! What the director does for whoever speaks VRRP for it: addresses that another director has, and advertisements.
//!
//! ```text
//!   client 10.0.0.2 --- c0 10.0.0.1, VIP 10.0.0.100 [director] r0 192.168.10.1 --- rs 192.168.10.11
//!   peer 10.0.0.3 ------'
//! ```

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{
    Bench, C0_MAC, CLIENT, CLIENT_MAC, CLIENT_SIDE, DIP, RS1_MAC, SERVER_SIDE, VIP, arp, ping, read, tcp,
};
use etherparse::{IpNumber, PacketBuilder};
use uvs_director::local::{LocalLimits, Received, SocketSpec, Transport, Way};
use uvs_director::spec::*;
use uvs_director::{DropReason, Frame, Outbox, PortId, Verdict};

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_MAC: [u8; 6] = [1, 0, 0x5e, 0, 0, 0x12];
const BROADCAST: [u8; 6] = [0xff; 6];

fn web(bench: &Bench) {
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
}

fn vip() -> IpAddr {
    VIP.into()
}

/// An IP packet of protocol 112 in Ethernet.
fn advert(from: Ipv4Addr, to: Ipv4Addr, mac: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(PEER_MAC, mac).ipv4(from.octets(), to.octets(), 255);
    let mut bytes = Vec::new();
    packet.write(&mut bytes, IpNumber(112), payload).unwrap();
    bytes
}

fn hearing(bench: Bench) -> (Bench, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let director = bench.director.with_advertisements(move || {
        counted.fetch_add(1, Relaxed);
    });
    (Bench { director, now: bench.now }, wakes)
}

fn is_answered(bench: &Bench) -> bool {
    let asked = arp(1, (CLIENT_MAC, CLIENT), ([0; 6], VIP), BROADCAST);
    let (verdict, sent) = bench.send(CLIENT_SIDE, &asked);
    assert_eq!(verdict == Verdict::Consume, sent.len() == 1, "{verdict:?}");
    sent.len() == 1
}

fn announced(bench: &Bench) -> usize {
    let mut out = Outbox::new();
    bench.director.announce_some(&[vip()], &mut out);
    out.len()
}

#[test]
fn an_address_that_is_withheld_is_not_the_directors() {
    let bench = Bench::new();
    web(&bench);
    let syn = tcp((CLIENT, 4000), (VIP, 80), "S", b"");
    assert!(is_answered(&bench) && announced(&bench) == 1);
    bench.pass(CLIENT_SIDE, &syn);
    assert_eq!(bench.connections().len(), 1);

    bench.director.withhold([vip()]).unwrap();
    assert_eq!(bench.director.withheld(), [vip()]);
    assert!(!is_answered(&bench), "ARP");
    assert_eq!(announced(&bench), 0);
    bench.refused(CLIENT_SIDE, &tcp((CLIENT, 4001), (VIP, 80), "S", b""), DropReason::Transit);
    bench.refused(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 80), "A", b""), DropReason::Transit);
    bench.refused(CLIENT_SIDE, &ping(CLIENT, VIP), DropReason::Transit);
    let (_, pong) = bench.pass(CLIENT_SIDE, &ping(CLIENT, DIP));
    assert_eq!(pong[..6], CLIENT_MAC, "its own address is there as ever");
    assert_eq!(bench.connections().len(), 1, "what it knows is kept for when it comes back");

    // Whatever becomes of the network meanwhile: another VIP comes, and the same again.
    let mut interfaces = bench.director.interfaces();
    assert!(
        interfaces[0].addresses.contains(&Prefix::host(vip())),
        "it is given to its interface none the less"
    );
    interfaces[0].addresses.push("10.0.0.101/32".parse().unwrap());
    bench.apply(Change::SetAddresses(interfaces.clone()));
    assert!(!is_answered(&bench));
    bench.apply(Change::SetLinkMtu { port: CLIENT_SIDE, mtu: 1400 });
    assert!(!is_answered(&bench));
    bench.apply(Change::SetNetwork { interfaces, routes: vec![] });
    assert!(!is_answered(&bench));

    bench.director.withhold([]).unwrap();
    bench.apply(Change::SetNeighbor { port: SERVER_SIDE, addr: common::RS1.into(), mac: MacAddr(RS1_MAC) });
    assert!(is_answered(&bench) && announced(&bench) == 1);
    let (port, frame) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 4000), (VIP, 80), "A", b""));
    assert_eq!((port, read(&frame).to.0), (SERVER_SIDE, common::RS1.into()), "the connection goes on");
}

#[test]
fn who_has_an_address_that_is_withheld_is_a_neighbour_like_others() {
    let bench = Bench::new();
    bench.director.withhold([vip()]).unwrap();
    let told = arp(1, (PEER_MAC, VIP), (BROADCAST, VIP), BROADCAST);
    bench.refused(CLIENT_SIDE, &told, DropReason::ArpIgnored);
    assert_eq!(bench.director.conflicts(), [], "it is not ours");
    bench.director.withhold([]).unwrap();
    bench.refused(CLIENT_SIDE, &told, DropReason::ArpIgnored);
    assert_eq!(bench.director.conflicts().len(), 1, "now two say that they have it");
}

#[test]
fn what_is_wrong_with_a_network_does_not_depend_on_what_is_withheld() {
    let bench = Bench::new();
    bench.director.withhold([vip()]).unwrap();
    let mut interfaces = bench.director.interfaces();
    interfaces[1].addresses.push(Prefix::host(vip()));
    let refused = bench.director.apply(Change::SetAddresses(interfaces), bench.now).unwrap_err();
    assert!(refused.to_string().contains("10.0.0.100 is given to two interfaces"), "{refused}");
}

#[test]
fn a_virtual_link_local_address_takes_the_place_of_none() {
    let bench = Bench::new();
    let mut interfaces = bench.director.interfaces();
    interfaces[0]
        .addresses
        .extend(["2001:db8::1/64", "fe80::100/128"].map(|it| it.parse::<Prefix>().unwrap()));
    bench.apply(Change::SetAddresses(interfaces));
    let own = MacAddr(C0_MAC).link_local();
    let announced = |address: IpAddr| {
        let mut out = Outbox::new();
        bench.director.announce_some(&[address], &mut out);
        // Who listens to it, and where it is.
        out.len() == 2
    };
    let virtual_one = "fe80::100".parse().unwrap();
    assert!(announced(own.into()) && announced(virtual_one));
    bench.director.withhold([virtual_one]).unwrap();
    assert!(announced(own.into()) && !announced(virtual_one));
}

/// A check by direct routing is answered from the VIP, over the link of the servers, whoever answers for the VIP.
#[test]
fn checks_by_way_of_a_service_go_on_while_its_address_is_withheld() {
    let bench = Bench::new();
    let director = bench.director.with_local(LocalLimits::default(), || {});
    let bench = Bench { director, now: bench.now };
    bench.service(Protocol::Tcp, Forwarding::Direct, &["192.168.10.11:80"]);
    bench.director.withhold([vip()]).unwrap();
    let way = Way::Destination { addr: common::RS1.into(), port: 80, forwarding: Forwarding::Direct };
    let spec = SocketSpec {
        transport: Transport::Tcp,
        remote: vip(),
        remote_port: 80,
        way,
        source: None,
        may_fragment: false,
    };
    let binding = bench.director.open_local(&spec, bench.now).unwrap();
    let IpAddr::V4(own) = binding.addr else { panic!("{binding:?}") };
    let answer = tcp((VIP, 80), (own, binding.port), "SA", b"");
    let mut answer = answer;
    answer[..6].copy_from_slice(&common::R0_MAC);
    assert_eq!(bench.send(SERVER_SIDE, &answer).0, Verdict::Consume);
    assert!(matches!(bench.director.receive_local(), Some(Received::Packet(_))));
    let mut other = tcp((VIP, 81), (own, binding.port), "SA", b"");
    other[..6].copy_from_slice(&common::R0_MAC);
    bench.refused(SERVER_SIDE, &other, DropReason::SpoofedSource);
}

#[test]
fn advertisements_are_heard_by_who_wants_to_hear_them() {
    let (bench, wakes) = hearing(Bench::new());
    let (to_group, to_us) = (advert(PEER, GROUP, GROUP_MAC, &[1; 20]), advert(PEER, DIP, C0_MAC, &[2; 20]));
    bench.refused(CLIENT_SIDE, &to_group, DropReason::Multicast);
    let unreachable = bench.refused(CLIENT_SIDE, &to_us, DropReason::NotHandled);
    assert_eq!(wakes.load(Relaxed), 0);
    assert!(unreachable.len() <= 1, "{unreachable:?}");

    bench.director.hear_advertisements(true);
    for (heard, n) in [(&to_group, 1), (&to_us, 2)] {
        assert_eq!(bench.send(CLIENT_SIDE, heard), (Verdict::Consume, vec![]));
        assert_eq!(wakes.load(Relaxed), n);
        let (port, packet) = bench.director.receive_advertisement().unwrap();
        assert_eq!((port, &*packet), (CLIENT_SIDE, &heard[14..]));
        assert!(bench.director.receive_advertisement().is_none());
    }
    // Padded as on the wire.
    let padded = [&to_group[..], &[0; 20]].concat();
    bench.send(CLIENT_SIDE, &padded);
    assert_eq!(&*bench.director.receive_advertisement().unwrap().1, &to_group[14..]);
    // From one of our own addresses: somebody plays us.
    bench.refused(CLIENT_SIDE, &advert(DIP, GROUP, GROUP_MAC, &[1; 20]), DropReason::Martian);
    bench.director.hear_advertisements(false);
    bench.refused(CLIENT_SIDE, &to_group, DropReason::Multicast);
}

#[test]
fn who_floods_crowds_nobody_out() {
    let (bench, wakes) = hearing(Bench::new());
    bench.director.hear_advertisements(true);
    let flood = advert(Ipv4Addr::new(10, 0, 0, 66), GROUP, GROUP_MAC, &[0; 20]);
    let taken = (0..100).filter(|_| bench.send(CLIENT_SIDE, &flood).0 == Verdict::Consume).count();
    assert_eq!((taken, bench.dropped(DropReason::LocalQueueFull)), (8, 92));
    assert_eq!(bench.send(CLIENT_SIDE, &advert(PEER, GROUP, GROUP_MAC, &[7; 20])).0, Verdict::Consume);
    assert_eq!(wakes.load(Relaxed), 1, "once, until they are taken out");
    let all: Vec<_> = std::iter::from_fn(|| bench.director.receive_advertisement()).collect();
    assert_eq!((all.len(), all[8].1[20]), (9, 7));
    let long = advert(PEER, GROUP, GROUP_MAC, &[0; 9000]);
    bench.refused(CLIENT_SIDE, &long, DropReason::LocalQueueFull);
}

#[test]
fn advertisements_leave_to_the_group_and_to_peers() {
    let bench = Bench::new();
    let mut out = Outbox::new();
    let send = |to: Ipv4Addr, out: &mut Outbox| {
        let packet = advert(DIP, to, [0; 6], &[3; 20]);
        let mut frame = Frame::from_bytes(&packet[14..]);
        let verdict = bench.director.send_advertisement(CLIENT_SIDE, &mut frame, bench.now, out);
        (verdict, frame.bytes().to_vec(), packet[14..].to_vec())
    };
    let (verdict, frame, packet) = send(GROUP, &mut out);
    assert_eq!(verdict, Verdict::Transmit(CLIENT_SIDE));
    assert_eq!((&frame[..6], &frame[6..12], &frame[14..]), (&GROUP_MAC[..], &C0_MAC[..], &packet[..]));
    let (verdict, frame, _) = send(CLIENT, &mut out);
    assert_eq!((verdict, &frame[..6]), (Verdict::Transmit(CLIENT_SIDE), &CLIENT_MAC[..]));
    let (verdict, ..) = send(PEER, &mut out);
    assert_eq!((verdict, out.len()), (Verdict::Consume, 1), "it waits for the answer to ARP");
    let (verdict, ..) = send(Ipv4Addr::new(8, 8, 8, 8), &mut out);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoRoute));
    let mut frame = Frame::from_bytes(&[0x45, 0]);
    let verdict = bench.director.send_advertisement(PortId(9), &mut frame, bench.now, &mut out);
    assert_eq!(verdict, Verdict::Drop(DropReason::Truncated));
}
