//! A module as the scheduler of one service, with the native scheduler that stands in for it.

use core::net::IpAddr;
use std::sync::Arc;
use std::time::Instant as Clock;

use tracing::{debug, error, info, warn};
use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Flow, Load, Scheduler};
use uvs_director::spec::Protocol;
use uvs_sdk::{Address, LoadWord};

use crate::bindings;
use crate::error::StartError;
use crate::health::{Health, Sentence};
use crate::host::Module;
use crate::instance::{Crash, Instance};
use crate::stats::{Cause, Failure, SchedulerStats, Serving};

/// A load word has 16 bits for a position; a service with more destinations runs on its fallback.
pub const MAX_DESTINATIONS: usize = 1 << 16;

/// The scheduler of one service: a module's instance and its native fallback.
pub struct Plugin {
    module: Module,
    service: String,
    options: String,
    seed: u64,
    state: State,
    health: Health,
    /// A pick over the upper threshold counts.
    takes_overloaded: bool,
    fallback: Box<dyn Scheduler>,
    /// Whether the fallback knows all loads in `candidates`.
    fallback_current: bool,
    /// The current set with current loads.
    candidates: Vec<Candidate>,
    /// The latest moment the engine told.
    now: Instant,
    stats: Arc<SchedulerStats>,
    // Buffers, kept so that a pick allocates nothing.
    words: Vec<u64>,
    loads: Vec<(u32, Load)>,
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
        let instance = Box::new(Instance::start(module, service, options, seed)?);
        Ok(Self {
            module: module.clone(),
            service: service.to_owned(),
            options: options.to_owned(),
            seed,
            state: State::Live { instance, fresh: true },
            health: Health::default(),
            takes_overloaded: false,
            fallback,
            fallback_current: true,
            candidates: Vec::new(),
            now: Instant::ZERO,
            stats: Arc::default(),
            words: Vec::new(),
            loads: Vec::new(),
            destinations: Vec::new(),
        })
    }

    /// Takes picks of destinations over their upper threshold, as the kernel does of every scheduler.
    pub fn take_overloaded(&mut self) {
        self.takes_overloaded = true;
    }

    /// What it did; stays readable after the plugin is gone.
    pub fn stats(&self) -> &Arc<SchedulerStats> {
        &self.stats
    }

    /// The module it runs.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The module's state, for [`Plugin::restore`] of a later one; `None` while no instance lives or when the
    /// call fails (which counts as a failure).
    pub fn save(&mut self) -> Option<Vec<u8>> {
        let count = self.candidates.len();
        let State::Live { instance, .. } = &mut self.state else { return None };
        match instance.save(count) {
            Ok(state) => Some(state),
            Err(crash) => {
                self.crashed("save", crash, None);
                None
            }
        }
    }

    /// Passes on what [`Plugin::save`] of an earlier instance returned, after an `update`; false: the module
    /// could not use it.
    pub fn restore(&mut self, state: &[u8]) -> bool {
        let count = self.candidates.len();
        let State::Live { instance, .. } = &mut self.state else { return false };
        match instance.restore(state, count) {
            Ok(used) => used,
            Err(crash) => {
                self.crashed("restore", crash, None);
                false
            }
        }
    }

    /// Fuel that the instance's last call took, about one a wasm instruction; `None` while none lives.
    pub fn fuel_used(&self) -> Option<u64> {
        match &self.state {
            State::Live { instance, .. } => Some(instance.fuel_used()),
            _ => None,
        }
    }

    /// Bytes of linear memory that the instance holds, all its memories together; `None` while none lives.
    pub fn memory_bytes(&self) -> Option<usize> {
        match &self.state {
            State::Live { instance, .. } => Some(instance.memory_bytes()),
            _ => None,
        }
    }

    /// Where the module's random numbers stand: a plugin that starts with this as its seed draws those that this
    /// one would draw next. `None` while no instance lives.
    pub fn random_state(&self) -> Option<u64> {
        match &self.state {
            State::Live { instance, .. } => Some(instance.random_state()),
            _ => None,
        }
    }

    /// The module's answer, checked; `None`: it failed, and that is dealt with.
    fn ask(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<Option<u32>> {
        if !matches!(self.state, State::Live { .. }) {
            self.revive();
        }
        let State::Live { instance, fresh } = &mut self.state else { return None };
        self.words.clear();
        if *fresh {
            let loaded = (0u32..).zip(&self.candidates).filter(|(_, c)| c.load != Load::default());
            self.words.extend(loaded.map(|(position, c)| word(position, c.load)));
        } else {
            let known = changed.iter().filter(|(position, _)| (*position as usize) < self.candidates.len());
            self.words.extend(known.map(|&(position, load)| word(position, load)));
        }
        let answer = instance.schedule(wire_flow(flow), &self.words, self.candidates.len(), now);
        let suppressed = instance.take_log_suppressed();
        if suppressed > 0 {
            self.stats.suppress_log(suppressed);
        }
        *fresh = false;
        match answer {
            Ok(None) => {
                self.stats.refuse();
                Some(None)
            }
            Ok(Some(position)) => match judge(position, &self.candidates, self.takes_overloaded) {
                Ok(()) => Some(Some(position)),
                Err((cause, message)) => {
                    self.failed(cause, "schedule", message, Some(flow));
                    None
                }
            },
            Err(crash) => {
                self.crashed("schedule", crash, Some(flow));
                None
            }
        }
    }

    fn fall_back(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<u32> {
        self.stats.fall_back();
        if core::mem::replace(&mut self.fallback_current, true) {
            return self.fallback.schedule(flow, changed, now);
        }
        // The module has picked since the fallback last heard, so tell it every load.
        self.loads.clear();
        self.loads.extend((0u32..).zip(&self.candidates).map(|(position, c)| (position, c.load)));
        self.fallback.schedule(flow, &self.loads, now)
    }

    /// Makes a new instance, if there is none and one may be made.
    fn revive(&mut self) {
        if self.candidates.len() > MAX_DESTINATIONS {
            return; // counted when the set came
        }
        match self.state {
            State::Dead => {}
            State::Ejected(until) if until <= self.now => {
                info!(service = self.service, module = self.module.name(), "trying the scheduler again");
            }
            State::Live { .. } | State::Ejected(_) | State::GivenUp => return,
        }
        self.state = State::Dead;
        // Another instance gets other random numbers, but the same in each run with this seed.
        crate::instance::splitmix64(&mut self.seed);
        match Instance::start(&self.module, &self.service, &self.options, self.seed) {
            Ok(instance) => {
                self.state = State::Live { instance: Box::new(instance), fresh: true };
                self.stats.rebuild();
                self.stats.serve(Serving::Module);
                self.push();
            }
            Err(StartError::Refused { message, .. }) => self.failed(Cause::Init, "init", message, None),
            Err(StartError::Failed { call, cause, message }) => self.failed(cause, call, message, None),
        }
    }

    /// Passes the whole set to the instance, if one lives.
    fn push(&mut self) {
        let State::Live { instance, fresh } = &mut self.state else { return };
        self.destinations.clear();
        self.destinations.extend(self.candidates.iter().map(wire_destination));
        *fresh = true;
        let answer = instance.update(&self.destinations, self.now);
        let suppressed = instance.take_log_suppressed();
        self.stats.suppress_log(suppressed);
        if let Err(crash) = answer {
            self.crashed("update", crash, None);
        }
    }

    fn crashed(&mut self, call: &'static str, crash: Crash, flow: Option<&Flow>) {
        self.state = State::Dead;
        self.failed(crash.cause, call, crash.message, flow);
    }

    /// Counts and logs a failure and draws the consequence. There are few of them at a time, for a module that
    /// fails often is ejected, so the log needs no other limit.
    #[cold]
    fn failed(&mut self, cause: Cause, call: &'static str, message: String, flow: Option<&Flow>) {
        let (service, module) = (self.service.as_str(), self.module.name());
        warn!(service, module, call, cause = cause.label(), "scheduler failed, {cause}: {message}");
        if let Some(flow) = flow {
            debug!(service, module, ?flow, changed = ?self.words, "the pick that failed");
        }
        self.stats.fail(Failure {
            cause,
            call,
            message,
            at: self.now,
            flow: flow.copied(),
            changed: if flow.is_some() { self.words.clone() } else { Vec::new() },
            destinations: self.candidates.len(),
        });
        match self.health.fail(self.module.host().policy(), self.now) {
            Sentence::Retry => {}
            Sentence::Eject(backoff) => {
                self.state = State::Ejected(self.now + backoff);
                self.stats.serve(Serving::Ejected);
                error!(
                    service,
                    module, "the scheduler keeps failing: the fallback serves for the next {backoff:?}"
                );
            }
            Sentence::GiveUp => {
                self.state = State::GivenUp;
                self.stats.serve(Serving::GivenUp);
                error!(
                    service,
                    module,
                    "the scheduler failed after every back-off and is given up: the fallback serves until \
                     the service is configured anew"
                );
            }
        }
    }
}

impl Scheduler for Plugin {
    fn update(&mut self, candidates: &[Candidate]) {
        self.candidates.clear();
        self.candidates.extend_from_slice(candidates);
        self.fallback.update(candidates);
        self.fallback_current = true;
        if candidates.len() > MAX_DESTINATIONS {
            if !matches!(self.state, State::GivenUp | State::Ejected(_)) {
                self.state = State::Dead;
            }
            let message = format!("{} destinations, and the limit is {MAX_DESTINATIONS}", candidates.len());
            self.failed(Cause::TooMany, "update", message, None);
            return;
        }
        if matches!(self.state, State::Live { .. }) { self.push() } else { self.revive() }
    }

    fn schedule(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<u32> {
        let start = self.stats.pick().then(Clock::now);
        self.now = self.now.max(now);
        for &(position, load) in changed {
            if let Some(candidate) = self.candidates.get_mut(position as usize) {
                candidate.load = load;
            }
        }
        let pick = match self.ask(flow, changed, self.now) {
            Some(pick) => {
                self.fallback_current &= changed.is_empty();
                pick
            }
            None => self.fall_back(flow, changed, self.now),
        };
        if let Some(start) = start {
            self.stats.took(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        pick
    }
}

/// Whether a new connection may go where the module wants it.
fn judge(position: u32, candidates: &[Candidate], takes_overloaded: bool) -> Result<(), (Cause, String)> {
    let Some(candidate) = candidates.get(position as usize) else {
        let message = format!("it picked position {position} of {} destinations", candidates.len());
        return Err((Cause::OutOfRange, message));
    };
    let complain = |what| {
        format!("it picked position {position}, {}:{}, which {what}", candidate.address, candidate.port)
    };
    if candidate.weight == 0 {
        Err((Cause::Quiesced, complain("is quiesced")))
    } else if candidate.load.unavailable && !takes_overloaded {
        Err((Cause::Unavailable, complain("is over its upper threshold")))
    } else {
        Ok(())
    }
}

pub(crate) fn word(position: u32, load: Load) -> u64 {
    let position = u16::try_from(position).expect("a larger set never gets to the module");
    LoadWord::new(position, load.active, load.inactive, !load.unavailable).0
}

fn halves(address: IpAddr) -> (u64, u64) {
    let Address { hi, lo } = address.into();
    (hi, lo)
}

fn wire_flow(flow: &Flow) -> bindings::Flow {
    let (client_hi, client_lo) = halves(flow.client);
    let (virtual_hi, virtual_lo) = halves(flow.virtual_addr);
    bindings::Flow {
        protocol: match flow.protocol {
            Protocol::Tcp => bindings::Protocol::Tcp,
            Protocol::Udp => bindings::Protocol::Udp,
            Protocol::Sctp => bindings::Protocol::Sctp,
        },
        client_hi,
        client_lo,
        client_port: flow.client_port,
        virtual_hi,
        virtual_lo,
        virtual_port: flow.virtual_port,
        mark: flow.mark,
    }
}

fn wire_destination(candidate: &Candidate) -> bindings::Destination {
    let (address_hi, address_lo) = halves(candidate.address);
    bindings::Destination {
        id: candidate.id,
        weight: candidate.weight,
        address_hi,
        address_lo,
        port: candidate.port,
    }
}
