//! What the changes of a reload are to people: which service and destination, old and new, and what becomes of
//! connections.
//!
//! Described are the very changes that a reload applies; nothing is compared a second time. What goes past the
//! director, such as checks, is compared here, and a reload hands over the whole of it.

mod checks;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use uvs_config::{Config, Service, option_values};
use uvs_control::plan::{Action, Change as Described, Field};
use uvs_director::spec::{
    Change, DestinationSpec, InterfaceSpec, Options, Persistence, ServiceKey, ServiceSpec, Timeouts,
};
use uvs_plugin::Exchange;

pub(crate) use checks::{of_checks, of_vrrp};

use crate::words::{forwarding, mark_rule, route, seconds};

/// How many connections name each destination.
pub(crate) type Counts = HashMap<(ServiceKey, SocketAddr), u64>;

/// Destinations that are to be removed once their connections have ended, and how long those may go on.
pub(crate) type Leaving = HashMap<(ServiceKey, SocketAddr), Duration>;

/// Changes of the director from `before` to `after`, described.
pub(crate) fn of_director(
    before: &Config,
    after: &Config,
    changes: &[Change],
    leaving: &Leaving,
    counts: &Counts,
) -> Vec<Described> {
    let services = before.services.iter().map(|service| (service.spec.key, service)).collect();
    let describer = Describer { before, after, services, leaving, counts };
    changes.iter().flat_map(|change| describer.describe(change)).collect()
}

struct Describer<'c> {
    before: &'c Config,
    after: &'c Config,
    /// Those before.
    services: HashMap<ServiceKey, &'c Service>,
    /// Destinations that stay for their connections alone.
    leaving: &'c Leaving,
    counts: &'c Counts,
}

/// What becomes of destinations that go, and have no weight as it is.
pub(crate) fn of_quiesced(
    running: &Config,
    before: &Config,
    leaving: &Leaving,
    counts: &Counts,
) -> Vec<Described> {
    let in_file: HashSet<(ServiceKey, SocketAddr)> =
        destinations_of(running).map(|(key, it)| (key, it.addr)).collect();
    // One that is not in the file that runs was removed before, and is on its way.
    let is_one =
        |(key, it): &(ServiceKey, &DestinationSpec)| it.weight == 0 && in_file.contains(&(*key, it.addr));
    let gone = destinations_of(before).filter(is_one).filter_map(|(key, it)| {
        let after = leaving.get(&(key, it.addr))?;
        let effect = leaves(count_of(counts, key, it.addr), *after);
        Some(destination(key, it.addr, Action::Remove, Vec::new(), effect))
    });
    gone.collect()
}

fn destinations_of(config: &Config) -> impl Iterator<Item = (ServiceKey, &DestinationSpec)> {
    config.services.iter().flat_map(|service| service.destinations.iter().map(|it| (service.spec.key, it)))
}

fn count_of(counts: &Counts, key: ServiceKey, addr: SocketAddr) -> u64 {
    counts.get(&(key, addr)).copied().unwrap_or(0)
}

/// What becomes of connections that have so long.
fn bounded(connections: u64, after: Duration) -> String {
    match connections {
        0 => "has no connections".to_owned(),
        1 => format!("1 connection has {after:?} to end, then both ends get a reset"),
        count => format!("{count} connections have {after:?} to end, then both ends get a reset"),
    }
}

fn leaves(connections: u64, after: Duration) -> String {
    format!("gets no new connections and is removed; {}", bounded(connections, after))
}

fn plain(action: Action, what: &str, fields: Vec<Field>, effect: impl Into<String>) -> Described {
    Described { action, what: what.to_owned(), fields, effect: effect.into(), ..Described::default() }
}

fn of_service(key: ServiceKey, described: Described) -> Described {
    Described { service: Some(key.to_string()), ..described }
}

fn named(name: impl ToString, described: Described) -> Described {
    Described { name: Some(name.to_string()), ..described }
}

/// The field, if it differs.
fn differs<T: PartialEq>(name: &str, old: T, new: T, word: impl Fn(&T) -> Option<String>) -> Option<Field> {
    (old != new).then(|| Field::new(name, word(&old), word(&new)))
}

