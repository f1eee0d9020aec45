//! What is valid and can hardly work: told as warnings, before somebody looks for packets.

use crate::model::{Interface, Service};
use crate::read::Doc;

/// Warns of it.
pub(crate) fn warn(doc: &Doc<'_>, interfaces: &[Interface], services: &[Service]) {
    interfaces_that_are_one(doc, interfaces);
    services.iter().for_each(|service| weights(doc, service));
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
