//! `uvs plan` and `uvs reload`: what a reload would change, and a reload.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use uvs_control::plan::{Plan, ReloadRequest, Request};
use uvs_control::status::{self, Answer as Status};
use uvs_control::{Answer, Client, ClientError, ErrorKind};

use super::Which;
use crate::check::STATUS_WRONG;
use crate::words;

/// What a configuration is called that is no file.
const STANDARD_INPUT: &str = "standard input";
/// The longest configuration that is handed over, in bytes: as long as a file may be.
const CONTENT_MAX: u64 = 16 << 20;
/// Exit status of `uvs plan` when there is something to change.
const STATUS_CHANGES: u8 = 1;
/// Exit status of `uvs reload --wait` when the time is over before each check has a result.
const STATUS_WAITED: u8 = 3;
/// How often the director is asked for its checks.
const WAIT_EVERY: Duration = Duration::from_millis(200);

/// `uvs plan`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
The director itself compares what runs with the file, by the code that a reload applies. What was changed by hand
(uvs adm, uvs sched) is marked: a reload undoes it.

Examples:
  uvs plan                                 what would `uvs reload` change?
  uvs plan edge.toml                       what would it change if this were the director's file?
  uvs plan --json | jq '.changes[].effect' for programs (docs/control.md says what is in it)
  uvs adm --export | uvs plan -            nothing: that is what runs

Exit status: 0 nothing would change, 1 something would, 2 the file is wrong, a reload would refuse it, or no director
answers.")]
pub struct PlanArgs {
    /// The configuration; - is standard input [default: the director's own file]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print it as JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs reload`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
The director reads its file again, as with SIGHUP, and prints what it has changed: just what `uvs plan` says before.

Examples:
  uvs reload                     put a changed file in force, and see what that changes
  uvs reload --wait              the same, and wait until each check of a destination has a result
  uvs plan; uvs reload --json    look first; then for programs

Exit status: 0 done, also if nothing had to change; 1 a change failed (the log says how far it came), a module was
refused, or no director answers; 2 the file is wrong or needs a restart, and nothing was changed; 3 done, but with
--wait there are checks without a result.")]
pub struct ReloadArgs {
    /// Wait until each check has a result, for so long at most, as in 90s or 5m [default: 60s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    #[arg(value_parser = uvs_config::parse_duration)]
    pub wait: Option<Duration>,
    /// Print it as JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// Asks what would change.
///
/// # Errors
/// Standard output cannot be written.
pub fn plan(arguments: &PlanArgs) -> anyhow::Result<ExitCode> {
    match asked(arguments) {
        Ok(plan) => {
            print(&plan, arguments.json, false)?;
            Ok(if plan.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(STATUS_CHANGES) })
        }
        // Whatever it is: 1 says that there is something to change.
        Err(error) => Ok(wrong(&error)),
    }
}

fn asked(arguments: &PlanArgs) -> anyhow::Result<Plan> {
    let request = request(arguments.file.as_ref())?;
    let mut client = arguments.which.connect()?;
    let mut plan = plan_of(client.ask(&uvs_control::Request::Plan(request))?)?;
    // It was named as a file of this folder, in which relative paths in it begin.
    if arguments.file.as_ref().is_some_and(|file| file.as_os_str() == "-") {
        STANDARD_INPUT.clone_into(&mut plan.config);
    }
    Ok(plan)
}

fn plan_of(answer: Answer) -> anyhow::Result<Plan> {
    match answer {
        Answer::Plan(plan) => Ok(plan),
        other => bail!("the director answered something else: {other:?}"),
    }
}

/// The file is read here: the director may see other folders than its operator.
fn request(file: Option<&PathBuf>) -> anyhow::Result<Request> {
    let Some(file) = file else { return Ok(Request::default()) };
    let mut bytes = Vec::new();
    let (name, read) = if file.as_os_str() == "-" {
        let read = io::stdin().lock().take(CONTENT_MAX + 1).read_to_end(&mut bytes);
        (std::env::current_dir().context("there is no current folder")?.join(STANDARD_INPUT), read)
    } else {
        let read =
            std::fs::File::open(file).and_then(|file| file.take(CONTENT_MAX + 1).read_to_end(&mut bytes));
        (std::path::absolute(file)?, read)
    };
    read.with_context(|| format!("{} cannot be read", file.display()))?;
    if bytes.len() as u64 > CONTENT_MAX {
        bail!("{} has more than {CONTENT_MAX} bytes; is it the right file?", file.display());
    }
    let content =
        String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8 text", file.display()))?;
    Ok(Request { file: Some(name), content: Some(content) })
}

/// Has the director reload its file.
///
/// # Errors
/// No director answers, or a change failed.
pub fn reload(arguments: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let mut client = arguments.which.connect()?;
    let plan = match client.ask(&uvs_control::Request::Reload(ReloadRequest {})) {
        Ok(answer) => plan_of(answer)?,
        Err(ClientError::Refused(error)) if error.kind == ErrorKind::Refused => {
            eprintln!("{error}\nnothing was changed: the configuration before stays in force");
            return Ok(ExitCode::from(STATUS_WRONG));
        }
        Err(error) => return Err(error.into()),
    };
    print(&plan, arguments.json, true)?;
    if !plan.refused.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let Some(time) = arguments.wait else { return Ok(ExitCode::SUCCESS) };
    let until = Instant::now() + time;
    loop {
        let waiting = without_result(&mut client)?;
        if waiting.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= until {
            let lines = waiting.iter().map(|check| format!("no result yet: {check}"));
            for line in words::few(lines, WAITING_NAMED) {
                eprintln!("{line}");
            }
            return Ok(ExitCode::from(STATUS_WAITED));
        }
        std::thread::sleep(WAIT_EVERY);
    }
}

/// Checks without a result that are named.
const WAITING_NAMED: usize = 20;

/// Checks that have none.
fn without_result(client: &mut Client) -> anyhow::Result<Vec<String>> {
    let Answer::Status(status) = client.ask(&uvs_control::Request::Status(status::Request {}))? else {
        bail!("the director answered something else");
    };
    let Status { health, .. } = *status;
    let mut waiting = Vec::new();
    for service in health {
        for destination in service.destinations {
            let unchecked = destination.checks.iter().filter(|check| check.state == "unchecked");
            let name =
                |check: &str| format!("check {check} of {} {}", service.service, destination.destination);
            waiting.extend(unchecked.map(|check| name(&check.name)));
        }
    }
    Ok(waiting)
}

/// Says why not; the exit status that goes with it.
fn wrong(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(ClientError::Refused(error)) => eprintln!("{error}\na reload would refuse it"),
        _ => eprintln!("error: {error:#}"),
    }
    ExitCode::from(STATUS_WRONG)
}

fn print(plan: &Plan, json: bool, done: bool) -> anyhow::Result<()> {
    for warning in &plan.warnings {
        eprintln!("{warning}");
    }
    let text = if json { serde_json::to_string_pretty(plan)? + "\n" } else { plan.text(done) };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read it has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output cannot be written"),
    }
}
