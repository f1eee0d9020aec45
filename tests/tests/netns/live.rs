//! Modules that come and go, good ones and hostile ones, while clients connect: no connection is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use uvs_lab::topology::{Method, Plan};

use crate::adm::{Said, say};
use crate::guest::{Guest, World};
use crate::removal::Load;
use crate::stage::{Running, Stage, eventually, turn, uvs};

/// Connections of the load after each change.
const SOME: usize = 10;

/// Picks in turn among three, and keeps its place over a reload.
const TURNS: Guest<'static> = Guest {
    schedule: "(global.set $n (i32.add (global.get $n) (i32.const 1)))
        (call $some (i32.rem_u (global.get $n) (i32.const 3)))",
    save: "(i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const 4))
        (i32.store (i32.const 64) (global.get $n)) (i32.const 32)",
    restore: "(global.set $n (i32.load (local.get $state))) (i32.const 1)",
    fields: "(global $n (mut i32) (i32.const 0))",
    ..Guest::GOOD
};

impl Running {
    /// `uvs sched LINE` of this director.
    fn sched(&self, line: &[&str]) -> Said {
        let mut command = Command::new(uvs());
        command.arg("sched").args(line).arg("--socket").arg(self.get().socket());
        say(command, "")
    }

    fn sched_status(&self) -> Value {
        let said = self.sched(&["status", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str::<Value>(&said.out).unwrap()[0].clone()
    }
}

/// A service under load whose module is in a file.
struct Scene {
    stage: Stage,
    load: Load,
    folder: tempfile::TempDir,
    service: String,
}

impl Scene {
    fn new(keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.wasm");
        fs::write(&file, TURNS.component()).unwrap();
        let plan = Plan { scheduler: file.to_str().unwrap().to_owned(), ..Plan::default() };
        let topology = crate::stage::topology(Method::Nat, &plan);
        let dumps = folder.path().join("dumps");
        let config = topology.config.replace("scheduler = ", &format!("{keys}scheduler = "));
        let config = format!("[modules]\ndumps = {dumps:?}\n\n{config}");
        let mut stage = Stage::on(topology, &config);
        let mut load = Load::start(stage.client(), stage.topology.service);
        load.go_on(SOME);
        let service = format!("tcp/{}", stage.topology.service);
        assert_eq!(stage.director().sched_status()["work"]["fallbacks"], 0);
        Self { stage, load, folder, service }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn load_module(&mut self, path: &Path) -> Said {
        let service = self.service.clone();
        self.stage.director().sched(&["load", &service, path.to_str().unwrap()])
    }

    /// Ends the load: each of its connections was answered.
    fn end(self) -> Stage {
        let tries = self.load.end();
        let failed: Vec<String> = tries
            .iter()
            .filter_map(|one| one.result.as_ref().err().map(|error| format!("{error:#}")))
            .collect();
        assert!(failed.is_empty(), "{} of {} connections failed: {failed:?}", failed.len(), tries.len());
        println!("{} connections, all of them answered", tries.len());
        self.stage
    }
}

/// What a process holds in memory.
fn memory_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_module_that_floods_the_log_is_cut_short_and_serves_on() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new("");
    // A hundred lines for each connection, well within its fuel.
    let flood = "(local $n i32)
        (loop $again
            (call $log (i32.const 2) (i32.const 64) (i32.const 11))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 100))))
        (call $some (i32.const 1))";
    let guest = Guest { schedule: flood, fields: r#"(data (i32.const 64) "flood-flood")"#, ..Guest::GOOD };
    let path = scene.file("flood.wasm", &guest.component());
    let began = std::time::Instant::now();
    let said = scene.load_module(&path);
    assert_eq!(said.code, Some(0), "{said:?}");
    while began.elapsed() < std::time::Duration::from_secs(12) {
        scene.load.go_on(SOME);
    }
    let windows = 2 + usize::try_from(began.elapsed().as_secs() / 10).unwrap();
    let log = scene.stage.director().get().log();
    // 20 in 10 s for the module that serves, and as many for each instance of the rehearsal before.
    let lines = log.lines().filter(|line| line.contains("flood-flood")).count();
    assert!(lines >= 40 && lines <= 20 * (windows + 2), "{lines} lines in {windows} windows");
    assert!(
        log.contains("lines of the scheduler's log were left out"),
        "and it is said how many are missing"
    );
    let status = scene.stage.director().sched_status();
    assert_eq!(
        (&status["work"]["fallbacks"], &status["work"]["failures"]),
        (&0.into(), &serde_json::json!({}))
    );
    assert_eq!(status["work"]["serving"], "module");
    scene.end();
}

