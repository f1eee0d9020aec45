//! Datagrams of all sizes there and back, every byte compared, so many on the way that no queue need overflow.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::versus::bulk::{join, or_stop};
use crate::versus::contestant::Contestant;
use crate::versus::pattern::Bytes;
use crate::versus::verify;
use crate::versus::world::ECHO;

/// Sockets, each with a thread.
const FLOWS: u32 = 4;
/// Datagrams of a socket that are on the way at any time.
const WINDOW: usize = 16;
/// Bytes at the front that say which datagram it is.
const HEAD: usize = 16;
/// The largest payload in a packet of 1500 bytes, and 20 less in a tunnel.
const LARGEST: usize = 1472;
const LARGEST_IN_TUNNEL: usize = 1452;
/// After so long without an answer a datagram is asked once more, and after so many times it is lost for good.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;

/// What came through.
#[derive(Default)]
pub(super) struct Total {
    pub(super) answered: u64,
    /// Those of them that had to be sent once more.
    pub(super) repeated: u64,
}

/// Asks until `stop`, and until all is answered.
pub(super) fn run(contestant: &Contestant, stop: &AtomicBool) -> Result<Total> {
    let world = &contestant.world;
    let largest = if contestant.tunnels() { LARGEST_IN_TUNNEL } else { LARGEST };
    let servers = world
        .listen
        .iter()
        .map(|&address| verify::open_server(world, address))
        .collect::<Result<Vec<_>>>()?;
    let (over, target) = (AtomicBool::new(false), world.target(ECHO));
    let clients = world.client.run(|| -> std::io::Result<Vec<UdpSocket>> {
        (0..FLOWS)
            .map(|_| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(target)?;
                socket.set_read_timeout(Some(Duration::from_millis(50)))?;
                Ok(socket)
            })
            .collect()
    })??;
    thread::scope(|scope| {
        let over = &over;
        let echoes: Vec<_> =
            servers.iter().map(|socket| scope.spawn(move || verify::echo(socket, over))).collect();
        let flows: Vec<_> = (0..)
            .zip(&clients)
            .map(|(flow, socket)| {
                scope.spawn(move || or_stop(stop, Flow::new(flow, largest, socket).run(stop)))
            })
            .collect();
        let totals = flows.into_iter().map(join).collect::<Result<Vec<Total>>>();
        over.store(true, Ordering::Relaxed);
        echoes.into_iter().map(join).collect::<Result<Vec<u64>>>()?;
        Ok(totals?.iter().fold(Total::default(), |sum, flow| Total {
            answered: sum.answered + flow.answered,
            repeated: sum.repeated + flow.repeated,
        }))
    })
}

/// One socket, and what it waits for.
struct Flow<'s> {
    flow: u32,
    largest: usize,
    socket: &'s UdpSocket,
    next: u64,
    waiting: HashMap<u64, Asked>,
    /// Of those that were asked twice, two answers may come.
    repeated: HashMap<u64, u32>,
    total: Total,
}

struct Asked {
    at: Instant,
    tries: u32,
}

impl<'s> Flow<'s> {
    fn new(flow: u32, largest: usize, socket: &'s UdpSocket) -> Self {
        let (waiting, repeated) = (HashMap::new(), HashMap::new());
        Self { flow, largest, socket, next: 0, waiting, repeated, total: Total::default() }
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Total> {
        let mut buffer = vec![0; 2048];
        let mut looked = Instant::now();
        loop {
            let stopped = stop.load(Ordering::Relaxed);
            if stopped && self.waiting.is_empty() {
                return Ok(self.total);
            }
            while !stopped && self.waiting.len() < WINDOW {
                let number = self.next;
                self.next += 1;
                self.waiting.insert(number, Asked { at: Instant::now(), tries: 1 });
                self.send(number)?;
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.take(buffer.get(..length).unwrap_or_default())?,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot receive datagrams"),
            }
            if looked.elapsed() > AGAIN / 4 {
                looked = Instant::now();
                self.repeat()?;
            }
        }
    }

    fn send(&self, number: u64) -> Result<()> {
        match self.socket.send(&self.datagram(number)) {
            Ok(_) => Ok(()),
            // A full queue on the way out; it is asked once more.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(()),
            Err(error) => Err(error).context("cannot send datagrams"),
        }
    }

    /// The bytes of a datagram, whose length depends on its number.
    fn datagram(&self, number: u64) -> Vec<u8> {
        let span = (self.largest - HEAD + 1) as u64;
        let more = usize::try_from(number.wrapping_mul(7919) % span).expect("less than a packet");
        let mut bytes = vec![0; HEAD + more];
        Bytes::new(u64::from(self.flow) << 48 | number).fill(&mut bytes);
        let head = [u64::from(self.flow).to_be_bytes(), number.to_be_bytes()].concat();
        for (to, from) in bytes.iter_mut().zip(head) {
            *to = from;
        }
        bytes
    }

    fn take(&mut self, answer: &[u8]) -> Result<()> {
        let request: Vec<u8> = answer.iter().map(|byte| !byte).collect();
        let number = request.get(8..HEAD).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let number = number.with_context(|| format!("an answer of {} bytes", answer.len()))?;
        ensure!(number < self.next, "an answer to nothing that was asked: {number}");
        ensure!(request == self.datagram(number), "a wrong answer to datagram {number}");
        if self.waiting.remove(&number).is_some() {
            self.total.answered += 1;
            return Ok(());
        }
        match self.repeated.get_mut(&number) {
            Some(left) if *left > 0 => *left -= 1,
            _ => bail!("datagram {number} was answered twice"),
        }
        Ok(())
    }

    /// Asks again what is not answered.
    fn repeat(&mut self) -> Result<()> {
        let late: Vec<u64> =
            self.waiting.iter().filter(|(_, asked)| asked.at.elapsed() > AGAIN).map(|(&it, _)| it).collect();
        for number in late {
            let asked = self.waiting.get_mut(&number).expect("it is waited for");
            ensure!(asked.tries < TRIES, "datagram {number} is not answered, asked {TRIES} times");
            if asked.tries == 1 {
                self.total.repeated += 1;
            }
            (asked.at, asked.tries) = (Instant::now(), asked.tries + 1);
            *self.repeated.entry(number).or_default() += 1;
            self.send(number)?;
        }
        Ok(())
    }
}
