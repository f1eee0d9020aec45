//! The page, in a browser: `page/browser.mjs` goes through it, with traffic on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use uvs_lab::topology::{Method, Plan};

use crate::peer::Talk;
use crate::stage::{NAT_PORT, Stage, eventually, skip, topology, turn};

const TOKEN: &str = "a-token-of-the-test-0123456789";
/// Names the folder with playwright-core in node_modules.
const PLAYWRIGHT: &str = "UVS_PLAYWRIGHT";
/// Where pictures are wanted, beside the one of a failure.
const PICTURES: &str = "UVS_TEST_PICTURES";

/// What a browser needs; a sentence where something is missing.
fn browser() -> Result<(String, PathBuf), &'static str> {
    let playwright =
        std::env::var(PLAYWRIGHT).map_err(|_| "playwright-core (UVS_PLAYWRIGHT; cargo xtask test)")?;
    if Command::new("node").arg("--version").output().is_err() {
        return Err("node (apt-get install nodejs)");
    }
    let chromium =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    let found = chromium.into_iter().find(|program| program.is_file());
    Ok((playwright, found.ok_or("chromium (apt-get install chromium)")?))
}

/// Where pictures go.
fn pictures(folder: &tempfile::TempDir) -> PathBuf {
    std::env::var_os(PICTURES).map_or_else(|| folder.path().join("pictures"), PathBuf::from)
}

#[test]
fn a_browser_goes_through_it() {
    let Some(_turn) = turn() else { return };
    let (playwright, chromium) = match browser() {
        Ok(found) => found,
        Err(missing) => return skip(missing),
    };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let topology = topology(Method::Nat, &Plan { real_port: NAT_PORT, ..Plan::default() });
    let http = format!("[http]\npage = true\nlisten = \"127.0.0.1:9180\"\ntoken_file = {token:?}\n\n");
    let checked =
        "[[check]]\nname = \"tcp\"\ntype = \"tcp\"\ninterval = 1\n\n[[service]]\nchecks = [\"tcp\"]";
    let config = topology.config.replacen("[[service]]", checked, 1);
    let stage = Stage::on(topology, &format!("{http}{config}"));
    let service = stage.topology.service;
    let server = stage.topology.real_servers[0].listen;
    let talk = || Talk::open(service).and_then(|mut talk| talk.say(b"hello"));
    eventually("a server is in service", || stage.client().run(talk).unwrap().ok());
    let pictures = pictures(&folder);
    let mut command = Command::new("node");
    command
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/netns/page/browser.mjs"))
        .args(["http://127.0.0.1:9180/", TOKEN, &format!("tcp {service}"), &server.to_string()])
        .arg(&pictures)
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schedulers/prebuilt/wlc.wasm"))
        .env(PLAYWRIGHT, playwright)
        .env("CHROMIUM", chromium)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let over = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            let go_on = || {
                while !over.load(Relaxed) {
                    let _ = talk();
                    thread::sleep(Duration::from_millis(30));
                }
            };
            stage.client().run(go_on).unwrap();
        });
        let output = stage.topology.director.run(|| command.output()).unwrap();
        over.store(true, Relaxed);
        output.unwrap()
    });
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success() && said.trim_end().ends_with("passed"), "{said}");
}

/// With a thousand services and ten thousand destinations the page is as one of a few.
#[test]
fn ten_thousand_destinations_are_no_burden() {
    let Some(_turn) = turn() else { return };
    let (playwright, chromium) = match browser() {
        Ok(found) => found,
        Err(missing) => return skip(missing),
    };
    let folder = tempfile::tempdir().unwrap();
    let topology = topology(Method::Nat, &Plan { real_port: NAT_PORT, ..Plan::default() });
    let server = topology.real_servers[0].address;
    let mut config = format!("[http]\npage = true\nlisten = \"127.0.0.1:9180\"\n\n{}", topology.config);
    // Two there are already, of three destinations each.
    for number in 0..998 {
        let (port, least) = (1000 + number, 10_000 + number * 10);
        let more = usize::from(number < 14);
        let list: Vec<String> =
            (0..10 + more).map(|it| format!("{{ address = \"{server}:{}\" }}", least + it)).collect();
        config += &format!(
            "\n[[service]]\nprotocol = \"tcp\"\naddress = \"{}:{port}\"\nforward = \"nat\"\ndestination = [{}]\n",
            topology.service.ip(),
            list.join(", ")
        );
    }
    let stage = Stage::on(topology, &config);
    let (service, destination) =
        (format!("tcp {}:{}", stage.topology.service.ip(), 1500), format!("{server}:15003"));
    let mut command = Command::new("node");
    command
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/netns/page/large.mjs"))
        .args(["http://127.0.0.1:9180/", &service, &destination])
        .arg(pictures(&folder))
        .env(PLAYWRIGHT, playwright)
        .env("CHROMIUM", chromium)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let output = stage.topology.director.run(|| command.output()).unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success() && said.trim_end().ends_with("passed"), "{said}");
}
