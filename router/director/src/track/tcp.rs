//! TCP as IPVS tracks it: a state per connection, moved by the flags of each segment.
//!
//! Which table applies depends on what the director can see: both directions (NAT), or only the client's
//! (direct routing and tunnelling, where replies pass by). The tables are those of the kernel's IPVS, as
//! recorded in tests/golden (`tcp_matrix_*`).

use crate::base::spec::Timeouts;
use crate::base::time::Duration;

/// State of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum TcpState {
    None,
    Established,
    SynSent,
    SynRecv,
    FinWait,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    SynAck,
}

use TcpState::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI, None as NO,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

/// What a segment says. RST counts before SYN, SYN before FIN, FIN before ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpEvent {
    Syn,
    Fin,
    Ack,
    Rst,
    /// None of the four.
    Nothing,
}

/// Where a segment was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// From the client, on a connection whose replies pass the director too.
    Input,
    /// From the destination.
    Output,
    /// From the client, on a connection whose replies pass by.
    InputOnly,
}

/// Next states by event (SYN, FIN, ACK, RST) and current state (NO ES SS SR FW TW CL CW LA LI SA).
type Table = [[TcpState; 11]; 4];

const INPUT: Table = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
];
const OUTPUT: Table = [
    [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];
const INPUT_ONLY: Table = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];
// With `secure_tcp` a connection is established only once the destination has confirmed it.
const SECURE_INPUT: Table = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
    [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];
const SECURE_OUTPUT: Table = [
    [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];
const SECURE_INPUT_ONLY: Table = [
    [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

impl TcpEvent {
    /// What the flags of a segment say.
    pub(crate) const fn of(flags: u8) -> Self {
        use uvs_wire::tcp::{ACK, FIN, RST, SYN};
        if flags & RST != 0 {
            Self::Rst
        } else if flags & SYN != 0 {
            Self::Syn
        } else if flags & FIN != 0 {
            Self::Fin
        } else if flags & ACK != 0 {
            Self::Ack
        } else {
            Self::Nothing
        }
    }
}

impl TcpState {
    pub(crate) const ALL: [Self; 11] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

    /// The state with that number, as [`Self::number`] gave it out.
    pub(crate) const fn from_number(number: u8) -> Self {
        if (number as usize) < Self::ALL.len() { Self::ALL[number as usize] } else { NO }
    }

    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// Where a segment moves the connection.
    pub(crate) const fn next(self, seen: Seen, event: TcpEvent, secure: bool) -> Self {
        let table = match (seen, secure) {
            (Seen::Input, false) => &INPUT,
            (Seen::Output, false) => &OUTPUT,
            (Seen::InputOnly, false) => &INPUT_ONLY,
            (Seen::Input, true) => &SECURE_INPUT,
            (Seen::Output, true) => &SECURE_OUTPUT,
            (Seen::InputOnly, true) => &SECURE_INPUT_ONLY,
        };
        let row = match event {
            TcpEvent::Syn => 0,
            TcpEvent::Fin => 1,
            TcpEvent::Ack => 2,
            TcpEvent::Rst => 3,
            TcpEvent::Nothing => return CL,
        };
        table[row][self as usize]
    }

    /// How long a connection may stay silent in this state.
    pub(crate) const fn timeout(self, timeouts: &Timeouts) -> Duration {
        match self {
            NO => Duration::from_secs(2),
            ES => timeouts.tcp,
            FW => timeouts.tcp_fin,
            SS | TW | LI | SA => Duration::from_secs(120),
            SR | CW => Duration::from_secs(60),
            LA => Duration::from_secs(30),
            CL => Duration::from_secs(10),
        }
    }

    /// Whether a connection in this state counts as active.
    pub(crate) const fn is_active(self) -> bool {
        matches!(self, ES | SS | SR | SA)
    }

    /// Whether the handshake is not done yet.
    pub(crate) const fn is_embryonic(self) -> bool {
        matches!(self, NO | SS | SR | SA)
    }

    /// Whether nothing but stray segments is to be expected.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, TW | CL | LA)
    }

    /// The name that listings print.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            NO => "NONE",
            ES => "ESTABLISHED",
            SS => "SYN_SENT",
            SR => "SYN_RECV",
            FW => "FIN_WAIT",
            TW => "TIME_WAIT",
            CL => "CLOSE",
            CW => "CLOSE_WAIT",
            LA => "LAST_ACK",
            LI => "LISTEN",
            SA => "SYNACK",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell that the recorded kernel was led through.
    #[test]
    fn every_recorded_cell_is_followed() {
        for (recording, nat, secure) in [
            ("tcp_matrix_nat", true, false),
            ("tcp_matrix_dr", false, false),
            ("tcp_matrix_nat_secure", true, true),
        ] {
            let path = format!("{}/../../tests/golden/{recording}.json", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect("the recording is there");
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let rows =
                json["steps"].as_array().unwrap().iter().filter_map(|step| step["rows"].as_array()).flatten();
            let mut cells = 0;
            for row in rows {
                let state = |key: &str| {
                    let name = row[key].as_str()?;
                    TcpState::ALL.into_iter().find(|state| state.name() == name)
                };
                let (Some(before), Some(after)) = (state("state_before"), state("state_after")) else {
                    continue;
                };
                let flags = row["event_flags"].as_str().unwrap().chars().fold(0, |flags, flag| {
                    use uvs_wire::tcp::{ACK, FIN, PSH, RST, SYN};
                    flags
                        | match flag {
                            'S' => SYN,
                            'F' => FIN,
                            'A' => ACK,
                            'R' => RST,
                            'P' => PSH,
                            _ => 0,
                        }
                });
                let seen = match (row["event_side"].as_str().unwrap(), nat) {
                    ("client", true) => Seen::Input,
                    ("client", false) => Seen::InputOnly,
                    _ => Seen::Output,
                };
                // A SYN on a closing connection starts another one instead (conn_reuse_mode).
                if seen != Seen::Output
                    && TcpEvent::of(flags) == TcpEvent::Syn
                    && matches!(before, TcpState::TimeWait | TcpState::Close)
                {
                    continue;
                }
                assert_eq!(before.next(seen, TcpEvent::of(flags), secure), after, "{recording}: {row}");
                let timer = row["timer_after"].as_u64().unwrap();
                let timeout = after.timeout(&Timeouts::default()).as_secs();
                assert!(timer.abs_diff(timeout) <= 2, "{recording}: {row}");
                cells += 1;
            }
            assert!(cells > 40, "{recording}: {cells} cells");
        }
    }
}
