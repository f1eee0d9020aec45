//! A module at work for one service: its instance, its record, what it was asked lately.

use std::sync::Arc;

use tracing::{debug, error, info, warn};
use uvs_director::scheduler::{Candidate, Event, Flow, Load};
use uvs_director::{Instant, splitmix64};

use crate::base::hex;
use crate::binding::Binding;
use crate::bindings;
use crate::dump::{self, Dump, DumpedDestination, DumpedFuel, DumpedModule, DumpedPick};
use crate::error::StartError;
use crate::health::{Consequence, Health};
use crate::history::History;
use crate::instance::{Crash, Instance};
use crate::stats::{Cause, Failure, SchedulerStats, Serving};
use crate::translate::{MAX_DESTINATIONS, event_word, judge, wire_destination, wire_flow, word};

/// A module with its instance.
pub(crate) struct Slot {
    pub(crate) binding: Binding,
    seed: u64,
    /// Where the random numbers of the present instance began.
    started_with: u64,
    /// What the present instance took over from another.
    restored: Option<Arc<[u8]>>,
    state: State,
    health: Health,
    pub(crate) stats: Arc<SchedulerStats>,
    pub(crate) history: History,
    missed: Missed,
    // Buffers, kept so that a pick allocates nothing.
    words: Vec<u64>,
    told: Vec<u64>,
    destinations: Vec<bindings::Destination>,
}

enum State {
    /// `fresh`: it takes all loads as zero, for no `schedule` has told it since the last `update`.
    Live {
        instance: Box<Instance>,
        fresh: bool,
    },
    /// To be made anew at the next call.
    Dead,
    /// Not to be made before this moment.
    Ejected(Instant),
    GivenUp,
}

/// Loads that changed while somebody else was asked.
#[derive(Debug, Default)]
struct Missed {
    listed: Vec<bool>,
    positions: Vec<u32>,
}

impl Missed {
    fn clear(&mut self) {
        for position in self.positions.drain(..) {
            self.listed[position as usize] = false;
        }
    }

    fn add(&mut self, position: u32) {
        let index = position as usize;
        if self.listed.len() <= index {
            self.listed.resize(index + 1, false);
        }
        if !core::mem::replace(&mut self.listed[index], true) {
            self.positions.push(position);
        }
    }
}

impl Slot {
    /// Makes an instance and passes it its options.
    pub(crate) fn start(binding: Binding, seed: u64, stats: Arc<SchedulerStats>) -> Result<Self, StartError> {
        let instance = Box::new(Instance::start(&binding.module, &binding.service, &binding.options, seed)?);
        Ok(Self {
            binding,
            seed,
            started_with: seed,
            restored: None,
            state: State::Live { instance, fresh: true },
            health: Health::default(),
            stats,
            history: History::new(),
            missed: Missed::default(),
            words: Vec::new(),
            told: Vec::new(),
            destinations: Vec::new(),
        })
    }

    /// Whether an instance lives.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// The instance, if one lives.
    pub(crate) fn instance(&self) -> Option<&Instance> {
        match &self.state {
            State::Live { instance, .. } => Some(instance),
            _ => None,
        }
    }

    /// The module's state; `None` while no instance lives or when the call fails, which counts.
    pub(crate) fn save(&mut self, candidates: &[Candidate], now: Instant) -> Option<Vec<u8>> {
        let State::Live { instance, .. } = &mut self.state else { return None };
        match instance.save(candidates.len()) {
            Ok(state) => Some(state),
            Err(crash) => {
                self.crashed("save", crash, None, candidates, now);
                None
            }
        }
    }

    /// Hands over what `save` of another instance returned; false: the module could not use it, or failed.
    pub(crate) fn restore(&mut self, state: &[u8], candidates: &[Candidate], now: Instant) -> bool {
        let State::Live { instance, .. } = &mut self.state else { return false };
        match instance.restore(state, candidates.len()) {
            Ok(used) => {
                if used {
                    self.restored = Some(state.into());
                }
                used
            }
            Err(crash) => {
                self.restored = Some(state.into());
                self.crashed("restore", crash, None, candidates, now);
                false
            }
        }
    }

    /// Takes note of loads that changed while somebody else is asked.
    pub(crate) fn miss(&mut self, changed: &[(u32, Load)], candidates: &[Candidate]) {
        if let State::Live { fresh: false, .. } = self.state {
            let known = changed.iter().filter(|(position, _)| (*position as usize) < candidates.len());
            known.for_each(|&(position, _)| self.missed.add(position));
        }
    }

