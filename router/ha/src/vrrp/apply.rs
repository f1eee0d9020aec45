//! Another plan: virtual routers that are known already keep their state. Nothing leaves and comes back for a change of
//! addresses, priorities or timers.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::Arc;

use super::Vrrp;
use super::group::{Group, Scene};
use super::output::{Output, Reason, State};
use super::router::Router;
use crate::plan::{GroupPlan, Key, Plan, PlanError, RouterPlan, TrackPlan};
use uvs_director::Instant;

/// What a virtual router brings along from before.
struct Known {
    router: Router,
    state: State,
    since: Instant,
    reason: Reason,
    priority: u8,
    maint: bool,
    yielded: bool,
}

impl Vrrp {
    /// Has these virtual routers from now on. Those of the same interface, family and VRID keep their state, their
    /// timers, and what they have heard and counted; so do groups of which at least one member is known. Where members
    /// of a new group were in different states, all are Backup.
    ///
    /// # Errors
    /// What is wrong with the plan. Then all is as it was.
    pub fn apply(&mut self, plan: Plan, now: Instant) -> Result<(), PlanError> {
        plan.check()?;
        let now = self.arrive(now);
        let mut before: HashMap<Key, Known> = HashMap::new();
        for group in core::mem::take(&mut self.groups) {
            let Group { state, since, reason, priority, maint, yielded, routers, .. } = group;
            for router in routers {
                let reason = reason.clone();
                let known = Known { router, state, since, reason, priority, maint, yielded };
                before.insert(known.router.plan.key(), known);
            }
        }
        let ready = self.snapshot == super::Snapshot::Settled;
        let mut scene = Scene { now, ready, out: &mut self.outputs };
        let mut plans: Vec<Option<RouterPlan>> = plan.routers.into_iter().map(Some).collect();
        for group in plan.groups {
            let GroupPlan { name, members, track } = group;
            let is_member = |plan: &&mut Option<RouterPlan>, name: &Arc<str>| {
                plan.as_ref().is_some_and(|plan| plan.name == *name)
            };
            let members: Vec<RouterPlan> = members
                .iter()
                .filter_map(|name| plans.iter_mut().find(|plan| is_member(plan, name))?.take())
                .collect();
            self.groups.push(regroup(name, true, members, track, &mut before, &mut scene));
        }
        for plan in plans.into_iter().flatten() {
            let name = Arc::clone(&plan.name);
            self.groups.push(regroup(name, false, vec![plan], Vec::new(), &mut before, &mut scene));
        }
        let mut gone: Vec<Known> = before.into_values().collect();
        gone.sort_by(|a, b| a.router.plan.name.cmp(&b.router.plan.name));
        for known in gone {
            let mut group = alone(known);
            group.leave(State::Initialize, Reason::Removed, &mut scene);
        }
        self.by_vrid.clear();
        for (index, group) in self.groups.iter().enumerate() {
            for (at, router) in group.routers.iter().enumerate() {
                let Key { family, vrid, .. } = router.plan.key();
                self.by_vrid.entry((family, vrid)).or_default().push((index, at));
            }
        }
        let groups = &self.groups;
        let is_used = |name: &Arc<str>| {
            let of = |tracks: &[TrackPlan]| tracks.iter().any(|track| track.name == *name);
            groups
                .iter()
                .any(|group| of(&group.track) || group.routers.iter().any(|router| of(&router.plan.track)))
        };
        self.tracked.retain(|name, _| is_used(name));
        self.judge_all(now);
        Ok(())
    }
}

/// A group of one that was in another before.
fn alone(known: Known) -> Group {
    let name = Arc::clone(&known.router.plan.name);
    let mut group = Group::new(name, false, vec![known.router], Vec::new());
    (group.state, group.since, group.reason) = (known.state, known.since, known.reason);
    (group.priority, group.maint, group.yielded) = (known.priority, known.maint, known.yielded);
    group
}

