//! What the director reports to Prometheus. METRICS.md lists every metric; a test holds the two together.

mod checks;
mod health;
mod notify;
pub mod page;

use uvs_attach::CacheStatus;
use uvs_director::spec::{Forwarding, ServiceKey};
use uvs_director::view::{Counters, DestinationView, ServiceView, Status};
use uvs_director::{DropReason, Instant};
use uvs_plugin::Serving;

use crate::keeper::InterfaceHealth;
use crate::traffic::{FlowCounts, InterfaceCounts, IoFailure};
use crate::version::Build;
use page::{Kind, LabelPair, Page};

/// Everything a page is made from, read at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// This build.
    pub build: Build,
    /// When the process started, in seconds since 1970.
    pub started: f64,
    /// The most neighbours there may be.
    pub neighbor_limit: usize,
    /// The engine as a whole.
    pub status: Status,
    /// Services with their destinations.
    pub services: Vec<ServiceView>,
    /// The module of each service that has one.
    pub schedulers: Vec<SchedulerSample>,
    /// Which modules there are, and what became of those that were to come.
    pub modules: Vec<uvs_plugin::Status>,
    /// Names and counts of the interfaces.
    pub interfaces: Vec<(String, InterfaceCounts)>,
    /// Interfaces attached directly, their links, and whether they are at this moment.
    pub attached: Vec<(String, String, bool)>,
    /// How the interfaces are, in their order.
    pub health: Vec<InterfaceHealth>,
    /// What health checks say, and when they said so; `None` while they do not answer.
    pub checks: Option<(Instant, Vec<uvs_check::core::ServiceView>)>,
    /// What programs that are told what happens came to.
    pub notified: crate::hooks::Report,
    /// The flow cache, if there is one.
    pub cache: Option<CacheStatus>,
    /// Reloads of the configuration.
    pub reloads: Reloads,
}

/// How a service's scheduler did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulerSample {
    /// The service, as in [`ServiceKey`]'s text.
    pub service: String,
    /// The scheduler, as in the configuration.
    pub scheduler: String,
    /// Calls for a pick.
    pub picks: u64,
    /// Of them, those that the module answered with "none".
    pub refused: u64,
    /// Of them, those that the native fallback answered instead.
    pub fallbacks: u64,
    /// Failures by cause.
    pub failures: Vec<(&'static str, u64)>,
    /// Instances made in place of one that died.
    pub rebuilds: u64,
    /// How often the module was ejected.
    pub ejections: u64,
    /// Events that the module was told of.
    pub events: u64,
    /// Who picks now: `module`, or `ejected` or `given_up` for the fallback.
    pub serving: &'static str,
    /// Picks by how long they took: upper bound in seconds, and how many were within it but not the one before.
    pub latency: Vec<(f64, u64)>,
    /// Picks that took longer than the last bound.
    pub latency_above: u64,
    /// Seconds spent in picks.
    pub latency_sum: f64,
}

impl SchedulerSample {
    fn labels(&self) -> [LabelPair<'_>; 2] {
        [("service", &self.service), ("scheduler", &self.scheduler)]
    }
}

/// How often the configuration was read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// It was good and is in force.
    pub done: u64,
    /// It was refused, or could not be applied wholly.
    pub failed: u64,
}

/// A metric that is one field of each `T`: name, help, and how to read it.
type Column<T, N> = (&'static str, &'static str, fn(&T) -> N);

/// Writes the page for Prometheus.
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    process(&mut page, snapshot);
    totals(&mut page, &snapshot.status);
    services(&mut page, &snapshot.services);
    destinations(&mut page, &snapshot.services);
    connections(&mut page, snapshot);
    schedulers(&mut page, &snapshot.schedulers);
    modules(&mut page, &snapshot.modules);
    interfaces(&mut page, &snapshot.interfaces);
    attached(&mut page, &snapshot.attached);
    health::health(&mut page, snapshot);
    checks::checks(&mut page, snapshot.checks.as_ref());
    notify::notify(&mut page, &snapshot.notified);
    flow_cache(&mut page, snapshot.cache.as_ref(), snapshot.status.flow_evictions);
    conflicts(&mut page, snapshot);
    page.into_text()
}

fn process(page: &mut Page, snapshot: &Snapshot) {
    let Build { version, commit, contract, wasmtime } = snapshot.build;
    page.family("uvs_build_info", Kind::Gauge, "What is running; the value is always 1.").sample(
        &[("version", version), ("commit", commit), ("contract", contract), ("wasmtime", wasmtime)],
        1,
    );
    page.family("uvs_start_time_seconds", Kind::Gauge, "When the director started, in seconds since 1970.")
        .sample(&[], snapshot.started);
    let mut family = page.family(
        "uvs_config_reloads_total",
        Kind::Counter,
        "Reloads of the configuration: done, or failed with the old one kept in force.",
    );
    family.sample(&[("result", "done")], snapshot.reloads.done);
    family.sample(&[("result", "failed")], snapshot.reloads.failed);
}

