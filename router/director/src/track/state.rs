//! How a packet moves the state of its connection, whatever the protocol.

use core::sync::atomic::Ordering::Relaxed;

use uvs_wire::Packet;

use crate::base::spec::{Options, Protocol, Timeouts};
use crate::base::time::Timeout;
use crate::track::connection::{Connection, UDP_ANSWERED};
use crate::track::destination::Counted;
use crate::track::sctp::{SctpEvent, SctpState};
use crate::track::tcp::{Seen, TcpEvent, TcpState};

/// The timeouts in force, as entries have them.
#[derive(Clone)]
pub(crate) struct Timers {
    tcp: [Timeout; TcpState::ALL.len()],
    udp: Timeout,
}

/// What moves states: the timeouts in force, and whether TCP is on its guard.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    timers: &'a Timers,
    secure_tcp: bool,
}

impl<'a> Rules<'a> {
    #[inline]
    pub(crate) fn new(timers: &'a Timers, options: &Options) -> Self {
        // As in the kernel, 1 and 2 guard only while memory is short.
        Self { timers, secure_tcp: options.secure_tcp == 3 }
    }
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

/// Moves the state of a connection by one packet and sets the timeout that follows from it. `ip` gives the packet's
/// bytes. Returns whether the state is another now.
#[inline(always)]
pub(crate) fn advance<'a>(
    connection: &mut Connection,
    rules: Rules<'_>,
    protocol: Protocol,
    seen: Seen,
    packet: &Packet,
    ip: impl FnOnce() -> &'a [u8],
) -> bool {
    match protocol {
        Protocol::Tcp => advance_tcp(connection, rules, seen, packet.tcp_flags),
        Protocol::Sctp => advance_sctp(connection, seen, packet.transport(ip())),
        Protocol::Udp => advance_udp(connection, rules, seen),
    }
}

/// The same for an SCTP packet.
#[inline(never)]
fn advance_sctp(connection: &mut Connection, seen: Seen, packet: &[u8]) -> bool {
    let Some(event) = SctpEvent::of(packet) else { return false };
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

/// The same for a TCP segment with these flags.
#[inline(always)]
pub(crate) fn advance_tcp(connection: &mut Connection, rules: Rules<'_>, seen: Seen, flags: u8) -> bool {
    let state = TcpState::from_number(connection.state);
    let next = state.next(seen, TcpEvent::of(flags), rules.secure_tcp);
    connection.timeout = rules.timers.tcp(next);
    if next == state {
        return false;
    }
    enter_tcp(connection, next);
    true
}

#[inline(never)]
fn enter_tcp(connection: &mut Connection, next: TcpState) {
    recount(connection, if next.is_active() { Counted::Active } else { Counted::Inactive });
    if next == TcpState::Established {
        assure(connection);
    }
    connection.state = next.number();
}

/// The same for a datagram.
pub(crate) fn advance_udp(connection: &mut Connection, rules: Rules<'_>, seen: Seen) -> bool {
    connection.timeout = rules.timers.udp();
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
