//! Quorum, hysteresis and backups.

use crate::*;
use uvs_check::spec::{Amount, Quorum};

fn with_backup(count: u16, quorum: Quorum) -> ServicePlan {
    let mut service = ServicePlan { quorum, ..plain(count) };
    service.destinations.push(DestinationPlan {
        backup: true,
        weight: Some(1),
        ..destination(100, vec![tcp(100)])
    });
    service
}

fn fail(world: &mut World, hosts: impl IntoIterator<Item = u16>, answer: Answer) {
    for host in hosts {
        world.answers(host, answer.clone());
    }
    world.run(SECOND * 5);
}

#[test]
fn backups_serve_while_all_else_is_down_and_nobody_is_removed() {
    let mut world = World::new(plan([with_backup(2, Quorum::default())]));
    world.run(SECOND * 2);
    assert_eq!(world.weights([1, 2, 100]), [10, 10, 0]);
    fail(&mut world, [1], Answer::Fail);
    assert_eq!(world.weights([1, 2, 100]), [0, 10, 0]);
    fail(&mut world, [2], Answer::Fail);
    assert_eq!(world.weights([1, 2, 100]), [0, 0, 1]);
    let told = world.told();
    assert!(
        told.iter().any(|what| matches!(what, What::Quorum { held: false, weight: 0, of: 20, .. })),
        "{told:?}"
    );
    assert!(told.iter().any(|what| matches!(what, What::Backup { serves: true })), "{told:?}");
    fail(&mut world, [2], Answer::Pass);
    assert_eq!(world.weights([1, 2, 100]), [0, 10, 0]);
    assert!(world.told().iter().any(|what| matches!(what, What::Quorum { held: true, weight: 10, .. })));
}

#[test]
fn pools_are_exchanged_together_and_those_that_come_come_first() {
    let quorum = Quorum { least: Amount::Percent(50), ..Quorum::default() };
    let mut world = World::new(plan([with_backup(4, quorum)]));
    world.run(SECOND * 2);
    world.orders.clear();
    fail(&mut world, [1, 2, 3], Answer::Fail);
    assert_eq!(world.weights([1, 2, 3, 4, 100]), [0, 0, 0, 0, 1], "10 of 40 are below half");
    let position = |host: u16| world.orders.iter().position(|order| order.destination == addr(host)).unwrap();
    assert!(position(100) < position(4), "{:?}", world.orders);
    let healthy = world.orders[position(4)];
    assert_eq!(healthy.down, None, "one that is healthy keeps its connections");
}

#[test]
fn a_quorum_with_hysteresis_is_lost_below_and_regained_above() {
    let weight = |weight| Amount::Weight(weight);
    // Up when both are up, down when both are down.
    let both = Quorum { least: weight(10), hysteresis: weight(10) };
    let mut world = World::new(plan([with_backup(2, both)]));
    world.run(SECOND * 2);
    fail(&mut world, [1], Answer::Fail);
    assert_eq!(world.weights([1, 2, 100]), [0, 10, 0]);
    fail(&mut world, [2], Answer::Fail);
    assert_eq!(world.weights([1, 2, 100]), [0, 0, 1]);
    fail(&mut world, [2], Answer::Pass);
    assert_eq!(world.weights([1, 2, 100]), [0, 0, 1], "one of both is not enough to come back");
    fail(&mut world, [1], Answer::Pass);
    assert_eq!(world.weights([1, 2, 100]), [10, 10, 0]);
}

#[test]
fn what_nothing_can_reach_is_what_there_is() {
    let quorum = Quorum { least: Amount::Weight(1000), hysteresis: Amount::Weight(0) };
    let mut world = World::new(plan([with_backup(2, quorum)]));
    world.run(SECOND * 2);
    assert_eq!(world.weights([1, 2, 100]), [10, 10, 0]);
    // Nor is it lost when the service is looked at again, whatever for.
    fail(&mut world, [100], Answer::Fail);
    fail(&mut world, [100], Answer::Pass);
    assert_eq!(world.weights([1, 2, 100]), [10, 10, 0]);
}

#[test]
fn without_a_backup_a_lost_quorum_is_only_told() {
    let quorum = Quorum { least: Amount::Weight(20), hysteresis: Amount::Weight(0) };
    let mut world = World::new(plan([ServicePlan { quorum, ..plain(2) }]));
    world.run(SECOND * 2);
    fail(&mut world, [1], Answer::Fail);
    assert_eq!(world.weights([1, 2]), [0, 10]);
    assert!(world.told().iter().any(|what| matches!(what, What::Quorum { held: false, .. })));
}

#[test]
fn a_backup_that_is_down_takes_nobodys_place() {
    let quorum = Quorum { least: Amount::Weight(20), hysteresis: Amount::Weight(0) };
    let mut world = World::new(plan([with_backup(2, quorum)]));
    world.run(SECOND * 2);
    fail(&mut world, [1, 100], Answer::Fail);
    assert_eq!(world.weights([1, 2, 100]), [0, 10, 0]);
    fail(&mut world, [100], Answer::Pass);
    assert_eq!(world.weights([1, 2, 100]), [0, 0, 1]);
}

#[test]
fn nothing_is_lost_before_the_first_results() {
    let mut world = World::new(plan([with_backup(2, Quorum::default())]));
    world.answers(100, Answer::Pass);
    world.run(Duration::from_millis(1));
    assert_eq!(world.core.view()[0].quorum, None);
    world.run(SECOND * 2);
    let told = world.told();
    let is_of_pools = |what: &&What| matches!(what, What::Quorum { .. } | What::Backup { .. });
    let pools: Vec<&What> = told.iter().filter(is_of_pools).collect();
    assert!(matches!(pools[..], [What::Quorum { held: true, first: true, of: 20, .. }]), "{told:?}");
    assert_eq!(world.core.view()[0].quorum, Some(true));
    // What is known is not told again.
    world.apply(plan([with_backup(3, Quorum::default())]));
    world.run(SECOND * 2);
    assert!(!world.told().iter().any(|what| is_of_pools(&what)));
}
