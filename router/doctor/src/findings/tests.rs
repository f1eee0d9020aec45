//! Each kind of finding, by the facts that make it, and none without.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use uvs_control::event::Event;
use uvs_control::inspect::Server;
use uvs_control::sample::{Answer as Sample, Counters, Destination, Service};
use uvs_control::status::{self, Answer as Status, Drops, FlowCache, Limit, NotAccelerated};

use super::*;
use crate::facts::FirewallDrop;

/// A director by NAT in bridges, with nothing wrong.
fn healthy() -> Facts {
    let destination = |forwarding: &str| Destination {
        name: "192.168.1.10:8080".into(),
        forwarding: forwarding.into(),
        weight: 1,
        counters: Counters { packets_in: 9, packets_out: 8, ..Counters::default() },
        ..Destination::default()
    };
    let service = |name: &str, forwarding: &str| Service {
        name: name.into(),
        available: 1,
        destinations_total: 1,
        destinations: vec![destination(forwarding)],
        ..Service::default()
    };
    let mut facts = Facts::default();
    facts.network.interfaces = vec![Interface {
        name: "uvs0".into(),
        device: "tap".into(),
        addresses: vec!["10.0.0.1/24".into(), "203.0.113.7/32".into(), "2001:db8::1/64".into()],
        mtu: 1500,
        bridge: Some("br0".into()),
        ports: vec!["eth0".into()],
        ..Interface::default()
    }];
    facts.network.servers = vec![Server { address: "192.168.1.10".into(), mac: "02:00:00:02:00:10".into() }];
    facts.host.capabilities = Some(u64::MAX);
    facts.host.mtus = [("uvs0".to_owned(), 1500), ("eth0".to_owned(), 9000)].into();
    facts.host.clock_daemons = Some(vec!["chronyd".into()]);
    facts.host.sysctls = [("net.bridge.bridge-nf-call-iptables", "0"), ("net.ipv4.ip_forward", "0")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    facts.director = Some(Director {
        status: Status {
            interfaces: vec![status::Interface {
                name: "uvs0".into(),
                state: "up".into(),
                ..Default::default()
            }],
            limits: vec![Limit { name: "connections".into(), used: 10, max: 1000, ..Limit::default() }],
            ..Status::default()
        },
        sample: Sample {
            uptime_s: 100.0,
            time: "2026-11-30T22:01:40.000Z".into(),
            services: vec![
                service("tcp 10.0.0.100:80", "nat"),
                service("tcp 203.0.113.7:80", "dr"),
                service("udp [2001:db8::9]:53", "nat"),
                service("fwmark 7", "nat"),
            ],
            ..Sample::default()
        },
        first_event: Some(Event { number: 1, time: "2026-11-30T22:00:01.000Z".into(), ..Event::default() }),
    });
    facts
}

fn director(facts: &mut Facts) -> &mut Director {
    facts.director.as_mut().unwrap()
}

#[test]
fn where_nothing_is_wrong_nothing_is_found() {
    assert_eq!(all(&healthy()), []);
    assert_eq!(all(&Facts::default()), [], "of what was not seen nothing is said");
}

type Case = (&'static str, fn(&mut Facts));

const CASES: [Case; 27] = [
    ("tun", |it| it.host.tun = Some("No such file or directory".into())),
    ("capabilities", |it| it.host.capabilities = Some(0)),
    ("interface", |it| {
        let interface = &mut director(it).status.interfaces[0];
        (interface.state, interface.reasons) = ("degraded".into(), vec!["eth0 has no carrier".into()]);
    }),
    ("director", |it| director(it).status.notices = vec!["its network namespace was deleted".into()]),
    ("two-owners", |it| {
        let mac = "02:00:00:00:00:99".into();
        it.network.conflicts =
            vec![Conflict { address: "10.0.0.100".into(), mac, now: true, ..Conflict::default() }];
    }),
    ("server-answers-arp", |it| {
        let mac = "02:00:00:02:00:10".into();
        it.network.conflicts =
            vec![Conflict { address: "10.0.0.100".into(), mac, now: true, ..Conflict::default() }];
    }),
    ("next-hop", |it| it.network.unresolved = vec!["192.168.1.10 on uvs0".into()]),
    ("one-way", |it| director(it).sample.services[0].destinations[0].counters.packets_out = 0),
    ("hairpin", |it| it.network.hairpins = 3),
    ("vip-nowhere", |it| director(it).sample.services[0].name = "tcp 198.51.100.1:80".into()),
    ("vip-nowhere", |it| director(it).sample.services[2].name = "udp [2001:db8:1::9]:53".into()),
    ("no-destination", |it| director(it).sample.services[0].available = 0),
    ("bridge-netfilter", |it| {
        it.host.sysctls.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into());
    }),
    ("firewall", |it| {
        let what =
            FirewallDrop { family: "bridge".into(), hook: "forward".into(), ..FirewallDrop::default() };
        it.host.drops = vec![what];
    }),
    ("firewall", |it| {
        let device = "eth0".into();
        it.host.drops = vec![FirewallDrop {
            family: "netdev".into(),
            hook: "ingress".into(),
            device,
            ..FirewallDrop::default()
        }];
    }),
    ("firewall-unseen", |it| it.host.firewall_unseen = Some("there is no nft".into())),
    ("ip-forward", |it| {
        (it.network.interfaces[0].device, it.network.interfaces[0].forwarding) = ("tun".into(), true);
    }),
    ("rp-filter", |it| {
        it.network.interfaces[0].device = "tun".into();
        it.host.sysctls.insert("net.ipv4.conf.uvs0.rp_filter".into(), "1".into());
    }),
    ("mtu", |it| {
        it.host.mtus.insert("eth0".into(), 1450);
    }),
    ("tunnel-mtu", |it| {
        director(it).sample.services[0].destinations[0].forwarding = "tun".into();
        director(it).sample.drops = vec![Drops { reason: "fragmentation_needed".into(), frames: 7 }];
    }),
    ("offload", |it| {
        it.host.offloads.insert("eth0".into(), vec!["large-receive-offload".into()]);
    }),
    ("flow-cache", |it| {
        director(it).status.not_accelerated =
            vec![NotAccelerated { interface: "uvs0".into(), why: "no tcx".into() }];
    }),
    ("flow-cache-full", |it| {
        director(it).status.flow_cache = Some(FlowCache { refused: 1, ..FlowCache::default() });
    }),
    ("limit", |it| director(it).status.limits[0].used = 950),
    ("limit", |it| director(it).status.limits[0].refused = 3),
    ("module-cache", |it| it.host.module_cache = Some("/var/cache/uvs is no folder".into())),
    ("clock", |it| it.host.clock_daemons = Some(vec![])),
];

#[test]
fn each_fault_is_found_and_nothing_beside() {
    for (kind, fault) in CASES {
        let mut facts = healthy();
        fault(&mut facts);
        let found = all(&facts);
        let kinds: Vec<_> = found.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [kind]);
        assert!(!found[0].what.is_empty() && !found[0].fix.is_empty(), "{found:?}");
    }
}

