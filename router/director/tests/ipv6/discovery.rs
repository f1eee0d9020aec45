//! Neighbour discovery: who is answered, what is learnt, and that nothing grows without bound.

use super::*;

#[test]
fn it_is_answered_for_our_addresses_and_vips_and_for_nothing_else() {
    let bench = bare(Limits::default());
    for ours in [DIP, VIP, C0_LINK_LOCAL] {
        let (port, reply) = bench.pass(CLIENT_SIDE, &Discovery::ask(CLIENT, CLIENT_MAC, ours).frame());
        assert_eq!(port, CLIENT_SIDE);
        let want = Discovery::tell(ours, C0_MAC, (CLIENT, CLIENT_MAC), ROUTER_SOLICITED_OVERRIDE);
        assert_eq!(Discovery::read(&reply), want);
    }
    for other in [CLIENT, RIP, R0_LINK_LOCAL, "fd00:1::3".parse().unwrap()] {
        let ask = Discovery::ask("fd00:1::9".parse().unwrap(), CLIENT_MAC, other).frame();
        let sent = bench.refused(CLIENT_SIDE, &ask, DropReason::ArpIgnored);
        assert!(sent.is_empty(), "no answer for {other}");
    }
}

#[test]
fn a_question_to_us_alone_and_without_a_mac_address_is_answered_too() {
    let bench = bare(Limits::default());
    let ask = Discovery {
        macs: (CLIENT_MAC, C0_MAC),
        to: VIP,
        mac: None,
        ..Discovery::ask(CLIENT_LINK_LOCAL, CLIENT_MAC, VIP)
    };
    let (_, reply) = bench.pass(CLIENT_SIDE, &ask.frame());
    let to = (CLIENT_LINK_LOCAL, CLIENT_MAC);
    assert_eq!(Discovery::read(&reply), Discovery::tell(VIP, C0_MAC, to, ROUTER_SOLICITED_OVERRIDE));
    assert_eq!(bench.director.neighbors().len(), 0, "nothing was told, nothing is learnt");
}

#[test]
fn a_probe_for_our_address_is_answered_to_everybody() {
    let bench = bare(Limits::default());
    let probe = Discovery { mac: None, ..Discovery::ask(Ipv6Addr::UNSPECIFIED, RS1_MAC, VIP) };
    let (_, reply) = bench.pass(CLIENT_SIDE, &probe.frame());
    let want = Discovery::tell(VIP, C0_MAC, (ALL_NODES, ALL_NODES_MAC), ROUTER_OVERRIDE);
    assert_eq!(Discovery::read(&reply), want, "to all nodes, not solicited");
    assert_eq!(bench.director.neighbors().len(), 0, "nobody has the unspecified address");
    let other = Discovery { mac: None, ..Discovery::ask(Ipv6Addr::UNSPECIFIED, RS1_MAC, RS1) };
    assert!(bench.refused(CLIENT_SIDE, &other.frame(), DropReason::ArpIgnored).is_empty());
}

#[test]
fn what_could_be_forged_from_afar_or_is_broken_is_dropped() {
    let bench = bare(Limits::default());
    let ask = Discovery::ask(CLIENT, CLIENT_MAC, VIP);
    let probe = Discovery::ask(Ipv6Addr::UNSPECIFIED, CLIENT_MAC, VIP);
    let mut bad_sum = ask.frame();
    bad_sum[56] ^= 1;
    let short = raw(ask.macs, CLIENT, ask.to, 255, 58, &[&[SOLICITATION, 0, 0, 0][..], &[0; 19]].concat());
    let cases = [
        ("hop limit 254", ask.frame_with(254, &[]), DropReason::Malformed),
        ("an option of length 0", ask.frame_with(255, &[5, 0, 0, 0, 0, 0, 0, 0]), DropReason::Malformed),
        ("an option beyond the end", ask.frame_with(255, &[5, 2, 0, 0, 0, 0, 0, 0]), DropReason::Truncated),
        ("half a target", short, DropReason::Truncated),
        ("a wrong checksum", bad_sum, DropReason::Malformed),
        ("a probe that tells a MAC address", probe.frame(), DropReason::Malformed),
        ("to another group", Discovery { to: solicited_node(RS1), ..ask }.frame(), DropReason::ArpIgnored),
        ("a source of multicast", Discovery { from: ALL_NODES, ..ask }.frame(), DropReason::Martian),
    ];
    for (name, frame, reason) in cases {
        let sent = bench.refused(CLIENT_SIDE, &frame, reason);
        assert!(sent.is_empty(), "{name}");
        assert_eq!(bench.director.neighbors().len(), 0, "{name}");
    }
}

