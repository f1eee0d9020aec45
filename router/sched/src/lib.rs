//! `uvs sched` for authors of schedulers: everything that needs neither a running director nor any rights.
//!
//! ```text
//!   new --> (a project) --> component --> inspect --> test --> bench --> simulate, compare
//!                                            `-- all through uvs-plugin, as the director calls a module
//! ```
//! Time and random numbers are arguments: with the same seed every command but `bench` says the same again.

mod anatomy;
mod bench;
mod compare;
mod component;
mod conform;
mod inspect;
mod new;
mod service;
mod simulate;
mod subject;
pub mod svg;
mod text;

use std::process::ExitCode;

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a project for a new scheduler
    New(new::Args),
    /// Tell what a module is, what it wants, and whether uvs takes it
    Inspect(inspect::Args),
    /// Make the core module that a compiler wrote a component
    Component(component::Args),
    /// Try whether a module keeps the contract
    Test(conform::Args),
    /// Measure what a pick costs, beside a native scheduler
    Bench(bench::Args),
    /// Run policies side by side in virtual time: shares, imbalance, disruption
    Simulate(Box<simulate::Args>),
    /// Show where two policies differ on the same connections
    Compare(Box<compare::Args>),
}

/// Does it.
///
/// # Errors
/// What went wrong, for a person to read.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::New(args) => new::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Component(args) => component::run(args),
        Command::Test(args) => conform::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Compare(args) => compare::run(args),
    }
}
