//! Schedulers that note what they were told, and that fail when the world wants them to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Flow, Load, Scheduler, SchedulerFactory};
use uvs_director::spec::SchedulerSpec;

use crate::event::{Policy, Trap};

/// A packet that has a scheduler asked more often than that will not stop.
const PICKS_MAX: u32 = 16;
/// What the scheduler says then, by a panic that the world catches.
pub(crate) const ENDLESS: &str = "one packet has the scheduler asked without end";

/// What a scheduler knew of its destinations when it was asked: in list order.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The service, as the factory was told.
    pub(crate) service: String,
    /// Destinations and their loads.
    pub(crate) loads: Vec<(SocketAddr, Load)>,
}

#[derive(Default)]
struct State {
    trap: Option<Trap>,
    told: Vec<Told>,
    picks: u64,
}

/// Makes schedulers.
#[derive(Clone, Default)]
pub(crate) struct Schedulers(Arc<Mutex<State>>);

impl Schedulers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on schedulers fail that way.
    pub(crate) fn trap(&self, trap: Trap) {
        self.state().trap = Some(trap).filter(|trap| *trap != Trap::None);
    }

    /// Whether none can be made.
    pub(crate) fn cannot_be_made(&self) -> bool {
        self.state().trap == Some(Trap::Create)
    }

    /// What those that were asked since the last call knew.
    pub(crate) fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut self.state().told)
    }

    /// Picks so far.
    pub(crate) fn picks(&self) -> u64 {
        self.state().picks
    }
}

impl SchedulerFactory for Schedulers {
    fn create(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<dyn Scheduler>, String> {
        if self.cannot_be_made() {
            return Err("the world wants none to be made".into());
        }
        Ok(Box::new(Picker {
            policy: spec.name.parse()?,
            candidates: Vec::new(),
            turn: 0,
            service: service.into(),
            world: self.clone(),
        }))
    }
}

struct Picker {
    policy: Policy,
    candidates: Vec<Candidate>,
    turn: usize,
    service: String,
    world: Schedulers,
}

impl Picker {
    fn choose(&mut self, flow: &Flow) -> Option<usize> {
        let serves = |candidate: &Candidate| candidate.weight > 0 && !candidate.load.unavailable;
        let count = self.candidates.len();
        let from = |first: usize| (0..count).map(move |n| (first + n) % count);
        match self.policy {
            Policy::Wlc => {
                let cost = |candidate: &Candidate| {
                    let load = u64::from(candidate.load.active) * 256 + u64::from(candidate.load.inactive);
                    load * 1000 / u64::from(candidate.weight)
                };
                let serving = (0..count).filter(|n| serves(&self.candidates[*n]));
                serving.min_by_key(|n| cost(&self.candidates[*n]))
            }
            Policy::Rr => {
                let picked = from(self.turn).find(|n| serves(&self.candidates[*n]))?;
                self.turn = picked + 1;
                Some(picked)
            }
            Policy::Sh => {
                let last = match flow.client {
                    std::net::IpAddr::V4(addr) => addr.octets()[3],
                    std::net::IpAddr::V6(addr) => addr.octets()[15],
                };
                let home = usize::from(last) * 7 + usize::from(flow.client_port);
                from(home).find(|n| serves(&self.candidates[*n]))
            }
        }
    }
}

impl Scheduler for Picker {
    fn update(&mut self, candidates: &[Candidate]) {
        self.candidates = candidates.to_vec();
    }

    fn schedule(&mut self, flow: &Flow, changed: &[(u32, Load)], _: Instant) -> Option<u32> {
        for &(position, load) in changed {
            self.candidates[position as usize].load = load;
        }
        let loads =
            self.candidates.iter().map(|it| (SocketAddr::new(it.address, it.port), it.load)).collect();
        let (trap, asked) = {
            let mut state = self.world.state();
            state.picks += 1;
            state.told.push(Told { service: self.service.clone(), loads });
            (state.trap, state.told.len())
        };
        assert!(asked <= PICKS_MAX as usize, "{ENDLESS}");
        let picked = match trap {
            Some(Trap::Nothing) => None,
            Some(Trap::Range) => Some(self.candidates.len() + 3),
            Some(Trap::First) => Some(0),
            None | Some(Trap::None | Trap::Create) if self.candidates.is_empty() => None,
            None | Some(Trap::None | Trap::Create) => self.choose(flow),
        };
        picked.and_then(|position| u32::try_from(position).ok())
    }
}
