//! The scheduler of one service: a module, the native scheduler that stands in for it, and a module on trial.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant as Clock;

use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Event, Flow, Load, Picked, Scheduler};

use crate::binding::Binding;
use crate::dump::{DumpSink, Role};
use crate::error::StartError;
use crate::history::Pick;
use crate::instance::Instance;
use crate::module::Module;
use crate::slot::Slot;
use crate::stats::SchedulerStats;
use crate::trial::{Mode, Trial};

/// Picks that a replacement is tried with.
const DRY_RUN_PICKS: usize = 64;

/// The scheduler of one service: a module's instance and its native fallback.
pub struct Plugin {
    slot: Slot,
    trial: Option<Box<Trial>>,
    fallback: Box<dyn Scheduler>,
    /// Whether the fallback knows all loads in `candidates`.
    fallback_current: bool,
    /// Who made the last pick.
    picked: Picked,
    /// The current set with current loads.
    candidates: Vec<Candidate>,
    /// What destinations weighed before they were quiesced, by id.
    weights: HashMap<u32, u32>,
    /// How often the set came.
    generation: u64,
    /// The latest moment the engine told.
    now: Instant,
    stats: Arc<SchedulerStats>,
    loads: Vec<(u32, Load)>,
}

/// What a replacement has to know of the module that serves.
pub(crate) struct Handover {
    pub(crate) binding: Binding,
    pub(crate) candidates: Vec<Candidate>,
    /// The same before some were quiesced: a new instance hears of it first.
    pub(crate) before: Option<Vec<Candidate>>,
    pub(crate) generation: u64,
    pub(crate) now: Instant,
    /// `None`: it is not alive, or failed to say.
    pub(crate) state: Option<Vec<u8>>,
    /// The latest picks with this set.
    pub(crate) picks: Vec<Pick>,
}

impl Plugin {
    /// Makes an instance for the service that `service` names and passes it `options`. `seed` starts what the
    /// module's `random` returns.
    ///
    /// # Errors
    /// The module refuses the options or fails at once. (Once started, a module that fails is replaced.)
    pub fn new(
        module: &Module,
        service: &str,
        options: &str,
        fallback: Box<dyn Scheduler>,
        seed: u64,
    ) -> Result<Self, StartError> {
        Self::with_dumps(module, service, options, fallback, seed, None)
    }

    pub(crate) fn with_dumps(
        module: &Module,
        service: &str,
        options: &str,
        fallback: Box<dyn Scheduler>,
        seed: u64,
        dumps: Option<DumpSink>,
    ) -> Result<Self, StartError> {
        let stats = Arc::<SchedulerStats>::default();
        let binding = Binding {
            module: module.clone(),
            service: service.into(),
            options: options.into(),
            role: Role::Primary,
            takes_overloaded: false,
            dumps,
        };
        Ok(Self {
            slot: Slot::start(binding, seed, Arc::clone(&stats))?,
            trial: None,
            fallback,
            fallback_current: true,
            picked: Picked::Own,
            candidates: Vec::new(),
            weights: HashMap::new(),
            generation: 0,
            now: Instant::ZERO,
            stats,
            loads: Vec::new(),
        })
    }

    /// Takes picks of destinations over their upper threshold, as the kernel does of every scheduler.
    pub fn take_overloaded(&mut self) {
        self.slot.binding.takes_overloaded = true;
    }

    /// What it did; stays readable after the plugin is gone.
    pub fn stats(&self) -> &Arc<SchedulerStats> {
        &self.stats
    }

    /// The module it runs.
    pub fn module(&self) -> &Module {
        &self.slot.binding.module
    }

    /// The module's state, for [`Plugin::restore`] of a later one; `None` while no instance lives or when the
    /// call fails (which counts as a failure).
    pub fn save(&mut self) -> Option<Vec<u8>> {
        self.slot.save(&self.candidates, self.now)
    }

    /// Passes on what [`Plugin::save`] of an earlier instance returned, after an `update`; false: the module
    /// could not use it.
    pub fn restore(&mut self, state: &[u8]) -> bool {
        self.slot.restore(state, &self.candidates, self.now)
    }

    /// Fuel that the instance's last call took, about one a wasm instruction; `None` while none lives.
    pub fn fuel_used(&self) -> Option<u64> {
        self.slot.instance().map(Instance::fuel_used)
    }

    /// Bytes of linear memory that the instance holds, all its memories together; `None` while none lives.
    pub fn memory_bytes(&self) -> Option<usize> {
        self.slot.instance().map(Instance::memory_bytes)
    }

    /// Where the module's random numbers stand: a plugin that starts with this as its seed draws those that this
    /// one would draw next. `None` while no instance lives.
    pub fn random_state(&self) -> Option<u64> {
        self.slot.instance().map(Instance::random_state)
    }

    /// What a replacement is prepared with, while this one goes on.
    pub(crate) fn handover(&mut self, with_state: bool) -> Handover {
        Handover {
            binding: self.slot.binding.clone(),
            state: if with_state { self.save() } else { None },
            candidates: self.candidates.clone(),
            before: self.before_quiescing(),
            generation: self.generation,
            now: self.now,
            picks: self.slot.history.latest(DRY_RUN_PICKS),
        }
    }

