//! `uvs sched inspect`: what a module is, and whether uvs would take it.

use std::process::ExitCode;
use std::time::Instant as Clock;

use anyhow::Result;
use serde::Serialize;
use uvs_plugin::{CONTRACT, Host, LoadReason, Policy};

use crate::anatomy::{Anatomy, Item};
use crate::subject::{self, Subject};
use crate::text::{grouped, size};

/// What a scheduler is given, and what it has to have.
const IMPORTS: [&str; 3] = ["log", "random", "now-ms"];
const EXPORTS: [&str; 5] = ["init", "update", "schedule", "save", "restore"];
/// What it may have: what uvs calls if it is there.
const OPTIONAL: &str = "uvs:scheduler/feedback@0.1.0";
const PACKAGE: &str = "uvs:scheduler/";
const PAGE: u64 = 1 << 16;

/// `uvs sched inspect`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Exit status: 0 uvs takes it, 1 it does not.")]
pub struct Args {
    /// A component's file, or the name of a shipped scheduler
    #[arg(value_name = "FILE")]
    pub file: String,
    #[command(flatten)]
    pub limits: subject::LimitArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    file: String,
    bytes: u64,
    sha256: String,
    kind: &'static str,
    accepted: bool,
    /// Why not, in a sentence.
    reason: Option<String>,
    fix: Option<String>,
    contract: Contract,
    exports: Vec<Export>,
    imports: Vec<Import>,
    memory: Memory,
    tables: Tables,
    stack_limit_bytes: u64,
    fuel: Fuel,
    producers: Vec<String>,
    has_names: bool,
    compile_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Contract {
    /// The version it was built for, where it says so.
    module: Option<String>,
    host: &'static str,
}

#[derive(Debug, Serialize)]
struct Export {
    name: String,
    r#type: String,
    /// Whether the contract asks for it; others are left alone.
    required: bool,
    present: bool,
}

#[derive(Debug, Serialize)]
struct Import {
    name: String,
    r#type: String,
    granted: bool,
}

#[derive(Debug, Serialize)]
struct Memory {
    initial_bytes: u64,
    /// By its own declaration; `null`: it sets no bound.
    maximum_bytes: Option<u64>,
    limit_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Tables {
    initial_elements: u64,
    limit_elements: u64,
}

/// Budgets of one call, in wasm instructions.
#[derive(Debug, Serialize)]
struct Fuel {
    schedule: u64,
    schedule_per_destination: u64,
    other_calls: u64,
    other_calls_per_destination: u64,
}

/// Prints the report.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let host = subject::host(true, &args.limits)?;
    let subject = Subject::read(&args.file, host.policy().module_bytes)?;
    let report = Report::new(&subject, &host);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    fn new(subject: &Subject, host: &Host) -> Self {
        let policy = host.policy();
        let anatomy = subject.bytes.as_deref().map_or_else(
            || Anatomy { kind: "not read: too large", memory_pages_max: Some(0), ..Anatomy::default() },
            Anatomy::of,
        );
        let started = Clock::now();
        let refused = match &subject.bytes {
            Some(bytes) => {
                host.compile(&subject.name, bytes).err().map(|error| (error.reason.to_string(), error.fix()))
            }
            None => {
                let reason = LoadReason::TooLarge { bytes: Some(subject.size), limit: policy.module_bytes };
                Some((
                    reason.to_string(),
                    "strip it: build with opt-level \"s\", lto, strip = true".to_owned(),
                ))
            }
        };
        let compile_ms = refused.is_none().then(|| (started.elapsed().as_secs_f64() * 1e5).round() / 1e2);
        let (reason, fix) = refused.unzip();
        Self {
            file: subject.name.clone(),
            bytes: subject.size,
            sha256: subject.sha256.clone(),
            kind: anatomy.kind,
            accepted: reason.is_none(),
            reason: reason.map(|reason| format!("it {reason}")),
            fix,
            contract: Contract { module: contract(&anatomy), host: CONTRACT },
            exports: exports(&anatomy),
            imports: anatomy.imports.iter().map(Import::new).collect(),
            memory: Memory {
                initial_bytes: anatomy.memory_pages.saturating_mul(PAGE),
                maximum_bytes: anatomy.memory_pages_max.map(|pages| pages.saturating_mul(PAGE)),
                limit_bytes: policy.memory_bytes as u64,
            },
            tables: Tables {
                initial_elements: anatomy.table_elements,
                limit_elements: policy.table_elements as u64,
            },
            stack_limit_bytes: policy.stack_bytes as u64,
            fuel: Fuel::new(policy),
            producers: anatomy.producers,
            has_names: anatomy.names,
            compile_ms,
        }
    }

