//! Modules that hear of events: what they are told, and what becomes of one that breaks over it.

use uvs_director::scheduler::{Event, Load, Response, Scheduler, Wlc};
use uvs_director::{Duration, Instant};
use uvs_plugin::{Cause, Dump, Plugin, native, replay};

use crate::guest::{BY_FALLBACK, BY_MODULE, Guest, Service, World, candidate, flow, host, observe};

fn event(position: u32, response: Response, micros: u64) -> Event {
    Event { position, response, elapsed: Duration::from_micros(micros) }
}

/// A service whose module does this with events.
fn service(body: &str, schedule: &str) -> Service {
    let fields = format!("(global $n (mut i32) (i32.const 0)) {}", observe(body));
    let guest = Guest { fields: &fields, schedule, ..Guest::GOOD };
    Service::on(&host().compile("observer", &guest.observing()).unwrap())
}

#[test]
fn events_come_as_words_before_the_pick_and_only_to_who_wants_them() {
    // It picks the position of the last event if the word is what it should be.
    let body = "(if (i64.eq (i64.load (i32.add (local.get $list) (i32.mul (i32.sub (local.get $len) (i32.const 1)) (i32.const 8))))
                  (i64.const 0x0004_1000_0000_0bb8)) (then (global.set $n (local.get $len))))";
    let mut heard = service(body, "(call $some (global.get $n))");
    assert!(heard.plugin.wants_feedback() && heard.plugin.module().observes());
    heard.plugin.observe(
        &[
            event(0, Response::Answered, 7),
            event(70_000, Response::Answered, 7),
            event(4, Response::Refused, 3000),
        ],
        Instant::ZERO,
    );
    assert_eq!(
        heard.pick(0),
        BY_FALLBACK,
        "two words: what no word can name is left out; and 2 is the fallback's as well"
    );
    let stats = heard.stats().snapshot();
    assert_eq!((stats.events, stats.fallbacks), (2, 0));

    let deaf = Service::new(Guest::GOOD);
    assert!(!deaf.plugin.wants_feedback() && !deaf.plugin.module().observes());
    let fallback = native("lrt", "service", "", 1).unwrap();
    let module = host().compile("deaf", &Guest::GOOD.component()).unwrap();
    let mut plugin = Plugin::new(&module, "service", "", fallback, 1).unwrap();
    assert!(plugin.wants_feedback(), "the fallback does");
    plugin.observe(&[event(1, Response::Answered, 7)], Instant::ZERO);
    assert_eq!(plugin.stats().snapshot().events, 0, "the module did not hear of it");
}

#[test]
fn a_module_that_breaks_over_events_is_watched_as_in_any_other_call() {
    let cases = [
        ("panics", "unreachable", Cause::Trap),
        ("loops for ever", "(loop $again (br $again))", Cause::Fuel),
        (
            "takes all memory",
            "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            Cause::Memory,
        ),
        (
            "floods the log",
            "(loop $again (call $log (i32.const 0) (i32.const 64) (i32.const 5)) (br $again))",
            Cause::Fuel,
        ),
    ];
    for (name, body, cause) in cases {
        let mut service = service(body, "(call $some (i32.const 1))");
        assert_eq!(service.pick(0), BY_MODULE, "{name}: before");
        service.plugin.observe(&[event(1, Response::Answered, 7)], service.now);
        assert_eq!(
            service.stats().snapshot().failed(cause),
            1,
            "{name}: {:?}",
            service.stats().last_failure()
        );
        assert_eq!(service.stats().last_failure().unwrap().call, "observe", "{name}");
        assert_eq!(service.pick(0), BY_MODULE, "{name}: a new instance picks");
        assert_eq!(service.stats().snapshot().rebuilds, 1, "{name}");
        // With each event it dies again, until it is ejected: then nobody is told.
        for _ in 0..4 {
            service.pick(0);
            service.plugin.observe(&[event(1, Response::Answered, 7)], service.now);
        }
        assert_eq!(service.pick(0), BY_FALLBACK, "{name}: ejected");
        assert!(!service.plugin.wants_feedback(), "{name}");
    }
}

