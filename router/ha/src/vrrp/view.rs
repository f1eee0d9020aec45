//! What people are shown.

use core::time::Duration;
use std::sync::Arc;

use super::Vrrp;
use super::group::Group;
use super::output::{Reason, State};
use super::router::{Counters, Heard, Router};
use crate::plan::{Key, RouterPlan};

/// A sync group, or a virtual router that is in none.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is a sync group.
    pub named: bool,
    /// What it is.
    pub state: State,
    /// For how long.
    pub held: Duration,
    /// Why.
    pub reason: Reason,
    /// What it would advertise: 1 to 255.
    pub priority: u8,
    /// What is configured.
    pub configured_priority: u8,
    /// What is down of that without which it takes no part.
    pub fault: Option<Arc<str>>,
    /// Somebody asked for maintenance.
    pub maintenance: bool,
    /// Somebody asked for a failover: it does not preempt.
    pub yielded: bool,
    /// Its members.
    pub routers: Vec<RouterView>,
}

/// A virtual router.
#[derive(Clone, Debug)]
pub struct RouterView {
    /// Its name.
    pub name: Arc<str>,
    /// Interface, family and VRID.
    pub key: Key,
    /// How it is configured.
    pub plan: RouterPlan,
    /// Active_Down_Interval.
    pub down_interval: Duration,
    /// Backup: in how long it takes over, if it hears nothing until then.
    pub takes_over_in: Option<Duration>,
    /// The last advertisement that was taken, and how old it is.
    pub heard: Option<(Heard, Duration)>,
    /// The last one of each sender, of a few that were heard last, and how old it is; the latest first.
    pub heard_of: Vec<(Heard, Duration)>,
    /// Advertisements of that router that did not come since.
    pub missed: u64,
    /// What was counted.
    pub counters: Counters,
}

impl Vrrp {
    /// All groups, as of the last call.
    pub fn view(&self) -> Vec<GroupView> {
        self.groups.iter().map(|group| self.view_group(group)).collect()
    }

    /// The state of a sync group, or of a virtual router.
    pub fn state(&self, name: &str) -> Option<State> {
        let is_it = |group: &&Group| {
            *group.name == *name || group.routers.iter().any(|router| *router.plan.name == *name)
        };
        self.groups.iter().find(is_it).map(|group| group.state)
    }

    fn view_group(&self, group: &Group) -> GroupView {
        GroupView {
            name: Arc::clone(&group.name),
            named: group.named,
            state: group.state,
            held: self.clock.now().since(group.since),
            reason: group.reason.clone(),
            priority: group.priority,
            configured_priority: group.routers.first().map_or(group.priority, |first| first.plan.priority),
            fault: group.fault.clone(),
            maintenance: group.maint,
            yielded: group.yielded,
            routers: group.routers.iter().map(|router| self.view_router(group, router)).collect(),
        }
    }

    fn view_router(&self, group: &Group, router: &Router) -> RouterView {
        let now = self.clock.now();
        let heard = router.heard.map(|heard| (heard, now.since(heard.at)));
        let missed = heard.map_or(0, |(heard, age)| {
            let missed = age.as_nanos() / heard.interval.duration().as_nanos().max(1);
            u64::try_from(missed).unwrap_or(u64::MAX)
        });
        let mut heard_of: Vec<(Heard, Duration)> =
            router.heard_of.iter().map(|heard| (*heard, now.since(heard.at))).collect();
        heard_of.sort_by_key(|(_, age)| *age);
        let takes_over = router.down.filter(|_| group.state == State::Backup);
        RouterView {
            name: Arc::clone(&router.plan.name),
            key: router.plan.key(),
            plan: router.plan.clone(),
            down_interval: router.down_interval(group.priority),
            takes_over_in: takes_over.map(|at| at.since(now)),
            heard,
            heard_of,
            missed,
            counters: router.counters.clone(),
        }
    }
}
