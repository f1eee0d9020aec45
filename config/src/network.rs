//! `[[interface]]`, `[[route]]`, `[[neighbor]]`, and which way an address lies.

use core::net::IpAddr;
use std::collections::{HashMap, HashSet};

use uvs_director::spec::{Family, InterfaceSpec, Limits, Link, MacAddr, Prefix, RouteSpec, SourceCheck};
use uvs_director::{PortId, hash_of_name};

use crate::address::{
    edge_name, is_device_name, is_edge, is_link_local, is_network, is_own_address, is_station, read_address,
};
use crate::attach::{read_accelerate, read_direct};
use crate::model::{Bridge, Direct, Host, Interface, Neighbor};
use crate::problem::Location;
use crate::read::{At, Doc, Integer, Keys, Table};
use crate::suggest::nearest;
use crate::workers::device_io;

pub(crate) const INTERFACE: Keys = &[
    "name",
    "device",
    "mac",
    "mtu",
    "offload",
    "queues",
    "addresses",
    "source_check",
    "attach",
    "link",
    "accelerate",
    "bridge",
    "host",
];
pub(crate) const BRIDGE: Keys = &["name", "ports"];
pub(crate) const HOST: Keys =
    &["addresses", "routes", "replies_from", "local_servers", "local_clients", "forwarding"];
pub(crate) const ROUTE: Keys = &["to", "via", "interface"];
pub(crate) const NEIGHBOR: Keys = &["address", "mac", "interface"];

const MTU_DEFAULT: u32 = 1500;
/// No link that carries IPv6 has less (RFC 8200, 5).
const MTU_MIN_V6: u32 = 1280;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Tap,
    Tun,
}

/// How to reach an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub(crate) port: PortId,
    /// The gateway; `None`: it is on the link.
    pub(crate) via: Option<IpAddr>,
}

/// All interfaces and routes of the file.
pub(crate) struct Network {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Vec<RouteSpec>,
    /// Whether all of it could be read. If not, nothing is said about addresses it does not reach: the reason
    /// may be in the part that is missing.
    pub(crate) complete: bool,
    /// Where each address of an interface stands: the director's, then the host kernel's.
    places: [Vec<At<Prefix>>; 2],
    /// Of VRRP, with the interface of its virtual router.
    pub(crate) virtual_addresses: Vec<(IpAddr, PortId)>,
}

/// One interface as it is read.
struct Draft {
    interface: Interface,
    addresses: Vec<At<Prefix>>,
    host_addresses: Vec<At<Prefix>>,
}

impl Network {
    /// `compat_ipvs`: as the kernel routes, unless the file says otherwise.
    pub(crate) fn read(root: &Table<'_>, compat_ipvs: bool) -> Self {
        let doc = root.doc;
        let mut network = Self {
            interfaces: Vec::new(),
            routes: Vec::new(),
            complete: true,
            places: Default::default(),
            virtual_addresses: Vec::new(),
        };
        if !root.has("interface") {
            doc.error(
                &root.at,
                "the config has no interface",
                "add [[interface]] with name, device and addresses",
            );
        }
        let tables =
            root.tables("interface", INTERFACE, |entries| Table::peek(entries, "name").map(str::to_owned));
        network.complete = !tables.is_empty();
        for table in &tables {
            match read_interface(table, network.interfaces.len(), compat_ipvs) {
                Some(draft) => {
                    network.interfaces.push(draft.interface);
                    network.places[0].extend(draft.addresses);
                    network.places[1].extend(draft.host_addresses);
                }
                None => network.complete = false,
            }
        }
        network.check_names(doc);
        network.check_addresses(doc);
        let tables =
            root.tables("route", ROUTE, |entries| Table::peek(entries, "to").map(|to| format!("to {to}")));
        // Gateways may be on a link that a route leads to.
        let (by_gateway, on_link): (Vec<usize>, Vec<usize>) =
            (0..tables.len()).partition(|at| tables[*at].has("via"));
        let mut places = Vec::new();
        for at in on_link.into_iter().chain(by_gateway) {
            match network.read_route(&tables[at]) {
                Some(route) => {
                    places.push((at, route));
                    network.routes.push(route);
                }
                None => network.complete = false,
            }
        }
        places.sort_unstable_by_key(|(at, _)| *at);
        let mut seen = HashMap::new();
        for (at, route) in &places {
            let table = &tables[*at];
            if let Some(there) = seen.insert(route.to, table.at.clone()) {
                let fix = format!("remove it or the one in {}", doc.refer(&table.at, &there));
                doc.error(&table.at, format!("a second route to {}", route.to), fix);
            }
        }
        network.routes = places.into_iter().map(|(_, route)| route).collect();
        network
    }

