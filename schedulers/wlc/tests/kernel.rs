//! The picks of the kernel's `wlc`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_wlc::Wlc;
use uvs_sdk::testing::{Lab, TestHost, line};
use uvs_sdk::{Destination, Host, LoadWord, Runner};

#[test]
fn picks_as_the_kernel_did() {
    for recording in ["sched_wlc_syn", "sched_wlc_dyn"] {
        replay::replay::<Wlc>("wlc", recording, false);
    }
}

#[test]
fn the_least_overhead_for_the_weight_wins() {
    // Weights of 1, 2, 3 are 1, 2, 4; list order is 3 2 1.
    let cases = [
        ([(1, 0, true), (2, 0, true), (4, 0, true)], Some(3), "all equal: the first of the list"),
        ([(0, 255, true), (2, 0, true), (4, 0, true)], Some(1), "255 inactive are less than one active"),
        ([(0, 257, true), (1, 300, true), (4, 0, true)], Some(3), "256 for each of its weight"),
        ([(1, 0, true), (1, 0, true), (4, 0, true)], Some(2), "half as much for its weight"),
        ([(9, 0, true), (0, 0, false), (0, 0, false)], Some(1), "overloaded ones are left out"),
        ([(0, 0, false), (0, 0, false), (0, 0, false)], None, "nobody is left"),
    ];
    for (loads, want, why) in cases {
        let mut lab = Lab::<Wlc>::new("");
        lab.add(1, 1).add(2, 2).add(3, 4);
        for (id, (active, inactive, available)) in (1..).zip(loads) {
            lab.load(id, active, inactive, available);
        }
        assert_eq!(lab.connect(), want, "{why}");
    }
}

#[test]
fn the_largest_weights_and_loads_compare() {
    let mut lab = Lab::<Wlc>::new("");
    lab.add(1, i32::MAX as u32).add(2, i32::MAX as u32 - 1);
    let (active, inactive) = (LoadWord::ACTIVE_MAX, LoadWord::INACTIVE_MAX);
    lab.load(1, active, inactive, true).load(2, active, inactive, true);
    assert_eq!(lab.connect(), Some(1), "the same load, and a little more weight");
    lab.add(3, 1).load(3, 1, 0, true);
    assert_eq!(lab.connect(), Some(1), "a load of one for each of its weight");
}

#[test]
fn quiesced_ones_are_left_out() {
    let mut lab = Lab::<Wlc>::new("");
    lab.add(1, 3).add(2, 0);
    assert_eq!(line(&lab.connect_all(3)), "1 1 1");
    lab.edit(1, 0);
    assert_eq!(lab.connect(), None, "all quiesced");
    lab.edit(2, 1);
    assert_eq!(lab.connect(), Some(2));
    assert_eq!(Lab::<Wlc>::new("").connect(), None, "no destination at all");
}

#[test]
fn the_tournament_finds_what_a_scan_finds() {
    for destinations in [1, 2, 3, 5, 8, 33, 100] {
        let mut lab = Lab::<Wlc>::new("");
        let mut dice = TestHost { seed: u64::from(destinations), ..TestHost::default() };
        let mut roll = |sides: u64| u32::try_from(dice.random() % sides).unwrap();
        for id in 1..=destinations {
            lab.add(id, roll(5));
        }
        for round in 0..500 {
            for _ in 0..roll(4) {
                let id = 1 + roll(u64::from(destinations));
                lab.load(id, roll(5), roll(600), roll(4) > 0);
            }
            let picked = lab.connect();
            let mut least: Option<&Destination> = None;
            for (_, next) in lab.runner().table().iter().filter(|(_, d)| d.is_eligible()) {
                let cost =
                    |d: &Destination, other: &Destination| u64::from(d.overhead()) * u64::from(other.weight);
                if least.is_none_or(|least| cost(next, least) < cost(least, next)) {
                    least = Some(next);
                }
            }
            assert_eq!(picked, least.map(|d| d.id), "{destinations} destinations, round {round}");
        }
    }
}

#[test]
fn flags_are_taken_and_other_options_refused() {
    assert!(Runner::<Wlc>::new("tcp 10.0.0.100:80", "flag-1,sh-port").is_ok(), "as in the kernel");
    let error = Runner::<Wlc>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("wlc has no flag \"fast\"; there are sh-fallback,"), "{error}");
}
