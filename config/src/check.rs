//! `[[check]]`: what is asked, and what is expected.

use core::net::IpAddr;
use core::ops::RangeInclusive;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use uvs_check::net::Echo;
use uvs_check::probe::check_regex;
use uvs_check::spec::{
    Exec, FileCheck, FileMeaning, Http, HttpVersion, Kind, Pattern, Schedule, Talk, Unmade,
};
use uvs_director::Duration;

use crate::duration::Span;
use crate::model::{Check, Service};
use crate::read::{Doc, Integer, Keys, Table};
use crate::suggest::nearest;
use crate::tls::{path, tls};

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
    "payload",
    "do_not_fragment",
    "command",
    "dynamic",
    "file",
    "meaning",
];

/// Those that only some types have.
const OF_TYPES: &[(&str, &[&str])] = &[
    ("port", &["tcp", "http", "https", "udp", "agent"]),
    ("source", &["tcp", "http", "https", "udp", "ping", "agent"]),
    ("mark", &["tcp", "http", "https", "udp", "ping", "agent"]),
    ("send", &["tcp", "udp", "agent"]),
    ("send_hex", &["tcp", "udp"]),
    ("expect", &["tcp", "udp", "http", "https"]),
    ("expect_regex", &["tcp", "udp", "http", "https"]),
    ("answer", &["udp"]),
    ("method", &["http", "https"]),
    ("path", &["http", "https"]),
    ("host", &["http", "https"]),
    ("status", &["http", "https"]),
    ("version", &["http", "https"]),
    ("sni", &["https"]),
    ("verify", &["https"]),
    ("ca", &["https"]),
    ("expiry_warning", &["https"]),
    ("payload", &["ping"]),
    ("do_not_fragment", &["ping"]),
    ("command", &["exec"]),
    ("dynamic", &["exec"]),
    ("file", &["file"]),
    ("meaning", &["file"]),
    ("rise", &["tcp", "http", "https", "udp", "ping", "exec", "file"]),
    ("fall", &["tcp", "http", "https", "udp", "ping", "exec", "file"]),
    ("fast_interval", &["tcp", "http", "https", "udp", "ping", "exec", "file"]),
    ("down_interval", &["tcp", "http", "https", "udp", "ping", "exec", "file"]),
    ("interval", &["tcp", "http", "https", "udp", "ping", "exec", "file", "agent"]),
];

const TYPES: &[(&str, &str)] = &[
    ("tcp", "tcp"),
    ("http", "http"),
    ("https", "https"),
    ("udp", "udp"),
    ("ping", "ping"),
    ("exec", "exec"),
    ("agent", "agent"),
    ("file", "file"),
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
    ("UDP_CHECK", "udp"),
    ("icmp", "ping"),
    ("PING_CHECK", "ping"),
    ("MISC_CHECK", "exec"),
    ("external", "exec"),
    ("agent-check", "agent"),
    ("FILE_CHECK", "file"),
];

const DAY: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_millis(20);
const INTERVAL: Span = Span { key: "interval", min: SHORTEST, max: DAY, note: "" };
const FAST: Span = Span { key: "fast_interval", ..INTERVAL };
const DOWN: Span = Span { key: "down_interval", ..INTERVAL };
const TIMEOUT: Span =
    Span { key: "timeout", min: Duration::from_millis(1), max: Duration::from_secs(600), note: "" };
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
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut checks = Vec::new();
    for table in &tables {
        let name = table.required_string("name", "web");
        if let Some(name) = &name {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.value.is_empty() || !name.value.chars().all(plain) {
                let what = format!("check name {:?} is not one", name.value);
                table.doc.error(&name.at, what, "use letters, digits, - and _ only");
            }
            if let Some(line) = seen.insert(name.value, table.at.line) {
                let fix = format!("rename it or the one in line {line}");
                table.doc.error(&name.at, format!("a second check {:?}", name.value), fix);
            }
        }
        let check = Reader { table }.read(name.map_or("", |name| name.value));
        checks.extend(check);
    }
    checks
}

/// Warns of checks that nobody uses.
pub(crate) fn warn_of_unused(doc: &Doc<'_>, checks: &[Check], services: &[Service]) {
    let used: HashSet<usize> = services
        .iter()
        .filter_map(|service| service.health.as_ref())
        .flat_map(|it| it.checks.clone())
        .collect();
    for (index, check) in checks.iter().enumerate().filter(|(index, _)| !used.contains(index)) {
        let _ = index;
        let what = format!("no service uses check {:?}", check.name);
        let fix = format!("add checks = [\"{}\"] to a [[service]], or remove the check", check.name);
        doc.warn(&check.location, what, fix);
    }
}

struct Reader<'r> {
    table: &'r Table<'r>,
}

