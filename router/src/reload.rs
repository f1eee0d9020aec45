//! Bringing a running director to what the configuration file says now.
//!
//! ```text
//!   file --> check --> refusals? --> prepare: diff(what runs, what is wanted) --> apply, exchange
//!                          |                `--> Plan: `uvs plan` ends here
//!                          `-- then nothing is touched
//! ```
//! What runs is asked of the director, not remembered: whatever was done to it meanwhile (`uvs adm`, `uvs sched`), or
//! could not be done, a reload brings it to what the file says. A change that fails takes those before it back.

mod by_hand;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;

use uvs_config::{Config, Interface, Location, Module, Problems, Service};
use uvs_control::plan::{Change as Described, Plan};
use uvs_director::spec::{Change, DestinationSpec, InterfaceSpec, Prefix, SchedulerSpec, ServiceKey};
use uvs_director::view::ServiceView;
use uvs_director::{ApplyError, Director};
use uvs_plugin::{By, Catalogue, Exchange, Schedulers};

use crate::check::{self, Judged};
use crate::checks::{Held, Weights};
use crate::clock::Clock;
use crate::drains::Drains;
use crate::ha::Ha;
use crate::memory;
use crate::plan::{self, Counts, Leaving};

pub use by_hand::ByHand;

/// What a reload came to.
#[derive(Debug)]
pub enum Outcome {
    /// The new configuration is in force.
    Done {
        /// What it says.
        config: Box<Config>,
        /// What that took.
        plan: Box<Plan>,
        /// Whether the director may have addresses that its links have not heard of.
        announce: bool,
    },
    /// Nothing was touched, for these reasons.
    Refused(Vec<String>),
    /// A change failed, and so did taking others back, for these reasons; some are in force.
    Failed(Vec<String>),
}

/// What a reload works on.
#[derive(Clone, Copy)]
pub struct Parts<'p> {
    /// What runs.
    pub director: &'p Director,
    /// The modules in it.
    pub schedulers: &'p Schedulers,
    /// The director's time.
    pub clock: Clock,
    /// What destinations weigh.
    pub weights: &'p Weights,
    /// Destinations that lose their connections.
    pub drains: &'p Drains,
    /// Virtual routers, where there can be any.
    pub ha: Option<&'p Ha>,
}

/// Reads the file again, judges it, and applies what is different. Compiles modules: not for a thread that
/// has frames or requests to serve.
pub fn reload(file: &Path, running: &Config, parts: Parts<'_>) -> Outcome {
    match accepted(check::load(file, parts.schedulers), running) {
        Ok(wanted) => apply(running, wanted, parts),
        Err(reasons) => {
            parts.schedulers.note_broken_files(By::Configuration);
            Outcome::Refused(reasons)
        }
    }
}

/// What a reload would change, if it read `wanted` now. Changes nothing.
///
/// # Errors
/// Why a reload would be refused.
pub fn plan(
    wanted: Result<Judged, Problems>,
    running: &Config,
    parts: Parts<'_>,
) -> Result<Plan, Vec<String>> {
    let wanted = accepted(wanted, running)?;
    Ok(prepare(running, &wanted, parts, &parts.weights.hold()).plan)
}

/// A configuration that a reload takes.
fn accepted(judged: Result<Judged, Problems>, running: &Config) -> Result<Judged, Vec<String>> {
    let mut wanted = judged.map_err(|problems| uvs_config::told(&problems))?;
    memory::keep(running, &mut wanted.config);
    let mut refusals = needs_restart(running, &wanted.config);
    refusals.extend(check::cannot_change_user(&wanted.config));
    if refusals.is_empty() { Ok(wanted) } else { Err(refusals) }
}

/// All that a reload does.
struct Prepared {
    /// What runs.
    before: Config,
    /// What is wanted, with the weights that destinations are to have for now.
    settled: Config,
    leaving: Leaving,
    changes: Vec<Change>,
    exchanges: Vec<Exchange>,
    /// The same for people.
    plan: Plan,
}

fn prepare(
    running: &Config,
    Judged { config: wanted, catalogue }: &Judged,
    parts: Parts<'_>,
    weights: &Held<'_>,
) -> Prepared {
    let services = parts.director.services();
    let before = as_it_runs(running, parts.director, &services);
    let mut settled = weights.settle(wanted, Some(&before));
    let leaving = leave(&mut settled, &before);
    let changes = Config::diff(Some(&before), &settled);
    let exchanges = parts.schedulers.exchanges(catalogue, &kept_schedulers(&before, &settled), true);
    let counts = counts(&services);
    let mut described = plan::of_director(&before, &settled, &changes, &leaving, &counts);
    described.extend(plan::of_quiesced(running, &before, &leaving, &counts));
    plan::mark_by_hand(&mut described, &hand_made(running, &before, &counts, weights));
    described.extend(weights_by_adm(wanted, weights));
    let checked = weights_of_checked(running, wanted, &described);
    described.extend(checked);
    described.extend(exchanges.iter().map(plan::of_module));
    described.extend(plan::of_checks(running, wanted, &before));
    described.extend(plan::of_vrrp(running, wanted));
    let plan = Plan {
        config: wanted.file.display().to_string(),
        changes: described,
        warnings: uvs_config::told(&wanted.warnings),
        refused: Vec::new(),
    };
    Prepared { before, settled, leaving, changes, exchanges, plan }
}

