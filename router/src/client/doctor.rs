//! `uvs doctor`: what is wrong with the director's host and network.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;
use uvs_config::Config;
use uvs_control::{Answer, Client, ClientError, Request, event, inspect, sample, status};
use uvs_doctor::facts::{Director, Facts};
use uvs_doctor::findings::{self, Finding};
use uvs_doctor::read;

use super::Which;
use crate::check::CONFIG;
use crate::control;

/// `uvs doctor`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs doctor                     asks the running director, and looks at the host
  uvs doctor --config edge.toml  before there is a director: looks at the host with what that file says
  uvs doctor --json | jq '.findings[].kind'

Run it on the director's host, in its network namespace, as root. It changes nothing; the director asks its links who
else has its addresses, which takes a second. docs/doctor.md has every finding.
Exit status: 0 nothing found, or notes alone; 1 findings; 2 it could not look.")]
pub struct Args {
    /// The configuration to go by where no director runs [default: /etc/uvs/uvs.toml, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print it as JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// What was looked at, and what was found.
#[derive(Serialize)]
struct Report<'a> {
    looked_at: &'a str,
    director: bool,
    findings: &'a [Finding],
}

/// Looks and prints.
///
/// # Errors
/// Nothing can be printed.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    let (facts, looked_at) = match look(arguments) {
        Ok(seen) => seen,
        Err(error) => {
            // Problems of a configuration begin with the word, each.
            let text = format!("{error:#}");
            eprintln!("error: {}", text.strip_prefix("error: ").unwrap_or(&text));
            return Ok(ExitCode::from(2));
        }
    };
    let found = findings::all(&facts);
    let text = if arguments.json {
        let report = Report { looked_at: &looked_at, director: facts.director.is_some(), findings: &found };
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        let end = match found.len() {
            0 => "nothing found\n",
            _ => "",
        };
        format!("{looked_at}\n{}{end}", uvs_doctor::text(&found))
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("standard output cannot be written")?;
    Ok(if uvs_doctor::is_ill(&found) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn look(arguments: &Args) -> anyhow::Result<(Facts, String)> {
    match arguments.which.connect() {
        Ok(mut client) => {
            let (director, network) = ask(&mut client)?;
            let pid = director.status.pid;
            let text = format!("looked at the director {pid} ({}) and its host", director.status.config);
            // Its process is another one's where it runs in a container of its own.
            let is_here = std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim().starts_with("uvs"));
            let host = read::host(&network, is_here.then_some(pid));
            Ok((Facts { director: Some(director), network, host }, text))
        }
        Err(ClientError::NoDirector { path, .. }) => {
            let usual = Path::new(CONFIG);
            let file = arguments.config.as_deref().or_else(|| usual.exists().then_some(usual));
            let at = path.display();
            let (network, text) = match file {
                Some(file) => {
                    let config = Config::load(file).map_err(|problems| anyhow::anyhow!("{problems}"))?;
                    let text = format!(
                        "no director answers at {at}: looked at the host alone, as {} has it",
                        file.display()
                    );
                    (control::network_of(&config), text)
                }
                None => {
                    let text = format!(
                        "no director answers at {at}, and no configuration was named (--config): looked at the host \
                         alone"
                    );
                    (inspect::Answer::default(), text)
                }
            };
            let host = read::host(&network, None);
            Ok((Facts { director: None, network, host }, text))
        }
        Err(error) => Err(error.into()),
    }
}

/// As many events as a director keeps: the first of all is wanted, if it still has that.
const EVENTS: u32 = 8192;

fn ask(client: &mut Client) -> anyhow::Result<(Director, inspect::Answer)> {
    // First, as it takes a second in which packets go on.
    let network = match client.ask(&Request::Inspect(inspect::Request { probe: true }))? {
        Answer::Inspect(network) => *network,
        other => bail!("the director answered something else: {other:?}"),
    };
    let status = match client.ask(&Request::Status(status::Request {}))? {
        Answer::Status(status) => *status,
        other => bail!("the director answered something else: {other:?}"),
    };
    let all = sample::Request { destinations: true, ..sample::Request::default() };
    let sample = match client.ask(&Request::Sample(all))? {
        Answer::Sample(sample) => *sample,
        other => bail!("the director answered something else: {other:?}"),
    };
    let events = event::Request { last: Some(EVENTS), ..event::Request::default() };
    let first_event = match client.ask(&Request::Events(events))? {
        Answer::Events(events) => events.events.into_iter().next(),
        other => bail!("the director answered something else: {other:?}"),
    };
    Ok((Director { status, sample, first_event }, network))
}
