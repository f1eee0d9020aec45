//! Drains: destinations that are to lose their connections, by the end of those or at a deadline.
//!
//! ```text
//!   uvs drain ----------.        thread "drains": count what is left > deadline > forget, or reset:
//!   on_down, weight 0 --+> Drains >  end_connections > ask, some at a time, three times > forget > what follows
//!   removal ------------'                                                             `--> events
//! ```
//! The thread goes through the table of connections in slices and sends in a lane of its own: neither the packet path
//! nor the control loop waits for it. Whoever began a drain need not be there any more.

#[cfg(test)]
mod tests;
pub mod thread;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uvs_check::spec::OnDown;
use uvs_control::destination::{self, Terms, Then};
use uvs_control::event::{Event, Kind};
use uvs_director::spec::ServiceKey;
use uvs_director::{Director, Instant};

/// A worker that has placed a connection before the weight was 0 has entered it by then: what is counted before says
/// nothing.
const SETTLE: Duration = Duration::from_millis(500);
/// So often the ends of connections are asked...
const ROUNDS: u32 = 3;
/// ...with so much time in between. Linux answers what it does not expect twice a second at most.
const ROUND: Duration = Duration::from_secs(1);

/// No deadline is further away.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 86_400);

type Key = (ServiceKey, SocketAddr);

/// What is drained.
#[derive(Debug, Default)]
pub struct Drains {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    drains: HashMap<Key, Drain>,
    /// Drains that were taken back.
    cancelled: Vec<(Key, Drain)>,
    stopped: bool,
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    People,
    Health,
    /// Somebody who gave it a weight of 0.
    Weight,
    /// Somebody who took it out of its service: it is still there for its connections.
    Removal,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Health => "health",
            Self::Weight => "weight",
            Self::Removal => "removal",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    by: By,
    began: Instant,
    deadline: Option<Instant>,
    reset: bool,
    then: Option<Then>,
    phase: Phase,
    /// What was left when that was counted last.
    open: usize,
    /// So many connections were left at the deadline, and got resets.
    resets: usize,
    /// Whether it was told that it has begun.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// It was asked so often; what is next is at that moment.
    Ending(u32, Instant),
    Over,
}

/// What is to be done about a drain, as its count says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Wait,
    /// The deadline has come: flows of UDP go, and the rest is ended where that is wanted.
    Begin,
    Ask,
    /// Its time is up: what is left is forgotten.
    Forget,
    /// It is over.
    Finish,
}

impl Drain {
    fn new(by: By, (reset, then): (bool, Option<Then>), deadline: Option<Instant>, now: Instant) -> Self {
        let phase = Phase::Waiting;
        Self { by, began: now, deadline, reset, then, phase, open: 0, resets: 0, told: false }
    }

    /// What is to come of it, in words.
    fn terms(&self) -> String {
        let end = match self.deadline {
            None => "ends with the last connection".to_owned(),
            Some(deadline) => {
                let how = if self.reset { " by a reset" } else { "" };
                format!("ends in {:?} at the latest{how}", deadline.since(self.began))
            }
        };
        match self.then {
            None => end,
            Some(then) => format!("{end}, then {}", then.name()),
        }
    }

    /// An event of it.
    fn event(&self, kind: Kind, (service, destination): Key, left: usize, reason: String) -> Event {
        Event {
            kind,
            service: Some(service.to_string()),
            destination: Some(destination.to_string()),
            left: Some(left as u64),
            reset: (kind == Kind::DrainEnded && self.reset).then_some(self.resets as u64),
            by: Some(self.by.name().to_owned()),
            reason: Some(reason),
            ..Event::default()
        }
    }

