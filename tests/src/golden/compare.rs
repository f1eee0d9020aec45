//! Recorded against replayed: the first difference, in a line.

use uvs_adm::format::{self, Columns, Layout};

use super::decode::summary;
use super::lab::{Egress, Lab, unhex};
use super::normal::{self, Entry, TOLERANCE};
use super::scenario::{Sent, Side, Snapshot};
use super::shell::{connections, services};

/// A difference: in a line, and at length for `--explain`.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) line: String,
    pub(crate) details: String,
}

impl Difference {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), details: String::new() }
    }
}

type Compared<T = ()> = Result<T, Difference>;

/// The recorded frames as bytes.
pub(crate) fn recorded(sent: &[Sent]) -> anyhow::Result<Vec<Egress>> {
    sent.iter().map(|sent| Ok((sent.side, unhex(&sent.hex)?))).collect()
}

/// Frames that left, in order.
pub(crate) fn frames(want: &[Egress], got: &[Egress]) -> Compared {
    let normal = |frames: &[Egress]| -> Vec<Egress> {
        frames.iter().map(|(side, bytes)| (*side, normal::frame(bytes))).collect()
    };
    let (masked_want, masked_got) = (normal(want), normal(got));
    if masked_want == masked_got {
        return Ok(());
    }
    let at = masked_want.iter().zip(&masked_got).take_while(|(a, b)| a == b).count();
    let describe = |frame: Option<&Egress>| frame.map_or("nothing".to_owned(), described);
    let line = match (want.get(at), got.get(at)) {
        (Some(a), Some(b)) if described(a) == described(b) => {
            let (a, b) = (&masked_want[at].1, &masked_got[at].1);
            let byte = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            let hex = |bytes: &[u8]| bytes.get(byte).map_or("end".to_owned(), |byte| format!("{byte:02x}"));
            let field = super::explain::field(a, byte);
            let frame = describe(want.get(at));
            format!("frame {at}, byte {byte} ({field}) is {}, recorded {} in {frame}", hex(b), hex(a))
        }
        (a, b) => format!("sent {}, recorded {}", describe(b), describe(a)),
    };
    Err(Difference { line, details: super::explain::frames(want, got) })
}

fn described((side, bytes): &Egress) -> String {
    let mac: Vec<String> = bytes.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{} {} to {}", side.name(), summary(bytes), mac.join(":"))
}

/// Connection lists. Returns how many connections are in one only, for they were about to expire.
pub(crate) fn entries(want: &[Entry], got: &[Entry]) -> Compared<usize> {
    let mut lines = Vec::new();
    let mut expiring = 0;
    let (mut want_left, mut got_left) = (want.iter().peekable(), got.iter().peekable());
    loop {
        let order = match (want_left.peek(), got_left.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.0.cmp(&b.0),
        };
        match order {
            std::cmp::Ordering::Less => {
                let (entry, left) = want_left.next().expect("it was seen");
                expiring += 1;
                if *left > TOLERANCE {
                    lines.push(format!("no connection {entry} ({left} s left)"));
                }
            }
            std::cmp::Ordering::Greater => {
                let (entry, left) = got_left.next().expect("it was seen");
                expiring += 1;
                if *left > TOLERANCE {
                    lines.push(format!("connection {entry} ({left} s left) is not recorded"));
                }
            }
            std::cmp::Ordering::Equal => {
                let (entry, recorded) = want_left.next().expect("it was seen");
                let (_, ours) = got_left.next().expect("it was seen");
                if recorded.abs_diff(*ours) > TOLERANCE {
                    lines.push(format!("{ours} s left, recorded {recorded}, of {entry}"));
                }
            }
        }
    }
    match lines.first() {
        None => Ok(expiring),
        Some(first) => Err(Difference { line: first.clone(), details: super::explain::entries(want, got) }),
    }
}

/// The director's `/proc/net/ip_vs_conn` against recorded lines without the heading.
pub(crate) fn proc_connections<'a>(want: impl IntoIterator<Item = &'a str>, lab: &Lab) -> Compared {
    let text = format::proc_connections(&connections(lab));
    entries(&normal::proc_entries(want), &normal::proc_entries(text.lines().skip(1))).map(drop)
}

