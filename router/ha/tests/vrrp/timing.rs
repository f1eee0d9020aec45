//! Timers, pauses and clocks.

use uvs_ha::vrrp::Reason;

use crate::*;

#[test]
fn a_backup_takes_over_after_three_intervals_and_its_skew() {
    for (version, centis, priority, want) in [
        (Version::V3, 100, 100, 3609),
        (Version::V3, 100, 254, 3007),
        (Version::V3, 10, 100, 360),
        (Version::V3, 1, 1, 39),
        (Version::V2, 100, 100, 3609),
        (Version::V2, 500, 100, 15_609),
    ] {
        let interval = Interval::from_centis(centis).unwrap();
        let mut node = Node::new(plan([RouterPlan { version, interval, ..router("a", priority) }]));
        assert_eq!(node.state(), State::Backup);
        assert_eq!(node.takes_over_in(), want, "{version:?}, {centis} cs, priority {priority}");
    }
}

#[test]
fn a_takeover_is_an_advertisement_then_the_addresses_then_announcements_then_programs() {
    let unadvertised = vec![ip("2001:db8::100")];
    let mut node = Node::new(plan([RouterPlan { unadvertised, ..router("a", 100) }]));
    assert_eq!(node.done(), ["INSTANCE a BACKUP 100"]);
    node.run(ms(4000));
    assert_eq!(
        node.done(),
        [
            "a sends 100",
            "a owns 10.0.0.100,2001:db8::100",
            "a announces 10.0.0.100,2001:db8::100",
            "INSTANCE a MASTER 100"
        ]
    );
    node.run(ms(10_000));
    assert_eq!(node.sent(), [100; 10], "one an interval");
    node.vrrp.stop(node.now);
    node.collect();
    assert_eq!(node.done(), ["a sends 0", "a disowns 10.0.0.100,2001:db8::100", "INSTANCE a STOP 100"]);
    assert_eq!(node.vrrp.next_due(), None);
}

