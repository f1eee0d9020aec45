//! The engine's outer face, and the state behind it.
//!
//! ```text
//!   handle --> input --> related | balance | node | routing --> forward --> output
//!   apply  --> apply --> Snapshot (replaced whole; the packet path loads it once per frame)
//! ```

mod apply;
mod inspect;

pub use inspect::ServiceSet;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::base::frame::{Frame, Outbox, PortId};
use crate::base::spec::{Limits, MacAddr, MarkRule, Options, ServiceKey, Timeouts};
use crate::base::time::Instant;
use crate::base::verdict::{DropReason, Verdict};
use crate::base::view::AddressConflict;
use crate::choose::defence::Defence;
use crate::choose::scheduler::SchedulerFactory;
use crate::choose::service::{Servers, Services};
use crate::director::apply::Control;
use crate::flow_cache::Passed;
use crate::flows::Flows;
use crate::net::neighbor::Neighbors;
use crate::net::network::Network;
use crate::net::path_mtu::PathMtus;
use crate::path::memo::Published;
use crate::path::reassembly::Reassembly;
use crate::path::report::ErrorLimit;
use crate::track::state::Timers;
use crate::track::stats::Stats;
use crate::track::table::Table;

/// Why a change was refused. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// That service is there already.
    #[error("service {0} already exists")]
    ServiceExists(ServiceKey),
    /// No such service.
    #[error("no service {0}")]
    NoSuchService(ServiceKey),
    /// That destination is there already.
    #[error("service {0} already has destination {1}")]
    DestinationExists(ServiceKey, core::net::SocketAddr),
    /// No such destination.
    #[error("service {0} has no destination {1}")]
    NoSuchDestination(ServiceKey, core::net::SocketAddr),
    /// The scheduler could not be made.
    #[error("scheduler {name:?}: {reason}")]
    Scheduler {
        /// As it was asked for.
        name: String,
        /// What the factory said.
        reason: String,
    },
    /// The change contradicts itself or what is there.
    #[error("{0}")]
    Invalid(String),
}

/// What the packet path reads: immutable, replaced whole by each change.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) network: Arc<Network>,
    pub(crate) services: Arc<Services>,
    pub(crate) marks: Arc<[MarkRule]>,
    pub(crate) timeouts: Timeouts,
    /// The same, as entries have them.
    pub(crate) timers: Timers,
    pub(crate) options: Options,
}

/// Balances packets between clients and destinations. Performs no I/O and reads no clock.
///
/// All methods take `&self` and may be called by several workers at once. With one worker everything is
/// deterministic.
pub struct Director {
    pub(crate) limits: Limits,
    pub(crate) snapshot: Published,
    pub(crate) table: Table,
    pub(crate) neighbors: Neighbors,
    pub(crate) reassembly: Reassembly,
    pub(crate) path_mtus: PathMtus,
    /// The sum over all services, removed ones included.
    pub(crate) total: Arc<Stats>,
    drops: Box<[AtomicU64]>,
    /// Who claimed an address of ours; the latest last.
    pub(crate) conflicts: Mutex<Vec<AddressConflict>>,
    pub(crate) icmp_limit: ErrorLimit,
    pub(crate) defence: Defence,
    /// Counts new connections while `drop_packet` sheds.
    pub(crate) shed_counter: AtomicU64,
    /// The IP id of packets the director originates.
    pub(crate) next_ip_id: AtomicU32,
    /// Real servers that are reached by NAT.
    pub(crate) servers: Servers,
    /// Who makes schedulers. Locked as long as a change takes, so that there is one at a time.
    pub(crate) schedulers: Mutex<Arc<dyn SchedulerFactory>>,
    /// Everything that only `apply` and timers touch.
    pub(crate) control: Mutex<Control>,
    /// Where packets pass by.
    pub(crate) flows: Option<Arc<Flows>>,
    /// When the rate estimator steps next, in nanoseconds.
    pub(crate) estimate_at: AtomicU64,
}

/// What handling one frame needs to know beside the frame.
pub(crate) struct Scene<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Where the frame came in.
    pub(crate) port: PortId,
    /// Who sent the frame, on a layer 2 interface.
    pub(crate) source_mac: Option<MacAddr>,
    /// The packet's firewall mark; 0 is none.
    pub(crate) mark: u32,
    pub(crate) now: Instant,
    /// What the flow cache has numbered the frame with, and of what it was once that is known.
    pub(crate) ticket: Option<u16>,
    pub(crate) passed: Option<Passed>,
    pub(crate) out: &'a mut Outbox,
}

