//! The picks of the kernel's `sh`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use std::net::{IpAddr, Ipv4Addr};

use uvs_scheduler_sh::Sh;
use uvs_sdk::testing::Lab;
use uvs_sdk::{Flow, Protocol, Runner};

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
fn clients(lab: &mut Lab<Sh>) -> Vec<Option<u32>> {
    (0..2048).map(|n| lab.connect_by(&flow(Ipv4Addr::from(0x0a01_0000 + n), 1024))).collect()
}

#[test]
fn picks_as_the_kernel_did() {
    let recordings = [
        "sched_sh_ip",
        "sched_sh_port",
        "sched_sh_w0",
        "sched_sh_weights",
        "sched_sh_changes",
        "sched_sh_fallback",
    ];
    for recording in recordings {
        replay::replay::<Sh>("sh", recording, false);
    }
}

#[test]
fn the_client_decides_and_its_port_only_when_asked() {
    let ports = |options| {
        let mut lab = Lab::<Sh>::new(options);
        lab.add(1, 1).add(2, 1).add(3, 1);
        let mut picks: Vec<_> =
            (1..60).map(|port| lab.connect_by(&flow(Ipv4Addr::new(10, 1, 0, 1), port))).collect();
        picks.sort_unstable();
        picks.dedup();
        picks.len()
    };
    for (options, want) in [("", 1), ("sh-fallback", 1), ("sh-port", 3), ("flag-2", 3)] {
        assert_eq!(ports(options), want, "{options:?}");
    }
}

#[test]
fn an_ipv6_client_counts_as_its_words_together() {
    let mut lab = Lab::<Sh>::new("");
    for id in 1..=8 {
        lab.add(id, 1);
    }
    for n in 0..100 {
        let v4 = lab.connect_by(&flow(Ipv4Addr::from(0x2001_0db8 ^ n), 1024));
        let v6: IpAddr = format!("2001:db8::{:x}", n).parse().unwrap();
        assert_eq!(lab.connect_by(&flow(v6, 1024)), v4);
    }
}

#[test]
fn clients_of_an_overloaded_destination_move_only_with_fallback_and_the_others_never() {
    for (options, moves) in [("", false), ("sh-fallback", true), ("flag-1", true)] {
        let mut lab = Lab::<Sh>::new(options);
        lab.add(1, 2).add(2, 2).add(3, 2);
        let before = clients(&mut lab);
        lab.load(2, 9, 0, false);
        for (was, is) in before.into_iter().zip(clients(&mut lab)) {
            if was == Some(2) {
                assert_eq!(is.is_some(), moves, "{options:?}");
                assert_ne!(is, Some(2), "{options:?}");
            } else {
                assert_eq!(is, was, "{options:?}");
            }
        }
    }
}

#[test]
fn with_nobody_left_there_is_no_pick() {
    let mut lab = Lab::<Sh>::new("sh-fallback");
    assert_eq!(lab.connect(), None, "no destination at all");
    lab.add(1, 1).add(2, 0).load(1, 9, 0, false);
    assert!(clients(&mut lab).iter().all(Option::is_none), "quiesced and overloaded");
    lab.edit(1, 0);
    assert!(clients(&mut lab).iter().all(Option::is_none), "all quiesced");
    lab.remove(1).remove(2);
    assert_eq!(lab.connect(), None, "all gone");
}

#[test]
fn one_heavier_than_the_table_has_it_all() {
    let mut lab = Lab::<Sh>::new("");
    lab.add(1, 1).add(2, i32::MAX as u32);
    assert!(clients(&mut lab).iter().all(|&pick| pick == Some(2)));
    for id in 3..400 {
        lab.add(id, 1);
    }
    assert!(
        clients(&mut lab).iter().all(|pick| pick.is_some_and(|id| id >= 144)),
        "the first 256 of the list"
    );
}

#[test]
fn options_are_refused() {
    let error = Runner::<Sh>::new("tcp 10.0.0.100:80", "sh-prot").unwrap_err();
    assert!(error.starts_with("sh has no flag \"sh-prot\"; there are sh-fallback, sh-port,"), "{error}");
}
