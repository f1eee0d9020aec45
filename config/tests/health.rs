//! Checks and health: what is said of mistakes, and what a file comes to.

use std::net::SocketAddr;

use uvs_check::net::Via;
use uvs_check::program::User;
use uvs_check::spec::{Amount, Dns, Grpc, HttpVersion, Kind, OnDown, Pattern, Tls, Unmade};
use uvs_config::Config;
use uvs_director::Duration;

const HEAD: &str = "[[interface]]
name = 'uvs0'
device = 'tap'
addresses = ['192.0.2.1/24', '2001:db8::1/64']
[[route]]
to = '0.0.0.0/0'
via = '192.0.2.254'
";

fn text(check: &str, service: &str, health: &str) -> String {
    format!(
        "{HEAD}{check}
[[service]]
protocol = 'tcp'
address = '192.0.2.10:80'
forward = 'nat'
{service}
[[service.destination]]
address = '192.0.2.21:8080'
[[service.destination]]
address = '192.0.2.22:8080'
weight = 3
check = {{ port = 9000, host = 'b.example.org', path = '/b' }}
{health}"
    )
}

/// A program that is told what happens.
fn notify(lines: &str) -> String {
    text(&format!("{TCP}[[notify]]\nname = 'told'\ncommand = ['/bin/true']\n{lines}\n"), USES, "")
}

#[test]
fn programs_that_are_told_say_of_what() {
    let config = parse(&notify(""));
    let told = &config.notify[0];
    assert_eq!((&*told.name, told.timeout), ("told", Duration::from_secs(10)));
    assert_eq!(
        told.events,
        ["destination_up", "destination_down", "quorum_up", "quorum_down", "backup_up", "backup_down"]
    );
    assert!(told.services.is_empty() && told.destinations.is_empty());
    let config = parse(&notify(
        "events = ['weight']\nservices = ['tcp/192.0.2.10:80', 'tcp 192.0.2.10:80']\n\
         destinations = ['192.0.2.22:8080']\ntimeout = '500ms'",
    ));
    let told = &config.notify[0];
    assert_eq!((&*told.events, told.timeout), (&["weight"][..], Duration::from_millis(500)));
    assert_eq!(told.services, [config.services[0].spec.key; 2]);
    assert_eq!(told.destinations, [addr("192.0.2.22:8080")]);
    let root = |lines: &str| text(&format!("{TCP}{lines}\n"), USES, "");
    let cases = [
        (root("[[notify]]\nname = 'told'"), "notify told has no command", "add command = ["),
        (root("[[notify]]\ncommand = ['/bin/true']"), "notify 1 has no name", "add name = \"announce\""),
        (root("[[notify]]\nname = 'a b'\ncommand = ['/bin/true']"), "notify name \"a b\" is not one", ""),
        (
            notify("[[notify]]\nname = 'told'\ncommand = ['/bin/true']"),
            "a second notify \"told\"",
            "rename it",
        ),
        (root("[[notify]]\nname = 'told'\ncommand = []"), "command names no program", ""),
        (
            root("[[notify]]\nname = 'told'\ncommand = ['/bin/true', '{colour}']"),
            "{colour} in command is none of {event}, ",
            "",
        ),
        (root("[[notify]]\nname = 'told'\ncommand = ['told']"), "is not an absolute path", "no shell looks"),
        (notify("events = ['quorum_lost']"), "there is no event \"quorum_lost\"", "quorum_down"),
        (notify("events = ['notified']"), "there is no event \"notified\"", ""),
        (notify("events = []"), "events is empty: the program would never be run", "remove events"),
        (notify("services = ['tcp/192.0.2.10:81']"), "perhaps \"tcp 192.0.2.10:80\"", ""),
        (notify("destinations = ['192.0.2.29:80']"), "there is no destination 192.0.2.29:80", ""),
        (notify("destinations = ['x']"), "destination \"x\" is not an IP address and a port", ""),
        (notify("user = 'no-such-user'"), "there is no user \"no-such-user\"", "getent passwd"),
        (notify("user = 'root'\ngroup = 'no-such-group'"), "there is no group \"no-such-group\"", "getent"),
        (notify("group = 'root'"), "group without user", "add user"),
        (notify("user = '3999999999'"), "has no entry, so that its group is not known", "add group"),
        (notify("timeout = '1ms'"), "timeout \"1ms\" is out of range", "use \"100ms\" to \"10m\""),
    ];
    for (text, what, fix) in cases {
        let problems = Config::parse(&text, "edge.toml").expect_err(what).to_string();
        assert!(problems.contains(what) && problems.contains(fix), "{what}, {fix}: {problems}");
    }
}

