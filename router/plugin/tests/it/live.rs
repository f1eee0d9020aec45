//! Modules that are exchanged, tried and dumped while they serve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration as Wait, Instant as Clock};

use uvs_director::Instant;
use uvs_director::scheduler::{Scheduler, SchedulerFactory};
use uvs_director::spec::SchedulerSpec;
use uvs_plugin::{
    By, Catalogue, Definition, Dump, Host, Mode, Policy, REFUSE, Refusal, Schedulers, Step, TrialSpec, Watch,
    replay,
};

use crate::guest::{BY_FALLBACK, BY_MODULE, Guest, World, active, destinations, flow, host};

const SERVICE: &str = "tcp 192.0.2.10:443";

/// Counts its picks in a global that is saved and restored; picks 1 and 4 in turn.
const COUNTS: Guest<'static> = Guest {
    schedule: "(global.set $n (i32.add (global.get $n) (i32.const 1)))
        (call $some (select (i32.const 1) (i32.const 4) (i32.and (global.get $n) (i32.const 1))))",
    save: "(i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const 4))
        (i32.store (i32.const 64) (global.get $n)) (i32.const 32)",
    restore: "(global.set $n (i32.load (local.get $state))) (i32.eq (local.get $len) (i32.const 4))",
    fields: "(global $n (mut i32) (i32.const 0))",
    ..Guest::GOOD
};

/// Always picks position 4.
const FOUR: Guest<'static> = Guest { schedule: "(call $some (i32.const 4))", ..Guest::GOOD };

/// A service whose module is in a file, and that file.
struct Lab {
    schedulers: Schedulers,
    scheduler: Box<dyn Scheduler>,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new(guest: Guest<'_>) -> Self {
        Self::with(guest, |_| {})
    }

    fn with(guest: Guest<'_>, prepare: impl FnOnce(&Schedulers)) -> Self {
        Self::on(host().clone(), guest, prepare)
    }