impl Reader<'_> {
    fn read(&self, name: &str) -> Option<Check> {
        let table = self.table;
        table.require(
            "type",
            "\"tcp\", \"http\", \"https\", \"udp\", \"ping\", \"exec\", \"agent\" or \"file\"",
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
            "ping" => {
                let payload = table.integer(&PAYLOAD).and_then(|found| u16::try_from(found.value).ok());
                let do_not_fragment = table.boolean("do_not_fragment").unwrap_or(false);
                Kind::Ping(Echo { payload: payload.unwrap_or(56), do_not_fragment })
            }
            "exec" => Kind::Exec(Arc::new(self.exec()?)),
            "agent" => Kind::Agent { send: self.send() },
            _ => {
                table.require("file", "\"/run/uvs/web\"");
                let path = path(table, "file", "/run/uvs/web")?;
                let words = [("failed", FileMeaning::Failed), ("weight", FileMeaning::Weight)];
                let meaning = table.choice("meaning", &words, &[]);
                Kind::File(FileCheck { path, meaning: meaning.map_or(FileMeaning::Failed, |it| it.value) })
            }
        })
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

    fn pattern(&self) -> Option<Pattern> {
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

    fn http(&self, secure: bool) -> Http {
        let table = self.table;
        let method = table.parsed("method", "GET", |text| {
            let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];
            if known.contains(&text) {
                return Ok(text.to_owned());
            }
            let near = nearest(text, known).map_or(String::new(), |near| format!(", perhaps {near}"));
            Err(format!("method {text:?} is none of {}{near}", known.join(", ")))
        });
        let path = http_path(table);
        let host = http_host(table);
        let expect = self.pattern();
        if let Some(method) = method.as_ref().filter(|method| method.value == "HEAD" && expect.is_some()) {
            let what = "an answer to HEAD has no body to search";
            table.doc.error(&method.at, what, "use GET, or remove expect");
        }
        let versions = [("1.1", HttpVersion::Http1), ("2", HttpVersion::Http2)];
        let version =
            table.choice("version", &versions, &[("h2", "2"), ("h2c", "2"), ("1", "1.1"), ("1.0", "1.1")]);
        let version = version.map_or(HttpVersion::Any, |found| found.value);
        let tls = secure.then(|| tls(table));
        let status = table.list("status", "200-299", read_status);
        Http {
            method: method.map_or("GET".to_owned(), |method| method.value),
            path: path.unwrap_or_else(|| "/".to_owned()),
            host,
            status: status.map_or(vec![200..=299], |all| all.into_iter().map(|range| range.value).collect()),
            body: expect,
            version,
            tls,
        }
    }

    fn exec(&self) -> Option<Exec> {
        let table = self.table;
        table.require("command", "[\"/usr/local/bin/judge\", \"{rip}\", \"{rport}\"]");
        let words =
            table.list("command", "/usr/local/bin/judge", |text| match unknown_placeholder(text) {
                None => Ok(text.to_owned()),
                Some(unknown) => Err(format!(
                    "{unknown} in command is none of {{rip}}, {{rport}}, {{vip}}, {{vport}}, {{protocol}}"
                )),
            })?;
        let dynamic = table.boolean("dynamic").unwrap_or(false);
        let Some(program) = words.first() else {
            let fix = "write command = [\"/usr/local/bin/judge\"]";
            table.doc.error(&table.place("command"), "command names no program", fix);
            return None;
        };
        if !program.value.starts_with('/') {
            let what = format!("program {:?} is not an absolute path", program.value);
            let fix = "give its absolute path; no shell looks for it. Arguments are entries of their own";
            table.doc.error(&program.at, what, fix);
        } else if !Path::new(&program.value).is_file() {
            let what =
                format!("there is no program {:?} yet: the check cannot be made without it", program.value);
            table.doc.warn(&program.at, what, "correct the path, or put the program there");
        }
        let command = words.into_iter().map(|word| word.value).collect();
        Some(Exec { command, dynamic, environment: Vec::new() })
    }
}

/// The path of a request; of a check, or of a destination in its place.
pub(crate) fn http_path(table: &Table<'_>) -> Option<String> {
    let path = table.parsed("path", "/health", |text| {
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        match text.starts_with('/') && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!("path {text:?} is not one: it begins with / and has no blanks")),
        }
    });
    path.map(|path| path.value)
}

/// The host that a request names; of a check, or of a destination in its place.
pub(crate) fn http_host(table: &Table<'_>) -> Option<String> {
    let host = table.parsed("host", "www.example.org", |text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        match !text.is_empty() && text.len() <= 255 && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!("host {text:?} is not the name of one")),
        }
    });
    host.map(|host| host.value)
}

fn read_status(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("status {text:?} is no status from 100 to 599, and no range of them")),
    }
}

/// The first placeholder that nothing stands for.
fn unknown_placeholder(text: &str) -> Option<&str> {
    let known = ["{rip}", "{rport}", "{vip}", "{vport}", "{protocol}"];
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let from = rest.get(start..)?;
        let end = from.find('}')?;
        let word = from.get(..=end)?;
        let name = word.get(1..end)?;
        if !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !known.contains(&word)
        {
            return Some(word);
        }
        rest = from.get(1..)?;
    }
    None
}
