//! The picks of the kernel's `rr`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_rr::Rr;
use uvs_sdk::testing::{Lab, line};
use uvs_sdk::{Destination, Runner};

fn lab(destinations: u32) -> Lab<Rr> {
    let mut lab = Lab::new("");
    for id in 1..=destinations {
        lab.add(id, 1);
    }
    lab
}

#[test]
fn picks_as_the_kernel_did() {
    for recording in ["sched_rr", "sched_rr_weights", "sched_rr_changes"] {
        replay::replay::<Rr>("rr", recording, false);
        replay::replay::<Rr>("rr", recording, true);
    }
}

#[test]
fn when_the_last_pick_is_removed_the_walk_goes_on_behind_it() {
    // List order is 4 3 2 1.
    let cases = [
        (1, 4, "3 2 1 3", "the first of the list"),
        (2, 3, "2 1 4 2", "one in the middle"),
        (4, 1, "4 3 2 4", "the end of the list"),
        (2, 2, "1 4 3 1", "not the last pick but the next one"),
        (2, 4, "2 1 3 2", "not the last pick but one before it"),
    ];
    for (picks, removed, want, why) in cases {
        let mut lab = lab(4);
        lab.connect_all(picks);
        lab.remove(removed);
        assert_eq!(line(&lab.connect_all(4)), want, "{why}");
    }
}

#[test]
fn one_added_at_the_front_waits_until_the_walk_comes_round() {
    let mut lab = lab(2);
    assert_eq!(line(&lab.connect_all(1)), "2");
    lab.add(3, 1);
    assert_eq!(line(&lab.connect_all(4)), "1 3 2 1");
}

#[test]
fn quiesced_and_overloaded_are_left_out() {
    let mut lab = lab(3);
    lab.edit(2, 0).load(1, 9, 0, false);
    assert_eq!(line(&lab.connect_all(3)), "3 3 3");
    lab.load(3, 9, 0, false);
    assert_eq!(line(&lab.connect_all(2)), "- -", "nobody is left");
    lab.load(1, 0, 0, true);
    assert_eq!(line(&lab.connect_all(2)), "1 1");
    assert_eq!(Lab::<Rr>::new("").connect(), None, "no destination at all");
}

#[test]
fn a_state_it_cannot_use_is_refused_and_changes_nothing() {
    let mut lab = lab(3);
    assert_eq!(lab.connect(), Some(3));
    let cases: [(&[u8], &str); 4] = [
        (b"", "nothing"),
        (b"wrr1\x01\0\0\0", "of another scheduler"),
        (b"rr1\x09\0\0\0", "of a destination that is gone"),
        (b"rr1\x01\0\0\0\0", "too long"),
    ];
    for (state, why) in cases {
        assert!(!lab.runner().restore(state), "{why}");
    }
    assert_eq!(lab.connect(), Some(2));
}

#[test]
fn flags_are_taken_and_other_options_refused() {
    assert!(Runner::<Rr>::new("tcp 10.0.0.100:80", "flag-1,flag-2,flag-3").is_ok(), "as in the kernel");
    let error = Runner::<Rr>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("rr has no flag \"fast\"; there are sh-fallback,"), "{error}");
}

#[test]
fn several_changes_in_one_update_are_followed() {
    let address = std::net::Ipv4Addr::LOCALHOST;
    let list = |ids: &[u32]| ids.iter().map(|&id| Destination::new(id, 1, address, 80)).collect::<Vec<_>>();
    let mut lab = lab(5);
    assert_eq!(line(&lab.connect_all(3)), "5 4 3");
    // 3 and 4 go, 6 comes: the walk stands behind 5.
    lab.runner().update(&list(&[6, 5, 2, 1]));
    let picked = lab.runner().save();
    assert_eq!(picked, b"rr1\x05\0\0\0");
}
