//! The example of the SDKs, `sticky`, is one policy in all languages.
//!
//! `cargo xtask sdk` builds it as components and names their folder in `UVS_SDK_MODULES`: `rust.wasm`, `c.wasm`,
//! `js.wasm`, ... Each is driven by uvs-plugin through the same seeded run of updates and picks as the Rust type,
//! natively, and has to pick the same and to save the same bytes. In the last run a module hands over to one in another
//! language again and again, as at a reload, and no client may notice.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Flow, Load, Scheduler, Wlc};
use uvs_director::spec::Protocol;
use uvs_example_sticky::Sticky;
use uvs_plugin::{Plugin, StartError};
use uvs_sdk::testing::TestHost;
use uvs_sdk::{Destination, LoadWord, Runner};
use uvs_tests::sdk::{Language, languages, policy};

/// How many clients the example remembers.
const CAPACITY: u32 = 10_000;

/// The Rust type, natively, told what a module is told.
struct Twin {
    runner: Runner<Sticky>,
    host: TestHost,
    /// The words of the next pick.
    words: Vec<u64>,
}

impl Twin {
    fn new() -> Self {
        let runner = Runner::new("service", "").unwrap();
        Self { runner, host: TestHost::default(), words: Vec::new() }
    }

    fn update(&mut self, set: &[Candidate]) {
        let list: Vec<_> = set.iter().map(|c| Destination::new(c.id, c.weight, c.address, c.port)).collect();
        self.runner.update(&list);
        let loads = (0..).zip(set).filter(|(_, c)| c.load != Load::default());
        self.words = loads.map(|(position, c)| word(position, c.load)).collect();
    }

    fn schedule(&mut self, flow: &Flow, changed: &[(u32, Load)], now: Instant) -> Option<u32> {
        self.words.extend(changed.iter().map(|&(position, load)| word(position, load)));
        self.host.now_ms = now.as_millis();
        let flow = uvs_sdk::Flow {
            protocol: uvs_sdk::Protocol::Tcp,
            client: flow.client.into(),
            client_port: flow.client_port,
            virtual_addr: flow.virtual_addr.into(),
            virtual_port: flow.virtual_port,
            mark: flow.mark,
        };
        let pick = self.runner.schedule(&flow, &self.words, &mut self.host);
        self.words.clear();
        pick
    }
}

fn word(position: u32, load: Load) -> u64 {
    let position = u16::try_from(position).unwrap();
    LoadWord::new(position, load.active, load.inactive, !load.unavailable).0
}

/// A small generator, so that a seed repeats a run.
struct Random(TestHost);

impl Random {
    fn new(seed: u64) -> Self {
        Self(TestHost { seed, ..TestHost::default() })
    }

    fn below(&mut self, n: u32) -> u32 {
        u32::try_from(uvs_sdk::Host::random(&mut self.0) % u64::from(n)).unwrap()
    }

    fn load(&mut self) -> Load {
        match self.below(12) {
            0 => Load::default(),
            1 => Load { active: 3, inactive: 1, unavailable: true },
            2 => Load { active: u32::MAX, inactive: u32::MAX, unavailable: false },
            // Products with a large weight beyond what a double holds.
            3 => Load { active: 8_388_600 + self.below(7), inactive: 9_000_000, unavailable: false },
            _ => Load { active: self.below(6), inactive: self.below(6), unavailable: false },
        }
    }

    fn weight(&mut self) -> u32 {
        match self.below(12) {
            0 | 1 => 0,
            2 => 2_147_483_647 - self.below(2),
            _ => 1 + self.below(4),
        }
    }

    fn candidate(&mut self, id: u32) -> Candidate {
        let address = if id.is_multiple_of(2) {
            Ipv4Addr::from_bits(0x0a00_0000 + id).into()
        } else {
            Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(id)).into()
        };
        Candidate { id, weight: self.weight(), address, port: 80, load: self.load() }
    }

    /// Mostly short, at times long enough for some clients or for all to be forgotten.
    fn pause(&mut self) -> Duration {
        match self.below(300) {
            0 => Duration::from_millis(30_000 + u64::from(self.below(3))),
            1..12 => Duration::from_millis(u64::from(self.below(20_000))),
            _ => Duration::from_micros(u64::from(self.below(40_000))),
        }
    }
}

