//! Where real servers are, whatever services they belong to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{PoisonError, RwLock};

use uvs_wire::Address;

use crate::net::network::{Network, Span};

#[derive(Default)]
struct Known {
    /// How many destinations have an address.
    hosts: HashMap<Address, usize>,
    /// Connected subnets that hold a destination, or did.
    subnets: Vec<Span>,
}

/// All real servers. Whoever changes destinations keeps it; it is read for packets that belong to no connection.
#[derive(Default)]
pub(crate) struct Servers(RwLock<Known>);

impl Servers {
    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn read<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A destination has that address.
    pub(crate) fn add(&self, network: &Network, addr: Address) {
        self.change(|known| {
            *known.hosts.entry(addr).or_default() += 1;
            if let Some(subnet) = network.subnet(addr)
                && !known.subnets.contains(&subnet)
            {
                known.subnets.push(subnet);
            }
        });
    }

    /// A destination of that address is gone. Its subnet stays: machines that are no destinations at the moment go on
    /// to talk.
    pub(crate) fn remove(&self, addr: Address) {
        self.change(|known| {
            if let Entry::Occupied(mut count) = known.hosts.entry(addr) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        });
    }

    /// The network is another one.
    pub(crate) fn relink(&self, network: &Network) {
        self.change(|known| {
            known.subnets.retain(|subnet| network.subnets().any(|there| there == *subnet));
            for subnet in known.hosts.keys().filter_map(|addr| network.subnet(*addr)) {
                if !known.subnets.contains(&subnet) {
                    known.subnets.push(subnet);
                }
            }
        });
    }

    /// Whether it is the address of a destination.
    pub(crate) fn has(&self, addr: Address) -> bool {
        self.read(|known| known.hosts.contains_key(&addr))
    }

    /// Whether it is the address of a destination, or of its subnet.
    pub(crate) fn are_around(&self, addr: Address) -> bool {
        self.read(|known| {
            known.hosts.contains_key(&addr) || known.subnets.iter().any(|subnet| subnet.contains(addr))
        })
    }
}
