//! The picks of the kernel's `fo`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_fo::Fo;
use uvs_sdk::Runner;
use uvs_sdk::testing::{Lab, line};

#[test]
fn picks_as_the_kernel_did() {
    replay::replay::<Fo>("fo", "sched_fo", false);
}

#[test]
fn the_next_takes_over_and_hands_back() {
    let mut lab = Lab::<Fo>::new("");
    lab.add(1, 5).add(2, 9).add(3, 9).add(4, 1);
    assert_eq!(line(&lab.connect_all(3)), "3 3 3", "the first of the highest");
    lab.load(3, 3, 0, false);
    assert_eq!(line(&lab.connect_all(2)), "2 2", "overloaded");
    lab.edit(2, 0);
    assert_eq!(line(&lab.connect_all(2)), "1 1", "quiesced");
    lab.remove(1);
    assert_eq!(line(&lab.connect_all(2)), "4 4", "gone; 3 is still overloaded");
    lab.edit(4, 0);
    assert_eq!(lab.connect(), None, "nobody is left");
    lab.load(3, 0, 0, true);
    assert_eq!(lab.connect(), Some(3), "and back");
    assert_eq!(Lab::<Fo>::new("").connect(), None, "no destination at all");
}

#[test]
fn options_are_refused() {
    let error = Runner::<Fo>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("fo has no flag \"fast\""), "{error}");
}