/// The director's `/proc/net/ip_vs` against recorded lines without the heading.
pub(crate) fn proc_services<'a>(want: impl IntoIterator<Item = &'a str>, lab: &Lab) -> Compared {
    let text = format::proc_services(&services(lab));
    let (want, got) = (normal::services(want), normal::services(text.lines().skip(3)));
    if want == got {
        return Ok(());
    }
    let flat = |groups: &std::collections::BTreeMap<String, Vec<String>>| {
        groups
            .iter()
            .map(|(name, lines)| format!("{name}\n{}", lines.join("\n")))
            .collect::<Vec<_>>()
            .join("\n")
    };
    text_lines("/proc/net/ip_vs", &flat(&want), &flat(&got))
}

/// Two texts that have to be the same.
pub(crate) fn text_lines(what: &str, want: &str, got: &str) -> Compared {
    if want == got {
        return Ok(());
    }
    let mut want_lines = want.split('\n');
    let mut got_lines = got.split('\n');
    let line = loop {
        match (want_lines.next(), got_lines.next()) {
            (Some(a), Some(b)) if a == b => {}
            (None, None) => break format!("{what} differs"),
            (a, b) => {
                let shown =
                    |line: Option<&str>| line.map_or("the end".to_owned(), |line| format!("{line:?}"));
                break format!("{what}: {}, recorded {}", shown(b), shown(a));
            }
        }
    };
    Err(Difference { line, details: super::explain::texts(want, got) })
}

/// What a command printed. Connection lists, counters and settings have their own rules ([`normal`]).
pub(crate) fn command_output(cmd: &str, want: &str, got: &str, counters_exact: bool) -> Compared {
    let is = |prefix: &str| want.starts_with(prefix);
    if is("IPVS connection entries") {
        let (mut a, mut b) = (want.splitn(3, '\n'), got.splitn(3, '\n'));
        let heads: [[&str; 2]; 2] =
            [&mut a, &mut b].map(|text| [text.next().unwrap_or(""), text.next().unwrap_or("")]);
        text_lines("heading", &heads[0].join("\n"), &heads[1].join("\n"))?;
        let rest = |text: Option<&str>| normal::listed_entries(text.unwrap_or("").lines());
        return entries(&rest(a.next()), &rest(b.next())).map(drop);
    }
    if is("Pro FromIP") {
        let (a, b) = (want.lines().next().unwrap_or(""), got.lines().next().unwrap_or(""));
        text_lines("heading", a, b)?;
        // The list with origins has its time in the last column; without them it is the ninth as well.
        let read = |text: &str| {
            let lines: Vec<String> = text.lines().skip(1).map(|line| line.replace("LOCAL", "")).collect();
            normal::proc_entries(lines.iter().map(String::as_str))
        };
        return entries(&read(want), &read(got)).map(drop);
    }
    if is("am_droprate=") {
        let known =
            |name: &str| got.lines().any(|line| line.split_once('=').is_some_and(|(key, _)| key == name));
        let want = normal::settings(want, known).join("\n");
        return text_lines("settings", &want, got.trim_end());
    }
    let nosort = cmd.contains("--nosort") || cmd == "cat /proc/net/ip_vs";
    if nosort {
        let sorted = |text: &str| {
            let head: Vec<&str> = text.lines().take(3).collect();
            let groups = normal::services(text.lines().skip(3));
            let rest: Vec<String> =
                groups.into_iter().flat_map(|(service, lines)| [vec![service], lines].concat()).collect();
            format!("{}\n{}", head.join("\n"), rest.join("\n"))
        };
        return text_lines("output", &sorted(want), &sorted(got));
    }
    let rates = cmd.contains("--rate") || cmd.contains("/proc/net/ip_vs_stats");
    let counters = cmd.contains("--stats") || cmd.contains("/proc/net/ip_vs_stats");
    if rates || (counters && !counters_exact) {
        return text_lines("output", &normal::numbers_masked(want), &normal::numbers_masked(got));
    }
    text_lines("output", want, got)
}

