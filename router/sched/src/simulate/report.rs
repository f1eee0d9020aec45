//! What a run came to, as tables, CSV and JSON.

use core::fmt::Write as _;

use serde_json::{Value, json};

use super::Lane;
use super::engine::{Outcome, Sample};
use super::plan::Plan;
use crate::text::{Table, grouped, percent};

/// Destinations that a table lists one by one.
const LISTED: usize = 24;

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "counts of connections")]
    pub(super) fn share(&self, number: usize) -> f64 {
        ratio(self.placed[number] as f64, self.placed.iter().sum::<u64>() as f64)
    }

    pub(super) fn ideal_share(&self, number: usize) -> f64 {
        ratio(self.ideal[number], self.ideal.iter().sum())
    }

    /// Connections that went elsewhere than weights say, of all.
    pub(crate) fn misplaced(&self) -> f64 {
        let off = |number| (self.share(number) - self.ideal_share(number)).abs();
        (0..self.placed.len()).map(off).sum::<f64>() / 2.0
    }

    /// Samples after the run-up, in which there is little to balance.
    fn settled(&self) -> impl Iterator<Item = &Sample> + Clone {
        let run_up = self.samples.last().map_or(0.0, |last| last.at / 10.0);
        self.samples.iter().filter(move |sample| sample.at >= run_up)
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of samples")]
    pub(crate) fn imbalance_mean(&self) -> f64 {
        ratio(self.settled().map(|sample| sample.cv).sum(), self.settled().count() as f64)
    }

    pub(crate) fn imbalance_p95(&self) -> f64 {
        let mut all: Vec<f64> = self.settled().map(|sample| sample.cv).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() * 95 / 100).copied().unwrap_or(0.0)
    }

    pub(crate) fn peak(&self) -> f64 {
        self.settled().map(|sample| sample.peak).fold(0.0, f64::max)
    }

    /// How long connections waited for their answer, in milliseconds: the mean, and what 99 of 100 stayed below.
    #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
    fn answer_ms(&self) -> (f64, f64) {
        let mut waits = self.waits.clone();
        waits.sort_by(f64::total_cmp);
        let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or(0.0);
        (ratio(waits.iter().sum(), waits.len() as f64) * 1e3, p99 * 1e3)
    }

    /// The mean of it.
    pub(crate) fn answer_ms_mean(&self) -> f64 {
        self.answer_ms().0
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of connections")]
    pub(crate) fn calm_moves(&self) -> f64 {
        ratio(self.calm.1 as f64, self.calm.0 as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of clients")]
    fn moved(&self, change: usize) -> f64 {
        let disruption = &self.disruptions[change];
        ratio(disruption.moved as f64, disruption.could_stay as f64)
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// For people.
pub(super) fn text(plan: &Plan, lanes: &[Lane]) -> String {
    let mut out = format!(
        "{} connections over {} s to {} destinations, seed {}\n\n",
        grouped(plan.arrivals.len() as u64),
        plan.end,
        plan.weights.len(),
        plan.seed
    );
    let titles = |first: &[&str]| {
        let names = lanes.iter().map(|lane| lane.name.as_str());
        first.iter().copied().chain(names).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut shares = Table::new(titles(&["share", "weight", "ideal"]));
    for number in 0..plan.weights.len().min(LISTED) {
        let ideal = lanes.first().map_or(0.0, |lane| lane.outcome.ideal_share(number));
        let mut row = vec![format!("rs{}", number + 1), plan.weights[number].to_string(), percent(ideal)];
        row.extend(lanes.iter().map(|lane| percent(lane.outcome.share(number))));
        shares.row(row);
    }
    out += &shares.to_string();
    if plan.weights.len() > LISTED {
        let _ = writeln!(out, "and {} more (--json has all)", plan.weights.len() - LISTED);
    }
    out.push('\n');

    let mut figures = Table::new(titles(&[""]));
    let mut row = |title: &str, cell: &dyn Fn(&Lane) -> String| {
        figures.row(core::iter::once(title.to_owned()).chain(lanes.iter().map(cell)).collect::<Vec<_>>());
    };
    row("off weight", &|lane| percent(lane.outcome.misplaced()));
    row("imbalance, mean", &|lane| percent(lane.outcome.imbalance_mean()));
    row("imbalance, p95", &|lane| percent(lane.outcome.imbalance_p95()));
    row("peak", &|lane| format!("{:.2} x", lane.outcome.peak()));
    row("answer, mean", &|lane| format!("{:.1} ms", lane.outcome.answer_ms().0));
    row("answer, p99", &|lane| format!("{:.1} ms", lane.outcome.answer_ms().1));
    row("refused", &|lane| grouped(lane.outcome.refused));
    row("lost", &|lane| grouped(lane.outcome.lost));
    row("calm moves", &|lane| percent(lane.outcome.calm_moves()));
    for (n, change) in plan.changes.iter().enumerate() {
        row(&format!("moved, {} at {} s", change.title(), change.at), &|lane| percent(lane.outcome.moved(n)));
    }
    row("module failures", &|lane| grouped(lane.failures));
    out += &figures.to_string();
    for lane in lanes {
        if let Some(failure) = &lane.failure {
            let _ = writeln!(out, "{} failed, the fallback picked; last: {failure}", lane.name);
        }
    }
    out
}

/// A line for each policy and moment.
pub(super) fn csv(plan: &Plan, lanes: &[Lane]) -> String {
    let mut out = String::from("policy,seconds,imbalance,peak");
    for number in 1..=plan.weights.len() {
        let _ = write!(out, ",active_{number}");
    }
    out.push('\n');
    for lane in lanes {
        for sample in &lane.outcome.samples {
            // A name with a comma is quoted, as RFC 4180 has it.
            let name = if lane.name.contains([',', '"']) {
                format!("\"{}\"", lane.name.replace('"', "\"\""))
            } else {
                lane.name.clone()
            };
            let _ = write!(out, "{name},{:.3},{:.4},{:.4}", sample.at, sample.cv, sample.peak);
            for active in &sample.active {
                let _ = write!(out, ",{active}");
            }
            out.push('\n');
        }
    }
    out
}

/// For programs.
pub(super) fn json(plan: &Plan, lanes: &[Lane]) -> Value {
    let policies: Vec<Value> = lanes.iter().map(|lane| policy(plan, lane)).collect();
    json!({
        "connections": plan.arrivals.len(),
        "seconds": plan.end,
        "seed": plan.seed,
        "weights": plan.weights,
        "policies": policies,
    })
}

fn policy(plan: &Plan, lane: &Lane) -> Value {
    let outcome = &lane.outcome;
    let destinations: Vec<Value> = (0..plan.weights.len())
        .map(|number| {
            json!({
                "destination": number + 1,
                "weight": plan.weights[number],
                "connections": outcome.placed[number],
                "share": outcome.share(number),
                "ideal": outcome.ideal_share(number),
            })
        })
        .collect();
    let changes: Vec<Value> = plan
        .changes
        .iter()
        .zip(&outcome.disruptions)
        .enumerate()
        .map(|(n, (change, disruption))| {
            json!({
                "seconds": change.at,
                "what": change.title(),
                "could_stay": disruption.could_stay,
                "moved": disruption.moved,
                "moved_share": outcome.moved(n),
                "had_to_move": disruption.had_to_move,
            })
        })
        .collect();
    let over_time: Vec<Value> = outcome
        .samples
        .iter()
        .map(|sample| json!({ "seconds": sample.at, "imbalance": sample.cv, "peak": sample.peak }))
        .collect();
    json!({
        "policy": lane.name,
        "destinations": destinations,
        "off_weight": outcome.misplaced(),
        "imbalance_mean": outcome.imbalance_mean(),
        "imbalance_p95": outcome.imbalance_p95(),
        "peak": outcome.peak(),
        "answer_ms_mean": outcome.answer_ms().0,
        "answer_ms_p99": outcome.answer_ms().1,
        "refused": outcome.refused,
        "lost": outcome.lost,
        "calm_moves": outcome.calm_moves(),
        "changes": changes,
        "failures": lane.failures,
        "last_failure": lane.failure,
        "over_time": over_time,
    })
}
