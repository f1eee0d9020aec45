//! Priorities that follow what is tracked.

use uvs_ha::vrrp::Reason;

use crate::*;

fn tracking(priority: u8, track: Vec<TrackPlan>) -> Node {
    let mut node = Node::new(plan([RouterPlan { track, ..router("a", priority) }]));
    node.outputs.clear();
    node
}

impl Node {
    fn told(&mut self, name: &str, up: bool) -> (State, u8) {
        self.vrrp.track(name, up, self.now);
        self.collect();
        let view = &self.vrrp.view()[0];
        (view.state, view.priority)
    }
}

#[test]
fn weights_are_added_while_up_and_taken_off_while_down() {
    let reversed = TrackPlan { reverse: true, ..track("backup link", -5) };
    let unknown = TrackPlan { presumed_up: false, ..track("late", 40) };
    let mut node = tracking(100, vec![track("web", 20), track("link", -30), reversed, unknown]);
    let backup = State::Backup;
    assert_eq!(node.vrrp.view()[0].priority, 115, "up until told otherwise, and one of them reversed");
    assert_eq!(node.told("web", true), (backup, 115));
    assert_eq!(node.told("web", false), (backup, 95));
    assert_eq!(node.told("link", false), (backup, 65));
    assert_eq!(node.told("backup link", false), (backup, 70));
    assert_eq!(node.told("late", true), (backup, 110));
    assert_eq!(node.told("nobody follows it", false), (backup, 110));
    let events = node.events();
    assert_eq!(events.len(), 4, "{events:?}");
}

#[test]
fn priorities_stay_between_1_and_254_and_the_owners_is_its_own() {
    let mut node = tracking(10, vec![track("a", -253), track("b", 253)]);
    assert_eq!(node.told("b", true), (State::Backup, 254));
    assert_eq!(node.told("b", false), (State::Backup, 10));
    assert_eq!(node.told("a", false), (State::Backup, 1));
    let mut node = tracking(255, vec![track("a", -253), track("link", 0)]);
    assert_eq!(node.told("a", false), (State::Active, 255));
    assert_eq!(node.told("link", false), (State::Initialize, 255));
    assert_eq!(node.told("link", true), (State::Active, 255));
}

#[test]
fn without_what_it_needs_a_node_takes_no_part() {
    let mut node = tracking(100, vec![track("eth0", 0), track("eth1", 0)]);
    node.run(ms(4000));
    node.outputs.clear();
    assert_eq!(node.told("eth0", false), (State::Initialize, 100));
    assert_eq!(node.done(), ["a sends 0", "a disowns 10.0.0.100", "INSTANCE a FAULT 100"]);
    node.hear(LOWER, &advert(50));
    node.run(ms(60_000));
    assert_eq!(node.told("eth1", false), (State::Initialize, 100));
    assert_eq!(node.told("eth0", true), (State::Initialize, 100));
    assert_eq!(node.vrrp.view()[0].reason, Reason::Fault { tracked: "eth1".into() });
    assert_eq!(node.done(), Vec::<String>::new(), "that it is another is no news for programs");
    assert_eq!(node.told("eth1", true), (State::Backup, 100));
    assert_eq!(node.vrrp.view()[0].reason, Reason::Recovered);
    assert_eq!(node.takes_over_in(), 3609, "a whole interval");
}

#[test]
fn a_timer_that_runs_goes_with_the_priority() {
    let mut node = tracking(100, vec![track("web", 100)]);
    assert_eq!(node.vrrp.view()[0].priority, 200);
    node.run(ms(1000));
    assert_eq!(node.told("web", false), (State::Backup, 100));
    assert_eq!(node.takes_over_in(), 2609);
}

#[test]
fn a_backup_that_became_better_takes_over_and_an_active_node_that_became_worse_lets_go() {
    let mut node = tracking(100, vec![track("web", 100)]);
    node.told("web", false);
    for _ in 0..4 {
        node.hear(LOWER, &advert(150));
        node.run(ms(1000));
    }
    assert_eq!(node.state(), State::Backup);
    node.told("web", true);
    for _ in 0..4 {
        node.hear(LOWER, &advert(150));
        node.run(ms(1000));
    }
    assert_eq!(node.state(), State::Active);
    node.told("web", false);
    node.hear(LOWER, &advert(150));
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn what_members_of_a_group_follow_together_counts_once() {
    let mut both = crate::groups::pair(100);
    both.groups[0].track = vec![track("web", -20)];
    both.routers.iter_mut().for_each(|router| router.track = vec![track("web", -20)]);
    let mut node = Node::new(both);
    assert_eq!(node.told("web", false), (State::Backup, 80));
}