impl Describer<'_> {
    fn describe(&self, change: &Change) -> Vec<Described> {
        let one = match change {
            Change::SetNetwork { interfaces, .. } => return self.network(interfaces),
            Change::SetAddresses(interfaces) => self.addresses(interfaces),
            Change::SetNeighbor { port, addr, mac } => {
                let old = self.before.neighbors.iter().find(|it| (it.port, it.addr) == (*port, *addr));
                // All are set again after the network; most are what they were.
                if old.is_some_and(|old| old.mac == *mac) {
                    return Vec::new();
                }
                let action = if old.is_some() { Action::Change } else { Action::Add };
                let field = Field::new("mac", old.map(|old| old.mac.to_string()), Some(mac.to_string()));
                named(addr, plain(action, "neighbor", vec![field], "packets go to that station from now on"))
            }
            Change::SetMarks(rules) => self.marks(rules.iter().map(mark_rule).collect()),
            Change::AddService(spec) => of_service(
                spec.key,
                plain(Action::Add, "service", service_fields(None, spec), "takes connections from now on"),
            ),
            Change::EditService(spec) => self.edit_service(spec),
            Change::RenewScheduler(key) => {
                let module = |config: &Config| {
                    let service = config.services.iter().find(|service| service.spec.key == *key);
                    service.map(|service| match &service.module {
                        Some(module) => module.path.display().to_string(),
                        None => service.spec.scheduler.name.clone(),
                    })
                };
                let field = Field::new("module", module(self.before), module(self.after));
                of_service(*key, plain(Action::Change, "service", vec![field], ANOTHER_SCHEDULER))
            }
            Change::RemoveService(key) => {
                let connections = self
                    .counts
                    .iter()
                    .filter(|((service, _), _)| service == key)
                    .map(|(_, count)| count)
                    .sum();
                of_service(
                    *key,
                    plain(Action::Remove, "service", Vec::new(), self.orphaned(connections, None)),
                )
            }
            Change::AddDestination(key, spec) => {
                let checked = |it: &&Service| it.spec.key == *key && it.health.is_some();
                let effect = match spec.weight {
                    0 if self.after.services.iter().any(|it| checked(&it)) => {
                        "takes connections once its checks are up"
                    }
                    0 => "takes no connections: its weight is 0",
                    _ => "takes new connections",
                };
                destination(*key, spec.addr, Action::Add, destination_fields(None, spec), effect)
            }
            Change::EditDestination(key, spec) => self.edit_destination(*key, spec),
            Change::SetWeight(key, addr, weight) => {
                let old = self.destination(*key, *addr).copied();
                let new = DestinationSpec {
                    weight: *weight,
                    ..old.unwrap_or(DestinationSpec::new(*addr, FORWARDING))
                };
                self.edit_destination(*key, &new)
            }
            Change::RemoveDestination(key, addr) => {
                let connections = count_of(self.counts, *key, *addr);
                let effect = self.orphaned(connections, Some(*key));
                destination(*key, *addr, Action::Remove, Vec::new(), effect)
            }
            Change::SetTimeouts(timeouts) => {
                let Timeouts { tcp, tcp_fin, udp } = *timeouts;
                let old = self.before.timeouts;
                let of = |name, old, new| differs(name, old, new, |value| Some(seconds(*value)));
                let fields =
                    [of("tcp", old.tcp, tcp), of("tcp_fin", old.tcp_fin, tcp_fin), of("udp", old.udp, udp)];
                let effect = "each connection has it from its next packet on";
                plain(Action::Change, "timeouts", fields.into_iter().flatten().collect(), effect)
            }
            Change::SetOptions(options) => {
                let effect = "connections stay; it holds from their next packet on";
                plain(Action::Change, "options", option_fields(&self.before.options, options), effect)
            }
            // None that a configuration leads to.
            other => plain(Action::Change, "settings", Vec::new(), format!("{other:?}")),
        };
        vec![one]
    }

    fn network(&self, interfaces: &[InterfaceSpec]) -> Vec<Described> {
        let (before, after) = (self.before, self.after);
        let mut fields = address_fields(&specs(before), interfaces);
        let routes = |config: &Config| -> Vec<String> {
            config.routes.iter().map(|it| route(it, &config.interfaces)).collect()
        };
        fields.extend(list_fields("routes", &routes(before), &routes(after)));
        let effect = "connections stay; the ways to destinations are looked up again";
        let gone = before
            .neighbors
            .iter()
            .filter(|old| !after.neighbors.iter().any(|new| (new.port, new.addr) == (old.port, old.addr)));
        let gone = gone.map(|old| {
            let effect = "its address is asked for again";
            named(old.addr, plain(Action::Remove, "neighbor", Vec::new(), effect))
        });
        // Sent again, unchanged, so that a neighbour goes.
        let network = (!fields.is_empty()).then(|| plain(Action::Change, "network", fields, effect));
        network.into_iter().chain(gone).collect()
    }

    fn addresses(&self, interfaces: &[InterfaceSpec]) -> Described {
        let fields = address_fields(&specs(self.before), interfaces);
        let effect = "the director answers for its addresses and VIPs as they are then";
        plain(Action::Change, "network", fields, effect)
    }

    fn marks(&self, rules: Vec<String>) -> Described {
        let old: Vec<String> = self.before.marks.iter().map(mark_rule).collect();
        let effect = "connections stay; packets of new ones are marked by the new rules";
        let mut fields = list_fields("rules", &old, &rules);
        if fields.is_empty() {
            fields.push(Field::new("order of the rules", None, Some(rules.join("; "))));
        }
        plain(Action::Change, "marks", fields, effect)
    }

    fn edit_service(&self, spec: &ServiceSpec) -> Described {
        let old = self.services.get(&spec.key).map(|service| &service.spec);
        let effect = match old {
            Some(old) if old.scheduler != spec.scheduler => ANOTHER_SCHEDULER,
            Some(old) if old.persistence != spec.persistence => {
                "connections and templates stay; new connections follow it"
            }
            _ => "connections stay; new ones follow it",
        };
        of_service(spec.key, plain(Action::Change, "service", service_fields(old, spec), effect))
    }

    fn destination(&self, key: ServiceKey, addr: SocketAddr) -> Option<&DestinationSpec> {
        self.services.get(&key)?.destinations.iter().find(|spec| spec.addr == addr)
    }

    fn edit_destination(&self, key: ServiceKey, spec: &DestinationSpec) -> Described {
        let old = self.destination(key, spec.addr);
        let connections = count_of(self.counts, key, spec.addr);
        if let Some(after) = self.leaving.get(&(key, spec.addr)) {
            return destination(key, spec.addr, Action::Remove, Vec::new(), leaves(connections, *after));
        }
        let drain = self.after.services.iter().find(|it| it.spec.key == key).and_then(|it| it.drain);
        let effect = match old {
            Some(old) if old.forwarding != spec.forwarding => {
                "connections go on by the method they began with; new ones go by the new one"
            }
            Some(old) if old.weight > 0 && spec.weight == 0 && drain.is_some() => {
                let what = bounded(connections, drain.unwrap_or_default());
                let effect = format!("drains: new connections go elsewhere; {what}");
                return destination(
                    key,
                    spec.addr,
                    Action::Change,
                    destination_fields(old.into(), spec),
                    effect,
                );
            }
            Some(old) if old.weight > 0 && spec.weight == 0 => {
                "drains: connections and templates stay, new connections go elsewhere"
            }
            Some(old) if old.weight == 0 && spec.weight > 0 => "takes new connections again",
            Some(old) if old.weight != spec.weight => "connections stay; its share of new ones changes",
            _ => "connections stay; the thresholds count for new ones",
        };
        destination(key, spec.addr, Action::Change, destination_fields(old, spec), effect)
    }

    /// What becomes of connections whose destination is removed; of a `service` that stays.
    fn orphaned(&self, connections: u64, service: Option<ServiceKey>) -> String {
        let options = &self.after.options;
        let count = match connections {
            0 => return "has no connections".to_owned(),
            1 => "1 connection".to_owned(),
            count => format!("{count} connections"),
        };
        let fate = match options.expire_nodest_conn {
            true => format!("{count} ends with the next packet"),
            false => format!("{count}: packets are dropped until it expires (expire_nodest_conn is off)"),
        };
        let fate = if connections == 1 {
            fate
        } else {
            fate.replace("ends", "end").replace("it expires", "they expire")
        };
        match service.is_some() && !options.compat_ipvs {
            true => format!("{fate}; SYNs and datagrams go to other destinations"),
            false => fate,
        }
    }
}

