//! `[[check]]`: what is asked, and what is expected.

use core::net::IpAddr;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uvs_check::net::Echo;
use uvs_check::probe::check_regex;
use uvs_check::spec::{Exec, FileCheck, FileMeaning, Kind, Passive, Pattern, Schedule, Talk, Unmade};
use uvs_director::Duration;

use crate::command::{command, user};
use crate::duration::Span;
use crate::model::{Check, Health, Service};
use crate::problem::Location;
use crate::read::{At, Doc, Integer, Keys, Table};
use crate::suggest::nearest;
use crate::tls::path;

pub(crate) const CHECK: Keys = &[
    "name",
    "type",
    "interval",
    "fast_interval",
    "down_interval",
    "timeout",
    "jitter",
    "rise",
    "fall",
    "unmade",
    "port",
    "source",
    "mark",
    "send",
    "send_hex",
    "expect",
    "expect_regex",
    "answer",
    "method",
    "path",
    "host",
    "status",
    "version",
    "sni",
    "verify",
    "ca",
    "expiry_warning",
    "service_name",
    "tls",
    "query",
    "record",
    "rcode",
    "transport",
    "payload",
    "do_not_fragment",
    "command",
    "user",
    "group",
    "dynamic",
    "file",
    "meaning",
    "failures",
    "inhibit",
    "inhibit_max",
    "confirm",
];

/// Those that are asked over the network at a port.
const AT_A_PORT: &[&str] = &["tcp", "http", "https", "grpc", "udp", "dns", "agent", "passive"];
const OVER_THE_NETWORK: &[&str] = &["tcp", "http", "https", "grpc", "udp", "dns", "ping", "agent", "passive"];
const PASSIVE: &[&str] = &["passive"];
const HTTP: &[&str] = &["http", "https"];
const OVER_TLS: &[&str] = &["https", "grpc"];
const WITH_EXPECT: &[&str] = &["tcp", "udp", "http", "https", "dns"];
/// Those that come up and go down by results in a row.
const IN_A_ROW: &[&str] = &["tcp", "http", "https", "grpc", "udp", "dns", "ping", "exec", "file"];

/// Those that only some types have.
const OF_TYPES: &[(&str, &[&str])] = &[
    ("port", AT_A_PORT),
    ("source", OVER_THE_NETWORK),
    ("mark", OVER_THE_NETWORK),
    ("send", &["tcp", "udp", "agent"]),
    ("send_hex", &["tcp", "udp"]),
    ("expect", WITH_EXPECT),
    ("expect_regex", WITH_EXPECT),
    ("answer", &["udp"]),
    ("method", HTTP),
    ("path", HTTP),
    ("host", &["http", "https", "grpc"]),
    ("status", HTTP),
    ("version", HTTP),
    ("sni", OVER_TLS),
    ("verify", OVER_TLS),
    ("ca", OVER_TLS),
    ("expiry_warning", OVER_TLS),
    ("service_name", &["grpc"]),
    ("tls", &["grpc"]),
    ("query", &["dns"]),
    ("record", &["dns"]),
    ("rcode", &["dns"]),
    ("transport", &["dns"]),
    ("payload", &["ping"]),
    ("do_not_fragment", &["ping"]),
    ("command", &["exec"]),
    ("user", &["exec"]),
    ("group", &["exec"]),
    ("dynamic", &["exec"]),
    ("file", &["file"]),
    ("meaning", &["file"]),
    ("failures", PASSIVE),
    ("inhibit", PASSIVE),
    ("inhibit_max", PASSIVE),
    ("confirm", PASSIVE),
    ("rise", IN_A_ROW),
    ("fall", IN_A_ROW),
    ("fast_interval", IN_A_ROW),
    ("down_interval", IN_A_ROW),
    ("interval", &["tcp", "http", "https", "grpc", "udp", "dns", "ping", "exec", "file", "agent"]),
];

const TYPES: &[(&str, &str)] = &[
    ("tcp", "tcp"),
    ("http", "http"),
    ("https", "https"),
    ("grpc", "grpc"),
    ("udp", "udp"),
    ("dns", "dns"),
    ("ping", "ping"),
    ("exec", "exec"),
    ("agent", "agent"),
    ("file", "file"),
    ("passive", "passive"),
];
/// What others call them.
const TYPE_HINTS: &[(&str, &str)] = &[
    ("connect", "tcp"),
    ("TCP_CHECK", "tcp"),
    ("HTTP_GET", "http"),
    ("httpchk", "http"),
    ("SSL_GET", "https"),
    ("tls", "https"),
    ("ssl", "https"),
    ("h2", "http"),
    ("grpcs", "grpc"),
    ("UDP_CHECK", "udp"),
    ("DNS_CHECK", "dns"),
    ("icmp", "ping"),
    ("PING_CHECK", "ping"),
    ("MISC_CHECK", "exec"),
    ("external", "exec"),
    ("agent-check", "agent"),
    ("FILE_CHECK", "file"),
    ("observe", "passive"),
];