#[test]
fn hostile_modules_are_refused_while_clients_connect() {
    let Some(_turn) = turn() else { return };
    let mut scene = Scene::new("");
    let good = Guest::GOOD;
    let world = |version: &'static str, imports: &'static str| {
        wat::parse_str(good.text(&World { version, imports, ..World::default() })).unwrap()
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "an endless loop in schedule",
            Guest { schedule: "(loop $l (br $l)) unreachable", ..good }.component(),
            "out of fuel",
        ),
        (
            "an endless loop in init",
            Guest { init: "(loop $l (br $l)) unreachable", ..good }.component(),
            "out of fuel",
        ),
        (
            "an endless loop in update",
            Guest { update: "(loop $l (br $l))", ..good }.component(),
            "out of fuel",
        ),
        ("a trap", Guest { schedule: "unreachable", ..good }.component(), "trap"),
        (
            "a pick out of range",
            Guest { schedule: "(call $some (i32.const 3))", ..good }.component(),
            "position 3 of 3",
        ),
        ("50 MiB", vec![0; 50 << 20], "the limit is 16777216"),
        ("no component", wat::parse_str("(module)").unwrap(), "core WebAssembly module"),
        ("another world", wat::parse_str("(component)").unwrap(), "does not export init"),
        ("another version", world("0.2.0", ""), "version 0.2.0 of the contract"),
        (
            "a wish for WASI",
            world(
                uvs_plugin::CONTRACT,
                r#"(import "wasi:cli/environment@0.2.0" (instance (export "get" (func))))"#,
            ),
            "wasi:cli/environment",
        ),
        ("garbage", b"\x00\xff garbage".to_vec(), "is not WebAssembly"),
    ];
    for (name, bytes, words) in &cases {
        let path = scene.file("hostile.wasm", bytes);
        let said = scene.load_module(&path);
        assert_eq!(said.code, Some(1), "{name}: {said:?}");
        assert!(said.err.contains(words) && said.err.contains("refused at the step"), "{name}: {said:?}");
        scene.load.go_on(SOME);
    }
    let said = scene.load_module(&scene.folder.path().join("vanished.wasm"));
    assert!(said.code == Some(1) && said.err.contains("cannot be read"), "{said:?}");
    let status = scene.stage.director().sched_status();
    assert_eq!(status["module"]["origin"], scene.folder.path().join("mine.wasm").to_str().unwrap());
    assert_eq!(
        (&status["work"]["fallbacks"], &status["work"]["rebuilds"]),
        (&0.into(), &0.into()),
        "{status}"
    );
    let refused = scene.stage.director().metric("uvs_scheduler_load_refusals_total", &[]);
    assert_eq!(refused, cases.len() as u64 + 1);
    scene.end();
}

#[test]
fn modules_that_turn_hostile_under_load_are_ejected_dumped_and_rolled_back() {
    let Some(_turn) = turn() else { return };
    // They pass the rehearsal, which has 64 picks at most, and break after as many.
    let after = |fault: &str| {
        format!(
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (if (i32.gt_u (global.get $n) (i32.const 64)) (then {fault})) (call $some (i32.const 1))"
        )
    };
    let cases = [
        ("an endless loop", "fuel", "(loop $l (br $l))"),
        (
            "memory without end",
            "memory",
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
        ),
        ("a stack overflow", "stack", "(call $deep)"),
        ("a trap", "trap", "unreachable"),
        ("a pick out of range", "out_of_range", "(return (call $some (i32.const 99)))"),
        (
            "a log flood without end",
            "fuel",
            "(loop $l (call $log (i32.const 0) (i32.const 64) (i32.const 5)) (br $l))",
        ),
    ];
    let mut scene = Scene::new("");
    let service = scene.service.clone();
    for (name, cause, fault) in cases {
        let schedule = after(fault);
        let guest = Guest {
            schedule: &schedule,
            fields: "(global $n (mut i32) (i32.const 0)) (func $deep (call $deep) (call $deep))",
            ..Guest::GOOD
        };
        let path = scene.file("turns.wasm", &guest.component());
        let said = scene.load_module(&path);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{name}: {said:?}");
        let failures = |scene: &mut Scene| {
            scene.stage.director().metric("uvs_scheduler_failures_total", &[("cause", cause)])
        };
        let before = failures(&mut scene);
        while failures(&mut scene) == before {
            scene.load.go_on(SOME);
        }
        let said = scene.stage.director().sched(&["rollback", &service]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{name}: {said:?}");
        scene.load.go_on(SOME);
        assert_eq!(scene.stage.director().sched_status()["work"]["serving"], "module", "{name}");
    }
    // The quiesced one: it was not when the module came in.
    let always_first = Guest { schedule: "(call $some (i32.const 0))", ..Guest::GOOD };
    let path = scene.file("first.wasm", &always_first.component());
    assert_eq!(scene.load_module(&path).code, Some(0));
    let first = scene.stage.topology.real_servers[2].address;
    let edit =
        format!("-e -t {} -r {first}:{} -m -w 0", scene.stage.topology.service, crate::stage::NAT_PORT);
    scene.stage.director().adm(&edit);
    scene.load.go_on(4 * SOME);
    let quiesced = scene.stage.director().metric("uvs_scheduler_failures_total", &[("cause", "quiesced")]);
    assert!(
        quiesced >= 5,
        "{quiesced}: each pick of the quiesced one is refused, until the module is ejected"
    );
    assert_eq!(scene.stage.director().sched_status()["work"]["serving"], "ejected");

    let dumps: Vec<PathBuf> = eventually("the dumps are written", || {
        let list = fs::read_dir(scene.folder.path().join("dumps")).ok()?;
        let files: Vec<_> = list.map(|entry| entry.unwrap().path()).collect();
        (files.len() >= 7).then_some(files)
    });
    let mut repeated = 0;
    for dump in dumps.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = fs::read_to_string(dump).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let mut command = Command::new(uvs());
        command.args(["sched", "replay"]).arg(dump);
        let said = say(command, "");
        // The file of most has another content by now, with another fault.
        if !said.out.contains("NOT the module of the dump") {
            assert_eq!(said.code, Some(0), "{said:?} of {value}");
            assert!(said.out.contains("the same as in the dump"), "{said:?}");
            repeated += 1;
        }
    }
    assert!(repeated > 0, "of these the module is still there: the flood, the picks of the quiesced one");
    scene.end();
}