    /// Puts a prepared module in place of the one that serves and returns that one; or hands `slot` back, when
    /// the set of destinations is another by now. Loads that changed meanwhile are told with the next pick, for to a
    /// module that has not picked yet all of them are told.
    pub(crate) fn take_over(&mut self, mut slot: Slot, generation: u64) -> Result<Slot, Box<Slot>> {
        if self.generation != generation {
            return Err(Box::new(slot));
        }
        slot.stats = Arc::clone(&self.stats);
        self.stats.start_over();
        Ok(core::mem::replace(&mut self.slot, slot))
    }

    /// Begins a trial (and ends the one before, which is returned); or hands it back as [`Plugin::take_over`] does.
    pub(crate) fn try_out(
        &mut self,
        trial: Box<Trial>,
        generation: u64,
    ) -> Result<Option<Box<Trial>>, Box<Trial>> {
        if self.generation != generation {
            return Err(trial);
        }
        Ok(self.trial.replace(trial))
    }

    /// Ends the trial.
    pub(crate) fn end_trial(&mut self) -> Option<Box<Trial>> {
        self.trial.take()
    }

    /// The module on trial takes the place of the one that serves, which is returned.
    pub(crate) fn promote(&mut self) -> Option<Slot> {
        let mut slot = self.trial.take()?.slot;
        slot.binding.role = Role::Primary;
        slot.stats = Arc::clone(&self.stats);
        self.stats.start_over();
        Some(core::mem::replace(&mut self.slot, slot))
    }

    pub(crate) fn trial(&self) -> Option<&Trial> {
        self.trial.as_deref()
    }

    pub(crate) fn binding(&self) -> &Binding {
        &self.slot.binding
    }

    fn before_quiescing(&self) -> Option<Vec<Candidate>> {
        let weight = |c: &Candidate| {
            if c.weight > 0 { c.weight } else { self.weights.get(&c.id).copied().unwrap_or(0) }
        };
        let changed = self.candidates.iter().any(|c| weight(c) != c.weight);
        changed.then(|| self.candidates.iter().map(|c| Candidate { weight: weight(c), ..*c }).collect())
    }

    fn fall_back(&mut self, flow: &Flow, changed: &[(u32, Load)]) -> Option<u32> {
        self.stats.fall_back();
        if core::mem::replace(&mut self.fallback_current, true) {
            return self.fallback.schedule(flow, changed, self.now);
        }
        // The module has picked since the fallback last heard, so tell it every load.
        self.loads.clear();
        self.loads.extend((0u32..).zip(&self.candidates).map(|(position, c)| (position, c.load)));
        self.fallback.schedule(flow, &self.loads, self.now)
    }

    /// The canary's pick, if this connection is one of its share and it has an answer.
    fn ask_canary(&mut self, flow: &Flow, changed: &[(u32, Load)]) -> Option<u32> {
        let trial = self.trial.as_mut()?;
        let Mode::Canary { .. } = trial.mode else { return None };
        let pick = trial
            .is_its_share(flow)
            .then(|| trial.place(flow, changed, &self.candidates, self.now))
            .flatten();
        if pick.is_none() {
            trial.slot.miss(changed, &self.candidates);
        }
        pick
    }
}

impl Scheduler for Plugin {
    fn update(&mut self, candidates: &[Candidate]) {
        self.candidates.clear();
        self.candidates.extend_from_slice(candidates);
        self.generation += 1;
        let weight =
            |c: &Candidate| if c.weight > 0 { Some(c.weight) } else { self.weights.get(&c.id).copied() };
        self.weights = candidates.iter().filter_map(|c| Some((c.id, weight(c)?))).collect();
        self.fallback.update(candidates);
        self.fallback_current = true;
        self.slot.update(&self.candidates, self.now);
        if let Some(trial) = &mut self.trial {
            trial.slot.update(&self.candidates, self.now);
        }
    }

    fn picked(&self) -> Picked {
        self.picked
    }

    fn wants_feedback(&self) -> bool {
        self.slot.observes()
            || self.fallback.wants_feedback()
            || self.trial.as_ref().is_some_and(|trial| trial.slot.observes())
    }

    /// Everybody hears, whoever is asked for the connections: what a module learns is what a reload, a promotion or a
    /// fallback goes on with.
    fn observe(&mut self, events: &[Event], now: Instant) {
        self.now = self.now.max(now);
        self.slot.observe(events, &self.candidates, self.now);
        if let Some(trial) = &mut self.trial {
            trial.slot.observe(events, &self.candidates, self.now);
        }
        self.fallback.observe(events, self.now);
    }

    fn schedule(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<u32> {
        let start = self.stats.pick().then(Clock::now);
        self.now = self.now.max(now);
        for &(position, load) in changed {
            if let Some(candidate) = self.candidates.get_mut(position as usize) {
                candidate.load = load;
            }
        }
        let placed = if self.trial.is_some() { self.ask_canary(flow, changed) } else { None };
        self.picked = Picked::Own;
        let pick = if placed.is_some() {
            self.picked = Picked::Canary;
            self.slot.miss(changed, &self.candidates);
            self.fallback_current &= changed.is_empty();
            placed
        } else if let Some(pick) = self.slot.ask(flow, changed, &self.candidates, self.now) {
            self.fallback_current &= changed.is_empty();
            pick
        } else {
            // A module that is not alive has nothing to catch up with; one that gave a bad answer has heard.
            self.picked = Picked::Fallback;
            self.fall_back(flow, changed)
        };
        if let Some(start) = start {
            self.stats.took(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        if let Some(trial) = &mut self.trial
            && trial.mode == Mode::Shadow
        {
            trial.compare(pick, flow, changed, &self.candidates, self.now);
        }
        pick
    }
}
