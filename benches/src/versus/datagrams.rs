//! UDP: datagrams of 64 bytes as fast as threads can send them, and those that arrive.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::args::Timing;
use super::bulk::{join, or_stop};
use super::contestant::Contestant;
use super::observe::{Span, observe};
use super::pattern::{self, MESSAGE};
use super::world::DISCARD;

/// Room for some 10 000 small datagrams, so that a receiver that is not scheduled for a moment loses none.
const RECEIVE_BUFFER: usize = 8 << 20;
/// When no datagram has come for so long, none is under way.
const SILENCE: Duration = Duration::from_millis(100);

/// Measures `senders` threads with `flows` sockets each. The span counts datagrams at the receiver, and those sent.
///
/// # Errors
/// The system refuses to send, or what arrives is not what was sent.
pub(crate) fn measure(contestant: &Contestant, senders: usize, flows: usize, timing: Timing) -> Result<Span> {
    let world = &contestant.world;
    // One socket for all real servers: how many threads the receiving side has must not depend on the method.
    let sink = world.servers.run(|| UdpSocket::bind(("0.0.0.0", DISCARD)))??;
    setsockopt(&sink, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("cannot enlarge a receive buffer")?;
    sink.set_read_timeout(Some(SILENCE))?;
    let target = world.target(DISCARD);
    let open = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(target)?;
        Ok(socket)
    };
    let sockets = world
        .client
        .run(|| (0..senders * flows).map(|_| open()).collect::<Result<Vec<_>, _>>())?
        .with_context(|| format!("there is no way to {target}"))?;
    let (stop, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
    let sent: Vec<AtomicU64> = (0..senders).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        let (stop, arrived, sink) = (&stop, &arrived, &sink);
        let receiver = scope.spawn(move || or_stop(stop, receive(sink, arrived, stop)));
        let threads: Vec<_> = sockets
            .chunks(flows)
            .zip(&sent)
            .map(|(sockets, sent)| scope.spawn(move || or_stop(stop, send(sockets, sent, stop))))
            .collect();
        let total = || sent.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        let span = observe(contestant, timing, stop, || (arrived.load(Ordering::Relaxed), total()));
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(join).collect::<Result<Vec<()>>>()?;
        join(receiver)?;
        let (sent, arrived) = (total(), arrived.load(Ordering::Relaxed));
        ensure!(arrived <= sent, "{sent} datagrams were sent and {arrived} arrived: some came twice");
        ensure!(arrived > 0, "of {sent} datagrams none arrived");
        span
    })
}

fn send(sockets: &[UdpSocket], sent: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    for number in 0.. {
        for (flow, socket) in (0..).zip(sockets) {
            match socket.send(&pattern::message(flow, number)) {
                Ok(_) => {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                // A full queue on the way out: as good as lost.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(error).context("cannot send datagrams"),
            }
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

fn receive(sink: &UdpSocket, arrived: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    // A byte more than fits tells a message that is too long.
    let mut buffer = [0; MESSAGE + 1];
    loop {
        match sink.recv(&mut buffer) {
            Ok(length) => {
                let message = buffer.get(..length).unwrap_or_default();
                ensure!(
                    pattern::identify(message).is_some(),
                    "a datagram arrives that nobody sent: {message:02x?}"
                );
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot receive datagrams"),
        }
    }
}
