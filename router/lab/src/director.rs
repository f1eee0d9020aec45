//! Starting `uvs run` and `uvs realserver` on hosts, as a user would, and asking a running director.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::host::Host;
use crate::process::Process;
use crate::topology::{METRICS, RealServer};

/// How long a process may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the metrics server may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// A running `uvs run`. Dropped, it ends.
#[derive(Debug)]
pub struct Director {
    host: Host,
    process: Process,
    metrics: SocketAddr,
    socket: PathBuf,
}

impl Director {
    /// Starts `uvs run` (the file `uvs`) on `host` and waits until it serves its metrics, which it does last.
    /// The config comes through a pipe, so nothing is written to disk; it must have `listen` = [`METRICS`].
    ///
    /// # Errors
    /// It ends or is not ready in time; the message holds what it wrote.
    pub fn start(host: &Host, uvs: &Path, config: &str) -> Result<Self> {
        let mut command = Command::new(uvs);
        command.arg0("uvs").args(["run", "--config", "/dev/stdin"]).stdin(Stdio::piped());
        Self::launch(host, command, Some(config))
    }

    /// As [`Director::start`], with a config file.
    ///
    /// # Errors
    /// As [`Director::start`].
    pub fn start_with_file(host: &Host, uvs: &Path, config: &Path) -> Result<Self> {
        let mut command = Command::new(uvs);
        command.arg0("uvs").args(["run", "--config"]).arg(config).stdin(Stdio::null());
        Self::launch(host, command, None)
    }

    fn launch(host: &Host, mut command: Command, config: Option<&str>) -> Result<Self> {
        // Hosts of a lab share their files, and directors run on several of them.
        let socket = free_socket();
        command.arg("--socket").arg(&socket);
        command.env("NO_COLOR", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = host.exec(command)?;
        if let Some(config) = config {
            // One that ends without reading it tells more than the broken pipe.
            if let Err(error) = process.feed(config) {
                thread::sleep(Duration::from_millis(100));
                process.check()?;
                return Err(error);
            }
        }
        let metrics = METRICS.parse().context("METRICS is an address")?;
        let mut director = Self { host: host.clone(), process, metrics, socket };
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(error) = director.get("/metrics") {
            director.process.check()?;
            if Instant::now() > deadline {
                let log = director.log();
                bail!("the director is not ready after {START_TIMEOUT:?} ({error:#}); it wrote:\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(director)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process, to signal it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    /// Its services, as `ipvsadm -Ln` prints them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn services(&self) -> Result<String> {
        self.get("/services")
    }

    /// Its connections, as `ipvsadm -Lnc` prints them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connections(&self) -> Result<String> {
        self.get("/connections")
    }

    /// Whether it says that it lives and serves, or that one service does; else why not.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ready(&self, service: Option<&str>) -> Result<(u16, String)> {
        let query = service.map(|service| format!("?service={service}")).unwrap_or_default();
        self.ask(&format!("/readyz{query}"))
    }

    /// Whether it says that it lives.
    ///
    /// # Errors
    /// It does not, or does not answer.
    pub fn alive(&self) -> Result<String> {
        self.get("/healthz")
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as SIGTERM does.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.process.terminate(Duration::from_secs(10))
    }

    /// One GET from the director's own host.
    fn get(&self, path: &str) -> Result<String> {
        let (status, body) = self.ask(path)?;
        ensure!(status == 200, "it answers {path} with {status}: {body}");
        Ok(body)
    }

    /// The same, whatever the status.
    fn ask(&self, path: &str) -> Result<(u16, String)> {
        self.host
            .run(|| {
                let mut stream = TcpStream::connect_timeout(&self.metrics, ASK_TIMEOUT)?;
                stream.set_read_timeout(Some(ASK_TIMEOUT))?;
                write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.metrics)?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                let (head, body) = text.split_once("\r\n\r\n").context("the answer is no HTTP")?;
                let status = head.lines().next().unwrap_or_default();
                let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
                let code = code.with_context(|| format!("it answers {status:?}"))?;
                let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
                    true => unchunked(body)?,
                    false => body.to_owned(),
                };
                anyhow::Ok((code, body))
            })?
            .with_context(|| format!("cannot get {path} of the director"))
    }
}

/// A body without the lengths of its chunks (RFC 9112, 7.1).
///
/// # Errors
/// It ends before its last chunk, which is empty, or a length is none.
fn unchunked(mut body: &str) -> Result<String> {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").context("the body ends in the middle")?;
        let length = length.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(length, 16)
            .with_context(|| format!("{length:?} is no length of a chunk"))?;
        if length == 0 {
            return Ok(whole);
        }
        let chunk = rest.get(..length).context("the body ends in the middle of a chunk")?;
        whole.push_str(chunk);
        body = rest[length..].strip_prefix("\r\n").context("a chunk is longer than it says")?;
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // One that is killed leaves its socket, and nobody comes after it to replace it.
        if self.process.terminate(STOP_TIMEOUT).is_err() || self.socket.exists() {
            let _ = fs::remove_file(&self.socket);
        }
    }
}

/// A path for a control socket that no other director of a lab has.
fn free_socket() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("uvs-lab-{}-{number}.sock", std::process::id()))
}

/// A running `uvs realserver`. Dropped, it ends.
#[derive(Debug)]
pub struct Decapsulator(Process);

impl Decapsulator {
    /// Starts it on a real server's host and waits until it is ready.
    ///
    /// # Errors
    /// It ends or is not ready in time; the message holds what it wrote.
    pub fn start(server: &RealServer, uvs: &Path) -> Result<Self> {
        Self::start_with(server, uvs, &[])
    }

    /// The same with more options.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(server: &RealServer, uvs: &Path, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(uvs);
        command
            .arg0("uvs")
            .env("NO_COLOR", "1")
            .args(["realserver", "--vip", &server.listen.ip().to_string(), "--bind"])
            .arg(server.address.to_string())
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = server.host.exec(command)?;
        process.wait_for_line(Self::READY, START_TIMEOUT)?;
        Ok(Self(process))
    }

    /// What `uvs realserver` says when it is ready.
    pub const READY: &str = "decapsulating";

    /// The process, to signal it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_a_body_and_half_of_one_is_refused() {
        assert_eq!(unchunked("3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\n\r\n").unwrap(), "abc0123456789");
        assert_eq!(unchunked("0\r\n\r\n").unwrap(), "");
        for cut in ["", "3\r\nab", "3\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n", "x\r\nabc\r\n0\r\n\r\n"] {
            assert!(unchunked(cut).is_err(), "{cut:?}");
        }
    }
}
