//! Looking ahead, for workers; see [`path::ahead`](crate::path::ahead).

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::director::Director;
use crate::path::ahead::Ahead;
use crate::scene::outbox::Outbox;

impl Director {
    /// Whether the table is so large that looking ahead pays, for those who handle several frames in a row.
    #[inline]
    pub fn wants_ahead(&self) -> bool {
        self.tables.wants_ahead()
    }

    /// The first step for a frame that has come in on `port` and will be handled: shows `fetch` the place of the index
    /// that will be read, whose cache line it should have fetched, without waiting. Nothing is changed. `None`: there
    /// is none.
    #[inline]
    pub fn look_ahead(
        &self,
        port: PortId,
        frame: &Frame,
        out: &mut Outbox,
        fetch: impl Fn(*const u8),
    ) -> Option<Ahead> {
        self.tables.look_ahead(port, frame, out, fetch)
    }

    /// The second step: shows `fetch` the places of the entry that will be read.
    #[inline]
    pub fn look_further(&self, ahead: Ahead, fetch: impl Fn(*const u8)) {
        self.tables.look_further(ahead, fetch);
    }
}