/// All listings at the end. They were read one after the other, so the lists of connections are read later here
/// too, by as much as their timers say.
pub(crate) fn snapshot(want: &Snapshot, lab: &mut Lab, counters_exact: bool) -> Compared {
    let table = |lab: &Lab, columns| {
        let layout = Layout { columns, ..Layout::default() };
        format::services_as(&services(lab), layout)
    };
    let plain = table(lab, Columns::Plain);
    let stats = table(lab, Columns::Stats);
    let total = format::proc_stats(&lab.director.status());

    let listed = normal::listed_entries(want.Lnc.lines().skip(2));
    let in_proc = normal::proc_entries(want.proc_ip_vs_conn.lines().skip(1));
    // Each way of listing lacks now and then a connection that the other has.
    let as_listed = |lab: &Lab| -> Vec<Entry> {
        let mut both = both_lists(lab);
        both.retain(|(a, b)| has(&listed, a) || !has(&in_proc, b));
        sorted(both.into_iter().map(|(entry, _)| entry))
    };
    let as_in_proc = |lab: &Lab| -> Vec<Entry> {
        let mut both = both_lists(lab);
        both.retain(|(a, b)| has(&in_proc, b) || !has(&listed, a));
        sorted(both.into_iter().map(|(_, entry)| entry))
    };
    read_later(&listed, as_listed, lab);
    let expiring = entries(&listed, &as_listed(lab)).map_err(|d| within("Lnc", d))?;
    loads("Ln", &want.Ln, &plain, expiring + ending(&listed))?;

    if counters_exact {
        text_lines("stats", &want.stats, &stats)?;
        let line = |text: &str| text.lines().nth(2).unwrap_or("").to_owned();
        text_lines("proc_ip_vs_stats", &line(&want.proc_ip_vs_stats), &line(&total))?;
    } else {
        text_lines("stats", &normal::numbers_masked(&want.stats), &normal::numbers_masked(&stats))?;
    }
    text_lines("save", &want.save, &table(lab, Columns::Rules))?;

    read_later(&in_proc, as_in_proc, lab);
    let expiring = entries(&in_proc, &as_in_proc(lab)).map_err(|d| within("proc_ip_vs_conn", d))?;
    let flat = |text: &str| -> String {
        let groups = normal::services(text.lines().skip(3));
        groups.into_iter().map(|(name, lines)| format!("{name}\n{}\n", lines.join("\n"))).collect()
    };
    let ours = format::proc_services(&services(lab));
    loads("proc_ip_vs", &flat(&want.proc_ip_vs), &flat(&ours), expiring + ending(&in_proc))
}

/// The director's connections, each as `-Lnc` and as `/proc/net/ip_vs_conn` list it.
fn both_lists(lab: &Lab) -> Vec<(Entry, Entry)> {
    let one = |connection| {
        let connection = [connection];
        let listed = normal::listed_entries(format::connections(&connection).lines().skip(2)).pop()?;
        let in_proc = normal::proc_entries(format::proc_connections(&connection).lines().skip(1)).pop()?;
        Some((listed, in_proc))
    };
    connections(lab).into_iter().filter_map(one).collect()
}

fn has(sorted: &[Entry], entry: &Entry) -> bool {
    sorted.binary_search_by(|(key, _)| key.cmp(&entry.0)).is_ok()
}

fn sorted(entries: impl Iterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = entries.collect();
    entries.sort();
    entries
}

/// Lets the time pass by which a recorded list is later than the director's, up to [`normal::READING`].
fn read_later(want: &[Entry], list: impl Fn(&Lab) -> Vec<Entry>, lab: &mut Lab) {
    let got = list(lab);
    let mut later: Vec<u64> = want
        .iter()
        .filter_map(|(key, left)| {
            let at = got.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
            Some(got[at].1.saturating_sub(*left))
        })
        .collect();
    later.sort_unstable();
    if let Some(seconds) = later.get(later.len() / 2).filter(|seconds| **seconds <= normal::READING) {
        lab.advance(lab.now + std::time::Duration::from_secs(*seconds));
    }
}

/// How many connections were about to expire.
fn ending(entries: &[Entry]) -> usize {
    entries.iter().filter(|(_, left)| *left <= TOLERANCE).count()
}

fn within(what: &str, difference: Difference) -> Difference {
    Difference { line: format!("{what}: {}", difference.line), ..difference }
}

