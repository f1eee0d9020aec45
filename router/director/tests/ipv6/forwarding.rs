//! Requests and replies by NAT and direct routing, and what becomes of those that cannot go on.

use super::*;

#[test]
fn nat_goes_there_and_back_with_right_checksums() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    service(&bench, Protocol::Udp, Forwarding::Nat, &["[fd00:2::12]:5353"]);
    let (port, there) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S"));
    assert_eq!(port, SERVER_SIDE);
    let want = Read {
        macs: (RS1_MAC, R0_MAC),
        from: (CLIENT.into(), 40000),
        to: (RS1.into(), 8080),
        ttl: 63,
        payload: vec![],
    };
    assert_eq!(read(&there), want);
    let (port, back) = bench.pass(SERVER_SIDE, &tcp((RS1, 8080), (CLIENT, 40000), "SA"));
    assert_eq!(port, CLIENT_SIDE);
    let want = Read {
        macs: (CLIENT_MAC, C0_MAC),
        from: (VIP.into(), 80),
        to: (CLIENT.into(), 40000),
        ttl: 63,
        payload: vec![],
    };
    assert_eq!(read(&back), want);

    let (_, there) = bench.pass(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), b"question"));
    assert_eq!((read(&there).to, read(&there).payload), ((RS2.into(), 5353), b"question".to_vec()));
    let (_, back) = bench.pass(SERVER_SIDE, &udp((RS2, 5353), (CLIENT, 4000), b"answer"));
    assert_eq!((read(&back).from, read(&back).payload), ((VIP.into(), 53), b"answer".to_vec()));
}

#[test]
fn nat_keeps_extension_headers_and_rewrites_behind_them() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    let plain = tcp((CLIENT, 40000), (VIP, 80), "S");
    let chain = [60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];
    let payload = [&chain[..], &plain[54..]].concat();
    let frame = raw((CLIENT_MAC, C0_MAC), CLIENT, VIP, 64, 0, &payload);
    let (_, there) = bench.pass(CLIENT_SIDE, &frame);
    assert_eq!(&there[54..70], chain);
    let read = read(&there);
    assert_eq!((read.to, read.ttl), ((RS1.into(), 8080), 63));
}

#[test]
fn direct_routing_touches_mac_addresses_and_hop_limit_only() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Direct, &["[fd00:2::11]:80"]);
    let frame = tcp((CLIENT, 40000), (VIP, 80), "S");
    let (port, there) = bench.pass(CLIENT_SIDE, &frame);
    let mut want = frame;
    want[..12].copy_from_slice(&[RS1_MAC, R0_MAC].concat());
    want[21] -= 1;
    assert_eq!((port, there), (SERVER_SIDE, want));
}

#[test]
fn a_hop_limit_that_runs_out_is_reported_by_the_vip_with_the_packet_as_it_came() {
    for (forwarding, destination) in
        [(Forwarding::Nat, "[fd00:2::11]:8080"), (Forwarding::Direct, "[fd00:2::11]:80")]
    {
        let bench = bench();
        service(&bench, Protocol::Tcp, forwarding, &[destination]);
        let frame = segment((CLIENT, 40000), (VIP, 80), "S", 1, b"hello");
        let sent = bench.refused(CLIENT_SIDE, &frame, DropReason::TtlExceeded);
        assert_eq!(sent.len(), 1);
        let want = Message {
            from: VIP,
            to: CLIENT,
            hops: 64,
            kind: 3,
            code: 0,
            rest: 0,
            payload: frame[14..].to_vec(),
        };
        assert_eq!(read_icmp(&sent[0].1), want);
    }
}

#[test]
fn a_reply_whose_hop_limit_runs_out_is_reported_to_the_real_server_untranslated() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S"));
    let frame = segment((RS1, 8080), (CLIENT, 40000), "SA", 1, b"");
    let sent = bench.refused(SERVER_SIDE, &frame, DropReason::TtlExceeded);
    let error = read_icmp(&sent[0].1);
    assert_eq!((sent[0].0, error.from, error.to, error.kind), (SERVER_SIDE, RIP, RS1, 3));
    assert_eq!(error.payload, frame[14..]);
}

