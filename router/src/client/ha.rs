//! `uvs ha`: the virtual routers of the running director.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use uvs_control::ha::{Answer, Group, Heard, Maint, Request, Router, Whose};

use super::Which;
use super::health::time;

/// `uvs ha`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs ha status                  who is active, why, and whom this director heard when
  uvs ha failover                hand all virtual addresses over, as before work on this machine
  uvs ha maint on                take no part until `uvs ha maint off`
  uvs ha status --json | jq -r '.groups[].state'

Exit status: 0 done; 1 no director answers, it has no such virtual router, or there is nothing to hand over.")]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Show the virtual routers: their states and why, the last advertisement of each other router and how old it is
    #[command(after_help = "\
Example:
  uvs ha status

Exit status: 0 done, 1 no director answers.")]
    Status(Common),
    /// Have another director take over, now. This one stays a backup, and takes over again only when nobody is active
    #[command(after_help = "\
Example:
  uvs ha failover web

Exit status: 0 this director is active no more; 1 no director answers, or it is not active.")]
    Failover(FailoverArgs),
    /// Take no part until that is taken back: others take over at once, and nothing comes back by itself
    #[command(after_help = "\
Examples:
  uvs ha maint on
  uvs ha maint off web

It survives a reload of the configuration, not a restart.
Exit status: 0 done; 1 no director answers, or it has no such virtual router.")]
    Maint(MaintArgs),
}

/// What all have.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Common {
    /// Print how they stand as JSON, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs ha failover`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct FailoverArgs {
    /// A group, or a virtual router: the group that it is in goes with it [default: all that are active here]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How it is told, and by whom
    #[command(flatten)]
    pub common: Common,
}

/// `uvs ha maint`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct MaintArgs {
    /// Whether it begins or is over
    #[arg(value_enum)]
    pub switch: Switch,
    /// A group, or a virtual router: the group that it is in goes with it [default: all]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How it is told, and by whom
    #[command(flatten)]
    pub common: Common,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// It begins
    On,
    /// It is over
    Off,
}

/// Asks and prints.
///
/// # Errors
/// No director answers, or it refuses.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    let (request, common) = match &arguments.command {
        Command::Status(common) => (Request::Status {}, common),
        Command::Failover(it) => (Request::Failover(Whose { name: it.name.clone() }), &it.common),
        Command::Maint(it) => {
            (Request::Maint(Maint { name: it.name.clone(), on: it.switch == Switch::On }), &it.common)
        }
    };
    let answer = match common.which.connect()?.ask(&uvs_control::Request::Ha(request))? {
        uvs_control::Answer::Ha(answer) => *answer,
        other => bail!("the director answered something else: {other:?}"),
    };
    let text = match common.json {
        true => serde_json::to_string_pretty(&answer)? + "\n",
        false => page(&answer),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("standard output cannot be written")?;
    Ok(ExitCode::SUCCESS)
}

/// For people.
fn page(answer: &Answer) -> String {
    let mut lines = Vec::new();
    if answer.groups.is_empty() {
        lines.push("no virtual routers: the configuration has no [[vrrp]]".to_owned());
    }
    for group in &answer.groups {
        of_group(group, &mut lines);
    }
    if !answer.strays.is_empty() {
        let strays = answer.strays.iter().map(|it| format!("{} {}", it.count, it.reason));
        lines.push(format!("advertisements for none of these: {}", strays.collect::<Vec<_>>().join(", ")));
    }
    lines.join("\n") + "\n"
}

fn of_group(it: &Group, lines: &mut Vec<String>) {
    let kind = if it.sync_group { "group " } else { "" };
    let mut line = format!("{kind}{}: {} for {}", it.name, it.state, time(it.since_s));
    line.push_str(&format!(", priority {}", it.priority));
    if it.priority != it.configured_priority {
        line.push_str(&format!(" (configured: {})", it.configured_priority));
    }
    lines.push(line);
    lines.push(format!("  why: {}", it.reason));
    if it.yielded {
        lines.push("  failover was asked for: it takes over when nobody is active".to_owned());
    }
    it.routers.iter().for_each(|router| of_router(router, it.sync_group, lines));
}

