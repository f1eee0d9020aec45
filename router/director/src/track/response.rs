//! How destinations take connections: measured where both directions pass, for schedulers that want to know, and for
//! whoever watches a destination.
//!
//! ```text
//!   SYN forwarded --> asked_at --+-- SYN-ACK ------------------> answered
//!                                |-- RST ----------------------> refused
//!                                |-- SYN again, 1 s later -----> unanswered, and still asked
//!                                |-- no neighbour of the RIP --> unanswered
//!                                `-- expired in SYN_RECV ------> unanswered
//! ```
//!
//! The time runs from the first SYN of the connection, so that one that got lost counts: it is what the client waits
//! for. A service whose scheduler does not observe, with destinations that nobody watches, never sets `asked_at`, and
//! everything here ends at that.
//!
//! Where answers pass by (DR, TUN) a destination that is watched is taken to have answered when its client goes on, and
//! maybe not to have when that sends its SYN again. Of UDP the first answer counts, and errors. Of SCTP an INIT is what
//! a SYN is to TCP, an INIT ACK the answer and an ABORT the reset; schedulers do not hear of it.

use uvs_wire::{sctp, tcp, udp};

use crate::base::scheduler::Response;
use crate::base::time::{Duration, Instant};
use crate::track::connection::Connection;
use crate::track::feedback::AskedAt;
use crate::track::observed;
use crate::track::sctp::SctpState;
use crate::track::tcp::{Seen, TcpState};

/// A client that repeats its SYN sooner after the one before says nothing about the destination. Clients wait for a
/// second (RFC
/// 6298) or more; whoever floods with SYNs of one connection is not to flood the scheduler.
const PATIENCE: Duration = Duration::from_millis(900);

/// Nobody is waited for longer: 32 bits of microseconds wrap after 71 minutes.
const WAIT_MAX: Duration = Duration::from_secs(30 * 60);

/// What passed, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// A TCP segment with these flags.
    Segment(Seen, u8),
    /// The connection expires.
    Expiry,
    /// There is no neighbour of its destination's address.
    NoNeighbour,
}

/// A packet of a connection passed at `at`, here or in the flow cache: where, and with which TCP flags. `moved`: its
/// state is another now; its deadline has not moved yet. Costs two comparisons where nothing moved and nobody is waited
/// for.
#[cold]
pub(crate) fn segment(connection: &mut Connection, at: Instant, (seen, flags): (Seen, u8), moved: bool) {
    if connection.request.protocol == sctp::PROTOCOL {
        return association(connection, at, seen, moved);
    }
    if connection.asked_at.is_some() {
        answer(connection, at, Sight::Segment(seen, flags));
    }
    if !moved {
        return;
    }
    if connection.request.protocol != tcp::PROTOCOL {
        let observed = &connection.destination.observed;
        if seen == Seen::Output && connection.request.protocol == udp::PROTOCOL && observed.is_watched() {
            observed.see(observed::Sight::Answered);
        }
        return;
    }
    let asks = match seen {
        Seen::Input => connection.state == TcpState::SynRecv.number(),
        Seen::InputOnly => is_opening(connection) && connection.destination.observed.is_watched(),
        Seen::Output => false,
    };
    if asks {
        ask(connection, at);
    }
}

/// The same of SCTP, whose states tell of all that matters.
fn association(connection: &mut Connection, at: Instant, seen: Seen, moved: bool) {
    let is_opening = is_opening(connection);
    let Some(asked_at) = connection.asked_at else {
        let observed = &connection.destination.observed;
        if moved
            && is_opening
            && seen != Seen::Output
            && observed.is_watched()
            && !connection.request.template
        {
            connection.asked_at = Some(AskedAt::new(at));
        }
        return;
    };
    let is_closed =
        matches!(SctpState::from_number(connection.state), SctpState::Closed | SctpState::Rejected);
    let sight = match seen {
        Seen::Output if is_closed => observed::Sight::Failed,
        // Where answers pass by, that its client goes on says as much.
        Seen::Output | Seen::InputOnly if !is_opening && !is_closed => observed::Sight::Answered,
        // The client gave up before there was an answer.
        Seen::Input | Seen::InputOnly if is_closed => {
            connection.asked_at = None;
            return;
        }
        Seen::Input | Seen::InputOnly if is_opening && asked_at.elapsed(at) >= PATIENCE => {
            // The next one that counts is as late again.
            connection.asked_at = Some(AskedAt::new(at));
            connection.destination.observed.see(silence(connection));
            return;
        }
        _ => return,
    };
    connection.asked_at = None;
    connection.destination.observed.see(sight);
}

