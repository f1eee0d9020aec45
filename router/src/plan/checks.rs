//! What becomes of checks, of the health of services, of programs that are told, and of metrics.

use core::net::SocketAddr;
use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use uvs_config::{Check, Config, Health, Service, Words, Written};
use uvs_control::plan::{Action, Field};
use uvs_director::Duration;
use uvs_director::spec::ServiceKey;

use super::{Described, differs, named, of_service, plain};

/// What the files say: they are read again once something differs.
type Said<'a> = LazyCell<Written<'a>, Box<dyn FnOnce() -> Written<'a> + 'a>>;

const STAYS: &str = "connections stay; what is the same goes on, what is new has no result yet";

/// How services are checked: what of that becomes another, in the words of the files. Destinations that come to `live`,
/// what the director has, or go from it, are changes of their own.
pub(crate) fn of_checks(before: &Config, after: &Config, live: &Config) -> Vec<Described> {
    let was: Said<'_> = LazyCell::new(Box::new(|| before.written()));
    let will: Said<'_> = LazyCell::new(Box::new(|| after.written()));
    let checks = after.checks.iter().filter_map(|check| {
        let old = before.checks.iter().find(|old| old.name == check.name)?;
        let fields = || reworded(&was.check(&check.name), &will.check(&check.name));
        (means(old) != means(check))
            .then(|| named(&check.name, plain(Action::Change, "check", fields(), STAYS)))
    });
    let mut described: Vec<Described> = checks.collect();
    let bound = |count: &u32| Some(count.to_string());
    described.extend(
        differs("destinations", before.metrics_destinations, after.metrics_destinations, bound).map(
            |field| plain(Action::Change, "metrics", vec![field], "/metrics is of so many destinations"),
        ),
    );
    described.extend(of_notify(before, after, &was, &will));
    described.extend(of_announce(before, after, &was, &will));
    let places: HashMap<ServiceKey, usize> =
        before.services.iter().enumerate().map(|(place, service)| (service.spec.key, place)).collect();
    for (place, service) in after.services.iter().enumerate() {
        let Some(there) = places.get(&service.spec.key) else { continue };
        described.extend(of_drain(&before.services[*there], service));
        let old = Side { config: before, place: *there, written: &was };
        described.extend(of_health(&old, &Side { config: after, place, written: &will }, live));
    }
    described
}

/// How long connections of its destinations go on that lose their weight or go.
fn of_drain(old: &Service, new: &Service) -> Option<Described> {
    let bound = |drain: &Option<Duration>| drain.map(|after| format!("{after:?}"));
    let field = differs("drain", old.drain, new.drain, bound)?;
    let effect = "connections stay; it counts for destinations that lose their weight or go from now on";
    Some(of_service(new.spec.key, plain(Action::Change, "service", vec![field], effect)))
}

/// A configuration, one of its services by its place, and what the files say.
struct Side<'s, 'c> {
    config: &'c Config,
    place: usize,
    written: &'s Said<'c>,
}

impl Side<'_, '_> {
    fn service(&self) -> &Service {
        &self.config.services[self.place]
    }

    /// All of a service's health but its backups and what single destinations have, to compare.
    fn means(&self, health: &Health) -> String {
        let names: Vec<&str> = health.checks.iter().map(|at| &*self.config.checks[*at].name).collect();
        format!("{:?}", (names, health.quorum, health.policy, health.via))
    }

    fn says(&self) -> Words {
        self.written.health(self.place)
    }
}

fn of_health(old: &Side<'_, '_>, new: &Side<'_, '_>, live: &Config) -> Option<Described> {
    let key = new.service().spec.key;
    let (action, fields, effect) = match (&old.service().health, &new.service().health) {
        (None, None) => return None,
        (None, Some(_)) => {
            let effect = "connections stay; its destinations are checked";
            (Action::Add, reworded(&Words::new(), &new.says()), effect)
        }
        (Some(_), None) => {
            let effect = "connections stay; nothing takes destinations out of service any more";
            (Action::Remove, Vec::new(), effect)
        }
        (Some(was), Some(will)) => {
            let fields = health_fields((old, was), (new, will), live);
            if fields.is_empty() {
                return None;
            }
            (Action::Change, fields, STAYS)
        }
    };
    Some(of_service(key, plain(action, "health", fields, effect)))
}

