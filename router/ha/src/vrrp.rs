//! Who is Active, and when (RFC 9568, 6): no I/O and no clock, so that all of it can be tested in virtual time.
//!
//! ```text
//!   plan ------> apply --.                                     .--> Send, Own, Disown, Announce
//!   packet ----> receive |--> groups > virtual routers > timers--+--> Notify (programs)
//!   trackers --> track   |                                     `--> Event (log)
//!   people ----> command |
//!   time ------> tick ---'   and again at next_due
//! ```
//! Whoever drives it hands in what has arrived before it ticks, does what [`Vrrp::take_outputs`] gives in that order,
//! and calls again at [`Vrrp::next_due`], which is a few times an interval: a call that comes much later means that
//! this process stood still, and that others may be Active by now.
//!
//! What is kept, whatever arrives: addresses that differ, intervals that differ, and messages that are not taken never
//! keep two routers Active; a node is not Active before the snapshot of its peer is in or given up, nor straight after
//! a pause in which others may have taken over; nothing grows with what others send.

mod announcer;
mod apply;
mod clock;
mod group;
mod output;
mod router;
mod view;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use uvs_director::Instant;

pub use output::{Event, Notification, Output, Reason, State, Told};
pub use router::{Counters, Heard};
pub use view::{GroupView, RouterView};

use self::clock::Clock;
use self::group::{Group, Scene};
use crate::plan::RouterPlan;
use crate::wire::{Datagram, Family, Refusal, TTL, Version};

/// The snapshot of the peer's connections, which a node wants to have before it is Active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    /// It is in, or given up, or there is no peer to have one from.
    Settled,
    /// It is given up then.
    Awaited(Instant),
}

/// What people ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take no part until maintenance is over: an Active node leaves, and others take over at once.
    Maintenance(bool),
    /// Let another node take over. This one stays ready, but does not preempt until nobody else is Active.
    Failover,
}

/// Why a command was not obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such group or virtual router.
    #[error("there is no sync group or virtual router {0:?}")]
    Unknown(String),
    /// A failover where there is nothing to hand over.
    #[error("{name} is {state} on this node; ask the node on which it is active")]
    NotActive {
        /// Its name.
        name: Arc<str>,
        /// What it is.
        state: State,
    },
}

/// All virtual routers of a node.
#[derive(Debug)]
pub struct Vrrp {
    groups: Vec<Group>,
    tracked: HashMap<Arc<str>, bool>,
    snapshot: Snapshot,
    clock: Clock,
    outputs: Vec<Output>,
    /// Group and member of a VRID; interfaces are few.
    by_vrid: HashMap<(Family, u8), Vec<(usize, usize)>>,
    strays: HashMap<Refusal, u64>,
}

impl Vrrp {
    /// Has no virtual routers yet.
    pub fn new(now: Instant) -> Self {
        Self {
            groups: Vec::new(),
            tracked: HashMap::new(),
            snapshot: Snapshot::Settled,
            clock: Clock::new(now),
            outputs: Vec::new(),
            by_vrid: HashMap::new(),
            strays: HashMap::new(),
        }
    }

    /// Takes the time, and notices if too much of it has passed.
    fn arrive(&mut self, now: Instant) -> Instant {
        let (now, slept) = self.clock.advance(now);
        if let Snapshot::Awaited(until) = self.snapshot
            && until <= now
        {
            self.snapshot = Snapshot::Settled;
            self.outputs.push(Output::Event(Event::SnapshotGivenUp));
        }
        self.each(now, |group, scene| group.wake(slept, scene));
        now
    }

