//! The host around the devices: made as planned, and left as it was.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};

use uvs_device::Device;
use uvs_device::host::{Bridge, Finding, HostPlan, HostState, LocalNode, Outcome, RepliesFrom};
use uvs_device::net::{Cause, LinkState, Namespace, Net, RouteState, read_sysctl, sysctl};
use uvs_director::Frame;
use uvs_director::spec::{Family, Prefix};

use crate::harness::{MAC, ends_with, ethernet, isolated, queue, receive, tap, tun, udp};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Everything of a namespace that a plan may touch.
#[derive(Debug, PartialEq)]
struct Snapshot {
    links: Vec<LinkState>,
    addresses: Vec<(u32, Prefix)>,
    routes: Vec<RouteState>,
    rules: Vec<String>,
    sysctls: BTreeMap<String, String>,
}

async fn snapshot(net: &Net) -> Snapshot {
    let mut sysctls = BTreeMap::new();
    let mut note = |path: String| sysctls.insert(path.clone(), read_sysctl(&path).unwrap());
    note("net/ipv4/ip_forward".into());
    for entry in std::fs::read_dir("/proc/sys/net/ipv4/conf").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let settings = [
            "forwarding",
            "rp_filter",
            "send_redirects",
            "accept_redirects",
            "secure_redirects",
            "accept_local",
        ];
        for setting in settings {
            note(format!("net/ipv4/conf/{name}/{setting}"));
        }
        for setting in ["forwarding", "accept_ra"] {
            note(format!("net/ipv6/conf/{name}/{setting}"));
        }
    }
    let (mut addresses, mut routes) = (net.addresses().await.unwrap(), net.routes().await.unwrap());
    addresses.sort();
    routes.sort();
    let mut rules = Vec::new();
    for family in [Family::V4, Family::V6] {
        rules.extend(net.rules(family).await.unwrap().iter().map(|rule| format!("{rule:?}")));
    }
    Snapshot { links: net.links().await.unwrap(), addresses, routes, rules, sysctls }
}

/// A host with a link `wan` in bridge `old`, a link `lan` in none, both up, an empty bridge `spare`, and
/// settings as distributions have them.
async fn furnish(net: &Net) {
    for path in ["net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"] {
        // Link-local addresses would come and go in their own time.
        sysctl(path, "1").unwrap();
    }
    for (name, value) in [("all", "2"), ("default", "1")] {
        sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), value).unwrap();
    }
    net.bridge("old").await.unwrap();
    net.bridge("spare").await.unwrap();
    for (name, peer) in [("wan", "wan-peer"), ("lan", "lan-peer"), ("other", "other-peer")] {
        net.veth(name, peer, Namespace::Here).await.unwrap();
        net.set_up(name).await.unwrap();
        net.set_up(peer).await.unwrap();
    }
    net.set_master("wan", "old").await.unwrap();
    net.add_address("lan", "10.2.0.1/24".parse().unwrap()).await.unwrap();
    sysctl("net/ipv4/conf/other/rp_filter", "1").unwrap();
    sysctl("net/ipv4/conf/other/send_redirects", "0").unwrap();
    sysctl("net/ipv4/conf/lan/forwarding", "1").unwrap();
}

fn replies(link: &str, device: &str) -> RepliesFrom {
    RepliesFrom { link: link.into(), device: device.into(), family: Family::V4 }
}

/// A plan that uses everything there is.
fn full_plan() -> HostPlan {
    HostPlan {
        bridges: vec![
            Bridge { name: "new".into(), ports: vec!["wan".into()], taps: vec!["tap0".into()] },
            Bridge { name: "spare".into(), ports: vec!["wan-peer".into()], taps: vec![] },
        ],
        up: vec!["old".into(), "lan".into()],
        addresses: vec![
            ("new".into(), "10.3.0.1/24".parse().unwrap()),
            ("lan".into(), "10.2.0.1/24".parse().unwrap()),
        ],
        routes: vec![(Prefix::host(VIP.into()), "tun0".into())],
        replies_from: vec![replies("lan", "tun0"), replies("new", "tun0")],
        local_nodes: vec![LocalNode {
            device: "tun0".into(),
            addresses: vec!["10.4.0.1".parse().unwrap()],
            servers: true,
            clients: true,
            replies_from: vec!["lan".into()],
        }],
        forwarding: vec!["lan".into(), "new".into(), "tun0".into()],
    }
}