fn regroup(
    name: Arc<str>,
    named: bool,
    plans: Vec<RouterPlan>,
    track: Vec<TrackPlan>,
    before: &mut HashMap<Key, Known>,
    scene: &mut Scene<'_>,
) -> Group {
    let mut states: Vec<State> = Vec::new();
    let mut first: Option<Group> = None;
    let mut routers: Vec<(Router, Option<RouterPlan>)> = Vec::new();
    let mut maint = false;
    for plan in plans {
        let Some(known) = before.remove(&plan.key()) else {
            routers.push((Router::new(plan), None));
            continue;
        };
        states.push(known.state);
        maint |= known.maint;
        let mut group = alone(known);
        let Some(router) = group.routers.pop() else { continue };
        routers.push((router, Some(plan)));
        first.get_or_insert(group);
    }
    let is_mixed = states.iter().any(|state| *state != states[0]);
    let mut group = Group::new(name, named, Vec::new(), track);
    if let Some(first) = first {
        (group.state, group.since, group.reason) = (first.state, first.since, first.reason);
        (group.priority, group.maint, group.yielded) = (first.priority, maint, first.yielded);
    }
    if is_mixed {
        // Those that are Active let go, whatever the first is.
        let known = routers.iter_mut().filter(|(_, plan)| plan.is_some());
        for ((router, _), state) in known.zip(&states) {
            if *state == State::Active {
                router.send(crate::wire::LEAVING, scene.now, scene.out);
                router.disown(scene.out);
            }
        }
        group.state = State::Initialize;
        group.reason = Reason::Regrouped;
    }
    for (mut router, plan) in routers {
        match plan {
            Some(plan) => replan(&mut router, plan, &group, scene),
            None if group.state == State::Active => {
                router.send(group.priority, scene.now, scene.out);
                router.own(scene.now, scene.out);
            }
            None => router.become_backup(group.priority, scene.now),
        }
        group.routers.push(router);
    }
    group
}

/// Gives a virtual router that is known another plan.
fn replan(router: &mut Router, plan: RouterPlan, group: &Group, scene: &mut Scene<'_>) {
    let addresses = router.addresses();
    let advertised = |plan: &RouterPlan| {
        (plan.addresses.clone(), plan.interval, plan.priority, plan.version, plan.source, plan.peers.clone())
    };
    let told = advertised(&router.plan);
    let down = router.down_interval(group.priority);
    let renamed = (router.plan.name != plan.name).then(|| Arc::clone(&router.plan.name));
    router.plan = plan;
    router.sort();
    match group.state {
        State::Initialize => {}
        State::Backup => {
            // What it has listened already counts.
            let interval = router.down_interval(group.priority);
            if let Some(at) = router.down.filter(|_| router.left.is_none()) {
                router.down = Some(scene.now + (at.since(scene.now) + interval).saturating_sub(down));
            }
        }
        State::Active => {
            let wanted = router.addresses();
            let without = |these: &[IpAddr], those: &[IpAddr]| -> Vec<IpAddr> {
                these.iter().filter(|ip| !those.contains(ip)).copied().collect()
            };
            let (gone, new) = match &renamed {
                // Whoever keeps them by name moves all of them.
                Some(_) => (addresses, wanted),
                None => (without(&addresses, &wanted), without(&wanted, &addresses)),
            };
            if advertised(&router.plan) != told {
                router.send(group.priority, scene.now, scene.out);
            }
            let name = Arc::clone(&router.plan.name);
            if !new.is_empty() {
                scene.out.push(Output::Own { router: Arc::clone(&name), addresses: new });
                router.announcer.start(router.plan.announce, scene.now);
                router.announce(scene.now, scene.out);
            }
            if !gone.is_empty() {
                scene.out.push(Output::Disown { router: renamed.unwrap_or(name), addresses: gone });
            }
        }
    }
}
