//! A real server behind a service: what it is, what it carries, and what it has counted.
//!
//! A connection holds its destination, so one that is removed lives on, unavailable, until its last connection is gone.

use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed,
};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use uvs_wire::Address;

use crate::base::lock::lock;
use crate::base::scheduler::{Candidate, Load};
use crate::base::spec::{DestinationSpec, Forwarding, ServiceKey, Tunnel};
use crate::base::view::{Counters, DestinationView};
use crate::track::feedback::Feedback;
use crate::track::observed::Observed;
use crate::track::stats::{Stats, Tally};

/// What a service and its destinations share, and what outlives the service while they do.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The service's.
    pub(crate) key: ServiceKey,
    pub(crate) stats: Stats,
    /// The sum over all services.
    total: Arc<Stats>,
    /// Ids of destinations whose load changed since the scheduler was last told.
    pub(crate) changed: Mutex<Vec<u32>>,
    pub(crate) feedback: Feedback,
    /// Connections and templates that name one of them.
    entries: AtomicUsize,
    /// What it left of its share of the table when that was last looked at.
    pub(crate) unused: AtomicUsize,
}

impl Shared {
    /// Of a service whose counts are part of `total`.
    pub(crate) fn new(key: ServiceKey, total: Arc<Stats>) -> Self {
        Self {
            key,
            stats: Stats::default(),
            total,
            changed: Mutex::default(),
            feedback: Feedback::default(),
            entries: AtomicUsize::new(0),
            unused: AtomicUsize::new(0),
        }
    }
}

impl Shared {
    /// Connections and templates of the service.
    #[inline]
    pub(crate) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }
}

/// One destination of a service.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Stable within the service.
    pub(crate) id: u32,
    pub(crate) addr: Address,
    pub(crate) port: u16,
    /// Whether the RIP is an address of the director's own host.
    pub(crate) local: AtomicBool,
    spec: RwLock<DestinationSpec>,
    /// How packets of its connections by tunnel are wrapped; see [`Self::tunnel`].
    tunnel: AtomicU32,
    /// How many packets clients had sent when it was edited last; see [`Self::has_route`].
    sent_before: AtomicU64,
    weight: AtomicU32,
    /// The last one above 0 since it was added, as the kernel keeps it; 0: it never had one.
    pub(crate) last_weight: AtomicU32,
    active: AtomicU32,
    inactive: AtomicU32,
    persistent: AtomicU32,
    /// A [`Standing`].
    standing: AtomicU8,
    overloaded: AtomicBool,
    /// Is on the list of changed loads.
    pub(crate) listed: AtomicBool,
    pub(crate) tally: Arc<Tally>,
    pub(crate) stats: Stats,
    pub(crate) observed: Observed,
    pub(crate) shared: Arc<Shared>,
}

/// Where a destination stands with its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Standing {
    /// It belongs to it.
    Available,
    /// It still does, but its connections are being ended.
    Ending,
    /// It was removed.
    Removed,
}

/// How a connection counts at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Active,
    Inactive,
    Persistent,
}

impl Destination {
    pub(crate) fn new(id: u32, spec: DestinationSpec, shared: Arc<Shared>) -> Self {
        let tally = Arc::new(Tally::new());
        shared.stats.join(&tally);
        shared.total.join(&tally);
        Self {
            id,
            addr: spec.addr.ip().into(),
            port: spec.addr.port(),
            local: AtomicBool::new(false),
            tunnel: AtomicU32::new(match spec.forwarding {
                Forwarding::Tunnel(tunnel) => tunnel.to_bits(),
                Forwarding::Nat | Forwarding::Direct => Tunnel::Ipip.to_bits(),
            }),
            sent_before: AtomicU64::new(0),
            weight: AtomicU32::new(spec.weight),
            last_weight: AtomicU32::new(spec.weight),
            spec: RwLock::new(spec),
            active: AtomicU32::new(0),
            inactive: AtomicU32::new(0),
            persistent: AtomicU32::new(0),
            standing: AtomicU8::new(Standing::Available as u8),
            overloaded: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            stats: Stats::of(&tally),
            observed: Observed::default(),
            tally,
            shared,
        }
    }

    pub(crate) fn spec(&self) -> DestinationSpec {
        self.with_spec(|spec| *spec)
    }