const FORWARDING: uvs_director::spec::Forwarding = uvs_director::spec::Forwarding::Nat;
const ANOTHER_SCHEDULER: &str =
    "connections stay; the new scheduler places new ones and knows nothing of the one before";

fn destination(
    key: ServiceKey,
    addr: SocketAddr,
    action: Action,
    fields: Vec<Field>,
    effect: impl Into<String>,
) -> Described {
    of_service(key, named(addr, plain(action, "destination", fields, effect)))
}

fn service_fields(old: Option<&ServiceSpec>, new: &ServiceSpec) -> Vec<Field> {
    let ServiceSpec { key: _, scheduler, persistence, one_packet, sloppy_tcp } = new;
    let name = |spec: &ServiceSpec| spec.scheduler.name.clone();
    let options = |spec: &ServiceSpec| Some(spec.scheduler.options.clone()).filter(|text| !text.is_empty());
    let mut fields = Vec::new();
    let mut push = |name: &str, old: Option<Option<String>>, new: Option<String>| {
        // Of a new service what it has, of another one what differs.
        if old.as_ref().map_or(new.is_some(), |old| *old != new) {
            fields.push(Field::new(name, old.flatten(), new));
        }
    };
    push("scheduler", old.map(|old| Some(name(old))), Some(scheduler.name.clone()));
    push("options", old.map(options), options(new));
    let timeout = |it: &Option<Persistence>| it.map(|it| seconds(it.timeout));
    push("persistent", old.map(|old| timeout(&old.persistence)), timeout(persistence));
    let whole = |spec: &ServiceSpec, len: u8| match spec.key.family() {
        uvs_director::spec::Family::V4 => len == 32,
        uvs_director::spec::Family::V6 => len == 128,
    };
    let mask = |spec: &ServiceSpec| {
        spec.persistence.map(|it| it.prefix_len).filter(|len| !whole(spec, *len)).map(|len| len.to_string())
    };
    push("netmask", old.map(mask), mask(new));
    let switch = |on: bool| on.then(|| "true".to_owned());
    push("one_packet", old.map(|old| switch(old.one_packet)), switch(*one_packet));
    push("sloppy_tcp", old.map(|old| switch(old.sloppy_tcp)), switch(*sloppy_tcp));
    fields
}

