//! Compiling in a process of its own, which may take only so long and so much memory.
//!
//! ```text
//!   director                                     compiler: the same program, told to call `serve`
//!   stdin   magic | stack | guard pages | seconds | MiB | length | component ---------> limits itself, compiles
//!   stdout  <------------------------------ outcome (a byte) | code, or what is wrong
//! ```
//! The director keeps the compiler's standard input open until it has the answer: when it ends, so does the compiler.
//! What does not answer in time is killed; address space and processor time are bounded by the kernel (setrlimit(2)).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::code::Code;
use crate::engine::{address_space_max, engine};
use crate::error::{LoadReason, one_line};
use crate::policy::Policy;

const MAGIC: [u8; 8] = *b"uvs-wasm";
/// Magic and five numbers of eight bytes.
const HEADER: usize = 6 * 8;
/// The longest answer, in bytes: 512 MiB of code.
const ANSWER_MAX: usize = 512 << 20;
/// How much is written or read in one go, in bytes.
const CHUNK: usize = 64 << 10;
/// How many times its processor time a compiler may take by the clock: it is not alone on the machine.
const PATIENCE: u32 = 2;
/// The outcomes.
const DONE: u8 = 0;
const INVALID: u8 = 1;

/// The program that compiles for the hosts that are made from now on, in a process of its own.
static COMPILER: OnceLock<Compiler> = OnceLock::new();

/// A program that calls [`serve`].
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Compiler {
    /// The program that runs now, told to compile by `argument`.
    pub fn this_program(argument: &str) -> Self {
        // This name stays right when the file is replaced by that of a later version.
        Self::new("/proc/self/exe", [argument.into()])
    }

    /// `program` with `arguments`.
    pub fn new(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self { program: program.into(), arguments: arguments.into_iter().collect() }
    }

    /// Makes it the compiler of all hosts of this process that are made from now on. Once is for good. Without, they
    /// compile in their own process, bounded by the structure of a component alone.
    pub fn install(self) {
        let _ = COMPILER.set(self);
    }

    pub(crate) fn installed() -> Option<Self> {
        COMPILER.get().cloned()
    }

    /// Compiles a component, in the time and the memory that `policy` has for it.
    pub(crate) fn compile(&self, policy: &Policy, bytes: &[u8]) -> Result<Code, LoadReason> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            LoadReason::Compiler(format!("{what} {}: {error}", self.program.display()))
        };
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map(Running).map_err(|error| failed("cannot start", &error))?;
        let deadline = Instant::now() + policy.compile_time * PATIENCE;
        let answer = match child.converse(&header(policy, bytes.len()), bytes, deadline) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(LoadReason::CompileTime { limit: policy.compile_time }),
            Err(error) => return Err(failed("cannot talk to", &error)),
        };
        match answer.split_first() {
            Some((&DONE, code)) => Ok(Code::of_our_compiler(code.to_vec())),
            Some((&INVALID, text)) => {
                let text = String::from_utf8_lossy(text).into_owned();
                let memory = text.contains("Cannot allocate memory") || text.contains("out of memory");
                Err(if memory { too_little_memory(policy) } else { LoadReason::Invalid(text) })
            }
            _ => Err(ended(child.wait(), policy)),
        }
    }
}

/// Whose limit it is that a compiler has come to.
fn too_little_memory(policy: &Policy) -> LoadReason {
    let asked = policy.compile_bytes as u64;
    match address_space_max() {
        Some(limit) if limit < asked => LoadReason::AddressSpace { limit },
        _ => LoadReason::CompileMemory { limit: policy.compile_bytes },
    }
}

/// What it means that a compiler ended without an answer.
fn ended(status: io::Result<ExitStatus>, policy: &Policy) -> LoadReason {
    let signal =
        status.as_ref().ok().and_then(ExitStatusExt::signal).and_then(|it| Signal::try_from(it).ok());
    match (signal, status) {
        (Some(Signal::SIGXCPU | Signal::SIGKILL), _) => {
            LoadReason::CompileTime { limit: policy.compile_time }
        }
        // Memory that is not given ends a Rust program this way.
        (Some(Signal::SIGABRT | Signal::SIGSEGV | Signal::SIGBUS), _) => too_little_memory(policy),
        (_, Ok(status)) => LoadReason::Compiler(format!("it ended without an answer ({status})")),
        (_, Err(error)) => LoadReason::Compiler(format!("what became of it is not known: {error}")),
    }
}

fn header(policy: &Policy, len: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    let numbers = [
        policy.stack_bytes as u64,
        u64::from(policy.guard_pages),
        policy.compile_time.as_secs().max(1),
        policy.compile_bytes as u64,
        len as u64,
    ];
    for (at, number) in header[8..].chunks_exact_mut(8).zip(numbers) {
        at.copy_from_slice(&number.to_le_bytes());
    }
    header
}

