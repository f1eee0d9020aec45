//! `uvs explain`: a connection, and why it is as it is; what would become of one that is not there.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use uvs_control::explain::{Answer, Choice, Connection, Prospect, Request, Service, Way};

use super::destination::{self, ExplainArgs};
use super::{Which, health};

/// `uvs explain`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  uvs explain 192.0.2.7:4000                      the connection of that client
  uvs explain 192.0.2.7                           all of its connections
  uvs explain tcp/192.0.2.7:4000/192.0.2.10:443   that one; if it is not there, what its next packet would meet
  uvs explain [2001:db8::7]:4000                  of IPv6
  uvs explain destination 10.0.0.11               what a real server weighs, and who says so

Protocol and VIP may be left out. Where there is no such connection, it is told what would become of the client's next
packet: which service takes it, or why it is dropped. Nothing is changed for that, and no scheduler is asked.
Exit status: 0 there is one, 1 failed, 2 wrong usage, 3 there is none and its next packet would go somewhere, 4 there is
none and its next packet would be dropped.")]
pub struct Args {
    /// What else to explain.
    #[command(subcommand)]
    pub what: Option<What>,
    /// A connection.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// What can be explained.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum What {
    /// What a destination weighs, and who says so: each writer, its value, since when, and which has the last word
    Destination(ExplainArgs),
    /// The same as without a word: a connection, by its client
    Connection(ConnectionArgs),
}

/// `uvs explain CLIENT`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ConnectionArgs {
    /// [PROTOCOL/]CLIENT[:PORT][/VIP[:PORT]]
    #[arg(value_name = "CLIENT")]
    pub name: Option<String>,
    /// Only those to this real server
    #[arg(long, value_name = "D[:PORT]")]
    pub dest: Option<String>,
    /// Where the next packet would come in [default: where the way to the client leads]
    #[arg(long, value_name = "INTERFACE")]
    pub interface: Option<String>,
    /// List no more than N connections [default: 20]
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// Print it as JSON, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// There is no such connection, and its next packet would go somewhere; or nowhere.
const NONE: u8 = 3;
const DROPPED: u8 = 4;

/// Asks and prints.
///
/// # Errors
/// No director answers, or it refuses.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        Some(What::Destination(destination)) => destination::explain(destination),
        Some(What::Connection(connection)) => explain(connection),
        None => explain(&arguments.connection),
    }
}

fn explain(arguments: &ConnectionArgs) -> anyhow::Result<ExitCode> {
    let ConnectionArgs { name, dest, interface, limit, json, which } = arguments;
    if name.is_none() && dest.is_none() {
        bail!("which connection?\n  fix: name its client, as in uvs explain 192.0.2.7:4000");
    }
    if let Some(word) = name.as_deref().filter(|name| !name.contains(['.', ':', '/'])) {
        let meant = uvs_config::nearest(word, ["destination", "connection"]);
        let tip = meant.map_or_else(String::new, |meant| format!("; did you mean `uvs explain {meant}`?"));
        bail!("{word:?} is no client{tip}\n  fix: name its address, as in uvs explain 192.0.2.7:4000");
    }
    let (protocol, client, vip) = parts(name.as_deref().unwrap_or_default());
    let request = Request {
        client,
        vip,
        destination: dest.clone(),
        protocol,
        interface: interface.clone(),
        limit: *limit,
    };
    let answer = match which.connect()?.ask(&uvs_control::Request::Explain(request))? {
        uvs_control::Answer::Explain(answer) => *answer,
        other => bail!("the director answered something else: {other:?}"),
    };
    let text = if *json { serde_json::to_string_pretty(&answer)? + "\n" } else { text(&answer) };
    std::io::stdout().write_all(text.as_bytes()).context("standard output cannot be written")?;
    Ok(status(&answer))
}

