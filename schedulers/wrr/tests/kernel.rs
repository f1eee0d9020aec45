//! The picks of the kernel's `wrr`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_wrr::Wrr;
use uvs_sdk::Runner;
use uvs_sdk::testing::{Lab, line};

fn lab(weights: &[u32]) -> Lab<Wrr> {
    let mut lab = Lab::new("");
    for (id, &weight) in (1..).zip(weights) {
        lab.add(id, weight);
    }
    lab
}

#[test]
fn picks_as_the_kernel_did() {
    for recording in ["sched_wrr_123", "sched_wrr_301", "sched_wrr_allzero", "sched_rr_changes"] {
        replay::replay::<Wrr>("wrr", recording, false);
        replay::replay::<Wrr>("wrr", recording, true);
    }
}

#[test]
fn turns_are_in_proportion_to_weights() {
    // The bar stands where the first add left it, so some begin in the middle of a round.
    let cases: [(&[u32], &str, &str); 5] = [
        (&[3, 1], "2 1 1 1 2 1 1 1", "alone, 3 has one pass, at bar 1: there the walk begins"),
        (&[2, 4], "2 1 2 2 1 2", "a common divisor is divided out"),
        (&[5], "1 1 1", "alone"),
        (&[1, 1, 1], "3 2 1 3", "equals take turns"),
        (&[0, 2, 0], "2 2", "weight 0 quiesces"),
    ];
    for (weights, want, why) in cases {
        let count = want.split(' ').count();
        assert_eq!(line(&lab(weights).connect_all(count)), want, "{why}");
    }
}

#[test]
fn every_whole_round_gives_each_its_weight() {
    let weights = [7, 3, 12, 1, 5];
    let mut lab = lab(&weights);
    let round = weights.iter().sum::<u32>() as usize;
    lab.connect_all(round);
    let picks = lab.connect_all(3 * round);
    for (id, weight) in (1..).zip(weights) {
        let got = picks.iter().filter(|&&pick| pick == Some(id)).count();
        assert_eq!(got, 3 * weight as usize, "destination {id}");
    }
}

#[test]
fn overload_leaves_the_turns_to_the_others() {
    let mut lab = lab(&[1, 2, 3]);
    lab.load(3, 9, 0, false);
    assert_eq!(line(&lab.connect_all(6)), "2 1 2 2 1 2");
    lab.load(1, 9, 0, false).load(2, 9, 0, false);
    assert_eq!(line(&lab.connect_all(2)), "- -", "nobody is left");
    lab.load(1, 0, 0, true);
    assert_eq!(line(&lab.connect_all(2)), "1 1", "and back");
    assert_eq!(Lab::<Wrr>::new("").connect(), None, "no destination at all");
}

#[test]
fn passes_that_take_nobody_cost_nothing() {
    // 2^31 - 1 passes lie between the two; walking them one by one would take minutes.
    let mut lab = lab(&[1, i32::MAX as u32]);
    lab.load(2, 9, 0, false);
    assert_eq!(line(&lab.connect_all(3)), "1 1 1");
}

#[test]
fn a_state_it_cannot_use_is_refused_and_changes_nothing() {
    let mut lab = lab(&[1, 1, 1]);
    assert_eq!(lab.connect(), Some(3));
    let cases: [(&[u8], &str); 5] = [
        (b"", "nothing"),
        (b"rr1\x01\0\0\0", "of another scheduler"),
        (b"wrr1\x01\0", "too short"),
        (b"wrr1\x01\0\0\0\x09\0\0\0", "of a destination that is gone"),
        (b"wrr1\x01\0\0\0\x01\0\0\0\0", "too long"),
    ];
    for (state, why) in cases {
        assert!(!lab.runner().restore(state), "{why}");
    }
    assert_eq!(lab.connect(), Some(2));
}

#[test]
fn a_state_from_heavier_days_is_clipped() {
    let mut lab = lab(&[2, 2]);
    assert!(lab.runner().restore(b"wrr1\xff\0\0\0\x02\0\0\0"));
    assert_eq!(line(&lab.connect_all(3)), "1 2 1");
}

#[test]
fn flags_are_taken_and_other_options_refused() {
    assert!(Runner::<Wrr>::new("tcp 10.0.0.100:80", "flag-1,flag-2,flag-3").is_ok(), "as in the kernel");
    let error = Runner::<Wrr>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("wrr has no flag \"fast\"; there are sh-fallback,"), "{error}");
}
