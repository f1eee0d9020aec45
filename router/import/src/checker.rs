//! The checkers of a real server.

use crate::model::{Checker, Http, Kind, Misc, Regex, Timing, Udp, Url};
use crate::remark::Remarks;
use crate::scripts::run_as;
use crate::tree::Node;
use crate::value::{address, number, port, required, switch, timer, unknown};
use crate::words::shell_words;

const CHECKERS: [&str; 10] = [
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "SMTP_CHECK",
    "DNS_CHECK",
    "MISC_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "FILE_CHECK",
    "BFD_CHECK",
];

/// The checkers that a statement in a real server makes; `None`: it is something else.
pub(crate) fn checkers(node: &Node, remarks: &mut Remarks) -> Option<Vec<Checker>> {
    let keyword = node.keyword();
    if !CHECKERS.contains(&keyword) {
        return None;
    }
    if node.block.is_none() {
        remarks.source(&node.at, format!("{keyword} has no block: it is ignored"));
        return Some(Vec::new());
    }
    let kind = match keyword {
        "TCP_CHECK" => Kind::Tcp,
        "HTTP_GET" | "SSL_GET" => Kind::Http(Http { secure: keyword == "SSL_GET", ..Http::default() }),
        "SMTP_CHECK" => Kind::Smtp,
        "DNS_CHECK" => Kind::Dns { record: "SOA".to_owned(), name: ".".to_owned() },
        "MISC_CHECK" => Kind::Misc(Misc::default()),
        "UDP_CHECK" => Kind::Udp(Udp::default()),
        "PING_CHECK" => Kind::Ping,
        "FILE_CHECK" => Kind::File { track: String::new(), weight: None, reverse: false },
        _ => Kind::Bfd,
    };
    let mut checker = Checker {
        at: node.at.clone(),
        keyword: keyword.to_owned(),
        kind,
        timing: Timing::default(),
        connect_ip: None,
        connect_port: None,
        bind_ip: None,
        mark: None,
    };
    let mut hosts = Vec::new();
    for child in node.children() {
        if keyword == "SMTP_CHECK" && child.keyword() == "host" && child.block.is_some() {
            hosts.push(child);
            continue;
        }
        if !common(&mut checker, child, remarks) && !special(&mut checker.kind, child, remarks) {
            unknown(child, keyword, remarks);
        }
    }
    if hosts.is_empty() {
        return Some(vec![checker]);
    }
    // A checker for each host.
    let of_host = |host: &Node| {
        let mut one =
            Checker { at: host.at.clone(), keyword: checker.keyword.clone(), kind: Kind::Smtp, ..checker };
        for child in host.children() {
            if !common(&mut one, child, remarks) {
                unknown(child, "host", remarks);
            }
        }
        one
    };
    Some(hosts.into_iter().map(of_host).collect())
}

/// What goes down from a virtual server to checkers. `true`: it is one of these.
pub(crate) fn timing(timing: &mut Timing, node: &Node, retry_min: u64, remarks: &mut Remarks) -> bool {
    match node.keyword() {
        "delay_loop" => timing.delay_loop = timer(node, 1, remarks).or(timing.delay_loop),
        "connect_timeout" => timing.connect_timeout = timer(node, 1, remarks).or(timing.connect_timeout),
        "retry" => timing.retry = number(node, retry_min, u32::MAX.into(), remarks).or(timing.retry),
        "delay_before_retry" => {
            timing.delay_before_retry = timer(node, 0, remarks).or(timing.delay_before_retry);
        }
        // The first checks are spread here, too.
        "warmup" => drop(timer(node, 0, remarks)),
        _ => return false,
    }
    true
}

