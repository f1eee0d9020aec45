//! `uvs status`: how the director does, on one page.

use std::io::Write as _;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use uvs_control::plan::LastReload;
use uvs_control::status::{Answer as Status, Flow, Interface, Losses, Request};
use uvs_control::{Answer, Client};
use uvs_top::{figures, rates};

use super::{Which, health, watch};

/// Between the two looks that the interfaces' rates are made of.
const INTERVAL: Duration = Duration::from_millis(500);

/// `uvs status`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs status                  the director on one page
  uvs status --watch          the same again and again, until Ctrl-C; in a pipe a line for each look
  uvs status --watch=10 --json | jq .per_second
                              what happens in a second, looked at every 10 seconds

Exit status: 0 done, or Ctrl-C; 1 no director answers (with --watch it is waited for).")]
pub struct Args {
    /// Which director
    #[command(flatten)]
    pub which: Which,
    /// Print it as JSON, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Look again and again, every so many seconds, with what happens in a second; outlives a director that is started
    /// anew
    #[arg(
        long,
        short,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = false,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub watch: Option<u32>,
}

/// Asks and prints.
///
/// # Errors
/// No director answers.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    if let Some(seconds) = arguments.watch {
        return watch::run(&arguments.which, arguments.json, Duration::from_secs(seconds.into()));
    }
    let mut client = arguments.which.connect()?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&ask(&mut client)?)? + "\n"
    } else {
        let (before, began) = (ask(&mut client)?, Instant::now());
        thread::sleep(INTERVAL);
        let now = ask(&mut client)?;
        page(&before, &now, began.elapsed())
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("standard output cannot be written")?;
    Ok(ExitCode::SUCCESS)
}

fn ask(client: &mut Client) -> anyhow::Result<Status> {
    match client.ask(&uvs_control::Request::Status(Request {}))? {
        Answer::Status(status) => Ok(*status),
        other => bail!("the director answered something else: {other:?}"),
    }
}

/// The page: what it is, how full, what passes, whom it serves, what goes wrong.
pub(super) fn page(before: &Status, now: &Status, elapsed: Duration) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(format!(
        "uvs {}, pid {}, up {}, {}",
        now.version,
        now.pid,
        figures::clock(now.uptime_s),
        now.config
    ));
    for limit in &now.limits {
        line(format!("{:12} {} of {}", limit.name, limit.used, limit.max));
    }
    if let Some(lowered) = &now.limits_lowered {
        line(format!("{:12} {lowered}", "by memory"));
    }
    if let Some(reload) = &now.reload {
        of_reload(reload).into_iter().for_each(&mut line);
    }
    by_hand(now).into_iter().for_each(&mut line);
    line(String::new());
    line(format!(
        "{:16} {:10} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>6}",
        "Interface", "datapath", "in f/s", "in bit/s", "out f/s", "out bit/s", "errors", "lost", "mtu"
    ));
    for (index, interface) in now.interfaces.iter().enumerate() {
        let zero = Interface::default();
        let old = before.interfaces.get(index).unwrap_or(&zero);
        let rate = |flow: Flow, old: Flow| {
            (
                per_second(flow.frames, old.frames, elapsed),
                8.0 * rates::per_second(old.bytes, flow.bytes, elapsed.as_secs_f64()),
            )
        };
        let (received, transmitted) =
            (rate(interface.received, old.received), rate(interface.transmitted, old.transmitted));
        line(format!(
            "{:16} {:10} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8} {:>6}",
            interface.name,
            interface.datapath,
            received.0,
            figures::short(received.1),
            transmitted.0,
            figures::short(transmitted.1),
            interface.received.errors + interface.transmitted.errors,
            interface.losses.iter().map(Losses::total).sum::<u64>(),
            interface.mtu
        ));
    }
    now.interfaces.iter().flat_map(of_interface).chain(now.notices.iter().cloned()).for_each(&mut line);
    if let (Some(cache), before) = (&now.flow_cache, before.flow_cache.unwrap_or_default()) {
        line(format!(
            "Flow cache: {} flows of {}, {} packets/s, {} connections placed, {} without room",
            cache.flows,
            cache.flows_max,
            per_second(cache.packets, before.packets, elapsed),
            cache.connections,
            cache.refused
        ));
    }
    for interface in &now.not_accelerated {
        line(format!("{} is not accelerated: {}", interface.interface, interface.why));
    }
    for interface in &now.interfaces {
        // What was tried and is missing has just been said.
        let said = now.not_accelerated.iter().any(|it| it.interface == interface.name);
        if let Some(faster) = interface.faster.as_ref().filter(|_| !said) {
            line(format!("{} passes frames by {}; faster: {faster}", interface.name, interface.datapath));
        }
    }
    line(String::new());
    line(format!(
        "{:32} {:10} {:>9} {:>8} {:>8} {:>8}",
        "Service", "scheduler", "available", "active", "inactive", "conn/s"
    ));
    if now.services.is_empty() {
        line("(none)".to_owned());
    }
    for service in &now.services {
        line(format!(
            "{:32} {:10} {:>9} {:>8} {:>8} {:>8}",
            service.name,
            scheduler_name(&service.scheduler),
            format!("{}/{}", service.available, service.destinations),
            service.active,
            service.inactive,
            service.connections_per_s
        ));
    }
    health::lines(&now.health).into_iter().for_each(&mut line);
    let trouble: Vec<_> = now
        .schedulers
        .iter()
        .filter(|scheduler| scheduler.failures > 0 || scheduler.serving != "module")
        .collect();
    if !trouble.is_empty() {
        line(String::new());
        line("Schedulers that failed".to_owned());
        for scheduler in trouble {
            line(format!(
                "{:32} {:10} {}, {} failures in {} picks, set aside {} times",
                scheduler.service,
                scheduler_name(&scheduler.scheduler),
                match scheduler.serving.as_str() {
                    "module" => "at work again",
                    "given_up" => "given up, the fallback picks",
                    _ => "set aside, the fallback picks",
                },
                scheduler.failures,
                scheduler.picks,
                scheduler.ejections
            ));
        }
    }
    if !now.drops.is_empty() {
        line(String::new());
        let drops: Vec<String> =
            now.drops.iter().map(|drops| format!("{} {}", drops.reason, drops.frames)).collect();
        line(format!("Dropped so far: {}", drops.join(", ")));
    }
    text
}

