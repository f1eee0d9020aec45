//! The picks of the kernel's `sed`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_sed::Sed;
use uvs_sdk::Runner;
use uvs_sdk::testing::{Lab, line};

#[test]
fn picks_as_the_kernel_did() {
    replay::replay::<Sed>("sed", "sched_sed_syn", false);
}

#[test]
fn the_fewest_connections_with_this_one_more_for_the_weight() {
    // Weights of 1, 2, 3 are 1, 3, 3; list order is 3 2 1.
    let cases = [
        ([(0, 0), (0, 0), (0, 0)], Some(3), "a third each for 2 and 3, the first of the list"),
        ([(0, 0), (2, 0), (2, 0)], Some(3), "all one: the first of the list"),
        ([(0, 0), (3, 0), (3, 0)], Some(1), "four thirds are more than one"),
        ([(0, 9000), (0, 0), (0, 9000)], Some(3), "inactive ones do not count"),
    ];
    for (loads, want, why) in cases {
        let mut lab = Lab::<Sed>::new("");
        lab.add(1, 1).add(2, 3).add(3, 3);
        for (id, (active, inactive)) in (1..).zip(loads) {
            lab.load(id, active, inactive, true);
        }
        assert_eq!(lab.connect(), want, "{why}");
    }
}

#[test]
fn a_slow_one_waits_while_a_fast_one_is_just_as_idle() {
    let mut lab = Lab::<Sed>::new("");
    lab.add(1, 1).add(2, 3);
    assert_eq!(line(&lab.connect_all(4)), "2 2 2 1");
    lab.edit(1, 0).load(2, 9, 0, false);
    assert_eq!(lab.connect(), None, "quiesced and overloaded");
    assert_eq!(Lab::<Sed>::new("").connect(), None, "no destination at all");
}

#[test]
fn options_are_refused() {
    let error = Runner::<Sed>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("sed has no flag \"fast\""), "{error}");
}
