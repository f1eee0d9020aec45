//! Drains: destinations that are to lose their connections, by the end of those or at a deadline.
//!
//! ```text
//!   uvs drain --begin-->          thread "drains": count what is left > deadline > forget, or reset:
//!   on_down  --begin--> Drains -->    end_connections > ask, some at a time, three times > forget > what follows
//!   undrain  --cancel->                                                     `--> events: started, ended
//! ```
//! The thread goes through the table of connections in slices and sends in a lane of its own: neither the packet path
//! nor the control loop waits for it. Whoever began a drain need not be there any more.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use tracing::{info, warn};
use uvs_check::spec::OnDown;
use uvs_check::weight::Admin;
use uvs_control::destination::{self, Terms, Then};
use uvs_control::event::{Event, Kind};
use uvs_director::spec::ServiceKey;
use uvs_director::{DestinationId, Director, Forgotten, Instant, Place};

use crate::event_loop::{Asking, DataPlane};
use crate::pages::Live;

/// Between two counts of what is left.
const LOOK: Duration = Duration::from_millis(250);
/// A worker that has placed a connection before the weight was 0 has entered it by then: what is counted before says
/// nothing.
const SETTLE: Duration = Duration::from_millis(500);
/// So often the ends of connections are asked...
const ROUNDS: u32 = 3;
/// ...with so much time in between. Linux answers what it does not expect twice a second at most.
const ROUND: Duration = Duration::from_secs(1);
/// After each slice of the table in which somebody was asked.
const PACE: Duration = Duration::from_millis(1);

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
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::Health => "health",
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

/// The thread.
pub struct DrainsThread {
    drains: Arc<Drains>,
    thread: JoinHandle<()>,
}

