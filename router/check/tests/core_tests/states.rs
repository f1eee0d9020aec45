//! The states of a check and of its destination.

use crate::*;
use uvs_check::spec::{Policy, Unmade};

#[test]
fn nothing_is_in_service_before_its_first_result_unless_it_may_be() {
    for start_up in [false, true] {
        let policy = Policy { start_up, ..Policy::default() };
        let world = World::new(plan([ServicePlan { policy, ..plain(1) }]));
        assert_eq!(world.state(80, 1), State::Unchecked);
        assert_eq!(world.weight(80, 1), if start_up { 10 } else { 0 });
    }
}

#[test]
fn the_first_result_decides_and_comes_at_once() {
    for (answer, state, weight) in [(Answer::Pass, State::Up, 10), (Answer::Fail, State::Down, 0)] {
        for start_up in [false, true] {
            let policy = Policy { start_up, ..Policy::default() };
            let mut world = World::new(plan([ServicePlan { policy, ..plain(1) }]));
            world.answers(1, answer.clone());
            world.run(Duration::from_millis(20));
            assert_eq!((world.state(80, 1), world.weight(80, 1)), (state, weight), "{start_up}");
        }
    }
}

#[test]
fn it_goes_down_within_fall_intervals_and_comes_back_after_rise() {
    let mut world = World::new(plan([plain(1)]));
    world.run(Duration::from_millis(5500));
    assert_eq!(world.weight(80, 1), 10);
    world.answers(1, Answer::Fail);
    let dead = world.now;
    world.told();
    // Half a second to the next probe, two more of them, and what it takes.
    world.run(Duration::from_millis(2400));
    assert_eq!(world.weight(80, 1), 10, "two failures are not enough");
    world.run_until(dead + 3 * SECOND + SCHEDULE.timeout);
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Down, 0));
    let told = world.told();
    assert!(
        matches!(
            &told[..],
            [
                What::Check { from: State::Up, to: State::Down, reason, .. },
                What::Destination { in_service: false, reason: why, .. },
                What::Quorum { held: false, weight: 0, of: 10, first: false },
            ] if reason == "refused" && why == "check tcp is down: refused"
        ),
        "{told:?}"
    );
    assert!(world.orders.last().is_some_and(|order| order.down.is_some()));

    world.answers(1, Answer::Pass);
    world.run(Duration::from_millis(900));
    assert_eq!(world.weight(80, 1), 0, "one success is not enough");
    world.run(SECOND);
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Up, 10));
}

#[test]
fn what_cannot_be_made_is_neither_up_nor_down_and_is_told() {
    for (unmade, weight) in [(Unmade::Keep, 10), (Unmade::Down, 0)] {
        let check = CheckPlan { unmade, ..tcp(1) };
        let mut world = World::new(plan([service(80, vec![destination(1, vec![check])])]));
        world.run(SECOND * 3);
        assert_eq!(world.weight(80, 1), 10);
        world.told();
        world.answers(1, Answer::Unmade);
        world.run(SECOND * 3);
        assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Unmade, weight));
        let told = world.told();
        assert!(
            matches!(&told[0], What::Check { to: State::Unmade, reason, .. } if reason == "no route"),
            "{told:?}"
        );
        world.answers(1, Answer::Pass);
        world.run(SECOND * 20);
        assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Up, 10));
    }
}

#[test]
fn what_could_never_be_made_does_not_come_into_service() {
    let mut world = World::new(plan([plain(1)]));
    world.answers(1, Answer::Unmade);
    world.run(SECOND * 60);
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Unmade, 0));
    let tries = world.probed.len();
    assert!((6..12).contains(&tries), "and is tried ever less often: {tries}");
}

#[test]
fn all_checks_of_a_destination_have_to_be_up() {
    let second = check_of("other", probe(Kind::Tcp(Talk::default()), 2));
    let mut world = World::new(plan([service(80, vec![destination(1, vec![tcp(1), second])])]));
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 10);
    world.answers(2, Answer::Fail);
    world.run(SECOND * 4);
    assert_eq!(world.weight(80, 1), 0);
}

#[test]
fn flaps_are_damped_but_the_last_one_is_never_held() {
    let mut world = World::new(plan([plain(2)]));
    world.run(SECOND);
    let flap = |world: &mut World, host: u16| {
        world.answers(host, Answer::Fail);
        world.run(SECOND * 4);
        world.answers(host, Answer::Pass);
        world.run(SECOND * 3);
    };
    for _ in 0..3 {
        flap(&mut world, 1);
    }
    assert_eq!(world.state(80, 1), State::Up);
    assert_eq!(world.weights(1..=2), [0, 10], "its check is up, and it is held");
    assert!(world.told().iter().any(|what| matches!(what, What::Held { .. })));

    world.answers(2, Answer::Fail);
    world.run(SECOND * 4);
    assert_eq!(world.weights(1..=2), [10, 0], "a server that flaps is better than none");
    world.answers(2, Answer::Pass);
    world.run(SECOND * 4);
    assert_eq!(world.weights(1..=2), [0, 10]);
    world.run(SECOND * 180);
    assert_eq!(world.weights(1..=2), [10, 10], "and let go after a while");
}

