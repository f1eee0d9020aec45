//! What is written is what the engine is told, and the engine takes it.

use std::sync::Arc;

use uvs_config::{Config, Http};
use uvs_director::scheduler::{Scheduler, SchedulerFactory, Wlc};
use uvs_director::spec::{
    Evict, Family, Forwarding, Limits, MarkRule, Options, Persistence, Protocol, SchedulerSpec, ServiceKey,
    SourceCheck, Transit, Tunnel, TunnelChecksum,
};
use uvs_director::{Director, Duration, Instant, PortId};

const HEAD: &str = "[[interface]]
name = 'uvs0'
device = 'tap'
addresses = ['192.0.2.1/24', '2001:db8::1/64']
[[interface]]
name = 'uvs1'
device = 'tun'
addresses = ['10.0.0.1/24']
";

const ADDRESS: &str = "[[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:80'\n";

fn parse(text: &str) -> Config {
    Config::parse(text, "edge.toml").unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn with(text: &str) -> Config {
    parse(&format!("{HEAD}{text}"))
}

struct Always;

impl SchedulerFactory for Always {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        Ok(Box::new(Wlc::default()))
    }
}

/// A new director takes every change of the config.
fn assert_taken(config: &Config, name: &str) {
    let director = Director::new(config.limits, 1, Arc::new(Always));
    for change in Config::diff(None, config) {
        let text = format!("{change:?}");
        director.apply(change, Instant::ZERO).unwrap_or_else(|error| panic!("{name}: {text}: {error}"));
    }
}

#[test]
fn the_engine_takes_every_example() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        let config = Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert_taken(&config, &path.display().to_string());
        count += 1;
    }
    assert!(count > 5, "{count} examples");
}

#[test]
fn services_are_named_by_address_or_mark() {
    let key = |protocol, addr: &str| ServiceKey::new(protocol, addr.parse().expect("an address"));
    let mark = |mark, family| ServiceKey::Mark { mark, family };
    let cases = [
        ("TCP", "protocol = 'tcp'\naddress = '192.0.2.10:80'", key(Protocol::Tcp, "192.0.2.10:80")),
        ("SCTP", "protocol = 'sctp'\naddress = '192.0.2.10:80'", key(Protocol::Sctp, "192.0.2.10:80")),
        (
            "all ports",
            "protocol = 'udp'\naddress = '192.0.2.10:0'\npersistent = 60",
            key(Protocol::Udp, "192.0.2.10:0"),
        ),
        ("mark, IPv4 by default", "mark = 7", mark(7, Family::V4)),
        ("mark of IPv4", "mark = 7\nfamily = 'ipv4'", mark(7, Family::V4)),
        ("largest mark, of IPv6", "mark = 0xffff_ffff\nfamily = 'ipv6'", mark(u32::MAX, Family::V6)),
    ];
    for (name, lines, want) in cases {
        let config = with(&format!("[[service]]\n{lines}\n"));
        assert_eq!(config.services[0].spec.key, want, "{name}");
        assert_eq!(config.services[0].location.context, format!("service {want}"), "{name}");
        assert_taken(&config, name);
    }
}

/// As `ip route add LINK dev eth0; ip route add default via ROUTER` on a host whose address is alone in its subnet.
#[test]
fn a_gateway_may_be_on_a_link_that_a_route_leads_to() {
    let routes = "[[route]]\nto = '0.0.0.0/0'\nvia = '203.0.113.254'\n\
                  [[route]]\nto = '203.0.113.0/24'\ninterface = 'uvs0'\n";
    let config = with(routes);
    assert_taken(&config, routes);
    let default = config.routes.iter().find(|route| route.to.prefix_len() == 0).unwrap();
    assert_eq!((default.via, default.port), (Some("203.0.113.254".parse().unwrap()), PortId(0)));
    let elsewhere = routes.replace("via = ", "interface = 'uvs1'\nvia = ");
    let problems =
        Config::parse(&format!("{HEAD}{elsewhere}"), "edge.toml").expect_err("another link").to_string();
    assert!(
        problems.contains("gateway 203.0.113.254 is in no connected subnet of interface uvs1"),
        "{problems}"
    );
}