    /// The interface of that name, or nothing with the problem noted.
    pub(crate) fn named(&self, doc: &Doc<'_>, name: &At<&str>) -> Option<&Interface> {
        let found = self.interfaces.iter().find(|interface| interface.spec.name == name.value);
        if found.is_none() && self.complete {
            let names = || self.interfaces.iter().map(|interface| interface.spec.name.as_str());
            let fix = match nearest(name.value, names()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("use one of the interfaces: {}", names().collect::<Vec<_>>().join(", ")),
            };
            doc.error(&name.at, format!("unknown interface {:?}", name.value), fix);
        }
        found
    }

    fn read_route(&self, table: &Table<'_>) -> Option<RouteSpec> {
        let doc = table.doc;
        table.require("to", "\"0.0.0.0/0\"");
        let to = table.parsed("to", "0.0.0.0/0", str::parse).filter(|to| is_network(doc, to));
        let via = table.parsed("via", "192.0.2.254", read_address);
        let name = table.string("interface", "uvs0");
        let interface = name.as_ref().and_then(|name| self.named(doc, name));
        let to = to?.value;
        if table.has("via") {
            let via = via?;
            if Family::of(via.value) != Family::of(to.addr()) {
                let what = format!("route to {to} by way of {}: two address families", via.value);
                doc.error(&via.at, what, "give the gateway an address of the family of the target");
                return None;
            }
            if table.has("interface") && interface.is_none() {
                return None;
            }
            let port = self.check_gateway(doc, &via, interface)?;
            return Some(RouteSpec { to, via: Some(via.value), port });
        }
        if !table.has("interface") {
            doc.error(
                &table.at,
                format!("route to {to} goes nowhere"),
                "add via = \"GATEWAY\", or interface = \"NAME\" when the target is on its link",
            );
        }
        Some(RouteSpec { to, via: None, port: interface?.spec.port })
    }

    /// The port behind which the gateway is.
    fn check_gateway(
        &self,
        doc: &Doc<'_>,
        via: &At<IpAddr>,
        interface: Option<&Interface>,
    ) -> Option<PortId> {
        let addr = via.value;
        if let Some(owner) = self.owner(addr) {
            let what = format!("gateway {addr} is an address of the director itself ({})", owner.spec.name);
            doc.error(&via.at, what, "give the address of the next router");
            return None;
        }
        if is_link_local(addr) {
            let (what, fix) = match interface {
                Some(interface) if has_ipv6(interface) => return Some(interface.spec.port),
                Some(interface) => (
                    format!("gateway {addr} on {}, which has no IPv6 address", interface.spec.name),
                    "add an IPv6 address to the interface",
                ),
                None => (
                    format!("gateway {addr} is a link-local address: it does not say on which link"),
                    "add interface = \"NAME\"",
                ),
            };
            doc.error(&via.at, what, fix);
            return None;
        }
        let subnet = match interface {
            Some(interface) => longest(interface.spec.addresses.iter().copied(), addr)
                .map(|subnet| (interface.spec.port, subnet)),
            None => self.connected(addr),
        };
        let Some((port, subnet)) = subnet else {
            let of_interface =
                |route: &&RouteSpec| interface.is_none_or(|interface| interface.spec.port == route.port);
            let on_link = |route: &&RouteSpec| route.via.is_none() && route.to.contains(addr);
            if let Some(route) = self.routes.iter().filter(of_interface).find(on_link) {
                return Some(route.port);
            }
            if self.complete {
                let of =
                    interface.map_or("any interface".to_owned(), |it| format!("interface {}", it.spec.name));
                let what = format!("gateway {addr} is in no connected subnet of {of}");
                doc.error(&via.at, what, "use a gateway on a link of the director, or add an address there");
            }
            return None;
        };
        if is_edge(subnet, addr) {
            let what = format!("gateway {addr} is the {} address of {subnet}", edge_name(subnet, addr));
            doc.error(&via.at, what, "give the address of the next router");
            return None;
        }
        Some(port)
    }

