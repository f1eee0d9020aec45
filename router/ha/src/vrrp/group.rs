//! The state machine (RFC 9568, 6.4) of a sync group: virtual routers that are Active together or not at all. One that
//! is in no group is a group of itself.
//!
//! ```text
//!   Initialize --start--> Backup --silence, leaving, lower priority--> Active
//!       ^                   |  ^                                         |
//!       `--fault, maint.----'  `--higher priority, late wake, failover---+
//!       ^------------------------fault, maintenance----------------------'
//! ```

use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use uvs_director::Instant;

use super::output::{Event, Notification, Output, Reason, State, Told};
use super::router::Router;
use crate::plan::{TrackPlan, WEIGHED};
use crate::timers;
use crate::wire::{Advertisement, ChecksumForm, LEAVING, OWNER};

/// What a transition needs to know and to say.
pub(crate) struct Scene<'a> {
    pub(crate) now: Instant,
    /// Whether the snapshot of the peer is in, or given up.
    pub(crate) ready: bool,
    pub(crate) out: &'a mut Vec<Output>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    /// It is a sync group, and not one virtual router on its own.
    pub(crate) named: bool,
    pub(crate) routers: Vec<Router>,
    pub(crate) track: Vec<TrackPlan>,
    pub(crate) state: State,
    pub(crate) since: Instant,
    pub(crate) reason: Reason,
    /// What is advertised: the configured one and what is tracked.
    pub(crate) priority: u8,
    /// What is down of that without which it takes no part.
    pub(crate) fault: Option<Arc<str>>,
    pub(crate) maint: bool,
    /// Somebody asked for a failover: those of lower priorities are not preempted until nobody else is Active.
    pub(crate) yielded: bool,
    /// That it waits for a snapshot was told.
    awaits: bool,
}

/// Into how many parts an interval is divided to notice that this process does not get to run.
const BEATS: u32 = 4;

impl Group {
    pub(crate) fn new(name: Arc<str>, named: bool, routers: Vec<Router>, track: Vec<TrackPlan>) -> Self {
        let priority = routers.first().map_or(OWNER, |router| router.plan.priority);
        Self {
            name,
            named,
            routers,
            track,
            state: State::Initialize,
            since: Instant::ZERO,
            reason: Reason::Started,
            priority,
            fault: None,
            maint: false,
            yielded: false,
            awaits: false,
        }
    }

    fn is_owner(&self) -> bool {
        self.priority == OWNER
    }

    /// What it takes part with: priority, and whether it may, by what is tracked. Then acts on it.
    pub(crate) fn judge(&mut self, tracked: &HashMap<Arc<str>, bool>, scene: &mut Scene<'_>) {
        let mut known: Vec<&TrackPlan> = Vec::new();
        for track in self.track.iter().chain(self.routers.iter().flat_map(|router| &router.plan.track)) {
            // What several members follow counts once.
            if !known.contains(&track) {
                known.push(track);
            }
        }
        let is_up = |track: &TrackPlan| {
            tracked.get(&track.name).copied().unwrap_or(track.presumed_up) != track.reverse
        };
        let fault = known.iter().find(|track| track.weight == 0 && !is_up(track));
        let fault = fault.map(|track| Arc::clone(&track.name));
        let weight = |track: &&TrackPlan| match track.weight {
            weight @ 1.. if is_up(track) => i32::from(weight),
            weight @ ..=-1 if !is_up(track) => i32::from(weight),
            _ => 0,
        };
        let configured = self.routers.first().map_or(OWNER, |router| router.plan.priority);
        let sum = i32::from(configured) + known.iter().map(weight).sum::<i32>();
        let (least, most) = (i32::from(*WEIGHED.start()), i32::from(*WEIGHED.end()));
        let weighed = u8::try_from(sum.clamp(least, most)).unwrap_or(configured);
        let priority = if configured == OWNER { OWNER } else { weighed };
        self.fault = fault;
        self.set_priority(priority, scene);
        self.settle(scene);
    }

    fn set_priority(&mut self, priority: u8, scene: &mut Scene<'_>) {
        let before = core::mem::replace(&mut self.priority, priority);
        if before == priority {
            return;
        }
        if self.state != State::Initialize {
            let name = Arc::clone(&self.name);
            scene.out.push(Output::Event(Event::Priority { name, from: before, to: priority }));
        }
        // The timer that runs goes with it: who became better waits less, who became worse waits longer.
        for router in &mut self.routers {
            let (old, new) = (router.down_interval(before), router.down_interval(priority));
            if let Some(down) = router.down.filter(|_| router.left.is_none()) {
                router.down = Some(scene.now + (down.since(scene.now) + new).saturating_sub(old));
            }
        }
    }

