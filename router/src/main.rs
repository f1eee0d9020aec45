//! `uvs`: see `uvs --help`.

use std::process::ExitCode;

use clap::Parser;
use uvs_router::cli::Cli;

fn main() -> ExitCode {
    uvs_router::compile_apart();
    let arguments: Vec<_> = std::env::args_os().collect();
    let result = uvs_router::run_as_ipvsadm(&arguments).unwrap_or_else(|| uvs_router::run(Cli::parse()));
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
