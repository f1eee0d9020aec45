//! The picks of the kernel's `lblc`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use std::net::Ipv4Addr;

use uvs_scheduler_lblc::Lblc;
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

#[test]
fn picks_as_the_kernel_did() {
    for recording in ["sched_lblc", "sched_lblc_overload"] {
        replay::replay::<Lblc>("lblc", recording, false);
        replay::replay::<Lblc>("lblc", recording, true);
    }
}

#[test]
fn an_address_stays_where_it_went_first() {
    let mut lab = Lab::<Lblc>::new("");
    lab.add(1, 100).add(2, 100).add(3, 100);
    let first: Vec<_> = (0..300).map(|n| lab.connect_by(&to(n))).collect();
    assert_eq!(first[..4], [Some(3), Some(2), Some(1), Some(3)], "as wlc");
    let again: Vec<_> = (0..300).map(|n| lab.connect_by(&to(n))).collect();
    assert_eq!(again, first);
}

#[test]
fn it_moves_when_its_destination_cannot_carry_it() {
    // Address 0 is at 2; weights are 10. Loads are (active, inactive, available) of 1 and 2.
    let cases = [
        ([(4, 0, true), (10, 0, true)], 2, "as many as its weight"),
        ([(4, 0, true), (11, 0, true)], 1, "more than its weight, and the other less than half"),
        ([(5, 0, true), (11, 0, true)], 2, "but the other has half of its weight"),
        ([(4, 0, false), (11, 0, true)], 2, "the other cannot take it, though it has little"),
        ([(4, 0, true), (9, 9000, true)], 2, "inactive ones do not count"),
        ([(9, 0, true), (0, 0, false)], 1, "overloaded by threshold"),
    ];
    for (loads, want, why) in cases {
        let mut lab = Lab::<Lblc>::new("");
        lab.add(1, 10).add(2, 10);
        assert_eq!(lab.connect_by(&to(0)), Some(2));
        for (id, (active, inactive, available)) in (1..).zip(loads) {
            lab.load(id, active, inactive, available);
        }
        assert_eq!(lab.connect_by(&to(0)), Some(want), "{why}");
        lab.load(1, 0, 0, true).load(2, 0, 0, true);
        assert_eq!(lab.connect_by(&to(0)), Some(want), "{why}: and there it stays");
    }
}

#[test]
fn it_moves_when_its_destination_is_quiesced_and_comes_back_to_one_that_was_away() {
    let mut lab = Lab::<Lblc>::new("");
    lab.add(1, 10).add(2, 10);
    assert_eq!(lab.connect_by(&to(0)), Some(2));
    lab.remove(2);
    lab.add(2, 10).load(2, 9, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(2), "nobody asked meanwhile");
    lab.edit(2, 0);
    assert_eq!(lab.connect_by(&to(0)), Some(1));
    lab.edit(2, 10).load(2, 0, 0, true);
    assert_eq!(lab.connect_by(&to(0)), Some(1), "it has moved");
    lab.edit(1, 0).edit(2, 0);
    assert_eq!(lab.connect_by(&to(0)), None, "nobody is left");
    assert_eq!(lab.connect_by(&to(1)), None);
    lab.edit(1, 1);
    assert_eq!(lab.connect_by(&to(0)), Some(1));
    assert_eq!(Lab::<Lblc>::new("").connect(), None, "no destination at all");
}

#[test]
fn an_address_nobody_asks_for_is_forgotten_after_a_day() {
    for (away, want, why) in
        [(23 * HOUR, 2, "a day is not over"), (25 * HOUR, 1, "as wlc, since 2 has a load")]
    {
        let mut lab = Lab::<Lblc>::new("");
        lab.host.now_ms = 12_345;
        lab.add(1, 10).add(2, 10);
        assert_eq!(lab.connect_by(&to(0)), Some(2));
        lab.host.now_ms += away;
        assert!(lab.reload(), "which does not stop the clock");
        assert_eq!(lab.connect_by(&to(0)), Some(want), "{why}");
    }
}

#[test]
fn what_it_remembers_is_bounded_and_survives_a_reload() {
    let mut lab = Lab::<Lblc>::new("");
    lab.add(1, i32::MAX as u32).add(2, i32::MAX as u32);
    for n in 0..100_000 {
        lab.host.now_ms += 1;
        assert!(lab.connect_by(&to(n)).is_some());
    }
    let state = lab.runner().save();
    assert!(state.len() < 1 << 20, "{} bytes", state.len());
    let last: Vec<_> = (99_000..100_000).map(|n| lab.connect_by(&to(n))).collect();
    assert!(lab.reload());
    let again: Vec<_> = (99_000..100_000).map(|n| lab.connect_by(&to(n))).collect();
    assert_eq!(again, last);
}

#[test]
fn a_state_it_cannot_use_is_refused() {
    let mut lab = Lab::<Lblc>::new("");
    lab.add(1, 1);
    let state = {
        lab.connect_by(&to(0));
        lab.runner().save()
    };
    for (bad, why) in
        [(&b""[..], "nothing"), (b"lblcr1", "of another scheduler"), (&state[..state.len() - 1], "cut")]
    {
        assert!(!lab.runner().restore(bad), "{why}");
    }
    assert_eq!(lab.connect_by(&to(0)), Some(1));
}

#[test]
fn options_are_refused() {
    let error = Runner::<Lblc>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("lblc has no flag \"fast\""), "{error}");
}
