use std::collections::BTreeMap;

use uvs_director::PortId;
use uvs_director::spec::{DestinationSpec, Protocol, SchedulerSpec, ServiceKey, ServiceSpec};
use uvs_director::view::{AddressConflict, LocalView, Rates};
use uvs_plugin::{By, ModuleStatus, TrialStatus, Work};

use super::*;
use crate::traffic::IoFailure;

/// A director with one of everything.
fn busy() -> Snapshot {
    let counters =
        Counters { connections: 3, packets_in: 40, packets_out: 30, bytes_in: 5000, bytes_out: 60_000 };
    let key = ServiceKey::new(Protocol::Tcp, "192.0.2.10:80".parse().unwrap());
    let mut spec = DestinationSpec::new("10.0.0.3:8080".parse().unwrap(), Forwarding::Nat);
    spec.weight = 5;
    spec.upper_threshold = 3;
    let destination = DestinationView {
        spec,
        local: false,
        active: 2,
        inactive: 1,
        persistent: 0,
        overloaded: true,
        counters,
        rates: Rates::default(),
    };
    let mut interface = InterfaceCounts::default();
    interface.received.frames = 70;
    interface.transmitted.errors[IoFailure::LinkDown as usize] = 4;
    Snapshot {
        build: Build { version: "0.1.0", commit: "abc", contract: "uvs:scheduler@0.1.0", wasmtime: "48.0.0" },
        started: 1000.5,
        neighbor_limit: 100,
        status: Status {
            total: counters,
            connections: 3,
            connections_max: 1000,
            conflicts: vec![AddressConflict {
                addr: "192.0.2.10".parse().unwrap(),
                mac: "02:00:00:00:00:15".parse().unwrap(),
                port: PortId(0),
                count: 6,
            }],
            connections_by_state: vec![(Protocol::Tcp, "ESTABLISHED", 2), (Protocol::Udp, "UDP", 1)],
            drops: vec![(DropReason::NoRoute, 9)],
            neighbors: 7,
            neighbors_evicted: 13,
            hairpins: 14,
            flow_evictions: 6,
            local: LocalView { sockets: 15, in_packets: 16, out_bytes: 17, ..LocalView::default() },
            evicted: vec![("half_open", 11), ("template", 0)],
            entries_dropped: 12,
            ..Status::default()
        },
        services: vec![ServiceView {
            feedback_lost: 0,
            spec: ServiceSpec::new(key, SchedulerSpec::named("rr")),
            counters,
            rates: Rates::default(),
            destinations: vec![destination],
        }],
        destinations_max: 10,
        schedulers: vec![SchedulerSample {
            service: key.to_string(),
            scheduler: "rr".to_owned(),
            picks: 3,
            fallbacks: 1,
            failures: vec![("trap", 1), ("fuel", 0)],
            serving: "module",
            latency: vec![(0.000_001, 1), (0.000_01, 1)],
            latency_above: 1,
            latency_sum: 0.5,
            ..SchedulerSample::default()
        }],
        modules: vec![module()],
        interfaces: vec![("uvs0".to_owned(), interface)],
        attached: vec![("uvs0".to_owned(), "eth0".to_owned(), true)],
        health: vec![InterfaceHealth {
            state: crate::keeper::State::Degraded,
            reasons: vec!["eth0 has no carrier".to_owned()],
            mtu: 1450,
            repairs: 2,
            losses: vec![crate::keeper::DeviceLosses {
                device: "eth0".to_owned(),
                role: crate::keeper::Role::Link,
                receive: (8, 9),
                transmit: (10, 0),
            }],
        }],
        checks: Some((uvs_director::Instant::from_secs(20), checked(key))),
        notified: crate::hooks::Report {
            lost: 1,
            running: 2,
            waiting: 3,
            samples: vec![(
                "told".into(),
                crate::hooks::Sample { runs: [4, 5, 6, 7], merged: 8, dropped: 9 },
            )],
        },
        announced: Some(crate::announce::Report {
            vips: vec![("192.0.2.10".into(), "uvs0".into(), true)],
            counts: crate::announce::Counts { announced: 2, withdrawn: 1, failed: 3 },
        }),
        vrrp: virtual_routers(),
        cache: Some(CacheStatus {
            flows: 2,
            flows_max: 8,
            next_hops: 2,
            placed: 5,
            refused: 1,
            packets: 7,
            unreported: 0,
            dropped: 3,
            failed: 4,
        }),
        reloads: Reloads { done: 2, failed: 1 },
    }
}

