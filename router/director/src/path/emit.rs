//! The last stage: the frame leaves, and its connection is placed in the flow cache where it belongs there.

use uvs_wire::Packet;

use crate::base::frame::Frame;
use crate::base::verdict::Verdict;
use crate::net::lane::Lane;
use crate::path::heading::Heading;
use crate::path::output::{Sender, output};
use crate::path::placing::place_flow;
use crate::scene::Scene;
use crate::track::connection::RequestKey;

/// Hands a packet to its next hop. `packet`: as it stands in the frame, or in the tunnel there.
#[inline(always)]
pub(crate) fn emit(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: &Packet,
    heading: &Heading,
) -> Verdict {
    let sender = heading.asked_for.as_ref().map_or(Sender::Source, Sender::Translated);
    let verdict = output(scene, lane, frame, &heading.hop, sender);
    if heading.target.uncached
        && let Verdict::Transmit(_) = verdict
    {
        let asked_for = heading.asked_for.unwrap_or((packet.dst, packet.dst_port));
        let key = RequestKey::between((packet.src, packet.src_port), asked_for, packet.protocol);
        place_flow(scene, lane, &key, &heading.target);
    }
    verdict
}
