//! `uvs announce`: VIPs that the running director tells routers of.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use uvs_control::announce::{Answer as Announced, Request};
use uvs_control::{Answer, Client};

use super::Which;
use super::health::time;

/// `uvs announce`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Show which VIPs are announced, and why others are not
    #[command(after_help = STATUS)]
    Status(Args),
    /// Withdraw all VIPs, as before work on this host: until `uvs announce on`, or the director's next start
    #[command(after_help = OFF)]
    Off(Args),
    /// Announce those again that are fit
    #[command(after_help = ON)]
    On(Args),
    /// Tell ExaBGP, which started this as its process, what is announced
    #[command(after_help = EXABGP)]
    Exabgp(ExabgpArgs),
}

const STATUS: &str = "\
Examples:
  uvs announce status
  uvs announce status --json | jq '.vips[] | select(.announced)'

Exit status: 0 all VIPs are announced, 1 one is not, nothing is to be announced, or no director answers.";

const OFF: &str = "\
The routes are gone when this returns. Connections go on here as long as routers send their packets; then it is up to
the other directors.

Example:
  uvs announce off && sleep 5 && systemctl stop uvs

Exit status: 0 nothing is announced, 1 a route is left, nothing is to be announced, or no director answers.";

const ON: &str = "\
Example:
  uvs announce on

Exit status: 0 all VIPs are announced, 1 one is not, nothing is to be announced, or no director answers.";

const EXABGP: &str = "\
It writes `announce route` and `withdraw route` as VIPs come and go, all that are announced every 30 seconds, and
withdraws all when the director does not answer. It reads what ExaBGP answers, and ends with it.

Example, in exabgp.conf:
  process uvs { run /usr/bin/uvs announce exabgp; encoder text; }

Exit status: 0 ExaBGP has ended, 1 it cannot be told.";

/// What each of them takes.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// Print it as JSON, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs announce exabgp`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ExabgpArgs {
    /// What routers send packets of VIPs to: an address, or self, which is that of the session
    #[arg(long, value_name = "ADDRESS", default_value = "self", value_parser = next_hop)]
    pub next_hop: String,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

fn next_hop(text: &str) -> Result<String, String> {
    match text == "self" || text.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err("it is neither an IP address nor self".to_owned()),
    }
}

