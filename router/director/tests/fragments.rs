//! Fragments: gathered where IPVS gathers them, balanced as the packet they are, and out again in the same sizes.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod dual;

use common::*;
use dual::*;
use proptest::prelude::*;
use uvs_director::spec::*;
use uvs_director::{DropReason, Duration, Verdict};
use uvs_wire::Packet;

const IPIP: Forwarding = Forwarding::Tunnel(Tunnel::Ipip);

fn compat() -> Options {
    Options { compat_ipvs: true, ..Options::default() }
}

/// Sends fragments one by one, and returns what came out with the last; nothing may come out before.
fn send_all(bench: &Bench, port: uvs_director::PortId, list: &[Vec<u8>]) -> Sent {
    let (last, others) = list.split_last().unwrap();
    for ip in others {
        assert_eq!(bench.send(port, &to_director(ip)), (Verdict::Consume, vec![]));
    }
    bench.send(port, &to_director(last)).1
}

/// The packet with complete checksums; its addresses and ports.
fn seen(ip: &[u8]) -> (String, String) {
    let packet = Packet::parse(ip).unwrap();
    assert_eq!(packet.transport_sum(ip).finish(), 0, "transport checksum");
    (format!("{} {}", packet.src, packet.src_port), format!("{} {}", packet.dst, packet.dst_port))
}

#[test]
fn requests_and_replies_are_translated_whole_and_leave_as_they_came() {
    // Bytes of data, how they are cut, and the lengths of the packets that come and leave.
    type Case = (usize, &'static [u16], &'static [usize], &'static [usize]);
    let cases: [Case; 4] = [
        (3000, &[1448, 1448], &[1468, 1468, 132], &[1496, 1496, 160]),
        (72, &[16, 16, 16], &[36, 36, 36, 52], &[64, 64, 64, 80]),
        (3000, &[8, 1200, 800], &[28, 1220, 820, 1020], &[56, 1248, 848, 1048]),
        (2000, &[1024], &[1044, 1004], &[1072, 1032]),
    ];
    for (len, lengths, v4_sizes, v6_sizes) in cases {
        for (v4, sizes) in [(true, v4_sizes), (false, v6_sizes)] {
            let bench = lab(Limits::default(), compat(), 1500);
            let [client, vip, _, server] = addresses(v4);
            serve(&bench, v4, Forwarding::Nat, server);
            for backwards in [false, true] {
                let mut list = cut(&request(v4, len, false), lengths);
                if backwards {
                    list.reverse();
                }
                let sent = send_all(&bench, CLIENT_SIDE, &list);
                let (whole, found) = join(&sent);
                assert_eq!(found, sizes, "{lengths:?}, IPv4: {v4}");
                assert_eq!(seen(&whole), (format!("{client} 4000"), format!("{server} 5353")));
                assert!(sent.iter().all(|(port, frame)| *port == SERVER_SIDE && frame[..6] == RS1_MAC));

                let reply = datagram((server, 5353), (client, 4000), len, false);
                let sent = send_all(&bench, SERVER_SIDE, &cut(&reply, lengths));
                let (whole, found) = join(&sent);
                assert_eq!(found, sizes, "the reply, {lengths:?}, IPv4: {v4}");
                assert_eq!(seen(&whole), (format!("{vip} 53"), format!("{client} 4000")));
                assert!(sent.iter().all(|(port, _)| *port == CLIENT_SIDE));
            }
            assert_eq!(bench.connections().len(), 1, "one flow");
        }
    }
}

#[test]
fn fragments_that_do_not_fit_the_next_link_are_cut_smaller() {
    let bench = lab(Limits::default(), compat(), 1400);
    serve(&bench, true, Forwarding::Nat, RS1.into());
    let sent = send_all(&bench, CLIENT_SIDE, &cut(&request(true, 3000, false), &[1480, 1480]));
    assert_eq!(join(&sent).1, [1396, 1396, 276]);

    let bench = lab(Limits::default(), compat(), 1400);
    serve(&bench, false, Forwarding::Nat, RS6.into());
    let sent = send_all(&bench, CLIENT_SIDE, &cut(&request(false, 3000, false), &[1448, 1448]));
    assert_eq!(sent.len(), 1, "routers do not fragment IPv6: {sent:?}");
    assert_eq!((sent[0].0, sent[0].1[54], &sent[0].1[58..62]), (CLIENT_SIDE, 2, &1400u32.to_be_bytes()[..]));
}

#[test]
fn a_tunnel_takes_the_whole_packet_and_is_fragmented_outside() {
    let cases: [(bool, usize, &[u16], &[usize]); 4] = [
        (true, 3000, &[1480, 1480], &[1500, 1500, 88]),
        (true, 60, &[16, 16, 16, 16], &[36, 36, 36, 36, 36, 28]),
        // Of IPv6 the first takes the new header, as long as that fits.
        (false, 100, &[48, 48], &[136, 96, 60]),
        (false, 2600, &[1232, 1232], &[1280, 1280, 232]),
    ];
    for (v4, data, lengths, sizes) in cases {
        let bench = lab(Limits::default(), compat(), 1500);
        let server = addresses(v4)[3];
        serve(&bench, v4, IPIP, server);
        let original = request(v4, data, false);
        let (whole, found) = join(&send_all(&bench, CLIENT_SIDE, &cut(&original, lengths)));
        assert_eq!(found, sizes, "IPv4: {v4}, {lengths:?}");
        let inner = &whole[if v4 { 20 } else { 40 }..];
        assert_eq!(inner[if v4 { 12 } else { 8 }..], original[if v4 { 12 } else { 8 }..], "nothing lost");
    }
}

/// In GUE the first fragment would not end at a multiple of 8 any more (the recording random_5199).
#[test]
fn what_cannot_be_cut_as_before_leaves_as_one_fragment_of_ipv6_under_compat() {
    let gue = Forwarding::Tunnel(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full });
    for (options, want) in [(compat(), Some((208, 17))), (Options::default(), None)] {
        let bench = lab(Limits::default(), options, 1500);
        serve(&bench, false, gue, addresses(false)[3]);
        let sent = send_all(&bench, CLIENT_SIDE, &cut(&request(false, 100, false), &[48, 48]));
        let [(SERVER_SIDE, frame)] = &sent[..] else { panic!("one packet: {sent:?}") };
        let ip = &frame[14..];
        let packet = Packet::parse(ip).unwrap();
        assert_eq!(packet.transport_sum(ip).finish(), 0, "the outer checksum");
        let is_fragment = packet.fragment_header != 0;
        assert_eq!(is_fragment.then_some((ip.len(), ip[40])), want, "{}", options.compat_ipvs);
        assert!(!packet.more_fragments && packet.fragment_offset == 0);
    }
}

