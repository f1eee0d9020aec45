//! The last stage: the frame leaves, and its connection is placed in the flow cache where it belongs there.

use uvs_wire::{Address, Packet};

use crate::base::frame::Frame;
use crate::base::verdict::Verdict;
use crate::net::lane::Lane;
use crate::net::network::Hop;
use crate::path::output::output;
use crate::path::placing::place_flow;
use crate::scene::Scene;
use crate::track::connection::RequestKey;

/// How a frame leaves.
pub(crate) struct Leaving {
    pub(crate) hop: Hop,
    /// What a translated request had asked for.
    pub(crate) asked_for: Option<(Address, u16)>,
    /// A request whose connection belongs into the flow cache and is not there: whether the connection begins with it.
    pub(crate) uncached: Option<bool>,
}

impl Leaving {
    /// As it is, to that hop.
    pub(crate) fn to(hop: Hop) -> Self {
        Self { hop, asked_for: None, uncached: None }
    }
}

/// Hands a packet to its next hop. `packet`: as it stands in the frame, or in the tunnel there.
#[inline(always)]
pub(crate) fn emit(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &Packet,
    leaving: &Leaving,
) -> Verdict {
    let verdict = output(scene, lane, frame, &leaving.hop, leaving.asked_for);
    if let (Some(is_first), Verdict::Transmit(_)) = (leaving.uncached, verdict) {
        let asked_for = leaving.asked_for.unwrap_or((packet.dst, packet.dst_port));
        let key = RequestKey::between((packet.src, packet.src_port), asked_for, packet.protocol);
        place_flow(scene, lane, &key, is_first);
    }
    verdict
}
