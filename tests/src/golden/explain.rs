//! Side by side, for people.

use std::fmt::Write as _;

use super::decode::summary;
use super::lab::Egress;
use super::normal::{self, Entry};

/// Width of the left column.
const COLUMN: usize = 76;

/// Two texts, recorded left and ours right, with a mark where lines differ.
pub(crate) fn texts(want: &str, got: &str) -> String {
    let (want, got): (Vec<&str>, Vec<&str>) = (want.lines().collect(), got.lines().collect());
    columns(&want, &got)
}

fn columns(want: &[&str], got: &[&str]) -> String {
    let mut text = format!("    {:<COLUMN$} | {}\n", "recorded", "here");
    for index in 0..want.len().max(got.len()) {
        let (a, b) = (want.get(index).copied().unwrap_or(""), got.get(index).copied().unwrap_or(""));
        let mark = if a == b { ' ' } else { '*' };
        writeln!(text, "  {mark} {a:<COLUMN$} | {b}").expect("a String takes everything");
    }
    text
}

/// Frames in order; under those that differ the bytes that do.
pub(crate) fn frames(want: &[Egress], got: &[Egress]) -> String {
    let describe = |frame: Option<&Egress>| match frame {
        Some((side, bytes)) => {
            let macs = |from: usize| -> String {
                let bytes = bytes.iter().skip(from).take(6).map(|byte| format!("{byte:02x}"));
                bytes.collect::<Vec<_>>().join(":")
            };
            format!("{} {}>{} {}", side.name(), macs(6), macs(0), summary(bytes))
        }
        None => "nothing".to_owned(),
    };
    let mut text = String::new();
    for index in 0..want.len().max(got.len()) {
        let (a, b) = (want.get(index), got.get(index));
        writeln!(text, "    frame {index}").expect("a String takes everything");
        writeln!(text, "      recorded  {}", describe(a)).expect("a String takes everything");
        writeln!(text, "      here      {}", describe(b)).expect("a String takes everything");
        if let (Some((_, a)), Some((_, b))) = (a, b) {
            text.push_str(&bytes(&normal::frame(a), &normal::frame(b)));
        }
    }
    text
}

/// Runs of bytes that differ, with the field they begin in.
fn bytes(want: &[u8], got: &[u8]) -> String {
    let mut text = String::new();
    if want.len() != got.len() {
        writeln!(text, "        {} bytes recorded, {} here", want.len(), got.len())
            .expect("a String takes everything");
    }
    let len = want.len().min(got.len());
    let mut at = 0;
    let mut runs = 0;
    while at < len && runs < 8 {
        if want[at] == got[at] {
            at += 1;
            continue;
        }
        let end = (at..len).find(|&index| want[index] == got[index]).unwrap_or(len).min(at + 24);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let name = field(want, at);
        writeln!(text, "        byte {at:<4} {name:<22} {} | {}", hex(&want[at..end]), hex(&got[at..end]))
            .expect("a String takes everything");
        at = end;
        runs += 1;
    }
    text
}

/// The header field that a byte of a frame lies in.
pub(crate) fn field(frame: &[u8], at: usize) -> &'static str {
    let ethernet = [(0, "destination MAC"), (6, "source MAC"), (12, "Ethernet type")];
    let ipv4 = [
        (0, "IP version"),
        (1, "TOS"),
        (2, "IP length"),
        (4, "IP id"),
        (6, "fragment field"),
        (8, "TTL"),
        (9, "protocol"),
        (10, "IP checksum"),
        (12, "source address"),
        (16, "destination address"),
        (20, "options"),
    ];
    let ipv6 = [
        (0, "version and class"),
        (2, "flow label"),
        (4, "payload length"),
        (6, "next header"),
        (7, "hop limit"),
        (8, "source address"),
        (24, "destination address"),
    ];
    let tcp = [
        (0, "source port"),
        (2, "destination port"),
        (4, "sequence number"),
        (8, "acknowledgement"),
        (12, "TCP flags"),
        (14, "window"),
        (16, "TCP checksum"),
        (18, "urgent"),
        (20, "TCP data"),
    ];
    let udp = [
        (0, "source port"),
        (2, "destination port"),
        (4, "UDP length"),
        (6, "UDP checksum"),
        (8, "UDP data"),
    ];
    let icmp =
        [(0, "ICMP type"), (1, "ICMP code"), (2, "ICMP checksum"), (4, "ICMP rest"), (8, "quoted packet")];
    let other = [(0, "payload")];
    let find = |fields: &[(usize, &'static str)], at: usize| {
        fields.iter().rev().find(|(start, _)| *start <= at).map_or("?", |(_, name)| name)
    };
    if at < 14 {
        return find(&ethernet, at);
    }
    let (header, fields, protocol): (usize, &[(usize, &'static str)], u8) = match frame.get(12..15) {
        Some([0x08, 0x00, first]) => {
            (usize::from(first & 0x0f) * 4, &ipv4, frame.get(23).copied().unwrap_or(0))
        }
        Some([0x86, 0xdd, _]) => (40, &ipv6, frame.get(20).copied().unwrap_or(0)),
        _ => return "payload",
    };
    if at < 14 + header {
        return find(fields, at - 14);
    }
    let rest: &[(usize, &'static str)] = match protocol {
        6 => &tcp,
        17 => &udp,
        1 | 58 => &icmp,
        _ => &other,
    };
    find(rest, at - 14 - header)
}

/// Two connection lists, lined up.
pub(crate) fn entries(want: &[Entry], got: &[Entry]) -> String {
    let mut keys: Vec<&String> = want.iter().chain(got).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let show = |entries: &[Entry], key: &String| {
        let found = entries.iter().find(|(other, _)| other == key);
        found.map_or(String::new(), |(key, left)| format!("{key} {left}"))
    };
    let lines = |entries: &[Entry]| -> Vec<String> { keys.iter().map(|key| show(entries, key)).collect() };
    let (want, got) = (lines(want), lines(got));
    let slices = |lines: &'_ [String]| -> Vec<String> { lines.to_vec() };
    let (want, got) = (slices(&want), slices(&got));
    columns(
        &want.iter().map(String::as_str).collect::<Vec<_>>(),
        &got.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}
