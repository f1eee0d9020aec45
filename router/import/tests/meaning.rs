//! What is written, and what runs.

mod common;

use std::path::Path;

use common::{Memory, config, import, import_of, judge, lines};
use uvs_director::spec::{Family, Forwarding, ServiceKey};
use uvs_import::{ArmWish, Attached, Kind, Wish, ipvsadm, keepalived};

/// A virtual server with these lines, from the fourth on, and one real server with those.
fn one(server: &str, real: &str) -> String {
    format!(
        "virtual_server 192.0.2.1 80 {{\nprotocol TCP\nlvs_sched rr\n{server}\nreal_server 198.51.100.2 8080 {{\n{real}\n}}\n}}\n"
    )
}

#[test]
fn small_letters_make_no_method() {
    let done = import(&one("lb_kind dr", ""));
    assert_eq!(config(&done).services[0].destinations[0].forwarding, Forwarding::Nat);
    assert_eq!(lines(&done, Kind::Source), [4]);
}

#[test]
fn alpha_off_of_a_virtual_server_is_on() {
    let done = import(&one("alpha off", "TCP_CHECK {\n}"));
    assert!(!config(&done).services[0].health.as_ref().unwrap().policy.start_up);
    assert_eq!(lines(&done, Kind::Source), [4]);
    let done = import(&one("", "alpha off\nTCP_CHECK {\n}"));
    assert!(config(&done).services[0].health.as_ref().unwrap().policy.start_up);
    assert!(lines(&done, Kind::Source).is_empty());
}

#[test]
fn a_protocol_that_is_not_said_is_udp() {
    let done = import("virtual_server 192.0.2.1 53 {\nreal_server 192.0.2.2 53 {\n}\n}\n");
    assert!(done.toml.contains("protocol = \"udp\""), "{}", done.toml);
    assert_eq!(lines(&done, Kind::Source), [1]);
}

#[test]
fn times_go_down_to_checkers_wherever_they_stand() {
    let done = import(&one("connect_timeout 2.5", "delay_loop 7\nTCP_CHECK {\nretry 4\n}"));
    let check = &config(&done).checks[0];
    assert_eq!(check.schedule.interval.as_millis(), 7000);
    assert_eq!(check.schedule.fast.as_millis(), 1000);
    assert_eq!(check.schedule.timeout.as_millis(), 2500);
    assert_eq!((check.rise, check.fall), (1, 5));
}

#[test]
fn retries_that_are_not_said_are_those_of_each_checker() {
    let fall = |checker: &str| config(&import(&one("", checker))).checks[0].fall;
    assert_eq!(fall("TCP_CHECK {\n}"), 2);
    assert_eq!(fall("HTTP_GET {\nurl {\npath /\n}\nnb_get_retry 6\n}"), 7);
    assert_eq!(fall("MISC_CHECK {\nmisc_path /bin/true\n}"), 1);
    assert_eq!(fall("TCP_CHECK {\nnb_get_retry 6\n}"), 2, "no keyword there");
}

#[test]
fn a_definition_may_comment_out_and_quotes_keep_comments() {
    let text = "$OFF=${_HASH}\n".to_owned()
        + &one("$OFF alpha", "HTTP_GET {\nurl {\npath \"/a\"\n}\nvirtualhost \"a!b\"\n}");
    let done = import(&text);
    assert!(config(&done).services[0].health.as_ref().unwrap().policy.start_up);
    assert!(done.remarks.iter().any(|remark| remark.text.contains("virtualhost a!b")), "{:#?}", done.remarks);
}

#[test]
fn conditions_look_at_the_name_of_the_configuration() {
    let text = "@lb1 virtual_server 192.0.2.1 80 {\n@lb2 virtual_server 192.0.2.9 80 {\n@^lb2 protocol TCP\n\
                real_server 192.0.2.3 80 {\n}\n}\n";
    let done = import(text);
    assert!(done.toml.contains("protocol = \"tcp\"\naddress = \"192.0.2.1:80\""), "{}", done.toml);
}

