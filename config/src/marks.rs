//! `[[mark]]`: rules that give packets a firewall mark.

use uvs_director::spec::{Family, Link, MarkRule, Prefix, Protocol, ServiceKey};

use crate::address::{is_network, is_station};
use crate::model::{Interface, Service};
use crate::network::Network;
use crate::read::{At, Doc, Integer, Keys, Scalar, Table};

/// What the key `protocol` may say.
pub(crate) const PROTOCOLS: &[(&str, Protocol)] =
    &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

pub(crate) const MARK: Keys = &[
    "mark",
    "interface",
    "source_mac",
    "protocol",
    "source",
    "destination",
    "source_ports",
    "destination_ports",
];

/// All rules, in the order of the file.
pub(crate) fn marks(root: &Table<'_>, network: &Network) -> Vec<At<MarkRule>> {
    let name = |entries| Some(Table::peek_integer(entries, "mark").unwrap_or_else(|| "?".to_owned()));
    let tables = root.tables("mark", MARK, name);
    tables.iter().filter_map(|table| read_rule(table, network)).collect()
}

fn read_rule(table: &Table<'_>, network: &Network) -> Option<At<MarkRule>> {
    let doc = table.doc;
    let mark = read_mark(table);
    let name = table.string("interface", "uvs0");
    let interface = name.as_ref().and_then(|name| network.named(doc, name));
    let mac = read_mac(table, network, interface);
    let protocol = table.choice("protocol", PROTOCOLS, &[("TCP", "tcp"), ("UDP", "udp"), ("SCTP", "sctp")]);
    let prefix = |key| {
        let found = table.parsed::<Prefix>(key, "192.0.2.0/24", str::parse);
        found.filter(|prefix| is_network(doc, prefix))
    };
    let (source, destination) = (prefix("source"), prefix("destination"));
    if let (Some(source), Some(destination)) = (&source, &destination)
        && Family::of(source.value.addr()) != Family::of(destination.value.addr())
    {
        let what = format!(
            "source {} and destination {} are of two address families: no packet has both",
            source.value, destination.value
        );
        doc.error(&destination.at, what, "use prefixes of one family, and a rule for each family");
    }
    let rule = MarkRule {
        mark: mark?,
        port: interface.map(|interface| interface.spec.port),
        source_mac: mac.map(|(_, mac)| mac),
        not_source_mac: mac.is_some_and(|(not, _)| not),
        protocol: protocol.map(|protocol| protocol.value),
        source: source.map(|prefix| prefix.value),
        destination: destination.map(|prefix| prefix.value),
        source_ports: read_ports(table, "source_ports"),
        destination_ports: read_ports(table, "destination_ports"),
    };
    Some(At { value: rule, at: table.at.clone() })
}

/// The number itself, of a rule or of a service.
pub(crate) fn read_mark(table: &Table<'_>) -> Option<u32> {
    table.require("mark", "7");
    let mark = Integer { key: "mark", label: "mark", min: 1, max: u32::MAX.into(), note: " (0 is no mark)" };
    table.integer(&mark).and_then(|mark| u32::try_from(mark.value).ok())
}

/// Whether it must be any other, and the address.
fn read_mac(
    table: &Table<'_>,
    network: &Network,
    interface: Option<&Interface>,
) -> Option<(bool, uvs_director::spec::MacAddr)> {
    let doc = table.doc;
    let mac = table.parsed("source_mac", "!02:00:00:00:00:15", |text| {
        let (not, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        Ok((not, rest.trim_start().parse()?))
    })?;
    let At { value: (not, value), at } = mac;
    is_station(doc, &At { value, at: at.clone() });
    let is_tap = |interface: &Interface| interface.spec.link != Link::Ip;
    let fault = match interface {
        Some(interface) if !is_tap(interface) => Some(interface.spec.name.clone()),
        None if network.complete && !network.interfaces.iter().any(is_tap) => {
            Some("any interface".to_owned())
        }
        _ => None,
    };
    if let Some(place) = fault {
        doc.error(
            &at,
            format!("source_mac on {place}: a layer 3 device (TUN) has no MAC addresses"),
            "remove source_mac, or give the interface of a TAP",
        );
    }
    Some((not, value))
}

/// `80`, `"80"` or `"8080-8090"`.
fn read_ports(table: &Table<'_>, key: &'static str) -> Option<(u16, u16)> {
    let Some(Scalar::Text(_)) = table.scalar(key) else {
        let note = ", or a range as in \"8080-8090\"";
        let port = table.integer(&Integer { key, label: key, min: 0, max: u16::MAX.into(), note })?;
        return u16::try_from(port.value).ok().map(|port| (port, port));
    };
    let ports = table.parsed(key, "8080-8090", |text| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            text.trim()
                .parse::<u16>()
                .map_err(|_| format!("port {:?} is not a number from 0 to 65535", text.trim()))
        };
        let (low, high) = (port(low)?, port(high)?);
        if low > high { Err(format!("the range of ports {text:?} is upside down")) } else { Ok((low, high)) }
    });
    ports.map(|ports| ports.value)
}