#[test]
fn do_not_fragment_is_handed_on() {
    let bench = lab(Limits::default(), Options::default(), 1500);
    serve(&bench, true, Forwarding::Nat, RS1.into());
    let sent = send_all(&bench, CLIENT_SIDE, &cut(&request(true, 3000, true), &[1480, 1480]));
    assert_eq!(join(&sent).1, [1500, 1500, 68]);
    assert!(sent.iter().all(|(_, frame)| frame[20] & 0x40 != 0));

    let bench = lab(Limits::default(), Options::default(), 1400);
    serve(&bench, true, Forwarding::Nat, RS1.into());
    let sent = send_all(&bench, CLIENT_SIDE, &cut(&request(true, 3000, true), &[1480, 1480]));
    let (from, to, kind, code, rest, _) = read_icmp(&sent[0].1);
    assert_eq!((from, to, kind, code, rest, sent.len()), (VIP, CLIENT, 3, 4, 1400, 1));

    // The kernel asks whether the whole packet fits.
    let bench = lab(Limits::default(), compat(), 1500);
    serve(&bench, true, Forwarding::Nat, RS1.into());
    let sent = send_all(&bench, CLIENT_SIDE, &cut(&request(true, 3000, true), &[1480, 1480]));
    assert_eq!((read_icmp(&sent[0].1).4, sent.len()), (1500, 1));
}

#[test]
fn fragments_are_gathered_only_where_ipvs_sees_them() {
    let through = |v4, protocol| {
        let [client, _, _, server] = addresses(v4);
        let mut ip = datagram((server, 9), (client, 9), 1000, false);
        ip[if v4 { 9 } else { 6 }] = protocol;
        if v4 {
            uvs_wire::ipv4::fill_checksum(&mut ip);
        }
        cut(&ip, &[504])
    };
    // Family of the packet and of the service (none: no service), protocol, and whether it is gathered.
    let cases = [
        (true, None, 17, false, "no service"),
        (true, Some(true), 17, true, "UDP through a director with a service"),
        (true, Some(true), 50, false, "ESP is nothing IPVS knows"),
        (true, Some(false), 17, false, "a service of the other family"),
        (false, None, 17, false, "IPv6 without a service"),
        (false, Some(false), 17, true, "IPv6"),
        (false, Some(false), 50, true, "IPv6 is gathered whatever it is"),
        (false, Some(true), 17, false, "IPv6 with a service of the other family"),
    ];
    for (v4, service, protocol, gathered, why) in cases {
        let bench = lab(Limits::default(), compat(), 1500);
        if let Some(v4) = service {
            serve(&bench, v4, Forwarding::Nat, if v4 { RS2.into() } else { "fd00:2::12".parse().unwrap() });
        }
        let counts: Vec<_> = through(v4, protocol)
            .iter()
            .map(|ip| bench.send(SERVER_SIDE, &to_director(ip)).0 != Verdict::Consume)
            .collect();
        assert_eq!(counts, [!gathered, !gathered], "{why}");
    }
}

