//! The engine as its user sees it: frames in, frames out, listings.

mod common;

use std::net::Ipv4Addr;

use common::*;
use proptest::prelude::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration, Frame, Outbox, PortId, Verdict};

const IPIP: Forwarding = Forwarding::Tunnel(Tunnel::Ipip);

#[test]
fn arp_is_answered_for_our_addresses_and_vips_and_for_nothing_else() {
    let bench = Bench::bare(Limits::default());
    let ask = |target| arp(1, (CLIENT_MAC, CLIENT), ([0; 6], target), [0xff; 6]);
    for ours in [DIP, VIP] {
        let (port, reply) = bench.pass(CLIENT_SIDE, &ask(ours));
        assert_eq!(port, CLIENT_SIDE);
        assert_eq!(reply, arp(2, (C0_MAC, ours), (CLIENT_MAC, CLIENT), CLIENT_MAC));
    }
    let others = [Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(192, 168, 10, 1), CLIENT];
    for other in others {
        let sent = bench.refused(CLIENT_SIDE, &ask(other), DropReason::ArpIgnored);
        assert!(sent.is_empty(), "no answer for {other}");
    }
}

#[test]
fn start_is_announced_by_gratuitous_arp() {
    let bench = Bench::bare(Limits::default());
    let mut out = Outbox::new();
    bench.director.announce(&mut out);
    let sent: Vec<_> = out.drain().map(|(port, frame)| (port, frame.bytes().to_vec())).collect();
    let own = |mac, addr| arp(1, (mac, addr), ([0; 6], addr), [0xff; 6]);
    let gateway = Ipv4Addr::new(192, 168, 10, 1);
    assert_eq!(
        sent,
        [
            (CLIENT_SIDE, own(C0_MAC, DIP)),
            (CLIENT_SIDE, own(C0_MAC, VIP)),
            (SERVER_SIDE, own(R0_MAC, gateway))
        ]
    );
}

#[test]
fn a_real_server_that_answers_arp_for_the_vip_is_noticed() {
    let bench = Bench::new();
    bench.send(CLIENT_SIDE, &arp(2, (RS1_MAC, VIP), (CLIENT_MAC, CLIENT), [0xff; 6]));
    bench.send(CLIENT_SIDE, &arp(1, (RS1_MAC, VIP), ([0; 6], VIP), [0xff; 6]));
    let conflicts = bench.director.status().conflicts;
    assert_eq!(conflicts.len(), 1);
    assert_eq!((conflicts[0].addr, conflicts[0].mac, conflicts[0].count), (VIP.into(), MacAddr(RS1_MAC), 2));
}

#[test]
fn a_true_conflict_is_not_hidden_by_made_up_ones() {
    let bench = Bench::new();
    for n in 0..200 {
        bench.send(CLIENT_SIDE, &arp(2, ([2, 9, 9, 9, 9, n], VIP), (CLIENT_MAC, CLIENT), [0xff; 6]));
    }
    bench.send(CLIENT_SIDE, &arp(2, (RS1_MAC, VIP), (CLIENT_MAC, CLIENT), [0xff; 6]));
    let conflicts = bench.director.status().conflicts;
    assert_eq!(conflicts.len(), 64);
    assert!(conflicts.iter().any(|conflict| conflict.mac == MacAddr(RS1_MAC)));
}

#[test]
fn frames_wait_for_an_address_within_bounds_and_leave_in_order() {
    let bench = Bench::bare(Limits { neighbor_queue_bytes: 2 * (29 + 256), ..Limits::default() });
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:5353"]);
    let request = |n: u8| udp((CLIENT, 4000), (VIP, 53), &[n]);
    let (verdict, sent) = bench.send(CLIENT_SIDE, &request(1));
    assert_eq!(verdict, Verdict::Consume);
    let question = arp(1, (R0_MAC, Ipv4Addr::new(192, 168, 10, 1)), ([0; 6], RS1), [0xff; 6]);
    assert_eq!(sent, [(SERVER_SIDE, question)]);
    let (verdict, sent) = bench.send(CLIENT_SIDE, &request(2));
    assert_eq!((verdict, sent), (Verdict::Consume, vec![]), "asked once a second, not for each frame");
    bench.send(CLIENT_SIDE, &request(3));
    assert_eq!(bench.dropped(DropReason::NeighborQueueFull), 1, "the oldest");

    let answer = arp(2, (RS1_MAC, RS1), (R0_MAC, Ipv4Addr::new(192, 168, 10, 1)), R0_MAC);
    let (_, sent) = bench.send(SERVER_SIDE, &answer);
    let payloads: Vec<_> = sent.iter().map(|(_, frame)| read(frame).payload).collect();
    assert_eq!(payloads, [vec![2], vec![3]]);
    assert_eq!(read(&sent[0].1).macs, (RS1_MAC, R0_MAC));
}

