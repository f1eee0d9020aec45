//! Servers and clients that check every byte: streams both ways at once, echoes, datagrams.
//!
//! ```text
//!   client                               server
//!   what (1), seed (8), length (8)  -->
//!                                   <--  "rs1 10.0.0.2:40000\n"     who answers, and whom it sees
//!   ECHO:    bytes                 <-->  the same bytes
//!   STREAM:  bytes of seed          -->  compared
//!            compared              <--   bytes of seed + 1          at the same time
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, poll};
use uvs_lab::Host;

/// How long a peer waits for the other to go on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// Enough to notice a stop soon.
const GLANCE_MS: u8 = 50;
const CHUNK: usize = 64 << 10;
const DATAGRAM_MAX: usize = 65_536;

const ECHO: u8 = 1;
const STREAM: u8 = 2;

/// A real server's TCP and UDP server. Dropped, it stops.
pub(crate) struct Peer {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

/// What a server has seen.
#[derive(Default)]
struct Seen {
    clients: Mutex<Vec<SocketAddr>>,
    datagrams: Mutex<Vec<SocketAddr>>,
    streams: Mutex<Vec<Result<(), String>>>,
}

impl Peer {
    pub(crate) fn start(host: &Host, address: SocketAddr) -> Self {
        let name = host.name().to_owned();
        let (listener, socket) =
            host.run(|| (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap())).unwrap();
        listener.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (seen, stop) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
        let worker = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            thread::spawn(move || serve(&name, &listener, &socket, &seen, &stop))
        };
        Self { seen, stop, worker: Some(worker) }
    }

    /// Whom it saw at the other end of its TCP connections.
    pub(crate) fn clients(&self) -> Vec<SocketAddr> {
        self.seen.clients.lock().unwrap().clone()
    }

    /// Whom it saw as the sender of each datagram.
    pub(crate) fn datagrams(&self) -> Vec<SocketAddr> {
        self.seen.datagrams.lock().unwrap().clone()
    }

    /// How each stream ended that it took part in.
    pub(crate) fn streams(&self) -> Vec<Result<(), String>> {
        self.seen.streams.lock().unwrap().clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

fn serve(name: &str, listener: &TcpListener, socket: &UdpSocket, seen: &Arc<Seen>, stop: &AtomicBool) {
    let mut datagram = vec![0; DATAGRAM_MAX];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted by a signal is as good as nothing to do.
        let _ = poll(&mut ready, GLANCE_MS);
        while let Ok((stream, client)) = listener.accept() {
            seen.clients.lock().unwrap().push(client);
            let (name, seen) = (name.to_owned(), Arc::clone(seen));
            thread::spawn(move || answer(&name, stream, client, &seen));
        }
        while let Ok((length, client)) = socket.recv_from(&mut datagram) {
            seen.datagrams.lock().unwrap().push(client);
            let reply: Vec<u8> = datagram[..length].iter().map(|byte| !byte).collect();
            // As on any UDP server, an answer that cannot be sent is an answer that got lost.
            let _ = socket.send_to(&reply, client);
        }
    }
}

/// Serves one connection. Nobody is told of a client that goes away but who asks for [`Peer::streams`].
fn answer(name: &str, mut stream: TcpStream, client: SocketAddr, seen: &Seen) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut header = [0; 17];
    stream.read_exact(&mut header)?;
    let word = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let (what, seed, length) = (header[0], word(1), word(9));
    stream.write_all(format!("{name} {client}\n").as_bytes())?;
    match what {
        STREAM => {
            let outcome = exchange(&stream, seed.wrapping_add(1), seed, length, || ());
            seen.streams.lock().unwrap().push(outcome.map_err(|error| format!("{error:#}")));
        }
        _ => {
            stream.set_read_timeout(None)?;
            let mut bytes = [0; 4096];
            loop {
                match stream.read(&mut bytes)? {
                    0 => break,
                    length => stream.write_all(&bytes[..length])?,
                }
            }
        }
    }
    Ok(())
}

/// A client's open connection that is echoed.
#[derive(Debug)]
pub(crate) struct Talk {
    stream: TcpStream,
    /// The name of the real server.
    pub(crate) server: String,
    /// The client's own address.
    pub(crate) client: SocketAddr,
}

impl Talk {
    /// Opens a connection from the calling thread's namespace, and makes sure that the server sees this client.
    pub(crate) fn open(service: SocketAddr) -> Result<Self> {
        let (stream, server) = connect(service, ECHO, 0, 0)?;
        Ok(Self { client: stream.local_addr()?, stream, server })
    }

    /// Has `bytes` echoed.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(bytes)?;
        self.hear(bytes, PATIENCE)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).with_context(|| format!("{} cannot send", self.client))
    }

    /// Expects `bytes` within `patience`. An error keeps its `io::Error`.
    pub(crate) fn hear(&mut self, bytes: &[u8], patience: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut heard = vec![0; bytes.len()];
        self.stream.read_exact(&mut heard).with_context(|| format!("{} heard no echo", self.client))?;
        ensure!(heard == bytes, "{} heard {heard:?} instead of {bytes:?}", self.client);
        Ok(())
    }
}

