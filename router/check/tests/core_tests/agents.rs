//! What servers say of their weight, and what the data path sees.

use crate::*;
use uvs_check::spec::Exec;
use uvs_check::weight::{Admin, Share, Writer};

fn says(world: &mut World, host: u16, says: Says) {
    world.answers(host, Answer::Says(says));
    world.run(SECOND * 2);
}

fn agent() -> World {
    let agent = check_of("agent", probe(Kind::Agent { send: Vec::new() }, 2));
    let mut world = World::new(plan([service(80, vec![destination(1, vec![tcp(1), agent])])]));
    world.answers(2, Answer::Fail);
    world.run(SECOND * 2);
    world
}

#[test]
fn an_agent_that_is_not_reached_changes_nothing() {
    let mut world = agent();
    assert_eq!(world.weight(80, 1), 10);
    says(&mut world, 2, Says { share: Some(Share::Percent(50)), ..Says::default() });
    assert_eq!(world.weight(80, 1), 5);
    world.answers(2, Answer::Fail);
    world.run(SECOND * 10);
    assert_eq!(world.weight(80, 1), 5);
    says(&mut world, 2, Says::default());
    assert_eq!(world.weight(80, 1), 5, "nor does one that does not mention it");
    says(&mut world, 2, Says { share: Some(Share::Percent(100)), ..Says::default() });
    assert_eq!(world.weight(80, 1), 10);
}

#[test]
fn an_agent_says_down_at_once_and_up_only_for_itself() {
    let mut world = agent();
    says(&mut world, 2, Says { up: Some(false), ..Says::default() });
    assert_eq!(world.weight(80, 1), 0);
    world.answers(2, Answer::Fail);
    world.run(SECOND * 5);
    assert_eq!(world.weight(80, 1), 0, "an agent that dies after it said so leaves it down");
    world.answers(1, Answer::Fail);
    says(&mut world, 2, Says { up: Some(true), ..Says::default() });
    world.run(SECOND * 5);
    assert_eq!(world.weight(80, 1), 0, "up does not override a check that fails");
    world.answers(1, Answer::Pass);
    world.run(SECOND * 3);
    assert_eq!(world.weight(80, 1), 10);
}

#[test]
fn an_agent_drains_and_takes_it_back_and_is_asked_while_in_maintenance() {
    let mut world = agent();
    let admin = |admin| Says { admin: Some(admin), ..Says::default() };
    for state in [Admin::Drain, Admin::Maint] {
        says(&mut world, 2, admin(state));
        assert_eq!(world.weight(80, 1), 0);
        says(&mut world, 2, admin(Admin::Ready));
        world.run(SECOND * 2);
        assert_eq!(world.weight(80, 1), 10, "after {state}");
    }
    // Back from maintenance the other checks are made again, and count for nothing until then.
    says(&mut world, 2, admin(Admin::Maint));
    world.run(SECOND * 3);
    world.answers(1, Answer::Fail);
    world.probed.clear();
    world.run(SECOND * 3);
    assert!(world.probed.iter().all(|(_, host)| *host == 2), "{:?}", world.probed);
    says(&mut world, 2, admin(Admin::Ready));
    world.run(SECOND * 5);
    assert_eq!(world.weight(80, 1), 0, "the server has died meanwhile");
    world.answers(1, Answer::Pass);
    world.run(SECOND * 5);
    assert_eq!(world.weight(80, 1), 10);
    says(&mut world, 2, admin(Admin::Drain));
    world.apply(plan([plain(1)]));
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 10, "what an agent said goes with it");
}

#[test]
fn a_program_says_a_weight_and_takes_it_back_with_its_next_result() {
    let exec =
        Exec { command: vec!["/bin/judge".into()], user: None, dynamic: true, environment: Vec::new() };
    let check = check_of("exec", probe(Kind::Exec(exec.into()), 1));
    let mut world = World::new(plan([service(80, vec![destination(1, vec![check])])]));
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 10);
    says(&mut world, 1, Says { share: Some(Share::Weight(3)), ..Says::default() });
    assert_eq!(world.weight(80, 1), 3);
    let view = world.core.view();
    assert_eq!(view[0].destinations[0].by, Writer::Script);
    // One failure, as of a timeout, is not enough to go down; the weight it had said does not grow, and does not stay.
    world.answers(1, Answer::Fail);
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 10);
    world.answers(1, Answer::Pass);
    world.run(SECOND);
    assert_eq!(world.weight(80, 1), 10);
}

#[test]
fn a_certificate_that_expires_soon_is_told_once() {
    let mut world = World::new(plan([plain(1)]));
    world.run(SECOND * 2);
    let mut told = |expires, expires_soon| {
        says(&mut world, 1, Says { expires: Some(expires), expires_soon, ..Says::default() });
        world.run(SECOND * 10);
        assert_eq!(world.core.view()[0].destinations[0].checks[0].expires, Some(expires));
        let moments = world.told().into_iter().filter_map(|what| match what {
            What::Certificate { expires, .. } => Some(expires),
            _ => None,
        });
        moments.collect::<Vec<_>>()
    };
    assert!(told(1000, false).is_empty());
    assert_eq!(told(1000, true), [1000]);
    assert!(told(1000, true).is_empty());
    assert!(told(5000, false).is_empty(), "it was renewed");
    assert_eq!(told(5000, true), [5000]);
}