    fn step(&self, open: usize, now: Instant) -> Step {
        match self.phase {
            Phase::Over => Step::Wait,
            _ if now.since(self.began) < SETTLE => Step::Wait,
            _ if open == 0 => Step::Finish,
            Phase::Waiting if self.deadline.is_some_and(|deadline| deadline <= now) => Step::Begin,
            Phase::Ending(rounds, next) if next <= now => {
                if rounds < ROUNDS {
                    Step::Ask
                } else {
                    Step::Forget
                }
            }
            Phase::Waiting | Phase::Ending(..) => Step::Wait,
        }
    }

    fn shown(&self, now: Instant) -> destination::Drain {
        destination::Drain {
            by: self.by.name().to_owned(),
            phase: match self.phase {
                Phase::Waiting => "waiting",
                Phase::Ending(..) => "ending",
                Phase::Over => "over",
            }
            .to_owned(),
            age_s: now.since(self.began).as_secs_f64(),
            deadline_s: self.deadline.map(|deadline| deadline.since(now).as_secs_f64()),
            reset: self.reset,
            then: self.then,
            open: self.open as u64,
        }
    }
}

impl Drains {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// People have begun one, or have other wishes now.
    pub(crate) fn begin(&self, service: ServiceKey, destination: SocketAddr, terms: Terms, now: Instant) {
        let deadline = terms.deadline_ms.map(|millis| now + Duration::from_millis(millis).min(DEADLINE_MAX));
        let drain = Drain::new(By::People, (terms.reset, terms.then), deadline, now);
        let mut state = self.state();
        if let Some(before) = state.drains.insert((service, destination), drain)
            && before.phase != Phase::Over
        {
            state.cancelled.push(((service, destination), before));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// There is none any more, whoever wanted it.
    pub(crate) fn cancel(&self, service: ServiceKey, destination: SocketAddr) {
        self.cancel_if((service, destination), |_| true);
    }

    fn cancel_if(&self, key: Key, which: impl FnOnce(&Drain) -> bool) {
        let mut state = self.state();
        if state.drains.get(&key).is_some_and(which)
            && let Some(drain) = state.drains.remove(&key)
            && drain.phase != Phase::Over
        {
            state.cancelled.push((key, drain));
            drop(state);
            self.changed.notify_all();
        }
    }

    /// What checks say of a destination's connections. What people want of it goes before.
    pub(crate) fn on_down(
        &self,
        service: ServiceKey,
        destination: SocketAddr,
        down: Option<OnDown>,
        now: Instant,
    ) {
        let key = (service, destination);
        let (after, reset) = match down {
            None | Some(OnDown::Quiesce) => return self.cancel_if(key, |drain| drain.by == By::Health),
            Some(OnDown::Drain(after)) => (after, false),
            Some(OnDown::Reset(after)) => (after, true),
        };
        let mut state = self.state();
        let drain = Drain::new(By::Health, (reset, None), Some(now + after), now);
        state.drains.entry(key).or_insert(drain);
        drop(state);
        self.changed.notify_all();
    }

    /// What becomes of a destination's connections that is quiesced from now on, or no longer: those of one go on for
    /// `after`. What others want of it goes before.
    pub(crate) fn on_weight(
        &self,
        service: ServiceKey,
        destination: SocketAddr,
        after: Option<Duration>,
        now: Instant,
    ) {
        let key = (service, destination);
        let Some(after) = after else {
            return self.cancel_if(key, |drain| matches!(drain.by, By::Weight | By::Removal));
        };
        let drain = Drain::new(By::Weight, (true, None), Some(now + after), now);
        self.state().drains.entry(key).or_insert(drain);
        self.changed.notify_all();
    }

    /// A destination is to be removed, once its connections have ended, or `after` that long. One that is drained
    /// already has no more time for that.
    pub(crate) fn on_removal(
        &self,
        service: ServiceKey,
        destination: SocketAddr,
        after: Duration,
        now: Instant,
    ) {
        let drain = Drain::new(By::Removal, (true, Some(Then::Remove)), Some(now + after), now);
        let mut state = self.state();
        let known = state.drains.entry((service, destination)).or_insert(drain);
        if known.by != By::Removal {
            let deadline = match known.phase {
                // It has no connections but those that came since.
                Phase::Over => drain.deadline,
                Phase::Waiting | Phase::Ending(..) => known.deadline.min(drain.deadline).or(drain.deadline),
            };
            let phase = if known.phase == Phase::Over { Phase::Waiting } else { known.phase };
            *known = Drain { deadline, phase, ..drain };
        }
        drop(state);
        self.changed.notify_all();
    }

    /// A destination is to be removed no longer.
    pub(crate) fn stays(&self, service: ServiceKey, destination: SocketAddr) {
        self.cancel_if((service, destination), |drain| drain.by == By::Removal);
    }

    /// Whether a destination is there for its connections alone, and is removed when they have ended.
    pub(crate) fn is_leaving(&self, service: &ServiceKey, destination: SocketAddr) -> bool {
        self.state().drains.get(&(*service, destination)).is_some_and(|drain| drain.by == By::Removal)
    }

    /// The one of a destination.
    pub(crate) fn shown(
        &self,
        service: &ServiceKey,
        destination: SocketAddr,
        now: Instant,
    ) -> Option<destination::Drain> {
        self.state().drains.get(&(*service, destination)).map(|drain| drain.shown(now))
    }

    /// Waits until there is something to look at. False: it is the end.
    fn wait(&self) -> bool {
        let mut state = self.state();
        loop {
            let is_live = state.drains.values().any(|drain| drain.phase != Phase::Over);
            if state.stopped {
                return false;
            }
            if is_live || !state.cancelled.is_empty() {
                // Whoever has news need not wait for the next look.
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sleeps between two looks. False: it is the end.
    fn sleep(&self, time: Duration) -> bool {
        let state = self.state();
        let slept = self.changed.wait_timeout_while(state, time, |state| !state.stopped);
        !slept.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    fn all(&self) -> Vec<(Key, Phase)> {
        self.state().drains.iter().map(|(key, drain)| (*key, drain.phase)).collect()
    }

    /// What is to be done about a drain, and what it was before. One that is over by that is [`closed`](Self::close)
    /// when it is done.
    fn advance(&self, key: &Key, open: usize, now: Instant) -> Option<(Drain, Step)> {
        let mut state = self.state();
        let drain = state.drains.get_mut(key)?;
        drain.open = open;
        let step = drain.step(open, now);
        let before = *drain;
        drain.told = true;
        match step {
            Step::Begin if drain.reset => drain.phase = Phase::Ending(0, now),
            Step::Wait | Step::Begin | Step::Forget | Step::Finish => {}
            Step::Ask => {
                if let Phase::Ending(rounds, _) = drain.phase {
                    drain.phase = Phase::Ending(rounds + 1, now + ROUND);
                }
            }
        }
        Some((before, step))
    }

    /// Whether that one is over, and nobody has taken it back.
    fn is_over(&self, key: &Key, drain: &Drain) -> bool {
        let state = self.state();
        let is_it = |now: &Drain| (now.began, now.by, now.phase) == (drain.began, drain.by, Phase::Over);
        state.drains.get(key).is_some_and(is_it)
    }

    /// So many of its connections get resets from now on.
    fn resets(&self, key: &Key, count: usize) {
        if let Some(drain) = self.state().drains.get_mut(key) {
            drain.resets = count;
        }
    }

    /// It is over, and so many connections are left. False: somebody has taken it back, or wants something else.
    fn close(&self, key: &Key, drain: &Drain, open: usize) -> bool {
        let mut state = self.state();
        match state.drains.get_mut(key) {
            Some(now) if (now.began, now.by) == (drain.began, drain.by) => {
                (now.phase, now.open) = (Phase::Over, open);
                true
            }
            _ => false,
        }
    }
}

/// What a destination is to get back when it serves again.
pub(crate) fn undo(director: &Director, drains: &Drains, service: ServiceKey, destination: SocketAddr) {
    drains.cancel(service, destination);
    director.end_connections(&service, destination, false);
}
