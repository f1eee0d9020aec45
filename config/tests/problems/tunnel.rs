//! Tunnels and thresholds of destinations.

use super::{Case, destination, replaced};

/// The config with a tunnel's destination, whose `tunnel` is in line 21.
fn tunnel(inside: &str) -> String {
    destination(&format!("address = '192.0.2.22'\nforward = 'tun'\ntunnel = {{ {inside} }}"))
}

/// The config with a destination with these lines from line 20 on.
fn thresholds(lines: &str) -> String {
    destination(&format!("address = '192.0.2.22'\n{lines}"))
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "tunnel without a type",
            tunnel("port = 6080"),
            r#"
error: tunnel has no type
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   add type = "ipip", "gue" or "gre"
"#,
        ),
        (
            "unknown tunnel type",
            tunnel("type = 'vxlan'"),
            r#"
error: unknown type "vxlan"
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   use one of "ipip", "gue", "gre"
"#,
        ),
        (
            "GUE without a port",
            tunnel("type = 'gue'"),
            r#"
error: tunnel has no port
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   add port = 6080
"#,
        ),
        (
            "GUE on port 0",
            tunnel("type = 'gue', port = 0"),
            r#"
error: tunnel port 0 is out of range
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   use 1 to 65535
"#,
        ),
        (
            "port of IP in IP",
            tunnel("type = 'ipip', port = 6080"),
            r#"
error: port does not go with this type: only GUE runs over UDP
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   remove port, or use type = "gue"
"#,
        ),
        (
            "port of GRE",
            tunnel("type = 'gre', port = 6080"),
            r#"
error: port does not go with this type: only GUE runs over UDP
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   remove port, or use type = "gue"
"#,
        ),
        (
            "checksum of IP in IP",
            tunnel("type = 'ipip', checksum = 'full'"),
            r#"
error: checksum does not go with type "ipip": IP in IP has no checksum of its own
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   remove checksum, or use type = "gue" or "gre"
"#,
        ),
        (
            "remote checksum of GRE",
            tunnel("type = 'gre', checksum = 'remote'"),
            r#"
error: GRE has no remote checksum offload
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   use "none" or "full", or type = "gue"
"#,
        ),
        (
            "ipvsadm's word for a checksum",
            tunnel("type = 'gue', port = 6080, checksum = 'csum'"),
            r#"
error: unknown checksum "csum"
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   did you mean "full"? It is one of "none", "full", "remote"
"#,
        ),
        (
            "tunnel that is no table",
            destination("address = '192.0.2.22'\nforward = 'tun'\ntunnel = 'gre'"),
            r#"
error: tunnel must be a table, not a string
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   write tunnel = { type = ... }
"#,
        ),
        (
            "tunnel of a destination that has none",
            destination("address = '192.0.2.22'\ntunnel = { type = 'gre' }"),
            r#"
error: the destination is not reached by a tunnel
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use forward = "tun", or remove tunnel
"#,
        ),
        (
            "wrong tunnel of a service",
            replaced("forward = 'nat'", "forward = 'tun'\ntunnel = { type = 'gue' }"),
            r#"
error: tunnel has no port
  where: edge.toml:16, service tcp 192.0.2.10:443, tunnel
  fix:   add port = 6080
"#,
        ),
        (
            "unknown key of a tunnel",
            tunnel("type = 'gre', key = 5"),
            r#"
error: unknown key "key"
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22, tunnel
  fix:   remove it; the keys here are type, port, checksum
"#,
        ),
        (
            "upper threshold beyond 31 bits",
            thresholds("upper_threshold = 2147483648"),
            r#"
error: upper_threshold 2147483648 is out of range
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use 0 to 2147483647 connections (0 is no limit)
"#,
        ),
        (
            "lower threshold beyond 31 bits",
            thresholds("upper_threshold = 2147483647\nlower_threshold = 2147483648"),
            r#"
error: lower_threshold 2147483648 is out of range
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use 0 to 2147483647 connections (0 is three quarters of upper_threshold)
"#,
        ),
        (
            "lower threshold above the upper",
            thresholds("upper_threshold = 100\nlower_threshold = 101"),
            r#"
error: lower_threshold 101 is above upper_threshold 100
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use 0 to 100 (0 is three quarters of upper_threshold)
"#,
        ),
        (
            "lower threshold alone",
            thresholds("lower_threshold = 100"),
            r#"
error: lower_threshold 100 without an upper one: the destination is never overloaded
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   add upper_threshold, or remove lower_threshold
"#,
        ),
        (
            "threshold negative",
            thresholds("upper_threshold = -1\nlower_threshold = 5"),
            r#"
error: upper_threshold -1 is out of range
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use 0 to 2147483647 connections (0 is no limit)
"#,
        ),
    ]
}
