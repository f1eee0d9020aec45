//! How destinations take connections: measured where both directions pass, for schedulers that want to know.
//!
//! ```text
//!   SYN forwarded --> asked_at --+-- SYN-ACK ------------------> answered
//!                                |-- RST ----------------------> refused
//!                                |-- SYN again, 1 s later -----> unanswered, and still asked
//!                                `-- expired in SYN_RECV ------> unanswered
//! ```
//!
//! The time runs from the first SYN of the connection, so that one that got lost counts: it is what the client waits
//! for. A service whose scheduler does not observe never sets `asked_at`, and everything here ends at that.

use uvs_wire::tcp;

use crate::base::scheduler::Response;
use crate::base::time::{Duration, Instant};
use crate::track::connection::Connection;
use crate::track::feedback::AskedAt;
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
}

/// A packet of a connection passed at `at`, here or in the flow cache: where, and with which TCP flags. `moved`: its
/// state is another now; its deadline has not moved yet. Costs two comparisons where nothing moved and nobody is waited
/// for.
#[cold]
pub(crate) fn segment(connection: &mut Connection, at: Instant, (seen, flags): (Seen, u8), moved: bool) {
    if connection.asked_at.is_some() {
        answer(connection, at, Sight::Segment(seen, flags));
    }
    let asks = moved && seen == Seen::Input && connection.state == TcpState::SynRecv.number();
    if asks && connection.request.protocol == tcp::PROTOCOL {
        ask(connection, at);
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
    if connection.translates_replies() && connection.destination.shared.feedback.is_wanted() {
        connection.asked_at = Some(AskedAt::new(now));
    }
}

fn answer(connection: &mut Connection, now: Instant, sight: Sight) {
    let Some(asked_at) = connection.asked_at else { return };
    let elapsed = asked_at.elapsed(now);
    let (response, is_over) = match sight {
        // A client that repeats its SYN for so long without an answer is waited for no more. It is seen at least once
        // in the timeout of SYN_RECV, else the connection expires.
        Sight::Segment(Seen::Input, _) if elapsed >= WAIT_MAX => (Response::Unanswered, true),
        Sight::Segment(Seen::Output, flags) if flags & tcp::RST != 0 => (Response::Refused, true),
        Sight::Segment(Seen::Output, flags) if flags & tcp::SYN != 0 => (Response::Answered, true),
        Sight::Segment(Seen::Input, flags)
            if flags & (tcp::SYN | tcp::RST) == tcp::SYN
                && now - (connection.expires_at - connection.timeout) >= PATIENCE =>
        {
            (Response::Unanswered, false)
        }
        // The client gave up before there was an answer.
        Sight::Segment(Seen::Input, flags) if flags & tcp::RST != 0 => {
            connection.asked_at = None;
            return;
        }
        Sight::Expiry if TcpState::from_number(connection.state) == TcpState::SynRecv => {
            (Response::Unanswered, true)
        }
        Sight::Segment(..) | Sight::Expiry => return,
    };
    if is_over {
        connection.asked_at = None;
    }
    connection.destination.shared.feedback.put(connection.destination.id, response, elapsed);
}
