//! Passive checks.

use crate::*;
use uvs_check::spec::{Passive, Policy};
use uvs_director::view::Observations;

fn passive() -> Passive {
    Passive {
        failures: 3,
        inhibit: SECOND * 5,
        inhibit_max: SECOND * 40,
        confirm: Box::new(Kind::Tcp(Talk::default())),
    }
}

/// Hosts 1 to `count`, each with a passive check.
fn watched(count: u16) -> Plan {
    let check = |host| check_of("passive", probe(Kind::Passive(passive()), host));
    let mut service = service(80, (1..=count).map(|host| destination(host, vec![check(host)])).collect());
    service.policy = Policy { damping: Duration::ZERO, ..Policy::default() };
    plan([service])
}

/// What is seen of connections to one host: `+` is answered, `-` has failed, `?` is doubtful.
#[derive(Default)]
struct Sights(Observations);

impl Sights {
    fn see(&mut self, world: &mut World, host: u16, sights: &str) {
        for sight in sights.chars() {
            let all = &mut self.0;
            match sight {
                '+' => {
                    all.answered += 1;
                    (all.failed_in_a_row, all.doubtful_in_a_row) = (0, 0);
                }
                '-' => (all.failed, all.failed_in_a_row) = (all.failed + 1, all.failed_in_a_row + 1),
                _ => (all.doubtful, all.doubtful_in_a_row) = (all.doubtful + 1, all.doubtful_in_a_row + 1),
            }
        }
        let index = world.core.find(&key(80), addr(host)).expect("it is in the plan");
        world.core.observe(index, &self.0, world.now);
        world.run(Duration::ZERO);
    }
}

fn tries(world: &World, since: Instant) -> Vec<u64> {
    world.probed.iter().map(|(at, _)| at.since(since).as_secs()).collect()
}

#[test]
fn what_the_data_path_sees_inhibits_for_a_bounded_time_that_ends_with_a_probe() {
    let mut world = World::new(watched(2));
    assert_eq!(world.core.watched(), [key(80)]);
    world.run(SECOND * 10);
    assert_eq!(world.weights([1, 2]), [10, 10]);
    assert_eq!(world.probed, [], "while all is well nothing is probed");
    let mut sights = Sights::default();
    sights.see(&mut world, 1, "----");
    assert_eq!(world.weight(80, 1), 10, "what was there before it looked is nothing to it");
    for seen in ["+", "--", "+", "--"] {
        sights.see(&mut world, 1, seen);
    }
    assert_eq!(world.weight(80, 1), 10, "an answer in between begins anew");
    world.told();
    sights.see(&mut world, 1, "-");
    world.answers(1, Answer::Fail);
    let began = world.now;
    assert_eq!((world.state(80, 1), world.weights([1, 2])), (State::Down, vec![0, 10]));
    let told = world.told();
    let reason = "3 connections in a row failed; tried again in 5s";
    assert!(
        matches!(
            &told[..],
            [What::Check { to: State::Down, reason: why, .. }, What::Destination { in_service: false, reason: of, .. }]
                if why == reason && *of == format!("check passive is down: {reason}")
        ),
        "{told:?}"
    );
    world.run(SECOND * 200);
    assert_eq!(tries(&world, began), [5, 15, 35, 75, 115, 155, 195], "5, 10, 20, 40 and then 40 s");
    sights.see(&mut world, 1, "--------");
    world.answers(1, Answer::Pass);
    world.run(SECOND * 40);
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Up, 10));
    sights.see(&mut world, 1, "--");
    assert_eq!(world.weight(80, 1), 10, "what failed while it was out does not count");
    sights.see(&mut world, 1, "-");
    assert_eq!(world.weight(80, 1), 0);
}

#[test]
fn what_anybody_could_feign_has_it_probed_and_no_more() {
    let mut world = World::new(watched(2));
    let mut sights = Sights::default();
    sights.see(&mut world, 1, "");
    world.run(SECOND);
    // A flood of it: one probe in five seconds, and nothing happens.
    let began = world.now;
    for _ in 0..100 {
        sights.see(&mut world, 1, "?????");
        world.run(Duration::from_millis(200));
    }
    assert_eq!(world.weight(80, 1), 10);
    assert_eq!(tries(&world, began), [0, 5, 10, 15]);
    // The probe tells as well that it is gone: at once, and it stays out until one succeeds.
    world.answers(1, Answer::Fail);
    world.run(SECOND);
    let began = world.now;
    sights.see(&mut world, 1, "-??");
    world.run(Duration::from_millis(20));
    assert_eq!((world.state(80, 1), world.weights([1, 2])), (State::Down, vec![0, 10]));
    world.answers(1, Answer::Pass);
    world.run(SECOND * 6);
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Up, 10));
    assert_eq!(tries(&world, began)[tries(&world, began).len() - 2..], [0, 5]);
    // A probe that cannot be made changes nothing, and is tried again.
    world.answers(1, Answer::Unmade);
    world.run(SECOND * 60);
    sights.see(&mut world, 1, "???");
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 10);
    world.answers(1, Answer::Fail);
    world.run(SECOND * 5);
    sights.see(&mut world, 1, "?");
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 0);
}

#[test]
fn where_all_seem_to_fail_all_serve_until_their_probes_say_so_too() {
    let mut world = World::new(watched(2));
    let mut sights = [Sights::default(), Sights::default()];
    for (host, sights) in (1..).zip(&mut sights) {
        sights.see(&mut world, host, "");
        sights.see(&mut world, host, "---");
    }
    assert_eq!((world.state(80, 1), world.state(80, 2)), (State::Down, State::Down));
    assert_eq!(world.weights([1, 2]), [10, 10], "one that may work is better than none");
    world.answers(1, Answer::Fail);
    world.run(SECOND * 6);
    assert_eq!(world.weights([1, 2]), [0, 10], "the probe of one has failed, and that of the other has not");
    world.answers(2, Answer::Fail);
    sights[1].see(&mut world, 2, "---");
    world.run(SECOND * 11);
    assert_eq!(world.weights([1, 2]), [0, 0]);
}

#[test]
fn a_reload_keeps_an_inhibition_and_one_that_is_added_again_begins_anew() {
    let mut world = World::new(watched(2));
    world.run(SECOND);
    let mut sights = Sights::default();
    sights.see(&mut world, 1, "--");
    sights.see(&mut world, 1, "---");
    assert_eq!(world.weight(80, 1), 0);
    world.apply(watched(2));
    world.run(SECOND);
    assert_eq!((world.state(80, 1), world.weight(80, 1)), (State::Down, 0));
    world.run(SECOND * 5);
    assert_eq!(world.weight(80, 1), 10);
    // The director counts from zero again.
    sights = Sights::default();
    sights.see(&mut world, 1, "-");
    sights.see(&mut world, 1, "-");
    assert_eq!(world.weight(80, 1), 10);
    sights.see(&mut world, 1, "-");
    assert_eq!(world.weight(80, 1), 0);
    world.apply(plan([plain(2)]));
    assert!(world.core.watched().is_empty());
}
