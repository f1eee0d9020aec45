//! The real servers: one listener for all their addresses, and one who notes when each was asked.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use uvs_lab::Host;
use uvs_wire::{Packet, tcp};

use super::stage::{ECHO_SERVER, PORT, number};

/// How long a server waits before it looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);
/// Bytes of memory for what came and was not noted yet.
const BACKLOG: usize = 64 << 20;

/// The servers. Dropped, they end.
pub(crate) struct Witness {
    /// A probe that only connects is never accepted: the director ends it as soon as the kernel has answered.
    _listener: Socket,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What they saw.
#[derive(Default)]
struct Seen {
    /// When each address was asked last.
    last: Vec<Option<Instant>>,
    /// From one probe of an address to the next.
    gaps: Vec<Duration>,
    /// How often.
    probes: u64,
}

impl Witness {
    /// Starts them.
    ///
    /// # Errors
    /// There are no sockets or no threads for them.
    pub(crate) fn start(host: &Host, destinations: u32) -> Result<Self> {
        let (listener, segments, echo) = host.run(|| -> Result<_> {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            listener.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
            // The standard library's 128 are too few for what comes while others have the processor.
            listener.listen(16_384)?;
            let segments = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
            Ok((listener, segments, UdpSocket::bind(ECHO_SERVER)?))
        })??;
        setsockopt(&segments, sockopt::RcvBufForce, &BACKLOG)?;
        segments.set_read_timeout(Some(GLANCE))?;
        echo.set_read_timeout(Some(GLANCE))?;
        let seen = Seen { last: vec![None; destinations as usize], ..Seen::default() };
        let (seen, stop) = (Arc::new(Mutex::new(seen)), Arc::new(AtomicBool::new(false)));
        let (noted, until) = (Arc::clone(&seen), Arc::clone(&stop));
        let notes = host.spawn(move || note(segments, &noted, &until))?;
        let until = Arc::clone(&stop);
        let echoes = host.spawn(move || answer(&echo, &until))?;
        Ok(Self { _listener: listener, seen, stop, threads: vec![notes, echoes] })
    }

    /// Forgets what was seen, so that nothing from before counts.
    pub(crate) fn forget(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last.fill(None);
        (seen.gaps, seen.probes) = (Vec::new(), 0);
    }

    /// The times from one probe of an address to the next, and how many probes there were.
    pub(crate) fn take(&self) -> (Vec<Duration>, u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = (std::mem::take(&mut seen.gaps), seen.probes);
        seen.probes = 0;
        taken
    }

    /// How many addresses were not asked since [`Self::forget`].
    pub(crate) fn not_asked(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last.iter().filter(|last| last.is_none()).count()
    }

    /// How long ago the address was asked that waits for longest.
    pub(crate) fn longest_wait(&self) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last.iter().flatten().map(Instant::elapsed).max().unwrap_or_default()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Notes each SYN that came to the listener's port.
fn note(mut segments: Socket, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut bytes = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = segments.read(&mut bytes) else { continue };
        let now = Instant::now();
        let Ok(packet) = Packet::parse(&bytes[..length]) else { continue };
        if packet.tcp_flags != tcp::SYN || packet.dst_port != PORT {
            continue;
        }
        let IpAddr::V4(asked) = IpAddr::from(packet.dst) else { continue };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { last, gaps, probes } = &mut *seen;
        let Some(last) = number(asked).and_then(|number| last.get_mut(number)) else { continue };
        *probes += 1;
        gaps.extend(last.replace(now).map(|before| now - before));
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut bytes = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            // An answer that cannot be sent is one that got lost.
            let _ = socket.send_to(&bytes[..length], from);
        }
    }
}

/// The value that a share of all does not exceed; of nothing, zero.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        let all: Vec<_> = (1..=1000).map(Duration::from_millis).collect();
        for (share, want) in [(0.0, 1), (0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            assert_eq!(quantile(&all, share), Duration::from_millis(want), "{share}");
        }
        assert_eq!(quantile(&[], 0.99), Duration::ZERO);
    }
}
