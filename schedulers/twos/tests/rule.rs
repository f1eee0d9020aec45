//! What follows from the rule of `twos`; no kernel has been recorded.

use uvs_scheduler_twos::Twos;
use uvs_sdk::testing::{Lab, TestHost, line};
use uvs_sdk::{Flow, Host, Level, Protocol, Runner};

/// A host that hands out given numbers.
struct Draws(Vec<u64>);

impl Host for Draws {
    fn random(&mut self) -> u64 {
        self.0.remove(0)
    }

    fn now_ms(&mut self) -> u64 {
        0
    }

    fn log(&mut self, _: Level, _: &str) {}
}

fn flow() -> Flow {
    let any = std::net::Ipv4Addr::LOCALHOST.into();
    Flow { protocol: Protocol::Tcp, client: any, client_port: 1, virtual_addr: any, virtual_port: 1, mark: 0 }
}

/// The random number that is drawn as `draw` of 0 to `total`.
fn number(draw: u64, total: u64) -> u64 {
    u64::try_from((u128::from(draw) << 64).div_ceil(u128::from(total) + 1))
        .expect("a draw is at most the total")
}

#[test]
fn of_two_draws_the_less_loaded_for_its_weight_wins() {
    // List order is 4 3 2 1 with weights 2, 3, 0, 1: draws 0 to 2 are 4, 3 to 5 are 3, 6 is 1.
    let cases = [
        (0, 0, Some(4), "a draw of 0 is the first"),
        (2, 2, Some(4), "the last draw of its weight"),
        (3, 3, Some(3), "the first draw of the next"),
        (6, 6, Some(1), "the last of all; the quiesced one is passed over"),
        (1, 4, Some(3), "one for each of 3's weight, two for each of 4's"),
        (4, 1, Some(3), "in the other order"),
        (6, 4, Some(1), "the same for its weight: the first draw"),
        (4, 6, Some(3), "the same for its weight: the first draw"),
    ];
    for (first, second, want, why) in cases {
        let mut lab = Lab::<Twos>::new("");
        lab.add(1, 1).add(2, 0).add(3, 3).add(4, 2);
        lab.load(1, 1, 0, true).load(3, 3, 0, true).load(4, 4, 0, true);
        lab.edit(2, 0);
        // The lab's own host would draw: this pick goes to the runner itself.
        let words =
            [(0, 4), (1, 3), (3, 1)].map(|(at, active)| uvs_sdk::LoadWord::new(at, active, 0, true).0);
        let mut host = Draws(vec![number(first, 6), number(second, 6)]);
        let position = lab.runner().schedule(&flow(), &words, &mut host);
        let id = position.and_then(|position| lab.runner().table().get(position)).map(|d| d.id);
        assert_eq!(id, want, "draws {first} and {second}: {why}");
    }
}

#[test]
fn unloaded_destinations_are_picked_by_weight() {
    let mut runner = Runner::<Twos>::new("tcp 10.0.0.100:80", "flag-1").unwrap();
    let weights = [4, 0, 1, 2, 3];
    let list: Vec<_> = (0..).zip(weights).map(|(id, weight)| destination(id, weight)).collect();
    runner.update(&list);
    let mut host = TestHost::default();
    let mut counts = [0_u32; 5];
    for _ in 0..11_000 {
        counts[runner.schedule(&flow(), &[], &mut host).unwrap() as usize] += 1;
    }
    // 11 draws, of which the first has one more than its weight; without load the first of two draws stays.
    for (count, want) in counts.into_iter().zip([5000, 0, 1000, 2000, 3000]) {
        assert!(count.abs_diff(want) <= want / 10, "{counts:?}");
    }
}

fn destination(id: u32, weight: u32) -> uvs_sdk::Destination {
    uvs_sdk::Destination::new(id, weight, std::net::Ipv4Addr::LOCALHOST, 80)
}

#[test]
fn loads_even_out() {
    let mut lab = Lab::<Twos>::new("");
    for id in 1..=10 {
        lab.add(id, 1);
    }
    let picks = lab.connect_all(1000);
    for id in 1..=10 {
        let got = picks.iter().filter(|&&pick| pick == Some(id)).count();
        assert!((92..=108).contains(&got), "{got} to {id}; a single draw would scatter by 10 and more");
    }
}

#[test]
fn quiesced_and_overloaded_are_left_out() {
    let mut lab = Lab::<Twos>::new("");
    assert_eq!(lab.connect(), None, "no destination at all");
    lab.add(1, 1).add(2, 0).add(3, 1).load(3, 9, 0, false);
    assert_eq!(line(&lab.connect_all(4)), "1 1 1 1");
    lab.edit(1, 0);
    assert_eq!(lab.connect(), None, "nobody is left");
    lab.load(3, 0, 0, true);
    assert_eq!(line(&lab.connect_all(2)), "3 3");
}

#[test]
fn the_largest_weights_add_up() {
    let mut lab = Lab::<Twos>::new("");
    for id in 1..=5 {
        lab.add(id, i32::MAX as u32);
    }
    let picks = lab.connect_all(100);
    assert!((1..=5).all(|id| picks.contains(&Some(id))), "{}", line(&picks));
}

#[test]
fn options_are_refused() {
    let error = Runner::<Twos>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("twos has no flag \"fast\""), "{error}");
}