/// What it says of a destination that an answer was not seen.
fn silence(connection: &Connection) -> observed::Sight {
    if connection.translates_replies() { observed::Sight::Failed } else { observed::Sight::Doubtful }
}

/// Whether its client has asked, and nothing more is seen.
fn is_opening(connection: &Connection) -> bool {
    if connection.request.protocol == sctp::PROTOCOL {
        return matches!(SctpState::from_number(connection.state), SctpState::Init1 | SctpState::Init);
    }
    matches!(TcpState::from_number(connection.state), TcpState::SynRecv | TcpState::SynAck)
}

/// What a connection's client sent waited in vain for the neighbour that its destination is reached by.
pub(crate) fn no_neighbour(connection: &mut Connection, now: Instant) {
    if connection.asked_at.is_some() {
        answer(connection, now, Sight::NoNeighbour);
    } else if connection.request.protocol == udp::PROTOCOL && connection.is_embryonic() {
        connection.destination.observed.see(observed::Sight::Failed);
    }
}

/// An ICMP error says that a request of a connection did not reach its destination, or nobody there.
pub(crate) fn unreachable(connection: &Connection) {
    let is_asked = connection.asked_at.is_some();
    // Where answers pass by, of no flow is known that it is answered.
    let is_flow = connection.request.protocol == udp::PROTOCOL && !connection.request.template;
    if is_asked || is_flow && (connection.is_embryonic() || !connection.translates_replies()) {
        connection.destination.observed.see(observed::Sight::Doubtful);
    }
}

/// A connection expires.
pub(crate) fn expiry(connection: &mut Connection) {
    if connection.asked_at.is_some() {
        answer(connection, connection.expires_at, Sight::Expiry);
    }
}

/// A connection has come to be in SYN_RECV: from now on its destination is waited for, if anybody wants to know.
fn ask(connection: &mut Connection, now: Instant) {
    let destination = &connection.destination;
    let is_heard = connection.translates_replies() && destination.shared.feedback.is_wanted();
    if is_heard || !connection.request.template && destination.observed.is_watched() {
        connection.asked_at = Some(AskedAt::new(now));
    }
}

fn answer(connection: &mut Connection, now: Instant, sight: Sight) {
    let Some(asked_at) = connection.asked_at else { return };
    let elapsed = asked_at.elapsed(now);
    let (response, is_over) = match sight {
        // A client that repeats its SYN for so long without an answer is waited for no more. It is seen at least once
        // in the timeout of SYN_RECV, else the connection expires.
        Sight::Segment(Seen::Input | Seen::InputOnly, _) if elapsed >= WAIT_MAX => {
            (Response::Unanswered, true)
        }
        Sight::NoNeighbour => (Response::Unanswered, true),
        Sight::Segment(Seen::Output, flags) if flags & tcp::RST != 0 => (Response::Refused, true),
        Sight::Segment(Seen::Output, flags) if flags & tcp::SYN != 0 => (Response::Answered, true),
        Sight::Segment(Seen::Input | Seen::InputOnly, flags)
            if flags & (tcp::SYN | tcp::RST) == tcp::SYN
                && now - (connection.expires_at - connection.timeout) >= PATIENCE =>
        {
            (Response::Unanswered, false)
        }
        // Of what the destination says nothing is seen; but its client goes on.
        Sight::Segment(Seen::InputOnly, flags) if flags & (tcp::SYN | tcp::RST | tcp::ACK) == tcp::ACK => {
            (Response::Answered, true)
        }
        // The client gave up before there was an answer.
        Sight::Segment(Seen::Input | Seen::InputOnly, flags) if flags & tcp::RST != 0 => {
            connection.asked_at = None;
            return;
        }
        Sight::Expiry if is_opening(connection) => (Response::Unanswered, true),
        Sight::Segment(..) | Sight::Expiry => return,
    };
    if is_over {
        connection.asked_at = None;
    }
    let destination = &connection.destination;
    destination.observed.see(match response {
        Response::Answered => observed::Sight::Answered,
        Response::Unanswered if sight != Sight::NoNeighbour => silence(connection),
        Response::Refused | Response::Unanswered => observed::Sight::Failed,
    });
    if connection.translates_replies() && connection.request.protocol == tcp::PROTOCOL {
        destination.shared.feedback.put(destination.id, response, elapsed);
    }
}