/// A reset in the client's name for a server whose MAC address does not come: the client has sent nothing.
#[test]
fn nobody_is_told_of_what_the_director_made_itself() {
    let mut bench = Bench::bare(Limits::default());
    bench.apply(Change::SetNeighbor { port: CLIENT_SIDE, addr: CLIENT.into(), mac: MacAddr(CLIENT_MAC) });
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    let unknown = tcp((RS1, 80), (CLIENT, 4000), "A", b"");
    let asked = bench.refused(SERVER_SIDE, &unknown, DropReason::UnknownAnswer);
    assert_eq!(asked.len(), 1, "the reset waits for the server's MAC address");
    let sent = bench.advance(Duration::from_secs(5));
    assert!(sent.iter().all(|(port, _)| *port == SERVER_SIDE), "{sent:?}");
    assert_eq!(bench.dropped(DropReason::Unreachable), 1);
}

#[test]
fn a_neighbour_that_never_answers_is_reported_to_the_client_in_its_own_words() {
    let mut bench = Bench::bare(Limits::default());
    bench.apply(Change::SetNeighbor { port: CLIENT_SIDE, addr: CLIENT.into(), mac: MacAddr(CLIENT_MAC) });
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:5353"]);
    bench.send(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), b"?"));
    let sent = bench.advance(Duration::from_secs(5));
    let questions = sent.iter().filter(|(port, _)| *port == SERVER_SIDE).count();
    assert_eq!(questions, 2, "asked again twice");
    let errors: Vec<_> = sent.iter().filter(|(port, _)| *port == CLIENT_SIDE).collect();
    assert_eq!(errors.len(), 1);
    let (from, to, kind, code, _, quoted) = read_icmp(&errors[0].1);
    assert_eq!((from, to, kind, code), (VIP, CLIENT, 3, 1), "host unreachable");
    assert_eq!(
        (&quoted[16..20], &quoted[22..24]),
        (&VIP.octets()[..], &[0, 53][..]),
        "VIP and its port quoted"
    );
    assert_eq!(bench.dropped(DropReason::Unreachable), 1);
}

#[test]
fn an_unsolicited_arp_reply_creates_nothing() {
    let bench = Bench::bare(Limits::default());
    bench.send(SERVER_SIDE, &arp(2, (RS1_MAC, RS1), ([9; 6], RS2), [0xff; 6]));
    assert_eq!(bench.director.neighbors().len(), 0);
}

#[test]
fn ping_is_answered_by_the_director_for_its_addresses_and_vips() {
    let bench = Bench::new();
    for ours in [DIP, VIP] {
        let (port, reply) = bench.pass(CLIENT_SIDE, &ping(CLIENT, ours));
        let (from, to, kind, _, rest, data) = read_icmp(&reply);
        assert_eq!((port, from, to, kind, rest), (CLIENT_SIDE, ours, CLIENT, 0, 7 << 16 | 1));
        assert_eq!(data, b"0123456789");
    }
}

#[test]
fn nat_there_and_back_is_seamless() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let request = tcp((CLIENT, 40000), (VIP, 80), "S", b"");
    let (port, frame) = bench.pass(CLIENT_SIDE, &request);
    let seen = read(&frame);
    assert_eq!(port, SERVER_SIDE);
    assert_eq!(seen.macs, (RS1_MAC, R0_MAC));
    assert_eq!((seen.from, seen.to, seen.ttl), ((CLIENT.into(), 40000), (RS1.into(), 8080), 63));

    let (port, frame) = bench.pass(SERVER_SIDE, &tcp((RS1, 8080), (CLIENT, 40000), "SA", b""));
    let seen = read(&frame);
    assert_eq!(port, CLIENT_SIDE);
    assert_eq!(seen.macs, (CLIENT_MAC, C0_MAC));
    assert_eq!((seen.from, seen.to), ((VIP.into(), 80), (CLIENT.into(), 40000)));

    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "A", b"hello"));
    let connections = bench.connections();
    assert_eq!(connections.len(), 1);
    assert_eq!((connections[0].state, connections[0].active), ("ESTABLISHED", true));
    assert_eq!(bench.load("192.168.10.11:8080"), (1, 0));
    let total = bench.director.status().total;
    assert_eq!((total.connections, total.packets_in, total.packets_out), (1, 2, 1));
    assert_eq!((total.bytes_in, total.bytes_out), (40 + 45, 40));
}