const TCP: &str = "[[check]]\nname = 'web'\ntype = 'tcp'\n";
const USES: &str = "checks = ['web']";

fn parse(text: &str) -> Config {
    Config::parse(text, "edge.toml").unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn mistakes_are_told_with_their_fix() {
    let check = |lines: &str| text(&format!("{TCP}{lines}\n"), USES, "");
    let typed = |lines: &str| text(&format!("[[check]]\nname = 'web'\n{lines}\n"), USES, "");
    let health = |lines: &str| text(TCP, USES, &format!("[service.health]\n{lines}\n"));
    let cases = [
        (typed(""), "check web has no type", "add type = \"tcp\""),
        (typed("type = 'htpp'"), "unknown type \"htpp\"", "did you mean \"http\"?"),
        (typed("type = 'MISC_CHECK'"), "unknown type \"MISC_CHECK\"", "did you mean \"exec\"?"),
        (text("[[check]]\ntype = 'tcp'", "", ""), "check 1 has no name", "add name"),
        (
            text("[[check]]\nname = 'a b'\ntype = 'tcp'", "", ""),
            "check name \"a b\" is not one",
            "use letters",
        ),
        (text(&format!("{TCP}{TCP}"), USES, ""), "a second check \"web\"", "rename it or the one in line 8"),
        (text(TCP, "checks = ['wbe']", ""), "there is no check \"wbe\", perhaps \"web\"", ""),
        (text(TCP, "checks = ['web', 'web']", ""), "check \"web\" stands twice", "remove one"),
        (check("path = '/'"), "path does not go with type = \"tcp\"", "remove it; it is for http, https"),
        (
            typed("type = 'http'\nverify = false"),
            "verify does not go with type = \"http\"",
            "it is for https",
        ),
        (typed("type = 'http'\nca = 'x'"), "ca does not go with type = \"http\"", "it is for https"),
        (typed("type = 'tcp'\nsni = 'x'"), "sni does not go with type = \"tcp\"", "it is for https"),
        (typed("type = 'https'\nsni = 'a b'"), "sni \"a b\" is no name of a host", ""),
        (typed("type = 'https'\nverify = false\nca = 'x'"), "ca says what to verify", "remove one of them"),
        (typed("type = 'https'\nca = ''"), "ca is an empty path", "name the file"),
        (
            typed("type = 'https'\nexpiry_warning = '366d'"),
            "is out of range",
            "use \"0s\" to \"365d\" (0 is none)",
        ),
        (health("on_down = 'rst'"), "unknown on_down \"rst\"", "\"reset\""),
        (
            health("on_down = 'drain'\ndeadline = '2h'"),
            "deadline \"2h\" is out of range",
            "use \"0s\" to \"1h\"",
        ),
        (typed("type = 'https'\nversion = 'h2'"), "unknown version \"h2\"", "did you mean \"2\"?"),
        (typed("type = 'https'\nversion = '3'"), "unknown version \"3\"", "It is one of \"1.1\", \"2\""),
        (
            typed("type = 'grpc'\npath = '/'"),
            "path does not go with type = \"grpc\"",
            "it is for http, https",
        ),
        (
            typed("type = 'grpc'\nsni = 'x'"),
            "sni is of TLS, which the check does not speak",
            "add tls = true",
        ),
        (typed("type = 'grpc'\ntls = false\nverify = true"), "verify is of TLS", "add tls = true"),
        (typed("type = 'grpc'\nservice_name = 'a b'"), "service_name \"a b\" is no name", ""),
        (typed("type = 'https'\ntls = true"), "tls does not go with type = \"https\"", "it is for grpc"),
        (typed("type = 'dns'"), "check web has no query", "add query = \"www.example.org\""),
        (typed("type = 'dns'\nquery = 'a..b'"), "query \"a..b\" is no name of a domain", ""),
        (typed("type = 'dns'\nquery = '.'\nrecord = 'AXFR'"), "record \"AXFR\" is no type of records", ""),
        (
            typed("type = 'dns'\nquery = '.'\nrcode = ['NXDOMIAN']"),
            "no code of a response",
            "perhaps NXDOMAIN",
        ),
        (typed("type = 'dns'\nquery = '.'\ntransport = 'tls'"), "unknown transport \"tls\"", ""),
        (
            typed("type = 'dns'\nquery = '.'\nrcode = ['REFUSED']\nexpect = 'x'"),
            "expect wants a record",
            "add \"NOERROR\" to rcode",
        ),
        (typed("type = 'SSL_GET'"), "unknown type \"SSL_GET\"", "did you mean \"https\"?"),
        (check("interval = '500'"), "interval \"500\" is not a duration", "as in \"500ms\""),
        (check("interval = '1ms'"), "interval \"1ms\" is out of range", "use \"20ms\" to \"1d\""),
        (check("interval = 0.001"), "interval \"0.001s\" is out of range", ""),
        (check("interval = -1"), "interval \"-1s\" is not a duration", ""),
        (check("timeout = true"), "timeout must be a duration, not a boolean", "write timeout = \"500ms\""),
        (check("interval = 1\nfast_interval = 2"), "fast_interval is longer than the interval", ""),
        (check("rise = 0"), "rise 0 is out of range", "use 1 to 100 successes in a row"),
        (check("jitter = 51"), "jitter 51 is out of range", "use 0 to 50 per cent"),
        (check("send = 'a'\nsend_hex = '00'"), "send and send_hex say the same thing twice", "remove one"),
        (check("send_hex = '0'"), "send_hex \"0\" is not pairs of hexadecimal digits", ""),
        (check("send_hex = 'é0'"), "is not pairs of hexadecimal digits", ""),
        (check("expect_regex = '('"), "expect_regex \"(\" is no regular expression: unclosed group", ""),
        (check("expect_regex = 'a{1000}{1000}'"), "it is too large once compiled", ""),
        (check("source = '2001:db8::1'"), "check \"web\" cannot ask 192.0.2.21 from 2001:db8::1", ""),
        (typed("type = 'http'\nstatus = ['99']"), "status \"99\" is no status from 100 to 599", ""),
        (typed("type = 'http'\nstatus = ['299-200']"), "status \"299-200\" is no status", ""),
        (typed("type = 'http'\npath = 'a b'"), "path \"a b\" is not one", ""),
        (typed("type = 'http'\nhost = 'a\\r\\nb'"), "is not the name of one", ""),
        (typed("type = 'http'\nmethod = 'get'"), "method \"get\" is none of GET", ""),
        (typed("type = 'http'\nmethod = 'HEAD'\nexpect = 'x'"), "an answer to HEAD has no body", "use GET"),
        (typed("type = 'exec'"), "check web has no command", "add command = [\"/usr/local/bin/judge\""),
        (typed("type = 'exec'\ncommand = []"), "command names no program", ""),
        (
            typed("type = 'exec'\ncommand = ['judge']"),
            "program \"judge\" is not an absolute path",
            "no shell",
        ),
        (typed("type = 'exec'\ncommand = ['/bin/true', '{ip}']"), "{ip} in command is none of {rip}", ""),
        (typed("type = 'file'"), "check web has no file", ""),
        (
            typed("type = 'agent'"),
            "check \"web\" has no port to ask at destination 192.0.2.21:8080",
            "add port",
        ),
        (health("quorum = 0"), "quorum 0 is out of range", "or a share of all weights as in \"50%\""),
        (health("quorum = '101%'"), "quorum \"101%\" is no share", ""),
        (health("quorun = 1"), "unknown key \"quorun\"", "did you mean \"quorum\"?"),
        (
            health("backup = [{ address = '192.0.2.21:8080' }]"),
            "a second destination 192.0.2.21:8080 of the service",
            "remove it or the one in line",
        ),
        (
            health("backup = ['192.0.2.21:8080']"),
            "an entry of backup must be",
            "write [[service.health.backup]]",
        ),
    ];
    for (text, what, fix) in cases {
        let Err(problems) = Config::parse(&text, "edge.toml") else { panic!("this was taken:\n{text}") };
        let told = problems.to_string();
        assert!(told.contains(what) && told.contains(fix), "{what:?}, {fix:?} in\n{told}\n{text}");
    }
}

#[test]
fn a_check_that_cannot_see_what_matters_is_warned_of() {
    let direct = |service: &str| text(TCP, service, "").replace(":8080", "").replace("forward = 'nat'", "");
    let udp = |check: &str| {
        text(&format!("[[check]]\nname = 'web'\n{check}\n"), USES, "")
            .replace("protocol = 'tcp'", "protocol = 'udp'")
    };
    let health = |lines: &str| text(TCP, USES, &format!("[service.health]\n{lines}\n"));
    let all_ports = |vip: &str| {
        let direct = text(TCP, USES, "").replace("forward = 'nat'", "forward = 'tun'");
        let direct =
            direct.replace("192.0.2.10:80", vip).replace(":8080", "") + "[service.health]\nvia = 'service'\n";
        let direct = direct.replace("name = 'web'\n", "name = 'web'\nport = 80\n");
        direct.replace("protocol = 'tcp'", "protocol = 'tcp'\npersistent = 300")
    };
    let cases = [
        (
            direct("forward = 'dr'\nchecks = ['web']"),
            "by direct routing: one without the VIP on its loopback",
        ),
        (direct("forward = 'tun'\nchecks = ['web']"), "by a tunnel: one that does not unpack the tunnel"),
        (udp("type = 'tcp'"), "check \"web\" asks over TCP, and the service is of UDP"),
        (udp("type = 'udp'"), "only by ICMP port unreachable"),
        (text(TCP, "", ""), "no service uses check \"web\""),
        (text(&format!("{TCP}timeout = 9\n"), USES, ""), "the timeout is longer than the interval"),
        (udp("type = 'exec'\ncommand = ['/nowhere/judge']"), "there is no program \"/nowhere/judge\" yet"),
        (
            udp("type = 'https'\nport = 443\nhost = 'a.example'\nca = '/nowhere/ca.pem'"),
            "there is no file /nowhere/ca.pem yet: the check cannot be made without it",
        ),
        (udp("type = 'https'\nport = 443"), "check \"web\" has neither host nor sni"),
        (
            text("[[check]]\nname = 'web'\ntype = 'dns'\nquery = '.'", USES, "")
                .replace("check = { port = 9000,", "check = {"),
            "check \"web\" asks over UDP, and the service is of TCP",
        ),
        (health("deadline = 5"), "a deadline, but connections of a server that is down go on"),
        (health("quorum = 9"), "quorum 9 is more than all destinations weigh, 4"),
        (text("", "", "[service.health]\nstart = 'up'\n"), "health without checks"),
        (all_ports("192.0.2.1:0"), "takes all ports of 192.0.2.1, and interface uvs0 has no other address"),
    ];
    for (text, what) in cases {
        let warnings: Vec<String> = parse(&text).warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings.iter().filter(|warning| warning.contains(what)).count(),
            1,
            "{what}: {warnings:?}\n{text}"
        );
    }
    assert_eq!(parse(&text(TCP, USES, "")).warnings, []);
    let seen = direct("forward = 'dr'\nchecks = ['web']") + "[service.health]\nvia = 'service'\n";
    assert_eq!(parse(&seen).warnings, []);
    assert_eq!(parse(&all_ports("192.0.2.10:0")).warnings, [], "the interface has an address of its own");
    let two = all_ports("192.0.2.1:0").replace("'192.0.2.1/24'", "'192.0.2.1/24', '192.0.2.2/24'");
    assert_eq!(parse(&two).warnings, [], "there is another one");
}

