//! Bringing a running director to what the configuration file says now.
//!
//! ```text
//!   file --> check --> refusals? --> diff(what runs, what is wanted) --> Director::apply
//!                          `-- then nothing is touched
//! ```
//! What runs is asked of the director, not remembered: whatever was done to it meanwhile (`uvs adm`), or could not be
//! done, a reload brings it to what the file says. A change that fails takes those before it back.

use std::collections::HashMap;
use std::path::Path;

use uvs_config::{Config, Interface, Location, Problems, Service};
use uvs_director::Director;
use uvs_director::spec::Change;
use uvs_plugin::{By, Catalogue, Schedulers};

use crate::check::{self, Judged};
use crate::checks::Weights;
use crate::clock::Clock;
use crate::control::adm::same_addresses;
use crate::memory;

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
    /// A change failed, and so did taking others back, for these reasons; some are in force.
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
    weights: &Weights,
) -> Outcome {
    match check::load(file, schedulers) {
        Ok(mut wanted) => {
            memory::keep(running, &mut wanted.config);
            let refusals = needs_restart(running, &wanted.config);
            if refusals.is_empty() {
                apply(running, wanted, director, schedulers, clock, weights)
            } else {
                Outcome::Refused(refusals)
            }
        }
        Err(Problems(problems)) => {
            schedulers.note_broken_files(By::Configuration);
            Outcome::Refused(problems.iter().map(ToString::to_string).collect())
        }
    }
}

fn apply(
    running: &Config,
    Judged { config: wanted, catalogue }: Judged,
    director: &Director,
    schedulers: &Schedulers,
    clock: Clock,
    weights: &Weights,
) -> Outcome {
    // Nobody changes a weight meanwhile.
    let mut weights = weights.hold();
    let before = as_it_runs(running, director);
    let settled = weights.settle(&wanted, Some(&before));
    let changes = Config::diff(Some(&before), &settled);
    let announce =
        changes.iter().any(|change| matches!(change, Change::SetNetwork { .. } | Change::SetAddresses(_)));
    let done = changes.len();
    // Schedulers are made by these names from here on.
    let names_before = schedulers.catalogue();
    schedulers.accept(catalogue);
    for change in changes {
        let text = format!("{change:?}");
        if let Err(error) = director.apply(change, clock.now()) {
            // The old names first: what is taken back is made by them.
            schedulers.accept(Catalogue::clone(&names_before));
            return take_back(&before, &settled, error.to_string(), director, clock);
        }
        tracing::debug!(change = text, "applied");
    }
    weights.settled(&settled, Some(&before));
    drop(weights);
    // The names stay while what is in their files, or is tried beside them, may be another. What is refused here is in
    // the service's status and in the log: the module before serves on.
    let loaded = schedulers.refresh(By::Configuration, true).into_iter().filter(|(_, it)| it.is_ok()).count();
    schedulers.follow();
    let done = done + loaded;
    Outcome::Done { config: Box::new(wanted), changes: done, announce }
}

/// Brings the director back to what it was before a change failed.
fn take_back(before: &Config, wanted: &Config, reason: String, director: &Director, clock: Clock) -> Outcome {
    let failures: Vec<String> = Config::diff(Some(&as_it_runs(wanted, director)), before)
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

fn running_keys(running: &Config) -> impl Iterator<Item = uvs_director::spec::ServiceKey> + '_ {
    running.services.iter().map(|service| service.spec.key)
}

