//! What passes through that is neither for us nor of a connection: by default only what real servers need.
//!
//! ```text
//!   from real servers, or their subnets                     passes, and is remembered
//!   to them: answers to that, and ICMP errors about it      passes
//!   to them: anything else                                  dropped: clients reach the services only
//!   over them, as a route of ours says (via a real server)  passes
//!   from a TUN device back into it                          passes: the host's kernel is the router there
//!   with the mark of a service that left it alone           passes
//!   among others                                            dropped: the director is not their router
//! ```

use uvs_wire::{Packet, icmp};

use crate::base::spec::{Family, Transit};
use crate::net::network::Hop;
use crate::net::talks::Talk;
use crate::path::icmp::is_icmp;
use crate::scene::Scene;

/// What becomes of a packet that belongs to no connection.
pub(crate) struct Judged {
    /// It goes on to its target.
    pub(crate) passes: bool,
    /// What it is answered with passes, too.
    begins_talk: bool,
}

/// Whether a packet that belongs to no connection goes on to its target.
#[cold]
pub(crate) fn may_pass(scene: &Scene<'_>, ip: &[u8], packet: &Packet, hop: &Hop) -> bool {
    let judged = judge(scene, ip, packet, hop);
    if judged.begins_talk {
        scene.tables.talks.remember(Talk::from_server(ip, packet), scene.now);
    }
    judged.passes
}

/// The same, and nothing is remembered.
#[cold]
pub(crate) fn judge(scene: &Scene<'_>, ip: &[u8], packet: &Packet, hop: &Hop) -> Judged {
    let (snapshot, tables) = (scene.snapshot, scene.tables);
    let family = if packet.is_v4() { Family::V4 } else { Family::V6 };
    let only = |passes| Judged { passes, begins_talk: false };
    if scene.mark != 0 && snapshot.services.has_mark(scene.mark, family) {
        return only(true);
    }
    match snapshot.options.transit {
        Transit::Any => return only(true),
        Transit::None => return only(false),
        Transit::Servers => {}
    }
    if is_back_to_host(scene, hop) {
        return only(true);
    }
    let to_server = tables.servers.are_around(packet.dst);
    if tables.servers.are_around(packet.src) {
        return Judged { passes: true, begins_talk: !to_server };
    }
    if to_server {
        let is_answer = tables.talks.knows(&Talk::to_server(ip, packet), scene.now);
        return only(is_answer || is_about_talk(scene, ip, packet));
    }
    only(hop.addr != packet.dst && tables.servers.has(hop.addr))
}

/// Whether clients may ask real servers directly, by this director or by its host: then they hear them as they are.
pub(crate) fn servers_are_reached(scene: &Scene<'_>, hop: &Hop) -> bool {
    scene.snapshot.options.transit == Transit::Any || is_back_to_host(scene, hop)
}

/// Whether a packet goes back into the TUN device that it came from: the host's kernel is the router there.
fn is_back_to_host(scene: &Scene<'_>, hop: &Hop) -> bool {
    hop.port == scene.port && scene.snapshot.network.mac(hop.port).is_none()
}

/// Whether it is an ICMP error about what a real server has said.
fn is_about_talk(scene: &Scene<'_>, ip: &[u8], packet: &Packet) -> bool {
    let start = usize::from(packet.header_len);
    if !is_icmp(packet) || !ip.get(start).is_some_and(|&kind| icmp::is_error(packet.protocol, kind)) {
        return false;
    }
    let Some(quote) = ip.get(start + icmp::HEADER_LEN..) else { return false };
    Packet::parse_quoted(quote).is_ok_and(|inner| {
        inner.src == packet.dst && scene.tables.talks.knows(&Talk::from_server(quote, &inner), scene.now)
    })
}