#[test]
fn direct_routing_changes_mac_addresses_and_ttl_only() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Direct, &["192.168.10.12:80"]);
    let request = tcp((CLIENT, 40000), (VIP, 80), "S", b"");
    let (port, frame) = bench.pass(CLIENT_SIDE, &request);
    let seen = read(&frame);
    assert_eq!((port, seen.macs), (SERVER_SIDE, (RS2_MAC, R0_MAC)));
    assert_eq!((seen.from, seen.to, seen.ttl), ((CLIENT.into(), 40000), (VIP.into(), 80), 63));
    assert_eq!(frame[14 + 20..], request[14 + 20..], "nothing changed above IP");
}

#[test]
fn tunnelling_wraps_and_unwraps_to_what_was_sent() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, IPIP, &["192.168.10.11:80"]);
    let request = tcp((CLIENT, 40000), (VIP, 80), "S", b"");
    let (port, frame) = bench.pass(CLIENT_SIDE, &request);
    assert_eq!(port, SERVER_SIDE);
    let outer = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
    assert_eq!((outer.source, outer.destination), ([192, 168, 10, 1], RS1.octets()));
    assert_eq!((outer.protocol.0, outer.time_to_live), (4, 63));
    assert_eq!(outer.calc_header_checksum(), outer.header_checksum);
    let mut inner = frame[..14].to_vec();
    inner.extend(&frame[14 + 20..]);
    let seen = read(&inner);
    assert_eq!((seen.from, seen.to, seen.ttl), ((CLIENT.into(), 40000), (VIP.into(), 80), 63));
}

#[test]
fn what_does_not_fit_into_the_tunnel_is_refused_with_the_size_that_does() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, IPIP, &["192.168.10.11:80"]);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S", b""));
    let fits = tcp((CLIENT, 40000), (VIP, 80), "A", &[7; 1440]);
    bench.pass(CLIENT_SIDE, &fits);
    let too_big = tcp((CLIENT, 40000), (VIP, 80), "A", &[7; 1441]);
    let sent = bench.refused(CLIENT_SIDE, &too_big, DropReason::FragmentationNeeded);
    let (from, to, kind, code, mtu, _) = read_icmp(&sent[0].1);
    assert_eq!((from, to, kind, code, mtu), (VIP, CLIENT, 3, 4, 1480));
}

#[test]
fn a_packet_out_of_hops_is_reported_and_goes_nowhere() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    let last_hop = tcp_ttl((CLIENT, 40000), (VIP, 80), "S", b"", 1);
    let sent = bench.refused(CLIENT_SIDE, &last_hop, DropReason::TtlExceeded);
    let (from, to, kind, code, _, quoted) = read_icmp(&sent[0].1);
    assert_eq!((from, to, kind, code), (VIP, CLIENT, 11, 0));
    assert_eq!(quoted, last_hop[14..], "the packet as it was sent");
}

#[test]
fn packets_to_others_are_routed_between_the_interfaces() {
    let bench = Bench::new();
    bench.apply(Change::SetOptions(Options { transit: Transit::Any, ..Options::default() }));
    let (port, frame) = bench.pass(CLIENT_SIDE, &udp((CLIENT, 5), (RS1, 6), b"routed"));
    let seen = read(&frame);
    assert_eq!((port, seen.ttl, seen.payload.as_slice()), (SERVER_SIDE, 63, &b"routed"[..]));
    let nowhere = udp((CLIENT, 5), (Ipv4Addr::new(172, 16, 0, 1), 6), b"");
    let sent = bench.refused(CLIENT_SIDE, &nowhere, DropReason::NoRoute);
    let (from, _, kind, code, ..) = read_icmp(&sent[0].1);
    assert_eq!((from, kind, code), (DIP, 3, 0), "net unreachable");
}

