//! Before anything is measured: does every byte arrive as it was sent, and do all real servers get their share?

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::args::Load;
use super::bulk::{self, join};
use super::contestant::Contestant;
use super::pattern::{Bytes, CHUNK};
use super::world::{COMPARE, ECHO, RIPS, World};

/// Connections that carry data at once.
const STREAMS: usize = 6;
/// Bytes in each direction of each of them, odd so that the last segment is, too.
const LENGTH: u64 = (2 << 20) + 12_345;
/// Payloads of UDP datagrams, to the largest that an MTU of 1500 lets through without fragments.
const SIZES: [usize; 6] = [1, 2, 63, 64, 1000, 1472];
/// The largest through a tunnel: 20 bytes less.
const TUNNELLED: usize = 1452;
/// How long a datagram's answer may take before the next one is asked for.
const ANSWER: Duration = Duration::from_secs(5);

/// Compares every byte of some streams in both directions, and of datagrams.
///
/// # Errors
/// Something is lost, or not what was sent, or a real server gets nothing.
pub(crate) fn verify(contestant: &Contestant) -> Result<()> {
    let pairs = matched(bulk::connect(&contestant.world, COMPARE, STREAMS)?)?;
    let served: BTreeSet<_> =
        pairs.iter().filter_map(|(_, server)| server.local_addr().ok()).map(|it| it.ip()).collect();
    if contestant.spreads_addresses() {
        ensure!(
            served.len() == RIPS.len(),
            "of {STREAMS} connections none reaches some real servers: {served:?}"
        );
    }
    streams(&pairs, contestant.lets_both_ends_end()).context("TCP")?;
    let udp = Load::Datagrams { senders: 1, flows: 1 };
    if contestant.carries(udp) {
        datagrams(contestant).context("UDP")?;
    }
    Ok(())
}

/// Sends through all of them at once, in both directions. Each end is ended as soon as all is sent, whatever comes the
/// other way; or, where a contestant cannot have that, one after the other, once all has arrived.
fn streams(pairs: &[(TcpStream, TcpStream)], at_once: bool) -> Result<()> {
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (seed, (client, server)) in (1..).step_by(2).zip(pairs) {
            for (stream, sent, expected) in [(client, seed, seed + 1), (server, seed + 1, seed)] {
                threads.push(scope.spawn(move || {
                    write(stream, sent)?;
                    if at_once { end(stream) } else { Ok(()) }
                }));
                threads.push(scope.spawn(move || {
                    compare(stream, expected)?;
                    if at_once { is_over(stream) } else { Ok(()) }
                }));
            }
        }
        threads.into_iter().map(join).collect::<Result<Vec<()>>>()
    })?;
    if !at_once {
        for (client, server) in pairs {
            end(client)?;
            is_over(server)?;
            end(server)?;
            is_over(client)?;
        }
    }
    Ok(())
}

/// Finds out which ends belong together: clients say their number.
pub(super) fn matched(pairs: Vec<(TcpStream, TcpStream)>) -> Result<Vec<(TcpStream, TcpStream)>> {
    let (mut clients, mut unknown, mut servers) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (number, (mut client, server)) in (0_u8..).zip(pairs) {
        client.write_all(&[number]).context("cannot send the first byte")?;
        clients.push((number, client));
        unknown.push(server);
    }
    for mut server in unknown {
        let mut number = [0];
        server.read_exact(&mut number).context("the first byte does not come")?;
        servers.insert(number[0], server);
    }
    let mut matched = Vec::new();
    for (number, client) in clients {
        let server = servers.remove(&number).context("connections are mixed up")?;
        matched.push((client, server));
    }
    Ok(matched)
}

fn write(mut stream: &TcpStream, seed: u64) -> Result<()> {
    let (mut bytes, mut chunk, mut left) = (Bytes::new(seed), vec![0; CHUNK], LENGTH);
    while left > 0 {
        let part = part(&mut chunk, left);
        bytes.fill(part);
        stream.write_all(part).with_context(|| format!("cannot send with {left} of {LENGTH} bytes left"))?;
        left -= part.len() as u64;
    }
    Ok(())
}