    /// Static neighbours.
    pub(crate) fn neighbors(&self, root: &Table<'_>, limits: Limits) -> Vec<Neighbor> {
        let doc = root.doc;
        let tables =
            root.tables("neighbor", NEIGHBOR, |entries| Table::peek(entries, "address").map(str::to_owned));
        let mut neighbors = Vec::new();
        let mut seen = HashMap::new();
        for table in &tables {
            let Some(neighbor) = self.read_neighbor(table) else { continue };
            if let Some(there) = seen.insert((neighbor.port, neighbor.addr), table.at.clone()) {
                let what = format!("a second neighbor {}", neighbor.addr);
                let fix = format!("remove it or the one in {}", doc.refer(&table.at, &there));
                doc.error(&table.at, what, fix);
            }
            neighbors.push(neighbor);
        }
        if let Some(table) = tables.get(limits.neighbors) {
            let what = format!("{} neighbors are more than the limit of {}", tables.len(), limits.neighbors);
            doc.error(&table.at, what, format!("set neighbors = {} or more in [limits]", tables.len()));
        }
        neighbors
    }

    fn read_neighbor(&self, table: &Table<'_>) -> Option<Neighbor> {
        let doc = table.doc;
        table.require("address", "\"192.0.2.21\"");
        table.require("mac", "\"02:00:00:00:00:15\"");
        let addr = table.parsed("address", "192.0.2.21", read_address);
        let mac = table.parsed("mac", "02:00:00:00:00:15", str::parse);
        let mac = mac.filter(|mac| is_station(doc, mac));
        let name = table.string("interface", "uvs0");
        let interface = name.as_ref().and_then(|name| self.named(doc, name));
        let addr = addr?;
        if let Some(owner) = self.owner(addr.value) {
            let what =
                format!("neighbor {} is an address of the director itself ({})", addr.value, owner.spec.name);
            doc.error(&addr.at, what, "give the address of another host");
            return None;
        }
        let port = if table.has("interface") {
            interface?.spec.port
        } else if let Some((port, _)) = self.connected(addr.value) {
            port
        } else {
            if self.complete {
                let what = format!("neighbor {} is in no connected subnet", addr.value);
                doc.error(&addr.at, what, "add interface = \"NAME\", or correct the address");
            }
            return None;
        };
        let interface = self.interface(port);
        if interface.spec.link == Link::Ip {
            let what = format!(
                "neighbor {} on {}: a layer 3 device (TUN) has no MAC addresses",
                addr.value, interface.spec.name
            );
            doc.error(&table.at, what, "remove the neighbor, or use device = \"tap\"");
            return None;
        }
        Some(Neighbor { port, addr: addr.value, mac: mac?.value })
    }

    /// The port of the interface of that name.
    pub(crate) fn named_port(&self, name: &str) -> Option<PortId> {
        self.interfaces.iter().find(|interface| interface.spec.name == name).map(|it| it.spec.port)
    }

