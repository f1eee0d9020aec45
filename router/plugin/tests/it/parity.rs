//! Each shipped component picks as its native twin does.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use uvs_director::scheduler::{Candidate, Event, Flow, Load, Response, Scheduler, SchedulerFactory, Wlc};
use uvs_director::spec::SchedulerSpec;
use uvs_director::{Instant, splitmix64};
use uvs_plugin::{NATIVE, Plugin, Policy, SHIPPED, Schedulers, native};

use crate::guest::{active, candidate, flow, host};

/// A small generator, so that a seed repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        u32::try_from(splitmix64(&mut self.0) % u64::from(n)).unwrap()
    }

    fn load(&mut self) -> Load {
        match self.below(8) {
            0 => Load::default(),
            1 => Load { active: 3, inactive: 1, unavailable: true },
            2 => Load { active: u32::MAX, inactive: u32::MAX, unavailable: false },
            _ => Load { active: self.below(6), inactive: self.below(700), unavailable: false },
        }
    }

    fn event(&mut self, destinations: usize) -> Event {
        let bits = 1 + self.below(31);
        Event {
            position: self.below(u32::try_from(destinations).unwrap()),
            response: [Response::Answered, Response::Refused, Response::Unanswered][self.below(3) as usize],
            elapsed: Duration::from_micros(u64::from(self.below(1 << bits))),
        }
    }

    fn weight(&mut self) -> u32 {
        match self.below(10) {
            0 | 1 => 0,
            2 => 2_147_483_647,
            _ => 1 + self.below(6),
        }
    }

    /// One of some clients that asks for one of some addresses.
    fn flow(&mut self) -> Flow {
        let (client, port) = (self.below(200), self.below(4));
        let asked = self.below(20);
        let v6 = self.below(2) == 0;
        let address = |network: u16, host: u32| -> IpAddr {
            if v6 {
                Ipv6Addr::from(u128::from(network) << 112 | u128::from(host) << 32 | 1).into()
            } else {
                Ipv4Addr::from(u32::from(network) << 16 | host).into()
            }
        };
        Flow {
            client: address(0x0a01, client),
            client_port: 1024 + u16::try_from(port).unwrap(),
            virtual_addr: address(0x0a09, asked),
            ..flow(0)
        }
    }

    /// Mostly short, at times long enough for a cache to forget.
    fn pause(&mut self) -> Duration {
        match self.below(50) {
            0 => Duration::from_secs(u64::from(self.below(60 * 60 * 30))),
            _ => Duration::from_micros(u64::from(self.below(5000))),
        }
    }
}

/// The flags to try with a shipped scheduler.
fn flags(name: &str) -> &'static [&'static str] {
    match name {
        "sh" => &["", "sh-port", "sh-fallback", "sh-fallback,sh-port"],
        "mh" => &["", "mh-port", "mh-fallback", "mh-fallback,mh-port"],
        "p2c" => &["", "choices=3"],
        "chbl" => &["", "load=150,port"],
        "maglev" => &["size=4093,port", "size=251", ""],
        "lrt" => &["", "decay=2,penalty=50", "slow-start=600"],
        "wlc" | "swrr" => &["flag-1", "slow-start=600,flag-1"],
        _ => &["flag-1"],
    }
}

