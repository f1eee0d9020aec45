//! What a person is told about a wrong config, to the letter.

mod http;
mod marks;
mod network;
mod service;
mod sticky;
mod text;
mod tunnel;
mod workers;

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use uvs_config::{Config, Problems};

/// The valid config that every case spoils in one place: lines 1 to 11.
const HEAD: &str = "[[interface]]
name = 'uvs0'
device = 'tap'
addresses = ['192.0.2.1/24']
[[interface]]
name = 'uvs1'
device = 'tun'
addresses = ['10.0.0.2/30', '10.9.9.9/32']
[[route]]
to = '198.51.100.0/24'
via = '192.0.2.254'
";

/// Lines 12 to 17.
const SERVICE: &str = "[[service]]
protocol = 'tcp'
address = '192.0.2.10:443'
forward = 'nat'
[[service.destination]]
address = '192.0.2.21:443'
";

/// Its name, the text of a config, and every word that is said about it.
type Case = (&'static str, String, &'static str);

/// The config with one text replaced by another.
fn replaced(from: &str, to: &str) -> String {
    let text = format!("{HEAD}{SERVICE}");
    assert!(text.contains(from), "{from:?} is in the text");
    text.replacen(from, to, 1)
}

/// The config with something after it.
fn added(text: &str) -> String {
    format!("{HEAD}{SERVICE}{text}\n")
}

/// The config with more about its service, from line 16 on.
fn added_to_service(lines: &str) -> String {
    replaced("forward = 'nat'\n", &format!("forward = 'nat'\n{lines}\n"))
}

/// The config with something before it.
fn prefixed(text: &str) -> String {
    format!("{text}\n{HEAD}{SERVICE}")
}

/// The config with one more destination, whose header is in line 18.
fn destination(lines: &str) -> String {
    added(&format!("[[service.destination]]\n{lines}"))
}

fn problems(text: &str, path: impl AsRef<Path>) -> Problems {
    match Config::parse(text, path) {
        Ok(_) => panic!("this was taken:\n{text}"),
        Err(problems) => problems,
    }
}

#[test]
fn problems_say_what_where_and_how_to_fix() {
    let cases = [
        text::cases(),
        network::cases(),
        service::cases(),
        sticky::cases(),
        tunnel::cases(),
        marks::cases(),
        workers::cases(),
        http::cases(),
    ];
    for (name, text, want) in cases.into_iter().flatten() {
        assert_eq!(problems(&text, "edge.toml").to_string(), want.trim(), "{name}:\n{text}");
    }
}

#[test]
fn the_config_that_the_cases_spoil_is_good() {
    let config = Config::parse(&format!("{HEAD}{SERVICE}"), "edge.toml").expect("valid");
    assert_eq!(config.warnings, []);
}

#[test]
fn lines_are_those_of_an_editor() {
    let text = replaced("forward = 'nat'", "# ü\nforwrad = 'nat'").replace('\n', "\r\n");
    assert_eq!(problems(&text, "edge.toml")[0].line, Some(16), "line feeds of Windows");
    let text = format!("\u{feff}{}", replaced("name = 'uvs0'", "nome = 'uvs0'"));
    assert_eq!(problems(&text, "edge.toml")[0].line, Some(2), "a byte order mark");
}

#[test]
fn files_that_are_no_text_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("edge.toml");
    let told = |path: &Path| Config::load(path).expect_err("no config").to_string();
    let fix = "give the path of a readable config file (examples: config/examples)";
    let want = format!(
        "error: the config cannot be read: No such file or directory (os error 2)\n  where: {}\n  fix:   {fix}",
        path.display()
    );
    assert_eq!(told(&path), want);
    std::fs::write(&path, b"# one\n# \xff\n").expect("written");
    let want = format!(
        "error: the config is not UTF-8 text\n  where: {}:2\n  fix:   save the file as UTF-8",
        path.display()
    );
    assert_eq!(told(&path), want);
}

