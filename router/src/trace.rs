//! Packets for whoever traces: what workers write down while somebody wants to see them, and nothing else.
//!
//! ```text
//!   worker --on? no--> Director::handle
//!              `-yes-> Director::handle_told > wanted by a trace? > its ring of this worker   --> reader
//! ```
//! Off, a trace costs a worker one look at a flag in each batch. On, each frame is copied as far as somebody wants it.
//! A ring is bounded, in records and in bytes: the oldest make room, and are counted. Nobody waits for a reader.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use uvs_director::trace::{Filter, Told};
use uvs_director::{Director, DropReason, Frame, Instant, Outbox, PortId, Verdict};
use uvs_wire::ethernet;

/// So many traces may run at one time.
pub(crate) const TRACES_MAX: usize = 4;
/// A ring has so many records at the most, and so many bytes of frames.
const RING_RECORDS: usize = 4096;
const RING_BYTES: usize = 4 << 20;

/// Bytes on an interface.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    pub(crate) port: PortId,
    /// The first of them.
    pub(crate) bytes: Vec<u8>,
    /// How many there are.
    pub(crate) len: usize,
    /// Packets in it, of a GSO packet.
    pub(crate) segments: u32,
    /// The device fills its checksum in.
    pub(crate) is_partial: bool,
}

impl Bytes {
    fn of(port: PortId, frame: &Frame, snap: usize) -> Self {
        let bytes = frame.bytes();
        Self {
            port,
            bytes: bytes[..bytes.len().min(snap)].to_vec(),
            len: bytes.len(),
            segments: u32::try_from(frame.packets()).unwrap_or(u32::MAX),
            is_partial: frame.offload.needs_checksum,
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It came in, and was handled.
    Handled(Verdict),
    /// It had waited for a neighbour in vain.
    GivenUp(DropReason),
    /// It is the director's own.
    Own,
}

/// One frame, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    pub(crate) at: Instant,
    /// As it came in, or as it would have left.
    pub(crate) frame: Option<Bytes>,
    pub(crate) end: End,
    pub(crate) told: Told,
    pub(crate) sent: Vec<Bytes>,
}

impl Seen {
    fn size(&self) -> usize {
        let frames = self.frame.iter().chain(&self.sent);
        size_of::<Self>() + frames.map(|it| size_of::<Bytes>() + it.bytes.len()).sum::<usize>()
    }
}

/// What one thread has written down for a trace.
#[derive(Debug, Default)]
struct Ring {
    seen: VecDeque<Seen>,
    bytes: usize,
    lost: u64,
}

impl Ring {
    fn push(&mut self, seen: Seen) {
        self.bytes += seen.size();
        self.seen.push_back(seen);
        while self.seen.len() > RING_RECORDS || self.bytes > RING_BYTES && self.seen.len() > 1 {
            let Some(oldest) = self.seen.pop_front() else { return };
            self.bytes -= oldest.size();
            self.lost += 1;
        }
    }
}

/// One trace.
#[derive(Debug)]
pub(crate) struct Trace {
    filter: Filter,
    /// So many bytes of each frame.
    snap: usize,
    numbers: AtomicU64,
    /// One for each thread that handles frames.
    rings: Box<[Mutex<Ring>]>,
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trace {
    fn put(&self, lane: usize, seen: &Seen) {
        let number = self.numbers.fetch_add(1, Relaxed) + 1;
        if let Some(ring) = self.rings.get(lane) {
            let mut seen = Seen { number, ..seen.clone() };
            for frame in seen.frame.iter_mut().chain(&mut seen.sent) {
                frame.bytes.truncate(self.snap);
            }
            lock(ring).push(seen);
        }
    }

    /// Takes what was seen since the last call, in order, and how many were lost meanwhile.
    pub(crate) fn take(&self) -> (Vec<Seen>, u64) {
        let (mut seen, mut lost) = (Vec::new(), 0);
        for ring in &self.rings {
            let Ring { seen: some, lost: gone, .. } = core::mem::take(&mut *lock(ring));
            seen.extend(some);
            lost += gone;
        }
        seen.sort_by_key(|it| it.number);
        (seen, lost)
    }
}

/// The traces that run.
#[derive(Debug)]
pub struct Traces {
    is_on: AtomicBool,
    running: RwLock<Running>,
    /// Threads that handle frames.
    lanes: usize,
}

/// The traces that run, as a thread has them for a batch of frames.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    all: Arc<[Arc<Trace>]>,
    /// By port: whether frames have an Ethernet header.
    ethernet: Arc<[bool]>,
}

impl Traces {
    /// None yet. `lanes`: threads that handle frames; `ethernet`: by port, whether frames have an Ethernet header.
    pub fn new(lanes: usize, ethernet: Vec<bool>) -> Self {
        let running = Running { all: Arc::default(), ethernet: ethernet.into() };
        Self { is_on: AtomicBool::new(false), running: RwLock::new(running), lanes }
    }

