//! What was read, and what it comes to: medians, spreads, ratios; as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::ValueEnum as _;
use serde::Serialize;

use super::args::{Metric, Mode, Peer};
use super::contestant::Name;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// The figure, in the unit of its metric.
    pub(crate) value: f64,
    /// CPU time of the whole machine for each byte, packet, connection or exchange.
    pub(crate) cpu: f64,
    /// The same, of the contestant's program only; `None`: it is a part of the kernel.
    pub(crate) own_cpu: Option<f64>,
    /// Datagrams sent in a second, where some may be lost.
    pub(crate) sent: Option<f64>,
}

impl Reading {
    /// In a few words.
    pub(crate) fn describe(&self, metric: Metric) -> String {
        let sent = self.sent.map(|sent| format!(" of {} sent", number(sent))).unwrap_or_default();
        format!("{}{sent} {}, {:.3} {}", number(self.value), metric.unit(), self.cpu, metric.cpu_unit())
    }
}

/// The middle, the least and the most of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The median; of an even number the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

impl Summary {
    /// Of at least one.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(Self { median: f64::midpoint(*low, *high), min, max })
    }
}

/// All that was read.
#[derive(Debug)]
pub(crate) struct Results {
    /// What was asked for.
    pub(crate) metrics: Vec<Metric>,
    rounds: u32,
    readings: Vec<(Name, Metric, Reading)>,
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    rows: Vec<Row>,
}

/// A figure of uvs beside those of its peers. Maps have the peers' names, and where uvs itself is among them `uvs`.
#[derive(Debug, Serialize)]
struct Row {
    method: String,
    device: String,
    attach: String,
    metric: String,
    uvs: f64,
    unit: &'static str,
    peers: BTreeMap<String, f64>,
    /// uvs by the peer.
    ratio: BTreeMap<String, f64>,
    rounds: u32,
    /// The least and the most.
    spread: BTreeMap<String, [f64; 2]>,
    /// Of the whole machine, medians.
    cpu: BTreeMap<String, f64>,
    /// Of the contestant's own process, medians.
    cpu_own: BTreeMap<String, f64>,
    cpu_unit: &'static str,
    /// Datagrams sent in a second, medians; empty for all but UDP.
    sent: BTreeMap<String, f64>,
}

impl Results {
    /// Nothing yet.
    pub(crate) fn new(metrics: Vec<Metric>, rounds: u32) -> Self {
        Self { metrics, rounds, readings: Vec::new() }
    }

    /// Adds a reading, if it was asked for.
    pub(crate) fn add(&mut self, name: Name, metric: Metric, reading: Reading) {
        if self.metrics.contains(&metric) {
            self.readings.push((name, metric, reading));
        }
    }

    /// What a contestant reached; `None`: it was not measured.
    pub(crate) fn summary(&self, name: Name, metric: Metric) -> Option<Summary> {
        Summary::of(self.readings(name, metric).map(|reading| reading.value))
    }

    /// Who was measured, peers first.
    pub(crate) fn names(&self) -> Vec<Name> {
        let peers = Peer::value_variants().iter().map(|&peer| Name::Peer(peer));
        let mut names: Vec<Name> = peers.filter(|&name| self.has(name)).collect();
        names.extend(self.modes().into_iter().map(Name::Uvs));
        names
    }

    fn readings(&self, name: Name, metric: Metric) -> impl Iterator<Item = &Reading> {
        let wanted = move |(of, what, _): &&(Name, Metric, Reading)| *of == name && *what == metric;
        self.readings.iter().filter(wanted).map(|(_, _, reading)| reading)
    }

    fn has(&self, name: Name) -> bool {
        self.readings.iter().any(|(of, ..)| *of == name)
    }

    /// In the order of the command line.
    fn modes(&self) -> Vec<Mode> {
        let mut modes: Vec<Mode> = Vec::new();
        for (name, ..) in &self.readings {
            if let Name::Uvs(mode) = name
                && !modes.contains(mode)
            {
                modes.push(*mode);
            }
        }
        modes.sort_by_key(|mode| (mode.method as u8, mode.device as u8, mode.attach as u8));
        modes
    }

    fn peers(&self) -> Vec<Peer> {
        Peer::value_variants().iter().copied().filter(|&peer| self.has(Name::Peer(peer))).collect()
    }

    /// The document for machines.
    pub(crate) fn document(&self) -> Document {
        let modes = self.modes();
        let rows =
            modes.iter().flat_map(|&mode| self.metrics.iter().filter_map(move |&it| self.row(mode, it)));
        Document { rows: rows.collect() }
    }

