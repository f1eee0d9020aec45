//! One socket and the smoltcp stack around it.

use std::task::Waker;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{AnySocket, icmp, tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use uvs_director::local::{Binding, Failure, SocketSpec, Transport};
use uvs_director::{DropReason, Duration, Frame, Instant};

use crate::cable::{Cable, Unplugged};
use crate::error::Error;
use crate::link::Link;

/// No path takes less (RFC 791), nor does IPv6 (RFC 8200).
const SMALLEST_MTU: [u32; 2] = [68, 1280];
/// No packet is longer.
const LARGEST_MTU: u32 = 65_535;
/// Datagrams that wait to be received, of one socket.
const DATAGRAMS: usize = 8;

/// How many times as fast as ours smoltcp's clock goes. It repeats what was lost after a second at the earliest, the
/// SYN too, and cannot be told otherwise: a check with a shorter timeout would fail for one lost packet. So it is after
/// 200 ms, as Linux's shortest (`TCP_RTO_MIN`). Round trips are measured by the same clock, so those of longer ways
/// are still waited for.
const PACE: u64 = 5;

/// After TIME-WAIT, 10 seconds of its clock, smoltcp forgets a connection and what of it was not read. By then there is
/// nothing left to say, and the port is its owner's until he lets go of it.
const TIME_WAIT: Duration = Duration::from_millis(9000 / PACE);

/// What still wants to run after it ran gets its turn after this, so that nothing ever runs round and round.
const SOON: Duration = Duration::from_millis(1);

/// How much a socket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Bytes that came and were not read: the window that the peer is told of.
    pub receive: usize,
    /// Bytes that were written and are not acknowledged.
    pub send: usize,
}

impl Default for Buffers {
    /// Enough for what checks say.
    fn default() -> Self {
        Self { receive: 8192, send: 4096 }
    }
}

impl Buffers {
    /// Both together.
    pub const fn total(self) -> usize {
        self.receive + self.send
    }
}

/// See the head of this file.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// What the engine gave it.
    pub binding: Binding,
    remote: IpAddress,
    mtu: u32,
    /// When it wants to run next.
    pub(crate) due: Option<Instant>,
    pub(crate) buffers: Buffers,
    /// What was found out last about packets that do not arrive.
    failure: Option<Error>,
    /// It sends nothing any more.
    is_dead: bool,
    /// It acknowledges nothing: who answers its SYN is to get a reset.
    pub(crate) is_half_open: bool,
    /// When both sides had ended the connection.
    over_since: Option<Instant>,
    /// Who waits for a datagram: smoltcp wakes it when one comes, and we do when none will.
    waits: Option<Waker>,
}

/// The time by smoltcp's clock, see [`PACE`].
fn smol(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(now.as_nanos() / (1000 / PACE)).unwrap_or(i64::MAX))
}

fn ours(at: SmolInstant) -> Instant {
    Instant::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000 / PACE))
}