    /// The interface with that index.
    pub(crate) fn interface(&self, port: PortId) -> &Interface {
        &self.interfaces[usize::from(port.0)]
    }

    /// The interface that has this address as its own.
    pub(crate) fn owner(&self, addr: IpAddr) -> Option<&Interface> {
        let owns = |it: &&Interface| it.spec.addresses.iter().any(|prefix| prefix.addr() == addr);
        self.interfaces.iter().find(owns)
    }

    /// Gives each VIP, and each virtual address of VRRP, to the interface whose subnet holds it, unless an interface
    /// has it as an address already. A virtual address that is in none belongs to the interface of its virtual router.
    pub(crate) fn own_vips(
        &mut self,
        vips: impl IntoIterator<Item = IpAddr>,
        virtual_addresses: &[(IpAddr, PortId)],
    ) {
        let mut specs: Vec<InterfaceSpec> = self.interfaces.iter().map(|it| it.spec.clone()).collect();
        own_vips(&mut specs, vips, virtual_addresses);
        for (interface, spec) in self.interfaces.iter_mut().zip(specs) {
            interface.spec = spec;
        }
    }

    /// The host kernel's side of a TUN that has this address.
    pub(crate) fn host_owner(&self, addr: IpAddr) -> Option<&Interface> {
        let owns = |it: &&Interface| {
            it.host.as_ref().is_some_and(|host| host.addresses.iter().any(|prefix| prefix.addr() == addr))
        };
        self.interfaces.iter().find(owns)
    }

    /// The longest connected subnet around `addr`.
    pub(crate) fn connected(&self, addr: IpAddr) -> Option<(PortId, Prefix)> {
        connected(self.interfaces.iter().map(|interface| &interface.spec), addr)
    }

    /// The same of a VIP, which may be a virtual address of VRRP that is in no subnet.
    pub(crate) fn connected_vip(&self, vip: IpAddr) -> Option<(PortId, Prefix)> {
        let is_it = |(addr, _): &&(IpAddr, PortId)| *addr == vip;
        let by_vrrp =
            || self.virtual_addresses.iter().find(is_it).map(|(_, port)| (*port, Prefix::host(vip)));
        self.connected(vip).or_else(by_vrrp)
    }

    /// The way to `addr`: the longest prefix, a connected subnet among equals.
    pub(crate) fn hop(&self, addr: IpAddr) -> Option<Hop> {
        let connected = self.connected(addr);
        let routes = self.routes.iter().filter(|route| route.to.contains(addr));
        let route = routes.max_by_key(|route| route.to.prefix_len());
        match (connected, route) {
            (Some((_, subnet)), Some(route)) if route.to.prefix_len() > subnet.prefix_len() => {
                Some(Hop { port: route.port, via: route.via })
            }
            (Some((port, _)), _) => Some(Hop { port, via: None }),
            (None, route) => route.map(|route| Hop { port: route.port, via: route.via }),
        }
    }

    fn check_names(&self, doc: &Doc<'_>) {
        let mut names: HashMap<&str, &Location> = HashMap::new();
        for interface in &self.interfaces {
            let (name, at) = (interface.spec.name.as_str(), &interface.location);
            if let Some(there) = names.insert(name, at) {
                let fix = format!("rename it or the one in {}", doc.refer(at, there));
                doc.error(at, format!("a second interface {name}"), fix);
            }
        }
        self.check_direct(doc, &names);
        let mut plugged: HashMap<&str, &str> = HashMap::new();
        for interface in &self.interfaces {
            let Some(bridge) = &interface.bridge else { continue };
            let at = &interface.location;
            if names.contains_key(bridge.name.as_str()) {
                let what = format!("bridge {} has the name of an interface of the director", bridge.name);
                doc.error(at, what, "give the bridge another name");
            }
            for port in &bridge.ports {
                let other = plugged.insert(port, &bridge.name);
                if names.contains_key(port.as_str()) || *port == bridge.name {
                    let what = format!("{port} cannot be a port of bridge {}", bridge.name);
                    let fix = "name devices of the host there; the TAP itself is plugged in anyway";
                    doc.error(at, what, fix);
                } else if let Some(other) = other.filter(|other| *other != bridge.name) {
                    let what = format!("{port} is a port of two bridges, {other} and {}", bridge.name);
                    doc.error(at, what, "leave it to one of them");
                }
            }
        }
    }

