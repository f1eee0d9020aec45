//! Tunnels: what is put into one comes out of it unchanged, fits the link, and errors about it reach the client.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod dual;

use std::net::SocketAddr;

use common::*;
use dual::*;
use etherparse::{IpHeaders, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration, Frame, Outbox, Verdict};
use uvs_wire::{Packet, checksum, gue, tcp as wire_tcp};

const GUE_PORT: u16 = 6080;

const fn gue(checksum: TunnelChecksum) -> Tunnel {
    Tunnel::Gue { port: GUE_PORT, checksum }
}

/// Every kind, and how many bytes it puts between the outer IP header and the packet.
const KINDS: [(Tunnel, usize); 6] = [
    (Tunnel::Ipip, 0),
    (gue(TunnelChecksum::None), 12),
    (gue(TunnelChecksum::Full), 12),
    (gue(TunnelChecksum::Remote), 12),
    (Tunnel::Gre { checksum: false }, 4),
    (Tunnel::Gre { checksum: true }, 8),
];

fn sum_of(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0))
    });
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

/// Takes a packet out of its tunnel as a receiver does, with all checks, and returns it with the outer header.
fn decapsulate(ip: &[u8], tunnel: Tunnel) -> (IpHeaders, Vec<u8>) {
    let sliced = SlicedPacket::from_ip(ip).expect("a packet");
    let (headers, payload) = IpHeaders::from_slice(ip).unwrap();
    let (protocol, payload) = (payload.ip_number.0, payload.payload);
    if let Some(NetSlice::Ipv4(v4)) = &sliced.net {
        let header = v4.header().to_header();
        assert_eq!(header.calc_header_checksum(), header.header_checksum, "outer header checksum");
    }
    let inner = match tunnel {
        Tunnel::Ipip => {
            assert_eq!(protocol, if payload[0] >> 4 == 4 { 4 } else { 41 });
            payload.to_vec()
        }
        Tunnel::Gue { port, checksum } => {
            let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("UDP expected") };
            assert_eq!(udp.destination_port(), port);
            assert!((32768..61000).contains(&udp.source_port()), "a local port");
            let want = match (&headers, checksum) {
                (_, TunnelChecksum::None) => 0,
                (IpHeaders::Ipv4(v4, _), _) => udp.to_header().calc_checksum_ipv4(v4, udp.payload()).unwrap(),
                (IpHeaders::Ipv6(v6, _), _) => udp.to_header().calc_checksum_ipv6(v6, udp.payload()).unwrap(),
            };
            assert_eq!(udp.checksum(), want, "outer UDP checksum");
            let (inner, len) = gue::parse(udp.payload()).unwrap();
            let mut packet = udp.payload()[len..].to_vec();
            assert_eq!(inner, if packet[0] >> 4 == 4 { 4 } else { 41 });
            if let Some((start, offset)) = gue::remote_checksum(udp.payload()) {
                assert!(checksum::complete(&mut packet, start.into(), usize::from(offset - start), true));
            }
            packet
        }
        Tunnel::Gre { checksum } => {
            assert_eq!(protocol, 47);
            assert_eq!(payload[..2], if checksum { [0x80, 0] } else { [0, 0] });
            assert!(!checksum || sum_of(payload) == 0xffff, "GRE checksum");
            let inner = &payload[if checksum { 8 } else { 4 }..];
            assert_eq!(payload[2..4], if inner[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
            inner.to_vec()
        }
    };
    (headers, inner)
}

/// What comes out of the tunnel is what went in, one hop further on.
fn same_but_for_the_hop(inner: &[u8], original: &[u8]) {
    let mut want = original.to_vec();
    if want[0] >> 4 == 4 {
        want[8] -= 1;
        uvs_wire::ipv4::fill_checksum(&mut want);
    } else {
        want[7] -= 1;
    }
    assert_eq!(inner, want);
}

#[test]
fn every_kind_carries_both_families_over_both() {
    for (tunnel, shim) in KINDS {
        for (v4, outer_v4) in [(true, true), (true, false), (false, true), (false, false)] {
            let why = format!("{tunnel:?}, IPv4 {v4} over IPv4 {outer_v4}");
            let bench = lab(Limits::default(), Options::default(), 1500);
            let [_, _, own, server] = addresses(outer_v4);
            serve(&bench, v4, Forwarding::Tunnel(tunnel), server);
            let mut original = request(v4, 100, true);
            // Congestion experienced, and a service type.
            if v4 {
                original[1] = 0x2b;
                uvs_wire::ipv4::fill_checksum(&mut original);
            } else {
                original[..2].copy_from_slice(&[0x62, 0xb0]);
            }
            let (port, frame) = bench.pass(CLIENT_SIDE, &to_director(&original));
            assert_eq!((port, &frame[..6]), (SERVER_SIDE, &RS1_MAC[..]), "{why}");
            let ip = &frame[14..];
            assert_eq!(ip.len(), original.len() + shim + if outer_v4 { 20 } else { 40 }, "{why}");
            let (headers, inner) = decapsulate(ip, tunnel);
            same_but_for_the_hop(&inner, &original);
            let outer = Packet::parse(ip).unwrap();
            assert_eq!((outer.src.to_ip(), outer.dst.to_ip(), outer.ttl), (own, server, 63), "{why}");
            assert_eq!(outer.tos, 0x2a, "ECN starts anew in the tunnel, {why}");
            if let IpHeaders::Ipv4(header, _) = headers {
                assert_eq!(header.dont_fragment, v4, "copied from IPv4 only, {why}");
                assert_eq!(header.identification == 0, v4, "no id where there are no fragments, {why}");
            }
        }
    }
}

#[test]
fn a_flow_keeps_its_source_port_in_gue_and_flows_differ() {
    let bench = lab(Limits::default(), Options::default(), 1500);
    serve(&bench, true, Forwarding::Tunnel(gue(TunnelChecksum::None)), RS1.into());
    let port_of = |client_port| {
        let ip = datagram((CLIENT.into(), client_port), (VIP.into(), 53), 10, true);
        let (_, frame) = bench.pass(CLIENT_SIDE, &to_director(&ip));
        [frame[34], frame[35]]
    };
    let ports: std::collections::HashSet<_> = (1000..1100).map(port_of).collect();
    assert!(ports.len() > 90, "{} ports for 100 flows", ports.len());
    assert_eq!(port_of(1000), port_of(1000));
}

#[test]
fn what_does_not_fit_is_refused_with_the_mtu_less_the_encapsulation() {
    for (tunnel, shim) in KINDS {
        for (v4, outer_v4) in [(true, true), (true, false), (false, true), (false, false)] {
            let bench = lab(Limits::default(), Options::default(), 1500);
            serve(&bench, v4, Forwarding::Tunnel(tunnel), addresses(outer_v4)[3]);
            let room = 1500 - shim - if outer_v4 { 20 } else { 40 };
            let headers = if v4 { 28 } else { 48 };
            let (_, frame) = bench.pass(CLIENT_SIDE, &to_director(&request(v4, room - headers, true)));
            assert_eq!(frame.len() - 14, 1500, "{tunnel:?}");
            let too_big = request(v4, room - headers + 1, true);
            let sent = bench.refused(CLIENT_SIDE, &to_director(&too_big), DropReason::FragmentationNeeded);
            let message = &sent[0].1[if v4 { 34 } else { 54 }..];
            let mtu = u32::from_be_bytes(message[4..8].try_into().unwrap());
            assert_eq!((sent[0].0, mtu as usize), (CLIENT_SIDE, room), "{tunnel:?} {v4} {outer_v4}");
            assert_eq!(&message[..2], if v4 { &[3, 4] } else { &[2, 0] });
        }
    }
}

#[test]
fn without_do_not_fragment_the_tunnel_packet_is_fragmented() {
    for (tunnel, _) in KINDS {
        for outer_v4 in [true, false] {
            // Cleared by the sender, or by `pmtu_disc = 0`.
            for (df, pmtu_disc) in [(false, true), (true, false)] {
                let options = Options { pmtu_disc, ..Options::default() };
                let bench = lab(Limits::default(), options, 1400);
                serve(&bench, true, Forwarding::Tunnel(tunnel), addresses(outer_v4)[3]);
                let original = request(true, 1400, df);
                let sent = bench.send(CLIENT_SIDE, &to_director(&original)).1;
                assert!(sent.len() == 2 && sent.iter().all(|(_, frame)| frame.len() - 14 <= 1400));
                let (whole, _) = join(&sent);
                same_but_for_the_hop(&decapsulate(&whole, tunnel).1, &original);
            }
        }
    }
}

#[test]
fn ipv6_packets_of_1280_bytes_pass_every_tunnel() {
    for (tunnel, _) in KINDS {
        for outer_v4 in [true, false] {
            let original = request(false, 1280 - 48, true);
            let bench = lab(Limits::default(), Options::default(), 1280);
            serve(&bench, false, Forwarding::Tunnel(tunnel), addresses(outer_v4)[3]);
            let sent = bench.send(CLIENT_SIDE, &to_director(&original)).1;
            assert_eq!(sent.len(), 2, "the tunnel packet is fragmented (RFC 2473 section 7.1)");
            same_but_for_the_hop(&decapsulate(&join(&sent).0, tunnel).1, &original);

            let compat = Options { compat_ipvs: true, ..Options::default() };
            let bench = lab(Limits::default(), compat, 1280);
            serve(&bench, false, Forwarding::Tunnel(tunnel), addresses(outer_v4)[3]);
            bench.refused(CLIENT_SIDE, &to_director(&original), DropReason::FragmentationNeeded);
        }
    }
}

/// Hands in a frame with what a virtio device says of it.
fn send_offloaded(bench: &Bench, ip: &[u8], gso_type: u8, segment_size: u16, sum_at: u16) -> Sent {
    let mut frame = Frame::from_bytes(&to_director(ip));
    let header_len = 14 + if ip[0] >> 4 == 4 { 20 } else { 40 };
    frame.offload.needs_checksum = true;
    frame.offload.checksum_start = header_len;
    frame.offload.checksum_offset = sum_at;
    frame.offload.gso_type = gso_type;
    frame.offload.segment_size = segment_size;
    frame.offload.header_len = header_len + if sum_at == 16 { 20 } else { 8 };
    let mut out = Outbox::new();
    let verdict = bench.director.handle(CLIENT_SIDE, &mut frame, bench.now, &mut out);
    let mut sent = Sent::new();
    if let Verdict::Transmit(port) = verdict {
        out.push(port, frame);
    }
    for (port, mut frame) in out.drain() {
        // What a device does that takes plain frames only.
        if frame.offload.gso_type == 0 {
            frame.complete_checksum();
            sent.push((port, frame.bytes().to_vec()));
            continue;
        }
        let count = frame.packets();
        let mut cut = frame.cut(14, false).unwrap();
        assert_eq!(cut.count(), count);
        while let Some(piece) = cut.next() {
            assert_eq!(piece.offload, Default::default(), "nothing is left to a device");
            sent.push((port, [piece.headers, piece.data].concat()));
        }
    }
    sent
}

/// Puts the sum of the pseudo-header where the checksum goes.
fn make_partial(ip: &mut [u8], sum_at: usize) {
    let packet = Packet::parse(ip).unwrap();
    let (start, len) = (usize::from(packet.header_len), u32::try_from(packet.transport_len()).unwrap());
    let sum = checksum::pseudo_header(packet.src, packet.dst, packet.protocol, len).fold();
    ip[start + sum_at..start + sum_at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn an_incomplete_checksum_is_completed_or_left_to_the_receiver() {
    for (tunnel, shim) in KINDS {
        for v4 in [true, false] {
            let bench = lab(Limits::default(), Options::default(), 1500);
            serve(&bench, v4, Forwarding::Tunnel(tunnel), RS1.into());
            let original = request(v4, 100, true);
            let mut partial = original.clone();
            make_partial(&mut partial, 6);
            let sent = send_offloaded(&bench, &partial, 0, 0, 6);
            assert_eq!(sent.len(), 1);
            let option = if tunnel == gue(TunnelChecksum::Remote) { 8 } else { 0 };
            assert_eq!(sent[0].1.len() - 14, original.len() + 20 + shim + option, "{tunnel:?}");
            same_but_for_the_hop(&decapsulate(&sent[0].1[14..], tunnel).1, &original);
        }
    }
}

#[test]
fn a_gso_packet_goes_into_a_tunnel_segment_by_segment() {
    let data: Vec<u8> = (0..5000u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for (tunnel, shim) in KINDS {
        let bench = lab(Limits::default(), Options::default(), 1500);
        serve(&bench, true, Forwarding::Tunnel(tunnel), RS1.into());
        bench.pass(CLIENT_SIDE, &tcp((CLIENT, 7), (VIP, 80), "S", b""));
        let mut gso_packet = tcp((CLIENT, 7), (VIP, 80), "AP", &data)[14..].to_vec();
        make_partial(&mut gso_packet, 16);
        let size = u16::try_from(1500 - 20 - shim - 40).unwrap();
        let sent = send_offloaded(&bench, &gso_packet, 1, size, 16);
        assert_eq!(sent.len(), data.len().div_ceil(size.into()), "{tunnel:?}");
        let mut found = Vec::new();
        for (n, (_, frame)) in sent.iter().enumerate() {
            assert!(frame.len() - 14 <= 1500);
            let (_, inner) = decapsulate(&frame[14..], tunnel);
            let packet = Packet::parse(&inner).unwrap();
            assert_eq!(packet.transport_sum(&inner).finish(), 0, "TCP checksum");
            assert_eq!(packet.ttl, 63);
            assert_eq!(packet.tcp_flags & wire_tcp::PSH != 0, n + 1 == sent.len(), "PSH at the end only");
            found.extend_from_slice(&inner[40..]);
        }
        assert_eq!(found, data);

        let sent = send_offloaded(&bench, &gso_packet, 1, size + 1, 16);
        assert_eq!(sent.len(), 1, "segments that do not fit are refused");
        assert_eq!(read_icmp(&sent[0].1).4, u32::from(size) + 40);
    }
}

/// An ICMP error of a router between director and server about the tunnel packet that `frame` holds.
fn error_about(frame: &[u8], kind: u8, code: u8, rest: u32, quoted: usize) -> Vec<u8> {
    let outer = &frame[14..][..quoted.min(frame.len() - 14)];
    let mut buffer = vec![0; 1280];
    let packet = Packet::parse(&frame[14..]).unwrap();
    let len = if packet.is_v4() {
        let to = packet.src.to_v4().unwrap();
        uvs_wire::icmp::emit_error_v4(&mut buffer, RS2, to, kind, code, rest, 1, outer)
    } else {
        let router = "fd00:2::99".parse().unwrap();
        uvs_wire::icmp::emit_error_v6(&mut buffer, router, packet.src.to_v6(), kind, code, rest, 64, outer)
    };
    let to_r0 = if packet.is_v4() { [8, 0] } else { [0x86, 0xdd] };
    [&R0_MAC[..], &RS2_MAC, &to_r0, &buffer[..len]].concat()
}

#[test]
fn routers_on_the_way_are_heard_and_the_client_is_told() {
    for (tunnel, shim) in KINDS {
        for (v4, outer_v4) in [(true, true), (true, false), (false, true), (false, false)] {
            let why = format!("{tunnel:?}, IPv4 {v4} over IPv4 {outer_v4}");
            let mut bench = lab(Limits::default(), Options::default(), 1500);
            let [client, vip, ..] = addresses(v4);
            serve(&bench, v4, Forwarding::Tunnel(tunnel), addresses(outer_v4)[3]);
            let original = request(v4, 1300, true);
            let (_, frame) = bench.pass(CLIENT_SIDE, &to_director(&original));
            let (kind, code) = if outer_v4 { (3, 4) } else { (2, 0) };
            let error = error_about(&frame, kind, code, 1340, 1200);
            let (port, told) = bench.pass(SERVER_SIDE, &error);
            let packet = Packet::parse(&told[14..]).unwrap();
            let message = packet.transport(&told[14..]);
            assert_eq!((port, packet.src.to_ip(), packet.dst.to_ip()), (CLIENT_SIDE, vip, client), "{why}");
            let overhead = shim + if outer_v4 { 20 } else { 40 };
            let room = u32::try_from(1340 - overhead).unwrap();
            assert_eq!(message[4..8], room.to_be_bytes(), "{why}");
            let start = if v4 { 12 } else { 8 };
            assert_eq!(message[8 + start..200], original[start..192], "the client's own words, {why}");

            // From now on the director itself says so, for ten minutes.
            let headers = if v4 { 28 } else { 48 };
            let fits = 1340 - overhead - headers;
            bench.pass(CLIENT_SIDE, &to_director(&request(v4, fits, true)));
            let too_big = to_director(&request(v4, fits + 1, true));
            let told = bench.refused(CLIENT_SIDE, &too_big, DropReason::FragmentationNeeded);
            assert_eq!(told[0].1[14 + headers - 4..][..4], room.to_be_bytes(), "{why}");
            bench.advance(Duration::from_secs(601));
            bench.pass(CLIENT_SIDE, &too_big);
        }
    }
}

#[test]
fn other_errors_about_tunnel_packets_reach_the_client() {
    for (tunnel, _) in KINDS {
        let bench = lab(Limits::default(), Options::default(), 1500);
        serve(&bench, true, Forwarding::Tunnel(tunnel), RS1.into());
        let (_, frame) = bench.pass(CLIENT_SIDE, &to_director(&request(true, 100, true)));
        for (kind, code) in [(3, 1), (11, 0)] {
            let (_, told) = bench.pass(SERVER_SIDE, &error_about(&frame, kind, code, 0, 128));
            let (from, to, found_kind, found_code, rest, _) = read_icmp(&told);
            assert_eq!((from, to, found_kind, found_code, rest), (VIP, CLIENT, kind, code, 0), "{tunnel:?}");
        }
    }
}

/// A host without a decapsulator says so by protocol unreachable, or unknown next header.
#[test]
fn errors_about_tunnel_packets_are_seen_by_who_watches_the_destination() {
    for (tunnel, _) in KINDS {
        for (outer_v4, errors) in [
            (true, [(3, 2, 1), (3, 4, 1), (3, 1, 2), (11, 0, 2)]),
            (false, [(4, 1, 1), (2, 0, 1), (1, 0, 2), (3, 0, 2)]),
        ] {
            let bench = lab(Limits::default(), Options::default(), 1500);
            serve(&bench, true, Forwarding::Tunnel(tunnel), addresses(outer_v4)[3]);
            let key = ServiceKey::new(Protocol::Udp, SocketAddr::new(addresses(true)[1], 53));
            let doubtful = || {
                let mut seen = Vec::new();
                bench.director.watch(&key, |_, it| seen.push(it.doubtful));
                seen[0]
            };
            assert_eq!(doubtful(), 0);
            let (_, frame) = bench.pass(CLIENT_SIDE, &to_director(&request(true, 100, true)));
            for (kind, code, expected) in errors {
                bench.send(SERVER_SIDE, &error_about(&frame, kind, code, 1340, 128));
                assert_eq!(doubtful(), expected, "{tunnel:?}, IPv4 {outer_v4}: {kind} {code}");
            }
        }
    }
}

#[test]
fn a_tunnel_end_that_never_answers_is_reported_to_the_client() {
    for (tunnel, _) in KINDS {
        let mut bench = lab(Limits::default(), Options::default(), 1500);
        serve(&bench, true, Forwarding::Tunnel(tunnel), RS2.into());
        let request = request(true, 100, true);
        let (_, sent) = bench.send(CLIENT_SIDE, &to_director(&request));
        assert_eq!(sent.len(), 1, "a question");
        let sent = bench.advance(Duration::from_secs(5));
        let told: Vec<_> = sent.iter().filter(|(_, frame)| frame[12..14] == [8, 0]).collect();
        assert_eq!(told.len(), 1, "{tunnel:?}");
        let (from, to, kind, code, _, quoted) = read_icmp(&told[0].1);
        assert_eq!((told[0].0, from, to, kind, code), (CLIENT_SIDE, VIP, CLIENT, 3, 1), "{tunnel:?}");
        assert_eq!(quoted[12..28], request[12..28], "its own packet is quoted");
    }
}

#[test]
fn errors_about_nothing_we_sent_change_nothing() {
    for (tunnel, shim) in KINDS {
        let bench = lab(Limits::default(), Options::default(), 1500);
        serve(&bench, true, Forwarding::Tunnel(tunnel), RS1.into());
        let (_, sent) = bench.pass(CLIENT_SIDE, &to_director(&request(true, 1300, true)));
        let edit = |at: usize, to: &[u8]| {
            let mut frame = sent.clone();
            frame[14 + at..][..to.len()].copy_from_slice(to);
            frame
        };
        let inner = 20 + shim;
        let cases = [
            (edit(16, &[192, 168, 10, 12]), 1200, "to a server that the connection does not have"),
            (edit(6, &[0x20, 0xb9]), 1200, "about a later fragment"),
            (edit(inner + 20, &[9, 9]), 1200, "of another client port"),
            (sent.clone(), inner + 8, "cut off inside the client's header"),
            (sent.clone(), 20, "cut off behind the outer header"),
        ];
        for (frame, quoted, why) in cases {
            let mut frame = frame;
            uvs_wire::ipv4::fill_checksum(&mut frame[14..]);
            let error = error_about(&frame, 3, 4, 1000, quoted);
            let told = bench.refused(SERVER_SIDE, &error, DropReason::IcmpUnrelated);
            assert!(told.is_empty(), "{tunnel:?} {why}");
        }
        bench.pass(CLIENT_SIDE, &to_director(&request(true, 1300, true)));
    }
}

#[test]
fn the_kernel_tells_the_mtu_it_knew_before() {
    let compat = Options { compat_ipvs: true, ..Options::default() };
    let bench = lab(Limits::default(), compat, 1500);
    serve(&bench, true, Forwarding::Tunnel(Tunnel::Ipip), RS1.into());
    let big = to_director(&request(true, 1300, true));
    let (_, frame) = bench.pass(CLIENT_SIDE, &big);
    let told = |mtu| read_icmp(&bench.pass(SERVER_SIDE, &error_about(&frame, 3, 4, mtu, 400)).1).4;
    assert_eq!(told(1340), 1480);
    bench.refused(CLIENT_SIDE, &big, DropReason::FragmentationNeeded);
    assert_eq!(told(1300), 1280);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn encapsulate_then_decapsulate_is_identity(
        kind in 0..KINDS.len(), v4: bool, outer_v4: bool, len in 0..1380usize, mtu in 1280..1500u32, port: u16,
    ) {
        // As in the kernel, nothing is scheduled that comes from the port of FTP's data.
        prop_assume!(port != 20);
        let (tunnel, _) = KINDS[kind];
        let bench = lab(Limits::default(), Options::default(), mtu);
        serve(&bench, v4, Forwarding::Tunnel(tunnel), addresses(outer_v4)[3]);
        let [client, vip, ..] = addresses(v4);
        let original = datagram((client, port), (vip, 53), len, false);
        let sent = bench.send(CLIENT_SIDE, &to_director(&original)).1;
        if sent[0].0 == CLIENT_SIDE {
            prop_assert!(!v4 && original.len() > 1280 - 60, "only IPv6 is refused");
            return Ok(());
        }
        prop_assert!(sent.iter().all(|(_, frame)| frame.len() - 14 <= mtu as usize));
        same_but_for_the_hop(&decapsulate(&join(&sent).0, tunnel).1, &original);
    }

    #[test]
    fn noise_in_quotes_never_panics(
        kind in 0..KINDS.len(), noise in proptest::collection::vec((0..200usize, any::<u8>()), 0..20), quoted in 0..300usize,
        icmp in (any::<u8>(), any::<u8>(), any::<u32>()),
    ) {
        let (tunnel, _) = KINDS[kind];
        let bench = lab(Limits::default(), Options::default(), 1500);
        serve(&bench, true, Forwarding::Tunnel(tunnel), RS1.into());
        let (_, frame) = bench.pass(CLIENT_SIDE, &to_director(&request(true, 200, true)));
        let mut error = error_about(&frame, icmp.0, icmp.1, icmp.2, quoted);
        for (at, byte) in noise {
            if let Some(place) = error.get_mut(42 + at) {
                *place = byte;
            }
        }
        bench.send(SERVER_SIDE, &error);
    }
}

/// random_236: gue, edited to ipip, edited back.
#[test]
fn a_connection_goes_into_the_kind_of_tunnel_that_its_destination_takes_now() {
    for compat_ipvs in [false, true] {
        let bench = lab(Limits::default(), Options { compat_ipvs, ..Options::default() }, 1500);
        let [_, vip, _, server] = addresses(true);
        serve(&bench, true, Forwarding::Tunnel(gue(TunnelChecksum::None)), server);
        let edit = |forwarding| {
            let key = ServiceKey::new(Protocol::Udp, std::net::SocketAddr::new(vip, 53));
            let spec = DestinationSpec::new(std::net::SocketAddr::new(server, 53), forwarding);
            bench.apply(Change::EditDestination(key, spec));
        };
        let sent = || bench.pass(CLIENT_SIDE, &to_director(&request(true, 10, true))).1[14..].to_vec();
        decapsulate(&sent(), gue(TunnelChecksum::None));
        edit(Forwarding::Tunnel(Tunnel::Ipip));
        decapsulate(&sent(), Tunnel::Ipip);
        edit(Forwarding::Tunnel(gue(TunnelChecksum::Full)));
        decapsulate(&sent(), gue(TunnelChecksum::Full));
        // The method stays. The kernel wraps in IP then; else the server still takes what it took.
        edit(Forwarding::Nat);
        decapsulate(&sent(), if compat_ipvs { Tunnel::Ipip } else { gue(TunnelChecksum::Full) });
    }
}

/// random_105, random_154: an error about a tunnel packet is followed while some service has a tunnel to there.
#[test]
fn as_the_kernel_an_error_about_a_tunnel_that_no_service_has_says_nothing() {
    let bench = lab(Limits::default(), Options { compat_ipvs: true, ..Options::default() }, 1500);
    let [_, vip, _, server] = addresses(true);
    serve(&bench, true, Forwarding::Tunnel(Tunnel::Ipip), server);
    let (_, sent) = bench.pass(CLIENT_SIDE, &to_director(&request(true, 10, true)));
    let error = error_about(&sent, 3, 1, 0, usize::MAX);
    let tells = || bench.send(SERVER_SIDE, &error).1.len();
    assert_eq!(tells(), 1);
    let [udp, tcp] = [(Protocol::Udp, 53), (Protocol::Tcp, 80)]
        .map(|(protocol, port)| ServiceKey::new(protocol, std::net::SocketAddr::new(vip, port)));
    bench.apply(Change::RemoveDestination(udp, std::net::SocketAddr::new(server, 53)));
    assert_eq!(tells(), 1, "another service has one to the same server");
    bench.apply(Change::RemoveService(tcp));
    assert_eq!(tells(), 0);
    let spec = DestinationSpec::new(
        std::net::SocketAddr::new(server, 53),
        Forwarding::Tunnel(Tunnel::Gre { checksum: false }),
    );
    bench.apply(Change::AddDestination(udp, spec));
    assert_eq!(tells(), 0, "of another kind");
    bench.apply(Change::EditDestination(
        udp,
        DestinationSpec { forwarding: Forwarding::Tunnel(Tunnel::Ipip), ..spec },
    ));
    assert_eq!(tells(), 1);
}

/// random_67: a destination that was edited has no route at hand until the next packet, and the router's word is told
/// on.
#[test]
fn as_the_kernel_after_an_edit_the_client_hears_the_mtu_that_the_router_said() {
    let bench = lab(Limits::default(), Options { compat_ipvs: true, ..Options::default() }, 1500);
    let [_, vip, _, server] = addresses(true);
    serve(&bench, true, Forwarding::Tunnel(Tunnel::Ipip), server);
    let (_, sent) = bench.pass(CLIENT_SIDE, &to_director(&request(true, 10, true)));
    let told = |mtu| {
        let (_, told) = bench.pass(SERVER_SIDE, &error_about(&sent, 3, 4, mtu, usize::MAX));
        read_icmp(&told).4
    };
    assert_eq!(told(1400), 1480, "that of the link, which it knew before");
    let key = ServiceKey::new(Protocol::Udp, std::net::SocketAddr::new(vip, 53));
    let spec = DestinationSpec::new(std::net::SocketAddr::new(server, 53), Forwarding::Tunnel(Tunnel::Ipip));
    bench.apply(Change::EditDestination(key, DestinationSpec { weight: 5, ..spec }));
    assert_eq!([told(1300), told(80), told(0), told(9000)], [1280, 80, 0, 8980]);
    bench.pass(CLIENT_SIDE, &to_director(&request(true, 10, true)));
    assert_eq!(told(1250), 532, "what was learned meanwhile");
}
