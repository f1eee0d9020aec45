//! The thread that looks at VIPs, and adds and takes away routes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tracing::{error, info, warn};
use uvs_device::net::{Net, VipRoute};
use uvs_director::Instant;

use super::fit::{self, Wish};
use super::{Counts, PATIENCE, Told};
use crate::pages::Live;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Each of so many looks sees to it that the routes are still there.
const KEEP_EVERY: u64 = 4;

/// Takes up what the configuration in force says. Call it in the network namespace of the director.
pub fn follow(live: &Arc<Live>) {
    live.announce.wake.notify_one();
    let mut state = live.announce.state();
    if state.started || live.config().announce.is_none() {
        return;
    }
    let of_thread = Arc::clone(live);
    let started = thread::Builder::new().name("announce".to_owned()).spawn(move || {
        if let Err(error) = run(&of_thread) {
            error!("no VIP is announced: {error:#}");
        }
    });
    match started {
        Ok(_) => state.started = true,
        Err(error) => error!("no VIP is announced, for thread announce cannot be started: {error}"),
    }
}

/// Withdraws all VIPs, and where there were any waits until routers have heard of it, as the configuration says, if
/// `linger`.
pub async fn end(live: &Live, linger: bool) {
    let any = live.announce.end().await;
    if let Some(announce) = live.config().announce.as_ref().filter(|_| any && linger) {
        tokio::time::sleep(announce.linger).await;
    }
}

fn run(live: &Live) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("its runtime cannot be made")?.block_on(async {
        let mut look = Look { net: Net::new()?, vips: BTreeMap::new(), counts: Counts::default() };
        for number in 0.. {
            let (off, ending) = {
                let state = live.announce.state();
                (state.off.clone(), state.ending)
            };
            let stop = match off {
                _ if ending => Some("the director ends".to_owned()),
                off => off.map(|by| format!("switched off by {by}")),
            };
            if tokio::time::timeout(PATIENCE, look.look(live, stop, number % KEEP_EVERY == 0)).await.is_err()
            {
                error!("the kernel did not answer within {PATIENCE:?} about the routes of VIPs");
                look.net = Net::new()?;
            }
            {
                let mut state = live.announce.state();
                // There will be no other than this, which knew of the end.
                state.looks += if ending { 2 } else { 1 };
                state.vips.clone_from(&look.vips);
                state.counts = look.counts;
            }
            live.announce.looked.notify_waiters();
            if ending {
                break;
            }
            let _ = tokio::time::timeout(LOOK, live.announce.wake.notified()).await;
        }
        Ok(())
    })
}

/// What the thread knows.
struct Look {
    net: Net,
    vips: BTreeMap<IpAddr, Told>,
    counts: Counts,
}

impl Look {
    /// `stop`: why nothing is to be announced. `keep`: sees to it that what was announced still is.
    async fn look(&mut self, live: &Live, stop: Option<String>, keep: bool) {
        let config = live.config();
        let now = live.clock.now();
        let hold = config.announce.as_ref().map_or(Duration::ZERO, |announce| announce.hold);
        let stopped = stop.is_some();
        let wishes = fit::wishes(live, &config, stop.as_deref());
        let gone: Vec<IpAddr> = self.vips.keys().filter(|vip| !wishes.contains_key(vip)).copied().collect();
        for vip in gone {
            if self.withdraw(vip, "it is none of those that are announced", true, now).await {
                self.vips.remove(&vip);
            }
        }
        for (vip, Wish { device, fit }) in wishes {
            let told = self.vips.entry(vip).or_insert_with(|| Told {
                route: None,
                device: String::new(),
                since: now,
                fit_since: None,
                unfit_before: false,
                reason: None,
            });
            told.device = device;
            match fit {
                Err(reason) => {
                    told.fit_since = None;
                    self.withdraw(vip, &reason, stopped, now).await;
                    let told = self.vips.get_mut(&vip).expect("it is there");
                    if stopped {
                        // Whoever switches it on again means it.
                        told.unfit_before = false;
                    }
                    told.reason = Some(reason);
                }
                Ok(route) => {
                    let fit_for = now.since(*told.fit_since.get_or_insert(now));
                    if told.route.is_none() && told.unfit_before && fit_for < hold {
                        let left = (hold - fit_for).as_secs_f64().ceil();
                        told.reason = Some(format!("it is fit again, and announced in {left} s"));
                    } else if told.route.as_ref() != Some(&route) || keep {
                        self.announce(vip, route, now).await;
                    }
                }
            }
        }
    }

    /// Adds the route, or sees that it is there, and takes away the one before if that was another.
    async fn announce(&mut self, vip: IpAddr, route: VipRoute, now: Instant) {
        let told = self.vips.get_mut(&vip).expect("it is there");
        let is_known = told.route.as_ref() == Some(&route);
        match self.net.add_vip_route(&route, is_known).await {
            Ok(added) => {
                let before = told.route.replace(route);
                if before.is_none() {
                    (told.since, told.reason) = (now, None);
                    self.counts.announced += 1;
                    info!(%vip, device = told.device, "VIP announced");
                } else if is_known && added {
                    warn!(%vip, device = told.device, "the route that announces the VIP was gone, and is there again");
                }
                if let Some(before) = before.filter(|_| !is_known)
                    && let Err(error) = self.net.remove_vip_route(&before).await
                {
                    self.counts.failed += 1;
                    warn!(%vip, "{error}");
                }
            }
            Err(error) => {
                self.counts.failed += 1;
                let reason = error.to_string();
                if told.reason.as_ref() != Some(&reason) {
                    warn!(%vip, "VIP not announced: {reason}");
                }
                // A device that is away took the route with it.
                if told.route.take().is_some() {
                    told.since = now;
                }
                told.reason = Some(reason);
            }
        }
    }

    /// Takes the route away, if there is one; false: the kernel refused, and it is tried again. `meant`: somebody wants
    /// that.
    async fn withdraw(&mut self, vip: IpAddr, why: &str, meant: bool, now: Instant) -> bool {
        let Some(told) = self.vips.get_mut(&vip) else { return true };
        let Some(route) = &told.route else { return true };
        if let Err(error) = self.net.remove_vip_route(route).await {
            self.counts.failed += 1;
            warn!(%vip, "{error}");
            return false;
        }
        (told.route, told.since, told.unfit_before) = (None, now, true);
        self.counts.withdrawn += 1;
        match meant {
            true => info!(%vip, device = told.device, "VIP withdrawn: {why}"),
            false => warn!(%vip, device = told.device, "VIP withdrawn: {why}"),
        }
        true
    }
}
