//! Requests and replies: find the connection, or make one; move its state; count.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::rewrite::{self, L4Sum};
use uvs_wire::{Address, Packet, sctp, tcp};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, Protocol};
use crate::base::time::{Duration, Instant};
use crate::base::verdict::{DropReason, Verdict};
use crate::choose::feedback;
use crate::choose::schedule::Placement;
use crate::choose::service::{Counted, Destination};
use crate::director::{Director, Scene, Snapshot};
use crate::path::report::Report;
use crate::track::connection::{Connection, ReplyKey, RequestKey, Tallied};
use crate::track::sctp::{SctpState, first_chunk};
use crate::track::state::advance;
use crate::track::table::{Class, EntryId, Full, Locked, Neighbours, USED};
use crate::track::tcp::{Seen, TcpState};
use crate::track::wheel::Links;

/// What a new entry lives for until its first packet has set its state.
const NEW_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a packet looks for its connection. The second time finds the one that the first has entered, unless other
/// workers take it out in between because the table is at its limit.
const ADMIT_ROUNDS: usize = 4;

/// Where a request goes: what forwarding needs of the connection, without its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) destination: Address,
    pub(crate) port: u16,
    pub(crate) forwarding: Forwarding,
    /// The FTP helper wants to see the packet.
    pub(crate) helped: bool,
    /// Its connection belongs into the flow cache and is not there.
    pub(crate) uncached: bool,
    /// It begins with the packet.
    pub(crate) is_first: bool,
}

impl Hit {
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            destination: connection.destination_addr,
            port: connection.destination_port,
            forwarding: connection.forwarding,
            helped: connection.ftp.is_some(),
            uncached: false,
            is_first: false,
        }
    }
}

/// What a packet finds when it meets a connection that is there.
enum Meeting {
    Use,
    /// It ends now, and the packet starts another.
    Replace,
    Drop,
}

