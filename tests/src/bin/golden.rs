//! Replays recorded scenarios: `golden PATH... [--explain] [--list]`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use uvs_director::scheduler::SchedulerFactory;
use uvs_plugin::{Catalogue, Host, Policy, Schedulers};
use uvs_tests::golden::{Outcome, load, replay, scenarios_under};

const USAGE: &str = "\
usage: golden PATH... [--explain] [--list]

Replays scenarios recorded from a kernel IPVS and compares what the director answers.

  PATH       a scenario (JSON) or a folder of them
  --explain  shows the first difference of each failing scenario side by side
  --list     names the scenarios and does not replay them
";

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let mut paths = Vec::new();
    let (mut explain, mut list) = (false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--explain" => explain = true,
            "--list" => list = true,
            "-h" | "--help" => {
                print!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            option if option.starts_with('-') => {
                eprint!("unknown option {option}\n\n{USAGE}");
                return Ok(ExitCode::from(2));
            }
            path => paths.push(PathBuf::from(path)),
        }
    }
    if paths.is_empty() {
        eprint!("{USAGE}");
        return Ok(ExitCode::from(2));
    }
    let mut files = Vec::new();
    for path in &paths {
        files.extend(scenarios_under(path)?);
    }
    if list {
        for file in &files {
            let scenario = load(file)?;
            println!("{:<28} {}", scenario.scenario, scenario.title);
        }
        return Ok(ExitCode::SUCCESS);
    }

    let host = Host::new(Policy::default()).map_err(anyhow::Error::msg).context("cannot run schedulers")?;
    let schedulers = Schedulers::with_seed(host, 1);
    schedulers.accept(Catalogue::default().with_compat_ipvs(true));
    let schedulers: Arc<dyn SchedulerFactory> = Arc::new(schedulers);
    // A panic of the director is reported in the scenario's line.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for file in &files {
        let scenario = match load(file) {
            Ok(scenario) => scenario,
            Err(error) => {
                failed += 1;
                println!("FAIL {}: {error:#}", file.display());
                continue;
            }
        };
        let name = &scenario.scenario;
        match replay(&scenario, Arc::clone(&schedulers)) {
            Outcome::Pass => {
                passed += 1;
                println!("pass {name}");
            }
            Outcome::Fail(failure) => {
                failed += 1;
                println!("FAIL {name}: step {} ({}): {}", failure.step, failure.what, failure.difference);
                if explain && !failure.details.is_empty() {
                    println!("{}", failure.details);
                }
            }
            Outcome::Unsupported(reason) => {
                skipped += 1;
                println!("unsupported {name}: {reason}");
            }
        }
    }
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    println!("{passed} passed, {failed} failed{skipped}");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
