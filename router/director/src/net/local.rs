//! The director's own sockets, as the packet path knows them, and what came for them.
//!
//! Keyed by transport and port, so that there is one question for each packet to an address of ours that nobody else
//! takes, and none for any other. None of it is in the connection table: no scheduler hears of it, and nothing counts
//! it as load.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError, RwLock};

use foldhash::fast::FixedState;
use uvs_wire::Address;

use crate::base::local::{LocalLimits, OpenError, Received, SocketSpec, Transport, Way};
use crate::base::lock::lock;
use crate::base::spec::Forwarding;
use crate::base::view::LocalView;

/// Told when something waits that was not there before.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// A live socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    pub(crate) transport: Transport,
    pub(crate) local: (Address, u16),
    /// Whom it speaks to: the VIP if it goes by way of a destination.
    pub(crate) remote: (Address, u16),
    /// The destination, and how it is reached.
    pub(crate) via: Option<(Address, u16, Forwarding)>,
    /// What is too long leaves in fragments.
    pub(crate) may_fragment: bool,
}

impl Socket {
    pub(crate) fn new(spec: &SocketSpec, local: (Address, u16)) -> Self {
        let via = match spec.way {
            Way::Direct => None,
            Way::Destination { addr, port, forwarding } => Some((addr.into(), port, forwarding)),
        };
        Self {
            transport: spec.transport,
            local,
            remote: (spec.remote.into(), spec.remote_port),
            via,
            may_fragment: spec.may_fragment,
        }
    }

    /// Whether its peer answers as the VIP, an address of ours.
    fn hears_vip(&self) -> bool {
        self.via.is_some_and(|(_, _, forwarding)| forwarding != Forwarding::Nat)
    }

    /// Who answers it. Of a destination by NAT that is the destination; of the others, the VIP.
    pub(crate) fn answers(&self) -> (Address, u16) {
        match self.via {
            Some((addr, port, Forwarding::Nat)) => (addr, port),
            _ => self.remote,
        }
    }
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Local {
    limits: Option<LocalLimits>,
    sockets: RwLock<Sockets>,
    received: Mutex<Queue>,
    wake: Option<Wake>,
    /// Their number, so that nothing is locked while there are none.
    count: AtomicUsize,
    packets_in: AtomicU64,
    bytes_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
}

/// What waits to be taken out, each with the socket that it is for.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<((Transport, u16), Received)>,
    /// How much of it each socket has; none has nothing.
    of: HashMap<(Transport, u16), usize, FixedState>,
}

#[derive(Default)]
struct Sockets {
    by_port: HashMap<(Transport, u16), Socket, FixedState>,
    /// Where the next look for a free port begins: one that was just let go of comes last.
    next: u16,
    /// How many sockets each VIP answers.
    vips: HashMap<Address, usize, FixedState>,
}

impl Local {
    pub(crate) fn new(limits: LocalLimits, wake: Wake) -> Self {
        let sockets = Sockets { next: *limits.ports.start(), ..Sockets::default() };
        Self { limits: Some(limits), sockets: RwLock::new(sockets), wake: Some(wake), ..Self::default() }
    }

    fn read<T>(&self, read: impl FnOnce(&Sockets) -> T) -> T {
        read(&self.sockets.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Sockets) -> T) -> T {
        let mut sockets = self.sockets.write().unwrap_or_else(PoisonError::into_inner);
        let result = write(&mut sockets);
        self.count.store(sockets.by_port.len(), Relaxed);
        result
    }

    /// Gives a socket a port that `is_free`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn open(
        &self,
        spec: &SocketSpec,
        local: Address,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<u16, OpenError> {
        let Some(LocalLimits { ports, .. }) = &self.limits else { return Err(OpenError::NoPorts) };
        let (first, last) = (*ports.start(), *ports.end());
        self.write(|sockets| {
            for _ in first..=last {
                let port = sockets.next;
                sockets.next = if port >= last { first } else { port + 1 };
                if !sockets.by_port.contains_key(&(spec.transport, port)) && is_free(port) {
                    let socket = Socket::new(spec, (local, port));
                    sockets.by_port.insert((spec.transport, port), socket);
                    if socket.hears_vip() {
                        *sockets.vips.entry(socket.remote.0).or_default() += 1;
                    }
                    return Ok(port);
                }
            }
            Err(OpenError::PortsInUse(ports.len()))
        })
    }

    pub(crate) fn close(&self, transport: Transport, port: u16) {
        self.write(|sockets| {
            let Some(socket) = sockets.by_port.remove(&(transport, port)) else { return };
            if socket.hears_vip()
                && let Some(count) = sockets.vips.get_mut(&socket.remote.0)
            {
                *count -= 1;
                if *count == 0 {
                    sockets.vips.remove(&socket.remote.0);
                }
            }
        });
    }

    /// The live socket at a port.
    pub(crate) fn socket(&self, transport: Transport, port: u16) -> Option<Socket> {
        if self.count.load(Relaxed) == 0 || !self.limits.as_ref()?.ports.contains(&port) {
            return None;
        }
        self.read(|sockets| sockets.by_port.get(&(transport, port)).copied())
    }

    /// Whether a port is kept for sockets.
    pub(crate) fn keeps(&self, port: u16) -> bool {
        self.limits.as_ref().is_some_and(|limits| limits.ports.contains(&port))
    }

    /// Whether a live socket hears answers from that VIP.
    pub(crate) fn hears(&self, vip: Address) -> bool {
        self.count.load(Relaxed) != 0 && self.read(|sockets| sockets.vips.contains_key(&vip))
    }

    /// Puts something for a socket where it is taken out. False: there is no room.
    ///
    /// No socket may have more there than is still free, so that whoever floods one, a server that sends without end,
    /// takes nobody else's room: of `n` that are flooded each has an `n + 1`st part of it, and as much stays free. (A.
    /// Choudhury and E. Hahne, "Dynamic queue length thresholds", 1998.)
    pub(crate) fn push(&self, socket: (Transport, u16), received: Received) -> bool {
        let Some(LocalLimits { packets, .. }) = self.limits else { return false };
        let mut queue = lock(&self.received);
        let was_empty = queue.waiting.is_empty();
        let free = packets.saturating_sub(queue.waiting.len());
        let own = queue.of.entry(socket).or_default();
        if *own >= free {
            if *own == 0 {
                queue.of.remove(&socket);
            }
            return false;
        }
        *own += 1;
        queue.waiting.push_back((socket, received));
        drop(queue);
        if was_empty && let Some(wake) = &self.wake {
            wake();
        }
        true
    }

    /// Takes out what waits longest.
    pub(crate) fn take(&self) -> Option<Received> {
        let queue = &mut *lock(&self.received);
        let (socket, received) = queue.waiting.pop_front()?;
        if let Some(own) = queue.of.get_mut(&socket) {
            *own -= 1;
            if *own == 0 {
                queue.of.remove(&socket);
            }
        }
        Some(received)
    }

    pub(crate) fn count_in(&self, bytes: usize) {
        self.packets_in.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.packets_out.fetch_add(1, Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn view(&self) -> LocalView {
        LocalView {
            sockets: self.count.load(Relaxed),
            sockets_max: self.limits.as_ref().map_or(0, |limits| limits.ports.len()),
            in_packets: self.packets_in.load(Relaxed),
            in_bytes: self.bytes_in.load(Relaxed),
            out_packets: self.packets_out.load(Relaxed),
            out_bytes: self.bytes_out.load(Relaxed),
        }
    }
}
