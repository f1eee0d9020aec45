//! `[[service]]`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::HashMap;

use uvs_director::Duration;
use uvs_director::spec::{Family, Persistence, Prefix, Protocol, ServiceKey, ServiceSpec};

use crate::address::{check_host, edge_name, is_edge};
use crate::destination::{Destinations, Front, Read};
use crate::health::{self, HEALTH};
use crate::marks::{PROTOCOLS, read_mark};
use crate::model::{Check, Scheduler, Service};
use crate::network::{Network, unrouted_by_host};
use crate::problem::Location;
use crate::read::{At, Integer, Keys, Scalar, Table};
use crate::scheduler;
use crate::settings;
use crate::tunnel::Way;

pub(crate) const SERVICE: Keys = &[
    "protocol",
    "address",
    "mark",
    "family",
    "scheduler",
    "options",
    "shadow",
    "canary",
    "persistent",
    "netmask",
    "one_packet",
    "sloppy_tcp",
    "forward",
    "tunnel",
    "destination",
    "checks",
    "health",
    "drain",
];

const PROTOCOL_HINTS: &[(&str, &str)] = &[("TCP", "tcp"), ("UDP", "udp"), ("SCTP", "sctp")];

/// What `ipvsadm -p` alone means, in seconds.
const PERSISTENT_DEFAULT: u64 = 360;
/// The longest that ipvsadm takes: 31 days.
const PERSISTENT_MAX: u64 = 31 * 86_400;

/// All virtual services.
pub(crate) fn services(
    root: &Table<'_>,
    network: &Network,
    schedulers: &[Scheduler],
    checks: &[Check],
    drain: Option<Duration>,
) -> Vec<Service> {
    let doc = root.doc;
    let tables = root.tables("service", SERVICE, |entries| {
        if let Some(mark) = Table::peek_integer(entries, "mark") {
            let v6 = Table::peek(entries, "family") == Some("ipv6");
            return Some(format!("fwmark {mark}{}", if v6 { " IPv6" } else { "" }));
        }
        let (protocol, address) = (Table::peek(entries, "protocol"), Table::peek(entries, "address")?);
        Some(protocol.map_or_else(|| address.to_owned(), |protocol| format!("{protocol} {address}")))
    });
    // The VIPs first: no destination may be one of them, whichever service it belongs to.
    let addresses: Vec<Option<At<SocketAddr>>> =
        tables.iter().map(|table| read_vip(table, network, root.has("announce"))).collect();
    let vips: Vec<IpAddr> = addresses.iter().flatten().map(|address| address.value.ip()).collect();
    let mut seen: HashMap<ServiceKey, Location> = HashMap::new();
    let mut services = Vec::new();
    for (table, address) in tables.iter().zip(addresses) {
        let reader = ServiceReader { table, network, schedulers, checks, vips: &vips, drain };
        let Some(service) = reader.read(address.as_ref()) else { continue };
        if let Some(there) = seen.insert(service.spec.key, table.at.clone()) {
            let what = format!("a second service {}", service.spec.key);
            let fix = format!("move its destinations to the one in {}", doc.refer(&table.at, &there));
            doc.error(&table.at, what, fix);
        }
        services.push(service);
    }
    services
}

/// The service's address, if a VIP can be that. `announced`: the host's kernel gets routes to VIPs.
fn read_vip(table: &Table<'_>, network: &Network, announced: bool) -> Option<At<SocketAddr>> {
    if table.has("mark") {
        return None;
    }
    let doc = table.doc;
    table.require("address", "\"192.0.2.80:443\"");
    let address = table.parsed("address", "192.0.2.80:443", |text| {
        text.parse::<SocketAddr>().map_err(|_| match text.parse::<IpAddr>() {
            Ok(_) => format!("service address {text:?} has no port"),
            Err(_) => format!("service address {text:?} is not an IP address and a port"),
        })
    })?;
    let (vip, at) = (address.value.ip(), &address.at);
    if !check_host(doc, "VIP", vip, at) {
        return None;
    }
    if let Some(host) = network.host_owner(vip) {
        let what = format!("VIP {vip} is the host kernel's address on {}", host.spec.name);
        doc.error(at, what, "use another VIP: the kernel would keep its packets to itself");
        return None;
    }
    let Some((port, subnet)) = network.connected_vip(vip) else {
        if network.complete {
            doc.error(
                at,
                format!("VIP {vip} is outside every interface"),
                format!(
                    "add \"{}\" to the addresses of an interface, or use a VIP inside a subnet",
                    Prefix::host(vip)
                ),
            );
        }
        return Some(address);
    };
    if is_edge(subnet, vip) {
        let what = format!("VIP {vip} is the {} address of {subnet}", edge_name(subnet, vip));
        doc.error(at, what, "use another address of the subnet");
    }
    if let Some(interface) = unrouted_by_host(network, vip, port).filter(|_| !announced) {
        let name = &interface.spec.name;
        doc.warn(
            at,
            format!("the host's kernel is not told to route VIP {vip} into {name}"),
            format!(
                "add \"{}\" to the host.routes of interface {name}, unless the route is there",
                Prefix::host(vip)
            ),
        );
    }
    Some(address)
}

