//! The director as a program: command line, configuration, devices, workers, metrics.
//!
//! ```text
//!   cli --> check --> run --> setup       devices, bridges, routes; undone in the end
//!            |         |----> keeper      a thread that keeps the host as setup made it
//!            |         |----> event_loop  threads: device -> Director -> device
//!            |         |----> local       a thread: the director as a host, which probes are made from
//!            |         |----> http        /metrics, /healthz, /readyz (alive), the page (browser)
//!            |         |----> control     the socket of `uvs adm`, `uvs status` and the like (client)
//!            |         |----> events      what happened lately, for `uvs events`
//!            |         |----> drains      a thread: destinations that are to lose their connections
//!            |         |----> announce    a thread: routes that tell of VIPs
//!            |         |----> hooks       a thread: programs that are told what happens
//!            |         |----> ha          threads, with [[vrrp]]: who answers for virtual addresses, and why
//!            |         |----> restart     connections that outlive the director, in a file
//!            |         `----> reload      SIGHUP, `uvs reload`: file -> diff -> Director::apply; `uvs plan`
//!            `-- a configuration, and the modules it names, judged before anything is touched
//! ```
//! Tokio serves what is left of the arrows; no frame ever passes it.

pub mod accelerate;
pub mod alive;
pub mod announce;
mod browser;
pub mod check;
pub mod checks;
pub mod cli;
pub mod client;
pub mod clock;
pub mod control;
pub mod demo;
pub mod devices;
pub mod drains;
pub mod event_loop;
pub mod events;
pub(crate) mod folder;
pub mod ha;
pub mod hooks;
pub mod http;
pub mod import;
pub mod keeper;
pub mod lab;
pub mod local;
pub mod logging;
pub mod manual;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod pages;
mod plan;
mod prefetch;
mod privilege;
pub mod realserver;
pub mod reload;
pub mod restart;
pub mod run;
pub mod setup;
pub(crate) mod trace;
pub mod traffic;
pub mod usage;
pub mod version;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use cli::{Cli, Command, Sched};

/// Has scheduler modules compiled by processes of this program, within bounds of time and memory. For the program
/// `uvs`: another one does not know how to be such a process.
pub fn compile_apart() {
    uvs_plugin::Compiler::this_program(cli::COMPILE).install();
}

/// Does what `uvs` is told under the name of ipvsadm, ipvsadm-save or ipvsadm-restore, as which a link may call it.
/// `None`: it has another name.
///
/// # Errors
/// No director answers.
pub fn run_as_ipvsadm(arguments: &[OsString]) -> Option<anyhow::Result<ExitCode>> {
    let (name, arguments) = arguments.split_first()?;
    let first = match Path::new(name).file_name()?.to_str()? {
        "ipvsadm" => None,
        "ipvsadm-save" => Some("-S"),
        "ipvsadm-restore" => Some("-R"),
        _ => return None,
    };
    let arguments: Vec<OsString> =
        first.map(OsString::from).into_iter().chain(arguments.iter().cloned()).collect();
    Some(client::adm::run(&arguments, true))
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for a person to read; the exit status is 1 then.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Import(source) => import::run(&source),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Lab(arguments) => lab::run(&arguments),
        Command::Plan(arguments) => client::plan::plan(&arguments),
        Command::Reload(arguments) => client::plan::reload(&arguments),
        Command::Announce(command) => client::announce::run(&command),
        Command::Adm(arguments) => client::adm::run(&arguments.arguments, false),
        Command::Status(arguments) => client::status::run(&arguments),
        Command::Top(arguments) => client::top::run(&arguments),
        Command::Doctor(arguments) => client::doctor::run(&arguments),
        Command::Events(arguments) => client::events::run(&arguments),
        Command::Ha(arguments) => client::ha::run(&arguments),
        Command::Probe(arguments) => client::probe::run(&arguments),
        Command::Drain(arguments) => client::destination::drain(&arguments),
        Command::Undrain(arguments) => client::destination::undrain(&arguments),
        Command::Wait(arguments) => client::destination::wait(&arguments),
        Command::Explain(arguments) => client::explain::run(&arguments),
        Command::Trace(arguments) => client::trace::run(&arguments),
        Command::Sched(Sched::Live(command)) => client::sched::run(&command),
        Command::Realserver(arguments) => realserver::run(arguments),
        Command::Sched(Sched::Author(command)) => uvs_sched::run(&command),
        Command::Completions(arguments) => manual::completions(&arguments, Cli::command()),
        Command::Man(arguments) => manual::man(&arguments, Cli::command()),
        Command::Compile => {
            uvs_plugin::serve_compiler().map_err(anyhow::Error::msg)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            println!("{}", version::Build::current());
            Ok(ExitCode::SUCCESS)
        }
    }
}
