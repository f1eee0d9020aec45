//! What was done by hand and differs from the configuration in force, for whoever asks often: it is found out anew when
//! something of it has changed, and then only.

use std::sync::{Arc, Mutex, PoisonError};

use uvs_config::Config;
use uvs_control::plan::Change as Described;
use uvs_director::spec::{
    DestinationSpec, InterfaceSpec, MarkRule, Options, SchedulerSpec, ServiceSpec, Timeouts,
};
use uvs_director::view::ServiceView;

use super::{Parts, as_it_runs, counts, hand_made, kept_schedulers};
use crate::checks::Known;
use crate::plan;

/// The latest comparison of what runs with the configuration.
#[derive(Debug, Default)]
pub struct ByHand(Mutex<Option<Compared>>);

#[derive(Debug)]
struct Compared {
    running: Arc<Config>,
    inputs: Inputs,
    kept: Vec<(String, SchedulerSpec)>,
    found: Vec<Described>,
}

/// All that the comparison goes by beside the configuration.
#[derive(Debug, PartialEq)]
struct Inputs {
    services: Vec<(ServiceSpec, Vec<DestinationSpec>)>,
    interfaces: Vec<InterfaceSpec>,
    marks: Vec<MarkRule>,
    timeouts: Timeouts,
    options: Options,
    known: Known,
}

impl ByHand {
    /// What differs: a reload of the same file would undo it. And the services, as they were then.
    pub fn look(&self, running: &Arc<Config>, parts: Parts<'_>) -> (Vec<Described>, Vec<ServiceView>) {
        // Nobody changes a weight meanwhile.
        let weights = parts.weights.hold();
        let (director, services) = (parts.director, parts.director.services());
        let destinations = |it: &ServiceView| it.destinations.iter().map(|it| it.spec).collect();
        let inputs = Inputs {
            services: services.iter().map(|it| (it.spec.clone(), destinations(it))).collect(),
            interfaces: director.interfaces(),
            marks: director.marks(),
            timeouts: director.timeouts(),
            options: director.options(),
            known: weights.known().clone(),
        };
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |it: &&mut Compared| Arc::ptr_eq(&it.running, running) && it.inputs == inputs;
        let (mut found, kept) = match latest.as_mut().filter(is_same) {
            Some(compared) => (compared.found.clone(), compared.kept.clone()),
            None => {
                let before = as_it_runs(running, director, &services);
                let found = hand_made(running, &before, &counts(&services), &weights);
                let kept = kept_schedulers(&before, running);
                let answer = (found.clone(), kept.clone());
                *latest = Some(Compared { running: Arc::clone(running), inputs, kept, found });
                answer
            }
        };
        drop((latest, weights));
        let exchanges = parts.schedulers.exchanges(&parts.schedulers.catalogue(), &kept, false);
        found.extend(exchanges.iter().filter(|exchange| exchange.by_hand).map(plan::of_module));
        (found, services)
    }
}