#[test]
fn an_observe_of_another_type_is_refused() {
    let exports = &["init", "update", "schedule", "save", "restore", "feedback"];
    let fields = observe("");
    let text = Guest { fields: &fields, ..Guest::GOOD }.text(&World { exports, ..World::default() });
    let other = text.replace(r#"(param "events" (list u64))"#, r#"(param "events" (list s64))"#);
    assert_ne!(text, other);
    let said = host().compile("other", &wat::parse_str(other).unwrap()).unwrap_err().to_string();
    assert!(said.contains("does not fit the contract") && said.contains("type mismatch"), "{said}");
    let later = text.replace("feedback@0.1.0", "feedback@0.2.0");
    let said = host().compile("later", &wat::parse_str(later).unwrap()).unwrap_err().to_string();
    assert!(said.contains("0.2.0"), "{said}");
}

#[test]
fn a_dump_repeats_what_was_heard() {
    let folder = tempfile::tempdir().unwrap();
    // It dies of the third event it hears, wherever they come.
    let body = "(global.set $n (i32.add (global.get $n) (local.get $len)))
                (if (i32.gt_u (global.get $n) (i32.const 2)) (then unreachable))";
    // And its picks depend on how many it has heard.
    let schedule = "(call $some (i32.add (i32.const 1) (i32.and (global.get $n) (i32.const 1))))";
    let fields = format!("(global $n (mut i32) (i32.const 0)) {}", observe(body));
    let file = folder.path().join("observer.wasm");
    std::fs::write(&file, Guest { fields: &fields, schedule, ..Guest::GOOD }.observing()).unwrap();

    let schedulers = uvs_plugin::Schedulers::with_seed(host().clone(), 1);
    schedulers.dump_to(folder.path().join("dumps")).unwrap();
    let spec = uvs_director::spec::SchedulerSpec::named(file.to_str().unwrap());
    let mut scheduler =
        uvs_director::scheduler::SchedulerFactory::create(&schedulers, &spec, "tcp 192.0.2.10:443").unwrap();
    scheduler.update(&crate::guest::destinations());
    let mut now = Instant::ZERO;
    for events in [0, 1, 1, 1] {
        now = now + Duration::from_millis(5);
        if events > 0 {
            scheduler.observe(&[event(1, Response::Answered, 900)], now);
        }
        assert!(scheduler.wants_feedback());
        scheduler.schedule(&flow(0), &[(1, Load::default())], now);
    }
    let dump = (0..500)
        .find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let list = std::fs::read_dir(folder.path().join("dumps")).ok()?;
            list.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "json"))
        })
        .expect("the dump is written");
    let dump = Dump::read(&dump).unwrap();
    assert_eq!((dump.call.as_str(), dump.events.len(), dump.history.len()), ("observe", 1, 3));
    assert_eq!(dump.history.iter().map(|pick| pick.events.len()).collect::<Vec<_>>(), [0, 1, 1]);
    let repeated = replay(host(), &dump, None).unwrap();
    assert!(repeated.same && repeated.history == (3, 3), "{repeated}");
}

#[test]
fn a_shadow_hears_as_well_and_what_it_learns_outlives_promotion() {
    let fallback = || Box::new(Wlc::default());
    let (_, bytes) = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == "lrt").unwrap();
    let module = host().compile("lrt", bytes).unwrap();
    let set = [candidate(1, 1, Load::default()), candidate(2, 1, Load::default())];
    let mut first = Plugin::new(&module, "service", "", fallback(), 1).unwrap();
    first.update(&set);
    first.observe(&[event(0, Response::Answered, 90_000), event(1, Response::Answered, 900)], Instant::ZERO);
    assert_eq!(first.schedule(&flow(0), &[], Instant::ZERO), Some(1), "the quicker one");
    let state = first.save().unwrap();
    let mut second = Plugin::new(&module, "service", "", fallback(), 1).unwrap();
    second.update(&set);
    assert_eq!(second.schedule(&flow(0), &[], Instant::ZERO), Some(0), "it knows nothing");
    assert!(second.restore(&state));
    assert_eq!(second.schedule(&flow(0), &[], Instant::ZERO), Some(1), "it knows what the first knew");
}
