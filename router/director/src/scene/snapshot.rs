//! What changes replace and packets read: the snapshot, how it is published, and how a worker holds on to it.

use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::spec::{MarkRule, Options, Protocol, Timeouts};
use crate::choose::service::{Service, Services};
use crate::net::memo::Memo;
use crate::net::network::Network;
use crate::track::connection::Connection;
use crate::track::state::{Rules, Timers};

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
    /// Another number for each snapshot of a director.
    version: u64,
}

impl Snapshot {
    /// What moves the states of connections.
    #[inline]
    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules::new(&self.timers, &self.options)
    }

    /// The service whose destination a connection has; none, if that was removed from it.
    pub(crate) fn service_of(&self, connection: &Connection) -> Option<&Arc<Service>> {
        let request = &connection.request;
        let is_its = |service: &&Arc<Service>| Arc::ptr_eq(&service.shared, &connection.destination.shared);
        let by_address = Protocol::from_number(request.protocol)
            .and_then(|protocol| self.services.find(protocol, request.virtual_addr, request.virtual_port, 0));
        // Else it has a mark, or it is of a service that this one comes before since.
        by_address.filter(is_its).or_else(|| self.services.iter().find(is_its))
    }
}

/// The snapshot in force.
#[derive(Default)]
pub(crate) struct Published {
    snapshot: ArcSwap<Snapshot>,
    /// Its version, shared with those who hold one and tell by it whether theirs is still in force.
    version: Arc<AtomicU64>,
}

impl Published {
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Replaces the snapshot. One caller at a time.
    pub(crate) fn store(&self, mut snapshot: Snapshot) {
        snapshot.version = self.version.load(Acquire) + 1;
        let version = snapshot.version;
        self.snapshot.store(Arc::new(snapshot));
        self.version.store(version, Release);
    }

    /// Whether a snapshot of this director is the one in force.
    pub(crate) fn is_current(&self, snapshot: &Snapshot) -> bool {
        self.version.load(Acquire) == snapshot.version
    }

    /// The snapshot in force, which `held` holds on to; `memo` forgets what it knew from another.
    #[inline]
    pub(crate) fn hold<'a>(&self, held: &'a mut Held, memo: &mut Memo) -> &'a Snapshot {
        let is_current = matches!(&held.0, Some((version, snapshot))
            if Arc::ptr_eq(version, &self.version) && version.load(Acquire) == snapshot.version);
        if !is_current {
            self.renew(held, memo);
        }
        held.0.as_ref().map(|(_, snapshot)| &**snapshot).expect("it was renewed where there was none")
    }

    #[cold]
    fn renew(&self, held: &mut Held, memo: &mut Memo) {
        memo.clear();
        held.0 = Some((Arc::clone(&self.version), self.snapshot.load_full()));
    }
}

/// A snapshot that a worker keeps from frame to frame, and what tells whether it is in force.
#[derive(Default)]
pub(crate) struct Held(Option<(Arc<AtomicU64>, Arc<Snapshot>)>);