#[test]
fn the_smallest_form_means_what_it_says() {
    let config = parse(&text(TCP, USES, ""));
    let plan = config.plan();
    assert_eq!(plan.services.len(), 1);
    let service = &plan.services[0];
    assert!(!service.policy.start_up);
    assert_eq!(service.quorum.least, Amount::Weight(1));
    let [first, second] = &service.destinations[..] else { panic!("{service:?}") };
    assert_eq!((first.addr, first.weight, second.weight), (addr("192.0.2.21:8080"), Some(1), Some(3)));
    let check = &first.checks[0];
    assert_eq!((&*check.name, check.rise, check.fall, check.unmade), ("web", 2, 3, Unmade::Keep));
    assert_eq!(check.probe.target.addr(), first.addr);
    assert_eq!(check.probe.schedule.interval, Duration::from_secs(2));
    assert_eq!(check.probe.schedule.timeout, Duration::from_secs(1));
    assert_eq!(second.checks[0].probe.target.addr(), addr("192.0.2.22:9000"), "a port of its own");
    let service = &parse(&text("", "", "")).plan().services[0];
    assert!(!service.judged && service.destinations[0].checks.is_empty(), "nobody asks");
}

#[test]
fn connections_of_a_server_that_is_down_end_as_they_are_told_to() {
    let policy = |lines: &str| {
        let plan = parse(&text(TCP, USES, &format!("[service.health]\n{lines}\n"))).plan();
        plan.services[0].policy.on_down
    };
    let cases = [
        ("", OnDown::Quiesce),
        ("on_down = 'quiesce'", OnDown::Quiesce),
        ("on_down = 'drain'", OnDown::Drain(Duration::from_secs(30))),
        ("on_down = 'drain'\ndeadline = '5m'", OnDown::Drain(Duration::from_secs(300))),
        ("on_down = 'reset'\ndeadline = 0", OnDown::Reset(Duration::ZERO)),
    ];
    for (lines, want) in cases {
        assert_eq!(policy(lines), want, "{lines}");
    }
}