    fn on(host: Host, guest: Guest<'_>, prepare: impl FnOnce(&Schedulers)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let schedulers = Schedulers::with_seed(host, 1);
        let path = dir.path().join("mine.wasm");
        std::fs::write(&path, guest.component()).unwrap();
        let names = BTreeMap::from([("mine".to_owned(), Definition::new(&path))]);
        schedulers.accept(Catalogue::new(names).unwrap());
        prepare(&schedulers);
        let mut scheduler = schedulers.create(&SchedulerSpec::named("mine"), SERVICE).unwrap();
        scheduler.update(&destinations());
        Self { schedulers, scheduler, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mine.wasm")
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn pick(&mut self) -> Option<u32> {
        self.scheduler.schedule(&flow(0), &[], Instant::ZERO)
    }

    fn picks(&mut self, n: usize) -> Vec<Option<u32>> {
        (0..n).map(|_| self.pick()).collect()
    }

    fn load(&self, path: &Path) -> Result<uvs_plugin::LoadReport, Refusal> {
        self.schedulers.load(SERVICE, path, None)
    }

    fn status(&self) -> uvs_plugin::Status {
        self.schedulers.status_of(SERVICE).unwrap()
    }
}

#[test]
fn a_newcomer_goes_on_where_the_one_before_stood() {
    let mut lab = Lab::new(COUNTS);
    assert_eq!(lab.picks(3), [Some(1), Some(4), Some(1)]);
    // Another module that keeps the same state: what it exports beside is of no matter.
    let other =
        Guest { fields: "(global $n (mut i32) (i32.const 0)) (global $other i32 (i32.const 9))", ..COUNTS };
    let path = lab.file("other.wasm", &other.component());
    let report = lab.load(&path).unwrap();
    assert!(report.restored);
    assert_eq!((report.replayed, report.same), (3, 3), "both answer the latest picks alike");
    assert_eq!(lab.picks(2), [Some(4), Some(1)], "it goes on after the third pick");
    let status = lab.status();
    assert_eq!((status.module.origin.as_str(), status.by), (path.to_str().unwrap(), By::Load));
    assert_eq!(status.module.sha256, report.sha256, "what is loaded is what status says");
    assert_eq!((status.work.picks, status.loaded), (5, 1), "the figures go on");

    let report = lab.schedulers.rollback(SERVICE).unwrap();
    assert_eq!(report.origin, lab.path().display().to_string());
    assert_eq!(lab.picks(2), [Some(4), Some(1)], "and so does the one before");
    assert_eq!(lab.status().by, By::Rollback);
    let refusal = lab.schedulers.rollback(SERVICE).unwrap_err();
    assert!(refusal.step == Step::Find && refusal.reason.contains("rolled back already"), "{refusal}");
    assert_eq!(lab.picks(1), [Some(4)], "it does not go forward again");
}

#[test]
fn a_difference_is_recorded_and_loads_are_told_to_the_newcomer() {
    let mut lab = Lab::new(Guest::GOOD);
    lab.picks(10);
    // Picks the position that the count of load words says: 4 have a load.
    let counts_words = Guest { schedule: "(call $some (local.get $count))", ..Guest::GOOD };
    let path = lab.file("words.wasm", &counts_words.component());
    let refusal = lab.load(&path).unwrap_err();
    assert_eq!(
        refusal.step,
        Step::Replay,
        "no word after the first pick means position 0, which is overloaded"
    );
    let path = lab.file("four.wasm", &FOUR.component());
    let report = lab.load(&path).unwrap();
    assert_eq!((report.replayed, report.same), (10, 0));

    // A change of load between the preparation and the exchange cannot be lost: a new instance is told all loads.
    let reads_first_word = Guest {
        schedule: "(if (i32.eqz (local.get $count)) (then (return (call $some (i32.const 1)))))
            (call $some (i32.wrap_i64 (i64.shr_u (i64.load (i32.add (local.get $words)
                (i32.shl (i32.sub (local.get $count) (i32.const 1)) (i32.const 3)))) (i64.const 48))))",
        ..Guest::GOOD
    };
    let path = lab.file("reads.wasm", &reads_first_word.component());
    lab.load(&path).unwrap();
    let pick = lab.scheduler.schedule(&flow(0), &[(1, active(7))], Instant::ZERO);
    assert_eq!(pick, Some(4), "the last of all that have a load, not only the one that changed");
    assert_eq!(lab.pick(), Some(1), "told once");
}

#[test]
fn whatever_is_wrong_with_a_newcomer_the_incumbent_serves_on_and_the_reason_is_told() {
    let good = Guest::GOOD;
    let text = |world: &World<'_>| wat::parse_str(good.text(world)).unwrap();
    let built = |guest: Guest<'_>| guest.component();
    let wasi = World {
        imports: r#"(import "wasi:cli/environment@0.2.0" (instance (export "get" (func))))"#,
        ..World::default()
    };
    let cases: Vec<(&str, Vec<u8>, Step, &str)> = vec![
        ("garbage", b"\x7fELF\x02\x01\x01 and more".to_vec(), Step::Compile, "ELF"),
        ("nothing", Vec::new(), Step::Compile, "empty"),
        ("half a file", built(good)[..900].to_vec(), Step::Compile, "does not compile"),
        ("50 MiB", vec![0; 50 << 20], Step::Read, "the limit is 16777216"),
        ("a core module", wat::parse_str("(module)").unwrap(), Step::Contract, "core WebAssembly module"),
        ("another world", wat::parse_str("(component)").unwrap(), Step::Contract, "does not export init"),
        (
            "another version",
            text(&World { version: "0.2.0", ..World::default() }),
            Step::Contract,
            "version 0.2.0 of the contract",
        ),
        ("asks for WASI", text(&wasi), Step::Contract, "wasi:cli/environment@0.2.0"),
        (
            "loops in init",
            built(Guest { init: "(loop $l (br $l)) call $ok", ..good }),
            Step::Start,
            "out of fuel",
        ),
        (
            "refuses its options",
            built(Guest { init: "(call $refuse (i32.const 64) (i32.const 0))", ..good }),
            Step::Start,
            "refuses its options",
        ),
        (
            "loops in update",
            built(Guest { update: "(loop $l (br $l))", ..good }),
            Step::Update,
            "out of fuel",
        ),
        ("traps in update", built(Guest { update: "unreachable", ..good }), Step::Update, "trap"),
        ("traps in restore", built(Guest { restore: "unreachable", ..good }), Step::Restore, "trap"),
        (
            "loops in schedule",
            built(Guest { schedule: "(loop $l (br $l)) unreachable", ..good }),
            Step::Replay,
            "out of fuel",
        ),
        ("traps in schedule", built(Guest { schedule: "unreachable", ..good }), Step::Replay, "trap"),
        (
            "picks out of range",
            built(Guest { schedule: "(call $some (i32.const 5))", ..good }),
            Step::Replay,
            "position 5 of 5",
        ),
        (
            "picks a quiesced one",
            built(Guest { schedule: "(call $some (i32.const 3))", ..good }),
            Step::Replay,
            "is quiesced",
        ),
    ];
    for with_picks in [false, true] {
        let mut lab = Lab::new(COUNTS);
        if with_picks {
            lab.picks(2);
        }
        for (number, (name, bytes, step, words)) in (1..).zip(&cases) {
            let path = lab.file("bad.wasm", bytes);
            let refusal = lab.load(&path).expect_err(name);
            assert_eq!(refusal.step, *step, "{name}: {refusal}");
            assert!(refusal.reason.contains(words), "{name}: {refusal}");
            let status = lab.status();
            assert_eq!(status.module.origin, lab.path().display().to_string(), "{name}");
            assert_eq!(status.latest_load.unwrap().refused, Some(refusal), "{name}");
            assert_eq!(status.refused.values().sum::<u64>(), number, "{name}");
        }
        assert_eq!(lab.picks(2), [Some(1), Some(4)], "it never noticed");
        let status = lab.status();
        assert_eq!(
            (status.work.failures.len(), status.work.rebuilds),
            (0, 0),
            "no failure of the incumbent's"
        );
    }
}

#[test]
fn a_file_that_is_gone_or_not_as_pinned_is_refused() {
    let lab = Lab::new(Guest::GOOD);
    let refusal = lab.load(&lab.dir.path().join("none.wasm")).unwrap_err();
    assert!(refusal.step == Step::Read && refusal.reason.contains("cannot be read"), "{refusal}");
    let path = lab.file("four.wasm", &FOUR.component());
    let refusal = lab.schedulers.load(SERVICE, &path, Some([7; 32])).unwrap_err();
    assert!(refusal.step == Step::Pin && refusal.reason.contains(&"07".repeat(32)), "{refusal}");
    let pin = uvs_plugin::parse_sha256(&host().load(&path).unwrap().sha256()).unwrap();
    assert!(lab.schedulers.load(SERVICE, &path, Some(pin)).is_ok());
    let refusal = lab.schedulers.load("tcp 192.0.2.99:1", &path, None).unwrap_err();
    assert!(refusal.step == Step::Find && refusal.reason.contains(SERVICE), "{refusal}");
    for name in ["192.0.2.10:443", "TCP/192.0.2.10:443"] {
        assert!(lab.schedulers.load(name, &path, None).is_ok(), "{name} is plain enough");
    }
    let refusal = Lab::new(Guest::GOOD).schedulers.rollback(SERVICE).unwrap_err();
    assert_eq!(refusal.step, Step::Find, "nothing to go back to");
}

#[test]
fn a_changed_file_is_loaded_and_a_bad_one_is_tried_once() {
    let mut lab = Lab::new(Guest::GOOD);
    assert_eq!(lab.pick(), Some(1));
    assert!(lab.schedulers.refresh(By::Watch, false).is_empty(), "it is what runs");
    std::fs::write(lab.path(), FOUR.component()).unwrap();
    assert!(lab.schedulers.refresh(By::Watch, false)[0].1.is_ok());
    assert_eq!(lab.pick(), Some(4));
    std::fs::write(lab.path(), b"garbage").unwrap();
    assert!(lab.schedulers.refresh(By::Watch, false)[0].1.is_err());
    assert!(lab.schedulers.refresh(By::Watch, false).is_empty(), "not again and again");
    assert!(lab.schedulers.refresh(By::Configuration, true)[0].1.is_err(), "but on demand");
    std::fs::remove_file(lab.path()).unwrap();
    assert!(lab.schedulers.refresh(By::Watch, false).is_empty(), "gone is no change");
    assert_eq!(lab.pick(), Some(4));
    std::fs::write(lab.path(), Guest::GOOD.component()).unwrap();
    assert!(lab.schedulers.refresh(By::Watch, false)[0].1.is_ok());
    assert_eq!(lab.pick(), Some(1));

    // What was left by a rollback does not come back by itself.
    lab.schedulers.rollback(SERVICE).unwrap();
    assert_eq!(lab.pick(), Some(4));
    assert!(lab.schedulers.refresh(By::Watch, false).is_empty());
    assert_eq!(lab.schedulers.files(), [lab.path()]);
    let mut watch = Watch::default();
    assert!(watch.look(&lab.schedulers.files()).is_empty());
    assert_eq!(watch.look(&lab.schedulers.files()), [lab.path()]);
}

/// Has the service try this, or nothing.
fn try_out(schedulers: &Schedulers, spec: Option<TrialSpec>) {
    let trials = spec.into_iter().map(|spec| (SERVICE.to_owned(), spec)).collect();
    schedulers.accept(Catalogue::clone(&schedulers.catalogue()).with_trials(trials));
}

/// What a reload does to modules and trials: whether each of them was by hand, and why what runs goes on.
fn follow(schedulers: &Schedulers) -> Vec<(bool, Option<Refusal>)> {
    let services = [(SERVICE.to_owned(), SchedulerSpec::named("mine"))];
    let exchanges = schedulers.exchanges(&schedulers.catalogue(), &services, true);
    exchanges.into_iter().map(|it| (it.by_hand, schedulers.exchange(it).err())).collect()
}

fn trial(name: &str, mode: Mode) -> impl FnOnce(&Schedulers) {
    let spec = TrialSpec { scheduler: name.to_owned(), mode };
    move |schedulers| try_out(schedulers, Some(spec))
}

#[test]
fn a_shadow_is_asked_too_and_never_heard() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shadow.wasm");
    let fails_on_mark = Guest {
        schedule: "(if (i32.eq (local.get $mark) (i32.const 1)) (then unreachable)) (call $some (i32.const 4))",
        ..Guest::GOOD
    };
    std::fs::write(&path, fails_on_mark.component()).unwrap();
    let mut lab = Lab::with(COUNTS, trial(path.to_str().unwrap(), Mode::Shadow));
    assert_eq!(lab.picks(4), [Some(1), Some(4), Some(1), Some(4)]);
    for _ in 0..20 {
        assert!(matches!(lab.scheduler.schedule(&flow(1), &[], Instant::ZERO), Some(1 | 4)));
    }
    let status = lab.status();
    let trial = status.trial.unwrap();
    assert_eq!((trial.same, trial.different), (2, 2));
    assert_eq!(trial.work.failures, BTreeMap::from([("trap".to_owned(), 5)]), "ejected after five");
    assert_eq!(trial.work.serving, "ejected");
    assert!(status.work.failures.is_empty(), "the module that serves has nothing to do with it");
    let refusal = lab.schedulers.promote(SERVICE).unwrap_err();
    assert!(refusal.reason.contains("not alive"), "{refusal}");

    try_out(&lab.schedulers, None);
    assert_eq!(follow(&lab.schedulers), [(false, None)]);
    assert!(lab.status().trial.is_none(), "the configuration wants none any more");
    assert_eq!(follow(&lab.schedulers), []);
    assert!(lab.schedulers.promote(SERVICE).is_err());
}

#[test]
fn a_canary_places_its_share_and_a_failing_one_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("canary.wasm");
    std::fs::write(&path, FOUR.component()).unwrap();
    let mut lab = Lab::with(Guest::GOOD, trial(path.to_str().unwrap(), Mode::Canary { percent: 25 }));
    let by_port = |lab: &mut Lab, port: u16| {
        lab.scheduler.schedule(
            &uvs_director::scheduler::Flow { client_port: port, ..flow(0) },
            &[],
            Instant::ZERO,
        )
    };
    let first: Vec<_> = (0..2000).map(|port| by_port(&mut lab, port)).collect();
    let second: Vec<_> = (0..2000).map(|port| by_port(&mut lab, port)).collect();
    assert_eq!(first, second, "a flow stays on its side");
    let placed = first.iter().filter(|pick| **pick == Some(4)).count();
    assert!((400..600).contains(&placed), "{placed} of 2000 at 25 %");
    let trial = lab.status().trial.unwrap();
    assert_eq!((trial.placed, trial.passed_on), (2 * placed as u64, 0));

