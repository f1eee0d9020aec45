//! Virtual routers: what a file comes to, and what is said of mistakes.

use core::net::IpAddr;

use uvs_config::{Config, TrackedWhat};
use uvs_director::spec::{Change, Prefix};
use uvs_director::{Duration, PortId};
use uvs_ha::plan::TrackPlan;
use uvs_ha::wire::{ChecksumForm, Interval, Version};

fn text(vrrp: &str) -> String {
    format!(
        "[[interface]]
name = 'uvs0'
device = 'tap'
mac = '02:00:5e:00:00:01'
addresses = ['10.8.0.1/16', '192.0.2.2/24', '2001:db8::2/64']
[[interface]]
name = 'uvs1'
device = 'tap'
addresses = ['10.0.0.2/24']
[[interface]]
name = 'tun0'
device = 'tun'
addresses = ['172.16.0.2/30']
[[check]]
name = 'web'
type = 'tcp'
{vrrp}
[[service]]
protocol = 'tcp'
address = '192.0.2.10:80'
forward = 'dr'
checks = ['web']
health = {{ via = 'service' }}
destination = [{{ address = '192.0.2.21' }}]
[[service]]
protocol = 'udp'
address = '192.0.2.10:53'
forward = 'dr'
destination = [{{ address = '192.0.2.21' }}]
"
    )
}

fn router(keys: &str) -> String {
    let usual = [("name", "'web'"), ("interface", "'uvs0'"), ("vrid", "51"), ("addresses", "['192.0.2.10']")];
    let has = |key: &str| keys.lines().any(|line| line.starts_with(&format!("{key} =")));
    let usual = usual.iter().filter(|(key, _)| !has(key)).map(|(key, value)| format!("{key} = {value}\n"));
    format!("[[vrrp]]\n{}{keys}\n", usual.collect::<String>())
}

fn parse(text: &str) -> Config {
    Config::parse(text, "edge.toml").unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn defaults_are_those_of_the_field_but_for_preemption() {
    let config = parse(&text(&router("")));
    assert_eq!(config.warnings, []);
    let [plan] = &config.vrrp.plan.routers[..] else { panic!("{:?}", config.vrrp) };
    assert_eq!((&*plan.name, &*plan.interface, plan.vrid, plan.priority), ("web", "uvs0", 51, 100));
    assert_eq!((plan.version, plan.interval, plan.preempt), (Version::V3, Interval::DEFAULT, false));
    assert_eq!((plan.source, plan.checksum), (ip("192.0.2.2"), ChecksumForm::Rfc5798), "of the VIP's subnet");
    assert_eq!((plan.ttl_min, plan.peers.len(), plan.password), (255, 0, None));
    assert_eq!(plan.track, [TrackPlan::fault("interface uvs0")], "its own link");
    let announce = plan.announce;
    assert_eq!((announce.repeat, announce.refresh), (5, Duration::from_secs(60)));
    assert!(parse(&text("")).vrrp.plan.routers.is_empty());
}

#[test]
fn virtual_addresses_are_given_to_interfaces_like_vips() {
    let keys = "excluded_addresses = ['10.0.0.254', '203.0.113.7']\naddresses = ['192.0.2.10', '192.0.2.11']";
    let config = parse(&text(&router(keys)));
    let has = |port: usize, addr: &str| {
        config.interfaces[port].spec.addresses.contains(&Prefix::host(ip(addr)))
            && !config.interfaces[port].own.contains(&Prefix::host(ip(addr)))
    };
    assert!(has(0, "192.0.2.10") && has(0, "192.0.2.11"));
    assert!(has(1, "10.0.0.254"), "in whose subnet it lies");
    assert!(has(0, "203.0.113.7"), "in none: that of the virtual router");
    assert_eq!(config.vrrp.addresses.len(), 4);
    assert!(config.vrrp.addresses.iter().all(|(_, port)| *port == PortId(0)));
    // Whatever services there are, as `uvs adm` has it.
    let without = config.interfaces_for([]);
    assert!(without[0].addresses.contains(&Prefix::host(ip("192.0.2.11"))));
    let before = parse(&text(&router("")));
    let changes = Config::diff(Some(&before), &config);
    assert!(matches!(changes[..], [Change::SetAddresses(_)]), "{changes:?}");
    // The VIP of a service may be in no subnet, if it is a virtual address.
    let vip = text(&router("addresses = ['203.0.113.7']")).replace("'192.0.2.10:", "'203.0.113.7:");
    assert_eq!(parse(&vip).warnings, []);
}

#[test]
fn over_ipv6_it_speaks_from_its_link_local_address() {
    let keys = "addresses = ['fe80::100', '2001:db8::100']";
    let source = |keys: &str| parse(&text(&router(keys))).vrrp.plan.routers[0].source;
    assert_eq!(source(keys), ip("fe80::5eff:fe00:1"));
    assert_eq!(source(&format!("{keys}\npeers = ['2001:db8::3']")), ip("2001:db8::2"));
    assert_eq!(source(&format!("{keys}\npeers = ['fe80::3']")), ip("fe80::5eff:fe00:1"));
    assert_eq!(source("source = '10.8.0.1'"), ip("10.8.0.1"));
}

#[test]
fn priorities_follow_interfaces_services_and_scripts() {
    let keys = "group = 'all'\ntrack_primary = false\n\
        track = [{ service = 'tcp/192.0.2.10:80', weight = -20 }, { interface = 'uvs1' }, \
        { script = 'disk', weight = 10, reverse = true }]";
    let script =
        "[[vrrp_script]]\nname = 'disk'\ncommand = ['/bin/true']\ninterval = 2\nrise = 2\ninit_fail = true\n";
    let other = "name = 'inside'\nvrid = 52\naddresses = ['10.0.0.254']\ninterface = 'uvs1'\ngroup = 'all'";
    let config = parse(&text(&format!("{}{script}{}", router(keys), router(other))));
    let plan = &config.vrrp.plan;
    let names: Vec<&str> = plan.routers[0].track.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["interface uvs1", "script disk", "service tcp 192.0.2.10:80"]);
    let [_, script, service] = &plan.routers[0].track[..] else { panic!("{names:?}") };
    assert_eq!((script.weight, script.reverse, script.presumed_up), (10, true, false));
    assert_eq!((service.weight, service.presumed_up), (-20, false), "until its checks have said something");
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(plan.groups[0].members.iter().map(|it| &**it).collect::<Vec<_>>(), ["web", "inside"]);
    let what: Vec<_> = config.vrrp.tracked.iter().map(|it| (&*it.name, &it.what)).collect();
    assert!(what.contains(&("interface uvs1", &TrackedWhat::Interface(PortId(1)))), "{what:?}");
    assert!(what.contains(&("script disk", &TrackedWhat::Script("disk".into()))), "{what:?}");
    let disk = &config.vrrp.scripts[0];
    assert_eq!((disk.interval, disk.timeout, disk.rise), (Duration::from_secs(2), Duration::from_secs(2), 2));
}

