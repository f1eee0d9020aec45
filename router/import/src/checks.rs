//! From checkers of keepalived to checks of uvs.

use std::collections::HashMap;

use toml_edit::{Array, Value};
use uvs_config::entries::integer;

use crate::model::{Checker, Http, Kind, Misc, Regex, RunAs, Timing, TrackFile, Udp, Url};
use crate::output::{CheckKeys, Own, duration};
use crate::remark::Remarks;
use crate::words::shell_words;

/// Microseconds.
const SECOND: u64 = 1_000_000;
/// What uvs takes: of an interval, of a timeout, of successes or failures in a row.
const INTERVAL: (u64, u64) = (20_000, 86_400 * SECOND);
const TIMEOUT: (u64, u64) = (1000, 600 * SECOND);
const IN_A_ROW_MAX: u64 = 100;

/// What goes down to a checker, and what it is made for.
pub(crate) struct Around<'a> {
    pub(crate) timing: Timing,
    /// Of the virtual server, and of the real server.
    pub(crate) server_host: Option<&'a str>,
    pub(crate) real_host: Option<&'a str>,
    pub(crate) ip: core::net::IpAddr,
    /// Where it asks unless the checker says otherwise.
    pub(crate) port: Option<u16>,
    /// The port of the destination here; 0 is none.
    pub(crate) destination_port: u16,
    pub(crate) track_files: &'a HashMap<String, TrackFile>,
}

/// A check at one destination: what it is everywhere, and what it asks just there.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) keys: CheckKeys,
    pub(crate) own: Own,
    pub(crate) alpha: bool,
    /// Whether it asks a port, and a host and a path.
    pub(crate) asks_port: bool,
    pub(crate) asks_page: bool,
}

impl Made {
    /// The check with all that it asks.
    pub(crate) fn whole(&self) -> CheckKeys {
        let mut keys = self.keys.clone();
        if let Some(port) = self.own.port {
            keys.push(("port", i64::from(port).into()));
        }
        if let Some(host) = &self.own.host {
            keys.push(("host", host.into()));
        }
        if let Some(path) = &self.own.path {
            keys.push(("path", path.into()));
        }
        keys
    }

    /// What two checks have to have in common to be one with different ports, hosts and paths.
    pub(crate) fn likeness(&self) -> String {
        text(&self.keys)
    }
}

/// A text that is the same for the same keys.
pub(crate) fn text(keys: &CheckKeys) -> String {
    use core::fmt::Write as _;
    keys.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = write!(text, "{key}={value};");
        text
    })
}