#[test]
fn a_plan_is_carried_out_and_undone_to_the_last_setting() {
    isolated(async |net| {
        furnish(&net).await;
        let _devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        let before = snapshot(&net).await;
        for round in 0..2 {
            let state = HostState::apply(&full_plan()).await.unwrap();
            let bridge = net.link("new").await.unwrap();
            assert!(bridge.is_bridge && bridge.up);
            assert!(net.link("old").await.unwrap().up, "it was down");
            for port in ["wan", "tap0"] {
                assert_eq!(net.link(port).await.unwrap().master, Some(bridge.index), "{port}");
            }
            assert!(net.addresses().await.unwrap().contains(&(bridge.index, "10.3.0.1/24".parse().unwrap())));
            assert_eq!(read_sysctl("net/ipv4/ip_forward").unwrap(), "1");
            let rules = net.rules(Family::V4).await.unwrap();
            assert_eq!(rules.len(), 3 + 2 + 3, "{rules:?}");
            assert_ne!(snapshot(&net).await, before);

            if round == 0 {
                state.undo().await.unwrap();
            } else {
                drop(state);
            }
            assert_eq!(snapshot(&net).await, before, "round {round}");
        }
        let lan = net.link_index("lan").await.unwrap();
        let address = (lan, "10.2.0.1/24".parse().unwrap());
        assert!(net.addresses().await.unwrap().contains(&address), "it was there before us");
    });
}

#[test]
fn a_plan_that_fails_midway_leaves_the_host_as_it_was() {
    isolated(async |net| {
        furnish(&net).await;
        let _devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        net.add_route("198.51.100.0/24".parse().unwrap(), None, Some("lan")).await.unwrap();
        let before = snapshot(&net).await;
        type Spoil = fn(&mut HostPlan);
        let cases: [(Spoil, &str); 14] = [
            (|p| p.up.push("eth9".into()), "there is no link eth9"),
            (|p| p.bridges[0].ports.push("eth9".into()), "plug eth9 into bridge new: there is no link eth9"),
            (|p| p.bridges[1].name = "lan".into(), "the link lan exists and is not a bridge"),
            (|p| p.bridges[1].ports.push("old".into()), "plug old into bridge spare: the link old cannot"),
            (|p| p.bridges[0].taps.push("tun0".into()), "the link tun0 cannot be the port of a bridge"),
            (|p| p.bridges[0].ports.push("lo".into()), "the link lo cannot be the port of a bridge"),
            (
                |p| p.addresses.push(("eth9".into(), Prefix::host(VIP.into()))),
                "to eth9: there is no link eth9",
            ),
            (
                |p| p.routes.push((Prefix::host(VIP.into()), "tun9".into())),
                "out of tun9: there is no link tun9",
            ),
            (
                |p| p.routes.push(("198.51.100.0/24".parse().unwrap(), "tun0".into())),
                "add the route to 198.51.100.0/24 out of tun0: File exists",
            ),
            (|p| p.forwarding.push("eth9".into()), "route to and from eth9: there is no link eth9"),
            (|p| p.replies_from.push(replies("eth9", "tun0")), "from eth9 into tun0: there is no link eth9"),
            (
                |p| p.local_nodes[0].replies_from.push("eth9".into()),
                "steer replies to clients on the host into tun0: there is no link eth9",
            ),
            (|p| p.local_nodes[0].device = "tun9".into(), "own addresses into tun9: there is no link tun9"),
            (|p| p.replies_from.push(replies("lan", "tun9")), "from lan into tun9: there is no link tun9"),
        ];
        for (spoil, want) in cases {
            let mut plan = full_plan();
            spoil(&mut plan);
            let error = HostState::apply(&plan).await.expect_err(want);
            let text = error.to_string();
            assert!(text.contains(want) && text.contains("fix:"), "{want:?} is not in: {text}");
            assert!(error.left.is_empty(), "{text}");
            assert_eq!(snapshot(&net).await, before, "after: {text}");
        }
    });
}

