//! `uvs status --watch`: what happens in a second, again and again.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use uvs_control::sample::{Answer as Sample, Request};
use uvs_control::status::{self, Answer as Status};
use uvs_control::{Answer, Client};
use uvs_top::figures::{count, rate};
use uvs_top::rates::{Pair, Rates};

use super::destination::Interrupt;
use super::{Which, status as pages};

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The page of `uvs status`, drawn over the one before.
    Page,
    /// A line for each look.
    Lines,
    /// A JSON object for each look.
    Json,
}

/// Looks every `interval`, until Ctrl-C or until nobody reads any more. It outlives the director.
pub(super) fn run(which: &Which, json: bool, interval: Duration) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let form = match (json, io::stdout().is_terminal()) {
        (true, _) => Form::Json,
        (false, true) => Form::Page,
        (false, false) => Form::Lines,
    };
    let mut client = None;
    let mut before: Option<Look> = None;
    let mut is_lost = false;
    loop {
        let text = match look(&mut client, which, form) {
            Ok(now) => {
                is_lost = false;
                let text = now.text(before.as_ref(), form);
                before = Some(now);
                text
            }
            Err(error) => {
                // Said once: it may take long until there is one.
                let text = (!is_lost || form == Form::Page).then(|| lost(&error, form));
                is_lost = true;
                text
            }
        };
        if let Some(text) = text {
            match show(&text, form) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                shown => shown?,
            }
        }
        // Of what is new there are no rates yet: not for long.
        let pause =
            if before.as_ref().is_some_and(|it| it.is_first) { interval.min(FIRST) } else { interval };
        if interrupt.within(pause)? {
            if form == Form::Page {
                let _ = show_end();
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Between the first look and the second.
const FIRST: Duration = Duration::from_millis(500);

/// One look at the director.
struct Look {
    sample: Sample,
    /// For the page.
    status: Option<Status>,
    is_first: bool,
}

fn look(client: &mut Option<Client>, which: &Which, form: Form) -> anyhow::Result<Look> {
    let is_first = client.is_none();
    let mut asked = match client.take() {
        Some(client) => client,
        None => which.connect()?,
    };
    // The page takes services from the status.
    let service = (form == Form::Page).then(String::new);
    let request = uvs_control::Request::Sample(Request { service, ..Request::default() });
    let sample = match asked.ask(&request)? {
        Answer::Sample(sample) => *sample,
        other => bail!("the director answered something else: {other:?}"),
    };
    let status = match form {
        Form::Page => match asked.ask(&uvs_control::Request::Status(status::Request {}))? {
            Answer::Status(status) => Some(*status),
            other => bail!("the director answered something else: {other:?}"),
        },
        Form::Lines | Form::Json => None,
    };
    *client = Some(asked);
    Ok(Look { sample, status, is_first })
}

fn lost(error: &anyhow::Error, form: Form) -> String {
    match form {
        Form::Json => serde_json::json!({ "error": format!("{error:#}") }).to_string() + "\n",
        Form::Page | Form::Lines => format!("no director; trying again ({error:#})\n"),
    }
}

impl Look {
    /// What there is to say; nothing without a look before, but a page.
    fn text(&self, before: Option<&Self>, form: Form) -> Option<String> {
        let pair = before.and_then(|before| Pair::of(&before.sample, &self.sample));
        match form {
            Form::Page => self.page(before, pair.as_ref()),
            Form::Lines => pair.map(|pair| line(&pair)),
            Form::Json => pair.and_then(|pair| json(&pair)),
        }
    }

    fn page(&self, before: Option<&Self>, pair: Option<&Pair<'_>>) -> Option<String> {
        let now = self.status.as_ref()?;
        let earlier =
            before.and_then(|before| before.status.as_ref()).filter(|_| pair.is_some()).unwrap_or(now);
        let elapsed = Duration::from_secs_f64(pair.map_or(1.0, |pair| pair.seconds));
        let page = pages::page(earlier, now, elapsed);
        let per_second = pair.map_or("rates come with the next look".to_owned(), per_second);
        Some(match page.split_once('\n') {
            Some((first, rest)) => format!("{first}\n{:12} {per_second}\n{rest}", "per second"),
            None => page,
        })
    }
}

fn per_second(pair: &Pair<'_>) -> String {
    let it = pair.total();
    format!(
        "{} connections, {} packets in {} out, {} bit in {} out, {} drops",
        rate(it.connections),
        rate(it.packets_in),
        rate(it.packets_out),
        rate(it.bits_in),
        rate(it.bits_out),
        rate(pair.drops())
    )
}

fn line(pair: &Pair<'_>) -> String {
    let (it, now) = (pair.total(), pair.now);
    let connections = now.limits.iter().find(|limit| limit.name == "connections");
    let out = now.services.iter().filter(|service| service.available == 0).count();
    format!(
        "{} conn/s {} pkt/s {} in {} out bit/s {} in {} out drop/s {} conns {} services {} down {out}\n",
        now.time,
        rate(it.connections),
        rate(it.packets_in),
        rate(it.packets_out),
        rate(it.bits_in),
        rate(it.bits_out),
        rate(pair.drops()),
        count(connections.map_or(0, |limit| limit.used)),
        now.services.len()
    )
}

/// As one line of JSON; `docs/top.md` has its fields.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    uptime_s: f64,
    pid: u32,
    seconds: f64,
    connections: u64,
    connections_max: u64,
    per_second: PerSecond,
    drops_per_second: f64,
    services: Vec<ServiceLine<'a>>,
}

#[derive(Serialize)]
struct ServiceLine<'a> {
    name: &'a str,
    available: u32,
    destinations: u32,
    active: u64,
    inactive: u64,
    per_second: Option<PerSecond>,
}

