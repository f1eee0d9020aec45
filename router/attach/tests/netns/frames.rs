//! Which frame goes where.

use std::net::UdpSocket;

use uvs_director::spec::MacAddr;
use uvs_wire::arp::{ArpRepr, Operation};
use uvs_wire::ethernet;

use crate::lab::{
    BROADCAST, DIRECTOR, DIRECTOR_IP, HOST, HOST_IP, Lab, SOON, STATION, STATION_IP, attach, hear_until,
    in_lab, send,
};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
/// Where the host listens.
const PORT: u16 = 7000;

fn frame(to: MacAddr, from: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut bytes, to.0, from.0, ethertype);
    bytes.extend_from_slice(payload);
    bytes
}

/// A datagram to the host's address and port, without a checksum of its own.
fn datagram(source: [u8; 4], text: &str) -> Vec<u8> {
    let length = u8::try_from(28 + text.len()).unwrap();
    let mut bytes = vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, 17, 0, 0];
    bytes.extend(source);
    bytes.extend(HOST_IP.octets());
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    bytes[10..12].copy_from_slice(&(!sum).to_be_bytes());
    for number in [9, PORT, u16::from(length) - 20, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// An IPv6 packet as far as the programs look at it.
fn ipv6(next_header: u8) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    (bytes[0], bytes[5], bytes[6], bytes[7]) = (0x60, 8, next_header, 255);
    bytes
}

fn arp(
    operation: Operation,
    to: MacAddr,
    from: (MacAddr, std::net::Ipv4Addr),
    target: std::net::Ipv4Addr,
) -> Vec<u8> {
    let repr =
        ArpRepr { operation, sender_mac: from.0.0, sender_ip: from.1, target_mac: [0; 6], target_ip: target };
    let mut bytes = [0; uvs_wire::arp::LEN];
    repr.emit(&mut bytes);
    frame(to, from.0, ethernet::ETHERTYPE_ARP, &bytes)
}

fn arp_in(frame: &[u8]) -> Option<ArpRepr> {
    let is_arp = frame.len() > ethernet::HEADER_LEN && ethernet::ethertype(frame) == ethernet::ETHERTYPE_ARP;
    is_arp.then(|| ArpRepr::parse(&frame[ethernet::HEADER_LEN..]).unwrap())
}

