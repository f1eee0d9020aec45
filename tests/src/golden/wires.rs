//! A replay whose frames pass wires, and with them a flow cache, before they come to the director.

use std::sync::Arc;

use uvs_director::Instant;
use uvs_director::flow_cache::FlowCache;

use super::scenario::Side;

/// What became of a frame on its way to the director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It came to the director, as these bytes: a cache may have put a ticket into it.
    Came(Vec<u8>),
    /// It was forwarded before it came there: over which wire, and as what.
    Flew(Side, Vec<u8>),
    /// Nobody has seen it again.
    Lost,
}

/// Wires on both sides of a director, with a cache on them.
pub trait Wires {
    /// The cache, in the time of the recording.
    fn cache(&self) -> Arc<dyn FlowCache>;

    /// Sends a frame to the director at this moment of the recording.
    fn pass(&mut self, side: Side, frame: &[u8], now: Instant) -> Passed;
}
