//! What health checks say.

use uvs_check::core::{CheckView, DestinationView, ServiceView, State};
use uvs_check::weight::Admin;
use uvs_director::Instant;

use super::page::{Kind, LabelPair, Page};

/// What people and agents want of each destination, checked or not.
fn administrative(page: &mut Page, services: &[ServiceView]) {
    let mut family = page.family(
        "uvs_destination_admin",
        Kind::Gauge,
        "What people, or its agent, want of a destination: 0 it serves, 1 it is drained, 2 it is in maintenance.",
    );
    for service in services {
        let name = service.key.to_string();
        for it in &service.destinations {
            let state = match it.slots.admin() {
                Admin::Ready => 0,
                Admin::Drain => 1,
                Admin::Maint => 2,
            };
            family.sample(&[("service", &name), ("destination", &it.addr.to_string())], state);
        }
    }
}

/// States, results and their age, of services that are checked. `None`: the checks do not answer.
pub(super) fn checks(page: &mut Page, view: Option<&(Instant, Vec<ServiceView>)>) {
    let mut family = page.family(
        "uvs_checks_stuck",
        Kind::Gauge,
        "1 while health checks do not answer, and what they said last holds.",
    );
    family.sample(&[], u8::from(view.is_none()));
    let empty = (Instant::ZERO, Vec::new());
    let (now, services) = view.unwrap_or(&empty);
    administrative(page, services);
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
    let destinations: Vec<(&String, String, &DestinationView)> = all()
        .flat_map(|(name, service)| {
            service.destinations.iter().map(move |it| (name, it.addr.to_string(), it))
        })
        .collect();
    let mut family = page.family(
        "uvs_destination_in_service",
        Kind::Gauge,
        "1 while all checks of a destination are up and it is not held for its flaps.",
    );
    for (service, addr, it) in &destinations {
        family.sample(&[("service", service), ("destination", addr)], u8::from(it.in_service));
    }
    let mut family = page.family(
        "uvs_destination_flaps_total",
        Kind::Counter,
        "How often a destination went out of service by its checks.",
    );
    for (service, addr, it) in &destinations {
        family.sample(&[("service", service), ("destination", addr)], it.flaps);
    }
    let checks = || {
        destinations.iter().flat_map(|(service, addr, it)| {
            it.checks.iter().map(move |check| {
                let labels: [LabelPair<'_>; 3] =
                    [("service", service), ("destination", addr), ("check", &check.name)];
                (labels, check)
            })
        })
    };
    let mut family =
        page.family("uvs_check_state", Kind::Gauge, "1 for what a check says of its destination.");
    for ([service, destination, check], it) in checks() {
        for state in State::ALL {
            let text = state.to_string().replace(' ', "_");
            family.sample(&[service, destination, check, ("state", &text)], u8::from(it.state == state));
        }
    }
    let mut family =
        page.family("uvs_check_results_total", Kind::Counter, "Results of a check by their outcome.");
    for ([service, destination, check], CheckView { outcomes, .. }) in checks() {
        let all = [
            ("passed", outcomes.passed),
            ("failed", outcomes.failed),
            ("unmade", outcomes.unmade),
            ("overdue", outcomes.overdue),
        ];
        for (outcome, count) in all {
            family.sample(&[service, destination, check, ("outcome", outcome)], count);
        }
    }
    let mut family =
        page.family("uvs_check_flaps_total", Kind::Counter, "How often a check went from up to down.");
    for (labels, it) in checks() {
        family.sample(&labels, it.flaps);
    }
    let mut family =
        page.family("uvs_check_duration_seconds", Kind::Gauge, "How long the last probe of a check took.");
    for (labels, it) in checks() {
        if let Some(last) = &it.last {
            family.sample(&labels, last.took.as_secs_f64());
        }
    }
    let mut family = page.family(
        "uvs_check_late_seconds",
        Kind::Gauge,
        "By how much the last probe of a check started later than it was due.",
    );
    for (labels, it) in checks() {
        family.sample(&labels, it.late.as_secs_f64());
    }
    let mut family =
        page.family("uvs_check_age_seconds", Kind::Gauge, "How old the last result of a check is.");
    for (labels, it) in checks() {
        if let Some(last) = &it.last {
            family.sample(&labels, now.since(last.at).as_secs_f64());
        }
    }
    let mut family = page.family(
        "uvs_check_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate of the server expires, in seconds since 1970.",
    );
    for (labels, it) in checks() {
        if let Some(expires) = it.expires {
            family.sample(&labels, expires);
        }
    }
    let mut family = page.family(
        "uvs_check_overdue",
        Kind::Gauge,
        "1 while the result of a check should long have come: nobody makes it, or there are too many.",
    );
    for (labels, it) in checks() {
        family.sample(&labels, u8::from(it.is_overdue(*now)));
    }
}