    let report = lab.schedulers.promote(SERVICE).unwrap();
    assert_eq!(report.origin, path.display().to_string());
    assert_eq!(lab.picks(3), [Some(4); 3], "all of them now");
    assert!(lab.status().trial.is_none());
    lab.schedulers.rollback(SERVICE).unwrap();
    assert_eq!(lab.picks(3), [Some(1); 3], "back again");
    assert_eq!(follow(&lab.schedulers), [(true, None)], "what was promoted is tried again");
    lab.schedulers.promote(SERVICE).unwrap();
    assert_eq!(lab.picks(3), [Some(4); 3]);
    assert_eq!(follow(&lab.schedulers), [(true, None), (true, None)], "the configuration wins");
    let shares: Vec<_> = (0..2000).map(|port| by_port(&mut lab, port)).collect();
    let placed = shares.iter().filter(|pick| **pick == Some(4)).count();
    assert!((400..600).contains(&placed), "a share again, of other flows: {placed}");
    assert_eq!(follow(&lab.schedulers), [], "and is content");
    try_out(&lab.schedulers, None);
    assert_eq!(follow(&lab.schedulers), [(false, None)], "and ends the trial when it is told to");

    let broken = Guest {
        schedule: "(if (i32.eq (local.get $mark) (i32.const 0)) (then unreachable)) call $none",
        ..Guest::GOOD
    };
    let refused = Guest { schedule: "unreachable", ..broken };
    for (name, guest, begins) in [
        ("fails at once", refused, false),
        ("has no answer", Guest { schedule: "call $none", ..broken }, true),
    ] {
        std::fs::write(&path, guest.component()).unwrap();
        let mode = Mode::Canary { percent: 100 };
        try_out(&lab.schedulers, Some(TrialSpec { scheduler: path.display().to_string(), mode }));
        assert_eq!(follow(&lab.schedulers)[0].1.is_none(), begins, "{name}");
        assert_eq!(lab.picks(10), [Some(1); 10], "{name}");
        assert_eq!(lab.status().trial.map(|trial| trial.passed_on), begins.then_some(10), "{name}");
        try_out(&lab.schedulers, None);
        follow(&lab.schedulers);
    }
}

