//! Health checks in the running director: what they come to becomes weights of destinations, and lines in the log.
//!
//! ```text
//!   configuration --plan--> Runner (a thread of its own) --orders--> Weights, Director::apply (SetWeight)
//!   uvs adm -e ---edit----->                             --events--> log, events
//!   every few seconds: what the director has otherwise than Weights say is mended (mend)
//! ```
//! A destination that is checked weighs in the director what its checks, its agent, and people say together
//! ([`uvs_check::weight`]); [`Weights`] is that, for whoever else changes the director: a reload gives destinations
//! these weights, not those of the file, and `uvs adm` is noticed by them.

mod mend;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{debug, info, warn};
use uvs_check::core::{Bounds, Edit, Event, Order, ServiceView, State, What};
use uvs_check::net::Network;
use uvs_check::probe::date;
use uvs_check::runner::{Runner, Sink};
use uvs_config::{Config, Health, Service};
use uvs_director::Director;
use uvs_director::spec::{Change, DestinationSpec, ServiceKey};

use crate::clock::Clock;
use crate::events::{self, Events, weight_event};

pub(crate) use mend::mend;

/// Whoever asks for states waits for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What each destination that is checked weighs in the director. Whoever changes a weight there holds this meanwhile.
#[derive(Debug, Default)]
pub struct Weights {
    known: Mutex<Known>,
    /// Those that change weights at length and cannot hold this meanwhile; see [`Weights::announce`].
    announced: AtomicUsize,
}

/// By service and destination.
type Known = HashMap<(ServiceKey, SocketAddr), Weight>;

#[derive(Clone, Copy, Debug)]
struct Weight {
    weight: u32,
    /// Whether it served before it was checked at all.
    served: bool,
}

/// [`Weights`], held.
pub(crate) struct Held<'w>(MutexGuard<'w, Known>);

/// Says as long as it lives that somebody changes weights; see [`Weights::announce`].
pub(crate) struct Announced<'w>(&'w AtomicUsize);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
        self.announced.fetch_add(1, Ordering::Relaxed);
        Announced(&self.announced)
    }

    /// Whether what the director has may be mended by who holds this.
    fn may_be_mended(&self) -> bool {
        self.announced.load(Ordering::Relaxed) == 0
    }
}

impl Held<'_> {
    /// The configuration with the weights that its destinations are to have in the director for now: those that are
    /// checked already keep theirs, those that serve in `before` without being checked go on, and those that are new
    /// begin with what their service's policy says.
    pub(crate) fn settle(&self, wanted: &Config, before: Option<&Config>) -> Config {
        let served = served(before);
        let mut settled = wanted.clone();
        for service in &mut settled.services {
            let Service { health: Some(health), spec, destinations, .. } = service else { continue };
            for destination in destinations {
                let key = (spec.key, destination.addr);
                destination.weight = match self.0.get(&key) {
                    Some(known) => known.weight,
                    None if served.contains(&key) && !health.backups.contains(&key.1) => destination.weight,
                    None => first(health, destination),
                };
            }
        }
        settled
    }

    /// The director, which had `before`, has what [`Held::settle`] said.
    pub(crate) fn settled(&mut self, settled: &Config, before: Option<&Config>) {
        let served = served(before);
        let checked = settled.services.iter().filter(|service| service.health.is_some());
        let all =
            checked.flat_map(|service| service.destinations.iter().map(|spec| (service.spec.key, spec)));
        let known = all
            .map(|(key, spec)| {
                let key = (key, spec.addr);
                let served = self.0.get(&key).map_or(served.contains(&key), |known| known.served);
                (key, Weight { weight: spec.weight, served })
            })
            .collect();
        *self.0 = known;
    }

    /// Those that somebody else has given another weight, and which.
    pub(crate) fn changed(&mut self, director: &Director) -> Vec<(ServiceKey, SocketAddr, u32)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for service in director.services() {
            for DestinationSpec { addr, weight, .. } in service.destinations.iter().map(|view| view.spec) {
                if let Some(known) = self.0.get_mut(&(service.spec.key, addr))
                    && known.weight != weight
                {
                    known.weight = weight;
                    changed.push((service.spec.key, addr, weight));
                }
            }
        }
        changed
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
    let waits = !health.policy.start_up && !health.checks.is_empty();
    if waits || health.backups.contains(&destination.addr) { 0 } else { destination.weight }
}

