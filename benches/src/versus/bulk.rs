//! Bulk TCP: threads that write, threads that read, and the bytes that arrive.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::args::Timing;
use super::contestant::Contestant;
use super::observe::{Span, observe};
use super::pattern::{self, CHUNK};
use super::world::{DISCARD, World};

/// How long anything may take on a path that is not dead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Measures `flows` streams from client to real servers. The span counts bytes at the receivers.
///
/// # Errors
/// A connection fails, or what arrives is not what was sent.
pub(crate) fn measure(contestant: &Contestant, flows: usize, timing: Timing) -> Result<Span> {
    let world = &contestant.world;
    let pairs = connect(world, DISCARD, flows)?;
    let (stop, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let (stop, arrived) = (&stop, &arrived);
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for (client, server) in &pairs {
            receivers.push(scope.spawn(|| or_stop(stop, receive(server, arrived))));
            senders.push(scope.spawn(|| or_stop(stop, send(client, stop))));
        }
        let span = observe(contestant, timing, stop, || (arrived.load(Ordering::Relaxed), 0));
        stop.store(true, Ordering::Relaxed);
        let sent = senders.into_iter().map(join).collect::<Result<Vec<u64>>>()?;
        let received = receivers.into_iter().map(join).collect::<Result<Vec<u64>>>()?;
        let (sent, received) = (sent.iter().sum::<u64>(), received.iter().sum::<u64>());
        ensure!(sent == received, "{sent} bytes were sent and {received} arrived");
        span
    })
}

/// Opens connections to a port of the service. Both ends of each, in no order.
///
/// # Errors
/// One is not established in time.
pub(crate) fn connect(world: &World, port: u16, count: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    let listener = world.servers.run(|| TcpListener::bind(("0.0.0.0", port)))??;
    listener.set_nonblocking(true)?;
    let target = world.target(port);
    let clients = world.client.run(|| {
        (0..count).map(|_| TcpStream::connect_timeout(&target, PATIENCE)).collect::<Result<Vec<_>, _>>()
    })?;
    let clients = clients.with_context(|| format!("no connection to {target}"))?;
    let deadline = Instant::now() + PATIENCE;
    let mut pairs = Vec::new();
    for client in clients {
        let server = loop {
            match listener.accept() {
                Ok((server, _)) => break server,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ensure!(Instant::now() < deadline, "a connection to {target} reaches no real server");
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error).context("cannot accept a connection"),
            }
        };
        server.set_nonblocking(false)?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
        }
        pairs.push((client, server));
    }
    Ok(pairs)
}

/// Passes on what a thread came to. One that failed has the others end.
pub(crate) fn or_stop<T>(stop: &AtomicBool, result: Result<T>) -> Result<T> {
    if result.is_err() {
        stop.store(true, Ordering::Relaxed);
    }
    result
}

/// Waits for a thread. A panic in it goes on here.
pub(crate) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn send(mut stream: &TcpStream, stop: &AtomicBool) -> Result<u64> {
    let mut position = 0;
    while !stop.load(Ordering::Relaxed) {
        let written = stream
            .write(pattern::bulk(position))
            .with_context(|| format!("cannot send after {position} bytes"))?;
        position += written as u64;
    }
    stream.shutdown(Shutdown::Write).context("cannot end a stream")?;
    Ok(position)
}

fn receive(mut stream: &TcpStream, arrived: &AtomicU64) -> Result<u64> {
    let (mut buffer, mut position) = (vec![0; CHUNK], 0);
    loop {
        let length =
            stream.read(&mut buffer).with_context(|| format!("nothing arrives after {position} bytes"))?;
        if length == 0 {
            return Ok(position);
        }
        if let Some(at) = pattern::sampled_difference(position, buffer.get(..length).unwrap_or_default()) {
            bail!("what arrives is not what was sent, within a KiB from byte {at}");
        }
        position += length as u64;
        arrived.fetch_add(length as u64, Ordering::Relaxed);
    }
}
