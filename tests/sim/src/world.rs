//! The world: its parts, and how frames and time move.
//!
//! ```text
//!   client --> air[client] --arrive--> flow cache -------------------------.
//!                                          `--> queue of a worker --work--> director --> egress[server] --deliver-->
//!   server --> air[server] --arrive--> ... the same way back, or past the director: straight to egress[client]
//! ```
//! A frame that a worker has to handle waits; one that the flow cache takes is gone at once.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use uvs_director::spec::Limits;
use uvs_director::view::ServiceView;
use uvs_director::{Director, Duration, Frame, Instant, Outbox, PortId, Verdict};
use uvs_wire::{Packet, ethernet};

use crate::cache::Cache;
use crate::check::Tracks;
use crate::control::Model;
use crate::event::{Event, Fate, Setup, Side};
use crate::hosts::Hosts;
use crate::ledger::{Disorder, Ledger};
use crate::packet;
use crate::pcap::Capture;
use crate::plan;
use crate::scheduler::{ENDLESS, Schedulers};

/// 802.1ad.
const ETHERTYPE_TAG: u16 = 0x88a8;
/// Frames that a link or a queue holds; what comes then is lost.
const QUEUE_MAX: usize = 256;
/// No frame waits longer for a worker.
const LATE: Duration = Duration::from_millis(400);
/// Moves until a world that settles has to be quiet.
const SETTLE_MAX: usize = 20_000;
/// Timers that may be due at one moment.
const DUE_MAX: usize = 10_000;

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $label:literal,)+) => {
        /// What was violated.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])+ $name,)+ }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$name => $label,)+ })
            }
        }
    };
}

kinds! {
    /// The director panicked.
    Panic = "panic",
    /// A packet or a timer is worked on without end.
    Endless = "endless",
    /// A reply, or an error about a packet, went to a client that it was not for.
    WrongClient = "wrong-client",
    /// A reply came from another address than the one that the client had asked for.
    WrongVip = "wrong-vip",
    /// A packet left after one of the same flow that had come later.
    Overtaken = "overtaken",
    /// A packet left twice.
    Twice = "twice",
    /// The director asks a link who has an address of its own.
    AsksItself = "asks-itself",
    /// A packet for one server went to another.
    Misdelivered = "misdelivered",
    /// A connection went to another destination without a reason.
    Moved = "moved",
    /// A connection ended without a reason.
    Ended = "ended",
    /// A connection from port 0 ended without a reason: it was taken for one whose port is not known yet.
    Claimed = "claimed",
    /// A connection that packets pass on was ended to make room.
    LiveDropped = "live-dropped",
    /// A new connection went where none may go.
    Placed = "placed",
    /// A client does not stick to its destination.
    Unstuck = "unstuck",
    /// A scheduler was told another load than there is.
    LoadTold = "load-told",
    /// A destination's counts are not those of the table.
    LoadHeld = "load-held",
    /// Totals are not those of the table.
    Counters = "counters",
    /// Two connections have one key.
    Duplicate = "duplicate",
    /// More than a limit allows.
    Limit = "limit",
    /// The flow cache holds a flow of no connection.
    Stale = "stale-flow",
    /// The flow cache sends a flow elsewhere than the connection goes.
    Elsewhere = "flow-elsewhere",
    /// A full flow cache is asked again and again.
    Retried = "full-retried",
    /// A checksum is wrong, or a packet makes no sense.
    Checksum = "checksum",
    /// A change was taken or refused that should not have been.
    Refused = "refused",
    /// A listing is not what was asked for.
    Listing = "listing",
    /// Something is left once all is idle.
    Leak = "leak",
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub kind: Kind,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// What a step comes to.
pub type Outcome = Result<(), Violation>;

/// A frame on its way to the director.
#[derive(Clone, Debug)]
pub(crate) struct Flying {
    pub(crate) frame: Vec<u8>,
    /// The connection it belongs to, as its sender knows.
    pub(crate) incarnation: Option<u32>,
    pub(crate) is_reply: bool,
}

/// What happened since the last check.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context {
    /// The packet that a worker handled: protocol, ends, flags.
    pub(crate) handled: Option<(u8, (SocketAddr, SocketAddr), u8)>,
    /// Timers ran.
    pub(crate) timers: bool,
}

