//! The data plane: plain threads between the devices and the director.
//!
//! ```text
//!   device 0, queue 0 --> worker --\                       /--> any device
//!   device 1, queue 0 --> worker ---+--> Director::handle -+
//!                          timer --/     handle_timeout    \--> nowhere
//! ```
//! Invariants: nothing here awaits; a worker allocates nothing per packet; what a device refuses to take is counted and
//! forgotten; a worker whose device is deleted waits for another; a thread that ends on its own ends the director.

use std::any::Any;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tokio::sync::mpsc::UnboundedSender;
use uvs_device::{Device, Poller, Queue, StopHandle};
use uvs_director::{DestinationId, Director, DropReason, Frame, Outbox, Place, PortId, Verdict};
use uvs_wire::arp::ArpRepr;
use uvs_wire::ethernet;

use crate::clock::Clock;
use crate::devices::{Devices, List};
use crate::prefetch;
use crate::trace::Traces;
use crate::traffic::{IoFailure, Lane};

/// Frames that a worker handles with one reading of the clock before it looks for a stop.
const BATCH: usize = 64;

/// Frames that are read before the first of them is handled while the table is large, so that the processor fetches the
/// memory for all of them at once. More gain nothing.
const GROUP: usize = 8;

/// The longest sleep of a worker: then it looks whether its device was replaced.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// How often a worker without a device looks for another.
const DEVICE_WAIT: Duration = Duration::from_millis(100);

/// The longest sleep of the timer: what is armed for earlier than it knew, it finds after this.
const TIMER_SLEEP_MAX: Duration = Duration::from_millis(100);

/// The shortest one, so that a deadline which stays in the past costs no whole core.
const TIMER_SLEEP_MIN: Duration = Duration::from_millis(1);

/// What all threads of the data plane share.
pub struct DataPlane {
    /// The engine.
    pub director: Arc<Director>,
    /// Its time.
    pub clock: Clock,
    /// How the workers run.
    pub workers: uvs_config::Workers,
    /// By port.
    pub devices: Devices,
    /// The counts; one lane for each worker, one for the timer, one for VRRP, one for drains, one for the director's
    /// own sockets, one for the keeper of the host and one for the control thread, as [`lanes`] makes them.
    pub lanes: Arc<[Lane]>,
    /// Who wants to see packets.
    pub traces: Arc<Traces>,
}

/// The lanes for these devices: one for each queue, one for the timer, one for VRRP, one for drains, one for the
/// director's own sockets, one for the keeper, one for the control thread.
pub fn lanes(devices: &[Device]) -> Arc<[Lane]> {
    let workers: usize = devices.iter().map(|device| device.queues().len()).sum();
    (0..workers + 6).map(|_| Lane::new(devices.len())).collect()
}

/// The lanes of the workers and, behind them, of the timer.
pub fn threads(lanes: &[Lane]) -> &[Lane] {
    &lanes[..lanes.len().saturating_sub(5)]
}

/// A thread of the data plane ended.
#[derive(Debug)]
pub struct Ended {
    /// Its name.
    pub thread: String,
    /// Why, unless it was told to.
    pub error: Option<anyhow::Error>,
}

/// How long threads may take to end once they were told to. What they do between two looks takes microseconds, a batch
/// of frames through a busy device some milliseconds.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How often a thread that has not ended yet is looked at.
const STOP_LOOK: Duration = Duration::from_millis(1);

/// The running threads. [`Self::stop`] them, or they go on until the process ends.
pub struct Workers {
    stop: StopHandle,
    /// By name.
    threads: Vec<(String, JoinHandle<()>)>,
}

impl Workers {
    /// Starts a worker for each queue of each device, and the timer. Each tells `ended` when it is over.
    ///
    /// # Errors
    /// A thread or its poller cannot be made; those that were started are stopped again.
    pub fn start(plane: &Arc<DataPlane>, ended: &UnboundedSender<Ended>) -> anyhow::Result<Self> {
        let stop = StopHandle::new().context("the workers' stop event cannot be made")?;
        let mut workers = Self { stop, threads: Vec::new() };
        match workers.start_all(plane, ended) {
            Ok(()) => Ok(workers),
            Err(error) => {
                if let Err(stuck) = workers.stop() {
                    tracing::error!("{stuck}");
                }
                Err(error)
            }
        }
    }

