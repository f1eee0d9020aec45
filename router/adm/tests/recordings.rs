//! The parser and the formats against everything that a real ipvsadm was asked and answered (tests/golden).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use uvs_adm::format::{self, Columns, Layout};
use uvs_adm::{Command, parse, split_words};
use uvs_director::Duration;
use uvs_director::spec::{Change, Protocol, ServiceKey, Timeouts};
use uvs_director::view::{
    ConnectionProtocol, ConnectionView, Counters, DestinationView, Rates, ServiceView, Status,
};

fn scenarios() -> Vec<(String, Value)> {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let mut all = Vec::new();
    for folder in [golden.clone(), golden.join("random")] {
        for entry in std::fs::read_dir(&folder).expect("the recordings are there") {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") && !path.ends_with("INDEX.json")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                all.push((path.display().to_string(), serde_json::from_str(&text).unwrap()));
            }
        }
    }
    assert!(all.len() >= 132, "{} recordings", all.len());
    all
}

fn steps<'a>(scenario: &'a Value, action: &'a str) -> impl Iterator<Item = &'a Value> {
    scenario["steps"].as_array().unwrap().iter().filter(move |step| step["action"] == action)
}

/// Recorded invocations that stand alone on their shell's line.
fn invocations(scenario: &Value) -> impl Iterator<Item = (Vec<String>, &str, u64)> {
    steps(scenario, "command").filter_map(|step| {
        let line = step["cmd"].as_str().unwrap();
        let words = split_words(line);
        let plain =
            words.first().is_some_and(|word| word == "ipvsadm") && !line.contains([';', '|', '>', '<']);
        plain.then(|| (words[1..].to_vec(), step["output"].as_str().unwrap(), step["rc"].as_u64().unwrap()))
    })
}

