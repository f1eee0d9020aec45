//! What health checks say.

use uvs_check::core::{CheckView, DestinationView, ServiceView};
use uvs_check::weight::Admin;
use uvs_director::Instant;

use super::listed::Listed;
use super::page::{Kind, Labels, Page};

/// A destination, and the labels that name it.
struct Row<'a> {
    labels: Labels,
    /// Whether its service is checked.
    judged: bool,
    view: &'a DestinationView,
    /// With the labels that name each.
    checks: Vec<(Labels, &'a CheckView)>,
}

/// The destinations that are listed, of services that are checked or not.
fn rows<'a>(services: &'a [ServiceView], listed: &Listed) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for service in services {
        let name = service.key.to_string();
        for view in service.destinations.iter().filter(|it| listed.has(service.key, it.addr)) {
            let labels = Labels::new(&[("service", &name), ("destination", &view.addr.to_string())]);
            let checks =
                view.checks.iter().map(|check| (labels.and(("check", &check.name)), check)).collect();
            rows.push(Row { labels, judged: service.judged, view, checks });
        }
    }
    rows
}

/// What people and agents want of each destination, checked or not.
fn administrative(page: &mut Page, rows: &[Row<'_>]) {
    let mut family = page.family(
        "uvs_destination_admin",
        Kind::Gauge,
        "What people, or its agent, want of a destination: 0 it serves, 1 it is drained, 2 it is in maintenance.",
    );
    for row in rows {
        let state = match row.view.slots.admin() {
            Admin::Ready => 0,
            Admin::Drain => 1,
            Admin::Maint => 2,
        };
        family.sample_of(&row.labels, &[], state);
    }
}

/// States, results and their age, of services that are checked. `None`: the checks do not answer.
pub(super) fn checks(page: &mut Page, view: Option<&(Instant, Vec<ServiceView>)>, listed: &Listed) {
    let mut family = page.family(
        "uvs_checks_stuck",
        Kind::Gauge,
        "1 while health checks do not answer, and what they said last holds.",
    );
    family.sample(&[], u8::from(view.is_none()));
    let empty = (Instant::ZERO, Vec::new());
    let (now, services) = view.unwrap_or(&empty);
    let rows = rows(services, listed);
    administrative(page, &rows);
    let services: Vec<&ServiceView> = services.iter().filter(|service| service.judged).collect();
    let names: Vec<String> = services.iter().map(|service| service.key.to_string()).collect();
    let all = || names.iter().zip(services.iter().copied());
    let mut family = page.family(
        "uvs_service_quorum",
        Kind::Gauge,
        "1 while enough of a service's destinations are in service, 0 while the quorum is lost.",
    );
    for (name, service) in all() {
        family.sample(&[("service", name)], u8::from(service.quorum != Some(false)));
    }
    let mut family =
        page.family("uvs_service_backup", Kind::Gauge, "1 while the backups of a service serve.");
    for (name, service) in all() {
        family.sample(&[("service", name)], u8::from(service.backup));
    }
    let destinations: Vec<&Row<'_>> = rows.iter().filter(|row| row.judged).collect();
    let mut family = page.family(
        "uvs_destination_in_service",
        Kind::Gauge,
        "1 while all checks of a destination are up and it is not held for its flaps.",
    );
    for row in &destinations {
        family.sample_of(&row.labels, &[], u8::from(row.view.in_service));
    }
    let mut family = page.family(
        "uvs_destination_flaps_total",
        Kind::Counter,
        "How often a destination went out of service by its checks.",
    );
    for row in &destinations {
        family.sample_of(&row.labels, &[], row.view.flaps);
    }
    let checks = || destinations.iter().flat_map(|row| &row.checks).map(|(labels, it)| (labels, *it));
    let mut family = page.family(
        "uvs_check_state",
        Kind::Gauge,
        "1 for what a check says of its destination; there is no series of what it does not say.",
    );
    for (labels, it) in checks() {
        let state = it.state.to_string().replace(' ', "_");
        family.sample_of(labels, &[("state", &state)], 1);
    }
    let mut family =
        page.family("uvs_check_results_total", Kind::Counter, "Results of a check by their outcome.");
    for (labels, CheckView { outcomes, .. }) in checks() {
        let all = [
            ("passed", outcomes.passed),
            ("failed", outcomes.failed),
            ("unmade", outcomes.unmade),
            ("overdue", outcomes.overdue),
        ];
        for (outcome, count) in all {
            family.sample_of(labels, &[("outcome", outcome)], count);
        }
    }
    let mut family =
        page.family("uvs_check_flaps_total", Kind::Counter, "How often a check went from up to down.");
    for (labels, it) in checks() {
        family.sample_of(labels, &[], it.flaps);
    }
    let mut family =
        page.family("uvs_check_duration_seconds", Kind::Gauge, "How long the last probe of a check took.");
    for (labels, it) in checks() {
        if let Some(last) = &it.last {
            family.sample_of(labels, &[], last.took.as_secs_f64());
        }
    }
    let mut family = page.family(
        "uvs_check_late_seconds",
        Kind::Gauge,
        "By how much the last probe of a check started later than it was due.",
    );
    for (labels, it) in checks() {
        family.sample_of(labels, &[], it.late.as_secs_f64());
    }
    let mut family =
        page.family("uvs_check_age_seconds", Kind::Gauge, "How old the last result of a check is.");
    for (labels, it) in checks() {
        if let Some(last) = &it.last {
            family.sample_of(labels, &[], now.since(last.at).as_secs_f64());
        }
    }
    let mut family = page.family(
        "uvs_check_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate of the server expires, in seconds since 1970.",
    );
    for (labels, it) in checks() {
        if let Some(expires) = it.expires {
            family.sample_of(labels, &[], expires);
        }
    }
    let mut family = page.family(
        "uvs_check_overdue",
        Kind::Gauge,
        "1 while the result of a check should long have come: nobody makes it, or there are too many.",
    );
    for (labels, it) in checks() {
        family.sample_of(labels, &[], u8::from(it.is_overdue(*now)));
    }
}