impl<'a> Scene<'a> {
    /// The scene of a frame that just came in, or of one the director lets go of by itself.
    pub(crate) fn new(snapshot: &'a Snapshot, port: PortId, now: Instant, out: &'a mut Outbox) -> Self {
        Self { snapshot, port, source_mac: None, mark: 0, now, ticket: None, passed: None, out }
    }
}

impl Director {
    /// A director with no interface and no service. `seed` feeds hashing and every random choice.
    pub fn new(limits: Limits, seed: u64, schedulers: Arc<dyn SchedulerFactory>) -> Self {
        Self {
            limits,
            snapshot: Published::default(),
            table: Table::new(limits.connections, limits.evict, seed),
            neighbors: Neighbors::new(&limits, seed),
            reassembly: Reassembly::new(&limits, seed),
            path_mtus: PathMtus::new(seed),
            total: Arc::default(),
            drops: DropReason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            conflicts: Mutex::default(),
            shed_counter: AtomicU64::new(0),
            icmp_limit: ErrorLimit::new(limits.icmp_errors_per_second),
            defence: Defence::new(),
            #[allow(clippy::cast_possible_truncation, reason = "any bits will do")]
            next_ip_id: AtomicU32::new(seed as u32),
            servers: Servers::default(),
            schedulers: Mutex::new(schedulers),
            control: Mutex::default(),
            flows: None,
            estimate_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Processes one frame that came in on `port`, rewriting it in place. Frames the director originates go
    /// to `out`; the caller transmits them after the frame itself.
    ///
    /// Whatever the bytes are, the answer is a [`Verdict`]: bad input never panics.
    pub fn handle(&self, port: PortId, frame: &mut Frame, now: Instant, out: &mut Outbox) -> Verdict {
        let held = out.memo.take(&self.snapshot);
        let mut scene = Scene::new(&held.snapshot, port, now, out);
        let verdict = self.input(&mut scene, frame);
        let passed = scene.passed;
        if let (Some(passed), Some(flows)) = (passed, &self.flows) {
            flows.note_passed(passed, verdict, out);
        }
        out.memo.put_back(held);
        if let Verdict::Drop(reason) = verdict {
            self.count_drop(reason);
        }
        verdict
    }

    /// The next moment [`Self::handle_timeout`] has work to do.
    pub fn poll_at(&self) -> Option<Instant> {
        let estimate = match self.estimate_at.load(Relaxed) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        };
        let defence = self.defence.next_due();
        let due =
            [self.table.next_due(), self.neighbors.next_due(), self.reassembly.next_due(), estimate, defence];
        due.into_iter().flatten().min()
    }

    /// Expires what is due: connections, neighbours, waiting frames. Early or repeated calls are harmless.
    pub fn handle_timeout(&self, now: Instant, out: &mut Outbox) {
        self.catch_up(now, out);
        self.uncache_closed(now);
        self.expire_connections(now);
        let snapshot = self.snapshot.load();
        let lost = self.neighbors.expire(&snapshot.network, now, out);
        for (port, waiting) in lost {
            self.count_drop(DropReason::Unreachable);
            let mut scene = Scene::new(&snapshot, port, now, out);
            self.report_unreachable(&mut scene, waiting);
        }
        self.expire_fragments(now, out);
        self.defend(&snapshot.options, now);
        if self.estimate_at.load(Relaxed) <= now.as_nanos() {
            self.estimate(now);
        }
    }

    /// Connections that made room for new ones while the table was at its limit; see [`Evict`](crate::base::spec::Evict).
    pub fn entries_evicted(&self) -> u64 {
        self.table.evicted().map(|(_, count)| count).sum()
    }

    /// Counts a drop.
    pub(crate) fn count_drop(&self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    /// Counts so many drops.
    pub(crate) fn count_drops(&self, reason: DropReason, frames: usize) {
        self.drops[reason as usize].fetch_add(frames as u64, Relaxed);
    }

    /// Drops so far, of every reason.
    pub(crate) fn drops(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL.iter().map(|&reason| (reason, self.drops[reason as usize].load(Relaxed))).collect()
    }
}
