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
  fix:   did you mean "forward"? The keys here are protocol, address, mark, family, scheduler, options, shadow, canary, persistent, netmask, one_packet, sloppy_tcp, forward, tunnel, destination, checks, health, drain
"#,
        ),
        (
            "unknown key with none near",
            replaced("forward = 'nat'", "forward = 'nat'\nquorum = 2"),
            r#"
error: unknown key "quorum"
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   remove it; the keys here are protocol, address, mark, family, scheduler, options, shadow, canary, persistent, netmask, one_packet, sloppy_tcp, forward, tunnel, destination, checks, health, drain
"#,
        ),
        (
            "unknown key of a destination",
            destination("address = '192.0.2.22'\nweigth = 1"),
            r#"
error: unknown key "weigth"
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   did you mean "weight"? The keys here are address, weight, forward, tunnel, upper_threshold, lower_threshold, check, checks
"#,
        ),
        (
            "unknown section",
            added("[timeout]\ntcp = 1"),
            r#"
error: unknown key "timeout"
  where: edge.toml:18
  fix:   did you mean "timeouts"? The keys here are include, compat, transit, metrics, http, control, limits, timeouts, options, workers, flow_cache, host, restart, local, modules, interface, route, neighbor, scheduler, mark, check, notify, announce, vrrp_script, vrrp, service
"#,
        ),
        (
            "connections kept nowhere in particular",
            added("[restart]\nconnections = 'connections'\nevery = 0"),
            r#"
error: "connections" is not the absolute path of a file
  where: edge.toml:19, restart
  fix:   write connections as in "/var/lib/uvs/connections"
error: every "0s" is out of range
  where: edge.toml:20, restart
  fix:   use "1s" to "1d"
"#,
        ),
        (
            "connections kept every now and then, and nowhere",
            added("[restart]\nevery = '10s'"),
            r#"
error: every without connections
  where: edge.toml:19, restart
  fix:   add connections = "/var/lib/uvs/connections", or remove every
"#,
        ),
        (
            "a failure budget out of range",
            added("[modules]\nfailures = 0\nfailure_window = '10s'"),
            r#"
error: failures 0 is out of range
  where: edge.toml:19, modules
  fix:   use 1 to 1000 failures
error: failure_window must be an integer, not a string
  where: edge.toml:20, modules
  fix:   use 1 to 3600 s
"#,
        ),
        (
            "misspelt required key is told once",
            replaced("addresses = ['192.0.2.1", "adresses = ['192.0.2.1"),
            r#"
error: unknown key "adresses"
  where: edge.toml:4, interface uvs0
  fix:   did you mean "addresses"? The keys here are name, device, mac, mtu, offload, queues, addresses, source_check, attach, link, accelerate, bridge, host
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
            replaced("'10.9.9.9/32']", "'10.9.9.9/32']\nhost = { forwarding = 1 }"),
            r#"
error: forwarding must be a boolean, not an integer
  where: edge.toml:9, interface uvs1, host
  fix:   write forwarding = true or forwarding = false
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
            "a switch as a number that is none",
            prefixed("options.pmtu_disc = 2"),
            r#"
error: pmtu_disc 2 is out of range
  where: edge.toml:1, options
  fix:   use 0 to 1, or false and true
"#,
        ),
        (
            "string for a switch",
            prefixed("options.sloppy_tcp = 'yes'"),
            r#"
error: sloppy_tcp must be a boolean, not a string
  where: edge.toml:1, options
  fix:   write sloppy_tcp = true or sloppy_tcp = false
"#,
        ),
        (
            "secure_tcp out of range",
            prefixed("options.secure_tcp = 4"),
            r#"
error: secure_tcp 4 is out of range
  where: edge.toml:1, options
  fix:   use 0 to 3 (3: a connection is not established before its destination says so)
"#,
        ),
        (
            "drop_entry out of range",
            prefixed("options.drop_entry = 4"),
            r#"
error: drop_entry 4 is out of range
  where: edge.toml:1, options
  fix:   use 0 to 3 (0: never, 1 and 2: when memory is short, 3: always)
"#,
        ),
        (
            "drop_packet negative",
            prefixed("options.drop_packet = -1"),
            r#"
error: drop_packet -1 is out of range
  where: edge.toml:1, options
  fix:   use 0 to 3 (0: never, 1 and 2: when memory is short, 3: always)
"#,
        ),
        (
            "am_droprate 0",
            prefixed("options.am_droprate = 0"),
            r#"
error: am_droprate 0 is out of range
  where: edge.toml:1, options
  fix:   use 1 to 2147483647 (one packet in so many)
"#,
        ),
        (
            "unknown compat",
            prefixed("compat = 'lvs'"),
            r#"
error: unknown compat "lvs"
  where: edge.toml:1
  fix:   use one of "none", "ipvs"
"#,
        ),
        (
            "compat among the options",
            prefixed("options.compat = 'ipvs'"),
            r#"
error: unknown key "compat"
  where: edge.toml:1, options
  fix:   move it to the top level, out of this table; the keys here are conn_reuse_mode, expire_nodest_conn, expire_quiescent_template, sloppy_tcp, sloppy_sctp, secure_tcp, drop_entry, drop_packet, am_droprate, nat_icmp_send, schedule_icmp, cache_bypass, ignore_tunneled, pmtu_disc, ftp
"#,
        ),
        (
            "too little room for fragments",
            prefixed("limits.fragment_bytes = 131071"),
            r#"
error: limit of fragment_bytes 131071 is out of range
  where: edge.toml:1, limits
  fix:   use 131072 to 4294967295 bytes (the largest packet has to fit in)
"#,
        ),
        (
            "no fragmented packet at all",
            prefixed("limits.fragmented_packets = 0"),
            r#"
error: limit of fragmented_packets 0 is out of range
  where: edge.toml:1, limits
  fix:   use 1 to 1000000
"#,
        ),
        (
            "more fragments than a packet can have",
            prefixed("limits.fragments_per_packet = 8193"),
            r#"
error: limit of fragments_per_packet 8193 is out of range
  where: edge.toml:1, limits
  fix:   use 1 to 8192
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
            "unknown transit",
            prefixed("transit = 'server'"),
            r#"
error: unknown transit "server"
  where: edge.toml:1
  fix:   did you mean "servers"? It is one of "servers", "any", "none"
"#,
        ),
        (
            "unknown source check",
            replaced("device = 'tap'", "device = 'tap'\nsource_check = 'rp_filter'"),
            r#"
error: unknown source_check "rp_filter"
  where: edge.toml:4, interface uvs0
  fix:   use one of "loose", "strict", "off"
"#,
        ),
        (
            "key of an earlier version",
            prefixed("limits.neighbor_queue = 16"),
            r#"
error: neighbor_queue is not used any more
  where: edge.toml:1, limits
  fix:   remove it, or write neighbor_queue_bytes: it counts bytes, not frames, and 212992 is the default
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
  fix:   did you mean "rr"? Use one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, swrr, p2c, chbl, maglev, lrt, or the path of a .wasm file
error: destination weight -1 is out of range
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.21:443
  fix:   use 0 to 2147483647 (0 quiesces the destination)
error: unknown key "wieght"
  where: edge.toml:21, service tcp 192.0.2.10:443, destination 192.0.2.21:443
  fix:   did you mean "weight"? The keys here are address, weight, forward, tunnel, upper_threshold, lower_threshold, check, checks
"#,
        ),
    ]
}