impl Director {
    /// A TCP, UDP or SCTP packet to an address of ours.
    pub(crate) fn request(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        packet: &mut Packet,
        protocol: Protocol,
    ) -> Verdict {
        // As in the kernel, whose hooks go with the last service.
        if scene.snapshot.services.is_empty() {
            return self.refuse(scene, frame, packet);
        }
        match self.admit(scene, frame, packet, protocol) {
            Ok(Some(hit)) => {
                if hit.helped
                    && let Err(reason) = self.ftp_request(scene, frame, packet)
                {
                    return Verdict::Drop(reason);
                }
                // Once it is forwarded its addresses are others.
                let uncached = hit.uncached.then(|| RequestKey::of(packet));
                let verdict = self.forward(scene, frame, packet, hit);
                if let (Some(key), Verdict::Transmit(_), Some(flows)) = (uncached, verdict, &self.flows) {
                    self.place_flow(scene, flows, &key, hit.is_first);
                }
                verdict
            }
            // A marked packet may be on its way to anybody.
            Ok(None) if !scene.snapshot.network.is_local(packet.dst) => self.transit(scene, frame, packet),
            Ok(None) => self.refuse(scene, frame, packet),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Finds the connection of a request or makes it. `None`: no service wants the packet.
    fn admit(
        &self,
        scene: &mut Scene<'_>,
        frame: &Frame,
        packet: &Packet,
        protocol: Protocol,
    ) -> Result<Option<Hit>, DropReason> {
        let key = RequestKey::of(packet);
        let (mut is_new, mut replaces) = (false, false);
        for _ in 0..ADMIT_ROUNDS {
            let mut shard = self.table.shard(key.protocol, key.client, key.client_port);
            if let Some(id) = shard.request(&key) {
                self.refresh(&mut shard, id, scene.now);
                let meeting = if is_new {
                    Meeting::Use
                } else {
                    meet(scene.snapshot, shard.get(id), packet, frame.bytes(), protocol, scene.now)
                };
                match meeting {
                    Meeting::Use => {
                        return Ok(Some(self.count_request(
                            scene,
                            &mut shard,
                            id,
                            (packet, frame.bytes()),
                            protocol,
                        )));
                    }
                    Meeting::Drop => return Err(DropReason::DestinationGone),
                    Meeting::Replace => {
                        // As in the kernel, whose timers run later, it is there until the new one is placed.
                        drop(shard);
                        replaces = true;
                    }
                }
            } else {
                drop(shard);
                if self.table.claim(&key, scene.now) {
                    continue;
                }
            }
            let placed = self.find_place(scene, frame, packet, protocol);
            if core::mem::take(&mut replaces) {
                self.retire(scene, &key, (packet, frame.bytes()), protocol);
            }
            let Some((placement, one_packet)) = placed? else { return Ok(None) };
            if one_packet {
                let connection = new_connection(key, placement, scene.now);
                connection.destination.tally.count_connection();
                connection.destination.tally.count_in_alone(u64::from(packet.total_len));
                connection.release_control();
                return Ok(Some(Hit::of(&connection)));
            }
            self.enter(key, placement, scene.now)?;
            is_new = true;
        }
        Err(DropReason::ConnectionLimit)
    }

    /// Where a new connection of this packet goes, and whether the packet is all there will be of it. `None`: no
    /// service wants it.
    fn find_place(
        &self,
        scene: &mut Scene<'_>,
        frame: &Frame,
        packet: &Packet,
        protocol: Protocol,
    ) -> Result<Option<(Placement, bool)>, DropReason> {
        let snapshot = scene.snapshot;
        let service = snapshot.services.find(protocol, packet.dst, packet.dst_port, scene.mark);
        let Some(service) = service.filter(|_| starts_connection(snapshot, packet, frame.bytes(), protocol))
        else {
            return Ok(None);
        };
        if self.sheds(snapshot) {
            return Err(DropReason::Shed);
        }
        let one_packet = protocol == Protocol::Udp && service.with_spec(|spec| spec.one_packet);
        let placement = self.schedule(scene, frame, packet, protocol, service)?;
        Ok(placement.map(|placement| (placement, one_packet)))
    }

    /// Ends a connection whose place a new one takes, unless another worker has done so.
    fn retire(
        &self,
        scene: &Scene<'_>,
        key: &RequestKey,
        (packet, ip): (&Packet, &[u8]),
        protocol: Protocol,
    ) {
        let mut shard = self.table.shard(key.protocol, key.client, key.client_port);
        let Some(id) = shard.request(key) else { return };
        if matches!(meet(scene.snapshot, shard.get(id), packet, ip, protocol, scene.now), Meeting::Replace) {
            let retired = self.table.remove(&mut shard, id);
            drop(shard);
            self.release(retired);
        }
    }

    /// Enters a new connection into the table, unless another worker was faster.
    pub(crate) fn enter(
        &self,
        key: RequestKey,
        placement: Placement,
        now: Instant,
    ) -> Result<(), DropReason> {
        let control = placement.control.clone();
        let mut connection = new_connection(key, placement, now);
        connection.ftp = self.ftp_helper(&key, connection.forwarding);
        let destination = Arc::clone(&connection.destination);
        let inserted = self.insert(connection);
        if inserted == Ok(true) {
            destination.tally.count_connection();
        } else if let Some(control) = control {
            control.controlled.fetch_sub(1, Relaxed);
        }
        inserted.map(|_| ()).map_err(|_| DropReason::ConnectionLimit)
    }

    /// Enters a connection or template into the table, and lets go of those that make room for it.
    pub(crate) fn insert(&self, connection: Connection) -> Result<bool, Full> {
        // In the kernel an older connection that is over stays until its time is up, and only does not answer.
        let ends_older = !self.snapshot.load().options.compat_ipvs;
        self.table.insert(connection, ends_older, |removed| self.release(removed))
    }

    fn count_request(
        &self,
        scene: &Scene<'_>,
        shard: &mut Locked<'_>,
        id: EntryId,
        (packet, ip): (&Packet, &[u8]),
        protocol: Protocol,
    ) -> Hit {
        let lane = shard.number();
        let connection = shard.get_mut(id);
        count_in(lane, &connection.destination, packet);
        connection.in_packets = connection.in_packets.saturating_add(1);
        let is_used = connection.in_packets == USED;
        let seen = if connection.is_one_way() { Seen::InputOnly } else { Seen::Input };
        let moved = advance(connection, scene.snapshot, protocol, seen, packet, ip);
        feedback::segment(connection, scene.now, (seen, packet.tcp_flags), moved);
        let hit = Hit::of(connection);
        shard.follow(id, moved || is_used, scene.now);
        if moved && !scene.snapshot.options.compat_ipvs {
            let connection = shard.get(id);
            if connection.in_packets > 1 && connection.is_embryonic() {
                shard.answer_first(id);
            }
        }
        let Some(flows) = &self.flows else { return hit };
        if moved {
            flows.settle(shard, id, scene.now);
        }
        let connection = shard.get(id);
        let is_first = connection.in_packets == 1
            && (protocol != Protocol::Tcp || packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN);
        Hit { uncached: flows.wants(connection), is_first, ..hit }
    }

    /// A packet for somebody else: if it is a destination's answer on a translated connection, its source
    /// becomes the VIP.
    pub(crate) fn reply(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        packet: &mut Packet,
        protocol: Protocol,
    ) -> Result<(), DropReason> {
        if scene.snapshot.services.is_empty() {
            return Ok(());
        }
        let key = ReplyKey {
            destination: packet.src,
            client: packet.dst,
            destination_port: packet.src_port,
            client_port: packet.dst_port,
            protocol: packet.protocol,
        };
        let mut shard = self.table.shard(key.protocol, key.client, key.client_port);
        let found = shard.reply(&key);
        if let Some(id) = found {
            self.refresh(&mut shard, id, scene.now);
        }
        let Some(id) = found.filter(|id| shard.get(*id).expires_at > scene.now) else {
            drop(shard);
            return self.unknown_reply(scene, frame, packet, protocol);
        };
        let lane = shard.number();
        let connection = shard.get_mut(id);
        count_out(lane, &connection.destination, u64::from(packet.total_len));
        let is_first = core::mem::replace(&mut connection.no_output, false);
        let helped = connection.ftp.is_some().then(|| TcpState::from_number(connection.state));
        let moved = advance(connection, scene.snapshot, protocol, Seen::Output, packet, frame.bytes());
        feedback::segment(connection, scene.now, (Seen::Output, packet.tcp_flags), moved);
        let (addr, port) = (connection.request.virtual_addr, connection.request.virtual_port);
        shard.follow(id, moved || is_first, scene.now);
        if let Some(flows) = self.flows.as_ref().filter(|_| moved) {
            flows.settle(&mut shard, id, scene.now);
        }
        drop(shard);
        if let Some(was) = helped {
            self.ftp_reply(scene, frame, packet, was)?;
        }
        let sum = sum_of(frame, packet);
        rewrite::source(frame.bytes_mut(), packet, addr, port, sum);
        add_missing_checksum(frame, packet);
        Ok(())
    }

    /// With `nat_icmp_send`, a destination that answers on no connection is told so.
    fn unknown_reply(
        &self,
        scene: &mut Scene<'_>,
        frame: &Frame,
        packet: &Packet,
        protocol: Protocol,
    ) -> Result<(), DropReason> {
        let is_reset = match protocol {
            Protocol::Tcp => packet.tcp_flags & tcp::RST != 0,
            Protocol::Udp => false,
            Protocol::Sctp => first_chunk(packet.transport(frame.bytes())) == Some(sctp::ABORT),
        };
        if !scene.snapshot.options.nat_icmp_send
            || is_reset
            || !self.servers.contains(protocol, packet.src, packet.src_port)
        {
            return Ok(());
        }
        self.report(scene, frame.bytes(), packet, Report::PortUnreachable);
        Err(DropReason::NoConnection)
    }

    /// Lets go of what a connection held, after it left the table.
    pub(crate) fn release(&self, connection: Connection) {
        connection.destination.detach(connection.counted);
        connection.release_control();
    }
}

/// A packet from a client, of a connection in the shard of that number, which is locked. As in the kernel, what passes
/// for a destination that was removed counts nowhere.
#[inline]
pub(crate) fn count_in(shard: usize, destination: &Destination, packet: &Packet) {
    if destination.is_available() {
        destination.tally.count_in(shard, u64::from(packet.total_len));
    }
}

/// The same for a packet from a destination.
#[inline]
pub(crate) fn count_out(shard: usize, destination: &Destination, bytes: u64) {
    if destination.is_available() {
        destination.tally.count_out(shard, bytes);
    }
}

/// What the L4 checksum field of a packet holds. (Of a packet in a packet the inner one's may be what is partial.)
#[inline]
pub(crate) fn sum_of(frame: &Frame, packet: &Packet) -> L4Sum {
    let offload = &frame.offload;
    if offload.needs_checksum && offload.checksum_start == packet.header_len {
        L4Sum::Partial
    } else {
        L4Sum::Complete
    }
}

/// Computes the checksum of a translated UDP packet that came without one, as the recorded kernel does.
#[inline]
pub(crate) fn add_missing_checksum(frame: &mut Frame, packet: &Packet) {
    let at = usize::from(packet.header_len) + 6;
    if packet.protocol != Protocol::Udp.number()
        || !packet.has_ports()
        || frame.offload.needs_checksum
        || frame.bytes()[at..at + 2] != [0, 0]
    {
        return;
    }
    let sum = match packet.transport_sum(frame.bytes()).finish() {
        0 => 0xffff,
        sum => sum,
    };
    frame.bytes_mut()[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Whether a packet that belongs to no connection may start one.
fn starts_connection(snapshot: &Snapshot, packet: &Packet, ip: &[u8], protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => {
            (snapshot.options.sloppy_tcp || packet.tcp_flags & tcp::SYN != 0)
                && packet.tcp_flags & tcp::RST == 0
        }
        Protocol::Udp => true,
        Protocol::Sctp => match first_chunk(packet.transport(ip)) {
            None | Some(sctp::ABORT) => false,
            Some(chunk) => snapshot.options.sloppy_sctp || chunk == sctp::INIT,
        },
    }
}

pub(crate) fn new_connection(key: RequestKey, placement: Placement, now: Instant) -> Connection {
    let Placement { destination, port, control } = placement;
    let forwarding = destination.forwarding();
    Connection {
        request: key,
        destination_addr: destination.addr,
        destination_port: port,
        forwarding,
        state: TcpState::None.number(),
        no_output: true,
        is_invalid: false,
        counted: Counted::Inactive,
        in_packets: 0,
        timeout: NEW_TIMEOUT.into(),
        expires_at: now + NEW_TIMEOUT,
        asked_at: None,
        destination,
        control,
        ftp: None,
        links: Links::default(),
        queued: Neighbours::default(),
        cached: crate::flows::Cached::default(),
        tallied: Tallied::default(),
        class: Class::default(),
    }
}

/// What becomes of a connection that a request meets.
#[inline]
fn meet(
    snapshot: &Snapshot,
    connection: &Connection,
    packet: &Packet,
    ip: &[u8],
    protocol: Protocol,
    now: Instant,
) -> Meeting {
    if connection.expires_at <= now {
        return Meeting::Replace;
    }
    let options = &snapshot.options;
    let destination = &connection.destination;
    let starts = match protocol {
        Protocol::Tcp => packet.tcp_flags & tcp::SYN != 0,
        Protocol::Udp => false,
        Protocol::Sctp => first_chunk(packet.transport(ip)) == Some(sctp::INIT),
    };
    if starts {
        let drained = destination.weight() == 0;
        let (closing, winding_down) = if protocol == Protocol::Sctp {
            let state = SctpState::from_number(connection.state);
            (state == SctpState::Closed, state.is_closing())
        } else {
            let state = TcpState::from_number(connection.state);
            let closing = matches!(state, TcpState::TimeWait | TcpState::Close)
                || state == TcpState::FinWait && connection.is_one_way() && options.conn_reuse_mode & 2 != 0;
            (closing, matches!(state, TcpState::FinWait | TcpState::CloseWait | TcpState::LastAck))
        };
        let is_held = connection.controls().is_some_and(|control| control.controlled.load(Relaxed) > 0);
        let drained_and_closing = !options.compat_ipvs && drained && (winding_down || closing);
        if options.expire_nodest_conn && drained
            || options.conn_reuse_mode != 0 && connection.control.is_none() && closing && !is_held
            || drained_and_closing
        {
            return Meeting::Replace;
        }
    }
    if destination.is_available() {
        Meeting::Use
    } else if options.expire_nodest_conn || !options.compat_ipvs && (starts || protocol == Protocol::Udp) {
        Meeting::Replace
    } else {
        Meeting::Drop
    }
}
