//! What holds whatever is done, by anybody, in any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uvs_ha::vrrp::Command;

use crate::*;

#[derive(Clone, Debug)]
enum Step {
    Time(u64),
    Hear {
        inside: bool,
        from: u8,
        priority: u8,
        centis: u16,
        addresses: u8,
        version: bool,
    },
    Garbage(Vec<u8>),
    Track(u8, bool),
    Command(u8, u8),
    Snapshot(bool),
    /// Which virtual routers, in one group or not, and with which priority, preemption, delay and addresses.
    Plan {
        routers: u8,
        grouped: bool,
        priority: u8,
        preempt: bool,
        delay: bool,
        more: bool,
    },
    ClockBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let hear = (any::<bool>(), 1_u8..5, any::<u8>(), prop_oneof![Just(100_u16), 1_u16..500], 1_u8..3);
    let hear = (hear, prop::bool::weighted(0.1)).prop_map(
        |((inside, from, priority, centis, addresses), version)| Step::Hear {
            inside,
            from,
            priority,
            centis,
            addresses,
            version,
        },
    );
    let plan = (0_u8..4, any::<bool>(), prop_oneof![Just(255_u8), 1_u8..=255], any::<[bool; 3]>());
    let plan = plan.prop_map(|(routers, grouped, priority, [preempt, delay, more])| Step::Plan {
        routers,
        grouped,
        priority,
        preempt,
        delay,
        more,
    });
    let step = prop_oneof![
        6 => (1_u64..6000).prop_map(Step::Time),
        6 => hear,
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Garbage),
        1 => (0_u8..3, any::<bool>()).prop_map(|(name, up)| Step::Track(name, up)),
        1 => (0_u8..4, 0_u8..3).prop_map(|(name, command)| Step::Command(name, command)),
        1 => any::<bool>().prop_map(Step::Snapshot),
        2 => plan,
        1 => Just(Step::ClockBack),
    ];
    prop::collection::vec(step, 1..60)
}

const NAMES: [&str; 4] = ["outside", "inside", "both", "nobody"];

fn planned(routers: u8, grouped: bool, priority: u8, preempt: bool, delay: bool, more: bool) -> Plan {
    let mut plan = crate::groups::pair(priority);
    for router in &mut plan.routers {
        router.preempt = preempt;
        router.preempt_delay = if delay { ms(7000) } else { Duration::ZERO };
        router.unadvertised = if more { vec![ip("2001:db8::7")] } else { vec![] };
        router.track = vec![track("web", -30), track("link", 0)];
        router.announce = AnnouncePlan { repeat: 3, gap: ms(50), delay: ms(700), refresh: ms(900) };
    }
    plan.routers.retain(|router| routers & if *router.name == *"inside" { 1 } else { 2 } != 0);
    if !grouped || plan.routers.len() < 2 {
        plan.groups.clear();
    }
    plan
}

/// What each virtual router owns, by what it was told to.
type Owned = BTreeMap<String, BTreeSet<IpAddr>>;

fn follow(owned: &mut Owned, outputs: Vec<Output>) -> Result<(), TestCaseError> {
    for output in outputs {
        match output {
            Output::Own { router, addresses } => {
                owned.entry(router.to_string()).or_default().extend(addresses);
            }
            Output::Disown { router, addresses } => {
                let of_router = owned.entry(router.to_string()).or_default();
                prop_assert!(
                    addresses.iter().all(|ip| of_router.remove(ip)),
                    "{router} has not {addresses:?}"
                );
            }
            Output::Announce { router, addresses, .. } => {
                let of_router = owned.entry(router.to_string()).or_default();
                prop_assert!(addresses.iter().all(|ip| of_router.contains(ip)), "{router}: {addresses:?}");
            }
            Output::Send { from, to, message, .. } => {
                let sent = Datagram { src: from, dst: to, ttl: TTL, payload: &message };
                prop_assert!(sent.parse(TTL).is_ok());
            }
            Output::Notify(_) | Output::Event(_) => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn who_is_active_has_its_addresses_and_nobody_else_and_time_goes_on(steps in steps()) {
        let mut node = Node::new(planned(3, true, 100, true, false, false));
        let mut owned = Owned::new();
        for step in steps {
            match step {
                Step::Time(time) => {
                    if time % 3 == 0 {
                        node.sleep(ms(time));
                    } else {
                        node.run(ms(time));
                    }
                }
                Step::Hear { inside, from, priority, centis, addresses, version } => {
                    let (interface, src) = match inside {
                        true => ("eth1", format!("198.51.100.{from}")),
                        false => ("eth0", format!("192.0.2.{from}")),
                    };
                    let message = Advertisement {
                        version: if version { Version::V2 } else { Version::V3 },
                        interval: Interval::from_centis(centis).unwrap(),
                        addresses: (0..addresses).map(|at| IpAddr::from([10, u8::from(inside), 0, 100 + at])).collect(),
                        ..advert(priority)
                    };
                    let _ = node.hear_on(interface, &src, &message);
                }
                Step::Garbage(payload) => {
                    let _ = node.hear_datagram("eth0", ip(LOWER), Family::V4.group(), 255, &payload);
                }
                Step::Track(name, up) => {
                    node.vrrp.track(["web", "link", "other"][usize::from(name)], up, node.now);
                }
                Step::Command(name, command) => {
                    let commands = [Command::Failover, Command::Maintenance(true), Command::Maintenance(false)];
                    let _ = node.vrrp.command(NAMES[usize::from(name)], commands[usize::from(command)], node.now);
                }
                Step::Snapshot(true) => node.vrrp.snapshot_settled(node.now),
                Step::Snapshot(false) => node.vrrp.await_snapshot(ms(5000), node.now),
                Step::Plan { routers, grouped, priority, preempt, delay, more } => {
                    node.apply(planned(routers, grouped, priority, preempt, delay, more));
                }
                Step::ClockBack => node.now = Instant::from_nanos(node.now.as_nanos() / 2),
            }
            node.tick();
            prop_assert!(node.vrrp.next_due().is_none_or(|due| due > node.now), "what was due has been done");
            follow(&mut owned, core::mem::take(&mut node.outputs))?;
            for group in node.vrrp.view() {
                for router in &group.routers {
                    let has = owned.remove(&*router.name).unwrap_or_default();
                    let all = router.plan.addresses.iter().chain(&router.plan.unadvertised).copied();
                    let wanted: BTreeSet<IpAddr> = match group.state {
                        State::Active => all.collect(),
                        _ => BTreeSet::new(),
                    };
                    prop_assert_eq!(&has, &wanted, "{} is {}", router.name, group.state);
                    owned.insert(router.name.to_string(), has);
                }
            }
            let known = node.vrrp.view();
            let is_known = |name: &String| known.iter().any(|group| group.routers.iter().any(|it| *it.name == **name));
            prop_assert!(owned.iter().all(|(name, has)| has.is_empty() || is_known(name)), "nothing is left: {owned:?}");
        }
        node.vrrp.stop(node.now);
        node.collect();
        follow(&mut owned, core::mem::take(&mut node.outputs))?;
        prop_assert!(owned.values().all(BTreeSet::is_empty), "nothing is left: {owned:?}");
    }
}
