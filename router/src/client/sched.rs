//! `uvs sched`, as far as it is about the running director or what it left behind.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;
use uvs_control::sched::Request;
use uvs_control::{Answer, REQUEST_MAX, base64};
use uvs_plugin::{Dump, Host, Policy, parse_sha256};

use super::Which;

/// What to do with the schedulers of a running director.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Show which module each service of the running director has, what it does and what became of the last one that
    /// was loaded
    Status(StatusArgs),
    /// Put a module in place of the one that a service of the running director has
    #[command(after_help = LOAD_HELP)]
    Load(LoadArgs),
    /// Go back to the module that a service had before
    Rollback(ServiceArgs),
    /// Let the module that is a service's shadow or canary take over
    Promote(ServiceArgs),
    /// Run a call that failed again from its dump, without a director
    Replay(ReplayArgs),
}

const LOAD_HELP: &str = "\
The module is compiled, checked and tried with the latest connections before it takes over; the state of the one before is \
handed to it. Whatever is wrong with it, the one before serves on. Exit status: 0 it took over, 1 it did not.";

/// The longest component that is handed over, in bytes: its base64 fits into a request.
const CONTENT_MAX: usize = (REQUEST_MAX - 4096) / 4 * 3;

/// `uvs sched status`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct StatusArgs {
    /// Only this service, such as tcp/192.0.2.10:443
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Print it as JSON, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs sched load`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct LoadArgs {
    /// The service, such as tcp/192.0.2.10:443
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The component, or the name of a shipped scheduler
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Refuse it unless this is its SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs sched rollback` and `uvs sched promote`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ServiceArgs {
    /// The service, such as tcp/192.0.2.10:443
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs sched replay`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Exit status: 0 it failed as in the dump, or the module given by --module did not fail; 1 otherwise."
)]
pub struct ReplayArgs {
    /// The dump, as the director wrote it
    #[arg(value_name = "DUMP")]
    pub dump: PathBuf,
    /// Run this component instead of the one the dump names
    #[arg(long, value_name = "FILE")]
    pub module: Option<PathBuf>,
}

fn sha256(text: &str) -> Result<String, String> {
    parse_sha256(text).map(|_| text.to_owned())
}

/// Does it.
///
/// # Errors
/// No director answers, or it refuses.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status(StatusArgs { service, json, which }) => {
            ask(which, Request::Status { service: service.clone() }, *json)
        }
        Command::Load(LoadArgs { service, file, sha256, which }) => {
            // The director has another folder to start from.
            let (file, content) = match shipped(file) {
                Some(bytes) => (file.clone(), Some(base64::encode(bytes))),
                None => {
                    let file =
                        std::path::absolute(file).with_context(|| format!("no path: {}", file.display()))?;
                    let content = if geteuid().is_root() { None } else { Some(content(&file)?) };
                    (file, content)
                }
            };
            let service = service.clone();
            ask(which, Request::Load { service, file, content, sha256: sha256.clone() }, false)
        }
        Command::Rollback(ServiceArgs { service, which }) => {
            ask(which, Request::Rollback { service: service.clone() }, false)
        }
        Command::Promote(ServiceArgs { service, which }) => {
            ask(which, Request::Promote { service: service.clone() }, false)
        }
        Command::Replay(arguments) => replay(arguments),
    }
}

/// The component of a shipped name, as it may stand wherever a module is named; a file of that name comes first.
fn shipped(name: &Path) -> Option<&'static [u8]> {
    let (_, bytes) = uvs_plugin::SHIPPED.iter().find(|(shipped, _)| name == Path::new(shipped))?;
    (!name.exists()).then_some(*bytes)
}

/// The component, read with the rights of who asks: the director has others.
fn content(file: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", file.display());
    let mut bytes = Vec::new();
    let opened = File::open(file).with_context(cannot)?;
    opened.take(CONTENT_MAX as u64 + 1).read_to_end(&mut bytes).with_context(cannot)?;
    if bytes.len() > CONTENT_MAX {
        bail!(
            "{} is longer than the {CONTENT_MAX} bytes that can be handed over\n  fix: load it as root, or name it in the \
             configuration",
            file.display()
        );
    }
    Ok(base64::encode(&bytes))
}

fn ask(which: &Which, request: Request, json: bool) -> anyhow::Result<ExitCode> {
    match which.connect()?.ask(&uvs_control::Request::Sched(request))? {
        Answer::Sched(answer) => {
            print(&if json { serde_json::to_string_pretty(&answer.data)? } else { answer.text })?;
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("the director answered something else: {other:?}"),
    }
}

fn replay(arguments: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let dump = Dump::read(&arguments.dump).map_err(anyhow::Error::msg)?;
    // Whatever limit the director had: it took the module.
    let policy = Policy { module_bytes: usize::MAX / 2, ..Policy::default() };
    let host = Host::new(policy).map_err(anyhow::Error::msg)?;
    let replay = uvs_plugin::replay(&host, &dump, arguments.module.as_deref()).map_err(anyhow::Error::msg)?;
    let Dump { service, call, cause, message, fuel, .. } = &dump;
    let used = fuel.map_or(String::new(), |fuel| format!(", fuel {} of {}", fuel.used, fuel.budget));
    print(&format!("dump      {service}: {call} failed, {cause}: {message}{used}\n{replay}"))?;
    let repaired = arguments.module.is_some() && replay.failure.is_none();
    Ok(if replay.same || repaired { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).context("standard output cannot be written")
}
