//! Changes: each is checked, then done whole. The packet path sees it when the snapshot is replaced.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::base::lock::lock;
use crate::base::scheduler::{Scheduler, SchedulerFactory};
use crate::base::spec::{
    Change, DestinationSpec, Family, Forwarding, InterfaceSpec, Link, MacAddr, Protocol, RouteSpec,
    SchedulerSpec, ServiceKey, ServiceSpec,
};
use crate::base::time::{Duration, Instant};
use crate::base::verdict::DropReason;
use crate::choose::service::{Service, Services};
use crate::director::Director;
use crate::director::control::Control;
use crate::director::error::ApplyError;
use crate::net::network::Network;
use crate::scene::snapshot::Snapshot;
use crate::track::connection::Connection;
use crate::track::destination::{Destination, Shared, Standing};
use crate::track::response;
use crate::track::stats::Estimator;
use crate::track::table::Expiry;

/// How long an expired template, or FTP control connection, lives on while connections that hang on it are there.
const TEMPLATE_RENEWAL: Duration = Duration::from_secs(60);

/// Destinations that are added before the scheduler is told of them.
const TOLD_AT_ONCE: usize = 512;

/// The least that a link of IPv4 takes (RFC 791), in bytes.
const LINK_MTU_MIN: u32 = 68;

