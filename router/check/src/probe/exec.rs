//! A program that judges, as MISC_CHECK of keepalived: 0 is a success, 1 a failure, and with `dynamic` 2 to 255 a
//! success that sets the weight. No shell; a process group of its own, which is killed when the probe ends, however it
//! does.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Duration, timeout};

use super::{Ended, Passed, Stage, fail};
use crate::outcome::{Says, Verdict};
use crate::spec::Exec;
use crate::text::{SHOWN_MAX, shown};
use crate::weight::Share;

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

pub(super) async fn probe(exec: &Exec, stage: &Stage) -> Ended {
    let Some((program, arguments)) = exec.command.split_first() else {
        return Err(Verdict::Unmade("no program is named".into()));
    };
    stage.is("starting the program");
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(exec.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Verdict::Unmade(format!("{program} cannot be run: {error}")))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let group = Group(id);
    stage.is("waiting for the program");
    let mut said = Vec::new();
    let status = listen(&mut child, group, &mut said).await;
    judge(exec, status.map_err(|error| Verdict::Unmade(error.to_string()))?, &said)
}

/// Waits for the end, and keeps the beginning of what is said meanwhile.
async fn listen(child: &mut Child, group: Group, said: &mut Vec<u8>) -> io::Result<ExitStatus> {
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
    // Those it has left behind go with it, and with them go the pipes. Its number was given back a moment ago; it is
    // still that of the group while one member is there, and nobody's otherwise.
    drop(group);
    if heard.is_none() {
        heard = timeout(REST, talk).await.ok();
    }
    said.extend(heard.unwrap_or_default());
    Ok(status)
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

fn judge(exec: &Exec, status: ExitStatus, said: &[u8]) -> Ended {
    let said = shown(said.trim_ascii());
    let with = |text: String| if said.is_empty() { text } else { format!("{text}: {said}") };
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |name| name.to_string());
        return Err(fail(with(format!("killed by {name}"))));
    };
    match u32::try_from(code) {
        Ok(0) => Ok(Passed::plain(with("exit status 0".into()))),
        Ok(dynamic @ 2..) if exec.dynamic => {
            let weight = dynamic - 2;
            let says = Says { share: Some(Share::Weight(weight)), ..Says::default() };
            Ok(Passed { text: with(format!("exit status {dynamic}: weight {weight}")), says })
        }
        _ => Err(fail(with(format!("exit status {code}")))),
    }
}
