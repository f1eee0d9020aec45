//! What follows from the rule of `maglev`.

use std::net::{IpAddr, Ipv4Addr};

use uvs_scheduler_maglev::Maglev;
use uvs_sdk::testing::{Lab, TestHost};
use uvs_sdk::{Destination, Flow, LoadWord, Protocol, Runner};

const CLIENTS: u32 = 40_000;

fn from(client: u32, port: u16) -> Flow {
    let vip: IpAddr = Ipv4Addr::new(10, 0, 0, 100).into();
    Flow {
        protocol: Protocol::Tcp,
        client: IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + client)).into(),
        client_port: port,
        virtual_addr: vip.into(),
        virtual_port: 80,
        mark: 0,
    }
}

/// 192.0.2.`number`, with an id that tells of a history.
fn destination(number: u32, weight: u32, id: u32) -> Destination {
    Destination::new(id, weight, Ipv4Addr::from_bits(0xc000_0200 + number), 80)
}

/// A director of a service whose destinations came to be in this order.
struct Director {
    runner: Runner<Maglev>,
    list: Vec<(u32, u32)>,
    host: TestHost,
}

impl Director {
    fn new(options: &str, list: &[(u32, u32)]) -> Self {
        let runner = Runner::new("tcp 10.0.0.100:80", options).expect("valid options");
        let mut director = Self { runner, list: list.to_vec(), host: TestHost::default() };
        director.set(list);
        director
    }

    fn set(&mut self, list: &[(u32, u32)]) {
        self.list = list.to_vec();
        let set: Vec<_> =
            (7..).zip(list).map(|(id, &(number, weight))| destination(number, weight, id)).collect();
        self.runner.update(&set);
    }

    /// The number of the destination that a client gets.
    fn pick(&mut self, flow: &Flow) -> Option<u32> {
        let position = self.runner.schedule(flow, &[], &mut self.host)?;
        Some(self.list[position as usize].0)
    }

    fn picks(&mut self) -> Vec<Option<u32>> {
        (0..CLIENTS).map(|client| self.pick(&from(client, 1024))).collect()
    }

    /// The table as the log has it, without the generation.
    fn table(&mut self) -> String {
        self.pick(&from(0, 1024));
        let (_, line) = self.host.log.last().expect("a table was told").clone();
        line.split_once(", generation").expect("has a generation").0.to_owned()
    }
}

fn equal(numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, u32)> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}

/// The share of clients who are elsewhere, and of those among them who did not have to go.
fn moved(before: &[Option<u32>], after: &[Option<u32>], gone: Option<u32>, new: Option<u32>) -> (f64, f64) {
    let (mut all, mut needless) = (0, 0);
    for (&was, &is) in before.iter().zip(after) {
        if was != is {
            all += 1;
            needless += u32::from(was != gone && is != new);
        }
    }
    (f64::from(all) / f64::from(CLIENTS), f64::from(needless) / f64::from(CLIENTS))
}

#[test]
fn directors_agree_whatever_the_order_and_the_history() {
    for options in ["", "size=4093,port"] {
        let list = [(1, 1), (2, 3), (3, 2), (4, 1), (5, 7)];
        let mut first = Director::new(options, &list);
        let (table, picks) = (first.table(), first.picks());

        let mut others = vec![Director::new(options, &[list[4], list[1], list[3], list[0], list[2]])];
        // Came by and went, had other weights, was quiesced and is back.
        let mut other = Director::new(options, &equal(1..=9));
        other.picks();
        other.set(&[(3, 0), (2, 3)]);
        other.picks();
        other.set(&[list[2], list[0], list[1], list[4], list[3], (8, 0)]);
        others.push(other);
        // An instance that took over.
        let mut successor = Director::new(options, &list);
        let state = first.runner.save();
        successor.runner.restore(&state);
        others.push(successor);
        for (number, other) in others.iter_mut().enumerate() {
            assert_eq!(other.table(), table, "{options:?}: table of {number}");
            assert_eq!(other.picks(), picks, "{options:?}: picks of {number}");
        }
    }
}