/// One that is active, and has heard another.
fn virtual_routers() -> uvs_control::ha::Answer {
    use uvs_control::ha::{Answer, Counts, Group, Heard, Refused, Router};

    let refused = || vec![Refused { reason: "checksum".to_owned(), count: 3 }];
    let router = Router {
        name: "web".to_owned(),
        interface: "uvs0".to_owned(),
        heard: vec![Heard { from: "192.0.2.3".to_owned(), age_s: 0.5, ..Heard::default() }],
        counts: Counts { sent: 7, ..Counts::default() },
        refused: refused(),
        ..Router::default()
    };
    let group =
        Group { state: "active".to_owned(), priority: 100, routers: vec![router], ..Group::default() };
    Answer { groups: vec![group], strays: refused() }
}

/// A destination that one check has found to be up.
fn checked(key: ServiceKey) -> Vec<uvs_check::core::ServiceView> {
    use std::sync::Arc;

    use uvs_check::core::{Bounds, Core};
    use uvs_check::net::Target;
    use uvs_check::outcome::{Outcome, Verdict};
    use uvs_check::spec::{CheckPlan, DestinationPlan, Kind, Plan, ProbeSpec, Schedule, ServicePlan, Talk};
    use uvs_check::weight::Admin;
    use uvs_director::{Duration, Instant};

    let addr = "10.0.0.3:8080".parse().unwrap();
    let schedule = Schedule::every(Duration::from_secs(2), Duration::from_secs(1));
    let kind = Kind::Tcp(Talk::default());
    let probe = Arc::new(ProbeSpec { kind, target: Target::direct(addr), schedule });
    let check = CheckPlan { name: "web".into(), probe, rise: 2, fall: 3, unmade: Default::default() };
    let destination = DestinationPlan {
        addr,
        weight: Some(5),
        adm: None,
        admin: Admin::Ready,
        backup: false,
        serves: false,
        checks: vec![check],
    };
    let (quorum, policy) = Default::default();
    let mut core = Core::new(Bounds::default(), 1);
    core.apply(
        Plan {
            services: vec![ServicePlan {
                key,
                quorum,
                policy,
                judged: true,
                destinations: vec![destination],
            }],
            drain: None,
        },
        Instant::ZERO,
    );
    let mut starts = Vec::new();
    core.poll(Instant::ZERO, &mut starts);
    let passed = Outcome::plain(Verdict::Pass("connected".into()), Duration::from_millis(500));
    core.finish(starts[0].run, passed, Instant::from_secs(1));
    core.poll(Instant::from_secs(1), &mut starts);
    core.view()
}

/// A module that took over once, after one was refused, with a shadow beside it.
fn module() -> uvs_plugin::Status {
    let module =
        ModuleStatus { origin: "rr".into(), sha256: "ab".repeat(32), bytes: 9, options: String::new() };
    let work = Work {
        serving: "module".into(),
        picks: 3,
        none: 0,
        fallbacks: 1,
        failures: BTreeMap::from([("trap".to_owned(), 2), ("fuel".to_owned(), 3)]),
        rebuilds: 1,
        ejections: 0,
        timed: 1,
        timed_ns: 300,
        p50_ns: Some(400),
        p99_ns: None,
        last_failure: None,
        said: None,
    };
    uvs_plugin::Status {
        service: "tcp 192.0.2.10:80".into(),
        scheduler: "rr".into(),
        module: module.clone(),
        since: 0,
        by: By::Load,
        fallback: "wlc".into(),
        work: work.clone(),
        latest_load: None,
        loaded: 1,
        refused: BTreeMap::from([("replay".to_owned(), 4)]),
        previous: None,
        trial: Some(TrialStatus {
            mode: "shadow".into(),
            percent: None,
            module,
            work,
            same: 7,
            different: 8,
            placed: 0,
            passed_on: 0,
        }),
    }
}

