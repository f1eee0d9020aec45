//! Interfaces, routes, neighbors.

use super::{Case, added, prefixed, replaced};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "interface twice",
            replaced("name = 'uvs1'", "name = 'uvs0'"),
            r#"
error: a second interface uvs0
  where: edge.toml:5, interface uvs0
  fix:   rename it or the one in line 1
"#,
        ),
        (
            "address twice",
            replaced("'10.9.9.9/32'", "'192.0.2.1/32'"),
            r#"
error: address 192.0.2.1 is given twice
  where: edge.toml:8, interface uvs1
  fix:   remove it or the one in line 4
"#,
        ),
        (
            "address without a length",
            replaced("192.0.2.1/24", "192.0.2.1"),
            r#"
error: "192.0.2.1" has no prefix length, as in 192.0.2.1/24
  where: edge.toml:4, interface uvs0
  fix:   write addresses as in "192.0.2.1/24"
"#,
        ),
        (
            "prefix length too long",
            replaced("192.0.2.1/24", "192.0.2.1/33"),
            r#"
error: prefix length "33" is not a number from 0 to 32
  where: edge.toml:4, interface uvs0
  fix:   write addresses as in "192.0.2.1/24"
"#,
        ),
        (
            "prefix length 0",
            replaced("192.0.2.1/24", "192.0.2.1/0"),
            r#"
error: 192.0.2.1/0 makes every address a neighbor
  where: edge.toml:4, interface uvs0
  fix:   give the length of the subnet, as in /24
"#,
        ),
        (
            "own address is the network's",
            replaced("192.0.2.1/24", "192.0.2.0/24"),
            r#"
error: 192.0.2.0 is the network address of 192.0.2.0/24
  where: edge.toml:4, interface uvs0
  fix:   give the address of the director with the length of its subnet
"#,
        ),
        (
            "no addresses",
            replaced("addresses = ['192.0.2.1/24']", "addresses = []"),
            r#"
error: an interface needs an address of the director
  where: edge.toml:4, interface uvs0
  fix:   write addresses = ["192.0.2.1/24"]
"#,
        ),
        (
            "address family mixture in a route",
            added("[[route]]\nto = '0.0.0.0/0'\nvia = '2001:db8::1'"),
            r#"
error: route to 0.0.0.0/0 by way of 2001:db8::1: two address families
  where: edge.toml:20, route to 0.0.0.0/0
  fix:   give the gateway an address of the family of the target
"#,
        ),
        (
            "IPv6 on an interface with too small an MTU",
            replaced(
                "addresses = ['192.0.2.1/24']",
                "addresses = ['192.0.2.1/24', '2001:db8::1/64']\nmtu = 1279",
            ),
            r#"
error: MTU 1279 is too small for IPv6
  where: edge.toml:5, interface uvs0
  fix:   use 1280 or more, or remove the IPv6 addresses
"#,
        ),
        (
            "IPv6 addresses no host can have",
            replaced(
                "'192.0.2.1/24'",
                "'192.0.2.1/24', 'ff02::1/64', '::1/128', '::ffff:192.0.2.9/128', '2001:db8::1/0'",
            ),
            r#"
error: ff02::1 is a multicast address
  where: edge.toml:4, interface uvs0
  fix:   give an address a host can have
error: ::1 is a loopback address
  where: edge.toml:4, interface uvs0
  fix:   give an address a host can have
error: ::ffff:192.0.2.9 is an IPv4 address in the notation of IPv6
  where: edge.toml:4, interface uvs0
  fix:   give an address a host can have
error: 2001:db8::1/0 makes every address a neighbor
  where: edge.toml:4, interface uvs0
  fix:   give the length of the subnet, as in /64
"#,
        ),
        (
            "a link-local gateway without its link",
            added("[[route]]\nto = '::/0'\nvia = 'fe80::1'"),
            r#"
error: gateway fe80::1 is a link-local address: it does not say on which link
  where: edge.toml:20, route to ::/0
  fix:   add interface = "NAME"
"#,
        ),
        (
            "a link-local gateway on a link without IPv6",
            added("[[route]]\nto = '::/0'\nvia = 'fe80::1'\ninterface = 'uvs0'"),
            r#"
error: gateway fe80::1 on uvs0, which has no IPv6 address
  where: edge.toml:20, route to ::/0
  fix:   add an IPv6 address to the interface
"#,
        ),
        (
            "host bits in an IPv6 route",
            added("[[route]]\nto = '2001:db8::1/32'\ninterface = 'uvs0'"),
            r#"
error: 2001:db8::1/32 has bits set beyond its prefix length
  where: edge.toml:19, route to 2001:db8::1/32
  fix:   write 2001:db8::/32, or 2001:db8::1/128 for the one host
"#,
        ),
        (
            "MTU too small",
            replaced("device = 'tap'", "device = 'tap'\nmtu = 67"),
            r#"
error: MTU 67 is out of range
  where: edge.toml:4, interface uvs0
  fix:   use 68 to 65521 bytes on a TAP
"#,
        ),
        (
            "MTU too large for a TAP",
            replaced("device = 'tap'", "device = 'tap'\nmtu = 65522"),
            r#"
error: MTU 65522 is out of range
  where: edge.toml:4, interface uvs0
  fix:   use 68 to 65521 bytes on a TAP
"#,
        ),
        (
            "MTU too large for a TUN",
            replaced("device = 'tun'", "device = 'tun'\nmtu = 65536"),
            r#"
error: MTU 65536 is out of range
  where: edge.toml:8, interface uvs1
  fix:   use 68 to 65535 bytes on a TUN
"#,
        ),
        (
            "multicast MAC",
            replaced("device = 'tap'", "device = 'tap'\nmac = '01:00:5e:00:00:01'"),
            r#"
error: MAC address 01:00:5e:00:00:01 is a multicast address
  where: edge.toml:4, interface uvs0
  fix:   use the address of one station: the first byte is even, 02 for your own
"#,
        ),
        (
            "broadcast MAC of a neighbor",
            added("[[neighbor]]\naddress = '192.0.2.21'\nmac = 'ff:ff:ff:ff:ff:ff'"),
            r#"
error: MAC address ff:ff:ff:ff:ff:ff is the broadcast address
  where: edge.toml:20, neighbor 192.0.2.21
  fix:   use the address of one station: the first byte is even, 02 for your own
"#,
        ),
        (
            "no MAC at all",
            replaced("device = 'tap'", "device = 'tap'\nmac = '02-00-5e-00-00-01'"),
            r#"
error: "02-00-5e-00-00-01" is not a MAC address, as in 02:00:00:00:00:01
  where: edge.toml:4, interface uvs0
  fix:   write mac as in "02:00:5e:00:00:01"
"#,
        ),
        (
            "interface name too long",
            replaced("name = 'uvs1'", "name = 'uvs0123456789abc'"),
            r#"
error: interface name "uvs0123456789abc" is longer than 15 bytes
  where: edge.toml:6, interface uvs0123456789abc
  fix:   use at most 15 bytes, the limit of Linux
"#,
        ),
        (
            "interface name with a slash",
            replaced("name = 'uvs1'", "name = 'uvs/1'"),
            r#"
error: interface name "uvs/1" has '/' in it
  where: edge.toml:6, interface uvs/1
  fix:   use letters, digits and - _ . @ + only
"#,
        ),
        (
            "interface name of the system",
            replaced("name = 'uvs1'", "name = 'lo'"),
            r#"
error: interface name "lo" is taken by Linux
  where: edge.toml:6, interface lo
  fix:   use another name
"#,
        ),
        (
            "unknown device",
            replaced("device = 'tap'", "device = 'tpa'"),
            r#"
error: unknown device "tpa"
  where: edge.toml:3, interface uvs0
  fix:   did you mean "tap"? It is one of "tap", "tun"
"#,
        ),
        (
            "gateway in no connected subnet",
            replaced("192.0.2.254", "203.0.113.1"),
            r#"
error: gateway 203.0.113.1 is in no connected subnet of any interface
  where: edge.toml:11, route to 198.51.100.0/24
  fix:   use a gateway on a link of the director, or add an address there
"#,
        ),
        (
            "gateway is our own address",
            replaced("192.0.2.254", "192.0.2.1"),
            r#"
error: gateway 192.0.2.1 is an address of the director itself (uvs0)
  where: edge.toml:11, route to 198.51.100.0/24
  fix:   give the address of the next router
"#,
        ),
        (
            "route to an unknown interface",
            added("[[route]]\nto = '203.0.113.0/24'\ninterface = 'uvs2'"),
            r#"
error: unknown interface "uvs2"
  where: edge.toml:20, route to 203.0.113.0/24
  fix:   did you mean "uvs0"?
"#,
        ),
        (
            "route without a way",
            added("[[route]]\nto = '203.0.113.0/24'"),
            r#"
error: route to 203.0.113.0/24 goes nowhere
  where: edge.toml:18, route to 203.0.113.0/24
  fix:   add via = "GATEWAY", or interface = "NAME" when the target is on its link
"#,
        ),
        (
            "route twice",
            added("[[route]]\nto = '198.51.100.0/24'\ninterface = 'uvs1'"),
            r#"
error: a second route to 198.51.100.0/24
  where: edge.toml:18, route to 198.51.100.0/24
  fix:   remove it or the one in line 9
"#,
        ),
        (
            "route with host bits",
            replaced("198.51.100.0/24", "198.51.100.7/24"),
            r#"
error: 198.51.100.7/24 has bits set beyond its prefix length
  where: edge.toml:10, route to 198.51.100.7/24
  fix:   write 198.51.100.0/24, or 198.51.100.7/32 for the one host
"#,
        ),
        (
            "MAC on a TUN device",
            replaced("device = 'tun'", "device = 'tun'\nmac = '02:00:5e:00:00:01'"),
            r#"
error: mac does not go with this device: a TUN (layer 3) has no MAC address and takes no bridge
  where: edge.toml:8, interface uvs1
  fix:   remove mac, or use device = "tap"
"#,
        ),
        (
            "bridge on a TUN device",
            replaced("device = 'tun'", "device = 'tun'\nbridge = { name = 'br0' }"),
            r#"
error: bridge does not go with this device: a TUN (layer 3) has no MAC address and takes no bridge
  where: edge.toml:8, interface uvs1
  fix:   remove bridge, or use device = "tap"
"#,
        ),
        (
            "host on a TAP device",
            replaced("device = 'tap'", "device = 'tap'\nhost = { forwarding = true }"),
            r#"
error: host does not go with this device: a TAP (layer 2) has no side in the host's kernel, it takes a bridge
  where: edge.toml:4, interface uvs0
  fix:   remove host, or use device = "tun"
"#,
        ),
        (
            "realservers and clients on a host without an address",
            replaced(
                "device = 'tun'",
                "device = 'tun'\nhost = { local_servers = true, local_clients = true, routes = [] }",
            ),
            r#"
error: local_servers without an address: the host's own processes need one on the device
  where: edge.toml:8, interface uvs1, host
  fix:   add addresses = ["192.0.2.1/30"]
error: local_clients without an address: the host's own processes need one on the device
  where: edge.toml:8, interface uvs1, host
  fix:   add addresses = ["192.0.2.1/30"]
"#,
        ),
        (
            "destination on the host, whose answers would not come back",
            local_destination("", "nat"),
            r#"
error: destination 10.0.0.1 is the host kernel's address on uvs1: its answers would not come back
  where: edge.toml:23, service tcp 192.0.2.10:80, destination 10.0.0.1
  fix:   add local_servers = true to the host of interface uvs1
"#,
        ),
        (
            "tunnel to the host itself",
            local_destination(", local_servers = true", "tun"),
            r#"
error: tunnelling to 10.0.0.1, which is the host kernel's address on uvs1
  where: edge.toml:23, service tcp 192.0.2.10:80, destination 10.0.0.1
  fix:   use forward = "nat": were the VIP the kernel's too, its packets would not get to the director
"#,
        ),
        (
            "bridge with our own device as a port",
            replaced("device = 'tap'", "device = 'tap'\nbridge = { name = 'br0', ports = ['uvs1'] }"),
            r#"
error: uvs1 cannot be a port of bridge br0
  where: edge.toml:1, interface uvs0
  fix:   name devices of the host there; the TAP itself is plugged in anyway
"#,
        ),
        (
            "neighbor on a TUN device",
            added("[[neighbor]]\naddress = '10.0.0.1'\nmac = '02:00:00:00:00:15'"),
            r#"
error: neighbor 10.0.0.1 on uvs1: a layer 3 device (TUN) has no MAC addresses
  where: edge.toml:18, neighbor 10.0.0.1
  fix:   remove the neighbor, or use device = "tap"
"#,
        ),
        (
            "neighbor in no subnet",
            added("[[neighbor]]\naddress = '203.0.113.7'\nmac = '02:00:00:00:00:15'"),
            r#"
error: neighbor 203.0.113.7 is in no connected subnet
  where: edge.toml:19, neighbor 203.0.113.7
  fix:   add interface = "NAME", or correct the address
"#,
        ),
        (
            "neighbor twice",
            added(
                "[[neighbor]]\naddress = '192.0.2.21'\nmac = '02:00:00:00:00:15'\n[[neighbor]]\naddress = '192.0.2.21'\nmac = '02:00:00:00:00:16'",
            ),
            r#"
error: a second neighbor 192.0.2.21
  where: edge.toml:21, neighbor 192.0.2.21
  fix:   remove it or the one in line 18
"#,
        ),
        (
            "more neighbors than the limit",
            prefixed("limits.neighbors = 1")
                + "[[neighbor]]\naddress = '192.0.2.21'\nmac = '02:00:00:00:00:15'\n[[neighbor]]\naddress = '192.0.2.22'\nmac = '02:00:00:00:00:16'\n",
            r#"
error: 2 neighbors are more than the limit of 1
  where: edge.toml:22, neighbor 192.0.2.22
  fix:   set neighbors = 2 or more in [limits]
"#,
        ),
        (
            "host's address is the director's",
            replaced("'10.9.9.9/32']", "'10.9.9.9/32']\nhost = { addresses = ['10.0.0.2/30'] }"),
            r#"
error: host address 10.0.0.2 is also one of the director's
  where: edge.toml:9, interface uvs1, host
  fix:   give the host's kernel another address of the subnet: it would keep the packets to itself
"#,
        ),
        (
            "neighbor with our own address",
            added("[[neighbor]]\naddress = '192.0.2.1'\nmac = '02:00:00:00:00:15'"),
            r#"
error: neighbor 192.0.2.1 is an address of the director itself (uvs0)
  where: edge.toml:19, neighbor 192.0.2.1
  fix:   give the address of another host
"#,
        ),
        (
            "loopback as an address",
            replaced("192.0.2.1/24", "127.0.0.1/8"),
            r#"
error: 127.0.0.1 is a loopback address
  where: edge.toml:4, interface uvs0
  fix:   give an address a host can have
"#,
        ),
        (
            "port of two bridges",
            replaced("device = 'tap'", "device = 'tap'\nbridge = { name = 'br0', ports = ['eth0'] }")
                .replace("device = 'tun'", "device = 'tap'\nbridge = { name = 'br1', ports = ['eth0'] }"),
            r#"
error: eth0 is a port of two bridges, br0 and br1
  where: edge.toml:6, interface uvs1
  fix:   leave it to one of them
"#,
        ),
        (
            "bridge without a name",
            replaced("device = 'tap'", "device = 'tap'\nbridge = { ports = ['eth0'] }"),
            r#"
error: bridge has no name
  where: edge.toml:4, interface uvs0, bridge
  fix:   add name = "br0"
"#,
        ),
        (
            "attach on a TUN device",
            replaced("device = 'tun'", "device = 'tun'\nattach = 'tcx'\nlink = 'eth0'"),
            r#"
error: attach does not go with this device: a TUN (layer 3) has no MAC address and takes no bridge
  where: edge.toml:8, interface uvs1
  fix:   remove attach, or use device = "tap"
error: link does not go with this device: a TUN (layer 3) has no MAC address and takes no bridge
  where: edge.toml:9, interface uvs1
  fix:   remove link, or use device = "tap"
"#,
        ),
        (
            "attach by tcx to nothing",
            replaced("device = 'tap'", "device = 'tap'\nattach = 'tcx'"),
            r#"
error: interface uvs0 has no link
  where: edge.toml:1, interface uvs0
  fix:   add link = "eth0", the network card or veth that the frames come in on
"#,
        ),
        (
            "attach by tcx with a bridge",
            replaced(
                "device = 'tap'",
                "device = 'tap'\nattach = 'tcx'\nlink = 'eth0'\nbridge = { name = 'br0' }",
            ),
            r#"
error: bridge does not go with attach = "tcx": the frames take no bridge
  where: edge.toml:6, interface uvs0
  fix:   remove bridge and name the network card: link = "eth0"; or remove attach
"#,
        ),
        (
            "link without attach",
            replaced("device = 'tap'", "device = 'tap'\nlink = 'eth0'"),
            r#"
error: link does not go with a bridge
  where: edge.toml:4, interface uvs0
  fix:   add attach = "tcx", or name it in bridge = { name = "br0", ports = ["eth0"] }
"#,
        ),
        (
            "attach by something else",
            replaced("device = 'tap'", "device = 'tap'\nattach = 'tc'\nlink = 'eth0'"),
            r#"
error: unknown attach "tc"
  where: edge.toml:4, interface uvs0
  fix:   did you mean "tcx"? It is one of "bridge", "tcx"
"#,
        ),
        (
            "link with a name no device can have",
            replaced("device = 'tap'", "device = 'tap'\nattach = 'tcx'\nlink = 'eth 0'"),
            r#"
error: link name "eth 0" has ' ' in it
  where: edge.toml:5, interface uvs0
  fix:   use letters, digits and - _ . @ + only
"#,
        ),
        (
            "link that is an interface of the director",
            replaced("device = 'tap'", "device = 'tap'\nattach = 'tcx'\nlink = 'uvs1'"),
            r#"
error: uvs1 cannot be the link of uvs0: it is an interface of the director
  where: edge.toml:1, interface uvs0
  fix:   name a network card or a veth of the host, as in link = "eth0"
"#,
        ),
        (
            "one link for two interfaces",
            replaced("device = 'tap'", "device = 'tap'\nattach = 'tcx'\nlink = 'eth0'")
                .replace("device = 'tun'", "device = 'tap'\nattach = 'tcx'\nlink = 'eth0'"),
            r#"
error: eth0 is the link of two interfaces, uvs0 and uvs1
  where: edge.toml:7, interface uvs1
  fix:   give each its own, or give one interface the addresses of both
"#,
        ),
        (
            "link that is a port of a bridge, too",
            replaced("device = 'tap'", "device = 'tap'\nattach = 'tcx'\nlink = 'eth0'")
                .replace("device = 'tun'", "device = 'tap'\nbridge = { name = 'br0', ports = ['eth0'] }"),
            r#"
error: eth0 is the link of uvs0 and belongs to bridge br0
  where: edge.toml:1, interface uvs0
  fix:   leave it to one of them: a bridge takes all frames of its ports
"#,
        ),
        (
            "unknown key in an inline table",
            replaced("device = 'tap'", "device = 'tap'\nbridge = { name = 'br0', port = ['eth0'] }"),
            r#"
error: unknown key "port"
  where: edge.toml:4, interface uvs0, bridge
  fix:   did you mean "ports"? The keys here are name, ports
"#,
        ),
    ]
}

/// A destination that is the kernel's own address on uvs1.
fn local_destination(keys: &str, method: &str) -> String {
    let host = format!("device = 'tun'\nhost = {{ addresses = ['10.0.0.1/30']{keys} }}");
    let service = format!(
        "[[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:80'\nforward = '{method}'\n\
         destination = [{{ address = '10.0.0.1' }}]\n"
    );
    replaced("device = 'tun'", &host) + &service
}
