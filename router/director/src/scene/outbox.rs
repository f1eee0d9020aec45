//! What a worker hands in with each frame.

use core::fmt;

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::flow_cache::Passed;
use crate::net::lane::Lane;
use crate::scene::snapshot::Held;

/// Frames that the director originates while it handles one: ARP, ICMP, frames that waited for an
/// address, segments. The caller transmits them in order, after the frame at hand, and clears the box.
///
/// A worker keeps one box for all its calls: the director also keeps in it what it need not look up again for
/// the next frame.
#[derive(Default)]
pub struct Outbox {
    pub(crate) lane: Lane,
    pub(crate) held: Held,
    /// Of the flow cache: what was handled last that it has numbered, and whether it was told.
    pub(crate) passed: Option<(Passed, bool)>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("frames", &self.lane.frames()).finish_non_exhaustive()
    }
}

impl Outbox {
    /// An empty box.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a frame in, to leave through `port`.
    pub fn push(&mut self, port: PortId, frame: Frame) {
        self.lane.push(port, frame);
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.lane.frames().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.lane.frames().is_empty()
    }

    /// The frames that wait, first in first.
    pub fn frames(&self) -> &[(PortId, Frame)] {
        self.lane.frames()
    }

    /// Takes all frames out, first in first.
    pub fn drain(&mut self) -> impl Iterator<Item = (PortId, Frame)> + '_ {
        self.lane.drain()
    }
}
