//! Keeps the host as it was set up while the director runs, on a thread of its own.
//!
//! ```text
//!   start > attach > keep:  each second, and when the kernel tells of a change:
//!                             devices made again > host set up again > programs attached again >
//!                             MTUs, carriers and losses read > what is new is logged, shown and announced
//!   let_go > (workers and devices end) > undo
//! ```
//! What waits for the kernel waits here: the control loop awaits nothing of it but the end, and that for a bounded
//! time.

mod health;
mod look;
mod namespace;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::unistd::{AccessFlags, access};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, warn};
use uvs_attach::Attachments;
use uvs_config::{Config, Folder};
use uvs_device::host::HostState;
use uvs_device::net::Events;

pub use health::{DeviceLosses, Health, InterfaceHealth, Role, State};
pub use look::Kept;

use crate::accelerate::{self, Attached};
use crate::clock::Clock;
use crate::{folder, setup};
use look::Look;

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon after the kernel told of a change; what comes in between is seen by the same look.
const LOOK_SOON: Duration = Duration::from_millis(50);
/// How long one look may take before it is given up.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end waits for this thread, which may be waiting for the kernel.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What the thread is asked to do.
enum Order {
    Attach(oneshot::Sender<anyhow::Result<Attached>>),
    Keep(Box<Kept>, oneshot::Sender<()>),
    LetGo(oneshot::Sender<()>),
    Undo(oneshot::Sender<anyhow::Result<()>>),
}

/// The handle of the thread. [`Self::undo`] ends it.
pub struct Keeper {
    orders: mpsc::UnboundedSender<Order>,
}

impl Keeper {
    /// Sets the host up.
    ///
    /// # Errors
    /// The host cannot be set up; what was done is undone.
    pub async fn start(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let (orders, queue) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let config = config.clone();
        // A thread is born into the network namespace of the one that starts it.
        thread::Builder::new()
            .name("host".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime.context("the runtime of the host's keeper cannot be made") {
                    Ok(runtime) => runtime.block_on(run(&config, clock, queue, ready)),
                    // Nobody listens if the director has been dropped.
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .context("thread host cannot be started")?;
        is_ready.await.context("the host's keeper died")??;
        Ok(Self { orders })
    }

    /// Attaches interfaces to their links, as far as the configuration wants that.
    ///
    /// # Errors
    /// As [`accelerate::attach`].
    pub async fn attach(&self) -> anyhow::Result<Attached> {
        self.ask(Order::Attach).await?
    }

    /// Begins to look after everything. The first look is done when this returns, or [`LOOK_TIMEOUT`] is over.
    pub async fn keep(&self, kept: Kept) {
        let looked = self.ask(|answer| Order::Keep(Box::new(kept), answer));
        if !matches!(tokio::time::timeout(LOOK_TIMEOUT, looked).await, Ok(Ok(()))) {
            error!("the kernel does not answer what the host looks like");
        }
    }

    /// Ends the looks, detaches what was attached, and gives up the devices.
    pub async fn let_go(&self) {
        if let Err(error) = self.bounded(Order::LetGo).await {
            error!("the host is looked after no more: {error:#}");
        }
    }

    /// Undoes what was done to the host.
    ///
    /// # Errors
    /// What could not be undone.
    pub async fn undo(self) -> anyhow::Result<()> {
        self.bounded(Order::Undo).await?
    }

    fn order(&self, order: Order) {
        // One that is dead says so when it is asked for an answer.
        let _ = self.orders.send(order);
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> anyhow::Result<T> {
        let (answer, answered) = oneshot::channel();
        self.order(order(answer));
        answered.await.map_err(|_| anyhow!("the thread that keeps the host has died"))
    }

    async fn bounded<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> anyhow::Result<T> {
        tokio::time::timeout(END_TIMEOUT, self.ask(order)).await.unwrap_or_else(|_| {
            Err(anyhow!("the kernel did not answer within {END_TIMEOUT:?}; the host is not as it was before"))
        })
    }
}

/// Where it is noted what is done to the host.
fn records(config: &Config) -> Option<PathBuf> {
    let usual = PathBuf::from(folder::RUN);
    let is_writable = || folder::make().is_ok() && access(&usual, AccessFlags::W_OK).is_ok();
    match (&config.host_record, std::env::var_os("STATE_DIRECTORY")) {
        (Folder::Usual, Some(state)) if !is_writable() => Some(state.into()),
        (folder, _) => folder.resolve(Some(usual)),
    }
}

async fn run(
    config: &Config,
    clock: Clock,
    mut orders: mpsc::UnboundedReceiver<Order>,
    ready: oneshot::Sender<anyhow::Result<()>>,
) {
    let records = records(config);
    let mut host = match HostState::apply_recorded(&setup::host_plan(config), records.as_deref()).await {
        Ok(host) => host,
        Err(error) => {
            // Nobody listens if the director has been dropped.
            let _ = ready.send(Err(anyhow::Error::new(error).context("the host cannot be set up")));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let mut attachments: Option<Attachments> = None;
    let mut look: Option<Look> = None;
    let mut events =
        Events::new().inspect_err(|error| warn!("changes of the host are seen a second late: {error}")).ok();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut soon: Option<Instant> = None;
    let mut first: Option<oneshot::Sender<()>> = None;
    loop {
        let told = async {
            match &mut events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        let due = async {
            match soon {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Attach(answer)) => {
                    let attached = accelerate::attach(config, clock).await.map(|(held, attached)| {
                        attachments = held;
                        attached
                    });
                    let _ = answer.send(attached.map_err(Into::into));
                    continue;
                }
                Some(Order::Keep(kept, looked)) => {
                    look = Some(Look::new(config, *kept));
                    first = Some(looked);
                }
                Some(Order::LetGo(answer)) => {
                    (look, attachments) = (None, None);
                    let _ = answer.send(());
                    continue;
                }
                Some(Order::Undo(answer)) => {
                    let _ = answer.send(host.undo().await.map_err(Into::into));
                    return;
                }
            },
            _ = tick.tick() => {}
            () = due => {}
            told = told => {
                match told {
                    Some(()) if soon.is_none() => soon = Some(Instant::now() + LOOK_SOON),
                    Some(()) => {}
                    None => events = None,
                }
                continue;
            }
        }
        soon = None;
        let Some(look) = &mut look else { continue };
        let looked = look.look(&mut host, attachments.as_mut());
        if tokio::time::timeout(LOOK_TIMEOUT, looked).await.is_err() {
            error!("the kernel did not answer within {LOOK_TIMEOUT:?} what the host looks like");
            if let Err(error) = host.reconnect() {
                error!("{error}");
            }
        }
        if let Some(looked) = first.take() {
            // Who asked may have given it up.
            let _ = looked.send(());
        }
    }
}
