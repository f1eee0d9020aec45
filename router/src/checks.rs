//! Health checks in the running director: what they come to becomes weights of destinations, and lines in the log.
//!
//! ```text
//!   configuration --plan--> Runner (on thread "checks") --orders--> Weights, Director::apply (SetWeight)
//!   uvs adm -e ---edit----->                             --events--> log, events
//!   every few seconds: what the director has otherwise than Weights say is mended (mend)
//! ```
//! A destination, checked or not, weighs in the director what its checks, its agent, and people say together
//! ([`uvs_check::weight`]); [`Weights`] is that, for whoever else changes the director: a reload gives destinations
//! these weights, not those of the file, and `uvs adm` is noticed by them.

mod mend;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::{debug, info, warn};
use uvs_check::core::{Bounds, Edit, Event, Order, ServiceView, State, What};
use uvs_check::net::Network;
use uvs_check::probe::date;
use uvs_check::runner::{Runner, Sink};
use uvs_check::spec::{DestinationPlan, Plan, Policy, Quorum, ServicePlan};
use uvs_check::weight::Admin;
use uvs_config::{Config, Health, Service};
use uvs_director::spec::{Change, DestinationSpec, ServiceKey};
use uvs_director::view::Observations;
use uvs_director::{Director, Instant};

use crate::clock::Clock;
use crate::drains::Drains;
use crate::events::{self, Events, weight_event};

pub(crate) use mend::mend;

/// Whoever asks for states waits for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What each destination weighs in the director. Whoever changes a weight there holds this meanwhile.
#[derive(Debug, Default)]
pub struct Weights {
    known: Mutex<Known>,
    /// Those that change weights at length and cannot hold this meanwhile; see [`Weights::announce`].
    announced: AtomicUsize,
}

/// What is known of the weights of destinations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// By service and destination.
    services: HashMap<ServiceKey, HashMap<SocketAddr, Weight>>,
    /// Services whose destinations are checked, be they in the director now or not.
    checked: HashSet<ServiceKey>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Weight {
    weight: u32,
    /// Whether it served before it was checked at all.
    served: bool,
    /// What `uvs adm` has given it since the last reload.
    adm: Option<u32>,
    /// What people want of it.
    admin: Admin,
}

/// [`Weights`], held.
pub(crate) struct Held<'w>(MutexGuard<'w, Known>);

/// Says as long as it lives that somebody changes weights; see [`Weights::announce`].
pub(crate) struct Announced<'w>(&'w AtomicUsize);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What `uvs adm` has done.
#[derive(Debug, Default)]
pub(crate) struct ByAdm {
    /// Destinations that have another weight, and which.
    pub(crate) weights: Vec<(ServiceKey, SocketAddr, u32)>,
    /// Destinations that came to services that are checked, and their weights.
    came: Vec<(ServiceKey, SocketAddr, u32)>,
    /// Whether destinations came or went.
    members: bool,
    /// Whether some of those belong to services that are checked.
    checked: bool,
}

impl Weights {
    pub(crate) fn hold(&self) -> Held<'_> {
        Held(self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For who changes weights without holding this, since that takes as long as a module takes to compile, and notes
    /// them afterwards by [`Held::changed`]: until then nobody mends what he has set.
    pub(crate) fn announce(&self) -> Announced<'_> {
        // Whoever mends holds it, and is over then.
        let _held = self.hold();
        self.announced.fetch_add(1, Relaxed);
        Announced(&self.announced)
    }

    /// Whether what the director has may be mended by who holds this.
    fn may_be_mended(&self) -> bool {
        self.announced.load(Relaxed) == 0
    }
}