#[test]
fn another_table_has_another_hash() {
    let list = equal(1..=3);
    let table = Director::new("", &list).table();
    assert!(table.starts_with("table ") && table.ends_with(": 65537 slots, 3 destinations"), "{table}");
    for (options, list) in [
        ("port", list.clone()),
        ("size=65521", list.clone()),
        ("", equal([1, 2, 4])),
        ("", equal([1, 2])),
        ("", vec![(1, 1), (2, 1), (3, 2)]),
    ] {
        let other = Director::new(options, &list).table();
        assert_ne!(other[..22], table[..22], "{options:?} {list:?}");
    }
    let doubled: Vec<_> = list.iter().map(|&(number, _)| (number, 2)).collect();
    assert_eq!(Director::new("", &doubled).table(), table, "the same shares are the same table");
}

#[test]
fn a_table_is_told_once_and_again_when_it_is_another() {
    let mut director = Director::new("", &equal(1..=3));
    director.picks();
    director.set(&equal([3, 1, 2]));
    director.picks();
    assert_eq!(director.host.log.len(), 1, "{:?}", director.host.log);
    director.set(&equal([1, 2]));
    director.picks();
    assert_eq!(director.host.log.len(), 2);
    assert!(director.host.log[1].1.ends_with("2 destinations, generation 3"), "{:?}", director.host.log);
}

/// The figures of the published algorithm: at least 1/N of all have to move, and few more do.
#[test]
fn a_change_of_the_set_moves_few_clients_beside_those_it_has_to() {
    // Options, destinations, and the most clients, in per cent of all, that move and need not: one goes, one comes.
    let cases =
        [("size=4093", 10, 1.6, 1.6), ("", 10, 0.4, 0.4), ("size=4093", 50, 3.0, 3.0), ("", 50, 0.8, 0.8)];
    for (options, count, goes, comes) in cases {
        let mut director = Director::new(options, &equal(1..=count));
        let before = director.picks();
        let (mut all, mut needless) = ((0.0, 0.0), (0.0, 0.0));
        let rounds = [1, 2, count / 2, count - 1, count];
        for gone in rounds {
            director.set(&equal((1..=count).filter(|&number| number != gone)));
            let without = director.picks();
            let went = moved(&before, &without, Some(gone), None);
            let came = moved(&without, &before, None, Some(gone));
            (all.0, needless.0) = (all.0 + went.0, needless.0 + went.1);
            (all.1, needless.1) = (all.1 + came.0, needless.1 + came.1);
        }
        let percent = |sum: f64| 100.0 * sum / rounds.len() as f64;
        println!(
            "{options:?}, {count}: one goes, {:.2} % move, {:.2} % needlessly; one comes, {:.2} % and {:.2} %",
            percent(all.0),
            percent(needless.0),
            percent(all.1),
            percent(needless.1),
        );
        let ideal = 100.0 / f64::from(count);
        assert!((percent(all.0) - percent(needless.0) - ideal).abs() < 0.1 * ideal, "{options:?} {count}");
        assert!(percent(needless.0) <= goes && percent(needless.1) <= comes, "{options:?} {count}");
    }
}

#[test]
fn a_weight_that_changes_moves_its_difference() {
    let mut director = Director::new("", &[(1, 10), (2, 10), (3, 10), (4, 10)]);
    let before = director.picks();
    director.set(&[(1, 10), (2, 10), (3, 10), (4, 5)]);
    let after = director.picks();
    let (all, _) = moved(&before, &after, None, None);
    // 4 has 1/4 and then 1/7.
    assert!((0.107..0.13).contains(&all), "{all}");
    assert!(before.iter().zip(&after).filter(|(was, is)| was != is && **was != Some(4)).count() < 800);
}

