//! The engine's outer face.

use std::sync::Arc;

use crate::frame::{Frame, Outbox, PortId};
use crate::scheduler::SchedulerFactory;
use crate::spec::{Change, Limits, Options, ServiceKey, Timeouts};
use crate::time::Instant;
use crate::verdict::Verdict;
use crate::view::{ConnectionView, NeighborView, ServiceView, Status};

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

/// Balances packets between clients and destinations. Performs no I/O and reads no clock.
pub struct Director {}

impl Director {
    /// A director with no interface and no service. `seed` feeds hashing and every random choice.
    pub fn new(_limits: Limits, _seed: u64, _schedulers: Arc<dyn SchedulerFactory>) -> Self {
        todo!()
    }

    /// Processes one frame that came in on `port`, rewriting it in place. Frames the director originates go
    /// to `out`.
    pub fn handle(&self, _port: PortId, _frame: &mut Frame, _now: Instant, _out: &mut Outbox) -> Verdict {
        todo!()
    }

    /// The next moment [`Self::handle_timeout`] has work to do.
    pub fn poll_at(&self) -> Option<Instant> {
        todo!()
    }

    /// Expires what is due: connections, neighbours, waiting frames. Early or repeated calls are harmless.
    pub fn handle_timeout(&self, _now: Instant, _out: &mut Outbox) {
        todo!()
    }

    /// Takes one change, or refuses it whole.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&self, _change: Change, _now: Instant) -> Result<(), ApplyError> {
        todo!()
    }

    /// Announces our addresses and VIPs (gratuitous ARP, unsolicited ND) on every layer 2 interface.
    pub fn announce(&self, _out: &mut Outbox) {
        todo!()
    }

    /// All services, sorted by key, with destinations in list order.
    pub fn services(&self) -> Vec<ServiceView> {
        todo!()
    }

    /// All connections and templates, in no order.
    pub fn connections(&self, _now: Instant) -> Vec<ConnectionView> {
        todo!()
    }

    /// The neighbour table.
    pub fn neighbors(&self) -> Vec<NeighborView> {
        todo!()
    }

    /// Totals, table sizes, drops.
    pub fn status(&self) -> Status {
        todo!()
    }

    /// The timeouts in force.
    pub fn timeouts(&self) -> Timeouts {
        todo!()
    }

    /// The options in force.
    pub fn options(&self) -> Options {
        todo!()
    }
}