fn parsed(words: &[String]) -> Result<Command, uvs_adm::Failure> {
    parse(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn every_recorded_command_line_is_taken_or_refused_as_recorded() {
    let mut seen = 0;
    for (name, scenario) in scenarios() {
        for (words, output, code) in invocations(&scenario) {
            seen += 1;
            // 255 is mostly the kernel's refusal, which parsing cannot know.
            match (parsed(&words), code) {
                (Ok(_), 0 | 1 | 255) => {}
                (Err(failure), _) => {
                    assert_eq!(u64::from(failure.exit_code), code, "{name}: {words:?}: {failure}");
                    assert_eq!(format!("{}\n", failure.message), output, "{name}: {words:?}");
                }
                (Ok(command), _) => {
                    panic!("{name}: {words:?} was refused with {code}, here it is {command:?}")
                }
            }
        }
    }
    assert!(seen > 1300, "{seen} command lines");
}

/// The table that `-S -n` text describes, without counts.
fn table(rules: &str) -> Vec<ServiceView> {
    let mut services: Vec<ServiceView> = Vec::new();
    for line in rules.lines() {
        match parsed(&split_words(line)).unwrap() {
            Command::Change(Change::AddService(spec)) => services.push(ServiceView {
                feedback_lost: 0,
                spec,
                counters: Counters::default(),
                rates: Rates::default(),
                destinations: Vec::new(),
            }),
            Command::Change(Change::AddDestination(key, spec)) => {
                let service = services.iter_mut().find(|service| service.spec.key == key).unwrap();
                service.destinations.push(DestinationView {
                    spec,
                    local: false,
                    active: 0,
                    inactive: 0,
                    persistent: 0,
                    overloaded: false,
                    counters: Counters::default(),
                    rates: Rates::default(),
                });
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    services
}

fn numbers<const N: usize>(line: &str) -> [u64; N] {
    let words: Vec<&str> = line.split_whitespace().collect();
    let last = &words[words.len() - N..];
    std::array::from_fn(|index| last[index].parse().unwrap_or_else(|_| panic!("{line}")))
}

fn counters(line: &str) -> Counters {
    let [connections, packets_in, packets_out, bytes_in, bytes_out] = numbers(line);
    Counters { connections, packets_in, packets_out, bytes_in, bytes_out }
}

/// Lines behind the heading in pairs with the services and destinations they are about, both in sorted order.
fn fill(services: &mut [ServiceView], text: &str, heading: usize, mut set: impl FnMut(Row<'_>, &str)) {
    let mut lines = text.lines().skip(heading);
    for service in services.iter_mut() {
        let line = lines.next().unwrap();
        set(Row::Service(service), line);
        for destination in &mut service.destinations {
            set(Row::Destination(destination), lines.next().unwrap());
        }
    }
    assert_eq!(lines.next(), None);
}

enum Row<'a> {
    Service(&'a mut ServiceView),
    Destination(&'a mut DestinationView),
}

fn fill_loads(services: &mut [ServiceView], listing: &str) {
    fill(services, listing, 3, |row, line| {
        if let Row::Destination(destination) = row {
            let [active, inactive] = numbers(line);
            destination.active = u32::try_from(active).unwrap();
            destination.inactive = u32::try_from(inactive).unwrap();
        }
    });
}

fn fill_counters(services: &mut [ServiceView], listing: &str) {
    fill(services, listing, 3, |row, line| match row {
        Row::Service(service) => service.counters = counters(line),
        Row::Destination(destination) => destination.counters = counters(line),
    });
}

fn with(columns: Columns) -> Layout {
    Layout { columns, ..Layout::default() }
}

/// Services with their destinations, sorted: the kernel's order of services is that of a hash.
fn groups(text: &str, heading: usize) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in text.lines().skip(heading) {
        if line.starts_with("  ->") {
            groups.get_mut(current).unwrap().push(line);
        } else {
            current = line;
            groups.insert(line, Vec::new());
        }
    }
    groups.values_mut().for_each(|lines| lines.sort_unstable());
    groups
}

/// Whether a connection was about to end while the texts were taken, so that they need not agree with each other.
fn expiring(snapshot: &Value) -> bool {
    let lines = snapshot["proc_ip_vs_conn"].as_str().unwrap().lines().skip(1);
    lines.map(connection).any(|connection| connection.expires_in < Duration::from_secs(12))
}

#[test]
fn every_final_snapshot_is_printed_as_recorded() {
    for (name, scenario) in scenarios() {
        for snapshot in steps(&scenario, "snapshot") {
            let text = |key: &str| snapshot[key].as_str().unwrap();
            let mut services = table(text("save"));
            assert_eq!(format::services_as(&services, with(Columns::Rules)), text("save"), "{name}");
            fill_loads(&mut services, text("Ln"));
            assert_eq!(format::services(&services), text("Ln"), "{name}");
            fill_counters(&mut services, text("stats"));
            assert_eq!(format::services_as(&services, with(Columns::Stats)), text("stats"), "{name}");
            if expiring(snapshot) {
                continue;
            }
            let ours = format::proc_services(&services);
            assert_eq!(groups(&ours, 3), groups(text("proc_ip_vs"), 3), "{name}");
            assert!(text("proc_ip_vs").starts_with(&ours.lines().take(3).collect::<Vec<_>>().join("\n")));
        }
    }
}

#[test]
fn every_layout_is_printed_as_recorded() {
    let (_, scenario) =
        scenarios().into_iter().find(|(name, _)| name.ends_with("ipvsadm_text.json")).unwrap();
    let recorded: BTreeMap<String, String> =
        invocations(&scenario).map(|(words, output, _)| (words.join(" "), output.to_owned())).collect();
    let mut services = table(&recorded["-Sn"]);
    fill_loads(&mut services, &recorded["-Ln"]);
    fill_counters(&mut services, &recorded["-Ln --stats"]);
    fill(&mut services, &recorded["-Ln --thresholds"], 3, |row, line| {
        if let Row::Destination(destination) = row {
            let [upper, lower, ..] = numbers::<4>(line);
            destination.spec.upper_threshold = u32::try_from(upper).unwrap();
            destination.spec.lower_threshold = u32::try_from(lower).unwrap();
        }
    });
    fill(&mut services, &recorded["-Ln --persistent-conn"], 3, |row, line| {
        if let Row::Destination(destination) = row {
            destination.persistent = u32::try_from(numbers::<3>(line)[0]).unwrap();
        }
    });
    fill(&mut services, &recorded["-Ln --rate"], 3, |row, line| {
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = numbers(line);
        let rates = Rates { connections, packets_in, packets_out, bytes_in, bytes_out };
        match row {
            Row::Service(service) => service.rates = rates,
            Row::Destination(destination) => destination.rates = rates,
        }
    });
    let mut checked = 0;
    for (line, output) in &recorded {
        let words: Vec<String> = split_words(line);
        let ours = match parsed(&words) {
            Ok(Command::List { service: None, layout }) if layout.sorted => {
                format::services_as(&services, layout)
            }
            Ok(Command::List { service: Some(key), layout }) => {
                match services.iter().find(|service| service.spec.key == key) {
                    Some(service) => format::service_as(service, layout),
                    None => continue,
                }
            }
            Ok(Command::Save(layout)) => format::services_as(&services, layout),
            Ok(Command::ListTimeouts) => format::timeouts(Timeouts::default()),
            Ok(Command::Help) => format::usage(),
            Ok(Command::Version) => format::version().to_owned(),
            _ => continue,
        };
        checked += 1;
        assert_eq!(&ours, output, "ipvsadm {line}");
    }
    assert!(checked >= 16, "{checked} listings");
}

/// A line of `/proc/net/ip_vs_conn`, read back.
fn connection(line: &str) -> ConnectionView {
    let words: Vec<&str> = line.split_whitespace().collect();
    let end = |index: usize| {
        let port = u16::from_str_radix(words[index + 1], 16).unwrap();
        let addr = words[index];
        let addr = match u32::from_str_radix(addr, 16) {
            Ok(bits) => std::net::Ipv4Addr::from_bits(bits).into(),
            Err(_) => addr.parse().unwrap(),
        };
        std::net::SocketAddr::new(addr, port)
    };
    ConnectionView {
        protocol: match words[0] {
            "TCP" => ConnectionProtocol::Transport(Protocol::Tcp),
            "UDP" => ConnectionProtocol::Transport(Protocol::Udp),
            "SCTP" => ConnectionProtocol::Transport(Protocol::Sctp),
            _ => ConnectionProtocol::Ip,
        },
        client: end(1),
        virtual_addr: end(3),
        destination: end(5),
        forwarding: uvs_director::spec::Forwarding::Nat,
        state: words[7].to_owned().leak(),
        expires_in: Duration::from_secs(words[8].parse().unwrap()),
        template: false,
        active: false,
    }
}

#[test]
fn every_connection_list_is_printed_as_recorded() {
    let mut lines = 0;
    for (name, scenario) in scenarios() {
        for snapshot in steps(&scenario, "snapshot") {
            let recorded = snapshot["proc_ip_vs_conn"].as_str().unwrap();
            let connections: Vec<ConnectionView> = recorded.lines().skip(1).map(connection).collect();
            assert_eq!(format::proc_connections(&connections), recorded, "{name}");
            // -Lnc was taken a moment before; its ends and states are the same.
            let without_time = |text: &str| -> Vec<String> {
                text.lines().map(|line| format!("{}{}", &line[..3], line.get(10..).unwrap_or(""))).collect()
            };
            let recorded = snapshot["Lnc"].as_str().unwrap();
            if !expiring(snapshot) {
                lines += connections.len();
                assert_eq!(
                    without_time(&format::connections(&connections)),
                    without_time(recorded),
                    "{name}"
                );
            }
        }
    }
    assert!(lines > 500, "{lines} connections");
}

#[test]
fn the_other_files_are_printed_as_recorded() {
    let (_, scenario) =
        scenarios().into_iter().find(|(name, _)| name.ends_with("ipvsadm_text.json")).unwrap();
    let recorded = |command: &str| {
        let step = steps(&scenario, "command").find(|step| step["cmd"] == command).unwrap();
        step["output"].as_str().unwrap().to_owned()
    };
    let status = Status {
        total: Counters {
            connections: 0x10,
            packets_in: 0x1a,
            packets_out: 0,
            bytes_in: 0x430,
            bytes_out: 0,
        },
        rates: Rates { connections: 1, packets_in: 2, packets_out: 0, bytes_in: 0x64, bytes_out: 0 },
        ..Status::default()
    };
    assert_eq!(format::proc_stats(&status), recorded("cat /proc/net/ip_vs_stats"));
    assert_eq!(
        format::proc_stats_percpu(&[status.total], &status),
        recorded("cat /proc/net/ip_vs_stats_percpu")
    );
    let ftp = format::App { protocol: Protocol::Tcp, port: 21, users: 0, name: "ftp" };
    assert_eq!(format::proc_apps(&[ftp]), recorded("cat /proc/net/ip_vs_app"));
    let sync = recorded("cat /proc/net/ip_vs_conn_sync");
    let connections: Vec<ConnectionView> =
        sync.lines().skip(1).map(|line| connection(&line.replace("LOCAL", ""))).collect();
    assert_eq!(format::proc_connections_sync(&connections), sync);
    let services = table(&recorded("ipvsadm -Sn"));
    assert!(services.iter().any(|service| matches!(service.spec.key, ServiceKey::Mark { mark: 8, .. })));
    let ours = format::proc_services(&services);
    let (ours, theirs) = (groups(&ours, 3), recorded("cat /proc/net/ip_vs"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), groups(&theirs, 3).keys().collect::<Vec<_>>());
}

#[test]
fn a_sync_daemon_is_listed_as_recorded() {
    let (_, scenario) = scenarios().into_iter().find(|(name, _)| name.ends_with("sync_master.json")).unwrap();
    let recorded: Vec<_> = invocations(&scenario).collect();
    let start = recorded.iter().find(|(words, ..)| words[0] == "--start-daemon").unwrap();
    let Ok(Command::StartDaemon(daemon)) = parsed(&start.0) else { panic!("{:?}", parsed(&start.0)) };
    let list = recorded.iter().find(|(words, ..)| words.join(" ") == "-L --daemon").unwrap();
    assert_eq!(format::daemons(&[daemon]), list.1);
}

#[test]
fn wrong_command_lines_are_refused_with_ipvsadms_words() {
    let cases: &[(&str, &str, u8)] = &[
        ("foo", "Try `ipvsadm -h' or 'ipvsadm --help' for more information.", 255),
        ("-n -L", "Try `ipvsadm -h' or 'ipvsadm --help' for more information.", 255),
        ("-L --bogus", "--bogus: unknown option", 255),
        ("-a -t 10.0.0.1:80 -r", "-r: missing argument", 255),
        ("-L -s rr", "Illegal 'scheduler' option with the 'list' command", 2),
        (
            "-L -c -t 10.0.0.1:80",
            "The option 'service-address' conflicts with the 'connection' option in the 'list' command",
            2,
        ),
        ("-L -c --stats", "options conflicts in the list command", 2),
        ("-L -n -n", "multiple 'numeric' options specified", 2),
        ("-a -t 10.0.0.1:80", "You need to supply the 'real-server' option for the 'add-server' command", 2),
        ("-C foo", "unexpected argument foo", 2),
        ("-A -t 10.0.0.1:80 -o", "One-Packet Scheduling is only for UDP virtual services", 2),
        ("-A -t 10.0.0.1:80 -s rr -b sh-port", "incompatible scheduler flag `sh-port'", 2),
        ("-A -t 10.0.0.1:80 -s sh -b port", "invalid scheduler flag `port'", 2),
        ("-A -f 0", "invalid fwmark value `0' specified", 2),
        ("-A -6 -f 1", "-6 used before -f\n", 2),
        ("-A -t 10.0.0.1:80 -p 1 -M 255.0.255.0", "illegal virtual server persistent mask specified", 2),
        ("-A -t [fd00::1]:80 -p 1 -M 129", "illegal ipv6 netmask specified", 2),
        ("-A -t 10.0.0.1:80 -p 1 --pe nosuch", "Scheduler or persistence engine not found", 255),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -m --tun-type ipip",
            "Tunnel options conflict with forward method",
            2,
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue",
            "You need to supply the 'tun-port' option for the 'gue' tunnel type",
            2,
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-csum",
            "Illegal 'tun-csum' option with the 'ipip' tunnel type",
            2,
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gre --tun-csum --tun-nocsum",
            "The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gre' tunnel type",
            2,
        ),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type vxlan", "illegal tunnel type specified", 2),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -i -m", "multiple 'forwarding-method' options specified", 2),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -w 2147483648", "illegal weight specified", 2),
        ("-a -t www.example.com:80 -r 10.0.0.2", "illegal virtual server address[:port] specified", 2),
        ("--set 1 2 x", "invalid timeout value `x' specified", 2),
        ("--start-daemon both", "illegal start-daemon parameter specified", 2),
        ("--start-daemon master --mcast-group 10.0.0.1", "invalid IPv4 mcast-group `10.0.0.1'", 2),
    ];
    for (line, message, code) in cases {
        let failure = parsed(&split_words(line)).expect_err(line);
        assert_eq!((failure.message.as_str(), failure.exit_code), (*message, *code), "{line}");
    }
}