impl Stack {
    /// A stack around a socket that the engine knows; TCP begins its handshake with the next turn.
    pub(crate) fn new(
        spec: &SocketSpec,
        binding: Binding,
        buffers: Buffers,
        seed: u64,
        now: Instant,
    ) -> Self {
        let local = IpAddress::from(binding.addr);
        let mtu = longest(spec, binding);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = match spec.transport {
            Transport::Tcp => {
                let (receive, send) = (vec![0; buffers.receive], vec![0; buffers.send]);
                let mut socket =
                    tcp::Socket::new(tcp::SocketBuffer::new(receive), tcp::SocketBuffer::new(send));
                socket.set_nagle_enabled(false);
                sockets.add(socket)
            }
            Transport::Udp => {
                let buffer =
                    |len| udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; len]);
                let mut socket = udp::Socket::new(buffer(buffers.receive), buffer(buffers.send));
                let _ = socket.bind((local, binding.port));
                sockets.add(socket)
            }
            Transport::Echo => {
                let buffer =
                    |len| icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; len]);
                let mut socket = icmp::Socket::new(buffer(buffers.receive), buffer(buffers.send));
                let _ = socket.bind(icmp::Endpoint::Ident(binding.port));
                sockets.add(socket)
            }
        };
        let mut stack = Self {
            interface: interface(local, mtu, seed, now),
            sockets,
            handle,
            binding,
            remote: IpAddress::from(spec.remote),
            mtu,
            due: None,
            buffers,
            failure: None,
            is_dead: false,
            is_half_open: false,
            over_since: None,
            waits: None,
        };
        if spec.transport == Transport::Tcp {
            stack.connect(spec.remote_port);
        }
        stack
    }

    /// The same of a TCP socket that was closed, whose buffers serve again. All else is as new: a sequence number says
    /// nothing of the one before.
    pub(crate) fn renew(&mut self, spec: &SocketSpec, binding: Binding, seed: u64, now: Instant) {
        self.mtu = longest(spec, binding);
        self.interface = interface(IpAddress::from(binding.addr), self.mtu, seed, now);
        (self.binding, self.remote) = (binding, IpAddress::from(spec.remote));
        (self.due, self.failure, self.over_since, self.waits) = (None, None, None, None);
        (self.is_dead, self.is_half_open) = (false, false);
        self.connect(spec.remote_port);
    }

    fn connect(&mut self, port: u16) {
        let (to, from) = (IpEndpoint::new(self.remote, port), IpAddress::from(self.binding.addr));
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket.abort();
        // Refused where the peer is no host's address: then it stays closed, and says so.
        let _ = socket.connect(self.interface.context(), to, (from, self.binding.port));
    }

    /// The socket.
    pub(crate) fn socket<S: AnySocket<'static>>(&mut self) -> &mut S {
        self.sockets.get_mut(self.handle)
    }

    pub(crate) fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.socket()
    }

    /// The peer's address.
    pub(crate) fn remote(&self) -> IpAddress {
        self.remote
    }

    /// What fits into its buffer, and into one packet behind an IP header and `header` bytes more.
    pub(crate) fn room(&self, header: usize) -> usize {
        let ip = if self.binding.addr.is_ipv4() { 20 } else { 40 };
        (self.mtu as usize).saturating_sub(ip + header).min(self.buffers.send)
    }

    /// Lets it receive that packet, if there is one, send what it has to say, and look at its timers.
    pub(crate) fn turn(&mut self, packet: Option<&[u8]>, frame: &mut Frame, link: &dyn Link, now: Instant) {
        if self.is_dead || self.over_since.is_some_and(|since| now.since(since) >= TIME_WAIT) {
            self.due = None;
            return;
        }
        let mut cable = Cable {
            link,
            now,
            mtu: self.mtu,
            arrives: packet,
            frame,
            refused: None,
            is_half_open: self.is_half_open,
        };
        self.interface.poll(smol(now), &mut cable, &mut self.sockets);
        let refused = cable.refused;
        if let Some(reason) = refused {
            self.refused(reason, link, now);
        }
        if self.over_since.is_none()
            && self.binding.transport == Transport::Tcp
            && self.tcp().state() == tcp::State::TimeWait
        {
            self.over_since = Some(now);
        }
        let at = self.interface.poll_at(smol(now), &self.sockets);
        self.due = if self.is_dead { None } else { at.map(|at| ours(at).max(now + SOON)) };
    }

    /// The engine did not send a packet of it.
    fn refused(&mut self, reason: DropReason, link: &dyn Link, now: Instant) {
        let (transport, port) = (self.binding.transport, self.binding.port);
        match reason {
            DropReason::FragmentationNeeded => match link.mtu(transport, port, now) {
                Some(mtu) if mtu < self.mtu => self.fail(Failure::TooBig { mtu }, now),
                _ => self.give_up(Error::Dropped(reason)),
            },
            // There is too much at the moment: as if it had been lost on the way.
            DropReason::NeighborQueueFull | DropReason::NeighborLimit => {}
            DropReason::Unreachable => self.give_up(Error::Failed(Failure::NoNeighbor)),
            other => self.give_up(Error::Dropped(other)),
        }
    }

    /// A packet of it does not arrive.
    pub(crate) fn fail(&mut self, failure: Failure, now: Instant) {
        match failure {
            Failure::TooBig { mtu } => {
                let mtu = bounded(mtu, self.binding.addr.is_ipv6());
                if mtu < self.mtu {
                    self.mtu = mtu;
                    let seed = u64::from(mtu) ^ now.as_nanos();
                    // All that it knows is its address; what was said and heard is in the socket.
                    self.interface = interface(self.binding.addr.into(), mtu, seed, now);
                    self.due = Some(now);
                }
                if self.binding.transport != Transport::Tcp {
                    self.give_up(Error::Failed(failure));
                }
            }
            other => self.give_up(Error::Failed(other)),
        }
    }

    /// Ends what has not begun yet; a connection that stands goes on trying (RFC 5927 section 4), but can say why it
    /// does so in vain.
    fn give_up(&mut self, error: Error) {
        self.failure = Some(error);
        match self.binding.transport {
            Transport::Tcp => {
                let socket = self.tcp();
                if socket.state() == tcp::State::SynSent {
                    // That wakes whoever waits for it. There is nobody to tell.
                    socket.abort();
                    self.is_dead = true;
                }
            }
            Transport::Udp | Transport::Echo => {}
        }
    }

    /// Has a task woken when a datagram does not arrive.
    pub(crate) fn wait(&mut self, waker: &Waker) {
        self.waits = Some(waker.clone());
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waits.take() {
            waker.wake();
        }
    }

    /// What was found out about packets that do not arrive.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure
    }

    /// Ends a connection with a reset, unless it is over.
    pub(crate) fn reset(&mut self, frame: &mut Frame, link: &dyn Link, now: Instant) {
        if self.binding.transport == Transport::Tcp {
            let socket = self.tcp();
            if !matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait) {
                socket.abort();
                self.turn(None, frame, link, now);
            }
        }
    }
}

/// The longest packet of a socket.
fn longest(spec: &SocketSpec, binding: Binding) -> u32 {
    let mtu = if spec.may_fragment { u32::from(u16::MAX) } else { binding.mtu };
    bounded(mtu, spec.remote.is_ipv6())
}

fn bounded(mtu: u32, is_v6: bool) -> u32 {
    mtu.clamp(SMALLEST_MTU[usize::from(is_v6)], LARGEST_MTU)
}

/// A network of one address, to which everything is one hop away.
fn interface(local: IpAddress, mtu: u32, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, &mut Unplugged { mtu }, smol(now));
    interface.update_ip_addrs(|addresses| {
        // There is room for more than one.
        let _ = addresses.push(IpCidr::new(local, 0));
    });
    interface
}
