//! What is valid and can hardly work: told as warnings, before somebody looks for packets.

use core::net::SocketAddr;

use uvs_director::spec::{Forwarding, Link, Prefix, RouteSpec, ServiceKey};

use crate::model::{Interface, Service};
use crate::read::Doc;

/// Warns of it.
pub(crate) fn warn(doc: &Doc<'_>, interfaces: &[Interface], routes: &[RouteSpec], services: &[Service]) {
    interfaces_that_are_one(doc, interfaces);
    for service in services {
        weights(doc, service);
        answers_past_the_director(doc, interfaces, routes, service);
    }
}

/// Two interfaces on one bridge, or with one subnet: the director hears every frame twice, or sends on the wrong one.
fn interfaces_that_are_one(doc: &Doc<'_>, interfaces: &[Interface]) {
    for (index, interface) in interfaces.iter().enumerate() {
        let name = &interface.spec.name;
        for other in &interfaces[..index] {
            let at = doc.refer(&interface.location, &other.location);
            let bridge = |it: &Interface| it.bridge.as_ref().map(|bridge| bridge.name.clone());
            if let Some(bridge) = bridge(interface).filter(|it| bridge(other).as_ref() == Some(it)) {
                let what = format!(
                    "interfaces {} ({at}) and {name} are in the same bridge {bridge}: the director gets every broadcast \
                     twice",
                    other.spec.name
                );
                doc.warn(
                    &interface.location,
                    what,
                    "give each segment a bridge of its own, or use one interface",
                );
            }
            let shared = interface
                .own
                .iter()
                .find(|own| other.own.iter().any(|it| it.contains(own.addr()) || own.contains(it.addr())));
            if let Some(shared) = shared {
                let what = format!(
                    "the subnet of {shared} is that of interface {} ({at}), too: packets to it leave by one of them alone",
                    other.spec.name
                );
                doc.warn(&interface.location, what, "give each interface a subnet of its own");
            }
        }
    }
}

/// No destination takes connections, and nobody is there to change that.
fn weights(doc: &Doc<'_>, service: &Service) {
    let all = &service.destinations;
    if !all.is_empty() && service.health.is_none() && all.iter().all(|it| it.weight == 0) {
        let what = "all destinations of the service have weight 0: none of them takes a connection";
        doc.warn(
            &service.location,
            what,
            "give at least one a weight above 0, or leave weight out, which is 1",
        );
    }
}

/// By NAT every answer has to come back by the director, and a real server answers stations of its own subnet
/// directly. That is where clients are if the VIP is in that subnet, too, and no router in it leads to others.
fn answers_past_the_director(
    doc: &Doc<'_>,
    interfaces: &[Interface],
    routes: &[RouteSpec],
    service: &Service,
) {
    let ServiceKey::Address { addr: vip, .. } = service.spec.key else { return };
    let is_one = |subnet: &Prefix| {
        let others_come_in = routes.iter().any(|route| route.via.is_some_and(|via| subnet.contains(via)));
        !others_come_in && subnet.contains(vip.ip()) && *subnet != Prefix::host(subnet.addr())
    };
    // Into a TUN device the host's kernel routes, whoever the client is.
    let taps = interfaces.iter().filter(|interface| interface.spec.link != Link::Ip);
    let Some(subnet) = taps.flat_map(|interface| interface.own.iter()).find(|subnet| is_one(subnet)) else {
        return;
    };
    let is_its = |addr: SocketAddr| {
        subnet.contains(addr.ip())
            && !interfaces.iter().any(|it| it.own.iter().any(|own| own.addr() == addr.ip()))
    };
    let nat = service.destinations.iter().filter(|it| it.forwarding == Forwarding::Nat);
    let past: Vec<SocketAddr> = nat.map(|it| it.addr).filter(|addr| is_its(*addr)).collect();
    let Some(first) = past.first() else { return };
    let which = match past.len() {
        1 => format!("destination {first} is"),
        count => format!("{count} destinations ({first}, ...) are"),
    };
    doc.warn(
        &service.location,
        format!(
            "{which} reached by NAT in the subnet of the VIP, {subnet}: answers to clients there go past the director, and \
             the clients do not know them"
        ),
        "use forward = \"dr\", or put the servers into a subnet of their own; if clients come through a router, name it in a \
         [[route]]",
    );
}
