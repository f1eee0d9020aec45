//! `[[notify]]`: programs that are told what happens.

use core::net::SocketAddr;
use std::collections::HashMap;
use std::sync::Arc;

use uvs_director::Duration;
use uvs_director::spec::ServiceKey;

use crate::command::{command, user};
use crate::duration::Span;
use crate::model::{Notify, Service};
use crate::read::{At, Keys, Table};
use crate::suggest::nearest;

pub(crate) const NOTIFY: Keys =
    &["name", "command", "user", "group", "events", "services", "destinations", "timeout"];

/// What a program can be told of: the types of events (docs/control.md) but those that tell of such programs.
pub const NOTIFY_EVENTS: &[&str] = &[
    "ready",
    "stopping",
    "check_up",
    "check_down",
    "check_unmade",
    "check_unchecked",
    "check_overdue",
    "certificate",
    "destination_up",
    "destination_down",
    "destination_held",
    "quorum_up",
    "quorum_down",
    "backup_up",
    "backup_down",
    "weight",
    "weight_mended",
    "drain_started",
    "drain_ended",
    "reloaded",
    "reload_failed",
    "vrrp_master",
    "vrrp_backup",
    "vrrp_fault",
    "vrrp_stop",
    "vrrp_deleted",
    "vrrp_lower_priority",
    "vrrp_priority",
    "vrrp_mismatch",
];

/// What one is told of that does not say.
const USUAL: &[&str] =
    &["destination_up", "destination_down", "quorum_up", "quorum_down", "backup_up", "backup_down"];

/// What stands for something in a command.
const PLACEHOLDERS: &[&str] = &[
    "event",
    "service",
    "protocol",
    "vip",
    "vport",
    "destination",
    "rip",
    "rport",
    "check",
    "from",
    "weight",
    "of",
    "left",
    "reset",
    "vrrp",
    "vrrp_type",
    "state",
    "priority",
    "by",
    "reason",
];

const TIMEOUT: Span = Span {
    key: "timeout",
    min: Duration::from_millis(100),
    max: Duration::from_secs(600),
    note: ", the longest that a run lasts",
};

/// All programs that are told what happens.
pub(crate) fn notify(root: &Table<'_>, services: &[Service]) -> Vec<Notify> {
    let tables = root.tables("notify", NOTIFY, |entries| Table::peek(entries, "name").map(str::to_owned));
    let keys: Vec<(String, ServiceKey)> =
        services.iter().map(|service| (service.spec.key.to_string(), service.spec.key)).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut all = Vec::new();
    for table in &tables {
        let name = table.required_string("name", "announce");
        if let Some(At { value, at }) = &name {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if value.is_empty() || !value.chars().all(plain) {
                let what = format!("notify name {value:?} is not one");
                table.doc.error(at, what, "use letters, digits, - and _ only");
            }
            if let Some(line) = seen.insert(value, table.at.line) {
                let fix = format!("rename it or the one in line {line}");
                table.doc.error(at, format!("a second notify {value:?}"), fix);
            }
        }
        let example = "[\"/usr/local/bin/told\", \"{event}\", \"{service}\"]";
        let command = command(table, example, PLACEHOLDERS, "nobody is told what happens without it");
        let events = table.list("events", "quorum_down", |text| {
            NOTIFY_EVENTS.iter().find(|event| **event == text).copied().ok_or_else(|| {
                let near = nearest(text, NOTIFY_EVENTS.iter().copied());
                let near = near.map_or(String::new(), |near| format!(", perhaps {near:?}"));
                format!("there is no event {text:?}{near}: the events are {}", NOTIFY_EVENTS.join(", "))
            })
        });
        let of_services = table.list("services", "tcp/192.0.2.10:80", |text| {
            let wanted = text.replacen('/', " ", 1);
            keys.iter().find(|(name, _)| *name == wanted).map(|(_, key)| *key).ok_or_else(|| {
                let near = nearest(&wanted, keys.iter().map(|(name, _)| &**name));
                let near = near.map_or(String::new(), |near| format!(", perhaps {near:?}"));
                format!("there is no service {text:?}{near}")
            })
        });
        let destinations = destinations(table, services, of_services.as_deref());
        for (key, is_empty) in [
            ("events", events.as_ref().is_some_and(Vec::is_empty)),
            ("services", of_services.as_ref().is_some_and(Vec::is_empty)),
            ("destinations", destinations.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if is_empty {
                let what = format!("{key} is empty: the program would never be run");
                table.doc.error(&table.place(key), what, format!("remove {key}, or name some"));
            }
        }
        let values = |list: Option<Vec<At<&'static str>>>| {
            list.map_or_else(|| USUAL.to_vec(), |list| list.into_iter().map(|it| it.value).collect())
        };
        let timeout = table.duration(&TIMEOUT).map_or(Duration::from_secs(10), |found| found.value);
        if let (Some(name), Some(command)) = (name, command) {
            all.push(Notify {
                name: Arc::from(name.value),
                command,
                user: user(table),
                events: values(events),
                services: of_services.unwrap_or_default().into_iter().map(|it| it.value).collect(),
                destinations: destinations.unwrap_or_default(),
                timeout,
            });
        }
    }
    all
}

/// Those that it is told of. Each has to be one of a service that it is told of.
fn destinations(
    table: &Table<'_>,
    services: &[Service],
    wanted: Option<&[At<ServiceKey>]>,
) -> Option<Vec<SocketAddr>> {
    let concerns =
        |service: &&Service| wanted.is_none_or(|wanted| wanted.iter().any(|it| it.value == service.spec.key));
    let has = |addr: SocketAddr| {
        services.iter().filter(concerns).any(|service| service.destinations.iter().any(|it| it.addr == addr))
    };
    let list = table.list("destinations", "192.0.2.21:8080", |text| {
        let addr = text
            .parse::<SocketAddr>()
            .map_err(|_| format!("destination {text:?} is not an IP address and a port"))?;
        if has(addr) {
            Ok(addr)
        } else {
            Err(format!("there is no destination {addr} in the services that it is told of"))
        }
    })?;
    Some(list.into_iter().map(|it| it.value).collect())
}