fn totals(page: &mut Page, status: &Status) {
    let total = &status.total;
    page.family(
        "uvs_scheduled_connections_total",
        Kind::Counter,
        "Connections scheduled, removed services included.",
    )
    .sample(&[], total.connections);
    let mut family = page.family(
        "uvs_packets_total",
        Kind::Counter,
        "Packets of virtual services, removed ones included. in: from clients, out: from destinations (NAT only).",
    );
    family.sample(&[("direction", "in")], total.packets_in);
    family.sample(&[("direction", "out")], total.packets_out);
    let mut family = page.family(
        "uvs_bytes_total",
        Kind::Counter,
        "Bytes of virtual services, IP headers included. in: from clients, out: from destinations (NAT only).",
    );
    family.sample(&[("direction", "in")], total.bytes_in);
    family.sample(&[("direction", "out")], total.bytes_out);
    let mut family = page.family("uvs_drops_total", Kind::Counter, "Packets dropped, by reason.");
    for reason in DropReason::ALL {
        let dropped = status.drops.iter().find(|(that, _)| that == reason).map_or(0, |(_, n)| *n);
        family.sample(&[("reason", reason.label())], dropped);
    }
    let mut family = page.family(
        "uvs_entries_removed_total",
        Kind::Counter,
        "Connection entries taken out before their time. evicted: for new ones at the limit, by class; drop_entry: by that option.",
    );
    for (class, count) in &status.evicted {
        family.sample(&[("cause", "evicted"), ("class", class)], *count);
    }
    family.sample(&[("cause", "drop_entry"), ("class", "any")], status.entries_dropped);
    page.family(
        "uvs_neighbors_evicted_total",
        Kind::Counter,
        "Entries of the neighbour table that made room for others at its limit.",
    )
    .sample(&[], status.neighbors_evicted);
    page.family(
        "uvs_hairpin_connections_total",
        Kind::Counter,
        "New connections by NAT between stations of one subnet, whose answers pass the director by.",
    )
    .sample(&[], status.hairpins);
    let local = &status.local;
    page.family("uvs_host_sockets", Kind::Gauge, "Sockets of the director's own that are open, for checks.")
        .sample(&[], local.sockets);
    let mut family = page.family(
        "uvs_host_packets_total",
        Kind::Counter,
        "Packets of the director's own sockets. in: to them, out: from them.",
    );
    family.sample(&[("direction", "in")], local.in_packets);
    family.sample(&[("direction", "out")], local.out_packets);
    let mut family = page.family(
        "uvs_host_bytes_total",
        Kind::Counter,
        "Bytes of the director's own sockets, IP headers included. in: to them, out: from them.",
    );
    family.sample(&[("direction", "in")], local.in_bytes);
    family.sample(&[("direction", "out")], local.out_bytes);
}

/// Which counter a family shows: of clients' packets, destinations' packets...
type Pick = fn(&Counters) -> u64;

const PACKETS: [(&str, Pick); 2] = [("in", |c| c.packets_in), ("out", |c| c.packets_out)];
const BYTES: [(&str, Pick); 2] = [("in", |c| c.bytes_in), ("out", |c| c.bytes_out)];

fn services(page: &mut Page, services: &[ServiceView]) {
    let keys: Vec<String> = services.iter().map(|service| service.spec.key.to_string()).collect();
    let each = || keys.iter().map(String::as_str).zip(services);

    let mut family = page.family(
        "uvs_service_info",
        Kind::Gauge,
        "A virtual service and its scheduler; the value is always 1.",
    );
    for (key, service) in each() {
        family.sample(&[("service", key), ("scheduler", &service.spec.scheduler.name)], 1);
    }
    let mut family = page.family(
        "uvs_service_scheduled_connections_total",
        Kind::Counter,
        "Connections scheduled, by virtual service.",
    );
    for (key, service) in each() {
        family.sample(&[("service", key)], service.counters.connections);
    }
    let mut family = page.family(
        "uvs_service_events_lost_total",
        Kind::Counter,
        "Answers, refusals and silence of destinations that came too fast for the scheduler to hear of.",
    );
    for (key, service) in each() {
        family.sample(&[("service", key)], service.feedback_lost);
    }
    for (name, help, directions) in [
        ("uvs_service_packets_total", "Packets by virtual service and direction.", PACKETS),
        ("uvs_service_bytes_total", "Bytes by virtual service and direction, IP headers included.", BYTES),
    ] {
        let mut family = page.family(name, Kind::Counter, help);
        for (key, service) in each() {
            for (direction, read) in directions {
                family.sample(&[("service", key), ("direction", direction)], read(&service.counters));
            }
        }
    }
}

