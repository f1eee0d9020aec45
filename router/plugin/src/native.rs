//! The shipped schedulers in native code: fallbacks, oracles of tests, the other side of benches.

use uvs_director::scheduler::{Candidate, Event, Flow, Load, Scheduler};
use uvs_director::spec::Protocol;
use uvs_director::{Instant, splitmix64};
use uvs_sdk::{Destination, Host, Level, Runner, SlowStart};

use crate::translate::{MAX_DESTINATIONS, event_word, word};

/// Makes a native scheduler, or says why it refuses its options.
type Make = fn(service: &str, options: &str, seed: u64) -> Result<Box<dyn Scheduler>, String>;

const TWINS: [(&str, Make); 19] = [
    ("chbl", boxed::<uvs_scheduler_chbl::Chbl>),
    ("dh", boxed::<uvs_scheduler_dh::Dh>),
    ("fo", boxed::<uvs_scheduler_fo::Fo>),
    ("lblc", boxed::<uvs_scheduler_lblc::Lblc>),
    ("lblcr", boxed::<uvs_scheduler_lblcr::Lblcr>),
    ("lc", boxed::<uvs_scheduler_lc::Lc>),
    ("lrt", boxed::<SlowStart<uvs_scheduler_lrt::Lrt>>),
    ("maglev", boxed::<uvs_scheduler_maglev::Maglev>),
    ("mh", boxed::<uvs_scheduler_mh::Mh>),
    ("nq", boxed::<uvs_scheduler_nq::Nq>),
    ("ovf", boxed::<uvs_scheduler_ovf::Ovf>),
    ("p2c", boxed::<SlowStart<uvs_scheduler_p2c::P2c>>),
    ("rr", boxed::<uvs_scheduler_rr::Rr>),
    ("sed", boxed::<uvs_scheduler_sed::Sed>),
    ("sh", boxed::<uvs_scheduler_sh::Sh>),
    ("swrr", boxed::<SlowStart<uvs_scheduler_swrr::Swrr>>),
    ("twos", boxed::<uvs_scheduler_twos::Twos>),
    ("wlc", boxed::<SlowStart<uvs_scheduler_wlc::Wlc>>),
    ("wrr", boxed::<uvs_scheduler_wrr::Wrr>),
];

/// The names [`native`] knows: those of the shipped schedulers.
pub const NATIVE: [&str; TWINS.len()] = {
    let mut names = [""; TWINS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = TWINS[i].0;
        i += 1;
    }
    names
};

/// The native scheduler of that name, for the service that `service` names. `seed` starts its random numbers,
/// which are those a component with this seed gets.
///
/// # Errors
/// A sentence: an unknown name, or options it refuses.
pub fn native(name: &str, service: &str, options: &str, seed: u64) -> Result<Box<dyn Scheduler>, String> {
    match TWINS.iter().find(|(twin, _)| *twin == name) {
        Some((_, make)) => make(service, options, seed)
            .map_err(|message| format!("scheduler {name} refuses its options {options:?}: {message}")),
        None => {
            Err(format!("there is no native scheduler {name:?}; there are {}, and refuse", NATIVE.join(", ")))
        }
    }
}

/// Stands in for a module by picking nobody: connections are refused rather than placed otherwise.
pub(crate) struct Refuse;

impl Scheduler for Refuse {
    fn update(&mut self, _: &[Candidate]) {}

    fn schedule(&mut self, _: &Flow, _: &[(u32, Load)], _: Instant) -> Option<u32> {
        None
    }
}

fn boxed<S: uvs_sdk::Scheduler + Send + 'static>(
    service: &str,
    options: &str,
    seed: u64,
) -> Result<Box<dyn Scheduler>, String> {
    let runner = Runner::<S>::new(service, options)?;
    let grant = Grant { random: seed, now: Instant::ZERO, service: service.to_owned() };
    Ok(Box::new(Native { runner, grant, initial: Vec::new(), words: Vec::new() }))
}

/// Adapts what the SDK runs to what the engine calls.
struct Native<S> {
    runner: Runner<S>,
    grant: Grant,
    /// Loads that came with the last `update` and have not been passed on: the SDK begins at zero.
    initial: Vec<u64>,
    words: Vec<u64>,
}

impl<S: uvs_sdk::Scheduler + Send> Scheduler for Native<S> {
    fn update(&mut self, candidates: &[Candidate]) {
        // As for a component: what has no position in a load word is out of reach.
        let candidates = &candidates[..candidates.len().min(MAX_DESTINATIONS)];
        let destinations: Vec<_> =
            candidates.iter().map(|c| Destination::new(c.id, c.weight, c.address, c.port)).collect();
        self.runner.update(&destinations);
        self.initial.clear();
        let loaded = (0u32..).zip(candidates).filter(|(_, c)| c.load != Load::default());
        self.initial.extend(loaded.map(|(position, c)| word(position, c.load)));
    }

    fn schedule(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<u32> {
        let count = self.runner.table().len();
        self.words.clear();
        // In this order the later word of a destination holds.
        self.words.append(&mut self.initial);
        let known = changed.iter().filter(|(position, _)| (*position as usize) < count);
        self.words.extend(known.map(|&(position, load)| word(position, load)));
        self.grant.now = self.grant.now.max(now);
        self.runner.schedule(&sdk_flow(flow), &self.words, &mut self.grant)
    }

    fn wants_feedback(&self) -> bool {
        S::OBSERVES
    }

    fn observe(&mut self, events: &[Event], now: Instant) {
        if S::OBSERVES {
            self.words.clear();
            self.words.extend(events.iter().filter_map(event_word));
            self.grant.now = self.grant.now.max(now);
            self.runner.observe(&self.words, &mut self.grant);
        }
    }
}

struct Grant {
    random: u64,
    now: Instant,
    service: String,
}

impl Host for Grant {
    fn random(&mut self) -> u64 {
        splitmix64(&mut self.random)
    }

    fn now_ms(&mut self) -> u64 {
        self.now.as_millis()
    }

    fn log(&mut self, level: Level, message: &str) {
        let service = self.service.as_str();
        match level {
            Level::Error => tracing::error!(service, "scheduler: {message}"),
            Level::Warn => tracing::warn!(service, "scheduler: {message}"),
            Level::Info => tracing::info!(service, "scheduler: {message}"),
            Level::Debug => tracing::debug!(service, "scheduler: {message}"),
        }
    }
}

fn sdk_flow(flow: &Flow) -> uvs_sdk::Flow {
    uvs_sdk::Flow {
        protocol: match flow.protocol {
            Protocol::Tcp => uvs_sdk::Protocol::Tcp,
            Protocol::Udp => uvs_sdk::Protocol::Udp,
            Protocol::Sctp => uvs_sdk::Protocol::Sctp,
        },
        client: flow.client.into(),
        client_port: flow.client_port,
        virtual_addr: flow.virtual_addr.into(),
        virtual_port: flow.virtual_port,
        mark: flow.mark,
    }
}