/// What stands for something in the command of a program that judges.
const PLACEHOLDERS: &[&str] = &["rip", "rport", "vip", "vport", "protocol"];

const DAY: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_millis(20);
const INTERVAL: Span = Span { key: "interval", min: SHORTEST, max: DAY, note: "" };
const FAST: Span = Span { key: "fast_interval", ..INTERVAL };
const DOWN: Span = Span { key: "down_interval", ..INTERVAL };
const TIMEOUT: Span =
    Span { key: "timeout", min: Duration::from_millis(1), max: Duration::from_secs(600), note: "" };
const FAILURES: Integer =
    Integer { key: "failures", label: "failures", min: 1, max: 10_000, note: " connections in a row" };
const INHIBIT: Span =
    Span { key: "inhibit", min: Duration::from_millis(100), max: Duration::from_secs(3600), note: "" };
const INHIBIT_MAX: Span = Span { key: "inhibit_max", ..INHIBIT };
const JITTER: Integer =
    Integer { key: "jitter", label: "jitter", min: 0, max: 50, note: " per cent of the interval" };
const RISE: Integer = Integer { key: "rise", label: "rise", min: 1, max: 100, note: " successes in a row" };
const FALL: Integer = Integer { key: "fall", label: "fall", min: 1, max: 100, note: " failures in a row" };
pub(crate) const PORT: Integer = Integer { key: "port", label: "port", min: 1, max: 65_535, note: "" };
const MARK: Integer =
    Integer { key: "mark", label: "mark", min: 1, max: u32::MAX as u64, note: " (SO_MARK of what is sent)" };
const PAYLOAD: Integer =
    Integer { key: "payload", label: "payload", min: 0, max: Echo::MAX as u64, note: " bytes" };

/// All checks that have a name.
pub(crate) fn checks(root: &Table<'_>) -> Vec<Check> {
    let tables = root.tables("check", CHECK, |entries| Table::peek(entries, "name").map(str::to_owned));
    let mut seen: HashMap<&str, Location> = HashMap::new();
    let (mut checks, mut confirmed) = (Vec::new(), Vec::new());
    for table in &tables {
        let name = table.required_string("name", "web");
        if let Some(name) = &name {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.value.is_empty() || !name.value.chars().all(plain) {
                let what = format!("check name {:?} is not one", name.value);
                table.doc.error(&name.at, what, "use letters, digits, - and _ only");
            }
            if let Some(there) = seen.insert(name.value, table.at.clone()) {
                let fix = format!("rename it or the one in {}", table.doc.refer(&name.at, &there));
                table.doc.error(&name.at, format!("a second check {:?}", name.value), fix);
            }
        }
        let check = Reader { table }.read(name.map_or("", |name| name.value));
        if let (Some(check), Some(by)) = (&check, table.string("confirm", "web")) {
            confirmed.push((check.name.clone(), by));
        }
        checks.extend(check);
    }
    for (name, by) in confirmed {
        confirm(root.doc, &mut checks, &name, &by);
    }
    checks
}

/// Gives a passive check the probe, with what goes with it, that another check makes.
fn confirm(doc: &Doc<'_>, checks: &mut [Check], name: &str, by: &At<&str>) {
    let Some(other) = checks.iter().find(|check| &*check.name == by.value).cloned() else {
        let near = nearest(by.value, checks.iter().map(|check| &*check.name));
        let near = near.map_or(String::new(), |near| format!(", perhaps {near:?}"));
        let what = format!("there is no check {:?}{near} to confirm {name:?}", by.value);
        doc.error(&by.at, what, "name a [[check]] that asks the server");
        return;
    };
    if !IN_A_ROW.contains(&other.kind.word()) {
        let what = format!("check {:?} of type {:?} confirms nothing", by.value, other.kind.word());
        doc.error(&by.at, what, format!("name one of type {}", IN_A_ROW.join(", ")));
        return;
    }
    for check in checks.iter_mut().filter(|check| &*check.name == name) {
        let Kind::Passive(passive) = &mut check.kind else { continue };
        *passive.confirm = other.kind.clone();
        check.port = check.port.or(other.port);
        check.source = check.source.or(other.source);
        check.mark = check.mark.or(other.mark);
        check.confirm = Some(Arc::clone(&other.name));
        check.schedule = other.schedule;
    }
}

