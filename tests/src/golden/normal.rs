//! What is not compared, all of it in this one place.
//!
//! Two runs of the very same kernel differ in these, so no director can be asked to repeat them:
//!
//! | what | done here |
//! | --- | --- |
//! | IPv4 id and header checksum: our ICMP, outer headers of IPIP, GRE without DF, GUE, fragments | zeroed |
//! | IPv6 fragment id | zeroed |
//! | IPv6 flow label of ICMPv6 errors and TCP from the director's own addresses | zeroed |
//! | GUE: source port and checksum of the outer UDP header | zeroed |
//! | seconds left of a connection | equal within [`TOLERANCE`] |
//! | a connection with no more than [`TOLERANCE`] seconds left | may be gone on the other side |
//! | when, after its step's time, a snapshot's lists were read | up to [`READING`] seconds, the same for a whole list |
//! | a connection missing in one of a snapshot's two lists but not in the other | may be there (`/proc` skips some) |
//! | counts of connections in a snapshot, where some were about to expire | may differ by as many |
//! | pace of a matrix | that of the timers its snapshot shows |
//! | state before a cell's event | that of most cells with the same prefix (one reading missed its line) |
//! | order of connections, order of services in `/proc/net/ip_vs` and of `--nosort` | sorted |
//! | `--rate` and the second half of `/proc/net/ip_vs_stats` | numbers masked |
//! | counters, in scenarios where the kernel had not added them up yet | numbers masked |
//! | settings the director does not have, in a listing of `/proc/sys/net/ipv4/vs` | left out |

use std::collections::BTreeMap;

/// Seconds by which timers may differ.
pub(crate) const TOLERANCE: u64 = 2;

/// Seconds that may pass between a snapshot's time and the reading of one of its lists.
pub(crate) const READING: u64 = 6;

/// The director's own addresses in the recordings.
const OWN: [[u8; 4]; 3] = [[10, 0, 0, 1], [10, 0, 0, 100], [192, 168, 10, 1]];

/// The same for IPv6: fd00:1::1, fd00:1::100 and fd00:2::1.
const OWN_V6: [[u8; 16]; 3] = [
    [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];

/// GUE's port in the recordings.
const GUE: [u8; 2] = 6080_u16.to_be_bytes();

/// An Ethernet frame with what differs from run to run set to zero.
pub(crate) fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    match frame.get(12..14) {
        Some([0x08, 0x00]) if frame.len() >= 34 => ipv4(&mut frame),
        Some([0x86, 0xdd]) if frame.len() >= 54 => ipv6(&mut frame),
        _ => {}
    }
    frame
}

fn zero(frame: &mut [u8], from: usize, len: usize) {
    if let Some(bytes) = frame.get_mut(from..from + len) {
        bytes.fill(0);
    }
}

fn ipv4(frame: &mut [u8]) {
    let fragment = u16::from_be_bytes([frame[20], frame[21]]);
    let (dont_fragment, more, offset) =
        (fragment & 0x4000 != 0, fragment & 0x2000 != 0, fragment & 0x1fff != 0);
    let protocol = frame[23];
    // An ICMP error from an address that was asked for, and that a firewall mark made the director's.
    let quotes_its_source = protocol == 1
        && frame.len() >= 62
        && matches!(frame[34], 3 | 11 | 12)
        && frame[14] == 0x45
        && frame[26..30] == frame[58..62]
        && fragment == 0;
    let own = OWN.iter().any(|addr| addr == &frame[26..30]) || quotes_its_source;
    let payload = 14 + usize::from(frame[14] & 0x0f) * 4;
    let gue = own && protocol == 17 && !offset && frame.get(payload + 2..payload + 4) == Some(&GUE[..]);
    let made = own && (protocol == 1 || (matches!(protocol, 4 | 41 | 47) && !dont_fragment)) || gue;
    if made || more || offset {
        zero(frame, 18, 2);
        zero(frame, 24, 2);
    }
    if gue {
        zero(frame, payload, 2);
        zero(frame, payload + 6, 2);
    }
}