#[test]
fn a_reload_undoes_what_was_loaded_by_hand() {
    let mut lab = Lab::new(COUNTS);
    assert_eq!(lab.picks(1), [Some(1)]);
    let other = lab.file("other.wasm", &FOUR.component());
    let look = |lab: &Lab, read: bool| -> Vec<_> {
        let services = [(SERVICE.to_owned(), SchedulerSpec::named("mine"))];
        let list = lab.schedulers.exchanges(&lab.schedulers.catalogue(), &services, read);
        list.into_iter().map(|it| (it.from.unwrap(), it.to.unwrap(), it.by_hand)).collect()
    };
    assert_eq!(look(&lab, true), []);
    let mine = lab.path().display().to_string();
    lab.load(&other).unwrap();
    assert_eq!(look(&lab, false), [(other.display().to_string(), mine.clone(), true)]);
    lab.schedulers.load_bytes(SERVICE, ("a pipe", &FOUR.component()), None).unwrap();
    assert_eq!(look(&lab, false), [("a pipe (handed over)".to_owned(), mine.clone(), true)]);
    assert_eq!(lab.picks(1), [Some(4)]);
    assert_eq!(follow(&lab.schedulers), [(true, None)]);
    assert_eq!((lab.picks(1), lab.status().by), (vec![Some(1)], By::Configuration));
    assert_eq!(look(&lab, true), []);

    // The same file with something else in it is no change by hand, unless somebody went back from it.
    lab.file("mine.wasm", &FOUR.component());
    assert_eq!(look(&lab, false), []);
    let changed = (mine.clone(), format!("{mine}, as it is now"), false);
    assert_eq!(look(&lab, true), [changed]);
    assert_eq!(follow(&lab.schedulers), [(false, None)]);
    lab.schedulers.rollback(SERVICE).unwrap();
    assert_eq!(look(&lab, true), [(mine.clone(), format!("{mine}, as it is now"), true)]);
}

