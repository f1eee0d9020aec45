//! Whatever a module does, each connection gets a valid destination, the cause is counted, and later picks are
//! right.

use std::time::Instant as Clock;

use uvs_director::scheduler::{Load, Scheduler, Wlc};
use uvs_director::{Duration, Instant};
use uvs_plugin::{Cause, Host, MAX_DESTINATIONS, Plugin, Policy, Serving, StartError};

use crate::guest::{
    BY_FALLBACK, BY_MODULE, Guest, Service, active, candidate, compile, destinations, flow, host,
};

/// A guest that does `fault` for a connection with mark 1 and picks position 1 for all others.
fn faulty<'a>(schedule: &'a str, fields: &'a str) -> Guest<'a> {
    Guest { schedule, fields, ..Guest::GOOD }
}

fn on_mark(fault: &str) -> String {
    format!("(if (i32.eq (local.get $mark) (i32.const 1)) (then {fault})) (call $some (i32.const 1))")
}

#[test]
fn a_failed_pick_goes_to_the_fallback_and_the_next_is_right() {
    let dies = true;
    let lives = false;
    let cases = [
        ("panics", "unreachable", "", Cause::Trap, dies),
        ("divides by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "", Cause::Trap, dies),
        ("reads beyond its memory", "(drop (i32.load (i32.const 0x7fff0000)))", "", Cause::Trap, dies),
        ("loops for ever", "(loop $again (br $again))", "", Cause::Fuel, dies),
        (
            "fills memory for ever",
            "(loop $again (memory.fill (i32.const 64) (i32.const 0) (i32.const 100000)) (br $again))",
            "",
            Cause::Fuel,
            dies,
        ),
        ("recurses without end", "(call $deep)", "(func $deep (call $deep) (call $deep))", Cause::Stack, dies),
        (
            "takes all memory, then panics",
            "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            "",
            Cause::Memory,
            dies,
        ),
        (
            "takes all memory at once, then panics",
            "(if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable))",
            "",
            Cause::Memory,
            dies,
        ),
        (
            "grows a table for ever",
            "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 9000)) (i32.const -1))))
             unreachable",
            "(table $t 0 funcref)",
            Cause::Memory,
            dies,
        ),
        (
            "floods the log",
            "(loop $again (call $log (i32.const 0) (i32.const 64) (i32.const 5)) (br $again))",
            "",
            Cause::Fuel,
            dies,
        ),
        (
            "draws random numbers for ever",
            "(loop $again (drop (call $random)) (br $again))",
            "",
            Cause::Fuel,
            dies,
        ),
        ("asks the time for ever", "(loop $again (drop (call $now)) (br $again))", "", Cause::Fuel, dies),
        (
            "logs from beyond its memory",
            "(call $log (i32.const 0) (i32.const 131000) (i32.const 1000))",
            "",
            Cause::Abi,
            dies,
        ),
        (
            "logs what is not UTF-8",
            "(i32.store (i32.const 64) (i32.const -1)) (call $log (i32.const 0) (i32.const 64) (i32.const 4))",
            "",
            Cause::Abi,
            dies,
        ),
        (
            "logs more than it may hand over",
            "(drop (memory.grow (i32.const 32))) (call $log (i32.const 0) (i32.const 0) (i32.const 2000000))",
            "",
            Cause::Abi,
            dies,
        ),
        ("returns no pointer", "(return (i32.const -4))", "", Cause::Abi, dies),
        (
            "returns neither none nor some",
            "(i32.store8 (i32.const 16) (i32.const 7)) (return (i32.const 16))",
            "",
            Cause::Abi,
            dies,
        ),
        ("picks just out of range", "(return (call $some (i32.const 5)))", "", Cause::OutOfRange, lives),
        ("picks far out of range", "(return (call $some (i32.const -1)))", "", Cause::OutOfRange, lives),
        ("picks a quiesced one", "(return (call $some (i32.const 3)))", "", Cause::Quiesced, lives),
        ("picks an overloaded one", "(return (call $some (i32.const 0)))", "", Cause::Unavailable, lives),
    ];
    for (name, fault, fields, cause, dies) in cases {
        let schedule = on_mark(fault);
        let mut service = Service::new(faulty(&schedule, fields));
        assert_eq!(service.pick(0), BY_MODULE, "{name}: a good pick before");
        assert_eq!(service.pick(1), BY_FALLBACK, "{name}: the failing pick");
        let stats = service.stats().snapshot();
        assert_eq!(stats.failed(cause), 1, "{name}: {:?}", service.stats().last_failure());
        assert_eq!((stats.failures_total(), stats.fallbacks, stats.picks), (1, 1, 2), "{name}");
        let failure = service.stats().last_failure().unwrap();
        assert_eq!(
            (failure.call, failure.flow, failure.destinations),
            ("schedule", Some(flow(1)), 5),
            "{name}"
        );
        assert!(!failure.message.is_empty(), "{name}");

        for _ in 0..3 {
            assert_eq!(service.pick(0), BY_MODULE, "{name}: a pick after");
        }
        let stats = service.stats().snapshot();
        assert_eq!(stats.rebuilds, u64::from(dies), "{name}: a new instance only where the old one died");
        assert_eq!((stats.failures_total(), stats.fallbacks, stats.picks), (1, 1, 5), "{name}");
        assert_eq!(stats.serving, Serving::Module, "{name}");
    }
}

#[test]
fn none_is_an_answer_and_is_respected() {
    let mut service = Service::new(Guest { schedule: "call $none", ..Guest::GOOD });
    assert_eq!(service.pick(0), None);
    let stats = service.stats().snapshot();
    assert_eq!((stats.refused, stats.fallbacks, stats.failures_total()), (1, 0, 0));
}

#[test]
fn a_heap_that_hands_out_wild_addresses_is_a_failure() {
    let schedule =
        "(if (i32.eq (local.get $mark) (i32.const 2)) (then (i32.store (i32.const 0) (i32.const 1))))
                    (call $some (i32.const 1))";
    let mut service = Service::new(Guest { schedule, ..Guest::GOOD });
    assert_eq!(service.pick(2), BY_MODULE);
    let pick = service.plugin.schedule(&flow(0), &[(4, active(8))], Instant::ZERO);
    assert_eq!(pick, BY_FALLBACK);
    assert_eq!(service.stats().snapshot().failed(Cause::Abi), 1);
    assert_eq!(service.pick(0), BY_MODULE);
}

#[test]
fn a_module_that_fails_at_once_does_not_start() {
    let refuse =
        "(i32.store (i32.const 64) (i32.const 0x6f6f6f6e)) (call $refuse (i32.const 64) (i32.const 4))";
    let cases = [
        ("loops", "(loop $again (br $again)) call $ok", Cause::Fuel),
        ("panics", "unreachable", Cause::Trap),
        ("overflows its stack", "(call $deep) call $ok", Cause::Stack),
        ("breaks the ABI", "(call $refuse (i32.const -1) (i32.const 9))", Cause::Abi),
    ];
    for (name, init, want) in cases {
        let guest = Guest { init, fields: "(func $deep (call $deep) (call $deep))", ..Guest::GOOD };
        let module = compile(host(), guest);
        let error = Plugin::new(&module, "service", "", Box::new(Wlc::default()), 0).err().expect(name);
        match error {
            StartError::Failed { call: "init", cause, .. } => assert_eq!(cause, want, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
    let module = compile(host(), Guest { init: refuse, ..Guest::GOOD });
    let error = Plugin::new(&module, "service", "speed=9", Box::new(Wlc::default()), 0).err().unwrap();
    assert_eq!(error.to_string(), "refuses its options \"speed=9\": nooo");
}

#[test]
fn a_module_that_fails_in_update_is_ejected_while_connections_go_on() {
    for (name, update, cause) in
        [("loops", "(loop $again (br $again))", Cause::Fuel), ("panics", "unreachable", Cause::Trap)]
    {
        let mut service = Service::new(Guest { update, ..Guest::GOOD });
        assert_eq!(service.stats().snapshot().failed(cause), 1, "{name}: told by the update itself");
        for _ in 0..20 {
            assert_eq!(service.pick(0), BY_FALLBACK, "{name}");
        }
        let stats = service.stats().snapshot();
        assert_eq!(
            stats.failed(cause),
            u64::from(Policy::default().failures),
            "{name}: no more after ejection"
        );
        assert_eq!((stats.serving, stats.ejections, stats.fallbacks), (Serving::Ejected, 1, 20), "{name}");
    }
}

#[test]
fn back_off_doubles_is_bounded_and_ends() {
    let policy = Policy {
        failures: 3,
        window: Duration::from_secs(10),
        backoff: Duration::from_secs(1),
        backoff_max: Duration::from_secs(4),
        ejections: 5,
        ..Policy::default()
    };
    let strict = Host::new(policy).unwrap();
    let schedule = on_mark("unreachable");
    let mut service = Service::on(&compile(&strict, faulty(&schedule, "")));
    service.now = Instant::from_secs(50);
    for n in 1..=3 {
        assert_eq!(service.pick(1), BY_FALLBACK);
        assert_eq!(service.stats().snapshot().failed(Cause::Trap), n);
    }
    for (ejections, backoff) in [(1, 1), (2, 2), (3, 4), (4, 4)] {
        let stats = service.stats().snapshot();
        assert_eq!((stats.serving, stats.ejections), (Serving::Ejected, ejections));
        service.now = service.now + Duration::from_millis(backoff * 1000 - 1);
        assert_eq!(service.pick(0), BY_FALLBACK, "back-off {ejections} is not over");
        service.now = service.now + Duration::from_millis(1);
        assert_eq!(service.pick(0), BY_MODULE, "back-off {ejections} is over");
        assert_eq!(service.stats().snapshot().serving, Serving::Module);
        assert_eq!(service.pick(1), BY_FALLBACK, "and one failure is enough now");
    }
    let before = service.stats().snapshot();
    assert_eq!((before.serving, before.ejections), (Serving::GivenUp, 5));
    service.now = service.now + Duration::from_secs(1_000_000);
    service.plugin.update(&destinations());
    assert_eq!(service.pick(0), BY_FALLBACK, "given up for good");
    let after = service.stats().snapshot();
    assert_eq!((after.failures_total(), after.rebuilds), (before.failures_total(), before.rebuilds));
}

#[test]
fn a_good_spell_makes_up_for_an_ejection() {
    let policy = Policy { failures: 2, ..Policy::default() };
    let strict = Host::new(policy).unwrap();
    let schedule = on_mark("unreachable");
    let mut service = Service::on(&compile(&strict, faulty(&schedule, "")));
    service.pick(1);
    service.pick(1);
    assert_eq!(service.stats().snapshot().serving, Serving::Ejected);
    service.now = Instant::ZERO + policy.backoff + policy.forgive;
    assert_eq!(service.pick(0), BY_MODULE);
    service.pick(1);
    assert_eq!(service.stats().snapshot().serving, Serving::Module, "one failure is forgiven again");
    service.pick(1);
    assert_eq!(service.stats().snapshot().serving, Serving::Ejected);
    service.now = service.now + policy.backoff;
    assert_eq!(service.pick(0), BY_MODULE, "after the first back-off, not a doubled one");
}

#[test]
fn a_new_instance_that_refuses_its_options_counts_and_the_fallback_serves() {
    // Takes its options only when its first random number is even: each instance draws others.
    let init = "(if (i64.eqz (i64.and (call $random) (i64.const 1))) (then (return (call $ok))))
                (call $refuse (i32.const 64) (i32.const 0))";
    let schedule = on_mark("unreachable");
    let module = compile(host(), Guest { init, schedule: &schedule, ..Guest::GOOD });
    let mut refused = 0;
    for seed in 0..64 {
        let Ok(mut plugin) = Plugin::new(&module, "service", "", Box::new(Wlc::default()), seed) else {
            continue;
        };
        plugin.update(&destinations());
        assert_eq!(plugin.schedule(&flow(1), &[], Instant::ZERO), BY_FALLBACK);
        let next = plugin.schedule(&flow(0), &[], Instant::ZERO);
        let failed = plugin.stats().snapshot().failed(Cause::Init);
        assert_eq!(next, if failed > 0 { BY_FALLBACK } else { BY_MODULE });
        refused += failed;
    }
    assert!(refused > 4, "{refused} of about 16");
}

/// Puts a connection at the position that the count of words says.
const COUNTS_WORDS: &str = "(call $some (local.get $count))";
/// Puts a connection at the position that the active count in the last word says.
const READS_LAST_WORD: &str = "(call $some (i32.wrap_i64 (i64.and (i64.const 0x7fffff) (i64.shr_u
    (i64.load (i32.add (local.get $words) (i32.mul (i32.sub (local.get $count) (i32.const 1)) (i32.const 8))))
    (i64.const 24)))))";

