//! SCTP as IPVS tracks it: a state per association, moved by the first chunk of each packet.
//!
//! ```text
//!   client opens    NONE -INIT-> INIT1 -init ack-> C-SENT -COOKIE ECHO-> C-REPLIED -cookie ack-> ESTABLISHED
//!   server opens    NONE -init-> C-WAIT -INIT ACK-> COOKIE -cookie echo-> C-ECHOED -COOKIE ACK-> ESTABLISHED
//!   client closes   ESTABLISHED -SHUTDOWN-> S-RECEIVED -shutdown ack-> S-ACK-SENT -SHUTDOWN COMPLETE-> CLOSED
//!   server closes   ESTABLISHED -shutdown-> S-SENT -SHUTDOWN ACK-> CLOSED
//! ```
//! Capitals come from the client. The states are the real server's, as far as packets show them; INIT1 and
//! REJECTED are short-lived so that INITs which nobody answers do not fill the table. Recorded in tests/golden
//! (`sctp_nat`).

use uvs_wire::ipv4::Ipv4Repr;
use uvs_wire::ipv6::Ipv6Repr;
use uvs_wire::{Packet, ipv4, ipv6, sctp};

use crate::base::time::Duration;
use crate::track::tcp::Seen;

/// State of an SCTP association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum SctpState {
    None,
    /// The client's first INIT.
    Init1,
    /// Another INIT.
    Init,
    CookieSent,
    CookieReplied,
    CookieWait,
    Cookie,
    CookieEchoed,
    Established,
    ShutdownSent,
    ShutdownReceived,
    ShutdownAckSent,
    Rejected,
    Closed,
}

use SctpState::{
    Closed, Cookie, CookieEchoed, CookieReplied, CookieSent, CookieWait, Established, Init, Init1,
    None as New, Rejected, ShutdownAckSent, ShutdownReceived, ShutdownSent,
};

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SctpEvent {
    /// DATA, SACK, HEARTBEAT, and whatever has no event of its own.
    Data,
    Init,
    InitAck,
    CookieEcho,
    CookieAck,
    Shutdown,
    ShutdownAck,
    ShutdownComplete,
    Error,
    Abort,
}

impl SctpEvent {
    /// The event of a packet; `None` if it has not even one whole chunk header.
    pub(crate) fn of(transport: &[u8]) -> Option<Self> {
        let chunk = transport.get(sctp::HEADER_LEN..)?.first_chunk::<4>()?;
        Some(match chunk[0] {
            sctp::INIT => Self::Init,
            sctp::INIT_ACK => Self::InitAck,
            // These two may be followed by an ABORT, which then counts.
            sctp::COOKIE_ECHO | sctp::COOKIE_ACK if second_chunk(transport, *chunk) == Some(sctp::ABORT) => {
                Self::Abort
            }
            sctp::COOKIE_ECHO => Self::CookieEcho,
            sctp::COOKIE_ACK => Self::CookieAck,
            sctp::SHUTDOWN => Self::Shutdown,
            sctp::SHUTDOWN_ACK => Self::ShutdownAck,
            sctp::SHUTDOWN_COMPLETE => Self::ShutdownComplete,
            sctp::ERROR => Self::Error,
            sctp::ABORT => Self::Abort,
            _ => Self::Data,
        })
    }
}

/// Type of the first chunk, if its header is whole. New associations are told by it alone.
pub(crate) fn first_chunk(transport: &[u8]) -> Option<u8> {
    transport.get(sctp::HEADER_LEN..)?.first_chunk::<4>().map(|chunk| chunk[0])
}

fn second_chunk(transport: &[u8], [_, _, high, low]: [u8; 4]) -> Option<u8> {
    let length = usize::from(u16::from_be_bytes([high, low]));
    let at = sctp::HEADER_LEN + length.next_multiple_of(4);
    (length >= 4).then(|| transport.get(at..)?.first_chunk::<4>().map(|chunk| chunk[0]))?
}

impl SctpState {
    pub(crate) const ALL: [Self; 14] = [
        New,
        Init1,
        Init,
        CookieSent,
        CookieReplied,
        CookieWait,
        Cookie,
        CookieEchoed,
        Established,
        ShutdownSent,
        ShutdownReceived,
        ShutdownAckSent,
        Rejected,
        Closed,
    ];

    /// The state with that number, as [`Self::number`] gave it out.
    pub(crate) const fn from_number(number: u8) -> Self {
        Self::ALL[number as usize % Self::ALL.len()]
    }

    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// Before ESTABLISHED.
    const fn is_opening(self) -> bool {
        (self as u8) < Established as u8
    }

    /// Where a packet moves the association.
    pub(crate) const fn next(self, seen: Seen, event: SctpEvent) -> Self {
        // An entry that starts in the middle (`sloppy_sctp`) believes its first packet.
        if let New = self {
            return Self::first(seen, event);
        }
        match seen {
            Seen::Input => self.next_of_client(event),
            Seen::Output => self.next_of_server(event),
            Seen::InputOnly => self.next_of_client_alone(event),
        }
    }

