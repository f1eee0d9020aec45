//! `checks` and `[service.health]`, and what destinations have otherwise.

use core::net::SocketAddr;
use std::collections::HashMap;

use uvs_check::spec::{Amount, Kind, OnDown, Policy, Quorum};
use uvs_director::Duration;
use uvs_director::spec::{DestinationSpec, Forwarding, Protocol, ServiceKey};

use crate::ask::{http_host, http_path};
use crate::check::PORT;
use crate::duration::Span;
use crate::model::{Check, CheckVia, Health, Override};
use crate::read::{At, Integer, Keys, Scalar, Table};
use crate::suggest::nearest;

pub(crate) const HEALTH: Keys =
    &["quorum", "hysteresis", "backup", "start", "via", "slow_start", "damping", "on_down", "deadline"];

pub(crate) const OVERRIDE: Keys = &["port", "host", "path"];

const HOUR: Duration = Duration::from_secs(3600);
const SLOW_START: Span = Span { key: "slow_start", min: Duration::ZERO, max: HOUR, note: " (0 is none)" };
const DEADLINE: Span = Span { key: "deadline", min: Duration::ZERO, max: HOUR, note: "" };
/// Of `on_down`, where none is given.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
const DAMPING: Span = Span { key: "damping", min: Duration::ZERO, max: HOUR, note: " (0 is none)" };

/// What a service says of the health of its destinations; `None` where it says nothing.
pub(crate) fn health(
    table: &Table<'_>,
    section: Option<&Table<'_>>,
    checks: &[Check],
    backups: Vec<SocketAddr>,
    overrides: HashMap<SocketAddr, Override>,
) -> Option<Health> {
    let doc = table.doc;
    let list = named(table, checks);
    let own = |own: &Override| own.checks.is_some();
    if list.is_none() && section.is_none() && !overrides.values().any(own) {
        return None;
    }
    let mut health = Health {
        checks: list.unwrap_or_default(),
        quorum: Quorum::default(),
        policy: Policy::default(),
        via: CheckVia::Direct,
        backups,
        overrides,
        location: table.place("checks"),
    };
    let Some(section) = section else { return Some(health) };
    if health.all_checks().is_empty() && health.backups.is_empty() {
        let what = "health without checks: nothing ever goes down";
        doc.warn(&section.at, what, "add checks = [\"...\"] to the service, before its [service.health]");
    }
    if let Some(least) = amount(section, "quorum") {
        health.quorum.least = least;
    }
    if let Some(hysteresis) = amount(section, "hysteresis") {
        health.quorum.hysteresis = hysteresis;
    }
    let start = section.choice("start", &[("down", false), ("up", true)], &[]);
    health.policy.start_up = start.is_some_and(|start| start.value);
    if let Some(slow_start) = section.duration(&SLOW_START) {
        health.policy.slow_start = slow_start.value;
    }
    if let Some(damping) = section.duration(&DAMPING) {
        health.policy.damping = damping.value;
    }
    health.policy.on_down = on_down(section);
    let words = [("direct", CheckVia::Direct), ("service", CheckVia::Service)];
    if let Some(via) = section.choice("via", &words, &[]) {
        health.via = via.value;
    }
    Some(health)
}

/// What becomes of connections of a destination that goes down.
fn on_down(section: &Table<'_>) -> OnDown {
    let deadline = section.duration(&DEADLINE);
    let after = deadline.as_ref().map_or(DEADLINE_DEFAULT, |deadline| deadline.value);
    let words =
        [("quiesce", OnDown::Quiesce), ("drain", OnDown::Drain(after)), ("reset", OnDown::Reset(after))];
    let on_down = section.choice("on_down", &words, &[]).map_or(OnDown::Quiesce, |word| word.value);
    if let (OnDown::Quiesce, Some(deadline)) = (on_down, deadline) {
        let what = "a deadline, but connections of a server that is down go on for as long as they can";
        section.doc.warn(&deadline.at, what, "add on_down = \"drain\" or \"reset\", or remove it");
    }
    on_down
}

/// A sum of weights, or a share of all.
fn amount(section: &Table<'_>, key: &'static str) -> Option<Amount> {
    if let Some(Scalar::Text(_)) = section.scalar(key) {
        let share = section.parsed(key, "50%", |text| {
            let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<u8>().ok());
            percent
                .filter(|percent| *percent <= 100)
                .ok_or_else(|| format!("{key} {text:?} is no share: 0% to 100%"))
        });
        return share.map(|share| Amount::Percent(share.value));
    }
    let note = " (a sum of weights), or a share of all weights as in \"50%\"";
    let min = u64::from(key == "quorum");
    let found = section.integer(&Integer { key, label: key, min, max: u64::from(u32::MAX), note })?;
    Some(Amount::Weight(found.value))
}

/// What a destination has otherwise than its service and the checks say.
pub(crate) fn overrides(entry: &Table<'_>, checks: &[Check]) -> Option<Override> {
    let table = entry.section("check", OVERRIDE);
    let checks = named(entry, checks);
    if table.is_none() && checks.is_none() {
        return None;
    }
    let Some(table) = table else { return Some(Override { checks, ..Override::default() }) };
    let port = table.integer(&PORT).and_then(|port| u16::try_from(port.value).ok());
    Some(Override { checks, port, host: http_host(&table), path: http_path(&table) })
}

