//! The bar plot: a panel for each metric, a bar for each contestant, a line from the least to the most.

use std::fmt::Write as _;

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

/// The plot as a document.
pub(crate) fn svg(results: &Results) -> String {
    let names = results.names();
    let height = HEAD + names.len() as f64 * (BAR + GAP) + 20.0;
    let panels = results.metrics.len();
    let (columns, rows) = (panels.clamp(1, COLUMNS), panels.div_ceil(COLUMNS));
    let (width, whole) = (columns as f64 * PANEL, rows as f64 * height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {whole}\" width=\"{width}\" height=\"{whole}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>uvs and its peers side by side</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (place, &metric) in results.metrics.iter().enumerate() {
        let (x, y) = ((place % COLUMNS) as f64 * PANEL, (place / COLUMNS) as f64 * height);
        // Writing to a string never fails.
        let _ =
            write!(text, "<g transform=\"translate({x} {y})\">\n{}</g>\n", panel(results, &names, metric));
    }
    text.push_str("</svg>\n");
    text
}

fn panel(results: &Results, names: &[Name], metric: Metric) -> String {
    let better = if metric.more_is_better() { "more" } else { "less" };
    let mut text = format!(
        "<text x=\"{LABEL}\" y=\"20\" font-weight=\"bold\">{metric}, {}</text>\n\
         <text x=\"{}\" y=\"20\" text-anchor=\"end\" fill=\"#777\">{better} is better</text>\n",
        metric.unit(),
        PANEL - 10.0
    );
    let summaries: Vec<_> = names.iter().map(|&name| (name, results.summary(name, metric))).collect();
    let most = summaries.iter().filter_map(|(_, it)| it.map(|it| it.max)).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (PANEL - LABEL - FIGURE) / most;
    let reference = summaries.iter().find_map(|(name, it)| it.filter(|_| *name == Name::Peer(Peer::Nft)));
    for (place, (name, summary)) in summaries.into_iter().enumerate() {
        let y = HEAD + place as f64 * (BAR + GAP);
        let (middle, base) = (y + BAR / 2.0, y + BAR - 4.0);
        let _ = writeln!(text, "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{name}</text>", LABEL - 6.0);
        let Some(summary) = summary else {
            let _ = writeln!(text, "<text x=\"{LABEL}\" y=\"{base}\" fill=\"#777\">-</text>");
            continue;
        };
        let ratio = reference
            .filter(|_| matches!(name, Name::Uvs(_)))
            .map(|it| format!(" ({:.2} of nft)", summary.median / it.median))
            .unwrap_or_default();
        let end = LABEL + summary.max * scale;
        let _ = write!(
            text,
            "<rect x=\"{LABEL}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>\n\
             <path d=\"M{:.1} {middle}H{end:.1}\" stroke=\"#333\"/>\n\
             <text x=\"{:.1}\" y=\"{base}\">{}{ratio}</text>\n",
            summary.median * scale,
            color(name),
            LABEL + summary.min * scale,
            end + 5.0,
            number(summary.median)
        );
    }
    text
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
        assert_eq!(text.matches("<g ").count(), text.matches("</g>").count());
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }
}