#[test]
fn the_owner_of_the_addresses_does_not_wait() {
    let mut node = Node::new(plan([router("a", 255)]));
    assert_eq!(node.state(), State::Active);
    let told = ["a sends 255", "a owns 10.0.0.100", "a announces 10.0.0.100", "INSTANCE a MASTER 255"];
    assert_eq!(node.done(), told);
    node.hear(HIGHER, &advert(254));
    assert_eq!(node.state(), State::Active);
    node.sleep(ms(60_000));
    node.tick();
    assert_eq!(node.state(), State::Active, "nobody else may have them");
    // Two owners are a mistake: one of them lets go, as long as it hears the other.
    node.hear(HIGHER, &advert(255));
    assert_eq!(node.state(), State::Backup);
    for _ in 0..10 {
        node.run(ms(1000));
        node.hear(HIGHER, &advert(255));
    }
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn an_active_node_that_slept_for_as_long_as_others_wait_listens_first() {
    for (slept, want) in [(2900, State::Active), (3001, State::Backup), (10_000, State::Backup)] {
        let mut node = Node::active(plan([router("a", 100)]));
        // It has sent one at 3609 ms and runs until then.
        node.now = Instant::from_millis(3609);
        node.sleep(ms(slept));
        node.tick();
        assert_eq!(node.state(), want, "{slept} ms");
        if want == State::Backup {
            let view = &node.vrrp.view()[0];
            assert!(matches!(view.reason, Reason::LateWake { .. }), "{:?}", view.reason);
            assert_eq!(node.done(), ["a sends 0", "a disowns 10.0.0.100", "INSTANCE a BACKUP 100"]);
            assert_eq!(node.takes_over_in(), 3609);
        }
    }
}

#[test]
fn whatever_comes_first_after_a_pause_finds_it_listening() {
    type Wake = (&'static str, fn(&mut Node));
    let wakes: [Wake; 4] = [
        ("a message", |node| node.hear(LOWER, &advert(50))),
        ("a state", |node| node.vrrp.track("link", false, node.now)),
        ("a plan", |node| node.apply(plan([router("a", 100)]))),
        ("a snapshot", |node| node.vrrp.snapshot_settled(node.now)),
    ];
    for (what, wake) in wakes {
        let mut node = Node::active(plan([router("a", 100)]));
        node.sleep(ms(5000));
        wake(&mut node);
        assert_eq!(node.state(), State::Backup, "{what}");
    }
}

#[test]
fn time_asleep_is_not_time_listened() {
    for slept in [1001, 3500, 3608, 3700, 60_000] {
        let mut node = Node::new(plan([router("a", 100)]));
        node.sleep(ms(slept));
        node.tick();
        assert_eq!((node.state(), node.takes_over_in()), (State::Backup, 3609), "{slept} ms");
    }
    // Nor is a delay of preemption over by it.
    let mut node = Node::new(plan([RouterPlan { preempt_delay: ms(5000), ..router("a", 100) }]));
    node.hear(LOWER, &advert(50));
    node.sleep(ms(6000));
    node.tick();
    assert_eq!((node.state(), node.takes_over_in()), (State::Backup, 3609));
    // A short one is not worth it.
    let mut node = Node::new(plan([router("a", 100)]));
    node.run(ms(3000));
    node.sleep(ms(700));
    node.tick();
    assert_eq!(node.state(), State::Active);
}

#[test]
fn a_clock_that_jumps_makes_nobody_active_too_early_or_never() {
    let mut node = Node::new(plan([router("a", 100)]));
    node.now = Instant::from_secs(1_000_000);
    node.tick();
    assert_eq!(node.state(), State::Backup, "it looks like a pause");
    node.run(ms(1000));
    node.now = Instant::from_secs(5);
    node.tick();
    let left = node.takes_over_in();
    assert!((2600..=2860).contains(&left), "{left} ms: set back by days, it is late by a beat at the most");
}

#[test]
fn early_and_repeated_calls_change_nothing() {
    let mut node = Node::new(plan([router("a", 100)]));
    for ms in 0..3609 {
        node.now = Instant::from_millis(ms);
        node.tick();
        node.tick();
    }
    assert_eq!(node.state(), State::Backup);
    node.outputs.clear();
    node.now = Instant::from_millis(3610);
    node.tick();
    node.tick();
    assert_eq!((node.state(), node.sent()), (State::Active, vec![100]));
}

#[test]
fn nobody_is_active_before_the_snapshot_is_in_or_given_up() {
    let mut node = Node::new(plan([router("a", 100), RouterPlan { vrid: 2, ..router("o", 255) }]));
    node.vrrp = Vrrp::new(node.now);
    node.vrrp.await_snapshot(ms(8000), node.now);
    node.outputs.clear();
    node.apply(plan([router("a", 100), RouterPlan { vrid: 2, ..router("o", 255) }]));
    node.run(ms(7900));
    assert_eq!(["a", "o"].map(|name| node.vrrp.state(name)), [Some(State::Backup); 2]);
    let events = node.events();
    let waits = events.iter().filter(|event| matches!(event, Event::AwaitsSnapshot { .. }));
    assert_eq!(waits.count(), 2, "told once each: {events:?}");
    node.run(ms(200));
    assert_eq!(["a", "o"].map(|name| node.vrrp.state(name)), [Some(State::Active); 2]);
    assert!(node.events().contains(&Event::SnapshotGivenUp));

    // In time, and while another is Active: it preempts only then.
    let mut node = Node::new(plan([router("a", 100)]));
    node.vrrp.await_snapshot(ms(60_000), node.now);
    for _ in 0..20 {
        node.run(ms(1000));
        node.hear(LOWER, &advert(50));
    }
    node.vrrp.snapshot_settled(node.now);
    node.collect();
    assert_eq!(node.state(), State::Backup);
    for _ in 0..4 {
        node.run(ms(1000));
        node.hear(LOWER, &advert(50));
    }
    assert_eq!(node.state(), State::Active);
}

#[test]
fn announcements_come_in_two_rounds_and_then_now_and_then() {
    let announce = AnnouncePlan { repeat: 2, gap: ms(0), delay: ms(5000), refresh: ms(30_000) };
    let mut node = Node::new(plan([RouterPlan { announce, ..router("a", 100) }]));
    let count = |node: &mut Node, time| {
        node.run(ms(time));
        node.done().iter().filter(|word| word.contains("announces")).count()
    };
    assert_eq!(
        [count(&mut node, 4000), count(&mut node, 4500), count(&mut node, 1000), count(&mut node, 60_000)],
        [2, 0, 2, 2]
    );
}