/// Asks and prints.
///
/// # Errors
/// No director answers, or it refuses.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let (request, Args { json, which }, wanted) = match command {
        Command::Status(arguments) => (Request::Status {}, arguments, true),
        Command::Off(arguments) => (Request::Off {}, arguments, false),
        Command::On(arguments) => (Request::On {}, arguments, true),
        Command::Exabgp(arguments) => return exabgp(arguments),
    };
    let answer = match which.connect()?.ask(&uvs_control::Request::Announce(request))? {
        Answer::Announce(answer) => answer,
        other => bail!("the director answered something else: {other:?}"),
    };
    let text = if *json { serde_json::to_string_pretty(&answer)? + "\n" } else { shown(&answer) };
    write!(std::io::stdout().lock(), "{text}").context("standard output cannot be written")?;
    let is_so = answer.configured && answer.vips.iter().all(|it| it.announced == wanted);
    Ok(if is_so { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How often the director is asked, and how long it may take.
const ASK_EVERY: Duration = Duration::from_millis(500);
const ASK_FOR: Duration = Duration::from_secs(3);
/// How often all is said again, for an ExaBGP that has forgotten it.
const REPEAT_EVERY: Duration = Duration::from_secs(30);

/// Tells ExaBGP what is announced, until it ends.
fn exabgp(ExabgpArgs { next_hop, which }: &ExabgpArgs) -> anyhow::Result<ExitCode> {
    // Its answers are read always: a pipe that is full would stop it.
    let read = || {
        for line in std::io::stdin().lines() {
            match line {
                Ok(line) if line.trim() == "error" => eprintln!("ExaBGP refuses what it was told"),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        std::process::exit(0);
    };
    std::thread::Builder::new().name("answers".into()).spawn(read).context("no answers can be read")?;
    let mut told = BTreeSet::new();
    let mut repeated = Instant::now();
    loop {
        let now = announced_by(which);
        let repeat = repeated.elapsed() >= REPEAT_EVERY;
        let text = lines_for_exabgp(&told, &now, next_hop, repeat);
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("ExaBGP cannot be told")?;
        drop(out);
        if repeat {
            repeated = Instant::now();
        }
        told = now;
        std::thread::sleep(ASK_EVERY);
    }
}

/// The VIPs that the director announces; none where it does not answer.
fn announced_by(which: &Which) -> BTreeSet<IpAddr> {
    let ask = || {
        let mut client = Client::connect(&which.path(), ASK_FOR).ok()?;
        match client.ask(&uvs_control::Request::Announce(Request::Status {})) {
            Ok(Answer::Announce(answer)) => Some(answer),
            _ => None,
        }
    };
    let vips = ask().unwrap_or_default().vips.into_iter().filter(|it| it.announced);
    vips.filter_map(|it| it.vip.parse().ok()).collect()
}

fn lines_for_exabgp(told: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>, next_hop: &str, repeat: bool) -> String {
    let line = |verb: &str, vip: &IpAddr| {
        format!("{verb} route {vip}/{} next-hop {next_hop}\n", if vip.is_ipv4() { 32 } else { 128 })
    };
    let gone = told.difference(now).map(|vip| line("withdraw", vip));
    let there = now.iter().filter(|vip| repeat || !told.contains(vip)).map(|vip| line("announce", vip));
    gone.chain(there).collect()
}

fn shown(answer: &Announced) -> String {
    if !answer.configured {
        return "nothing is announced: the configuration has no [announce]\n".to_owned();
    }
    let mut text = String::new();
    if let Some(by) = &answer.off_by {
        text.push_str(&format!("{by} has switched it off; `uvs announce on` announces again\n"));
    }
    if answer.vips.is_empty() {
        text.push_str("no service has a VIP that is to be announced\n");
    } else {
        text.push_str(&format!("{:39} {:10} {:15} {}\n", "VIP", "announced", "device", "for"));
    }
    for it in &answer.vips {
        let word = if it.announced { "yes" } else { "no" };
        let reason = it.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        text.push_str(&format!("{:39} {word:10} {:15} {}{reason}\n", it.vip, it.device, time(it.since_s)));
    }
    text
}

#[cfg(test)]
mod tests {
    use uvs_control::announce::Vip;

    use super::*;

    #[test]
    fn exabgp_is_told_what_changed_and_at_times_all() {
        let set = |vips: &[&str]| vips.iter().map(|vip| vip.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        let cases = [
            (set(&[]), set(&["10.0.0.1"]), false, "announce route 10.0.0.1/32 next-hop self\n"),
            (set(&["10.0.0.1"]), set(&["10.0.0.1"]), false, ""),
            (set(&["10.0.0.1"]), set(&["10.0.0.1"]), true, "announce route 10.0.0.1/32 next-hop self\n"),
            (
                set(&["10.0.0.1", "2001:db8::1"]),
                set(&["10.0.0.2"]),
                false,
                "withdraw route 10.0.0.1/32 next-hop self\nwithdraw route 2001:db8::1/128 next-hop self\n\
                 announce route 10.0.0.2/32 next-hop self\n",
            ),
        ];
        for (told, now, repeat, want) in cases {
            assert_eq!(lines_for_exabgp(&told, &now, "self", repeat), want);
        }
    }

    #[test]
    fn it_says_what_is_announced_and_why_something_is_not() {
        let vip = |vip: &str, announced, reason: Option<&str>| Vip {
            vip: vip.into(),
            device: "uvs0".into(),
            announced,
            since_s: 300.0,
            reason: reason.map(str::to_owned),
        };
        let fit = vip("10.0.0.100", true, None);
        let other = vip("2001:db8::1", false, Some("tcp [2001:db8::1]:80: quorum lost"));
        let cases = [
            (Announced::default(), "the configuration has no [announce]"),
            (Announced { configured: true, ..Announced::default() }, "no service has a VIP"),
            (
                Announced { configured: true, off_by: None, vips: vec![fit.clone(), other] },
                "2001:db8::1                             no         uvs0            5 min: tcp [2001:db8::1]:80: quorum lost\n",
            ),
            (
                Announced { configured: true, off_by: Some("uid 0 pid 7".into()), vips: vec![fit] },
                "uid 0 pid 7 has switched it off; `uvs announce on` announces again\nVIP ",
            ),
        ];
        for (answer, part) in cases {
            assert!(shown(&answer).contains(part), "{}", shown(&answer));
        }
    }
}