    /// Takes part or not, as faults and maintenance have it.
    pub(crate) fn settle(&mut self, scene: &mut Scene<'_>) {
        let hindered = match &self.fault {
            Some(tracked) => Some(Reason::Fault { tracked: Arc::clone(tracked) }),
            None => self.maint.then_some(Reason::Maintenance),
        };
        let was_hindered = matches!(self.reason, Reason::Fault { .. } | Reason::Maintenance);
        match hindered {
            // Another reason is no other state.
            Some(reason) if self.state == State::Initialize && was_hindered => self.reason = reason,
            Some(reason) => self.leave(State::Initialize, reason, scene),
            None if self.state == State::Initialize => {
                let reason = match self.reason {
                    Reason::Fault { .. } => Reason::Recovered,
                    Reason::Maintenance => Reason::MaintenanceOver,
                    Reason::Regrouped => Reason::Regrouped,
                    _ => Reason::Started,
                };
                if self.is_owner() && scene.ready {
                    self.routers.iter_mut().for_each(|router| router.down = None);
                    self.take_over(scene);
                    return;
                }
                self.leave(State::Backup, reason, scene);
                if self.is_owner() {
                    self.routers.iter_mut().for_each(|router| router.down = None);
                }
            }
            None => {}
        }
    }

    /// Time has passed in which this process did not run: it listens first, since another may be Active by now.
    pub(crate) fn wake(&mut self, slept: Duration, scene: &mut Scene<'_>) {
        let now = scene.now;
        let overslept =
            |router: &Router| now.since(router.advertised) >= timers::shortest_down(router.plan.interval);
        let missed = |router: &Router| slept > router.interval().duration();
        match self.state {
            // Nobody takes over from the owner for longer than until its next advertisement.
            _ if self.is_owner() => {}
            State::Active if self.routers.iter().any(overslept) => {
                self.leave(State::Backup, Reason::LateWake { slept }, scene);
            }
            // Time asleep is not time listened.
            State::Backup if self.routers.iter().any(missed) => {
                for router in &mut self.routers {
                    router.lower_since = None;
                    router.listen(self.priority, now);
                }
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, scene: &mut Scene<'_>) {
        match self.state {
            State::Initialize => {}
            State::Backup => {
                let delay = self.preempt_delay();
                for router in &mut self.routers {
                    let is_over = |at: Instant| at <= scene.now;
                    let delayed = router.lower_since.filter(|_| !delay.is_zero());
                    if router.down.is_some_and(is_over)
                        || delayed.is_some_and(|(since, ..)| is_over(since + delay))
                    {
                        router.down = None;
                    }
                }
                self.take_over(scene);
            }
            State::Active => {
                for router in &mut self.routers {
                    if router.advertise <= scene.now {
                        router.send(self.priority, scene.now, scene.out);
                    }
                    router.announce(scene.now, scene.out);
                }
            }
        }
    }

    fn preempt_delay(&self) -> Duration {
        self.routers.iter().map(|router| router.plan.preempt_delay).max().unwrap_or_default()
    }

    /// Becomes Active if all of its members want to be and nothing speaks against it.
    fn take_over(&mut self, scene: &mut Scene<'_>) {
        if self.routers.iter().any(|router| router.down.is_some()) {
            return;
        }
        if !scene.ready {
            if !core::mem::replace(&mut self.awaits, true) {
                scene.out.push(Output::Event(Event::AwaitsSnapshot { name: Arc::clone(&self.name) }));
            }
            return;
        }
        let left = self.routers.iter().find_map(|router| router.left);
        let lower = self.routers.iter().find_map(|router| router.lower_since);
        let reason = match (left, lower) {
            _ if self.is_owner() => Reason::Owner,
            (Some(from), _) => Reason::PeerLeft { from },
            (None, Some((_, from, priority))) => Reason::Preempted { from, priority },
            (None, None) => Reason::Silence,
        };
        (self.yielded, self.awaits) = (false, false);
        for router in &mut self.routers {
            // From now on the interval is our own.
            router.become_backup(self.priority, scene.now);
            router.down = None;
            router.counters.takeovers += 1;
            router.send(self.priority, scene.now, scene.out);
        }
        for router in &mut self.routers {
            router.own(scene.now, scene.out);
        }
        self.change(State::Active, reason, scene);
    }

    /// Gives up being Active, if it is, and is in `to` from now on. Others are told that it leaves, so that they need
    /// not wait.
    pub(crate) fn leave(&mut self, to: State, reason: Reason, scene: &mut Scene<'_>) {
        if self.state == State::Active {
            for router in &mut self.routers {
                router.send(LEAVING, scene.now, scene.out);
            }
        }
        self.retire(to, reason, scene);
    }

    fn retire(&mut self, to: State, reason: Reason, scene: &mut Scene<'_>) {
        for router in &mut self.routers {
            if self.state == State::Active {
                router.disown(scene.out);
            }
            router.become_backup(self.priority, scene.now);
        }
        self.change(to, reason, scene);
    }

    fn change(&mut self, to: State, reason: Reason, scene: &mut Scene<'_>) {
        let from = core::mem::replace(&mut self.state, to);
        (self.since, self.reason) = (scene.now, reason.clone());
        let told = match (to, &reason) {
            (_, Reason::Removed) => Told::Deleted,
            (_, Reason::Stopped) => Told::Stop,
            (State::Active, _) => Told::Master,
            (State::Backup, _) => Told::Backup,
            (State::Initialize, _) => Told::Fault,
        };
        self.notify(told, &reason, scene.out);
        let name = Arc::clone(&self.name);
        scene.out.push(Output::Event(Event::Changed { name, from, to, reason }));
    }

    fn notify(&self, told: Told, reason: &Reason, out: &mut Vec<Output>) {
        let of = |group, name: &Arc<str>| {
            Output::Notify(Notification {
                group,
                name: Arc::clone(name),
                now: told,
                priority: self.priority,
                reason: reason.clone(),
            })
        };
        out.extend(self.routers.iter().map(|router| of(false, &router.plan.name)));
        out.extend(self.named.then(|| of(true, &self.name)));
    }

    /// Takes an advertisement for the virtual router at `at`.
    pub(crate) fn hear(
        &mut self,
        at: usize,
        from: IpAddr,
        advertisement: &Advertisement,
        form: ChecksumForm,
        scene: &mut Scene<'_>,
    ) {
        self.routers[at].note(from, advertisement, form, scene.now, scene.out);
        match self.state {
            State::Initialize => {}
            State::Active => self.hear_active(at, from, advertisement, scene),
            State::Backup => self.hear_backup(at, from, advertisement, scene),
        }
    }

    fn hear_active(&mut self, at: usize, from: IpAddr, theirs: &Advertisement, scene: &mut Scene<'_>) {
        let (own, priority) = (self.priority, theirs.priority);
        let router = &mut self.routers[at];
        if priority == LEAVING {
            router.answer(own, scene.now, scene.out);
            return;
        }
        // Of several members the first decides where priorities are the same.
        let is_lower = at == 0 && from > router.plan.source;
        if priority > own || priority == own && is_lower {
            let reason = match priority > own {
                true => Reason::HigherPriority { from, priority },
                false => Reason::HigherAddress { from },
            };
            self.retire(State::Backup, reason, scene);
            self.routers[at].obey(from, theirs, own, scene.now);
            return;
        }
        router.answer(own, scene.now, scene.out);
        let tells = router.note_rival(scene.now);
        let name = Arc::clone(&router.plan.name);
        // Links may have learned that the addresses are elsewhere, those of the other members, too.
        for router in &mut self.routers {
            let least = router.plan.interval.duration();
            router.announcer.again(router.plan.announce, least, scene.now);
            router.announce(scene.now, scene.out);
        }
        if tells {
            scene.out.push(Output::Event(Event::Rival { router: name, from, priority }));
            self.notify(Told::MasterRxLowerPri, &Reason::Preempted { from, priority }, scene.out);
        }
    }

    fn hear_backup(&mut self, at: usize, from: IpAddr, theirs: &Advertisement, scene: &mut Scene<'_>) {
        let (own, now, priority) = (self.priority, scene.now, theirs.priority);
        let delay = self.preempt_delay();
        let preempts = !self.yielded && scene.ready && self.routers.iter().all(|router| router.plan.preempt);
        let preempts = preempts || self.is_owner() && !self.yielded;
        let router = &mut self.routers[at];
        if priority == LEAVING {
            // One that left long ago, and whose word comes late, is not the one whose place is free.
            if router.active.is_some_and(|active| active != from) {
                router.counters.stale_leaving += 1;
                return;
            }
            let skew = timers::skew(router.plan.version, router.interval(), own);
            router.down = router.down.map(|down| down.min(now + skew));
            router.left = Some(from);
            return;
        }
        if priority >= own {
            router.lower_since = None;
            router.obey(from, theirs, own, now);
            return;
        }
        if preempts {
            let (since, ..) = *router.lower_since.get_or_insert((now, from, priority));
            if delay.is_zero() || now >= since + delay || own == OWNER {
                return;
            }
        }
        router.obey(from, theirs, own, now);
    }

    /// When it has to be looked at again. Often enough to notice pauses, too.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        if self.state == State::Initialize {
            return None;
        }
        let delay = self.preempt_delay();
        let of_router = |router: &Router| {
            let beat = now + router.interval().duration() / BEATS;
            let due = match self.state {
                State::Active => Some(router.advertise).into_iter().chain(router.announcer.next()).min(),
                _ => {
                    let delayed = router.lower_since.filter(|_| !delay.is_zero() && router.down.is_some());
                    router.down.into_iter().chain(delayed.map(|(since, ..)| since + delay)).min()
                }
            };
            due.map_or(beat, |due| due.min(beat))
        };
        self.routers.iter().map(of_router).min()
    }
}

impl Router {
    /// Takes the addresses, and announces them.
    pub(crate) fn own(&mut self, now: Instant, out: &mut Vec<Output>) {
        let (router, addresses) = (Arc::clone(&self.plan.name), self.addresses());
        out.push(Output::Own { router, addresses });
        self.announcer.start(self.plan.announce, now);
        self.announce(now, out);
    }

    /// Lets go of them.
    pub(crate) fn disown(&mut self, out: &mut Vec<Output>) {
        self.announcer.stop();
        let (router, addresses) = (Arc::clone(&self.plan.name), self.addresses());
        out.push(Output::Disown { router, addresses });
    }
}