#[test]
fn persistence_has_a_timeout_and_a_size_of_networks() {
    let mark6 = "[[service]]\nmark = 7\nfamily = 'ipv6'\n";
    let stick =
        |secs, prefix_len| Some(Persistence { timeout: Duration::from_secs(secs), prefix_len, engine: None });
    let cases = [
        ("absent", ADDRESS, "", None),
        ("off", ADDRESS, "persistent = false", None),
        ("on: ipvsadm's default", ADDRESS, "persistent = true", stick(360, 32)),
        ("seconds", ADDRESS, "persistent = 1", stick(1, 32)),
        ("31 days", ADDRESS, "persistent = 2678400", stick(2_678_400, 32)),
        ("a mask", ADDRESS, "persistent = 60\nnetmask = '255.255.254.0'", stick(60, 23)),
        ("a length", ADDRESS, "persistent = 60\nnetmask = 24", stick(60, 24)),
        ("all clients together", ADDRESS, "persistent = 60\nnetmask = '0.0.0.0'", stick(60, 0)),
        ("IPv6 alone", mark6, "persistent = 60", stick(60, 128)),
        ("IPv6 by length", mark6, "persistent = 60\nnetmask = 64", stick(60, 64)),
        ("IPv6 by mask", mark6, "persistent = 60\nnetmask = 'ffff:ffff:ffff::'", stick(60, 48)),
    ];
    for (name, head, lines, want) in cases {
        let config = with(&format!("{head}{lines}\n"));
        assert_eq!(config.services[0].spec.persistence, want, "{name}");
        assert_taken(&config, name);
    }
}

#[test]
fn one_packet_is_for_datagrams() {
    let udp = "[[service]]\nprotocol = 'udp'\naddress = '192.0.2.10:53'\n";
    let cases = [
        ("absent", udp, "", false),
        ("UDP", udp, "one_packet = true", true),
        ("as a number", udp, "one_packet = 1", true),
        ("a mark's datagrams", "[[service]]\nmark = 7\n", "one_packet = true", true),
        ("switched off on TCP", ADDRESS, "one_packet = false", false),
    ];
    for (name, head, lines, want) in cases {
        let config = with(&format!("{head}{lines}\n"));
        assert_eq!(config.services[0].spec.one_packet, want, "{name}");
        assert_taken(&config, name);
    }
}

#[test]
fn packets_in_the_middle_of_a_flow_are_placed_where_the_service_says_so() {
    let cases = [
        ("absent", ADDRESS, "", false),
        ("TCP", ADDRESS, "sloppy_tcp = true", true),
        ("as a number", ADDRESS, "sloppy_tcp = 1", true),
        ("a mark's packets", "[[service]]\nmark = 7\n", "sloppy_tcp = true", true),
        (
            "off on UDP",
            "[[service]]\nprotocol = 'udp'\naddress = '192.0.2.10:53'\n",
            "sloppy_tcp = false",
            false,
        ),
    ];
    for (name, head, lines, want) in cases {
        let config = with(&format!("{head}{lines}\n"));
        assert_eq!(config.services[0].spec.sloppy_tcp, want, "{name}");
        assert!(!config.options.sloppy_tcp, "{name}: of the service alone");
        assert_taken(&config, name);
    }
}

