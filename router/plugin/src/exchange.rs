//! What a reload does to the modules of services that run: the configuration wins over what was loaded by hand.
//!
//! ```text
//!   catalogue, what runs --exchanges--> [Exchange] --exchange--> bring in, begin or end a trial
//! ```
//! To look and to act are two steps, so that whoever asks what a reload would do is told just what one does.

use std::collections::HashMap;
use std::sync::Arc;

use uvs_director::spec::SchedulerSpec;

use crate::catalogue::{Catalogue, Source, TrialSpec};
use crate::load::{By, LoadReport, Refusal, Step};
use crate::plugin::Plugin;
use crate::running::Running;
use crate::schedulers::{Schedulers, note};
use crate::trial::Mode;

/// Something that a configuration wants otherwise than it runs.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Of which service.
    pub service: String,
    /// Whether it is about what is tried beside the scheduler, not about the scheduler.
    pub trial: bool,
    /// What runs now; `None`: no trial.
    pub from: Option<String>,
    /// What the configuration says; `None`: no trial.
    pub to: Option<String>,
    /// Whether somebody has loaded, rolled back or promoted what runs now; otherwise a file has changed, or the
    /// configuration.
    pub by_hand: bool,
    /// What its `init` is given.
    options: String,
    wanted: Wanted,
}

#[derive(Clone, Debug)]
enum Wanted {
    Module(Source),
    Trial(Option<TrialSpec>),
}

/// What became of one: the module that took over (none for a trial), or why not.
pub type Exchanged = Result<Option<LoadReport>, Refusal>;

impl Schedulers {
    /// What `catalogue` says otherwise than it runs, for these services with the schedulers that they have and keep.
    /// `look`: whether files are read to find out if they have changed.
    pub fn exchanges(
        &self,
        catalogue: &Catalogue,
        services: &[(String, SchedulerSpec)],
        look: bool,
    ) -> Vec<Exchange> {
        let services: HashMap<&str, &SchedulerSpec> =
            services.iter().map(|(service, spec)| (service.as_str(), spec)).collect();
        let mut exchanges = Vec::new();
        for running in self.running() {
            let Some(spec) = services.get(running.service.as_str()) else { continue };
            exchanges.extend(self.module_exchange(catalogue, spec, &running, look));
            exchanges.extend(self.trial_exchange(catalogue, &running, look));
        }
        exchanges
    }

    fn module_exchange(
        &self,
        catalogue: &Catalogue,
        spec: &SchedulerSpec,
        running: &Running,
        look: bool,
    ) -> Option<Exchange> {
        let made = catalogue.resolve(&spec.name).ok()?;
        let (source, by) = running.remember(|record| (record.source.clone(), record.by));
        let runs = running.with(|plugin| plugin.module().digest());
        let same_place = source.is_same_place(&made.source);
        let changed = match &made.source {
            Source::File { path, limits, .. } if same_place && look => {
                self.digest_of(path, *limits, By::Configuration).filter(|new| *new != runs)
            }
            _ => None,
        };
        if same_place && changed.is_none() {
            return None;
        }
        let (from, mut to) = (source.name(), made.source.name());
        if same_place {
            to.push_str(", as it is now");
        }
        Some(Exchange {
            service: running.service.clone(),
            trial: false,
            from: Some(from),
            to: Some(to),
            by_hand: !same_place || by == By::Rollback,
            options: catalogue.options_of(spec, &made),
            wanted: Wanted::Module(made.source),
        })
    }

    fn trial_exchange(&self, catalogue: &Catalogue, running: &Running, look: bool) -> Option<Exchange> {
        let wanted = catalogue.trial_of(&running.service);
        let (had, source) = running.remember(|record| (record.wanted.clone(), record.trial_source.clone()));
        let on_trial = running.with(|plugin| plugin.trial().map(|trial| trial.slot.binding.module.digest()));
        let changed = || match (&source, on_trial) {
            (Some(Source::File { path, limits, .. }), Some(runs)) if look => {
                self.digest_of(path, *limits, By::Watch).is_some_and(|new| new != runs)
            }
            _ => false,
        };
        // One that was promoted is not on trial any more, whatever was wanted.
        let promoted = had.is_some() && on_trial.is_none();
        if had == wanted && !(wanted.is_some() && promoted) && !changed() {
            return None;
        }
        let name = |spec: &TrialSpec| match spec.mode {
            Mode::Shadow => format!("{} as a shadow", spec.scheduler),
            Mode::Canary { percent } => format!("{} as a canary of {percent} %", spec.scheduler),
        };
        Some(Exchange {
            service: running.service.clone(),
            trial: true,
            from: had.as_ref().filter(|_| !promoted).map(name),
            to: wanted.as_ref().map(name),
            by_hand: promoted,
            options: String::new(),
            wanted: Wanted::Trial(wanted),
        })
    }

    /// Does it. The names that were accepted last count.
    ///
    /// # Errors
    /// Why what runs goes on; it is in the service's status, too.
    pub fn exchange(&self, exchange: Exchange) -> Exchanged {
        let Exchange { service, options, wanted, .. } = exchange;
        let running = self.running_of(&service)?;
        let _turn = running.take_turn();
        match wanted {
            Wanted::Module(source) => {
                let digest = match &source {
                    Source::File { path, limits, .. } => self.digest_of(path, *limits, By::Configuration),
                    _ => None,
                };
                let module = self.fetch(&source);
                let outcome = module.and_then(|module| {
                    self.replace(&running, module, source, Some(options.into()), By::Configuration)
                });
                running.remember(|record| record.rejected = digest.filter(|_| outcome.is_err()));
                note(&running, By::Configuration, outcome).map(Some)
            }
            Wanted::Trial(None) => {
                running.remember(|record| (record.wanted, record.trial_source) = (None, None));
                let ended = running.with(Plugin::end_trial);
                drop(ended); // when nobody waits any more
                Ok(None)
            }
            Wanted::Trial(wanted) => self.begin_trial(&running, wanted).map(|()| None),
        }
    }

    fn running_of(&self, service: &str) -> Result<Arc<Running>, Refusal> {
        let found = self.running().into_iter().find(|running| running.service == service);
        found.ok_or_else(|| Refusal::new(Step::Find, format!("{service} has gone meanwhile")))
    }
}