/// A compiler at work. It ends with this.
struct Running(Child);

impl Running {
    /// Writes the question and reads the answer to its end; `None`: it takes too long.
    fn converse(&mut self, header: &[u8], bytes: &[u8], deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let (stdin, mut stdout) = match (self.0.stdin.as_mut(), self.0.stdout.take()) {
            (Some(stdin), Some(stdout)) => (stdin, stdout),
            _ => return Err(io::Error::other("it has no pipes")),
        };
        for fd in [stdin.as_fd(), stdout.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let mut unsent = [header, bytes];
        let mut answer = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let sending = unsent.iter().any(|part| !part.is_empty());
            let (writable, readable) = wait(sending.then(|| stdin.as_fd()), stdout.as_fd(), left)?;
            if writable {
                let part = unsent.iter_mut().find(|part| !part.is_empty()).expect("there is one to be sent");
                match stdin.write(&part[..part.len().min(CHUNK)]) {
                    Ok(written) => *part = &part[written..],
                    // It says why on its standard output, or by how it ends.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => unsent = [&[], &[]],
                    Err(error) if is_again(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            if readable {
                let mut chunk = [0; CHUNK];
                match stdout.read(&mut chunk) {
                    Ok(0) => return Ok(Some(answer)),
                    Ok(read) if answer.len() + read > ANSWER_MAX => {
                        return Err(io::Error::other(format!("its code is longer than {ANSWER_MAX} bytes")));
                    }
                    Ok(read) => answer.extend_from_slice(&chunk[..read]),
                    Err(error) if is_again(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// How it ended; it has closed its standard output, so that is at once.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended by itself and was waited for.
        if let Ok(pid) = i32::try_from(self.0.id())
            && matches!(self.0.try_wait(), Ok(None))
        {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}

/// Waits until something can be written or read, at most for so long.
fn wait(stdin: Option<BorrowedFd<'_>>, stdout: BorrowedFd<'_>, left: Duration) -> io::Result<(bool, bool)> {
    let millis = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1);
    let mut fds = vec![PollFd::new(stdout, PollFlags::POLLIN)];
    fds.extend(stdin.map(|fd| PollFd::new(fd, PollFlags::POLLOUT)));
    match poll(&mut fds, PollTimeout::from(millis)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ready = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any).unwrap_or(false);
    Ok((ready(fds.get(1)), ready(fds.first())))
}

fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The compiler's side: takes one component on standard input and answers on standard output.
///
/// # Errors
/// A sentence: standard input is none of a director, or the system refuses a limit.
pub fn serve() -> Result<(), String> {
    let mut stdin = io::stdin().lock();
    let mut header = [0; HEADER];
    stdin.read_exact(&mut header).map_err(|error| format!("no component on standard input: {error}"))?;
    let mut words = header.chunks_exact(8).map(|word| word.try_into().expect("8 bytes"));
    if words.next() != Some(MAGIC) {
        return Err("this is no component from a director of this version".into());
    }
    let mut number = || words.next().map_or(0, u64::from_le_bytes);
    let (stack, guard_pages, seconds, memory, len) = (number(), number() == 1, number(), number(), number());
    let mut bytes = Vec::new();
    stdin.by_ref().take(len).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    drop(stdin);
    // A director that ends has nobody to take the answer.
    thread::spawn(|| {
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
    limit(seconds, memory).map_err(|error| format!("the compiler cannot be limited: {error}"))?;
    let stack_bytes = usize::try_from(stack).unwrap_or(usize::MAX);
    let policy = Policy { stack_bytes, guard_pages, ..Policy::default() };
    let compiled = engine(&policy)
        .and_then(|engine| engine.precompile_component(&bytes).map_err(|error| one_line(&error)));
    let (outcome, answer) = match compiled {
        Ok(code) => (DONE, code),
        Err(reason) => (INVALID, reason.into_bytes()),
    };
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&[outcome]).and_then(|()| stdout.write_all(&answer));
    written.and_then(|()| stdout.flush()).map_err(|error| format!("nobody takes the code: {error}"))
}

/// Bounds this process: processor time in seconds, and `memory` bytes of address space above what it has now; less
/// where the system grants less.
fn limit(seconds: u64, memory: u64) -> io::Result<()> {
    let mut text = String::new();
    File::open("/proc/self/status")?.read_to_string(&mut text)?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("VmSize:")?.split_whitespace().next()?.parse().ok());
    let now: u64 = kib.unwrap_or(0) << 10;
    for (resource, soft, hard) in
        [(Resource::RLIMIT_AS, now + memory, now + memory), (Resource::RLIMIT_CPU, seconds, seconds + 1)]
    {
        // Only root may raise what there is.
        if setrlimit(resource, soft, hard).is_err() {
            let (_, most) = getrlimit(resource)?;
            setrlimit(resource, soft.min(most), hard.min(most))?;
        }
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}
