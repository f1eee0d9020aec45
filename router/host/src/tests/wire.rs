//! A peer at the other end of a wire: a smoltcp stack that serves TCP (port 80: what comes goes back; port 81: accepted
//! and nothing said) and UDP (port 53: what comes goes back), and answers pings. Every address of a family is its own.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpCidr};
use uvs_director::local::{Binding, Failure, OpenError, Received, SocketSpec, Transport, Way};
use uvs_director::spec::{Forwarding, ServiceKey};
use uvs_director::{DropReason, Duration, Frame, Instant};

use crate::link::Link;

pub(super) const HOST4: &str = "10.0.0.1";
pub(super) const PEER4: &str = "10.0.0.2";
pub(super) const HOST6: &str = "fd00::1";
pub(super) const PEER6: &str = "fd00::2";

/// What a wire does to packets.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    /// Of 100 packets so many are lost, each way.
    pub(super) loss: u64,
    /// And so many are late by up to 50 ms, so that others overtake them.
    pub(super) late: u64,
    /// Which packet of the host is lost for certain, counted from 1.
    pub(super) lost: Option<usize>,
}

struct Queue(VecDeque<Vec<u8>>, VecDeque<Vec<u8>>, usize);

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl Device for Queue {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Rx, Tx<'_>)> {
        self.0.pop_front().map(|packet| (Rx(packet), Tx(&mut self.1)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.1))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut it = DeviceCapabilities::default();
        (it.medium, it.max_transmission_unit) = (Medium::Ip, self.2);
        it
    }
}

struct Peer {
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: Vec<SocketHandle>,
    udp: SocketHandle,
    queue: Queue,
}

impl Peer {
    fn new() -> Self {
        let mut queue = Queue(VecDeque::new(), VecDeque::new(), 1500);
        let mut interface =
            Interface::new(Config::new(HardwareAddress::Ip), &mut queue, SmolInstant::from_micros(0));
        interface.update_ip_addrs(|own| {
            for addr in [PEER4, PEER6] {
                own.push(IpCidr::new(addr.parse::<IpAddr>().unwrap().into(), 0)).unwrap();
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let mut listen = |port: u16| {
            let buffer = || tcp::SocketBuffer::new(vec![0; 16384]);
            let mut socket = tcp::Socket::new(buffer(), buffer());
            socket.listen(port).unwrap();
            sockets.add(socket)
        };
        let tcp = vec![listen(80), listen(80), listen(81)];
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 4096]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(53).unwrap();
        let udp = sockets.add(socket);
        Self { interface, sockets, tcp, udp, queue }
    }

    fn turn(&mut self, now: SmolInstant) {
        loop {
            self.interface.poll(now, &mut self.queue, &mut self.sockets);
            let mut has_more = false;
            for &handle in &self.tcp {
                let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
                let port = socket.listen_endpoint().port;
                if port == 80 && socket.can_recv() && socket.can_send() {
                    let room = socket.send_capacity() - socket.send_queue();
                    let mut bytes = vec![0; room.min(4096)];
                    let len = socket.recv_slice(&mut bytes).unwrap();
                    socket.send_slice(&bytes[..len]).unwrap();
                    has_more |= len > 0;
                }
                if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
                    socket.close();
                    has_more = true;
                }
                if matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait) {
                    socket.abort();
                    socket.listen(port).unwrap();
                }
            }
            let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
            while let Ok((bytes, from)) = socket.recv().map(|(bytes, from)| (bytes.to_vec(), from)) {
                socket.send_slice(&bytes, from).unwrap();
                has_more = true;
            }
            if !has_more {
                return;
            }
        }
    }
}

struct Inside {
    now: Instant,
    peer: Peer,
    faults: Faults,
    random: u64,
    /// On their way, with when they arrive.
    to_peer: Vec<(Instant, Vec<u8>)>,
    to_host: Vec<(Instant, Vec<u8>)>,
    failures: VecDeque<Received>,
    open: Vec<(Transport, u16)>,
    next_port: u16,
    mtu: u32,
    /// What the host's packets were, for tests that look at them.
    sent: Vec<Vec<u8>>,
    refuse: Option<DropReason>,
}

/// The wire and what is at its other end.
pub(super) struct Wire(Mutex<Inside>);

const DELAY: Duration = Duration::from_millis(2);