#[test]
fn includes_are_relative_to_their_file_and_lines_are_named_in_it() {
    let done = import_of(vec![
        ("/etc/a.conf", "include sub/*.conf\n".to_owned()),
        ("/etc/sub/b.conf", one("lb_kind dr", "")),
    ]);
    let at = &done.remarks.iter().find(|remark| remark.kind == Kind::Source).unwrap().at;
    assert_eq!((&*at.file, at.line), ("/etc/sub/b.conf", 4));
    assert_eq!(done.services, 1);
}

#[test]
fn an_unknown_block_is_left_out_as_a_whole() {
    let text = "virtual_servre 192.0.2.9 80 {\nprotocol TCP\nreal_server 1.2.3.4 80 {\n}\n}\n".to_owned();
    let done = import(&(text + &one("", "")));
    assert_eq!((done.services, lines(&done, Kind::Source)), (1, vec![1]));
}

#[test]
fn a_mark_asks_the_port_that_is_written() {
    let done = import(
        "virtual_server fwmark 7 {\nlvs_method DR\nlvs_sched rr\nreal_server 192.0.2.2 8443 {\nTCP_CHECK {\n}\n}\n}\n\
         virtual_server 192.0.2.1 80 {\nprotocol TCP\nreal_server 192.0.2.2 80 {\n}\n}\n",
    );
    let config = config(&done);
    assert_eq!(config.services[0].spec.key, ServiceKey::Mark { mark: 7, family: Family::V4 });
    assert_eq!(config.services[0].destinations[0].addr.port(), 0);
    assert_eq!(config.checks[0].port, Some(8443));
}

#[test]
fn real_servers_with_other_ports_and_pages_say_so_themselves() {
    let get =
        |port: u16, path: &str| format!("HTTP_GET {{\nconnect_port {port}\nurl {{\npath {path}\n}}\n}}");
    let second = format!("}}\nreal_server 198.51.100.3 8080 {{\n{}\n}}\n}}\n", get(9001, "/b"));
    let text = one("", &get(9000, "/a"));
    let text = text.strip_suffix("}\n}\n").unwrap().to_owned() + &second;
    let done = import(&text);
    let plan = config(&done).plan();
    let destinations = plan.services[0].destinations.iter();
    let ports: Vec<u16> = destinations.map(|destination| destination.checks[0].probe.target.port).collect();
    assert_eq!(ports, [9000, 9001], "{}", done.toml);
    assert!(done.toml.contains("check = { port = 9001, path = \"/b\" }"), "{}", done.toml);
}

#[test]
fn a_sorry_server_is_a_backup_and_one_on_the_director_is_none() {
    let done = import(&one("sorry_server 198.51.100.9 80", "TCP_CHECK {\n}"));
    assert_eq!(config(&done).services[0].health.as_ref().unwrap().backups.len(), 1);
    let done = import(&one("sorry_server 127.0.0.1 80", "TCP_CHECK {\n}"));
    assert!(config(&done).services[0].health.as_ref().unwrap().backups.is_empty());
    assert!(lines(&done, Kind::LeftOut).contains(&4));
}

#[test]
fn a_quorum_is_no_more_than_there_is() {
    let done = import(&one("quorum 5\nhysteresis 3", "weight 2\nTCP_CHECK {\n}"));
    assert!(done.toml.contains("quorum = 2\nhysteresis = 1\n"), "{}", done.toml);
    assert_eq!(lines(&done, Kind::Source), [4, 5]);
}

