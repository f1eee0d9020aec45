//! Virtual services and their destinations.
//!
//! ```text
//!   Services (copied on change) --> Service --> Destination <-- Connection
//!                                      |            |
//!                                      `-- Shared --'   counters, who changed load
//! ```
//!
//! A connection holds its destination, so one that is removed lives on, unavailable, until its last
//! connection is gone; adding it again brings it back with its counters (the kernel's destination trash).

use core::net::SocketAddr;
use core::sync::atomic::{Ordering::AcqRel, Ordering::Relaxed, Ordering::Release};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use foldhash::fast::FixedState;
use uvs_wire::{Address, Packet};

use crate::base::lock::lock;
use crate::base::scheduler::{Candidate, Event, Flow, Load, Picked, Scheduler};
use crate::base::spec::{Family, Protocol, ServiceKey, ServiceSpec};
use crate::base::time::Instant;
use crate::base::view::ServiceView;
use crate::track::destination::{Destination, Shared};

/// Who picks, and what it was last told.
struct Picker {
    scheduler: Box<dyn Scheduler>,
    /// The last `update`, by position.
    told: Vec<Arc<Destination>>,
    positions: HashMap<u32, u32, FixedState>,
    ids: Vec<u32>,
    loads: Vec<(u32, Load)>,
    events: Vec<Event>,
}

impl Picker {
    fn update(&mut self, destinations: &[Arc<Destination>], changed: &Mutex<Vec<u32>>) {
        // It hears all loads below, so nothing is left to be told. One that comes back may have been on the list since
        // before it was removed, and would never be put there again.
        {
            let mut changed = lock(changed);
            changed.clear();
            destinations.iter().for_each(|destination| destination.listed.store(false, Release));
        }
        self.told = destinations.to_vec();
        self.positions = (0..).zip(destinations).map(|(position, d)| (d.id, position)).collect();
        let candidates: Vec<Candidate> = destinations.iter().map(|d| d.candidate()).collect();
        self.scheduler.update(&candidates);
    }

    /// Gathers the loads that changed since it was told last.
    fn changes(&mut self, changed: &Mutex<Vec<u32>>) {
        self.loads.clear();
        // Where nothing is to be picked, another service that has its destinations now may have to hear of them.
        if self.told.is_empty() {
            return;
        }
        core::mem::swap(&mut self.ids, &mut *lock(changed));
        for id in self.ids.drain(..) {
            let Some(&position) = self.positions.get(&id) else { continue };
            let destination = &self.told[position as usize];
            // Off the list first: a change from here on lists it again.
            if destination.listed.swap(false, AcqRel) {
                self.loads.push((position, destination.load()));
            }
        }
    }

    /// Tells a new scheduler what it missed: the weights of destinations before they were quiesced (the kernel's mh
    /// keeps their slots). The current ones come with the next `update`.
    fn introduce(&mut self, destinations: &[Arc<Destination>]) {
        let last = |d: &Arc<Destination>| d.last_weight.load(Relaxed);
        if destinations.iter().any(|d| d.weight() == 0 && last(d) > 0) {
            let before = |d| Candidate { weight: last(d), ..d.candidate() };
            let candidates: Vec<Candidate> = destinations.iter().map(before).collect();
            self.scheduler.update(&candidates);
        }
    }
}

/// A virtual service.
pub(crate) struct Service {
    pub(crate) key: ServiceKey,
    spec: RwLock<ServiceSpec>,
    pub(crate) shared: Arc<Shared>,
    /// In list order: the one added last comes first.
    destinations: RwLock<Vec<Arc<Destination>>>,
    picker: Mutex<Picker>,
}

impl Service {
    pub(crate) fn new(spec: ServiceSpec, scheduler: Box<dyn Scheduler>, shared: Arc<Shared>) -> Self {
        Self {
            key: spec.key,
            spec: RwLock::new(spec),
            shared,
            destinations: RwLock::default(),
            picker: Mutex::new(Picker {
                scheduler,
                told: Vec::new(),
                positions: HashMap::default(),
                ids: Vec::new(),
                loads: Vec::new(),
                events: Vec::new(),
            }),
        }
    }

