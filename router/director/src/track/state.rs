//! How a packet moves the state of its connection, whatever the protocol.

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::Packet;

use crate::base::spec::{Protocol, Timeouts};
use crate::base::time::Timeout;
use crate::choose::service::Counted;
use crate::director::Snapshot;
use crate::track::connection::{Connection, UDP_ANSWERED};
use crate::track::sctp::{SctpEvent, SctpState};
use crate::track::tcp::{Seen, TcpEvent, TcpState};

/// The timeouts in force, as entries have them.
#[derive(Clone)]
pub(crate) struct Timers {
    tcp: [Timeout; TcpState::ALL.len()],
    udp: Timeout,
}

impl Timers {
    #[inline]
    pub(crate) fn tcp(&self, state: TcpState) -> Timeout {
        self.tcp[usize::from(state.number())]
    }

    #[inline]
    pub(crate) fn udp(&self) -> Timeout {
        self.udp
    }
}

impl From<Timeouts> for Timers {
    fn from(timeouts: Timeouts) -> Self {
        Self { tcp: TcpState::ALL.map(|state| state.timeout(&timeouts).into()), udp: timeouts.udp.into() }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Timeouts::default().into()
    }
}

/// Moves the state of a connection by one packet and sets the timeout that follows from it. `ip` holds the packet.
/// Returns whether the state is another now.
pub(crate) fn advance(
    connection: &mut Connection,
    snapshot: &Snapshot,
    protocol: Protocol,
    seen: Seen,
    packet: &Packet,
    ip: &[u8],
) -> bool {
    match protocol {
        Protocol::Tcp => advance_tcp(connection, snapshot, seen, packet.tcp_flags),
        Protocol::Sctp => {
            let Some(event) = SctpEvent::of(packet.transport(ip)) else { return false };
            let state = SctpState::from_number(connection.state);
            let next = state.next(seen, event);
            if next != state {
                recount(connection, if next.is_active() { Counted::Active } else { Counted::Inactive });
                if next == SctpState::Established {
                    assure(connection);
                }
                connection.state = next.number();
            }
            connection.timeout = next.timeout().into();
            next != state
        }
        Protocol::Udp => advance_udp(connection, snapshot, seen),
    }
}

/// The same for a TCP segment with these flags.
pub(crate) fn advance_tcp(connection: &mut Connection, snapshot: &Snapshot, seen: Seen, flags: u8) -> bool {
    let state = TcpState::from_number(connection.state);
    // As in the kernel, 1 and 2 guard only while memory is short.
    let secure = snapshot.options.secure_tcp == 3;
    let next = state.next(seen, TcpEvent::of(flags), secure);
    if next != state {
        recount(connection, if next.is_active() { Counted::Active } else { Counted::Inactive });
        if next == TcpState::Established {
            assure(connection);
        }
        connection.state = next.number();
    }
    connection.timeout = snapshot.timers.tcp(next);
    next != state
}

/// The same for a datagram.
pub(crate) fn advance_udp(connection: &mut Connection, snapshot: &Snapshot, seen: Seen) -> bool {
    connection.timeout = snapshot.timers.udp();
    if seen != Seen::Output {
        return false;
    }
    assure(connection);
    core::mem::replace(&mut connection.state, UDP_ANSWERED) != UDP_ANSWERED
}

fn recount(connection: &mut Connection, counted: Counted) {
    if counted != connection.counted {
        connection.destination.recount(connection.counted, counted);
        connection.counted = counted;
    }
}

/// Tells the template that placed the connection that a real server took it.
fn assure(connection: &Connection) {
    if let Some(control) = &connection.control {
        control.assured.store(true, Relaxed);
    }
}