#[test]
fn scripts_become_programs_that_are_told() {
    let real = |last: u8, lines: &str| {
        format!("real_server 198.51.100.{last} 8080 {{\n{lines}\nTCP_CHECK {{\n}}\n}}\n")
    };
    let server = |vip: u8, lines: &str, reals: &str| {
        format!("virtual_server 192.0.2.{vip} 80 {{\nprotocol TCP\n{lines}\n{reals}}}\n")
    };
    let reals = real(2, "notify_down \"/bin/page db\" nobody") + &real(3, "notify_down \"/bin/page db\"");
    let quorum = "quorum_up \"/sbin/ip addr add 192.0.2.9/32 dev lo\"\nquorum_down 'withdraw 1'\nomega";
    let users = "global_defs {\nscript_user root 7\n}\n";
    let done = import(&(users.to_owned() + &server(1, quorum, &reals) + &server(2, quorum, &real(2, ""))));
    let config = config(&done);
    let [first, second] = [0, 1].map(|index| config.services[index].spec.key);
    let told: Vec<_> = config
        .notify
        .iter()
        .map(|it| {
            (&*it.name, it.command.join(" "), it.events.clone(), it.services.clone(), it.destinations.len())
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "quorum-up",
                "/sbin/ip addr add 192.0.2.9/32 dev lo".to_owned(),
                vec!["quorum_up"],
                vec![first, second],
                0
            ),
            (
                "quorum-down",
                "/usr/bin/env withdraw 1".to_owned(),
                vec!["quorum_down", "stopping"],
                vec![first, second],
                0
            ),
            ("notify-down", "/bin/page db".to_owned(), vec!["destination_down", "stopping"], vec![first], 1),
            (
                "notify-down-2",
                "/bin/page db".to_owned(),
                vec!["destination_down", "stopping"],
                vec![first],
                1
            ),
        ]
    );
    let different: Vec<&str> = done
        .remarks
        .iter()
        .filter(|remark| remark.kind == Kind::Different)
        .map(|remark| remark.text.as_str())
        .collect();
    let users: Vec<_> = config
        .notify
        .iter()
        .map(|it| it.user.as_ref().map(|user| (user.name.as_str(), user.uid, user.gid)))
        .collect();
    let root = Some(("root", 0, 7));
    assert_eq!((users[0], users[1], users[3]), (root, root, root));
    assert_eq!(users[2].map(|(name, ..)| name), Some("nobody"));
    assert!(different.iter().any(|text| text.contains("/usr/bin/env looks for it")), "{different:?}");
    // Without a check nothing ever changes; and braces mean something here.
    let done = import(&one("quorum_up /bin/true", ""));
    assert!(done.toml.contains("[[service]]") && !done.toml.contains("[[notify]]"), "{}", done.toml);
    assert_eq!(lines(&done, Kind::LeftOut), [4]);
    let done = import(&one("quorum_up \"/bin/x {a}\"", "TCP_CHECK {\n}"));
    assert!(!done.toml.contains("[[notify]]"), "{}", done.toml);
}

#[test]
fn rules_of_ipvsadm_come_over_as_they_stand_in_the_end() {
    let rules = "-A -t 192.0.2.1:80 -s rr -p 60\n-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m -w 5\n\
                 -a -t 192.0.2.1:80 -r 10.0.0.2:8080 -m\n-d -t 192.0.2.1:80 -r 10.0.0.2:8080\nipvsadm --set 60 0 0\n\
                 -a -t 192.0.2.7:80 -r 10.0.0.2:8080 -m\n";
    let done = ipvsadm(rules, "-", &Wish::default()).judged(&mut common::judge).unwrap();
    let config = config(&done);
    assert_eq!((done.services, done.destinations), (1, 1));
    assert_eq!(config.services[0].destinations[0].weight, 5);
    assert_eq!(config.timeouts.tcp, uvs_director::Duration::from_secs(60));
    assert_eq!(lines(&done, Kind::Source), [6], "{:#?}", done.remarks);
}

