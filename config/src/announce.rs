//! `[announce]`: VIPs told to routers by routes of the host's kernel, which a routing daemon passes on.

use core::net::IpAddr;

use uvs_director::Duration;
use uvs_director::spec::{Forwarding, Link, Prefix, ServiceKey};

use crate::duration::Span;
use crate::model::{Announce, AnnounceWhile, Config, Interface, Service};
use crate::network::Network;
use crate::read::{At, Integer, Keys, Table};

pub(crate) const ANNOUNCE: Keys = &["vips", "while", "protocol", "table", "metric", "hold", "linger", "nat"];

/// Below are those of the kernel itself, and `static`.
const PROTOCOL_MIN: u64 = 5;
/// Of the kernel's own tables `local` is one that no route of ours may be in.
const TABLE_LOCAL: u64 = 255;

const HOLD: Span = Span { key: "hold", min: Duration::ZERO, max: Duration::from_secs(3600), note: "" };
const LINGER: Span = Span {
    key: "linger",
    min: Duration::ZERO,
    max: Duration::from_secs(60),
    note: ", before the director ends",
};

/// What is announced, and how.
pub(crate) fn announce(root: &Table<'_>, network: &Network, services: &[Service]) -> Option<Announce> {
    let table = root.section("announce", ANNOUNCE)?;
    let defaults = Announce::default();
    let vips = table.list("vips", "192.0.2.10", |text| {
        let vip: IpAddr = text.parse().map_err(|_| format!("VIP {text:?} is not an IP address"))?;
        match services.iter().any(|service| vip_of(service) == Some(vip)) {
            true => Ok(vip),
            false => Err(format!("VIP {vip} is that of no service")),
        }
    });
    if vips.as_ref().is_some_and(Vec::is_empty) {
        let fix = "name some, or remove vips: then all are announced";
        table.doc.error(&table.place("vips"), "vips is empty: nothing would be announced", fix);
    }
    let vips: Option<Vec<IpAddr>> =
        vips.map(|vips| vips.into_iter().map(|it: At<IpAddr>| it.value).collect());
    let words = [("any", AnnounceWhile::Any), ("all", AnnounceWhile::All), ("always", AnnounceWhile::Always)];
    let number = |key, label, min, max, note| table.integer(&Integer { key, label, min, max, note });
    let protocol =
        number("protocol", "protocol of routes", PROTOCOL_MIN, 255, ", which no daemon on the host has");
    let routes = number("table", "routing table", 1, u32::MAX.into(), " (254 is main)");
    if let Some(found) = routes.as_ref().filter(|found| found.value == TABLE_LOCAL) {
        let what = "table 255 is the kernel's table local: the host would take the packets for its own";
        table.doc.error(&found.at, what, "use 254, which is main, or a table of your own");
    }
    let metric = number("metric", "metric of routes", 1, u32::MAX.into(), "");
    let nat = table.boolean("nat").unwrap_or(false);
    let announce = Announce {
        vips: vips.unwrap_or_default(),
        keeps: table.choice("while", &words, &[]).map_or(defaults.keeps, |found| found.value),
        protocol: protocol.and_then(|found| u8::try_from(found.value).ok()).unwrap_or(defaults.protocol),
        table: routes.and_then(|found| u32::try_from(found.value).ok()).unwrap_or(defaults.table),
        metric: metric.and_then(|found| u32::try_from(found.value).ok()).unwrap_or(defaults.metric),
        hold: table.duration(&HOLD).map_or(defaults.hold, |found| found.value),
        linger: table.duration(&LINGER).map_or(defaults.linger, |found| found.value),
    };
    let announced = |service: &&Service| vip_of(service).is_some_and(|vip| announce.has(vip));
    for service in services.iter().filter(announced) {
        judge(&table, network, service, nat);
    }
    if !services.iter().any(|service| vip_of(service).is_some()) {
        let what = "no service has a VIP that could be announced: those of marks have no address";
        table.doc.warn(&table.at, what, "give a service an address, or remove [announce]");
    }
    Some(announce)
}

fn vip_of(service: &Service) -> Option<IpAddr> {
    match service.spec.key {
        ServiceKey::Address { addr, .. } => Some(addr.ip()),
        ServiceKey::Mark { .. } => None,
    }
}

/// Whether a service's VIP can be announced.
fn judge(table: &Table<'_>, network: &Network, service: &Service, nat: bool) {
    let doc = table.doc;
    let (key, at) = (service.spec.key, &service.location);
    let by_nat = service.destinations.iter().find(|it| it.forwarding == Forwarding::Nat);
    if let Some(destination) = by_nat.filter(|_| !nat) {
        let what = format!(
            "service {key} is announced and reaches destination {} by NAT: with several directors its answers go to the \
             one that its default route names, which need not be the one that has the connection",
            destination.addr
        );
        let fix = "use forward = \"dr\" or \"tun\"; or write nat = true in [announce], if one director at a time \
                   announces this VIP or each has real servers of its own";
        doc.error(at, what, fix);
    }
    let Some(vip) = vip_of(service) else { return };
    let Some((port, _)) = network.connected(vip) else { return };
    let interface = network.interface(port);
    let name = &interface.spec.name;
    let routed = |it: &Prefix| *it == Prefix::host(vip);
    if interface.host.as_ref().is_some_and(|host| host.routes.iter().any(routed)) {
        let what =
            format!("VIP {vip} is announced, and is in host.routes of interface {name} at all times as well");
        let fix = "remove it from host.routes: the route that announces it leads into the device, too";
        doc.error(at, what, fix);
    }
    if interface.spec.link == Link::Ip {
        return;
    }
    if vip.is_ipv6() {
        let what =
            format!("VIP {vip} is announced, and interface {name} is a TAP: there only IPv4 VIPs can be");
        doc.error(at, what, "have it on a TUN device: the kernel has no IPv6 on the port of a bridge");
    } else if gateway(interface, vip).is_none() {
        let what =
            format!("VIP {vip} is announced, and interface {name} has no IPv4 address that it is reached by");
        doc.error(at, what, "add an address to the interface which is no VIP");
    }
}

/// By which address of its own the host's kernel reaches a director on a TAP.
fn gateway(interface: &Interface, vip: IpAddr) -> Option<IpAddr> {
    let own = interface.own.iter().map(|prefix| prefix.addr());
    own.filter(|addr| addr.is_ipv4() == vip.is_ipv4()).find(|addr| *addr != vip)
}

impl Announce {
    /// Whether this VIP, which is that of a service, is to be announced.
    pub fn has(&self, vip: IpAddr) -> bool {
        self.vips.is_empty() || self.vips.contains(&vip)
    }
}

impl Config {
    /// The interface that packets for a VIP come in by, and on a TAP the address of the director that the host's kernel
    /// has to send them to. `None`: it lies outside every interface.
    pub fn entrance(&self, vip: IpAddr) -> Option<(&Interface, Option<IpAddr>)> {
        let longest = |interface: &Interface| {
            interface.own.iter().filter(|own| own.contains(vip)).map(|own| own.prefix_len()).max()
        };
        let mut found: Option<(&Interface, u8)> = None;
        for interface in &self.interfaces {
            if let Some(len) = longest(interface)
                && found.is_none_or(|(_, best)| len > best)
            {
                found = Some((interface, len));
            }
        }
        let (interface, _) = found?;
        match interface.spec.link {
            Link::Ip => Some((interface, None)),
            Link::Ethernet(_) => Some((interface, Some(gateway(interface, vip)?))),
        }
    }
}
