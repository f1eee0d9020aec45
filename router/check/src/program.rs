//! Runs a program: no shell, an empty environment but for what it is given, a process group of its own, which is killed
//! when its run ends, however it does; as another user where that is asked for.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getegid, geteuid, getuid};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Duration, timeout};

use crate::text::{SHOWN_MAX, shown};

/// For so long is listened to what a program has left in its pipes.
const REST: Duration = Duration::from_millis(100);

/// Kills the group when it is dropped. The group's number is not given to others before the child was waited for.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // What has ended already is not there any more.
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

/// Whose rights a program has: user and group, and no further groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// What it is called where it is named.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The group's.
    pub gid: u32,
}

impl User {
    /// Whether that is who this process runs as already.
    pub fn is_own(&self) -> bool {
        (self.uid, self.gid) == (geteuid().as_raw(), getegid().as_raw())
    }
}

/// Whether this process may run programs as another user: it is root's, with CAP_SETUID and CAP_SETGID
/// (capabilities(7)). Another user with these two would leave a program its own groups and, as the kernel takes them
/// away from root alone at that change, its capabilities.
pub fn may_change_user() -> bool {
    const SETGID_AND_SETUID: u64 = 1 << 6 | 1 << 7;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    getuid().is_root() && effective.is_some_and(|has| has & SETGID_AND_SETUID == SETGID_AND_SETUID)
}

/// How a program ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, or the signal that killed it.
    pub status: ExitStatus,
    /// The beginning of its output, or else of its errors, made fit to be shown; may be empty.
    pub said: String,
}

impl Ended {
    /// In words, with what it said, such as `exit status 1: no disk`.
    pub fn text(&self) -> String {
        let text = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                let name =
                    Signal::try_from(signal).map_or_else(|_| signal.to_string(), |name| name.to_string());
                format!("killed by {name}")
            }
        };
        self.with(text)
    }

    /// That text, with what it said.
    pub fn with(&self, text: String) -> String {
        if self.said.is_empty() { text } else { format!("{text}: {}", self.said) }
    }
}

/// Starts a program: the first word by its absolute path, the others are its arguments; `None`: as the user that this
/// process runs as. It is killed with its group when what this returns is dropped.
///
/// # Errors
/// It cannot be run. The text says why.
pub fn start<'e>(
    command: &[String],
    user: Option<&User>,
    environment: impl IntoIterator<Item = (&'e str, &'e str)>,
) -> Result<Program, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("no program is named".into());
    };
    let mut command = Command::new(program);
    if let Some(user) = user.filter(|user| !user.is_own()) {
        // In the child, in this order: the group, no further groups, the user.
        command.gid(user.gid).uid(user.uid);
    }
    let child = command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match user {
            Some(user) if error.raw_os_error() == Some(nix::errno::Errno::EPERM as i32) => {
                format!("{program} cannot be run as {}: {error}; that takes root", user.name)
            }
            Some(user) => format!("{program} cannot be run as {}: {error}", user.name),
            None => format!("{program} cannot be run: {error}"),
        })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    Ok(Program { child, group: Group(id) })
}

/// A program that runs.
pub struct Program {
    child: Child,
    group: Group,
}

impl Program {
    /// Waits for the end, and keeps the beginning of what is said meanwhile.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn end(self) -> io::Result<Ended> {
        let Self { mut child, group } = self;
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let mut talk = Box::pin(async {
            let mut first = Vec::new();
            let mut second = Vec::new();
            tokio::join!(hear(out.as_mut(), &mut first), hear(err.as_mut(), &mut second));
            if first.is_empty() { second } else { first }
        });
        let mut heard = None;
        let status = loop {
            tokio::select! {
                text = &mut talk, if heard.is_none() => heard = Some(text),
                status = child.wait() => break status?,
            }
        };
        // Those it has left behind go with it, and with them go the pipes. Its number was given back a moment ago; it
        // is still that of the group while one member is there, and nobody's otherwise.
        drop(group);
        if heard.is_none() {
            heard = timeout(REST, talk).await.ok();
        }
        Ok(Ended { status, said: shown(heard.unwrap_or_default().trim_ascii()) })
    }
}

/// Keeps the beginning, and drops the rest.
async fn hear(pipe: Option<&mut (impl AsyncRead + Unpin)>, said: &mut Vec<u8>) {
    let Some(pipe) = pipe else { return };
    let mut buffer = vec![0; 4096];
    while let Ok(len @ 1..) = pipe.read(&mut buffer).await {
        let room = SHOWN_MAX.saturating_sub(said.len()).min(len);
        said.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
}