#[test]
fn what_has_no_end_or_never_begins_is_refused_and_a_pipe_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = |problems: Result<Config, uvs_config::Problems>| problems.expect_err("no config").to_string();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let text = told(Config::load_regular(&fifo));
    assert!(text.starts_with("error: the config cannot be read: it is a FIFO\n"), "{text}");
    let text = told(Config::load_regular("/dev/zero"));
    assert!(text.starts_with("error: the config cannot be read: it is a device\n"), "{text}");
    let text = told(Config::load_regular(folder.path()));
    assert!(text.starts_with("error: the config cannot be read: it is a folder\n"), "{text}");

    let too_long = "error: the config cannot be read: it is longer than 16777216 bytes\n";
    let text = told(Config::load("/dev/zero"));
    assert!(text.starts_with(too_long), "{text}");
    let large = folder.path().join("large.toml");
    std::fs::File::create(&large).and_then(|file| file.set_len(200 << 20)).expect("a sparse file");
    for text in [told(Config::load(&large)), told(Config::load_regular(&large))] {
        assert!(text.starts_with(too_long), "{text}");
    }

    let writer = {
        let (fifo, text) = (fifo.clone(), format!("{HEAD}{SERVICE}"));
        std::thread::spawn(move || std::fs::write(fifo, text))
    };
    let config = Config::load(&fifo).expect("a config from a pipe");
    assert_eq!(config.services.len(), 1);
    writer.join().expect("no panic").expect("written");
}

#[test]
fn modules_are_looked_for_beside_the_config() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mine.wasm"), "module").expect("written");
    let path = folder.path().join("edge.toml");
    let text = replaced("forward = 'nat'", "forward = 'nat'\nscheduler = 'mine.wasm'");
    let config = Config::parse(&text, &path).expect("valid");
    let service = &config.services[0];
    let module = service.module.as_ref().expect("a module");
    assert_eq!(module.path, folder.path().join("mine.wasm"));
    assert_eq!(service.spec.scheduler.name, module.path.to_str().expect("UTF-8"));
    // What is in the module is judged elsewhere, and told in the same way.
    let problem =
        config.problem(&service.scheduler_location, "not a component", "build it with cargo xtask wasm");
    let want = format!(
        "error: not a component\n  where: {}:16, service tcp 192.0.2.10:443\n  fix:   build it with cargo xtask wasm",
        path.display()
    );
    assert_eq!(problem.to_string(), want);
}

