//! All sockets of the host: which packet is whose, and which of them wants to run when. No I/O, no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;
use uvs_director::local::{Received, SocketSpec, Transport};
use uvs_director::{Frame, Instant, splitmix64};
use uvs_wire::{Packet, icmp, tcp, udp};

use crate::error::Error;
use crate::link::Link;
use crate::stack::{Buffers, Stack};

/// Which socket: no two of a transport have one port.
pub type Key = (Transport, u16);

/// How many of what came are handled before others may run.
const BATCH: usize = 256;

/// How many closed TCP sockets are kept for those to come: to make buffers anew costs more than to connect.
const SPARE: usize = 256;

/// How much is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sockets that are open.
    pub sockets: usize,
    /// Bytes of their buffers.
    pub memory: usize,
}

/// See the head of this file.
pub struct Core {
    link: Arc<dyn Link>,
    /// Ports are ours, so nobody else has them collide.
    stacks: HashMap<Key, Box<Stack>, FixedState>,
    /// Closed ones, of TCP and with buffers of the usual size.
    #[allow(clippy::vec_box, reason = "they go to `stacks` and come back as they are")]
    spare: Vec<Box<Stack>>,
    /// When stacks want to run. One that has changed its mind since is passed over.
    due: BinaryHeap<Reverse<(Instant, u16, u8)>>,
    memory: usize,
    memory_max: usize,
    /// For what must not be guessed: sequence numbers.
    seed: u64,
    /// What packets leave in.
    frame: Frame,
}

fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 0,
        Transport::Udp => 1,
        Transport::Echo => 2,
    }
}

const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Echo];

impl Core {
    /// No socket yet. `memory`: bytes that the buffers of all may take. `seed`: not to be guessed by others.
    pub fn new(link: Arc<dyn Link>, memory: usize, seed: u64) -> Self {
        Self {
            link,
            stacks: HashMap::default(),
            spare: Vec::new(),
            due: BinaryHeap::new(),
            memory: 0,
            memory_max: memory,
            seed,
            frame: Frame::with_capacity(2048),
        }
    }

    /// How much is in use.
    pub fn usage(&self) -> Usage {
        Usage { sockets: self.stacks.len(), memory: self.memory }
    }

    /// Opens a socket. TCP sends its SYN.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(&mut self, spec: &SocketSpec, buffers: Buffers, now: Instant) -> Result<Key, Error> {
        if self.memory.saturating_add(buffers.total()) > self.memory_max {
            return Err(Error::Memory(self.memory_max));
        }
        let binding = self.link.open(spec)?;
        let key = (spec.transport, binding.port);
        let seed = splitmix64(&mut self.seed);
        let stack = match self.spare.pop_if(|_| is_usual(spec.transport, buffers)) {
            Some(mut spare) => {
                spare.renew(spec, binding, seed, now);
                spare
            }
            None => Box::new(Stack::new(spec, binding, buffers, seed, now)),
        };
        self.memory += buffers.total();
        self.stacks.insert(key, stack);
        self.run(key, now);
        Ok(key)
    }

    /// Closes a socket: TCP with a reset, unless both sides have ended it. Its port is free from now on.
    pub fn close(&mut self, key: Key, now: Instant) {
        let Some(mut stack) = self.stacks.remove(&key) else { return };
        stack.reset(&mut self.frame, &*self.link, now);
        self.memory -= stack.buffers.total();
        self.link.close(key.0, key.1);
        if is_usual(key.0, stack.buffers) && self.spare.len() < SPARE {
            self.spare.push(stack);
        }
    }

    /// A socket. Whoever changes something about it calls [`Self::run`].
    pub fn stack(&mut self, key: Key) -> Option<&mut Stack> {
        self.stacks.get_mut(&key).map(|stack| &mut **stack)
    }

    /// Has a socket send what it has to.
    pub fn run(&mut self, key: Key, now: Instant) {
        self.turn(key, None, now);
    }

    fn turn(&mut self, key: Key, packet: Option<&[u8]>, now: Instant) {
        let Some(stack) = self.stacks.get_mut(&key) else { return };
        let before = stack.due;
        stack.turn(packet, &mut self.frame, &*self.link, now);
        if let Some(due) = stack.due
            && before != Some(due)
        {
            self.due.push(Reverse((due, key.1, number(key.0))));
        }
    }

    /// Takes in what came, up to a bound, and runs what is due. Whether there is more at once.
    pub fn poll(&mut self, now: Instant) -> bool {
        let mut handled = 0;
        while handled < BATCH {
            let Some(received) = self.link.receive() else { break };
            self.receive(received, now);
            handled += 1;
        }
        for _ in 0..BATCH {
            let Some(Reverse((at, port, transport))) = self.due.peek().copied() else { break };
            let key = (TRANSPORTS[usize::from(transport)], port);
            let is_meant = self.stacks.get(&key).is_some_and(|stack| stack.due == Some(at));
            if is_meant && at > now {
                break;
            }
            self.due.pop();
            if is_meant {
                // It wants to be told again, be it for the same moment.
                if let Some(stack) = self.stacks.get_mut(&key) {
                    stack.due = None;
                }
                self.turn(key, None, now);
                handled += 1;
            }
        }
        handled >= BATCH
    }

    /// When [`Self::poll`] has something to do next, if nothing comes.
    pub fn poll_at(&mut self) -> Option<Instant> {
        loop {
            let Reverse((at, port, transport)) = *self.due.peek()?;
            let key = (TRANSPORTS[usize::from(transport)], port);
            if self.stacks.get(&key).is_some_and(|stack| stack.due == Some(at)) {
                return Some(at);
            }
            self.due.pop();
        }
    }

    fn receive(&mut self, received: Received, now: Instant) {
        match received {
            Received::Packet(frame) => {
                if let Some(key) = key_of(frame.bytes()) {
                    self.turn(key, Some(frame.bytes()), now);
                }
            }
            Received::Failed { transport, port, failure } => {
                let key = (transport, port);
                if let Some(stack) = self.stacks.get_mut(&key) {
                    stack.fail(failure, now);
                    stack.wake();
                    self.run(key, now);
                }
            }
        }
    }
}

/// Whether a socket may serve again.
fn is_usual(transport: Transport, buffers: Buffers) -> bool {
    transport == Transport::Tcp && buffers == Buffers::default()
}

/// Whose packet that is.
fn key_of(ip: &[u8]) -> Option<Key> {
    let packet = Packet::parse(ip).ok()?;
    match packet.protocol {
        tcp::PROTOCOL => Some((Transport::Tcp, packet.dst_port)),
        udp::PROTOCOL => Some((Transport::Udp, packet.dst_port)),
        icmp::PROTOCOL_V4 | icmp::PROTOCOL_V6 => {
            let message = ip.get(usize::from(packet.header_len)..)?;
            Some((Transport::Echo, u16::from_be_bytes([*message.get(4)?, *message.get(5)?])))
        }
        _ => None,
    }
}