fn destination_fields(old: Option<&DestinationSpec>, new: &DestinationSpec) -> Vec<Field> {
    let DestinationSpec { addr: _, forwarding: way, weight, upper_threshold, lower_threshold } = *new;
    let mut fields = Vec::new();
    let mut push = |name: &str, old: Option<Option<String>>, new: Option<String>| {
        if old.as_ref().map_or(new.is_some(), |old| *old != new) {
            fields.push(Field::new(name, old.flatten(), new));
        }
    };
    push("forward", old.map(|old| Some(forwarding(old.forwarding))), Some(forwarding(way)));
    push("weight", old.map(|old| Some(old.weight.to_string())), Some(weight.to_string()));
    let number = |value: u32| (value > 0).then(|| value.to_string());
    push("upper_threshold", old.map(|old| number(old.upper_threshold)), number(upper_threshold));
    push("lower_threshold", old.map(|old| number(old.lower_threshold)), number(lower_threshold));
    fields
}

fn option_fields(old: &Options, new: &Options) -> Vec<Field> {
    let pairs = option_values(old).into_iter().zip(option_values(new));
    pairs
        .filter_map(|((name, old), (_, new))| differs(name, old, new, |value| Some(value.to_string())))
        .collect()
}

fn specs(config: &Config) -> Vec<InterfaceSpec> {
    config.interfaces.iter().map(|interface| interface.spec.clone()).collect()
}

