//! Schedulers by name.

use std::collections::BTreeMap;

use uvs_director::Instant;
use uvs_director::scheduler::{Load, SchedulerFactory};
use uvs_director::spec::SchedulerSpec;
use uvs_plugin::{Catalogue, Definition, Host, Limits, NATIVE, Policy, Schedulers};

use crate::guest::{Guest, candidate, destinations, flow, host};

fn schedulers() -> Schedulers {
    Schedulers::with_seed(host().clone(), 1)
}

fn define(schedulers: &Schedulers, name: &str, definition: Definition) -> Result<(), String> {
    schedulers.accept(Catalogue::new(BTreeMap::from([(name.to_owned(), definition)]))?);
    Ok(())
}

fn refusal(schedulers: &Schedulers, spec: &SchedulerSpec) -> String {
    let said = schedulers.create(spec, "tcp 192.0.2.1:80").err().expect("it has to be refused");
    let checked = schedulers.check(&schedulers.catalogue(), spec).map_err(|refusal| refusal.reason);
    assert_eq!(checked, Err(said.clone()), "check says the same");
    said
}

#[test]
fn names_that_do_not_exist_are_told_with_those_that_do() {
    let schedulers = schedulers();
    define(&schedulers, "mine", Definition::new("/nowhere/mine.wasm")).unwrap();
    let said = refusal(&schedulers, &SchedulerSpec::named("rrr"));
    let all = "chbl, dh, fo, lblc, lblcr, lc, lrt, maglev, mh, mine, nq, ovf, p2c, rr, sed, sh, swrr, twos, wlc, wrr";
    assert!(said.contains(&format!("unknown scheduler \"rrr\"; there are {all}")), "{said}");
    let said = refusal(&schedulers, &SchedulerSpec::named("mine"));
    assert!(said.contains("\"mine\": /nowhere/mine.wasm: cannot be read"), "{said}");
    let said = refusal(&schedulers, &SchedulerSpec::named("/nowhere/else.wasm"));
    assert!(said.contains("/nowhere/else.wasm: cannot be read"), "{said}");
}

#[test]
fn options_are_passed_on_and_refusals_told_in_the_modules_words() {
    let schedulers = schedulers();
    for name in NATIVE {
        let said = refusal(&schedulers, &SchedulerSpec { name: name.into(), options: "turbo".into() });
        assert!(said.contains("refuses its options") && said.contains("\"turbo\""), "{said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.wasm");
    let init = "(call $refuse (local.get $options) (local.get $options_len))";
    std::fs::write(&path, Guest { init, ..Guest::GOOD }.component()).unwrap();
    let definition = Definition { options: "from=definition".into(), ..Definition::new(&path) };
    define(&schedulers, "echo", definition).unwrap();
    let said = refusal(&schedulers, &SchedulerSpec::named("echo"));
    assert!(said.ends_with(": from=definition"), "{said}");
    let said = refusal(&schedulers, &SchedulerSpec { name: "echo".into(), options: "from=service".into() });
    assert!(said.ends_with(": from=service"), "{said}");
}

#[test]
fn the_fallback_is_the_one_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.wasm");
    std::fs::write(&path, Guest { schedule: "unreachable", ..Guest::GOOD }.component()).unwrap();
    let schedulers = schedulers();
    let fall_back_on = |fallback: &str| {
        let definition = Definition { fallback: fallback.into(), ..Definition::new(&path) };
        define(&schedulers, "broken", definition)
    };
    fall_back_on("rr").unwrap();
    let mut scheduler = schedulers.create(&SchedulerSpec::named("broken"), "tcp 192.0.2.1:80").unwrap();
    scheduler.update(&destinations());
    let picks: Vec<_> = (0..4).map(|_| scheduler.schedule(&flow(0), &[], Instant::ZERO)).collect();
    assert_eq!(picks, [Some(1), Some(2), Some(4), Some(1)], "round robin over the eligible three");
    let said = fall_back_on("best").unwrap_err();
    assert!(
        said.contains("\"broken\"") && said.contains("\"best\"") && said.contains("sh, swrr, twos, wlc, wrr"),
        "{said}"
    );
}