/// The checks that a checker becomes; none where there is no counterpart, which is told.
pub(crate) fn make(checker: &Checker, around: &Around<'_>, remarks: &mut Remarks) -> Vec<Made> {
    let (keyword, at) = (checker.keyword.as_str(), &checker.at);
    if let Some(ip) = checker.connect_ip.filter(|ip| *ip != around.ip) {
        let text =
            format!("{keyword} asks {ip} about {}: a check asks the real server's own address", around.ip);
        remarks.left_out(at, text);
        return Vec::new();
    }
    let asks_port = !matches!(checker.kind, Kind::Misc(_) | Kind::Ping | Kind::File { .. } | Kind::Bfd);
    let port = checker.connect_port.or(around.port).filter(|port| *port != 0);
    if asks_port && port.is_none() && !matches!(checker.kind, Kind::Bfd) {
        remarks
            .left_out(at, format!("{keyword} has no port to ask: neither it nor the real server names one"));
        return Vec::new();
    }
    let own_port = port.filter(|port| asks_port && *port != around.destination_port);
    let pages: Vec<(CheckKeys, Own)> = match &checker.kind {
        Kind::Tcp => vec![(kind("tcp"), Own::default())],
        Kind::Smtp => {
            remarks.different(
                at,
                "SMTP_CHECK: here the greeting has to have 220 in it, and nothing more is said",
            );
            let mut keys = kind("tcp");
            keys.push(("expect", "220".into()));
            vec![(keys, Own::default())]
        }
        Kind::Ping => vec![(kind("ping"), Own::default())],
        Kind::Dns { record, name } => {
            let mut keys = kind("dns");
            keys.push(("query", name.into()));
            keys.push(("record", record.into()));
            vec![(keys, Own::default())]
        }
        Kind::Udp(udp) => vec![(datagram(udp, remarks), Own::default())],
        Kind::Http(http) => http.urls.iter().map(|url| page(http, url, around, remarks)).collect(),
        Kind::Misc(misc) => {
            program(misc, checker, around, remarks).map(|keys| (keys, Own::default())).into_iter().collect()
        }
        Kind::File { track, weight, reverse } => {
            let keys =
                file(track, weight.is_some_and(|weight| weight != 0), *reverse, checker, around, remarks);
            keys.map(|keys| (keys, Own::default())).into_iter().collect()
        }
        Kind::Bfd => {
            remarks.left_out(at, "BFD_CHECK: uvs does not speak BFD");
            Vec::new()
        }
    };
    if let Kind::Http(http) = &checker.kind
        && http.urls.is_empty()
    {
        remarks.source(at, format!("{keyword} has no url: it checks nothing"));
    }
    let asks_page = matches!(checker.kind, Kind::Http(_));
    let alpha = checker.timing.or(around.timing).alpha.unwrap_or(false);
    pages
        .into_iter()
        .map(|(mut keys, own)| {
            schedule(checker, around, &mut keys, remarks);
            if let Some(ip) = checker.bind_ip {
                keys.push(("source", ip.to_string().into()));
            }
            if let Some(mark) = checker.mark.filter(|mark| *mark != 0) {
                keys.push(("mark", integer(mark).into()));
            }
            Made { keys, own: Own { port: own_port, ..own }, alpha, asks_port, asks_page }
        })
        .collect()
}

fn kind(name: &str) -> CheckKeys {
    vec![("type", name.into())]
}

/// When it is made, and how many results decide.
fn schedule(checker: &Checker, around: &Around<'_>, keys: &mut CheckKeys, remarks: &mut Remarks) {
    if matches!(checker.kind, Kind::File { .. }) {
        // It is watched there, and looked at every second here.
        keys.extend([("interval", 1.into()), ("rise", 1.into()), ("fall", 1.into())]);
        return;
    }
    let own = checker.timing;
    let inherited = own.or(around.timing);
    // A program and a name server are tried otherwise than the rest.
    let retry = match checker.kind {
        Kind::Dns { .. } => inherited.retry.unwrap_or(3),
        Kind::Misc(_) => inherited.retry.unwrap_or(0),
        _ => inherited.retry.unwrap_or(1),
    };
    let delay = inherited.delay_loop.unwrap_or(60 * SECOND);
    let again = inherited.delay_before_retry.unwrap_or(match checker.kind {
        Kind::Http(_) => 3 * SECOND,
        Kind::Dns { .. } => delay,
        _ => SECOND,
    });
    let timeout = match &checker.kind {
        Kind::Misc(misc) => misc.timeout.filter(|timeout| *timeout > 0).unwrap_or(delay),
        _ => inherited.connect_timeout.unwrap_or(5 * SECOND),
    };
    let mut within = |what: &str, value: u64, (min, max): (u64, u64)| {
        let taken = value.clamp(min, max);
        if taken != value {
            let text = format!("{what} of {} is {} here", duration(value), duration(taken));
            remarks.different(&checker.at, text);
        }
        taken
    };
    let interval = within("delay_loop", delay, INTERVAL);
    keys.push(("interval", duration(interval)));
    if retry > 0 {
        // It is no longer than the interval.
        let again = within("delay_before_retry", again, (INTERVAL.0, interval));
        if again != interval {
            keys.push(("fast_interval", duration(again)));
        }
    }
    keys.push(("timeout", duration(within("connect_timeout", timeout, TIMEOUT))));
    keys.push(("rise", 1.into()));
    let fall = retry.saturating_add(1);
    if fall > IN_A_ROW_MAX {
        remarks.different(&checker.at, format!("retry {retry} is {} here", IN_A_ROW_MAX - 1));
    }
    keys.push(("fall", integer(fall.min(IN_A_ROW_MAX)).into()));
}