#[test]
fn links_that_vanish_under_a_plan_do_not_spoil_undoing_it() {
    isolated(async |net| {
        furnish(&net).await;
        let before = snapshot(&net).await;
        let devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        let state = HostState::apply(&full_plan()).await.unwrap();
        drop(devices);
        net.delete_link("new").await.unwrap();
        state.undo().await.unwrap();
        assert_eq!(snapshot(&net).await, before);

        let _devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        let state = HostState::apply(&full_plan()).await.unwrap();
        net.delete_link("old").await.unwrap();
        state.undo().await.unwrap();
        let wan = net.link("wan").await.unwrap();
        assert_eq!(wan.master, None, "the bridge it came from is gone, and ours does not keep it");
        let gone = net.link("new").await.expect_err("it was ours");
        assert!(matches!(gone.cause(), Cause::NoLink(_)), "{gone}");
    });
}

#[test]
fn a_link_that_was_moved_twice_goes_back_to_where_it_was_first() {
    isolated(async |net| {
        furnish(&net).await;
        let before = snapshot(&net).await;
        let bridge = |name: &str| Bridge { name: name.into(), ports: vec!["wan".into()], taps: vec![] };
        let plan = HostPlan { bridges: vec![bridge("new"), bridge("spare")], ..HostPlan::default() };
        let state = HostState::apply(&plan).await.unwrap();
        assert_eq!(net.link("wan").await.unwrap().master, Some(net.link_index("spare").await.unwrap()));
        state.undo().await.unwrap();
        assert_eq!(snapshot(&net).await, before);
    });
}

#[test]
fn links_outside_the_plan_keep_their_filter() {
    isolated(async |net| {
        furnish(&net).await;
        let _device = Device::open(&tun("tun0")).unwrap();
        let plan = HostPlan { forwarding: vec!["lan".into(), "tun0".into()], ..HostPlan::default() };
        let state = HostState::apply(&plan).await.unwrap();
        let value = |name: &str, setting: &str| {
            let read = |name| read_sysctl(&format!("net/ipv4/conf/{name}/{setting}")).unwrap();
            read(name).parse::<u32>().unwrap().max(read("all").parse().unwrap())
        };
        for name in ["lan", "tun0"] {
            assert_eq!((value(name, "rp_filter"), value(name, "send_redirects")), (0, 0), "{name}");
        }
        // "all" had been 2 and 1.
        assert_eq!((value("other", "rp_filter"), value("other", "send_redirects")), (2, 1));
        net.veth("late", "late-peer", Namespace::Here).await.unwrap();
        assert_eq!(
            (value("late", "rp_filter"), value("late", "send_redirects")),
            (2, 1),
            "a link made later"
        );
        state.undo().await.unwrap();
    });
}

#[test]
fn ipv6_is_forwarded_and_router_advertisements_are_still_taken() {
    isolated(async |net| {
        furnish(&net).await;
        sysctl("net/ipv6/conf/default/disable_ipv6", "0").unwrap();
        let _device = Device::open(&tun("tun0")).unwrap();
        for (name, value) in [("lan", "1"), ("other", "1"), ("wan", "0")] {
            sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), value).unwrap();
        }
        let before = snapshot(&net).await.sysctls;
        let value =
            |name: &str, setting: &str| read_sysctl(&format!("net/ipv6/conf/{name}/{setting}")).unwrap();
        let mut plan = HostPlan { forwarding: vec!["lan".into(), "tun0".into()], ..HostPlan::default() };
        let state = HostState::apply(&plan).await.unwrap();
        assert_eq!(value("all", "forwarding"), "0", "nothing in the plan is IPv6");
        state.undo().await.unwrap();

        plan.replies_from = vec![RepliesFrom { family: Family::V6, ..replies("lan", "tun0") }];
        let state = HostState::apply(&plan).await.unwrap();
        for name in ["all", "lan", "tun0"] {
            assert_eq!(value(name, "forwarding"), "1", "{name}");
        }
        assert_eq!(["lan", "other", "wan"].map(|name| value(name, "accept_ra")), ["2", "2", "0"]);
        state.undo().await.unwrap();
        assert_eq!(snapshot(&net).await.sysctls, before);
    });
}

