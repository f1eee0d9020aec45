//! `uvs demo`: LVS at work, on one machine, in a few seconds.
//!
//! For each forwarding method it builds a network of namespaces (`uvs_lab::topology`), runs servers on the kernel's
//! own TCP/IP, starts this very program as the director, makes requests, checks every byte of every answer, and
//! shows one request's way through the network as it was heard on the wires.

mod keep;
mod picture;
mod report;
mod stage;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use uvs_lab::privilege::{self, Privilege};
use uvs_lab::topology::Method;

use report::{Outcome, Report};
use stage::Stage;

/// `uvs demo`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
It needs root, or a system that lets users make user namespaces (it says so where it does not). All of it happens in
network namespaces of its own, which are gone when it ends, however it ends.

Exit status: 0 every answer was right, 1 not, 2 wrong usage.")]
pub struct Args {
    /// Forwarding method to show
    #[arg(long, value_enum, default_value_t, value_name = "METHOD")]
    pub method: MethodChoice,
    /// Scheduler that places the connections: a shipped one (rr, wrr, lc, wlc...), or a WebAssembly component
    #[arg(long, value_name = "NAME|FILE", default_value = "rr")]
    pub scheduler: String,
    // No more: each UDP request keeps its socket to the end, and 1024 open files are a usual limit.
    /// How many TCP and how many UDP requests to make, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub requests: u32,
    /// Print one JSON document and nothing else
    #[arg(long)]
    pub json: bool,
    /// Leave the networks up, and tell how to enter them and how to take them down
    #[arg(long)]
    pub keep: bool,
    /// This is the process that keeps the networks
    #[arg(long, hide = true, requires = "keep")]
    pub keeper: bool,
}

/// One forwarding method, or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MethodChoice {
    /// Network address translation
    Nat,
    /// Direct routing
    Dr,
    /// IP tunnelling
    Tun,
    /// One after the other
    #[default]
    All,
}

impl MethodChoice {
    fn methods(self) -> &'static [Method] {
        match self {
            Self::Nat => &[Method::Nat],
            Self::Dr => &[Method::Direct],
            Self::Tun => &[Method::Tunnel],
            Self::All => &Method::ALL,
        }
    }
}

/// Shows what was asked for; the exit status says whether every answer was right.
///
/// Call it before any thread is started: without root it enters a user namespace, which takes a process of one
/// thread.
///
/// # Errors
/// The system lets no lab be built, or the scheduler's file is not there. What fails later is in the report.
pub fn run(args: Args) -> Result<ExitCode> {
    if args.keep && !args.keeper {
        return keep::hand_over();
    }
    if args.keeper {
        keep::become_keeper()?;
    }
    let scheduler = find_scheduler(&args.scheduler)?;
    let privilege = privilege::acquire()?;
    privilege::check_tun()?;
    let uvs = this_program();

    let mut out = io::stdout().lock();
    if !args.json {
        write!(out, "{}", report::opening(&args, privilege == Privilege::UserNamespace))?;
    }
    let mut outcomes = Vec::new();
    let mut kept = Vec::new();
    for &method in args.method.methods() {
        let outcome = match Stage::build(method, &scheduler, &uvs) {
            Ok(mut stage) => {
                let outcome = stage.play(args.requests, &args.scheduler);
                if args.keep {
                    kept.push(stage);
                }
                outcome
            }
            Err(error) => Outcome::failed(method, &error),
        };
        if !args.json {
            write!(out, "{outcome}")?;
            out.flush()?;
        }
        outcomes.push(outcome);
    }
    let report = Report::new(outcomes, (!kept.is_empty()).then(|| keep::guide(&kept, privilege)));
    if args.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    drop(out);
    let code = u8::from(!report.ok);
    if !kept.is_empty() {
        keep::release(code)?;
        keep::wait_for_signal(&kept);
    }
    Ok(ExitCode::from(code))
}

/// The scheduler as the config wants it: a name, or the absolute path of a file that is there.
fn find_scheduler(scheduler: &str) -> Result<String> {
    if !scheduler.contains('/') && !scheduler.ends_with(".wasm") {
        return Ok(scheduler.to_owned());
    }
    let path = Path::new(scheduler).canonicalize().with_context(|| {
        format!("--scheduler {scheduler}: there is no such file; give a name or a .wasm component")
    })?;
    ensure!(path.is_file(), "--scheduler {scheduler} is not a file; give a name or a .wasm component");
    path.into_os_string()
        .into_string()
        .ok()
        .with_context(|| format!("--scheduler {scheduler}: the path is not UTF-8"))
}

/// This very program, whatever it is called, to be run on the lab's hosts.
fn this_program() -> std::path::PathBuf {
    // Where the file was replaced or removed since we were started, the kernel still knows it.
    std::env::current_exe().ok().filter(|path| path.is_file()).unwrap_or_else(|| "/proc/self/exe".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_is_a_name_or_a_file() {
        assert_eq!(find_scheduler("rr").unwrap(), "rr");
        for missing in ["./nothing.wasm", "nothing.wasm", "/no/such/file"] {
            let error = find_scheduler(missing).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
        assert!(find_scheduler("./src").unwrap_err().to_string().contains("not a file"));
        let here = find_scheduler("src/demo/mod.rs").unwrap();
        assert!(here.starts_with('/') && here.ends_with("/src/demo/mod.rs"), "{here}");
    }
}
