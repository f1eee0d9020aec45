//! The picks of the kernel's `lc`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use uvs_scheduler_lc::Lc;
use uvs_sdk::testing::{Lab, TestHost, line};
use uvs_sdk::{Host, Runner};

fn lab(destinations: u32) -> Lab<Lc> {
    let mut lab = Lab::new("");
    for id in 1..=destinations {
        lab.add(id, 1);
    }
    lab
}

#[test]
fn picks_as_the_kernel_did() {
    for recording in ["sched_lc_syn", "sched_lc_dyn"] {
        replay::replay::<Lc>("lc", recording, false);
    }
}

#[test]
fn the_least_overhead_wins_and_the_first_among_equals() {
    // List order is 3 2 1; loads are (active, inactive, available) of 1, 2, 3.
    let cases = [
        ([(2, 0, true), (1, 0, true), (3, 0, true)], Some(2), "fewest active"),
        ([(1, 0, true), (0, 255, true), (1, 0, true)], Some(2), "255 inactive are less than one active"),
        ([(1, 0, true), (0, 257, true), (2, 0, true)], Some(1), "257 inactive are more"),
        ([(1, 0, true), (0, 256, true), (1, 0, true)], Some(3), "all equal: the first of the list"),
        ([(5, 5, true), (0, 0, false), (0, 0, false)], Some(1), "overloaded ones are left out"),
        ([(0, 0, false), (0, 0, false), (0, 0, false)], None, "nobody is left"),
    ];
    for (loads, want, why) in cases {
        let mut lab = lab(3);
        for (id, (active, inactive, available)) in (1..).zip(loads) {
            lab.load(id, active, inactive, available);
        }
        assert_eq!(lab.connect(), want, "{why}");
    }
}

#[test]
fn weights_do_not_count_but_zero_quiesces() {
    let mut lab = Lab::<Lc>::new("");
    lab.add(1, 100).add(2, 1).add(3, 0);
    assert_eq!(line(&lab.connect_all(4)), "2 1 2 1");
    lab.edit(3, 1);
    assert_eq!(line(&lab.connect_all(3)), "3 3 3", "it catches up");
    lab.remove(3).close(1);
    assert_eq!(line(&lab.connect_all(2)), "1 2", "loads are known after a change of the set");
    lab.edit(1, 0).edit(2, 0);
    assert_eq!(lab.connect(), None, "all quiesced");
    assert_eq!(Lab::<Lc>::new("").connect(), None, "no destination at all");
}

#[test]
fn the_tournament_finds_what_a_scan_finds() {
    for destinations in [1, 2, 3, 5, 8, 33, 100] {
        let mut lab = lab(destinations);
        let mut dice = TestHost { seed: u64::from(destinations), ..TestHost::default() };
        let mut roll = |sides: u64| u32::try_from(dice.random() % sides).unwrap();
        for round in 0..500 {
            for _ in 0..roll(4) {
                let id = 1 + roll(u64::from(destinations));
                lab.load(id, roll(5), roll(600), roll(4) > 0);
            }
            let picked = lab.connect();
            let table = lab.runner().table();
            let eligible = table.iter().filter(|(_, d)| d.is_eligible());
            let least = eligible.min_by_key(|(position, d)| (d.overhead(), *position)).map(|(_, d)| d.id);
            assert_eq!(picked, least, "{destinations} destinations, round {round}");
        }
    }
}

#[test]
fn flags_are_taken_and_other_options_refused() {
    assert!(Runner::<Lc>::new("tcp 10.0.0.100:80", "flag-1,flag-2,flag-3").is_ok(), "as in the kernel");
    let error = Runner::<Lc>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("lc has no flag \"fast\"; there are sh-fallback,"), "{error}");
}
