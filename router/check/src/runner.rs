//! Drives the core and the probes, on the runtime that their network runs on: a thread beside the packet path and the
//! control loop, so that what hangs here keeps nobody else. A packet that ends a probe wakes nobody on another thread.

use core::net::SocketAddr;
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;
use uvs_director::spec::ServiceKey;
use uvs_director::view::Observations;
use uvs_director::{Duration, Instant};

use crate::core::{Bounds, Core, Edit, Event, Order, ServiceView};
use crate::net::Network;
use crate::probe::Prober;
use crate::spec::Plan;
use crate::workers::Workers;

/// How often passive checks look at what is seen of connections.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// So many threads of a runtime read files at once; more would only wait for the same disk.
pub const FILES: usize = 4;

/// Whoever does what checks come to. It is called on a thread of the runtime, and should not keep it.
pub trait Sink: Send + 'static {
    /// Gives destinations these weights, in this order.
    fn orders(&mut self, orders: &[Order]);

    /// Hears of an event.
    fn event(&mut self, event: &Event);

    /// Says what is seen of connections to each destination of a service, which is watched from now on.
    fn watch(&mut self, service: &ServiceKey, each: &mut dyn FnMut(SocketAddr, &Observations));

    /// That is not wanted any more.
    fn unwatch(&mut self, service: &ServiceKey);
}

enum Command {
    Apply(Plan),
    Edit(ServiceKey, SocketAddr, Edit),
    View(SyncSender<Vec<ServiceView>>),
    ViewOf(ServiceKey, SyncSender<Option<ServiceView>>),
}

/// The checks, running. They end when it is dropped.
#[derive(Debug)]
pub struct Runner {
    commands: Option<UnboundedSender<Command>>,
    /// Ends when they have ended.
    running: Mutex<Receiver<()>>,
}

impl Runner {
    /// Starts it, with nothing to check yet. `runtime` has time and I/O, and blocking threads for files ([`FILES`]).
    /// `now` is the time that events and views are told in.
    pub fn start(
        runtime: &Handle,
        network: Arc<dyn Network>,
        bounds: Bounds,
        seed: u64,
        now: impl Fn() -> Instant + Send + 'static,
        sink: impl Sink,
    ) -> Self {
        let (commands, queue) = unbounded_channel();
        let (runs, running) = sync_channel::<()>(0);
        let driver =
            Driver { core: Core::new(bounds, seed), workers: Workers::new(Prober::new(network)), now, sink };
        runtime.spawn(async move {
            driver.drive(queue).await;
            drop(runs);
        });
        Self { commands: Some(commands), running: Mutex::new(running) }
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // They end with this, or by a failure that is in the log.
            let _ = commands.send(command);
        }
    }

    /// Checks what `plan` says from now on.
    pub fn apply(&self, plan: Plan) {
        self.send(Command::Apply(plan));
    }

    /// Says what people want of a destination; of one that is not checked it is forgotten.
    pub fn edit(&self, service: ServiceKey, destination: SocketAddr, edit: Edit) {
        self.send(Command::Edit(service, destination, edit));
    }

    /// What is known, or `None` when the checks do not answer within `patience`: then they are stuck, which is to be
    /// told.
    pub fn view(&self, patience: Duration) -> Option<Vec<ServiceView>> {
        let (sender, answer) = sync_channel(1);
        self.send(Command::View(sender));
        answer.recv_timeout(patience).ok()
    }

    /// What is known of one service, if it is in the plan; likewise.
    pub fn view_of(&self, service: ServiceKey, patience: Duration) -> Option<Option<ServiceView>> {
        let (sender, answer) = sync_channel(1);
        self.send(Command::ViewOf(service, sender));
        answer.recv_timeout(patience).ok()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        drop(self.commands.take());
        // Nothing is ever sent: it is an error, once nobody is left who could.
        let _ = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).recv();
    }
}

struct Driver<N, S> {
    core: Core,
    workers: Workers,
    now: N,
    sink: S,
}

impl<N: Fn() -> Instant, S: Sink> Driver<N, S> {
    async fn drive(mut self, mut queue: UnboundedReceiver<Command>) {
        let (mut starts, mut results, mut started) = (Vec::new(), Vec::new(), Instant::ZERO);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = (self.now)();
            self.core.poll(now, &mut starts);
            if !starts.is_empty() {
                started = now;
            }
            for start in starts.drain(..) {
                self.workers.start(start);
            }
            self.tell();
            let rest =
                self.core.next_due().map(|due| due.max(started + self.core.slice()).since((self.now)()));
            let wait = async {
                match rest {
                    Some(rest) => tokio::time::sleep(rest).await,
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                command = queue.recv() => match command {
                    Some(command) => self.answer(command),
                    None => return,
                },
                () = self.workers.wait(&mut results) => {
                    let now = (self.now)();
                    results.drain(..).for_each(|(run, outcome)| self.core.finish(run, outcome, now));
                }
                _ = looks.tick(), if !self.core.watched().is_empty() => self.look(),
                () = wait => {}
            }
        }
    }

    /// Hears what is seen of connections, for passive checks.
    fn look(&mut self) {
        let now = (self.now)();
        for service in self.core.watched().to_vec() {
            self.sink.watch(&service, &mut |destination, seen| {
                if let Some(index) = self.core.find(&service, destination) {
                    self.core.observe(index, seen, now);
                }
            });
        }
    }

    fn answer(&mut self, command: Command) {
        let now = (self.now)();
        match command {
            Command::Apply(plan) => {
                let before: HashSet<ServiceKey> = self.core.watched().iter().copied().collect();
                self.core.apply(plan, now);
                let watched: HashSet<ServiceKey> = self.core.watched().iter().copied().collect();
                before.difference(&watched).for_each(|service| self.sink.unwatch(service));
            }
            Command::Edit(service, destination, edit) => {
                if let Some(index) = self.core.find(&service, destination) {
                    self.core.edit(index, edit, now);
                }
            }
            // Who has asked may have given up.
            Command::View(asker) => drop(asker.try_send(self.core.view())),
            Command::ViewOf(service, asker) => drop(asker.try_send(self.core.service_view(&service))),
        }
    }

    fn tell(&mut self) {
        self.workers.cancel(&self.core.take_cancelled());
        for event in self.core.take_events() {
            self.sink.event(&event);
        }
        let orders = self.core.take_orders();
        if !orders.is_empty() {
            self.sink.orders(&orders);
        }
    }
}