    /// Reads one thing of the spec without copying the rest.
    #[inline]
    fn with_spec<T>(&self, read: impl FnOnce(&DestinationSpec) -> T) -> T {
        read(&self.spec.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The forwarding method of new connections.
    pub(crate) fn forwarding(&self) -> Forwarding {
        self.with_spec(|spec| spec.forwarding)
    }

    /// The header that packets of a connection by tunnel get. The method is the connection's for life, but the kind of
    /// the tunnel is what the server takes now. (Edited to another method, the kernel wraps in IP.)
    #[inline]
    pub(crate) fn tunnel(&self) -> Tunnel {
        Tunnel::from_bits(self.tunnel.load(Relaxed))
    }

    /// Whether the kernel has a route to it at hand: it forgets it with each edit and finds it with the next packet.
    pub(crate) fn has_route(&self) -> bool {
        self.tally.packets_in() != self.sent_before.load(Relaxed)
    }

    /// Takes over weight, forwarding and thresholds.
    pub(crate) fn edit(&self, spec: DestinationSpec, compat_ipvs: bool) {
        match spec.forwarding {
            Forwarding::Tunnel(tunnel) => self.tunnel.store(tunnel.to_bits(), Relaxed),
            Forwarding::Nat | Forwarding::Direct if compat_ipvs => {
                self.tunnel.store(Tunnel::Ipip.to_bits(), Relaxed);
            }
            Forwarding::Nat | Forwarding::Direct => {}
        }
        self.sent_before.store(self.tally.packets_in(), Relaxed);
        let mut current = self.spec.write().unwrap_or_else(PoisonError::into_inner);
        // A limit that is lifted or raised makes room at once; one that is exceeded already counts at once.
        if spec.upper_threshold == 0 || spec.upper_threshold > current.upper_threshold {
            self.overloaded.store(false, Relaxed);
        }
        if spec.upper_threshold != 0 && self.total() >= u64::from(spec.upper_threshold) {
            self.overloaded.store(true, Relaxed);
        }
        self.weight.store(spec.weight, Relaxed);
        if spec.weight > 0 {
            self.last_weight.store(spec.weight, Relaxed);
        }
        *current = spec;
        drop(current);
        self.load_changed();
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    #[inline]
    fn is(&self, standing: Standing) -> bool {
        self.standing.load(Relaxed) == standing as u8
    }

    /// Whether it belongs to a service, and its connections go on.
    #[inline]
    pub(crate) fn is_available(&self) -> bool {
        self.is(Standing::Available)
    }

    /// Whether its connections are being ended.
    #[inline]
    pub(crate) fn is_ending(&self) -> bool {
        self.is(Standing::Ending)
    }

    /// Whether it belongs to no service any more.
    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.is(Standing::Removed)
    }

    /// It belongs to its service again, and nobody remembers what it weighed before.
    pub(crate) fn come_back(&self) {
        self.last_weight.store(self.weight(), Relaxed);
        self.stand(Standing::Available);
    }

    pub(crate) fn stand(&self, standing: Standing) {
        self.standing.store(standing as u8, Relaxed);
    }

    /// Whether a new connection may go there.
    pub(crate) fn accepts(&self) -> bool {
        self.is_serving() && !self.overloaded.load(Relaxed)
    }

    /// Whether it belongs to a service and is not quiesced.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_available() && self.weight() > 0
    }

    /// Connections and templates that name it.
    pub(crate) fn references(&self) -> u32 {
        self.active.load(Relaxed) + self.inactive.load(Relaxed) + self.persistent.load(Relaxed)
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            active: self.active.load(Relaxed),
            inactive: self.inactive.load(Relaxed),
            unavailable: self.overloaded.load(Relaxed),
        }
    }

    fn counter(&self, counted: Counted) -> &AtomicU32 {
        match counted {
            Counted::Active => &self.active,
            Counted::Inactive => &self.inactive,
            Counted::Persistent => &self.persistent,
        }
    }

    fn total(&self) -> u64 {
        u64::from(self.active.load(Relaxed)) + u64::from(self.inactive.load(Relaxed))
    }

    /// An entry that names this destination came into being.
    pub(crate) fn attach(&self, counted: Counted) {
        self.counter(counted).fetch_add(1, Relaxed);
        self.shared.entries.fetch_add(1, Relaxed);
        let upper = self.with_spec(|spec| spec.upper_threshold);
        if upper != 0 && self.total() >= u64::from(upper) {
            self.overloaded.store(true, Relaxed);
        }
        self.load_changed();
    }

    /// An entry that named this destination is gone.
    pub(crate) fn detach(&self, counted: Counted) {
        let before = self.counter(counted).fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "more connections left than came");
        self.shared.entries.fetch_sub(1, Relaxed);
        let clear = match self.with_spec(|spec| (spec.lower_threshold, spec.upper_threshold)) {
            (0, 0) => true,
            (0, upper) => self.total() * 4 < u64::from(upper) * 3,
            (lower, _) => self.total() < u64::from(lower),
        };
        if clear {
            self.overloaded.store(false, Relaxed);
        }
        self.load_changed();
    }

    /// An entry changed between active and inactive.
    pub(crate) fn recount(&self, from: Counted, to: Counted) {
        self.counter(from).fetch_sub(1, Relaxed);
        self.counter(to).fetch_add(1, Relaxed);
        self.load_changed();
    }

    /// Has the scheduler told of the load with its next pick; [`Picker::update`] and [`Picker::changes`] take it off
    /// again.
    fn load_changed(&self) {
        if !self.listed.swap(true, AcqRel) {
            lock(&self.shared.changed).push(self.id);
        }
    }

    pub(crate) fn candidate(&self) -> Candidate {
        Candidate {
            id: self.id,
            weight: self.weight(),
            address: self.addr.to_ip(),
            port: self.port,
            load: self.load(),
        }
    }

    /// A packet from a client, of a connection in the shard of that number, which is locked. As in the kernel, what
    /// passes for a destination that was removed counts nowhere.
    #[inline]
    pub(crate) fn count_in(&self, shard: usize, bytes: u64) {
        if !self.is_removed() {
            self.tally.count_in(shard, bytes);
        }
    }

    /// The same for a packet from a destination.
    #[inline]
    pub(crate) fn count_out(&self, shard: usize, bytes: u64) {
        if !self.is_removed() {
            self.tally.count_out(shard, bytes);
        }
    }

    /// What another director has counted of it.
    pub(crate) fn add_counts(&self, counters: &Counters) {
        self.tally.add(counters);
        // None of that was sent from here.
        self.sent_before.store(self.tally.packets_in(), Relaxed);
        self.stats.estimate_from_here();
    }

    pub(crate) fn view(&self) -> DestinationView {
        let load = self.load();
        DestinationView {
            spec: self.spec(),
            local: self.local.load(Relaxed),
            active: load.active,
            inactive: load.inactive,
            persistent: self.persistent.load(Relaxed),
            overloaded: load.unavailable,
            counters: self.stats.counters(),
            rates: self.stats.rates(),
        }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.shared.stats.leave(&self.tally);
        self.shared.total.leave(&self.tally);
    }
}
