//! `uvs`: see `uvs --help`.

use std::process::ExitCode;

use clap::Parser;
use uvs_router::cli::Cli;

fn main() -> ExitCode {
    uvs_router::run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