    fn text(&self) -> String {
        let mut out = format!("{}: {}, {} bytes\n", self.file, self.kind, grouped(self.bytes));
        let mut line = |key: &str, value: &str| out += &format!("  {key:<10}{value}\n");
        line("sha256", &self.sha256);
        let module = self.contract.module.as_deref().unwrap_or("not told");
        line("contract", &format!("uvs:scheduler {module}; this uvs speaks {}", self.contract.host));
        if !self.producers.is_empty() {
            line("made by", &self.producers.join(", "));
        }
        let mut key = "exports";
        for export in &self.exports {
            let note = match (export.present, export.required) {
                (false, _) => "MISSING",
                (true, true) => "",
                (true, false) if export.name == OPTIONAL => {
                    "(optional: it hears how destinations take connections)"
                }
                (true, false) => "(not part of the contract, never called)",
            };
            line(key, format!("{:<9} {} {note}", export.name, export.r#type).trim_end());
            key = "";
        }
        key = "imports";
        let functions: Vec<_> = self.imports.iter().filter(|import| import.r#type != "type").collect();
        if functions.is_empty() {
            line(key, "none");
        }
        for import in functions {
            let note = if import.granted { "granted" } else { "NOT GRANTED" };
            line(key, &format!("{:<10}{}  {note}", format!("{} ", import.name), import.r#type));
            key = "";
        }
        let max = self
            .memory
            .maximum_bytes
            .map_or("no bound".to_owned(), |bytes| format!("at most {}", size(bytes)));
        let memory = &self.memory;
        line(
            "memory",
            &format!(
                "{} at the start, {max} by itself; limit {}",
                size(memory.initial_bytes),
                size(memory.limit_bytes)
            ),
        );
        let tables = &self.tables;
        line(
            "tables",
            &format!(
                "{} elements; limit {}",
                grouped(tables.initial_elements),
                grouped(tables.limit_elements)
            ),
        );
        line("stack", &format!("limit {}", size(self.stack_limit_bytes)));
        let fuel = &self.fuel;
        line(
            "fuel",
            &format!(
                "{} a pick and {} more for each destination; other calls {} and {}",
                grouped(fuel.schedule),
                grouped(fuel.schedule_per_destination),
                grouped(fuel.other_calls),
                grouped(fuel.other_calls_per_destination)
            ),
        );
        if self.kind == "component" {
            line(
                "names",
                if self.has_names {
                    "functions have names"
                } else {
                    "stripped: a trap cannot tell in which function it was"
                },
            );
        }
        match (&self.reason, &self.fix, self.compile_ms) {
            (Some(reason), Some(fix), _) => {
                out += &format!("uvs refuses it: {reason}\n  fix:   {fix}\n");
            }
            (.., compile_ms) => {
                out += &format!("uvs takes it (compiled in {} ms)\n", compile_ms.unwrap_or_default());
            }
        }
        out
    }
}

impl Import {
    fn new(item: &Item) -> Self {
        let types =
            item.name.strip_prefix(PACKAGE).is_some_and(|rest| rest == "types" || rest.starts_with("types@"));
        // A type is nothing that could be called; components repeat those of the world.
        let granted = types || item.signature == "type" || IMPORTS.contains(&item.name.as_str());
        Self { name: item.name.clone(), r#type: item.signature.clone(), granted }
    }
}

impl Fuel {
    fn new(policy: &Policy) -> Self {
        Self {
            schedule: policy.fuel_schedule,
            schedule_per_destination: policy.fuel_schedule_per_destination,
            other_calls: policy.fuel_setup,
            other_calls_per_destination: policy.fuel_setup_per_destination,
        }
    }
}

/// The contract's exports, whether they are there or not, and those beyond it.
fn exports(anatomy: &Anatomy) -> Vec<Export> {
    let find = |name: &str| anatomy.exports.iter().find(|export| export.name == name);
    let required = EXPORTS.iter().map(|name| Export {
        name: (*name).to_owned(),
        r#type: find(name).map(|item| item.signature.clone()).unwrap_or_default(),
        required: true,
        present: anatomy.kind == "component" && find(name).is_some(),
    });
    let others = anatomy.exports.iter().filter(|item| !EXPORTS.contains(&item.name.as_str())).map(|item| {
        Export { name: item.name.clone(), r#type: item.signature.clone(), required: false, present: true }
    });
    required.chain(others).collect()
}

/// The version of the contract that an interface of its package carries.
fn contract(anatomy: &Anatomy) -> Option<String> {
    let mut names = anatomy.imports.iter().chain(&anatomy.exports).map(|item| item.name.as_str());
    names.find_map(|name| Some(name.strip_prefix(PACKAGE)?.split_once('@')?.1.to_owned()))
}