/// A connection of client `n`; the high bits of an IPv6 address and the low ones both matter.
fn flow(n: u32) -> Flow {
    let client: IpAddr = match n % 3 {
        0 => Ipv6Addr::from_bits((0xfe80_0000_0000_0001 << 64) | (u128::from(n) << 60) | 1).into(),
        1 => Ipv6Addr::from_bits(u128::from(n) | (0x8000_0000_0000_0000 << 64)).into(),
        _ => Ipv4Addr::from_bits(0xc000_0200 + n).into(),
    };
    Flow {
        protocol: Protocol::Tcp,
        client,
        client_port: 1024,
        virtual_addr: Ipv4Addr::new(192, 0, 2, 1).into(),
        virtual_port: 80,
        mark: 0,
    }
}

/// Runs the languages in turn, each for 150 steps, against one twin that goes on all the time.
fn run(languages: &[&Language], seed: u64, steps: u32) {
    let mut random = Random::new(seed);
    let mut twin = Twin::new();
    let mut set: Vec<Candidate> = Vec::new();
    let mut turn = 0;
    let mut plugin = languages[0].start(&set);
    let mut next_id = 0;
    let mut now = Instant::ZERO;
    let mut picked = 0;
    for step in 0..steps {
        let language = languages[turn % languages.len()];
        let at = format!("{}, seed {seed}, step {step}", language.name);
        if step % 150 == 149 {
            let state = plugin.save().unwrap_or_else(|| panic!("{at}: {:?}", plugin.stats().last_failure()));
            assert_eq!(state, twin.runner.save(), "{at}");
            language.check(&plugin);
            turn += 1;
            let successor = languages[turn % languages.len()];
            plugin = successor.start(&set);
            // Its twin hears of an update, too, for it is told all loads again.
            twin.update(&set);
            assert!(plugin.restore(&state), "{} takes over from {at}", successor.name);
            assert_eq!(plugin.save().as_ref(), Some(&state), "{} has what {at} had", successor.name);
            continue;
        }
        let count = u32::try_from(set.len()).unwrap();
        match random.below(40) {
            0 | 1 => {
                next_id += 1 + random.below(3);
                let added = random.candidate(next_id);
                set.insert(0, added);
            }
            2 if count > 0 => drop(set.remove(random.below(count) as usize)),
            3 | 4 if count > 0 => set[random.below(count) as usize].weight = random.weight(),
            _ => {
                let mut changed = Vec::new();
                for position in 0..count {
                    if random.below(3) == 0 {
                        changed.push((position, random.load()));
                    }
                }
                for &(position, load) in &changed {
                    set[position as usize].load = load;
                }
                now = now + random.pause();
                let flow = flow(random.below(300));
                let got = plugin.schedule(&flow, &changed, now);
                let want = twin.schedule(&flow, &changed, now);
                assert_eq!(got, want, "{at}, over {set:#?}, {:?}", plugin.stats().last_failure());
                picked += u32::from(got.is_some());
                continue;
            }
        }
        plugin.update(&set);
        twin.update(&set);
    }
    languages[turn % languages.len()].check(&plugin);
    assert!(picked > steps / 2, "only {picked} picks of {steps} steps placed a connection");
}

/// More destinations than a word of 32 bits has positions for, and loads at both ends of the list.
fn many_destinations(language: &Language) {
    let mut random = Random::new(7);
    let mut set: Vec<_> = (1..=700).map(|id| random.candidate(id)).collect();
    let (mut plugin, mut twin) = (language.start(&set), Twin::new());
    twin.update(&set);
    for step in 0..300 {
        let touched: Vec<u32> = (0..700).filter(|_| random.below(9) == 0).collect();
        let changed: Vec<_> = touched.into_iter().map(|position| (position, random.load())).collect();
        for &(position, load) in &changed {
            set[position as usize].load = load;
        }
        let now = Instant::ZERO + Duration::from_millis(step);
        let flow = flow(random.below(30_000));
        let (got, want) = (plugin.schedule(&flow, &changed, now), twin.schedule(&flow, &changed, now));
        assert_eq!(got, want, "{}, step {step}: {:?}", language.name, plugin.stats().last_failure());
    }
    language.check(&plugin);
}

