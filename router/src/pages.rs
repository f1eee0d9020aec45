//! What the HTTP server shows, read from the running director at the moment of asking.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use uvs_attach::Cache;
use uvs_config::Config;
use uvs_control::plan::LastReload;
use uvs_director::spec::{Limits, ServiceKey};
use uvs_director::{Director, PortId};
use uvs_plugin::{LATENCY_BOUNDS_NS, Schedulers, Snapshot};

use crate::accelerate::{Datapath, Missing};
use crate::alive::{self, Pulse, Standing};
use crate::announce::Announcements;
use crate::checks::Checks;
use crate::clock::Clock;
use crate::drains::Drains;
use crate::event_loop::threads;
use crate::events::Events;
use crate::ha::{Ha, Sight};
use crate::hooks::Hooks;
use crate::http::Pages;
use crate::keeper::{Health, State};
use crate::local::Local;
use crate::metrics::{self, Reloads, SchedulerSample};
use crate::reload::Parts;
use crate::trace::Traces;
use crate::traffic::{self, Lane};
use crate::version::Build;

/// The running director, to be looked at.
pub struct Live {
    /// The engine.
    pub director: Arc<Director>,
    /// Its time.
    pub clock: Clock,
    /// Who makes its schedulers.
    pub schedulers: Arc<Schedulers>,
    /// Its bounds.
    pub limits: Limits,
    /// Which of them follow the memory that there is, and how much that was.
    pub lowered: Option<String>,
    /// Names of the interfaces, by port.
    pub interfaces: Vec<String>,
    /// Interfaces attached directly, their links, and whether they are.
    pub attached: Vec<(String, String, AtomicBool)>,
    /// How the interfaces are.
    pub health: Health,
    /// The flow cache.
    pub cache: Option<Arc<Cache>>,
    /// How the frames of each interface pass.
    pub datapaths: Vec<Datapath>,
    /// Interfaces that should have one if it can be had, and have none.
    pub unaccelerated: Vec<Missing>,
    /// The director as a host.
    pub local: Local,
    /// What the data plane counts.
    pub lanes: Arc<[Lane]>,
    /// Health checks.
    pub checks: Checks,
    /// Drains.
    pub drains: Arc<Drains>,
    /// VIPs that are told to routers.
    pub announce: Announcements,
    /// What happened lately.
    pub events: Arc<Events>,
    /// Programs that are told what happens.
    pub hooks: Hooks,
    /// Virtual routers.
    pub ha: Ha,
    /// Somebody wants to know who else has our addresses.
    pub ask_links: Notify,
    /// Who wants to see packets.
    pub traces: Arc<Traces>,
    /// How the control loop does.
    pub pulse: Pulse,
    /// The configuration in force.
    pub config: Mutex<Arc<Config>>,
    /// How the latest reload went.
    pub reload: Mutex<Option<LastReload>>,
    /// When the process started, in seconds since 1970.
    pub started: f64,
    /// Reloads that worked.
    pub reloads_done: AtomicU64,
    /// Reloads that did not.
    pub reloads_failed: AtomicU64,
}