#[test]
fn a_weight_grows_after_a_recovery_and_not_at_the_start() {
    let policy = Policy { slow_start: SECOND * 10, ..Policy::default() };
    let mut service = ServicePlan { policy, ..plain(1) };
    service.destinations[0].weight = Some(100);
    let mut world = World::new(plan([service]));
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 100);
    world.answers(1, Answer::Fail);
    world.run(SECOND * 4);
    world.answers(1, Answer::Pass);
    world.run(SECOND * 2);
    let mut last = 0;
    let mut seen = Vec::new();
    for _ in 0..12 {
        world.run(SECOND);
        let weight = world.weight(80, 1);
        assert!(weight >= last);
        last = weight;
        seen.push(weight);
    }
    assert!(seen[0] < 30 && (40..60).contains(&seen[4]), "{seen:?}");
    assert_eq!(last, 100);
}

#[test]
fn in_maintenance_nothing_is_probed() {
    let mut world = World::new(plan([plain(2)]));
    world.run(SECOND * 2);
    let index = world.core.find(&key(80), addr(1)).unwrap();
    let maint = |world: &mut World, admin| {
        assert!(world.core.edit(index, uvs_check::core::Edit::Admin(admin), world.now));
    };
    maint(&mut world, uvs_check::weight::Admin::Maint);
    world.run(SECOND);
    assert_eq!(world.weights(1..=2), [0, 10]);
    world.probed.clear();
    world.run(SECOND * 5);
    assert!(world.probed.iter().all(|(_, host)| *host == 2), "{:?}", world.probed);
    maint(&mut world, uvs_check::weight::Admin::Drain);
    world.run(SECOND * 2);
    assert!(world.probed.iter().any(|(_, host)| *host == 1), "who is drained is checked");
    assert_eq!(world.weights(1..=2), [0, 10]);
    maint(&mut world, uvs_check::weight::Admin::Ready);
    world.run(SECOND);
    assert_eq!(world.weights(1..=2), [10, 10]);
}

/// Its state from before maintenance counts no more: it is probed at once, and `start` says what it counts for until
/// then.
#[test]
fn back_from_maintenance_a_server_is_unchecked() {
    use uvs_check::core::Edit;
    use uvs_check::weight::Admin;

    for (start_up, answer, at_once, then) in [
        (false, Answer::Pass, 0, 10),
        (true, Answer::Pass, 10, 10),
        (false, Answer::Fail, 0, 0),
        (true, Answer::Fail, 10, 0),
    ] {
        let mut service = plain(1);
        service.policy.start_up = start_up;
        let mut world = World::new(plan([service]));
        let edit = |world: &mut World, admin| {
            let index = world.core.find(&key(80), addr(1)).unwrap();
            assert!(world.core.edit(index, Edit::Admin(admin), world.now));
            world.poll();
        };
        world.run(SECOND * 2);
        edit(&mut world, Admin::Maint);
        world.run(SECOND * 5);
        world.answers(1, answer.clone());
        world.probed.clear();
        world.told();
        edit(&mut world, Admin::Ready);
        let case = format!("start up: {start_up}, {answer:?}");
        assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Unchecked, at_once), "{case}");
        assert_eq!(world.probed, [(world.now, 1)], "{case}: at once");
        world.run(world.takes);
        assert_eq!(world.weight(80, 1), then, "{case}: the first result decides");
        let flaps = world.core.view()[0].destinations[0].flaps;
        assert_eq!(flaps, u64::from(start_up && then == 0), "{case}: not to know is no fall");
        let told = world.told();
        let unchecked = |what: &&What| matches!(what, What::Check { to: State::Unchecked, .. });
        assert_eq!(told.iter().filter(unchecked).count(), 1, "{case}: {told:?}");
    }
}

#[test]
fn what_was_asked_before_maintenance_says_nothing_after_it() {
    use uvs_check::core::Edit;
    use uvs_check::weight::Admin;

    let mut world = World::new(plan([plain(1)]));
    world.run(SECOND * 2);
    world.takes = Duration::from_millis(400);
    world.run(SECOND + Duration::from_millis(100));
    assert_eq!(world.core.running(), 1);
    let index = world.core.find(&key(80), addr(1)).unwrap();
    for admin in [Admin::Maint, Admin::Ready] {
        world.core.edit(index, Edit::Admin(admin), world.now);
    }
    world.run(Duration::from_millis(350));
    assert_eq!(world.state(80, 1), State::Unchecked, "that result is of before");
    world.run(Duration::from_millis(450));
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Up, 10), "asked again at once");
}

#[test]
fn a_failed_server_is_presumed_again_as_the_service_starts_when_it_is_back_from_maintenance() {
    use uvs_check::core::Edit;
    use uvs_check::weight::Admin;

    let mut service = plain(1);
    service.policy.start_up = true;
    let mut world = World::new(plan([service.clone()]));
    world.answers(1, Answer::Fail);
    world.run(SECOND * 5);
    assert_eq!(world.weight(80, 1), 0);
    let index = world.core.find(&key(80), addr(1)).unwrap();
    world.core.edit(index, Edit::Admin(Admin::Maint), world.now);
    world.run(SECOND * 5);
    world.answers(1, Answer::Pass);
    world.core.edit(index, Edit::Admin(Admin::Ready), world.now);
    world.poll();
    assert_eq!(world.weight(80, 1), 10);
    // The same by a plan, as a reload brings it.
    let in_maint = |admin| {
        let mut service = service.clone();
        service.destinations[0].admin = admin;
        plan([service])
    };
    world.run(SECOND);
    world.answers(1, Answer::Fail);
    world.run(SECOND * 5);
    world.apply(in_maint(Admin::Maint));
    world.run(SECOND * 5);
    world.answers(1, Answer::Pass);
    world.probed.clear();
    world.apply(in_maint(Admin::Ready));
    world.poll();
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Unchecked, 10));
    assert_eq!(world.probed, [(world.now, 1)]);
}