/// What all checkers have.
fn common(checker: &mut Checker, node: &Node, remarks: &mut Remarks) -> bool {
    let networked = !matches!(checker.kind, Kind::Misc(_) | Kind::Bfd | Kind::File { .. });
    if !matches!(checker.kind, Kind::Bfd | Kind::File { .. }) && timing(&mut checker.timing, node, 0, remarks)
    {
        return true;
    }
    match node.keyword() {
        "alpha" => checker.timing.alpha = switch(node, remarks).or(checker.timing.alpha),
        "log_all_failures" => drop(switch(node, remarks)),
        "nb_get_retry" if matches!(checker.kind, Kind::Http(_)) => {
            checker.timing.retry = number(node, 0, u32::MAX.into(), remarks).or(checker.timing.retry);
        }
        "connect_ip" if networked => {
            checker.connect_ip = required(node, remarks).and_then(|text| address(node, text, remarks));
        }
        "bindto" if networked => {
            checker.bind_ip = required(node, remarks).and_then(|text| address(node, text, remarks));
        }
        "connect_port" if networked => {
            checker.connect_port = required(node, remarks).and_then(|text| port(node, text, remarks));
        }
        "fwmark" if networked => checker.mark = number(node, 0, u32::MAX.into(), remarks),
        "bind_port" | "bind_if" if networked => {
            let text = format!("{}: the director picks port and interface of a check", node.keyword());
            remarks.left_out(&node.at, text);
        }
        _ => return false,
    }
    true
}

/// What only some have.
fn special(kind: &mut Kind, node: &Node, remarks: &mut Remarks) -> bool {
    match kind {
        Kind::Http(http) => return get(http, node, remarks),
        Kind::Misc(misc) => return program(misc, node, remarks),
        Kind::Udp(udp) => return datagram(udp, node, remarks),
        Kind::Smtp if node.keyword() == "helo_name" => {}
        Kind::Dns { record, name } => match node.keyword() {
            "type" => {
                let known = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG", "DNSKEY"];
                if let Some(text) = required(node, remarks) {
                    match known.iter().find(|known| known.eq_ignore_ascii_case(text)) {
                        Some(known) => (*known).clone_into(record),
                        None => remarks.source(&node.at, format!("type {text} is not known: it is ignored")),
                    }
                }
            }
            "name" => {
                if let Some(text) = required(node, remarks) {
                    text.clone_into(name);
                }
            }
            _ => return false,
        },
        Kind::File { track, weight, reverse } => match node.keyword() {
            "track_file" => {
                if let Some(text) = required(node, remarks) {
                    text.clone_into(track);
                }
            }
            "weight" => {
                *weight = required(node, remarks).and_then(|text| text.parse().ok());
                *reverse = node.argument(1) == Some("reverse");
            }
            _ => return false,
        },
        Kind::Bfd if node.keyword() == "name" => {}
        _ => return false,
    }
    true
}

fn get(http: &mut Http, node: &Node, remarks: &mut Remarks) -> bool {
    match node.keyword() {
        "virtualhost" => http.host = required(node, remarks).map(str::to_owned),
        "http_protocol" => {
            if let Some(text) = required(node, remarks)
                && !["1.0", "1.0C", "1.0c", "1.1"].contains(&text)
            {
                remarks.source(&node.at, format!("http_protocol {text} is none: it is ignored"));
            }
        }
        "fast_recovery" => drop(switch(node, remarks)),
        "enable_sni" if http.secure => http.enable_sni = switch(node, remarks).unwrap_or(http.enable_sni),
        "sni_name" if http.secure => http.sni = required(node, remarks).map(str::to_owned),
        "tls_compliant" if http.secure => drop(switch(node, remarks)),
        "url" if node.block.is_some() => http.urls.push(url(node, http.secure, remarks)),
        _ => return false,
    }
    true
}

