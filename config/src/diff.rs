//! From one config to another in changes.

use std::collections::HashMap;
use std::net::SocketAddr;

use uvs_director::spec::{Change, DestinationSpec, InterfaceSpec, Options, ServiceKey, Timeouts};

use crate::model::{Config, Service};

pub(crate) fn diff(old: Option<&Config>, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    network(old, new, &mut changes);
    let timeouts = old.map_or_else(Timeouts::default, |old| old.timeouts);
    if timeouts != new.timeouts {
        changes.push(Change::SetTimeouts(new.timeouts));
    }
    let options = old.map_or_else(Options::default, |old| old.options);
    if options != new.options {
        changes.push(Change::SetOptions(new.options));
    }
    let old_services = old.map_or(&[][..], |old| &old.services);
    let (before, after) = (by_key(old_services), by_key(&new.services));
    for service in &new.services {
        match before.get(&service.spec.key) {
            Some(before) => edit(before, service, &mut changes),
            None => {
                changes.push(Change::AddService(service.spec.clone()));
                let key = service.spec.key;
                changes.extend(service.destinations.iter().map(|spec| Change::AddDestination(key, *spec)));
            }
        }
    }
    // Between what comes and what goes: a packet whose mark has no service is looked up by its address, so that no
    // rule sends packets to a service that is not ready, and no service is gone before its packets go elsewhere.
    if old.map_or(&[][..], |old| &old.marks) != new.marks {
        changes.push(Change::SetMarks(new.marks.clone()));
    }
    for gone in old_services.iter().filter(|service| !after.contains_key(&service.spec.key)) {
        changes.push(Change::RemoveService(gone.spec.key));
    }
    changes
}

fn network(old: Option<&Config>, new: &Config, changes: &mut Vec<Change>) {
    let specs = |config: &Config| -> Vec<InterfaceSpec> {
        config.interfaces.iter().map(|interface| interface.spec.clone()).collect()
    };
    let interfaces = specs(new);
    let but_addresses = |specs: &[InterfaceSpec]| -> Vec<InterfaceSpec> {
        specs.iter().map(|spec| InterfaceSpec { addresses: Vec::new(), ..spec.clone() }).collect()
    };
    // A static neighbour cannot be taken back by itself: a new network starts without any.
    let same = old.is_some_and(|old| {
        but_addresses(&specs(old)) == but_addresses(&interfaces)
            && old.routes == new.routes
            && old.neighbors.iter().all(|before| {
                new.neighbors.iter().any(|now| (now.port, now.addr) == (before.port, before.addr))
            })
    });
    if !same {
        changes.push(Change::SetNetwork { interfaces, routes: new.routes.clone() });
    } else if old.is_some_and(|old| specs(old) != interfaces) {
        changes.push(Change::SetAddresses(interfaces));
    }
    for neighbor in &new.neighbors {
        let there = same && old.is_some_and(|old| old.neighbors.contains(neighbor));
        if !there {
            let crate::Neighbor { port, addr, mac } = *neighbor;
            changes.push(Change::SetNeighbor { port, addr, mac });
        }
    }
}

fn by_key(services: &[Service]) -> HashMap<ServiceKey, &Service> {
    services.iter().map(|service| (service.spec.key, service)).collect()
}

fn by_addr(destinations: &[DestinationSpec]) -> HashMap<SocketAddr, &DestinationSpec> {
    destinations.iter().map(|spec| (spec.addr, spec)).collect()
}

fn edit(before: &Service, now: &Service, changes: &mut Vec<Change>) {
    let key = now.spec.key;
    if before.spec != now.spec {
        changes.push(Change::EditService(now.spec.clone()));
    }
    // The name of a scheduler may stay while the module behind it is another.
    if before.spec.scheduler == now.spec.scheduler && before.module != now.module {
        changes.push(Change::RenewScheduler(key));
    }
    // What is new comes before what goes, so that the service is never without a destination in between.
    let (then, there) = (by_addr(&before.destinations), by_addr(&now.destinations));
    for spec in &now.destinations {
        match then.get(&spec.addr) {
            None => changes.push(Change::AddDestination(key, *spec)),
            Some(old) if *old != spec => changes.push(Change::EditDestination(key, *spec)),
            Some(_) => {}
        }
    }
    for old in &before.destinations {
        if !there.contains_key(&old.addr) {
            changes.push(Change::RemoveDestination(key, old.addr));
        }
    }
}
