//! What the program unpacks, frame by frame, and what it leaves to others.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use uvs_attach::{DECAP_OBJECT, Decapsulated, Decapsulator};
use uvs_wire::ethernet;

use crate::lab::{HOST, HOST_IP, SOON, STATION, STATION_IP, in_lab, object, send};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);
const PORT: u16 = 7000;
const IPIP: u8 = 4;

fn sum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

/// An IPv4 packet whose header `edit` changes before it is summed up.
fn ipv4(protocol: u8, to: Ipv4Addr, payload: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, protocol, 0, 0];
    bytes.extend(if to == VIP { CLIENT } else { STATION_IP }.octets());
    bytes.extend(to.octets());
    let length = u16::try_from(bytes.len() + payload.len()).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    edit(&mut bytes);
    let checksum = !sum(&bytes);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A datagram without a checksum of its own.
fn udp(text: &str) -> Vec<u8> {
    let length = u16::try_from(8 + text.len()).unwrap();
    let mut bytes: Vec<u8> = [9, PORT, length, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    bytes.extend(text.as_bytes());
    bytes
}

fn frame(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut bytes, HOST.0, STATION.0, ethertype);
    bytes.extend_from_slice(packet);
    bytes
}

fn attach() -> Decapsulator {
    let (rip, vip) = (IpAddr::V4(HOST_IP), IpAddr::V4(VIP));
    let bytes = object("decap.bpf.o", DECAP_OBJECT);
    Decapsulator::with_object(&["eth0".to_owned()], &[rip], &[vip], &bytes)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A socket that gets IP packets of a protocol, headers and all.
fn raw(protocol: u8) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol)))).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

#[test]
fn what_is_whole_and_for_a_vip_is_unpacked_and_nothing_else() {
    in_lab(false, async |lab| {
        lab.host.net().add_address("lo", format!("{VIP}/32").parse().unwrap()).unwrap();
        lab.host.set_sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
        lab.host.set_sysctl("net.ipv4.conf.eth0.rp_filter", "0").unwrap();
        let program = attach();
        let service = UdpSocket::bind((VIP, PORT)).unwrap();
        service.set_read_timeout(Some(SOON)).unwrap();

        let same = |_: &mut Vec<u8>| ();
        let inner = ipv4(17, VIP, &udp("hello"), same);
        let tunnelled = |inner: &[u8]| ipv4(IPIP, HOST_IP, inner, same);
        let odd: [(Vec<u8>, &str); 9] = [
            (inner.clone(), "not tunnelled: VIPs are not on this wire, but it is the host's to say"),
            (tunnelled(&ipv4(17, HOST_IP, &udp("x"), same)), "for an address of the host that is no VIP"),
            (tunnelled(&inner[..24]), "longer than the outer packet"),
            (tunnelled(&ipv4(17, VIP, &udp("x"), |h| h[0] = 0x55)), "no IPv4 inside"),
            (ipv4(IPIP, VIP, &inner, same), "the outer packet is not to the RIP"),
            (ipv4(IPIP, HOST_IP, &inner, |h| h[6] = 0x20), "a fragment"),
            (ipv4(IPIP, HOST_IP, &inner, |h| h[7] = 3), "the last fragment"),
            (
                ipv4(IPIP, HOST_IP, &inner, |h| {
                    h[0] = 0x46;
                    h[3] += 4;
                    h.extend([1, 1, 1, 0]);
                }),
                "options",
            ),
            (
                {
                    let mut damaged = tunnelled(&inner);
                    damaged[10] ^= 1;
                    damaged
                },
                "a damaged header",
            ),
        ];
        for (packet, why) in odd {
            send(&lab.station, &frame(ethernet::ETHERTYPE_IPV4, &packet));
            // One that is taken behind it: the odd one has passed by then.
            let before = program.counters().packets;
            send(&lab.station, &frame(ethernet::ETHERTYPE_IPV4, &tunnelled(&ipv4(17, VIP, &udp(why), same))));
            let mut buffer = [0; 200];
            loop {
                let (length, from) = service.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{why}: {e}"));
                assert_eq!(from, (CLIENT, 9).into(), "{why}");
                if &buffer[..length] == why.as_bytes() {
                    break;
                }
                assert_eq!(&buffer[..length], b"hello", "{why}");
            }
            assert_eq!(program.counters().packets, before + 1, "{why}");
        }
        assert_eq!(program.counters().congested, 0);
        drop(program);

        // Gone with its owner: the host's stack gets tunnelled packets as they are.
        let mut tunnels = raw(IPIP);
        let mut buffer = [0; 200];
        send(&lab.station, &frame(ethernet::ETHERTYPE_IPV4, &tunnelled(&inner)));
        let length = tunnels.read(&mut buffer).unwrap();
        assert_eq!(buffer[..length], tunnelled(&inner));
    });
}

#[test]
fn congestion_in_the_tunnel_reaches_the_inner_packet() {
    in_lab(false, async |lab| {
        lab.host.net().add_address("lo", format!("{VIP}/32").parse().unwrap()).unwrap();
        lab.host.set_sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
        lab.host.set_sysctl("net.ipv4.conf.eth0.rp_filter", "0").unwrap();
        let program = attach();
        let mut datagrams = raw(17);
        let tunnelled = |inner_ecn: u8, outer_ecn: u8, text: &str| {
            let inner = ipv4(17, VIP, &udp(text), |h| h[1] = 0x20 | inner_ecn);
            frame(ethernet::ETHERTYPE_IPV4, &ipv4(IPIP, HOST_IP, &inner, |h| h[1] = outer_ecn))
        };
        // (inner, outer, inner afterwards): RFC 6040, figure 4, as far as CE goes; the lost one comes first.
        send(&lab.station, &tunnelled(0, 3, "lost"));
        for (inner, outer, want) in [(0, 0, 0), (2, 3, 3), (1, 3, 3), (3, 3, 3), (2, 2, 2)] {
            let text = format!("{inner}{outer}");
            send(&lab.station, &tunnelled(inner, outer, &text));
            let mut buffer = [0; 200];
            let length = datagrams.read(&mut buffer).unwrap();
            let packet = &buffer[..length];
            assert_eq!(&packet[28..], text.as_bytes());
            assert_eq!(packet[1], 0x20 | want, "inner {inner}, outer {outer}");
            assert_eq!(sum(&packet[..20]), 0xffff, "the checksum follows");
        }
        assert_eq!(program.counters(), Decapsulated { packets: 5, congested: 1 });
    });
}
