//! `[[scheduler]]`, `[[service]]`, `[[service.destination]]`.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use uvs_director::spec::{
    DestinationSpec, Family, Forwarding, Link, Protocol, SchedulerSpec, ServiceKey, ServiceSpec, Tunnel,
};

use crate::config::{DEFAULT_FALLBACK, DEFAULT_SCHEDULER, Module, NATIVE, SHIPPED, Scheduler, Service};
use crate::network::{Network, check_host, edge_name, is_edge, unrouted_by_host};
use crate::problem::Location;
use crate::read::{At, Doc, Integer, Keys, Table};
use crate::suggest::nearest;

pub(crate) const SCHEDULER: Keys = &["name", "module", "options", "fallback"];
pub(crate) const SERVICE: Keys = &["protocol", "address", "scheduler", "options", "forward", "destination"];
pub(crate) const DESTINATION: Keys = &["address", "weight", "forward"];

const FORWARD: &[(&str, Forwarding)] =
    &[("nat", Forwarding::Nat), ("dr", Forwarding::Direct), ("tun", Forwarding::Tunnel(Tunnel::Ipip))];

/// What ipvsadm and keepalived call the methods.
const FORWARD_HINTS: &[(&str, &str)] = &[
    ("masq", "nat"),
    ("masquerading", "nat"),
    ("NAT", "nat"),
    ("direct", "dr"),
    ("gatewaying", "dr"),
    ("gateway", "dr"),
    ("DR", "dr"),
    ("ipip", "tun"),
    ("tunnel", "tun"),
    ("TUN", "tun"),
];

/// The scheduler modules with a name of their own.
pub(crate) fn schedulers(root: &Table<'_>) -> Vec<Scheduler> {
    let doc = root.doc;
    let tables =
        root.tables("scheduler", SCHEDULER, |entries| Table::peek(entries, "name").map(str::to_owned));
    let mut schedulers = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for table in &tables {
        let name = table.required_string("name", "mine").filter(|name| is_scheduler_name(doc, name));
        if let Some(name) = &name
            && let Some(line) = seen.insert(name.value, table.at.line)
        {
            let fix = format!("rename it or the one in line {line}");
            doc.error(&name.at, format!("a second scheduler {:?}", name.value), fix);
        }
        let module = table.required_string("module", "mine.wasm");
        let path = module.and_then(|module| find_module(doc, &module));
        let fallback = table.string("fallback", DEFAULT_FALLBACK);
        if let Some(fallback) = fallback.as_ref().filter(|fallback| !NATIVE.contains(&fallback.value)) {
            doc.error(
                &fallback.at,
                format!("fallback {:?} is no native scheduler", fallback.value),
                format!("use {}", NATIVE.join(" or ")),
            );
        }
        let options = table.string("options", "").map_or(String::new(), |options| options.value.to_owned());
        // What is broken here keeps its name, so that the services that use it are not called wrong as well.
        let Some(name) = name else { continue };
        let fallback = fallback.map_or(DEFAULT_FALLBACK, |fallback| fallback.value).to_owned();
        schedulers.push(Scheduler {
            name: name.value.to_owned(),
            module: Module { path: path.unwrap_or_default(), fallback },
            options,
            location: table.at.clone(),
        });
    }
    schedulers
}