impl Held<'_> {
    pub(crate) fn known(&self) -> &Known {
        &self.0
    }

    fn get(&self, service: &ServiceKey, destination: SocketAddr) -> Option<&Weight> {
        self.0.services.get(service)?.get(&destination)
    }

    fn get_mut(&mut self, service: &ServiceKey, destination: SocketAddr) -> Option<&mut Weight> {
        self.0.services.get_mut(service)?.get_mut(&destination)
    }

    /// The weights that `uvs adm` has given since the last reload, in order.
    pub(crate) fn by_adm(&self) -> Vec<(ServiceKey, SocketAddr, u32)> {
        let services = self.0.services.iter();
        let all =
            services.flat_map(|(key, all)| all.iter().map(move |(addr, known)| (*key, *addr, known.adm)));
        let mut given: Vec<_> = all.filter_map(|(key, addr, adm)| Some((key, addr, adm?))).collect();
        given.sort_unstable();
        given
    }

    /// Whether people have taken a destination out of service.
    pub(crate) fn is_taken_out(&self, service: &ServiceKey, destination: SocketAddr) -> bool {
        self.get(service, destination).is_some_and(|known| known.admin != Admin::Ready)
    }

    /// The configuration with the weights that its destinations are to have in the director for now: those that people
    /// have taken out of service have none, those that are checked already keep theirs, those that serve in `before`
    /// without being checked go on, and those that are new begin with what their service's policy says.
    pub(crate) fn settle(&self, wanted: &Config, before: Option<&Config>) -> Config {
        let served = served(before);
        let mut settled = wanted.clone();
        for Service { health, spec, destinations, .. } in &mut settled.services {
            for destination in destinations {
                let key = (spec.key, destination.addr);
                destination.weight = match (self.get(&key.0, key.1), &*health) {
                    (Some(known), _) if known.admin != Admin::Ready => 0,
                    (_, None) => destination.weight,
                    (Some(known), Some(_)) if self.0.checked.contains(&key.0) => known.weight,
                    (_, Some(health)) if served.contains(&key) && !health.backups.contains(&key.1) => {
                        destination.weight
                    }
                    (_, Some(health)) => first(health, destination),
                };
            }
        }
        settled
    }

    /// The director, which had `before`, has what [`Held::settle`] said. What `uvs adm` has given is taken back; what
    /// people want of a destination stays for as long as that does.
    pub(crate) fn settled(&mut self, settled: &Config, before: Option<&Config>) {
        let served = served(before);
        let of_service = |service: &Service| {
            let key = service.spec.key;
            let of_destination = |spec: &DestinationSpec| {
                let known = self.get(&key, spec.addr);
                let checked_before = known.filter(|_| self.0.checked.contains(&key));
                let weight = Weight {
                    weight: spec.weight,
                    served: checked_before.map_or(served.contains(&(key, spec.addr)), |known| known.served),
                    adm: None,
                    admin: known.map_or(Admin::Ready, |known| known.admin),
                };
                (spec.addr, weight)
            };
            (key, service.destinations.iter().map(of_destination).collect())
        };
        let services = settled.services.iter().map(of_service).collect();
        let checked = settled.services.iter().filter(|service| service.health.is_some());
        let checked = checked.map(|service| service.spec.key).collect();
        *self.0 = Known { services, checked };
    }

    /// What somebody else has done in the director, to one service or to any. A weight that was given to a destination
    /// which people have taken out of service is noted, and taken back.
    pub(crate) fn changed(
        &mut self,
        director: &Director,
        touched: Option<&ServiceKey>,
        now: Instant,
    ) -> ByAdm {
        let mut by_adm = ByAdm::default();
        let Known { services: all, checked } = &mut *self.0;
        let services = match touched {
            Some(key) => director.service_view(key).into_iter().collect(),
            None => director.services(),
        };
        let gone: Vec<ServiceKey> = match touched {
            Some(key) if services.is_empty() => vec![*key],
            Some(_) => Vec::new(),
            None => {
                let there: HashSet<ServiceKey> = services.iter().map(|service| service.spec.key).collect();
                all.keys().filter(|key| !there.contains(key)).copied().collect()
            }
        };
        for key in gone {
            by_adm.members |= all.remove(&key).is_some();
            by_adm.checked |= checked.contains(&key);
        }
        for service in services {
            let key = service.spec.key;
            let known = all.entry(key).or_default();
            let checked = checked.contains(&key);
            let before = known.len();
            if service.destinations.len() < before {
                let there: HashSet<SocketAddr> = service.destinations.iter().map(|it| it.spec.addr).collect();
                known.retain(|addr, _| there.contains(addr));
            }
            let mut moved = known.len() != before;
            for DestinationSpec { addr, weight, .. } in service.destinations.iter().map(|view| view.spec) {
                let is_new = !known.contains_key(&addr);
                let known = known.entry(addr).or_insert(Weight {
                    weight,
                    served: weight > 0,
                    adm: Some(weight),
                    admin: Admin::Ready,
                });
                moved |= is_new;
                if is_new && checked {
                    by_adm.came.push((key, addr, weight));
                }
                if known.weight == weight {
                    continue;
                }
                (known.weight, known.adm) = (weight, Some(weight));
                by_adm.weights.push((key, addr, weight));
                if known.admin != Admin::Ready {
                    known.weight = 0;
                    set_weight(director, key, addr, 0, now);
                }
            }
            by_adm.members |= moved;
            by_adm.checked |= moved && checked;
        }
        by_adm
    }
}