#[test]
fn tunnels_are_the_destinations_own_or_else_the_services() {
    let gue = |checksum| Tunnel::Gue { port: 6080, checksum };
    let cases = [
        ("none said", "forward = 'tun'", "", Tunnel::Ipip),
        ("IP in IP", "forward = 'tun'", "tunnel = { type = 'ipip' }", Tunnel::Ipip),
        ("GUE", "", "forward = 'tun'\ntunnel = { type = 'gue', port = 6080 }", gue(TunnelChecksum::None)),
        (
            "GUE with a checksum",
            "forward = 'tun'\ntunnel = { type = 'gue', port = 6080, checksum = 'full' }",
            "",
            gue(TunnelChecksum::Full),
        ),
        (
            "the service's tunnel with the destination's method",
            "forward = 'nat'\ntunnel = { type = 'gue', port = 6080, checksum = 'remote' }",
            "forward = 'tun'",
            gue(TunnelChecksum::Remote),
        ),
        (
            "the destination's in place of the service's, as a whole",
            "forward = 'tun'\ntunnel = { type = 'gue', port = 6080, checksum = 'full' }",
            "tunnel = { type = 'gre' }",
            Tunnel::Gre { checksum: false },
        ),
        (
            "GRE with a checksum",
            "forward = 'tun'",
            "tunnel = { type = 'gre', checksum = 'full' }",
            Tunnel::Gre { checksum: true },
        ),
    ];
    for (name, service, destination, want) in cases {
        let text =
            format!("{ADDRESS}{service}\n[[service.destination]]\naddress = '192.0.2.21'\n{destination}\n");
        let config = with(&text);
        assert_eq!(config.services[0].destinations[0].forwarding, Forwarding::Tunnel(want), "{name}");
        assert_taken(&config, name);
    }
}

#[test]
fn destinations_keep_ports_or_map_them() {
    let mark = "[[service]]\nmark = 7\n";
    let all = "[[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:0'\npersistent = 60\n";
    let cases = [
        ("the service's", ADDRESS, "address = '192.0.2.21'\nforward = 'dr'", "192.0.2.21:80"),
        ("mapped", ADDRESS, "address = '192.0.2.21:8080'\nforward = 'nat'", "192.0.2.21:8080"),
        ("kept, of all ports", all, "address = '192.0.2.21'\nforward = 'nat'", "192.0.2.21:0"),
        ("kept, of all ports, said", all, "address = '192.0.2.21:0'\nforward = 'dr'", "192.0.2.21:0"),
        ("kept, of a mark", mark, "address = '192.0.2.21'\nforward = 'dr'", "192.0.2.21:0"),
        ("kept, of a mark, said", mark, "address = '192.0.2.21:0'\nforward = 'tun'", "192.0.2.21:0"),
        ("mapped, of a mark", mark, "address = '192.0.2.21:80'\nforward = 'nat'", "192.0.2.21:80"),
        ("across families", mark, "address = '2001:db8::21'\nforward = 'tun'", "[2001:db8::21]:0"),
    ];
    for (name, head, lines, want) in cases {
        let config = with(&format!("{head}[[service.destination]]\n{lines}\n"));
        assert_eq!(config.services[0].destinations[0].addr.to_string(), want, "{name}");
        assert_taken(&config, name);
    }
}

#[test]
fn thresholds_are_upper_and_lower() {
    let cases = [
        ("none", "", (0, 0)),
        ("upper", "upper_threshold = 100", (100, 0)),
        ("both", "upper_threshold = 100\nlower_threshold = 50", (100, 50)),
        ("equal, as the kernel takes it", "upper_threshold = 100\nlower_threshold = 100", (100, 100)),
        (
            "largest",
            "upper_threshold = 2147483647\nlower_threshold = 2147483647",
            (i32::MAX as u32, i32::MAX as u32),
        ),
    ];
    for (name, lines, want) in cases {
        let text =
            format!("{ADDRESS}forward = 'nat'\n[[service.destination]]\naddress = '192.0.2.21'\n{lines}\n");
        let spec = with(&text).services[0].destinations[0];
        assert_eq!((spec.upper_threshold, spec.lower_threshold), want, "{name}");
    }
}

