//! Another plan: what it has in common with the one before keeps its state. Everything is found by its key, never by
//! comparing all with all.

use core::net::SocketAddr;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uvs_director::spec::ServiceKey;
use uvs_director::{Duration, Instant};

use super::damping::Damping;
use super::random::Even;
use super::table::{Check, Destination, Phase, Probe, Service};
use super::timers::Owner;
use super::{Core, Run, schedule};
use crate::spec::{CheckPlan, DestinationPlan, Kind, Plan, ProbeSpec, ServicePlan};
use crate::weight::{Admin, Slots, put, replace};

/// First probes are spread over so much time for each of them, and over no more than their interval: 10,000 with an
/// interval of 2 s over all of it, and so they stay.
const SPREAD: Duration = Duration::from_micros(200);

/// What was there before.
struct Before {
    services: HashMap<ServiceKey, Service>,
    destinations: HashMap<(ServiceKey, SocketAddr), Destination>,
    /// Each is taken by the check that goes on with its state.
    checks: Vec<Option<Check>>,
    specs: Vec<Arc<ProbeSpec>>,
    probes: HashMap<Arc<ProbeSpec>, Probe>,
    /// Destinations that were in maintenance, by their new indexes.
    maint: Vec<usize>,
}

impl Core {
    /// Checks what `plan` says, from now on. Checks of the same name and destination whose probe is the same keep their
    /// state, their next moment and the probe that runs; so do destinations what others than the plan say of their
    /// weights, and services their quorum. New ones of a destination that was there before count for what that was,
    /// until their first result.
    pub fn apply(&mut self, plan: Plan, now: Instant) {
        let mut before = self.take_all();
        let mut index_of: HashMap<Arc<ProbeSpec>, usize> = HashMap::new();
        for service in plan.services {
            self.add_service(service, &mut before, &mut index_of, now);
        }
        // Nobody waits for what is left.
        for probe in before.probes.into_values() {
            if let Phase::Running(run, _) = probe.phase {
                self.runs.remove(&run);
                self.cancelled.push(Run(run));
            }
        }
        self.schedule_all(now);
        for index in before.maint {
            self.admin_changed(index, Admin::Maint, now);
        }
        self.watched = self.passive_services();
        self.slice = schedule::slice(&self.probes);
        for index in 0..self.destinations.len() {
            self.judge(index, now);
        }
        self.dirty = (0..self.services.len()).collect();
        self.settle_all(now);
    }

    fn passive_services(&self) -> Vec<ServiceKey> {
        let is_passive = |at: &usize| {
            let kind = &self.probes[self.checks[*at].probe].spec.kind;
            matches!(kind, Kind::Passive(_))
        };
        let is_watched = |service: &&Service| {
            service.destinations.iter().any(|at| self.destinations[*at].checks.iter().any(is_passive))
        };
        self.services.iter().filter(is_watched).map(|service| service.key).collect()
    }

    fn take_all(&mut self) -> Before {
        use core::mem::take;
        let services = take(&mut self.services);
        let keys: Vec<ServiceKey> = services.iter().map(|service| service.key).collect();
        let destinations = take(&mut self.destinations).into_iter();
        let probes = take(&mut self.probes);
        let specs = probes.iter().map(|probe| Arc::clone(&probe.spec)).collect();
        self.by_name.clear();
        Before {
            services: services.into_iter().map(|service| (service.key, service)).collect(),
            destinations: destinations.map(|known| ((keys[known.service], known.addr), known)).collect(),
            checks: take(&mut self.checks).into_iter().map(Some).collect(),
            specs,
            probes: probes.into_iter().map(|probe| (Arc::clone(&probe.spec), probe)).collect(),
            maint: Vec::new(),
        }
    }

    fn add_service(
        &mut self,
        plan: ServicePlan,
        before: &mut Before,
        index_of: &mut HashMap<Arc<ProbeSpec>, usize>,
        now: Instant,
    ) {
        let index = self.services.len();
        let known = before.services.remove(&plan.key);
        self.services.push(Service {
            key: plan.key,
            quorum: plan.quorum,
            policy: plan.policy,
            judged: plan.judged,
            destinations: Vec::with_capacity(plan.destinations.len()),
            held: known.as_ref().and_then(|known| known.held),
            backup: known.is_some_and(|known| known.backup),
            settled: None,
        });
        for destination in plan.destinations {
            if self.by_name.contains_key(&(plan.key, destination.addr)) {
                continue;
            }
            self.add_destination(index, &destination, before, index_of, now);
        }
    }

