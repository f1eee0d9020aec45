//! Counts of what passes between the workers and the devices.
//!
//! ```text
//!   worker 0 --> lane 0: [interface 0, interface 1, ...]  \
//!   worker 1 --> lane 1: [interface 0, interface 1, ...]   >-- summed up when somebody asks
//!   timer    --> lane 2: [interface 0, interface 1, ...]  /
//! ```
//! Each thread writes a lane of its own, so counting costs no locked instruction and no shared cache line.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use uvs_director::PortId;

use crate::alive::Beat;

/// Why a device refused a read or a write. Each is one label in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoFailure {
    /// The device's queue is full.
    QueueFull,
    /// The kernel has no memory for the frame.
    NoBuffers,
    /// The link is down.
    LinkDown,
    /// The kernel does not take such a frame.
    Rejected,
    /// Anything else.
    Other,
}

impl IoFailure {
    /// All failures, in the order of their discriminants.
    pub const ALL: [Self; 5] =
        [Self::QueueFull, Self::NoBuffers, Self::LinkDown, Self::Rejected, Self::Other];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NoBuffers => "no_buffers",
            Self::LinkDown => "link_down",
            Self::Rejected => "rejected",
            Self::Other => "other",
        }
    }

    /// The class of an error of the operating system. A TUN/TAP device answers EIO while its link is down and
    /// EBADFD once the link is gone.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => Self::QueueFull,
            Some(Errno::ENOBUFS | Errno::ENOMEM) => Self::NoBuffers,
            Some(Errno::EIO | Errno::ENETDOWN | Errno::EBADFD | Errno::ENODEV) => Self::LinkDown,
            Some(Errno::EINVAL | Errno::EMSGSIZE | Errno::E2BIG) => Self::Rejected,
            _ if error.kind() == io::ErrorKind::WouldBlock => Self::QueueFull,
            _ => Self::Other,
        }
    }
}

/// One direction of one interface.
#[derive(Debug, Default)]
struct Flow {
    frames: AtomicU64,
    bytes: AtomicU64,
    gso_packets: AtomicU64,
    gso_segments: AtomicU64,
    split_gso_packets: AtomicU64,
    errors: [AtomicU64; IoFailure::ALL.len()],
}

/// What one thread counts of one interface.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    received: Flow,
    transmitted: Flow,
}

/// What one thread counts. Only that thread may count here.
#[derive(Debug)]
pub struct Lane {
    /// When its thread went round its loop last; of threads that have one.
    pub beat: Beat,
    cells: Box<[Cell]>,
}

impl Lane {
    /// A lane for a director with that many interfaces.
    pub fn new(interfaces: usize) -> Self {
        Self { beat: Beat::default(), cells: (0..interfaces).map(|_| Cell::default()).collect() }
    }

    /// A frame of `bytes` was read, which stands for `packets`.
    pub fn received(&self, port: PortId, bytes: usize, packets: usize) {
        if let Some(cell) = self.cells.get(usize::from(port.0)) {
            cell.received.passed(bytes, packets, 1);
        }
    }

    /// A read failed.
    pub fn receive_failed(&self, port: PortId, failure: IoFailure) {
        if let Some(cell) = self.cells.get(usize::from(port.0)) {
            cell.received.failed(failure);
        }
    }

    /// A frame of `bytes` was written, which stands for `packets`, in that many writes.
    pub fn transmitted(&self, port: PortId, bytes: usize, packets: usize, writes: usize) {
        if let Some(cell) = self.cells.get(usize::from(port.0)) {
            cell.transmitted.passed(bytes, packets, writes);
        }
    }

    /// A write failed; the frame is lost.
    pub fn transmit_failed(&self, port: PortId, failure: IoFailure) {
        if let Some(cell) = self.cells.get(usize::from(port.0)) {
            cell.transmitted.failed(failure);
        }
    }
}