#[test]
fn mark_rules_say_what_they_say() {
    let mac = "02:00:00:00:00:15".parse().ok();
    let any = MarkRule::new(7);
    let cases = [
        ("everything", "", any),
        ("an interface", "interface = 'uvs1'", MarkRule { port: Some(PortId(1)), ..any }),
        ("a station", "source_mac = '02:00:00:00:00:15'", MarkRule { source_mac: mac, ..any }),
        (
            "any station but one",
            "source_mac = '!02:00:00:00:00:15'",
            MarkRule { source_mac: mac, not_source_mac: true, ..any },
        ),
        ("a protocol", "protocol = 'sctp'", MarkRule { protocol: Some(Protocol::Sctp), ..any }),
        ("clients", "source = '198.51.100.0/24'", MarkRule { source: "198.51.100.0/24".parse().ok(), ..any }),
        ("a VIP", "destination = '10.9.9.9/32'", MarkRule { destination: "10.9.9.9/32".parse().ok(), ..any }),
        ("everything of IPv4", "source = '0.0.0.0/0'", MarkRule { source: "0.0.0.0/0".parse().ok(), ..any }),
        ("a port", "destination_ports = 80", MarkRule { destination_ports: Some((80, 80)), ..any }),
        (
            "a port as a text",
            "destination_ports = '80'",
            MarkRule { destination_ports: Some((80, 80)), ..any },
        ),
        ("a range", "source_ports = '8080-8090'", MarkRule { source_ports: Some((8080, 8090)), ..any }),
        (
            "a range with room",
            "source_ports = '0 - 65535'",
            MarkRule { source_ports: Some((0, u16::MAX)), ..any },
        ),
    ];
    for (name, lines, want) in cases {
        let config = with(&format!("[[mark]]\nmark = 7\n{lines}\n[[service]]\nmark = 7\n"));
        assert_eq!(config.marks, [want], "{name}");
        assert_taken(&config, name);
    }
}

#[test]
fn options_are_set_one_by_one() {
    let is = Options { expire_quiescent_template: true, ..Options::default() };
    let cases = [
        ("conn_reuse_mode = 3", Options { conn_reuse_mode: 3, ..is }),
        ("expire_nodest_conn = true", Options { expire_nodest_conn: true, ..is }),
        ("expire_quiescent_template = 0", Options { expire_quiescent_template: false, ..is }),
        ("sloppy_tcp = 1", Options { sloppy_tcp: true, ..is }),
        ("sloppy_sctp = true", Options { sloppy_sctp: true, ..is }),
        ("secure_tcp = 3", Options { secure_tcp: 3, ..is }),
        ("drop_entry = 1", Options { drop_entry: 1, ..is }),
        ("drop_packet = 2", Options { drop_packet: 2, ..is }),
        ("am_droprate = 2147483647", Options { am_droprate: i32::MAX as u32, ..is }),
        ("nat_icmp_send = true", Options { nat_icmp_send: true, ..is }),
        ("schedule_icmp = 1", Options { schedule_icmp: true, ..is }),
        ("cache_bypass = true", Options { cache_bypass: true, ..is }),
        ("ignore_tunneled = 1", Options { ignore_tunneled: true, ..is }),
        ("pmtu_disc = 0", Options { pmtu_disc: false, ..is }),
        ("ftp = true", Options { ftp: true, ..is }),
        ("", is),
    ];
    for (line, want) in cases {
        assert_eq!(parse(&format!("[options]\n{line}\n{HEAD}")).options, want, "{line}");
        let compat = parse(&format!("compat = 'ipvs'\n[options]\n{line}\n{HEAD}")).options;
        let kernel =
            Options { compat_ipvs: true, transit: Transit::Any, expire_quiescent_template: false, ..want };
        assert_eq!(compat, kernel, "{line} with compat");
    }
    assert!(parse(&format!("compat = 'ipvs'\n{HEAD}")).options.compat_ipvs, "without [options]");
    assert_eq!(parse(&format!("compat = 'none'\n{HEAD}")).options, is);
    let compat = format!("compat = 'ipvs'\n[options]\nexpire_quiescent_template = 1\n{HEAD}");
    assert!(parse(&compat).options.expire_quiescent_template);
}

#[test]
fn the_bounds_of_a_compilation_are_set_or_usual() {
    let usual = with("").modules;
    assert_eq!((usual.compile_time, usual.compile_mib), (60, 2048));
    let own = with("[modules]\ncompile_time = 5\ncompile_mib = 64").modules;
    assert_eq!((own.compile_time, own.compile_mib), (5, 64));
}