fn is_scheduler_name(doc: &Doc<'_>, name: &At<&str>) -> bool {
    let word = name.value;
    if SHIPPED.contains(&word) {
        doc.error(&name.at, format!("{word:?} is the name of a shipped scheduler"), "use another name");
        return false;
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if word.is_empty() || !word.chars().all(plain) {
        doc.error(
            &name.at,
            format!("scheduler name {word:?} is not one"),
            "use letters, digits, - and _ only",
        );
        return false;
    }
    true
}

/// The absolute path of a module that is there and can be read.
fn find_module(doc: &Doc<'_>, module: &At<&str>) -> Option<PathBuf> {
    let text = module.value;
    let folder = doc.file.parent().unwrap_or(Path::new(""));
    let joined = folder.join(text);
    let path = std::path::absolute(&joined).unwrap_or_else(|_| joined.clone());
    let fault = match std::fs::metadata(&path) {
        _ if text.is_empty() => Some("is an empty path".to_owned()),
        Ok(found) if found.is_dir() => Some("is a folder".to_owned()),
        Ok(found) if !found.is_file() => Some("is not a regular file".to_owned()),
        Ok(_) => std::fs::File::open(&path).err().map(|error| format!("cannot be read: {error}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("does not exist".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    };
    if let Some(fault) = fault {
        let fix = format!("give the path of a .wasm component; it is looked for at {}", joined.display());
        doc.error(&module.at, format!("scheduler module {text:?} {fault}"), fix);
        return None;
    }
    if path.to_str().is_none() {
        let what = format!("scheduler module {text:?} lies at a path that is not UTF-8");
        doc.error(&module.at, what, "move the config and its modules to another folder");
        return None;
    }
    Some(path)
}

/// All virtual services.
pub(crate) fn services(root: &Table<'_>, network: &Network, schedulers: &[Scheduler]) -> Vec<Service> {
    let doc = root.doc;
    let tables = root.tables("service", SERVICE, |entries| {
        let (protocol, address) = (Table::peek(entries, "protocol"), Table::peek(entries, "address")?);
        Some(protocol.map_or_else(|| address.to_owned(), |protocol| format!("{protocol} {address}")))
    });
    // The VIPs first: no destination may be one of them, whichever service it belongs to.
    let vips: Vec<Option<At<SocketAddr>>> = tables.iter().map(|table| read_vip(table, network)).collect();
    let mut seen: HashMap<ServiceKey, usize> = HashMap::new();
    let mut services = Vec::new();
    for (table, vip) in tables.iter().zip(&vips) {
        let reader = ServiceReader { table, network, schedulers, vips: &vips };
        let Some(service) = reader.read(vip.as_ref()) else { continue };
        if let Some(line) = seen.insert(service.spec.key, table.at.line) {
            let what = format!("a second service {}", service.spec.key);
            doc.error(&table.at, what, format!("move its destinations to the one in line {line}"));
        }
        services.push(service);
    }
    services
}

/// The service's address, if a VIP can be that.
fn read_vip(table: &Table<'_>, network: &Network) -> Option<At<SocketAddr>> {
    let doc = table.doc;
    table.require("address", "\"192.0.2.80:443\"");
    let address = table.parsed("address", "192.0.2.80:443", |text| {
        text.parse::<SocketAddr>().map_err(|_| match text.parse::<IpAddr>() {
            Ok(_) => format!("service address {text:?} has no port"),
            Err(_) => format!("service address {text:?} is not an IP address and a port"),
        })
    })?;
    let (vip, at) = (address.value.ip(), &address.at);
    if address.value.port() == 0 {
        doc.error(
            at,
            "a service on port 0 (all ports) needs persistence, which is not built yet",
            "give the one port, 1 to 65535",
        );
    }
    if !check_host(doc, "VIP", vip, at) {
        return None;
    }
    if let Some(host) = network.host_owner(vip) {
        let what = format!("VIP {vip} is the host kernel's address on {}", host.spec.name);
        doc.error(at, what, "use another VIP: the kernel would keep its packets to itself");
        return None;
    }
    let Some((port, subnet)) = network.connected(vip) else {
        if network.complete {
            doc.error(
                at,
                format!("VIP {vip} is outside every interface"),
                format!("add \"{vip}/32\" to the addresses of an interface, or use a VIP inside a subnet"),
            );
        }
        return Some(address);
    };
    if is_edge(subnet, vip) {
        let what = format!("VIP {vip} is the {} address of {subnet}", edge_name(subnet, vip));
        doc.error(at, what, "use another address of the subnet");
    }
    if let Some(interface) = unrouted_by_host(network, vip, port) {
        let name = &interface.spec.name;
        doc.warn(
            at,
            format!("the host's kernel is not told to route VIP {vip} into {name}"),
            format!("add \"{vip}/32\" to the host.routes of interface {name}, unless the route is there"),
        );
    }
    Some(address)
}

struct ServiceReader<'r> {
    table: &'r Table<'r>,
    network: &'r Network,
    schedulers: &'r [Scheduler],
    vips: &'r [Option<At<SocketAddr>>],
}

impl ServiceReader<'_> {
    fn read(&self, vip: Option<&At<SocketAddr>>) -> Option<Service> {
        let table = self.table;
        let protocol = self.protocol();
        let forward = table.choice("forward", FORWARD, FORWARD_HINTS).map(|forward| forward.value);
        let scheduler = self.scheduler();
        let destinations = self.destinations(vip.map(|vip| vip.value), forward);
        let key = ServiceKey::new(protocol?, vip?.value);
        let (scheduler, module, scheduler_location) = scheduler?;
        Some(Service {
            spec: ServiceSpec::new(key, scheduler),
            module,
            destinations,
            location: table.at.clone(),
            scheduler_location,
        })
    }

    fn protocol(&self) -> Option<Protocol> {
        let table = self.table;
        table.require("protocol", "\"tcp\" or \"udp\"");
        let all = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
        let words = if table.string_is("protocol", "sctp") { &all[..] } else { &all[..2] };
        let found = table.choice("protocol", words, &[("TCP", "tcp"), ("UDP", "udp")])?;
        if found.value == Protocol::Sctp {
            table.doc.error(&found.at, "SCTP is not built yet", "use \"tcp\" or \"udp\"");
            return None;
        }
        Some(found.value)
    }

    /// What the engine is told, the module behind it, and where it is named.
    fn scheduler(&self) -> Option<(SchedulerSpec, Option<Module>, Location)> {
        let table = self.table;
        let named = table.string("scheduler", DEFAULT_SCHEDULER);
        let options = table.string("options", "").map(|options| options.value.to_owned());
        let Some(named) = named else {
            let spec =
                SchedulerSpec { name: DEFAULT_SCHEDULER.to_owned(), options: options.unwrap_or_default() };
            return Some((spec, None, table.at.clone()));
        };
        let word = named.value;
        let spec = |name: &str, options: Option<String>| SchedulerSpec {
            name: name.to_owned(),
            options: options.unwrap_or_default(),
        };
        if SHIPPED.contains(&word) {
            return Some((spec(word, options), None, named.at));
        }
        if let Some(known) = self.schedulers.iter().find(|scheduler| scheduler.name == word) {
            let options = options.or_else(|| Some(known.options.clone()));
            return Some((spec(word, options), Some(known.module.clone()), named.at));
        }
        if word.contains('/') || word.ends_with(".wasm") {
            let path = find_module(table.doc, &named)?;
            let name = path.to_str().expect("find_module takes UTF-8 paths only").to_owned();
            let module = Module { path, fallback: DEFAULT_FALLBACK.to_owned() };
            return Some((spec(&name, options), Some(module), named.at));
        }
        let known = || SHIPPED.iter().copied().chain(self.schedulers.iter().map(|it| it.name.as_str()));
        let list = known().collect::<Vec<_>>().join(", ");
        let fix = match nearest(word, known()) {
            Some(near) => format!("did you mean {near:?}? Use one of {list}, or the path of a .wasm file"),
            None => format!("use one of {list}, or the path of a .wasm file"),
        };
        table.doc.error(&named.at, format!("unknown scheduler {word:?}"), fix);
        None
    }

    fn destinations(&self, vip: Option<SocketAddr>, forward: Option<Forwarding>) -> Vec<DestinationSpec> {
        let table = self.table;
        let doc = table.doc;
        let tables = table
            .tables("destination", DESTINATION, |entries| Table::peek(entries, "address").map(str::to_owned));
        if !table.has("destination") {
            doc.warn(
                &table.at,
                "the service has no destination: nothing answers its clients",
                "add [[service.destination]] with its address below it",
            );
        }
        let mut seen: HashMap<SocketAddr, usize> = HashMap::new();
        let mut destinations = Vec::new();
        for entry in &tables {
            let Some(spec) = self.destination(entry, vip, forward) else { continue };
            if let Some(line) = seen.insert(spec.addr, entry.at.line) {
                let what = format!("a second destination {} of the service", spec.addr);
                doc.error(&entry.at, what, format!("remove it or the one in line {line}"));
            }
            destinations.push(spec);
        }
        destinations
    }

    fn destination(
        &self,
        entry: &Table<'_>,
        vip: Option<SocketAddr>,
        inherited: Option<Forwarding>,
    ) -> Option<DestinationSpec> {
        let doc = entry.doc;
        entry.require("address", "\"192.0.2.21:8080\"");
        let address = entry.parsed("address", "192.0.2.21:8080", |text| {
            let alone = || Some((text.parse::<IpAddr>().ok()?, None));
            let with_port = text.parse::<SocketAddr>().ok().map(|addr| (addr.ip(), Some(addr.port())));
            with_port
                .or_else(alone)
                .ok_or_else(|| format!("destination address {text:?} is not an IP address and a port"))
        });
        let weight = entry.integer(&Integer {
            key: "weight",
            label: "destination weight",
            min: 0,
            max: DestinationSpec::WEIGHT_MAX.into(),
            note: " (0 quiesces the destination)",
        });
        let forward = entry.choice("forward", FORWARD, FORWARD_HINTS).map(|forward| forward.value);
        if !entry.has("forward") && !self.table.has("forward") {
            doc.error(
                &entry.at,
                "the destination has no forwarding method",
                "add forward = \"nat\", \"dr\" or \"tun\" to it or to its service",
            );
        }
        let forward = if entry.has("forward") { forward } else { inherited };
        let At { value: (rip, port), at } = address?;
        if port == Some(0) {
            doc.error(&at, "destination port 0 is no port", "use 1 to 65535, or leave the port out");
        }
        if let Some(vip) = vip
            && Family::of(vip.ip()) != Family::of(rip)
        {
            doc.error(
                &at,
                format!("destination {rip} and VIP {} are of two address families", vip.ip()),
                "give the destination an address of the VIP's family",
            );
            return None;
        }
        if !check_host(doc, "destination", rip, &at) {
            return None;
        }
        self.check_reach(doc, rip, forward, &at);
        let (vip, forwarding) = (vip?, forward?);
        let port = port.unwrap_or(vip.port());
        if forwarding != Forwarding::Nat && port != vip.port() && port != 0 {
            let method = if forwarding == Forwarding::Direct { "direct routing" } else { "tunnelling" };
            doc.error(
                &at,
                format!(
                    "destination port {port} differs from the service's, {}: {method} leaves ports alone",
                    vip.port()
                ),
                format!("use port {}, or forward = \"nat\"", vip.port()),
            );
        }
        let mut spec = DestinationSpec::new(SocketAddr::new(rip, port), forwarding);
        if let Some(weight) = weight.and_then(|weight| u32::try_from(weight.value).ok()) {
            spec.weight = weight;
        }
        Some(spec)
    }

    /// Whether packets for `rip` can get there by that method.
    fn check_reach(&self, doc: &Doc<'_>, rip: IpAddr, forward: Option<Forwarding>, at: &Location) {
        let network = self.network;
        let ours = if network.owner(rip).is_some() {
            Some("an address of the director itself")
        } else {
            let vip = self.vips.iter().flatten().any(|vip| vip.value.ip() == rip);
            vip.then_some("a VIP, which is the director's")
        };
        if let Some(ours) = ours {
            doc.error(at, format!("destination {rip} is {ours}"), "give the realserver's own address (RIP)");
            return;
        }
        let Some(hop) = network.hop(rip) else {
            if network.complete {
                doc.error(
                    at,
                    format!("no route to destination {rip}"),
                    "add an address in its subnet to an interface, or a [[route]] to it",
                );
            }
            return;
        };
        if hop.via.is_none()
            && let Some((_, subnet)) = network.connected(rip)
            && is_edge(subnet, rip)
        {
            let what = format!("destination {rip} is the {} address of {subnet}", edge_name(subnet, rip));
            doc.error(at, what, "give the realserver's own address (RIP)");
        }
        if forward != Some(Forwarding::Direct) {
            return;
        }
        let interface = network.interface(hop.port);
        if interface.spec.link == Link::Ip {
            doc.error(
                at,
                format!(
                    "direct routing over {}: a layer 3 device (TUN) has no MAC address to rewrite",
                    interface.spec.name
                ),
                "use forward = \"nat\" or \"tun\", or make the interface device = \"tap\"",
            );
        } else if let Some(via) = hop.via {
            doc.error(
                at,
                format!(
                    "destination {rip} is behind gateway {via}: direct routing ends at the director's link"
                ),
                "use forward = \"tun\" or \"nat\", or put the destination on a link of the director",
            );
        }
    }
}
