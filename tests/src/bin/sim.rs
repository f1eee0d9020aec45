//! The simulation's command line; see `tests/sim/README.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    uvs_sim::cli::run(std::env::args().skip(1))
}