/// Warns about rules and services that cannot meet, and rules that no packet gets to.
pub(crate) fn check(doc: &Doc<'_>, rules: &[At<MarkRule>], services: &[Service]) {
    let of_services = || services.iter().map(|service| (service.spec.key, &service.location));
    for (index, rule) in rules.iter().enumerate() {
        let mark = rule.value.mark;
        let users: Vec<Family> = of_services()
            .filter(|(key, _)| matches!(key, ServiceKey::Mark { mark: other, .. } if *other == mark))
            .map(|(key, _)| key.family())
            .collect();
        let family = family_of(&rule.value);
        if users.is_empty() {
            let what = format!("no service uses mark {mark}");
            doc.warn(&rule.at, what, format!("add a [[service]] with mark = {mark}, or remove the rule"));
        } else if let Some(family) = family.filter(|family| !users.contains(family)) {
            let word = word_of(family);
            let what = format!("no service of {word} uses mark {mark}, and the rule matches {word} only");
            let fix = format!("add a [[service]] with mark = {mark} and family = {:?}", word.to_lowercase());
            doc.warn(&rule.at, what, fix);
        }
        if let Some(earlier) = rules[..index].iter().find(|earlier| covers(&earlier.value, &rule.value)) {
            let what = format!(
                "the rule is never reached: the one in {} matches first",
                doc.refer(&rule.at, &earlier.at)
            );
            doc.warn(&rule.at, what, "put it before that one, or remove it");
        }
    }
    for (key, at) in of_services() {
        let ServiceKey::Mark { mark, family } = key else { continue };
        let gives = |rule: &At<MarkRule>| {
            rule.value.mark == mark && family_of(&rule.value).is_none_or(|other| other == family)
        };
        if !rules.iter().any(gives) {
            let what = format!(
                "no rule gives mark {mark} to packets of {}: the service has no clients",
                word_of(family)
            );
            doc.warn(at, what, format!("add [[mark]] with mark = {mark} and what its packets look like"));
        }
    }
}

/// The only family it matches, if there is one.
fn family_of(rule: &MarkRule) -> Option<Family> {
    rule.source.or(rule.destination).map(|prefix| Family::of(prefix.addr()))
}

fn word_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// Whether every packet that `later` matches is matched by `earlier` too.
fn covers(earlier: &MarkRule, later: &MarkRule) -> bool {
    let prefix = |earlier: Option<Prefix>, later: Option<Prefix>| {
        earlier.is_none_or(|earlier| {
            later.is_some_and(|later| {
                earlier.prefix_len() <= later.prefix_len() && earlier.contains(later.addr())
            })
        })
    };
    let ports = |earlier: Option<(u16, u16)>, later: Option<(u16, u16)>| {
        earlier.is_none_or(|(low, high)| later.is_some_and(|later| low <= later.0 && later.1 <= high))
    };
    let mac = earlier.source_mac.is_none()
        || (earlier.source_mac, earlier.not_source_mac) == (later.source_mac, later.not_source_mac);
    let protocol = |earlier: Option<Protocol>| earlier.is_none() || earlier == later.protocol;
    mac && (earlier.port.is_none() || earlier.port == later.port)
        && protocol(earlier.protocol)
        && prefix(earlier.source, later.source)
        && prefix(earlier.destination, later.destination)
        && ports(earlier.source_ports, later.source_ports)
        && ports(earlier.destination_ports, later.destination_ports)
}