#[test]
fn loads_reach_who_was_not_asked_when_they_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("least.wasm");
    // Keeps the active count of position 1 and 4 and picks the lower one.
    let least = Guest {
        fields: "(global $a (mut i32) (i32.const 0)) (global $b (mut i32) (i32.const 0))",
        update: "(global.set $a (i32.const 0)) (global.set $b (i32.const 0))",
        schedule: "(local $word i64)
            (block $done (loop $next
              (br_if $done (i32.eqz (local.get $count)))
              (local.set $word (i64.load (local.get $words)))
              (local.set $words (i32.add (local.get $words) (i32.const 8)))
              (local.set $count (i32.sub (local.get $count) (i32.const 1)))
              (if (i64.eq (i64.shr_u (local.get $word) (i64.const 48)) (i64.const 1))
                (then (global.set $a (i32.and (i32.wrap_i64 (i64.shr_u (local.get $word) (i64.const 24))) (i32.const 0x7fffff)))))
              (if (i64.eq (i64.shr_u (local.get $word) (i64.const 48)) (i64.const 4))
                (then (global.set $b (i32.and (i32.wrap_i64 (i64.shr_u (local.get $word) (i64.const 24))) (i32.const 0x7fffff)))))
              (br $next)))
            (call $some (select (i32.const 1) (i32.const 4) (i32.lt_u (global.get $a) (global.get $b))))",
        ..Guest::GOOD
    };
    std::fs::write(&path, least.component()).unwrap();
    let mut lab = Lab::with(least, trial(path.to_str().unwrap(), Mode::Canary { percent: 50 }));
    let mut state = 1_u32;
    let (mut a, mut b) = (5, 7);
    for port in 0..4000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let changed = match state >> 30 {
            0 => None,
            1 => Some((2, active(state >> 8 & 0xff))),
            2 => {
                a = state >> 8 & 0xff;
                Some((1, active(a)))
            }
            _ => {
                b = state >> 8 & 0xff;
                Some((4, active(b)))
            }
        };
        let flow = uvs_director::scheduler::Flow { client_port: port, ..flow(0) };
        let pick = lab.scheduler.schedule(&flow, changed.as_slice(), Instant::ZERO);
        assert_eq!(pick, Some(if a < b { 1 } else { 4 }), "pick {port}: loads {a} and {b}");
    }
    let trial = lab.status().trial.unwrap();
    assert!(trial.placed > 1000 && trial.placed < 3000, "both sides were asked: {}", trial.placed);
}

