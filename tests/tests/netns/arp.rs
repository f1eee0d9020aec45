//! Who answers ARP, and what of others is noticed.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use uvs_director::spec::MacAddr;
use uvs_lab::Host;
use uvs_lab::topology::{DIP, Method, Plan, VIP, mac};
use uvs_wire::arp::Operation;

use crate::packet::{arp_in, arp_reply, arp_request};
use crate::peer::Talk;
use crate::stage::{Running, SOON, Stage, eventually, topology, turn};
use crate::station::Station;

const DIRECTOR: MacAddr = mac(1, 1);
const STRANGER: MacAddr = mac(1, 99);
const STRANGER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);

#[test]
fn only_the_directors_addresses_and_vips_are_answered() {
    let Some(_turn) = turn() else { return };
    let stage = Stage::of(Method::Nat);
    let station = Station::plug_in(&stage.topology.switches[0], STRANGER);
    let others = [
        (Ipv4Addr::new(10, 0, 0, 50), "nobody's"),
        (Ipv4Addr::new(10, 0, 0, 0), "the network's"),
        (Ipv4Addr::new(10, 0, 0, 255), "the broadcast address"),
        (Ipv4Addr::new(192, 168, 10, 1), "the director's own, of its other link"),
        (Ipv4Addr::new(192, 168, 10, 11), "a real server's, which the director could route to"),
        (Ipv4Addr::new(10, 0, 1, 1), "of a subnet that nobody has"),
        (Ipv4Addr::LOCALHOST, "the loopback's"),
        (Ipv4Addr::UNSPECIFIED, "no address"),
        (Ipv4Addr::new(224, 0, 0, 1), "a group's"),
    ];
    let ask = |to, target| station.send(&arp_request(to, (STRANGER, STRANGER_IP), target));
    for (target, _) in others {
        ask(MacAddr::BROADCAST, target);
        ask(DIRECTOR, target);
    }
    ask(MacAddr::BROADCAST, VIP);
    ask(DIRECTOR, DIP);
    // The director answers in turn: with the last answer all others would have come.
    let heard = station
        .hear_until(SOON, |frame| {
            arp_in(frame).is_some_and(|arp| arp.sender_ip == DIP && arp.operation == Operation::Reply)
        })
        .expect("the director answers for its own address");
    let replies: Vec<(MacAddr, Ipv4Addr)> = heard
        .iter()
        .filter_map(|frame| arp_in(frame))
        .filter(|arp| arp.operation == Operation::Reply)
        .map(|arp| (MacAddr(arp.sender_mac), arp.sender_ip))
        .collect();
    assert_eq!(replies, [(DIRECTOR, VIP), (DIRECTOR, DIP)], "none of {others:?}");
}

#[test]
fn gratuitous_arp_corrects_a_client_that_knew_another_owner_of_the_vip() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan::default());
    let client = topology.clients[0].host.clone();
    let (service, config, host) = (topology.service, topology.config.clone(), topology.director.clone());
    let before = Station::plug_in(&topology.switches[0], STRANGER);
    // The client asks for the VIP, and who has it before the director says so.
    client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", service).unwrap()).unwrap();
    let asks = |frame: &[u8]| arp_in(frame).is_some_and(|arp| arp.target_ip == VIP);
    before.hear_until(SOON, asks).expect("the client asks for the VIP");
    before.send(&arp_reply((STRANGER, VIP), (mac(1, 2), topology.clients[0].address)));
    eventually("the client knows the former owner", || (vip_of(&client) == Some(STRANGER)).then_some(()));

    let director = Running::start(&host, &config);
    eventually("the client knows the director", || (vip_of(&client) == Some(DIRECTOR)).then_some(()));
    let stranger = before.hear_until(SOON, |frame| {
        arp_in(frame).is_some_and(|arp| (arp.sender_ip, arp.target_ip) == (VIP, VIP))
    });
    assert!(stranger.is_some(), "everybody on the segment was told");
    drop(director);
    drop(topology);
}

#[test]
fn a_real_server_without_arp_suppression_is_noticed() {
    let Some(_turn) = turn() else { return };
    let plan = Plan { suppress_arp: false, real_servers: 2, ..Plan::default() };
    let mut stage = Stage::with(Method::Direct, &plan);
    let service = stage.topology.service;
    // Whoever of the three answers the client's question gets the connection, and it works: the client notices nothing.
    stage.client().run(|| Talk::open(service).unwrap().say(b"hello").unwrap()).unwrap();
    let vip = VIP.to_string();
    for last in [11, 12] {
        let mac = mac(1, last).to_string();
        let labels = [("interface", "c0"), ("address", vip.as_str()), ("mac", mac.as_str())];
        eventually("the metric names the real server", || {
            (stage.director().metric("uvs_address_conflicts_total", &labels) > 0).then_some(())
        });
        let warning = format!("{mac} claims {VIP}, an address of the director");
        eventually("the log names the real server", || {
            stage.director().get().log().contains(&warning).then_some(())
        });
    }
}

#[test]
fn real_servers_with_arp_suppression_are_no_conflict() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Direct);
    let service = stage.topology.service;
    for number in 0..9_u8 {
        stage.client().run(|| Talk::open(service).unwrap().say(&[number]).unwrap()).unwrap();
    }
    assert_eq!(stage.shares(), [3, 3, 3], "all three have answered");
    assert_eq!(stage.director().metric("uvs_address_conflicts_total", &[]), 0);
    assert_eq!(vip_of(stage.client()), Some(DIRECTOR));
}

/// Which MAC address a host believes the VIP to have.
fn vip_of(host: &Host) -> Option<MacAddr> {
    let table = host.run(|| fs::read_to_string("/proc/thread-self/net/arp").unwrap()).unwrap();
    let vip = VIP.to_string();
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Address, hardware type, flags, MAC address...; without flags it is a question without an answer.
        (fields.first() == Some(&vip.as_str()) && fields[2] != "0x0").then(|| fields[3].parse().unwrap())
    })
}
