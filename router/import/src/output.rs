//! The configuration of uvs that comes out, and its TOML.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashSet;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};
use uvs_config::entries::{self, Entries, integer};
use uvs_director::spec::{DestinationSpec, Forwarding, Prefix, ServiceKey, ServiceSpec, Timeouts};

use crate::model::RunAs;
use crate::remark::At;

/// One `[[check]]`: its keys in order, without its name.
pub(crate) type CheckKeys = Vec<(&'static str, Value)>;

/// What a destination's checks ask otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) port: Option<u16>,
    pub(crate) host: Option<String>,
    pub(crate) path: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) spec: DestinationSpec,
    pub(crate) own: Own,
    /// Into [`Output::checks`], in place of the service's.
    pub(crate) checks: Option<Vec<usize>>,
}

impl Destination {
    pub(crate) fn new(spec: DestinationSpec) -> Self {
        Self { spec, own: Own::default(), checks: None }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) start_up: bool,
    pub(crate) quorum: Option<u64>,
    pub(crate) hysteresis: Option<u64>,
    pub(crate) backups: Vec<DestinationSpec>,
    /// Whether flaps are held against a destination: `None` leaves it to uvs.
    pub(crate) damping: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Where it comes from; `None`: from no file.
    pub(crate) at: Option<At>,
    pub(crate) spec: ServiceSpec,
    pub(crate) destinations: Vec<Destination>,
    /// Into [`Output::checks`].
    pub(crate) checks: Vec<usize>,
    pub(crate) health: Option<Health>,
}

/// How the director gets to clients and destinations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// Its interfaces; those to clients first.
    pub(crate) arms: Vec<Arm>,
    pub(crate) gateways: Vec<IpAddr>,
}

/// An interface.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arm {
    /// What of the host it is connected to.
    pub(crate) attached: Option<Attached>,
    pub(crate) addresses: Vec<Prefix>,
    /// What is on the link though no address says so.
    pub(crate) on_link: Vec<Prefix>,
}

/// What an interface is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// A network card, directly (`attach = "tcx"`).
    Link(String),
    /// A bridge that it is plugged into.
    Bridge(String),
}

impl Attached {
    /// The card or the bridge.
    pub(crate) fn name(&self) -> &str {
        let (Self::Link(name) | Self::Bridge(name)) = self;
        name
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) timeouts: Option<Timeouts>,
    pub(crate) network: Option<Network>,
    /// With their names.
    pub(crate) checks: Vec<(String, CheckKeys)>,
    pub(crate) notify: Vec<Notify>,
    pub(crate) services: Vec<Service>,
}

/// A program that is told what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notify {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) user: Option<RunAs>,
    pub(crate) events: Vec<&'static str>,
    pub(crate) services: Vec<ServiceKey>,
    /// Empty: of all.
    pub(crate) destinations: Vec<SocketAddr>,
}

impl Output {
    /// The file.
    pub(crate) fn toml(&self) -> String {
        let mut document = DocumentMut::new();
        if let Some(timeouts) = self.timeouts {
            let mut table = Table::new();
            for (key, duration) in
                [("tcp", timeouts.tcp), ("tcp_fin", timeouts.tcp_fin), ("udp", timeouts.udp)]
            {
                table.insert(key, value(integer(duration.as_secs())));
            }
            document.insert("timeouts", Item::Table(table));
        }
        if let Some(network) = &self.network {
            self.network(network, &mut document);
        }
        let mut checks = ArrayOfTables::new();
        for (name, keys) in &self.checks {
            let mut table = Table::new();
            table.insert("name", value(name));
            for (key, entry) in keys {
                table.insert(key, Item::Value(entry.clone()));
            }
            checks.push(table);
        }
        if !checks.is_empty() {
            document.insert("check", Item::ArrayOfTables(checks));
        }
        let mut notify = ArrayOfTables::new();
        let there: HashSet<ServiceKey> = self.services.iter().map(|service| service.spec.key).collect();
        for one in &self.notify {
            notify.extend(notify_table(one, &there));
        }
        if !notify.is_empty() {
            document.insert("notify", Item::ArrayOfTables(notify));
        }
        let mut services = ArrayOfTables::new();
        for service in &self.services {
            services.push(self.service(service));
        }
        if !services.is_empty() {
            document.insert("service", Item::ArrayOfTables(services));
        }
        document.to_string().trim_start().to_owned()
    }

