//! What health checks cost: thousands of destinations with a TCP check each, made by `uvs run`.
//!
//! ```text
//!   stage     hosts, cables, the config; a server that answers on a whole /16
//!   witness   what the server saw: when each address was asked
//!   measure   CPU, lateness, memory, exchanges of a client, deaths, reloads
//!   report    a table, and JSON
//! ```

mod measure;
mod report;
mod stage;
mod witness;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use uvs_lab::privilege;

use crate::versus::{raise_descriptor_limit, uvs};

/// Results after which a destination is down.
pub(crate) const FALL: u32 = 2;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many destinations are checked
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    destinations: u32,
    /// Seconds from one check of a destination to the next; the timeout is half of it
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    interval: f64,
    /// Seconds that each part of a round takes: with checks and without, each quiet and with a client
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Rounds, each with and without checks in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Destinations that die at once, to see how soon that is noticed
    #[arg(long, default_value_t = 20)]
    deaths: u32,
    /// Has a thread of the kernel take in what comes to the servers; otherwise whoever sends it does, and that is the
    /// director's time. For a quiet machine only: packets are lost where that thread waits 10 ms for a core
    #[arg(long)]
    apart: bool,
    /// A small run that takes seconds: it shows that everything works, and no figures to quote
    #[arg(long, conflicts_with_all = ["destinations", "interval", "seconds", "rounds", "deaths"])]
    quick: bool,
    /// Writes all figures into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if (0.2..=600.0).contains(&seconds) { Ok(seconds) } else { Err("use 0.2 to 600".to_owned()) }
}

/// How large the run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) destinations: u32,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) window: Duration,
    pub(crate) rounds: u32,
    pub(crate) deaths: u32,
    /// What the servers' kernel does with a packet is not on the account of who sent it.
    pub(crate) apart: bool,
}

impl Args {
    fn size(&self) -> Size {
        let (destinations, interval, seconds, rounds, deaths) = if self.quick {
            (200, 1.0, 1.5, 1, 3)
        } else {
            (self.destinations, self.interval, self.seconds, self.rounds, self.deaths.min(self.destinations))
        };
        let interval = Duration::from_secs_f64(interval);
        let window = Duration::from_secs_f64(seconds);
        Size { destinations, interval, timeout: interval / 2, window, rounds, deaths, apart: self.apart }
    }
}

/// Runs the bench. Its status is 1 when a check of a living server failed, or a death was not noticed; goals that are
/// missed are told.
///
/// # Errors
/// Nothing could be measured, or the results cannot be written.
pub(crate) fn run(arguments: &Args) -> Result<ExitCode> {
    privilege::acquire()?;
    privilege::check_tun()?;
    raise_descriptor_limit()?;
    if let Some(file) = &arguments.json {
        // One that cannot be written should not be found out about at the end.
        fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let uvs = uvs()?;
    eprintln!("uvs: {}", uvs.display());
    let size = arguments.size();
    let figures = measure::measure(&uvs, size)?;
    print!("{}", report::table(size, &figures));
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report::document(size, &figures))?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if figures.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