#[derive(Serialize)]
struct PerSecond {
    connections: f64,
    packets_in: f64,
    packets_out: f64,
    bytes_in: f64,
    bytes_out: f64,
}

impl From<Rates> for PerSecond {
    fn from(it: Rates) -> Self {
        // Thousandths are enough, and read better.
        let [connections, packets_in, packets_out, bytes_in, bytes_out] =
            [it.connections, it.packets_in, it.packets_out, it.bits_in / 8.0, it.bits_out / 8.0]
                .map(|rate| (rate * 1000.0).round() / 1000.0);
        Self { connections, packets_in, packets_out, bytes_in, bytes_out }
    }
}

fn json(pair: &Pair<'_>) -> Option<String> {
    let now = pair.now;
    let known = pair.services();
    let connections = now.limits.iter().find(|limit| limit.name == "connections");
    let line = Line {
        time: &now.time,
        uptime_s: now.uptime_s,
        pid: now.pid,
        seconds: pair.seconds,
        connections: connections.map_or(0, |limit| limit.used),
        connections_max: connections.map_or(0, |limit| limit.max),
        per_second: pair.total().into(),
        drops_per_second: (pair.drops() * 1000.0).round() / 1000.0,
        services: now
            .services
            .iter()
            .map(|it| ServiceLine {
                name: &it.name,
                available: it.available,
                destinations: it.destinations_total,
                active: it.active,
                inactive: it.inactive,
                per_second: known.get(it.name.as_str()).copied().map(PerSecond::from),
            })
            .collect(),
    };
    serde_json::to_string(&line).ok().map(|line| line + "\n")
}

/// Prints it: a page over the one before, as much of it as the terminal shows.
fn show(text: &str, form: Form) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if form != Form::Page {
        out.write_all(text.as_bytes())?;
        return out.flush();
    }
    let (width, height) = uvs_top::size().unwrap_or((80, 24));
    out.write_all(over(text, width.into(), height.into()).as_bytes())?;
    out.flush()
}

/// The page as it is written over the one before: each line to its end, and what is below is cleared.
fn over(text: &str, width: usize, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = height.saturating_sub(1).max(1);
    let mut drawn = String::from("\x1b[H");
    let fits = lines.len() <= room;
    for line in lines.iter().take(if fits { room } else { room - 1 }) {
        drawn.extend(line.chars().take(width));
        drawn.push_str("\x1b[K\r\n");
    }
    if !fits {
        let more = format!("and {} lines more: uvs status | less, or uvs top", lines.len() + 1 - room);
        drawn.extend(more.chars().take(width));
        drawn.push_str("\x1b[K\r\n");
    }
    drawn + "\x1b[J"
}

/// The prompt comes below the page.
fn show_end() -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use uvs_control::sample::{Counters, Service};
    use uvs_control::status::{Drops, Limit};

    use super::*;

    fn at(uptime_s: f64, connections: u64) -> Look {
        let counters = Counters { connections, bytes_in: 1000 * connections, ..Counters::default() };
        let sample = Sample {
            pid: 7,
            uptime_s,
            time: "2026-11-30T22:04:05.678Z".into(),
            total: counters,
            limits: vec![Limit { name: "connections".into(), used: 12, max: 1000, ..Limit::default() }],
            drops: vec![Drops { reason: "martian".into(), frames: connections / 10 }],
            services: vec![Service { name: "tcp 192.0.2.10:80".into(), counters, ..Service::default() }],
            ..Sample::default()
        };
        Look {
            sample,
            status: Some(Status { config: "edge.toml".into(), ..Status::default() }),
            is_first: false,
        }
    }

    #[test]
    fn a_line_has_a_time_and_what_happened_in_a_second() {
        let (before, now) = (at(10.0, 100), at(12.0, 180));
        assert_eq!(before.text(None, Form::Lines), None, "there are no rates yet");
        let want = "2026-11-30T22:04:05.678Z conn/s 40 pkt/s 0 in 0 out bit/s 320k in 0 out drop/s 4.0 conns 12 \
                    services 1 down 1\n";
        assert_eq!(now.text(Some(&before), Form::Lines).unwrap(), want);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = at(12.0, 180).text(Some(&at(10.0, 100)), Form::Json).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["per_second"]["connections"], 40.0);
        assert_eq!(line["services"][0]["per_second"]["bytes_in"], 40_000.0);
        assert_eq!(
            (line["connections_max"].as_u64(), line["drops_per_second"].as_f64()),
            (Some(1000), Some(4.0))
        );
    }

    #[test]
    fn a_page_says_what_happens_in_a_second_and_fits() {
        let text = at(12.0, 180).text(Some(&at(10.0, 100)), Form::Page).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("edge.toml"), "{text}");
        assert_eq!(lines[1], "per second   40 connections, 0 packets in 0 out, 320k bit in 0 out, 4.0 drops");
        let drawn = over("one\ntwo\nthree\nfour and more\n", 8, 4);
        assert_eq!(drawn, "\x1b[Hone\x1b[K\r\ntwo\x1b[K\r\nand 2 li\x1b[K\r\n\x1b[J");
        assert_eq!(over("one\ntwo\n", 8, 4), "\x1b[Hone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn rates_begin_anew_with_another_director() {
        let mut other = at(1.0, 3);
        other.sample.pid = 8;
        assert_eq!(other.text(Some(&at(10.0, 100)), Form::Lines), None);
        assert!(other.text(Some(&at(10.0, 100)), Form::Page).unwrap().contains("with the next look"));
    }
}
