//! What the director is told, in the words of the configuration.

use uvs_config::Interface;
use uvs_director::Duration;
use uvs_director::spec::{Forwarding, MarkRule, Options, RouteSpec, Transit, Tunnel, TunnelChecksum};

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

/// Each option by its key, and its value.
pub(crate) fn option_words(options: &Options) -> Vec<(&'static str, String)> {
    let Options {
        conn_reuse_mode,
        expire_nodest_conn,
        expire_quiescent_template,
        sloppy_tcp,
        sloppy_sctp,
        secure_tcp,
        drop_entry,
        drop_packet,
        am_droprate,
        nat_icmp_send,
        schedule_icmp,
        cache_bypass,
        ignore_tunneled,
        ftp,
        transit,
        pmtu_disc,
        compat_ipvs,
    } = *options;
    let transit = match transit {
        Transit::Servers => "servers",
        Transit::Any => "any",
        Transit::None => "none",
    };
    vec![
        ("compat", if compat_ipvs { "ipvs" } else { "none" }.to_owned()),
        ("transit", transit.to_owned()),
        ("conn_reuse_mode", conn_reuse_mode.to_string()),
        ("expire_nodest_conn", expire_nodest_conn.to_string()),
        ("expire_quiescent_template", expire_quiescent_template.to_string()),
        ("sloppy_tcp", sloppy_tcp.to_string()),
        ("sloppy_sctp", sloppy_sctp.to_string()),
        ("secure_tcp", secure_tcp.to_string()),
        ("drop_entry", drop_entry.to_string()),
        ("drop_packet", drop_packet.to_string()),
        ("am_droprate", am_droprate.to_string()),
        ("nat_icmp_send", nat_icmp_send.to_string()),
        ("schedule_icmp", schedule_icmp.to_string()),
        ("cache_bypass", cache_bypass.to_string()),
        ("ignore_tunneled", ignore_tunneled.to_string()),
        ("ftp", ftp.to_string()),
        ("pmtu_disc", pmtu_disc.to_string()),
    ]
}