/// Sets it now, or else [`mend`] does.
fn set_weight(
    director: &Director,
    service: ServiceKey,
    destination: SocketAddr,
    weight: u32,
    now: Instant,
) -> bool {
    match director.apply(Change::SetWeight(service, destination, weight), now) {
        Ok(()) => true,
        // `uvs adm` has removed it.
        Err(error) => {
            debug!(%service, %destination, weight, %error, "a weight cannot be set");
            false
        }
    }
}

/// The destinations that get connections.
fn served(config: Option<&Config>) -> HashSet<(ServiceKey, SocketAddr)> {
    let services = config.into_iter().flat_map(|config| &config.services);
    let all = services.flat_map(|service| service.destinations.iter().map(|spec| (service.spec.key, spec)));
    all.filter(|(_, spec)| spec.weight > 0).map(|(key, spec)| (key, spec.addr)).collect()
}

/// What a destination weighs before its first result.
fn first(health: &Health, destination: &DestinationSpec) -> u32 {
    let waits = !health.policy.start_up && !health.checks_of(destination.addr).is_empty();
    if waits || health.backups.contains(&destination.addr) { 0 } else { destination.weight }
}

/// The checks of the running director.
pub struct Checks {
    /// `None` once they were stopped.
    runner: Mutex<Option<Arc<Runner>>>,
    /// What destinations weigh.
    pub weights: Arc<Weights>,
    director: Arc<Director>,
    clock: Clock,
    /// What the configuration says is to be checked.
    plan: Mutex<Plan>,
    /// Destinations have come or gone since the checks were told of them.
    outdated: AtomicBool,
}

impl Checks {
    /// Starts them over that network, on the runtime that keeps it going; there is nothing to check yet.
    pub fn start(
        (runtime, network): (&Handle, Arc<dyn Network>),
        director: &Arc<Director>,
        weights: Arc<Weights>,
        clock: Clock,
        seed: u64,
        events: Arc<Events>,
        drains: Arc<Drains>,
    ) -> Self {
        let director = Arc::clone(director);
        let doer =
            Doer { drains, director: Arc::clone(&director), weights: Arc::clone(&weights), clock, events };
        let now = move || clock.now();
        let runner = Runner::start(runtime, network, Bounds::default(), seed, now, doer);
        let runner = Mutex::new(Some(Arc::new(runner)));
        let (plan, outdated) = (Mutex::default(), AtomicBool::new(false));
        Self { runner, weights, director, clock, plan, outdated }
    }

    fn runner(&self) -> Option<Arc<Runner>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks what that configuration says from now on.
    pub fn follow(&self, config: &Config) {
        let held = self.weights.hold();
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = config.plan();
        self.tell(&held);
    }

    /// Whether there is something for [`Self::refresh`] to do.
    pub fn is_outdated(&self) -> bool {
        self.outdated.load(Relaxed)
    }

    /// Tells the checks of destinations that `uvs adm` has added or removed, if there are any. A destination without
    /// checks can wait until somebody asks for it.
    pub fn refresh(&self) {
        if self.is_outdated() {
            self.tell(&self.weights.hold());
        }
    }

    /// Tells the checks which destinations there are.
    fn tell(&self, held: &Held<'_>) {
        self.outdated.store(false, Relaxed);
        let Some(runner) = self.runner() else { return };
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        runner.apply(planned(plan, held));
    }

    /// Ends them. What they said last stays in force.
    pub fn stop(&self) {
        let runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(runner);
    }