/// So many lines about a reload, and about what was done by hand, are shown.
const LINES_MAX: usize = 10;

/// When the latest reload was, and what it changed or why it failed.
fn of_reload(reload: &LastReload) -> Vec<String> {
    let LastReload { time, by, outcome, changes, summary, reasons } = reload;
    let come_to = match outcome.as_str() {
        "done" => match changes {
            0 => "nothing had to change".to_owned(),
            1 => "1 change".to_owned(),
            changes => format!("{changes} changes"),
        },
        "refused" => "REFUSED, the configuration before stays in force".to_owned(),
        _ => "FAILED, some of it is in force; correct the configuration and reload again".to_owned(),
    };
    let mut lines = vec![format!("{:12} {} by {by}: {come_to}", "reload", time_of_day(time))];
    let total = usize::try_from(*changes).unwrap_or(usize::MAX);
    lines.extend(listed(summary, total));
    lines.extend(listed(reasons, reasons.len()));
    lines
}

/// What was done by hand since.
fn by_hand(now: &Status) -> Vec<String> {
    let total = usize::try_from(now.by_hand_total).unwrap_or(usize::MAX);
    if total == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("{:12} {total} by hand, which a reload undoes (uvs plan):", "changes")];
    lines.extend(listed(&now.by_hand, total));
    lines
}

/// The first of them, indented, and how many there are beside.
fn listed(all: &[String], total: usize) -> Vec<String> {
    let of = |text: &String| text.lines().map(|line| format!("{:12} {line}", "")).collect::<Vec<_>>();
    let mut lines: Vec<String> = all.iter().take(LINES_MAX).flat_map(of).collect();
    let more = total.saturating_sub(LINES_MAX);
    if more > 0 {
        lines.push(format!("{:12} and {more} more", ""));
    }
    lines
}

/// Of 2026-11-30T22:04:05.678Z what people read: 2026-11-30 22:04:05 UTC.
fn time_of_day(time: &str) -> String {
    match time.split_once('T') {
        Some((day, rest)) => format!("{day} {} UTC", rest.split(['.', 'Z']).next().unwrap_or(rest)),
        None => time.to_owned(),
    }
}

/// What is amiss with an interface, and what was lost around it.
fn of_interface(interface: &Interface) -> Vec<String> {
    let name = &interface.name;
    let mut lines = Vec::new();
    if !interface.reasons.is_empty() {
        lines.push(format!("{name} is {}: {}", interface.state, interface.reasons.join("; ")));
    }
    if interface.repairs > 0 {
        lines.push(format!("{name}: the host was set up again {} times, see the log", interface.repairs));
    }
    for it in interface.losses.iter().filter(|it| it.total() > 0) {
        lines.push(format!(
            "{name}: {} ({}) lost on the way in: {} dropped, {} errors; out: {} dropped, {} errors",
            it.device,
            it.role,
            it.received_dropped,
            it.received_errors,
            it.transmitted_dropped,
            it.transmitted_errors
        ));
    }
    lines
}