    const fn first(seen: Seen, event: SctpEvent) -> Self {
        match (event, seen) {
            (SctpEvent::Data | SctpEvent::CookieAck, _) => Established,
            (SctpEvent::Init, Seen::Output) => CookieWait,
            (SctpEvent::Init, _) => Init1,
            (SctpEvent::InitAck, Seen::Input) => CookieWait,
            (SctpEvent::InitAck, Seen::Output) => CookieSent,
            (SctpEvent::InitAck, Seen::InputOnly) => CookieEchoed,
            (SctpEvent::CookieEcho, Seen::Input) => CookieReplied,
            (SctpEvent::CookieEcho, Seen::Output) => CookieEchoed,
            (SctpEvent::CookieEcho, Seen::InputOnly) => Established,
            (SctpEvent::Shutdown, Seen::Output) => ShutdownSent,
            (SctpEvent::Shutdown, _) => ShutdownReceived,
            (SctpEvent::ShutdownAck, Seen::Output) => ShutdownAckSent,
            (SctpEvent::ShutdownAck, _) => Closed,
            (SctpEvent::ShutdownComplete | SctpEvent::Error | SctpEvent::Abort, _) => Closed,
        }
    }

    const fn next_of_client(self, event: SctpEvent) -> Self {
        match (event, self) {
            (SctpEvent::Init, Init1 | Rejected | Closed) => Init,
            (SctpEvent::InitAck, Init1 | Init) => CookieWait,
            (SctpEvent::InitAck, CookieWait) => Cookie,
            (SctpEvent::CookieEcho, CookieSent) => CookieReplied,
            (SctpEvent::CookieEcho | SctpEvent::ShutdownAck, Init1) => Init,
            (SctpEvent::CookieAck, CookieEchoed) => Established,
            (SctpEvent::Shutdown, Established) => ShutdownReceived,
            (SctpEvent::ShutdownAck, ShutdownSent | ShutdownAckSent) => Closed,
            (SctpEvent::ShutdownComplete, Init1 | Init | ShutdownAckSent) => Closed,
            (SctpEvent::Error, CookieEchoed) => Closed,
            (SctpEvent::Abort, CookieWait) => Rejected,
            (SctpEvent::Abort, _) => Closed,
            _ => self,
        }
    }

    const fn next_of_server(self, event: SctpEvent) -> Self {
        match (event, self) {
            (SctpEvent::Init, Established) => Established,
            (SctpEvent::Init, _) => CookieWait,
            (SctpEvent::InitAck, Init1 | Init) => CookieSent,
            (SctpEvent::CookieEcho, _) if self.is_opening() => CookieEchoed,
            (SctpEvent::CookieAck, _) if self.is_opening() => Established,
            (SctpEvent::Shutdown, Established) => ShutdownSent,
            (SctpEvent::Shutdown, _) if self.is_opening() => ShutdownSent,
            (SctpEvent::ShutdownAck, ShutdownSent | ShutdownReceived) => ShutdownAckSent,
            (SctpEvent::ShutdownAck, Init1 | Init | CookieSent | CookieReplied) => ShutdownAckSent,
            (SctpEvent::Error, Init1 | Init | CookieSent | CookieReplied) => Closed,
            (SctpEvent::Abort, Init1) => Rejected,
            (SctpEvent::Abort, _) => Closed,
            _ => self,
        }
    }

    const fn next_of_client_alone(self, event: SctpEvent) -> Self {
        match (event, self) {
            (SctpEvent::Data, CookieWait) => Established,
            (SctpEvent::Init, Rejected | Closed) => Init,
            (SctpEvent::Init, Init1 | CookieSent | CookieReplied | CookieWait) => Init,
            (SctpEvent::InitAck, Init1 | Init | CookieSent | CookieReplied | CookieWait) => CookieEchoed,
            (SctpEvent::CookieEcho, Init1 | Init | CookieSent | CookieReplied | CookieWait) => Established,
            (SctpEvent::CookieAck, CookieSent | CookieReplied | Cookie | CookieEchoed) => Established,
            (SctpEvent::Shutdown, Established) => ShutdownReceived,
            (SctpEvent::ShutdownAck, Init1) => Init,
            (SctpEvent::ShutdownAck, Established | ShutdownSent | ShutdownAckSent) => Closed,
            (SctpEvent::ShutdownComplete, Init1 | Init | CookieSent | CookieReplied) => Closed,
            (SctpEvent::ShutdownComplete, ShutdownReceived | ShutdownAckSent) => Closed,
            (SctpEvent::Abort, CookieWait) => Rejected,
            (SctpEvent::Abort, _) => Closed,
            _ => self,
        }
    }