impl Director {
    /// Takes one change, or refuses it whole. Packets being handled meanwhile see the state before or after it.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(&self, change: Change, now: Instant) -> Result<(), ApplyError> {
        // One change at a time. A scheduler is made before `control` is locked, for that may take as long as a module
        // takes to compile, and timers need what is in there.
        let factory = lock(&self.schedulers);
        let scheduler = self.scheduler_for(&change, &**factory)?;
        let control = &mut *lock(&self.control);
        match change {
            Change::SetNetwork { interfaces, routes } => self.set_network(control, interfaces, &routes),
            Change::SetLinkMtu { port, mtu } => self.set_link_mtu(port, mtu),
            Change::SetAddresses(interfaces) => self.set_addresses(control, interfaces),
            Change::SetNeighbor { port, addr, mac } => self.set_neighbor(port, addr.into(), mac),
            Change::SetMarks(rules) => {
                if rules.iter().any(|rule| rule.mark == 0) {
                    return Err(ApplyError::Invalid("a firewall mark is not 0".into()));
                }
                self.replace(|snapshot| snapshot.marks = rules.into());
                self.tables.withdraw_flows(None);
                Ok(())
            }
            Change::AddService(spec) => self.add_service(control, spec, scheduler, now),
            Change::EditService(spec) => {
                self.service(spec.key)?.edit(spec, scheduler);
                Ok(())
            }
            Change::RenewScheduler(key) => {
                let service = self.service(key)?;
                service.edit(service.spec(), scheduler);
                Ok(())
            }
            Change::RemoveService(key) => {
                self.remove_service(control, key, now)?;
                self.expire_gone();
                Ok(())
            }
            Change::Flush => {
                let keys: Vec<ServiceKey> =
                    self.tables.snapshot.load().services.iter().map(|s| s.key).collect();
                keys.into_iter().try_for_each(|key| self.remove_service(control, key, now))?;
                self.expire_gone();
                Ok(())
            }
            Change::AddDestination(key, spec) => self.add_destination(control, key, spec),
            Change::EditDestination(key, spec) => self.edit_destination(key, spec, now),
            Change::SetWeight(key, addr, weight) => {
                let service = self.service(key)?;
                let destination = service.find(addr).ok_or(ApplyError::NoSuchDestination(key, addr))?;
                self.edit_destination(key, DestinationSpec { weight, ..destination.spec() }, now)
            }
            Change::RemoveDestination(key, addr) => {
                let service = self.service(key)?;
                let destination = service.find(addr).ok_or(ApplyError::NoSuchDestination(key, addr))?;
                self.discard(control, &service, destination, now);
                self.expire_gone();
                Ok(())
            }
            Change::ZeroCounters(key) => self.zero(key),
            Change::SetTimeouts(timeouts) => {
                self.replace(|snapshot| (snapshot.timeouts, snapshot.timers) = (timeouts, timeouts.into()));
                self.tables.withdraw_flows(None);
                Ok(())
            }
            Change::SetOptions(options) => {
                self.replace(|snapshot| snapshot.options = options);
                self.tables.withdraw_flows(None);
                self.tables.defence.follow(&options, now);
                Ok(())
            }
        }
    }

    /// Adds destinations one after the other, as [`Change::AddDestination`] does, in less time: the scheduler is told
    /// of a few hundred at once, and not of all that there are for each. What became of each, in order.
    ///
    /// # Errors
    /// Of each: see [`ApplyError`].
    pub fn add_destinations(
        &self,
        key: ServiceKey,
        specs: &[DestinationSpec],
    ) -> Vec<Result<(), ApplyError>> {
        let mut results = Vec::with_capacity(specs.len());
        for part in specs.chunks(TOLD_AT_ONCE) {
            // As `apply` does, and no longer at a time than the timer may wait.
            let _one_at_a_time = lock(&self.schedulers);
            let control = &mut *lock(&self.control);
            results.extend(part.iter().map(|spec| self.add_untold(control, key, *spec)));
            if let Ok(service) = self.service(key) {
                service.refresh();
            }
        }
        results
    }

    pub(super) fn replace(&self, edit: impl FnOnce(&mut Snapshot)) {
        // `control` is locked by the caller: nobody else replaces it meanwhile.
        let mut snapshot = Snapshot::clone(&self.tables.snapshot.load());
        edit(&mut snapshot);
        self.tables.snapshot.store(snapshot);
    }

    fn replace_services(&self, edit: impl FnOnce(&mut Services)) {
        self.replace(|snapshot| edit(Arc::make_mut(&mut snapshot.services)));
        self.tables.table.share_among(self.tables.snapshot.load().services.len());
    }

    fn service(&self, key: ServiceKey) -> Result<Arc<Service>, ApplyError> {
        self.tables.snapshot.load().services.get(&key).cloned().ok_or(ApplyError::NoSuchService(key))
    }

    fn set_network(
        &self,
        control: &Control,
        interfaces: Vec<InterfaceSpec>,
        routes: &[RouteSpec],
    ) -> Result<(), ApplyError> {
        for interface in &interfaces {
            if let Link::Ethernet(mac) = interface.link
                && (mac.is_multicast() || mac == MacAddr([0; 6]))
            {
                return Err(ApplyError::Invalid(format!(
                    "interface {}: {mac} is not the MAC address of one station",
                    interface.name
                )));
            }
        }
        let before = Arc::clone(&self.tables.snapshot.load().network);
        let network = Network::without(interfaces, routes, Arc::clone(before.withheld()));
        let network = network.map_err(ApplyError::Invalid)?.within_links(before.link_mtus().to_vec());
        let lost = self.tables.neighbors.retain_ports(&network);
        self.tables.drops.add(DropReason::Unreachable, lost);
        self.tables.servers.relink(&network);
        self.replace(|snapshot| snapshot.network = Arc::new(network));
        self.look_for_local(control);
        self.tables.withdraw_flows(None);
        Ok(())
    }

    fn set_link_mtu(&self, port: PortId, mtu: u32) -> Result<(), ApplyError> {
        let before = Arc::clone(&self.tables.snapshot.load().network);
        if mtu < LINK_MTU_MIN {
            return Err(ApplyError::Invalid(format!("the MTU of {port}, {mtu}, is below {LINK_MTU_MIN}")));
        }
        if before.interface(port).is_none() {
            return Err(ApplyError::Invalid(format!("there is no interface {port}")));
        }
        let index = usize::from(port.0);
        let mut link_mtus = before.link_mtus().to_vec();
        link_mtus.resize(link_mtus.len().max(index + 1), u32::MAX);
        link_mtus[index] = mtu;
        let same = before.with_addresses(before.told().to_vec()).map_err(ApplyError::Invalid)?;
        self.replace(|snapshot| snapshot.network = Arc::new(same.within_links(link_mtus)));
        self.tables.neighbors.outdate_memos();
        self.tables.withdraw_flows(None);
        Ok(())
    }

    fn set_addresses(&self, control: &Control, interfaces: Vec<InterfaceSpec>) -> Result<(), ApplyError> {
        let before = Arc::clone(&self.tables.snapshot.load().network);
        let network = Arc::new(before.with_addresses(interfaces).map_err(ApplyError::Invalid)?);
        // Whoever was a neighbour by an address that is ours now is none any more, nor is what goes through it a flow.
        let goes_on = network.forwards_as(&before)
            && !network.new_since(&before).any(|(addr, port)| self.tables.neighbors.knows(port, addr));
        self.tables.servers.relink(&network);
        self.replace(|snapshot| snapshot.network = network);
        self.tables.neighbors.outdate_memos();
        self.look_for_local(control);
        if !goes_on {
            self.tables.withdraw_flows(None);
        }
        Ok(())
    }

    /// Says of each destination anew whether it is on the director's own host.
    pub(super) fn look_for_local(&self, control: &Control) {
        let snapshot = self.tables.snapshot.load();
        let look = |destination: &Arc<Destination>| {
            let local = snapshot.network.is_local(destination.addr);
            if destination.local.swap(local, Relaxed) != local {
                self.tables.withdraw_flows(Some(destination.id));
            }
        };
        snapshot.services.iter().for_each(|service| service.destinations().iter().for_each(look));
        control.trash.iter().for_each(look);
    }

    fn set_neighbor(&self, port: PortId, addr: Address, mac: MacAddr) -> Result<(), ApplyError> {
        if mac.is_multicast() {
            return Err(ApplyError::Invalid(format!(
                "neighbour {addr}: {mac} is not the MAC address of one station"
            )));
        }
        if self.tables.snapshot.load().network.mac(port).is_none() {
            return Err(ApplyError::Invalid(format!("neighbour {addr}: {port} is not a layer 2 interface")));
        }
        let lost = self.tables.neighbors.set(port, addr, mac);
        self.tables.drops.add(DropReason::Unreachable, lost);
        Ok(())
    }

    /// The scheduler that a change needs, if it does and can be done.
    fn scheduler_for(
        &self,
        change: &Change,
        factory: &dyn SchedulerFactory,
    ) -> Result<Option<Box<dyn Scheduler>>, ApplyError> {
        let (spec, key): (SchedulerSpec, ServiceKey) = match change {
            Change::AddService(spec) => {
                check_service(spec)?;
                if self.tables.snapshot.load().services.get(&spec.key).is_some() {
                    return Err(ApplyError::ServiceExists(spec.key));
                }
                (spec.scheduler.clone(), spec.key)
            }
            Change::EditService(spec) => {
                check_service(spec)?;
                if self.service(spec.key)?.with_spec(|current| current.scheduler == spec.scheduler) {
                    return Ok(None);
                }
                (spec.scheduler.clone(), spec.key)
            }
            Change::RenewScheduler(key) => (self.service(*key)?.spec().scheduler, *key),
            _ => return Ok(None),
        };
        let made = factory.create(&spec, &key.to_string());
        made.map(Some).map_err(|reason| ApplyError::Scheduler { name: spec.name, reason })
    }

    fn add_service(
        &self,
        control: &mut Control,
        spec: ServiceSpec,
        scheduler: Option<Box<dyn Scheduler>>,
        now: Instant,
    ) -> Result<(), ApplyError> {
        let scheduler = scheduler.expect("a service that is added has one made for it");
        let shared = match control.trash.shared(spec.key) {
            Some(shared) => {
                control.trash.forget_counts(spec.key, self.compat_ipvs());
                shared.stats.zero();
                shared
            }
            None => Arc::new(Shared::new(spec.key, Arc::clone(&self.total))),
        };
        let service = Arc::new(Service::new(spec, scheduler, shared));
        self.replace_services(|services| services.insert(service));
        let step = now + Duration::from_secs(Estimator::PERIOD_SECS);
        self.estimate_at.fetch_min(step.as_nanos(), Relaxed);
        Ok(())
    }

    fn remove_service(&self, control: &mut Control, key: ServiceKey, now: Instant) -> Result<(), ApplyError> {
        let service = self.service(key)?;
        self.replace_services(|services| {
            services.remove(&key);
        });
        for destination in service.destinations() {
            self.discard(control, &service, destination, now);
        }
        Ok(())
    }

    fn add_destination(
        &self,
        control: &mut Control,
        key: ServiceKey,
        spec: DestinationSpec,
    ) -> Result<(), ApplyError> {
        self.add_untold(control, key, spec)?;
        self.service(key)?.refresh();
        Ok(())
    }

    fn add_untold(
        &self,
        control: &mut Control,
        key: ServiceKey,
        spec: DestinationSpec,
    ) -> Result<(), ApplyError> {
        let service = self.service(key)?;
        check_destination(&service, &spec)?;
        if service.find(spec.addr).is_some() {
            return Err(ApplyError::DestinationExists(key, spec.addr));
        }
        let destination = match control.trash.take(key, spec.addr) {
            Some(destination) => {
                destination.edit(spec, self.compat_ipvs());
                destination.come_back();
                destination
            }
            None => {
                let id = control.next_destination_id;
                control.next_destination_id = id.wrapping_add(1);
                Arc::new(Destination::new(id, spec, Arc::clone(&service.shared)))
            }
        };
        let local = self.tables.snapshot.load().network.is_local(destination.addr);
        destination.local.store(local, Relaxed);
        self.tables.reals.add(key, &destination);
        self.tables.servers.add(&self.tables.snapshot.load().network, destination.addr);
        service.add_untold(destination);
        Ok(())
    }

    fn compat_ipvs(&self) -> bool {
        self.tables.snapshot.load().options.compat_ipvs
    }

    fn edit_destination(
        &self,
        key: ServiceKey,
        spec: DestinationSpec,
        now: Instant,
    ) -> Result<(), ApplyError> {
        let service = self.service(key)?;
        check_destination(&service, &spec)?;
        let destination = service.find(spec.addr).ok_or(ApplyError::NoSuchDestination(key, spec.addr))?;
        let (before, weight) = (destination.forwarding(), destination.weight());
        destination.edit(spec, self.compat_ipvs());
        self.tables.reals.edited(key, &destination, before, now);
        service.refresh();
        // Flows go on as they are, whatever weight and thresholds say; a datagram to one that drains comes here.
        if destination.forwarding() != before || weight > 0 && destination.weight() == 0 {
            self.tables.withdraw_flows(Some(destination.id));
        }
        Ok(())
    }

    /// Takes a destination off its service. While connections name it, it is remembered.
    fn discard(&self, control: &mut Control, service: &Service, destination: Arc<Destination>, now: Instant) {
        destination.stand(Standing::Removed);
        self.tables.reals.remove(service.key, &destination, now);
        self.tables.servers.remove(destination.addr);
        self.tables.withdraw_flows(Some(destination.id));
        service.remove(&destination);
        control.trash.put(service.key, destination, now);
    }

    /// With `expire_nodest_conn`, connections and templates end with their destination.
    fn expire_gone(&self) {
        if self.tables.snapshot.load().options.expire_nodest_conn {
            let gone = |c: &Connection| c.destination.is_removed();
            self.tables.table.remove_where(gone, Connection::release);
        }
    }

    fn zero(&self, key: Option<ServiceKey>) -> Result<(), ApplyError> {
        self.count_flows();
        let zero = |service: &Service| {
            service.shared.stats.zero();
            service.destinations().iter().for_each(|destination| destination.stats.zero());
        };
        match key {
            Some(key) => zero(&*self.service(key)?),
            None => {
                self.tables.snapshot.load().services.iter().for_each(|service| zero(service));
                self.total.zero();
            }
        }
        Ok(())
    }

    /// Takes expired entries out; a template that still has connections is renewed.
    pub(crate) fn expire_connections(&self, now: Instant) {
        self.tables.table.expire(
            now,
            |connection| match connection.controls() {
                Some(control) if control.controlled.load(Relaxed) > 0 => Expiry::Renew(TEMPLATE_RENEWAL),
                _ => {
                    connection.take_over(self.tables.deadline(connection));
                    if connection.expires_at > now {
                        return Expiry::Keep;
                    }
                    response::expiry(connection);
                    Expiry::Remove
                }
            },
            Connection::release,
        );
    }

    /// One step of every rate estimator, and the purge of forgotten destinations.
    pub(crate) fn estimate(&self, now: Instant) {
        self.count_flows();
        let control = &mut *lock(&self.control);
        let services = Arc::clone(&self.tables.snapshot.load().services);
        for service in services.iter() {
            service.shared.stats.estimate();
            service.destinations().iter().for_each(|destination| destination.stats.estimate());
        }
        self.total.estimate();
        self.tables.table.allot(services.iter().map(|service| &*service.shared));
        control.trash.purge(now);
        let idle = services.is_empty() && control.trash.is_empty();
        let next = now + Duration::from_secs(Estimator::PERIOD_SECS);
        self.estimate_at.store(if idle { u64::MAX } else { next.as_nanos() }, Relaxed);
    }
}