/// Of a path, the file's name.
fn scheduler_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; what is no number or too large ends at the bounds"
)]
fn per_second(now: u64, before: u64, elapsed: Duration) -> u64 {
    (now.saturating_sub(before) as f64 / elapsed.as_secs_f64()).round() as u64
}

#[cfg(test)]
mod tests {
    use uvs_control::status::{Drops, FlowCache, Limit, NotAccelerated, Scheduler, Service};

    use super::*;

    #[test]
    fn the_page_tells_what_matters() {
        let status = |bytes: u64| Status {
            version: "0.1.0".into(),
            pid: 7,
            uptime_s: 90_061.5,
            config: "edge.toml".into(),
            interfaces: vec![Interface {
                name: "uvs0".into(),
                received: Flow { frames: bytes / 1000, bytes, errors: 1 },
                transmitted: Flow::default(),
                datapath: "bridge".into(),
                faster: Some("a cable".into()),
                state: "degraded".into(),
                reasons: vec!["eth0 has no carrier".into(), "it is late".into()],
                mtu: 1450,
                repairs: 2,
                losses: vec![Losses {
                    device: "uvs0".into(),
                    role: "device".into(),
                    received_dropped: 105,
                    ..Losses::default()
                }],
            }],
            services: vec![Service {
                name: "tcp 192.0.2.10:80".into(),
                scheduler: "/etc/uvs/mine.wasm".into(),
                available: 2,
                destinations: 3,
                active: 5,
                ..Service::default()
            }],
            schedulers: vec![
                Scheduler {
                    service: "tcp 192.0.2.10:80".into(),
                    scheduler: "/etc/uvs/mine.wasm".into(),
                    serving: "ejected".into(),
                    picks: 100,
                    failures: 9,
                    ejections: 1,
                },
                Scheduler { serving: "module".into(), ..Scheduler::default() },
            ],
            flow_cache: Some(FlowCache {
                flows: 4,
                flows_max: 100,
                connections: 9,
                refused: 1,
                packets: bytes / 100,
            }),
            not_accelerated: vec![NotAccelerated { interface: "uvs1".into(), why: "it is slow".into() }],
            limits: vec![Limit { name: "connections".into(), used: 12, max: 1000, ..Limit::default() }],
            limits_lowered: Some("connections = 1000: 1 MiB left (memory.max)".into()),
            drops: vec![Drops { reason: "martian".into(), frames: 3 }],
            health: vec![],
            reload: Some(LastReload {
                time: "2026-11-30T22:04:05.678Z".into(),
                by: "SIGHUP".into(),
                outcome: "done".into(),
                changes: 12,
                summary: vec!["~ destination 10.0.0.1:80 of tcp 192.0.2.10:80: weight 1 -> 5".into(); 12],
                reasons: vec![],
            }),
            by_hand: vec!["+ service tcp 192.0.2.10:81: scheduler rr".into()],
            by_hand_total: 1,
            notices: vec!["the network namespace edge was deleted".into()],
        };
        let text = page(&status(1_000_000), &status(2_000_000), Duration::from_millis(500));
        let want = [
            "uvs 0.1.0, pid 7, up 1 d 01:01:01, edge.toml",
            "connections  12 of 1000",
            "uvs0             bridge           2000      16.0M          0          0        1      105   1450",
            "uvs0 passes frames by bridge; faster: a cable",
            "uvs0 is degraded: eth0 has no carrier; it is late",
            "uvs0: the host was set up again 2 times, see the log",
            "uvs0: uvs0 (device) lost on the way in: 105 dropped, 0 errors; out: 0 dropped, 0 errors",
            "the network namespace edge was deleted",
            "reload       2026-11-30 22:04:05 UTC by SIGHUP: 12 changes",
            "             ~ destination 10.0.0.1:80 of tcp 192.0.2.10:80: weight 1 -> 5",
            "             and 2 more",
            "changes      1 by hand, which a reload undoes (uvs plan):",
            "             + service tcp 192.0.2.10:81: scheduler rr",
            "by memory    connections = 1000: 1 MiB left (memory.max)",
            "tcp 192.0.2.10:80                mine.wasm        2/3        5        0        0",
            "set aside, the fallback picks, 9 failures in 100 picks, set aside 1 times",
            "Flow cache: 4 flows of 100, 20000 packets/s, 9 connections placed, 1 without room",
            "uvs1 is not accelerated: it is slow",
            "Dropped so far: martian 3",
        ];
        for part in want {
            assert!(text.lines().any(|line| line.contains(part)), "{part:?} is in\n{text}");
        }
        assert_eq!(text.matches("failures").count(), 1, "who does well is not listed:\n{text}");
    }
}