#[test]
fn who_asks_for_us_is_known_and_who_asks_for_others_is_not() {
    let bench = bare(Limits::default());
    bench.send(CLIENT_SIDE, &Discovery::ask(CLIENT, CLIENT_MAC, DIP).frame());
    bench.send(CLIENT_SIDE, &Discovery::ask("fd00:1::9".parse().unwrap(), RS1_MAC, CLIENT).frame());
    let unasked = Discovery::tell(RS1, RS1_MAC, (ALL_NODES, ALL_NODES_MAC), ROUTER_OVERRIDE);
    bench.send(SERVER_SIDE, &unasked.frame());
    let known = bench.director.neighbors();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].addr, known[0].mac), (CLIENT.into(), Some(MacAddr(CLIENT_MAC))));
}

#[test]
fn start_is_announced_to_all_nodes() {
    let bench = bare(Limits::default());
    let mut out = Outbox::new();
    bench.director.announce(&mut out);
    let (reports, sent): (Vec<_>, Vec<_>) =
        out.drain().partition(|(_, frame)| frame.bytes()[..6] == [0x33, 0x33, 0, 0, 0, 0x16]);
    assert_eq!(reports.len(), 2, "one report of what is listened to on each link");
    assert_eq!(listened(reports[0].1.bytes()), (4, client_side_groups()), "from now on");
    let sent: Vec<_> = sent.into_iter().map(|(port, frame)| (port, Discovery::read(frame.bytes()))).collect();
    let own = |mac, addr| Discovery::tell(addr, mac, (ALL_NODES, ALL_NODES_MAC), ROUTER_OVERRIDE);
    assert_eq!(
        sent,
        [
            (CLIENT_SIDE, own(C0_MAC, DIP)),
            (CLIENT_SIDE, own(C0_MAC, VIP)),
            (CLIENT_SIDE, own(C0_MAC, C0_LINK_LOCAL)),
            (SERVER_SIDE, own(R0_MAC, RIP)),
            (SERVER_SIDE, own(R0_MAC, R0_LINK_LOCAL)),
        ]
    );
}

#[test]
fn a_real_server_that_claims_the_vip_is_noticed() {
    let bench = bench();
    let claim = Discovery::tell(VIP, RS1_MAC, (ALL_NODES, ALL_NODES_MAC), ROUTER_OVERRIDE);
    bench.refused(CLIENT_SIDE, &claim.frame(), DropReason::ArpIgnored);
    bench.refused(CLIENT_SIDE, &Discovery::ask(VIP, RS1_MAC, CLIENT).frame(), DropReason::ArpIgnored);
    let conflicts = bench.director.status().conflicts;
    assert_eq!(conflicts.len(), 1);
    let seen = (conflicts[0].addr, conflicts[0].mac, conflicts[0].count);
    assert_eq!(seen, (VIP.into(), MacAddr(RS1_MAC), 2));
}

fn answer(mac: [u8; 6], flags: u32) -> Discovery {
    Discovery::tell(RS1, mac, (R0_LINK_LOCAL, R0_MAC), flags)
}

#[test]
fn frames_wait_for_an_address_within_bounds_and_leave_in_order() {
    let bench = bare(Limits { neighbor_queue_bytes: 2 * (49 + 256), ..Limits::default() });
    service(&bench, Protocol::Udp, Forwarding::Nat, &["[fd00:2::11]:5353"]);
    let request = |n: u8| udp((CLIENT, 4000), (VIP, 53), &[n]);
    let (verdict, sent) = bench.send(CLIENT_SIDE, &request(1));
    assert_eq!(verdict, Verdict::Consume);
    assert_eq!(sent.len(), 1);
    let question = Discovery::ask(R0_LINK_LOCAL, R0_MAC, RS1);
    assert_eq!((sent[0].0, Discovery::read(&sent[0].1)), (SERVER_SIDE, question));
    let (verdict, sent) = bench.send(CLIENT_SIDE, &request(2));
    assert_eq!((verdict, sent), (Verdict::Consume, vec![]), "asked once a second, not for each frame");
    bench.send(CLIENT_SIDE, &request(3));
    assert_eq!(bench.dropped(DropReason::NeighborQueueFull), 1, "the oldest");

    let (verdict, sent) = bench.send(SERVER_SIDE, &answer(RS1_MAC, 0x4000_0000).frame());
    assert_eq!(verdict, Verdict::Consume);
    let payloads: Vec<_> = sent.iter().map(|(_, frame)| read(frame).payload).collect();
    assert_eq!(payloads, [vec![2], vec![3]]);
    assert_eq!(read(&sent[0].1).macs, (RS1_MAC, R0_MAC));
}

