//! Replays what a kernel's scheduler did: the recordings in `tests/golden`, commands and SYNs in order.
//!
//! Part of the test of each scheduler (`#[path]`).

#![expect(clippy::unwrap_used, reason = "a recording of another form fails the test")]

use serde_json::Value;
use uvs_sdk::Scheduler;
use uvs_sdk::testing::{Lab, line};

/// Gives the scheduler called `name` the commands and connections of a recording, and compares every pick. Phases
/// under another scheduler (`ipvsadm -E -s other`) are passed over. Where the recording tells the loads, they are
/// taken from there; elsewhere connections stay half-open, which counts as active.
///
/// With `reload`, a fresh instance takes over before each pick, with nothing but the saved state.
pub(crate) fn replay<S: Scheduler>(name: &str, recording: &str, reload: bool) {
    let path = format!("{}/../../tests/golden/{recording}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut choices = document["choices"].as_array().unwrap().iter().map(destination);
    let mut lab = Lab::<S>::new("");
    let mut ours = false;
    let (mut got, mut want) = (Vec::new(), Vec::new());
    for step in document["steps"].as_array().unwrap() {
        match step["action"].as_str().unwrap() {
            "command" => ours = command(&mut lab, name, ours, step["cmd"].as_str().unwrap()),
            "packet" => {
                if step["in"]["summary"].as_str().unwrap().contains(" TCP S ") {
                    let choice = choices.next().expect("a choice for each SYN");
                    if ours {
                        if reload {
                            assert!(lab.reload(), "{recording}: a fresh instance takes the state over");
                        }
                        got.push(lab.connect());
                        want.push(choice);
                    }
                }
                for row in step["dests_after"].as_array().into_iter().flatten().skip(1) {
                    load(&mut lab, row.as_str().unwrap());
                }
            }
            _ => {}
        }
    }
    assert!(choices.next().is_none(), "{recording}: every choice was looked at");
    assert!(!want.is_empty(), "{recording}: has picks of {name}");
    assert_eq!(line(&got), line(&want), "{recording}, reload {reload}");
}

/// `rs3` is 3; `client-reply`: nobody.
fn destination(choice: &Value) -> Option<u32> {
    choice.as_str().unwrap().strip_prefix("rs").map(|id| id.parse().unwrap())
}

/// Does what an ipvsadm command does; returns whether the service is now under the scheduler `name`.
fn command<S: Scheduler>(lab: &mut Lab<S>, name: &str, ours: bool, command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |flag| words.iter().skip_while(|&&word| word != flag).nth(1).copied();
    // rs1 is 192.168.10.11.
    let id = || after("-r").unwrap().split(['.', ':']).nth(3).unwrap().parse::<u32>().unwrap() - 10;
    let weight = || after("-w").unwrap().parse().unwrap();
    match words[1] {
        "-A" => {
            *lab = Lab::new("");
            return after("-s") == Some(name);
        }
        "-E" => {
            lab.restart();
            return after("-s") == Some(name);
        }
        "-a" => lab.add(id(), weight()),
        "-e" => lab.edit(id(), weight()),
        "-d" => lab.remove(id()),
        other => panic!("ipvsadm {other} is not known here"),
    };
    ours
}

/// Takes over a line of /proc/net/ip_vs: `  -> C0A80A0D:0050      Route   3      1          0`.
fn load<S: Scheduler>(lab: &mut Lab<S>, row: &str) {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let id = u32::from_str_radix(&fields[1][6..8], 16).unwrap() - 10;
    lab.load(id, fields[4].parse().unwrap(), fields[5].parse().unwrap(), true);
}
