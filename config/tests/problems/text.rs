//! Syntax, keys, types, settings.

use super::{Case, added, destination, prefixed, replaced};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "empty file",
            String::new(),
            r#"
error: the config has no interface
  where: edge.toml:1
  fix:   add [[interface]] with name, device and addresses
"#,
        ),
        (
            "syntax",
            "[[interface]]\nname = uvs0\n".to_owned(),
            r#"
error: this is not TOML: string values must be quoted, expected literal string
  where: edge.toml:2:8
  fix:   correct the syntax here: key = value, text in quotes, tables as [name] or [[name]]
"#,
        ),
        (
            "a key twice",
            "[timeouts]\ntcp = 1\ntcp = 2\n".to_owned(),
            r#"
error: this is not TOML: duplicate key
  where: edge.toml:3:1
  fix:   correct the syntax here: key = value, text in quotes, tables as [name] or [[name]]
"#,
        ),
        (
            "unknown key with a near one",
            replaced("forward = 'nat'", "forwrad = 'nat'"),
            r#"
error: unknown key "forwrad"
  where: edge.toml:15, service tcp 192.0.2.10:443
  fix:   did you mean "forward"? The keys here are protocol, address, scheduler, options, forward, destination
"#,
        ),
        (
            "unknown key with none near",
            replaced("forward = 'nat'", "forward = 'nat'\npersistent = 60"),
            r#"
error: unknown key "persistent"
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   remove it; the keys here are protocol, address, scheduler, options, forward, destination
"#,
        ),
        (
            "unknown key of a destination",
            destination("address = '192.0.2.22'\nweigth = 1"),
            r#"
error: unknown key "weigth"
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   did you mean "weight"? The keys here are address, weight, forward
"#,
        ),
        (
            "unknown section",
            added("[timeout]\ntcp = 1"),
            r#"
error: unknown key "timeout"
  where: edge.toml:18
  fix:   did you mean "timeouts"? The keys here are metrics, limits, timeouts, options, interface, route, neighbor, scheduler, service
"#,
        ),
        (
            "misspelt required key is told once",
            replaced("addresses = ['192.0.2.1", "adresses = ['192.0.2.1"),
            r#"
error: unknown key "adresses"
  where: edge.toml:4, interface uvs0
  fix:   did you mean "addresses"? The keys here are name, device, mac, mtu, addresses, bridge, host
"#,
        ),
        (
            "string for an integer",
            destination("address = '192.0.2.22'\nweight = '1'"),
            r#"
error: weight must be an integer, not a string
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use 0 to 2147483647 (0 quiesces the destination)
"#,
        ),
        (
            "integer for a string",
            replaced("name = 'uvs0'", "name = 0"),
            r#"
error: name must be a string, not an integer
  where: edge.toml:2, interface 1
  fix:   write name = "uvs0"
"#,
        ),
        (
            "string for a list",
            replaced("addresses = ['192.0.2.1/24']", "addresses = '192.0.2.1/24'"),
            r#"
error: addresses must be an array, not a string
  where: edge.toml:4, interface uvs0
  fix:   write addresses = ["192.0.2.1/24"]
"#,
        ),
        (
            "integer in a list",
            replaced("addresses = ['192.0.2.1/24']", "addresses = [1]"),
            r#"
error: an entry of addresses must be a string, not an integer
  where: edge.toml:4, interface uvs0
  fix:   write addresses = ["192.0.2.1/24"]
"#,
        ),
        (
            "integer for a boolean",
            prefixed("options.pmtu_disc = 1"),
            r#"
error: pmtu_disc must be a boolean, not an integer
  where: edge.toml:1, options
  fix:   write pmtu_disc = true or pmtu_disc = false
"#,
        ),
        (
            "one pair of brackets for a list of tables",
            added("[neighbor]\naddress = '192.0.2.21'"),
            r#"
error: neighbor must be an array of tables, not a table
  where: edge.toml:18
  fix:   write [[neighbor]], with two pairs of brackets, for each
"#,
        ),
        (
            "two pairs of brackets for one table",
            added("[[limits]]\nconnections = 1"),
            r#"
error: limits must be a table, not an array
  where: edge.toml:18
  fix:   write [limits], with one pair of brackets, and its keys below it
"#,
        ),
        (
            "timeout 0",
            prefixed("timeouts.udp = 0"),
            r#"
error: timeout udp 0 is out of range
  where: edge.toml:1, timeouts
  fix:   use 1 to 2147483 seconds
"#,
        ),
        (
            "timeout too long",
            prefixed("timeouts.tcp = 2147484"),
            r#"
error: timeout tcp 2147484 is out of range
  where: edge.toml:1, timeouts
  fix:   use 1 to 2147483 seconds
"#,
        ),
        (
            "limit 0",
            prefixed("limits.connections = 0"),
            r#"
error: limit of connections 0 is out of range
  where: edge.toml:1, limits
  fix:   use 1 to 4294967295
"#,
        ),
        (
            "an option out of range",
            prefixed("options.conn_reuse_mode = 4"),
            r#"
error: conn_reuse_mode 4 is out of range
  where: edge.toml:1, options
  fix:   use 0 to 3 (bit 0: a SYN on a closing connection is scheduled anew, bit 1: in DR and TUN also in FIN_WAIT)
"#,
        ),
        (
            "metrics address without a port",
            prefixed("metrics.listen = '127.0.0.1'"),
            r#"
error: metrics address "127.0.0.1" is not an IP address and a port
  where: edge.toml:1, metrics
  fix:   write listen as in "127.0.0.1:9100"
"#,
        ),
        (
            "metrics without an address",
            prefixed("metrics = {}"),
            r#"
error: metrics has no listen
  where: edge.toml:1, metrics
  fix:   add listen = "127.0.0.1:9100"
"#,
        ),
        (
            "number too large for any integer",
            prefixed("limits.neighbors = 99999999999999999999"),
            r#"
error: limit of neighbors 99999999999999999999 is out of range
  where: edge.toml:1, limits
  fix:   use 1 to 1000000
"#,
        ),
        (
            "many at once, in the order of the lines",
            replaced("device = 'tap'", "device = 'tap'\nmtu = 1")
                .replace("forward", "scheduler = 'wr'\nforward")
                + "weight = -1\nwieght = 1\n",
            r#"
error: MTU 1 is out of range
  where: edge.toml:4, interface uvs0
  fix:   use 68 to 65521 bytes on a TAP
error: unknown scheduler "wr"
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   did you mean "rr"? Use one of rr, wrr, lc, wlc, or the path of a .wasm file
error: destination weight -1 is out of range
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.21:443
  fix:   use 0 to 2147483647 (0 quiesces the destination)
error: unknown key "wieght"
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.21:443
  fix:   did you mean "weight"? The keys here are address, weight, forward
"#,
        ),
    ]
}
