//! What the director reports to Prometheus. METRICS.md lists every metric; a test holds the two together.

mod announce;
mod checks;
mod health;
mod interfaces;
mod listed;
mod notify;
pub mod page;
mod schedulers;
mod vrrp;

use uvs_attach::CacheStatus;
use uvs_director::spec::Forwarding;
use uvs_director::view::{Counters, DestinationView, ServiceView, Status};
use uvs_director::{DropReason, Instant};

use crate::keeper::InterfaceHealth;
use crate::traffic::InterfaceCounts;
use crate::version::Build;
use listed::Listed;
use page::{Kind, LabelPair, Labels, Page};

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
    /// Of at most so many destinations there are series.
    pub destinations_max: usize,
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
    /// VIPs that are told to routers, if any ever are.
    pub announced: Option<crate::announce::Report>,
    /// Virtual routers.
    pub vrrp: uvs_control::ha::Answer,
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
    let checked = snapshot.checks.as_ref().map_or(&[][..], |(_, checked)| checked);
    let listed = Listed::of(&snapshot.services, checked, snapshot.destinations_max);
    process(&mut page, snapshot);
    totals(&mut page, &snapshot.status);
    services(&mut page, &snapshot.services);
    destinations(&mut page, &snapshot.services, &listed);
    connections(&mut page, snapshot);
    schedulers::calls(&mut page, &snapshot.schedulers);
    schedulers::modules(&mut page, &snapshot.modules);
    interfaces::traffic(&mut page, &snapshot.interfaces);
    interfaces::attached(&mut page, &snapshot.attached);
    health::health(&mut page, snapshot);
    checks::checks(&mut page, snapshot.checks.as_ref(), &listed);
    notify::notify(&mut page, &snapshot.notified);
    announce::announce(&mut page, snapshot.announced.as_ref());
    vrrp::vrrp(&mut page, &snapshot.vrrp);
    interfaces::flow_cache(&mut page, snapshot.cache.as_ref(), snapshot.status.flow_evictions);
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
    let sums: [Column<DestinationView, u64>; 4] = [
        ("uvs_service_destinations", "Destinations of a virtual service.", |_| 1),
        (
            "uvs_service_available_destinations",
            "Those of them that take new connections: of a weight above 0 and not overloaded.",
            |view| u64::from(view.spec.weight > 0 && !view.overloaded),
        ),
        ("uvs_service_active_connections", "Connections in an active state.", |view| view.active.into()),
        ("uvs_service_inactive_connections", "Connections in any other state.", |view| view.inactive.into()),
    ];
    for (name, help, of) in sums {
        let mut family = page.family(name, Kind::Gauge, help);
        for (key, service) in each() {
            family.sample(&[("service", key)], service.destinations.iter().map(of).sum::<u64>());
        }
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

fn destinations(page: &mut Page, services: &[ServiceView], listed: &Listed) {
    page.family(
        "uvs_metrics_destinations_omitted",
        Kind::Gauge,
        "Destinations that have no series here, for there are more than metrics are of; those in trouble have.",
    )
    .sample(&[], listed.omitted());
    let rows: Vec<Row<'_>> = services
        .iter()
        .flat_map(|service| {
            let key = service.spec.key;
            let name = key.to_string();
            let shown = service.destinations.iter().filter(move |view| listed.has(key, view.spec.addr));
            shown.map(move |view| Row::new(&name, service.spec.persistence.is_some(), view))
        })
        .collect();

    let mut family = page.family(
        "uvs_destination_info",
        Kind::Gauge,
        "A destination and how packets are forwarded to it; the value is always 1.",
    );
    for row in &rows {
        family.sample_of(&row.labels, &[("method", method(row.view.spec.forwarding))], 1);
    }
    let mut family = page.family(
        "uvs_destination_scheduled_connections_total",
        Kind::Counter,
        "Connections scheduled, by destination.",
    );
    for row in &rows {
        family.sample_of(&row.labels, &[], row.view.counters.connections);
    }
    for (name, help, directions) in [
        ("uvs_destination_packets_total", "Packets by destination and direction.", PACKETS),
        ("uvs_destination_bytes_total", "Bytes by destination and direction, IP headers included.", BYTES),
    ] {
        let mut family = page.family(name, Kind::Counter, help);
        for row in &rows {
            for (direction, read) in directions {
                family.sample_of(&row.labels, &[("direction", direction)], read(&row.view.counters));
            }
        }
    }
    let gauges: [(&str, &str, Read); 5] = [
        ("uvs_destination_weight", "Weight; 0 quiesces: nothing new is scheduled.", |row| {
            Some(row.view.spec.weight)
        }),
        ("uvs_destination_active_connections", "Connections in an active state.", |row| {
            Some(row.view.active)
        }),
        ("uvs_destination_inactive_connections", "Connections in any other state.", |row| {
            Some(row.view.inactive)
        }),
        ("uvs_destination_persistent_connections", "Persistence templates, of persistent services.", |row| {
            (row.persistent || row.view.persistent > 0).then_some(row.view.persistent)
        }),
        (
            "uvs_destination_overloaded",
            "1 while over its upper threshold and not yet below the lower, of destinations that have one.",
            |row| {
                let bounded = row.view.spec.upper_threshold > 0 || row.view.overloaded;
                bounded.then_some(row.view.overloaded.into())
            },
        ),
    ];
    for (name, help, read) in gauges {
        let mut family = page.family(name, Kind::Gauge, help);
        for row in &rows {
            if let Some(value) = read(row) {
                family.sample_of(&row.labels, &[], value);
            }
        }
    }
}

/// What a family shows of a destination; `None`: it can be nothing but 0.
type Read = fn(&Row<'_>) -> Option<u32>;

/// A destination with the labels that name it.
struct Row<'a> {
    labels: Labels,
    /// Whether its service is persistent.
    persistent: bool,
    view: &'a DestinationView,
}

impl<'a> Row<'a> {
    fn new(service: &str, persistent: bool, view: &'a DestinationView) -> Self {
        let labels = Labels::new(&[("service", service), ("destination", &view.spec.addr.to_string())]);
        Self { labels, persistent, view }
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
