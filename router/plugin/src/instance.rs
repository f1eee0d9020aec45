//! One instance of a module: its Store and its calls.

use uvs_director::Instant;
use wasmtime::{Store, Trap, WasmBacktrace};

use crate::error::{StartError, one_line};
use crate::guest::{Guest, LogBudget, printable};
use crate::module::Module;
use crate::policy::Policy;
use crate::stats::Cause;
use crate::{bindings, optional};

/// A call that did not come back with an answer. The Store is dead.
#[derive(Debug)]
pub(crate) struct Crash {
    pub(crate) cause: Cause,
    pub(crate) message: String,
    /// Whether the host refused to link it, before any code of the module ran.
    pub(crate) link: bool,
    /// The functions it was in, the innermost first.
    pub(crate) frames: Vec<String>,
    /// Fuel it was given, and took.
    pub(crate) fuel: Option<(u64, u64)>,
}

impl Crash {
    /// A failure that is none of the instance's: a bad answer, a start that failed.
    pub(crate) fn of(cause: Cause, message: String) -> Self {
        Self { cause, message, link: false, frames: Vec::new(), fuel: None }
    }
}

/// A live instance.
pub(crate) struct Instance {
    store: Store<Guest>,
    world: bindings::Scheduler,
    /// The optional part, if the module has it.
    observer: Option<optional::Observer>,
    /// Fuel that the last call was given.
    budget: u64,
}

impl Instance {
    /// Instantiates without calling `init`.
    pub(crate) fn new(module: &Module, service: &str, seed: u64) -> Result<Self, Crash> {
        let policy = *module.host().policy();
        let guest = Guest {
            module: module.name().to_owned(),
            service: service.into(),
            policy,
            now: Instant::ZERO,
            random: seed,
            memory_bytes: 0,
            table_elements: 0,
            denied: false,
            log: LogBudget::default(),
        };
        let mut store = Store::new(module.host().engine(), guest);
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(policy.handover_bytes);
        let (pre, indices, observer) = module.parts();
        let made = store.set_fuel(policy.setup_fuel(0)).and_then(|()| {
            let instance = pre.instantiate(&mut store)?;
            let world = indices.load(&mut store, &instance)?;
            let observer = observer.map(|indices| indices.load(&mut store, &instance)).transpose()?;
            Ok((world, observer))
        });
        match made {
            Ok((world, observer)) => Ok(Self { store, world, observer, budget: policy.setup_fuel(0) }),
            Err(error) => {
                let crash = crash(&error, store.data());
                Err(if crash.cause == Cause::Abi {
                    Crash { cause: Cause::Instantiate, link: true, ..crash }
                } else {
                    crash
                })
            }
        }
    }

    /// Instantiates and calls `init`.
    pub(crate) fn start(
        module: &Module,
        service: &str,
        options: &str,
        seed: u64,
    ) -> Result<Self, StartError> {
        let failed = |call| {
            move |crash: Crash| StartError::Failed { call, cause: crash.cause, message: crash.message }
        };
        let mut instance = Self::new(module, service, seed).map_err(failed("instantiate"))?;
        instance.init(service, options).map_err(failed("init"))?.map_err(|message| StartError::Refused {
            options: options.to_owned(),
            message: printable(&message),
        })?;
        Ok(instance)
    }

    fn init(&mut self, service: &str, options: &str) -> Result<Result<(), String>, Crash> {
        self.prepare(self.policy().setup_fuel(0));
        let answer = self.world.call_init(&mut self.store, service, options);
        self.finish(answer)
    }

    pub(crate) fn update(
        &mut self,
        destinations: &[bindings::Destination],
        now: Instant,
    ) -> Result<(), Crash> {
        self.prepare(self.policy().setup_fuel(destinations.len()));
        self.store.data_mut().now = now;
        let answer = self.world.call_update(&mut self.store, destinations);
        self.finish(answer)
    }

    /// One pick; `destinations` is how many there are.
    #[inline]
    pub(crate) fn schedule(
        &mut self,
        flow: bindings::Flow,
        changed: &[u64],
        destinations: usize,
        now: Instant,
    ) -> Result<Option<u32>, Crash> {
        self.prepare(self.policy().schedule_fuel(destinations));
        self.store.data_mut().now = now;
        let answer = self.world.call_schedule(&mut self.store, flow, changed);
        self.finish(answer)
    }

    /// Whether the module wants to hear of events.
    #[inline]
    pub(crate) fn observes(&self) -> bool {
        self.observer.is_some()
    }