#[test]
fn icmp_errors_are_limited_in_rate() {
    let bench = Bench::with_limits(Limits { icmp_errors_per_second: 20, ..Limits::default() });
    let lost = udp((CLIENT, 5), (Ipv4Addr::new(172, 16, 0, 1), 6), b"");
    let said: usize = (0..10).map(|_| bench.send(CLIENT_SIDE, &lost).1.len()).sum();
    assert_eq!(said, 1);
    assert_eq!(bench.dropped(DropReason::IcmpRateLimited), 9);
}

#[test]
fn one_source_takes_no_icmp_errors_of_others_nor_of_path_mtu_discovery() {
    let bench = Bench::new();
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53"]);
    let nowhere = Ipv4Addr::new(172, 16, 0, 1);
    let told = |from| bench.send(CLIENT_SIDE, &udp((from, 5), (nowhere, 6), b"")).1.len();
    let flood: usize = (0..1000).map(|_| told(CLIENT)).sum();
    assert!((1..10).contains(&flood), "{flood} at once to one source");
    assert_eq!(told(Ipv4Addr::new(10, 0, 0, 3)), 1, "another hears");
    for last in 4..=250 {
        told(Ipv4Addr::new(10, 0, 0, last));
    }
    assert_eq!(told(Ipv4Addr::new(10, 0, 0, 251)), 0, "there is a limit for all");
    let mut big = udp((CLIENT, 5), (VIP, 53), &[0; 2000]);
    big[20] |= 0x40;
    uvs_wire::ipv4::fill_checksum(&mut big[14..34]);
    let told = bench.refused(CLIENT_SIDE, &big, DropReason::FragmentationNeeded);
    assert_eq!(told.len(), 1, "the size that fits");
}

#[test]
fn no_destination_is_answered_by_port_unreachable() {
    let bench = Bench::new();
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &[]);
    let syn = tcp((CLIENT, 40000), (VIP, 80), "S", b"");
    let sent = bench.refused(CLIENT_SIDE, &syn, DropReason::NoDestination);
    assert_eq!(read_icmp(&sent[0].1).2..=read_icmp(&sent[0].1).3, 3..=3);
    let mut quiesced = DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Nat);
    quiesced.weight = 0;
    bench.apply(Change::AddDestination(key, quiesced));
    bench.refused(CLIENT_SIDE, &syn, DropReason::NoDestination);
    assert!(bench.connections().is_empty());
}

#[test]
fn a_quiesced_destination_keeps_its_connections_and_gets_no_new_one() {
    let bench = Bench::new();
    let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S", b""));
    let mut spec = DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Nat);
    spec.weight = 0;
    bench.apply(Change::EditDestination(key, spec));
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "A", b""));
    let new = tcp((CLIENT, 40001), (VIP, 80), "S", b"");
    bench.refused(CLIENT_SIDE, &new, DropReason::NoDestination);
}

#[test]
fn a_segment_of_no_connection_is_reset() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    let sent = bench.refused(CLIENT_SIDE, &tcp((CLIENT, 1), (VIP, 80), "A", b""), DropReason::NoConnection);
    let seen = read(&sent[0].1);
    assert_eq!((seen.from, seen.to), ((VIP.into(), 80), (CLIENT.into(), 1)));
    assert_eq!(sent[0].1[14 + 20 + 13] & 0x3f, 4, "RST alone");
    let sent = bench.refused(CLIENT_SIDE, &tcp((CLIENT, 1), (VIP, 80), "R", b""), DropReason::NoConnection);
    assert!(sent.is_empty(), "a reset is not answered");
}

