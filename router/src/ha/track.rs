//! What priorities follow, but for links, which the keeper of the host tells: services, scripts, and whether this
//! director gets frames through at all. On a thread of its own: a script may take its time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};
use uvs_check::program;
use uvs_config::{TrackScript, Tracked, TrackedWhat, Vrrp};
use uvs_director::spec::ServiceKey;

use super::core::DATA_PLANE;

/// What is seen of the director, and who hears of it.
pub trait Sight: Send + Sync {
    /// Whether a worker has made no progress for long.
    fn is_stuck(&self) -> bool;
    /// Whether a service has its quorum; `None`: its checks do not answer.
    fn has_quorum(&self, key: ServiceKey) -> Option<bool>;
    /// The state of something that priorities follow.
    fn tell(&self, name: &str, up: bool);
}

/// How often services and the data plane are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The thread. It ends when this is dropped, and its programs with it.
pub(super) struct Watcher(#[allow(dead_code, reason = "its end is the message")] oneshot::Sender<()>);

impl Watcher {
    /// Follows what that says.
    ///
    /// # Errors
    /// The host has no thread for it.
    pub(super) fn start(wanted: &Vrrp, sight: Weak<dyn Sight>) -> anyhow::Result<Self> {
        let is_followed = |name: &str| {
            let routers = &wanted.plan.routers;
            routers.iter().any(|router| router.track.iter().any(|track| *track.name == *name))
        };
        let followed: Vec<&Tracked> = wanted.tracked.iter().filter(|it| is_followed(&it.name)).collect();
        let service = |it: &&Tracked| match it.what {
            TrackedWhat::Service(key) => Some((Arc::clone(&it.name), key)),
            _ => None,
        };
        let script = |it: &&Tracked| match &it.what {
            TrackedWhat::Script(name) => {
                let script = wanted.scripts.iter().find(|script| script.name == *name)?;
                Some((Arc::clone(&it.name), script.clone()))
            }
            _ => None,
        };
        let services: Vec<(Arc<str>, ServiceKey)> = followed.iter().filter_map(service).collect();
        let scripts: Vec<(Arc<str>, TrackScript)> = followed.iter().filter_map(script).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("the runtime of what virtual routers follow cannot be made")?;
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    // Told to stop: its other end is gone.
                    _ = stopped => {}
                    () = watch(services, scripts, sight) => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("vrrp-track".to_owned()).spawn(run);
        thread.context("thread vrrp-track cannot be started")?;
        Ok(Self(stop))
    }
}

async fn watch(
    services: Vec<(Arc<str>, ServiceKey)>,
    scripts: Vec<(Arc<str>, TrackScript)>,
    sight: Weak<dyn Sight>,
) {
    let mut runs = JoinSet::new();
    for (name, script) in scripts {
        runs.spawn(follow(name, script, Weak::clone(&sight)));
    }
    let mut beat = interval(LOOK_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let Some(sight) = sight.upgrade() else { return };
        sight.tell(DATA_PLANE, !sight.is_stuck());
        for (name, key) in &services {
            // While the checks do not answer, what they said last counts.
            if let Some(up) = sight.has_quorum(*key) {
                sight.tell(name, up);
            }
        }
    }
}

/// Runs a script for as long as the director lives.
async fn follow(name: Arc<str>, script: TrackScript, sight: Weak<dyn Sight>) {
    let mut beat = interval(script.interval);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judge = Judge::new(&script);
    loop {
        beat.tick().await;
        let (passed, text) = run(&script).await;
        let before = judge.up;
        let up = judge.hear(passed);
        if before != up {
            match up {
                true => info!(script = %script.name, "{text}: it counts as up"),
                false => warn!(script = %script.name, "{text}: it counts as down"),
            }
        }
        let Some(sight) = sight.upgrade() else { return };
        sight.tell(&name, up);
    }
}

/// Results in a row make a state.
struct Judge {
    up: bool,
    against: u32,
    rise: u32,
    fall: u32,
}

impl Judge {
    fn new(script: &TrackScript) -> Self {
        Self { up: !script.init_fail, against: 0, rise: script.rise, fall: script.fall }
    }

    fn hear(&mut self, passed: bool) -> bool {
        self.against = if passed == self.up { 0 } else { self.against + 1 };
        if self.against >= if self.up { self.fall } else { self.rise } {
            (self.up, self.against) = (passed, 0);
        }
        self.up
    }
}

async fn run(script: &TrackScript) -> (bool, String) {
    let environment = [("UVS_VRRP_SCRIPT", &*script.name)];
    let program = match program::start(&script.command, script.user.as_ref(), environment) {
        Ok(program) => program,
        Err(why) => return (false, why),
    };
    match timeout(script.timeout, program.end()).await {
        Ok(Ok(ended)) => (ended.status.success(), ended.text()),
        Ok(Err(error)) => (false, format!("it cannot be waited for: {error}")),
        Err(_) => (false, format!("no end within {:?}, and killed", script.timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_results_in_a_row_make_a_state() {
        let mut judge = Judge { up: true, against: 0, rise: 2, fall: 3 };
        let heard: Vec<bool> = [false, false, true, false, false, false, true, false, true, true]
            .map(|passed| judge.hear(passed))
            .to_vec();
        assert_eq!(heard, [true, true, true, true, true, false, false, false, false, true]);
    }
}