#[test]
fn each_load_is_told_once_and_all_of_them_after_an_update_or_a_rebuild() {
    let schedule = format!(
        "(if (i32.eq (local.get $mark) (i32.const 1)) (then unreachable))
         (if (i32.eq (local.get $mark) (i32.const 2)) (then (return {READS_LAST_WORD}))) {COUNTS_WORDS}"
    );
    let module = compile(host(), Guest { schedule: &schedule, ..Guest::GOOD });
    let mut plugin = Plugin::new(&module, "service", "", Box::new(Wlc::default()), 0).unwrap();
    let set = |loads: [u32; 5]| -> Vec<_> {
        (0..).zip(loads).map(|(id, load)| candidate(id, 1, active(load))).collect()
    };
    let now = Instant::ZERO;
    plugin.update(&set([0, 3, 0, 4, 0]));
    assert_eq!(plugin.schedule(&flow(0), &[], now), Some(2), "the two that carry something");
    assert_eq!(plugin.schedule(&flow(0), &[], now), Some(0), "told already");
    assert_eq!(plugin.schedule(&flow(0), &[(0, active(1))], now), Some(1), "the one that changed");
    assert_eq!(plugin.schedule(&flow(0), &[(9, active(1))], now), Some(0), "no such destination");
    assert_eq!(
        plugin.schedule(&flow(2), &[(3, active(1)), (2, active(4))], now),
        Some(4),
        "packed as the contract says"
    );
    plugin.update(&set([1, 1, 1, 1, 0]));
    assert_eq!(plugin.schedule(&flow(0), &[(3, Load::default())], now), Some(3), "after an update");
    assert!(plugin.schedule(&flow(1), &[], now).is_some(), "dies");
    assert_eq!(plugin.schedule(&flow(0), &[(3, active(2))], now), Some(4), "after a rebuild");
    assert_eq!(plugin.schedule(&flow(0), &[], now), Some(0), "and only once");
    assert_eq!(plugin.stats().snapshot().failures_total(), 1);
}