#[test]
fn removal_drops_in_silence_or_ends_connections_as_configured() {
    for expire in [false, true] {
        let bench = Bench::new();
        let key = bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
        bench.apply(Change::SetOptions(Options { expire_nodest_conn: expire, ..Options::default() }));
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S", b""));
        bench.apply(Change::RemoveDestination(key, "192.168.10.11:80".parse().unwrap()));
        assert_eq!(bench.connections().len(), usize::from(!expire));
        let data = tcp((CLIENT, 40000), (VIP, 80), "A", b"");
        if expire {
            bench.refused(CLIENT_SIDE, &data, DropReason::NoConnection);
        } else {
            bench.refused(CLIENT_SIDE, &data, DropReason::DestinationGone);
            let reply = tcp((RS1, 80), (CLIENT, 40000), "SA", b"");
            let seen = read(&bench.pass(SERVER_SIDE, &reply).1);
            assert_eq!(seen.from, (VIP.into(), 80), "replies are still translated");
            // Added again, it takes its connection back.
            let spec = DestinationSpec::new("192.168.10.11:80".parse().unwrap(), Forwarding::Nat);
            bench.apply(Change::AddDestination(key, spec));
            bench.pass(CLIENT_SIDE, &data);
            assert_eq!(bench.load("192.168.10.11:80"), (1, 0));
        }
    }
}

#[test]
fn a_udp_flow_whose_destination_went_away_moves_with_its_next_packet() {
    let bench = Bench::new();
    let key = bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:53", "192.168.10.12:53"]);
    let packet = udp((CLIENT, 4000), (VIP, 53), b"?");
    let first = read(&bench.pass(CLIENT_SIDE, &packet).1).to;
    bench.apply(Change::RemoveDestination(key, first.into()));
    let second = read(&bench.pass(CLIENT_SIDE, &packet).1).to;
    assert_ne!(first, second);
}

#[test]
fn connections_expire_on_time_and_leave_nothing() {
    let mut bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S", b""));
    bench.advance(Duration::from_secs(59));
    assert_eq!(bench.connections().len(), 1, "SYN_RECV lives 60 s");
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "A", b""));
    bench.advance(Duration::from_secs(899));
    assert_eq!(bench.connections().len(), 1, "ESTABLISHED lives 900 s from its last packet");
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "R", b""));
    assert_eq!(bench.load("192.168.10.11:80"), (0, 1));
    bench.advance(Duration::from_millis(10_100));
    assert_eq!(bench.director.status().connections, 0, "CLOSE lives 10 s, also after a longer timer");
    assert_eq!(bench.load("192.168.10.11:80"), (0, 0));
}

#[test]
fn the_connection_table_is_bounded() {
    let bench = Bench::with_limits(Limits { connections: 2, evict: Evict::None, ..Limits::default() });
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80"]);
    for port in [1, 2] {
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b""));
    }
    bench.refused(CLIENT_SIDE, &tcp((CLIENT, 3), (VIP, 80), "S", b""), DropReason::ConnectionLimit);
    assert_eq!(bench.load("192.168.10.11:80"), (2, 0));
}

#[test]
fn an_icmp_error_about_a_translated_packet_reaches_the_client_in_its_own_words() {
    let bench = Bench::new();
    bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:5353"]);
    let (_, forwarded) = bench.pass(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), b"?"));
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(&forwarded[14..]);
    let sum = message.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0))
    });
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut error = Vec::new();
    etherparse::PacketBuilder::ethernet2(RS1_MAC, R0_MAC)
        .ipv4(RS1.octets(), CLIENT.octets(), 64)
        .write(&mut error, etherparse::IpNumber::ICMP, &message)
        .unwrap();
    let (port, frame) = bench.pass(SERVER_SIDE, &error);
    let (from, to, kind, code, _, quoted) = read_icmp(&frame);
    assert_eq!((port, from, to, kind, code), (CLIENT_SIDE, VIP, CLIENT, 3, 3));
    assert_eq!((&quoted[16..20], &quoted[22..24]), (&VIP.octets()[..], &[0, 53][..]));
    let inner = etherparse::Ipv4HeaderSlice::from_slice(&quoted).unwrap().to_header();
    assert_eq!(inner.calc_header_checksum(), inner.header_checksum);
}

