//! `uvs`: see `uvs --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    uvs_router::compile_apart();
    let arguments: Vec<_> = std::env::args_os().collect();
    let result = uvs_router::run_as_ipvsadm(&arguments).unwrap_or_else(|| {
        let cli = uvs_router::usage::parse(&arguments).unwrap_or_else(|(error, tip)| {
            let Some(tip) = tip else { error.exit() };
            let _ = error.print();
            eprintln!("\n  tip: {tip}");
            std::process::exit(error.exit_code())
        });
        uvs_router::run(cli)
    });
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