#[test]
fn what_is_too_big_for_the_next_link_is_reported_with_its_mtu() {
    let bench = bench();
    let Change::SetNetwork { mut interfaces, routes } = network() else { unreachable!() };
    interfaces[1].mtu = 1400;
    bench.apply(Change::SetNetwork { interfaces, routes });
    for (port, addr, mac) in [(CLIENT_SIDE, CLIENT, CLIENT_MAC), (SERVER_SIDE, RS1, RS1_MAC)] {
        bench.apply(Change::SetNeighbor { port, addr: addr.into(), mac: MacAddr(mac) });
    }
    service(&bench, Protocol::Udp, Forwarding::Nat, &["[fd00:2::11]:5353"]);
    bench.pass(CLIENT_SIDE, &udp((CLIENT, 4000), (VIP, 53), &[7; 1352]));
    let frame = udp((CLIENT, 4000), (VIP, 53), &[7; 1353]);
    let sent = bench.refused(CLIENT_SIDE, &frame, DropReason::FragmentationNeeded);
    let error = read_icmp(&sent[0].1);
    let seen = (error.from, error.to, error.kind, error.code, error.rest);
    assert_eq!(seen, (VIP, CLIENT, 2, 0, 1400), "packet too big");
    assert_eq!(sent[0].1.len(), 14 + 1280, "as much as fits into the least MTU");
    assert_eq!(quoted(&error.payload).1, (VIP, 53));
}

#[test]
fn what_nobody_takes_is_refused_as_a_host_does() {
    let bench = bench();
    let (_, back) = bench.send(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 81), "S"));
    let read = read(&back[0].1);
    assert_eq!((read.from, read.to, read.ttl), ((VIP.into(), 81), (CLIENT.into(), 40000), 64), "a reset");
    let udp = udp((CLIENT, 4000), (VIP, 54), b"?");
    let error = read_icmp(&bench.refused(CLIENT_SIDE, &udp, DropReason::NotHandled)[0].1);
    assert_eq!((error.from, error.kind, error.code), (VIP, 1, 4), "port unreachable");

    let options = [200, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4];
    let cases: [(&str, u8, &[u8], Option<u32>); 5] = [
        ("an unknown protocol", 200, &[1, 2, 3, 4], Some(6)),
        ("an unknown protocol behind options", 60, &options, Some(40)),
        ("ICMP of IPv4", 1, &[3, 3, 0, 0, 0, 0, 0, 0], Some(6)),
        ("ICMP of IPv4, empty", 1, &[], Some(6)),
        ("no next header", 59, &[], None),
    ];
    for (name, next, payload, pointer) in cases {
        let frame = raw((CLIENT_MAC, C0_MAC), CLIENT, VIP, 64, next, payload);
        let sent = bench.refused(CLIENT_SIDE, &frame, DropReason::NotHandled);
        let seen = sent.first().map(|(_, frame)| read_icmp(frame)).map(|m| (m.kind, m.code, m.rest));
        assert_eq!(seen, pointer.map(|pointer| (4, 1, pointer)), "{name}");
    }
}

#[test]
fn icmpv6_in_ipv4_is_no_icmp() {
    let bench = Bench::new();
    let mut frame = Vec::new();
    let builder =
        PacketBuilder::ethernet2(CLIENT_MAC, C0_MAC).ipv4(common::CLIENT.octets(), common::VIP.octets(), 64);
    builder.write(&mut frame, etherparse::IpNumber(58), &[]).unwrap();
    let sent = bench.refused(CLIENT_SIDE, &frame, DropReason::NotHandled);
    assert_eq!(sent.len(), 1, "protocol unreachable");
}

#[test]
fn a_packet_that_takes_us_for_a_waypoint_goes_nowhere() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    let plain = tcp((CLIENT, 40000), (VIP, 80), "S");
    let routing = |left: u8| [&[6, 2, 4, left, 0, 0, 0, 0][..], &RS2.octets(), &plain[54..]].concat();
    let frame = raw((CLIENT_MAC, C0_MAC), CLIENT, VIP, 64, 43, &routing(1));
    let error = read_icmp(&bench.refused(CLIENT_SIDE, &frame, DropReason::NotHandled)[0].1);
    assert_eq!((error.kind, error.code, error.rest), (4, 0, 42), "it points at the routing type");
    let frame = raw((CLIENT_MAC, C0_MAC), CLIENT, VIP, 64, 43, &routing(0));
    assert_eq!(bench.pass(CLIENT_SIDE, &frame).0, SERVER_SIDE, "at its target it is a packet as any");
}
