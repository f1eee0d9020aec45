//! The bar plot: a panel for each metric, a bar for each contestant, a line from the least to the most.

use uvs_sched::svg::{INK, Page, SOFT};

use super::args::{Device, Metric, Peer};
use super::contestant::Name;
use super::report::{Results, number};

/// Pixels.
const COLUMNS: usize = 3;
const PANEL: f64 = 400.0;
const LABEL: f64 = 110.0;
const BAR: f64 = 16.0;
const GAP: f64 = 4.0;
const HEAD: f64 = 34.0;
/// Room for the figure to the right of the longest bar.
const FIGURE: f64 = 150.0;
const SIZE: f64 = 12.0;

/// The plot as a document.
pub(crate) fn svg(results: &Results) -> String {
    let names = results.names();
    let height = HEAD + names.len() as f64 * (BAR + GAP) + 20.0;
    let panels = results.metrics.len();
    let (columns, rows) = (panels.clamp(1, COLUMNS), panels.div_ceil(COLUMNS));
    let mut page = Page::new((columns as f64 * PANEL, rows as f64 * height));
    for (place, &metric) in results.metrics.iter().enumerate() {
        let corner = ((place % COLUMNS) as f64 * PANEL, (place / COLUMNS) as f64 * height);
        panel(&mut page, corner, results, &names, metric);
    }
    page.finish()
}

fn panel(page: &mut Page, (left, top): (f64, f64), results: &Results, names: &[Name], metric: Metric) {
    let better = if metric.more_is_better() { "more is better" } else { "less is better" };
    let start = left + LABEL;
    page.text((start, top + 20.0), "start", SIZE, INK, "600", &format!("{metric}, {}", metric.unit()));
    page.text((left + PANEL - 10.0, top + 20.0), "end", SIZE, SOFT, "400", better);
    let summaries: Vec<_> = names.iter().map(|&name| (name, results.summary(name, metric))).collect();
    let most = summaries.iter().filter_map(|(_, it)| it.map(|it| it.max)).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (PANEL - LABEL - FIGURE) / most;
    let reference = summaries.iter().find_map(|(name, it)| it.filter(|_| *name == Name::Peer(Peer::Nft)));
    for (place, (name, summary)) in summaries.into_iter().enumerate() {
        let y = top + HEAD + place as f64 * (BAR + GAP);
        let (middle, base) = (y + BAR / 2.0, y + BAR - 4.0);
        page.text((start - 6.0, base), "end", SIZE, INK, "400", &name.to_string());
        let Some(summary) = summary else {
            page.text((start, base), "start", SIZE, SOFT, "400", "-");
            continue;
        };
        let ratio = reference
            .filter(|_| matches!(name, Name::Uvs(_)))
            .map(|it| format!(" ({:.2} of nft)", summary.median / it.median))
            .unwrap_or_default();
        let end = start + summary.max * scale;
        page.rect((start, y), (summary.median * scale, BAR), color(name), 0.0);
        page.line((start + summary.min * scale, middle), (end, middle), "#333333", 1.0, "");
        let figure = format!("{}{ratio}", number(summary.median));
        page.text((end + 5.0, base), "start", SIZE, INK, "400", &figure);
    }
}

const fn color(name: Name) -> &'static str {
    match name {
        Name::Peer(Peer::Nft) => "#888888",
        Name::Peer(Peer::Haproxy) => "#aaaaaa",
        Name::Peer(Peer::Route) => "#cccccc",
        Name::Uvs(mode) => match mode.device {
            Device::Tap => "#3b78c2",
            Device::Tun => "#7fae4f",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Attach, Method, Mode};
    use super::super::report::Reading;
    use super::*;

    #[test]
    fn a_plot_shows_everybody_in_every_panel() {
        let mode = Mode { method: Method::Dr, device: Device::Tap, attach: Attach::Tcx };
        let mut results = Results::new(vec![Metric::Tcp1, Metric::Cps, Metric::Udp1, Metric::UdpFlood], 1);
        let reading = |value| Reading { value, cpu: 1.0, own_cpu: None, sent: None };
        results.add(Name::Peer(Peer::Nft), Metric::Tcp1, reading(20.0));
        results.add(Name::Uvs(mode), Metric::Tcp1, reading(15.0));
        let text = svg(&results);
        assert_eq!(text.matches("dr tap tcx</text>").count(), 4);
        assert_eq!(text.matches("15.0 (0.75 of nft)").count(), 1);
        assert_eq!(text.matches(">-</text>").count(), 6, "what was not measured");
        assert_eq!(text.matches("<rect ").count(), 1 + 2, "a ground, and a bar for each that was measured");
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }
}
