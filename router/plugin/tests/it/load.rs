//! Files that are refused, and what is said about them.

use std::path::Path;

use uvs_plugin::{CONTRACT, Host, LoadReason, Policy};

use crate::guest::{Guest, World, host};

fn built(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's text is well-formed")
}

/// What is said about `bytes`, what and how to fix in one line.
fn complaint(bytes: &[u8]) -> String {
    host().compile("edge.wasm", bytes).expect_err("it has to be refused").sentence()
}

#[test]
fn what_is_no_scheduler_is_refused_with_a_reason_and_a_remedy() {
    let good = Guest::GOOD;
    let world = World::default();
    let with_wasi = World {
        imports: r#"(import "wasi:cli/environment@0.2.0" (instance (export "get" (func))))
                    (import "wasi:random/random@0.2.0" (instance (export "get" (func))))"#,
        ..World::default()
    };
    let with_function = World { imports: r#"(import "read-file" (func))"#, ..World::default() };
    let other_version = World { version: "0.2.0", ..World::default() };
    let later_patch = World { version: "0.1.9", ..World::default() };
    let incomplete = World { exports: &["init", "update", "schedule"], ..World::default() };
    let empty = World { exports: &[], ..World::default() };
    let wrong_export = good.text(&world).replace("(result (option u32))", "(result u32)");
    let wrong_import = good.text(&world).replace(
        r#"(import "random" (func $random (result u64)))"#,
        r#"(import "random" (func $random (result s64)))"#,
    );
    let start_traps = good.text(&world).replace(
        "(func $some (param i32)",
        "(func $start unreachable) (start $start) (func $some (param i32)",
    );
    let start_loops = good.text(&world).replace(
        "(func $some (param i32)",
        "(func $start (loop $again (br $again))) (start $start) (func $some (param i32)",
    );
    let too_much_memory =
        good.text(&world).replace("(memory (export \"memory\") 2)", "(memory (export \"memory\") 1025)");
    let component = good.component();
    let mut damaged = component.clone();
    damaged.truncate(component.len() / 2);

    let cases: [(&str, Vec<u8>, &[&str]); 20] = [
        ("empty file", vec![], &["edge.wasm: is not WebAssembly", "empty"]),
        ("three bytes", b"\0as".to_vec(), &["not WebAssembly", "3 bytes"]),
        ("only the magic", b"\0asm".to_vec(), &["not WebAssembly"]),
        (
            "garbage",
            b"#!/bin/sh\necho".to_vec(),
            &["not WebAssembly", "begins with #!/b", "give the .wasm file"],
        ),
        ("an ELF file", b"\x7fELF\x02\x01\x01".to_vec(), &["ELF"]),
        ("text", b" (component)".to_vec(), &["WebAssembly text", "wasm-tools parse"]),
        ("core module", built("(module)"), &["core WebAssembly module", "wasm-tools component new"]),
        ("unknown layer", b"\0asm\x0e\0\x02\0".to_vec(), &["unknown kind", "version 14, layer 2"]),
        ("a damaged component", damaged, &["does not compile"]),
        ("garbage after the preamble", b"\0asm\x0d\0\x01\0\xff\xff\xff".to_vec(), &["does not compile"]),
        (
            "WASI",
            built(&good.text(&with_wasi)),
            &["imports wasi:cli/environment@0.2.0, wasi:random/random@0.2.0", "wasm32-unknown-unknown"],
        ),
        (
            "a function of its own",
            built(&good.text(&with_function)),
            &["imports read-file", "log, random and now-ms"],
        ),
        (
            "another version",
            built(&good.text(&other_version)),
            &["version 0.2.0", &format!("speaks {CONTRACT}"), "uvs-sdk"],
        ),
        ("a later patch", built(&good.text(&later_patch)), &["version 0.1.9"]),
        (
            "missing exports",
            built(&good.text(&incomplete)),
            &["does not export save, restore", "wit/scheduler.wit"],
        ),
        (
            "no exports at all",
            built(&good.text(&empty)),
            &["does not export init, update, schedule, save, restore"],
        ),
        ("an import of another type", built(&wrong_import), &["does not fit the contract", "random"]),
        ("a start that traps", built(&start_traps), &["fails when it is started (trap)", "unreachable"]),
        ("a start that loops", built(&start_loops), &["fails when it is started (out of fuel)"]),
        (
            "too much memory",
            built(&too_much_memory),
            &["fails when it is started (out of memory)", "67108864"],
        ),
    ];
    for (name, bytes, wants) in cases {
        let said = complaint(&bytes);
        for want in wants {
            assert!(said.contains(want), "{name}: {want:?} is not in: {said}");
        }
        assert!(!said.contains('\n'), "{name}: one line: {said}");
    }
    // `schedule` of another type: built apart, for its core function returns a number and not a pointer.
    assert!(
        complaint(&built(&wrong_export)).contains("does not fit the contract"),
        "an export of another type"
    );
}

#[test]
fn what_fits_is_taken() {
    let module = host().compile("good", &Guest::GOOD.component()).unwrap();
    assert_eq!((module.name(), module.bytes()), ("good", Guest::GOOD.component().len()));
    assert_eq!(module.sha256().len(), 64);
}

#[test]
fn files_are_read_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let small = Host::new(Policy { module_bytes: 1000, ..Policy::default() }).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let large = write("large.wasm", &Guest::GOOD.component());
    assert!(Guest::GOOD.component().len() > 1000);
    let cases: [(&str, &Path, &[&str]); 4] = [
        ("missing", &dir.path().join("none.wasm"), &["none.wasm: cannot be read", "check the path"]),
        ("a directory", dir.path(), &["it is a directory", "regular file"]),
        ("a device without end", Path::new("/dev/zero"), &["not a regular file"]),
        ("too large", &large, &["bytes long, and the limit is 1000", "strip"]),
    ];
    for (name, path, wants) in cases {
        let said = small.load(path).expect_err(name).sentence();
        for want in wants {
            assert!(said.contains(want), "{name}: {want:?} is not in: {said}");
        }
    }
    let error = small.compile("bytes", &[0; 1001]).unwrap_err();
    assert!(matches!(error.reason, LoadReason::TooLarge { bytes: Some(1001), limit: 1000 }), "{error}");
    assert_eq!(host().load(&large).unwrap().name(), large.display().to_string());
}

#[test]
fn check_runs_init_but_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let check = |guest: Guest<'_>| {
        let path = dir.path().join("checked.wasm");
        std::fs::write(&path, guest.component()).unwrap();
        host().check(&path, "x=1").map(|module| module.bytes())
    };
    let lazy = Guest { update: "unreachable", schedule: "unreachable", ..Guest::GOOD };
    assert_eq!(check(lazy), Ok(lazy.component().len()));
    let refuses = "(call $refuse (local.get $options) (local.get $options_len))";
    let said = check(Guest { init: refuses, ..Guest::GOOD }).unwrap_err();
    assert!(said.ends_with("checked.wasm: refuses its options \"x=1\": x=1"), "{said}");
    let said = check(Guest { init: "unreachable", ..Guest::GOOD }).unwrap_err();
    assert!(said.contains("fails in init (trap)"), "{said}");
}