#[test]
fn without_a_fallback_connections_are_refused() {
    let mut lab = Lab::new(Guest::GOOD);
    let broken = Guest { schedule: "unreachable", ..Guest::GOOD };
    let path = lab.file("broken.wasm", &broken.component());
    let definition = Definition { fallback: REFUSE.to_owned(), ..Definition::new(&path) };
    let names = BTreeMap::from([("broken".to_owned(), definition)]);
    lab.schedulers.accept(Catalogue::new(names).unwrap());
    let mut scheduler = lab.schedulers.create(&SchedulerSpec::named("broken"), "udp 192.0.2.1:53").unwrap();
    scheduler.update(&destinations());
    assert_eq!(scheduler.schedule(&flow(0), &[], Instant::ZERO), None);
    assert_eq!(lab.pick(), Some(1), "another service is none the worse");
}

fn wait_for_dumps(dir: &Path, n: usize) -> Vec<PathBuf> {
    let until = Clock::now() + Wait::from_secs(20);
    loop {
        let list =
            std::fs::read_dir(dir).map(|entries| entries.map(|e| e.unwrap().path()).collect::<Vec<_>>());
        let mut files = list.unwrap_or_default();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        if files.len() >= n || Clock::now() > until {
            return files;
        }
        std::thread::sleep(Wait::from_millis(10));
    }
}