#[test]
fn what_can_hardly_be_meant_is_told() {
    let lonely = parse(&text(&router("addresses = ['192.0.2.11']"))).warnings;
    assert_eq!(lonely.len(), 1, "once for both services: {lonely:?}");
    assert!(lonely[0].to_string().contains("VIP 192.0.2.10 is in no [[vrrp]]"), "{lonely:?}");
    let delay = parse(&text(&router("preempt_delay = 5"))).warnings;
    assert!(delay[0].to_string().contains("it never preempts"), "{delay:?}");
}

#[test]
fn mistakes_are_told_with_their_fix() {
    let of = |keys: &str| text(&router(keys));
    let script = |keys: &str| text(&format!("[[vrrp_script]]\n{keys}\n"));
    let cases = [
        (
            text("[[vrrp]]\nname = 'web'\ninterface = 'uvs0'\nvrid = 1"),
            "vrrp web has no addresses",
            "192.0.2.10",
        ),
        (text("[[vrrp]]\nname = 'web'\ninterface = 'uvs0'"), "vrrp web has no vrid", "add vrid = 51"),
        (text("[[vrrp]]\nvrid = 1"), "vrrp 1 has no name", ""),
        (of("name = 'a b'"), "vrrp name \"a b\" is not one", "letters"),
        (of("interface = 'uvs9'"), "unknown interface \"uvs9\"", "did you mean"),
        (of("interface = 'tun0'"), "tun0 is a TUN device", "device = \"tap\""),
        (of("vrid = 256"), "VRID 256 is out of range", "use 1 to 255"),
        (of("priority = 0"), "priority 0 is out of range", "use 1 to 255"),
        (of("addresses = ['192.0.2.10/24']"), "has a prefix length", ""),
        (of("addresses = ['192.0.2.2']"), "is an address of interface uvs0 itself", "remove it"),
        (of("addresses = ['192.0.2.255']"), "is the broadcast address of 192.0.2.2/24", "another address"),
        (of("addresses = ['224.0.0.1']"), "a multicast address", ""),
        (of("addresses = []"), "vrrp web: 0 addresses cannot be advertised", "give 1 to 255"),
        (of("excluded_addresses = ['192.0.2.10']"), "192.0.2.10 is given twice", "remove it or the one"),
        (
            of("addresses = ['2001:db8::10', '192.0.2.10']"),
            "vrrp web: 192.0.2.10 is not IPv6",
            "unadvertised",
        ),
        (of("interface = 'uvs1'\naddresses = ['2001:db8::10']"), "uvs1 has no IPv6 address", "add one"),
        (of("version = 4"), "VRRP version 4 is out of range", "use 2 to 3"),
        (of("version = 2\nadvert_int = '500ms'"), "vrrp web: an interval of 500ms", "whole seconds"),
        (
            of("version = 2\naddresses = ['2001:db8::10']"),
            "vrrp web: version 2 knows no IPv6",
            "use version 3",
        ),
        (of("advert_int = '15ms'"), "is not in whole hundredths", "100ms"),
        (of("advert_int = '41s'"), "vrrp web: an interval of 41s", "40.95"),
        (of("password = 'secret'"), "vrrp web: version 3 has no passwords", "leave it out"),
        (of("version = 2\npassword = 'much too long'"), "1 to 8 ASCII characters", ""),
        (of("peers = ['192.0.2.2']"), "vrrp web: 192.0.2.2 is no peer", "other nodes"),
        (of("min_ttl = 254"), "vrrp web: a lowest TTL is for unicast peers", "255"),
        (of("source = '192.0.2.9'"), "source 192.0.2.9 is no address of interface uvs0", ""),
        (of("addresses = ['2001:db8::9']\nsource = '2001:db8::2'"), "is not link-local", "link-local"),
        (of("checksum = 'crc'"), "unknown checksum \"crc\"", "rfc5798"),
        (of("preempt_delay = 2000"), "preempt_delay \"2000s\" is out of range", ""),
        (of("garp_master_repeat = 0"), "is out of range", "use 1 to 255"),
        (of("track = [{ weight = 3 }]"), "it follows one thing", "write track ="),
        (of("track = [{ interface = 'uvs1', script = 'x' }]"), "it follows one thing", ""),
        (of("track = [{ script = 'x' }]"), "there is no script \"x\"", "add a [[vrrp_script]]"),
        (of("track = [{ service = 'tcp/192.0.2.10:81' }]"), "perhaps \"tcp 192.0.2.10:80\"", ""),
        (of("track = [{ service = 'udp/192.0.2.10:53' }]"), "has no checks", "add checks"),
        (
            of("track = [{ interface = 'uvs1', weight = 254 }]"),
            "weight 254 is out of range",
            "use -253 to 253",
        ),
        (of("track = [{ interface = 'uvs1', wait = 1 }]"), "unknown key \"wait\"", ""),
        (
            text(&format!("{}{}", router(""), router("name = 'two'\naddresses = ['192.0.2.11']"))),
            "vrrp two: web has VRID 51 over IPv4 on uvs0, too",
            "use another VRID",
        ),
        (
            text(&format!("{}{}", router(""), router("vrid = 52\naddresses = ['192.0.2.11']"))),
            "a second vrrp \"web\"",
            "rename it",
        ),
        (
            text(&format!(
                "{}{}",
                router("group = 'g'"),
                router("name = 'two'\nvrid = 52\naddresses = ['192.0.2.11']\ngroup = 'g'\npriority = 90")
            )),
            "vrrp g: two has another priority",
            "give all the same",
        ),
        (of("group = 'web'"), "web is the name of a group and of a virtual router", "another name"),
        (script("command = ['/bin/true']"), "vrrp_script 1 has no name", ""),
        (script("name = 'x'\ncommand = ['true']"), "is not an absolute path", ""),
        (script("name = 'x'\ncommand = ['/bin/true']\ninterval = '10ms'"), "interval \"10ms\" is out", ""),
        (script("name = 'x'\ncommand = ['/bin/true']\nrise = 0"), "rise 0 is out of range", "in a row"),
    ];
    let mut untold = Vec::new();
    for (text, what, fix) in cases {
        let problems = Config::parse(&text, "edge.toml").expect_err(what).to_string();
        if !(problems.contains(what) && problems.contains(fix)) {
            untold.push(format!("{what}, {fix}: {problems}"));
        }
    }
    assert!(untold.is_empty(), "{}", untold.join("\n"));
}