/// A memory that is full drops who stayed away longest, saves and restores within its fuel.
fn full_memory(language: &Language) {
    let set: Vec<_> = (0..8).map(|id| Candidate { weight: 1, ..Random::new(3).candidate(id) }).collect();
    let (mut plugin, mut twin) = (language.start(&set), Twin::new());
    twin.update(&set);
    let mut dearest = 0;
    for n in 0..CAPACITY + 2_000 {
        // Client 3 comes all the time.
        for client in [n, 3] {
            let changed = [(n % 8, Load { active: n % 50, ..Load::default() })];
            let now = Instant::ZERO + Duration::from_millis(u64::from(n));
            let (got, want) =
                (plugin.schedule(&flow(client), &changed, now), twin.schedule(&flow(client), &changed, now));
            assert_eq!(got, want, "{}, client {client} of {n}", language.name);
            dearest = dearest.max(plugin.fuel_used().unwrap());
        }
    }
    let state = plugin.save().unwrap_or_else(|| panic!("{:?}", plugin.stats().last_failure()));
    let save = plugin.fuel_used().unwrap();
    assert_eq!(state.len(), 8 + 28 * CAPACITY as usize, "{}", language.name);
    assert_eq!(state, twin.runner.save(), "{}", language.name);
    let mut successor = language.start(&set);
    assert!(successor.restore(&state), "{}", language.name);
    let restore = successor.fuel_used().unwrap();
    assert_eq!(successor.save().as_ref(), Some(&state), "{}", language.name);
    // All of them are over now, and no pick may have to forget all.
    let late = Instant::ZERO + Duration::from_secs(3_000);
    let pick = successor.schedule(&flow(0), &[], late);
    language.check(&plugin);
    language.check(&successor);
    assert!(pick.is_some());
    dearest = dearest.max(successor.fuel_used().unwrap());
    let policy = policy(&language.name);
    println!("{}: fuel of a pick of 8 at most {dearest}, save {save}, restore {restore}", language.name);
    for (what, used, granted) in [
        ("a pick", dearest, policy.fuel_schedule),
        ("save", save, policy.fuel_setup),
        ("restore", restore, policy.fuel_setup),
    ] {
        assert!(used < granted / 2, "{}: {what} takes {used} fuel of {granted}", language.name);
    }
}

fn bad_options(language: &Language) {
    let made = Plugin::new(&language.module, "service", "ttl=5", Box::new(Wlc::default()), 1);
    match made.err() {
        Some(StartError::Refused { message, .. }) => {
            assert_eq!(message, "sticky takes no options", "{}", language.name);
        }
        other => panic!("{}: options are refused with a sentence, not {other:?}", language.name),
    }
}

fn bad_states(language: &Language) {
    let set = [Candidate { weight: 1, ..Random::new(3).candidate(2) }];
    let mut plugin = language.start(&set);
    assert_eq!(plugin.save().unwrap(), b"UVSAFF01", "{}: nobody came yet", language.name);
    plugin.schedule(&flow(1), &[], Instant::ZERO + Duration::from_secs(5));
    let state = plugin.save().unwrap();
    assert_eq!(state.len(), 8 + 28);
    let twice = [&state[..], &state[8..]].concat();
    let too_many = [&state[..8], &state[8..].repeat(CAPACITY as usize + 1)].concat();
    let cases = [
        (vec![], "nothing"),
        (b"UVSAFF02".to_vec(), "another magic"),
        (state[..7].to_vec(), "cut in the magic"),
        (state[..state.len() - 1].to_vec(), "cut in a client"),
        (too_many, "more than fit"),
        (b"garbage of some length, which is no state of anything".to_vec(), "garbage"),
    ];
    for (bad, why) in cases {
        assert!(!plugin.restore(&bad), "{}: {why}", language.name);
        assert_eq!(plugin.save().as_ref(), Some(&state), "{}: {why}", language.name);
    }
    assert!(plugin.restore(&twice), "{}: a client twice", language.name);
    assert_eq!(plugin.save(), Some(state), "{}: counts once", language.name);
    // A time of another director's clock says nothing.
    let mut elsewhere = [b"UVSAFF01".as_slice(), &[0; 28]].concat();
    elsewhere[8 + 16..8 + 24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(plugin.restore(&elsewhere), "{}", language.name);
    plugin.schedule(&flow(1), &[], Instant::ZERO + Duration::from_secs(6));
    assert_eq!(plugin.save().unwrap().len(), 8 + 28, "{}: it was forgotten", language.name);
    language.check(&plugin);
}

#[test]
fn the_example_is_one_policy_in_all_languages() {
    let Some(languages) = languages() else { return };
    for language in &languages {
        println!("{}: {} bytes, compiled in {:?}", language.name, language.module.bytes(), language.compile);
        bad_options(language);
        bad_states(language);
        for seed in 0..4 {
            run(&[language], seed, 2_000);
        }
        many_destinations(language);
        full_memory(language);
    }
    let all: Vec<_> = languages.iter().collect();
    for seed in 100..106 {
        run(&all, seed, 150 * 3 * u32::try_from(all.len()).unwrap());
    }
}
