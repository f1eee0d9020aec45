//! Servers for real servers to run, and clients that ask them: HTTP and UDP on the kernel's own TCP/IP.
//!
//! An answer says who gives it, which client address it saw, and what was asked for. [`ask_tcp`] and [`ask_udp`]
//! compare every byte of it, so an answer that was meant for somebody else, cut short or garbled is an error.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket,
};

use crate::host::Host;

/// How long a server waits for a client to go on.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest request a server reads.
const REQUEST_MAX: usize = 8192;

/// An HTTP server and a UDP server on one address, with a name. Dropped, it stops.
#[derive(Debug)]
pub struct Server {
    name: String,
    stop: Arc<EventFd>,
    served: Arc<Served>,
    worker: Option<JoinHandle<()>>,
}

/// What a server has answered.
#[derive(Debug, Default)]
struct Served {
    tcp: AtomicU64,
    udp: AtomicU64,
}

impl Server {
    /// Starts to answer on `address` of `host` under the host's name.
    ///
    /// # Errors
    /// The address is not the host's, or taken.
    pub fn start(host: &Host, address: SocketAddr) -> Result<Self> {
        let name = host.name().to_owned();
        let (listener, socket) = host
            .run(|| -> io::Result<_> { Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?)) })?
            .with_context(|| format!("cannot serve on {address} of {name}"))?;
        listener.set_nonblocking(true)?;
        socket.set_nonblocking(true)?;
        let stop = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?);
        let served = Arc::new(Served::default());
        let worker = {
            let (name, stop, served) = (name.clone(), Arc::clone(&stop), Arc::clone(&served));
            // Sockets stay in the namespace they were made in, so the thread need not be there.
            thread::Builder::new()
                .name(format!("{name}-serves"))
                .spawn(move || serve(&name, &listener, &socket, &stop, &served))?
        };
        Ok(Self { name, stop, served, worker: Some(worker) })
    }

    /// The name it answers with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Requests answered over TCP and over UDP.
    pub fn served(&self) -> (u64, u64) {
        (self.served.tcp.load(Ordering::Relaxed), self.served.udp.load(Ordering::Relaxed))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An eventfd refuses only at its limit, and there the worker has been told often enough.
        let _ = self.stop.write(1);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// What a server called `name` answers when `client` asks for `what`.
fn answer(name: &str, client: SocketAddr, what: &str) -> String {
    format!("{name} answers {client} who asked for {what}\n")
}

fn http_answer(name: &str, client: SocketAddr, path: &str) -> String {
    let body = answer(name, client, path);
    format!(
        "HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn serve(name: &str, listener: &TcpListener, socket: &UdpSocket, stop: &EventFd, served: &Arc<Served>) {
    loop {
        let mut ready = [
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut ready, PollTimeout::NONE).is_err() {
            // Interrupted by a signal.
            continue;
        }
        if ready.first().and_then(PollFd::any) == Some(true) {
            return;
        }
        while let Ok((stream, client)) = listener.accept() {
            let (name, served) = (name.to_owned(), Arc::clone(served));
            // A client that goes away is its own business.
            thread::spawn(move || serve_http(&name, stream, client, &served.tcp));
        }
        let mut datagram = [0; REQUEST_MAX];
        while let Ok((length, client)) = socket.recv_from(&mut datagram) {
            let what = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default());
            // Counted first: who has the answer may look at the count.
            served.udp.fetch_add(1, Ordering::Relaxed);
            // As on any UDP server, an answer that cannot be sent is an answer that got lost.
            let _ = socket.send_to(answer(name, client, &what).as_bytes(), client);
        }
    }
}

fn serve_http(name: &str, mut stream: TcpStream, client: SocketAddr, served: &AtomicU64) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if read == 0 || request.len() > REQUEST_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or("/");
    served.fetch_add(1, Ordering::Relaxed);
    stream.write_all(http_answer(name, client, path).as_bytes())
}

/// A right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name of the server that gave it.
    pub server: String,
    /// The client's own address, which the server has seen as well.
    pub client: SocketAddr,
}