#[test]
fn two_directors_on_one_host_use_tables_of_their_own() {
    isolated(async |net| {
        furnish(&net).await;
        let _devices = (Device::open(&tun("tun0")).unwrap(), Device::open(&tun("tun1")).unwrap());
        let before = snapshot(&net).await;
        let plan = |device: &str| HostPlan {
            replies_from: vec![replies("lan", device), replies("wan", device)],
            local_nodes: vec![LocalNode {
                device: device.into(),
                addresses: vec!["10.4.0.1".parse().unwrap()],
                servers: true,
                clients: true,
                replies_from: vec!["lan".into()],
            }],
            ..HostPlan::default()
        };
        let first = HostState::apply(&plan("tun0")).await.unwrap();
        let second = HostState::apply(&plan("tun1")).await.unwrap();
        let defaults = |routes: Vec<RouteState>| {
            let ours = routes.into_iter().filter(|route| route.to.prefix_len() == 0 && route.table >= 20_000);
            ours.map(|route| (route.table, route.device)).collect::<Vec<_>>()
        };
        let found = defaults(net.routes().await.unwrap());
        assert_eq!(found.len(), 2, "a table for each director, not for each link: {found:?}");
        assert!(found[0].0 != found[1].0 && found[0].1 != found[1].1, "{found:?}");
        let rules: Vec<String> =
            net.rules(Family::V4).await.unwrap().iter().map(|rule| format!("{rule:?}")).collect();
        let local = rules.iter().position(|rule| *rule == before.rules[0]);
        assert_eq!(
            local,
            Some(4),
            "both directors' rules for the host's own addresses come first: {rules:#?}"
        );
        first.undo().await.unwrap();
        assert_eq!(defaults(net.routes().await.unwrap()).len(), 1, "the other's stays");
        second.undo().await.unwrap();
        assert_eq!(snapshot(&net).await, before);
    });
}

/// The kernel's part of NAT over TUN: a client's request comes in on one link and is routed into the TUN device; the
/// realserver's reply comes in on another, goes to a foreign address, and is steered into the TUN device as well.
#[test]
fn requests_and_replies_both_pass_the_tun_device() {
    isolated(async |net| {
        for name in ["all", "default"] {
            sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "1").unwrap();
        }
        let device = Device::open(&tun("tun0")).unwrap();
        let (wan, lan) = (Device::open(&tap("wan")).unwrap(), Device::open(&tap("lan")).unwrap());
        net.add_address("wan", "198.51.100.1/24".parse().unwrap()).await.unwrap();
        net.add_address("lan", "10.0.0.1/24".parse().unwrap()).await.unwrap();
        let (client, server) = (Ipv4Addr::new(203, 0, 113, 9), Ipv4Addr::new(10, 0, 0, 11));
        let plan = HostPlan {
            routes: vec![(Prefix::host(VIP.into()), "tun0".into())],
            replies_from: vec![replies("lan", "tun0")],
            forwarding: vec!["wan".into(), "lan".into(), "tun0".into()],
            ..HostPlan::default()
        };
        let state = HostState::apply(&plan).await.unwrap();
        let mac = async |name: &str| net.link(name).await.unwrap().mac.unwrap();
        // The client has no route back here: a reverse path filter would drop what it sends.
        let request = udp((client, 4000), (VIP, 80), b"request");
        let frame = ethernet(mac("wan").await, MAC, 0x0800, &request);
        queue(&wan).send(&Frame::from_bytes(&frame)).unwrap();
        let got = receive(queue(&device), ends_with(b"request")).expect("the request");
        assert_eq!(got.bytes()[12..20], request[12..20], "addresses are untouched");
        let reply = udp((server, 80), (client, 4000), b"reply");
        let frame = ethernet(mac("lan").await, MAC, 0x0800, &reply);
        queue(&lan).send(&Frame::from_bytes(&frame)).unwrap();
        assert!(receive(queue(&device), ends_with(b"reply")).is_some(), "the reply");
        // What is for the host itself is not steered away.
        let socket = UdpSocket::bind("10.0.0.1:5353").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let own = udp((server, 5353), (Ipv4Addr::new(10, 0, 0, 1), 5353), b"for the host");
        let frame = ethernet(mac("lan").await, MAC, 0x0800, &own);
        queue(&lan).send(&Frame::from_bytes(&frame)).unwrap();
        let mut text = [0; 32];
        let len = socket.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"for the host");
        state.undo().await.unwrap();
    });
}

