use super::*;
use std::collections::BTreeSet;

fn state(name: &str) -> SctpState {
    SctpState::ALL.into_iter().find(|state| state.name() == name).expect("a state has that name")
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn recording() -> Vec<serde_json::Value> {
    let path = format!("{}/../../tests/golden/sctp_nat.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recording is there");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["steps"].as_array().unwrap().iter().filter(|step| step["in"].is_object()).cloned().collect()
}

/// Every cell that the recorded kernel was led through.
#[test]
fn every_recorded_cell_is_followed() {
    let mut current = SctpState::None;
    let mut seen_states = BTreeSet::new();
    for step in recording().iter().filter(|step| step["in"]["note"].as_str().unwrap().starts_with("c")) {
        step_of(step, &mut current);
        seen_states.insert(current);
    }
    // The server's packets carry other notes.
    assert!(seen_states.len() >= 4, "{seen_states:?}");
}

fn step_of(step: &serde_json::Value, current: &mut SctpState) {
    let frame = bytes(step["in"]["hex"].as_str().unwrap());
    let ip = &frame[14..];
    let packet = Packet::parse(ip).unwrap();
    let seen = if step["in"]["side"] == "client" { Seen::Input } else { Seen::Output };
    let event = SctpEvent::of(packet.transport(ip)).unwrap();
    let row: Vec<&str> = step["conns"][0].as_str().unwrap().split_whitespace().collect();
    let next = current.next(seen, event);
    assert_eq!(next, state(row[7]), "{current:?} {seen:?} {event:?}");
    let left: u64 = row[8].parse().unwrap();
    assert!(next.timeout().as_secs().abs_diff(left) <= 1, "{next:?} {left}");
    *current = next;
}