    fn network(&self, network: &Network, document: &mut DocumentMut) {
        let (mut interfaces, mut routes) = (ArrayOfTables::new(), ArrayOfTables::new());
        for (number, arm) in network.arms.iter().enumerate() {
            let name = format!("uvs{number}");
            let mut table = Table::new();
            table.insert("name", value(&name));
            table.insert("device", value("tap"));
            table.insert("addresses", value(array(arm.addresses.iter().map(ToString::to_string))));
            match &arm.attached {
                Some(Attached::Link(link)) => {
                    table.insert("attach", value("tcx"));
                    table.insert("link", value(link));
                }
                Some(Attached::Bridge(bridge)) => {
                    let mut inline = InlineTable::new();
                    inline.insert("name", bridge.into());
                    table.insert("bridge", value(inline));
                }
                None => {}
            }
            interfaces.push(table);
            for prefix in &arm.on_link {
                let mut table = Table::new();
                table.insert("to", value(prefix.to_string()));
                table.insert("interface", value(&name));
                routes.push(table);
            }
        }
        document.insert("interface", Item::ArrayOfTables(interfaces));
        for gateway in &network.gateways {
            let mut table = Table::new();
            table.insert("to", value(if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" }));
            table.insert("via", value(gateway.to_string()));
            routes.push(table);
        }
        if !routes.is_empty() {
            document.insert("route", Item::ArrayOfTables(routes));
        }
    }

    fn names(&self, checks: &[usize]) -> Array {
        let checks = checks.iter().filter_map(|index| self.checks.get(*index));
        array(checks.map(|(name, _)| name.clone()))
    }

    fn service(&self, service: &Service) -> Table {
        let mut table = Table::new();
        if let Some(at) = &service.at {
            // A name of a file has no control characters in it: [`At`] comes with them escaped.
            table.decor_mut().set_prefix(format!("\n# {at}\n"));
        }
        let spec = &service.spec;
        insert(&mut table, entries::service(spec));
        // What most have is said once.
        let common = service.destinations.first().map(|first| first.spec.forwarding);
        if let Some(common) = common {
            insert(&mut table, entries::forwarding(common));
        }
        if !service.checks.is_empty() {
            table.insert("checks", value(self.names(&service.checks)));
        }
        if let Some(health) = &service.health {
            table.insert("health", Item::Table(health_table(health, spec, common)));
        }
        let mut destinations = ArrayOfTables::new();
        for destination in &service.destinations {
            let mut entry = Table::new();
            insert(&mut entry, entries::destination(&destination.spec, spec.key, common));
            let own = &destination.own;
            let mut inline = InlineTable::new();
            if let Some(port) = own.port {
                inline.insert("port", i64::from(port).into());
            }
            if let Some(host) = &own.host {
                inline.insert("host", host.into());
            }
            if let Some(path) = &own.path {
                inline.insert("path", path.into());
            }
            if let Some(checks) = &destination.checks {
                entry.insert("checks", value(self.names(checks)));
            }
            if !inline.is_empty() {
                entry.insert("check", value(inline));
            }
            destinations.push(entry);
        }
        if !destinations.is_empty() {
            table.insert("destination", Item::ArrayOfTables(destinations));
        }
        table
    }
}

/// `None`: the services that it is told of were left out.
fn notify_table(notify: &Notify, there: &HashSet<ServiceKey>) -> Option<Table> {
    let services = notify.services.iter().filter(|key| there.contains(key));
    let services: Vec<String> = services.map(|key| key.to_string().replacen(' ', "/", 1)).collect();
    if services.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table.insert("name", value(&notify.name));
    table.insert("command", value(array(notify.command.iter().cloned())));
    if let Some(RunAs { user, group }) = &notify.user {
        table.insert("user", value(user));
        if let Some(group) = group {
            table.insert("group", value(group));
        }
    }
    table.insert("events", value(array(notify.events.iter().map(|event| (*event).to_owned()))));
    table.insert("services", value(array(services)));
    if !notify.destinations.is_empty() {
        table.insert("destinations", value(array(notify.destinations.iter().map(ToString::to_string))));
    }
    Some(table)
}

fn health_table(health: &Health, service: &ServiceSpec, common: Option<Forwarding>) -> Table {
    let mut table = Table::new();
    if health.start_up {
        table.insert("start", value("up"));
    }
    if let Some(quorum) = health.quorum {
        table.insert("quorum", value(integer(quorum)));
    }
    if let Some(hysteresis) = health.hysteresis {
        table.insert("hysteresis", value(integer(hysteresis)));
    }
    if let Some(damping) = health.damping {
        table.insert("damping", value(damping));
    }
    if !health.backups.is_empty() {
        let mut backups = Array::new();
        for backup in &health.backups {
            backups.push(inline(entries::destination(backup, service.key, common)));
        }
        table.insert("backup", value(backups));
    }
    table
}

fn insert(table: &mut Table, entries: Entries) {
    for (key, entry) in entries {
        table.insert(key, value(written(entry)));
    }
}

fn inline(entries: Entries) -> InlineTable {
    entries.into_iter().map(|(key, entry)| (key, written(entry))).collect()
}

fn written(value: entries::Value) -> Value {
    match value {
        entries::Value::Text(text) => text.into(),
        entries::Value::Number(number) => integer(number).into(),
        entries::Value::Switch(on) => on.into(),
        entries::Value::Table(entries) => inline(entries).into(),
    }
}

fn array(texts: impl IntoIterator<Item = String>) -> Array {
    texts.into_iter().collect()
}

/// A time in microseconds: a number of seconds, or a text with a unit.
pub(crate) fn duration(micros: u64) -> Value {
    match micros {
        whole if whole.is_multiple_of(1_000_000) => integer(whole / 1_000_000).into(),
        whole if whole.is_multiple_of(1000) => format!("{}ms", whole / 1000).into(),
        whole => format!("{whole}us").into(),
    }
}
