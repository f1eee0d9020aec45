use uvs_director::spec::Protocol;

use super::*;

fn key() -> Key {
    let addr = "192.0.2.10:80".parse().unwrap();
    (ServiceKey::Address { protocol: Protocol::Tcp, addr }, "192.0.2.21:80".parse().unwrap())
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn steps(drains: &Drains, open: usize, moments: &[u64]) -> Vec<Step> {
    let step = |millis: &u64| {
        let Some((drain, step)) = drains.advance(&key(), open, at(*millis)) else { return Step::Wait };
        if matches!(step, Step::Forget | Step::Finish) || step == Step::Begin && !drain.reset {
            assert!(drains.close(&key(), &drain, open));
        }
        step
    };
    moments.iter().map(step).collect()
}

fn begun(terms: Terms) -> Drains {
    let drains = Drains::default();
    drains.begin(key().0, key().1, terms, at(0));
    drains
}

#[test]
fn without_a_deadline_it_waits_for_the_last_connection() {
    let drains = begun(Terms::default());
    assert_eq!(steps(&drains, 1, &[0, 1_000_000_000]), [Step::Wait, Step::Wait]);
    assert_eq!(steps(&drains, 0, &[1_000_000_001]), [Step::Finish]);
    assert_eq!(drains.shown(&key().0, key().1, at(1_000_000_001)).unwrap().phase, "over");
    let soon = steps(&begun(Terms::default()), 0, &[0, 499, 500]);
    assert_eq!(soon, [Step::Wait, Step::Wait, Step::Finish], "who was placed before may not be entered yet");
    assert_eq!(steps(&drains, 1, &[1_000_000_002]), [Step::Wait], "it is told once");
}

#[test]
fn at_the_deadline_what_is_left_is_asked_a_few_times_and_then_forgotten() {
    let drains = begun(Terms { deadline_ms: Some(2000), reset: true, then: None });
    assert_eq!(
        steps(&drains, 5, &[1999, 2000, 2001, 2500, 3001, 4001, 4500, 5001, 6001]),
        [
            Step::Wait,
            Step::Begin,
            Step::Ask,
            Step::Wait,
            Step::Ask,
            Step::Ask,
            Step::Wait,
            Step::Forget,
            Step::Wait
        ]
    );
    let drains = begun(Terms { deadline_ms: Some(2000), reset: true, then: None });
    assert_eq!(steps(&drains, 5, &[2000, 2001]), [Step::Begin, Step::Ask]);
    assert_eq!(steps(&drains, 0, &[2250]), [Step::Finish], "all have answered");
    let drains = begun(Terms { deadline_ms: Some(2000), reset: false, then: None });
    assert_eq!(steps(&drains, 5, &[2000, 2250]), [Step::Begin, Step::Wait], "it goes on");
}

#[test]
fn what_people_want_goes_before_what_checks_say() {
    let drains = begun(Terms::default());
    let (service, destination) = key();
    drains.on_down(service, destination, Some(OnDown::Reset(Duration::ZERO)), at(10));
    assert_eq!(steps(&drains, 1, &[20]), [Step::Wait]);
    drains.on_down(service, destination, None, at(30));
    assert_eq!(drains.shown(&service, destination, at(30)).unwrap().by, "people");
    drains.cancel(service, destination);

    drains.on_down(service, destination, Some(OnDown::Drain(Duration::from_secs(1))), at(40));
    drains.on_down(service, destination, Some(OnDown::Drain(Duration::from_secs(1))), at(900));
    assert_eq!(steps(&drains, 1, &[1039, 1040]), [Step::Wait, Step::Begin], "from when it went down");
    drains.on_down(service, destination, None, at(2000));
    assert_eq!(drains.shown(&service, destination, at(2000)), None, "it is up again");
}

#[test]
fn who_takes_a_drain_back_has_no_more_connections_ended() {
    let (service, destination) = key();
    let terms = Terms { deadline_ms: Some(0), reset: true, then: None };
    let drains = begun(terms);
    assert_eq!(steps(&drains, 1, &[499, 500, 501]), [Step::Wait, Step::Begin, Step::Ask]);
    drains.begin(service, destination, Terms::default(), at(502));
    let cancelled = drains.state().cancelled.iter().map(|(key, _)| *key).collect::<Vec<_>>();
    assert_eq!(cancelled, [key()]);
    let (before, step) = drains.advance(&key(), 0, at(1100)).unwrap();
    assert_eq!(step, Step::Finish);
    drains.begin(service, destination, Terms::default(), at(1101));
    assert!(!drains.close(&key(), &before, 0), "it is another by now");
    assert_eq!(steps(&drains, 1, &[2000]), [Step::Wait]);
}

#[test]
fn a_weight_of_0_gives_connections_a_deadline_and_another_weight_takes_it_back() {
    let (service, destination) = key();
    let drains = Drains::default();
    let after = Some(Duration::from_secs(1));
    drains.on_weight(service, destination, after, at(0));
    drains.on_weight(service, destination, after, at(900));
    assert_eq!(steps(&drains, 1, &[999, 1000]), [Step::Wait, Step::Begin], "from when it lost its weight");
    assert_eq!(drains.shown(&service, destination, at(1000)).unwrap().by, "weight");
    drains.on_down(service, destination, None, at(1001));
    assert!(drains.shown(&service, destination, at(1001)).is_some(), "its checks have no say in that");
    drains.on_weight(service, destination, None, at(1002));
    assert_eq!(drains.shown(&service, destination, at(1002)), None);

    drains.begin(service, destination, Terms::default(), at(2000));
    drains.on_weight(service, destination, after, at(2001));
    drains.on_weight(service, destination, None, at(2002));
    assert_eq!(drains.shown(&service, destination, at(2002)).unwrap().by, "people");
}

#[test]
fn what_is_removed_stays_for_its_connections_unless_it_comes_back() {
    let (service, destination) = key();
    let leaves = |drains: &Drains, after, now| {
        drains.on_removal(service, destination, Duration::from_millis(after), at(now));
        assert!(drains.is_leaving(&service, destination));
        let shown = drains.shown(&service, destination, at(now)).unwrap();
        assert_eq!((&*shown.by, shown.then, shown.reset), ("removal", Some(Then::Remove), true));
        Duration::from_secs_f64(shown.deadline_s.unwrap()).as_millis()
    };
    let drains = Drains::default();
    assert_eq!(leaves(&drains, 5000, 0), 5000);
    assert_eq!(leaves(&drains, 5000, 4000), 1000, "another reload gives it no more time");
    drains.stays(service, destination);
    assert!(!drains.is_leaving(&service, destination));

    // Whatever drained it before.
    drains.begin(service, destination, Terms::default(), at(0));
    assert_eq!(leaves(&drains, 5000, 0), 5000);
    drains.begin(service, destination, Terms { deadline_ms: Some(2000), ..Terms::default() }, at(0));
    assert_eq!(leaves(&drains, 5000, 0), 2000, "it has what it had");
    drains.cancel(service, destination);
    drains.on_weight(service, destination, Some(Duration::from_secs(60)), at(0));
    assert_eq!(steps(&drains, 0, &[500]), [Step::Finish], "no connection was left");
    assert_eq!(leaves(&drains, 5000, 1000), 5000);
    let (drain, step) = drains.advance(&key(), 0, at(1500)).unwrap();
    assert_eq!(step, Step::Finish);
    assert!(drains.close(&key(), &drain, 0) && drains.is_over(&key(), &drain));
    drains.stays(service, destination);
    assert!(!drains.is_over(&key(), &drain), "who brings it back keeps it from being removed");
}