fn destinations(page: &mut Page, services: &[ServiceView]) {
    let rows: Vec<Row<'_>> = services
        .iter()
        .flat_map(|service| service.destinations.iter().map(move |view| Row::new(&service.spec.key, view)))
        .collect();

    let mut family = page.family(
        "uvs_destination_info",
        Kind::Gauge,
        "A destination and how packets are forwarded to it; the value is always 1.",
    );
    for row in &rows {
        let [service, destination] = row.labels();
        family.sample(&[service, destination, ("method", row.method)], 1);
    }
    let mut family = page.family(
        "uvs_destination_scheduled_connections_total",
        Kind::Counter,
        "Connections scheduled, by destination.",
    );
    for row in &rows {
        family.sample(&row.labels(), row.view.counters.connections);
    }
    for (name, help, directions) in [
        ("uvs_destination_packets_total", "Packets by destination and direction.", PACKETS),
        ("uvs_destination_bytes_total", "Bytes by destination and direction, IP headers included.", BYTES),
    ] {
        let mut family = page.family(name, Kind::Counter, help);
        for row in &rows {
            for (direction, read) in directions {
                let [service, destination] = row.labels();
                family.sample(&[service, destination, ("direction", direction)], read(&row.view.counters));
            }
        }
    }
    let gauges: [Column<DestinationView, u32>; 5] = [
        ("uvs_destination_weight", "Weight; 0 quiesces: nothing new is scheduled.", |view| view.spec.weight),
        ("uvs_destination_active_connections", "Connections in an active state.", |view| view.active),
        ("uvs_destination_inactive_connections", "Connections in any other state.", |view| view.inactive),
        ("uvs_destination_persistent_connections", "Persistence templates.", |view| view.persistent),
        (
            "uvs_destination_overloaded",
            "1 while over its upper threshold and not yet below the lower.",
            |view| view.overloaded.into(),
        ),
    ];
    for (name, help, read) in gauges {
        let mut family = page.family(name, Kind::Gauge, help);
        for row in &rows {
            family.sample(&row.labels(), read(row.view));
        }
    }
}

/// A destination with the labels that name it.
struct Row<'a> {
    service: String,
    destination: String,
    method: &'static str,
    view: &'a DestinationView,
}

impl<'a> Row<'a> {
    fn new(service: &ServiceKey, view: &'a DestinationView) -> Self {
        Self {
            service: service.to_string(),
            destination: view.spec.addr.to_string(),
            method: method(view.spec.forwarding),
            view,
        }
    }

    fn labels(&self) -> [LabelPair<'_>; 2] {
        [("service", &self.service), ("destination", &self.destination)]
    }
}

const fn method(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::Nat => "nat",
        Forwarding::Direct => "dr",
        Forwarding::Tunnel(..) => "tun",
    }
}