    /// Each link of the host belongs to one interface alone, and to no bridge of ours.
    fn check_direct(&self, doc: &Doc<'_>, names: &HashMap<&str, &Location>) {
        let mut attached: HashMap<&str, &str> = HashMap::new();
        for interface in &self.interfaces {
            let Some(Direct { link }) = &interface.direct else { continue };
            let (at, name) = (&interface.location, interface.spec.name.as_str());
            if names.contains_key(link.as_str()) {
                let what = format!("{link} cannot be the link of {name}: it is an interface of the director");
                doc.error(at, what, "name a network card or a veth of the host, as in link = \"eth0\"");
            } else if let Some(other) = attached.insert(link, name) {
                let what = format!("{link} is the link of two interfaces, {other} and {name}");
                doc.error(at, what, "give each its own, or give one interface the addresses of both");
            }
            let uses = |bridge: &Bridge| bridge.name == *link || bridge.ports.contains(link);
            let bridges = || self.interfaces.iter().filter_map(|it| it.bridge.as_ref());
            if let Some(bridge) = bridges().find(|bridge| uses(bridge)) {
                let what = format!("{link} is the link of {name} and belongs to bridge {}", bridge.name);
                doc.error(at, what, "leave it to one of them: a bridge takes all frames of its ports");
            }
        }
    }

    fn check_addresses(&self, doc: &Doc<'_>) {
        let [own, host] = &self.places;
        let mut seen: HashMap<IpAddr, &Location> = HashMap::new();
        for At { value: prefix, at } in own {
            // Each link may have the same one.
            if is_link_local(prefix.addr()) {
                continue;
            }
            if let Some(there) = seen.insert(prefix.addr(), at) {
                let what = format!("address {} is given twice", prefix.addr());
                doc.error(at, what, format!("remove it or the one in {}", doc.refer(at, there)));
            }
        }
        for At { value: prefix, at } in host.iter().filter(|it| seen.contains_key(&it.value.addr())) {
            let what = format!("host address {} is also one of the director's", prefix.addr());
            let fix =
                "give the host's kernel another address of the subnet: it would keep the packets to itself";
            doc.error(at, what, fix);
        }
    }
}