#[test]
fn limits_of_the_process_are_told() {
    let mut facts = healthy();
    (facts.host.open_files, facts.host.open_files_max) = (Some(1000), Some(1024));
    facts.host.address_space_max = Some(1 << 30);
    let kinds: Vec<_> = all(&facts).iter().map(|it| it.kind).collect();
    assert_eq!(kinds, ["open-files", "address-space"]);
}

#[test]
fn a_full_table_is_the_worse_for_what_it_costs() {
    let at = |used, made_room, refused| {
        let mut facts = healthy();
        let limit = &mut director(&mut facts).status.limits[0];
        (limit.used, limit.made_room, limit.refused) = (used, made_room, refused);
        let found = all(&facts);
        (found[0].severity, found[0].evidence.join("; "))
    };
    assert_eq!(at(1000, 0, 0), (Severity::Warning, "1000 of 1000".to_owned()));
    let (severity, evidence) = at(1000, 7, 2);
    assert_eq!(severity, Severity::Error);
    assert!(evidence.contains("7 made room") && evidence.contains("2 packets of new ones"), "{evidence}");
    assert_eq!(at(10, 7, 0).0, Severity::Note, "it is over");
}

#[test]
fn a_card_needs_one_capability_more_than_a_veth() {
    let without_net_raw = |take_all: &[&str]| {
        let mut facts = healthy();
        facts.network.interfaces[0].link = Some("eth0".into());
        facts.host.capabilities = Some(1 << NET_ADMIN | 1 << BPF);
        facts.host.take_all = take_all.iter().map(|name| (*name).to_owned()).collect();
        all(&facts).into_iter().map(|it| it.what).collect::<Vec<_>>()
    };
    assert_eq!(without_net_raw(&["eth0"]), [""; 0]);
    assert_eq!(without_net_raw(&["eth1"]), ["whoever runs this lacks CAP_NET_RAW"]);
}

