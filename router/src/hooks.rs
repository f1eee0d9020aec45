//! Programs that are told what happens (`[[notify]]`).
//!
//! ```text
//!   events (history) --Reader--> Queue: what waits, merged and bounded --> programs, RUNNING_MAX at once
//!                                  `-- of one service one after the other, in order     (uvs_check::program)
//! ```
//! All of it is on a thread of its own: whoever tells an event waits for nobody, and a program that hangs keeps up no
//! more than what is to be told of the same service, until its deadline.

mod message;
mod queue;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{info, warn};
use uvs_check::program;
use uvs_config::{Config, Notify};
use uvs_control::event::{Event, Kind, Request};

pub use stats::{Outcome, Report, Sample, Stats};

use self::queue::{Job, Queue};
use crate::events::{Events, Reader};

/// So many programs run at once.
const RUNNING_MAX: usize = 8;
/// So long is waited for at the end: what waits is told, and what runs ends.
const STOP_WITHIN: Duration = Duration::from_secs(3);
/// That something was dropped is told at most so often.
const DROPS_EVERY: Duration = Duration::from_secs(10);

enum Command {
    Follow(Vec<Arc<Notify>>),
    Stop,
}

/// The programs, and the thread that runs them.
pub struct Hooks {
    commands: UnboundedSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What they came to.
    pub stats: Arc<Stats>,
}

impl Hooks {
    /// Tells the programs of that configuration what happens, from the first event on that is known.
    ///
    /// # Errors
    /// The host has no thread for it.
    pub fn start(config: &Config, events: &Arc<Events>) -> anyhow::Result<Self> {
        let (commands, queue) = unbounded_channel();
        let stats = Arc::<Stats>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("the runtime for notifications cannot be made")?;
        let request = Request { follow: true, last: Some(u32::MAX), since_s: None };
        let driver = Driver {
            events: Arc::clone(events),
            reader: events.reader(&request),
            hooks: hooks(config),
            queue: Queue::default(),
            tasks: JoinSet::new(),
            jobs: Vec::new(),
            stats: Arc::clone(&stats),
            dropped: Dropped::default(),
        };
        let run = move || runtime.block_on(driver.drive(queue));
        let thread = std::thread::Builder::new().name("notify".into()).spawn(run);
        let thread = thread.context("thread notify cannot be started")?;
        Ok(Self { commands, thread: Mutex::new(Some(thread)), stats })
    }

    /// Tells those of that configuration from now on. What waits is still told to whom it was for.
    pub fn follow(&self, config: &Config) {
        // That thread ends with this, or by a failure that is in the log.
        let _ = self.commands.send(Command::Follow(hooks(config)));
    }