fn ipv6(frame: &mut [u8]) {
    if OWN_V6.iter().any(|addr| addr == &frame[22..38]) && matches!(frame[20], 6 | 58) {
        // The label that Linux gives to what it originates is a hash with a key of its own for each boot.
        frame[15] &= 0xf0;
        zero(frame, 16, 2);
    }
    let (mut protocol, mut payload, mut first) = (frame[20], 54, true);
    if protocol == 44 && frame.len() >= 62 {
        zero(frame, 58, 4);
        first = u16::from_be_bytes([frame[56], frame[57]]) & 0xfff8 == 0;
        (protocol, payload) = (frame[54], 62);
    }
    if protocol == 17 && first && frame.get(payload + 2..payload + 4) == Some(&GUE[..]) {
        zero(frame, payload, 2);
        zero(frame, payload + 6, 2);
    }
}

/// A connection in a listing: everything but the time left, and the time left in seconds.
pub(crate) type Entry = (String, u64);

/// The entries of `/proc/net/ip_vs_conn` (without its heading), sorted.
pub(crate) fn proc_entries<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Entry> {
    entries(lines, 8, |time| time.parse().ok())
}

/// The entries of `ipvsadm -Lnc` (without its heading), sorted.
pub(crate) fn listed_entries<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Entry> {
    entries(lines, 1, |time| {
        let (minutes, seconds) = time.split_once(':')?;
        Some(minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?)
    })
}

fn entries<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    column: usize,
    seconds: impl Fn(&str) -> Option<u64>,
) -> Vec<Entry> {
    let mut entries: Vec<Entry> = lines
        .into_iter()
        .filter_map(|line| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            let time = seconds(words.get(column)?)?;
            words.remove(column);
            Some((words.join(" "), time))
        })
        .collect();
    entries.sort();
    entries
}

/// Services with their destinations, by service: destinations stay in list order.
pub(crate) fn services<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in lines {
        let line = line.trim_end();
        if line.starts_with("  ->") {
            groups.entry(current.clone()).or_default().push(line.to_owned());
        } else if !line.is_empty() {
            current = line.to_owned();
            groups.entry(current.clone()).or_default();
        }
    }
    groups
}

/// The text with every number that stands alone replaced, and with the blanks before it.
pub(crate) fn numbers_masked(text: &str) -> String {
    let number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // A row of a listing begins with a name, which may be a number (`FWM  7`), and ends in five figures.
            let figures = words.iter().rev().take(5).take_while(|word| number(word)).count();
            let kept = &words[..words.len() - figures];
            format!("{}{}\n", kept.join(" "), " #".repeat(figures))
        })
        .collect()
}

/// Lines `name=value` whose names are `known`.
pub(crate) fn settings(text: &str, known: impl Fn(&str) -> bool) -> Vec<&str> {
    text.lines().filter(|line| line.split_once('=').is_some_and(|(name, _)| known(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_director_makes_loses_its_id() {
        let packet = |source: [u8; 4], protocol: u8, fragment: u16| {
            let mut frame = vec![0; 14 + 20 + 8];
            frame[12] = 8;
            frame[14] = 0x45;
            frame[18..20].copy_from_slice(&[0xab, 0xcd]);
            frame[20..22].copy_from_slice(&fragment.to_be_bytes());
            frame[23] = protocol;
            frame[26..30].copy_from_slice(&source);
            frame
        };
        let cases = [
            ([10, 0, 0, 1], 1, 0x4000, true, "ICMP from the director"),
            ([10, 1, 0, 2], 1, 0x4000, false, "ICMP from somebody else"),
            ([192, 168, 10, 1], 4, 0x0000, true, "IPIP without DF"),
            ([192, 168, 10, 1], 4, 0x4000, false, "IPIP with DF has id 0, which is compared"),
            ([10, 1, 0, 2], 17, 0x2000, true, "a fragment"),
            ([10, 1, 0, 2], 17, 0x0001, true, "a later fragment"),
            ([10, 0, 0, 100], 6, 0x4000, false, "TCP from the VIP"),
        ];
        for (source, protocol, fragment, zeroed, why) in cases {
            let before = packet(source, protocol, fragment);
            assert_eq!(frame(&before)[18..20] == [0, 0], zeroed, "{why}");
        }
    }

    #[test]
    fn figures_are_masked_and_names_are_not() {
        let text = "FWM  7                                   0        0        0        0        0\n";
        assert_eq!(numbers_masked(text), "FWM 7 # # # # #\n");
        let text = "TCP  10.0.0.100:80                       7       16        0      640        0\n";
        assert_eq!(numbers_masked(text), "TCP 10.0.0.100:80 # # # # #\n");
    }
}
