//! The picks of the kernel's `lblcr`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use std::net::Ipv4Addr;

use uvs_scheduler_lblcr::Lblcr;
use uvs_sdk::testing::Lab;
use uvs_sdk::{Flow, Protocol, Runner};

const HOUR: u64 = 60 * 60 * 1000;

/// A connection to the `n`-th address.
fn to(n: u32) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        client: Ipv4Addr::new(10, 1, 0, 1).into(),
        client_port: 1024,
        virtual_addr: Ipv4Addr::from(0x0a09_0000 + n).into(),
        virtual_port: 80,
        mark: 1,
    }
}

/// Three destinations of weight 10; address 0 is served by 2 and 3, and 3 has just joined.
fn lab() -> Lab<Lblcr> {
    let mut lab = Lab::new("");
    lab.add(1, 10).add(2, 10).add(3, 10);
    lab.load(3, 1, 0, true).load(1, 1, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(2), "the least");
    lab.load(2, 11, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(3), "2 is overloaded");
    lab.load(1, 0, 0, true).load(2, 0, 0, true).load(3, 0, 0, true);
    lab
}

#[test]
fn picks_as_the_kernel_did() {
    replay::replay::<Lblcr>("lblcr", "sched_lblcr_overload", false);
    replay::replay::<Lblcr>("lblcr", "sched_lblcr_overload", true);
}

#[test]
fn the_least_loaded_of_the_set_serves() {
    // Loads are (active, available) of 1, 2, 3.
    let cases = [
        ([(0, true), (3, true), (3, true)], 3, "equals: the one that joined last"),
        ([(0, true), (2, true), (3, true)], 2, "the lesser"),
        ([(0, true), (2, false), (3, true)], 3, "overloaded by threshold"),
        ([(0, true), (2, false), (3, false)], 1, "nobody of the set: another joins"),
        ([(4, true), (11, true), (11, true)], 1, "the least is overloaded: another joins"),
        ([(5, true), (11, true), (11, true)], 3, "but nobody has less than half of its weight"),
    ];
    for (loads, want, why) in cases {
        let mut lab = lab();
        for (id, (active, available)) in (1..).zip(loads) {
            lab.load(id, active, 0, available);
        }
        assert_eq!(lab.connect_by(&to(0)), Some(want), "{why}");
    }
}

#[test]
fn members_that_are_quiesced_or_gone_come_back() {
    let mut lab = lab();
    lab.remove(3).edit(2, 0);
    assert_eq!(lab.connect_by(&to(0)), Some(1), "1 joins");
    lab.add(3, 10).edit(2, 10).load(1, 5, 0, true).load(2, 5, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(3), "gone and back");
    lab.load(3, 6, 0, true).load(2, 4, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(2), "quiesced and back");
    lab.edit(1, 0).edit(2, 0).edit(3, 0);
    assert_eq!(lab.connect_by(&to(0)), None, "nobody is left");
    assert_eq!(lab.connect_by(&to(1)), None);
    assert_eq!(Lab::<Lblcr>::new("").connect(), None, "no destination at all");
}

#[test]
fn a_set_that_did_not_change_for_a_day_loses_its_most_loaded_member() {
    for (hours, want, why) in
        [(23, 2, "the set is as it was"), (25, 3, "2 has left with the connection before")]
    {
        let mut lab = lab();
        // In use all the time, or else the entry would be forgotten.
        for _ in 0..hours {
            lab.host.now_ms += HOUR;
            lab.load(2, 5, 0, true).load(3, 4, 0, true);
            assert_eq!(lab.connect_by(&to(0)), Some(3), "the least");
        }
        assert!(lab.reload(), "which does not stop the clock");
        lab.load(2, 0, 0, true).load(3, 4, 0, true).load(1, 9, 0, true);
        assert_eq!(lab.connect_by(&to(0)), Some(want), "{why}");
    }
}

#[test]
fn an_address_nobody_asks_for_is_forgotten_after_a_day() {
    let mut lab = lab();
    lab.host.now_ms += 25 * HOUR;
    assert_eq!(lab.connect_by(&to(0)), Some(3), "as wlc");
    lab.load(3, 11, 0, true).load(2, 9, 0, true).load(1, 0, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(1), "2 is no member any more");
}

#[test]
fn sets_are_bounded() {
    let mut lab = Lab::<Lblcr>::new("");
    for id in 1..=200 {
        lab.add(id, 1);
    }
    // Each connection overloads the one that got it, and another joins.
    for _ in 0..200 {
        let id = lab.connect_by(&to(0)).unwrap();
        lab.load(id, 9, 0, true);
    }
    let state = lab.runner().save();
    let members = usize::from(state[6 + 32 + 24 + 8]);
    assert_eq!((members, state.len()), (64, 6 + 32 + 24 + 9 + 64 * 8));
    assert!(lab.reload());
}

#[test]
fn a_state_it_cannot_use_is_refused() {
    let mut lab = lab();
    let state = lab.runner().save();
    let mut too_many = state.clone();
    too_many[6 + 32 + 24 + 8] = 65;
    too_many.resize(6 + 32 + 24 + 9 + 65 * 8, 0);
    let cases: [(&[u8], &str); 4] = [
        (b"", "nothing"),
        (b"lblc1", "of another scheduler"),
        (&state[..state.len() - 1], "cut"),
        (&too_many, "a set larger than sets get"),
    ];
    for (bad, why) in cases {
        assert!(!lab.runner().restore(bad), "{why}");
    }
    lab.load(1, 0, 0, true).load(2, 1, 0, true).load(3, 2, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(2), "the set is there still");
}

#[test]
fn options_are_refused() {
    let error = Runner::<Lblcr>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("lblcr has no flag \"fast\""), "{error}");
}
