//! Requests and replies: find the connection, or make one; move its state; count.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::rewrite::{self, L4Sum};
use uvs_wire::{Address, Packet, tcp};

use crate::connection::{Connection, ReplyKey, RequestKey};
use crate::director::{Director, Scene, Snapshot};
use crate::frame::Frame;
use crate::report::Report;
use crate::scheduler::Flow;
use crate::service::{Counted, Destination, FTP_DATA_PORT, FTP_PORT, Service};
use crate::spec::{Forwarding, Protocol};
use crate::table::{EntryId, Shard};
use crate::tcp::{Seen, TcpEvent, TcpState};
use crate::time::{Duration, Instant};
use crate::verdict::{DropReason, Verdict};

/// What a new entry lives for until its first packet has set its state.
const NEW_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a request goes: what forwarding needs of the connection, without its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) destination: Address,
    pub(crate) port: u16,
    pub(crate) forwarding: Forwarding,
}

impl Hit {
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            destination: connection.destination_addr,
            port: connection.destination_port,
            forwarding: connection.forwarding,
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
        packet: Packet,
        protocol: Protocol,
    ) -> Verdict {
        // As in the kernel, whose hooks go with the last service.
        if scene.snapshot.services.is_empty() {
            return self.refuse(scene, frame, &packet);
        }
        match self.admit(scene, frame, &packet, protocol) {
            Ok(Some(hit)) => self.forward(scene, frame, packet, hit),
            Ok(None) => self.refuse(scene, frame, &packet),
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
        let key = RequestKey {
            client: packet.src,
            virtual_addr: packet.dst,
            client_port: packet.src_port,
            virtual_port: packet.dst_port,
            protocol: packet.protocol,
            template: false,
        };
        let mut is_new = false;
        loop {
            let mut shard = self.table.shard(key.protocol, key.client, key.client_port);
            if let Some(id) = shard.request(&key) {
                let meeting = if is_new {
                    Meeting::Use
                } else {
                    meet(scene.snapshot, shard.get(id), packet, protocol, scene.now)
                };
                match meeting {
                    Meeting::Use => {
                        return Ok(Some(self.count_request(scene, &mut shard, id, packet, protocol)));
                    }
                    Meeting::Drop => return Err(DropReason::DestinationGone),
                    Meeting::Replace => {
                        let gone = self.table.remove(&mut shard, id);
                        drop(shard);
                        self.release(gone);
                    }
                }
            } else {
                drop(shard);
            }
            let Some(service) = scene
                .snapshot
                .services
                .find(protocol, packet.dst, packet.dst_port, 0)
                .filter(|_| starts_connection(scene.snapshot, packet, protocol))
            else {
                return Ok(None);
            };
            let Some(destination) = self.schedule(scene, frame, packet, protocol, service)? else {
                return Ok(None);
            };
            let connection = new_connection(key, packet, destination, scene.now);
            if service.with_spec(|spec| spec.one_packet) && protocol == Protocol::Udp {
                self.count_connection(&connection.destination);
                self.count_in(&connection.destination, packet);
                return Ok(Some(Hit::of(&connection)));
            }
            let destination = Arc::clone(&connection.destination);
            match self.table.insert(connection) {
                Ok(true) => self.count_connection(&destination),
                Ok(false) => {}
                Err(_) => return Err(DropReason::ConnectionLimit),
            }
            is_new = true;
        }
    }

    /// Asks the service's scheduler. `None`: the packet is left to the director as a host.
    fn schedule(
        &self,
        scene: &mut Scene<'_>,
        frame: &Frame,
        packet: &Packet,
        protocol: Protocol,
        service: &Arc<Service>,
    ) -> Result<Option<Arc<Destination>>, DropReason> {
        // Active FTP's data connections come from the server's side; they are known already or not ours.
        if packet.src_port == FTP_DATA_PORT {
            return Ok(None);
        }
        let flow = Flow {
            protocol,
            client: packet.src.to_ip(),
            client_port: packet.src_port,
            virtual_addr: packet.dst.to_ip(),
            virtual_port: packet.dst_port,
            mark: 0,
        };
        let own_port = match service.key {
            crate::spec::ServiceKey::Address { addr, .. } => Some(addr.port()),
            crate::spec::ServiceKey::Mark { .. } => None,
        };
        // A service that caught a port which is not its own places connections by its templates only.
        let picked = if own_port.is_none_or(|port| port == packet.dst_port) {
            service.pick(&flow, scene.now)
        } else {
            None
        };
        match picked {
            Some(destination) => Ok(Some(destination)),
            None if own_port == Some(FTP_PORT) && packet.dst_port != FTP_PORT => Ok(None),
            None => {
                self.report(scene, frame.bytes(), packet, Report::PortUnreachable);
                Err(DropReason::NoDestination)
            }
        }
    }

    fn count_connection(&self, destination: &Destination) {
        destination.stats.count_connection();
        destination.shared.stats.count_connection();
        self.total.count_connection();
    }

    pub(crate) fn count_in(&self, destination: &Destination, packet: &Packet) {
        let bytes = u64::from(packet.total_len);
        destination.stats.count_in(1, bytes);
        destination.shared.stats.count_in(1, bytes);
        self.total.count_in(1, bytes);
    }

    pub(crate) fn count_out(&self, destination: &Destination, packet: &Packet) {
        let bytes = u64::from(packet.total_len);
        destination.stats.count_out(1, bytes);
        destination.shared.stats.count_out(1, bytes);
        self.total.count_out(1, bytes);
    }

    fn count_request(
        &self,
        scene: &Scene<'_>,
        shard: &mut Shard,
        id: EntryId,
        packet: &Packet,
        protocol: Protocol,
    ) -> Hit {
        let connection = shard.get_mut(id);
        self.count_in(&connection.destination, packet);
        let seen = if connection.no_output { Seen::InputOnly } else { Seen::Input };
        advance(connection, scene.snapshot, protocol, seen, packet.tcp_flags);
        let hit = Hit::of(connection);
        shard.touch(id, scene.now);
        hit
    }

    /// A packet for somebody else: if it is a destination's answer on a translated connection, its source
    /// becomes the VIP.
    pub(crate) fn reply(
        &self,
        scene: &mut Scene<'_>,
        frame: &mut Frame,
        packet: &mut Packet,
        protocol: Protocol,
    ) {
        if scene.snapshot.services.is_empty() {
            return;
        }
        let key = ReplyKey {
            destination: packet.src,
            client: packet.dst,
            destination_port: packet.src_port,
            client_port: packet.dst_port,
            protocol: packet.protocol,
        };
        let mut shard = self.table.shard(key.protocol, key.client, key.client_port);
        let Some(id) = shard.reply(&key) else { return };
        let connection = shard.get_mut(id);
        if connection.expires_at <= scene.now {
            return;
        }
        self.count_out(&connection.destination, packet);
        connection.no_output = false;
        advance(connection, scene.snapshot, protocol, Seen::Output, packet.tcp_flags);
        let (addr, port) = (connection.request.virtual_addr, connection.request.virtual_port);
        shard.touch(id, scene.now);
        drop(shard);
        let sum = sum_of(frame.offload.needs_checksum);
        rewrite::source(frame.bytes_mut(), packet, addr, port, sum);
    }

    /// Lets go of what a connection held, after it left the table.
    pub(crate) fn release(&self, connection: Connection) {
        if let Some(control) = &connection.control
            && !connection.request.template
        {
            control.controlled.fetch_sub(1, Relaxed);
        }
    }
}