/// The running configuration with the network, the services and settings that the director really has.
fn as_it_runs(running: &Config, director: &Director) -> Config {
    let by_key: HashMap<_, _> = running.services.iter().map(|service| (service.spec.key, service)).collect();
    let services = director
        .services()
        .into_iter()
        .map(|view| {
            let known = by_key.get(&view.spec.key);
            Service {
                module: known.and_then(|service| service.module.clone()),
                trial: known.and_then(|service| service.trial.clone()),
                spec: view.spec,
                destinations: view.destinations.iter().map(|destination| destination.spec).collect(),
                health: known.and_then(|service| service.health.clone()),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uvs_config::Modules;
    use uvs_director::scheduler::{Scheduler, SchedulerFactory};
    use uvs_director::spec::{Limits, SchedulerSpec};

    use super::*;

    /// Real schedulers, but for one whose file has gone since it was checked.
    struct Vanishing(Schedulers);

    impl SchedulerFactory for Vanishing {
        fn create(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<dyn Scheduler>, String> {
            if spec.name == "sh" { Err("it is gone".into()) } else { self.0.create(spec, service) }
        }
    }

    const NETWORK: &str = "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n";

    fn config(text: &str) -> Config {
        Config::parse(&format!("{NETWORK}{text}"), "test.toml").unwrap()
    }

    fn service(port: u16, scheduler: &str, server: u8) -> String {
        format!(
            "[[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:{port}'\nscheduler = '{scheduler}'\nforward = 'dr'\n\
             destination = [{{ address = '192.0.2.{server}:{port}' }}]\n"
        )
    }

    fn state(director: &Director) -> String {
        let services: Vec<_> = director
            .services()
            .into_iter()
            .map(|view| (view.spec, view.destinations.iter().map(|one| one.spec).collect::<Vec<_>>()))
            .collect();
        format!("{services:?} {:?} {:?} {:?}", director.interfaces(), director.timeouts(), director.options())
    }

    #[test]
    fn a_change_that_fails_takes_the_others_back() {
        let running = config(&(service(80, "rr", 21) + &service(81, "rr", 22)));
        let schedulers = || check::schedulers(&Modules::default()).unwrap();
        let director = Director::new(Limits::default(), 1, Arc::new(Vanishing(schedulers())));
        let clock = Clock::start();
        for change in Config::diff(None, &running) {
            director.apply(change, clock.now()).unwrap();
        }
        let before = state(&director);
        let settings = "[options]\nsloppy_tcp = true\n[timeouts]\ntcp = 5\n";
        let wanted = config(
            &(settings.to_owned()
                + &service(80, "wlc", 23)
                + &service(82, "rr", 22)
                + &service(83, "sh", 22)),
        );
        let wanted = check::judge(wanted, &schedulers()).unwrap();
        match apply(&running, wanted, &director, &schedulers(), clock, &Weights::default()) {
            Outcome::Refused(reasons) => {
                assert_eq!(reasons, ["scheduler \"sh\": it is gone"]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(state(&director), before);
    }

    #[test]
    fn what_was_done_by_hand_is_undone() {
        let running = config(&service(80, "rr", 21));
        let director =
            Director::new(Limits::default(), 1, Arc::new(check::schedulers(&Modules::default()).unwrap()));
        let clock = Clock::start();
        for change in Config::diff(None, &running) {
            director.apply(change, clock.now()).unwrap();
        }
        let before = state(&director);
        for line in [
            "-D -t 192.0.2.10:80",
            "-A -u 192.0.2.11:53 -s sh -p",
            "--sysctl sloppy_tcp=1 drop_packet=3",
            "--set 1 2 3",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let output = uvs_adm::run(&words, "", &director, clock.now());
            assert_eq!(output.code, 0, "{line}: {output:?}");
        }
        let interfaces =
            running.interfaces_for(director.services().into_iter().map(|service| service.spec.key));
        assert_ne!(interfaces, director.interfaces(), "another VIP");
        director.apply(Change::SetNetwork { interfaces, routes: Vec::new() }, clock.now()).unwrap();
        let schedulers = check::schedulers(&Modules::default()).unwrap();
        let wanted = check::judge(running.clone(), &schedulers).unwrap();
        match apply(&running, wanted, &director, &schedulers, clock, &Weights::default()) {
            Outcome::Done { .. } => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(state(&director), before);
    }

    #[test]
    fn a_file_that_is_refused_changes_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edge.toml");
        let named = |module: &str, mtu: u32| {
            let (_, bytes) = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == module).unwrap();
            std::fs::write(folder.path().join(format!("{module}.wasm")), bytes).unwrap();
            let mine = format!("[[scheduler]]\nname = 'mine'\nmodule = '{module}.wasm'\n");
            format!("{NETWORK}mtu = {mtu}\n{mine}{}", service(80, "mine", 21))
        };
        std::fs::write(&file, named("rr", 1500)).unwrap();
        let schedulers = Arc::new(check::schedulers(&Modules::default()).unwrap());
        let Judged { config: running, catalogue } = check::load(&file, &schedulers).unwrap();
        schedulers.accept(catalogue);
        let director = Director::new(Limits::default(), 1, schedulers.clone());
        let clock = Clock::start();
        for change in Config::diff(None, &running) {
            director.apply(change, clock.now()).unwrap();
        }
        let (names, before) = (schedulers.catalogue(), state(&director));
        let broken = named("sh", 1500) + &service(81, "/nowhere.wasm", 22);
        for (text, why) in [(named("sh", 9000), "it needs a restart"), (broken, "a module is missing")] {
            std::fs::write(&file, text).unwrap();
            match reload(&file, &running, &director, &schedulers, clock, &Weights::default()) {
                Outcome::Refused(_) => {}
                other => panic!("{why}: {other:?}"),
            }
            assert!(
                Arc::ptr_eq(&names, &schedulers.catalogue()),
                "{why}: the names were not even replaced for a while"
            );
            assert_eq!(state(&director), before, "{why}");
        }
    }
}