#[test]
fn a_changed_file_a_shadow_a_canary_and_many_reloads() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let candidate = folder.path().join("candidate.wasm");
    let always_second = Guest { schedule: "(call $some (i32.const 1))", ..Guest::GOOD };
    fs::write(&candidate, always_second.component()).unwrap();
    let mut scene = Scene::new(&format!("canary = {{ module = {candidate:?}, percent = 50 }}\n"));
    scene.load.go_on(4 * SOME);
    let status = scene.stage.director().sched_status();
    let placed = status["trial"]["placed"].as_u64().unwrap();
    assert!(placed > 0 && placed < status["work"]["picks"].as_u64().unwrap(), "{status}");

    // Written in place, renamed over, removed and put back: the director notices.
    let file = scene.folder.path().join("mine.wasm");
    let sha = |scene: &mut Scene| scene.stage.director().sched_status()["module"]["sha256"].clone();
    let other =
        Guest { fields: "(global $n (mut i32) (i32.const 0)) (global $other i32 (i32.const 1))", ..TURNS };
    let mut runs = sha(&mut scene);
    for (turn, guest) in [other, TURNS, other].into_iter().enumerate() {
        match turn {
            0 => fs::write(&file, guest.component()).unwrap(),
            1 => {
                let part = scene.file("part", &guest.component());
                fs::rename(part, &file).unwrap();
            }
            _ => {
                fs::remove_file(&file).unwrap();
                scene.load.go_on(SOME);
                fs::write(&file, guest.component()).unwrap();
            }
        }
        runs = eventually("the changed file is loaded", || {
            let now = sha(&mut scene);
            (now != runs).then_some(now)
        });
        scene.load.go_on(SOME);
    }
    let service = scene.service.clone();
    let said = scene.stage.director().sched(&["promote", &service]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    scene.load.go_on(SOME);
    let status = scene.stage.director().sched_status();
    assert_eq!(status["module"]["origin"], candidate.to_str().unwrap());
    assert!(status["trial"].is_null(), "{status}");

    let good = scene.file("good.wasm", &TURNS.component());
    let mut held = Vec::new();
    for turn in 0..1_000 {
        let path = if turn % 2 == 0 { &good } else { &candidate };
        let said = scene.load_module(path);
        assert_eq!(said.code, Some(0), "load {turn}: {said:?}");
        if turn % 100 == 99 {
            held.push(memory_kib(scene.stage.director().get().id()));
        }
    }
    // The table of connections grows with the load meanwhile: some hundred bytes for each.
    let grown = held[9].saturating_sub(held[1]);
    assert!(grown < 4 << 10, "800 loads took {grown} KiB: {held:?}");
    println!("after each hundred loads it held {held:?} KiB");
    scene.load.go_on(SOME);
    let status = scene.stage.director().sched_status();
    assert_eq!(
        (&status["work"]["fallbacks"], &status["work"]["failures"]),
        (&0.into(), &serde_json::json!({}))
    );
    scene.end();
}