    fn row(&self, mode: Mode, metric: Metric) -> Option<Row> {
        let uvs = self.summary(Name::Uvs(mode), metric)?;
        let mut row = Row {
            method: mode.method.to_string(),
            device: mode.device.to_string(),
            attach: mode.attach.to_string(),
            metric: metric.to_string(),
            uvs: uvs.median,
            unit: metric.unit(),
            peers: BTreeMap::new(),
            ratio: BTreeMap::new(),
            rounds: self.rounds,
            spread: BTreeMap::new(),
            cpu: BTreeMap::new(),
            cpu_own: BTreeMap::new(),
            cpu_unit: metric.cpu_unit(),
            sent: BTreeMap::new(),
        };
        let peers = self.peers().into_iter().map(|peer| (peer.to_string(), Name::Peer(peer)));
        for (label, name) in [("uvs".to_owned(), Name::Uvs(mode))].into_iter().chain(peers) {
            let Some(summary) = self.summary(name, metric) else { continue };
            if name != Name::Uvs(mode) {
                row.peers.insert(label.clone(), summary.median);
                row.ratio.insert(label.clone(), uvs.median / summary.median);
            }
            row.spread.insert(label.clone(), [summary.min, summary.max]);
            let median = |values: &mut dyn Iterator<Item = f64>| Summary::of(values).map(|it| it.median);
            let readings = || self.readings(name, metric);
            row.cpu.extend(median(&mut readings().map(|it| it.cpu)).map(|it| (label.clone(), it)));
            row.cpu_own
                .extend(median(&mut readings().filter_map(|it| it.own_cpu)).map(|it| (label.clone(), it)));
            row.sent.extend(median(&mut readings().filter_map(|it| it.sent)).map(|it| (label, it)));
        }
        Some(row)
    }

    /// The table for people: a block for the peers, and one for each way to run uvs.
    pub(crate) fn table(&self) -> String {
        let rounds =
            if self.rounds == 1 { "one round".to_owned() } else { format!("{} rounds", self.rounds) };
        let mut text = format!(
            "Medians of {rounds}, least and most in brackets; CPU time is the whole machine's; \
             ratios are uvs by the peer.\n"
        );
        let peers = self.peers();
        let measured = |names: &[Name]| -> Vec<Metric> {
            let by_any = |metric: &Metric| names.iter().any(|&name| self.summary(name, *metric).is_some());
            self.metrics.iter().copied().filter(by_any).collect()
        };
        let names: Vec<Name> = peers.iter().map(|&peer| Name::Peer(peer)).collect();
        let metrics = measured(&names);
        if !metrics.is_empty() {
            let mut block = vec![vec!["peers".to_owned()]];
            for peer in &peers {
                head(&mut block).extend([peer.to_string(), String::new(), "CPU".to_owned()]);
            }
            for metric in metrics {
                let mut line = vec![format!("{metric}, {}", metric.unit())];
                for &name in &names {
                    line.extend(self.cells(name, metric));
                }
                line.push(metric.cpu_unit().to_owned());
                block.push(line);
            }
            text.push_str(&aligned(&block));
        }
        for mode in self.modes() {
            let mut block = vec![vec![mode.to_string(), "uvs".to_owned(), String::new(), "CPU".to_owned()]];
            head(&mut block).push(String::new());
            head(&mut block).extend(peers.iter().map(|peer| format!("by {peer}")));
            for metric in measured(&[Name::Uvs(mode)]) {
                let mut line = vec![format!("{metric}, {}", metric.unit())];
                line.extend(self.cells(Name::Uvs(mode), metric));
                line.push(metric.cpu_unit().to_owned());
                let ratios = self.row(mode, metric).map(|row| row.ratio).unwrap_or_default();
                for peer in &peers {
                    let ratio = ratios.get(&peer.to_string()).map(|ratio| format!("{ratio:.2}"));
                    line.push(ratio.unwrap_or_else(|| "-".to_owned()));
                }
                block.push(line);
            }
            text.push_str(&aligned(&block));
        }
        text
    }

    /// Median, spread and CPU time of a contestant.
    fn cells(&self, name: Name, metric: Metric) -> [String; 3] {
        let cpu = Summary::of(self.readings(name, metric).map(|reading| reading.cpu));
        match self.summary(name, metric).zip(cpu) {
            Some((it, cpu)) => {
                let spread = if self.rounds == 1 {
                    String::new()
                } else {
                    format!("({} to {})", number(it.min), number(it.max))
                };
                [number(it.median), spread, short(cpu.median)]
            }
            None => ["-".to_owned(), String::new(), "-".to_owned()],
        }
    }
}

