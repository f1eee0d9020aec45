//! The picks of the kernel's `ovf`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_ovf::Ovf;
use uvs_sdk::Runner;
use uvs_sdk::testing::{Lab, line};

#[test]
fn picks_as_the_kernel_did() {
    replay::replay::<Ovf>("ovf", "sched_ovf_dyn", false);
}

#[test]
fn what_is_too_much_flows_to_the_next() {
    let mut lab = Lab::<Ovf>::new("");
    lab.add(1, 1).add(2, 3).add(3, 2);
    assert_eq!(line(&lab.connect_all(10)), "2 2 2 2 3 3 3 1 1 -", "one more than the weight each");
    lab.close(3);
    assert_eq!(line(&lab.connect_all(2)), "3 -", "a place was free");
    lab.load(2, 0, 900, true);
    assert_eq!(lab.connect(), Some(2), "inactive ones do not count");
    lab.load(2, 0, 0, false).edit(3, 9).load(3, 9, 0, true);
    assert_eq!(lab.connect(), Some(3), "overloaded ones are left out");
    lab.edit(3, 0);
    assert_eq!(lab.connect(), None, "quiesced, overloaded, and full");
    assert_eq!(Lab::<Ovf>::new("").connect(), None, "no destination at all");
}

#[test]
fn options_are_refused() {
    let error = Runner::<Ovf>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("ovf has no flag \"fast\""), "{error}");
}
