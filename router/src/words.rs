//! What the director is told, in the words of the configuration.

use core::fmt::Display;

use uvs_config::Interface;
use uvs_director::Duration;
use uvs_director::spec::{Forwarding, MarkRule, RouteSpec, Tunnel, TunnelChecksum};

/// As in `forward`, and in `tunnel` behind it.
pub(crate) fn forwarding(way: Forwarding) -> String {
    match way {
        Forwarding::Nat => "nat".to_owned(),
        Forwarding::Direct => "dr".to_owned(),
        Forwarding::Tunnel(Tunnel::Ipip) => "tun".to_owned(),
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }) => {
            let sum = match checksum {
                TunnelChecksum::None => "",
                TunnelChecksum::Full => ", checksum",
                TunnelChecksum::Remote => ", remote checksum",
            };
            format!("tun (gue to port {port}{sum})")
        }
        Forwarding::Tunnel(Tunnel::Gre { checksum }) => {
            format!("tun (gre{})", if checksum { ", checksum" } else { "" })
        }
    }
}

/// As in `forward`.
pub(crate) const fn method(way: Forwarding) -> &'static str {
    match way {
        Forwarding::Nat => "nat",
        Forwarding::Direct => "dr",
        Forwarding::Tunnel(_) => "tun",
    }
}

/// The first `most` of them, and behind these how many more there are: of what may be many in one message.
pub(crate) fn few<T: Display>(all: impl ExactSizeIterator<Item = T>, most: usize) -> Vec<String> {
    let more = all.len().saturating_sub(most);
    let mut few: Vec<String> = all.take(most).map(|one| one.to_string()).collect();
    if more > 0 {
        few.push(format!("and {more} more"));
    }
    few
}

/// As in `90 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// As in `to 0.0.0.0/0 via 192.0.2.1`.
pub(crate) fn route(route: &RouteSpec, interfaces: &[Interface]) -> String {
    let name = interfaces.get(usize::from(route.port.0)).map_or("?", |it| it.spec.name.as_str());
    match route.via {
        Some(via) => format!("to {} via {via}", route.to),
        None => format!("to {} on {name}", route.to),
    }
}

/// What it matches, as in `mark 7: tcp, destination 192.0.2.10/32, destination ports 80 to 90`.
pub(crate) fn mark_rule(rule: &MarkRule) -> String {
    let MarkRule {
        mark,
        port,
        source_mac,
        not_source_mac,
        protocol,
        source,
        destination,
        source_ports,
        destination_ports,
    } = *rule;
    let ports = |what: &str, ports: Option<(u16, u16)>| {
        ports.map(|(first, last)| match first == last {
            true => format!("{what} port {first}"),
            false => format!("{what} ports {first} to {last}"),
        })
    };
    let not = if not_source_mac { "any but " } else { "" };
    let matches: Vec<String> = [
        port.map(|port| format!("interface {}", port.0)),
        source_mac.map(|mac| format!("source MAC {not}{mac}")),
        protocol.map(|protocol| protocol.to_string()),
        source.map(|source| format!("source {source}")),
        destination.map(|destination| format!("destination {destination}")),
        ports("source", source_ports),
        ports("destination", destination_ports),
    ]
    .into_iter()
    .flatten()
    .collect();
    let matches = if matches.is_empty() { "everything".to_owned() } else { matches.join(" ") };
    format!("mark {mark} for {matches}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_a_few_are_named_and_the_rest_is_counted() {
        assert_eq!(few(1..3, 3), ["1", "2"]);
        assert_eq!(few(1..4, 3), ["1", "2", "3"]);
        assert_eq!(few(1..10_001, 2), ["1", "2", "and 9998 more"]);
    }
}