    /// Those that run, if any does.
    #[inline]
    pub(crate) fn running(&self) -> Option<Running> {
        if self.is_on.load(Relaxed) { Some(self.look()) } else { None }
    }

    #[cold]
    fn look(&self) -> Running {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a trace, which runs until it is [`end`](Self::end)ed. `None`: there are too many.
    pub(crate) fn begin(&self, filter: Filter, snap: usize) -> Option<Arc<Trace>> {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        if running.all.len() >= TRACES_MAX {
            return None;
        }
        let rings = (0..self.lanes).map(|_| Mutex::default()).collect();
        let trace = Arc::new(Trace { filter, snap, numbers: AtomicU64::new(0), rings });
        running.all = running.all.iter().cloned().chain([Arc::clone(&trace)]).collect();
        self.is_on.store(true, Relaxed);
        Some(trace)
    }

    /// Ends a trace.
    pub(crate) fn end(&self, trace: &Arc<Trace>) {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        running.all = running.all.iter().filter(|it| !Arc::ptr_eq(it, trace)).cloned().collect();
        self.is_on.store(!running.all.is_empty(), Relaxed);
    }

    /// What those that run want to see, but those that want everything.
    pub(crate) fn filters(&self) -> Vec<Filter> {
        self.look().all.iter().map(|it| it.filter).filter(|it| !it.is_all()).collect()
    }
}

impl Running {
    fn snap(&self) -> usize {
        self.all.iter().map(|it| it.snap).max().unwrap_or_default()
    }

    fn ip<'a>(&self, frame: &'a Bytes) -> &'a [u8] {
        let is_ethernet = self.ethernet.get(usize::from(frame.port.0)).is_some_and(|it| *it);
        let start = match frame.bytes.get(12..14) {
            _ if !is_ethernet => 0,
            // The tag that the flow cache numbers frames with.
            Some([0x81, 0] | [0x88, 0xa8]) => ethernet::HEADER_LEN + 4,
            _ => ethernet::HEADER_LEN,
        };
        frame.bytes.get(start..).unwrap_or_default()
    }

    /// Shows it to the traces that want it.
    fn show(&self, lane: usize, seen: &Seen) {
        for trace in self.all.iter() {
            let filter = &trace.filter;
            let of_connection = || {
                let view = seen.told.connection.as_ref().map(|facts| &facts.view);
                view.is_some_and(|it| filter.matches(it.client, it.virtual_addr, it.destination))
            };
            let mut frames = seen.frame.iter().chain(&seen.sent);
            if filter.is_all() || of_connection() || frames.any(|frame| filter.matches_packet(self.ip(frame)))
            {
                trace.put(lane, seen);
            }
        }
    }

    /// Handles a frame, and shows it to the traces that want it. `lane`: of the thread that calls.
    #[cold]
    pub(crate) fn handle(
        &self,
        lane: usize,
        director: &Director,
        port: PortId,
        (frame, now): (&mut Frame, Instant),
        out: &mut Outbox,
    ) -> Verdict {
        let snap = self.snap();
        let came = Bytes::of(port, frame, snap);
        let mut told = Told::default();
        let verdict = director.handle_told(port, frame, now, out, &mut told);
        let mut sent = Vec::new();
        if let Verdict::Transmit(port) = verdict {
            sent.push(Bytes::of(port, frame, snap));
        }
        sent.extend(out.frames().iter().map(|(port, frame)| Bytes::of(*port, frame, snap)));
        let end = End::Handled(verdict);
        self.show(lane, &Seen { number: 0, at: now, frame: Some(came), end, told, sent });
        verdict
    }

