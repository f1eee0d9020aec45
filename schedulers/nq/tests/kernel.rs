//! The picks of the kernel's `nq`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_nq::Nq;
use uvs_sdk::Runner;
use uvs_sdk::testing::{Lab, line};

#[test]
fn picks_as_the_kernel_did() {
    replay::replay::<Nq>("nq", "sched_nq_dyn", false);
}

#[test]
fn who_is_idle_goes_first_whatever_the_weight() {
    // Weights of 1, 2, 3 are 1, 9, 2; list order is 3 2 1.
    let cases = [
        ([(0, 0), (1, 0), (1, 0)], Some(1), "the slow one is idle"),
        ([(0, 0), (0, 0), (1, 0)], Some(2), "the first idle one of the list"),
        ([(0, 0), (0, 0), (0, 7)], Some(3), "inactive ones do not count"),
        ([(1, 0), (1, 0), (1, 0)], Some(2), "nobody is idle: two ninths"),
        ([(2, 0), (8, 0), (1, 0)], Some(3), "all one for 2 and 3, the first of the list"),
    ];
    for (loads, want, why) in cases {
        let mut lab = Lab::<Nq>::new("");
        lab.add(1, 1).add(2, 9).add(3, 2);
        for (id, (active, inactive)) in (1..).zip(loads) {
            lab.load(id, active, inactive, true);
        }
        assert_eq!(lab.connect(), want, "{why}");
    }
}

#[test]
fn quiesced_and_overloaded_are_left_out_though_idle() {
    let mut lab = Lab::<Nq>::new("");
    lab.add(1, 1).add(2, 0).add(3, 5).load(3, 0, 0, false);
    assert_eq!(line(&lab.connect_all(2)), "1 1");
    lab.edit(1, 0);
    assert_eq!(lab.connect(), None);
    assert_eq!(Lab::<Nq>::new("").connect(), None, "no destination at all");
}

#[test]
fn options_are_refused() {
    let error = Runner::<Nq>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("nq has no flag \"fast\""), "{error}");
}
