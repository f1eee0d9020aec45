//! `--keep`: a process of its own holds the networks when `uvs demo` has ended.
//!
//! The command starts itself again as the keeper, which does everything and, when done, tells the exit status over
//! a socket that it has as its standard input. Until then it dies with the command; from then on it lives until
//! somebody kills it, and the networks with it.

use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{self, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stderr, dup2_stdout, pause, setsid, write};
use serde::Serialize;
use uvs_lab::privilege::Privilege;

use super::stage::Stage;

/// How to enter what was kept, and how to end it.
#[derive(Debug, Serialize)]
pub(super) struct Guide {
    hosts: Vec<Door>,
    down: String,
}

/// A host and the command that enters it.
#[derive(Debug, Serialize)]
struct Door {
    method: &'static str,
    host: String,
    enter: String,
}

/// Starts the keeper and waits until it has its exit status, which becomes ours.
pub(super) fn hand_over() -> Result<ExitCode> {
    let (mut ours, theirs) = UnixStream::pair().context("cannot make a socket")?;
    let mut command = Command::new("/proc/self/exe");
    command.args(env::args_os().skip(1)).arg("--keeper").stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut keeper = command.spawn().context("cannot start the process that keeps the networks")?;
    // The command holds the other end of the socket as well.
    drop(command);
    let mut code = [0];
    if ours.read(&mut code).context("cannot hear from the process that keeps the networks")? == 1 {
        let [code] = code;
        return Ok(ExitCode::from(code));
    }
    let status = keeper.wait().context("cannot wait for the process that keeps the networks")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Out of reach of the terminal's signals, but not longer alive than the command that waits for us.
pub(super) fn become_keeper() -> Result<()> {
    setsid().context("cannot start a session")?;
    set_pdeathsig(Signal::SIGTERM).context("cannot tie this process to its parent")
}

/// Lets the command go, with its exit status.
pub(super) fn release(code: u8) -> Result<()> {
    set_pdeathsig(None).context("cannot untie this process from its parent")?;
    let nowhere = OpenOptions::new().write(true).open("/dev/null").context("cannot open /dev/null")?;
    dup2_stdout(&nowhere).context("cannot close the standard output")?;
    dup2_stderr(&nowhere).context("cannot close the standard error output")?;
    write(io::stdin(), &[code]).context("the command has gone")?;
    Ok(())
}

/// Holds the stages until a signal ends this process, and with it all that is in them.
pub(super) fn wait_for_signal(_stages: &[Stage]) -> ! {
    loop {
        pause();
    }
}

/// Writes down how to get into the hosts of these stages.
pub(super) fn guide(stages: &[Stage], privilege: Privilege) -> Guide {
    let user = match privilege {
        Privilege::Root => "",
        Privilege::UserNamespace => " --user --preserve-credentials",
    };
    let doors = stages.iter().flat_map(|stage| {
        stage.hosts().map(|host| Door {
            method: stage.topology.method.name(),
            host: host.name().to_owned(),
            enter: format!("nsenter --target {}{user} --net", host.keeper_id()),
        })
    });
    Guide { hosts: doors.collect(), down: format!("kill {}", process::id()) }
}

impl fmt::Display for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The networks stay up. Enter a host:")?;
        for door in &self.hosts {
            writeln!(f, "  {:<4}{:<10}{}", door.method, door.host, door.enter)?;
        }
        writeln!(
            f,
            "For example, on a client: curl http://10.0.0.100/; on a director: curl http://127.0.0.1:9100/connections"
        )?;
        writeln!(f, "Take everything down:\n  {}", self.down)
    }
}