#[test]
fn an_answer_replaces_what_is_known_only_where_it_says_so() {
    let mac_after = |change: Discovery| {
        let bench = bare(Limits::default());
        service(&bench, Protocol::Udp, Forwarding::Nat, &["[fd00:2::11]:5353"]);
        bench.send(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), b"?"));
        bench.send(SERVER_SIDE, &answer(RS1_MAC, 0x4000_0000).frame());
        bench.send(SERVER_SIDE, &change.frame());
        let known = bench.director.neighbors();
        known.iter().find(|n| n.addr == IpAddr::from(RS1)).and_then(|n| n.mac)
    };
    let cases = [
        ("with override", answer(RS2_MAC, 0x6000_0000), RS2_MAC),
        ("without", answer(RS2_MAC, 0x4000_0000), RS1_MAC),
        ("without a MAC address", Discovery { mac: None, ..answer(RS2_MAC, 0x6000_0000) }, RS1_MAC),
    ];
    for (name, change, want) in cases {
        assert_eq!(mac_after(change), Some(MacAddr(want)), "{name}");
    }
}

#[test]
fn a_known_neighbour_is_asked_directly_and_confirmed_by_a_bare_answer() {
    let mut bench = bare(Limits::default());
    service(&bench, Protocol::Udp, Forwarding::Nat, &["[fd00:2::11]:5353"]);
    let request = udp((CLIENT, 4000), (VIP, 53), b"?");
    bench.send(CLIENT_SIDE, &request);
    bench.send(SERVER_SIDE, &answer(RS1_MAC, 0x4000_0000).frame());
    bench.advance(Duration::from_secs(31));
    let (_, sent) = bench.send(CLIENT_SIDE, &request);
    let frames: Vec<_> = sent.iter().map(|(_, frame)| &frame[..]).collect();
    assert_eq!(frames.len(), 2, "the frame leaves at once, and a question with it");
    assert_eq!(read(frames[0]).macs.0, RS1_MAC);
    let question =
        Discovery { macs: (R0_MAC, RS1_MAC), to: RS1, ..Discovery::ask(R0_LINK_LOCAL, R0_MAC, RS1) };
    assert_eq!(Discovery::read(frames[1]), question);
    bench.send(SERVER_SIDE, &Discovery { mac: None, ..answer(RS1_MAC, 0x4000_0000) }.frame());
    assert_eq!(bench.advance(Duration::from_secs(20)), [], "no further question");
}

#[test]
fn who_asks_for_us_in_numbers_locks_no_server_out() {
    let bench = bare(Limits { neighbors: 3, ..Limits::default() });
    for n in 2..20 {
        let addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, n);
        bench.send(CLIENT_SIDE, &Discovery::ask(addr, CLIENT_MAC, DIP).frame());
    }
    assert_eq!(bench.director.neighbors().len(), 3);
    service(&bench, Protocol::Udp, Forwarding::Nat, &["[fd00:2::11]:5353"]);
    bench.send(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), b"?"));
    let (_, sent) = bench.send(SERVER_SIDE, &answer(RS1_MAC, 0x4000_0000).frame());
    assert_eq!(sent.len(), 1, "what waited for it");
    assert_eq!(bench.director.neighbors().len(), 3);
}

