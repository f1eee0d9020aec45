//! `drop_entry`: while a flood fills the table, entries that look abandoned make room.
//!
//! Each second one entry in 32 is looked at, so that every entry is seen within 32 seconds (the kernel looks at as
//! many, chosen at random). What goes:
//!
//! ```text
//!   TCP in SYN_RECV or SYNACK, SCTP in INIT1 or INIT    all
//!   TCP and SCTP in ESTABLISHED, UDP                    silent for 60 s after n packets from the client, 1 to 8:
//!                                                       each n-th of them
//!   templates never confirmed by an established connection, and without connections
//! ```
//! Packets that pass in the flow cache are packets. Entries that other entries hang on stay, and so do all other
//! states, which end soon by themselves.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

use crate::base::lock::lock;
use crate::base::spec::{Options, Protocol};
use crate::base::time::{Duration, Instant};
use crate::track::connection::Connection;
use crate::track::sctp::SctpState;
use crate::track::table::Table;
use crate::track::tcp::TcpState;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// One entry in how many is looked at each time.
pub(crate) const SHARE: usize = 32;
/// An entry whose last packet is not older than that is left to a connection that may just be slow.
const YOUNG: Duration = Duration::from_secs(60);
/// With more packets than that from the client, an entry has proved itself.
const PACKETS_MAX: usize = 8;

/// The state of the defence.
#[derive(Debug)]
pub(crate) struct Defence {
    /// When it looks next, in nanoseconds; `u64::MAX`: it is off.
    at: AtomicU64,
    dropped: AtomicU64,
    /// Counts new connections while `drop_packet` sheds.
    shed: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Which part of the table comes next.
    turn: usize,
    rates: Rates,
}

/// How many silent entries are still let off until one goes, by the number of packets they had.
#[derive(Debug, Default)]
struct Rates([usize; PACKETS_MAX + 1]);

impl Rates {
    /// Whether a silent entry with so many packets goes: each of those with 1, every 8th of those with 8.
    fn takes(&mut self, packets: u32) -> bool {
        let packets = packets as usize;
        let Some(left) = self.0.get_mut(packets).filter(|_| packets > 0) else { return false };
        if *left > 1 {
            *left -= 1;
            return false;
        }
        *left = packets;
        true
    }
}

impl Defence {
    pub(crate) fn new() -> Self {
        Self {
            at: AtomicU64::new(u64::MAX),
            dropped: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            inner: Mutex::default(),
        }
    }

    /// When [`Self::defend`] has work.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let at = self.at.load(Relaxed);
        (at != u64::MAX).then(|| Instant::from_nanos(at))
    }

    /// Switches it on or off as the options say.
    pub(crate) fn follow(&self, options: &Options, now: Instant) {
        if options.drop_entry == 0 {
            self.at.store(u64::MAX, Relaxed);
        } else {
            self.at.fetch_min((now + PERIOD).as_nanos(), Relaxed);
        }
    }

    /// Connections and templates that `drop_entry` took out of the table so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Whether `drop_packet` sheds this new connection: one in `am_droprate`, always (3) or under pressure.
    pub(crate) fn sheds(&self, table: &Table, options: &Options) -> bool {
        let active = match options.drop_packet {
            0 => false,
            3 => true,
            _ => table.is_nearly_full(),
        };
        active && {
            let rate = u64::from(options.am_droprate.max(1));
            (self.shed.fetch_add(1, Relaxed) + 1).is_multiple_of(rate)
        }
    }

    /// Looks at one part of the table when it is time to, and takes out what looks abandoned. `deadline` says when the
    /// time of an entry is up, in the knowledge of packets that passed in the flow cache.
    pub(crate) fn defend(
        &self,
        table: &Table,
        options: &Options,
        now: Instant,
        deadline: impl Fn(&Connection) -> Instant,
    ) {
        if self.next_due().is_none_or(|at| at > now) {
            return;
        }
        let Inner { turn, rates } = &mut *lock(&self.inner);
        self.at.store((now + PERIOD).as_nanos(), Relaxed);
        self.follow(options, now);
        if options.drop_entry == 3 || options.drop_entry != 0 && table.is_nearly_full() {
            table.sweep(
                *turn,
                SHARE,
                |connection| is_abandoned(connection, rates, now, || deadline(connection)),
                |connection| {
                    self.dropped.fetch_add(1, Relaxed);
                    connection.release();
                },
            );
            *turn = (*turn + 1) % SHARE;
        }
    }
}

/// `deadline` says when its time is up, in the knowledge of packets that did not pass here.
fn is_abandoned(
    connection: &Connection,
    rates: &mut Rates,
    now: Instant,
    deadline: impl Fn() -> Instant,
) -> bool {
    let controls = connection.controls();
    if controls.is_some_and(|control| control.controlled.load(Relaxed) > 0) {
        return false;
    }
    if connection.request.template {
        // One-packet services confirm nothing, so their templates prove nothing by it.
        return controls.is_some_and(|control| !control.one_packet && !control.assured.load(Relaxed));
    }
    let mut is_silent = || {
        let is_silent = |deadline: Instant| now + connection.timeout >= deadline + YOUNG;
        // The cache is asked about what looks silent here, and who went on there has proved itself.
        let there = || {
            let deadline = deadline();
            is_silent(deadline) && !connection.went_on(deadline)
        };
        is_silent(connection.expires_at) && there() && rates.takes(connection.in_packets.into())
    };
    match Protocol::from_number(connection.request.protocol) {
        Some(Protocol::Tcp) => match TcpState::from_number(connection.state) {
            TcpState::SynRecv | TcpState::SynAck => true,
            TcpState::Established => is_silent(),
            _ => false,
        },
        Some(Protocol::Sctp) => match SctpState::from_number(connection.state) {
            SctpState::Init1 | SctpState::Init => true,
            SctpState::Established => is_silent(),
            _ => false,
        },
        Some(Protocol::Udp) | None => is_silent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_packets_the_fewer_go() {
        for (packets, want) in [(0, 0), (1, 80), (2, 40), (4, 20), (8, 10), (9, 0), (u32::MAX, 0)] {
            let mut rates = Rates::default();
            let taken = (0..80).filter(|_| rates.takes(packets)).count();
            assert_eq!(taken, want, "of 80 with {packets} packets");
        }
    }
}