impl Live {
    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at what a reload works on.
    pub(crate) fn with_parts<T>(&self, work: impl FnOnce(Parts<'_>) -> T) -> T {
        work(Parts {
            director: &self.director,
            schedulers: &self.schedulers,
            clock: self.clock,
            weights: &self.checks.weights,
            drains: &self.drains,
            ha: Some(&self.ha),
        })
    }

    fn snapshot(&self) -> metrics::Snapshot {
        let interfaces = (0u16..).map(PortId).zip(&self.interfaces);
        metrics::Snapshot {
            build: Build::current(),
            started: self.started,
            neighbor_limit: self.limits.neighbors,
            status: self.director.status(),
            services: self.director.services(),
            destinations_max: usize::try_from(self.config().metrics_destinations).unwrap_or(usize::MAX),
            schedulers: self.scheduler_samples(),
            modules: self.schedulers.status(),
            interfaces: interfaces
                .map(|(port, name)| (name.clone(), traffic::sum(self.lanes.iter(), port)))
                .collect(),
            attached: self
                .attached
                .iter()
                .map(|(interface, link, now)| (interface.clone(), link.clone(), now.load(Relaxed)))
                .collect(),
            health: self.health.interfaces(),
            checks: self.checks.view().map(|view| (self.clock.now(), view)),
            notified: self.hooks.stats.report(),
            announced: self.announce.report(),
            vrrp: self.ha.look(),
            cache: self.cache.as_ref().map(|cache| cache.status()),
            reloads: Reloads {
                done: self.reloads_done.load(Relaxed),
                failed: self.reloads_failed.load(Relaxed),
            },
        }
    }

    pub(crate) fn scheduler_samples(&self) -> Vec<SchedulerSample> {
        // While a service's scheduler is being replaced, both may be alive: the later one counts, for two
        // series of one name would void the whole page.
        let by_name: BTreeMap<_, _> = self
            .schedulers
            .stats()
            .into_iter()
            .map(|(service, scheduler, stats)| ((service, scheduler), stats.snapshot()))
            .collect();
        by_name
            .into_iter()
            .map(|((service, scheduler), figures)| sample(service, scheduler, &figures))
            .collect()
    }
}

fn sample(service: String, scheduler: String, figures: &Snapshot) -> SchedulerSample {
    let latency = &figures.latency;
    SchedulerSample {
        service,
        scheduler,
        picks: figures.picks,
        refused: figures.refused,
        fallbacks: figures.fallbacks,
        failures: figures.failures.iter().map(|(cause, n)| (cause.label(), *n)).collect(),
        rebuilds: figures.rebuilds,
        ejections: figures.ejections,
        events: figures.events,
        serving: figures.serving.label(),
        latency: LATENCY_BOUNDS_NS.iter().map(|&bound| seconds(bound)).zip(latency.buckets).collect(),
        latency_above: latency.buckets.last().copied().unwrap_or_default(),
        latency_sum: seconds(latency.sum_ns),
    }
}

/// Prometheus counts time in seconds.
#[allow(clippy::cast_precision_loss, reason = "a float is what the format has")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Sight for Live {
    fn is_stuck(&self) -> bool {
        let now = self.clock.now();
        threads(&self.lanes).iter().any(|lane| lane.beat.stuck(now).is_some())
    }

    fn has_quorum(&self, key: ServiceKey) -> Option<bool> {
        let view = self.checks.view_of(key)?;
        Some(view.is_some_and(|service| service.quorum == Some(true)))
    }

    fn tell(&self, name: &str, up: bool) {
        self.ha.track(name, up);
    }
}

impl Pages for Live {
    fn metrics(&self) -> String {
        metrics::render(&self.snapshot())
    }

    fn alive(&self) -> Standing {
        let beats = threads(&self.lanes).iter().map(|lane| &lane.beat);
        Standing::of(alive::stuck(beats, &self.pulse, self.clock.now()))
    }

    fn ready(&self, service: Option<&str>) -> Standing {
        let mut reasons = self.alive().reasons;
        if self.pulse.stopping.load(Relaxed) {
            reasons.push("the director is stopping".to_owned());
        }
        for (name, health) in self.interfaces.iter().zip(self.health.interfaces()) {
            if health.state == State::Down {
                reasons.push(format!("interface {name} is down: {}", health.reasons.join("; ")));
            }
        }
        let Some(service) = service else { return Standing::of(reasons) };
        let key = alive::key_of(service);
        let Some((key, serves)) = key.and_then(|key| Some((key, self.director.serves(&key)?))) else {
            return Standing::unknown(format!(
                "there is no service {service}; /services lists those that there are"
            ));
        };
        match self.checks.view_of(key) {
            None => reasons.push("health checks do not answer".to_owned()),
            Some(Some(checked)) if !checked.destinations.iter().all(|it| it.checks.is_empty()) => {
                match checked.quorum {
                    Some(true) => {}
                    // Others serve meanwhile: that is not what the service is for.
                    Some(false) if checked.backup => {
                        reasons.push("quorum lost, the backups serve".to_owned())
                    }
                    Some(false) => reasons.push("quorum lost".to_owned()),
                    None => reasons.push("its checks have no results yet".to_owned()),
                }
            }
            Some(_) => {}
        }
        if !serves {
            reasons.push("no destination takes new connections".to_owned());
        }
        Standing::of(reasons)
    }

    fn services(&self) -> String {
        uvs_adm::format::services(&self.director.services())
    }

    fn connections(&self, take: &mut dyn FnMut(String) -> bool) {
        uvs_adm::list_connections(&self.director, self.clock.now(), true, false, take);
    }
}