fn of_router(it: &Router, named: bool, lines: &mut Vec<String>) {
    let name = if named { format!("{}: ", it.name) } else { String::new() };
    let to = if it.peers.is_empty() { String::new() } else { format!(" to {}", it.peers.join(", ")) };
    lines.push(format!(
        "  {name}VRID {} on {}, {} version {}, from {}{to} every {}",
        it.vrid,
        it.interface,
        it.family,
        it.version,
        it.source,
        time(it.advert_int_s)
    ));
    let addresses: Vec<&str> =
        it.addresses.iter().chain(&it.excluded_addresses).map(String::as_str).collect();
    lines.push(format!("  addresses: {}", addresses.join(", ")));
    match it.heard.is_empty() {
        true => lines.push("  no other router was heard".to_owned()),
        false => lines.extend(it.heard.iter().map(of_heard)),
    }
    if let Some(left) = it.takes_over_in_s {
        let down = time(it.down_interval_s);
        lines.push(format!(
            "  takes over in {} unless it hears an active router ({down} of silence)",
            time(left)
        ));
    }
    let counts = &it.counts;
    lines.push(format!(
        "  advertisements: {} sent, {} taken; active {} {}",
        counts.sent,
        counts.received,
        counts.takeovers,
        if counts.takeovers == 1 { "time" } else { "times" }
    ));
    if !it.refused.is_empty() {
        let refused = it.refused.iter().map(|it| format!("{} {}", it.count, it.reason));
        lines.push(format!("  not taken: {}", refused.collect::<Vec<_>>().join(", ")));
    }
    for (count, what) in [
        (counts.rivals, "of another active router while this one was active"),
        (counts.other_addresses, "with other addresses"),
        (counts.other_interval, "with another interval"),
    ] {
        if count > 0 {
            lines.push(format!("  {count} {what}"));
        }
    }
}

fn of_heard(it: &Heard) -> String {
    let what = match it.priority {
        0 => "left".to_owned(),
        priority => format!("priority {priority}, every {}", time(it.advert_int_s)),
    };
    format!("  heard {}: {what}, {} ago", it.from, time(it.age_s))
}

#[cfg(test)]
mod tests {
    use uvs_control::ha::{Counts, Refused};

    use super::*;

    #[test]
    fn it_says_who_is_active_why_and_who_was_heard_when() {
        let router = Router {
            name: "web".into(),
            interface: "uvs0".into(),
            family: "IPv4".into(),
            vrid: 51,
            version: 3,
            source: "192.0.2.3".into(),
            addresses: vec!["192.0.2.10".into()],
            advert_int_s: 1.0,
            down_interval_s: 3.609,
            takes_over_in_s: Some(3.1),
            heard: vec![Heard { from: "192.0.2.2".into(), priority: 150, advert_int_s: 1.0, age_s: 0.4 }],
            counts: Counts { sent: 2, received: 40, takeovers: 1, other_addresses: 3, ..Counts::default() },
            refused: vec![Refused { reason: "checksum".into(), count: 2 }],
            ..Router::default()
        };
        let group = Group {
            name: "web".into(),
            state: "backup".into(),
            since_s: 12.0,
            reason: "192.0.2.2 is Active with priority 150".into(),
            priority: 80,
            configured_priority: 100,
            routers: vec![router],
            ..Group::default()
        };
        let wanted = "\
web: backup for 12 s, priority 80 (configured: 100)
  why: 192.0.2.2 is Active with priority 150
  VRID 51 on uvs0, IPv4 version 3, from 192.0.2.3 every 1 s
  addresses: 192.0.2.10
  heard 192.0.2.2: priority 150, every 1 s, 400 ms ago
  takes over in 3 s unless it hears an active router (4 s of silence)
  advertisements: 2 sent, 40 taken; active 1 time
  not taken: 2 checksum
  3 with other addresses
";
        assert_eq!(page(&Answer { groups: vec![group], strays: vec![] }), wanted);
        assert_eq!(page(&Answer::default()), "no virtual routers: the configuration has no [[vrrp]]\n");
    }
}
