//! `uvs sched` for authors of schedulers: everything that needs neither a running director nor any rights.
//!
//! ```text
//!   new --> (a project) --> component --> inspect --> test --> bench --> simulate, compare
//!                                            `-- all through uvs-plugin, as the director calls a module
//! ```
//! Time and random numbers are arguments: with the same seed every command but `bench` says the same again.

mod anatomy;
mod bench;
mod component;
mod conform;
mod inspect;
mod service;
mod subject;
mod text;

use std::process::ExitCode;

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Tell what a module is, what it wants, and whether uvs takes it
    Inspect(inspect::Args),
    /// Make the core module that a compiler wrote a component
    Component(component::Args),
    /// Try whether a module keeps the contract
    Test(conform::Args),
    /// Measure what a pick costs, beside a native scheduler
    Bench(bench::Args),
}

/// Does it.
///
/// # Errors
/// What went wrong, for a person to read.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(args) => inspect::run(args),
        Command::Component(args) => component::run(args),
        Command::Test(args) => conform::run(args),
        Command::Bench(args) => bench::run(args),
    }
}