    fn start_all(&mut self, plane: &Arc<DataPlane>, ended: &UnboundedSender<Ended>) -> anyhow::Result<()> {
        let mut lane = 0;
        let (version, devices) = plane.devices.current();
        for (port, device) in (0u16..).map(PortId).zip(&*devices) {
            for index in 0..device.queues().len() {
                let (plane, devices) = (Arc::clone(plane), Arc::clone(&devices));
                let worker = Worker { plane, devices, version, port, queue: index, lane };
                let stop = self.stop.clone();
                self.spawn(format!("{}-{index}", device.name()), ended, move || worker.run(&stop))?;
                lane += 1;
            }
        }
        let poller = Poller::new::<&Queue>([], &self.stop).context("a poller cannot be made")?;
        let plane = Arc::clone(plane);
        self.spawn("timer".to_owned(), ended, move || timer(&plane, lane, poller))
    }

    fn spawn(
        &mut self,
        name: String,
        ended: &UnboundedSender<Ended>,
        body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let ended = ended.clone();
        let thread = thread::Builder::new().name(name.clone()).spawn({
            let name = name.clone();
            move || {
                // After a panic nothing is used but what the shutdown needs.
                let error = match catch_unwind(AssertUnwindSafe(body)) {
                    Ok(result) => result.err(),
                    Err(payload) => Some(anyhow::anyhow!("panicked: {}", panic_text(&*payload))),
                };
                // Nobody listens once the director shuts down.
                let _ = ended.send(Ended { thread: name, error });
            }
        });
        let thread = thread.with_context(|| format!("thread {name} cannot be started"))?;
        self.threads.push((name, thread));
        Ok(())
    }

    /// Stops all threads and waits for them, but not for ever: a thread that does not answer is left behind, so that
    /// what was done to the host can be undone.
    ///
    /// # Errors
    /// Names the threads that have not ended. They hold on to their devices until the process ends.
    pub fn stop(self) -> anyhow::Result<()> {
        self.stop_within(STOP_WITHIN)
    }

    fn stop_within(self, patience: Duration) -> anyhow::Result<()> {
        self.stop.stop();
        let told = Instant::now();
        let mut stuck = Vec::new();
        for (name, thread) in self.threads {
            while !thread.is_finished() && told.elapsed() < patience {
                thread::sleep(STOP_LOOK);
            }
            if thread.is_finished() {
                // A panic was caught inside, and told.
                let _ = thread.join();
            } else {
                stuck.push(name);
            }
        }
        anyhow::ensure!(
            stuck.is_empty(),
            "worker {} did not end within {patience:?} of being told to; the director ends without it\n  \
             fix: this is a fault of uvs: please report it, with the output of `uvs status --json` from before if you can",
            stuck.join(", ")
        );
        Ok(())
    }
}

/// What a panic said.
fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// Serves one queue of one device.
struct Worker {
    plane: Arc<DataPlane>,
    /// All devices, as of this version of them.
    devices: List,
    version: u64,
    port: PortId,
    queue: usize,
    lane: usize,
}

/// What one round of reading gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Received {
    frames: usize,
    /// Those that were lost: too long, or with a broken virtio header.
    rejected: usize,
    /// There are no more right now.
    is_drained: bool,
}