struct ServiceReader<'r> {
    table: &'r Table<'r>,
    network: &'r Network,
    schedulers: &'r [Scheduler],
    checks: &'r [Check],
    /// Of all services.
    vips: &'r [IpAddr],
    /// Of those that do not say.
    drain: Option<Duration>,
}

impl ServiceReader<'_> {
    fn read(&self, address: Option<&At<SocketAddr>>) -> Option<Service> {
        let table = self.table;
        let (key, front) = if table.has("mark") { self.mark() } else { self.address(address) };
        let persistence = self.persistence(front.map(Front::family));
        let one_packet = self.one_packet(key);
        let sloppy_tcp = self.sloppy_tcp(key);
        if let Some(address) = address.filter(|address| address.value.port() == 0)
            && matches!(table.scalar("persistent"), None | Some(Scalar::Boolean(false)))
        {
            table.doc.error(
                &address.at,
                "a service on port 0 (all ports) needs persistence",
                "add persistent = 300, or give the one port, 1 to 65535",
            );
        }
        let way = Way::read(table);
        let scheduler = scheduler::of_service(table, self.schedulers);
        let trial = scheduler::trial(table, self.schedulers);
        let (network, vips) = (self.network, self.vips);
        let section = table.section("health", HEALTH);
        let reader = Destinations { table, network, vips, front, way, checks: self.checks };
        let Read { destinations, backups, overrides } = reader.read(section.as_ref());
        let health = health::health(table, section.as_ref(), self.checks, backups, overrides);
        if let (Some(health), Some(key)) = (&health, key) {
            health::judge(table, health, self.checks, key, &destinations);
        }
        let (scheduler, module, scheduler_location) = scheduler?;
        Some(Service {
            spec: ServiceSpec { persistence, one_packet, sloppy_tcp, ..ServiceSpec::new(key?, scheduler) },
            module,
            trial,
            destinations,
            health,
            drain: settings::drain(table, self.drain),
            location: table.at.clone(),
            scheduler_location,
        })
    }

    /// A service named by protocol and address.
    fn address(&self, address: Option<&At<SocketAddr>>) -> (Option<ServiceKey>, Option<Front>) {
        let table = self.table;
        table.require("protocol", "\"tcp\", \"udp\" or \"sctp\"");
        let protocol = table.choice("protocol", PROTOCOLS, PROTOCOL_HINTS);
        if table.has("family") {
            let fix = "remove family, or name the service by mark";
            table.doc.error(
                &table.place("family"),
                "family goes with mark only: the address has its own",
                fix,
            );
        }
        let address = address.map(|address| address.value);
        let key = protocol.zip(address).map(|(protocol, address)| ServiceKey::new(protocol.value, address));
        (key, address.map(Front::Address))
    }

    /// A service named by firewall mark.
    fn mark(&self) -> (Option<ServiceKey>, Option<Front>) {
        let table = self.table;
        for key in ["protocol", "address"].into_iter().filter(|key| table.has(key)) {
            table.doc.error(
                &table.place(key),
                format!("{key} does not go with mark: the service has every packet with that mark"),
                format!("remove {key} or mark; a [[mark]] rule says which packets have it"),
            );
        }
        let mark = read_mark(table);
        let words = [("ipv4", Family::V4), ("ipv6", Family::V6)];
        let family = table.choice("family", &words, &[("IPv4", "ipv4"), ("IPv6", "ipv6"), ("inet6", "ipv6")]);
        let family = if table.has("family") { family.map(|family| family.value) } else { Some(Family::V4) };
        let key = mark.zip(family).map(|(mark, family)| ServiceKey::Mark { mark, family });
        (key, family.map(Front::Mark))
    }

    fn one_packet(&self, key: Option<ServiceKey>) -> bool {
        let table = self.table;
        let one_packet = table.switch("one_packet").unwrap_or(false);
        if let Some(ServiceKey::Address { protocol, .. }) = key
            && one_packet
            && protocol != Protocol::Udp
        {
            table.doc.error(
                &table.place("one_packet"),
                format!("one_packet on {protocol}: only datagrams can be scheduled alone"),
                "remove one_packet, or use protocol = \"udp\"",
            );
        }
        one_packet
    }

    fn sloppy_tcp(&self, key: Option<ServiceKey>) -> bool {
        let table = self.table;
        let sloppy = table.switch("sloppy_tcp").unwrap_or(false);
        if let Some(ServiceKey::Address { protocol, .. }) = key
            && sloppy
            && protocol != Protocol::Tcp
        {
            table.doc.error(
                &table.place("sloppy_tcp"),
                format!("sloppy_tcp on {protocol}: it says which TCP packets start a connection"),
                "remove sloppy_tcp, or use protocol = \"tcp\"",
            );
        }
        sloppy
    }

    fn persistence(&self, family: Option<Family>) -> Option<Persistence> {
        let table = self.table;
        let persistent = Integer {
            key: "persistent",
            label: "persistent",
            min: 1,
            max: PERSISTENT_MAX,
            note: " seconds, or true for 300",
        };
        let timeout = match table.scalar("persistent") {
            Some(Scalar::Boolean(on)) => on.then_some(PERSISTENT_DEFAULT),
            _ => table.integer(&persistent).map(|timeout| timeout.value),
        };
        let off = !table.has("persistent") || table.scalar("persistent") == Some(Scalar::Boolean(false));
        if off && table.has("netmask") {
            table.doc.error(
                &table.place("netmask"),
                "netmask without persistence: it says which clients stick together",
                "add persistent = 300, or remove netmask",
            );
        }
        let family = family?;
        let prefix_len = if table.has("netmask") { self.netmask(family)? } else { bits(family) };
        let timeout = Duration::from_secs(timeout?);
        Some(Persistence { timeout, prefix_len, engine: None })
    }

    /// As a mask or as a prefix length.
    fn netmask(&self, family: Family) -> Option<u8> {
        let table = self.table;
        if !matches!(table.scalar("netmask"), Some(Scalar::Text(_))) {
            let note = match family {
                Family::V4 => " as a prefix length of IPv4, or a mask as in \"255.255.255.0\"",
                Family::V6 => " as a prefix length of IPv6",
            };
            // With 0 all clients stick together; the kernel takes that of IPv4 only.
            let min = if family == Family::V4 { 0 } else { 1 };
            let max = bits(family).into();
            let len = table.integer(&Integer { key: "netmask", label: "netmask", min, max, note })?;
            return u8::try_from(len.value).ok();
        }
        let example = if family == Family::V4 { "255.255.255.0" } else { "ffff:ffff:ffff:ffff::" };
        let mask = table.parsed("netmask", example, |text| {
            let v4 = text
                .parse::<Ipv4Addr>()
                .map(|mask| (mask.to_bits().leading_ones(), mask.to_bits().count_ones()));
            let v6 = text
                .parse::<Ipv6Addr>()
                .map(|mask| (mask.to_bits().leading_ones(), mask.to_bits().count_ones()));
            let (leading, all) = match family {
                Family::V4 if v6.is_ok() => {
                    return Err(format!("netmask {text:?} is of IPv6, the service of IPv4"));
                }
                Family::V6 if v4.is_ok() => {
                    return Err(format!("netmask {text:?} is of IPv4, the service of IPv6"));
                }
                _ => v4.or(v6).map_err(|_| format!("netmask {text:?} is not one"))?,
            };
            if leading != all {
                return Err(format!("netmask {text:?} has a hole: a 1 follows a 0"));
            }
            Ok(leading)
        });
        mask.and_then(|mask| u8::try_from(mask.value).ok())
    }
}

/// Of an address.
fn bits(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}
