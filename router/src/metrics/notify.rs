//! Programs that are told what happens.

use super::page::{Kind, Page};
use crate::hooks::{Report, Sample};

/// Runs, and what was not told.
pub(super) fn notify(page: &mut Page, Report { lost, running, waiting, samples }: &Report) {
    let mut family =
        page.family("uvs_notify_runs_total", Kind::Counter, "Runs of programs that are told what happens.");
    for (name, sample) in samples {
        for (outcome, count) in Sample::OUTCOMES.iter().zip(sample.runs) {
            family.sample(&[("notify", name), ("outcome", outcome)], count);
        }
    }
    let mut family = page.family(
        "uvs_notify_merged_total",
        Kind::Counter,
        "What a program was not told, for the same thing changed again while it waited: it was told the latest.",
    );
    for (name, sample) in samples {
        family.sample(&[("notify", name)], sample.merged);
    }
    let mut family = page.family(
        "uvs_notify_dropped_total",
        Kind::Counter,
        "What a program was not told, for too much waited.",
    );
    for (name, sample) in samples {
        family.sample(&[("notify", name)], sample.dropped);
    }
    page.family(
        "uvs_notify_lost_total",
        Kind::Counter,
        "Events that were over before programs could be told.",
    )
    .sample(&[], *lost);
    page.family("uvs_notify_running", Kind::Gauge, "Programs that are being told what happens.")
        .sample(&[], *running);
    page.family("uvs_notify_waiting", Kind::Gauge, "What programs are still to be told.")
        .sample(&[], *waiting);
}
