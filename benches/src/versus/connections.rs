//! Connections per second: connect, ask, get the answer, close; some at a time, on one thread.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use super::args::Timing;
use super::bulk::{join, or_stop};
use super::contestant::Contestant;
use super::echo;
use super::observe::{Begun, Span};
use super::pattern::{self, MESSAGE};
use super::world::{ECHO, World, in_host};

/// Connections under way at any time.
const IN_FLIGHT: usize = 32;
/// So long without one that is complete, and the path is dead. More than the first retransmission of a SYN takes.
const DEAD: Duration = Duration::from_secs(5);
/// Addresses and ports that may be taken in a row.
const TRIES: usize = 1000;

/// Measures connections one after the other. The span counts those that were complete.
///
/// # Errors
/// Connections fail, or an answer is wrong.
pub(crate) fn measure(contestant: &Contestant, timing: Timing) -> Result<Span> {
    let listener = echo::listen(&contestant.world)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop, listener) = (&stop, &listener);
        let server = scope.spawn(move || or_stop(stop, echo::serve(listener, stop)));
        let client = scope.spawn(move || {
            in_host(&contestant.world.client, || {
                let (client, span) = Client::new(&contestant.world)?.run(contestant, timing, stop)?;
                // A connection in a hundred thousand may meet an old one; more are the contestant's fault.
                ensure!(
                    client.failed * 1000 <= client.complete,
                    "{} of {} connections were reset",
                    client.failed,
                    client.failed + client.complete
                );
                Ok(span)
            })
        });
        let span = join(client);
        stop.store(true, Ordering::Relaxed);
        join(server)?;
        span
    })
}

/// How many connections were complete, none of which may fail. On a thread of the client, with [`echo::serve`] on
/// another.
///
/// # Errors
/// One failed, or an answer is wrong.
pub(crate) fn count(contestant: &Contestant, timing: Timing, stop: &AtomicBool) -> Result<u64> {
    let (client, _) = Client::new(&contestant.world)?.run(contestant, timing, stop)?;
    ensure!(
        client.failed == 0,
        "{} of {} connections failed",
        client.failed,
        client.complete + client.failed
    );
    Ok(client.complete)
}

/// A connection under way.
struct Attempt {
    socket: Socket,
    request: [u8; MESSAGE],
    asked: bool,
    answer: [u8; MESSAGE],
    length: usize,
}

/// What became of an attempt after an event.
enum Outcome {
    Pending,
    Complete,
}

struct Client<'w> {
    world: &'w World,
    target: SocketAddr,
    epoll: Epoll,
    attempts: Vec<Option<Attempt>>,
    opened: u64,
    complete: u64,
    failed: u64,
}

impl<'w> Client<'w> {
    fn new(world: &'w World) -> Result<Self> {
        Ok(Self {
            world,
            target: world.target(ECHO),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            attempts: (0..IN_FLIGHT).map(|_| None).collect(),
            opened: 0,
            complete: 0,
            failed: 0,
        })
    }

    fn run(mut self, contestant: &Contestant, timing: Timing, stop: &AtomicBool) -> Result<(Self, Span)> {
        for place in 0..self.attempts.len() {
            self.open(place)?;
        }
        let started = Instant::now();
        let mut last = (started, 0);
        let mut begun = None;
        let mut events = [EpollEvent::empty(); IN_FLIGHT];
        while !stop.load(Ordering::Relaxed) {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::from(50_u8)) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error).context("cannot wait for answers"),
            };
            for event in events.iter().take(ready) {
                self.step(event)?;
            }
            let now = Instant::now();
            if self.complete > last.1 {
                last = (now, self.complete);
            }
            ensure!(now - last.0 < DEAD, "no connection to {} completes for {DEAD:?}", self.target);
            if begun.is_none() && now - started >= timing.warm_up {
                begun = Some(Begun::now(contestant, self.complete, 0)?);
            }
            if now - started >= timing.warm_up + timing.window {
                break;
            }
        }
        let span = begun.context("it was stopped before it began")?.end(contestant, self.complete, 0)?;
        Ok((self, span))
    }

    fn step(&mut self, event: &EpollEvent) -> Result<()> {
        let place = usize::try_from(event.data()).expect("a token is a place");
        let slot = self.attempts.get_mut(place).expect("a token is a place");
        let Some(attempt) = slot else { return Ok(()) };
        match attempt.step() {
            Ok(Outcome::Pending) => return Ok(()),
            Ok(Outcome::Complete) => {
                let expected = pattern::answer(&attempt.request);
                if attempt.answer != *expected {
                    bail!("a wrong answer: {:02x?} instead of {expected:02x?}", attempt.answer);
                }
                self.complete += 1;
            }
            Err(_) => self.failed += 1,
        }
        // Closed: the client is the first to say FIN.
        *slot = None;
        self.open(place)
    }

    /// Begins the next connection. It need not be told twice what can be done: events are edges.
    fn open(&mut self, place: usize) -> Result<()> {
        let socket = self.connect()?;
        let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(&socket, EpollEvent::new(events, place as u64))?;
        self.opened += 1;
        let request = pattern::message(0, self.opened);
        let attempt = Attempt { socket, request, asked: false, answer: [0; MESSAGE], length: 0 };
        *self.attempts.get_mut(place).expect("a place in the list") = Some(attempt);
        Ok(())
    }

    fn connect(&self) -> Result<Socket> {
        for _ in 0..TRIES {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
            socket.set_reuse_address(true)?;
            let connected = socket
                .bind(&SocketAddr::from(self.world.next_source()).into())
                .and_then(|()| socket.connect(&self.target.into()));
            match connected {
                Ok(()) => return Ok(socket),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINPROGRESS) => return Ok(socket),
                    // That port is somebody's, or its last connection lingers.
                    Some(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL) => {}
                    _ => return Err(error).with_context(|| format!("cannot connect to {}", self.target)),
                },
            }
        }
        bail!("the client has no free port among {TRIES}: measure for a shorter time")
    }
}

impl Attempt {
    fn step(&mut self) -> std::io::Result<Outcome> {
        if !self.asked {
            match (&self.socket).write(&self.request) {
                // The first 64 bytes of a connection always fit.
                Ok(_) => self.asked = true,
                Err(error) if is_pending(&error) => return Ok(Outcome::Pending),
                Err(error) => return Err(error),
            }
        }
        while let Some(rest) = self.answer.get_mut(self.length..).filter(|rest| !rest.is_empty()) {
            match (&self.socket).read(rest) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.length += length,
                Err(error) if is_pending(&error) => return Ok(Outcome::Pending),
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Complete)
    }
}

/// Whether there is nothing to be done yet; a socket that is not connected yet says ENOTCONN.
fn is_pending(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}