    /// How long an association may stay silent in this state. `ipvsadm --set` does not change it.
    pub(crate) const fn timeout(self) -> Duration {
        match self {
            New => Duration::from_secs(2),
            Init1 | Rejected => Duration::from_secs(4),
            Established => Duration::from_secs(900),
            _ => Duration::from_secs(61),
        }
    }

    /// Whether the client has not yet shown by its cookie that it is where it says it is.
    pub(crate) const fn is_embryonic(self) -> bool {
        matches!(self, New | Init1 | Init | CookieSent | CookieWait | Cookie)
    }

    /// Whether an association in this state counts as active.
    pub(crate) const fn is_active(self) -> bool {
        matches!(self, Established)
    }

    /// One side has said that it has no more to send.
    pub(crate) const fn is_closing(self) -> bool {
        matches!(self, ShutdownSent | ShutdownReceived | ShutdownAckSent)
    }

    /// The name that listings print.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            New => "NONE",
            Init1 => "INIT1",
            Init => "INIT",
            CookieSent => "C-SENT",
            CookieReplied => "C-REPLIED",
            CookieWait => "C-WAIT",
            Cookie => "COOKIE",
            CookieEchoed => "C-ECHOED",
            Established => "ESTABLISHED",
            ShutdownSent => "S-SENT",
            ShutdownReceived => "S-RECEIVED",
            ShutdownAckSent => "S-ACK-SENT",
            Rejected => "REJECTED",
            Closed => "CLOSED",
        }
    }
}

/// Room for the longest packet that [`answer_out_of_the_blue`] writes.
pub(crate) const ANSWER_MAX: usize = ipv6::HEADER_LEN + ANSWER_LEN;
/// Common header and one chunk without a value.
const ANSWER_LEN: usize = sctp::HEADER_LEN + 4;
/// "The verification tag is that of the packet I answer" (RFC 9260 section 3.3.7).
const FLAG_T: u8 = 1;
/// An SCTP endpoint of Linux marks all it sends as able to take congestion notifications.
const ECT: u8 = 2;

/// Writes the packet that a host sends when a packet of no association reaches it (RFC 9260 section 8.4), and
/// returns its length; 0 and nothing written for what is discarded in silence. `sum_is_missing`: the CRC was left to
/// be filled in by hardware.
pub(crate) fn answer_out_of_the_blue(
    buffer: &mut [u8],
    ip: &[u8],
    packet: &Packet,
    sum_is_missing: bool,
) -> usize {
    let bytes = packet.transport(ip);
    let Ok(view) = sctp::SctpPacket::parse(bytes) else { return 0 };
    if packet.is_fragment() || !(sum_is_missing || view.checksum_ok()) {
        return 0;
    }
    if view.chunks().any(|chunk| chunk.kind == sctp::ABORT) {
        return 0;
    }
    let Some(first) = view.chunks().next() else { return 0 };
    let (kind, flags, tag) = match first.kind {
        sctp::SHUTDOWN_COMPLETE | sctp::COOKIE_ACK | sctp::ERROR => return 0,
        sctp::SHUTDOWN_ACK => (sctp::SHUTDOWN_COMPLETE, FLAG_T, view.verification_tag()),
        // An INIT carries the tag that its sender wants to see.
        sctp::INIT => match first.value.first_chunk() {
            Some(tag) => (sctp::ABORT, 0, u32::from_be_bytes(*tag)),
            None => return 0,
        },
        _ => (sctp::ABORT, FLAG_T, view.verification_tag()),
    };
    #[allow(clippy::cast_possible_truncation, reason = "a small constant")]
    let payload_len = ANSWER_LEN as u16;
    let start = match (packet.dst.to_v4(), packet.src.to_v4()) {
        (Some(src), Some(dst)) => {
            let header = Ipv4Repr {
                src,
                dst,
                protocol: sctp::PROTOCOL,
                ttl: 64,
                tos: ECT,
                id: 0,
                dont_fragment: true,
                payload_len,
            };
            header.emit(buffer);
            ipv4::HEADER_LEN
        }
        _ => {
            let header = Ipv6Repr {
                src: packet.dst.to_v6(),
                dst: packet.src.to_v6(),
                next_header: sctp::PROTOCOL,
                hop_limit: 64,
                traffic_class: ECT,
                payload_len,
            };
            header.emit(buffer);
            ipv6::HEADER_LEN
        }
    };
    let answer = &mut buffer[start..start + ANSWER_LEN];
    answer[..2].copy_from_slice(&view.dst_port().to_be_bytes());
    answer[2..4].copy_from_slice(&view.src_port().to_be_bytes());
    answer[4..8].copy_from_slice(&tag.to_be_bytes());
    answer[sctp::HEADER_LEN..].copy_from_slice(&[kind, flags, 0, 4]);
    sctp::fill_checksum(answer);
    start + ANSWER_LEN
}

#[cfg(test)]
mod tests;