fn repaired(found: &[Finding]) -> Vec<&str> {
    found.iter().filter(|it| it.outcome == Outcome::Repaired).map(|it| it.what.as_str()).collect()
}

#[test]
fn what_others_take_away_is_made_again_and_undone_in_the_end() {
    isolated(async |net| {
        furnish(&net).await;
        let _devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        let before = snapshot(&net).await;
        let mut state = HostState::apply(&full_plan()).await.unwrap();
        assert_eq!(state.keep().await, [], "nothing is amiss");
        let as_wanted = snapshot(&net).await;

        net.clear_master("tap0").await.unwrap();
        assert_eq!(repaired(&state.keep().await), ["tap0 in bridge new"]);
        net.set_down("lan").await.unwrap();
        assert_eq!(repaired(&state.keep().await), ["lan up"]);
        // The kernel forgets the routes of a link that is down, and IPv6 its addresses.
        net.set_down("tun0").await.unwrap();
        net.set_up("tun0").await.unwrap();
        let found = state.keep().await;
        assert!(repaired(&found).contains(&"route to 192.0.2.10/32 out of tun0"), "{found:?}");
        assert!(found.iter().any(|it| it.what.starts_with("the default route of table")), "{found:?}");
        for rule in net.rules(Family::V4).await.unwrap() {
            let is_ours = format!("{rule:?}").contains("Table(20000)");
            if is_ours {
                net.delete_rule(rule).await.unwrap();
            }
        }
        assert_eq!(repaired(&state.keep().await).len(), 4, "three rules and those of clients");
        sysctl("net/ipv4/ip_forward", "0").unwrap();
        sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
        let found = state.keep().await;
        assert_eq!(repaired(&found), ["forwarding between lan, new, tun0"]);
        let again = snapshot(&net).await;
        assert_eq!(
            (&again.links, &again.routes, &again.sysctls),
            (&as_wanted.links, &as_wanted.routes, &as_wanted.sysctls)
        );
        let sorted = |mut rules: Vec<String>| {
            rules.sort();
            rules
        };
        assert_eq!(sorted(again.rules.clone()), sorted(as_wanted.rules.clone()));

        let index = net.link_index("new").await.unwrap();
        net.delete_link("new").await.unwrap();
        let found = state.keep().await;
        for what in ["bridge new", "wan in bridge new", "tap0 in bridge new", "address 10.3.0.1/24 on new"] {
            assert!(repaired(&found).contains(&what), "{what}: {found:?}");
        }
        assert_ne!(net.link_index("new").await.unwrap(), index, "another one");
        assert_eq!(state.keep().await, []);
        state.undo().await.unwrap();
        assert_eq!(snapshot(&net).await, before);
    });
}

#[test]
fn what_cannot_be_made_again_is_told_until_it_can() {
    isolated(async |net| {
        furnish(&net).await;
        let _device = Device::open(&tap("tap0")).unwrap();
        let bridge = Bridge { name: "new".into(), ports: vec!["wan".into()], taps: vec!["tap0".into()] };
        let plan = HostPlan { bridges: vec![bridge], ..HostPlan::default() };
        let mut state = HostState::apply(&plan).await.unwrap();
        net.delete_link("wan").await.unwrap();
        for _ in 0..2 {
            let found = state.keep().await;
            let [Finding { what, links, outcome: Outcome::Broken(why) }] = &found[..] else {
                panic!("{found:?}");
            };
            assert_eq!((what.as_str(), &links[..]), ("wan in bridge new", &["wan".into(), "new".into()][..]));
            assert!(why.contains("there is no link wan"), "{why}");
        }
        net.veth("wan", "wan-peer", Namespace::Here).await.unwrap();
        assert_eq!(repaired(&state.keep().await), ["wan in bridge new"]);
        assert!(net.link("wan").await.unwrap().up);
        state.undo().await.unwrap();
        let wan = net.link("wan").await.unwrap();
        assert_eq!((wan.master, wan.up), (None, false), "as this one was");
    });
}

