//! ICMP errors about a known connection: the packet they quote is looked up, and they are translated and
//! forwarded as packets of that connection would be.
//!
//! ```text
//!   about a reply (VIP -> CIP), to the VIP:        goes on to the destination, quoting RIP -> CIP
//!   about a request (CIP -> RIP), to the client:   goes on from the VIP, quoting CIP -> VIP
//!   about our own tunnel packet, to the DIP:       the client is told, quoting what was inside
//! ```

use uvs_wire::icmp::{self, v4};
use uvs_wire::{Packet, rewrite};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, Protocol};
use crate::base::verdict::{DropReason, Verdict};
use crate::director::{Director, Scene};
use crate::path::balance::{Hit, count_in, count_out};
use crate::path::input::ICMP;
use crate::track::connection::{ReplyKey, RequestKey};

/// Whether the kernel's IPVS follows errors of this type: of ICMP only these, of ICMPv6 all.
fn is_followed(packet: &Packet, message: &[u8]) -> bool {
    packet.protocol != ICMP
        || matches!(message[0], v4::DESTINATION_UNREACHABLE | v4::SOURCE_QUENCH | v4::TIME_EXCEEDED)
}

impl Director {
    /// An ICMP error to an address of ours.
    pub(crate) fn related_to_request(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        packet: &mut Packet,
    ) -> Verdict {
        let start = usize::from(packet.header_len);
        let quoted = start + icmp::HEADER_LEN;
        let message = &frame.bytes()[start..];
        if message.len() < icmp::HEADER_LEN || !is_followed(packet, message) {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        }
        let Ok(mut inner) = Packet::parse_quoted(&frame.bytes()[quoted..]) else {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        };
        if let Some(tunnelled) = self.quoted_tunnel(scene, &frame.bytes()[quoted..], &inner) {
            return self.relay_about_tunnel(scene, frame, packet, &inner, tunnelled);
        }
        // No honest error quotes a packet of the other IP version, and none could be translated.
        if inner.is_v4() != packet.is_v4() {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        }
        let key = RequestKey {
            client: inner.dst,
            virtual_addr: inner.src,
            client_port: inner.dst_port,
            virtual_port: inner.src_port,
            protocol: inner.protocol,
            template: false,
        };
        if scene.snapshot.options.schedule_icmp && !self.schedule_related(scene, &key, &inner) {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        }
        let hit = {
            let shard = self.table.shard(key.protocol, key.client, key.client_port);
            let Some(id) = shard.request(&key) else { return Verdict::Drop(DropReason::IcmpUnrelated) };
            let connection = shard.get(id);
            count_in(shard.number(), &connection.destination, packet);
            Hit::of(connection)
        };
        if hit.forwarding == Forwarding::Nat {
            if !icmp::checksum_ok(frame.bytes(), packet) {
                return Verdict::Drop(DropReason::BadChecksum);
            }
            let bytes = frame.bytes_mut();
            let edit = rewrite::quoted_source(&mut bytes[quoted..], &mut inner, hit.destination, hit.port);
            rewrite::icmp_message(bytes, packet, edit);
        }
        self.forward(scene, frame, packet, hit)
    }

    /// An ICMP error to somebody else, about a request that was translated. `Some`: the packet must not go on.
    pub(crate) fn related_to_reply(
        &self,
        _: &mut Scene<'_>,
        frame: &mut Frame,
        packet: &mut Packet,
    ) -> Option<DropReason> {
        let start = usize::from(packet.header_len);
        let quoted = start + icmp::HEADER_LEN;
        let message = &frame.bytes()[start..];
        if message.len() < icmp::HEADER_LEN || !is_followed(packet, message) {
            return None;
        }
        let inner = Packet::parse_quoted(&frame.bytes()[quoted..]).ok();
        let mut inner = inner.filter(|inner| inner.is_v4() == packet.is_v4())?;
        let key = ReplyKey {
            destination: inner.dst,
            client: inner.src,
            destination_port: inner.dst_port,
            client_port: inner.src_port,
            protocol: inner.protocol,
        };
        let (addr, port) = {
            let shard = self.table.shard(key.protocol, key.client, key.client_port);
            let Some(id) = shard.reply(&key) else {
                // About a request that was not translated: nothing to change, but it counts.
                let direct = shard.request(&RequestKey::of(&inner)).map(|id| shard.get(id));
                if let Some(connection) = direct.filter(|connection| connection.no_output_expected()) {
                    count_out(shard.number(), &connection.destination, u64::from(packet.total_len));
                }
                return None;
            };
            let connection = shard.get(id);
            if !icmp::checksum_ok(frame.bytes(), packet) {
                return Some(DropReason::BadChecksum);
            }
            count_out(shard.number(), &connection.destination, u64::from(packet.total_len));
            (connection.request.virtual_addr, connection.request.virtual_port)
        };
        let bytes = frame.bytes_mut();
        let edit = rewrite::quoted_destination(&mut bytes[quoted..], &mut inner, addr, port);
        rewrite::icmp_message(bytes, packet, edit);
        rewrite::source(bytes, packet, addr, 0, rewrite::L4Sum::Complete);
        None
    }

    /// With `schedule_icmp`, an error about a reply that is not known places the connection it speaks of. False: it
    /// could not.
    fn schedule_related(&self, scene: &Scene<'_>, key: &RequestKey, inner: &Packet) -> bool {
        let Some(protocol) = Protocol::from_number(key.protocol) else { return false };
        if self.table.shard(key.protocol, key.client, key.client_port).request(key).is_some() {
            return true;
        }
        let (client_port, port) = (key.client_port, key.virtual_port);
        let request =
            Packet { src: inner.dst, dst: inner.src, src_port: client_port, dst_port: port, ..*inner };
        let Some(service) = scene.snapshot.services.find(protocol, request.dst, port, scene.mark) else {
            return false;
        };
        let placed = self.place(scene, &request, protocol, service);
        placed.is_ok_and(|placement| placement.is_some_and(|it| self.enter(*key, it, scene.now).is_ok()))
    }
}