fn check_service(spec: &ServiceSpec) -> Result<(), ApplyError> {
    let invalid = |reason: &str| Err(ApplyError::Invalid(format!("service {}: {reason}", spec.key)));
    match spec.key {
        ServiceKey::Mark { mark: 0, .. } => return invalid("a firewall mark is not 0"),
        ServiceKey::Address { addr, .. } if addr.port() == 0 && spec.persistence.is_none() => {
            return invalid("port 0 (all ports) needs persistence");
        }
        ServiceKey::Address { protocol, .. } if spec.one_packet && protocol != Protocol::Udp => {
            return invalid("one-packet scheduling is for UDP");
        }
        _ => {}
    }
    let max = if spec.key.family() == Family::V4 { 32 } else { 128 };
    if spec.persistence.is_some_and(|p| p.prefix_len > max) {
        return invalid("the persistence prefix is longer than an address");
    }
    Ok(())
}

fn check_destination(service: &Service, spec: &DestinationSpec) -> Result<(), ApplyError> {
    let invalid = |reason: &str| {
        Err(ApplyError::Invalid(format!("service {}, destination {}: {reason}", service.key, spec.addr)))
    };
    let mapped = match service.key {
        ServiceKey::Address { addr, .. } => addr.port() != 0 && addr.port() != spec.addr.port(),
        ServiceKey::Mark { .. } => false,
    };
    if spec.weight > DestinationSpec::WEIGHT_MAX {
        return invalid("the weight is above 2147483647");
    }
    if Family::of(spec.addr.ip()) != service.key.family() && !matches!(spec.forwarding, Forwarding::Tunnel(_))
    {
        return invalid("only tunnelling crosses address families");
    }
    if mapped && spec.forwarding != Forwarding::Nat && spec.addr.port() != 0 {
        return invalid("only NAT maps ports; direct routing and tunnelling leave the packet as it is");
    }
    Ok(())
}