/// Protocol, client and VIP, as far as they are named.
fn parts(name: &str) -> (Option<String>, Option<String>, Option<String>) {
    let is_protocol = |text: &str| ["tcp", "udp", "sctp"].contains(&text.to_ascii_lowercase().as_str());
    let (protocol, rest) = match name.split_once(['/', ' ']) {
        Some((first, rest)) if is_protocol(first) => (Some(first.to_owned()), rest),
        _ => (None, name),
    };
    let (client, vip) = match rest.split_once('/') {
        Some((client, vip)) => (client, Some(vip.to_owned())),
        None => (rest, None),
    };
    (protocol, Some(client.to_owned()).filter(|client| !client.is_empty()), vip)
}

fn status(answer: &Answer) -> ExitCode {
    let is_dropped = |it: &Prospect| matches!(it.outcome.as_str(), "dropped" | "refused");
    if answer.total > 0 {
        ExitCode::SUCCESS
    } else if !answer.prospects.is_empty() && answer.prospects.iter().all(is_dropped) {
        ExitCode::from(DROPPED)
    } else {
        ExitCode::from(NONE)
    }
}

fn text(answer: &Answer) -> String {
    let mut text: String = answer.notices.iter().map(|notice| format!("{notice}\n")).collect();
    for connection in &answer.connections {
        text.push_str(&of_connection(connection));
    }
    let more = answer.total.saturating_sub(answer.connections.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {more} more (--limit N lists more)\n"));
    }
    if answer.total == 0 {
        text.push_str("there is no such connection\n");
    }
    for prospect in &answer.prospects {
        text.push_str(&of_prospect(prospect));
    }
    text
}

/// A line with its name in front, or none.
fn line(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        text.push_str(&format!("  {name:12} {value}\n"));
    }
}

fn of_connection(it: &Connection) -> String {
    let kind = if it.template { "template " } else { "" };
    let mut text =
        format!("{kind}{} {} > {} > {} ({})\n", it.protocol, it.client, it.vip, it.destination, it.forward);
    let counts = if it.template {
        String::new()
    } else if it.active {
        ", counts as active".to_owned()
    } else {
        ", counts as inactive".to_owned()
    };
    line(
        &mut text,
        "state",
        &format!(
            "{}{counts}; ends in {} unless packets come (timeout {})",
            it.state,
            health::time(it.expires_s),
            health::time(it.timeout_s)
        ),
    );
    of_service(&mut text, it.service.as_ref());
    line(&mut text, "why", &it.why);
    line(
        &mut text,
        "destination",
        &format!("{}, weight {} now, {}", it.destination, it.weight, standing(&it.standing)),
    );
    if let Some(service) = &it.service {
        inputs(&mut text, service);
        line(&mut text, "", "(as they are now: what they were when it began is not kept)");
    }
    line(&mut text, "requests", &there(it));
    line(&mut text, "answers", &back(it));
    line(&mut text, "flow cache", &cache(it));
    line(&mut text, "packets", &packets(it));
    if let Some(counted) = &it.counters {
        line(
            &mut text,
            "",
            &format!(
                "all connections of the destination: in {} packets, {} bytes; out {} packets, {} bytes",
                counted.packets_in, counted.bytes_in, counted.packets_out, counted.bytes_out
            ),
        );
    }
    if let Some(controlled) = it.controlled {
        let what = if it.template { "hang on it" } else { "hang on the same template, or FTP connection" };
        line(&mut text, "together", &format!("{controlled} connections {what}"));
    }
    for finding in &it.findings {
        line(&mut text, "LOOK", finding);
    }
    text
}

fn standing(name: &str) -> &str {
    match name {
        "available" => "in its service",
        "ending" => "being rid of its connections",
        "removed" => "removed from its service",
        other => other,
    }
}