/// The kind of the I/O error that `error` comes from.
pub(crate) fn kind_of(error: &anyhow::Error) -> Option<ErrorKind> {
    error.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Sends `length` bytes both ways at once from the calling thread's namespace, and compares what comes. `halfway`
/// is called when half of them have been sent. Returns the client's address.
pub(crate) fn stream_both_ways(
    service: SocketAddr,
    seed: u64,
    length: u64,
    halfway: impl FnOnce() + Send,
) -> Result<SocketAddr> {
    let (stream, _) = connect(service, STREAM, seed, length)?;
    exchange(&stream, seed, seed.wrapping_add(1), length, halfway)?;
    Ok(stream.local_addr()?)
}

fn connect(service: SocketAddr, what: u8, seed: u64, length: u64) -> Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&service, PATIENCE)
        .with_context(|| format!("no connection to {service}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let client = stream.local_addr()?;
    let header = [&[what][..], &seed.to_be_bytes(), &length.to_be_bytes()].concat();
    stream.write_all(&header).with_context(|| format!("{client} cannot send to {service}"))?;
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"\n") {
        let mut byte = [0];
        let read = stream.read(&mut byte).with_context(|| format!("{client} is not greeted"))?;
        ensure!(read == 1, "{client} is not greeted: the connection ends");
        greeting.push(byte[0]);
    }
    let greeting = String::from_utf8(greeting)?;
    let (server, seen) = greeting.trim_end().split_once(' ').context("a greeting has two words")?;
    ensure!(seen == client.to_string(), "{server} sees {seen} instead of {client}");
    Ok((stream, server.to_owned()))
}

/// Sends the bytes of one seed and compares what comes with those of another, at the same time, to the end.
fn exchange(
    stream: &TcpStream,
    sent: u64,
    expected: u64,
    length: u64,
    halfway: impl FnOnce() + Send,
) -> Result<()> {
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            let (mut bytes, mut left, mut halfway) = (Bytes(sent), length, Some(halfway));
            let mut chunk = vec![0; CHUNK];
            while left > 0 {
                if left <= length / 2
                    && let Some(halfway) = halfway.take()
                {
                    halfway();
                }
                let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                bytes.fill(&mut chunk[..size]);
                (&*stream)
                    .write_all(&chunk[..size])
                    .with_context(|| format!("cannot send with {left} of {length} bytes left"))?;
                left -= size as u64;
            }
            stream.shutdown(Shutdown::Write)?;
            Ok(())
        });
        let read = compare(stream, expected, length);
        if read.is_err() {
            // The writer may wait for somebody who does not read any more.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.and(written)
    })
}

fn compare(mut stream: &TcpStream, seed: u64, length: u64) -> Result<()> {
    let (mut bytes, mut position) = (Bytes(seed), 0);
    let (mut heard, mut want) = (vec![0; CHUNK], vec![0; CHUNK]);
    // Word by word, so that what is compared falls on the words of the generator.
    while position < length {
        let size = usize::try_from(length - position).unwrap_or(CHUNK).min(CHUNK);
        stream.read_exact(&mut heard[..size]).with_context(|| {
            format!("byte {position} to {} of {length} did not come", position + size as u64)
        })?;
        bytes.fill(&mut want[..size]);
        if let Some(at) = (0..size).find(|&at| heard[at] != want[at]) {
            bail!("byte {} of {length} is {:#x} instead of {:#x}", position + at as u64, heard[at], want[at]);
        }
        position += size as u64;
    }
    let more = stream.read(&mut heard).context("the end of the stream did not come")?;
    ensure!(more == 0, "{more} bytes came after the {length} of the stream");
    Ok(())
}

/// Bytes that no two seeds, and no two places in a stream, have in common (xorshift64*).
struct Bytes(u64);

impl Bytes {
    fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_mut(8) {
            // 0 would stay 0.
            let mut x = self.0 | 1 << 63;
            x ^= x >> 12;
            x ^= x << 25;
            x ^= x >> 27;
            self.0 = x;
            let bytes = x.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }
}

/// Sends a datagram of `size` bytes from a new socket in the calling thread's namespace and checks the answer.
pub(crate) fn ask_datagram(service: SocketAddr, size: usize) -> Result<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // Connected, it takes answers from the service only, and hears of ICMP errors.
    socket.connect(service)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = vec![0; size];
    Bytes(size as u64).fill(&mut request);
    socket.send(&request).with_context(|| format!("cannot send {size} bytes to {service}"))?;
    let mut reply = vec![0; DATAGRAM_MAX];
    let length = socket.recv(&mut reply).with_context(|| format!("no answer to {size} bytes"))?;
    let want: Vec<u8> = request.iter().map(|byte| !byte).collect();
    ensure!(reply[..length] == want, "a wrong answer to {size} bytes: {length} bytes");
    Ok(socket.local_addr()?)
}
