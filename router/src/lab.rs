//! `uvs lab`: a practice ground, and a shell in it.
//!
//! ```text
//!   uvs lab            new namespaces: network, mounts (/run is empty), processes; two bridges
//!     `-- uvs lab      process 1 in there: dies with its parent, reaps what is left over
//!           `-- bash   or another command; when it ends, the namespaces go, with all that is in them
//! ```
//! The host's own network cannot be seen from inside, so what is typed by mistake harms nothing.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getppid, tcgetpgrp, tcsetpgrp};
use uvs_device::net::Net;
use uvs_lab::privilege;

/// `uvs lab`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
In there are two bridges, br0 and br1, and two commands that plug machines into them:
  machine NAME BRIDGE ADDRESS GATEWAY   a machine with ADDRESS/24; commands run on it by `ip netns exec NAME COMMAND`
  answer NAME PORT                      an HTTP server on that machine that says its name
Nothing of the host's network can be seen or changed from there, and all of it is gone when the shell ends.

Examples:
  sudo uvs lab                          then paste what a how-to says
  sudo uvs lab bash how-to.sh           run a script in a new lab; its exit status is that of uvs

It needs iproute2 and bash; `answer` needs python3. It needs root, or a system that lets users make user namespaces.

Exit status: that of the shell or the command; 1 there can be no lab, 2 wrong usage.")]
pub struct Args {
    /// Command to run in place of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
    /// This is process 1 of the lab, and has the terminal or not
    #[arg(long, hide = true, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    pub init: Option<Init>,
}

/// How process 1 of a lab stands to the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Init {
    /// It and its shell have it.
    Foreground,
    /// Somebody else has it, or there is none.
    Background,
}

/// The folder in which a lab's shell starts; on a file system of the lab's own.
const HOME: &str = "/run/lab";
/// Where its commands are.
const BIN: &str = "/run/lab/.bin";

/// The bridges of a lab: for clients, and for real servers.
const BRIDGES: [&str; 2] = ["br0", "br1"];

const MACHINE: &str = r#"#!/bin/sh
# machine NAME BRIDGE ADDRESS GATEWAY: a network namespace on a bridge
if [ $# != 4 ]; then echo "usage: machine NAME BRIDGE ADDRESS GATEWAY   (as machine rs1 br1 192.168.20.11 192.168.20.1)" >&2; exit 2; fi
set -e
ip netns add "$1"
ip -n "$1" link set dev lo up
ip link add name "$1" type veth peer name eth0 netns "$1"
ip link set dev "$1" master "$2" up
ip -n "$1" link set dev eth0 up
ip -n "$1" address add "$3/24" dev eth0
ip -n "$1" route add default via "$4"
"#;

const ANSWER: &str = r#"#!/bin/sh
# answer NAME PORT: an HTTP server on a machine that says its name
if [ $# != 2 ]; then echo "usage: answer NAME PORT   (as answer rs1 8080)" >&2; exit 2; fi
set -e
mkdir -p "/run/lab/www/$1"
echo "this is $1" > "/run/lab/www/$1/index.html"
ip netns exec "$1" python3 -m http.server --directory "/run/lab/www/$1" "$2" > /dev/null 2>&1 < /dev/null &
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  ip netns exec "$1" sh -c "exec 2> /dev/null; ss -Hltn 'sport = :$2'" | grep -q . && exit 0
  sleep 0.25
done
echo "answer: nothing listens on port $2 of $1 after 5 s; is python3 there?" >&2
exit 1
"#;

const RC: &str = r#"[ -r /etc/bash.bashrc ] && . /etc/bash.bashrc
PS1='lab:\w# '
"#;

const GREETING: &str = "\
This is a lab: a network of its own, with the bridges br0 and br1. Nothing here reaches your host.
  machine NAME BRIDGE ADDRESS GATEWAY   plugs a machine in;  ip netns exec NAME COMMAND  runs something on it
  answer NAME PORT                      starts an HTTP server on it that says its name
`exit` removes everything.";

/// Makes a lab and runs a shell, or a command, in it.
///
/// # Errors
/// The system refuses namespaces or devices, with what to do about it, or a tool is missing.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(how) = args.init {
        return init(how, &args.command);
    }
    for (tool, package) in [("ip", "iproute2"), ("bash", "bash")] {
        if find(tool).is_none() {
            bail!("there is no `{tool}` on the path\n  fix: apt-get install {package}");
        }
    }
    let this = std::env::current_exe().context("cannot find out which program this is")?;
    privilege::acquire()?;
    privilege::check_tun()?;
    build(&this)?;
    let foreground = tcgetpgrp(io::stdin()) == Ok(getpgrp());
    // A process group of its own: what is typed, ^C too, is the shell's and not ours.
    let status = Command::new("/proc/self/exe")
        .args(["lab", if foreground { "--init=foreground" } else { "--init" }, "--"])
        .args(&args.command)
        .process_group(0)
        .status()
        .context("cannot start the lab's first process")?;
    if foreground {
        // Fails where the terminal has gone, and then nobody needs it.
        let _ = take_terminal();
    }
    Ok(code(status))
}

