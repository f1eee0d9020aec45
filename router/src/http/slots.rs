//! Who is served: so many at a time, some of them of one peer, and nobody for ever.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Connections served at one time; more wait in the kernel's backlog.
pub(super) const SLOTS: usize = 32;
/// Of them, those of one address.
pub(super) const PER_PEER: usize = 16;
/// How often who waits for a slot looks again.
const AGAIN: Duration = Duration::from_millis(20);

/// The connections that are served.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<Vec<Arc<State>>>,
}

/// What is known of a connection.
pub(super) struct State {
    /// Its address; all of a Unix socket are one.
    peer: Option<IpAddr>,
    /// When bytes came or went last, in milliseconds since the first of all connections.
    moved: AtomicU64,
    /// Requests whose answer is being made: nothing can move.
    working: AtomicUsize,
    taken_away: Notify,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl State {
    /// Bytes came or went.
    pub(super) fn moved(&self) {
        self.moved.store(now(), Relaxed);
    }

    /// An answer is made as long as what is returned lives.
    pub(super) fn working(&self) -> Working<'_> {
        self.working.fetch_add(1, Relaxed);
        Working(self)
    }

    /// How long it has stood still.
    fn idle(&self) -> Duration {
        if self.working.load(Relaxed) > 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(now().saturating_sub(self.moved.load(Relaxed)))
    }
}

pub(super) struct Working<'a>(&'a State);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Relaxed);
        self.0.moved();
    }
}

/// A connection's place; free once this is dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    state: Arc<State>,
}

impl Slot {
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Returns when the place was given to another.
    pub(super) async fn taken_away(&self) {
        self.state.taken_away.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken().retain(|state| !Arc::ptr_eq(state, &self.state));
    }
}

impl Slots {
    fn taken(&self) -> MutexGuard<'_, Vec<Arc<State>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of `peer`. Where there is none it gets that of the connection that stood still
    /// longest, if that is `idle` at least; after that time, that of the oldest one.
    pub(super) async fn take(self: &Arc<Self>, peer: Option<IpAddr>, idle: Duration) -> Slot {
        let waiting = Instant::now();
        loop {
            if let Some(slot) = self.try_take(peer, idle, waiting.elapsed() >= idle) {
                return slot;
            }
            sleep(AGAIN).await;
        }
    }

    fn try_take(self: &Arc<Self>, peer: Option<IpAddr>, idle: Duration, insist: bool) -> Option<Slot> {
        let mut taken = self.taken();
        let of_peer = taken.iter().filter(|state| state.peer == peer).count();
        if of_peer >= PER_PEER || taken.len() >= SLOTS {
            let rivals = |state: &Arc<State>| of_peer < PER_PEER || state.peer == peer;
            let (index, longest) = taken
                .iter()
                .enumerate()
                .filter(|(_, state)| rivals(state))
                .map(|(index, state)| (index, state.idle()))
                // The oldest of several comes first.
                .max_by_key(|(index, idle)| (*idle, usize::MAX - index))?;
            if longest < idle && !insist {
                return None;
            }
            let index = if longest < idle { taken.iter().position(rivals)? } else { index };
            taken.remove(index).taken_away.notify_one();
        }
        let state =
            Arc::new(State { peer, moved: now().into(), working: 0.into(), taken_away: Notify::new() });
        taken.push(Arc::clone(&state));
        Some(Slot { slots: Arc::clone(self), state })
    }
}