/// Each real server is asked as it says, and no other for it.
#[test]
fn real_servers_with_other_checks_have_their_own() {
    let real = |number: u8, lines: &str| format!("real_server 198.51.100.{number} 80 {{\n{lines}\n}}\n");
    let servers = [
        real(1, "TCP_CHECK {\n}"),
        real(2, "TCP_CHECK {\n}"),
        real(3, "PING_CHECK {\n}\nTCP_CHECK {\n}"),
        real(4, ""),
        real(5, "HTTP_GET {\nurl {\npath /a\n}\nurl {\npath /b\n}\n}"),
        real(6, "HTTP_GET {\nurl {\npath /a\n}\nurl {\npath /c\n}\n}"),
    ];
    let text =
        format!("virtual_server 192.0.2.1 80 {{\nprotocol TCP\nlvs_sched rr\n{}}}\n", servers.concat());
    let done = import(&text);
    let config = config(&done);
    let health = config.services[0].health.as_ref().unwrap();
    let asked = |number: u8| -> Vec<String> {
        let addr = format!("198.51.100.{number}:80").parse().unwrap();
        let plan = config.plan();
        let mut it = plan.services[0].destinations.iter();
        let checks = &it.find(|it| it.addr == addr).unwrap().checks;
        checks
            .iter()
            .map(|it| match &it.probe.kind {
                uvs_check::spec::Kind::Http(http) => http.path.clone(),
                kind => kind.word().to_owned(),
            })
            .collect()
    };
    assert_eq!(health.checks.len(), 1);
    assert_eq!((asked(1), asked(2)), (vec!["tcp".to_owned()], vec!["tcp".to_owned()]));
    assert_eq!(asked(3), ["ping", "tcp"]);
    assert_eq!(asked(4), [""; 0], "nothing takes it out of service");
    assert_eq!((asked(5), asked(6)), (vec!["/a".into(), "/b".into()], vec!["/a".into(), "/c".into()]));
    assert_eq!(
        lines(&done, Kind::Different),
        [0, 1],
        "nothing but guessed subnets and no inhibit_on_failure"
    );
}

#[test]
fn programs_that_name_their_real_server_are_one_check() {
    let real = |number: u8| {
        format!(
            "real_server 198.51.100.{number} 80 {{\nMISC_CHECK {{\n\
             misc_path \"/bin/ask http://198.51.100.{number}/ 198.51.100.{number} 198.51.100.19\"\n}}\n}}\n"
        )
    };
    let done = import(&format!(
        "virtual_server 192.0.2.1 80 {{\nprotocol TCP\nlvs_sched rr\n{}{}}}\n",
        real(1),
        real(2)
    ));
    let config = config(&done);
    let commands: Vec<Vec<String>> = config.plan().services[0]
        .destinations
        .iter()
        .map(|it| match &it.checks[0].probe.kind {
            uvs_check::spec::Kind::Exec(exec) => exec.command.clone(),
            kind => panic!("{kind:?}"),
        })
        .collect();
    for (number, command) in (1..).zip(&commands) {
        let rip = format!("198.51.100.{number}");
        assert_eq!(*command, ["/bin/ask", &format!("http://{rip}/"), &rip, "198.51.100.19"]);
    }
    assert_eq!(config.checks.len(), 1, "{}", done.toml);
}

/// A gateway that was given is a route, whether or not an address of the director tells its subnet.
#[test]
fn a_gateway_is_never_dropped() {
    let text = "virtual_server 192.0.2.1 53 {\nprotocol UDP\nlvs_sched rr\nlb_kind NAT\n\
                real_server 192.0.2.2 53 {\n}\nreal_server 198.51.100.2 53 {\n}\n}\n";
    let routes = |addresses: &[&str], gateways: &[&str]| -> Vec<String> {
        let wish = Wish {
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|it| it.parse().unwrap()).collect(),
            ..Wish::default()
        };
        let files = Memory(vec![("/etc/a.conf", text.to_owned())]);
        let imported = keepalived(Path::new("/etc/a.conf"), "lb1", &files, &wish).expect("it is there");
        let done = imported.judged(&mut judge).expect("the network is right");
        let via = |via: Option<core::net::IpAddr>| via.map_or("on link".to_owned(), |via| via.to_string());
        config(&done).routes.iter().map(|route| format!("{} {}", route.to, via(route.via))).collect()
    };
    let all = "0.0.0.0/0 192.0.2.254";
    assert_eq!(routes(&[], &["192.0.2.254"]), ["192.0.2.0/24 on link", all]);
    assert_eq!(
        routes(&[], &["203.0.113.254"]),
        ["192.0.2.0/24 on link", "203.0.113.254/32 on link", "0.0.0.0/0 203.0.113.254"]
    );
    assert_eq!(routes(&["192.0.2.9/24"], &["192.0.2.254"]), [all]);
    assert_eq!(routes(&["192.0.2.9/28"], &["192.0.2.254"]), ["192.0.2.254/32 on link", all]);
}