/// `None` when what others depend on, its name, device and addresses, could not be read.
fn read_interface(table: &Table<'_>, index: usize, compat_ipvs: bool) -> Option<Draft> {
    let doc = table.doc;
    let name = table.required_string("name", "uvs0").filter(|name| is_device_name(doc, "interface", name));
    table.require("device", "\"tap\" (layer 2) or \"tun\" (layer 3)");
    let device = table.choice("device", &[("tap", Device::Tap), ("tun", Device::Tun)], &[]);
    table.require("addresses", "[\"192.0.2.1/24\"]");
    let addresses = table.list("addresses", "192.0.2.1/24", str::parse);
    let addresses = addresses.and_then(|addresses| {
        if addresses.is_empty() {
            let what = "an interface needs an address of the director";
            doc.error(&table.place("addresses"), what, "write addresses = [\"192.0.2.1/24\"]");
            return None;
        }
        // Every one is looked at before the list is given up.
        let good: Vec<bool> = addresses.iter().map(|address| is_own_address(doc, address)).collect();
        good.iter().all(|good| *good).then_some(addresses)
    });
    let tap = device.as_ref().is_none_or(|device| device.value == Device::Tap);
    let mtu = table.integer(&Integer {
        key: "mtu",
        label: "MTU",
        min: 68,
        // 14 bytes of Ethernet header are part of what a TAP carries.
        max: if tap { 65_521 } else { 65_535 },
        note: if tap { " bytes on a TAP" } else { " bytes on a TUN" },
    });
    let mtu = mtu.and_then(|mtu| u32::try_from(mtu.value).ok()).unwrap_or(MTU_DEFAULT);
    if mtu < MTU_MIN_V6 && addresses.iter().flatten().any(|prefix| prefix.value.addr().is_ipv6()) {
        let what = format!("MTU {mtu} is too small for IPv6");
        doc.error(&table.place("mtu"), what, "use 1280 or more, or remove the IPv6 addresses");
    }
    let mac = table.parsed("mac", "02:00:5e:00:00:01", str::parse).filter(|mac| is_station(doc, mac));
    if let Some(device) = &device {
        let (keys, why): (&[&str], &str) = match device.value {
            Device::Tap => (&["host"], "a TAP (layer 2) has no side in the host's kernel, it takes a bridge"),
            Device::Tun => (
                &["mac", "bridge", "attach", "link", "accelerate"],
                "a TUN (layer 3) has no MAC address and takes no bridge",
            ),
        };
        for key in keys.iter().filter(|key| table.has(key)) {
            let other = if tap { "tun" } else { "tap" };
            doc.error(
                &table.place(key),
                format!("{key} does not go with this device: {why}"),
                format!("remove {key}, or use device = {other:?}"),
            );
        }
    }
    let words = [("loose", SourceCheck::Loose), ("strict", SourceCheck::Strict), ("off", SourceCheck::Off)];
    let source_check = table.choice("source_check", &words, &[("none", "off"), ("false", "off")]);
    let usual = if compat_ipvs { SourceCheck::Off } else { SourceCheck::Loose };
    let source_check = source_check.map_or(usual, |check| check.value);
    let io = device_io(table);
    let bridge = table.section("bridge", BRIDGE).and_then(|bridge| read_bridge(&bridge));
    let direct = read_direct(table, tap);
    let accelerate = read_accelerate(table, direct.is_some());
    let (host, host_addresses) = table.section("host", HOST).map(|host| read_host(&host)).unzip();
    let Ok(port) = u16::try_from(index).map(PortId) else {
        doc.error(&table.at, "more than 65536 interfaces", "remove some");
        return None;
    };
    let (name, device, addresses) = (name?.value.to_owned(), device?.value, addresses?);
    let link = match device {
        Device::Tap => Link::Ethernet(mac.map_or_else(|| derived_mac(&name), |mac| mac.value)),
        Device::Tun => Link::Ip,
    };
    let spec = InterfaceSpec { port, name, link, mtu, addresses: values(&addresses), source_check };
    let own = spec.addresses.clone();
    let interface = Interface { spec, own, io, bridge, direct, accelerate, host, location: table.at.clone() };
    Some(Draft { interface, addresses, host_addresses: host_addresses.unwrap_or_default() })
}

fn read_bridge(table: &Table<'_>) -> Option<Bridge> {
    let name = table.required_string("name", "br0").filter(|name| is_device_name(table.doc, "bridge", name));
    Some(Bridge { name: name?.value.to_owned(), ports: devices(table, "ports") })
}

fn devices(table: &Table<'_>, key: &str) -> Vec<String> {
    let names = table.list(key, "eth0", |name| Ok(name.to_owned())).unwrap_or_default();
    let good = |name: &At<String>| {
        is_device_name(table.doc, "device", &At { value: name.value.as_str(), at: name.at.clone() })
    };
    names.into_iter().filter(good).map(|name| name.value).collect()
}