fn of_service(text: &mut String, service: Option<&Service>) {
    let Some(it) = service else { return line(text, "service", "none any more: it was removed") };
    line(text, "service", &it.name);
    let module = it.module.as_ref().map(|module| {
        let sha256 = it.sha256.as_deref().unwrap_or_default();
        let since =
            it.since.map_or_else(String::new, |since| format!(", since {}", crate::events::rfc3339(since)));
        format!(", module {module} ({}){since}", sha256.get(..12).unwrap_or(sha256))
    });
    let serving = match it.serving.as_deref() {
        None | Some("module") => String::new(),
        Some(other) => format!(
            "; the module is {}: the fallback {} picks",
            other.replace('_', " "),
            it.fallback.as_deref().unwrap_or_default()
        ),
    };
    line(text, "scheduler", &format!("{}{}{serving}", it.scheduler, module.unwrap_or_default()));
}

fn inputs(text: &mut String, service: &Service) {
    for (number, it) in service.inputs_now.iter().enumerate() {
        line(text, if number == 0 { "picks from" } else { "" }, &choice(it));
    }
}

fn choice(it: &Choice) -> String {
    let by = it.weight_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let mut text = format!(
        "{} weight {}{by}, {} active, {} inactive",
        it.destination, it.weight, it.active, it.inactive
    );
    if it.overloaded {
        text.push_str(", over its upper threshold");
    }
    if let Some(reason) = &it.drop {
        text.push_str(&format!("; packets to it are dropped: {reason}"));
    }
    text
}

fn way(way: &Way) -> String {
    if way.local {
        return "to the director's own host".to_owned();
    }
    let mac = way.mac.as_ref().map_or_else(String::new, |mac| format!(" ({mac})"));
    format!("out of {} to {}{mac}, MTU {}", way.interface, way.next_hop, way.mtu)
}

fn there(it: &Connection) -> String {
    let how = match it.forward.as_str() {
        "nat" => format!("to {} from now on", it.destination),
        "dr" => "as they are, to the MAC address of the destination".to_owned(),
        _ => {
            let source = it.way_there.as_ref().and_then(|way| way.source.as_deref()).unwrap_or("?");
            format!("in a packet from {source} to {}", it.destination)
        }
    };
    match &it.way_there {
        Some(there) => format!("{}: {how}; {}", it.forward, way(there)),
        None => format!("{}: {how}; there is no route", it.forward),
    }
}

fn back(it: &Connection) -> String {
    match &it.way_back {
        _ if !it.sees_answers => {
            "pass the director by: the destination answers the client directly".to_owned()
        }
        Some(back) => format!("from {} from now on; {}", it.vip, way(back)),
        None => format!("from {} from now on; there is no route", it.vip),
    }
}

fn cache(it: &Connection) -> String {
    match it.cache.as_str() {
        "off" => "there is none".to_owned(),
        "placed" => "its packets pass there, in the kernel".to_owned(),
        "next" => "its next packet places it there".to_owned(),
        _ => format!("not used: {}", it.cache_why.as_deref().unwrap_or("it is not known why")),
    }
}

fn packets(it: &Connection) -> String {
    if it.template {
        return String::new();
    }
    let many = if it.packets_in == u8::MAX { " or more" } else { "" };
    let answered = match (it.sees_answers, it.answered) {
        (true, true) => "the destination has answered",
        (true, false) => "the destination has not answered",
        (false, _) => "answers are not seen here",
    };
    let cache = if it.cache == "placed" { ", and those of the flow cache" } else { "" };
    format!("{}{many} from the client{cache}; {answered}", it.packets_in)
}