/// A listing whose last two columns are counts of connections, which may differ by `leeway`.
fn loads(what: &str, want: &str, got: &str, leeway: usize) -> Compared {
    let close = |a: &str, b: &str| {
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
        a.len() == b.len()
            && a.len() > 2
            && a[..a.len() - 2] == b[..b.len() - 2]
            && a[a.len() - 2..].iter().zip(&b[b.len() - 2..]).all(|(a, b)| {
                matches!((a.parse::<usize>(), b.parse::<usize>()), (Ok(a), Ok(b)) if a.abs_diff(b) <= leeway)
            })
    };
    let same = want.lines().count() == got.lines().count()
        && want.lines().zip(got.lines()).all(|(a, b)| a == b || (leeway > 0 && close(a, b)));
    if same { Ok(()) } else { text_lines(what, want, got) }
}

/// What left for one event of a matrix: wires and summaries.
pub(crate) fn summaries(want: &[(Side, String)], got: &[Egress]) -> Compared {
    let got: Vec<(Side, String)> = got.iter().map(|(side, bytes)| (*side, summary(bytes))).collect();
    if *want == *got {
        return Ok(());
    }
    let show = |list: &[(Side, String)]| {
        let list: Vec<String> = list.iter().map(|(side, text)| format!("{} {text}", side.name())).collect();
        if list.is_empty() { "nothing".to_owned() } else { list.join(", ") }
    };
    Err(Difference::new(format!("sent {}, recorded {}", show(&got), show(want))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_wrong_frame_is_a_difference() {
        let frame = |side, byte| (side, vec![byte; 60]);
        let (a, b) = (frame(Side::Rs, 1), frame(Side::Rs, 2));
        let cases = [
            (vec![a.clone()], vec![a.clone()], true, "the same"),
            (vec![a.clone()], vec![], false, "missing"),
            (vec![], vec![a.clone()], false, "extra"),
            (vec![a.clone()], vec![b.clone()], false, "another byte"),
            (vec![a.clone(), b.clone()], vec![b.clone(), a.clone()], false, "another order"),
            (vec![a.clone()], vec![frame(Side::Client, 1)], false, "another wire"),
            (vec![a.clone()], vec![(Side::Rs, vec![1; 61])], false, "a byte more"),
        ];
        for (want, got, same, why) in cases {
            assert_eq!(frames(&want, &got).is_ok(), same, "{why}");
        }
    }

    #[test]
    fn connections_differ_by_ends_state_and_time() {
        let list = |lines: &[&str]| normal::proc_entries(lines.iter().copied());
        let one = "TCP 0A010002 0001 0A000064 0050 C0A80A0B 0050 SYN_RECV         59";
        let cases: &[(&[&str], &[&str], bool, &str)] = &[
            (&[one], &[one], true, "the same"),
            (&[one], &[&one.replace("59", "57")], true, "two seconds"),
            (&[one], &[&one.replace("59", "56")], false, "three seconds"),
            (&[one], &[&one.replace("SYN_RECV", "CLOSE")], false, "another state"),
            (&[one], &[&one.replace("C0A80A0B", "C0A80A0C")], false, "another destination"),
            (&[one], &[], false, "missing"),
            (&[], &[one], false, "extra"),
            (&[&one.replace("59", "1")], &[], true, "gone a moment early"),
        ];
        for (want, got, same, why) in cases {
            assert_eq!(entries(&list(want), &list(got)).is_ok(), *same, "{why}");
        }
    }

    #[test]
    fn listings_are_compared_to_the_letter_but_for_what_is_late() {
        let row = |counts: &str| format!("TCP  10.0.0.100:80                  {counts}\n");
        let cases = [
            ("ipvsadm -Ln --stats", row("1 2 0 40 0"), row("9 9 0 99 0"), false, true, "late counters"),
            ("ipvsadm -Ln --stats", row("1 2 0 40 0"), row("9 9 0 99 0"), true, false, "exact counters"),
            ("ipvsadm -Ln", row("rr"), row("wrr"), false, false, "another scheduler"),
        ];
        for (cmd, want, got, exact, same, why) in cases {
            assert_eq!(command_output(cmd, &want, &got, exact).is_ok(), same, "{why}");
        }
    }
}
