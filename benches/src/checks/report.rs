//! What is said of the figures.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::measure::Figures;
use super::witness::quantile;
use super::{FALL, Size};

/// At most so much of one core...
const CPU_GOAL: f64 = 0.15;
/// ...and at p99 no later than this share of the interval.
const LATE_GOAL: f64 = 0.1;

/// The middle one, in order; of an even number the lower.
fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len().saturating_sub(1) / 2).copied()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The shares of exchanges that are told, and their medians with checks and without, in microseconds.
fn exchanges(figures: &Figures) -> [(&'static str, f64, f64); 3] {
    let medians = |at: usize, with: usize| {
        let all: Vec<Duration> = figures.exchanges[with].iter().map(|of| of[at]).collect();
        median(&all).unwrap_or_default().as_secs_f64() * 1e6
    };
    [("p50", 0), ("p99", 1), ("p99.9", 2)].map(|(name, at)| (name, medians(at, 1), medians(at, 0)))
}

fn late(figures: &Figures) -> [(&'static str, Duration); 3] {
    [("p50", 0.5), ("p99", 0.99), ("max", 1.0)].map(|(name, share)| (name, quantile(&figures.late, share)))
}

fn latest_death(size: Size) -> Duration {
    size.interval * FALL + size.timeout
}

/// Of one core, with checks and without: the medians.
fn cpu(figures: &Figures) -> [f64; 2] {
    [1, 0].map(|at| median(&figures.cpu[at]).unwrap_or_default())
}

/// What was aimed at, and whether it was reached.
fn goals(size: Size, figures: &Figures) -> [(&'static str, bool); 3] {
    let [with, without] = cpu(figures);
    let [_, (_, p99), _] = late(figures);
    let death = figures.deaths.last().is_none_or(|last| *last <= latest_death(size));
    [
        ("checks take less than 15 % of a core", with - without < CPU_GOAL),
        ("p99 of lateness is at most 10 % of the interval", p99 <= size.interval.mul_f64(LATE_GOAL)),
        ("every death is noticed within fall x interval + timeout", death),
    ]
}

/// For people.
pub(crate) fn table(size: Size, figures: &Figures) -> String {
    let [with, without] = cpu(figures);
    let probes = median(&figures.probes).unwrap_or_default();
    let mut text = format!(
        "{} destinations, each checked every {:?} (timeout {:?}, fall {FALL}), {probes:.0} probes/s\n\
         load of the machine {:.1} on {} CPUs\n\
         CPU of the director, of one core: {:.1} % with checks, {:.1} % without, so checks take {:.1} %{}\n  by thread:",
        size.destinations,
        size.interval,
        size.timeout,
        figures.load.0,
        figures.load.1,
        with * 100.0,
        without * 100.0,
        (with - without) * 100.0,
        if size.apart { "" } else { ", with what the servers' kernel does at once" }
    );
    for (name, share) in &figures.threads {
        if *share >= 0.0005 {
            let _ = write!(text, " {name} {:.1} %", share * 100.0);
        }
    }
    let [before, after] = figures.memory;
    let list = |of: &[(&str, Duration)]| {
        let all: Vec<_> = of.iter().map(|(name, time)| format!("{name} {:.1} ms", ms(*time))).collect();
        all.join(", ")
    };
    let spread = |times: &[Duration]| {
        [("least", 0.0), ("median", 0.5), ("most", 1.0)].map(|(name, share)| (name, quantile(times, share)))
    };
    let _ = write!(
        text,
        "\nlateness of probes: {}\nmemory: {before} KiB without checks, {after} KiB with them\n",
        list(&late(figures))
    );
    let _ = writeln!(
        text,
        "deaths noticed after: {} (at most {:?} is right)\nreload: {}; meanwhile an exchange took at most {:.1} ms, \
         and no probe was later than {:.1} ms",
        list(&spread(&figures.deaths)),
        latest_death(size),
        list(&spread(&figures.reloads)),
        ms(figures.reload_exchange),
        ms(figures.reload_late)
    );
    for (name, with, without) in exchanges(figures) {
        let ratio = with / without.max(f64::MIN_POSITIVE);
        let _ = writeln!(
            text,
            "exchange of a client, {name}: {with:.0} us with checks, {without:.0} without: {ratio:.2}"
        );
    }
    for (goal, is_met) in goals(size, figures) {
        let _ = writeln!(text, "{}: {goal}", if is_met { "met" } else { "missed" });
    }
    if figures.lost > 0 {
        let _ = writeln!(text, "{} exchanges were lost", figures.lost);
    }
    for failure in &figures.failures {
        let _ = writeln!(text, "failed: {failure}");
    }
    text
}

/// For programs.
pub(crate) fn document(size: Size, figures: &Figures) -> Value {
    let [with, without] = cpu(figures);
    let times = |of: &[Duration]| of.iter().map(|time| ms(*time)).collect::<Vec<_>>();
    let late: serde_json::Map<String, Value> =
        late(figures).into_iter().map(|(name, time)| (name.to_owned(), json!(ms(time)))).collect();
    let exchanges: Vec<Value> = exchanges(figures)
        .into_iter()
        .map(|(name, with, without)| json!({"share": name, "with_us": with, "without_us": without}))
        .collect();
    let goals: serde_json::Map<String, Value> =
        goals(size, figures).into_iter().map(|(goal, met)| (goal.to_owned(), json!(met))).collect();
    json!({
        "destinations": size.destinations,
        "interval_ms": ms(size.interval),
        "timeout_ms": ms(size.timeout),
        "fall": FALL,
        "apart": size.apart,
        "load": figures.load.0,
        "cpus": figures.load.1,
        "probes_per_second": figures.probes,
        "cpu": {"with": with, "without": without, "rounds_with": figures.cpu[1], "rounds_without": figures.cpu[0],
                "threads": figures.threads},
        "late_ms": late,
        "memory_kib": {"without": figures.memory[0], "with": figures.memory[1]},
        "deaths_ms": times(&figures.deaths),
        "deaths_at_most_ms": ms(latest_death(size)),
        "reloads_ms": times(&figures.reloads),
        "reload_exchange_max_ms": ms(figures.reload_exchange),
        "reload_late_max_ms": ms(figures.reload_late),
        "exchanges": exchanges,
        "exchanges_lost": figures.lost,
        "goals": goals,
        "failures": figures.failures,
    })
}