#[test]
fn late_answers_of_removed_destinations_are_not_let_through_in_fragments() {
    for (v4, options) in [(true, Options::default()), (false, Options::default()), (true, compat())] {
        let bench = lab(Limits::default(), Options { transit: Transit::Servers, ..options }, 1500);
        let [client, _, _, server] = addresses(v4);
        serve(&bench, v4, Forwarding::Nat, server);
        bench.apply(Change::Flush);
        let list = cut(&datagram((server, 5353), (client, 4000), 1200, false), &[600]);
        let verdicts = list.iter().map(|ip| bench.send(SERVER_SIDE, &to_director(ip)).0);
        let want = if options.compat_ipvs {
            [Verdict::Transmit(CLIENT_SIDE); 2]
        } else {
            [Verdict::Consume, Verdict::Drop(DropReason::UnknownAnswer)]
        };
        assert_eq!(verdicts.collect::<Vec<_>>(), want, "IPv4: {v4}");
    }
}

#[test]
fn a_fragmented_echo_request_is_answered() {
    let bench = Bench::new();
    let mut ip = ping(CLIENT, VIP)[14..].to_vec();
    ip[6] = 0;
    uvs_wire::ipv4::fill_checksum(&mut ip);
    let list = cut(&ip, &[8]);
    bench.send(CLIENT_SIDE, &to_director(&list[1]));
    let (_, reply) = bench.pass(CLIENT_SIDE, &to_director(&list[0]));
    let (from, to, kind, _, _, data) = read_icmp(&reply);
    assert_eq!((from, to, kind, &data[..]), (VIP, CLIENT, 0, &b"0123456789"[..]));
}

#[test]
fn who_sends_half_a_packet_hears_of_it() {
    for (v4, secs) in [(true, 30), (false, 60)] {
        let mut bench = lab(Limits::default(), Options::default(), 1500);
        let [.., server] = addresses(v4);
        serve(&bench, v4, Forwarding::Nat, server);
        let list = cut(&request(v4, 2000, false), &[1000]);
        bench.send(CLIENT_SIDE, &to_director(&list[0]));
        assert_eq!(bench.advance(Duration::from_secs(secs - 1)), []);
        let sent = bench.advance(Duration::from_secs(1));
        assert_eq!((sent.len(), sent[0].0), (1, CLIENT_SIDE));
        let message = &sent[0].1[14 + if v4 { 20 } else { 40 }..];
        assert_eq!(&message[..2], if v4 { &[11, 1] } else { &[3, 1] }, "fragment reassembly time exceeded");
        assert_eq!(message[8..], list[0][..message.len() - 8], "the fragment is quoted as it was");
        assert_eq!(bench.dropped(DropReason::FragmentLimit), 1);

        bench.send(CLIENT_SIDE, &to_director(&list[1]));
        assert_eq!(bench.advance(Duration::from_secs(secs)), [], "nothing is said without the first");
        assert_eq!(bench.dropped(DropReason::FragmentLimit), 2);
    }
}

#[test]
fn a_flood_of_first_fragments_does_not_keep_others_out() {
    let limits = Limits { fragmented_packets: 8, ..Limits::default() };
    let bench = lab(limits, Options::default(), 1500);
    serve(&bench, true, Forwarding::Nat, RS1.into());
    let honest = cut(&request(true, 2000, false), &[1000]);
    for id in 0..100u16 {
        let mut ip = cut(&request(true, 1000, false), &[504])[0].clone();
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        uvs_wire::ipv4::fill_checksum(&mut ip);
        bench.send(CLIENT_SIDE, &to_director(&ip));
    }
    assert_eq!(bench.dropped(DropReason::FragmentLimit), 92);
    assert_eq!(send_all(&bench, CLIENT_SIDE, &honest).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_cuts_and_the_order_the_server_gets_the_request(
        v4: bool, tunnel: bool, len in 100..4000usize, server_mtu in 1300..1500u32,
        cuts in proptest::collection::vec(1..160u16, 1..8),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let bench = lab(Limits::default(), Options::default(), server_mtu);
        let server = addresses(v4)[3];
        serve(&bench, v4, if tunnel { IPIP } else { Forwarding::Nat }, server);
        let original = request(v4, len, false);
        let mut lengths = Vec::new();
        let mut left = len + 8;
        for words in cuts {
            // For IPv6 fragments may not be larger than the next link takes.
            let length = usize::from(words) * 8;
            if length < left && length <= 1200 {
                lengths.push(u16::try_from(length).unwrap());
                left -= length;
            }
        }
        while left > 1200 {
            lengths.push(1200);
            left -= 1200;
        }
        let list = cut(&original, &lengths);
        let mut sent = Sent::new();
        let mut todo: Vec<usize> = (0..list.len()).collect();
        for index in order {
            todo.push(index.index(list.len()));
        }
        todo.reverse();
        for n in todo {
            let out = bench.send(CLIENT_SIDE, &to_director(&list[n])).1;
            prop_assert!(sent.is_empty() || out.is_empty() || list.len() == 1);
            sent.extend(out);
            if !sent.is_empty() {
                break;
            }
        }
        prop_assert!(sent.iter().all(|(port, frame)| *port == SERVER_SIDE && frame.len() - 14 <= server_mtu as usize));
        let (whole, _) = join(&sent);
        let header = if v4 { 20 } else { 40 };
        let whole = if tunnel { &whole[header..] } else { &whole[..] };
        seen(whole);
        prop_assert_eq!(&whole[header + 8..], &original[header + 8..]);
    }
}