#[test]
fn the_fallback_knows_the_loads_it_was_not_told_of() {
    let schedule = on_mark("unreachable");
    let mut service = Service::new(faulty(&schedule, ""));
    // The module picks while the loads turn round: position 4 becomes the least loaded.
    for (position, load) in [(2, 50), (4, 0), (1, 60)] {
        assert_eq!(service.plugin.schedule(&flow(0), &[(position, active(load))], service.now), BY_MODULE);
    }
    assert_eq!(service.pick(1), Some(4));
}

#[test]
fn a_bad_answer_does_not_cost_the_instance_its_state() {
    let fields = "(global $n (mut i32) (i32.const 0))";
    // Counts its calls: the third picks position 2.
    let schedule = "(global.set $n (i32.add (global.get $n) (i32.const 1)))
        (if (i32.eq (local.get $mark) (i32.const 1)) (then (return (call $some (i32.const 99)))))
        (call $some (select (i32.const 4) (i32.const 1) (i32.ge_u (global.get $n) (i32.const 3))))";
    let mut service = Service::new(Guest { schedule, fields, ..Guest::GOOD });
    assert_eq!(service.pick(0), Some(1));
    assert_eq!(service.pick(1), BY_FALLBACK);
    assert_eq!(service.pick(0), Some(4), "it remembers its three calls");
}