fn url(node: &Node, secure: bool, remarks: &mut Remarks) -> Url {
    let mut url = Url {
        at: node.at.clone(),
        path: "/".to_owned(),
        host: None,
        sni: None,
        enable_sni: None,
        digest: None,
        status: Vec::new(),
        regex: None,
    };
    for child in node.children() {
        let text = || child.argument(0).unwrap_or_default().to_owned();
        match child.keyword() {
            "path" => {
                if let Some(path) = required(child, remarks) {
                    path.clone_into(&mut url.path);
                }
            }
            "digest" => url.digest = required(child, remarks).map(|_| child.at.clone()),
            "status_code" => url.status = statuses(child, remarks),
            "virtualhost" => url.host = required(child, remarks).map(str::to_owned),
            "enable_sni" if secure => url.enable_sni = switch(child, remarks),
            "sni_name" if secure => url.sni = required(child, remarks).map(str::to_owned),
            "tls_compliant" if secure => drop(switch(child, remarks)),
            "regex" => {
                if required(child, remarks).is_some() {
                    url.regex = Some(Regex {
                        at: child.at.clone(),
                        text: expression(child.rest()),
                        negative: false,
                        options: Vec::new(),
                        window: false,
                    });
                }
            }
            "regex_no_match" => match &mut url.regex {
                Some(regex) => regex.negative = true,
                None => remarks.source(&child.at, "regex_no_match before regex: it is ignored"),
            },
            "regex_options" => {
                if let Some(regex) = &mut url.regex {
                    regex.options = child.words.iter().skip(1).cloned().collect();
                }
            }
            "regex_min_offset" | "regex_max_offset" => {
                if let Some(regex) = &mut url.regex {
                    regex.window = text() != "0";
                }
            }
            "regex_stack" => {}
            _ => unknown(child, "url", remarks),
        }
    }
    url
}

/// A regular expression without the quotes around it, its escapes as they are: Rust's `regex` reads them alike.
fn expression(text: &str) -> String {
    let mut out = String::new();
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, _) if letter.is_whitespace() => break,
            (_, '\\') => {
                // A backslash that is kept for the expression stands twice.
                match letters.next() {
                    Some('\\') => out.push('\\'),
                    Some(next @ ('"' | '\'' | ' ' | '#' | '!')) => out.push(next),
                    Some(next) => out.extend(['\\', next]),
                    None => out.push('\\'),
                }
            }
            _ => out.push(letter),
        }
    }
    out
}

fn statuses(node: &Node, remarks: &mut Remarks) -> Vec<(u16, u16)> {
    let mut all = Vec::new();
    for text in node.words.iter().skip(1) {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        match code(first).zip(code(last)).filter(|(first, last)| first <= last) {
            Some(range) => all.push(range),
            None => {
                remarks.source(&node.at, format!("status_code {text} is none from 100 to 599: it is ignored"))
            }
        }
    }
    if node.words.len() < 2 {
        let _ = required(node, remarks);
    }
    all
}

fn program(misc: &mut Misc, node: &Node, remarks: &mut Remarks) -> bool {
    match node.keyword() {
        "misc_path" => {
            if required(node, remarks).is_some() {
                // The first word is the command with its arguments; a user may follow.
                let mut words = shell_words(node.rest()).into_iter();
                misc.command = words.next();
                misc.user = run_as(words, &node.at, remarks).or(misc.user.take());
            }
        }
        "misc_timeout" => {
            misc.timeout = number(node, 0, 86_400 * 365, remarks).map(|seconds| seconds * 1_000_000)
        }
        "misc_dynamic" => misc.dynamic = switch(node, remarks).unwrap_or(misc.dynamic),
        "user" => {
            if required(node, remarks).is_some() {
                misc.user = run_as(shell_words(node.rest()).into_iter(), &node.at, remarks);
            }
        }
        _ => return false,
    }
    true
}

fn datagram(udp: &mut Udp, node: &Node, remarks: &mut Remarks) -> bool {
    let hex = |any: bool| {
        let text: String = node.words.iter().skip(1).map(String::as_str).collect();
        let digit = |c: char| c.is_ascii_hexdigit() || (any && (c == 'x' || c == 'X'));
        (!text.is_empty() && text.len().is_multiple_of(2) && text.chars().all(digit))
            .then(|| text.to_lowercase())
    };
    match node.keyword() {
        "payload" => {
            udp.payload = hex(false);
            if udp.payload.is_none() {
                remarks.source(&node.at, "payload is not pairs of hexadecimal digits: it is ignored");
            }
        }
        "require_reply" => {
            udp.reply = Some(hex(true));
            if node.words.len() > 1 && hex(true).is_none() {
                remarks
                    .source(&node.at, "require_reply is not pairs of hexadecimal digits: any reply will do");
            }
        }
        "min_reply_length" | "max_reply_length" => {
            udp.lengths = number(node, 0, 65535, remarks).map(|_| node.at.clone());
        }
        _ => return false,
    }
    true
}
