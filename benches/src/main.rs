//! `uvs-bench`: runs that are too large for a micro bench.

use std::process::ExitCode;

use clap::Parser;

mod checks;
mod rooms;
mod versus;

/// Benches of uvs that need a network; the micro benches are `cargo bench -p uvs-bench`
#[derive(Debug, Parser)]
#[command(name = "uvs-bench")]
enum Cli {
    /// Measures uvs and its peers side by side, in network namespaces
    Versus(Box<versus::Args>),
    /// Puts uvs under full load for a while and compares every byte
    Soak(versus::SoakArgs),
    /// Measures what thousands of health checks cost
    Checks(checks::Args),
    /// Tells which modules of the engine a packet enters, in order
    Rooms(rooms::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli::Versus(arguments) => versus::run(&arguments),
        Cli::Soak(arguments) => versus::soak(&arguments),
        Cli::Checks(arguments) => checks::run(&arguments),
        Cli::Rooms(arguments) => rooms::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