fn health_fields(
    (old, was): (&Side<'_, '_>, &Health),
    (new, will): (&Side<'_, '_>, &Health),
    live: &Config,
) -> Vec<Field> {
    let mut fields = Vec::new();
    if old.means(was) != new.means(will) {
        fields.extend(reworded(&old.says(), &new.says()));
    }
    let key = new.service().spec.key;
    let service = live.services.iter().find(|it| it.spec.key == key);
    let there: HashSet<SocketAddr> =
        service.into_iter().flat_map(|it| &it.destinations).map(|spec| spec.addr).collect();
    let named: BTreeSet<SocketAddr> = was.overrides.keys().chain(will.overrides.keys()).copied().collect();
    for addr in named.into_iter().filter(|addr| there.contains(addr)) {
        let own = |side: &Side<'_, '_>, health: &Health| {
            let own = health.overrides.get(&addr).cloned().unwrap_or_default();
            let checks = own.checks.map(|checks| {
                checks.iter().map(|at| side.config.checks[*at].name.to_string()).collect::<Vec<_>>()
            });
            (checks, own.port, own.host, own.path)
        };
        if own(old, was) != own(new, will) {
            let says = |side: &Side<'_, '_>| side.written.own_checks(side.place, addr);
            let changed = reworded(&says(old), &says(new));
            fields
                .extend(changed.into_iter().map(|it| Field { name: format!("{} of {addr}", it.name), ..it }));
        }
    }
    let backups = |health: &Health| {
        let all = health.backups.iter().filter(|addr| there.contains(addr));
        let all: Vec<String> = all.map(ToString::to_string).collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    if backups(was) != backups(will) {
        fields.push(Field::new("backup", backups(was), backups(will)));
    }
    fields
}

/// Virtual routers and scripts, in the words of the files.
pub(crate) fn of_vrrp(before: &Config, after: &Config) -> Vec<Described> {
    let was: Said<'_> = LazyCell::new(Box::new(|| before.written()));
    let will: Said<'_> = LazyCell::new(Box::new(|| after.written()));
    let names = |config: &Config| -> Vec<String> {
        config.vrrp.plan.routers.iter().map(|router| router.name.to_string()).collect()
    };
    let scripts = |config: &Config| -> Vec<String> {
        config.vrrp.scripts.iter().map(|script| script.name.to_string()).collect()
    };
    let of = |list: &'static str, names: [Vec<String>; 2], effects: [&'static str; 3]| -> Vec<Described> {
        let [old, new] = names;
        let all: BTreeSet<&String> = old.iter().chain(&new).collect();
        let change = |name: &&String| {
            let (action, effect) = match (old.contains(name), new.contains(name)) {
                (false, _) => (Action::Add, effects[0]),
                (_, false) => (Action::Remove, effects[2]),
                _ => (Action::Change, effects[1]),
            };
            let now = if action == Action::Remove { Words::new() } else { will.vrrp(list, name) };
            let fields = reworded(&was.vrrp(list, name), &now);
            let fields: Vec<Field> = fields.into_iter().map(unspoken).collect();
            let is_same = action == Action::Change && fields.is_empty();
            let fields = if action == Action::Remove { Vec::new() } else { fields };
            (!is_same).then(|| named(name, plain(action, list, fields, effect)))
        };
        all.iter().filter_map(change).collect()
    };
    let effects = [
        "begins as a backup: its addresses are answered for once it is active",
        "keeps its state and its timers",
        "leaves, so that another director takes over: no virtual address of it is answered for here, unless a service \
         has it",
    ];
    let mut described = of("vrrp", [names(before), names(after)], effects);
    let effects = ["is run", "is run from now on as it says", "is run no more"];
    described.extend(of("vrrp_script", [scripts(before), scripts(after)], effects));
    described
}

/// A password is told by nobody.
fn unspoken(field: Field) -> Field {
    if field.name != "password" {
        return field;
    }
    let hidden = |value: Option<String>| value.map(|_| "(not shown)".to_owned());
    Field { old: hidden(field.old), new: hidden(field.new), ..field }
}

fn of_notify(before: &Config, after: &Config, was: &Said<'_>, will: &Said<'_>) -> Vec<Described> {
    let effect = "connections stay; programs are told from now on as it says";
    let all = before.notify.iter().chain(&after.notify);
    let names: BTreeSet<&str> = all.map(|notify| &*notify.name).collect();
    let of = |name: &&str| {
        let find = |config: &Config| config.notify.iter().find(|it| *it.name == **name).cloned();
        let action = match (find(before), find(after)) {
            (old, new) if old == new => return None,
            (None, _) => Action::Add,
            (_, None) => Action::Remove,
            _ => Action::Change,
        };
        let fields = match action {
            Action::Remove => Vec::new(),
            _ => reworded(&was.notify(name), &will.notify(name)),
        };
        Some(named(name, plain(action, "notify", fields, effect)))
    };
    names.iter().filter_map(of).collect()
}

fn of_announce(before: &Config, after: &Config, was: &Said<'_>, will: &Said<'_>) -> Option<Described> {
    let action = match (&before.announce, &after.announce) {
        (old, new) if old == new => return None,
        (None, _) => Action::Add,
        (_, None) => Action::Remove,
        _ => Action::Change,
    };
    let fields = match action {
        Action::Remove => Vec::new(),
        _ => reworded(&was.section("announce"), &will.section("announce")),
    };
    let effect = "connections stay; routes of the host's kernel come and go as it says";
    Some(plain(action, "announce", fields, effect))
}

/// All of a check but where it stands, to compare.
fn means(check: &Check) -> String {
    let Check { name: _, kind, port, source, mark, schedule, rise, fall, unmade, confirm, location: _ } =
        check;
    format!("{:?}", (kind, port, source, mark, schedule, rise, fall, unmade, confirm))
}

/// The keys whose words are others.
fn reworded(old: &Words, new: &Words) -> Vec<Field> {
    let find =
        |words: &Words, key: &str| words.iter().find(|(it, _)| it == key).map(|(_, value)| value.clone());
    let added = new.iter().filter(|(key, _)| !old.iter().any(|(it, _)| it == key));
    let keys = old.iter().chain(added).map(|(key, _)| key);
    let changed = keys.filter(|key| find(old, key) != find(new, key));
    changed.map(|key| Field::new(key, find(old, key), find(new, key))).collect()
}