#[test]
fn bad_frames_are_dropped_by_name() {
    let bench = Bench::new();
    let good = tcp((CLIENT, 1), (VIP, 80), "S", b"");
    let with = |offset: usize, byte: u8| {
        let mut bad = good.clone();
        bad[offset] = byte;
        bad
    };
    let cases: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("an empty frame", vec![], DropReason::Truncated),
        ("half an Ethernet header", good[..10].to_vec(), DropReason::Truncated),
        ("half an IP header", good[..20].to_vec(), DropReason::Truncated),
        ("half a TCP header", good[..40].to_vec(), DropReason::Truncated),
        ("another station's frame", with(5, 9), DropReason::NotForUs),
        ("an unknown protocol", with(12, 0x99), DropReason::UnknownEtherType),
        ("IP version 7", with(14, 0x75), DropReason::Malformed),
        ("a header length of 8 bytes", with(14, 0x42), DropReason::Malformed),
        ("a wrong header checksum", with(24, good[24] ^ 1), DropReason::BadChecksum),
        ("our own address as its source", tcp((VIP, 1), (VIP, 80), "S", b""), DropReason::Martian),
        ("a loopback source", tcp((Ipv4Addr::LOCALHOST, 1), (VIP, 80), "S", b""), DropReason::Martian),
        (
            "a multicast target",
            udp((CLIENT, 1), (Ipv4Addr::new(224, 0, 0, 5), 9), b""),
            DropReason::Multicast,
        ),
        (
            "a broadcast target",
            udp((CLIENT, 1), (Ipv4Addr::new(10, 0, 0, 255), 9), b""),
            DropReason::Multicast,
        ),
        ("too long", vec![2; uvs_director::FRAME_MAX + 1], DropReason::Oversized),
    ];
    for (what, bytes, want) in cases {
        let (verdict, sent) = bench.send(CLIENT_SIDE, &bytes);
        assert_eq!(verdict, Verdict::Drop(want), "{what}");
        assert!(sent.is_empty(), "{what} is answered");
    }
}

#[test]
fn both_directions_may_come_in_on_different_workers() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:80", "192.168.10.12:80"]);
    let ports = 2000u16..4000;
    let worker = |mine: u16| {
        let mut lost = 0;
        for port in ports.clone().filter(|port| port % 2 == mine) {
            let (_, frame) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "S", b""));
            let to = read(&frame).to;
            let std::net::IpAddr::V4(server) = to.0 else { unreachable!() };
            let answer = tcp((server, 80), (CLIENT, port), "SA", b"");
            // The answer is handled by the other worker at the same moment as this one goes on.
            let back = std::thread::scope(|scope| {
                let back = scope.spawn(|| bench.pass(SERVER_SIDE, &answer));
                bench.pass(CLIENT_SIDE, &tcp((CLIENT, port), (VIP, 80), "A", b""));
                back.join().unwrap()
            });
            lost += usize::from(read(&back.1).from != (VIP.into(), 80));
        }
        lost
    };
    let lost: usize = std::thread::scope(|scope| {
        let other = scope.spawn(|| worker(1));
        worker(0) + other.join().unwrap()
    });
    assert_eq!(lost, 0);
    let (one, two) = (bench.load("192.168.10.11:80"), bench.load("192.168.10.12:80"));
    assert_eq!(one.0 + one.1 + two.0 + two.1, 2000, "every connection is counted once");
    assert_eq!(bench.connections().len(), 2000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever arrives, on whatever interface: a verdict, no panic, and counters that agree with the table.
    #[test]
    fn nothing_that_arrives_breaks_the_director(
        frames in prop::collection::vec((0u16..3, frame(), 0u64..40), 1..40),
    ) {
        let mut bench = Bench::new();
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080", "192.168.10.12:80"]);
        bench.service(Protocol::Udp, IPIP, &["192.168.10.11:53"]);
        for (port, bytes, seconds) in frames {
            let mut frame = Frame::from_bytes(&bytes);
            bench.director.handle(uvs_director::PortId(port), &mut frame, bench.now, &mut Outbox::new());
            bench.advance(Duration::from_secs(seconds));
            let counted: u32 = ["192.168.10.11:8080", "192.168.10.12:80", "192.168.10.11:53"]
                .iter()
                .map(|d| bench.load(d))
                .map(|(active, inactive)| active + inactive)
                .sum();
            prop_assert_eq!(counted as usize, bench.director.status().connections);
        }
    }

    /// The destination sees what the client sent, and the client what the destination sent, byte for byte.
    #[test]
    fn nat_loses_nothing(port in 1u16.., payload in prop::collection::vec(any::<u8>(), 0..1400), is_udp: bool) {
        prop_assume!(port != 20);
        let bench = Bench::new();
        bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
        bench.service(Protocol::Udp, Forwarding::Nat, &["192.168.10.11:5353"]);
        let (vport, rport) = if is_udp { (53, 5353) } else { (80, 8080) };
        let packet = |from, to, flags| {
            if is_udp { udp(from, to, &payload) } else { tcp(from, to, flags, &payload) }
        };
        let there = read(&bench.pass(CLIENT_SIDE, &packet((CLIENT, port), (VIP, vport), "S")).1);
        prop_assert_eq!(&there.payload, &payload);
        prop_assert_eq!(there.to, (RS1.into(), rport));
        let back = read(&bench.pass(SERVER_SIDE, &packet((RS1, rport), (CLIENT, port), "SA")).1);
        prop_assert_eq!(&back.payload, &payload);
        prop_assert_eq!(back.from, (VIP.into(), vport));
    }
}