/// What the host's own socket gets, until `last`.
fn host_hears_until(socket: &UdpSocket, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    let mut buffer = [0; 100];
    while heard.last().is_none_or(|text| text != last) {
        let (length, _) =
            socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{error}; heard {heard:?}"));
        heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    heard
}

fn host_socket() -> UdpSocket {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// How frames of the wire divide between the director and the host.
#[test]
fn from_the_wire() {
    in_lab(false, async |lab| {
        let _attached = attach().await;
        let socket = host_socket();
        let from = STATION_IP.octets();
        let group = |last| MacAddr([0x33, 0x33, 0, 0, 0, last]);
        let hops = MacAddr([0x33, 0x33, 0xff, 0, 0, 1]);
        let mut tagged = vec![0, 5, 8, 0];
        tagged.extend(datagram(from, "tagged"));
        // Name, frame, whether the director gets it, and whether the host hears its text.
        let cases = [
            (
                "to the director, though by its address for the host",
                frame(DIRECTOR, STATION, IPV4, &datagram(from, "director")),
                true,
                None,
            ),
            ("to the host", frame(HOST, STATION, IPV4, &datagram(from, "host")), false, Some("host")),
            (
                "IPv4 to everybody",
                frame(BROADCAST, STATION, IPV4, &datagram(from, "everybody")),
                false,
                Some("everybody"),
            ),
            (
                "to a third party, as a switch that has forgotten",
                frame(MacAddr([2, 0, 0, 0, 0, 77]), STATION, IPV4, &datagram(from, "third")),
                false,
                None,
            ),
            (
                "ARP to everybody",
                arp(Operation::Request, BROADCAST, (STATION, STATION_IP), DIRECTOR_IP),
                true,
                None,
            ),
            (
                "ARP to the director",
                arp(Operation::Request, DIRECTOR, (STATION, STATION_IP), DIRECTOR_IP),
                true,
                None,
            ),
            ("ARP to the host", arp(Operation::Request, HOST, (STATION, STATION_IP), HOST_IP), false, None),
            ("neighbour discovery", frame(hops, STATION, IPV6, &ipv6(58)), true, None),
            ("MLD", frame(group(1), STATION, IPV6, &ipv6(0)), true, None),
            ("UDP over IPv6 to a group", frame(group(0xfb), STATION, IPV6, &ipv6(17)), false, None),
            ("IPv6 to the director", frame(DIRECTOR, STATION, IPV6, &ipv6(6)), true, None),
            ("an unknown protocol to the director", frame(DIRECTOR, STATION, 0x88cc, &[0; 60]), true, None),
            ("an unknown protocol to a group", frame(group(1), STATION, 0x88cc, &[0; 60]), false, None),
            ("in a VLAN, to the director", frame(DIRECTOR, STATION, VLAN, &tagged), false, None),
            ("in a VLAN, to everybody", frame(BROADCAST, STATION, VLAN, &tagged), false, None),
            ("IPv6 that is cut off, to a group", frame(group(1), STATION, IPV6, &[0x60; 5]), false, None),
        ];
        for (_, frame, ..) in &cases {
            send(&lab.station, frame);
        }
        let last = frame(DIRECTOR, STATION, IPV4, &datagram(from, "last"));
        send(&lab.station, &last);
        send(&lab.station, &frame(HOST, STATION, IPV4, &datagram(from, "last")));

        let heard = hear_until(&lab.tap, |frame| frame.bytes() == last);
        let heard: Vec<&[u8]> =
            heard.iter().map(|frame| frame.bytes()).filter(|it| it[6..12] == STATION.0).collect();
        let name =
            |bytes: &[u8]| cases.iter().find(|(_, frame, ..)| frame == bytes).map_or("?", |case| case.0);
        let mut names: Vec<&str> = heard.iter().map(|bytes| name(bytes)).collect();
        assert_eq!(names.pop(), Some("?"), "the last, which is no case");
        let want: Vec<&str> = cases.iter().filter(|case| case.2).map(|case| case.0).collect();
        assert_eq!(names, want, "what the director gets, each once and in order");
        let mut want: Vec<&str> = cases.iter().filter_map(|case| case.3).collect();
        want.push("last");
        assert_eq!(host_hears_until(&socket, "last"), want, "what the host gets");
    });
}

/// What the director writes goes to whom it is for: a station, the host, or both, once, and never back to the director.
#[test]
fn from_the_director() {
    in_lab(false, async |lab| {
        let _attached = attach().await;
        let socket = host_socket();
        let from = DIRECTOR_IP.octets();
        let to_station = frame(STATION, DIRECTOR, IPV4, &datagram(from, "station"));
        send(&lab.tap, &to_station);
        send(&lab.tap, &frame(HOST, DIRECTOR, IPV4, &datagram(from, "host")));
        // Asked by everybody's address, the host answers, and the station hears the question.
        let question = arp(Operation::Request, BROADCAST, (DIRECTOR, DIRECTOR_IP), HOST_IP);
        send(&lab.tap, &question);
        let last = frame(STATION, DIRECTOR, IPV4, &datagram(from, "last"));
        send(&lab.tap, &last);
        send(&lab.tap, &frame(HOST, DIRECTOR, IPV4, &datagram(from, "last")));

        let heard = hear_until(&lab.station, |frame| frame.bytes() == last);
        let heard: Vec<&[u8]> =
            heard.iter().map(|frame| frame.bytes()).filter(|it| it[6..12] == DIRECTOR.0).collect();
        assert_eq!(heard, [&to_station[..], &question, &last]);
        assert_eq!(host_hears_until(&socket, "last"), ["host", "last"]);
        let answers = |frame: &uvs_director::Frame| {
            arp_in(frame.bytes())
                .is_some_and(|arp| arp.operation == Operation::Reply && arp.sender_ip == HOST_IP)
        };
        let heard = hear_until(&lab.tap, answers);
        let own = heard.iter().filter(|frame| frame.bytes()[6..12] == DIRECTOR.0).count();
        assert_eq!(own, 0, "its own frames do not come back");
        let answer = heard.last().unwrap().bytes();
        assert_eq!((&answer[..6], &answer[6..12]), (&DIRECTOR.0[..], &HOST.0[..]));
    });
}

/// A process of the host talks to the director, as a client does; on the wire only the question is heard.
#[test]
fn from_the_host() {
    in_lab(false, async |lab| {
        let _attached = attach().await;
        let socket = host_socket();
        socket.send_to(b"hello", (DIRECTOR_IP, 80)).unwrap();
        let asks = |frame: &uvs_director::Frame| {
            arp_in(frame.bytes()).is_some_and(|arp| (arp.sender_ip, arp.target_ip) == (HOST_IP, DIRECTOR_IP))
        };
        hear_until(&lab.tap, asks);
        hear_until(&lab.station, asks);
        send(&lab.tap, &arp(Operation::Reply, HOST, (DIRECTOR, DIRECTOR_IP), HOST_IP));
        let is_hello = |frame: &uvs_director::Frame| frame.bytes().ends_with(b"hello");
        let heard = hear_until(&lab.tap, is_hello);
        assert_eq!(heard.last().unwrap().bytes()[..12], [DIRECTOR.0, HOST.0].concat());
        send(&lab.tap, &frame(HOST, DIRECTOR, IPV4, &datagram(DIRECTOR_IP.octets(), "and hello to you")));
        assert_eq!(host_hears_until(&socket, "and hello to you").len(), 1);

        // The station, asked for by the host, hears no word of that.
        socket.send_to(b"over the wire", (STATION_IP, 80)).unwrap();
        let asks = |frame: &uvs_director::Frame| {
            arp_in(frame.bytes()).is_some_and(|arp| arp.target_ip == STATION_IP)
        };
        assert!(!hear_until(&lab.station, asks).iter().any(is_hello));
        send(&lab.station, &arp(Operation::Reply, HOST, (STATION, STATION_IP), HOST_IP));
        hear_until(&lab.station, |frame| frame.bytes().ends_with(b"over the wire"));
    });
}

/// With the programs gone, all is the host's again.
#[test]
fn detached() {
    in_lab(false, async |lab| {
        let socket = host_socket();
        drop(attach().await);
        let promiscuity = |lab: &Lab| {
            let links = lab.host.net().links().unwrap();
            links.into_iter().find(|link| link.name == "eth0").unwrap().promiscuity
        };
        let to_director = frame(DIRECTOR, STATION, IPV4, &datagram(STATION_IP.octets(), "nobody"));
        send(&lab.station, &to_director);
        send(&lab.station, &frame(HOST, STATION, IPV4, &datagram(STATION_IP.octets(), "last")));
        assert_eq!(host_hears_until(&socket, "last"), ["last"]);
        let mut left = uvs_director::Frame::new();
        while lab.tap.queues()[0].receive(&mut left).unwrap() {
            assert_ne!(left.bytes(), to_director, "the TAP is not fed");
        }
        // A veth takes what is not for it by being promiscuous; the kernel counts who wants that.
        let before = promiscuity(lab);
        let attached = attach().await;
        let during = promiscuity(lab);
        drop(attached);
        let after = promiscuity(lab);
        assert_eq!((before, during, after), (0, 1, 0));
    });
}
