//! The engine's outer face: frames and moments come in here, changes in [`apply`], questions in [`inspect`].
//!
//! ```text
//!   handle --> classify > find > advance > route > emit     (crate::path)
//!   apply  --> Snapshot, replaced whole; a packet sees the state before or after a change
//! ```

mod ahead;
mod apply;
mod control;
mod counts;
pub(crate) mod drain;
mod error;
pub(crate) mod facts;
mod flows;
pub(crate) mod follow;
pub(crate) mod inspect;
mod local;
mod look;
pub(crate) mod take;
mod traced;
mod vrrp;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

pub use error::ApplyError;
use uvs_wire::Packet;

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::scheduler::SchedulerFactory;
use crate::base::spec::Limits;
use crate::base::time::Instant;
use crate::base::verdict::{DropReason, Verdict};
use crate::director::control::Control;
use crate::director::look::{Look, Nobody};
use crate::net::lane::Lane;
use crate::net::messages;
use crate::path::advance::advance;
use crate::path::classify::classify;
use crate::path::emit::emit;
use crate::path::find::find;
use crate::path::gather::expire_fragments;
use crate::path::heading::Heading;
use crate::path::route::route;
use crate::path::short::class_of_short;
use crate::path::unreachable::report_unreachable;
use crate::scene::outbox::Outbox;
use crate::scene::{Scene, Tables};
use crate::track::stats::Stats;

/// Balances packets between clients and destinations. Performs no I/O and reads no clock.
///
/// All methods take `&self` and may be called by several workers at once. With one worker everything is
/// deterministic.
pub struct Director {
    pub(crate) tables: Tables,
    /// The sum over all services, removed ones included.
    pub(crate) total: Arc<Stats>,
    /// Who makes schedulers. Locked as long as a change takes, so that there is one at a time.
    pub(crate) schedulers: Mutex<Arc<dyn SchedulerFactory>>,
    /// Everything that only `apply` and timers touch.
    pub(crate) control: Mutex<Control>,
    /// When the rate estimator steps next, in nanoseconds.
    pub(crate) estimate_at: AtomicU64,
}

impl Director {
    /// A director with no interface and no service. `seed` feeds hashing and every random choice.
    pub fn new(limits: Limits, seed: u64, schedulers: Arc<dyn SchedulerFactory>) -> Self {
        Self {
            tables: Tables::new(limits, seed),
            total: Arc::default(),
            schedulers: Mutex::new(schedulers),
            control: Mutex::default(),
            estimate_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Processes one frame that came in on `port`, rewriting it in place. Frames the director originates go
    /// to `out`; the caller transmits them after the frame itself.
    ///
    /// Whatever the bytes are, the answer is a [`Verdict`]: bad input never panics.
    pub fn handle(&self, port: PortId, frame: &mut Frame, now: Instant, out: &mut Outbox) -> Verdict {
        self.walk(port, frame, now, out, Nobody)
    }

    /// The same, for whoever looks at it, too: one source, so that they cannot differ, and compiled once for each, so
    /// that nobody costs nothing.
    #[inline(never)]
    fn walk(
        &self,
        port: PortId,
        frame: &mut Frame,
        now: Instant,
        out: &mut Outbox,
        look: impl Look,
    ) -> Verdict {
        let Outbox { lane, held, passed } = out;
        let snapshot = self.tables.snapshot.hold(held, &mut lane.memo);
        let mut scene = Scene::new(&self.tables, snapshot, port, now);
        let (Ok(verdict) | Err(verdict)) = walk(&mut scene, lane, frame, look);
        if let (Some(now_passed), Some(flows)) = (scene.passed, &self.tables.flows) {
            flows.note_passed(now_passed, verdict, passed);
        }
        if let Verdict::Drop(reason) = verdict {
            self.tables.drops.count(reason);
        }
        verdict
    }

    /// Announces our addresses and VIPs (gratuitous ARP, RFC 5227; unsolicited advertisements, RFC 4861) on every
    /// layer 2 interface, so that caches that hold another owner's MAC address are corrected.
    pub fn announce(&self, out: &mut Outbox) {
        let network = &self.tables.snapshot.load().network;
        messages::announce(network, &mut out.lane);
        if self.tables.adverts.is_heard() {
            messages::join_vrrp(network, &mut out.lane);
        }
    }

    /// The next moment [`Self::handle_timeout`] has work to do.
    pub fn poll_at(&self) -> Option<Instant> {
        let estimate = match self.estimate_at.load(Relaxed) {
            u64::MAX => None,
            nanos => Some(Instant::from_nanos(nanos)),
        };
        let Tables { table, neighbors, reassembly, defence, flows, .. } = &self.tables;
        if flows.as_ref().is_some_and(|flows| flows.is_tending()) {
            return Some(Instant::ZERO);
        }
        let due =
            [table.next_due(), neighbors.next_due(), reassembly.next_due(), estimate, defence.next_due()];
        due.into_iter().flatten().min()
    }

    /// Expires what is due: connections, neighbours, waiting frames. Early or repeated calls are harmless.
    pub fn handle_timeout(&self, now: Instant, out: &mut Outbox) {
        self.handle_timeout_told(now, out, |_, _, _| {});
    }

    /// The same; `lost` sees each packet that had waited for a neighbour in vain: the interface that it should have
    /// left through, the packet as it would have left, and why it is dropped.
    pub fn handle_timeout_told(
        &self,
        now: Instant,
        out: &mut Outbox,
        mut lost: impl FnMut(PortId, &[u8], DropReason),
    ) {
        self.catch_up(now, out);
        let (tables, lane) = (&self.tables, &mut out.lane);
        self.uncache_closed(now);
        self.expire_connections(now);
        let snapshot = tables.snapshot.load();
        for (port, waiting) in tables.neighbors.expire(&snapshot.network, now, lane) {
            tables.drops.count(DropReason::Unreachable);
            lost(port, waiting.frame.bytes(), DropReason::Unreachable);
            report_unreachable(&Scene::new(tables, &snapshot, port, now), lane, waiting);
        }
        expire_fragments(tables, &snapshot, now, lane);
        tables
            .defence
            .defend(&tables.table, &snapshot.options, now, |connection| tables.deadline(connection));
        if self.estimate_at.load(Relaxed) <= now.as_nanos() {
            self.estimate(now);
        }
    }
}

/// The way of one frame. How it ends: at the last stage, or before. `look` sees what the stages find.
#[inline(always)]
fn walk(
    scene: &mut Scene<'_>,
    lane: &mut Lane,
    frame: &mut Frame,
    mut look: impl Look,
) -> Result<Verdict, Verdict> {
    let (mut packet, mut heading) = (Packet::EMPTY, Heading::UNKNOWN);
    let class = match classify(scene, lane, frame, &mut packet) {
        Ok(class) => Ok(class),
        Err(verdict) => class_of_short(scene, frame, &mut packet, verdict),
    };
    look.classified(scene, &packet, &class);
    let found = find(scene, lane, frame, &mut packet, &mut heading, class?)?;
    look.found(scene, &found);
    let act = advance(scene, frame, &mut packet, &mut heading, found)?;
    look.advanced(scene, &heading, &act);
    route(scene, lane, frame, &mut packet, &mut heading, act)?;
    let verdict = emit(scene, lane, frame, &packet, &heading);
    look.emitted(scene, &heading, verdict);
    Ok(verdict)
}

#[cfg(test)]
mod tests;