fn connections(page: &mut Page, snapshot: &Snapshot) {
    let status = &snapshot.status;
    let mut family = page.family("uvs_connections", Kind::Gauge, "Connections by protocol and state.");
    for (protocol, state, n) in &status.connections_by_state {
        family.sample(&[("protocol", &protocol.to_string()), ("state", state)], n);
    }
    let gauges: [(&'static str, &str, usize); 4] = [
        (
            "uvs_connection_entries",
            "Entries of the connection table, templates included.",
            status.connections,
        ),
        ("uvs_connection_entries_limit", "The most entries it takes.", status.connections_max),
        ("uvs_neighbors", "Entries of the neighbour table (ARP, ND).", status.neighbors),
        ("uvs_neighbors_limit", "The most entries it takes.", snapshot.neighbor_limit),
    ];
    for (name, help, value) in gauges {
        page.family(name, Kind::Gauge, help).sample(&[], value);
    }
}

fn schedulers(page: &mut Page, samples: &[SchedulerSample]) {
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
fn modules(page: &mut Page, modules: &[uvs_plugin::Status]) {
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

fn interfaces(page: &mut Page, interfaces: &[(String, InterfaceCounts)]) {
    let directions =
        |counts: &InterfaceCounts| [("receive", counts.received), ("transmit", counts.transmitted)];
    let counters: [Column<FlowCounts, u64>; 4] = [
        (
            "uvs_interface_frames_total",
            "Frames read from and written to a device of the director; a GSO packet counts as one.",
            |flow| flow.frames,
        ),
        ("uvs_interface_bytes_total", "Bytes of these frames.", |flow| flow.bytes),
        ("uvs_interface_gso_packets_total", "Those of the frames that were GSO packets.", |flow| {
            flow.gso_packets
        }),
        ("uvs_interface_gso_segments_total", "Packets in these GSO packets.", |flow| flow.gso_segments),
    ];
    for (name, help, read) in counters {
        let mut family = page.family(name, Kind::Counter, help);
        for (interface, counts) in interfaces {
            for (direction, flow) in directions(counts) {
                family.sample(&[("interface", interface), ("direction", direction)], read(&flow));
            }
        }
    }
    let mut family = page.family(
        "uvs_interface_split_gso_packets_total",
        Kind::Counter,
        "GSO packets that were written packet by packet, for the device does not take them as one.",
    );
    for (interface, counts) in interfaces {
        family.sample(
            &[("interface", interface), ("direction", "transmit")],
            counts.transmitted.split_gso_packets,
        );
    }
    let mut family =
        page.family("uvs_interface_errors_total", Kind::Counter, "Reads and writes that a device refused.");
    for (interface, counts) in interfaces {
        for (direction, flow) in directions(counts) {
            for (failure, n) in IoFailure::ALL.into_iter().zip(flow.errors) {
                family.sample(
                    &[("interface", interface), ("direction", direction), ("reason", failure.label())],
                    n,
                );
            }
        }
    }
}

fn attached(page: &mut Page, attached: &[(String, String, bool)]) {
    let mut family = page.family(
        "uvs_interface_attached",
        Kind::Gauge,
        "Whether an interface with attach = \"tcx\" is attached to its link: 0 while the link is not there.",
    );
    for (interface, link, now) in attached {
        family.sample(&[("interface", interface), ("link", link)], u64::from(*now));
    }
}

fn flow_cache(page: &mut Page, status: Option<&CacheStatus>, evicted: u64) {
    let Some(status) = status else { return };
    let gauges: [Column<CacheStatus, u64>; 3] = [
        (
            "uvs_flow_cache_flows",
            "Flows in the kernel's flow cache: two of a NAT connection, one of others.",
            |status| status.flows as u64,
        ),
        ("uvs_flow_cache_flows_max", "Flows of each IP version that have room in it.", |status| {
            status.flows_max as u64
        }),
        ("uvs_flow_cache_next_hops", "Next hops that the flow cache sends to.", |status| {
            status.next_hops as u64
        }),
    ];
    let counters: [Column<CacheStatus, u64>; 6] = [
        ("uvs_flow_cache_connections_total", "Connections placed in the flow cache.", |status| status.placed),
        (
            "uvs_flow_cache_refused_total",
            "Tries to place a connection for which the flow cache had no room: its packets pass the director.",
            |status| status.refused,
        ),
        ("uvs_flow_cache_packets_total", "Packets forwarded by the flow cache.", |status| status.packets),
        (
            "uvs_flow_cache_unreported_total",
            "Packets that passed the director because it could not be told of them otherwise.",
            |status| status.unreported,
        ),
        (
            "uvs_flow_cache_dropped_total",
            "Packets that the flow cache dropped: the kernel did not let them be rewritten.",
            |status| status.dropped,
        ),
        (
            "uvs_flow_cache_failed_total",
            "Operations on the maps of the flow cache that failed: the kernel refused, or next hops or destinations are too many.",
            |status| status.failed,
        ),
    ];
    for (name, help, read) in gauges {
        page.family(name, Kind::Gauge, help).sample(&[], read(status));
    }
    for (name, help, read) in counters {
        page.family(name, Kind::Counter, help).sample(&[], read(status));
    }
    page.family(
        "uvs_flow_cache_evicted_total",
        Kind::Counter,
        "Connections that left a full flow cache for others, having been idle: their packets pass the director.",
    )
    .sample(&[], evicted);
}

fn conflicts(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.family(
        "uvs_address_conflicts_total",
        Kind::Counter,
        "How often another station claimed an address of the director; in DR a realserver that answers ARP for the VIP.",
    );
    for conflict in &snapshot.status.conflicts {
        let interface = snapshot.interfaces.get(usize::from(conflict.port.0)).map_or("", |(name, _)| name);
        family.sample(
            &[
                ("interface", interface),
                ("address", &conflict.addr.to_string()),
                ("mac", &conflict.mac.to_string()),
            ],
            conflict.count,
        );
    }
}

#[cfg(test)]
mod tests;