/// Enters new namespaces and furnishes them.
fn build(this: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)
        .context("cannot make the lab's namespaces")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot keep the lab's mounts to itself")?;
    // Read before /run is hidden, where this program may lie.
    let program = this.starts_with("/run").then(|| fs::read("/proc/self/exe")).transpose()?;
    mount(Some("uvs-lab"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("cannot mount an empty /run for the lab")?;
    fs::create_dir_all(BIN).context("cannot make the lab's folder")?;
    let uvs = Path::new(BIN).join("uvs");
    match program {
        Some(bytes) => write_program("uvs", &bytes)?,
        None => std::os::unix::fs::symlink(this, uvs).context("cannot link uvs into the lab")?,
    }
    write_program("machine", MACHINE.as_bytes())?;
    write_program("answer", ANSWER.as_bytes())?;
    fs::write(Path::new(BIN).join("bashrc"), RC).context("cannot write the shell's start file")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let net = Net::new()?;
        net.set_up("lo").await?;
        for bridge in BRIDGES {
            net.bridge(bridge).await?;
            net.set_up(bridge).await?;
        }
        anyhow::Ok(())
    })
}

fn write_program(name: &str, text: &[u8]) -> Result<()> {
    let path = Path::new(BIN).join(name);
    fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Process 1 of the lab: starts the command and reaps everything else until that ends.
fn init(how: Init, command: &[OsString]) -> Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL).context("cannot tie the lab to the command that made it")?;
    // The parent is in another namespace of processes: its id here is 0, and 1 if it was gone already.
    if std::process::id() != 1 || getppid() != Pid::from_raw(0) {
        bail!("--init is for `uvs lab` itself: leave it out");
    }
    let none: Option<&str> = None;
    let fresh = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), fresh, none)
        .context("cannot mount /proc for the lab\n  fix: in a container, start it with --privileged")?;
    // `ip netns exec` brings its own; without one, only what reads /sys/class/net here sees the host's.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), fresh, none);
    if how == Init::Foreground {
        take_terminal().context("cannot take the terminal")?;
    }
    let shell = command.is_empty();
    let mut start = match command.split_first() {
        None => {
            let mut bash = Command::new("bash");
            if io::stdin().is_terminal() {
                println!("{GREETING}");
                bash.args(["--rcfile", &format!("{BIN}/bashrc"), "-i"]);
            }
            bash
        }
        Some((program, arguments)) => {
            let mut start = Command::new(program);
            start.args(arguments);
            start
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([PathBuf::from(BIN)].into_iter().chain(std::env::split_paths(&path)))?;
    if shell {
        start.current_dir(HOME);
    }
    // A command finds its files where it was called; `uvs lab` says where the lab's folder is.
    start.env("PATH", path).env("LAB", HOME).env_remove("UVS_SOCKET");
    let name = start.get_program().to_string_lossy().into_owned();
    // ^C goes to the command alone: a namespace's first process gets no signal that it has no handler for.
    let child = start.spawn().with_context(|| format!("cannot start {name}"))?;
    let child = Pid::from_raw(i32::try_from(child.id()).context("a process id is that large")?);
    loop {
        match waitpid(None, Some(WaitPidFlag::WUNTRACED)).context("cannot wait for the shell")? {
            WaitStatus::Exited(id, code) if id == child => {
                return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
            }
            WaitStatus::Signaled(id, number, _) if id == child => {
                return Ok(code(ExitStatus::from_raw(number as i32)));
            }
            // Nobody is here who could have a stopped command go on.
            WaitStatus::Stopped(id, _) if id == child && !shell => kill(id, Signal::SIGCONT)?,
            _ => {}
        }
    }
}

/// Makes our process group the terminal's, though another one is at the moment.
fn take_terminal() -> nix::Result<()> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    stop.thread_block()?;
    let taken = tcsetpgrp(io::stdin(), getpgrp());
    stop.thread_unblock()?;
    taken
}

/// The exit status to end with for what ended so; as shells do, 128 and the number of a signal.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Where a program lies on the path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
