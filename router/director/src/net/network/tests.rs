use core::net::IpAddr;

use super::*;
use crate::base::spec::SourceCheck;

impl Network {
    fn new(interfaces: Vec<InterfaceSpec>, routes: &[RouteSpec]) -> Result<Self, String> {
        Self::without(interfaces, routes, Withheld::default())
    }
}

fn interface(port: u16, addresses: &[&str]) -> InterfaceSpec {
    InterfaceSpec {
        port: PortId(port),
        name: format!("eth{port}"),
        link: Link::Ethernet(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        source_check: SourceCheck::Loose,
    }
}

fn addr(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn the_longest_prefix_wins() {
    let via = |to: &str, via: Option<&str>, port| RouteSpec {
        to: to.parse().unwrap(),
        via: via.map(|v| v.parse().unwrap()),
        port: PortId(port),
    };
    let network = Network::new(
        vec![interface(0, &["10.0.0.1/24", "fd00::1/64"]), interface(1, &["192.168.10.1/24"])],
        &[
            via("0.0.0.0/0", Some("10.0.0.254"), 0),
            via("172.16.0.0/12", Some("192.168.10.254"), 1),
            via("172.16.9.0/24", None, 0),
        ],
    )
    .unwrap();
    let more: Vec<RouteSpec> = (0..20).map(|n| via(&format!("198.51.100.{n}/32"), None, 1)).collect();
    let many = Network::new(network.interfaces.clone(), &[&network.given[..], &more].concat()).unwrap();
    assert!(network.ranges.is_none() && many.ranges.is_some(), "both ways to find one");
    let cases = [
        ("10.0.0.7", 0, "10.0.0.7", "connected"),
        ("192.168.10.11", 1, "192.168.10.11", "connected on the other side"),
        ("8.8.8.8", 0, "10.0.0.254", "default route"),
        ("172.20.1.1", 1, "192.168.10.254", "through a gateway"),
        ("172.16.9.9", 0, "172.16.9.9", "a longer prefix on the link"),
        ("fd00::9", 0, "fd00::9", "IPv6"),
    ];
    for (to, port, hop, why) in cases {
        for network in [&network, &many] {
            let found = network.route(addr(to)).unwrap();
            assert_eq!((found.port, found.addr), (PortId(port), addr(hop)), "{why}");
        }
    }
    assert_eq!(many.route(addr("fd01::1")), None, "no IPv6 default route");
    assert_eq!(network.route(addr("fd01::1")), None, "no IPv6 default route");
    assert_eq!(network.owner(addr("10.0.0.255"), PortId(1)), Owner::Broadcast);
    assert_eq!(network.owner(addr("192.168.10.1"), PortId(0)), Owner::Local, "on whatever link");
    assert_eq!(network.owner(addr("10.0.0.7"), PortId(0)), Owner::Other);
    assert_eq!(network.source_for(PortId(1), addr("192.168.10.11")), Some(addr("192.168.10.1")));
}

#[test]
fn own_addresses_are_told_from_others_however_many_there_are() {
    let vips: Vec<String> = (0..1000).map(|n| format!("10.9.{}.{}/32", n / 250, n % 250)).collect();
    let mut own: Vec<&str> = vips.iter().map(String::as_str).collect();
    own.push("10.0.0.1/8");
    let everything = |via| RouteSpec { to: "::/0".parse().unwrap(), via, port: PortId(1) };
    let network =
        Network::new(vec![interface(0, &own), interface(1, &["fd00::1/64"])], &[everything(None)]).unwrap();
    for n in 0..1000 {
        let vip = addr(&format!("10.9.{}.{}", n / 250, n % 250));
        assert_eq!(network.owner(vip, PortId(1)), Owner::Local);
        assert_eq!(network.route(vip).map(|hop| (hop.port, hop.addr)), Some((PortId(0), vip)));
    }
    let others = (0..1000).map(|n| addr(&format!("10.9.{}.{}", n / 250, 250 + n % 6)));
    assert_eq!(others.filter(|other| network.is_local(*other)).count(), 0);
    assert_eq!(network.routes.len(), 3, "the subnets and the route");
    assert_eq!(network.route(addr("192.0.2.1")), None, "no route of IPv6 leads to IPv4");
    assert_eq!(network.route(addr("2001:db8::1")).map(|hop| hop.port), Some(PortId(1)));
}

#[test]
fn sources_are_believed_as_each_interface_says() {
    let network = |check| {
        let mut interfaces = vec![
            interface(0, &["10.0.0.1/8", "10.77.0.1/24", "10.0.0.100/32", "fd00:1::1/64"]),
            interface(1, &["192.168.10.1/24", "10.9.0.1/16", "fd00:2::1/64"]),
        ];
        interfaces.iter_mut().for_each(|interface| interface.source_check = check);
        let default = RouteSpec {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some("10.0.0.254".parse().unwrap()),
            port: PortId(0),
        };
        Network::new(interfaces, &[default]).unwrap()
    };
    let nets = [SourceCheck::Strict, SourceCheck::Loose, SourceCheck::Off].map(network);
    let cases = [
        ("10.0.0.7", 0, [true, true, true], "on its link"),
        ("10.0.0.7", 1, [false, false, true], "a client on the servers' link"),
        ("192.168.10.11", 0, [false, false, true], "a server on the clients' link"),
        ("192.168.10.11", 1, [true, true, true], "on its link"),
        ("10.9.0.7", 0, [false, false, true], "of the longer subnet, which is elsewhere"),
        ("10.9.0.7", 1, [true, true, true], "of the longer subnet"),
        ("10.77.0.7", 0, [true, true, true], "of a longer one here in a wider one here"),
        ("8.8.8.8", 0, [true, true, true], "from afar"),
        ("8.8.8.8", 1, [false, true, true], "from afar, but its way back is another"),
        ("fd00:2::9", 0, [false, false, true], "IPv6"),
        ("fd01::9", 0, [false, true, true], "there is no way back, and direct routing needs none"),
        ("fe80::9", 0, [true, true, true], "link-local"),
    ];
    for (source, port, want, why) in cases {
        let got = [0, 1, 2].map(|n: usize| nets[n].admits(addr(source), PortId(port)));
        assert_eq!(got, want, "{source} on {port}: {why}");
    }
}

#[test]
fn link_local_addresses_belong_to_their_link() {
    let mut second = interface(1, &["2001:db8:1::1/64", "fe80::1/64"]);
    second.link = Link::Ethernet(MacAddr([2, 0, 0, 0, 1, 1]));
    let interfaces = vec![
        interface(0, &["2001:db8::1/64"]),
        second,
        interface(2, &["10.0.0.1/24"]),
        interface(3, &["2001:db8:3::1/64", "fe80::1/64"]),
    ];
    let default =
        RouteSpec { to: "::/0".parse().unwrap(), via: Some("fe80::fe".parse().unwrap()), port: PortId(0) };
    let network = Network::new(interfaces, &[default]).unwrap();
    let derived = addr("fe80::ff:fe00:1");
    assert_eq!(network.link_local(PortId(0)), [derived], "from the MAC address");
    assert_eq!(network.link_local(PortId(1)), [addr("fe80::1")], "the given one instead");
    assert_eq!(network.link_local(PortId(2)), [], "none without IPv6");
    assert!(network.is_local_seen_from(addr("fe80::1"), PortId(3)), "the same on another link");
    assert!(!network.is_local_seen_from(addr("fe80::1"), PortId(0)), "not ours on this link");
    assert!(network.is_local_seen_from(addr("2001:db8:1::1"), PortId(0)), "ours on every link");
    assert!(!network.is_local_on(addr("2001:db8:1::1"), PortId(0)), "not to be told on this link");

    let neighbor = addr("fe80::9");
    assert_eq!(network.route(neighbor), None, "not by the default route");
    let hop = |port| network.route_back(neighbor, PortId(port)).map(|hop| (hop.port, hop.addr));
    assert_eq!((hop(0), hop(1)), (Some((PortId(0), neighbor)), Some((PortId(1), neighbor))));
    assert_eq!(hop(2), None, "no IPv6 there");
    assert_eq!(network.route(addr("2001:db8:9::9")).map(|hop| hop.addr), Some(addr("fe80::fe")));

    assert_eq!(network.source_for(PortId(1), neighbor), Some(addr("fe80::1")));
    assert_eq!(network.source_for(PortId(1), addr("2001:db8:9::9")), Some(addr("2001:db8:1::1")));
}

#[test]
fn an_address_cannot_be_on_two_interfaces() {
    let error = Network::new(vec![interface(0, &["10.0.0.1/24"]), interface(1, &["10.0.0.1/32"])], &[]);
    assert!(error.unwrap_err().contains("10.0.0.1"));
}