impl Flow {
    fn passed(&self, bytes: usize, packets: usize, writes: usize) {
        add(&self.frames, 1);
        add(&self.bytes, bytes as u64);
        if packets > 1 {
            add(&self.gso_packets, 1);
            add(&self.gso_segments, packets as u64);
        }
        if writes > 1 {
            add(&self.split_gso_packets, 1);
        }
    }

    fn failed(&self, failure: IoFailure) {
        add(&self.errors[failure as usize], 1);
    }
}

/// Adds without a locked instruction: this thread is the only writer.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// The counts of one direction of one interface, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Frames; a GSO packet counts as one.
    pub frames: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
    /// Those of the frames that were GSO packets.
    pub gso_packets: u64,
    /// The packets in these.
    pub gso_segments: u64,
    /// Those of the GSO packets that were written packet by packet, for the device did not take them as one.
    pub split_gso_packets: u64,
    /// Failures, in the order of [`IoFailure::ALL`].
    pub errors: [u64; IoFailure::ALL.len()],
}

impl FlowCounts {
    fn add(&mut self, flow: &Flow) {
        self.frames += flow.frames.load(Relaxed);
        self.bytes += flow.bytes.load(Relaxed);
        self.gso_packets += flow.gso_packets.load(Relaxed);
        self.gso_segments += flow.gso_segments.load(Relaxed);
        self.split_gso_packets += flow.split_gso_packets.load(Relaxed);
        for (sum, error) in self.errors.iter_mut().zip(&flow.errors) {
            *sum += error.load(Relaxed);
        }
    }
}

/// Received and transmitted on one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounts {
    /// From the device to the director.
    pub received: FlowCounts,
    /// From the director to the device.
    pub transmitted: FlowCounts,
}

/// Sums the lanes up for one interface.
pub fn sum<'a>(lanes: impl IntoIterator<Item = &'a Lane>, port: PortId) -> InterfaceCounts {
    let mut counts = InterfaceCounts::default();
    for cell in lanes.into_iter().filter_map(|lane| lane.cells.get(usize::from(port.0))) {
        counts.received.add(&cell.received);
        counts.transmitted.add(&cell.transmitted);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_add_up_by_interface() {
        let lanes = [Lane::new(2), Lane::new(2)];
        lanes[0].received(PortId(0), 60, 1);
        lanes[0].transmitted(PortId(1), 100, 1, 1);
        lanes[1].transmitted(PortId(1), 1500, 1, 1);
        lanes[1].transmitted(PortId(1), 4000, 3, 1);
        lanes[0].transmitted(PortId(1), 3000, 2, 2);
        lanes[1].transmit_failed(PortId(1), IoFailure::LinkDown);
        lanes[1].receive_failed(PortId(7), IoFailure::Other);

        let first = sum(&lanes, PortId(0));
        assert_eq!((first.received.frames, first.received.bytes), (1, 60));
        assert_eq!(first.transmitted, FlowCounts::default());
        let second = sum(&lanes, PortId(1));
        assert_eq!((second.transmitted.frames, second.transmitted.bytes), (4, 8600));
        let gso_packets = second.transmitted;
        assert_eq!(
            (gso_packets.gso_packets, gso_packets.gso_segments, gso_packets.split_gso_packets),
            (2, 5, 1)
        );
        assert_eq!(second.transmitted.errors, [0, 0, 1, 0, 0]);
    }

    #[test]
    fn errors_are_classified() {
        let cases = [
            (Errno::EAGAIN, IoFailure::QueueFull),
            (Errno::ENOBUFS, IoFailure::NoBuffers),
            (Errno::EIO, IoFailure::LinkDown),
            (Errno::EBADFD, IoFailure::LinkDown),
            (Errno::EINVAL, IoFailure::Rejected),
            (Errno::EPERM, IoFailure::Other),
        ];
        for (errno, failure) in cases {
            assert_eq!(IoFailure::of(&io::Error::from(errno)), failure, "{errno}");
        }
        for (index, failure) in IoFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, index, "ALL is in the order of the discriminants");
        }
    }
}