/// Asks `service` for `path` over HTTP on a new TCP connection, from the calling thread's namespace.
///
/// # Errors
/// No connection, no answer within `timeout`, or not the right bytes.
pub fn ask_tcp(service: SocketAddr, path: &str, timeout: Duration) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&service, timeout)
        .with_context(|| format!("no TCP connection to {service}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let client = stream.local_addr()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {service}\r\nConnection: close\r\n\r\n")
        .with_context(|| format!("{client} cannot send to {service}"))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("{client} got no whole answer from {service}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let server = text
        .lines()
        .find_map(|line| line.strip_prefix("Server: "))
        .with_context(|| format!("{client} got an answer from {service} that names no server: {text:?}"))?;
    let want = http_answer(server, client, path);
    ensure!(text == want, "{client} got a wrong answer from {service}: {text:?} instead of {want:?}");
    Ok(Answer { server: server.to_owned(), client })
}

/// A UDP request under way. Kept until the end of a run, it also notices a second answer.
#[derive(Debug)]
pub struct UdpRequest {
    socket: UdpSocket,
    service: SocketAddr,
    what: String,
}

/// Sends `what` to `service` from a new UDP socket, in the calling thread's namespace.
///
/// # Errors
/// The system refuses to send.
pub fn ask_udp(service: SocketAddr, what: &str) -> Result<UdpRequest> {
    let any: SocketAddr = if service.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    // A connected socket knows its own address and takes answers from the service only.
    socket.connect(service).with_context(|| format!("there is no way to {service}"))?;
    socket.send(what.as_bytes()).with_context(|| format!("cannot send to {service}"))?;
    Ok(UdpRequest { socket, service, what: what.to_owned() })
}

impl UdpRequest {
    /// Waits for the answer.
    ///
    /// # Errors
    /// None within `timeout`, or not the right bytes.
    pub fn answer(&self, timeout: Duration) -> Result<Answer> {
        let (client, service) = (self.socket.local_addr()?, self.service);
        self.socket.set_read_timeout(Some(timeout))?;
        let mut datagram = [0; REQUEST_MAX];
        let length = self
            .socket
            .recv(&mut datagram)
            .with_context(|| format!("{client} got no answer from UDP {service}"))?;
        let text = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default());
        let server = text.split(' ').next().unwrap_or_default();
        let want = answer(server, client, &self.what);
        ensure!(text == want, "{client} got a wrong answer from UDP {service}: {text:?} instead of {want:?}");
        Ok(Answer { server: server.to_owned(), client })
    }

    /// Makes sure that nothing more has come.
    ///
    /// # Errors
    /// Something has.
    pub fn check_no_more(&self) -> Result<()> {
        self.socket.set_nonblocking(true)?;
        let mut datagram = [0; REQUEST_MAX];
        match self.socket.recv(&mut datagram) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("after its answer UDP {} refused", self.service))
            }
            Ok(length) => bail!(
                "{} got a second answer from UDP {}: {:?}",
                self.socket.local_addr()?,
                self.service,
                String::from_utf8_lossy(datagram.get(..length).unwrap_or_default())
            ),
        }
    }
}

/// Sends one ICMP echo request from the calling thread's namespace; whether `to` itself answers within `timeout`.
///
/// # Errors
/// CAP_NET_RAW is missing, or the system refuses to send (no route is not an error: nobody answers).
pub fn ping(to: Ipv4Addr, timeout: Duration) -> Result<bool> {
    const ECHO: [u8; 2] = [8, 0];
    const ECHO_REPLY: u8 = 0;
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)
        .context("cannot open a raw socket for ICMP")?;
    let id = (NEXT_PING.fetch_add(1, Ordering::Relaxed) & 0xffff).to_be_bytes();
    let mut request = [ECHO[0], ECHO[1], 0, 0, id[6], id[7], 0, 1, b'u', b'v', b's', b'!'];
    let sum =
        request.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    request[2..4].copy_from_slice(&(!sum).to_be_bytes()[2..]);
    match sendto(socket.as_raw_fd(), &request, &SockaddrIn::from(SocketAddrV4::new(to, 0)), MsgFlags::empty())
    {
        Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => return Ok(false),
        sent => sent.context("cannot send an ICMP echo request")?,
    };
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(_) => continue,
        }
        let mut packet = [0; 1500];
        let length =
            recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()).context("cannot receive ICMP")?;
        // A raw socket hands out the IP header as well, and everybody's ICMP.
        let packet = packet.get(..length).unwrap_or_default();
        let header = usize::from(packet.first().copied().unwrap_or_default() & 0xf) * 4;
        let from_there = packet.get(12..16) == Some(to.octets().as_slice());
        let reply = packet.get(header..).unwrap_or_default();
        if from_there && reply.first() == Some(&ECHO_REPLY) && reply.get(4..) == request.get(4..) {
            return Ok(true);
        }
    }
}

/// Tells one ping from another.
static NEXT_PING: AtomicU64 = AtomicU64::new(1);