#[test]
fn the_failure_budget_of_modules_is_set_or_usual() {
    let usual = with("").modules;
    assert_eq!((usual.failures, usual.failure_window), (5, 10));
    let own = with("[modules]\nfailures = 50\nfailure_window = 600").modules;
    assert_eq!((own.failures, own.failure_window), (50, 600));
}

#[test]
fn routing_is_guarded_unless_the_file_or_compat_says_otherwise() {
    let of = |top: &str, interface: &str| {
        let config = parse(&format!("{top}\n{HEAD}").replacen("name =", &format!("{interface}\nname ="), 1));
        (config.options.transit, config.interfaces[0].spec.source_check)
    };
    assert_eq!(of("", ""), (Transit::Servers, SourceCheck::Loose));
    assert_eq!(of("compat = 'ipvs'", ""), (Transit::Any, SourceCheck::Off));
    assert_eq!(
        of("compat = 'ipvs'\ntransit = 'servers'", "source_check = 'strict'"),
        (Transit::Servers, SourceCheck::Strict)
    );
    assert_eq!(of("transit = 'any'", "source_check = 'off'"), (Transit::Any, SourceCheck::Off));
    assert_eq!(of("transit = 'none'", "source_check = 'loose'"), (Transit::None, SourceCheck::Loose));
}

#[test]
fn limits_are_set_one_by_one() {
    let is = Limits::default();
    let cases = [
        ("connections = 5", Limits { connections: 5, ..is }),
        ("neighbors = 5", Limits { neighbors: 5, ..is }),
        ("neighbor_queue_bytes = 66000", Limits { neighbor_queue_bytes: 66_000, ..is }),
        ("neighbor_queues_bytes = 300000", Limits { neighbor_queues_bytes: 300_000, ..is }),
        ("icmp_errors_per_second = 0", Limits { icmp_errors_per_second: 0, ..is }),
        ("evict = \"none\"", Limits { evict: Evict::None, ..is }),
        ("evict = \"embryonic\"", Limits { evict: Evict::Embryonic, ..is }),
        ("evict = \"any\"", Limits { evict: Evict::Any, ..is }),
        ("fragment_bytes = 131072", Limits { fragment_bytes: 131_072, ..is }),
        ("fragmented_packets = 5", Limits { fragmented_packets: 5, ..is }),
        ("fragments_per_packet = 8192", Limits { fragments_per_packet: 8192, ..is }),
        ("transit_flows = 5", Limits { transit_flows: 5, ..is }),
    ];
    for (line, want) in cases {
        assert_eq!(parse(&format!("[limits]\n{line}\n{HEAD}")).limits, want, "{line}");
    }
}

#[test]
fn the_page_is_on_this_machine_unless_more_is_said() {
    let parse = |text: &str| parse(&format!("{text}\n{HEAD}"));
    assert_eq!(parse("").http, Http::default());
    let loopback: std::net::SocketAddr = "127.0.0.1:9180".parse().expect("an address");
    let plain = parse("http = { page = true, hosts = ['Director.Example'] }");
    assert_eq!((plain.http.listen, plain.http.page), (Some(loopback), true));
    assert_eq!((plain.http.token_file, plain.http.hosts), (None, vec!["director.example".to_owned()]));
    let socket = parse("http = { page = true, socket = '/run/x.sock' }").http;
    assert_eq!((socket.listen, socket.socket), (None, Some("/run/x.sock".into())), "there alone");
    let both = parse("http = { page = true, listen = '[::1]:1', socket = '/run/x.sock', token_file = 't' }");
    assert_eq!(both.http.listen, Some("[::1]:1".parse().expect("an address")));
    assert_eq!(both.http.token_file, Some("t".into()), "beside the file");
    assert_eq!(both.warnings, []);
    let metrics = parse("http.listen = '0.0.0.0:1'");
    assert_eq!((metrics.http.page, metrics.warnings.len()), (false, 0), "metrics may be open to all");
    let open = parse("http = { page = true, listen = '192.0.2.1:1', token_file = 't' }").warnings;
    assert_eq!(open.len(), 1, "{open:?}");
    let open = open[0].to_string();
    assert!(open.contains("whoever can reach 192.0.2.1:1") && open.contains("unencrypted"), "{open}");
}