#[test]
fn a_neighbour_that_never_answers_is_reported_in_the_clients_own_words() {
    let mut bench = bare(Limits::default());
    bench.apply(Change::SetNeighbor { port: CLIENT_SIDE, addr: CLIENT.into(), mac: MacAddr(CLIENT_MAC) });
    service(&bench, Protocol::Udp, Forwarding::Nat, &["[fd00:2::11]:5353"]);
    bench.send(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), b"?"));
    let sent = bench.advance(Duration::from_secs(5));
    let (errors, questions): (Sent, Sent) = sent.into_iter().partition(|(port, _)| *port == CLIENT_SIDE);
    assert_eq!(questions.len(), 2, "asked again twice");
    assert_eq!(errors.len(), 1);
    let error = read_icmp(&errors[0].1);
    assert_eq!((error.from, error.to, error.kind, error.code), (VIP, CLIENT, 1, 3), "address unreachable");
    let (from, to, _) = quoted(&error.payload);
    assert_eq!((from, to), ((CLIENT, 4000), (VIP, 53)));
}

#[test]
fn multicast_is_taken_for_discovery_only() {
    let bench = bench();
    let macs = (CLIENT_MAC, ALL_NODES_MAC);
    let echo = [&[128, 0, 0, 0][..], &[0, 1, 0, 1]].concat();
    for (name, frame) in [
        ("echo to all nodes", raw(macs, CLIENT, ALL_NODES, 64, 58, &echo)),
        ("a router advertisement", raw(macs, CLIENT_LINK_LOCAL, ALL_NODES, 255, 58, &[134; 16])),
        ("unicast in a group's frame", raw(macs, CLIENT, VIP, 64, 58, &echo)),
    ] {
        assert!(bench.refused(CLIENT_SIDE, &frame, DropReason::Multicast).is_empty(), "{name}");
    }
}

/// The groups that questions about our addresses on the client's link go to, in order.
fn client_side_groups() -> Vec<Ipv6Addr> {
    // fd00:1::1 and the link-local address end alike.
    vec![solicited_node(DIP), solicited_node(VIP)]
}

/// The kind of record and the groups of a report of MLDv2, checked for what snooping switches ask of it.
fn listened(frame: &[u8]) -> (u8, Vec<Ipv6Addr>) {
    assert_eq!((frame[20], frame[21]), (0, 1), "hop-by-hop header, hop limit 1");
    assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0], "router alert");
    assert_eq!(Ipv6Addr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap()), C0_LINK_LOCAL);
    assert_eq!((frame[62], usize::from(frame[69]) * 20 + 70), (143, frame.len()));
    let groups = frame[70..].chunks(20).map(|record| {
        assert_eq!(record[0], frame[70]);
        Ipv6Addr::from(<[u8; 16]>::try_from(&record[4..]).unwrap())
    });
    (frame[70], groups.collect())
}

#[test]
fn who_asks_for_listeners_hears_of_our_groups() {
    let bench = bare(Limits::default());
    let router: Ipv6Addr = "fe80::99".parse().unwrap();
    let query = |from: Ipv6Addr, group: Ipv6Addr, v2: &[u8]| {
        let message = [&[130, 0, 0, 0, 0, 100, 0, 0][..], &group.octets(), v2].concat();
        raw((RS1_MAC, ALL_NODES_MAC), from, ALL_NODES, 1, 58, &message)
    };
    let all = Ipv6Addr::UNSPECIFIED;
    let v2 = [2, 125, 0, 0];
    let (port, report) = bench.pass(CLIENT_SIDE, &query(router, all, &v2));
    assert_eq!((port, listened(&report)), (CLIENT_SIDE, (2, client_side_groups())));
    let (_, report) = bench.pass(CLIENT_SIDE, &query(router, solicited_node(VIP), &v2));
    assert_eq!(listened(&report), (2, vec![solicited_node(VIP)]));

    let (verdict, reports) = bench.send(CLIENT_SIDE, &query(router, all, &[]));
    assert_eq!(verdict, Verdict::Consume);
    let told: Vec<_> = reports.iter().map(|(_, frame)| (frame[62], frame[70..86].to_vec())).collect();
    let want: Vec<_> = client_side_groups().iter().map(|group| (131, group.octets().to_vec())).collect();
    assert_eq!(told, want, "version 1: a report for each group");
    assert_eq!(reports[0].1[..6], group_mac(client_side_groups()[0]));

    let cases = [
        ("for a group of others", query(router, solicited_node(RS1), &v2), DropReason::Multicast),
        ("from afar", query(CLIENT, all, &v2), DropReason::Malformed),
    ];
    for (name, frame, reason) in cases {
        assert!(bench.refused(CLIENT_SIDE, &frame, reason).is_empty(), "{name}");
    }
}
