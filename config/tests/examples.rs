//! The files under `config/examples` load, and say what their comments promise.

use std::path::{Path, PathBuf};

use uvs_config::{Config, Interface};
use uvs_director::PortId;
use uvs_director::spec::{Forwarding, Link, MacAddr, Options, Timeouts, Tunnel};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn load(name: &str) -> Config {
    let config = Config::load(example(name)).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
    assert_eq!(config.warnings, [], "{name} is without warnings");
    config
}

fn forwardings(config: &Config) -> Vec<Forwarding> {
    config.services.iter().flat_map(|service| &service.destinations).map(|spec| spec.forwarding).collect()
}

#[test]
fn every_example_loads() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(example("")).expect("the folder is there") {
        let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
        load(&name);
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        [
            "dr.toml",
            "full.toml",
            "ipv6.toml",
            "nat-on-tun-device.toml",
            "nat.toml",
            "tun.toml",
            "two-directors.toml"
        ]
    );
}

#[test]
fn every_example_means_the_same_when_it_is_exported() {
    for entry in std::fs::read_dir(example("")).expect("the folder is there") {
        let path = entry.expect("readable").path();
        let config = load(path.file_name().unwrap().to_str().unwrap());
        let text = config.to_toml(&config);
        let again = Config::parse(&text, &path).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let changes = Config::diff(Some(&config), &again);
        assert!(changes.is_empty(), "{}: {changes:?}\n{text}", path.display());
    }
}

#[test]
fn what_has_no_example_is_exported_as_well() {
    let tunnels = [
        "",
        "tunnel = { type = \"gue\", port = 6080, checksum = \"remote\" }\n",
        "tunnel = { type = \"gre\" }\n",
    ];
    let services = [
        "protocol = \"udp\"\naddress = \"192.0.2.10:53\"\none_packet = true\n",
        "protocol = \"tcp\"\naddress = \"192.0.2.11:0\"\npersistent = 300\nnetmask = 24\n",
        "mark = 7\nfamily = \"ipv6\"\npersistent = 300\nnetmask = 64\n",
    ];
    let mut text = "[[interface]]\nname = \"uvs0\"\ndevice = \"tap\"\naddresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"]\n\
                    [[mark]]\nmark = 7\nprotocol = \"tcp\"\n"
        .to_owned();
    for (service, tunnel) in services.iter().zip(tunnels) {
        text.push_str(&format!(
            "[[service]]\n{service}scheduler = \"wrr\"\nforward = \"tun\"\n{tunnel}[[service.destination]]\n\
             address = \"192.0.2.21\"\nweight = 0\nupper_threshold = 9\nlower_threshold = 4\n"
        ));
    }
    let config = Config::parse(&text, "edge.toml").unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let text = config.to_toml(&config);
    let again = Config::parse(&text, "edge.toml").unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(Config::diff(Some(&config), &again), [], "{text}");
}

#[test]
fn nat_maps_ports_and_keeps_them_where_none_is_given() {
    let config = load("nat.toml");
    assert!(forwardings(&config).iter().all(|forwarding| *forwarding == Forwarding::Nat));
    let destinations = |index: usize| -> Vec<String> {
        config.services[index]
            .destinations
            .iter()
            .map(|spec| format!("{} weight {}", spec.addr, spec.weight))
            .collect()
    };
    assert_eq!(destinations(0), ["192.168.20.11:8080 weight 2", "192.168.20.12:8080 weight 1"]);
    assert_eq!(destinations(1), ["192.168.20.11:53 weight 1", "192.168.20.12:53 weight 1"]);
    assert_eq!(config.services[1].spec.key.to_string(), "udp 192.168.10.100:53");
    let ports: Vec<_> = config.interfaces.iter().map(|it| (it.spec.name.as_str(), it.spec.port)).collect();
    assert_eq!(ports, [("uvs0", PortId(0)), ("uvs1", PortId(1))], "ports follow the file");
    assert_eq!(config.routes[0].port, PortId(0), "the gateway's subnet says which interface");
    let bridge = config.interfaces[1].bridge.as_ref().expect("uvs1 has a bridge");
    assert_eq!((bridge.name.as_str(), &bridge.ports[..]), ("br1", &["eth1".to_owned()][..]));
}

#[test]
fn derived_macs_are_stable_unicast_local_and_differ_by_name() {
    let macs = |config: &Config| -> Vec<MacAddr> {
        let mac = |interface: &Interface| match interface.spec.link {
            Link::Ethernet(mac) => mac,
            Link::Ip => panic!("{} is a TAP", interface.spec.name),
        };
        config.interfaces.iter().map(mac).collect()
    };
    let first = macs(&load("nat.toml"));
    assert_eq!(first, macs(&load("nat.toml")), "the same after a restart");
    assert_ne!(first[0], first[1]);
    for mac in first {
        assert!(!mac.is_multicast() && mac.0[0] & 2 == 2, "{mac} is unicast and locally administered");
    }
}