/// Reads frames into `frames` as `next` gives them, until they are full or none is left; no more than a batch of them
/// is rejected in one round, so that whoever sends nothing else does not keep a worker here.
///
/// # Errors
/// The device is out of service.
fn receive_round(
    frames: &mut [Frame],
    lane: &Lane,
    port: PortId,
    mut next: impl FnMut(&mut Frame) -> io::Result<bool>,
) -> io::Result<Received> {
    let mut round = Received::default();
    while round.rejected < BATCH
        && let Some(frame) = frames.get_mut(round.frames)
    {
        match next(frame) {
            Ok(true) => {
                lane.received(port, frame.len(), frame.packets());
                round.frames += 1;
            }
            Ok(false) => {
                round.is_drained = true;
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                lane.receive_failed(port, IoFailure::Rejected);
                round.rejected += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(round)
}

/// Why a worker stopped serving a device.
enum Served {
    /// The director stops.
    Stopped,
    /// The device was replaced by another.
    Replaced,
    /// It is out of service, as when somebody deletes it (`ip link del`).
    Lost(io::Error),
}

impl Worker {
    fn run(mut self, stop: &StopHandle) -> anyhow::Result<()> {
        self.beat();
        bind(&self.plane.workers.cpus, self.queue)?;
        let mut frames: [Frame; GROUP] = std::array::from_fn(|_| Frame::new());
        let mut out = Outbox::new();
        loop {
            let device = Arc::clone(self.device());
            let queue = &device.queues()[self.queue];
            let poller = Poller::new([queue], stop).context("a poller cannot be made")?;
            match self.serve(&device, poller, stop, &mut frames, &mut out)? {
                Served::Stopped => return Ok(()),
                Served::Replaced => {}
                Served::Lost(error) => {
                    self.plane.lanes[self.lane].receive_failed(self.port, IoFailure::of(&error));
                    tracing::debug!(device = device.name(), queue = self.queue, %error, "out of service");
                    // A device that is gone counts as readable for ever.
                    let mut idle = Poller::new::<&Queue>([], stop).context("a poller cannot be made")?;
                    let is_out = |worker: &Self, frame: &mut Frame| {
                        let device = worker.device();
                        matches!(device.queues()[worker.queue].receive(frame), Err(error) if error.kind() != io::ErrorKind::InvalidData)
                    };
                    while !self.follow_devices() && is_out(&self, &mut frames[0]) {
                        self.beat();
                        if idle.wait(Some(DEVICE_WAIT)).context("waiting for a device failed")?.stopped() {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Says that it goes on.
    fn beat(&self) {
        self.plane.lanes[self.lane].beat.at(self.plane.clock.now());
    }

    fn device(&self) -> &Arc<Device> {
        &self.devices[usize::from(self.port.0)]
    }

    /// Takes notice of devices that were replaced. True: this worker's own was.
    fn follow_devices(&mut self) -> bool {
        if self.plane.devices.version() == self.version {
            return false;
        }
        let before = Arc::clone(self.device());
        (self.version, self.devices) = self.plane.devices.current();
        !Arc::ptr_eq(&before, self.device())
    }

    /// Serves one device until there is an end to it.
    fn serve(
        &mut self,
        device: &Device,
        mut poller: Poller,
        stop: &StopHandle,
        frames: &mut [Frame; GROUP],
        out: &mut Outbox,
    ) -> anyhow::Result<Served> {
        let busy_poll = self.plane.workers.busy_poll;
        loop {
            if poller.wait(Some(IDLE_MAX)).context("waiting for frames failed")?.stopped() {
                return Ok(Served::Stopped);
            }
            // A queue that fills a batch has more: whether to stop is all that is asked in between.
            let mut looked = Instant::now();
            while !stop.is_stopped() {
                if self.follow_devices() {
                    return Ok(Served::Replaced);
                }
                match self.batch(device, frames, out) {
                    Err(error) => return Ok(Served::Lost(error)),
                    Ok(BATCH) => {}
                    Ok(0) if busy_poll.is_zero() || looked.elapsed() >= busy_poll => break,
                    Ok(0) => std::hint::spin_loop(),
                    Ok(_) if busy_poll.is_zero() => break,
                    Ok(_) => looked = Instant::now(),
                }
            }
        }
    }

    /// Handles what is there, up to the bound, and returns how many frames that were, rejected ones included: fewer
    /// than the bound if there are no more.
    ///
    /// # Errors
    /// The device is out of service.
    fn batch(&self, device: &Device, frames: &mut [Frame; GROUP], out: &mut Outbox) -> io::Result<usize> {
        let (plane, devices) = (&*self.plane, &*self.devices);
        let lane = &plane.lanes[self.lane];
        let now = plane.clock.now();
        lane.beat.at(now);
        // What passed in the kernel came before what waits here.
        plane.director.catch_up(now, out);
        if !out.is_empty() {
            flush(devices, lane, self.queue, out);
        }
        let traces = plane.traces.running();
        // One by one they are written while they are in the innermost cache; with a large table that matters less.
        let group = if prefetch::AVAILABLE && plane.director.wants_ahead() { GROUP } else { 1 };
        let queue = &device.queues()[self.queue];
        let mut taken = 0;
        while taken < BATCH {
            let frames = &mut frames[..group];
            let round = receive_round(frames, lane, self.port, |frame| queue.receive(frame))?;
            let received = &mut frames[..round.frames];
            if received.len() > 1 {
                self.look_ahead(received, out);
            }
            for frame in received {
                let verdict = match &traces {
                    None => plane.director.handle(self.port, frame, now, out),
                    Some(traces) => traces.handle(self.lane, &plane.director, self.port, (frame, now), out),
                };
                if let Verdict::Transmit(port) = verdict {
                    transmit(devices, lane, self.queue, port, frame);
                }
                if !out.is_empty() {
                    flush(devices, lane, self.queue, out);
                }
            }
            taken += round.frames + round.rejected;
            if round.is_drained {
                plane.director.sent(out);
                return Ok(taken.min(BATCH - 1));
            }
        }
        plane.director.sent(out);
        Ok(BATCH)
    }

    /// Has the memory fetched that these frames will need.
    fn look_ahead(&self, frames: &[Frame], out: &mut Outbox) {
        let director = &self.plane.director;
        let mut ahead = [None; GROUP];
        for (ahead, frame) in ahead.iter_mut().zip(frames) {
            *ahead = director.look_ahead(self.port, frame, out, prefetch::fetch);
        }
        for ahead in ahead.into_iter().flatten() {
            director.look_further(ahead, prefetch::fetch);
        }
    }
}

/// Binds the calling thread, the worker of that queue, to one of `cpus`; none are all.
fn bind(cpus: &[u16], queue: usize) -> anyhow::Result<()> {
    let Some(&cpu) = cpus.get(queue % cpus.len().max(1)) else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu.into()).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).with_context(|| {
        format!(
            "cannot run on CPU {cpu}\n  fix: name CPUs of this machine in cpus of [workers]; lscpu shows them"
        )
    })
}

/// Writes one frame; `queue` is a preference, for a device with fewer takes another.
fn transmit(devices: &[Arc<Device>], lane: &Lane, queue: usize, port: PortId, frame: &Frame) {
    let Some(device) = devices.get(usize::from(port.0)) else { return };
    let queues = device.queues();
    transmit_on(device, &queues[queue % queues.len()], lane, port, frame);
}

fn transmit_on(device: &Device, queue: &Queue, lane: &Lane, port: PortId, frame: &Frame) {
    match queue.send(frame) {
        Ok(writes) => lane.transmitted(port, frame.len(), frame.packets(), writes),
        Err(error) => {
            let failure = IoFailure::of(&error);
            lane.transmit_failed(port, failure);
            tracing::debug!(device = device.name(), len = frame.len(), %error, "a frame was not taken");
        }
    }
}

/// Of a packet that the director says of itself, and no worker has received.
fn transmit_own(devices: &[Arc<Device>], lane: &Lane, port: PortId, frame: &Frame) {
    if let Some(device) = devices.get(usize::from(port.0)) {
        transmit_on(device, device.own(), lane, port, frame);
    }
}

fn flush(devices: &[Arc<Device>], lane: &Lane, queue: usize, out: &mut Outbox) {
    for (port, frame) in out.drain() {
        transmit(devices, lane, queue, port, &frame);
    }
}

/// What whoever asks keeps from slice to slice: see [`DataPlane::ask_connections`].
#[derive(Default)]
pub struct Asking(Outbox);

impl DataPlane {
    /// Sends a packet of one of the director's own sockets, which count in a lane of their own. `out`: kept from packet
    /// to packet.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn send_local(
        &self,
        packet: &mut Frame,
        now: uvs_director::Instant,
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        let Some(lane) = self.lanes.len().checked_sub(3).and_then(|at| self.lanes.get(at)) else {
            return Err(DropReason::NotHandled);
        };
        let (_, devices) = self.devices.current();
        let verdict = self.director.send_local(packet, now, out);
        if let Verdict::Transmit(port) = verdict {
            transmit_own(&devices, lane, port, packet);
        }
        for (port, frame) in out.drain() {
            transmit_own(&devices, lane, port, &frame);
        }
        match verdict {
            Verdict::Drop(reason) => Err(reason),
            Verdict::Transmit(_) | Verdict::Consume => Ok(()),
        }
    }

    /// Asks the ends of connections with these destinations for a segment, in one slice of the table; see
    /// [`Director::end_connections`]. Where to go on, if there is more, and whether anybody was asked. For the thread
    /// of drains, which has a lane of its own.
    pub fn ask_connections(
        &self,
        destinations: &[DestinationId],
        from: Place,
        Asking(out): &mut Asking,
    ) -> (Option<Place>, bool) {
        let next = self.director.ask_some(destinations, from, self.clock.now(), out);
        let asked = !out.is_empty();
        if asked && let Some(lane) = self.lanes.len().checked_sub(4).and_then(|at| self.lanes.get(at)) {
            flush(&self.devices.current().1, lane, 0, out);
        }
        (next, asked)
    }

    /// Sends an advertisement of VRRP. For whoever holds the state machine, one at a time, which has a lane of its own,
    /// as are the following two. `out`: kept from one to the next.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn send_advertisement(
        &self,
        port: PortId,
        packet: &mut Frame,
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        let verdict = self.director.send_advertisement(port, packet, self.clock.now(), out);
        let (_, devices) = self.devices.current();
        if let Some(lane) = self.vrrp_lane() {
            if let Verdict::Transmit(port) = verdict {
                transmit(&devices, lane, 0, port, packet);
            }
            flush(&devices, lane, 0, out);
        }
        match verdict {
            Verdict::Drop(reason) => Err(reason),
            Verdict::Transmit(_) | Verdict::Consume => Ok(()),
        }
    }

    /// Tells the links where these addresses of ours are.
    pub fn announce_some(&self, addresses: &[IpAddr], out: &mut Outbox) {
        self.director.announce_some(addresses, out);
        if let Some(lane) = self.vrrp_lane() {
            flush(&self.devices.current().1, lane, 0, out);
        }
    }

    /// Tells switches that advertisements are listened to.
    pub fn join_advertisements(&self, out: &mut Outbox) {
        self.director.join_advertisements(out);
        if let Some(lane) = self.vrrp_lane() {
            flush(&self.devices.current().1, lane, 0, out);
        }
    }

    fn vrrp_lane(&self) -> Option<&Lane> {
        self.lanes.len().checked_sub(5).and_then(|at| self.lanes.get(at))
    }

    /// Tells the links who we are. For the control thread: it counts in the last lane.
    pub fn announce(&self) {
        self.announce_in(1);
    }

    /// The same for the keeper, which has the lane before.
    pub fn announce_again(&self) {
        self.announce_in(2);
    }

    /// Counts in a lane, given by its place from the end.
    fn announce_in(&self, from_end: usize) {
        let mut out = Outbox::new();
        self.director.announce(&mut out);
        if let Some(lane) = self.lanes.len().checked_sub(from_end).and_then(|at| self.lanes.get(at)) {
            flush(&self.devices.current().1, lane, 0, &mut out);
        }
    }

    /// Asks the links who else has our addresses (ARP probes, RFC 5227 section 2.1.1); the director takes note of who
    /// answers. A real server that holds the VIP without ARP suppression keeps quiet until it is asked, and its answers
    /// to clients do not pass here. For the control thread, as [`Self::announce`].
    pub fn probe(&self) {
        let (mut announcements, mut out) = (Outbox::new(), Outbox::new());
        self.director.announce(&mut announcements);
        for (port, frame) in announcements.drain() {
            if let Some(probe) = probe_of(frame) {
                out.push(port, probe);
            }
        }
        if let Some(lane) = self.lanes.last() {
            flush(&self.devices.current().1, lane, 0, &mut out);
        }
    }
}

/// The probe for the address that an ARP announcement is about: the same without a sender's address, so that nobody
/// learns anything from it. `None`: it is none.
fn probe_of(mut announcement: Frame) -> Option<Frame> {
    let message = announcement.bytes_mut();
    if message.len() < ethernet::HEADER_LEN || ethernet::ethertype(message) != ethernet::ETHERTYPE_ARP {
        return None;
    }
    let message = &mut message[ethernet::HEADER_LEN..];
    let probe = ArpRepr { sender_ip: Ipv4Addr::UNSPECIFIED, ..ArpRepr::parse(message).ok()? };
    probe.emit(message);
    Some(announcement)
}

/// Expires what is due.
fn timer(plane: &DataPlane, number: usize, mut poller: Poller) -> anyhow::Result<()> {
    let lane = &plane.lanes[number];
    let mut out = Outbox::new();
    loop {
        let now = plane.clock.now();
        lane.beat.at(now);
        match plane.traces.running() {
            None => plane.director.handle_timeout(now, &mut out),
            Some(traces) => traces.handle_timeout(number, &plane.director, now, &mut out),
        }
        if !out.is_empty() {
            flush(&plane.devices.current().1, lane, 0, &mut out);
        }
        let sleep = plane.director.poll_at().map_or(TIMER_SLEEP_MAX, |at| at.since(plane.clock.now()));
        let sleep = sleep.clamp(TIMER_SLEEP_MIN, TIMER_SLEEP_MAX);
        if poller.wait(Some(sleep)).context("the timer cannot wait")?.stopped() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
