//! Bringing a running director to what the configuration file says now.
//!
//! ```text
//!   file --> check --> refusals? --> diff(what runs, what is wanted) --> Director::apply
//!                          `-- then nothing is touched
//! ```
//! What runs is asked of the director, not remembered: a change that failed is tried again by the next reload.

use std::path::Path;

use uvs_config::{Config, Interface, Location, Problems, Service};
use uvs_director::Director;
use uvs_director::spec::Change;
use uvs_plugin::Schedulers;

use crate::check;
use crate::clock::Clock;
use crate::control::adm::same_addresses;

/// What a reload came to.
#[derive(Debug)]
pub enum Outcome {
    /// The new configuration is in force.
    Done {
        /// What it says.
        config: Box<Config>,
        /// How many changes that took.
        changes: usize,
        /// Whether the director may have addresses that its links have not heard of.
        announce: bool,
    },
    /// Nothing was touched, for these reasons.
    Refused(Vec<String>),
    /// Some changes failed, for these reasons; the others are in force.
    Failed(Vec<String>),
}

/// Reads the file again, judges it, and applies what is different. Compiles modules: not for a thread that
/// has frames or requests to serve.
pub fn reload(
    file: &Path,
    running: &Config,
    director: &Director,
    schedulers: &Schedulers,
    clock: Clock,
) -> Outcome {
    let refusals = match check::load(file, schedulers) {
        Ok(wanted) => {
            let refusals = needs_restart(running, &wanted);
            if refusals.is_empty() {
                return apply(running, wanted, director, clock);
            }
            refusals
        }
        Err(Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
    };
    // The check made the new names known. The old ones were good, so they are good again.
    let restored = check::define(running, schedulers);
    debug_assert!(restored.is_ok(), "{restored:?}");
    Outcome::Refused(refusals)
}

fn apply(running: &Config, wanted: Config, director: &Director, clock: Clock) -> Outcome {
    let changes = Config::diff(Some(&as_it_runs(running, director)), &wanted);
    let announce = changes.iter().any(|change| matches!(change, Change::SetNetwork { .. }));
    let (mut done, mut failed) = (0, Vec::new());
    for change in changes {
        let text = format!("{change:?}");
        match director.apply(change, clock.now()) {
            Ok(()) => {
                tracing::debug!(change = text, "applied");
                done += 1;
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    if failed.is_empty() {
        Outcome::Done { config: Box::new(wanted), changes: done, announce }
    } else {
        Outcome::Failed(failed)
    }
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
    if running.limits != wanted.limits {
        refusals.push(refuse("[limits]"));
    }
    if running.workers != wanted.workers {
        refusals.push(refuse("[workers]"));
    }
    if running.control != wanted.control {
        refusals.push(refuse("[control]"));
    }
    if running.metrics != wanted.metrics {
        refusals.push(refuse("`listen` of [metrics]"));
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
        (now.direct != then.direct, "attachment"),
        (now.host != then.host, "host's side"),
    ]
    .into_iter()
    .filter_map(|(changed, what)| changed.then_some(what))
    .collect()
}

fn running_keys(running: &Config) -> impl Iterator<Item = uvs_director::spec::ServiceKey> + '_ {
    running.services.iter().map(|service| service.spec.key)
}

/// The running configuration with the network, the services and settings that the director really has.
fn as_it_runs(running: &Config, director: &Director) -> Config {
    let services = director
        .services()
        .into_iter()
        .map(|view| {
            let known = running.services.iter().find(|service| service.spec.key == view.spec.key);
            Service {
                module: known.and_then(|service| service.module.clone()),
                spec: view.spec,
                destinations: view.destinations.iter().map(|destination| destination.spec).collect(),
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