#[test]
fn a_clock_that_was_set_is_noticed_and_a_slow_start_is_none() {
    let at = |time: &str| {
        let mut facts = healthy();
        director(&mut facts).first_event.as_mut().unwrap().time = format!("2026-11-30T{time}.000Z");
        all(&facts).iter().map(|it| it.kind).collect::<Vec<_>>()
    };
    assert_eq!(at("22:00:30"), [""; 0], "it took 30 s until it was ready");
    assert_eq!(at("21:00:01"), ["clock-step"], "an hour forward");
    assert_eq!(at("22:59:00"), ["clock-step"], "an hour back");
}

#[test]
fn what_was_claimed_long_ago_and_is_not_now_is_no_fault() {
    let mut facts = healthy();
    facts.network.conflicts =
        vec![Conflict { address: "10.0.0.100".into(), count: 7, ..Conflict::default() }];
    assert_eq!(all(&facts), []);
}

#[test]
fn firewalls_elsewhere_are_not_in_the_way() {
    let mut facts = healthy();
    let drop = |family: &str, hook: &str, device: &str| FirewallDrop {
        family: family.into(),
        hook: hook.into(),
        device: device.into(),
        ..FirewallDrop::default()
    };
    facts.host.drops =
        vec![drop("inet", "input", ""), drop("inet", "forward", ""), drop("netdev", "ingress", "wlan0")];
    assert_eq!(all(&facts), []);
    facts.network.interfaces[0].device = "tun".into();
    assert_eq!(all(&facts).iter().map(|it| it.kind).collect::<Vec<_>>(), ["firewall"]);
}

#[test]
fn the_worst_comes_first() {
    let mut facts = healthy();
    facts.host.clock_daemons = Some(vec![]);
    facts.network.hairpins = 1;
    facts.host.tun = Some("gone".into());
    let text = crate::text(&all(&facts));
    let heads: Vec<_> =
        text.lines().filter(|line| !line.starts_with(' ')).map(|it| it.split(':').next().unwrap()).collect();
    assert_eq!(heads, ["error", "warning", "note"]);
}

#[test]
fn a_station_with_many_addresses_of_ours_is_one_finding() {
    let mut facts = healthy();
    let conflict = |n: u8, mac: &str| Conflict {
        address: format!("10.0.0.{n}"),
        mac: mac.into(),
        now: true,
        ..Conflict::default()
    };
    facts.network.conflicts = (100..160).map(|n| conflict(n, "02:00:00:02:00:10")).collect();
    facts.network.conflicts.push(conflict(7, "02:00:00:00:00:99"));
    let found = all(&facts);
    assert_eq!(found.len(), 2, "{found:#?}");
    let many = "real server 192.168.1.10 answers ARP for 10.0.0.100, 10.0.0.101, 10.0.0.102, 10.0.0.103, 10.0.0.104, \
                and 55 more, which are the director's";
    assert_eq!(found[0].what, many);
    assert_eq!(found[1].what, "another station has 10.0.0.7, an address of the director's");
}