/// Warns of checks that nobody uses.
pub(crate) fn warn_of_unused(doc: &Doc<'_>, checks: &[Check], services: &[Service]) {
    let used: HashSet<usize> =
        services.iter().filter_map(|service| service.health.as_ref()).flat_map(Health::all_checks).collect();
    let confirms: HashSet<&str> = used.iter().filter_map(|index| checks[*index].confirm.as_deref()).collect();
    let is_used = |index: usize, check: &Check| used.contains(&index) || confirms.contains(&*check.name);
    for (_, check) in checks.iter().enumerate().filter(|(index, check)| !is_used(*index, check)) {
        let what = format!("no service uses check {:?}", check.name);
        let fix = format!("add checks = [\"{}\"] to a [[service]], or remove the check", check.name);
        doc.warn(&check.location, what, fix);
    }
}

pub(crate) struct Reader<'r> {
    pub(crate) table: &'r Table<'r>,
}

impl Reader<'_> {
    fn read(&self, name: &str) -> Option<Check> {
        let table = self.table;
        table.require(
            "type",
            "\"tcp\", \"http\", \"https\", \"grpc\", \"udp\", \"dns\", \"ping\", \"exec\", \"agent\", \
             \"file\" or \"passive\"",
        );
        let kind = table.choice("type", TYPES, TYPE_HINTS)?.value;
        for (key, types) in OF_TYPES {
            if table.has(key) && !types.contains(&kind) {
                let what = format!("{key} does not go with type = {kind:?}");
                let fix = format!("remove it; it is for {}", types.join(", "));
                table.doc.error(&table.place(key), what, fix);
            }
        }
        let schedule = self.schedule();
        let words = [("keep", Unmade::Keep), ("down", Unmade::Down)];
        let unmade = table.choice("unmade", &words, &[]).map_or(Unmade::Keep, |found| found.value);
        let small = |key: &Integer, usual| {
            table.integer(key).and_then(|found| u32::try_from(found.value).ok()).unwrap_or(usual)
        };
        let source = table.parsed("source", "192.0.2.1", |text| {
            text.parse::<IpAddr>().map_err(|_| format!("source {text:?} is not an IP address"))
        });
        Some(Check {
            name: Arc::from(name),
            kind: self.kind(kind)?,
            port: table.integer(&PORT).and_then(|port| u16::try_from(port.value).ok()),
            source: source.map(|source| source.value),
            mark: table.integer(&MARK).and_then(|mark| u32::try_from(mark.value).ok()),
            schedule,
            rise: small(&RISE, 2),
            fall: small(&FALL, 3),
            unmade,
            confirm: None,
            location: table.at.clone(),
        })
    }

    fn schedule(&self) -> Schedule {
        let table = self.table;
        let interval = table.duration(&INTERVAL).map_or(Duration::from_secs(2), |found| found.value);
        let timeout = table.duration(&TIMEOUT);
        if let Some(timeout) = timeout.as_ref().filter(|timeout| timeout.value > interval) {
            table.doc.warn(
                &timeout.at,
                "the timeout is longer than the interval: a server that is silent is probed less often",
                "use a timeout up to the interval",
            );
        }
        let at_most = |span: &Span, usual: Duration| match table.duration(span) {
            Some(found) if span.key == "fast_interval" && found.value > interval => {
                let fix = "use one up to the interval";
                table.doc.error(&found.at, "fast_interval is longer than the interval", fix);
                usual
            }
            Some(found) => found.value,
            None => usual,
        };
        let jitter = table.integer(&JITTER).and_then(|found| u8::try_from(found.value).ok());
        Schedule {
            interval,
            fast: at_most(&FAST, interval),
            down: at_most(&DOWN, interval),
            timeout: timeout.map_or(interval.min(Duration::from_secs(1)), |timeout| timeout.value),
            jitter: jitter.unwrap_or(5),
        }
    }

    fn kind(&self, kind: &str) -> Option<Kind> {
        let table = self.table;
        Some(match kind {
            "tcp" => {
                let expect = self.pattern();
                Kind::Tcp(Talk { send: self.send(), expect, answer: false })
            }
            "udp" => {
                let (expect, answer) = (self.pattern(), table.boolean("answer").unwrap_or(false));
                if expect.is_none() && !answer {
                    table.doc.warn(
                        &table.at,
                        "the check hears of a dead server only by ICMP port unreachable: one whose host is gone, or \
                         behind a firewall that drops, stays up",
                        "add expect = \"...\" (or answer = true) and what is to be sent, or a second check",
                    );
                }
                Kind::Udp(Talk { send: self.send(), expect, answer })
            }
            "http" | "https" => Kind::Http(Box::new(self.http(kind == "https"))),
            "grpc" => Kind::Grpc(Box::new(self.grpc())),
            "dns" => Kind::Dns(Box::new(self.dns()?)),
            "ping" => {
                let payload = table.integer(&PAYLOAD).and_then(|found| u16::try_from(found.value).ok());
                let do_not_fragment = table.boolean("do_not_fragment").unwrap_or(false);
                Kind::Ping(Echo { payload: payload.unwrap_or(56), do_not_fragment })
            }
            "exec" => Kind::Exec(Arc::new(self.exec()?)),
            "agent" => Kind::Agent { send: self.send() },
            "passive" => Kind::Passive(self.passive()),
            _ => {
                table.require("file", "\"/run/uvs/web\"");
                let path = path(table, "file", "/run/uvs/web")?;
                let words = [("failed", FileMeaning::Failed), ("weight", FileMeaning::Weight)];
                let meaning = table.choice("meaning", &words, &[]);
                Kind::File(FileCheck { path, meaning: meaning.map_or(FileMeaning::Failed, |it| it.value) })
            }
        })
    }

    /// What confirms it is a connection here; see [`confirm`].
    fn passive(&self) -> Passive {
        let table = self.table;
        let failures = table.integer(&FAILURES).and_then(|found| u32::try_from(found.value).ok());
        let inhibit = table.duration(&INHIBIT).map_or(Duration::from_secs(5), |found| found.value);
        let usual = Duration::from_secs(300).max(inhibit);
        let inhibit_max = match table.duration(&INHIBIT_MAX) {
            Some(found) if found.value < inhibit => {
                table.doc.error(&found.at, "inhibit_max is shorter than inhibit", "use one from inhibit on");
                usual
            }
            Some(found) => found.value,
            None => usual,
        };
        let confirm = Box::new(Kind::Tcp(Talk::default()));
        Passive { failures: failures.unwrap_or(5), inhibit, inhibit_max, confirm }
    }

    fn send(&self) -> Vec<u8> {
        let table = self.table;
        if table.has("send") && table.has("send_hex") {
            let at = table.place("send_hex");
            table.doc.error(&at, "send and send_hex say the same thing twice", "remove one of them");
        }
        let hex = table.parsed("send_hex", "00 ff 1b", |text| {
            let digits: Vec<char> = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok();
            let bytes: Option<Vec<u8>> = match digits.len() % 2 {
                0 if digits.iter().all(char::is_ascii_hexdigit) => digits.chunks(2).map(byte).collect(),
                _ => None,
            };
            bytes.ok_or_else(|| format!("send_hex {text:?} is not pairs of hexadecimal digits"))
        });
        let text = table.string("send", "PING\\r\\n").map(|text| text.value.as_bytes().to_vec());
        hex.map(|hex| hex.value).or(text).unwrap_or_default()
    }

    pub(crate) fn pattern(&self) -> Option<Pattern> {
        let table = self.table;
        if table.has("expect") && table.has("expect_regex") {
            let at = table.place("expect_regex");
            table.doc.error(
                &at,
                "expect and expect_regex both say what the answer has to hold",
                "remove one",
            );
        }
        let regex = table.parsed("expect_regex", "^220 ", |text| match check_regex(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(error) => Err(format!("expect_regex {text:?} is no regular expression: {error}")),
        });
        let text = table.string("expect", "+PONG").map(|text| Pattern::Bytes(text.value.as_bytes().to_vec()));
        regex.map(|regex| Pattern::Regex(regex.value)).or(text)
    }

    fn exec(&self) -> Option<Exec> {
        let table = self.table;
        let example = "[\"/usr/local/bin/judge\", \"{rip}\", \"{rport}\"]";
        let command = command(table, example, PLACEHOLDERS, "the check cannot be made without it")?;
        let dynamic = table.boolean("dynamic").unwrap_or(false);
        Some(Exec { command, user: user(table), dynamic, environment: Vec::new() })
    }
}