/// Has the destinations that go from a service with a bound for their connections (`drain`) stay without a weight.
fn leave(settled: &mut Config, before: &Config) -> Leaving {
    let had: HashMap<_, _> = before.services.iter().map(|service| (service.spec.key, service)).collect();
    let mut leaving = Leaving::new();
    for service in &mut settled.services {
        let key = service.spec.key;
        let (Some(after), Some(had)) = (service.drain, had.get(&key)) else { continue };
        let stay: HashSet<SocketAddr> = service.destinations.iter().map(|spec| spec.addr).collect();
        for spec in had.destinations.iter().filter(|spec| !stay.contains(&spec.addr)) {
            service.destinations.push(DestinationSpec { weight: 0, ..*spec });
            leaving.insert((key, spec.addr), after);
        }
    }
    leaving
}

/// What would undo everything that was done to the director by hand since it took `running`.
fn hand_made(running: &Config, before: &Config, counts: &Counts, weights: &Held<'_>) -> Vec<Described> {
    let mut settled = weights.settle(running, Some(before));
    let leaving = leave(&mut settled, before);
    let changes = Config::diff(Some(before), &settled);
    let mut described = plan::of_director(before, &settled, &changes, &leaving, counts);
    for change in &mut described {
        change.by_hand = true;
    }
    described.extend(weights_by_adm(running, weights));
    described
}

/// Destinations that are checked go by what `uvs adm` said while their checks are up; a reload ends that.
fn weights_by_adm(wanted: &Config, weights: &Held<'_>) -> Vec<Described> {
    let file: HashMap<_, _> = wanted
        .services
        .iter()
        .filter(|service| service.health.is_some())
        .flat_map(|service| {
            service.destinations.iter().map(|spec| ((service.spec.key, spec.addr), spec.weight))
        })
        .collect();
    let differing = weights.by_adm().into_iter().filter_map(|(key, addr, weight)| {
        let wanted = *file.get(&(key, addr))?;
        (wanted != weight).then(|| plan::of_weight(key, addr, weight, wanted))
    });
    differing.collect()
}

/// What the file says anew of the weights of destinations that are checked, but for those that are `described`. Their
/// checks put it in force, and so it is none of the changes.
fn weights_of_checked(running: &Config, wanted: &Config, described: &[Described]) -> Vec<Described> {
    let weights_of = |config: &Config| -> HashMap<(ServiceKey, SocketAddr), u32> {
        let checked = config.services.iter().filter(|service| service.health.is_some());
        checked.flat_map(|it| it.destinations.iter().map(|to| ((it.spec.key, to.addr), to.weight))).collect()
    };
    let place = |it: &Described| (it.what.clone(), it.service.clone(), it.name.clone());
    let described: HashSet<_> = described.iter().map(place).collect();
    let (had, has) = (weights_of(running), weights_of(wanted));
    let in_order =
        wanted.services.iter().flat_map(|it| it.destinations.iter().map(|to| (it.spec.key, to.addr)));
    let differing = in_order.filter_map(|(key, addr)| {
        let (old, new) = (*had.get(&(key, addr))?, *has.get(&(key, addr))?);
        (old != new).then(|| plan::of_checked_weight(key, addr, old, new))
    });
    differing.filter(|change| !described.contains(&place(change))).collect()
}

/// Connections of each destination.
fn counts(services: &[ServiceView]) -> Counts {
    let all = services.iter().flat_map(|service| {
        let key = service.spec.key;
        service
            .destinations
            .iter()
            .map(move |it| ((key, it.spec.addr), u64::from(it.active) + u64::from(it.inactive)))
    });
    all.collect()
}

/// The schedulers of services that keep theirs.
fn kept_schedulers(before: &Config, after: &Config) -> Vec<(String, SchedulerSpec)> {
    let had: HashMap<_, _> = before.services.iter().map(|service| (service.spec.key, service)).collect();
    let keeps = |service: &&Service| {
        had.get(&service.spec.key)
            .is_some_and(|had| had.spec.scheduler == service.spec.scheduler && had.module == service.module)
    };
    let kept = after.services.iter().filter(keeps);
    kept.map(|service| (service.spec.key.to_string(), service.spec.scheduler.clone())).collect()
}

