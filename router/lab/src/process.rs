//! Child processes that never outlive us, and the `uvs` binary for them to be.

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};

/// Lines of a log that are kept for an error message.
const LOG_TAIL: usize = 200;

/// A running process. Dropped, it is asked to end, and killed when it does not.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Log,
}

impl Process {
    /// Watches over `child`; what it has piped to us is read and the last lines kept.
    pub fn new(name: String, mut child: Child) -> Self {
        let log = Log::default();
        if let Some(out) = child.stdout.take() {
            log.follow(out);
        }
        if let Some(err) = child.stderr.take() {
            log.follow(err);
        }
        Self { name, child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input and closes it.
    ///
    /// # Errors
    /// It was not piped, or the process is gone.
    pub fn feed(&mut self, text: &str) -> Result<()> {
        use std::io::Write as _;
        let mut stdin = self.child.stdin.take().context("its standard input is not a pipe")?;
        stdin.write_all(text.as_bytes()).with_context(|| format!("cannot write to {}", self.name))
    }

    /// What it has written so far, the last 200 lines at most.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until a line of its output contains `text`.
    ///
    /// # Errors
    /// It ended or `timeout` passed; the message holds its output.
    pub fn wait_for_line(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.log.contains_by(text, Instant::now() + Duration::from_millis(50)) {
                return Ok(());
            }
            self.check()?;
            if Instant::now() > deadline {
                bail!("{} did not say {text:?} within {timeout:?}{}", self.name, self.log.report());
            }
        }
    }

    /// Makes sure that it still runs.
    ///
    /// # Errors
    /// It has ended; the message holds how and its output.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("cannot wait for a process")? {
            None => Ok(()),
            Some(status) => {
                self.log.wait_until_closed(Duration::from_secs(1));
                bail!("{} ended early ({status}){}", self.name, self.log.report())
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).expect("a process id is positive and fits");
        kill(Pid::from_raw(id), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended after `timeout`; it goes on.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for a process")? {
                self.log.wait_until_closed(Duration::from_secs(1));
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {timeout:?}{}", self.name, self.log.report());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end with SIGTERM and waits.
    ///
    /// # Errors
    /// It has not ended after `timeout`.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.child.try_wait().context("cannot wait for a process")?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait(timeout)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.terminate(Duration::from_secs(3)).is_err() {
            tracing::warn!(process = %self.name, "did not end on SIGTERM, killing it");
            // Fails only for a process that is gone, which is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The last lines of what a process has written.
#[derive(Clone, Debug, Default)]
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    tail: VecDeque<String>,
    open: usize,
}

impl Log {
    fn follow(&self, from: impl Read + Send + 'static) {
        self.lock().open += 1;
        let log = self.clone();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut lines = log.lock();
                if lines.tail.len() == LOG_TAIL {
                    lines.tail.pop_front();
                }
                lines.tail.push_back(text);
                drop(lines);
                log.0.1.notify_all();
            }
            log.lock().open -= 1;
            log.0.1.notify_all();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contains_by(&self, text: &str, deadline: Instant) -> bool {
        self.wait_while(deadline, |lines| !lines.tail.iter().any(|line| line.contains(text)))
    }

    fn wait_until_closed(&self, timeout: Duration) {
        self.wait_while(Instant::now() + timeout, |lines| lines.open > 0);
    }

    /// Whether `waiting` became false by then.
    fn wait_while(&self, deadline: Instant, mut waiting: impl FnMut(&Lines) -> bool) -> bool {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let (lines, _) = self
            .0
            .1
            .wait_timeout_while(self.lock(), timeout, |lines| waiting(lines))
            .unwrap_or_else(PoisonError::into_inner);
        !waiting(&lines)
    }

    fn text(&self) -> String {
        self.lock().tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn report(&self) -> String {
        let text = self.text();
        if text.is_empty() { "; it wrote nothing".to_owned() } else { format!(":\n{text}") }
    }
}

/// Has the kernel kill what `command` starts when the thread that starts it ends.
#[expect(unsafe_code, reason = "pre_exec is the one way to run prctl between fork and exec")]
pub(crate) fn die_with_parent_thread(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe functions may be
    // called; prctl and getppid are plain system calls, and nothing in it allocates or takes a lock.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended before the line above took effect.
            if getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
        });
    }
}

/// The `uvs` binary to run on hosts: this very program, `$UVS_BIN`, or the one that stands beside this program or one
/// folder up (tests and benches run from `target/PROFILE/deps`).
///
/// # Errors
/// There is none; the message says how to build it.
pub fn uvs_binary() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot find out which program this is")?;
    let name = this.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name == "uvs" {
        return Ok(this);
    }
    if name == "uvs (deleted)" {
        // A build has replaced the file since we were started.
        return Ok("/proc/self/exe".into());
    }
    if let Some(path) = env::var_os("UVS_BIN") {
        return Ok(path.into());
    }
    this.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join("uvs"))
        .find(|path| path.is_file())
        .with_context(|| format!("there is no uvs binary near {}\n  fix: cargo build --package uvs with the same profile, or set UVS_BIN", this.display()))
}

/// Builds the `uvs` binary with `cargo` (what `env!("CARGO")` says) in the profile of this program, a test or bench,
/// and returns its path. It takes no time when it is built already; `$UVS_BIN` is taken as it is.
///
/// # Errors
/// It does not build; the message holds the compiler's.
pub fn build_uvs(cargo: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os("UVS_BIN") {
        return Ok(path.into());
    }
    let this = env::current_exe().context("cannot find out which program this is")?;
    let profile_folder = this.ancestors().nth(2).context("a test program is in target/PROFILE/deps")?;
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target = profile_folder.parent().context("a test program is in target/PROFILE/deps")?;
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "uvs", "--bin", "uvs", "--profile", profile, "--target-dir"])
        .arg(target)
        .output()
        .context("cannot start cargo")?;
    if !built.status.success() {
        bail!("uvs does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(profile_folder.join("uvs"))
}
