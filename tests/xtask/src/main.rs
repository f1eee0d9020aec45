//! Chores of the project: `cargo xtask COMMAND`.

mod book;
mod bpf;
mod browser;
mod component;
mod deb;
mod deny;
mod docs;
mod links;
mod packages;
mod sdk;
#[cfg(test)]
mod structure;
mod tally;
mod test;
mod toolchain;
mod wasm;
mod wheel;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test                         checks everything; `cargo xtask test --help` tells more
  book [--out DIR]             makes a book of the documents; `cargo xtask book --help` tells more
  docs [--check]               writes the reference of the scheduler contract from its WIT file
  wasm [--check] [--out DIR]   builds the shipped schedulers; `cargo xtask wasm --help` tells more
  bpf [--check] [--out DIR]    compiles the programs of the direct attach; `cargo xtask bpf --help` tells more
  deb [--out DIR]              packs uvs for Debian; `cargo xtask deb --help` tells more
  sdk [--lang LIST]            builds and tests the example of each SDK; `cargo xtask sdk --help` tells more
  component SOURCE -o FILE     builds a scheduler with the SDK of its language
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = match command.as_str() {
        "test" => test::run(rest),
        "book" => book::run(rest),
        "docs" => docs::run(rest),
        "wasm" => wasm::run(rest),
        "bpf" => bpf::run(rest),
        "deb" => deb::run(rest),
        "sdk" => sdk::run(rest),
        "component" => component::run(rest),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprint!("error: there is no command {other:?}\n\n{USAGE}");
            Ok(ExitCode::from(2))
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