fn apply(running: &Config, wanted: Judged, parts: Parts<'_>) -> Outcome {
    let Parts { director, schedulers, clock, drains, ha, .. } = parts;
    // Nobody changes a weight meanwhile.
    let mut weights = parts.weights.hold();
    let Prepared { before, settled, leaving, changes, exchanges, mut plan } =
        prepare(running, &wanted, parts, &weights);
    let announce =
        changes.iter().any(|change| matches!(change, Change::SetNetwork { .. } | Change::SetAddresses(_)));
    // Schedulers are made by these names from here on.
    let names_before = schedulers.catalogue();
    schedulers.accept(wanted.catalogue);
    // Before the addresses come: no other director is to hear this one answer for them.
    if let Some(ha) = ha {
        ha.prepare(&wanted.config);
    }
    if let Err(error) = carry_out(changes, director, clock) {
        if let Some(ha) = ha {
            ha.take_back();
        }
        // The old names first: what is taken back is made by them.
        schedulers.accept(Catalogue::clone(&names_before));
        return take_back(&before, &settled, error.to_string(), director, clock);
    }
    weights.settled(&settled, Some(&before));
    for Service { spec, destinations, .. } in &settled.services {
        for destination in destinations {
            match leaving.get(&(spec.key, destination.addr)) {
                Some(after) => drains.on_removal(spec.key, destination.addr, *after, clock.now()),
                None => drains.stays(spec.key, destination.addr),
            }
        }
    }
    drop(weights);
    // The names stay while what is in their files, or is tried beside them, may be another. What is refused here is in
    // the service's status and in the log, too: the module before serves on.
    for exchange in exchanges {
        let service = exchange.service.clone();
        if let Err(refusal) = schedulers.exchange(exchange) {
            plan.refused.push(format!("{service}: {refusal}"));
        }
    }
    Outcome::Done { config: Box::new(wanted.config), plan: Box::new(plan), announce }
}

/// Applies changes in their order, up to one that fails. Destinations that come to a service one after the other come
/// together: their scheduler is not told of all that there are for each.
///
/// # Errors
/// Why that one failed.
pub(crate) fn carry_out(changes: Vec<Change>, director: &Director, clock: Clock) -> Result<(), ApplyError> {
    let mut changes = changes.into_iter().peekable();
    while let Some(change) = changes.next() {
        tracing::debug!(?change, "to be applied");
        let Change::AddDestination(key, first) = change else {
            director.apply(change, clock.now())?;
            continue;
        };
        let mut specs = vec![first];
        while let Some(Change::AddDestination(_, spec)) =
            changes.next_if(|it| matches!(it, Change::AddDestination(of, _) if *of == key))
        {
            specs.push(spec);
        }
        director.add_destinations(key, &specs).into_iter().collect::<Result<(), ApplyError>>()?;
    }
    Ok(())
}

/// Brings the director back to what it was before a change failed.
fn take_back(before: &Config, wanted: &Config, reason: String, director: &Director, clock: Clock) -> Outcome {
    let failures: Vec<String> =
        Config::diff(Some(&as_it_runs(wanted, director, &director.services())), before)
            .into_iter()
            .filter_map(|change| director.apply(change, clock.now()).err().map(|error| error.to_string()))
            .collect();
    if failures.is_empty() {
        return Outcome::Refused(vec![reason]);
    }
    Outcome::Failed([vec![reason], failures].concat())
}

/// What is set up once, before the first frame.
fn needs_restart(running: &Config, wanted: &Config) -> Vec<String> {
    let mut refusals = Vec::new();
    let refuse = |what: &str| format!("{what} cannot change while the director runs; restart to change it");
    let names = |config: &Config| -> Vec<String> {
        config.interfaces.iter().map(|interface| interface.spec.name.clone()).collect()
    };
    if names(running) == names(wanted) {
        for (now, then) in running.interfaces.iter().zip(&wanted.interfaces) {
            let changed = set_up_differently(now, then);
            if !changed.is_empty() {
                refusals.push(format!(
                    "the {} of interface {} cannot change while the director runs; restart to change interfaces",
                    changed.join(" and the "),
                    now.spec.name
                ));
            }
        }
    } else {
        refusals.push(format!(
            "the interfaces are {} and would be {}; restart to change interfaces",
            names(running).join(", "),
            names(wanted).join(", ")
        ));
    }
    if (running.limits, running.flows) != (wanted.limits, wanted.flows) {
        refusals.push(refuse("[limits]"));
    }
    if running.flow_pin != wanted.flow_pin {
        refusals.push(refuse("[flow_cache]"));
    }
    if running.host_record != wanted.host_record {
        refusals.push(refuse("[host]"));
    }
    if running.local != wanted.local {
        refusals.push(refuse("[local]"));
    }
    if running.workers != wanted.workers {
        refusals.push(refuse("[workers]"));
    }
    if running.control != wanted.control {
        refusals.push(refuse("[control]"));
    }
    if running.modules != wanted.modules {
        refusals.push(refuse("[modules]"));
    }
    if running.metrics != wanted.metrics {
        refusals.push(refuse("`listen` of [metrics]"));
    }
    if running.http != wanted.http {
        refusals.push(refuse("[http]"));
    }
    refusals
}