impl DrainsThread {
    /// Ends it. Destinations stay as they are.
    pub fn stop(self) {
        self.drains.state().stopped = true;
        self.drains.changed.notify_all();
        if self.thread.join().is_err() {
            warn!("the thread of drains died");
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// The host has no thread for it.
pub fn start(live: &Arc<Live>, plane: &Arc<DataPlane>) -> anyhow::Result<DrainsThread> {
    let drains = Arc::clone(&live.drains);
    // It does not keep the devices open.
    let work = Work { live: Arc::clone(live), plane: Arc::downgrade(plane) };
    let thread = thread::Builder::new().name("drains".to_owned()).spawn(move || work.run());
    Ok(DrainsThread { drains, thread: thread.context("thread drains cannot be started")? })
}

struct Work {
    live: Arc<Live>,
    plane: Weak<DataPlane>,
}

impl Work {
    fn run(&self) {
        let drains = &self.live.drains;
        let mut asking = Asking::default();
        while drains.wait() {
            let cancelled = std::mem::take(&mut drains.state().cancelled);
            for (key, drain) in cancelled {
                self.taken_back(&key, &drain);
            }
            self.look(&mut asking);
            if !drains.sleep(LOOK) {
                return;
            }
        }
    }

    /// One look at all that is drained.
    fn look(&self, asking: &mut Asking) {
        let Live { director, drains, clock, .. } = &*self.live;
        let mut known: Vec<(Key, DestinationId)> = Vec::new();
        for (key, phase) in drains.all() {
            match director.destination_id(&key.0, key.1) {
                Some(_) if phase == Phase::Over => {}
                Some(id) => known.push((key, id)),
                // It was removed.
                None => drains.cancel(key.0, key.1),
            }
        }
        if known.is_empty() {
            return;
        }
        let ids: Vec<DestinationId> = known.iter().map(|(_, id)| *id).collect();
        let mut ask = Vec::new();
        for ((key, id), left) in known.iter().zip(director.left(&ids)) {
            let now = clock.now();
            let Some((drain, step)) = drains.advance(key, left.open, now) else { continue };
            if !drain.told {
                self.started(key, &drain, left.open);
            }
            match step {
                Step::Wait => {}
                Step::Begin if drain.reset => {
                    let gone = director.forget(&[*id], Forgotten::Datagrams);
                    drains.resets(key, left.open.saturating_sub(gone));
                    director.end_connections(&key.0, key.1, true);
                }
                Step::Begin => {
                    // What a server that is down still has ends here; what people drain goes on where it can.
                    let which = if drain.by == By::Health { Forgotten::All } else { Forgotten::Datagrams };
                    let gone = director.forget(&[*id], which);
                    self.finish(key, &drain, left.open.saturating_sub(gone));
                }
                Step::Ask => ask.push(*id),
                Step::Forget => {
                    director.forget(&[*id], Forgotten::All);
                    self.finish(key, &drain, 0);
                }
                Step::Finish => self.finish(key, &drain, 0),
            }
        }
        if !ask.is_empty() {
            self.ask(&ask, asking);
        }
    }

    /// Asks the ends of connections, some at a time.
    fn ask(&self, ids: &[DestinationId], asking: &mut Asking) {
        let mut place = Some(Place::default());
        while let Some(from) = place {
            let Some(plane) = self.plane.upgrade() else { return };
            let asked;
            (place, asked) = plane.ask_connections(ids, from, asking);
            drop(plane);
            if asked && !self.live.drains.sleep(PACE) {
                return;
            }
        }
    }

    fn started(&self, key: &Key, drain: &Drain, left: usize) {
        let (terms, (service, destination)) = (drain.terms(), *key);
        info!(%service, %destination, by = drain.by.name(), left, "drain: {terms}");
        self.live.events.tell(drain.event(Kind::DrainStarted, *key, left, terms));
    }

    fn ended(&self, key: &Key, drain: &Drain, left: usize) {
        let (service, destination) = *key;
        let then = drain.then.map_or("", Then::name);
        info!(%service, %destination, left, reset = drain.resets, then, "drained");
        let reason = match (drain.phase, left) {
            (Phase::Ending(..), _) => "the deadline is over".to_owned(),
            (_, 0) => "no connection is left".to_owned(),
            _ => "the deadline is over, and TCP goes on".to_owned(),
        };
        let reason = drain.then.map_or(reason.clone(), |then| format!("{reason}, then {}", then.name()));
        self.live.events.tell(drain.event(Kind::DrainEnded, *key, left, reason));
    }

    fn taken_back(&self, key: &Key, drain: &Drain) {
        let (service, destination) = *key;
        if matches!(drain.phase, Phase::Ending(..)) {
            self.live.director.end_connections(&service, destination, false);
        }
        // Nobody has heard of one that came and went between two looks.
        if drain.told {
            info!(%service, %destination, left = drain.open, reset = drain.resets, "the drain was taken back");
            let is_there = self.live.director.destination_id(&service, destination).is_some();
            let reason =
                if is_there { "it was taken back" } else { "the destination was removed" }.to_owned();
            self.live.events.tell(drain.event(Kind::DrainEnded, *key, drain.open, reason));
        }
    }

    /// A drain is over: what follows.
    fn finish(&self, key: &Key, drain: &Drain, open: usize) {
        let Live { director, drains, checks, .. } = &*self.live;
        let (service, destination) = *key;
        if !drains.close(key, drain, open) {
            return;
        }
        if drain.then == Some(Then::Remove) {
            checks.remove(service, destination);
        }
        if matches!(drain.phase, Phase::Ending(..)) {
            director.end_connections(&service, destination, false);
        }
        self.ended(key, drain, open);
        match drain.then {
            None => return,
            Some(Then::Remove) => {}
            Some(Then::Maint) => {
                checks.set_admin(service, destination, Admin::Maint);
            }
            Some(Then::Ready) => {
                checks.set_admin(service, destination, Admin::Ready);
            }
        }
        drains.cancel(service, destination);
    }
}

/// What a destination is to get back when it serves again.
pub(crate) fn undo(director: &Director, drains: &Drains, service: ServiceKey, destination: SocketAddr) {
    drains.cancel(service, destination);
    director.end_connections(&service, destination, false);
}

#[cfg(test)]
mod tests {
    use uvs_director::spec::Protocol;

    use super::*;

    fn key() -> Key {
        let addr = "192.0.2.10:80".parse().unwrap();
        (ServiceKey::Address { protocol: Protocol::Tcp, addr }, "192.0.2.21:80".parse().unwrap())
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn steps(drains: &Drains, open: usize, moments: &[u64]) -> Vec<Step> {
        let step = |millis: &u64| {
            let Some((drain, step)) = drains.advance(&key(), open, at(*millis)) else { return Step::Wait };
            if matches!(step, Step::Forget | Step::Finish) || step == Step::Begin && !drain.reset {
                assert!(drains.close(&key(), &drain, open));
            }
            step
        };
        moments.iter().map(step).collect()
    }

    fn begun(terms: Terms) -> Drains {
        let drains = Drains::default();
        drains.begin(key().0, key().1, terms, at(0));
        drains
    }

    #[test]
    fn without_a_deadline_it_waits_for_the_last_connection() {
        let drains = begun(Terms::default());
        assert_eq!(steps(&drains, 1, &[0, 1_000_000_000]), [Step::Wait, Step::Wait]);
        assert_eq!(steps(&drains, 0, &[1_000_000_001]), [Step::Finish]);
        assert_eq!(drains.shown(&key().0, key().1, at(1_000_000_001)).unwrap().phase, "over");
        let soon = steps(&begun(Terms::default()), 0, &[0, 499, 500]);
        assert_eq!(
            soon,
            [Step::Wait, Step::Wait, Step::Finish],
            "who was placed before may not be entered yet"
        );
        assert_eq!(steps(&drains, 1, &[1_000_000_002]), [Step::Wait], "it is told once");
    }

    #[test]
    fn at_the_deadline_what_is_left_is_asked_a_few_times_and_then_forgotten() {
        let drains = begun(Terms { deadline_ms: Some(2000), reset: true, then: None });
        assert_eq!(
            steps(&drains, 5, &[1999, 2000, 2001, 2500, 3001, 4001, 4500, 5001, 6001]),
            [
                Step::Wait,
                Step::Begin,
                Step::Ask,
                Step::Wait,
                Step::Ask,
                Step::Ask,
                Step::Wait,
                Step::Forget,
                Step::Wait
            ]
        );
        let drains = begun(Terms { deadline_ms: Some(2000), reset: true, then: None });
        assert_eq!(steps(&drains, 5, &[2000, 2001]), [Step::Begin, Step::Ask]);
        assert_eq!(steps(&drains, 0, &[2250]), [Step::Finish], "all have answered");
        let drains = begun(Terms { deadline_ms: Some(2000), reset: false, then: None });
        assert_eq!(steps(&drains, 5, &[2000, 2250]), [Step::Begin, Step::Wait], "it goes on");
    }

    #[test]
    fn what_people_want_goes_before_what_checks_say() {
        let drains = begun(Terms::default());
        let (service, destination) = key();
        drains.on_down(service, destination, Some(OnDown::Reset(Duration::ZERO)), at(10));
        assert_eq!(steps(&drains, 1, &[20]), [Step::Wait]);
        drains.on_down(service, destination, None, at(30));
        assert_eq!(drains.shown(&service, destination, at(30)).unwrap().by, "people");
        drains.cancel(service, destination);

        drains.on_down(service, destination, Some(OnDown::Drain(Duration::from_secs(1))), at(40));
        drains.on_down(service, destination, Some(OnDown::Drain(Duration::from_secs(1))), at(900));
        assert_eq!(steps(&drains, 1, &[1039, 1040]), [Step::Wait, Step::Begin], "from when it went down");
        drains.on_down(service, destination, None, at(2000));
        assert_eq!(drains.shown(&service, destination, at(2000)), None, "it is up again");
    }

    #[test]
    fn who_takes_a_drain_back_has_no_more_connections_ended() {
        let (service, destination) = key();
        let terms = Terms { deadline_ms: Some(0), reset: true, then: None };
        let drains = begun(terms);
        assert_eq!(steps(&drains, 1, &[499, 500, 501]), [Step::Wait, Step::Begin, Step::Ask]);
        drains.begin(service, destination, Terms::default(), at(502));
        let cancelled = drains.state().cancelled.iter().map(|(key, _)| *key).collect::<Vec<_>>();
        assert_eq!(cancelled, [key()]);
        let (before, step) = drains.advance(&key(), 0, at(1100)).unwrap();
        assert_eq!(step, Step::Finish);
        drains.begin(service, destination, Terms::default(), at(1101));
        assert!(!drains.close(&key(), &before, 0), "it is another by now");
        assert_eq!(steps(&drains, 1, &[2000]), [Step::Wait]);
    }
}