#[test]
fn the_time_is_the_engines_and_does_not_run_backwards() {
    let schedule = "(call $some (i32.wrap_i64 (call $now)))";
    let module = compile(host(), Guest { schedule, ..Guest::GOOD });
    let mut plugin = Plugin::new(&module, "service", "", Box::new(Wlc::default()), 0).unwrap();
    plugin.update(&(0..5).map(|id| candidate(id, 1, active(0))).collect::<Vec<_>>());
    for (now, want) in [(0, 0), (2, 2), (4, 4), (3, 4)] {
        assert_eq!(plugin.schedule(&flow(0), &[], Instant::from_millis(now)), Some(want), "at {now} ms");
    }
}

#[test]
fn a_log_flood_is_cut_and_counted() {
    let schedule = "(call $log (i32.const 3) (i32.const 64) (i32.const 0)) (call $some (i32.const 1))";
    let mut service = Service::new(Guest { schedule, ..Guest::GOOD });
    let policy = Policy::default();
    for _ in 0..100 {
        assert_eq!(service.pick(0), BY_MODULE);
    }
    let cut = 100 - u64::from(policy.log_lines);
    assert_eq!(service.stats().snapshot().log_suppressed, cut);
    service.now = service.now + policy.log_window;
    service.pick(0);
    assert_eq!(service.stats().snapshot().log_suppressed, cut, "a new window lets lines through");
}

