//! Echo, and ICMPv6 errors about balanced connections.

use super::*;

#[test]
fn echo_is_answered_for_our_addresses() {
    let bench = bench();
    for ours in [DIP, VIP, RIP] {
        let (port, reply) = bench.pass(CLIENT_SIDE, &icmp(CLIENT, ours, 128, 0, 0x0007_0001, b"0123456789"));
        let want = Message {
            from: ours,
            to: CLIENT,
            hops: 64,
            kind: 129,
            code: 0,
            rest: 0x0007_0001,
            payload: b"0123456789".to_vec(),
        };
        assert_eq!((port, read_icmp(&reply)), (CLIENT_SIDE, want));
    }
    let mut damaged = icmp(CLIENT, VIP, 128, 0, 0x0007_0001, b"0123456789");
    damaged[65] ^= 1;
    bench.refused(CLIENT_SIDE, &damaged, DropReason::BadChecksum);
    let to_other = icmp(CLIENT, RS1, 128, 0, 1, b"");
    bench.refused(CLIENT_SIDE, &to_other, DropReason::Transit);
    bench.apply(Change::SetOptions(Options { transit: Transit::Any, ..Options::default() }));
    assert_eq!(bench.pass(CLIENT_SIDE, &to_other).0, SERVER_SIDE, "routed");
}

/// The IPv6 packet of a frame.
fn packet(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

#[test]
fn errors_about_a_translated_connection_are_translated_both_ways() {
    for (kind, code, rest) in [(1, 4, 0), (2, 0, 1300), (3, 0, 0), (4, 1, 40)] {
        let bench = bench();
        service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
        let (_, request) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S"));
        let (_, reply) = bench.pass(SERVER_SIDE, &tcp((RS1, 8080), (CLIENT, 40000), "SA"));

        let about_reply = icmp(CLIENT, VIP, kind, code, rest, packet(&reply));
        let (port, there) = bench.pass(CLIENT_SIDE, &about_reply);
        let error = read_icmp(&there);
        assert_eq!((port, error.from, error.to, error.hops), (SERVER_SIDE, CLIENT, RS1, 63));
        assert_eq!((error.kind, error.code, error.rest), (kind, code, rest));
        let (from, to, _) = quoted(&error.payload);
        assert_eq!((from, to), ((RS1, 8080), (CLIENT, 40000)), "as the real server had sent it");

        let about_request = icmp(RS1, CLIENT, kind, code, rest, packet(&request));
        let (port, back) = bench.pass(SERVER_SIDE, &about_request);
        let error = read_icmp(&back);
        assert_eq!((port, error.from, error.to, error.hops), (CLIENT_SIDE, VIP, CLIENT, 63));
        assert_eq!((error.kind, error.code, error.rest), (kind, code, rest));
        let (from, to, _) = quoted(&error.payload);
        assert_eq!((from, to), ((CLIENT, 40000), (VIP, 80)), "as the client had sent it");
    }
}

#[test]
fn a_router_between_may_be_the_one_that_reports() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    let (_, request) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S"));
    let router: Ipv6Addr = "fd00:2::99".parse().unwrap();
    let quote = &packet(&request)[..48];
    let message = [&[3, 0, 0, 0, 0, 0, 0, 0][..], quote].concat();
    let frame = raw((RS2_MAC, R0_MAC), router, CLIENT, 60, 58, &message);
    let (port, back) = bench.pass(SERVER_SIDE, &frame);
    let error = read_icmp(&back);
    assert_eq!((port, error.from, error.hops), (CLIENT_SIDE, VIP, 59), "the client knows the VIP only");
    assert_eq!((error.payload.len(), quoted(&error.payload).1), (48, (VIP, 80)));
}

#[test]
fn errors_in_direct_routing_go_on_as_they_are() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Direct, &["[fd00:2::11]:80"]);
    bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S"));
    let reply = tcp((VIP, 80), (CLIENT, 40000), "SA");
    let error = icmp(CLIENT, VIP, 2, 0, 1300, packet(&reply));
    let (port, there) = bench.pass(CLIENT_SIDE, &error);
    let mut want = error;
    want[..12].copy_from_slice(&[RS1_MAC, R0_MAC].concat());
    want[21] -= 1;
    assert_eq!((port, there), (SERVER_SIDE, want));

    let about_request = icmp(RS1, CLIENT, 1, 4, 0, packet(&tcp((CLIENT, 40000), (VIP, 80), "S")));
    let (port, back) = bench.pass(SERVER_SIDE, &about_request);
    assert_eq!((port, packet(&back)[8..].to_vec()), (CLIENT_SIDE, packet(&about_request)[8..].to_vec()));
}

#[test]
fn an_error_about_nothing_we_know_stops_here() {
    let bench = bench();
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    let reply = tcp((VIP, 80), (CLIENT, 40000), "SA");
    let error = icmp(CLIENT, VIP, 1, 4, 0, packet(&reply));
    bench.refused(CLIENT_SIDE, &error, DropReason::IcmpUnrelated);
    let cut = icmp(CLIENT, VIP, 1, 4, 0, &packet(&reply)[..20]);
    bench.refused(CLIENT_SIDE, &cut, DropReason::IcmpUnrelated);
}

#[test]
fn an_error_of_one_ip_version_about_the_other_translates_nothing() {
    let bench = bench();
    let Change::SetNetwork { mut interfaces, routes } = network() else { unreachable!() };
    interfaces[0].addresses.push("10.0.0.100/24".parse().unwrap());
    interfaces[1].addresses.push("192.168.10.1/24".parse().unwrap());
    bench.apply(Change::SetNetwork { interfaces, routes });
    for (port, addr, mac) in [
        (CLIENT_SIDE, IpAddr::from(CLIENT), CLIENT_MAC),
        (CLIENT_SIDE, IpAddr::from(common::CLIENT), CLIENT_MAC),
        (SERVER_SIDE, IpAddr::from(RS1), RS1_MAC),
    ] {
        bench.apply(Change::SetNeighbor { port, addr, mac: MacAddr(mac) });
    }
    bench.apply(Change::SetOptions(Options { transit: Transit::Any, ..Options::default() }));
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    let (_, request) = bench.pass(CLIENT_SIDE, &tcp((CLIENT, 40000), (VIP, 80), "S"));
    let (_, reply) = bench.pass(SERVER_SIDE, &tcp((RS1, 8080), (CLIENT, 40000), "SA"));
    let error = |from: std::net::Ipv4Addr, to: std::net::Ipv4Addr, macs: ([u8; 6], [u8; 6]), quote: &[u8]| {
        let mut bytes = Vec::new();
        let kind =
            etherparse::Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit);
        let builder =
            PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from.octets(), to.octets(), 64).icmpv4(kind);
        builder.write(&mut bytes, quote).unwrap();
        bytes
    };
    let about_reply = error(common::CLIENT, common::VIP, (CLIENT_MAC, C0_MAC), packet(&reply));
    bench.refused(CLIENT_SIDE, &about_reply, DropReason::IcmpUnrelated);
    let about_request = error(common::RS1, common::CLIENT, (RS1_MAC, R0_MAC), packet(&request));
    let (port, routed) = bench.pass(SERVER_SIDE, &about_request);
    assert_eq!((port, &routed[34..]), (CLIENT_SIDE, &about_request[34..]), "routed as any packet");
}
