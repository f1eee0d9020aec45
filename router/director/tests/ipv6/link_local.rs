//! Link-local addresses: ours on each link, and never carried to another.

use super::*;

#[test]
fn a_link_local_neighbour_is_answered_on_its_link() {
    let bench = bench();
    let mac = MacAddr(CLIENT_MAC);
    bench.apply(Change::SetNeighbor { port: CLIENT_SIDE, addr: CLIENT_LINK_LOCAL.into(), mac });
    for ours in [C0_LINK_LOCAL, VIP] {
        let (port, reply) = bench.pass(CLIENT_SIDE, &icmp(CLIENT_LINK_LOCAL, ours, 128, 0, 9, b"echo"));
        let reply = read_icmp(&reply);
        assert_eq!((port, reply.from, reply.to, reply.kind), (CLIENT_SIDE, ours, CLIENT_LINK_LOCAL, 129));
    }
    let (_, sent) = bench.send(CLIENT_SIDE, &tcp((CLIENT_LINK_LOCAL, 4000), (VIP, 81), "S"));
    assert_eq!(read(&sent[0].1).to, (CLIENT_LINK_LOCAL.into(), 4000), "a reset");
}

#[test]
fn nothing_link_local_goes_to_another_link() {
    let bench = bench();
    let mac = MacAddr(CLIENT_MAC);
    bench.apply(Change::SetNeighbor { port: CLIENT_SIDE, addr: CLIENT_LINK_LOCAL.into(), mac });
    service(&bench, Protocol::Tcp, Forwarding::Nat, &["[fd00:2::11]:8080"]);
    for (name, to) in [("balanced", (VIP, 80)), ("routed", (RS1, 80))] {
        let frame = tcp((CLIENT_LINK_LOCAL, 4000), to, "S");
        let sent = bench.refused(CLIENT_SIDE, &frame, DropReason::NoRoute);
        let error = read_icmp(&sent[0].1);
        assert_eq!((error.to, error.kind, error.code), (CLIENT_LINK_LOCAL, 1, 2), "{name}: beyond scope");
    }
    let other = tcp((CLIENT, 4000), (R0_LINK_LOCAL, 80), "S");
    bench.refused(CLIENT_SIDE, &other, DropReason::NoRoute);
    let own = tcp((C0_LINK_LOCAL, 4000), (VIP, 80), "S");
    bench.refused(CLIENT_SIDE, &own, DropReason::Martian);
}

#[test]
fn a_gateway_may_be_link_local() {
    let bench = bare(Limits::default());
    let gateway: Ipv6Addr = "fe80::fe".parse().unwrap();
    let interface = |port: PortId, mac, addresses: &[&str]| InterfaceSpec {
        port,
        name: port.to_string(),
        link: Link::Ethernet(MacAddr(mac)),
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        source_check: SourceCheck::Loose,
    };
    bench.apply(Change::SetNetwork {
        interfaces: vec![
            interface(CLIENT_SIDE, C0_MAC, &["fd00:1::100/64"]),
            interface(SERVER_SIDE, R0_MAC, &["fd00:2::1/64"]),
        ],
        routes: vec![RouteSpec { to: "::/0".parse().unwrap(), via: Some(gateway.into()), port: CLIENT_SIDE }],
    });
    let far: Ipv6Addr = "2001:db8::9".parse().unwrap();
    let (_, sent) = bench.send(CLIENT_SIDE, &icmp(far, VIP, 128, 0, 9, b"echo"));
    let question = Discovery::read(&sent[0].1);
    assert_eq!((question.from, question.target), (C0_LINK_LOCAL, gateway));
    let answer = Discovery::tell(gateway, CLIENT_MAC, (C0_LINK_LOCAL, C0_MAC), 0xc000_0000);
    let (port, reply) = bench.pass(CLIENT_SIDE, &answer.frame());
    assert_eq!((port, &reply[..6]), (CLIENT_SIDE, &CLIENT_MAC[..]));
    assert_eq!(read_icmp(&reply).to, far);
}