fn run(name: &str, bytes: &[u8], options: &str, seed: u64, steps: u32) {
    let module = host().compile(name, bytes).unwrap();
    let mut component = Plugin::new(&module, "service", options, Box::new(Wlc::default()), seed).unwrap();
    let mut twin = native(name, "service", options, seed).unwrap();
    let mut random = Random(seed);
    let mut set: Vec<Candidate> = Vec::new();
    let mut next_id = 0;
    let mut now = Instant::ZERO;
    let mut picked = 0;
    for step in 0..steps {
        match random.below(20) {
            0 => {
                set.insert(0, candidate(next_id, random.weight(), random.load()));
                next_id += 1;
            }
            1 if set.len() > 1 => {
                set.remove(random.below(u32::try_from(set.len()).unwrap()) as usize);
            }
            2 if !set.is_empty() => {
                let position = random.below(u32::try_from(set.len()).unwrap()) as usize;
                set[position].weight = random.weight();
            }
            3 if set.len() > 30 => set.clear(),
            _ => {
                let mut changed: Vec<(u32, Load)> = Vec::new();
                for position in 0..u32::try_from(set.len()).unwrap() {
                    if random.below(4) == 0 {
                        changed.push((position, random.load()));
                    }
                }
                for &(position, load) in &changed {
                    set[position as usize].load = load;
                }
                now = now + random.pause();
                if component.wants_feedback() && !set.is_empty() {
                    let events: Vec<_> = (0..random.below(4)).map(|_| random.event(set.len())).collect();
                    component.observe(&events, now);
                    twin.observe(&events, now);
                }
                let flow = random.flow();
                let got = component.schedule(&flow, &changed, now);
                let want = twin.schedule(&flow, &changed, now);
                assert_eq!(got, want, "{name} {options}, seed {seed}, step {step}, over {set:?}");
                picked += u32::from(got.is_some());
                continue;
            }
        }
        component.update(&set);
        twin.update(&set);
    }
    let stats = component.stats().snapshot();
    assert_eq!(
        (stats.failures_total(), stats.fallbacks),
        (0, 0),
        "{name}: {:?}",
        component.stats().last_failure()
    );
    assert!(picked > steps / 4, "{name}: only {picked} picks of {steps} steps placed a connection");
}

/// The components to hold against their twins: the shipped ones, or those that a newer compiler built, in the folder
/// that `UVS_TEST_MODULES` names.
fn modules() -> Vec<(&'static str, Vec<u8>)> {
    let folder = std::env::var_os("UVS_TEST_MODULES").map(std::path::PathBuf::from);
    SHIPPED
        .iter()
        .map(|&(name, shipped)| {
            let rebuilt = folder.as_ref().map(|folder| {
                let path = folder.join(format!("{name}.wasm"));
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            });
            (name, rebuilt.unwrap_or_else(|| shipped.to_vec()))
        })
        .collect()
}

#[test]
fn shipped_components_pick_as_their_native_twins() {
    for (name, bytes) in &modules() {
        for &options in flags(name) {
            for seed in 0..8 {
                run(name, bytes, options, seed, 3_000);
            }
        }
    }
    assert_eq!(SHIPPED.map(|(name, _)| name), NATIVE, "and each has one");
}

#[test]
fn shipped_components_carry_a_thousand_destinations_within_their_fuel() {
    let policy = Policy::default();
    let schedule = policy.fuel_schedule + 1_000 * policy.fuel_schedule_per_destination;
    let setup = policy.fuel_setup + 1_000 * policy.fuel_setup_per_destination;
    for (name, bytes) in &modules() {
        let module = host().compile(name, bytes).unwrap();
        let options = flags(name).last().unwrap();
        let mut component = Plugin::new(&module, "service", options, Box::new(Wlc::default()), 0).unwrap();
        let mut twin = native(name, "service", options, 0).unwrap();
        let set: Vec<_> = (0..1_000).map(|id| candidate(id, 1 + id % 7, active(id % 13))).collect();
        component.update(&set);
        twin.update(&set);
        let used = component.fuel_used().unwrap();
        println!("{name}: {used} fuel for an update of 1000");
        // A table of 65537 slots is filled, however few or many the destinations are.
        let part = if *name == "maglev" { 2 } else { 3 };
        assert!(used < setup / part, "{name}: {used} of {setup}");

        let all: Vec<_> = (0..1_000).map(|position| (position, active(position % 11))).collect();
        let mut last: Vec<_> =
            all.iter().map(|&(position, load)| (position, Load { unavailable: true, ..load })).collect();
        last[500].1.unavailable = false;
        if component.wants_feedback() {
            let mut random = Random(3);
            let events: Vec<_> = (0..1024).map(|_| random.event(1_000)).collect();
            component.observe(&events, Instant::ZERO);
            twin.observe(&events, Instant::ZERO);
            let used = component.fuel_used().unwrap();
            println!("{name}: {used} fuel for 1024 events");
            assert!(used < schedule / 3, "{name}: {used} of {schedule}");
        }
        for changed in [&[][..], &all, &all[..10], &[], &last, &[]] {
            let want = twin.schedule(&flow(0), changed, Instant::ZERO);
            assert_eq!(component.schedule(&flow(0), changed, Instant::ZERO), want, "{name}");
            let used = component.fuel_used().unwrap();
            println!("{name}: {used} fuel for a pick of 1000 with {} changes", changed.len());
            assert!(used < schedule / 3, "{name}: {used} of {schedule}");
        }
        let state = component.save().unwrap();
        let used = component.fuel_used().unwrap();
        assert!(used < setup / 3, "{name}: {used} of {setup} to save {} bytes", state.len());
        assert_eq!(component.stats().snapshot().failures_total(), 0, "{name}");
    }
}

