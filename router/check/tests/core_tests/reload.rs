//! Another plan: what stays keeps its state.

use crate::*;
use uvs_check::spec::Policy;

#[test]
fn the_same_plan_changes_nothing() {
    let mut world = World::new(plan([plain(3)]));
    world.answers(2, Answer::Fail);
    world.run(SECOND * 10);
    world.told();
    world.orders.clear();
    let before = format!("{:?}", world.core.view());
    let probed = world.probed.len();
    for _ in 0..500 {
        world.apply(plan([plain(3)]));
    }
    assert_eq!(format!("{:?}", world.core.view()), before);
    world.poll();
    assert_eq!((world.told(), world.orders.len(), world.probed.len()), (vec![], 0, probed));
    world.run(SECOND * 3);
    assert_eq!(world.probed.len(), probed + 9, "and intervals go on");
}

#[test]
fn a_run_survives_when_its_probe_does_and_is_ignored_when_it_does_not() {
    let mut world = World::new(plan([plain(2)]));
    world.run(Duration::from_millis(5));
    assert_eq!(world.running.len(), 2);
    world.apply(plan([service(80, vec![destination(3, vec![tcp(3)]), destination(2, vec![tcp(2)])])]));
    assert_eq!(world.running.len(), 1, "the other was cancelled");
    let runs: Vec<Run> = world.running.iter().map(|(_, start)| start.run).collect();
    world.run(Duration::from_millis(20));
    assert_eq!(world.state(80, 2), State::Up);
    let view = format!("{:?}", world.core.view());
    for run in runs {
        let failed = Outcome::plain(Verdict::Fail("late".into()), SECOND);
        world.core.finish(run, failed, world.now);
    }
    assert_eq!(format!("{:?}", world.core.view()), view, "a result that comes twice counts once");
}

#[test]
fn rise_fall_and_weights_are_edited_in_place() {
    let mut world = World::new(plan([plain(1)]));
    world.run(SECOND * 3);
    let mut edited = plain(1);
    edited.destinations[0].weight = Some(4);
    edited.destinations[0].checks[0].fall = 1;
    world.apply(plan([edited]));
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Up, 4));
    world.answers(1, Answer::Fail);
    world.run(SECOND + Duration::from_millis(100));
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Down, 0));
    let mut edited = plain(1);
    edited.destinations[0].weight = Some(7);
    world.apply(plan([edited]));
    assert_eq!(world.weight(80, 1), 0);
    world.answers(1, Answer::Pass);
    world.run(SECOND * 3);
    assert_eq!(world.weight(80, 1), 7, "a weight that was changed while it was down");
}

#[test]
fn a_check_that_changed_is_new_and_counts_for_what_was_until_its_first_result() {
    for (was, weight) in [(Answer::Pass, 10), (Answer::Fail, 0)] {
        let mut world = World::new(plan([plain(1)]));
        world.answers(1, was);
        world.run(SECOND * 3);
        let changed = check_of("tcp", probe(Kind::Tcp(Talk { send: b"x".to_vec(), ..Talk::default() }), 1));
        world.apply(plan([service(80, vec![destination(1, vec![changed])])]));
        assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Unchecked, weight));
        world.answers(1, Answer::Fail);
        world.run(Duration::from_millis(20));
        assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Down, 0), "the first failure decides");
    }
}

#[test]
fn a_check_that_goes_takes_its_verdict_with_it() {
    let mut world = World::new(plan([plain(2)]));
    world.answers(1, Answer::Fail);
    world.run(SECOND * 5);
    assert_eq!(world.weights(1..=2), [0, 10]);
    world.told();
    world.apply(plan([service(80, vec![destination(1, vec![]), destination(2, vec![tcp(2)])])]));
    assert_eq!(world.weights(1..=2), [10, 10]);
    world.apply(plan([service(80, vec![destination(2, vec![tcp(2)])])]));
    world.told();
    world.run(SECOND * 5);
    assert_eq!(world.told(), [], "nothing is told of what was removed");
}

#[test]
fn a_new_destination_starts_as_the_policy_says() {
    for start_up in [true, false] {
        let policy = Policy { start_up, ..Policy::default() };
        let mut world = World::new(plan([ServicePlan { policy, ..plain(1) }]));
        world.run(SECOND * 3);
        world.apply(plan([ServicePlan { policy, ..plain(2) }]));
        assert_eq!(world.weights(1..=2), [10, if start_up { 10 } else { 0 }]);
        world.run(Duration::from_millis(20));
        assert_eq!(world.weights(1..=2), [10, 10]);
    }
}

#[test]
fn what_served_before_it_was_checked_goes_on_until_a_check_fails() {
    for (answer, weight) in [(Answer::Pass, 10), (Answer::Fail, 0)] {
        let mut service = plain(1);
        service.destinations[0].serves = true;
        let mut world = World::new(plan([service]));
        world.answers(1, answer);
        assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Unchecked, 10));
        world.run(Duration::from_millis(20));
        assert_eq!(world.weight(80, 1), weight);
        assert!(world.orders.iter().all(|order| order.weight == 10 || weight == 0), "{:?}", world.orders);
    }
}

#[test]
fn a_plan_of_ten_thousand_is_taken_in_milliseconds() {
    let mut world = World::new(plan([plain(10_000)]));
    world.run(SECOND);
    let mut best = core::time::Duration::MAX;
    for _ in 0..5 {
        let plan = plan([plain(10_000)]);
        let began = std::time::Instant::now();
        world.apply(plan);
        best = best.min(began.elapsed());
    }
    println!("{best:?} for 10,000 checks");
    // Without optimisation and beside other tests; comparing all with all would take minutes.
    assert!(best < Duration::from_secs(2), "{best:?}");
}
