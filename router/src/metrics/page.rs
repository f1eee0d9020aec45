//! A page in Prometheus' text format, version 0.0.4.
//!
//! Values are written as they are read, with no recorder in between: a service that was removed leaves no
//! series behind, and 64-bit counts keep their last digit.

use std::fmt::{Display, Write as _};

use metrics_exporter_prometheus::formatting;

/// What `Content-Type` says of such a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// A label and its value.
pub type LabelPair<'a> = (&'static str, &'a str);

/// Labels as they stand in a line, escaped once for all lines of what they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// These labels, in that order.
    pub fn new(labels: &[LabelPair<'_>]) -> Self {
        let mut text = String::new();
        labels.iter().for_each(|label| push(&mut text, *label));
        Self(text)
    }

    /// The same and one more.
    pub fn and(&self, label: LabelPair<'_>) -> Self {
        let mut text = self.0.clone();
        push(&mut text, label);
        Self(text)
    }
}

/// Adds a label to what stands in braces.
fn push(text: &mut String, (name, value): LabelPair<'_>) {
    if !text.is_empty() && !text.ends_with('{') {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    text.push_str(&formatting::sanitize_label_value(value));
    text.push('"');
}

/// A page that is being written, family by family.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Opens a metric family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        formatting::write_help_line(&mut self.text, name, None, None, help);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        formatting::write_type_line(&mut self.text, name, None, None, kind);
        Family { name, text: &mut self.text }
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// One metric family of a page.
#[derive(Debug)]
pub struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Family<'_> {
    /// Writes one sample.
    pub fn sample(&mut self, labels: &[LabelPair<'_>], value: impl Display) {
        self.line("", "", labels, value);
    }

    /// Writes one sample of what `labels` name; `more` labels tell it from others of that.
    pub fn sample_of(&mut self, labels: &Labels, more: &[LabelPair<'_>], value: impl Display) {
        self.line("", &labels.0, more, value);
    }

    /// Writes one histogram: counts per bucket with the bucket's upper bound, not yet summed up, then how many
    /// values were above the last bound, and the sum of all values.
    pub fn histogram(&mut self, labels: &[LabelPair<'_>], buckets: &[(f64, u64)], above: u64, sum: f64) {
        let labels = Labels::new(labels).0;
        let mut count = 0u64;
        for (bound, n) in buckets {
            count += n;
            self.line("_bucket", &labels, &[("le", bound.to_string().as_str())], count);
        }
        count += above;
        self.line("_bucket", &labels, &[("le", "+Inf")], count);
        self.line("_sum", &labels, &[], sum);
        self.line("_count", &labels, &[], count);
    }

    fn line(&mut self, suffix: &str, labels: &str, more: &[LabelPair<'_>], value: impl Display) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        if !labels.is_empty() || !more.is_empty() {
            text.push('{');
            text.push_str(labels);
            more.iter().for_each(|label| push(text, *label));
            text.push('}');
        }
        writeln!(text, " {value}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_prometheus_wants_it() {
        let mut page = Page::default();
        let mut family = page.family("uvs_tests_total", Kind::Counter, "How often.");
        family.sample(&[], u64::MAX);
        family.sample(&[("path", "a \"b\"\n")], 1);
        page.family("uvs_test_seconds", Kind::Histogram, "How long.").histogram(
            &[("who", "rr")],
            &[(0.000001, 2), (0.1, 3)],
            1,
            0.5,
        );
        let expected = r#"# HELP uvs_tests_total How often.
# TYPE uvs_tests_total counter
uvs_tests_total 18446744073709551615
uvs_tests_total{path="a \"b\"\n"} 1
# HELP uvs_test_seconds How long.
# TYPE uvs_test_seconds histogram
uvs_test_seconds_bucket{who="rr",le="0.000001"} 2
uvs_test_seconds_bucket{who="rr",le="0.1"} 5
uvs_test_seconds_bucket{who="rr",le="+Inf"} 6
uvs_test_seconds_sum{who="rr"} 0.5
uvs_test_seconds_count{who="rr"} 6
"#;
        assert_eq!(page.into_text(), expected);
    }
}
