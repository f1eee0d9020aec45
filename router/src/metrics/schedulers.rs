//! Metrics of scheduler modules.

use uvs_plugin::Serving;

use super::page::{Kind, LabelPair, Page};
use super::{Column, SchedulerSample};

/// What scheduler modules were asked and answered.
pub(super) fn calls(page: &mut Page, samples: &[SchedulerSample]) {
    let counters: [Column<SchedulerSample, u64>; 6] = [
        ("uvs_scheduler_picks_total", "New connections that a scheduler module was to place.", |sample| {
            sample.picks
        }),
        ("uvs_scheduler_refused_total", "Of them, those it found no destination for.", |sample| {
            sample.refused
        }),
        (
            "uvs_scheduler_fallbacks_total",
            "Of them, those that the native fallback placed because the module failed.",
            |sample| sample.fallbacks,
        ),
        ("uvs_scheduler_rebuilds_total", "Instances of a module made in place of one that died.", |sample| {
            sample.rebuilds
        }),
        ("uvs_scheduler_ejections_total", "How often a module was ejected.", |sample| sample.ejections),
        (
            "uvs_scheduler_events_total",
            "Answers, refusals and silence of destinations that a module was told of.",
            |sample| sample.events,
        ),
    ];
    for (name, help, read) in counters {
        let mut family = page.family(name, Kind::Counter, help);
        for sample in samples {
            family.sample(&sample.labels(), read(sample));
        }
    }
    let mut family = page.family(
        "uvs_scheduler_failures_total",
        Kind::Counter,
        "Failures of a scheduler's module, by cause.",
    );
    for sample in samples {
        let [service, scheduler] = sample.labels();
        for (cause, n) in &sample.failures {
            family.sample(&[service, scheduler, ("cause", cause)], n);
        }
    }
    let mut family = page.family(
        "uvs_scheduler_serving",
        Kind::Gauge,
        "1 for who places new connections now: the module, or its fallback while it is ejected or given up.",
    );
    for sample in samples {
        let [service, scheduler] = sample.labels();
        for serving in SERVING {
            let now = u8::from(serving == sample.serving);
            family.sample(&[service, scheduler, ("state", serving)], now);
        }
    }
    let mut family = page.family(
        "uvs_scheduler_pick_duration_seconds",
        Kind::Histogram,
        "How long a pick took, of one pick in eight.",
    );
    for sample in samples {
        family.histogram(&sample.labels(), &sample.latency, sample.latency_above, sample.latency_sum);
    }
}

/// What is loaded, what was refused, what is tried.
/// Which modules place connections.
pub(super) fn modules(page: &mut Page, modules: &[uvs_plugin::Status]) {
    let mut family = page.family(
        "uvs_scheduler_module_info",
        Kind::Gauge,
        "The module that is loaded, by the SHA-256 of its file; the value is always 1.",
    );
    for status in modules {
        let [service, scheduler] = module_labels(status);
        family.sample(&[service, scheduler, ("sha256", &status.module.sha256)], 1);
    }
    let mut family = page.family(
        "uvs_scheduler_loads_total",
        Kind::Counter,
        "Modules that took over from another while the service ran.",
    );
    for status in modules {
        family.sample(&module_labels(status), status.loaded);
    }
    let mut family = page.family(
        "uvs_scheduler_load_refusals_total",
        Kind::Counter,
        "Modules that did not take over, by the step they came to; the one before serves on.",
    );
    for status in modules {
        let [service, scheduler] = module_labels(status);
        for step in uvs_plugin::Step::ALL.map(uvs_plugin::Step::label) {
            family.sample(
                &[service, scheduler, ("step", step)],
                status.refused.get(step).copied().unwrap_or(0),
            );
        }
    }
    trials(page, modules);
}

fn trials(page: &mut Page, modules: &[uvs_plugin::Status]) {
    let on_trial =
        || modules.iter().filter_map(|status| Some((module_labels(status), status.trial.as_ref()?)));
    let mut family = page.family(
        "uvs_scheduler_trial_picks_total",
        Kind::Counter,
        "Connections that a module on trial was asked for. same, different: the answers of a shadow beside those of the module \
         that serves. placed, passed_on: the share of a canary.",
    );
    for ([service, scheduler], trial) in on_trial() {
        let results = [
            ("same", trial.same),
            ("different", trial.different),
            ("placed", trial.placed),
            ("passed_on", trial.passed_on),
        ];
        for (result, n) in results {
            family.sample(&[service, scheduler, ("mode", &trial.mode), ("result", result)], n);
        }
    }
    let mut family = page.family(
        "uvs_scheduler_trial_failures_total",
        Kind::Counter,
        "Failures of a module on trial. None of them costs a connection.",
    );
    for ([service, scheduler], trial) in on_trial() {
        let failures: u64 = trial.work.failures.values().sum();
        family.sample(&[service, scheduler, ("mode", &trial.mode)], failures);
    }
    let mut family = page.family(
        "uvs_scheduler_trial_pick_seconds",
        Kind::Gauge,
        "What a share of the picks of a module on trial took at most, of one pick in eight.",
    );
    for ([service, scheduler], trial) in on_trial() {
        for (quantile, ns) in [("0.5", trial.work.p50_ns), ("0.99", trial.work.p99_ns)] {
            #[allow(clippy::cast_precision_loss, reason = "a float is what the format has")]
            let seconds = ns.unwrap_or(0) as f64 / 1e9;
            family.sample(&[service, scheduler, ("mode", &trial.mode), ("quantile", quantile)], seconds);
        }
    }
}

fn module_labels(status: &uvs_plugin::Status) -> [LabelPair<'_>; 2] {
    [("service", &status.service), ("scheduler", &status.scheduler)]
}

/// The states of [`uvs_plugin::Serving`].
const SERVING: [&str; 3] = [Serving::Module.label(), Serving::Ejected.label(), Serving::GivenUp.label()];

// The help text above says so.
const _: () = assert!(uvs_plugin::LATENCY_SAMPLE == 8);