    fn each(&mut self, now: Instant, mut visit: impl FnMut(&mut Group, &mut Scene<'_>)) {
        let ready = self.snapshot == Snapshot::Settled;
        let mut scene = Scene { now, ready, out: &mut self.outputs };
        self.groups.iter_mut().for_each(|group| visit(group, &mut scene));
    }

    /// Does what is due. Early and repeated calls are harmless.
    pub fn tick(&mut self, now: Instant) {
        let now = self.arrive(now);
        self.each(now, Group::tick);
    }

    /// When to call next, by the caller's clock: a few times an interval.
    pub fn next_due(&self) -> Option<Instant> {
        let now = self.clock.now();
        let given_up = match self.snapshot {
            Snapshot::Awaited(until) => Some(until),
            Snapshot::Settled => None,
        };
        let due = self.groups.iter().filter_map(|group| group.next(now)).chain(given_up).min();
        due.map(|at| self.clock.theirs(at))
    }

    /// Takes a message that came in on an interface.
    ///
    /// # Errors
    /// Why it was not taken. It is counted already.
    pub fn receive(&mut self, interface: &str, datagram: &Datagram<'_>, now: Instant) -> Result<(), Refusal> {
        let now = self.arrive(now);
        let family = Family::of(datagram.src);
        let of_vrid = datagram.vrid().and_then(|vrid| self.by_vrid.get(&(family, vrid)));
        let is_here =
            |(group, at): &&(usize, usize)| *self.groups[*group].routers[*at].plan.interface == *interface;
        let known = of_vrid.and_then(|places| places.iter().find(is_here)).copied();
        let ttl_min = known.map_or(TTL, |(group, at)| self.groups[group].routers[at].plan.ttl_min);
        let parsed = datagram.parse(ttl_min);
        let Some((group, at)) = known else {
            let refusal = parsed.err().unwrap_or(Refusal::UnknownVrid);
            *self.strays.entry(refusal).or_default() += 1;
            return Err(refusal);
        };
        let group = &mut self.groups[group];
        let taken = parsed.and_then(|(advertisement, form)| {
            let plan = &group.routers[at].plan;
            if advertisement.version != plan.version {
                return Err(Refusal::OtherVersion);
            }
            if plan.version == Version::V2 && advertisement.password != plan.password {
                return Err(Refusal::Password);
            }
            admit(plan, datagram)?;
            Ok((advertisement, form))
        });
        match taken {
            Ok((advertisement, form)) => {
                let ready = self.snapshot == Snapshot::Settled;
                let mut scene = Scene { now, ready, out: &mut self.outputs };
                group.hear(at, datagram.src, &advertisement, form, &mut scene);
                Ok(())
            }
            Err(refusal) => {
                group.routers[at].refuse(refusal);
                Err(refusal)
            }
        }
    }

    /// The state of something that priorities follow.
    pub fn track(&mut self, name: &str, up: bool, now: Instant) {
        let now = self.arrive(now);
        if self.tracked.get(name) == Some(&up) {
            return;
        }
        self.tracked.insert(name.into(), up);
        self.judge_all(now);
    }

    fn judge_all(&mut self, now: Instant) {
        let tracked = core::mem::take(&mut self.tracked);
        self.each(now, |group, scene| group.judge(&tracked, scene));
        self.tracked = tracked;
    }

    /// From now on no virtual router becomes Active until [`Vrrp::snapshot_settled`], or for so long. One that is
    /// Active stays so.
    pub fn await_snapshot(&mut self, wait: Duration, now: Instant) {
        let now = self.arrive(now);
        self.snapshot = Snapshot::Awaited(now + wait);
    }

    /// The snapshot of the peer is in, or there is none to be had.
    pub fn snapshot_settled(&mut self, now: Instant) {
        let now = self.arrive(now);
        self.snapshot = Snapshot::Settled;
        self.each(now, Group::tick);
    }

    /// Obeys a command for a sync group, or for a virtual router: with that goes the group that it is in.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn command(&mut self, name: &str, command: Command, now: Instant) -> Result<(), CommandError> {
        let now = self.arrive(now);
        let ready = self.snapshot == Snapshot::Settled;
        let is_it = |group: &&mut Group| {
            *group.name == *name || group.routers.iter().any(|router| *router.plan.name == *name)
        };
        let Some(group) = self.groups.iter_mut().find(is_it) else {
            return Err(CommandError::Unknown(name.to_owned()));
        };
        let mut scene = Scene { now, ready, out: &mut self.outputs };
        match command {
            Command::Maintenance(on) => {
                group.maint = on;
                group.settle(&mut scene);
            }
            Command::Failover if group.state == State::Active => {
                group.leave(State::Backup, Reason::Failover, &mut scene);
                group.yielded = true;
            }
            Command::Failover => {
                return Err(CommandError::NotActive { name: Arc::clone(&group.name), state: group.state });
            }
        }
        Ok(())
    }

    /// The process ends: others take over at once. Nothing is left of any virtual router.
    pub fn stop(&mut self, now: Instant) {
        let now = self.arrive(now);
        self.each(now, |group, scene| group.leave(State::Initialize, Reason::Stopped, scene));
        self.groups.clear();
        self.by_vrid.clear();
    }

    /// What is to be done since the last call, in this order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.outputs)
    }

    /// Messages that no virtual router of this node was meant by, by the reason.
    pub fn strays(&self) -> &HashMap<Refusal, u64> {
        &self.strays
    }
}

/// Whether a virtual router listens to who sent this, and whether it was sent to it.
fn admit(plan: &RouterPlan, datagram: &Datagram<'_>) -> Result<(), Refusal> {
    let src = datagram.src;
    let is_bad = src == plan.source || src.is_unspecified() || src.is_multicast();
    if is_bad {
        return Err(Refusal::Source);
    }
    if !plan.peers.is_empty() {
        if !plan.peers.contains(&src) {
            return Err(Refusal::Source);
        }
        return if datagram.dst == plan.source { Ok(()) } else { Err(Refusal::Destination) };
    }
    if datagram.dst != plan.family().group() {
        return Err(Refusal::Destination);
    }
    match src {
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => Err(Refusal::Source),
        _ => Ok(()),
    }
}
