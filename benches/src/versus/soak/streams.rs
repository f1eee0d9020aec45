//! TCP streams both ways, every byte compared.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

use crate::versus::bulk::{self, join, or_stop};
use crate::versus::pattern::{self, CHUNK};
use crate::versus::verify::matched;
use crate::versus::world::{COMPARE, World};

/// Connections, each with a stream in either direction.
const CONNECTIONS: usize = 4;
/// Streams begin so many bytes apart in the pattern, so that one is not taken for another.
const APART: u64 = 7919;

/// What came through.
pub(super) struct Total {
    pub(super) bytes: u64,
    pub(super) count: usize,
}

/// Opens the connections. Both ends of each.
pub(super) fn open(world: &World) -> Result<Vec<(TcpStream, TcpStream)>> {
    matched(bulk::connect(world, COMPARE, CONNECTIONS)?)
}

/// Sends and compares until `stop`, and to the last byte.
pub(super) fn run(pairs: &[(TcpStream, TcpStream)], stop: &AtomicBool) -> Result<Total> {
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, (client, server)) in (1_u64..).zip(pairs) {
            for (from, to, seed) in [(client, server, 2 * number), (server, client, 2 * number + 1)] {
                let start = seed * APART;
                let sender = scope.spawn(move || or_stop(stop, send(from, start, stop)));
                let receiver = scope.spawn(move || or_stop(stop, compare(to, start)));
                threads.push((sender, receiver));
            }
        }
        let count = threads.len();
        let (mut bytes, mut failures) = (0, Vec::new());
        for (sender, receiver) in threads {
            match (join(sender), join(receiver)) {
                (Ok(sent), Ok(received)) if sent == received => bytes += received,
                (Ok(sent), Ok(received)) => {
                    failures.push(format!("{sent} bytes of a stream were sent and {received} arrived"));
                }
                (sent, received) => {
                    failures.extend(
                        [sent, received].into_iter().filter_map(|it| Some(format!("{:#}", it.err()?))),
                    );
                }
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join(", "));
        Ok(Total { bytes, count })
    })
}

fn send(mut stream: &TcpStream, start: u64, stop: &AtomicBool) -> Result<u64> {
    let mut position = 0;
    while !stop.load(Ordering::Relaxed) {
        let written = stream
            .write(pattern::bulk(start + position))
            .with_context(|| format!("cannot send after {position} bytes"))?;
        position += written as u64;
    }
    stream.shutdown(Shutdown::Write).context("cannot end a stream")?;
    Ok(position)
}

fn compare(mut stream: &TcpStream, start: u64) -> Result<u64> {
    let (mut buffer, mut position) = (vec![0; CHUNK], 0);
    loop {
        let length =
            stream.read(&mut buffer).with_context(|| format!("nothing arrives after {position} bytes"))?;
        let part = buffer.get(..length).unwrap_or_default();
        if part.is_empty() {
            return Ok(position);
        }
        if let Some(at) = pattern::difference(start + position, part) {
            bail!("byte {} of a stream is wrong", position + at);
        }
        position += length as u64;
    }
}