#[test]
fn every_figure_is_on_the_page() {
    let page = render(&busy());
    let wanted = [
        r#"uvs_build_info{version="0.1.0",commit="abc",contract="uvs:scheduler@0.1.0",wasmtime="48.0.0"} 1"#,
        "uvs_start_time_seconds 1000.5",
        r#"uvs_interface_attached{interface="uvs0",link="eth0"} 1"#,
        r#"uvs_interface_state{interface="uvs0",state="degraded"} 1"#,
        r#"uvs_interface_mtu_bytes{interface="uvs0"} 1450"#,
        r#"uvs_interface_repairs_total{interface="uvs0"} 2"#,
        r#"uvs_device_dropped_total{interface="uvs0",device="eth0",role="link",direction="receive"} 8"#,
        r#"uvs_device_errors_total{interface="uvs0",device="eth0",role="link",direction="receive"} 9"#,
        "uvs_flow_cache_flows 2",
        "uvs_flow_cache_packets_total 7",
        "uvs_flow_cache_evicted_total 6",
        "uvs_flow_cache_dropped_total 3",
        "uvs_flow_cache_failed_total 4",
        r#"uvs_config_reloads_total{result="failed"} 1"#,
        "uvs_scheduled_connections_total 3",
        r#"uvs_packets_total{direction="in"} 40"#,
        r#"uvs_bytes_total{direction="out"} 60000"#,
        r#"uvs_drops_total{reason="no_route"} 9"#,
        r#"uvs_drops_total{reason="truncated"} 0"#,
        r#"uvs_service_destinations{service="tcp 192.0.2.10:80"} 1"#,
        r#"uvs_service_available_destinations{service="tcp 192.0.2.10:80"} 0"#,
        "uvs_metrics_destinations_omitted 0",
        r#"uvs_check_state{service="tcp 192.0.2.10:80",destination="10.0.0.3:8080",check="web",state="up"} 1"#,
        r#"uvs_service_packets_total{service="tcp 192.0.2.10:80",direction="out"} 30"#,
        r#"uvs_service_info{service="tcp 192.0.2.10:80",scheduler="rr"} 1"#,
        r#"uvs_destination_bytes_total{service="tcp 192.0.2.10:80",destination="10.0.0.3:8080",direction="in"} 5000"#,
        r#"uvs_destination_info{service="tcp 192.0.2.10:80",destination="10.0.0.3:8080",method="nat"} 1"#,
        r#"uvs_destination_weight{service="tcp 192.0.2.10:80",destination="10.0.0.3:8080"} 5"#,
        r#"uvs_destination_active_connections{service="tcp 192.0.2.10:80",destination="10.0.0.3:8080"} 2"#,
        r#"uvs_destination_overloaded{service="tcp 192.0.2.10:80",destination="10.0.0.3:8080"} 1"#,
        r#"uvs_connections{protocol="tcp",state="ESTABLISHED"} 2"#,
        "uvs_connection_entries 3",
        "uvs_connection_entries_limit 1000",
        r#"uvs_destination_admin{service="tcp 192.0.2.10:80",destination="10.0.0.3:8080"} 0"#,
        "uvs_neighbors 7",
        "uvs_neighbors_evicted_total 13",
        "uvs_hairpin_connections_total 14",
        "uvs_host_sockets 15",
        r#"uvs_host_packets_total{direction="in"} 16"#,
        r#"uvs_host_bytes_total{direction="out"} 17"#,
        r#"uvs_entries_removed_total{cause="evicted",class="half_open"} 11"#,
        r#"uvs_entries_removed_total{cause="evicted",class="template"} 0"#,
        r#"uvs_entries_removed_total{cause="drop_entry",class="any"} 12"#,
        r#"uvs_scheduler_picks_total{service="tcp 192.0.2.10:80",scheduler="rr"} 3"#,
        r#"uvs_scheduler_fallbacks_total{service="tcp 192.0.2.10:80",scheduler="rr"} 1"#,
        r#"uvs_scheduler_failures_total{service="tcp 192.0.2.10:80",scheduler="rr",cause="trap"} 1"#,
        r#"uvs_scheduler_serving{service="tcp 192.0.2.10:80",scheduler="rr",state="module"} 1"#,
        r#"uvs_scheduler_serving{service="tcp 192.0.2.10:80",scheduler="rr",state="ejected"} 0"#,
        r#"uvs_scheduler_pick_duration_seconds_bucket{service="tcp 192.0.2.10:80",scheduler="rr",le="0.00001"} 2"#,
        r#"uvs_scheduler_pick_duration_seconds_count{service="tcp 192.0.2.10:80",scheduler="rr"} 3"#,
        r#"uvs_scheduler_loads_total{service="tcp 192.0.2.10:80",scheduler="rr"} 1"#,
        r#"uvs_scheduler_load_refusals_total{service="tcp 192.0.2.10:80",scheduler="rr",step="replay"} 4"#,
        r#"uvs_scheduler_load_refusals_total{service="tcp 192.0.2.10:80",scheduler="rr",step="pin"} 0"#,
        r#"uvs_scheduler_trial_picks_total{service="tcp 192.0.2.10:80",scheduler="rr",mode="shadow",result="different"} 8"#,
        r#"uvs_scheduler_trial_failures_total{service="tcp 192.0.2.10:80",scheduler="rr",mode="shadow"} 5"#,
        r#"uvs_interface_frames_total{interface="uvs0",direction="receive"} 70"#,
        r#"uvs_interface_errors_total{interface="uvs0",direction="transmit",reason="link_down"} 4"#,
        r#"uvs_address_conflicts_total{interface="uvs0",address="192.0.2.10",mac="02:00:00:00:00:15"} 6"#,
    ];
    for line in wanted {
        assert!(page.lines().any(|that| that == line), "{line} is not in\n{page}");
    }
}