#[test]
fn a_failing_call_is_dumped_and_fails_the_same_way_offline() {
    // Fails when it has picked five times, its random number was odd or not: state, clock and random numbers count.
    let guest = Guest {
        schedule: "(local $r i64)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (local.set $r (call $random))
            (if (i32.and (i32.ge_u (global.get $n) (i32.const 5)) (i64.ge_u (call $now) (i64.const 3)))
              (then (if (i32.wrap_i64 (i64.and (local.get $r) (i64.const 1)))
                (then (drop (i32.div_u (i32.const 1) (i32.const 0)))) (else (call $deep)))))
            (call $some (i32.const 1))",
        fields: "(global $n (mut i32) (i32.const 0)) (func $deep (export \"deep\") (call $deep) (call $deep))",
        ..Guest::GOOD
    };
    let dumps = tempfile::tempdir().unwrap();
    let folder = dumps.path().join("dumps");
    let mut lab = Lab::with(guest, |schedulers| schedulers.dump_to(folder.clone()).unwrap());
    for n in 0..24 {
        let pick = lab.scheduler.schedule(&flow(n), &[(4, active(n))], Instant::from_millis(u64::from(n)));
        assert!(pick.is_some(), "pick {n}");
    }
    let files = wait_for_dumps(&folder, 4);
    assert!(files.len() >= 4, "each failure is dumped: {files:?}");
    for path in &files {
        let dump = Dump::read(path).unwrap();
        assert_eq!((dump.service.as_str(), dump.call.as_str(), dump.whole), (SERVICE, "schedule", true));
        assert_eq!((dump.destinations.len(), dump.history.len()), (5, 4), "four good picks went before");
        assert!(dump.pick.is_some() && dump.fuel.is_some() && !dump.backtrace.is_empty(), "{dump:?}");
        let again = replay(host(), &dump, None).unwrap();
        assert!(again.same && again.same_module, "{again:?} against {dump:?}");
        assert_eq!(again.history, (4, 4));
        assert_eq!(again.failure.as_ref().unwrap().backtrace, dump.backtrace);
        assert_eq!(again.failure.as_ref().unwrap().fuel, dump.fuel, "it took the very same way");
        // A repaired module answers.
        let fixed = lab.file("fixed.wasm", &Guest::GOOD.component());
        let again = replay(host(), &dump, Some(&fixed)).unwrap();
        assert!(!again.same && !again.same_module && again.failure.is_none(), "{again:?}");
        assert_eq!(again.answer, Some(Some(1)));
    }
}

