//! Failover: the virtual routers of this director, on its own frame path.
//!
//! ```text
//!   worker --> Director::handle > protocol 112 > queue --unpark--> thread "vrrp": Core
//!                                    links, checks, scripts --track--> |   (uvs_ha::vrrp: who is Active)
//!   control socket, reload ---------------------- lock ---------------> |
//!   any device <-- DataPlane::send_advertisement, announce_some <-------+--> Director::withhold
//!   events, log, [[notify]] <-------------------------------------------'
//! ```
//! What is withheld from the director is what no virtual router of it is Active for: it answers for an address while,
//! and only while, it is Active. The thread waits for nothing but the moment that is due next; nothing that it calls
//! waits for a scheduler, a file or the network. If it dies, the director ends.

mod core;
mod frame;
mod tell;
mod track;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedSender;
use uvs_config::Config;
use uvs_control::ha::Answer;
use uvs_ha::vrrp::{Command, CommandError};

use self::core::Core;
use crate::event_loop::{DataPlane, Ended};
use crate::events::Events;

pub use track::Sight;

/// The longest sleep of the thread while it has virtual routers: what a lost wake-up costs at most.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// How long the thread may take to end once it was told to.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Wakes the thread, once there is one. The engine has it from the start.
#[derive(Debug, Default)]
pub struct Waker(OnceLock<Thread>);

impl Waker {
    /// Never waits.
    pub fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// The virtual routers of this director, and the threads that keep them. Without any there are no threads.
pub struct Ha {
    core: Arc<Mutex<Core>>,
    waker: Arc<Waker>,
    ended: UnboundedSender<Ended>,
    thread: Mutex<Option<JoinHandle<()>>>,
    watcher: Mutex<Option<track::Watcher>>,
}

/// A lock whose data stays sound when a holder panics: the director ends then anyway.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ha {
    /// Has none yet, and nothing is withheld. `ended` hears of the end of a thread.
    pub fn new(
        plane: &Arc<DataPlane>,
        interfaces: &[String],
        waker: Arc<Waker>,
        events: Arc<Events>,
        ended: UnboundedSender<Ended>,
    ) -> Self {
        let core = Core::new(Arc::downgrade(plane), Arc::clone(&plane.director), interfaces, events);
        let core = Arc::new(Mutex::new(core));
        Self { core, waker, ended, thread: Mutex::default(), watcher: Mutex::default() }
    }

    /// Before the director is given what `config` says: virtual addresses that come with it, and that no virtual router
    /// of this director is Active for, are withheld from the first moment on.
    pub fn prepare(&self, config: &Config) {
        lock(&self.core).prepare(&config.vrrp);
    }

    /// What was prepared is not to be: as before.
    pub fn take_back(&self) {
        lock(&self.core).settle();
    }

    /// Has the virtual routers of `config` from now on. Those that are known keep their state and their timers.
    ///
    /// # Errors
    /// The host has no thread for them.
    pub fn follow(&self, config: &Config, sight: Weak<dyn Sight>) -> anyhow::Result<()> {
        let is_on = !config.vrrp.plan.routers.is_empty();
        lock(&self.core).follow(&config.vrrp);
        let mut watcher = lock(&self.watcher);
        *watcher = None;
        if is_on {
            *watcher = Some(track::Watcher::start(&config.vrrp, sight)?);
        }
        drop(watcher);
        let mut thread = lock(&self.thread);
        if is_on && thread.is_none() {
            *thread = Some(self.start()?);
        }
        // It may be asleep until later than is due now.
        self.waker.wake();
        Ok(())
    }

    fn start(&self) -> anyhow::Result<JoinHandle<()>> {
        let (core, ended) = (Arc::clone(&self.core), self.ended.clone());
        let run = move || {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| keep(&core))) else { return };
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let error = anyhow::anyhow!("it panicked: {}", text.as_deref().unwrap_or("without a message"));
            // Nobody listens if the director has ended.
            let _ = ended.send(Ended { thread: "vrrp".to_owned(), error: Some(error) });
        };
        let thread = thread::Builder::new().name("vrrp".to_owned()).spawn(run);
        let thread = thread.context("thread vrrp cannot be started")?;
        // There is one thread in the life of a director.
        let _ = self.waker.0.set(thread.thread().clone());
        Ok(thread)
    }

    /// The state of something that priorities may follow.
    pub fn track(&self, name: &str, up: bool) {
        if lock(&self.core).track(name, up) {
            self.waker.wake();
        }
    }

    /// Obeys a command for a sync group or virtual router, or for all that it makes sense for.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn command(&self, name: Option<&str>, command: Command) -> Result<(), CommandError> {
        let done = lock(&self.core).command(name, command);
        self.waker.wake();
        done
    }

    /// How they stand now.
    pub fn look(&self) -> Answer {
        let (groups, strays) = lock(&self.core).view();
        view::of(&groups, &strays)
    }

    /// The director ends: others take over at once, and no virtual address is answered for any more.
    pub fn stop(&self) {
        *lock(&self.watcher) = None;
        lock(&self.core).stop();
        self.waker.wake();
        let Some(thread) = lock(&self.thread).take() else { return };
        let told = std::time::Instant::now();
        while !thread.is_finished() && told.elapsed() < STOP_WITHIN {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Keeps the virtual routers until they are stopped.
fn keep(core: &Mutex<Core>) {
    loop {
        let sleep = {
            let mut core = lock(core);
            if core.is_stopped() {
                return;
            }
            core.turn();
            core.sleep()
        };
        match sleep {
            Some(sleep) => thread::park_timeout(sleep.min(SLEEP_MAX)),
            None => thread::park(),
        }
    }
}
