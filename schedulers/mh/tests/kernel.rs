//! The picks of the kernel's `mh`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use std::net::{IpAddr, Ipv4Addr};

use uvs_scheduler_mh::Mh;
use uvs_sdk::testing::Lab;
use uvs_sdk::{Destination, Flow, Protocol, Runner};

fn flow(client: impl Into<IpAddr>, client_port: u16) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        client: client.into().into(),
        client_port,
        virtual_addr: Ipv4Addr::new(10, 0, 0, 100).into(),
        virtual_port: 80,
        mark: 0,
    }
}

/// Where each of some clients goes.
fn clients(lab: &mut Lab<Mh>) -> Vec<Option<u32>> {
    (0..6000).map(|n| lab.connect_by(&flow(Ipv4Addr::from(0x0a01_0000 + n), 1024))).collect()
}

fn count(picks: &[Option<u32>], id: u32) -> usize {
    picks.iter().filter(|&&pick| pick == Some(id)).count()
}

#[test]
fn picks_as_the_kernel_did() {
    let recordings = ["sched_mh_ip", "sched_mh_port", "sched_mh_w0", "sched_mh_changes", "sched_mh_fallback"];
    for recording in recordings {
        replay::replay::<Mh>("mh", recording, false);
        replay::replay::<Mh>("mh", recording, true);
    }
}

#[test]
fn clients_are_shared_out_by_weight() {
    let cases: [(&[u32], &[f64], &str); 5] = [
        (&[1, 1, 1], &[1.0, 1.0, 1.0], "equals"),
        (&[10, 20, 30], &[1.0, 2.0, 3.0], "a common divisor is divided out"),
        (&[0, 3, 1], &[0.0, 3.0, 1.0], "added with weight 0"),
        (&[1, 1000, 500], &[1.0, 62.0, 31.0], "scaled down to six bits, and at least one"),
        (&[i32::MAX as u32, 1], &[63.0, 1.0], "the largest weight"),
    ];
    for (weights, shares, why) in cases {
        let mut lab = Lab::<Mh>::new("");
        for (id, &weight) in (1..).zip(weights) {
            lab.add(id, weight);
        }
        let picks = clients(&mut lab);
        let all: f64 = shares.iter().sum();
        for (id, share) in (1..).zip(shares) {
            let (want, got) = (6000.0 * share / all, count(&picks, id) as f64);
            assert!((got - want).abs() <= want * 0.1 + 30.0, "{why}: {got} of {want} to {id}");
            assert!(*share > 0.0 || got == 0.0, "{why}");
        }
    }
}

#[test]
fn the_clients_port_counts_only_when_asked() {
    for (options, one) in [("", true), ("mh-fallback", true), ("mh-port", false), ("flag-2", false)] {
        let mut lab = Lab::<Mh>::new(options);
        lab.add(1, 1).add(2, 1).add(3, 1);
        let picks: Vec<_> =
            (1..60).map(|port| lab.connect_by(&flow(Ipv4Addr::new(10, 1, 0, 1), port))).collect();
        assert_eq!(picks.iter().all(|&pick| pick == picks[0]), one, "{options:?}");
    }
}

#[test]
fn a_change_of_the_set_moves_few_clients_beside_those_it_has_to() {
    let mut lab = Lab::<Mh>::new("");
    for id in 1..=10 {
        lab.add(id, 1);
    }
    let before = clients(&mut lab);
    let its_own = count(&before, 4);
    lab.remove(4);
    let without = clients(&mut lab);
    let moved = before.iter().zip(&without).filter(|(was, is)| was != is).count();
    assert!(moved < 2 * its_own, "{moved} moved, of which {its_own} had to");
    lab.add(4, 1);
    let again = clients(&mut lab);
    let differ = before.iter().zip(&again).filter(|(was, is)| was != is).count();
    assert!(differ < 6000 / 20, "back again, in another place of the list: {differ} differ");
}

