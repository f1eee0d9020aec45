//! Mark rules and the services they lead to.

use super::{Case, HEAD, added};

/// The config with a firewall-mark service from line 18 on; `lines` end it.
fn mark_service(lines: &str) -> String {
    added(&format!(
        "[[mark]]\nmark = 7\n[[service]]\nmark = 7\n{lines}\n[[service.destination]]\naddress = '192.0.2.22'"
    ))
}

/// The config with a rule, from line 22 on, and its service.
fn mark_rule(lines: &str) -> String {
    added(&format!(
        "[[service]]\nmark = 7\nforward = 'nat'\ndestination = [{{ address = '192.0.2.22' }}]\n[[mark]]\n{lines}"
    ))
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "mark 0 of a service",
            added("[[service]]\nmark = 0\nforward = 'nat'\ndestination = [{ address = '192.0.2.22' }]"),
            r#"
error: mark 0 is out of range
  where: edge.toml:19, service fwmark 0
  fix:   use 1 to 4294967295 (0 is no mark)
"#,
        ),
        (
            "protocol and address beside a mark",
            mark_service("protocol = 'tcp'\naddress = '192.0.2.10:80'\nforward = 'nat'"),
            r#"
error: protocol does not go with mark: the service has every packet with that mark
  where: edge.toml:22, service fwmark 7
  fix:   remove protocol or mark; a [[mark]] rule says which packets have it
error: address does not go with mark: the service has every packet with that mark
  where: edge.toml:23, service fwmark 7
  fix:   remove address or mark; a [[mark]] rule says which packets have it
"#,
        ),
        (
            "family without a mark",
            added("[[service]]\nprotocol = 'udp'\naddress = '192.0.2.10:53'\nfamily = 'ipv4'\nforward = 'nat'\ndestination = [{ address = '192.0.2.22' }]"),
            r#"
error: family goes with mark only: the address has its own
  where: edge.toml:21, service udp 192.0.2.10:53
  fix:   remove family, or name the service by mark
"#,
        ),
        (
            "unknown family",
            mark_service("family = 'inet6'\nforward = 'nat'"),
            r#"
error: unknown family "inet6"
  where: edge.toml:22, service fwmark 7
  fix:   did you mean "ipv6"? It is one of "ipv4", "ipv6"
"#,
        ),
        (
            "destination of another family than the mark's",
            mark_service("family = 'ipv6'\nforward = 'nat'"),
            r#"
error: destination 192.0.2.22 and the service are of two address families
  where: edge.toml:25, service fwmark 7 IPv6, destination 192.0.2.22
  fix:   use forward = "tun", which crosses them, or correct the family of the service
"#,
        ),
        (
            "mark service twice, once with the family left out",
            mark_service("forward = 'nat'").replace("address = '192.0.2.22'", "address = '192.0.2.22'\n[[service]]\nmark = 7\nfamily = 'ipv4'\nforward = 'nat'\ndestination = [{ address = '192.0.2.22' }]"),
            r#"
error: a second service fwmark 7
  where: edge.toml:25, service fwmark 7
  fix:   move its destinations to the one in line 20
"#,
        ),
        (
            "port of a mark's destination with direct routing",
            mark_service("forward = 'dr'").replace("'192.0.2.22'", "'192.0.2.22:80'"),
            r#"
error: destination port 80 of a firewall-mark service: direct routing leaves ports alone
  where: edge.toml:24, service fwmark 7, destination 192.0.2.22:80
  fix:   leave the port out, or use forward = "nat"
"#,
        ),
        (
            "service named by nothing",
            added("[[service]]\nforward = 'nat'\ndestination = [{ address = '192.0.2.22' }]"),
            r#"
error: service 2 has no address
  where: edge.toml:18, service 2
  fix:   add address = "192.0.2.80:443"
error: service 2 has no protocol
  where: edge.toml:18, service 2
  fix:   add protocol = "tcp", "udp" or "sctp"
"#,
        ),
        (
            "mark 0 of a rule",
            mark_rule("mark = 0"),
            r#"
error: mark 0 is out of range
  where: edge.toml:23, mark 0
  fix:   use 1 to 4294967295 (0 is no mark)
"#,
        ),
        (
            "mark beyond 32 bits",
            mark_rule("mark = 4294967296"),
            r#"
error: mark 4294967296 is out of range
  where: edge.toml:23, mark 4294967296
  fix:   use 1 to 4294967295 (0 is no mark)
"#,
        ),
        (
            "rule without a mark",
            mark_rule("protocol = 'tcp'"),
            r#"
error: mark ? has no mark
  where: edge.toml:22, mark ?
  fix:   add mark = 7
"#,
        ),
        (
            "mark that is a string",
            mark_rule("mark = '7'"),
            r#"
error: mark must be an integer, not a string
  where: edge.toml:23, mark ?
  fix:   use 1 to 4294967295 (0 is no mark)
"#,
        ),
        (
            "unknown interface of a rule",
            mark_rule("mark = 7\ninterface = 'uvs2'"),
            r#"
error: unknown interface "uvs2"
  where: edge.toml:24, mark 7
  fix:   did you mean "uvs0"?
"#,
        ),
        (
            "unknown protocol of a rule",
            mark_rule("mark = 7\nprotocol = 'icmp'"),
            r#"
error: unknown protocol "icmp"
  where: edge.toml:24, mark 7
  fix:   use one of "tcp", "udp", "sctp"
"#,
        ),
        (
            "rule's prefix with host bits",
            mark_rule("mark = 7\nsource = '192.0.2.1/24'"),
            r#"
error: 192.0.2.1/24 has bits set beyond its prefix length
  where: edge.toml:24, mark 7
  fix:   write 192.0.2.0/24, or 192.0.2.1/32 for the one host
"#,
        ),
        (
            "rule's prefix without a length",
            mark_rule("mark = 7\ndestination = '192.0.2.1'"),
            r#"
error: "192.0.2.1" has no prefix length, as in 192.0.2.1/24
  where: edge.toml:24, mark 7
  fix:   write destination as in "192.0.2.0/24"
"#,
        ),
        (
            "rule of two families",
            mark_rule("mark = 7\nsource = '2001:db8::/32'\ndestination = '192.0.2.10/32'"),
            r#"
error: source 2001:db8::/32 and destination 192.0.2.10/32 are of two address families: no packet has both
  where: edge.toml:25, mark 7
  fix:   use prefixes of one family, and a rule for each family
"#,
        ),
        (
            "ports upside down",
            mark_rule("mark = 7\ndestination_ports = '8090-8080'"),
            r#"
error: the range of ports "8090-8080" is upside down
  where: edge.toml:24, mark 7
  fix:   write destination_ports as in "8080-8090"
"#,
        ),
        (
            "ports that are none",
            mark_rule("mark = 7\nsource_ports = '80-http'"),
            r#"
error: port "http" is not a number from 0 to 65535
  where: edge.toml:24, mark 7
  fix:   write source_ports as in "8080-8090"
"#,
        ),
        (
            "port too large",
            mark_rule("mark = 7\ndestination_ports = 65536"),
            r#"
error: destination_ports 65536 is out of range
  where: edge.toml:24, mark 7
  fix:   use 0 to 65535, or a range as in "8080-8090"
"#,
        ),
        (
            "port too large in a text",
            mark_rule("mark = 7\ndestination_ports = '65536'"),
            r#"
error: port "65536" is not a number from 0 to 65535
  where: edge.toml:24, mark 7
  fix:   write destination_ports as in "8080-8090"
"#,
        ),
        (
            "ports as a list",
            mark_rule("mark = 7\ndestination_ports = [80]"),
            r#"
error: destination_ports must be an integer, not an array
  where: edge.toml:24, mark 7
  fix:   use 0 to 65535, or a range as in "8080-8090"
"#,
        ),
        (
            "source MAC that is none",
            mark_rule("mark = 7\nsource_mac = '!02:00'"),
            r#"
error: "02:00" is not a MAC address, as in 02:00:00:00:00:01
  where: edge.toml:24, mark 7
  fix:   write source_mac as in "!02:00:00:00:00:15"
"#,
        ),
        (
            "source MAC of a group",
            mark_rule("mark = 7\nsource_mac = '!01:00:5e:00:00:01'"),
            r#"
error: MAC address 01:00:5e:00:00:01 is a multicast address
  where: edge.toml:24, mark 7
  fix:   use the address of one station: the first byte is even, 02 for your own
"#,
        ),
        (
            "source MAC on a TUN",
            mark_rule("mark = 7\ninterface = 'uvs1'\nsource_mac = '02:00:00:00:00:15'"),
            r#"
error: source_mac on uvs1: a layer 3 device (TUN) has no MAC addresses
  where: edge.toml:25, mark 7
  fix:   remove source_mac, or give the interface of a TAP
"#,
        ),
        (
            "source MAC where there is no TAP",
            format!("{}[[mark]]\nmark = 7\nsource_mac = '02:00:00:00:00:15'\n", HEAD.replace("'tap'", "'tun'")),
            r#"
error: source_mac on any interface: a layer 3 device (TUN) has no MAC addresses
  where: edge.toml:14, mark 7
  fix:   remove source_mac, or give the interface of a TAP
"#,
        ),
        (
            "unknown key of a rule",
            mark_rule("mark = 7\nsport = 80"),
            r#"
error: unknown key "sport"
  where: edge.toml:24, mark 7
  fix:   remove it; the keys here are mark, interface, source_mac, protocol, source, destination, source_ports, destination_ports
"#,
        ),
        (
            "one pair of brackets for a rule",
            added("[mark]\nmark = 7"),
            r#"
error: mark must be an array of tables, not a table
  where: edge.toml:18
  fix:   write [[mark]], with two pairs of brackets, for each
"#,
        ),
    ]
}