fn head(block: &mut [Vec<String>]) -> &mut Vec<String> {
    block.first_mut().expect("a block begins with its head")
}

/// Lines with their columns under one another, the first to the left, all others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::from("\n");
    for line in lines {
        let mut row = String::new();
        for (place, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a string never fails.
            let _ = match place {
                0 => write!(row, "{cell:<width$}"),
                _ if width == 0 => Ok(()),
                _ => write!(row, "  {cell:>width$}"),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// A figure with three digits that count, or with thousands set apart.
pub(crate) fn number(value: f64) -> String {
    if value < 1000.0 {
        return short(value);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Three digits that count.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::super::args::{Attach, Device, Method};
    use super::*;

    fn reading(value: f64) -> Reading {
        Reading { value, cpu: value / 10.0, own_cpu: None, sent: None }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        let cases: [(&[f64], f64, f64, f64); 4] = [
            (&[3.0], 3.0, 3.0, 3.0),
            (&[5.0, 1.0], 3.0, 1.0, 5.0),
            (&[9.0, 1.0, 2.0], 2.0, 1.0, 9.0),
            (&[4.0, 1.0, 2.0, 8.0], 3.0, 1.0, 8.0),
        ];
        for (values, median, min, max) in cases {
            assert_eq!(Summary::of(values.iter().copied()), Some(Summary { median, min, max }), "{values:?}");
        }
        assert_eq!(Summary::of(std::iter::empty()), None);
    }

    #[test]
    fn rows_have_the_words_that_others_read() {
        let mode = Mode { method: Method::Nat, device: Device::Tap, attach: Attach::Bridge };
        let mut results = Results::new(vec![Metric::Tcp1, Metric::Lat1P50], 3);
        for value in [1.0, 4.0, 2.0] {
            results.add(Name::Uvs(mode), Metric::Tcp1, reading(value));
            results.add(Name::Peer(Peer::Nft), Metric::Tcp1, reading(value * 2.0));
            results.add(Name::Uvs(mode), Metric::Cps, reading(1.0));
        }
        let document = serde_json::to_value(results.document()).unwrap();
        let rows = document["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "no row without a figure, none that was not asked for");
        let row = &rows[0];
        for (key, want) in [
            ("method", "\"nat\""),
            ("device", "\"tap\""),
            ("attach", "\"bridge\""),
            ("metric", "\"tcp1\""),
            ("uvs", "2.0"),
            ("unit", "\"Gbit/s\""),
            ("peers", "{\"nft\":4.0}"),
            ("ratio", "{\"nft\":0.5}"),
            ("spread", "{\"nft\":[2.0,8.0],\"uvs\":[1.0,4.0]}"),
        ] {
            assert_eq!(row[key].to_string(), want, "{key}");
        }
    }

    #[test]
    fn the_table_has_a_block_for_everybody() {
        let mode = Mode { method: Method::Dr, device: Device::Tap, attach: Attach::Tcx };
        let mut results = Results::new(vec![Metric::Tcp1, Metric::Udp1], 2);
        for value in [1.0, 3.0] {
            results.add(Name::Uvs(mode), Metric::Tcp1, reading(value));
            results.add(Name::Uvs(mode), Metric::Udp1, reading(value));
            results.add(Name::Peer(Peer::Haproxy), Metric::Tcp1, reading(value * 2.0));
        }
        let want = "\
Medians of 2 rounds, least and most in brackets; CPU time is the whole machine's; ratios are uvs by the peer.

peers         haproxy                    CPU
tcp1, Gbit/s     4.00  (2.00 to 6.00)  0.400  ns/byte

dr tap tcx        uvs                    CPU             by haproxy
tcp1, Gbit/s     2.00  (1.00 to 3.00)  0.200    ns/byte        0.50
udp1, packets/s  2.00  (1.00 to 3.00)  0.200  us/packet           -
";
        assert_eq!(results.table(), want);
    }

    #[test]
    fn metrics_have_the_names_of_the_schema() {
        let names: Vec<_> = Metric::value_variants().iter().map(Metric::to_string).collect();
        let want =
            ["tcp1", "tcp4", "udp1", "udp_flood", "cps", "lat1_p50", "lat1_p99", "lat16_p50", "lat16_p99"];
        assert_eq!(names, want);
    }

    #[test]
    fn numbers_can_be_read() {
        let cases =
            [(0.0123, "0.012"), (1.234, "1.23"), (56.78, "56.8"), (999.4, "999"), (12345.0, "12\u{202f}345")];
        for (value, want) in cases {
            assert_eq!(number(value), want);
        }
    }
}
