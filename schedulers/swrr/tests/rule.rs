//! What follows from the rule of `swrr`.

use uvs_scheduler_swrr::Swrr;
use uvs_sdk::testing::{Lab, line};
use uvs_sdk::{Runner, SlowStart};

#[test]
fn turns_are_in_proportion_and_evenly_spread() {
    // The one added last stands first in the list.
    let cases: [(&[u32], &str); 4] = [
        (&[1, 1, 5], "3 3 2 3 1 3 3"),
        (&[1, 1, 1], "3 2 1 3 2 1"),
        (&[0, 1, 2], "3 2 3 3 2 3"),
        (&[7], "1 1 1"),
    ];
    for (weights, want) in cases {
        let mut lab = Lab::<Swrr>::new("");
        for (id, &weight) in (1..).zip(weights) {
            lab.add(id, weight);
        }
        let picks = lab.connect_all(want.split(' ').count());
        assert_eq!(line(&picks), want, "{weights:?}");
    }
}

#[test]
fn whatever_the_weights_shares_are_exact_over_each_period() {
    let mut lab = Lab::<Swrr>::new("");
    lab.add(1, 3).add(2, 5).add(3, 9);
    for _ in 0..3 {
        let picks = lab.connect_all(17);
        let shares = [1, 2, 3].map(|id| picks.iter().filter(|pick| **pick == Some(id)).count());
        assert_eq!(shares, [3, 5, 9]);
    }
}

#[test]
fn credit_lasts_through_changes_and_reloads_and_nobody_saves_up_while_away() {
    let mut lab = Lab::<Swrr>::new("");
    lab.add(1, 1).add(2, 1).add(3, 5);
    let mut twin = Lab::<Swrr>::new("");
    twin.add(1, 1).add(2, 1).add(3, 5);
    assert_eq!(lab.connect_all(3), twin.connect_all(3));
    assert!(lab.reload());
    assert_eq!(lab.connect_all(8), twin.connect_all(8), "as if there had been no reload");

    lab.load(3, 0, 0, false);
    assert_eq!(line(&lab.connect_all(10)).matches('3').count(), 0);
    lab.load(3, 0, 0, true);
    assert!(lab.connect_all(3).iter().any(|pick| *pick != Some(3)), "it does not catch up");
    lab.remove(2).add(4, 2);
    let picks = lab.connect_all(80);
    let shares = [1, 3, 4].map(|id| picks.iter().filter(|pick| **pick == Some(id)).count());
    assert_eq!(shares, [10, 50, 20]);
}

#[test]
fn nothing_eligible_is_no_pick_and_a_foreign_state_is_refused() {
    let mut lab = Lab::<Swrr>::new("");
    assert_eq!(lab.connect(), None);
    lab.add(1, 0);
    assert_eq!(lab.connect(), None);
    for state in [&b""[..], b"wrr1", b"swrr1abc"] {
        assert!(!lab.runner().restore(state), "{state:?}");
    }
}

/// The share of destination `id` in so many picks, in percent.
fn share(lab: &mut Lab<SlowStart<Swrr>>, id: u32) -> usize {
    let picks = lab.connect_all(400);
    picks.iter().filter(|pick| **pick == Some(id)).count() / 4
}

#[test]
fn a_new_destination_warms_up() {
    let mut lab = Lab::<SlowStart<Swrr>>::new("slow-start=100,slow-start-floor=20");
    lab.add(1, 1).add(2, 1);
    assert_eq!(share(&mut lab, 2), 50, "who is there from the beginning is warm");
    lab.host.now_ms = 5000;
    lab.add(3, 2);
    assert_eq!(share(&mut lab, 3), 16, "20 % of 2 beside 1 and 1 is 0.4 of 2.4");
    lab.host.now_ms += 50_000;
    assert_eq!(share(&mut lab, 3), 37, "60 %: 1.2 of 3.2");
    assert!(lab.reload());
    assert_eq!(share(&mut lab, 3), 37, "a reload does not begin again");
    lab.host.now_ms += 50_000;
    assert_eq!(share(&mut lab, 3), 50, "all of it");
    lab.edit(3, 0);
    assert_eq!(share(&mut lab, 3), 0);
    lab.edit(3, 2);
    assert_eq!(share(&mut lab, 3), 16, "back from quiesce it is cold again");
    lab.edit(3, 4);
    assert_eq!(share(&mut lab, 3), 28, "another weight is no new beginning: 0.8 of 2.8");
    lab.load(1, 0, 0, false).load(2, 0, 0, false);
    assert_eq!(share(&mut lab, 3), 100, "loads get through");
}

#[test]
fn without_slow_start_it_is_the_policy_and_bad_options_are_refused() {
    let mut lab = Lab::<SlowStart<Swrr>>::new("flag-1");
    lab.add(1, 1);
    lab.connect();
    lab.add(2, 1);
    assert_eq!(share(&mut lab, 2), 50);
    for (options, wrong) in [
        ("slow-start=0", "slow-start=0"),
        ("slow-start", "slow-start"),
        ("slow-start=9,slow-start-floor=101", "slow-start-floor=101"),
        ("slow-start=9,fast", "fast"),
    ] {
        let said = Runner::<SlowStart<Swrr>>::new("tcp 192.0.2.1:80", options).map(drop).unwrap_err();
        assert!(said.contains(&format!("\"{wrong}\"")), "{said}");
    }
}

#[test]
fn great_weights_stay_in_proportion() {
    let mut lab = Lab::<SlowStart<Swrr>>::new("slow-start=10");
    lab.add(1, 2_147_483_647);
    lab.connect();
    lab.add(2, 2_147_483_647);
    assert_eq!(share(&mut lab, 2), 9, "10 % beside 100 %");
}
