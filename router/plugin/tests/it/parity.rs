//! Each shipped component picks as its native twin does.

use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Load, Scheduler, SchedulerFactory, Wlc};
use uvs_director::spec::SchedulerSpec;
use uvs_plugin::{Plugin, SHIPPED, Schedulers, native};

use crate::guest::{active, candidate, flow, host};

/// A small generator (SplitMix64), so that a seed repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(n)).unwrap()
    }

    fn load(&mut self) -> Load {
        match self.below(8) {
            0 => Load::default(),
            1 => Load { active: 3, inactive: 1, unavailable: true },
            2 => Load { active: u32::MAX, inactive: u32::MAX, unavailable: false },
            _ => Load { active: self.below(6), inactive: self.below(700), unavailable: false },
        }
    }

    fn weight(&mut self) -> u32 {
        match self.below(10) {
            0 | 1 => 0,
            2 => 2_147_483_647,
            _ => 1 + self.below(6),
        }
    }
}

fn run(name: &str, bytes: &[u8], seed: u64, steps: u32) {
    let module = host().compile(name, bytes).unwrap();
    let mut component = Plugin::new(&module, "service", "", Box::new(Wlc::default()), seed).unwrap();
    let mut twin = native(name, "service", "", seed).unwrap();
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
                now = now + core::time::Duration::from_micros(u64::from(random.below(5000)));
                let flow = flow(random.below(3));
                let got = component.schedule(&flow, &changed, now);
                let want = twin.schedule(&flow, &changed, now);
                assert_eq!(got, want, "{name}, seed {seed}, step {step}, over {set:?}");
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
    assert!(picked > steps / 2, "{name}: only {picked} picks of {steps} steps placed a connection");
}

#[test]
fn shipped_components_pick_as_their_native_twins() {
    for (name, bytes) in SHIPPED {
        for seed in 0..8 {
            run(name, bytes, seed, 3_000);
        }
    }
}

#[test]
fn shipped_components_carry_a_thousand_destinations_within_their_fuel() {
    for (name, bytes) in SHIPPED {
        let module = host().compile(name, bytes).unwrap();
        let mut component = Plugin::new(&module, "service", "", Box::new(Wlc::default()), 0).unwrap();
        let mut twin = native(name, "service", "", 0).unwrap();
        let set: Vec<_> = (0..1_000).map(|id| candidate(id, 1 + id % 7, active(id % 13))).collect();
        component.update(&set);
        twin.update(&set);
        let all: Vec<_> = (0..1_000).map(|position| (position, active(position % 11))).collect();
        for changed in [&[][..], &all, &all[..10], &[]] {
            let want = twin.schedule(&flow(0), changed, Instant::ZERO);
            assert_eq!(component.schedule(&flow(0), changed, Instant::ZERO), want, "{name}");
            let (used, limit) = (component.fuel_used().unwrap(), 3_000_000);
            println!("{name}: {used} fuel for a pick of 1000 with {} changes", changed.len());
            assert!(used < limit / 3, "{name}: {used} of {limit}");
        }
        assert_eq!(component.stats().snapshot().failures_total(), 0, "{name}");
    }
}

#[test]
fn a_successor_goes_on_where_the_predecessor_stopped() {
    let module = host().compile("rr", SHIPPED[1].1).unwrap();
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
