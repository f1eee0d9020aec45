//! Persistence, one-packet services, ports of services, SCTP.

use super::{Case, added, destination, replaced};

/// The config with lines added to its service, from line 16 on.
fn service(lines: &str) -> String {
    replaced("forward = 'nat'", &format!("forward = 'nat'\n{lines}"))
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "persistence of 0 seconds",
            service("persistent = 0"),
            r#"
error: persistent 0 is out of range
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   use 1 to 2678400 seconds, or true for 300
"#,
        ),
        (
            "persistence longer than 31 days",
            service("persistent = 2678401"),
            r#"
error: persistent 2678401 is out of range
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   use 1 to 2678400 seconds, or true for 300
"#,
        ),
        (
            "persistence as a text",
            service("persistent = '5m'"),
            r#"
error: persistent must be an integer, not a string
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   use 1 to 2678400 seconds, or true for 300
"#,
        ),
        (
            "netmask without persistence",
            service("netmask = 24"),
            r#"
error: netmask without persistence: it says which clients stick together
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   add persistent = 300, or remove netmask
"#,
        ),
        (
            "netmask with persistence switched off",
            service("persistent = false\nnetmask = 24"),
            r#"
error: netmask without persistence: it says which clients stick together
  where: edge.toml:17, service tcp 192.0.2.10:443
  fix:   add persistent = 300, or remove netmask
"#,
        ),
        (
            "netmask with a hole",
            service("persistent = true\nnetmask = '255.0.255.0'"),
            r#"
error: netmask "255.0.255.0" has a hole: a 1 follows a 0
  where: edge.toml:17, service tcp 192.0.2.10:443
  fix:   write netmask as in "255.255.255.0"
"#,
        ),
        (
            "netmask of the other family",
            service("persistent = true\nnetmask = 'ffff:ffff::'"),
            r#"
error: netmask "ffff:ffff::" is of IPv6, the service of IPv4
  where: edge.toml:17, service tcp 192.0.2.10:443
  fix:   write netmask as in "255.255.255.0"
"#,
        ),
        (
            "netmask that is none",
            service("persistent = true\nnetmask = 'C'"),
            r#"
error: netmask "C" is not one
  where: edge.toml:17, service tcp 192.0.2.10:443
  fix:   write netmask as in "255.255.255.0"
"#,
        ),
        (
            "netmask longer than an address",
            service("persistent = true\nnetmask = 33"),
            r#"
error: netmask 33 is out of range
  where: edge.toml:17, service tcp 192.0.2.10:443
  fix:   use 0 to 32 as a prefix length of IPv4, or a mask as in "255.255.255.0"
"#,
        ),
        (
            "netmask of no bits in IPv6",
            added("[[service]]\nmark = 7\nfamily = 'ipv6'\npersistent = 60\nnetmask = 0"),
            r#"
error: netmask 0 is out of range
  where: edge.toml:22, service fwmark 7 IPv6
  fix:   use 1 to 128 as a prefix length of IPv6
"#,
        ),
        (
            "service on port 0 without persistence",
            replaced("address = '192.0.2.10:443'", "address = '192.0.2.10:0'"),
            r#"
error: a service on port 0 (all ports) needs persistence
  where: edge.toml:14, service tcp 192.0.2.10:0
  fix:   add persistent = 300, or give the one port, 1 to 65535
error: destination port 443 of a service on all ports: packets keep the port they ask for
  where: edge.toml:17, service tcp 192.0.2.10:0, destination 192.0.2.21:443
  fix:   leave the port out
"#,
        ),
        (
            "service on port 0 with persistence switched off",
            service("persistent = false").replace(":443", ":0"),
            r#"
error: a service on port 0 (all ports) needs persistence
  where: edge.toml:14, service tcp 192.0.2.10:0
  fix:   add persistent = 300, or give the one port, 1 to 65535
"#,
        ),
        (
            "port of a destination of all ports",
            service("persistent = 60").replacen("192.0.2.10:443", "192.0.2.10:0", 1),
            r#"
error: destination port 443 of a service on all ports: packets keep the port they ask for
  where: edge.toml:18, service tcp 192.0.2.10:0, destination 192.0.2.21:443
  fix:   leave the port out
"#,
        ),
        (
            "one_packet on TCP",
            service("one_packet = true"),
            r#"
error: one_packet on tcp: only datagrams can be scheduled alone
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   remove one_packet, or use protocol = "udp"
"#,
        ),
        (
            "sloppy_tcp on SCTP",
            service("sloppy_tcp = true").replace("'tcp'", "'sctp'"),
            r#"
error: sloppy_tcp on sctp: it says which TCP packets start a connection
  where: edge.toml:16, service sctp 192.0.2.10:443
  fix:   remove sloppy_tcp, or use protocol = "tcp"
"#,
        ),
        (
            "one_packet on SCTP",
            service("one_packet = 1").replace("'tcp'", "'sctp'"),
            r#"
error: one_packet on sctp: only datagrams can be scheduled alone
  where: edge.toml:16, service sctp 192.0.2.10:443
  fix:   remove one_packet, or use protocol = "udp"
"#,
        ),
        (
            "protocol that is not balanced",
            replaced("protocol = 'tcp'", "protocol = 'icmp'"),
            r#"
error: unknown protocol "icmp"
  where: edge.toml:13, service icmp 192.0.2.10:443
  fix:   use one of "tcp", "udp", "sctp"
"#,
        ),
        (
            "SCTP with direct routing on a TUN device is as wrong as any",
            destination("address = '10.0.0.1'\nforward = 'dr'").replace("'tcp'", "'sctp'"),
            r#"
error: direct routing over uvs1: a layer 3 device (TUN) has no MAC address to rewrite
  where: edge.toml:19, service sctp 192.0.2.10:443, destination 10.0.0.1
  fix:   use forward = "nat" or "tun", or make the interface device = "tap"
"#,
        ),
    ]
}
