//! What follows from the rule of `lrt`.

use uvs_scheduler_lrt::Lrt;
use uvs_sdk::Response::{Answered, Refused, Unanswered};
use uvs_sdk::testing::{Lab, line};
use uvs_sdk::{Flow, Protocol, Runner};

/// Two destinations of weight 1 that answered after so many microseconds.
fn two(first: u64, second: u64) -> Lab<Lrt> {
    let mut lab = Lab::new("");
    lab.add(2, 1).add(1, 1);
    lab.respond(1, Answered, first).respond(2, Answered, second);
    lab
}

/// Connections that are answered as `micros` says and end at once; how many each destination got.
fn serve(lab: &mut Lab<Lrt>, picks: usize, micros: impl Fn(u32) -> u64) -> [usize; 3] {
    let mut got = [0; 3];
    for _ in 0..picks {
        let id = lab.connect().expect("all are free");
        got[id as usize] += 1;
        lab.respond(id, Answered, micros(id)).close(id);
        lab.host.now_ms += 10;
    }
    got
}

#[test]
fn the_one_that_answers_sooner_is_picked_until_its_connections_outweigh_that() {
    let mut lab = two(1_000, 4_000);
    assert_eq!(
        line(&lab.connect_all(8)),
        "1 1 1 1 2 1 1 1",
        "1, 2, 3, 4 ms, then 4 on the other, then 5, 6, 7"
    );

    let mut lab = Lab::<Lrt>::new("");
    lab.add(2, 4).add(1, 1);
    lab.respond(1, Answered, 1_000).respond(2, Answered, 4_000);
    assert_eq!(
        line(&lab.connect_all(4)),
        "1 2 1 2",
        "weight makes up for it; the first in the list wins a draw"
    );
}

#[test]
fn where_nothing_is_known_connections_count() {
    let mut lab = Lab::<Lrt>::new("");
    lab.add(1, 1).add(2, 2).add(3, 1);
    assert_eq!(lab.connect_all(20), shortest_expected_delay(20));
    let udp = |lab: &mut Lab<Lrt>, port| {
        lab.connect_by(&Flow {
            protocol: Protocol::Udp,
            client: std::net::Ipv4Addr::new(10, 1, 0, 1).into(),
            client_port: port,
            virtual_addr: std::net::Ipv4Addr::new(10, 0, 0, 100).into(),
            virtual_port: 53,
            mark: 0,
        })
    };
    let mut lab = Lab::<Lrt>::new("");
    lab.add(1, 1).add(2, 1).load(2, 0, 5, true);
    assert_eq!(udp(&mut lab, 1), Some(1), "of UDP, inactive ones are all there is");
    let mut lab = Lab::<Lrt>::new("");
    lab.add(1, 1).add(2, 1).load(2, 0, 20, true);
    assert_eq!(lab.connect(), Some(1), "connections that ended lately count a little");
}

/// What `lrt` is without times, for the three above.
fn shortest_expected_delay(picks: usize) -> Vec<Option<u32>> {
    let mut active = [0u64, 0, 0, 0];
    let weights = [(3, 1), (2, 2), (1, 1)];
    (0..picks)
        .map(|_| {
            let mut best = weights[0];
            for other in &weights[1..] {
                if (active[other.0] + 1) * best.1 < (active[best.0] + 1) * other.1 {
                    best = *other;
                }
            }
            active[best.0] += 1;
            u32::try_from(best.0).ok()
        })
        .collect()
}

#[test]
fn a_destination_that_was_slow_once_is_tried_again_and_then_forgiven() {
    let mut lab = two(1_000, 1_000);
    lab.respond(2, Answered, 400_000);
    let got = serve(&mut lab, 1_000, |_| 1_000);
    assert_eq!(got[2], 0, "100 times as slow as the other, for ten seconds");
    let got = serve(&mut lab, 15_000, |_| 1_000);
    assert!(got[2] > 300, "tried within two and a half minutes, and good again: {got:?}");
}

#[test]
fn a_destination_that_stays_slow_gets_a_connection_now_and_then() {
    let mut lab = two(1_000, 200_000);
    let got = serve(&mut lab, 60_000, |id| if id == 1 { 1_000 } else { 200_000 });
    assert!((2..=60).contains(&got[2]), "in ten minutes: {got:?}");
}

#[test]
fn refusals_and_silence_weigh_more_than_slow_answers() {
    for (response, micros) in [(Refused, 40), (Unanswered, 40), (Unanswered, 3_000_000)] {
        let mut lab = two(1_000, 1_000);
        lab.respond(1, response, micros);
        let mut got = lab.connect_all(100);
        got.retain(|pick| *pick == Some(1));
        assert!(got.is_empty(), "{response:?} after {micros} us");
    }
    let mut lab = Lab::<Lrt>::new("penalty=1");
    lab.add(2, 1).add(1, 1).respond(1, Refused, 40).respond(2, Answered, 1_000);
    assert_eq!(lab.connect(), Some(1), "a refusal counts as an answer after the penalty");
}

#[test]
fn a_new_destination_is_tried() {
    let mut lab = two(1_000, 9_000);
    lab.add(3, 1);
    let picks = lab.connect_all(12);
    let to = |id| picks.iter().filter(|pick| **pick == Some(id)).count();
    assert_eq!((to(1), to(2), to(3)), (4, 0, 8), "and does not get all of them");
}

#[test]
fn who_cannot_take_one_is_never_picked() {
    let mut lab = two(1_000, 9_000);
    lab.load(1, 0, 0, false);
    assert_eq!(lab.connect(), Some(2));
    lab.edit(2, 0);
    assert_eq!(lab.connect(), None);
    lab.load(1, 0, 0, true);
    assert_eq!(lab.connect(), Some(1));
}

#[test]
fn what_was_measured_outlives_a_reload_but_not_a_removal() {
    let mut lab = two(9_000, 1_000);
    assert!(lab.reload());
    assert_eq!(line(&lab.connect_all(3)), "2 2 2");
    lab.remove(1).add(4, 1).close(2).close(2).close(2);
    lab.load(4, 1, 0, true);
    assert_eq!(
        line(&lab.connect_all(4)),
        "4 2 4 4",
        "as if it took half as long: 2 to 2, 3 to 2, 3 to 4, 4 to 4"
    );
}

#[test]
fn a_state_of_another_clock_grows_old_as_well() {
    let mut lab = two(1_000, 1_000);
    lab.host.now_ms = 1_000_000_000;
    lab.respond(2, Answered, 400_000);
    assert_eq!(lab.connect(), Some(1));
    lab.host.now_ms = 0;
    assert!(lab.reload());
    let got = serve(&mut lab, 16_000, |_| 1_000);
    assert!(got[2] > 300, "{got:?}");
}

#[test]
fn options_it_does_not_know_are_refused() {
    for options in ["decay=0", "decay=3601", "penalty=0", "penalty=60001", "penalty", "fast"] {
        let said = Runner::<Lrt>::new("tcp 192.0.2.1:80", options).map(drop).unwrap_err();
        assert!(said.contains(options) && said.contains("decay=1"), "{said}");
    }
    assert!(Runner::<Lrt>::new("", "decay=3600,penalty=60000").is_ok());
}