    /// Tells what was seen of connections; nothing to a module that does not want to hear. `destinations` is how many
    /// there are: an event gets as much fuel as one of them, for a connection waits.
    pub(crate) fn observe(&mut self, events: &[u64], destinations: usize, now: Instant) -> Result<(), Crash> {
        let Some(observer) = &self.observer else { return Ok(()) };
        let fuel = self.store.data().policy.schedule_fuel(destinations + events.len());
        self.store.data_mut().denied = false;
        self.budget = fuel;
        self.store.set_fuel(fuel).expect("the engine counts fuel");
        self.store.data_mut().now = now;
        let answer = observer.uvs_scheduler_feedback().call_observe(&mut self.store, events);
        self.finish(answer)
    }

    /// Connections wait while a module writes down its state: it gets what a pick gets, some times over.
    pub(crate) fn save(&mut self, destinations: usize) -> Result<Vec<u8>, Crash> {
        self.prepare(self.policy().save_fuel(destinations));
        let answer = self.world.call_save(&mut self.store);
        self.finish(answer)
    }

    pub(crate) fn restore(&mut self, state: &[u8], destinations: usize) -> Result<bool, Crash> {
        self.prepare(self.policy().setup_fuel(destinations));
        let answer = self.world.call_restore(&mut self.store, state);
        self.finish(answer)
    }

    /// What the last call cost.
    pub(crate) fn fuel_used(&self) -> u64 {
        self.budget - self.store.get_fuel().expect("the engine counts fuel")
    }

    /// What its linear memories hold.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes
    }

    /// Where its random numbers stand.
    pub(crate) fn random_state(&self) -> u64 {
        self.store.data().random
    }

    /// Puts its random numbers where they were when a pick was recorded.
    pub(crate) fn rewind(&mut self, random: u64) {
        self.store.data_mut().random = random;
    }

    /// Log lines left out since the last time this was asked.
    #[inline]
    pub(crate) fn take_log_suppressed(&mut self) -> u64 {
        core::mem::take(&mut self.store.data_mut().log.suppressed_total)
    }

    /// The latest line of its log, if there is one since the last time this was asked.
    #[inline]
    pub(crate) fn take_said(&mut self) -> Option<String> {
        self.store.data_mut().log.said.take()
    }

    fn policy(&self) -> &Policy {
        &self.store.data().policy
    }

    #[inline]
    fn prepare(&mut self, fuel: u64) {
        self.store.data_mut().denied = false;
        self.budget = fuel;
        self.store.set_fuel(fuel).expect("the engine counts fuel");
    }

    #[inline]
    fn finish<T>(&self, answer: wasmtime::Result<T>) -> Result<T, Crash> {
        answer.map_err(|error| Crash {
            fuel: Some((self.budget, self.fuel_used())),
            ..crash(&error, self.store.data())
        })
    }
}

#[cold]
fn crash(error: &wasmtime::Error, guest: &Guest) -> Crash {
    let trap = error.downcast_ref::<Trap>();
    let cause = match trap {
        Some(Trap::OutOfFuel) => Cause::Fuel,
        Some(Trap::StackOverflow) => Cause::Stack,
        // A guest that is refused memory mostly panics about it: tell the reason, not the panic.
        _ if guest.denied => Cause::Memory,
        Some(_) => Cause::Trap,
        None => Cause::Abi,
    };
    let mut message = trap.map_or_else(|| one_line(error), ToString::to_string);
    if let Some(trace) = error.downcast_ref::<WasmBacktrace>() {
        let names: Vec<_> = trace.frames().iter().filter_map(|frame| frame.func_name()).take(4).collect();
        if !names.is_empty() && trap.is_some() {
            message.push_str(" in ");
            message.push_str(&names.join(", called by "));
        }
    }
    if guest.denied {
        message.push_str(&format!(
            "; it holds {} bytes of memory, and the limit is {}",
            guest.memory_bytes, guest.policy.memory_bytes
        ));
    }
    Crash { frames: frames(error), ..Crash::of(cause, printable(&message)) }
}

/// Enough to see what an endless recursion goes round in.
const FRAMES_MAX: usize = 32;

fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let frame = |frame: &wasmtime::FrameInfo| {
        let name = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), printable);
        match frame.module_offset() {
            Some(offset) => format!("{name} at {offset:#x}"),
            None => name,
        }
    };
    trace.frames().iter().take(FRAMES_MAX).map(frame).collect()
}