#[test]
fn programs_are_run_as_who_is_named_by_name_or_number() {
    let exec = "[[check]]\nname = 'web'\ntype = 'exec'\ncommand = ['/bin/true']\n";
    let cases = [
        ("", None),
        ("user = 'root'\n", Some((0, 0))),
        ("user = '3999999999'\ngroup = '7'\n", Some((3_999_999_999, 7))),
        ("user = 'root'\ngroup = '7'\n", Some((0, 7))),
    ];
    for (lines, want) in cases {
        let numbers = |user: &Option<User>| user.as_ref().map(|user| (user.uid, user.gid));
        let plan = parse(&text(&format!("{exec}{lines}"), USES, "")).plan();
        let Kind::Exec(exec) = &plan.services[0].destinations[0].checks[0].probe.kind else {
            panic!("{plan:?}")
        };
        assert_eq!(numbers(&exec.user), want, "{lines}");
        assert_eq!(numbers(&parse(&notify(lines)).notify[0].user), want, "{lines}");
    }
}

#[test]
fn connections_have_a_bound_where_the_service_or_the_file_says_so() {
    let seconds = |number| Some(Duration::from_secs(number));
    let cases = [
        ("", "", None),
        ("[timeouts]\ndrain = '5m'\n", "", seconds(300)),
        ("[timeouts]\ndrain = '5m'\n", "drain = 0", seconds(0)),
        ("[timeouts]\ndrain = '5m'\n", "drain = false", None),
        ("[timeouts]\ndrain = false\n", "drain = '1.5s'", Some(Duration::from_millis(1500))),
    ];
    for (root, service, want) in cases {
        let config = parse(&text(root, service, ""));
        assert_eq!(config.services[0].drain, want, "{root}{service}");
        let plan = config.plan();
        assert_eq!(plan.services[0].policy.drain, want, "{root}{service}");
        assert_eq!(plan.drain, if root.contains("5m") { seconds(300) } else { None });
        let again = parse(&config.to_toml(&config));
        assert_eq!((again.services[0].drain, again.drain), (want, config.drain), "as it is exported");
    }
    for (service, what) in [("drain = '25h'", "is out of range"), ("drain = true", "")] {
        let problems = Config::parse(&text("", service, ""), "edge.toml").expect_err(what).to_string();
        assert!(problems.contains(what) && problems.contains("drain"), "{problems}");
    }
}

