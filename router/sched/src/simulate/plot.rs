//! The picture of a run: imbalance over time, and below it who got how much.

use super::Lane;
use super::engine::Outcome;
use super::plan::{Plan, What};
use crate::svg::{INK, Page, SOFT};
use crate::text::{grouped, percent};

/// Okabe and Ito's colours, which people with any kind of colour vision tell apart; the yellow is darker here.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b5b5b", "#b8a800"];
const GRID: &str = "#e4e7eb";
const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 920.0;
/// Samples in a point of a line: enough to take the trembling out.
const BIN: usize = 6;
/// More bars than this are not told apart.
const BARS: usize = 72;

/// Draws it.
pub(super) fn svg(plan: &Plan, lanes: &[Lane]) -> String {
    let bars = plan.weights.len() * lanes.len() <= BARS;
    let (top, bottom) = (128.0, 404.0);
    let height = if bars { 688.0 } else { 452.0 };
    let mut page = Page::new((WIDTH, height));
    page.text((LEFT, 34.0), "start", 19.0, INK, "600", "Imbalance of active connections over time");
    page.text((LEFT, 56.0), "start", 12.5, SOFT, "400", &subtitle(plan));
    legend(&mut page, lanes);
    lines(&mut page, plan, lanes, top, bottom);
    if bars {
        shares(&mut page, plan, lanes, 500.0, 628.0);
    }
    page.finish()
}

fn subtitle(plan: &Plan) -> String {
    let mut weights: Vec<String> = plan.weights.iter().take(12).map(u32::to_string).collect();
    if plan.weights.len() > 12 {
        weights.push("…".to_owned());
    }
    format!(
        "{} connections to {} destinations of weights {}; standard deviation of connections per weight, of their mean",
        grouped(plan.arrivals.len() as u64),
        plan.weights.len(),
        weights.join(", ")
    )
}

fn legend(page: &mut Page, lanes: &[Lane]) {
    let mut x = LEFT;
    for (lane, colour) in lanes.iter().zip(COLOURS) {
        let mean = format!("mean {}", percent(lane.outcome.imbalance_mean()));
        page.line((x, 82.0), (x + 20.0, 82.0), colour, 3.0, "");
        page.title((x + 27.0, 86.5), 13.0, &lane.name, &mean);
        x += 52.0 + width(&lane.name, 13.0) + width(&mean, 13.0);
    }
}

fn lines(page: &mut Page, plan: &Plan, lanes: &[Lane], top: f64, bottom: f64) {
    let curves: Vec<Vec<(f64, f64)>> = lanes.iter().map(|lane| curve(&lane.outcome)).collect();
    // The run-up, with a handful of connections, would set the scale.
    let run_up = plan.end / 10.0;
    let most =
        curves.iter().flatten().filter(|(at, _)| *at >= run_up).map(|(_, cv)| *cv).fold(0.02, f64::max);
    let (step, ceiling) = scale(most * 100.0);
    let x = |at: f64| LEFT + (RIGHT - LEFT) * at / plan.end;
    let y = |percent: f64| bottom - (bottom - top) * (percent / ceiling).min(1.0);

    for change in &plan.changes {
        if change.at < plan.end && matches!(change.what, What::Fails | What::Quiesced) {
            let same = |other: &&super::plan::Change| {
                other.destination == change.destination && other.at > change.at
            };
            let until = plan.changes.iter().find(same).map_or(plan.end, |other| other.at.min(plan.end));
            let width = x(until) - x(change.at);
            page.rect((x(change.at), top), (width, bottom - top), "#f3f0e8", 0.0);
        }
    }
    let mut grid = 0.0;
    while grid <= ceiling + 1e-9 {
        let colour = if grid == 0.0 { "#9aa2ab" } else { GRID };
        page.line((LEFT, y(grid)), (RIGHT, y(grid)), colour, 1.0, "");
        page.text((LEFT - 10.0, y(grid) + 4.0), "end", 12.0, SOFT, "400", &format!("{} %", number(grid)));
        grid += step;
    }
    let (tick, _) = scale(plan.end / 1.4);
    let mut at = 0.0;
    while at <= plan.end + 1e-9 {
        page.line((x(at), bottom), (x(at), bottom + 5.0), "#9aa2ab", 1.0, "");
        let label = format!("{} s", number(at));
        page.text((x(at), bottom + 20.0), "middle", 12.0, SOFT, "400", &label);
        at += tick;
    }
    let mut last = f64::NEG_INFINITY;
    let mut row = 0.0;
    for change in plan.changes.iter().filter(|change| change.at < plan.end) {
        // Names side by side above the lines where there is room, else inside, below each other.
        row = if x(change.at) - last < 110.0 { row + 15.0 } else { 0.0 };
        last = x(change.at);
        page.line((x(change.at), top - 16.0), (x(change.at), bottom), "#8a8170", 1.0, "4 3");
        let near_end = x(change.at) > RIGHT - 90.0;
        let (place, anchor) =
            if near_end { (x(change.at) - 5.0, "end") } else { (x(change.at) + 5.0, "start") };
        page.text((place, top - 7.0 + row), anchor, 12.0, "#6b6250", "400", &change.title());
    }
    for (points, colour) in curves.iter().zip(COLOURS) {
        page.curve(points.iter().map(|&(at, cv)| (x(at), y(cv * 100.0))), colour);
    }
}

