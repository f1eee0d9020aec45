//! Looking ahead: which memory a packet is going to need, told before the packet is handled, so that the waits for the
//! memory of several packets overlap.
//!
//! ```text
//!   look_ahead      frame > hash > where its search of the index starts    --> fetch
//!   look_further                  slot > where its entry lies              --> fetch, both cache lines
//!   handle                               the entry
//! ```
//! Each step reads what the one before had fetched. In a table that is larger than the caches a packet waits for the
//! index and then for its entry; a group of packets taken through one step after the other waits about once for both.

use core::ptr;

use uvs_wire::{Packet, ethernet};

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::spec::Link;
use crate::scene::Tables;
use crate::scene::outbox::Outbox;
use crate::track::connection::{ReplyKey, RequestKey};

/// A table of fewer entries lies in the caches (8 MiB).
const FEW: usize = 65_536;
/// Half of an entry.
const CACHE_LINE: usize = 64;

/// Where the entry of a packet is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    client: u64,
    hash: u32,
    is_reply: bool,
}

impl Tables {
    /// Whether the table is so large that looking ahead pays, for those who handle several frames in a row.
    #[inline]
    pub(crate) fn wants_ahead(&self) -> bool {
        self.table.len() >= FEW
    }

    /// The first step for a frame that has come in on `port` and will be handled: shows `fetch` the place of the index
    /// that will be read, whose cache line it should have fetched, without waiting. Nothing is changed. `None`: there
    /// is none.
    #[inline]
    pub(crate) fn look_ahead(
        &self,
        port: PortId,
        frame: &Frame,
        out: &mut Outbox,
        fetch: impl Fn(*const u8),
    ) -> Option<Ahead> {
        let snapshot = self.snapshot.hold(&mut out.held, &mut out.lane.memo);
        let network = &snapshot.network;
        let interface = network.interface(port)?;
        let ahead = {
            let ip = match interface.link {
                Link::Ethernet(_) => frame.bytes().get(ethernet::HEADER_LEN..)?,
                Link::Ip => frame.bytes(),
            };
            let packet = Packet::parse(ip).ok()?;
            let is_reply = !network.is_local(packet.dst);
            let (client, hash) = if is_reply {
                self.table.hash_reply(&ReplyKey::of(&packet))
            } else {
                self.table.hash_request(&RequestKey::of(&packet))
            };
            Ahead { client, hash, is_reply }
        };
        self.table
            .look(ahead.client, |shard| fetch(ptr::from_ref(shard.home(ahead.hash, ahead.is_reply)).cast()));
        Some(ahead)
    }

    /// The second step: shows `fetch` the places of the entry that will be read.
    #[inline]
    pub(crate) fn look_further(&self, ahead: Ahead, fetch: impl Fn(*const u8)) {
        self.table.look(ahead.client, |shard| {
            if let Some(entry) = shard.likely(ahead.hash, ahead.is_reply) {
                fetch(entry);
                fetch(entry.wrapping_add(CACHE_LINE));
            }
        });
    }
}
