//! Services, destinations, schedulers.

use super::{Case, added, added_to_service, destination, replaced};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "weight too large",
            destination("address = '192.0.2.22'\nweight = 2147483648"),
            r#"
error: destination weight 2147483648 is out of range
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use 0 to 2147483647 (0 quiesces the destination)
"#,
        ),
        (
            "weight negative",
            destination("address = '192.0.2.22'\nweight = -1"),
            r#"
error: destination weight -1 is out of range
  where: edge.toml:20, service tcp 192.0.2.10:443, destination 192.0.2.22
  fix:   use 0 to 2147483647 (0 quiesces the destination)
"#,
        ),
        (
            "direct routing on a TUN device",
            destination("address = '10.0.0.1'\nforward = 'dr'"),
            r#"
error: direct routing over uvs1: a layer 3 device (TUN) has no MAC address to rewrite
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 10.0.0.1
  fix:   use forward = "nat" or "tun", or make the interface device = "tap"
"#,
        ),
        (
            "direct routing behind a gateway",
            destination("address = '198.51.100.7'\nforward = 'dr'"),
            r#"
error: destination 198.51.100.7 is behind gateway 192.0.2.254: direct routing ends at the director's link
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 198.51.100.7
  fix:   use forward = "tun" or "nat", or put the destination on a link of the director
"#,
        ),
        (
            "VIP outside every interface",
            replaced("address = '192.0.2.10:443'", "address = '203.0.113.10:443'"),
            r#"
error: VIP 203.0.113.10 is outside every interface
  where: edge.toml:14, service tcp 203.0.113.10:443
  fix:   add "203.0.113.10/32" to the addresses of an interface, or use a VIP inside a subnet
"#,
        ),
        (
            "VIP is the network address",
            replaced("address = '192.0.2.10:443'", "address = '192.0.2.0:443'"),
            r#"
error: VIP 192.0.2.0 is the network address of 192.0.2.1/24
  where: edge.toml:14, service tcp 192.0.2.0:443
  fix:   use another address of the subnet
"#,
        ),
        (
            "VIP is the broadcast address",
            replaced("address = '192.0.2.10:443'", "address = '192.0.2.255:443'"),
            r#"
error: VIP 192.0.2.255 is the broadcast address of 192.0.2.1/24
  where: edge.toml:14, service tcp 192.0.2.255:443
  fix:   use another address of the subnet
"#,
        ),
        (
            "VIP is multicast",
            replaced("address = '192.0.2.10:443'", "address = '224.0.0.1:443'"),
            r#"
error: VIP 224.0.0.1 is a multicast address
  where: edge.toml:14, service tcp 224.0.0.1:443
  fix:   give an address a host can have
"#,
        ),
        (
            "VIP is unspecified",
            replaced("address = '192.0.2.10:443'", "address = '0.0.0.0:443'"),
            r#"
error: VIP 0.0.0.0 is the unspecified address
  where: edge.toml:14, service tcp 0.0.0.0:443
  fix:   give an address a host can have
"#,
        ),
        (
            "VIP is the address of the host's kernel",
            replaced("'10.9.9.9/32']", "'10.9.9.9/32']\nhost = { addresses = ['10.0.0.1/30'] }")
                .replace("192.0.2.10:443", "10.0.0.1:443"),
            r#"
error: VIP 10.0.0.1 is the host kernel's address on uvs1
  where: edge.toml:15, service tcp 10.0.0.1:443
  fix:   use another VIP: the kernel would keep its packets to itself
"#,
        ),
        (
            "port mapping with direct routing",
            destination("address = '192.0.2.22:8443'\nforward = 'dr'"),
            r#"
error: destination port 8443 differs from the service's, 443: direct routing leaves ports alone
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 192.0.2.22:8443
  fix:   use port 443, or forward = "nat"
"#,
        ),
        (
            "port mapping with tunnelling",
            destination("address = '192.0.2.22:8443'\nforward = 'tun'"),
            r#"
error: destination port 8443 differs from the service's, 443: tunnelling leaves ports alone
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 192.0.2.22:8443
  fix:   use port 443, or forward = "nat"
"#,
        ),
        (
            "service without a port",
            replaced("address = '192.0.2.10:443'", "address = '192.0.2.10'"),
            r#"
error: service address "192.0.2.10" has no port
  where: edge.toml:14, service tcp 192.0.2.10
  fix:   write address as in "192.0.2.80:443"
"#,
        ),
        (
            "destination on port 0",
            replaced("address = '192.0.2.21:443'", "address = '192.0.2.21:0'"),
            r#"
error: destination port 0 is no port
  where: edge.toml:17, service tcp 192.0.2.10:443, destination 192.0.2.21:0
  fix:   use 1 to 65535, or leave the port out
"#,
        ),
        (
            "missing module file",
            replaced("forward = 'nat'", "forward = 'nat'\nscheduler = 'nowhere/mine.wasm'"),
            r#"
error: scheduler module "nowhere/mine.wasm" does not exist
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   give the path of a .wasm component; it is looked for at nowhere/mine.wasm
"#,
        ),
        (
            "module path is a folder",
            replaced("forward = 'nat'", "forward = 'nat'\nscheduler = './src'"),
            r#"
error: scheduler module "./src" is a folder
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   give the path of a .wasm component; it is looked for at ./src
"#,
        ),
        (
            "named module is missing",
            added("[[scheduler]]\nname = 'mine'\nmodule = 'mine.wasm'"),
            r#"
error: scheduler module "mine.wasm" does not exist
  where: edge.toml:20, scheduler mine
  fix:   give the path of a .wasm component; it is looked for at mine.wasm
"#,
        ),
        (
            "unknown scheduler with a near one",
            replaced("forward = 'nat'", "forward = 'nat'\nscheduler = 'wrrr'"),
            r#"
error: unknown scheduler "wrrr"
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   did you mean "wrr"? Use one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, swrr, p2c, chbl, maglev, lrt, or the path of a .wasm file
"#,
        ),
        (
            "unknown scheduler with none near",
            replaced("forward = 'nat'", "forward = 'nat'\nscheduler = 'lru2'"),
            r#"
error: unknown scheduler "lru2"
  where: edge.toml:16, service tcp 192.0.2.10:443
  fix:   use one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, swrr, p2c, chbl, maglev, lrt, or the path of a .wasm file
"#,
        ),
        (
            "scheduler takes a shipped name",
            added("[[scheduler]]\nname = 'rr'\nmodule = 'Cargo.toml'"),
            r#"
error: "rr" is the name of a shipped scheduler
  where: edge.toml:19, scheduler rr
  fix:   use another name
"#,
        ),
        (
            "scheduler twice",
            added(
                "[[scheduler]]\nname = 'x'\nmodule = 'Cargo.toml'\n[[scheduler]]\nname = 'x'\nmodule = 'Cargo.toml'",
            ),
            r#"
error: a second scheduler "x"
  where: edge.toml:22, scheduler x
  fix:   rename it or the one in line 18
"#,
        ),
        (
            "scheduler name with a slash",
            added("[[scheduler]]\nname = 'a/b'\nmodule = 'Cargo.toml'"),
            r#"
error: scheduler name "a/b" is not one
  where: edge.toml:19, scheduler a/b
  fix:   use letters, digits, - and _ only
"#,
        ),
        (
            "fallback is no native scheduler",
            added("[[scheduler]]\nname = 'x'\nmodule = 'Cargo.toml'\nfallback = 'best'"),
            r#"
error: fallback "best" is no native scheduler
  where: edge.toml:21, scheduler x
  fix:   use one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, swrr, p2c, chbl, maglev, lrt, or refuse
"#,
        ),
        (
            "pin of another length",
            added("[[scheduler]]\nname = 'x'\nmodule = 'Cargo.toml'\nsha256 = 'abc'"),
            r#"
error: sha256 "abc" is not 64 hexadecimal digits, as sha256sum prints them
  where: edge.toml:21, scheduler x
  fix:   write sha256 as in "64 hexadecimal digits"
"#,
        ),
        (
            "limits of a module out of range",
            added("[[scheduler]]\nname = 'x'\nmodule = 'Cargo.toml'\nmodule_mib = 65\nfuel = 0"),
            r#"
error: module_mib 65 is out of range
  where: edge.toml:21, scheduler x
  fix:   use 1 to 64 MiB; 16 is enough for compiled languages
error: fuel 0 is out of range
  where: edge.toml:22, scheduler x
  fix:   use 1 to 1000 times the usual fuel; 1 is enough for compiled languages
"#,
        ),
        (
            "shadow and canary",
            added_to_service("shadow = 'rr'\ncanary = { module = 'lc', percent = 5 }"),
            r#"
error: a service tries one scheduler at a time, and has shadow and canary
  where: edge.toml:17, service tcp 192.0.2.10:443, canary
  fix:   remove one of them: first let it be a shadow, then a canary
"#,
        ),
        (
            "canary of everything and more",
            added_to_service("canary = { module = 'lc', percent = 101 }"),
            r#"
error: percent of a canary 101 is out of range
  where: edge.toml:16, service tcp 192.0.2.10:443, canary
  fix:   use 1 to 100 of the new connections
"#,
        ),
        (
            "service twice",
            added(
                "[[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:443'\nforward = 'nat'\ndestination = [{ address = '192.0.2.21' }]",
            ),
            r#"
error: a second service tcp 192.0.2.10:443
  where: edge.toml:18, service tcp 192.0.2.10:443
  fix:   move its destinations to the one in line 12
"#,
        ),
        (
            "destination twice, once without its port",
            destination("address = '192.0.2.21'"),
            r#"
error: a second destination 192.0.2.21:443 of the service
  where: edge.toml:18, service tcp 192.0.2.10:443, destination 192.0.2.21
  fix:   remove it or the one in line 16
"#,
        ),
        (
            "address family mixture in a service",
            destination("address = '[2001:db8::1]:443'"),
            r#"
error: destination 2001:db8::1 and VIP 192.0.2.10 are of two address families
  where: edge.toml:19, service tcp 192.0.2.10:443, destination [2001:db8::1]:443
  fix:   use forward = "tun", which crosses them, or give the destination an address of the VIP's family
"#,
        ),
        (
            "IPv6 VIP outside every subnet",
            added(
                "[[service]]\nprotocol = 'tcp'\naddress = '[2001:db8::1]:80'\nforward = 'nat'\ndestination = [{ address = '[2001:db8::2]:80' }]",
            ),
            r#"
error: VIP 2001:db8::1 is outside every interface
  where: edge.toml:20, service tcp [2001:db8::1]:80
  fix:   add "2001:db8::1/128" to the addresses of an interface, or use a VIP inside a subnet
error: no route to destination 2001:db8::2
  where: edge.toml:22, service tcp [2001:db8::1]:80, destination [2001:db8::2]:80
  fix:   add an address in its subnet to an interface, or a [[route]] to it
"#,
        ),
        (
            "a link-local VIP and destination",
            added(
                "[[service]]\nprotocol = 'tcp'\naddress = '[fe80::1]:80'\nforward = 'nat'\ndestination = [{ address = '[fe80::2]:80' }]",
            ),
            r#"
error: VIP fe80::1 is a link-local address, which is valid on one link only
  where: edge.toml:20, service tcp [fe80::1]:80
  fix:   give an address a host can have
error: destination fe80::2 is a link-local address, which is valid on one link only
  where: edge.toml:22, service tcp [fe80::1]:80, destination [fe80::2]:80
  fix:   give an address a host can have
"#,
        ),
        (
            "destination without a route",
            destination("address = '203.0.113.7'"),
            r#"
error: no route to destination 203.0.113.7
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 203.0.113.7
  fix:   add an address in its subnet to an interface, or a [[route]] to it
"#,
        ),
        (
            "destination is its own VIP",
            destination("address = '192.0.2.10'"),
            r#"
error: destination 192.0.2.10 is a VIP, which is the director's
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 192.0.2.10
  fix:   give the realserver's own address (RIP)
"#,
        ),
        (
            "destination is the director's address",
            destination("address = '192.0.2.1'"),
            r#"
error: destination 192.0.2.1 is an address of the director itself
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 192.0.2.1
  fix:   give the realserver's own address (RIP)
"#,
        ),
        (
            "destination is the broadcast address",
            destination("address = '192.0.2.255'"),
            r#"
error: destination 192.0.2.255 is the broadcast address of 192.0.2.1/24
  where: edge.toml:19, service tcp 192.0.2.10:443, destination 192.0.2.255
  fix:   give the realserver's own address (RIP)
"#,
        ),
        (
            "destination without a method",
            replaced("forward = 'nat'\n", ""),
            r#"
error: the destination has no forwarding method
  where: edge.toml:15, service tcp 192.0.2.10:443, destination 192.0.2.21:443
  fix:   add forward = "nat", "dr" or "tun" to it or to its service
"#,
        ),
        (
            "a method's name elsewhere",
            replaced("forward = 'nat'", "forward = 'masq'"),
            r#"
error: unknown forward "masq"
  where: edge.toml:15, service tcp 192.0.2.10:443
  fix:   did you mean "nat"? It is one of "nat", "dr", "tun"
"#,
        ),
        (
            "service without a protocol",
            replaced("protocol = 'tcp'\n", ""),
            r#"
error: service 192.0.2.10:443 has no protocol
  where: edge.toml:12, service 192.0.2.10:443
  fix:   add protocol = "tcp", "udp" or "sctp"
"#,
        ),
        (
            "address that is none",
            destination("address = 'rs1:80'"),
            r#"
error: destination address "rs1:80" is not an IP address and a port
  where: edge.toml:19, service tcp 192.0.2.10:443, destination rs1:80
  fix:   write address as in "192.0.2.21:8080"
"#,
        ),
        (
            "services that are no tables",
            added(
                "[[service]]\nprotocol = 'udp'\naddress = '192.0.2.10:53'\nforward = 'nat'\ndestination = ['192.0.2.21']",
            ),
            r#"
error: an entry of destination must be a table, not a string
  where: edge.toml:22, service udp 192.0.2.10:53
  fix:   write [[service.destination]], with two pairs of brackets, for each
"#,
        ),
    ]
}