    fn add_destination(
        &mut self,
        service: usize,
        plan: &DestinationPlan,
        before: &mut Before,
        index_of: &mut HashMap<Arc<ProbeSpec>, usize>,
        now: Instant,
    ) {
        let index = self.destinations.len();
        let Service { key, policy, .. } = self.services[service];
        let known = before.destinations.remove(&(key, plan.addr));
        let checked = known.as_ref().filter(|known| !known.checks.is_empty());
        let presumed = checked.map_or(policy.start_up || plan.serves, |known| known.up);
        let checks: Vec<usize> = plan
            .checks
            .iter()
            .map(|check| {
                let probe = self.probe_of(check, before, index_of);
                let number = self.checks.len();
                self.probes[probe].checks.push(number);
                let known = known.as_ref().and_then(|known| before.take_check(known, check));
                let mut made = known.unwrap_or_else(|| Check::new(check, index, probe, presumed, now));
                (made.destination, made.probe) = (index, probe);
                (made.rise, made.fall, made.unmade) = (check.rise.max(1), check.fall.max(1), check.unmade);
                self.checks.push(made);
                number
            })
            .collect();
        if known.as_ref().is_some_and(|known| known.slots.admin() == Admin::Maint) {
            before.maint.push(index);
        }
        let agent = plan.checks.iter().any(|check| matches!(check.probe.kind, Kind::Agent { .. }));
        let destination = match known {
            Some(known) => Destination { service, backup: plan.backup, checks, stamp: 0, ..known },
            None => {
                let serves = |at: &usize| {
                    let check: &Check = &self.checks[*at];
                    check.serves(&self.probes[check.probe].spec.kind)
                };
                let up = checks.iter().all(serves);
                Destination {
                    addr: plan.addr,
                    service,
                    backup: plan.backup,
                    slots: Slots::new(0, now),
                    damping: Damping::default(),
                    up,
                    spare: up,
                    held_until: None,
                    in_service: up,
                    was_down: false,
                    since: now,
                    flaps: 0,
                    slow_start: None,
                    told: None,
                    quiesced: None,
                    settled: None,
                    stamp: 0,
                    checks,
                }
            }
        };
        self.destinations.push(destination);
        self.by_name.insert((key, plan.addr), index);
        self.services[service].destinations.push(index);
        let slots = &mut self.destinations[index].slots;
        put(&mut slots.file, plan.weight, now);
        put(&mut slots.adm, plan.adm, now);
        replace(&mut slots.admin, plan.admin, now);
        if !agent {
            (slots.agent, slots.agent_admin) = (None, None);
        }
        self.weigh(index, now);
    }

    fn probe_of(
        &mut self,
        check: &CheckPlan,
        before: &mut Before,
        index_of: &mut HashMap<Arc<ProbeSpec>, usize>,
    ) -> usize {
        if let Some(index) = index_of.get(&check.probe) {
            return *index;
        }
        let index = self.probes.len();
        let mut probe = before.probes.remove(&check.probe);
        if let Some(probe) = &mut probe {
            probe.checks.clear();
        }
        self.probes.push(probe.unwrap_or_else(|| Probe::new(Arc::clone(&check.probe))));
        index_of.insert(Arc::clone(&check.probe), index);
        index
    }

    /// Deadlines and queues anew, as the indexes are.
    fn schedule_all(&mut self, now: Instant) {
        self.timers.clear();
        self.queues = Default::default();
        let mut waiting: Vec<(Instant, usize)> = Vec::new();
        let fresh = self.probes.iter().filter(|probe| probe.phase == Phase::Idle && probe.started.is_none());
        let spread = SPREAD * u32::try_from(fresh.count()).unwrap_or(u32::MAX);
        let mut even = Even::new(&mut self.random);
        for index in 0..self.probes.len() {
            let kind = usize::from(self.probes[index].is_process());
            match self.probes[index].phase {
                Phase::Running(run, end) => {
                    self.queues[kind].running += 1;
                    self.runs.insert(run, index);
                    self.probes[index].stamp = self.timers.set(end, Owner::Probe(index));
                }
                Phase::Waiting(at) => waiting.push((at, index)),
                Phase::Due(at) => self.due_at(index, at),
                Phase::Idle => {
                    self.plan(index, now);
                    let probe = &self.probes[index];
                    if probe.started.is_none() && matches!(probe.phase, Phase::Due(_)) && spread > SPREAD {
                        let offset = even.below(spread.min(probe.spec.schedule.interval));
                        self.due_at(index, now + offset);
                    }
                }
            }
        }
        waiting.sort_unstable();
        for (_, index) in waiting {
            let kind = usize::from(self.probes[index].is_process());
            self.queues[kind].waiting.push_back(index);
        }
        let here: HashSet<u64> = self
            .probes
            .iter()
            .filter_map(|probe| match probe.phase {
                Phase::Running(run, _) => Some(run),
                _ => None,
            })
            .collect();
        self.runs.retain(|run, _| here.contains(run));
    }
}

impl Before {
    /// The check of that destination that has the name and the probe of `plan`.
    fn take_check(&mut self, destination: &Destination, plan: &CheckPlan) -> Option<Check> {
        let same = |at: &&usize| {
            self.checks[**at]
                .as_ref()
                .is_some_and(|check| check.name == plan.name && self.specs[check.probe] == plan.probe)
        };
        let at = *destination.checks.iter().find(same)?;
        self.checks[at].take()
    }
}