#[test]
fn all_reasons_to_drop_are_there_from_the_start() {
    let page = render(&Snapshot {
        status: Status::default(),
        services: Vec::new(),
        schedulers: Vec::new(),
        modules: Vec::new(),
        interfaces: Vec::new(),
        ..busy()
    });
    for reason in DropReason::ALL {
        let line = format!("uvs_drops_total{{reason=\"{}\"}} 0", reason.label());
        assert!(page.lines().any(|that| that == line), "{line}");
    }
}

#[test]
fn no_series_appears_twice_and_each_has_help_and_type() {
    let page = render(&busy());
    let mut series = std::collections::BTreeSet::new();
    let (mut helped, mut typed) = (None, None);
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split(' ').next();
            assert!(rest.len() > helped.unwrap().len() + 5, "no help in {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(Some(name), helped, "type without help");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            typed = Some(name);
        } else {
            let (name, _) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(name), "{name} is there twice");
            assert!(name.starts_with(typed.unwrap()), "{name} is not of {typed:?}");
        }
    }
}

#[test]
fn the_document_lists_exactly_what_is_exported() {
    let document = include_str!("../../METRICS.md");
    let documented: Vec<(&str, &str)> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `uvs_"))
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            (cells.next().unwrap().trim_end_matches('`'), cells.next().unwrap())
        })
        .collect();
    let page = render(&busy());
    let exported: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE uvs_"))
        .map(|rest| rest.split_once(' ').unwrap())
        .collect();
    assert_eq!(documented, exported, "METRICS.md and the page differ (left: the document)");
    for reason in DropReason::ALL {
        assert!(document.contains(&format!("`{}`", reason.label())), "{reason} is not in METRICS.md");
    }
}