fn end(stream: &TcpStream) -> Result<()> {
    stream.shutdown(Shutdown::Write).context("cannot end a stream")
}

fn is_over(mut stream: &TcpStream) -> Result<()> {
    let more = stream.read(&mut [0; CHUNK]).context("the end of a stream does not come")?;
    ensure!(more == 0, "{more} bytes come after the end of a stream");
    Ok(())
}

fn compare(mut stream: &TcpStream, seed: u64) -> Result<()> {
    let (mut bytes, mut got, mut want) = (Bytes::new(seed), vec![0; CHUNK], vec![0; CHUNK]);
    let mut position = 0;
    while position < LENGTH {
        let (got, want) = (part(&mut got, LENGTH - position), part(&mut want, LENGTH - position));
        stream
            .read_exact(got)
            .with_context(|| format!("what follows byte {position} of {LENGTH} does not come"))?;
        bytes.fill(want);
        if let Some(at) = got.iter().zip(want.iter()).position(|(got, want)| got != want) {
            bail!("byte {} of {LENGTH} is wrong", position + at as u64);
        }
        position += got.len() as u64;
    }
    Ok(())
}

/// The first `left` bytes of a buffer, or all of it.
fn part(buffer: &mut [u8], left: u64) -> &mut [u8] {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    buffer.get_mut(..length).expect("not longer than it is")
}

fn datagrams(contestant: &Contestant) -> Result<()> {
    let world = &contestant.world;
    let stop = AtomicBool::new(false);
    let sockets =
        world.listen.iter().map(|&address| open_server(world, address)).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let stop = &stop;
        let threads: Vec<_> = sockets.iter().map(|socket| scope.spawn(move || echo(socket, stop))).collect();
        let asked = ask(contestant);
        stop.store(true, Ordering::Relaxed);
        let answered = threads.into_iter().map(join).collect::<Result<Vec<u64>>>()?;
        asked?;
        if contestant.spreads_addresses() {
            ensure!(answered.iter().all(|&count| count > 0), "a real server gets nothing: {answered:?}");
        }
        Ok(())
    })
}

pub(super) fn open_server(world: &World, address: Ipv4Addr) -> Result<UdpSocket> {
    // Bound to one address, a socket answers from that one.
    let socket = world.servers.run(|| UdpSocket::bind((address, ECHO)))??;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// Sends back what comes, complemented. How many datagrams came.
pub(super) fn echo(socket: &UdpSocket, stop: &AtomicBool) -> Result<u64> {
    let (mut buffer, mut count) = (vec![0; 2048], 0);
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let answer: Vec<u8> = buffer.iter().take(length).map(|byte| !byte).collect();
        socket.send_to(&answer, from).context("cannot answer")?;
        count += 1;
    }
    Ok(count)
}

fn ask(contestant: &Contestant) -> Result<()> {
    let world = &contestant.world;
    let target: SocketAddr = world.target(ECHO);
    let largest = if contestant.tunnels() { TUNNELLED } else { usize::MAX };
    for size in SIZES.map(|size| size.min(largest)) {
        for seed in 0..RIPS.len() as u64 {
            let socket = world.client.run(|| UdpSocket::bind("0.0.0.0:0"))??;
            // It takes answers from the target only.
            socket.connect(target)?;
            socket.set_read_timeout(Some(ANSWER))?;
            let mut request = vec![0; size];
            Bytes::new(seed).fill(&mut request);
            socket.send(&request).with_context(|| format!("cannot send {size} bytes"))?;
            let mut answer = vec![0; 2048];
            let length = socket.recv(&mut answer).with_context(|| format!("no answer to {size} bytes"))?;
            answer.truncate(length);
            let want: Vec<u8> = request.iter().map(|byte| !byte).collect();
            ensure!(answer == want, "a wrong answer to {size} bytes, of {length} bytes");
        }
    }
    Ok(())
}
