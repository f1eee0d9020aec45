//! Replays what a kernel's scheduler did: the recordings in `tests/golden`, commands and SYNs in order.
//!
//! Part of the test of each scheduler (`#[path]`).

#![expect(clippy::unwrap_used, reason = "a recording of another form fails the test")]

use std::net::Ipv4Addr;

use serde_json::Value;
use uvs_sdk::testing::{Lab, line};
use uvs_sdk::{Destination, Flow, Protocol, Scheduler};

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
        lab.host.now_ms = milliseconds(&step["t"]);
        match step["action"].as_str().unwrap() {
            "command" => ours = command(&mut lab, name, ours, step["cmd"].as_str().unwrap()),
            "packet" => {
                if step["in"]["summary"].as_str().unwrap().contains(" TCP S ") {
                    let choice = choices.next().expect("a choice for each SYN");
                    if ours {
                        if reload {
                            assert!(lab.reload(), "{recording}: a fresh instance takes the state over");
                        }
                        got.push(lab.connect_by(&flow(step["in"]["hex"].as_str().unwrap())));
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

/// Seconds since the recording began.
fn milliseconds(t: &Value) -> u64 {
    std::time::Duration::from_secs_f64(t.as_f64().unwrap()).as_millis().try_into().unwrap()
}

/// The connection that a frame with a SYN opens: Ethernet, IPv4 without options, TCP.
fn flow(hex: &str) -> Flow {
    let word = |at: usize, bytes: usize| u32::from_str_radix(&hex[2 * at..2 * (at + bytes)], 16).unwrap();
    assert_eq!((word(12, 3), word(23, 1)), (0x08_0045, 6), "{hex}");
    let address = |at| Ipv4Addr::from_bits(word(at, 4)).into();
    let port = |at| u16::try_from(word(at, 2)).unwrap();
    Flow {
        protocol: Protocol::Tcp,
        client: address(26),
        client_port: port(34),
        virtual_addr: address(30),
        virtual_port: port(36),
        mark: 0,
    }
}

/// Does what an ipvsadm command does; returns whether the service is now under the scheduler `name`.
fn command<S: Scheduler>(lab: &mut Lab<S>, name: &str, ours: bool, command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |flag| words.iter().skip_while(|&&word| word != flag).nth(1).copied();
    // rs1 is 192.168.10.11.
    let (address, port) = after("-r").map_or(("", "0"), |real| real.split_once(':').unwrap_or((real, "0")));
    let address = || address.parse::<Ipv4Addr>().unwrap();
    let id = || u32::from(address().octets()[3]) - 10;
    let weight = || after("-w").unwrap().parse().unwrap();
    match words[1] {
        // Addresses and marks of services; there is one at a time that matters.
        "route" => return ours,
        "-A" => {
            // The flags are those of the scheduler in question; another one's phase is passed over.
            let now = lab.host.clone();
            *lab = Lab::new(after("-b").unwrap_or(""));
            lab.host = now;
            return after("-s") == Some(name);
        }
        "-E" => {
            lab.restart();
            return after("-s") == Some(name);
        }
        "-a" => lab.insert(Destination::new(id(), weight(), address(), port.parse().unwrap())),
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