/// One url of `HTTP_GET` or `SSL_GET`.
fn page(http: &Http, url: &Url, around: &Around<'_>, remarks: &mut Remarks) -> (CheckKeys, Own) {
    let mut keys = kind(if http.secure { "https" } else { "http" });
    if let Some(at) = &url.digest {
        remarks.left_out(
            at,
            "digest: no check compares an MD5 of the page; say what it has to hold, with expect",
        );
    }
    if !url.status.is_empty() {
        let range = |(first, last): &(u16, u16)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        keys.push(("status", Value::Array(url.status.iter().map(range).collect::<Array>())));
    }
    if let Some(regex) = &url.regex
        && let Some(text) = expression(regex, remarks)
    {
        keys.push(("expect_regex", text.into()));
    }
    let written = url.host.as_deref().or(http.host.as_deref());
    let host = written.or(around.real_host).or(around.server_host);
    let mut own = Own::default();
    if let Some(host) = host {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if !host.is_empty() && host.len() <= 255 && host.chars().all(plain) {
            own.host = Some(host.to_owned());
        } else {
            remarks.left_out(
                &url.at,
                format!("virtualhost {host} is not the name of a host: the address is asked for"),
            );
        }
    }
    if url.path != "/" {
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        if url.path.starts_with('/') && url.path.chars().all(plain) {
            own.path = Some(url.path.clone());
        } else {
            remarks.left_out(
                &url.at,
                format!("path {} is none that begins with / and has no blanks: / is asked for", url.path),
            );
        }
    }
    if http.secure {
        keys.push(("verify", false.into()));
        if url.enable_sni.unwrap_or(http.enable_sni)
            && let Some(name) = url.sni.as_deref().or(http.sni.as_deref())
            && own.host.as_deref() != Some(name)
        {
            keys.push(("sni", name.into()));
        }
    }
    (keys, own)
}

fn expression(regex: &Regex, remarks: &mut Remarks) -> Option<String> {
    if regex.negative || regex.window {
        remarks.left_out(&regex.at, "regex: a check looks for what is there, anywhere in the page");
        return None;
    }
    let mut flags = String::from("-u");
    for option in &regex.options {
        match option.as_str() {
            "caseless" => flags.insert(0, 'i'),
            "multiline" => flags.insert(0, 'm'),
            "dotall" => flags.insert(0, 's'),
            "extended" => flags.insert(0, 'x'),
            _ => {
                remarks.left_out(&regex.at, format!("regex: there is no option {option}"));
                return None;
            }
        }
    }
    let text = if flags == "-u" { regex.text.clone() } else { format!("(?{flags}){}", regex.text) };
    match regex::bytes::RegexBuilder::new(&text).size_limit(1 << 20).build() {
        Ok(_) => Some(text),
        Err(error) => {
            let error = error.to_string();
            let cause = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            remarks.left_out(&regex.at, format!("regex {}: {cause}", regex.text));
            None
        }
    }
}