    /// Takes note of what `uvs adm` has done.
    pub(crate) fn follow_adm(&self, ByAdm { weights, came, members, checked }: ByAdm) {
        if members {
            self.outdated.store(true, Relaxed);
        }
        if checked {
            self.refresh();
        }
        let Some(runner) = self.runner() else { return };
        for (service, destination, weight) in weights.into_iter().chain(came) {
            runner.edit(service, destination, Edit::Adm(Some(weight)));
        }
    }

    /// Sets what people want of a destination. False: there is none of that name.
    pub(crate) fn set_admin(&self, service: ServiceKey, destination: SocketAddr, admin: Admin) -> bool {
        self.refresh();
        let mut held = self.weights.hold();
        let Some(known) = held.get_mut(&service, destination) else { return false };
        known.admin = admin;
        // At once, whatever keeps the checks; back to its weight it gets by them.
        if admin != Admin::Ready && known.weight != 0 {
            known.weight = 0;
            set_weight(&self.director, service, destination, 0, self.clock.now());
        }
        if let Some(runner) = self.runner() {
            runner.edit(service, destination, Edit::Admin(admin));
        }
        true
    }

    /// Removes a destination from its service, if that is still wanted.
    pub(crate) fn remove(
        &self,
        service: ServiceKey,
        destination: SocketAddr,
        is_wanted: impl FnOnce() -> bool,
    ) {
        let mut held = self.weights.hold();
        if !is_wanted() {
            return;
        }
        let now = self.clock.now();
        if let Err(error) = self.director.apply(Change::RemoveDestination(service, destination), now) {
            debug!(%service, %destination, %error, "a destination cannot be removed");
        }
        let changed = held.changed(&self.director, Some(&service), now);
        drop(held);
        self.follow_adm(changed);
    }

    /// Gives a destination a weight, as `uvs adm -e` does: until the next reload, and to one that people have taken out
    /// of service once it serves again. False: there is none of that name.
    pub(crate) fn weigh(&self, service: ServiceKey, destination: SocketAddr, weight: u32) -> bool {
        let mut held = self.weights.hold();
        let now = self.clock.now();
        if !set_weight(&self.director, service, destination, weight, now) {
            return false;
        }
        let changed = held.changed(&self.director, Some(&service), now);
        drop(held);
        self.follow_adm(changed);
        true
    }

    /// What people want of a destination.
    pub(crate) fn admin(&self, service: &ServiceKey, destination: SocketAddr) -> Option<Admin> {
        self.weights.hold().get(service, destination).map(|known| known.admin)
    }

    /// What is known of each service; `None` while the checks are stuck.
    pub(crate) fn view(&self) -> Option<Vec<ServiceView>> {
        self.refresh();
        self.runner()?.view(PATIENCE)
    }

    /// What is known of one service, if it is checked; likewise.
    pub(crate) fn view_of(&self, service: ServiceKey) -> Option<Option<ServiceView>> {
        self.refresh();
        self.runner()?.view_of(service, PATIENCE)
    }
}

/// What is to be checked, and who weighs what: the configuration's plan with what `uvs adm` and people have done since.
fn planned(mut plan: Plan, held: &Held<'_>) -> Plan {
    let mut added = held.0.services.clone();
    plan.services.retain_mut(|service| {
        let known = added.remove(&service.key);
        // Checks of what `uvs adm` has removed go on, so that nothing is forgotten if it adds that again.
        service.judged &= known.is_some();
        let mut known = known.unwrap_or_default();
        service.destinations.retain_mut(|destination| {
            let Some(known) = known.remove(&destination.addr) else {
                destination.adm = Some(0);
                return !destination.checks.is_empty();
            };
            (destination.serves, destination.adm) = (known.served, known.adm);
            destination.admin = known.admin;
            true
        });
        service.destinations.extend(not_in_file(known));
        !service.destinations.is_empty()
    });
    let mut added: Vec<_> = added.into_iter().collect();
    added.sort_unstable_by_key(|(key, _)| *key);
    let drain = plan.drain;
    plan.services.extend(added.into_iter().map(|(key, known)| ServicePlan {
        key,
        quorum: Quorum::default(),
        policy: Policy { drain, ..Policy::default() },
        judged: false,
        destinations: not_in_file(known),
    }));
    plan
}

