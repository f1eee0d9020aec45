//! What follows from the rule of `p2c`.

use uvs_scheduler_p2c::P2c;
use uvs_sdk::testing::Lab;
use uvs_sdk::{Runner, Scheduler};

/// How often each of the destinations 1 to `n` was picked.
fn shares(picks: &[Option<u32>], n: u32) -> Vec<usize> {
    (1..=n).map(|id| picks.iter().filter(|pick| **pick == Some(id)).count()).collect()
}

#[test]
fn of_two_the_less_loaded_for_its_weight_is_picked() {
    let cases = [
        ([(1, 4), (1, 3)], 2, "fewer connections"),
        ([(4, 7), (1, 3)], 1, "8 for 4 is less than 4 for 1"),
        ([(1, 0), (5, 0)], 2, "idle: the heavier"),
    ];
    for (destinations, want, why) in cases {
        let mut lab = Lab::<P2c>::new("");
        for (id, (weight, active)) in (1..).zip(destinations) {
            lab.add(id, weight).load(id, active, 0, true);
        }
        for (id, (_, active)) in (1..).zip(destinations) {
            lab.load(id, active, 0, true);
        }
        assert_eq!(lab.connect(), Some(want), "{why}: with two destinations both are drawn");
    }
}

#[test]
fn connections_that_stay_spread_by_weight() {
    for options in ["", "choices=4"] {
        let mut lab = Lab::<P2c>::new(options);
        lab.add(1, 1).add(2, 2).add(3, 3).add(4, 2);
        let shares = shares(&lab.connect_all(800), 4);
        for (share, want) in shares.into_iter().zip([100_usize, 200, 300, 200]) {
            assert!(share.abs_diff(want) <= 30, "{share} of about {want} with {options:?}");
        }
    }
}

#[test]
fn the_most_loaded_of_many_is_never_picked_and_any_other_may_be() {
    let mut lab = Lab::<P2c>::new("");
    for id in 1..=10 {
        lab.add(id, 1);
    }
    lab.load(4, 1_000_000, 0, true);
    let shares = shares(&lab.connect_all(500), 10);
    assert_eq!(shares[3], 0);
    assert!(shares.iter().enumerate().all(|(at, share)| at == 3 || *share > 20), "{shares:?}");
}

#[test]
fn who_cannot_take_one_is_never_drawn_and_comes_back() {
    let mut lab = Lab::<P2c>::new("");
    assert_eq!(lab.connect(), None);
    lab.add(1, 1).add(2, 0).add(3, 1);
    lab.load(3, 0, 0, false);
    assert!(lab.connect_all(20).iter().all(|pick| *pick == Some(1)));
    lab.load(1, 20, 0, false);
    assert_eq!(lab.connect(), None);
    lab.load(3, 0, 0, true).edit(2, 1);
    let picks = lab.connect_all(40);
    assert_eq!(shares(&picks, 3), [0, 20, 20]);
}

#[test]
fn options_it_does_not_know_are_refused() {
    for options in ["choices=1", "choices=9", "choices=two", "choices", "fast"] {
        let said = Runner::<P2c>::new("tcp 192.0.2.1:80", options).map(drop).unwrap_err();
        assert!(said.contains(options) && said.contains("choices=2 to choices=8"), "{said}");
    }
    assert!(P2c::init("", "choices=8").is_ok());
}