#[test]
fn odd_but_possible_configs_are_warned_about() {
    let without = format!("{HEAD}[[service]]\nprotocol = 'udp'\naddress = '192.0.2.10:53'\n");
    let unrouted = replaced("'10.9.9.9/32']", "'10.9.9.9/32']\nhost = { routes = ['10.9.9.8/32'] }")
        .replace("192.0.2.10:443", "10.9.9.9:443");
    let marked = "[[service]]\nmark = 7\nforward = 'nat'\ndestination = [{ address = '192.0.2.22' }]\n";
    let cases = [
        (
            "service without destinations",
            without,
            "warning: the service has no destination: nothing answers its clients\n  \
             where: edge.toml:12, service udp 192.0.2.10:53\n  \
             fix:   add [[service.destination]] with its address below it",
        ),
        (
            "VIP that the host does not route into its TUN",
            unrouted,
            "warning: the host's kernel is not told to route VIP 10.9.9.9 into uvs1\n  \
             where: edge.toml:15, service tcp 10.9.9.9:443\n  \
             fix:   add \"10.9.9.9/32\" to the host.routes of interface uvs1, unless the route is there",
        ),
        (
            "service whose destinations take nothing",
            replaced(
                "forward = 'nat'",
                "forward = 'nat'\ndestination = [{ address = '192.0.2.21', weight = 0 }]",
            )
            .split("[[service.destination]]")
            .next()
            .expect("there is text before it")
            .to_owned(),
            "warning: all destinations of the service have weight 0: none of them takes a connection\n  \
             where: edge.toml:12, service tcp 192.0.2.10:443\n  \
             fix:   give at least one a weight above 0, or leave weight out, which is 1",
        ),
        (
            "NAT in the clients' subnet",
            replaced("via = '192.0.2.254'", "via = '10.0.0.1'"),
            "warning: destination 192.0.2.21:443 is reached by NAT in the subnet of the VIP, 192.0.2.1/24: answers to \
             clients there go past the director, and the clients do not know them\n  \
             where: edge.toml:12, service tcp 192.0.2.10:443\n  \
             fix:   use forward = \"dr\", or put the servers into a subnet of their own; if clients come through a router, \
             name it in a [[route]]",
        ),
        (
            "interfaces with one subnet",
            added("[[interface]]\nname = 'uvs9'\ndevice = 'tap'\naddresses = ['192.0.2.9/24']"),
            "warning: the subnet of 192.0.2.9/24 is that of interface uvs0 (line 1), too: packets to it leave by one of \
             them alone\n  \
             where: edge.toml:18, interface uvs9\n  \
             fix:   give each interface a subnet of its own",
        ),
        (
            "tunnel that no destination has",
            replaced("forward = 'nat'", "forward = 'nat'\ntunnel = { type = 'gre' }"),
            "warning: no destination of the service is reached by a tunnel\n  \
             where: edge.toml:16, service tcp 192.0.2.10:443\n  \
             fix:   use forward = \"tun\", or remove tunnel",
        ),
        (
            "mark that no service uses",
            added("[[mark]]\nmark = 7\ninterface = 'uvs0'"),
            "warning: no service uses mark 7\n  \
             where: edge.toml:18, mark 7\n  \
             fix:   add a [[service]] with mark = 7, or remove the rule",
        ),
        (
            "mark that no service of its family uses",
            added(&format!("{marked}[[mark]]\nmark = 7\n[[mark]]\nmark = 7\nsource = '2001:db8::/32'"))
                .replacen("[[mark]]\nmark = 7\n", "[[mark]]\nmark = 7\nprotocol = 'udp'\n", 1),
            "warning: no service of IPv6 uses mark 7, and the rule matches IPv6 only\n  \
             where: edge.toml:25, mark 7\n  \
             fix:   add a [[service]] with mark = 7 and family = \"ipv6\"",
        ),
        (
            "service whose mark no rule gives",
            added(marked),
            "warning: no rule gives mark 7 to packets of IPv4: the service has no clients\n  \
             where: edge.toml:18, service fwmark 7\n  \
             fix:   add [[mark]] with mark = 7 and what its packets look like",
        ),
        (
            "rule behind a wider one",
            added(&format!(
                "{marked}[[mark]]\nmark = 7\nsource = '10.0.0.0/8'\ndestination_ports = '80-90'\n\
                 [[mark]]\nmark = 7\nprotocol = 'tcp'\nsource = '10.1.0.0/16'\ndestination_ports = 80"
            )),
            "warning: the rule is never reached: the one in line 22 matches first\n  \
             where: edge.toml:26, mark 7\n  \
             fix:   put it before that one, or remove it",
        ),
    ];
    for (name, text, want) in cases {
        let config =
            Config::parse(&text, "edge.toml").unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let told: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(told, [want], "{name}");
    }
}

proptest! {
    /// Whatever is written, there is an answer, and it points into the file.
    #[test]
    fn spoilt_text_never_panics(
        cuts in proptest::collection::vec((any::<Index>(), any::<Index>(), "[ -~\n\u{e9}]{0,6}"), 1..5),
    ) {
        let mut text = include_str!("../../examples/full.toml").to_owned();
        for (start, length, with) in cuts {
            let start = (0..=start.index(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            let end = start + length.index(20);
            let end = (end..).find(|&at| at >= text.len() || text.is_char_boundary(at)).unwrap_or(start);
            text.replace_range(start..end.min(text.len()), &with);
        }
        if let Err(problems) = Config::parse(&text, "edge.toml") {
            prop_assert!(!problems.is_empty());
            let lines = text.matches('\n').count() + 1;
            for problem in problems {
                prop_assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)), "{}", problem);
            }
        }
    }
}