/// Destinations that `uvs adm` has added.
fn not_in_file(known: HashMap<SocketAddr, Weight>) -> Vec<DestinationPlan> {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable_by_key(|(addr, _)| *addr);
    let plan = |(addr, known): (SocketAddr, Weight)| DestinationPlan {
        addr,
        weight: None,
        adm: known.adm,
        admin: known.admin,
        backup: false,
        serves: known.served,
        checks: Vec::new(),
    };
    known.into_iter().map(plan).collect()
}

/// Does what checks come to.
struct Doer {
    drains: Arc<Drains>,
    director: Arc<Director>,
    weights: Arc<Weights>,
    clock: Clock,
    events: Arc<Events>,
}

impl Sink for Doer {
    fn orders(&mut self, orders: &[Order]) {
        let mut held = self.weights.hold();
        for Order { service, destination, weight, by, down, quiesced, drain } in orders {
            // One that is gone is none of ours: the plan that says so is on its way.
            let Some(known) = held.get_mut(service, *destination) else { continue };
            self.drains.on_down(*service, *destination, *down, self.clock.now());
            match quiesced {
                // People have said themselves what is to become of its connections.
                Some(true) if known.admin != Admin::Ready => {}
                Some(true) if drain.is_none() => {}
                Some(true) => self.drains.on_weight(*service, *destination, *drain, self.clock.now()),
                Some(false) => self.drains.on_weight(*service, *destination, None, self.clock.now()),
                None => {}
            }
            // Of one that people have taken out of service since, the checks are about to hear.
            let weight = if known.admin == Admin::Ready { *weight } else { 0 };
            if known.weight == weight {
                continue;
            }
            // That is what it is to weigh, whether it can be set now or later: see `mend`.
            known.weight = weight;
            if set_weight(&self.director, *service, *destination, weight, self.clock.now()) {
                info!(service = %service, destination = %destination, weight, by = %by, "weight");
                self.events.tell(weight_event(*service, *destination, weight, by.to_string()));
            }
        }
    }

    fn watch(&mut self, service: &ServiceKey, each: &mut dyn FnMut(SocketAddr, &Observations)) {
        self.director.watch(service, |destination, seen| each(destination, &seen));
    }

    fn unwatch(&mut self, service: &ServiceKey) {
        self.director.unwatch(service);
    }

    fn event(&mut self, event @ Event { service, what, .. }: &Event) {
        self.events.tell(events::of_checks(event, self.clock.now()));
        match what {
            What::Check { destination, check, from, to, reason } => match to {
                State::Up => {
                    info!(%service, %destination, check = &**check, from = %from, "check is up: {reason}")
                }
                State::Unchecked | State::Down | State::Unmade => {
                    warn!(%service, %destination, check = &**check, from = %from, "check is {to}: {reason}");
                }
            },
            What::Overdue { destination, check } => {
                warn!(%service, %destination, check = &**check, "a check gave no result in time and was given up");
            }
            What::Certificate { destination, check, expires } => {
                let until = date(*expires);
                warn!(%service, %destination, check = &**check, %until, "the certificate of a server expires soon");
            }
            What::Destination { destination, in_service: true, reason } => {
                info!(%service, %destination, "in service: {reason}");
            }
            What::Destination { destination, in_service: false, reason } => {
                warn!(%service, %destination, "out of service: {reason}");
            }
            What::Held { destination, until } => {
                let secs = until.since(self.clock.now()).as_secs();
                warn!(%service, %destination, "its checks are up, but it flaps: held out of service for {secs} s");
            }
            What::Quorum { held: true, first: true, weight, of } => {
                info!(%service, weight, of, "quorum held")
            }
            What::Quorum { held: true, weight, of, .. } => info!(%service, weight, of, "quorum regained"),
            What::Quorum { held: false, weight, of, .. } => warn!(%service, weight, of, "quorum lost"),
            What::Backup { serves: true } => warn!(%service, "the backups serve"),
            What::Backup { serves: false } => info!(%service, "the backups serve no longer"),
        }
    }
}