/// What of an interface is more than a word to the engine.
fn set_up_differently(now: &Interface, then: &Interface) -> Vec<&'static str> {
    [
        (now.spec.link != then.spec.link, "kind or MAC address"),
        (now.spec.mtu != then.spec.mtu, "MTU"),
        (now.io != then.io, "offload or number of queues"),
        (now.bridge != then.bridge, "bridge"),
        ((&now.direct, now.accelerate) != (&then.direct, then.accelerate), "attachment"),
        (now.host != then.host, "host's side"),
    ]
    .into_iter()
    .filter_map(|(changed, what)| changed.then_some(what))
    .collect()
}

fn running_keys(running: &Config) -> impl Iterator<Item = ServiceKey> + '_ {
    running.services.iter().map(|service| service.spec.key)
}

/// The running configuration with the network, the services and settings that the director really has.
fn as_it_runs(running: &Config, director: &Director, services: &[ServiceView]) -> Config {
    let by_key: HashMap<_, _> = running.services.iter().map(|service| (service.spec.key, service)).collect();
    let services = services
        .iter()
        .map(|view| {
            let known = by_key.get(&view.spec.key);
            Service {
                module: module_of(running, &view.spec.scheduler.name),
                trial: known.and_then(|service| service.trial.clone()),
                spec: view.spec.clone(),
                destinations: view.destinations.iter().map(|destination| destination.spec).collect(),
                health: known.and_then(|service| service.health.clone()),
                drain: known.map_or(running.drain, |service| service.drain),
                location: Location::default(),
                scheduler_location: Location::default(),
            }
        })
        .collect();
    let mut interfaces = running.interfaces.clone();
    let (there, remembered) = (director.interfaces(), running.interfaces_for(running_keys(running)));
    if !same_addresses(&there, &remembered) {
        for (interface, spec) in interfaces.iter_mut().zip(there) {
            interface.spec = spec;
        }
    }
    Config {
        interfaces,
        services,
        marks: director.marks(),
        timeouts: director.timeouts(),
        options: director.options(),
        ..running.clone()
    }
}

/// Whether two sets of interfaces are the same but for the order of their addresses.
pub(crate) fn same_addresses(one: &[InterfaceSpec], other: &[InterfaceSpec]) -> bool {
    let set =
        |interface: &InterfaceSpec| -> HashSet<Prefix> { interface.addresses.iter().copied().collect() };
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| set(one) == set(other))
}

/// The component behind the name of a scheduler, as the configuration has it.
fn module_of(config: &Config, name: &str) -> Option<Module> {
    let defined = config.schedulers.iter().find(|scheduler| scheduler.name == name);
    let of_path = || name.ends_with(".wasm").then(|| Module::new(name.into()));
    defined.map(|scheduler| scheduler.module.clone()).or_else(of_path)
}

/// What runs as the text of a configuration.
pub fn export(running: &Config, parts: Parts<'_>) -> String {
    let weights = parts.weights.hold();
    let mut now = as_it_runs(running, parts.director, &parts.director.services());
    let given: HashMap<_, _> =
        weights.by_adm().into_iter().map(|(key, addr, weight)| ((key, addr), weight)).collect();
    for service in &mut now.services {
        let key = service.spec.key;
        let file = running.services.iter().find(|it| it.spec.key == key);
        service.destinations.retain(|spec| !parts.drains.is_leaving(&key, spec.addr));
        for spec in &mut service.destinations {
            // What its checks, or a drain, have made of its weight is not what it is to have.
            if service.health.is_none() && !weights.is_taken_out(&key, spec.addr) {
                continue;
            }
            let in_file = file.and_then(|it| it.destinations.iter().find(|it| it.addr == spec.addr));
            let weight = given.get(&(key, spec.addr)).copied().or(in_file.map(|it| it.weight));
            spec.weight = weight.unwrap_or(spec.weight);
        }
    }
    drop(weights);
    let mut text = format!("# What the director runs that was started with {}.\n", running.file.display());
    let kept = kept_schedulers(&now, &now);
    for it in parts.schedulers.exchanges(&parts.schedulers.catalogue(), &kept, false) {
        if let Some(from) = it.from.filter(|_| it.by_hand && !it.trial) {
            text.push_str(&format!(
                "# {} runs {from}, loaded by hand: name it as its scheduler to keep it.\n",
                it.service
            ));
        }
    }
    text.push('\n');
    text + &now.to_toml(running)
}

#[cfg(test)]
mod tests;
