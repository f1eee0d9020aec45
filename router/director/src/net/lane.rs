//! What one worker owns while it handles a frame: the frames that the director originates, and what it remembers.

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::memo::Memo;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Lane {
    frames: Vec<(PortId, Frame)>,
    pub(crate) memo: Memo,
}

impl Lane {
    /// Has a frame leave through `port`, after those that are there already.
    pub(crate) fn push(&mut self, port: PortId, frame: Frame) {
        self.frames.push((port, frame));
    }

    /// Has a frame leave behind the others as its verdict says.
    ///
    /// # Errors
    /// It was dropped, for that reason.
    pub(crate) fn follow(&mut self, verdict: Verdict, frame: Frame) -> Result<(), DropReason> {
        match verdict {
            Verdict::Transmit(port) => self.push(port, frame),
            Verdict::Consume => {}
            Verdict::Drop(reason) => return Err(reason),
        }
        Ok(())
    }

    /// What is to leave.
    pub(crate) fn frames(&self) -> &[(PortId, Frame)] {
        &self.frames
    }

    /// Takes all frames out, first in first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (PortId, Frame)> + '_ {
        self.frames.drain(..)
    }
}