/// The host's side, and where its addresses stand.
fn read_host(table: &Table<'_>) -> (Host, Vec<At<Prefix>>) {
    let prefixes = |key, example| table.list(key, example, str::parse::<Prefix>).unwrap_or_default();
    let mut addresses = prefixes("addresses", "192.0.2.1/30");
    addresses.retain(|prefix| is_own_address(table.doc, prefix));
    let mut routes = prefixes("routes", "192.0.2.80/32");
    routes.retain(|prefix| is_network(table.doc, prefix));
    let local = |key| {
        let wanted = table.boolean(key).unwrap_or(false);
        if wanted && !table.has("addresses") {
            let what = format!("{key} without an address: the host's own processes need one on the device");
            table.doc.error(&table.place(key), what, "add addresses = [\"192.0.2.1/30\"]");
        }
        wanted
    };
    let host = Host {
        local_servers: local("local_servers"),
        local_clients: local("local_clients"),
        addresses: values(&addresses),
        routes: values(&routes),
        replies_from: devices(table, "replies_from"),
        forwarding: table.boolean("forwarding").unwrap_or(false),
    };
    (host, addresses)
}

fn has_ipv6(interface: &Interface) -> bool {
    interface.spec.addresses.iter().any(|prefix| prefix.addr().is_ipv6())
}

fn values(prefixes: &[At<Prefix>]) -> Vec<Prefix> {
    prefixes.iter().map(|prefix| prefix.value).collect()
}

/// As [`Network::own_vips`].
pub(crate) fn own_vips(
    interfaces: &mut [InterfaceSpec],
    vips: impl IntoIterator<Item = IpAddr>,
    virtual_addresses: &[(IpAddr, PortId)],
) {
    // A VIP that is added is no subnet that another could lie in.
    let subnets = interfaces.to_vec();
    let mut known: HashSet<IpAddr> =
        subnets.iter().flat_map(|it| &it.addresses).map(|prefix| prefix.addr()).collect();
    for vip in vips {
        if known.insert(vip)
            && let Some((port, _)) = connected(subnets.iter(), vip)
        {
            interfaces[usize::from(port.0)].addresses.push(Prefix::host(vip));
        }
    }
    for (addr, port) in virtual_addresses {
        let has_it = |it: &InterfaceSpec| it.addresses.iter().any(|prefix| prefix.addr() == *addr);
        if interfaces.iter().any(has_it) {
            continue;
        }
        let port = connected(subnets.iter(), *addr).map_or(*port, |(port, _)| port);
        interfaces[usize::from(port.0)].addresses.push(Prefix::host(*addr));
    }
}

fn connected<'i>(
    interfaces: impl Iterator<Item = &'i InterfaceSpec>,
    addr: IpAddr,
) -> Option<(PortId, Prefix)> {
    let subnets = interfaces.filter_map(|interface| {
        let subnet = longest(interface.addresses.iter().copied(), addr)?;
        Some((interface.port, subnet))
    });
    // The first of equals, as in the file.
    subnets.reduce(|best, next| if next.1.prefix_len() > best.1.prefix_len() { next } else { best })
}

fn longest(prefixes: impl Iterator<Item = Prefix>, addr: IpAddr) -> Option<Prefix> {
    prefixes.filter(|prefix| prefix.contains(addr)).max_by_key(|prefix| prefix.prefix_len())
}

/// A locally administered MAC address that follows from the interface's name, so that it is the same after a restart.
fn derived_mac(name: &str) -> MacAddr {
    let [_, _, first, rest @ ..] = hash_of_name(name).to_be_bytes();
    let [b, c, d, e, f] = rest;
    MacAddr([first & 0xfc | 0x02, b, c, d, e, f])
}

/// Where a service's packets come in, when the host's kernel is not told to route them there.
pub(crate) fn unrouted_by_host(network: &Network, vip: IpAddr, port: PortId) -> Option<&Interface> {
    let interface = network.interface(port);
    let host = interface.host.as_ref()?;
    let covered = host.routes.iter().chain(&host.addresses).any(|prefix| prefix.contains(vip));
    (!covered).then_some(interface)
}