#[test]
fn weights_are_shares_and_the_lightest_has_one() {
    let cases: [(&[u32], &[f64]); 4] = [
        (&[1, 1, 1], &[1.0, 1.0, 1.0]),
        (&[10, 20, 30], &[1.0, 2.0, 3.0]),
        (&[0, 3, 1], &[0.0, 3.0, 1.0]),
        (&[i32::MAX as u32, i32::MAX as u32 / 3], &[3.0, 1.0]),
    ];
    for (weights, shares) in cases {
        let list: Vec<_> = (1..).zip(weights.iter().copied()).collect();
        let picks = Director::new("", &list).picks();
        let all: f64 = shares.iter().sum();
        for (number, share) in (1..).zip(shares) {
            let want = f64::from(CLIENTS) * share / all;
            let got = picks.iter().filter(|&&pick| pick == Some(number)).count() as f64;
            assert!((got - want).abs() <= want * 0.05, "{weights:?}: {got} of {want} to {number}");
        }
    }
    // One slot of 251: some client of many gets there.
    let picks = Director::new("size=251", &[(1, i32::MAX as u32), (2, 1)]).picks();
    assert!(picks.contains(&Some(2)));
}

#[test]
fn a_destination_of_weight_0_is_as_good_as_removed() {
    let mut director = Director::new("", &equal(1..=5));
    director.set(&[(1, 1), (2, 1), (3, 0), (4, 1), (5, 1)]);
    let (quiesced, table) = (director.picks(), director.table());
    director.set(&equal([1, 2, 4, 5]));
    assert_eq!((director.picks(), director.table()), (quiesced, table));
}

#[test]
fn clients_of_an_overloaded_destination_are_spread_over_the_others() {
    let mut lab = Lab::<Maglev>::new("");
    for id in 1..=4 {
        lab.add(id, 1);
    }
    let picks = |lab: &mut Lab<Maglev>| -> Vec<Option<u32>> {
        (0..4000).map(|client| lab.connect_by(&from(client, 1))).collect()
    };
    let before = picks(&mut lab);
    lab.load(2, 9, 0, false);
    let after = picks(&mut lab);
    let mut got = [0; 5];
    for (was, is) in before.iter().zip(&after) {
        if *was == Some(2) {
            got[is.expect("somebody has room") as usize] += 1;
        } else {
            assert_eq!(was, is, "the others' clients stay");
        }
    }
    assert!(got[2] == 0 && [1, 3, 4].iter().all(|&id| got[id] > 200), "{got:?}");
    for id in [1, 3] {
        lab.load(id, 9, 0, false);
    }
    assert!(picks(&mut lab).iter().all(|&pick| pick == Some(4)), "the last one that has room");
    lab.load(4, 9, 0, false);
    assert_eq!(lab.connect(), None);
}

#[test]
fn the_last_of_many_that_has_room_is_found() {
    let count = 2000_u32;
    let mut director = Director::new("", &equal(1..=count));
    let full: Vec<u64> = (0..1999).map(|position| LoadWord::new(position, 9, 0, false).0).collect();
    let pick = director.runner.schedule(&from(1, 1), &full, &mut director.host);
    assert_eq!(pick, Some(1999));
}

#[test]
fn more_destinations_than_slots_and_none_at_all() {
    let mut director = Director::new("size=251", &equal(1..=300));
    assert!(
        director.picks().iter().all(|pick| pick.is_some_and(|number| number <= 251)),
        "the first by address"
    );
    for list in [vec![], vec![(1, 0)]] {
        director.set(&list);
        assert_eq!(director.pick(&from(1, 1)), None, "{list:?}");
    }
}

#[test]
fn the_clients_port_counts_only_when_asked() {
    for (options, one) in [("", true), ("port", false), (" size=4093 , port ", false)] {
        let mut director = Director::new(options, &equal(1..=3));
        let picks: Vec<_> = (1..60).map(|port| director.pick(&from(1, port))).collect();
        assert_eq!(picks.iter().all(|&pick| pick == picks[0]), one, "{options:?}");
    }
}

#[test]
fn options_are_refused() {
    let options =
        ["size=65536", "size=241", "size=65539", "size", "size=-3", "port=1", "mh-port", "size=4294967291"];
    for options in options {
        let said = Runner::<Maglev>::new("tcp 192.0.2.1:80", options).map(drop).unwrap_err();
        assert!(
            said.contains(&format!("\"{options}\"")) && said.contains("a prime from 251 to 65537"),
            "{said}"
        );
    }
    for options in ["size=251", "size=65537"] {
        Runner::<Maglev>::new("tcp 192.0.2.1:80", options).map(drop).unwrap();
    }
}