#[test]
fn destinations_have_their_own_port_host_and_path() {
    let check = "[[check]]\nname = 'web'\ntype = 'http'\nhost = 'a.example.org'\nexpect_regex = '^ok'\ninterval = '500ms'\n";
    let plan = parse(&text(check, USES, "")).plan();
    let http = |index: usize| match &plan.services[0].destinations[index].checks[0].probe.kind {
        Kind::Http(http) => http.clone(),
        kind => panic!("{kind:?}"),
    };
    let (first, second) = (http(0), http(1));
    assert_eq!((first.host.as_deref(), &*first.path), (Some("a.example.org"), "/"));
    assert_eq!((second.host.as_deref(), &*second.path), (Some("b.example.org"), "/b"));
    assert_eq!(first.body, Some(Pattern::Regex("^ok".into())));
    assert_eq!(first.status, [200..=299]);
    assert_eq!(plan.services[0].destinations[0].checks[0].probe.schedule.timeout, Duration::from_millis(500));
}

#[test]
fn https_is_http_over_tls() {
    let plan = |lines: &str| {
        let check = format!("[[check]]\nname = 'web'\ntype = 'https'\n{lines}\n");
        let plan = parse(&text(&check, USES, "")).plan();
        match &plan.services[0].destinations[0].checks[0].probe.kind {
            Kind::Http(http) => (**http).clone(),
            kind => panic!("{kind:?}"),
        }
    };
    let usual = plan("host = 'a.example.org'");
    assert_eq!(usual.version, HttpVersion::Any);
    let tls = usual.tls.expect("TLS");
    assert_eq!(
        tls,
        Tls { sni: None, verify: true, ca: None, expiry_warning: Duration::from_secs(14 * 86_400) }
    );
    let own = plan("sni = 'b.example.org'\nca = 'ca.pem'\nexpiry_warning = '3d'\nversion = '2'");
    assert_eq!(own.version, HttpVersion::Http2);
    let tls = own.tls.expect("TLS");
    assert_eq!(tls.sni.as_deref(), Some("b.example.org"));
    assert_eq!(tls.expiry_warning, Duration::from_secs(3 * 86_400));
    assert!(tls.ca.is_some_and(|path| path.is_absolute() && path.ends_with("ca.pem")));
    assert!(!plan("verify = false").tls.expect("TLS").verify);
}

