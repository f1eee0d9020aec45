//! VIPs told to routers (`[announce]`): a route of the host's kernel for each that is fit, which a routing daemon
//! passes on.
//!
//! ```text
//!   thread "announce", four times a second, and when somebody says so:
//!     VIPs of services > fit? (fit.rs: switched on, data plane, interface, services) > route added, kept or taken away
//! ```
//! Here is what others see of it; the thread is in `thread.rs`. The routes are bound to the director's device, so that
//! they go with its process. What waits for the kernel waits in that thread, which there is from the first
//! configuration on that has `[announce]`.

mod fit;
pub mod thread;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::error;
use uvs_config::Config;
use uvs_control::announce as said;
use uvs_device::net::VipRoute;
use uvs_director::Instant;

/// How long the kernel may take for all of one look, and how long others wait for a look.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is announced, and whether it may be.
#[derive(Debug, Default)]
pub struct Announcements {
    state: Mutex<State>,
    /// The thread has something to do.
    wake: Notify,
    /// It has done it.
    looked: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The thread is there.
    started: bool,
    /// Somebody wants nothing to be announced: who.
    off: Option<String>,
    /// The director ends.
    ending: bool,
    /// So many looks are over.
    looks: u64,
    vips: BTreeMap<IpAddr, Told>,
    counts: Counts,
}

/// What has happened to VIPs since the director started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// One was announced.
    pub announced: u64,
    /// One was withdrawn.
    pub withdrawn: u64,
    /// The kernel refused a route, or to take it away.
    pub failed: u64,
}

/// What `/metrics` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each VIP, its device, and whether it is announced.
    pub vips: Vec<(String, String, bool)>,
    /// What has happened.
    pub counts: Counts,
}

/// How it stands with one VIP.
#[derive(Clone, Debug)]
struct Told {
    /// What the kernel has.
    route: Option<VipRoute>,
    device: String,
    /// Since when it is announced, or is not.
    since: Instant,
    /// Since when it is fit to be announced.
    fit_since: Option<Instant>,
    /// It was announced once, and withdrawn for it was not fit.
    unfit_before: bool,
    /// Why it is not announced.
    reason: Option<String>,
}

impl Announcements {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands, for people.
    pub fn answer(&self, config: &Config, now: Instant) -> said::Answer {
        let state = self.state();
        let vips = state.vips.iter().map(|(vip, told)| said::Vip {
            vip: vip.to_string(),
            device: told.device.clone(),
            announced: told.route.is_some(),
            since_s: now.since(told.since).as_secs_f64(),
            reason: told.reason.clone(),
        });
        said::Answer {
            configured: config.announce.is_some(),
            off_by: state.off.clone(),
            vips: vips.collect(),
        }
    }

    /// The same for `/metrics`; nothing where nothing was ever to be announced.
    pub fn report(&self) -> Option<Report> {
        let state = self.state();
        let vips =
            state.vips.iter().map(|(vip, told)| (vip.to_string(), told.device.clone(), told.route.is_some()));
        state.started.then(|| Report { vips: vips.collect(), counts: state.counts })
    }

    /// Announces nothing any more (`off`: who wants that), or again, and waits until that is done; not for long.
    pub async fn switch(&self, off: Option<String>) {
        let looks = {
            let mut state = self.state();
            state.off = off;
            state.looks
        };
        self.wait_for(looks + 2).await;
    }

    /// Withdraws everything for good. True: something was announced.
    async fn end(&self) -> bool {
        let (looks, any) = {
            let mut state = self.state();
            if !state.started {
                return false;
            }
            state.ending = true;
            (state.looks, state.vips.values().any(|told| told.route.is_some()))
        };
        self.wait_for(looks + 2).await;
        any
    }

    /// Waits until so many looks are over: one of them has begun by now, the next sees what is wanted now.
    async fn wait_for(&self, looks: u64) {
        let wait = async {
            loop {
                let mut looked = std::pin::pin!(self.looked.notified());
                looked.as_mut().enable();
                self.wake.notify_one();
                if self.state().looks >= looks {
                    return;
                }
                looked.await;
            }
        };
        if tokio::time::timeout(2 * PATIENCE, wait).await.is_err() {
            error!("the kernel does not answer about the routes of VIPs");
        }
    }
}
