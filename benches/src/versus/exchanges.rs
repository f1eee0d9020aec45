//! Latency: 64 bytes there and 64 bytes back, on connections that stay.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::args::Timing;
use super::bulk::{PATIENCE, join, or_stop};
use super::contestant::Contestant;
use super::echo;
use super::observe::{Begun, Span};
use super::pattern::{self, MESSAGE};
use super::world::ECHO;

/// How long exchanges took.
#[derive(Debug)]
pub(crate) struct Latency {
    /// Half of the exchanges took less, in µs.
    pub(crate) p50: f64,
    /// 99 of 100 took less, in µs.
    pub(crate) p99: f64,
    /// The measurement; it counts exchanges.
    pub(crate) span: Span,
}

/// Measures exchanges on `connections` at once, each connection with one under way at any time.
///
/// # Errors
/// A connection fails, or an answer is wrong.
pub(crate) fn measure(contestant: &Contestant, connections: usize, timing: Timing) -> Result<Latency> {
    let listener = echo::listen(&contestant.world)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop, listener) = (&stop, &listener);
        let server = scope.spawn(move || or_stop(stop, echo::serve(listener, stop)));
        let measured =
            connect(contestant, connections).and_then(|mut streams| match streams.as_mut_slice() {
                [only] => one(contestant, only, timing),
                several => many(contestant, several, timing),
            });
        stop.store(true, Ordering::Relaxed);
        join(server)?;
        measured
    })
}

/// A connection, what was asked on it, and when.
struct Asked {
    stream: TcpStream,
    flow: u32,
    number: u64,
    at: Instant,
    answer: [u8; MESSAGE],
    length: usize,
}

fn connect(contestant: &Contestant, count: usize) -> Result<Vec<Asked>> {
    let target = contestant.world.target(ECHO);
    let connect = |flow| -> Result<Asked> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE)
            .with_context(|| format!("no connection to {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Asked { stream, flow, number: 0, at: Instant::now(), answer: [0; MESSAGE], length: 0 })
    };
    contestant.world.client.run(|| (0..).take(count).map(connect).collect())?
}

impl Asked {
    fn ask(&mut self) -> Result<()> {
        self.number += 1;
        self.length = 0;
        self.at = Instant::now();
        self.stream.write_all(&pattern::message(self.flow, self.number)).context("cannot send a request")
    }

    /// Reads what is there; the time since the request when the answer is whole.
    fn hear(&mut self) -> Result<Option<u64>> {
        let rest = self.answer.get_mut(self.length..).expect("an answer is not longer than its buffer");
        match self.stream.read(rest) {
            Ok(0) => anyhow::bail!("a connection ends before its answer"),
            Ok(length) => self.length += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error).context("no answer"),
        }
        if self.length < MESSAGE {
            return Ok(None);
        }
        let took = self.at.elapsed();
        let expected = pattern::answer(&pattern::message(self.flow, self.number));
        ensure!(self.answer == *expected, "a wrong answer: {:02x?} instead of {expected:02x?}", self.answer);
        Ok(Some(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Samples, once it is warm.
struct Record {
    started: Instant,
    timing: Timing,
    begun: Option<Begun>,
    nanoseconds: Vec<u64>,
}

impl Record {
    fn new(timing: Timing) -> Self {
        Self { started: Instant::now(), timing, begun: None, nanoseconds: Vec::new() }
    }

    /// Takes a sample. Whether more are wanted.
    fn take(&mut self, contestant: &Contestant, nanoseconds: u64) -> Result<bool> {
        let elapsed = self.started.elapsed();
        if self.begun.is_some() {
            self.nanoseconds.push(nanoseconds);
        } else if elapsed >= self.timing.warm_up {
            self.begun = Some(Begun::now(contestant, 0, 0)?);
        }
        Ok(elapsed < self.timing.warm_up + self.timing.window)
    }

    fn finish(mut self, contestant: &Contestant) -> Result<Latency> {
        let begun = self.begun.context("it ended before it began")?;
        let span = begun.end(contestant, self.nanoseconds.len() as u64, 0)?;
        self.nanoseconds.sort_unstable();
        let percentile = |percent: usize| {
            let place = self.nanoseconds.len() * percent / 100;
            self.nanoseconds.get(place).map(|&nanoseconds| nanoseconds as f64 / 1000.0)
        };
        let (p50, p99) = percentile(50).zip(percentile(99)).context("no answer while it was measured")?;
        Ok(Latency { p50, p99, span })
    }
}

fn one(contestant: &Contestant, asked: &mut Asked, timing: Timing) -> Result<Latency> {
    let mut record = Record::new(timing);
    loop {
        asked.ask()?;
        let took = loop {
            if let Some(took) = asked.hear()? {
                break took;
            }
        };
        if !record.take(contestant, took)? {
            return record.finish(contestant);
        }
    }
}

fn many(contestant: &Contestant, connections: &mut [Asked], timing: Timing) -> Result<Latency> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut record = Record::new(timing);
    for (place, asked) in (0..).zip(connections.iter_mut()) {
        epoll.add(&asked.stream, EpollEvent::new(EpollFlags::EPOLLIN, place))?;
        asked.ask()?;
    }
    let mut events = [EpollEvent::empty(); 64];
    let patience = EpollTimeout::try_from(PATIENCE).context("a timeout in milliseconds")?;
    loop {
        let ready = match epoll.wait(&mut events, patience) {
            Ok(0) => anyhow::bail!("no answer on any connection for {PATIENCE:?}"),
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("cannot wait for answers"),
        };
        let mut goes_on = true;
        for event in events.iter().take(ready) {
            let place = usize::try_from(event.data()).expect("a token is a place");
            let asked = connections.get_mut(place).expect("a token is a place");
            if let Some(took) = asked.hear()? {
                goes_on &= record.take(contestant, took)?;
                asked.ask()?;
            }
        }
        if !goes_on {
            return record.finish(contestant);
        }
    }
}
