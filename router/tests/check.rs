//! `uvs check` and `uvs version`, as a user runs them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const GOOD: &str = r#"
[[interface]]
name = "uvs0"
device = "tap"
addresses = ["192.0.2.1/24", "198.51.100.1/24"]

[[service]]
protocol = "tcp"
address = "192.0.2.10:80"
scheduler = "rr"
forward = "nat"
destination = [{ address = "198.51.100.21:8080" }, { address = "198.51.100.22:8080", weight = 2 }]
"#;

fn uvs(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uvs")).args(arguments).output().expect("uvs is built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with a configuration in it.
fn config(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("edge.toml");
    std::fs::write(&file, content).expect("a file");
    (folder, file)
}

fn check(file: &Path) -> Output {
    uvs(&["check", file.to_str().expect("a path in UTF-8")])
}

#[test]
fn a_good_file_is_ok_with_a_summary() {
    let (_folder, file) = config(GOOD);
    let output = check(&file);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        format!("{}: ok, 1 interface, 1 service, 2 destinations, 0 scheduler modules\n", file.display())
    );
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn standard_input_is_checked_with_what_it_includes() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = GOOD[GOOD.find("[[service]]").expect("a service")..].replace(":80\"", ":81\"");
    std::fs::write(folder.path().join("b.toml"), service).expect("a file");
    let check = |text: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_uvs"))
            .args(["check", "-"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("uvs is built");
        // One that has read enough closes it.
        let _ = child.stdin.take().expect("a pipe").write_all(text.as_bytes());
        child.wait_with_output().expect("it ends")
    };
    let output = check(&format!("include = [\"*.toml\"]\n{GOOD}"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary =
        "standard input: ok, 1 interface, 2 services, 4 destinations, 0 scheduler modules, 2 files\n";
    assert_eq!(text(&output.stdout), summary);
    let output = check("\n[options]\nlarge = 1\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("where: standard input:3"), "{}", text(&output.stderr));
    let output = check(&"# as long as it likes\n".repeat(1 << 20));
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains("longer than 16777216 bytes") && told.contains("where: standard input"), "{told}");
}

#[test]
fn all_errors_come_at_once_each_with_its_line() {
    let wrong = GOOD
        .replace("weight = 2", "weight = 99999999999")
        .replace("scheduler = \"rr\"", "scheduler = \"rrr\"")
        .replace("name = \"uvs0\"", "name = \"uvs0\"\ncolour = \"red\"");
    let (_folder, file) = config(&wrong);
    let output = check(&file);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    let problems = text(&output.stderr);
    for part in ["colour", "rrr", "99999999999"] {
        assert!(problems.contains(part), "{part} is not in\n{problems}");
    }
    let lines = |needle: &str| problems.lines().filter(|line| line.starts_with(needle)).count();
    assert_eq!(lines("error: "), 3, "{problems}");
    assert_eq!(lines(&format!("  where: {}:", file.display())), 3, "{problems}");
    assert_eq!(lines("  fix: "), 3, "{problems}");
    assert!(problems.ends_with("3 errors\n"), "{problems}");
}

/// A thousand services by direct routing, each with a check of its destination's own address, and what else `more` says
/// of number `n`.
fn thousand(more: impl Fn(u32) -> String) -> String {
    let head = "[[interface]]\nname = \"uvs0\"\ndevice = \"tap\"\naddresses = [\"10.1.0.1/16\"]\n\
                [[check]]\nname = \"up\"\ntype = \"tcp\"\n";
    let service = |n: u32| {
        format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"10.1.{}.{}:80\"\nforward = \"dr\"\nchecks = [\"up\"]\n\
             destination = [{{ address = \"10.1.200.1\" }}]\n{}",
            10 + n / 250,
            1 + n % 250,
            more(n)
        )
    };
    (0..1000).map(service).fold(head.to_owned(), |text, service| text + &service)
}

#[test]
fn what_is_the_same_of_a_thousand_services_is_said_once() {
    let (_folder, file) = config(&thousand(|_| String::new()));
    let output = check(&file);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("warning: ").count(), 1, "{said}");
    for part in
        ["at its own address", "service tcp 10.1.10.3:80", "and 997 more like these", "  fix:   add via ="]
    {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    // An error of each is one text, too, and counted in full.
    let wrong = |n: u32| format!("[service.health]\nquorum = \"{}%\"\n", 200 + n);
    let (_folder, file) = config(&thousand(wrong));
    let output = check(&file);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("and 980 more like these") && said.ends_with("\n1000 errors\n"), "{said}");
}

#[test]
fn modules_are_judged_by_their_content() {
    // Two that are no components, at two places, and a good one between them.
    let rr = concat!(env!("CARGO_MANIFEST_DIR"), "/../schedulers/prebuilt/rr.wasm");
    let (folder, file) = config(&format!(
        "[[scheduler]]\nname = \"mine\"\nmodule = \"mine.wasm\"\n\
         [[scheduler]]\nname = \"copy\"\nmodule = {rr:?}\n\
         {}",
        GOOD.replace("scheduler = \"rr\"", "scheduler = \"other.wasm\"")
    ));
    std::fs::write(folder.path().join("mine.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(folder.path().join("other.wasm"), "not wasm at all").unwrap();
    let output = check(&file);
    let problems = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{problems}");
    for part in ["mine.wasm: is a core WebAssembly module", "other.wasm: is not WebAssembly", "2 errors"] {
        assert!(problems.contains(part), "{part:?} is not in\n{problems}");
    }
    assert!(!problems.contains("rr.wasm"), "{problems}");
}

#[test]
fn options_that_a_scheduler_refuses_are_an_error_of_the_service() {
    let (_folder, file) =
        config(&GOOD.replace("scheduler = \"rr\"", "scheduler = \"rr\"\noptions = \"nonsense\""));
    let output = check(&file);
    let problems = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{problems}");
    assert!(problems.contains("nonsense") && problems.contains("edge.toml:10"), "{problems}");
}

#[test]
fn a_file_that_is_not_there_is_status_2() {
    for command in
        [vec!["check", "/nonexistent/edge.toml"], vec!["run", "--config", "/nonexistent/edge.toml"]]
    {
        let output = uvs(&command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(text(&output.stderr).contains("/nonexistent/edge.toml"), "{command:?}");
    }
}

#[test]
fn wrong_usage_is_status_2_with_help_on_stderr() {
    for command in
        [&[][..], &["walk"], &["man"], &["check", "--all", "x"], &["run", "-c", "x", "--log", "loud"]]
    {
        let output = uvs(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert_eq!(text(&output.stdout), "", "{command:?}");
        assert!(text(&output.stderr).contains("Usage: uvs") || command.contains(&"loud"), "{command:?}");
    }
}

#[test]
fn the_version_is_on_stdout() {
    let output = uvs(&["version"]);
    assert_eq!(output.status.code(), Some(0));
    let version = text(&output.stdout);
    assert!(version.starts_with(&format!("uvs       {}\n", env!("CARGO_PKG_VERSION"))), "{version}");
    assert!(version.contains("uvs:scheduler@0.1.0"), "{version}");
}

/// A component whose core module is all work for a compiler: so many functions.
fn large(functions: usize) -> Vec<u8> {
    let body =
        "local.get 0 local.get 0 i64.mul local.get 0 i64.rotl local.get 0 i64.xor local.set 0 ".repeat(20);
    let function = format!("(func (param i64) (result i64) {body} local.get 0)");
    let core = function.repeat(functions);
    wat::parse_str(format!("(component (core module {core}))")).expect("WebAssembly")
}

#[test]
fn a_module_that_takes_too_long_to_compile_or_too_much_memory_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("slow.wasm"), large(10_000)).expect("a file");
    let file = folder.path().join("edge.toml");
    let cases = [
        ("compile_time = 1", "takes longer than 1 s to compile", "compile_time under [modules]"),
        ("compile_mib = 64", "takes more than 64 MiB of memory to compile", "compile_mib under [modules]"),
    ];
    for (bound, what, fix) in cases {
        let good = GOOD.replace("\"rr\"", "\"slow.wasm\"");
        std::fs::write(&file, format!("{good}\n[modules]\n{bound}\n")).expect("a file");
        let output = check(&file);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{bound}: {said}");
        assert!(said.contains(what) && said.contains(fix), "{bound}: {said}");
    }
}

#[test]
fn a_component_past_the_limits_of_the_contract_is_not_compiled() {
    let branches = "i32.const 0 br_if 0 ".repeat(4000);
    let values = "i32.const 0 ".repeat(50);
    let (types, drops) = ("i32 ".repeat(50), "drop ".repeat(50));
    let core =
        format!("(func {values} loop (param {types}) (result i32) {branches} {drops} i32.const 0 end drop)");
    let component = wat::parse_str(format!("(component (core module {core}))")).expect("WebAssembly");
    let (folder, file) = config(&GOOD.replace("\"rr\"", "\"many.wasm\""));
    std::fs::write(folder.path().join("many.wasm"), component).expect("a file");
    let output = check(&file);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let want = "has a function with values on its branches: 100050, and the limit is 100000";
    assert!(said.contains(want) && said.contains("docs/contract.md"), "{said}");
}

#[test]
fn a_small_address_space_will_do() {
    let service = |port: u16, scheduler: &str| {
        format!(
            "[[service]]\nprotocol = \"udp\"\naddress = \"192.0.2.10:{port}\"\nscheduler = \"{scheduler}\"\n\
             forward = \"nat\"\ndestination = [{{ address = \"198.51.100.21:{port}\" }}]\n"
        )
    };
    let content = format!("{GOOD}{}{}", service(53, "mine.wasm"), service(54, "wlc"));
    let (folder, file) = config(&content);
    let shipped = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == "lc").expect("it ships").1;
    // With a section that means nothing it is none of ours any more, and compiled by a process of its own.
    let other = [shipped, &[0, 2, 1, b'x']].concat();
    std::fs::write(folder.path().join("mine.wasm"), other).expect("a file");
    // 3 GiB: less than one memory with its guard pages.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 3145728; exec \"$0\" check \"$1\"", env!("CARGO_BIN_EXE_uvs")]).arg(&file);
    let output = command.output().expect("a shell");
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
}

fn text_of(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// `uvs check` of a configuration with that module, under a limit of address space in KiB.
fn check_under(limit: u64, module: &[u8]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mine.wasm"), module).expect("a file");
    let text = "[modules]\ncache = 'none'\n[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n\
                [[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:80'\nscheduler = 'mine.wasm'\nforward = 'dr'\n\
                destination = [{ address = '192.0.2.21:80' }]\n";
    let file = folder.path().join("edge.toml");
    std::fs::write(&file, text).expect("a file");
    let line = format!("ulimit -v {limit}; exec \"$0\" check \"$1\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_uvs")]).arg(&file);
    let output = command.output().expect("there is a shell");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

#[test]
fn a_limited_address_space_is_enough_or_told() {
    // One that does not ship, so that it is compiled in a process of its own; a custom section makes it one.
    let own = [include_bytes!("../../schedulers/prebuilt/rr.wasm"), &b"\x00\x02\x01a"[..]].concat();
    let (said, code) = check_under(1_000_000, &own);
    assert_eq!(code, Some(0), "{said}");
    // One function, and a large one.
    let body = "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 0)) (local.get 0)))".repeat(20_000);
    let large = format!("(component (core module (func (param i32) (result i32) {body} local.get 0)))");
    let large = wat::parse_str(&large).unwrap();
    let (said, _) = check_under(4_000_000, &large);
    assert!(said.contains("does not export"), "it compiles, and is no scheduler: {said}");
    // How much the program takes by itself depends on how it is built.
    let mut told = Vec::new();
    for limit in [50, 60, 70, 80, 90, 120, 200, 300, 400, 600] {
        let (said, code) = check_under(limit * 1000, &large);
        assert!(!said.contains("without an answer"), "{limit}: {said}");
        if code == Some(2) && !said.contains("does not export") {
            told.push(said);
        }
    }
    assert!(!told.is_empty(), "no limit is too small to compile and large enough to say so");
    for said in told {
        assert!(said.contains("address space") && said.contains("ulimit -v unlimited"), "{said}");
    }
}