#[test]
fn a_quiesced_destination_keeps_its_slots() {
    for (options, moves) in [("", false), ("mh-fallback", true)] {
        let mut lab = Lab::<Mh>::new(options);
        lab.add(1, 1).add(2, 3).add(3, 2);
        let before = clients(&mut lab);
        let check = |lab: &mut Lab<Mh>, why| {
            for (&was, is) in before.iter().zip(clients(lab)) {
                if was == Some(2) {
                    assert_eq!(is.is_some(), moves, "{why}");
                    assert_ne!(is, Some(2), "{why}");
                } else {
                    assert_eq!(is, was, "{why}: the others' clients stay");
                }
            }
        };
        lab.edit(2, 0);
        check(&mut lab, "quiesced");
        lab.edit(1, 1);
        check(&mut lab, "still quiesced after another change");
        assert!(lab.reload());
        check(&mut lab, "still quiesced after a reload");
        lab.edit(2, 3);
        assert_eq!(clients(&mut lab), before, "and back");
        lab.load(2, 9, 0, false);
        check(&mut lab, "overloaded");
        lab.load(2, 0, 0, true).remove(2).add(2, 0);
        let picks = clients(&mut lab);
        assert_eq!(
            picks.iter().filter(|pick| pick.is_none()).count(),
            0,
            "added with weight 0: it has no slots"
        );
    }
}

#[test]
fn with_nobody_left_there_is_no_pick() {
    let mut lab = Lab::<Mh>::new("mh-fallback");
    assert_eq!(lab.connect(), None, "no destination at all");
    lab.add(1, 0).add(2, 0);
    assert_eq!(lab.connect(), None, "none with a weight so far");
    lab.edit(1, 1).edit(2, 1).edit(1, 0).load(2, 9, 0, false);
    assert_eq!(lab.connect(), None, "quiesced and overloaded");
    lab.load(2, 0, 0, true);
    assert_eq!(lab.connect(), Some(2));
    lab.remove(1).remove(2);
    assert_eq!(lab.connect(), None, "all gone");
}

#[test]
fn destinations_with_one_hash_still_share() {
    // Address and port are added: these two have the same permutation.
    let mut lab = Lab::<Mh>::new("");
    lab.insert(Destination::new(1, 1, Ipv4Addr::new(192, 0, 2, 1), 81));
    lab.insert(Destination::new(2, 1, Ipv4Addr::new(192, 0, 2, 2), 80));
    let picks = clients(&mut lab);
    assert!((2700..3300).contains(&count(&picks, 1)), "{}", count(&picks, 1));
    // More destinations than slots: each of the first in the list has one.
    for id in 3..5000 {
        lab.insert(Destination::new(id, 1, Ipv4Addr::from(0x0a00_0000 + id), 80));
    }
    assert!(clients(&mut lab).iter().all(|pick| pick.is_some_and(|id| id > 5000 - 4094)));
}

#[test]
fn a_state_it_cannot_use_is_refused_and_changes_nothing() {
    let mut lab = Lab::<Mh>::new("");
    lab.add(1, 1).add(2, 1).edit(2, 0);
    let before = clients(&mut lab);
    let cases: [(&[u8], &str); 3] =
        [(b"", "nothing"), (b"wrr1\x01\0\0\0", "of another scheduler"), (b"mh1\x01\0\0\0\x01", "cut")];
    for (state, why) in cases {
        assert!(!lab.runner().restore(state), "{why}");
    }
    assert!(
        lab.runner().restore(b"mh1\x09\0\0\0\x01\0\0\0"),
        "of destinations that are gone: nothing to take over"
    );
    assert_eq!(clients(&mut lab), before);
}

#[test]
fn options_are_refused() {
    let error = Runner::<Mh>::new("tcp 10.0.0.100:80", "mh-prot").unwrap_err();
    assert!(error.starts_with("mh has no flag \"mh-prot\""), "{error}");
}