#[test]
fn lblc_goes_past_a_threshold_as_the_kernel_does_where_that_is_asked_for() {
    for (compat_ipvs, want) in [(false, 1), (true, 0)] {
        let schedulers = schedulers();
        schedulers.accept(Catalogue::default().with_compat_ipvs(compat_ipvs));
        let mut scheduler = schedulers.create(&SchedulerSpec::named("lblc"), "tcp 192.0.2.1:80").unwrap();
        scheduler.update(&[candidate(1, 10, Load::default()), candidate(2, 10, Load::default())]);
        assert_eq!(scheduler.schedule(&flow(0), &[], Instant::ZERO), Some(0));
        let full = Load { active: 1, unavailable: true, ..Load::default() };
        assert_eq!(scheduler.schedule(&flow(0), &[(0, full)], Instant::ZERO), Some(want), "{compat_ipvs}");
        let stats = &schedulers.stats()[0].2;
        assert_eq!(stats.snapshot().fallbacks, 0, "the module's own pick");
    }
}

#[test]
fn a_module_is_compiled_once_and_again_when_the_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.wasm");
    let name = path.display().to_string();
    let schedulers = schedulers();
    let pick = || {
        let mut scheduler = schedulers.create(&SchedulerSpec::named(&name), "tcp 192.0.2.1:80").unwrap();
        scheduler.update(&destinations());
        scheduler.schedule(&flow(0), &[], Instant::ZERO)
    };
    std::fs::write(&path, Guest::GOOD.component()).unwrap();
    assert_eq!(pick(), Some(1));
    let before = schedulers.module(&name).unwrap().sha256();
    std::fs::write(&path, Guest { schedule: "(call $some (i32.const 4))", ..Guest::GOOD }.component())
        .unwrap();
    assert_eq!(pick(), Some(4));
    assert_ne!(schedulers.module(&name).unwrap().sha256(), before);
}

#[test]
fn figures_last_as_long_as_the_service() {
    let schedulers = schedulers();
    let mut a = schedulers.create(&SchedulerSpec::named("rr"), "tcp 192.0.2.1:80").unwrap();
    let b = schedulers.create(&SchedulerSpec::named("lc"), "udp 192.0.2.1:53").unwrap();
    a.update(&destinations());
    a.schedule(&flow(0), &[], Instant::ZERO);
    let picks = || -> Vec<_> {
        let mut rows: Vec<_> = schedulers
            .stats()
            .into_iter()
            .map(|(service, name, stats)| {
                (service, name, stats.snapshot().picks, stats.snapshot().latency.count())
            })
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(
        picks(),
        [
            ("tcp 192.0.2.1:80".to_owned(), "rr".to_owned(), 1, 1),
            ("udp 192.0.2.1:53".to_owned(), "lc".to_owned(), 0, 0)
        ]
    );
    drop(b);
    assert_eq!(picks().len(), 1);
    drop(a);
    assert_eq!(picks(), []);
}

#[test]
fn a_module_gets_the_limits_of_its_definition() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy.wasm");
    let schedule = "(local $n i32)
        (loop $again
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 400000))))
        (call $some (i32.const 1))";
    let component = Guest { schedule, ..Guest::GOOD }.component();
    std::fs::write(&path, &component).unwrap();
    let small = Host::new(Policy { module_bytes: component.len() - 1, ..Policy::default() }).unwrap();
    let schedulers = Schedulers::with_seed(small, 1);
    let define = |module_mib, fuel| {
        let limits = Limits { module_mib, fuel };
        let definition = Definition { limits, ..Definition::new(&path) };
        define(&schedulers, "busy", definition).unwrap();
        schedulers.create(&SchedulerSpec::named("busy"), "tcp 192.0.2.1:80")
    };
    let said = define(None, 1).map(drop).unwrap_err();
    assert!(said.contains("the limit is") && said.contains("module_mib"), "{said}");
    for (fuel, failures) in [(1, 1), (16, 0)] {
        let mut scheduler = define(Some(1), fuel).unwrap();
        scheduler.update(&destinations());
        assert!(
            scheduler.schedule(&flow(0), &[], Instant::ZERO).is_some(),
            "the fallback picks if nobody else"
        );
        let (.., stats) = schedulers.stats().pop().unwrap();
        assert_eq!(
            stats.snapshot().failures_total(),
            failures,
            "{fuel} times the fuel: {:?}",
            stats.last_failure()
        );
    }
}