    pub(crate) fn spec(&self) -> ServiceSpec {
        self.spec.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads one thing of the spec without copying the rest.
    pub(crate) fn with_spec<T>(&self, read: impl FnOnce(&ServiceSpec) -> T) -> T {
        read(&self.spec.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn destinations(&self) -> Vec<Arc<Destination>> {
        self.destinations.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a destination of it takes new connections.
    pub(crate) fn takes_new(&self) -> bool {
        let list = self.destinations.read().unwrap_or_else(PoisonError::into_inner);
        list.iter().any(|destination| destination.accepts())
    }

    pub(crate) fn find(&self, addr: SocketAddr) -> Option<Arc<Destination>> {
        let (ip, port) = (Address::from(addr.ip()), addr.port());
        let list = self.destinations.read().unwrap_or_else(PoisonError::into_inner);
        list.iter().find(|d| d.addr == ip && d.port == port).cloned()
    }

    /// Takes over the spec, and another scheduler when one is given.
    pub(crate) fn edit(&self, spec: ServiceSpec, scheduler: Option<Box<dyn Scheduler>>) {
        *self.spec.write().unwrap_or_else(PoisonError::into_inner) = spec;
        if let Some(scheduler) = scheduler {
            let destinations = self.destinations();
            let mut picker = lock(&self.picker);
            picker.scheduler = scheduler;
            picker.introduce(&destinations);
            picker.update(&destinations, &self.shared.changed);
        }
    }

    /// Puts a destination at the head of the list. The scheduler hears of it with the next [`Service::refresh`].
    pub(crate) fn add_untold(&self, destination: Arc<Destination>) {
        self.destinations.write().unwrap_or_else(PoisonError::into_inner).insert(0, destination);
    }

    /// Takes a destination off the list and tells the scheduler.
    pub(crate) fn remove(&self, destination: &Arc<Destination>) {
        let mut list = self.destinations.write().unwrap_or_else(PoisonError::into_inner);
        list.retain(|d| !Arc::ptr_eq(d, destination));
        lock(&self.picker).update(&list, &self.shared.changed);
    }

    /// Tells the scheduler that weights changed, or that destinations came.
    pub(crate) fn refresh(&self) {
        let list = self.destinations.read().unwrap_or_else(PoisonError::into_inner);
        lock(&self.picker).update(&list, &self.shared.changed);
    }

    /// Asks the scheduler where a new connection goes, and who said so.
    /// `compat_ipvs`: also where it is over its upper threshold, for the kernel takes every pick.
    pub(crate) fn pick(
        &self,
        flow: &Flow,
        now: Instant,
        compat_ipvs: bool,
    ) -> Option<(Arc<Destination>, Picked)> {
        let mut picker = lock(&self.picker);
        picker.changes(&self.shared.changed);
        let Picker { scheduler, told, positions, loads, events, .. } = &mut *picker;
        self.shared.feedback.collect(scheduler.wants_feedback(), |id, response, elapsed| {
            let position = positions.get(&id).copied();
            events.extend(position.map(|position| Event { position, response, elapsed }));
        });
        if !events.is_empty() {
            scheduler.observe(events, now);
            events.clear();
        }
        let position = scheduler.schedule(flow, loads, now)?;
        told.get(position as usize)
            .filter(|destination| destination.accepts() || compat_ipvs && destination.is_serving())
            .map(|destination| (Arc::clone(destination), scheduler.picked()))
    }

    pub(crate) fn view(&self) -> ServiceView {
        ServiceView {
            spec: self.spec(),
            counters: self.shared.stats.counters(),
            rates: self.shared.stats.rates(),
            destinations: self.destinations().iter().map(|d| d.view()).collect(),
            feedback_lost: self.shared.feedback.lost(),
        }
    }
}

/// In so many parts are services kept, by the hash of their keys.
const PARTS: usize = 256;

type Part = HashMap<ServiceKey, Arc<Service>, FixedState>;

/// All services, as the packet path sees them: immutable, replaced by each change.
///
/// A change copies the list of parts and the one part that it touches; with 10,000 services these are 256 and 40
/// pointers.
#[derive(Clone)]
pub(crate) struct Services {
    parts: Box<[Arc<Part>]>,
    len: usize,
    version: u64,
    /// How many listen on FTP's port, on port 0 (all ports), on a mark.
    ftp: usize,
    all_ports: usize,
    marks: usize,
    /// How many are of IPv4, of IPv6.
    v4: usize,
    v6: usize,
}

impl Default for Services {
    fn default() -> Self {
        let parts = vec![Arc::default(); PARTS].into();
        Self { parts, len: 0, version: 0, ftp: 0, all_ports: 0, marks: 0, v4: 0, v6: 0 }
    }
}

fn part_of(key: &ServiceKey) -> usize {
    // No hash of note, and none that the map in a part goes by: who chooses the keys configures the director.
    let bits = match key {
        ServiceKey::Address { addr, .. } => Address::from(addr.ip()).spread() ^ u64::from(addr.port()),
        ServiceKey::Mark { mark, .. } => u64::from(*mark),
    };
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % PARTS
}

/// FTP's control and data ports.
pub(crate) const FTP_PORT: u16 = 21;
pub(crate) const FTP_DATA_PORT: u16 = 20;
/// Below this port the kernel wants the right to bind; an FTP service catches the ports from here on.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

impl Services {
    pub(crate) fn get(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.parts[part_of(key)].get(key)
    }

    /// In no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.parts.iter().flat_map(|part| part.values())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How often one was added or removed so far.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a service, in place of the one of its key if there is one.
    pub(crate) fn insert(&mut self, service: Arc<Service>) {
        let key = service.key;
        let before = Arc::make_mut(&mut self.parts[part_of(&key)]).insert(key, service);
        if before.is_none() {
            self.count(&key, |count| *count += 1);
        }
    }

    pub(crate) fn remove(&mut self, key: &ServiceKey) -> Option<Arc<Service>> {
        let removed = Arc::make_mut(&mut self.parts[part_of(key)]).remove(key)?;
        self.count(key, |count| *count -= 1);
        Some(removed)
    }

    fn count(&mut self, key: &ServiceKey, change: impl Fn(&mut usize)) {
        change(&mut self.len);
        self.version += 1;
        change(if key.family() == Family::V4 { &mut self.v4 } else { &mut self.v6 });
        match key {
            ServiceKey::Address { addr, .. } if addr.port() == FTP_PORT => change(&mut self.ftp),
            ServiceKey::Address { addr, .. } if addr.port() == 0 => change(&mut self.all_ports),
            ServiceKey::Address { .. } => {}
            ServiceKey::Mark { .. } => change(&mut self.marks),
        }
    }

    /// Whether there is a service of the packet's IP version. As in the kernel, whose hooks go with the last service of
    /// a family, packets of the other pass as if nobody balanced; connections linger meanwhile.
    #[inline]
    pub(crate) fn balance(&self, packet: &Packet) -> bool {
        (if packet.is_v4() { self.v4 } else { self.v6 }) > 0
    }

    /// Whether a service is named by this mark.
    pub(crate) fn has_mark(&self, mark: u32, family: Family) -> bool {
        self.marks > 0 && self.get(&ServiceKey::Mark { mark, family }).is_some()
    }

    /// The service a packet to this address asks for: by mark, exactly, by FTP's data ports, by port 0.
    pub(crate) fn find(
        &self,
        protocol: Protocol,
        addr: Address,
        port: u16,
        mark: u32,
    ) -> Option<&Arc<Service>> {
        let ip = addr.to_ip();
        let by_port = |port| self.get(&ServiceKey::new(protocol, SocketAddr::new(ip, port)));
        if mark != 0 && self.marks > 0 {
            let found = self.get(&ServiceKey::Mark { mark, family: Family::of(ip) });
            if found.is_some() {
                return found;
            }
        }
        by_port(port)
            .or_else(|| {
                let data = port == FTP_DATA_PORT || port >= FIRST_UNPRIVILEGED_PORT;
                if protocol == Protocol::Tcp && self.ftp > 0 && data { by_port(FTP_PORT) } else { None }
            })
            .or_else(|| if self.all_ports > 0 { by_port(0) } else { None })
    }
}

/// Removed destinations that connections still name, by the service's key and their address.
#[derive(Default)]
pub(crate) struct Trash {
    services: HashMap<ServiceKey, HashMap<SocketAddr, (Arc<Destination>, Instant)>>,
}

impl Trash {
    /// How long one stays after its last connection.
    const IDLE_SECS: u64 = 60;

    pub(crate) fn put(&mut self, key: ServiceKey, destination: Arc<Destination>, now: Instant) {
        self.services.entry(key).or_default().insert(destination.spec().addr, (destination, now));
    }

    pub(crate) fn take(&mut self, key: ServiceKey, addr: SocketAddr) -> Option<Arc<Destination>> {
        let of_service = self.services.get_mut(&key)?;
        let (destination, _) = of_service.remove(&addr)?;
        if of_service.is_empty() {
            self.services.remove(&key);
        }
        Some(destination)
    }

    /// The one of that address, if there is one.
    pub(crate) fn get(&self, key: ServiceKey, addr: SocketAddr) -> Option<Arc<Destination>> {
        Some(Arc::clone(&self.services.get(&key)?.get(&addr)?.0))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.services.values().flat_map(HashMap::values).map(|(destination, _)| destination)
    }

    /// What a service of this key shared with its destinations, if any is left.
    pub(crate) fn shared(&self, key: ServiceKey) -> Option<Arc<Shared>> {
        self.services.get(&key)?.values().next().map(|(destination, _)| Arc::clone(&destination.shared))
    }

    /// The service is gone: what is added to another of that name starts to count anew. In the kernel, which estimates
    /// no destinations in its trash, that is from the last estimate before their removal on.
    pub(crate) fn forget_counts(&self, key: ServiceKey, compat_ipvs: bool) {
        for (destination, _) in self.services.get(&key).into_iter().flat_map(HashMap::values) {
            if compat_ipvs {
                destination.stats.zero_at_estimate();
            } else {
                destination.stats.zero();
            }
        }
    }

    /// Drops those that nothing has named for a minute.
    pub(crate) fn purge(&mut self, now: Instant) {
        self.services.retain(|_, of_service| {
            of_service.retain(|_, (destination, since)| {
                if destination.references() > 0 {
                    *since = now;
                }
                now.since(*since).as_secs() < Self::IDLE_SECS
            });
            !of_service.is_empty()
        });
    }

    /// Whether no removed destination is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}