/// A director with so many destinations, all of which are checked. `out` are out of service.
fn large(services: u8, destinations: u8, out: &[(u8, u8)]) -> Snapshot {
    let mut snapshot = busy();
    let (service, checked) = (snapshot.services[0].clone(), snapshot.checks.take().unwrap());
    let calls = snapshot.schedulers[0].clone();
    let module = snapshot.modules[0].clone();
    (snapshot.services, snapshot.schedulers, snapshot.modules) = Default::default();
    let mut views = Vec::new();
    for a in 0..services {
        let key = ServiceKey::new(Protocol::Tcp, std::net::SocketAddr::from(([192, 0, a, 10], 80)));
        let addr = |b| std::net::SocketAddr::from(([10, a, b, 3], 8080));
        let mut of = service.clone();
        of.spec.key = key;
        let mut of_checks = checked.1[0].clone();
        of_checks.key = key;
        let mut health = of_checks.destinations.remove(0);
        let mut one = of.destinations.remove(0);
        one.overloaded = false;
        for b in 0..destinations {
            one.spec.addr = addr(b);
            health.addr = addr(b);
            health.in_service = !out.contains(&(a, b));
            of.destinations.push(one);
            of_checks.destinations.push(health.clone());
        }
        snapshot.services.push(of);
        views.push(of_checks);
        snapshot.schedulers.push(SchedulerSample { service: key.to_string(), ..calls.clone() });
        snapshot.modules.push(uvs_plugin::Status { service: key.to_string(), ..module.clone() });
    }
    snapshot.checks = Some((checked.0, views));
    snapshot
}

/// The destinations of a family, as its lines name them.
fn named<'p>(page: &'p str, family: &str) -> Vec<&'p str> {
    let start = format!("{family}{{");
    let lines = page.lines().filter(|line| line.starts_with(&start));
    lines.map(|line| line.split("destination=\"").nth(1).unwrap().split('"').next().unwrap()).collect()
}

#[test]
fn of_too_many_destinations_those_in_trouble_are_there_and_the_rest_is_counted() {
    let mut snapshot = large(3, 4, &[(1, 2), (2, 3)]);
    snapshot.services[2].destinations[0].spec.weight = 0;
    snapshot.destinations_max = 5;
    let page = render(&snapshot);
    let wanted = ["10.0.0.3:8080", "10.0.1.3:8080", "10.1.2.3:8080", "10.2.0.3:8080", "10.2.3.3:8080"];
    for family in ["uvs_destination_weight", "uvs_destination_in_service", "uvs_check_flaps_total"] {
        assert_eq!(named(&page, family), wanted, "{family}");
    }
    assert!(page.contains("\nuvs_metrics_destinations_omitted 7\n"));
    let sums = |name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(sums("uvs_service_scheduled_connections_total{"), 3, "services are all there");
    assert!(page.contains("uvs_service_destinations{service=\"tcp 192.0.0.10:80\"} 4"), "and count all");
    snapshot.destinations_max = 2;
    let page = render(&snapshot);
    assert_eq!(
        named(&page, "uvs_destination_weight"),
        ["10.1.2.3:8080", "10.2.0.3:8080"],
        "the first in trouble"
    );
    snapshot.destinations_max = 0;
    let page = render(&snapshot);
    assert!(!page.contains("uvs_destination_weight{") && !page.contains("uvs_check_state{"));
    assert!(page.contains("\nuvs_metrics_destinations_omitted 12\n"));
}

#[test]
fn a_page_is_bounded_by_the_destinations_that_it_is_of() {
    // What is in router/METRICS.md: 1 kB of a destination and as much again, and a half, of its check.
    let of_one_service = |destinations| {
        let mut snapshot = large(1, destinations, &[]);
        snapshot.destinations_max = usize::MAX;
        render(&snapshot)
    };
    let (none, many) = (of_one_service(0), of_one_service(100));
    let lines = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(lines(&many) - lines(&none) <= 100 * 24, "{}", lines(&many) - lines(&none));
    assert!(many.len() - none.len() <= 100 * 2700, "{} bytes of each", (many.len() - none.len()) / 100);
    // As many destinations as there may be, and as many again: it is no longer for them.
    let bounded = |destinations| {
        let mut snapshot = large(50, destinations, &[]);
        snapshot.destinations_max = 50 * 100;
        lines(&render(&snapshot))
    };
    let (full, overfull) = (bounded(100), bounded(200));
    assert_eq!(overfull, full);
}
