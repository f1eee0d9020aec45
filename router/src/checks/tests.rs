#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::sync::Arc;

use uvs_check::outcome::{Outcome, Verdict};
use uvs_config::{Config, Modules};
use uvs_director::Instant;
use uvs_director::spec::Limits;

use super::mend::{Mended, Refused};
use super::*;

const FILE: &str = "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n\
    [[check]]\nname = 'web'\ntype = 'tcp'\n\
    [[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:80'\nscheduler = 'rr'\nforward = 'nat'\nchecks = ['web']\n\
    destination = [{ address = '192.0.2.21:80', weight = 3 }, { address = '192.0.2.22:80' }]\n";

fn director(config: &Config) -> Arc<Director> {
    let schedulers = crate::check::schedulers(&Modules::default()).unwrap();
    let director = Director::new(Limits::default(), 1, Arc::new(schedulers));
    for change in Config::diff(None, config) {
        director.apply(change, Instant::ZERO).unwrap();
    }
    Arc::new(director)
}

fn weight(director: &Director, destination: SocketAddr) -> Option<u32> {
    let mut found = None;
    director.weights(|_, addr, weight| {
        if addr == destination {
            found = Some(weight);
        }
    });
    found
}

/// Checks that go down while their server is not in the director can set no weight; and who adds it again may give it
/// the weight that it had, which nobody notices.
#[test]
fn a_weight_that_could_not_be_set_is_set_when_that_is_possible() {
    let config = Config::parse(FILE, "test.toml").unwrap();
    let director = director(&config);
    let weights = Arc::<Weights>::default();
    weights.hold().settled(&config, None);
    let mut doer = Doer {
        drains: Arc::default(),
        director: Arc::clone(&director),
        weights: Arc::clone(&weights),
        clock: Clock::start(),
        events: Arc::default(),
    };
    let service = config.services[0].spec.key;
    let one: SocketAddr = "192.0.2.21:80".parse().unwrap();
    let spec = config.services[0].destinations[0];
    let mut refused = Refused::default();
    let mut mend = || weights.mend(&director, &mut refused, Instant::ZERO);
    assert_eq!(mend(), [], "all is as it should be");

    director.apply(Change::RemoveDestination(service, one), Instant::ZERO).unwrap();
    let by = uvs_check::weight::Writer::Health;
    doer.orders(&[Order {
        service,
        destination: one,
        weight: 0,
        by,
        down: None,
        quiesced: None,
        drain: None,
    }]);
    assert_eq!(mend(), [], "it is not there");
    director.apply(Change::AddDestination(service, spec), Instant::ZERO).unwrap();
    assert_eq!(weight(&director, one), Some(3));
    assert_eq!(mend(), [Mended { service, destination: one, was: 3, weight: 0 }]);
    assert_eq!(weight(&director, one), Some(0));
    assert_eq!(mend(), [], "once is enough");

    // By somebody who says nothing.
    director.apply(Change::SetWeight(service, one, 9), Instant::ZERO).unwrap();
    assert_eq!(mend(), [Mended { service, destination: one, was: 9, weight: 0 }]);

    // What is not known weighs what it likes.
    weights.hold().settled(&Config { services: Vec::new(), ..config }, None);
    director.apply(Change::SetWeight(service, one, 9), Instant::ZERO).unwrap();
    assert_eq!(mend(), []);
}

/// What is known of a server by its checks is not forgotten because `uvs adm` takes it out, alone or with its service,
/// and puts it back; and one that is down gets nothing when it comes back.
#[test]
fn what_adm_removes_and_adds_again_is_as_its_checks_know_it() {
    let config = Config::parse(FILE, "test.toml").unwrap();
    let director = director(&config);
    let weights = Weights::default();
    weights.hold().settled(&config, None);
    let service = config.services[0].spec.key;
    let spec = config.services[0].destinations[0];
    let now = Instant::ZERO;
    let mut core = uvs_check::core::Core::new(Bounds::default(), 1);
    core.apply(planned(config.plan(), &weights.hold()), now);
    for _ in 0..10 {
        let at = core.next_due().unwrap();
        let mut starts = Vec::new();
        core.poll(at, &mut starts);
        for start in starts {
            core.finish(start.run, Outcome::plain(Verdict::Fail("refused".into()), Duration::ZERO), at);
        }
        core.take_orders();
    }
    let down = |core: &uvs_check::core::Core, weight| {
        let view = core.view();
        let it = view[0].destinations.iter().find(|it| it.addr == spec.addr).unwrap();
        assert_eq!((it.checks[0].state, it.in_service, it.weight), (State::Down, false, weight), "{it:?}");
    };
    down(&core, 0);

    let removals = [
        vec![Change::RemoveDestination(service, spec.addr)],
        vec![Change::RemoveService(service), Change::AddService(config.services[0].spec.clone())],
    ];
    for removal in removals {
        for change in removal {
            director.apply(change, now).unwrap();
            let by_adm = weights.hold().changed(&director, Some(&service), now);
            assert!(by_adm.weights.is_empty() && by_adm.came.is_empty(), "{by_adm:?}");
            core.apply(planned(config.plan(), &weights.hold()), now);
        }
        director.apply(Change::AddDestination(service, spec), now).unwrap();
        let by_adm = weights.hold().changed(&director, Some(&service), now);
        assert_eq!(by_adm.came, [(service, spec.addr, 3)]);
        core.apply(planned(config.plan(), &weights.hold()), now);
        down(&core, 0);
        core.take_orders();
        for (key, addr, weight) in by_adm.came {
            assert!(core.edit(core.find(&key, addr).unwrap(), Edit::Adm(Some(weight)), now));
        }
        core.poll(now + Duration::from_secs(1), &mut Vec::new());
        let orders = core.take_orders();
        assert!(orders.iter().any(|it| it.destination == spec.addr && it.weight == 0), "{orders:?}");
    }
}

/// What `uvs adm` sets while it compiles a module is noted only afterwards, and must not be taken back before.
#[test]
fn what_is_set_by_who_announced_it_is_not_mended() {
    let config = Config::parse(FILE, "test.toml").unwrap();
    let director = director(&config);
    let weights = Weights::default();
    weights.hold().settled(&config, None);
    let service = config.services[0].spec.key;
    let one: SocketAddr = "192.0.2.21:80".parse().unwrap();
    let mut refused = Refused::default();

    let announced = weights.announce();
    director.apply(Change::SetWeight(service, one, 7), Instant::ZERO).unwrap();
    assert_eq!(weights.mend(&director, &mut refused, Instant::ZERO), [], "he has announced it");
    let mut held = weights.hold();
    assert_eq!(held.changed(&director, Some(&service), Instant::ZERO).weights, [(service, one, 7)]);
    drop((announced, held));
    assert_eq!(weights.mend(&director, &mut refused, Instant::ZERO), [], "it is noted now");
    assert_eq!(weight(&director, one), Some(7));

    director.apply(Change::SetWeight(service, one, 9), Instant::ZERO).unwrap();
    assert_eq!(
        weights.mend(&director, &mut refused, Instant::ZERO).len(),
        1,
        "nobody has announced this one"
    );
    assert_eq!(weight(&director, one), Some(7));
}
