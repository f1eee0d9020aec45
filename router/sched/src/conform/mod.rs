//! `uvs sched test`: does a module keep the contract, and does it behave as an operator may expect?

mod cases;
mod trial;

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use uvs_plugin::Module;

use crate::subject::{self, Subject};
use crate::text::grouped;
use cases::CASES;
use trial::Broken;

/// `uvs sched test`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
The same seed makes the same test. Exit status: 0 all passed (notes do not count), 1 something failed.")]
pub struct Args {
    /// A component's file, or the name of a shipped scheduler
    #[arg(value_name = "FILE")]
    pub file: String,
    /// The options of the scheduler
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub options: String,
    /// Starts all that is left to chance
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Run this case alone
    #[arg(long, value_name = "CASE")]
    pub only: Option<String>,
    #[command(flatten)]
    pub limits: subject::LimitArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a case is given.
struct Context<'a> {
    module: &'a Module,
    options: &'a str,
    seed: u64,
}

/// How a case ended well.
enum Good {
    Pass(String),
    /// Allowed, but the author should know.
    Note(String),
}

type Outcome = Result<Good, Broken>;

#[derive(Debug, Serialize)]
struct Report {
    file: String,
    sha256: String,
    options: String,
    seed: u64,
    passed: bool,
    cases: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    case: &'static str,
    /// What has to hold.
    rule: &'static str,
    /// `pass`, `note` or `fail`.
    result: &'static str,
    detail: String,
    /// How it came to that, for a failure.
    reproduce: Vec<String>,
}

/// Runs the cases and prints.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(only) = &args.only
        && CASES.iter().all(|(name, ..)| name != only)
    {
        let names: Vec<_> = CASES.iter().map(|(name, ..)| *name).collect();
        bail!("there is no case {only:?}\n  fix:   take one of {}", names.join(", "));
    }
    let host = subject::host(true, &args.limits)?;
    let (subject, module) = Subject::load(&args.file, &host)?;
    if !args.json {
        let contract = uvs_plugin::CONTRACT;
        println!(
            "{}, {} bytes, contract {contract}, seed {}",
            subject.name,
            grouped(subject.size),
            args.seed
        );
    }
    let context = Context { module: &module, options: &args.options, seed: args.seed };
    let mut lines = Vec::new();
    for (case, rule, check) in CASES {
        if args.only.as_ref().is_some_and(|only| only != case) {
            continue;
        }
        let mut line = Line::new(case, rule, check(&context));
        if line.result == "fail" {
            line.reproduce.push(again(args, case));
        }
        if !args.json {
            line.print();
        }
        lines.push(line);
    }
    let failed = lines.iter().filter(|line| line.result == "fail").count();
    if args.json {
        let Subject { name, sha256, .. } = subject;
        let report = Report {
            file: name,
            sha256,
            options: args.options.clone(),
            seed: args.seed,
            passed: failed == 0,
            cases: lines,
        };
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if failed == 0 {
        println!("passed: {} cases", lines.len());
    } else {
        println!("FAILED: {failed} of {} cases", lines.len());
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Line {
    fn new(case: &'static str, rule: &'static str, outcome: Outcome) -> Self {
        let (result, detail, reproduce) = match outcome {
            Ok(Good::Pass(detail)) => ("pass", detail, Vec::new()),
            Ok(Good::Note(detail)) => ("note", detail, Vec::new()),
            Err(Broken { what, how }) => ("fail", what, how),
        };
        Self { case, rule, result, detail, reproduce }
    }

    fn print(&self) {
        let verdict = match self.result {
            "fail" => "FAIL",
            "note" => "NOTE",
            _ => "PASS",
        };
        println!("{verdict}  {:<13} {}: {}", self.case, self.rule, self.detail);
        for line in &self.reproduce {
            println!("        {line}");
        }
    }
}

/// The command that shows a failure again.
fn again(args: &Args, case: &str) -> String {
    let options =
        if args.options.is_empty() { String::new() } else { format!(" --options '{}'", args.options) };
    format!("again: uvs sched test {}{options} --seed {} --only {case}", args.file, args.seed)
}