#[test]
fn more_destinations_than_a_word_can_name_go_to_the_fallback() {
    let mut service = Service::new(Guest::GOOD);
    let mut set: Vec<_> = (0..).take(MAX_DESTINATIONS + 1).map(|id| candidate(id, 1, active(2))).collect();
    set[MAX_DESTINATIONS].load = active(0);
    service.plugin.update(&set);
    for _ in 0..3 {
        assert_eq!(service.pick(0), Some(65_536));
    }
    let stats = service.stats().snapshot();
    assert_eq!((stats.failed(Cause::TooMany), stats.failures_total(), stats.fallbacks), (1, 1, 3));
    service.plugin.update(&destinations());
    assert_eq!(service.pick(0), BY_MODULE, "back within bounds");
}

#[test]
fn state_is_saved_and_restored_within_bounds() {
    let save = "(i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const 3))
                (i32.store (i32.const 64) (i32.const 0x636261)) (i32.const 32)";
    let restore = "(i32.eq (local.get $len) (i32.const 3))";
    let mut service = Service::new(Guest { save, restore, ..Guest::GOOD });
    assert_eq!(service.plugin.save().as_deref(), Some(&b"abc"[..]));
    assert!(service.plugin.restore(b"abc"));
    assert!(!service.plugin.restore(b"ab"));

    let greedy = "(drop (memory.grow (i32.const 32)))
                  (i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const 2000000))
                  (i32.const 32)";
    let mut service = Service::new(Guest { save: greedy, ..Guest::GOOD });
    assert_eq!(service.plugin.save(), None);
    assert_eq!(service.stats().snapshot().failed(Cause::Abi), 1);
    assert_eq!(service.pick(0), BY_MODULE);
}

/// Prints what the worst module costs (`--nocapture`) and holds it to a bound that only a hang exceeds.
#[test]
fn the_worst_call_is_short() {
    let faults = [
        ("plain loop", "(loop $again (br $again))"),
        ("log flood", "(loop $again (call $log (i32.const 3) (i32.const 64) (i32.const 5)) (br $again))"),
        ("random numbers", "(loop $again (drop (call $random)) (br $again))"),
        ("refused growth", "(loop $again (drop (memory.grow (i32.const 60000))) (br $again))"),
        (
            "memory fills",
            "(loop $again (memory.fill (i32.const 64) (i32.const 0) (i32.const 100000)) (br $again))",
        ),
    ];
    for (name, fault) in faults {
        let schedule = on_mark(fault);
        let module = compile(host(), faulty(&schedule, ""));
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let mut service = Service::on(&module);
            let start = Clock::now();
            assert_eq!(service.pick(1), BY_FALLBACK);
            best = best.min(start.elapsed());
        }
        println!("{name}: {best:?} until the fallback's pick");
        assert!(best < Duration::from_secs(1), "{name}: {best:?}");
    }
    let mut service = Service::new(Guest { schedule: &on_mark("unreachable"), ..Guest::GOOD });
    service.pick(1);
    let start = Clock::now();
    assert_eq!(service.pick(0), BY_MODULE);
    println!("first pick after a trap, with a new instance: {:?}", start.elapsed());
}