fn address_fields(old: &[InterfaceSpec], new: &[InterfaceSpec]) -> Vec<Field> {
    let words = |interface: Option<&InterfaceSpec>| -> Vec<String> {
        interface.map_or_else(Vec::new, |it| it.addresses.iter().map(ToString::to_string).collect())
    };
    let field = |interface: &InterfaceSpec| {
        let before = old.iter().find(|old| old.name == interface.name);
        list_fields(&format!("addresses of {}", interface.name), &words(before), &words(Some(interface)))
    };
    new.iter().flat_map(field).collect()
}

/// What goes from a list, and what comes.
fn list_fields(name: &str, old: &[String], new: &[String]) -> Vec<Field> {
    let without = |these: &[String], those: &[String], what: &str| {
        let left: Vec<&str> = these.iter().filter(|one| !those.contains(one)).map(String::as_str).collect();
        (!left.is_empty()).then(|| Field::new(&format!("{name} {what}"), None, Some(left.join(", "))))
    };
    let fields = [without(old, new, "removed"), without(new, old, "added")];
    fields.into_iter().flatten().collect()
}

/// What becomes of a module, or of what is tried beside it.
pub(crate) fn of_module(exchange: &Exchange) -> Described {
    let (what, effect) = match exchange.trial {
        true => ("trial", "connections stay; what is tried begins afresh"),
        false => ("module", "connections stay; the module takes over the state of the one before if it can"),
    };
    let action = match (&exchange.from, &exchange.to) {
        (None, _) => Action::Add,
        (_, None) => Action::Remove,
        _ => Action::Change,
    };
    let name = if exchange.trial { "on trial" } else { "module" };
    Described {
        action,
        what: what.to_owned(),
        service: Some(exchange.service.clone()),
        fields: vec![Field::new(name, exchange.from.clone(), exchange.to.clone())],
        effect: effect.to_owned(),
        by_hand: exchange.by_hand,
        ..Described::default()
    }
}

/// A weight that `uvs adm` gave a destination that is checked: its checks take it back.
pub(crate) fn of_weight(key: ServiceKey, addr: SocketAddr, weight: u32, file: u32) -> Described {
    let fields = vec![Field::new("weight", Some(weight.to_string()), Some(file.to_string()))];
    let effect = "connections stay; it weighs what the configuration says while its checks are up";
    Described { by_hand: true, ..destination(key, addr, Action::Change, fields, effect) }
}

/// Another weight in the file for a destination that is checked: its checks give it that.
pub(crate) fn of_checked_weight(key: ServiceKey, addr: SocketAddr, old: u32, new: u32) -> Described {
    let fields = vec![Field::new("weight", Some(old.to_string()), Some(new.to_string()))];
    let effect = match (old, new) {
        (_, 0) => "takes no new connections; those it has go on",
        (0, _) => "takes new connections again while its checks are up",
        _ => "connections stay; its share of new ones changes while its checks are up",
    };
    destination(key, addr, Action::Change, fields, effect)
}

/// Says of each change whether it undoes one of `hand`, which are those that would undo all changes by hand.
pub(crate) fn mark_by_hand(changes: &mut [Described], hand: &[Described]) {
    let place = |change: &Described| (change.what.clone(), change.service.clone(), change.name.clone());
    let hand: HashMap<_, &Described> = hand.iter().map(|change| (place(change), change)).collect();
    for change in changes {
        let Some(other) = hand.get(&place(change)) else { continue };
        let same =
            |field: &Field| other.fields.iter().any(|it| (&it.name, &it.old) == (&field.name, &field.old));
        let fields = change.fields.is_empty() || change.fields.iter().any(same);
        change.by_hand |= fields && change.action == other.action;
    }
}
