//! The way through userspace: raw sockets that get tunnelled packets, and the loop that unpacks them into the TUN
//! device.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use uvs_device::{Poller, Queue, StopHandle};
use uvs_director::Frame;

use super::inner::{self, Drop, behind_ipv4, left_to_the_receiver};

/// Packets taken from a socket before the others and signals are looked at again.
const BUDGET: usize = 256;
/// How often it is looked whether device and VIPs are there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes that may wait in a socket; the kernel drops, and counts, what comes beyond.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Protocol numbers of IPv4 and of IPv6 in a packet (RFC 2003, RFC 2473).
const IPV4_INSIDE: i32 = 4;
const IPV6_INSIDE: i32 = 41;

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) decapsulated: u64,
    pub(super) not_for_vip: u64,
    pub(super) malformed: u64,
    pub(super) congested: u64,
    pub(super) device_refused: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} decapsulated; dropped: {} not for a VIP, {} malformed, {} congested, {} refused by the device",
            self.decapsulated, self.not_for_vip, self.malformed, self.congested, self.device_refused
        )
    }
}

/// A raw socket that gets the packets of one kind of tunnel.
pub(super) struct Tunnel {
    socket: Socket,
    outer: Outer,
    /// Takes every packet and keeps none. To a packet that no raw socket takes, because the only one is full, the
    /// kernel answers "protocol unreachable", and clients would give up where a lost packet is all they should notice.
    _taker: Socket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outer {
    Ipv4,
    Ipv6,
}

/// Opens what gets all tunnelled packets to `rips` (none: to any address) that may carry one to `vips`.
///
/// # Errors
/// CAP_NET_RAW is missing, or a RIP is no address of this host.
pub(super) fn open(rips: &[IpAddr], vips: &[IpAddr]) -> Result<Vec<Tunnel>> {
    let mut tunnels = Vec::new();
    let any = [None];
    let bound: Vec<_> = rips.iter().copied().map(Some).collect();
    for (outer, domain) in [(Outer::Ipv4, Domain::IPV4), (Outer::Ipv6, Domain::IPV6)] {
        for rip in if rips.is_empty() { &any } else { bound.as_slice() } {
            if rip.is_some_and(|rip| rip.is_ipv6() != (outer == Outer::Ipv6)) {
                continue;
            }
            for (inside, wanted) in [
                (IPV4_INSIDE, vips.iter().any(IpAddr::is_ipv4)),
                (IPV6_INSIDE, vips.iter().any(IpAddr::is_ipv6)),
            ] {
                if !wanted {
                    continue;
                }
                match open_socket(domain, inside, *rip) {
                    Ok(socket) => {
                        let taker = open_socket(domain, inside, *rip)?;
                        /// The BPF instruction `ret #k`: with 0, nothing is kept.
                        const RETURN: u16 = 0x06;
                        let nothing = [SockFilter::new(RETURN, 0, 0, 0)];
                        taker.attach_filter(&nothing).context("cannot attach a filter to a socket")?;
                        tunnels.push(Tunnel { socket, outer, _taker: taker });
                    }
                    // A kernel without IPv6 has no tunnels in it.
                    Err(error) if rip.is_none() && outer == Outer::Ipv6 && without_family(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(tunnels)
}

fn without_family(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    cause == Some(Errno::EAFNOSUPPORT as i32)
}

fn open_socket(domain: Domain, inside: i32, rip: Option<IpAddr>) -> Result<Socket> {
    let socket =
        Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(inside))).map_err(|error| {
            let fix = match error.raw_os_error() {
                Some(1 | 13) => {
                    "\n  fix: run as root or with CAP_NET_RAW (in a container: --cap-add NET_RAW)"
                }
                _ => "",
            };
            let text = format!("cannot open a raw socket for IP in IP: {error}{fix}");
            anyhow::Error::new(error).context(text)
        })?;
    // The system's limit may be lower; then its value is used.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if domain == Domain::IPV6 {
        // Of the outer header the kernel hands out what is asked for.
        socket.set_recv_tclass_v6(true).context("cannot ask for traffic classes")?;
    }
    if let Some(rip) = rip {
        socket
            .bind(&SockAddr::from(SocketAddr::new(rip, 0)))
            .with_context(|| format!("--bind {rip}: is it an address of this host?"))?;
    }
    Ok(socket)
}

impl Tunnel {
    /// The next packet in `buffer`, and its traffic class if the outer header is not in front of it.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, u8)> {
        let mut class = 0;
        let mut space = nix::cmsg_space!(i32);
        let mut parts = [IoSliceMut::new(buffer)];
        let space = (self.outer == Outer::Ipv6).then_some(space.as_mut_slice());
        let received =
            recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut parts, space, MsgFlags::MSG_DONTWAIT)?;
        if self.outer == Outer::Ipv6 {
            for message in received.cmsgs()? {
                if let ControlMessageOwned::Ipv6TClass(value) = message {
                    class = u8::try_from(value).unwrap_or_default();
                }
            }
        }
        Ok((received.bytes, class))
    }
}

/// Unpacks until a signal comes. Once a second `look` sees that what it needs is there.
///
/// # Errors
/// A socket fails for good, or something is not there any more.
pub(super) fn pump(
    tunnels: &[Tunnel],
    signals: &SignalFd,
    queue: &Queue,
    vips: &[IpAddr],
    look: impl Fn() -> Result<()>,
) -> Result<Counters> {
    // Signals come as readable events, so the handle is never pulled.
    let stop = StopHandle::new()?;
    let sources: Vec<BorrowedFd<'_>> =
        tunnels.iter().map(|tunnel| tunnel.socket.as_fd()).chain([signals.as_fd()]).collect();
    let mut poller = Poller::new(sources, &stop)?;
    let mut counters = Counters::default();
    let mut packet = vec![0; 65_536];
    let mut frame = Frame::new();
    let mut looked = Instant::now();
    loop {
        poller.wait(Some(LOOK_EVERY))?;
        if looked.elapsed() >= LOOK_EVERY {
            look()?;
            looked = Instant::now();
        }
        if signals.read_signal().context("cannot read signals")?.is_some() {
            return Ok(counters);
        }
        for tunnel in tunnels {
            for _ in 0..BUDGET {
                let (length, class) = match tunnel.receive(&mut packet) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error).context("cannot receive tunnelled packets"),
                };
                let received = packet.get_mut(..length).unwrap_or_default();
                let unpacked = match tunnel.outer {
                    Outer::Ipv4 => behind_ipv4(received),
                    Outer::Ipv6 => Ok((received, class)),
                };
                match unpacked.and_then(|(bytes, congestion)| inner::unpack(bytes, congestion, vips)) {
                    Ok(inner) => {
                        frame.fill(inner);
                        frame.offload = left_to_the_receiver(inner);
                        match queue.send(&frame) {
                            Ok(_) => counters.decapsulated += 1,
                            Err(error) => {
                                tracing::debug!(%error, "the device refuses a packet");
                                counters.device_refused += 1;
                            }
                        }
                    }
                    Err(Drop::NotForVip) => counters.not_for_vip += 1,
                    Err(Drop::Malformed) => counters.malformed += 1,
                    Err(Drop::Congested) => counters.congested += 1,
                }
            }
        }
    }
}