#[test]
fn bad_answers_and_updates_are_dumped_too() {
    let dumps = tempfile::tempdir().unwrap();
    let to = |schedulers: &Schedulers| schedulers.dump_to(dumps.path().to_owned()).unwrap();
    let mut lab = Lab::with(Guest { schedule: "(call $some (i32.const 3))", ..Guest::GOOD }, to);
    assert_eq!(lab.pick(), BY_FALLBACK);
    let files = wait_for_dumps(dumps.path(), 1);
    let dump = Dump::read(&files[0]).unwrap();
    assert_eq!((dump.cause.as_str(), dump.call.as_str()), ("quiesced", "schedule"));
    assert!(replay(host(), &dump, None).unwrap().same);

    let dumps = tempfile::tempdir().unwrap();
    let to = |schedulers: &Schedulers| schedulers.dump_to(dumps.path().to_owned()).unwrap();
    let _lab = Lab::with(Guest { update: "unreachable", ..Guest::GOOD }, to);
    let dump = Dump::read(&wait_for_dumps(dumps.path(), 1)[0]).unwrap();
    assert_eq!((dump.cause.as_str(), dump.call.as_str(), dump.pick.is_none()), ("trap", "update", true));
    assert!(replay(host(), &dump, None).unwrap().same);
}

#[test]
fn dumps_are_bounded_in_number() {
    let dumps = tempfile::tempdir().unwrap();
    let policy = Policy { failures: u32::MAX, ..Policy::default() };
    let to = |schedulers: &Schedulers| schedulers.dump_to(dumps.path().to_owned()).unwrap();
    let mut lab = Lab::on(
        Host::new(policy).unwrap(),
        Guest { schedule: "(call $some (i32.const 9))", ..Guest::GOOD },
        to,
    );
    for n in 0..60 {
        assert_eq!(lab.pick(), BY_FALLBACK);
        wait_for_dumps(dumps.path(), (n + 1).min(32));
    }
    assert!(wait_for_dumps(dumps.path(), 32).len() <= 32);
}

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_thousand_reloads_under_picks_lose_none_and_leak_nothing() {
    let lab = Lab::new(COUNTS);
    let (one, two) = (lab.path(), lab.file("two.wasm", &FOUR.component()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut scheduler = lab.scheduler;
    let set = destinations();
    let schedulers = &lab.schedulers;
    std::thread::scope(|scope| {
        let picker = scope.spawn(|| {
            let mut picks = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let pick = scheduler.schedule(&flow(0), &[(2, active(1))], Instant::ZERO);
                assert!(matches!(pick, Some(1 | 4)), "{pick:?}");
                picks += 1;
                // The set changes now and then, so that some preparations are in vain.
                if picks.is_multiple_of(50_000) {
                    scheduler.update(&set);
                }
            }
            picks
        });
        let round = |n: u32| {
            for i in 0..n {
                let path = if i % 2 == 0 { &two } else { &one };
                match schedulers.load(SERVICE, path, None) {
                    Ok(_) => {}
                    Err(refusal) => assert_eq!(refusal.step, Step::Swap, "{refusal}"),
                }
            }
        };
        round(200); // buffers, the allocator's arenas, and code that is kept
        let before = resident();
        round(800);
        let after = resident();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let picks = picker.join().unwrap();
        assert!(picks > 1000, "there were picks meanwhile: {picks}");
        println!("{picks} picks during 1000 reloads; {before} KiB before, {after} KiB after 800 of them");
        assert!(after < before + 8 * 1024, "memory grows: {before} KiB, then {after} KiB");
    });
    let status = lab.schedulers.status_of(SERVICE);
    assert!(status.is_err() || status.unwrap().work.failures.is_empty());
    lab.dir.close().unwrap();
}

#[test]
fn good_modules_are_picked_by() {
    assert_eq!(Lab::new(Guest::GOOD).pick(), BY_MODULE);
}