/// A director by NAT stands between two networks, and has an interface in each.
#[test]
fn a_director_between_two_networks_has_two_interfaces() {
    let text = |devices: [&str; 2]| {
        format!(
            "vrrp_instance A {{\ninterface eth0\nvirtual_ipaddress {{\n192.0.2.10/24{}\n10.20.0.1/24{}\n}}\n}}\n\
             virtual_server 192.0.2.10 80 {{\nprotocol TCP\nlvs_sched rr\nlb_kind NAT\nreal_server 10.20.0.11 80 {{\n}}\n}}\n",
            devices[0], devices[1]
        )
    };
    let interfaces = |text: String, addresses: &[&str], arms: &[(Attached, &str)]| -> (Vec<String>, usize) {
        let wish = Wish {
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            gateways: vec!["192.0.2.254".parse().unwrap()],
            arms: arms
                .iter()
                .map(|(attached, subnet)| ArmWish { attached: attached.clone(), subnet: subnet.parse().ok() })
                .collect(),
        };
        let files = Memory(vec![("/etc/a.conf", text)]);
        let imported = keepalived(Path::new("/etc/a.conf"), "lb1", &files, &wish).expect("it is there");
        let done = imported.judged(&mut judge).expect("the network is right");
        let told = done.remarks.iter().filter(|it| it.text.contains("different networks")).count();
        let of = |it: &uvs_config::Interface| {
            let own: Vec<String> = it.own.iter().map(ToString::to_string).collect();
            let bridge = it.bridge.as_ref().map_or("", |bridge| &bridge.name);
            let link = it.direct.as_ref().map_or("", |direct| &direct.link);
            format!("{} {bridge}{link}", own.join(" "))
        };
        (config(&done).interfaces.iter().map(of).collect(), told)
    };
    let link = |name: &str| Attached::Link(name.to_owned());
    let bridge = |name: &str| Attached::Bridge(name.to_owned());
    let two = text(["", " dev eth1"]);
    // The file says so, and which is which.
    assert_eq!(interfaces(two.clone(), &[], &[]), (vec!["192.0.2.10/24 ".into(), "10.20.0.1/24 ".into()], 1));
    let named = |arms: &[(Attached, &str)]| interfaces(two.clone(), &[], arms).0;
    let wanted = ["192.0.2.10/24 eth0", "10.20.0.1/24 eth1"];
    assert_eq!(named(&[(link("eth0"), ""), (link("eth1"), "")]), wanted);
    assert_eq!(named(&[(link("eth1"), ""), (link("eth0"), "")]), [wanted[1], wanted[0]], "by their names");
    let by_order = ["192.0.2.10/24 br0", "10.20.0.1/24 br1"];
    assert_eq!(named(&[(bridge("br0"), ""), (bridge("br1"), "")]), by_order, "clients first");
    assert_eq!(
        named(&[(bridge("br1"), "10.20.0.0/24"), (bridge("br0"), "192.0.2.0/24")]),
        [by_order[1], by_order[0]],
        "by their subnets"
    );
    // All of it is on one card.
    assert_eq!(interfaces(text(["", ""]), &[], &[]), (vec!["192.0.2.10/24 10.20.0.1/24 ".into()], 0));
    assert_eq!(named(&[(link("eth0"), "")]), ["192.0.2.10/24 10.20.0.1/24 eth0"], "as it is said");
    // Of addresses that are given, those of real servers alone are on the other side.
    assert_eq!(
        interfaces(two.clone(), &["192.0.2.9/24", "10.20.0.1/24"], &[]),
        (vec!["192.0.2.9/24 ".into(), "10.20.0.1/24 ".into()], 1)
    );
    // A card without an address has no interface.
    assert_eq!(
        interfaces(text(["", ""]), &["192.0.2.9/24"], &[(link("eth0"), ""), (link("eth1"), "")]),
        (vec!["192.0.2.9/24 eth0".into()], 0)
    );
}
