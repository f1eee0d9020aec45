//! The thread that looks at drains, and does what is due.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use tracing::{info, warn};
use uvs_check::weight::Admin;
use uvs_control::destination::Then;
use uvs_control::event::Kind;
use uvs_director::{DestinationId, Forgotten, Place};

use super::{By, Drain, Drains, Key, Phase, Step};
use crate::event_loop::{Asking, DataPlane};
use crate::pages::Live;

/// Between two counts of what is left.
const LOOK: Duration = Duration::from_millis(250);
/// After each slice of the table in which somebody was asked.
const PACE: Duration = Duration::from_millis(1);

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
            // Who brings it back holds the weights meanwhile, and takes this back.
            checks.remove(service, destination, || drains.is_over(key, drain));
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