#[test]
fn grpc_and_dns_mean_what_they_say() {
    let kinds = |lines: &str| {
        let plan = parse(&text(&format!("[[check]]\nname = 'web'\n{lines}\n"), USES, "")).plan();
        let all = plan.services[0].destinations.iter();
        all.map(|destination| destination.checks[0].probe.kind.clone()).collect::<Vec<_>>()
    };
    let plain = Grpc { service: String::new(), host: None, tls: None };
    let own = Grpc { host: Some("b.example.org".into()), ..plain.clone() };
    assert_eq!(kinds("type = 'grpc'"), [Kind::Grpc(plain.into()), Kind::Grpc(own.into())]);
    let lines = "type = 'grpc'\nservice_name = 'a.B'\ntls = true\nverify = false\nhost = 'a.example.org'";
    let tls = Some(Tls { verify: false, ..Tls::default() });
    let secure = Grpc { service: "a.B".into(), host: Some("a.example.org".into()), tls };
    assert_eq!(kinds(lines)[0], Kind::Grpc(secure.into()));
    let dns = Dns { name: "a.example".into(), record: 1, codes: vec![0], expect: None, tcp: false };
    assert_eq!(kinds("type = 'dns'\nquery = 'a.example'")[0], Kind::Dns(dns.clone().into()));
    let lines = "type = 'dns'\nquery = 'a.example'\nrecord = 'mx'\nrcode = ['NOERROR', 'NXDOMAIN']\n\
                 transport = 'tcp'\nexpect_regex = '^10 '";
    let expect = Some(Pattern::Regex("^10 ".into()));
    assert_eq!(
        kinds(lines)[0],
        Kind::Dns(Dns { record: 15, codes: vec![0, 3], expect, tcp: true, ..dns }.into())
    );
}

