//! When probes are made: intervals, spread, bounds, and the watchdog.

use crate::*;

#[test]
fn intervals_are_from_start_to_start_and_depend_on_the_state() {
    let schedule = Schedule { interval: SECOND * 10, fast: SECOND, down: SECOND * 5, ..SCHEDULE };
    let spec = ProbeSpec { schedule, ..(*probe(Kind::Tcp(Talk::default()), 1)).clone() };
    let mut world = World::new(plan([service(80, vec![destination(1, vec![check_of("tcp", spec.into())])])]));
    let times =
        |world: &mut World| -> Vec<u64> { world.probed.drain(..).map(|(at, _)| at.as_millis()).collect() };
    world.run(SECOND * 25);
    assert_eq!(times(&mut world), [0, 10_000, 20_000], "up");
    world.answers(1, Answer::Fail);
    world.run(SECOND * 20);
    assert_eq!(times(&mut world), [30_000, 31_000, 32_000, 37_000, 42_000], "going down, then down");
    world.answers(1, Answer::Pass);
    world.run(SECOND * 10);
    assert_eq!(times(&mut world), [47_000, 48_000], "coming up");
}

#[test]
fn one_that_takes_longer_than_its_interval_is_made_one_at_a_time() {
    let mut world = World::new(plan([plain(1)]));
    world.takes = Duration::from_millis(1400);
    world.run(SECOND * 14);
    assert_eq!(world.most, 1);
    assert_eq!(world.probed.len(), 11);
}

#[test]
fn jitter_spreads_and_keeps_the_mean() {
    let schedule = Schedule { jitter: 20, ..SCHEDULE };
    let spec = ProbeSpec { schedule, ..(*probe(Kind::Tcp(Talk::default()), 1)).clone() };
    let mut world = World::new(plan([service(80, vec![destination(1, vec![check_of("tcp", spec.into())])])]));
    world.run(SECOND * 1000);
    let gaps: Vec<Duration> = world.probed.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    assert!(gaps.iter().all(|gap| (800..=1200).contains(&gap.as_millis())));
    assert!(gaps.iter().any(|gap| gap.as_millis() < 850) && gaps.iter().any(|gap| gap.as_millis() > 1150));
    assert!((980..=1020).contains(&gaps.len()), "{}", gaps.len());
}

#[test]
fn ten_thousand_are_spread_evenly_and_none_is_late() {
    let spec = probe(Kind::Tcp(Talk::default()), 1);
    let schedule = Schedule { interval: SECOND * 2, fast: SECOND * 2, ..spec.schedule };
    let destinations = (1..=10_000).map(|host| {
        let spec = ProbeSpec { schedule, ..(*probe(Kind::Tcp(Talk::default()), host)).clone() };
        destination(host, vec![check_of("tcp", spec.into())])
    });
    let mut world = World::new(plan([service(80, destinations.collect())]));
    world.run(SECOND * 6);
    // Each slice of 10 ms has its 50, in the first round and in those after.
    let mut by_slice = [0; 600];
    for (at, _) in world.probed.iter().filter(|(at, _)| *at < Instant::from_secs(6)) {
        by_slice[usize::try_from(at.as_millis() / 10).unwrap()] += 1;
    }
    assert!(by_slice.iter().all(|count| (45..=55).contains(count)), "{by_slice:?}");
    assert!(world.most < 250, "{} at once", world.most);
    let late = |view: &uvs_check::core::DestinationView| view.checks[0].late;
    assert_eq!(world.core.view()[0].destinations.iter().map(late).max(), Some(Duration::ZERO));
}

#[test]
fn so_many_run_at_once_and_the_others_wait_their_turn() {
    let mut world = World::bounded(plan([plain(100)]), Bounds { probes: 7, processes: 1 });
    world.run(SECOND * 10);
    assert_eq!(world.most, 7);
    let mut counts = HashMap::new();
    for (_, host) in &world.probed {
        *counts.entry(*host).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 100);
    assert!(counts.values().all(|count| *count >= 9), "nobody is forgotten: {counts:?}");
}

#[test]
fn identical_probes_are_made_once_and_told_to_all() {
    let services: Vec<ServicePlan> =
        (1..=50).map(|port| service(port, vec![destination(1, vec![tcp(1)])])).collect();
    let mut world = World::new(plan(services));
    assert_eq!((world.core.checks(), world.core.probes()), (50, 1));
    world.run(Duration::from_millis(5500));
    assert_eq!(world.probed.len(), 6);
    world.answers(1, Answer::Fail);
    world.run(SECOND * 4);
    assert!((1..=50).all(|port| world.weight(port, 1) == 0));
    assert_eq!(world.core.view()[0].destinations[0].checks[0].shared, 50);
}

#[test]
fn a_checker_that_gives_no_result_is_told_and_given_up() {
    let mut world = World::new(plan([plain(2)]));
    world.run(SECOND * 2);
    world.told();
    world.answers(1, Answer::Stuck);
    world.run(SECOND * 3);
    let told = world.told();
    assert!(
        told.iter().any(|what| matches!(what, What::Overdue { destination, .. } if *destination == addr(1)))
    );
    assert_eq!(world.state(80, 1), State::Unmade);
    assert_eq!(world.weight(80, 1), 10, "which says nothing of the server");
    assert_eq!(world.core.running(), world.running.len(), "its place is free");
    world.answers(1, Answer::Pass);
    world.run(SECOND * 4);
    assert_eq!(world.state(80, 1), State::Up);
    let outcomes = world.core.view()[0].destinations[0].checks[0].outcomes;
    assert!(outcomes.overdue >= 1 && outcomes.unmade >= outcomes.overdue, "{outcomes:?}");
}

#[test]
fn who_looks_sees_that_nobody_drives_the_checks_any_more() {
    let mut world = World::new(plan([plain(1)]));
    world.run(SECOND * 5);
    let check = world.core.view()[0].destinations[0].checks[0].clone();
    assert!(!check.is_overdue(world.now + SECOND));
    assert!(check.is_overdue(world.now + SECOND * 5), "although nothing has told it");
}

#[test]
fn starts_wait_for_one_another_no_longer_than_the_shortest_interval_allows() {
    let with = |intervals: &[u64]| {
        let destinations = intervals.iter().zip(1..).map(|(interval, number)| {
            let interval = Duration::from_millis(*interval);
            let schedule = Schedule { interval, fast: interval, ..SCHEDULE };
            let spec = ProbeSpec { schedule, ..(*probe(Kind::Tcp(Talk::default()), number)).clone() };
            destination(number, vec![check_of("tcp", spec.into())])
        });
        World::new(plan([service(80, destinations.collect())])).core.slice().as_millis()
    };
    assert_eq!([with(&[]), with(&[60_000]), with(&[2000]), with(&[1000]), with(&[50])], [20, 20, 20, 10, 2]);
    assert_eq!(with(&[60_000, 500]), 5);
}
