//! `uvs events`: what happens to checks, services, weights and the configuration of the running director.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use uvs_control::event::{Answer as Events, Event, Kind, Request};
use uvs_control::{Answer, Client};

use super::Which;

/// `uvs events`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs events                     what happens from now on, until Ctrl-C
  uvs events --since 12h         what happened in the night
  uvs events --last 20 --follow  the latest 20, and what happens from now on
  uvs events --json              for programs: one JSON object a line (docs/control.md says what is in it)

The director keeps the latest 8192 events since its start. Whoever reads too slowly is told how many are lost.
Exit status: 0 all were printed, or Ctrl-C; 1 no director answers, or it ended.")]
pub struct Args {
    /// Print the latest N events and end
    #[arg(long, value_name = "N")]
    pub last: Option<u32>,
    /// Print the events of so long, as in 90s, 10m, 12h or 2d, and end
    #[arg(long, value_name = "TIME", value_parser = uvs_config::parse_duration)]
    pub since: Option<Duration>,
    /// Go on with what happens from now on; without --last and --since that is all
    #[arg(long, short)]
    pub follow: bool,
    /// Print one JSON object a line, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// Asks and prints, until there is an end to it.
///
/// # Errors
/// No director answers, or it ended.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    let mut client = arguments.which.connect()?;
    let follow = arguments.follow || arguments.last.is_none() && arguments.since.is_none();
    let since_s = arguments.since.map(|since| since.as_secs() + u64::from(since.subsec_nanos() > 0));
    let request = Request { follow, last: arguments.last, since_s };
    let mut answer = client.ask(&uvs_control::Request::Events(request))?;
    if follow {
        // A line is printed whole or not at all: Ctrl-C just ends it.
        end_by_signals()?;
    }
    loop {
        let Answer::Events(events) = answer else {
            bail!("the director answered something else: {answer:?}")
        };
        match print(&events, arguments.json) {
            // Whoever read them has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            printed => printed.context("standard output cannot be written")?,
        }
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        answer = next(&mut client)?;
    }
}

fn next(client: &mut Client) -> anyhow::Result<Answer> {
    client.more().context("there are no more events: the director has ended, or lets this reader go")
}

/// Ends this process with status 0 at SIGINT or SIGTERM.
fn end_by_signals() -> anyhow::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("signals cannot be waited for")?;
    let wait = move || {
        if signals.wait().is_ok() {
            // Nobody prints a line meanwhile.
            let _output = io::stdout().lock();
            std::process::exit(0);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("signals cannot be waited for")?;
    Ok(())
}

fn print(answer: &Events, json: bool) -> io::Result<()> {
    let mut text = String::new();
    if answer.lost > 0 {
        text.push_str(&if json {
            format!("{{\"lost\":{}}}\n", answer.lost)
        } else {
            format!("{} events lost\n", answer.lost)
        });
    }
    for event in &answer.events {
        text.push_str(&if json {
            serde_json::to_string(event).map_err(io::Error::other)?
        } else {
            line(event)
        });
        text.push('\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// An event for people.
fn line(event: &Event) -> String {
    let weight = event.weight.unwrap_or_default();
    let what = match event.kind {
        Kind::Ready => "the director is ready".to_owned(),
        Kind::Stopping => "the director stops".to_owned(),
        Kind::CheckUp => "is up".to_owned(),
        Kind::CheckDown => "is down".to_owned(),
        Kind::CheckUnmade => "cannot be made".to_owned(),
        Kind::CheckUnchecked => "has no result".to_owned(),
        Kind::CheckOverdue => "gave no result in time and was given up".to_owned(),
        Kind::Certificate => "the certificate expires soon".to_owned(),
        Kind::DestinationUp => "in service".to_owned(),
        Kind::DestinationDown => "out of service".to_owned(),
        Kind::DestinationHeld => "held out of service".to_owned(),
        // Its first results have come.
        Kind::QuorumUp if event.from.is_some() => {
            format!("quorum held, {weight} of {}", event.of.unwrap_or_default())
        }
        Kind::QuorumUp => format!("quorum regained, {weight} of {}", event.of.unwrap_or_default()),
        Kind::QuorumDown => format!("quorum lost, {weight} of {}", event.of.unwrap_or_default()),
        Kind::BackupUp => "the backups serve".to_owned(),
        Kind::BackupDown => "the backups serve no longer".to_owned(),
        Kind::Weight => format!("weight {weight}"),
        Kind::WeightMended => format!("weight {weight} again, was {}", event.of.unwrap_or_default()),
        Kind::Reloaded => "configuration reloaded".to_owned(),
        Kind::ReloadFailed => "configuration not reloaded".to_owned(),
        Kind::Notified => "told".to_owned(),
        Kind::NotifyFailed => "not told".to_owned(),
        Kind::NotifyDropped => "not told".to_owned(),
        Kind::Other => "something that this uvs does not know".to_owned(),
    };
    let mut words = vec![event.time.clone()];
    words.extend(event.service.clone());
    words.extend(event.destination.clone());
    words.extend(event.check.as_ref().map(|check| format!("check {check}")));
    words.push(what);
    let mut text = words.join(" ");
    if let Some(by) = &event.by {
        text.push_str(&format!(" ({by})"));
    }
    if let Some(reason) = &event.reason {
        text.push_str(&format!(": {reason}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_of_whom_what_and_why() {
        let event = Event {
            number: 3,
            time: "2026-11-30T22:04:05.678Z".into(),
            kind: Kind::CheckDown,
            service: Some("tcp 192.0.2.10:80".into()),
            destination: Some("10.0.0.1:80".into()),
            check: Some("web".into()),
            from: Some("up".into()),
            reason: Some("refused".into()),
            ..Event::default()
        };
        let text = "2026-11-30T22:04:05.678Z tcp 192.0.2.10:80 10.0.0.1:80 check web is down: refused";
        assert_eq!(line(&event), text);
        let event = Event {
            kind: Kind::Weight,
            check: None,
            reason: None,
            weight: Some(0),
            by: Some("health".into()),
            ..event
        };
        let text = "2026-11-30T22:04:05.678Z tcp 192.0.2.10:80 10.0.0.1:80 weight 0 (health)";
        assert_eq!(line(&event), text);
        let event = Event { kind: Kind::Ready, time: "then".into(), ..Event::default() };
        assert_eq!(line(&event), "then the director is ready");
    }
}