fn datagram(udp: &Udp, remarks: &mut Remarks) -> CheckKeys {
    let mut keys = kind("udp");
    if let Some(at) = &udp.lengths {
        remarks.left_out(at, "the length of a reply is not looked at");
    }
    if let Some(payload) = &udp.payload {
        keys.push(("send_hex", payload.into()));
    }
    match &udp.reply {
        None => {}
        Some(None) => keys.push(("answer", true.into())),
        Some(Some(hex)) => {
            // It begins with these; a digit that may be any makes a class of bytes.
            let digits: Vec<char> = hex.chars().collect();
            let byte = |pair: &[char]| match (pair[0], pair[1]) {
                ('x', 'x') => ".".to_owned(),
                (high, 'x') => format!("[\\x{high}0-\\x{high}f]"),
                ('x', low) => {
                    let all: String =
                        "0123456789abcdef".chars().map(|high| format!("\\x{high}{low}")).collect();
                    format!("[{all}]")
                }
                (high, low) => format!("\\x{high}{low}"),
            };
            let all: String = digits.chunks_exact(2).map(byte).collect();
            keys.push(("expect_regex", format!("(?s-u)^{all}").into()));
        }
    }
    keys
}

fn program(misc: &Misc, checker: &Checker, around: &Around<'_>, remarks: &mut Remarks) -> Option<CheckKeys> {
    let at = &checker.at;
    let Some(command) = &misc.command else {
        remarks.source(at, "MISC_CHECK has no misc_path: it checks nothing");
        return None;
    };
    let mut words = shell_words(command);
    if words.is_empty() {
        remarks.source(at, "MISC_CHECK names no program: it checks nothing");
        return None;
    }
    if words.iter().any(|word| word.contains('{')) {
        remarks.left_out(at, format!("misc_path {command}: {{ begins a placeholder in a command here"));
        return None;
    }
    if !words[0].starts_with('/') {
        remarks.different(
            at,
            format!("misc_path {command}: /usr/bin/env looks for it, as keepalived did in PATH"),
        );
        words.insert(0, "/usr/bin/env".to_owned());
    }
    let mut keys = kind("exec");
    // Real servers whose programs differ in nothing but this have one check.
    let rip = around.ip.to_string();
    let words = words.iter().map(|word| placed(word, &rip));
    keys.push(("command", Value::Array(words.collect::<Array>())));
    if let Some(RunAs { user, group }) = &misc.user {
        keys.push(("user", user.as_str().into()));
        keys.extend(group.as_ref().map(|group| ("group", group.as_str().into())));
    }
    if misc.dynamic {
        keys.push(("dynamic", true.into()));
    }
    Some(keys)
}

/// The word with `{rip}` for the real server's address, wherever it stands as a whole.
fn placed(word: &str, rip: &str) -> String {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.');
    let mut out = String::new();
    let mut from = 0;
    for (at, found) in word.match_indices(rip) {
        let (before, after) = (&word[..at], &word[at + found.len()..]);
        // 10.0.0.1 is no part of 10.0.0.11, nor of 110.0.0.1.
        let colon = |c: Option<char>| rip.contains(':') && c == Some(':');
        let (last, next) = (before.chars().next_back(), after.chars().next());
        if joins(last) || joins(next) || colon(last) || colon(next) {
            continue;
        }
        out.push_str(&word[from..at]);
        out.push_str("{rip}");
        from = at + found.len();
    }
    out.push_str(&word[from..]);
    out
}

fn file(
    track: &str,
    weighs: bool,
    reverse: bool,
    checker: &Checker,
    around: &Around<'_>,
    remarks: &mut Remarks,
) -> Option<CheckKeys> {
    let known = around.track_files.get(track);
    let Some(path) = known.and_then(|file| file.path.as_ref()) else {
        remarks.source(&checker.at, format!("FILE_CHECK: there is no track_file {track} with a file"));
        return None;
    };
    let Kind::File { weight, .. } = &checker.kind else { return None };
    let weight = weight.or_else(|| known.and_then(|file| file.weight)).unwrap_or(1);
    if weighs || weight != 0 || reverse {
        let text =
            "FILE_CHECK with a weight adds to the weight of the real server; here a file can only replace it";
        remarks.left_out(&checker.at, text);
        return None;
    }
    let mut keys = kind("file");
    keys.push(("file", path.into()));
    Some(keys)
}