#[test]
fn what_is_asked_via_the_service_asks_the_vip() {
    let health = "[service.health]\nvia = 'service'\nbackup = [{ address = '192.0.2.99:80', weight = 2 }]\n";
    let config = parse(&text(TCP, USES, health));
    let service = &config.plan().services[0];
    let target = &service.destinations[0].checks[0].probe.target;
    assert_eq!(target.addr(), addr("192.0.2.10:80"));
    assert!(matches!(target.via, Via::Service { destination, .. } if destination == addr("192.0.2.21:8080")));
    let backup = &service.destinations[2];
    assert!(backup.backup && backup.weight == Some(2) && backup.addr == addr("192.0.2.99:80"));
    assert_eq!(config.services[0].destinations.len(), 3, "the engine has it, too");
}

#[test]
fn programs_are_told_whom_they_check() {
    let check = "[[check]]\nname = 'web'\ntype = 'exec'\ncommand = ['/bin/true', '{rip}', '{vip}:{vport}/{protocol}']\n";
    let plan = parse(&text(check, USES, "")).plan();
    let Kind::Exec(exec) = &plan.services[0].destinations[0].checks[0].probe.kind else { panic!("{plan:?}") };
    assert_eq!(exec.command, ["/bin/true", "192.0.2.21", "192.0.2.10:80/tcp"]);
    assert!(exec.environment.contains(&("UVS_RPORT".into(), "8080".into())), "{:?}", exec.environment);
    assert!(exec.environment.contains(&("UVS_SERVICE".into(), "tcp 192.0.2.10:80".into())));
}

