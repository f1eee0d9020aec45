//! `uvs events`: what happens to checks, services, weights and the configuration of the running director.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use uvs_control::event::{Answer as Events, Request};
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
        super::end_by_signals()?;
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
            event.line()
        });
        text.push('\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