#[test]
fn what_others_have_changed_is_theirs() {
    isolated(async |net| {
        furnish(&net).await;
        let _devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        let state = HostState::apply(&full_plan()).await.unwrap();
        // Somebody plugs the port in elsewhere, makes the bridge anew, and wants another filter.
        net.set_master("wan", "spare").await.unwrap();
        net.delete_link("new").await.unwrap();
        net.bridge("new").await.unwrap();
        sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
        state.undo().await.unwrap();
        let spare = net.link_index("spare").await.unwrap();
        assert_eq!(net.link("wan").await.unwrap().master, Some(spare));
        assert!(net.link("new").await.unwrap().is_bridge);
        assert_eq!(read_sysctl("net/ipv4/conf/all/rp_filter").unwrap(), "1");
        assert_eq!(read_sysctl("net/ipv4/ip_forward").unwrap(), "0", "nobody else had it on");
    });
}

/// A folder for records, which goes with the test.
struct Records(std::path::PathBuf);

impl Records {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("uvs-records-{}-{test}", std::process::id())))
    }

    fn count(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What SIGKILL leaves: the host as it is, and a record that nobody has locked.
fn kill(state: HostState, records: &Records) {
    let path = std::fs::read_dir(&records.0).unwrap().next().unwrap().unwrap().path();
    state.abandon();
    // The next process will have another id.
    std::fs::rename(path, records.0.join("host-dead")).unwrap();
}

#[test]
fn what_a_killed_one_left_is_undone_in_the_end() {
    isolated(async |net| {
        furnish(&net).await;
        let records = Records::new("same");
        let before = snapshot(&net).await;
        for round in 0..3 {
            let devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
            let state = HostState::apply_recorded(&full_plan(), Some(&records.0)).await.unwrap();
            assert_eq!(records.count(), 1, "round {round}");
            assert_eq!(net.rules(Family::V4).await.unwrap().len(), 8, "round {round}: none is left over");
            kill(state, &records);
            drop(devices);
        }
        let devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        let index = net.link_index("new").await.unwrap();
        let state = HostState::apply_recorded(&full_plan(), Some(&records.0)).await.unwrap();
        assert_eq!(net.link_index("new").await.unwrap(), index, "the bridge stays, for others may use it");
        drop(devices);
        state.undo().await.unwrap();
        assert_eq!(snapshot(&net).await, before);
        assert_eq!(records.count(), 0);
    });
}

#[test]
fn what_a_killed_one_left_goes_at_once_when_it_is_not_wanted_any_more() {
    isolated(async |net| {
        furnish(&net).await;
        let records = Records::new("other");
        let before = snapshot(&net).await;
        let devices = (Device::open(&tap("tap0")).unwrap(), Device::open(&tun("tun0")).unwrap());
        let state = HostState::apply_recorded(&full_plan(), Some(&records.0)).await.unwrap();
        kill(state, &records);
        drop(devices);
        let plan = HostPlan { up: vec!["spare".into()], ..HostPlan::default() };
        let state = HostState::apply_recorded(&plan, Some(&records.0)).await.unwrap();
        assert!(net.link("new").await.is_err(), "the bridge");
        assert_eq!(read_sysctl("net/ipv4/ip_forward").unwrap(), "0");
        // One that lives is left alone.
        let other = HostState::apply_recorded(&HostPlan::default(), Some(&records.0)).await.unwrap();
        assert!(net.link("spare").await.unwrap().up);
        drop((state, other));
        assert_eq!(snapshot(&net).await, before);
        assert_eq!(records.count(), 0);
    });
}