#[test]
fn a_passive_check_is_confirmed_by_a_connection_or_by_another_check() {
    let with = |lines: &str, more: &str| {
        text(&format!("{TCP}type = 'passive'\n{lines}\n{more}").replace("type = 'tcp'\n", ""), USES, "")
    };
    let passive = |config: &Config, destination: usize| {
        let plan = config.plan();
        let check = &plan.services[0].destinations[destination].checks[0];
        let Kind::Passive(passive) = &check.probe.kind else { panic!("{check:?}") };
        (passive.clone(), check.probe.target.clone(), check.probe.schedule)
    };
    let config = parse(&with("timeout = '300ms'", ""));
    let (usual, target, schedule) = passive(&config, 0);
    assert_eq!((usual.failures, usual.inhibit.as_secs(), usual.inhibit_max.as_secs()), (5, 5, 300));
    assert_eq!(*usual.confirm, Kind::Tcp(Default::default()));
    assert_eq!((target.port, schedule.timeout.as_millis()), (8080, 300));
    let page =
        "[[check]]\nname = 'page'\ntype = 'http'\nport = 81\ntimeout = '700ms'\nhost = 'a.example.org'\n";
    let config = parse(&with("failures = 2\ninhibit = '10m'\nconfirm = 'page'", page));
    assert!(config.warnings.is_empty(), "it is used: {:?}", config.warnings);
    let (mine, target, schedule) = passive(&config, 0);
    assert_eq!((mine.failures, mine.inhibit.as_secs(), mine.inhibit_max.as_secs()), (2, 600, 600));
    assert_eq!((target.port, schedule.timeout.as_millis()), (81, 700));
    let (there, target, _) = passive(&config, 1);
    let Kind::Http(http) = &*there.confirm else { panic!("{there:?}") };
    assert_eq!((http.host.as_deref(), &*http.path, target.port), (Some("b.example.org"), "/b", 9000));
    let agent = "[[check]]\nname = 'page'\ntype = 'agent'\nport = 81\n";
    let udp = with("", "").replace("protocol = 'tcp'", "protocol = 'udp'");
    let cases = [
        (with("interval = 1", ""), "interval does not go with type = \"passive\"", ""),
        (with("failures = 0", ""), "failures 0 is out of range", "use 1 to 10000 connections in a row"),
        (with("inhibit = '1ms'", ""), "inhibit \"1ms\" is out of range", ""),
        (with("inhibit_max = '1s'", ""), "inhibit_max is shorter than inhibit", ""),
        (
            with("confirm = 'pgae'", page),
            "there is no check \"pgae\", perhaps \"page\" to confirm \"web\"",
            "",
        ),
        (with("confirm = 'page'", agent), "check \"page\" of type \"agent\" confirms nothing", ""),
        (udp, "is confirmed by a connection of TCP, and the service is none", "add confirm ="),
    ];
    for (text, what, fix) in cases {
        let problems = Config::parse(&text, "edge.toml").expect_err(what).to_string();
        assert!(problems.contains(what) && problems.contains(fix), "{what}, {fix}: {problems}");
    }
}

/// A destination with checks of its own has those and no others, and `[]` is none; a service whose destinations alone
/// name checks is judged, too.
#[test]
fn a_destination_has_checks_of_its_own() {
    let own = |service: &str, own: &str| {
        let text = text(&format!("{TCP}[[check]]\nname = 'icmp'\ntype = 'ping'\n"), service, "");
        text.replace("weight = 3\n", &format!("weight = 3\nchecks = {own}\n"))
    };
    let names = |text: &str| -> Vec<Vec<String>> {
        let plan = parse(text).plan();
        assert!(plan.services[0].judged);
        let of =
            |checks: &[uvs_check::spec::CheckPlan]| checks.iter().map(|it| it.name.to_string()).collect();
        plan.services[0].destinations.iter().map(|it| of(&it.checks)).collect()
    };
    assert_eq!(names(&own(USES, "['icmp']")), [["web"], ["icmp"]]);
    assert_eq!(names(&own(USES, "[]")), [vec!["web"], vec![]]);
    assert_eq!(names(&own("", "['icmp', 'web']")), [vec![], vec!["icmp", "web"]]);
    // What is asked of nobody is not missed, and what is used by one is used.
    let config = parse(&own("", "['icmp', 'web']"));
    assert!(
        !config.warnings.iter().any(|it| it.to_string().contains("no service uses")),
        "{:?}",
        config.warnings
    );
    let problems = Config::parse(&own(USES, "['icpm']"), "edge.toml").expect_err("no such check").to_string();
    assert!(problems.contains("there is no check \"icpm\", perhaps \"icmp\""), "{problems}");
    let problems = Config::parse(&own(USES, "['web', 'web']"), "edge.toml").expect_err("twice").to_string();
    assert!(problems.contains("check \"web\" stands twice"), "{problems}");
}

#[test]
fn the_full_example_is_taken_whole() {
    let config = Config::load(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/full.toml")).expect("valid");
    assert_eq!(config.checks.len(), 9);
    let plan = config.plan();
    let judged: Vec<_> = plan.services.iter().filter(|service| service.judged).collect();
    assert_eq!(judged.len(), 2);
    let checked = judged.iter().flat_map(|service| &service.destinations);
    assert_eq!(checked.map(|destination| destination.checks.len()).collect::<Vec<_>>(), [4, 4, 1, 5]);
}