fn of_prospect(it: &Prospect) -> String {
    let on = it.interface.as_ref().map_or_else(String::new, |name| format!(", coming in on {name}"));
    let mark = it.mark.map_or_else(String::new, |mark| format!(", with mark {mark}"));
    let mut text = format!("a first packet of {} to {}{on}{mark}\n", it.protocol, it.vip);
    if let Some(service) = &it.service {
        let by = match it.caught_by.as_deref() {
            Some("mark") => " (by its mark)",
            Some("ftp_data") => " (its port may be of FTP's data)",
            Some("all_ports") => " (port 0 takes all ports that no other service has)",
            _ => "",
        };
        of_service(&mut text, Some(&Service { name: format!("{}{by}", service.name), ..service.clone() }));
        inputs(&mut text, service);
    }
    let destination = it.destination.as_ref().map_or_else(String::new, |addr| format!(" to {addr}"));
    let reason = it.reason.as_deref().unwrap_or_default();
    let outcome = match it.outcome.as_str() {
        "scheduled" | "template" | "known" => format!("would be forwarded{destination}"),
        "refused" => format!("would be refused, and its sender told ({reason})"),
        "dropped" => format!("would be DROPPED: {reason}"),
        "passes" => "would pass through".to_owned(),
        other => other.to_owned(),
    };
    line(&mut text, "outcome", &outcome);
    line(&mut text, "why", &it.why);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_named_by_as_much_as_is_clear() {
        let of = |name| {
            let (protocol, client, vip) = parts(name);
            [protocol, client, vip].map(Option::unwrap_or_default)
        };
        assert_eq!(of("10.0.0.1:4000"), ["", "10.0.0.1:4000", ""]);
        assert_eq!(of("tcp/10.0.0.1:4000"), ["tcp", "10.0.0.1:4000", ""]);
        assert_eq!(of("udp 10.0.0.1:4000"), ["udp", "10.0.0.1:4000", ""]);
        assert_eq!(of("10.0.0.1/10.0.0.100:80"), ["", "10.0.0.1", "10.0.0.100:80"]);
        assert_eq!(of("TCP/[2001:db8::1]:4/[2001:db8::2]:5"), ["TCP", "[2001:db8::1]:4", "[2001:db8::2]:5"]);
        assert_eq!(of(""), ["", "", ""]);
    }

    #[test]
    fn the_exit_status_says_what_was_found() {
        let prospect = |outcome: &str| Prospect { outcome: outcome.into(), ..Prospect::default() };
        let of = |total, outcomes: &[&str]| {
            status(&Answer {
                total,
                prospects: outcomes.iter().map(|it| prospect(it)).collect(),
                ..Answer::default()
            })
        };
        assert_eq!(of(1, &[]), ExitCode::SUCCESS);
        assert_eq!(of(0, &[]), ExitCode::from(3));
        assert_eq!(of(0, &["dropped", "scheduled"]), ExitCode::from(3));
        assert_eq!(of(0, &["dropped", "refused"]), ExitCode::from(4));
    }

    #[test]
    fn a_connection_is_told_in_lines() {
        let way = |interface: &str, next_hop: &str| {
            Some(Way {
                interface: interface.into(),
                next_hop: next_hop.into(),
                mac: Some("02:00:00:00:00:01".into()),
                mtu: 1500,
                ..Way::default()
            })
        };
        let answer = Answer {
            total: 1,
            connections: vec![Connection {
                protocol: "tcp".into(),
                client: "10.0.0.1:4000".into(),
                vip: "10.0.0.100:80".into(),
                destination: "192.168.0.2:8080".into(),
                forward: "nat".into(),
                state: "SYN_RECV".into(),
                expires_s: 59.0,
                timeout_s: 60.0,
                why: "the scheduler wlc picked the destination".into(),
                packets_in: 2,
                sees_answers: true,
                standing: "available".into(),
                weight: 1,
                cache: "off".into(),
                way_there: way("r0", "192.168.0.2"),
                way_back: way("c0", "10.0.0.1"),
                findings: vec!["no packet has come back".into()],
                ..Connection::default()
            }],
            ..Answer::default()
        };
        let text = text(&answer);
        for part in [
            "tcp 10.0.0.1:4000 > 10.0.0.100:80 > 192.168.0.2:8080 (nat)\n",
            "why          the scheduler wlc picked the destination",
            "requests     nat: to 192.168.0.2:8080 from now on; out of r0 to 192.168.0.2 (02:00:00:00:00:01), MTU 1500",
            "answers      from 10.0.0.100:80 from now on; out of c0 to 10.0.0.1",
            "packets      2 from the client; the destination has not answered",
            "LOOK         no packet has come back",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }
}
