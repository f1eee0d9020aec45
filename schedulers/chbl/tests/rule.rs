//! What follows from the rule of `chbl`.

use std::net::Ipv4Addr;

use uvs_scheduler_chbl::Chbl;
use uvs_sdk::testing::Lab;
use uvs_sdk::{Flow, LoadWord, Protocol, Runner};

fn from(client: u32, port: u16, protocol: Protocol) -> Flow {
    let (client, vip) = (Ipv4Addr::from_bits(0x0a01_0000 + client), Ipv4Addr::new(10, 0, 0, 100));
    Flow {
        protocol,
        client: client.into(),
        client_port: port,
        virtual_addr: vip.into(),
        virtual_port: 80,
        mark: 0,
    }
}

/// Where each of so many clients goes while nobody carries anything.
fn idle(lab: &mut Lab<Chbl>, clients: u32) -> Vec<u32> {
    (0..clients)
        .map(|client| {
            let id = lab.connect_by(&from(client, 1, Protocol::Tcp)).expect("somebody can");
            lab.close(id);
            id
        })
        .collect()
}

fn lab(options: &str, weights: &[u32]) -> Lab<Chbl> {
    let mut lab = Lab::new(options);
    for (id, &weight) in (1..).zip(weights) {
        lab.add(id, weight);
    }
    lab
}

#[test]
fn clients_keep_their_destination_and_weights_are_shares() {
    let mut lab = lab("", &[1, 2, 1]);
    let before = idle(&mut lab, 4000);
    assert_eq!(idle(&mut lab, 4000), before, "each time the same");
    let shares = [1, 2, 3].map(|id| before.iter().filter(|at| **at == id).count());
    for (share, want) in shares.into_iter().zip([1000_usize, 2000, 1000]) {
        assert!(share.abs_diff(want) < 250, "{shares:?}");
    }
}

#[test]
fn a_change_of_the_set_moves_those_it_has_to() {
    let mut lab = lab("", &[1, 1, 1, 1, 1]);
    let before = idle(&mut lab, 2000);
    lab.remove(3);
    let after = idle(&mut lab, 2000);
    for (client, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(*before == 3 || before == after, "client {client} was at {before} and is at {after}");
    }
    lab.add(3, 1);
    assert_eq!(idle(&mut lab, 2000), before, "as it was, though 3 stands first in the list now");
    lab.edit(3, 0);
    assert_eq!(idle(&mut lab, 2000), after, "quiesced is as good as removed");
}

#[test]
fn nobody_gets_more_than_the_bound_whoever_the_clients_are() {
    for (options, percent) in [("", 125), ("load=101", 101), ("load=200", 200)] {
        let mut lab = lab(options, &[1, 1, 2]);
        let mut carried = [0_usize; 3];
        for count in 1..=600 {
            // Ten clients that would all crowd in a few places.
            let id = lab.connect_by(&from(count % 10, 1, Protocol::Tcp)).expect("somebody has room");
            carried[id as usize - 1] += 1;
            for (carried, weight) in carried.iter().zip([1, 1, 2]) {
                let bound = (count as usize * weight * percent).div_ceil(4 * 100);
                assert!(*carried <= bound, "{carried} of at most {bound} after {count} with {options:?}");
            }
        }
    }
}

#[test]
fn udp_is_bounded_by_its_inactive_flows() {
    let mut runner = Runner::<Chbl>::new("udp 10.0.0.100:53", "").unwrap();
    let destination = |id: u32| uvs_sdk::Destination::new(id, 1, Ipv4Addr::from_bits(0x0a02_0000 + id), 53);
    runner.update(&[destination(2), destination(1)]);
    let mut host = uvs_sdk::testing::TestHost::default();
    let flow = from(7, 1, Protocol::Udp);
    let usual = runner.schedule(&flow, &[], &mut host).unwrap();
    let position = u16::try_from(usual).unwrap();
    let word = LoadWord::new(position, 0, 100, true).0;
    assert_eq!(runner.schedule(&flow, &[word], &mut host), Some(1 - usual));
    let tcp = from(7, 1, Protocol::Tcp);
    assert_eq!(runner.schedule(&tcp, &[], &mut host), Some(usual), "of TCP they are done with");
}

#[test]
fn with_port_each_connection_of_a_client_is_on_its_own() {
    let places = |options| {
        let mut lab = lab(options, &[1, 1, 1]);
        (0..50)
            .map(|port| {
                let id = lab.connect_by(&from(1, port, Protocol::Tcp)).unwrap();
                lab.close(id);
                id
            })
            .collect::<std::collections::HashSet<_>>()
            .len()
    };
    assert_eq!((places(""), places("port")), (1, 3));
}

#[test]
fn nothing_eligible_is_no_pick_and_bad_options_are_refused() {
    let mut lab = lab("", &[0]);
    assert_eq!(lab.connect(), None);
    lab.add(2, 1).load(2, 0, 0, false);
    assert_eq!(lab.connect(), None);
    for options in ["load=100", "load=1001", "load", "load=a", "port=1", "sh-port"] {
        let said = Runner::<Chbl>::new("tcp 192.0.2.1:80", options).map(drop).unwrap_err();
        assert!(said.contains(&format!("\"{options}\"")) && said.contains("load=101"), "{said}");
    }
}

#[test]
fn great_weights_and_many_destinations_fit() {
    let mut lab = lab("", &[2_147_483_647, 2_147_483_647, 1]);
    let places = idle(&mut lab, 300);
    assert!(places.contains(&1) && places.contains(&2));
    let weights = vec![10; 2000];
    let mut runner = Runner::<Chbl>::new("tcp 10.0.0.100:80", "").unwrap();
    let destinations: Vec<_> = (0u32..)
        .zip(&weights)
        .map(|(id, &weight)| uvs_sdk::Destination::new(id, weight, Ipv4Addr::from_bits(0x0a02_0000 + id), 53))
        .collect();
    runner.update(&destinations);
    let all_but_one: Vec<u64> = (0..1999).map(|position| LoadWord::new(position, 0, 0, false).0).collect();
    let mut host = uvs_sdk::testing::TestHost::default();
    assert_eq!(runner.schedule(&from(1, 1, Protocol::Tcp), &all_but_one, &mut host), Some(1999));
}