    /// The module's answer, checked; `None`: it failed or is not to be asked, and that is dealt with.
    ///
    /// `candidates` is the current set with current loads.
    #[inline]
    pub(crate) fn ask(
        &mut self,
        flow: &Flow,
        changed: &[(u32, Load)],
        candidates: &[Candidate],
        now: Instant,
    ) -> Option<Option<u32>> {
        if !self.is_live() {
            self.revive(candidates, now);
        }
        if !self.missed.positions.is_empty() {
            // After a change of the set none is left of what was before it.
            self.miss(changed, candidates);
        }
        let State::Live { instance, fresh } = &mut self.state else { return None };
        self.words.clear();
        if *fresh {
            let loaded = (0u32..).zip(candidates).filter(|(_, c)| c.load != Load::default());
            self.words.extend(loaded.map(|(position, c)| word(position, c.load)));
        } else if self.missed.positions.is_empty() {
            let known = changed.iter().filter(|(position, _)| (*position as usize) < candidates.len());
            self.words.extend(known.map(|&(position, load)| word(position, load)));
        } else {
            let missed = self.missed.positions.iter().filter_map(|&p| Some((p, candidates.get(p as usize)?)));
            self.words.extend(missed.map(|(position, c)| word(position, c.load)));
            self.missed.clear();
        }
        self.history.ask(flow, now, instance.random_state(), &self.words);
        let answer = instance.schedule(wire_flow(flow), &self.words, candidates.len(), now);
        let suppressed = instance.take_log_suppressed();
        if suppressed > 0 {
            self.stats.suppress_log(suppressed);
        }
        if let Some(line) = instance.take_said() {
            self.stats.say(line);
        }
        *fresh = false;
        match answer {
            Ok(None) => {
                self.stats.refuse();
                Some(None)
            }
            Ok(Some(position)) => {
                self.history.answer(Some(position));
                match judge(position, candidates, self.binding.takes_overloaded) {
                    Ok(()) => Some(Some(position)),
                    Err((cause, message)) => {
                        self.failed(("schedule", Crash::of(cause, message)), Some(flow), candidates, now);
                        None
                    }
                }
            }
            Err(crash) => {
                self.crashed("schedule", crash, Some(flow), candidates, now);
                None
            }
        }
    }

    /// Whether its instance wants to hear of events; while none lives there is nobody to hear.
    #[inline]
    pub(crate) fn observes(&self) -> bool {
        matches!(&self.state, State::Live { instance, .. } if instance.observes())
    }

    /// Tells its instance, if that wants to hear, what was seen of connections.
    pub(crate) fn observe(&mut self, events: &[Event], candidates: &[Candidate], now: Instant) {
        if !self.observes() {
            return;
        }
        let words = events.iter().filter_map(event_word);
        self.told.clear();
        self.told.extend(words);
        self.tell(candidates, now);
    }

    /// The same, with event words of another instance's past.
    pub(crate) fn repeat(&mut self, events: &[u64], candidates: &[Candidate], now: Instant) {
        if !events.is_empty() && self.observes() {
            self.told.clear();
            self.told.extend_from_slice(events);
            self.tell(candidates, now);
        }
    }

    fn tell(&mut self, candidates: &[Candidate], now: Instant) {
        let State::Live { instance, .. } = &mut self.state else { return };
        self.history.observe(&self.told);
        let answer = instance.observe(&self.told, candidates.len(), now);
        self.stats.observe(self.told.len() as u64);
        self.stats.suppress_log(instance.take_log_suppressed());
        if let Some(line) = instance.take_said() {
            self.stats.say(line);
        }
        if let Err(crash) = answer {
            self.crashed("observe", crash, None, candidates, now);
        }
    }

    /// The set changed.
    pub(crate) fn update(&mut self, candidates: &[Candidate], now: Instant) {
        if candidates.len() > MAX_DESTINATIONS {
            if !matches!(self.state, State::GivenUp | State::Ejected(_)) {
                self.state = State::Dead;
            }
            let message = format!("{} destinations, and the limit is {MAX_DESTINATIONS}", candidates.len());
            self.failed(("update", Crash::of(Cause::TooMany, message)), None, candidates, now);
            return;
        }
        if self.is_live() { self.push(candidates, now) } else { self.revive(candidates, now) }
    }

    /// Makes a new instance, if there is none and one may be made.
    fn revive(&mut self, candidates: &[Candidate], now: Instant) {
        if candidates.len() > MAX_DESTINATIONS {
            return; // counted when the set came
        }
        match self.state {
            State::Dead => {}
            State::Ejected(until) if until <= now => {
                let (service, module) = (&*self.binding.service, self.binding.module.name());
                info!(service, module, "trying the scheduler again");
            }
            State::Live { .. } | State::Ejected(_) | State::GivenUp => return,
        }
        self.state = State::Dead;
        // Another instance gets other random numbers, but the same in each run with this seed.
        splitmix64(&mut self.seed);
        self.started_with = self.seed;
        self.restored = None;
        self.history.clear();
        match Instance::start(&self.binding.module, &self.binding.service, &self.binding.options, self.seed) {
            Ok(instance) => {
                self.state = State::Live { instance: Box::new(instance), fresh: true };
                self.stats.rebuild();
                self.stats.serve(Serving::Module);
                self.push(candidates, now);
            }
            Err(StartError::Refused { message, .. }) => {
                self.failed(("init", Crash::of(Cause::Init, message)), None, candidates, now);
            }
            Err(StartError::Failed { call, cause, message }) => {
                self.failed((call, Crash::of(cause, message)), None, candidates, now);
            }
        }
    }

