//! inspect, test and bench: on what uvs ships, and on what nobody should load.

use std::collections::BTreeSet;

use serde_json::Value;
use uvs_plugin::SHIPPED;

use crate::guest::{Guest, World};
use crate::{sched, sched_in};

fn failing(report: &Value) -> BTreeSet<&str> {
    let cases = report["cases"].as_array().unwrap();
    cases.iter().filter(|case| case["result"] == "fail").map(|case| case["case"].as_str().unwrap()).collect()
}

#[test]
fn inspect_tells_what_a_shipped_scheduler_is() {
    let told = sched(&["inspect", "rr", "--json"]);
    assert_eq!(told.status, 0, "{told:?}");
    let report = told.json();
    assert_eq!(report["accepted"], true);
    assert_eq!((&report["kind"], &report["reason"]), (&Value::from("component"), &Value::Null));
    assert_eq!(report["contract"]["module"], report["contract"]["host"]);
    let exports: Vec<_> =
        report["exports"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(exports, ["init", "update", "schedule", "save", "restore"]);
    assert!(report["imports"].as_array().unwrap().iter().all(|import| import["granted"] == true));
    assert_eq!(report["memory"]["limit_bytes"], 64 << 20);
    assert_eq!(report["fuel"]["schedule"], 1_000_000);
    assert_eq!(report["sha256"].as_str().map(str::len), Some(64));

    let text = sched(&["inspect", "rr"]).out;
    for want in ["func(flow: flow, changed: list<u64>) -> option<u32>", "uvs takes it", "64 MiB"] {
        assert!(text.contains(want), "{want:?} is not in:\n{text}");
    }
}

#[test]
fn inspect_says_in_a_sentence_why_uvs_refuses_a_file() {
    let component = |world: World<'_>| wat::parse_str(Guest::GOOD.text(&world)).unwrap();
    let wasi = "(import \"wasi:cli/environment@0.2.0\" (instance))";
    let cases: [(&str, Vec<u8>, &str, &str); 8] = [
        ("garbage", b"garbage".to_vec(), "not WebAssembly", "no WebAssembly"),
        ("empty", Vec::new(), "empty", "no WebAssembly"),
        ("a core module", wat::parse_str("(module)").unwrap(), "core WebAssembly module", "core module"),
        (
            "wants WASI",
            component(World { imports: wasi, ..World::default() }),
            "wasi:cli/environment",
            "component",
        ),
        ("another version", component(World { version: "0.9.0", ..World::default() }), "0.9.0", "component"),
        (
            "lacks exports",
            component(World { exports: &["init", "update"], ..World::default() }),
            "schedule",
            "component",
        ),
        ("cut", SHIPPED[0].1[..4000].to_vec(), "does not compile", "component"),
        ("too large", vec![0; 17 << 20], "the limit is 16777216", "not read: too large"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, reason, kind) in cases {
        std::fs::write(folder.path().join("x.wasm"), bytes).unwrap();
        let told = sched_in(folder.path(), &["inspect", "x.wasm", "--json"]);
        assert_eq!(told.status, 1, "{name}: {told:?}");
        let report = told.json();
        assert_eq!(
            (&report["accepted"], &report["kind"]),
            (&Value::from(false), &Value::from(kind)),
            "{name}"
        );
        let said = report["reason"].as_str().unwrap();
        assert!(said.starts_with("it ") && said.contains(reason), "{name}: {said}");
        assert!(!report["fix"].as_str().unwrap().is_empty(), "{name}");
        let text = sched_in(folder.path(), &["inspect", "x.wasm"]);
        assert!(text.status == 1 && text.out.contains("uvs refuses it"), "{name}: {text:?}");
    }
    let wasi = component(World { imports: wasi, ..World::default() });
    std::fs::write(folder.path().join("x.wasm"), wasi).unwrap();
    assert!(sched_in(folder.path(), &["inspect", "x.wasm"]).out.contains("NOT GRANTED"));
}

#[test]
fn every_shipped_scheduler_passes() {
    for (name, _) in SHIPPED {
        let told = sched(&["test", name, "--json"]);
        let report = told.json();
        assert_eq!((told.status, failing(&report)), (0, BTreeSet::new()), "{name}: {}", told.out);
        assert_eq!(report["passed"], true);
        assert_eq!(report["cases"].as_array().unwrap().len(), 13, "{name}");
    }
    for options in ["mh-port", "mh-fallback,mh-port"] {
        assert_eq!(sched(&["test", "mh", "--options", options, "--seed", "9"]).status, 0, "{options}");
    }
}

#[test]
fn each_vice_is_found_by_its_case() {
    let on_mark = |fault: &str| format!("(if (local.get $mark) (then {fault})) (call $none)");
    let panics = on_mark("unreachable");
    let cases: [(&str, Guest<'_>, &[&str], &str); 9] = [
        (
            "always picks position 1",
            Guest::GOOD,
            &["serves", "picks", "zero-weight", "unavailable", "none", "updates"],
            "it picked position 1",
        ),
        (
            "panics at a mark",
            Guest { schedule: &panics, ..Guest::GOOD },
            &["picks", "updates"],
            "trap in schedule",
        ),
        (
            "refuses everybody",
            Guest { schedule: "call $none", ..Guest::GOOD },
            &["serves", "none", "time"],
            "refused",
        ),
        (
            "loops in update",
            Guest { update: "(loop $again (br $again))", ..Guest::GOOD },
            &["serves", "updates", "fuel"],
            "out of fuel in update",
        ),
        (
            "cannot bear long options",
            Guest {
                init: "(if (i32.gt_u (local.get $options_len) (i32.const 1000)) (then unreachable)) call $ok",
                ..Guest::GOOD
            },
            &["options"],
            "fails in init (trap)",
        ),
        (
            "refuses without a word",
            Guest {
                init: "(if (local.get $options_len) (then (return (call $refuse (i32.const 64) (i32.const 0))))) call $ok",
                ..Guest::GOOD
            },
            &["options"],
            "without a word",
        ),
        (
            "panics at a state",
            Guest { schedule: "call $none", restore: "unreachable", ..Guest::GOOD },
            &["save-restore", "restore-any"],
            "trap in restore",
        ),
        (
            "takes a page now and then",
            Guest {
                schedule: "(if (i64.eqz (i64.rem_u (call $now) (i64.const 40000)))
                             (then (drop (memory.grow (i32.const 1))))) call $none",
                ..Guest::GOOD
            },
            &["memory"],
            "after as many more",
        ),
        (
            "takes all memory at once",
            Guest { schedule: "(drop (memory.grow (i32.const 1))) call $none", ..Guest::GOOD },
            &["memory"],
            "the limit is 64 MiB",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (vice, guest, want, said) in cases {
        std::fs::write(folder.path().join("x.wasm"), guest.component()).unwrap();
        let told = sched_in(folder.path(), &["test", "x.wasm", "--json", "--seed", "3"]);
        assert_eq!(told.status, 1, "{vice}: {told:?}");
        let report = told.json();
        let found = failing(&report);
        for case in want {
            assert!(found.contains(case), "{vice}: {case} is not among {found:?}");
        }
        let case = report["cases"].as_array().unwrap().iter().find(|case| case["case"] == want[0]).unwrap();
        let detail = case["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{vice}: {said:?} is not in: {detail}");
        // The last line is a command that shows the same again.
        let again = case["reproduce"].as_array().unwrap().last().unwrap().as_str().unwrap();
        let again: Vec<&str> = again.strip_prefix("again: uvs sched ").unwrap().split(' ').collect();
        let second = sched_in(folder.path(), &again);
        assert!(second.status == 1 && second.out.contains(detail), "{vice}: {second:?}");
        assert!(second.out.contains("FAILED: 1 of 1 cases"), "{vice}: {second:?}");
    }
}

#[test]
fn a_failure_comes_with_the_destinations_and_the_pick() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.wasm"), Guest::GOOD.component()).unwrap();
    let told = sched_in(folder.path(), &["test", "x.wasm", "--only", "zero-weight"]);
    assert_eq!(told.status, 1, "{told:?}");
    for want in
        ["FAIL  zero-weight", "10.0.0.2:80, which is quiesced", "10.0.0.2:80 weight 0", "pick 1: tcp 100.64."]
    {
        assert!(told.out.contains(want), "{want:?} is not in:\n{}", told.out);
    }
}

#[test]
fn bench_prints_the_promised_json() {
    let told = sched(&["bench", "wlc", "--json"]);
    assert_eq!(told.status, 0, "{told:?}");
    let report = told.json();
    let rows = report.as_array().unwrap();
    let sizes: Vec<_> = rows.iter().map(|row| row["destinations"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [3, 10, 100, 1000], "the default");
    for row in rows {
        for key in ["ns_per_pick_p50", "native_ns", "ns_per_pick_p99"] {
            assert!(row[key].as_f64().is_some_and(|ns| ns > 0.0), "{key}: {row}");
        }
        assert!(row["ns_per_pick_p99"].as_f64() >= row["ns_per_pick_p50"].as_f64(), "{row}");
        let (fuel, budget) = (row["fuel"].as_u64().unwrap(), row["fuel_budget"].as_u64().unwrap());
        assert!(fuel > 0 && fuel < budget, "{row}");
        assert_eq!(row["native"], "wlc", "a shipped module is held against its twin");
    }
    assert!(told.out.starts_with("[{\"destinations\":3,\"ns_per_pick_p50\":"), "{}", told.out);

    let told = sched(&["bench", "rr", "--destinations", "7"]);
    assert!(told.status == 0 && told.out.contains("median") && told.out.contains("\n7 "), "{told:?}");
}

#[test]
fn what_fails_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let panics = Guest { schedule: "unreachable", ..Guest::GOOD }.component();
    std::fs::write(folder.path().join("x.wasm"), panics).unwrap();
    let told = sched_in(folder.path(), &["bench", "x.wasm", "--json"]);
    assert_eq!((told.status, told.out.as_str()), (1, ""), "{told:?}");
    for want in ["x.wasm fails in schedule", "fix:", "uvs sched test x.wasm"] {
        assert!(told.err.contains(want), "{want:?}: {told:?}");
    }
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let cases: [(&[&str], i32, &str); 9] = [
        (&["inspect", "no-such-file.wasm"], 1, "shipped schedulers are"),
        (&["test", "rr", "--only", "luck"], 1, "take one of options, serves"),
        (&["test", "rr", "--options", "nonsense"], 1, ""),
        (&["bench", "rr", "--options", "nonsense"], 1, "--options"),
        (&["bench", "rr", "--destinations", "0"], 2, "1..=65536"),
        (&["simulate", "rr", "--fail", "11@1s"], 1, "there is no destination 11"),
        (&["simulate", "rr", "--fail", "1@1s-5s", "--quiesce", "1@2s"], 1, "two troubles"),
        (&["simulate", "rr", "--svg", "x.png"], 1, ".svg"),
        (&["simulate", "rr", "--options", "mh=x"], 1, "no scheduler mh"),
    ];
    for (arguments, status, want) in cases {
        let told = sched(arguments);
        assert_eq!(told.status, status, "{arguments:?}: {told:?}");
        assert!(told.err.contains(want), "{arguments:?}: {told:?}");
    }
}