/// The checks that a service or a destination names, as indexes; `None` where it says nothing of them.
fn named(table: &Table<'_>, checks: &[Check]) -> Option<Vec<usize>> {
    let named = table.list("checks", "web", |name| {
        checks.iter().position(|check| &*check.name == name).ok_or_else(|| {
            let near = nearest(name, checks.iter().map(|check| &*check.name));
            let near = near.map_or(String::new(), |near| format!(", perhaps {near:?}"));
            format!("there is no check {name:?}{near}: a [[check]] with that name is needed")
        })
    });
    let mut list: Vec<usize> = Vec::new();
    for At { value, at } in named.unwrap_or_default() {
        if list.contains(&value) {
            let what = format!("check {:?} stands twice", checks[value].name);
            table.doc.error(&at, what, "remove one");
        } else {
            list.push(value);
        }
    }
    table.has("checks").then_some(list)
}

/// What is asked of the server: of a passive check by what confirms it.
fn asks(check: &Check) -> &Kind {
    match &check.kind {
        Kind::Passive(passive) => &passive.confirm,
        kind => kind,
    }
}

/// Whether it verifies a certificate, and no name is given that this should have there.
fn is_nameless(check: &Check, health: &Health, destination: SocketAddr) -> bool {
    let host = match asks(check) {
        Kind::Http(http) => http.host.as_ref(),
        Kind::Grpc(grpc) => grpc.host.as_ref(),
        _ => None,
    };
    let host = health.overrides.get(&destination).and_then(|own| own.host.as_ref()).or(host);
    check.kind.tls().is_some_and(|tls| tls.verify && tls.sni.is_none() && host.is_none())
}

/// Says where a check cannot be made, or cannot see what matters.
pub(crate) fn judge(
    table: &Table<'_>,
    health: &Health,
    checks: &[Check],
    key: ServiceKey,
    destinations: &[DestinationSpec],
) {
    let doc = table.doc;
    let all = health.all_checks();
    let used = || all.iter().map(|index| (*index, &checks[*index]));
    let protocol = match key {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    };
    let talks_tcp = |kind: &Kind| matches!(kind, Kind::Tcp(_) | Kind::Http(_) | Kind::Grpc(_));
    for (index, check) in used() {
        let asked = || destinations.iter().filter(|spec| health.checks_of(spec.addr).contains(&index));
        let needs_port =
            talks_tcp(asks(check)) || matches!(asks(check), Kind::Udp(_) | Kind::Dns(_) | Kind::Agent { .. });
        let agent = matches!(check.kind, Kind::Agent { .. });
        for destination in asked() {
            let port = health.overrides.get(&destination.addr).and_then(|own| own.port).or(check.port);
            if needs_port && port.is_none() && (destination.addr.port() == 0 || agent) {
                let what =
                    format!("check {:?} has no port to ask at destination {}", check.name, destination.addr);
                let fix = "add port = ... to the check, or check = { port = ... } to the destination";
                doc.error(&health.location, what, fix);
            }
            if let Some(source) = check.source
                && source.is_ipv4() != destination.addr.is_ipv4()
            {
                let to = destination.addr.ip();
                let what = format!("check {:?} cannot ask {to} from {source}", check.name);
                doc.error(
                    &health.location,
                    what,
                    "use a source of the destination's family, or another check",
                );
            }
        }
        if let Some(nameless) = asked().find(|spec| is_nameless(check, health, spec.addr)) {
            let what = format!(
                "check {:?} has neither host nor sni: the certificate has to name the address that is asked, of {}",
                check.name, nameless.addr
            );
            let fix = "add host = \"...\" with the name that clients use to the check, or verify = false";
            doc.warn(&health.location, what, fix);
        }
        if let Kind::Passive(_) = &check.kind
            && check.confirm.is_none()
            && matches!(protocol, Some(Protocol::Udp | Protocol::Sctp))
        {
            let what = format!(
                "check {:?} is confirmed by a connection of TCP, and the service is none",
                check.name
            );
            let fix = "add confirm = \"...\" with the name of a [[check]] that asks the server";
            doc.error(&health.location, what, fix);
            continue;
        }
        if protocol == Some(Protocol::Udp) && talks_tcp(asks(check)) && check.port.is_none() {
            let what = format!("check {:?} asks over TCP, and the service is of UDP", check.name);
            let fix = "use type = \"udp\", or say by port = ... that a port of TCP tells of it";
            doc.warn(&health.location, what, fix);
        }
        if let Kind::Dns(dns) = asks(check)
            && protocol == Some(Protocol::Tcp)
            && !dns.tcp
            && check.port.is_none()
        {
            let what = format!("check {:?} asks over UDP, and the service is of TCP", check.name);
            doc.warn(&health.location, what, "add transport = \"tcp\" to the check");
        }
    }
    let asks_it =
        |index: &usize| !matches!(asks(&checks[*index]), Kind::File(_) | Kind::Agent { .. } | Kind::Exec(_));
    let direct = |spec: &&DestinationSpec| {
        spec.forwarding != Forwarding::Nat && health.checks_of(spec.addr).iter().any(asks_it)
    };
    if health.via == CheckVia::Direct
        && let Some(spec) = destinations.iter().find(direct)
    {
        let (how, hidden) = match spec.forwarding {
            Forwarding::Tunnel(_) => ("a tunnel", "one that does not unpack the tunnel, or has no VIP"),
            _ => ("direct routing", "one without the VIP on its loopback"),
        };
        let what = format!(
            "the checks ask {} at its own address, and clients get there by {how}: {hidden} stays up",
            spec.addr
        );
        doc.warn(&health.location, what, "add via = \"service\" to [service.health]");
    }
    if let Amount::Weight(least) = health.quorum.least {
        let main = destinations.iter().filter(|spec| !health.backups.contains(&spec.addr));
        let total: u64 = main.map(|spec| u64::from(spec.weight)).sum();
        if least > total && total > 0 {
            let what =
                format!("quorum {least} is more than all destinations weigh, {total}: {total} is used");
            doc.warn(&health.location, what, "use a smaller one, or a share as in \"50%\"");
        }
    }
}