#[test]
fn full_caches_fit_into_fuel_memory_and_a_handover() {
    for name in ["lblc", "lblcr"] {
        let modules = modules();
        let (_, bytes) = modules.iter().find(|(shipped, _)| *shipped == name).unwrap();
        let module = host().compile(name, bytes).unwrap();
        let start = || {
            let mut plugin = Plugin::new(&module, "service", "", Box::new(Wlc::default()), 0).unwrap();
            plugin.update(&(0..8).map(|id| candidate(id, 1, active(0))).collect::<Vec<_>>());
            plugin
        };
        let (mut first, mut second) = (start(), start());
        let at = |n: u32| Flow { virtual_addr: Ipv4Addr::from(0x0a00_0000 + n).into(), ..flow(0) };
        let mut dearest = 0;
        for n in 0..40_000 {
            let pick = first.schedule(&at(n), &[(n % 8, active(n % 100))], Instant::ZERO);
            assert!(pick.is_some(), "{name}");
            dearest = dearest.max(first.fuel_used().unwrap());
        }
        println!("{name}: at most {dearest} fuel for a pick");
        assert!(dearest < Policy::default().fuel_schedule / 3, "{name}: {dearest}");

        let state = first.save().unwrap();
        println!("{name}: {} bytes of state, {} fuel", state.len(), first.fuel_used().unwrap());
        assert!(second.restore(&state), "{name}");
        println!("{name}: {} fuel to restore", second.fuel_used().unwrap());
        for n in 39_000..40_000 {
            let (a, b) =
                (first.schedule(&at(n), &[], Instant::ZERO), second.schedule(&at(n), &[], Instant::ZERO));
            if state.len() < 1 << 19 {
                assert_eq!(a, b, "{name}: {n} is remembered");
            }
        }
        for plugin in [&first, &second] {
            let failure = plugin.stats().last_failure();
            assert_eq!(plugin.stats().snapshot().failures_total(), 0, "{name}: {failure:?}");
        }
    }
}

#[test]
fn a_successor_goes_on_where_the_predecessor_stopped() {
    let (_, rr) = SHIPPED.iter().find(|(name, _)| *name == "rr").unwrap();
    let module = host().compile("rr", rr).unwrap();
    let start = || {
        let mut plugin = Plugin::new(&module, "service", "", Box::new(Wlc::default()), 0).unwrap();
        plugin.update(&(0..5).map(|id| candidate(id, 1, active(0))).collect::<Vec<_>>());
        plugin
    };
    let (mut first, mut second) = (start(), start());
    for want in 0..3 {
        assert_eq!(first.schedule(&flow(0), &[], Instant::ZERO), Some(want));
    }
    assert!(second.restore(&first.save().unwrap()));
    assert_eq!(second.schedule(&flow(0), &[], Instant::ZERO), Some(3));
}

#[test]
fn the_native_twins_take_loads_that_come_with_an_update() {
    let mut lc = native("lc", "service", "", 0).unwrap();
    lc.update(&[candidate(0, 1, active(2)), candidate(1, 1, active(1)), candidate(2, 1, active(3))]);
    assert_eq!(lc.schedule(&flow(0), &[], Instant::ZERO), Some(1));
    assert_eq!(lc.schedule(&flow(0), &[(1, active(4))], Instant::ZERO), Some(0));
    lc.update(&[candidate(0, 1, active(2)), candidate(1, 1, active(1))]);
    assert_eq!(
        lc.schedule(&flow(0), &[(1, active(9))], Instant::ZERO),
        Some(0),
        "the word of this pick holds"
    );
}

#[test]
fn the_factory_serves_every_shipped_name() {
    let schedulers = Schedulers::with_seed(host().clone(), 1);
    for name in schedulers.names() {
        let mut scheduler = schedulers.create(&SchedulerSpec::named(&name), "tcp 192.0.2.1:80").unwrap();
        scheduler.update(&[candidate(0, 1, active(0))]);
        assert_eq!(scheduler.schedule(&flow(0), &[], Instant::ZERO), Some(0), "{name}");
    }
}
