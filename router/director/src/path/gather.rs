//! Fragments on their way in: which of them are gathered, and who hears of those that never came.

use uvs_wire::{Packet, icmp, rewrite};

use crate::base::frame::Frame;
use crate::base::spec::Protocol;
use crate::base::time::Instant;
use crate::base::verdict::{DropReason, Verdict};
use crate::net::lane::Lane;
use crate::net::reassembly::{Added, Expired};
use crate::path::report::{Report, check_mtu, check_ttl, report};
use crate::scene::snapshot::Snapshot;
use crate::scene::{Scene, Tables};

/// A fragment. It waits for the others where the kernel with IPVS would gather them: for us, and on their way
/// through while there are services (of IPv4, if of a protocol that IPVS knows), or answers of destinations that were
/// removed may come. The whole packet stands in `frame` then; other fragments are left as they are.
pub(crate) fn gather(
    scene: &Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    packet: Packet,
) -> Result<Packet, Verdict> {
    let snapshot = scene.snapshot;
    if !snapshot.network.is_local_seen_from(packet.dst, scene.port) {
        let balanced = !packet.is_v4()
            || packet.protocol == icmp::PROTOCOL_V4
            || Protocol::from_number(packet.protocol).is_some();
        let late = || !snapshot.options.compat_ipvs && scene.tables.reals.has_removed();
        if !balanced || !snapshot.services.balance(&packet) && !late() {
            return Ok(packet);
        }
        // In the kernel IPv4 fragments are gathered later than these are looked at.
        if packet.is_v4() {
            check_ttl(scene, lane, frame, &packet)?;
            if let Some(hop) = snapshot.network.route(packet.dst) {
                check_mtu(scene, lane, frame, &packet, hop.mtu)?;
            }
        }
    }
    let (added, evicted) = scene.tables.reassembly.add(frame.bytes(), &packet, scene.port, scene.now);
    for _ in 0..evicted {
        scene.tables.drops.count(DropReason::FragmentLimit);
    }
    match added {
        Added::Waits => Err(Verdict::Consume),
        Added::Refused(reason) => Err(Verdict::Drop(reason)),
        Added::Whole(bytes, fragments) => {
            frame.fill(&bytes);
            frame.fragments = Some(Box::new(fragments));
            Packet::parse(frame.bytes()).map_err(|error| Verdict::Drop(error.into()))
        }
    }
}

/// Gives up packets that are not whole in time; who sent the first fragment of one hears of it.
pub(crate) fn expire_fragments(tables: &Tables, snapshot: &Snapshot, now: Instant, lane: &mut Lane) {
    for Expired { port, first } in tables.reassembly.expire(now) {
        tables.drops.count(DropReason::FragmentLimit);
        let Some(mut first) = first else { continue };
        let Ok(mut packet) = Packet::parse_quoted(&first) else { continue };
        if !snapshot.network.is_local_seen_from(packet.dst, port) {
            rewrite::decrement_ttl(&mut first, &mut packet);
        }
        let scene = Scene::new(tables, snapshot, port, now);
        report(&scene, lane, &first, &packet, Report::ReassemblyTimeout);
    }
}