    /// Ends them, once they have heard what they are to hear, within a bounded time.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // A panic there was logged when it happened.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

fn hooks(config: &Config) -> Vec<Arc<Notify>> {
    config.notify.iter().cloned().map(Arc::new).collect()
}

/// What was dropped, and when that was last told.
#[derive(Default)]
struct Dropped {
    untold: u64,
    told: Option<Instant>,
}

struct Driver {
    events: Arc<Events>,
    reader: Reader,
    hooks: Vec<Arc<Notify>>,
    queue: Queue,
    tasks: JoinSet<(Outcome, String)>,
    /// Which job a task does.
    jobs: Vec<(Id, Job, Instant)>,
    stats: Arc<Stats>,
    dropped: Dropped,
}

impl Driver {
    async fn drive(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            self.begin();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Follow(hooks)) => self.hooks = hooks,
                    Some(Command::Stop) | None => break,
                },
                Some(done) = self.tasks.join_next_with_id() => self.finish(done),
                () = self.reader.wait() => self.read(),
            }
        }
        self.read();
        let rest = async {
            loop {
                self.begin();
                let Some(done) = self.tasks.join_next_with_id().await else { return };
                self.finish(done);
            }
        };
        if tokio::time::timeout(STOP_WITHIN, rest).await.is_err() {
            let (running, waiting) = (self.jobs.len(), self.queue.len());
            warn!(
                running,
                waiting, "programs that are to be told what happened are given up: the director ends"
            );
        }
    }

    fn read(&mut self) {
        let answer = self.reader.take();
        self.stats.lost(answer.lost);
        self.dropped.untold += answer.lost;
        for event in answer.events {
            let event = Arc::new(event);
            for hook in self.hooks.iter().filter(|hook| message::concerns(hook, &event)) {
                let job = Job { hook: Arc::clone(hook), event: Arc::clone(&event) };
                let pushed = self.queue.push(job);
                if pushed.merged {
                    self.stats.merged(&hook.name);
                }
                if let Some(job) = pushed.dropped {
                    self.stats.dropped(&job.hook.name);
                    self.dropped.untold += 1;
                }
            }
        }
        self.tell_of_drops();
    }

    fn tell_of_drops(&mut self) {
        let soon = self.dropped.told.is_some_and(|told| told.elapsed() < DROPS_EVERY);
        if self.dropped.untold == 0 || soon {
            return;
        }
        let untold = std::mem::take(&mut self.dropped.untold);
        self.dropped.told = Some(Instant::now());
        warn!(
            dropped = untold,
            "programs are told what happens more slowly than it happens: the oldest are left out"
        );
        let reason = format!("{untold} that waited longest are left out: too much happens for the programs");
        self.events.tell(Event { kind: Kind::NotifyDropped, reason: Some(reason), ..Event::default() });
    }

    fn begin(&mut self) {
        while self.jobs.len() < RUNNING_MAX {
            let Some(job) = self.queue.next() else { break };
            let (hook, event) = (Arc::clone(&job.hook), Arc::clone(&job.event));
            let task = self.tasks.spawn(async move { run(&hook, &event).await });
            self.jobs.push((task.id(), job, Instant::now()));
        }
        self.stats.now(self.jobs.len(), self.queue.len());
    }

    fn finish(&mut self, done: Result<(Id, (Outcome, String)), JoinError>) {
        let (id, (outcome, text)) = match done {
            Ok(done) => done,
            Err(error) => (error.id(), (Outcome::Unmade, "running it failed; see the log".to_owned())),
        };
        let Some(at) = self.jobs.iter().position(|(task, ..)| *task == id) else { return };
        let (_, job, began) = self.jobs.swap_remove(at);
        self.queue.done(&job);
        let Job { hook, event } = job;
        self.stats.ran(&hook.name, outcome);
        let millis = began.elapsed().as_millis();
        let text = format!("notify {} of {}: {text}, after {millis} ms", hook.name, event.kind.name());
        let service = event.service.as_deref().unwrap_or_default();
        let kind = match outcome {
            Outcome::Passed => {
                info!(service, "{text}");
                Kind::Notified
            }
            Outcome::Failed | Outcome::Overdue | Outcome::Unmade => {
                warn!(service, "{text}");
                Kind::NotifyFailed
            }
        };
        self.events.tell(Event {
            kind,
            service: event.service.clone(),
            destination: event.destination.clone(),
            reason: Some(text),
            ..Event::default()
        });
    }
}

/// Runs a program until it ends or its time is over.
async fn run(hook: &Notify, event: &Event) -> (Outcome, String) {
    let (command, environment) = message::of(hook, event);
    let environment = environment.iter().map(|(name, value)| (*name, &**value));
    let program = match program::start(&command, hook.user.as_ref(), environment) {
        Ok(program) => program,
        Err(why) => return (Outcome::Unmade, why),
    };
    match tokio::time::timeout(hook.timeout, program.end()).await {
        Ok(Ok(ended)) if ended.status.success() => (Outcome::Passed, ended.text()),
        Ok(Ok(ended)) => (Outcome::Failed, ended.text()),
        Ok(Err(error)) => (Outcome::Unmade, format!("it cannot be waited for: {error}")),
        Err(_) => (Outcome::Overdue, format!("no end within {:?}, and killed", hook.timeout)),
    }
}