#[test]
fn ipv6_balances_by_every_method_and_tunnels_across_families() {
    let config = load("ipv6.toml");
    let said: Vec<String> = config
        .services
        .iter()
        .flat_map(|service| {
            let key = service.spec.key;
            service
                .destinations
                .iter()
                .map(move |spec| format!("{key} -> {} {:?}", spec.addr, spec.forwarding))
        })
        .collect();
    assert_eq!(
        said,
        [
            "tcp [2001:db8:10::100]:80 -> [2001:db8:20::11]:8080 Nat",
            "tcp [2001:db8:10::100]:80 -> [2001:db8:20::12]:8080 Nat",
            "tcp [2001:db8:10::100]:443 -> [2001:db8:20::11]:443 Direct",
            "tcp [2001:db8:10::100]:443 -> [2001:db8:20::12]:443 Direct",
            "udp [2001:db8:10::100]:53 -> 192.168.20.13:53 Tunnel(Ipip)",
        ]
    );
    let route = config.routes[0];
    assert_eq!((route.via, route.port), (Some("fe80::fe".parse().unwrap()), PortId(0)));
    let addresses: Vec<String> =
        config.interfaces[0].spec.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["2001:db8:10::1/64", "2001:db8:10::100/128"], "the VIP is the director's");
}

#[test]
fn dr_takes_the_ports_of_the_service_and_quiesces_with_weight_0() {
    let config = load("dr.toml");
    assert_eq!(forwardings(&config), [Forwarding::Direct; 3]);
    let last = config.services[0].destinations[2];
    assert_eq!((last.addr.to_string().as_str(), last.weight), ("192.168.10.13:80", 0));
}

#[test]
fn tun_reaches_destinations_behind_the_router() {
    let config = load("tun.toml");
    assert_eq!(forwardings(&config), [Forwarding::Tunnel(Tunnel::Ipip); 2]);
    assert_eq!(config.routes[0].via, Some("192.168.10.254".parse().expect("an address")));
}

#[test]
fn nat_on_a_tun_device_has_its_side_in_the_kernel() {
    let config = load("nat-on-tun-device.toml");
    let interface = &config.interfaces[0];
    assert_eq!(interface.spec.link, Link::Ip);
    let host = interface.host.as_ref().expect("a host side");
    assert_eq!(host.addresses, ["10.255.0.1/30".parse().expect("a prefix")]);
    assert_eq!(host.routes, ["10.0.0.100/32".parse().expect("a prefix")]);
    assert_eq!(host.replies_from, ["eth1"]);
    assert!(host.forwarding);
}

#[test]
fn one_of_two_directors_does_not_balance_what_the_other_has_balanced() {
    let config = load("two-directors.toml");
    let [rule] = config.marks[..] else { panic!("one rule: {:?}", config.marks) };
    let other = "02:00:00:00:0a:02".parse::<MacAddr>().ok();
    assert_eq!((rule.source_mac, rule.not_source_mac), (other, true));
    assert_eq!(config.services[0].spec.key.to_string(), "fwmark 1");
    assert_eq!(forwardings(&config), [Forwarding::Direct; 2]);
    let vip = rule.destination.expect("the VIP");
    let owned = |interface: &Interface| interface.spec.addresses.iter().any(|own| own.addr() == vip.addr());
    assert!(!config.interfaces.iter().any(owned), "{vip} is routed");
    assert!(
        config
            .routes
            .iter()
            .any(|route| route.to == vip && route.via == Some(config.services[0].destinations[0].addr.ip()))
    );
}

#[test]
fn full_writes_out_the_defaults_and_resolves_its_module() {
    let config = load("full.toml");
    assert_eq!(config.metrics, Some("127.0.0.1:9100".parse().expect("an address")));
    assert_eq!(config.http.listen, Some("127.0.0.1:9180".parse().expect("an address")));
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.options, Options { expire_quiescent_template: true, ..Options::default() });
    assert_eq!(config.limits, uvs_director::spec::Limits::default());
    let service = &config.services[1];
    assert_eq!(service.spec.scheduler.name, "mine");
    let module = service.module.as_ref().expect("a module");
    assert!(module.path.is_absolute() && module.path.is_file(), "{}", module.path.display());
    assert_eq!(module.fallback, "wlc");
    assert_eq!(forwardings(&config)[..2], [Forwarding::Nat, Forwarding::Direct], "own, then the service's");
    let keys: Vec<String> = config.services.iter().map(|service| service.spec.key.to_string()).collect();
    assert_eq!(
        keys,
        ["tcp 192.168.10.100:80", "udp 10.0.0.100:53", "sctp 10.0.0.100:0", "tcp 10.0.0.100:80", "fwmark 7"]
    );
    assert_eq!(service.location.context, "service udp 10.0.0.100:53");
}