    /// Passes the whole set to the instance, if one lives.
    fn push(&mut self, candidates: &[Candidate], now: Instant) {
        let State::Live { instance, fresh } = &mut self.state else { return };
        self.destinations.clear();
        self.destinations.extend(candidates.iter().map(wire_destination));
        self.missed.clear();
        self.history.update();
        *fresh = true;
        let answer = instance.update(&self.destinations, now);
        self.stats.suppress_log(instance.take_log_suppressed());
        if let Some(line) = instance.take_said() {
            self.stats.say(line);
        }
        if let Err(crash) = answer {
            self.crashed("update", crash, None, candidates, now);
        }
    }

    fn crashed(
        &mut self,
        call: &'static str,
        crash: Crash,
        flow: Option<&Flow>,
        candidates: &[Candidate],
        now: Instant,
    ) {
        self.state = State::Dead;
        self.failed((call, crash), flow, candidates, now);
    }

    /// Counts, logs and dumps a failure and draws the consequence. There are few of them at a time, for a module
    /// that fails often is ejected, so the log needs no other limit.
    #[cold]
    fn failed(
        &mut self,
        (call, crash): (&'static str, Crash),
        flow: Option<&Flow>,
        candidates: &[Candidate],
        now: Instant,
    ) {
        let (service, module) = (&*self.binding.service, self.binding.module.name());
        let (cause, role) = (crash.cause, self.binding.role.label());
        warn!(
            service,
            module,
            role,
            call,
            cause = cause.label(),
            "scheduler failed, {cause}: {}",
            crash.message
        );
        if let Some(flow) = flow {
            debug!(service, module, ?flow, changed = ?self.words, "the pick that failed");
        }
        if let Some(dumps) = &self.binding.dumps
            && dumps.has_room()
        {
            let past = Past {
                seed: self.started_with,
                restored: self.restored.as_deref(),
                history: &self.history,
                words: flow.map(|_| &*self.words),
            };
            dumps.send(dump_of(&self.binding, (call, &crash), candidates, &past));
        }
        self.stats.fail(Failure {
            cause,
            call,
            message: crash.message,
            at: now,
            flow: flow.copied(),
            changed: if flow.is_some() { self.words.clone() } else { Vec::new() },
            destinations: candidates.len(),
        });
        match self.health.fail(self.binding.module.host().policy(), now) {
            Consequence::Retry => {}
            Consequence::Eject(backoff) => {
                self.state = State::Ejected(now + backoff);
                self.stats.serve(Serving::Ejected);
                error!(
                    service,
                    module, role, "the scheduler keeps failing: the fallback serves for the next {backoff:?}"
                );
            }
            Consequence::GiveUp => {
                self.state = State::GivenUp;
                self.stats.serve(Serving::GivenUp);
                error!(
                    service,
                    module,
                    role,
                    "the scheduler failed after every back-off and is given up: the fallback serves until \
                     another module is loaded or the service is configured anew"
                );
            }
        }
    }
}

/// What went before a failing call.
struct Past<'a> {
    seed: u64,
    restored: Option<&'a [u8]>,
    history: &'a History,
    /// The words of the failing pick, which is the last of `history`; `None`: no pick failed.
    words: Option<&'a [u64]>,
}

/// The dump of a call that failed.
fn dump_of(
    binding: &Binding,
    (call, crash): (&str, &Crash),
    candidates: &[Candidate],
    past: &Past<'_>,
) -> Dump {
    let mut history: Vec<_> = past.history.latest(usize::MAX).into_iter().map(DumpedPick::new).collect();
    let pick = past.words.and_then(|words| {
        let mut pick = history.pop()?;
        pick.changed = words.to_vec();
        Some(pick)
    });
    Dump {
        version: dump::VERSION,
        at: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        service: binding.service.to_string(),
        role: binding.role,
        module: DumpedModule { origin: binding.module.name().to_owned(), sha256: binding.module.sha256() },
        options: binding.options.to_string(),
        seed: past.seed,
        restored: past.restored.map(hex),
        takes_overloaded: binding.takes_overloaded,
        destinations: candidates.iter().map(DumpedDestination::from).collect(),
        history,
        whole: past.history.is_whole(),
        call: call.to_owned(),
        pick,
        events: past.history.events(),
        cause: crash.cause.label().to_owned(),
        message: crash.message.clone(),
        backtrace: crash.frames.clone(),
        fuel: crash.fuel.map(|(budget, used)| DumpedFuel { budget, used }),
    }
}