/// The checks of the running director.
pub struct Checks {
    /// `None` once they were stopped.
    runner: Mutex<Option<Arc<Runner>>>,
    /// What destinations that are checked weigh.
    pub weights: Arc<Weights>,
}

impl Checks {
    /// Starts them over that network; there is nothing to check yet.
    ///
    /// # Errors
    /// The host has no thread for them.
    pub fn start(
        network: Arc<dyn Network>,
        director: &Arc<Director>,
        weights: Arc<Weights>,
        clock: Clock,
        seed: u64,
        events: Arc<Events>,
    ) -> anyhow::Result<Self> {
        let doer = Doer { director: Arc::clone(director), weights: Arc::clone(&weights), clock, events };
        let runner = Runner::start(network, Bounds::default(), seed, move || clock.now(), doer)?;
        Ok(Self { runner: Mutex::new(Some(Arc::new(runner))), weights })
    }

    fn runner(&self) -> Option<Arc<Runner>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks what that configuration says from now on.
    pub fn follow(&self, config: &Config) {
        let Some(runner) = self.runner() else { return };
        let mut plan = config.plan();
        let held = self.weights.hold();
        for service in &mut plan.services {
            for destination in &mut service.destinations {
                let known = held.0.get(&(service.key, destination.addr));
                destination.serves = known.is_some_and(|known| known.served);
            }
        }
        runner.apply(plan);
    }

    /// Ends them. What they said last stays in force.
    pub fn stop(&self) {
        let runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(runner);
    }

    /// Notes weights that were set by `uvs adm`.
    pub(crate) fn set_by_adm(&self, changed: Vec<(ServiceKey, SocketAddr, u32)>) {
        let Some(runner) = self.runner() else { return };
        for (service, destination, weight) in changed {
            runner.edit(service, destination, Edit::Adm(Some(weight)));
        }
    }

    /// What is known of each service that is checked; `None` while the checks are stuck.
    pub(crate) fn view(&self) -> Option<Vec<ServiceView>> {
        self.runner()?.view(PATIENCE)
    }
}

/// Does what checks come to.
struct Doer {
    director: Arc<Director>,
    weights: Arc<Weights>,
    clock: Clock,
    events: Arc<Events>,
}

impl Sink for Doer {
    fn orders(&mut self, orders: &[Order]) {
        let mut held = self.weights.hold();
        for Order { service, destination, weight, by, .. } in orders {
            // What is not (or not any more) checked is none of ours: the plan that says so is on its way.
            let Some(known) = held.0.get_mut(&(*service, *destination)) else { continue };
            if known.weight == *weight {
                continue;
            }
            // That is what it is to weigh, whether it can be set now or later: see `mend`.
            known.weight = *weight;
            match self.director.apply(Change::SetWeight(*service, *destination, *weight), self.clock.now()) {
                Ok(()) => {
                    info!(service = %service, destination = %destination, weight, by = %by, "weight");
                    self.events.tell(weight_event(*service, *destination, *weight, by.to_string()));
                }
                // `uvs adm` has removed it.
                Err(error) => debug!(%error, "a weight cannot be set"),
            }
        }
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
            What::Quorum { held: true, weight, of } => info!(%service, weight, of, "quorum regained"),
            What::Quorum { held: false, weight, of } => warn!(%service, weight, of, "quorum lost"),
            What::Backup { serves: true } => warn!(%service, "the backups serve"),
            What::Backup { serves: false } => info!(%service, "the backups serve no longer"),
        }
    }
}