impl Wire {
    pub(super) fn new(faults: Faults, seed: u64) -> Self {
        Self(Mutex::new(Inside {
            now: Instant::from_secs(1),
            peer: Peer::new(),
            faults,
            random: seed,
            to_peer: Vec::new(),
            to_host: Vec::new(),
            failures: VecDeque::new(),
            open: Vec::new(),
            next_port: 50000,
            mtu: 1500,
            sent: Vec::new(),
            refuse: None,
        }))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    pub(super) fn open_sockets(&self) -> usize {
        self.inside().open.len()
    }

    pub(super) fn sent(&self) -> Vec<Vec<u8>> {
        self.inside().sent.clone()
    }

    pub(super) fn set_mtu(&self, mtu: u32) {
        self.inside().mtu = mtu;
    }

    pub(super) fn refuse(&self, reason: Option<DropReason>) {
        self.inside().refuse = reason;
    }

    pub(super) fn fail(&self, transport: Transport, failure: Failure) {
        let mut inside = self.inside();
        let port = inside.open.iter().rev().find(|open| open.0 == transport).unwrap().1;
        inside.failures.push_back(Received::Failed { transport, port, failure });
    }

    /// Moves the clock on, to `until` at the latest, and hands over what arrives by then. The next arrival on it.
    pub(super) fn advance(&self, until: Instant) -> Instant {
        let mut inside = self.inside();
        let peer_at = {
            let Inside { peer, now, .. } = &mut *inside;
            peer.interface.poll_at(smol(*now), &peer.sockets)
        };
        // What it still has to do now, it could not do the last time.
        let soon = inside.now + Duration::from_millis(1);
        let peer_at = peer_at.map(|at| Instant::from_nanos(u64::try_from(at.total_micros()).unwrap() * 1000));
        let peer_at = peer_at.map(|at| at.max(soon));
        let arrivals = inside.to_peer.iter().chain(&inside.to_host).map(|(at, _)| *at);
        // What has arrived and was not taken out is no event.
        let arrivals = arrivals.filter(|at| *at > inside.now);
        let next = arrivals.chain(peer_at).chain([until]).min().unwrap().max(inside.now);
        inside.now = next;
        let arrived: Vec<_> = inside.to_peer.extract_if(.., |(at, _)| *at <= next).collect();
        inside.peer.queue.0.extend(arrived.into_iter().map(|(_, packet)| packet));
        inside.peer.turn(smol(next));
        let answers: Vec<_> = inside.peer.queue.1.drain(..).collect();
        for packet in answers {
            if let Some(at) = inside.fate() {
                inside.to_host.push((at, packet));
            }
        }
        next
    }
}

fn smol(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap())
}

impl Inside {
    fn dice(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 100
    }

    /// When a packet arrives; not at all if it is lost.
    fn fate(&mut self) -> Option<Instant> {
        let Faults { loss, late, .. } = self.faults;
        if self.dice() < loss {
            return None;
        }
        let more = if self.dice() < late { self.dice() / 2 } else { 0 };
        Some(self.now + DELAY + Duration::from_millis(more))
    }
}

impl Link for Wire {
    fn now(&self) -> Instant {
        self.inside().now
    }

    fn open(&self, spec: &SocketSpec) -> Result<Binding, OpenError> {
        let mut inside = self.inside();
        let port = inside.next_port;
        inside.next_port += 1;
        inside.open.push((spec.transport, port));
        let addr = if spec.remote.is_ipv4() { HOST4 } else { HOST6 }.parse().unwrap();
        Ok(Binding { transport: spec.transport, addr, port, mtu: inside.mtu })
    }

    fn close(&self, transport: Transport, port: u16) {
        self.inside().open.retain(|open| *open != (transport, port));
    }

    fn mtu(&self, transport: Transport, port: u16, _: Instant) -> Option<u32> {
        let inside = self.inside();
        inside.open.contains(&(transport, port)).then_some(inside.mtu)
    }

    fn way_to(&self, _: ServiceKey, destination: SocketAddr) -> Option<Way> {
        let forwarding = Forwarding::Nat;
        Some(Way::Destination { addr: destination.ip(), port: destination.port(), forwarding })
    }

    fn send(&self, packet: &mut Frame, now: Instant) -> Result<(), DropReason> {
        let mut inside = self.inside();
        assert_eq!(now, inside.now);
        if let Some(reason) = inside.refuse {
            return Err(reason);
        }
        if packet.len() > inside.mtu as usize {
            return Err(DropReason::FragmentationNeeded);
        }
        inside.sent.push(packet.bytes().to_vec());
        let is_lost = inside.faults.lost == Some(inside.sent.len());
        if let Some(at) = inside.fate().filter(|_| !is_lost) {
            inside.to_peer.push((at, packet.bytes().to_vec()));
        }
        Ok(())
    }

    fn receive(&self) -> Option<Received> {
        let mut inside = self.inside();
        if let Some(failure) = inside.failures.pop_front() {
            return Some(failure);
        }
        let now = inside.now;
        let at = inside.to_host.iter().position(|(at, _)| *at <= now)?;
        let (_, packet) = inside.to_host.remove(at);
        Some(Received::Packet(Frame::from_bytes(&packet)))
    }
}