/// Means over bins of samples, so that the line shows the course and not every connection.
#[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
fn curve(outcome: &Outcome) -> Vec<(f64, f64)> {
    outcome
        .samples
        .chunks(BIN)
        .map(|bin| {
            let mean =
                |of: fn(&super::engine::Sample) -> f64| bin.iter().map(of).sum::<f64>() / bin.len() as f64;
            (mean(|sample| sample.at), mean(|sample| sample.cv))
        })
        .collect()
}

/// Bars for each destination, and a mark where its weight would have them.
#[expect(clippy::cast_precision_loss, reason = "a few destinations")]
fn shares(page: &mut Page, plan: &Plan, lanes: &[Lane], top: f64, bottom: f64) {
    page.title(
        (LEFT, top - 30.0),
        15.0,
        "Share of connections",
        "the line across the bars is the share by weight",
    );
    let share = |lane: &Lane, number: usize| lane.outcome.share_percent(number);
    let ideal = |number: usize| lanes.first().map_or(0.0, |lane| lane.outcome.ideal_percent(number));
    let count = plan.weights.len();
    let most = (0..count)
        .flat_map(|n| lanes.iter().map(move |lane| share(lane, n)).chain([ideal(n)]))
        .fold(1.0, f64::max);
    let (step, ceiling) = scale(most * 1.05);
    let y = |percent: f64| bottom - (bottom - top) * percent / ceiling;
    let mut grid = 0.0;
    while grid <= ceiling + 1e-9 {
        let colour = if grid == 0.0 { "#9aa2ab" } else { GRID };
        page.line((LEFT, y(grid)), (RIGHT, y(grid)), colour, 1.0, "");
        page.text((LEFT - 10.0, y(grid) + 4.0), "end", 12.0, SOFT, "400", &format!("{} %", number(grid)));
        grid += step;
    }
    let slot = (RIGHT - LEFT) / count as f64;
    let group = (slot * 0.78).min(lanes.len() as f64 * 34.0);
    let bar = group / lanes.len() as f64;
    for (number, weight) in plan.weights.iter().enumerate() {
        let middle = LEFT + slot * (number as f64 + 0.5);
        let start = middle - group / 2.0;
        for (n, (lane, colour)) in lanes.iter().zip(COLOURS).enumerate() {
            let value = share(lane, number);
            let gap = (bar * 0.08).min(1.5);
            let left = start + bar * n as f64 + gap;
            page.rect((left, y(value)), (bar - 2.0 * gap, bottom - y(value)), colour, 1.5);
        }
        let line = y(ideal(number));
        page.line((start - 4.0, line), (start + group + 4.0, line), INK, 2.0, "");
        page.text((middle, bottom + 19.0), "middle", 12.0, INK, "400", &format!("rs{}", number + 1));
        page.text((middle, bottom + 35.0), "middle", 11.0, SOFT, "400", &format!("weight {weight}"));
    }
}

impl Outcome {
    fn share_percent(&self, number: usize) -> f64 {
        self.share(number) * 100.0
    }

    fn ideal_percent(&self, number: usize) -> f64 {
        self.ideal_share(number) * 100.0
    }
}

/// A step of 1, 2 or 5 that makes 3 to 6 of them, and the multiple of it above `most`.
fn scale(most: f64) -> (f64, f64) {
    let rough = most / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|&step| step >= rough * 0.999);
    let step = step.unwrap_or(power * 10.0);
    (step, (most / step - 1e-9).ceil() * step)
}

/// Without a fraction of zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// About how wide a text is: there is no font to ask.
#[expect(clippy::cast_precision_loss, reason = "a short text")]
fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.62
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round() {
        let cases = [
            (100.0, (20.0, 100.0)),
            (7.3, (2.0, 8.0)),
            (33.3, (10.0, 40.0)),
            (0.9, (0.2, 1.0)),
            (60.0, (20.0, 60.0)),
        ];
        for (most, (step, ceiling)) in cases {
            let (got_step, got_ceiling) = scale(most);
            assert!(
                (got_step - step).abs() < 1e-9 && (got_ceiling - ceiling).abs() < 1e-9,
                "{most}: {got_step} {got_ceiling}"
            );
        }
        assert_eq!([0.0, 2.5, 40.0, 0.25].map(number), ["0", "2.5", "40", "0.25"]);
    }
}