    /// Has the director do what is due, and shows what it gives up and says.
    #[cold]
    pub(crate) fn handle_timeout(&self, lane: usize, director: &Director, now: Instant, out: &mut Outbox) {
        let snap = self.snap();
        let mut lost = Vec::new();
        director.handle_timeout_told(now, out, |port, ip, reason| {
            lost.push((self.as_frame(port, ip, snap), reason));
        });
        for (frame, reason) in lost {
            let end = End::GivenUp(reason);
            let seen =
                Seen { number: 0, at: now, frame: Some(frame), end, told: Told::default(), sent: Vec::new() };
            self.show(lane, &seen);
        }
        for (port, frame) in out.frames() {
            let sent = vec![Bytes::of(*port, frame, snap)];
            let seen = Seen { number: 0, at: now, frame: None, end: End::Own, told: Told::default(), sent };
            self.show(lane, &seen);
        }
    }

    /// An IP packet as a frame of its interface, from nobody to nobody.
    fn as_frame(&self, port: PortId, ip: &[u8], snap: usize) -> Bytes {
        let mut bytes = Vec::new();
        if self.ethernet.get(usize::from(port.0)).is_some_and(|it| *it) {
            let is_v4 = ip.first().is_some_and(|first| first >> 4 == 4);
            let kind = if is_v4 { ethernet::ETHERTYPE_IPV4 } else { ethernet::ETHERTYPE_IPV6 };
            bytes.resize(ethernet::HEADER_LEN, 0);
            ethernet::write(&mut bytes, [0; 6], [0; 6], kind);
        }
        let len = bytes.len() + ip.len();
        bytes.extend_from_slice(ip);
        bytes.truncate(snap);
        Bytes { port, bytes, len, segments: 1, is_partial: false }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    fn seen(bytes: usize) -> Seen {
        let frame =
            Bytes { port: PortId(0), bytes: vec![0; bytes], len: bytes, segments: 1, is_partial: false };
        Seen {
            number: 0,
            at: Instant::ZERO,
            frame: Some(frame),
            end: End::Own,
            told: Told::default(),
            sent: Vec::new(),
        }
    }

    #[test]
    fn a_reader_that_is_slow_loses_the_oldest_and_hears_how_many() {
        let traces = Traces::new(1, vec![true]);
        assert!(traces.running().is_none(), "nobody looks");
        let trace = traces.begin(Filter::default(), 100).unwrap();
        let running = traces.running().unwrap();
        for _ in 0..RING_RECORDS + 7 {
            running.show(0, &seen(10));
        }
        let (got, lost) = trace.take();
        assert_eq!((got.len(), lost), (RING_RECORDS, 7));
        assert_eq!((got[0].number, got.last().unwrap().number), (8, RING_RECORDS as u64 + 7));
        assert_eq!(trace.take().0.len(), 0, "they are told once");
        assert_eq!(trace.take().1, 0);
        traces.end(&trace);
        assert!(traces.running().is_none(), "nobody looks any more");
    }

    #[test]
    fn a_ring_is_bounded_in_bytes_too_and_a_frame_is_cut_as_asked() {
        let traces = Traces::new(1, vec![true]);
        let large = traces.begin(Filter::default(), usize::MAX).unwrap();
        let small = traces.begin(Filter::default(), 100).unwrap();
        let running = traces.running().unwrap();
        for _ in 0..200 {
            running.show(0, &seen(60_000));
        }
        let (got, lost) = large.take();
        let bytes: usize = got.iter().map(Seen::size).sum();
        assert!(bytes <= RING_BYTES && lost == 200 - got.len() as u64, "{bytes} {lost}");
        let (got, lost) = small.take();
        assert_eq!((got.len(), lost), (200, 0));
        assert!(got.iter().all(|it| it.frame.as_ref().is_some_and(|it| it.bytes.len() == 100)));
    }

    #[test]
    fn there_are_no_more_traces_than_a_few() {
        let traces = Traces::new(1, vec![true]);
        let all: Vec<_> = (0..TRACES_MAX).map(|_| traces.begin(Filter::default(), 1).unwrap()).collect();
        assert!(traces.begin(Filter::default(), 1).is_none());
        traces.end(&all[1]);
        assert!(traces.begin(Filter::default(), 1).is_some(), "there is room again");
        assert!(traces.filters().is_empty(), "none of them names anybody");
    }
}