/// The world; see the head of this file.
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) director: Director,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) schedulers: Schedulers,
    pub(crate) now: Instant,
    /// Of each worker, and of timers and changes.
    out: Vec<Outbox>,
    pub(crate) air: [VecDeque<Flying>; 2],
    /// With the time at which each frame came.
    pub(crate) queues: Vec<VecDeque<(PortId, Vec<u8>, Instant)>>,
    pub(crate) egress: [VecDeque<Vec<u8>>; 2],
    pub(crate) hosts: Hosts,
    pub(crate) ledger: Ledger,
    pub(crate) model: Model,
    pub(crate) tracks: Tracks,
    pub(crate) context: Context,
    /// Everything may end.
    pub(crate) idling: bool,
    capture: Option<Capture>,
    /// Kinds that are counted, and that do not end the run.
    tolerated: Vec<(Kind, u64)>,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(setup: Setup) -> Self {
        let schedulers = Schedulers::default();
        let limits = Limits {
            connections: setup.connections as usize,
            neighbors: setup.neighbors as usize,
            ..Limits::default()
        };
        let mut director = Director::new(limits, setup.seed, Arc::new(schedulers.clone()));
        let cache = setup.cache.then(|| Arc::new(Cache::new(1000)));
        if let Some(cache) = &cache {
            director = director.with_flow_cache(Arc::clone(cache) as _);
        }
        let workers = setup.workers as usize;
        let mut world = Self {
            setup,
            director,
            cache,
            schedulers,
            now: Instant::from_secs(1),
            out: (0..=workers).map(|_| Outbox::new()).collect(),
            air: Default::default(),
            queues: vec![VecDeque::new(); workers],
            egress: Default::default(),
            hosts: Hosts::default(),
            ledger: Ledger::default(),
            model: Model::default(),
            tracks: Tracks::default(),
            context: Context::default(),
            idling: false,
            capture: None,
            tolerated: Vec::new(),
        };
        world.begin();
        world
    }

    /// From now on frames are captured.
    pub fn capture(&mut self) {
        self.capture = Some(Capture::default());
    }

    /// What was captured.
    pub fn captured(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// Violations of these kinds are counted and do not end the run.
    pub fn tolerate(&mut self, kinds: &[Kind]) {
        self.tolerated = kinds.iter().map(|kind| (*kind, 0)).collect();
    }

    /// How often those were seen.
    pub fn tolerated(&self) -> &[(Kind, u64)] {
        &self.tolerated
    }

    /// Packets, picks, flows that were placed, packets that the flow cache took.
    pub fn counts(&self) -> [u64; 4] {
        let (placed, passed) = self.cache.as_ref().map_or((0, 0), |cache| cache.counts());
        [self.ledger.len() as u64, self.schedulers.picks(), placed, passed]
    }

    /// One step, and what it violates.
    pub fn step(&mut self, event: &Event) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.act(event))) {
            Ok(outcome) => outcome,
            Err(payload) => {
                let text = panic_text(&*payload);
                let kind = if text.contains(ENDLESS) { Kind::Endless } else { Kind::Panic };
                self.violates(kind, || text.to_owned())
            }
        }
    }

    /// An invariant does not hold.
    pub(crate) fn violates(&mut self, kind: Kind, text: impl FnOnce() -> String) -> Outcome {
        match self.tolerated.iter_mut().find(|(tolerated, _)| *tolerated == kind) {
            Some((_, times)) => {
                *times += 1;
                Ok(())
            }
            None => Err(Violation { kind, text: text() }),
        }
    }

    fn act(&mut self, event: &Event) -> Outcome {
        self.tell_time();
        match *event {
            Event::Arrive { side, fate } => self.arrive(side, fate)?,
            Event::Work { worker, count } => self.work(worker as usize % self.queues.len(), count)?,
            Event::Deliver { side, fate } => self.deliver(side, fate)?,
            Event::Settle {} => self.settle()?,
            Event::Advance { ms } => {
                self.hurry(Duration::from_millis(ms.into()))?;
                self.advance(Duration::from_millis(ms.into()))?;
            }
            Event::Skip { ms } => {
                self.hurry(Duration::from_millis(ms.into()))?;
                self.now = self.now + Duration::from_millis(ms.into());
            }
            Event::Idle {} => self.idle()?,
            _ if self.host_event(event) => {}
            _ => self.control_event(event)?,
        }
        self.check()
    }

    pub(crate) fn tell_time(&self) {
        if let Some(cache) = &self.cache {
            cache.set_now(self.now);
        }
    }

    /// A frame sets out to the director.
    pub(crate) fn send(&mut self, side: Side, flying: Flying) {
        let air = &mut self.air[side as usize];
        if air.len() < QUEUE_MAX {
            air.push_back(flying);
        }
    }

    /// A frame comes to the director.
    fn arrive(&mut self, side: Side, fate: Fate) -> Outcome {
        let Some(mut flying) = taken(&mut self.air[side as usize], fate) else { return Ok(()) };
        let ends = self.stamp(&mut flying);
        let mut frame = flying.frame;
        self.note(side, &frame);
        let is_for_us = ethernet::destination(&frame) == plan::director_mac(side);
        if let Some(port) = self.cache.as_ref().filter(|_| is_for_us).and_then(|cache| cache.pass(&mut frame))
        {
            return self.emit(port, frame, true);
        }
        let queues = self.queues.len();
        let queue = &mut self.queues[ends.map_or(0, worker_of) % queues];
        if queue.len() < QUEUE_MAX {
            queue.push_back((plan::port_of(side), frame, self.now));
        }
        Ok(())
    }

    /// Enters a packet into the ledger. Its ends.
    fn stamp(&mut self, flying: &mut Flying) -> Option<(SocketAddr, SocketAddr)> {
        let ip = ip_of_mut(&mut flying.frame)?;
        let packet = Packet::parse(ip).ok().filter(Packet::has_ports)?;
        let ends = packet::ends(&packet);
        let Flying { is_reply, incarnation, .. } = *flying;
        let stamp = self.ledger.came(packet.protocol, ends, is_reply, incarnation);
        packet::set_stamp(ip, &packet, stamp);
        Some(ends)
    }

    /// A worker takes note of what passed, and handles so many frames.
    fn work(&mut self, worker: usize, count: u32) -> Outcome {
        self.director.catch_up(self.now, &mut self.out[worker]);
        self.flush(worker)?;
        self.check()?;
        for _ in 0..count {
            let Some((port, frame, _)) = self.queues[worker].pop_front() else { break };
            self.handle(worker, port, &frame)?;
            self.check()?;
        }
        self.director.sent(&mut self.out[worker]);
        Ok(())
    }

    /// Before time passes, workers handle what would wait too long: none is idle for a large part of a second.
    fn hurry(&mut self, by: Duration) -> Outcome {
        if by > LATE {
            // Some worker has taken note of what passed, too.
            self.work(0, 0)?;
        }
        for worker in 0..self.queues.len() {
            let first = self.queues[worker].front().map(|(.., came)| *came);
            if first.is_some_and(|came| self.now.since(came) + by > LATE) {
                self.work(worker, u32::try_from(QUEUE_MAX).unwrap_or(u32::MAX))?;
            }
        }
        Ok(())
    }

    fn handle(&mut self, worker: usize, port: PortId, bytes: &[u8]) -> Outcome {
        let packet = ip_behind_tag(bytes).and_then(|ip| Packet::parse(ip).ok()).filter(Packet::has_ports);
        let handled = packet.map(|packet| (packet.protocol, packet::ends(&packet), packet.tcp_flags));
        self.context.handled = handled;
        let before = if packet.is_some() { self.director.services() } else { Vec::new() };
        self.schedulers.take_told();
        let mut frame = Frame::from_bytes(bytes);
        let verdict = self.director.handle(port, &mut frame, self.now, &mut self.out[worker]);
        self.check_told(&before)?;
        if let Verdict::Transmit(to) = verdict {
            self.emit(to, frame.bytes().to_vec(), true)?;
        }
        self.flush(worker)
    }

    /// What the schedulers that were asked were told is what there was.
    fn check_told(&mut self, before: &[ServiceView]) -> Outcome {
        for told in self.schedulers.take_told() {
            let Some(service) = before.iter().find(|it| it.spec.key.to_string() == told.service) else {
                continue;
            };
            for (at, destination) in service.destinations.iter().enumerate() {
                let Some((addr, load)) = told.loads.get(at).copied() else { break };
                let held = (destination.active, destination.inactive, destination.overloaded);
                if addr == destination.spec.addr && held != (load.active, load.inactive, load.unavailable) {
                    self.violates(Kind::LoadTold, || {
                        format!("{}: {addr} carries {held:?}, its scheduler was told {load:?}", told.service)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Sends what is in an outbox.
    pub(crate) fn flush(&mut self, which: usize) -> Outcome {
        if self.out[which].is_empty() {
            return Ok(());
        }
        let frames: Vec<_> = self.out[which].drain().collect();
        frames.into_iter().try_for_each(|(port, frame)| self.emit(port, frame.bytes().to_vec(), false))
    }

    /// A frame leaves the director. `at_once`: it came just now, and has not waited for a neighbour's address.
    fn emit(&mut self, port: PortId, frame: Vec<u8>, at_once: bool) -> Outcome {
        let side = plan::side_of(port);
        self.note(side, &frame);
        let station = self.hosts.station(ethernet::destination(&frame));
        if let Some(asked) = packet::asked_for(&frame).filter(|asked| plan::is_director(*asked)) {
            self.violates(Kind::AsksItself, || format!("{side}: who has {asked}?"))?;
        }
        if let Some(ip) = ip_of(&frame) {
            let Ok(packet) = Packet::parse(ip) else {
                return self
                    .violates(Kind::Checksum, || format!("{side}: a packet makes no sense: {ip:02x?}"));
            };
            self.check_sums(ip, &packet)?;
            self.check_station(&packet, station)?;
            let inner = packet::decapsulated(ip, &packet);
            let (ip, packet) = match inner.map(|inner| (inner, Packet::parse(inner))) {
                Some((inner, Ok(packet))) => {
                    self.check_sums(inner, &packet)?;
                    (inner, packet)
                }
                Some((_, Err(error))) => {
                    return self.violates(Kind::Checksum, || format!("{side}: in a tunnel: {error}"));
                }
                None => (ip, packet),
            };
            if let Some(stamp) = packet::stamp(ip, &packet) {
                self.check_stamp(stamp, station, &packet, at_once)?;
            }
        }
        let egress = &mut self.egress[side as usize];
        if egress.len() < QUEUE_MAX {
            egress.push_back(frame);
        }
        Ok(())
    }

    fn check_sums(&mut self, ip: &[u8], packet: &Packet) -> Outcome {
        match packet::bad_checksum(ip, packet) {
            None => Ok(()),
            Some(what) => {
                let (from, to) = packet::ends(packet);
                self.violates(Kind::Checksum, || format!("{what} of a packet from {from} to {to}"))
            }
        }
    }

    /// What is for one server does not go to another.
    fn check_station(&mut self, packet: &Packet, station: u32) -> Outcome {
        match (self.hosts.server_at(station), plan::server_of(packet.dst.to_ip())) {
            (Some(at), Some(of)) if at != of => self.violates(Kind::Misdelivered, || {
                format!("a packet for server {of} went to the MAC address of server {at}")
            }),
            _ => Ok(()),
        }
    }

    fn check_stamp(&mut self, stamp: u32, station: u32, packet: &Packet, at_once: bool) -> Outcome {
        let Some(record) = self.ledger.stamp(stamp) else { return Ok(()) };
        let (from, to) = record.ends;
        match self.ledger.left(stamp, station) {
            Ok(()) => {}
            Err(Disorder::Twice) => {
                self.violates(Kind::Twice, || format!("packet {stamp} from {from} to {to}"))?;
            }
            Err(Disorder::Overtaken) => self.violates(Kind::Overtaken, || {
                format!("packet {stamp} from {from} to {to} left after one that came later")
            })?,
        }
        if record.is_reply {
            return self.check_reply(&record, packet, at_once);
        }
        if at_once {
            self.tracks.touch(packet.protocol, record.ends, false);
        }
        Ok(())
    }

    /// A frame comes to a station.
    fn deliver(&mut self, side: Side, fate: Fate) -> Outcome {
        let Some(frame) = taken(&mut self.egress[side as usize], fate) else { return Ok(()) };
        self.receive(side, &frame)
    }

    /// Everything arrives.
    pub(crate) fn settle(&mut self) -> Outcome {
        for _ in 0..SETTLE_MAX {
            let worker = self.queues.iter().position(|queue| !queue.is_empty());
            if let Some(side) = Side::ALL.iter().find(|side| !self.egress[**side as usize].is_empty()) {
                self.deliver(*side, Fate::Pass)?;
            } else if let Some(worker) = worker {
                self.work(worker, 1)?;
            } else if let Some(side) = Side::ALL.iter().find(|side| !self.air[**side as usize].is_empty()) {
                self.arrive(*side, Fate::Pass)?;
                self.check()?;
            } else {
                return Ok(());
            }
        }
        self.violates(Kind::Endless, || "the world does not come to rest".into())
    }

    /// Whether a frame is on its way anywhere.
    pub fn is_quiet(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
            && self.air.iter().all(VecDeque::is_empty)
            && self.egress.iter().all(VecDeque::is_empty)
    }

    /// Time passes; whatever is due meanwhile happens.
    pub(crate) fn advance(&mut self, by: Duration) -> Outcome {
        let until = self.now + by;
        let mut at_once = 0;
        loop {
            let due = [self.director.poll_at(), self.hosts.due()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            at_once = if due > self.now { 0 } else { at_once + 1 };
            if at_once > DUE_MAX {
                return self.violates(Kind::Endless, || format!("a timer stays due at {due:?}"));
            }
            self.now = self.now.max(due);
            self.run_timers()?;
        }
        self.now = until;
        self.tell_time();
        Ok(())
    }

    fn run_timers(&mut self) -> Outcome {
        self.tell_time();
        let which = self.out.len() - 1;
        if self.director.poll_at().is_some_and(|due| due <= self.now) {
            self.context.timers = true;
            self.director.handle_timeout(self.now, &mut self.out[which]);
            self.flush(which)?;
            self.check()?;
        }
        self.host_timers();
        Ok(())
    }

    fn note(&mut self, side: Side, frame: &[u8]) {
        if let Some(capture) = &mut self.capture {
            capture.note(side, self.now, frame);
        }
    }
}

/// Takes the first frame out of a link, as the link wants it.
fn taken<T: Clone>(link: &mut VecDeque<T>, fate: Fate) -> Option<T> {
    if fate == Fate::Swap && link.len() > 1 {
        link.swap(0, 1);
    }
    let first = link.pop_front()?;
    match fate {
        Fate::Lose => None,
        Fate::Copy => {
            link.push_front(first.clone());
            Some(first)
        }
        Fate::Pass | Fate::Swap => Some(first),
    }
}

/// Which worker a flow's packets go to: the same one always.
fn worker_of((from, to): (SocketAddr, SocketAddr)) -> usize {
    let last = |addr: SocketAddr| match addr.ip() {
        std::net::IpAddr::V4(ip) => usize::from(ip.octets()[3]),
        std::net::IpAddr::V6(ip) => usize::from(ip.octets()[15]),
    };
    usize::from(from.port()) * 3 + usize::from(to.port()) * 5 + last(from) * 7 + last(to)
}

/// The IP packet in a frame.
pub(crate) fn ip_of(frame: &[u8]) -> Option<&[u8]> {
    let is_ip = matches!(ethernet::ethertype(frame), ethernet::ETHERTYPE_IPV4 | ethernet::ETHERTYPE_IPV6);
    frame.get(ethernet::HEADER_LEN..).filter(|_| is_ip)
}

/// The IP packet in a frame that waits for a worker, which may have a tag of the flow cache.
fn ip_behind_tag(frame: &[u8]) -> Option<&[u8]> {
    if ethernet::ethertype(frame) != ETHERTYPE_TAG {
        return ip_of(frame);
    }
    frame.get(ethernet::HEADER_LEN + 4..)
}

fn ip_of_mut(frame: &mut [u8]) -> Option<&mut [u8]> {
    ip_of(frame)?;
    frame.get_mut(ethernet::HEADER_LEN..)
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