/// Frames: valid ones, valid ones with a few bytes changed or cut off, and noise.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let addr = prop::sample::select(vec![CLIENT, DIP, VIP, RS1, RS2, Ipv4Addr::new(8, 8, 8, 8)]);
    let port = prop::sample::select(vec![20u16, 53, 80, 8080, 40000, 40001]);
    let flags = prop::sample::select(vec!["S", "SA", "A", "F", "R", "", "FA", "SF"]);
    let valid =
        (addr.clone(), port.clone(), addr, port, flags, 0u8..4).prop_map(|(a, p, b, q, flags, kind)| {
            match kind {
                0 => udp((a, p), (b, q), b"datagram"),
                1 => ping(a, b),
                2 => arp(1 + u8::from(p > 60), (CLIENT_MAC, a), ([0; 6], b), [0xff; 6]),
                _ => tcp((a, p), (b, q), flags, b"payload"),
            }
        });
    let damaged = (valid.clone(), prop::collection::vec((0usize..80, any::<u8>()), 1..4), 0usize..90)
        .prop_map(|(mut bytes, changes, cut)| {
            for (offset, byte) in changes {
                if let Some(b) = bytes.get_mut(offset) {
                    *b = byte;
                }
            }
            bytes.truncate(cut.max(1));
            bytes
        });
    prop_oneof![4 => valid, 3 => damaged, 1 => prop::collection::vec(any::<u8>(), 0..120)]
}

#[test]
fn the_mtu_of_a_link_is_that_of_its_interface_while_it_is_smaller() {
    let bench = Bench::new();
    bench.service(Protocol::Tcp, Forwarding::Nat, &["192.168.10.11:8080"]);
    let big = tcp((CLIENT, 40000), (VIP, 80), "A", &[0; 1400]);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S", b""));
    bench.pass(CLIENT_SIDE, &big);
    bench.apply(Change::SetLinkMtu { port: SERVER_SIDE, mtu: 1300 });
    let told = |want| {
        let sent = bench.refused(CLIENT_SIDE, &big, DropReason::FragmentationNeeded);
        let (from, to, kind, code, mtu, _) = read_icmp(&sent[0].1);
        assert_eq!((from, to, kind, code, mtu), (VIP, CLIENT, 3, 4, want));
    };
    told(1300);
    // What the interfaces are set to does not change what the link takes.
    let interfaces = bench.director.interfaces();
    assert_eq!(interfaces[1].mtu, 1500, "as it was set");
    let set = |mtu| {
        let mut interfaces = interfaces.clone();
        interfaces[1].mtu = mtu;
        bench.apply(Change::SetNetwork { interfaces, routes: Vec::new() });
        // The network is another one: who was a neighbour is told anew.
        for (port, addr, mac) in [(CLIENT_SIDE, CLIENT, CLIENT_MAC), (SERVER_SIDE, RS1, RS1_MAC)] {
            bench.apply(Change::SetNeighbor { port, addr: addr.into(), mac: MacAddr(mac) });
        }
    };
    set(1500);
    told(1300);
    set(1280);
    told(1280);
    set(1500);
    bench.apply(Change::SetLinkMtu { port: SERVER_SIDE, mtu: 9000 });
    bench.pass(CLIENT_SIDE, &big);
    let refused = [(SERVER_SIDE, 67), (PortId(9), 1500)];
    for (port, mtu) in refused {
        bench.director.apply(Change::SetLinkMtu { port, mtu }, bench.now).expect_err("no such link");
    }
}