/// What the L4 checksum field of a frame holds.
pub(crate) fn sum_of(partial: bool) -> L4Sum {
    if partial { L4Sum::Partial } else { L4Sum::Complete }
}

/// Whether a packet that belongs to no connection may start one.
fn starts_connection(snapshot: &Snapshot, packet: &Packet, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => {
            (snapshot.options.sloppy_tcp || packet.tcp_flags & tcp::SYN != 0)
                && packet.tcp_flags & tcp::RST == 0
        }
        Protocol::Udp => true,
        Protocol::Sctp => false,
    }
}

fn new_connection(
    key: RequestKey,
    packet: &Packet,
    destination: Arc<Destination>,
    now: Instant,
) -> Connection {
    let forwarding = destination.forwarding();
    // Port 0 stands for the port the client asked for.
    let port = if destination.port == 0 { packet.dst_port } else { destination.port };
    Connection {
        request: key,
        destination_addr: destination.addr,
        destination_port: port,
        forwarding,
        state: TcpState::None.number(),
        no_output: forwarding != Forwarding::Nat,
        counted: Counted::Inactive,
        timeout: NEW_TIMEOUT,
        expires_at: now + NEW_TIMEOUT,
        destination,
        control: None,
    }
}

/// What becomes of a connection that a request meets.
fn meet(
    snapshot: &Snapshot,
    connection: &Connection,
    packet: &Packet,
    protocol: Protocol,
    now: Instant,
) -> Meeting {
    if connection.expires_at <= now {
        return Meeting::Replace;
    }
    let options = &snapshot.options;
    let destination = &connection.destination;
    let starts = protocol == Protocol::Tcp && packet.tcp_flags & tcp::SYN != 0;
    if starts {
        let state = TcpState::from_number(connection.state);
        let drained = destination.weight() == 0;
        let closing = matches!(state, TcpState::TimeWait | TcpState::Close)
            || state == TcpState::FinWait && connection.no_output && options.conn_reuse_mode & 2 != 0;
        let drained_and_closing = !options.compat_ipvs
            && drained
            && matches!(state, TcpState::FinWait | TcpState::CloseWait | TcpState::LastAck);
        if options.expire_nodest_conn && drained
            || options.conn_reuse_mode != 0 && connection.control.is_none() && closing
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

/// Moves the state of a connection by one packet and sets the timeout that follows from it.
fn advance(connection: &mut Connection, snapshot: &Snapshot, protocol: Protocol, seen: Seen, flags: u8) {
    match protocol {
        Protocol::Tcp => {
            let state = TcpState::from_number(connection.state);
            let next = state.next(seen, TcpEvent::of(flags), snapshot.options.secure_tcp != 0);
            if next != state {
                let counted = if next.is_active() { Counted::Active } else { Counted::Inactive };
                if counted != connection.counted {
                    connection.destination.recount(connection.counted, counted);
                    connection.counted = counted;
                }
                if next == TcpState::Established {
                    assure(connection);
                }
                connection.state = next.number();
            }
            connection.timeout = next.timeout(&snapshot.timeouts);
        }
        Protocol::Udp | Protocol::Sctp => {
            connection.timeout = snapshot.timeouts.udp;
            if seen == Seen::Output {
                assure(connection);
            }
        }
    }
}

fn assure(connection: &Connection) {
    if let Some(control) = &connection.control {
        control.assured.store(true, Relaxed);
    }
}
