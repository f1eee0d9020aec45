//! `uvs sched simulate`: policies side by side in virtual time, before any of them meets traffic.

pub(crate) mod engine;
pub(crate) mod plan;
mod plot;
mod report;
pub(crate) mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use uvs_plugin::{Host, Plugin};

use crate::subject::{self, Subject};
use engine::Outcome;
use plan::{Plan, Scenario};

/// Colours and the width of tables set a bound.
const POLICIES_MAX: usize = 8;

/// `uvs sched simulate`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
#[command(after_help = "\
Every policy gets the same connections. Nothing is random but by --seed, and the clock is virtual: a minute takes a blink.

Example:
  uvs sched simulate rr wlc mh --destinations 4 --weights 1,2,3,4 --fail 2@20s-40s --svg out.svg

imbalance   standard deviation of active connections per weight, over their mean; 0 is perfect
peak        the most loaded destination over that mean
answer      how long connections waited for their destination to answer (--answers, --slow)
calm moves  of a client's further connections, those that went elsewhere while the set stayed the same
moved       of clients whose destination stayed, those that went elsewhere after the set had changed")]
pub struct Args {
    /// Components' files, or names of shipped schedulers
    #[arg(value_name = "FILE", required = true, num_args = 1..=POLICIES_MAX)]
    pub files: Vec<String>,
    #[command(flatten)]
    pub scenario: Scenario,
    /// Write the imbalance and the active connections over time
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw imbalance over time and shares
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One policy and what became of it.
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// Calls that the module failed; the fallback picked.
    pub(crate) failures: u64,
    /// The last of them.
    pub(crate) failure: Option<String>,
}

/// Runs, prints, writes.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(args.files.len() <= POLICIES_MAX, "at most {POLICIES_MAX} policies at a time");
    if let Some(path) = &args.svg
        && path.extension().is_none_or(|extension| extension != "svg")
    {
        bail!("{} does not end in .svg, and SVG is what is drawn", path.display());
    }
    let plan = args.scenario.plan()?;
    let host = subject::host(false, &args.scenario.limits)?;
    let files: Vec<&str> = args.files.iter().map(String::as_str).collect();
    let mut lanes: Vec<Lane> = Vec::new();
    for &file in &files {
        let options = args.scenario.options_of(file, &files)?;
        let (subject, mut plugin) = open(file, options, plan.seed, &host)?;
        let outcome = engine::run(&plan, &mut plugin, None);
        let (failures, failure) = failures(&plugin);
        let mut name = subject.short();
        if lanes.iter().any(|lane| lane.name == name) {
            name = subject.name;
        }
        lanes.push(Lane { name, outcome, failures, failure });
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report::json(&plan, &lanes))?);
    } else {
        print!("{}", report::text(&plan, &lanes));
    }
    for (path, content) in [(&args.csv, report::csv as fn(&Plan, &[Lane]) -> String), (&args.svg, plot::svg)]
    {
        if let Some(path) = path {
            std::fs::write(path, content(&plan, &lanes))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(if lanes.iter().all(|lane| lane.failures == 0) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A module, started for a run.
pub(crate) fn open(file: &str, options: &str, seed: u64, host: &Host) -> Result<(Subject, Plugin)> {
    let (subject, module) = Subject::load(file, host)?;
    let plugin = subject::must_start(&module, options, seed)?;
    Ok((subject, plugin))
}

/// How often a module failed, and how the last time.
pub(crate) fn failures(plugin: &Plugin) -> (u64, Option<String>) {
    let last = plugin.stats().last_failure();
    let told = last.map(|failure| format!("{} in {}: {}", failure.cause, failure.call, failure.message));
    (plugin.stats().snapshot().failures_total(), told)
}
